//! The join against a naive one, and what it costs.

use std::collections::BTreeMap;

use driftmill_models::frame::Column;

use super::*;
use crate::example::{Keys, VersionId};
use crate::labels::memory::{Dice, Memory, restored, snapshot, survives_damage};

const HORIZON: i64 = 100;

fn config() -> JoinConfig {
    JoinConfig {
        horizon_ms: HORIZON,
        bytes_max: 1 << 30,
        early_bytes_max: 1 << 20,
        late_bytes_max: 1 << 24,
        missing: Missing::Drop,
    }
}

/// Rows of (key, time); the first feature is the row's number.
fn examples(rows: &[(String, i64)], first: u64) -> Examples {
    let mut keys = Keys::default();
    rows.iter().for_each(|(key, _)| keys.push(key.as_bytes()));
    let numbers: Vec<u64> = (first..).take(rows.len()).collect();
    let columns = vec![
        Column::F64(numbers.iter().map(|&n| n as f64).collect()),
        Column::Code(numbers.iter().map(|&n| n as u32 % 7).collect()),
    ];
    Examples {
        keys,
        time_ms: rows.iter().map(|(_, time)| *time).collect(),
        frame: Frame::new(rows.len(), columns),
        scores: numbers.iter().map(|&n| n as f64 / 10.0).collect(),
        version: VersionId(3),
        weights: vec![1.0; rows.len()],
        shadow: numbers.iter().map(|&n| n as f64 / 20.0).collect(),
    }
}

fn label(value: f64, available_ms: i64) -> Label {
    Label { value, available_ms }
}

/// What was handed out: row number, label, available.
fn rows(matured: &Matured) -> Vec<(u64, f64, i64)> {
    let Some(Column::F64(numbers)) = matured.frame.columns().first() else {
        assert!(matured.is_empty());
        return Vec::new();
    };
    for (row, &number) in numbers.iter().enumerate() {
        assert_eq!(
            matured.scores[row],
            number / 10.0,
            "a row is handed out with its own score"
        );
    }
    (0..matured.len())
        .map(|row| (numbers[row] as u64, matured.labels[row], matured.available_ms[row]))
        .collect()
}

/// The join as its documentation defines it, with unbounded memory and no care for time.
#[derive(Default)]
struct Naive {
    rows: BTreeMap<u64, (String, i64)>,
    by_key: BTreeMap<String, u64>,
    labels: Vec<(i64, u64, u64, f64, bool)>,
    early: Vec<(String, f64, i64)>,
    gone: BTreeMap<String, LabelOutcome>,
    arrivals: u64,
    negative: bool,
}

impl Naive {
    fn insert(&mut self, number: u64, key: &str, time: i64) {
        if let Some(before) = self.by_key.insert(key.to_owned(), number)
            && !self.labels.iter().any(|l| l.2 == before)
        {
            self.rows.remove(&before);
        }
        self.rows.insert(number, (key.to_owned(), time));
        if let Some(place) = self.early.iter().position(|e| e.0 == key) {
            let (key, value, available) = self.early.remove(place);
            self.label(&key, value, available);
        }
    }

    fn label(&mut self, key: &str, value: f64, available: i64) -> LabelOutcome {
        let Some(&number) = self.by_key.get(key) else {
            if let Some(outcome) = self.gone.get(key) {
                return *outcome;
            }
            let before = self.early.iter().position(|e| e.0 == key);
            if before.is_some_and(|before| self.early[before].1 == value) {
                return LabelOutcome::Duplicate;
            }
            before.map(|before| self.early.remove(before));
            self.early.push((key.to_owned(), value, available));
            return if before.is_some() {
                LabelOutcome::Revised
            } else {
                LabelOutcome::Early
            };
        };
        let held = self.labels.iter().position(|l| l.2 == number);
        if available > self.rows[&number].1 + HORIZON || held.is_some_and(|held| self.labels[held].4) {
            return LabelOutcome::Late;
        }
        if held.is_some_and(|held| self.labels[held].3 == value) {
            return LabelOutcome::Duplicate;
        }
        held.map(|held| self.labels.remove(held));
        self.arrivals += 1;
        self.labels.push((available, self.arrivals, number, value, false));
        if held.is_some() {
            LabelOutcome::Revised
        } else {
            LabelOutcome::Matched
        }
    }

