//! The keys of the configuration that belong to the engine, and what each means. The sections of connectors and
//! models are merged in from their own lists.

use driftmill_config::{Field, Kind, Need};

pub(super) const fn field(name: &'static str, kind: Kind, need: Need, doc: &'static str) -> Field {
    Field { name, kind, need, doc }
}

/// `[pipeline]`
pub(super) static PIPELINE: &[Field] = &[
    field(
        "name",
        Kind::String,
        Need::Required,
        "Name of the pipeline: letters, digits, `-`, `_` and `.`. It names the epoch log, the consumer group and the transactional id.",
    ),
    field(
        "state_dir",
        Kind::String,
        Need::Required,
        "Folder for state, epoch log and plans. One pipeline owns it.",
    ),
    field(
        "delivery",
        Kind::OneOf(&["at-least-once", "exactly-once"]),
        Need::Optional("\"at-least-once\""),
        "How outputs survive a crash: see docs/delivery.md.",
    ),
    field("seed", Kind::Integer, Need::Optional("0"), "Seed of everything random."),
];

/// `[source]`, beside the connector's own keys.
pub(super) static SOURCE: &[Field] = &[
    field(
        "connector",
        Kind::String,
        Need::Required,
        "Which connector reads the records.",
    ),
    field(
        "format",
        Kind::String,
        Need::Optional("\"json\""),
        "Codec of the payloads.",
    ),
    field(
        "schema",
        Kind::Map,
        Need::Required,
        "Columns and their types: string, bool, int64, int32, float64, float32, timestamp[s], timestamp[ms], timestamp[us], \
         timestamp[ns], date32, and float32[N] for vectors of N numbers, 1 to 4096 (JSON arrays). Columns that the SQL \
         does not read are not checked.",
    ),
    field(
        "dead_letters",
        Kind::String,
        Need::Optional("a record that cannot be processed stops the pipeline"),
        "Topic for records that cannot be processed, as they were, with the reason in headers.",
    ),
    field(
        "time",
        Kind::Table(TIME),
        Need::Optional("the record's own timestamp"),
        "Event time.",
    ),
];

static TIME: &[Field] = &[
    field(
        "column",
        Kind::String,
        Need::Required,
        "A timestamp column of the features SQL's output.",
    ),
    field("lateness_max", Kind::Duration, Need::NotYet, "How late records may be."),
];

/// `[epoch]`
pub(super) static EPOCH: &[Field] = &[
    field(
        "rows_max",
        Kind::Integer,
        Need::Optional("8192"),
        "Most records in an epoch.",
    ),
    field(
        "bytes_max",
        Kind::Bytes,
        Need::Optional("\"16 MiB\""),
        "Most bytes of input in an epoch.",
    ),
    field(
        "linger",
        Kind::Duration,
        Need::Optional("\"5 ms\""),
        "How long the oldest waiting record waits for company.",
    ),
    field(
        "event_span_max",
        Kind::Duration,
        Need::Optional("\"15 min\""),
        "Most event time in an epoch: bounds how late a replay at full speed learns.",
    ),
    field(
        "skew",
        Kind::Duration,
        Need::Optional("\"100 ms\""),
        "How long an idle partition holds the others back, so that topics are merged by time. With one partition there is nothing to merge.",
    ),
    field(
        "buffered_max",
        Kind::Bytes,
        Need::Optional("\"128 MiB\""),
        "Most bytes of input that wait for an epoch; beyond, fetching pauses.",
    ),
    field(
        "in_flight_max",
        Kind::Integer,
        Need::Optional("8"),
        "Epochs that may be computed ahead of the last commit.",
    ),
];

/// `[features]`
pub(super) static FEATURES: &[Field] = &[
    field(
        "sql",
        Kind::String,
        Need::Required,
        "One SELECT from `source`: projections and a WHERE.",
    ),
    field(
        "columns",
        Kind::Map,
        Need::Optional("every number is a feature, standardised"),
        "For each output column a table: `role` (id, time, weight, segment, passthrough, feature) and, for a feature, `encode` and the keys of that encoder.",
    ),
];

/// `[sink]`, beside the connector's own keys.
pub(super) static SINK: &[Field] = &[
    field(
        "connector",
        Kind::String,
        Need::Required,
        "Which connector writes the predictions.",
    ),
    field(
        "format",
        Kind::String,
        Need::Optional("\"json\""),
        "Codec of the predictions.",
    ),
];

