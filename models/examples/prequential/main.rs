//! Measures learners as the field does: predict each row, then learn from it, one pass, in order.
//!
//! ```text
//! cargo run --release -p driftmill-models --example prequential -- --learner knn elec.csv flights.csv
//! ```
//!
//! A stream is a CSV file with a header, its label in the last column: classes `0, 1, …`, more than two make a multiclass
//! task; a column named `value` holds values (regression), one named `anomaly` says by 1 that a row is one, and nothing
//! is learned from it. Cells are numbers, empty where they are missing, or text in columns named `category:NAME`.
//!
//! With the columns `@at` and `@known` (ms, `@known` empty where nobody ever learns it) labels come late: see
//! [`delayed`]. With `--hold ROWS` there is no stream: see [`held`]. `benches/learners/run` makes streams, runs all of
//! this and makes tables and pictures of it.

#![expect(clippy::print_stdout, reason = "what it measured is printed")]

mod at_once;
mod delayed;
mod held;
mod outcome;
mod setup;
mod stream;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use driftmill_config::find;
use driftmill_models::learners::LEARNERS;

use setup::{Setup, TaskName};
use stream::Stream;

type Failure = Box<dyn Error>;

/// Measures learners on streams: predict each row, then learn from it.
#[derive(Parser)]
struct Options {
    /// A learner's name, or its section as in a pipeline's TOML; may stand several times. All that know the task where
    /// it does not stand.
    #[arg(long = "learner")]
    learners: Vec<String>,
    /// The task, where the label's name does not say it.
    #[arg(long)]
    task: Option<TaskName>,
    /// Runs of each learner, with seeds 1, 2, …
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Rows of a stream, at most.
    #[arg(long)]
    rows: Option<usize>,
    /// Rows that are handed over at a time.
    #[arg(long, default_value_t = 1024, value_parser = positive)]
    chunk: usize,
    /// Equal parts of a stream, which make the curve and from which intervals come.
    #[arg(long, default_value_t = 100, value_parser = positive)]
    blocks: usize,
    /// A score of at least this is an answer of class 1: it sets what a missed positive and a false alert cost.
    #[arg(long, default_value_t = 0.5)]
    threshold: f64,
    /// Late labels: rows that are scored by one published model.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    epoch: usize,
    /// Late labels: tell learners that ask for it how late, `delay_rows`, as it is counted.
    #[arg(long)]
    tell_delay: bool,
    /// Late labels: the first rows, which are predicted but not judged, as hardly a label is known yet.
    #[arg(long, default_value_t = 0)]
    warm_up: usize,
    /// Late labels: of each part of the stream, the share of rows with the highest scores that are looked into.
    #[arg(long, default_value_t = 0.005)]
    alerts: f64,
    /// Learn from so many made-up rows instead, and say how much memory that takes.
    #[arg(long)]
    hold: Option<usize>,
    /// Print the learners, each with a task that it knows, and do nothing else.
    #[arg(long)]
    list: bool,
    /// A line of JSON for each learner and stream.
    #[arg(long)]
    json: bool,
    /// CSV files.
    streams: Vec<PathBuf>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number above 0".to_owned()),
        Ok(number) => Ok(number),
    }
}

impl Options {
    /// The sections of the learners that were asked for.
    fn sections(&self) -> Result<Vec<String>, Failure> {
        let section = |name: &str| format!("learner = \"{name}\"");
        if self.learners.is_empty() {
            return Ok(LEARNERS.iter().map(|kind| section(kind.name())).collect());
        }
        let read = |text: &String| match text.contains('=') {
            true => Ok(text.clone()),
            false => Ok(section(find(LEARNERS, text)?.name())),
        };
        self.learners.iter().map(read).collect()
    }
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let sections = options.sections()?;
    if options.list {
        held::known_tasks(&sections).for_each(|(learner, task)| println!("{learner} {task}"));
        return Ok(());
    }
    if let Some(rows) = options.hold {
        let task = options.task.unwrap_or(TaskName::Binary);
        return held::measure(&sections, task, rows, &options);
    }
    if options.streams.is_empty() {
        return Err("name at least one stream".into());
    }
    for path in &options.streams {
        let stream = Stream::read(path, options.task, options.rows)?;
        if !options.json {
            println!(
                "{}: {} rows, {} features, {:?}",
                stream.name,
                stream.rows(),
                stream.columns.len(),
                stream.task
            );
        }
        for section in &sections {
            let section = match &stream.times {
                Some(times) if options.tell_delay => delayed::told(section, times)?,
                _ => section.clone(),
            };
            let setup = Setup {
                section: &section,
                task: stream.task,
                columns: &stream.columns,
            };
            if let Some(refusal) = setup.refusal() {
                // Who names learners wants to know; who takes all of them knows that not all know every task.
                if !options.learners.is_empty() {
                    eprintln!("{}: {refusal}", stream.name);
                }
                continue;
            }
            let outcome = match &stream.times {
                Some(times) => delayed::measure(&setup, &stream, times, &options)?,
                None => at_once::measure(&setup, &stream, &options)?,
            };
            outcome.tell(options.json)?;
        }
    }
    Ok(())
}
