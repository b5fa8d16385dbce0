//! What a learner must keep that is fitted on a training set.

use super::world::{
    NATIVE, SCALED, TASKS, World, are_sane, encoder_of, hostile, loss, prior_loss, same, try_section, world, world_of,
};
use super::{Property, all_hold, are_documented};
use crate::artifact::Artifact;
use crate::contracts::{BatchLearner, FitStart, LearnerContext, LearnerKind, Task};
use crate::learners::BATCH_LEARNERS;
use crate::model::Model;

/// A learner in one of the settings in which it must work.
pub(super) struct Case {
    kind: &'static dyn LearnerKind<dyn BatchLearner>,
    task: Task,
    columns: &'static str,
    /// Beside those of its example.
    settings: &'static str,
}

/// What stands around a learner stands around all of them alike: it is tested around the first of the list, by task.
const AROUND: [(Task, &str); 2] = [
    (Task::Binary, "calibration = 'platt'"),
    (
        Task::Multiclass { classes: 3 },
        "calibration = 'isotonic'\nclass_weight = 'balanced'",
    ),
];

impl Case {
    /// Every setting that the learner accepts.
    pub(super) fn of(kind: &'static dyn LearnerKind<dyn BatchLearner>) -> Vec<Self> {
        let mut cases = Vec::new();
        for task in TASKS {
            for columns in [SCALED, NATIVE] {
                let is_first = kind.name() == BATCH_LEARNERS[0].name();
                let around = AROUND.into_iter().filter(|(of, _)| is_first && *of == task);
                for settings in around.map(|(_, settings)| settings).chain([""]) {
                    let case = Self {
                        kind,
                        task,
                        columns,
                        settings,
                    };
                    if case.try_build().is_ok() {
                        cases.push(case);
                    }
                }
            }
        }
        assert!(!cases.is_empty(), "{} accepts no setting", kind.name());
        cases
    }

    pub(super) fn name(&self) -> String {
        let form = if self.columns == SCALED { "scaled" } else { "native" };
        format!("{} ({:?}, {form}) {}", self.kind.name(), self.task, self.settings)
    }

    /// As its example configures it, with fewer trees where it has such a key.
    fn try_build(&self) -> Result<Box<dyn BatchLearner>, String> {
        let encoder = encoder_of(self.columns);
        let context = LearnerContext::new(self.task, &encoder, 3);
        let text = self.kind.example().replace("trees = 100", "trees = 12");
        let text = format!("{text}\n{}", self.settings);
        try_section(&text, |section, problems| self.kind.build(section, &context, problems))
    }

    fn fit(&self, world: &World, start: FitStart<'_>) -> Result<Model, String> {
        self.try_build()?
            .fit(world.rows(), start)
            .map_err(|error| error.to_string())
    }

    fn fitted(&self, world: &World) -> Model {
        self.fit(world, FitStart::anew(3)).unwrap()
    }

    fn world(&self, rows: usize, seed: u64) -> World {
        world_of(self.task, rows, seed)
    }
}

/// A model of every batch learner of a binary task.
pub(super) fn models(world: &World) -> Vec<Model> {
    let cases = BATCH_LEARNERS.iter().flat_map(|&kind| Case::of(kind));
    cases
        .filter(|case| case.task == Task::Binary)
        .map(|case| case.fitted(world))
        .collect()
}

pub(super) const PROPERTIES: &[Property<Case>] = &[
    ("the same rows and seed make the same bytes", |case| {
        let world = case.world(600, 8);
        let bytes = || Artifact::write(&case.fitted(&world), &serde_json::Map::new());
        assert_eq!(bytes(), bytes());
    }),
    ("a row scores alone as among others", |case| {
        let (learned, other) = (case.world(1_500, 2), case.world(517, 3));
        let (model, outputs) = (case.fitted(&learned), case.task.outputs());
        let scores = other.scores(&model);
        for row in [0, 1, 45, 46, 47, 48, 129, 516] {
            let alone = other.part(row, row + 1).scores(&model);
            assert!(same(&scores[row * outputs..(row + 1) * outputs], &alone), "row {row}");
        }
    }),
    (
        "rows from which nothing can be learned are an error in a sentence",
        |case| {
            let mut world = case.world(20, 6);
            world.weights.fill(0.0);
            let error = case.fit(&world, FitStart::anew(1)).unwrap_err();
            assert!(error.contains("none of 20 rows"), "{error}");
            assert!(case.fit(&world.part(0, 0), FitStart::anew(1)).is_err());
            if matches!(case.task, Task::Binary | Task::Multiclass { .. }) {
                let mut world = case.world(20, 6);
                world.labels.fill(1.0);
                let error = case.fit(&world, FitStart::anew(1)).unwrap_err();
                assert!(error.contains("class 0"), "{error}");
            }
        },
    ),
    ("scores are sane whatever was learned", |case| {
        let world = case.world(800, 7);
        for wild in hostile(&world) {
            let model = case.fitted(&wild);
            are_sane(case.task, &wild.scores(&model));
            are_sane(case.task, &world.scores(&model));
        }
    }),
    ("a model to start from changes nothing about what is possible", |case| {
        let (first, second) = (case.world(600, 8), case.world(600, 9));
        let older = case.fitted(&first);
        let warm = case.fit(&second, FitStart::warm(3, &older)).unwrap();
        are_sane(case.task, &second.scores(&warm));
        // One of another task and width is left aside.
        let other = TASKS.into_iter().find(|task| *task != case.task).unwrap();
        let strange = super::toys::constant(other);
        let left = case.fit(&second, FitStart::warm(3, &strange)).unwrap();
        assert!(same(&second.scores(&left), &second.scores(&case.fitted(&second))));
    }),
    ("it learns", |case| {
        let (train, test) = (case.world(3_000, 20).sane(), case.world(3_000, 21).sane());
        let scores = test.scores(&case.fitted(&train));
        let (found, prior) = (
            loss(case.task, &scores, &test.labels),
            prior_loss(case.task, &test.labels),
        );
        assert!(found < 0.9 * prior, "loss {found}, that of the prior is {prior}");
    }),
];

#[test]
fn batch_learners_are_documented() {
    are_documented(BATCH_LEARNERS.iter().map(|kind| *kind as _));
}

#[test]
fn every_batch_learner_keeps_its_contract() {
    for &kind in BATCH_LEARNERS {
        all_hold(PROPERTIES, Case::of(kind).into_iter().map(|case| (case.name(), case)));
    }
}

#[test]
fn impossible_settings_are_refused() {
    let encoder = encoder_of(SCALED);
    for &kind in BATCH_LEARNERS {
        let context = LearnerContext::new(Task::Binary, &encoder, 3);
        let built = try_section("rows_max = 1", |section, problems| {
            kind.build(section, &context, problems)
        });
        assert!(built.is_err(), "{}", kind.name());
    }
}

#[test]
fn binary_models_answer_most_rows_right() {
    let (train, test) = (world(3_000, 20).sane(), world(3_000, 21).sane());
    for model in models(&train) {
        let scores = test.scores(&model);
        let right = scores.iter().zip(&test.labels);
        let right = right.filter(|(p, y)| model.decide(**p) == (**y == 1.0)).count();
        assert!(right as f64 / 3_000.0 > 0.78, "{model:?}: {right} of 3000");
    }
}
