//! Training, in a process of its own: a [`Job`] is a pure value, [`fit`](fit::fit) turns it and its segments into the
//! bytes of an artifact, [`run_job`] is what the process does, and [`Process`] is how the engine starts, watches and
//! stops one.
//!
//! What must hold: the same job makes the same bytes, wherever it runs; a trainer that is killed, crashes or lies
//! costs its job and nothing else; an artifact is taken only when its hash, its job and its columns are right; a
//! trainer ends when the engine ends, however that ends.

mod child;
pub mod fit;
pub mod job;
pub mod process;
mod text;

#[cfg(test)]
mod tests;

pub use child::run_job;
pub use fit::{Fault, TrainError};
pub use job::{Job, SegmentRef, Weighting};
pub use process::{
    InProcess, LocalProcess, Process, Segments, TrainFailure, TrainResult, Trained, TrainerProcess, Training,
    collect_segments, export_segments,
};
pub use text::toml_of;
