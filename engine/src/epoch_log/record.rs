//! The record of one epoch: what went in, what came out, and whatever else decided it.
//!
//! A record is one line of JSON. `chain` is the BLAKE3 hash of the chain before it and of the record's own
//! canonical bytes (this struct as compact JSON, fields in the order below, without `chain`), so a changed,
//! missing or foreign record breaks the chain.

use serde::{Deserialize, Serialize};

use crate::learn::Contestant;

/// The format of records that this version writes, and the only one it reads.
pub const VERSION: u32 = 2;

/// Offsets `[start, end)` of one partition that belong to an epoch; empty when they are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset of the epoch.
    pub start: i64,
    /// The offset after the last one: where the next epoch begins.
    pub end: i64,
}

/// What became of the records of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Records delivered, labels on their own topic included.
    pub input: u64,
    /// Records that became a prediction.
    pub scored: u64,
    /// Records that the SQL filtered out.
    pub filtered: u64,
    /// Records that became a dead letter.
    pub dead: u64,
    /// Labels, from either place.
    pub labels: u64,
}

/// Something that decided the pipeline's course and does not follow from input offsets. Replay applies it and
/// never decides it anew. It takes effect at the start of the epoch whose record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A process began to own the pipeline.
    Start {
        /// Version of the crate.
        code: String,
    },
    /// Another plan is in force.
    PlanSwitched {
        /// Hash of the new plan.
        plan: String,
    },
    /// A training job was started.
    JobStarted {
        /// Hash of the job.
        job: String,
        /// What asked for it.
        cause: String,
    },
    /// A training job ended well; its artifact is durable.
    JobFinished {
        /// Hash of the job.
        job: String,
        /// Hash of the artifact.
        artifact: String,
    },
    /// A training job ended without an artifact.
    JobFailed {
        /// Hash of the job.
        job: String,
        /// Why.
        reason: String,
    },
    /// The gate answered.
    Verdict {
        /// The contestant's name: the job of a candidate, a version, or what it is.
        candidate: String,
        /// Who competed.
        contestant: Contestant,
        /// `promote`, `reject` or `hold`.
        verdict: String,
        /// Why.
        reason: String,
    },
    /// A version went live.
    Promoted {
        /// The version.
        version: String,
        /// Hash of its artifact.
        artifact: String,
        /// Why.
        reason: String,
        /// Where an online learner made it: the last epoch that it had learned from.
        snapshot: Option<u64>,
    },
    /// A newer snapshot of the online learner whose line is live serves.
    Published {
        /// The version.
        version: String,
        /// Hash of the snapshot.
        artifact: String,
        /// The last epoch that it had learned from.
        snapshot: u64,
    },
    /// An earlier version came back.
    RolledBack {
        /// The version that is live again.
        to: String,
        /// Who went back.
        by: By,
        /// Why.
        reason: String,
    },
    /// An operator lets the online learner compete again, after going back from it.
    Readmitted,
    /// The first version went live.
    Bootstrapped {
        /// The version.
        version: String,
        /// Hash of its artifact.
        artifact: String,
    },
    /// A partition joined the pipeline.
    PartitionAdded {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// An operator paused the pipeline.
    Paused,
    /// An operator resumed it.
    Resumed,
}

impl Event {
    /// Whether another model serves from its epoch on.
    #[must_use]
    pub fn changes_model(&self) -> bool {
        matches!(
            self,
            Self::Promoted { .. } | Self::Published { .. } | Self::RolledBack { .. }
        )
    }
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The gate.
    Gate,
    /// An operator.
    Operator,
}

/// One epoch. Built without `previous` and `chain`, then sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Format of the record: [`VERSION`] (set by [`EpochRecord::seal`]).
    pub v: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Number of the epoch; each is one more than the last.
    pub epoch: u64,
    /// What was read, sorted by topic and partition.
    pub ranges: Vec<Range>,
    /// The time that this epoch was given, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// Event time before which nothing is expected any more, in milliseconds since 1970 (UTC).
    pub watermark_ms: Option<i64>,
    /// The version that scored; empty when there was none.
    pub deployment: String,
    /// Hash of the plan.
    pub plan: String,
    /// Version of the crate.
    pub code: String,
    /// Whatever else decided the epoch, in order.
    pub events: Vec<Event>,
    /// What became of the records.
    pub counts: Counts,
    /// BLAKE3, in hex, of all encoded outputs.
    pub outputs: String,
    /// `chain` of the epoch before; empty for the first.
    pub previous: String,
    /// Hash of `previous` and of everything above.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chain: String,
}

