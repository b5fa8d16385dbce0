//! The daemon of one pipeline: start (lock, recover, replay), live loop, drain.

mod engine;
mod learning;
mod plans;
pub mod recovery;
mod start;
mod training;

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
    #[error("topic {topic}, partition {partition}: offset {expected} is due, the topic holds {oldest} to {newest}: {what}; nothing was skipped")]
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
    #[error("epoch {epoch}: the replay makes other outputs than were written ({found} instead of {expected}): this binary or machine computes differently; start the version that wrote them ({code})")]
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
    #[error("the last epochs could not be committed within {0:?} after the signal to end; they will be computed again at the next start, nothing is lost")]
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

/// What surrounds a pipeline.
pub struct Surroundings {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Set to end the pipeline.
    pub stop: Arc<AtomicBool>,
    /// What is told to others.
    pub status: Arc<Status>,
}

/// How a pipeline ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The last epoch.
    pub epoch: u64,
    /// Outcomes since the pipeline began.
    pub totals: crate::epoch_log::Counts,
    /// Hash of the state after the last epoch.
    pub state: String,
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
