//! Progressive metrics: what each version's predictions were worth, over all rows and over the last cohorts of
//! prediction time.
//!
//! A metric is a function of sums over rows. So all of them can be merged (parts of a stream), windowed (the sums of the
//! last cohorts), faded (sums times a factor), saved, and given an interval (what remains when one cohort is left out),
//! without a line of their own for any of it.

pub mod binary;
pub mod cohorts;
pub mod evaluation;
pub mod multiclass;
pub mod persistence;
pub mod regression;

use driftmill_config::Component;

pub use binary::{BinaryReport, BinaryTally};
pub use cohorts::{CohortParams, Cohorts, Interval, Tally};
pub use evaluation::Evaluation;
pub use regression::{RegressionReport, RegressionTally};

use crate::contracts::Task;

/// Binary metrics, total and by cohort.
pub type BinaryMetrics = Cohorts<BinaryTally>;
/// Regression metrics, total and by cohort.
pub type RegressionMetrics = Cohorts<RegressionTally>;

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Lower ones.
    Lower,
    /// Higher ones.
    Higher,
    /// Neither: it describes the rows.
    Neither,
}

/// A row as metrics see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// What was predicted: [`Task::outputs`] numbers.
    pub scores: &'a [f64],
    /// The truth: 0 or 1, a class index, or a value.
    pub label: f64,
    /// Weight above 0.
    pub weight: f64,
    /// The label that had become known before this one, for comparisons with 'no change'.
    pub before: Option<f64>,
}

/// What is evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// The task.
    pub task: Task,
    /// A score of at least this is an answer of class 1.
    pub threshold: f64,
}

/// Sums over rows, from which metrics are read; several metrics can share them.
pub trait Sums: Sync {
    /// Their name, unique.
    fn name(&self) -> &'static str;
    /// How many numbers; 0 for a task that they know nothing of. Fixed: they are state.
    fn width(&self, task: Task) -> usize;
    /// Adds a row, whose label, weight and scores are usable, to `sums`, which are zeros before the first. What is added
    /// depends on the row alone, never on what is there: sums of parts add up to those of the whole, and a row of
    /// weight 2 adds what two of weight 1 would, to everything that is not a count of rows.
    fn add(&self, setting: &Setting, row: &Row<'_>, sums: &mut [f64]);
}

/// An entry of [`METRICS`].
pub trait Metric: Component {
    /// Unit, as it is put at the end of an exported name.
    fn unit(&self) -> &'static str;
    /// Which values are better.
    fn better(&self) -> Better;
    /// The sums that it is read from. It answers the tasks for which they have a width.
    fn sums(&self) -> &'static dyn Sums;
    /// Its value; NaN where the rows do not determine it (no rows, one class only).
    fn value(&self, setting: &Setting, sums: &[f64]) -> f64;
}

/// Every metric, in the order in which references and reports show them.
pub static METRICS: &[&dyn Metric] = &[
    &binary::LOG_LOSS,
    &binary::BRIER,
    &binary::ACCURACY,
    &binary::MAJORITY_ACCURACY,
    &binary::KAPPA,
    &persistence::TEMPORAL_KAPPA,
    &binary::PRECISION,
    &binary::RECALL,
    &binary::F1,
    &binary::COST,
    &binary::BASE_RATE,
    &binary::ALERT_RATE,
    &binary::ROC_AUC,
    &binary::PR_AUC,
    &binary::CALIBRATION_ERROR,
    &regression::MAE,
    &regression::RMSE,
    &regression::R2,
    &regression::PINBALL_10,
    &regression::PINBALL_90,
];
