//! Everything that needs more than one crate, or a real server: one binary, because each links the whole engine.
#![expect(
    clippy::unwrap_used,
    reason = "tests and their helpers: what fails here fails the test"
)]

mod arrows;
mod bad_input;
mod bootstrap;
mod broker;
mod delivery;
mod deploy;
mod extension;
mod kills;
mod learning;
mod pipeline;
mod rights;
mod scrape;
mod trouble;
mod verify;
mod world;
