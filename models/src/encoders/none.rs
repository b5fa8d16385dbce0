//! `none`: a number as it is; what takes the place of a missing one is fixed, or learned.
//!
//! The mean runs along; the median comes from a sketch (see `quantiles`).

use std::ops::Range;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::quantiles::Quartiles;
use super::{ENCODE, MISSING_INDICATOR, ROLE, each_number, each_number_to_learn, mark_missing};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

/// Numbers beyond are taken for it, so that a learner's sums of squares stay finite.
pub(super) const MAGNITUDE_MAX: f64 = 1e30;
/// Set in the first byte of what is written where there is an indicator; below it stands what a missing value becomes.
const INDICATOR: u8 = 8;

/// The entry of the list.
pub(crate) struct NoneKind;

impl Component for NoneKind {
    fn name(&self) -> &'static str {
        "none"
    }

    fn summary(&self) -> &'static str {
        "The number as it is, for inputs that have a scale of their own and for trees. A missing or infinite value becomes \
         0, a constant, or the mean or median of the numbers before it, or stays missing; numbers beyond ±1e30 become that."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "missing",
                kind: Kind::OneOf(&["zero", "keep", "mean", "median", "constant"]),
                need: Need::Optional("`\"zero\"`"),
                doc: "What a missing or infinite value becomes: 0, the running mean, the running median (its rank is right to \
                      about 1 %), or `constant`; or it stays missing: learners that add inputs up refuse that.",
            },
            Field {
                name: "constant",
                kind: Kind::Float,
                need: Need::Optional("there is none"),
                doc: "What a missing value becomes with `missing = \"constant\"`, from -1e30 to 1e30.",
            },
            MISSING_INDICATOR,
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
        let constant = section.get::<f64>("constant", problems);
        let missing = match (missing.as_str(), constant) {
            ("constant", Some(value)) if value.abs() <= MAGNITUDE_MAX => Missing::Constant(value),
            ("constant", _) => {
                let message = "`missing = \"constant\"` needs `constant`, from -1e30 to 1e30".to_owned();
                problems.push(section.key_span("missing"), message, None);
                return None;
            }
            (_, Some(_)) => {
                let message = "`constant` says nothing here".to_owned();
                let help = "write `missing = \"constant\"` too".to_owned();
                problems.push(section.key_span("constant"), message, Some(help));
                return None;
            }
            ("keep", None) => Missing::Keep,
            ("mean", None) => Missing::Mean { count: 0, mean: 0.0 },
            ("median", None) => Missing::Median(Quartiles::default()),
            _ => Missing::Zero,
        };
        Some(Box::new(AsIs {
            missing,
            indicator: section.get_or(MISSING_INDICATOR.name, false, problems),
        }))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let head = reader.u8()?;
        let missing = match head & !INDICATOR {
            0 => Missing::Zero,
            1 => Missing::Keep,
            2 => Missing::Mean {
                count: reader.u64()?,
                mean: reader.finite()?,
            },
            3 => Missing::Median(Quartiles::read(reader)?),
            4 => Missing::Constant(reader.finite()?),
            other => return Err(reader.error(format!("{other} is not a setting of `none`"))),
        };
        Ok(Box::new(AsIs {
            missing,
            indicator: head & INDICATOR != 0,
        }))
    }
}

/// What a missing value becomes.
#[derive(Clone)]
enum Missing {
    Zero,
    Keep,
    Constant(f64),
    Mean { count: u64, mean: f64 },
    Median(Quartiles),
}

/// Learns at most what takes the place of a missing value.
#[derive(Clone)]
pub(super) struct AsIs {
    missing: Missing,
    indicator: bool,
}

impl AsIs {
    /// One with which a missing value stays missing.
    pub(super) fn keeping() -> Self {
        Self {
            missing: Missing::Keep,
            indicator: false,
        }
    }

    /// Writes what a number becomes.
    #[inline]
    fn write_number(&self, value: f64, out: &mut [f64]) {
        if value.is_finite() {
            out[0] = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
            return;
        }
        out[0] = match &self.missing {
            Missing::Zero => 0.0,
            Missing::Keep => f64::NAN,
            Missing::Constant(constant) => *constant,
            Missing::Mean { mean, .. } => *mean,
            Missing::Median(quartiles) => quartiles.median(),
        };
        mark_missing(self.indicator, out);
    }

    #[inline]
    fn take(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        match &mut self.missing {
            Missing::Zero | Missing::Keep | Missing::Constant(_) => {}
            Missing::Mean { count, mean } => {
                *count += 1;
                *mean += (value - *mean) / *count as f64;
            }
            Missing::Median(quartiles) => quartiles.take(value),
        }
    }
}

