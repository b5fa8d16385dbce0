//! What a leaf knows of its numbers, class by class: Gaussians, and the smallest and largest value.
//!
//! For each class a record of six rows of numbers, one for each input: mean, scale, count, squares, low, high. `scale`
//! is `1 / (2 variance)`, which is all that a density needs besides the mean; of the last four only learning knows, and
//! a published artifact leaves them out.

use std::f64::consts::{LN_2, PI};

/// Rows of numbers in the record of a class while it is learned, and in an artifact.
pub(crate) const ROWS: usize = 6;
pub(crate) const ROWS_PUBLISHED: usize = 2;

/// The scale of a class that has only ever seen one value. Its share in a probability is 1 for that value, so that a
/// number that is constant in all classes has no say.
pub(crate) const SCALE_MAX: f64 = 1e200;
/// What one input may take from the logarithm of a class's probability, at most: the smallest that a double can say.
/// An input that a class has never had takes as much.
pub(crate) const EVIDENCE_MAX: f64 = 700.0;

/// The record of a class that has seen nothing.
pub(crate) fn clear(record: &mut [f64]) {
    let width = record.len() / ROWS;
    record.fill(0.0);
    record[4 * width..5 * width].fill(f64::INFINITY);
    record[5 * width..].fill(f64::NEG_INFINITY);
}

/// Counts a row of weight `weight` (Welford's update with weights; West, CACM 1979). Missing values are left out. Scales
/// are brought up to date by [`rescale`].
#[inline]
pub(crate) fn observe(record: &mut [f64], row: &[f64], weight: f64) {
    let width = row.len();
    let (mean, rest) = record.split_at_mut(width);
    let (count, rest) = rest[width..].split_at_mut(width);
    let (squares, rest) = rest.split_at_mut(width);
    let (low, high) = rest.split_at_mut(width);
    let high = &mut high[..width];
    if is_missing_any(row) {
        for i in (0..width).filter(|&i| !row[i].is_nan()) {
            moments(row[i], weight, &mut mean[i], &mut count[i], &mut squares[i]);
            (low[i], high[i]) = (lower(row[i], low[i]), higher(row[i], high[i]));
        }
        return;
    }
    // Loops without a branch for each number: several are done at once.
    for i in 0..width {
        moments(row[i], weight, &mut mean[i], &mut count[i], &mut squares[i]);
    }
    for i in 0..width {
        low[i] = lower(row[i], low[i]);
        high[i] = higher(row[i], high[i]);
    }
}

#[inline(always)]
fn moments(x: f64, weight: f64, mean: &mut f64, count: &mut f64, squares: &mut f64) {
    let distance = x - *mean;
    *count += weight;
    *mean += weight / *count * distance;
    *squares += weight * distance * (x - *mean);
}

#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline(always)]
fn higher(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// Whether a value of a row is missing.
#[inline]
pub(crate) fn is_missing_any(row: &[f64]) -> bool {
    row.iter().fold(false, |any, x| any | x.is_nan())
}

/// The scale of so many values whose squared distances from their mean add up to `squares`.
#[inline]
pub(crate) fn scale_of(count: f64, squares: f64) -> f64 {
    let sharp = (count - 1.0) / (squares + squares);
    let usual = (count > 1.0) & (squares > 0.0) & (sharp < SCALE_MAX);
    let never = count <= 0.0;
    if usual {
        sharp
    } else if never {
        0.0
    } else {
        SCALE_MAX
    }
}

/// Brings the scales of a class up to date.
#[inline]
pub(crate) fn rescale(record: &mut [f64]) {
    let width = record.len() / ROWS;
    let (scale, rest) = record[width..].split_at_mut(width);
    let (count, rest) = rest.split_at(width);
    let squares = &rest[..width];
    for i in 0..width {
        scale[i] = scale_of(count[i], squares[i]);
    }
}

/// A product of any number of factors above 0, as mantissa and exponent: one logarithm for all of them.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    mantissa: f64,
    exponent: i64,
}

impl Product {
    pub(crate) const ONE: Self = Self {
        mantissa: 1.0,
        exponent: 0,
    };

    /// Takes the exponent out of the mantissa.
    #[inline]
    fn normalise(&mut self) {
        let bits = self.mantissa.to_bits();
        self.exponent += (bits >> 52) as i64 - 1023;
        self.mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    }

    /// Times `factor`, a normal number above 0.
    #[inline]
    pub(crate) fn times(&mut self, factor: f64) {
        let bits = factor.to_bits();
        self.exponent += (bits >> 52) as i64 - 1023;
        self.mantissa *= f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
        if self.mantissa > 1e250 {
            self.normalise();
        }
    }

    #[inline]
    pub(crate) fn ln(self) -> f64 {
        self.mantissa.ln() + self.exponent as f64 * LN_2
    }
}

/// What the densities of a class have in common for all rows without missing values: the logarithm of
/// `prior * Π sqrt(scale / π)`.
#[inline]
pub(crate) fn constant(scales: &[f64], prior: f64) -> f64 {
    let mut product = Product::ONE;
    let (mut densities, mut never) = (0_u32, 0_u32);
    for &scale in scales {
        let usual = (scale > 0.0) & (scale < SCALE_MAX);
        product.times(if usual { scale } else { 1.0 });
        densities += u32::from(usual);
        never += u32::from(scale <= 0.0);
    }
    let prior = prior.max(1e-100);
    product.times(prior * prior);
    0.5 * (product.ln() - f64::from(densities) * PI.ln()) - f64::from(never) * EVIDENCE_MAX
}

