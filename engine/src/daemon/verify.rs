//! Verifying: is what a pipeline keeps what its epoch log says? Every epoch that can be replayed is replayed, by one
//! process that nothing interrupts, and the states that come out are compared with the snapshots, by hash.
//!
//! Nobody is fenced, nothing is written to a topic, no trainer and no gate runs. The lock of the state folder is held,
//! since a running pipeline would remove snapshots meanwhile.

use std::path::Path;
use std::sync::Arc;

use driftmill_connectors::{ConnectError, Fault, Sink, SinkError, Unit};
use driftmill_models::state::State as _;

use crate::daemon::engine::Engine;
use crate::daemon::history::{self, History};
use crate::daemon::plans::PlanBook;
use crate::daemon::start::{Parts, assemble};
use crate::daemon::{RunError, Surroundings};
use crate::disk::LockFile;
use crate::epoch_log::TornTail;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::snapshot::{Loaded, SnapshotStore, state_hash};
use crate::state::PipelineState;

/// What a replay of the epoch log came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The snapshot that the replay began with; `None` when it began with the first epoch.
    pub from: Option<u64>,
    /// The last epoch of the log.
    pub until: u64,
    /// Hash of the state after it.
    pub state: String,
    /// The kept snapshots, oldest first.
    pub snapshots: Vec<Compared>,
    /// The unfinished end of a local log, which the next start cuts off.
    pub torn: Option<TornTail>,
}

impl Verified {
    /// Whether every snapshot that could be compared is what the replay came to, and none is unusable.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let good = |compared: &Compared| matches!(compared.outcome, Outcome::Begun | Outcome::Equal);
        self.snapshots.iter().all(good)
    }
}

/// A kept snapshot beside the replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its epoch.
    pub epoch: u64,
    /// Hash of the state that it holds; `None` when it cannot be read.
    pub state: Option<String>,
    /// How they compare.
    pub outcome: Outcome,
}

/// How a snapshot and the replay compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The replay began with it.
    Begun,
    /// They are the same.
    Equal,
    /// The replay came to the state with this hash.
    Differs(String),
    /// It cannot be compared: why.
    Unusable(String),
}

/// Replays the whole epoch log of the pipeline and compares.
///
/// # Errors
/// A folder in use, a log or a snapshot to begin with that is missing or damaged, records that the topics no longer hold,
/// and an epoch whose replay makes other outputs than were written.
pub fn verify(settings: Settings, config: &Path, around: &Surroundings) -> Result<Verified, RunError> {
    let dir = settings.pipeline.state_dir.clone();
    let lock = LockFile::acquire(&dir.join("lock"))?;
    let registry = Registry::open(Arc::clone(&around.disk), settings.registry.clone())?;
    let mut plans = PlanBook::open(Arc::clone(&around.disk), dir.join("plans"), config.to_owned())?;
    let snapshots = SnapshotStore::open(
        Arc::clone(&around.disk),
        dir.join("snapshots"),
        settings.pipeline.name.clone(),
    )?;
    let (mut history, torn) = history::look(&settings, around)?;
    let begin = begin(&snapshots, &history)?;
    let after = begin.as_ref().map_or(0, |loaded| loaded.manifest.epoch);
    history.records.retain(|record| record.epoch > after);
    let first_plan = match (&begin, history.records.first()) {
        (Some(loaded), _) => plans.get(&loaded.manifest.plan)?,
        (None, Some(record)) => plans.get(&record.plan)?,
        (None, None) => Arc::clone(&settings.plan),
    };
    let mut state = PipelineState::new(&first_plan);
    if let Some(loaded) = &begin {
        state
            .restore(&loaded.source)
            .map_err(|error| RunError::State { epoch: after, error })?;
    }
    let snapshots = Arc::new(snapshots);
    let parts = Parts {
        settings,
        first_plan,
        plans,
        state,
        sink: Box::new(Nowhere),
        history,
        snapshots: Arc::clone(&snapshots),
        registry,
        lock,
    };
    let from = begin.as_ref().map(|loaded| loaded.manifest.epoch);
    let (mut engine, records, _) = assemble(parts, around)?;
    let mut compared = Vec::new();
    let mut kept = snapshots.kept()?.into_iter().peekable();
    while let Some(epoch) = kept.next_if(|epoch| *epoch <= after) {
        compared.push(before(&snapshots, epoch, from)?);
    }
    for record in &records {
        engine.replay_epoch(record, false)?;
        if kept.next_if_eq(&record.epoch).is_some() {
            compared.push(compare(&snapshots, &engine)?);
        }
    }
    for epoch in kept {
        let why = format!("the epoch log ends at {}", engine.state.epoch);
        compared.push(unusable(epoch, why));
    }
    Ok(Verified {
        from,
        until: engine.state.epoch,
        state: state_hash(&engine.state),
        snapshots: compared,
        torn,
    })
}

