//! Encoders: how a column becomes numbers. One file for each; [`ENCODERS`] is the list of them all.

mod columns;
mod hash;
mod none;
mod one_hot;
mod ordinal;
mod seen;
mod standardise;

use driftmill_config::{Field, Kind, Need};

pub use columns::{ColumnsEncoder, WIDTH_MAX};

use crate::contracts::EncoderKind;

/// All encoders, in the order of the reference.
pub const ENCODERS: &[&dyn EncoderKind] = &[
    &standardise::Standardise,
    &one_hot::OneHotKind,
    &hash::HashKind,
    &ordinal::OrdinalKind,
    &none::NoneKind,
];

/// The encoder of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn EncoderKind> {
    ENCODERS.iter().find(|kind| kind.name() == name).copied()
}

/// The key that names the encoder, one of the keys of each of them.
pub(crate) const ENCODE: Field = Field {
    name: "encode",
    // Not a list of the names: they stand in `ENCODERS`, and nowhere a second time.
    kind: Kind::String,
    need: Need::Optional("`standardise` for numbers; a column of text must say how it is encoded"),
    doc: "How the column becomes numbers: the name of an encoder.",
};

/// The key that names the column's role; only features are encoded.
pub(crate) const ROLE: Field = Field {
    name: "role",
    kind: Kind::OneOf(&["feature", "id", "time", "weight", "segment", "passthrough"]),
    need: Need::Optional("`feature`"),
    doc: "What the column is for. Only features are encoded and reach the model.",
};
