//! What the other tests stand on: that the harness sees what a real Kafka does.

use std::time::Duration;

use driftmill_tests::kafka::{Broker, Isolation, Record};
use driftmill_tests::proxy::{END_TXN, Proxy, Then};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const LIMIT: Duration = Duration::from_secs(60);

fn transactional(bootstrap: &str, id: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "60000");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &str, payload: &str) {
    producer
        .send(BaseRecord::<(), str>::to(topic).payload(payload))
        .unwrap();
}

fn payloads(broker: &Broker, topic: &str, isolation: Isolation) -> Vec<String> {
    let messages = broker.read(topic, isolation).into_iter();
    messages
        .map(|message| String::from_utf8(message.payload.unwrap()).unwrap())
        .collect()
}

#[test]
fn what_is_produced_is_read() {
    let Some(broker) = Broker::shared() else { return };
    let topic = Broker::unique("round-trip");
    broker.create_topic(&topic, 2);
    let record = |i: i64| Record {
        partition: Some((i % 2) as i32),
        timestamp_ms: Some(1_357_035_300_000 + i),
        key: Some(format!("k{i}").into_bytes()),
        payload: (i != 3).then(|| format!("v{i}").into_bytes()),
        headers: vec![("h".to_owned(), i.to_string().into_bytes())],
    };
    assert_eq!(broker.produce(&topic, (0..5000).map(record)), 5000);

    let mut read = broker.read(&topic, Isolation::Committed);
    read.sort_by_key(|message| message.timestamp_ms);
    assert_eq!(read.len(), 5000);
    for (i, message) in (0..).zip(&read) {
        let sent = record(i);
        assert_eq!(
            (Some(message.partition), message.timestamp_ms),
            (sent.partition, sent.timestamp_ms)
        );
        assert_eq!(
            (&message.key, &message.payload, &message.headers),
            (&sent.key, &sent.payload, &sent.headers)
        );
        assert_eq!(message.header("h"), Some(i.to_string()));
    }
    broker.delete_topics(&[&topic]);
}

#[test]
fn read_committed_leaves_out_what_was_aborted_or_is_open() {
    let Some(broker) = Broker::shared() else { return };
    let topic = Broker::unique("isolation");
    broker.create_topic(&topic, 1);
    let producer = transactional(broker.bootstrap(), &topic);
    for (payload, commit) in [("aborted", false), ("committed", true)] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, payload);
        producer.flush(LIMIT).unwrap();
        if commit {
            producer.commit_transaction(LIMIT).unwrap();
        } else {
            producer.abort_transaction(LIMIT).unwrap();
        }
    }
    producer.begin_transaction().unwrap();
    send(&producer, &topic, "open");
    producer.flush(LIMIT).unwrap();

    assert_eq!(payloads(broker, &topic, Isolation::Committed), ["committed"]);
    assert_eq!(
        payloads(broker, &topic, Isolation::Uncommitted),
        ["aborted", "committed", "open"]
    );
    producer.abort_transaction(LIMIT).unwrap();
}

#[test]
fn a_commit_whose_answer_is_lost_has_happened() {
    let Some(broker) = Broker::shared() else { return };
    let Some(proxy) = Proxy::before(broker) else { return };
    let topic = Broker::unique("lost-answer");
    broker.create_topic(&topic, 1);
    let producer = transactional(proxy.bootstrap(), &topic);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, "once");
    producer.flush(LIMIT).unwrap();

    proxy.hold(END_TXN, 1, Then::CutAndRefuse);
    let error = producer
        .commit_transaction(Duration::from_secs(3))
        .expect_err("the client cannot know");
    assert_eq!(proxy.held(), 1, "{error}");
    assert_eq!(proxy.requests(END_TXN), 1);
    drop(producer);
    proxy.refuse(false);

    // What the client could not know: the broker had committed.
    drop(transactional(proxy.bootstrap(), &topic));
    assert_eq!(payloads(broker, &topic, Isolation::Committed), ["once"]);
}

#[test]
fn a_node_can_be_killed_frozen_and_started_again() {
    let Some(broker) = Broker::own(1) else { return };
    broker.create_topic("kept", 1);
    broker.produce("kept", [Record::of("before")]);
    broker.freeze(1);
    broker.thaw(1);
    broker.kill(1);
    broker.restart(1);
    broker.produce("kept", [Record::of("after")]);
    assert_eq!(payloads(&broker, "kept", Isolation::Committed), ["before", "after"]);
}
