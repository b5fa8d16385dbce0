//! Questions and orders to the brokers about topics.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Context;
use super::options::Connection;
use super::{ANSWER, explain};
use crate::error::{ConnectError, Fault};

/// What a topic is like.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Number of partitions.
    pub partitions: usize,
    /// Fewest replicas of any partition.
    pub replicas: usize,
    /// Its configuration; `None` when we may not read it, or the brokers do not tell.
    pub config: Option<HashMap<String, String>>,
}

impl Topic {
    /// A whole number of the configuration.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.config.as_ref()?.get(name)?.parse().ok()
    }
}

/// A client for questions and orders about topics. Every call takes at most about ten seconds.
pub struct Admin {
    client: AdminClient<Context>,
    place: String,
}

impl Admin {
    /// A client; connections are made when the first question is asked.
    ///
    /// # Errors
    /// Options that the client library refuses.
    pub fn connect(connection: &Connection, purpose: &str) -> Result<Self, ConnectError> {
        let place = format!("kafka {purpose} ({})", connection.brokers());
        let name = format!("driftmill-{purpose}-admin");
        // Uncommitted, because the end of a log is the end of all that is in it.
        let config = connection.client(&name, &[("isolation.level", "read_uncommitted")]);
        let client = config.create_with_context(connection.context(&name));
        let client = client.map_err(|error| explain(&place, &error, None))?;
        Ok(Self { client, place })
    }

    fn explain(&self, place: &str, error: &KafkaError) -> ConnectError {
        explain(
            &format!("{}, {place}", self.place),
            error,
            self.client.inner().context().last_error(),
        )
    }

    fn refused(&self, topic: &str, code: RDKafkaErrorCode) -> ConnectError {
        self.explain(&format!("topic `{topic}`"), &KafkaError::MetadataFetch(code))
    }

    /// A topic as it is, with its configuration, or `None` when it does not exist.
    ///
    /// # Errors
    /// Missing rights; brokers that do not answer.
    pub fn topic(&self, topic: &str) -> Result<Option<Topic>, ConnectError> {
        let Some((partitions, replicas)) = self.size(topic)? else {
            return Ok(None);
        };
        Ok(Some(Topic {
            partitions,
            replicas,
            config: self.config(topic)?,
        }))
    }

    /// Whether a topic exists.
    ///
    /// # Errors
    /// As [`Admin::topic`].
    pub fn has_topic(&self, topic: &str) -> Result<bool, ConnectError> {
        Ok(self.size(topic)?.is_some())
    }

    /// Number of partitions, and of replicas of the one that has fewest.
    fn size(&self, topic: &str) -> Result<Option<(usize, usize)>, ConnectError> {
        let metadata = self.client.inner().fetch_metadata(Some(topic), ANSWER);
        let metadata = metadata.map_err(|error| self.explain(&format!("topic `{topic}`"), &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => return Err(self.refused(topic, code)),
        }
        let partitions = found.partitions();
        let replicas = partitions
            .iter()
            .map(|partition| partition.replicas().len())
            .min()
            .unwrap_or(0);
        Ok(Some((partitions.len(), replicas)))
    }

    fn config(&self, topic: &str) -> Result<Option<HashMap<String, String>>, ConnectError> {
        let specifier = [ResourceSpecifier::Topic(topic)];
        let answer = block_on(self.client.describe_configs(&specifier, &options()));
        let answer = match answer {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => return Ok(None),
            other => other.map_err(|error| self.explain(&format!("topic `{topic}`"), &error))?,
        };
        match answer.into_iter().next() {
            Some(Ok(resource)) => {
                let entries = resource.entries.into_iter();
                Ok(Some(
                    entries.filter_map(|entry| Some((entry.name, entry.value?))).collect(),
                ))
            }
            Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) | None => Ok(None),
            Some(Err(code)) => Err(self.refused(topic, code)),
        }
    }

    /// Creates topics with the broker's default replication, and waits until they can be used. Topics that exist
    /// already are left as they are.
    ///
    /// # Errors
    /// Missing rights; a name or setting that the brokers refuse; brokers that do not answer.
    pub fn create_topics(&self, names: &[&str], partitions: i32, config: &[(&str, &str)]) -> Result<(), ConnectError> {
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| {
                let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
                config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let results = block_on(self.client.create_topics(&topics, &options()));
        for result in results.map_err(|error| self.explain("creating topics", &error))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(self.refused(&topic, code)),
            }
        }
        names.iter().try_for_each(|name| self.await_topic(name))
    }

    fn await_topic(&self, topic: &str) -> Result<(), ConnectError> {
        let asked = Instant::now();
        while asked.elapsed() < ANSWER {
            let metadata = self.client.inner().fetch_metadata(Some(topic), ANSWER);
            let metadata = metadata.map_err(|error| self.explain(&format!("topic `{topic}`"), &error))?;
            let led = |found: &rdkafka::metadata::MetadataTopic| {
                found.name() == topic
                    && found.error().is_none()
                    && !found.partitions().is_empty()
                    && found.partitions().iter().all(|partition| partition.leader() >= 0)
            };
            if metadata.topics().iter().any(led) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(self.refused(topic, RDKafkaErrorCode::LeaderNotAvailable))
    }

    /// Raises the number of partitions of a topic.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub fn add_partitions(&self, topic: &str, partitions: usize) -> Result<(), ConnectError> {
        let wanted = [NewPartitions::new(topic, partitions)];
        self.each(block_on(self.client.create_partitions(&wanted, &options())), topic)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub fn delete_topic(&self, topic: &str) -> Result<(), ConnectError> {
        self.each(block_on(self.client.delete_topics(&[topic], &options())), topic)
    }

    fn each(
        &self,
        results: KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>,
        topic: &str,
    ) -> Result<(), ConnectError> {
        for result in results.map_err(|error| self.explain(&format!("topic `{topic}`"), &error))? {
            result.map_err(|(topic, code)| self.refused(&topic, code))?;
        }
        Ok(())
    }

    /// Deletes the records of a partition below `offset`.
    ///
    /// # Errors
    /// Missing rights; brokers that do not answer.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<(), ConnectError> {
        let place = format!("topic `{topic}` partition {partition}");
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(topic, partition, Offset::Offset(offset));
        added.map_err(|error| self.explain(&place, &error))?;
        let results = block_on(self.client.delete_records(&list, &options()));
        for element in results.map_err(|error| self.explain(&place, &error))?.elements() {
            element.error().map_err(|error| self.explain(&place, &error))?;
        }
        Ok(())
    }

    /// Oldest offset and the offset after the newest record, committed or not.
    ///
    /// # Errors
    /// Brokers that do not answer.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), ConnectError> {
        let answer = self.client.inner().fetch_watermarks(topic, partition, ANSWER);
        answer.map_err(|error| self.explain(&format!("topic `{topic}` partition {partition}"), &error))
    }

    /// The error for something about `topic` that the operator has to change.
    pub(super) fn fault(&self, topic: &str, what: String, remedy: &str) -> ConnectError {
        self.fault_at(&format!("topic `{topic}`"), what, remedy)
    }

    /// The error for something else that the operator has to change.
    pub(super) fn fault_at(&self, place: &str, what: String, remedy: &str) -> ConnectError {
        ConnectError::new(Fault::Operator, format!("{}, {place}", self.place), what, remedy)
    }

    /// The client, for questions that are asked elsewhere.
    pub(super) fn client(&self) -> &AdminClient<Context> {
        &self.client
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer of the client, which has a thread and a time-out of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
