//! A learner from its section.

use driftmill_config::{ByteSize, Document, find};
use driftmill_models::contracts::{Learner, LearnerContext, Task};
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::{ColumnKind, ColumnSpec};
use driftmill_models::learners::LEARNERS;

/// The tasks that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TaskName {
    Binary,
    Multiclass,
    Regression,
    Anomaly,
}

impl TaskName {
    /// How a task is called.
    pub(crate) fn of(task: Task) -> &'static str {
        match task {
            Task::Binary => "binary",
            Task::Multiclass { .. } => "multiclass",
            Task::Regression => "regression",
            Task::Anomaly => "anomaly",
        }
    }
}

/// What a learner is built from, but for its seed.
pub(crate) struct Setup<'a> {
    pub(crate) section: &'a str,
    pub(crate) task: Task,
    pub(crate) columns: &'a [ColumnSpec],
}

/// A learner and the bytes that it may use.
pub(crate) struct Built {
    pub(crate) learner: Box<dyn Learner>,
    pub(crate) budget: u64,
}

impl Setup<'_> {
    /// The learner's name.
    pub(crate) fn name(&self) -> Result<String, String> {
        let document = self.document()?;
        let name = document.root().get("learner", &mut document.problems());
        name.ok_or_else(|| format!("`{}` names no learner", self.section))
    }

    /// Why this learner cannot be built.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.build(1).err()
    }

    /// The learner. Text is given to it as a code where it takes codes, else as one input for each value.
    ///
    /// # Errors
    /// The section is wrong, or the learner does not know the task.
    pub(crate) fn build(&self, seed: u64) -> Result<Built, String> {
        self.build_with("ordinal", seed)
            .or_else(|_| self.build_with("one-hot", seed))
    }

    fn build_with(&self, text: &str, seed: u64) -> Result<Built, String> {
        let document = self.document()?;
        let mut problems = document.problems();
        let root = document.root();
        let kind = find(LEARNERS, &self.name()?)?;
        root.check(kind.fields(), &mut problems);
        let texts = self.columns.iter().filter(|column| column.kind == ColumnKind::Category);
        let columns: String = texts
            .map(|column| format!("{} = {{ encode = \"{text}\" }}\n", column.name))
            .collect();
        let columns = Document::parse("columns", &columns, &|_| None).map_err(|problems| problems.render())?;
        let encoder = ColumnsEncoder::from_config(&columns.root(), self.columns, 0, &mut problems);
        let encoder = encoder.ok_or_else(|| problems.render())?;
        let context = LearnerContext::new(self.task, &encoder, seed);
        let budget = root.get_or("memory_max", ByteSize(context.memory_max as u64), &mut problems);
        kind.build(&root, &context, &mut problems)
            .filter(|_| problems.is_empty())
            .map(|learner| Built {
                learner,
                budget: budget.0,
            })
            .ok_or_else(|| problems.render())
    }

    fn document(&self) -> Result<Document, String> {
        Document::parse("learner", self.section, &|_| None).map_err(|problems| problems.render())
    }
}
