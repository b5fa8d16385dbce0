//! Jobs from rows to artifact, and the many ways in which a trainer can die.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use driftmill_models::artifact::Artifact;
use driftmill_models::contracts::Task;
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};
use driftmill_models::model::Scratch;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::child::{carry_out, run};
use super::fit::fit;
use super::job::{CODE, JOB_VERSION};
use super::*;
use crate::buffer::{BufferConfig, FeatureBuffer, Window};
use crate::example::{Matured, VersionId};

const SHOPS: [&str; 4] = ["books", "cars", "tea", "shoes"];

fn columns() -> Vec<ColumnSpec> {
    let spec = |name: &str, kind| ColumnSpec {
        name: name.to_owned(),
        kind,
    };
    vec![spec("amount", ColumnKind::Number), spec("shop", ColumnKind::Category)]
}

/// Rows predicted at 0, 10, 20, … ms, labelled 5 ms later. Class 1 is likely where the amount is large and in shop
/// `tea`; after `flip_ms` it is the other way round.
fn rows(count: usize, flip_ms: i64, seed: u64, dictionaries: &mut Dictionaries) -> Matured {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut rows = Matured::default();
    let (mut amounts, mut shops) = (Vec::new(), Vec::new());
    for row in 0..count {
        let amount: f64 = random.random::<f64>() * 4.0 - 2.0;
        let shop = random.random_range(0..SHOPS.len() + 1);
        let score = amount + if shop == 2 { 1.5 } else { 0.0 };
        let time_ms = row as i64 * 10;
        let likely = (score > 0.5) != (time_ms >= flip_ms);
        amounts.push(if random.random::<f64>() < 0.05 {
            f64::NAN
        } else {
            amount
        });
        let name = SHOPS
            .get(shop)
            .map(|name| dictionaries.get_mut(1).unwrap().intern(name));
        shops.push(name.unwrap_or(MISSING));
        rows.labels.push(f64::from(u8::from(
            random.random::<f64>() < if likely { 0.85 } else { 0.1 },
        )));
        rows.time_ms.push(time_ms);
        rows.available_ms.push(time_ms + 5);
    }
    rows.frame = Frame::new(count, vec![Column::F64(amounts), Column::Code(shops)]);
    rows.weights = vec![1.0; count];
    rows.scores = vec![f64::NAN; count];
    rows.versions = vec![VersionId(0); count];
    rows.shadow = vec![f64::NAN; count];
    rows
}

/// A buffer whose dictionaries have seen other strings before, so that codes differ from those of a segment.
fn buffer(count: usize, flip_ms: i64) -> FeatureBuffer {
    let mut dictionaries = Dictionaries::new(&columns(), 1 << 20);
    dictionaries.get_mut(1).unwrap().intern("never again");
    let mut buffer = FeatureBuffer::new(BufferConfig {
        columns: columns(),
        rows_max: 1 << 20,
        bytes_max: 1 << 30,
        segment_rows: 300,
    });
    let rows = rows(count, flip_ms, 11, &mut dictionaries);
    buffer.append(&rows, &dictionaries, 1).unwrap();
    buffer.seal_tail(&dictionaries);
    buffer
}

fn job_of(buffer: &FeatureBuffer) -> (Job, Segments) {
    let job = Job {
        v: JOB_VERSION,
        learner: "logistic-regression".to_owned(),
        learner_config: "\"l2\" = 0.5\n".to_owned(),
        columns: columns(),
        encoders: "\"shop\" = { \"encode\" = \"one-hot\", \"categories_max\" = 8 }\n".to_owned(),
        task: Task::Binary,
        seed: 3,
        segments: buffer.select(Window::All).into_iter().map(SegmentRef::from).collect(),
        since_ms: None,
        weighting: Weighting::Uniform,
        cut_ms: i64::MAX,
        code: CODE.to_owned(),
    };
    let segments = collect_segments(&job, buffer).unwrap();
    (job, segments)
}

fn example() -> (Job, Segments) {
    job_of(&buffer(1_000, i64::MAX))
}

/// A job that runs for many seconds.
fn slow() -> (Job, Segments) {
    let (mut job, segments) = job_of(&buffer(12_000, i64::MAX));
    job.learner = "random-forest".to_owned();
    job.learner_config = "trees = 1000\ndepth_max = 64\nleaf_rows_min = 1\n".to_owned();
    (job, segments)
}

