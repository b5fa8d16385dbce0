//! The contract of a sink: where finished epochs go.

use driftmill_config::{Component, Problems, Section};

use crate::check::Finding;
use crate::encoded::Encoded;
use crate::error::ConnectError;

/// Where an output record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The predictions.
    Predictions,
    /// Records that could not be processed, as they were.
    DeadLetters,
}

/// What one epoch writes. Immutable once made; sent again as it is after an abort.
pub struct Unit {
    /// The epoch's number.
    pub epoch: u64,
    /// Output records by destination.
    pub outputs: Vec<(Destination, Encoded)>,
    /// The epoch's record for the epoch log.
    pub record: Vec<u8>,
    /// Consumer group offsets to publish for lag tools: topic, partition, next offset to read.
    pub offsets: Vec<(String, i32, i64)>,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Another process has taken over the pipeline. This one must exit.
    #[error("another process owns this pipeline now: {0}")]
    Fenced(String),
    /// A record is larger than its topic takes, although it passed the configured limit.
    #[error("{0}")]
    Fatal(#[from] ConnectError),
}

/// Writes epochs. Blocking; owned by one thread.
pub trait Sink: Send {
    /// Writes all units in order and returns once every record is durable; in a transactional sink all of
    /// them and their epoch records become visible together or not at all. Offsets follow for lag tools, best effort,
    /// and are not waited for. Temporary trouble
    /// (an abort, a broker away, an unknown outcome of a commit) is resolved inside, by sending the same
    /// bytes again only when the epoch log shows that they are not there.
    ///
    /// # Errors
    /// [`SinkError::Fenced`] when another owner has taken over; otherwise what waiting does not heal.
    fn commit(&mut self, units: &[Unit]) -> Result<(), SinkError>;

    /// In a transactional sink: takes ownership (fencing any earlier owner), then hands every record of the
    /// epoch log, oldest first, to `each`, which answers with the number of the epoch. Comes before the first
    /// `commit`. In others: does nothing.
    ///
    /// # Errors
    /// As `commit`, what `each` returns, and brokers that do not answer before the connector's time-out.
    fn recover(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), SinkError>;

    /// Removes epoch records below `epoch` from a log that the sink keeps. May do nothing.
    ///
    /// # Errors
    /// As `commit`.
    fn trim(&mut self, below_epoch: u64) -> Result<(), SinkError>;
}

/// How records reach the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// After a crash some outputs may be written twice, none is lost.
    AtLeastOnce,
    /// Outputs and epoch records commit in one transaction.
    ExactlyOnce,
}

/// An entry of the list of sinks.
pub trait SinkKind: Component {
    /// Checks the section. `defaults` is the section of a source of the same connector, from which a sink that
    /// does not say where its servers are takes them (absent when there is none).
    fn open(
        &self,
        section: &Section<'_>,
        defaults: &Section<'_>,
        context: &SinkContext,
        problems: &mut Problems,
    ) -> Option<Box<dyn OpenSink>>;
}

/// What a sink needs to know besides its own section.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The pipeline's name.
    pub pipeline: String,
    /// Delivery mode.
    pub delivery: Delivery,
    /// Topic for dead letters.
    pub dead_letters: Option<String>,
}

/// A checked sink configuration, ready to connect.
pub trait OpenSink: Send + Sync {
    /// Connects.
    ///
    /// # Errors
    /// Missing topics or rights; options that the client library refuses.
    fn connect(&self) -> Result<Box<dyn Sink>, ConnectError>;
    /// Hands every committed record of the epoch log that the sink keeps, oldest first, to `each`, which answers with the
    /// number of the epoch. Takes no ownership, fences nobody, writes and makes nothing. Where the sink keeps no log, or
    /// it does not exist yet: does nothing.
    ///
    /// # Errors
    /// Brokers that do not answer, and what `each` returns.
    fn read_log(&self, each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), ConnectError>;
    /// Checks that topics exist, that rights suffice, that limits fit, and that outputs stay. `oldest_ms` is the
    /// timestamp of the oldest input, where it is known: outputs carry the timestamps of their inputs.
    ///
    /// # Errors
    /// Brokers that do not answer.
    fn check(&self, oldest_ms: Option<i64>) -> Result<Vec<Finding>, ConnectError>;
    /// Largest payload in bytes that a destination takes, part of the plan; larger outputs become dead letters.
    fn payload_bytes_max(&self, destination: Destination) -> usize;
}
