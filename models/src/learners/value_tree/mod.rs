//! Trees that grow row by row and whose leaves hold values: what regression by trees and streaming boosting share.
//!
//! A [`ValueTree`] learns from *pulls*: for each of its outputs a number `h`, above 0, and a number `g`; its leaves aim at
//! the value `Σ g / Σ h` of their rows. For regression `h` is the weight of the row and `g` the weighted label; for boosting
//! they are the negative gradient and the hessian of a loss (Newton's step). A tree of several outputs asks the same
//! questions for all of them. The parts:
//!
//! - [`Inputs`]: what is known of the inputs, once for all trees of an ensemble: where the bins of an input lie, and its
//!   mean and spread. A row is put into bins once, not leaf by leaf.
//! - `leaf`: sums of the pulls in each bin of each input, in one flat array; the value and the linear model of the leaf.
//! - `split`: which question explains most, and Hoeffding's bound on the ratio of the two best.
//! - `grown`, `state`, `view`: the tree, how it is saved, and as it is published.
//!
//! Ikonomovska, Gama and Džeroski, "Learning model trees from evolving data streams", Data Mining and Knowledge Discovery
//! 2011 (FIMT-DD): splits by reduction of variance where the ratio of the two best is surely below 1, and linear models in
//! leaves. Sums in bins instead of search trees: Mastelini and de Carvalho, "Using dynamical quantization to perform split
//! attempts in online tree regressors", Pattern Recognition Letters 2021; bins here hold about equally many rows and are
//! common to all leaves, as in batch boosting (Chen and Guestrin, "XGBoost", KDD 2016).

mod edges;
mod grown;
mod inputs;
mod leaf;
mod split;
mod state;
mod view;

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Input;

pub(crate) use grown::ValueTree;
pub(crate) use inputs::{Inputs, Moves, Scales};
pub(crate) use view::{View, published_settings};

/// How a leaf predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafRule {
    /// By the mean of its rows.
    Mean,
    /// By a linear model of the inputs.
    Linear,
    /// By whichever of the two was better lately.
    Adaptive,
    /// By the mean of its rows, or of the last of them only, whichever was better lately.
    Recent,
}

/// How a tree grows.
#[derive(Debug, Clone)]
pub(crate) struct ValueSettings {
    /// Values of a leaf.
    pub(crate) outputs: usize,
    /// What each number of a row is.
    pub(crate) inputs: Arc<[Input]>,
    /// Weight of rows between two attempts of a leaf to split.
    pub(crate) grace: f64,
    /// Probability that another question is better than the one found, at a split.
    pub(crate) delta: f64,
    /// Bound below which questions count as equally good, and the leaf splits.
    pub(crate) tie: f64,
    /// How leaves predict; several outputs by their means only.
    pub(crate) leaf: LeafRule,
    /// What is added to `Σ h` in the value of a leaf: 0, or how much it is drawn to 0.
    pub(crate) ridge: f64,
    /// What the value of a leaf of several outputs, or without a linear model, lies between, below 0 and above.
    pub(crate) reach: f64,
    /// Rows after which what a leaf has seen counts `1/e` in its value; infinite: always as much.
    pub(crate) memory_rows: f64,
    /// Rows after which, in the mean of the last rows, a row counts `1/e` ([`LeafRule::Recent`]).
    pub(crate) recent_rows: f64,
    /// Whether the variance of `g` is known to be `h`, as it is for probabilities; else it is measured.
    pub(crate) unit_variance: bool,
    /// How many inputs each leaf looks at, drawn at random; all if `None`.
    pub(crate) leaf_inputs: Option<usize>,
    /// How many inputs the whole tree looks at, drawn at random; all if `None`.
    pub(crate) tree_inputs: Option<usize>,
    /// Seed of what is drawn.
    pub(crate) seed: u64,
    /// Bytes that a tree may use.
    pub(crate) memory_max: usize,
    /// Bins of a number at most.
    pub(crate) bins_max: usize,
}

/// Bins of a number where memory does not say less, and at least.
const BINS: usize = 64;
const BINS_MIN: usize = 8;
/// Leaves that a tree should have room for, with the widest bins.
const LEAVES_LEAST: usize = 16;

impl ValueSettings {
    /// A tree of one output as MOA and River grow it, within so many bytes.
    pub(crate) fn new(outputs: usize, inputs: Arc<[Input]>, seed: u64, memory_max: usize) -> Self {
        Self {
            outputs,
            inputs,
            grace: 200.0,
            delta: 1e-7,
            tie: 0.05,
            leaf: LeafRule::Adaptive,
            ridge: 0.0,
            reach: f64::MAX,
            memory_rows: f64::INFINITY,
            recent_rows: 10.0,
            unit_variance: false,
            leaf_inputs: None,
            tree_inputs: None,
            seed,
            memory_max,
            bins_max: BINS,
        }
    }

    /// The same, with as many bins as go well with so many bytes for a tree.
    pub(crate) fn with_bins_for(mut self, memory_max: usize) -> Self {
        let of_one = LEAVES_LEAST * 16 * self.outputs * self.inputs.len().max(1);
        self.bins_max = (memory_max / of_one).clamp(BINS_MIN, BINS);
        self
    }

    /// Whether leaves have linear models.
    pub(crate) fn is_linear(&self) -> bool {
        matches!(self.leaf, LeafRule::Linear | LeafRule::Adaptive) && self.outputs == 1
    }
}

/// What a tree learns from a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull<'a> {
    /// How often the row counts.
    pub(crate) weight: f64,
    /// For each output `h` and `g`, the weight included.
    pub(crate) pulls: &'a [(f64, f64)],
}

/// Appends numbers; how many there are is known to who reads them.
fn put_numbers(numbers: &[f64], out: &mut Vec<u8>) {
    out.reserve(8 * numbers.len());
    numbers.iter().for_each(|number| out.put_f64(*number));
}

/// Reads so many numbers at once, all of them finite.
fn numbers(reader: &mut Reader<'_>, count: usize) -> Result<Box<[f64]>, CodecError> {
    let bytes = reader.take(count.saturating_mul(8))?;
    let words = bytes.as_chunks::<8>().0.iter();
    let numbers: Box<[f64]> = words.map(|word| f64::from_le_bytes(*word)).collect();
    match numbers.iter().fold(true, |all, number| all & number.is_finite()) {
        true => Ok(numbers),
        false => Err(reader.error("a number is not finite")),
    }
}
