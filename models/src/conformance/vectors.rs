//! Every learner of the lists takes a column of vectors, as the file leaves it open and in each of its scales.

use super::all_hold;
use super::world::{TASKS, VECTORS, World, are_sane, hostile, loss, prior_loss, same, try_section, vectors, world_of};
use crate::artifact::Artifact;
use crate::contracts::{FitStart, LearnerContext, Task};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{ColumnSpec, Frame};
use crate::learners::{BATCH_LEARNERS, LEARNERS};
use crate::model::Model;

/// What the file says of the column.
const TABLES: [&str; 3] = [
    "",
    "v = { encode = 'vector', scale = 'unit-length', missing_indicator = true }",
    "v = { encode = 'vector', scale = 'none', missing = 'keep' }",
];
/// They look at no feature.
const BASELINES: [&str; 2] = ["majority", "no-change"];
const SEED: u64 = 3;

fn columns() -> [ColumnSpec; 1] {
    let name = "v".to_owned();
    [ColumnSpec { name, kind: VECTORS }]
}

/// Rows whose only feature is a vector.
fn rows_of(task: Task, rows: usize, seed: u64) -> World {
    let world = vectors(&world_of(task, rows, seed));
    let column = world.frame.columns().last().cloned();
    World {
        frame: Frame::new(rows, column.into_iter().collect()),
        dictionaries: Dictionaries::new(&columns(), 1 << 10),
        ..world
    }
}

/// A learner of one of the lists in a setting that it accepts, by its place.
struct Case {
    online: bool,
    place: usize,
    task: Task,
    table: &'static str,
}

impl Case {
    fn name(&self) -> String {
        let name = match self.online {
            true => LEARNERS[self.place].name(),
            false => BATCH_LEARNERS[self.place].name(),
        };
        format!("{name} ({:?}, {})", self.task, self.table)
    }

    /// The model of these rows; what is wrong with the setting otherwise.
    fn model(&self, world: &World) -> Result<Model, String> {
        let encoder = try_section(self.table, |section, problems| {
            ColumnsEncoder::from_config(section, &columns(), SEED, problems)
        })?;
        let context = LearnerContext::new(self.task, &encoder, SEED);
        if self.online {
            let kind = LEARNERS[self.place];
            let mut learner = try_section("", |section, problems| kind.build(section, &context, problems))?;
            learner.learn(world.rows(), None);
            assert!(learner.bytes() <= context.memory_max);
            return Ok(Model::clone(&learner.publish().unwrap()));
        }
        let kind = BATCH_LEARNERS[self.place];
        let text = kind.example().replace("trees = 100", "trees = 12");
        let learner = try_section(&text, |section, problems| kind.build(section, &context, problems))?;
        Ok(learner.fit(world.rows(), FitStart::anew(SEED)).unwrap())
    }

    fn is_accepted(&self) -> bool {
        self.model(&rows_of(self.task, 120, 1)).is_ok()
    }
}

fn cases() -> Vec<Case> {
    let places = (0..LEARNERS.len()).map(|place| (true, place));
    let places = places.chain((0..BATCH_LEARNERS.len()).map(|place| (false, place)));
    let mut cases = Vec::new();
    for (online, place) in places {
        let before = cases.len();
        for (task, table) in TASKS.iter().flat_map(|&task| TABLES.map(|table| (task, table))) {
            let case = Case {
                online,
                place,
                task,
                table,
            };
            if case.is_accepted() {
                cases.push(case);
            }
        }
        assert!(
            cases.len() > before,
            "learner {place} (online: {online}) takes no vectors"
        );
    }
    cases
}

#[test]
fn every_learner_learns_from_vectors() {
    let property = |case: &Case| {
        let (learned, other) = (rows_of(case.task, 1_500, 8), rows_of(case.task, 500, 9));
        let model = case.model(&learned).unwrap();
        let scores = other.scores(&model);
        are_sane(case.task, &scores);
        let is_baseline = BASELINES.iter().any(|name| case.name().starts_with(name));
        if !is_baseline && case.task != Task::Anomaly {
            let (loss, prior) = (
                loss(case.task, &scores, &other.labels),
                prior_loss(case.task, &other.labels),
            );
            assert!(loss < 0.9 * prior, "it loses {loss}, the prior {prior}");
        }
        let bytes = Artifact::write(&model, &serde_json::Map::new());
        let read = Artifact::read(&bytes).unwrap();
        assert!(
            same(&scores, &other.scores(&read.model)),
            "the artifact scores otherwise"
        );
        for world in hostile(&other) {
            are_sane(case.task, &world.scores(&model));
        }
    };
    let cases = cases();
    assert!(cases.len() > 60, "{}", cases.len());
    all_hold(
        &[("it learns from vectors", property)],
        cases.into_iter().map(|case| (case.name(), case)),
    );
}
