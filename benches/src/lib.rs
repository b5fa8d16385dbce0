//! What Driftmill costs, measured against the least that the same work can cost.
//!
//! - `decode`: the JSON decoder against arrow-json, in memory.
//! - `w1`: the daemon against a bare loop (consume, decode, encode, produce), on a real Kafka, in CPU-seconds.
//! - `transaction`: what one commit of the exactly-once sink takes on a real Kafka, and where the time goes.
//!
//! The two sides of a comparison run in turn and are compared pair by pair, because a machine that others use too is
//! now fast and now slow; what is reported is the median of the pairs' ratios. Nothing here asserts a time: these are
//! measurements, not tests.

pub mod bare;
pub mod broker;
pub mod flights;
pub mod pairs;
pub mod process;
pub mod spans;

/// Why a benchmark could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
