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

/// A metric of predicted values, in the unit of the label.
pub struct RegressionMetric {
    name: &'static str,
    summary: &'static str,
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
        "label"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn sums(&self) -> &'static dyn Sums {
        &Errors
    }

    fn value(&self, _setting: &Setting, sums: &[f64]) -> f64 {
        (self.value)(sums)
    }
}

/// Mean absolute error.
pub static MAE: RegressionMetric = RegressionMetric {
    name: "mae",
    summary: "Mean absolute error.",
    value: |sums| sums[ABSOLUTE] / sums[WEIGHT],
};

/// Root of the mean squared error.
pub static RMSE: RegressionMetric = RegressionMetric {
    name: "rmse",
    summary: "Root of the mean squared error.",
    value: |sums| (sums[SQUARED] / sums[WEIGHT]).sqrt(),
};

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
}
