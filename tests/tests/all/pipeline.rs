//! The pipeline that the delivery tests run: small, with predictions, filtered records and dead letters in known places.

use std::path::Path;
use std::time::Duration;

use driftmill_tests::daemon::{Daemon, free_port};
use driftmill_tests::kafka::{Broker, Isolation, Message, Record};
use driftmill_tests::outcomes::{Balance, Due, Outcomes};

/// How long a test waits for a daemon: generous, a slow machine is no fault.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A pipeline's topics and its folder.
pub(crate) struct Pipeline {
    pub(crate) broker: &'static Broker,
    pub(crate) name: String,
    delivery: &'static str,
    http: String,
    folder: tempfile::TempDir,
}

impl Pipeline {
    pub(crate) fn new(broker: &'static Broker, delivery: &'static str) -> Self {
        let name = Broker::unique("pipeline");
        for topic in ["in", "out", "dead"] {
            broker.create_topic(&format!("{name}.{topic}"), if topic == "in" { 3 } else { 1 });
        }
        let folder = tempfile::tempdir().unwrap();
        Self {
            broker,
            name,
            delivery,
            http: format!("127.0.0.1:{}", free_port()),
            folder,
        }
    }

    pub(crate) fn topic(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// Where the daemon's HTTP listens.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An epoch is small and snapshots are frequent, so that many commits and snapshots are there to be hit.
    pub(crate) fn config(&self, bootstrap: &str) -> String {
        let (name, delivery, http) = (&self.name, self.delivery, &self.http);
        let folder = self.folder().display();
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
id = "int64"
at = "timestamp[ms]"
x  = "float64"

[epoch]
rows_max = 200

[snapshot]
every = "500 ms"

[features]
sql = "SELECT id, at, x FROM source WHERE id % 10 <> 0"

[features.columns]
id = {{ role = "id" }}
at = {{ role = "time" }}
x  = {{ encode = "standardise" }}

[model]
before_model = "pass"

[sink]
connector = "kafka"
topic     = "{name}.out"

[registry]
url = "file://{folder}/registry"

[http]
listen = "{http}"
"#
        )
    }

    pub(crate) fn start(&self) -> Daemon {
        self.start_at(self.broker.bootstrap())
    }

    /// With a failpoint armed.
    pub(crate) fn start_armed(&self, failpoint: &str) -> Daemon {
        let env = [(driftmill::failpoint::VARIABLE, failpoint)];
        let config = self.config(self.broker.bootstrap());
        Daemon::start_with(self.folder(), &config, &self.http, &env)
    }

    /// With another way to the broker: a proxy's.
    pub(crate) fn start_at(&self, bootstrap: &str) -> Daemon {
        Daemon::start(self.folder(), &self.config(bootstrap), &self.http)
    }

    /// Adds the records of these numbers to the input.
    pub(crate) fn feed(&self, numbers: std::ops::Range<i64>) {
        self.broker.produce(&self.topic("in"), numbers.map(record));
    }

    /// Compares the outputs, read as a consumer in this delivery mode would, with what is due to every input.
    pub(crate) fn balance(&self) -> Balance {
        let read = |part: &str| self.broker.read(&self.topic(part), Isolation::Committed);
        Outcomes::count(&read("out"), &read("dead")).balance(&read("in"), due)
    }

    /// Works off what is left, drains, and compares.
    pub(crate) fn finish(&self, mut daemon: Daemon) -> Balance {
        daemon.wait_settled(LIMIT, || self.balance());
        let status = daemon.terminate(LIMIT);
        assert!(
            status.success(),
            "SIGTERM drains and ends well, not with {status}\n{}",
            daemon.log()
        );
        self.balance()
    }
}

/// Every 101st record is no JSON, and every tenth of the others is filtered by the SQL. The rest is predicted.
fn record(number: i64) -> Record {
    let at = 1_700_000_000_000 + number * 20;
    let x = (number * 7919 % 1000) as f64 / 500.0 - 1.0;
    let payload = match number % 101 {
        100 => format!(r#"{{"id":{number},"at":"#),
        _ => format!(r#"{{"id":{number},"at":{at},"x":{x}}}"#),
    };
    let key = Some(number.to_string().into_bytes());
    Record {
        timestamp_ms: Some(at),
        key,
        payload: Some(payload.into_bytes()),
        ..Record::default()
    }
}

fn due(input: &Message) -> Due {
    let number: i64 = std::str::from_utf8(input.key.as_deref().unwrap())
        .unwrap()
        .parse()
        .unwrap();
    match (number % 101, number % 10) {
        (100, _) => Due::Dead,
        (_, 0) => Due::Filtered,
        _ => Due::Predicted,
    }
}
