//! What goes wrong around the pipeline: each has one answer, said in words, and nothing is lost by it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use driftmill_tests::daemon::{Daemon, binary, free_port};
use driftmill_tests::kafka::{Broker, Isolation, Record};
use driftmill_tests::proxy::Proxy;
use expect_test::{Expect, expect};

use crate::pipeline::{LIMIT, Pipeline};

const FAILED: Option<i32> = Some(1);
const WRONG: Option<i32> = Some(2);
const FENCED: Option<i32> = Some(3);
const MODES: [&str; 2] = ["at-least-once", "exactly-once"];

/// Standard error and exit code of `driftmill ARGS` in the folder of a pipeline whose configuration is `config`.
fn command(folder: &Path, config: &str, args: &[&str]) -> (Option<i32>, String) {
    std::fs::write(folder.join("p.toml"), config).unwrap();
    let mut command = Command::new(binary());
    command
        .args(args)
        .arg("p.toml")
        .current_dir(folder)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs a pipeline that ends by itself; how, and the last line that it wrote.
fn ends(pipeline: &Pipeline, config: &str) -> (ExitStatus, String) {
    let mut daemon = Daemon::start(pipeline.folder(), config, pipeline.http());
    let status = daemon.wait_exit("its trouble", LIMIT);
    (status, daemon.last_line())
}

fn assert_ends(pipeline: &Pipeline, config: &str, code: Option<i32>, parts: &[&str]) {
    let (status, said) = ends(pipeline, config);
    assert_eq!(status.code(), code, "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

fn without(config: &str, key: &str) -> String {
    let lines = config.lines().filter(|line| !line.trim_start().starts_with(key));
    lines.collect::<Vec<_>>().join("\n")
}

/// No snapshot but the one at the end, so that a killed daemon leaves all its epochs to be replayed.
fn rarely_kept(config: &str) -> String {
    config.replace("\"500 ms\"", "\"1 h\"")
}

/// The files of a folder whose names end so, oldest name first.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

fn flip(file: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

/// The hash of the state: what the last run wrote when it ended, and what the last start said that it had recovered.
fn state_hashes(log: &str) -> (Option<String>, Option<String>) {
    let after = |text: &str, mark: &str| {
        let rest = text.rsplit_once(mark)?.1;
        Some(rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>())
    };
    let recovered = log.lines().rfind(|line| line.contains("recovered"));
    (
        after(log, "\"state\":\""),
        recovered.and_then(|line| after(line, "state=\"").or_else(|| after(line, "state="))),
    )
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "exactly-once");
    let config = pipeline.config(broker.bootstrap());
    for part in ["in", "out", "dead"] {
        let missing = format!("{}x", pipeline.topic(part));
        let config = config.replace(&format!("{}\"", pipeline.topic(part)), &format!("{missing}\""));
        let (code, said) = command(pipeline.folder(), &config, &["check"]);
        assert_eq!(code, WRONG, "{said}");
        assert!(said.contains(&missing) && said.contains("create"), "{said}");
        assert_ends(&pipeline, &config, FAILED, &[&missing, "create"]);
    }
    let (code, said) = command(pipeline.folder(), &config, &["check"]);
    assert_eq!(code, Some(0), "{said}");
}

/// After about ten seconds; how long it may take on a busy machine is no matter of this test.
#[test]
fn brokers_that_are_away_at_the_start_are_named() {
    let Some(broker) = Broker::shared() else { return };
    let nowhere = format!("127.0.0.1:{}", free_port());
    let started = MODES.map(|delivery| {
        let pipeline = Pipeline::new(broker, delivery);
        let daemon = pipeline.start_at(&nowhere);
        (pipeline, daemon)
    });
    for (pipeline, mut daemon) in started {
        let begun = Instant::now();
        let status = daemon.wait_exit("a broker that is away", LIMIT);
        eprintln!("said after {:?}", begun.elapsed());
        let said = daemon.last_line();
        assert_eq!(status.code(), FAILED, "{said}");
        assert!(said.contains(&nowhere) && said.contains("`brokers`"), "{said}");
        // Nothing was begun that stands in the way of the next start.
        pipeline.feed(0..100);
        pipeline.finish(pipeline.start()).assert_exactly_once();
    }
}

/// What could not be read yet does not keep a daemon that is told to end.
#[test]
fn sigterm_while_the_brokers_are_away_ends_the_daemon() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in MODES {
        let Some(proxy) = Proxy::before(broker) else { return };
        let pipeline = Pipeline::new(broker, delivery);
        pipeline.feed(0..1000);
        let mut daemon = pipeline.start_at(proxy.bootstrap());
        daemon.wait_records(1000, LIMIT);
        proxy.refuse(true);
        proxy.cut_all();
        pipeline.feed(1000..2000);
        let begun = Instant::now();
        let status = daemon.terminate(LIMIT);
        eprintln!("{delivery}: {status} after {:?}", begun.elapsed());
        drop(proxy);
        let balance = pipeline.finish(pipeline.start());
        assert_eq!(balance.inputs, 2000);
        balance.assert_at_least_once();
        if delivery == "exactly-once" {
            balance.assert_exactly_once();
        }
    }
}

/// `DRIFTMILL_AWAY_S` asks for another time than the short one.
#[test]
fn brokers_that_go_away_for_a_while_cost_nothing_but_time() {
    let Some(broker) = Broker::shared() else { return };
    let away_s = std::env::var("DRIFTMILL_AWAY_S").map_or(3, |text| text.parse().unwrap());
    for delivery in MODES {
        let Some(proxy) = Proxy::before(broker) else { return };
        let pipeline = Pipeline::new(broker, delivery);
        pipeline.feed(0..3000);
        let mut daemon = pipeline.start_at(proxy.bootstrap());
        daemon.wait_ready(LIMIT);
        proxy.refuse(true);
        proxy.cut_all();
        pipeline.feed(3000..6000);
        std::thread::sleep(Duration::from_secs(away_s));
        assert_eq!(daemon.exited(), None, "{delivery}: {}", daemon.log());
        proxy.refuse(false);
        daemon.wait_for("all records read", LIMIT, |daemon| {
            let committed = daemon.metrics()?.get("driftmill_records_total", &[])?;
            (committed >= 6000.0).then_some(())
        });
        let balance = pipeline.finish(daemon);
        eprintln!("{delivery}, broker away for {away_s} s: {balance}");
        assert_eq!(balance.inputs, 6000);
        balance.assert_exactly_once();
    }
}

#[test]
fn a_second_daemon_on_the_same_state_is_turned_away() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "at-least-once");
    pipeline.feed(0..1000);
    let mut first = pipeline.start();
    first.wait_ready(LIMIT);
    let port = free_port();
    let config = pipeline
        .config(broker.bootstrap())
        .replace(pipeline.http(), &format!("127.0.0.1:{port}"));
    let (code, said) = command(pipeline.folder(), &config, &["run"]);
    assert_eq!(code, FAILED, "{said}");
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    pipeline.finish(first).assert_exactly_once();
}

