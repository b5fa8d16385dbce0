//! The keys of the sections of the learn half, and what each means.

use driftmill_config::{Field, Kind, Need};
use driftmill_connectors::{SOURCES, codec_tables};
use driftmill_models::detectors::DETECTORS;

use super::fields::field;

/// `[labels]`, beside a connector's own keys.
pub(super) static LABELS: &[Field] = &[
    field(
        "column",
        Kind::String,
        Need::Optional("labels come from a topic"),
        "A column of the features SQL that is the label: 0 or 1, or a bool; null while it is not known.",
    ),
    field(
        "available_at",
        Kind::String,
        Need::Optional("the row's own time"),
        "With `column`: a timestamp column of the SQL with the time at which the label became known. Nobody learns from it before.",
    ),
    field(
        "connector",
        Kind::String,
        Need::Optional("labels are in the record"),
        "Which connector reads the labels.",
    ),
    field(
        "format",
        Kind::String,
        Need::Optional("\"json\""),
        "Codec of the labels.",
    ),
    field(
        "schema",
        Kind::Map,
        Need::Optional("none"),
        "Columns of the labels' topic and their types.",
    ),
    field(
        "key",
        Kind::String,
        Need::Optional("none"),
        "Column of the labels' topic that names the row: it is equal to the column with the role `id`.",
    ),
    field(
        "label",
        Kind::String,
        Need::Optional("none"),
        "Column of the labels' topic with the label: 0 or 1, or a bool.",
    ),
    field(
        "time",
        Kind::String,
        Need::Optional("the record's timestamp"),
        "Column of the labels' topic with the time at which the label became known.",
    ),
    field(
        "horizon",
        Kind::Duration,
        Need::Required,
        "How long after its own time a row may get its label.",
    ),
    field(
        "missing",
        Kind::OneOf(&["drop", "negative"]),
        Need::Optional("\"drop\""),
        "What becomes of rows that get no label within the horizon.",
    ),
    field(
        "bytes_max",
        Kind::Bytes,
        Need::Optional("\"256 MiB\""),
        "Bytes of rows that wait for their label; beyond, the oldest leave, counted.",
    ),
];

/// `[buffer]`
pub(super) static BUFFER: &[Field] = &[
    field(
        "rows_max",
        Kind::Integer,
        Need::Optional("200000"),
        "Most labelled rows kept for training.",
    ),
    field(
        "bytes_max",
        Kind::Bytes,
        Need::Optional("\"512 MiB\""),
        "Most bytes kept for training.",
    ),
];

static DRIFT: &[Field] = &[
    field("name", Kind::String, Need::Required, "Name in metrics and alerts."),
    field(
        "on",
        Kind::OneOf(&["features", "log-loss"]),
        Need::Required,
        "What is watched: every feature, or the loss of the live version.",
    ),
    field(
        "detector",
        Kind::String,
        Need::Optional("\"ks\" for features, \"adwin\" for the loss"),
        "The detector.",
    ),
    field(
        "action",
        Kind::OneOf(&["warn", "retrain"]),
        Need::Optional("\"warn\""),
        "What an alarm leads to.",
    ),
    field("false_alarms", Kind::String, Need::NotYet, "Budget of false alarms."),
];

/// `[retrain]`
pub(super) static RETRAIN: &[Field] = &[
    field(
        "train_on",
        Kind::OneOf(&["since-change"]),
        Need::Optional("\"since-change\""),
        "Rows of a candidate after an alarm. Weighting by recency is not yet supported.",
    ),
    field(
        "rows_min",
        Kind::Integer,
        Need::Optional("5000"),
        "Labelled rows after the change that the first candidate needs; each further one needs four times as many.",
    ),
    field(
        "cooldown",
        Kind::Duration,
        Need::Optional("\"30 min\""),
        "Least event time between two jobs.",
    ),
    field(
        "every",
        Kind::Duration,
        Need::Optional("only after alarms"),
        "Event time between scheduled jobs, on all that the buffer holds.",
    ),
];

