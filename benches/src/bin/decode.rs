//! `decode [ROWS]`: Driftmill's JSON decoder against arrow-json's, in memory, on nine fields of twelve.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::path::Path;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use driftmill::settings::{Plan, Settings};
use driftmill_benches::Failure;
use driftmill_benches::flights::Flights;
use driftmill_benches::pairs::{interleave, median};
use driftmill_benches::pipelines::{Place, w1};
use driftmill_benches::table::{Table, grouped, two};

const PAIRS: usize = 5;
/// Rows in a batch, as in an epoch.
const BATCH: usize = 8192;

fn main() -> Result<(), Failure> {
    let rows = std::env::args()
        .nth(1)
        .map_or(Ok(400_000), |text| text.parse::<usize>())?;
    let place = Place {
        brokers: "127.0.0.1:1",
        input: "in",
        output: "out",
        state: Path::new("unused"),
        listen: "127.0.0.1:0",
    };
    let settings = Settings::parse("w1.toml", &w1(&place)).map_err(|problems| problems.render())?;
    let read = settings.plan.transform.read_schema();
    let records = records(rows);
    let bytes: usize = records.iter().map(String::len).sum();
    println!(
        "{} records of {} bytes, {} fields read, in memory, batches of {}, equal arrays.\n",
        grouped(rows as f64),
        bytes / rows.max(1),
        read.fields().len(),
        grouped(BATCH as f64)
    );
    if ours(&settings.plan, read, &records)?.1 != arrow_json(read, &records)?.1 {
        return Err("the two decoders disagree".into());
    }
    let pairs = interleave(
        PAIRS,
        || ours(&settings.plan, read, &records).map(|(seconds, _)| seconds),
        || arrow_json(read, &records).map(|(seconds, _)| seconds),
    )?;
    let mut table = Table::new(&["pair", "ours, M rows/s", "arrow-json, M rows/s", "times as fast"]);
    let rate = |seconds: f64| rows as f64 / seconds / 1e6;
    for (number, pair) in pairs.iter().enumerate() {
        let cells = [rate(pair.ours), rate(pair.other), 1.0 / pair.ratio()].map(two);
        table.row(&[&[(number + 1).to_string()], &cells[..]].concat());
    }
    table.row(&[
        "**median**".to_owned(),
        two(rate(median(pairs.iter().map(|pair| pair.ours)))),
        two(rate(median(pairs.iter().map(|pair| pair.other)))),
        format!("**{}**", two(median(pairs.iter().map(|pair| 1.0 / pair.ratio())))),
    ]);
    print!("{}", table.text());
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
