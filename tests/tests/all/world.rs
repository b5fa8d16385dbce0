//! A world that is learned from: records whose labels follow on another topic, and a change after which the opposite holds.
//! The pipeline on it closes the whole loop, with models of jobs alone, or with an online learner before them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use driftmill_tests::daemon::{Daemon, free_port, run_to_end};
use driftmill_tests::kafka::{Broker, Isolation, Message, Record};
use driftmill_tests::outcomes::{Balance, Due, Outcomes};
use serde_json::Value;

/// Event time between two records, and from a record to its label, in milliseconds.
const STEP_MS: i64 = 100;
const DELAY_MS: i64 = 1_000;

/// The topics, the folder and the daemon of a pipeline on such a world.
pub(crate) struct World {
    pub(crate) broker: &'static Broker,
    pub(crate) name: String,
    delivery: &'static str,
    /// What becomes of the epoch log: `trim` or `keep`.
    log: &'static str,
    /// Time between snapshots.
    snapshots: &'static str,
    /// The online learner that makes the first model, if one does.
    online: Option<&'static str>,
    http: String,
    folder: tempfile::TempDir,
    /// Event time of record 0, in milliseconds.
    begun_ms: i64,
    fed: Cell<u32>,
    /// The first record of the changed world.
    change: Cell<u32>,
    /// The lines of `[model]`.
    model: String,
}

/// The first model from the stream.
const MODEL: &str = "bootstrap_rows = 2_000";
/// Number of the first record of history: those of the stream begin at 0.
const HISTORY: u32 = 1 << 24;

impl World {
    /// A world whose event time, after `records` records, is now; it changes at record `change`.
    pub(crate) fn new(broker: &'static Broker, delivery: &'static str, records: u32, change: u32) -> Self {
        let name = Broker::unique("loop");
        for part in ["in", "labels", "out", "dead"] {
            broker.create_topic(&format!("{name}.{part}"), 1);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            broker,
            name,
            delivery,
            log: "trim",
            snapshots: "500 ms",
            online: None,
            http: format!("127.0.0.1:{}", free_port()),
            folder: tempfile::tempdir().unwrap(),
            begun_ms: i64::try_from(now.as_millis()).unwrap() - i64::from(records) * STEP_MS,
            fed: Cell::new(0),
            change: Cell::new(change),
            model: MODEL.to_owned(),
        }
    }

    /// The first model comes from files of history, `history/h-*.jsonl`: records of the time before, with their labels,
    /// which are a coin's where `noise`. `rest` are further lines of `[model]`.
    pub(crate) fn with_history(mut self, records: u32, noise: bool, rest: &str) -> Self {
        self.model = format!("bootstrap = \"history/h-*.jsonl\"\n{rest}");
        let folder = self.history();
        std::fs::create_dir(&folder).unwrap();
        let line = |number: u32| {
            let late = match noise {
                true => draw(HISTORY + number, 3) < 0.5,
                false => is_late(HISTORY + number, 2.0),
            };
            let at = self.begun_ms - i64::from(records - number) * STEP_MS;
            let record = record(HISTORY + number, at);
            format!("{},\"late\":{late}}}\n", record.trim_end_matches('}'))
        };
        for (file, numbers) in [("h-1", 0..records / 2), ("h-2", records / 2..records)] {
            let content: String = numbers.map(line).collect();
            std::fs::write(folder.join(format!("{file}.jsonl")), content).unwrap();
        }
        self
    }

    /// The folder of the pipeline.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the files of history.
    pub(crate) fn history(&self) -> PathBuf {
        self.folder.path().join("history")
    }

    /// Keeps the epoch log whole, so that [`World::verify`] replays from the first epoch.
    pub(crate) fn keeping_log(mut self) -> Self {
        self.log = "keep";
        self
    }

    /// Lets an online learner make the first model, and jobs its rivals.
    pub(crate) fn with_online_learner(mut self, learner: &'static str) -> Self {
        self.online = Some(learner);
        self
    }

    /// Lets a snapshot follow each epoch.
    pub(crate) fn keeping_every_epoch(mut self) -> Self {
        self.snapshots = "1 ms";
        self
    }

