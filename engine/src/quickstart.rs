//! `driftmill quickstart`: the first minute, with nothing else needed. An embedded broker, payments that are made up,
//! the pipeline of `config/examples/quickstart.toml`, and what happens, told as it happens.
//!
//! The embedded broker is the mock inside librdkafka: it shows what the engine does and nothing about delivery.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driftmill_connectors::kafka::Connection;
use driftmill_connectors::kafka::mock::Mock;
use driftmill_connectors::kafka::producer::Producer;

use crate::clock::{Clock, SystemClock};
use crate::daemon::{Happening, JobRunner, Observer, Status, Summary, Surroundings, VersionSummary};
use crate::disk::LocalDisk;
use crate::generator::feed::{Fed, Feed, run_into};
use crate::generator::{Payments, PaymentsConfig};
use crate::http;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The configuration that it runs.
const CONFIG: &str = include_str!("../../config/examples/quickstart.toml");
/// Lines of it that are replaced: by the embedded broker, a folder of its own and a free port.
const REPLACED: [&str; 3] = [
    "brokers      = \"localhost:9092\"",
    "state_dir = \"/var/lib/driftmill/payments\"",
    "listen = \"127.0.0.1:9464\"",
];
/// Records without an outcome yet, at most: the embedded broker keeps 5 MiB of a partition and drops what is older, read
/// or not.
const BACKLOG_MAX: u64 = 6_000;
/// Partitions of the payments and of their outcomes.
const PARTITIONS: i32 = 1;
/// How long the pipeline may take to work off what was written.
const CATCH_UP_MAX: Duration = Duration::from_secs(20);
/// How long after the last label its row still waits: outcomes that are later than the end are left out.
const READY_MAX: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long payments are made.
    pub length: Duration,
    /// Whether the world changes.
    pub drift: bool,
    /// Seed of the payments.
    pub seed: u64,
    /// Whether the report is for machines.
    pub json: bool,
}

/// The closing balance.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Payments and outcomes written.
    pub written: u64,
    /// Records that came in.
    pub input: u64,
    /// Predictions.
    pub scored: u64,
    /// Left out by the SQL.
    pub filtered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Labels.
    pub labels: u64,
    /// Records without an outcome.
    pub lost: i64,
    /// Candidates that were rejected.
    pub rejected: u64,
    /// Versions that the gate let live after the first.
    pub promoted: u64,
    /// Rows that were held back.
    pub quarantined: u64,
    /// Alarms on the loss.
    pub alarms: u64,
    /// Peak memory in MiB.
    pub memory_mib: f64,
    /// Quality of each version.
    pub versions: Vec<VersionSummary>,
}

/// Tells what happens, with the time since the start.
struct Story {
    begun: Instant,
    silent: bool,
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone)]
struct Told {
    ready: bool,
    live: bool,
    rejected: u64,
    promoted: u64,
    quarantined: u64,
    alarms: u64,
}

