//! The records of a world, by themselves and under the SQL of quickstart.toml.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, SchemaRef};
use driftmill_config::Document;
use driftmill_connectors::{BadRecord, Codec, parse_schema};

use super::*;
use crate::transform::Transform;

const QUICKSTART: &str = include_str!("../../../config/examples/quickstart.toml");

/// A small world with everything in it: the change after 4 s of 10.
fn config(seed: u64) -> PaymentsConfig {
    PaymentsConfig {
        seed,
        rate_per_s: 2_000,
        drift_at: Some(Duration::from_secs(4)),
        bad_feed: Some((Duration::from_secs(1), Duration::from_secs(3))),
        malformed_share: 0.01,
        test_share: 0.02,
        ..PaymentsConfig::default()
    }
}

/// All records of the first ten seconds.
fn records(seed: u64) -> (Payments, Vec<Produced>) {
    let mut payments = Payments::new(config(seed));
    let end_ms = payments.config().moment_ms(Duration::from_secs(10));
    let mut records = Vec::new();
    while payments.next_at_ms() < end_ms {
        let promised = payments.next_at_ms();
        records.extend(payments.next());
        assert_eq!(records.last().map(|record| record.timestamp_ms), Some(promised));
    }
    (payments, records)
}

fn of(records: &[Produced], topic: Topic) -> Vec<&Produced> {
    records.iter().filter(|record| record.topic == topic).collect()
}

fn key(record: &Produced) -> &str {
    std::str::from_utf8(&record.key).unwrap()
}

#[test]
fn a_seed_gives_its_bytes_and_another_gives_others() {
    let (first, again, other) = (records(1).1, records(1).1, records(2).1);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let mut reused = Produced::default();
    let mut payments = Payments::new(config(1));
    for record in &first {
        payments.advance(&mut reused);
        assert_eq!(&reused, record);
    }
}

#[test]
fn records_are_in_order_of_time_and_each_outcome_comes_after_its_payment() {
    let (payments, records) = records(3);
    assert!(records.is_sorted_by_key(|record| record.timestamp_ms));
    let mut made = HashMap::new();
    let mut known = HashSet::new();
    for record in &records {
        match record.topic {
            Topic::Payments => assert_eq!(made.insert(record.key.clone(), record.timestamp_ms), None),
            Topic::Outcomes => {
                let delay = record.timestamp_ms - made[&record.key];
                assert!((1..=5_000).contains(&delay), "a delay of {delay} ms");
                assert!(known.insert(record.key.clone()), "an outcome twice");
            }
        }
    }
    let counts = payments.counts();
    assert_eq!((counts.payments, counts.outcomes), (20_000, known.len() as u64));
    // Half become known; those of the last second or so are still to come.
    assert!((8_000..10_000).contains(&known.len()), "{} outcomes", known.len());
}

#[test]
fn the_oracle_knows_every_payment() {
    let (payments, records) = records(4);
    let oracle = payments.oracle();
    let mut counts = Counts::default();
    for record in of(&records, Topic::Payments) {
        let truth = oracle.truth(key(record)).unwrap();
        assert_eq!(truth.at_ms, record.timestamp_ms);
        counts.payments += 1;
        counts.frauds += u64::from(truth.fraud());
        counts.tests += u64::from(truth.form == Form::Test);
        counts.malformed += u64::from(matches!(truth.form, Form::Malformed(_)));
        counts.in_cents += u64::from(truth.in_cents && truth.form == Form::Ordinary);
    }
    for record in of(&records, Topic::Outcomes) {
        let truth = oracle.truth(key(record)).unwrap();
        assert_eq!(truth.outcome_ms, Some(record.timestamp_ms));
        let says: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
        assert_eq!(says["fraud"].as_bool(), Some(truth.fraud()));
        assert_eq!(says["payment_id"].as_str(), Some(key(record)));
        assert_eq!(says["known_at"].as_i64(), Some(record.timestamp_ms));
        counts.outcomes += 1;
    }
    assert_eq!(counts, payments.counts());
    let other = Payments::new(PaymentsConfig {
        start_ms: 5,
        ..config(4)
    })
    .oracle();
    for id in [
        key(&records[0]),
        "",
        "p",
        "p5",
        "p5-",
        "p5-+1",
        "p5-x",
        "q5-1",
        "p5-99999999999999999999999",
    ] {
        assert_eq!(other.truth(id), None, "{id:?}");
    }
}

