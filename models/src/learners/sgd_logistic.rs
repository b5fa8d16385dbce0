//! `sgd-logistic`: logistic regression by stochastic gradient descent, row by row.
//!
//! A step is the gradient's, divided by what keeps it from overshooting (the first-order form of implicit updates;
//! Toulis and Airoldi, "Asymptotic and finite-sample properties of estimators based on stochastic gradients", Annals
//! of Statistics 2017). With standardised inputs it is plain SGD; with any weight and any input it stays finite.

use std::sync::Arc;

use driftmill_config::{ByteSize, Component, Field, Kind, Need, Problems, Section};

use super::rows::usable;
use crate::codec::{CodecError, Put};
use crate::contracts::{Form, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::scorers::linear::{Linear, Link, logistic};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Prefix of the encoder's chunks.
const ENCODER: &str = "encoder/";
/// Numbers that are encoded at a time, and rows at most.
const BLOCK_NUMBERS: usize = 4096;
const BLOCK_ROWS: usize = 128;
/// Largest curvature of the logistic loss along its sum.
const CURVATURE_MAX: f64 = 0.25;

/// The entry of the list.
pub(crate) struct SgdLogisticKind;

impl Component for SgdLogisticKind {
    fn name(&self) -> &'static str {
        "sgd-logistic"
    }

    fn summary(&self) -> &'static str {
        "Logistic regression that learns from each row once, by stochastic gradient descent with a constant rate, so \
         that it follows a changing world. Binary tasks."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "learner",
                kind: Kind::OneOf(&["sgd-logistic"]),
                need: Need::Optional("the learner is named elsewhere"),
                doc: "The learner's name.",
            },
            Field {
                name: "rate",
                kind: Kind::Float,
                need: Need::Optional("0.01"),
                doc: "Step size, above 0 and at most 10. A larger one follows changes faster and is noisier.",
            },
            Field {
                name: "l2",
                kind: Kind::Float,
                need: Need::Optional("0"),
                doc: "Shrinks the weight of every input that is not 0 by `rate * l2` of itself at each row; from 0 to 1.",
            },
            Field {
                name: "memory_max",
                kind: Kind::Bytes,
                need: Need::Optional("`\"64 MiB\"`"),
                doc: "Memory that weights and encoders may come to use; checked at start, since the width is fixed.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "learner = \"sgd-logistic\"\nrate = 0.01\nl2 = 0.0\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for SgdLogisticKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let rate = section.get_or("rate", 0.01, problems);
        let l2 = section.get_or("l2", 0.0, problems);
        let memory_max = section.get_or("memory_max", ByteSize(context.memory_max as u64), problems);
        if !(rate > 0.0 && rate <= 10.0) {
            problems.push(
                section.key_span("rate"),
                "`rate` must be above 0 and at most 10".to_owned(),
                None,
            );
        }
        if !(0.0..=1.0).contains(&l2) {
            problems.push(section.key_span("l2"), "`l2` must be from 0 to 1".to_owned(), None);
        }
        if context.task != Task::Binary {
            let help = "`sgd-logistic` learns binary tasks".to_owned();
            problems.push(
                section.span(),
                "this learner cannot learn this task".to_owned(),
                Some(help),
            );
        }
        let learner = SgdLogistic::new(context.encoder(Form::Scaled, section, problems)?, rate, l2);
        if learner.bytes() as u64 > memory_max.0 {
            let message = format!(
                "`sgd-logistic` needs {} bytes for these features, more than `memory_max`",
                learner.bytes()
            );
            let help = "raise `memory_max`, or lower `categories_max` and `buckets`".to_owned();
            problems.push(section.key_span("memory_max"), message, Some(help));
        }
        (problems.len() == before).then(|| Box::new(learner) as Box<dyn Learner>)
    }
}

/// Weights and encoder.
pub(crate) struct SgdLogistic {
    rate: f64,
    l2: f64,
    encoder: ColumnsEncoder,
    weights: Vec<f64>,
    intercept: f64,
    seen: u64,
    /// A few encoded rows.
    block: Matrix,
    /// Places in the present row that are not 0.
    active: Vec<u32>,
}

