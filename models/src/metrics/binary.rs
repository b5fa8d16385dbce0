//! Metrics of probabilities against labels 0 and 1.
//!
//! Rank metrics come from a histogram of [`BINS`] bins over the logit of the score, 1/16 wide from −16 to 16;
//! scores in one bin count as equal. ROC AUC is therefore wrong by at most half the share of (positive,
//! negative) pairs that fall into one bin, below 0.001 on smooth scores; average precision reads precision at
//! the end of each bin, and on smooth scores is low by less than 0.005.
//!
//! Metrics that several classes have too are the same entries: [`super::multiclass`] holds what they are there.

use driftmill_config::{Component, Field};

use super::cohorts::Tally;
use super::evaluation::Evaluation;
use super::multiclass::{self, ClassSums, beyond};
use super::{Better, Metric, Row, Setting, Sums};
use crate::codec::{CodecError, Reader};
use crate::contracts::Task;

/// Bins of the histogram of scores.
pub const BINS: usize = 512;
/// Bins of the calibration error.
const GROUPS: usize = 15;
/// Bins for one unit of logit.
const PER_LOGIT: f64 = 16.0;
/// Probabilities are clipped to `[CLIP, 1 − CLIP]` for the log loss, as one certain error would be infinite.
const CLIP: f64 = 1e-15;

/// Where each sum stands.
const ROWS: usize = 0;
const POSITIVES: usize = 1;
const WEIGHT: usize = 2;
const POSITIVE_WEIGHT: usize = 3;
const LOG_LOSSES: usize = 4;
const BRIER_LOSSES: usize = 5;
const CORRECT: usize = 6;
const ALERTS: usize = 7;
/// Weight of negative and of positive rows in each bin of scores.
const HISTOGRAM: usize = 8;
/// Weight, sum of scores, sum of labels of each group of scores.
const GROUP: usize = HISTOGRAM + 2 * BINS;
const WIDTH: usize = GROUP + 3 * GROUPS;

/// The sums of all metrics of probabilities of class 1. About 9 KiB, whatever the number of rows.
pub struct BinarySums;

impl Sums for BinarySums {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn width(&self, task: Task) -> usize {
        match task {
            Task::Binary | Task::Anomaly => WIDTH,
            Task::Multiclass { .. } | Task::Regression => 0,
        }
    }

    fn add(&self, setting: &Setting, row: &Row<'_>, sums: &mut [f64]) {
        let (score, label, weight) = (row.scores[0], row.label, row.weight);
        let positive = label > 0.5;
        let clipped = score.clamp(CLIP, 1.0 - CLIP);
        let (log, log_other) = (clipped.ln(), (-clipped).ln_1p());
        let alert = score >= setting.threshold;
        sums[ROWS] += 1.0;
        sums[POSITIVES] += f64::from(u8::from(positive));
        sums[WEIGHT] += weight;
        sums[POSITIVE_WEIGHT] += weight * label;
        sums[LOG_LOSSES] -= weight * if positive { log } else { log_other };
        sums[BRIER_LOSSES] += weight * (score - label) * (score - label);
        sums[CORRECT] += if alert == positive { weight } else { 0.0 };
        sums[ALERTS] += if alert { weight } else { 0.0 };
        // A float becomes the nearest integer of the range: never out of bounds.
        let bin = ((log - log_other) * PER_LOGIT + BINS as f64 / 2.0) as usize;
        sums[HISTOGRAM + 2 * bin.min(BINS - 1) + usize::from(positive)] += weight;
        let group = GROUP + 3 * ((score * GROUPS as f64) as usize).min(GROUPS - 1);
        for (slot, value) in sums[group..].iter_mut().zip([weight, weight * score, weight * label]) {
            *slot += value;
        }
    }
}

/// A metric of probabilities of class 1, and perhaps of those of several classes.
pub struct BinaryMetric {
    name: &'static str,
    summary: &'static str,
    unit: &'static str,
    better: Better,
    value: fn(&[f64]) -> f64,
    /// Of several classes.
    of_classes: Option<fn(&[f64]) -> f64>,
}

impl BinaryMetric {
    /// The same, which answers several classes too.
    const fn and_of_classes(self, value: fn(&[f64]) -> f64) -> Self {
        Self {
            of_classes: Some(value),
            ..self
        }
    }
}

impl Component for BinaryMetric {
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

impl Metric for BinaryMetric {
    fn unit(&self) -> &'static str {
        self.unit
    }

    fn better(&self) -> Better {
        self.better
    }

