//! `w1 [--records N] [--pairs N]`: the daemon with eight SQL expressions and a filter against a bare loop, both pinned
//! to core 1, on a Kafka on core 0.
#![expect(
    clippy::print_stdout,
    reason = "the table is what this program is for, and its progress"
)]

use driftmill_benches::broker::Broker;
use driftmill_benches::flights::Flights;
use driftmill_benches::pairs::against;
use driftmill_benches::process::pin_self;
use driftmill_benches::runs::{BROKER_CORE, Ground};
use driftmill_benches::table::{Table, grouped};
use driftmill_benches::{Failure, bare, pipelines};

/// Neither start nor end counts.
const WINDOW: (u64, u64) = (10, 90);

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(done) = bare::asked(&words) {
        return done;
    }
    let (mut records, mut pairs) = (1_000_000, 5);
    for option in words.chunks(2) {
        match option {
            ["--records", count] => records = count.parse()?,
            ["--pairs", count] => pairs = count.parse()?,
            _ => return Err("usage: w1 [--records N] [--pairs N]".into()),
        }
    }
    compare(records, usize::max(1, pairs))
}

fn compare(records: u64, pairs: usize) -> Result<(), Failure> {
    pin_self(BROKER_CORE)?;
    let scratch = tempfile::Builder::new().prefix("driftmill-w1-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let input = format!("w1-{}", std::process::id());
    broker.create(&input)?;
    let kept = broker.load(&input, Flights::new(1), records)?;
    println!(
        "{} records in; the filter keeps {}.\n",
        grouped(records as f64),
        grouped(kept as f64)
    );
    let ground = Ground {
        broker: &broker,
        input: &input,
        records,
        kept,
        labelled: false,
        scratch: scratch.path(),
        window: WINDOW,
    };
    let mut table = Table::new(&[
        "pair",
        "driftmill",
        "bare",
        "ratio",
        "driftmill records/s",
        "bare records/s",
    ]);
    let daemon = |turn| {
        let daemon = ground.daemon(&format!("daemon-{turn}"), pipelines::w1)?;
        ground.measure(&daemon)
    };
    against(pairs, &mut table, daemon, |turn| ground.bare(turn))?;
    print!("{}", table.text());
    Ok(())
}
