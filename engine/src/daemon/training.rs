//! The trainer's process, watched by a thread of its own: starting it writes segments and its end reads an artifact,
//! which the serving thread must not wait for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use crate::trainer::{Job, LocalProcess, Process, Segments, TrainError, TrainFailure, TrainResult};

/// How often the thread looks after the trainer.
const LOOK: Duration = Duration::from_millis(20);

/// Starts trainers of this pipeline.
pub(super) struct Trainers {
    process: Arc<dyn Process>,
    running: Option<Running>,
}

struct Running {
    results: Receiver<TrainResult>,
    stop: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Trainers {
    /// Trainers whose work lies in `folder`.
    ///
    /// # Errors
    /// The folder cannot be made or cleared.
    pub(super) fn new(folder: &Path) -> Result<Self, TrainError> {
        Ok(Self {
            process: Arc::new(LocalProcess::of_this_binary(folder)?),
            running: None,
        })
    }

    /// Starts a job; one at a time, an earlier one is stopped.
    pub(super) fn start(&mut self, job: Job, segments: Segments) -> std::io::Result<()> {
        let (sender, results) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (process, stopped) = (Arc::clone(&self.process), Arc::clone(&stop));
        std::thread::Builder::new().name("training".to_owned()).spawn(move || {
            let result = watch(&*process, &job, &segments, &stopped);
            // The engine is gone, or has given the job up: nobody waits for it.
            drop(sender.send(result));
        })?;
        self.running = Some(Running { results, stop });
        Ok(())
    }

    /// Ends the job under way, if there is one; its result is of no interest.
    pub(super) fn abandon(&mut self) {
        self.running = None;
    }

    /// The result of the job, once.
    pub(super) fn poll(&mut self) -> Option<TrainResult> {
        let running = self.running.as_ref()?;
        match running.results.try_recv() {
            Ok(result) => {
                self.running = None;
                Some(result)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.running = None;
                None
            }
        }
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