    fn sums(&self) -> &'static dyn Sums {
        match self.of_classes {
            Some(_) => &ClassSums,
            None => &BinarySums,
        }
    }

    fn value(&self, setting: &Setting, sums: &[f64]) -> f64 {
        match (setting.task, self.of_classes) {
            (Task::Multiclass { .. }, Some(value)) => value(sums),
            _ => (self.value)(sums),
        }
    }
}

/// Most metrics are shares.
const fn ratio(name: &'static str, better: Better, value: fn(&[f64]) -> f64, summary: &'static str) -> BinaryMetric {
    BinaryMetric {
        name,
        summary,
        unit: "ratio",
        better,
        value,
        of_classes: None,
    }
}

/// Mean log loss.
pub static LOG_LOSS: BinaryMetric = BinaryMetric {
    name: "log-loss",
    summary: "Mean negative logarithm of the probability given to the true class.",
    unit: "nats",
    better: Better::Lower,
    value: |sums| sums[LOG_LOSSES] / sums[WEIGHT],
    of_classes: Some(multiclass::log_loss),
};
/// Mean Brier loss.
pub static BRIER: BinaryMetric = ratio(
    "brier",
    Better::Lower,
    |sums| sums[BRIER_LOSSES] / sums[WEIGHT],
    "Mean squared difference of probability and label; of several classes the sum over them.",
)
.and_of_classes(multiclass::brier);
/// Accuracy at the threshold.
pub static ACCURACY: BinaryMetric = ratio(
    "accuracy",
    Better::Higher,
    |sums| sums[CORRECT] / sums[WEIGHT],
    "Share of rows on the right side of the decision threshold, or whose most probable class is the true one.",
)
.and_of_classes(multiclass::accuracy);
/// Accuracy of the more frequent class.
pub static MAJORITY_ACCURACY: BinaryMetric = ratio(
    "majority-accuracy",
    Better::Neither,
    |sums| {
        let base_rate = sums[POSITIVE_WEIGHT] / sums[WEIGHT];
        if base_rate > 0.5 { base_rate } else { 1.0 - base_rate }
    },
    "Accuracy of always answering the most frequent class of the same rows.",
)
.and_of_classes(multiclass::majority_accuracy);
/// Share of positives.
pub static BASE_RATE: BinaryMetric = ratio(
    "base-rate",
    Better::Neither,
    |sums| sums[POSITIVE_WEIGHT] / sums[WEIGHT],
    "Share of positive labels.",
);
/// Share of alerts.
pub static ALERT_RATE: BinaryMetric = ratio(
    "alert-rate",
    Better::Neither,
    |sums| sums[ALERTS] / sums[WEIGHT],
    "Share of rows whose score reaches the decision threshold.",
);
/// Area under the receiver operating characteristic.
pub static ROC_AUC: BinaryMetric = ratio(
    "roc-auc",
    Better::Higher,
    |sums| ranks(sums).0,
    "Probability that a positive row scores above a negative one.",
);
/// Average precision.
pub static PR_AUC: BinaryMetric = ratio(
    "pr-auc",
    Better::Higher,
    |sums| ranks(sums).1,
    "Average precision: precision averaged over recall.",
);
/// Expected calibration error.
pub static CALIBRATION_ERROR: BinaryMetric = ratio(
    "calibration-error",
    Better::Lower,
    calibration_error,
    "Expected calibration error over 15 bins of equal width (Guo et al. 2017).",
);

/// Cohen's kappa.
pub static KAPPA: BinaryMetric = ratio(
    "kappa",
    Better::Higher,
    kappa,
    "Accuracy beyond that of answering at random with the same shares: 1 where all answers are right, 0 at random \
     (Cohen 1960).",
)
.and_of_classes(multiclass::kappa);
/// Share of right alerts.
pub static PRECISION: BinaryMetric = ratio(
    "precision",
    Better::Higher,
    |sums| true_alerts(sums) / sums[ALERTS],
    "Share of positive rows among those whose score reaches the decision threshold; of several classes the mean over \
     those that occur.",
)
.and_of_classes(multiclass::precision);
/// Share of positives found.
pub static RECALL: BinaryMetric = ratio(
    "recall",
    Better::Higher,
    |sums| true_alerts(sums) / sums[POSITIVE_WEIGHT],
    "Share of positive rows whose score reaches the decision threshold; of several classes the mean over those that \
     occur.",
)
.and_of_classes(multiclass::recall);
/// Harmonic mean of precision and recall.
pub static F1: BinaryMetric = ratio(
    "f1",
    Better::Higher,
    |sums| 2.0 * true_alerts(sums) / (sums[ALERTS] + sums[POSITIVE_WEIGHT]),
    "Harmonic mean of precision and recall; of several classes the mean of theirs over those that occur.",
)
.and_of_classes(multiclass::f1);
/// Mean cost of mistakes.
pub static COST: ThresholdCost = ThresholdCost;

