//! A training job: a pure value, whose id is its hash.

use std::collections::BTreeSet;

use driftmill_models::contracts::Task;
use driftmill_models::frame::ColumnSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fit::TrainError;
use crate::buffer::SegmentSlice;

/// The format of jobs that this binary writes, and the only one that it carries out.
pub const JOB_VERSION: u32 = 1;
/// The version of this code, which is part of every job: other code may make other bytes.
pub const CODE: &str = env!("CARGO_PKG_VERSION");

/// What is to be trained, on which rows, and by which code. Its fields are the keys of its JSON, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Format of the job, [`JOB_VERSION`].
    pub v: u32,
    /// Name in [`BATCH_LEARNERS`](driftmill_models::learners::BATCH_LEARNERS).
    pub learner: String,
    /// The learner's own keys as TOML; see [`toml_of`](super::toml_of).
    pub learner_config: String,
    /// The feature columns, those of the segments as well.
    pub columns: Vec<ColumnSpec>,
    /// The keys of `[features.columns]`, a table for each column, as TOML; see [`toml_of`](super::toml_of).
    pub encoders: String,
    /// What the model answers for.
    pub task: Task,
    /// Seed of everything random.
    pub seed: u64,
    /// The rows, in this order: the version of the data.
    pub segments: Vec<SegmentRef>,
    /// Only rows that were predicted at or after this time (ms since 1970), if given.
    pub since_ms: Option<i64>,
    /// How much rows count.
    pub weighting: Weighting,
    /// No row whose label became available after this time (ms since 1970): the training cut.
    pub cut_ms: i64,
    /// Version of the code that carries it out, [`CODE`].
    pub code: String,
}

/// Rows `from_row..to_row` of a segment of the feature buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRef {
    /// BLAKE3 hash of the segment's bytes, 64 hexadecimal digits.
    pub hash: String,
    /// First row.
    pub from_row: u64,
    /// The row after the last.
    pub to_row: u64,
}

impl From<SegmentSlice> for SegmentRef {
    fn from(slice: SegmentSlice) -> Self {
        Self {
            hash: slice.hash.to_string(),
            from_row: slice.rows.start as u64,
            to_row: slice.rows.end as u64,
        }
    }
}

/// How much rows count, beside their own weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Weighting {
    /// All alike.
    Uniform,
    /// A row counts half as much as one that was predicted `ms` later.
    RecencyHalfLife {
        /// The half-life in milliseconds, above 0.
        ms: i64,
    },
}

/// Keys that a lineage has beside those of its job: its id, numbers of rows, and the files of history where the rows come
/// from such.
const LINEAGE_KEYS: [&str; 4] = ["job", "rows", "positives", "bootstrap"];

impl Job {
    /// The job as JSON without spaces, keys in the order of the fields: one job, one text.
    ///
    /// # Errors
    /// None that a job can cause; a failure of the serialiser is passed on.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        serde_json::to_vec(self).map_err(|error| TrainError::Job(format!("the job cannot be written: {error}")))
    }

    /// The job's id: the BLAKE3 hash of its bytes, 64 hexadecimal digits.
    ///
    /// # Errors
    /// As [`Job::to_bytes`].
    pub fn id(&self) -> Result<String, TrainError> {
        Ok(blake3::hash(&self.to_bytes()?).to_hex().to_string())
    }

    /// Reads and checks a job.
    ///
    /// # Errors
    /// Another format or version of the code, keys that are missing, unknown or impossible; in one sentence.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| TrainError::Job(format!("the job is not JSON: {error}")))?;
        Self::from_value(value)
    }

    fn from_value(value: Value) -> Result<Self, TrainError> {
        match value.get("v").and_then(Value::as_u64) {
            Some(version) if version == u64::from(JOB_VERSION) => {}
            Some(version) => {
                return Err(TrainError::Job(format!(
                    "the job has format {version} and this binary reads {JOB_VERSION}; use the binary that wrote it"
                )));
            }
            None => return Err(TrainError::Job("the job does not say its format `v`".to_owned())),
        }
        let job: Self = serde_json::from_value(value)
            .map_err(|error| TrainError::Job(format!("the job cannot be read: {error}")))?;
        job.check()?;
        Ok(job)
    }

    /// Whether the job is possible in itself.
    ///
    /// # Errors
    /// The first thing that is not, in one sentence.
    pub fn check(&self) -> Result<(), TrainError> {
        let names: BTreeSet<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let wrong = if self.v != JOB_VERSION {
            format!("the job has format {} and this binary writes {JOB_VERSION}", self.v)
        } else if self.columns.is_empty() || names.len() < self.columns.len() {
            "the job has no columns, or two of one name".to_owned()
        } else if let Some(bad) = self.segments.iter().find(|segment| !is_hash(&segment.hash)) {
            format!("`{}` is no hash of a segment", bad.hash.escape_debug())
        } else if let Some(bad) = self.segments.iter().find(|segment| segment.from_row > segment.to_row) {
            format!(
                "rows {}..{} of segment {} are no range",
                bad.from_row, bad.to_row, bad.hash
            )
        } else if matches!(self.weighting, Weighting::RecencyHalfLife { ms } if ms <= 0) {
            "the half-life of the weights must be above 0".to_owned()
        } else {
            return Ok(());
        };
        Err(TrainError::Job(wrong))
    }

    /// Refuses a job of other code: what it made here could not be called the same model.
    pub(super) fn check_code(&self) -> Result<(), TrainError> {
        if self.code == CODE {
            return Ok(());
        }
        Err(TrainError::Job(format!(
            "the job is one of driftmill {} and this is driftmill {CODE}; carry it out with that version",
            self.code
        )))
    }

    /// What an artifact of this job keeps of where it comes from: the keys of the job, and `job` (its id), `rows`
    /// and, for a binary task, `positives`.
    pub(super) fn lineage(&self, rows: u64, positives: Option<u64>) -> Result<Map<String, Value>, TrainError> {
        let value = serde_json::to_value(self)
            .map_err(|error| TrainError::Job(format!("the job cannot be written: {error}")))?;
        let Value::Object(mut lineage) = value else {
            return Err(TrainError::Job("the job is no JSON object".to_owned()));
        };
        let own = [Value::from(self.id()?), Value::from(rows), Value::from(positives)];
        for (key, value) in LINEAGE_KEYS.into_iter().zip(own) {
            lineage.insert(key.to_owned(), value);
        }
        Ok(lineage)
    }

    /// The job that made an artifact, out of the artifact's lineage: what is needed to make it again.
    ///
    /// # Errors
    /// A lineage that no job of this format wrote, or whose id is not that of its job.
    pub fn from_lineage(lineage: &Map<String, Value>) -> Result<Self, TrainError> {
        let mut keys = lineage.clone();
        LINEAGE_KEYS.iter().for_each(|key| {
            keys.remove(*key);
        });
        let job = Self::from_value(Value::Object(keys))?;
        match lineage.get("job").and_then(Value::as_str) {
            Some(id) if id == job.id()? => Ok(job),
            _ => Err(TrainError::Job(
                "the lineage does not name its own job; it was changed".to_owned(),
            )),
        }
    }
}

