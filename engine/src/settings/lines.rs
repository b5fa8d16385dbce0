//! Which learners make models: the one of `[model]` and, beside it, at most one challenger. One of them may be a batch
//! learner, that is fitted by jobs, and one an online learner, that learns from every row.

use std::time::Duration;

use driftmill_config::{Component, Document, Field, Kind, Need, Problems, Section, find, unknown_name};
use driftmill_models::contracts::{Learner, LearnerContext, Task};
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::learners::{BATCH_LEARNERS, LEARNERS};

use super::learn::millis;
use crate::trainer::toml_of;

/// Labelled rows after which an online challenger is compared with the live version, unless configured.
const ROWS_MIN: u64 = 1_000;

/// What makes a line of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Training jobs.
    Batch,
    /// The online learner.
    Online,
}

/// A learner by name with its own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerSpec {
    /// Its name.
    pub learner: String,
    /// Its own keys, as TOML.
    pub config: String,
}

/// An online learner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineSettings {
    /// The learner.
    pub spec: LearnerSpec,
    /// Least event time between two snapshots of it that go live, in milliseconds.
    pub publish_every_ms: i64,
    /// Labelled rows that it learns from before it is compared with anything.
    pub rows_min: u64,
}

/// The learners of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// The one that jobs fit.
    pub batch: Option<LearnerSpec>,
    /// The one that learns from every row.
    pub online: Option<OnlineSettings>,
    /// Which of them makes the first model.
    pub first: Line,
}

impl OnlineSettings {
    /// The learner before its first row. `None` only where these settings were not checked.
    #[must_use]
    pub fn build(&self, encoder: &ColumnsEncoder, task: Task, seed: u64) -> Option<Box<dyn Learner>> {
        let kind = find(LEARNERS, &self.spec.learner).ok()?;
        let document = Document::parse(&self.spec.learner, &self.spec.config, &|_| None).ok()?;
        let mut problems = document.problems();
        let context = LearnerContext::new(task, encoder, seed);
        kind.build(&document.root(), &context, &mut problems)
    }
}

/// `[[challenger]]`, beside the learners' own keys.
pub(super) static CHALLENGER: &[Field] = &[
    super::fields::field(
        "learner",
        Kind::String,
        Need::Required,
        "A learner of the other kind than that of [model]: an online one learns in shadow beside a batch one, and the other way round.",
    ),
    super::fields::field(
        "rows_min",
        Kind::Integer,
        Need::Optional("1000"),
        "Labelled rows that an online challenger learns from before it is compared with the live version.",
    ),
    PUBLISH_EVERY,
];

/// For an online learner, in `[model]` and `[[challenger]]`.
pub(super) const PUBLISH_EVERY: Field = super::fields::field(
    "publish_every",
    Kind::Duration,
    Need::Optional("\"1 min\""),
    "Least event time between two snapshots of an online learner that go live.",
);

/// The keys of every learner.
pub(super) fn learner_fields() -> Vec<&'static [Field]> {
    let batch = BATCH_LEARNERS.iter().map(|kind| kind.fields());
    batch.chain(LEARNERS.iter().map(|kind| kind.fields())).collect()
}

/// What learners are built for.
pub(super) struct LinesReader<'a> {
    pub(super) task: Task,
    pub(super) encoder: &'a ColumnsEncoder,
    pub(super) seed: u64,
}

/// One learner, checked.
struct Checked {
    line: Line,
    spec: LearnerSpec,
    publish_every_ms: i64,
}

