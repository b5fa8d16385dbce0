//! Delivery exactly once: outputs and epoch records in one transaction. Group offsets follow it, best effort.
//!
//! An abortable error aborts, and the same bytes are sent again. Whenever a commit may have been asked for and its
//! outcome is not known, the producer is given up: a new one with the same transactional id takes ownership (which
//! finishes or aborts the old transaction), and the epoch log says what is there.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};

use super::at_least_once::enqueue_outputs;
use super::context::{Failure, close, is_purged};
use super::epoch_log::{EpochLog, key};
use super::group::GroupOffsets;
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
    group: GroupOffsets,
    log: EpochLog,
    owner: bool,
}

impl Transactional {
    pub(super) fn connect(plan: Plan) -> Result<Self, ConnectError> {
        let log = EpochLog::new(&plan.connection, &plan.context.pipeline);
        let group = GroupOffsets::start(&plan.connection, &plan.name());
        let group = group.map_err(|error| explain(&plan.place(), &error, None))?;
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
        let begun = Instant::now();
        producer.begin_transaction().map_err(|error| self.judge(&error))?;
        let open = Instant::now();
        for unit in units {
            enqueue_outputs(&self.plan, outlet, unit).map_err(|failure| self.judge_failure(&failure))?;
            self.enqueue_record(outlet, unit)
                .map_err(|failure| self.judge_failure(&failure))?;
        }
        let queued = Instant::now();
        self.flush(outlet)?;
        let written = Instant::now();
        // From here on the outcome is known only by the answer.
        producer
            .commit_transaction(CALL)
            .map_err(|error| match self.judge(&error) {
                Setback::Abort(error) => Setback::Unknown(error),
                other => other,
            })?;
        tracing::trace!(
            begin_us = us(open - begun),
            produce_us = us(queued - open),
            flush_us = us(written - queued),
            commit_us = us(written.elapsed()),
            "transaction"
        );
        Ok(())
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

    fn flush(&self, outlet: &Outlet) -> Result<(), Setback> {
        let mut looked = Instant::now();
        while !outlet.flush(Duration::from_millis(20)) {
            if let Some(failure) = take_failure(outlet) {
                return Err(self.judge_failure(&failure));
            }
            if looked.elapsed() >= LOOK {
                self.look(outlet)?;
                looked = Instant::now();
            }
        }
        outlet
            .context()
            .take_failure()
            .map_or(Ok(()), |failure| Err(self.judge_failure(&failure)))
    }

    /// Whether the open transaction has failed meanwhile. The library refuses to begin one within another by itself,
    /// without a question to a broker: with a state error while all is well, otherwise with what has gone wrong.
    fn look(&self, outlet: &Outlet) -> Result<(), Setback> {
        match outlet.producer().begin_transaction() {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => Ok(()),
            Err(error) => Err(self.judge(&error)),
            Ok(()) => Err(Setback::Unknown(self.internal("the transaction ended by itself"))),
        }
    }

    fn judge_failure(&self, failure: &Failure) -> Setback {
        let error = describe(&self.plan.place(), failure);
        // A purge follows an error of the transaction, and that says why.
        if is_purged(failure.code)
            && let Some(outlet) = &self.outlet
            && let Err(setback) = self.look(outlet)
        {
            return setback;
        }
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

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
                Ok(()) => break,
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
                break;
            }
            thread::sleep(BACKOFF);
        }
        self.group.publish(units);
        Ok(())
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
        // Both end at the same time; the group is waited for when it is dropped itself.
        self.group.end();
        close(self.outlet.take());
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::encoded::Encoded;
    use crate::kafka::Connection;
    use crate::kafka::admin::Admin;
    use crate::kafka::mock::Mock;
    use crate::sink::Destination;

    fn unit(epoch: u64, payloads: &[&str]) -> Unit {
        let mut outputs = Encoded::default();
        for payload in payloads {
            outputs.push(None, payload.as_bytes(), 0, Vec::new());
        }
        Unit {
            epoch,
            outputs: vec![(Destination::Predictions, outputs)],
            record: vec![1],
            offsets: Vec::new(),
        }
    }

    /// What a broker refuses when partitions join a transaction is no failed record: the library sends nothing more and
    /// waits. The sink must find out by itself, abort, and send the same epochs again.
    #[test]
    fn a_transaction_that_fails_while_it_is_written_is_sent_again() {
        let mock = Mock::start(&[("out", 1), ("driftmill.p.epochs", 1)]).unwrap();
        let connection = Connection::plain(&mock.brokers());
        let refuse = |code| {
            mock.cluster()
                .request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[code])
        };
        let mut sink = Transactional::connect(Plan::exactly_once(connection.clone(), "p", "out")).unwrap();
        // The mock cannot describe a topic, so that `recover` would not come to its end.
        sink.own(Some(OWN)).unwrap();
        sink.owner = true;
        sink.commit(&[unit(1, &["a"])]).unwrap();
        refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN);
        sink.commit(&[unit(2, &["b", "c"])]).unwrap();
        let admin = Admin::connect(&connection, "test").unwrap();
        assert_eq!(admin.bounds("out", 0).unwrap(), (0, 3), "each record once");
        assert_eq!(admin.bounds("driftmill.p.epochs", 0).unwrap(), (0, 2));
        // Missing rights are the operator's to mend.
        refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
        match sink.commit(&[unit(3, &["d"])]) {
            Err(SinkError::Fatal(error)) => assert_eq!(error.fault, Fault::Operator, "{error}"),
            other => panic!("{other:?}"),
        }
    }
}
