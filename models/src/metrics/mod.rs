//! Progressive metrics: what each version's predictions were worth, over all rows and over the last cohorts of
//! prediction time. All are sums that can be merged, and state.

pub mod binary;
pub mod cohorts;
pub mod regression;

use driftmill_config::{Component, Field};

pub use binary::{BinaryReport, BinaryTally};
pub use cohorts::{CohortParams, Cohorts, Tally};
pub use regression::{RegressionReport, RegressionTally};

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

/// Where a metric's value is found.
#[derive(Debug, Clone, Copy)]
pub enum Read {
    /// In the report on binary predictions.
    Binary(fn(&BinaryReport) -> f64),
    /// In the report on predicted values.
    Regression(fn(&RegressionReport) -> f64),
}

/// An entry of [`METRICS`].
#[derive(Debug)]
pub struct Metric {
    name: &'static str,
    summary: &'static str,
    /// Unit, as it is put at the end of an exported name.
    pub unit: &'static str,
    /// Which values are better.
    pub better: Better,
    /// Where its value is found.
    pub read: Read,
}

impl Component for Metric {
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

const fn binary(
    name: &'static str,
    unit: &'static str,
    better: Better,
    read: fn(&BinaryReport) -> f64,
    summary: &'static str,
) -> Metric {
    Metric {
        name,
        summary,
        unit,
        better,
        read: Read::Binary(read),
    }
}

const fn regression(name: &'static str, read: fn(&RegressionReport) -> f64, summary: &'static str) -> Metric {
    Metric {
        name,
        summary,
        unit: "label",
        better: Better::Lower,
        read: Read::Regression(read),
    }
}

/// Every metric, in the order in which references and reports show them.
pub static METRICS: &[&Metric] = &[
    &binary(
        "log-loss",
        "nats",
        Better::Lower,
        |r| r.log_loss,
        "Mean negative logarithm of the probability given to the true class.",
    ),
    &binary(
        "brier",
        "ratio",
        Better::Lower,
        |r| r.brier,
        "Mean squared difference of probability and label.",
    ),
    &binary(
        "accuracy",
        "ratio",
        Better::Higher,
        |r| r.accuracy,
        "Share of rows on the right side of the decision threshold.",
    ),
    &binary(
        "majority-accuracy",
        "ratio",
        Better::Neither,
        |r| r.majority_accuracy,
        "Accuracy of always answering the more frequent class of the same rows.",
    ),
    &binary(
        "base-rate",
        "ratio",
        Better::Neither,
        |r| r.base_rate,
        "Share of positive labels.",
    ),
    &binary(
        "alert-rate",
        "ratio",
        Better::Neither,
        |r| r.alert_rate,
        "Share of rows whose score reaches the decision threshold.",
    ),
    &binary(
        "roc-auc",
        "ratio",
        Better::Higher,
        |r| r.roc_auc,
        "Probability that a positive row scores above a negative one.",
    ),
    &binary(
        "pr-auc",
        "ratio",
        Better::Higher,
        |r| r.pr_auc,
        "Average precision: precision averaged over recall.",
    ),
    &binary(
        "calibration-error",
        "ratio",
        Better::Lower,
        |r| r.calibration_error,
        "Expected calibration error over 15 bins of equal width (Guo et al. 2017).",
    ),
    &regression("mae", |r| r.mae, "Mean absolute error."),
    &regression("rmse", |r| r.rmse, "Root of the mean squared error."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_value_of_an_empty_report_is_unknown() {
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        let (binary, regression) = (BinaryTally::new(0.5).report(), RegressionTally::default().report());
        for metric in METRICS {
            let value = match metric.read {
                Read::Binary(read) => read(&binary),
                Read::Regression(read) => read(&regression),
            };
            assert!(value.is_nan(), "{} of no rows is {value}", metric.name());
            assert!(driftmill_config::check_example(*metric).is_ok());
        }
    }
}
