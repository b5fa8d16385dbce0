//! `robust`: a number, less the median of those seen so far, divided by how far their quartiles are apart.
//!
//! Median and quartiles come from a sketch of a few kilobytes (see `quantiles`), the same online and in batches. The
//! distance of the quartiles is taken as a share of the 1.349 that it is in a normal distribution of deviation 1, so that
//! numbers are of the size that `standardise` gives them.

use std::ops::Range;

use driftmill_config::{Component, Field, Problems, Section};

use super::quantiles::Quartiles;
use super::standardise::{DEVIATIONS_MAX, MAGNITUDE_MAX};
use super::{ENCODE, MISSING_INDICATOR, ROLE, each_number, each_number_to_learn, mark_missing};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

/// The entry of the list.
pub(crate) struct RobustKind;

impl Component for RobustKind {
    fn name(&self) -> &'static str {
        "robust"
    }

    fn summary(&self) -> &'static str {
        "Subtracts the running median and divides by the distance of the running quartiles (the interquartile range) over \
         1.349, at most 10 of that: for columns in which a few values are far away from all others. Where the quartiles are \
         equal the deciles, the 5th and 95th, or the 1st and 99th percentiles take their place. Ranks are right to about \
         1 %. Missing and infinite values become the median, 0; so does a column of which 98 % are one value."
    }

    fn fields(&self) -> &'static [Field] {
        &[ENCODE, ROLE, MISSING_INDICATOR]
    }

    fn example(&self) -> &'static str {
        "encode = \"robust\"\nmissing_indicator = true\n"
    }
}

impl EncoderKind for RobustKind {
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
        Some(Box::new(Robust {
            indicator: section.get_or(MISSING_INDICATOR.name, false, problems),
            quartiles: Quartiles::default(),
        }))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        Ok(Box::new(Robust {
            indicator: reader.flag()?,
            quartiles: Quartiles::read(reader)?,
        }))
    }
}

/// Median and quartiles of the numbers seen so far.
#[derive(Clone)]
struct Robust {
    indicator: bool,
    quartiles: Quartiles,
}

impl Robust {
    /// Writes what a number becomes.
    fn write_number(&self, value: f64, out: &mut [f64]) {
        if !value.is_finite() {
            return mark_missing(self.indicator, out);
        }
        let spread = self.quartiles.spread();
        if spread > 0.0 {
            let value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
            out[0] = ((value - self.quartiles.median()) / spread).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX);
        }
    }

    fn take(&mut self, value: f64) {
        if value.is_finite() {
            self.quartiles.take(value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX));
        }
    }
}

impl Encoder for Robust {
    fn format(&self) -> &'static str {
        RobustKind.name()
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
        self.quartiles.count()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.indicator));
        self.quartiles.write(out);
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        size_of::<Self>() + Quartiles::bytes_max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Column;
    use crate::random::{of_row, uniform};

    /// What 101 numbers from 0 to 1, and some more, come to.
    fn fitted(more: &[f64]) -> Robust {
        let mut encoder = Robust {
            indicator: true,
            quartiles: Quartiles::default(),
        };
        (0..=100).for_each(|number| encoder.take(f64::from(number) / 100.0));
        more.iter().for_each(|value| encoder.take(*value));
        encoder
    }

    fn encoded(encoder: &Robust, values: &[f64]) -> Vec<f64> {
        let column = Column::F64(values.to_vec());
        let view = ColumnView {
            values: &column,
            dictionary: None,
        };
        let mut out = vec![0.0; 2 * values.len()];
        encoder.encode(view, 0..values.len(), &mut out, 2);
        out
    }

    #[test]
    fn a_few_absurd_values_move_nothing_and_stay_in_bounds() {
        let (clean, dirty) = (fitted(&[]), fitted(&[1e300, f64::MAX, f64::NAN, f64::INFINITY]));
        let quarter = encoded(&clean, &[0.75])[0];
        assert!((quarter - 1.349 / 2.0).abs() < 0.03, "{quarter}");
        assert!((encoded(&dirty, &[0.75])[0] - quarter).abs() < 0.1);
        let extremes = [f64::NAN, 1e300, -1e300, f64::NEG_INFINITY];
        assert_eq!(encoded(&dirty, &extremes), [0.0, 1.0, 10.0, 0.0, -10.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn normal_numbers_come_to_deviation_1() {
        let mut encoder = fitted(&[]);
        // Sums of twelve uniform numbers have variance 1.
        let normal = |row: u64| {
            (0..12)
                .map(|part| uniform(&mut of_row(47, 12 * row + part)))
                .sum::<f64>()
                * 3.0
                + 40.0
        };
        let values: Vec<f64> = (0..20_000).map(normal).collect();
        values.iter().for_each(|value| encoder.take(*value));
        let z: Vec<f64> = encoded(&encoder, &values).chunks(2).map(|pair| pair[0]).collect();
        let mean = z.iter().sum::<f64>() / z.len() as f64;
        let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / z.len() as f64;
        assert!(
            mean.abs() < 0.1 && (variance.sqrt() - 1.0).abs() < 0.1,
            "mean {mean}, variance {variance}, seed 47"
        );
    }
}
