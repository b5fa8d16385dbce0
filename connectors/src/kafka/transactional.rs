//! Delivery exactly once: outputs, epoch records and group offsets in one transaction.
//!
//! An abortable error aborts, and the same bytes are sent again. Whenever a commit may have been asked for and its
//! outcome is not known, the producer is given up: a new one with the same transactional id takes ownership (which
//! finishes or aborts the old transaction), and the epoch log says what is there.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::at_least_once::{enqueue_outputs, set_offset};
use super::context::{Failure, close};
use super::epoch_log::{EpochLog, key};
use super::native::Outlet;
use super::producer::{describe, enqueue, is_hopeless, take_failure};
use super::sink::Plan;
use super::{explain, is_permanent};
use crate::encoded::OutRecord;
use crate::error::{ConnectError, Fault};
use crate::sink::{Sink, SinkError, Unit};

/// How long one transactional call may take before it counts as failed.
const CALL: Duration = Duration::from_secs(30);
/// How long `recover` tries to take ownership.
const OWN: Duration = Duration::from_secs(60);
/// Between two attempts.
const BACKOFF: Duration = Duration::from_millis(100);
/// While a flush makes no end, the state of the transaction is looked at so often: after an error librdkafka sends
/// nothing more and says so only to the next transactional call.
const LOOK: Duration = Duration::from_millis(500);

/// Why an attempt did not commit.
enum Setback {
    /// Not committed for sure; abort and send again.
    Abort(ConnectError),
    /// Perhaps committed, or the producer cannot go on; only a new one can tell.
    Unknown(ConnectError),
    /// Waiting does not help.
    Stop(SinkError),
}

pub(super) struct Transactional {
    plan: Plan,
    outlet: Option<Outlet>,
    group: ConsumerGroupMetadata,
    log: EpochLog,
    owner: bool,
}

impl Transactional {
    pub(super) fn connect(plan: Plan) -> Result<Self, ConnectError> {
        let log = EpochLog::new(&plan.connection, &plan.context.pipeline);
        let group = log.group()?;
        Ok(Self {
            plan,
            outlet: None,
            group,
            log,
            owner: false,
        })
    }

    /// Makes a new producer the owner of the pipeline, trying for `patience`, or for ever.
    fn own(&mut self, patience: Option<Duration>) -> Result<(), SinkError> {
        if let Some(outlet) = self.outlet.take() {
            close(outlet);
        }
        let begun = Instant::now();
        let outlet = self.plan.outlet()?;
        loop {
            let wait = patience.map_or(CALL, |patience| patience.saturating_sub(begun.elapsed()).min(CALL));
            let Err(error) = outlet.producer().init_transactions(wait.max(Duration::from_secs(1))) else {
                break;
            };
            outlet.producer().poll(Duration::ZERO);
            let explained = explain(&self.plan.place(), &error, outlet.context().last_error());
            if is_fenced(&error) {
                return Err(SinkError::Fenced(explained.to_string()));
            }
            let hopeless = error.rdkafka_error_code().is_some_and(is_permanent);
            if hopeless || patience.is_some_and(|patience| begun.elapsed() >= patience) {
                return Err(SinkError::Fatal(explained));
            }
            tracing::warn!(error = %explained, "taking ownership of the pipeline again");
            thread::sleep(BACKOFF);
        }
        self.outlet = Some(outlet);
        Ok(())
    }

    fn attempt(&self, units: &[Unit]) -> Result<(), Setback> {
        let Some(outlet) = &self.outlet else {
            return Err(Setback::Unknown(self.internal("there is no producer")));
        };
        let producer = outlet.producer();
        // What failed before belongs to a transaction that was aborted.
        take_failure(outlet);
        producer.begin_transaction().map_err(|error| self.judge(&error))?;
        for unit in units {
            enqueue_outputs(&self.plan, outlet, unit).map_err(|failure| self.judge_failure(&failure))?;
            self.enqueue_record(outlet, unit)
                .map_err(|failure| self.judge_failure(&failure))?;
        }
        let offsets = offsets(units);
        if offsets.count() > 0 {
            self.send_offsets(outlet, &offsets)?;
        }
        self.flush(outlet, &offsets)?;
        // From here on the outcome is known only by the answer.
        producer
            .commit_transaction(CALL)
            .map_err(|error| match self.judge(&error) {
                Setback::Abort(error) => Setback::Unknown(error),
                other => other,
            })
    }