/// The type of [`COST`]: unlike the others it needs the threshold.
pub struct ThresholdCost;

impl Component for ThresholdCost {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn summary(&self) -> &'static str {
        "Mean cost of mistakes, where a false alert costs the decision threshold and a missed positive 1 less the \
         threshold: in these proportions the threshold is the best one for calibrated probabilities (Elkan 2001)."
    }

    fn fields(&self) -> &'static [Field] {
        &[]
    }

    fn example(&self) -> &'static str {
        ""
    }
}

impl Metric for ThresholdCost {
    fn unit(&self) -> &'static str {
        "ratio"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn sums(&self) -> &'static dyn Sums {
        &BinarySums
    }

    fn value(&self, setting: &Setting, sums: &[f64]) -> f64 {
        let found = true_alerts(sums);
        let (false_alerts, missed) = (sums[ALERTS] - found, sums[POSITIVE_WEIGHT] - found);
        (setting.threshold * false_alerts + (1.0 - setting.threshold) * missed) / sums[WEIGHT]
    }
}

/// Weight of positive rows that reach the threshold: what is right are they and the others that do not.
fn true_alerts(sums: &[f64]) -> f64 {
    let twice = sums[CORRECT] - sums[WEIGHT] + sums[ALERTS] + sums[POSITIVE_WEIGHT];
    (twice / 2.0).max(0.0)
}

fn kappa(sums: &[f64]) -> f64 {
    let (weight, alerts, positives) = (sums[WEIGHT], sums[ALERTS], sums[POSITIVE_WEIGHT]);
    let by_chance = alerts * positives + (weight - alerts) * (weight - positives);
    beyond(sums[CORRECT] / weight, by_chance / (weight * weight))
}

/// ROC AUC and average precision in one walk from the highest scores down.
fn ranks(sums: &[f64]) -> (f64, f64) {
    let bins = sums[HISTOGRAM..GROUP].as_chunks::<2>().0;
    let positives: f64 = bins.iter().map(|bin| bin[1]).sum();
    let negatives: f64 = bins.iter().map(|bin| bin[0]).sum();
    let (mut above, mut false_above, mut area, mut precision) = (0.0, 0.0, 0.0, 0.0);
    for [negative, positive] in bins.iter().rev() {
        area += negative * (above + positive / 2.0);
        above += positive;
        false_above += negative;
        if *positive > 0.0 {
            precision += positive * above / (above + false_above);
        }
    }
    (area / (positives * negatives), precision / positives)
}

fn calibration_error(sums: &[f64]) -> f64 {
    let groups = sums[GROUP..WIDTH].as_chunks::<3>().0;
    groups
        .iter()
        .map(|[_, scores, labels]| (scores - labels).abs())
        .sum::<f64>()
        / sums[WEIGHT]
}

/// All metrics of a binary task.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryTally {
    evaluation: Evaluation,
    threshold: f64,
}

/// The metrics of a tally. Those that the rows do not determine (no rows, one class only) are NaN.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BinaryReport {
    /// Rows.
    pub rows: u64,
    /// Rows with label 1.
    pub positives: u64,
    /// Rows left out because score, label or weight was not usable.
    pub invalid: u64,
    /// Mean log loss in nats.
    pub log_loss: f64,
    /// Mean Brier loss.
    pub brier: f64,
    /// Share of rows on the right side of the threshold.
    pub accuracy: f64,
    /// Share of the more frequent class.
    pub majority_accuracy: f64,
    /// Share of positives.
    pub base_rate: f64,
    /// Share of rows whose score reaches the threshold.
    pub alert_rate: f64,
    /// Area under the receiver operating characteristic.
    pub roc_auc: f64,
    /// Average precision.
    pub pr_auc: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// The threshold.
    pub threshold: f64,
}

/// Log loss in nats of probability `score` for `label` 0 or 1, with the score clipped to `[1e-15, 1 − 1e-15]`.
#[must_use]
pub fn log_loss(score: f64, label: f64) -> f64 {
    let score = score.clamp(CLIP, 1.0 - CLIP);
    if label > 0.5 { -score.ln() } else { -(-score).ln_1p() }
}

