//! `vector`: a vector of numbers as so many inputs, each on a scale of its own or all by the vector's length.

use std::ops::Range;
use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::standardise::Running;
use super::{ENCODE, MISSING_INDICATOR, ROLE};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

/// Set in the first byte of what is written where a missing vector stays missing; below it stands the scale.
const KEEP: u8 = 4;
/// The same, where there is an indicator.
const INDICATOR: u8 = 8;

/// The entry of the list.
pub(crate) struct VectorKind;

impl Component for VectorKind {
    fn name(&self) -> &'static str {
        "vector"
    }

    fn summary(&self) -> &'static str {
        "An input for each number of a vector, such as an embedding: standardised one by one, as `standardise` does it, \
         divided by the vector's length, or as they are. A vector that is missing, or of which a number is, is missing as \
         a whole: all its inputs become 0, or stay missing."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "scale",
                kind: Kind::OneOf(&["standardise", "unit-length", "none"]),
                need: Need::Optional("`\"standardise\"`"),
                doc: "`standardise`: each number less its running mean, by its running standard deviation, at most 10 of \
                      them. `unit-length`: by the vector's Euclidean length, so that its direction alone counts; a vector \
                      of zeros stays one. `none`: as they are.",
            },
            Field {
                name: "missing",
                kind: Kind::OneOf(&["zero", "keep"]),
                need: Need::Optional("`\"zero\"`"),
                doc: "What the inputs of a missing vector become: 0, or they stay missing: learners that add inputs up \
                      refuse that.",
            },
            Field {
                name: MISSING_INDICATOR.name,
                kind: Kind::Bool,
                need: Need::Optional("`false`"),
                doc: "Adds a last input that is 1 where the vector is missing and 0 elsewhere.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"vector\"\nscale = \"unit-length\"\nmissing_indicator = true\n"
    }
}

impl EncoderKind for VectorKind {
    fn column_kind(&self) -> ColumnKind {
        ColumnKind::Vector { width: 1 }
    }

    fn build(
        &self,
        column: &ColumnSpec,
        section: &Section<'_>,
        _seed: u64,
        problems: &mut Problems,
    ) -> Option<Box<dyn Encoder>> {
        let ColumnKind::Vector { width } = column.kind else {
            return None;
        };
        let scale = section.get_or("scale", "standardise".to_owned(), problems);
        let missing = section.get_or("missing", "zero".to_owned(), problems);
        Some(Box::new(Vectors {
            width: width as usize,
            scale: match scale.as_str() {
                "unit-length" => Scale::UnitLength,
                "none" => Scale::AsIs,
                _ => Scale::of_moments(width),
            },
            keeps: missing == "keep",
            indicator: section.get_or(MISSING_INDICATOR.name, false, problems),
        }))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let head = reader.u8()?;
        let width = reader.u32()? as usize;
        if width == 0 {
            return Err(reader.error("vectors of no numbers"));
        }
        let scale = match head & !(KEEP | INDICATOR) {
            0 => Scale::AsIs,
            1 => Scale::UnitLength,
            2 => Scale::Standardised(Arc::new(read_moments(reader, width)?)),
            other => return Err(reader.error(format!("{other} is not a scale of `vector`"))),
        };
        Ok(Box::new(Vectors {
            width,
            scale,
            keeps: head & KEEP != 0,
            indicator: head & INDICATOR != 0,
        }))
    }
}

/// Reads what [`Vectors::write`] wrote of means and variances.
fn read_moments(reader: &mut Reader<'_>, width: usize) -> Result<Vec<Running>, CodecError> {
    let count = reader.u64()?;
    if reader.left() / 16 < width {
        return Err(reader.error(format!("fewer than {width} means and variances")));
    }
    (0..width)
        .map(|_| Running::read_moments(reader, false, count))
        .collect()
}

/// How the numbers of a vector are scaled.
#[derive(Clone)]
enum Scale {
    AsIs,
    UnitLength,
    /// Mean and variance of each, learned from the same vectors. Shared by those that do not learn on.
    Standardised(Arc<Vec<Running>>),
}

impl Scale {
    /// By moments of which nothing is known.
    fn of_moments(width: u32) -> Self {
        Self::Standardised(Arc::new(vec![Running::new(false); width as usize]))
    }
}

/// Learns at most mean and variance of each number.
#[derive(Clone)]
pub(super) struct Vectors {
    width: usize,
    scale: Scale,
    keeps: bool,
    indicator: bool,
}

impl Vectors {
    /// One that leaves the numbers of vectors of this width as they are, missing ones missing.
    pub(super) fn keeping(width: u32) -> Self {
        Self {
            width: width as usize,
            scale: Scale::AsIs,
            keeps: true,
            indicator: false,
        }
    }

    /// One that standardises each number of vectors of this width; a missing vector becomes zeros.
    pub(super) fn standardised(width: u32) -> Self {
        Self {
            width: width as usize,
            scale: Scale::of_moments(width),
            keeps: false,
            indicator: false,
        }
    }

