//! Everything that learns and judges: the contracts [`Learner`](contracts::Learner), [`Scorer`](contracts::Scorer),
//! [`Encoder`](contracts::Encoder), detectors and [`State`](state::State), the [`Frame`](frame::Frame) that they
//! read, and one file for each implementation.
//!
//! Frames in, values out. Nothing here knows a connector, a clock, a thread or a file, and everything random is
//! seeded: the same rows in the same order give the same bits.

pub mod artifact;
pub mod codec;
pub mod contracts;
pub mod detectors;
pub mod dictionary;
pub mod encoders;
pub mod evidence;
pub mod frame;
pub mod learners;
pub mod matrix;
pub mod metrics;
pub mod model;
pub mod random;
pub mod scorers;
pub mod state;

#[cfg(test)]
mod conformance;