    fn enqueue_record(&self, outlet: &Outlet, unit: &Unit) -> Result<(), Failure> {
        let key = key(unit.epoch);
        let record = OutRecord {
            key: Some(key.as_bytes()),
            payload: &unit.record,
            timestamp_ms: 0,
            headers: &[],
        };
        enqueue(outlet, self.plan.log_index(), Some(0), &record)
    }

    fn send_offsets(&self, outlet: &Outlet, offsets: &TopicPartitionList) -> Result<(), Setback> {
        let sent = outlet
            .producer()
            .send_offsets_to_transaction(offsets, &self.group, CALL);
        sent.map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration) => {
                let what = format!("consumer group `{}` is in use by another program", self.plan.name());
                let remedy = "stop its members: the group belongs to the pipeline of this name";
                let error = ConnectError::new(Fault::Operator, self.plan.place(), what, remedy);
                Setback::Stop(SinkError::Fatal(error))
            }
            _ => self.judge(&error),
        })
    }

    fn flush(&self, outlet: &Outlet, offsets: &TopicPartitionList) -> Result<(), Setback> {
        let mut looked = Instant::now();
        while !outlet.flush(Duration::from_millis(20)) {
            if let Some(failure) = take_failure(outlet) {
                return Err(self.judge_failure(&failure));
            }
            if looked.elapsed() >= LOOK {
                // The same offsets again change nothing; an error of the transaction shows.
                self.send_offsets(outlet, offsets)?;
                looked = Instant::now();
            }
        }
        outlet
            .context()
            .take_failure()
            .map_or(Ok(()), |failure| Err(self.judge_failure(&failure)))
    }

    fn judge_failure(&self, failure: &Failure) -> Setback {
        let error = describe(&self.plan.place(), failure);
        if let Some(outlet) = &self.outlet
            && let Some((code, text)) = outlet.producer().client().fatal_error()
        {
            return self.judge_code(code, &text, Setback::Unknown(error));
        }
        if is_hopeless(failure) {
            Setback::Stop(SinkError::Fatal(error))
        } else {
            Setback::Abort(error)
        }
    }

    fn judge_code(&self, code: RDKafkaErrorCode, text: &str, other: Setback) -> Setback {
        if is_fence(code) {
            Setback::Stop(SinkError::Fenced(format!("{}: {text}", self.plan.place())))
        } else {
            other
        }
    }

    fn judge(&self, error: &KafkaError) -> Setback {
        let explained = explain(&self.plan.place(), error, None);
        if is_fenced(error) {
            return Setback::Stop(SinkError::Fenced(explained.to_string()));
        }
        if error.rdkafka_error_code().is_some_and(is_permanent) {
            return Setback::Stop(SinkError::Fatal(explained));
        }
        match error {
            KafkaError::Transaction(error) if error.txn_requires_abort() || error.is_retriable() => {
                Setback::Abort(explained)
            }
            _ => Setback::Unknown(explained),
        }
    }

    fn internal(&self, what: &str) -> ConnectError {
        ConnectError::new(Fault::Internal, self.plan.place(), what, "report this as a bug")
    }

    /// Aborts; whether the producer can go on.
    fn abort(&self) -> Result<bool, SinkError> {
        let Some(outlet) = &self.outlet else { return Ok(false) };
        let producer = outlet.producer();
        // An abort waits until every record has been reported as failed, and reports are served by polling only.
        producer.purge(PurgeConfig::default().queue().inflight());
        let begun = Instant::now();
        while !outlet.flush(Duration::from_millis(10)) && begun.elapsed() < CALL {
            take_failure(outlet);
        }
        let Err(error) = producer.abort_transaction(CALL) else {
            return Ok(true);
        };
        // A fenced producer must not take ownership back.
        let fatal = producer.client().fatal_error().filter(|(code, _)| is_fence(*code));
        if is_fenced(&error) || fatal.is_some() {
            return Err(SinkError::Fenced(format!("{}: {error}", self.plan.place())));
        }
        tracing::warn!(%error, "the transaction could not be aborted; a new producer takes over");
        Ok(false)
    }

    /// Takes ownership again and finds out whether `units` were committed.
    fn resolve(&mut self, units: &[Unit]) -> Result<bool, SinkError> {
        self.own(None)?;
        let begun = Instant::now();
        loop {
            let mut found = Vec::new();
            let first = units.first().map_or(0, |unit| unit.epoch);
            let log = self.log.read(&mut |epoch, payload| {
                let epoch = epoch.unwrap_or(u64::MAX);
                if epoch >= first {
                    found.push((epoch, payload.to_vec()));
                }
                Ok(epoch)
            });
            match log {
                Ok(()) => return self.compare(units, &found),
                Err(error) if error.fault == Fault::Environment => {
                    tracing::warn!(%error, waited = ?begun.elapsed(), "reading the epoch log again");
                    thread::sleep(BACKOFF);
                }
                Err(error) => return Err(SinkError::Fatal(error)),
            }
        }
    }

    fn compare(&self, units: &[Unit], found: &[(u64, Vec<u8>)]) -> Result<bool, SinkError> {
        if found.is_empty() {
            return Ok(false);
        }
        let ours = found.len() == units.len()
            && found
                .iter()
                .zip(units)
                .all(|((epoch, payload), unit)| *epoch == unit.epoch && *payload == unit.record);
        if ours {
            return Ok(true);
        }
        let what = "the epoch log holds records of another owner";
        Err(SinkError::Fenced(format!("{}: {what}", self.plan.place())))
    }
}