#[test]
fn a_second_daemon_with_a_state_of_its_own_takes_over_and_fences_the_first() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "exactly-once");
    let config = rarely_kept(&pipeline.config(broker.bootstrap()));
    pipeline.feed(0..1000);
    let mut first = Daemon::start(pipeline.folder(), &config, pipeline.http());
    first.wait_records(1000, LIMIT);

    let elsewhere = tempfile::tempdir().unwrap();
    let http = format!("127.0.0.1:{}", free_port());
    let folder = |path: &Path| format!("{}/", path.display());
    let config = config
        .replace(pipeline.http(), &http)
        .replace(&folder(pipeline.folder()), &folder(elsewhere.path()));
    let mut second = Daemon::start(elsewhere.path(), &config, &http);
    second.wait_ready(LIMIT);
    // The first finds out when it writes.
    pipeline.feed(1000..2000);
    let status = first.wait_exit("the second", LIMIT);
    assert_eq!(status.code(), FENCED, "{}", first.log());
    let balance = pipeline.finish(second);
    assert_eq!(balance.inputs, 2000);
    balance.assert_exactly_once();
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_the_state_is_the_same() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in MODES {
        let pipeline = Pipeline::new(broker, delivery);
        // Several snapshots, whichever way the clock goes: one at each end.
        for round in 0..3 {
            pipeline.feed(round * 1000..(round + 1) * 1000);
            pipeline.finish(pipeline.start());
        }
        let folder = pipeline.folder().join("state/snapshots");
        let manifests = files(&folder, ".manifest");
        assert!(manifests.len() > 1, "{manifests:?}");
        flip(manifests.last().unwrap(), |bytes| bytes / 2);
        let daemon = pipeline.start();
        let balance = pipeline.finish(daemon);
        let log = std::fs::read_to_string(pipeline.folder().join("driftmill.log")).unwrap();
        assert!(log.contains("a damaged snapshot is passed over"), "{log}");
        assert_eq!(balance.inputs, 3000);
        if delivery == "exactly-once" {
            balance.assert_exactly_once();
        } else {
            balance.assert_at_least_once();
        }
        let before: String = log
            .lines()
            .filter(|line| line.starts_with('{'))
            .rev()
            .nth(1)
            .unwrap()
            .to_owned();
        let (_, recovered) = state_hashes(&log);
        assert!(recovered.is_some(), "{log}");
        assert_eq!(
            state_hashes(&before).0,
            recovered,
            "{delivery}: replay comes to the state that was"
        );

        for manifest in files(&folder, ".manifest") {
            flip(&manifest, |bytes| bytes / 3);
        }
        let config = pipeline.config(broker.bootstrap());
        assert_ends(&pipeline, &config, FAILED, &["none of the snapshots", "restore"]);
    }
}

