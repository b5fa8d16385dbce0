//! What the epoch log says, read at a start or to verify.

use std::sync::Arc;

use driftmill_connectors::{ConnectError, Delivery, Fault, Sink, SinkError};

use crate::daemon::{RunError, Surroundings};
use crate::epoch_log::{EpochLog, EpochRecord, Ledger, TornTail};
use crate::settings::Settings;

/// What the epoch log says.
pub(super) struct History {
    /// The local log, where that is the log of this way of delivery.
    pub(super) log: Option<EpochLog>,
    /// First and last epoch.
    pub(super) span: Option<(u64, u64)>,
    /// Chain hash of the epoch after which the records were asked for, where the log still holds it.
    pub(super) chain_at_snapshot: Option<String>,
    /// The records after it, to be replayed.
    pub(super) records: Vec<EpochRecord>,
}

/// Takes ownership of the log and reads what comes after the epoch `after`.
pub(super) fn own(
    settings: &Settings,
    sink: &mut dyn Sink,
    after: u64,
    around: &Surroundings,
) -> Result<History, RunError> {
    let mut gathered = Gathered::new(settings, after);
    let log = match settings.pipeline.delivery {
        Delivery::AtLeastOnce => {
            let (log, torn) = EpochLog::open(Arc::clone(&around.disk), settings.pipeline.state_dir.join("epochs"))?;
            if let Some(torn) = torn {
                tracing::warn!(
                    ?torn,
                    "the end of the epoch log was cut off: its last write was interrupted"
                );
            }
            gathered.read_files(&log)?;
            Some(log)
        }
        Delivery::ExactlyOnce => {
            gathered.read_topic(|each| sink.recover(each))?;
            None
        }
    };
    Ok(gathered.history(log))
}

/// Reads the whole log and changes nothing: no owner is fenced, an unfinished end is left where it is.
pub(super) fn look(settings: &Settings, around: &Surroundings) -> Result<(History, Option<TornTail>), RunError> {
    let mut gathered = Gathered::new(settings, 0);
    let torn = match settings.pipeline.delivery {
        Delivery::AtLeastOnce => {
            let dir = settings.pipeline.state_dir.join("epochs");
            let (log, torn) = EpochLog::look(Arc::clone(&around.disk), dir)?;
            gathered.read_files(&log)?;
            torn
        }
        Delivery::ExactlyOnce => {
            gathered.read_topic(|each| settings.sink.read_log(each).map_err(SinkError::Fatal))?;
            None
        }
    };
    Ok((gathered.history(None), torn))
}

/// Receives the bytes of a record and answers with its epoch.
type Each<'a> = dyn FnMut(&[u8]) -> Result<u64, ConnectError> + 'a;

struct Gathered {
    ledger: Ledger,
    after: u64,
    span: Option<(u64, u64)>,
    chain_at_snapshot: Option<String>,
    records: Vec<EpochRecord>,
}

impl Gathered {
    fn new(settings: &Settings, after: u64) -> Self {
        Self {
            ledger: Ledger::new(settings.pipeline.name.clone()),
            after,
            span: None,
            chain_at_snapshot: None,
            records: Vec::new(),
        }
    }

    fn history(self, log: Option<EpochLog>) -> History {
        History {
            log,
            span: self.span,
            chain_at_snapshot: self.chain_at_snapshot,
            records: self.records,
        }
    }

    fn read_files(&mut self, log: &EpochLog) -> Result<(), RunError> {
        for record in log.records(0) {
            self.admit(record?)?;
        }
        Ok(())
    }

    fn read_topic(&mut self, read: impl FnOnce(&mut Each<'_>) -> Result<(), SinkError>) -> Result<(), RunError> {
        let mut failure = None;
        let outcome = read(&mut |bytes| {
            let admitted = EpochRecord::from_bytes(bytes).map_err(RunError::from);
            admitted.and_then(|record| self.admit(record)).map_err(|error| {
                let place = "epoch log".to_owned();
                let told = ConnectError::new(Fault::Environment, place, error.to_string(), "restore it");
                failure = Some(error);
                told
            })
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(outcome?),
        }
    }

    fn admit(&mut self, record: EpochRecord) -> Result<u64, RunError> {
        self.ledger.admit(&record)?;
        let epoch = record.epoch;
        self.span = Some((self.span.map_or(epoch, |(first, _)| first), epoch));
        if epoch == self.after {
            self.chain_at_snapshot = Some(record.chain.clone());
        }
        if epoch > self.after {
            self.records.push(record);
        }
        Ok(epoch)
    }
}
