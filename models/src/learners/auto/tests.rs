//! What `auto` does where it is known what it should do.

use std::collections::VecDeque;
use std::ops::Range;

use super::*;
use crate::conformance::plain::{Plain, learner, try_learner};
use crate::detectors::memory::{Memory, snapshot};
use crate::metrics::binary::log_loss;
use crate::model::{Body, Scratch};

const SEED: u64 = 61;

/// First a line divides the classes, then the signs of two inputs do; one label in twenty is wrong.
fn changing() -> Plain {
    let rows = Plain::random(8_000, 3, SEED, |_, noise| f64::from(u8::from(noise > 0.9)));
    let columns: Vec<Vec<f64>> = (0..3).map(|place| rows.column(place).to_vec()).collect();
    let label = |row: usize| {
        let (a, b, c) = (columns[0][row], columns[1][row], columns[2][row]);
        let class = if row < 4_000 { a + b + c > 0.0 } else { a * b > 0.0 };
        f64::from(u8::from(class != (rows.labels()[row] == 1.0)))
    };
    let labels: Vec<f64> = (0..8_000).map(label).collect();
    rows.relabelled(&labels)
}

fn mean_loss(name: &str, settings: &str, rows: &Plain) -> f64 {
    let mut said = Vec::new();
    learner(name, settings, Task::Binary, rows).learn(rows.labelled(), Some(&mut said));
    let losses = said.iter().zip(rows.labels()).map(|(p, y)| log_loss(*p, *y));
    losses.sum::<f64>() / said.len() as f64
}

#[test]
fn it_is_better_than_each_of_its_members_where_the_best_one_changes() {
    let rows = changing();
    let members = ["sgd-logistic", "hoeffding-adaptive-tree", "knn"];
    let alone = members.map(|name| mean_loss(name, "", &rows));
    let names = "members = [\"sgd\", \"hoeffding-adaptive-tree\", \"knn-1000\"]";
    let together = mean_loss("auto", names, &rows);
    let best = alone.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(together < best, "seed {SEED}: {together}, alone {alone:?}");
}

#[test]
fn a_member_that_cannot_be_told_from_chance_does_no_harm() {
    let rows = changing();
    let names = |more: &str| format!("members = [\"knn-1000\", \"knn-500\"{more}]");
    let without = mean_loss("auto", &names(""), &rows);
    let with = mean_loss("auto", &names(", \"no-change\""), &rows);
    assert!(with < without + 0.005, "seed {SEED}: {with} with it, {without} without");
}

fn resting(auto: &dyn Learner) -> usize {
    let mut resting = 0.0;
    auto.report(&mut |fact| resting += if fact.name == "member_resting" { fact.value } else { 0.0 });
    resting as usize
}

fn resting_one(auto: &dyn Learner, name: &str) -> f64 {
    let mut resting = f64::NAN;
    auto.report(&mut |fact| {
        if fact.name == "member_resting" && fact.of == name {
            resting = fact.value;
        }
    });
    resting
}

#[test]
fn members_that_are_of_no_use_rest_and_all_wake_when_the_world_changes() {
    let line = |x: &[f64], noise: f64| f64::from(u8::from(x[0] + x[1] + 0.1 * noise > 0.0));
    let rows = Plain::random(20 * ROUND as usize, 2, SEED, line);
    let mut auto = learner("auto", "", Task::Binary, &rows);
    let (mut most, mut scored) = (0, NAMES.len());
    for (start, part) in rows.parts(ROUND as usize).enumerate() {
        auto.learn(part.labelled(), None);
        let asleep = resting(auto.as_ref());
        let model = auto.publish().unwrap();
        let Body::Combined { members, .. } = model.body() else {
            panic!("no team")
        };
        assert!(
            members.len() + asleep <= NAMES.len(),
            "round {start}: a member that rests scores"
        );
        (most, scored) = (most.max(asleep), scored.min(members.len()));
    }
    assert!(
        most >= 2 && scored < NAMES.len(),
        "seed {SEED}: {most} rested at once where a line is all"
    );
    let other = Plain::random(ROUND as usize, 2, SEED + 1, |x, noise| 1.0 - line(x, noise));
    auto.learn(other.labelled(), None);
    let asleep = resting(auto.as_ref());
    assert!(
        asleep <= 1,
        "seed {SEED}: {asleep} rest though everything is the other way round"
    );
}

