//! Comparison with `no-change`, which answers the label that came last (Bifet, Read, Žliobaitė, Pfahringer and Holmes,
//! "Pitfalls in benchmarking data stream classification and how to avoid them", ECML PKDD 2013).

use driftmill_config::{Component, Field};

use super::multiclass::{beyond, is_right};
use super::{Better, Metric, Row, Setting, Sums};
use crate::contracts::Task;

const WEIGHT: usize = 0;
const CORRECT: usize = 1;
const REPEATED: usize = 2;

/// Of the rows before which a label was known: their weight, that of those answered right, and of those whose label is
/// that label again.
struct Repeats;

impl Sums for Repeats {
    fn name(&self) -> &'static str {
        "repeats"
    }

    fn width(&self, task: Task) -> usize {
        match task {
            Task::Binary | Task::Multiclass { .. } => 3,
            Task::Regression | Task::Anomaly => 0,
        }
    }

    fn add(&self, setting: &Setting, row: &Row<'_>, sums: &mut [f64]) {
        let Some(before) = row.before else { return };
        sums[WEIGHT] += row.weight;
        sums[CORRECT] += if is_right(setting, row) { row.weight } else { 0.0 };
        sums[REPEATED] += if before == row.label { row.weight } else { 0.0 };
    }
}

/// Its type.
pub struct TemporalKappa;

/// The part of the rows on which `no-change` is wrong that the answers win.
pub static TEMPORAL_KAPPA: TemporalKappa = TemporalKappa;

impl Component for TemporalKappa {
    fn name(&self) -> &'static str {
        "temporal-kappa"
    }

    fn summary(&self) -> &'static str {
        "Accuracy beyond that of answering the label that became known last: 1 where all answers are right, 0 where they \
         are as good as no model, below 0 where they are worse."
    }

    fn fields(&self) -> &'static [Field] {
        &[]
    }

    fn example(&self) -> &'static str {
        ""
    }
}

impl Metric for TemporalKappa {
    fn unit(&self) -> &'static str {
        "ratio"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn sums(&self) -> &'static dyn Sums {
        &Repeats
    }

    fn value(&self, _setting: &Setting, sums: &[f64]) -> f64 {
        beyond(sums[CORRECT] / sums[WEIGHT], sums[REPEATED] / sums[WEIGHT])
    }
}