fn fit_of(job: &Job, segments: &Segments) -> Result<Vec<u8>, TrainError> {
    fit(job, &|hash| {
        segments
            .get(hash)
            .map(|bytes| bytes.to_vec())
            .ok_or_else(|| "it is not there".to_owned())
    })
}

/// Scores of fresh rows whose meaning never flips, and their labels.
fn judge(artifact: &[u8]) -> (Vec<f64>, Vec<f64>) {
    let mut dictionaries = Dictionaries::new(&columns(), 1 << 20);
    let test = rows(2_000, i64::MAX, 99, &mut dictionaries);
    let mut scores = Vec::new();
    let model = Artifact::read(artifact).unwrap().model;
    model.score(&test.frame, &dictionaries, &mut Scratch::default(), &mut scores);
    (scores, test.labels)
}

fn accuracy(artifact: &[u8]) -> f64 {
    let (scores, labels) = judge(artifact);
    let right = scores
        .iter()
        .zip(&labels)
        .filter(|(score, label)| (**score > 0.5) == (**label == 1.0));
    right.count() as f64 / labels.len() as f64
}

#[test]
fn the_same_job_makes_the_same_bytes_and_a_model_that_has_learned() {
    let (mut job, segments) = example();
    for (learner, config) in [("logistic-regression", "l2 = 0.5"), ("random-forest", "trees = 20")] {
        job.learner = learner.to_owned();
        job.learner_config = config.to_owned();
        let once = fit_of(&job, &segments).unwrap();
        assert_eq!(once, fit_of(&job, &segments).unwrap(), "{learner}");
        assert!(accuracy(&once) > 0.8, "{learner}: {}", accuracy(&once));
        let lineage = Artifact::read(&once).unwrap().lineage;
        assert_eq!(Job::from_lineage(&lineage).unwrap(), job);
        assert_eq!(lineage["rows"], 1_000);
        let positives = lineage["positives"].as_u64().unwrap();
        assert!((300..600).contains(&positives), "{positives}");
    }
}

#[test]
fn only_the_rows_that_the_job_names_are_learned_from() {
    // Before 4,000 ms the world is one way, afterwards the other: rows that slip in would be seen in the model.
    let (mut job, segments) = job_of(&buffer(1_000, 4_000));
    let rows_of = |artifact: &[u8]| Artifact::read(artifact).unwrap().lineage["rows"].as_u64().unwrap();
    job.cut_ms = 3_995;
    let before = fit_of(&job, &segments).unwrap();
    assert_eq!(
        rows_of(&before),
        400,
        "a label at the cut is known, one after it is not"
    );
    assert!(accuracy(&before) > 0.8, "{}", accuracy(&before));
    job.cut_ms = i64::MAX;
    job.since_ms = Some(4_000);
    let after = fit_of(&job, &segments).unwrap();
    assert_eq!(rows_of(&after), 600, "a row at the time is in, one before it is not");
    assert!(accuracy(&after) < 0.2, "{}", accuracy(&after));
    job.since_ms = None;
    job.segments = job.segments.split_off(1);
    job.segments[0].from_row = 100;
    let ranges = fit_of(&job, &segments).unwrap();
    assert_eq!(
        judge(&ranges).0,
        judge(&after).0,
        "the same rows make the same model, however they are named"
    );
}

#[test]
fn a_short_half_life_follows_the_newest_rows() {
    let (mut job, segments) = job_of(&buffer(1_000, 7_000));
    let uniform = accuracy(&fit_of(&job, &segments).unwrap());
    job.weighting = Weighting::RecencyHalfLife { ms: 800 };
    let recent = accuracy(&fit_of(&job, &segments).unwrap());
    assert!(uniform > 0.6 && recent < 0.3, "uniform {uniform}, recent {recent}");
    // So short a one leaves hardly a row: said, and not trained on.
    job.weighting = Weighting::RecencyHalfLife { ms: 1 };
    job.segments[3].to_row = 1;
    assert_eq!(fit_of(&job, &segments).unwrap_err().fault(), Fault::Data);
}

