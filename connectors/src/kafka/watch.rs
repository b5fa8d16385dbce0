//! A thread beside the source that asks the brokers what the polling thread must not wait for: which partitions
//! there are now, and what a partition still holds after a position was refused.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::Consumer;
use crate::records::Partition;

/// How often partitions are looked for.
const PERIOD: Duration = Duration::from_secs(5);
/// How long one question may take; also the longest that the thread outlives its source.
const QUESTION: Duration = Duration::from_secs(2);
/// A topic counts as deleted when so many looks in a row did not find it.
const LOOKS: u32 = 3;

/// What the thread found.
pub(super) enum Notice {
    /// The partitions that a topic has.
    Partitions(Vec<Partition>),
    /// A topic was not there for several looks in a row.
    Missing(u16),
    /// Oldest offset and offset after the newest record of a partition that was asked about.
    Bounds(Partition, i64, i64),
}

/// The source's side.
pub(super) struct Watcher {
    asks: Sender<Partition>,
    notices: Receiver<Notice>,
}

impl Watcher {
    /// Starts the thread. It ends by itself when the watcher is dropped.
    pub(super) fn start(consumer: Arc<Consumer>, topics: Vec<String>) -> std::io::Result<Self> {
        let (asks, questions) = mpsc::channel();
        let (found, notices) = mpsc::channel();
        let mut thread = Thread {
            consumer,
            missed: vec![0; topics.len()],
            topics,
            questions,
            found,
            open: Vec::new(),
        };
        thread::Builder::new()
            .name("kafka-watch".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self { asks, notices })
    }

    /// Asks for the bounds of a partition; asked until it is answered.
    pub(super) fn ask(&self, partition: Partition) {
        // The thread lives as long as this does; were it gone, the position would only stay unresolved.
        let _ = self.asks.send(partition);
    }

    /// The next notice, if there is one.
    pub(super) fn next(&self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }
}

struct Thread {
    consumer: Arc<Consumer>,
    topics: Vec<String>,
    missed: Vec<u32>,
    questions: Receiver<Partition>,
    found: Sender<Notice>,
    open: Vec<Partition>,
}

impl Thread {
    fn run(&mut self) {
        let mut look_at = Instant::now() + PERIOD;
        loop {
            let wait = if self.open.is_empty() {
                PERIOD
            } else {
                Duration::from_millis(200)
            };
            match self
                .questions
                .recv_timeout(wait.min(look_at.saturating_duration_since(Instant::now())))
            {
                Ok(partition) => self.open.push(partition),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let mut alive = self.answer();
            if Instant::now() >= look_at {
                alive = alive && self.look();
                look_at = Instant::now() + PERIOD;
            }
            if !alive {
                return;
            }
        }
    }

    /// Whether the source still listens.
    fn answer(&mut self) -> bool {
        for partition in std::mem::take(&mut self.open) {
            let topic = &self.topics[usize::from(partition.topic)];
            match self.consumer.fetch_watermarks(topic, partition.partition, QUESTION) {
                Ok((oldest, newest)) => {
                    if self.found.send(Notice::Bounds(partition, oldest, newest)).is_err() {
                        return false;
                    }
                }
                Err(_) => self.open.push(partition),
            }
        }
        true
    }

    fn look(&mut self) -> bool {
        for index in 0..self.topics.len() {
            // Brokers away are no news: the topic is looked for again.
            let Ok(answer) = partitions(&self.consumer, &self.topics[index], QUESTION) else {
                continue;
            };
            let topic = u16::try_from(index).unwrap_or(u16::MAX);
            self.missed[index] = if answer.is_some() { 0 } else { self.missed[index] + 1 };
            let notice = match answer {
                Some(numbers) => Notice::Partitions(
                    numbers
                        .into_iter()
                        .map(|partition| Partition { topic, partition })
                        .collect(),
                ),
                None if self.missed[index] >= LOOKS => Notice::Missing(topic),
                None => continue,
            };
            if self.found.send(notice).is_err() {
                return false;
            }
        }
        true
    }
}

/// The partitions of a topic in order, or `None` when there is no such topic.
pub(super) fn partitions(consumer: &Consumer, topic: &str, wait: Duration) -> Result<Option<Vec<i32>>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), wait)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
        Some(code) => return Err(KafkaError::MetadataFetch(code)),
    }
    let mut numbers: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
    numbers.sort_unstable();
    Ok(Some(numbers))
}