impl LinesReader<'_> {
    /// Reads `[model]` and `[[challenger]]`.
    pub(super) fn read(
        &self,
        root: &Section<'_>,
        bootstrap_rows: Option<usize>,
        problems: &mut Problems,
    ) -> Option<Lines> {
        let model = root.table("model", problems);
        let challengers = root.tables("challenger", problems);
        let name = model.get_or("learner", usual_learner(root).to_owned(), problems);
        let first = self.learner(&model, &name, super::fields::MODEL, problems);
        if let Some(second) = challengers.get(1) {
            problems.push(second.span(), "a second challenger is not yet supported", None);
        }
        let challenger = challengers.first().and_then(|section| {
            let name: String = section.require("learner", problems)?;
            let checked = self.learner(section, &name, CHALLENGER, problems)?;
            Some((checked, section))
        });
        let first = first?;
        let line = first.line;
        let rows_min = bootstrap_rows.map_or(ROWS_MIN, |rows| rows as u64);
        let mut lines = Lines {
            batch: None,
            online: None,
            first: line,
        };
        lines.add(first, rows_min);
        if let Some((checked, section)) = challenger {
            if checked.line == line {
                let (kind, others) = match line {
                    Line::Batch => ("batch", names(LEARNERS)),
                    Line::Online => ("online", names(BATCH_LEARNERS)),
                };
                let message = format!("two {kind} learners beside each other are not yet supported");
                problems.push(
                    section.key_span("learner"),
                    message,
                    Some(format!("use one of {others}")),
                );
                return None;
            }
            if checked.line == Line::Batch && section.has("rows_min") {
                let help = "`rows_min` of [retrain] says when a batch learner is fitted".to_owned();
                problems.push(
                    section.name_span("rows_min"),
                    "this learner is fitted by jobs",
                    Some(help),
                );
            }
            lines.add(checked, section.get_or("rows_min", ROWS_MIN, problems));
        }
        Some(lines)
    }

    fn learner(&self, section: &Section<'_>, name: &str, own: &[Field], problems: &mut Problems) -> Option<Checked> {
        let context = LearnerContext::new(self.task, self.encoder, self.seed);
        let (line, fields) = if let Ok(kind) = find(BATCH_LEARNERS, name) {
            kind.build(section, &context, problems)?;
            (Line::Batch, kind.fields())
        } else if let Ok(kind) = find(LEARNERS, name) {
            kind.build(section, &context, problems)?;
            (Line::Online, kind.fields())
        } else {
            let batch = BATCH_LEARNERS.iter().map(|kind| kind.name());
            let all: Vec<&str> = batch.chain(LEARNERS.iter().map(|kind| kind.name())).collect();
            problems.push(section.key_span("learner"), unknown_name("learner", name, &all), None);
            return None;
        };
        let is_own = |key: &str| fields.iter().any(|field| field.name == key);
        for (key, span) in section.entries() {
            if !is_own(key) && own.iter().all(|field| field.name != key) {
                problems.push(span, format!("`{key}` is a key of another learner than `{name}`"), None);
            }
        }
        if line == Line::Batch && section.has("publish_every") {
            let help = "leave it out, or name an online learner".to_owned();
            problems.push(
                section.name_span("publish_every"),
                format!("`{name}` is fitted by jobs and publishes nothing between them"),
                Some(help),
            );
        }
        let every = section.get_or("publish_every", Duration::from_secs(60), problems);
        Some(Checked {
            line,
            spec: LearnerSpec {
                learner: name.to_owned(),
                config: toml_of(section, &|key| is_own(key) && key != "learner"),
            },
            publish_every_ms: millis(Some(every)),
        })
    }
}

/// The learner where none is named: one that tries several and needs no tuning; one that jobs fit where `[retrain]` says
/// when. Nothing that may be taken out of a file later decides it: another learner begins anew.
fn usual_learner(root: &Section<'_>) -> &'static str {
    if root.has("retrain") {
        "logistic-regression"
    } else {
        "auto"
    }
}

impl Lines {
    fn add(&mut self, checked: Checked, rows_min: u64) {
        match checked.line {
            Line::Batch => self.batch = Some(checked.spec),
            Line::Online => {
                self.online = Some(OnlineSettings {
                    spec: checked.spec,
                    publish_every_ms: checked.publish_every_ms,
                    rows_min,
                });
            }
        }
    }
}

fn names<K: Component + ?Sized>(list: &[&K]) -> String {
    let names: Vec<String> = list.iter().map(|kind| format!("`{}`", kind.name())).collect();
    names.join(", ")
}
