//! Labelled rows to learn from: missing, infinite and absurd numbers, missing categories, more of them than fit.

use driftmill_config::{Document, Problems, Section};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::contracts::{Labelled, Task};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};
use crate::model::{Model, Scratch};
use crate::random::uniform;

/// Encoders for learners that add inputs up, with the columns of [`World`].
pub(super) const SCALED: &str = "
amount = { encode = 'standardise', missing_indicator = true }
hour = { encode = 'none' }
country = { encode = 'one-hot', categories_max = 3 }
merchant = { encode = 'hash', buckets = 16, signed = true }
card = { encode = 'one-hot', categories_max = 200, unseen = 'zero', missing = 'zero' }
";

/// Encoders for learners that ask one input at a time: numbers are left to them.
pub(super) const NATIVE: &str = "
country = { encode = 'ordinal', categories_max = 3 }
merchant = { encode = 'ordinal', categories_max = 16 }
card = { encode = 'hash', buckets = 4 }
";

/// The tasks that learners may learn.
pub(super) const TASKS: [Task; 4] = [
    Task::Binary,
    Task::Multiclass { classes: 3 },
    Task::Regression,
    Task::Anomaly,
];

/// Labelled rows.
#[derive(Clone)]
pub(super) struct World {
    pub(super) frame: Frame,
    pub(super) dictionaries: Dictionaries,
    pub(super) labels: Vec<f64>,
    pub(super) weights: Vec<f64>,
}

pub(super) fn columns() -> Vec<ColumnSpec> {
    let spec = |name: &str, kind| ColumnSpec {
        name: name.to_owned(),
        kind,
    };
    vec![
        spec("amount", ColumnKind::Number),
        spec("hour", ColumnKind::Number),
        spec("constant", ColumnKind::Number),
        spec("country", ColumnKind::Category),
        spec("merchant", ColumnKind::Category),
        spec("card", ColumnKind::Category),
    ]
}

/// The label of a row by its task: large for large amounts and one of the countries.
fn label(task: Task, value: f64) -> f64 {
    match task {
        Task::Binary => f64::from(value > 9.0),
        Task::Multiclass { classes } => (value / 15.0 * f64::from(classes)).floor().min(f64::from(classes - 1)),
        Task::Regression => value,
        Task::Anomaly => 0.0,
    }
}

/// Random rows of a task.
pub(super) fn world_of(task: Task, rows: usize, seed: u64) -> World {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut dictionaries = Dictionaries::new(&columns(), 20_000);
    let (mut amount, mut hour, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    let mut codes: [Vec<u32>; 3] = Default::default();
    for row in 0..rows {
        let value = 10.0 * uniform(&mut random);
        let country = (5.0 * uniform(&mut random)) as usize;
        let effect = value + if country == 1 { 3.0 } else { 0.0 } + 4.0 * uniform(&mut random);
        labels.push(label(task, effect));
        amount.push(match row % 97 {
            45 => f64::NAN,
            46 => f64::INFINITY,
            47 => -1e300,
            48 => f64::MAX,
            _ => value,
        });
        hour.push(if row % 13 == 0 {
            f32::NAN
        } else {
            (row % 24) as f32 / 24.0
        });
        let names = [
            format!("country {country}"),
            format!("m{}", row % 40),
            format!("card {}", random.next_u64()),
        ];
        for (place, name) in names.iter().enumerate() {
            let missing = uniform(&mut random) < 0.05;
            codes[place].push(if missing {
                MISSING
            } else {
                dictionaries.get_mut(3 + place).unwrap().intern(name)
            });
        }
    }
    let [country, merchant, card] = codes.map(Column::Code);
    let numbers = [Column::F64(amount), Column::F32(hour), Column::F64(vec![7.5; rows])];
    let frame = Frame::new(rows, numbers.into_iter().chain([country, merchant, card]).collect());
    let weights = (0..rows).map(|row| if row % 10 == 0 { 2.5 } else { 1.0 }).collect();
    World {
        frame,
        dictionaries,
        labels,
        weights,
    }
}

/// The kind of the vectors of [`vectors`].
pub(super) const VECTORS: ColumnKind = ColumnKind::Vector { width: 5 };

/// The same rows with a further column of vectors: their second number tells the label, the third never changes, and
/// some have a hole, an infinite or an enormous number, or are not there at all.
pub(super) fn vectors(world: &World) -> World {
    let mut random = Pcg64::seed_from_u64(3);
    let mut values = Vec::new();
    for (row, label) in world.labels.iter().enumerate() {
        let mut noise = || uniform(&mut random) as f32;
        let mut vector = [noise(), *label as f32 + noise(), 2.5, 1e-3 * noise(), noise()];
        match row % 97 {
            45 => vector = [f32::NAN; 5],
            46 => vector[4] = f32::NAN,
            47 => vector[0] = f32::NEG_INFINITY,
            48 => vector[3] = f32::MAX,
            49 => vector = [0.0; 5],
            _ => {}
        }
        values.extend(vector);
    }
    let column = Column::Vector { width: 5, values };
    let columns = world.frame.columns().iter().cloned().chain([column]);
    World {
        frame: Frame::new(world.frame.rows(), columns.collect()),
        ..world.clone()
    }
}

/// Random rows of a binary task.
pub(super) fn world(rows: usize, seed: u64) -> World {
    world_of(Task::Binary, rows, seed)
}

/// Worlds in which nothing is as it should be: extremes, weights of all sizes, columns that changed their kind, and
/// none.
pub(super) fn hostile(world: &World) -> Vec<World> {
    let extremes = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        -1e300,
        f64::MIN_POSITIVE,
        0.0,
        5.0,
    ];
    let rows = world.frame.rows();
    let wild = |column: &Column| match column {
        Column::F64(values) => Column::F64((0..values.len()).map(|row| extremes[row % 8]).collect()),
        Column::F32(values) => Column::F32((0..values.len()).map(|row| extremes[row % 8] as f32).collect()),
        Column::Code(codes) => Column::Code((0..codes.len() as u32).map(|row| u32::MAX - row % 50).collect()),
        Column::Vector { width, values } => Column::Vector {
            width: *width,
            values: (0..values.len())
                .map(|place| extremes[place / width % 8] as f32)
                .collect(),
        },
    };
    let frames = [
        Frame::new(rows, world.frame.columns().iter().map(wild).collect()),
        Frame::new(rows, world.frame.columns().iter().rev().cloned().collect()),
        world.frame.clone(),
        Frame::new(rows, vec![]),
    ];
    let weights: Vec<f64> = (0..rows).map(|row| [1.0, 1e300, 1e-300, 1.0][row % 4]).collect();
    let hostile = frames.into_iter().map(|frame| World {
        frame,
        weights: weights.clone(),
        ..world.clone()
    });
    hostile.collect()
}

