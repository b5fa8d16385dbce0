//! The feature buffer: matured, labelled rows as immutable segments, named by the hash of their content, and a tail.
//!
//! A training set is a list of segment hashes and row ranges: the version of the data. The same rows in the same
//! order make the same segments, whatever the process and whenever it restarted.

mod segment;
mod store;

pub use segment::{SegmentError, TrainingRows, read_segment};
pub use store::{BufferConfig, BufferCounts, BufferError, FeatureBuffer, SegmentHash, SegmentSlice, Window};
