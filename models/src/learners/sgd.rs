//! What the learners by stochastic gradient descent share: weights, rates and the walk over rows.
//!
//! At a constant rate or one that falls with the number of rows, a step is the gradient's, divided by what keeps it from
//! overshooting (the first-order form of implicit updates; Toulis and Airoldi, "Asymptotic and finite-sample properties
//! of estimators based on stochastic gradients", Annals of Statistics 2017). With standardised inputs it is plain SGD;
//! with any weight and any input it stays finite.
//!
//! Of the adaptive rates AdaGrad is offered (Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning
//! and stochastic optimization", JMLR 2011) and not Adam: it keeps one number for a weight, an input that is 0 costs
//! nothing, which hashed and one-hot inputs mostly are, and it has a bound on regret, which Adam lacks (Reddi, Kale and
//! Kumar, "On the convergence of Adam and beyond", ICLR 2018).

use std::sync::Arc;

use driftmill_config::{Field, Kind, Need, Problems, Section};

use super::blocks::{Blocks, Encoded};
use super::settings::check_memory;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Form, Labelled, Learner, LearnerContext, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::scorers::linear::{Linear, dot};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Prefix of the encoder's chunks.
const ENCODER: &str = "encoder/";
/// A row counts at most this often.
const WEIGHT_MAX: f64 = 1e6;
/// Up to so many inputs all are multiplied; among more, those that are not 0 are looked for first. No bit depends on it.
const DENSE_MAX: usize = 64;
/// Sums of squared gradients beyond are taken for it: they stay finite.
const SQUARES_MAX: f64 = 1e300;
/// Keeps a first gradient of almost nothing from being divided by nothing.
const SQUARES_ROOT_MIN: f64 = 1e-10;

/// The key of the step size.
pub(super) const RATE: Field = Field {
    name: "rate",
    kind: Kind::Float,
    need: Need::Optional("0.01; 0.1 where `rate_schedule` is not `\"constant\"`"),
    doc: "Step size, above 0 and at most 10. A larger one follows changes faster and is noisier.",
};
/// The key of how the step size goes on.
pub(super) const RATE_SCHEDULE: Field = Field {
    name: "rate_schedule",
    kind: Kind::OneOf(&["constant", "inverse-scaling", "adagrad"]),
    need: Need::Optional("`\"constant\"`"),
    doc: "`constant` follows a changing world. `inverse-scaling` divides the rate by the square root of the number of rows \
          learned; `adagrad` gives each weight a rate of its own, divided by the root of its summed squared gradients, \
          which suits rare inputs: both settle, for a world that does not change.",
};
/// The key of the regularisation.
pub(super) const L2: Field = Field {
    name: "l2",
    kind: Kind::Float,
    need: Need::Optional("0"),
    doc: "Shrinks the weight of every input that is not 0 by `rate * l2` of itself at each row; from 0 to 1. With \
          `adagrad` it is a part of the gradient.",
};

/// How the step size goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schedule {
    /// It stays.
    Constant,
    /// Divided by the square root of one more than the rows learned from.
    InverseScaling,
    /// Divided, for each weight, by the root of the sum of its squared gradients.
    AdaGrad,
}

/// What all of them are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    rate: f64,
    schedule: Schedule,
    l2: f64,
}

impl Settings {
    /// Reads the keys.
    pub(super) fn read(section: &Section<'_>, problems: &mut Problems) -> Self {
        let word: Option<String> = section.get("rate_schedule", problems);
        let schedule = match word.as_deref() {
            None | Some("constant") => Schedule::Constant,
            Some("inverse-scaling") => Schedule::InverseScaling,
            Some("adagrad") => Schedule::AdaGrad,
            Some(_) => {
                let message = "`rate_schedule` must be `constant`, `inverse-scaling` or `adagrad`".to_owned();
                problems.push(section.key_span("rate_schedule"), message, None);
                Schedule::Constant
            }
        };
        let usual = if schedule == Schedule::Constant { 0.01 } else { 0.1 };
        let rate = section.get_or("rate", usual, problems);
        let l2 = section.get_or("l2", 0.0, problems);
        if !(rate > 0.0 && rate <= 10.0) {
            let message = "`rate` must be above 0 and at most 10".to_owned();
            problems.push(section.key_span("rate"), message, None);
        }
        if !(0.0..=1.0).contains(&l2) {
            problems.push(section.key_span("l2"), "`l2` must be from 0 to 1".to_owned(), None);
        }
        Self { rate, schedule, l2 }
    }
}

