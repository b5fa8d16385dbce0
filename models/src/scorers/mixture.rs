//! `mixture`: what the scores of several members come to, at two levels. Below, the members' mean by their shares, and
//! several pools that add up the logarithms of what the members say, each by weights of its own (a logarithmic pool; of
//! values: weighted sums). Above, the mean of all these by the trust that each deserves.
//!
//! How shares, weights and trust are learned is the business of the learner `auto`; both say the same, to the bit,
//! because both ask `Mixture::say`.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::matrix::Matrix;
use crate::model::MEMBERS_MAX;

/// The name in artifacts.
pub const FORMAT: &str = "mixture";
/// No probability is taken for less: its logarithm stays finite, and one member that is wrong and sure of it cannot
/// outweigh all others.
pub(crate) const PROBABILITY_MIN: f64 = 1e-6;
/// Values are taken for so many deviations from the center at most.
const DEVIATIONS_MAX: f64 = 1e6;
/// Pools and classes at most.
const POOLS_MAX: usize = 64;
const CLASSES_MAX: usize = 65_536;

/// What is mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// The probability of class 1.
    Binary,
    /// The probabilities of so many classes.
    Classes(usize),
    /// Values, which lie around a center with some spread above 0.
    Values {
        /// Where they lie.
        center: f64,
        /// In which unit they differ.
        spread: f64,
    },
}

impl Kind {
    /// Numbers that each member says, and that are said.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::Binary | Self::Values { .. } => 1,
            Self::Classes(classes) => classes,
        }
    }

    /// Numbers with which it is reckoned: one for each class, or the value.
    pub(crate) fn places(self) -> usize {
        match self {
            Self::Binary => 2,
            other => other.outputs(),
        }
    }

    fn is_possible(self) -> bool {
        match self {
            Self::Binary => true,
            Self::Classes(classes) => (2..=CLASSES_MAX).contains(&classes),
            Self::Values { center, spread } => center.is_finite() && spread.is_finite() && spread > 0.0,
        }
    }
}

/// A pool: what it says of place `p` is the sum of `weights[m] * said[m][p]` over the members, and `biases[p]`; then, of
/// classes, the softmax.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pooled {
    pub(crate) weights: Vec<f64>,
    pub(crate) biases: Vec<f64>,
}

/// The scorer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mixture {
    pub(crate) kind: Kind,
    /// One for each member, none negative, of sum 1.
    pub(crate) shares: Vec<f64>,
    pub(crate) pools: Vec<Pooled>,
    /// One for each pool and, last, one for the members' mean; none negative, of sum 1.
    pub(crate) trust: Vec<f64>,
}

/// What is on the way from the members' scores to that of the mixture.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// Member by member what it says of each place: probabilities, or values in deviations from the center.
    pub(crate) said: Vec<f64>,
    /// The same as pools take it: of probabilities the logarithms.
    pub(crate) terms: Vec<f64>,
    /// Pool by pool, and last the members' mean, what it says of each place.
    pub(crate) experts: Vec<f64>,
    /// What all come to, for each place.
    pub(crate) mixed: Vec<f64>,
}

impl Mixture {
    /// Checks the parts.
    fn checked(self) -> Result<Self, String> {
        let (members, places) = (self.shares.len(), self.kind.places());
        if members == 0 || members > MEMBERS_MAX || self.pools.len() > POOLS_MAX || !self.kind.is_possible() {
            return Err("a mixture has from 1 to 1024 members, at most 64 pools, and at least two classes".to_owned());
        }
        if !is_mean(&self.shares) || !is_mean(&self.trust) || self.trust.len() != self.pools.len() + 1 {
            return Err("shares and trust are at least 0 and add up to 1".to_owned());
        }
        let fits = |pool: &Pooled| {
            let numbers = pool.weights.iter().chain(&pool.biases);
            let (weights, biases) = (pool.weights.len(), pool.biases.len());
            weights == members && biases == places && numbers.into_iter().all(|number| number.abs() < 1e100)
        };
        match self.pools.iter().all(fits) {
            true => Ok(self),
            false => Err("a pool has not one weight for each member and one bias for each class".to_owned()),
        }
    }

