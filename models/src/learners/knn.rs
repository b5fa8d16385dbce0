//! `knn`: what the nearest of the most recent rows were (Fix and Hodges 1951; Cover and Hart, "Nearest neighbor pattern
//! classification", IEEE Transactions on Information Theory 1967), on a window that forgets.
//!
//! The window lies in segments of [`SEGMENT_ROWS`] rows: the newest one grows, the others never change again. Rows are
//! kept as they came; every [`SEGMENT_ROWS`] rows the scale of the inputs is taken anew from the rows of the window, and
//! they are placed by it. What differs from MOA, which divides by the range of each input in the window, and from River,
//! which does not scale: inputs are divided by their standard deviation in the window, so that no unit of measurement
//! decides and a single absurd value little, and inputs of two values by what lies between them; of rows that are equally near the newer ones are taken. Nearer
//! neighbours have a larger say, as in River (Dudani, "The distance-weighted k-nearest-neighbor rule", 1976), or all have
//! the same, as in MOA: by whichever had the smaller error lately, as leaves of Hoeffding trees choose how to predict.

use std::collections::VecDeque;
use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::blocks::Blocks;
use super::settings::{MEMORY_MAX, check_memory, named, refuse_task, whole};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Form, Input, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::frame::ColumnKind;
use crate::learners::usable;
use crate::model::Model;
use crate::scorers::neighbours::{
    Answer, Axis, FAR_MAX, K_MAX, Neighbours, SEGMENT_ROWS, Scratch, Segment, WEIGHT_MAX, WEIGHT_MIN,
};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Chunks of the state.
const HEAD: &str = "head";
const SCALE: &str = "scale";
const ENCODER: &str = "encoder/";
/// What is farther from the mean counts as this many standard deviations away, as the encoder `standardise` has it.
const DEVIATIONS_MAX: f64 = 10.0;
/// Rows from which on a value that is too far away moves the scale as one at [`DEVIATIONS_MAX`] does.
const SETTLED: u64 = 32;
/// Numbers and values beyond are taken for it, so that sums of their squares stay finite.
const MAGNITUDE_MAX: f64 = 1e100;
/// A row in so many is answered both ways, where the better one is wanted: it takes a search.
const COMPARED_EVERY: u64 = 4;

/// The entry of the list.
pub(crate) struct KnnKind;

impl Component for KnnKind {
    fn name(&self) -> &'static str {
        "knn"
    }

    fn summary(&self) -> &'static str {
        "Nearest neighbours: the classes, or the mean value, of the most recent rows that are most like the row. Numbers \
         are compared in units of their standard deviation in the window; a missing one counts as the mean. For binary, \
         multiclass and regression tasks."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["knn"]),
            Field {
                name: "k",
                kind: Kind::Integer,
                need: Need::Optional("5"),
                doc: "Neighbours that are asked, from 1 to 1000.",
            },
            Field {
                name: "window_rows",
                kind: Kind::Integer,
                need: Need::Optional("1000"),
                doc: "Most recent rows among which they are looked for, from 10 to 1000000. Time and memory grow with it.",
            },
            Field {
                name: "say",
                kind: Kind::OneOf(&["adaptive", "distance", "equal"]),
                need: Need::Optional("`\"adaptive\"`"),
                doc: "Whose say is how large: that of nearer neighbours larger, in proportion to one over the distance; all \
                      the same; or by whichever of the two had the smaller squared error lately, over as many rows as the \
                      window has.",
            },
            Field {
                name: "scale",
                kind: Kind::OneOf(&["window", "none"]),
                need: Need::Optional("`\"window\"`"),
                doc: "Whether columns of numbers are divided by their standard deviation in the window (those of two values \
                      by what lies between these), or compared as they are encoded: right where all are measured in \
                      one unit.",
            },
            MEMORY_MAX,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"knn\"\nk = 7\nwindow_rows = 400\nsay = \"adaptive\"\nscale = \"window\"\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for KnnKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let k = whole(section, "k", 5, 1..=K_MAX as u64, problems) as usize;
        let window = whole(section, "window_rows", 1_000, 10..=1_000_000, problems);
        let say = section.get_or("say", "adaptive".to_owned(), problems);
        let is_scaled = section.get_or("scale", "window".to_owned(), problems) != "none";
        let answer = match context.task {
            Task::Binary => Answer::Binary,
            Task::Multiclass { classes } => Answer::Classes((classes as usize).max(2)),
            Task::Regression => Answer::Value,
            Task::Anomaly => {
                refuse_task(
                    section,
                    "`knn` learns binary, multiclass and regression tasks",
                    problems,
                );
                return None;
            }
        };
        // Numbers as they come, since rows that are kept are scaled anew when the scale changes.
        let encoder = context.encoder(Form::Native, section, problems)?;
        let bytes = bytes_of(window, &encoder);
        check_memory(self.name(), bytes, section, context, problems);
        (problems.len() == before).then(|| {
            let axes = axes_of(&encoder, is_scaled);
            let known = Neighbours {
                answer,
                k,
                by_distance: say != "equal",
                axes,
                segments: VecDeque::new(),
                skipped: 0,
            };
            let rules = (say == "adaptive").then(Rules::default);
            Box::new(Knn::new(context.task, window, encoder, known, rules)) as Box<dyn Learner>
        })
    }
}

