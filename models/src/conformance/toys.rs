//! Proofs that the contracts fit what is yet to come, and that the suites bite.
//!
//! A tree with categories, missing values and several classes that shares its nodes with what it publishes; a team of a
//! tree and a linear model, each with the encoding it wants, one of them paused. And entries that are broken on purpose,
//! found in the expected place.

mod faults;
mod team;
mod tree;

use std::sync::Arc;

use super::world::{SCALED, encoder_of};
use super::{all_hold, learners};
use crate::codec::Reader;
use crate::contracts::{Learner, LearnerContext, Scorer, Task};
use crate::matrix::Matrix;
use crate::model::Model;

/// The same scores for every row.
struct Constant {
    width: usize,
    scores: Vec<f64>,
}

impl Scorer for Constant {
    fn format(&self) -> &'static str {
        "constant"
    }
    fn width(&self) -> usize {
        self.width
    }
    fn outputs(&self) -> usize {
        self.scores.len()
    }
    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        (0..x.rows()).for_each(|_| out.extend_from_slice(&self.scores));
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"constant");
    }
    fn bytes(&self) -> usize {
        self.scores.len() * 8
    }
}

/// The learner, if it fits into the memory that it may use.
fn within<L: Learner + 'static>(learner: L, context: &LearnerContext<'_>) -> Option<Box<dyn Learner>> {
    (learner.bytes() <= context.memory_max).then(|| Box::new(learner) as Box<dyn Learner>)
}

/// A model that has learned nothing.
pub(super) fn constant(task: Task) -> Model {
    let encoder = encoder_of(SCALED);
    let scores = vec![1.0 / task.outputs().max(2) as f64; task.outputs()];
    let width = encoder.width();
    Model::new(task, Arc::new(encoder), Arc::new(Constant { width, scores })).unwrap()
}

#[test]
fn a_tree_of_categories_and_missing_values_fits_the_contracts() {
    let cases = learners::Case::of(&tree::ToyTreeKind);
    assert!(cases.len() >= 4, "binary and multiclass, scaled and native");
    all_hold(learners::PROPERTIES, cases.into_iter().map(|case| (case.name(), case)));
}

#[test]
fn a_team_of_members_with_encodings_of_their_own_fits_the_contracts() {
    let cases = learners::Case::of(&team::ToyTeamKind);
    all_hold(learners::PROPERTIES, cases.into_iter().map(|case| (case.name(), case)));
}

/// Nothing is left to be read: for chunks that are read to their end.
fn finished<T>(reader: Reader<'_>, value: T) -> Result<T, crate::codec::CodecError> {
    reader.finish().map(|()| value)
}
