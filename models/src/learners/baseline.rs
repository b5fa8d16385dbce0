//! What the baselines share: learners that look at no feature and only remember something of the labels.

use std::sync::Arc;

use driftmill_config::{Problems, Section};

use super::settings::refuse_task;
use super::usable;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Form, Labelled, Learner, LearnerContext, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::scorers::constant::Constant;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Labels beyond are taken for it, so that their differences stay finite.
const MAGNITUDE_MAX: f64 = 1e100;
/// A row counts at most this often: sums of weights stay finite.
const WEIGHT_MAX: f64 = 1e6;

/// Something of the labels so far.
pub(super) trait Memory: Send {
    /// Has seen nothing.
    fn new(task: Task) -> Self;
    /// Takes a usable label. A value lies from -1e100 to 1e100.
    fn update(&mut self, label: f64, weight: f64);
    /// Appends [`Task::outputs`] scores.
    fn scores(&self, out: &mut Vec<f64>);
    /// Its numbers, for the state.
    fn numbers(&self) -> &[f64];
    /// The same, to be restored.
    ///
    /// # Errors
    /// Numbers that it cannot have come to.
    fn restore(&mut self, numbers: Vec<f64>) -> Result<(), &'static str>;
}

/// A learner that predicts from labels alone.
pub(super) struct Baseline<M> {
    task: Task,
    /// Learns nothing, as nothing is encoded.
    encoder: Arc<ColumnsEncoder>,
    memory: M,
    seen: u64,
}

impl<M: Memory + 'static> Baseline<M> {
    /// Builds it for any task with labels.
    pub(super) fn build(
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        if context.task == Task::Anomaly {
            refuse_task(section, "a baseline learns from labels", problems);
            return None;
        }
        Some(Box::new(Self {
            task: context.task,
            encoder: context.encoder(Form::Native, section, problems)?.publish(),
            memory: M::new(context.task),
            seen: 0,
        }))
    }
}

impl<M: Memory> Learner for Baseline<M> {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        for (&label, &weight) in rows.labels.iter().zip(rows.weights).take(rows.frame.rows()) {
            if let Some(predictions) = predictions.as_deref_mut() {
                self.memory.scores(predictions);
            }
            if usable(self.task, label, weight) {
                let label = label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
                self.memory.update(label, weight.min(WEIGHT_MAX));
                self.seen += 1;
            }
        }
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        if self.seen == 0 {
            return None;
        }
        let mut scores = Vec::new();
        self.memory.scores(&mut scores);
        let scorer = Constant::new(self.encoder.width(), scores);
        let model = Model::new(self.task, Arc::clone(&self.encoder), Arc::new(scorer));
        model.ok().map(Arc::new)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(self.memory.numbers())
    }
}

impl<M: Memory> State for Baseline<M> {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("labels", self.seen, &mut |out| {
            out.put_u64(self.seen);
            out.put_f64s(self.memory.numbers());
        });
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let reader = open(chunks, "labels")?;
        self.read(reader).map_err(|error| StateError::of("labels", error))
    }
}

impl<M: Memory> Baseline<M> {
    fn read(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        let (seen, numbers) = (reader.u64()?, reader.f64s()?);
        if numbers.len() != self.memory.numbers().len() {
            return Err(reader.error("these are the labels of another task"));
        }
        self.memory.restore(numbers).map_err(|what| reader.error(what))?;
        self.seen = seen;
        reader.finish()
    }
}

/// What both baselines are tested with.
#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The scores before each label of weight 1, and after the last.
    pub(crate) fn walk<M: Memory>(task: Task, labels: &[f64]) -> Vec<Vec<f64>> {
        let mut memory = M::new(task);
        let scores = |memory: &M| {
            let mut out = Vec::new();
            memory.scores(&mut out);
            out
        };
        let mut all = Vec::new();
        for label in labels {
            all.push(scores(&memory));
            memory.update(*label, 1.0);
        }
        all.push(scores(&memory));
        all
    }
}
