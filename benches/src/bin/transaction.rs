//! `transaction [--commits N]`: what one commit of the exactly-once Kafka sink takes, and where the time goes.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::time::{Duration, Instant};

use driftmill::connectors::{Destination, Encoded, Sink, Unit};
use driftmill::settings::Settings;
use driftmill_benches::Failure;
use driftmill_benches::broker::Broker;
use driftmill_benches::pairs::{median, percentile};
use driftmill_benches::spans::{Collector, Numbers};

/// Commits before those that count.
const WARM_UP: usize = 20;
/// Bytes of an output record.
const PAYLOAD: usize = 200;
/// Records in a commit, the part of `--commits` that is made of it, and the time between two: none, or enough for the
/// broker to have closed the transaction before.
const CASES: &[(usize, usize, Duration)] = &[
    (1, 1, Duration::ZERO),
    (1, 1, Duration::from_millis(50)),
    (100, 1, Duration::ZERO),
    (100, 1, Duration::from_millis(50)),
    (10_000, 4, Duration::ZERO),
    (10_000, 4, Duration::from_millis(50)),
];
/// The parts of a commit, as the sink tells them.
const PARTS: &[&str] = &["begin_us", "produce_us", "flush_us", "commit_us"];

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let commits = match words[..] {
        [] => 200,
        ["--commits", count] => count.parse()?,
        _ => return Err("usage: transaction [--commits N]".into()),
    };
    let collector = Collector::default();
    tracing::subscriber::set_global_default(collector.clone())?;
    let scratch = tempfile::Builder::new().prefix("driftmill-transaction-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let name = format!("transaction-{}", std::process::id());
    let output = format!("{name}.out");
    broker.create(&output)?;
    broker.adopt(&driftmill::connectors::kafka::epoch_log_topic(&name));
    let text = config(&broker.bootstrap, &name, &output);
    let settings = Settings::parse("transaction.toml", &text).map_err(|problems| problems.render())?;
    let mut bench = Bench {
        sink: settings.sink.connect()?,
        input: format!("{name}.in"),
        epoch: 0,
        collector,
    };
    broker.create(&bench.input)?;
    bench.sink.recover(&mut |_| Ok(0))?;
    println!("| records | commits | pause ms | median ms | p99 ms | begin | produce | flush | commit |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for &(records, part, pause) in CASES {
        bench.measure(records, usize::max(1, commits / part), pause)?;
    }
    Ok(())
}

fn config(brokers: &str, name: &str, output: &str) -> String {
    format!(
        r#"
[pipeline]
name      = "{name}"
state_dir = "unused"
delivery  = "exactly-once"

[source]
connector = "kafka"
brokers   = "{brokers}"
topics    = ["{name}.in"]

[source.schema]
id = "int64"

[features]
sql = "SELECT id FROM source"

[features.columns]
id = {{ role = "id" }}

[sink]
connector = "kafka"
topic     = "{output}"
"#
    )
}

struct Bench {
    sink: Box<dyn Sink>,
    input: String,
    epoch: u64,
    collector: Collector,
}

impl Bench {
    /// Prints a row: milliseconds of a commit, and the median of each of its parts.
    fn measure(&mut self, records: usize, commits: usize, pause: Duration) -> Result<(), Failure> {
        let (mut took_ms, mut parts) = (Vec::new(), Vec::new());
        for turn in 0..WARM_UP + commits {
            std::thread::sleep(pause);
            let unit = self.unit(records);
            let start = Instant::now();
            self.sink.commit(&[unit])?;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let told = self.collector.take();
            if turn >= WARM_UP {
                took_ms.push(ms);
                parts.extend(told);
            }
        }
        let middle = |part: &&str| {
            median(
                parts
                    .iter()
                    .filter_map(|told: &Numbers| Some(*told.get(part)? as f64 / 1e3)),
            )
        };
        let parts: Vec<String> = PARTS.iter().map(|part| format!("{:.2}", middle(part))).collect();
        println!(
            "| {records} | {commits} | {} | {:.2} | {:.2} | {} |",
            pause.as_millis(),
            median(took_ms.iter().copied()),
            percentile(99, took_ms),
            parts.join(" | ")
        );
        Ok(())
    }

    fn unit(&mut self, records: usize) -> Unit {
        self.epoch += 1;
        let mut outputs = Encoded::default();
        let payload = vec![b'x'; PAYLOAD];
        for row in 0..records {
            outputs.push(Some(row.to_string().as_bytes()), &payload, 0, Vec::new());
        }
        let next = self.epoch.cast_signed();
        Unit {
            epoch: self.epoch,
            outputs: vec![(Destination::Predictions, outputs)],
            record: vec![b'e'; PAYLOAD],
            offsets: (0..4).map(|partition| (self.input.clone(), partition, next)).collect(),
        }
    }
}