#[test]
fn who_may_rest_may_be_nobody() {
    let rows = changing();
    let mut auto = learner("auto", "rest = false", Task::Binary, &rows);
    auto.learn(rows.labelled(), None);
    assert_eq!(resting(auto.as_ref()), 0);
}

#[test]
fn values_are_better_than_each_member_says() {
    let rows = Plain::random(6_000, 2, SEED, |x, noise| {
        1_000.0 + 50.0 * x[0] + 50.0 * (6.0 * x[1]).sin() + noise
    });
    let error = |name: &str, settings: &str| {
        let mut said = Vec::new();
        learner(name, settings, Task::Regression, &rows).learn(rows.labelled(), Some(&mut said));
        let squares = said.iter().zip(rows.labels()).skip(1_000).map(|(p, y)| (p - y).powi(2));
        (squares.sum::<f64>() / 5_000.0).sqrt()
    };
    let alone = [error("sgd-linear", ""), error("knn", "")];
    let together = error("auto", "members = [\"sgd\", \"knn-1000\"]");
    let best = alone.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(together < best, "seed {SEED}: {together}, alone {alone:?}");
}

/// What is lost where each row is predicted by the model of `delay` rows before, and what the parts of the members are
/// in the end.
fn late_loss(name: &str, settings: &str, rows: &Plain, delay: usize) -> (f64, Vec<f64>) {
    const STEP: usize = 20;
    let mut learner = learner(name, settings, Task::Binary, rows);
    let (mut models, mut loss, mut count) = (VecDeque::new(), 0.0, 0.0);
    let (mut scratch, mut said) = (Scratch::default(), Vec::new());
    for part in rows.parts(STEP) {
        models.push_back(learner.publish());
        if models.len() > delay / STEP
            && let Some(model) = models.pop_front().flatten()
        {
            let labelled = part.labelled();
            model.score(labelled.frame, labelled.dictionaries, &mut scratch, &mut said);
            let losses = said.iter().zip(part.labels()).map(|(p, y)| log_loss(*p, *y));
            (loss, count) = (loss + losses.sum::<f64>(), count + said.len() as f64);
        }
        learner.learn(part.labelled(), None);
    }
    let mut parts = Vec::new();
    learner.report(&mut |fact| parts.extend((fact.name == "member_weight_ratio").then_some(fact.value)));
    (loss / count, parts)
}

/// The same class comes some forty times in a row, and an input tells a little of it.
fn sticky() -> Plain {
    let rows = Plain::random(10_000, 2, SEED, |_, _| 0.0);
    let (turns, noise) = (rows.column(0).to_vec(), rows.column(1).to_vec());
    let mut class = 0.0;
    let labels = turns.iter().map(|turn| {
        if turn.abs() < 0.025 {
            class = 1.0 - class;
        }
        class
    });
    let labels: Vec<f64> = labels.collect();
    let told: Vec<f64> = labels.iter().zip(&noise).map(|(y, noise)| y + noise).collect();
    Plain::new(&[&told], &labels)
}

#[test]
fn who_follows_fast_is_not_believed_where_labels_come_late() {
    let (rows, delay) = (sticky(), 100);
    let members = "members = [\"sgd\", \"no-change\"]";
    let (line, _) = late_loss("sgd-logistic", "", &rows, delay);
    let (blind, blind_parts) = late_loss("auto", members, &rows, delay);
    let (seeing, parts) = late_loss("auto", &format!("{members}\ndelay_rows = 100"), &rows, delay);
    assert!(seeing < line + 0.02, "seed {SEED}: {seeing}, the line alone {line}");
    assert!(
        seeing < blind - 0.05,
        "seed {SEED}: {seeing}, without knowing of the delay {blind}"
    );
    assert!(
        parts[1] < 0.2 && blind_parts[1] > 0.3,
        "seed {SEED}: {parts:?}, without knowing of the delay {blind_parts:?}"
    );
}

