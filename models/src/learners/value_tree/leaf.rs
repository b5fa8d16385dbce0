//! A leaf: sums of what it has seen, and how it predicts.

use super::inputs::{Moves, Seen};
use super::{LeafRule, Pull, ValueSettings, numbers, put_numbers};
use crate::codec::{CodecError, Put, Reader};

/// Leaves in a block.
pub(super) const BLOCK: usize = 8;

/// A few leaves, shared between a tree and what it has published.
#[derive(Debug, Clone, Default)]
pub(super) struct LeafBlock {
    /// At most [`BLOCK`].
    pub(super) leaves: Vec<Leaf>,
    /// When it was changed last: its stamp.
    pub(super) changed: u64,
}

/// Places of the numbers of a leaf. Behind them stand `h` and `g` of each output, then the weights of the linear model, the
/// last one its intercept, or `h` and `g` of the last rows.
const OBSERVED: usize = 0;
/// `observed` when it last tried to split.
const ATTEMPTED: usize = 1;
/// Squared distances of what it saw from what it had said: what a split may gain.
const PROMISE: usize = 2;
/// `Σ g² / h` of what it saw itself, and both parts of the mean of that.
const SQUARES: usize = 3;
const OWN_H: usize = 4;
const OWN_G: usize = 5;
/// Recent errors of the mean, and of the linear model or the mean of the last rows.
const MEAN_ERROR: usize = 6;
const OTHER_ERROR: usize = 7;
/// Steps of the linear model.
const STEPS: usize = 8;
/// Squared weights of the rows that it saw itself.
const SQUARED_WEIGHTS: usize = 9;
const HEAD: usize = 10;

/// The share of its errors that a leaf remembers from row to row: of a linear model as in River, of the mean of the last rows
/// (which errs by chance more) longer.
const LINEAR_MEMORY: f64 = 0.95;
const RECENT_MEMORY: f64 = 0.99;
/// The shortest step of a linear model, as a share of the error of the row; the longer ones before are those of a mean.
const STEP_MIN: f64 = 0.05;
/// Steps, for each weight, that a new leaf believes to have made. Like the two before chosen on Friedman's function with drift,
/// mv, delays of flights, and values of elec, weather and covtype.
const STEPS_BORN: f64 = 2.0;
/// A linear model says at most so many standard deviations more or less than the mean.
const REACH: f64 = 3.0;
/// What `Σ h` is at least, so that nothing is divided by nothing.
const MASS_MIN: f64 = 1e-12;

/// What a leaf has seen.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    outputs: usize,
    /// How many leaves of the tree were made before: by it the inputs are drawn that it looks at.
    pub(super) born: u64,
    numbers: Box<[f64]>,
    /// For each bin `h` and `g` of each output; nothing where it observes no inputs.
    bins: Box<[f64]>,
}

/// Numbers of a leaf without its bins.
fn length(settings: &ValueSettings) -> usize {
    let other = match settings.leaf {
        _ if settings.is_linear() => settings.inputs.len() + 1,
        LeafRule::Recent => 2 * settings.outputs,
        _ => 0,
    };
    HEAD + 2 * settings.outputs + other
}

/// Bytes of a leaf besides itself, with so many bins.
pub(super) fn bytes_of(settings: &ValueSettings, bins: usize) -> usize {
    8 * (length(settings) + 2 * settings.outputs * bins)
}

/// The value of an output of which `h` and `g` were seen.
#[inline]
fn value(settings: &ValueSettings, [h, g]: [f64; 2]) -> f64 {
    (g / (h + settings.ridge).max(MASS_MIN)).clamp(-settings.reach, settings.reach)
}