impl SgdLogistic {
    /// Has learned nothing.
    pub(crate) fn new(encoder: ColumnsEncoder, rate: f64, l2: f64) -> Self {
        let width = encoder.width();
        Self {
            rate,
            l2,
            encoder,
            weights: vec![0.0; width],
            intercept: 0.0,
            seen: 0,
            block: Matrix::new(),
            active: Vec::with_capacity(width),
        }
    }

    /// Rows that are encoded at a time.
    fn block_rows(&self) -> usize {
        (BLOCK_NUMBERS / self.weights.len().max(1)).clamp(1, BLOCK_ROWS)
    }

    /// Finds the places that are not 0.
    fn activate(&mut self, row: &[f64]) {
        self.active.clear();
        let places = row.iter().enumerate().filter(|(_, x)| **x != 0.0);
        self.active.extend(places.map(|(place, _)| place as u32));
    }

    /// The probability of class 1: to the bit what the published model would say.
    fn predict(&self, row: &[f64]) -> f64 {
        let sum = self.active.iter().fold(0.0, |sum, &place| {
            let place = place as usize;
            sum + self.weights[place] * row[place]
        });
        logistic(sum + self.intercept)
    }

    /// Takes a step.
    fn step(&mut self, row: &[f64], prediction: f64, label: f64, weight: f64) {
        let squares = self.active.iter().map(|&place| row[place as usize].powi(2));
        let square: f64 = 1.0 + squares.sum::<f64>();
        let rate = self.rate * weight.min(1e6);
        let step = rate / (1.0 + rate * square * CURVATURE_MAX);
        let error = prediction - label;
        for &place in &self.active {
            let place = place as usize;
            self.weights[place] -= step * error * row[place] + step * self.l2 * self.weights[place];
        }
        self.intercept -= step * error;
        self.seen += 1;
    }

    /// Reads the chunk of the weights.
    fn read_weights(&mut self, reader: &mut crate::codec::Reader<'_>) -> Result<(), CodecError> {
        let (seen, intercept, weights) = (reader.u64()?, reader.finite()?, reader.f64s()?);
        if weights.len() != self.weights.len() {
            let (given, wanted) = (weights.len(), self.weights.len());
            return Err(reader.error(format!("{given} weights where the features make {wanted} inputs")));
        }
        (self.seen, self.intercept, self.weights) = (seen, intercept, weights);
        reader.clone().finish()
    }
}

impl Learner for SgdLogistic {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let pairs = rows.labels.iter().zip(rows.weights).take(rows.frame.rows());
        let learn: Vec<bool> = pairs.map(|(y, w)| usable(Task::Binary, *y, *w)).collect();
        let mut block = std::mem::take(&mut self.block);
        for start in (0..learn.len()).step_by(self.block_rows()) {
            let places = start..learn.len().min(start + self.block_rows());
            block.reset(places.len(), self.weights.len());
            // Encoders know nothing of the weights: a block is encoded as it would be row by row.
            self.encoder.encode_then_observe(
                rows.frame,
                places.clone(),
                rows.dictionaries,
                rows.labels,
                &learn[places.clone()],
                block.values_mut(),
            );
            for (place, row) in places.zip(block.iter()) {
                self.activate(row);
                let prediction = self.predict(row);
                if let Some(predictions) = predictions.as_deref_mut() {
                    predictions.push(prediction);
                }
                if learn[place] {
                    self.step(row, prediction, rows.labels[place], rows.weights[place]);
                }
            }
        }
        self.block = block;
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        if self.seen == 0 {
            return None;
        }
        let scorer = Linear::single(Link::Logistic, self.weights.clone(), self.intercept);
        Model::new(Task::Binary, self.encoder.publish(), Arc::new(scorer))
            .ok()
            .map(Arc::new)
    }

    fn bytes(&self) -> usize {
        let width = self.weights.len();
        size_of::<Self>() + width * (8 + 4 + 8 * self.block_rows()) + self.encoder.bytes_max()
    }
}

impl State for SgdLogistic {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("weights", self.seen, &mut |out| {
            out.put_u64(self.seen);
            out.put_f64(self.intercept);
            out.put_f64s(&self.weights);
        });
        self.encoder.save(&mut Within::new(ENCODER, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut reader = open(chunks, "weights")?;
        self.read_weights(&mut reader)
            .map_err(|error| StateError::of("weights", error))?;
        self.encoder
            .restore(&WithinSource::new(ENCODER, chunks))
            .map_err(|error| error.within(ENCODER))
    }
}
