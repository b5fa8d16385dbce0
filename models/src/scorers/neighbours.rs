//! `neighbours`: what the nearest rows of a window were. Brute force: every row of the window is looked at, many at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "neighbours";
/// Rows that are kept together.
pub(crate) const SEGMENT_ROWS: usize = 256;
/// Neighbours that are asked, and classes, at most.
pub(crate) const K_MAX: usize = 1_000;
const CLASSES_MAX: u64 = 65_536;
/// The weight of a row in a window.
pub(crate) const WEIGHT_MIN: f64 = 1e-6;
pub(crate) const WEIGHT_MAX: f64 = 1e6;
/// Rows whose distances are compared at a time.
const LANES: usize = 16;
/// Of the farthest neighbour's distance: a neighbour that is nearer has a say as if it were this far away, so that rows that
/// are alike do not silence all others.
const NEAR_SHARE: f64 = 0.01;
/// What two different categories add to a squared distance: as much as two numbers of variance 1 do on average.
const APART: f32 = 2.0;
/// No number stands farther from the centre: the sum of all squares stays finite in single precision.
pub(crate) const FAR_MAX: f64 = 1e15;

/// What an input is to a distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    /// Whether two values are equal or not, never more or less.
    pub(crate) is_category: bool,
    /// What is subtracted from a number; a missing one stands there.
    pub(crate) center: f64,
    /// What it is then multiplied by.
    pub(crate) scale: f64,
    /// How far from 0 it may then be.
    pub(crate) far: f64,
}

impl Axis {
    /// Where a value, perhaps NaN, stands.
    #[inline]
    pub(crate) fn place(&self, value: f64) -> f32 {
        if self.is_category {
            value as f32
        } else if value.is_nan() {
            0.0
        } else {
            ((value - self.center) * self.scale).clamp(-self.far, self.far) as f32
        }
    }
}

/// A few rows, input by input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    /// [`SEGMENT_ROWS`] places for each input, zeros where there is no row yet.
    pub(crate) columns: Vec<f32>,
    pub(crate) labels: Vec<f64>,
    pub(crate) weights: Vec<f64>,
}

impl Segment {
    /// No rows of `width` inputs.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            columns: vec![0.0; width * SEGMENT_ROWS],
            labels: Vec::with_capacity(SEGMENT_ROWS),
            weights: Vec::with_capacity(SEGMENT_ROWS),
        }
    }

    /// Adds a row of which it has room.
    pub(crate) fn push(&mut self, x: impl Iterator<Item = f32>, label: f64, weight: f64) {
        let row = self.labels.len();
        for (column, x) in self.columns.chunks_exact_mut(SEGMENT_ROWS).zip(x) {
            column[row] = x;
        }
        self.labels.push(label);
        self.weights.push(weight);
    }

    /// Bytes of a segment of so many inputs.
    pub(crate) fn bytes_of(width: usize) -> usize {
        size_of::<Self>() + SEGMENT_ROWS * (4 * width + 16)
    }
}

/// What is made of the neighbours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    /// The probability of class 1.
    Binary,
    /// That of each class.
    Classes(usize),
    /// The mean of their values.
    Value,
}

/// The nearest of the rows seen so far, the nearest first.
#[derive(Debug, Clone, Default)]
struct Nearest {
    found: Vec<Neighbour>,
}

#[derive(Debug, Clone, Copy)]
struct Neighbour {
    distance: f32,
    label: f64,
    weight: f64,
}

impl Nearest {
    /// What a row must be nearer than to be among `k`.
    #[inline]
    fn bound(&self, k: usize) -> f32 {
        match self.found.last() {
            Some(last) if self.found.len() == k => last.distance,
            _ => f32::INFINITY,
        }
    }

    fn add(&mut self, k: usize, neighbour: Neighbour) {
        self.found.truncate(k - 1);
        let place = self.found.partition_point(|other| other.distance <= neighbour.distance);
        self.found.insert(place, neighbour);
    }
}

/// Memory that is used again from row to row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    query: Vec<f32>,
    nearest: Nearest,
    shares: Vec<f64>,
    sums: Vec<f64>,
}

