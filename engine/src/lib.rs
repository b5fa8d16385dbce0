//! The engine: the only crate that knows both connectors and models.

pub mod example;
pub mod intake;
pub mod score;
pub mod settings;
pub mod transform;
