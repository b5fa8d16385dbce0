//! The mock cluster inside librdkafka, for demonstrations and for injecting errors.
//!
//! It knows neither isolation levels nor fencing nor transactional offsets, and keeps only the newest few MiB of a
//! partition: nothing about delivery can be shown on it.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::error::{ConnectError, Fault};

/// A broker in this process, on a free port of the loopback address; it ends when this is dropped.
pub struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Mock {
    /// Starts a broker with these topics and their numbers of partitions.
    ///
    /// # Errors
    /// No free port, or a name that cannot be that of a topic.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, ConnectError> {
        let fault = |error: rdkafka::error::KafkaError| {
            let remedy = "check that ports on the loopback address can be opened";
            ConnectError::new(Fault::Environment, "embedded broker", error.to_string(), remedy)
        };
        let cluster = MockCluster::new(1).map_err(fault)?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).map_err(fault)?;
        }
        Ok(Self { cluster })
    }

    /// The address of the broker, host:port.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The cluster itself, for injecting errors.
    #[must_use]
    pub fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.cluster
    }
}