#[test]
fn what_is_wrong_is_said_with_whose_fault_it_is() {
    type Change = fn(&mut Job, &mut Segments);
    let cases: [(Change, Fault, &str); 12] = [
        (
            |job, _| job.learner = "random-forrest".to_owned(),
            Fault::Job,
            "did you mean `random-forest`",
        ),
        (|job, _| job.learner_config = "l3 = 1".to_owned(), Fault::Job, "l3"),
        (
            |job, _| job.learner_config = "l2 = ".to_owned(),
            Fault::Job,
            "learner_config",
        ),
        (
            |job, _| job.learner_config = "l2 = \"${HOME}\"".to_owned(),
            Fault::Job,
            "HOME",
        ),
        (|job, _| job.encoders = String::new(), Fault::Job, "has no encoder"),
        (
            |job, _| job.task = Task::Regression,
            Fault::Job,
            "cannot learn this task",
        ),
        (|job, _| job.code = "0.0.0".to_owned(), Fault::Job, "driftmill 0.0.0"),
        (|job, _| job.segments[3].to_row += 1, Fault::Job, "which has 100"),
        (
            |job, _| job.columns[0].name = "sum".to_owned(),
            Fault::Job,
            "other columns",
        ),
        (|job, _| job.cut_ms = 0, Fault::Data, "wait for labelled rows"),
        (
            |_, segments| drop(segments.pop_first()),
            Fault::Machine,
            "it is not there",
        ),
        (
            |_, segments| {
                let bytes = segments.values_mut().next().unwrap();
                let mut damaged = bytes.to_vec();
                damaged[200] ^= 1;
                *bytes = damaged.into();
            },
            Fault::Machine,
            "do not match its name",
        ),
    ];
    for (change, fault, expected) in cases {
        let (mut job, mut segments) = example();
        change(&mut job, &mut segments);
        let error = fit_of(&job, &segments).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(error.fault(), fault, "{error}");
    }
    // A segment under the right name whose content no writer makes.
    let (mut job, mut segments) = example();
    let text: std::sync::Arc<[u8]> = b"rows, honestly".as_slice().into();
    job.segments[0].hash = blake3::hash(&text).to_hex().to_string();
    segments.insert(job.segments[0].hash.clone(), text);
    assert!(fit_of(&job, &segments).unwrap_err().to_string().contains("DMS1"));
    // One class only.
    let (mut job, segments) = example();
    let known = fit_of(&job, &segments).unwrap();
    assert!(Artifact::read(&known).is_ok());
    job.segments.truncate(1);
    job.segments[0].to_row = 1;
    assert_eq!(fit_of(&job, &segments).unwrap_err().fault(), Fault::Data);
}

/// Trainers that are this test binary, told to run [`the_child`] and nothing else.
fn trainers(work_dir: &Path) -> LocalProcess {
    let arguments = [
        "trainer::tests::the_child",
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=2",
        CHILD,
    ];
    LocalProcess::of_this_binary(work_dir)
        .unwrap()
        .with_arguments(&arguments)
}

const CHILD: &str = "the-paths-of-the-trainer-follow";

/// Not a test: the process that the tests below start. Without the paths it does nothing.
#[test]
#[ignore = "is the trainer that other tests start"]
fn the_child() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == CHILD) else {
        return;
    };
    let [job, segments, out] = &arguments[at + 1..] else {
        panic!("{arguments:?}")
    };
    std::process::exit(i32::from(run(Path::new(job), Path::new(segments), Path::new(out))));
}

