//! `support-vectors`: weighted sums of how near a row is to rows that were learned from (radial basis functions).

use std::sync::Arc;

use super::linear::{dot, logistic};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "support-vectors";
/// Classes at most.
const CLASSES_MAX: usize = 65_536;

/// What the sums say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The value.
    Value,
    /// The probability of class 1.
    Binary,
    /// That of each class, every one against all others; they are divided by their sum.
    Classes,
}

/// One sum: `slope * (intercept + coefficients * nearness) + offset`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    /// One for each vector.
    pub(crate) coefficients: Vec<f64>,
    pub(crate) intercept: f64,
    pub(crate) slope: f64,
    pub(crate) offset: f64,
}

/// Vectors and the sums over them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SupportVectors {
    answer: Answer,
    width: usize,
    /// Nearness is `exp(-gamma * squared distance)`.
    gamma: f64,
    /// `width` numbers each.
    vectors: Vec<f64>,
    /// One for each output.
    machines: Vec<Machine>,
}

/// How near two rows are to each other, from 0 to 1.
#[inline]
pub(crate) fn nearness(gamma: f64, a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    // No distance is large enough to make 0 * infinity of it.
    (-gamma * squares.sum::<f64>().min(f64::MAX)).exp()
}

impl SupportVectors {
    /// Sums over `vectors`, each of `width` numbers.
    ///
    /// # Errors
    /// Parts that do not fit.
    pub(crate) fn new(
        answer: Answer,
        width: usize,
        gamma: f64,
        vectors: Vec<f64>,
        machines: Vec<Machine>,
    ) -> Result<Self, String> {
        let outputs = machines.len();
        let fits = match answer {
            Answer::Value | Answer::Binary => outputs == 1,
            Answer::Classes => (2..=CLASSES_MAX).contains(&outputs),
        };
        let count = machines.first().map_or(0, |machine| machine.coefficients.len());
        let is_even = machines.iter().all(|machine| machine.coefficients.len() == count);
        if !fits || !is_even || width > WIDTH_MAX || vectors.len() != count * width {
            return Err(format!(
                "{count} vectors of {width} inputs do not fit {outputs} sums over {} numbers",
                vectors.len()
            ));
        }
        let numbers = machines.iter().flat_map(|machine| {
            let others = [machine.intercept, machine.slope, machine.offset];
            machine.coefficients.iter().copied().chain(others)
        });
        if !(0.0..f64::INFINITY).contains(&gamma) || numbers.chain(vectors.iter().copied()).any(|x| !x.is_finite()) {
            return Err("a number is not finite, or a distance counts less than nothing".to_owned());
        }
        Ok(Self {
            answer,
            width,
            gamma,
            vectors,
            machines,
        })
    }

    fn count(&self) -> usize {
        self.machines.first().map_or(0, |machine| machine.coefficients.len())
    }

    /// What each sum is for a row, before its slope and offset.
    fn sums(&self, x: &[f64], nearnesses: &mut [f64], out: &mut Vec<f64>) {
        for (index, near) in nearnesses.iter_mut().enumerate() {
            let vector = self.vectors.get(index * self.width..(index + 1) * self.width);
            *near = nearness(self.gamma, x, vector.unwrap_or_default());
        }
        let machines = self.machines.iter();
        out.extend(machines.map(|machine| dot(&machine.coefficients, nearnesses) + machine.intercept));
    }
}

