//! Encoders: how a column becomes numbers. One file for each; [`ENCODERS`] is the list of them all.

mod columns;
mod frequency;
mod hash;
mod none;
mod one_hot;
mod ordinal;
mod quantiles;
mod robust;
mod seen;
mod standardise;
mod target;
mod time_parts;
mod vector;

use std::ops::Range;

use driftmill_config::{Field, Kind, Need};

pub use columns::{ColumnsEncoder, WIDTH_MAX};

use crate::contracts::EncoderKind;
use crate::frame::{Category, ColumnView};

/// All encoders, in the order of the reference.
pub const ENCODERS: &[&dyn EncoderKind] = &[
    &standardise::Standardise,
    &robust::RobustKind,
    &time_parts::TimePartsKind,
    &one_hot::OneHotKind,
    &hash::HashKind,
    &ordinal::OrdinalKind,
    &frequency::FrequencyKind,
    &target::TargetKind,
    &vector::VectorKind,
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
    need: Need::Optional(
        "`standardise` for numbers, `vector` for vectors; a column of text must say how it is encoded",
    ),
    doc: "How the column becomes numbers: the name of an encoder.",
};

/// The key that names the column's role; only features are encoded.
pub(crate) const ROLE: Field = Field {
    name: "role",
    kind: Kind::OneOf(&["feature", "id", "time", "weight", "segment", "passthrough"]),
    need: Need::Optional("`feature`"),
    doc: "What the column is for. Only features are encoded and reach the model.",
};

/// The key of an input that says that a number is missing.
pub(crate) const MISSING_INDICATOR: Field = Field {
    name: "missing_indicator",
    kind: Kind::Bool,
    need: Need::Optional("`false`"),
    doc: "Adds a second input that is 1 where the value is missing and 0 elsewhere.",
};

/// Sets that input, the second of a row's, where there is one.
#[inline]
fn mark_missing(indicator: bool, out: &mut [f64]) {
    if let Some(second) = out.get_mut(1).filter(|_| indicator) {
        *second = 1.0;
    }
}

/// Calls `each` with the number of every row, NaN where it is missing, and the row's places in `out`.
#[inline]
fn each_number(
    column: ColumnView<'_>,
    rows: Range<usize>,
    out: &mut [f64],
    stride: usize,
    mut each: impl FnMut(f64, &mut [f64]),
) {
    let mut places = out.chunks_mut(stride.max(1));
    column.numbers(rows, |_, value| {
        if let Some(place) = places.next() {
            each(value, place);
        }
    });
}

/// The same, for an encoder that encodes each row and then learns from it: `each` is also told whether to learn.
#[inline]
fn each_number_to_learn(
    column: ColumnView<'_>,
    rows: Range<usize>,
    learn: &[bool],
    out: &mut [f64],
    stride: usize,
    mut each: impl FnMut(f64, bool, &mut [f64]),
) {
    let mut learn = learn.iter();
    each_number(column, rows, out, stride, |value, place| {
        each(value, learn.next() == Some(&true), place);
    });
}

/// The same with the category of every row.
#[inline]
fn each_category(
    column: ColumnView<'_>,
    rows: Range<usize>,
    out: &mut [f64],
    stride: usize,
    mut each: impl FnMut(Category, &mut [f64]),
) {
    let mut places = out.chunks_mut(stride.max(1));
    column.categories(rows, |_, category| {
        if let Some(place) = places.next() {
            each(category, place);
        }
    });
}
