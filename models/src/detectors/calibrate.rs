//! Thresholds from history: how large the Kolmogorov–Smirnov distance gets without a change when rows are
//! correlated in time.
//!
//! Windows are put together of blocks of consecutive reference rows (moving-block bootstrap, Künsch 1989), so
//! that correlation shorter than a block shows in the distances as it does in reality. A p-value that takes rows
//! as independent is then wrong by a factor in the number of rows; that factor is what is estimated. It is estimated
//! from one history: with few effective rows in it (an autoregression of 0.9 over 4,000 rows) the rate comes out at
//! up to twice its budget, where the plain p-value exceeds it fifteenfold.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::ks;

/// Pairs of windows that are drawn.
const REPLICATES: usize = 200;
/// Quantile at which the drawn distances are matched with Kolmogorov's distribution.
const QUANTILE: f64 = 0.9;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Rows of a current window.
    pub window: usize,
    /// Rows of a block: longer than the correlation, much shorter than the reference.
    pub block: usize,
    /// Seed.
    pub seed: u64,
}

/// How far from independent the rows are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Rows that carry as much as one independent row, at least 1.
    pub inflation: f64,
}

impl Calibration {
    /// Rows that are independent.
    pub const INDEPENDENT: Self = Self { inflation: 1.0 };

    /// The p-value of a distance between a reference and a window of these sizes.
    #[must_use]
    pub fn p_value(&self, statistic: f64, reference: usize, window: usize) -> f64 {
        ks::p_value_effective(statistic, ks::effective(reference, window) / self.inflation)
    }

    /// The distance that is exceeded without a change at `rate`, the share of tests that may be a false alarm.
    #[must_use]
    pub fn threshold(&self, rate: f64, reference: usize, window: usize) -> f64 {
        ks::threshold(rate, ks::effective(reference, window) / self.inflation)
    }
}

/// Estimates the inflation from reference rows in time order, without missing values. A reference shorter than
/// two blocks, or an empty window, says nothing: `None`.
///
/// Not the extreme quantile that the false-alarm rate asks for is read off, which would need many thousands of
/// draws, but the one at 0.9; beyond it the distances fall off as Kolmogorov's do.
#[must_use]
pub fn calibrate(reference: &[f64], resampling: &Resampling) -> Option<Calibration> {
    let Resampling { window, block, seed } = *resampling;
    if block == 0 || window == 0 || reference.len() < 2 * block {
        return None;
    }
    let (ranks, distinct) = dense_ranks(reference);
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let inflation = observed_inflation(&ranks, distinct, window, block, &mut rng)?;
    Some(Calibration {
        inflation: inflation.max(1.0),
    })
}

/// The inflation that windows made of blocks of this length show.
fn observed_inflation(
    ranks: &[usize],
    distinct: usize,
    window: usize,
    block: usize,
    rng: &mut Pcg64Mcg,
) -> Option<f64> {
    let reference = ranks.len();
    let mut distances: Vec<f64> = (0..REPLICATES)
        .map(|_| {
            let a = draw(ranks, distinct, reference, block, rng);
            let b = draw(ranks, distinct, window, block, rng);
            distance(&a, reference, &b, window)
        })
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    let observed = *distances.get((REPLICATES as f64 * QUANTILE) as usize)?;
    let independent = ks::threshold(1.0 - QUANTILE, ks::effective(reference, window));
    Some((observed / independent).powi(2))
}

/// For each row the number of distinct smaller values, and the number of distinct values.
fn dense_ranks(values: &[f64]) -> (Vec<usize>, usize) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.dedup();
    let ranks = values
        .iter()
        .map(|value| sorted.partition_point(|other| other < value))
        .collect();
    (ranks, sorted.len())
}

/// Counts by rank of `rows` rows made of blocks that begin anywhere; the reference is taken as a circle.
fn draw(ranks: &[usize], distinct: usize, rows: usize, block: usize, rng: &mut Pcg64Mcg) -> Vec<u32> {
    // One more than the ranks, so that no rank, a NaN's included, is out of bounds.
    let mut counts = vec![0; distinct + 1];
    let mut left = rows;
    while left > 0 {
        // The bias of the remainder is below 2^-40 for any reference that fits into memory.
        let start = (rng.next_u64() % ranks.len() as u64) as usize;
        for rank in ranks.iter().cycle().skip(start).take(block.min(left)) {
            counts[*rank] += 1;
        }
        left = left.saturating_sub(block);
    }
    counts
}

