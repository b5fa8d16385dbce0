//! Messages of one fetch sorted into records of each partition and events; each partition's cursor moves along.

use std::collections::BTreeMap;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::native::Fetched;
use super::{explain, is_permanent};
use crate::error::ConnectError;
use crate::records::{Partition, Record, Records};

/// What is being done with a partition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Records are fetched.
    Reading,
    /// Given back until `resume`.
    Paused,
    /// The broker refused the position; whether it is really gone is being asked.
    Doubtful,
    /// A gap was reported. Nothing is read until the partition is assigned again.
    Gone,
}

/// Where a partition is being read.
pub(super) struct Cursor {
    /// The offset that the owner is due next.
    pub(super) next: i64,
    /// The offset that the consumer is due next.
    pub(super) fetched: i64,
    /// The end of the partition when it was assigned: what is known of the lag until the client has asked.
    pub(super) end: i64,
    /// What is being done with it.
    pub(super) state: State,
}

/// Messages of one fetch on their way into events.
pub(super) struct Sorter<'a> {
    topics: &'a [String],
    cursors: &'a mut BTreeMap<Partition, Cursor>,
    place: &'a str,
    /// Identity of topic and partition of the message before, and the index of its records in `open`; `None` for
    /// a partition that is not being read.
    run: Option<((usize, i32), Option<usize>)>,
    /// Records by partition.
    pub(super) open: Vec<Records>,
    /// Partitions that were read to their end, and the position there.
    pub(super) ends: Vec<(Partition, i64)>,
    /// Partitions whose position the broker refused.
    pub(super) doubtful: Vec<Partition>,
    /// What will not heal by waiting.
    pub(super) trouble: Option<ConnectError>,
}

impl<'a> Sorter<'a> {
    /// Sorts for these topics; `place` is for errors.
    pub(super) fn new(topics: &'a [String], cursors: &'a mut BTreeMap<Partition, Cursor>, place: &'a str) -> Self {
        let (open, ends, doubtful) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            topics,
            cursors,
            place,
            run: None,
            open,
            ends,
            doubtful,
            trouble: None,
        }
    }

    /// Takes a message.
    pub(super) fn put(&mut self, message: &Fetched<'_>) {
        if let Some(code) = message.error() {
            self.put_error(code, message);
            return;
        }
        let place = message.place();
        let index = match self.run {
            Some((last, index)) if last == place => index,
            _ => self.find(message),
        };
        self.run = Some((place, index));
        let Some(index) = index else { return };
        let partition = self.open[index].partition();
        let Some(cursor) = self.cursors.get_mut(&partition) else {
            return;
        };
        let offset = message.offset();
        // What was fetched before the partition was given back and taken again.
        if offset < cursor.fetched {
            return;
        }
        let record = Record {
            offset,
            timestamp_ms: message.timestamp_ms(),
            key: message.key(),
            payload: message.payload(),
        };
        if !self.open[index].push(record) {
            self.open.push(Records::new(partition));
            let index = self.open.len() - 1;
            self.open[index].push(record);
            self.run = Some((place, Some(index)));
        }
        cursor.fetched = offset + 1;
    }

    /// Where records of the message's partition go.
    fn find(&mut self, message: &Fetched<'_>) -> Option<usize> {
        let partition = self.partition(message)?;
        if self.cursors.get(&partition)?.state != State::Reading {
            return None;
        }
        let open = self.open.iter().rposition(|records| records.partition() == partition);
        Some(open.unwrap_or_else(|| {
            self.open.push(Records::new(partition));
            self.open.len() - 1
        }))
    }

    fn partition(&self, message: &Fetched<'_>) -> Option<Partition> {
        let name = message.topic();
        let topic = self.topics.iter().position(|topic| topic == name)?;
        Some(Partition {
            topic: u16::try_from(topic).ok()?,
            partition: message.partition(),
        })
    }

    fn put_error(&mut self, code: RDKafkaErrorCode, message: &Fetched<'_>) {
        let partition = self.partition(message);
        let cursor = partition.and_then(|partition| self.cursors.get_mut(&partition));
        if let (Some(partition), Some(cursor)) = (partition, cursor) {
            match code {
                RDKafkaErrorCode::PartitionEOF => {
                    if cursor.state == State::Reading && message.offset() >= cursor.fetched {
                        cursor.fetched = message.offset();
                        self.ends.push((partition, message.offset()));
                    }
                    return;
                }
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    if cursor.state == State::Reading {
                        cursor.state = State::Doubtful;
                        self.doubtful.push(partition);
                        self.run = None;
                    }
                    return;
                }
                _ => {}
            }
        }
        self.put_trouble(code, message);
    }

    fn put_trouble(&mut self, code: RDKafkaErrorCode, message: &Fetched<'_>) {
        let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        let place = format!(
            "{}, topic `{}` partition {} offset {}",
            self.place,
            message.topic(),
            message.partition(),
            message.offset()
        );
        // The client goes on behind a batch that it cannot read: that would be a silent gap.
        let skips = matches!(
            code,
            RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::NotImplemented
                | RDKafkaErrorCode::InvalidMessage
        );
        // Brokers that start up may not know a topic for a moment; one that stays away is found by the watcher.
        let unknown = matches!(
            code,
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition
        );
        if skips || (is_permanent(code) && !unknown) {
            self.trouble
                .get_or_insert_with(|| explain(&place, &KafkaError::MessageConsumption(code), Some(text)));
        } else {
            tracing::warn!(%place, ?code, "{text}");
        }
    }
}
