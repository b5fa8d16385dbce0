//! The contracts of this crate. Frames in, values out: nothing here knows a clock, a thread or a file.
//!
//! They are frozen: `docs/adr/0004-contracts.md` says how the learners that are yet to come fit them, and what a change
//! would need. `models/src/conformance/` walks every list and holds each entry to what is written here.

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
    /// Learned without labels: one score a row, from 0 (like the others) to 1 (unlike any).
    Anomaly,
}

impl Task {
    /// Scores for each row.
    #[must_use]
    pub fn outputs(self) -> usize {
        match self {
            Self::Binary | Self::Regression | Self::Anomaly => 1,
            Self::Multiclass { classes } => classes as usize,
        }
    }
}

/// Labelled rows. `label` is 0 or 1, a class index below the task's `classes`, or a value, by task; tasks without labels
/// do not look at it.
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

/// What one number of an encoded row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A quantity: larger is more.
    Number,
    /// A category by its number, `0, 1, …, codes - 1`: equal or not, never more or less.
    Category {
        /// How many there can be.
        codes: u32,
    },
}

/// What an encoder makes of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// It takes them as numbers: values, or class 0 and 1.
    Value,
    /// It takes them as classes, so many of them.
    Classes(u32),
}

/// In which form a learner takes the columns whose table does not say how they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Numbers of like size, always finite, categories spread over inputs: for learners that add inputs up or measure
    /// distances.
    Scaled,
    /// Numbers as they are and NaN where they are missing, a category as its code: for learners that ask one input at
    /// a time, as trees and naive Bayes do.
    Native,
}

/// Immutable: scores encoded rows. Shared between threads, and the only thing that produces output.
///
/// The score of a row depends on that row alone, to the bit: not on the rows that stand beside it.
///
/// What is large stands behind an [`Arc`], so that a learner publishes without copying it: a forest holds an `Arc` for
/// each tree, a window one for each sealed segment.
pub trait Scorer: Send + Sync {
    /// The name under which [`SCORERS`](crate::scorers::SCORERS) knows how to read it back.
    fn format(&self) -> &'static str;
    /// Width of the matrix that it expects.
    fn width(&self) -> usize;
    /// Scores for each row.
    fn outputs(&self) -> usize;
    /// Appends `x.rows() * outputs` scores to `out`, row by row. Finite for whatever the encoder makes with which it
    /// was learned; with NaN among the inputs only where that encoder keeps missing values.
    fn score(&self, x: &Matrix, out: &mut Vec<f64>);
    /// Appends, for each row and each of its outputs, `width + 1` numbers: what each input adds to the output, and what
    /// the output would be without any of them. They add up to the output before its link (for a probability its
    /// log-odds, for probabilities of classes their logarithms up to a constant). `false`, and nothing appended, where
    /// a scorer cannot say so.
    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        let _ = (x, out);
        false
    }
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
    /// What the number at `place`, below `width()`, is.
    fn input(&self, place: usize) -> Input {
        let _ = place;
        Input::Number
    }
    /// Whether a missing value stays one: NaN.
    fn keeps_missing(&self) -> bool {
        false
    }
    /// What it makes of labels, if it looks at them: then a row that is learned from must be encoded before.
    fn labels(&self) -> Option<Labels> {
        None
    }
    /// Writes `width()` numbers for each of `rows`, those of the `i`th at `out[i * stride..]`; `out` holds zeros. They
    /// are finite, except that a missing value may be NaN where [`Encoder::keeps_missing`] says so; a category's number
    /// is a whole one below its `codes`. A column of the other kind counts as missing throughout.
    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize);
    /// Encodes each of `rows` by what was learned before it, then learns from it where `learn` (one for each of `rows`)
    /// says so: what `encode` and `observe` make row by row, and an encoder may do faster. `labels` are those of the
    /// whole column.
    fn encode_then_observe(
        &mut self,
        column: ColumnView<'_>,
        rows: Range<usize>,
        labels: &[f64],
        learn: &[bool],
        out: &mut [f64],
        stride: usize,
    ) {
        for ((row, learn), out) in rows.zip(learn).zip(out.chunks_mut(stride.max(1))) {
            self.encode(column, row..row + 1, out, stride);
            if *learn {
                self.observe(column, row, labels.get(row).copied().unwrap_or(f64::NAN));
            }
        }
    }
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
    /// The kind of columns that it encodes; of vectors those of any width, whichever stands here.
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
///
/// What it has learned does not depend on how the rows were cut into batches, to the bit. Whatever is random comes from
/// the context's seed and from what is part of the state.
pub trait Learner: State + Send {
    /// Learns from each row in turn; a row whose label or weight is impossible is left out. `predictions`, if given,
    /// is emptied and receives [`Task::outputs`] scores for every row, also for those left out: what the model
    /// published just before the row would say (prequential evaluation). Before the first row every class is equally
    /// likely, a value is 0.
    fn learn(&mut self, rows: Labelled<'_>, predictions: Option<&mut Vec<f64>>);
    /// Number of rows learned from. A learner that has seen none publishes nothing.
    fn seen(&self) -> u64;
    /// An immutable snapshot of encoder and scorer that shares what did not change; `None` before the first row. What
    /// the learner does afterwards does not depend on whether it was asked.
    fn publish(&mut self) -> Option<Arc<Model>>;
    /// Bytes of memory; never above the configured budget. Cheap: asked after every batch.
    fn bytes(&self) -> usize;
    /// Tells what people may want to see of it: weights of members, drifts found, leaves. Nothing depends on it.
    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        let _ = each;
    }
}

/// A number that a learner tells about itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fact<'a> {
    /// What is told, with its unit last: `member_weight_ratio`.
    pub name: &'static str,
    /// Of which part of the learner, empty for the whole.
    pub of: &'a str,
    /// The number.
    pub value: f64,
}