/// Bytes of memory, at most.
fn bytes_of(window: u64, encoder: &ColumnsEncoder) -> usize {
    let width = encoder.width();
    let segments = window as usize / SEGMENT_ROWS + 2;
    // As rows came, and as they are placed.
    let segment = 8 * width * SEGMENT_ROWS + size_of::<Raw>() + Segment::bytes_of(width) + 4 * size_of::<usize>();
    let rows = width * (size_of::<Axis>() + 5 * size_of::<f64>());
    size_of::<Knn>() + segments * segment + rows + Blocks::bytes_max(width) + encoder.bytes_max()
}

/// What the inputs are to a distance before the first row. Only numbers, also those of vectors, are ever scaled: where
/// they are missing and what stands for a category are 0 or 1.
fn axes_of(encoder: &ColumnsEncoder, is_scaled: bool) -> Vec<Axis> {
    let mut axes: Vec<Axis> = encoder
        .inputs()
        .map(|input| Axis {
            is_category: input != Input::Number,
            center: 0.0,
            scale: 1.0,
            far: FAR_MAX,
        })
        .collect();
    let columns = encoder.columns().iter().zip(encoder.places());
    for (column, places) in columns {
        let numbers = match column.kind {
            ColumnKind::Number => 1,
            ColumnKind::Vector { width } => width as usize,
            ColumnKind::Category => 0,
        };
        let axes = axes[places].iter_mut().take(numbers);
        for axis in axes.filter(|axis| is_scaled && !axis.is_category) {
            (axis.scale, axis.far) = (0.0, DEVIATIONS_MAX);
        }
    }
    axes
}

/// Rows as they were encoded, row by row.
#[derive(Default)]
struct Raw {
    values: Vec<f64>,
    /// Rows that had been learned when it was changed last: its stamp.
    changed: u64,
}

struct Knn {
    task: Task,
    encoder: ColumnsEncoder,
    blocks: Blocks,
    core: Core,
    scratch: Scratch,
}

/// How wrong neighbours were lately: when all had the same say, and when nearer ones had a larger one.
#[derive(Default)]
struct Rules {
    /// Squared errors, each row's forgotten at the rate at which the window is.
    lost: [f64; 2],
    /// Used again from row to row.
    said: Vec<f64>,
}

impl Rules {
    /// Takes note of what the neighbours that were found say of a row, both ways.
    fn compare(&mut self, known: &Neighbours, scratch: &mut Scratch, row: (f64, f64), window: u64) {
        let (label, weight) = (kept_label(row.0), row.1.clamp(WEIGHT_MIN, WEIGHT_MAX));
        let kept = 1.0 - (COMPARED_EVERY as f64 / window as f64).min(0.5);
        for (lost, by_distance) in self.lost.iter_mut().zip([false, true]) {
            self.said.clear();
            known.answer(by_distance, scratch, &mut self.said);
            let miss = |(class, said): (usize, &f64)| match known.answer {
                Answer::Value | Answer::Binary => label - said,
                Answer::Classes(_) => f64::from(u8::from(class == label as usize)) - said,
            };
            let squares: f64 = self.said.iter().enumerate().map(miss).map(|miss| miss * miss).sum();
            *lost = kept * *lost + weight * squares;
        }
    }

    /// Whether nearer neighbours should have a larger say.
    fn by_distance(&self) -> bool {
        self.lost[1] <= self.lost[0]
    }
}