fn wait(training: &mut dyn Training) -> TrainResult {
    loop {
        match training.poll() {
            Some(result) => return result,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn reason(result: TrainResult) -> String {
    result.outcome.unwrap_err().reason
}

fn kill_9(process: u32) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -9 {process}")).status();
    assert!(status.unwrap().success());
}

fn files_under(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_trainer_makes_the_bytes_that_the_function_makes_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let trainers = trainers(dir.path());
    let (job, segments) = example();
    let mut training = trainers.start(&job, &segments).unwrap();
    assert_eq!(training.job_id(), job.id().unwrap());
    let result = wait(training.as_mut());
    let trained = result.outcome.unwrap();
    assert_eq!(trained.bytes, fit_of(&job, &segments).unwrap());
    assert_eq!(trained.id, Artifact::id(&trained.bytes));
    assert!(training.poll().is_none(), "a result is given once");
    drop(training);
    assert_eq!(files_under(dir.path()), 0);
    let mut training = InProcess.start(&job, &segments).unwrap();
    assert_eq!(wait(training.as_mut()).outcome.unwrap().bytes, trained.bytes);
}

#[test]
fn a_failure_crosses_the_processes_with_its_fault() {
    let dir = tempfile::tempdir().unwrap();
    let (mut job, segments) = example();
    job.cut_ms = 0;
    let mut local = trainers(dir.path()).start(&job, &segments).unwrap();
    let mut here = InProcess.start(&job, &segments).unwrap();
    let failure = wait(local.as_mut()).outcome.unwrap_err();
    assert_eq!(failure, wait(here.as_mut()).outcome.unwrap_err());
    assert_eq!(failure.fault, Fault::Data);
}

#[test]
fn a_trainer_that_is_killed_costs_its_job_alone() {
    let dir = tempfile::tempdir().unwrap();
    let trainers = trainers(dir.path());
    let (job, segments) = slow();
    let mut training = trainers.start_trainer(&job, &segments).unwrap();
    assert!(training.poll().is_none());
    kill_9(training.process_id());
    let result = wait(&mut training);
    assert_eq!(result.job_id, job.id().unwrap());
    let failure = result.outcome.unwrap_err();
    assert!(failure.reason.contains("signal 9"), "{failure}");
    assert_eq!(failure.fault, Fault::Machine);
    // The next job is none the worse.
    let (job, segments) = example();
    assert!(wait(trainers.start(&job, &segments).unwrap().as_mut()).outcome.is_ok());
}

#[test]
fn a_kill_at_any_moment_gives_a_whole_artifact_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let trainers = trainers(dir.path());
    let (job, segments) = example();
    let whole = fit_of(&job, &segments).unwrap();
    let (mut taken, mut killed) = (0, 0);
    for step in 0..12 {
        let mut training = trainers.start_trainer(&job, &segments).unwrap();
        std::thread::sleep(Duration::from_millis(step * step));
        // It may have ended on its own.
        let _gone = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -9 {} 2>/dev/null", training.process_id()))
            .status();
        match wait(&mut training).outcome {
            Ok(trained) => {
                taken += 1;
                assert_eq!(trained.bytes, whole, "killed after {} ms", step * step);
            }
            Err(failure) => {
                killed += 1;
                assert!(failure.reason.contains("signal 9"), "{failure}");
            }
        }
    }
    assert_eq!(taken + killed, 12);
    assert!(killed > 0);
}

#[test]
fn the_engine_stops_a_trainer_by_a_call_or_by_letting_go() {
    let dir = tempfile::tempdir().unwrap();
    let trainers = trainers(dir.path());
    let (job, segments) = slow();
    let mut training = trainers.start_trainer(&job, &segments).unwrap();
    training.kill();
    assert!(reason(wait(&mut training)).contains("the engine stopped"));
    training.kill();
    let training = trainers.start_trainer(&job, &segments).unwrap();
    let process = training.process_id();
    assert_eq!(files_under(dir.path()), 2);
    drop(training);
    let alive = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -0 {process} 2>/dev/null"))
        .status();
    assert!(!alive.unwrap().success(), "process {process} goes on");
    assert_eq!(files_under(dir.path()), 1);
}

#[test]
fn a_trainer_ends_when_its_engine_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (job, segments) = slow();
    let mut training = trainers(dir.path()).start_trainer(&job, &segments).unwrap();
    assert!(training.poll().is_none());
    // What the system does for a process that was killed.
    drop(training.child.stdin.take());
    let reason = reason(wait(&mut training));
    assert!(reason.contains("code 3"), "{reason}");
}

/// Steps of niceness of each thread of a process; Linux keeps them by thread.
#[cfg(target_os = "linux")]
fn niceness(process: &str) -> Vec<i64> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let nice = |stat: String| stat.rsplit(')').next()?.split_whitespace().nth(16)?.parse().ok();
    stats.filter_map(nice).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_trainer_makes_way_for_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let (job, segments) = slow();
    let mut training = trainers(dir.path()).start_trainer(&job, &segments).unwrap();
    let process = training.process_id().to_string();
    let expected = (niceness("self")[0] + 10).min(19);
    let first_to_go = || fs::read_to_string(format!("/proc/{process}/oom_score_adj")).is_ok_and(|s| s.trim() == "1000");
    while !(niceness(&process).contains(&expected) && first_to_go()) {
        assert!(training.poll().is_none(), "it ended at the engine's priority");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn folders_of_jobs_whose_engine_died_are_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("job-old/segments")).unwrap();
    fs::write(dir.path().join("job-old/artifact"), "half").unwrap();
    fs::create_dir(dir.path().join("holiday-pictures")).unwrap();
    fs::write(dir.path().join("job-application.txt"), "Dear").unwrap();
    trainers(dir.path());
    assert!(!dir.path().join("job-old").exists());
    assert_eq!(files_under(dir.path()), 2);
}

/// A trainer that is a shell script; `$1` is the job, `$2` the segments, `$3` the artifact.
fn scripted(dir: &Path, script: &str) -> TrainResult {
    let script = format!("PATH=/usr/bin:/bin\n{script}");
    let trainers = LocalProcess::new(Path::new("/bin/sh"), &dir.join("work")).unwrap();
    let trainers = trainers.with_arguments(&["-c", &script, "trainer"]);
    let (job, segments) = example();
    wait(trainers.start(&job, &segments).unwrap().as_mut())
}

