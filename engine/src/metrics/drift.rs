//! What the drift detectors say. 'No data' is never 'no drift': a detector that has not judged, or not for long, shows
//! as `insufficient-data`, and a score that does not exist is no series.

use std::collections::BTreeMap;

use driftmill_models::contracts::{DriftStatus, Verdict};
use driftmill_models::detectors::monitor::{Aspect, FeatureVerdict};
use prometheus::{GaugeVec, IntCounterVec, Result};

use super::define::{Definer, Label, about};
use super::tally::Tally;
use crate::learn::{Watch, WatchKind};

/// A verdict older than this says nothing about now, ms.
const STALE_MS: i64 = 3_600_000;
/// How long a detector of the loss shows its alarm, unless another version goes live before, ms. Such a detector raises
/// an alarm once, adapts, and is stable again with the next label: no scrape would see it.
const ALARM_SHOWN_MS: i64 = 3_600_000;
/// Tests (features times aspects) that one detector shows by themselves: each costs eight series on both sides.
pub(super) const TESTS_MAX: usize = 100;

const STATES: [(DriftStatus, &str); 4] = [
    (DriftStatus::InsufficientData, "insufficient-data"),
    (DriftStatus::Stable, "stable"),
    (DriftStatus::Warning, "warning"),
    (DriftStatus::Drift, "drift"),
];

const DETECTOR: Label = ("detector", "its name in [[drift]]");
const FEATURE: Label = (
    "feature",
    "name of the column; loss; other: the worst of those beyond the cap",
);
const ASPECT: Label = ("aspect", "values, missing, loss; any for `other`");
const STATE: Label = ("state", "insufficient-data, stable, warning, drift");
const OF_TEST: &[Label] = &[DETECTOR, FEATURE, ASPECT];

/// What was seen of the detectors, by name.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<String, SeenOne>);

#[derive(Debug, Clone, Copy, Default)]
struct SeenOne {
    evaluations: u64,
    evaluated_ms: Option<i64>,
    alarms: u64,
    alarmed_ms: Option<i64>,
}

/// What is shown of a test.
#[derive(Debug, Clone, PartialEq)]
struct Test {
    feature: String,
    aspect: &'static str,
    /// What is known now.
    state: DriftStatus,
    /// What was found last; its numbers mean nothing where it had too little data.
    verdict: Verdict,
}

/// The metrics.
pub(super) struct Drift {
    state: GaugeVec,
    score: GaugeVec,
    threshold: GaugeVec,
    effect: GaugeVec,
    rows: GaugeVec,
    tests: GaugeVec,
    evaluated: GaugeVec,
    alarmed: GaugeVec,
    alarms: IntCounterVec,
}

impl Drift {
    pub(super) fn new(add: &mut Definer<'_>) -> Result<Self> {
        Ok(Self {
            state: add.floats(
                &about(
                    "driftmill_drift_state",
                    "1",
                    "1 for the state that a test is in, 0 for the three others. Without a judgement for an hour it is \
                     insufficient-data. A detector of the loss shows its alarm for an hour, or until another version \
                     is live. At most 100 tests a detector are shown by themselves.",
                ),
                &[DETECTOR, FEATURE, ASPECT, STATE],
            )?,
            score: add.floats(
                &about(
                    "driftmill_drift_score",
                    "as the detector's",
                    "The statistic: a Kolmogorov-Smirnov distance, a chi-squared statistic, a difference of means. \
                     Of the loss: as a share of ln 1000. Absent before the first judgement.",
                ),
                OF_TEST,
            )?,
            threshold: add.floats(
                &about(
                    "driftmill_drift_threshold",
                    "as the score",
                    "The score that this test alone would need to be significant.",
                ),
                OF_TEST,
            )?,
            effect: add.floats(
                &about(
                    "driftmill_drift_effect",
                    "1 (a share)",
                    "Size of the change: a distance of distributions, a difference of shares, or of mean losses as a \
                     share of ln 1000.",
                ),
                OF_TEST,
            )?,
            rows: add.floats(
                &about(
                    "driftmill_drift_rows",
                    "rows",
                    "Rows that the verdict rests on; before the first judgement, rows gathered for it.",
                ),
                OF_TEST,
            )?,
            tests: add.floats(
                &about(
                    "driftmill_drift_tests",
                    "tests",
                    "Number of the detector's tests in each state, those beyond the cap included.",
                ),
                &[DETECTOR, STATE],
            )?,
            evaluated: add.floats(
                &about(
                    "driftmill_drift_last_evaluation_timestamp_seconds",
                    "seconds since 1970",
                    "Stamp of the last epoch in which the detector judged; absent while this process knows of none.",
                ),
                &[DETECTOR],
            )?,
            alarmed: add.floats(
                &about(
                    "driftmill_drift_last_alarm_timestamp_seconds",
                    "seconds since 1970",
                    "Stamp of the last epoch in which the detector raised an alarm; absent while this process knows of \
                     none.",
                ),
                &[DETECTOR],
            )?,
            alarms: add.counters(
                &about(
                    "driftmill_drift_alarms_total",
                    "alarms",
                    "Alarms in committed epochs: a test that came to drift.",
                ),
                &[DETECTOR],
            )?,
        })
    }

