//! Seeds of parts, and randomness that needs no state: numbers that are a function of a seed and a row's number, so
//! that a learner restored from its count of rows goes on with the same numbers.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// The seed of part `index` of what has seed `seed`: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)
/// over both.
#[must_use]
pub fn derived(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A generator for row `row` of what has seed `seed`.
#[must_use]
pub fn of_row(seed: u64, row: u64) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(derived(seed, row))
}

/// Uniform in [0, 1), in steps of 2^-53.
pub fn uniform(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws `count` of `from`, at most all of them, each as likely as the others; sorted.
pub(crate) fn sample(mut from: Vec<u32>, count: usize, random: &mut impl Rng) -> Vec<u32> {
    let count = count.min(from.len());
    for place in 0..count {
        let other = place + (uniform(random) * (from.len() - place) as f64) as usize;
        from.swap(place, other);
    }
    from.truncate(count);
    from.sort_unstable();
    from
}

/// How often a row counts in an online bag: Poisson with a mean from 0 to 30, by inversion (Oza and Russell, AISTATS
/// 2001; mean 6 in Gomes et al., Machine Learning 2017).
pub fn poisson(mean: f64, random: &mut impl Rng) -> u32 {
    let mut left = uniform(random);
    let mut chance = (-mean.clamp(0.0, 30.0)).exp();
    let mut count = 0;
    while left >= chance && count < 200 {
        left -= chance;
        count += 1;
        chance *= mean / f64::from(count);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_seeds_of_their_own_and_the_same_every_time() {
        let mut seeds: Vec<u64> = (0..1_000).map(|index| derived(7, index)).collect();
        assert_eq!(seeds[3], derived(7, 3));
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1_000);
        // The first outputs of SplitMix64 seeded with 0, from the reference implementation.
        assert_eq!(
            (derived(0, 0), derived(0, 1)),
            (0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4)
        );
    }

    #[test]
    fn counts_have_the_mean_and_variance_of_poisson() {
        for mean in [1.0, 6.0] {
            let counts: Vec<f64> = (0..50_000)
                .map(|row| f64::from(poisson(mean, &mut of_row(11, row))))
                .collect();
            let average = counts.iter().sum::<f64>() / counts.len() as f64;
            let variance = counts.iter().map(|count| (count - average).powi(2)).sum::<f64>() / counts.len() as f64;
            assert!((average - mean).abs() < 0.03 * mean.max(1.0), "seed 11: mean {average}");
            assert!(
                (variance - mean).abs() < 0.06 * mean.max(1.0),
                "seed 11: variance {variance}"
            );
        }
        assert_eq!(poisson(0.0, &mut of_row(11, 0)), 0);
    }
}
