//! Learners: what makes models out of labelled rows. One file for each; [`LEARNERS`] (row by row) and
//! [`BATCH_LEARNERS`] (a whole training set) are the lists of them all.

mod adaptive_random_forest;
mod auto;
mod bag;
mod baseline;
mod blocks;
mod calibrated;
mod elastic_net;
mod extra_trees;
mod extremely_fast_tree;
mod fitted_trees;
mod gaussian_naive_bayes;
mod gradient_boosting;
mod half_space_trees;
mod hoeffding_adaptive_tree;
mod hoeffding_tree;
mod k_nearest_neighbours;
mod knn;
mod lasso;
mod least_squares;
mod leveraging_bagging;
mod linear_regression;
mod logistic_regression;
mod majority;
mod naive_bayes;
mod no_change;
mod random_forest;
mod ridge;
mod rows;
mod settings;
mod sgd;
mod sgd_linear;
mod sgd_logistic;
mod sgd_softmax;
mod streaming_gradient_boosting;
mod streaming_random_patches;
mod support_vector_machine;
pub(crate) mod tree;
mod value_forest;
pub(crate) mod value_tree;
mod watched;

use crate::contracts::{BatchLearner, Learner, LearnerKind};

pub(crate) use rows::usable;

/// All learners that learn row by row, in the order of the reference.
pub const LEARNERS: &[&dyn LearnerKind<dyn Learner>] = &[
    &sgd_logistic::SgdLogisticKind,
    &sgd_softmax::SgdSoftmaxKind,
    &sgd_linear::SgdLinearKind,
    &naive_bayes::NaiveBayesKind,
    &half_space_trees::HalfSpaceTreesKind,
    &majority::MajorityKind,
    &no_change::NoChangeKind,
    &hoeffding_tree::HoeffdingTreeKind,
    &hoeffding_adaptive_tree::HoeffdingAdaptiveTreeKind,
    &extremely_fast_tree::ExtremelyFastTreeKind,
    &knn::KnnKind,
    &leveraging_bagging::LeveragingBaggingKind,
    &adaptive_random_forest::AdaptiveRandomForestKind,
    &streaming_random_patches::StreamingRandomPatchesKind,
    &streaming_gradient_boosting::StreamingGradientBoostingKind,
    &auto::AutoKind,
];

/// All learners that are fitted on a training set, in the order of the reference.
pub const BATCH_LEARNERS: &[&dyn LearnerKind<dyn BatchLearner>] = &[
    &logistic_regression::LogisticRegressionKind,
    &random_forest::RandomForestKind,
    &extra_trees::ExtraTreesKind,
    &linear_regression::LinearRegressionKind,
    &ridge::RidgeKind,
    &lasso::LassoKind,
    &elastic_net::ElasticNetKind,
    &k_nearest_neighbours::KNearestNeighboursKind,
    &gaussian_naive_bayes::GaussianNaiveBayesKind,
    &support_vector_machine::SupportVectorMachineKind,
    &gradient_boosting::GradientBoostingKind,
];