#[test]
fn who_knows_a_rare_class_is_believed_though_it_comes_rarely() {
    // One in 300 or so, told by two inputs.
    let label = |x: &[f64], noise: f64| f64::from(u8::from(x[0] + x[1] + 0.1 * noise > 1.85));
    let rows = Plain::random(30_000, 4, SEED, label);
    let share = rows.labels().iter().sum::<f64>() / 30_000.0;
    assert!((0.001..0.01).contains(&share), "{share}");
    let line = mean_loss("sgd-logistic", "", &rows);
    let mut auto = learner("auto", "", Task::Binary, &rows);
    let mut said = Vec::new();
    auto.learn(rows.labelled(), Some(&mut said));
    let losses = said.iter().zip(rows.labels()).map(|(p, y)| log_loss(*p, *y));
    let together = losses.sum::<f64>() / said.len() as f64;
    assert!(together < line, "seed {SEED}: {together}, the line alone {line}");
    assert_eq!(resting_one(auto.as_ref(), "sgd"), 0.0);
}

fn part(rows: &Plain, range: Range<usize>) -> Plain {
    let columns: Vec<&[f64]> = (0..3).map(|place| &rows.column(place)[range.clone()]).collect();
    Plain::new(&columns, &rows.labels()[range.clone()])
}

/// What was saved, without a chunk.
struct Without<'a>(&'a Memory, &'a str);

impl ChunkSource for Without<'_> {
    fn chunk(&self, name: &str) -> Option<&[u8]> {
        self.0.chunk(name).filter(|_| name != self.1)
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.0.names(prefix)
    }
}

#[test]
fn a_team_with_snapshots_goes_on_where_it_was_and_takes_none_of_another() {
    let rows = changing();
    let settings = "members = [\"sgd\", \"knn-250\", \"no-change\"]\ndelay_rows = 90";
    for cut in [59, 60, 61, 1_999, 4_500] {
        let (first, second) = (part(&rows, 0..cut), part(&rows, cut..cut + 2_000));
        let mut whole = learner("auto", settings, Task::Binary, &rows);
        whole.learn(first.labelled(), None);
        let mut memory = Memory::default();
        memory.save(whole.as_ref());
        let kept = memory.names("past/");
        assert_eq!(kept.len(), (cut / 60).min(2), "{kept:?}");
        let mut restored = learner("auto", settings, Task::Binary, &rows);
        restored.restore(&memory).unwrap();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        whole.learn(second.labelled(), Some(&mut a));
        restored.learn(second.labelled(), Some(&mut b));
        assert_eq!(a, b, "after {cut} rows");
        assert_eq!(
            snapshot(whole.as_ref()),
            snapshot(restored.as_ref()),
            "after {cut} rows"
        );
        for name in kept {
            let refused = learner("auto", settings, Task::Binary, &rows).restore(&Without(&memory, &name));
            assert!(refused.unwrap_err().to_string().contains(&name), "{name}");
        }
    }
}

#[test]
fn impossible_teams_are_refused() {
    let rows = changing();
    for (settings, task, expected) in [
        ("members = [\"oracle\"]", Task::Binary, "unknown member `oracle`"),
        ("members = [\"no-change\"]", Task::Binary, "looks at features"),
        ("memory_max = \"1 KiB\"", Task::Binary, "no member can learn this: sgd"),
        ("", Task::Anomaly, "cannot learn this task"),
    ] {
        let problems = try_learner("auto", settings, task, &rows).err().unwrap();
        assert!(problems.contains(expected), "{settings}: {problems}");
    }
    // One that is too large is left out.
    assert!(try_learner("auto", "memory_max = \"1 MiB\"", Task::Binary, &rows).is_ok());
}
