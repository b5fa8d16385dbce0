//! Metrics of predicted values.

use driftmill_config::{Component, Field};

use super::cohorts::Tally;
use super::evaluation::Evaluation;
use super::{Better, Metric, Row, Setting, Sums};
use crate::codec::{CodecError, Reader};
use crate::contracts::Task;

const WEIGHT: usize = 0;
const ABSOLUTE: usize = 1;
const SQUARED: usize = 2;

/// Weight, absolute and squared errors.
struct Errors;

impl Sums for Errors {
    fn name(&self) -> &'static str {
        "errors"
    }

    fn width(&self, task: Task) -> usize {
        if task == Task::Regression { 3 } else { 0 }
    }

    fn add(&self, _setting: &Setting, row: &Row<'_>, sums: &mut [f64]) {
        let error = (row.scores[0] - row.label).abs();
        sums[WEIGHT] += row.weight;
        sums[ABSOLUTE] += row.weight * error;
        sums[SQUARED] += row.weight * error * error;
    }
}

/// Where the sums of [`Deviations`] stand.
const SQUARED_ERRORS: usize = 1;
const LABELS: usize = 2;
const LABELS_SQUARED: usize = 3;
const BELOW: usize = 4;
const ABOVE: usize = 5;

/// Weight and squared errors, labels and their squares, and errors by their direction: of predictions that were too low
/// and too high. In sums of their own, as those of [`Errors`] are state of older versions.
struct Deviations;

impl Sums for Deviations {
    fn name(&self) -> &'static str {
        "deviations"
    }

    fn width(&self, task: Task) -> usize {
        if task == Task::Regression { 6 } else { 0 }
    }

    fn add(&self, _setting: &Setting, row: &Row<'_>, sums: &mut [f64]) {
        let error = row.label - row.scores[0];
        let label = row.weight * row.label;
        sums[WEIGHT] += row.weight;
        sums[SQUARED_ERRORS] += row.weight * error * error;
        sums[LABELS] += label;
        sums[LABELS_SQUARED] += label * row.label;
        sums[BELOW] += row.weight * error.max(0.0);
        sums[ABOVE] += row.weight * (-error).max(0.0);
    }
}

/// A metric of predicted values.
pub struct RegressionMetric {
    name: &'static str,
    summary: &'static str,
    unit: &'static str,
    better: Better,
    sums: &'static dyn Sums,
    value: fn(&[f64]) -> f64,
}

impl Component for RegressionMetric {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn fields(&self) -> &'static [Field] {
        &[]
    }

    fn example(&self) -> &'static str {
        ""
    }
}

impl Metric for RegressionMetric {
    fn unit(&self) -> &'static str {
        self.unit
    }

    fn better(&self) -> Better {
        self.better
    }

    fn sums(&self) -> &'static dyn Sums {
        self.sums
    }

    fn value(&self, _setting: &Setting, sums: &[f64]) -> f64 {
        (self.value)(sums)
    }
}

/// A mean or root of errors, in the unit of the label.
const fn error(
    name: &'static str,
    sums: &'static dyn Sums,
    value: fn(&[f64]) -> f64,
    summary: &'static str,
) -> RegressionMetric {
    RegressionMetric {
        name,
        summary,
        unit: "label",
        better: Better::Lower,
        sums,
        value,
    }
}

/// Mean absolute error.
pub static MAE: RegressionMetric = error(
    "mae",
    &Errors,
    |sums| sums[ABSOLUTE] / sums[WEIGHT],
    "Mean absolute error.",
);

/// Root of the mean squared error.
pub static RMSE: RegressionMetric = error(
    "rmse",
    &Errors,
    |sums| (sums[SQUARED] / sums[WEIGHT]).sqrt(),
    "Root of the mean squared error.",
);

/// Coefficient of determination.
pub static R2: RegressionMetric = RegressionMetric {
    name: "r2",
    summary: "Coefficient of determination: 1 less the squared errors over those of the mean of the same labels. Labels \
              that hardly differ in relation to their size are not told apart.",
    unit: "ratio",
    better: Better::Higher,
    sums: &Deviations,
    value: r2,
};

/// Pinball loss of the lower tenth.
pub static PINBALL_10: RegressionMetric = error(
    "pinball-10",
    &Deviations,
    |sums| (0.1 * sums[BELOW] + 0.9 * sums[ABOVE]) / sums[WEIGHT],
    "Mean pinball loss of predictions meant as the 10 % quantile: too high costs nine times as much as too low.",
);

