//! Which question a leaf would ask: the one of largest information gain, and Hoeffding's bound on how sure that is.

use super::leaf::Leaf;
use super::numbers::{scale_of, share_below};

/// Thresholds that are tried for a number, evenly between its smallest and its largest value.
const THRESHOLDS: usize = 10;
/// Share of the rows that each side of a split needs.
const SIDE_MIN: f64 = 0.01;

/// What a split asks; yes goes left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Question {
    /// Is the number at most that?
    AtMost {
        /// The input.
        place: u32,
        /// The number.
        threshold: f64,
    },
    /// Is it that category?
    Is {
        /// The input.
        place: u32,
        /// The category.
        code: u32,
    },
}

impl Question {
    /// The input that it looks at.
    pub(crate) fn place(self) -> u32 {
        match self {
            Self::AtMost { place, .. } | Self::Is { place, .. } => place,
        }
    }
}

/// The best question of one input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) question: Question,
    /// Information gain in bits, times the share of the rows in which the input was there.
    pub(crate) merit: f64,
}

/// The best question, and the merit of the best one about another input; asking nothing has merit 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Ranking {
    pub(crate) best: Option<Candidate>,
    pub(crate) second: f64,
}

impl Ranking {
    pub(crate) fn of(leaf: &Leaf) -> Self {
        let mut ranking = Self::default();
        candidates(leaf, &mut |candidate| ranking.add(candidate));
        ranking
    }

    fn add(&mut self, candidate: Candidate) {
        let best = self.best.map_or(0.0, |best| best.merit);
        if candidate.merit > best {
            self.second = best;
            self.best = Some(candidate);
        } else {
            self.second = self.second.max(candidate.merit);
        }
    }

    /// The question to split by, if the leaf has seen enough to say so.
    pub(crate) fn decide(&self, bound: f64, tie: f64) -> Option<Candidate> {
        self.best.filter(|best| best.merit - self.second > bound || bound < tie)
    }
}

/// How far a mean of `rows` values that lie within `range` may be from its expectation, with a probability of `delta`
/// (Hoeffding 1963).
pub(crate) fn hoeffding_bound(range: f64, delta: f64, rows: f64) -> f64 {
    (range * range * (1.0 / delta).ln() / (2.0 * rows)).sqrt()
}

/// The largest entropy of so many classes, in bits: the range of an information gain.
pub(crate) fn entropy_max(classes: usize) -> f64 {
    (classes.max(2) as f64).log2()
}

/// Calls `each` with the best question of each input of a leaf that observes.
pub(crate) fn candidates(leaf: &Leaf, each: &mut dyn FnMut(Candidate)) {
    if !leaf.is_active() {
        return;
    }
    let mut gain = Gain::new(leaf);
    for (index, place) in leaf.places().numbers.iter().enumerate() {
        if let Some(candidate) = best_threshold(leaf, index, *place, &mut gain) {
            each(candidate);
        }
    }
    for (index, place) in leaf.places().categories.iter().enumerate() {
        if let Some(candidate) = best_code(leaf, index, *place, &mut gain) {
            each(candidate);
        }
    }
}

/// Weights of the classes on the two sides of a question, as far as the input was there.
pub(crate) fn sides(leaf: &Leaf, question: Question) -> (Vec<f64>, Vec<f64>) {
    let mut gain = Gain::new(leaf);
    let place = question.place();
    match question {
        Question::AtMost { threshold, .. } => {
            if let Some(index) = leaf.places().numbers.iter().position(|other| *other == place) {
                gain.set_column(leaf, index);
                gain.cut(threshold);
            }
        }
        Question::Is { code, .. } => {
            if let Some(index) = leaf.places().categories.iter().position(|other| *other == place) {
                let column = &leaf.categories()[index];
                gain.set_all(column.sums());
                if let Some((_, weights)) = column.each().find(|(other, _)| *other == code) {
                    gain.left.copy_from_slice(weights);
                }
            }
        }
    }
    let right = gain.all.iter().zip(&gain.left).map(|(all, left)| (all - left).max(0.0));
    (gain.left.clone(), right.collect())
}

/// What one class has seen of a number.
#[derive(Clone, Copy, Default)]
struct Spread {
    mean: f64,
    root: f64,
    low: f64,
    high: f64,
}