#[test]
fn a_damaged_epoch_log_is_refused_with_its_place() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "at-least-once");
    pipeline.feed(0..2000);
    pipeline.finish(pipeline.start());
    let segments = files(&pipeline.folder().join("state/epochs"), ".log");
    flip(&segments[0], |bytes| bytes / 2);
    let config = pipeline.config(broker.bootstrap());
    let shown = segments[0].display().to_string();
    assert_ends(&pipeline, &config, FAILED, &[&shown, "at byte", "restore"]);
    // It goes on as soon as the file is what it was.
    flip(&segments[0], |bytes| bytes / 2);
    pipeline.feed(2000..3000);
    pipeline.finish(pipeline.start()).assert_exactly_once();
}

#[test]
fn a_strange_record_in_the_epoch_log_is_refused() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "exactly-once");
    pipeline.feed(0..1000);
    pipeline.finish(pipeline.start());
    let log = format!("driftmill.{}.epochs", pipeline.name);
    broker.produce(&log, [Record::of("not an epoch")]);
    let config = pipeline.config(broker.bootstrap());
    assert_ends(&pipeline, &config, FAILED, &["epoch log"]);
}

#[test]
fn a_port_in_use_is_named() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "at-least-once");
    let _taken = std::net::TcpListener::bind(pipeline.http()).unwrap();
    let config = pipeline.config(broker.bootstrap());
    assert_ends(&pipeline, &config, FAILED, &[pipeline.http(), "another port"]);
}

#[test]
fn a_damaged_artifact_is_refused() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "at-least-once");
    let config = pipeline.config(broker.bootstrap());
    let config = config.replace("[model]", "[model]\ninitial = \"model.dma\"");
    let file = pipeline.folder().join("model.dma");
    assert_ends(&pipeline, &config, FAILED, &["model.dma"]);
    std::fs::write(&file, b"no model").unwrap();
    assert_ends(&pipeline, &config, FAILED, &["model.dma", "not a Driftmill artifact"]);
    std::fs::write(&file, [&b"DMA1"[..], &[7; 100]].concat()).unwrap();
    assert_ends(&pipeline, &config, FAILED, &["model.dma", "damaged"]);
}

