//! Everything that needs more than one crate, or a real server: one binary, because each links the whole engine.
#![expect(missing_docs, reason = "a test's name says what holds")]

mod arrows;
mod broker;
mod delivery;
mod deploy;
mod pipeline;
mod scrape;