impl Leaf {
    /// A leaf that is born with `h` and `g` of each output, and what its parent knows besides.
    pub(super) fn new(settings: &ValueSettings, born: u64, sums: &[f64], parent: Option<&Self>, bins: usize) -> Self {
        let mut numbers = vec![0.0; length(settings)].into_boxed_slice();
        for (pair, sums) in numbers[HEAD..HEAD + 2 * settings.outputs]
            .chunks_mut(2)
            .zip(sums.chunks(2))
        {
            // What is left of a difference may lie a little below 0.
            pair.copy_from_slice(&[sums[0].max(0.0), sums[1]]);
        }
        if let Some(parent) = parent {
            let other = HEAD + 2 * settings.outputs;
            numbers[other..].copy_from_slice(&parent.numbers[other..]);
            numbers[MEAN_ERROR..=OTHER_ERROR].copy_from_slice(&parent.numbers[MEAN_ERROR..=OTHER_ERROR]);
            let steps = STEPS_BORN * (settings.inputs.len() + 1) as f64;
            numbers[STEPS] = parent.numbers[STEPS].min(steps);
        }
        let outputs = settings.outputs;
        Self {
            outputs,
            born,
            numbers,
            bins: vec![0.0; 2 * outputs * bins].into(),
        }
    }

    /// Whether it observes inputs.
    pub(super) fn is_active(&self) -> bool {
        !self.bins.is_empty()
    }

    /// Forgets what it knows of the inputs.
    pub(super) fn deactivate(&mut self) {
        self.bins = [].into();
    }

    /// Begins to observe inputs.
    pub(super) fn activate(&mut self, bins: usize) {
        self.bins = vec![0.0; 2 * self.outputs * bins].into();
        for place in [OBSERVED, ATTEMPTED, SQUARES, OWN_H, OWN_G, SQUARED_WEIGHTS] {
            self.numbers[place] = 0.0;
        }
    }