/// What the values of a row take from the logarithm of a class's probability. No value may be missing.
#[inline]
pub(crate) fn evidence(mean: &[f64], scale: &[f64], row: &[f64]) -> f64 {
    let one = |m: f64, s: f64, x: f64| {
        let d = x - m;
        let taken = d * d * s;
        if taken < EVIDENCE_MAX { taken } else { EVIDENCE_MAX }
    };
    let (mut even, mut odd) = (0.0, 0.0);
    let (mean, scale) = (&mean[..row.len()], &scale[..row.len()]);
    let mut i = 0;
    while i + 1 < row.len() {
        even += one(mean[i], scale[i], row[i]);
        odd += one(mean[i + 1], scale[i + 1], row[i + 1]);
        i += 2;
    }
    if i < row.len() {
        even += one(mean[i], scale[i], row[i]);
    }
    even + odd
}

/// The logarithm of `prior` and of the densities of the values that are there.
pub(crate) fn evidence_with_missing(mean: &[f64], scale: &[f64], row: &[f64], prior: f64) -> f64 {
    let mut product = Product::ONE;
    let mut sum = 0.0;
    for ((&m, &s), &x) in mean.iter().zip(scale).zip(row).filter(|(_, x)| !x.is_nan()) {
        sum -= ((x - m) * (x - m) * s).min(EVIDENCE_MAX);
        if s <= 0.0 {
            sum -= EVIDENCE_MAX;
        } else if s < SCALE_MAX {
            product.times(s / PI);
        }
    }
    let prior = prior.max(1e-100);
    product.times(prior * prior);
    sum + 0.5 * product.ln()
}

/// The share of a normal distribution below `mean + x / sqrt(scale)`, to 2e-7 (Abramowitz and Stegun 7.1.26).
#[inline]
pub(crate) fn share_below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let sum =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * sum * (-x * x).exp();
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_variances_are_those_of_the_values() {
        let mut record = vec![0.0; ROWS * 2];
        clear(&mut record);
        for (x, weight) in [(1.0, 1.0), (4.0, 2.0), (7.0, 1.0)] {
            observe(&mut record, &[x, f64::NAN], weight);
        }
        rescale(&mut record);
        // As if 4 had come twice: mean 4, sum of squares 18, variance 6.
        assert_eq!(record[0], 4.0);
        assert!((record[2] - 1.0 / 12.0).abs() < 1e-15);
        assert_eq!((record[4], record[6], record[8], record[10]), (4.0, 18.0, 1.0, 7.0));
        assert_eq!(
            (record[1], record[3], record[5]),
            (0.0, 0.0, 0.0),
            "nothing is known of the other"
        );
    }

    #[test]
    fn a_constant_is_taken_for_certain_and_has_no_say_where_it_comes() {
        let mut record = vec![0.0; ROWS];
        clear(&mut record);
        for weight in [0.1, 2.5, 1.7] {
            observe(&mut record, &[7.3], weight);
        }
        rescale(&mut record);
        assert_eq!((record[0], record[1]), (7.3, SCALE_MAX));
        assert_eq!(constant(&record[1..2], 1.0), 0.0);
        assert_eq!(evidence(&record[..1], &record[1..2], &[7.3]), 0.0);
        assert_eq!(evidence(&record[..1], &record[1..2], &[7.4]), EVIDENCE_MAX);
    }

    #[test]
    fn densities_are_those_of_scipy() {
        // scipy.stats.norm.logpdf(1.5, 1, 2) + norm.logpdf(-3, -2, 0.5) + log(0.25)
        let (mean, scale) = ([1.0, -2.0], [1.0 / 8.0, 2.0]);
        let expected = -1.643_335_713_764_618 - 2.225_791_352_644_727_4 - 1.386_294_361_119_890_6;
        let found = constant(&scale, 0.25) - evidence(&mean, &scale, &[1.5, -3.0]);
        assert!((found - expected).abs() < 1e-12, "{found}");
        let found = evidence_with_missing(&mean, &scale, &[1.5, -3.0], 0.25);
        assert!((found - expected).abs() < 1e-12, "{found}");
        let without = evidence_with_missing(&mean, &scale, &[1.5, f64::NAN], 0.25);
        assert!(
            (without - expected - 2.225_791_352_644_727_4).abs() < 1e-12,
            "{without}"
        );
    }

    #[test]
    fn a_product_of_many_factors_does_not_overflow() {
        let mut product = Product::ONE;
        for place in 0..10_000 {
            product.times(if place % 3 == 0 { 1e190 } else { 1e-90 });
        }
        let expected = 3_334.0 * 190.0 * 10_f64.ln() - 6_666.0 * 90.0 * 10_f64.ln();
        assert!((product.ln() / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn shares_are_those_of_scipy() {
        // scipy.stats.norm.cdf of z; the argument is z / sqrt(2).
        for (z, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.96, 0.024_997_895_148_220_435),
            (3.0, 0.998_650_101_968_369_9),
            (-40.0, 0.0),
        ] {
            let found = share_below(z / 2_f64.sqrt());
            assert!((found - share).abs() < 2e-7, "{z}: {found}");
        }
    }
}
