//! The contract of a source: where raw records come from.

use std::time::Duration;

use driftmill_config::{Component, Problems, Section};

use crate::check::SourceCheck;
use crate::error::ConnectError;
use crate::records::{Partition, Records};

/// Where reading of a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that the partition still holds.
    Oldest,
    /// After the newest record that the partition holds now.
    Newest,
    /// This offset. When the partition no longer holds it, that is [`SourceEvent::Gap`], never a silent skip.
    Offset(i64),
}

/// What a poll of a source brings.
pub enum SourceEvent {
    /// Records of one partition, following those delivered before.
    Records(Records),
    /// Everything that `partition` held when the broker last answered has been delivered; `next` is the
    /// offset that the next record will at least have.
    End {
        /// The partition.
        partition: Partition,
        /// The position after the last record.
        next: i64,
    },
    /// A partition that did not exist when the source was assigned. It is not read until it is assigned.
    Added(Partition),
    /// Records that were due no longer exist (retention expired, topic recreated or truncated).
    Gap {
        /// The partition.
        partition: Partition,
        /// The offset that was due.
        expected: i64,
        /// Oldest offset that is still there.
        oldest: i64,
        /// Offset after the newest record.
        newest: i64,
    },
}

/// A source of raw records, owned and polled by one thread.
pub trait Source: Send {
    /// The topics, in the order that [`Partition::topic`] indexes.
    fn topics(&self) -> &[String];

    /// All partitions that exist now.
    ///
    /// # Errors
    /// A missing topic, missing rights, or brokers that do not answer before the connector's time-out.
    fn partitions(&mut self) -> Result<Vec<Partition>, ConnectError>;

    /// Oldest offset held and offset after the newest record.
    ///
    /// # Errors
    /// Brokers that do not answer before the connector's time-out.
    fn bounds(&mut self, partition: Partition) -> Result<(i64, i64), ConnectError>;

    /// Replaces the assignment: reads exactly these partitions from these positions on.
    ///
    /// # Errors
    /// A position that is not held any more, or brokers that do not answer.
    fn assign(&mut self, positions: &[(Partition, Start)]) -> Result<(), ConnectError>;

    /// Waits up to `wait` for something to happen. Never waits longer, never skips a record.
    /// Temporary trouble (a broker away) is retried inside and shows in the connector's metrics.
    ///
    /// # Errors
    /// Only what will not heal by waiting.
    fn poll(&mut self, wait: Duration) -> Result<Option<SourceEvent>, ConnectError>;

    /// Stops fetching of these partitions; what was fetched but not delivered comes again after `resume`.
    ///
    /// # Errors
    /// As `poll`.
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), ConnectError>;

    /// Undoes `pause`.
    ///
    /// # Errors
    /// As `poll`.
    fn resume(&mut self, partitions: &[Partition]) -> Result<(), ConnectError>;

    /// Records between the position of each assigned partition and its end, as the last answer of the server
    /// told; no round trip. Partitions whose end is not known yet are left out.
    fn lag(&self) -> Vec<(Partition, i64)>;

    /// Temporary troubles (lost connections, retried requests) since the source was connected.
    fn troubles(&self) -> u64;
}

/// An entry of the list of sources.
pub trait SourceKind: Component {
    /// Checks the section and opens the source. `purpose` names it in client ids and errors: the pipeline's name
    /// and the section's (`"payments-source"`, `"payments-labels"`).
    /// Where the section names no brokers, the connection of `defaults` (another section of this connector, or an absent
    /// one) is taken.
    fn open(
        &self,
        section: &Section<'_>,
        defaults: &Section<'_>,
        purpose: &str,
        problems: &mut Problems,
    ) -> Option<Box<dyn OpenSource>>;
}

/// A checked source configuration, ready to connect.
pub trait OpenSource: Send + Sync {
    /// Connects.
    ///
    /// # Errors
    /// Options that the client library refuses.
    fn connect(&self) -> Result<Box<dyn Source>, ConnectError>;
    /// The topics that it will read.
    fn topics(&self) -> &[String];
    /// Where the first run of a pipeline begins to read.
    fn start(&self) -> Start;
    /// Checks that topics exist, that rights suffice, and that records stay long enough to be read.
    ///
    /// # Errors
    /// Servers that do not answer.
    fn check(&self) -> Result<SourceCheck, ConnectError>;
}
