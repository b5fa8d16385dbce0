//! A plain producer for generators and tools: keeps order, waits while its queue is full.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::{Failure, close};
use super::native::Outlet;
use super::options::Connection;
use super::{explain, is_permanent};
use crate::encoded::OutRecord;
use crate::error::ConnectError;

/// How long one wait for room in the queue takes.
const TURN: Duration = Duration::from_millis(5);

/// Settings that every producer of this crate has.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    // Where clients in Java put a record of this key, too.
    ("partitioner", "murmur2_random"),
    // A record that waits for its acknowledgement is counted by the client; only failures need a report.
    ("delivery.report.only.error", "true"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "262144"),
    // A transaction waits that long while the last one closes; the default is 100 ms.
    ("retry.backoff.ms", "2"),
    ("retry.backoff.max.ms", "10"),
];

/// Writes records to topics, each at least once, in order within a partition.
pub struct Producer {
    outlet: Option<Outlet>,
    place: String,
}

impl Producer {
    /// A producer for `topics`, which [`Producer::send`] names by their index.
    ///
    /// # Errors
    /// Options that the client library refuses.
    pub fn connect(connection: &Connection, purpose: &str, topics: &[String]) -> Result<Self, ConnectError> {
        let place = format!("kafka {purpose} ({})", connection.brokers());
        let name = format!("driftmill-{purpose}");
        let config = connection.client(&name, &[SETTINGS, &[("linger.ms", "5")]].concat());
        let outlet = config
            .create_with_context(connection.context(&name))
            .and_then(|producer| Outlet::new(producer, topics))
            .map_err(|error| explain(&place, &error, None))?;
        Ok(Self {
            outlet: Some(outlet),
            place,
        })
    }

    fn outlet(&self) -> Result<&Outlet, ConnectError> {
        self.outlet
            .as_ref()
            .ok_or_else(|| explain(&self.place, &KafkaError::Canceled, None))
    }

    /// Puts a record into the queue, waiting while it is full. Without a partition the key decides.
    ///
    /// # Errors
    /// A record that waiting does not get delivered: this one, or one before it.
    ///
    /// # Panics
    /// When `topic` is not an index into the topics given to [`Producer::connect`].
    pub fn send(&mut self, topic: usize, partition: Option<i32>, record: &OutRecord<'_>) -> Result<(), ConnectError> {
        let outlet = self.outlet()?;
        enqueue(outlet, topic, partition, record).map_err(|failure| self.failed(&failure))
    }

    /// Waits until every record is acknowledged.
    ///
    /// # Errors
    /// A record that waiting does not get delivered.
    pub fn flush(&mut self) -> Result<(), ConnectError> {
        let outlet = self.outlet()?;
        while !outlet.flush(TURN * 4) {
            take_failure(outlet).map_or(Ok(()), |failure| Err(self.failed(&failure)))?;
        }
        Ok(())
    }

    fn failed(&self, failure: &Failure) -> ConnectError {
        describe(&self.place, failure)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        close(self.outlet.take());
    }
}

/// Puts a record into the queue of `outlet`, waiting while it is full.
pub(super) fn enqueue(
    outlet: &Outlet,
    topic: usize,
    partition: Option<i32>,
    record: &OutRecord<'_>,
) -> Result<(), Failure> {
    loop {
        match outlet.send(topic, partition, record) {
            Ok(()) => return Ok(()),
            Err(RDKafkaErrorCode::QueueFull) => {
                outlet.producer().poll(TURN);
                if let Some(failure) = outlet.context().take_failure() {
                    return Err(failure);
                }
            }
            Err(code) => {
                let size = record.payload.len() + record.key.map_or(0, <[u8]>::len);
                return Err(Failure {
                    code,
                    topic: outlet.name(topic).to_owned(),
                    size,
                });
            }
        }
    }
}

/// Collects reports of failed records; the first of them.
pub(super) fn take_failure(outlet: &Outlet) -> Option<Failure> {
    // Each poll takes one event, which may hold many reports; the last of these polls waits for nothing.
    for _ in 0..16 {
        outlet.producer().poll(Duration::ZERO);
    }
    outlet.context().take_failure()
}

/// A record that could not be delivered as an error.
pub(super) fn describe(place: &str, failure: &Failure) -> ConnectError {
    let place = format!("{place}, topic `{}`, a record of {} bytes", failure.topic, failure.size);
    explain(&place, &KafkaError::MessageProduction(failure.code), None)
}

/// Whether sending a record again cannot help.
pub(super) fn is_hopeless(failure: &Failure) -> bool {
    is_permanent(failure.code)
}
