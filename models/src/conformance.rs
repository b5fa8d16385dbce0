//! What every learner, encoder and scorer must keep, tested over the lists: whoever adds one gets these tests.

use std::collections::BTreeMap;

use driftmill_config::{Component, Document, Problems, check_example};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::artifact::{Artifact, ArtifactError};
use crate::contracts::{BatchLearner, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::detectors::memory::{Memory, snapshot, survives_damage};
use crate::dictionary::Dictionaries;
use crate::encoders::{ColumnsEncoder, ENCODERS};
use crate::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};
use crate::learners::{BATCH_LEARNERS, LEARNERS};
use crate::model::{Model, Scratch};
use crate::scorers::SCORERS;

/// Every encoder, with the columns of [`World`].
const COLUMNS: &str = "
amount = { encode = 'standardise', missing_indicator = true }
hour = { encode = 'none' }
country = { encode = 'one-hot', categories_max = 3 }
merchant = { encode = 'hash', buckets = 16, signed = true }
card = { encode = 'one-hot', categories_max = 200, unseen = 'zero', missing = 'zero' }
";

/// Labelled rows.
struct World {
    frame: Frame,
    dictionaries: Dictionaries,
    labels: Vec<f64>,
    weights: Vec<f64>,
}

fn columns() -> Vec<ColumnSpec> {
    let spec = |name: &str, kind| ColumnSpec {
        name: name.to_owned(),
        kind,
    };
    vec![
        spec("amount", ColumnKind::Number),
        spec("hour", ColumnKind::Number),
        spec("constant", ColumnKind::Number),
        spec("country", ColumnKind::Category),
        spec("merchant", ColumnKind::Category),
        spec("card", ColumnKind::Category),
    ]
}

