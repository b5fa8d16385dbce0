//! The engine: the only crate that knows both connectors and models.

pub mod transform;