/// A loss of weighted sums, and what becomes of the sums.
pub(super) trait Objective: Send {
    /// Largest curvature of the loss along its sums.
    const CURVATURE_MAX: f64;
    /// What it learns.
    fn task(&self) -> Task;
    /// Turns the sums of a row into its scores: to the bit what [`Objective::scorer`] makes of them.
    fn scores(&self, sums: &mut [f64]);
    /// Turns the scores of a row into the gradients of its loss by the sums.
    fn gradients(&self, scores: &mut [f64], label: f64);
    /// What scores.
    fn scorer(&self, weights: Vec<f64>, intercepts: Vec<f64>) -> Linear;
    /// How many times the rate of the weights that of the intercept is, before row `seen`.
    fn intercept_ratio(&self, rate: f64, seen: u64) -> f64 {
        let _ = (rate, seen);
        1.0
    }
    /// In which unit steps of AdaGrad are, that of the sums.
    fn unit(&self) -> f64 {
        1.0
    }
    /// Takes note of a label that was learned from.
    fn note(&mut self, label: f64, weight: f64) {
        let _ = (label, weight);
    }
    /// What it noted, for the state; empty where it notes nothing.
    fn numbers(&self) -> &[f64] {
        &[]
    }
    /// The same, to be restored; as many.
    fn restore(&mut self, numbers: &[f64]) {
        let _ = numbers;
    }
}

/// Weights and encoder.
pub(super) struct Sgd<O> {
    objective: O,
    settings: Settings,
    encoder: ColumnsEncoder,
    blocks: Blocks,
    core: Core,
}

/// What a row changes.
struct Core {
    width: usize,
    /// Those of the first output, then those of the second…
    weights: Vec<f64>,
    intercepts: Vec<f64>,
    /// AdaGrad's sums of squared gradients, those of the weights, then those of the intercepts; otherwise none.
    squares: Vec<f64>,
    seen: u64,
    /// Places in the present row that are not 0, where they are looked for.
    active: Vec<u32>,
    /// A number for each output.
    sums: Vec<f64>,
}

/// Bytes of memory for weights of so many outputs.
fn bytes_of(outputs: usize, settings: Settings, encoder: &ColumnsEncoder) -> usize {
    let width = encoder.width();
    let weights = outputs * (width + 1);
    let squares = if settings.schedule == Schedule::AdaGrad {
        weights
    } else {
        0
    };
    let active = if width > DENSE_MAX { width } else { 0 };
    (weights + squares + outputs) * size_of::<f64>()
        + active * size_of::<u32>()
        + Blocks::bytes_max(width)
        + encoder.bytes_max()
}

/// Checks settings and memory and builds a learner of an objective. `name` is the learner's.
pub(super) fn build<O: Objective + 'static>(
    name: &str,
    objective: O,
    settings: Settings,
    section: &Section<'_>,
    context: &LearnerContext<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Learner>> {
    let encoder = context.encoder(Form::Scaled, section, problems)?;
    // Before anything of that size is allocated.
    let bytes = size_of::<Sgd<O>>() + bytes_of(objective.task().outputs(), settings, &encoder);
    let before = problems.len();
    check_memory(name, bytes, section, context, problems);
    (problems.len() == before).then(|| Box::new(Sgd::new(objective, settings, encoder)) as Box<dyn Learner>)
}

