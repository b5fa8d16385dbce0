//! `constant`: the same scores for every row, what a baseline publishes.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "constant";

/// Looks at no input.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    width: usize,
    scores: Vec<f64>,
}

impl Constant {
    /// Rows of `width` inputs have these scores, at least one.
    #[must_use]
    pub fn new(width: usize, scores: Vec<f64>) -> Self {
        Self { width, scores }
    }
}

impl Scorer for Constant {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        self.scores.len()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        (0..x.rows()).for_each(|_| out.extend_from_slice(&self.scores));
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.width as u64);
        out.put_f64s(&self.scores);
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.scores.len() * size_of::<f64>()
    }
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let (width, scores) = (reader.u64()?, reader.f64s()?);
    match usize::try_from(width) {
        Ok(width) if width <= WIDTH_MAX && !scores.is_empty() => Ok(Arc::new(Constant { width, scores })),
        _ => Err(reader.error("these are no constant scores")),
    }
}

/// Three classes over two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    Arc::new(Constant::new(2, vec![0.5, 0.375, 0.125]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_scores_alike_also_one_without_inputs() {
        let mut x = Matrix::new();
        x.reset(2, 0);
        let mut out = vec![1.0];
        Constant::new(0, vec![0.25]).score(&x, &mut out);
        assert_eq!(out, [1.0, 0.25, 0.25]);
    }
}
