//! The Kafka sink: its keys, its checks, and the choice between the two ways of delivery.

use std::time::Duration;

use driftmill_config::{ByteSize, Component, Field, Kind, Need, Problems, Section};

use super::admin::{Admin, Topic};
use super::at_least_once::AtLeastOnce;
use super::context::{Context, Producer};
use super::epoch_log::{EpochLog, topic_name};
use super::explain;
use super::native::Outlet;
use super::options::{Connection, OPTIONS, SASL, TLS};
use super::producer::SETTINGS;
use super::retention::{self, now_ms};
use super::rights::{self, Operation};
use super::transactional::Transactional;
use crate::check::Finding;
use crate::error::{ConnectError, Fault};
use crate::sink::{Delivery, Destination, OpenSink, Sink, SinkContext, SinkKind};

/// Room for a record's key, headers and framing beside its payload.
const OVERHEAD: u64 = 16 << 10;
/// The default of `message_bytes_max`: what a broker takes by default, without the overhead.
const MESSAGE_BYTES_MAX: u64 = (1 << 20) - OVERHEAD;
/// Largest request to one partition; below what a broker takes by default.
const BATCH_BYTES_MAX: u64 = 1_000_000;
/// A broker may be away that long before it gives up an open transaction, and us with it. A restarted owner does not
/// wait for it: it aborts the transaction of its predecessor.
const TRANSACTION_MS: &str = "300000";

const FIELDS: &[Field] = &[
    Field {
        name: "brokers",
        kind: Kind::String,
        need: Need::Optional("the brokers of [source], with its `tls` and `sasl`"),
        doc: "Some of the brokers, as host:port with commas between.",
    },
    Field {
        name: "topic",
        kind: Kind::String,
        need: Need::Required,
        doc: "Where predictions go. It must exist.",
    },
    Field {
        name: "compression",
        kind: Kind::OneOf(&["none", "gzip", "zstd"]),
        need: Need::Optional("none"),
        doc: "How batches of records are compressed.",
    },
    Field {
        name: "linger",
        kind: Kind::Duration,
        need: Need::Optional("5 ms"),
        doc: "How long a record may wait for others to be sent with it. The end of an epoch waits for nothing.",
    },
    Field {
        name: "message_bytes_max",
        kind: Kind::Bytes,
        need: Need::Optional("1008 KiB"),
        doc: "Largest payload that the topics take; a larger output becomes a dead letter, a larger dead letter is cut.",
    },
    TLS,
    SASL,
    OPTIONS,
];

/// Kafka as an entry of the list of sinks.
pub struct KafkaSinkKind;

impl Component for KafkaSinkKind {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn summary(&self) -> &'static str {
        "Writes to topics of Apache Kafka 2.5 or later: with an idempotent producer, or, exactly once, outputs and epoch \
         record in one transaction."
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn example(&self) -> &'static str {
        "brokers = \"localhost:9092\"\ntopic = \"flights.predictions\"\ncompression = \"zstd\"\n"
    }
}

impl SinkKind for KafkaSinkKind {
    fn open(
        &self,
        section: &Section<'_>,
        defaults: &Section<'_>,
        context: &SinkContext,
        problems: &mut Problems,
    ) -> Option<Box<dyn OpenSink>> {
        let before = problems.len();
        let connection = Connection::read_or_inherit(section, defaults, problems);
        let topic = section.require::<String>("topic", problems).unwrap_or_default();
        let compression = section.get_or("compression", "none".to_owned(), problems);
        let linger = section.get_or("linger", Duration::from_millis(5), problems);
        let ByteSize(bytes_max) = section.get_or("message_bytes_max", ByteSize(MESSAGE_BYTES_MAX), problems);
        let mut refuse = |key: &str, message: &str| problems.push(section.key_span(key), message, None);
        if !(1 << 10..=512 << 20).contains(&bytes_max) {
            refuse(
                "message_bytes_max",
                "`message_bytes_max` must lie between 1 KiB and 512 MiB",
            );
        }
        if linger > Duration::from_secs(60) {
            refuse("linger", "`linger` must not be longer than a minute");
        }
        if topic.contains('\0') {
            refuse("topic", "this is not the name of a topic");
        } else if context.dead_letters.as_deref() == Some(topic.as_str()) {
            refuse("topic", "predictions and dead letters must not go to the same topic");
        }
        if problems.len() > before {
            return None;
        }
        let plan = Plan {
            connection: connection?,
            context: context.clone(),
            topic,
            compression,
            linger,
            bytes_max,
        };
        Some(Box::new(plan))
    }
}

