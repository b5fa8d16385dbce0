//! `hoeffding-tree`: a tree that splits a leaf as soon as it is sure enough which question is the best.
//!
//! Domingos and Hulten, "Mining high-speed data streams", KDD 2000 (VFDT), with leaves that predict by majority or by
//! naive Bayes, whichever was right more often in the leaf (Holmes, Kirkby and Pfahringer, PKDD 2005). Defaults are
//! those of MOA. What differs from MOA: a category is split off alone, one against the others, never into one branch for
//! each; the gain of a question is measured against the rows of which the leaf saw the input itself; a missing value
//! goes the way of more rows; probabilities are as if each class had come once more.
//!
//! Values are learned by another tree (see `value_tree`): FIMT-DD without its trees beside, of Ikonomovska, Gama and Džeroski,
//! Data Mining and Knowledge Discovery 2011.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::settings::{named, whole};
use super::tree::{Grow, LeafRule, MEMORY_MAX, Tree, TreeLearner, TreeSettings};
use super::value_forest::ValueForest;
use super::value_tree::{self, ValueSettings};
use crate::contracts::{Fact, Learner, LearnerContext, LearnerKind, Scorer, Task};
use crate::scorers::trees::{Combination, Trees};

/// The entry of the list.
pub(crate) struct HoeffdingTreeKind;

/// The fields of every Hoeffding tree, besides its name.
pub(super) const GRACE: Field = Field {
    name: "grace",
    kind: Kind::Integer,
    need: Need::Optional("200"),
    doc: "Rows that a leaf sees between two attempts to split; from 1 to 1000000.",
};
pub(super) const DELTA: Field = Field {
    name: "delta",
    kind: Kind::Float,
    need: Need::Optional("0.0000001"),
    doc: "Probability, at a split, that another question would be better; between 0 and 1.",
};
pub(super) const TIE: Field = Field {
    name: "tie",
    kind: Kind::Float,
    need: Need::Optional("0.05"),
    doc: "A leaf also splits when Hoeffding's bound is below this: the best questions are then as good as equal. From 0 \
          to 1.",
};
pub(super) const LEAF: Field = Field {
    name: "leaf",
    kind: Kind::OneOf(&["adaptive", "naive-bayes", "majority"]),
    need: Need::Optional("`\"adaptive\"`"),
    doc: "How a leaf predicts: by naive Bayes, by how often it saw each class, or by the one that was right more often.",
};

/// The same where values are learned too.
pub(super) const LEAF_ANY: Field = Field {
    name: "leaf",
    kind: Kind::OneOf(&["adaptive", "naive-bayes", "majority", "linear", "mean"]),
    need: Need::Optional("`\"adaptive\"`"),
    doc: "How a leaf predicts. Classes: by `naive-bayes`, by how often it saw each class (`majority`), or by the one that was \
          right more often. Values: by a `linear` model of the inputs, by the `mean`, or by the one that was better lately.",
};

impl Component for HoeffdingTreeKind {
    fn name(&self) -> &'static str {
        "hoeffding-tree"
    }

    fn summary(&self) -> &'static str {
        "A decision tree that grows row by row: a leaf splits once Hoeffding's bound says that it has found the best \
         question. It never takes a split back. For values a leaf holds a linear model beside the mean. Binary and multiclass tasks, \
         regression; takes missing values and categories."
    }

    fn fields(&self) -> &'static [Field] {
        const { &[named(&["hoeffding-tree"]), GRACE, DELTA, TIE, LEAF_ANY, MEMORY_MAX] }
    }

    fn example(&self) -> &'static str {
        "learner = \"hoeffding-tree\"\ngrace = 200\ndelta = 1e-7\ntie = 0.05\nleaf = \"adaptive\"\nmemory_max = \"16 MiB\"\n"
    }
}

/// Reads the fields above.
pub(super) fn read_settings(section: &Section<'_>, settings: &mut TreeSettings, problems: &mut Problems) {
    settings.grace = whole(section, "grace", settings.grace as u64, 1..=1_000_000, problems) as f64;
    settings.delta = section.get_or("delta", settings.delta, problems);
    settings.tie = section.get_or("tie", settings.tie, problems);
    let leaf = section.get_or("leaf", "adaptive".to_owned(), problems);
    settings.leaf = match leaf.as_str() {
        "naive-bayes" => LeafRule::NaiveBayes,
        "majority" => LeafRule::Majority,
        "adaptive" => LeafRule::Adaptive,
        _ => {
            let message = "`leaf` must be `adaptive`, `naive-bayes` or `majority` for classes".to_owned();
            problems.push(section.key_span("leaf"), message, None);
            LeafRule::Adaptive
        }
    };
    check_bounds(section, settings.delta, settings.tie, problems);
}