    /// Reads what a mixture wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let kind = match reader.u8()? {
            0 => Kind::Binary,
            1 => Kind::Classes(usize::try_from(reader.u64()?).unwrap_or(usize::MAX)),
            2 => Kind::Values {
                center: reader.finite()?,
                spread: reader.finite()?,
            },
            other => return Err(reader.error(format!("{other} is nothing that can be mixed"))),
        };
        let (shares, trust) = (reader.f64s()?, reader.f64s()?);
        let mut pools = Vec::new();
        for _ in 1..trust.len().min(POOLS_MAX + 2) {
            let (weights, biases) = (reader.f64s()?, reader.f64s()?);
            pools.push(Pooled { weights, biases });
        }
        let mixture = Self {
            kind,
            shares,
            pools,
            trust,
        };
        mixture.checked().map_err(|what| reader.error(what))
    }

    /// Makes of a row of the members' scores all that it comes to.
    pub(crate) fn say(&self, row: &[f64], parts: &mut Parts) {
        let places = self.kind.places();
        self.spread_out(row, parts);
        parts.experts.clear();
        for pool in &self.pools {
            self.pool(pool, parts);
        }
        let start = parts.experts.len();
        parts.experts.resize(start + places, 0.0);
        let mean = &mut parts.experts[start..];
        add_up(&self.shares, &parts.said, mean);
        parts.mixed.clear();
        parts.mixed.resize(places, 0.0);
        add_up(&self.trust, &parts.experts, &mut parts.mixed);
    }

    /// Fills `said` and `terms`.
    fn spread_out(&self, row: &[f64], parts: &mut Parts) {
        parts.said.clear();
        parts.terms.clear();
        match self.kind {
            Kind::Binary => parts.said.extend(row.iter().flat_map(|p| [1.0 - p, *p])),
            Kind::Classes(_) => parts.said.extend_from_slice(row),
            Kind::Values { center, spread } => {
                let deviation = |value: &f64| ((value - center) / spread).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX);
                parts.said.extend(row.iter().map(deviation));
                parts.terms.extend_from_slice(&parts.said);
                return;
            }
        }
        let log = |p: &f64| p.max(PROBABILITY_MIN).ln();
        parts.terms.extend(parts.said.iter().map(log));
    }

    /// Appends what a pool says.
    fn pool(&self, pool: &Pooled, parts: &mut Parts) {
        let start = parts.experts.len();
        parts.experts.extend_from_slice(&pool.biases);
        let own = &mut parts.experts[start..];
        add_up(&pool.weights, &parts.terms, own);
        if !matches!(self.kind, Kind::Values { .. }) {
            softmax(own);
        }
    }

    /// The scores in what [`Mixture::say`] made.
    pub(crate) fn scores(&self, parts: &Parts, out: &mut Vec<f64>) {
        match self.kind {
            Kind::Binary => out.extend(parts.mixed.get(1).map(|p| p.clamp(0.0, 1.0))),
            Kind::Classes(_) => {
                // Each is a mean of probabilities: what rounding leaves over is no more than that.
                let total: f64 = parts.mixed.iter().sum();
                out.extend(parts.mixed.iter().map(|p| (p / total).clamp(0.0, 1.0)));
            }
            Kind::Values { center, spread } => {
                let value = |deviation: &f64| (center + deviation * spread).clamp(f64::MIN, f64::MAX);
                out.extend(parts.mixed.first().map(value));
            }
        }
    }
}

/// Whether these are the weights of a mean.
fn is_mean(weights: &[f64]) -> bool {
    let sum: f64 = weights.iter().sum();
    weights.iter().all(|weight| *weight >= 0.0) && (sum - 1.0).abs() < 1e-9
}

/// Adds `weights[m]` times the `m`th part of `terms` to `sums`, part by part.
fn add_up(weights: &[f64], terms: &[f64], sums: &mut [f64]) {
    for (weight, part) in weights.iter().zip(terms.chunks_exact(sums.len().max(1))) {
        sums.iter_mut().zip(part).for_each(|(sum, term)| *sum += weight * term);
    }
}

/// The softmax of sums, in their place.
pub(crate) fn softmax(sums: &mut [f64]) {
    if let [first, second] = sums {
        let (a, b) = (*first, *second);
        let small = (-(a - b).abs()).exp();
        let (large, small) = (1.0 / (1.0 + small), small / (1.0 + small));
        (*first, *second) = if a >= b { (large, small) } else { (small, large) };
        return;
    }
    let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    sums.iter_mut().for_each(|sum| *sum = (*sum - most).exp());
    let total: f64 = sums.iter().sum();
    sums.iter_mut().for_each(|sum| *sum /= total);
}

