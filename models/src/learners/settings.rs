//! Settings that several learners read alike.

use std::ops::RangeInclusive;

use driftmill_config::{ByteSize, Field, Kind, Need, Problems, Section};

use crate::contracts::LearnerContext;

/// The key of the memory that may be used.
pub(super) const MEMORY_MAX: Field = Field {
    name: "memory_max",
    kind: Kind::Bytes,
    need: Need::Optional("`\"64 MiB\"`"),
    doc: "Memory that the learner and its encoders may come to use; checked at start, since both are of fixed size.",
};

/// The key that names the learner, one of the keys of each of them.
pub(super) const fn named(names: &'static [&'static str]) -> Field {
    Field {
        name: "learner",
        kind: Kind::OneOf(names),
        need: Need::Optional("the learner is named elsewhere"),
        doc: "The learner's name.",
    }
}

/// The key of the rows that a batch learner uses, `usual` where nothing is said.
pub(super) const fn rows_max(usual: &'static str) -> Field {
    Field {
        name: "rows_max",
        kind: Kind::Integer,
        need: Need::Optional(usual),
        doc: "Rows that are used at most, from 2 on; of more, a seeded sample.",
    }
}

/// Reads a number by default `usual`; one outside of `range`, or none, is a problem, and then `usual`.
pub(super) fn number(
    section: &Section<'_>,
    key: &str,
    usual: f64,
    range: RangeInclusive<f64>,
    problems: &mut Problems,
) -> f64 {
    let number = section.get_or(key, usual, problems);
    if range.contains(&number) {
        return number;
    }
    let message = format!("`{key}` must be from {} to {}", range.start(), range.end());
    problems.push(section.key_span(key), message, None);
    usual
}

/// Reads the whole number `key`, by default `usual`; one outside of `range` is a problem, and then the nearest inside.
pub(super) fn whole(
    section: &Section<'_>,
    key: &str,
    usual: u64,
    range: RangeInclusive<u64>,
    problems: &mut Problems,
) -> u64 {
    let number = section.get_or(key, usual, problems);
    let (least, most) = (*range.start(), *range.end());
    if !range.contains(&number) {
        let message = format!("`{key}` must be from {least} to {most}");
        problems.push(section.key_span(key), message, None);
    }
    number.clamp(least, most)
}

/// Checks that `bytes`, what `learner` will need, are within `memory_max`.
pub(super) fn check_memory(
    learner: &str,
    bytes: usize,
    section: &Section<'_>,
    context: &LearnerContext<'_>,
    problems: &mut Problems,
) {
    let memory_max = section.get_or("memory_max", ByteSize(context.memory_max as u64), problems);
    if bytes as u64 > memory_max.0 {
        let message = format!("`{learner}` needs {bytes} bytes for these features, more than `memory_max`");
        let help = "raise `memory_max`, or lower `categories_max` and `buckets`".to_owned();
        problems.push(section.key_span("memory_max"), message, Some(help));
    }
}

/// Says that the learner does not know the task; `help` says which it knows.
pub(super) fn refuse_task(section: &Section<'_>, help: &str, problems: &mut Problems) {
    let message = "this learner cannot learn this task".to_owned();
    problems.push(section.span(), message, Some(help.to_owned()));
}

#[cfg(test)]
mod tests {
    use crate::conformance::plain::{Plain, try_learner};
    use crate::contracts::Task;

    #[test]
    fn impossible_settings_of_every_learner_are_refused() {
        let rows = Plain::new(&[&[1.0]], &[1.0]);
        let several = Task::Multiclass { classes: 3 };
        for (name, task, text, expected) in [
            (
                "sgd-logistic",
                Task::Binary,
                "rate_schedule = 'adam'",
                "`rate_schedule` must",
            ),
            ("sgd-logistic", several, "", "`sgd-logistic` learns binary tasks"),
            ("sgd-softmax", several, "rate = 11.0", "`rate` must"),
            ("sgd-softmax", several, "memory_max = '100 B'", "more than `memory_max`"),
            ("sgd-softmax", Task::Binary, "", "learns multiclass tasks"),
            ("sgd-linear", Task::Regression, "loss = 'absolute'", "`loss` must"),
            (
                "sgd-linear",
                Task::Regression,
                "huber_delta = 0.0",
                "`huber_delta` must",
            ),
            ("sgd-linear", Task::Binary, "", "learns regression"),
            ("naive-bayes", Task::Binary, "smoothing = 0.0", "`smoothing` must"),
            (
                "naive-bayes",
                Task::Binary,
                "memory_max = '100 B'",
                "more than `memory_max`",
            ),
            ("naive-bayes", Task::Regression, "", "binary and multiclass tasks"),
            ("half-space-trees", Task::Anomaly, "trees = 0", "`trees` must"),
            ("half-space-trees", Task::Anomaly, "depth = 17", "`depth` must"),
            (
                "half-space-trees",
                Task::Anomaly,
                "window_rows = 9",
                "`window_rows` must",
            ),
            (
                "half-space-trees",
                Task::Anomaly,
                "depth = 16\ntrees = 1000",
                "more than `memory_max`",
            ),
            ("half-space-trees", Task::Binary, "", "finds anomalies"),
            ("knn", Task::Binary, "k = 0", "`k` must"),
            ("knn", Task::Binary, "window_rows = 9", "`window_rows` must"),
            ("knn", Task::Binary, "memory_max = '100 B'", "more than `memory_max`"),
            ("knn", Task::Anomaly, "", "`knn` learns binary"),
            ("leveraging-bagging", Task::Binary, "trees = 0", "`trees` must"),
            (
                "leveraging-bagging",
                Task::Regression,
                "",
                "binary and multiclass tasks",
            ),
            (
                "leveraging-bagging",
                Task::Binary,
                "trees = 1000\nmemory_max = '1 MiB'",
                "more than `memory_max`",
            ),
            (
                "adaptive-random-forest",
                Task::Binary,
                "inputs_share = 0.0",
                "`inputs_share` must",
            ),
            (
                "adaptive-random-forest",
                Task::Binary,
                "grace = 0",
                "`grace` must be from 1",
            ),
            (
                "streaming-random-patches",
                Task::Binary,
                "inputs_share = 1.5",
                "`inputs_share` must",
            ),
            (
                "streaming-random-patches",
                Task::Binary,
                "trees = 1000\nmemory_max = '1 MiB'",
                "more than `memory_max`",
            ),
            ("majority", Task::Anomaly, "", "a baseline learns from labels"),
            ("no-change", Task::Anomaly, "", "a baseline learns from labels"),
        ] {
            let problems = try_learner(name, text, task, &rows).err().unwrap();
            assert!(problems.contains(expected), "{name}, {text}: {problems}");
        }
    }
}
