//! Metrics of probabilities of several classes, and how those of two classes and of several share their entries.
//!
//! A row answers its most probable class, the lower of equal ones.

use super::binary::BinarySums;
use super::{Row, Setting, Sums};
use crate::contracts::Task;

/// Probabilities are clipped to at least this for the log loss.
const CLIP: f64 = 1e-15;

/// Where each sum stands; then, for each class, the weight of its rows, of those answered so, and of those of both.
const WEIGHT: usize = 0;
const LOG_LOSSES: usize = 1;
const BRIER_LOSSES: usize = 2;
const CORRECT: usize = 3;
const CLASSES: usize = 4;

/// Whether a row of a task with classes is answered right.
pub(super) fn is_right(setting: &Setting, row: &Row<'_>) -> bool {
    match setting.task {
        Task::Multiclass { .. } => answer(row.scores) == row.label as usize,
        _ => (row.scores[0] >= setting.threshold) == (row.label > 0.5),
    }
}

/// The most probable class, the lower of equal ones.
fn answer(scores: &[f64]) -> usize {
    let higher = |best: usize, class: usize| if scores[class] > scores[best] { class } else { best };
    (1..scores.len()).fold(0, higher)
}

/// The sums of metrics that answer two classes and several. Those of two are [`BinarySums`], under the same name, so
/// that they are kept once.
pub struct ClassSums;

impl Sums for ClassSums {
    fn name(&self) -> &'static str {
        BinarySums.name()
    }

    fn width(&self, task: Task) -> usize {
        match task {
            Task::Multiclass { classes } => CLASSES + 3 * classes as usize,
            task => BinarySums.width(task),
        }
    }

    fn add(&self, setting: &Setting, row: &Row<'_>, sums: &mut [f64]) {
        let Task::Multiclass { .. } = setting.task else {
            return BinarySums.add(setting, row, sums);
        };
        let (label, answer, weight) = (row.label as usize, answer(row.scores), row.weight);
        let squares = row.scores.iter().enumerate().map(|(class, score)| {
            let truth = if class == label { 1.0 } else { 0.0 };
            (score - truth) * (score - truth)
        });
        sums[WEIGHT] += weight;
        sums[LOG_LOSSES] -= weight * row.scores[label].max(CLIP).ln();
        sums[BRIER_LOSSES] += weight * squares.sum::<f64>();
        sums[CLASSES + 3 * label] += weight;
        sums[CLASSES + 3 * answer + 1] += weight;
        if label == answer {
            sums[CORRECT] += weight;
            sums[CLASSES + 3 * label + 2] += weight;
        }
    }
}

/// Of each class the weight of its rows, of those answered so, and of those of both.
fn classes(sums: &[f64]) -> &[[f64; 3]] {
    sums.get(CLASSES..).unwrap_or_default().as_chunks::<3>().0
}

pub(super) fn log_loss(sums: &[f64]) -> f64 {
    sums[LOG_LOSSES] / sums[WEIGHT]
}

pub(super) fn brier(sums: &[f64]) -> f64 {
    sums[BRIER_LOSSES] / sums[WEIGHT]
}

pub(super) fn accuracy(sums: &[f64]) -> f64 {
    sums[CORRECT] / sums[WEIGHT]
}

pub(super) fn majority_accuracy(sums: &[f64]) -> f64 {
    let largest = classes(sums).iter().map(|[rows, ..]| *rows).fold(0.0, f64::max);
    largest / sums[WEIGHT]
}

pub(super) fn kappa(sums: &[f64]) -> f64 {
    let by_chance: f64 = classes(sums).iter().map(|[rows, answered, _]| rows * answered).sum();
    beyond(accuracy(sums), by_chance / (sums[WEIGHT] * sums[WEIGHT]))
}

/// How much of what `chance` leaves is reached; NaN where it leaves nothing.
pub(super) fn beyond(accuracy: f64, chance: f64) -> f64 {
    if chance < 1.0 {
        (accuracy - chance) / (1.0 - chance)
    } else {
        f64::NAN
    }
}

/// The mean over the classes that occur among rows or answers; a class without a value counts as 0.
fn mean(sums: &[f64], value: impl Fn(&[f64; 3]) -> f64) -> f64 {
    let occurring = classes(sums).iter().filter(|[rows, answered, _]| rows + answered > 0.0);
    let (total, count) = occurring.fold((0.0, 0.0), |(total, count), class| {
        let value = value(class);
        (total + if value.is_nan() { 0.0 } else { value }, count + 1.0)
    });
    total / count
}

pub(super) fn precision(sums: &[f64]) -> f64 {
    mean(sums, |[_, answered, both]| both / answered)
}

pub(super) fn recall(sums: &[f64]) -> f64 {
    mean(sums, |[rows, _, both]| both / rows)
}

pub(super) fn f1(sums: &[f64]) -> f64 {
    mean(sums, |[rows, answered, both]| 2.0 * both / (rows + answered))
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluation, Tally};
    use super::*;

    #[test]
    fn values_are_those_of_scikit_learn() {
        let scores: [[f64; 4]; 8] = [
            [0.7, 0.2, 0.05, 0.05],
            [0.1, 0.6, 0.2, 0.1],
            [0.3, 0.3, 0.3, 0.1],
            [0.2, 0.2, 0.5, 0.1],
            [0.1, 0.45, 0.35, 0.1],
            [0.25, 0.25, 0.4, 0.1],
            [0.6, 0.1, 0.2, 0.1],
            [0.05, 0.15, 0.7, 0.1],
        ];
        let labels = [0.0, 1.0, 2.0, 2.0, 2.0, 0.0, 1.0, 2.0];
        let weights = [1.0, 2.0, 1.0, 1.0, 0.5, 1.0, 3.0, 1.0];
        let mut evaluation = Evaluation::of_task(Setting {
            task: Task::Multiclass { classes: 4 },
            threshold: 0.5,
        });
        for ((scores, label), weight) in scores.iter().zip(labels).zip(weights) {
            evaluation.update(&Row {
                scores,
                label,
                weight,
                before: None,
            });
        }
        // scikit-learn 1.9.1: log_loss, brier_score_loss, accuracy_score, cohen_kappa_score, and precision_score,
        // recall_score, f1_score with average="macro", zero_division=0, all with sample_weight. Class 3 never occurs.
        for (name, expected) in [
            ("log-loss", 1.1858173164425423),
            ("brier", 0.6188095238095238),
            ("accuracy", 0.47619047619047616),
            ("majority-accuracy", 5.0 / 10.5),
            ("kappa", 0.2524271844660194),
            ("precision", 0.5555555555555555),
            ("recall", 0.4904761904761905),
            ("f1", 0.47814407814407817),
        ] {
            let found = evaluation.value(name);
            assert!((found - expected).abs() < 1e-12, "{name}: {found}, expected {expected}");
        }
        assert!(evaluation.value("roc-auc").is_nan() && evaluation.value("temporal-kappa").is_nan());
    }
}
