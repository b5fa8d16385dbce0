//! Metrics of predicted values.

use super::cohorts::Tally;
use crate::codec::{CodecError, Put, Reader};

/// Sums over labelled, predicted rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegressionTally {
    rows: u64,
    invalid: u64,
    weight: f64,
    absolute: f64,
    squared: f64,
}

/// The metrics of a tally; NaN without rows.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RegressionReport {
    /// Rows.
    pub rows: u64,
    /// Rows left out because prediction, label or weight was not usable.
    pub invalid: u64,
    /// Mean absolute error, in the label's unit.
    pub mae: f64,
    /// Root of the mean squared error, in the label's unit.
    pub rmse: f64,
}

impl Tally for RegressionTally {
    type Report = RegressionReport;

    fn empty(&self) -> Self {
        Self::default()
    }

    fn update(&mut self, score: f64, label: f64, weight: f64) {
        let error = (score - label).abs();
        if !(error * error * weight).is_finite() || weight <= 0.0 {
            self.invalid += 1;
            return;
        }
        self.rows += 1;
        self.weight += weight;
        self.absolute += weight * error;
        self.squared += weight * error * error;
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.invalid += other.invalid;
        self.weight += other.weight;
        self.absolute += other.absolute;
        self.squared += other.squared;
    }

    fn stamp(&self) -> u64 {
        self.rows + self.invalid
    }

    fn report(&self) -> RegressionReport {
        RegressionReport {
            rows: self.rows,
            invalid: self.invalid,
            mae: self.absolute / self.weight,
            rmse: (self.squared / self.weight).sqrt(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.rows);
        out.put_u64(self.invalid);
        out.put_f64(self.weight);
        out.put_f64(self.absolute);
        out.put_f64(self.squared);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            rows: reader.u64()?,
            invalid: reader.u64()?,
            weight: reader.f64()?,
            absolute: reader.f64()?,
            squared: reader.f64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_equal_their_definitions() {
        let mut tally = RegressionTally::default();
        tally.update(1.0, 3.0, 1.0);
        tally.update(5.0, 1.0, 3.0);
        tally.update(f64::NAN, 1.0, 1.0);
        tally.update(1e300, -1e300, 1.0);
        let report = tally.report();
        assert_eq!((report.rows, report.invalid), (2, 2));
        assert!((report.mae - 3.5).abs() < 1e-12 && (report.rmse - 13.0_f64.sqrt()).abs() < 1e-12);
    }
}
