//! What the linear models of values share: weighted least squares from the sums of products of the inputs, with or
//! without penalties.
//!
//! smartcore's linear, ridge, lasso and elastic-net regressions are not used: they know no weights; they refuse columns
//! that are constant, or else leave their intercept wrong; they need more rows than inputs; the lasso's interior-point
//! method ends with an error where its line search does, and makes no weight quite 0. The sums take one pass over the
//! rows, weights are honoured exactly, and what is solved afterwards is small. The tests compare both where smartcore's
//! can answer.

use std::sync::Arc;

use driftmill_config::{Problems, Section};

use super::rows::TrainingSet;
use super::settings::{refuse_task, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::scorers::linear::{Linear, Link};

/// Inputs at most: the sums are one for each pair of them.
const WIDTH_MAX: usize = 2_048;
/// An input of which the others leave less than this share of its variance says nothing new.
const NEW_MIN: f64 = 1e-9;
/// Spread of a column, as a share of its mean, that rounding alone may make.
const ROUNDING: f64 = 1e-12;
/// Variance below which a column counts as constant: quotients stay finite.
const VARIANCE_MIN: f64 = 1e-200;
/// Coordinate descent ends when no weight moves the prediction by more than this many deviations of the label...
const MOVES_MIN: f64 = 1e-10;
/// ...or after so many rounds over all weights. Each of them lowers the loss, so that what is reached is a fit.
const ROUNDS_MAX: usize = 10_000;

/// What is added to the squared errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Penalty {
    /// Nothing.
    None,
    /// This times the squared weights, beside the sum over the rows.
    Squares(f64),
    /// Beside half of the mean over the rows: `l1` times the absolute weights, in units of the label's standard
    /// deviation, and half of `l2` times their squares.
    Mixed { l1: f64, l2: f64 },
}

/// What is to be fitted, and how.
pub(super) struct LeastSquares {
    encoder: ColumnsEncoder,
    rows_max: usize,
    penalty: Penalty,
}

impl LeastSquares {
    /// Checks what all of these learners share, of which `learner` is one.
    pub(super) fn build(
        learner: &str,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        penalty: Penalty,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        if context.task != Task::Regression {
            refuse_task(section, &format!("`{learner}` learns regression tasks"), problems);
            return None;
        }
        let rows_max = whole(section, "rows_max", 200_000, 2..=10_000_000, problems) as usize;
        let encoder = context.encoder(Form::Scaled, section, problems)?;
        if encoder.width() > WIDTH_MAX {
            let message = format!(
                "the features make {} inputs, and `{learner}` takes at most {WIDTH_MAX}",
                encoder.width()
            );
            let help = "lower `categories_max` or `buckets`, or use `sgd-linear`".to_owned();
            problems.push(section.span(), message, Some(help));
        }
        (problems.len() == before).then(|| {
            Box::new(Self {
                encoder,
                rows_max,
                penalty,
            }) as Box<dyn BatchLearner>
        })
    }
}

impl BatchLearner for LeastSquares {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let set = TrainingSet::weighted(rows, &self.encoder, Task::Regression, self.rows_max, start.seed)?;
        let scorer = Sums::of(&set).fit(self.penalty)?;
        Model::new(Task::Regression, Arc::new(set.encoder), Arc::new(scorer)).map_err(FitError)
    }
}

/// Means, and weighted means of products of what is left without them.
struct Sums {
    rows: usize,
    means: Vec<f64>,
    mean: f64,
    /// Of the inputs with each other, `width * width`, the lower half filled. A constant column has 0 with itself.
    products: Vec<f64>,
    /// Of the inputs with the label.
    moments: Vec<f64>,
    /// Of the label with itself.
    variance: f64,
}

impl Sums {
    fn of(set: &TrainingSet) -> Self {
        let (rows, width) = (set.x.rows(), set.x.width());
        let total: f64 = set.weights.iter().sum();
        let mut means = vec![0.0; width];
        for (x, weight) in set.x.iter().zip(&set.weights) {
            means
                .iter_mut()
                .zip(x)
                .for_each(|(mean, x)| *mean += weight / total * x);
        }
        let labels = || set.values.iter().zip(&set.weights);
        let mean: f64 = labels().map(|(y, weight)| weight / total * y).sum();
        let variance = labels()
            .map(|(y, weight)| weight / total * (y - mean) * (y - mean))
            .sum();
        let mut sums = Self {
            rows,
            mean,
            products: vec![0.0; width * width],
            moments: vec![0.0; width],
            variance,
            means,
        };
        let mut away = vec![0.0; width];
        for (x, (y, weight)) in set.x.iter().zip(labels()) {
            away.iter_mut()
                .zip(x)
                .zip(&sums.means)
                .for_each(|((away, x), mean)| *away = x - mean);
            sums.add(&away, y - mean, weight / total);
        }
        for (place, mean) in sums.means.iter().enumerate() {
            let own = &mut sums.products[place * width + place];
            if own.sqrt() <= ROUNDING * mean.abs() || *own < VARIANCE_MIN {
                *own = 0.0;
            }
        }
        sums
    }

