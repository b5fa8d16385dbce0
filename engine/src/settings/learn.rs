//! The sections of the learn half: labels, quality rules, buffer, drift, retraining, gate.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use driftmill_config::{ByteSize, Document, Problems, Section, find, nearest};
use driftmill_connectors::{Codec, OpenSource, SOURCES, open_codec, parse_schema};
use driftmill_models::contracts::{BuildContext, Task};
use driftmill_models::detectors::{DETECTORS, Detector};
use driftmill_models::frame::{ColumnKind, ColumnSpec};

use super::columns::{Columns, Role};
use super::lines::{Line, Lines, LinesReader};
use crate::labels::Missing;
use crate::quarantine::Rule;
use crate::trainer::toml_of;

/// Everything that decides about the learn half's state.
#[derive(Debug, Clone)]
pub struct LearnSettings {
    /// Labels.
    pub labels: LabelSettings,
    /// Rules before the buffer.
    pub rules: Vec<Rule>,
    /// Most rows in the buffer.
    pub buffer_rows_max: usize,
    /// Most bytes in the buffer.
    pub buffer_bytes_max: usize,
    /// Detectors.
    pub drifts: Vec<DriftSettings>,
    /// The learners that make models.
    pub lines: Lines,
    /// The encoders of the columns, as TOML.
    pub encoders: String,
    /// Labelled rows that the first model is fitted on; none when it is brought along.
    pub bootstrap_rows: Option<usize>,
    /// Retraining.
    pub retrain: Option<RetrainSettings>,
    /// The gate.
    pub gate: GateSettings,
}

/// `[labels]`
#[derive(Debug, Clone)]
pub struct LabelSettings {
    /// Where they come from.
    pub from: LabelsFrom,
    /// How long after its own time a row may get its label, in milliseconds.
    pub horizon_ms: i64,
    /// What becomes of rows without one.
    pub missing: Missing,
    /// Bytes of waiting rows.
    pub bytes_max: usize,
}

/// Where labels come from.
#[derive(Debug, Clone)]
pub enum LabelsFrom {
    /// Columns of the features SQL.
    Columns {
        /// Position of the label.
        label: usize,
        /// Position of the time at which it became known; the row's own time without it.
        available_at: Option<usize>,
    },
    /// Another topic.
    Topic {
        /// Columns read: key, label and, where one is named, time.
        schema: SchemaRef,
        /// The codec.
        codec: Arc<dyn Codec>,
        /// Column that names the row.
        key: String,
        /// Column of the label.
        label: String,
        /// Column with the time at which it became known; the record's timestamp without it.
        time: Option<String>,
    },
}

/// What an alarm leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is shown.
    Warn,
    /// A model is trained on what came after the change.
    Retrain,
}

/// `[[drift]]`
#[derive(Debug, Clone)]
pub struct DriftSettings {
    /// Its name.
    pub name: String,
    /// Whether it watches the loss of the live version; the features otherwise.
    pub on_loss: bool,
    /// Name of the detector.
    pub detector: String,
    /// The detector's own keys, as TOML.
    pub config: String,
    /// What an alarm leads to.
    pub action: Action,
}

/// `[retrain]`
#[derive(Debug, Clone, Copy)]
pub struct RetrainSettings {
    /// Rows after the change that the first candidate needs; every further one needs four times as many.
    pub rows_min: usize,
    /// Least event time between two jobs, in milliseconds.
    pub cooldown_ms: i64,
    /// Event time between scheduled jobs, in milliseconds.
    pub every_ms: Option<i64>,
}

/// `[gate]`
#[derive(Debug, Clone, Copy)]
pub struct GateSettings {
    /// Error that the gate may make in its life for one champion.
    pub alpha: f64,
    /// Length of a block of prediction time, in milliseconds.
    pub block_ms: i64,
    /// Gain that must be shown, in Brier loss.
    pub gain_min: f64,
    /// Least positives.
    pub positives_min: u64,
    /// Age in blocks at which a candidate is rejected.
    pub age_blocks_max: u64,
}