/// The rows of a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Neighbours {
    pub(crate) answer: Answer,
    /// Neighbours that are asked, from 1 to [`K_MAX`].
    pub(crate) k: usize,
    /// Whether a neighbour has a say in proportion to one over its distance (Dudani 1976), or all have the same.
    pub(crate) by_distance: bool,
    pub(crate) axes: Vec<Axis>,
    /// The oldest first. All but the last are full.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// Rows of the first segment that do not belong to the window any more.
    pub(crate) skipped: usize,
}

impl Neighbours {
    /// Appends the scores of a row.
    pub(crate) fn score_row(&self, x: &[f64], scratch: &mut Scratch, out: &mut Vec<f64>) {
        self.find(x, scratch);
        self.answer(self.by_distance, scratch, out);
    }

    /// Finds the neighbours of a row.
    pub(crate) fn find(&self, x: &[f64], scratch: &mut Scratch) {
        scratch.query.clear();
        scratch
            .query
            .extend(self.axes.iter().zip(x).map(|(axis, x)| axis.place(*x)));
        scratch.nearest.found.clear();
        // The newest rows first: of those that are equally near, they are taken.
        for (index, segment) in self.segments.iter().enumerate().rev() {
            let from = if index == 0 { self.skipped } else { 0 };
            self.search(segment, from, &scratch.query, &mut scratch.nearest);
        }
    }

    fn search(&self, segment: &Segment, from: usize, query: &[f32], nearest: &mut Nearest) {
        let rows = segment.labels.len();
        let mut distances = [0.0_f32; SEGMENT_ROWS];
        self.measure(segment, from, query, &mut distances);
        for (lane, distances) in distances.chunks_exact(LANES).enumerate().rev() {
            let (first, bound) = (lane * LANES, nearest.bound(self.k));
            if first >= rows || first + LANES <= from || !distances.iter().fold(false, |any, d| any | (*d < bound)) {
                continue;
            }
            for row in (first.max(from)..rows.min(first + LANES)).rev() {
                let distance = distances[row - first];
                if distance < nearest.bound(self.k) {
                    let (label, weight) = (segment.labels[row], segment.weights[row]);
                    let neighbour = Neighbour {
                        distance,
                        label,
                        weight,
                    };
                    nearest.add(self.k, neighbour);
                }
            }
        }
    }

    /// Adds the squared distances of the rows from `from` on to `distances`; what it makes of other places is of no use.
    #[inline]
    fn measure(&self, segment: &Segment, from: usize, query: &[f32], distances: &mut [f32; SEGMENT_ROWS]) {
        let range = from / LANES * LANES..segment.labels.len().next_multiple_of(LANES);
        let distances = &mut distances[range.clone()];
        let columns = segment.columns.chunks_exact(SEGMENT_ROWS);
        for ((axis, column), x) in self.axes.iter().zip(columns).zip(query) {
            let pairs = distances.iter_mut().zip(&column[range.clone()]);
            if axis.is_category {
                pairs.for_each(|(distance, other)| *distance += if other == x { 0.0 } else { APART });
            } else {
                pairs.for_each(|(distance, other)| *distance += (other - x) * (other - x));
            }
        }
    }

    /// The share of each neighbour in the answer, of all their weight together, which is given.
    fn shares(by_distance: bool, found: &[Neighbour], shares: &mut Vec<f64>) -> f64 {
        let farthest = found
            .last()
            .map_or(0.0, |neighbour| f64::from(neighbour.distance).sqrt());
        let is_even = !by_distance || farthest == 0.0;
        shares.clear();
        shares.extend(found.iter().map(|neighbour| {
            let distance = f64::from(neighbour.distance).sqrt() / farthest;
            neighbour.weight / if is_even { 1.0 } else { distance.max(NEAR_SHARE) }
        }));
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
        found.iter().map(|neighbour| neighbour.weight).sum()
    }

