//! The contracts of this crate. Frames in, values out: nothing here knows a clock, a thread or a file.

use std::ops::Range;
use std::sync::Arc;

use driftmill_config::{Component, Problems, Section};

use crate::codec::{CodecError, Reader};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{ColumnKind, ColumnSpec, ColumnView, Frame};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::state::State;

/// What a model answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Two classes; one score a row, the probability of class 1.
    Binary,
    /// `classes` scores a row, summing to 1.
    Multiclass {
        /// Number of classes.
        classes: u32,
    },
    /// One score a row, the value.
    Regression,
}

impl Task {
    /// Scores for each row.
    #[must_use]
    pub fn outputs(self) -> usize {
        match self {
            Self::Binary | Self::Regression => 1,
            Self::Multiclass { classes } => classes as usize,
        }
    }
}

/// Labelled rows. `label` is 0 or 1, a class index, or a value, by task.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Features.
    pub frame: &'a Frame,
    /// What the category codes of `frame` stand for.
    pub dictionaries: &'a Dictionaries,
    /// One label a row.
    pub labels: &'a [f64],
    /// One weight a row, above 0.
    pub weights: &'a [f64],
}

/// Immutable: scores encoded rows. Shared between threads, and the only thing that produces output.
///
/// The score of a row depends on that row alone, to the bit: not on the rows that stand beside it.
pub trait Scorer: Send + Sync {
    /// The name under which [`SCORERS`](crate::scorers::SCORERS) knows how to read it back.
    fn format(&self) -> &'static str;
    /// Width of the matrix that it expects.
    fn width(&self) -> usize;
    /// Scores for each row.
    fn outputs(&self) -> usize;
    /// Appends `x.rows() * outputs` scores to `out`, row by row. Finite for finite input.
    fn score(&self, x: &Matrix, out: &mut Vec<f64>);
    /// Appends its parameters in its own checked binary form.
    fn write(&self, out: &mut Vec<u8>);
    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

/// Turns one column into numbers. Fitted row by row; part of the artifact. All of a model's encoders together are a
/// [`ColumnsEncoder`].
///
/// It knows a category by the fingerprint of its string, never by its code, so that it works with the dictionaries
/// of any process.
pub trait Encoder: Send + Sync {
    /// The name under which [`ENCODERS`](crate::encoders::ENCODERS) builds it and reads it back.
    fn format(&self) -> &'static str;
    /// Numbers for a row: fixed from the start, so that a learner's weights keep their places.
    fn width(&self) -> usize;
    /// Learns from row `row`, whose label (for encoders of the target) is `label`.
    fn observe(&mut self, column: ColumnView<'_>, row: usize, label: f64);
    /// Writes `width()` finite numbers for each of `rows`, those of the `i`th at `out[i * stride..]`; `out` holds
    /// zeros. A column of the other kind counts as missing throughout.
    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize);
    /// Grows whenever what was learned changes, and never goes back.
    fn stamp(&self) -> u64;
    /// Appends settings and what was learned, in its own checked binary form.
    fn write(&self, out: &mut Vec<u8>);
    /// An independent copy; cheap (structural sharing) when the encoder is large.
    fn copy(&self) -> Box<dyn Encoder>;
    /// Bytes of memory that it may come to use.
    fn bytes_max(&self) -> usize;
}

/// An entry of the list of encoders.
pub trait EncoderKind: Component {
    /// The kind of columns that it encodes.
    fn column_kind(&self) -> ColumnKind;
    /// Checks the column's table in `[features.columns]` and builds an encoder that has seen nothing.
    fn build(
        &self,
        column: &ColumnSpec,
        section: &Section<'_>,
        seed: u64,
        problems: &mut Problems,
    ) -> Option<Box<dyn Encoder>>;
    /// Reads what [`Encoder::write`] wrote.
    ///
    /// # Errors
    /// Bytes that no encoder wrote. Never panics.
    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError>;
}

/// Learns row by row, in order. Never produces output: it publishes immutable snapshots.
pub trait Learner: State + Send {
    /// Learns from each row in turn; a row whose label or weight is impossible is left out. `predictions`, if given,
    /// is emptied and receives the scores of every row as they were just before learning from it (prequential
    /// evaluation).
    fn learn(&mut self, rows: Labelled<'_>, predictions: Option<&mut Vec<f64>>);
    /// Number of rows learned from. A learner that has seen none publishes nothing.
    fn seen(&self) -> u64;
    /// An immutable snapshot of encoder and scorer that shares what did not change; `None` before the first row.
    fn publish(&mut self) -> Option<Arc<Model>>;
    /// Bytes of memory; never above the configured budget.
    fn bytes(&self) -> usize;
}

/// A learner that is fitted on a whole training set.
pub trait BatchLearner: Send {
    /// Fits encoder and scorer. Deterministic: same rows, same seed, same bytes. Rows whose label or weight is
    /// impossible are left out.
    ///
    /// # Errors
    /// Rows from which nothing can be learned (none, one class only), said in one sentence.
    fn fit(&self, rows: Labelled<'_>, seed: u64) -> Result<Model, FitError>;
}

/// An entry of [`LEARNERS`](crate::learners::LEARNERS) or
/// [`BATCH_LEARNERS`](crate::learners::BATCH_LEARNERS).
pub trait LearnerKind<T: ?Sized>: Component {
    /// Checks the section and builds the learner.
    fn build(&self, section: &Section<'_>, context: &LearnerContext<'_>, problems: &mut Problems) -> Option<Box<T>>;
}

/// What a learner needs to know besides its own section.
#[derive(Clone, Copy)]
pub struct LearnerContext<'a> {
    /// The task.
    pub task: Task,
    /// The feature columns and how they are encoded; it has seen nothing.
    pub encoder: &'a ColumnsEncoder,
    /// The pipeline's seed.
    pub seed: u64,
}

/// A fit that could not be done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FitError(pub String);

/// What an update or a test of a detector says.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// State.
    pub status: DriftStatus,
    /// The statistic.
    pub score: f64,
    /// Size of the change in units that people can judge (difference of means, of distribution functions).
    pub effect: f64,
    /// The statistic's threshold.
    pub threshold: f64,
    /// Rows that the verdict rests on.
    pub rows: u64,
}

/// What is known about drift. 'No data' is never 'no drift'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftStatus {
    /// Not enough rows to say anything.
    InsufficientData,
    /// Enough rows, and nothing found.
    Stable,
    /// Significant or large, not both; or not yet persistent.
    Warning,
    /// Significant and large.
    Drift,
}