#[test]
fn the_truth_of_a_span_is_that_of_its_payments() {
    // 3,000 a second: payments do not fall on whole milliseconds.
    let mut payments = Payments::new(PaymentsConfig {
        rate_per_s: 3_000,
        ..config(5)
    });
    let records: Vec<Produced> = payments.by_ref().take(9_000).collect();
    let oracle = payments.oracle();
    let start_ms = payments.config().start_ms;
    for (from, to) in [(0, 1_000), (333, 334), (700, 700), (900, 100), (-50, 20)] {
        let span = start_ms + from..start_ms + to;
        let expected: Vec<Truth> = of(&records, Topic::Payments)
            .into_iter()
            .filter(|record| span.contains(&record.timestamp_ms))
            .map(|record| oracle.truth(key(record)).unwrap())
            .collect();
        let found: Vec<Truth> = oracle.between(span.start, span.end).collect();
        assert_eq!(found, expected, "{span:?}");
    }
}

#[test]
fn the_shares_are_those_of_the_settings() {
    let world = Payments::new(PaymentsConfig {
        rate_per_s: 20_000,
        ..config(6)
    })
    .oracle();
    let change_ms = config(6).moment_ms(Duration::from_secs(4));
    let truths: Vec<Truth> = world
        .between(i64::MIN, config(6).moment_ms(Duration::from_secs(10)))
        .collect();
    let (before, after): (Vec<&Truth>, Vec<&Truth>) = truths.iter().partition(|truth| truth.at_ms < change_ms);
    let share = |of: &[&Truth], is: &dyn Fn(&Truth) -> bool| {
        of.iter().filter(|truth| is(truth)).count() as f64 / of.len() as f64
    };
    for part in [&before, &after] {
        let fraud = share(part, &|truth| truth.fraud());
        assert!((fraud - 0.011).abs() < 0.001_5, "{fraud}");
        let known = share(part, &|truth| truth.outcome_ms.is_some());
        assert!((known - 0.485).abs() < 0.01, "{known}");
    }
    let frauds: Vec<&Truth> = after.into_iter().filter(|truth| truth.fraud()).collect();
    let new = share(&frauds, &|truth| truth.pattern == Pattern::New);
    assert!((0.5..0.7).contains(&new), "{new}");
    assert!(before.iter().all(|truth| truth.pattern != Pattern::New));
    // Labels are a fair sample: fraud is no likelier among them.
    let labelled: Vec<&Truth> = truths.iter().filter(|truth| truth.outcome_ms.is_some()).collect();
    let fraud = share(&labelled, &|truth| truth.fraud());
    assert!((fraud - 0.011).abs() < 0.001_5, "{fraud}");
}

/// Schema and SQL of quickstart.toml.
fn quickstart() -> (SchemaRef, Transform) {
    let document = Document::parse("quickstart.toml", QUICKSTART, &|_| None).unwrap();
    let mut problems = document.problems();
    let source = document.root().table("source", &mut problems);
    let schema = parse_schema(&source.table("schema", &mut problems), &mut problems).unwrap();
    let features = document.root().table("features", &mut problems);
    let sql: String = features.require("sql", &mut problems).unwrap();
    let transform = Transform::plan(&sql, SchemaRef::clone(&schema)).unwrap();
    (schema, transform)
}

/// What quickstart.toml makes of payments: rows, number filtered, records that cannot be decoded.
fn run(payments: &[&Produced]) -> (RecordBatch, usize, Vec<(usize, BadRecord)>) {
    let (_, transform) = quickstart();
    let mut decoder = driftmill_connectors::json::JSON
        .decoder(SchemaRef::clone(transform.read_schema()))
        .unwrap();
    let payloads: Vec<Option<&[u8]>> = payments.iter().map(|record| Some(record.payload.as_slice())).collect();
    let decoded = decoder.decode(&payloads).unwrap();
    let transformed = transform.apply(&decoded.batch);
    assert_eq!(transformed.failed, vec![]);
    (transformed.batch, transformed.filtered, decoded.bad)
}