fn offsets(units: &[Unit]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition, next) in units.iter().flat_map(|unit| &unit.offsets) {
        set_offset(&mut list, topic, *partition, *next);
    }
    list
}

fn is_fence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(code, C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch)
}

/// Whether an error means that another producer has taken over: one that leaves a transaction to be aborted does not.
fn is_fenced(error: &KafkaError) -> bool {
    let abortable = matches!(error, KafkaError::Transaction(error) if error.txn_requires_abort());
    !abortable && error.rdkafka_error_code().is_some_and(is_fence)
}

impl Sink for Transactional {
    fn commit(&mut self, units: &[Unit]) -> Result<(), SinkError> {
        if !self.owner {
            return Err(SinkError::Fatal(self.internal("`commit` came before `recover`")));
        }
        if units.is_empty() {
            return Ok(());
        }
        loop {
            let setback = match self.attempt(units) {
                Ok(()) => return Ok(()),
                Err(setback) => setback,
            };
            let unknown = match setback {
                Setback::Abort(error) => {
                    tracing::warn!(%error, "the transaction is aborted; sending the same epochs again");
                    !self.abort()?
                }
                Setback::Unknown(error) => {
                    tracing::warn!(%error, "the outcome of the transaction is not known; asking the epoch log");
                    true
                }
                Setback::Stop(SinkError::Fatal(error)) => {
                    self.abort()?;
                    return Err(SinkError::Fatal(error));
                }
                Setback::Stop(error) => return Err(error),
            };
            if unknown && self.resolve(units)? {
                return Ok(());
            }
            thread::sleep(BACKOFF);
        }
    }

    fn recover(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), SinkError> {
        self.log.prepare()?;
        self.own(Some(OWN))?;
        self.log.read(&mut |_, payload| each(payload))?;
        self.owner = true;
        Ok(())
    }

    fn trim(&mut self, below_epoch: u64) -> Result<(), SinkError> {
        // The log may always hold more than is needed: what does not work now is done by the next trim.
        match self.log.trim(below_epoch) {
            Err(error) if error.fault == Fault::Environment => tracing::warn!(%error, "the epoch log was not trimmed"),
            other => other?,
        }
        Ok(())
    }
}

impl Drop for Transactional {
    fn drop(&mut self) {
        close(self.outlet.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_offset_of_a_partition_is_sent() {
        let unit = |epoch, next| Unit {
            epoch,
            outputs: Vec::new(),
            record: Vec::new(),
            offsets: vec![("a".to_owned(), 0, next), ("a".to_owned(), 1, 7)],
        };
        let list = offsets(&[unit(1, 5), unit(2, 9)]);
        let offsets: Vec<_> = list
            .elements()
            .iter()
            .map(|e| (e.partition(), e.offset().to_raw()))
            .collect();
        assert_eq!(offsets, [(0, Some(9)), (1, Some(7))]);
    }
}
