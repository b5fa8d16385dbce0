//! Apache Kafka: source, sink, epoch log, and what a test or a demonstration needs around them.
//!
//! Written against the Kafka protocol through librdkafka. What must never happen here: a record skipped without a
//! [`Gap`](crate::source::SourceEvent::Gap); a second owner that goes on writing; a transaction begun on a producer
//! whose last transaction has an unknown outcome; a topic created by a misspelling.

pub mod admin;
mod at_least_once;
mod context;
mod epoch_log;
mod group;
pub mod mock;
mod native;
mod native_rights;
mod options;
pub mod producer;
mod retention;
mod rights;
mod sink;
mod sorter;
mod source;
mod transactional;
mod watch;

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{ConnectError, Fault};

pub use epoch_log::topic_name as epoch_log_topic;
pub use options::Connection;
pub use sink::KafkaSinkKind;
pub use source::KafkaSourceKind;

/// How long a question to the brokers may take before they count as away.
const ANSWER: Duration = Duration::from_secs(10);

/// An error of the client library as ours: whose fault, and what to do about it. `hint` is the last thing that the
/// client said, which for a connection that was never made is the only one that tells why.
fn explain(place: &str, error: &KafkaError, hint: Option<String>) -> ConnectError {
    let code = error.rdkafka_error_code();
    let mut what = error.to_string();
    if let Some(hint) = hint {
        what = format!("{what} ({hint})");
    }
    let (fault, remedy) = remedy(code);
    ConnectError::new(fault, place, what, remedy)
}

fn remedy(code: Option<RDKafkaErrorCode>) -> (Fault, &'static str) {
    use RDKafkaErrorCode as C;
    match code {
        Some(C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition) => {
            (Fault::Operator, "create the topic, or correct its name")
        }
        Some(C::TopicAuthorizationFailed) => (Fault::Operator, "give the user the rights on this topic"),
        Some(C::GroupAuthorizationFailed) => (Fault::Operator, "give the user the right to READ this group"),
        Some(C::ClusterAuthorizationFailed) => (
            Fault::Operator,
            "give the user the right IDEMPOTENT_WRITE on the cluster",
        ),
        Some(C::TransactionalIdAuthorizationFailed) => (
            Fault::Operator,
            "give the user the rights WRITE and DESCRIBE on this transactional id",
        ),
        Some(C::SaslAuthenticationFailed | C::Authentication) => (
            Fault::Operator,
            "check mechanism, username and password in the table `sasl`",
        ),
        Some(C::SSL) => (
            Fault::Operator,
            "check the files in the table `tls`, and that the brokers speak TLS there",
        ),
        Some(C::MessageSizeTooLarge | C::InvalidMessageSize) => (
            Fault::Operator,
            "raise the topic's max.message.bytes, or lower `message_bytes_max` in [sink]",
        ),
        Some(C::BadMessage | C::BadCompression) => (
            Fault::Environment,
            "check the broker's disk and network; the records at this place cannot be read",
        ),
        _ => (
            Fault::Environment,
            "check that the brokers run and can be reached at `brokers`",
        ),
    }
}

/// Whether waiting cannot heal this.
fn is_permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed
            | C::MessageSizeTooLarge
            | C::InvalidMessageSize
            | C::InvalidRecord
            | C::UnknownTopic
            | C::UnknownPartition
            | C::InvalidTopic
            | C::InvalidRequiredAcks
            | C::UnsupportedForMessageFormat
    )
}
