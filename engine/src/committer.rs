//! The thread that owns the sink: it makes epochs durable in order, while the engine computes the next ones.
//!
//! Everything that is sent is kept until it is acknowledged, so an aborted epoch is sent again and not computed
//! again. Where the log is a local file, an epoch's record is appended after its outputs were acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driftmill_connectors::{Sink, SinkError, Unit};

use crate::epoch_log::{EpochLog, EpochRecord, LogError};
use crate::failpoint::{Point, pass};
use crate::metrics::Metrics;
use crate::registry::{Deployment, Registry, RegistryError};
use crate::snapshot::{Prepared, SnapshotError, SnapshotStore};

/// Most epochs in one transaction: bounds what is sent again after an abort.
const GROUP_MAX: usize = 64;

/// How long a registry that cannot be written is left alone: a full disk heals, and an epoch that names an artifact must
/// not be durable before it.
const REGISTRY_BACKOFF: Duration = Duration::from_secs(1);

/// What the committer is asked to do, in order.
pub enum Work {
    /// Make an epoch durable.
    Epoch {
        /// What it writes.
        unit: Unit,
        /// Its record, where it goes to the local log; a replay's is there already.
        record: Option<Box<EpochRecord>>,
        /// When its oldest record arrived here.
        arrived: Instant,
    },
    /// Make an artifact durable before any epoch that is sent after it.
    Artifact {
        /// The artifact.
        bytes: Vec<u8>,
        /// The epoch after which it was made.
        epoch: u64,
        /// Whether a job made it; else the online learner has published it.
        is_of_job: bool,
    },
    /// Write into the registry's history what went live with the last epoch sent, once that has committed.
    Deployed(Deployment),
    /// Publish a snapshot of the state after the last epoch sent, once that has committed.
    Snapshot(Prepared),
}

/// Why the pipeline cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The sink.
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// The epoch log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// A snapshot.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    /// The registry.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// The thread is gone: it has panicked.
    #[error("the committing thread ended unexpectedly; please report it")]
    Gone,
}

/// The engine's side of the committer.
pub struct Committer {
    work: Option<SyncSender<Work>>,
    committed: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<CommitError>>>,
    thread: Option<JoinHandle<()>>,
}

struct Worker {
    sink: Box<dyn Sink>,
    log: Option<EpochLog>,
    snapshots: Arc<SnapshotStore>,
    registry: Registry,
    trims: bool,
    committed: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

/// How the committer works.
#[derive(Debug, Clone, Copy)]
pub struct CommitterOptions {
    /// Most epochs that wait.
    pub depth: usize,
    /// Whether the epoch log loses what lies before the oldest snapshot.
    pub trims: bool,
}

impl Committer {
    /// Starts the thread. `log` is the local epoch log of a pipeline whose sink keeps none.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn spawn(
        sink: Box<dyn Sink>,
        log: Option<EpochLog>,
        snapshots: Arc<SnapshotStore>,
        registry: Registry,
        options: CommitterOptions,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(options.depth);
        let committed = Arc::new(AtomicU64::new(0));
        let failure = Arc::new(Mutex::new(None));
        let worker = Worker {
            sink,
            log,
            snapshots,
            registry,
            trims: options.trims,
            committed: Arc::clone(&committed),
            metrics,
        };
        let slot = Arc::clone(&failure);
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(move || {
            if let Err(error) = worker.run(&receiver) {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        })?;
        Ok(Self {
            work: Some(sender),
            committed,
            failure,
            thread: Some(thread),
        })
    }

