//! The world as two topics in memory: payments and outcomes, each with one partition.
//!
//! Time goes by in slices. All records of a slice carry its last millisecond, as in a log that stamps what is appended to
//! it, so an epoch is one slice whatever the threads do: which payments and outcomes it holds depends on the seed alone.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftmill_connectors::{
    ConnectError, Fault, OpenSource, Partition, Record, Records, Source, SourceCheck, SourceEvent, Start,
};

use crate::generator::{Payments, Produced, Topic};

/// Event time of a slice, in milliseconds.
pub(super) const SLICE_MS: i64 = 10;
/// Slices made ahead of the slower reader: bounds what waits here.
const AHEAD_MAX: usize = 64;
/// The one partition of each topic.
const PARTITION: Partition = Partition { topic: 0, partition: 0 };

/// The records of a world, up to its end, for the two readers of an engine.
pub(super) struct Tape {
    state: Mutex<State>,
    /// Something was taken or made.
    moved: Condvar,
    end_ms: i64,
}

struct State {
    payments: Payments,
    /// Memory of the record that is made.
    record: Produced,
    /// First millisecond of the next slice.
    next_ms: i64,
    lanes: [Lane; 2],
}

/// One topic.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Records>,
    /// Offset of the next record to be made.
    next: i64,
    /// Offset of the next record to be taken.
    taken: i64,
    /// Whether its end was told.
    ended: bool,
}

fn index(topic: Topic) -> usize {
    match topic {
        Topic::Payments => 0,
        Topic::Outcomes => 1,
    }
}

impl Tape {
    /// The records of `payments` before `end_ms`, in milliseconds since 1970.
    pub(super) fn new(payments: Payments, end_ms: i64) -> Self {
        let next_ms = payments.config().start_ms;
        Self {
            state: Mutex::new(State {
                payments,
                record: Produced::default(),
                next_ms,
                lanes: <[Lane; 2]>::default(),
            }),
            moved: Condvar::new(),
            end_ms,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of records, payments and outcomes, once all are made.
    pub(super) fn written(&self) -> Option<u64> {
        let state = self.lock();
        let all: i64 = state.lanes.iter().map(|lane| lane.next).sum();
        (state.next_ms >= self.end_ms).then(|| u64::try_from(all).unwrap_or_default())
    }

    fn poll(&self, topic: Topic, wait: Duration) -> Option<SourceEvent> {
        let (own, other) = (index(topic), 1 - index(topic));
        let mut state = self.lock();
        loop {
            if let Some(records) = state.lanes[own].waiting.pop_front() {
                state.lanes[own].taken += i64::try_from(records.len()).unwrap_or_default();
                self.moved.notify_all();
                return Some(SourceEvent::Records(records));
            }
            let over = state.next_ms >= self.end_ms;
            if over && !state.lanes[own].ended {
                state.lanes[own].ended = true;
                let next = state.lanes[own].next;
                return Some(SourceEvent::End {
                    partition: PARTITION,
                    next,
                });
            }
            if !over && state.lanes[other].waiting.len() < AHEAD_MAX {
                state.make_slice(self.end_ms);
                self.moved.notify_all();
                continue;
            }
            let waited = self.moved.wait_timeout(state, wait);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return None;
            }
            state = woken;
        }
    }
}

impl State {
    fn make_slice(&mut self, end_ms: i64) {
        let until_ms = (self.next_ms + SLICE_MS).min(end_ms);
        let mut slices = [Records::new(PARTITION), Records::new(PARTITION)];
        while self.payments.next_at_ms() < until_ms {
            self.payments.advance(&mut self.record);
            let lane = index(self.record.topic);
            // A slice is far from 4 GiB, where a record would be refused.
            slices[lane].push(Record {
                offset: self.lanes[lane].next,
                timestamp_ms: until_ms - 1,
                key: Some(&self.record.key),
                payload: Some(&self.record.payload),
            });
            self.lanes[lane].next += 1;
        }
        for (lane, records) in self.lanes.iter_mut().zip(slices) {
            if !records.is_empty() {
                lane.waiting.push_back(records);
            }
        }
        self.next_ms = until_ms;
    }
}

/// One topic of a tape, in the place of the source that the configuration names.
pub(super) struct TapeSource {
    tape: Arc<Tape>,
    topic: Topic,
    topics: Vec<String>,
}

impl TapeSource {
    /// `topics` as the configuration names them.
    pub(super) fn new(tape: Arc<Tape>, topic: Topic, topics: &[String]) -> Self {
        Self {
            tape,
            topic,
            topics: topics.to_vec(),
        }
    }
}

impl OpenSource for TapeSource {
    fn connect(&self) -> Result<Box<dyn Source>, ConnectError> {
        Ok(Box::new(Self::new(Arc::clone(&self.tape), self.topic, &self.topics)))
    }

    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn start(&self) -> Start {
        Start::Oldest
    }

    fn check(&self) -> Result<SourceCheck, ConnectError> {
        Ok(SourceCheck::default())
    }
}

impl Source for TapeSource {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, ConnectError> {
        Ok(vec![PARTITION])
    }

    fn bounds(&mut self, _partition: Partition) -> Result<(i64, i64), ConnectError> {
        let state = self.tape.lock();
        let lane = &state.lanes[index(self.topic)];
        Ok((lane.taken, lane.next))
    }

    fn assign(&mut self, positions: &[(Partition, Start)]) -> Result<(), ConnectError> {
        let taken = self.tape.lock().lanes[index(self.topic)].taken;
        let fits = |(_, start): &(Partition, Start)| matches!(start, Start::Offset(offset) if *offset == taken);
        if positions.iter().all(fits) {
            return Ok(());
        }
        let what = format!("the engine asks for {positions:?}, and the tape stands at {taken}");
        let remedy = "a simulated world runs once, from its beginning";
        Err(ConnectError::new(Fault::Internal, "simulated source", what, remedy))
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<SourceEvent>, ConnectError> {
        Ok(self.tape.poll(self.topic, wait))
    }

    fn pause(&mut self, _partitions: &[Partition]) -> Result<(), ConnectError> {
        Ok(())
    }

    fn resume(&mut self, _partitions: &[Partition]) -> Result<(), ConnectError> {
        Ok(())
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        let state = self.tape.lock();
        let lane = &state.lanes[index(self.topic)];
        vec![(PARTITION, lane.next - lane.taken)]
    }

    fn troubles(&self) -> u64 {
        0
    }
}
