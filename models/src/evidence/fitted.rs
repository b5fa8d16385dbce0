//! The gate on real models: two fitted by the real learner on disjoint samples of one world, compared on blocks of rows
//! that neither has seen. `cargo test -p driftmill-models evidence::fitted -- --nocapture` prints the rates.

use driftmill_config::Document;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::BLOCKS_MIN;
use super::sequence::Sequence;
use crate::contracts::{FitStart, Labelled, LearnerContext, Task};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{Column, ColumnKind, ColumnSpec, Frame};
use crate::learners::BATCH_LEARNERS;
use crate::model::{Model, Scratch};
use crate::random::{derived, uniform};

const SEED: u64 = 20_131_225;
const ALPHA: f64 = 0.05;
const REPLAYS: u64 = 500;
/// Blocks of a replay, and of the stream out of which each replay takes a stretch.
const BLOCKS: usize = 1_000;
const BLOCKS_ALL: usize = 12_000;
/// Rows of a block: they share one disturbance, so that their labels are correlated.
const BLOCK_ROWS: usize = 20;
const TRAIN_ROWS: usize = 3_000;

const WEIGHTS: [f64; 4] = [1.2, -0.8, 0.5, 0.0];
/// The changed world: the third weight has gone and the fourth has come.
const CHANGED: [f64; 4] = [1.2, -0.8, 0.0, 0.5];

struct Rows {
    frame: Frame,
    labels: Vec<f64>,
}

fn normal(random: &mut Pcg64Mcg) -> f64 {
    (-2.0 * (1.0 - uniform(random)).ln()).sqrt() * (std::f64::consts::TAU * uniform(random)).cos()
}

/// Rows of the world of these weights, in blocks.
fn rows(weights: &[f64; 4], count: usize, seed: u64) -> Rows {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut columns = vec![Vec::with_capacity(count); weights.len()];
    let mut labels = Vec::with_capacity(count);
    let mut disturbance = 0.0;
    for row in 0..count {
        if row % BLOCK_ROWS == 0 {
            disturbance = 0.5 * normal(&mut random);
        }
        let mut sum = disturbance - 0.5;
        for (column, weight) in columns.iter_mut().zip(weights) {
            let x = normal(&mut random);
            column.push(x);
            sum += weight * x;
        }
        labels.push(f64::from(u8::from(uniform(&mut random) < 1.0 / (1.0 + (-sum).exp()))));
    }
    Rows {
        frame: Frame::new(count, columns.into_iter().map(Column::F64).collect()),
        labels,
    }
}

/// The learner of the list, fitted.
fn fit(rows: &Rows) -> Model {
    let spec = |index| ColumnSpec {
        name: format!("x{index}"),
        kind: ColumnKind::Number,
    };
    let columns: Vec<ColumnSpec> = (0..WEIGHTS.len()).map(spec).collect();
    let document = Document::parse("test.toml", "", &|_| None).unwrap();
    let mut problems = document.problems();
    let encoder = ColumnsEncoder::from_config(&document.root(), &columns, 0, &mut problems).unwrap();
    let kind = driftmill_config::find(BATCH_LEARNERS, "logistic-regression").unwrap();
    let context = LearnerContext::new(Task::Binary, &encoder, SEED);
    let learner = kind.build(&document.root(), &context, &mut problems).unwrap();
    let weights = vec![1.0; rows.labels.len()];
    let labelled = Labelled {
        frame: &rows.frame,
        dictionaries: &Dictionaries::default(),
        labels: &rows.labels,
        weights: &weights,
    };
    learner.fit(labelled, FitStart::anew(SEED)).unwrap()
}

/// For each block the mean Brier loss of `champion` less that of `candidate`.
fn differences(champion: &Model, candidate: &Model, rows: &Rows) -> Vec<f64> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let (dictionaries, mut scratch) = (Dictionaries::default(), Scratch::default());
    champion.score(&rows.frame, &dictionaries, &mut scratch, &mut old);
    candidate.score(&rows.frame, &dictionaries, &mut scratch, &mut new);
    let pairs = old.iter().zip(&new).zip(&rows.labels);
    let losses: Vec<f64> = pairs
        .map(|((old, new), label)| (old - label).powi(2) - (new - label).powi(2))
        .collect();
    losses
        .chunks(BLOCK_ROWS)
        .map(|block| block.iter().sum::<f64>() / block.len() as f64)
        .collect()
}

/// For each replay the block at which the candidate is promoted, looked at after every block of a stretch of the stream.
fn promoted(blocks: &[f64], coin: bool) -> Vec<Option<usize>> {
    (0..REPLAYS)
        .map(|replay| {
            let mut random = Pcg64Mcg::seed_from_u64(derived(SEED, replay));
            let start = (uniform(&mut random) * (blocks.len() - BLOCKS) as f64) as usize;
            let mut sequence = Sequence::new();
            let at = blocks[start..start + BLOCKS].iter().position(|difference| {
                let swapped = coin && random.next_u64() & 1 == 1;
                sequence.push(if swapped { -difference } else { *difference });
                sequence.blocks() >= BLOCKS_MIN && sequence.bounds(ALPHA).low > 0.0
            });
            at.map(|at| at + 1)
        })
        .collect()
}

fn share(found: &[Option<usize>]) -> f64 {
    found.iter().flatten().count() as f64 / found.len() as f64
}

#[test]
fn a_a_of_two_fitted_models_is_promoted_in_at_most_alpha_and_a_change_is_found() {
    let old = fit(&rows(&WEIGHTS, TRAIN_ROWS, derived(SEED, 1_000_001)));
    let other = fit(&rows(&WEIGHTS, TRAIN_ROWS, derived(SEED, 1_000_002)));
    let stream = rows(&WEIGHTS, BLOCKS_ALL * BLOCK_ROWS, derived(SEED, 1_000_003));
    let blocks = differences(&old, &other, &stream);
    assert!(
        blocks.iter().any(|difference| difference.abs() > 1e-4),
        "two different models"
    );
    let found = promoted(&blocks, true);
    println!(
        "A/A: two models fitted on {TRAIN_ROWS} disjoint rows each, losses swapped by a coin per block of {BLOCK_ROWS} rows: \
         {:.1} % of {REPLAYS} promoted within {BLOCKS} blocks (seed {SEED}, alpha {ALPHA})",
        100.0 * share(&found)
    );
    assert!(share(&found) <= ALPHA, "{:.3}, seed {SEED}", share(&found));

    let refitted = fit(&rows(&CHANGED, TRAIN_ROWS, derived(SEED, 1_000_004)));
    let stream = rows(&CHANGED, BLOCKS_ALL * BLOCK_ROWS, derived(SEED, 1_000_005));
    let blocks = differences(&old, &refitted, &stream);
    let mean = blocks.iter().sum::<f64>() / blocks.len() as f64;
    let found = promoted(&blocks, false);
    let mut at: Vec<usize> = found.iter().map(|at| at.unwrap_or(usize::MAX)).collect();
    at.sort_unstable();
    println!(
        "power: a change that costs the old model {mean:.4} of Brier loss (one of four weights, 0.5, moves to another \
         input): {:.1} % promoted within {BLOCKS} blocks, half of them within {}, 90 % within {}",
        100.0 * share(&found),
        at[at.len() / 2],
        at[at.len() * 9 / 10]
    );
    assert!(share(&found) >= 0.9, "{:.3}, seed {SEED}", share(&found));
    // And the change the other way: what is worse is not promoted.
    let worse: Vec<f64> = blocks.iter().map(|difference| -difference).collect();
    assert!(share(&promoted(&worse, false)) <= 0.01);
}
