//! Records that are produced at a steady rate, and when their predictions are seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Failure;
use crate::bare::send;
use crate::broker::PARTITIONS;
use crate::flights::{FIRST_ID, Flights};
use crate::phases::Seen;

/// Records that are due are sent this often.
const TICK: Duration = Duration::from_millis(1);
const FLUSH: Duration = Duration::from_secs(20);

/// The time of a run, and when each of its records was produced.
pub struct Clock {
    begin: Instant,
    sent_us: Box<[AtomicU64]>,
    is_over: AtomicBool,
}

impl Clock {
    /// A run of at most so many records begins now.
    #[must_use]
    pub fn start(records: usize) -> Self {
        Self {
            sent_us: (0..records).map(|_| AtomicU64::new(0)).collect(),
            begin: Instant::now(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Microseconds since it began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends producing and consuming at once when `outcome` is a failure.
    pub fn stop_on<T, E>(&self, outcome: &Result<T, E>) {
        self.is_over.fetch_or(outcome.is_err(), Ordering::AcqRel);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// Produces flights at `rate` a second for `length`, or until the clock's records are used up; how many. `kept` counts
/// those that the pipelines keep.
///
/// # Errors
/// A record that is not acknowledged.
pub fn produce(
    brokers: &str,
    topic: &str,
    rate: f64,
    length: Duration,
    clock: &Clock,
    kept: &AtomicU64,
) -> Result<usize, Failure> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "1")
        .set("queue.buffering.max.messages", "1000000")
        .set("delivery.report.only.error", "true")
        .create()?;
    let begun_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())? - clock.now_us() / 1_000;
    let (mut flights, mut line, mut next) = (Flights::labelled(1, 0), String::new(), 0);
    while clock.begin.elapsed() < length && next < clock.sent_us.len() && !clock.is_over() {
        let due = (clock.begin.elapsed().as_secs_f64() * rate) as usize;
        while next < due.min(clock.sent_us.len()) {
            let now_us = clock.now_us();
            let flight = flights.write_at(&mut line, begun_ms + now_us / 1_000);
            clock.sent_us[next].store(now_us, Ordering::Release);
            kept.fetch_add(u64::from(flight.is_kept), Ordering::AcqRel);
            let record = BaseRecord::to(topic)
                .partition((next % PARTITIONS as usize) as i32)
                .timestamp(flight.time_ms)
                .payload(line.as_bytes());
            send(&producer, record)?;
            next += 1;
        }
        std::thread::sleep(TICK);
    }
    producer.flush(FLUSH)?;
    Ok(next)
}

/// Sees the predictions of topic `topic` until all those that are due are there, in order of their records' production.
/// `over` says that no more come, `due` how many there are.
///
/// # Errors
/// A prediction of no record, or fewer than due so long after the last record was produced.
pub fn consume(
    brokers: &str,
    topic: &str,
    partitions: i32,
    clock: &Clock,
    over: &AtomicBool,
    due: &AtomicU64,
    drain: Duration,
) -> Result<Vec<Seen>, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "driftmill-benches-latency")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut seen = Vec::with_capacity(clock.sent_us.len());
    let mut ended = None;
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(50)) {
            let message = message?;
            let now_us = clock.now_us();
            let record = number(message.payload().unwrap_or_default()).and_then(|number| clock.sent_us.get(number));
            let sent_us = record
                .ok_or("a prediction that belongs to no record")?
                .load(Ordering::Acquire);
            let latency_us = u32::try_from(now_us.saturating_sub(sent_us)).unwrap_or(u32::MAX);
            seen.push(Seen { sent_us, latency_us });
        }
        if clock.is_over() {
            break;
        }
        if over.load(Ordering::Acquire) {
            let due = due.load(Ordering::Acquire);
            if seen.len() as u64 >= due {
                break;
            }
            if ended.get_or_insert_with(Instant::now).elapsed() > drain {
                return Err(format!("{} of {due} predictions came", seen.len()).into());
            }
        }
    }
    seen.sort_unstable_by_key(|seen| seen.sent_us);
    Ok(seen)
}

/// The number of a prediction's record: `{"id":2013000007,…` is 7.
fn number(payload: &[u8]) -> Option<usize> {
    let digits = payload.strip_prefix(br#"{"id":"#)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let id: u64 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    usize::try_from(id.checked_sub(FIRST_ID)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_names_its_record() {
        assert_eq!(number(br#"{"id":2013000007,"ts":1}"#), Some(7));
        assert_eq!(number(br#"{"id":12,"ts":1}"#), None);
        assert_eq!(number(br#"{"id":null}"#), None);
        assert_eq!(number(b""), None);
    }
}
