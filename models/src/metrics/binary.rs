//! Metrics of probabilities against labels 0 and 1.
//!
//! Rank metrics come from a histogram of [`BINS`] bins over the logit of the score, 1/16 wide from −16 to 16;
//! scores in one bin count as equal. ROC AUC is therefore wrong by at most half the share of (positive,
//! negative) pairs that fall into one bin, below 0.001 on smooth scores; average precision reads precision at
//! the end of each bin, and on smooth scores is low by less than 0.005.

use super::cohorts::Tally;
use crate::codec::{CodecError, Put, Reader};

/// Bins of the histogram of scores.
pub const BINS: usize = 512;
/// Bins of the calibration error.
const GROUPS: usize = 15;
/// Bins for one unit of logit.
const PER_LOGIT: f64 = 16.0;
/// Probabilities are clipped to `[CLIP, 1 − CLIP]` for the log loss, as one certain error would be infinite.
const CLIP: f64 = 1e-15;

/// Sums over labelled, scored rows. About 9 KiB, whatever the number of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryTally {
    threshold: f64,
    rows: u64,
    positives: u64,
    invalid: u64,
    weight: f64,
    positive_weight: f64,
    log_loss: f64,
    brier: f64,
    correct: f64,
    alerts: f64,
    /// Weight of negative and of positive rows in each bin of scores.
    histogram: Vec<[f64; 2]>,
    /// Weight, sum of scores, sum of labels of each group of scores.
    groups: [[f64; 3]; GROUPS],
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
        Self {
            threshold,
            rows: 0,
            positives: 0,
            invalid: 0,
            weight: 0.0,
            positive_weight: 0.0,
            log_loss: 0.0,
            brier: 0.0,
            correct: 0.0,
            alerts: 0.0,
            histogram: vec![[0.0; 2]; BINS],
            groups: [[0.0; 3]; GROUPS],
        }
    }

    /// Rows that count.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// ROC AUC and average precision in one walk from the highest scores down.
    fn ranks(&self) -> (f64, f64) {
        let positives: f64 = self.histogram.iter().map(|bin| bin[1]).sum();
        let negatives: f64 = self.histogram.iter().map(|bin| bin[0]).sum();
        let (mut above, mut false_above, mut area, mut precision) = (0.0, 0.0, 0.0, 0.0);
        for [negative, positive] in self.histogram.iter().rev() {
            area += negative * (above + positive / 2.0);
            above += positive;
            false_above += negative;
            if *positive > 0.0 {
                precision += positive * above / (above + false_above);
            }
        }
        (area / (positives * negatives), precision / positives)
    }

    fn calibration_error(&self) -> f64 {
        self.groups
            .iter()
            .map(|[_, scores, labels]| (scores - labels).abs())
            .sum::<f64>()
            / self.weight
    }
}

impl Tally for BinaryTally {
    type Report = BinaryReport;

    fn empty(&self) -> Self {
        Self::new(self.threshold)
    }

