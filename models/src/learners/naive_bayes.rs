//! `naive-bayes`: counts of classes, of categories within each class, and means and variances of numbers within each
//! class, row by row (the incremental form of John and Langley, "Estimating continuous distributions in Bayesian
//! classifiers", UAI 1995).
//!
//! Means and variances run along (Welford 1962; with weights West, "Updating mean and variance estimates: an improved
//! method", Communications of the ACM 1979). A class is judged as if it had one more row, drawn from the rows of all
//! classes together: so one with a single row has a variance, and a number that is constant within a class forbids
//! nothing. Categories are smoothed as Laplace did, over those that were seen and one that was not.
//!
//! What scoring needs is brought up to date for the class of a row, and now and then for the others, as the rows of all
//! classes move too.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::blocks::Blocks;
use super::rows::TrainingSet;
use super::settings::{MEMORY_MAX, check_memory, named, refuse_task};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Form, Input, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::scorers::naive_bayes::{Logs, NaiveBayes as Known, Table};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Prefix of the encoder's chunks.
const ENCODER: &str = "encoder/";
/// A row counts at most this often: sums of weights stay finite.
const WEIGHT_MAX: f64 = 1e6;
/// All classes are brought up to date at each of the first rows, and then whenever so many have passed.
const REFRESH_ROWS: u64 = 64;

/// The entry of the list.
pub(crate) struct NaiveBayesKind;

impl Component for NaiveBayesKind {
    fn name(&self) -> &'static str {
        "naive-bayes"
    }

    fn summary(&self) -> &'static str {
        "Naive Bayes: numbers are taken for normally distributed within a class, categories are counted, missing values \
         left out. Learns from each row once, hardly costs anything, and needs few rows; it never forgets. Binary and \
         multiclass tasks."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["naive-bayes"]),
            Field {
                name: "smoothing",
                kind: Kind::Float,
                need: Need::Optional("1"),
                doc: "Rows that every category counts in every class beforehand (Laplace smoothing), above 0 and at most \
                      1000.",
            },
            MEMORY_MAX,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"naive-bayes\"\nsmoothing = 0.5\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for NaiveBayesKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let smoothing = section.get_or("smoothing", 1.0, problems);
        if !(smoothing > 0.0 && smoothing <= 1000.0) {
            let message = "`smoothing` must be above 0 and at most 1000".to_owned();
            problems.push(section.key_span("smoothing"), message, None);
        }
        let (Task::Binary | Task::Multiclass { .. }) = context.task else {
            refuse_task(section, "`naive-bayes` learns binary and multiclass tasks", problems);
            return None;
        };
        let encoder = context.encoder(Form::Native, section, problems)?;
        // Before anything of that size is allocated.
        let bytes = bytes_of(context.task.outputs().max(2), &encoder);
        check_memory(self.name(), bytes, section, context, problems);
        (problems.len() == before)
            .then(|| Box::new(NaiveBayes::new(context.task, encoder, smoothing)) as Box<dyn Learner>)
    }
}

/// Bytes of memory for so many classes.
fn bytes_of(classes: usize, encoder: &ColumnsEncoder) -> usize {
    let width = encoder.width();
    let codes = encoder.inputs().map(|input| match input {
        Input::Number => 0,
        Input::Category { codes } => codes as usize,
    });
    let moments = 3 * width * (classes + 1);
    let known = classes * (2 + 3 * width);
    let tables = codes.map(|codes| 2 * classes * (codes + 1)).sum::<usize>();
    size_of::<NaiveBayes>()
        + (moments + known + tables + width) * size_of::<f64>()
        + width * (size_of::<Counts>() + size_of::<Table>() + size_of::<Logs>())
        + Blocks::bytes_max(width)
        + encoder.bytes_max()
}

