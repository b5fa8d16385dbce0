//! Entries that are broken on purpose: the suites find each fault in the place where it is, by name.

use std::sync::Arc;

use driftmill_config::{Component, Field, Problems, Section};

use super::super::{broken, detectors, learners};
use crate::contracts::{
    BuildContext, DriftStatus, Kind, Labelled, Learner, LearnerContext, LearnerKind, StreamDetector, Verdict,
};
use crate::detectors::{DETECTORS, Detector};
use crate::learners::LEARNERS;
use crate::model::Model;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError};

/// What is wrong with a learner.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// Predicts after it has learned.
    PredictsLate,
    /// Learns the first row of every batch twice.
    CountsBatches,
    /// Learns something when it is asked to publish.
    PublishesAndLearns,
    /// Keeps a part of its state to itself.
    Forgets,
    /// Its stamps stand still.
    StampsStandStill,
    /// Says that it is larger than allowed.
    Grows,
    /// Scores with the last model of all.
    Stale,
}

struct BrokenKind(Fault);

impl Component for BrokenKind {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn summary(&self) -> &'static str {
        "Broken."
    }
    fn fields(&self) -> &'static [Field] {
        LEARNERS[0].fields()
    }
    fn example(&self) -> &'static str {
        ""
    }
}

impl LearnerKind<dyn Learner> for BrokenKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        Some(Box::new(Broken {
            fault: self.0,
            inner: LEARNERS[0].build(section, context, problems)?,
            first: None,
        }))
    }
}

struct Broken {
    fault: Fault,
    inner: Box<dyn Learner>,
    first: Option<Arc<Model>>,
}

impl Learner for Broken {
    fn learn(&mut self, rows: Labelled<'_>, predictions: Option<&mut Vec<f64>>) {
        match self.fault {
            Fault::PredictsLate => {
                self.inner.learn(rows, None);
                if let (Some(out), Some(model)) = (predictions, self.inner.publish()) {
                    model.score(rows.frame, rows.dictionaries, &mut Default::default(), out);
                }
            }
            Fault::CountsBatches if rows.frame.rows() > 1 => {
                self.inner.learn(rows, predictions);
                let mut frame = crate::frame::Frame::default();
                frame.append(rows.frame, 0..1);
                let (labels, weights) = (&rows.labels[..1], &rows.weights[..1]);
                let first = Labelled {
                    frame: &frame,
                    labels,
                    weights,
                    ..rows
                };
                self.inner.learn(first, None);
            }
            _ => self.inner.learn(rows, predictions),
        }
    }

    fn seen(&self) -> u64 {
        self.inner.seen()
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        let model = self.inner.publish()?;
        match self.fault {
            Fault::PublishesAndLearns => {
                let world = super::super::world::world(1, 99);
                self.inner.learn(world.rows(), None);
                Some(model)
            }
            Fault::Stale => Some(Arc::clone(self.first.get_or_insert(model))),
            _ => Some(model),
        }
    }

    fn bytes(&self) -> usize {
        let grown = if self.fault == Fault::Grows {
            self.inner.seen() as usize * 1_000
        } else {
            0
        };
        self.inner.bytes() + grown
    }
}

/// Passes chunks on, except those that a fault keeps.
struct Filter<'a>(Fault, &'a mut dyn ChunkVisitor);

impl ChunkVisitor for Filter<'_> {
    fn chunk(&mut self, name: &str, stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>)) {
        match self.0 {
            Fault::Forgets if name.starts_with("encoder/column-0000") => {
                // Always the same bytes: those of an encoder that has seen nothing.
                let encoder = super::super::world::encoder_of(super::super::world::SCALED);
                let mut memory = crate::detectors::memory::Memory::default();
                memory.save(&encoder);
                let fresh = memory.contents().remove("column-0000").unwrap();
                self.1.chunk(name, 0, &mut |out| out.extend_from_slice(&fresh));
            }
            Fault::StampsStandStill => self.1.chunk(name, 0, write),
            _ => self.1.chunk(name, stamp, write),
        }
    }
}

