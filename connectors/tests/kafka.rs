//! The Kafka connector against a real broker, `DRIFTMILL_KAFKA=host:port`, and against the mock for injected errors.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use driftmill_config::Document;
use driftmill_connectors::kafka::admin::Admin;
use driftmill_connectors::kafka::mock::Mock;
use driftmill_connectors::kafka::producer::Producer;
use driftmill_connectors::kafka::{Connection, epoch_log_topic};
use driftmill_connectors::{
    ConnectError, Delivery, Destination, Encoded, Finding, OpenSink, OpenSource, OutRecord, Partition, SINKS, SOURCES,
    Sink, SinkContext, SinkError, Source, SourceEvent, Start, Unit,
};

/// The broker, or `None` after saying that the test did not run.
fn broker(test: &str) -> Option<String> {
    if let Ok(broker) = std::env::var("DRIFTMILL_KAFKA") {
        return Some(broker);
    }
    assert!(std::env::var("CI").is_err(), "{test} needs DRIFTMILL_KAFKA=host:port");
    eprintln!("not run: {test} needs DRIFTMILL_KAFKA=host:port");
    None
}

/// A name that no other test or run has.
fn unique(test: &str) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    format!("t-{test}-{}-{}", std::process::id(), now.as_nanos())
}

fn admin(broker: &str) -> Admin {
    Admin::connect(&Connection::plain(broker), "test").unwrap()
}

fn topic(broker: &str, test: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    let name = unique(test);
    // The tests write old timestamps, which a broker would remove at its next look.
    let config = [&[("retention.ms", "-1")], config].concat();
    admin(broker).create_topics(&[&name], partitions, &config).unwrap();
    name
}

fn open_source(broker: &str, topic: &str) -> Box<dyn OpenSource> {
    let text = format!("brokers = \"{broker}\"\ntopics = [\"{topic}\"]\n");
    let document = Document::parse("t.toml", &text, &|_| None).unwrap();
    let mut problems = document.problems();
    let source = SOURCES[0].open(&document.root(), &document.root(), "test-source", &mut problems);
    source.unwrap_or_else(|| panic!("{}", problems.render()))
}

fn open_sink(broker: &str, topic: &str, pipeline: &str, delivery: Delivery) -> Box<dyn OpenSink> {
    let text = format!("[sink]\nbrokers = \"{broker}\"\ntopic = \"{topic}\"\n");
    let document = Document::parse("t.toml", &text, &|_| None).unwrap();
    let mut problems = document.problems();
    let context = SinkContext {
        pipeline: pipeline.to_owned(),
        delivery,
        dead_letters: None,
    };
    let (sink, none) = (
        document.root().table("sink", &mut problems),
        document.root().table("none", &mut problems),
    );
    let sink = SINKS[0].open(&sink, &none, &context, &mut problems);
    sink.unwrap_or_else(|| panic!("{}", problems.render()))
}

fn sink(broker: &str, topic: &str, pipeline: &str, delivery: Delivery) -> (Box<dyn Sink>, Vec<Vec<u8>>) {
    let mut sink = open_sink(broker, topic, pipeline, delivery).connect().unwrap();
    let mut log = Vec::new();
    sink.recover(&mut |record| {
        log.push(record.to_vec());
        Ok(epoch_of(record))
    })
    .unwrap();
    (sink, log)
}

/// The tests write records of the form `epoch N`.
fn epoch_of(record: &[u8]) -> u64 {
    std::str::from_utf8(record)
        .unwrap()
        .strip_prefix("epoch ")
        .unwrap()
        .parse()
        .unwrap()
}

fn unit(epoch: u64, payloads: &[&str]) -> Unit {
    let mut outputs = Encoded::default();
    for payload in payloads {
        let headers = vec![("driftmill.test", vec![1, 0, 2])];
        outputs.push(Some(payload.as_bytes()), payload.as_bytes(), 1_700_000_000_123, headers);
    }
    Unit {
        epoch,
        outputs: vec![(Destination::Predictions, outputs)],
        record: format!("epoch {epoch}").into_bytes(),
        offsets: vec![("somewhere".to_owned(), 0, 10 * epoch.cast_signed())],
    }
}

fn unit_into(epoch: u64, payloads: &[&str], source: &str) -> Unit {
    let mut unit = unit(epoch, payloads);
    unit.offsets[0].0 = source.to_owned();
    unit
}