impl World {
    pub(super) fn rows(&self) -> Labelled<'_> {
        Labelled {
            frame: &self.frame,
            dictionaries: &self.dictionaries,
            labels: &self.labels,
            weights: &self.weights,
        }
    }

    /// Rows `from..to` as a frame of their own.
    pub(super) fn part(&self, from: usize, to: usize) -> World {
        let mut frame = self.frame.empty_like();
        frame.append(&self.frame, from..to);
        World {
            frame,
            dictionaries: self.dictionaries.clone(),
            labels: self.labels[from..to].to_vec(),
            weights: self.weights[from..to].to_vec(),
        }
    }

    /// The same rows without infinite and absurd numbers.
    pub(super) fn sane(mut self) -> World {
        let finite = |value: &f64| if value.abs() < 1e100 { *value } else { f64::NAN };
        let cleaned = |column: &Column| match column {
            Column::F64(values) => Column::F64(values.iter().map(finite).collect()),
            other => other.clone(),
        };
        self.frame = Frame::new(self.frame.rows(), self.frame.columns().iter().map(cleaned).collect());
        self
    }

    pub(super) fn scores(&self, model: &Model) -> Vec<f64> {
        let mut out = vec![9.0; 3];
        model.score(&self.frame, &self.dictionaries, &mut Scratch::default(), &mut out);
        out
    }
}

/// Mean log loss of class probabilities, squared error of values.
pub(super) fn loss(task: Task, scores: &[f64], labels: &[f64]) -> f64 {
    let outputs = task.outputs();
    let one = |(scores, label): (&[f64], &f64)| match task {
        Task::Binary => crate::metrics::binary::log_loss(scores[0], *label),
        Task::Multiclass { .. } => -scores[*label as usize].max(1e-15).ln(),
        Task::Regression => (scores[0] - label).powi(2),
        Task::Anomaly => 0.0,
    };
    scores.chunks(outputs).zip(labels).map(one).sum::<f64>() / labels.len() as f64
}

/// The loss of who knows nothing but how often each label comes.
pub(super) fn prior_loss(task: Task, labels: &[f64]) -> f64 {
    let rows = labels.len() as f64;
    let mean = labels.iter().sum::<f64>() / rows;
    let prior: Vec<f64> = match task {
        Task::Multiclass { classes } => (0..classes)
            .map(|class| labels.iter().filter(|label| **label == f64::from(class)).count() as f64 / rows)
            .collect(),
        _ => vec![mean],
    };
    loss(task, &prior.repeat(labels.len()), labels)
}

/// Fails unless scores are what the task allows.
pub(super) fn are_sane(task: Task, scores: &[f64]) {
    assert!(scores.iter().all(|score| score.is_finite()), "a score is not finite");
    if task == Task::Regression {
        return;
    }
    assert!(
        scores.iter().all(|p| (0.0..=1.0).contains(p)),
        "a score is no probability"
    );
    if let Task::Multiclass { .. } = task {
        for row in scores.chunks(task.outputs()) {
            let sum: f64 = row.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "probabilities of classes add up to {sum}");
        }
    }
}

/// Whether two lists of scores are the same to the bit.
pub(super) fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Parses a fragment and gives its root to `read`; what is wrong with it otherwise.
pub(crate) fn try_section<T>(
    text: &str,
    read: impl FnOnce(&Section<'_>, &mut Problems) -> Option<T>,
) -> Result<T, String> {
    let document = Document::parse("test.toml", text, &|_| None).map_err(|problems| problems.render())?;
    let mut problems = document.problems();
    match read(&document.root(), &mut problems) {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(problems.render()),
    }
}

/// The same; nothing may be wrong with it.
pub(crate) fn with_section<T>(text: &str, read: impl FnOnce(&Section<'_>, &mut Problems) -> Option<T>) -> T {
    try_section(text, read).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(super) fn encoder_of(text: &str) -> ColumnsEncoder {
    with_section(text, |section, problems| {
        ColumnsEncoder::from_config(section, &columns(), 11, problems)
    })
}