#[test]
fn quickstart_reads_every_column_and_makes_the_features_that_were_judged() {
    let (schema, transform) = quickstart();
    assert_eq!(transform.read_schema().fields().len(), schema.fields().len());
    for column in learnability::columns() {
        assert!(
            transform.output_schema().index_of(&column.name).is_ok(),
            "no column {}",
            column.name
        );
    }
}

#[test]
fn under_quickstart_every_payment_has_the_outcome_that_the_oracle_says() {
    let (payments, records) = records(7);
    let made = of(&records, Topic::Payments);
    let (batch, filtered, bad) = run(&made);
    let counts = payments.counts();
    assert_eq!((filtered as u64, bad.len() as u64), (counts.tests, counts.malformed));
    assert_eq!((batch.num_rows() + filtered + bad.len()) as u64, counts.payments);
    let oracle = payments.oracle();
    let mut kinds: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (row, bad) in &bad {
        let fault = match oracle.truth(key(made[*row])).unwrap().form {
            Form::Malformed(Fault::Truncated) => "truncated",
            Form::Malformed(Fault::TextForNumber | Fault::FractionForInteger) => "type",
            Form::Malformed(Fault::Empty) => "empty",
            form => panic!("{form:?}: {bad}"),
        };
        kinds.entry(fault).or_default().insert(bad.kind);
    }
    let expected = [("truncated", "syntax"), ("type", "type"), ("empty", "empty")];
    assert_eq!(
        kinds,
        expected.map(|(fault, kind)| (fault, HashSet::from([kind]))).into()
    );
}

#[test]
fn the_quarantine_of_quickstart_catches_cents_for_euros_and_nothing_else() {
    let document = Document::parse("quickstart.toml", QUICKSTART, &|_| None).unwrap();
    let mut problems = document.problems();
    let rules = document.root().tables("quality", &mut problems);
    let bound = |key: &str, problems: &mut _| rules[0].require::<f64>(key, problems).unwrap();
    let range = [bound("min", &mut problems), bound("max", &mut problems)];
    for seed in 0..5 {
        let (payments, records) = records(seed);
        let (batch, ..) = run(&of(&records, Topic::Payments));
        let amounts = batch
            .column_by_name("log_amount")
            .unwrap()
            .as_primitive::<Float64Type>();
        let ids = batch.column_by_name("payment_id").unwrap().as_string::<i32>();
        let oracle = payments.oracle();
        let mut caught = 0;
        for row in 0..batch.num_rows() {
            let truth = oracle.truth(ids.value(row)).unwrap();
            let out_of_range = !(range[0]..=range[1]).contains(&amounts.value(row));
            assert_eq!(out_of_range, truth.in_cents, "seed {seed}: {truth:?}");
            caught += u64::from(out_of_range);
        }
        assert_eq!(caught, payments.counts().in_cents, "seed {seed}");
        assert!(caught > 10, "seed {seed}: {caught}");
    }
}

#[test]
fn some_values_are_missing_and_amounts_are_what_they_were() {
    let (payments, records) = records(8);
    let (batch, ..) = run(&of(&records, Topic::Payments));
    for (name, share) in [("abroad", 0.005), ("card_age", 0.01), ("payments_last_hour", 0.005)] {
        let missing = batch.column_by_name(name).unwrap().null_count() as f64 / batch.num_rows() as f64;
        assert!((missing - share).abs() < 0.003, "{name}: {missing}");
    }
    let oracle = payments.oracle();
    let ids = batch.column_by_name("payment_id").unwrap().as_string::<i32>();
    let amounts = batch.column_by_name("amount").unwrap().as_primitive::<Float64Type>();
    for row in 0..batch.num_rows() {
        let truth = oracle.truth(ids.value(row)).unwrap();
        let unit = if truth.in_cents { 1.0 } else { 100.0 };
        assert_eq!((amounts.value(row) * unit).round() as u64, truth.amount_cents);
    }
}
