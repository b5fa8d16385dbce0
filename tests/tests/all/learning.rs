//! The whole loop on a real Kafka: a first model from the first labels, a change, an alarm, a candidate, the gate, the
//! swap; and a restart that goes on as if nothing had been.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driftmill_tests::daemon::{Daemon, free_port, run_to_end};
use driftmill_tests::kafka::{Broker, Isolation, Record};
use serde_json::Value;

use crate::pipeline::LIMIT;

/// Records in all, and where the world changes.
const RECORDS: u32 = 30_000;
pub(crate) const CHANGE: u32 = 15_000;
/// Event time between two records, and from a record to its label, in milliseconds.
const STEP_MS: i64 = 100;
const DELAY_MS: i64 = 1_000;

pub(crate) fn config(name: &str, folder: &std::path::Path, brokers: &str, http: &str, delivery: &str) -> String {
    let folder = folder.display();
    format!(
        r#"
[pipeline]
name      = "{name}"
state_dir = "{folder}/state"
delivery  = "{delivery}"

[source]
connector    = "kafka"
brokers      = "{brokers}"
topics       = ["{name}.in"]
dead_letters = "{name}.dead"

[source.schema]
id = "string"
at = "timestamp[ms]"
x  = "float64"
k  = "string"

[source.time]
column = "at"

[features]
sql = "SELECT id, at, x, k FROM source"

[features.columns]
id = {{ role = "id" }}
k  = {{ encode = "one-hot", categories_max = 4 }}

[labels]
connector = "kafka"
brokers   = "{brokers}"
topics    = ["{name}.labels"]
schema    = {{ id = "string", late = "bool" }}
key       = "id"
label     = "late"
horizon   = "5 s"

[model]
bootstrap_rows = 2_000

[[drift]]
name = "inputs"
on   = "features"

[[drift]]
name      = "concept"
on        = "log-loss"
action    = "retrain"
direction = "up"

[retrain]
rows_min = 1_000
cooldown = "60 s"

[gate]
block = "10 s"

[epoch]
event_span_max = "5 s"
skew           = "3 s"

[snapshot]
every = "500 ms"

[sink]
connector = "kafka"
topic     = "{name}.out"

[http]
listen = "{http}"
"#
    )
}

/// The same draw for the same number, on every machine.
fn draw(number: u32, salt: u32) -> f64 {
    let mut state = (u64::from(number) << 32) | u64::from(salt) | 1;
    for _ in 0..3 {
        state ^= state >> 33;
        state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
    (state >> 11) as f64 / (1_u64 << 53) as f64
}

fn x_of(number: u32) -> f64 {
    draw(number, 1) * 4.0 - 2.0
}

fn is_late(number: u32) -> bool {
    let slope = if number < CHANGE { 2.0 } else { -2.0 };
    draw(number, 2) < 1.0 / (1.0 + (-slope * x_of(number)).exp())
}

pub(crate) fn start_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() - i64::from(RECORDS) * STEP_MS
}

fn stamped(payload: String, at_ms: i64) -> Record {
    Record {
        timestamp_ms: Some(at_ms),
        ..Record::of(payload)
    }
}

