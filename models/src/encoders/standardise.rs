//! `standardise`: a number, less the mean of those seen so far, divided by their standard deviation.
//!
//! Mean and variance run along (Welford, "Note on a method for calculating corrected sums of squares and products",
//! Technometrics 1962), so that the same encoder serves learning online and in batches.

use std::ops::Range;

use driftmill_config::{Component, Field, Problems, Section};

use super::{ENCODE, MISSING_INDICATOR, ROLE, each_number, each_number_to_learn, mark_missing};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

/// What is farther from the mean counts as this many standard deviations away: one absurd value must not decide.
pub(super) const DEVIATIONS_MAX: f64 = 10.0;
/// A value that is nearer is inside the bounds, however they are rounded.
const DEVIATIONS_NEAR: f64 = 9.99;
/// After so many numbers, one that is too far from the mean is learned from as if it were [`DEVIATIONS_MAX`] away: a
/// single absurd value must not stretch the scale for ever, and a world that really changed still moves it quickly.
const SETTLED: u64 = 30;
/// Numbers beyond are taken for it: their squares and sums stay finite.
pub(super) const MAGNITUDE_MAX: f64 = 1e100;

/// The entry of the list.
pub(crate) struct Standardise;

impl Component for Standardise {
    fn name(&self) -> &'static str {
        "standardise"
    }

    fn summary(&self) -> &'static str {
        "Subtracts the running mean and divides by the running standard deviation, at most 10 of them. Missing and \
         infinite values become the mean, 0; so does a column that never changed. After the first 30 rows a value \
         farther away than 10 deviations moves mean and deviation as one at 10 would."
    }

    fn fields(&self) -> &'static [Field] {
        &[ENCODE, ROLE, MISSING_INDICATOR]
    }

    fn example(&self) -> &'static str {
        "encode = \"standardise\"\nmissing_indicator = true\n"
    }
}

impl EncoderKind for Standardise {
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
        Some(Box::new(Running::new(section.get_or(
            MISSING_INDICATOR.name,
            false,
            problems,
        ))))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let indicator = reader.flag()?;
        let count = reader.u64()?;
        Ok(Box::new(Running::read_moments(reader, indicator, count)?))
    }
}

/// Mean and variance of the numbers seen so far.
#[derive(Clone)]
pub(crate) struct Running {
    indicator: bool,
    count: u64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
    /// One over the standard deviation, or 0 when there is none.
    scale: f64,
}

impl Running {
    /// Has seen nothing.
    pub(crate) fn new(indicator: bool) -> Self {
        Self {
            indicator,
            count: 0,
            mean: 0.0,
            squares: 0.0,
            scale: 0.0,
        }
    }

    /// Numbers seen.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Reads mean and squared deviations of `count` numbers, as [`Running::write_moments`] wrote them.
    pub(super) fn read_moments(reader: &mut Reader<'_>, indicator: bool, count: u64) -> Result<Self, CodecError> {
        let (mean, squares) = (reader.finite()?, reader.finite()?);
        if squares < 0.0 {
            return Err(reader.error("a sum of squares is negative"));
        }
        let mut running = Self {
            indicator,
            count,
            mean,
            squares,
            scale: 0.0,
        };
        running.rescale();
        Ok(running)
    }

    /// Appends mean and squared deviations.
    pub(super) fn write_moments(&self, out: &mut Vec<u8>) {
        out.put_f64(self.mean);
        out.put_f64(self.squares);
    }

    /// The number that a finite value becomes.
    #[inline]
    pub(super) fn scaled(&self, value: f64) -> f64 {
        let value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        ((value - self.mean) * self.scale).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
    }

    /// Learns from a finite value.
    #[inline]
    pub(super) fn take(&mut self, value: f64) {
        let mut value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        // What is clearly near needs no bounds, which would have to wait for the root of the variance: a branch that is
        // foreseen does not.
        let is_near = (value - self.mean).abs() * self.scale < DEVIATIONS_NEAR;
        if !is_near && self.count >= SETTLED && self.scale > 0.0 {
            let far = DEVIATIONS_MAX / self.scale;
            value = value.clamp(self.mean - far, self.mean + far);
        }
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        self.rescale();
    }

    /// Brings `scale` up to date.
    #[inline]
    fn rescale(&mut self) {
        let variance = self.squares / self.count.max(1) as f64;
        let scale = 1.0 / variance.sqrt();
        self.scale = if variance > 0.0 && scale.is_finite() {
            scale
        } else {
            0.0
        };
    }
}