    /// The vector of a row; none where it is missing or of another width.
    fn vector<'a>(&self, column: ColumnView<'a>, row: usize) -> Option<&'a [f32]> {
        column.vector(row).filter(|vector| vector.len() == self.width)
    }

    /// Writes what a vector becomes.
    fn write_vector(&self, vector: &[f32], out: &mut [f64]) {
        let places = out.iter_mut().zip(vector);
        match &self.scale {
            Scale::AsIs => places.for_each(|(place, &value)| *place = f64::from(value)),
            Scale::UnitLength => {
                // A square of a single is a normal double: the sum neither overflows nor vanishes.
                let squares: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
                let scale = if squares > 0.0 { 1.0 / squares.sqrt() } else { 0.0 };
                places.for_each(|(place, &value)| *place = f64::from(value) * scale);
            }
            Scale::Standardised(moments) => places
                .zip(moments.iter())
                .for_each(|((place, &value), running)| *place = running.scaled(f64::from(value))),
        }
    }
}

impl Encoder for Vectors {
    fn format(&self) -> &'static str {
        VectorKind.name()
    }

    fn width(&self) -> usize {
        self.width + usize::from(self.indicator)
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, _label: f64) {
        let Some(vector) = self.vector(column, row) else {
            return;
        };
        if let Scale::Standardised(moments) = &mut self.scale {
            let moments = Arc::make_mut(moments).iter_mut();
            moments
                .zip(vector)
                .for_each(|(running, &value)| running.take(f64::from(value)));
        }
    }

    fn keeps_missing(&self) -> bool {
        self.keeps
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        for (row, place) in rows.zip(out.chunks_mut(stride.max(1))) {
            if let Some(vector) = self.vector(column, row) {
                self.write_vector(vector, place);
                continue;
            }
            if self.keeps {
                place.iter_mut().take(self.width).for_each(|input| *input = f64::NAN);
            }
            if let Some(last) = place.get_mut(self.width).filter(|_| self.indicator) {
                *last = 1.0;
            }
        }
    }

    fn stamp(&self) -> u64 {
        match &self.scale {
            Scale::AsIs | Scale::UnitLength => 0,
            Scale::Standardised(moments) => moments.first().map_or(0, Running::count),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let scale = match &self.scale {
            Scale::AsIs => 0,
            Scale::UnitLength => 1,
            Scale::Standardised(_) => 2,
        };
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.put_u8(scale | flag(self.keeps, KEEP) | flag(self.indicator, INDICATOR));
        out.put_u32(self.width as u32);
        if let Scale::Standardised(moments) = &self.scale {
            out.put_u64(self.stamp());
            moments.iter().for_each(|running| running.write_moments(out));
        }
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        let moments = match &self.scale {
            Scale::AsIs | Scale::UnitLength => 0,
            Scale::Standardised(_) => self.width * size_of::<Running>(),
        };
        size_of::<Self>() + moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::world::with_section;
    use crate::frame::Column;

    /// What the last of the vectors becomes after those before it.
    fn encoded(text: &str, values: &[f32]) -> Vec<f64> {
        let spec = ColumnSpec {
            name: "c".to_owned(),
            kind: ColumnKind::Vector { width: 2 },
        };
        let mut encoder = with_section(text, |section, problems| VectorKind.build(&spec, section, 1, problems));
        let column = Column::Vector {
            width: 2,
            values: values.to_vec(),
        };
        let view = ColumnView {
            values: &column,
            dictionary: None,
        };
        let last = column.len() - 1;
        (0..last).for_each(|row| encoder.observe(view, row, 0.0));
        let mut out = vec![0.0; encoder.width()];
        encoder.encode(view, last..last + 1, &mut out, encoder.width());
        out
    }

    #[test]
    fn each_number_has_its_own_scale_or_all_have_the_length() {
        assert_eq!(encoded("", &[1.0, 10.0, 3.0, 30.0, 3.0, 20.0]), [1.0, 0.0]);
        assert_eq!(
            encoded("scale = 'unit-length'", &[9.0, 9.0, 3.0, -4.0]),
            [0.6000000000000001, -0.8]
        );
        assert_eq!(encoded("scale = 'unit-length'", &[0.0, 0.0]), [0.0, 0.0]);
        let tiny = encoded("scale = 'unit-length'", &[f32::from_bits(1), 0.0]);
        assert!((tiny[0] - 1.0).abs() < 1e-12 && tiny[1] == 0.0, "{tiny:?}");
        assert_eq!(encoded("scale = 'none'", &[3.0, -4.0]), [3.0, -4.0]);
    }

    #[test]
    fn a_vector_with_a_hole_is_missing_as_a_whole_and_teaches_nothing() {
        let text = "missing_indicator = true";
        assert_eq!(encoded(text, &[1.0, 1.0, 3.0, 3.0, f32::NAN, 7.0]), [0.0, 0.0, 1.0]);
        let known = encoded(text, &[1.0, 1.0, 3.0, 3.0, 900.0, f32::INFINITY, 3.0, 1.0]);
        assert_eq!(known, [1.0, -1.0, 0.0]);
        let kept = encoded("missing = 'keep'", &[f32::NAN, 7.0]);
        assert!(kept.len() == 2 && kept.iter().all(|input| input.is_nan()), "{kept:?}");
    }
}
