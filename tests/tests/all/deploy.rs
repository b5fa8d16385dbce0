//! The files under `deploy/`: Prometheus' own tool reads them.

fn promtool(args: &[&str]) {
    let folder = driftmill_tests::root().join("deploy/prometheus");
    if let Some((content, said)) = driftmill_tests::prometheus::promtool(args, &folder, "") {
        assert!(content, "promtool {args:?}: {said}");
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