/// The rows of the window: the `i`th row ever learned stands in the segment of number `i / SEGMENT_ROWS`.
struct Core {
    window: u64,
    seen: u64,
    /// Rows that had been learned when the scale was taken last.
    scaled: u64,
    /// One for each segment of `known`.
    raw: VecDeque<Raw>,
    known: Neighbours,
    /// Where the better rule is wanted.
    rules: Option<Rules>,
}

impl Knn {
    fn new(task: Task, window: u64, encoder: ColumnsEncoder, known: Neighbours, rules: Option<Rules>) -> Self {
        Self {
            task,
            encoder,
            blocks: Blocks::default(),
            core: Core {
                window,
                seen: 0,
                scaled: 0,
                raw: VecDeque::new(),
                known,
                rules,
            },
            scratch: Scratch::default(),
        }
    }
}

impl Core {
    /// The number of the oldest segment, and how many of its rows have left.
    fn oldest(&self) -> (u64, usize) {
        let first = self.seen.saturating_sub(self.window);
        let size = SEGMENT_ROWS as u64;
        (first / size, (first % size) as usize)
    }

    /// Numbers of the segments.
    fn numbers(&self) -> std::ops::Range<u64> {
        self.oldest().0..self.seen.div_ceil(SEGMENT_ROWS as u64)
    }

    /// Learns from the errors of a row that is about to be learned which rule is the better one. `found` says whether its
    /// neighbours were looked for before.
    fn judge(&mut self, x: &[f64], row: (f64, f64), found: bool, scratch: &mut Scratch) {
        let Some(rules) = &mut self.rules else { return };
        if !self.seen.is_multiple_of(COMPARED_EVERY) {
            return;
        }
        if !found {
            self.known.find(x, scratch);
        }
        rules.compare(&self.known, scratch, row, self.window);
        self.known.by_distance = rules.by_distance();
    }

    fn step(&mut self, x: &[f64], label: f64, weight: f64) {
        let width = self.known.axes.len();
        if self.seen.is_multiple_of(SEGMENT_ROWS as u64) {
            self.raw.push_back(Raw {
                values: Vec::with_capacity(width * SEGMENT_ROWS),
                changed: 0,
            });
            self.known.segments.push_back(Arc::new(Segment::new(width)));
        }
        self.seen += 1;
        if let (Some(raw), Some(segment)) = (self.raw.back_mut(), self.known.segments.back_mut()) {
            raw.values.extend_from_slice(x);
            raw.changed = self.seen;
            let places = self.known.axes.iter().zip(x).map(|(axis, x)| axis.place(*x));
            Arc::make_mut(segment).push(places, kept_label(label), weight.clamp(WEIGHT_MIN, WEIGHT_MAX));
        }
        self.leave();
        let early = self.seen < SEGMENT_ROWS as u64 && self.seen.is_power_of_two();
        if early || self.seen.is_multiple_of(SEGMENT_ROWS as u64) {
            self.rescale();
        }
    }

    /// Lets the rows go that the window does not hold any more.
    fn leave(&mut self) {
        let segments = self.numbers().count();
        while self.raw.len() > segments {
            self.raw.pop_front();
            self.known.segments.pop_front();
        }
        self.known.skipped = self.oldest().1;
    }

    /// Takes the scale anew from the rows of the window, and places them by it.
    fn rescale(&mut self) {
        self.scaled = self.seen;
        let settled = self.seen >= SETTLED;
        for place in 0..self.known.axes.len() {
            let axis = &self.known.axes[place];
            if axis.is_category {
                continue;
            }
            let bounds = match axis.far < FAR_MAX && axis.scale > 0.0 && settled {
                true => DEVIATIONS_MAX / axis.scale,
                false => MAGNITUDE_MAX,
            };
            let (low, high) = (axis.center - bounds, axis.center + bounds);
            let (mean, spread) = self.moments(place, low.max(-MAGNITUDE_MAX), high.min(MAGNITUDE_MAX));
            let axis = &mut self.known.axes[place];
            axis.center = mean;
            if axis.far < FAR_MAX {
                let scale = 1.0 / spread;
                axis.scale = if scale.is_finite() { scale } else { 0.0 };
            }
        }
        self.place_all();
    }