/// Pinball loss of the upper tenth.
pub static PINBALL_90: RegressionMetric = error(
    "pinball-90",
    &Deviations,
    |sums| (0.9 * sums[BELOW] + 0.1 * sums[ABOVE]) / sums[WEIGHT],
    "Mean pinball loss of predictions meant as the 90 % quantile: too low costs nine times as much as too high.",
);

/// NaN where labels do not differ, up to what rounding leaves of a difference of large sums.
fn r2(sums: &[f64]) -> f64 {
    let square = sums[LABELS] * sums[LABELS] / sums[WEIGHT];
    let spread = sums[LABELS_SQUARED] - square;
    if spread > 1e-12 * sums[LABELS_SQUARED] {
        1.0 - sums[SQUARED_ERRORS] / spread
    } else {
        f64::NAN
    }
}

/// Sums over labelled, predicted rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RegressionTally {
    evaluation: Evaluation,
}

impl Default for RegressionTally {
    fn default() -> Self {
        let setting = Setting {
            task: Task::Regression,
            threshold: 0.5,
        };
        Self {
            evaluation: Evaluation::of_task(setting),
        }
    }
}

/// The metrics of a tally; NaN without rows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RegressionReport {
    /// Rows.
    pub rows: u64,
    /// Rows left out because prediction, label or weight was not usable.
    pub invalid: u64,
    /// Mean absolute error, in the label's unit.
    pub mae: f64,
    /// Root of the mean squared error, in the label's unit.
    pub rmse: f64,
}

impl Tally for RegressionTally {
    type Report = RegressionReport;

    fn empty(&self) -> Self {
        Self {
            evaluation: self.evaluation.empty(),
        }
    }

    fn update(&mut self, row: &Row<'_>) {
        self.evaluation.update(row);
    }

    fn merge(&mut self, other: &Self) {
        self.evaluation.merge(&other.evaluation);
    }

    fn stamp(&self) -> u64 {
        self.evaluation.stamp()
    }

    fn report(&self) -> RegressionReport {
        RegressionReport {
            rows: self.evaluation.rows(),
            invalid: self.evaluation.invalid(),
            mae: self.evaluation.value(MAE.name),
            rmse: self.evaluation.value(RMSE.name),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.evaluation.write(out);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let evaluation = self.evaluation.read(reader)?;
        Ok(Self { evaluation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_equal_their_definitions() {
        let mut tally = RegressionTally::default();
        for (score, label, weight) in [
            (1.0, 3.0, 1.0),
            (5.0, 1.0, 3.0),
            (f64::NAN, 1.0, 1.0),
            (1e300, -1e300, 1.0),
        ] {
            tally.update(&Row {
                scores: &[score],
                label,
                weight,
                before: None,
            });
        }
        let report = tally.report();
        assert_eq!((report.rows, report.invalid), (2, 2));
        assert!((report.mae - 3.5).abs() < 1e-12 && (report.rmse - 13.0_f64.sqrt()).abs() < 1e-12);
    }
    #[test]
    fn values_are_those_of_scikit_learn() {
        let mut evaluation = RegressionTally::default().evaluation;
        let labels = [3.0, -0.5, 2.0, 7.0, 4.25];
        let scores = [2.5, 0.0, 2.0, 8.0, 3.0];
        for ((label, score), weight) in labels.into_iter().zip(scores).zip([1.0, 2.0, 1.0, 0.5, 3.0]) {
            evaluation.update(&Row {
                scores: &[score],
                label,
                weight,
                before: None,
            });
        }
        // scikit-learn 1.9.1: r2_score and mean_pinball_loss with sample_weight.
        for (name, expected) in [
            ("r2", 0.8417194268577142),
            ("pinball-10", 0.23666666666666667),
            ("pinball-90", 0.53),
        ] {
            let found = evaluation.value(name);
            assert!((found - expected).abs() < 1e-12, "{name}: {found}, expected {expected}");
        }
    }

    #[test]
    fn labels_that_do_not_differ_have_no_r2() {
        let mut evaluation = RegressionTally::default().evaluation;
        for score in [0.1, 0.4, 0.7] {
            evaluation.update(&Row {
                scores: &[score],
                label: 0.1,
                weight: 1.0,
                before: None,
            });
        }
        assert!(evaluation.value("r2").is_nan());
    }
}
