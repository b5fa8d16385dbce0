//! The trainer's process, watched by a thread of its own: starting it writes segments and its end reads an artifact,
//! which the serving thread must not wait for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use crate::failpoint::{Point, pass};
use crate::trainer::{Job, LocalProcess, Process, Segments, TrainError, TrainFailure, TrainResult};

/// How often the thread looks after the trainer.
const LOOK: Duration = Duration::from_millis(20);

/// Who carries training jobs out.
#[derive(Clone, Default)]
pub enum JobRunner {
    /// Processes of this binary; a result is taken as soon as it is there.
    #[default]
    ThisBinary,
    /// In a simulation: a job is carried out when event time has gone on by `takes_ms` since it began, and the engine
    /// waits for it then, so that what happens depends on no machine's speed.
    InEventTime {
        /// Starts the trainers.
        process: Arc<dyn Process>,
        /// How long a job takes, in milliseconds of event time.
        takes_ms: i64,
    },
}

/// Starts trainers of this pipeline.
pub(super) struct Trainers {
    process: Arc<dyn Process>,
    /// How long a job takes in event time, where that is laid down.
    takes_ms: Option<i64>,
    running: Option<Running>,
}

enum Running {
    /// On a thread.
    Watched {
        results: Receiver<TrainResult>,
        stop: Arc<AtomicBool>,
    },
    /// To be carried out at this event time.
    Due {
        job: Box<Job>,
        segments: Segments,
        due_ms: i64,
    },
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Watched { stop, .. } = self {
            stop.store(true, Ordering::Release);
        }
    }
}

impl Trainers {
    /// Trainers whose work lies in `folder`.
    ///
    /// # Errors
    /// The folder cannot be made or cleared.
    pub(super) fn new(folder: &Path, runner: &JobRunner) -> Result<Self, TrainError> {
        let (process, takes_ms): (Arc<dyn Process>, _) = match runner {
            JobRunner::ThisBinary => (Arc::new(LocalProcess::of_this_binary(folder)?), None),
            JobRunner::InEventTime { process, takes_ms } => (Arc::clone(process), Some(*takes_ms)),
        };
        Ok(Self {
            process,
            takes_ms,
            running: None,
        })
    }

    /// Starts a job at event time `watermark_ms`; one at a time, an earlier one is stopped.
    pub(super) fn start(&mut self, job: Job, segments: Segments, watermark_ms: i64) -> std::io::Result<()> {
        if let Some(takes_ms) = self.takes_ms {
            self.running = Some(Running::Due {
                job: Box::new(job),
                segments,
                due_ms: watermark_ms.saturating_add(takes_ms),
            });
            return Ok(());
        }
        let (sender, results) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (process, stopped) = (Arc::clone(&self.process), Arc::clone(&stop));
        std::thread::Builder::new().name("training".to_owned()).spawn(move || {
            let result = watch(&*process, &job, &segments, &stopped);
            // The engine is gone, or has given the job up: nobody waits for it.
            drop(sender.send(result));
        })?;
        self.running = Some(Running::Watched { results, stop });
        Ok(())
    }

    /// Carries a job out while nothing else goes on; `None` when `stop` was set meanwhile.
    ///
    /// # Errors
    /// The system gives no thread, or the thread has ended without a result.
    pub(super) fn carry_out(
        &mut self,
        job: Job,
        segments: Segments,
        stop: &AtomicBool,
    ) -> std::io::Result<Option<TrainResult>> {
        self.start(job, segments, i64::MIN)?;
        pass(Point::JobStarted, 0);
        loop {
            if let Some(result) = self.poll(i64::MAX) {
                return Ok(Some(result));
            }
            if stop.load(Ordering::Acquire) {
                self.abandon();
                return Ok(None);
            }
            if self.running.is_none() {
                return Err(std::io::Error::other(
                    "the training thread ended unexpectedly; please report it",
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Ends the job under way, if there is one; its result is of no interest.
    pub(super) fn abandon(&mut self) {
        self.running = None;
    }

    /// The result of the job, once, at event time `watermark_ms`.
    pub(super) fn poll(&mut self, watermark_ms: i64) -> Option<TrainResult> {
        let result = match self.running.as_ref()? {
            Running::Watched { results, .. } => match results.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => None,
            },
            Running::Due { due_ms, .. } if watermark_ms < *due_ms => return None,
            Running::Due { job, segments, .. } => Some(watch(&*self.process, job, segments, &AtomicBool::new(false))),
        };
        self.running = None;
        result
    }
}

fn watch(process: &dyn Process, job: &Job, segments: &Segments, stop: &AtomicBool) -> TrainResult {
    let failed = |error: TrainError| TrainResult {
        job_id: job.id().unwrap_or_default(),
        outcome: Err(TrainFailure {
            fault: error.fault(),
            reason: error.to_string(),
        }),
    };
    let mut training = match process.start(job, segments) {
        Ok(training) => training,
        Err(error) => return failed(error),
    };
    loop {
        if let Some(result) = training.poll() {
            return result;
        }
        if stop.load(Ordering::Acquire) {
            training.kill();
        }
        std::thread::sleep(LOOK);
    }
}