    fn expire(&mut self, watermark: i64) -> u64 {
        let due: Vec<u64> = self
            .rows
            .keys()
            .copied()
            .filter(|n| self.rows[n].1 + HORIZON < watermark && !self.labels.iter().any(|l| l.2 == *n))
            .collect();
        for number in &due {
            if self.negative {
                self.arrivals += 1;
                self.labels
                    .push((self.rows[number].1 + HORIZON, self.arrivals, *number, 0.0, true));
            } else {
                self.leave(*number, LabelOutcome::Late);
            }
        }
        self.early.retain(|e| e.2 + HORIZON >= watermark);
        due.len() as u64
    }

    fn leave(&mut self, number: u64, outcome: LabelOutcome) {
        let (key, _) = self.rows.remove(&number).unwrap();
        if self.by_key.get(&key) == Some(&number) {
            self.by_key.remove(&key);
            self.gone.insert(key, outcome);
        }
    }

    fn drain(&mut self, watermark: i64) -> Vec<(u64, f64, i64)> {
        self.labels.sort_by_key(|l| (l.0, l.1));
        let due = self.labels.iter().take_while(|l| l.0 <= watermark).count();
        let due: Vec<_> = self.labels.drain(..due).collect();
        for l in &due {
            self.leave(
                l.2,
                if l.4 {
                    LabelOutcome::Late
                } else {
                    LabelOutcome::Duplicate
                },
            );
        }
        due.into_iter().map(|l| (l.2, l.3, l.0)).collect()
    }
}

/// A random run: keys come again, labels come early, twice, late, for nobody. Restarts when `restart` says so.
fn run_against_naive(seed: u64, missing: Missing) {
    let config = JoinConfig { missing, ..config() };
    let mut dice = Dice(seed);
    let mut join = LabelJoin::new(config);
    let mut naive = Naive {
        negative: missing == Missing::Negative,
        ..Naive::default()
    };
    let mut memory = Memory::default();
    let (mut number, mut now) = (0_u64, 0_i64);
    let (mut labels, mut outcomes) = (0, BTreeMap::new());
    for epoch in 0..150 {
        now += dice.below(12) as i64;
        let key = |dice: &mut Dice| format!("k{}", (now as u64 * 30 + dice.below(2_000)).saturating_sub(1_500));
        let new: Vec<_> = (0..dice.below(120))
            .map(|_| (key(&mut dice), now - dice.below(10) as i64))
            .collect();
        join.insert(&examples(&new, number));
        for (key, time) in &new {
            naive.insert(number, key, *time);
            number += 1;
        }
        for _ in 0..dice.below(120) {
            let (key, value) = (key(&mut dice), dice.below(2) as f64);
            let delays = if dice.below(9) == 0 { 200 } else { 20 };
            let available = now - 5 + dice.below(delays) as i64;
            let outcome = join.label(key.as_bytes(), label(value, available));
            assert_eq!(
                outcome,
                naive.label(&key, value, available),
                "{key} in epoch {epoch}, seed {seed}"
            );
            *outcomes.entry(format!("{outcome:?}")).or_insert(0) += 1;
            labels += 1;
        }
        let expired = join.expire(now);
        assert_eq!(
            expired.dropped + expired.negatives,
            naive.expire(now),
            "epoch {epoch}, seed {seed}"
        );
        assert_eq!(rows(&join.drain(now)), naive.drain(now), "epoch {epoch}, seed {seed}");
        let counts = join.counts();
        assert_eq!(
            counts.waiting_rows,
            naive.rows.len() as u64,
            "epoch {epoch}, seed {seed}"
        );
        assert_eq!(
            counts.early_rows,
            naive.early.len() as u64,
            "epoch {epoch}, seed {seed}"
        );
        let ends = counts.matched + counts.revised + counts.duplicate + counts.late + counts.orphan;
        assert_eq!(
            ends + counts.early_rows,
            labels,
            "every label ends once, epoch {epoch}, seed {seed}"
        );
        let left = counts.matured + counts.expired + counts.replaced + counts.evicted;
        assert_eq!(
            left + counts.waiting_rows,
            counts.inserted,
            "every row ends once, seed {seed}"
        );
        if dice.below(4) == 0 {
            memory.save(&join);
            join = restored(&memory, &join, LabelJoin::new(config));
        }
    }
    assert!(outcomes.len() >= 5, "{outcomes:?}, seed {seed}");
    assert!(
        join.counts().matured > 200 && join.counts().replaced > 10,
        "{:?}, seed {seed}",
        join.counts()
    );
}

