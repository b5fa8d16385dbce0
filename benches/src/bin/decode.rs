//! `decode [ROWS]`: Driftmill's JSON decoder against arrow-json's, in memory, on nine fields of twelve.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::path::Path;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use driftmill::settings::{Plan, Settings};
use driftmill_benches::Failure;
use driftmill_benches::flights::{Flights, pipeline};
use driftmill_benches::pairs::{interleave, median};

const PAIRS: usize = 5;
/// Rows in a batch, as in an epoch.
const BATCH: usize = 8192;

fn main() -> Result<(), Failure> {
    let rows = std::env::args()
        .nth(1)
        .map_or(Ok(400_000), |text| text.parse::<usize>())?;
    let text = pipeline("127.0.0.1:1", "in", "out", Path::new("unused"), "127.0.0.1:0");
    let settings = Settings::parse("w1.toml", &text).map_err(|problems| problems.render())?;
    let read = settings.plan.transform.read_schema();
    let records = records(rows);
    let bytes: usize = records.iter().map(String::len).sum();
    println!(
        "{rows} records of {} bytes, {} fields read",
        bytes / rows.max(1),
        read.fields().len()
    );
    if ours(&settings.plan, read, &records)?.1 != arrow_json(read, &records)?.1 {
        return Err("the two decoders disagree".into());
    }
    let pairs = interleave(
        PAIRS,
        || ours(&settings.plan, read, &records).map(|(seconds, _)| seconds),
        || arrow_json(read, &records).map(|(seconds, _)| seconds),
    )?;
    println!("pair   ours M rows/s   arrow-json M rows/s   times as fast");
    let rate = |seconds: f64| rows as f64 / seconds / 1e6;
    for (number, pair) in pairs.iter().enumerate() {
        let (ours, other) = (rate(pair.ours), rate(pair.other));
        println!(
            "{:4}   {ours:13.2}   {other:19.2}   {:13.2}",
            number + 1,
            1.0 / pair.ratio()
        );
    }
    let faster = median(pairs.iter().map(|pair| 1.0 / pair.ratio()));
    println!(
        "median {:12.2}   {:19.2}   {faster:13.2}",
        rate(median(pairs.iter().map(|pair| pair.ours))),
        rate(median(pairs.iter().map(|pair| pair.other)))
    );
    Ok(())
}

fn records(count: usize) -> Vec<String> {
    let mut flights = Flights::new(1);
    let one = |_| {
        let mut line = String::with_capacity(200);
        flights.write(&mut line);
        line
    };
    (0..count).map(one).collect()
}

fn ours(plan: &Plan, read: &SchemaRef, records: &[String]) -> Result<(f64, Vec<RecordBatch>), Failure> {
    let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| Some(record.as_bytes())).collect();
    let mut decoder = plan.source_codec.decoder(read.clone())?;
    let mut batches = Vec::with_capacity(records.len() / BATCH + 1);
    let start = Instant::now();
    for chunk in payloads.chunks(BATCH) {
        batches.push(decoder.decode(chunk)?.batch);
    }
    Ok((start.elapsed().as_secs_f64(), batches))
}

fn arrow_json(read: &SchemaRef, records: &[String]) -> Result<(f64, Vec<RecordBatch>), Failure> {
    let mut decoder = ReaderBuilder::new(read.clone())
        .with_batch_size(BATCH)
        .build_decoder()?;
    let mut batches = Vec::with_capacity(records.len() / BATCH + 1);
    let start = Instant::now();
    for chunk in records.chunks(BATCH) {
        for record in chunk {
            decoder.decode(record.as_bytes())?;
        }
        batches.extend(decoder.flush()?);
    }
    Ok((start.elapsed().as_secs_f64(), batches))
}
