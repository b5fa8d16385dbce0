//! From a job and its segments to the bytes of an artifact. No clock, no thread, no file: the same job makes the same
//! bytes.

use std::fmt::Display;

use driftmill_config::{Document, Problems, find};
use driftmill_models::artifact::Artifact;
use driftmill_models::contracts::{BatchLearner, FitStart, LearnerContext, Task};
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::learners::BATCH_LEARNERS;
use serde::{Deserialize, Serialize};

use super::job::{Job, SegmentRef, Weighting};
use crate::buffer::{TrainingRows, read_segment};
use crate::disk::DiskError;

/// Seed of the encoders: 0 as in the settings, so that the hash encoder places categories alike everywhere.
const ENCODER_SEED: u64 = 0;

/// Whose fault a failed job is: whether it is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing can be learned from these rows; other rows may do.
    Data,
    /// The job cannot be carried out by anyone: its settings, its code's version, or Driftmill itself.
    Job,
    /// Segments, disk or process: the same job may succeed another time, when they are mended.
    Machine,
}

impl Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Data => "data",
            Self::Job => "job",
            Self::Machine => "machine",
        })
    }
}

/// Why a job made no artifact. Each says in one sentence what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The job itself is wrong.
    #[error("{0}")]
    Job(String),
    /// The settings of the learner or of the encoders.
    #[error("the job's settings are wrong:\n{0}")]
    Settings(String),
    /// A segment is missing or is not what the job names.
    #[error("segment {hash} of the training rows: {what}")]
    Segment {
        /// The segment.
        hash: String,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing can be learned from the rows.
    #[error("{0}")]
    Data(String),
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The process of the trainer.
    #[error("{0}")]
    Process(String),
}

impl TrainError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Job(_) | Self::Settings(_) => Fault::Job,
            Self::Data(_) => Fault::Data,
            Self::Segment { .. } | Self::Disk(_) | Self::Process(_) => Fault::Machine,
        }
    }

    fn segment(segment: &SegmentRef, what: impl Display) -> Self {
        Self::Segment {
            hash: segment.hash.clone(),
            what: what.to_string(),
        }
    }
}

/// Carries out a job: loads its rows, fits encoder and model, writes the artifact. `read_segment_bytes` gives the
/// bytes of a segment by its hash; they are verified before they are looked at.
///
/// # Errors
/// See [`TrainError`].
pub fn fit(job: &Job, read_segment_bytes: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Vec<u8>, TrainError> {
    job.check()?;
    job.check_code()?;
    let learner = build_learner(job)?;
    let mut rows = load(job, read_segment_bytes)?;
    weigh(job.weighting, &mut rows);
    let positives = count_positives(job.task, &rows.rows.labels);
    let model = learner
        .fit(rows.labelled(), FitStart::anew(job.seed))
        .map_err(|error| TrainError::Data(error.to_string()))?;
    let lineage = job.lineage(rows.rows.len() as u64, positives)?;
    Ok(Artifact::write(&model, &lineage))
}

/// The learner as the job configures it.
fn build_learner(job: &Job) -> Result<Box<dyn BatchLearner>, TrainError> {
    let kind = find(BATCH_LEARNERS, &job.learner)
        .map_err(|message| TrainError::Job(format!("the job names no batch learner: {message}")))?;
    let encoder = build_encoder(job)?;
    let context = LearnerContext::new(job.task, &encoder, job.seed);
    let document = parse("learner_config", &job.learner_config)?;
    let mut problems = document.problems();
    document.root().check(kind.fields(), &mut problems);
    let learner = kind.build(&document.root(), &context, &mut problems);
    checked(learner, problems)
}

/// The encoders as the job configures them, fitted on nothing.
fn build_encoder(job: &Job) -> Result<ColumnsEncoder, TrainError> {
    let document = parse("encoders", &job.encoders)?;
    let mut problems = document.problems();
    let encoder = ColumnsEncoder::from_config(&document.root(), &job.columns, ENCODER_SEED, &mut problems);
    checked(encoder, problems)
}

fn parse(name: &str, text: &str) -> Result<Document, TrainError> {
    // Environment variables were put in their places when the job was made: a job does not depend on where it runs.
    Document::parse(name, text, &|_| None).map_err(|problems| TrainError::Settings(problems.render()))
}

fn checked<T>(built: Option<T>, problems: Problems) -> Result<T, TrainError> {
    match (built, problems.is_empty()) {
        (Some(built), true) => Ok(built),
        _ => Err(TrainError::Settings(problems.render())),
    }
}

/// The job's rows, category codes in dictionaries of their own.
fn load(job: &Job, read_segment_bytes: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<TrainingRows, TrainError> {
    let mut all = TrainingRows::new(&job.columns);
    let mut given = 0;
    for segment in &job.segments {
        let bytes = read_segment_bytes(&segment.hash).map_err(|what| TrainError::segment(segment, what))?;
        let found = blake3::hash(&bytes).to_hex();
        if found.as_str() != segment.hash {
            let what = "its bytes do not match its name; restore it from a copy";
            return Err(TrainError::segment(segment, what));
        }
        let read = read_segment(&bytes).map_err(|error| TrainError::segment(segment, error))?;
        drop(bytes);
        given += segment.to_row - segment.from_row;
        append(job, segment, read, &mut all)?;
    }
    if all.rows.is_empty() {
        return Err(TrainError::Data(format!(
            "none of the job's {given} rows was predicted late enough and labelled before the cut; wait for labelled rows"
        )));
    }
    Ok(all)
}

/// Appends those rows of a segment that the job wants.
fn append(job: &Job, segment: &SegmentRef, mut read: TrainingRows, all: &mut TrainingRows) -> Result<(), TrainError> {
    if read.columns != job.columns {
        return Err(TrainError::Job(format!(
            "segment {} has other columns than the job; train on segments of one plan",
            segment.hash
        )));
    }
    let (from, to) = (segment.from_row, segment.to_row);
    if to > read.rows.len() as u64 {
        return Err(TrainError::Job(format!(
            "the job names rows {from}..{to} of segment {}, which has {}",
            segment.hash,
            read.rows.len()
        )));
    }
    let since_ms = job.since_ms.unwrap_or(i64::MIN);
    let wanted = |row: &usize| read.rows.time_ms[*row] >= since_ms && read.rows.available_ms[*row] <= job.cut_ms;
    let wanted: Vec<usize> = (from as usize..to as usize).filter(wanted).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    read.rows = read.rows.gather(&wanted);
    all.append(&read, 0..wanted.len())
        .map_err(|error| TrainError::segment(segment, error))
}

/// Multiplies the rows' weights by those of the job. The newest row keeps its own: what counts are ratios, and so
/// they do not vanish altogether when the newest row is old.
fn weigh(weighting: Weighting, rows: &mut TrainingRows) {
    let Weighting::RecencyHalfLife { ms } = weighting else {
        return;
    };
    let newest = rows.rows.time_ms.iter().copied().max().unwrap_or_default();
    for (weight, &time_ms) in rows.rows.weights.iter_mut().zip(&rows.rows.time_ms) {
        *weight *= (-(newest.saturating_sub(time_ms) as f64) / ms as f64).exp2();
    }
}

/// Rows of class 1, where there is such a thing.
fn count_positives(task: Task, labels: &[f64]) -> Option<u64> {
    (task == Task::Binary).then(|| labels.iter().filter(|&&label| label == 1.0).count() as u64)
}