fn write(broker: &str, topic: &str, partition: i32, range: std::ops::Range<usize>) {
    let mut producer = Producer::connect(&Connection::plain(broker), "test", &[topic.to_owned()]).unwrap();
    for number in range {
        let payload = format!("record {number}");
        let record = OutRecord {
            key: None,
            payload: payload.as_bytes(),
            timestamp_ms: 1_000 + number as i64,
            headers: &[],
        };
        producer.send(0, Some(partition), &record).unwrap();
    }
    producer.flush().unwrap();
}

fn from_oldest(source: &mut dyn Source) -> Vec<Partition> {
    let partitions = source.partitions().unwrap();
    source
        .assign(&partitions.iter().map(|p| (*p, Start::Oldest)).collect::<Vec<_>>())
        .unwrap();
    partitions
}

/// Polls until `done` or for 20 seconds.
fn poll_until(source: &mut dyn Source, mut done: impl FnMut(SourceEvent) -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if let Some(event) = source.poll(Duration::from_millis(50)).unwrap()
            && done(event)
        {
            return;
        }
    }
    panic!("what was waited for did not come in 20 s");
}

/// Payloads of everything in a topic, in order within a partition.
fn read_all(broker: &str, topic: &str) -> Vec<String> {
    let mut source = open_source(broker, topic).connect().unwrap();
    let mut left = from_oldest(source.as_mut()).len();
    let mut payloads = Vec::new();
    poll_until(source.as_mut(), |event| {
        match event {
            SourceEvent::Records(records) => {
                payloads.extend(
                    records
                        .iter()
                        .map(|r| String::from_utf8(r.payload.unwrap().to_vec()).unwrap()),
                );
            }
            SourceEvent::End { .. } => left -= 1,
            SourceEvent::Added(_) => panic!("no partition was added"),
            SourceEvent::Gap { .. } => panic!("there is no gap"),
        }
        left == 0
    });
    payloads
}

