//! What Prometheus makes of the daemon's page.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftmill_tests::daemon::{Daemon, free_port};
use driftmill_tests::kafka::Broker;

use crate::pipeline::{LIMIT, Pipeline};

/// A daemon that has worked off 3,000 records.
fn worked(broker: &'static Broker) -> (Pipeline, Daemon) {
    let pipeline = Pipeline::new(broker, "at-least-once");
    pipeline.feed(0..3000);
    let mut daemon = pipeline.start();
    daemon.wait_records(3000, LIMIT);
    (pipeline, daemon)
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(broker) = Broker::shared() else { return };
    let (_pipeline, daemon) = worked(broker);
    let (_, page) = daemon.get("/metrics").unwrap();
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut promtool = match command.spawn() {
        Ok(promtool) => promtool,
        Err(error) => return driftmill_tests::not_run(&format!("promtool (Debian: prometheus): {error}")),
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

/// A Prometheus of this test's own; it ends with the value.
struct Prometheus {
    child: Child,
    http: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let rules = driftmill_tests::root().join("deploy/prometheus/driftmill.rules.yml");
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n- {{job_name: driftmill, static_configs: [{{targets: [\"{target}\"]}}]}}\n",
            rules.display()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let http = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--web.listen-address={http}"));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Self {
                child,
                http,
                _folder: folder,
            }),
            Err(error) => {
                driftmill_tests::not_run(&format!("prometheus: {error}"));
                None
            }
        }
    }

    /// The result of a query, when there is one.
    fn query(&self, query: &str) -> Option<serde_json::Value> {
        let request = ureq::get(format!("http://{}/api/v1/query", self.http)).query("query", query);
        let body = request.call().ok()?.body_mut().read_to_string().ok()?;
        let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
        answer["data"]["result"].as_array()?.first().cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_the_daemon() {
    let Some(broker) = Broker::shared() else { return };
    let (pipeline, mut daemon) = worked(broker);
    let Some(prometheus) = Prometheus::start(pipeline.http()) else {
        return;
    };
    let found = |query: &str| {
        prometheus
            .query(query)
            .and_then(|series| Some(series["value"][1].as_str()?.to_owned()))
    };
    daemon.wait_for("all records in Prometheus", Duration::from_secs(60), |_| {
        (found("sum(driftmill_records_total)")? == "3000").then_some(())
    });
    assert_eq!(found(r#"up{job="driftmill"}"#).as_deref(), Some("1"));
    assert_eq!(found("sum(driftmill_up_info)").as_deref(), Some("1"));
    daemon.wait_for("a recording rule's result", Duration::from_secs(60), |_| {
        (found("driftmill:source_lag_records:sum")? == "0").then_some(())
    });
}
