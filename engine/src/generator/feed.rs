//! Writes a world into Kafka: at a speed, never faster than its consumer takes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use driftmill_connectors::kafka::producer::Producer;
use driftmill_connectors::{ConnectError, OutRecord};

use super::{Payments, Produced, Topic};

/// Index of the payments' topic among those that [`Producer::connect`] is given for [`run_into`].
pub const PAYMENTS: usize = 0;
/// Index of the outcomes' topic.
pub const OUTCOMES: usize = 1;

/// One pause, while it is too early or the consumer lags.
const TURN: Duration = Duration::from_millis(1);
/// Records between two looks at the backlog.
const LOOK_EVERY: u64 = 64;
/// Lost time that is made up for; beyond, simulated time falls behind instead of rushing after.
const CATCH_UP_MAX: Duration = Duration::from_millis(100);

/// How a world is written.
pub struct Feed<'a> {
    /// Simulated seconds in a second; `None` for as fast as it goes.
    pub speed: Option<f64>,
    /// Simulated time after which it ends; `None` for never. Outcomes known later are left out.
    pub until: Option<Duration>,
    /// Of the number of records written, those that the consumer has not taken yet. Asked every few records.
    pub backlog: &'a dyn Fn(u64) -> u64,
    /// Writing waits while the backlog is above this.
    pub backlog_max: u64,
    /// Ends it.
    pub stop: &'a AtomicBool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fed {
    /// Records.
    pub records: u64,
    /// How far simulated time has fallen behind its speed, in real time.
    pub behind: Duration,
}

/// Writes the records of `payments` in order until `feed` says to end, then waits until all are acknowledged. The
/// producer's topics are the payments' and the outcomes', in this order. Waits while the producer's queue is full or
/// the backlog is too large; time lost so is not made up for.
///
/// # Errors
/// A record that waiting does not get delivered.
pub fn run_into(payments: &mut Payments, producer: &mut Producer, feed: &Feed<'_>) -> Result<Fed, ConnectError> {
    let mut send = |record: &Produced| {
        let topic = match record.topic {
            Topic::Payments => PAYMENTS,
            Topic::Outcomes => OUTCOMES,
        };
        let record = OutRecord {
            key: Some(&record.key),
            payload: &record.payload,
            timestamp_ms: record.timestamp_ms,
            headers: &[],
        };
        producer.send(topic, None, &record)
    };
    let fed = write(payments, &mut send, feed, &Machine(Instant::now()))?;
    producer.flush()?;
    Ok(fed)
}

/// Real time.
trait Wall {
    /// Since the start.
    fn elapsed(&self) -> Duration;
    fn pause(&self, time: Duration);
}

struct Machine(Instant);

impl Wall for Machine {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

fn write(
    payments: &mut Payments,
    send: &mut dyn FnMut(&Produced) -> Result<(), ConnectError>,
    feed: &Feed<'_>,
    wall: &dyn Wall,
) -> Result<Fed, ConnectError> {
    let end_ms = feed.until.map_or(i64::MAX, |until| payments.config().moment_ms(until));
    let mut pace = feed.speed.map(|speed| Pace::new(speed, payments.next_at_ms(), wall));
    let mut record = Produced::default();
    let mut records = 0;
    while payments.next_at_ms() < end_ms && !feed.stop.load(Ordering::Relaxed) {
        let early = pace
            .as_mut()
            .is_some_and(|pace| !pace.is_due(payments.next_at_ms(), wall));
        if early || records % LOOK_EVERY == 0 && (feed.backlog)(records) > feed.backlog_max {
            wall.pause(TURN);
            continue;
        }
        payments.advance(&mut record);
        send(&record)?;
        records += 1;
    }
    Ok(Fed {
        records,
        behind: pace.map_or(Duration::ZERO, |pace| pace.lost),
    })
}

/// Says when a record of simulated time is due.
struct Pace {
    /// Simulated milliseconds in a real one.
    speed: f64,
    /// Simulated time at the start.
    start_ms: i64,
    /// Real time at the start.
    began: Duration,
    /// Real time that is not made up for.
    lost: Duration,
    /// Simulated time up to which everything is due, as far as is known.
    due_ms: i64,
}

impl Pace {
    fn new(speed: f64, start_ms: i64, wall: &dyn Wall) -> Self {
        Self {
            speed,
            start_ms,
            began: wall.elapsed(),
            lost: Duration::ZERO,
            due_ms: i64::MIN,
        }
    }