#[test]
fn it_does_what_the_naive_join_does_through_restarts() {
    for seed in 0..12 {
        run_against_naive(
            seed,
            if seed % 2 == 0 {
                Missing::Drop
            } else {
                Missing::Negative
            },
        );
    }
}

#[test]
fn a_label_is_invisible_before_it_is_available() {
    let mut join = LabelJoin::new(config());
    join.insert(&examples(&[("a".into(), 0), ("b".into(), 0), ("c".into(), 0)], 0));
    assert_eq!(join.label(b"c", label(1.0, 20)), LabelOutcome::Matched);
    assert_eq!(join.label(b"a", label(1.0, 20)), LabelOutcome::Matched);
    assert_eq!(join.label(b"b", label(0.0, 10)), LabelOutcome::Matched);
    assert_eq!(join.label(b"b", label(1.0, 15)), LabelOutcome::Revised);
    assert!(join.drain(14).is_empty());
    assert_eq!(rows(&join.drain(19)), [(1, 1.0, 15)]);
    assert_eq!(rows(&join.drain(20)), [(2, 1.0, 20), (0, 1.0, 20)]);
    assert_eq!(join.label(b"b", label(1.0, 15)), LabelOutcome::Duplicate);
}

#[test]
fn labels_in_the_record_need_no_key() {
    let mut join = LabelJoin::new(JoinConfig {
        missing: Missing::Negative,
        ..config()
    });
    let rows_in = [(String::new(), 0), (String::new(), 1), (String::new(), 2)];
    join.insert_labelled(
        &examples(&rows_in, 0),
        &[None, Some(label(1.0, 5)), Some(label(1.0, 500))],
    );
    assert_eq!(rows(&join.drain(50)), [(1, 1.0, 5)]);
    assert_eq!(
        join.expire(103),
        Expired {
            dropped: 0,
            negatives: 2,
            orphans: 0
        }
    );
    assert_eq!(rows(&join.drain(103)), [(0, 0.0, 100), (2, 0.0, 102)]);
    assert_eq!((join.counts().late, join.counts().matched), (1, 1));
    assert_eq!(join.label(b"", label(1.0, 5)), LabelOutcome::Orphan);
}

