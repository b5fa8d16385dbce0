//! What is known of the inputs, once for all trees of an ensemble: bins, means and spreads.
//!
//! Some rows are kept, at first every one, later about one in eight. Bins are drawn anew by them after 16, 64, 256 and 1,024
//! rows; from then on those of an input of whose kept values many lie outside of all that was seen before: its world
//! has moved.

use std::sync::Arc;

use super::edges::{self, Edges};
use super::{ValueSettings, numbers, put_numbers};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Input;
use crate::random::derived;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

const HEAD: &str = "head";
const KEPT: &str = "kept";
const EDGES: &str = "edges";

/// Rows that are kept, at most and at least.
const KEPT_MAX: usize = 256;
const KEPT_MIN: usize = 32;
/// The part of the memory that may go to them.
const KEPT_SHARE: usize = 16;
/// One in so many rows is kept once there are enough.
const STRIDE: u64 = 8;
/// Rows after which all bins are drawn anew, and then rows between two looks whether one must be.
const DRAWN_AT: [u64; 4] = [16, 64, 256, 1_024];
const LOOK_EVERY: u64 = 1_024;
/// Bins are drawn anew where one in so many of the kept values lies outside of them.
const OUTSIDE: usize = 16;
/// Rows that means and spreads remember.
const MEMORY_ROWS: f64 = 10_000.0;
/// Standard deviations from the mean beyond which a number is taken for that many.
const REACH: f64 = 3.0;

/// Mean and spread of every input, for the linear models of leaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scales {
    mean: Box<[f64]>,
    /// 1 by the standard deviation; 0 where there is none, and of categories.
    inverse: Box<[f64]>,
}

impl Scales {
    /// Of so many inputs, of which nothing is known.
    pub(crate) fn unknown(width: usize) -> Self {
        Self {
            mean: vec![0.0; width].into(),
            inverse: vec![0.0; width].into(),
        }
    }

    /// Writes how many standard deviations each input is from its mean; 0 for one that is missing.
    #[inline]
    pub(crate) fn apply(&self, row: &[f64], out: &mut Vec<f64>) {
        out.clear();
        let scales = self.mean.iter().zip(&self.inverse);
        out.extend(row.iter().zip(scales).map(|(x, (mean, inverse))| {
            let z = (x - mean) * inverse;
            if z.is_nan() { 0.0 } else { z.clamp(-REACH, REACH) }
        }));
        out.resize(self.mean.len(), 0.0);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_numbers(&self.mean, out);
        put_numbers(&self.inverse, out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>, width: usize) -> Result<Self, CodecError> {
        Ok(Self {
            mean: numbers(reader, width)?,
            inverse: numbers(reader, width)?,
        })
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        16 * self.mean.len()
    }
}

/// What is known of the inputs, and the present row as trees take it.
pub(crate) struct Inputs {
    kinds: Arc<[Input]>,
    bins_max: usize,
    seed: u64,
    /// Rows that were learned.
    rows: u64,
    /// Rows that are kept, at most; those that are, one behind the other; how many ever were.
    kept_max: usize,
    kept: Vec<f64>,
    kept_ever: u64,
    /// When bins were drawn last, by the number of rows.
    drawn: u64,
    edges: Edges,
    /// Whether linear models want to know means and spreads.
    is_linear: bool,
    count: Box<[f64]>,
    variance: Box<[f64]>,
    scales: Arc<Scales>,
    /// The present row, in standard deviations, and the bin of each of its inputs.
    scaled: Vec<f64>,
    bins: Vec<u32>,
}

/// A row that is learned, or asked about.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// As it came.
    pub(crate) row: &'a [f64],
    /// In standard deviations, where leaves have linear models; else empty.
    pub(crate) scaled: &'a [f64],
    /// The bin of each input; empty where it is only asked about.
    pub(super) bins: &'a [u32],
}

/// How the bins of the trees' leaves move.
pub(crate) struct Moves {
    /// For each bin its new place.
    pub(super) moves: Vec<u32>,
    /// Bins afterwards.
    pub(super) bins: usize,
}

/// Rows that are kept where so many bytes are there for all.
fn kept_max(width: usize, memory_max: usize) -> usize {
    (memory_max / KEPT_SHARE / (8 * width.max(1))).clamp(KEPT_MIN, KEPT_MAX)
}

impl Inputs {
    /// Nothing is known. `memory_max` is what the trees may use together.
    pub(crate) fn new(settings: &ValueSettings, memory_max: usize) -> Self {
        let width = settings.inputs.len();
        Self {
            kinds: Arc::clone(&settings.inputs),
            bins_max: settings.bins_max,
            seed: settings.seed,
            rows: 0,
            kept_max: kept_max(width, memory_max),
            kept: Vec::new(),
            kept_ever: 0,
            drawn: 0,
            edges: Edges::unseen(&settings.inputs),
            is_linear: settings.is_linear(),
            count: vec![0.0; width].into(),
            variance: vec![0.0; width].into(),
            scales: Arc::new(Scales::unknown(width)),
            scaled: Vec::new(),
            bins: Vec::new(),
        }
    }