/// A script that puts `artifact` in place and says that the artifact `id` of `bytes` bytes is done.
fn claim(dir: &Path, artifact: &[u8], id: &str, bytes: usize) -> String {
    let from = dir.join("from");
    fs::write(&from, artifact).unwrap();
    let job = example().0.id().unwrap();
    let report = format!(r#"{{"outcome":"trained","job":"{job}","artifact":"{id}","bytes":{bytes}}}"#);
    format!("cat '{}' > \"$3\"; echo '{report}'", from.display())
}

#[test]
fn an_artifact_that_is_not_whole_or_not_the_jobs_is_never_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (job, segments) = example();
    let whole = fit_of(&job, &segments).unwrap();
    let id = Artifact::id(&whole);
    let script = claim(dir.path(), &whole, &id, whole.len());
    assert_eq!(
        scripted(dir.path(), &script).outcome.unwrap().bytes,
        whole,
        "the claim itself is in order"
    );
    for cut in [0, 1, 4, 40, whole.len() / 2, whole.len() - 1] {
        let half = &whole[..cut];
        let script = claim(dir.path(), half, &id, whole.len());
        let said = reason(scripted(dir.path(), &script));
        assert!(said.contains("not the one"), "cut at {cut}: {said}");
        let script = claim(dir.path(), half, &Artifact::id(half), cut);
        let said = reason(scripted(dir.path(), &script));
        assert!(said.contains("not taken"), "cut at {cut}: {said}");
    }
    let other = Job { seed: 4, ..job };
    let other = fit_of(&other, &segments).unwrap();
    let script = claim(dir.path(), &other, &Artifact::id(&other), other.len());
    assert!(reason(scripted(dir.path(), &script)).contains("of another job"));
}

#[test]
fn a_trainer_that_lies_or_crashes_is_quoted_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let said = reason(scripted(dir.path(), "exit 0"));
    assert!(said.contains("code 0 and no result"), "{said}");
    let said = reason(scripted(
        dir.path(),
        "echo nonsense; echo first >&2; echo 'out of luck' >&2; exit 7",
    ));
    assert!(
        said.contains("code 7") && said.contains("first | out of luck"),
        "{said}"
    );
    let said = reason(scripted(dir.path(), "kill -SEGV $$"));
    assert!(said.contains("signal 11"), "{said}");
    let said = reason(scripted(
        dir.path(),
        "yes 'a very long complaint' | head -c 3000000 >&2; exit 1",
    ));
    assert!(said.len() < 1_000 && said.contains("complaint"), "{} bytes", said.len());
    let script = claim(dir.path(), b"", "", 0).replacen("cat", "true", 1);
    assert!(scripted(dir.path(), &script).outcome.is_err());
    let said = reason(scripted(
        dir.path(),
        "echo \"secrets: ${DRIFTMILL_SECRET-none} ${HOME-none}\" >&2; exit 1",
    ));
    assert!(said.contains("secrets: none none"), "{said}");
}

#[test]
fn a_trainer_that_cannot_be_started_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let trainers = LocalProcess::new(Path::new("/nowhere/driftmill"), dir.path()).unwrap();
    let (job, mut segments) = example();
    let error = trainers.start(&job, &segments).err().unwrap();
    assert!(error.to_string().contains("/nowhere/driftmill"), "{error}");
    segments.pop_last();
    assert!(trainers.start(&job, &segments).is_err());
    assert!(InProcess.start(&job, &segments).is_err());
    assert_eq!(files_under(dir.path()), 0);
}

#[test]
fn a_job_file_is_carried_out_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (job, segments) = example();
    export_segments(&job, &segments, dir.path()).unwrap();
    let (file, out) = (dir.path().join("job"), dir.path().join("out"));
    fs::write(&file, job.to_bytes().unwrap()).unwrap();
    carry_out(&file, dir.path(), &out).unwrap();
    assert_eq!(fs::read(&out).unwrap(), fit_of(&job, &segments).unwrap());
    for (bytes, expected) in [("", "not JSON"), ("{\"v\":9}", "format 9"), ("{}", "format `v`")] {
        fs::write(&file, bytes).unwrap();
        let error = carry_out(&file, dir.path(), &out).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(carry_out(&dir.path().join("nothing"), dir.path(), &out).is_err());
}