impl Scorer for Mixture {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.shares.len() * self.kind.outputs()
    }

    fn outputs(&self) -> usize {
        self.kind.outputs()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        let mut parts = Parts::default();
        for row in x.iter() {
            self.say(row, &mut parts);
            self.scores(&parts, out);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Binary => out.put_u8(0),
            Kind::Classes(classes) => {
                out.put_u8(1);
                out.put_u64(classes as u64);
            }
            Kind::Values { center, spread } => {
                out.put_u8(2);
                out.put_f64(center);
                out.put_f64(spread);
            }
        }
        out.put_f64s(&self.shares);
        out.put_f64s(&self.trust);
        for pool in &self.pools {
            out.put_f64s(&pool.weights);
            out.put_f64s(&pool.biases);
        }
    }

    fn bytes(&self) -> usize {
        let pools = self.pools.len() * (size_of::<Pooled>() + 8 * (self.shares.len() + self.kind.places()));
        size_of::<Self>() + 8 * (self.shares.len() + self.trust.len()) + pools
    }
}

/// Reads what a mixture wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    Ok(Arc::new(Mixture::read(reader)?))
}

/// Two members on two classes, and a pool.
pub(super) fn example() -> Arc<dyn Scorer> {
    Arc::new(Mixture {
        kind: Kind::Binary,
        shares: vec![0.25, 0.75],
        pools: vec![Pooled {
            weights: vec![1.0, 0.5],
            biases: vec![0.0, 0.25],
        }],
        trust: vec![0.5, 0.5],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, trust: [f64; 2], biases: &[f64], row: &[f64]) -> Vec<f64> {
        let pool = Pooled {
            weights: vec![1.0, 2.0],
            biases: biases.to_vec(),
        };
        let mixture = Mixture {
            kind,
            shares: vec![0.25, 0.75],
            pools: vec![pool],
            trust: trust.to_vec(),
        };
        let mut x = Matrix::new();
        x.reset(1, row.len());
        x.values_mut().copy_from_slice(row);
        let mut out = Vec::new();
        mixture.checked().unwrap().score(&x, &mut out);
        out
    }

    fn near(found: &[f64], expected: &[f64]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    #[test]
    fn a_pool_multiplies_powers_of_probabilities_and_the_mean_is_a_mean() {
        let odds: f64 = (0.8 / 0.2) * (0.6_f64 / 0.4).powi(2);
        let pooled = odds / (1.0 + odds);
        let row = [0.8, 0.6];
        assert!(near(&of(Kind::Binary, [1.0, 0.0], &[0.0, 0.0], &row), &[pooled]));
        assert!(near(&of(Kind::Binary, [0.0, 1.0], &[0.0, 0.0], &row), &[0.65]));
        let half = (pooled + 0.65) / 2.0;
        assert!(near(&of(Kind::Binary, [0.5, 0.5], &[0.0, 0.0], &row), &[half]));
        let row = [0.2, 0.3, 0.5, 0.1, 0.1, 0.8];
        let products = [0.2 * 0.01, 0.3 * 0.01, 0.5 * 0.64];
        let total: f64 = products.iter().sum();
        let expected: Vec<f64> = products.iter().map(|product| product / total).collect();
        assert!(near(&of(Kind::Classes(3), [1.0, 0.0], &[0.0; 3], &row), &expected));
    }

    #[test]
    fn values_are_added_up_around_the_center() {
        let kind = Kind::Values {
            center: 10.0,
            spread: 2.0,
        };
        assert!(near(&of(kind, [1.0, 0.0], &[0.5], &[12.0, 8.0]), &[9.0]));
        assert!(near(&of(kind, [0.0, 1.0], &[0.5], &[12.0, 8.0]), &[9.0]));
        assert!(of(kind, [0.5, 0.5], &[0.5], &[1e300, -1e300])[0].is_finite());
    }

    #[test]
    fn certainty_of_one_member_is_bounded() {
        let found = of(Kind::Binary, [1.0, 0.0], &[0.0, 0.0], &[0.0, 1.0])[0];
        assert!(found > 0.99 && found < 1.0, "{found}");
    }
}
