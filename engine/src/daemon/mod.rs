//! The daemon of one pipeline: start (lock, recover, replay), live loop, drain.

mod bootstrap;
mod engine;
mod history;
mod learning;
mod plans;
pub mod recovery;
mod start;
mod swap;
mod training;
mod verify;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driftmill_connectors::{ConnectError, SinkError};
use driftmill_models::state::StateError;

use crate::clock::Clock;
use crate::committer::CommitError;
use crate::disk::{Disk, DiskError};
use crate::epoch_log::{LedgerError, LogError, RecordError};
use crate::metrics::Metrics;
use crate::registry::RegistryError;
use crate::score::ScoreError;
use crate::settings::Settings;
use crate::snapshot::SnapshotError;

pub use plans::PlanError;
pub use training::JobRunner;
pub use verify::{Compared, Outcome, Verified, verify};

/// How long a drain may take: a service manager that sends SIGTERM waits about this long.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// Why a pipeline ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A connector.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The sink.
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// Committing.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// Scoring.
    #[error("{0}")]
    Score(#[from] ScoreError),
    /// Files.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// The local epoch log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// A record of the epoch log.
    #[error("epoch log: {0}")]
    Record(#[from] RecordError),
    /// The records of the epoch log do not follow each other.
    #[error("epoch log: {0}")]
    Ledger(#[from] LedgerError),
    /// Snapshots.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    /// A snapshot that this plan cannot take back.
    #[error("snapshot of epoch {epoch}: {error}; restore an older snapshot, or begin anew in another state folder")]
    State {
        /// Its epoch.
        epoch: u64,
        /// What is wrong.
        error: StateError,
    },
    /// A plan of the past.
    #[error("plan: {0}")]
    Plan(#[from] PlanError),
    /// The registry.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// The trainer's folder.
    #[error("{0}")]
    Train(#[from] crate::trainer::TrainError),
    /// What the snapshot and the log say does not fit together.
    #[error("{0}")]
    Recovery(String),
    /// Records that were due are gone.
    #[error(
        "topic {topic}, partition {partition}: offset {expected} is due, the topic holds {oldest} to {newest}: {what}; nothing was skipped"
    )]
    Gap {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was due.
        expected: i64,
        /// Oldest offset held.
        oldest: i64,
        /// Offset after the newest.
        newest: i64,
        /// What happened, and what to do.
        what: &'static str,
    },
    /// A replay came to other outputs than the epoch had.
    #[error(
        "epoch {epoch}: the replay makes other outputs than were written ({found} instead of {expected}): this binary or machine computes differently; start the version that wrote them ({code})"
    )]
    Diverged {
        /// The epoch.
        epoch: u64,
        /// Hash in the log.
        expected: String,
        /// Hash of the replay.
        found: String,
        /// Version of the code that wrote it.
        code: String,
    },
    /// Files of history for the first model.
    #[error("bootstrap from {files}: {what}")]
    Bootstrap {
        /// As configured.
        files: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A model that cannot be used.
    #[error("model {name}: {what}")]
    Model {
        /// Which.
        name: String,
        /// Why, and what to do.
        what: String,
    },
    /// The system.
    #[error("the system gives no thread: {0}; raise its limits")]
    Thread(std::io::Error),
    /// The drain took too long.
    #[error(
        "the last epochs could not be committed within {0:?} after the signal to end; they will be computed again at the next start, nothing is lost"
    )]
    Drain(Duration),
}

/// What others may know about a running pipeline.
#[derive(Default)]
pub struct Status {
    ready: AtomicBool,
    phase: Mutex<String>,
}

impl Status {
    /// Whether live records are processed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What the pipeline does, in a few words.
    #[must_use]
    pub fn phase(&self) -> String {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, ready: bool, phase: impl Into<String>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.into();
        self.ready.store(ready, Ordering::Release);
    }
}

/// Something that people want to know of at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// Live records are processed from now on.
    Ready,
    /// A detector raised an alarm; in words.
    Drift(String),
    /// Labelled rows were held back.
    Quarantined {
        /// The rule.
        rule: String,
        /// Number of rows.
        rows: u64,
        /// Why, in words.
        why: String,
    },
    /// A training job began.
    Training {
        /// The job.
        job: String,
        /// Why.
        cause: String,
    },
    /// The gate decided.
    Verdict {
        /// The candidate's job.
        job: String,
        /// `promote` or `reject`.
        verdict: String,
        /// Why.
        reason: String,
    },
    /// Another version is live.
    Live {
        /// The version.
        version: String,
        /// How long the swap took.
        took: Duration,
    },
}

/// Is told what happens, on the engine's thread: it must not wait.
pub trait Observer: Send + Sync {
    /// Something has happened.
    fn notice(&self, happening: &Happening);
}

/// Writes what happens into the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn notice(&self, happening: &Happening) {
        match happening {
            Happening::Ready => tracing::info!("live records are processed"),
            Happening::Drift(alarm) => tracing::warn!(alarm, "drift"),
            Happening::Quarantined { rule, rows, why } => tracing::warn!(rule, rows, why, "quarantined"),
            Happening::Training { job, cause } => tracing::info!(job, cause, "training begins"),
            Happening::Verdict { job, verdict, reason } => tracing::info!(job, verdict, reason, "gate"),
            Happening::Live { version, took } => {
                tracing::info!(
                    version,
                    took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    "live"
                );
            }
        }
    }
}

/// What surrounds a pipeline.
pub struct Surroundings {
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Set to end the pipeline.
    pub stop: Arc<AtomicBool>,
    /// Commands of operators.
    pub desk: Arc<crate::admin::Desk>,
    /// What is told to others.
    pub status: Arc<Status>,
    /// Who carries training jobs out.
    pub jobs: JobRunner,
}

/// How a pipeline ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The last epoch.
    pub epoch: u64,
    /// Outcomes since the pipeline began.
    pub totals: crate::epoch_log::Counts,
    /// Hash of the state after the last epoch.
    pub state: String,
    /// Quality of each version on its labelled rows.
    pub versions: Vec<VersionSummary>,
}

/// A version's quality at the end.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct VersionSummary {
    /// The version.
    pub version: String,
    /// All its labelled rows.
    pub total: driftmill_models::metrics::binary::BinaryReport,
    /// Cohorts of prediction time: when each begins, in milliseconds, and its metrics.
    pub cohorts: Vec<(i64, driftmill_models::metrics::binary::BinaryReport)>,
}

/// Runs a pipeline until `stop` is set or it cannot go on. `config` is the path of the configuration, by which
/// relative paths of kept plans are resolved.
///
/// # Errors
/// Whatever waiting does not heal.
pub fn run(settings: Settings, config: &std::path::Path, around: &Surroundings) -> Result<Summary, RunError> {
    around.status.set(false, "starting");
    let mut engine = start::start(settings, config, around)?;
    let outcome = engine.live();
    around.status.set(false, "draining");
    let summary = engine.end(outcome);
    around.status.set(false, "ended");
    summary
}
