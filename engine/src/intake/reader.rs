//! The thread that owns a source: it polls, keeps the buffered bytes bounded, and hands events over.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use driftmill_connectors::{ConnectError, Fault, OpenSource, Partition, Source, SourceEvent, Start};

use super::Stream;

/// Longest wait in one poll: how soon commands and the end are noticed.
const POLL: Duration = Duration::from_millis(20);
/// Between two attempts to assign partitions.
const AGAIN: Duration = Duration::from_millis(100);

/// A partition, the oldest offset that it holds, and the offset after its newest.
pub type PartitionBounds = (Partition, i64, i64);

/// What a reader says.
pub enum ReaderEvent {
    /// Something happened in the source.
    Source(Stream, SourceEvent),
    /// The source cannot go on.
    Failed(Stream, ConnectError),
}

enum Command {
    Assign(Vec<(Partition, Start)>),
}

/// Shared between the reader's thread and the engine.
#[derive(Default)]
struct Shared {
    /// Bytes handed over and not yet taken into an epoch, set by the engine.
    buffered: AtomicUsize,
    /// Set while a lane is empty that the others wait for: then nothing is held back.
    starving: AtomicBool,
    stop: AtomicBool,
    troubles: AtomicU64,
    /// Records that the source has not delivered.
    lag: AtomicI64,
    /// Records delivered and not yet taken into an epoch.
    waiting: AtomicI64,
}

/// The engine's side.
pub struct ReaderHandle {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    /// The partitions' bounds when the source was connected, until the first assignment.
    bounds: Mutex<Vec<PartitionBounds>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's side.
pub struct Reader {
    stream: Stream,
    source: Box<dyn Source>,
    commands: Receiver<Command>,
    events: Sender<ReaderEvent>,
    shared: Arc<Shared>,
    buffered_max: usize,
    /// Positions that are to be assigned.
    wanted: Option<Vec<(Partition, Start)>>,
    assigned: bool,
}

impl Reader {
    /// Connects the source and starts its thread. Nothing is read before [`ReaderHandle::assign`].
    ///
    /// # Errors
    /// Those of connecting, and a system that gives no thread.
    pub fn spawn(
        stream: Stream,
        source: &dyn OpenSource,
        events: Sender<ReaderEvent>,
        buffered_max: usize,
    ) -> Result<(ReaderHandle, Vec<PartitionBounds>), ConnectError> {
        let mut source = source.connect()?;
        let partitions = source.partitions()?;
        let mut bounds = Vec::with_capacity(partitions.len());
        for &partition in &partitions {
            let (oldest, newest) = source.bounds(partition)?;
            bounds.push((partition, oldest, newest));
        }
        let shared = Arc::new(Shared::default());
        let (sender, commands) = channel();
        let reader = Reader {
            stream,
            source,
            commands,
            events,
            shared: Arc::clone(&shared),
            buffered_max,
            wanted: None,
            assigned: false,
        };
        let name = match stream {
            Stream::Source => "source",
            Stream::Labels => "labels",
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || reader.run())
            .map_err(|error| {
                ConnectError::new(
                    Fault::Environment,
                    name,
                    format!("the system gives no thread: {error}"),
                    "raise the limit on threads",
                )
            })?;
        let handle = ReaderHandle {
            commands: sender,
            shared,
            bounds: Mutex::new(bounds.clone()),
            thread: Some(thread),
        };
        Ok((handle, bounds))
    }

    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            if let Err(error) = self.turn() {
                // The engine is gone when nobody listens; then there is nobody to tell.
                let _ = self.events.send(ReaderEvent::Failed(self.stream, error));
                return;
            }
        }
    }

    fn turn(&mut self) -> Result<(), ConnectError> {
        match self.commands.try_recv() {
            Ok(Command::Assign(positions)) => self.wanted = Some(positions),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.shared.stop.store(true, Ordering::Release),
        }
        if let Some(positions) = self.wanted.take() {
            match self.source.assign(&positions) {
                Ok(()) => self.assigned = true,
                // A source that is away for a moment is no reason to end; nothing has been assigned yet.
                Err(error) if error.fault == Fault::Environment => {
                    tracing::warn!(%error, "assigning partitions again");
                    self.wanted = Some(positions);
                    std::thread::sleep(AGAIN);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let full = self.shared.buffered.load(Ordering::Acquire) >= self.buffered_max
            && !self.shared.starving.load(Ordering::Acquire);
        if full || !self.assigned {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        if let Some(event) = self.source.poll(POLL)? {
            if let SourceEvent::Records(records) = &event {
                self.shared.buffered.fetch_add(records.bytes(), Ordering::AcqRel);
                let rows = i64::try_from(records.len()).unwrap_or(i64::MAX);
                self.shared.waiting.fetch_add(rows, Ordering::AcqRel);
            }
            if self.events.send(ReaderEvent::Source(self.stream, event)).is_err() {
                self.shared.stop.store(true, Ordering::Release);
            }
        }
        self.shared.troubles.store(self.source.troubles(), Ordering::Relaxed);
        let lag = self.source.lag().into_iter().map(|(_, lag)| lag).sum();
        self.shared.lag.store(lag, Ordering::Release);
        Ok(())
    }
}

impl ReaderHandle {
    /// Reads exactly these partitions from these positions on.
    pub fn assign(&self, positions: Vec<(Partition, Start)>) {
        let bounds = std::mem::take(&mut *self.bounds.lock().unwrap_or_else(PoisonError::into_inner));
        if !bounds.is_empty() {
            // Before its first turn the thread has told no lag, and none would look like the end.
            self.shared.lag.store(lag_of(&positions, &bounds), Ordering::Release);
        }
        // A thread that has ended has said why as an event.
        let _ = self.commands.send(Command::Assign(positions));
    }

    /// Tells how much waits for an epoch, and whether a lane starves.
    pub fn report(&self, buffered: usize, starving: bool) {
        self.shared.buffered.store(buffered, Ordering::Release);
        self.shared.starving.store(starving, Ordering::Release);
    }

    /// Tells that an epoch has taken so many records.
    pub fn taken(&self, rows: usize) {
        self.shared
            .waiting
            .fetch_sub(i64::try_from(rows).unwrap_or(i64::MAX), Ordering::AcqRel);
    }

    /// Records between what epochs have taken and the end of the partitions, as last known.
    #[must_use]
    pub fn lag(&self) -> i64 {
        // In this order: what moves from the one to the other in between is counted twice rather than not at all.
        let undelivered = self.shared.lag.load(Ordering::Acquire);
        undelivered + self.shared.waiting.load(Ordering::Acquire)
    }

    /// Temporary troubles that were retried.
    #[must_use]
    pub fn troubles(&self) -> u64 {
        self.shared.troubles.load(Ordering::Relaxed)
    }
}

/// Records between positions and the ends of their partitions.
fn lag_of(positions: &[(Partition, Start)], bounds: &[PartitionBounds]) -> i64 {
    let behind = |&(partition, oldest, newest): &PartitionBounds| {
        let (_, start) = positions.iter().find(|(assigned, _)| *assigned == partition)?;
        Some(match start {
            Start::Oldest => newest - oldest,
            Start::Newest => 0,
            Start::Offset(next) => (newest - next).max(0),
        })
    };
    bounds.iter().filter_map(behind).sum()
}

impl Drop for ReaderHandle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has printed itself; there is nothing to add while leaving.
            let _ = thread.join();
        }
    }
}