    /// Bytes that it may come to use.
    pub(crate) fn bytes(&self) -> usize {
        let width = self.kinds.len();
        let edges = edges::bytes_at_most(width, self.bins_max);
        // Edges are drawn while the old ones are there; a row is there as it is and in two other forms.
        size_of::<Self>() + 8 * self.kept_max * width + 2 * edges + (2 * 8 + 2 * 16 + 8 + 4) * width
    }

    /// Number of bins of all inputs.
    pub(crate) fn bins(&self) -> usize {
        self.edges.bins()
    }

    /// Where the bins lie.
    pub(super) fn edges(&self) -> &Edges {
        &self.edges
    }

    /// Mean and spread of every input, where linear models want to know them.
    pub(crate) fn scales(&self) -> Option<Arc<Scales>> {
        self.is_linear.then(|| Arc::clone(&self.scales))
    }

    /// Looks at a row that is asked about.
    #[inline]
    pub(crate) fn look(&mut self, row: &[f64]) {
        self.bins.clear();
        if self.is_linear {
            self.scales.apply(row, &mut self.scaled);
        }
    }

    /// Looks at a row that is learned.
    #[inline]
    pub(crate) fn look_to_learn(&mut self, row: &[f64]) {
        self.look(row);
        let edges = &self.edges;
        let values = self.kinds.iter().zip(row).enumerate();
        self.bins
            .extend(values.map(|(input, (kind, x))| edges.bin(*kind, input, *x)));
    }

    /// The row that was looked at last.
    #[inline]
    pub(crate) fn seen<'a>(&'a self, row: &'a [f64]) -> Seen<'a> {
        Seen {
            row,
            scaled: &self.scaled,
            bins: &self.bins,
        }
    }

    /// Learns a row once the trees have; how the bins of the trees move, if they do.
    pub(crate) fn learn(&mut self, row: &[f64]) -> Option<Moves> {
        if self.is_linear {
            self.measure(row);
        }
        self.keep(row);
        self.rows += 1;
        if DRAWN_AT.contains(&self.rows) {
            self.draw(|_, _| true)
        } else if self.rows.is_multiple_of(LOOK_EVERY) {
            self.draw(|edges, (input, values)| {
                let outside = values.iter().filter(|x| edges.is_outside(input, **x)).count();
                outside * OUTSIDE > values.len()
            })
        } else {
            None
        }
    }

    /// Means and variances, of the last rows where there were more.
    fn measure(&mut self, row: &[f64]) {
        let scales = Arc::make_mut(&mut self.scales);
        for (input, x) in row.iter().enumerate() {
            if x.is_nan() || self.kinds[input] != Input::Number {
                continue;
            }
            let count = (self.count[input] + 1.0).min(MEMORY_ROWS);
            let distance = x - scales.mean[input];
            scales.mean[input] += distance / count;
            let (variance, squared) = (&mut self.variance[input], distance * (x - scales.mean[input]));
            *variance += (squared - *variance) / count;
            scales.inverse[input] = if *variance > 0.0 { variance.sqrt().recip() } else { 0.0 };
            self.count[input] = count;
        }
    }

    fn keep(&mut self, row: &[f64]) {
        let width = self.kinds.len();
        let is_full = self.kept.len() >= self.kept_max * width;
        if is_full && !derived(self.seed, self.rows).is_multiple_of(STRIDE) {
            return;
        }
        if is_full {
            let at = (self.kept_ever % self.kept_max as u64) as usize * width;
            self.kept[at..at + width].copy_from_slice(row);
        } else {
            self.kept.reserve_exact(self.kept_max * width - self.kept.len());
            self.kept.extend_from_slice(row);
        }
        self.kept_ever += 1;
    }

    /// Draws the bins of those numbers anew of which `chosen` says so, given their sorted values.
    fn draw(&mut self, chosen: impl Fn(&Edges, (usize, &[f64])) -> bool) -> Option<Moves> {
        let width = self.kinds.len();
        let mut values = Vec::with_capacity(self.kept_max);
        let mut drawn = Vec::with_capacity(width);
        for (input, kind) in self.kinds.iter().enumerate() {
            values.clear();
            values.extend(
                self.kept
                    .chunks_exact(width)
                    .map(|row| row[input])
                    .filter(|x| !x.is_nan()),
            );
            let own = *kind == Input::Number && chosen(&self.edges, (input, &values));
            drawn.push(own.then(|| {
                values.sort_unstable_by(f64::total_cmp);
                edges::draw(&values, self.bins_max)
            }));
        }
        if drawn.iter().all(Option::is_none) {
            return None;
        }
        let (edges, moves) = self.edges.redrawn(&self.kinds, drawn);
        if edges == self.edges {
            return None;
        }
        self.edges = edges;
        self.drawn = self.rows;
        let bins = self.edges.bins();
        Some(Moves { moves, bins })
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        (self.rows, self.kept_ever, self.drawn) = (reader.u64()?, reader.u64()?, reader.u64()?);
        if self.is_linear {
            let width = self.kinds.len();
            self.count = numbers(&mut reader, width)?;
            self.variance = numbers(&mut reader, width)?;
            self.scales = Arc::new(Scales::read(&mut reader, width)?);
        }
        reader.finish()
    }

