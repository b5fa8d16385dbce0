//! Tests on shares of rows: of missing values, and of categories.
//!
//! Tails of the normal distribution are replaced by the bound `exp(−z²/2)`, which is never too small; correlation
//! of rows in time enters by the batch-means estimate of the design effect.

use super::ks::effective;

/// A test on shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareTest {
    /// The statistic.
    pub statistic: f64,
    /// Bound on its probability without a change.
    pub p_value: f64,
    /// Change: the difference of two shares with its sign, or the share of rows that moved to another category.
    pub effect: f64,
    /// The statistic at which the p-value is the rate asked for.
    pub threshold: f64,
}

/// The z whose bound is `rate`.
fn z_at(rate: f64) -> f64 {
    (-2.0 * rate.min(1.0).ln()).sqrt()
}

/// Compares `count` of `rows` (before) with `count_now` of `rows_now` (now). The statistic is the absolute
/// difference of the shares.
#[must_use]
pub fn difference(before: (u64, usize), now: (u64, usize), inflation: f64, rate: f64) -> ShareTest {
    let share = |(count, rows): (u64, usize)| count as f64 / rows.max(1) as f64;
    let effect = share(now) - share(before);
    let pooled = (before.0 + now.0) as f64 / (before.1 + now.1).max(1) as f64;
    let deviation = (pooled * (1.0 - pooled) * inflation / effective(before.1.max(1), now.1.max(1))).sqrt();
    let p_value = if deviation > 0.0 {
        (-0.5 * (effect / deviation).powi(2)).exp()
    } else {
        1.0
    };
    ShareTest {
        statistic: effect.abs(),
        p_value,
        effect,
        threshold: z_at(rate) * deviation,
    }
}

/// Compares two lists of counts by category with the chi-squared test of homogeneity; categories of fewer than
/// five expected rows are one. The p-value is by Wilson and Hilferty (1931); the effect is the total variation
/// distance, the share of rows that would have to change their category.
#[must_use]
pub fn categories(before: &[u64], now: &[u64], inflation: f64, rate: f64) -> ShareTest {
    let (rows, rows_now) = (before.iter().sum::<u64>() as f64, now.iter().sum::<u64>() as f64);
    let none = ShareTest {
        statistic: 0.0,
        p_value: 1.0,
        effect: 0.0,
        threshold: f64::MAX,
    };
    if rows == 0.0 || rows_now == 0.0 {
        return none;
    }
    let share = rows_now / (rows + rows_now);
    let (mut statistic, mut cells, mut moved, mut rare) = (0.0, 0_u32, 0.0, (0.0, 0.0));
    let mut add = |a: f64, b: f64| {
        let expected = (a + b) * share;
        statistic += (b - expected).powi(2) / (expected * (1.0 - share));
        cells += 1;
    };
    for (&a, &b) in before.iter().zip(now) {
        let (a, b) = (a as f64, b as f64);
        moved += (a / rows - b / rows_now).abs() / 2.0;
        if (a + b) * share.min(1.0 - share) < 5.0 {
            rare = (rare.0 + a, rare.1 + b);
        } else {
            add(a, b);
        }
    }
    if rare.0 + rare.1 > 0.0 {
        add(rare.0, rare.1);
    }
    if cells < 2 {
        return ShareTest { effect: moved, ..none };
    }
    let statistic = statistic / inflation;
    let freedom = f64::from(cells - 1);
    let spread = 2.0 / (9.0 * freedom);
    let z = ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
    let p_value = if z > 0.0 { 0.5 * (-0.5 * z * z).exp() } else { 1.0 };
    let threshold = freedom * (1.0 - spread + z_at(2.0 * rate) * spread.sqrt()).powi(3);
    ShareTest {
        statistic,
        p_value,
        effect: moved,
        threshold,
    }
}

/// The design effect of shares when rows are correlated in time: the variance of shares between blocks of
/// `block` consecutive rows over what independent rows would give, at least 1. `categories` are below `distinct`.
#[must_use]
pub fn inflation(categories: &[usize], distinct: usize, block: usize) -> f64 {
    let blocks = categories.chunks_exact(block.max(1));
    let count = blocks.len() as f64;
    if count < 2.0 || block < 2 {
        return 1.0;
    }
    let rows = count * block as f64;
    let (mut squares, mut totals) = (vec![0.0; distinct], vec![0.0; distinct]);
    for rows in blocks {
        let mut counts = vec![0.0; distinct];
        for &category in rows {
            if let Some(slot) = counts.get_mut(category) {
                *slot += 1.0;
            }
        }
        for ((total, square), count) in totals.iter_mut().zip(&mut squares).zip(counts) {
            *total += count;
            *square += count * count;
        }
    }
    let (mut between, mut within) = (0.0, 0.0);
    for (total, square) in totals.iter().zip(&squares) {
        let share: f64 = total / rows;
        between += (square - total * total / count) / (count - 1.0) / block as f64;
        within += share * (1.0 - share);
    }
    if within > 0.0 { (between / within).max(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    #[test]
    fn differences_of_shares() {
        let test = difference((100, 10_000), (60, 1_000), 1.0, 0.01);
        assert!((test.effect - 0.05).abs() < 1e-12 && test.p_value < 1e-12 && test.statistic > test.threshold);
        let same = difference((100, 10_000), (11, 1_000), 1.0, 0.01);
        assert!(same.p_value > 0.5 && same.statistic < same.threshold);
        assert_eq!(difference((0, 100), (0, 100), 1.0, 0.01).p_value, 1.0);
        let at = difference((500, 1_000), (0, 1_000), 1.0, 0.01);
        assert!(difference((500, 1_000), (500 - (at.threshold * 900.0) as u64, 1_000), 1.0, 0.01).p_value > 0.01);
    }

    /// `scipy.stats.chi2_contingency` of scipy 1.17.1: 5.5757724525, p = 0.0616; the bound may be higher.
    #[test]
    fn categories_against_scipy() {
        let test = categories(&[500, 300, 200], &[45, 25, 30], 1.0, 0.05);
        assert!((test.effect - 0.1).abs() < 1e-12, "{test:?}");
        assert!((test.statistic - 5.575_772_452_517_566).abs() < 1e-9, "{test:?}");
        assert!((0.055..0.2).contains(&test.p_value), "{test:?}");
        assert!(categories(&[500, 300, 200], &[50, 30, 20], 1.0, 0.05).p_value > 0.9);
        let new = categories(&[500, 500, 0], &[40, 40, 20], 1.0, 0.01);
        assert!(new.p_value < 1e-6 && new.statistic > new.threshold, "{new:?}");
        assert_eq!(categories(&[], &[], 1.0, 0.01).p_value, 1.0);
    }

    #[test]
    fn inflation_is_the_length_of_a_run() {
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let mut coin = move || (rng.next_u64() >> 63) as usize;
        let independent: Vec<usize> = (0..20_000).map(|_| coin()).collect();
        assert!(inflation(&independent, 2, 50) < 1.3);
        let runs: Vec<usize> = (0..2_000).flat_map(|_| std::iter::repeat_n(coin(), 10)).collect();
        let found = inflation(&runs, 2, 100);
        assert!((8.0..12.5).contains(&found), "{found}, seed 9");
        assert_eq!(inflation(&[0; 100], 1, 10), 1.0);
    }
}
