//! `pool`: the weighted mean of members' scores, what a team's model ends with.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "pool";

/// One weight for each member, which all give the same number of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// At least one, none negative, of sum 1.
    weights: Vec<f64>,
    outputs: usize,
}

impl Pool {
    /// Members of these weights, whose sum need not be 1, with `outputs` scores each.
    ///
    /// # Errors
    /// No member or no score; a weight that is negative or not finite; nothing but zeros.
    pub fn new(mut weights: Vec<f64>, outputs: usize) -> Result<Self, String> {
        let total: f64 = weights.iter().sum();
        let usable = weights.iter().all(|weight| *weight >= 0.0) && total > 0.0 && total.is_finite();
        if !usable || outputs == 0 {
            return Err("weights of members are at least 0, and one is above".to_owned());
        }
        weights.iter_mut().for_each(|weight| *weight /= total);
        Ok(Self { weights, outputs })
    }
}

impl Scorer for Pool {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.weights.len() * self.outputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        for row in x.iter() {
            out.extend((0..self.outputs).map(|output| {
                let scores = row.iter().skip(output).step_by(self.outputs);
                let mean = self.weights.iter().zip(scores).fold(0.0, |sum, (w, p)| sum + w * p);
                // Rounding must not lift a mean of probabilities above them all.
                let scores = row.iter().skip(output).step_by(self.outputs).copied();
                mean.min(scores.fold(f64::NEG_INFINITY, f64::max))
            }));
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.outputs as u64);
        out.put_f64s(&self.weights);
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.weights.len() * 8
    }
}

/// Reads what a pool wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let outputs = reader.u64()?;
    let weights = reader.f64s()?;
    let sum: f64 = weights.iter().sum();
    let usable = weights.iter().all(|weight| *weight >= 0.0) && (sum - 1.0).abs() < 1e-9;
    match usize::try_from(outputs) {
        Ok(outputs @ 1..=65_536) if usable => Ok(Arc::new(Pool { weights, outputs })),
        _ => Err(reader.error("these are no weights of members")),
    }
}

/// Three members on two classes.
pub(super) fn example() -> Arc<dyn Scorer> {
    Arc::new(Pool {
        weights: vec![0.5, 0.25, 0.25],
        outputs: 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_weighted_means() {
        let pool = Pool::new(vec![3.0, 1.0], 2).unwrap();
        let mut x = Matrix::new();
        x.reset(1, 4);
        x.values_mut().copy_from_slice(&[0.2, 0.8, 0.6, 0.4]);
        let mut out = Vec::new();
        pool.score(&x, &mut out);
        assert!((out[0] - 0.3).abs() < 1e-15 && (out[1] - 0.7).abs() < 1e-15, "{out:?}");
        assert!(Pool::new(vec![], 1).is_err() && Pool::new(vec![0.0], 1).is_err());
        assert!(Pool::new(vec![-1.0, 2.0], 1).is_err() && Pool::new(vec![f64::NAN], 1).is_err());
    }
}
