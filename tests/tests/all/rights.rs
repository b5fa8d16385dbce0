//! What `driftmill check` says of rights, on a Kafka with access control.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driftmill_tests::daemon::{binary, free_port};
use driftmill_tests::kafka::{Broker, Operation, Resource};

/// How long a right may take until the broker knows it.
const LIMIT: Duration = Duration::from_secs(60);

/// The pipeline `p`, exactly once, as the user `limited`.
fn config(brokers: &str) -> String {
    let http = free_port();
    format!(
        r#"
[pipeline]
name      = "p"
state_dir = "state"
delivery  = "exactly-once"

[source]
connector    = "kafka"
brokers      = "{brokers}"
topics       = ["in"]
dead_letters = "dead"
sasl         = {{ mechanism = "PLAIN", username = "limited", password = "limited-secret" }}

[source.schema]
id = "int64"

[features]
sql = "SELECT id FROM source"

[features.columns]
id = {{ role = "id" }}

[sink]
connector = "kafka"
topic     = "out"

[http]
listen = "127.0.0.1:{http}"
"#
    )
}

/// Exit code and standard error of `driftmill check`.
fn check(config: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.toml"), config).unwrap();
    let output = Command::new(binary())
        .args(["check", "p.toml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Checks until it says what is expected: a right takes a moment to reach the broker.
fn until(config: &str, what: &str, expected: impl Fn(Option<i32>, &str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let (code, said) = check(config);
        if expected(code, &said) {
            return said;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: {code:?} {said}");
    }
}

/// The one line that names all of these.
fn line<'a>(said: &'a str, parts: &[&str]) -> &'a str {
    let found = said.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    found.unwrap_or_else(|| panic!("no line with {parts:?} in: {said}"))
}

#[test]
fn missing_rights_are_named_beforehand_and_what_cannot_be_seen_is_said() {
    let Some(broker) = Broker::secured() else { return };
    let (all, log) = (["in", "out", "dead"], "driftmill.p.epochs");
    for topic in all {
        broker.create_topic(topic, 1);
    }
    let config = config(&broker.secured_listener());
    for topic in all {
        for operation in [Operation::Describe, Operation::DescribeConfigs] {
            broker.allow(Resource::Topic(topic), operation);
        }
    }
    broker.allow(Resource::Topic("in"), Operation::Read);
    broker.allow(Resource::Group("driftmill-p-source"), Operation::Read);
    broker.allow(Resource::Topic("dead"), Operation::Write);

    // One output cannot be written. The epoch log may be hidden or missing; the list of the transactional id is hidden.
    let said = until(&config, "the right to write is missing", |_, said| {
        said.contains("no right to WRITE") && !said.contains("`in`")
    });
    let wrong = line(&said, &["topic `out`", "no right to WRITE"]);
    assert!(!wrong.contains("warning"), "{wrong}");
    assert!(!said.contains("`dead`"), "{said}");
    line(
        &said,
        &["warning", "transactional id `driftmill-p`", "DESCRIBE on the cluster"],
    );
    assert_eq!(check(&config).0, Some(2), "{said}");

    broker.allow(Resource::Topic("out"), Operation::Write);
    broker.allow(Resource::Cluster, Operation::Create);
    broker.allow(Resource::Cluster, Operation::Describe);
    broker.create_topic_with(log, 1, &[("retention.ms", "-1"), ("cleanup.policy", "delete")]);
    for operation in [Operation::Describe, Operation::DescribeConfigs, Operation::Write] {
        broker.allow(Resource::Topic(log), operation);
    }
    let said = until(&config, "the rights on the log are missing", |_, said| {
        !said.contains("topic `out`") && said.contains(log)
    });
    line(&said, &[log, "no right to READ, DELETE"]);
    line(&said, &["warning", "transactional id `driftmill-p`", "User:limited"]);

    broker.allow(Resource::Topic(log), Operation::Read);
    broker.allow(Resource::Topic(log), Operation::Delete);
    broker.allow(Resource::TransactionalId("driftmill-p"), Operation::Write);
    until(&config, "every right is there", |code, said| {
        (code, said) == (Some(0), "")
    });
}