/// A daemon that was killed leaves epochs of the old SQL: they are replayed under it, and then the new one begins.
#[test]
fn a_changed_sql_replays_under_the_old_plan_and_then_switches() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in MODES {
        let pipeline = Pipeline::new(broker, delivery);
        let old = rarely_kept(&pipeline.config(broker.bootstrap()));
        pipeline.feed(0..2000);
        let mut daemon = Daemon::start(pipeline.folder(), &old, pipeline.http());
        daemon.wait_records(2000, LIMIT);
        // Counted is committed: none of it is computed again under the new plan.
        daemon.kill();
        let new = old.replace("SELECT id, at, x FROM", "SELECT id, at, x, x * 2 AS twice FROM");
        assert_ne!(old, new);
        pipeline.feed(2000..4000);
        let mut daemon = Daemon::start(pipeline.folder(), &new, pipeline.http());
        daemon.wait_records(2000, LIMIT);
        let balance = pipeline.finish(daemon);
        assert_eq!(balance.inputs, 4000);
        if delivery == "exactly-once" {
            balance.assert_exactly_once();
        } else {
            balance.assert_at_least_once();
        }
        let mut plans = std::collections::BTreeSet::new();
        for message in broker.read(&pipeline.topic("out"), Isolation::Committed) {
            let value: serde_json::Value = serde_json::from_slice(message.payload.as_deref().unwrap()).unwrap();
            let new = value["id"].as_i64().unwrap() >= 2000;
            assert_eq!(value.get("twice").is_some(), new, "{delivery}: {value}");
            plans.insert((new, value["driftmill"]["plan"].as_str().unwrap().to_owned()));
        }
        assert_eq!(plans.len(), 2, "one plan before, another after: {plans:?}");
    }
}

#[test]
fn sigterm_under_load_ends_within_ten_seconds() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in MODES {
        let pipeline = Pipeline::new(broker, delivery);
        pipeline.feed(0..60_000);
        let mut daemon = pipeline.start();
        daemon.wait_ready(LIMIT);
        let status = daemon.terminate(Duration::from_secs(10));
        assert!(status.success(), "{status}\n{}", daemon.log());
        let summary = daemon.last_line();
        assert!(summary.contains("\"state\":"), "{summary}");
        let balance = pipeline.finish(pipeline.start());
        assert_eq!(balance.inputs, 60_000);
        balance.assert_exactly_once();
    }
}

#[test]
fn records_that_retention_took_stop_the_pipeline() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "exactly-once");
    let config = pipeline.config(broker.bootstrap());
    pipeline.feed(0..900);
    pipeline.finish(pipeline.start());
    pipeline.feed(900..1800);
    let end = 1 + broker
        .read(&pipeline.topic("in"), Isolation::Committed)
        .iter()
        .filter(|message| message.partition == 1)
        .map(|message| message.offset)
        .max()
        .unwrap();
    broker.delete_records(&pipeline.topic("in"), 1, end - 10);
    let (topic, holds) = (pipeline.topic("in"), format!("the topic holds {} to {end}", end - 10));
    let parts = [
        topic.as_str(),
        "partition 1",
        &holds,
        "retention",
        "nothing was skipped",
    ];
    assert_ends(&pipeline, &config, FAILED, &parts);
    // It stays so: a second start does not slip past the hole.
    assert_ends(&pipeline, &config, FAILED, &parts);
}

#[test]
fn a_topic_made_anew_stops_the_pipeline() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "at-least-once");
    let config = pipeline.config(broker.bootstrap());
    pipeline.feed(0..900);
    pipeline.finish(pipeline.start());
    let topic = pipeline.topic("in");
    broker.delete_topics(&[&topic]);
    assert_ends(&pipeline, &config, FAILED, &[&topic]);
    broker.create_topic(&topic, 3);
    pipeline.feed(0..30);
    assert_ends(&pipeline, &config, FAILED, &[&topic, "deleted and made again"]);
}

