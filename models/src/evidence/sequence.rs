//! An anytime-valid confidence sequence for the mean of time-block means.
//!
//! The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv 2103.06476: a
//! Gaussian mixture over effects, one-sided) with the two corrections that few and weakly dependent blocks
//! need: Student's mixture instead of Gauss's, which is exact for normal blocks of unknown variance at any
//! number of them (Lai 1976; Wang and Ramdas, arXiv 2310.03722) and tends to the asymptotic one; and a variance
//! inflated by the autocorrelation of up to [`LAGS`] blocks, with the flat-topped weights of Politis and Romano
//! (1995). Why this one and
//! not betting: `docs/adr/0003-gate-confidence-sequence.md`.
//!
//! It may be looked at after every block and acted upon at any time.

use crate::codec::{CodecError, Put, Reader};

/// Neighbouring blocks whose correlation is accounted for.
pub const LAGS: usize = 4;
/// Their weights.
const WEIGHTS: [f64; LAGS] = [1.0, 1.0, 2.0 / 3.0, 1.0 / 3.0];
/// Variance of the mixture over standardised effects: bounds are tightest near 8 / 0.16 = 50 blocks.
const MIXTURE: f64 = 0.16;
/// Blocks below which no correlation is estimated: the estimate would be noise.
const CORRELATION_BLOCKS_MIN: u64 = 10;

/// A lower and an upper bound of the mean; each alone holds at all times with probability 1 − alpha.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bounds {
    /// Lower bound; −1 as long as nothing is known.
    pub low: f64,
    /// Mean of the blocks.
    pub mean: f64,
    /// Upper bound; 1 as long as nothing is known.
    pub high: f64,
    /// Blocks.
    pub blocks: u64,
}

/// Sufficient statistics of the blocks so far: a fixed number of sums.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sequence {
    blocks: u64,
    mean: f64,
    squares: f64,
    /// Value of the first block: products are taken of differences from it, so that they do not cancel.
    origin: f64,
    sum: f64,
    products: [f64; LAGS],
    first: [f64; LAGS],
    /// The last values, the newest in front.
    last: [f64; LAGS],
}

