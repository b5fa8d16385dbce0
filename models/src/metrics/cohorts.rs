//! A tally for each of the last cohorts of prediction time, and one for all that came before.
//!
//! Labels arrive late and out of order, so a window over arrival would mix rows of different days; a cohort
//! holds the rows predicted in one span of time, whenever their labels came.

use std::collections::BTreeMap;

use crate::codec::{CodecError, Put, Reader};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Sums of a metric that can be merged.
pub trait Tally: Clone {
    /// The values that it amounts to.
    type Report;
    /// One of the same settings without rows.
    #[must_use]
    fn empty(&self) -> Self;
    /// Adds a row. One whose numbers are not usable is counted as such and otherwise left out.
    fn update(&mut self, score: f64, label: f64, weight: f64);
    /// Adds the rows of another.
    fn merge(&mut self, other: &Self);
    /// A number that grows with every change.
    fn stamp(&self) -> u64;
    /// The values.
    fn report(&self) -> Self::Report;
    /// Appends all of it but the settings.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what [`Tally::write`] wrote, with the settings of `self`.
    ///
    /// # Errors
    /// The bytes are not such a tally.
    fn read(&self, reader: &mut Reader<'_>) -> Result<Self, CodecError>;
}

/// Checked parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CohortParams {
    /// Length of a cohort of prediction time, ms, at least 1.
    pub cohort_ms: i64,
    /// Cohorts kept, at least 1; when one more comes the oldest is forgotten.
    pub cohorts_max: usize,
}

/// The tallies.
#[derive(Debug, Clone, PartialEq)]
pub struct Cohorts<T> {
    params: CohortParams,
    /// Rows of the cohorts that are no longer kept.
    past: T,
    cohorts: BTreeMap<i64, T>,
}

impl<T: Tally> Cohorts<T> {
    /// No rows; `empty` gives the settings.
    #[must_use]
    pub fn new(params: CohortParams, empty: &T) -> Self {
        Self {
            params,
            past: empty.empty(),
            cohorts: BTreeMap::new(),
        }
    }

    /// Adds a row predicted at `at_ms`. One whose cohort is older than those kept counts in the total only.
    pub fn update(&mut self, at_ms: i64, score: f64, label: f64, weight: f64) {
        let cohort = at_ms.div_euclid(self.params.cohort_ms.max(1));
        let full = self.cohorts.len() >= self.params.cohorts_max.max(1) && !self.cohorts.contains_key(&cohort);
        if full
            && self
                .cohorts
                .first_key_value()
                .is_some_and(|(oldest, _)| cohort < *oldest)
        {
            self.past.update(score, label, weight);
            return;
        }
        if full {
            self.retire();
        }
        self.cohorts
            .entry(cohort)
            .or_insert_with(|| self.past.empty())
            .update(score, label, weight);
    }

    /// Moves the oldest cohort into the past.
    fn retire(&mut self) {
        if let Some((_, oldest)) = self.cohorts.pop_first() {
            self.past.merge(&oldest);
        }
    }

    /// All rows, merged.
    #[must_use]
    pub fn total(&self) -> T {
        let mut total = self.past.clone();
        self.cohorts.values().for_each(|tally| total.merge(tally));
        total
    }

    /// The cohorts kept, oldest first, with the prediction time in ms at which each begins.
    pub fn cohorts(&self) -> impl Iterator<Item = (i64, &T)> {
        self.cohorts
            .iter()
            .map(|(cohort, tally)| (cohort.saturating_mul(self.params.cohort_ms.max(1)), tally))
    }

    /// The rows of all cohorts kept that end at or before `until_ms` (those whose labels have matured), merged.
    #[must_use]
    pub fn windowed(&self, until_ms: i64) -> T {
        let end = until_ms.div_euclid(self.params.cohort_ms.max(1));
        let mut window = self.past.empty();
        self.cohorts.range(..end).for_each(|(_, tally)| window.merge(tally));
        window
    }

    /// Adds the rows of another with the same parameters.
    pub fn merge(&mut self, other: &Self) {
        self.past.merge(&other.past);
        for (cohort, tally) in &other.cohorts {
            self.cohorts
                .entry(*cohort)
                .or_insert_with(|| self.past.empty())
                .merge(tally);
        }
        while self.cohorts.len() > self.params.cohorts_max.max(1) {
            self.retire();
        }
    }
}