    fn read_kept(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        let (width, most) = (self.kinds.len(), self.kept_max);
        let rows = usize::try_from(self.kept_ever).map_or(most, |ever| ever.min(most));
        let bytes = reader.take(rows.saturating_mul(width).saturating_mul(8))?;
        let words = bytes.as_chunks::<8>().0.iter();
        // Room for all at once: what is kept never moves.
        self.kept = Vec::with_capacity(if rows == 0 { 0 } else { most * width });
        self.kept.extend(words.map(|word| f64::from_le_bytes(*word)));
        reader.finish()
    }
}

impl State for Inputs {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.rows, &mut |out| {
            out.put_u64(self.rows);
            out.put_u64(self.kept_ever);
            out.put_u64(self.drawn);
            if self.is_linear {
                put_numbers(&self.count, out);
                put_numbers(&self.variance, out);
                self.scales.write(out);
            }
        });
        chunks.chunk(KEPT, self.kept_ever, &mut |out| put_numbers(&self.kept, out));
        chunks.chunk(EDGES, self.drawn, &mut |out| self.edges.write(out));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        self.read_kept(open(chunks, KEPT)?)
            .map_err(|error| StateError::of(KEPT, error))?;
        let mut reader = open(chunks, EDGES)?;
        let edges = Edges::read(&mut reader, &self.kinds, self.bins_max);
        self.edges = edges
            .and_then(|edges| reader.finish().map(|()| edges))
            .map_err(|error| StateError::of(EDGES, error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::random::{of_row, uniform};

    fn inputs() -> Inputs {
        let kinds = [Input::Number, Input::Category { codes: 3 }, Input::Number];
        Inputs::new(&ValueSettings::new(1, kinds.into(), 1, 1 << 20), 1 << 20)
    }

    /// A number that moves to another place after 6,000 rows, a code, and a constant that is missing now and then.
    fn row(number: u64) -> [f64; 3] {
        let random = &mut of_row(6, number);
        let place = if number < 6_000 { 0.0 } else { 1e6 };
        let constant = if number.is_multiple_of(5) { f64::NAN } else { 7.5 };
        [place + uniform(random), (3.0 * uniform(random)).floor(), constant]
    }

    #[test]
    fn bins_follow_a_world_that_moves() {
        let mut inputs = inputs();
        let mut moved = Vec::new();
        for number in 0..12_000 {
            if inputs.learn(&row(number)).is_some() {
                moved.push(number + 1);
            }
        }
        assert_eq!(moved[..4], [16, 64, 256, 1_024]);
        assert!(
            moved.len() > 4 && moved[4..].iter().all(|at| *at > 6_000),
            "{moved:?}, seeds 1 and 6"
        );
        let bins: std::collections::BTreeSet<u32> = (20_000..20_500)
            .map(|number| {
                inputs.look_to_learn(&row(number));
                inputs.bins[0]
            })
            .collect();
        assert!(bins.len() > 30, "{} bins are used, seeds 1 and 6", bins.len());
        // A constant has a bin for itself, one below and one above, and one where it is missing.
        assert_eq!(inputs.edges().range(2).len(), 4);
    }

    #[test]
    fn numbers_are_measured_by_their_recent_spread() {
        let mut inputs = inputs();
        (0..3_000).for_each(|number| drop(inputs.learn(&row(number))));
        inputs.look(&[0.5, 2.0, f64::NAN]);
        let near = |a: f64, b: f64| (a - b).abs() < 0.05;
        let [x, code, missing] = inputs.seen(&[]).scaled[..] else {
            panic!("three numbers")
        };
        assert!(near(x, 0.0) && code == 0.0 && missing == 0.0, "seed 6");
        inputs.look(&[1.0, 0.0, -1e30]);
        let [x, _, constant] = inputs.seen(&[]).scaled[..] else {
            panic!("three numbers")
        };
        assert!(near(x, 3_f64.sqrt()) && constant == 0.0, "{x}, {constant}, seed 6");
    }

    #[test]
    fn restored_they_go_on_alike_and_damage_is_refused() {
        let mut whole = inputs();
        (0..300).for_each(|number| drop(whole.learn(&row(number))));
        let mut memory = Memory::default();
        memory.save(&whole);
        let mut restored = inputs();
        restored.restore(&memory).unwrap();
        for number in 300..8_000 {
            whole.learn(&row(number));
            restored.learn(&row(number));
        }
        assert_eq!(snapshot(&whole), snapshot(&restored));
        survives_damage(&whole, inputs);
    }
}