#[test]
fn without_a_topic_for_dead_letters_a_bad_record_stops_the_pipeline() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in MODES {
        let pipeline = Pipeline::new(broker, delivery);
        // The 100th record is no JSON.
        pipeline.feed(0..500);
        let config = without(&pipeline.config(broker.bootstrap()), "dead_letters");
        let topic = pipeline.topic("in");
        assert_ends(
            &pipeline,
            &config,
            FAILED,
            &[&topic, "partition", "offset", "syntax", "dead_letters"],
        );
        assert_ends(&pipeline, &config, FAILED, &[&topic, "dead_letters"]);
        let balance = pipeline.finish(pipeline.start());
        assert_eq!((balance.inputs, balance.dead), (500, 4));
        balance.assert_exactly_once();
    }
}

/// A configuration that is right, of which each mistake changes a line.
const RIGHT: &str = r#"[pipeline]
name      = "p"
state_dir = "state"

[source]
connector = "kafka"
brokers   = "localhost:9092"
topics    = ["in"]

[source.schema]
id = "int64"
at = "timestamp[ms]"
x  = "float64"

[epoch]
linger = "5 ms"

[features]
sql = "SELECT id, at, x FROM source"

[features.columns]
id = { role = "id" }
at = { role = "time" }

[model]

[sink]
connector = "kafka"
topic     = "out"
"#;

/// What `check --offline` says of the right configuration with `from` replaced by `to`.
fn mistake(from: &str, to: &str, expected: &Expect) {
    assert!(RIGHT.contains(from), "{from}");
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = command(folder.path(), &RIGHT.replacen(from, to, 1), &["check", "--offline"]);
    assert_eq!(code, WRONG, "{said}");
    expected.assert_eq(&said);
}

