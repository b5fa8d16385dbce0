//! `whole [--records N] [--pairs N] [--rounds N]`: the whole loop (SQL, linear model, labels in the record, progressive
//! evaluation, buffer, drift on eight features, learning online) against a bare loop on the same records, both pinned
//! to core 1, on a Kafka on core 0; then the same part by part, by thread, and by function.
#![expect(clippy::print_stdout, reason = "the tables are what this program is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use driftmill_benches::broker::Broker;
use driftmill_benches::evidence::Done;
use driftmill_benches::flights::Flights;
use driftmill_benches::pairs::{against, median};
use driftmill_benches::pipelines::{Stage, staged};
use driftmill_benches::process::pin_self;
use driftmill_benches::runs::{BROKER_CORE, Cost, Daemon, Ground, tell};
use driftmill_benches::table::{Table, grouped, two};
use driftmill_benches::{Failure, bare, profile};

/// The first model is live after a quarter of the records.
const WINDOW: (u64, u64) = (35, 90);
/// Functions of the profile that are shown.
const FUNCTIONS: usize = 25;
/// Characters of a name that are shown.
const NAME_MAX: usize = 90;

struct Options {
    records: u64,
    pairs: usize,
    rounds: usize,
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(done) = bare::asked(&words) {
        return done;
    }
    let mut options = Options {
        records: 1_000_000,
        pairs: 5,
        rounds: 3,
    };
    for option in words.chunks(2) {
        match option {
            ["--records", count] => options.records = count.parse()?,
            ["--pairs", count] => options.pairs = usize::max(1, count.parse()?),
            ["--rounds", count] => options.rounds = count.parse()?,
            _ => return Err("usage: whole [--records N] [--pairs N] [--rounds N]".into()),
        }
    }
    pin_self(BROKER_CORE)?;
    let scratch = tempfile::Builder::new().prefix("driftmill-whole-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let input = format!("whole-{}", std::process::id());
    broker.create(&input)?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let kept = broker.load(&input, Flights::labelled(1, now_ms), options.records)?;
    println!(
        "{} records in; the filter keeps {}.\n",
        grouped(options.records as f64),
        grouped(kept as f64)
    );
    let ground = Ground {
        broker: &broker,
        input: &input,
        records: options.records,
        kept,
        labelled: true,
        scratch: scratch.path(),
        window: WINDOW,
    };
    let (wholes, artifact) = pairs(&ground, options.pairs)?;
    let costs = parts(&ground, &artifact, options.rounds, wholes)?;
    threads(&costs);
    functions(&ground)
}

/// One run of the loop up to a stage, which must have done its work.
fn run(ground: &Ground<'_>, stage: Stage<'_>, name: &str) -> Result<(Daemon, Cost, Done), Failure> {
    let daemon = ground.daemon(name, |place| staged(place, stage))?;
    let cost = ground.measure(&daemon)?;
    let done = Done::within(&cost)?;
    done.check(stage)
        .map_err(|error| format!("{}: {error}\n{}", daemon.name, ground.log(&daemon.name)))?;
    Ok((daemon, cost, done))
}

/// The whole loop against the bare loop: the costs of the former, and a model that it made.
fn pairs(ground: &Ground<'_>, count: usize) -> Result<(Vec<Cost>, PathBuf), Failure> {
    let mut table = Table::new(&[
        "pair",
        "driftmill",
        "bare",
        "ratio",
        "driftmill records/s",
        "bare records/s",
    ]);
    let mut last = None;
    let whole = |turn| {
        let (daemon, cost, done) = run(ground, Stage::Learned, &format!("whole-{turn}"))?;
        last = Some((daemon, done));
        Ok(cost)
    };
    let (wholes, _) = against(count, &mut table, whole, |turn| ground.bare(turn))?;
    let (daemon, done) = last.ok_or("nothing was measured")?;
    println!("{}", table.text());
    println!(
        "From the beginning of the last run's window until all was done: {} records scored, {} labels matched, {} rows \
         evaluated, {} rows learned from, {} snapshots of the learner published; at its end {} tests of distributions had data, and the \
         buffer held {} rows.\n",
        grouped(done.scored),
        grouped(done.matched),
        grouped(done.evaluated),
        grouped(done.learned),
        done.published,
        done.tests,
        grouped(done.buffered)
    );
    let artifact = newest_artifact(&daemon.state.join("registry"))?.ok_or("the loop left no model")?;
    Ok((wholes, artifact))
}

/// The artifact that was written last.
fn newest_artifact(registry: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut newest = None;
    for folder in std::fs::read_dir(registry.join("objects"))? {
        for file in std::fs::read_dir(folder?.path())? {
            let file = file?;
            newest = newest.max(Some((file.metadata()?.modified()?, file.path())));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// The stages in turn, `rounds` times, and what each adds; costs by stage.
fn parts(
    ground: &Ground<'_>,
    artifact: &Path,
    rounds: usize,
    wholes: Vec<Cost>,
) -> Result<Vec<(&'static str, Vec<Cost>)>, Failure> {
    let stages = [
        Stage::Sql,
        Stage::Scored(artifact),
        Stage::Labelled(artifact),
        Stage::Watched(artifact),
        Stage::Learned,
    ];
    let mut costs: Vec<(&'static str, Vec<Cost>)> = stages.iter().map(|stage| (stage.adds(), Vec::new())).collect();
    for round in 1..=rounds {
        for (place, stage) in stages.iter().enumerate() {
            let (_, cost, _) = run(ground, *stage, &format!("stage-{place}-{round}"))?;
            costs[place].1.push(cost);
        }
    }
    if rounds == 0 {
        costs.retain(|(adds, _)| *adds == Stage::Learned.adds());
        costs[0].1 = wholes;
        return Ok(costs);
    }
    let mut table = Table::new(&[
        "the loop up to",
        "CPU-s per million",
        "adds",
        "adds, % of the whole",
        "records/s",
    ]);
    let middle = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu_s));
    let whole = costs.last().map_or(f64::NAN, |(_, costs)| middle(costs));
    let mut before = 0.0;
    for (adds, costs) in &costs {
        let cost = middle(costs);
        table.row(&[
            (*adds).to_owned(),
            two(cost),
            two(cost - before),
            format!("{:.0}", (cost - before) / whole * 100.0),
            grouped(median(costs.iter().map(|cost| cost.rate))),
        ]);
        before = cost;
    }
    println!("### By part\n\nMedians of {rounds} rounds, each part switched on after the one before.\n");
    println!("{}", table.text());
    Ok(costs)
}

/// The threads of the first stage and of the last.
fn threads(costs: &[(&'static str, Vec<Cost>)]) {
    let middle = |costs: &[Cost]| {
        let mut threads: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, cpu_s) in costs.iter().flat_map(|cost| &cost.threads_s) {
            threads.entry(name.clone()).or_default().push(*cpu_s);
        }
        threads
            .into_iter()
            .map(|(name, all)| (name, median(all)))
            .collect::<BTreeMap<_, _>>()
    };
    let (Some((_, first)), Some((_, last))) = (costs.first(), costs.last()) else {
        return;
    };
    let (first, last) = (middle(first), middle(last));
    let mut names: Vec<&String> = last.keys().collect();
    names.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
    let mut table = Table::new(&["thread", "first part", "whole loop"]);
    for name in names.into_iter().filter(|name| last[*name] >= 0.005) {
        let before = first.get(name).copied().unwrap_or_default();
        table.row(&[format!("`{name}`"), two(before), two(last[name])]);
    }
    println!(
        "### By thread\n\nCPU-seconds per million records, medians.\n\n{}",
        table.text()
    );
}

/// A function's name as a cell takes it: what makes it long is the types that it is generic over.
fn short(function: &str) -> String {
    let name: String = function.replace('|', "\\|").chars().take(NAME_MAX).collect();
    if name.len() < function.len() {
        name + "…"
    } else {
        name
    }
}

/// Where the whole loop spends its time, if `perf` is there.
fn functions(ground: &Ground<'_>) -> Result<(), Failure> {
    let daemon = ground.daemon("profile", |place| staged(place, Stage::Learned))?;
    let found = match profile::record(ground, &daemon) {
        Ok(found) => found,
        Err(error) => {
            tell(&format!("no profile: {error}"));
            println!("### By function\n\nNo profile: `perf` could not be used.");
            return Ok(());
        }
    };
    let mut table = Table::new(&["function", "thread", "% of the process"]);
    for sample in found.iter().take(FUNCTIONS) {
        table.row(&[
            format!("`{}`", short(&sample.function)),
            sample.thread.clone(),
            format!("{:.1}", sample.percent),
        ]);
    }
    println!(
        "### By function\n\n`perf` over two seconds of one more run of the whole loop.\n\n{}",
        table.text()
    );
    Ok(())
}
