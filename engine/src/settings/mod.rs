//! The checked configuration of one pipeline: the TOML file with every value valid, and the parts that it names
//! opened. Whatever is wrong is reported at its line, all at once.

mod bootstrap;
mod columns;
mod fields;
mod learn;
mod learn_fields;
mod lines;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use driftmill_config::{ByteSize, Document, Field, Problems, Section, find};
use driftmill_connectors::schema::vector_width;
use driftmill_connectors::{
    Codec, Delivery, Destination, OpenSink, OpenSource, SINKS, SOURCES, SinkContext, codec_tables, open_codec,
    parse_schema,
};
use driftmill_models::contracts::Task;

pub use bootstrap::BootstrapFiles;
pub use columns::{Columns, Role};
pub use learn::{Action, DriftSettings, GateSettings, LabelSettings, LabelsFrom, LearnSettings, RetrainSettings};
pub use lines::{LearnerSpec, Line, Lines, OnlineSettings};

use crate::transform::Transform;

/// Bytes that the vectors of an epoch may take.
const VECTORS_MAX: usize = 1 << 30;

/// A pipeline, checked.
pub struct Settings {
    /// Name, state folder, delivery.
    pub pipeline: Pipeline,
    /// What decides about outputs and state: a change of it is a new plan.
    pub plan: Arc<Plan>,
    /// The records.
    pub source: Box<dyn OpenSource>,
    /// The labels, where they have a source of their own.
    pub labels: Option<Box<dyn OpenSource>>,
    /// The predictions.
    pub sink: Box<dyn OpenSink>,
    /// Bounds of an epoch.
    pub epoch: EpochBounds,
    /// Time between snapshots.
    pub snapshot_every: Duration,
    /// Whether the epoch log is trimmed below the oldest kept snapshot.
    pub log_trims: bool,
    /// Folder of the registry.
    pub registry: PathBuf,
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// The text of the file, as it was read.
    pub text: String,
}

/// `[pipeline]`
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// Folder for state.
    pub state_dir: PathBuf,
    /// Delivery mode.
    pub delivery: Delivery,
    /// Seed of everything random.
    pub seed: u64,
}

/// Everything that decides about outputs and state.
pub struct Plan {
    /// Hash of everything in it.
    pub hash: String,
    /// Codec of the source.
    pub source_codec: Arc<dyn Codec>,
    /// Codec of the predictions.
    pub sink_codec: Arc<dyn Codec>,
    /// Declared columns of the source.
    pub schema: SchemaRef,
    /// The SQL, planned.
    pub transform: Transform,
    /// Roles and encoders of the SQL's columns.
    pub columns: Columns,
    /// Whether records that cannot be processed have a place to go.
    pub dead_letters: bool,
    /// The model's part.
    pub model: Option<ModelSettings>,
    /// What is learned, if anything.
    pub learn: Option<LearnSettings>,
    /// Seed of everything random.
    pub seed: u64,
    /// Largest prediction in bytes.
    pub prediction_bytes_max: usize,
    /// Largest dead letter in bytes.
    pub dead_letter_bytes_max: usize,
}

impl Plan {
    /// Hash of whatever decides about outputs and state, in hex; 16 digits are enough to tell plans of one pipeline
    /// apart.
    fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let mut part = |text: &[u8]| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        part(b"plan 1");
        part(format!("{:?} {:?}", self.source_codec, self.sink_codec).as_bytes());
        for field in self.schema.fields() {
            part(field.name().as_bytes());
            part(field.data_type().to_string().as_bytes());
        }
        part(self.transform.canonical().as_bytes());
        part(format!("{:?}", self.columns.roles).as_bytes());
        if let Some(encoder) = &self.columns.encoder {
            let mut bytes = Vec::new();
            encoder.write(&mut bytes);
            part(&bytes);
        }
        part(format!("{:?}", self.model.as_ref().map(|model| (model.task, model.hold))).as_bytes());
        part(format!("{:?} {}", self.learn, self.seed).as_bytes());
        part(
            format!(
                "{} {} {}",
                self.dead_letters, self.prediction_bytes_max, self.dead_letter_bytes_max
            )
            .as_bytes(),
        );
        hash.finalize().to_hex().as_str()[..16].to_owned()
    }
}

