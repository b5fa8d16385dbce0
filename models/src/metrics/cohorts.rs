//! A tally for each of the last cohorts of prediction time, and one for all that came before.
//!
//! Labels arrive late and out of order, so a window over arrival would mix rows of different days; a cohort
//! holds the rows predicted in one span of time, whenever their labels came.

use std::collections::BTreeMap;

use super::Row;
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
    fn update(&mut self, row: &Row<'_>);
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
    /// The label that came last, and how many came.
    last: Option<f64>,
    updates: u64,
}

/// A value and an interval in which the true one lies in 95 % of cases.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// The value.
    pub value: f64,
    /// Its upper end.
    pub high: f64,
}

/// Cohorts below which nothing is said about how much a value varies.
const INTERVAL_COHORTS_MIN: usize = 5;

impl<T: Tally> Cohorts<T> {
    /// No rows; `empty` gives the settings.
    #[must_use]
    pub fn new(params: CohortParams, empty: &T) -> Self {
        Self {
            params,
            past: empty.empty(),
            cohorts: BTreeMap::new(),
            last: None,
            updates: 0,
        }
    }

    /// Adds a row predicted at `at_ms`, in the order in which labels became known. One whose cohort is older than those
    /// kept counts in the total only.
    pub fn update(&mut self, at_ms: i64, scores: &[f64], label: f64, weight: f64) {
        let row = Row {
            scores,
            label,
            weight,
            before: self.last,
        };
        self.updates += 1;
        if label.is_finite() {
            self.last = Some(label);
        }
        let cohort = at_ms.div_euclid(self.params.cohort_ms.max(1));
        let full = self.cohorts.len() >= self.params.cohorts_max.max(1) && !self.cohorts.contains_key(&cohort);
        if full
            && self
                .cohorts
                .first_key_value()
                .is_some_and(|(oldest, _)| cohort < *oldest)
        {
            self.past.update(&row);
            return;
        }
        if full {
            self.retire();
        }
        self.cohorts
            .entry(cohort)
            .or_insert_with(|| self.past.empty())
            .update(&row);
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

    /// A value of the kept cohorts and how much it varies: the jackknife over cohorts (Efron and Stein, Annals of
    /// Statistics 1981), which holds for any smooth function of sums and for rows that are correlated within a cohort.
    /// `None` below five cohorts, or where a value is not determined.
    #[must_use]
    pub fn interval(&self, value: impl Fn(&T) -> f64) -> Option<Interval> {
        let count = self.cohorts.len();
        if count < INTERVAL_COHORTS_MIN {
            return None;
        }
        let without = |left_out: Option<i64>| {
            let mut tally = self.past.empty();
            let kept = self.cohorts.iter().filter(|(cohort, _)| Some(**cohort) != left_out);
            kept.for_each(|(_, cohort)| tally.merge(cohort));
            value(&tally)
        };
        let whole = without(None);
        let parts: Vec<f64> = self.cohorts.keys().map(|cohort| without(Some(*cohort))).collect();
        let mean = parts.iter().sum::<f64>() / count as f64;
        let squares: f64 = parts.iter().map(|part| (part - mean).powi(2)).sum();
        let half = student(count - 1) * (squares * (count - 1) as f64 / count as f64).sqrt();
        let found = Interval {
            low: whole - half,
            value: whole,
            high: whole + half,
        };
        (found.low.is_finite() && found.high.is_finite()).then_some(found)
    }

    /// Adds the rows of another with the same parameters, whose labels came after those here.
    pub fn merge(&mut self, other: &Self) {
        self.updates += other.updates;
        self.last = other.last.or(self.last);
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

/// The 97.5 % quantile of Student's distribution, from 4 degrees of freedom on (Cornish and Fisher's expansion).
fn student(degrees: usize) -> f64 {
    let (z, n): (f64, f64) = (1.959_963_984_540_054, degrees as f64);
    let (z3, z5) = (z.powi(3), z.powi(5));
    let z7 = z.powi(7);
    z + (z3 + z) / (4.0 * n)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n * n)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n * n * n)
}

const LAST: &str = "last";
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
        chunks.chunk(LAST, self.updates, &mut |out| {
            out.put_u64(self.updates);
            out.put_u8(u8::from(self.last.is_some()));
            out.put_f64(self.last.unwrap_or_default());
        });
        chunks.chunk(PAST, self.past.stamp(), &mut |out| write(0, &self.past, out));
        for (cohort, tally) in &self.cohorts {
            chunks.chunk(&format!("{COHORT}{cohort}"), tally.stamp(), &mut |out| {
                write(*cohort, tally, out)
            });
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut reader = open(chunks, LAST)?;
        let mut parse = || {
            let (updates, known, last) = (reader.u64()?, reader.u8()?, reader.finite()?);
            reader.clone().finish()?;
            Ok((updates, (known == 1).then_some(last)))
        };
        let (updates, last) = parse().map_err(|error: CodecError| StateError::of(LAST, error))?;
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
        (self.updates, self.last) = (updates, last);
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
            let score = (i % 97) as f64 / 97.0;
            metrics.update(i * 3 - (i % 7) * 20, &[score], f64::from(i % 3 == 0), 1.0);
        }
    }

    #[test]
    fn the_last_cohorts_are_kept_and_the_total_counts_all() {
        let mut metrics = metrics();
        for at in [10, 110, 210, 310, 320, 50, 115] {
            metrics.update(at, &[0.3], 1.0, 1.0);
        }
        let rows: Vec<_> = metrics.cohorts().map(|(at, tally)| (at, tally.report().rows)).collect();
        assert_eq!(rows, [(100, 2), (200, 1), (300, 2)]);
        assert_eq!(metrics.total().report().rows, 7);
        assert_eq!(metrics.windowed(300).report().rows, 3);
        assert_eq!(metrics.windowed(399).report().rows, 3);
        assert_eq!(metrics.windowed(400).report().rows, 5);
    }

    #[test]
    fn an_interval_is_that_of_the_mean_of_cohorts_of_one_size() {
        let params = CohortParams {
            cohort_ms: 10,
            cohorts_max: 50,
        };
        let mut metrics = Cohorts::new(params, &BinaryTally::new(0.5));
        for i in 0..40_u32 {
            metrics.update(i64::from(i), &[0.9], f64::from(u8::from(i % 10 > i / 10)), 1.0);
            assert!(i >= 39 || metrics.interval(|tally| tally.report().accuracy).is_none());
        }
        for i in 40..50 {
            metrics.update(i, &[0.9], 1.0, 1.0);
        }
        let found = metrics.interval(|tally| tally.report().accuracy).unwrap();
        let means = [0.9, 0.8, 0.7, 0.6, 1.0_f64];
        let mean = means.iter().sum::<f64>() / 5.0;
        let error = (means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / 4.0 / 5.0).sqrt();
        assert!((found.value - mean).abs() < 1e-12, "{found:?}");
        // 2.776: Student's 97.5 % quantile with 4 degrees of freedom.
        assert!(
            ((found.high - found.low) / 2.0 / error - 2.776).abs() < 0.02,
            "{found:?}"
        );
    }

    #[test]
    fn merging_keeps_the_last_cohorts() {
        let (mut a, mut b) = (metrics(), metrics());
        for at in [10, 110, 210] {
            a.update(at, &[0.3], 1.0, 1.0);
            b.update(at + 100, &[0.6], 0.0, 1.0);
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
        whole.update(899, &[0.5], 1.0, 1.0);
        memory.save(&whole);
        assert_eq!(memory.written, 2, "one cohort and the last label");
        survives_damage(&whole, metrics);
    }
}
