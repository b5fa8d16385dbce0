//! Whether a run did what it is said to cost: the parts of the loop leave traces in the daemon's metrics, and a window
//! in which they do not move is no measurement.

use crate::Failure;
use crate::pipelines::{FEATURES, Stage};
use crate::runs::Cost;

/// Share of these records that a part must have seen: labels come later than their records, and those of the last never.
const SHARE_MIN: f64 = 0.8;

/// What the parts did from the beginning of a window until all was done. Not until its end: the daemon refreshes gauges
/// twice a second, in which it processes a fifth of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Done {
    /// Records that were scored.
    pub scored: f64,
    /// Whether a model was live at the beginning.
    pub was_live: bool,
    /// Labels that found their row.
    pub matched: f64,
    /// Rows with score and label that the evaluation counted.
    pub evaluated: f64,
    /// Rows in the buffer at the end.
    pub buffered: f64,
    /// Tests of distributions that had data at the end: two for each feature.
    pub tests: f64,
    /// Seconds by which the last judgement is newer than the one at the beginning.
    pub judged_s: f64,
    /// Rows that the online learner learned from.
    pub learned: f64,
    /// Its snapshots that went live.
    pub published: f64,
}

impl Done {
    /// Reads it from the pages of a run.
    ///
    /// # Errors
    /// A run without pages: it was no daemon's.
    pub fn within(cost: &Cost) -> Result<Self, Failure> {
        let Some([first, last]) = &cost.pages else {
            return Err("a run without metrics".into());
        };
        let grown = |name: &str, labels: &[&str]| last.sum(name, labels) - first.sum(name, labels);
        let judged = "driftmill_drift_last_evaluation_timestamp_seconds";
        let tests = |labels: &[&str]| last.sum("driftmill_drift_tests", labels);
        Ok(Self {
            scored: grown("driftmill_records_total", &["outcome=\"scored\""]),
            was_live: first.sum("driftmill_model_version_info", &[])
                > first.sum("driftmill_model_version_info", &["version=\"none\""]),
            matched: grown("driftmill_labels_total", &["outcome=\"matched\""]),
            evaluated: grown("driftmill_model_labelled_rows", &["window=\"lifetime\""]),
            buffered: last.sum("driftmill_held_rows", &["place=\"buffer\""]),
            tests: tests(&[]) - tests(&["state=\"insufficient-data\""]),
            judged_s: grown(judged, &[]),
            learned: grown("driftmill_online_learned_rows", &[]),
            published: grown("driftmill_online_published_total", &[]),
        })
    }

    /// Fails where a part of the stage did not do its work.
    ///
    /// # Errors
    /// Which.
    pub fn check(&self, stage: Stage<'_>) -> Result<(), Failure> {
        let enough = |rows: f64| rows > 0.0 && rows >= SHARE_MIN * self.scored;
        let (labels, drift) = match stage {
            Stage::Sql | Stage::Scored(_) => (false, false),
            Stage::Labelled(_) => (true, false),
            Stage::Watched(_) | Stage::Learned => (true, true),
        };
        let learns = stage == Stage::Learned;
        let wanted = [
            (self.scored > 0.0, true, "no record was scored"),
            (
                self.was_live,
                stage != Stage::Sql,
                "no model was live when the window began",
            ),
            (enough(self.matched), labels, "labels did not find their rows"),
            (enough(self.evaluated), labels, "the live version was not evaluated"),
            (self.buffered > 0.0, labels, "the buffer is empty"),
            (
                self.tests >= 2.0 * FEATURES as f64,
                drift,
                "not every feature was tested",
            ),
            (self.judged_s > 0.0, drift, "the detector did not judge"),
            (enough(self.learned), learns, "the learner did not learn"),
            (self.published > 0.0, learns, "no snapshot of the learner went live"),
        ];
        let missing: Vec<&str> = wanted
            .iter()
            .filter(|(is_met, is_wanted, _)| *is_wanted && !is_met)
            .map(|(_, _, what)| *what)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("not what was to be measured: {}; {self:?}", missing.join(", ")).into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scrape::Page;

    fn page(rows: u32, drift: &str) -> Page {
        Page::from_text(&format!(
            r#"driftmill_records_total{{outcome="scored",pipeline="p"}} {rows}
driftmill_records_total{{outcome="filtered",pipeline="p"}} 900
driftmill_model_version_info{{version="v1"}} 1
driftmill_labels_total{{outcome="matched"}} {rows}
driftmill_labels_total{{outcome="late"}} 5
driftmill_model_labelled_rows{{version="v1",window="lifetime"}} {rows}
driftmill_model_labelled_rows{{version="v1",window="recent"}} 7
driftmill_held_rows{{place="buffer"}} 20
driftmill_online_learned_rows{{pipeline="p"}} {rows}
driftmill_online_published_total{{pipeline="p"}} {rows}
{drift}"#
        ))
    }

    fn cost(first: Page, last: Page) -> Cost {
        Cost {
            cpu_s: 1.0,
            threads_s: Default::default(),
            rate: 1.0,
            ends: Default::default(),
            pages: Some([first, last]),
        }
    }

    #[test]
    fn each_part_must_have_done_its_work() {
        let judged = "driftmill_drift_last_evaluation_timestamp_seconds{detector=\"inputs\"} 9\n\
                      driftmill_drift_tests{state=\"stable\"} 16\ndriftmill_drift_tests{state=\"insufficient-data\"} 0\n";
        let done = Done::within(&cost(page(100, ""), page(300, judged))).unwrap();
        let expected = Done {
            scored: 200.0,
            was_live: true,
            matched: 200.0,
            evaluated: 200.0,
            buffered: 20.0,
            tests: 16.0,
            judged_s: 9.0,
            learned: 200.0,
            published: 200.0,
        };
        assert_eq!(done, expected);
        assert!(done.check(Stage::Learned).is_ok());
        let lazy = [
            Done { scored: 0.0, ..done },
            Done {
                was_live: false,
                ..done
            },
            Done { matched: 150.0, ..done },
            Done {
                evaluated: 150.0,
                ..done
            },
            Done { buffered: 0.0, ..done },
            Done { tests: 15.0, ..done },
            Done { judged_s: 0.0, ..done },
            Done { learned: 150.0, ..done },
            Done { published: 0.0, ..done },
        ];
        let failing = |stage: Stage<'_>| lazy.iter().filter(|done| done.check(stage).is_err()).count();
        let artifact = Path::new("model");
        assert_eq!(
            [
                failing(Stage::Sql),
                failing(Stage::Scored(artifact)),
                failing(Stage::Labelled(artifact)),
                failing(Stage::Watched(artifact)),
                failing(Stage::Learned)
            ],
            [1, 2, 5, 7, 9]
        );
        let bare = Cost {
            pages: None,
            ..cost(page(1, ""), page(1, ""))
        };
        assert!(Done::within(&bare).is_err());
    }
}