/// A number from 0 to 1.
fn uniform(random: &mut Pcg64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Random rows: missing, infinite and absurd numbers, missing categories and more of them than fit anywhere. Class 1
/// is likely for large amounts and one of the countries.
fn world(rows: usize, seed: u64) -> World {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut dictionaries = Dictionaries::new(&columns(), 20_000);
    let (mut amount, mut hour, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    let mut codes: [Vec<u32>; 3] = Default::default();
    for row in 0..rows {
        let value = 10.0 * uniform(&mut random);
        let country = (5.0 * uniform(&mut random)) as usize;
        labels.push(f64::from(
            value + if country == 1 { 3.0 } else { 0.0 } + 4.0 * uniform(&mut random) > 9.0,
        ));
        amount.push(match row % 97 {
            45 => f64::NAN,
            46 => f64::INFINITY,
            47 => -1e300,
            48 => f64::MAX,
            _ => value,
        });
        hour.push(if row % 13 == 0 {
            f32::NAN
        } else {
            (row % 24) as f32 / 24.0
        });
        let names = [
            format!("country {country}"),
            format!("m{}", row % 40),
            format!("card {}", random.next_u64()),
        ];
        for (place, name) in names.iter().enumerate() {
            let missing = uniform(&mut random) < 0.05;
            codes[place].push(if missing {
                MISSING
            } else {
                dictionaries.get_mut(3 + place).unwrap().intern(name)
            });
        }
    }
    let [country, merchant, card] = codes.map(Column::Code);
    let numbers = [Column::F64(amount), Column::F32(hour), Column::F64(vec![7.5; rows])];
    let frame = Frame::new(rows, numbers.into_iter().chain([country, merchant, card]).collect());
    let weights = (0..rows).map(|row| if row % 10 == 0 { 2.5 } else { 1.0 }).collect();
    World {
        frame,
        dictionaries,
        labels,
        weights,
    }
}

impl World {
    fn rows(&self) -> Labelled<'_> {
        Labelled {
            frame: &self.frame,
            dictionaries: &self.dictionaries,
            labels: &self.labels,
            weights: &self.weights,
        }
    }

    /// Rows `from..to` as a frame of their own.
    fn part(&self, from: usize, to: usize) -> World {
        let cut = |column: &Column| match column {
            Column::F64(values) => Column::F64(values[from..to].to_vec()),
            Column::F32(values) => Column::F32(values[from..to].to_vec()),
            Column::Code(codes) => Column::Code(codes[from..to].to_vec()),
        };
        World {
            frame: Frame::new(to - from, self.frame.columns().iter().map(cut).collect()),
            dictionaries: self.dictionaries.clone(),
            labels: self.labels[from..to].to_vec(),
            weights: self.weights[from..to].to_vec(),
        }
    }

    fn scores(&self, model: &Model) -> Vec<f64> {
        let mut out = vec![9.0; 3];
        model.score(&self.frame, &self.dictionaries, &mut Scratch::default(), &mut out);
        out
    }
}

/// Parses a fragment and gives its root to `read`; nothing may be wrong with it.
fn with_section<T>(text: &str, read: impl FnOnce(&driftmill_config::Section<'_>, &mut Problems) -> Option<T>) -> T {
    let document = Document::parse("test.toml", text, &|_| None).unwrap();
    let mut problems = document.problems();
    let value = read(&document.root(), &mut problems);
    assert!(problems.is_empty(), "{problems}");
    value.unwrap()
}

fn encoder() -> ColumnsEncoder {
    with_section(COLUMNS, |section, problems| {
        ColumnsEncoder::from_config(section, &columns(), 11, problems)
    })
}

fn learner(kind: &dyn LearnerKind<dyn Learner>) -> Box<dyn Learner> {
    let encoder = encoder();
    let context = LearnerContext {
        task: Task::Binary,
        encoder: &encoder,
        seed: 3,
    };
    with_section(kind.example(), |section, problems| {
        kind.build(section, &context, problems)
    })
}

/// The batch learner as its example configures it, with fewer rows and trees where it has such keys.
fn batch_learner(kind: &dyn LearnerKind<dyn BatchLearner>) -> Box<dyn BatchLearner> {
    let encoder = encoder();
    let context = LearnerContext {
        task: Task::Binary,
        encoder: &encoder,
        seed: 3,
    };
    let text = kind.example().replace("trees = 100", "trees = 12");
    with_section(&text, |section, problems| kind.build(section, &context, problems))
}

/// A model of every learner there is.
fn models(world: &World) -> Vec<Model> {
    let online = LEARNERS.iter().map(|&kind| {
        let mut learner = learner(kind);
        learner.learn(world.rows(), None);
        Model::clone(&learner.publish().unwrap())
    });
    let batch = BATCH_LEARNERS
        .iter()
        .map(|&kind| batch_learner(kind).fit(world.rows(), 3).unwrap());
    online.chain(batch).collect()
}

/// Whether two lists of scores are the same to the bit.
fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn lineage() -> Map<String, Value> {
    let Value::Object(map) = json!({ "job": "j1", "rows": 2000, "segments": ["a", "b"] }) else {
        unreachable!()
    };
    map
}

#[test]
fn components_are_documented_and_their_examples_pass() {
    let encoders = ENCODERS.iter().map(|kind| *kind as &dyn Component);
    let learners = LEARNERS.iter().map(|kind| *kind as &dyn Component);
    let batch = BATCH_LEARNERS.iter().map(|kind| *kind as &dyn Component);
    let mut names = BTreeMap::new();
    for component in encoders.chain(learners).chain(batch) {
        assert!(
            check_example(component).is_ok(),
            "{}: {:?}",
            component.name(),
            check_example(component).err()
        );
        assert!(component.summary().ends_with('.'), "{}", component.name());
        assert!(
            component.fields().iter().all(|field| field.doc.ends_with('.')),
            "{}",
            component.name()
        );
        assert!(
            names.insert(component.name(), ()).is_none(),
            "{} is there twice",
            component.name()
        );
    }
    for kind in ENCODERS {
        let column = ColumnSpec {
            name: "c".to_owned(),
            kind: kind.column_kind(),
        };
        let encoder = with_section(kind.example(), |section, problems| {
            kind.build(&column, section, 1, problems)
        });
        assert_eq!(encoder.format(), kind.name());
    }
}

#[test]
fn encoders_fit_their_columns_or_are_refused_at_their_place() {
    let refusals = [
        (
            "country = { encode = 'one-hot' }\nmerchant = { encode = 'hash' }",
            "column `card` is text and has no encoder",
        ),
        (&COLUMNS.replace("'hash'", "'hsah'"), "did you mean `hash`?"),
        (&COLUMNS.replace("buckets", "bukcets"), "did you mean `buckets`?"),
        (&COLUMNS.replace("buckets = 16", "buckets = 1"), "from 2 to 65536"),
        (
            &COLUMNS.replace("'none'", "'one-hot'"),
            "column `hour` holds numbers, and `one-hot` encodes text",
        ),
    ];
    for (text, expected) in refusals {
        let document = Document::parse("test.toml", text, &|_| None).unwrap();
        let mut problems = document.problems();
        assert!(ColumnsEncoder::from_config(&document.root(), &columns(), 1, &mut problems).is_none());
        assert!(problems.render().contains(expected), "{problems}");
    }
}

#[test]
fn learners_refuse_impossible_settings() {
    let encoder = encoder();
    let context = LearnerContext {
        task: Task::Binary,
        encoder: &encoder,
        seed: 3,
    };
    for (text, expected) in [
        ("rate = 0.0", "`rate` must"),
        ("l2 = -1.0", "`l2` must"),
        ("memory_max = '1 KiB'", "bytes"),
    ] {
        let document = Document::parse("test.toml", text, &|_| None).unwrap();
        let mut problems = document.problems();
        assert!(LEARNERS[0].build(&document.root(), &context, &mut problems).is_none());
        assert!(problems.render().contains(expected), "{problems}");
    }
    for kind in BATCH_LEARNERS {
        let document = Document::parse("test.toml", "rows_max = 1", &|_| None).unwrap();
        let mut problems = document.problems();
        assert!(kind.build(&document.root(), &context, &mut problems).is_none());
        let regression = LearnerContext {
            task: Task::Regression,
            ..context
        };
        let document = Document::parse("test.toml", kind.example(), &|_| None).unwrap();
        let mut problems = document.problems();
        assert!(kind.build(&document.root(), &regression, &mut problems).is_none());
    }
}

#[test]
fn predictions_are_those_of_the_model_published_before_the_row() {
    let world = world(400, 1);
    for &kind in LEARNERS {
        let mut whole = learner(kind);
        let mut predictions = vec![0.0; 7];
        whole.learn(world.rows(), Some(&mut predictions));
        let mut single = learner(kind);
        for row in 0..world.labels.len() {
            let part = world.part(row, row + 1);
            if let Some(model) = single.publish() {
                let alone = part.scores(&model);
                assert!(same(&alone, &predictions[row..=row]), "{}: row {row}", kind.name());
            }
            single.learn(part.rows(), None);
        }
        assert_eq!(snapshot(whole.as_ref()), snapshot(single.as_ref()), "{}", kind.name());
    }
}

#[test]
fn scoring_is_pure_and_a_row_scores_alone_as_among_others() {
    let (learned, other) = (world(1_500, 2), world(517, 3));
    for model in models(&learned) {
        let scores = other.scores(&model);
        assert!(same(&scores, &other.scores(&model)), "{model:?}");
        for row in [0, 1, 45, 46, 47, 48, 129, 516] {
            assert!(
                same(&scores[row..=row], &other.part(row, row + 1).scores(&model)),
                "{model:?}: row {row}"
            );
        }
    }
    let mut learner = learner(LEARNERS[0]);
    learner.learn(learned.rows(), None);
    let before = snapshot(learner.as_ref());
    let model = learner.publish().unwrap();
    let scores = other.scores(&model);
    assert_eq!(before, snapshot(learner.as_ref()));
    learner.learn(other.rows(), None);
    assert!(same(&scores, &other.scores(&model)), "a published model changed");
}

#[test]
fn saved_and_restored_a_learner_goes_on_as_if_nothing_had_happened() {
    let world = world(900, 4);
    for &kind in LEARNERS {
        for cut in [0, 1, 300, 899] {
            let (first, second) = (world.part(0, cut), world.part(cut, 900));
            let mut whole = learner(kind);
            whole.learn(first.rows(), None);
            let mut memory = Memory::default();
            memory.save(whole.as_ref());
            let mut restored = learner(kind);
            restored.restore(&memory).unwrap();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            whole.learn(second.rows(), Some(&mut a));
            restored.learn(second.rows(), Some(&mut b));
            assert!(same(&a, &b), "{} cut at {cut}", kind.name());
            assert_eq!(snapshot(whole.as_ref()), snapshot(restored.as_ref()));
            // Stamps go on too: saving on top of the older snapshot must find every change.
            memory.save(restored.as_ref());
            assert_eq!(
                memory.contents(),
                snapshot(whole.as_ref()),
                "{} cut at {cut}",
                kind.name()
            );
        }
    }
}

#[test]
fn damaged_state_is_refused_and_never_panics() {
    let world = world(60, 5);
    for &kind in LEARNERS {
        let mut learner = learner(kind);
        learner.learn(world.rows(), None);
        let fresh = || self::learner(kind);
        survives_damage(&learner, fresh);
    }
}

#[test]
fn a_learner_that_has_seen_nothing_publishes_nothing_and_learns_nothing_from_impossible_rows() {
    let mut world = world(20, 6);
    world
        .labels
        .iter_mut()
        .enumerate()
        .for_each(|(row, label)| *label = [0.5, f64::NAN, -1.0, 2.0][row % 4]);
    for &kind in LEARNERS {
        let mut learner = learner(kind);
        let empty = snapshot(learner.as_ref());
        let mut predictions = Vec::new();
        learner.learn(world.rows(), Some(&mut predictions));
        assert_eq!((predictions.len(), learner.seen()), (20, 0));
        assert!(learner.publish().is_none());
        assert_eq!(empty, snapshot(learner.as_ref()));
    }
    for &kind in BATCH_LEARNERS {
        let name = kind.name();
        assert!(
            batch_learner(kind)
                .fit(world.rows(), 1)
                .unwrap_err()
                .0
                .contains("none of 20 rows"),
            "{name}"
        );
        world.labels.fill(1.0);
        assert!(
            batch_learner(kind)
                .fit(world.rows(), 1)
                .unwrap_err()
                .0
                .contains("class 0"),
            "{name}"
        );
        assert!(batch_learner(kind).fit(world.part(0, 0).rows(), 1).is_err(), "{name}");
        world.labels.fill(f64::INFINITY);
    }
}

#[test]
fn scores_are_probabilities_whatever_was_learned() {
    let extremes = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        -1e300,
        f64::MIN_POSITIVE,
        0.0,
        5.0,
    ];
    let mut world = world(800, 7);
    for (row, weight) in world.weights.iter_mut().enumerate() {
        *weight = [1.0, 1e300, 1e-300, 1.0][row % 4];
    }
    let hostile = |column: &Column| match column {
        Column::F64(values) => Column::F64((0..values.len()).map(|row| extremes[row % 8]).collect()),
        Column::F32(values) => Column::F32((0..values.len()).map(|row| extremes[row % 8] as f32).collect()),
        Column::Code(codes) => Column::Code((0..codes.len() as u32).map(|row| u32::MAX - row % 50).collect()),
    };
    let frame = Frame::new(800, world.frame.columns().iter().map(hostile).collect());
    let kinds_swapped = Frame::new(800, world.frame.columns().iter().rev().cloned().collect());
    for frame in [frame, kinds_swapped, world.frame.clone(), Frame::new(800, vec![])] {
        let hostile = World {
            frame,
            dictionaries: world.dictionaries.clone(),
            ..world.part(0, 800)
        };
        for model in models(&hostile) {
            for scored in [&hostile, &world] {
                let scores = scored.scores(&model);
                assert!(scores.iter().all(|p| (0.0..=1.0).contains(p)), "{model:?}");
            }
        }
    }
}

#[test]
fn same_rows_and_seed_make_the_same_bytes() {
    let world = world(600, 8);
    let bytes = || {
        models(&world)
            .iter()
            .map(|model| Artifact::write(model, &lineage()))
            .collect::<Vec<_>>()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn memory_stays_in_bounds_over_many_rows() {
    for &kind in LEARNERS {
        let mut learner = learner(kind);
        let bytes = learner.bytes();
        for seed in 0..20 {
            learner.learn(world(10_000, seed).rows(), None);
            assert!(learner.bytes() <= bytes, "{}", kind.name());
        }
        assert_eq!(learner.seen(), 200_000);
        let saved: usize = snapshot(learner.as_ref()).values().map(Vec::len).sum();
        assert!(
            saved <= bytes,
            "{}: {saved} bytes saved, {bytes} announced",
            kind.name()
        );
    }
}

#[test]
fn learners_learn() {
    let sane = |rows, seed| {
        let mut world = world(rows, seed);
        let finite = |value: &f64| if value.abs() < 1e100 { *value } else { f64::NAN };
        let cleaned = |column: &Column| match column {
            Column::F64(values) => Column::F64(values.iter().map(finite).collect()),
            other => other.clone(),
        };
        world.frame = Frame::new(rows, world.frame.columns().iter().map(cleaned).collect());
        world
    };
    let (train, test) = (sane(3_000, 20), sane(3_000, 21));
    let accuracy = |model: &Model| {
        let scores = test.scores(model);
        let right = scores
            .iter()
            .zip(&test.labels)
            .filter(|(p, y)| model.decide(**p) == (**y == 1.0))
            .count();
        right as f64 / scores.len() as f64
    };
    for model in models(&train) {
        let accuracy = accuracy(&model);
        assert!(accuracy > 0.78, "{model:?}: {accuracy}");
    }
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
    assert!(SCORERS.iter().any(|format| format.name == model.scorer().format()));
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