    /// Topics by their last part: `in`, `labels`, `out`, `dead`.
    pub(crate) fn topic(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// Where the daemon listens.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// The file that the daemon was started with.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("pipeline.toml")
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self.folder.path(), &self.config(), &self.http)
    }

    /// Starts it with a failpoint armed.
    pub(crate) fn start_armed(&self, failpoint: &str) -> Daemon {
        let env = [(driftmill::failpoint::VARIABLE, failpoint)];
        Daemon::start_with(self.folder.path(), &self.config(), &self.http, &env)
    }

    /// Records that were produced.
    pub(crate) fn fed(&self) -> u32 {
        self.fed.get()
    }

    /// The world changes with the next record.
    pub(crate) fn change_now(&self) {
        self.change.set(self.fed.get());
    }

    /// Produces the next records and their labels.
    pub(crate) fn feed(&self, count: u32) {
        let numbers = self.fed.get()..self.fed.get() + count;
        let at = |number: u32| self.begun_ms + i64::from(number) * STEP_MS;
        let record = |number: u32| stamped(record(number, at(number)), at(number));
        let label = |number: u32| {
            let payload = format!(r#"{{"id":"r{number}","late":{}}}"#, self.is_late(number));
            stamped(payload, at(number) + DELAY_MS)
        };
        self.broker.produce(&self.topic("in"), numbers.clone().map(record));
        self.broker.produce(&self.topic("labels"), numbers.clone().map(label));
        self.fed.set(numbers.end);
    }

    /// The label of a record.
    pub(crate) fn is_late(&self, number: u32) -> bool {
        is_late(number, if number < self.change.get() { 2.0 } else { -2.0 })
    }

    /// Every record has a prediction due; what the topics say, read as a consumer in this delivery mode would.
    pub(crate) fn balance(&self) -> Balance {
        let read = |part: &str| self.broker.read(&self.topic(part), Isolation::Committed);
        Outcomes::count(&read("out"), &read("dead")).balance(&read("in"), |_| Due::Predicted)
    }

    /// The versions that made predictions.
    pub(crate) fn served(&self) -> BTreeSet<String> {
        self.servers().into_iter().flatten().collect()
    }

    /// The version that made each prediction, in order; none before the first.
    pub(crate) fn servers(&self) -> Vec<Option<String>> {
        let version = |message: &Message| {
            let value: Value = serde_json::from_slice(message.payload.as_deref().unwrap()).unwrap();
            value["driftmill"]["model"].as_str().map(str::to_owned)
        };
        let outputs = self.broker.read(&self.topic("out"), Isolation::Committed);
        outputs.iter().map(version).collect()
    }

    /// The versions in the registry's history.
    pub(crate) fn listed(&self) -> BTreeSet<String> {
        let told = run_to_end(["models", self.file().to_str().unwrap()]);
        let lines = String::from_utf8_lossy(&told.stdout).into_owned();
        let names = lines.lines().filter_map(|line| line.split_once('@'));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// Replays the epoch log by `driftmill verify`, which must find every snapshot to be what the log says; what it prints.
    pub(crate) fn verify(&self) -> String {
        let told = run_to_end(["verify", self.file().to_str().unwrap()]);
        let (out, err) = (
            String::from_utf8_lossy(&told.stdout),
            String::from_utf8_lossy(&told.stderr),
        );
        assert!(told.status.success(), "{}\n{out}{err}", told.status);
        out.into_owned()
    }

    pub(crate) fn config(&self) -> String {
        let config = config(
            &self.name,
            self.folder.path(),
            self.broker.bootstrap(),
            &self.http,
            self.delivery,
        )
        .replace(MODEL, &self.model)
        .replace("\"trim\"", &format!("\"{}\"", self.log))
        .replace("\"500 ms\"", &format!("\"{}\"", self.snapshots));
        let Some(learner) = self.online else { return config };
        let config = ONLINE.iter().fold(config, |config, (section, with)| {
            assert!(config.contains(section), "{section} is gone");
            config.replace(section, with)
        });
        config.replace("LEARNER", learner)
    }
}

/// What a pipeline with an online learner has for these lines. Jobs come by the clock, since the learner follows a change
/// before the loss alarms; a candidate that is no better makes room for the next after 6,000 records.
const ONLINE: [(&str, &str); 3] = [
    (
        "[model]\n",
        "[[challenger]]\nlearner = \"logistic-regression\"\n\n\
         [model]\nlearner        = \"LEARNER\"\npublish_every  = \"10 s\"\n",
    ),
    ("[retrain]\n", "[retrain]\nevery    = \"5 min\"\n"),
    ("[gate]\n", "[gate]\nage_max = \"10 min\"\n"),
];

fn config(name: &str, folder: &Path, brokers: &str, http: &str, delivery: &str) -> String {
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
log   = "trim"

[sink]
connector = "kafka"
topic     = "{name}.out"

[http]
listen = "{http}"
"#
    )
}

/// The label of a record in a world with this slope.
fn is_late(number: u32, slope: f64) -> bool {
    draw(number, 2) < 1.0 / (1.0 + (-slope * x_of(number)).exp())
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

fn record(number: u32, at: i64) -> String {
    let (kind, x) = (["a", "b", "c"][number as usize % 3], x_of(number));
    format!(r#"{{"id":"r{number}","at":{at},"x":{x},"k":"{kind}"}}"#)
}

fn x_of(number: u32) -> f64 {
    draw(number, 1) * 4.0 - 2.0
}

fn stamped(payload: String, at_ms: i64) -> Record {
    Record {
        timestamp_ms: Some(at_ms),
        ..Record::of(payload)
    }
}
