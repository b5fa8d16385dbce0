//! Median and quartiles of the numbers seen so far, in a few kilobytes.
//!
//! The numbers are kept in the sketch of Karnin, Lang and Liberty, "Optimal quantile approximation in streams", FOCS 2016
//! (KLL), with [`K`] numbers in its highest level: ranks are right to about 1 %. What is a coin there is a function of how
//! often it was tossed, so the same numbers in the same order give the same bits.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::random::derived;

/// Numbers in the highest level; each level below holds two thirds of that above it.
const K: usize = 256;
/// Numbers that a level holds at least before it is compacted.
const LEVEL_MIN: usize = 8;
/// Levels: a number in the highest one stands for 2^47.
const LEVELS_MAX: usize = 48;
/// Numbers after which median and spread are not taken again with every one, but when there is one more for so many.
const EXACT: u64 = 64;
/// Pairs of quantiles, and how far apart they are in a normal distribution of deviation 1.
const PAIRS: [(f64, f64, f64); 4] = [
    (0.25, 0.75, 1.348_979_500_392_163_5),
    (0.1, 0.9, 2.563_103_131_089_201),
    (0.05, 0.95, 3.289_707_253_902_944_6),
    (0.01, 0.99, 4.652_695_748_081_681),
];

/// Numbers, each of level `h` for 2^`h` that came.
#[derive(Clone, Default)]
struct Sketch {
    count: u64,
    compactions: u64,
    levels: Vec<Vec<f64>>,
}

/// Numbers that a level holds, at most, of so many levels.
fn capacity(level: usize, levels: usize) -> usize {
    let mut capacity = K;
    for _ in level + 1..levels {
        capacity = capacity * 2 / 3;
        if capacity <= LEVEL_MIN {
            return LEVEL_MIN;
        }
    }
    capacity
}

impl Sketch {
    /// Takes a finite number. Beyond 2^48 times [`K`] of them it learns no more.
    fn take(&mut self, value: f64) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        if self.levels.len() == LEVELS_MAX && self.levels[0].len() + 1 >= capacity(0, LEVELS_MAX) {
            return;
        }
        self.levels[0].push(value);
        self.count += 1;
        for level in 0..LEVELS_MAX {
            if self.levels[level].len() < capacity(level, self.levels.len()) {
                return;
            }
            self.compact(level);
        }
    }

    /// Every second number of a level moves up, and stands for two.
    fn compact(&mut self, level: usize) {
        if level + 1 == self.levels.len() {
            self.levels.push(Vec::new());
        }
        let mut full = std::mem::take(&mut self.levels[level]);
        full.sort_unstable_by(f64::total_cmp);
        let odd = if full.len() % 2 == 1 { full.pop() } else { None };
        let first = (derived(level as u64, self.compactions) & 1) as usize;
        self.compactions += 1;
        self.levels[level + 1].extend(full.iter().skip(first).step_by(2));
        full.clear();
        full.extend(odd);
        // It may have been the highest level, which holds more.
        full.shrink_to(capacity(level, self.levels.len()));
        self.levels[level] = full;
    }

    /// The numbers with their weights, in order.
    fn sorted(&self) -> Vec<(f64, u64)> {
        let levels = self.levels.iter().enumerate();
        let mut all: Vec<(f64, u64)> = levels
            .flat_map(|(level, values)| values.iter().map(move |value| (*value, 1 << level)))
            .collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    /// Bytes of memory, at most; vectors may hold twice what they need.
    fn bytes_max() -> usize {
        let values = (0..LEVELS_MAX).map(|level| capacity(level, LEVELS_MAX));
        2 * (8 * values.sum::<usize>() + LEVELS_MAX * size_of::<Vec<f64>>())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.count);
        out.put_u64(self.compactions);
        out.put_u64(self.levels.len() as u64);
        self.levels.iter().for_each(|values| out.put_f64s(values));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (count, compactions, levels) = (reader.u64()?, reader.u64()?, reader.count(8)?);
        if levels > LEVELS_MAX {
            return Err(reader.error("more levels than numbers can fill"));
        }
        let mut sketch = Self {
            count,
            compactions,
            levels: Vec::with_capacity(levels),
        };
        let mut held = 0;
        for level in 0..levels {
            let values = reader.f64s()?;
            if values.len() >= capacity(level, levels) {
                return Err(reader.error("a level holds more numbers than fit"));
            }
            held += (values.len() as u64) << level;
            sketch.levels.push(values);
        }
        match held == count {
            true => Ok(sketch),
            false => Err(reader.error("the numbers do not stand for as many as came")),
        }
    }
}

/// The first of the numbers, in order, up to which a share of all lies.
fn quantile(sorted: &[(f64, u64)], count: u64, share: f64) -> f64 {
    let wanted = share * count as f64;
    let mut up_to = 0;
    for (value, weight) in sorted {
        up_to += weight;
        if up_to as f64 >= wanted {
            return *value;
        }
    }
    sorted.last().map_or(0.0, |(value, _)| *value)
}

/// Median and spread of what came, brought up to date with each of the first 64 numbers, and then whenever there is one more
/// for 64 that there were.
#[derive(Clone, Default)]
pub(super) struct Quartiles {
    sketch: Arc<Sketch>,
    /// How many numbers there were when median and spread were taken.
    taken: u64,
    median: f64,
    spread: f64,
}