    /// Takes what the detectors have done in an epoch that was stamped with `time_ms`.
    pub(super) fn note(&self, seen: &mut Seen, watches: &[Watch], time_ms: i64, tally: &mut Tally) {
        for watch in watches {
            // The counter is there from the first epoch on: a step from nothing is no increase.
            let alarms = self.alarms.with_label_values(&[watch.name()]);
            if !seen.0.contains_key(watch.name()) {
                seen.0.insert(watch.name().to_owned(), SeenOne::default());
            }
            let Some(known) = seen.0.get_mut(watch.name()) else {
                continue;
            };
            tally.add(alarms, known.take(watch.evaluations(), watch.alarms(), time_ms));
        }
    }

    /// Writes all series anew. `now_ms` is the time.
    pub(super) fn show(&self, watches: &[Watch], seen: &Seen, now_ms: i64) {
        for gauge in [&self.state, &self.score, &self.threshold, &self.effect, &self.rows] {
            gauge.reset();
        }
        for gauge in [&self.tests, &self.evaluated, &self.alarmed] {
            gauge.reset();
        }
        for watch in watches {
            let known = seen.0.get(watch.name()).copied().unwrap_or_default();
            for (gauge, at_ms) in [(&self.evaluated, known.evaluated_ms), (&self.alarmed, known.alarmed_ms)] {
                if let Some(at_ms) = at_ms {
                    gauge.with_label_values(&[watch.name()]).set(at_ms as f64 / 1e3);
                }
            }
            let tests = tests(watch, known, now_ms);
            for (state, name) in STATES {
                let count = tests.iter().filter(|test| test.state == state).count();
                self.tests.with_label_values(&[watch.name(), name]).set(count as f64);
            }
            for test in capped(tests) {
                self.show_test(watch.name(), &test);
            }
        }
    }

    fn show_test(&self, detector: &str, test: &Test) {
        let labels = [detector, &test.feature, test.aspect];
        for (state, name) in STATES {
            let [detector, feature, aspect] = labels;
            self.state
                .with_label_values(&[detector, feature, aspect, name])
                .set(f64::from(u8::from(state == test.state)));
        }
        let verdict = &test.verdict;
        self.rows.with_label_values(&labels).set(verdict.rows as f64);
        if verdict.status != DriftStatus::InsufficientData {
            self.score.with_label_values(&labels).set(verdict.score);
            self.threshold.with_label_values(&labels).set(verdict.threshold);
            self.effect.with_label_values(&labels).set(verdict.effect);
        }
    }
}

impl SeenOne {
    /// Takes the detector's counts after an epoch; alarms that are new.
    fn take(&mut self, evaluations: u64, alarms: u64, time_ms: i64) -> u64 {
        if evaluations != self.evaluations {
            self.evaluated_ms = Some(time_ms);
        }
        // Fewer than before: another plan began with other detectors.
        let new = alarms.checked_sub(self.alarms).unwrap_or(alarms);
        if new > 0 {
            self.alarmed_ms = Some(time_ms);
        }
        (self.evaluations, self.alarms) = (evaluations, alarms);
        new
    }
}

/// Whether something that was found at `at_ms` is still shown at `now_ms`.
fn holds(at_ms: Option<i64>, now_ms: i64, longest_ms: i64) -> bool {
    at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= longest_ms)
}

fn tests(watch: &Watch, known: SeenOne, now_ms: i64) -> Vec<Test> {
    let fresh = holds(known.evaluated_ms, now_ms, STALE_MS);
    let state = |verdict: &Verdict| {
        if fresh {
            verdict.status
        } else {
            DriftStatus::InsufficientData
        }
    };
    match watch.kind() {
        WatchKind::Loss { last, .. } => {
            let alarm = watch
                .alarm()
                .filter(|_| holds(known.alarmed_ms, now_ms, ALARM_SHOWN_MS));
            let verdict = alarm.or(*last).unwrap_or(NOTHING);
            vec![Test {
                feature: "loss".to_owned(),
                aspect: "loss",
                state: if alarm.is_some() {
                    verdict.status
                } else {
                    state(&verdict)
                },
                verdict,
            }]
        }
        WatchKind::Features { monitor, last } => {
            let test = |found: FeatureVerdict| Test {
                aspect: match found.aspect {
                    Aspect::Values => "values",
                    Aspect::Missing => "missing",
                },
                feature: found.feature,
                state: state(&found.verdict),
                verdict: found.verdict,
            };
            let found = if last.is_empty() {
                monitor.untested()
            } else {
                last.clone()
            };
            found.into_iter().map(test).collect()
        }
    }
}

