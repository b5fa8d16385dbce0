//! Artifacts of every learner there is: read back, and refused when they are damaged, forged or of another version.

use std::sync::Arc;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::learners::Case;
use super::world::{SCALED, World, columns, encoder_of, same, try_section, world};
use crate::artifact::{Artifact, ArtifactError};
use crate::contracts::{LearnerContext, Task};
use crate::learners::LEARNERS;
use crate::model::Model;
use crate::scorers::pool::Pool;

/// A model of every learner of binary tasks, and a team of them all.
fn models(world: &World) -> Vec<Model> {
    let encoder = encoder_of(SCALED);
    let context = LearnerContext::new(Task::Binary, &encoder, 3);
    let online = LEARNERS.iter().filter_map(|&kind| {
        // Those that cannot learn a binary task have a test of their own below.
        let built = try_section(kind.example(), |section, problems| {
            kind.build(section, &context, problems)
        });
        let mut learner = built.ok()?;
        learner.learn(world.rows(), None);
        Some(Model::clone(&learner.publish().unwrap()))
    });
    let mut models: Vec<Model> = online.chain(super::batch::models(world)).collect();
    let mut members: Vec<Arc<Model>> = models.iter().cloned().map(Arc::new).collect();
    // The first twice: its encoder is shared.
    members.insert(0, Arc::clone(&members[0]));
    models.push(team(members.clone()));
    members.push(Arc::new(team(members.clone())));
    models.push(team(members));
    models
}

fn team(members: Vec<Arc<Model>>) -> Model {
    let weights = (1..=members.len()).map(|weight| weight as f64).collect();
    let pool = Pool::new(weights, 1).unwrap();
    Model::combined(Task::Binary, members, Arc::new(pool)).unwrap()
}

fn lineage() -> Map<String, Value> {
    let Value::Object(map) = json!({ "job": "j1", "rows": 2000, "segments": ["a", "b"] }) else {
        unreachable!()
    };
    map
}

#[test]
fn an_artifact_scores_as_its_model_with_any_dictionaries() {
    let (learned, other) = (world(1_500, 9), world(300, 10));
    for (index, model) in models(&learned).into_iter().enumerate() {
        let model = model.with_threshold((index % 2 == 0).then_some(0.3));
        let bytes = Artifact::write(&model, &lineage());
        let read = Artifact::read(&bytes).unwrap();
        assert_eq!(read.lineage, lineage());
        assert_eq!(read.model.columns(), columns());
        assert!(read.model.accepts(&columns()).is_ok() && read.model.accepts(&columns()[1..]).is_err());
        assert_eq!(
            (read.model.task(), read.model.threshold()),
            (model.task(), model.threshold())
        );
        for world in [&learned, &other] {
            assert!(same(&world.scores(&model), &world.scores(&read.model)), "{model:?}");
        }
        assert_eq!(Artifact::write(&read.model, &lineage()), bytes);
        assert_eq!(Artifact::id(&bytes).len(), 64);
    }
}

#[test]
fn artifacts_of_every_learner_and_task_score_as_their_models() {
    for case in LEARNERS.iter().flat_map(|&kind| Case::of(kind)) {
        let (learned, other) = (case.world(900, 9), case.world(300, 10));
        let mut learner = case.build();
        learner.learn(learned.rows(), None);
        let model = learner.publish().unwrap();
        let read = Artifact::read(&Artifact::write(&model, &lineage())).unwrap();
        assert_eq!(read.model.task(), model.task());
        assert!(
            same(&other.scores(&model), &other.scores(&read.model)),
            "{}",
            case.name()
        );
    }
}

/// Replaces the hash at the end by that of the content.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(32));
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

#[test]
fn damaged_artifacts_are_refused_before_they_are_parsed() {
    for model in models(&world(300, 12)) {
        let bytes = Artifact::write(&model, &lineage());
        for at in (4..bytes.len()).step_by(bytes.len() / 300 + 1) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Artifact::read(&damaged).unwrap_err(), ArtifactError::Damaged);
            assert_eq!(Artifact::read(&bytes[..at]).unwrap_err(), ArtifactError::Damaged);
        }
        assert_eq!(Artifact::read(b"").unwrap_err(), ArtifactError::NotAnArtifact);
        assert_eq!(
            Artifact::read(b"\x80\x04\x95pickle").unwrap_err(),
            ArtifactError::NotAnArtifact
        );
    }
}

#[test]
fn unknown_versions_and_parts_are_refused_by_name() {
    let model = &models(&world(300, 13))[0];
    let bytes = Artifact::write(model, &lineage());
    let mut newer = bytes.clone();
    newer[4] = 2;
    assert_eq!(Artifact::read(&sealed(newer)).unwrap_err(), ArtifactError::Version(2));
    for (known, unknown, expected) in [
        ("linear", "pickle", "this binary has no scorer `pickle`"),
        ("one-hot", "ten-hot", "this binary has no encoder `ten-hot`"),
        ("TASK", "CODE", "section `CODE` stands in its place"),
    ] {
        let at = bytes
            .windows(known.len())
            .position(|part| part == known.as_bytes())
            .unwrap();
        let mut other = bytes.clone();
        other[at..at + known.len()].copy_from_slice(unknown.as_bytes());
        let error = Artifact::read(&sealed(other)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn forged_artifacts_with_a_right_hash_never_panic() {
    let seed = 14;
    let mut random = Pcg64::seed_from_u64(seed);
    let learned = world(300, seed);
    let mut taken = 0;
    for model in models(&learned) {
        let bytes = Artifact::write(&model, &lineage());
        for _ in 0..1_000 {
            let mut forged = bytes.clone();
            for _ in 0..1 + random.next_u64() % 4 {
                let at = random.next_u64() as usize % forged.len();
                match random.next_u64() % 4 {
                    0 => forged[at] = random.next_u64() as u8,
                    1 => forged[at] ^= 1 << (random.next_u64() % 8),
                    2 => forged.truncate(at.max(40)),
                    _ => forged[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                }
            }
            if let Ok(artifact) = Artifact::read(&sealed(forged)) {
                let scores = learned.scores(&artifact.model);
                assert_eq!(scores.len(), 300 * artifact.model.task().outputs());
                taken += 1;
            }
        }
    }
    assert!(
        taken > 0,
        "no forgery was taken, so that no forged model was scored; seed {seed}"
    );
}

#[test]
fn parts_of_a_team_that_do_not_fit_are_refused() {
    let model = Arc::new(models(&world(300, 15)).remove(0));
    let pool = |members: usize, outputs| Arc::new(Pool::new(vec![1.0; members], outputs).unwrap());
    let refused = |members: Vec<Arc<Model>>, combiner| Model::combined(Task::Binary, members, combiner).unwrap_err();
    assert!(refused(vec![], pool(1, 1)).contains("without a member"));
    assert!(refused(vec![Arc::clone(&model)], pool(2, 1)).contains("1 inputs are made"));
    assert!(refused(vec![Arc::clone(&model); 2], pool(1, 2)).contains("1 scores a row"));
    let mut deep = model;
    for _ in 0..4 {
        deep = Arc::new(Model::combined(Task::Binary, vec![deep], pool(1, 1)).unwrap());
    }
    assert!(refused(vec![deep], pool(1, 1)).contains("deep"));
}