    /// Hands work over; waits while too much is under way, as long as `go_on` says so.
    ///
    /// # Errors
    /// What ended the thread.
    pub fn send(&self, work: Work, go_on: &dyn Fn() -> bool) -> Result<bool, CommitError> {
        let Some(sender) = &self.work else {
            return Err(self.failure());
        };
        let mut work = work;
        loop {
            match sender.try_send(work) {
                Ok(()) => return Ok(true),
                Err(TrySendError::Full(back)) if go_on() => {
                    work = back;
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(TrySendError::Full(_)) => return Ok(false),
                Err(TrySendError::Disconnected(_)) => return Err(self.failure()),
            }
        }
    }

    /// The last epoch that is durable, 0 before the first of this run.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Fails when the thread has ended.
    ///
    /// # Errors
    /// What ended it.
    pub fn check(&self) -> Result<(), CommitError> {
        match &self.thread {
            Some(thread) if thread.is_finished() => Err(self.failure()),
            _ => Ok(()),
        }
    }

    fn failure(&self) -> CommitError {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or(CommitError::Gone)
    }

    /// Commits what is under way and ends the thread, waiting at most `patience`. Whether all was committed.
    ///
    /// # Errors
    /// What ended it before.
    pub fn finish(mut self, patience: Duration) -> Result<bool, CommitError> {
        drop(self.work.take());
        let deadline = Instant::now() + patience;
        let Some(thread) = self.thread.take() else {
            return Ok(true);
        };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.join().is_err() {
            return Err(CommitError::Gone);
        }
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(true),
        }
    }
}

impl Worker {
    fn run(mut self, work: &Receiver<Work>) -> Result<(), CommitError> {
        let mut next = work.recv().ok();
        while let Some(first) = next.take() {
            match first {
                Work::Snapshot(prepared) => self.publish(prepared)?,
                Work::Artifact {
                    bytes,
                    epoch,
                    is_of_job,
                } => self.keep(&bytes, epoch, is_of_job)?,
                Work::Deployed(deployment) => self.note(&deployment)?,
                Work::Epoch { unit, record, arrived } => {
                    let mut group = vec![(unit, record, arrived)];
                    // Whatever has queued up meanwhile shares the commit; a snapshot ends the group, since it must
                    // hold committed epochs only.
                    while group.len() < GROUP_MAX {
                        match work.try_recv() {
                            Ok(Work::Epoch { unit, record, arrived }) => group.push((unit, record, arrived)),
                            // Durable before the epochs behind it, and so before those of this group.
                            Ok(Work::Artifact {
                                bytes,
                                epoch,
                                is_of_job,
                            }) => self.keep(&bytes, epoch, is_of_job)?,
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group)?;
                }
            }
            if next.is_none() {
                next = work.recv().ok();
            }
        }
        Ok(())
    }

    fn note(&self, deployment: &Deployment) -> Result<(), CommitError> {
        pass(Point::SwapCommitted, deployment.epoch);
        self.registry.append(deployment)?;
        pass(Point::SwapNoted, deployment.epoch);
        Ok(())
    }

    fn keep(&self, artifact: &[u8], epoch: u64, is_of_job: bool) -> Result<(), CommitError> {
        loop {
            match self.registry.put(artifact) {
                Ok(_) => {
                    if is_of_job {
                        pass(Point::ArtifactPut, epoch);
                    } else {
                        pass(Point::PublicationPut, epoch);
                    }
                    return Ok(());
                }
                Err(error @ RegistryError::Disk(_)) => {
                    tracing::warn!(%error, "the registry cannot be written; epochs wait for it");
                    std::thread::sleep(REGISTRY_BACKOFF);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn commit(&mut self, group: Vec<(Unit, Option<Box<EpochRecord>>, Instant)>) -> Result<(), CommitError> {
        let begun = Instant::now();
        let (mut units, mut records, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
        for (unit, record, when) in group {
            units.push(unit);
            records.extend(record.map(|record| *record));
            arrived.push(when);
        }
        let last = units.last().map_or(0, |unit| unit.epoch);
        pass(Point::CommitBegins, last);
        self.sink.commit(&units)?;
        pass(Point::OutputsWritten, last);
        if let Some(log) = &mut self.log {
            log.append(&records)?;
        }
        pass(Point::CommitDone, last);
        self.committed.store(last, Ordering::Release);
        self.metrics.committed(last, units.len(), begun.elapsed());
        for (unit, arrived) in units.iter().zip(arrived) {
            let rows: usize = unit.outputs.iter().map(|(_, outputs)| outputs.len()).sum();
            self.metrics.delivered(unit.epoch, rows, arrived.elapsed());
        }
        Ok(())
    }

    fn publish(&mut self, prepared: Prepared) -> Result<(), CommitError> {
        let epoch = prepared.epoch();
        pass(Point::SnapshotBegins, epoch);
        let cost = match self.snapshots.publish(prepared) {
            Ok(cost) => cost,
            // The snapshots before still stand and the next one holds what is missing: a full disk costs time at a
            // restart, not the service.
            Err(error @ (SnapshotError::Disk(_) | SnapshotError::Broken { .. } | SnapshotError::Damaged { .. })) => {
                tracing::warn!(%error, "a snapshot could not be kept; the ones before it still stand");
                self.metrics.snapshot_failures.inc();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.metrics.snapshot(cost.written, cost.total);
        pass(Point::SnapshotPublished, epoch);
        if let Some(oldest) = self.snapshots.oldest().filter(|_| self.trims) {
            // The oldest snapshot's own record stays: the chain is checked against it.
            self.sink.trim(oldest)?;
            if let Some(log) = &mut self.log {
                log.trim(oldest)?;
            }
        }
        pass(Point::SnapshotDone, epoch);
        Ok(())
    }
}
