//! Fits batch learners on one file and judges them on another.
//!
//! ```text
//! cargo run --release -p driftmill-models --example batch -- \
//!     [--learner 'learner = "random-forest"'] [--task regression] [--fits N] TRAIN.csv TEST.csv
//! ```
//!
//! Both are CSV files of numbers with a header, the label in the last column: classes `0, 1, …`, more than two make a
//! multiclass task. Without `--learner` every batch learner of the task runs with its usual settings. For each: seconds
//! of a fit (encoding included, one thread, the fastest of N), microseconds to score a row, bytes of the model, and every
//! metric of the task on the second file. `batch_peers.py` beside this file writes such files and measures scikit-learn.

#![expect(clippy::print_stdout, reason = "what it measured is printed")]

use std::error::Error;
use std::time::Instant;

use driftmill_config::{Document, find};
use driftmill_models::contracts::{BatchLearner, FitStart, Labelled, LearnerContext, Task};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame};
use driftmill_models::learners::BATCH_LEARNERS;
use driftmill_models::metrics::{Evaluation, Row, Setting, Tally};
use driftmill_models::model::Scratch;

type Failure = Box<dyn Error>;

/// Labelled rows.
struct Rows {
    columns: Vec<ColumnSpec>,
    frame: Frame,
    labels: Vec<f64>,
    weights: Vec<f64>,
}

impl Rows {
    fn read(path: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().ok_or("no header")?.split(',').collect();
        let cells = |line: &str| -> Result<Vec<f64>, Failure> {
            let row: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
            (row.len() == names.len())
                .then_some(row)
                .ok_or("a line is short or long".into())
        };
        let rows: Vec<Vec<f64>> = lines.map(cells).collect::<Result<_, _>>()?;
        let column = |place: usize| rows.iter().map(|row| row[place]).collect::<Vec<f64>>();
        let (label, features) = names.split_last().ok_or("no column")?;
        let spec = |name: &&str| ColumnSpec {
            name: (*name).to_owned(),
            kind: ColumnKind::Number,
        };
        println!(
            "{path}: {} rows, {} features, label {label}",
            rows.len(),
            features.len()
        );
        Ok(Self {
            columns: features.iter().map(spec).collect(),
            frame: Frame::new(
                rows.len(),
                (0..features.len()).map(|place| Column::F64(column(place))).collect(),
            ),
            labels: column(features.len()),
            weights: vec![1.0; rows.len()],
        })
    }
}

fn build(section: &str, task: Task, columns: &[ColumnSpec]) -> Result<Box<dyn BatchLearner>, Failure> {
    let document = Document::parse("learner", section, &|_| None).map_err(|problems| problems.render())?;
    let mut problems = document.problems();
    let root = document.root();
    let name: String = root
        .get("learner", &mut problems)
        .ok_or("the section names no learner")?;
    let kind = find(BATCH_LEARNERS, &name)?;
    root.check(kind.fields(), &mut problems);
    let empty = Document::parse("columns", "", &|_| None).map_err(|problems| problems.render())?;
    let encoder = ColumnsEncoder::from_config(&empty.root(), columns, 0, &mut problems);
    let encoder = encoder.ok_or_else(|| problems.render())?;
    kind.build(&root, &LearnerContext::new(task, &encoder, 1), &mut problems)
        .filter(|_| problems.is_empty())
        .ok_or_else(|| problems.render().into())
}

fn run(section: &str, task: Task, fits: usize, train: &Rows, test: &Rows) -> Result<String, Failure> {
    let learner = build(section, task, &train.columns)?;
    let dictionaries = Dictionaries::new(&train.columns, 1 << 20);
    let rows = Labelled {
        frame: &train.frame,
        dictionaries: &dictionaries,
        labels: &train.labels,
        weights: &train.weights,
    };
    let (mut model, mut seconds) = (None, f64::INFINITY);
    for _ in 0..fits.max(1) {
        let start = Instant::now();
        model = Some(learner.fit(rows, FitStart::anew(1))?);
        seconds = start.elapsed().as_secs_f64().min(seconds);
    }
    let model = model.ok_or("no fit")?;
    let (mut scores, mut scratch) = (Vec::new(), Scratch::default());
    let start = Instant::now();
    model.score(&test.frame, &dictionaries, &mut scratch, &mut scores);
    let micros = start.elapsed().as_secs_f64() * 1e6 / test.labels.len() as f64;
    let mut evaluation = Evaluation::of_task(Setting { task, threshold: 0.5 });
    for (scores, label) in scores.chunks(task.outputs()).zip(&test.labels) {
        evaluation.update(&Row {
            scores,
            label: *label,
            weight: 1.0,
            before: None,
        });
    }
    let metrics: Vec<String> = evaluation
        .values()
        .map(|(name, value)| format!("{name} {value:.4}"))
        .collect();
    Ok(format!(
        "{seconds:.3} s  {micros:.2} us/row  {} KiB\n    {}",
        model.bytes() / 1024,
        metrics.join("  ")
    ))
}

fn main() -> Result<(), Failure> {
    let (mut learners, mut files, mut task, mut fits) = (Vec::new(), Vec::new(), None, 1);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--learner" => learners.push(value()?),
            "--fits" => fits = value()?.parse()?,
            "--task" if value()? == "regression" => task = Some(Task::Regression),
            flag if flag.starts_with("--") => return Err(format!("unknown option {flag}").into()),
            _ => files.push(arg),
        }
    }
    let [train, test] = &files[..] else {
        return Err("name a file to learn from and one to judge by".into());
    };
    let (train, test) = (Rows::read(train)?, Rows::read(test)?);
    let classes = train.labels.iter().copied().fold(0.0, f64::max) as u32 + 1;
    let task = task.unwrap_or(if classes <= 2 {
        Task::Binary
    } else {
        Task::Multiclass { classes }
    });
    if learners.is_empty() {
        let named = BATCH_LEARNERS
            .iter()
            .map(|kind| format!("learner = \"{}\"", kind.name()));
        learners.extend(named.filter(|section| build(section, task, &train.columns).is_ok()));
    }
    for section in &learners {
        match run(section, task, fits, &train, &test) {
            Ok(found) => println!("  {section}: {found}"),
            Err(error) => println!("  {section}: {error}"),
        }
    }
    Ok(())
}
