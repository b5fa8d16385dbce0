//! What each member of `auto` is good for: how much larger the loss would be without it.

use super::truth::Truth;
use crate::codec::{CodecError, Put, Reader};
use crate::scorers::mixture::{Kind, Mixture, Parts, Pooled, softmax};

/// A row in so many is asked what each member was good for, and every row whose loss is above one bit: where a class is
/// rare, a few rows hold most of what there is to know.
const ASKED_EVERY: u64 = 4;
const ASKED_ABOVE: f64 = std::f64::consts::LN_2;
/// What is left, when a round ends, of what was found in it and before. Chosen with elec, agrawal, rbf and the payments of
/// `benches/learners` in sight; so was that no doubt is counted in favour of a member: two standard deviations of it let
/// fewer rest and gained nothing.
const LEFT: f64 = 0.5;

/// Sums over the rows that were asked, which forget.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// How much larger the loss would have been without it.
    gained: f64,
    /// The loss with it.
    lost: f64,
}

/// What the members were good for.
pub(super) struct Worth {
    sums: Vec<Sums>,
    /// Used again from row to row.
    without: Vec<f64>,
}

impl Worth {
    pub(super) fn new(members: usize) -> Self {
        Self {
            sums: vec![Sums::default(); members],
            without: Vec::new(),
        }
    }

    /// Bytes of memory, with room for what is used again.
    pub(super) fn bytes(&self, places: usize) -> usize {
        size_of_val(&*self.sums) + 16 * places
    }

    /// Asks what each of the active members was good for in the `seen`th row, the others having its weight.
    pub(super) fn ask(&mut self, active: &[usize], mixture: &Mixture, parts: &Parts, truth: Truth, seen: u64) {
        let lost = truth.loss(&parts.mixed);
        let times = match (lost > ASKED_ABOVE, seen.is_multiple_of(ASKED_EVERY)) {
            (true, _) => 1.0,
            (false, true) => ASKED_EVERY as f64,
            (false, false) => return,
        };
        self.without.resize(2 * mixture.kind.places(), 0.0);
        for (at, &member) in active.iter().enumerate() {
            say_without(at, mixture, parts, &mut self.without);
            let mixed = &self.without[..mixture.kind.places()];
            let sums = &mut self.sums[member];
            sums.gained += times * (truth.loss(mixed) - lost);
            sums.lost += times * lost;
        }
    }

    /// What a member was good for, as a share of the loss: how much more it would have been.
    pub(super) fn of(&self, member: usize) -> f64 {
        let Sums { gained, lost } = self.sums[member];
        gained / (lost + 1e-9)
    }

    /// A round ends.
    pub(super) fn fade(&mut self) {
        for sums in &mut self.sums {
            sums.gained *= LEFT;
            sums.lost *= LEFT;
        }
    }

    /// Nothing is known of a member any more.
    pub(super) fn forget(&mut self, member: usize) {
        self.sums[member] = Sums::default();
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for sums in &self.sums {
            out.put_f64(sums.gained);
            out.put_f64(sums.lost);
        }
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), CodecError> {
        for sums in &mut self.sums {
            (sums.gained, sums.lost) = (reader.finite()?, reader.finite()?);
            if sums.lost < 0.0 {
                return Err(reader.error("a sum of losses is not below 0"));
            }
        }
        Ok(())
    }
}

/// What the mixture would have said without the member at a place: the first half of `out`.
fn say_without(at: usize, mixture: &Mixture, parts: &Parts, out: &mut [f64]) {
    let places = mixture.kind.places();
    let (mixed, own) = out.split_at_mut(places);
    mixed.fill(0.0);
    for (pool, trust) in mixture.pools.iter().zip(&mixture.trust) {
        pool_without(pool, at, parts, own);
        if !matches!(mixture.kind, Kind::Values { .. }) {
            softmax(own);
        }
        mixed.iter_mut().zip(&*own).for_each(|(sum, said)| *sum += trust * said);
    }
    let mean = parts.experts.iter().rev().take(places).rev();
    let said = &parts.said[at * places..(at + 1) * places];
    let (share, trust) = (mixture.shares[at], mixture.trust.last().copied().unwrap_or_default());
    for ((sum, mean), said) in mixed.iter_mut().zip(mean).zip(said) {
        let rest = if share < 1.0 - 1e-9 {
            (mean - share * said) / (1.0 - share)
        } else {
            *mean
        };
        *sum += trust * rest;
    }
}

/// What a pool would have said without the member at a place, the others having its weight; before the softmax.
fn pool_without(pool: &Pooled, at: usize, parts: &Parts, out: &mut [f64]) {
    let total: f64 = pool.weights.iter().sum();
    let rest = total - pool.weights[at];
    let factor = if rest > 0.1 * total && total > 0.0 {
        total / rest
    } else {
        1.0
    };
    out.copy_from_slice(&pool.biases);
    for (index, (weight, terms)) in pool.weights.iter().zip(parts.terms.chunks_exact(out.len())).enumerate() {
        if index != at {
            let weight = factor * weight;
            out.iter_mut().zip(terms).for_each(|(sum, term)| *sum += weight * term);
        }
    }
}