/// `[model]`
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// What the scores mean.
    pub task: Task,
    /// Artifact to go live with.
    pub initial: Option<PathBuf>,
    /// Files of history to fit the first model on.
    pub bootstrap: Option<BootstrapFiles>,
    /// Whether records wait for the first model.
    pub hold: bool,
}

/// `[epoch]`
#[derive(Debug, Clone, Copy)]
pub struct EpochBounds {
    /// Most records.
    pub rows_max: usize,
    /// Most bytes of input.
    pub bytes_max: usize,
    /// Longest wait for company.
    pub linger: Duration,
    /// Most event time, in milliseconds.
    pub event_span_max_ms: i64,
    /// How long an idle partition holds others back.
    pub skew: Duration,
    /// Most bytes that wait for an epoch.
    pub buffered_max: usize,
    /// Epochs computed ahead of the last commit.
    pub in_flight_max: usize,
}

impl Settings {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, at line and column.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Problems> {
        Self::parse_with(file_name, text, &|name| std::env::var(name).ok())
    }

    /// [`Settings::parse`] with another environment.
    ///
    /// # Errors
    /// As there.
    pub fn parse_with(file_name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let document = Document::parse(file_name, text, env)?;
        let mut problems = document.problems();
        let settings = Reader {
            document: &document,
            problems: &mut problems,
        }
        .read(text);
        match settings {
            Some(settings) => problems.into_result(settings),
            None => Err(problems),
        }
    }
}

/// All sections with their keys, for checks and for the reference.
#[must_use]
pub fn sections() -> &'static [Field] {
    static SECTIONS: OnceLock<Vec<Field>> = OnceLock::new();
    SECTIONS.get_or_init(|| {
        let mut source: Vec<Field> = merged(fields::SOURCE, SOURCES.iter().map(|kind| kind.fields()));
        let mut sink: Vec<Field> = merged(fields::SINK, SINKS.iter().map(|kind| kind.fields()));
        source.extend(codec_tables());
        sink.extend(codec_tables());
        let model = merged(fields::MODEL, lines::learner_fields().into_iter());
        fields::root(Vec::leak(source), Vec::leak(sink), Vec::leak(model))
    })
}

/// The engine's keys and those of every connector; a key that several have stands once. Where they do not mean the same
/// by it, the one that is named checks it: none can take a name away from another.
fn merged(own: &[Field], connectors: impl Iterator<Item = &'static [Field]>) -> Vec<Field> {
    let mut all = own.to_vec();
    for field in connectors.flatten() {
        let Some(known) = all.iter_mut().find(|known| known.name == field.name) else {
            all.push(*field);
            continue;
        };
        let is_own = own.iter().any(|own| own.name == field.name);
        if !is_own && format!("{:?}", known.kind) != format!("{:?}", field.kind) {
            known.kind = driftmill_config::Kind::Any;
        }
    }
    all
}

