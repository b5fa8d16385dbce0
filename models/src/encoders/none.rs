//! `none`: a number as it is.

use std::ops::Range;

use driftmill_config::{Component, Field, Problems, Section};

use super::{ENCODE, ROLE};
use crate::codec::{CodecError, Reader};
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
         become 0; numbers beyond ±1e30 become that."
    }

    fn fields(&self) -> &'static [Field] {
        &[ENCODE, ROLE]
    }

    fn example(&self) -> &'static str {
        "encode = \"none\"\n"
    }
}

impl EncoderKind for NoneKind {
    fn column_kind(&self) -> ColumnKind {
        ColumnKind::Number
    }

    fn build(&self, _: &ColumnSpec, _: &Section<'_>, _: u64, _: &mut Problems) -> Option<Box<dyn Encoder>> {
        Some(Box::new(AsIs))
    }

    fn read(&self, _reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        Ok(Box::new(AsIs))
    }
}

/// Learns nothing.
#[derive(Clone)]
struct AsIs;

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
                } else {
                    0.0
                };
            }
        });
    }

    fn stamp(&self) -> u64 {
        0
    }

    fn write(&self, _out: &mut Vec<u8>) {}

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(Self)
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
        let mut out = vec![0.0; 4];
        AsIs.encode(
            ColumnView {
                values: &column,
                dictionary: None,
            },
            0..4,
            &mut out,
            1,
        );
        assert_eq!(out, [1.5, 0.0, 0.0, 1e30]);
    }
}
