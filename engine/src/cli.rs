//! The command line. Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 the
//! pipeline failed, 2 the command line or the configuration is wrong, 3 another process has taken over.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use driftmill_config::Document;
use driftmill_connectors::{ConnectError, Finding, SinkError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bootstrap::Examined;
use crate::clock::{Clock as _, SystemClock};
use crate::committer::CommitError;
use crate::daemon::{Compared, JobRunner, LogObserver, Outcome, RunError, Status, Summary, Surroundings, Verified};
use crate::disk::LocalDisk;
use crate::generator::PaymentsConfig;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{failpoint, http, quickstart, reference, simulation};

const FAILED: u8 = 1;
const WRONG: u8 = 2;
const FENCED: u8 = 3;

/// Streaming data and continuous training in one daemon.
#[derive(Parser)]
#[command(name = "driftmill", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a pipeline until SIGTERM or SIGINT, which drain it.
    Run {
        /// The configuration.
        config: PathBuf,
    },
    /// Checks a configuration, and what it names: topics, rights, limits.
    Check {
        /// The configuration.
        config: PathBuf,
        /// Checks the file alone and asks no broker.
        #[arg(long)]
        offline: bool,
    },
    /// Runs a minute with an embedded broker, payments that are made up, and a change of the world.
    Quickstart {
        /// How long payments are made, such as `60s`.
        #[arg(long = "for", default_value = "60s", value_parser = driftmill_config::parse_duration)]
        length: std::time::Duration,
        /// Nothing changes in the world.
        #[arg(long)]
        no_drift: bool,
        /// Seed of the payments.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Prints the closing report alone, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replays the epoch log of a pipeline that does not run, and compares the states with the snapshots kept.
    ///
    /// The replay begins with the first epoch where the log still holds it (`log = "keep"` in [snapshot]), else with the
    /// oldest snapshot. It changes neither topics nor log nor snapshots, takes ownership from nobody, and needs the records
    /// of the epochs: they must not have left their topics. Exit code 1: a snapshot is not what the log says, or the log cannot be replayed.
    Verify {
        /// The configuration.
        config: PathBuf,
    },
    /// Lists the versions that were live: when, since which epoch, and why.
    Models {
        /// The configuration.
        config: PathBuf,
    },
    /// Brings the version back that was live before, in a pipeline that runs on this machine.
    Rollback {
        /// The configuration.
        config: PathBuf,
    },
    /// Lets the online learner compete again, after a rollback from it.
    Readmit {
        /// The configuration.
        config: PathBuf,
    },
    /// Writes made-up payments into a cluster: the topics `payments` and `payments.outcomes`, which must exist.
    Generate {
        /// Brokers of the cluster.
        #[arg(long, default_value = "localhost:9092")]
        brokers: String,
        /// How long payments are made; for ever without it.
        #[arg(long = "for", value_parser = driftmill_config::parse_duration)]
        length: Option<std::time::Duration>,
        /// Payments in a second.
        #[arg(long, default_value_t = 1_000)]
        rate: u32,
        /// When the world changes, such as `10min` after the start.
        #[arg(long, value_parser = driftmill_config::parse_duration)]
        drift_at: Option<std::time::Duration>,
        /// Seed of the payments.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Runs the quickstart's minute for many seeds, in event time and without a broker. Exit code 1: fewer than nine
    /// seeds of ten were promoted after the change, or any without a change.
    #[command(hide = true)]
    Simulate {
        /// Number of seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        first_seed: u64,
        /// Nothing changes in the world.
        #[arg(long)]
        no_drift: bool,
        /// Payments in a second of event time; the quickstart has 20,000.
        #[arg(long, default_value_t = 20_000)]
        rate: u32,
        /// How long a training job takes, in event time.
        #[arg(long, default_value = "1s", value_parser = driftmill_config::parse_duration)]
        training: std::time::Duration,
        /// Most rows to train on, instead of those of the quickstart: training takes most of the time.
        #[arg(long)]
        buffer_rows: Option<usize>,
        /// Seeds that run at the same time.
        #[arg(long, default_value_t = 1)]
        at_once: usize,
        /// Prints a line of JSON for each seed, and one for all.
        #[arg(long)]
        json: bool,
    },
    /// Carries out a training job: `driftmill train JOB SEGMENTS OUT`.
    #[command(hide = true)]
    Train {
        /// The job.
        job: PathBuf,
        /// Folder of its segments.
        segments: PathBuf,
        /// Where the artifact goes.
        out: PathBuf,
    },
    /// Prints the references: of the configuration, of the metrics and alerts.
    Reference {
        /// Compares the committed references with what they should be, and fails when one is stale.
        #[arg(long)]
        check: bool,
        /// Writes the references to their files in the source tree.
        #[arg(long, conflicts_with = "check")]
        write: bool,
    },
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Train { job, segments, out } => return crate::trainer::run_job(&job, &segments, &out),
        Command::Run { config } => run(&config),
        Command::Check { config, offline } => check(&config, offline),
        Command::Quickstart {
            length,
            no_drift,
            seed,
            json,
        } => run_quickstart(&quickstart::Options {
            length,
            drift: !no_drift,
            seed,
            json,
        }),
        Command::Simulate {
            seeds,
            first_seed,
            no_drift,
            rate,
            training,
            buffer_rows,
            at_once,
            json,
        } => {
            let options = simulation::Options {
                first_seed,
                seeds,
                drift: !no_drift,
                rate_per_s: rate,
                training,
                buffer_rows,
                at_once,
            };
            simulate(&options, json)
        }
        Command::Verify { config } => verify(&config),
        Command::Models { config } => models(&config),
        Command::Rollback { config } => command(&config, "rollback"),
        Command::Readmit { config } => command(&config, "readmit"),
        Command::Generate {
            brokers,
            length,
            rate,
            drift_at,
            seed,
        } => {
            let world = PaymentsConfig {
                seed,
                start_ms: SystemClock.now_ms(),
                rate_per_s: rate,
                drift_at,
                bad_feed: None,
                ..PaymentsConfig::default()
            };
            match quickstart::generate(&brokers, world, length) {
                Ok(fed) => {
                    say(&format!("{} records written", fed.records));
                    0
                }
                Err(message) => {
                    complain(&format!("driftmill: {message}"));
                    FAILED
                }
            }
        }
        Command::Reference { check, write } => reference::command(check, write),
    };
    ExitCode::from(code)
}

fn say(text: &str) {
    // Nobody reads standard output any more when this fails; there is nowhere else to say so.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

fn load(config: &Path) -> Result<Settings, u8> {
    let shown = config.display().to_string();
    let text = std::fs::read_to_string(config).map_err(|error| {
        complain(&format!(
            "cannot read {shown}: {error}; name the configuration of the pipeline"
        ));
        WRONG
    })?;
    Settings::parse(&shown, &text).map_err(|problems| {
        complain(&problems.render());
        WRONG
    })
}

fn check(config: &Path, offline: bool) -> u8 {
    let settings = match load(config) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let mut findings = Vec::new();
    if !offline {
        findings = ask_brokers(&settings);
    }
    let mut history = None;
    match crate::bootstrap::examine(&LocalDisk, &settings) {
        None => {}
        Some(Examined::Fine(told)) => say(&format!("{}: {told}", config.display())),
        Some(Examined::NotNeeded(why)) => findings.push(Finding::Warning(format!("bootstrap: {why}"))),
        Some(Examined::Wrong(why)) => history = Some(why),
    }
    findings.dedup();
    for finding in &findings {
        complain(&format!("{}: {finding}", config.display()));
    }
    if let Some(why) = &history {
        complain(&at_key(config, &settings.text, "model", "bootstrap", why));
    }
    if history.is_some() || findings.iter().any(Finding::is_error) {
        return WRONG;
    }
    let plan = &settings.plan;
    let found = match findings.len() {
        0 => "no problem found".to_owned(),
        1 => "one warning".to_owned(),
        count => format!("{count} warnings"),
    };
    say(&format!(
        "{}: pipeline {}, plan {}: {} of {} columns read, {} written, {} features; {found}{}",
        config.display(),
        settings.pipeline.name,
        plan.hash,
        plan.transform.read_schema().fields().len(),
        plan.schema.fields().len(),
        plan.transform.output_schema().fields().len(),
        plan.columns.features.len(),
        if offline { " (no broker was asked)" } else { "" },
    ));
    0
}

/// A problem with the value of a key, rendered at its place.
fn at_key(config: &Path, text: &str, table: &str, key: &str, what: &str) -> String {
    let shown = config.display().to_string();
    match Document::parse(&shown, text, &|name| std::env::var(name).ok()) {
        Ok(document) => {
            let mut problems = document.problems();
            let span = document.root().table(table, &mut problems).key_span(key);
            problems.push(span, what, None);
            problems.render()
        }
        Err(problems) => problems.render(),
    }
}

/// What the connectors find without changing anything.
fn ask_brokers(settings: &Settings) -> Vec<Finding> {
    let away = |error: ConnectError| vec![Finding::Error(error.to_string())];
    let (mut findings, oldest_ms) = match settings.source.check() {
        Ok(found) => (found.findings, found.oldest_ms),
        Err(error) => (away(error), None),
    };
    // When the labels were made says nothing of when predictions are.
    match settings.labels.as_ref().map(|labels| labels.check()) {
        Some(Ok(found)) => findings.extend(found.findings),
        Some(Err(error)) => findings.extend(away(error)),
        None => {}
    }
    findings.extend(settings.sink.check(oldest_ms).unwrap_or_else(away));
    findings
}

fn run_quickstart(options: &quickstart::Options) -> u8 {
    match quickstart::run(options) {
        Ok(report) => {
            quickstart::tell(&report, options.json);
            if report.lost == 0 {
                return 0;
            }
            complain(&format!("driftmill: {} records have no outcome", report.lost));
            FAILED
        }
        Err(message) => {
            complain(&format!("driftmill: {message}"));
            FAILED
        }
    }
}

fn simulate(options: &simulation::Options, json: bool) -> u8 {
    if !json {
        say(&format!(
            "{} seeds from {}: a minute of {} payments a second each; a training job takes {:?} of event time{}",
            options.seeds,
            options.first_seed,
            options.rate_per_s,
            options.training,
            options
                .buffer_rows
                .map_or_else(String::new, |rows| format!(", on at most {rows} rows"))
        ));
    }
    match simulation::run(options, &mut |report| simulation::tell_seed(report, json)) {
        Ok(totals) => {
            simulation::tell(&totals, json);
            if totals.holds() { 0 } else { FAILED }
        }
        Err(message) => {
            complain(&format!("driftmill: {message}"));
            FAILED
        }
    }
}

/// Gives a command to the running pipeline.
fn command(config: &Path, name: &str) -> u8 {
    let settings = match load(config) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let url = format!("http://{}/admin/{name}", settings.listen);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let asked = agent
        .post(&url)
        .header(http::PIPELINE_HEADER, &settings.pipeline.name)
        .send_empty();
    let answer = asked.and_then(|mut answer| Ok((answer.status(), answer.body_mut().read_to_string()?)));
    match answer {
        Ok((status, text)) if status.is_success() => {
            say(text.trim_end());
            0
        }
        Ok((_, text)) => {
            complain(&format!("driftmill: {text}"));
            FAILED
        }
        Err(error) => {
            complain(&format!(
                "driftmill: no pipeline answers at {}: {error}; is it running?",
                settings.listen
            ));
            FAILED
        }
    }
}

fn models(config: &Path) -> u8 {
    let settings = match load(config) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let registry = crate::registry::Registry::open(Arc::new(LocalDisk), settings.registry.clone());
    let listed = registry.and_then(|registry| registry.list());
    match listed {
        Ok(deployments) if deployments.is_empty() => say("no model was live yet"),
        Ok(deployments) => {
            for deployed in deployments {
                let time = chrono::DateTime::from_timestamp_millis(deployed.time_ms).map_or_else(
                    || deployed.time_ms.to_string(),
                    |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
                );
                say(&format!(
                    "{}@{}  {time}  {}  {}",
                    deployed.version, deployed.epoch, deployed.artifact, deployed.reason
                ));
            }
        }
        Err(error) => {
            complain(&format!("driftmill: {error}"));
            return FAILED;
        }
    }
    0
}

fn verify(config: &Path) -> u8 {
    let settings = match load(config) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    log_to_stderr("warn");
    let verified = match surroundings(&settings) {
        Ok(around) => crate::daemon::verify(settings, config, &around),
        Err(error) => {
            complain(&format!("driftmill: {error}"));
            return FAILED;
        }
    };
    match verified {
        Ok(verified) => {
            tell_verified(&verified);
            if verified.agrees() { 0 } else { FAILED }
        }
        Err(error) => {
            complain(&format!("driftmill: {error}"));
            FAILED
        }
    }
}

fn tell_verified(verified: &Verified) {
    let first = verified.from.map_or(1, |from| from + 1);
    if first > verified.until {
        say(&format!("no epoch follows the snapshot of epoch {}", verified.until));
    } else {
        say(&format!("epochs {first} to {} replayed", verified.until));
    }
    for Compared { epoch, state, outcome } in &verified.snapshots {
        let state = state.as_deref().unwrap_or("-");
        let told = match outcome {
            Outcome::Begun => "the replay began with it".to_owned(),
            Outcome::Equal => "is what the log says".to_owned(),
            Outcome::Differs(replayed) => format!("is NOT what the log says: {replayed}"),
            Outcome::Unusable(why) => format!("cannot be compared: {why}"),
        };
        say(&format!("snapshot {epoch}  state {state}  {told}"));
    }
    if let Some(torn) = &verified.torn {
        say(&format!(
            "unfinished end of the log, which the next start cuts off: {torn}"
        ));
    }
    say(&format!("epoch {}  state {}", verified.until, verified.state));
}

/// What a pipeline of the command line lives in.
fn surroundings(settings: &Settings) -> prometheus::Result<Surroundings> {
    Ok(Surroundings {
        observer: Arc::new(LogObserver),
        clock: Arc::new(SystemClock),
        disk: Arc::new(LocalDisk),
        metrics: Arc::new(Metrics::new(&settings.pipeline.name)?),
        stop: Arc::new(AtomicBool::new(false)),
        desk: Arc::default(),
        status: Arc::new(Status::default()),
        jobs: JobRunner::default(),
    })
}

fn log_to_stderr(level: &str) {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("DRIFTMILL_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level)),
        )
        .init();
}

fn run(config: &Path) -> u8 {
    let settings = match load(config) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    log_to_stderr("info");
    if let Err(message) = failpoint::arm_from_env() {
        complain(&format!("driftmill: {message}"));
        return WRONG;
    }
    match serve(settings, config) {
        Ok(summary) => {
            tracing::info!(epoch = summary.epoch, "ended");
            say(&serde_json::json!(summary).to_string());
            0
        }
        Err(Failure::Start(message)) => {
            complain(&message);
            FAILED
        }
        Err(Failure::Run(error)) => {
            complain(&format!("driftmill: {error}"));
            match error {
                RunError::Commit(CommitError::Sink(SinkError::Fenced(_))) | RunError::Sink(SinkError::Fenced(_)) => {
                    FENCED
                }
                _ => FAILED,
            }
        }
    }
}

enum Failure {
    Start(String),
    Run(RunError),
}

fn serve(settings: Settings, config: &Path) -> Result<Summary, Failure> {
    let start = |error: String| Failure::Start(format!("driftmill: {error}"));
    let around = surroundings(&settings).map_err(|error| start(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|error| start(format!("the system gives no thread: {error}; raise its limits")))?;
    let listener = runtime.block_on(http::bind(settings.listen)).map_err(start)?;
    let address = listener.local_addr().map_err(|error| start(error.to_string()))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pipeline = settings.pipeline.name,
        plan = settings.plan.hash,
        "driftmill · metrics and health on http://{address}"
    );
    let signals = Signals::listen(&runtime).map_err(start)?;
    runtime.spawn(signals.watch(Arc::clone(&around.stop)));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let server = runtime.spawn(http::serve(listener, &settings.pipeline.name, &around, async {
        // A dropped sender means the end just as well.
        let _ = ended.await;
    }));
    let outcome = crate::daemon::run(settings, config, &around).map_err(Failure::Run);
    drop(end);
    // A client that keeps its connection open must not keep the process.
    let _ = runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(1), server).await });
    runtime.shutdown_background();
    outcome
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen(runtime: &tokio::runtime::Runtime) -> Result<Self, String> {
        let _within = runtime.enter();
        let on = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn watch(mut self, stop: Arc<AtomicBool>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading is not yet supported; restart to take a new configuration");
                }
            }
        }
        tracing::info!("draining");
        stop.store(true, Ordering::Release);
        // A second signal means now: what is not committed is computed again at the next start.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        std::process::exit(i32::from(FAILED));
    }
}
