//! From partitions to epochs: records of several partitions are merged by time and cut into finite runs.
//!
//! The order inside an epoch is a pure function of its ranges: within a partition by offset, between partitions by
//! the running maximum of the timestamps in the epoch, then by partition. Where an epoch ends depends on what had
//! arrived and on the clock; therefore the ranges are recorded, and a replay reads them and chooses nothing.

mod lane;
mod merge;
mod reader;

pub use lane::Lane;
pub use merge::{Cut, Intake, IntakeBounds};
pub use reader::{PartitionBounds, Reader, ReaderEvent, ReaderHandle};

use std::sync::Arc;

use driftmill_connectors::{Partition, Records};

/// Which stream a partition belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Records to score.
    Source,
    /// Labels.
    Labels,
}

/// A partition of one of the pipeline's streams; its order breaks ties of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The stream.
    pub stream: Stream,
    /// The partition.
    pub partition: Partition,
}

/// The records of one lane in an epoch: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneRange {
    /// The lane.
    pub lane: LaneId,
    /// First offset.
    pub start: i64,
    /// Offset after the last.
    pub end: i64,
}

/// One record of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef {
    /// Index into [`EpochInput::chunks`].
    pub chunk: u32,
    /// Row in the chunk.
    pub row: u32,
    /// Event time by which the row was merged: the running maximum of its lane, in milliseconds.
    pub time_ms: i64,
}

/// The input of one epoch.
#[derive(Default)]
pub struct EpochInput {
    /// Records, some of which belong to neighbouring epochs.
    pub chunks: Vec<(LaneId, Arc<Records>)>,
    /// Records to score, in order.
    pub source: Vec<RowRef>,
    /// Labels, in order.
    pub labels: Vec<RowRef>,
    /// What was read of each lane that contributed, in order of the lane.
    pub ranges: Vec<LaneRange>,
    /// When the oldest of the records arrived here.
    pub arrived: Option<std::time::Instant>,
}

impl EpochInput {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.source.len() + self.labels.len()
    }

    /// Whether no record is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Latest time of a record, by which watermarks advance.
    #[must_use]
    pub fn time_max_ms(&self) -> Option<i64> {
        let last = |rows: &[RowRef]| rows.last().map(|row| row.time_ms);
        last(&self.source).max(last(&self.labels))
    }
}
