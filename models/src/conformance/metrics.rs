//! What a metric must keep.

use super::{Property, all_hold, are_documented};
use crate::contracts::Task;
use crate::detectors::memory::{Memory, snapshot, survives_damage};
use crate::metrics::{CohortParams, Cohorts, Evaluation, METRICS, Metric, Row, Setting, Tally};
use crate::random::{of_row, uniform};
use crate::state::State as _;

const SEED: u64 = 23;

/// A metric and a task that it answers.
pub(super) struct Case {
    metric: &'static dyn Metric,
    setting: Setting,
}

impl Case {
    /// Every task that the metric answers.
    pub(super) fn of(metric: &'static dyn Metric) -> Vec<(String, Self)> {
        let answered: Vec<_> = super::world::TASKS
            .into_iter()
            .filter(|task| metric.sums().width(*task) > 0)
            .map(|task| {
                let setting = Setting { task, threshold: 0.5 };
                (format!("{} ({task:?})", metric.name()), Self { metric, setting })
            })
            .collect();
        assert!(!answered.is_empty(), "{} answers no task", metric.name());
        answered
    }

    fn empty(&self) -> Evaluation {
        Evaluation::new(self.setting, &[self.metric])
    }

    fn value(&self, evaluation: &Evaluation) -> f64 {
        evaluation.value(self.metric.name())
    }

    /// Scores and label of row `row`: right more often than not.
    fn row(&self, row: u64) -> (Vec<f64>, f64) {
        let mut random = of_row(SEED, row);
        let (a, b) = (uniform(&mut random), uniform(&mut random));
        match self.setting.task {
            Task::Binary | Task::Anomaly => (vec![a], f64::from(u8::from(b < a))),
            Task::Regression => (vec![10.0 * a], 10.0 * a + b - 0.5),
            Task::Multiclass { classes } => {
                let label = ((f64::from(classes) * b) as u32).min(classes - 1);
                let rest = (1.0 - a) / f64::from(classes);
                let scores = (0..classes).map(|class| rest + if class == label { a } else { 0.0 });
                (scores.collect(), f64::from(label))
            }
        }
    }

    fn add(&self, evaluation: &mut Evaluation, rows: std::ops::Range<u64>, weight: f64) {
        for row in rows {
            let (scores, label) = self.row(row);
            let before = row.checked_sub(1).map(|before| self.row(before).1);
            evaluation.update(&Row {
                scores: &scores,
                label,
                weight,
                before,
            });
        }
    }

    fn of_rows(&self, rows: std::ops::Range<u64>) -> Evaluation {
        let mut evaluation = self.empty();
        self.add(&mut evaluation, rows, 1.0);
        evaluation
    }

    fn cohorts(&self) -> Cohorts<Evaluation> {
        let params = CohortParams {
            cohort_ms: 100,
            cohorts_max: 10,
        };
        Cohorts::new(params, &self.empty())
    }

    fn fill(&self, cohorts: &mut Cohorts<Evaluation>, rows: std::ops::Range<u64>) {
        for row in rows {
            let (scores, label) = self.row(row);
            cohorts.update(row.cast_signed(), &scores, label, 1.0);
        }
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs())
}