    /// Whether a record of simulated time `at_ms` is due. Reads the clock only when it is not known yet.
    fn is_due(&mut self, at_ms: i64, wall: &dyn Wall) -> bool {
        if at_ms <= self.due_ms {
            return true;
        }
        let passed = wall.elapsed().saturating_sub(self.began);
        // A speed that is none makes everything due: as fast as it goes.
        let wanted = Duration::try_from_secs_f64((at_ms - self.start_ms) as f64 / 1_000.0 / self.speed);
        let Ok(wanted) = wanted else { return true };
        let late = passed.saturating_sub(self.lost).saturating_sub(wanted);
        self.lost += late.saturating_sub(CATCH_UP_MAX);
        let simulated = passed.saturating_sub(self.lost).as_secs_f64() * self.speed * 1_000.0;
        self.due_ms = self.start_ms.saturating_add(simulated as i64);
        at_ms <= self.due_ms
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use driftmill_connectors::kafka::Connection;
    use driftmill_connectors::kafka::mock::Mock;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message;
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

    use super::super::PaymentsConfig;
    use super::*;

    /// Time that passes only by pauses and by what a test adds.
    #[derive(Default)]
    struct Fake(Cell<Duration>);

    impl Wall for Fake {
        fn elapsed(&self) -> Duration {
            self.0.get()
        }

        fn pause(&self, time: Duration) {
            self.0.set(self.0.get() + time);
        }
    }

    fn payments() -> Payments {
        Payments::new(PaymentsConfig {
            rate_per_s: 1_000,
            ..PaymentsConfig::default()
        })
    }

    fn feed<'a>(speed: Option<f64>, stop: &'a AtomicBool, backlog: &'a dyn Fn(u64) -> u64) -> Feed<'a> {
        Feed {
            speed,
            until: Some(Duration::from_secs(2)),
            backlog,
            backlog_max: 100,
            stop,
        }
    }

    #[test]
    fn as_fast_as_it_goes_writes_every_record_once_and_in_order() {
        let (stop, wall) = (AtomicBool::new(false), Fake::default());
        let mut seen = Vec::new();
        let mut send = |record: &Produced| {
            seen.push(record.clone());
            Ok(())
        };
        let fed = write(&mut payments(), &mut send, &feed(None, &stop, &|_| 0), &wall).unwrap();
        let expected: Vec<Produced> = payments().take(seen.len()).collect();
        assert_eq!(seen, expected);
        assert_eq!(
            fed,
            Fed {
                records: seen.len() as u64,
                behind: Duration::ZERO
            }
        );
        assert_eq!(
            seen.iter().filter(|record| record.topic == Topic::Payments).count(),
            2_000
        );
        assert_eq!(wall.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_speed_is_kept_to_the_millisecond() {
        let (stop, wall) = (AtomicBool::new(false), Fake::default());
        let start_ms = payments().next_at_ms();
        let mut send = |record: &Produced| {
            let simulated = (record.timestamp_ms - start_ms) as f64;
            let real = wall.elapsed().as_secs_f64() * 1_000.0;
            assert!(
                (0.0..=4.001).contains(&(real * 4.0 - simulated)),
                "{simulated} ms at {real} ms"
            );
            Ok(())
        };
        write(&mut payments(), &mut send, &feed(Some(4.0), &stop, &|_| 0), &wall).unwrap();
        assert!(wall.elapsed() >= Duration::from_millis(499));
    }

    #[test]
    fn it_waits_while_the_consumer_lags_and_does_not_rush_after() {
        let (stop, wall) = (AtomicBool::new(false), Fake::default());
        let backlog = Cell::new(0_u64);
        let times = RefCell::new(Vec::new());
        // A consumer that takes nothing between 0.5 s and 1.5 s.
        let look = |_| {
            if !(0.5..1.5).contains(&wall.elapsed().as_secs_f64()) {
                backlog.set(0);
            }
            backlog.get()
        };
        let mut send = |_: &Produced| {
            backlog.set(backlog.get() + 1);
            times.borrow_mut().push(wall.elapsed().as_millis());
            Ok(())
        };
        let fed = write(&mut payments(), &mut send, &feed(Some(1.0), &stop, &look), &wall).unwrap();
        let times = times.into_inner();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap >= 850, "the longest pause was {gap} ms");
        assert!(fed.behind >= Duration::from_millis(750), "{fed:?}");
        // Nothing more than 100 ms of records at once, and their outcomes.
        let burst = times.chunk_by(|a, b| a == b).map(<[u128]>::len).max().unwrap();
        assert!(burst <= 200, "{burst} records in one moment");
    }

    #[test]
    fn stopping_ends_it_also_while_it_waits() {
        let (stop, wall) = (AtomicBool::new(false), Fake::default());
        let look = |_| {
            stop.store(wall.elapsed() > Duration::from_secs(1), Ordering::Relaxed);
            u64::MAX
        };
        let fed = write(&mut payments(), &mut |_| Ok(()), &feed(None, &stop, &look), &wall).unwrap();
        assert_eq!(fed.records, 0);
    }

    #[test]
    fn a_record_that_cannot_be_delivered_ends_it() {
        let stop = AtomicBool::new(false);
        let fault = driftmill_connectors::Fault::Environment;
        let mut send = |_: &Produced| Err(ConnectError::new(fault, "kafka", "away", "start it"));
        let error = write(&mut payments(), &mut send, &feed(None, &stop, &|_| 0), &Fake::default()).unwrap_err();
        assert_eq!(error.what, "away");
    }

    /// Reads `count` records of partition 0 of `topic`.
    fn read(brokers: &str, topic: &str, count: usize) -> Vec<(Vec<u8>, Vec<u8>, Option<i64>)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "test")
            .create()
            .unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&from).unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            let message = consumer.poll(Duration::from_secs(30)).unwrap().unwrap();
            let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
            records.push((
                bytes(message.key()),
                bytes(message.payload()),
                message.timestamp().to_millis(),
            ));
        }
        assert!(
            consumer.poll(Duration::from_millis(100)).is_none(),
            "{topic} has more than {count} records"
        );
        records
    }

    #[test]
    fn a_broker_holds_every_record_once_in_its_topic_and_in_order() {
        let topics = ["payments", "payments.outcomes"].map(str::to_owned);
        let mock = Mock::start(&[("payments", 1), ("payments.outcomes", 1)]).unwrap();
        let brokers = mock.brokers();
        let mut producer = Producer::connect(&Connection::plain(&brokers), "generator", &topics).unwrap();
        let stop = AtomicBool::new(false);
        let fed = run_into(&mut payments(), &mut producer, &feed(None, &stop, &|_| 0)).unwrap();
        let expected: Vec<Produced> = payments().take(fed.records as usize).collect();
        for (topic, name) in [
            (Topic::Payments, &topics[PAYMENTS]),
            (Topic::Outcomes, &topics[OUTCOMES]),
        ] {
            let of_topic = expected.iter().filter(|record| record.topic == topic).cloned();
            let expected: Vec<_> = of_topic.map(|r| (r.key, r.payload, Some(r.timestamp_ms))).collect();
            assert!(expected.len() > 500);
            assert!(read(&brokers, name, expected.len()) == expected, "{name}");
        }
    }
}