struct Reader<'a> {
    document: &'a Document,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) -> Option<Settings> {
        let root = self.document.root();
        root.check(sections(), self.problems);
        let [
            pipeline,
            source_section,
            features,
            sink_section,
            epoch_section,
            model_section,
            snapshot,
            registry,
            http,
        ] = [
            "pipeline", "source", "features", "sink", "epoch", "model", "snapshot", "registry", "http",
        ]
        .map(|name| root.table(name, self.problems));
        let pipeline = self.pipeline(&pipeline);
        let name = pipeline.as_ref().map_or("", |pipeline| pipeline.name.as_str());
        let source = self.source(&source_section, name);
        let sink = pipeline
            .as_ref()
            .and_then(|p| self.sink(&sink_section, &source_section, p));
        let epoch = self.epoch(&epoch_section);
        let model = model_section
            .is_present()
            .then(|| self.model(&model_section, &source_section));
        let seed = pipeline.as_ref().map_or(0, |pipeline| pipeline.seed);
        let plan = self.plan(&source_section, &features, &sink_section, model, seed, sink.as_deref());
        if let Some(plan) = &plan {
            self.check_vectors(&epoch_section, &plan.schema, epoch.rows_max);
        }
        let labels = learn::Read::source(&root, name, self.problems);
        if let (Some(labels), Some(source)) = (&labels, &source) {
            self.check_topics(&root, labels.topics(), source.topics());
        }
        let snapshot_every = snapshot.get_or("every", Duration::from_secs(30), self.problems);
        let log_trims = snapshot.get::<String>("log", self.problems).as_deref() != Some("keep");
        let listen = self.listen(&http);
        let pipeline = pipeline?;
        let registry = self.registry(&registry, &pipeline)?;
        Some(Settings {
            plan: Arc::new(plan?),
            source: source?,
            labels,
            sink: sink?,
            epoch,
            snapshot_every,
            log_trims,
            registry,
            listen: listen?,
            text: text.to_owned(),
            pipeline,
        })
    }

    fn pipeline(&mut self, section: &Section<'_>) -> Option<Pipeline> {
        let name: String = section.require("name", self.problems)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(fits) {
            let help = "use up to 100 letters, digits, `-`, `_` and `.`: Kafka's names are made of it".to_owned();
            self.problems
                .push(section.key_span("name"), "this name cannot name topics", Some(help));
            return None;
        }
        let state_dir: String = section.require("state_dir", self.problems)?;
        let delivery = match section.get::<String>("delivery", self.problems).as_deref() {
            Some("exactly-once") => Delivery::ExactlyOnce,
            _ => Delivery::AtLeastOnce,
        };
        let seed = section.get_or("seed", 0, self.problems);
        Some(Pipeline {
            name,
            state_dir: self.document.resolve(&state_dir),
            delivery,
            seed,
        })
    }

    fn source(&mut self, section: &Section<'_>, pipeline: &str) -> Option<Box<dyn OpenSource>> {
        let name: String = section.require("connector", self.problems)?;
        match find(SOURCES, &name) {
            Ok(kind) => kind.open(section, section, &format!("{pipeline}-source"), self.problems),
            Err(message) => {
                self.problems.push(section.key_span("connector"), message, None);
                None
            }
        }
    }

    fn sink(&mut self, section: &Section<'_>, source: &Section<'_>, pipeline: &Pipeline) -> Option<Box<dyn OpenSink>> {
        let name: String = section.require("connector", self.problems)?;
        let context = SinkContext {
            pipeline: pipeline.name.clone(),
            delivery: pipeline.delivery,
            dead_letters: source.get("dead_letters", self.problems),
        };
        match find(SINKS, &name) {
            Ok(kind) => kind.open(section, source, &context, self.problems),
            Err(message) => {
                self.problems.push(section.key_span("connector"), message, None);
                None
            }
        }
    }

    fn plan(
        &mut self,
        source: &Section<'_>,
        features: &Section<'_>,
        sink: &Section<'_>,
        model: Option<Option<ModelSettings>>,
        seed: u64,
        open_sink: Option<&dyn OpenSink>,
    ) -> Option<Plan> {
        let source_codec = open_codec(source, self.problems);
        let sink_codec = open_codec(sink, self.problems);
        let schema = parse_schema(&source.table("schema", self.problems), self.problems)?;
        let sql: String = features.require("sql", self.problems)?;
        let transform = match Transform::plan(&sql, schema.clone()) {
            Ok(transform) => transform,
            Err(error) => {
                let span = error
                    .at
                    .map_or_else(|| features.key_span("sql"), |at| features.offset_in_string("sql", at));
                self.problems.push(span, error.message, error.help);
                return None;
            }
        };
        let root = self.document.root();
        let labels = root.table("labels", self.problems);
        let in_record: Vec<String> = ["column", "available_at"]
            .into_iter()
            .filter_map(|key| labels.get(key, self.problems))
            .collect();
        let time = source.table("time", self.problems);
        let time = time
            .get::<String>("column", self.problems)
            .map(|name| (name, time.key_span("column")));
        let columns = Columns::read(
            &features.table("columns", self.problems),
            transform.output_schema(),
            features.key_span("sql"),
            time,
            model.is_some(),
            &in_record,
            self.problems,
        )?;
        let model = match model {
            None => None,
            Some(checked) => Some(checked?),
        };
        let learn = match (&model, labels.is_present()) {
            (Some(model), true) => {
                let read = learn::Read {
                    root,
                    columns: &columns,
                    output: transform.output_schema(),
                    task: model.task,
                    seed,
                    initial: model.initial.is_some(),
                };
                Some(read.read(self.problems)?)
            }
            (None, true) => {
                let help = "add [model], or leave [labels] out".to_owned();
                self.problems.push(labels.span(), "labels without a model", Some(help));
                None
            }
            (_, false) => {
                self.check_nothing_learned(&root);
                None
            }
        };
        let open_sink = open_sink?;
        let mut plan = Plan {
            hash: String::new(),
            source_codec: source_codec?,
            sink_codec: sink_codec?,
            schema,
            transform,
            columns,
            dead_letters: source.has("dead_letters"),
            model,
            learn,
            seed,
            prediction_bytes_max: open_sink.payload_bytes_max(Destination::Predictions),
            dead_letter_bytes_max: open_sink.payload_bytes_max(Destination::DeadLetters),
        };
        plan.hash = plan.fingerprint();
        Some(plan)
    }

    /// A topic is the source or has labels, not both: ranges in the epoch log name topics.
    fn check_topics(&mut self, root: &Section<'_>, labels: &[String], source: &[String]) {
        if let Some(both) = labels.iter().find(|topic| source.contains(topic)) {
            let section = root.table("labels", self.problems);
            let help = "use `column` for labels that are in the records themselves".to_owned();
            self.problems.push(
                section.key_span("topics"),
                format!("`{both}` is a topic of [source] already"),
                Some(help),
            );
        }
    }

    /// Sections that mean nothing without labels.
    fn check_nothing_learned(&mut self, root: &Section<'_>) {
        for name in ["quality", "buffer", "drift", "retrain", "challenger", "gate"] {
            if root.has(name) {
                let help = "add [labels], or leave this section out".to_owned();
                self.problems
                    .push(root.name_span(name), format!("[{name}] without [labels]"), Some(help));
            }
        }
        let model = root.table("model", self.problems);
        for key in ["bootstrap", "bootstrap_rows"] {
            if model.has(key) {
                let help = "add [labels], or leave this key out".to_owned();
                self.problems
                    .push(model.name_span(key), "no labels to fit a first model on", Some(help));
            }
        }
    }

    fn model(&mut self, section: &Section<'_>, source: &Section<'_>) -> Option<ModelSettings> {
        let task = match section.get::<String>("task", self.problems).as_deref() {
            Some("regression") => Task::Regression,
            _ => Task::Binary,
        };
        let initial = section
            .get::<String>("initial", self.problems)
            .map(|path| self.document.resolve(&path));
        let bootstrap = self.bootstrap(section, source, initial.is_some());
        let hold = section.get::<String>("before_model", self.problems).as_deref() == Some("hold");
        if hold && initial.is_none() {
            let help = "name an artifact in `initial`, or write `before_model = \"pass\"`".to_owned();
            self.problems.push(
                section.key_span("before_model"),
                "nothing would ever end the wait",
                Some(help),
            );
        }
        Some(ModelSettings {
            task,
            initial,
            bootstrap,
            hold,
        })
    }

    fn bootstrap(&mut self, model: &Section<'_>, source: &Section<'_>, initial: bool) -> Option<BootstrapFiles> {
        let files = BootstrapFiles::read(model, self.document, self.problems)?;
        if initial {
            let help = "leave out one of them: a model is brought along, or fitted on history".to_owned();
            self.problems.push(
                model.name_span("bootstrap"),
                "`bootstrap` and `initial` contradict each other",
                Some(help),
            );
        }
        let format = source.get_or("format", "json".to_owned(), self.problems);
        if format != "json" {
            let help = "use `bootstrap_rows`, which takes the first model's rows from the source".to_owned();
            let message = format!("files of history hold JSON, and the records of [source] are {format}");
            self.problems.push(model.key_span("bootstrap"), message, Some(help));
        }
        Some(files)
    }

    fn epoch(&mut self, section: &Section<'_>) -> EpochBounds {
        let problems = &mut *self.problems;
        let bounds = EpochBounds {
            rows_max: section.get_or("rows_max", 8192, problems),
            bytes_max: section.get_or("bytes_max", ByteSize(16 << 20), problems).as_usize(),
            linger: section.get_or("linger", Duration::from_millis(5), problems),
            event_span_max_ms: i64::try_from(
                section
                    .get_or("event_span_max", Duration::from_secs(900), problems)
                    .as_millis(),
            )
            .unwrap_or(i64::MAX),
            skew: section.get_or("skew", Duration::from_millis(100), problems),
            buffered_max: section.get_or("buffered_max", ByteSize(128 << 20), problems).as_usize(),
            in_flight_max: section.get_or("in_flight_max", 8, problems),
        };
        let mut limit = |key: &str, ok: bool, range: &str| {
            if !ok {
                problems.push(section.key_span(key), format!("`{key}` must be {range}"), None);
            }
        };
        limit(
            "rows_max",
            (1..=1_000_000).contains(&bounds.rows_max),
            "from 1 to 1000000",
        );
        limit(
            "bytes_max",
            (1 << 10..=1 << 30).contains(&bounds.bytes_max),
            "from 1 KiB to 1 GiB",
        );
        limit(
            "buffered_max",
            bounds.buffered_max >= bounds.bytes_max,
            "at least `bytes_max`",
        );
        limit(
            "in_flight_max",
            (1..=1024).contains(&bounds.in_flight_max),
            "from 1 to 1024",
        );
        limit("event_span_max", bounds.event_span_max_ms >= 1, "at least 1 ms");
        bounds
    }

    /// A row takes the memory of its vectors also where the record has none: the bytes of a record do not bound that.
    fn check_vectors(&mut self, section: &Section<'_>, schema: &SchemaRef, rows_max: usize) {
        let fields = schema.fields().iter();
        let numbers: usize = fields
            .filter_map(|field| vector_width(field.data_type()))
            .map(|width| width as usize)
            .sum();
        let row = size_of::<f32>() * numbers;
        if row.saturating_mul(rows_max) > VECTORS_MAX {
            let message = format!("an epoch of {rows_max} rows may hold more than 1 GiB of vectors, {row} bytes a row");
            let help = format!("set `rows_max` to {} or less", VECTORS_MAX / row);
            self.problems.push(section.key_span("rows_max"), message, Some(help));
        }
    }

    fn listen(&mut self, section: &Section<'_>) -> Option<SocketAddr> {
        let text = section.get_or("listen", "127.0.0.1:9464".to_owned(), self.problems);
        let span = section.key_span("listen");
        let Ok(address) = text.parse::<SocketAddr>() else {
            let help = "write address and port, such as \"127.0.0.1:9464\"".to_owned();
            self.problems
                .push(span, "`listen` is not an address with a port", Some(help));
            return None;
        };
        if !address.ip().is_loopback() {
            let help = "listen on 127.0.0.1, and put a proxy with TLS and authentication before it".to_owned();
            self.problems.push(
                span,
                "an address that others can reach needs TLS and a token, not yet supported",
                Some(help),
            );
            return None;
        }
        Some(address)
    }

    fn registry(&mut self, section: &Section<'_>, pipeline: &Pipeline) -> Option<PathBuf> {
        let Some(url) = section.get::<String>("url", self.problems) else {
            return Some(pipeline.state_dir.join("registry"));
        };
        match crate::registry::Registry::folder(&url) {
            Ok(folder) => Some(self.document.resolve(&folder.to_string_lossy())),
            Err(error) => {
                self.problems.push(section.key_span("url"), error.to_string(), None);
                None
            }
        }
    }
}
