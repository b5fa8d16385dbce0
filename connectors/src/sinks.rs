//! The sinks that there are, in the order of the reference.

use crate::kafka::KafkaSinkKind;
use crate::sink::SinkKind;

/// All sinks.
pub const SINKS: &[&dyn SinkKind] = &[&KafkaSinkKind];
