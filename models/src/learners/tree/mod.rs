//! Decision trees that grow row by row: what the tree learners and the ensembles of trees share.
//!
//! A [`Tree`] works on encoded rows. It learns and predicts, and knows nothing of frames, encoders or models. Its
//! parts:
//!
//! - `node`: the splits, in one array of 16 bytes a node; a walk goes by index.
//! - `leaf`: what a leaf has counted. Leaves lie in blocks behind `Arc`s: a publication ([`View`]) copies no leaf,
//!   learning copies a block when it first touches it afterwards, a snapshot writes the blocks that changed.
//! - `numbers`, `categories`: what a leaf knows of an input, for splits and for naive Bayes.
//! - `learner`: the learner around a tree or an ensemble.
//! - `split`: which question a leaf would ask, and Hoeffding's bound on whether it is the best one.
//!
//! Domingos and Hulten, "Mining high-speed data streams", KDD 2000; adaptive naive-Bayes leaves: Holmes, Kirkby and
//! Pfahringer, "Stress-testing Hoeffding trees", PKDD 2005; Gaussians for numbers: Pfahringer, Holmes and Kirkby,
//! "Handling numeric attributes in Hoeffding trees", PAKDD 2008. Defaults are those of MOA.

mod categories;
mod grown;
mod leaf;
mod learner;
mod node;
mod numbers;
mod split;
mod state;
mod view;
mod window;

use std::sync::Arc;

use crate::contracts::Input;

pub(crate) use grown::Tree;
pub(crate) use learner::{Grow, MEMORY_MAX, TreeLearner};
pub(crate) use node::{Node, Shape, Step};
pub(crate) use split::{Candidate, Question, candidates, entropy_max, hoeffding_bound};
pub(crate) use view::{Scratch, View};
pub(crate) use window::ErrorWindow;

/// How a leaf predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafRule {
    /// By how often it saw each class.
    Majority,
    /// By naive Bayes.
    NaiveBayes,
    /// By whichever of the two was right more often in this leaf.
    Adaptive,
}

/// How a tree grows.
#[derive(Debug, Clone)]
pub(crate) struct TreeSettings {
    /// Number of classes, at least 2.
    pub(crate) classes: usize,
    /// What each number of a row is.
    pub(crate) inputs: Arc<[Input]>,
    /// Weight of rows between two attempts of a leaf to split.
    pub(crate) grace: f64,
    /// Probability that the best question is another one than the one found, at a split.
    pub(crate) delta: f64,
    /// Bound below which questions count as equally good, and the leaf splits.
    pub(crate) tie: f64,
    /// How leaves predict.
    pub(crate) leaf: LeafRule,
    /// Inputs that the tree may look at; all if `None`.
    pub(crate) places: Option<Arc<[u32]>>,
    /// How many of these each leaf looks at, drawn at random for each leaf; all if `None`.
    pub(crate) subspace: Option<usize>,
    /// Seed of what is drawn.
    pub(crate) seed: u64,
    /// Bytes that the tree may use.
    pub(crate) memory_max: usize,
    /// Bytes that its owner keeps for each node, counted as the tree's.
    pub(crate) node_bytes: usize,
}

impl TreeSettings {
    /// A Hoeffding tree as MOA grows it.
    pub(crate) fn new(classes: usize, inputs: Arc<[Input]>, seed: u64, memory_max: usize) -> Self {
        Self {
            classes,
            inputs,
            grace: 200.0,
            delta: 1e-7,
            tie: 0.05,
            leaf: LeafRule::Adaptive,
            places: None,
            subspace: None,
            seed,
            memory_max,
            node_bytes: 0,
        }
    }
}

/// Weights of rows beyond are taken for it, so that sums stay finite and nothing is divided by nothing.
pub(crate) const WEIGHT_MIN: f64 = 1e-6;
pub(crate) const WEIGHT_MAX: f64 = 1e6;

/// The class of the largest number, the first of equal ones.
pub(crate) fn largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (class, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = class;
        }
    }
    best
}