impl Sequence {
    /// No block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Takes the next block's mean, in [−1, 1]; what lies outside is clipped, what is not finite is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let value = value.clamp(-1.0, 1.0);
        if self.blocks == 0 {
            self.origin = value;
        }
        let centred = value - self.origin;
        for (product, before) in self.products.iter_mut().zip(self.last) {
            *product += centred * before;
        }
        if let Some(slot) = usize::try_from(self.blocks).ok().and_then(|i| self.first.get_mut(i)) {
            *slot = centred;
        }
        self.last.rotate_right(1);
        self.last[0] = centred;
        self.sum += centred;
        self.blocks += 1;
        let distance = value - self.mean;
        self.mean += distance / self.blocks as f64;
        self.squares += distance * (value - self.mean);
    }

    /// The bounds at error `alpha` each.
    #[must_use]
    pub fn bounds(&self, alpha: f64) -> Bounds {
        let radius = self.radius(alpha);
        Bounds {
            low: (self.mean - radius).max(-1.0),
            mean: self.mean,
            high: (self.mean + radius).min(1.0),
            blocks: self.blocks,
        }
    }

    /// Half the width: where Student's mixture of both signs reaches (1/alpha + 1)/2. The half of the mixture
    /// that lies on the wrong side is at most 1 there, so the half on the right side is at least 1/alpha.
    fn radius(&self, alpha: f64) -> f64 {
        if self.blocks < 2 {
            return f64::INFINITY;
        }
        let n = self.blocks as f64;
        let freedom = n - 1.0;
        let evidence = f64::midpoint(1.0 / alpha, 1.0);
        let growth = 1.0 + n * MIXTURE;
        let ratio = (2.0 / n * (evidence.ln() + 0.5 * growth.ln())).exp();
        if ratio >= growth {
            return f64::INFINITY;
        }
        let scaled = (ratio - 1.0) / (1.0 - ratio / growth);
        let variance = self.squares / freedom * self.inflation();
        // Equal blocks carry no evidence of their spread: rounding must not become certainty.
        (variance.max(f64::EPSILON) * freedom * scaled / n).sqrt()
    }

    /// Long-run variance over variance, at least 1. Each estimated correlation is raised
    /// by `1/blocks`, by which it is too low because the mean is estimated too.
    fn inflation(&self) -> f64 {
        if self.blocks < CORRELATION_BLOCKS_MIN || self.squares <= 0.0 {
            return 1.0;
        }
        let mean = self.sum / self.blocks as f64;
        let (mut head, mut tail, mut inflation) = (0.0, 0.0, 1.0);
        for lag in 1..=LAGS {
            head += self.first[lag - 1];
            tail += self.last[lag - 1];
            let pairs = self.blocks as f64 - lag as f64;
            let covariance = self.products[lag - 1] - mean * (2.0 * self.sum - head - tail) + pairs * mean * mean;
            inflation += 2.0 * WEIGHTS[lag - 1] * (covariance / self.squares + 1.0 / self.blocks as f64);
        }
        inflation.max(1.0)
    }

    /// Appends all of it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.blocks);
        for value in [self.mean, self.squares, self.origin, self.sum] {
            out.put_f64(value);
        }
        for value in self.products.iter().chain(&self.first).chain(&self.last) {
            out.put_f64(*value);
        }
    }

    /// Reads what [`Sequence::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut sequence = Self {
            blocks: reader.u64()?,
            ..Self::default()
        };
        for slot in [
            &mut sequence.mean,
            &mut sequence.squares,
            &mut sequence.origin,
            &mut sequence.sum,
        ] {
            *slot = reader.finite()?;
        }
        for slot in sequence
            .products
            .iter_mut()
            .chain(&mut sequence.first)
            .chain(&mut sequence.last)
        {
            *slot = reader.finite()?;
        }
        Ok(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_from_one_block_and_the_bounds_close_in() {
        let mut sequence = Sequence::new();
        let bounds = sequence.bounds(0.05);
        assert_eq!((bounds.low, bounds.high, bounds.blocks), (-1.0, 1.0, 0));
        sequence.push(0.5);
        assert_eq!(sequence.bounds(0.05).low, -1.0);
        let mut width = f64::INFINITY;
        for n in 1..=4 {
            for i in 0..100 {
                sequence.push(if (i + n) % 2 == 0 { 0.1 } else { -0.1 });
            }
            let bounds = sequence.bounds(0.05);
            assert!(bounds.high - bounds.low < width);
            width = bounds.high - bounds.low;
        }
    }

    /// One pass over sums gives what two passes over the values give.
    #[test]
    fn inflation_equals_the_definition() {
        let values = [0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.3, 0.2, 0.4, 0.1, 0.0, 0.2];
        let mut sequence = Sequence::new();
        values.iter().for_each(|&v| sequence.push(v));
        let mean = values.iter().sum::<f64>() / 12.0;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let expected: f64 = 1.0
            + (1..=LAGS)
                .map(|lag| {
                    let covariance: f64 = (lag..12).map(|i| (values[i] - mean) * (values[i - lag] - mean)).sum();
                    2.0 * [1.0, 1.0, 2.0 / 3.0, 1.0 / 3.0][lag - 1] * (covariance / squares + 1.0 / 12.0)
                })
                .sum::<f64>();
        assert!(
            (sequence.inflation() - expected).abs() < 1e-12,
            "{} {expected}",
            sequence.inflation()
        );
        assert!(expected > 1.2);
    }

    #[test]
    fn equal_blocks_and_values_outside_do_no_harm() {
        let mut sequence = Sequence::new();
        for _ in 0..100 {
            sequence.push(0.01);
            sequence.push(f64::NAN);
        }
        let bounds = sequence.bounds(0.05);
        assert_eq!(bounds.blocks, 100);
        assert!(bounds.low > 0.009 && bounds.low < 0.01, "{bounds:?}");
        sequence.push(7.0);
        assert!(sequence.bounds(0.05).mean < 0.02);
    }
}
