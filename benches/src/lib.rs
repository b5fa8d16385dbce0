//! What Driftmill costs, measured against the least that the same work can cost.
//!
//! - `decode`: the JSON decoder against arrow-json, in memory.
//! - `w1`: the daemon against a bare loop (consume, decode, encode, produce), on a real Kafka, in CPU-seconds.
//! - `whole`: the whole loop (model, labels, evaluation, drift, learning) against the same, part by part.
//! - `swap`: how long a change of the live model holds up the engine.
//! - `retrain`: latency from end to end at half load, while a model is trained and while none is.
//! - `transaction`: what one commit of the exactly-once sink takes on a real Kafka, and where the time goes.
//! - `report`: all of them, their tables written into a results file; `benches/run` is the command.
//!
//! The two sides of a comparison run in turn and are compared pair by pair, because a machine that others use too is
//! now fast and now slow; what is reported is the median of the pairs' ratios. Nothing here asserts a time: these are
//! measurements, not tests.

pub mod bare;
pub mod broker;
pub mod evidence;
pub mod flights;
pub mod load;
pub mod pairs;
pub mod phases;
pub mod pipelines;
pub mod process;
pub mod profile;
pub mod runs;
pub mod scrape;
pub mod spans;
pub mod table;

/// Why a benchmark could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
