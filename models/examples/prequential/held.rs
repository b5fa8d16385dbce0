//! How much memory a learner comes to use on a million rows that never stop being hard to tell: made up row by row, so
//! that nothing but the learner grows.
//!
//! What the learner itself counts is asked after every batch. What the process took from the system is the peak of its
//! resident set, so every learner needs a process of its own.

use std::time::Instant;

use clap::ValueEnum;
use driftmill_models::contracts::{Labelled, Task};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame};
use driftmill_models::random::{derived, of_row, uniform};
use serde_json::json;

use super::setup::{Setup, TaskName};
use super::{Failure, Options};

const NUMBERS: usize = 16;
/// Text columns and the number of their values.
const TEXTS: [usize; 4] = [3, 10, 100, 1_000];
const CLASSES: u32 = 5;
/// Rows after which the labels follow another rule.
const REGIME: u64 = 100_000;
/// Share of labels that are any class.
const NOISE: f64 = 0.1;

/// Learns from `rows` made-up rows.
pub(crate) fn measure(sections: &[String], task: TaskName, rows: usize, options: &Options) -> Result<(), Failure> {
    let [section] = sections else {
        return Err("name one learner: the peak of a process's memory is that of all it did".into());
    };
    let columns = columns();
    let setup = Setup {
        section,
        task: task_of(task),
        columns: &columns,
    };
    let dictionaries = dictionaries(&columns);
    // What making and scoring rows needs is there before the learner is.
    let mut scores = vec![0.0; options.chunk * setup.task.outputs()];
    drop(frame(0, options.chunk, setup.task));
    let before = peak_bytes();
    let built = setup.build(1)?;
    let mut learner = built.learner;
    let weights = vec![1.0; options.chunk];
    let (mut bytes_max, mut seconds) = (0, 0.0);
    for first in (0..rows).step_by(options.chunk) {
        let count = options.chunk.min(rows - first);
        let (frame, labels) = frame(first as u64, count, setup.task);
        let rows = Labelled {
            frame: &frame,
            dictionaries: &dictionaries,
            labels: &labels,
            weights: &weights[..count],
        };
        let start = Instant::now();
        learner.learn(rows, Some(&mut scores));
        seconds += start.elapsed().as_secs_f64();
        bytes_max = bytes_max.max(learner.bytes());
    }
    let grown = peak_bytes().zip(before).map(|(after, before)| after - before);
    let line = json!({
        "library": "driftmill",
        "held": rows,
        "learner": setup.name()?,
        "task": TaskName::of(setup.task),
        "bytes_max": bytes_max,
        "budget_bytes": built.budget,
        "peak_grown_bytes": grown,
        "rows_per_second": rows as f64 / seconds,
    });
    match options.json {
        true => println!("{line}"),
        false => println!("{line:#}"),
    }
    Ok(())
}

/// Name and task of each learner that can be measured here, for every task that it knows.
pub(crate) fn known_tasks(sections: &[String]) -> impl Iterator<Item = (String, &'static str)> {
    let columns = columns();
    let tasks = TaskName::value_variants();
    let pairs = sections
        .iter()
        .flat_map(|section| tasks.iter().map(move |task| (section, task_of(*task))));
    pairs.filter_map(move |(section, task)| {
        let columns = &columns;
        let setup = Setup { section, task, columns };
        setup.build(1).ok()?;
        Some((setup.name().ok()?, TaskName::of(task)))
    })
}

fn task_of(task: TaskName) -> Task {
    match task {
        TaskName::Binary => Task::Binary,
        TaskName::Multiclass => Task::Multiclass { classes: CLASSES },
        TaskName::Regression => Task::Regression,
        TaskName::Anomaly => Task::Anomaly,
    }
}

fn columns() -> Vec<ColumnSpec> {
    let column = |name: String, kind| ColumnSpec { name, kind };
    let numbers = (0..NUMBERS).map(|place| column(format!("x{place}"), ColumnKind::Number));
    let texts = (0..TEXTS.len()).map(|place| column(format!("c{place}"), ColumnKind::Category));
    numbers.chain(texts).collect()
}

fn dictionaries(columns: &[ColumnSpec]) -> Dictionaries {
    let mut dictionaries = Dictionaries::new(columns, 1 << 20);
    for (place, values) in TEXTS.iter().enumerate() {
        if let Some(dictionary) = dictionaries.get_mut(NUMBERS + place) {
            (0..*values).for_each(|value| {
                dictionary.intern(&format!("value {value}"));
            });
        }
    }
    dictionaries
}

/// Rows from number `first` on, and their labels.
fn frame(first: u64, count: usize, task: Task) -> (Frame, Vec<f64>) {
    let mut numbers = vec![Vec::new(); NUMBERS];
    let mut codes = vec![Vec::new(); TEXTS.len()];
    let mut labels = Vec::with_capacity(count);
    for row in first..first + count as u64 {
        let mut random = of_row(1, row);
        let x: Vec<f64> = numbers.iter().map(|_| uniform(&mut random)).collect();
        let c: Vec<u32> = TEXTS
            .iter()
            .map(|values| (uniform(&mut random) * *values as f64) as u32)
            .collect();
        let noise = uniform(&mut random);
        let any = uniform(&mut random);
        labels.push(label(task, row / REGIME, &x, &c, (noise < NOISE).then_some(any)));
        numbers.iter_mut().zip(x).for_each(|(column, x)| column.push(x));
        codes.iter_mut().zip(c).for_each(|(column, c)| column.push(c));
    }
    let columns = numbers
        .into_iter()
        .map(Column::F64)
        .chain(codes.into_iter().map(Column::Code));
    (Frame::new(count, columns.collect()), labels)
}

/// The class of the highest of a few sums, over inputs and products of neighbours, whose weights are those of the regime.
fn label(task: Task, regime: u64, x: &[f64], c: &[u32], noise: Option<f64>) -> f64 {
    let classes = match task {
        Task::Binary => 2,
        Task::Multiclass { classes } => classes,
        Task::Regression | Task::Anomaly => 1,
    };
    let sum = |class: u32| {
        let seed = derived(regime, u64::from(class));
        let mut weights = of_row(seed, 0);
        let mut weight = || 2.0 * uniform(&mut weights) - 1.0;
        let products = x.windows(2).map(|pair| (pair[0] - 0.5) * (pair[1] - 0.5) * 4.0);
        let numbers: f64 = x.iter().copied().chain(products).map(|x| weight() * x).sum();
        let texts: f64 = c
            .iter()
            .map(|code| uniform(&mut of_row(seed, 1 + u64::from(*code))))
            .sum();
        numbers + texts
    };
    match (task, noise) {
        (Task::Regression, noise) => sum(0) + noise.unwrap_or_default(),
        (Task::Anomaly, _) => 0.0,
        (_, Some(any)) => (any * f64::from(classes)).floor(),
        (_, None) => {
            let best = (0..classes).max_by(|a, b| sum(*a).total_cmp(&sum(*b)));
            f64::from(best.unwrap_or_default())
        }
    }
}

/// The peak of this process's resident set; none where the system does not tell.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
