//! `calibration`: from a model's probabilities to better ones, what a model with a calibration ends with.
//!
//! Each output has a curve of its own, which never falls; of several classes the results are divided by their sum
//! (Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002).

use std::sync::Arc;

use super::linear::logistic;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "calibration";

/// Probabilities are taken for at least this and at most 1 less this, so that their log-odds are finite.
const CLIP: f64 = 1e-15;
/// How far slopes and offsets may lie from 0.
const BOUND: f64 = 1e6;

/// The log-odds of a probability, finite whatever it is.
#[inline]
#[must_use]
pub fn log_odds(p: f64) -> f64 {
    // NaN would pass through a clamp.
    let p = if p > CLIP { p.min(1.0 - CLIP) } else { CLIP };
    (p / (1.0 - p)).ln()
}

/// From one probability to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Curve {
    /// `logistic(slope * log_odds(p) + offset)`.
    Logistic {
        /// Above 0.
        slope: f64,
        /// Any.
        offset: f64,
    },
    /// Straight lines between points, and level beyond the first and the last.
    Points {
        /// Probabilities that come in, strictly increasing.
        from: Vec<f64>,
        /// Those that go out, never falling, above 0 and below 1.
        to: Vec<f64>,
    },
}

impl Curve {
    /// What becomes of a probability.
    #[must_use]
    pub fn at(&self, p: f64) -> f64 {
        match self {
            Self::Logistic { slope, offset } => logistic(slope * log_odds(p) + offset),
            Self::Points { from, to } => {
                let next = from.partition_point(|from| *from <= p);
                let point = |place: usize| Some((*from.get(place)?, *to.get(place)?));
                match (next.checked_sub(1).and_then(point), point(next)) {
                    (Some((x0, y0)), Some((x1, y1))) => (y0 + (y1 - y0) * ((p - x0) / (x1 - x0))).clamp(y0, y1),
                    (Some((_, y)), None) | (None, Some((_, y))) => y,
                    (None, None) => p,
                }
            }
        }
    }

    /// Whether it is one that [`Calibration`] takes.
    fn is_sound(&self) -> bool {
        match self {
            Self::Logistic { slope, offset } => *slope > 0.0 && *slope <= BOUND && offset.abs() <= BOUND,
            Self::Points { from, to } => {
                from.len() == to.len()
                    && !from.is_empty()
                    && from.windows(2).all(|pair| pair[0] < pair[1])
                    && to.windows(2).all(|pair| pair[0] <= pair[1])
                    && from.iter().all(|from| (0.0..=1.0).contains(from))
                    && to.iter().all(|to| *to > 0.0 && *to < 1.0)
            }
        }
    }
}

/// A curve for each output.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    curves: Vec<Curve>,
}

impl Calibration {
    /// One curve for the probability of class 1, or one for the probability of each of several classes.
    ///
    /// # Errors
    /// No curve; one that falls, or that is not made of probabilities.
    pub fn new(curves: Vec<Curve>) -> Result<Self, String> {
        if curves.is_empty() || !curves.iter().all(Curve::is_sound) {
            return Err("a calibration is made of curves that never fall".to_owned());
        }
        Ok(Self { curves })
    }
}

impl Scorer for Calibration {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.curves.len()
    }

    fn outputs(&self) -> usize {
        self.curves.len()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        for row in x.iter() {
            let start = out.len();
            out.extend(self.curves.iter().zip(row).map(|(curve, p)| curve.at(*p)));
            if let [_, _, ..] = &out[start..] {
                let sum: f64 = out[start..].iter().sum();
                let classes = self.curves.len() as f64;
                out[start..]
                    .iter_mut()
                    .for_each(|p| *p = if sum > 0.0 { *p / sum } else { 1.0 / classes });
            }
        }
    }

    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        // Only one logistic curve is a sum before its link.
        let [Curve::Logistic { slope, offset }] = self.curves.as_slice() else {
            return false;
        };
        for row in x.iter() {
            out.push(slope * log_odds(row.first().copied().unwrap_or(0.5)));
            out.push(*offset);
        }
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.curves.len() as u64);
        for curve in &self.curves {
            match curve {
                Curve::Logistic { slope, offset } => {
                    out.put_u8(0);
                    out.put_f64(*slope);
                    out.put_f64(*offset);
                }
                Curve::Points { from, to } => {
                    out.put_u8(1);
                    out.put_f64s(from);
                    out.put_f64s(to);
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        let points = |curve: &Curve| match curve {
            Curve::Logistic { .. } => 0,
            Curve::Points { from, .. } => 16 * from.len(),
        };
        let curves = self.curves.iter().map(|curve| size_of::<Curve>() + points(curve));
        size_of::<Self>() + curves.sum::<usize>()
    }
}

/// Two classes, one by each kind of curve.
pub(super) fn example() -> Arc<dyn Scorer> {
    Arc::new(Calibration {
        curves: vec![
            Curve::Logistic {
                slope: 0.5,
                offset: -0.25,
            },
            Curve::Points {
                from: vec![0.125, 0.5, 0.75],
                to: vec![0.25, 0.25, 0.875],
            },
        ],
    })
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let count = reader.count(17)?;
    let mut curves = Vec::with_capacity(count);
    for _ in 0..count {
        curves.push(match reader.u8()? {
            0 => Curve::Logistic {
                slope: reader.finite()?,
                offset: reader.finite()?,
            },
            1 => Curve::Points {
                from: reader.f64s()?,
                to: reader.f64s()?,
            },
            other => return Err(reader.error(format!("{other} is no kind of curve"))),
        });
    }
    match Calibration::new(curves) {
        Ok(calibration) => Ok(Arc::new(calibration)),
        Err(what) => Err(reader.error(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_joined_by_straight_lines() {
        let curve = Curve::Points {
            from: vec![0.2, 0.4, 0.8],
            to: vec![0.1, 0.5, 0.5],
        };
        for (p, expected) in [(0.0, 0.1), (0.2, 0.1), (0.3, 0.3), (0.6, 0.5), (0.8, 0.5), (1.0, 0.5)] {
            assert!((curve.at(p) - expected).abs() < 1e-12, "{p}: {}", curve.at(p));
        }
    }

    #[test]
    fn curves_that_fall_or_leave_the_probabilities_are_refused() {
        let logistic = |slope, offset| Curve::Logistic { slope, offset };
        let points = |from: &[f64], to: &[f64]| Curve::Points {
            from: from.into(),
            to: to.into(),
        };
        assert!(Calibration::new(vec![]).is_err());
        for curve in [
            logistic(0.0, 0.0),
            logistic(-1.0, 0.0),
            logistic(f64::NAN, 0.0),
            logistic(1.0, f64::INFINITY),
            points(&[], &[]),
            points(&[0.5, 0.5], &[0.1, 0.2]),
            points(&[0.2, 0.5], &[0.2, 0.1]),
            points(&[0.2, 1.5], &[0.1, 0.2]),
            points(&[0.2, 0.5], &[0.0, 0.2]),
            points(&[0.2, 0.5], &[0.1]),
        ] {
            assert!(Calibration::new(vec![curve.clone()]).is_err(), "{curve:?}");
        }
    }

    #[test]
    fn certain_probabilities_have_finite_log_odds() {
        for p in [0.0, 1.0, -3.0, f64::NAN, f64::INFINITY] {
            assert!(log_odds(p).is_finite(), "{p}");
        }
        assert!((log_odds(0.75) - 3.0_f64.ln()).abs() < 1e-15);
    }
}