impl<O: Objective> Sgd<O> {
    /// Has learned nothing.
    fn new(objective: O, settings: Settings, encoder: ColumnsEncoder) -> Self {
        let (width, outputs) = (encoder.width(), objective.task().outputs());
        let adaptive = settings.schedule == Schedule::AdaGrad;
        let squares = if adaptive { outputs * (width + 1) } else { 0 };
        Self {
            objective,
            settings,
            encoder,
            blocks: Blocks::default(),
            core: Core {
                width,
                weights: vec![0.0; outputs * width],
                intercepts: vec![0.0; outputs],
                squares: vec![0.0; squares],
                seen: 0,
                active: Vec::with_capacity(if width > DENSE_MAX { width } else { 0 }),
                sums: vec![0.0; outputs],
            },
        }
    }

    /// Reads the chunk of the weights.
    fn read_weights(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        let seen = reader.u64()?;
        let intercepts: Result<Vec<f64>, _> = self.core.intercepts.iter().map(|_| reader.finite()).collect();
        let (intercepts, weights) = (intercepts?, reader.f64s()?);
        if weights.len() != self.core.weights.len() {
            let (given, wanted) = (weights.len(), self.core.weights.len());
            return Err(reader.error(format!("{given} weights where the features make {wanted} inputs")));
        }
        (self.core.seen, self.core.intercepts, self.core.weights) = (seen, intercepts, weights);
        reader.finish()
    }
}

/// As many numbers as there have to be, none negative.
fn read_numbers(mut reader: Reader<'_>, count: usize) -> Result<Vec<f64>, CodecError> {
    let numbers = reader.f64s()?;
    if numbers.len() != count {
        return Err(reader.error(format!("{} numbers where {count} are needed", numbers.len())));
    }
    reader.finish().map(|()| numbers)
}

impl Core {
    /// Puts the weighted sums of a row into `sums`: to the bit those of the scorer.
    #[inline]
    fn add_up(&mut self, x: &[f64]) {
        let is_dense = self.width <= DENSE_MAX;
        if !is_dense {
            self.active.clear();
            let places = x.iter().enumerate().filter(|(_, x)| **x != 0.0);
            self.active.extend(places.map(|(place, _)| place as u32));
        }
        for (output, (sum, intercept)) in self.sums.iter_mut().zip(&self.intercepts).enumerate() {
            let weights = &self.weights[output * self.width..(output + 1) * self.width];
            let products = if is_dense {
                dot(weights, x)
            } else {
                // Products of 0 would not change a bit of it.
                let products = self
                    .active
                    .iter()
                    .map(|&place| weights[place as usize] * x[place as usize]);
                products.fold(0.0, |sum, product| sum + product)
            };
            *sum = products + intercept;
        }
    }

    /// The sum of squared inputs.
    #[inline]
    fn square(&self, x: &[f64]) -> f64 {
        if self.width <= DENSE_MAX {
            x.iter().map(|x| x * x).sum()
        } else {
            self.active.iter().map(|&place| x[place as usize].powi(2)).sum()
        }
    }

    /// Calls `each` with a weight, its place, and its input, for the inputs of one output that are not 0, or for all.
    #[inline]
    fn each_weight(&mut self, output: usize, x: &[f64], mut each: impl FnMut(&mut f64, usize, f64)) {
        let start = output * self.width;
        let weights = &mut self.weights[start..start + self.width];
        if self.width <= DENSE_MAX {
            for (place, (weight, x)) in weights.iter_mut().zip(x).enumerate() {
                each(weight, start + place, *x);
            }
        } else {
            for &place in &self.active {
                let place = place as usize;
                each(&mut weights[place], start + place, x[place]);
            }
        }
    }

