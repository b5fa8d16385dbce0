//! A real Prometheus beside the daemon: it scrapes, evaluates the rules under `deploy/prometheus`, and is asked by its
//! own HTTP interface.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::free_port;

/// A Prometheus of a test's own; it ends with the value.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    http: String,
    folder: tempfile::TempDir,
}

/// A series of an answer: its labels, and its value.
#[derive(Debug, Clone)]
pub struct Sample {
    labels: Value,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty where the series has none of this name.
    pub fn label(&self, name: &str) -> &str {
        self.labels[name].as_str().unwrap_or_default()
    }
}

/// The rules under `deploy/prometheus` with every `for` and `keep_firing_for` rewritten to a second: nobody waits five
/// minutes in a test. Nothing else of them is changed.
pub fn hasty_rules() -> String {
    let file = crate::root().join("deploy/prometheus/driftmill.rules.yml");
    let rules = std::fs::read_to_string(&file).expect("the rules are there");
    let hasty: Vec<String> = rules
        .lines()
        .map(|line| match line.trim_start().split_once(": ") {
            Some((key @ ("for" | "keep_firing_for"), _)) => {
                format!("{}{key}: 1s", &line[..line.len() - line.trim_start().len()])
            }
            _ => line.to_owned(),
        })
        .collect();
    hasty.join("\n") + "\n"
}

impl Prometheus {
    /// Starts one that scrapes `target` every second and evaluates `rules` as often. `None`, and said by
    /// [`crate::not_run`], where the program is not installed.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(target: &str, rules: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("rules.yml"), rules).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"rules.yml\"]\n\
             scrape_configs:\n- {{job_name: driftmill, static_configs: [{{targets: [\"{target}\"]}}]}}\n"
        );
        std::fs::write(at("prometheus.yml"), config).unwrap();
        let http = format!("127.0.0.1:{}", free_port());
        let log = File::create(at("log")).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", at("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", at("data").display()))
            .arg(format!("--web.listen-address={http}"));
        let output = log.try_clone().unwrap();
        match command.stdin(Stdio::null()).stdout(output).stderr(log).spawn() {
            Ok(child) => {
                let mut started = Self { child, http, folder };
                started.wait_ready();
                Some(started)
            }
            Err(error) => {
                crate::not_run(&format!("prometheus (Debian: prometheus): {error}"));
                None
            }
        }
    }

    fn wait_ready(&mut self) {
        let until = Instant::now() + Duration::from_secs(120);
        while self.get("/-/ready", &[]).is_none() {
            let ended = self.child.try_wait().expect("our child");
            assert!(
                ended.is_none() && Instant::now() < until,
                "Prometheus does not become ready ({ended:?})\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<String> {
        let request = ureq::get(format!("http://{}{path}", self.http)).query_pairs(query.iter().copied());
        request.call().ok()?.body_mut().read_to_string().ok()
    }

    /// The data of an answer.
    fn data(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let mut answer: Value = serde_json::from_str(&self.get(path, query)?).ok()?;
        Some(answer["data"].take())
    }

    /// The series that an expression has now; none when nobody answers.
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let data = self.data("/api/v1/query", &[("query", expression)]).unwrap_or_default();
        let series = data["result"].as_array().cloned().unwrap_or_default();
        let sample = |series: &Value| {
            Some(Sample {
                labels: series["metric"].clone(),
                value: series["value"][1].as_str()?.parse().ok()?,
            })
        };
        series.iter().filter_map(sample).collect()
    }

    /// The value of an expression that has exactly one series.
    pub fn value(&self, expression: &str) -> Option<f64> {
        match self.query(expression).as_slice() {
            [one] => Some(one.value),
            _ => None,
        }
    }

    /// The health of each target that is scraped: `up`, `down` or `unknown`.
    pub fn targets(&self) -> Vec<String> {
        let data = self.data("/api/v1/targets", &[]).unwrap_or_default();
        let targets = data["activeTargets"].as_array().cloned().unwrap_or_default();
        let health = |target: &Value| target["health"].as_str().unwrap_or_default().to_owned();
        targets.iter().map(health).collect()
    }

    /// The labels of each alert of this name that fires.
    pub fn firing(&self, alert: &str) -> Vec<Value> {
        let data = self.data("/api/v1/alerts", &[]).unwrap_or_default();
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default();
        let fires = |found: &&Value| found["state"] == "firing" && found["labels"]["alertname"] == alert;
        alerts
            .iter()
            .filter(fires)
            .map(|found| found["labels"].clone())
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `promtool` says: whether it is content, and all that it prints. `None`, and said by [`crate::not_run`], where it
/// is not installed.
pub fn promtool(args: &[&str], folder: &Path, input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(folder);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut promtool = match command.spawn() {
        Ok(promtool) => promtool,
        Err(error) => {
            crate::not_run(&format!("promtool (Debian: prometheus): {error}"));
            return None;
        }
    };
    let mut stdin = promtool.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hasty_rules_differ_in_their_patience_alone() {
        let file = crate::root().join("deploy/prometheus/driftmill.rules.yml");
        let rules = std::fs::read_to_string(file).unwrap();
        let hasty = hasty_rules();
        let changed: Vec<_> = rules.lines().zip(hasty.lines()).filter(|(a, b)| a != b).collect();
        assert!(changed.len() > 20, "{changed:?}");
        assert_eq!(rules.lines().count(), hasty.lines().count());
        for (was, is) in changed {
            assert!(
                was.contains("for: ") && is.trim_start().ends_with("for: 1s"),
                "{was} became {is}"
            );
        }
    }
}
