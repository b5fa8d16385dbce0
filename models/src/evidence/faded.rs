//! The fast gate: whether an online learner, which goes on learning by itself, may publish its next snapshot.
//!
//! A line of snapshots has passed the gate as a whole; what is asked of each further snapshot is only that the learner
//! has not gone astray since the last one (poisoned labels, a rate that is too high). So the prequential loss of the
//! learner is compared with that of the snapshot that serves, on the same rows, and the recent ones count most. Rows
//! are correlated, so the bound is no proof: a hold that is wrong costs freshness and nothing else.

use crate::codec::{CodecError, Put, Reader};

/// What a row counts for less than the one after it.
const FADE: f64 = 0.999;
/// Standard errors by which the learner must be worse before it is held back.
const ERRORS: f64 = 4.0;
/// Effective rows below which nothing is said against it.
const ROWS_MIN: f64 = 100.0;

/// Faded paired differences of loss, and outputs of the learner that were not finite.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faded {
    weight: f64,
    squared_weight: f64,
    sum: f64,
    squares: f64,
    not_finite: u64,
}

impl Faded {
    /// No row.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a row: the loss of the snapshot that serves and that of the learner just before it learned from the row.
    pub fn push(&mut self, serving: f64, learner: f64) {
        if !learner.is_finite() {
            self.not_finite += 1;
            return;
        }
        if !serving.is_finite() {
            return;
        }
        let gain = serving - learner;
        self.weight = self.weight * FADE + 1.0;
        self.squared_weight = self.squared_weight * FADE * FADE + 1.0;
        self.sum = self.sum * FADE + gain;
        self.squares = self.squares * FADE + gain * gain;
    }

    /// Mean gain of the learner over the snapshot that serves, and its standard error as if rows were independent;
    /// `None` before the first row.
    #[must_use]
    pub fn gain(&self) -> Option<(f64, f64)> {
        if self.weight == 0.0 {
            return None;
        }
        let mean = self.sum / self.weight;
        let variance = (self.squares / self.weight - mean * mean).max(0.0);
        Some((mean, (variance / self.rows()).sqrt()))
    }

    /// Effective number of rows.
    fn rows(&self) -> f64 {
        if self.squared_weight == 0.0 {
            return 0.0;
        }
        self.weight * self.weight / self.squared_weight
    }

    /// Why the next snapshot is held back, in a sentence; `None` when it may go out.
    #[must_use]
    pub fn held_back(&self) -> Option<String> {
        if self.not_finite > 0 {
            return Some(format!(
                "the learner gave {} outputs that are not finite since its last snapshot",
                self.not_finite
            ));
        }
        let (gain, error) = self.gain()?;
        let is_worse = self.rows() >= ROWS_MIN && gain < 0.0 && gain + ERRORS * error < 0.0;
        is_worse.then(|| {
            format!(
                "the learner's loss is {:.3e} above that of the snapshot that serves (standard error {error:.1e}, {:.0} \
                 rows)",
                -gain,
                self.rows()
            )
        })
    }

    /// Another snapshot serves: what was said about the one before says nothing about it.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Appends the sums.
    pub fn write(&self, out: &mut Vec<u8>) {
        for value in [self.weight, self.squared_weight, self.sum, self.squares] {
            out.put_f64(value);
        }
        out.put_u64(self.not_finite);
    }

    /// Reads what [`Faded::write`] wrote.
    ///
    /// # Errors
    /// Numbers that are not finite, or too few bytes.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            weight: reader.finite()?,
            squared_weight: reader.finite()?,
            sum: reader.finite()?,
            squares: reader.finite()?,
            not_finite: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    fn after(rows: usize, gain: f64, seed: u64) -> Faded {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut faded = Faded::new();
        for _ in 0..rows {
            let serving = random.random::<f64>() * 0.2;
            faded.push(serving, serving - gain + (random.random::<f64>() - 0.5) * 0.1);
        }
        faded
    }

    #[test]
    fn a_learner_that_is_as_good_or_better_is_not_held_back() {
        for seed in 0..200 {
            assert_eq!(after(5_000, 0.0, seed).held_back(), None, "seed {seed}");
            assert_eq!(after(5_000, 0.02, seed).held_back(), None, "seed {seed}");
        }
    }

    #[test]
    fn one_that_goes_astray_is_held_back_and_let_go_again() {
        let mut faded = after(2_000, -0.02, 7);
        let why = faded.held_back().unwrap();
        assert!(why.contains("above that of the snapshot"), "{why}");
        for _ in 0..5_000 {
            faded.push(0.1, 0.09);
        }
        assert_eq!(faded.held_back(), None);
    }

    #[test]
    fn few_rows_say_nothing_and_an_output_that_is_not_finite_says_all() {
        assert_eq!(Faded::new().held_back(), None);
        assert_eq!(after(50, -0.2, 1).held_back(), None);
        let mut faded = after(50, 0.2, 1);
        faded.push(0.1, f64::NAN);
        assert!(faded.held_back().unwrap().contains("not finite"));
        faded.begin_anew();
        assert_eq!(faded.held_back(), None);
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let faded = after(333, 0.01, 3);
        let mut bytes = Vec::new();
        faded.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Faded::read(&mut reader).unwrap(), faded);
        for cut in 0..bytes.len() {
            assert!(Faded::read(&mut Reader::new(&bytes[..cut])).is_err());
        }
    }
}