/// The classes on both sides of a question, used again for every one.
struct Gain {
    spreads: Vec<Spread>,
    all: Vec<f64>,
    left: Vec<f64>,
    /// Weight of the leaf's own rows.
    observed: f64,
    /// Of `all`: its sum and its entropy times that.
    sum: f64,
    entropy: f64,
}

/// `w ln w`.
fn term(weight: f64) -> f64 {
    if weight > 0.0 { weight * weight.ln() } else { 0.0 }
}

impl Gain {
    fn new(leaf: &Leaf) -> Self {
        let classes = leaf.weights().len();
        Self {
            spreads: vec![Spread::default(); classes],
            all: vec![0.0; classes],
            left: vec![0.0; classes],
            observed: leaf.observed(),
            sum: 0.0,
            entropy: 0.0,
        }
    }

    fn set_all(&mut self, all: &[f64]) {
        self.all.copy_from_slice(all);
        self.sum = self.all.iter().sum();
        self.entropy = term(self.sum) - self.all.iter().copied().map(term).sum::<f64>();
    }

    /// Takes the number at `index` of a leaf.
    fn set_column(&mut self, leaf: &Leaf, index: usize) {
        let width = leaf.places().numbers.len();
        for class in 0..self.all.len() {
            let record = leaf.record(class);
            let row = |row: usize| record[row * width + index];
            self.all[class] = row(2);
            self.spreads[class] = Spread {
                mean: row(0),
                root: scale_of(row(2), row(3)).sqrt(),
                low: row(4),
                high: row(5),
            };
        }
        let all = std::mem::take(&mut self.all);
        self.all = vec![0.0; all.len()];
        self.set_all(&all);
    }

    /// Cuts a number: the rows up to the threshold go left, by the normal distribution of each class.
    fn cut(&mut self, threshold: f64) {
        for ((left, all), spread) in self.left.iter_mut().zip(&self.all).zip(&self.spreads) {
            *left = if *all == 0.0 || threshold < spread.low {
                0.0
            } else if threshold >= spread.high {
                *all
            } else {
                all * share_below((threshold - spread.mean) * spread.root)
            };
        }
    }

    /// The information gain in bits; `None` if one side has too few rows.
    fn merit(&self) -> Option<f64> {
        let left: f64 = self.left.iter().sum();
        let right = self.sum - left;
        if left.min(right) < SIDE_MIN * self.sum {
            return None;
        }
        let mut entropy = term(left) + term(right);
        for (all, left) in self.all.iter().zip(&self.left) {
            entropy -= term(*left) + term(all - left);
        }
        // Times the share of the rows in which the input was there.
        Some((self.entropy - entropy) / (self.observed.max(self.sum) * std::f64::consts::LN_2))
    }
}

fn best_threshold(leaf: &Leaf, index: usize, place: u32, gain: &mut Gain) -> Option<Candidate> {
    gain.set_column(leaf, index);
    let low = gain
        .spreads
        .iter()
        .map(|spread| spread.low)
        .fold(f64::INFINITY, f64::min);
    let high = gain
        .spreads
        .iter()
        .map(|spread| spread.high)
        .fold(f64::NEG_INFINITY, f64::max);
    if low >= high {
        return None;
    }
    let mut best: Option<Candidate> = None;
    for step in 1..=THRESHOLDS {
        let threshold = low + (high - low) * step as f64 / (THRESHOLDS + 1) as f64;
        if !(threshold > low && threshold < high) {
            continue;
        }
        gain.cut(threshold);
        if let Some(merit) = gain.merit().filter(|merit| best.is_none_or(|best| *merit > best.merit)) {
            let question = Question::AtMost { place, threshold };
            best = Some(Candidate { question, merit });
        }
    }
    best
}