    fn update(&mut self, score: f64, label: f64, weight: f64) {
        let usable = (0.0..=1.0).contains(&score) && (label == 0.0 || label == 1.0) && weight > 0.0;
        if !usable || !weight.is_finite() {
            self.invalid += 1;
            return;
        }
        let positive = label > 0.5;
        let clipped = score.clamp(CLIP, 1.0 - CLIP);
        let (log, log_other) = (clipped.ln(), (-clipped).ln_1p());
        let alert = score >= self.threshold;
        self.rows += 1;
        self.positives += u64::from(positive);
        self.weight += weight;
        self.positive_weight += weight * label;
        self.log_loss -= weight * if positive { log } else { log_other };
        self.brier += weight * (score - label) * (score - label);
        self.correct += if alert == positive { weight } else { 0.0 };
        self.alerts += if alert { weight } else { 0.0 };
        // A float becomes the nearest integer of the range: never out of bounds.
        let bin = ((log - log_other) * PER_LOGIT + BINS as f64 / 2.0) as usize;
        self.histogram[bin.min(BINS - 1)][usize::from(positive)] += weight;
        let group = &mut self.groups[((score * GROUPS as f64) as usize).min(GROUPS - 1)];
        for (slot, value) in group.iter_mut().zip([weight, weight * score, weight * label]) {
            *slot += value;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.positives += other.positives;
        self.invalid += other.invalid;
        self.weight += other.weight;
        self.positive_weight += other.positive_weight;
        self.log_loss += other.log_loss;
        self.brier += other.brier;
        self.correct += other.correct;
        self.alerts += other.alerts;
        let mine = self
            .histogram
            .as_flattened_mut()
            .iter_mut()
            .chain(self.groups.as_flattened_mut());
        let others = other.histogram.as_flattened().iter().chain(other.groups.as_flattened());
        for (slot, value) in mine.zip(others) {
            *slot += value;
        }
    }

    fn stamp(&self) -> u64 {
        self.rows + self.invalid
    }

    fn report(&self) -> BinaryReport {
        let (roc_auc, pr_auc) = self.ranks();
        let base_rate = self.positive_weight / self.weight;
        BinaryReport {
            rows: self.rows,
            positives: self.positives,
            invalid: self.invalid,
            log_loss: self.log_loss / self.weight,
            brier: self.brier / self.weight,
            accuracy: self.correct / self.weight,
            majority_accuracy: if base_rate > 0.5 { base_rate } else { 1.0 - base_rate },
            base_rate,
            alert_rate: self.alerts / self.weight,
            roc_auc,
            pr_auc,
            calibration_error: self.calibration_error(),
            threshold: self.threshold,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.rows);
        out.put_u64(self.positives);
        out.put_u64(self.invalid);
        for value in [
            self.weight,
            self.positive_weight,
            self.log_loss,
            self.brier,
            self.correct,
            self.alerts,
        ] {
            out.put_f64(value);
        }
        for value in self.histogram.as_flattened().iter().chain(self.groups.as_flattened()) {
            out.put_f64(*value);
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut tally = self.empty();
        tally.rows = reader.u64()?;
        tally.positives = reader.u64()?;
        tally.invalid = reader.u64()?;
        let sums = [
            &mut tally.weight,
            &mut tally.positive_weight,
            &mut tally.log_loss,
            &mut tally.brier,
            &mut tally.correct,
            &mut tally.alerts,
        ];
        for slot in sums {
            *slot = reader.finite()?;
        }
        for slot in tally
            .histogram
            .as_flattened_mut()
            .iter_mut()
            .chain(tally.groups.as_flattened_mut())
        {
            *slot = reader.finite()?;
        }
        Ok(tally)
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

    fn tally(rows: &[(f64, f64)]) -> BinaryTally {
        let mut tally = BinaryTally::new(0.5);
        rows.iter().for_each(|&(score, label)| tally.update(score, label, 1.0));
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
            twice.update(score, label, 1.0);
        }
        weighted.update(0.3, 1.0, 2.0);
        weighted.update(0.8, 0.0, 1.0);
        assert!((twice.report().brier - weighted.report().brier).abs() < 1e-15);
        assert_eq!(twice.report().pr_auc, weighted.report().pr_auc);
    }

    #[test]
    fn extreme_scores_are_counted_and_unusable_rows_are_not() {
        let mut tally = BinaryTally::new(0.5);
        for score in [0.0, 1.0, 5e-324, 1.0 - f64::EPSILON] {
            tally.update(score, 1.0, 1.0);
            tally.update(score, 0.0, 1.0);
        }
        for (score, label, weight) in [
            (f64::NAN, 1.0, 1.0),
            (1.1, 1.0, 1.0),
            (0.5, 2.0, 1.0),
            (0.5, 1.0, 0.0),
            (0.5, 1.0, f64::INFINITY),
        ] {
            tally.update(score, label, weight);
        }
        let report = tally.report();
        assert_eq!((report.rows, report.invalid), (8, 5));
        assert!(report.log_loss.is_finite() && report.roc_auc == 0.5);
    }
}