/// The bytes of a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a record, or one with parts that this version does not know.
    #[error(
        "not an epoch record that driftmill {} reads: {why}; if a newer version wrote it, start that one",
        env!("CARGO_PKG_VERSION")
    )]
    Unreadable {
        /// What the parser said.
        why: String,
    },
    /// A format of another time.
    #[error(
        "an epoch record of format {found}; driftmill {} reads format {VERSION}: start the version that wrote it",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// The format found.
        found: u64,
    },
    /// It reads, and contradicts itself.
    #[error("the record of epoch {epoch} is damaged: {why}; restore it from a copy")]
    Damaged {
        /// The epoch that it claims to be.
        epoch: u64,
        /// What is wrong.
        why: String,
    },
    /// It is sound, and follows something else.
    #[error(
        "the record of epoch {epoch} does not follow the one before it (it follows `{found}`, that is `{expected}`): \
         one of them is missing or belongs to another log"
    )]
    Unlinked {
        /// The epoch.
        epoch: u64,
        /// The chain that it follows.
        found: String,
        /// The chain that it should follow.
        expected: String,
    },
}

/// As much of a record as every format has.
#[derive(Deserialize)]
struct Probe {
    v: u64,
}

impl EpochRecord {
    /// Links the record to the `chain` of the epoch before (empty for the first); sorts its ranges.
    #[must_use]
    pub fn seal(mut self, previous: &str) -> Self {
        self.v = VERSION;
        self.ranges
            .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        previous.clone_into(&mut self.previous);
        self.chain.clear();
        self.chain = hash(previous, &self.to_bytes());
        self
    }

    /// Checks that nothing in the record was changed since it was sealed, and that it follows `previous`.
    ///
    /// # Errors
    /// [`RecordError::Damaged`] or [`RecordError::Unlinked`].
    pub fn verify(&self, previous: &str) -> Result<(), RecordError> {
        self.verify_alone()?;
        if self.previous != previous {
            return Err(RecordError::Unlinked {
                epoch: self.epoch,
                found: self.previous.clone(),
                expected: previous.to_owned(),
            });
        }
        Ok(())
    }

    /// The record as one line of JSON, without a line feed.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a struct of strings, numbers and lists always has a JSON form"
    )]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Reads a record and checks that it is what was sealed.
    ///
    /// # Errors
    /// Another format, an event or field that is not known, or damage.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let unreadable = |error: serde_json::Error| RecordError::Unreadable { why: error.to_string() };
        let found = serde_json::from_slice::<Probe>(bytes).map_err(unreadable)?.v;
        if found != u64::from(VERSION) {
            return Err(RecordError::Version { found });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        record.verify_alone()?;
        Ok(record)
    }

    fn verify_alone(&self) -> Result<(), RecordError> {
        let damaged = |why: &str| RecordError::Damaged {
            epoch: self.epoch,
            why: why.to_owned(),
        };
        let body = Self {
            chain: String::new(),
            ..self.clone()
        };
        if self.chain != hash(&self.previous, &body.to_bytes()) {
            return Err(damaged("its content does not have the hash in `chain`"));
        }
        let key = |range: &Range| (range.topic.clone(), range.partition);
        if !self.ranges.is_sorted_by(|a, b| key(a) < key(b)) {
            return Err(damaged("a partition stands twice, or they are not sorted"));
        }
        if self.ranges.iter().any(|range| range.start > range.end) {
            return Err(damaged("a range ends before it starts"));
        }
        Ok(())
    }
}