#[test]
fn the_right_configuration_has_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = command(folder.path(), RIGHT, &["check", "--offline"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn a_mistake_in_the_configuration_is_shown_at_its_place() {
    mistake(
        "linger = \"5 ms\"",
        "linger = 5",
        &expect![[r#"
        p.toml:16:10  expected a duration such as "30 s", found integer
           16 | linger = 5
              |          ^
              = missing unit: write "5 s"
    "#]],
    );
    mistake(
        "linger = \"5 ms\"",
        "lingr = \"5 ms\"",
        &expect![[r#"
        p.toml:16:1  unknown key `lingr` in [epoch]; did you mean `linger`?
           16 | lingr = "5 ms"
              | ^^^^^
    "#]],
    );
    mistake(
        "x  = \"float64\"",
        "x  = \"double\"",
        &expect![[r#"
            p.toml:13:6  unknown type `double`; did you mean `float64`?
               13 | x  = "double"
                  |      ^^^^^^^^
                  = the types are string, bool, int64, int32, float64, float32, timestamp[s], timestamp[ms], timestamp[us], timestamp[ns], date32, and float32[N] for vectors of N numbers
        "#]],
    );
    mistake(
        "x  = \"float64\"",
        "x  = \"float64\"\nv0 = \"float32[4096]\"\nv1 = \"float32[4096]\"\nv2 = \"float32[4096]\"\nv3 = \"float32[4096]\"\nv4 = \"float32[4096]\"\nv5 = \"float32[4096]\"\nv6 = \"float32[4096]\"\nv7 = \"float32[4096]\"\nv8 = \"float32[4096]\"",
        &expect![[r#"
            p.toml:24:1  an epoch of 8192 rows may hold more than 1 GiB of vectors, 147456 bytes a row
               24 | [epoch]
                  | ^^^^^^^
                  = set `rows_max` to 7281 or less
        "#]],
    );
    mistake(
        "\nname      = \"p\"",
        "",
        &expect![[r#"
        p.toml:1:1  missing key `name` in [pipeline]
            1 | [pipeline]
              | ^^^^^^^^^^
    "#]],
    );
    mistake(
        "at = { role = \"time\" }",
        "att = { role = \"time\" }",
        &expect![[r#"
        p.toml:23:1  the SQL has no column `att`
           23 | att = { role = "time" }
              | ^^^
    "#]],
    );
    mistake(
        "[model]",
        "[model]\nbefore_model = \"hold\"",
        &expect![[r#"
        p.toml:26:16  nothing would ever end the wait
           26 | before_model = "hold"
              |                ^^^^^^
              = name an artifact in `initial`, or write `before_model = "pass"`
    "#]],
    );
    mistake(
        "[sink]",
        "[http]\nlisten = \"0.0.0.0:9464\"\n\n[sink]",
        &expect![[r#"
        p.toml:28:10  an address that others can reach needs TLS and a token, not yet supported
           28 | listen = "0.0.0.0:9464"
              |          ^^^^^^^^^^^^^^
              = listen on 127.0.0.1, and put a proxy with TLS and authentication before it
    "#]],
    );
    mistake(
        "topic     = \"out\"",
        "topic     = \"out\"\noptions = { \"enable.idempotence\" = \"false\" }",
        &expect![[r#"
            p.toml:30:36  option `enable.idempotence` is refused: without it records are written twice or out of order
               30 | options = { "enable.idempotence" = "false" }
                  |                                    ^^^^^^^
        "#]],
    );
    mistake(
        "state_dir = \"state\"",
        "state_dir = \"${NO_SUCH_VARIABLE}\"",
        &expect![[r#"
            p.toml:3:14  environment variable `NO_SUCH_VARIABLE` is not set
                3 | state_dir = "${NO_SUCH_VARIABLE}"
                  |              ^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    mistake(
        "name      = \"p\"",
        "name      = p",
        &expect![[r#"
        p.toml:2:13  string values must be quoted, expected literal string
            2 | name      = p
              |             ^
    "#]],
    );
}

#[test]
fn sql_that_a_stream_cannot_answer_is_refused_by_name() {
    let sql = "SELECT id, at, x FROM source";
    mistake(
        sql,
        "SELECT id, at, y FROM source",
        &expect![[r#"
        p.toml:19:23  unknown column `y` in [features] sql
           19 | sql = "SELECT id, at, y FROM source"
              |                       ^
              = the columns of the source are id, at, x
    "#]],
    );
    mistake(
        sql,
        "SELECT id, count(*) AS n FROM source GROUP BY id",
        &expect![[r#"
        p.toml:19:45  not yet: stateful SQL (GROUP BY)
           19 | sql = "SELECT id, count(*) AS n FROM source GROUP BY id"
              |                                             ^^^^^
              = only projections and WHERE over the rows of `source`, one by one
    "#]],
    );
    mistake(
        sql,
        "SELECT id, at, now() AS t, x FROM source",
        &expect![[r#"
        p.toml:19:23  `now` (a plan is made once and would freeze it) is not supported in [features] sql
           19 | sql = "SELECT id, at, now() AS t, x FROM source"
              |                       ^^^
              = use the record's time column
    "#]],
    );
    mistake(
        sql,
        "SELECT id, at, x FROM source ORDER BY x",
        &expect![[r#"
        p.toml:19:37  ORDER BY (a stream has no end to sort to) is not supported in [features] sql
           19 | sql = "SELECT id, at, x FROM source ORDER BY x"
              |                                     ^^^^^
              = only projections and WHERE over the rows of `source`, one by one
    "#]],
    );
    mistake(
        sql,
        "SELECT id, at, x FROM source WHERE",
        &expect![[r#"
        p.toml:19:42  syntax error in [features] sql: Expected: an expression, found: EOF
           19 | sql = "SELECT id, at, x FROM source WHERE"
              |                                          ^
    "#]],
    );
}
