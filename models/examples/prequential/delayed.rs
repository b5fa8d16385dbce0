//! Labels come late, and some never: a row is predicted at its own time by the model of that time, which has learned
//! from the labels that were known by then, in the order in which they became known.
//!
//! The model is published every few rows, as the engine does it: the labels that came while those few were predicted
//! are learned after them. What is measured are the predictions against the truth of all rows, that of rows whose label
//! never becomes known too.

use std::time::Instant;

use driftmill_config::find;
use driftmill_models::contracts::{Labelled, Learner, Task};
use driftmill_models::learners::LEARNERS;
use driftmill_models::metrics::{Cohorts, Evaluation};
use driftmill_models::model::Scratch;

use super::outcome::{Alerts, Outcome, Run, blocks, facts};
use super::setup::{Built, Setup};
use super::stream::{Stream, Times};
use super::{Failure, Options};

/// Runs a learner over a stream, once for each seed.
pub(crate) fn measure(
    setup: &Setup<'_>,
    stream: &Stream,
    times: &Times,
    options: &Options,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::new(setup, stream, options)?;
    // A comparison with the label that came last means nothing in the order of predictions.
    outcome.leave_out("temporal-kappa");
    for seed in 1..=options.seeds {
        let (run, metrics, alerts) = run(setup.build(seed)?, seed, stream, times, options);
        outcome.add(run, metrics);
        outcome.alerts.extend(alerts);
    }
    Ok(outcome)
}

/// Rows in the order in which their labels become known; those that never do are not among them.
fn arrivals(times: &Times) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..times.known.len())
        .filter(|row| times.known[*row].is_finite())
        .collect();
    rows.sort_by(|a, b| times.known[*a].total_cmp(&times.known[*b]).then(a.cmp(b)));
    rows
}

/// A learner's section that says how late labels are, where the learner can be told and is not yet: the mean number of
/// labels that become known between the prediction of a row and its own label.
///
/// # Errors
/// The section names no learner.
pub(crate) fn told(section: &str, times: &Times) -> Result<String, Failure> {
    let setup = Setup {
        section,
        task: Task::Binary,
        columns: &[],
    };
    let can_be_told = find(LEARNERS, &setup.name()?)?
        .fields()
        .iter()
        .any(|field| field.name == "delay_rows");
    if !can_be_told || section.contains("delay_rows") {
        return Ok(section.to_owned());
    }
    let arrivals = arrivals(times);
    let known = |at: f64| arrivals.partition_point(|row| times.known[*row] <= at);
    let labels = arrivals.iter().enumerate();
    let between: usize = labels
        .map(|(place, row)| place.saturating_sub(known(times.at[*row])))
        .sum();
    let rows = between / arrivals.len().max(1);
    Ok(format!("{section}\ndelay_rows = {rows}\n"))
}

fn run(
    built: Built,
    seed: u64,
    stream: &Stream,
    times: &Times,
    options: &Options,
) -> (Run, Cohorts<Evaluation>, Option<Alerts>) {
    let mut learner = built.learner;
    let arrivals = arrivals(times);
    let (mut scratch, mut scores, mut all) = (Scratch::default(), Vec::new(), Vec::new());
    let (mut learned, mut bytes_max) = (0, 0);
    let start = Instant::now();
    for first in (0..stream.rows()).step_by(options.epoch) {
        let rows = first..stream.rows().min(first + options.epoch);
        let known = arrivals[learned..].partition_point(|row| times.known[*row] <= times.at[first]);
        learn(learner.as_mut(), stream, &arrivals[learned..learned + known]);
        learned += known;
        bytes_max = bytes_max.max(learner.bytes());
        match learner.publish() {
            Some(model) => {
                let frame = stream.frame(rows);
                model.score(&frame, &stream.dictionaries, &mut scratch, &mut scores);
                all.extend_from_slice(&scores);
            }
            None => all.extend(std::iter::repeat_n(
                ignorance(stream.task),
                rows.len() * stream.task.outputs(),
            )),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut metrics = blocks(stream.task, stream.rows(), options);
    for (row, scores) in (0..).zip(all.chunks(stream.task.outputs())).skip(options.warm_up) {
        metrics.update(row, scores, stream.labels[row as usize], 1.0);
    }
    let run = Run {
        seed,
        rows_per_second: stream.rows() as f64 / seconds,
        bytes_max,
        budget: built.budget,
        facts: facts(learner.as_ref()),
    };
    let warm_up = options.warm_up.min(all.len());
    let alerts = (stream.task == Task::Binary).then(|| Alerts::of(&all[warm_up..], &stream.labels[warm_up..], options));
    (run, metrics, alerts)
}

fn learn(learner: &mut dyn Learner, stream: &Stream, rows: &[usize]) {
    if rows.is_empty() {
        return;
    }
    let labels: Vec<f64> = rows.iter().map(|row| stream.labels[*row]).collect();
    let weights = vec![1.0; rows.len()];
    let rows = Labelled {
        frame: &stream.frame(rows.iter().copied()),
        dictionaries: &stream.dictionaries,
        labels: &labels,
        weights: &weights,
    };
    learner.learn(rows, None);
}

/// What is answered before anything was learned.
fn ignorance(task: Task) -> f64 {
    match task {
        Task::Binary => 0.5,
        Task::Multiclass { classes } => 1.0 / f64::from(classes),
        Task::Regression | Task::Anomaly => 0.0,
    }
}
