//! Connectors: the contracts of source, sink and codec, and one file for each implementation. It knows no engine: it
//! hands over batches of raw records, Arrow columns and encoded outputs.

pub mod check;
pub mod codec;
pub mod codecs;
pub mod encoded;
pub mod error;
pub mod json;
pub mod kafka;
pub mod records;
pub mod schema;
pub mod sink;
pub mod sinks;
pub mod source;
pub mod sources;

#[cfg(test)]
mod conformance;

pub use check::{Finding, SourceCheck};
pub use codec::{BadRecord, Codec, CodecKind, Decoded, Decoder, Encoder};
pub use codecs::{CODECS, codec_tables, open_codec};
pub use encoded::{Encoded, Header, OutRecord};
pub use error::{ConnectError, Fault};
pub use records::{Partition, Record, Records};
pub use schema::parse_schema;
pub use sink::{Delivery, Destination, OpenSink, Sink, SinkContext, SinkError, SinkKind, Unit};
pub use sinks::SINKS;
pub use source::{OpenSource, Source, SourceEvent, SourceKind, Start};
pub use sources::SOURCES;
