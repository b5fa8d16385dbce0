//! The files under `deploy/`: Prometheus' own tool reads them.

use std::process::Command;

fn promtool(args: &[&str]) {
    let folder = driftmill_tests::root().join("deploy/prometheus");
    match Command::new("promtool").args(args).current_dir(folder).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            assert!(
                output.status.success(),
                "promtool {args:?}: {}",
                String::from_utf8_lossy(&said)
            );
        }
        Err(error) => driftmill_tests::not_run(&format!("promtool (Debian: prometheus): {error}")),
    }
}

#[test]
fn the_alert_rules_are_rules() {
    promtool(&["check", "rules", "driftmill.rules.yml"]);
}

#[test]
fn each_alert_fires_for_its_cause_alone() {
    promtool(&["test", "rules", "driftmill.rules.test.yml"]);
}

#[test]
fn the_scrape_example_is_a_configuration() {
    promtool(&["check", "config", "prometheus.yml"]);
}