    /// Appends what the neighbours that were found say. Classes are as if one row more, spread over all of them, were
    /// among the neighbours.
    pub(crate) fn answer(&self, by_distance: bool, scratch: &mut Scratch, out: &mut Vec<f64>) {
        let found = &scratch.nearest.found;
        let total = Self::shares(by_distance, found, &mut scratch.shares);
        let pairs = found.iter().zip(&scratch.shares);
        let classes = match self.answer {
            Answer::Binary => 2,
            Answer::Classes(classes) => classes,
            Answer::Value => {
                // An empty sum is -0.
                out.push(pairs.map(|(neighbour, share)| neighbour.label * share).sum::<f64>() + 0.0);
                return;
            }
        };
        let sums = &mut scratch.sums;
        sums.clear();
        sums.resize(classes, 1.0 / classes as f64);
        for (neighbour, share) in pairs {
            if let Some(sum) = sums.get_mut(neighbour.label as usize) {
                *sum += share * total;
            }
        }
        let skip = usize::from(self.answer == Answer::Binary);
        let all: f64 = sums.iter().sum();
        out.extend(sums.iter().skip(skip).map(|sum| sum / all));
    }

    fn rows(&self) -> usize {
        let rows: usize = self.segments.iter().map(|segment| segment.labels.len()).sum();
        rows - self.skipped
    }
}

impl Scorer for Neighbours {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.axes.len()
    }

    fn outputs(&self) -> usize {
        match self.answer {
            Answer::Binary | Answer::Value => 1,
            Answer::Classes(classes) => classes,
        }
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        let mut scratch = Scratch::default();
        x.iter().for_each(|row| self.score_row(row, &mut scratch, out));
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (kind, classes) = match self.answer {
            Answer::Binary => (0, 2),
            Answer::Classes(classes) => (1, classes),
            Answer::Value => (2, 0),
        };
        out.put_u8(kind);
        out.put_u64(classes as u64);
        out.put_u64(self.k as u64);
        out.put_u8(u8::from(self.by_distance));
        out.put_u64(self.axes.len() as u64);
        for axis in &self.axes {
            out.put_u8(u8::from(axis.is_category));
            [axis.center, axis.scale, axis.far].iter().for_each(|x| out.put_f64(*x));
        }
        out.put_u64(self.rows() as u64);
        for (index, segment) in self.segments.iter().enumerate() {
            let from = if index == 0 { self.skipped } else { 0 };
            for row in from..segment.labels.len() {
                out.put_f64(segment.labels[row]);
                out.put_f64(segment.weights[row]);
                let columns = segment.columns.chunks_exact(SEGMENT_ROWS);
                columns.for_each(|column| out.put_u32(column[row].to_bits()));
            }
        }
    }

    fn bytes(&self) -> usize {
        let segments = self.segments.len() * Segment::bytes_of(self.axes.len());
        size_of::<Self>() + size_of_val(&*self.axes) + segments
    }
}

fn read_axis(reader: &mut Reader<'_>) -> Result<Axis, CodecError> {
    let axis = Axis {
        is_category: match reader.u8()? {
            mark @ (0 | 1) => mark == 1,
            other => return Err(reader.error(format!("{other} is no kind of input"))),
        },
        center: reader.finite()?,
        scale: reader.finite()?,
        far: reader.finite()?,
    };
    if !(0.0..=FAR_MAX).contains(&axis.far) {
        return Err(reader.error("an input has no bound"));
    }
    Ok(axis)
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let (kind, classes, k) = (reader.u8()?, reader.u64()?, reader.u64()?);
    let answer = match (kind, classes) {
        (0, 2) => Answer::Binary,
        (1, 2..=CLASSES_MAX) => Answer::Classes(classes as usize),
        (2, 0) => Answer::Value,
        _ => return Err(reader.error(format!("{kind} with {classes} classes is no answer"))),
    };
    let by_distance = match reader.u8()? {
        mark @ (0 | 1) => mark == 1,
        other => return Err(reader.error(format!("{other} does not say whose say is how large"))),
    };
    let width = reader.count(25)?;
    if !(1..=K_MAX as u64).contains(&k) || width > WIDTH_MAX {
        return Err(reader.error(format!("{k} neighbours of {width} inputs")));
    }
    let axes: Vec<Axis> = (0..width).map(|_| read_axis(reader)).collect::<Result<_, _>>()?;
    let rows = reader.count(16 + 4 * width)?;
    let mut segments = VecDeque::new();
    let mut x = vec![0.0; width];
    for from in (0..rows).step_by(SEGMENT_ROWS) {
        let mut segment = Segment::new(width);
        for _ in from..rows.min(from + SEGMENT_ROWS) {
            let (label, weight) = (reader.finite()?, reader.finite()?);
            for (x, axis) in x.iter_mut().zip(&axes) {
                *x = f32::from_bits(reader.u32()?);
                if !axis.is_category && !(0.0..=1.01 * FAR_MAX).contains(&f64::from(x.abs())) {
                    return Err(reader.error("a row is too far away"));
                }
            }
            if label < 0.0 && answer != Answer::Value || !(WEIGHT_MIN..=WEIGHT_MAX).contains(&weight) {
                return Err(reader.error("a row has an impossible label or weight"));
            }
            segment.push(x.iter().copied(), label, weight);
        }
        segments.push_back(Arc::new(segment));
    }
    Ok(Arc::new(Neighbours {
        answer,
        k: k as usize,
        by_distance,
        axes,
        segments,
        skipped: 0,
    }))
}

