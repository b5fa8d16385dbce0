//! One drift detector of the configuration: what it watches, and what it last said.

use driftmill_models::contracts::{DriftStatus, FeatureDetector, StreamDetector, Task, Verdict};
use driftmill_models::detectors::Detector;
use driftmill_models::detectors::monitor::FeatureVerdict;
use driftmill_models::frame::{ColumnSpec, Frame};

use crate::settings::{DriftSettings, LearnSettings};

/// The log loss of a probability of 0.001: ln 1000.
const LOSS_MAX: f64 = 6.907_755_278_982_137;

/// A detector at work.
pub enum WatchKind {
    /// On the loss of the live version.
    Loss {
        /// The detector.
        detector: Box<dyn StreamDetector>,
        /// What it last said.
        last: Option<Verdict>,
    },
    /// On every feature.
    Features {
        /// The detector.
        monitor: Box<dyn FeatureDetector>,
        /// What it last said.
        last: Vec<FeatureVerdict>,
    },
}

/// A detector with its name.
pub struct Watch {
    name: String,
    kind: WatchKind,
    /// For people alone, like what it last said: no part of the state.
    evaluations: u64,
    alarms: u64,
    alarm: Option<Verdict>,
}

/// Detectors in their first state, in the order of the configuration.
pub(super) fn all(settings: &LearnSettings, columns: &[ColumnSpec], task: Task, seed: u64) -> Vec<Watch> {
    settings
        .drifts
        .iter()
        .filter_map(|drift| {
            Some(Watch {
                name: drift.name.clone(),
                kind: kind(drift, columns, task, seed)?,
                evaluations: 0,
                alarms: 0,
                alarm: None,
            })
        })
        .collect()
}

fn kind(drift: &DriftSettings, columns: &[ColumnSpec], task: Task, seed: u64) -> Option<WatchKind> {
    Some(match drift.build(columns, task, seed)? {
        Detector::Stream(detector) => WatchKind::Loss { detector, last: None },
        Detector::Features(monitor) => WatchKind::Features {
            monitor,
            last: Vec::new(),
        },
    })
}

impl Watch {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The detector and what it last said.
    #[must_use]
    pub fn kind(&self) -> &WatchKind {
        &self.kind
    }

    /// How often it judged in this process.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// How often it raised an alarm in this process.
    #[must_use]
    pub fn alarms(&self) -> u64 {
        self.alarms
    }

    /// The last alarm about the loss of the version that is live.
    #[must_use]
    pub fn alarm(&self) -> Option<Verdict> {
        self.alarm
    }

    pub(super) fn kind_mut(&mut self) -> &mut WatchKind {
        &mut self.kind
    }

    /// Takes the features of an epoch; alarms in words.
    pub(super) fn observe_features(&mut self, frame: &Frame) -> Vec<String> {
        let WatchKind::Features { monitor, last } = &mut self.kind else {
            return Vec::new();
        };
        monitor.observe(frame);
        if !monitor.is_due() {
            return Vec::new();
        }
        self.evaluations += 1;
        let before = std::mem::replace(last, monitor.test());
        let was_drift = |found: &FeatureVerdict| {
            before.iter().any(|known| {
                (&known.feature, known.aspect) == (&found.feature, found.aspect)
                    && known.verdict.status == DriftStatus::Drift
            })
        };
        let risen = last
            .iter()
            .filter(|found| found.verdict.status == DriftStatus::Drift && !was_drift(found));
        self.alarms += risen.clone().count() as u64;
        risen
            .map(|found| {
                format!(
                    "{}: {} of `{}` changed by {:.3} (p {:.1e} after correction)",
                    self.name,
                    match found.aspect {
                        driftmill_models::detectors::monitor::Aspect::Values => "the distribution",
                        driftmill_models::detectors::monitor::Aspect::Missing => "the missing share",
                    },
                    found.feature,
                    found.verdict.effect,
                    found.p_adjusted
                )
            })
            .collect()
    }

    /// Takes the log loss of a row; on a change the alarm in words and the rows since.
    ///
    /// ADWIN's bound is for values from 0 to 1, and one confident mistake has a log loss of 7 and more. So the loss is
    /// watched up to that of a probability of 0.001, as a share of it: score, effect and threshold are shares too.
    pub(super) fn observe_loss(&mut self, loss: f64) -> Option<(String, u64)> {
        let WatchKind::Loss { detector, last } = &mut self.kind else {
            return None;
        };
        let verdict = detector.update((loss / LOSS_MAX).min(1.0));
        *last = Some(verdict);
        self.evaluations += 1;
        if verdict.status != DriftStatus::Drift {
            return None;
        }
        let since = detector.since_change();
        self.alarms += 1;
        self.alarm = Some(verdict);
        let effect = verdict.effect * LOSS_MAX;
        let words = format!(
            "{}: the log loss changed by {effect:+.4}, {since} labels after the change",
            self.name
        );
        Some((words, since))
    }

    /// Another version is live: a loss begins anew, the features that it was trained on are the new reference.
    pub(super) fn begin_anew(&mut self, settings: &DriftSettings, columns: &[ColumnSpec], task: Task, seed: u64) {
        self.alarm = None;
        match &mut self.kind {
            WatchKind::Features { monitor, last } => {
                monitor.rebase();
                // What was found against the old reference says nothing about the new one.
                last.clear();
            }
            WatchKind::Loss { .. } => {
                if let Some(kind) = kind(settings, columns, task, seed) {
                    self.kind = kind;
                }
            }
        }
    }
}