/// Weight, mean and summed squared deviations of each input of each class, and last of all rows together.
struct Moments {
    width: usize,
    weights: Vec<f64>,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Takes a row of a class. `is_number` is 1 for inputs that are numbers, 0 for the others, which stay as they are.
    #[inline]
    fn update(&mut self, class: usize, x: &[f64], row_weight: f64, is_number: &[f64]) {
        let of_class = class * self.width..(class + 1) * self.width;
        let weights = self.weights[of_class.clone()].iter_mut();
        let means = self.means[of_class.clone()].iter_mut();
        let squares = self.squares[of_class].iter_mut();
        let moments = weights.zip(means).zip(squares);
        for ((((weight, mean), squares), x), is_number) in moments.zip(x).zip(is_number) {
            let counts = if x.is_nan() { 0.0 } else { row_weight * is_number };
            let x = if x.is_nan() { *mean } else { *x };
            *weight += counts;
            let share = if counts > 0.0 { counts / *weight } else { 0.0 };
            let before = x - *mean;
            *mean += before * share;
            *squares += counts * before * (x - *mean);
        }
    }
}

/// What was counted of an input that is a category.
struct Counts {
    codes: usize,
    /// Weights, at `code * classes + class`.
    counts: Vec<f64>,
    /// Of each class.
    totals: Vec<f64>,
    /// Codes that were seen.
    seen: usize,
    /// The row that changed it last: its stamp.
    changed: u64,
}

impl Counts {
    /// Codes among which a class's weight is divided: those that were seen, and one that was not.
    fn possible(&self) -> f64 {
        (self.seen + 1).min(self.codes) as f64
    }

    /// Takes a code of a row of a class, and brings the logarithms up to date.
    fn update(&mut self, class: usize, code: f64, row_weight: f64, smoothing: f64, logs: &mut Arc<Logs>) {
        let classes = self.totals.len();
        let start = (code as usize).min(self.codes - 1) * classes;
        let is_new = self.counts[start..start + classes].iter().all(|count| *count == 0.0);
        self.counts[start + class] += row_weight;
        self.totals[class] += row_weight;
        self.seen += usize::from(is_new);
        let smoothed = smoothing * self.possible();
        let logs = Arc::make_mut(logs);
        logs.counts[start + class] = (self.counts[start + class] + smoothing).ln();
        if is_new {
            let totals = self.totals.iter().zip(&mut logs.totals);
            totals.for_each(|(total, log)| *log = (total + smoothed).ln());
        } else {
            logs.totals[class] = (self.totals[class] + smoothed).ln();
        }
    }

    /// The logarithms of all of it.
    fn logs(&self, smoothing: f64) -> Logs {
        let smoothed = smoothing * self.possible();
        Logs {
            counts: self.counts.iter().map(|count| (count + smoothing).ln()).collect(),
            totals: self.totals.iter().map(|total| (total + smoothed).ln()).collect(),
        }
    }
}

/// The learner.
pub(crate) struct NaiveBayes {
    task: Task,
    encoder: ColumnsEncoder,
    blocks: Blocks,
    core: Core,
}

/// What a row changes.
struct Core {
    smoothing: f64,
    moments: Moments,
    /// 1 for inputs that are numbers, 0 for categories.
    is_number: Vec<f64>,
    /// In the order of the tables of `known`.
    counts: Vec<Counts>,
    /// What scores.
    known: Known,
    seen: u64,
}

impl NaiveBayes {
    /// Has learned nothing.
    fn new(task: Task, encoder: ColumnsEncoder, smoothing: f64) -> Self {
        let inputs: Vec<Input> = encoder.inputs().collect();
        Self::over(&inputs, task, encoder, smoothing)
    }