impl State for Broken {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        self.inner.save(&mut Filter(self.fault, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.inner.restore(chunks)
    }
}

/// The properties that a learner with this fault does not have.
fn found(fault: Fault) -> Vec<&'static str> {
    let case = learners::Case::of(Box::leak(Box::new(BrokenKind(fault)))).remove(0);
    broken(learners::PROPERTIES, &case)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn a_learner_that_is_broken_on_purpose_fails_in_the_expected_place() {
    assert_eq!(found(Fault::None), [] as [&str; 0]);
    for (fault, expected) in [
        (
            Fault::PredictsLate,
            &["predictions are those of the model published before the row"][..],
        ),
        (Fault::CountsBatches, &["batches are learned as row by row"]),
        (
            Fault::PublishesAndLearns,
            &["publishing changes nothing, and what is published never changes"],
        ),
        (
            Fault::Forgets,
            &["saved and restored it goes on as if nothing had happened"],
        ),
        (
            Fault::StampsStandStill,
            &["saved and restored it goes on as if nothing had happened"],
        ),
        (Fault::Grows, &["memory stays within the budget"]),
        (
            Fault::Stale,
            &["predictions are those of the model published before the row"],
        ),
    ] {
        let found = found(fault);
        println!("{fault:?}: {found:?}");
        assert!(expected.iter().all(|name| found.contains(name)), "{fault:?}: {found:?}");
    }
}

/// What is wrong with a detector.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wrong {
    Nothing,
    HasAnOpinionAtOnce,
    AlarmsOnConstants,
    SaysNaN,
    TakesNaN,
    Repeats,
    Forgets,
    FindsNothing,
}

struct WrongKind(Wrong);

impl Component for WrongKind {
    fn name(&self) -> &'static str {
        "wrong"
    }
    fn summary(&self) -> &'static str {
        "Wrong."
    }
    fn fields(&self) -> &'static [Field] {
        DETECTORS[0].fields()
    }
    fn example(&self) -> &'static str {
        DETECTORS[0].example()
    }
}

impl Kind<Detector> for WrongKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &BuildContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<Detector>> {
        let Detector::Stream(inner) = *DETECTORS[0].build(section, context, problems)? else {
            return None;
        };
        Some(Box::new(Detector::Stream(Box::new(WrongDetector {
            wrong: self.0,
            inner,
            taken: 0,
            drifting: false,
        }))))
    }
}

struct WrongDetector {
    wrong: Wrong,
    inner: Box<dyn StreamDetector>,
    taken: u64,
    drifting: bool,
}

impl StreamDetector for WrongDetector {
    fn update(&mut self, value: f64) -> Verdict {
        self.taken += 1;
        let value = match self.wrong {
            Wrong::TakesNaN if !value.is_finite() => 0.5,
            _ => value,
        };
        let mut verdict = self.inner.update(value);
        self.drifting |= verdict.status == DriftStatus::Drift;
        match self.wrong {
            Wrong::HasAnOpinionAtOnce => verdict.status = DriftStatus::Stable,
            Wrong::AlarmsOnConstants if self.taken > 1_000 => verdict.status = DriftStatus::Drift,
            Wrong::SaysNaN => verdict.effect = f64::NAN,
            Wrong::Repeats if self.drifting => verdict.status = DriftStatus::Drift,
            Wrong::Forgets if self.taken == 600 => verdict.score = 77.0,
            Wrong::FindsNothing if verdict.status == DriftStatus::Drift => verdict.status = DriftStatus::Stable,
            _ => {}
        }
        verdict
    }

    fn since_change(&self) -> u64 {
        self.inner.since_change()
    }
}

impl State for WrongDetector {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        self.inner.save(chunks);
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.inner.restore(chunks)
    }
}

#[test]
fn a_detector_that_is_broken_on_purpose_fails_in_the_expected_place() {
    for (wrong, expected) in [
        (Wrong::Nothing, None),
        (
            Wrong::HasAnOpinionAtOnce,
            Some("it has no opinion before there are enough values"),
        ),
        (
            Wrong::AlarmsOnConstants,
            Some("no alarm on constants, and in the end it says that all is well"),
        ),
        (Wrong::SaysNaN, Some("no verdict is ever NaN")),
        (Wrong::TakesNaN, Some("a value that is not finite is left out")),
        (
            Wrong::Repeats,
            Some("it finds a large change, once, and forgets what came before"),
        ),
        (
            Wrong::Forgets,
            Some("saved and restored it goes on as if nothing had happened"),
        ),
        (
            Wrong::FindsNothing,
            Some("it finds a large change, once, and forgets what came before"),
        ),
    ] {
        let [case, _] = detectors::Case::of(Box::leak(Box::new(WrongKind(wrong))));
        let found: Vec<&str> = broken(detectors::STREAM, &case)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        println!("{wrong:?}: {found:?}");
        match expected {
            Some(expected) => assert!(found.contains(&expected), "{wrong:?}: {found:?}"),
            None => assert_eq!(found, [] as [&str; 0]),
        }
    }
}
