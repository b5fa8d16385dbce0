//! `retrain [--records N] [--seconds S] [--every S]`: latency from the production of a record to its prediction being
//! visible to a consumer, at half the rate that the daemon sustains, while a trainer runs and while none does, in one
//! run. Daemon pinned to core 1; broker, trainer, producer and consumer to core 0.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftmill_benches::Failure;
use driftmill_benches::broker::{Broker, PARTITIONS};
use driftmill_benches::flights::Flights;
use driftmill_benches::load::{Clock, consume, produce};
use driftmill_benches::phases::{Latency, Phase, Phases};
use driftmill_benches::pipelines::retraining;
use driftmill_benches::process::{Pinned, pin, pin_self};
use driftmill_benches::runs::{BROKER_CORE, Daemon, Ground, tell};
use driftmill_benches::scrape::Page;
use driftmill_benches::table::{Table, grouped, two};

/// The bootstrap is over by then.
const WINDOW: (u64, u64) = (35, 90);
/// Time for the first model to go live before anything counts.
const WARM_UP: Duration = Duration::from_secs(10);
/// Records that were sent and are not seen so long after the last are lost, or the daemon is overloaded.
const DRAIN: Duration = Duration::from_secs(20);
/// How often the trainers are looked for.
const LOOK: Duration = Duration::from_millis(5);
/// Share of the rate that the producer must reach.
const REACHED_MIN: f64 = 0.95;

struct Options {
    records: u64,
    seconds: u64,
    every_s: u64,
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut options = Options {
        records: 1_000_000,
        seconds: 120,
        every_s: 12,
    };
    for option in words.chunks(2) {
        match option {
            ["--records", count] => options.records = count.parse()?,
            ["--seconds", count] => options.seconds = count.parse()?,
            ["--every", count] => options.every_s = count.parse()?,
            _ => return Err("usage: retrain [--records N] [--seconds S] [--every S]".into()),
        }
    }
    pin_self(BROKER_CORE)?;
    let scratch = tempfile::Builder::new().prefix("driftmill-retrain-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let input = format!("retrain-{}", std::process::id());
    broker.create(&input)?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let kept = broker.load(&input, Flights::labelled(1, now_ms), options.records)?;
    let full = Ground {
        broker: &broker,
        input: &input,
        records: options.records,
        kept,
        labelled: true,
        scratch: scratch.path(),
        window: WINDOW,
    };
    let cost = full.measure(&full.daemon("sustained", |place| retraining(place, None))?)?;
    let rate = (cost.rate / 2.0).floor();
    let live = format!("{input}-live");
    broker.create(&live)?;
    let ground = Ground { input: &live, ..full };
    let daemon = ground.daemon("daemon", |place| retraining(place, Some(options.every_s)))?;
    let run = beside(&ground, &daemon, rate, options.seconds)
        .map_err(|error| format!("{error}\n{}", ground.log(&daemon.name)))?;
    println!(
        "Sustained with a full topic: {} records/s. Produced: {} records/s for {} s; {} jobs.\n",
        grouped(cost.rate),
        grouped(rate),
        options.seconds,
        run.jobs
    );
    let mut table = Table::new(&[
        "meanwhile",
        "spans",
        "seconds",
        "records",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "median of the spans' p99",
    ]);
    show(&mut table, "no trainer runs, no candidate is judged", &run.quiet);
    show(&mut table, "**a trainer runs**", &run.training);
    if let Some(judging) = &run.judging {
        show(&mut table, "a candidate is judged", judging);
    }
    println!("{}", table.text());
    println!(
        "p99 while a trainer runs is **{}** times that without; by the medians of the spans {} times.",
        two(run.training.p99 / run.quiet.p99),
        two(run.training.p99_of_spans / run.quiet.p99_of_spans)
    );
    Ok(())
}

fn show(table: &mut Table, name: &str, latency: &Latency) {
    table.row(&[
        name.to_owned(),
        latency.spans.to_string(),
        format!("{:.1}", latency.seconds),
        grouped(latency.records as f64),
        two(latency.p50),
        two(latency.p99),
        two(latency.most),
        two(latency.p99_of_spans),
    ]);
}

/// What a run showed.
struct Shown {
    jobs: f64,
    quiet: Latency,
    training: Latency,
    judging: Option<Latency>,
}

/// Runs the daemon on records that are produced at `rate` a second, for `seconds`.
fn beside(ground: &Ground<'_>, daemon: &Daemon, rate: f64, seconds: u64) -> Result<Shown, Failure> {
    let mut program = ground.start(daemon)?;
    await_ready(&mut program, daemon)?;
    let length = WARM_UP + Duration::from_secs(seconds);
    let most = (rate * length.as_secs_f64()).ceil() as usize;
    let clock = Clock::start(most);
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let bootstrap = ground.broker.bootstrap.as_str();
    let (phases, produced, seen) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let produced = produce(bootstrap, ground.input, rate, length, &clock, &sent);
            over.store(true, Ordering::Release);
            produced
        });
        let consumer = scope.spawn(|| consume(bootstrap, &daemon.name, PARTITIONS, &clock, &over, &sent, DRAIN));
        let phases = follow(ground, daemon, &mut program, &clock, &over);
        // A program that has ended writes nothing more, and nobody needs what is still to be produced.
        clock.stop_on(&phases);
        let failed = || -> Failure { "a thread of the harness has panicked".into() };
        let produced = producer.join().map_err(|_| failed())?;
        let seen = consumer.join().map_err(|_| failed())?;
        Ok::<_, Failure>((phases?, produced?, seen?))
    })?;
    let page = Page::of(&daemon.listen)?;
    program.stop(Duration::from_secs(10));
    if (produced as f64) < REACHED_MIN * most as f64 {
        return Err(
            format!("only {produced} of {most} records could be produced: core {BROKER_CORE} is too busy").into(),
        );
    }
    let (from, to) = (WARM_UP.as_micros() as u64, length.as_micros() as u64);
    let latency = |phase| phases.latency(phase, &seen, from, to);
    let jobs = page.sum("driftmill_jobs_total", &["outcome=\"trained\""]);
    let (Some(quiet), Some(training)) = (latency(Phase::Quiet), latency(Phase::Training)) else {
        return Err(format!("{jobs} jobs were trained: nothing to compare").into());
    };
    Ok(Shown {
        jobs,
        quiet,
        training,
        judging: latency(Phase::Judging),
    })
}