/// Hash of a chain and the canonical bytes of the next record.
fn hash(previous: &str, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous.as_bytes());
    hasher.update(body);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::RngExt;
    use rand_pcg::Pcg64Mcg;

    use super::*;

    /// A record of pipeline `p` with two partitions that follow one another from epoch to epoch.
    pub(crate) fn record(epoch: u64, previous: &str) -> EpochRecord {
        let at = epoch as i64 * 10;
        let range = |topic: &str, partition| Range {
            topic: topic.to_owned(),
            partition,
            start: at,
            end: at + 10,
        };
        EpochRecord {
            pipeline: "p".to_owned(),
            epoch,
            ranges: vec![range("b", 0), range("a", 1)],
            time_ms: 1_700_000_000_000 + at,
            watermark_ms: epoch.is_multiple_of(2).then_some(at),
            deployment: "v3@1".to_owned(),
            plan: "plan".to_owned(),
            code: "0.1.0".to_owned(),
            events: vec![
                Event::Paused,
                Event::Verdict {
                    candidate: "c".to_owned(),
                    contestant: Contestant::Former,
                    verdict: "hold".to_owned(),
                    reason: "a \"quoted\" reason\n".to_owned(),
                },
            ],
            counts: Counts {
                input: 20,
                scored: 18,
                filtered: 1,
                dead: 1,
                labels: 0,
            },
            outputs: "00".to_owned(),
            ..EpochRecord::default()
        }
        .seal(previous)
    }

    /// `count` records from epoch `first` on, linked.
    pub(crate) fn records(first: u64, count: u64) -> Vec<EpochRecord> {
        let mut chain = String::new();
        (first..first + count)
            .map(|epoch| {
                let next = record(epoch, &chain);
                chain.clone_from(&next.chain);
                next
            })
            .collect()
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let first = record(1, "");
        assert_eq!(first.ranges[0].topic, "a", "sorted");
        let back = EpochRecord::from_bytes(&first.to_bytes()).unwrap();
        assert_eq!(back, first);
        back.verify("").unwrap();
        assert!(matches!(back.verify("x"), Err(RecordError::Unlinked { epoch: 1, .. })));
    }

    #[test]
    fn the_bytes_of_format_2_are_fixed() {
        let text = String::from_utf8(record(1, "").to_bytes()).unwrap();
        let expected = concat!(
            r#"{"v":2,"pipeline":"p","epoch":1,"ranges":[{"topic":"a","partition":1,"start":10,"end":20},"#,
            r#"{"topic":"b","partition":0,"start":10,"end":20}],"time_ms":1700000000010,"watermark_ms":null,"#,
            r#""deployment":"v3@1","plan":"plan","code":"0.1.0","events":[{"type":"paused"},{"type":"verdict","#,
            r#""candidate":"c","contestant":"former","verdict":"hold","reason":"a \"quoted\" reason\n"}],"counts":{"input":20,"#,
            r#""scored":18,"filtered":1,"dead":1,"labels":0},"outputs":"00","previous":"","chain":""#
        );
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let text = String::from_utf8(record(1, "").to_bytes()).unwrap();
        let refused = |from: &str, to: &str| {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            EpochRecord::from_bytes(changed.as_bytes()).unwrap_err().to_string()
        };
        assert!(refused(r#""v":2"#, r#""v":7,"new":[]"#).contains("format 7"));
        assert!(refused("\"paused\"", "\"teleported\"").contains("`teleported`"));
        assert!(refused(r#""outputs""#, r#""extra":1,"outputs""#).contains("`extra`"));
    }

    #[test]
    fn records_that_contradict_themselves_are_refused() {
        let mut twice = record(1, "");
        twice.ranges[1] = twice.ranges[0].clone();
        let mut backwards = record(1, "");
        backwards.ranges[0].end = -1;
        for wrong in [twice.seal(""), backwards.seal("")] {
            let error = EpochRecord::from_bytes(&wrong.to_bytes()).unwrap_err();
            assert!(matches!(error, RecordError::Damaged { epoch: 1, .. }), "{error}");
        }
    }

    #[test]
    fn a_changed_byte_is_an_error_or_says_the_same() {
        let original = record(4, "abc");
        for seed in 0..4000 {
            let mut random = Pcg64Mcg::new(seed);
            let mut bytes = original.to_bytes();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..3) {
                    0 => bytes[at] = random.random(),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.random()),
                }
            }
            if let Ok(read) = EpochRecord::from_bytes(&bytes) {
                assert_eq!(read, original, "seed {seed}");
            }
        }
    }
}
