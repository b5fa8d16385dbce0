//! The first model from files of history: live from the first record, by an event of the first epoch, so that nothing
//! needs the files again.

use std::sync::Arc;

use driftmill::disk::LocalDisk;
use driftmill::models::artifact::Artifact;
use driftmill::registry::Registry;
use driftmill::trainer::Job;
use driftmill_tests::daemon::run_to_end;
use driftmill_tests::kafka::Broker;
use serde_json::Value;

use crate::pipeline::LIMIT;
use crate::world::World;

/// Records of history.
const HISTORY: u32 = 12_000;
/// No world changes so late.
const NEVER: u32 = u32::MAX;

fn said(arguments: [&str; 2]) -> String {
    let told = run_to_end(arguments);
    let (out, err) = (
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr),
    );
    format!("{}\n{out}{err}", told.status)
}

/// The files that the lineage of the first artifact names, with their hashes.
fn origin(world: &World) -> Vec<(String, String)> {
    let registry = Registry::open(Arc::new(LocalDisk), world.folder().join("state/registry")).unwrap();
    let first = registry.list().unwrap().remove(0);
    let lineage = Artifact::read(&registry.get(&first.artifact).unwrap()).unwrap().lineage;
    // The job is still to be had from it.
    assert!(Job::from_lineage(&lineage).is_ok(), "{lineage:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let files = lineage["bootstrap"]["files"].as_array().unwrap();
    files
        .iter()
        .map(|file| (text(&file["file"]), text(&file["blake3"])))
        .collect()
}

#[test]
fn a_first_model_from_files_scores_the_first_record() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in ["exactly-once", "at-least-once"] {
        let world = World::new(broker, delivery, 6_000, NEVER)
            .keeping_log()
            .with_history(HISTORY, false, "");
        world.feed(3_000);
        // While it is fitted: nothing was recorded, and the next start begins anew.
        world.start_armed("job-started:2").wait_exit("a kill in mid-fit", LIMIT);
        assert!(world.servers().is_empty(), "{delivery}");
        let mut daemon = world.start();
        daemon.wait_records(3_000, LIMIT);
        let file = world.file();
        let checked = said(["check", file.to_str().unwrap()]);
        assert!(
            checked.contains("2 files, history/h-1.jsonl to history/h-2.jsonl"),
            "{checked}"
        );
        daemon.kill();
        let hashes = ["h-1.jsonl", "h-2.jsonl"].map(|name| {
            let bytes = std::fs::read(world.history().join(name)).unwrap();
            (format!("history/{name}"), blake3::hash(&bytes).to_hex().to_string())
        });
        std::fs::remove_dir_all(world.history()).unwrap();
        world.feed(3_000);
        let mut daemon = world.start();
        daemon.wait_settled(LIMIT, || world.balance());
        let status = daemon.terminate(LIMIT);
        assert!(status.success(), "{status}\n{}", daemon.log());
        let servers = world.servers();
        assert!(servers.len() >= 6_000, "{}", servers.len());
        assert_eq!(servers[0].as_deref(), Some("v1"), "{}", daemon.log());
        assert!(servers.iter().all(Option::is_some), "{}", daemon.log());
        let listed = said(["models", file.to_str().unwrap()]);
        let reason =
            "bootstrap from history/h-*.jsonl, 12000 rows: a model of the first 9600 rows against the class prior";
        assert!(listed.contains(reason), "{listed}");
        assert_eq!(origin(&world), hashes, "{delivery}");
        assert!(daemon.log().contains("for the first start only"), "{}", daemon.log());
        eprintln!("{delivery}: {listed}{}", world.verify());
    }
}

#[test]
fn a_signal_while_it_is_fitted_ends_the_start_and_records_nothing_half() {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "at-least-once", 200, NEVER).with_history(HISTORY, false, "");
    let mut daemon = world.start_armed("job-started:1:stall=3000");
    daemon.wait_for("history is read", LIMIT, |daemon| {
        daemon.log().contains("history is read").then_some(())
    });
    let status = daemon.terminate(LIMIT);
    assert!(status.success(), "{status}\n{}", daemon.log());
    eprintln!("{}", daemon.last_line());
    world.feed(200);
    let mut daemon = world.start();
    daemon.wait_settled(LIMIT, || world.balance());
    let status = daemon.terminate(LIMIT);
    assert!(status.success(), "{status}\n{}", daemon.log());
    let servers = world.servers();
    assert!(
        servers.iter().all(|version| version.as_deref() == Some("v1")),
        "{servers:?}"
    );
    assert_eq!(servers.len(), 200);
}

#[test]
fn a_model_of_noise_is_not_put_live_and_the_stream_makes_the_first() {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "exactly-once", 12_000, NEVER).with_history(HISTORY, true, "bootstrap_rows = 2_000");
    world.feed(500);
    let mut daemon = world.start();
    daemon.wait_records(500, LIMIT);
    assert!(
        daemon.log().contains("the model of history is not put live"),
        "{}",
        daemon.log()
    );
    daemon.wait_settled(LIMIT, || world.balance());
    assert!(world.servers().iter().all(Option::is_none));
    // A restart does not try again.
    daemon.kill();
    let mut daemon = world.start();
    world.feed(11_500);
    daemon.wait_for("a first version", LIMIT, |daemon| {
        let swaps = daemon.metrics()?.get("driftmill_swaps_total", &[])?;
        (swaps >= 1.0).then_some(())
    });
    assert!(!daemon.log_of_run().contains("not put live"), "{}", daemon.log_of_run());
    let status = daemon.terminate(LIMIT);
    assert!(status.success(), "{status}\n{}", daemon.log());
    let listed = said(["models", world.file().to_str().unwrap()]);
    assert!(listed.contains("v1@") && !listed.contains("bootstrap from"), "{listed}");
}

#[test]
fn history_that_is_not_there_ends_the_first_start() {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "at-least-once", 100, NEVER).with_history(100, false, "");
    std::fs::remove_dir_all(world.history()).unwrap();
    std::fs::create_dir(world.history()).unwrap();
    let mut daemon = world.start();
    let status = daemon.wait_exit("a start without history", LIMIT);
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    assert!(
        daemon
            .log()
            .contains("bootstrap from history/h-*.jsonl: no file matches `history/h-*.jsonl`"),
        "{}",
        daemon.log()
    );
    let checked = said(["check", world.file().to_str().unwrap()]);
    assert!(
        checked.contains("no file matches") && checked.contains("bootstrap = "),
        "{checked}"
    );
}