/// The snapshot that the replay begins with: none where the log holds the first epoch, else the oldest that is followed
/// by what the log holds.
fn begin(snapshots: &SnapshotStore, history: &History) -> Result<Option<Loaded>, RunError> {
    let Some((first, last)) = history.span else {
        return Err(RunError::Recovery(
            "the epoch log holds no epoch: there is nothing to verify".to_owned(),
        ));
    };
    if first == 1 {
        return Ok(None);
    }
    for epoch in snapshots.kept()? {
        if epoch + 1 < first || epoch > last {
            continue;
        }
        if let Ok(loaded) = snapshots.look(epoch)? {
            let chain = &loaded.manifest.chain;
            let follows = history.records.iter().find(|record| record.epoch == epoch + 1);
            return match follows.filter(|record| record.previous != *chain) {
                Some(_) => Err(RunError::Recovery(format!(
                    "the snapshot of epoch {epoch} and the epoch log tell different histories: they are of different \
                     pipelines, or one was restored without the other"
                ))),
                None => Ok(Some(loaded)),
            };
        }
    }
    Err(RunError::Recovery(format!(
        "the epoch log begins at epoch {first} and no snapshot is left to begin with"
    )))
}

/// A snapshot that the replay does not come to: it began with it, or after it.
fn before(snapshots: &SnapshotStore, epoch: u64, from: Option<u64>) -> Result<Compared, RunError> {
    Ok(match snapshots.look(epoch)? {
        Err(rejected) => unusable(epoch, rejected.why),
        Ok(loaded) if from == Some(epoch) => Compared {
            epoch,
            state: Some(loaded.source.state_hash()),
            outcome: Outcome::Begun,
        },
        Ok(_) => unusable(epoch, "the epoch log begins after it".to_owned()),
    })
}

/// The snapshot of the epoch that the replay has just come to.
fn compare(snapshots: &SnapshotStore, engine: &Engine) -> Result<Compared, RunError> {
    let epoch = engine.state.epoch;
    let loaded = match snapshots.look(epoch)? {
        Ok(loaded) => loaded,
        Err(rejected) => return Ok(unusable(epoch, rejected.why)),
    };
    let (kept, replayed) = (loaded.source.state_hash(), state_hash(&engine.state));
    let outcome = if kept == replayed {
        Outcome::Equal
    } else {
        Outcome::Differs(replayed)
    };
    Ok(Compared {
        epoch,
        state: Some(kept),
        outcome,
    })
}

fn unusable(epoch: u64, why: String) -> Compared {
    Compared {
        epoch,
        state: None,
        outcome: Outcome::Unusable(why),
    }
}

/// The sink of a pipeline that must not write.
struct Nowhere;

impl Sink for Nowhere {
    fn commit(&mut self, _units: &[Unit]) -> Result<(), SinkError> {
        let what = "a replay that verifies was about to write";
        let error = ConnectError::new(Fault::Internal, "verify", what, "report this as a bug");
        Err(SinkError::Fatal(error))
    }

    fn recover(&mut self, _each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), SinkError> {
        Ok(())
    }

    fn trim(&mut self, _below_epoch: u64) -> Result<(), SinkError> {
        Ok(())
    }
}