    /// The same, the inputs of the encoder taken for these.
    fn over(inputs: &[Input], task: Task, encoder: ColumnsEncoder, smoothing: f64) -> Self {
        let (width, classes) = (encoder.width(), task.outputs().max(2));
        let numbers = || vec![0.0; (classes + 1) * width];
        let (mut counts, mut tables) = (Vec::new(), Vec::new());
        for (place, input) in inputs.iter().enumerate() {
            if let Input::Category { codes } = input {
                let codes = (*codes as usize).max(1);
                let of_input = Counts {
                    codes,
                    counts: vec![0.0; codes * classes],
                    totals: vec![0.0; classes],
                    seen: 0,
                    changed: 0,
                };
                let logs = Arc::new(of_input.logs(smoothing));
                tables.push(Table { place, logs });
                counts.push(of_input);
            }
        }
        let is_number = inputs.iter().map(|input| f64::from(u8::from(*input == Input::Number)));
        Self {
            task,
            blocks: Blocks::default(),
            core: Core {
                smoothing,
                moments: Moments {
                    width,
                    weights: numbers(),
                    means: numbers(),
                    squares: numbers(),
                },
                is_number: is_number.collect(),
                counts,
                known: Known::new(classes, task == Task::Binary, width, tables),
                seen: 0,
            },
            encoder,
        }
    }
}

/// What has learned from a training set, each class brought up to date with all of it. An input that is 0 or 1
/// throughout is counted as a category of two: a normal density of one that is rarely 1 would be far too sure.
pub(super) fn fitted(task: Task, set: &TrainingSet, smoothing: f64) -> Known {
    let mut inputs: Vec<Input> = set.encoder.inputs().collect();
    for (place, input) in inputs.iter_mut().enumerate() {
        let mut values = set.x.iter().map(|x| x[place]);
        if *input == Input::Number && values.all(|x| x == 0.0 || x == 1.0 || x.is_nan()) {
            *input = Input::Category { codes: 2 };
        }
    }
    let mut core = NaiveBayes::over(&inputs, task, set.encoder.clone(), smoothing).core;
    for (x, (class, weight)) in set.x.iter().zip(set.y.iter().zip(&set.weights)) {
        core.step(x, *class as usize, weight.min(WEIGHT_MAX));
    }
    (0..core.classes()).for_each(|class| core.refresh(class));
    core.known
}

impl Core {
    fn classes(&self) -> usize {
        self.known.class_weights.len()
    }

    fn step(&mut self, x: &[f64], class: usize, row_weight: f64) {
        self.seen += 1;
        let all = self.classes();
        self.moments.update(class, x, row_weight, &self.is_number);
        self.moments.update(all, x, row_weight, &self.is_number);
        for (counts, table) in self.counts.iter_mut().zip(&mut self.known.tables) {
            let code = x[table.place];
            if !code.is_nan() {
                counts.update(class, code, row_weight, self.smoothing, &mut table.logs);
                counts.changed = self.seen;
            }
        }
        self.known.class_weights[class] += row_weight;
        self.known.log_weights[class] = self.known.class_weights[class].ln();
        if self.seen < REFRESH_ROWS || self.seen.is_multiple_of(REFRESH_ROWS) {
            (0..all).for_each(|class| self.refresh(class));
        } else {
            self.refresh(class);
        }
    }

    /// Brings the densities of a class up to date: those of its rows and of one more, drawn from all rows.
    #[inline]
    fn refresh(&mut self, class: usize) {
        let (width, all) = (self.moments.width, self.classes());
        let of_class = class * width..(class + 1) * width;
        let of_all = all * width..(all + 1) * width;
        let Moments {
            weights,
            means,
            squares,
            ..
        } = &self.moments;
        let own = weights[of_class.clone()]
            .iter()
            .zip(&means[of_class.clone()])
            .zip(&squares[of_class.clone()]);
        let together = weights[of_all.clone()]
            .iter()
            .zip(&means[of_all.clone()])
            .zip(&squares[of_all]);
        let known = self.known.means[of_class.clone()]
            .iter_mut()
            .zip(&mut self.known.precisions[of_class.clone()])
            .zip(&mut self.known.log_scales[of_class]);
        for ((((weight, mean), squares), ((rows, center), spread)), known) in own.zip(together).zip(known) {
            let ((known_mean, precision), log_scale) = known;
            let share = 1.0 / (weight + 1.0);
            let apart = center - mean;
            *known_mean = mean + apart * share;
            let variance = (squares + spread / rows.max(f64::MIN_POSITIVE) + apart * apart * weight * share) * share;
            let half = 0.5 / variance;
            // A column that never changed says nothing.
            (*precision, *log_scale) = if variance > 0.0 && half.is_finite() {
                (half, -0.5 * variance.ln())
            } else {
                (0.0, 0.0)
            };
        }
    }