#[test]
fn memory_is_bounded_and_the_oldest_leave() {
    let bytes_max = 600_000;
    let config = JoinConfig {
        bytes_max,
        early_bytes_max: 4_000,
        late_bytes_max: 1,
        ..config()
    };
    let mut join = LabelJoin::new(config);
    for epoch in 0..60_u64 {
        let new: Vec<_> = (0..700).map(|i| (format!("key {}", epoch * 700 + i), 0)).collect();
        join.insert(&examples(&new, epoch * 700));
        // Every other row is labelled but never available.
        new.iter().step_by(2).for_each(|(key, _)| {
            join.label(key.as_bytes(), label(1.0, 90));
        });
        for i in 0..30 {
            join.label(format!("nobody {epoch} {i}").as_bytes(), label(1.0, i));
        }
        let counts = join.counts();
        // Labels that come between two inserts are the slack.
        assert!(
            counts.waiting_bytes as usize <= bytes_max + 350 * PENDING_BYTES,
            "{counts:?}"
        );
        assert!(counts.early_bytes <= 4_000 && counts.early_rows > 0, "{counts:?}");
        assert_eq!(counts.evicted + counts.waiting_rows, counts.inserted);
    }
    assert!(join.counts().evicted > 30_000);
    assert_eq!(join.label(b"key 41999", label(0.0, 90)), LabelOutcome::Matched);
    let matured = join.drain(90);
    let numbers: Vec<u64> = rows(&matured).iter().map(|row| row.0).collect();
    assert!(
        numbers.len() > 500 && numbers.iter().all(|&n| n > 35_000),
        "{numbers:?}"
    );
}

#[test]
fn rows_of_other_columns_leave() {
    let mut join = LabelJoin::new(config());
    join.insert(&examples(&[("a".into(), 0)], 0));
    let mut other = examples(&[("b".into(), 0)], 1);
    other.frame = Frame::new(1, vec![Column::F64(vec![1.0])]);
    join.insert(&other);
    assert_eq!((join.counts().evicted, join.counts().waiting_rows), (1, 1));
    assert_eq!(join.label(b"a", label(1.0, 1)), LabelOutcome::Late);
    assert_eq!(join.label(b"b", label(1.0, 1)), LabelOutcome::Matched);
    assert_eq!(
        rows(&Matured {
            scores: vec![1.0 / 10.0],
            ..join.drain(9)
        }),
        [(1, 1.0, 1)]
    );
}

#[test]
fn a_snapshot_costs_what_changed() {
    let mut join = LabelJoin::new(config());
    let new = |from: u64, to: u64| -> Vec<_> { (from..to).map(|i| (format!("key {i}"), 0)).collect() };
    join.insert(&examples(&new(0, 100_000), 0));
    let mut memory = Memory::default();
    memory.save(&join);
    let whole = memory.bytes;
    assert!(whole > 4_000_000, "{whole}");
    join.insert(&examples(&new(100_000, 100_100), 100_000));
    memory.save(&join);
    assert!(
        memory.bytes < whole / 50,
        "{} of {whole} bytes for 100 rows",
        memory.bytes
    );
    for i in (0..100_000).step_by(1_000) {
        join.label(format!("key {i}").as_bytes(), label(1.0, 5));
    }
    assert_eq!(join.drain(5).len(), 100);
    memory.save(&join);
    assert!(
        memory.bytes < whole / 100,
        "{} of {whole} bytes for 100 labels all over",
        memory.bytes
    );
    join = restored(&memory, &join, LabelJoin::new(config()));
    // When most rows have left, what stays is small, in memory and in the snapshot.
    for i in (0..100_000).filter(|i| i % 20 != 0) {
        join.label(format!("key {i}").as_bytes(), label(1.0, 5));
    }
    join.drain(5);
    let held: usize = snapshot(&join)
        .iter()
        .filter(|(name, _)| name.starts_with("rows/"))
        .map(|(_, b)| b.len())
        .sum();
    assert!(held < whole / 10, "{held} bytes for one row of twenty, {whole} for all");
}

#[test]
fn damaged_state_is_refused() {
    let mut join = LabelJoin::new(config());
    let new: Vec<_> = (0..1_500).map(|i| (format!("k{i}"), i)).collect();
    join.insert(&examples(&new, 0));
    for i in 0..40 {
        join.label(format!("k{}", i * 40).as_bytes(), label(1.0, i * 40 + i));
        join.label(format!("early {i}").as_bytes(), label(1.0, i));
    }
    join.expire(700);
    join.drain(700);
    survives_damage(&join, || LabelJoin::new(config()));
}
