//! Group offsets for lag tools, published beside the deliveries: best effort, newest first, one request at a time, on a
//! thread of their own. No commit waits for them and nothing reads them: the epoch log says where the pipeline stands
//! (docs/adr/0005).

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{CLOSE, Consumer, close};
use super::options::Connection;
use super::source::consumer;
use crate::sink::Unit;

/// Offsets are published at most so often.
const PERIOD: Duration = Duration::from_secs(1);
/// Events of the consumer that are served in one turn: a broker that is away makes some each second.
const EVENTS: usize = 64;

/// The sink's side. The thread publishes what is left and ends with this value, or is left to itself after a moment.
pub(super) struct GroupOffsets {
    shared: Arc<Shared>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Next offset to read, by topic and partition.
type Due = BTreeMap<(String, i32), i64>;

#[derive(Default)]
struct State {
    /// What was committed and not published yet; the newest of each partition.
    due: Due,
    closing: bool,
}

impl GroupOffsets {
    /// Starts the thread that publishes offsets of the group `group`.
    ///
    /// # Errors
    /// Options that the client library refuses; a system that gives no thread.
    pub(super) fn start(connection: &Connection, group: &str) -> Result<Self, KafkaError> {
        let shared = Arc::new(Shared::default());
        let (alive, ended) = mpsc::channel();
        let mut publisher = Publisher {
            consumer: Some(consumer(connection, group)?),
            connection: connection.clone(),
            group: group.to_owned(),
            shared: Arc::clone(&shared),
        };
        let spawned = thread::Builder::new().name("kafka-group".to_owned()).spawn(move || {
            let _alive = alive;
            publisher.run();
        });
        spawned
            .map_err(|error: io::Error| KafkaError::ClientCreation(format!("no thread could be started: {error}")))?;
        Ok(Self { shared, ended })
    }

    /// Notes the offsets of committed epochs. Never waits.
    pub(super) fn publish(&self, units: &[Unit]) {
        let mut state = self.shared.lock();
        for (topic, partition, next) in units.iter().flat_map(|unit| &unit.offsets) {
            state.due.insert((topic.clone(), *partition), *next);
        }
    }

    /// Tells the thread to publish what is left and to end, without waiting for it.
    pub(super) fn end(&self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for GroupOffsets {
    fn drop(&mut self) {
        self.end();
        if self.ended.recv_timeout(CLOSE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the last group offsets were not published within {CLOSE:?}; lag tools show older ones");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the period, or the end of all; what is due then, and whether this is the end.
    fn next(&self) -> (Due, bool) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, PERIOD, |state| !state.closing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.due), state.closing)
    }

    /// Notes again what could not be published, unless it is outdated by now.
    fn put_back(&self, unpublished: Due) {
        let mut state = self.lock();
        let newer = std::mem::replace(&mut state.due, unpublished);
        state.due.extend(newer);
    }
}

struct Publisher {
    connection: Connection,
    group: String,
    /// `None` after one was given up, until the next request.
    consumer: Option<Consumer>,
    shared: Arc<Shared>,
}

impl Publisher {
    fn run(&mut self) {
        loop {
            let (due, last) = self.shared.next();
            if !due.is_empty() && !self.publish(&due) {
                self.shared.put_back(due);
            }
            if last {
                return;
            }
            self.serve();
        }
    }

    /// Whether the brokers have taken these offsets.
    ///
    /// The call waits for the answer, as long as librdkafka does: about a minute. An asynchronous one has no answer at
    /// all: librdkafka reports it to a callback that rust-rdkafka, which works with events, never sets.
    fn publish(&mut self, due: &Due) -> bool {
        let Err(error) = self.request(due) else { return true };
        if let Some(consumer) = self.consumer.take() {
            let what = format!("{error}; lag tools show older offsets");
            consumer.context().trouble("group-offsets", &what);
            close(consumer);
        }
        false
    }

    fn request(&mut self, due: &Due) -> Result<(), KafkaError> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => consumer(&self.connection, &self.group)?,
        };
        let consumer = self.consumer.insert(consumer);
        let mut list = TopicPartitionList::new();
        for ((topic, partition), next) in due {
            list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
        }
        consumer.commit(&list, CommitMode::Sync)
    }

    /// Serves what the consumer has to tell, so that it does not pile up in its queue.
    fn serve(&self) {
        let Some(consumer) = &self.consumer else { return };
        for _ in 0..EVENTS {
            if consumer.poll(Duration::ZERO).is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(offsets: &[(&str, i32, i64)]) -> Unit {
        let own = |&(topic, partition, next): &(&str, i32, i64)| (topic.to_owned(), partition, next);
        Unit {
            epoch: 1,
            outputs: Vec::new(),
            record: Vec::new(),
            offsets: offsets.iter().map(own).collect(),
        }
    }

    fn flat(due: &Due) -> Vec<(&str, i32, i64)> {
        due.iter()
            .map(|((topic, partition), next)| (topic.as_str(), *partition, *next))
            .collect()
    }

    /// Without a thread: nobody takes what is due.
    fn unpublished() -> GroupOffsets {
        GroupOffsets {
            shared: Arc::default(),
            ended: mpsc::channel().1,
        }
    }

    #[test]
    fn only_the_newest_offset_of_a_partition_is_published() {
        let group = unpublished();
        group.publish(&[unit(&[("a", 0, 5), ("a", 1, 7)]), unit(&[("a", 0, 9)])]);
        group.publish(&[unit(&[("b", 0, 1)])]);
        group.end();
        let (due, last) = group.shared.next();
        assert_eq!(flat(&due), [("a", 0, 9), ("a", 1, 7), ("b", 0, 1)]);
        assert!(last && group.shared.next().0.is_empty());
    }

    #[test]
    fn what_was_not_taken_is_due_again_unless_something_newer_is() {
        let group = unpublished();
        group.publish(&[unit(&[("a", 0, 5), ("a", 1, 7)])]);
        group.end();
        let (due, _) = group.shared.next();
        group.publish(&[unit(&[("a", 0, 9)])]);
        group.shared.put_back(due);
        assert_eq!(flat(&group.shared.next().0), [("a", 0, 9), ("a", 1, 7)]);
    }
}