    /// The lists of numbers that are state, in a fixed order.
    fn numbers(&mut self) -> [&mut Vec<f64>; 7] {
        [
            &mut self.known.class_weights,
            &mut self.moments.weights,
            &mut self.moments.means,
            &mut self.moments.squares,
            &mut self.known.means,
            &mut self.known.precisions,
            &mut self.known.log_scales,
        ]
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.seen);
        let (known, moments) = (&self.known, &self.moments);
        for numbers in [&known.class_weights, &moments.weights, &moments.means, &moments.squares] {
            out.put_f64s(numbers);
        }
        // Not all of it follows from the rest: classes are brought up to date at different rows.
        for numbers in [&known.means, &known.precisions, &known.log_scales] {
            out.put_f64s(numbers);
        }
    }

    fn read(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.seen = reader.u64()?;
        for (index, numbers) in self.numbers().into_iter().enumerate() {
            let read = reader.f64s()?;
            // Means and logarithms may be below 0.
            let may_be_below = matches!(index, 2 | 4 | 6);
            if read.len() != numbers.len() || (!may_be_below && read.iter().any(|number| *number < 0.0)) {
                return Err(reader.error("these are not the numbers of these classes and inputs"));
            }
            *numbers = read;
        }
        self.known.log_weights = self.known.class_weights.iter().map(|weight| weight.ln()).collect();
        reader.finish()
    }
}

fn write_counts(counts: &Counts, out: &mut Vec<u8>) {
    out.put_u64(counts.changed);
    out.put_f64s(&counts.totals);
    out.put_f64s(&counts.counts);
}

fn read_counts(mut reader: Reader<'_>, old: &Counts) -> Result<Counts, CodecError> {
    let (changed, totals, counts) = (reader.u64()?, reader.f64s()?, reader.f64s()?);
    let fits = totals.len() == old.totals.len() && counts.len() == old.counts.len();
    if !fits || totals.iter().chain(&counts).any(|weight| *weight < 0.0) {
        return Err(reader.error("these are not the counts of these classes and categories"));
    }
    let seen = counts
        .chunks(totals.len())
        .filter(|code| code.iter().any(|count| *count > 0.0));
    let seen = seen.count();
    let codes = old.codes;
    reader.finish().map(|()| Counts {
        codes,
        counts,
        totals,
        seen,
        changed,
    })
}

/// The name of the chunk of a category's counts.
fn chunk_of(index: usize) -> String {
    format!("category/{index:04}")
}