impl Encoder for Running {
    fn format(&self) -> &'static str {
        Standardise.name()
    }

    fn width(&self) -> usize {
        1 + usize::from(self.indicator)
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, _label: f64) {
        let value = column.number(row);
        if value.is_finite() {
            self.take(value);
        }
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_number(column, rows, out, stride, |value, place| {
            if value.is_finite() {
                place[0] = self.scaled(value);
            } else {
                mark_missing(self.indicator, place);
            }
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
        // A copy of its own, so that it stays in registers.
        let mut running = self.clone();
        each_number_to_learn(column, rows, learn, out, stride, |value, is_learned, place| {
            if value.is_finite() {
                place[0] = running.scaled(value);
                if is_learned {
                    running.take(value);
                }
            } else {
                mark_missing(running.indicator, place);
            }
        });
        *self = running;
    }

    fn stamp(&self) -> u64 {
        self.count
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.indicator));
        out.put_u64(self.count);
        self.write_moments(out);
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

    fn encoded(encoder: &Running, values: Vec<f64>) -> Vec<f64> {
        let rows = values.len();
        let mut out = vec![0.0; rows * encoder.width()];
        let column = Column::F64(values);
        encoder.encode(
            ColumnView {
                values: &column,
                dictionary: None,
            },
            0..rows,
            &mut out,
            encoder.width(),
        );
        out
    }

    fn fitted(values: Vec<f64>, indicator: bool) -> Running {
        let mut encoder = Running::new(indicator);
        let column = Column::F64(values);
        for row in 0..column.len() {
            encoder.observe(
                ColumnView {
                    values: &column,
                    dictionary: None,
                },
                row,
                0.0,
            );
        }
        encoder
    }

    #[test]
    fn mean_0_and_variance_1() {
        let encoder = fitted(vec![1.0, 2.0, 3.0, 4.0], false);
        let z = encoded(&encoder, vec![1.0, 2.5, 4.0]);
        let expected = 1.5 / 1.25_f64.sqrt();
        assert!(
            (z[0] + expected).abs() < 1e-15 && z[1] == 0.0 && (z[2] - expected).abs() < 1e-15,
            "{z:?}"
        );
    }

    #[test]
    fn missing_infinite_and_absurd_values_stay_in_bounds() {
        let encoder = fitted(vec![1.0, f64::NAN, 3.0, f64::INFINITY], true);
        assert_eq!(encoder.count, 2);
        let z = encoded(&encoder, vec![f64::NAN, f64::NEG_INFINITY, 1e300, 2.0]);
        assert_eq!(z, [0.0, 1.0, 0.0, 1.0, DEVIATIONS_MAX, 0.0, 0.0, 0.0]);
        let huge = fitted(vec![1e300, -1e300, f64::MAX], false);
        assert!(encoded(&huge, vec![1e300, -1e300, 0.0]).iter().all(|z| z.is_finite()));
    }

    #[test]
    fn one_absurd_value_does_not_stretch_the_scale_and_a_changed_world_does() {
        let mut values: Vec<f64> = (0..1_000).map(|i| f64::from(i % 10)).collect();
        values[500] = 1e300;
        assert!(fitted(values.clone(), false).scale > 0.3);
        values[500..].fill(1e6);
        let changed = fitted(values, false);
        assert!(changed.mean > 1e5, "{}", changed.mean);
    }

    /// What [`Running::take`] does, without its shortcut.
    fn take_with_bounds(running: &mut Running, value: f64) {
        let mut value = value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        if running.count >= SETTLED && running.scale > 0.0 {
            let far = DEVIATIONS_MAX / running.scale;
            value = value.clamp(running.mean - far, running.mean + far);
        }
        running.count += 1;
        let before = value - running.mean;
        running.mean += before / running.count as f64;
        running.squares += before * (value - running.mean);
        running.rescale();
    }

    #[test]
    fn the_shortcut_for_values_that_are_near_changes_no_bit() {
        // Around 0, far from 0 in relation to the spread, and so far that a spread can hardly be told.
        for offset in [0.0, 1e6, 1e16] {
            let (mut quick, mut bounded) = (Running::new(false), Running::new(false));
            for row in 0..20_000 {
                let mut random = crate::random::of_row(17, row);
                let draw = crate::random::uniform(&mut random) - 0.5;
                let value = offset + draw * if row % 100 == 0 { 40.0 } else { 3.0 };
                quick.take(value);
                take_with_bounds(&mut bounded, value);
                let bits = |running: &Running| [running.mean, running.squares, running.scale].map(f64::to_bits);
                assert_eq!(bits(&quick), bits(&bounded), "row {row} around {offset}, seed 17");
            }
        }
    }

    #[test]
    fn a_constant_column_is_0() {
        assert_eq!(encoded(&fitted(vec![0.1; 1000], false), vec![0.1, 5.0]), [0.0, 0.0]);
        assert_eq!(encoded(&Running::new(false), vec![3.0]), [0.0]);
    }
}
