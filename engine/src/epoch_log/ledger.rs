//! The bookkeeper: sees every record in order and says at once where the story breaks.

use std::collections::BTreeMap;

use super::record::{EpochRecord, RecordError};

/// The log does not tell one unbroken story.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The record was changed, or follows another than the one before it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is of another pipeline.
    #[error(
        "the record of epoch {epoch} belongs to pipeline `{found}`, not to `{expected}`: \
         give each pipeline a log and a state folder of its own"
    )]
    OtherPipeline {
        /// The epoch.
        epoch: u64,
        /// Whose record it is.
        found: String,
        /// Whose log is read.
        expected: String,
    },
    /// Epochs are missing.
    #[error(
        "epochs {expected} to {} are missing from the log: restore it from a copy, or start from a newer snapshot",
        found - 1
    )]
    Missing {
        /// The first that is missing.
        expected: u64,
        /// The one that came instead.
        found: u64,
    },
    /// An epoch came twice, or an old one came back.
    #[error("epoch {found} stands in the log again, after epoch {}: two owners wrote to it, or it was copied together", expected - 1)]
    Repeated {
        /// The one that should come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// Offsets were left out or read twice.
    #[error(
        "epoch {epoch} starts at offset {found} of {topic}/{partition}, the epoch before ended at {expected}: \
         the record is not of this log, or the topic was made anew"
    )]
    Offsets {
        /// The epoch.
        epoch: u64,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it should start.
        expected: i64,
        /// Where it starts.
        found: i64,
    },
}

/// What is known after the last record: pure values, no files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    pipeline: String,
    last: Option<(u64, String)>,
    ends: BTreeMap<String, BTreeMap<i32, i64>>,
}

impl Ledger {
    /// Knows nothing yet: the first record, whatever its number (logs are trimmed), is the base of the rest.
    #[must_use]
    pub fn new(pipeline: impl Into<String>) -> Self {
        Self {
            pipeline: pipeline.into(),
            last: None,
            ends: BTreeMap::new(),
        }
    }

    /// Goes on after `epoch`, whose record had `chain`, as a snapshot knows it. Partitions whose end is not
    /// given by [`Ledger::set_end`] are taken as they come.
    #[must_use]
    pub fn after(pipeline: impl Into<String>, epoch: u64, chain: impl Into<String>) -> Self {
        Self {
            last: Some((epoch, chain.into())),
            ..Self::new(pipeline)
        }
    }

    /// The next epoch must start at offset `end` of this partition.
    pub fn set_end(&mut self, topic: &str, partition: i32, end: i64) {
        self.ends.entry(topic.to_owned()).or_default().insert(partition, end);
    }

    /// Takes the next record, or says what is wrong with it; then nothing has changed.
    ///
    /// # Errors
    /// The record is damaged, of another pipeline, or does not follow the one before.
    pub fn admit(&mut self, record: &EpochRecord) -> Result<(), LedgerError> {
        self.check(record)?;
        for range in &record.ranges {
            self.set_end(&range.topic, range.partition, range.end);
        }
        self.last = Some((record.epoch, record.chain.clone()));
        Ok(())
    }

    fn check(&self, record: &EpochRecord) -> Result<(), LedgerError> {
        let epoch = record.epoch;
        if record.pipeline != self.pipeline {
            return Err(LedgerError::OtherPipeline {
                epoch,
                found: record.pipeline.clone(),
                expected: self.pipeline.clone(),
            });
        }
        if let Some((last, _)) = &self.last {
            let expected = last.saturating_add(1);
            match epoch.cmp(&expected) {
                std::cmp::Ordering::Greater => return Err(LedgerError::Missing { expected, found: epoch }),
                std::cmp::Ordering::Less => return Err(LedgerError::Repeated { expected, found: epoch }),
                std::cmp::Ordering::Equal => {}
            }
        }
        let previous = self.last.as_ref().map_or(&record.previous, |(_, chain)| chain);
        record.verify(previous)?;
        self.check_offsets(record)
    }