    /// Adds a row of which the means were taken.
    fn add(&mut self, away: &[f64], label: f64, share: f64) {
        let width = away.len();
        for (place, x) in away.iter().enumerate() {
            let row = self.products[place * width..].iter_mut();
            let scaled = share * x;
            row.zip(&away[..=place])
                .for_each(|(product, other)| *product += scaled * other);
            self.moments[place] += scaled * label;
        }
    }

    fn width(&self) -> usize {
        self.means.len()
    }

    fn product(&self, a: usize, b: usize) -> f64 {
        self.products[a.max(b) * self.width() + a.min(b)]
    }

    /// The linear model of least loss.
    fn fit(&self, penalty: Penalty) -> Result<Linear, FitError> {
        let weights = match penalty {
            Penalty::None => self.solve(0.0),
            Penalty::Squares(l2) => self.solve(l2 / self.rows as f64),
            Penalty::Mixed { l1, l2 } => self.descend(l1 * self.variance.sqrt(), l2),
        };
        let offset: f64 = weights
            .iter()
            .zip(&self.means)
            .map(|(weight, mean)| weight * mean)
            .sum();
        let intercept = self.mean - offset;
        if weights.iter().chain([&intercept]).all(|number| number.is_finite()) {
            return Ok(Linear::single(Link::Identity, weights, intercept));
        }
        Err(FitError(
            "the weights of these rows are not finite; look for features or labels of extreme size".to_owned(),
        ))
    }

    /// Solves (products + `l2` I) weights = moments by Cholesky's method. An input that the ones before it make, but
    /// for a share of [`NEW_MIN`], has no weight.
    fn solve(&self, l2: f64) -> Vec<f64> {
        let width = self.width();
        let mut factor = vec![0.0; width * width];
        // What is solved forwards, then, from its end, backwards.
        let mut weights = vec![0.0; width];
        for row in 0..width {
            let own = self.product(row, row);
            if own == 0.0 {
                continue;
            }
            let (above, below) = factor.split_at_mut(row * width);
            let (mut left, mut moment) = (own + l2, self.moments[row]);
            for column in 0..row {
                let upper = &above[column * width..=column * width + column];
                if upper[column] == 0.0 {
                    continue;
                }
                let inner: f64 = upper[..column].iter().zip(&below[..column]).map(|(a, b)| a * b).sum();
                let entry = (self.product(row, column) - inner) / upper[column];
                below[column] = entry;
                left -= entry * entry;
                moment -= entry * weights[column];
            }
            if left > NEW_MIN * (own + l2) {
                below[row] = left.sqrt();
                weights[row] = moment / below[row];
            } else {
                below[..row].fill(0.0);
            }
        }
        for row in (0..width).rev() {
            let own = factor[row * width + row];
            if own == 0.0 {
                weights[row] = 0.0;
                continue;
            }
            weights[row] /= own;
            let weight = weights[row];
            for column in 0..row {
                weights[column] -= factor[row * width + column] * weight;
            }
        }
        weights
    }

    /// Coordinate descent on the sums (Friedman, Hastie and Tibshirani, "Regularization paths for generalized linear
    /// models via coordinate descent", Journal of Statistical Software 2010).
    fn descend(&self, l1: f64, l2: f64) -> Vec<f64> {
        let width = self.width();
        let mut weights = vec![0.0; width];
        // What the label still has with each input.
        let mut left = self.moments.clone();
        let enough = MOVES_MIN * self.variance.sqrt();
        for _ in 0..ROUNDS_MAX {
            let mut largest: f64 = 0.0;
            for place in 0..width {
                let own = self.product(place, place);
                if own == 0.0 {
                    continue;
                }
                let pull = left[place] + own * weights[place];
                let weight = pull.signum() * (pull.abs() - l1).max(0.0) / (own + l2);
                let step = weight - weights[place];
                if step == 0.0 {
                    continue;
                }
                weights[place] = weight;
                for (other, left) in left.iter_mut().enumerate() {
                    *left -= step * self.product(place, other);
                }
                largest = largest.max(step.abs() * own.sqrt());
            }
            if largest <= enough {
                break;
            }
        }
        weights
    }
}