/// `[http]`
pub(super) static HTTP: &[Field] = &[field(
    "listen",
    Kind::String,
    Need::Optional("\"127.0.0.1:9464\""),
    "Address of metrics and health. Only loopback addresses are taken: beyond it TLS and a token are needed, which this version does not have.",
)];

/// `[snapshot]`
pub(super) static SNAPSHOT: &[Field] = &[
    field(
        "every",
        Kind::Duration,
        Need::Optional("\"30 s\""),
        "Time between snapshots of the state; a restart replays what came after the newest.",
    ),
    field(
        "log",
        Kind::OneOf(&["trim", "keep"]),
        Need::Optional("\"trim\""),
        "Whether the epoch log loses what lies before the oldest kept snapshot. With `keep` it grows for ever, and `driftmill verify` can replay from the first epoch, as long as the topics hold their records.",
    ),
];

/// `[registry]`
pub(super) static REGISTRY: &[Field] = &[field(
    "url",
    Kind::String,
    Need::Optional("the folder `registry` in `state_dir`"),
    "Folder of models, as `file:///path`.",
)];

/// `[model]`, beside the learners' own keys.
pub(super) static MODEL: &[Field] = &[
    field(
        "task",
        Kind::OneOf(&["binary", "regression"]),
        Need::Optional("\"binary\""),
        "What the scores mean.",
    ),
    field(
        "initial",
        Kind::String,
        Need::Optional("no model is live at first"),
        "A model artifact to go live with, relative to this file. Its columns and encoders must be those of `[features]`.",
    ),
    field(
        "before_model",
        Kind::OneOf(&["pass", "hold"]),
        Need::Optional("\"pass\""),
        "What happens before a model is live: `pass` writes features with a null prediction, `hold` reads nothing.",
    ),
    field(
        "learner",
        Kind::String,
        Need::Optional("\"auto\"; with [retrain] \"logistic-regression\""),
        "The learner: a batch learner is fitted by jobs on the buffer, an online one learns from every labelled row.",
    ),
    super::lines::PUBLISH_EVERY,
    field(
        "bootstrap_rows",
        Kind::Integer,
        Need::Optional("the first model is brought along"),
        "Labelled rows that the first model is fitted on; it goes live when the gate finds it better than the class prior.",
    ),
    field(
        "bootstrap",
        Kind::String,
        Need::Optional("the first model is fitted on `bootstrap_rows`, or brought along"),
        "Files of history to fit the first model on, before the first record: a path, relative to this file, or a pattern with one `*` in the name of the file (files in the order of their names). They end in `.jsonl` and hold records as they would stand on the source, one a line, oldest first, with the label. The model goes live when the gate finds it better than the class prior on the last fifth of the rows; see docs/first-model.md.",
    ),
];

/// Sections that are planned and not built.
static LATER: &[Field] = &[
    field("decision", Kind::Any, Need::NotYet, "Decision."),
    field("slice", Kind::Any, Need::NotYet, "Slices of the gate."),
];

/// All sections, for the connector and encoder lists given.
pub(super) fn root(source: &'static [Field], sink: &'static [Field], model: &'static [Field]) -> Vec<Field> {
    let mut fields = vec![
        field("pipeline", Kind::Table(PIPELINE), Need::Required, "The pipeline."),
        field(
            "source",
            Kind::Table(source),
            Need::Required,
            "Where records come from.",
        ),
        field(
            "epoch",
            Kind::Table(EPOCH),
            Need::Optional("the defaults below"),
            "Bounds of an epoch.",
        ),
        field(
            "features",
            Kind::Table(FEATURES),
            Need::Required,
            "From records to features.",
        ),
        field(
            "model",
            Kind::Table(model),
            Need::Optional("the pipeline only transforms"),
            "The model.",
        ),
        field("sink", Kind::Table(sink), Need::Required, "Where predictions go."),
        field(
            "snapshot",
            Kind::Table(SNAPSHOT),
            Need::Optional("the defaults below"),
            "Snapshots of the state.",
        ),
        field(
            "registry",
            Kind::Table(REGISTRY),
            Need::Optional("the defaults below"),
            "Kept models.",
        ),
        field(
            "http",
            Kind::Table(HTTP),
            Need::Optional("the defaults below"),
            "Metrics and health.",
        ),
    ];
    fields.extend(super::learn_fields::root());
    fields.extend_from_slice(LATER);
    fields
}
