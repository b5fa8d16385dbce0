//! The engine: the only crate that knows both connectors and models.

pub mod admin;
pub mod bootstrap;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod committer;
pub mod daemon;
pub mod disk;
pub mod epoch_log;
pub mod example;
pub mod failpoint;
pub mod generator;
pub mod http;
pub mod intake;
pub mod labels;
pub mod learn;
pub mod metrics;
pub mod quality;
pub mod quarantine;
pub mod quickstart;
pub mod reference;
pub mod registry;
pub mod score;
pub mod settings;
pub mod simulation;
pub mod snapshot;
pub mod state;
pub mod trainer;
pub mod transform;

/// The connectors crate, for those who may depend on the engine alone: tests and benchmarks.
pub use driftmill_connectors as connectors;
/// The models crate, for those who may depend on the engine alone: tests and benchmarks.
pub use driftmill_models as models;
