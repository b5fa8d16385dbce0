//! The epoch log as a Kafka topic: one partition, never compacted, never expired, written in the same transactions
//! as the outputs. The key of a record is the epoch's number in decimal, its payload the epoch's record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::admin::{Admin, Topic};
use super::context::close;
use super::explain;
use super::native::Intake;
use super::options::Connection;
use super::rights::{self, Operation};
use super::source::consumer;
use crate::check::Finding;
use crate::error::{ConnectError, Fault};

/// How long the log may show no progress while it is read.
const STALL: Duration = Duration::from_secs(30);

/// Receives the epoch of a record's key and its payload, and answers with the number of the epoch.
type Each<'a> = dyn FnMut(Option<u64>, &[u8]) -> Result<u64, ConnectError> + 'a;

/// Name of the topic that holds the epoch log of a pipeline.
#[must_use]
pub fn topic_name(pipeline: &str) -> String {
    format!("driftmill.{pipeline}.epochs")
}

/// Reads and trims the log. Writing is the producer's part.
pub(super) struct EpochLog {
    connection: Connection,
    group: String,
    topic: String,
    place: String,
    /// Everything below has been read.
    position: i64,
    /// Where each epoch's record is, of those that were read and not trimmed.
    offsets: BTreeMap<u64, i64>,
}

impl EpochLog {
    pub(super) fn new(connection: &Connection, pipeline: &str) -> Self {
        let topic = topic_name(pipeline);
        let place = format!("kafka sink ({}), epoch log `{topic}`", connection.brokers());
        let group = format!("driftmill-{pipeline}");
        Self {
            connection: connection.clone(),
            group,
            topic,
            place,
            position: 0,
            offsets: BTreeMap::new(),
        }
    }

    /// Makes the topic when it is missing, and refuses one that would lose epochs.
    pub(super) fn prepare(&self) -> Result<(), ConnectError> {
        let admin = Admin::connect(&self.connection, "sink")?;
        if admin.topic(&self.topic)?.is_none() {
            admin.create_topics(
                &[&self.topic],
                1,
                &[
                    ("cleanup.policy", "delete"),
                    ("retention.ms", "-1"),
                    ("retention.bytes", "-1"),
                ],
            )?;
        }
        let topic = admin.topic(&self.topic)?;
        match topic.as_ref().and_then(fault) {
            Some((what, remedy)) => Err(admin.fault(&self.topic, what, remedy)),
            None => Ok(()),
        }
    }

    /// What `prepare` would refuse, and rights that are missing, without making anything.
    pub(super) fn check(&self, admin: &Admin) -> Result<Vec<Finding>, ConnectError> {
        let topic = match admin.topic(&self.topic) {
            Ok(Some(topic)) => topic,
            Ok(None) => return Ok(rights::of_creation(admin, &self.topic).into_iter().collect()),
            Err(error) if error.fault == Fault::Operator => return Ok(vec![Finding::Error(error.to_string())]),
            Err(error) => return Err(error),
        };
        let fault = fault(&topic).map(|(what, remedy)| admin.fault(&self.topic, what, remedy));
        // It is written with the outputs, read at the start, and trimmed.
        let needed = [Operation::Write, Operation::Read, Operation::Delete];
        let right = rights::of_topic(admin, &self.topic, &needed);
        let fault = fault.map(|fault| Finding::Error(fault.to_string()));
        Ok(fault.into_iter().chain(right).collect())
    }

