//! A real Kafka for tests: the one that `DRIFTMILL_KAFKA=host:port` names, or one that `scripts/kafka/kafka` starts.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long Kafka may take for anything before the test fails: generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    /// The folder of a cluster that `scripts/kafka` runs; unknown for somebody else's cluster.
    dir: Option<PathBuf>,
    /// Whether the cluster ends with this value.
    owned: bool,
}

/// The second listener of one node, behind which a proxy can stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// Where the node listens.
    pub listen: String,
    /// Where it says that it listens: the proxy's address.
    pub advertised: String,
}

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The partition; chosen by the key's hash when absent.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; now when absent.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The payload; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// A record with a payload alone.
    pub fn of(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The payload.
    pub payload: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Message {
    /// The first header of a name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    fn copy(message: &BorrowedMessage<'_>) -> Self {
        let header = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.unwrap_or_default().to_vec());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|all| all.iter().map(header).collect())
                .unwrap_or_default(),
        }
    }
}

/// What a right is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// A topic by its name.
    Topic(&'a str),
    /// A consumer group by its name.
    Group(&'a str),
    /// The cluster.
    Cluster,
    /// A transactional id.
    TransactionalId(&'a str),
}

/// What a right allows, with the protocol's number.
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    /// Reading records.
    Read = 3,
    /// Writing records.
    Write = 4,
    /// Making topics.
    Create = 5,
    /// Deleting records.
    Delete = 6,
    /// Seeing that something is there.
    Describe = 8,
    /// Seeing a configuration.
    DescribeConfigs = 10,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, and those outside any.
    Committed,
    /// All, also those of aborted and open transactions.
    Uncommitted,
}

impl Broker {
    /// The cluster that all tests of this process share: `DRIFTMILL_KAFKA`, or one node that ends with the process.
    /// `None`, and said by [`crate::not_run`], where there is neither; tests return then.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
        let start = || match std::env::var("DRIFTMILL_KAFKA") {
            Ok(bootstrap) if !bootstrap.is_empty() => {
                let dir = std::env::var_os("DRIFTMILL_KAFKA_DIR").map(PathBuf::from);
                Ok(Self {
                    bootstrap,
                    dir,
                    owned: false,
                })
            }
            _ => Self::start(1, &[]),
        };
        match SHARED.get_or_init(start) {
            Ok(broker) => Some(broker),
            Err(reason) => {
                crate::not_run(&format!("no Kafka: {reason}"));
                None
            }
        }
    }

    /// A cluster of one node or three for one test alone, to be killed and frozen; it ends with the value.
    pub fn own(nodes: u8) -> Option<Self> {
        Self::own_with(nodes, &[])
    }

    /// A cluster of one node with access control, for one test alone.
    pub fn secured() -> Option<Self> {
        Self::own_with(1, &["--authorizer"])
    }

    fn own_with(nodes: u8, options: &[&str]) -> Option<Self> {
        match Self::start(nodes, options) {
            Ok(broker) => Some(broker),
            Err(reason) => {
                crate::not_run(&format!("no Kafka of its own: {reason}"));
                None
            }
        }
    }

    /// The script stops the cluster and removes its folder when this process is gone, however it went: a static is
    /// never dropped.
    fn start(nodes: u8, options: &[&str]) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("driftmill-kafka-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let mut command = script();
        command.args([
            "start",
            "--nodes",
            &nodes.to_string(),
            "--owner",
            &std::process::id().to_string(),
            "--dir",
        ]);
        let output = command
            .arg(dir.path())
            .args(options)
            .output()
            .map_err(|error| format!("scripts/kafka/kafka: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let bootstrap = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self {
            bootstrap,
            dir: Some(dir.keep()),
            owned: true,
        })
    }

    /// `host:port` of every node, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The listener of each node that a proxy can stand before; none for a cluster that `scripts/kafka` does not run.
    pub fn proxied(&self) -> Vec<Proxied> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let cluster = std::fs::read_to_string(dir.join("cluster")).expect("the cluster's file");
        parse_proxied(&cluster)
    }

    /// `host:port` where the user `limited` may do only what [`Broker::allow`] allows. Its password is `limited-secret`.
    ///
    /// # Panics
    /// When this is no [`Broker::secured`].
    pub fn secured_listener(&self) -> String {
        let dir = self.dir.as_ref().expect("a cluster of scripts/kafka");
        let cluster = std::fs::read_to_string(dir.join("cluster")).expect("the cluster's file");
        let line = cluster.lines().find_map(|line| line.strip_prefix("secured.1="));
        line.expect("a cluster with access control").to_owned()
    }

    /// Allows the user `limited` an operation on a resource; the client library in use has no call for that, so this is
    /// CreateAcls, version 1, as Kafka's protocol guide has it.
    ///
    /// # Panics
    /// When Kafka refuses.
    pub fn allow(&self, resource: Resource<'_>, operation: Operation) {
        let (kind, name) = match resource {
            Resource::Topic(name) => (2, name),
            Resource::Group(name) => (3, name),
            Resource::Cluster => (4, "kafka-cluster"),
            Resource::TransactionalId(name) => (5, name),
        };
        let text = |frame: &mut Vec<u8>, text: &str| {
            frame.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
            frame.extend(text.as_bytes());
        };
        // API key, version, correlation id, no client id, one entry.
        let mut frame = vec![0, 30, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 1, kind];
        text(&mut frame, name);
        // The name is meant as it is.
        frame.push(3);
        text(&mut frame, "User:limited");
        text(&mut frame, "*");
        frame.extend([operation as u8, 3]);
        let mut stream = TcpStream::connect(&self.bootstrap).expect("Kafka listens");
        let length = u32::try_from(frame.len()).expect("a short frame").to_be_bytes();
        stream.write_all(&[&length[..], &frame].concat()).expect("Kafka reads");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("Kafka answers");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).expect("Kafka answers");
        // Correlation id, throttle time, one result, its error code.
        assert_eq!(answer[..14], [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], "{answer:?}");
    }

    /// SIGKILL to a node (1, 2, 3).
    pub fn kill(&self, node: u8) {
        self.run("kill", node);
    }

    /// SIGSTOP to a node: its connections stay, its answers do not come.
    pub fn freeze(&self, node: u8) {
        self.run("freeze", node);
    }

    /// SIGCONT to a frozen node.
    pub fn thaw(&self, node: u8) {
        self.run("thaw", node);
    }

    /// Starts a killed node again, on its own data.
    pub fn restart(&self, node: u8) {
        self.run("restart", node);
    }

    fn run(&self, what: &str, node: u8) {
        let dir = self
            .dir
            .as_deref()
            .expect("only a cluster that scripts/kafka runs can be treated so");
        let status = script()
            .args([what, &node.to_string(), "--dir"])
            .arg(dir)
            .status()
            .expect("scripts/kafka/kafka");
        assert!(status.success(), "kafka {what} {node}: {status}");
    }

    /// A name for a topic, a group or a pipeline that no other test of any process uses.
    pub fn unique(stem: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        format!(
            "{stem}-{}-{since}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Creates a topic that keeps its records whatever their age.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[("retention.ms", "-1")]);
    }

    /// Creates a topic with a configuration of its own.
    pub fn create_topic_with(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin().create_topics([&topic], &admin_options())).expect("Kafka creates topics");
        for result in results {
            result.unwrap_or_else(|(topic, code)| panic!("cannot create {topic}: {code}"));
        }
        self.await_topic(name);
    }

    /// A broker that is busy knows a topic some time after the controller has made it.
    fn await_topic(&self, name: &str) {
        let admin = self.admin();
        let until = Instant::now() + PATIENCE;
        let known = || {
            let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE).ok()?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
            let led = |partition: &MetadataPartition| partition.leader() >= 0;
            (topic.error().is_none() && !topic.partitions().is_empty() && topic.partitions().iter().all(led))
                .then_some(())
        };
        while known().is_none() {
            assert!(Instant::now() < until, "topic {name} was made and is not there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes topics.
    pub fn delete_topics(&self, names: &[&str]) {
        let results = block_on(self.admin().delete_topics(names, &admin_options())).expect("Kafka deletes topics");
        for result in results {
            result.unwrap_or_else(|(topic, code)| panic!("cannot delete {topic}: {code}"));
        }
    }

    /// Deletes the records of a partition below `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("an offset");
        let deleted = block_on(self.admin().delete_records(&list, &admin_options())).expect("Kafka deletes records");
        for element in deleted.elements() {
            element.error().expect("Kafka deletes the records of this partition");
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        client(&self.bootstrap).create().expect("an admin client")
    }

    /// Produces records in order, and returns once all are acknowledged.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) -> usize {
        let mut config = client(&self.bootstrap);
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", "20000000");
        let producer: ThreadedProducer<Failures> = config.create_with_context(Failures::default()).expect("a producer");
        let mut sent = 0;
        for record in records {
            send(&producer, topic, &record);
            sent += 1;
        }
        producer.flush(PATIENCE).expect("Kafka acknowledges every record");
        let failed = producer.context().0.load(Ordering::SeqCst);
        assert_eq!(failed, 0, "{failed} of {sent} records for {topic} were not delivered");
        sent
    }

    /// Records of a topic that a consumer group has not read yet, as lag tools reckon: `None` while it has no offsets.
    pub fn group_lag(&self, group: &str, topic: &str) -> Option<i64> {
        let mut config = client(&self.bootstrap);
        let consumer: BaseConsumer = config.set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            list.add_partition(topic, partition);
        }
        let committed = consumer
            .committed_offsets(list, PATIENCE)
            .expect("Kafka tells a group's offsets");
        let lag = |partition: i32, offset: Offset| {
            let (_, end) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .expect("Kafka tells the end of a partition");
            Some(end - offset.to_raw().filter(|offset| *offset >= 0)?)
        };
        let elements = committed.elements();
        elements
            .iter()
            .map(|element| lag(element.partition(), element.offset()))
            .sum()
    }

    /// Every record from the beginning of a topic to where it ends now, partition by partition.
    pub fn read(&self, topic: &str, isolation: Isolation) -> Vec<Message> {
        let mut config = client(&self.bootstrap);
        let level = if isolation == Isolation::Committed {
            "read_committed"
        } else {
            "read_uncommitted"
        };
        config
            .set("isolation.level", level)
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true");
        config
            .set("group.id", "driftmill-tests")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let partitions = partitions(&consumer, topic);
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            assignment
                .add_partition_offset(topic, *partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&assignment).expect("Kafka assigns");
        drain(&consumer, topic, partitions.len())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let (true, Some(dir)) = (self.owned, &self.dir) {
            // A failure here would hide the test's own; what is left ends with this process.
            let _ = script().args(["stop", "--dir"]).arg(dir).status();
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn script() -> Command {
    Command::new(Path::new(&crate::root()).join("scripts/kafka/kafka"))
}

fn parse_proxied(cluster: &str) -> Vec<Proxied> {
    let lines = cluster.lines().filter(|line| line.starts_with("proxied."));
    let pair = |line: &str| {
        let (listen, advertised) = line.split_once('=')?.1.split_once(' ')?;
        Some(Proxied {
            listen: listen.to_owned(),
            advertised: advertised.to_owned(),
        })
    };
    lines.filter_map(pair).collect()
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(PATIENCE))
        .request_timeout(Some(PATIENCE))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Counts the records that were not delivered.
#[derive(Default)]
struct Failures(AtomicUsize);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn send(producer: &ThreadedProducer<Failures>, topic: &str, record: &Record) {
    let mut outgoing: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    outgoing.partition = record.partition;
    outgoing.timestamp = record.timestamp_ms;
    outgoing.key = record.key.as_deref();
    outgoing.payload = record.payload.as_deref();
    if !record.headers.is_empty() {
        let add = |all: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
            all.insert(Header {
                key,
                value: Some(value),
            })
        };
        outgoing.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), add));
    }
    while let Err((error, back)) = producer.send(outgoing) {
        assert_eq!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::QueueFull),
            "cannot produce to {topic}: {error}"
        );
        outgoing = back;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("Kafka tells of its topics");
    let found = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic)
        .expect("the topic asked for");
    assert!(found.error().is_none(), "topic {topic}: {:?}", found.error());
    found.partitions().iter().map(|partition| partition.id()).collect()
}

fn drain(consumer: &BaseConsumer, topic: &str, partitions: usize) -> Vec<Message> {
    let mut read: BTreeMap<i32, Vec<Message>> = BTreeMap::new();
    let mut ended = 0;
    while ended < partitions {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => read
                .entry(message.partition())
                .or_default()
                .push(Message::copy(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("cannot read {topic}: {error}"),
            None => panic!("Kafka gave nothing for {PATIENCE:?} before the end of {topic}"),
        }
    }
    read.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_file_names_a_listener_for_each_node() {
        let file = "nodes=3\nbootstrap=127.0.0.1:1,127.0.0.1:2\nproxied.1=127.0.0.1:5 127.0.0.1:7\nproxied.2=a:6 b:8\n";
        let proxied = |listen: &str, advertised: &str| Proxied {
            listen: listen.to_owned(),
            advertised: advertised.to_owned(),
        };
        assert_eq!(
            parse_proxied(file),
            [proxied("127.0.0.1:5", "127.0.0.1:7"), proxied("a:6", "b:8")]
        );
    }

    #[test]
    fn unique_names_differ() {
        assert_ne!(Broker::unique("a"), Broker::unique("a"));
    }
}
