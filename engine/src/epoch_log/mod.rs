//! The epoch log: the truth about what a pipeline did. One [`EpochRecord`] for each epoch, chained by hash,
//! in a Kafka topic (exactly once) or in the local files of [`mod@file`] (at least once).

pub mod file;
pub mod ledger;
pub mod record;

pub use file::{EpochLog, LogError, TornTail};
pub use ledger::{Ledger, LedgerError};
pub use record::{By, Counts, EpochRecord, Event, Range, RecordError};
