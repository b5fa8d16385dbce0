//! The learner around trees: it encodes rows, and publishes models.

use std::sync::Arc;

use driftmill_config::{ByteSize, Field, Kind, Need, Problems, Section};

use super::TreeSettings;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Form, Input, Labelled, Learner, LearnerContext, Scorer, Task};
use crate::encoders::ColumnsEncoder;
use crate::learners::blocks::Blocks;
use crate::learners::settings::refuse_task;
use crate::model::Model;
use crate::scorers::trees::CLASSES_MAX;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Chunks of the state.
const HEAD: &str = "head";
const GROWN: &str = "grown/";
const ENCODER: &str = "encoder/";

/// What grows from encoded rows: a tree, or an ensemble of trees.
pub(crate) trait Grow: State + Send {
    /// What it learns: a class, or a value.
    type Label: Label;
    /// Writes the probability of each class, or the value, to `out`: to the bit what the scorer that [`Grow::publish`] gives
    /// says.
    fn predict_into(&mut self, row: &[f64], out: &mut [f64]);
    /// Learns from a row; first, if `out` is given, does what [`Grow::predict_into`] does.
    fn learn(&mut self, row: &[f64], label: Self::Label, weight: f64, out: Option<&mut [f64]>);
    /// A scorer over `width` inputs; with `binary` it says only the probability of class 1.
    fn publish(&self, width: usize, binary: bool) -> Result<Arc<dyn Scorer>, String>;
    /// Bytes of memory.
    fn bytes(&self) -> usize;
    /// Tells about itself.
    fn report(&self, each: &mut dyn FnMut(Fact<'_>));
}

/// The form of a usable label.
pub(crate) trait Label {
    /// Of what stands in a training set.
    fn of(label: f64) -> Self;
}

impl Label for usize {
    fn of(label: f64) -> Self {
        label as Self
    }
}

impl Label for f64 {
    fn of(label: f64) -> Self {
        label
    }
}

/// The learner.
pub(crate) struct TreeLearner<G> {
    task: Task,
    encoder: ColumnsEncoder,
    grown: G,
    seen: u64,
    /// Bytes besides what grows.
    overhead: usize,
    blocks: Blocks,
    out: Vec<f64>,
}

/// Classes of a task, if it has classes and trees can tell so many apart.
pub(crate) fn classes_of(task: Task) -> Option<usize> {
    match task {
        Task::Binary => Some(2),
        Task::Multiclass { classes } => Some(classes as usize).filter(|classes| (2..=CLASSES_MAX).contains(classes)),
        Task::Regression | Task::Anomaly => None,
    }
}

/// Numbers that trees say for a row of a task with labels.
fn outputs_of(task: Task) -> Option<usize> {
    match task {
        Task::Regression => Some(1),
        task => classes_of(task),
    }
}

/// The field that every learner of trees has.
pub(crate) const MEMORY_MAX: Field = Field {
    name: "memory_max",
    kind: Kind::Bytes,
    need: Need::Optional("`\"64 MiB\"`"),
    doc: "Memory that trees and encoders may use. Where it is full, leaves that promise little stop growing.",
};

impl<G: Grow> TreeLearner<G> {
    /// Checks task, columns and memory, and builds the learner of classes around what `grow` makes of the settings that are
    /// usual for this task, these inputs and the memory that the encoders leave.
    pub(crate) fn build(
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
        grow: impl FnOnce(TreeSettings, &mut Problems) -> G,
    ) -> Option<Box<dyn Learner>>
    where
        G: 'static,
    {
        let Some(classes) = classes_of(context.task) else {
            let help = "it learns 2 to 65536 classes: binary and multiclass tasks";
            refuse_task(section, help, problems);
            return None;
        };
        Self::build_any(section, context, problems, |inputs, memory_max, problems| {
            grow(TreeSettings::new(classes, inputs, context.seed, memory_max), problems)
        })
    }

    /// The same for every task with labels: `grow` is given the inputs and the bytes that the encoders leave.
    pub(crate) fn build_any(
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
        grow: impl FnOnce(Arc<[Input]>, usize, &mut Problems) -> G,
    ) -> Option<Box<dyn Learner>>
    where
        G: 'static,
    {
        let before = problems.len();
        let memory_max = section.get_or("memory_max", ByteSize(context.memory_max as u64), problems);
        let memory_max = usize::try_from(memory_max.0).unwrap_or(usize::MAX);
        let Some(outputs) = outputs_of(context.task) else {
            refuse_task(
                section,
                "it learns binary, multiclass (2 to 65536 classes) and regression tasks",
                problems,
            );
            return None;
        };
        let encoder = context.encoder(Form::Native, section, problems)?;
        let overhead = overhead::<G>(&encoder, outputs);
        let budget = memory_max.saturating_sub(overhead);
        let grown = grow(encoder.inputs().collect(), budget, problems);
        check_budget(grown.bytes(), budget, overhead, section, problems);
        let learner = Self {
            task: context.task,
            encoder,
            grown,
            seen: 0,
            overhead,
            blocks: Blocks::default(),
            out: vec![0.0; outputs],
        };
        (problems.len() == before).then(|| Box::new(learner) as Box<dyn Learner>)
    }
}

/// Checks that what grows has room for its first row.
fn check_budget(bytes: usize, budget: usize, overhead: usize, section: &Section<'_>, problems: &mut Problems) {
    if bytes > budget {
        let least = bytes.saturating_add(overhead);
        let message = format!("this learner needs {least} bytes for these features, more than `memory_max`");
        let help = "raise `memory_max`, or lower `categories_max` and `buckets`".to_owned();
        problems.push(section.key_span("memory_max"), message, Some(help));
    }
}

/// Bytes besides what grows.
fn overhead<G>(encoder: &ColumnsEncoder, outputs: usize) -> usize {
    let width = encoder.width();
    size_of::<TreeLearner<G>>() + 8 * outputs + Blocks::bytes_max(width) + encoder.bytes_max()
}

impl<G: Grow> TreeLearner<G> {
    fn read_seen(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.seen = reader.u64()?;
        reader.finish()
    }
}

/// The scores of a task in the probabilities of its classes, or in the value.
fn said(task: Task, out: &[f64]) -> &[f64] {
    if task == Task::Binary { &out[1..] } else { out }
}

impl<G: Grow> Learner for TreeLearner<G> {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let Self {
            task,
            encoder,
            grown,
            seen,
            blocks,
            out,
            ..
        } = self;
        blocks.walk(*task, encoder, rows, |row| {
            let label = G::Label::of(row.label);
            match (row.usable, &mut predictions) {
                (true, None) => grown.learn(row.x, label, row.weight, None),
                (true, Some(predictions)) => {
                    grown.learn(row.x, label, row.weight, Some(out));
                    predictions.extend_from_slice(said(*task, out));
                }
                (false, None) => {}
                (false, Some(predictions)) => {
                    grown.predict_into(row.x, out);
                    predictions.extend_from_slice(said(*task, out));
                }
            }
            *seen += u64::from(row.usable);
        });
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        if self.seen == 0 {
            return None;
        }
        let scorer = self
            .grown
            .publish(self.encoder.width(), self.task == Task::Binary)
            .ok()?;
        let model = Model::new(self.task, self.encoder.publish(), scorer);
        model.ok().map(Arc::new)
    }

    fn bytes(&self) -> usize {
        self.overhead + self.grown.bytes()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        self.grown.report(each);
    }
}

impl<G: Grow> State for TreeLearner<G> {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.seen, &mut |out| out.put_u64(self.seen));
        self.grown.save(&mut Within::new(GROWN, chunks));
        self.encoder.save(&mut Within::new(ENCODER, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.read_seen(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        self.grown
            .restore(&WithinSource::new(GROWN, chunks))
            .map_err(|error| error.within(GROWN))?;
        self.encoder
            .restore(&WithinSource::new(ENCODER, chunks))
            .map_err(|error| error.within(ENCODER))
    }
}