/// What the learners that use it are tested with.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::contracts::Scorer;
    use crate::matrix::Matrix;
    use crate::random::{of_row, uniform};

    /// Random rows; inputs 0 and 1 go together, input 3 is of no use.
    pub(crate) fn random(rows: usize, seed: u64) -> TrainingSet {
        let mut x = Matrix::new();
        x.reset(rows, 4);
        let mut values = Vec::new();
        for (row, x) in x.values_mut().chunks_mut(4).enumerate() {
            let mut random = of_row(seed, row as u64);
            let mut draw = || 2.0 * uniform(&mut random) - 1.0;
            x.copy_from_slice(&[draw(), draw(), 5.0 * draw() + 3.0, draw()]);
            x[1] += x[0];
            values.push(2.0 * x[0] - x[1] + 0.3 * x[2] + 7.0 + 0.5 * draw());
        }
        set(x, values, vec![1.0; rows])
    }

    pub(crate) fn set(x: Matrix, values: Vec<f64>, weights: Vec<f64>) -> TrainingSet {
        TrainingSet {
            encoder: ColumnsEncoder::new(std::sync::Arc::new([]), vec![]),
            y: vec![0; values.len()],
            x,
            values,
            weights,
        }
    }

    /// The same rows with inputs of mean 0.
    pub(crate) fn centred(mut set: TrainingSet) -> TrainingSet {
        let means = Sums::of(&set).means;
        let rows = set.x.values_mut().chunks_mut(4);
        rows.for_each(|x| x.iter_mut().zip(&means).for_each(|(x, mean)| *x -= mean));
        set
    }

    pub(crate) fn deviation(values: &[f64]) -> f64 {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / values.len() as f64).sqrt()
    }

    /// What the model of these rows answers for its inputs.
    pub(crate) fn answers(set: &TrainingSet, penalty: Penalty) -> Vec<f64> {
        let mut out = Vec::new();
        Sums::of(set).fit(penalty).unwrap().score(&set.x, &mut out);
        out
    }

    pub(crate) fn weights(set: &TrainingSet, penalty: Penalty) -> Vec<f64> {
        let mut one = Matrix::new();
        one.reset(5, 4);
        (0..4).for_each(|place| one.values_mut()[5 * place + 4] = 1.0);
        let mut out = Vec::new();
        Sums::of(set).fit(penalty).unwrap().score(&one, &mut out);
        out[1..].iter().map(|score| score - out[0]).collect()
    }

    pub(crate) fn are_close(a: &[f64], b: &[f64], tolerance: f64) {
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(a.len() == b.len() && apart < tolerance, "{apart} apart");
    }

    #[test]
    fn a_weight_counts_as_so_many_rows() {
        let mut one = random(60, 3);
        let mut twice = Matrix::new();
        twice.reset(120, 4);
        for (row, out) in twice.values_mut().chunks_mut(4).enumerate() {
            // The first half is there three times, the second once.
            let source = if row < 90 { row % 30 } else { row - 60 };
            out.copy_from_slice(&one.x.values()[4 * source..4 * source + 4]);
        }
        let labels = (0..120).map(|row| one.values[if row < 90 { row % 30 } else { row - 60 }]);
        let twice = set(twice, labels.collect(), vec![1.0; 120]);
        one.weights = (0..60).map(|row| if row < 30 { 1.5 } else { 0.5 }).collect();
        for penalty in [Penalty::None, Penalty::Mixed { l1: 0.02, l2: 0.1 }] {
            are_close(&weights(&one, penalty), &weights(&twice, penalty), 1e-9);
        }
    }

    #[test]
    fn constant_and_repeated_inputs_have_no_weight() {
        let mut rows = random(50, 4);
        for x in rows.x.values_mut().chunks_mut(4) {
            (x[1], x[3]) = (1e6, 2.0 * x[0] - 3.0);
        }
        for penalty in [Penalty::None, Penalty::Squares(0.0), Penalty::Squares(1.0)] {
            let found = weights(&rows, penalty);
            assert_eq!(found[1], 0.0);
            assert_eq!(found[3] == 0.0, penalty != Penalty::Squares(1.0), "{found:?}");
        }
        let mut no_inputs = Matrix::new();
        no_inputs.reset(2, 0);
        assert_eq!(
            answers(&set(no_inputs, vec![1.0, 4.0], vec![1.5, 0.5]), Penalty::None),
            [1.75, 1.75]
        );
    }
}