/// The Kolmogorov–Smirnov distance of two samples given as counts by rank.
fn distance(a: &[u32], rows: usize, b: &[u32], others: usize) -> f64 {
    let (mut i, mut j, mut largest) = (0_u64, 0_u64, 0.0_f64);
    for (x, y) in a.iter().zip(b) {
        i += u64::from(*x);
        j += u64::from(*y);
        largest = largest.max((i as f64 / rows as f64 - j as f64 / others as f64).abs());
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: usize = 4_000;
    const WINDOW: usize = 500;

    /// Rows of an autoregression of order one, by the sum of twelve uniform numbers.
    fn correlated(phi: f64, rows: usize, rng: &mut Pcg64Mcg) -> Vec<f64> {
        let mut value = 0.0;
        (0..rows + 100)
            .map(|_| {
                let noise: f64 = (0..12)
                    .map(|_| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
                    .sum::<f64>()
                    - 6.0;
                value = phi * value + (1.0 - phi * phi).sqrt() * noise;
                value
            })
            .skip(100)
            .collect()
    }

    /// Shares of false alarms at 5 %: plain, calibrated.
    fn false_alarms(phi: f64, seed: u64) -> (f64, f64) {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let (mut plain, mut calibrated) = (0, 0);
        for replay in 0..300 {
            let rows = correlated(phi, REFERENCE + WINDOW, &mut rng);
            let (reference, window) = rows.split_at(REFERENCE);
            let test = ks::Ks.test(reference, window);
            let resampling = Resampling {
                window: WINDOW,
                block: 100,
                seed: replay,
            };
            let calibration = calibrate(reference, &resampling).unwrap();
            plain += u32::from(test.p_value <= 0.05);
            calibrated += u32::from(test.statistic > calibration.threshold(0.05, REFERENCE, WINDOW));
        }
        (f64::from(plain) / 300.0, f64::from(calibrated) / 300.0)
    }

    #[test]
    fn correlated_rows_keep_the_false_alarms_near_their_budget() {
        let (plain, calibrated) = false_alarms(0.9, 77);
        println!(
            "AR(1) 0.9, budget 5 %: plain p-value {:.1} %, calibrated {:.1} %",
            100.0 * plain,
            100.0 * calibrated
        );
        assert!(plain > 0.3, "the plain p-value fails: {plain}, seed 77");
        assert!((0.005..=0.12).contains(&calibrated), "{calibrated}, seed 77");
    }

    #[test]
    fn independent_rows_cost_little() {
        let (plain, calibrated) = false_alarms(0.0, 78);
        assert!(
            plain < 0.1 && (0.005..0.1).contains(&calibrated),
            "{plain} {calibrated}, seed 78"
        );
        let rows = correlated(0.0, REFERENCE, &mut Pcg64Mcg::seed_from_u64(3));
        let inflation = calibrate(
            &rows,
            &Resampling {
                window: WINDOW,
                block: 100,
                seed: 3,
            },
        )
        .unwrap()
        .inflation;
        assert!(inflation < 1.6, "{inflation}");
    }

    #[test]
    fn the_counted_distance_is_that_of_the_test() {
        let mut rng = Pcg64Mcg::seed_from_u64(4);
        let values: Vec<f64> = correlated(0.5, 200, &mut rng)
            .iter()
            .map(|v| (v * 3.0).round())
            .collect();
        let (ranks, distinct) = dense_ranks(&values);
        let count = |range: std::ops::Range<usize>| {
            let mut counts = vec![0; distinct + 1];
            ranks[range].iter().for_each(|&r| counts[r] += 1);
            counts
        };
        let counted = distance(&count(0..120), 120, &count(120..200), 80);
        assert!((counted - ks::Ks.test(&values[..120], &values[120..]).statistic).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_calibrated_is_said() {
        assert_eq!(
            calibrate(
                &[1.0; 10],
                &Resampling {
                    window: 5,
                    block: 6,
                    seed: 1
                }
            ),
            None
        );
        assert_eq!(
            calibrate(
                &[1.0; 10],
                &Resampling {
                    window: 0,
                    block: 2,
                    seed: 1
                }
            ),
            None
        );
        let constant = calibrate(
            &[1.0; 100],
            &Resampling {
                window: 50,
                block: 10,
                seed: 1,
            },
        )
        .unwrap();
        assert_eq!(constant.inflation, 1.0);
    }
}
