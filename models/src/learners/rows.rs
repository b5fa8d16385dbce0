//! Which rows a learner uses, and how a batch learner turns them into a matrix.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::contracts::{FitError, Labelled, Task};
use crate::encoders::ColumnsEncoder;
use crate::matrix::Matrix;

/// Whether a row can be learned from: its label is one of the task's, its weight a number above 0.
pub(crate) fn usable(task: Task, label: f64, weight: f64) -> bool {
    let label_fits = match task {
        Task::Binary => label == 0.0 || label == 1.0,
        Task::Multiclass { classes } => label.fract() == 0.0 && (0.0..f64::from(classes)).contains(&label),
        Task::Regression => label.is_finite(),
        Task::Anomaly => true,
    };
    label_fits && weight.is_finite() && weight > 0.0
}

/// Values beyond are taken for it, so that sums of their squares stay finite.
const MAGNITUDE_MAX: f64 = 1e100;

/// A training set: the encoder fitted on its rows, their inputs and their labels.
pub(crate) struct TrainingSet {
    /// Has observed every row.
    pub(crate) encoder: ColumnsEncoder,
    /// The inputs.
    pub(crate) x: Matrix,
    /// The class of each row; of no meaning where the task has none.
    pub(crate) y: Vec<u32>,
    /// The label of each row as it is, from -1e100 to 1e100.
    pub(crate) values: Vec<f64>,
    /// The weight of each row: of mean 1 before those that are out of all proportion are bounded, from 1e-6 to 1e6.
    pub(crate) weights: Vec<f64>,
}

impl TrainingSet {
    /// The usable rows in their order, at most `rows_max` of them, with every class of `0..classes` among them.
    /// Weights that differ are honoured by drawing rows with replacement, in proportion to their weights; the rows that
    /// are left all weigh the same.
    pub(crate) fn new(
        rows: Labelled<'_>,
        encoder: &ColumnsEncoder,
        task: Task,
        rows_max: usize,
        seed: u64,
    ) -> Result<Self, FitError> {
        let chosen = choose(&usable_rows(rows, task), rows.weights, rows_max, seed);
        let weights = vec![1.0; chosen.len()];
        Self::of(rows, encoder, task, &chosen, weights)
    }

    /// The same for learners that honour weights themselves: of more than `rows_max` rows a sample, all equally likely,
    /// each with its weight.
    pub(crate) fn weighted(
        rows: Labelled<'_>,
        encoder: &ColumnsEncoder,
        task: Task,
        rows_max: usize,
        seed: u64,
    ) -> Result<Self, FitError> {
        let all = usable_rows(rows, task);
        let mut chosen = draw_without_replacement(&all, all.len().min(rows_max), &mut Pcg64::seed_from_u64(seed));
        chosen.sort_unstable();
        // Divided by the largest, the weights add up to something finite; equal ones are 1 exactly.
        let largest = chosen
            .iter()
            .map(|&row| rows.weights[row])
            .fold(f64::MIN_POSITIVE, f64::max);
        let sum: f64 = chosen.iter().map(|&row| rows.weights[row] / largest).sum();
        let mean = sum / chosen.len() as f64;
        let relative = chosen.iter().map(|&row| rows.weights[row] / largest / mean);
        let weights = relative.map(|weight| weight.clamp(1e-6, 1e6)).collect();
        Self::of(rows, encoder, task, &chosen, weights)
    }

    /// The chosen rows, which have these weights.
    fn of(
        rows: Labelled<'_>,
        encoder: &ColumnsEncoder,
        task: Task,
        chosen: &[usize],
        weights: Vec<f64>,
    ) -> Result<Self, FitError> {
        let values: Vec<f64> = chosen
            .iter()
            .map(|&row| rows.labels[row].clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX))
            .collect();
        let y: Vec<u32> = values.iter().map(|&label| label as u32).collect();
        labels_present(&y, task, rows.labels.len())?;
        let (mut encoder, mut x) = (encoder.clone(), Matrix::new());
        x.reset(chosen.len(), encoder.width());
        encoder.fit(rows.frame, chosen, rows.dictionaries, rows.labels, x.values_mut());
        Ok(Self {
            encoder,
            x,
            y,
            values,
            weights,
        })
    }
}

/// The rows that can be learned from.
fn usable_rows(rows: Labelled<'_>, task: Task) -> Vec<usize> {
    let pairs = rows.labels.iter().zip(rows.weights).take(rows.frame.rows()).enumerate();
    pairs
        .filter(|(_, (y, w))| usable(task, **y, **w))
        .map(|(row, _)| row)
        .collect()
}

/// Fails when there are no rows or a class is not among them.
fn labels_present(y: &[u32], task: Task, given: usize) -> Result<(), FitError> {
    let classes = match task {
        Task::Multiclass { classes } => classes,
        Task::Binary => 2,
        Task::Regression | Task::Anomaly => 0,
    };
    if y.is_empty() {
        return Err(FitError(format!(
            "none of {given} rows has a usable label and weight; wait for labelled rows"
        )));
    }
    let mut seen = vec![false; classes as usize];
    if classes > 0 {
        y.iter().for_each(|&class| seen[class as usize] = true);
    }
    match seen.iter().position(|&seen| !seen) {
        None => Ok(()),
        Some(missing) => Err(FitError(format!(
            "none of the {} usable rows has class {missing}; a model needs rows of every class",
            y.len()
        ))),
    }
}