pub(crate) fn feed(broker: &Broker, name: &str, numbers: std::ops::Range<u32>, start: i64) {
    let at = |number: u32| start + i64::from(number) * STEP_MS;
    let record = |number: u32| {
        let kind = ["a", "b", "c"][number as usize % 3];
        let payload = format!(
            r#"{{"id":"r{number}","at":{},"x":{},"k":"{kind}"}}"#,
            at(number),
            x_of(number)
        );
        stamped(payload, at(number))
    };
    let label = |number: u32| {
        let payload = format!(r#"{{"id":"r{number}","late":{}}}"#, is_late(number));
        stamped(payload, at(number) + DELAY_MS)
    };
    broker.produce(&format!("{name}.in"), numbers.clone().map(record));
    broker.produce(&format!("{name}.labels"), numbers.map(label));
}

fn the_loop(delivery: &str) {
    let Some(broker) = Broker::shared() else { return };
    let name = Broker::unique("loop");
    for part in ["in", "labels", "out", "dead"] {
        broker.create_topic(&format!("{name}.{part}"), 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let http = format!("127.0.0.1:{}", free_port());
    let config = config(&name, folder.path(), broker.bootstrap(), &http, delivery);
    let start = || Daemon::start(folder.path(), &config, &http);
    let file = folder.path().join("pipeline.toml");
    let begun = start_ms();

    feed(broker, &name, 0..12_000, begun);
    let mut daemon = start();
    daemon.wait_for("a first version", LIMIT, |daemon| {
        let swaps = daemon.metrics()?.get("driftmill_swaps_total", &[])?;
        (swaps >= 1.0).then_some(())
    });
    // In the middle of whatever it does; what it knew must come back.
    daemon.kill();
    let mut daemon = start();
    // In pieces: while a candidate is trained the world goes on, but not to its end.
    for piece in 0..18 {
        feed(broker, &name, 12_000 + piece * 1_000..13_000 + piece * 1_000, begun);
        std::thread::sleep(Duration::from_millis(400));
    }
    daemon.wait_for("a second version", LIMIT, |daemon| {
        let live = daemon
            .metrics()?
            .get("driftmill_model_version_info", &[("version", "v2")])?;
        (live == 1.0).then_some(())
    });
    daemon.wait_no_lag(LIMIT);
    // By what is kept: counters are of this process alone, and another began the work.
    daemon.wait_for("29,000 labelled rows kept", LIMIT, |daemon| {
        let kept = daemon.metrics()?.get("driftmill_held_rows", &[("place", "buffer")])?;
        (kept > 29_000.0).then_some(())
    });
    let told = run_to_end(["rollback", file.to_str().unwrap()]);
    assert!(told.status.success(), "{told:?}");
    daemon.wait_for("the first version again", LIMIT, |daemon| {
        let live = daemon
            .metrics()?
            .get("driftmill_model_version_info", &[("version", "v1")])?;
        (live == 1.0).then_some(())
    });
    let status = daemon.terminate(Duration::from_secs(30));
    let told = run_to_end(["models", file.to_str().unwrap()]);
    let listed = String::from_utf8_lossy(&told.stdout).into_owned();
    let history: Vec<&str> = listed.lines().filter_map(|line| line.split('@').next()).collect();
    assert_eq!(history, ["v1", "v2", "v1"], "{listed}");
    assert!(status.success(), "{status}\n{}", daemon.log());

    let outputs = broker.read(&format!("{name}.out"), Isolation::Committed);
    let (mut right, mut rows, mut versions) = (0, 0, std::collections::BTreeSet::new());
    for message in &outputs {
        let value: Value = serde_json::from_slice(message.payload.as_deref().unwrap()).unwrap();
        versions.insert(value["driftmill"]["model"].as_str().unwrap_or("none").to_owned());
        let number: u32 = value["id"].as_str().unwrap()[1..].parse().unwrap();
        if number >= RECORDS - 5_000 {
            rows += 1;
            right += u32::from((value["prediction"].as_f64().unwrap() > 0.5) == is_late(number));
        }
    }
    let names: Vec<&str> = versions.iter().map(String::as_str).collect();
    assert_eq!(names, ["none", "v1", "v2"], "{}", daemon.log());
    let share = f64::from(right) / f64::from(rows);
    eprintln!(
        "{delivery}: {} outputs, versions {names:?}, {share:.3} right at the end",
        outputs.len()
    );
    assert!(
        share > 0.75,
        "only {share} of the last answers are right: v2 does not know the new world"
    );
    if delivery == "exactly-once" {
        assert_eq!(outputs.len(), RECORDS as usize);
    }
}

#[test]
fn the_loop_closes_exactly_once() {
    the_loop("exactly-once");
}

#[test]
fn the_loop_closes_at_least_once() {
    the_loop("at-least-once");
}
