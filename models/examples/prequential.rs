//! Measures learners as the field does: predict each row, then learn from it, one pass, in order.
//!
//! ```text
//! cargo run --release -p driftmill-models --example prequential -- \
//!     [--learner 'learner = "sgd-logistic"'] [--task regression|anomaly] [--seeds N] [--rows N] [--chunk N] STREAM.csv...
//! ```
//!
//! A stream is a CSV file of numbers with a header, its label in the last column: classes `0, 1, …`, more than two make a
//! multiclass task. With `--task regression` labels are values, with `--task anomaly` nothing is learned from them, and
//! 1 says that a row is an anomaly. `--learner` is the learner's section as in a pipeline's TOML, and may stand several
//! times. A missing number is an empty cell. For each stream and learner: rows a second of predicting and learning (rows
//! already parsed, one thread), bytes of memory at the end, and the mean over the seeds of every metric of the task.

#![expect(clippy::print_stdout, reason = "what it measured is printed")]

use std::error::Error;
use std::time::Instant;

use driftmill_config::{Document, find};
use driftmill_models::contracts::{Labelled, Learner, LearnerContext, Task};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame};
use driftmill_models::learners::LEARNERS;
use driftmill_models::metrics::{Evaluation, Row, Setting, Tally};

type Failure = Box<dyn Error>;

/// What was asked for.
struct Options {
    learners: Vec<String>,
    seeds: u64,
    rows: usize,
    chunk: usize,
    /// Where labels do not say it.
    task: Option<Task>,
    streams: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            learners: vec![],
            seeds: 1,
            rows: usize::MAX,
            chunk: 1024,
            task: None,
            streams: vec![],
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--learner" => options.learners.push(value()?),
                "--task" => {
                    options.task = Some(match value()?.as_str() {
                        "regression" => Task::Regression,
                        "anomaly" => Task::Anomaly,
                        other => return Err(format!("`{other}` is no task that has to be named").into()),
                    });
                }
                "--seeds" => options.seeds = value()?.parse()?,
                "--rows" => options.rows = value()?.parse()?,
                "--chunk" => options.chunk = value()?.parse::<usize>()?.max(1),
                flag if flag.starts_with("--") => return Err(format!("unknown option {flag}").into()),
                _ => options.streams.push(arg),
            }
        }
        if options.learners.is_empty() {
            let every = LEARNERS.iter().map(|kind| format!("learner = \"{}\"", kind.name()));
            options.learners.extend(every);
        }
        if options.streams.is_empty() || options.seeds == 0 {
            return Err("name at least one stream, and at least one seed".into());
        }
        Ok(options)
    }
}

/// A stream in memory, cut into frames.
struct Stream {
    task: Task,
    columns: Vec<ColumnSpec>,
    chunks: Vec<(Frame, Vec<f64>)>,
    rows: usize,
}

impl Stream {
    fn read(path: &str, options: &Options) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().ok_or("no header")?.split(',').collect();
        let rows: Vec<Vec<f64>> = lines
            .take(options.rows)
            .enumerate()
            .map(|(row, line)| numbers(line, names.len()).map_err(|what| format!("{path}:{}: {what}", row + 2)))
            .collect::<Result<_, _>>()?;
        let features = names.len() - 1;
        let is_class = |row: &Vec<f64>| row[features].fract() == 0.0 && row[features] >= 0.0;
        if options.task != Some(Task::Regression) && !rows.iter().all(is_class) {
            return Err(format!("{path}: a label is no class; perhaps --task regression").into());
        }
        let labels = rows.iter().map(|row| row[features]);
        let classes = labels.fold(0.0, f64::max) as u32 + 1;
        let columns = names[..features].iter().map(|name| ColumnSpec {
            name: (*name).to_owned(),
            kind: ColumnKind::Number,
        });
        let frames = rows.chunks(options.chunk).map(|rows| {
            let column = |place: usize| Column::F64(rows.iter().map(|row| row[place]).collect());
            let labels = rows.iter().map(|row| row[features]).collect();
            (Frame::new(rows.len(), (0..features).map(column).collect()), labels)
        });
        Ok(Self {
            task: match (options.task, classes) {
                (Some(task), _) => task,
                (None, ..=2) => Task::Binary,
                (None, classes) => Task::Multiclass { classes },
            },
            columns: columns.collect(),
            chunks: frames.collect(),
            rows: rows.len(),
        })
    }
}