fn await_ready(program: &mut Pinned, daemon: &Daemon) -> Result<(), Failure> {
    let begin = Instant::now();
    while Page::of(&daemon.listen).map_or(0.0, |page| page.sum("driftmill_ready", &[])) < 1.0 {
        program.check()?;
        if begin.elapsed() > DRAIN {
            return Err("the daemon does not become ready".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Follows the daemon's log until the producer is done, and brings its trainers to the broker's core.
fn follow(
    ground: &Ground<'_>,
    daemon: &Daemon,
    program: &mut Pinned,
    clock: &Clock,
    over: &AtomicBool,
) -> Result<Phases, Failure> {
    let mut phases = Phases::default();
    let (mut known, mut lines) = (Vec::new(), 0);
    phases.begin(0, Phase::Quiet);
    while !over.load(Ordering::Acquire) {
        program.check()?;
        let children = program.children();
        for child in children.iter().filter(|child| !known.contains(*child)) {
            // One that is done already needs no core.
            if let Err(error) = pin(*child, BROKER_CORE) {
                tell(&format!("trainer {child}: {error}"));
            }
        }
        known = children;
        let log = ground.log(&daemon.name);
        for line in log.lines().skip(lines) {
            if let Some(phase) = Phase::begun_by(line) {
                phases.begin(clock.now_us(), phase);
            }
        }
        lines = log.lines().count();
        std::thread::sleep(LOOK);
    }
    Ok(phases)
}
