//! What the connectors tell about themselves in trace events, collected for a benchmark.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The numbers of one event, by the names of its fields.
pub type Numbers = BTreeMap<&'static str, u64>;

/// Collects the numbers of every trace event of the Kafka connector that has some. Clones share them.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<Numbers>>>);

impl Collector {
    /// Takes what was told since the last call, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<Numbers> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::TRACE && metadata.target().starts_with("driftmill_connectors::kafka")
    }

    fn new_span(&self, _attributes: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut numbers = Reader::default();
        event.record(&mut numbers);
        if !numbers.0.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(numbers.0);
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Reader(Numbers);

impl Visit for Reader {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value);
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_connectors_alone_are_collected() {
        let collector = Collector::default();
        tracing::subscriber::with_default(collector.clone(), || {
            tracing::trace!(target: "driftmill_connectors::kafka::x", a_us = 3_u64, name = "n", "told");
            tracing::trace!(target: "driftmill_connectors::kafka::x", "no number");
            tracing::debug!(target: "driftmill_connectors::kafka::x", b_us = 1_u64, "another level");
            tracing::trace!(target: "elsewhere", c_us = 1_u64, "another crate");
        });
        assert_eq!(collector.take(), [Numbers::from([("a_us", 3)])]);
        assert!(collector.take().is_empty());
    }
}