/// Before the first row.
const NOTHING: Verdict = Verdict {
    status: DriftStatus::InsufficientData,
    score: 0.0,
    effect: 0.0,
    threshold: 0.0,
    rows: 0,
};

/// The first tests as they are; where there are more than [`TESTS_MAX`], the worst of the rest as one. The first and not
/// the worst by themselves: a series that comes and goes would break every alert on it.
fn capped(mut tests: Vec<Test>) -> Vec<Test> {
    if tests.len() <= TESTS_MAX {
        return tests;
    }
    let rest = tests.split_off(TESTS_MAX - 1);
    let worst = rest.into_iter().max_by(|a, b| {
        let (a, b) = (badness(a), badness(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    tests.extend(worst.map(|worst| Test {
        feature: "other".to_owned(),
        aspect: "any",
        ..worst
    }));
    tests
}

fn badness(test: &Test) -> (u8, f64) {
    let rank = match test.state {
        DriftStatus::Stable => 0,
        DriftStatus::InsufficientData => 1,
        DriftStatus::Warning => 2,
        DriftStatus::Drift => 3,
    };
    let ratio = test.verdict.score / test.verdict.threshold;
    (rank, if ratio.is_finite() { ratio } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(feature: usize, state: DriftStatus, score: f64) -> Test {
        Test {
            feature: format!("f{feature}"),
            aspect: "values",
            state,
            verdict: Verdict {
                status: state,
                score,
                effect: score,
                threshold: 1.0,
                rows: 9,
            },
        }
    }

    #[test]
    fn beyond_the_cap_the_worst_stands_for_all_that_are_not_shown() {
        let many = |bad: usize| -> Vec<Test> {
            (0..1_000)
                .map(|feature| match feature {
                    _ if feature == bad => test(feature, DriftStatus::Drift, 1.5),
                    500 => test(feature, DriftStatus::Stable, 0.9),
                    _ => test(feature, DriftStatus::Stable, 0.1),
                })
                .collect()
        };
        let other = |bad| {
            let shown = capped(many(bad));
            assert_eq!(shown.len(), TESTS_MAX);
            let last = shown.last().cloned().unwrap();
            assert_eq!((last.feature.as_str(), last.aspect), ("other", "any"));
            (last.state, last.verdict.score)
        };
        assert_eq!(other(700), (DriftStatus::Drift, 1.5));
        assert_eq!(
            other(3),
            (DriftStatus::Stable, 0.9),
            "the one in drift is shown by itself"
        );
        let mut blind = many(3);
        blind[999].state = DriftStatus::InsufficientData;
        let last = capped(blind).pop().unwrap();
        assert_eq!(last.state, DriftStatus::InsufficientData, "no data is not 'stable'");
        let few = vec![test(0, DriftStatus::Stable, 0.1); TESTS_MAX];
        assert_eq!(capped(few.clone()), few);
    }

    #[test]
    fn an_evaluation_is_stamped_when_it_happened_and_an_alarm_is_new_once() {
        let mut seen = SeenOne::default();
        assert_eq!(seen.take(0, 0, 10), 0);
        assert_eq!((seen.evaluated_ms, seen.alarmed_ms), (None, None));
        assert_eq!(seen.take(3, 0, 20), 0);
        assert_eq!(seen.take(3, 0, 30), 0);
        assert_eq!((seen.evaluated_ms, seen.alarmed_ms), (Some(20), None));
        assert_eq!(seen.take(4, 2, 40), 2);
        assert_eq!(seen.take(5, 2, 50), 0);
        assert_eq!((seen.evaluated_ms, seen.alarmed_ms), (Some(50), Some(40)));
        assert_eq!(seen.take(1, 1, 60), 1, "other detectors under the same name");
    }

    #[test]
    fn what_was_found_long_ago_holds_no_longer() {
        assert!(holds(Some(0), STALE_MS, STALE_MS));
        assert!(!holds(Some(0), STALE_MS + 1, STALE_MS));
        assert!(!holds(None, 0, STALE_MS));
    }
}
