//! What the versions' predictions were worth, in the terms of [`METRICS`], over four windows of labelled rows.

use std::collections::BTreeMap;

use driftmill_models::contracts::Task;
use driftmill_models::metrics::{METRICS, Metric};
use prometheus::{GaugeVec, Result};

use super::define::{Definer, Label, about};
use crate::example::VersionId;
use crate::learn::LearnHalf;
use crate::quality::{Quality, WindowQuality};
use crate::state::PipelineState;

/// Versions shown: the live one, the one before it, and the newest of the others.
pub(super) const VERSIONS_MAX: usize = 4;

const VERSION: Label = (
    "version",
    "name; the live one, the one before, the newest others; at most 4",
);
const OF_WINDOW: &[Label] = &[
    VERSION,
    (
        "window",
        "lifetime: all labelled rows; matured: the kept cohorts whose labels have matured; recent: the newest of them; \
         baseline: the version's first matured cohorts",
    ),
];

/// When labelled rows of a version were counted last.
#[derive(Default)]
pub(super) struct Judged(BTreeMap<VersionId, (u64, Option<i64>)>);

impl Judged {
    /// What is known at the start of the process: how far each version has come, and not when.
    pub(super) fn known(quality: &Quality) -> Self {
        Self(
            quality
                .changes()
                .map(|(version, changed)| (version, (changed, None)))
                .collect(),
        )
    }

    /// An epoch that was stamped with `time_ms` is over.
    pub(super) fn note(&mut self, quality: &Quality, time_ms: i64) {
        // In step with the quality, which forgets the oldest versions.
        if self.0.len() > quality.changes().count() {
            self.0
                .retain(|known, _| quality.changes().any(|(version, _)| version == *known));
        }
        for (version, changed) in quality.changes() {
            let known = self.0.entry(version).or_default();
            if known.0 != changed {
                *known = (changed, Some(time_ms));
            }
        }
    }
}

/// The metrics.
pub(super) struct Models {
    /// By the metric's name.
    values: Vec<(&'static str, GaugeVec)>,
    rows: GaugeVec,
    evaluated: GaugeVec,
    window_end: GaugeVec,
}

impl Models {
    pub(super) fn new(add: &mut Definer<'_>) -> Result<Self> {
        let mut values = Vec::new();
        for metric in METRICS {
            if metric.sums().width(Task::Binary) == 0 {
                continue;
            }
            let gauge = add.floats(&about(&name(*metric), metric.unit(), &help(*metric)), OF_WINDOW)?;
            values.push((metric.name(), gauge));
        }
        Ok(Self {
            values,
            rows: add.floats(
                &about(
                    "driftmill_model_labelled_rows",
                    "rows",
                    "Labelled rows in the window: what the quality of the version rests on.",
                ),
                OF_WINDOW,
            )?,
            evaluated: add.floats(
                &about(
                    "driftmill_model_last_evaluation_timestamp_seconds",
                    "seconds since 1970",
                    "Stamp of the last epoch that brought labelled rows of the version; absent while this process knows \
                     of none.",
                ),
                &[VERSION],
            )?,
            window_end: add.floats(
                &about(
                    "driftmill_model_window_end_timestamp_seconds",
                    "seconds since 1970",
                    "Prediction time at which the window ends.",
                ),
                OF_WINDOW,
            )?,
        })
    }

    /// Writes all series anew.
    pub(super) fn show(&self, state: &PipelineState, learn: &LearnHalf, judged: &Judged) {
        for gauge in self.values.iter().map(|(_, gauge)| gauge) {
            gauge.reset();
        }
        for gauge in [&self.rows, &self.evaluated, &self.window_end] {
            gauge.reset();
        }
        let matured_until_ms = state
            .watermark_ms
            .unwrap_or(i64::MIN)
            .saturating_sub(learn.settings().labels.horizon_ms);
        for id in shown(state.live, state.previous, learn.quality.changes().map(|(id, _)| id)) {
            let Some(version) = state.version(id) else { continue };
            if let Some((_, Some(at_ms))) = judged.0.get(&id) {
                self.evaluated
                    .with_label_values(&[&version.name])
                    .set(*at_ms as f64 / 1e3);
            }
            for (window, found) in learn.quality.windows(id, matured_until_ms) {
                let labels = [version.name.as_str(), window.name()];
                self.show_window(labels, &found);
                if let Some(end_ms) = found.end_ms {
                    self.window_end.with_label_values(&labels).set(end_ms as f64 / 1e3);
                }
            }
        }
    }

    fn show_window(&self, labels: [&str; 2], found: &WindowQuality) {
        self.rows.with_label_values(&labels).set(found.report.rows as f64);
        for (name, gauge) in &self.values {
            let known = found.values.iter().find(|(known, _)| known == name);
            // What the rows do not determine is no series.
            if let Some((_, value)) = known.filter(|(_, value)| value.is_finite()) {
                gauge.with_label_values(&labels).set(*value);
            }
        }
    }
}

fn name(metric: &dyn Metric) -> String {
    format!("driftmill_model_{}_{}", metric.name().replace('-', "_"), metric.unit())
}

fn help(metric: &dyn Metric) -> String {
    format!("{} Absent where the rows do not determine it.", metric.summary())
}

/// The versions to show, the live one first.
fn shown(live: VersionId, previous: VersionId, kept: impl Iterator<Item = VersionId>) -> Vec<VersionId> {
    let mut newest: Vec<VersionId> = kept.collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let mut shown = Vec::new();
    for id in [live, previous].into_iter().chain(newest) {
        if shown.len() < VERSIONS_MAX && !shown.contains(&id) && id != VersionId::default() {
            shown.push(id);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_version_and_the_one_before_are_always_shown() {
        let ids = |found: Vec<VersionId>| found.into_iter().map(|id| id.0).collect::<Vec<_>>();
        let kept = || (1..=9).map(VersionId);
        assert_eq!(ids(shown(VersionId(2), VersionId(1), kept())), [2, 1, 9, 8]);
        assert_eq!(ids(shown(VersionId(9), VersionId(8), kept())), [9, 8, 7, 6]);
        assert_eq!(ids(shown(VersionId(0), VersionId(0), kept().take(1))), [1]);
    }
}
