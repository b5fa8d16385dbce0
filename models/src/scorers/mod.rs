//! Scorers: immutable models over encoded rows. One file for each; [`SCORERS`] is the list of them all.

pub mod calibration;
pub mod constant;
pub(crate) mod ensemble;
pub mod forest;
pub mod half_space;
pub mod linear;
pub mod mixture;
pub mod naive_bayes;
pub mod neighbours;
pub mod pool;
mod shap;
pub mod support_vectors;
pub mod tree_means;
pub mod trees;
pub mod value_trees;
pub(crate) mod walk;

use std::sync::Arc;

use crate::codec::{CodecError, Reader};
use crate::contracts::Scorer;

/// How a scorer is read back. No file of configuration names one: learners make them.
pub struct ScorerFormat {
    /// The name that stands in artifacts.
    pub name: &'static str,
    /// What it is, in one or two sentences.
    pub summary: &'static str,
    /// A small one, for the conformance tests.
    pub example: fn() -> Arc<dyn Scorer>,
    /// Reads what the scorer wrote; never panics.
    pub read: fn(&mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError>,
}

/// All formats of scorers that artifacts may hold.
pub const SCORERS: &[ScorerFormat] = &[
    ScorerFormat {
        name: linear::FORMAT,
        summary: "Weighted sums of the inputs, as they are or through the logistic or softmax function.",
        example: linear::example,
        read: linear::read,
    },
    ScorerFormat {
        name: forest::FORMAT,
        summary: "Trees of one vote each on two classes; a table makes a probability of the votes.",
        example: forest::example,
        read: forest::read,
    },
    ScorerFormat {
        name: ensemble::FORMAT,
        summary: "Sums of trees, as they are or through the logistic or softmax function.",
        example: ensemble::example,
        read: ensemble::read,
    },
    ScorerFormat {
        name: pool::FORMAT,
        summary: "The weighted mean of the members' scores.",
        example: pool::example,
        read: pool::read,
    },
    ScorerFormat {
        name: mixture::FORMAT,
        summary: "Members' scores by the shares they have earned, and logarithmic pools of them; the mean of all these by \
                  the trust they have earned.",
        example: mixture::example,
        read: mixture::read,
    },
    ScorerFormat {
        name: calibration::FORMAT,
        summary: "Curves that make better probabilities of a model's probabilities.",
        example: calibration::example,
        read: calibration::read,
    },
    ScorerFormat {
        name: naive_bayes::FORMAT,
        summary: "Bayes' rule over normal densities of numbers and shares of categories.",
        example: naive_bayes::example,
        read: naive_bayes::read,
    },
    ScorerFormat {
        name: half_space::FORMAT,
        summary: "How few rows of a window lie where a row lies, as trees halve the space.",
        example: half_space::example,
        read: half_space::read,
    },
    ScorerFormat {
        name: constant::FORMAT,
        summary: "The same scores for every row, whatever its inputs.",
        example: constant::example,
        read: constant::read,
    },
    ScorerFormat {
        name: neighbours::FORMAT,
        summary: "The classes or the mean value of the nearest rows of a window.",
        example: neighbours::example,
        read: neighbours::read,
    },
    ScorerFormat {
        name: support_vectors::FORMAT,
        summary: "Weighted sums of how near a row is to rows that were learned from.",
        example: support_vectors::example,
        read: support_vectors::read,
    },
    ScorerFormat {
        name: tree_means::FORMAT,
        summary: "Trees whose leaves hold values or shares of classes; their mean.",
        example: tree_means::example,
        read: tree_means::read,
    },
    ScorerFormat {
        name: trees::FORMAT,
        summary: "Trees that grow row by row: class weights or naive Bayes in their leaves; their weighted mean or votes.",
        example: trees::example,
        read: trees::read,
    },
    ScorerFormat {
        name: value_trees::FORMAT,
        summary: "Trees that grow row by row: values or linear models in their leaves; their weighted sum, as it is or through \
                  the logistic or softmax function.",
        example: value_trees::example,
        read: value_trees::read,
    },
];

/// Appends the name of a scorer and what it writes.
pub(crate) fn write_scorer(scorer: &dyn Scorer, out: &mut Vec<u8>) {
    use crate::codec::Put;
    out.put_str(scorer.format());
    out.put_block(|block| scorer.write(block));
}

/// Reads what [`write_scorer`] wrote.
pub(crate) fn read_scorer(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let name = reader.str()?;
    let mut block = reader.block()?;
    let Some(format) = SCORERS.iter().find(|format| format.name == name) else {
        return Err(reader.error(format!("this binary has no scorer `{}`", name.escape_debug())));
    };
    let scorer = (format.read)(&mut block)?;
    block.finish()?;
    Ok(scorer)
}
