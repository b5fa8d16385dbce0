//! Detectors of change: on streams of single values (ADWIN on a loss) and on windows of features
//! (Kolmogorov–Smirnov, shares of categories and of missing values), with what turns their verdicts into alarms.

pub mod adwin;
pub mod alarm;
pub mod calibrate;
pub mod fdr;
pub mod ks;
#[cfg(test)]
pub(crate) mod memory;
pub mod monitor;
mod rows;
mod series;
pub mod shares;

use crate::contracts::{FeatureDetector, Kind, StreamDetector};

/// What an entry of [`DETECTORS`] builds.
pub enum Detector {
    /// Watches single values.
    Stream(Box<dyn StreamDetector>),
    /// Watches features, those of the context that it was built in.
    Features(Box<dyn FeatureDetector>),
}

/// Every detector that a file can name, in the order of the reference.
pub static DETECTORS: &[&dyn Kind<Detector>] = &[&adwin::AdwinKind, &monitor::KsKind];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::{BuildContext, DriftStatus, Task};
    use driftmill_config::Document;

    fn build(name: &str, text: &str) -> Result<Detector, String> {
        let kind = driftmill_config::find(DETECTORS, name)?;
        let document = Document::parse("test.toml", text, &|_| None).map_err(|p| p.render())?;
        let mut problems = document.problems();
        document.root().check(kind.fields(), &mut problems);
        let context = BuildContext {
            task: Task::Binary,
            columns: &[],
            seed: 1,
        };
        let built = kind.build(&document.root(), &context, &mut problems);
        match built {
            Some(built) if problems.is_empty() => Ok(*built),
            _ => Err(problems.render()),
        }
    }

    #[test]
    fn every_example_builds_and_so_does_an_empty_section() {
        for kind in DETECTORS {
            assert!(build(kind.name(), kind.example()).is_ok(), "{}", kind.name());
            assert!(build(kind.name(), "").is_ok(), "{}", kind.name());
            assert!(!kind.summary().is_empty());
        }
    }

    #[test]
    fn mistakes_are_answered_at_their_place() {
        for (name, text, what) in [
            ("adwin", "delta = 2.0", "between 0 and 1"),
            ("adwin", "clock = 0", "at least 1"),
            ("adwin", "effect_min = -1.0", "at least 0"),
            ("adwin", "dleta = 0.1", "delta"),
            ("ks", "window_rows = 3", "at least 30"),
            ("ks", "false_alarm_rate = 0.0", "between 0 and 1"),
            ("ks", "reference_rows = 100\nblock_rows = 50", "block"),
        ] {
            let text = build(name, text).err().unwrap();
            assert!(text.contains(what), "{text}");
        }
    }

    #[test]
    fn every_stream_detector_begins_without_an_opinion_and_finds_a_change() {
        for kind in DETECTORS {
            let Ok(Detector::Stream(mut detector)) = build(kind.name(), "") else {
                continue;
            };
            assert_eq!(detector.update(0.1).status, DriftStatus::InsufficientData);
            let mut found = false;
            for i in 0..4_000_u32 {
                let base = if i < 2_000 { 0.1 } else { 0.9 };
                let drift = detector.update(base + f64::from(i % 10) / 100.0).status == DriftStatus::Drift;
                assert!(!drift || i >= 2_000, "{} at {i}", kind.name());
                found |= drift;
            }
            assert!(found && detector.since_change() <= 2_100, "{}", kind.name());
        }
    }
}