fn best_code(leaf: &Leaf, index: usize, place: u32, gain: &mut Gain) -> Option<Candidate> {
    let column = &leaf.categories()[index];
    gain.set_all(column.sums());
    let mut best: Option<Candidate> = None;
    for (code, weights) in column.each() {
        gain.left.copy_from_slice(weights);
        if let Some(merit) = gain.merit().filter(|merit| best.is_none_or(|best| *merit > best.merit)) {
            let question = Question::Is { place, code };
            best = Some(Candidate { question, merit });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::TreeSettings;
    use super::super::leaf::Places;
    use super::super::view::Scratch;
    use super::*;
    use crate::contracts::Input;
    use std::sync::Arc;

    fn leaf_of(inputs: &[Input], rows: &[(&[f64], usize)]) -> Leaf {
        let settings = TreeSettings::new(2, inputs.into(), 1, 1 << 20);
        let places = Places::of(inputs, 0..inputs.len() as u32);
        let mut leaf = Leaf::new(&settings, Arc::new(places), &[0.0, 0.0]);
        for (row, class) in rows {
            leaf.learn(row, *class, 1.0, None, &mut Scratch::default());
        }
        leaf
    }

    #[test]
    fn the_bound_is_hoeffdings() {
        // sqrt(ln(1e7) / 400), and for four classes twice that.
        assert!((hoeffding_bound(entropy_max(2), 1e-7, 200.0) - 0.20073674085078647).abs() < 1e-12);
        assert!((hoeffding_bound(entropy_max(4), 1e-7, 200.0) - 0.40147348170157293).abs() < 1e-12);
    }

    #[test]
    fn the_gain_of_a_category_is_that_of_its_table() {
        let (a, b, c) = (&[0.0][..], &[1.0][..], &[2.0][..]);
        let leaf = leaf_of(
            &[Input::Category { codes: 3 }],
            &[(a, 0), (a, 0), (a, 0), (a, 1), (b, 1), (b, 1), (b, 0), (c, 1)],
        );
        // Code 0 against the others: 1 - (h(1/4) + h(3/4)) / 2 = 1 - 0.8112781244591328.
        let best = Ranking::of(&leaf).best.unwrap();
        assert_eq!(best.question, Question::Is { place: 0, code: 0 });
        assert!((best.merit - 0.188_721_875_540_867_2).abs() < 1e-12, "{}", best.merit);
        assert_eq!(sides(&leaf, best.question), (vec![3.0, 1.0], vec![1.0, 3.0]));
    }

    #[test]
    fn a_number_is_cut_by_the_normal_distributions_of_its_classes() {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 11.0];
        let rows: Vec<(&[f64], usize)> = values
            .iter()
            .map(|value| (std::slice::from_ref(value), usize::from(*value > 5.5)))
            .collect();
        let leaf = leaf_of(&[Input::Number], &rows);
        // Thresholds are the whole numbers 1 to 10. At 5 class 0 (up to 5) lies left; of class 1 (from 6) nothing.
        let best = Ranking::of(&leaf).best.unwrap();
        let question = Question::AtMost {
            place: 0,
            threshold: 5.0,
        };
        assert_eq!(
            (best.question, sides(&leaf, question)),
            (question, (vec![6.0, 0.0], vec![0.0, 5.0]))
        );
        // At 4: 6 * scipy.stats.norm.cdf(4, 2.5, sqrt(3.5)) = 4.731999.
        let (left, _) = sides(
            &leaf,
            Question::AtMost {
                place: 0,
                threshold: 4.0,
            },
        );
        assert!((left[0] - 4.731_999).abs() < 1e-4, "{left:?}");
    }

    #[test]
    fn nothing_is_asked_about_constants_and_missing_values_lower_the_merit() {
        let rows = [
            (&[7.0, 1.0][..], 0),
            (&[7.0, f64::NAN][..], 0),
            (&[7.0, 5.0][..], 1),
            (&[7.0, f64::NAN][..], 1),
        ];
        let leaf = leaf_of(&[Input::Number, Input::Number], &rows);
        let best = Ranking::of(&leaf).best.unwrap();
        assert_eq!(best.question.place(), 1);
        assert!(
            (best.merit - 0.5).abs() < 1e-12,
            "one bit in half of the rows: {}",
            best.merit
        );
    }

    #[test]
    fn a_leaf_decides_when_the_best_is_ahead_or_waiting_does_not_pay() {
        let question = Question::Is { place: 0, code: 0 };
        let mut ranking = Ranking::default();
        ranking.add(Candidate { question, merit: 0.3 });
        assert_eq!(ranking.second, 0.0);
        ranking.add(Candidate { question, merit: 0.2 });
        assert_eq!(ranking.second, 0.2);
        assert!(ranking.decide(0.09, 0.05).is_some() && ranking.decide(0.11, 0.05).is_none());
        assert!(ranking.decide(0.04, 0.05).is_some());
        assert!(Ranking::default().decide(0.01, 0.05).is_none());
    }
}