    fn check_offsets(&self, record: &EpochRecord) -> Result<(), LedgerError> {
        for range in &record.ranges {
            match self.end(&range.topic, range.partition) {
                Some(expected) if expected != range.start => {
                    return Err(LedgerError::Offsets {
                        epoch: record.epoch,
                        topic: range.topic.clone(),
                        partition: range.partition,
                        expected,
                        found: range.start,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The last epoch.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.last.as_ref().map(|(epoch, _)| *epoch)
    }

    /// `chain` of the last record: what the next one is sealed with. Empty before the first.
    #[must_use]
    pub fn chain(&self) -> &str {
        self.last.as_ref().map_or("", |(_, chain)| chain)
    }

    /// Where the last epoch ended in a partition: the first offset of the next.
    #[must_use]
    pub fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        self.ends.get(topic)?.get(&partition).copied()
    }

    /// Where the last epoch ended in each partition that was ever seen, sorted.
    pub fn ends(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.ends.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, end)| (topic.as_str(), *partition, *end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, records};
    use super::*;

    fn after(records: &[EpochRecord]) -> Ledger {
        let mut ledger = Ledger::new("p");
        for record in records {
            ledger.admit(record).unwrap();
        }
        ledger
    }

    #[test]
    fn an_unbroken_story_is_admitted_from_any_beginning() {
        let all = records(5, 4);
        let ledger = after(&all);
        assert_eq!((ledger.epoch(), ledger.chain()), (Some(8), all[3].chain.as_str()));
        let ends: Vec<_> = ledger.ends().collect();
        assert_eq!(ends, [("a", 1, 90), ("b", 0, 90)]);
        assert_eq!(after(&all[2..]), ledger, "a trimmed log ends the same");
        let mut resumed = Ledger::after("p", 7, &all[2].chain);
        resumed.admit(&all[3]).unwrap();
        assert_eq!(resumed, ledger);
    }

    #[test]
    fn each_break_is_named_and_changes_nothing() {
        let all = records(1, 5);
        let ledger = after(&all[..2]);
        let refused = |record: &EpochRecord| {
            let mut ledger = ledger.clone();
            let error = ledger.admit(record).unwrap_err();
            assert_eq!(ledger, after(&all[..2]));
            error
        };
        assert_eq!(refused(&all[4]), LedgerError::Missing { expected: 3, found: 5 });
        assert!(refused(&all[4]).to_string().contains("epochs 3 to 4 are missing"));
        assert_eq!(refused(&all[1]), LedgerError::Repeated { expected: 3, found: 2 });
        let unlinked = record(3, "elsewhere");
        assert!(matches!(
            refused(&unlinked),
            LedgerError::Record(RecordError::Unlinked { epoch: 3, .. })
        ));
        let mut changed = all[2].clone();
        changed.counts.dead += 1;
        assert!(matches!(
            refused(&changed),
            LedgerError::Record(RecordError::Damaged { epoch: 3, .. })
        ));
        let other = EpochRecord {
            pipeline: "q".to_owned(),
            ..all[2].clone()
        }
        .seal(&all[1].chain);
        assert!(matches!(refused(&other), LedgerError::OtherPipeline { epoch: 3, .. }));
        let mut gap = all[2].clone();
        gap.ranges[0].start += 1;
        assert!(matches!(
            refused(&gap.seal(&all[1].chain)),
            LedgerError::Offsets {
                epoch: 3,
                partition: 1,
                expected: 30,
                found: 31,
                ..
            }
        ));
    }

    #[test]
    fn a_new_partition_may_start_anywhere_and_then_must_go_on() {
        let mut ledger = after(&records(1, 1));
        let range = |start, end| super::super::record::Range {
            topic: "a".to_owned(),
            partition: 9,
            start,
            end,
        };
        let next = |epoch, chain: &str, range| {
            EpochRecord {
                ranges: vec![range],
                ..record(epoch, "")
            }
            .seal(chain)
        };
        ledger.admit(&next(2, ledger.chain(), range(100, 100))).unwrap();
        let chain = ledger.chain().to_owned();
        assert!(ledger.admit(&next(3, &chain, range(0, 5))).is_err());
        ledger.admit(&next(3, &chain, range(100, 105))).unwrap();
        assert_eq!(
            ledger.end("b", 0),
            Some(20),
            "partitions without a range stay where they were"
        );
    }
}