/// What a fit begins with.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FitStart<'a> {
    /// Seed of all that is random.
    pub seed: u64,
    /// A model of the same learner to go on from; a learner that cannot leaves it aside.
    pub from: Option<&'a Model>,
}

impl<'a> FitStart<'a> {
    /// From nothing.
    #[must_use]
    pub fn anew(seed: u64) -> Self {
        Self { seed, from: None }
    }

    /// From what an older model has learned (a warm start).
    #[must_use]
    pub fn warm(seed: u64, from: &'a Model) -> Self {
        Self { seed, from: Some(from) }
    }
}

/// A learner that is fitted on a whole training set.
pub trait BatchLearner: Send {
    /// Fits encoder and scorer. Deterministic: same rows, same start, same bytes. Rows whose label or weight is
    /// impossible are left out. A model to start from that does not fit (another task or width) is left aside.
    ///
    /// # Errors
    /// Rows from which nothing can be learned (none, one class only), said in one sentence.
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError>;
}

/// An entry of [`LEARNERS`](crate::learners::LEARNERS) or
/// [`BATCH_LEARNERS`](crate::learners::BATCH_LEARNERS).
pub trait LearnerKind<T: ?Sized>: Component {
    /// Checks the section and builds the learner.
    fn build(&self, section: &Section<'_>, context: &LearnerContext<'_>, problems: &mut Problems) -> Option<Box<T>>;
}

/// Bytes that a learner may use where nobody says otherwise.
const MEMORY_MAX: usize = 64 << 20;

/// What a learner needs to know besides its own section.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct LearnerContext<'a> {
    /// The task.
    pub task: Task,
    /// The feature columns and how they are encoded; it has seen nothing. Learners ask [`LearnerContext::encoder`].
    pub columns: &'a ColumnsEncoder,
    /// The pipeline's seed, or what a team derived from it for this member.
    pub seed: u64,
    /// Bytes that it may use where its own section does not say.
    pub memory_max: usize,
}

impl<'a> LearnerContext<'a> {
    /// The context of a learner that stands alone.
    #[must_use]
    pub fn new(task: Task, columns: &'a ColumnsEncoder, seed: u64) -> Self {
        Self {
            task,
            columns,
            seed,
            memory_max: MEMORY_MAX,
        }
    }

    /// The context of member `index` of a team of `members`: a seed of its own and an equal share of the memory.
    #[must_use]
    pub fn member(&self, index: usize, members: usize) -> Self {
        Self {
            seed: crate::random::derived(self.seed, index as u64),
            memory_max: self.memory_max / members.max(1),
            ..*self
        }
    }

    /// The encoder in the form that the learner takes. A column that is encoded in a way that the learner cannot take, or
    /// by labels that the task does not have, is a problem at `section`.
    pub fn encoder(&self, form: Form, section: &Section<'_>, problems: &mut Problems) -> Option<ColumnsEncoder> {
        let encoder = self.columns.in_form(form);
        if let Some((column, help)) = encoder.column_of_other_labels(self.task) {
            let message = format!(
                "column `{}` is encoded by labels that this task does not have",
                column.name
            );
            problems.push(section.span(), message, Some(help));
            return None;
        }
        let Some(column) = encoder.columns_unlike(form).next() else {
            return Some(encoder);
        };
        let message = format!(
            "column `{}` is encoded as a code or keeps missing values, and this learner adds inputs up",
            column.name
        );
        let help = "use `one-hot` or `hash` for text and `missing = \"zero\"` for numbers".to_owned();
        problems.push(section.span(), message, Some(help));
        None
    }
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
///
/// The values that the engine feeds lie from 0 to 1: the log loss of a row as a share of that of a probability of 0.001.
/// Others must do no harm: one that is not finite is left out, and no verdict is ever NaN.
pub trait StreamDetector: State + Send {
    /// Takes the next value; says what is known now. `Drift` is said once for a change: after it the detector has
    /// forgotten what came before the change and goes on. Before there are enough values it says `InsufficientData`.
    fn update(&mut self, value: f64) -> Verdict;
    /// Number of most recent values that belong to the present regime; never more than were taken.
    fn since_change(&self) -> u64;
}

/// Watches all features: compares recent rows with a reference of its own keeping.
pub trait FeatureDetector: State + Send {
    /// Takes the rows of a frame, whose columns are those that it was built for.
    fn observe(&mut self, frame: &Frame);
    /// Whether a test is due.
    fn is_due(&self) -> bool;
    /// Tests every feature now. Before there are enough rows every verdict is `InsufficientData`; never is one NaN.
    fn test(&mut self) -> Vec<FeatureVerdict>;
    /// What is known before the first test: `InsufficientData` for every aspect of every feature.
    fn untested(&self) -> Vec<FeatureVerdict>;
    /// What is recent becomes the reference: another model is live, trained on it.
    fn rebase(&mut self);
    /// Rows of the reference and of what is compared with it.
    fn rows(&self) -> (usize, usize);
}

/// What of a feature was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// The distribution of its values, or the shares of its categories.
    Values,
    /// The share of missing values.
    Missing,
}

/// A verdict on one aspect of a feature.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FeatureVerdict {
    /// Name of the feature; of a vector it may be followed by what of it, in brackets: `embedding[0]`.
    pub feature: String,
    /// What was tested.
    pub aspect: Aspect,
    /// The verdict. Its threshold is the score at which this feature alone would be significant.
    pub verdict: Verdict,
    /// The p-value.
    pub p_value: f64,
    /// The p-value adjusted for all tests made together: significant when at most the false-alarm rate.
    pub p_adjusted: f64,
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
