//! Whether a candidate is better than the champion: evidence that may be looked at at any time, and the gate's
//! decision upon it. Values in, values out.

#[cfg(test)]
mod compare;
pub mod faded;
#[cfg(test)]
mod fitted;
pub mod gate;
pub mod pairs;
pub mod sequence;
#[cfg(test)]
mod simulation;

pub use faded::Faded;
pub use gate::{GateInput, GateVerdict, decide};
pub use pairs::{PairParams, Pairs};
pub use sequence::{Bounds, Sequence};

/// Blocks before which the gate never promotes or rejects on evidence, unless configured higher: what the
/// asymptotics of [`sequence`] need.
pub const BLOCKS_MIN: u64 = 20;