/// Watches a stream of single values (a loss, a score, a label) for a change.
pub trait StreamDetector: State + Send {
    /// Takes the next value; says what is known now. After `Drift` the detector has forgotten what came
    /// before the change and goes on.
    fn update(&mut self, value: f64) -> Verdict;
    /// Number of most recent values that belong to the present regime.
    fn since_change(&self) -> u64;
}

/// Compares a reference sample with a current one.
pub trait WindowDetector: Send {
    /// Tests `current` against `reference`, both without missing values, in any order. `tests` is the number
    /// of tests made together, among which the false discovery rate is shared by the caller.
    fn test(&self, reference: &[f64], current: &[f64]) -> WindowTest;
}

/// The outcome of comparing two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowTest {
    /// The statistic, for Kolmogorov–Smirnov the largest distance of the distribution functions.
    pub statistic: f64,
    /// Probability of so large a statistic without a change.
    pub p_value: f64,
    /// Effect size in the statistic's own unit.
    pub effect: f64,
}

/// An entry of a list of components that is built from a section of the configuration.
pub trait Kind<T: ?Sized>: Component {
    /// Checks the section and builds the component.
    fn build(&self, section: &Section<'_>, context: &BuildContext<'_>, problems: &mut Problems) -> Option<Box<T>>;
}

/// What a component may need to know besides its own section.
#[derive(Debug, Clone, Copy)]
pub struct BuildContext<'a> {
    /// The task.
    pub task: Task,
    /// The feature columns.
    pub columns: &'a [ColumnSpec],
    /// The pipeline's seed.
    pub seed: u64,
}
