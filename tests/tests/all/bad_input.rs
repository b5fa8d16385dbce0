//! Whatever the input holds, every record has the outcome that docs/bad-input.md names, and the others do not notice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use driftmill::models::artifact::Artifact;
use driftmill::models::contracts::Task;
use driftmill::models::dictionary::Dictionaries;
use driftmill::models::frame::{Column, ColumnKind, Frame};
use driftmill::models::model::Model;
use driftmill::models::scorers::linear::{Linear, Link};
use driftmill::settings::Settings;
use driftmill_tests::daemon::{Daemon, free_port};
use driftmill_tests::kafka::{Broker, Isolation, Message, Record};
use driftmill_tests::outcomes::{Due, Outcomes, Place};

use crate::pipeline::LIMIT;

/// Records that nothing is wrong with.
const GOOD: i64 = 3000;
/// Of a hundred records this many are odd.
const PERCENT: i64 = 5;
/// Numbers of odd records begin here; none of them is divisible by 10, which the SQL would filter.
const ODD: i64 = 1_000_001;
const AT: i64 = 1_700_000_000_000;
/// More than a topic takes by default.
const LARGE: usize = 1_200_000;

/// What must become of an odd record.
enum Fate {
    /// A dead letter of this kind, whose reason contains this.
    Dead(&'static str, &'static str),
    /// A prediction.
    Predicted,
    /// Nothing, by the WHERE.
    Filtered,
}

use Fate::{Dead, Filtered, Predicted};

type Payload = Option<Vec<u8>>;

/// One kind of odd record.
struct Odd {
    name: &'static str,
    payload: Box<dyn Fn(i64) -> Payload>,
    fate: Fate,
}

/// The fields of a record that nothing is wrong with, as JSON texts. `spare` is declared and not read by the SQL.
fn fields(id: i64) -> Vec<(&'static str, String)> {
    let x = (id * 7919 % 1000) as f64 / 500.0 - 1.0;
    // New categories keep coming until the end.
    let kind = format!("\"k{}\"", id % ODD / 50);
    vec![
        ("id", id.to_string()),
        ("at", (AT + id % ODD * 20).to_string()),
        ("x", x.to_string()),
        ("n", (id % 7).to_string()),
        ("w", (id % 9 + 1).to_string()),
        ("code", format!("\"{}\"", id % 5)),
        ("kind", kind),
        ("flag", (id % 2 == 0).to_string()),
        ("note", "\"-\"".to_owned()),
        ("spare", "1.5".to_owned()),
        ("place", format!("[{x},{},0.5]", -x / 3.0)),
    ]
}

