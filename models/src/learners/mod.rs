//! Learners: what makes models out of labelled rows. One file for each; [`LEARNERS`] (row by row) and
//! [`BATCH_LEARNERS`] (a whole training set) are the lists of them all.

mod extremely_fast_tree;
mod hoeffding_adaptive_tree;
mod hoeffding_tree;
mod logistic_regression;
mod random_forest;
mod rows;
mod sgd_logistic;
pub(crate) mod tree;

use crate::contracts::{BatchLearner, Learner, LearnerKind};

pub(crate) use rows::usable;

/// All learners that learn row by row, in the order of the reference.
pub const LEARNERS: &[&dyn LearnerKind<dyn Learner>] = &[
    &sgd_logistic::SgdLogisticKind,
    &hoeffding_tree::HoeffdingTreeKind,
    &hoeffding_adaptive_tree::HoeffdingAdaptiveTreeKind,
    &extremely_fast_tree::ExtremelyFastTreeKind,
];

/// All learners that are fitted on a training set, in the order of the reference.
pub const BATCH_LEARNERS: &[&dyn LearnerKind<dyn BatchLearner>] = &[
    &logistic_regression::LogisticRegressionKind,
    &random_forest::RandomForestKind,
];
