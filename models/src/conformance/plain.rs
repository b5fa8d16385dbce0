//! Rows of numbers that reach a learner as they are, for the tests of single learners.

use super::world::{try_section, with_section};
use crate::contracts::{Labelled, Learner, LearnerContext, Task};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{Column, ColumnKind, ColumnSpec, Frame};
use crate::learners::LEARNERS;
use crate::random::{of_row, uniform};

/// Labelled rows of columns of numbers.
pub(crate) struct Plain {
    values: Vec<Vec<f64>>,
    labels: Vec<f64>,
    weights: Vec<f64>,
    frame: Frame,
    dictionaries: Dictionaries,
}

fn specs(count: usize) -> Vec<ColumnSpec> {
    let spec = |place: usize| ColumnSpec {
        name: format!("x{place}"),
        kind: ColumnKind::Number,
    };
    (0..count).map(spec).collect()
}

impl Plain {
    /// Rows of these columns, each of weight 1.
    pub(crate) fn new(columns: &[&[f64]], labels: &[f64]) -> Self {
        let values: Vec<Vec<f64>> = columns.iter().map(|column| column.to_vec()).collect();
        Self {
            frame: Frame::new(labels.len(), values.iter().cloned().map(Column::F64).collect()),
            dictionaries: Dictionaries::new(&specs(columns.len()), 1 << 10),
            values,
            labels: labels.to_vec(),
            weights: vec![1.0; labels.len()],
        }
    }

    /// Rows of inputs from -1 to 1, whose labels are what `label` makes of the inputs and of another such number.
    pub(crate) fn random(rows: usize, inputs: usize, seed: u64, label: impl Fn(&[f64], f64) -> f64) -> Self {
        let mut columns = vec![Vec::new(); inputs];
        let mut labels = Vec::new();
        for row in 0..rows {
            let mut random = of_row(seed, row as u64);
            let x: Vec<f64> = (0..inputs).map(|_| 2.0 * uniform(&mut random) - 1.0).collect();
            labels.push(label(&x, 2.0 * uniform(&mut random) - 1.0));
            columns.iter_mut().zip(x).for_each(|(column, x)| column.push(x));
        }
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        Self::new(&columns, &labels)
    }

    /// The same rows with columns of zeros before the first, `inputs` in all.
    pub(crate) fn widened(&self, inputs: usize) -> Self {
        let zeros = vec![0.0; self.labels.len()];
        let mut columns = vec![&zeros[..]; inputs - self.values.len()];
        columns.extend(self.values.iter().map(Vec::as_slice));
        Self::new(&columns, &self.labels)
    }

    /// The same rows with other labels.
    pub(crate) fn relabelled(&self, labels: &[f64]) -> Self {
        let columns: Vec<&[f64]> = self.values.iter().map(Vec::as_slice).collect();
        Self::new(&columns, labels)
    }

    /// The same rows, so many at a time.
    pub(crate) fn parts(&self, rows: usize) -> impl Iterator<Item = Self> {
        (0..self.labels.len()).step_by(rows).map(move |start| {
            let end = self.labels.len().min(start + rows);
            let columns: Vec<&[f64]> = self.values.iter().map(|column| &column[start..end]).collect();
            Self::new(&columns, &self.labels[start..end])
        })
    }

    pub(crate) fn column(&self, place: usize) -> &[f64] {
        &self.values[place]
    }

    pub(crate) fn labels(&self) -> &[f64] {
        &self.labels
    }

    pub(crate) fn labelled(&self) -> Labelled<'_> {
        Labelled {
            frame: &self.frame,
            dictionaries: &self.dictionaries,
            labels: &self.labels,
            weights: &self.weights,
        }
    }
}

/// Numbers as they are; `missing` says what becomes of missing ones.
pub(crate) fn encoder(columns: usize, missing: &str) -> ColumnsEncoder {
    let specs = specs(columns);
    let table = |spec: &ColumnSpec| format!("{} = {{ encode = 'none', missing = '{missing}' }}\n", spec.name);
    let tables: String = specs.iter().map(table).collect();
    with_section(&tables, |section, problems| {
        ColumnsEncoder::from_config(section, &specs, 1, problems)
    })
}

/// The learner of this name and these settings over the columns of `rows`, or what is wrong with them.
pub(crate) fn try_learner(name: &str, settings: &str, task: Task, rows: &Plain) -> Result<Box<dyn Learner>, String> {
    let encoder = encoder(rows.values.len(), missing(name));
    let kind = LEARNERS.iter().find(|kind| kind.name() == name).unwrap();
    try_section(settings, |section, problems| {
        kind.build(section, &LearnerContext::new(task, &encoder, 1), problems)
    })
}

/// The same; nothing may be wrong with it.
pub(crate) fn learner(name: &str, settings: &str, task: Task, rows: &Plain) -> Box<dyn Learner> {
    try_learner(name, settings, task, rows).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Only learners that ask one input at a time take missing values.
fn missing(learner: &str) -> &'static str {
    if learner == "naive-bayes" { "keep" } else { "zero" }
}
