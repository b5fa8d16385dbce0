//! The quarantine before the feature buffer: rows that look like a fault of whoever sent them never train a model.
//!
//! Rules judge matured rows one by one (ranges) or by windows of consecutive rows (bursts of missing values,
//! implausible label rates, jumps of a median). What they hold back is kept in bounded memory with its reason, still
//! counts in the quality of the versions that scored it, and can be released by an operator.

mod held;
mod rules;
mod store;
mod watch;

pub use held::{ReasonCounts, Release};
pub use rules::Rule;
pub use store::{Quarantine, QuarantineConfig, QuarantineCounts, Reason, Verdicts};
