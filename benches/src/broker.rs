//! The Kafka of a benchmark: the one that `DRIFTMILL_KAFKA=host:port` names, or one that `scripts/kafka/kafka` starts
//! and that ends with this process.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::Failure;
use crate::bare::send;
use crate::flights::Flights;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);
const ATTEMPT: Duration = Duration::from_secs(2);

/// A cluster. The topics made on it go with this value: deleted earlier, they would disturb the next run.
pub struct Broker {
    /// Its `host:port`.
    pub bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    watch: RefCell<BaseConsumer>,
    runtime: tokio::runtime::Runtime,
    made: RefCell<Vec<String>>,
}

impl Broker {
    /// Finds or starts a cluster; data of one that is started lie below `dir`. It inherits the cores of this process.
    ///
    /// # Errors
    /// No cluster.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let bootstrap = match std::env::var("DRIFTMILL_KAFKA") {
            Ok(bootstrap) if !bootstrap.is_empty() => bootstrap,
            _ => start(dir)?,
        };
        let config = client_config(&bootstrap);
        Ok(Self {
            admin: config.create()?,
            watch: RefCell::new(config.create()?),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            bootstrap,
            made: RefCell::default(),
        })
    }

    /// Makes an empty topic.
    ///
    /// # Errors
    /// A name that is taken, a cluster that is away.
    pub fn create(&self, topic: &str) -> Result<(), Failure> {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1));
        for result in self.runtime.block_on(self.admin.create_topics([&new], &options))? {
            result.map_err(|(topic, code)| format!("cannot create {topic}: {code}"))?;
        }
        self.made.borrow_mut().push(topic.to_owned());
        self.records(topic).map(drop)
    }

    /// Deletes with this value a topic that the measured program makes by itself.
    pub fn adopt(&self, topic: &str) {
        self.made.borrow_mut().push(topic.to_owned());
    }

    /// Records in a topic that nobody trims and nobody writes in transactions.
    ///
    /// # Errors
    /// A topic or a leader that is not there.
    pub fn records(&self, topic: &str) -> Result<u64, Failure> {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            sum += self.end(topic, partition)?;
        }
        Ok(sum)
    }

    /// A new topic is not known everywhere at once, so this asks again for a while. On a busy machine a client was seen to
    /// answer nothing any more where a new one did at once, so one that fails is replaced.
    fn end(&self, topic: &str, partition: i32) -> Result<u64, Failure> {
        let begin = Instant::now();
        let mut renewed = begin;
        loop {
            let found = self.watch.borrow().fetch_watermarks(topic, partition, ATTEMPT);
            match found {
                Ok((_, end)) => return Ok(u64::try_from(end)?),
                Err(error) if begin.elapsed() > PATIENCE => return Err(format!("{topic}/{partition}: {error}").into()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
            if renewed.elapsed() >= ATTEMPT {
                self.watch.replace(client_config(&self.bootstrap).create()?);
                renewed = Instant::now();
            }
        }
    }

    /// Writes `count` of these flights into a topic, to each partition in turn; how many of them the pipelines keep.
    /// Flights that tell when their label became known have their own time in Kafka too, others that of writing.
    ///
    /// # Errors
    /// A record that is not acknowledged.
    pub fn load(&self, topic: &str, mut flights: Flights, count: u64) -> Result<u64, Failure> {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("linger.ms", "20")
            .create()?;
        let (mut line, mut kept) = (String::new(), 0);
        for row in 0..count {
            let flight = flights.write(&mut line);
            kept += u64::from(flight.is_kept);
            let partition = (row % PARTITIONS as u64) as i32;
            let record = BaseRecord::to(topic).partition(partition).payload(line.as_bytes());
            let record = if flights.is_labelled() {
                record.timestamp(flight.time_ms)
            } else {
                record
            };
            send(&producer, record)?;
        }
        producer.flush(PATIENCE)?;
        let there = self.records(topic)?;
        if there != count {
            return Err(format!("{there} of {count} records were written").into());
        }
        Ok(kept)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let made = self.made.take();
        let topics: Vec<&str> = made.iter().map(String::as_str).collect();
        // A cluster that is away keeps them.
        let _ = self
            .runtime
            .block_on(self.admin.delete_topics(&topics, &AdminOptions::new()));
    }
}

fn client_config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "driftmill-benches");
    config
}

fn start(dir: &Path) -> Result<String, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka/kafka");
    let owner = std::process::id().to_string();
    let output = Command::new(&script)
        .args(["start", "--owner", &owner, "--dir"])
        .arg(dir)
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("no Kafka: {reason}; or name one by DRIFTMILL_KAFKA=host:port").into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