    /// Mean and spread of an input in the window, as if no number were outside the bounds; missing ones are left out. The
    /// spread is the standard deviation, and of an input of two values what lies between them: in two rows of different
    /// categories, two such inputs differ, and they are as far apart as if one input held the category. By deviations a
    /// rare category would outweigh everything else.
    fn moments(&self, place: usize, low: f64, high: f64) -> (f64, f64) {
        let width = self.known.axes.len();
        let rows = self.raw.iter().flat_map(|raw| raw.values.chunks_exact(width));
        let numbers = || {
            let rows = rows.clone().skip(self.known.skipped).map(|row| row[place]);
            rows.filter(|x| !x.is_nan()).map(|x| x.clamp(low, high))
        };
        let count = numbers().count().max(1) as f64;
        let mean = numbers().sum::<f64>() / count;
        let squares: f64 = numbers().map(|x| (x - mean) * (x - mean)).sum();
        let (least, most) = numbers().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| {
            (least.min(x), most.max(x))
        });
        let has_two = numbers().all(|x| x == least || x == most);
        let spread = if has_two {
            most - least
        } else {
            (squares / count).sqrt()
        };
        // What rounding alone may make is none.
        (mean, if spread > 1e-14 * mean.abs() { spread } else { 0.0 })
    }

    /// Places all rows by the present scale.
    fn place_all(&mut self) {
        let width = self.known.axes.len();
        for (raw, segment) in self.raw.iter().zip(&mut self.known.segments) {
            let columns = &mut Arc::make_mut(segment).columns;
            for (row, x) in raw.values.chunks_exact(width.max(1)).enumerate() {
                for (index, (axis, x)) in self.known.axes.iter().zip(x).enumerate() {
                    columns[index * SEGMENT_ROWS + row] = axis.place(*x);
                }
            }
        }
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.seen = reader.u64()?;
        let lost = [reader.finite()?, reader.finite()?];
        if lost.iter().any(|lost| *lost < 0.0) {
            return Err(reader.error("an error is below 0"));
        }
        if let Some(rules) = &mut self.rules {
            rules.lost = lost;
            self.known.by_distance = rules.by_distance();
        }
        reader.finish()
    }

    fn read_scale(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.scaled = reader.u64()?;
        for axis in &mut self.known.axes {
            (axis.center, axis.scale) = (reader.finite()?, reader.finite()?);
            if axis.scale < 0.0 {
                return Err(reader.error("a scale is below 0"));
            }
        }
        reader.finish()
    }

    /// Reads the segment of a number.
    fn read_segment(&mut self, number: u64, task: Task, mut reader: Reader<'_>) -> Result<(), CodecError> {
        let width = self.known.axes.len();
        let rows = (self.seen - number * SEGMENT_ROWS as u64).min(SEGMENT_ROWS as u64);
        let mut raw = Raw {
            values: Vec::with_capacity(width * SEGMENT_ROWS),
            changed: reader.u64()?,
        };
        let mut segment = Segment::new(width);
        for _ in 0..rows {
            let (label, weight) = (reader.finite()?, reader.finite()?);
            if !usable(task, label, weight) || !(WEIGHT_MIN..=WEIGHT_MAX).contains(&weight) {
                return Err(reader.error("a row has an impossible label or weight"));
            }
            for _ in 0..width {
                raw.values.push(reader.f64()?);
            }
            segment.push(std::iter::empty(), label, weight);
        }
        reader.finish()?;
        self.raw.push_back(raw);
        self.known.segments.push_back(Arc::new(segment));
        Ok(())
    }
}

/// A label that sums of labels stay finite with.
fn kept_label(label: f64) -> f64 {
    label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX)
}

fn segment_name(number: u64) -> String {
    format!("segment/{number:012}")
}

impl Learner for Knn {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let (core, scratch) = (&mut self.core, &mut self.scratch);
        self.blocks.walk(self.task, &mut self.encoder, rows, |row| {
            if let Some(predictions) = predictions.as_deref_mut() {
                core.known.score_row(row.x, scratch, predictions);
            }
            if row.usable {
                core.judge(row.x, (row.label, row.weight), predictions.is_some(), scratch);
                core.step(row.x, row.label, row.weight);
            }
        });
    }

    fn seen(&self) -> u64 {
        self.core.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        if self.core.seen == 0 {
            return None;
        }
        let scorer = Arc::new(self.core.known.clone());
        Model::new(self.task, self.encoder.publish(), scorer).ok().map(Arc::new)
    }

    fn bytes(&self) -> usize {
        bytes_of(self.core.window, &self.encoder)
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        each(Fact {
            name: "window_rows",
            of: "",
            value: self.core.seen.min(self.core.window) as f64,
        });
    }
}

