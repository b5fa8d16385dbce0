//! The sink of a simulation: it acknowledges at once, and judges every prediction by what really happened, which the
//! engine learns late, for half of the payments, or never.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use driftmill_connectors::{ConnectError, Destination, Encoded, Fault, Finding, OpenSink, Sink, SinkError, Unit};
use driftmill_models::metrics::binary::BinaryTally;
use driftmill_models::metrics::{Row, Tally as _};

use super::tape::Tape;
use crate::generator::{Oracle, Truth};

/// Decision threshold of the tallies; no number that is shown depends on it.
const THRESHOLD: f64 = 0.5;
/// Payload limit of Kafka's default, which the configuration was parsed with.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A version, and whether the payments were made after the change.
type Place = (String, bool);

/// What is known about the predictions.
#[derive(Default)]
struct Judged {
    tallies: BTreeMap<Place, BinaryTally>,
    /// Records that had their outcome.
    done: i64,
}

/// Judges predictions; cheap to clone.
#[derive(Clone)]
pub(super) struct Judge {
    judged: Arc<Mutex<Judged>>,
    oracle: Oracle,
    /// When the world changes, in milliseconds since 1970; never at the latest.
    changed_ms: i64,
    tape: Arc<Tape>,
    /// Set when the last record of the tape was acknowledged.
    stop: Arc<AtomicBool>,
}

/// What of an output is read.
#[derive(serde::Deserialize)]
struct Prediction<'a> {
    payment_id: &'a str,
    prediction: Option<f64>,
    #[serde(borrow)]
    driftmill: Lineage<'a>,
}

#[derive(serde::Deserialize)]
struct Lineage<'a> {
    model: Option<&'a str>,
}

impl Judge {
    pub(super) fn new(oracle: Oracle, changed_ms: i64, tape: Arc<Tape>, stop: Arc<AtomicBool>) -> Self {
        Self {
            judged: Arc::default(),
            oracle,
            changed_ms,
            tape,
            stop,
        }
    }

    /// Average precision of a version's predictions of payments before or after the change; NaN when it made none.
    /// Payments that came in cents are left out: the model could not know.
    pub(super) fn pr_auc(&self, version: &str, after: bool) -> f64 {
        let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = judged.tallies.get(&(version.to_owned(), after));
        tally.map_or(f64::NAN, |tally| tally.report().pr_auc)
    }

    fn judge(&self, judged: &mut Judged, outputs: &Encoded) -> Result<(), ConnectError> {
        for record in outputs.iter() {
            let read: Prediction<'_> = serde_json::from_slice(record.payload).map_err(|error| strange(&error))?;
            let (Some(score), Some(version)) = (read.prediction, read.driftmill.model) else {
                continue;
            };
            let truth = self.oracle.truth(read.payment_id);
            let truth = truth.ok_or_else(|| strange(&format!("{} was never paid", read.payment_id)))?;
            if !truth.in_cents {
                self.count(judged, version, score, &truth);
            }
        }
        Ok(())
    }

    fn count(&self, judged: &mut Judged, version: &str, score: f64, truth: &Truth) {
        let place = (version.to_owned(), truth.at_ms >= self.changed_ms);
        let tally = judged.tallies.entry(place);
        tally.or_insert_with(|| BinaryTally::new(THRESHOLD)).update(&Row {
            scores: &[score],
            label: f64::from(u8::from(truth.fraud())),
            weight: 1.0,
            before: None,
        });
    }
}

fn strange(what: &dyn std::fmt::Display) -> ConnectError {
    let what = format!("a prediction cannot be judged: {what}");
    ConnectError::new(Fault::Internal, "simulated sink", what, "please report it")
}

impl OpenSink for Judge {
    fn connect(&self) -> Result<Box<dyn Sink>, ConnectError> {
        Ok(Box::new(Acknowledging {
            judge: self.clone(),
            ends: BTreeMap::new(),
        }))
    }

    fn read_log(&self, _each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn check(&self, _oldest_ms: Option<i64>) -> Result<Vec<Finding>, ConnectError> {
        Ok(Vec::new())
    }

    fn payload_bytes_max(&self, _destination: Destination) -> usize {
        PAYLOAD_BYTES_MAX
    }
}

struct Acknowledging {
    judge: Judge,
    /// Where each topic goes on.
    ends: BTreeMap<String, i64>,
}

impl Sink for Acknowledging {
    fn commit(&mut self, units: &[Unit]) -> Result<(), SinkError> {
        let judge = &self.judge;
        let mut judged = judge.judged.lock().unwrap_or_else(PoisonError::into_inner);
        for unit in units {
            for (destination, outputs) in &unit.outputs {
                if *destination == Destination::Predictions {
                    judge.judge(&mut judged, outputs)?;
                }
            }
            for (topic, _, next) in &unit.offsets {
                self.ends.insert(topic.clone(), *next);
            }
        }
        judged.done = self.ends.values().sum();
        if judge.tape.written() == u64::try_from(judged.done).ok() {
            judge.stop.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn recover(&mut self, _each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), SinkError> {
        Ok(())
    }

    fn trim(&mut self, _below_epoch: u64) -> Result<(), SinkError> {
        Ok(())
    }
}