/// The cells of a line.
fn numbers(line: &str, width: usize) -> Result<Vec<f64>, String> {
    let cell = |cell: &str| match cell.trim() {
        "" => Ok(f64::NAN),
        cell => cell.parse::<f64>().map_err(|_| format!("`{cell}` is no number")),
    };
    let row: Vec<f64> = line.split(',').map(cell).collect::<Result<_, _>>()?;
    match row.len() == width && row.last().is_some_and(|label| label.is_finite()) {
        true => Ok(row),
        false => Err(format!("needs {width} cells, the last one a label")),
    }
}

/// What one run came to.
struct Run {
    metrics: Vec<(&'static str, f64)>,
    rows_per_second: f64,
    bytes: usize,
}

fn build(section: &str, stream: &Stream, seed: u64) -> Result<Box<dyn Learner>, Failure> {
    let document = Document::parse("learner", section, &|_| None).map_err(|problems| problems.render())?;
    let mut problems = document.problems();
    let root = document.root();
    let name: String = root
        .get("learner", &mut problems)
        .ok_or("the section names no learner")?;
    let kind = find(LEARNERS, &name)?;
    root.check(kind.fields(), &mut problems);
    let empty = Document::parse("columns", "", &|_| None).map_err(|problems| problems.render())?;
    let encoder = ColumnsEncoder::from_config(&empty.root(), &stream.columns, 0, &mut problems);
    let encoder = encoder.ok_or_else(|| problems.render())?;
    let context = LearnerContext::new(stream.task, &encoder, seed);
    kind.build(&root, &context, &mut problems)
        .filter(|_| problems.is_empty())
        .ok_or_else(|| problems.render().into())
}

fn run(section: &str, stream: &Stream, seed: u64) -> Result<Run, Failure> {
    let mut learner = build(section, stream, seed)?;
    let dictionaries = Dictionaries::new(&stream.columns, 1 << 20);
    let mut evaluation = Evaluation::of_task(Setting {
        task: stream.task,
        threshold: 0.5,
    });
    let (mut scores, mut weights) = (Vec::new(), Vec::new());
    let (mut before, mut seconds) = (None, 0.0);
    for (frame, labels) in &stream.chunks {
        weights.resize(frame.rows(), 1.0);
        let rows = Labelled {
            frame,
            dictionaries: &dictionaries,
            labels,
            weights: &weights[..frame.rows()],
        };
        let start = Instant::now();
        learner.learn(rows, Some(&mut scores));
        seconds += start.elapsed().as_secs_f64();
        for (scores, label) in scores.chunks(stream.task.outputs()).zip(labels) {
            let row = Row {
                scores,
                label: *label,
                weight: 1.0,
                before,
            };
            evaluation.update(&row);
            before = Some(*label);
        }
    }
    Ok(Run {
        metrics: evaluation.values().collect(),
        rows_per_second: stream.rows as f64 / seconds,
        bytes: learner.bytes(),
    })
}

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    for path in &options.streams {
        let stream = Stream::read(path, &options)?;
        println!(
            "{path}: {} rows, {} features, {:?}",
            stream.rows,
            stream.columns.len(),
            stream.task
        );
        for section in &options.learners {
            let runs: Result<Vec<Run>, Failure> = (1..=options.seeds).map(|seed| run(section, &stream, seed)).collect();
            match runs {
                Ok(runs) => print(section, &runs),
                Err(error) => println!("  {section}: {error}"),
            }
        }
    }
    Ok(())
}

/// Means over the seeds, and the fastest of them.
fn print(section: &str, runs: &[Run]) {
    let mean = |value: &dyn Fn(&Run) -> f64| runs.iter().map(value).sum::<f64>() / runs.len() as f64;
    let fastest = runs.iter().map(|run| run.rows_per_second).fold(0.0, f64::max);
    let bytes = runs.iter().map(|run| run.bytes).max().unwrap_or_default();
    println!("  {}", section.replace('\n', "; "));
    println!("    {:.1} k rows/s  {} KiB", fastest / 1e3, bytes / 1024);
    let metrics = runs[0].metrics.iter().enumerate();
    let metrics = metrics.map(|(place, (name, _))| format!("{name} {:.4}", mean(&|run| run.metrics[place].1)));
    println!("    {}", metrics.collect::<Vec<_>>().join("  "));
}