impl Scorer for SupportVectors {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        self.machines.len()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        let mut nearnesses = vec![0.0; self.count()];
        for row in x.iter() {
            let start = out.len();
            self.sums(row, &mut nearnesses, out);
            let scores = &mut out[start..];
            for (score, machine) in scores.iter_mut().zip(&self.machines) {
                let sum = machine.slope * *score + machine.offset;
                *score = if self.answer == Answer::Value {
                    sum
                } else {
                    logistic(sum)
                };
            }
            if self.answer == Answer::Classes {
                let (total, even) = (scores.iter().sum::<f64>(), 1.0 / scores.len() as f64);
                let scale = |score: &mut f64| *score = if total > 0.0 { *score / total } else { even };
                scores.iter_mut().for_each(scale);
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.answer {
            Answer::Value => 0,
            Answer::Binary => 1,
            Answer::Classes => 2,
        });
        out.put_u64(self.width as u64);
        out.put_f64(self.gamma);
        out.put_f64s(&self.vectors);
        out.put_u64(self.machines.len() as u64);
        for machine in &self.machines {
            out.put_f64s(&machine.coefficients);
            [machine.intercept, machine.slope, machine.offset]
                .iter()
                .for_each(|x| out.put_f64(*x));
        }
    }

    fn bytes(&self) -> usize {
        let machine = size_of::<Machine>() + self.count() * size_of::<f64>();
        size_of::<Self>() + self.vectors.len() * size_of::<f64>() + self.machines.len() * machine
    }
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let answer = match reader.u8()? {
        0 => Answer::Value,
        1 => Answer::Binary,
        2 => Answer::Classes,
        other => return Err(reader.error(format!("{other} is no answer"))),
    };
    let width = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
    let (gamma, vectors) = (reader.finite()?, reader.f64s()?);
    let count = reader.count(32)?;
    let mut machines = Vec::with_capacity(count);
    for _ in 0..count {
        machines.push(Machine {
            coefficients: reader.f64s()?,
            intercept: reader.finite()?,
            slope: reader.finite()?,
            offset: reader.finite()?,
        });
    }
    // Before it is multiplied.
    if width > WIDTH_MAX {
        return Err(reader.error(format!("{width} inputs are too many")));
    }
    match SupportVectors::new(answer, width, gamma, vectors, machines) {
        Ok(machine) => Ok(Arc::new(machine)),
        Err(what) => Err(reader.error(what)),
    }
}

/// Three classes by four vectors of two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    let machine = |coefficients: [f64; 4], intercept| Machine {
        coefficients: coefficients.into(),
        intercept,
        slope: 2.0,
        offset: -0.5,
    };
    Arc::new(SupportVectors {
        answer: Answer::Classes,
        width: 2,
        gamma: 0.5,
        vectors: vec![0.0, 0.5, 1.0, -1.0, -1.5, 0.25, 1.0, 1.0],
        machines: vec![
            machine([1.0, -0.5, -0.5, 0.0], 0.1),
            machine([-1.0, 1.0, 0.0, 0.25], -0.1),
            machine([0.0, -0.5, 0.5, -0.25], 0.0),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_nearness_and_what_they_say() {
        let machine = Machine {
            coefficients: vec![2.0, -1.0],
            intercept: 0.5,
            slope: 3.0,
            offset: 1.0,
        };
        let mut x = Matrix::new();
        x.reset(2, 1);
        x.values_mut()[1] = 1e200;
        let scores = |answer| {
            let vectors = SupportVectors::new(answer, 1, 0.25, vec![0.0, 2.0], vec![machine.clone()]).unwrap();
            let mut out = Vec::new();
            vectors.score(&x, &mut out);
            out
        };
        let sum = 3.0 * (2.0 - (-1.0_f64).exp() + 0.5) + 1.0;
        assert!((scores(Answer::Value)[0] - sum).abs() < 1e-12);
        assert_eq!(scores(Answer::Value)[1], 2.5, "far from all of them");
        assert!((scores(Answer::Binary)[0] - logistic(sum)).abs() < 1e-15);
        assert!(SupportVectors::new(Answer::Classes, 1, 0.25, vec![0.0, 2.0], vec![machine.clone()]).is_err());
        assert!(SupportVectors::new(Answer::Binary, 2, 0.25, vec![0.0, 2.0], vec![machine.clone()]).is_err());
        assert!(SupportVectors::new(Answer::Binary, 1, f64::NAN, vec![0.0, 2.0], vec![machine]).is_err());
    }
}
