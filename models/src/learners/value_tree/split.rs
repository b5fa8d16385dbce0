//! Which question a leaf would ask: the one that explains most of the variance, and Hoeffding's bound on the ratio of the
//! two best.

use super::ValueSettings;
use super::edges::Edges;
use super::leaf::Leaf;
use crate::contracts::Input;
use crate::learners::tree::{Question, hoeffding_bound};

/// Share of the weight that each side of a split needs.
const SIDE_MIN: f64 = 0.01;

/// The best question of one input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) question: Question,
    pub(super) missing_left: bool,
    /// By how much the sum of squares falls: `Σ g² / h` of both sides less that of all.
    pub(super) gain: f64,
    /// For each output `h` and `g` of the rows that would go left, and right.
    pub(super) left: Vec<f64>,
    pub(super) right: Vec<f64>,
}

/// The best question, and the gain of the best one about another input.
#[derive(Default)]
pub(super) struct Ranking {
    best: Option<Candidate>,
    second: f64,
}

impl Ranking {
    pub(super) fn of(leaf: &Leaf, places: &[u32], edges: &Edges, settings: &ValueSettings) -> Self {
        let mut search = Search::new(leaf, settings);
        let mut ranking = Self::default();
        for place in places {
            let best = search.best(edges, *place, settings.inputs[*place as usize]);
            let Some(candidate) = best else { continue };
            let best = ranking.best.as_ref().map_or(0.0, |best| best.gain);
            if candidate.gain > best {
                ranking.second = best;
                ranking.best = Some(candidate);
            } else {
                ranking.second = ranking.second.max(candidate.gain);
            }
        }
        ranking
    }

    /// The question to split by, if the leaf has seen enough to say so: the ratio of the two best is surely below 1, or
    /// so well known that they are as good as equal; and chance hardly makes it as good as it is.
    pub(super) fn decide(self, leaf: &Leaf, settings: &ValueSettings) -> Option<Candidate> {
        let best = self.best?;
        let bound = hoeffding_bound(1.0, settings.delta, leaf.observed());
        let is_sure = self.second < best.gain * (1.0 - bound) || bound < settings.tie;
        let chance = chance_gain(settings.outputs as f64, settings.delta);
        (is_sure && best.gain > chance * leaf.dispersion(settings)).then_some(best)
    }
}

/// What a sum of so many squared standard normals exceeds with a probability of at most `delta` (Laurent and Massart,
/// Annals of Statistics 2000): the gain of a question that says nothing, in units of the variance.
fn chance_gain(outputs: f64, delta: f64) -> f64 {
    let x = -delta.ln();
    outputs + 2.0 * (outputs * x).sqrt() + 2.0 * x
}

/// `Σ g² / (h + ridge)` over outputs.
#[inline]
fn explained(sums: &[f64], ridge: f64) -> f64 {
    let of_one = |pair: &[f64; 2]| {
        if pair[0] > 0.0 {
            pair[1] * pair[1] / (pair[0] + ridge)
        } else {
            0.0
        }
    };
    sums.as_chunks::<2>().0.iter().map(of_one).sum()
}

/// `Σ h` over outputs.
#[inline]
fn mass(sums: &[f64]) -> f64 {
    sums.as_chunks::<2>().0.iter().map(|pair| pair[0]).sum()
}

/// Memory that is used again from input to input.
struct Search<'a> {
    leaf: &'a Leaf,
    ridge: f64,
    all: Vec<f64>,
    present: Vec<f64>,
    left: Vec<f64>,
    right: Vec<f64>,
    best: Option<Candidate>,
}

impl<'a> Search<'a> {
    fn new(leaf: &'a Leaf, settings: &ValueSettings) -> Self {
        let numbers = 2 * settings.outputs;
        Self {
            leaf,
            ridge: settings.ridge,
            all: vec![0.0; numbers],
            present: vec![0.0; numbers],
            left: vec![0.0; numbers],
            right: vec![0.0; numbers],
            best: None,
        }
    }

    /// The best question about an input.
    fn best(&mut self, edges: &Edges, place: u32, kind: Input) -> Option<Candidate> {
        let range = edges.range(place as usize);
        let leaf = self.leaf;
        let missing = leaf.bin(range.end - 1);
        self.present.fill(0.0);
        for bin in range.start..range.end - 1 {
            add(&mut self.present, leaf.bin(bin));
        }
        self.all.copy_from_slice(&self.present);
        add(&mut self.all, missing);
        self.left.fill(0.0);
        self.best = None;
        match kind {
            Input::Number => {
                for (bin, edge) in range.zip(edges.edges(place as usize)) {
                    add(&mut self.left, leaf.bin(bin));
                    let threshold = *edge;
                    self.weigh(Question::AtMost { place, threshold }, missing);
                }
            }
            Input::Category { .. } => {
                for (code, bin) in (range.start..range.end - 2).enumerate() {
                    self.left.copy_from_slice(leaf.bin(bin));
                    let code = code as u32;
                    self.weigh(Question::Is { place, code }, missing);
                }
            }
        }
        self.best.take()
    }

    /// Compares a question, whose yes has `left`, with the best one, missing values on the heavier side and, if there are
    /// any, on the other.
    fn weigh(&mut self, question: Question, missing: &[f64]) {
        let is_heavier = 2.0 * mass(&self.left) >= mass(&self.present);
        self.weigh_with(question, is_heavier, missing);
        if mass(missing) > 0.0 {
            self.weigh_with(question, !is_heavier, missing);
        }
    }

    fn weigh_with(&mut self, question: Question, missing_left: bool, missing: &[f64]) {
        let sums = self.all.iter().zip(&self.left).zip(missing);
        for (right, ((all, left), missing)) in self.right.iter_mut().zip(sums) {
            *right = all - if missing_left { left + missing } else { *left };
        }
        let all = mass(&self.all);
        let right = mass(&self.right);
        if right.min(all - right) <= SIDE_MIN * all {
            return;
        }
        let left: Vec<f64>;
        let yes = if missing_left {
            left = self.left.iter().zip(missing).map(|(a, b)| a + b).collect();
            &left
        } else {
            &self.left
        };
        let both = explained(yes, self.ridge) + explained(&self.right, self.ridge);
        let gain = both - explained(&self.all, self.ridge);
        if gain.is_finite() && gain > self.best.as_ref().map_or(0.0, |best| best.gain) {
            self.best = Some(Candidate {
                question,
                missing_left,
                gain,
                left: yes.clone(),
                right: self.right.clone(),
            });
        }
    }
}

#[inline]
fn add(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
