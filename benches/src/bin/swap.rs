//! `swap [--records N]`: how long changes of the live version hold up the thread that processes epochs, told by the
//! daemon itself (trace events of the target `driftmill::swap`), at full speed on a real Kafka: promotions, snapshots
//! of an online learner ten times in a second of event time, and an operator who goes back and forth.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftmill_benches::Failure;
use driftmill_benches::broker::Broker;
use driftmill_benches::flights::Flights;
use driftmill_benches::pairs::{median, percentile};
use driftmill_benches::pipelines::swapping;
use driftmill_benches::process::pin_self;
use driftmill_benches::runs::{BROKER_CORE, Daemon, Ground};
use driftmill_benches::scrape::{Page, request};
use driftmill_benches::table::{Table, grouped};

/// Steps of a change of the live version, as the daemon names them, and what each is.
const STEPS: &[(&str, &str)] = &[
    ("prepare", "take a snapshot of the learner, serialise it, hand it over"),
    ("apply", "apply the events, take the model from memory"),
    ("note", "have it written into the registry's history"),
];
/// Between two commands of the operator.
const PAUSE: Duration = Duration::from_millis(50);
/// The operator's commands.
const COMMANDS: usize = 60;
/// Swaps below which nothing can be said.
const SWAPS_MIN: usize = 15;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let records: u64 = match words[..] {
        [] => 1_000_000,
        ["--records", count] => count.parse()?,
        _ => return Err("usage: swap [--records N]".into()),
    };
    pin_self(BROKER_CORE)?;
    let scratch = tempfile::Builder::new().prefix("driftmill-swap-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let input = format!("swap-{}", std::process::id());
    broker.create(&input)?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let kept = broker.load(&input, Flights::labelled(1, now_ms), records)?;
    let ground = Ground {
        broker: &broker,
        input: &input,
        records,
        kept,
        labelled: true,
        scratch: scratch.path(),
        window: (0, 100),
    };
    let daemon = ground.daemon("daemon", swapping)?.logging("info,driftmill::swap=trace");
    let commands = run(&ground, &daemon).map_err(|error| format!("{error}\n{}", ground.log(&daemon.name)))?;
    let log = ground.log(&daemon.name);
    let history = std::fs::read_to_string(daemon.state.join("registry/deployments.jsonl"))?;
    let (told, noted) = (log.matches(": live version=").count(), history.lines().count());
    if told != noted {
        return Err(format!("{told} versions went live, the registry's history has {noted}").into());
    }
    let steps = steps(&log);
    let swaps = steps.get("apply").map_or(0, Vec::len);
    if swaps < SWAPS_MIN {
        return Err(format!("only {swaps} changes of the live version: nothing can be said").into());
    }
    println!(
        "{swaps} changes of the live version within {} records, {commands} of them by an operator.\n",
        grouped(records as f64)
    );
    let mut table = Table::new(&["step", "times", "median µs", "p99 µs", "most µs"]);
    for (name, what) in STEPS {
        let took_us = || steps.get(*name).into_iter().flatten().map(|ns| *ns as f64 / 1e3);
        table.row(&[
            format!("{name}: {what}"),
            took_us().count().to_string(),
            format!("{:.0}", median(took_us())),
            format!("{:.0}", percentile(99, took_us())),
            format!("{:.0}", percentile(100, took_us())),
        ]);
    }
    print!("{}", table.text());
    Ok(())
}

/// Runs the daemon through the records, and goes back from the live version to the one before again and again; how
/// often that was done.
fn run(ground: &Ground<'_>, daemon: &Daemon) -> Result<usize, Failure> {
    let mut program = ground.start(daemon)?;
    let begin = Instant::now();
    let (mut commands, mut asked) = (0, begin);
    loop {
        program.check()?;
        let written = ground.broker.records(&daemon.name)?;
        if written >= ground.kept {
            break;
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{written} of {} records within {PATIENCE:?}", ground.kept).into());
        }
        // The learner first gets its time: until the middle its snapshots follow each other.
        if written * 2 >= ground.kept && commands < COMMANDS && asked.elapsed() > PAUSE {
            let header = [("x-driftmill-pipeline", daemon.name.as_str())];
            // Refused while another change is on its way, and before there is a version to go back to.
            if request(&daemon.listen, "POST", "/admin/rollback", &header).is_ok() {
                (commands, asked) = (commands + 1, Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let page = Page::of(&daemon.listen)?;
    program.stop(Duration::from_secs(10));
    if page.sum("driftmill_online_published_total", &[]) == 0.0 || commands == 0 {
        return Err("the online learner never published, or nobody went back".into());
    }
    Ok(commands)
}

/// Nanoseconds of each step in what the daemon said: `… step="apply" held_ns=1234 …`.
fn steps(log: &str) -> BTreeMap<String, Vec<u64>> {
    let mut steps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in log.lines() {
        let after = |key: &str| line.split_once(key).map(|(_, rest)| rest);
        let step = after("step=\"").and_then(|rest| rest.split('"').next());
        let held = after("held_ns=").and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
        if let (Some(step), Some(held)) = (step, held) {
            steps.entry(step.to_owned()).or_default().push(held);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_from_a_log() {
        let log = "2026 INFO driftmill: live version=\"v1\"\n\
                   2026 TRACE driftmill::swap: held up epoch=7 step=\"apply\" held_ns=1234\n\
                   2026 TRACE driftmill::swap: held up epoch=8 step=\"note\" held_ns=9\n\
                   2026 TRACE driftmill::swap: held up epoch=9 step=\"apply\" held_ns=5\n";
        let found = steps(log);
        assert_eq!(found["apply"], [1234, 5]);
        assert_eq!(found["note"], [9]);
        assert_eq!(found.len(), 2);
    }
}