    /// Moves what it has counted to other bins.
    pub(super) fn move_bins(&mut self, moves: &Moves) {
        if !self.is_active() {
            return;
        }
        let numbers = 2 * self.outputs;
        let mut bins = vec![0.0; numbers * moves.bins].into_boxed_slice();
        for (from, to) in self.bins.chunks(numbers).zip(&moves.moves) {
            let Some(to) = bins.get_mut((*to as usize).saturating_mul(numbers)..) else {
                continue;
            };
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        self.bins = bins;
    }

    /// Weight of the rows that it saw itself.
    pub(super) fn observed(&self) -> f64 {
        self.numbers[OBSERVED]
    }

    /// Whether it has seen enough since it last tried to split; then it tries now.
    fn is_due(&mut self, grace: f64) -> bool {
        let due = self.is_active() && self.numbers[OBSERVED] - self.numbers[ATTEMPTED] >= grace;
        if due {
            self.numbers[ATTEMPTED] = self.numbers[OBSERVED];
        }
        due
    }

    /// What a split may gain.
    pub(super) fn promise(&self) -> f64 {
        self.numbers[PROMISE]
    }

    /// `h` and `g` of each output in a bin of a leaf that observes.
    #[inline]
    pub(super) fn bin(&self, bin: usize) -> &[f64] {
        &self.bins[bin * 2 * self.outputs..][..2 * self.outputs]
    }

    /// The variance of `Σ g` where `Σ h` is 1. Rows that count several times are as many as they are, not as they count.
    pub(super) fn dispersion(&self, settings: &ValueSettings) -> f64 {
        let weight = self.numbers[OBSERVED].max(MASS_MIN);
        let of_weights = self.numbers[SQUARED_WEIGHTS] / weight;
        if settings.unit_variance {
            return of_weights;
        }
        let [squares, h, g] = [SQUARES, OWN_H, OWN_G].map(|place| self.numbers[place]);
        (squares - g * g / h.max(MASS_MIN)).max(0.0) / weight * of_weights
    }

    /// `h` and `g` of each output.
    fn sums(&self) -> &[[f64; 2]] {
        self.numbers[HEAD..HEAD + 2 * self.outputs].as_chunks::<2>().0
    }

    /// What it says by its mean.
    #[inline]
    fn mean(&self) -> f64 {
        let [h, g] = self.sums()[0];
        g / h.max(MASS_MIN)
    }

    /// What its linear model says, not far from the mean.
    #[inline]
    fn linear(&self, mean: f64, scaled: &[f64]) -> f64 {
        let (intercept, weights) = self.weights();
        let sum = weights
            .iter()
            .zip(scaled)
            .fold(intercept, |sum, (weight, z)| sum + weight * z);
        let reach = REACH * self.numbers[MEAN_ERROR].max(0.0).sqrt();
        if sum.is_nan() {
            mean
        } else {
            sum.clamp(mean - reach, mean + reach)
        }
    }

    /// `h` and `g` of each output over the last rows only, where it knows them.
    fn recent(&self) -> &[[f64; 2]] {
        self.numbers[HEAD + 2 * self.outputs..].as_chunks::<2>().0
    }

    fn weights(&self) -> (f64, &[f64]) {
        match self.numbers[HEAD + 2..].split_last() {
            Some((intercept, weights)) => (*intercept, weights),
            None => (0.0, &[]),
        }
    }

    /// Whether the linear model, or the mean of the last rows, speaks.
    fn is_other(&self, settings: &ValueSettings) -> bool {
        match settings.leaf {
            LeafRule::Mean => false,
            LeafRule::Linear => true,
            LeafRule::Adaptive | LeafRule::Recent => self.numbers[OTHER_ERROR] < self.numbers[MEAN_ERROR],
        }
    }

    /// Writes its values.
    #[inline]
    pub(super) fn predict_into(&self, settings: &ValueSettings, scaled: &[f64], out: &mut [f64]) {
        if settings.is_linear() {
            let mean = self.mean();
            let is_other = self.is_other(settings);
            out[0] = if is_other { self.linear(mean, scaled) } else { mean };
            return;
        }
        let sums = if self.is_other(settings) {
            self.recent()
        } else {
            self.sums()
        };
        for (out, sums) in out.iter_mut().zip(sums) {
            *out = value(settings, *sums);
        }
    }

    /// Learns a row; whether it may try to split now. `places` are the inputs that it looks at.
    pub(super) fn learn(&mut self, settings: &ValueSettings, seen: Seen<'_>, pull: Pull<'_>, places: &[u32]) -> bool {
        if settings.is_linear() {
            self.learn_linear(seen.scaled, pull.pulls[0]);
        }
        if settings.leaf == LeafRule::Recent {
            self.learn_recent(settings, pull.pulls);
        }
        let keep = 1.0 - settings.memory_rows.recip();
        let sums = self.numbers[HEAD..HEAD + 2 * self.outputs].as_chunks_mut::<2>().0;
        let (mut distance, mut squares) = (0.0, 0.0);
        for ([sum_h, sum_g], (h, g)) in sums.iter_mut().zip(pull.pulls) {
            let away = g - h * *sum_g / sum_h.max(MASS_MIN);
            distance += away * away / h;
            squares += g * g / h;
            *sum_h = *sum_h * keep + h;
            *sum_g = *sum_g * keep + g;
        }
        self.numbers[PROMISE] += distance;
        if !self.is_active() {
            return false;
        }
        let (h, g) = pull.pulls[0];
        for (place, more) in [
            (OBSERVED, pull.weight),
            (SQUARED_WEIGHTS, pull.weight * pull.weight),
            (SQUARES, squares),
            (OWN_H, h),
            (OWN_G, g),
        ] {
            self.numbers[place] += more;
        }
        self.count(seen.bins, pull.pulls, places);
        self.is_due(settings.grace)
    }

    /// Judges what the mean and the mean of the last rows say of a row, by how much the loss would fall to second order,
    /// and learns the latter.
    fn learn_recent(&mut self, settings: &ValueSettings, pulls: &[(f64, f64)]) {
        let loss = |sums: &[[f64; 2]]| {
            let pairs = sums.iter().zip(pulls);
            let one = |(sums, (h, g)): (&[f64; 2], &(f64, f64))| {
                let value = value(settings, *sums);
                (0.5 * h * value - g) * value
            };
            pairs.map(one).sum::<f64>()
        };
        for (place, loss) in [(MEAN_ERROR, loss(self.sums())), (OTHER_ERROR, loss(self.recent()))] {
            let recent = &mut self.numbers[place];
            *recent = RECENT_MEMORY * *recent + (1.0 - RECENT_MEMORY) * loss;
        }
        let keep = 1.0 - settings.recent_rows.recip();
        let sums = self.numbers[HEAD + 2 * self.outputs..].as_chunks_mut::<2>().0;
        for ([sum_h, sum_g], (h, g)) in sums.iter_mut().zip(pulls) {
            *sum_h = *sum_h * keep + h;
            *sum_g = *sum_g * keep + g;
        }
    }

    /// Counts a row in the bins of its inputs.
    #[inline]
    fn count(&mut self, bins: &[u32], pulls: &[(f64, f64)], places: &[u32]) {
        for place in places {
            let bin = bins[*place as usize] as usize * 2 * pulls.len();
            let sums = self.bins[bin..bin + 2 * pulls.len()].as_chunks_mut::<2>().0;
            for ([sum_h, sum_g], (h, g)) in sums.iter_mut().zip(pulls) {
                *sum_h += h;
                *sum_g += g;
            }
        }
    }

    /// A step of the linear model (normalised least mean squares; Nagumo and Noda 1967) towards `g / h`. At first it is as
    /// long as that of a mean over the rows so far, so that the model soon knows where it is.
    #[inline]
    fn learn_linear(&mut self, scaled: &[f64], (h, g): (f64, f64)) {
        let (value, mean) = (g / h, self.mean());
        let is_first = self.numbers[HEAD] <= 0.0;
        let said = if is_first { mean } else { self.linear(mean, scaled) };
        let of_mean = if is_first { 0.0 } else { value - mean };
        let of_linear = if is_first { 0.0 } else { value - said };
        for (place, error) in [(MEAN_ERROR, of_mean), (OTHER_ERROR, of_linear)] {
            let recent = &mut self.numbers[place];
            *recent = LINEAR_MEMORY * *recent + (1.0 - LINEAR_MEMORY) * error * error;
        }
        self.numbers[STEPS] += 1.0;
        let (weights, intercept) = (HEAD + 2, self.numbers.len() - 1);
        let share = ((intercept - weights + 1) as f64 / self.numbers[STEPS]).clamp(STEP_MIN, 1.0) * h / (h + 1.0) * 2.0;
        let (before, model) = self.numbers[weights..]
            .split_last_mut()
            .map_or((0.0, &mut [][..]), |(b, w)| (*b, w));
        let size = scaled.iter().fold(1.0, |sum, z| sum + z * z);
        let sum = model
            .iter()
            .zip(scaled)
            .fold(before, |sum, (weight, z)| sum + weight * z);
        let step = share.min(1.0) * (value - sum) / size;
        if !step.is_finite() {
            return;
        }
        model.iter_mut().zip(scaled).for_each(|(weight, z)| *weight += step * z);
        self.numbers[intercept] += step;
    }

    /// Appends all of it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.born);
        out.put_u8(u8::from(self.is_active()));
        put_numbers(&self.numbers, out);
        put_numbers(&self.bins, out);
    }

    /// Reads what [`Leaf::write`] wrote, of a tree with so many bins.
    pub(super) fn read(reader: &mut Reader<'_>, settings: &ValueSettings, bins: usize) -> Result<Self, CodecError> {
        let born = reader.u64()?;
        let bins = if reader.flag()? { 2 * settings.outputs * bins } else { 0 };
        let (numbers, bins) = (numbers(reader, length(settings))?, numbers(reader, bins)?);
        Ok(Self {
            outputs: settings.outputs,
            born,
            numbers,
            bins,
        })
    }

    /// Appends what predicting needs.
    pub(super) fn write_published(&self, out: &mut Vec<u8>) {
        put_numbers(&self.numbers, out);
    }

    /// Reads what [`Leaf::write_published`] wrote.
    pub(super) fn read_published(reader: &mut Reader<'_>, settings: &ValueSettings) -> Result<Self, CodecError> {
        Ok(Self {
            outputs: settings.outputs,
            born: 0,
            numbers: numbers(reader, length(settings))?,
            bins: [].into(),
        })
    }

    /// Bytes of memory besides itself.
    pub(super) fn heap_bytes(&self) -> usize {
        8 * (self.numbers.len() + self.bins.len())
    }
}
