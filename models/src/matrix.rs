//! Encoded rows: a dense, row-major matrix whose buffer is used again.

/// `rows * width` numbers, row by row, in double precision: smartcore fits in it, and a score must be the same
/// whether it was computed by the learner, by the published model or by the model read back from its artifact.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    rows: usize,
    width: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// An empty matrix.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it `rows` by `width` zeros, keeping its memory.
    pub fn reset(&mut self, rows: usize, width: usize) {
        self.rows = rows;
        self.width = width;
        self.values.clear();
        self.values.resize(rows * width, 0.0);
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// All numbers, row by row.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All numbers, to be written.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The rows in order, also when they have no numbers.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.rows).map(|row| {
            self.values
                .get(row * self.width..(row + 1) * self.width)
                .unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_matrix_holds_zeros() {
        let mut matrix = Matrix::new();
        matrix.reset(2, 2);
        matrix.values_mut().copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(matrix.iter().collect::<Vec<_>>(), vec![&[1.0, 2.0][..], &[3.0, 4.0]]);
        matrix.reset(3, 1);
        assert_eq!(
            (matrix.rows(), matrix.width(), matrix.values()),
            (3, 1, &[0.0, 0.0, 0.0][..])
        );
        matrix.reset(2, 0);
        assert_eq!(matrix.iter().count(), 2);
    }
}