    /// A step along the gradients in `sums`, `step` long for weights and `step * ratio` for intercepts.
    #[inline]
    fn step(&mut self, x: &[f64], step: f64, ratio: f64, l2: f64) {
        for output in 0..self.sums.len() {
            let along = step * self.sums[output];
            if l2 == 0.0 {
                self.each_weight(output, x, |weight, _, x| *weight -= along * x);
            } else {
                let shrink = step * l2;
                self.each_weight(output, x, |weight, _, x| {
                    let less = if x == 0.0 { 0.0 } else { shrink * *weight };
                    *weight -= along * x + less;
                });
            }
            self.intercepts[output] -= along * ratio;
        }
    }

    /// A step of AdaGrad along the gradients in `sums`, none of them longer than `rate`.
    fn step_adaptive(&mut self, x: &[f64], rate: f64, row_weight: f64, l2: f64) {
        let mut squares = std::mem::take(&mut self.squares);
        let mut step = |weight: &mut f64, place: usize, gradient: f64| {
            squares[place] = (squares[place] + gradient * gradient).min(SQUARES_MAX);
            *weight -= rate * gradient / (squares[place].sqrt() + SQUARES_ROOT_MIN);
        };
        for output in 0..self.sums.len() {
            let slope = row_weight * self.sums[output];
            self.each_weight(output, x, |weight, place, x| {
                if x != 0.0 {
                    let gradient = slope * x + row_weight * l2 * *weight;
                    step(weight, place, gradient);
                }
            });
            let place = self.weights.len() + output;
            step(&mut self.intercepts[output], place, slope);
        }
        self.squares = squares;
    }
}

impl<O: Objective> Learner for Sgd<O> {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let Self {
            objective,
            settings,
            encoder,
            blocks,
            core,
        } = self;
        let Settings { rate, schedule, l2 } = *settings;
        blocks.walk(objective.task(), encoder, rows, |row: Encoded<'_>| {
            core.add_up(row.x);
            objective.scores(&mut core.sums);
            if let Some(predictions) = predictions.as_deref_mut() {
                predictions.extend_from_slice(&core.sums);
            }
            if !row.usable {
                return;
            }
            objective.gradients(&mut core.sums, row.label);
            let row_weight = row.weight.min(WEIGHT_MAX);
            if schedule == Schedule::AdaGrad {
                core.step_adaptive(row.x, rate * objective.unit(), row_weight, l2);
            } else {
                let base = match schedule {
                    Schedule::InverseScaling => rate / (1.0 + core.seen as f64).sqrt(),
                    _ => rate,
                };
                let ratio = objective.intercept_ratio(base, core.seen);
                let (rate, square) = (base * row_weight, ratio + core.square(row.x));
                let step = rate / (1.0 + rate * square * O::CURVATURE_MAX);
                core.step(row.x, step, ratio, l2);
            }
            objective.note(row.label, row_weight);
            core.seen += 1;
        });
    }

    fn seen(&self) -> u64 {
        self.core.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        if self.core.seen == 0 {
            return None;
        }
        let scorer = self
            .objective
            .scorer(self.core.weights.clone(), self.core.intercepts.clone());
        Model::new(self.objective.task(), self.encoder.publish(), Arc::new(scorer))
            .ok()
            .map(Arc::new)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + bytes_of(self.core.intercepts.len(), self.settings, &self.encoder)
    }
}