/// `[gate]`
pub(super) static GATE: &[Field] = &[
    field(
        "loss",
        Kind::OneOf(&["brier"]),
        Need::Optional("\"brier\""),
        "The loss that is compared.",
    ),
    field(
        "alpha",
        Kind::Float,
        Need::Optional("0.05"),
        "Chance that a candidate that is no better is ever promoted, divided over the candidates after one champion.",
    ),
    field(
        "block",
        Kind::Duration,
        Need::Required,
        "Length of a block of prediction time: labels that come in correlated runs belong into one block.",
    ),
    field("gain_min", Kind::Float, Need::Optional("0"), "Gain that must be shown."),
    field(
        "positives_min",
        Kind::Integer,
        Need::Optional("20"),
        "Labels of class 1 before anything is decided.",
    ),
    field(
        "age_max",
        Kind::Duration,
        Need::Optional("400 blocks"),
        "Age at which an undecided candidate is rejected.",
    ),
];

/// `[[quality]]`
pub(super) static QUALITY: &[Field] = &[
    field(
        "rule",
        Kind::OneOf(&["range", "nulls", "labels", "spike"]),
        Need::Required,
        "`range`: numbers outside `min` to `max`; `nulls`: bursts of missing values; `labels`: implausible label rates; `spike`: a median that jumps.",
    ),
    field(
        "column",
        Kind::String,
        Need::Optional("none, for `labels`"),
        "The feature.",
    ),
    field(
        "by",
        Kind::String,
        Need::Optional("all rows together"),
        "For `spike`: a category column whose values are judged one by one.",
    ),
    field("min", Kind::Float, Need::Optional("no bound"), "For `range`."),
    field("max", Kind::Float, Need::Optional("no bound"), "For `range`."),
    field("rows", Kind::Integer, Need::Optional("200"), "Rows of a window."),
    field(
        "factor",
        Kind::Float,
        Need::Optional("10"),
        "How many times the share, rate or median may change.",
    ),
    field(
        "floor",
        Kind::Float,
        Need::Optional("0.05"),
        "For `nulls`: shares up to this are always allowed.",
    ),
];

/// The sections of the learn half.
pub(super) fn root() -> Vec<Field> {
    let labels = super::merged(LABELS, SOURCES.iter().map(|kind| kind.fields()));
    let labels = labels.into_iter().chain(codec_tables()).map(|field| match field.need {
        // The connector's own keys are needed only where a connector is named.
        Need::Required if LABELS.iter().all(|own| own.name != field.name) => Field {
            need: Need::Optional("as [source] needs it, with a connector"),
            ..field
        },
        _ => field,
    });
    let drift = super::merged(DRIFT, DETECTORS.iter().map(|kind| kind.fields()));
    let challenger = super::merged(super::lines::CHALLENGER, super::lines::learner_fields().into_iter());
    vec![
        field(
            "labels",
            Kind::Table(Vec::leak(labels.collect())),
            Need::Optional("nothing is learned"),
            "Labels.",
        ),
        field(
            "quality",
            Kind::Tables(QUALITY),
            Need::Optional("nothing is quarantined"),
            "Rules that keep bad rows out of the buffer.",
        ),
        field(
            "buffer",
            Kind::Table(BUFFER),
            Need::Optional("the defaults below"),
            "Labelled rows for training.",
        ),
        field(
            "drift",
            Kind::Tables(Vec::leak(drift)),
            Need::Optional("nothing is watched"),
            "Drift detectors.",
        ),
        field(
            "retrain",
            Kind::Table(RETRAIN),
            Need::Optional("nothing is retrained"),
            "Retraining.",
        ),
        field(
            "challenger",
            Kind::Tables(Vec::leak(challenger)),
            Need::Optional("the learner of [model] has no rival"),
            "A second learner, that competes with the first by the gate.",
        ),
        field(
            "gate",
            Kind::Table(GATE),
            Need::Optional("needed with `bootstrap`, `bootstrap_rows`, [retrain] and online learners"),
            "What a model must show before it goes live.",
        ),
    ]
}
