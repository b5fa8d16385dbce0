//! Labels are known at once: each row is predicted and then learned from.

use std::time::Instant;

use driftmill_models::contracts::Labelled;
use driftmill_models::frame::Frame;
use driftmill_models::metrics::{Cohorts, Evaluation};

use super::outcome::{Outcome, Run, blocks, facts};
use super::setup::{Built, Setup};
use super::stream::Stream;
use super::{Failure, Options};

/// Runs a learner over a stream, once for each seed.
pub(crate) fn measure(setup: &Setup<'_>, stream: &Stream, options: &Options) -> Result<Outcome, Failure> {
    let rows: Vec<usize> = (0..stream.rows()).collect();
    let chunks: Vec<(Frame, &[f64])> = rows
        .chunks(options.chunk)
        .map(|rows| {
            let labels = &stream.labels[rows[0]..rows[0] + rows.len()];
            (stream.frame(rows.iter().copied()), labels)
        })
        .collect();
    let mut outcome = Outcome::new(setup, stream, options)?;
    for seed in 1..=options.seeds {
        let (run, metrics) = run(setup.build(seed)?, seed, stream, &chunks, options);
        outcome.add(run, metrics);
    }
    Ok(outcome)
}

fn run(
    built: Built,
    seed: u64,
    stream: &Stream,
    chunks: &[(Frame, &[f64])],
    options: &Options,
) -> (Run, Cohorts<Evaluation>) {
    let mut learner = built.learner;
    let mut metrics = blocks(stream.task, stream.rows(), options);
    let weights = vec![1.0; options.chunk];
    let mut scores = Vec::new();
    let (mut seconds, mut bytes_max, mut row) = (0.0, 0, 0);
    for (frame, labels) in chunks {
        let rows = Labelled {
            frame,
            dictionaries: &stream.dictionaries,
            labels,
            weights: &weights[..frame.rows()],
        };
        let start = Instant::now();
        learner.learn(rows, Some(&mut scores));
        seconds += start.elapsed().as_secs_f64();
        bytes_max = bytes_max.max(learner.bytes());
        for (scores, label) in scores.chunks(stream.task.outputs()).zip(*labels) {
            metrics.update(row, scores, *label, 1.0);
            row += 1;
        }
    }
    let run = Run {
        seed,
        rows_per_second: stream.rows() as f64 / seconds,
        bytes_max,
        budget: built.budget,
        facts: facts(learner.as_ref()),
    };
    (run, metrics)
}
