//! `naive-bayes`: classes by Bayes' rule over inputs that are taken for independent: normal densities of numbers, tables of
//! categories. Missing values say nothing.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "naive-bayes";
/// The most that one number may speak against a class, in nats (some 140 standard deviations): sums stay finite, and what
/// the other inputs say is not lost in rounding.
const AGAINST_MAX: f64 = 1e4;
/// Classes at most.
const CLASSES_MAX: usize = 65_536;

/// What is known of each class. The numbers of an input of a class stand at `class * width + input`.
#[derive(Debug, Clone, PartialEq)]
pub struct NaiveBayes {
    /// Whether the only score is the probability of class 1 of two.
    pub(crate) binary: bool,
    pub(crate) width: usize,
    /// Weight of the rows of each class; one that was never seen has none.
    pub(crate) class_weights: Vec<f64>,
    /// Their logarithms.
    pub(crate) log_weights: Vec<f64>,
    pub(crate) means: Vec<f64>,
    /// Half of one over the variance; 0 for an input that says nothing.
    pub(crate) precisions: Vec<f64>,
    /// Logarithm of the density at the mean, up to what is the same for all classes.
    pub(crate) log_scales: Vec<f64>,
    /// Of the inputs that are categories, whose precisions and scales are 0.
    pub(crate) tables: Vec<Table>,
}

/// The shares of an input's categories.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    /// Which input it is.
    pub(crate) place: usize,
    /// Shared with published models until it changes.
    pub(crate) logs: Arc<Logs>,
}

/// A category's share of a class is one number less another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logs {
    /// Logarithms of smoothed weights, at `code * classes + class`.
    pub(crate) counts: Vec<f64>,
    /// Logarithms of the smoothed weights of all codes of each class.
    pub(crate) totals: Vec<f64>,
}

impl Logs {
    /// What each class says of a code; one that is too large counts as the last.
    #[inline]
    fn of_code(&self, code: f64) -> impl Iterator<Item = f64> {
        let classes = self.totals.len();
        let last = (self.counts.len() / classes.max(1)).saturating_sub(1);
        let start = (code as usize).min(last) * classes;
        let counts = self.counts.get(start..start + classes).unwrap_or_default();
        counts.iter().zip(&self.totals).map(|(count, total)| count - total)
    }
}

impl NaiveBayes {
    /// Nothing is known of any class.
    pub(crate) fn new(classes: usize, binary: bool, width: usize, tables: Vec<Table>) -> Self {
        Self {
            binary,
            width,
            class_weights: vec![0.0; classes],
            log_weights: vec![f64::NEG_INFINITY; classes],
            means: vec![0.0; classes * width],
            precisions: vec![0.0; classes * width],
            log_scales: vec![0.0; classes * width],
            tables,
        }
    }

    fn classes(&self) -> usize {
        self.class_weights.len()
    }

    /// What each input says for a class, in nats; categories are not among them.
    #[inline]
    fn terms(&self, class: usize, x: &[f64]) -> impl Iterator<Item = f64> {
        let of_class = class * self.width..(class + 1) * self.width;
        let means = self.means.get(of_class.clone()).unwrap_or_default();
        let precisions = self.precisions.get(of_class.clone()).unwrap_or_default();
        let log_scales = self.log_scales.get(of_class).unwrap_or_default();
        let known = means.iter().zip(precisions).zip(log_scales);
        known.zip(x).map(|(((mean, precision), log_scale), x)| {
            let away = x - mean;
            let against = (away * away * precision).min(AGAINST_MAX);
            if x.is_nan() { 0.0 } else { log_scale - against }
        })
    }

