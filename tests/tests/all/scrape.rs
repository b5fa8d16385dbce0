//! What Prometheus makes of the daemon's page: a real one scrapes it, and evaluates the rules under `deploy/prometheus`.

use std::time::Duration;

use driftmill_tests::daemon::Daemon;
use driftmill_tests::kafka::Broker;
use driftmill_tests::prometheus::{Prometheus, hasty_rules, promtool};

use crate::pipeline::{LIMIT, Pipeline};
use crate::world::World;

/// Where the world changes.
const CHANGE: u32 = 15_000;

/// `promtool check metrics` on the page as it is now.
fn check_metrics(daemon: &Daemon) {
    let (_, page) = daemon.get("/metrics").unwrap();
    let Some((content, said)) = promtool(&["check", "metrics"], &driftmill_tests::root(), &page) else {
        return;
    };
    assert!(content && said.is_empty(), "{said}\n{page}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "at-least-once");
    pipeline.feed(0..3000);
    let mut daemon = pipeline.start();
    daemon.wait_records(3000, LIMIT);
    check_metrics(&daemon);
}

/// Counters count what a process has committed: the epochs that it replays at its start are another's work.
#[test]
fn a_replay_adds_nothing_to_the_counters() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in ["at-least-once", "exactly-once"] {
        let pipeline = Pipeline::new(broker, delivery);
        // One snapshot at the end, which a kill prevents: the next start replays every epoch.
        let config = pipeline.config(broker.bootstrap()).replace("\"500 ms\"", "\"1 h\"");
        pipeline.feed(0..3000);
        let mut daemon = Daemon::start(pipeline.folder(), &config, pipeline.http());
        daemon.wait_records(3000, LIMIT);
        let committed = daemon.metrics().unwrap().get("driftmill_epoch_committed", &[]).unwrap();
        daemon.kill();

        let mut daemon = Daemon::start(pipeline.folder(), &config, pipeline.http());
        daemon.wait_ready(LIMIT);
        let metrics = daemon.metrics().unwrap();
        assert!(
            metrics.get("driftmill_epoch_committed", &[]) >= Some(committed),
            "{delivery}: what was replayed is durable"
        );
        pipeline.feed(3000..3500);
        daemon.wait_records(500, LIMIT);
        let metrics = daemon.metrics().unwrap();
        assert_eq!(metrics.get("driftmill_records_total", &[]), Some(500.0), "{delivery}");
        let letters = metrics.get("driftmill_dead_letters_total", &[]);
        assert_eq!(letters, Some(5.0), "{delivery}: 3029, 3130, 3231, 3332, 3433");
        let delivered = metrics.get("driftmill_end_to_end_latency_seconds_count", &[]).unwrap();
        let predictions = metrics
            .get("driftmill_records_total", &[("outcome", "scored")])
            .unwrap();
        assert_eq!(delivered, predictions + 5.0, "{delivery}: outputs, each once");
        pipeline.finish(daemon).assert_at_least_once();
    }
}

/// The drift alert fires because the world changes, and not before.
#[test]
fn a_change_of_the_world_fires_the_drift_alert_of_a_real_prometheus() {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "exactly-once", 2 * CHANGE, CHANGE);
    let mut daemon = world.start();
    let Some(prometheus) = Prometheus::start(world.http(), &hasty_rules()) else {
        return;
    };
    let wait = |daemon: &mut Daemon, what: &str, look: &dyn Fn() -> bool| {
        daemon.wait_for(what, LIMIT, |_| look().then_some(()));
    };
    let is = |expression: &str| prometheus.value(expression) == Some(1.0);

    // Without data no detector looks stable, and that is an alert of its own.
    for detector in ["concept", "inputs"] {
        wait(&mut daemon, "the alert that a detector has not judged", &|| {
            let found = prometheus.firing("DriftmillDriftNotJudged");
            found.iter().any(|labels| labels["detector"] == detector)
        });
    }
    assert_eq!(
        prometheus.value(r#"sum(driftmill_drift_state{state!="insufficient-data"})"#),
        Some(0.0)
    );

    // In pieces: a model is judged by rows that come after it was trained, however fast they are read.
    while world.fed() < CHANGE - 3_000 {
        world.feed(500);
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.wait_for("a first version", LIMIT, |daemon| {
        let swaps = daemon.metrics()?.get("driftmill_swaps_total", &[])?;
        (swaps >= 1.0).then_some(())
    });
    world.feed(3_000);

    wait(&mut daemon, "all that was fed, in Prometheus", &|| {
        prometheus.value(r#"sum(driftmill_records_total{outcome="scored"})"#) == Some(f64::from(CHANGE))
    });
    assert_eq!(prometheus.targets(), ["up"], "{}", prometheus.log());
    // Before the change: the detector of the loss has judged, and found nothing.
    wait(&mut daemon, "a stable loss", &|| {
        is(r#"driftmill_drift_state{detector="concept",state="stable"}"#)
    });
    wait(&mut daemon, "quality of the newest cohorts", &|| {
        let found = prometheus.query("driftmill:model_log_loss:recent");
        found.len() == 1 && found[0].label("version") == "v1" && found[0].value < 0.69
    });
    wait(&mut daemon, "what the version was worth when it was new", &|| {
        prometheus.query("driftmill:model_log_loss:baseline").len() == 1
    });
    for series in ["score", "threshold", "effect", "rows"] {
        let series = format!("driftmill_drift_{series}{{detector=\"concept\"}}");
        assert!(prometheus.value(&series).is_some(), "{series}");
    }
    assert!(is(
        r#"sum(driftmill_drift_state{detector="inputs",feature="x",aspect="values"})"#
    ));
    for alert in ["DriftmillDrift", "DriftmillQualityDrop", "DriftmillWorseThanPrior"] {
        let early = prometheus.firing(alert);
        assert!(early.is_empty(), "before the change: {early:?}\n{}", daemon.log());
    }
    assert_eq!(prometheus.value("sum(driftmill_drift_alarms_total)"), Some(0.0));

    // Fewer labels after the change than a candidate needs: nothing answers the alarm, it stays.
    world.feed(900);
    wait(&mut daemon, "the drift alert", &|| {
        let found = prometheus.firing("DriftmillDrift");
        found.iter().any(|labels| labels["detector"] == "concept")
    });
    assert!(is(r#"driftmill_drift_state{detector="concept",state="drift"}"#));
    let [score, threshold, effect] = ["score", "threshold", "effect"].map(|series| {
        let series = format!("driftmill_drift_{series}{{detector=\"concept\"}}");
        prometheus.value(&series).unwrap_or_else(|| panic!("{series}"))
    });
    eprintln!("the loss rose by {effect:.3} of ln 1000: score {score:.3}, threshold {threshold:.3}");
    assert!(score > threshold && effect > 0.0, "{score} {threshold} {effect}");
    assert!(prometheus.value("sum(driftmill_drift_alarms_total)") >= Some(1.0));
    wait(&mut daemon, "the alert at once", &|| {
        !prometheus.firing("DriftmillDriftAlarm").is_empty()
    });
    for alert in ["DriftmillQualityDrop", "DriftmillWorseThanPrior"] {
        wait(&mut daemon, alert, &|| {
            let found = prometheus.firing(alert);
            found.iter().any(|labels| labels["version"] == "v1")
        });
    }
    check_metrics(&daemon);
    let status = daemon.terminate(Duration::from_secs(60));
    assert!(status.success(), "{status}\n{}", daemon.log());
}
