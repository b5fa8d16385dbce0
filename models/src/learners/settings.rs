//! Settings that several learners read alike.

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