    /// Hands every record that was not read yet to `each`, oldest first: the epoch of its key, and its payload.
    pub(super) fn read(&mut self, each: &mut Each<'_>) -> Result<(), ConnectError> {
        let (oldest, end) = Admin::connect(&self.connection, "sink")?.bounds(&self.topic, 0)?;
        self.position = self.position.max(oldest);
        if self.position >= end {
            return Ok(());
        }
        let fault = |error: KafkaError| explain(&self.place, &error, None);
        let mut intake = Intake::new(consumer(&self.connection, &self.group).map_err(fault)?).map_err(fault)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(self.position))
            .map_err(fault)?;
        intake.consumer().assign(&list).map_err(fault)?;
        let begin = self.position;
        let result = self.read_from(&mut intake, end, each);
        close(intake);
        if result.is_err() {
            self.position = begin;
        }
        result
    }

    fn read_from(&mut self, intake: &mut Intake, end: i64, each: &mut Each<'_>) -> Result<(), ConnectError> {
        let mut moved = Instant::now();
        while self.position < end {
            let before = self.position;
            for message in intake.fetch(Duration::from_millis(100)).iter() {
                match message.error() {
                    None => {
                        let epoch = each(number(message.key()), message.payload().unwrap_or_default())?;
                        self.offsets.insert(epoch, message.offset());
                        self.position = message.offset() + 1;
                    }
                    // The end of what is committed: markers of transactions are behind it.
                    Some(RDKafkaErrorCode::PartitionEOF) => self.position = self.position.max(message.offset()),
                    Some(code) => return Err(explain(&self.place, &KafkaError::MessageConsumption(code), None)),
                }
            }
            intake.drain_logs();
            if self.position > before {
                moved = Instant::now();
            } else if moved.elapsed() > STALL {
                let what = format!("reading stopped at offset {} of {end} for {STALL:?}", self.position);
                let remedy = "check the brokers; a transaction of another program may be open on this topic";
                return Err(ConnectError::new(Fault::Environment, &self.place, what, remedy));
            }
        }
        Ok(())
    }

    /// Deletes the records of epochs below `epoch`; the newest record always stays.
    pub(super) fn trim(&mut self, epoch: u64) -> Result<(), ConnectError> {
        self.read(&mut |key, _| key.ok_or_else(unnumbered))?;
        let newest = self.offsets.last_key_value().map(|(&newest, _)| newest);
        let Some((&kept, &offset)) = newest.and_then(|newest| self.offsets.range(epoch.min(newest)..).next()) else {
            return Ok(());
        };
        if self.offsets.first_key_value().is_some_and(|(&oldest, _)| oldest < kept) {
            Admin::connect(&self.connection, "sink")?.delete_records(&self.topic, 0, offset)?;
            self.offsets = self.offsets.split_off(&kept);
        }
        Ok(())
    }
}

/// A record in the log that Driftmill did not write.
fn unnumbered() -> ConnectError {
    let what = "a record of the epoch log has no epoch number as its key";
    ConnectError::new(
        Fault::Operator,
        "epoch log",
        what,
        "nothing but Driftmill may write to this topic",
    )
}

/// The key of an epoch's record.
pub(super) fn key(epoch: u64) -> String {
    epoch.to_string()
}

fn number(key: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(key?).ok()?.parse().ok()
}

/// Why a topic cannot be an epoch log, and what to do.
fn fault(topic: &Topic) -> Option<(String, &'static str)> {
    let setting = |name: &str| {
        topic
            .config
            .as_ref()
            .and_then(|config| config.get(name))
            .map(String::as_str)
    };
    if topic.partitions != 1 {
        let what = format!("an epoch log has one partition, this topic has {}", topic.partitions);
        return Some((what, "delete the topic; it is made anew when the pipeline starts"));
    }
    if setting("cleanup.policy").is_some_and(|policy| policy != "delete") {
        return Some((
            "compaction would remove epochs".to_owned(),
            "set cleanup.policy=delete on this topic",
        ));
    }
    if setting("retention.ms").is_some_and(|retention| retention != "-1") {
        return Some(("epochs would expire".to_owned(), "set retention.ms=-1 on this topic"));
    }
    if setting("retention.bytes").is_some_and(|retention| retention != "-1") {
        return Some((
            "epochs would be removed by size".to_owned(),
            "set retention.bytes=-1 on this topic",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(partitions: usize, config: &[(&str, &str)]) -> Topic {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Topic {
            partitions,
            replicas: 1,
            config: Some(config),
        }
    }

    #[test]
    fn a_topic_that_would_lose_epochs_is_refused() {
        let good = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
        ];
        assert!(fault(&topic(1, &good)).is_none());
        assert!(fault(&topic(2, &good)).is_some());
        assert!(
            fault(&topic(1, &[("cleanup.policy", "compact")]))
                .unwrap()
                .0
                .contains("compaction")
        );
        assert!(fault(&topic(1, &[("cleanup.policy", "compact,delete")])).is_some());
        assert!(
            fault(&topic(1, &[("retention.ms", "604800000")]))
                .unwrap()
                .0
                .contains("expire")
        );
        assert!(fault(&topic(1, &[("retention.bytes", "1000")])).is_some());
    }

    #[test]
    fn keys_are_numbers() {
        assert_eq!(number(Some(key(u64::MAX).as_bytes())), Some(u64::MAX));
        assert_eq!(number(Some(b"x")), None);
        assert_eq!(number(None), None);
    }
}
