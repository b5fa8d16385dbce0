//! Driftmill's configuration: a TOML document as spanned values, with units, secrets, and errors that point at
//! line and column. It knows no component; it holds the contract ([`Component`]) that each of them implements.
//!
//! A value is read in two steps. [`Section::check`] compares a table with its [`Field`]s and reports all that is
//! wrong with it; [`Section::get`] and its kin then take the values out. Both write into the same [`Problems`], which
//! keeps one copy of a problem that both of them see.
//!
//! What must never happen here: a secret, or text that came from the environment, in an error message; a panic, on
//! any input.

mod check;
mod component;
mod document;
mod env;
mod hide;
mod nearest;
mod node;
mod problems;
mod quoted;
pub mod reference;
mod render;
mod secret;
mod section;
mod span;
mod units;
mod value;

#[cfg(test)]
mod fuzz;

pub use component::{Component, Field, Kind, Need, check_example, find, unknown_name};
pub use document::Document;
pub use nearest::nearest;
pub use problems::{Problem, Problems};
pub use secret::Secret;
pub use section::Section;
pub use span::Span;
pub use units::{ByteSize, parse_bytes, parse_duration};
pub use value::{Fault, FromValue, Value};