fn fatal(result: Result<(), SinkError>) -> ConnectError {
    match result {
        Err(SinkError::Fatal(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hundred_thousand_records_arrive_in_order_with_offsets_and_times() {
    let Some(broker) = broker("a_hundred_thousand_records") else {
        return;
    };
    let topic = topic(&broker, "many", 2, &[]);
    write(&broker, &topic, 0, 0..60_000);
    write(&broker, &topic, 1, 60_000..100_000);
    let mut source = open_source(&broker, &topic).connect().unwrap();
    from_oldest(source.as_mut());
    let (mut next, mut ends) = ([0_i64; 2], [None; 2]);
    poll_until(source.as_mut(), |event| {
        match event {
            SourceEvent::Records(records) => {
                let partition = usize::try_from(records.partition().partition).unwrap();
                for record in records.iter() {
                    assert_eq!(record.offset, next[partition]);
                    let number = record.offset + 60_000 * i64::from(partition == 1);
                    assert_eq!(record.payload.unwrap(), format!("record {number}").as_bytes());
                    assert_eq!((record.timestamp_ms, record.key), (1_000 + number, None));
                    next[partition] += 1;
                }
            }
            SourceEvent::End { partition, next } => ends[usize::try_from(partition.partition).unwrap()] = Some(next),
            SourceEvent::Added(_) | SourceEvent::Gap { .. } => panic!("nothing was added or lost"),
        }
        ends == [Some(60_000), Some(40_000)]
    });
    assert_eq!(next, [60_000, 40_000]);
    assert!(source.lag().iter().all(|(_, lag)| *lag == 0), "{:?}", source.lag());
}

#[test]
fn both_modes_deliver_every_record_once_when_nothing_goes_wrong() {
    let Some(broker) = broker("both_modes_deliver") else {
        return;
    };
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let topic = topic(&broker, "modes", 1, &[]);
        let pipeline = unique("p");
        let (mut sink, log) = sink(&broker, &topic, &pipeline, delivery);
        assert!(log.is_empty());
        sink.commit(&[unit_into(1, &["a", "b"], &topic), unit_into(2, &["c"], &topic)])
            .unwrap();
        sink.commit(&[unit_into(3, &["d"], &topic)]).unwrap();
        sink.commit(&[]).unwrap();
        assert_eq!(read_all(&broker, &topic), ["a", "b", "c", "d"], "{delivery:?}");
        if delivery == Delivery::ExactlyOnce {
            assert_eq!(
                read_all(&broker, &epoch_log_topic(&pipeline)),
                ["epoch 1", "epoch 2", "epoch 3"]
            );
        }
    }
}

#[test]
fn a_second_owner_fences_the_first_and_finds_its_epochs() {
    let Some(broker) = broker("a_second_owner_fences_the_first") else {
        return;
    };
    let topic = topic(&broker, "fence", 1, &[]);
    let pipeline = unique("p");
    let (mut first, _) = sink(&broker, &topic, &pipeline, Delivery::ExactlyOnce);
    first.commit(&[unit_into(1, &["a"], &topic)]).unwrap();
    let (mut second, log) = sink(&broker, &topic, &pipeline, Delivery::ExactlyOnce);
    assert_eq!(log, [b"epoch 1".to_vec()]);
    let fenced = first.commit(&[unit_into(2, &["from the first"], &topic)]);
    assert!(matches!(fenced, Err(SinkError::Fenced(_))), "{fenced:?}");
    second.commit(&[unit_into(2, &["b"], &topic)]).unwrap();
    assert_eq!(read_all(&broker, &topic), ["a", "b"]);
}

#[test]
fn the_epoch_log_is_trimmed_and_read_from_what_is_left() {
    let Some(broker) = broker("the_epoch_log_is_trimmed") else {
        return;
    };
    let topic = topic(&broker, "trim", 1, &[]);
    let pipeline = unique("p");
    let (mut first, _) = sink(&broker, &topic, &pipeline, Delivery::ExactlyOnce);
    for epoch in 1..=5 {
        first.commit(&[unit_into(epoch, &["x"], &topic)]).unwrap();
    }
    first.trim(4).unwrap();
    drop(first);
    let (mut second, log) = sink(&broker, &topic, &pipeline, Delivery::ExactlyOnce);
    assert_eq!(log, [b"epoch 4".to_vec(), b"epoch 5".to_vec()]);
    second.trim(100).unwrap();
    assert_eq!(
        read_all(&broker, &epoch_log_topic(&pipeline)),
        ["epoch 5"],
        "the newest record stays"
    );
}

#[test]
fn an_epoch_log_that_would_lose_epochs_is_refused() {
    let Some(broker) = broker("an_epoch_log_that_would_lose_epochs") else {
        return;
    };
    let topic = topic(&broker, "refuse", 1, &[]);
    for (partitions, config, expected) in [
        (2, [("retention.ms", "-1")], "one partition"),
        (1, [("cleanup.policy", "compact")], "compaction"),
    ] {
        let pipeline = unique("p");
        admin(&broker)
            .create_topics(&[&epoch_log_topic(&pipeline)], partitions, &config)
            .unwrap();
        let open = open_sink(&broker, &topic, &pipeline, Delivery::ExactlyOnce);
        let found = open.check(None).unwrap();
        assert!(
            found
                .iter()
                .any(|finding| finding.is_error() && finding.text().contains(expected))
        );
        let error = fatal(open.connect().unwrap().recover(&mut |_| Ok(0)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_record_too_large_for_its_topic_is_fatal_and_says_so() {
    let Some(broker) = broker("a_record_too_large") else {
        return;
    };
    let topic = topic(&broker, "large", 1, &[("max.message.bytes", "2000")]);
    let large = "x".repeat(10_000);
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let open = open_sink(&broker, &topic, &unique("p"), delivery);
        let found = open.check(None).unwrap();
        assert!(
            found
                .iter()
                .any(|finding| finding.is_error() && finding.text().contains("2000 bytes")),
            "{found:?}"
        );
        let mut sink = open.connect().unwrap();
        sink.recover(&mut |_| Ok(0)).unwrap();
        let error = fatal(sink.commit(&[unit_into(1, &[&large], &topic)]));
        assert!(error.to_string().contains("max.message.bytes"), "{error}");
        // What fits can still be written.
        sink.commit(&[unit_into(1, &["small"], &topic)]).unwrap();
    }
    assert_eq!(read_all(&broker, &topic), ["small", "small"]);
}

#[test]
fn records_that_were_deleted_are_a_gap_at_the_start_and_later() {
    let Some(broker) = broker("records_that_were_deleted") else {
        return;
    };
    let topic = topic(&broker, "gap", 1, &[]);
    write(&broker, &topic, 0, 0..100);
    let partition = Partition { topic: 0, partition: 0 };
    let gap = |event| match event {
        SourceEvent::Gap {
            partition: found,
            expected,
            oldest,
            newest,
        } => {
            assert_eq!((found, oldest, newest), (partition, 50, 100));
            Some(expected)
        }
        _ => None,
    };
    // Paused at 10 while everything below 50 goes.
    let mut later = open_source(&broker, &topic).connect().unwrap();
    later.assign(&[(partition, Start::Offset(10))]).unwrap();
    later.pause(&[partition]).unwrap();
    admin(&broker).delete_records(&topic, 0, 50).unwrap();
    later.resume(&[partition]).unwrap();
    poll_until(later.as_mut(), |event| {
        gap(event).is_some_and(|expected| expected == 10)
    });
    for wrong in [0, 49, 101] {
        let mut source = open_source(&broker, &topic).connect().unwrap();
        source.assign(&[(partition, Start::Offset(wrong))]).unwrap();
        poll_until(source.as_mut(), |event| {
            gap(event).is_some_and(|expected| expected == wrong)
        });
    }
    let mut source = open_source(&broker, &topic).connect().unwrap();
    source.assign(&[(partition, Start::Offset(50))]).unwrap();
    poll_until(source.as_mut(), |event| match event {
        SourceEvent::Records(records) => {
            assert_eq!(records.offset(0), 50);
            true
        }
        _ => panic!("there is no gap at 50"),
    });
}

#[test]
fn a_new_partition_is_told_and_read_once_assigned() {
    let Some(broker) = broker("a_new_partition") else {
        return;
    };
    let topic = topic(&broker, "added", 1, &[]);
    write(&broker, &topic, 0, 0..10);
    let mut source = open_source(&broker, &topic).connect().unwrap();
    from_oldest(source.as_mut());
    let (old, new) = (
        Partition { topic: 0, partition: 0 },
        Partition { topic: 0, partition: 1 },
    );
    poll_until(source.as_mut(), |event| {
        matches!(event, SourceEvent::End { next: 10, .. })
    });
    admin(&broker).add_partitions(&topic, 2).unwrap();
    write(&broker, &topic, 1, 10..15);
    poll_until(
        source.as_mut(),
        |event| matches!(event, SourceEvent::Added(added) if added == new),
    );
    source
        .assign(&[(old, Start::Offset(10)), (new, Start::Oldest)])
        .unwrap();
    write(&broker, &topic, 0, 15..20);
    let mut counts = [0; 2];
    poll_until(source.as_mut(), |event| {
        if let SourceEvent::Records(records) = event {
            counts[usize::try_from(records.partition().partition).unwrap()] += records.len();
        }
        counts == [5, 5]
    });
}

#[test]
fn pause_and_resume_lose_and_repeat_nothing() {
    let Some(broker) = broker("pause_and_resume") else {
        return;
    };
    let topic = topic(&broker, "pause", 2, &[]);
    write(&broker, &topic, 0, 0..30_000);
    write(&broker, &topic, 1, 0..30_000);
    let mut source = open_source(&broker, &topic).connect().unwrap();
    let partitions = from_oldest(source.as_mut());
    let (mut next, mut turn, mut written) = ([0_i64; 2], 0_usize, 30_000);
    poll_until(source.as_mut(), |event| {
        if let SourceEvent::Records(records) = event {
            let partition = usize::try_from(records.partition().partition).unwrap();
            for row in 0..records.len() {
                assert_eq!(records.offset(row), next[partition], "partition {partition}");
                next[partition] += 1;
            }
        }
        next == [30_000, 30_000]
    });
    // At the end, where the client's own position is one too far.
    while written < 30_050 {
        let held = partitions[turn % 2];
        source.pause(&[held]).unwrap();
        write(&broker, &topic, 0, written..written + 5);
        write(&broker, &topic, 1, written..written + 5);
        for _ in 0..5 {
            if let Some(SourceEvent::Records(records)) = source.poll(Duration::from_millis(20)).unwrap() {
                assert_ne!(records.partition(), held, "a paused partition was read");
                let partition = usize::try_from(records.partition().partition).unwrap();
                assert_eq!(records.offset(0), next[partition]);
                next[partition] = records.offset(records.len() - 1) + 1;
            }
        }
        source.resume(&[held]).unwrap();
        (turn, written) = (turn + 1, written + 5);
        let all = i64::try_from(written).unwrap();
        poll_until(source.as_mut(), |event| {
            if let SourceEvent::Records(records) = event {
                let partition = usize::try_from(records.partition().partition).unwrap();
                assert_eq!(records.offset(0), next[partition], "partition {partition}");
                next[partition] = records.offset(records.len() - 1) + 1;
            }
            next == [all, all]
        });
    }
}

#[test]
fn check_names_missing_topics() {
    let Some(broker) = broker("check_names_missing_topics") else {
        return;
    };
    let missing = unique("missing");
    let one = |findings: &[Finding]| {
        let named = |finding: &Finding| finding.is_error() && finding.text().contains(&missing);
        assert!(findings.len() == 1 && named(&findings[0]), "{findings:?}");
    };
    one(&open_source(&broker, &missing).check().unwrap().findings);
    let sink = open_sink(&broker, &missing, "p", Delivery::AtLeastOnce);
    one(&sink.check(None).unwrap());
    assert!(sink.connect().err().unwrap().to_string().contains("does not exist"));
    let there = topic(&broker, "there", 1, &[]);
    let found = open_source(&broker, &there).check().unwrap();
    assert_eq!((found.findings, found.oldest_ms), (Vec::new(), None));
    let sink = open_sink(&broker, &there, "p", Delivery::ExactlyOnce);
    assert_eq!(sink.check(None).unwrap(), Vec::new());
}

/// The warnings of a check that finds no error, as one text.
fn warnings(findings: &[Finding]) -> String {
    assert!(!findings.iter().any(Finding::is_error), "{findings:?}");
    let texts: Vec<&str> = findings.iter().map(Finding::text).collect();
    texts.join("\n")
}

#[test]
fn check_warns_of_topics_that_would_lose_old_records() {
    let Some(broker) = broker("check_warns_of_topics") else {
        return;
    };
    // Records of 1970: written with the timestamps 1000 and later.
    let input = topic(&broker, "old", 2, &[]);
    write(&broker, &input, 0, 500..520);
    write(&broker, &input, 1, 7..20);
    let found = open_source(&broker, &input).check().unwrap();
    assert_eq!(
        (warnings(&found.findings), found.oldest_ms),
        (String::new(), Some(1_007))
    );

    let check = |topic: &str| {
        let sink = open_sink(&broker, topic, "p", Delivery::ExactlyOnce);
        warnings(&sink.check(found.oldest_ms).unwrap())
    };
    let week = topic(&broker, "week", 1, &[("retention.ms", "604800000")]);
    let text = check(&week);
    for part in [&week, "7 days", "LogAppendTime"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let arrival = [
        ("retention.ms", "604800000"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    assert_eq!(check(&topic(&broker, "arrival", 1, &arrival)), "");
    assert_eq!(check(&topic(&broker, "kept", 1, &[])), "");
    let text = check(&topic(&broker, "small", 1, &[("retention.bytes", "100000")]));
    assert!(text.contains("100000 bytes"), "{text}");

    let short = topic(&broker, "short", 1, &[("retention.ms", "7200000")]);
    let found = open_source(&broker, &short).check().unwrap();
    let text = warnings(&found.findings);
    assert!(text.contains(&short) && text.contains("2 hours"), "{text}");
}

#[test]
fn after_a_failed_request_the_whole_epoch_is_sent_again() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let mock = Mock::start(&[("out", 1)]).unwrap();
    let (mut sink, _) = sink(&mock.brokers(), "out", "p", Delivery::AtLeastOnce);
    sink.commit(&[unit(1, &["a"])]).unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
    mock.cluster().request_errors(RDKafkaApiKey::Produce, &[refused]);
    sink.commit(&[unit(2, &["b", "c"])]).unwrap();
    assert_eq!(read_all(&mock.brokers(), "out"), ["a", "b", "c"]);
}

/// The offset of a consumer group as Kafka's own tools ask for it; `None` when there is none.
fn group_offset(broker: &str, pipeline: &str, topic: &str) -> Option<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let group = format!("driftmill-{pipeline}");
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", &group)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(topic, 0);
    let list = consumer.committed_offsets(list, Duration::from_secs(20)).unwrap();
    list.elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
}

#[test]
fn group_offsets_follow_the_commits_for_lag_tools() {
    let Some(broker) = broker("group_offsets_follow") else {
        return;
    };
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let topic = topic(&broker, "group", 1, &[]);
        let pipeline = unique("p");
        let (mut sink, _) = sink(&broker, &topic, &pipeline, delivery);
        assert_eq!(group_offset(&broker, &pipeline, &topic), None, "{delivery:?}");
        let reaches = |offset| {
            let begun = Instant::now();
            while group_offset(&broker, &pipeline, &topic) != Some(offset) {
                assert!(begun.elapsed() < Duration::from_secs(60), "{delivery:?}: not {offset}");
                thread::sleep(Duration::from_millis(100));
            }
        };
        sink.commit(&[unit_into(1, &["a"], &topic), unit_into(2, &["b"], &topic)])
            .unwrap();
        reaches(20);
        sink.commit(&[unit_into(3, &["c"], &topic)]).unwrap();
        // The last ones are published on the way out.
        drop(sink);
        reaches(30);
    }
}

/// A proxy that knows the Kafka protocol's framing. While `armed` is above zero, each EndTxn takes one from it and
/// loses its answer (`forward`) or itself, and then the connection.
struct Proxy {
    armed: Arc<AtomicUsize>,
    forward: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
}

/// API key of EndTxn.
const END_TXN: [u8; 2] = [0, 26];

impl Proxy {
    fn start(listen: &str, upstream: &str) -> Self {
        let proxy = Self {
            armed: Arc::default(),
            forward: Arc::default(),
            lost: Arc::default(),
        };
        let listener = TcpListener::bind(listen).unwrap();
        let (armed, forward, lost) = (proxy.armed.clone(), proxy.forward.clone(), proxy.lost.clone());
        let upstream = upstream.to_owned();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, broker) = (client.unwrap(), TcpStream::connect(&upstream).unwrap());
                let (armed, forward, lost) = (armed.clone(), forward.clone(), lost.clone());
                let (mut from_broker, mut to_client) = (broker.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_broker, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
                thread::spawn(move || requests(client, broker, &armed, &forward, &lost));
            }
        });
        proxy
    }
}

fn requests(
    mut client: TcpStream,
    mut broker: TcpStream,
    armed: &AtomicUsize,
    forward: &AtomicBool,
    lost: &AtomicUsize,
) {
    let mut size = [0; 4];
    while client.read_exact(&mut size).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        if client.read_exact(&mut frame).is_err() {
            break;
        }
        let hit = frame.starts_with(&END_TXN)
            && armed
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        if hit {
            lost.fetch_add(1, Ordering::SeqCst);
            // The answer must not come through.
            client.shutdown(Shutdown::Write).unwrap();
        }
        if !hit || forward.load(Ordering::SeqCst) {
            broker.write_all(&size).unwrap();
            broker.write_all(&frame).unwrap();
        }
        if hit {
            thread::sleep(Duration::from_millis(200));
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
}

/// Needs a broker whose advertised address is the proxy's: `DRIFTMILL_KAFKA_BEHIND="BROKER PROXY"`.
#[test]
fn a_lost_answer_to_a_commit_neither_loses_nor_doubles_anything() {
    let Ok(addresses) = std::env::var("DRIFTMILL_KAFKA_BEHIND") else {
        eprintln!("not run: a_lost_answer needs DRIFTMILL_KAFKA_BEHIND=\"BROKER PROXY\"");
        return;
    };
    let (upstream, listen) = addresses.split_once(' ').unwrap();
    let proxy = Proxy::start(listen, upstream);
    let topic = topic(listen, "lost", 1, &[]);
    let pipeline = unique("p");
    let (mut sink, _) = sink(listen, &topic, &pipeline, Delivery::ExactlyOnce);
    let mut expected = Vec::new();
    // Lost once: the client library asks again. Lost many times: the call runs into its time-out.
    for (epoch, (armed, forward)) in [(1, true), (1, false), (10_000, true), (10_000, false)]
        .into_iter()
        .enumerate()
    {
        proxy.forward.store(forward, Ordering::SeqCst);
        proxy.armed.store(armed, Ordering::SeqCst);
        let heal = proxy.armed.clone();
        let healed = thread::spawn(move || {
            thread::sleep(Duration::from_secs(if armed > 1 { 35 } else { 0 }));
            (armed > 1).then(|| heal.store(0, Ordering::SeqCst));
        });
        let begun = Instant::now();
        let payload = format!("{epoch}");
        sink.commit(&[unit_into(epoch as u64 + 1, &[&payload], &topic)])
            .unwrap();
        let (lost, took) = (proxy.lost.swap(0, Ordering::SeqCst), begun.elapsed());
        eprintln!("epoch {} committed after {took:?}; EndTxn lost {lost} times", epoch + 1);
        assert!(lost > 0, "nothing was lost");
        healed.join().unwrap();
        proxy.armed.store(0, Ordering::SeqCst);
        expected.push(payload);
        assert_eq!(read_all(listen, &topic), expected);
    }
    assert_eq!(
        read_all(listen, &epoch_log_topic(&pipeline)),
        ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    );
}