pub(super) const PROPERTIES: &[Property<Case>] = &[
    ("no rows have no value, not 0", |case| {
        let value = case.value(&case.empty());
        assert!(value.is_nan(), "the value of no rows is {value}");
    }),
    ("rows have a finite value", |case| {
        let value = case.value(&case.of_rows(0..2_000));
        assert!(value.is_finite(), "{value}");
    }),
    ("unusable rows are counted and otherwise left out", |case| {
        let mut evaluation = case.of_rows(0..500);
        let (value, rows) = (case.value(&evaluation), evaluation.rows());
        let (good, label) = case.row(7);
        let bad: [(Vec<f64>, f64, f64); 6] = [
            (vec![f64::NAN; good.len()], label, 1.0),
            (vec![f64::INFINITY; good.len()], label, 1.0),
            (vec![], label, 1.0),
            (good.clone(), f64::NAN, 1.0),
            (good.clone(), label, 0.0),
            (good, label, f64::INFINITY),
        ];
        for (scores, label, weight) in &bad {
            evaluation.update(&Row {
                scores,
                label: *label,
                weight: *weight,
                before: None,
            });
        }
        assert_eq!((evaluation.invalid(), evaluation.rows()), (6, rows));
        assert_eq!(case.value(&evaluation), value);
    }),
    ("a score is judged before its label is learned from", |case| {
        // The value of the first rows is that of those rows, whatever comes later.
        let mut evaluation = case.empty();
        let mut values = Vec::new();
        for row in 0..300 {
            case.add(&mut evaluation, row..row + 1, 1.0);
            values.push(case.value(&evaluation));
        }
        assert!(near(values[299], case.value(&case.of_rows(0..300))));
        assert_eq!(values[99].to_bits(), case.value(&case.of_rows(0..100)).to_bits());
    }),
    ("parts merge into the whole", |case| {
        let mut parts = case.of_rows(0..700);
        parts.merge(&case.of_rows(700..1_000));
        let whole = case.of_rows(0..1_000);
        assert!(near(case.value(&parts), case.value(&whole)));
        assert_eq!(parts.rows(), whole.rows());
        parts.merge(&case.empty());
        assert!(near(case.value(&parts), case.value(&whole)));
    }),
    ("a weight of 2 counts as two rows", |case| {
        let mut twice = case.of_rows(0..600);
        twice.merge(&case.of_rows(0..600));
        let mut weighted = case.empty();
        case.add(&mut weighted, 0..600, 2.0);
        assert!(near(case.value(&twice), case.value(&weighted)));
    }),
    (
        "what faded hardly counts, and a fading of all changes nothing",
        |case| {
            let mut faded = case.of_rows(0..1_000);
            let before = case.value(&faded);
            faded.fade(0.25);
            assert!(near(case.value(&faded), before));
            faded.fade(1e-9);
            case.add(&mut faded, 5_000..6_000, 1.0);
            let recent = case.value(&case.of_rows(5_000..6_000));
            assert!(
                (case.value(&faded) - recent).abs() < 1e-4,
                "{} and {recent}",
                case.value(&faded)
            );
        },
    ),
    ("an interval contains the value", |case| {
        let mut cohorts = case.cohorts();
        case.fill(&mut cohorts, 0..400);
        assert!(
            cohorts.interval(|tally| case.value(tally)).is_none(),
            "four cohorts are too few"
        );
        case.fill(&mut cohorts, 400..1_000);
        let found = cohorts.interval(|tally| case.value(tally)).unwrap();
        assert!(found.low <= found.value && found.value <= found.high, "{found:?}");
        assert!(near(found.value, case.value(&cohorts.windowed(10_000))));
    }),
    ("saved and restored it goes on as if nothing had happened", |case| {
        let mut whole = case.cohorts();
        case.fill(&mut whole, 0..777);
        let mut memory = Memory::default();
        memory.save(&whole);
        let mut restored = case.cohorts();
        restored.restore(&memory).unwrap();
        case.fill(&mut whole, 777..1_500);
        case.fill(&mut restored, 777..1_500);
        assert_eq!(snapshot(&whole), snapshot(&restored));
        memory.save(&restored);
        assert_eq!(memory.contents(), snapshot(&whole), "stamps");
    }),
    ("damaged state is refused", |case| {
        let mut cohorts = case.cohorts();
        case.fill(&mut cohorts, 0..200);
        survives_damage(&cohorts, || case.cohorts());
    }),
];

#[test]
fn metrics_are_documented() {
    are_documented(METRICS.iter().map(|metric| *metric as _));
    assert!(METRICS.iter().all(|metric| !metric.unit().is_empty()));
}

#[test]
fn every_metric_keeps_its_contract() {
    all_hold(PROPERTIES, METRICS.iter().flat_map(|&metric| Case::of(metric)));
}

#[test]
fn intervals_contain_the_truth_most_of_the_time() {
    for name in ["log-loss", "accuracy", "roc-auc", "mae"] {
        let metric = METRICS.iter().find(|metric| metric.name() == name).unwrap();
        let (_, case) = Case::of(*metric).remove(0);
        let truth = case.value(&case.of_rows(100_000..150_000));
        let covered = (0..40).filter(|&replay| {
            let mut cohorts = case.cohorts();
            let start = replay * 1_000;
            case.fill(&mut cohorts, start..start + 1_000);
            let found = cohorts.interval(|tally| case.value(tally)).unwrap();
            found.low <= truth && truth <= found.high
        });
        let covered = covered.count();
        assert!(
            covered >= 34,
            "{name}: {covered} of 40 intervals contain {truth}, seed {SEED}"
        );
    }
}
