//! `linear`: weighted sums of the inputs, as they are or through the logistic or softmax function.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Scorer, Task};
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "linear";

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The sum is the score (regression).
    Identity,
    /// The logistic function of the sum is the probability of class 1.
    Logistic,
    /// The softmax of the sums are the probabilities of the classes.
    Softmax,
}

/// Weights and intercepts for each output.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    link: Link,
    /// `outputs * width`, output by output.
    weights: Vec<f64>,
    /// One for each output.
    intercepts: Vec<f64>,
}

/// The logistic function.
#[inline]
#[must_use]
pub fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The sum of products, in order: leaving out products that are 0 does not change a bit of it, and neither does
/// [`dot_4`].
#[inline]
pub(crate) fn dot(weights: &[f64], row: &[f64]) -> f64 {
    weights.iter().zip(row).fold(0.0, |sum, (weight, x)| sum + weight * x)
}

/// Four [`dot`]s at once: each waits for its last addition, together they do not.
#[inline]
fn dot_4(weights: &[f64], rows: &[f64]) -> [f64; 4] {
    let width = weights.len();
    let (a, rest) = rows.split_at(width);
    let (b, rest) = rest.split_at(width);
    let (c, d) = rest.split_at(width);
    let mut sums = [0.0; 4];
    for ((((weight, a), b), c), d) in weights.iter().zip(a).zip(b).zip(c).zip(d) {
        sums[0] += weight * a;
        sums[1] += weight * b;
        sums[2] += weight * c;
        sums[3] += weight * d;
    }
    sums
}

/// Turns sums into probabilities that add up to 1.
pub(crate) fn softmax(sums: &mut [f64]) {
    let max = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    sums.iter_mut().for_each(|sum| *sum = (*sum - max).exp());
    let total: f64 = sums.iter().sum();
    sums.iter_mut().for_each(|sum| *sum /= total);
}

impl Linear {
    /// One output: the value, or the probability of class 1.
    #[must_use]
    pub fn single(link: Link, weights: Vec<f64>, intercept: f64) -> Self {
        Self {
            link,
            weights,
            intercepts: vec![intercept],
        }
    }

    /// The probabilities of `intercepts.len()` classes; `weights` are those of the first class, then of the second…
    #[must_use]
    pub fn softmax(weights: Vec<f64>, intercepts: Vec<f64>) -> Self {
        Self {
            link: Link::Softmax,
            weights,
            intercepts,
        }
    }

    /// The link that fits a task.
    #[must_use]
    pub fn link(task: Task) -> Link {
        match task {
            Task::Binary | Task::Anomaly => Link::Logistic,
            Task::Multiclass { .. } => Link::Softmax,
            Task::Regression => Link::Identity,
        }
    }

    /// Scores with one output.
    fn score_single(&self, x: &Matrix, out: &mut Vec<f64>) {
        let intercept = self.intercepts.first().copied().unwrap_or_default();
        let start = out.len();
        if self.weights.is_empty() {
            out.resize(start + x.rows(), intercept);
        } else {
            let blocks = x.values().chunks_exact(4 * self.weights.len());
            let rest = blocks.remainder().chunks_exact(self.weights.len());
            out.extend(
                blocks
                    .flat_map(|rows| dot_4(&self.weights, rows))
                    .map(|sum| sum + intercept),
            );
            out.extend(rest.map(|row| dot(&self.weights, row) + intercept));
        }
        if self.link == Link::Logistic {
            out[start..].iter_mut().for_each(|sum| *sum = logistic(*sum));
        }
    }

    /// Scores with an output for each class.
    fn score_classes(&self, x: &Matrix, out: &mut Vec<f64>) {
        let width = self.width();
        for row in x.iter() {
            let start = out.len();
            let classes = self.intercepts.iter().enumerate();
            out.extend(classes.map(|(class, intercept)| {
                dot(
                    self.weights.get(class * width..(class + 1) * width).unwrap_or_default(),
                    row,
                ) + intercept
            }));
            softmax(&mut out[start..]);
        }
    }
}

impl Scorer for Linear {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.weights.len() / self.intercepts.len().max(1)
    }

    fn outputs(&self) -> usize {
        self.intercepts.len()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        match self.link {
            Link::Identity | Link::Logistic => self.score_single(x, out),
            Link::Softmax => self.score_classes(x, out),
        }
    }

    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        let width = self.width();
        for row in x.iter() {
            for (output, intercept) in self.intercepts.iter().enumerate() {
                let weights = self
                    .weights
                    .get(output * width..(output + 1) * width)
                    .unwrap_or_default();
                out.extend(weights.iter().zip(row).map(|(weight, x)| weight * x));
                out.push(*intercept);
            }
        }
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.link {
            Link::Identity => 0,
            Link::Logistic => 1,
            Link::Softmax => 2,
        });
        out.put_f64s(&self.intercepts);
        out.put_f64s(&self.weights);
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + (self.weights.len() + self.intercepts.len()) * size_of::<f64>()
    }
}

/// Three classes over two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    let weights = vec![0.5, -1.0, 0.0, 2.0, -0.25, 0.75];
    Arc::new(Linear::softmax(weights, vec![0.1, 0.0, -0.1]))
}

/// Reads what the scorer wrote.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let link = match reader.u8()? {
        0 => Link::Identity,
        1 => Link::Logistic,
        2 => Link::Softmax,
        other => return Err(reader.error(format!("{other} is not a link"))),
    };
    let (intercepts, weights) = (reader.f64s()?, reader.f64s()?);
    let outputs = intercepts.len();
    let fits = if link == Link::Softmax {
        outputs >= 2
    } else {
        outputs == 1
    };
    if !fits || !weights.len().is_multiple_of(outputs) {
        return Err(reader.error(format!("{} weights for {outputs} outputs do not fit", weights.len())));
    }
    Ok(Arc::new(Linear {
        link,
        weights,
        intercepts,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, width: usize) -> Matrix {
        let mut x = Matrix::new();
        x.reset(rows, width);
        for (place, value) in x.values_mut().iter_mut().enumerate() {
            *value = ((place * 7919) % 101) as f64 / 37.0 - 1.3;
        }
        x
    }

    #[test]
    fn rows_in_blocks_score_as_rows_alone() {
        for rows in [0, 1, 3, 4, 5, 11] {
            let x = matrix(rows, 3);
            let linear = Linear::single(Link::Logistic, vec![0.3, -0.7, 1.1], 0.2);
            let mut scores = Vec::new();
            linear.score(&x, &mut scores);
            let alone: Vec<f64> = x.iter().map(|r| logistic(dot(&[0.3, -0.7, 1.1], r) + 0.2)).collect();
            assert_eq!(scores, alone);
        }
    }

    #[test]
    fn no_inputs_leave_the_intercept() {
        let mut scores = Vec::new();
        Linear::single(Link::Identity, vec![], 2.5).score(&matrix(3, 0), &mut scores);
        assert_eq!(scores, [2.5, 2.5, 2.5]);
    }

    #[test]
    fn softmax_adds_up_and_does_not_overflow() {
        let linear = Linear::softmax(vec![1e300, -1e300, 0.0], vec![0.0, 1.0, 2.0]);
        let mut scores = Vec::new();
        linear.score(&matrix(2, 1), &mut scores);
        assert_eq!(scores.len(), 6);
        assert!(scores.iter().all(|p| p.is_finite()) && (scores[..3].iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
