//! The contract of a codec: payloads to Arrow columns and back, a batch at a time.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use driftmill_config::{Component, Problems, Section};

use crate::encoded::Encoded;
use crate::error::ConnectError;

/// Why a payload could not be decoded. Its `Display` goes into the dead letter's `driftmill.reason` header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}: {detail}", column.as_deref().map(|c| format!(" in column `{c}`")).unwrap_or_default())]
pub struct BadRecord {
    /// Stable short name of the kind of fault, a metric label: `syntax`, `type`, `range`, `duplicate-key`,
    /// `utf8`, `depth`, `empty`, `tombstone`, `schema`.
    pub kind: &'static str,
    /// The column at fault, where one is.
    pub column: Option<String>,
    /// What was found and what was expected; never more than 200 bytes, never a whole payload.
    pub detail: String,
}

/// The rows of a batch that could be decoded, and what was wrong with the others.
pub struct Decoded {
    /// One row for each good payload, in the order of the input.
    pub batch: RecordBatch,
    /// Index in the input of each payload that is not in `batch`, ascending, and why.
    pub bad: Vec<(usize, BadRecord)>,
}

/// Payloads in, Arrow columns out. Holds scratch space; one for each thread.
pub trait Decoder: Send {
    /// The columns that it produces.
    fn schema(&self) -> &SchemaRef;

    /// Decodes a batch. One bad payload never touches its neighbours. A tombstone (`None`) is bad, and so is a payload
    /// without a byte. What a payload becomes depends on it alone.
    ///
    /// # Errors
    /// Never because of a payload: only when the codec itself cannot go on (a schema registry that is away). Nothing of
    /// the batch counts as decoded then: the caller may call again with the same one.
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, ConnectError>;
}

/// Arrow columns in, payloads out.
pub trait Encoder: Send {
    /// Appends one record for each row of `batch` to `out`; `suffix` is a constant fragment that every
    /// record carries (already encoded by this codec's [`Encoder::fragment`]).
    ///
    /// # Errors
    /// A column type that the format has no form for.
    fn encode(&mut self, batch: &RecordBatch, suffix: &[u8], out: &mut Encoded) -> Result<(), ConnectError>;

    /// Encodes constant fields, given as JSON values, for use as a suffix.
    ///
    /// # Errors
    /// A value that the format has no form for.
    fn fragment(&self, fields: &[(&str, serde_json::Value)]) -> Result<Vec<u8>, ConnectError>;
}

/// An entry of the list of codecs.
pub trait CodecKind: Component {
    /// Checks the codec's own table, `[source.NAME]`, `[labels.NAME]` or `[sink.NAME]` with the codec's name (absent when
    /// the file has none), and makes the codec.
    fn open(&self, section: &Section<'_>, problems: &mut Problems) -> Option<Arc<dyn Codec>>;
}

/// A codec with its options. `Debug` shows its name and all options that decide about what it makes: they are part of
/// the plan's hash.
pub trait Codec: Debug + Send + Sync {
    /// A decoder for the columns of `read`, a subset of the declared schema: columns that nobody reads are
    /// neither materialised nor checked.
    ///
    /// # Errors
    /// A column type that the format does not carry.
    fn decoder(&self, read: SchemaRef) -> Result<Box<dyn Decoder>, ConnectError>;

    /// An encoder for batches of `schema`.
    ///
    /// # Errors
    /// A column type that the format has no form for.
    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>, ConnectError>;
}