impl State for Knn {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        let core = &self.core;
        chunks.chunk(HEAD, core.seen, &mut |out| {
            out.put_u64(core.seen);
            let lost = core.rules.as_ref().map(|rules| rules.lost).unwrap_or_default();
            lost.iter().for_each(|lost| out.put_f64(*lost));
        });
        chunks.chunk(SCALE, core.scaled, &mut |out| {
            out.put_u64(core.scaled);
            for axis in &core.known.axes {
                out.put_f64(axis.center);
                out.put_f64(axis.scale);
            }
        });
        let width = core.known.axes.len();
        for (number, (raw, segment)) in core.numbers().zip(core.raw.iter().zip(&core.known.segments)) {
            chunks.chunk(&segment_name(number), raw.changed, &mut |out| {
                out.put_u64(raw.changed);
                for (row, (label, weight)) in segment.labels.iter().zip(&segment.weights).enumerate() {
                    out.put_f64(*label);
                    out.put_f64(*weight);
                    let x = &raw.values[row * width..(row + 1) * width];
                    x.iter().for_each(|x| out.put_f64(*x));
                }
            });
        }
        self.encoder.save(&mut Within::new(ENCODER, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let core = &mut self.core;
        core.read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        core.read_scale(open(chunks, SCALE)?)
            .map_err(|error| StateError::of(SCALE, error))?;
        core.raw.clear();
        core.known.segments.clear();
        for number in core.numbers() {
            let name = segment_name(number);
            core.read_segment(number, self.task, open(chunks, &name)?)
                .map_err(|error| StateError::of(&name, error))?;
        }
        core.known.skipped = core.oldest().1;
        core.place_all();
        self.encoder
            .restore(&WithinSource::new(ENCODER, chunks))
            .map_err(|error| error.within(ENCODER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};

    const INPUTS: usize = 3;

    fn rows(seed: u64) -> (Vec<Vec<f64>>, Plain) {
        let value = |x: &[f64], noise: f64| x[0] + x[1] * x[2] + 0.1 * noise;
        let plain = Plain::random(900, INPUTS, seed, value);
        // The columns again, of very different units.
        let columns: Vec<Vec<f64>> = (0..INPUTS)
            .map(|place| {
                let numbers = (0..900).map(|row| {
                    let mut random = crate::random::of_row(seed, row);
                    let draws: Vec<f64> = (0..INPUTS).map(|_| crate::random::uniform(&mut random)).collect();
                    (2.0 * draws[place] - 1.0) * 10_f64.powi(3 * place as i32)
                });
                numbers.collect()
            })
            .collect();
        let slices: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let labels = plain.labels().to_vec();
        let plain = Plain::new(&slices, &labels);
        (columns, plain)
    }

    /// The mean label of the nearest of the rows `from..at`, by the deviations of the window at row `scaled`.
    fn expected(columns: &[Vec<f64>], labels: &[f64], window: usize, at: usize, scaled: usize, k: usize) -> f64 {
        let deviation = |column: &Vec<f64>| {
            let values = &column[scaled.saturating_sub(window)..scaled];
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
        };
        let deviations: Vec<f64> = columns.iter().map(deviation).collect();
        let distance = |row: usize| -> f64 {
            let pairs = columns.iter().zip(&deviations);
            pairs
                .map(|(column, deviation)| ((column[row] - column[at]) / deviation).powi(2))
                .sum()
        };
        let mut order: Vec<usize> = (at.saturating_sub(window)..at).collect();
        order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        order[..k].iter().map(|row| labels[*row]).sum::<f64>() / k as f64
    }

    #[test]
    fn neighbours_are_those_of_the_definition_whatever_the_units() {
        let (columns, plain) = rows(29);
        let mut scores = Vec::new();
        learner("knn", "window_rows = 300\nsay = 'equal'", Task::Regression, &plain)
            .learn(plain.labelled(), Some(&mut scores));
        for at in [40_usize, 255, 256, 300, 301, 511, 512, 777, 899] {
            let scaled = if at < 256 { 1 << at.ilog2() } else { at / 256 * 256 };
            let expected = expected(&columns, plain.labels(), 300, at, scaled, 5);
            let found = scores[at];
            assert!(
                (found - expected).abs() < 1e-9,
                "row {at}, seed 29: {found}, {expected}"
            );
        }
    }

    #[test]
    fn the_rule_of_less_error_is_taken() {
        // Noise is best averaged by all neighbours alike; where there is none, the nearest knows best.
        for (noise, better) in [(1.0, "equal"), (0.0, "distance")] {
            let value = |x: &[f64], random: f64| (1.0 - noise) * (3.0 * x[0]).sin() + noise * random;
            let plain = Plain::random(3_000, 1, 41, value);
            let error = |say: &str| {
                let mut scores = Vec::new();
                let settings = format!("k = 20\nwindow_rows = 300\nsay = '{say}'");
                learner("knn", &settings, Task::Regression, &plain).learn(plain.labelled(), Some(&mut scores));
                let pairs = scores.iter().zip(plain.labels()).skip(500);
                pairs.map(|(score, label)| (score - label).powi(2)).sum::<f64>() / 2_500.0
            };
            let other = if better == "equal" { "distance" } else { "equal" };
            let (adaptive, best, worst) = (error("adaptive"), error(better), error(other));
            assert!(best < worst, "seed 41, noise {noise}: {best} and {worst}");
            assert!(
                adaptive - best < 0.1 * (worst - best),
                "seed 41, noise {noise}: {adaptive}, {best} and {worst}"
            );
        }
    }

    #[test]
    fn without_a_scale_the_largest_unit_decides() {
        let (_, plain) = rows(31);
        let error = |settings: &str| {
            let mut scores = Vec::new();
            learner("knn", settings, Task::Regression, &plain).learn(plain.labelled(), Some(&mut scores));
            let pairs = scores.iter().zip(plain.labels()).skip(300);
            pairs.map(|(score, label)| (score - label).abs()).sum::<f64>() / 600.0
        };
        let (scaled, plain) = (error(""), error("scale = 'none'"));
        assert!(scaled < 0.6 * plain, "{scaled} and {plain}, seed 31");
    }

    #[test]
    fn a_single_absurd_value_does_not_blind_an_input() {
        let (_, clean) = rows(37);
        let (mut columns, _) = rows(37);
        for column in &mut columns {
            column[600] = 1e300;
        }
        let slices: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let wild = Plain::new(&slices, clean.labels());
        let error = |rows: &Plain| {
            let mut scores = Vec::new();
            learner("knn", "", Task::Regression, rows).learn(rows.labelled(), Some(&mut scores));
            let pairs = scores.iter().zip(rows.labels()).skip(770);
            pairs.map(|(score, label)| (score - label).abs()).sum::<f64>() / 130.0
        };
        let (clean, wild) = (error(&clean), error(&wild));
        assert!(wild < 1.3 * clean, "{wild} and {clean}, seed 37");
    }

    #[test]
    fn a_rare_yes_or_no_does_not_outweigh_everything_else() {
        let mut columns = [vec![], vec![]];
        let mut labels = Vec::new();
        for row in 0..600_u32 {
            columns[0].push(f64::from(row % 50));
            columns[1].push(f64::from(u8::from(row % 100 == 0 || row == 540)));
            labels.push(f64::from(row % 50));
        }
        let slices: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let plain = Plain::new(&slices, &labels);
        let mut scores = Vec::new();
        learner("knn", "k = 1", Task::Regression, &plain).learn(plain.labelled(), Some(&mut scores));
        // The rows that are marked too have 0 in the other column, where this one has 40.
        assert_eq!(scores[540], labels[540]);
    }

    #[test]
    fn a_window_forgets() {
        let values: Vec<f64> = (0..2_000).map(|row| f64::from(row % 97)).collect();
        let labels: Vec<f64> = (0..2_000).map(|row| f64::from(u8::from(row >= 1_000))).collect();
        let plain = Plain::new(&[&values], &labels);
        let mut scores = Vec::new();
        learner("knn", "window_rows = 50\nk = 3\nsay = 'equal'", Task::Binary, &plain)
            .learn(plain.labelled(), Some(&mut scores));
        assert!(scores[900..1_000].iter().all(|score| *score < 0.5));
        assert!(scores[1_050..].iter().all(|score| *score == 3.5 / 4.0));
    }
}
