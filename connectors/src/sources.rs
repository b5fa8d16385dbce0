//! The sources that there are, in the order of the reference.

use crate::kafka::KafkaSourceKind;
use crate::source::SourceKind;

/// All sources.
pub const SOURCES: &[&dyn SourceKind] = &[&KafkaSourceKind];