/// A checked sink.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) connection: Connection,
    pub(super) context: SinkContext,
    topic: String,
    compression: String,
    linger: Duration,
    bytes_max: u64,
}

impl Plan {
    /// Delivery exactly once with all defaults.
    #[cfg(test)]
    pub(super) fn exactly_once(connection: Connection, pipeline: &str, topic: &str) -> Self {
        Self {
            connection,
            context: SinkContext {
                pipeline: pipeline.to_owned(),
                delivery: Delivery::ExactlyOnce,
                dead_letters: None,
            },
            topic: topic.to_owned(),
            compression: "none".to_owned(),
            linger: Duration::ZERO,
            bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    /// Where the sink is, for errors.
    pub(super) fn place(&self) -> String {
        format!("kafka sink ({})", self.connection.brokers())
    }

    /// Group and transactional id.
    pub(super) fn name(&self) -> String {
        format!("driftmill-{}", self.context.pipeline)
    }

    /// Output topics in the order of [`Plan::index`].
    fn outputs(&self) -> Vec<String> {
        std::iter::once(self.topic.clone())
            .chain(self.context.dead_letters.clone())
            .collect()
    }

    /// Index of a destination among the topics of the outlet; `None` for dead letters that have no topic.
    pub(super) fn index(&self, destination: Destination) -> Option<usize> {
        match destination {
            Destination::Predictions => Some(0),
            Destination::DeadLetters => self.context.dead_letters.as_ref().map(|_| 1),
        }
    }

    /// Index of the epoch log among the topics of the outlet.
    pub(super) fn log_index(&self) -> usize {
        self.outputs().len()
    }

    /// A new producer with handles for all topics.
    pub(super) fn outlet(&self) -> Result<Outlet, ConnectError> {
        let name = self.name();
        let linger = format!("{}", self.linger.as_secs_f64() * 1e3);
        let message_bytes = (self.bytes_max + OVERHEAD).max(BATCH_BYTES_MAX).to_string();
        let batch_bytes = (self.bytes_max + OVERHEAD).min(BATCH_BYTES_MAX).to_string();
        let mut settings = SETTINGS.to_vec();
        settings.extend([
            ("linger.ms", linger.as_str()),
            ("compression.codec", self.compression.as_str()),
            ("message.max.bytes", message_bytes.as_str()),
            ("batch.size", batch_bytes.as_str()),
        ]);
        match self.context.delivery {
            Delivery::ExactlyOnce => {
                settings.extend([
                    ("transactional.id", name.as_str()),
                    ("transaction.timeout.ms", TRANSACTION_MS),
                ]);
            }
            // For ever: an epoch is sent until it is acknowledged.
            Delivery::AtLeastOnce => settings.push(("message.timeout.ms", "0")),
        }
        let mut topics = self.outputs();
        topics.push(topic_name(&self.context.pipeline));
        let config = self.connection.client(&format!("{name}-sink"), &settings);
        let context: Context = self.connection.context(&name);
        let producer: Result<Producer, _> = config.create_with_context(context);
        producer
            .and_then(|producer| Outlet::new(producer, &topics))
            .map_err(|error| explain(&self.place(), &error, None))
    }

    fn check_topic(&self, admin: &Admin, name: &str, oldest_ms: Option<i64>) -> Result<Vec<Finding>, ConnectError> {
        let error = |what: String, remedy: &str| Finding::Error(admin.fault(name, what, remedy).to_string());
        let topic = match admin.topic(name) {
            Ok(Some(topic)) => topic,
            Ok(None) => {
                let what = "the topic does not exist".to_owned();
                return Ok(vec![error(what, "create it, or correct its name")]);
            }
            Err(error) if error.fault == Fault::Operator => return Ok(vec![Finding::Error(error.to_string())]),
            Err(error) => return Err(error),
        };
        let limits = self.limits(&topic).map(|(what, remedy)| error(what, remedy));
        let kept = retention::of_output(&topic, oldest_ms, now_ms()).into_iter();
        let kept = kept.map(|(what, remedy)| Finding::Warning(admin.fault(name, what, remedy).to_string()));
        let right = rights::of_topic(admin, name, &[Operation::Write]);
        Ok(limits.into_iter().chain(kept).chain(right).collect())
    }

    /// Why nothing, or not everything, could be written to a topic, and what to do.
    fn limits(&self, topic: &Topic) -> Option<(String, &'static str)> {
        let needed = i64::try_from(self.bytes_max + OVERHEAD - (4 << 10)).unwrap_or(i64::MAX);
        if let Some(taken) = topic.number("max.message.bytes").filter(|&taken| taken < needed) {
            let what = format!("the topic takes {taken} bytes a message, {needed} may be sent");
            return Some((
                what,
                "raise its max.message.bytes, or lower `message_bytes_max` in [sink]",
            ));
        }
        let replicas = i64::try_from(topic.replicas).unwrap_or(i64::MAX);
        if let Some(needed) = topic.number("min.insync.replicas").filter(|&needed| needed > replicas) {
            let what = format!("min.insync.replicas is {needed}, but a partition has only {replicas} replicas");
            return Some((
                what,
                "add replicas, or lower min.insync.replicas: nothing can be written",
            ));
        }
        None
    }
}

impl OpenSink for Plan {
    fn connect(&self) -> Result<Box<dyn Sink>, ConnectError> {
        let admin = Admin::connect(&self.connection, "sink")?;
        for name in self.outputs() {
            if !admin.has_topic(&name)? {
                let what = "the topic does not exist".to_owned();
                return Err(admin.fault(&name, what, "create it, or correct its name"));
            }
        }
        match self.context.delivery {
            Delivery::AtLeastOnce => Ok(Box::new(AtLeastOnce::connect(self.clone())?)),
            Delivery::ExactlyOnce => Ok(Box::new(Transactional::connect(self.clone())?)),
        }
    }

    fn read_log(&self, each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), ConnectError> {
        let name = topic_name(&self.context.pipeline);
        let is_kept = self.context.delivery == Delivery::ExactlyOnce;
        if !is_kept || !Admin::connect(&self.connection, "sink")?.has_topic(&name)? {
            return Ok(());
        }
        EpochLog::new(&self.connection, &self.context.pipeline).read(&mut |_, payload| each(payload))
    }

    fn check(&self, oldest_ms: Option<i64>) -> Result<Vec<Finding>, ConnectError> {
        let admin = Admin::connect(&self.connection, "sink")?;
        let mut findings = Vec::new();
        for name in self.outputs() {
            findings.extend(self.check_topic(&admin, &name, oldest_ms)?);
        }
        if self.context.delivery == Delivery::ExactlyOnce {
            findings.extend(EpochLog::new(&self.connection, &self.context.pipeline).check(&admin)?);
            let principal = self.connection.principal();
            findings.extend(rights::of_transactional_id(&admin, &self.name(), principal.as_deref()));
        }
        Ok(findings)
    }

    fn payload_bytes_max(&self, _destination: Destination) -> usize {
        usize::try_from(self.bytes_max).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use driftmill_config::{Document, check_example};

    use super::*;

    fn open(sink: &str) -> Result<usize, String> {
        let text = format!("[source]\nbrokers = \"b:1\"\n[sink]\n{sink}");
        let document = Document::parse("t.toml", &text, &|_| None).unwrap();
        let mut problems = document.problems();
        let (source, sink) = (
            document.root().table("source", &mut problems),
            document.root().table("sink", &mut problems),
        );
        let dead_letters = Some("dead".to_owned());
        let context = SinkContext {
            pipeline: "p".to_owned(),
            delivery: Delivery::ExactlyOnce,
            dead_letters,
        };
        let open = KafkaSinkKind.open(&sink, &source, &context, &mut problems);
        open.map(|open| open.payload_bytes_max(Destination::Predictions))
            .ok_or_else(|| problems.render())
    }

    #[test]
    fn the_example_passes_its_own_check() {
        assert!(check_example(&KafkaSinkKind).is_ok());
    }

    #[test]
    fn the_connection_is_that_of_the_source() {
        assert_eq!(open("topic = \"out\"\n"), Ok((1 << 20) - (16 << 10)));
        assert_eq!(open("topic = \"out\"\nmessage_bytes_max = \"64 KiB\"\n"), Ok(64 << 10));
    }

    #[test]
    fn contradictions_are_reported_at_their_line() {
        let rendered = open("topic = \"dead\"\n").unwrap_err();
        assert!(
            rendered.contains("t.toml:4:") && rendered.contains("same topic"),
            "{rendered}"
        );
        let rendered = open("topic = \"out\"\nmessage_bytes_max = \"1 B\"\n").unwrap_err();
        assert!(rendered.contains("t.toml:5:"), "{rendered}");
    }
}