/// At most `rows_max` of the rows, in their order: without replacement when all weigh the same, otherwise drawn with
/// replacement in proportion to their weights.
fn choose(all: &[usize], weights: &[f64], rows_max: usize, seed: u64) -> Vec<usize> {
    let mut random = Pcg64::seed_from_u64(seed);
    let count = all.len().min(rows_max);
    let first = all.first().map_or(1.0, |&row| weights[row]);
    let mut chosen = if all.iter().any(|&row| weights[row] != first) {
        draw_by_weight(all, weights, count, &mut random)
    } else if count < all.len() {
        draw_without_replacement(all, count, &mut random)
    } else {
        return all.to_vec();
    };
    chosen.sort_unstable();
    chosen
}

/// `count` different rows, all equally likely (the first steps of a Fisher–Yates shuffle).
fn draw_without_replacement(all: &[usize], count: usize, random: &mut Pcg64) -> Vec<usize> {
    let mut rows = all.to_vec();
    for place in 0..count {
        let other = place + below(random, rows.len() - place);
        rows.swap(place, other);
    }
    rows.truncate(count);
    rows
}

/// `count` rows, each drawn in proportion to its weight.
fn draw_by_weight(all: &[usize], weights: &[f64], count: usize, random: &mut Pcg64) -> Vec<usize> {
    // Divided by the largest, the weights add up to something finite.
    let largest = all.iter().map(|&row| weights[row]).fold(0.0, f64::max);
    let mut total = 0.0;
    let sums: Vec<f64> = all
        .iter()
        .map(|&row| {
            total += weights[row] / largest;
            total
        })
        .collect();
    let draw = |_| {
        let at = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        all[sums.partition_point(|&sum| sum <= at).min(all.len() - 1)]
    };
    (0..count).map(draw).collect()
}

/// A number below `bound`, which is above 0 (Lemire's multiplication; the bias is below `bound` / 2^64).
fn below(random: &mut Pcg64, bound: usize) -> usize {
    ((u128::from(random.next_u64()) * bound as u128) >> 64) as usize
}

/// The inputs as smartcore takes them, column by column: what its trees walk along.
pub(crate) fn dense(x: &Matrix) -> Result<DenseMatrix<f64>, smartcore::error::Failed> {
    let (rows, width) = (x.rows(), x.width());
    let column = |place: usize| x.values().iter().skip(place).step_by(width).copied();
    DenseMatrix::new(rows, width, (0..width).flat_map(column).collect(), true)
}

/// Runs a fit of a library that may give up by panicking on data that it cannot handle.
pub(crate) fn guarded<T, E: Display>(fit: impl FnOnce() -> Result<T, E>) -> Result<T, FitError> {
    match catch_unwind(AssertUnwindSafe(fit)) {
        Ok(result) => result.map_err(|failed| FitError(failed.to_string())),
        Err(_) => Err(FitError(
            "the fit did not converge on these rows; look for extreme or constant features".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_are_sampled_without_replacement_in_order() {
        let all: Vec<usize> = (0..100).map(|i| i * 2).collect();
        let chosen = choose(&all, &[3.0; 200], 30, 5);
        assert_eq!(chosen.len(), 30);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen.iter().all(|row| row % 2 == 0));
        assert_eq!(chosen, choose(&all, &[3.0; 200], 30, 5));
        assert_ne!(chosen, choose(&all, &[3.0; 200], 30, 6));
        assert_eq!(choose(&all, &[3.0; 200], 100, 5), all);
    }

    #[test]
    fn other_weights_are_drawn_in_proportion() {
        let all: Vec<usize> = (0..10_000).collect();
        let weights: Vec<f64> = all.iter().map(|i| if i % 2 == 0 { 3e300 } else { 1e300 }).collect();
        let heavy = choose(&all, &weights, 10_000, 1)
            .iter()
            .filter(|row| *row % 2 == 0)
            .count();
        assert!((7_300..7_700).contains(&heavy), "{heavy}");
    }

    #[test]
    fn impossible_labels_and_weights_are_left_out() {
        assert!(usable(Task::Binary, 1.0, 0.5));
        for (label, weight) in [
            (0.5, 1.0),
            (f64::NAN, 1.0),
            (1.0, 0.0),
            (1.0, f64::INFINITY),
            (0.0, f64::NAN),
        ] {
            assert!(!usable(Task::Binary, label, weight), "{label} {weight}");
        }
        assert!(usable(Task::Multiclass { classes: 3 }, 2.0, 1.0));
        assert!(!usable(Task::Multiclass { classes: 3 }, 3.0, 1.0));
        assert!(!usable(Task::Multiclass { classes: 3 }, -1.0, 1.0));
    }
}