impl Learner for NaiveBayes {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let core = &mut self.core;
        self.blocks.walk(self.task, &mut self.encoder, rows, |row| {
            if let Some(predictions) = predictions.as_deref_mut() {
                core.known.score_row(row.x, predictions);
            }
            if row.usable {
                core.step(row.x, row.label as usize, row.weight.min(WEIGHT_MAX));
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
        bytes_of(self.core.classes(), &self.encoder)
    }
}

impl State for NaiveBayes {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("numbers", self.core.seen, &mut |out| self.core.write(out));
        for (index, counts) in self.core.counts.iter().enumerate() {
            chunks.chunk(&chunk_of(index), counts.changed, &mut |out| write_counts(counts, out));
        }
        self.encoder.save(&mut Within::new(ENCODER, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let numbers = self.core.read(open(chunks, "numbers")?);
        numbers.map_err(|error| StateError::of("numbers", error))?;
        let smoothing = self.core.smoothing;
        let tables = self.core.counts.iter_mut().zip(&mut self.core.known.tables);
        for (index, (counts, table)) in tables.enumerate() {
            let name = chunk_of(index);
            *counts = read_counts(open(chunks, &name)?, counts).map_err(|error| StateError::of(&name, error))?;
            table.logs = Arc::new(counts.logs(smoothing));
        }
        self.encoder
            .restore(&WithinSource::new(ENCODER, chunks))
            .map_err(|error| error.within(ENCODER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};

    /// Weight, mean and variance of numbers.
    fn moments(numbers: &[f64]) -> (f64, f64, f64) {
        let rows = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / rows;
        (
            rows,
            mean,
            numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows,
        )
    }

    #[test]
    fn probabilities_are_those_of_the_definition() {
        let values = [3.0, 4.5, f64::NAN, 2.0, 7.0, 6.5, 9.0, 3.5];
        let labels = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        let rows = Plain::new(&[&values, &[5.0; 8]], &labels);
        let mut scores = Vec::new();
        learner("naive-bayes", "", Task::Binary, &rows).learn(rows.labelled(), Some(&mut scores));
        // Of the last row by the seven before it; the column that never changed says nothing.
        let of = |class: Option<f64>| -> Vec<f64> {
            let pairs = values.iter().zip(&labels).take(7);
            let chosen = pairs.filter(|(x, label)| x.is_finite() && class.is_none_or(|class| class == **label));
            chosen.map(|(x, _)| *x).collect()
        };
        let (_, center, spread) = moments(&of(None));
        let density = |class: f64| {
            let (rows, mean, variance) = moments(&of(Some(class)));
            let together = (rows * mean + center) / (rows + 1.0);
            let squares = rows * variance + spread + rows * (mean - center).powi(2) / (rows + 1.0);
            let variance = squares / (rows + 1.0);
            (-0.5 * (3.5 - together).powi(2) / variance).exp() / variance.sqrt()
        };
        let (zero, one) = (3.0 * density(0.0), 4.0 * density(1.0));
        assert!(
            (scores[7] - one / (zero + one)).abs() < 1e-12,
            "{} and {}",
            scores[7],
            one / (zero + one)
        );
        // Nothing but class 0 was seen before the second and third row; the third has nothing that could be asked.
        assert_eq!(scores[..3], [0.5, 1.0 / 3.0, 0.25]);
    }

    #[test]
    fn categories_are_smoothed_over_those_seen_and_one_more() {
        let mut counts = Counts {
            codes: 65,
            counts: vec![0.0; 130],
            totals: vec![0.0; 2],
            seen: 0,
            changed: 0,
        };
        let mut logs = Arc::new(counts.logs(1.0));
        for (class, code) in [(0, 3.0), (0, 7.0), (1, 3.0), (0, 3.0)] {
            counts.update(class, code, 1.0, 1.0, &mut logs);
        }
        assert_eq!(
            *logs,
            counts.logs(1.0),
            "what runs along is what follows from the counts"
        );
        let share = |class: usize, code: usize| (logs.counts[2 * code + class] - logs.totals[class]).exp();
        for (class, code, expected) in [
            (0, 3, 3.0 / 6.0),
            (0, 7, 2.0 / 6.0),
            (0, 1, 1.0 / 6.0),
            (1, 7, 1.0 / 4.0),
        ] {
            assert!(
                (share(class, code) - expected).abs() < 1e-15,
                "class {class}, code {code}"
            );
        }
    }

    #[test]
    fn a_rare_class_is_judged_by_the_rows_of_today() {
        // Its only row was the first of all, when nothing was known of the spread of the numbers.
        let values: Vec<f64> = (0..2_000).map(|row| 1e5 * (f64::from(row % 97) - 48.0)).collect();
        let labels: Vec<f64> = (0..2_000).map(|row| f64::from(u8::from(row == 0))).collect();
        let rows = Plain::new(&[&values], &labels);
        let mut scores = Vec::new();
        learner("naive-bayes", "", Task::Binary, &rows).learn(rows.labelled(), Some(&mut scores));
        assert!(scores[1_000..].iter().all(|score| *score < 0.01));
    }
}