impl<O: Objective> State for Sgd<O> {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        let core = &self.core;
        chunks.chunk("weights", core.seen, &mut |out| {
            out.put_u64(core.seen);
            core.intercepts.iter().for_each(|intercept| out.put_f64(*intercept));
            out.put_f64s(&core.weights);
        });
        for (name, numbers) in [("squares", &core.squares[..]), ("labels", self.objective.numbers())] {
            if !numbers.is_empty() {
                chunks.chunk(name, core.seen, &mut |out| out.put_f64s(numbers));
            }
        }
        self.encoder.save(&mut Within::new(ENCODER, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let read = self.read_weights(open(chunks, "weights")?);
        read.map_err(|error| StateError::of("weights", error))?;
        let numbers = |name: &str, count: usize| {
            if count == 0 {
                return Ok(Vec::new());
            }
            read_numbers(open(chunks, name)?, count).map_err(|error| StateError::of(name, error))
        };
        let squares = numbers("squares", self.core.squares.len())?;
        if squares.iter().any(|square| *square < 0.0) {
            return Err(StateError::of("squares", "a sum of squares is negative"));
        }
        self.core.squares = squares;
        let noted = numbers("labels", self.objective.numbers().len())?;
        self.objective.restore(&noted);
        self.encoder
            .restore(&WithinSource::new(ENCODER, chunks))
            .map_err(|error| error.within(ENCODER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};

    #[test]
    fn first_steps_are_those_of_the_formulas() {
        // Inputs as they are: 2, then 1; labels 1, then 0.
        let rows = Plain::new(&[&[2.0, 1.0]], &[1.0, 0.0]);
        let mut scores = Vec::new();
        let mut sgd = learner("sgd-logistic", "rate = 0.1", Task::Binary, &rows);
        sgd.learn(rows.labelled(), Some(&mut scores));
        let step: f64 = 0.1 / (1.0 + 0.1 * (1.0 + 4.0) * 0.25);
        let (weight, intercept) = (step * 0.5 * 2.0, step * 0.5);
        assert!(scores[0] == 0.5 && (scores[1] - 1.0 / (1.0 + (-weight - intercept).exp())).abs() < 1e-15);
        let mut sgd = learner("sgd-logistic", "rate_schedule = 'adagrad'", Task::Binary, &rows);
        sgd.learn(rows.labelled(), Some(&mut scores));
        // Weight and intercept move by the whole rate, 0.1.
        assert!((scores[1] - 1.0 / (1.0 + (-0.2_f64).exp())).abs() < 1e-9);
        let mut sgd = learner("sgd-linear", "rate = 0.1", Task::Regression, &rows);
        sgd.learn(rows.labelled(), Some(&mut scores));
        // The intercept's rate is 1, ten times that of the weight.
        let step = 0.1 / (1.0 + 0.1 * (10.0 + 4.0));
        assert!(scores[0] == 0.0 && (scores[1] - step * (10.0 + 2.0)).abs() < 1e-15);
    }

    #[test]
    fn a_rate_that_falls_or_adapts_settles_nearer_to_the_truth() {
        // The label depends on the first input, with noise.
        let rows = Plain::random(4_000, 3, 31, |x, noise| f64::from(u8::from(2.0 * x[0] + noise > 0.0)));
        let settled = |text: &str| {
            let mut sgd = learner("sgd-logistic", text, Task::Binary, &rows);
            let mut scores = Vec::new();
            for _ in 0..5 {
                sgd.learn(rows.labelled(), Some(&mut scores));
            }
            let losses = scores
                .iter()
                .zip(rows.labels())
                .map(|(p, y)| crate::metrics::binary::log_loss(*p, *y));
            losses.sum::<f64>() / scores.len() as f64
        };
        let constant = settled("rate = 1.0");
        for schedule in ["inverse-scaling", "adagrad"] {
            let found = settled(&format!("rate = 1.0\nrate_schedule = '{schedule}'"));
            assert!(found < constant, "{schedule}: {found}, constant {constant}");
        }
    }

    #[test]
    fn many_inputs_are_learned_as_few() {
        // 65 inputs, of which all but three are always 0, against the three: other code, the same bits.
        let few = Plain::random(500, 3, 32, |x, noise| f64::from(u8::from(x[0] - x[1] + noise > 0.0)));
        let many = few.widened(DENSE_MAX + 1);
        for text in ["l2 = 0.0", "l2 = 0.01", "rate_schedule = 'adagrad'\nl2 = 0.01"] {
            let scores = |rows: &Plain| {
                let mut scores = Vec::new();
                learner("sgd-logistic", text, Task::Binary, rows).learn(rows.labelled(), Some(&mut scores));
                scores
            };
            assert_eq!(scores(&few), scores(&many), "{text}");
        }
    }
}
