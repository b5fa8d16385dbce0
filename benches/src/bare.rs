//! The loop that somebody writes in an afternoon, with the same libraries: consume, decode with arrow-json, encode with
//! arrow-json, produce. No SQL, no state, no offsets, no answer to anything that goes wrong: the least that reading and
//! writing these records costs without writing a codec of one's own.
//!
//! Its clients have the settings that Driftmill's have, where they bear on the cost: checksums, an idempotent producer,
//! 5 ms of linger, batches of a mebibyte, no compression.

use std::time::Duration;

use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Failure;
use crate::broker::PARTITIONS;
use crate::flights::schema;

/// Most records in a batch; Driftmill's epochs hold as many.
const ROWS: usize = 8192;

/// The bare loop, where the words of the command line ask for it (`bare BROKERS INPUT OUTPUT labelled|plain`): so the
/// benchmark's own binary is what is started beside the daemon's.
///
/// # Errors
/// As [`run`].
pub fn asked(words: &[&str]) -> Option<Result<(), Failure>> {
    match *words {
        ["bare", brokers, input, output, kind] => Some(run(brokers, input, output, kind == "labelled")),
        _ => None,
    }
}

/// Copies topic `input` to topic `output`, from its beginning, until the process is ended. The records are `labelled`
/// when they tell when their label became known.
///
/// # Errors
/// Whatever goes wrong.
pub fn run(brokers: &str, input: &str, output: &str, labelled: bool) -> Result<(), Failure> {
    let consumer = consumer(brokers, input)?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("batch.size", "1048576")
        .set("queue.buffering.max.messages", "200000")
        .set("delivery.report.only.error", "true")
        .create()?;
    let mut decoder = ReaderBuilder::new(schema(labelled))
        .with_batch_size(ROWS)
        .build_decoder()?;
    let mut lines = Vec::new();
    loop {
        for message in poll(&consumer)? {
            decoder.decode(message.payload().unwrap_or_default())?;
        }
        let Some(batch) = decoder.flush()? else { continue };
        lines.clear();
        let mut writer = LineDelimitedWriter::new(&mut lines);
        writer.write(&batch)?;
        writer.finish()?;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            send(&producer, BaseRecord::to(output).payload(line))?;
        }
    }
}

fn consumer(brokers: &str, topic: &str) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "driftmill-benches-bare")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("queued.max.messages.kbytes", "65536")
        // A consumer that has emptied a full queue stalls that long; the default, a second, halves the rate.
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// Up to a batch of messages: what comes without waiting longer than 5 ms for the next.
fn poll(consumer: &BaseConsumer) -> Result<Vec<BorrowedMessage<'_>>, KafkaError> {
    let mut messages = Vec::with_capacity(ROWS);
    while messages.len() < ROWS {
        let wait_ms = if messages.is_empty() { 100 } else { 5 };
        match consumer.poll(Duration::from_millis(wait_ms)) {
            Some(message) => messages.push(message?),
            None => break,
        }
    }
    Ok(messages)
}

/// Puts a record into the producer's queue, waiting while it is full.
///
/// # Errors
/// A record that the client does not take.
pub fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    record: BaseRecord<'_, (), [u8]>,
) -> Result<(), KafkaError> {
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error),
        }
    }
}