/// What is read from the sections.
pub(super) struct Read<'a, 'd> {
    pub(super) root: Section<'d>,
    pub(super) columns: &'a Columns,
    pub(super) output: &'a SchemaRef,
    pub(super) task: Task,
    pub(super) seed: u64,
    /// Whether a first model is brought along.
    pub(super) initial: bool,
}

impl<'d> Read<'_, 'd> {
    /// Opens the labels' own source, if they have one.
    pub(super) fn source(root: &Section<'d>, pipeline: &str, problems: &mut Problems) -> Option<Box<dyn OpenSource>> {
        let labels = root.table("labels", problems);
        let name: String = labels.get("connector", problems)?;
        match find(SOURCES, &name) {
            Ok(kind) => {
                let source = root.table("source", problems);
                kind.open(&labels, &source, &format!("{pipeline}-labels"), problems)
            }
            Err(message) => {
                problems.push(labels.key_span("connector"), message, None);
                None
            }
        }
    }

    pub(super) fn read(&self, problems: &mut Problems) -> Option<LearnSettings> {
        let [labels, buffer, retrain, gate, model, features] =
            ["labels", "buffer", "retrain", "gate", "model", "features"].map(|name| self.root.table(name, problems));
        if self.task != Task::Binary {
            let help = "write `task = \"binary\"`, or leave [labels] out".to_owned();
            problems.push(
                labels.span(),
                "learning other tasks than binary ones is not yet supported",
                Some(help),
            );
            return None;
        }
        let before = problems.len();
        let from = self.labels_from(&labels, problems);
        let horizon_ms = millis(labels.require("horizon", problems));
        let missing = match labels.get::<String>("missing", problems).as_deref() {
            Some("negative") => Missing::Negative,
            _ => Missing::Drop,
        };
        let bytes_max = labels.get_or("bytes_max", ByteSize(256 << 20), problems).as_usize();
        let bootstrap_rows: Option<usize> = model.get("bootstrap_rows", problems);
        let from_files = model.has("bootstrap");
        if bootstrap_rows.is_none() && !self.initial && !from_files {
            let help =
                "say after how many labelled rows the first model is fitted, `bootstrap_rows = 5000`, name files \
                        of history in `bootstrap`, or a model in `initial`"
                    .to_owned();
            problems.push(model.span(), "no model would ever go live", Some(help));
        }
        let lines = LinesReader {
            task: self.task,
            encoder: self.columns.encoder.as_ref()?,
            seed: self.seed,
        }
        .read(&self.root, bootstrap_rows, problems);
        if from_files && lines.as_ref().is_some_and(|lines| lines.first == Line::Online) {
            let help = "name a batch learner in [model], beside which an online one may be the [[challenger]], or use \
                        `bootstrap_rows`"
                .to_owned();
            problems.push(
                model.key_span("bootstrap"),
                "an online learner learns from the stream alone: files of history are not yet supported for it",
                Some(help),
            );
        }
        let has_batch = lines.as_ref().is_none_or(|lines| lines.batch.is_some());
        if retrain.is_present() && !has_batch {
            let help = "leave [retrain] out, or add a batch learner as [[challenger]]".to_owned();
            problems.push(
                retrain.span(),
                "nothing to retrain: an online learner learns from every row",
                Some(help),
            );
        }
        let encoders = features.table("columns", problems);
        let names: Vec<String> = self.columns.specs.iter().map(|spec| spec.name.clone()).collect();
        let drifts = self.drifts(problems);
        let retrain = retrain.is_present().then(|| RetrainSettings {
            rows_min: retrain.get_or("rows_min", 5_000, problems),
            cooldown_ms: millis(Some(retrain.get_or("cooldown", Duration::from_secs(1800), problems))),
            every_ms: retrain.get("every", problems).map(|every| millis(Some(every))),
        });
        let has_online = lines.as_ref().is_some_and(|lines| lines.online.is_some());
        let contested = retrain.is_some() || bootstrap_rows.is_some() || from_files || has_online;
        let gate = self.gate(&gate, contested, problems);
        if !has_batch && drifts.iter().any(|drift| drift.action == Action::Retrain) {
            let help = "write `action = \"warn\"`, or add a batch learner as [[challenger]]".to_owned();
            problems.push(
                self.root.name_span("drift"),
                "a detector asks for retraining and no learner is fitted by jobs",
                Some(help),
            );
        } else if retrain.is_none() && drifts.iter().any(|drift| drift.action == Action::Retrain) {
            let help = "add [retrain], or write `action = \"warn\"`".to_owned();
            problems.push(
                self.root.span(),
                "a detector asks for retraining and there is no [retrain]",
                Some(help),
            );
        }
        let settings = LearnSettings {
            labels: LabelSettings {
                from: from?,
                horizon_ms,
                missing,
                bytes_max,
            },
            rules: self.rules(problems),
            buffer_rows_max: buffer.get_or("rows_max", 200_000, problems),
            buffer_bytes_max: buffer.get_or("bytes_max", ByteSize(512 << 20), problems).as_usize(),
            drifts,
            lines: lines?,
            encoders: toml_of(&encoders, &|name| names.iter().any(|known| known == name)),
            bootstrap_rows,
            retrain,
            gate,
        };
        (problems.len() == before).then_some(settings)
    }

    fn column(&self, section: &Section<'_>, key: &str, name: &str, problems: &mut Problems) -> Option<usize> {
        self.output.index_of(name).ok().or_else(|| {
            let names = self.output.fields().iter().map(|field| field.name().as_str());
            let help = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
            problems.push(
                section.key_span(key),
                format!("the features SQL has no column `{name}`"),
                help,
            );
            None
        })
    }

    fn labels_from(&self, labels: &Section<'_>, problems: &mut Problems) -> Option<LabelsFrom> {
        match (labels.get::<String>("column", problems), labels.has("connector")) {
            (Some(_), true) => {
                let help = "labels are in the record (`column`) or on a topic (`connector`), not both".to_owned();
                problems.push(
                    labels.key_span("column"),
                    "`column` and `connector` contradict each other",
                    Some(help),
                );
                None
            }
            (Some(name), false) => {
                let label = self.column(labels, "column", &name, problems)?;
                let kind = self.output.field(label).data_type();
                if !(kind.is_numeric() || *kind == DataType::Boolean) {
                    problems.push(
                        labels.key_span("column"),
                        format!("a column of type {kind} cannot be a label"),
                        None,
                    );
                }
                let available_at = match labels.get::<String>("available_at", problems) {
                    None => None,
                    Some(name) => {
                        let column = self.column(labels, "available_at", &name, problems)?;
                        if !matches!(self.output.field(column).data_type(), DataType::Timestamp(_, _)) {
                            problems.push(labels.key_span("available_at"), "this column is not a timestamp", None);
                        }
                        Some(column)
                    }
                };
                Some(LabelsFrom::Columns { label, available_at })
            }
            (None, true) => self.labels_topic(labels, problems),
            (None, false) => {
                let help = "name `column`, or `connector`, `topics`, `schema`, `key` and `label`".to_owned();
                problems.push(
                    labels.span(),
                    "[labels] does not say where labels come from",
                    Some(help),
                );
                None
            }
        }
    }

    fn labels_topic(&self, labels: &Section<'_>, problems: &mut Problems) -> Option<LabelsFrom> {
        let declared = parse_schema(&labels.table("schema", problems), problems)?;
        let codec = open_codec(labels, problems)?;
        let key: String = labels.require("key", problems)?;
        let label: String = labels.require("label", problems)?;
        let time: Option<String> = labels.get("time", problems);
        let mut fields = Vec::new();
        for (name, of) in [(Some(&key), "key"), (Some(&label), "label"), (time.as_ref(), "time")] {
            let Some(name) = name else { continue };
            let Ok(field) = declared.field_with_name(name) else {
                let names = declared.fields().iter().map(|field| field.name().as_str());
                let help = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
                problems.push(labels.key_span(of), format!("the schema has no column `{name}`"), help);
                return None;
            };
            let kind = field.data_type();
            let fits = match of {
                "key" => kind.is_integer() || *kind == DataType::Utf8,
                "label" => kind.is_numeric() || *kind == DataType::Boolean,
                _ => matches!(kind, DataType::Timestamp(_, _)),
            };
            if !fits {
                problems.push(
                    labels.key_span(of),
                    format!("a column of type {kind} cannot be the {of}"),
                    None,
                );
            }
            if fields
                .iter()
                .all(|known: &datafusion::arrow::datatypes::Field| known.name() != field.name())
            {
                fields.push(field.clone());
            }
        }
        if self.columns.position(Role::Id).is_none() {
            let help = "give the column that labels name the rows by `role = \"id\"` in [features.columns]".to_owned();
            problems.push(
                labels.key_span("key"),
                "no column of the features SQL has the role id",
                Some(help),
            );
        }
        let schema: SchemaRef = std::sync::Arc::new(Schema::new(fields));
        Some(LabelsFrom::Topic {
            schema,
            codec,
            key,
            label,
            time,
        })
    }

    fn drifts(&self, problems: &mut Problems) -> Vec<DriftSettings> {
        let sections = self.root.tables("drift", problems);
        let mut drifts: Vec<DriftSettings> = Vec::new();
        for section in sections {
            let Some(name) = section.require::<String>("name", problems) else {
                continue;
            };
            let on_loss = section.require::<String>("on", problems).as_deref() == Some("log-loss");
            let otherwise = if on_loss { "adwin" } else { "ks" };
            let detector = section.get_or("detector", otherwise.to_owned(), problems);
            let action = match section.get::<String>("action", problems).as_deref() {
                Some("retrain") => Action::Retrain,
                _ => Action::Warn,
            };
            if action == Action::Retrain && !on_loss {
                let help =
                    "watch `on = \"log-loss\"` for that: a shift of the inputs alone does not make a model worse";
                problems.push(
                    section.key_span("action"),
                    "input drift only warns",
                    Some(help.to_owned()),
                );
            }
            if drifts.iter().any(|known| known.name == name) {
                problems.push(section.key_span("name"), "two detectors have this name", None);
            }
            let kind = match find(DETECTORS, &detector) {
                Ok(kind) => kind,
                Err(message) => {
                    problems.push(section.key_span("detector"), message, None);
                    continue;
                }
            };
            let own: Vec<&str> = kind.fields().iter().map(|field| field.name).collect();
            let config = toml_of(&section, &|key| own.contains(&key) && key != "detector");
            let context = BuildContext {
                task: self.task,
                columns: &self.columns.specs,
                seed: self.seed,
            };
            let built = kind.build(&section, &context, problems);
            let fits = built.is_none_or(|built| matches!(*built, Detector::Stream(_)) == on_loss);
            if !fits {
                let help = "use `adwin` on `log-loss` and `ks` on `features`".to_owned();
                problems.push(
                    section.key_span("detector"),
                    "this detector cannot watch that",
                    Some(help),
                );
            }
            drifts.push(DriftSettings {
                name,
                on_loss,
                detector,
                config,
                action,
            });
        }
        drifts
    }

    fn gate(&self, gate: &Section<'_>, needed: bool, problems: &mut Problems) -> GateSettings {
        let block = match needed {
            true => gate.require("block", problems),
            false => gate.get("block", problems),
        };
        let block_ms = millis(Some(block.unwrap_or(Duration::from_secs(3600)))).max(1);
        let age_ms = gate
            .get("age_max", problems)
            .map_or(block_ms.saturating_mul(400), |age| millis(Some(age)));
        let settings = GateSettings {
            alpha: gate.get_or("alpha", 0.05, problems),
            block_ms,
            gain_min: gate.get_or("gain_min", 0.0, problems),
            positives_min: gate.get_or("positives_min", 20, problems),
            age_blocks_max: (age_ms / block_ms).max(1).unsigned_abs(),
        };
        if !(settings.alpha > 0.0 && settings.alpha <= 0.5) {
            problems.push(gate.key_span("alpha"), "`alpha` must be above 0 and at most 0.5", None);
        }
        if !(0.0..1.0).contains(&settings.gain_min) {
            problems.push(gate.key_span("gain_min"), "`gain_min` must be from 0 to 1", None);
        }
        settings
    }

    fn rules(&self, problems: &mut Problems) -> Vec<Rule> {
        let sections = self.root.tables("quality", problems);
        sections
            .iter()
            .filter_map(|section| self.rule(section, problems))
            .collect()
    }

    fn rule(&self, section: &Section<'_>, problems: &mut Problems) -> Option<Rule> {
        let rule: String = section.require("rule", problems)?;
        let rows: usize = section.get_or("rows", 200, problems);
        let factor: f64 = section.get_or("factor", 10.0, problems);
        if rows == 0 || factor <= 1.0 {
            problems.push(section.span(), "`rows` must be at least 1 and `factor` above 1", None);
            return None;
        }
        if rule == "labels" {
            return Some(Rule::LabelRate {
                rows,
                factor,
                chance: 1e-6,
            });
        }
        let column = self.feature(section, "column", problems)?;
        let spec = &self.columns.specs[column];
        if rule != "nulls" && spec.kind != ColumnKind::Number {
            problems.push(section.key_span("column"), "this rule is for columns of numbers", None);
            return None;
        }
        Some(match rule.as_str() {
            "nulls" => Rule::NullBurst {
                column,
                rows,
                factor,
                floor: section.get_or("floor", 0.05, problems),
            },
            "spike" => {
                let by = match section.has("by") {
                    true => Some(self.category(section, "by", problems)?),
                    false => None,
                };
                Rule::Spike {
                    column,
                    by,
                    rows,
                    factor,
                }
            }
            _ => Rule::Range {
                column,
                min: section.get_or("min", f64::NEG_INFINITY, problems),
                max: section.get_or("max", f64::INFINITY, problems),
            },
        })
    }

    /// Position among the features of the column of categories that `key` names.
    fn category(&self, section: &Section<'_>, key: &str, problems: &mut Problems) -> Option<usize> {
        let column = self.feature(section, key, problems)?;
        let kind = self.columns.specs[column].kind;
        if kind != ColumnKind::Category {
            problems.push(section.key_span(key), format!("`{key}` is for columns of text"), None);
        }
        (kind == ColumnKind::Category).then_some(column)
    }

    /// Position among the features of the column that `key` names.
    fn feature(&self, section: &Section<'_>, key: &str, problems: &mut Problems) -> Option<usize> {
        let name: String = section.require(key, problems)?;
        let found = self.columns.specs.iter().position(|spec| spec.name == name);
        if found.is_none() {
            let help = nearest(&name, self.columns.specs.iter().map(|spec| spec.name.as_str()))
                .map(|near| format!("did you mean `{near}`?"));
            problems.push(section.key_span(key), format!("no feature is called `{name}`"), help);
        }
        found
    }
}

pub(super) fn millis(duration: Option<Duration>) -> i64 {
    duration.map_or(0, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

impl DriftSettings {
    /// A detector in its first state. `None` only where these settings were not checked.
    #[must_use]
    pub fn build(&self, columns: &[ColumnSpec], task: Task, seed: u64) -> Option<Detector> {
        let kind = find(DETECTORS, &self.detector).ok()?;
        let document = Document::parse(&self.name, &self.config, &|_| None).ok()?;
        let mut problems = document.problems();
        let context = BuildContext { task, columns, seed };
        kind.build(&document.root(), &context, &mut problems)
            .map(|detector| *detector)
    }
}