/// Reads the same for a tree of values.
pub(super) fn read_value_settings(section: &Section<'_>, settings: &mut ValueSettings, problems: &mut Problems) {
    settings.grace = whole(section, "grace", settings.grace as u64, 1..=1_000_000, problems) as f64;
    settings.delta = section.get_or("delta", settings.delta, problems);
    settings.tie = section.get_or("tie", settings.tie, problems);
    check_bounds(section, settings.delta, settings.tie, problems);
    let leaf = section.get_or("leaf", "adaptive".to_owned(), problems);
    settings.leaf = match leaf.as_str() {
        "linear" => value_tree::LeafRule::Linear,
        "mean" => value_tree::LeafRule::Mean,
        "adaptive" => value_tree::LeafRule::Adaptive,
        _ => {
            let message = "`leaf` must be `adaptive`, `linear` or `mean` for values".to_owned();
            problems.push(section.key_span("leaf"), message, None);
            return;
        }
    };
}

fn check_bounds(section: &Section<'_>, delta: f64, tie: f64, problems: &mut Problems) {
    let checks = [
        ("delta", delta > 0.0 && delta < 1.0, "between 0 and 1"),
        ("tie", (0.0..=1.0).contains(&tie), "from 0 to 1"),
    ];
    for (name, _, range) in checks.iter().filter(|(_, fits, _)| !fits) {
        problems.push(section.key_span(name), format!("`{name}` must be {range}"), None);
    }
}

impl LearnerKind<dyn Learner> for HoeffdingTreeKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        if context.task == Task::Regression {
            return TreeLearner::build_any(section, context, problems, |inputs, memory_max, problems| {
                let mut settings = ValueSettings::new(1, inputs, context.seed, memory_max);
                read_value_settings(section, &mut settings, problems);
                ValueForest::single(settings)
            });
        }
        TreeLearner::build(section, context, problems, |mut settings, problems| {
            read_settings(section, &mut settings, problems);
            Tree::new(Arc::new(settings))
        })
    }
}

impl Grow for Tree {
    type Label = usize;

    fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        Tree::predict_into(self, row, out);
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        match out {
            Some(out) => self.predict_then_learn(row, class, weight, out),
            None => Tree::learn(self, row, class, weight),
        }
    }

    fn publish(&self, width: usize, binary: bool) -> Result<Arc<dyn Scorer>, String> {
        let members = vec![(1.0, Tree::publish(self))];
        let trees = Trees::new(width, self.settings().classes, binary, Combination::Mean, members)?;
        Ok(Arc::new(trees))
    }

    fn bytes(&self) -> usize {
        Tree::bytes(self)
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        let (leaves, inactive, depth) = self.census();
        for (name, value) in [("leaves", leaves), ("leaves_inactive", inactive), ("depth", depth)] {
            each(Fact {
                name,
                of: "",
                value: value as f64,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use driftmill_config::Document;

    use super::*;
    use crate::contracts::Task;
    use crate::encoders::ColumnsEncoder;
    use crate::frame::{ColumnKind, ColumnSpec};
    use crate::learners::LEARNERS;

    /// What is wrong with a section, for each learner of trees.
    fn problems_of(text: &str, task: Task) -> Vec<String> {
        let columns = [ColumnSpec {
            name: "amount".to_owned(),
            kind: ColumnKind::Number,
        }];
        let document = Document::parse("test.toml", text, &|_| None).unwrap();
        let trees = LEARNERS.iter().filter(|kind| kind.name().ends_with("-tree"));
        trees
            .map(|kind| {
                let mut problems = document.problems();
                let empty = Document::parse("test.toml", "", &|_| None).unwrap();
                let encoder = ColumnsEncoder::from_config(&empty.root(), &columns, 1, &mut problems).unwrap();
                let context = LearnerContext::new(task, &encoder, 3);
                let built = kind.build(&document.root(), &context, &mut problems);
                assert_eq!(built.is_none(), !problems.is_empty());
                problems.render()
            })
            .collect()
    }

    #[test]
    fn impossible_settings_are_refused_at_their_place() {
        for (text, expected) in [
            ("grace = 0", "`grace` must be from 1"),
            ("delta = 1.0", "`delta` must be between"),
            ("delta = 0.0", "`delta` must be between"),
            ("tie = 1.5", "`tie` must be from 0"),
            ("memory_max = '1 KiB'", "more than `memory_max`"),
        ] {
            let found = problems_of(text, Task::Binary);
            assert!(
                found.len() >= 3 && found.iter().all(|problems| problems.contains(expected)),
                "{found:?}"
            );
        }
        let found = problems_of("", Task::Regression);
        assert!(
            found[0].is_empty()
                && found[1..]
                    .iter()
                    .all(|problems| problems.contains("cannot learn this task")),
            "{found:?}"
        );
        for (task, text) in [(Task::Binary, "leaf = 'mean'"), (Task::Regression, "leaf = 'majority'")] {
            let found = problems_of(text, task);
            assert!(found[0].contains("`leaf` must be `adaptive`"), "{found:?}");
        }
        assert!(problems_of("", Task::Binary).iter().all(String::is_empty));
    }
}