const PAST: &str = "past";
const COHORT: &str = "cohort/";

fn write<T: Tally>(cohort: i64, tally: &T, out: &mut Vec<u8>) {
    out.put_u64(cohort.cast_unsigned());
    tally.write(out);
}

fn read<T: Tally>(name: &str, settings: &T, chunks: &dyn ChunkSource) -> Result<(i64, T), StateError> {
    let mut reader = open(chunks, name)?;
    let mut parse = || Ok((reader.u64()?.cast_signed(), settings.read(&mut reader)?));
    let read = parse().map_err(|error: CodecError| StateError::of(name, error))?;
    reader.finish().map_err(|error| StateError::of(name, error))?;
    Ok(read)
}

impl<T: Tally> State for Cohorts<T> {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(PAST, self.past.stamp(), &mut |out| write(0, &self.past, out));
        for (cohort, tally) in &self.cohorts {
            chunks.chunk(&format!("{COHORT}{cohort}"), tally.stamp(), &mut |out| {
                write(*cohort, tally, out)
            });
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let (_, past) = read(PAST, &self.past, chunks)?;
        let names = chunks.names(COHORT);
        if names.len() > self.params.cohorts_max.max(1) {
            return Err(StateError::of(
                COHORT,
                format!("{} cohorts, at most {}", names.len(), self.params.cohorts_max),
            ));
        }
        let cohorts: Result<BTreeMap<i64, T>, _> = names.iter().map(|name| read(name, &past, chunks)).collect();
        (self.past, self.cohorts) = (past, cohorts?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::metrics::{BinaryMetrics, BinaryTally};

    fn metrics() -> BinaryMetrics {
        Cohorts::new(
            CohortParams {
                cohort_ms: 100,
                cohorts_max: 3,
            },
            &BinaryTally::new(0.5),
        )
    }

    fn run(metrics: &mut BinaryMetrics, from: i64, to: i64) {
        for i in from..to {
            // Labels come out of order.
            metrics.update(i * 3 - (i % 7) * 20, (i % 97) as f64 / 97.0, f64::from(i % 3 == 0), 1.0);
        }
    }

    #[test]
    fn the_last_cohorts_are_kept_and_the_total_counts_all() {
        let mut metrics = metrics();
        for at in [10, 110, 210, 310, 320, 50, 115] {
            metrics.update(at, 0.3, 1.0, 1.0);
        }
        let rows: Vec<_> = metrics.cohorts().map(|(at, tally)| (at, tally.report().rows)).collect();
        assert_eq!(rows, [(100, 2), (200, 1), (300, 2)]);
        assert_eq!(metrics.total().report().rows, 7);
        assert_eq!(metrics.windowed(300).report().rows, 3);
        assert_eq!(metrics.windowed(399).report().rows, 3);
        assert_eq!(metrics.windowed(400).report().rows, 5);
    }

    #[test]
    fn merging_keeps_the_last_cohorts() {
        let (mut a, mut b) = (metrics(), metrics());
        for at in [10, 110, 210] {
            a.update(at, 0.3, 1.0, 1.0);
            b.update(at + 100, 0.6, 0.0, 1.0);
        }
        a.merge(&b);
        let rows: Vec<_> = a.cohorts().map(|(at, tally)| (at, tally.report().rows)).collect();
        assert_eq!(rows, [(100, 2), (200, 2), (300, 1)]);
        assert_eq!(a.total().report().rows, 6);
    }

    #[test]
    fn state_comes_back_bit_for_bit_and_costs_what_changed() {
        let mut whole = metrics();
        run(&mut whole, 0, 300);
        let mut first = metrics();
        run(&mut first, 0, 123);
        let mut memory = Memory::default();
        memory.save(&first);
        let mut second = metrics();
        second.restore(&memory).unwrap();
        run(&mut second, 123, 300);
        assert_eq!(snapshot(&second), snapshot(&whole));
        memory.save(&whole);
        whole.update(899, 0.5, 1.0, 1.0);
        memory.save(&whole);
        assert_eq!(memory.written, 1, "one cohort");
        survives_damage(&whole, metrics);
    }
}
