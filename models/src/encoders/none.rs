//! `none`: a number as it is.

use std::ops::Range;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::{ENCODE, ROLE};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

/// Numbers beyond are taken for it, so that a learner's sums of squares stay finite.
const MAGNITUDE_MAX: f64 = 1e30;

/// The entry of the list.
pub(crate) struct NoneKind;

impl Component for NoneKind {
    fn name(&self) -> &'static str {
        "none"
    }

    fn summary(&self) -> &'static str {
        "The number as it is, for inputs that have a scale of their own and for trees. Missing and infinite values \
         become 0, or stay missing; numbers beyond ±1e30 become that."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "missing",
                kind: Kind::OneOf(&["zero", "keep"]),
                need: Need::Optional("`\"zero\"`"),
                doc: "A missing or infinite value becomes 0, or stays missing: learners that add inputs up refuse that.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"none\"\nmissing = \"keep\"\n"
    }
}

impl EncoderKind for NoneKind {
    fn column_kind(&self) -> ColumnKind {
        ColumnKind::Number
    }

    fn build(
        &self,
        _column: &ColumnSpec,
        section: &Section<'_>,
        _seed: u64,
        problems: &mut Problems,
    ) -> Option<Box<dyn Encoder>> {
        let missing = section.get_or("missing", "zero".to_owned(), problems);
        Some(Box::new(AsIs {
            keep: missing == "keep",
        }))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        match reader.u8()? {
            keep @ (0 | 1) => Ok(Box::new(AsIs { keep: keep == 1 })),
            other => Err(reader.error(format!("{other} is not a setting of `none`"))),
        }
    }
}

/// Learns nothing.
#[derive(Clone)]
pub(super) struct AsIs {
    /// Whether a missing value stays missing.
    pub(super) keep: bool,
}

impl Encoder for AsIs {
    fn format(&self) -> &'static str {
        NoneKind.name()
    }

    fn width(&self) -> usize {
        1
    }

    fn observe(&mut self, _column: ColumnView<'_>, _row: usize, _label: f64) {}

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        let mut places = out.chunks_mut(stride.max(1));
        column.numbers(rows, |_, value| {
            if let Some(place) = places.next() {
                place[0] = if value.is_finite() {
                    value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX)
                } else if self.keep {
                    f64::NAN
                } else {
                    0.0
                };
            }
        });
    }

    fn encode_then_observe(
        &mut self,
        column: ColumnView<'_>,
        rows: Range<usize>,
        _labels: &[f64],
        _learn: &[bool],
        out: &mut [f64],
        stride: usize,
    ) {
        self.encode(column, rows, out, stride);
    }

    fn stamp(&self) -> u64 {
        0
    }

    fn keeps_missing(&self) -> bool {
        self.keep
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.keep));
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Column;

    #[test]
    fn numbers_as_they_are_and_nothing_that_is_not_finite() {
        let column = Column::F32(vec![1.5, f32::NAN, f32::NEG_INFINITY, f32::MAX]);
        let view = ColumnView {
            values: &column,
            dictionary: None,
        };
        let mut out = vec![0.0; 4];
        AsIs { keep: false }.encode(view, 0..4, &mut out, 1);
        assert_eq!(out, [1.5, 0.0, 0.0, 1e30]);
        AsIs { keep: true }.encode(view, 0..4, &mut out, 1);
        assert!(out[0] == 1.5 && out[1].is_nan() && out[2].is_nan() && out[3] == 1e30);
    }
}
