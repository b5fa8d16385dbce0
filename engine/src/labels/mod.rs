//! Labels that arrive later than what they judge: the join of features as served with their labels by key.

mod index;
pub mod join;
#[cfg(test)]
pub(crate) mod memory;
mod recent;
mod segment;
mod terms;
mod timed;

pub use join::LabelJoin;
pub use terms::{Expired, JoinConfig, JoinCounts, LabelOutcome, Missing};