impl Story {
    fn line(&self, what: &str, text: &str) {
        if self.silent {
            return;
        }
        let at = self.begun.elapsed().as_secs();
        // Nobody reads standard output any more when this fails.
        let _ = writeln!(std::io::stdout(), "  {}:{:02}  {what:<10} {text}", at / 60, at % 60);
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Story {
    fn notice(&self, happening: &Happening) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match happening {
            Happening::Ready => {
                told.ready = true;
                self.line(
                    "ready",
                    "payments begin; the first 20,000 outcomes make the first model",
                );
            }
            Happening::Drift(alarm) => {
                told.alarms += u64::from(alarm.starts_with("concept"));
                self.line("drift", alarm);
            }
            Happening::Quarantined { rows, why, .. } => {
                if told.quarantined == 0 {
                    self.line(
                        "bad data",
                        &format!("{why}: such rows are quarantined, nothing is trained on them"),
                    );
                }
                told.quarantined += rows;
            }
            Happening::Training { job, cause } => self.line("training", &format!("job {} ({cause})", short(job))),
            Happening::Verdict { verdict, reason, .. } => {
                match verdict.as_str() {
                    // The first model has nobody to replace.
                    "promote" if !told.live => {}
                    "promote" => told.promoted += 1,
                    _ => told.rejected += 1,
                }
                self.line("gate", &format!("{verdict}: {reason}"));
            }
            Happening::Live { version, took } => {
                told.live = true;
                self.line(
                    "swap",
                    &format!("{version} is live, after {} µs, no record waited", took.as_micros()),
                );
            }
        }
    }
}

fn short(job: &str) -> &str {
    job.get(..6).unwrap_or(job)
}

/// Runs it. The report, or what went wrong.
///
/// # Errors
/// A sentence: no free port, no thread, or a pipeline that could not go on.
pub fn run(options: &Options) -> Result<Report, String> {
    let folder = Folder::new("quickstart")?;
    let broker = Broker::start()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    let http = listener.local_addr().map_err(|error| error.to_string())?;
    drop(listener);
    let text = configured(&broker.brokers, &folder.0, &http.to_string());
    let settings = Settings::parse("quickstart.toml", &text).map_err(|problems| problems.render())?;
    let story = Arc::new(Story {
        begun: Instant::now(),
        silent: options.json,
        told: Mutex::default(),
    });
    if !options.json {
        let head = format!(
            "driftmill {} · pipeline payments · embedded broker {} · metrics http://{http}/metrics\n",
            env!("CARGO_PKG_VERSION"),
            broker.brokers
        );
        let _ = std::io::stdout().write_all(head.as_bytes());
    }
    let metrics = Arc::new(Metrics::new("payments").map_err(|error| error.to_string())?);
    let around = Surroundings {
        observer: Arc::clone(&story) as Arc<dyn Observer>,
        clock: Arc::new(SystemClock),
        disk: Arc::new(LocalDisk),
        metrics: Arc::clone(&metrics),
        stop: Arc::new(AtomicBool::new(false)),
        desk: Arc::default(),
        status: Arc::new(Status::default()),
        jobs: JobRunner::default(),
    };
    let server = serve(&settings, &around)?;
    let world = World {
        brokers: broker.brokers.clone(),
        options: options.clone(),
    };
    let feeder = world.feed(Arc::clone(&around.stop), Arc::clone(&metrics), Arc::clone(&story));
    let config = folder.0.join("quickstart.toml");
    let outcome = crate::daemon::run(settings, &config, &around);
    around.stop.store(true, Ordering::Release);
    let fed = feeder
        .join()
        .map_err(|_| "the generator ended unexpectedly; please report it".to_owned())?;
    server.shutdown_background();
    let summary = outcome.map_err(|error| error.to_string())?;
    Ok(report(&fed?, summary, &story.told()))
}

/// Writes a world into a cluster, as fast as its own clock goes, until `length` is over.
///
/// # Errors
/// Brokers that cannot be reached, or topics that do not exist.
pub fn generate(brokers: &str, world: PaymentsConfig, length: Option<Duration>) -> Result<Fed, String> {
    let topics = ["payments".to_owned(), "payments.outcomes".to_owned()];
    let connection = Connection::plain(brokers);
    let mut producer = Producer::connect(&connection, "generator", &topics).map_err(|error| error.to_string())?;
    let stop = AtomicBool::new(false);
    let feed = Feed {
        speed: Some(1.0),
        until: length,
        backlog: &|_| 0,
        backlog_max: 1,
        stop: &stop,
    };
    run_into(&mut Payments::new(world), &mut producer, &feed).map_err(|error| error.to_string())
}

/// Prints the closing balance.
pub fn tell(report: &Report, json: bool) {
    let mut out = std::io::stdout();
    if json {
        let _ = writeln!(out, "{}", serde_json::json!(report));
        return;
    }
    for version in &report.versions {
        let _ = writeln!(
            out,
            "        {}: PR-AUC {:.2}, log loss {:.4}, Brier {:.4} on {} labelled rows that it scored",
            version.version, version.total.pr_auc, version.total.log_loss, version.total.brier, version.total.rows
        );
    }
    let _ = writeln!(
        out,
        "        in {} = scored {} + filtered {} + dead letters {} + labels {} · lost {} · quarantined {} · {:.0} MiB",
        report.input,
        report.scored,
        report.filtered,
        report.dead,
        report.labels,
        report.lost,
        report.quarantined,
        report.memory_mib
    );
}

fn report(fed: &Fed, summary: Summary, told: &Told) -> Report {
    let totals = summary.totals;
    let outcomes = totals.scored + totals.filtered + totals.dead + totals.labels;
    let missing = |whole: u64| i64::try_from(whole).unwrap_or(i64::MAX) - i64::try_from(outcomes).unwrap_or(i64::MAX);
    Report {
        written: fed.records,
        input: totals.input,
        scored: totals.scored,
        filtered: totals.filtered,
        dead: totals.dead,
        labels: totals.labels,
        lost: missing(fed.records),
        rejected: told.rejected,
        promoted: told.promoted,
        quarantined: told.quarantined,
        alarms: told.alarms,
        memory_mib: peak_memory_mib(),
        versions: summary.versions,
    }
}

/// Peak resident memory of this process, from the system; 0 where it does not say.
fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    kib / 1024.0
}

/// The configuration with the embedded broker, a folder of its own and a free port.
pub(crate) fn configured(brokers: &str, folder: &Path, http: &str) -> String {
    let values = [
        format!("brokers      = \"{brokers}\""),
        format!("state_dir = \"{}\"", folder.join("state").display()),
        format!("listen = \"{http}\""),
    ];
    REPLACED
        .iter()
        .zip(&values)
        .fold(CONFIG.to_owned(), |text, (old, new)| text.replace(old, new))
}