impl Quartiles {
    /// Takes a finite number of a magnitude of at most 1e100.
    pub(super) fn take(&mut self, value: f64) {
        let sketch = Arc::make_mut(&mut self.sketch);
        sketch.take(value);
        if sketch.count > self.taken + self.taken / EXACT * u64::from(self.taken >= EXACT) {
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        let (sorted, count) = (self.sketch.sorted(), self.sketch.count);
        self.taken = count;
        self.median = quantile(&sorted, count, 0.5);
        let spread = |(low, high, normal): &(f64, f64, f64)| {
            (quantile(&sorted, count, *high) - quantile(&sorted, count, *low)) / normal
        };
        self.spread = PAIRS.iter().map(spread).find(|spread| *spread > 0.0).unwrap_or(0.0);
    }

    /// Numbers taken.
    pub(super) fn count(&self) -> u64 {
        self.sketch.count
    }

    /// The median; 0 before the first number.
    pub(super) fn median(&self) -> f64 {
        self.median
    }

    /// The distance of the quartiles, as a share of what it is in a normal distribution of deviation 1. Where the quartiles
    /// are equal, that of the deciles, of the 5th and 95th, or of the 1st and 99th percentile; 0 where these are equal too.
    pub(super) fn spread(&self) -> f64 {
        self.spread
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.taken);
        out.put_f64(self.median);
        out.put_f64(self.spread);
        self.sketch.write(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (taken, median, spread) = (reader.u64()?, reader.finite()?, reader.finite()?);
        let sketch = Sketch::read(reader)?;
        if taken > sketch.count || spread < 0.0 {
            return Err(reader.error("these are no quartiles of the numbers"));
        }
        Ok(Self {
            sketch: Arc::new(sketch),
            taken,
            median,
            spread,
        })
    }

    /// Bytes of memory besides itself, at most.
    pub(super) fn bytes_max() -> usize {
        size_of::<Sketch>() + 16 + Sketch::bytes_max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{of_row, uniform};

    /// The share of 0..rows below a number, where these come in random order.
    fn sketch(rows: u64, value: impl Fn(u64) -> f64) -> Sketch {
        let mut sketch = Sketch::default();
        (0..rows).for_each(|row| sketch.take(value(row)));
        sketch
    }

    #[test]
    fn ranks_are_right_to_two_percent_in_any_order() {
        let rows = 100_000;
        let random = |row| uniform(&mut of_row(41, row));
        let rising = |row| row as f64 / rows as f64;
        let falling = |row| 1.0 - row as f64 / rows as f64;
        let swinging = |row: u64| ((row % 1_000) as f64 + random(row)) / 1_000.0;
        let orders: [&dyn Fn(u64) -> f64; 4] = [&random, &rising, &falling, &swinging];
        for (order, value) in orders.into_iter().enumerate() {
            let sketch = sketch(rows, value);
            let sorted = sketch.sorted();
            for share in [0.01, 0.25, 0.5, 0.75, 0.99] {
                // All of them are spread evenly over 0 to 1: a quantile is its share.
                let found = quantile(&sorted, sketch.count, share);
                assert!(
                    (found - share).abs() < 0.02,
                    "order {order}: {found} for {share}, seed 41"
                );
            }
            let held: usize = sketch.levels.iter().map(Vec::len).sum();
            assert!(held < 4 * K, "{held} numbers held");
        }
    }

    #[test]
    fn a_few_numbers_are_exact_and_no_number_is_lost() {
        let mut quartiles = Quartiles::default();
        assert_eq!((quartiles.median(), quartiles.spread()), (0.0, 0.0));
        for value in [5.0, 1.0, 3.0, 2.0, 4.0] {
            quartiles.take(value);
        }
        assert_eq!(quartiles.median(), 3.0);
        assert_eq!(quartiles.spread(), 2.0 / PAIRS[0].2);
        let sketch = sketch(77_777, |row| row as f64);
        let weights = sketch.sorted().iter().map(|(_, weight)| weight).sum::<u64>();
        assert_eq!((weights, sketch.count), (77_777, 77_777));
    }

    #[test]
    fn where_quartiles_are_equal_wider_ones_tell_the_spread() {
        let mut quartiles = Quartiles::default();
        for row in 0..1_000 {
            quartiles.take(if row % 6 == 0 { f64::from(row % 4) } else { 7.0 });
        }
        assert_eq!(quartiles.median(), 7.0);
        assert!(quartiles.spread() > 1.0, "{}", quartiles.spread());
        let mut constant = Quartiles::default();
        (0..1_000).for_each(|_| constant.take(0.1));
        assert_eq!((constant.median(), constant.spread()), (0.1, 0.0));
    }

    #[test]
    fn as_many_numbers_as_there_can_be_stay_within_the_bytes() {
        let mut sketch = sketch(200_000, |row| uniform(&mut of_row(43, row)));
        let bytes = |sketch: &Sketch| {
            let held = sketch.levels.iter().map(|values| 8 * values.capacity()).sum::<usize>();
            held + sketch.levels.capacity() * size_of::<Vec<f64>>()
        };
        assert!(
            bytes(&sketch) <= Sketch::bytes_max(),
            "{} bytes, seed 43",
            bytes(&sketch)
        );
        // As if it had come to the end.
        sketch.levels.resize(LEVELS_MAX, Vec::new());
        let before = sketch.count;
        (0..1_000).for_each(|_| sketch.take(1.0));
        assert!(sketch.count < before + LEVEL_MIN as u64);
    }
}
