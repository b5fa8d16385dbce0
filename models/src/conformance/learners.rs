//! What a learner must keep that learns row by row.

use std::sync::Mutex;

use super::world::{
    NATIVE, SCALED, TASKS, World, are_sane, columns, encoder_of, hostile, loss, prior_loss, same, try_section, world_of,
};
use super::{Property, all_hold, are_documented};
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};
use crate::detectors::memory::{Memory, snapshot, survives_damage};
use crate::learners::LEARNERS;

/// A learner in one of the settings in which it must work.
pub(super) struct Case {
    kind: &'static dyn LearnerKind<dyn Learner>,
    task: Task,
    columns: &'static str,
    config: &'static str,
}

/// Bytes that a learner may use here.
const MEMORY_MAX: usize = 16 << 20;
const SEED: u64 = 3;
/// They look at no feature: what they lose is what the others are compared with.
const BASELINES: [&str; 2] = ["majority", "no-change"];

impl Case {
    /// Every setting that the learner accepts: its example and nothing at all, each task, each form of columns.
    pub(super) fn of(kind: &'static dyn LearnerKind<dyn Learner>) -> Vec<Self> {
        let mut cases = Vec::new();
        for task in TASKS {
            for columns in [SCALED, NATIVE] {
                for config in [kind.example(), ""] {
                    let case = Self {
                        kind,
                        task,
                        columns,
                        config,
                    };
                    if case.try_build(SEED).is_ok() {
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
        format!("{} ({:?}, {form})", self.kind.name(), self.task)
    }

    fn try_build(&self, seed: u64) -> Result<Box<dyn Learner>, String> {
        self.try_build_within(MEMORY_MAX, seed)
    }

    fn try_build_within(&self, memory_max: usize, seed: u64) -> Result<Box<dyn Learner>, String> {
        let encoder = encoder_of(self.columns);
        let mut context = LearnerContext::new(self.task, &encoder, seed);
        context.memory_max = memory_max;
        try_section(self.config, |section, problems| {
            self.kind.build(section, &context, problems)
        })
    }

    pub(super) fn build(&self) -> Box<dyn Learner> {
        self.try_build(SEED).unwrap()
    }

    pub(super) fn world(&self, rows: usize, seed: u64) -> World {
        world_of(self.task, rows, seed)
    }
}

/// What each keeps.
pub(super) const PROPERTIES: &[Property<Case>] = &[
    ("predictions are those of the model published before the row", |case| {
        let world = case.world(400, 1);
        let outputs = case.task.outputs();
        let mut whole = case.build();
        let mut predictions = vec![0.0; 7];
        whole.learn(world.rows(), Some(&mut predictions));
        assert_eq!(predictions.len(), 400 * outputs);
        let mut single = case.build();
        for row in 0..400 {
            let part = world.part(row, row + 1);
            if let Some(model) = single.publish() {
                let own = &predictions[row * outputs..(row + 1) * outputs];
                assert!(same(&part.scores(&model), own), "row {row}");
            }
            single.learn(part.rows(), None);
        }
    }),
    ("batches are learned as row by row", |case| {
        let world = case.world(1_300, 1);
        let mut whole = case.build();
        whole.learn(world.rows(), None);
        for step in [1, 7, 300] {
            let mut parts = case.build();
            for from in (0..1_300).step_by(step) {
                parts.learn(world.part(from, 1_300.min(from + step)).rows(), None);
            }
            assert_eq!(snapshot(whole.as_ref()), snapshot(parts.as_ref()), "{step} at a time");
        }
    }),
    ("before the first row every class is equally likely", |case| {
        let mut predictions = Vec::new();
        case.build().learn(case.world(1, 2).rows(), Some(&mut predictions));
        let expected = match case.task {
            Task::Binary => vec![0.5],
            Task::Multiclass { classes } => vec![1.0 / f64::from(classes); classes as usize],
            Task::Regression => vec![0.0],
            Task::Anomaly => return,
        };
        assert_eq!(predictions, expected);
    }),
    (
        "publishing changes nothing, and what is published never changes",
        |case| {
            let (learned, other) = (case.world(1_500, 2), case.world(517, 3));
            let mut learner = case.build();
            learner.learn(learned.rows(), None);
            let before = snapshot(learner.as_ref());
            let model = learner.publish().unwrap();
            let again = learner.publish().unwrap();
            assert_eq!(before, snapshot(learner.as_ref()));
            let scores = other.scores(&model);
            assert!(same(&scores, &other.scores(&again)));
            learner.learn(other.rows(), None);
            assert!(same(&scores, &other.scores(&model)), "a published model changed");
            let mut silent = case.build();
            silent.learn(learned.rows(), None);
            silent.learn(other.rows(), None);
            assert_eq!(snapshot(silent.as_ref()), snapshot(learner.as_ref()));
        },
    ),
    ("a row scores alone as among others", |case| {
        let other = case.world(517, 3);
        let mut learner = case.build();
        learner.learn(case.world(1_500, 2).rows(), None);
        let (model, outputs) = (learner.publish().unwrap(), case.task.outputs());
        let scores = other.scores(&model);
        assert!(same(&scores, &other.scores(&model)));
        for row in [0, 1, 45, 46, 47, 48, 129, 516] {
            let alone = other.part(row, row + 1).scores(&model);
            assert!(same(&scores[row * outputs..(row + 1) * outputs], &alone), "row {row}");
        }
    }),
    ("saved and restored it goes on as if nothing had happened", |case| {
        let world = case.world(900, 4);
        for cut in [0, 1, 300, 899] {
            let (first, second) = (world.part(0, cut), world.part(cut, 900));
            let mut whole = case.build();
            whole.learn(first.rows(), None);
            let mut memory = Memory::default();
            memory.save(whole.as_ref());
            let mut restored = case.build();
            restored.restore(&memory).unwrap();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            whole.learn(second.rows(), Some(&mut a));
            restored.learn(second.rows(), Some(&mut b));
            assert!(same(&a, &b), "other predictions after {cut} rows");
            assert_eq!(
                snapshot(whole.as_ref()),
                snapshot(restored.as_ref()),
                "after {cut} rows"
            );
            // Stamps go on too: saving on top of the older snapshot must find every change.
            memory.save(restored.as_ref());
            assert_eq!(memory.contents(), snapshot(whole.as_ref()), "stamps after {cut} rows");
        }
    }),
    ("a snapshot of what did not change costs nothing", |case| {
        let mut learner = case.build();
        learner.learn(case.world(600, 5).rows(), None);
        let mut memory = Memory::default();
        memory.save(learner.as_ref());
        learner.publish();
        memory.save(learner.as_ref());
        assert_eq!(memory.written, 0);
    }),
    ("damaged state is refused", |case| {
        let mut learner = case.build();
        learner.learn(case.world(60, 5).rows(), None);
        survives_damage(&learner, || case.build());
    }),
    ("nothing is learned from impossible rows", |case| {
        let mut world = case.world(20, 6);
        for (row, weight) in world.weights.iter_mut().enumerate() {
            *weight = [0.0, f64::NAN, -1.0, f64::INFINITY][row % 4];
        }
        let mut labelled = case.world(20, 6);
        for (row, label) in labelled.labels.iter_mut().enumerate() {
            *label = match case.task {
                Task::Regression => [f64::NAN, f64::INFINITY][row % 2],
                _ => [0.5, f64::NAN, -1.0, 3.0][row % 4],
            };
        }
        let worlds = match case.task {
            Task::Anomaly => vec![world],
            _ => vec![world, labelled],
        };
        for world in worlds {
            let mut learner = case.build();
            let empty = snapshot(learner.as_ref());
            let mut predictions = Vec::new();
            learner.learn(world.rows(), Some(&mut predictions));
            assert_eq!((predictions.len(), learner.seen()), (20 * case.task.outputs(), 0));
            assert!(learner.publish().is_none(), "it publishes what it has not learned");
            assert_eq!(empty, snapshot(learner.as_ref()));
        }
    }),
    ("scores are sane whatever was learned", |case| {
        let world = case.world(800, 7);
        for wild in hostile(&world) {
            let mut learner = case.build();
            let mut predictions = Vec::new();
            learner.learn(wild.rows(), Some(&mut predictions));
            are_sane(case.task, &predictions);
            let model = learner.publish().unwrap();
            are_sane(case.task, &wild.scores(&model));
            are_sane(case.task, &world.scores(&model));
        }
    }),
    ("one class only is learned too", |case| {
        let mut world = case.world(300, 8);
        world.labels.fill(0.0);
        let mut learner = case.build();
        learner.learn(world.rows(), None);
        let scores = world.scores(&learner.publish().unwrap());
        are_sane(case.task, &scores);
        if !matches!(case.task, Task::Anomaly) {
            let found = loss(case.task, &scores, &world.labels);
            assert!(found < 0.5, "loss {found} where nothing but 0 was ever seen");
        }
    }),
    ("the same rows and seed make the same bits", |case| {
        let world = case.world(600, 8);
        let run = || {
            let mut learner = case.build();
            learner.learn(world.rows(), None);
            snapshot(learner.as_ref())
        };
        assert_eq!(run(), run());
    }),
    ("memory stays within the budget", |case| {
        // The smallest one that will do: what grows meets it soon.
        let budgets = (17..)
            .map(|power| 1 << power)
            .take_while(|budget| *budget <= MEMORY_MAX);
        let mut small = budgets.map(|budget| (budget, case.try_build_within(budget, SEED)));
        let (budget, mut learner) = small
            .find_map(|(budget, learner)| Some((budget, learner.ok()?)))
            .unwrap();
        // An example says itself how much it may use.
        let budget = if case.config.contains("memory_max") {
            MEMORY_MAX
        } else {
            budget
        };
        for seed in 0..20 {
            learner.learn(case.world(10_000, seed).rows(), None);
            assert!(
                learner.bytes() <= budget,
                "{} bytes of {budget} after {} rows",
                learner.bytes(),
                learner.seen()
            );
        }
        assert_eq!(learner.seen(), 200_000);
        let saved: usize = snapshot(learner.as_ref()).values().map(Vec::len).sum();
        let bytes = learner.bytes();
        assert!(saved <= bytes, "{saved} bytes saved, {bytes} announced");
    }),
    ("it learns", |case| {
        if case.task == Task::Anomaly || BASELINES.contains(&case.kind.name()) {
            return;
        }
        let (train, test) = (case.world(4_000, 20).sane(), case.world(3_000, 21).sane());
        let mut learner = case.build();
        learner.learn(train.rows(), None);
        let scores = test.scores(&learner.publish().unwrap());
        let (found, prior) = (
            loss(case.task, &scores, &test.labels),
            prior_loss(case.task, &test.labels),
        );
        assert!(found < 0.9 * prior, "loss {found}, that of the prior is {prior}");
    }),
    ("what it tells of itself is finite and changes nothing", |case| {
        let mut learner = case.build();
        learner.learn(case.world(300, 9).rows(), None);
        let before = snapshot(learner.as_ref());
        learner.report(&mut |fact| assert!(fact.value.is_finite() && !fact.name.is_empty(), "{fact:?}"));
        assert_eq!(before, snapshot(learner.as_ref()));
    }),
    ("a model answers the task over the columns of the context", |case| {
        let mut learner = case.build();
        learner.learn(case.world(300, 9).rows(), None);
        let model = learner.publish().unwrap();
        assert_eq!((model.task(), model.columns()), (case.task, &columns()[..]));
    }),
];

#[test]
fn learners_are_documented() {
    are_documented(LEARNERS.iter().map(|kind| *kind as _));
}

#[test]
fn every_learner_keeps_its_contract() {
    // The longest test of the crate, on two cores: whoever is ready takes the next case.
    let cases: Vec<Case> = LEARNERS.iter().flat_map(|&kind| Case::of(kind)).collect();
    let queue = Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let next = || queue.lock().unwrap().next().map(|case| (case.name(), case));
            scope.spawn(move || all_hold(PROPERTIES, std::iter::from_fn(next)));
        }
    });
}

#[test]
fn impossible_settings_are_refused_at_their_place() {
    let encoder = encoder_of(SCALED);
    let context = LearnerContext::new(Task::Binary, &encoder, 3);
    for (text, expected) in [
        ("rate = 0.0", "`rate` must"),
        ("l2 = -1.0", "`l2` must"),
        ("memory_max = '1 KiB'", "bytes"),
    ] {
        let problems = try_section(text, |section, problems| LEARNERS[0].build(section, &context, problems));
        let problems = problems.err().unwrap();
        assert!(problems.contains(expected), "{problems}");
    }
    let encoder = encoder_of(NATIVE);
    let context = LearnerContext::new(Task::Binary, &encoder, 3);
    let problems = try_section("", |section, problems| LEARNERS[0].build(section, &context, problems));
    let problems = problems.err().unwrap();
    assert!(problems.contains("column `country` is encoded as a code"), "{problems}");
}
