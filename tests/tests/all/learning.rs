//! The whole loop on a real Kafka: a first model from the first labels, a change, an alarm, a candidate, the gate, the
//! swap; and a restart that goes on as if nothing had been.

use std::time::Duration;

use driftmill_tests::daemon::{Daemon, run_to_end};
use driftmill_tests::kafka::{Broker, Isolation, Message};
use serde_json::Value;

use crate::pipeline::LIMIT;
use crate::world::World;

/// Records in all, and where the world changes.
const RECORDS: u32 = 30_000;
const CHANGE: u32 = 15_000;
/// The last records, by which an online learner is judged.
const JUDGED: usize = 1_000;

fn the_loop(delivery: &'static str) {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, delivery, RECORDS, CHANGE);
    world.feed(12_000);
    let mut daemon = world.start();
    daemon.wait_for("a first version", LIMIT, |daemon| {
        let swaps = daemon.metrics()?.get("driftmill_swaps_total", &[])?;
        (swaps >= 1.0).then_some(())
    });
    // In the middle of whatever it does; what it knew must come back.
    daemon.kill();
    let mut daemon = world.start();
    // In pieces: while a candidate is trained the world goes on, but not to its end.
    while world.fed() < RECORDS {
        world.feed(1_000);
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
    let file = world.file();
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
    eprint!("{}", world.verify());

    let outputs = broker.read(&world.topic("out"), Isolation::Committed);
    let (mut right, mut rows, mut versions) = (0, 0, std::collections::BTreeSet::new());
    for message in &outputs {
        let value: Value = serde_json::from_slice(message.payload.as_deref().unwrap()).unwrap();
        versions.insert(value["driftmill"]["model"].as_str().unwrap_or("none").to_owned());
        let number: u32 = value["id"].as_str().unwrap()[1..].parse().unwrap();
        if number >= RECORDS - 5_000 {
            rows += 1;
            right += u32::from((value["prediction"].as_f64().unwrap() > 0.5) == world.is_late(number));
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

#[test]
fn a_topic_of_labels_that_does_not_exist_is_named_beforehand() {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "at-least-once", 1, 1);
    let (file, topic, config) = (world.file(), world.topic("labels"), world.config());
    let check = |config: &str| {
        std::fs::write(&file, config).unwrap();
        run_to_end(["check", file.to_str().unwrap()])
    };
    let told = check(&config);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told = check(&config.replace(&format!("{topic}\""), &format!("{topic}x\"")));
    let said = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(2), "{said}");
    assert!(
        said.contains(&format!("`{topic}x`")) && said.contains("create"),
        "{said}"
    );
}

/// An online learner of `[model]` learns in shadow, goes live through the gate and publishes; after a kill -9 it goes on
/// where it was, and a replay of the whole log comes to the same state.
fn an_online_learner_serves(learner: &'static str) {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "exactly-once", RECORDS, RECORDS)
        .with_online_learner(learner)
        .keeping_log();
    let published = |daemon: &Daemon| {
        let counted = daemon.metrics()?.get("driftmill_online_published_total", &[])?;
        (counted >= 3.0).then_some(())
    };
    let feed_until_published = |daemon: &mut Daemon| {
        while published(daemon).is_none() {
            assert!(world.fed() < RECORDS, "{learner} never published\n{}", daemon.log());
            world.feed(200);
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let mut daemon = world.start();
    feed_until_published(&mut daemon);
    daemon.kill();
    let mut daemon = world.start();
    feed_until_published(&mut daemon);
    world.feed(JUDGED as u32);
    daemon.wait_no_lag(LIMIT);
    let status = daemon.terminate(Duration::from_secs(30));
    assert!(status.success(), "{learner}: {status}\n{}", daemon.log());
    eprint!("{}", world.verify());

    // Its model tells the two kinds of rows apart, which a coin or the share of one kind would not.
    let outputs = broker.read(&world.topic("out"), Isolation::Committed);
    assert_eq!(
        outputs.len(),
        world.fed() as usize,
        "{learner}: one outcome for each record"
    );
    let is_right = |message: &&Message| {
        let value: Value = serde_json::from_slice(message.payload.as_deref().unwrap()).unwrap();
        let number: u32 = value["id"].as_str().unwrap()[1..].parse().unwrap();
        (value["prediction"].as_f64().unwrap() > 0.5) == world.is_late(number)
    };
    let right = outputs.iter().rev().take(JUDGED).filter(is_right).count();
    eprintln!("{learner}: {right} of the last {JUDGED} right");
    assert!(right > JUDGED * 7 / 10, "{learner}: {right} of {JUDGED}");
}

#[test]
fn trees_and_bayes_serve_online() {
    ["hoeffding-adaptive-tree", "naive-bayes"]
        .into_iter()
        .for_each(an_online_learner_serves);
}

#[test]
fn a_forest_and_auto_serve_online() {
    ["adaptive-random-forest", "auto"]
        .into_iter()
        .for_each(an_online_learner_serves);
}