    /// The probabilities of the classes. One that was never seen gets the share of a single row, as before the first
    /// row every class does; what is left is divided by Bayes' rule.
    #[inline]
    fn probabilities(&self, x: &[f64], out: &mut [f64]) {
        for (class, (sum, log_weight)) in out.iter_mut().zip(&self.log_weights).enumerate() {
            *sum = self.terms(class, x).fold(*log_weight, |sum, term| sum + term);
        }
        for table in &self.tables {
            let code = x.get(table.place).copied().unwrap_or(f64::NAN);
            if !code.is_nan() {
                out.iter_mut()
                    .zip(table.logs.of_code(code))
                    .for_each(|(sum, term)| *sum += term);
            }
        }
        let max = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut rows, mut unseen) = (0.0, self.classes() as f64, 0.0);
        for (sum, weight) in out.iter_mut().zip(&self.class_weights) {
            if *weight > 0.0 {
                *sum = (*sum - max).exp();
                total += *sum;
                rows += weight;
            } else {
                unseen += 1.0;
            }
        }
        if unseen == 0.0 {
            out.iter_mut().for_each(|sum| *sum /= total);
            return;
        }
        let share = 1.0 / rows;
        let left = (1.0 - unseen * share).max(0.0);
        for (sum, weight) in out.iter_mut().zip(&self.class_weights) {
            *sum = if *weight > 0.0 { left * (*sum / total) } else { share };
        }
    }

    /// Appends the scores of a row.
    #[inline]
    pub(crate) fn score_row(&self, x: &[f64], out: &mut Vec<f64>) {
        let start = out.len();
        out.resize(start + self.classes(), 0.0);
        self.probabilities(x, &mut out[start..]);
        if self.binary {
            out.swap_remove(start);
        }
    }
}

impl Scorer for NaiveBayes {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        if self.binary { 1 } else { self.classes() }
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        x.iter().for_each(|row| self.score_row(row, out));
    }

    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        // With a class that was never seen, probabilities are no product over the inputs.
        if self.class_weights.iter().any(|weight| *weight <= 0.0) {
            return false;
        }
        for row in x.iter() {
            let of_class = |class: usize| {
                let mut terms: Vec<f64> = self.terms(class, row).collect();
                for table in &self.tables {
                    let code = row.get(table.place).copied().unwrap_or(f64::NAN);
                    let term = table.logs.of_code(code).nth(class);
                    if let (false, Some(place), Some(term)) = (code.is_nan(), terms.get_mut(table.place), term) {
                        *place += term;
                    }
                }
                terms.extend(self.log_weights.get(class));
                terms
            };
            if self.binary {
                let pairs = of_class(1).into_iter().zip(of_class(0));
                out.extend(pairs.map(|(one, zero)| one - zero));
            } else {
                (0..self.classes()).for_each(|class| out.extend(of_class(class)));
            }
        }
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.binary));
        out.put_u64(self.width as u64);
        out.put_f64s(&self.class_weights);
        for numbers in [&self.means, &self.precisions, &self.log_scales] {
            out.put_f64s(numbers);
        }
        out.put_u64(self.tables.len() as u64);
        for table in &self.tables {
            out.put_u64(table.place as u64);
            out.put_f64s(&table.logs.counts);
            out.put_f64s(&table.logs.totals);
        }
    }

    fn bytes(&self) -> usize {
        let tables = self.tables.iter();
        let numbers = self.classes() * (2 + 3 * self.width)
            + tables
                .map(|table| table.logs.counts.len() + table.logs.totals.len())
                .sum::<usize>();
        size_of::<Self>() + numbers * size_of::<f64>() + size_of_val(&*self.tables)
    }
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let (binary, width) = (reader.u8()?, reader.u64()? as usize);
    let class_weights = reader.f64s()?;
    let classes = class_weights.len();
    if binary > 1 || width > WIDTH_MAX || !(2..=CLASSES_MAX).contains(&classes) || (binary == 1 && classes != 2) {
        return Err(reader.error("these are no classes and inputs"));
    }
    let (means, precisions, log_scales) = (reader.f64s()?, reader.f64s()?, reader.f64s()?);
    let fits = |numbers: &[f64]| numbers.len() == classes * width;
    let is_below_0 = |number: &f64| *number < 0.0;
    if !(fits(&means) && fits(&precisions) && fits(&log_scales))
        || class_weights.iter().chain(&precisions).any(is_below_0)
    {
        return Err(reader.error(format!(
            "these are not the numbers of {classes} classes over {width} inputs"
        )));
    }
    let count = reader.count(24)?;
    let mut tables = Vec::with_capacity(count);
    for _ in 0..count {
        let (place, counts, totals) = (reader.u64()? as usize, reader.f64s()?, reader.f64s()?);
        if place >= width || totals.len() != classes || counts.is_empty() || !counts.len().is_multiple_of(classes) {
            return Err(reader.error("this is no table of categories"));
        }
        let logs = Arc::new(Logs { counts, totals });
        tables.push(Table { place, logs });
    }
    Ok(Arc::new(NaiveBayes {
        binary: binary == 1,
        width,
        log_weights: class_weights.iter().map(|weight| weight.ln()).collect(),
        class_weights,
        means,
        precisions,
        log_scales,
        tables,
    }))
}