fn object(fields: &[(&'static str, String)]) -> Vec<u8> {
    let members: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

fn good(id: i64) -> Vec<u8> {
    object(&fields(id))
}

/// The good record with another value for one key; a key that it does not have is added.
fn with(key: &'static str, value: String) -> Box<dyn Fn(i64) -> Payload> {
    Box::new(move |id| {
        let mut fields = fields(id);
        match fields.iter_mut().find(|(known, _)| *known == key) {
            Some(field) => field.1.clone_from(&value),
            None => fields.push((key, value.clone())),
        }
        Some(object(&fields))
    })
}

/// The good record with its bytes changed.
fn changed(change: impl Fn(Vec<u8>) -> Vec<u8> + 'static) -> Box<dyn Fn(i64) -> Payload> {
    Box::new(move |id| Some(change(good(id))))
}

/// Bytes that stand for every record, whatever its number.
fn always(bytes: &'static [u8]) -> Box<dyn Fn(i64) -> Payload> {
    Box::new(move |_| Some(bytes.to_vec()))
}

fn odd(name: &'static str, payload: Box<dyn Fn(i64) -> Payload>, fate: Fate) -> Odd {
    Odd { name, payload, fate }
}

/// The good record with one value replaced.
fn value(name: &'static str, key: &'static str, value: &str, fate: Fate) -> Odd {
    odd(name, with(key, value.to_owned()), fate)
}

/// Brackets around `inside`, so many.
fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn odds() -> Vec<Odd> {
    [payloads(), values(), sql(), sizes()].into_iter().flatten().collect()
}

/// Wrong as a whole.
fn payloads() -> Vec<Odd> {
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 9);
        bytes
    };
    let latin1 = |bytes: Vec<u8>| [&bytes[..bytes.len() - 1], b",\"extra\":\"caf\xe9\"}"].concat();
    vec![
        odd("truncated", changed(cut), Dead("syntax", "EOF")),
        odd("no JSON", always(b"hello"), Dead("syntax", "")),
        odd("white space", always(b"  \n"), Dead("syntax", "")),
        odd(
            "two objects",
            changed(|bytes| bytes.repeat(2)),
            Dead("syntax", "trailing"),
        ),
        odd(
            "a byte order mark",
            changed(|bytes| [b"\xef\xbb\xbf", &bytes[..]].concat()),
            Dead("syntax", ""),
        ),
        odd(
            "trailing comma",
            changed(|bytes| [&bytes[..bytes.len() - 1], b",}"].concat()),
            Dead("syntax", ""),
        ),
        odd(
            "invalid UTF-8 in an extra field",
            changed(latin1),
            Dead("utf8", "not UTF-8"),
        ),
        odd("empty", always(b""), Dead("empty", "no bytes")),
        odd("tombstone", Box::new(|_| None), Dead("tombstone", "no payload")),
        odd("an array", always(b"[1,2]"), Dead("type", "expected an object")),
        odd("a number", always(b"42"), Dead("type", "expected an object")),
        odd("null", always(b"null"), Dead("type", "expected an object")),
        odd("nothing in it", always(b"{}"), Filtered),
        odd(
            "nested 65 deep",
            with("extra", nested(64)),
            Dead("depth", "deeper than 64"),
        ),
        odd(
            "nested 100,000 deep",
            with("extra", nested(100_000)),
            Dead("depth", "deeper than 64"),
        ),
        odd("nested 64 deep", with("extra", nested(63)), Predicted),
    ]
}

/// A field is missing, there twice, too many, or of a wrong value.
fn values() -> Vec<Odd> {
    let twice = |bytes: Vec<u8>| [&bytes[..bytes.len() - 1], b",\"x\":0.5}"].concat();
    let escaped = |bytes: Vec<u8>| [&bytes[..bytes.len() - 1], b",\"\\u0078\":0.5}"].concat();
    let spare = |bytes: Vec<u8>| [&bytes[..bytes.len() - 1], b",\"spare\":\"again\"}"].concat();
    let missing = |id| {
        Some(object(
            &fields(id)
                .into_iter()
                .filter(|(key, _)| *key != "x")
                .collect::<Vec<_>>(),
        ))
    };
    vec![
        odd("missing field", Box::new(missing), Predicted),
        value("null", "x", "null", Predicted),
        value("null category", "kind", "null", Predicted),
        value("null id", "id", "null", Filtered),
        value("extra field", "extra", "{\"a\":[1,\"b\"]}", Predicted),
        value(
            "wrong type in a column that is not read",
            "spare",
            "\"text\"",
            Predicted,
        ),
        odd("a key that is not read, twice", changed(spare), Predicted),
        odd("duplicate key", changed(twice), Dead("duplicate-key", "`x`")),
        odd(
            "duplicate key, once escaped",
            changed(escaped),
            Dead("duplicate-key", "`x`"),
        ),
        value("1.9 for an integer", "n", "1.9", Dead("type", "1.9")),
        value("1.0 for an integer", "n", "1.0", Dead("type", "`n`")),
        value("1e3 for an integer", "n", "1e3", Dead("type", "`n`")),
        value("too large for int32", "n", "3000000000", Dead("range", "int32")),
        value(
            "too large for int64",
            "w",
            "9223372036854775808",
            Dead("range", "int64"),
        ),
        value("number in a string", "x", "\"1.5\"", Dead("type", "the string \"1.5\"")),
        value("integer in a string", "n", "\"1\"", Dead("type", "`n`")),
        value("NaN", "x", "NaN", Dead("syntax", "")),
        value("NaN in a string", "x", "\"NaN\"", Dead("type", "`x`")),
        value("Infinity", "x", "-Infinity", Dead("syntax", "")),
        value("inf", "x", "inf", Dead("syntax", "")),
        value("inf in a string", "x", "\"inf\"", Dead("type", "`x`")),
        value("1e999", "x", "1e999", Dead("range", "1e999")),
        value("bool for a number", "x", "true", Dead("type", "float64")),
        value("number for a bool", "flag", "1", Dead("type", "bool")),
        value("number for a string", "kind", "5", Dead("type", "string")),
        value("object for a string", "kind", "{}", Dead("type", "an object")),
        value("half of a surrogate pair", "note", "\"\\ud800\"", Dead("syntax", "")),
        value("a zero byte in a string", "note", "\"\\u0000\"", Predicted),
        value("an integer for a float", "x", "1", Predicted),
        value("a time as text", "at", "\"2023-11-14T22:13:20.5+01:00\"", Predicted),
        value("no vector", "place", "null", Predicted),
        value("whole numbers in a vector", "place", "[ 1, 2, 3 ]", Predicted),
        value(
            "a vector too short",
            "place",
            "[1,2]",
            Dead("type", "an array of 2 values"),
        ),
        value(
            "a vector too long",
            "place",
            "[1,2,3,4]",
            Dead("type", "expected float32[3]"),
        ),
        value(
            "null in a vector",
            "place",
            "[1,2,null]",
            Dead("type", "`place`: at place 2 of the array: found null"),
        ),
        value(
            "text in a vector",
            "place",
            "[1,\"2\",3]",
            Dead("type", "the string \"2\""),
        ),
        value("NaN in a vector", "place", "[1,NaN,3]", Dead("syntax", "")),
        value(
            "too large for a vector",
            "place",
            "[1,2,4e38]",
            Dead("range", "float32"),
        ),
        value("a number for a vector", "place", "5", Dead("type", "float32[3]")),
        value("a time of no form", "at", "\"yesterday\"", Dead("type", "`at`")),
        value("month 13", "at", "\"2023-13-01T00:00:00Z\"", Dead("range", "`at`")),
    ]
}

/// The SQL fails on the record alone.
fn sql() -> Vec<Odd> {
    let filtered = |id: i64| {
        let fields = fields(id).into_iter().map(|(key, value)| match key {
            "id" => (key, "10".to_owned()),
            "w" => (key, "0".to_owned()),
            _ => (key, value),
        });
        Some(object(&fields.collect::<Vec<_>>()))
    };
    vec![
        value("no number for CAST", "code", "\"abc\"", Dead("sql", "`code`")),
        value("division by zero", "w", "0", Dead("sql", "`share`")),
        odd("division by zero in a filtered record", Box::new(filtered), Filtered),
    ]
}

fn sizes() -> Vec<Odd> {
    let long = |bytes: usize| format!("\"{}\"", "z".repeat(bytes));
    // Each a category of its own: they must not take the room of the others.
    let category = |id: i64| {
        let value = format!("\"{}{id}\"", "z".repeat(LARGE));
        with("kind", value)(id)
    };
    let cut = |bytes: Vec<u8>| {
        [
            &bytes[..bytes.len() - 1],
            b",\"extra\":\"",
            "z".repeat(LARGE).as_bytes(),
        ]
        .concat()
    };
    vec![
        odd("a long string that is not read", with("extra", long(LARGE)), Predicted),
        odd("a long string that fits", with("note", long(900_000)), Predicted),
        odd(
            "a prediction too large for its topic",
            with("note", long(LARGE)),
            Dead("too-large", "bytes"),
        ),
        odd(
            "a category too large for its topic",
            Box::new(category),
            Dead("too-large", "bytes"),
        ),
        odd("long and truncated", changed(cut), Dead("syntax", "EOF")),
    ]
}

/// The good records of these numbers with odd ones between them; and the kind of each odd one by its number.
fn records(kinds: &[Odd], mixed: bool) -> (Vec<Record>, BTreeMap<i64, usize>) {
    let (mut records, mut fates) = (Vec::new(), BTreeMap::new());
    let mut odd_id = ODD;
    for id in 0..GOOD {
        records.push(record(id, Some(good(id))));
        if mixed && id % (100 / PERCENT) == 7 {
            let kind = fates.len() % kinds.len();
            records.push(record(odd_id, (kinds[kind].payload)(odd_id)));
            fates.insert(odd_id, kind);
            odd_id += if odd_id % 10 == 9 { 2 } else { 1 };
        }
    }
    (records, fates)
}

fn record(id: i64, payload: Payload) -> Record {
    Record {
        timestamp_ms: Some(AT + id % ODD * 20),
        key: Some(id.to_string().into_bytes()),
        payload,
        ..Record::default()
    }
}

fn number(message: &Message) -> i64 {
    std::str::from_utf8(message.key.as_deref().unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

fn config(name: &str, delivery: &str, bootstrap: &str, folder: &Path, http: &str) -> String {
    let folder = folder.display();
    format!(
        r#"
[pipeline]
name      = "{name}"
state_dir = "{folder}/state"
delivery  = "{delivery}"

[source]
connector    = "kafka"
brokers      = "{bootstrap}"
topics       = ["{name}.in"]
format       = "json"
dead_letters = "{name}.dead"

[source.schema]
id    = "int64"
at    = "timestamp[ms]"
x     = "float64"
n     = "int32"
w     = "int64"
code  = "string"
kind  = "string"
flag  = "bool"
note  = "string"
spare = "float64"
place = "float32[3]"

[epoch]
rows_max = 200

[features]
sql = """
  SELECT id, at, x, n, 100 / w AS share, CAST(code AS INT) AS code, kind, flag, note, place
  FROM source
  WHERE id % 10 <> 0
"""

[features.columns]
id   = {{ role = "id" }}
at   = {{ role = "time" }}
kind = {{ encode = "hash", buckets = 32 }}
note = {{ role = "passthrough" }}

[model]
initial = "model.dma"

[sink]
connector = "kafka"
topic     = "{name}.out"

[http]
listen = "{http}"
"#
    )
}

/// A linear model for the features of `config`, whose score depends on each of them.
fn model(config: &str) -> Vec<u8> {
    let settings = Settings::parse("pipeline.toml", config).map_err(|problems| problems.render());
    let plan = settings.unwrap_or_else(|problems| panic!("{problems}")).plan;
    let mut encoder = plan.columns.encoder.clone().unwrap();
    let dictionaries = Dictionaries::new(&plan.columns.specs, 1 << 16);
    let mut columns = Vec::new();
    for (index, spec) in plan.columns.specs.iter().enumerate() {
        columns.push(match spec.kind {
            ColumnKind::Number => Column::F64(vec![index as f64 - 2.0, index as f64 + 3.0]),
            ColumnKind::Category => Column::Code(vec![driftmill::models::frame::MISSING; 2]),
            ColumnKind::Vector { width } => Column::Vector {
                width: width as usize,
                values: (0..2 * width).map(|place| place as f32).collect(),
            },
        });
    }
    let frame = Frame::new(2, columns);
    for row in 0..2 {
        encoder.observe(&frame, row, &dictionaries, row as f64);
    }
    let weights = (0..encoder.width()).map(|input| (input as f64 * 0.7).sin()).collect();
    let scorer = Linear::single(Link::Logistic, weights, 0.25);
    let model = Model::new(Task::Binary, encoder.publish(), Arc::new(scorer)).unwrap();
    Artifact::write(&model, &serde_json::Map::new())
}

/// What a run left behind.
struct Run {
    inputs: Vec<Message>,
    predictions: Vec<Message>,
    dead: Vec<Message>,
    metrics: driftmill_tests::metrics::Metrics,
}

fn run(broker: &'static Broker, delivery: &'static str, records: Vec<Record>) -> Run {
    let name = Broker::unique("bad-input");
    let large = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
    broker.create_topic_with(&format!("{name}.in"), 3, &large);
    broker.create_topic(&format!("{name}.out"), 1);
    broker.create_topic(&format!("{name}.dead"), 1);
    let folder = tempfile::tempdir().unwrap();
    let http = format!("127.0.0.1:{}", free_port());
    let config = config(&name, delivery, broker.bootstrap(), folder.path(), &http);
    std::fs::write(folder.path().join("model.dma"), model(&config)).unwrap();

    let count = broker.produce(&format!("{name}.in"), records);
    let mut daemon = Daemon::start(folder.path(), &config, &http);
    daemon.wait_records(count as u64, LIMIT);
    let metrics = daemon.metrics().unwrap();
    let status = daemon.terminate(LIMIT);
    assert!(status.success(), "{status}\n{}", daemon.log());
    let read = |part: &str| broker.read(&format!("{name}.{part}"), Isolation::Committed);
    Run {
        inputs: read("in"),
        predictions: read("out"),
        dead: read("dead"),
        metrics,
    }
}

/// A prediction without what says when and from where it was made.
fn essence(message: &Message) -> (String, String, Option<i64>) {
    let text = String::from_utf8(message.payload.clone().unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["driftmill"]["model"], "v1", "{text}");
    assert!(value["prediction"].is_f64(), "{text}");
    let plan = value["driftmill"]["plan"].as_str().unwrap_or_default();
    let (made, _) = text
        .split_once(",\"driftmill_at\":")
        .unwrap_or_else(|| panic!("{text}"));
    (made.to_owned(), plan.to_owned(), message.timestamp_ms)
}

fn due(id: i64, fates: &BTreeMap<i64, usize>, kinds: &[Odd]) -> Due {
    match fates.get(&id).map(|kind| &kinds[*kind].fate) {
        Some(Dead(..)) => Due::Dead,
        Some(Filtered) => Due::Filtered,
        Some(Predicted) => Due::Predicted,
        None if id % 10 == 0 => Due::Filtered,
        None => Due::Predicted,
    }
}

/// The dead letter is the record as it was, says why, and where it lay.
fn check_dead_letter(letter: &Message, input: &Message, kind: &Odd) {
    let Dead(expected, part) = kind.fate else {
        panic!("{}: a dead letter: {:?}", kind.name, letter.header("driftmill.reason"))
    };
    let reason = letter.header("driftmill.reason").unwrap();
    assert_eq!(
        letter.header("driftmill.kind").as_deref(),
        Some(expected),
        "{}: {reason}",
        kind.name
    );
    assert!(reason.contains(part) && reason.len() < 1000, "{}: {reason}", kind.name);
    assert_eq!(
        (&letter.key, letter.timestamp_ms),
        (&input.key, input.timestamp_ms),
        "{}",
        kind.name
    );
    let tombstone = input.payload.is_none().then(|| "true".to_owned());
    assert_eq!(letter.header("driftmill.tombstone"), tombstone, "{}", kind.name);

    let (kept, was) = (
        letter.payload.as_deref().unwrap_or_default(),
        input.payload.as_deref().unwrap_or_default(),
    );
    match letter.header("driftmill.truncated_from_bytes") {
        None => assert!(kept == was, "{}: not the original bytes", kind.name),
        Some(bytes) => {
            assert_eq!(bytes, was.len().to_string(), "{}", kind.name);
            assert!(
                was.len() > 1_000_000 && kept.len() > 1_000_000 && was.starts_with(kept),
                "{}",
                kind.name
            );
            let hash = blake3::hash(was).to_hex().to_string();
            assert_eq!(letter.header("driftmill.blake3"), Some(hash), "{}", kind.name);
        }
    }
}

/// The counts that the daemon shows are those of the topics.
fn check_metrics(run: &Run) {
    let outcome = |outcome: &str| {
        run.metrics
            .get("driftmill_records_total", &[("outcome", outcome)])
            .unwrap()
    };
    assert_eq!(outcome("scored"), run.predictions.len() as f64);
    assert_eq!(outcome("dead_letter"), run.dead.len() as f64);
    let filtered = run.inputs.len() - run.predictions.len() - run.dead.len();
    assert_eq!(outcome("filtered"), filtered as f64);
    let mut kinds: BTreeMap<String, f64> = BTreeMap::new();
    for letter in &run.dead {
        *kinds.entry(letter.header("driftmill.kind").unwrap()).or_default() += 1.0;
    }
    for (kind, count) in kinds {
        let shown = run.metrics.get("driftmill_dead_letters_total", &[("kind", &kind)]);
        assert_eq!(shown, Some(count), "{kind}");
    }
}

#[test]
fn bad_records_become_dead_letters_and_change_nothing_else() {
    let Some(broker) = Broker::shared() else { return };
    let kinds = odds();
    let (records_mixed, fates) = records(&kinds, true);
    assert!(
        fates.len() > 2 * kinds.len(),
        "every kind comes twice at least: {} kinds",
        kinds.len()
    );
    let mixed = run(broker, "exactly-once", records_mixed);
    let clean = run(broker, "at-least-once", records(&kinds, false).0);

    let outcomes = Outcomes::count(&mixed.predictions, &mixed.dead);
    let balance = outcomes.balance(&mixed.inputs, |input| due(number(input), &fates, &kinds));
    eprintln!("{} kinds of odd records: {balance}", kinds.len());
    let names: BTreeMap<Place, &str> = mixed
        .inputs
        .iter()
        .filter_map(|input| {
            let kind = fates.get(&number(input))?;
            Some((Place::of(input), kinds[*kind].name))
        })
        .collect();
    let named = |places: &[Place]| places.iter().map(|place| names.get(place).copied()).collect::<Vec<_>>();
    assert_eq!(
        (named(&balance.missing), named(&balance.wrong)),
        (vec![], vec![]),
        "{balance}"
    );
    balance.assert_exactly_once();

    let inputs: BTreeMap<i64, &Message> = mixed.inputs.iter().map(|input| (number(input), input)).collect();
    for letter in &mixed.dead {
        let id = number(letter);
        check_dead_letter(letter, inputs[&id], &kinds[fates[&id]]);
    }
    check_metrics(&mixed);
    check_metrics(&clean);

    let untouched = |run: &Run| -> BTreeMap<i64, _> {
        let good = run.predictions.iter().filter(|message| number(message) < GOOD);
        good.map(|message| (number(message), essence(message))).collect()
    };
    let (expected, found) = (untouched(&clean), untouched(&mixed));
    assert_eq!(expected.len() as i64, GOOD - GOOD / 10);
    assert_eq!(found.len(), expected.len());
    for (id, expected) in &expected {
        assert_eq!(found.get(id), Some(expected), "record {id}");
    }
    let scores: std::collections::BTreeSet<&str> = expected
        .values()
        .map(|(made, ..)| made.rsplit_once(':').unwrap().1)
        .collect();
    assert!(
        scores.len() > 1000,
        "scores must differ for a comparison to mean something: {}",
        scores.len()
    );
}