impl Encoder for AsIs {
    fn format(&self) -> &'static str {
        NoneKind.name()
    }

    fn width(&self) -> usize {
        1 + usize::from(self.indicator)
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, _label: f64) {
        self.take(column.number(row));
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_number(column, rows, out, stride, |value, place| {
            self.write_number(value, place)
        });
    }

    fn encode_then_observe(
        &mut self,
        column: ColumnView<'_>,
        rows: Range<usize>,
        _labels: &[f64],
        learn: &[bool],
        out: &mut [f64],
        stride: usize,
    ) {
        each_number_to_learn(column, rows, learn, out, stride, |value, is_learned, place| {
            self.write_number(value, place);
            if is_learned {
                self.take(value);
            }
        });
    }

    fn stamp(&self) -> u64 {
        match &self.missing {
            Missing::Zero | Missing::Keep | Missing::Constant(_) => 0,
            Missing::Mean { count, .. } => *count,
            Missing::Median(quartiles) => quartiles.count(),
        }
    }

    fn keeps_missing(&self) -> bool {
        matches!(self.missing, Missing::Keep)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let indicator = if self.indicator { INDICATOR } else { 0 };
        match &self.missing {
            Missing::Zero => out.put_u8(indicator),
            Missing::Keep => out.put_u8(1 | indicator),
            Missing::Mean { count, mean } => {
                out.put_u8(2 | indicator);
                out.put_u64(*count);
                out.put_f64(*mean);
            }
            Missing::Median(quartiles) => {
                out.put_u8(3 | indicator);
                quartiles.write(out);
            }
            Missing::Constant(constant) => {
                out.put_u8(4 | indicator);
                out.put_f64(*constant);
            }
        }
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        let sketch = match &self.missing {
            Missing::Median(_) => Quartiles::bytes_max(),
            _ => 0,
        };
        size_of::<Self>() + sketch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::world::try_section;
    use crate::frame::Column;

    fn build(text: &str) -> Result<Box<dyn Encoder>, String> {
        let spec = ColumnSpec {
            name: "c".to_owned(),
            kind: ColumnKind::Number,
        };
        try_section(text, |section, problems| NoneKind.build(&spec, section, 1, problems))
    }

    /// What a value, a missing one and a huge one become after 1, 2 and 9.
    fn encoded(text: &str) -> Vec<f64> {
        let column = Column::F32(vec![1.0, 2.0, f32::NAN, 9.0, 1.5, f32::NEG_INFINITY, f32::MAX]);
        let view = ColumnView {
            values: &column,
            dictionary: None,
        };
        let mut encoder = build(text).unwrap();
        (0..4).for_each(|row| encoder.observe(view, row, 0.0));
        let mut out = vec![0.0; 3 * encoder.width()];
        encoder.encode(view, 4..7, &mut out, encoder.width());
        out
    }

    #[test]
    fn numbers_as_they_are_and_nothing_that_is_not_finite() {
        assert_eq!(encoded(""), [1.5, 0.0, 1e30]);
        let kept = encoded("missing = 'keep'");
        assert!(kept[0] == 1.5 && kept[1].is_nan() && kept[2] == 1e30);
        let marked = encoded("missing = 'keep'\nmissing_indicator = true");
        assert!(marked[2].is_nan());
        assert_eq!([marked[0], marked[1], marked[3], marked[5]], [1.5, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_takes_the_place_of_a_missing_value_is_fixed_or_learned() {
        assert_eq!(encoded("missing = 'constant'\nconstant = -1"), [1.5, -1.0, 1e30]);
        assert_eq!(encoded("missing = 'mean'"), [1.5, 4.0, 1e30]);
        let median = encoded("missing = 'median'\nmissing_indicator = true");
        assert_eq!(median, [1.5, 0.0, 2.0, 1.0, 1e30, 0.0]);
    }

    #[test]
    fn a_constant_is_asked_for_and_refused_where_it_says_nothing() {
        for (text, expected) in [
            ("missing = 'constant'", "needs `constant`"),
            ("missing = 'constant'\nconstant = 1e31", "from -1e30"),
            ("missing = 'mean'\nconstant = 1.0", "`constant` says nothing"),
        ] {
            let problems = build(text).err().unwrap();
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }

    #[test]
    fn what_older_versions_wrote_is_read() {
        for (byte, keeps) in [(0, false), (1, true)] {
            let encoder = NoneKind.read(&mut Reader::new(&[byte])).unwrap();
            assert_eq!((encoder.keeps_missing(), encoder.width()), (keeps, 1));
        }
    }
}
