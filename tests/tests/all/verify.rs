//! `driftmill verify`: says whether what is kept is what the epoch log says, and disturbs nobody.

use std::path::Path;

use driftmill::disk::LocalDisk;
use driftmill::models::state::ChunkSource as _;
use driftmill::snapshot::{Meta, SnapshotStore};
use driftmill_tests::daemon::{Daemon, run_to_end};
use driftmill_tests::kafka::Broker;

use crate::pipeline::{LIMIT, Pipeline};

/// Exit code and output of `driftmill verify`.
fn verify(file: &Path) -> (Option<i32>, String) {
    let told = run_to_end(["verify", file.to_str().unwrap()]);
    let (out, err) = (
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr),
    );
    (told.status.code(), format!("{out}{err}"))
}

fn assert_says(file: &Path, code: i32, part: &str) {
    let (found, said) = verify(file);
    assert_eq!(found, Some(code), "{said}");
    assert!(said.contains(part), "`{part}` is not in: {said}");
}

/// Writes the newest snapshot once more with one byte of the state changed: sound files, and another state.
fn falsify(pipeline: &Pipeline) {
    let folder = pipeline.folder().join("state/snapshots");
    let store = SnapshotStore::open(std::sync::Arc::new(LocalDisk), folder, pipeline.name.as_str()).unwrap();
    let newest = store.kept().unwrap().pop().unwrap();
    let loaded = store.look(newest).unwrap().unwrap();
    let meta = Meta {
        epoch: newest,
        chain: loaded.manifest.chain.clone(),
        plan: loaded.manifest.plan.clone(),
        code: loaded.manifest.code.clone(),
        time_ms: loaded.manifest.time_ms,
    };
    let save = |chunks: &mut dyn driftmill::models::state::ChunkVisitor| {
        for name in loaded.source.names("") {
            let mut content = loaded.source.chunk(&name).unwrap().to_vec();
            content[0] ^= u8::from(name == "pipeline");
            chunks.chunk(&name, 0, &mut |out| out.extend_from_slice(&content));
        }
    };
    store.publish(store.prepare_with(save, meta).unwrap()).unwrap();
}

#[test]
fn a_snapshot_that_is_not_what_the_log_says_is_named() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in ["at-least-once", "exactly-once"] {
        let pipeline = Pipeline::new(broker, delivery);
        let file = pipeline.folder().join("pipeline.toml");
        pipeline.feed(0..1000);
        let every = "every = \"500 ms\"";
        let config = pipeline.config(broker.bootstrap());
        let config = config.replace(every, &format!("{every}\nlog = \"keep\""));
        let mut daemon = Daemon::start(pipeline.folder(), &config, pipeline.http());
        daemon.wait_records(1000, LIMIT);
        assert_says(&file, 1, "another driftmill");
        pipeline.finish(daemon).assert_exactly_once();
        assert_says(&file, 0, "is what the log says");
        falsify(&pipeline);
        assert_says(&file, 1, "is NOT what the log says");
    }
}

/// The state folder is a copy, so that no lock keeps the two apart: a daemon that was fenced would end at its next commit.
#[test]
fn verify_fences_nobody() {
    let Some(broker) = Broker::shared() else { return };
    let pipeline = Pipeline::new(broker, "exactly-once");
    pipeline.feed(0..1000);
    let mut daemon = pipeline.start();
    daemon.wait_records(1000, LIMIT);
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(pipeline.folder().join("state"))
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let config = pipeline.config(broker.bootstrap()).replace(
        &format!("{}/state", pipeline.folder().display()),
        &format!("{}/state", copy.path().display()),
    );
    let file = copy.path().join("pipeline.toml");
    std::fs::write(&file, config).unwrap();
    let (code, said) = verify(&file);
    assert!(said.contains("  state "), "{code:?}: {said}");
    pipeline.feed(1000..2000);
    daemon.wait_records(2000, LIMIT);
    let balance = pipeline.finish(daemon);
    assert_eq!(balance.inputs, 2000);
    balance.assert_exactly_once();
}
