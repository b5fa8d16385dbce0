//! A trainer as the engine starts it: the binary `driftmill` itself, with its hidden command `train`.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use driftmill::buffer::{BufferConfig, FeatureBuffer, Window};
use driftmill::example::{Matured, VersionId};
use driftmill::trainer::fit::fit;
use driftmill::trainer::job::{CODE, JOB_VERSION};
use driftmill::trainer::{
    Fault, Job, LocalProcess, Process, SegmentRef, Segments, TrainResult, Training, Weighting, collect_segments,
};
use driftmill_models::artifact::Artifact;
use driftmill_models::contracts::Task;
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame};

const EXE: &str = env!("CARGO_BIN_EXE_driftmill");

/// A job on `count` rows: class 1 where the one feature is above a half, one in ten the other way round.
fn example(count: usize) -> (Job, Segments) {
    let columns = vec![ColumnSpec {
        name: "x".to_owned(),
        kind: ColumnKind::Number,
    }];
    let x: Vec<f64> = (0..count).map(|row| (row * 7_919 % 1_000) as f64 / 1_000.0).collect();
    let label = |(row, &x): (usize, &f64)| f64::from(u8::from((x > 0.5) != (row % 10 == 0)));
    let rows = Matured {
        shadow: vec![f64::NAN; count],
        labels: x.iter().enumerate().map(label).collect(),
        weights: vec![1.0; count],
        scores: vec![f64::NAN; count],
        versions: vec![VersionId(0); count],
        time_ms: (0..count as i64).collect(),
        available_ms: (0..count as i64).collect(),
        frame: Frame::new(count, vec![Column::F64(x)]),
    };
    let dictionaries = Dictionaries::new(&columns, 1 << 20);
    let mut buffer = FeatureBuffer::new(BufferConfig {
        columns: columns.clone(),
        rows_max: 1 << 20,
        bytes_max: 1 << 30,
        segment_rows: 500,
    });
    buffer.append(&rows, &dictionaries, 1).unwrap();
    buffer.seal_tail(&dictionaries);
    let job = Job {
        v: JOB_VERSION,
        learner: "logistic-regression".to_owned(),
        learner_config: String::new(),
        columns,
        encoders: String::new(),
        task: Task::Binary,
        seed: 1,
        segments: buffer.select(Window::All).into_iter().map(SegmentRef::from).collect(),
        since_ms: None,
        weighting: Weighting::Uniform,
        cut_ms: i64::MAX,
        code: CODE.to_owned(),
    };
    let segments = collect_segments(&job, &buffer).unwrap();
    (job, segments)
}

fn wait(training: &mut dyn Training) -> TrainResult {
    loop {
        match training.poll() {
            Some(result) => return result,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn the_binary_trains_fails_and_dies_as_the_engine_expects() {
    let dir = tempfile::tempdir().unwrap();
    let trainers = LocalProcess::new(Path::new(EXE), dir.path()).unwrap();
    let (mut job, segments) = example(1_200);
    let trained = wait(trainers.start(&job, &segments).unwrap().as_mut()).outcome.unwrap();
    let read = |hash: &str| segments.get(hash).map(|bytes| bytes.to_vec()).ok_or_else(String::new);
    assert_eq!(
        trained.bytes,
        fit(&job, &read).unwrap(),
        "another process makes the same bytes"
    );
    assert_eq!(trained.id, Artifact::id(&trained.bytes));

    job.cut_ms = -1;
    let failure = wait(trainers.start(&job, &segments).unwrap().as_mut())
        .outcome
        .unwrap_err();
    assert_eq!(failure.fault, Fault::Data, "{failure}");

    let (mut job, segments) = example(20_000);
    job.learner = "random-forest".to_owned();
    job.learner_config = "trees = 1000\nleaf_rows_min = 1\n".to_owned();
    let mut training = trainers.start_trainer(&job, &segments).unwrap();
    let kill = Command::new("kill")
        .arg("-9")
        .arg(training.process_id().to_string())
        .status();
    assert!(kill.unwrap().success());
    let failure = wait(&mut training).outcome.unwrap_err();
    assert!(failure.reason.contains("signal 9"), "{failure}");
    drop(training);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
