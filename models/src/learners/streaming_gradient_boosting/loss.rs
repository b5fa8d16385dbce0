//! What boosting makes small, and where it begins.

use crate::contracts::Task;
use crate::scorers::linear::{Link, logistic, softmax};

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The squared error of a value.
    Squared,
    /// The log loss of the probability of class 1.
    Logistic,
    /// That of the probabilities of so many classes.
    Softmax(usize),
}

/// A hessian is at least that.
const HESSIAN_MIN: f64 = 1e-6;
/// Labels beyond are taken for it, so that squares stay finite.
pub(super) const MAGNITUDE_MAX: f64 = 1e100;

impl Loss {
    pub(super) fn of(task: Task) -> Self {
        match task {
            Task::Multiclass { classes } => Self::Softmax(classes as usize),
            Task::Binary => Self::Logistic,
            Task::Regression | Task::Anomaly => Self::Squared,
        }
    }

    pub(super) fn link(self) -> Link {
        match self {
            Self::Squared => Link::Identity,
            Self::Logistic => Link::Logistic,
            Self::Softmax(_) => Link::Softmax,
        }
    }

    /// Sums for each row.
    pub(super) fn outputs(self) -> usize {
        match self {
            Self::Squared | Self::Logistic => 1,
            Self::Softmax(classes) => classes,
        }
    }

    /// A tree begins anew when it adds less than this share of what it added before. What a tree adds to a value also falls
    /// as the others learn more, so there it must do harm; chosen on agrawal, elec, weather and mv.
    pub(super) fn rest(self) -> f64 {
        match self {
            Self::Squared => 0.0,
            Self::Logistic | Self::Softmax(_) => 0.5,
        }
    }

    /// Writes hessian and negative gradient at these sums to `pulls`; how right they are: larger is better, from 0 to 1
    /// for probabilities.
    pub(super) fn pull(
        self,
        sums: &[f64],
        label: f64,
        weight: f64,
        scratch: &mut Vec<f64>,
        pulls: &mut Vec<(f64, f64)>,
    ) -> f64 {
        pulls.clear();
        let hessian = |p: f64| (p * (1.0 - p)).max(HESSIAN_MIN);
        match self {
            Self::Squared => {
                pulls.push((weight, weight * (label - sums[0])));
                -(label - sums[0]).abs()
            }
            Self::Logistic => {
                let p = logistic(sums[0]);
                pulls.push((weight * hessian(p), weight * (label - p)));
                if label > 0.5 { p } else { 1.0 - p }
            }
            Self::Softmax(classes) => {
                scratch.clear();
                scratch.extend_from_slice(sums);
                softmax(scratch);
                // All sums move at once: each by its own hessian alone they would go too far.
                let together = classes as f64 / (classes as f64 - 1.0);
                pulls.extend(scratch.iter().zip(0..).map(|(p, class)| {
                    let is_label = if f64::from(class) == label { 1.0 } else { 0.0 };
                    (weight * together * hessian(*p), weight * (is_label - p))
                }));
                scratch.get(label as usize).copied().unwrap_or_default()
            }
        }
    }
}

/// What is said without a tree: the recent mean of the labels, or how often each class came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Base {
    pub(super) rows: f64,
    /// The mean, the share of class 1, or the shares of all classes.
    pub(super) means: Vec<f64>,
}

/// Rows that it remembers.
pub(super) const BASE_ROWS: f64 = 1_000.0;
/// The share of a class is at least that.
const SHARE_MIN: f64 = 1e-6;

impl Base {
    pub(super) fn new(loss: Loss) -> Self {
        let (rows, means) = match loss {
            Loss::Squared => (0.0, vec![0.0]),
            Loss::Logistic => (2.0, vec![0.5]),
            Loss::Softmax(classes) => (classes as f64, vec![1.0 / classes as f64; classes]),
        };
        Self { rows, means }
    }

    pub(super) fn learn(&mut self, loss: Loss, label: f64) {
        self.rows = (self.rows + 1.0).min(BASE_ROWS);
        let is_class = matches!(loss, Loss::Softmax(_));
        for (mean, class) in self.means.iter_mut().zip(0..) {
            let value = match is_class {
                true => f64::from(u8::from(f64::from(class) == label)),
                false => label,
            };
            *mean += (value - *mean) / self.rows;
        }
    }

    /// Writes the sums to begin with.
    pub(super) fn sums(&self, loss: Loss, out: &mut Vec<f64>) {
        out.clear();
        let share = |mean: &f64| mean.clamp(SHARE_MIN, 1.0 - SHARE_MIN);
        out.extend(self.means.iter().map(|mean| match loss {
            Loss::Squared => *mean,
            Loss::Logistic => (share(mean) / (1.0 - share(mean))).ln(),
            Loss::Softmax(_) => share(mean).ln(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(loss: Loss, sums: &[f64], label: f64) -> (Vec<(f64, f64)>, f64) {
        let (mut scratch, mut pulls) = (vec![], vec![]);
        let right = loss.pull(sums, label, 2.0, &mut scratch, &mut pulls);
        (pulls, right)
    }

    #[test]
    fn pulls_are_gradients_and_hessians() {
        assert_eq!(pull(Loss::Squared, &[1.0], 4.0), (vec![(2.0, 6.0)], -3.0));
        assert_eq!(pull(Loss::Logistic, &[0.0], 1.0), (vec![(0.5, 1.0)], 0.5));
        // Two classes of softmax are one of the logistic function, whose sum is the difference of the two.
        let (pulls, right) = pull(Loss::Softmax(2), &[0.0, 0.0], 1.0);
        assert_eq!((pulls, right), (vec![(1.0, -1.0), (1.0, 1.0)], 0.5));
    }

    #[test]
    fn it_begins_at_even_chances_and_follows_the_classes() {
        for (loss, even) in [
            (Loss::Squared, 0.0),
            (Loss::Logistic, 0.0),
            (Loss::Softmax(3), (1.0_f64 / 3.0).ln()),
        ] {
            let (mut base, mut sums) = (Base::new(loss), vec![]);
            base.sums(loss, &mut sums);
            assert!(sums.iter().all(|sum| *sum == even), "{sums:?}");
            (0..100_000).for_each(|_| base.learn(loss, 1.0));
            base.sums(loss, &mut sums);
            assert!(sums.iter().all(|sum| sum.is_finite()), "{sums:?}");
        }
        let (loss, mut sums) = (Loss::Logistic, vec![]);
        let mut base = Base::new(loss);
        (0..1_000).for_each(|row| base.learn(loss, f64::from(u8::from(row % 4 == 0))));
        base.sums(loss, &mut sums);
        assert!((logistic(sums[0]) - 0.25).abs() < 0.01, "{sums:?}");
    }
}