/// Thirty rows of three classes over two numbers and a category.
pub(super) fn example() -> Arc<dyn Scorer> {
    let number = Axis {
        is_category: false,
        center: 0.5,
        scale: 2.0,
        far: 10.0,
    };
    let category = Axis {
        is_category: true,
        ..number
    };
    let axes = vec![number, number, category];
    let mut segment = Segment::new(3);
    for row in 0..30 {
        let x = [f64::from(row % 7) - 3.0, f64::from(row % 5) - 2.0, f64::from(row % 2)];
        let places = axes.iter().zip(x).map(|(axis, x)| axis.place(x));
        segment.push(places, f64::from(row % 3), 1.0 + f64::from(row % 4));
    }
    Arc::new(Neighbours {
        answer: Answer::Classes(3),
        k: 5,
        by_distance: true,
        axes,
        segments: VecDeque::from([Arc::new(segment)]),
        skipped: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rows_are_asked_the_newer_of_equal_ones_first() {
        let axis = Axis {
            is_category: false,
            center: 0.0,
            scale: 1.0,
            far: 10.0,
        };
        let mut first = Segment::new(1);
        (0..SEGMENT_ROWS).for_each(|row| first.push([row as f32 / 100.0].into_iter(), 0.0, 1.0));
        let mut last = Segment::new(1);
        [(0.0, 7.0), (0.0, 8.0), (1.0, 9.0)]
            .into_iter()
            .for_each(|(x, label)| last.push([x].into_iter(), label, 1.0));
        let mut neighbours = Neighbours {
            answer: Answer::Value,
            k: 1,
            by_distance: false,
            axes: vec![axis],
            segments: VecDeque::from([Arc::new(first), Arc::new(last)]),
            skipped: 0,
        };
        let score = |neighbours: &Neighbours, x: f64| {
            let mut out = Vec::new();
            neighbours.score_row(&[x], &mut Scratch::default(), &mut out);
            out[0]
        };
        assert_eq!(score(&neighbours, 0.0), 8.0);
        assert_eq!(score(&neighbours, 0.996), 9.0);
        neighbours.k = 3;
        assert_eq!(score(&neighbours, f64::NAN), 5.0, "7, 8 and the oldest row");
        neighbours.skipped = 255;
        assert_eq!(score(&neighbours, 0.0), 8.0, "7, 8, 9: the oldest rows are gone");
        neighbours.k = 1;
        assert_eq!(score(&neighbours, 99.0), 0.0, "taken for 10, and 2.55 is the nearest");
        (neighbours.k, neighbours.by_distance) = (3, true);
        // At 0.25 the distances are 0.25, 0.25 and 0.75.
        let expected = (8.0 + 7.0 + 9.0 / 3.0) / (2.0 + 1.0 / 3.0);
        assert!((score(&neighbours, 0.25) - expected).abs() < 1e-12);
    }
}