/// Three classes over two numbers and a category of two codes.
pub(super) fn example() -> Arc<dyn Scorer> {
    let counts = [3.0_f64, 1.0, 2.0, 1.0, 4.0, 2.0].map(f64::ln).to_vec();
    let totals = [4.0_f64, 5.0, 4.0].map(f64::ln).to_vec();
    let logs = Arc::new(Logs { counts, totals });
    let class_weights = vec![4.0, 5.0, 4.0];
    Arc::new(NaiveBayes {
        log_weights: class_weights.iter().map(|weight: &f64| weight.ln()).collect(),
        class_weights,
        means: vec![0.5, 1.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.25, 0.0],
        precisions: vec![0.5, 0.5, 0.0, 0.25, 1.0, 0.0, 0.5, 2.0, 0.0],
        log_scales: vec![0.0, 0.0, 0.0, -0.25, 0.25, 0.0, 0.0, 0.5, 0.0],
        ..NaiveBayes::new(3, false, 3, vec![Table { place: 2, logs }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probabilities(scorer: &NaiveBayes, x: &[f64]) -> Vec<f64> {
        let mut out = Vec::new();
        scorer.score_row(x, &mut out);
        out
    }

    #[test]
    fn bayes_rule_over_a_number_and_a_category() {
        let logs = Arc::new(Logs {
            counts: [1.0_f64, 3.0, 1.0, 1.0].map(f64::ln).to_vec(),
            totals: [2.0_f64, 4.0].map(f64::ln).to_vec(),
        });
        let scorer = NaiveBayes {
            class_weights: vec![3.0, 1.0],
            log_weights: vec![3.0_f64.ln(), 0.0],
            means: vec![1.0, 0.0, -1.0, 0.0],
            // Variances 1 and 4.
            precisions: vec![0.5, 0.0, 0.125, 0.0],
            log_scales: vec![0.0, 0.0, -(2.0_f64.ln()), 0.0],
            ..NaiveBayes::new(2, true, 2, vec![Table { place: 1, logs }])
        };
        let densities = [(-0.5 * 0.25_f64).exp(), (-0.125 * 2.25_f64).exp() / 2.0];
        let (zero, one) = (3.0 * densities[0] * 0.5, densities[1] * 0.75);
        assert!((probabilities(&scorer, &[0.5, 0.0])[0] - one / (zero + one)).abs() < 1e-15);
        // A missing value says nothing, a code that is too large counts as the last.
        let without = densities[1] / (3.0 * densities[0] + densities[1]);
        assert!((probabilities(&scorer, &[0.5, f64::NAN])[0] - without).abs() < 1e-15);
        assert!((probabilities(&scorer, &[f64::NAN, f64::NAN])[0] - 0.25).abs() < 1e-15);
        assert_eq!(probabilities(&scorer, &[0.5, 9.0]), probabilities(&scorer, &[0.5, 1.0]));
    }

    #[test]
    fn a_class_that_was_never_seen_has_the_share_of_a_row() {
        let mut scorer = NaiveBayes::new(4, false, 0, vec![]);
        assert_eq!(probabilities(&scorer, &[]), [0.25; 4]);
        (scorer.class_weights[1], scorer.log_weights[1]) = (6.0, 6.0_f64.ln());
        let found = probabilities(&scorer, &[]);
        assert!(
            (found[1] - 0.7).abs() < 1e-15 && (found[0] - 0.1).abs() < 1e-15,
            "{found:?}"
        );
    }
}