fn serve(settings: &Settings, around: &Surroundings) -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("the system gives no thread: {error}"))?;
    let listener = runtime.block_on(http::bind(settings.listen))?;
    runtime.spawn(http::serve(
        listener,
        &settings.pipeline.name,
        around,
        std::future::pending(),
    ));
    Ok(runtime)
}

/// The embedded broker lives on the thread that made it.
struct Broker {
    brokers: String,
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    fn start() -> Result<Self, String> {
        let (started, start) = channel();
        let (stop, stopped): (_, Receiver<()>) = channel();
        let topics = [
            ("payments", PARTITIONS),
            ("payments.outcomes", PARTITIONS),
            ("payments.predictions", 1),
            ("payments.dead", 1),
        ];
        let run = move || {
            let mock = Mock::start(&topics);
            let told = mock.as_ref().map(Mock::brokers).map_err(ToString::to_string);
            // Whoever waits for the answer is there until it comes.
            let _ = started.send(told);
            let _ = stopped.recv();
        };
        let thread = std::thread::Builder::new().name("broker".to_owned()).spawn(run);
        let thread = thread.map_err(|error| format!("the system gives no thread: {error}"))?;
        let brokers = start.recv().map_err(|error| error.to_string())??;
        Ok(Self {
            brokers,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A folder that goes when the minute is over.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    /// `name` tells apart those of one process.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("driftmill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The demonstration's world: bad data from one feed for a while, and later, if ever, a change.
pub(crate) fn minute(seed: u64, start_ms: i64, length: Duration, drift: bool) -> PaymentsConfig {
    let part = |share: f64| length.mul_f64(share);
    PaymentsConfig {
        seed,
        start_ms,
        drift_at: drift.then(|| part(31.0 / 60.0)),
        bad_feed: Some((part(20.0 / 60.0), part(26.0 / 60.0))),
        ..PaymentsConfig::default()
    }
}

struct World {
    brokers: String,
    options: Options,
}

impl World {
    fn config(&self) -> PaymentsConfig {
        let Options {
            length, drift, seed, ..
        } = self.options;
        minute(seed, SystemClock.now_ms(), length, drift)
    }

    /// Writes the payments once the pipeline is ready, waits until they are worked off, and ends the pipeline.
    fn feed(self, stop: Arc<AtomicBool>, metrics: Arc<Metrics>, story: Arc<Story>) -> JoinHandle<Result<Fed, String>> {
        std::thread::spawn(move || {
            let fed = self.write(&stop, &metrics, &story);
            stop.store(true, Ordering::Release);
            fed
        })
    }

    fn write(&self, stop: &AtomicBool, metrics: &Metrics, story: &Story) -> Result<Fed, String> {
        let until = Instant::now() + READY_MAX;
        while !story.told().ready && !stop.load(Ordering::Acquire) {
            if Instant::now() >= until {
                return Err(format!("the pipeline was not ready within {READY_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let connection = Connection::plain(&self.brokers);
        let topics = ["payments".to_owned(), "payments.outcomes".to_owned()];
        let mut producer = Producer::connect(&connection, "generator", &topics).map_err(|error| error.to_string())?;
        let mut payments = Payments::new(self.config());
        // By the outcomes, not by the consumer's lag: that is not known before its first fetch, and until then the
        // embedded broker may have dropped what it cannot hold.
        let backlog = |written: u64| written.saturating_sub(metrics.outcomes());
        let feed = Feed {
            speed: Some(1.0),
            until: Some(self.options.length),
            backlog: &backlog,
            backlog_max: BACKLOG_MAX,
            stop,
        };
        let changes = self.config().drift_at;
        let telling = changes.map(|after| (after, story.begun.elapsed()));
        let fed = std::thread::scope(|scope| {
            if let Some((after, from)) = telling {
                scope.spawn(move || {
                    let at = from + after;
                    while story.begun.elapsed() < at && !stop.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    story.line("the world", "changes: a new fraud pattern");
                });
            }
            run_into(&mut payments, &mut producer, &feed).map_err(|error| error.to_string())
        })?;
        self.wait_worked_off(fed.records, metrics, stop);
        Ok(fed)
    }

    fn wait_worked_off(&self, records: u64, metrics: &Metrics, stop: &AtomicBool) {
        let until = Instant::now() + CATCH_UP_MAX;
        while metrics.outcomes() < records && Instant::now() < until && !stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replaced_lines_are_in_the_file_once() {
        for line in REPLACED {
            assert_eq!(CONFIG.matches(line).count(), 1, "{line}");
        }
    }

    #[test]
    fn the_configuration_is_valid() {
        let text = configured("127.0.0.1:1", Path::new("/nowhere"), "127.0.0.1:2");
        if let Err(problems) = Settings::parse("quickstart.toml", &text) {
            panic!("{}", problems.render());
        }
    }
}