impl BinaryTally {
    /// No rows; a score of at least `threshold` is an answer of 1.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        let setting = Setting {
            task: Task::Binary,
            threshold,
        };
        Self {
            evaluation: Evaluation::of_task(setting),
            threshold,
        }
    }

    /// Rows that count.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.evaluation.rows()
    }

    /// Every metric of the list that answers binary tasks, those too that the report has no field for.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.evaluation.values()
    }
}

impl Tally for BinaryTally {
    type Report = BinaryReport;

    fn empty(&self) -> Self {
        Self {
            evaluation: self.evaluation.empty(),
            threshold: self.threshold,
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

    fn report(&self) -> BinaryReport {
        let sums = self.evaluation.sums_of(&BinarySums);
        let (roc_auc, pr_auc) = ranks(sums);
        BinaryReport {
            rows: self.evaluation.rows(),
            positives: sums[POSITIVES] as u64,
            invalid: self.evaluation.invalid(),
            log_loss: (LOG_LOSS.value)(sums),
            brier: (BRIER.value)(sums),
            accuracy: (ACCURACY.value)(sums),
            majority_accuracy: (MAJORITY_ACCURACY.value)(sums),
            base_rate: (BASE_RATE.value)(sums),
            alert_rate: (ALERT_RATE.value)(sums),
            roc_auc,
            pr_auc,
            calibration_error: calibration_error(sums),
            threshold: self.threshold,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.evaluation.write(out);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            evaluation: self.evaluation.read(reader)?,
            threshold: self.threshold,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    fn rows(seed: u64, count: usize) -> Vec<(f64, f64)> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut uniform = move || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (0..count)
            .map(|_| {
                let score = uniform().powi(3);
                (score, f64::from(uniform() < score * 0.8))
            })
            .collect()
    }

    fn add(tally: &mut BinaryTally, score: f64, label: f64, weight: f64) {
        tally.update(&Row {
            scores: &[score],
            label,
            weight,
            before: None,
        });
    }

    fn tally(rows: &[(f64, f64)]) -> BinaryTally {
        let mut tally = BinaryTally::new(0.5);
        rows.iter()
            .for_each(|&(score, label)| add(&mut tally, score, label, 1.0));
        tally
    }

    /// ROC AUC over all pairs and average precision over all ranks.
    fn exact(rows: &[(f64, f64)]) -> (f64, f64) {
        let mut sorted = rows.to_vec();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut above, mut area, mut precision) = (0.0, 0.0, 0.0);
        for (i, (_, label)) in sorted.iter().enumerate() {
            if *label > 0.5 {
                above += 1.0;
                precision += above / (i + 1) as f64;
            } else {
                area += above;
            }
        }
        (area / (above * (rows.len() as f64 - above)), precision / above)
    }

    #[test]
    fn sums_equal_their_definitions() {
        let rows = [(0.9, 1.0), (0.2, 0.0), (0.6, 0.0), (0.4, 1.0)];
        let report = tally(&rows).report();
        let log = -(0.9_f64.ln() + 0.8_f64.ln() + 0.4_f64.ln() + 0.4_f64.ln()) / 4.0;
        assert!((report.log_loss - log).abs() < 1e-12);
        assert!((report.brier - (0.01 + 0.04 + 0.36 + 0.36) / 4.0).abs() < 1e-12);
        assert_eq!(
            (report.accuracy, report.majority_accuracy, report.base_rate),
            (0.5, 0.5, 0.5)
        );
        assert_eq!((report.alert_rate, report.roc_auc), (0.5, 0.75));
        assert!((report.pr_auc - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!((report.calibration_error - (0.1 + 0.2 + 0.6 + 0.6) / 4.0).abs() < 1e-12);
        assert!((log_loss(0.9, 1.0) + 0.9_f64.ln()).abs() < 1e-15 && log_loss(1.0, 0.0) < 35.0);
    }

    #[test]
    fn values_at_the_threshold_are_those_of_scikit_learn() {
        let scores = [0.9, 0.2, 0.6, 0.4, 0.75, 0.35, 0.1, 0.55, 0.8, 0.45];
        let labels = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
        let weights = [1.0, 2.0, 1.0, 1.0, 3.0, 1.0, 0.5, 1.0, 1.0, 2.0];
        let evaluated = |threshold: f64| {
            let mut evaluation = Evaluation::of_task(Setting {
                task: Task::Binary,
                threshold,
            });
            let mut before = None;
            for ((score, label), weight) in scores.iter().zip(labels).zip(weights) {
                let scores = &[*score];
                evaluation.update(&Row {
                    scores,
                    label,
                    weight,
                    before,
                });
                before = Some(label);
            }
            evaluation
        };
        let (half, lower) = (evaluated(0.5), evaluated(0.3));
        // scikit-learn 1.9.1: cohen_kappa_score, precision_score, recall_score, f1_score, accuracy_score with
        // sample_weight; costs from its confusion_matrix; temporal kappa from accuracy_score of the rows after the first,
        // against answers and against the labels before.
        for (evaluation, name, expected) in [
            (&half, "kappa", 0.2541436464088397),
            (&half, "precision", 0.7142857142857143),
            (&half, "recall", 0.625),
            (&half, "f1", 0.6666666666666666),
            (&half, "accuracy", 0.6296296296296297),
            (&half, "cost", 0.18518518518518517),
            (&lower, "cost", 0.06666666666666667),
            (&half, "temporal-kappa", 0.375),
        ] {
            let found = evaluation.value(name);
            assert!((found - expected).abs() < 1e-12, "{name}: {found}, expected {expected}");
        }
    }

    #[test]
    fn what_the_rows_do_not_determine_is_no_number() {
        let values = |rows: &[(f64, f64)]| {
            let tally = tally(rows);
            let named = |name: &str| tally.values().find(|(known, _)| *known == name).map(|(_, value)| value);
            ["kappa", "precision", "recall", "f1"].map(|name| named(name).unwrap())
        };
        // No alert and no positive; then alerts only.
        assert!(values(&[(0.2, 0.0), (0.1, 0.0)]).iter().all(|value| value.is_nan()));
        let [kappa, precision, recall, f1] = values(&[(0.9, 0.0), (0.8, 0.0)]);
        assert_eq!((kappa, precision, f1), (0.0, 0.0, 0.0));
        assert!(recall.is_nan());
    }

    #[test]
    fn rank_metrics_are_near_the_exact_ones() {
        for seed in 0..5 {
            let rows = rows(seed, 20_000);
            let (roc, pr) = exact(&rows);
            let report = tally(&rows).report();
            assert!(
                (report.roc_auc - roc).abs() < 1e-3,
                "seed {seed}: {} exact {roc}",
                report.roc_auc
            );
            assert!(
                (report.pr_auc - pr).abs() < 5e-3,
                "seed {seed}: {} exact {pr}",
                report.pr_auc
            );
        }
    }

    #[test]
    fn merging_equals_one_tally_and_weights_count_rows() {
        let rows = rows(7, 3_000);
        let whole = tally(&rows).report();
        let mut parts = tally(&rows[..1_000]);
        parts.merge(&tally(&rows[1_000..]));
        let merged = parts.report();
        assert!((merged.log_loss - whole.log_loss).abs() < 1e-12 && merged.roc_auc == whole.roc_auc);
        assert_eq!((merged.rows, merged.positives), (whole.rows, whole.positives));
        let (mut twice, mut weighted) = (BinaryTally::new(0.5), BinaryTally::new(0.5));
        for (score, label) in [(0.3, 1.0), (0.3, 1.0), (0.8, 0.0)] {
            add(&mut twice, score, label, 1.0);
        }
        add(&mut weighted, 0.3, 1.0, 2.0);
        add(&mut weighted, 0.8, 0.0, 1.0);
        assert!((twice.report().brier - weighted.report().brier).abs() < 1e-15);
        assert_eq!(twice.report().pr_auc, weighted.report().pr_auc);
    }

    #[test]
    fn extreme_scores_are_counted_and_unusable_rows_are_not() {
        let mut tally = BinaryTally::new(0.5);
        for score in [0.0, 1.0, 5e-324, 1.0 - f64::EPSILON] {
            add(&mut tally, score, 1.0, 1.0);
            add(&mut tally, score, 0.0, 1.0);
        }
        for (score, label, weight) in [
            (f64::NAN, 1.0, 1.0),
            (1.1, 1.0, 1.0),
            (0.5, 2.0, 1.0),
            (0.5, 1.0, 0.0),
            (0.5, 1.0, f64::INFINITY),
        ] {
            add(&mut tally, score, label, weight);
        }
        let report = tally.report();
        assert_eq!((report.rows, report.invalid), (8, 5));
        assert!(report.log_loss.is_finite() && report.roc_auc == 0.5);
    }
}
