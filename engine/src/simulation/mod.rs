//! `driftmill simulate`: the quickstart's minute for many seeds, in event time and as fast as the machine goes.
//!
//! It is the daemon itself on the configuration of the quickstart. In place of what only exists in real time stand: two
//! topics in memory (`tape.rs`), a sink that acknowledges at once (`judge.rs`), a clock that shows event time, and a trainer
//! whose job takes a stated event time. Broker, network and the processes of trainers are not part of it.

mod judge;
mod report;
mod tape;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::daemon::{Happening, JobRunner, Observer, Status, Summary, Surroundings};
use crate::disk::LocalDisk;
use crate::generator::{Payments, PaymentsConfig, Topic};
use crate::metrics::Metrics;
use crate::quickstart::{Folder, configured, minute};
use crate::settings::Settings;
use crate::trainer::InProcess;

use judge::Judge;
pub use report::{SeedReport, Totals, tell, tell_seed};
use tape::{Tape, TapeSource};

/// Bytes of input that wait for an epoch: about two seconds of event time.
const BUFFERED_MAX: usize = 16 << 20;
/// The line of the configuration that says how many rows are kept for training.
const BUFFER_ROWS: &str = "rows_max  = 200_000";
/// How long payments are made, as in the quickstart.
const LENGTH: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The first seed.
    pub first_seed: u64,
    /// Number of seeds.
    pub seeds: u64,
    /// Whether the world changes.
    pub drift: bool,
    /// Payments in a second of event time.
    pub rate_per_s: u32,
    /// How long a training job takes, in event time.
    pub training: Duration,
    /// Most rows to train on, where it is not what the configuration says: training takes most of the time.
    pub buffer_rows: Option<usize>,
    /// Seeds that run at the same time.
    pub at_once: usize,
}

impl Options {
    fn world(&self, seed: u64) -> PaymentsConfig {
        PaymentsConfig {
            rate_per_s: self.rate_per_s,
            ..minute(seed, PaymentsConfig::default().start_ms, LENGTH, self.drift)
        }
    }
}

/// Runs all seeds. `each` is told of a seed as soon as it has ended.
///
/// # Errors
/// A sentence that names the seed: a pipeline that could not go on, or a system that gives no folder.
pub fn run(options: &Options, each: &mut dyn FnMut(&SeedReport)) -> Result<Totals, String> {
    let next = AtomicU64::new(0);
    let (sender, ended) = mpsc::channel();
    let work = |sender: &mpsc::Sender<Result<SeedReport, String>>| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= options.seeds {
                return;
            }
            let seed = options.first_seed.wrapping_add(number);
            let outcome = run_seed(seed, options).map_err(|what| format!("seed {seed}: {what}"));
            let failed = outcome.is_err();
            // Nobody listens any more when another seed has failed.
            if sender.send(outcome).is_err() || failed {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.at_once.max(1) {
            let sender = sender.clone();
            scope.spawn(move || work(&sender));
        }
        drop(sender);
        let mut reports = Vec::new();
        for outcome in ended {
            let report = outcome.inspect_err(|_| next.store(options.seeds, Ordering::Relaxed))?;
            each(&report);
            reports.push(report);
        }
        Ok(Totals::of(&reports, options.drift))
    })
}

/// Runs one seed.
///
/// # Errors
/// As [`run`].
pub fn run_seed(seed: u64, options: &Options) -> Result<SeedReport, String> {
    let begun = Instant::now();
    let world = options.world(seed);
    let folder = Folder::new(&format!("simulation-{seed}"))?;
    let mut text = configured("in-memory:9092", folder.path(), "127.0.0.1:9464");
    if let Some(rows) = options.buffer_rows {
        text = text.replace(BUFFER_ROWS, &format!("rows_max  = {rows}"));
    }
    let mut settings = Settings::parse("quickstart.toml", &text).map_err(|problems| problems.render())?;
    let payments = Payments::new(world.clone());
    let oracle = payments.oracle();
    let tape = Arc::new(Tape::new(payments, world.moment_ms(LENGTH)));
    let stop = Arc::new(AtomicBool::new(false));
    let changed_ms = world.drift_at.map_or(i64::MAX, |after| world.moment_ms(after));
    let judge = Judge::new(oracle, changed_ms, Arc::clone(&tape), Arc::clone(&stop));
    replace_outside(&mut settings, &tape, &judge);
    let metrics = Arc::new(Metrics::new("payments").map_err(|error| error.to_string())?);
    let clock = EventClock(Arc::clone(&metrics));
    let story = Arc::new(Story {
        clock: clock.clone(),
        told: Mutex::default(),
    });
    let around = Surroundings {
        observer: Arc::clone(&story) as Arc<dyn Observer>,
        clock: Arc::new(clock),
        disk: Arc::new(LocalDisk),
        metrics,
        stop,
        desk: Arc::default(),
        status: Arc::new(Status::default()),
        jobs: JobRunner::InEventTime {
            process: Arc::new(InProcess),
            takes_ms: i64::try_from(options.training.as_millis()).unwrap_or(i64::MAX),
        },
    };
    let config = folder.path().join("quickstart.toml");
    let summary = crate::daemon::run(settings, &config, &around).map_err(|error| error.to_string())?;
    let told = std::mem::take(&mut *story.told.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(SeedReport {
        lost: lost(&tape, &summary),
        state: summary.state,
        took_s: begun.elapsed().as_secs_f64(),
        ..SeedReport::of(seed, &world, &told, &judge)
    })
}

/// Puts the tape and the judge in the place of Kafka. An epoch is one slice of the tape.
fn replace_outside(settings: &mut Settings, tape: &Arc<Tape>, judge: &Judge) {
    let source = |topic, topics: &[String]| Box::new(TapeSource::new(Arc::clone(tape), topic, topics));
    settings.source = source(Topic::Payments, settings.source.topics());
    if let Some(labels) = settings.labels.take() {
        settings.labels = Some(source(Topic::Outcomes, labels.topics()));
    }
    settings.sink = Box::new(judge.clone());
    settings.epoch.linger = Duration::ZERO;
    settings.epoch.skew = Duration::ZERO;
    settings.epoch.event_span_max_ms = 1;
    settings.epoch.buffered_max = BUFFERED_MAX;
}

fn lost(tape: &Tape, summary: &Summary) -> i64 {
    let totals = summary.totals;
    let outcomes = totals.scored + totals.filtered + totals.dead + totals.labels;
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    whole(tape.written().unwrap_or_default()) - whole(outcomes)
}

/// Shows event time: that of the last epoch.
#[derive(Clone)]
struct EventClock(Arc<Metrics>);

impl Clock for EventClock {
    fn now_ms(&self) -> i64 {
        // A float becomes the nearest integer of the range.
        (self.0.watermark_seconds.get() * 1e3).round() as i64
    }
}

/// Remembers what happened, and at which event time, in milliseconds since 1970.
struct Story {
    clock: EventClock,
    told: Mutex<Vec<(i64, Happening)>>,
}

impl Observer for Story {
    fn notice(&self, happening: &Happening) {
        // Of these there are many, and none is asked for.
        if matches!(happening, Happening::Quarantined { .. }) {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((self.clock.now_ms(), happening.clone()));
    }
}