/// Whether this is a hash as [`SegmentRef::hash`] has it. Nothing else ever becomes the name of a file.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use driftmill_models::frame::ColumnKind;

    use super::*;

    fn job() -> Job {
        Job {
            v: JOB_VERSION,
            learner: "logistic-regression".to_owned(),
            learner_config: "\"l2\" = 1.0\n".to_owned(),
            columns: vec![ColumnSpec {
                name: "x".to_owned(),
                kind: ColumnKind::Number,
            }],
            encoders: String::new(),
            task: Task::Binary,
            seed: 7,
            segments: vec![SegmentRef {
                hash: "0".repeat(64),
                from_row: 2,
                to_row: 5,
            }],
            since_ms: Some(-3),
            weighting: Weighting::RecencyHalfLife { ms: 1000 },
            cut_ms: 99,
            code: CODE.to_owned(),
        }
    }

    #[test]
    fn a_job_survives_its_bytes_and_every_field_is_in_its_id() {
        let one = job();
        assert_eq!(Job::from_bytes(&one.to_bytes().unwrap()).unwrap(), one);
        let changes: [fn(&mut Job); 11] = [
            |job| job.learner.push('x'),
            |job| job.learner_config.push('\n'),
            |job| job.columns[0].name.push('x'),
            |job| job.encoders.push('\n'),
            |job| job.task = Task::Multiclass { classes: 3 },
            |job| job.seed += 1,
            |job| job.segments[0].to_row += 1,
            |job| job.since_ms = None,
            |job| job.weighting = Weighting::Uniform,
            |job| job.cut_ms += 1,
            |job| job.code.push('x'),
        ];
        let mut ids = BTreeSet::from([one.id().unwrap()]);
        for change in changes {
            let mut other = one.clone();
            change(&mut other);
            assert_eq!(Job::from_bytes(&other.to_bytes().unwrap()).unwrap(), other);
            assert!(ids.insert(other.id().unwrap()), "{other:?}");
        }
    }

    #[test]
    fn the_bytes_are_canonical_and_do_not_drift() {
        let text = String::from_utf8(job().to_bytes().unwrap()).unwrap();
        let expected = format!(
            r#"{{"v":1,"learner":"logistic-regression","learner_config":"\"l2\" = 1.0\n","columns":[{{"name":"x","kind":"number"}}],"encoders":"","task":"binary","seed":7,"segments":[{{"hash":"{}","from_row":2,"to_row":5}}],"since_ms":-3,"weighting":{{"recency-half-life":{{"ms":1000}}}},"cut_ms":99,"code":"{CODE}"}}"#,
            "0".repeat(64)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_lineage_gives_its_job_back_unless_it_was_changed() {
        let mut lineage = job().lineage(10, Some(3)).unwrap();
        assert_eq!(Job::from_lineage(&lineage).unwrap(), job());
        assert_eq!(lineage["rows"], 10);
        assert_eq!(lineage["positives"], 3);
        lineage.insert("seed".to_owned(), Value::from(8));
        assert!(Job::from_lineage(&lineage).unwrap_err().to_string().contains("changed"));
    }

    #[test]
    fn impossible_jobs_are_refused_in_a_sentence() {
        type Change = fn(&mut Job);
        let cases: [(Change, &str); 6] = [
            (|job| job.v = 2, "format 2"),
            (|job| job.columns.clear(), "no columns"),
            (|job| job.columns.push(job.columns[0].clone()), "two of one name"),
            (|job| job.segments[0].hash = "../../etc/passwd".to_owned(), "no hash"),
            (|job| job.segments[0].from_row = 6, "no range"),
            (|job| job.weighting = Weighting::RecencyHalfLife { ms: 0 }, "half-life"),
        ];
        for (change, expected) in cases {
            let mut job = job();
            change(&mut job);
            let error = Job::from_bytes(&job.to_bytes().unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(job.check().is_err(), "{expected}");
        }
        for bytes in ["", "[]", "{}", "{\"v\":1}", "{\"v\":1,\"shell\":\"rm\"}"] {
            assert!(Job::from_bytes(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
