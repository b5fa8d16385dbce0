//! The stream of examples that joins the two halves of the engine: features as served, with what was predicted by
//! whom; and the same rows once their label is known.

use std::ops::Range;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::frame::Frame;

/// A model version, an index into the pipeline's table of versions. 0 means that no model was live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct VersionId(pub u32);

/// Byte strings of many rows in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    arena: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    /// Appends a key. Keys of one epoch stay far below 4 GiB: epochs are bounded in bytes.
    pub fn push(&mut self, key: &[u8]) {
        self.arena.extend_from_slice(key);
        self.ends.push(self.arena.len() as u32);
    }

    /// The key at `row`; empty when there is no such row.
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        let Some(&end) = self.ends.get(row) else { return &[] };
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.arena[start as usize..end as usize]
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes held, without what is allocated ahead: budgets must come to the same answer after a restart.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.ends.len() * size_of::<u32>()
    }

    /// Appends the keys in a checked binary form.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.len() as u64);
        (0..self.len()).for_each(|row| out.put_bytes(self.get(row)));
    }

    /// Reads what [`Keys::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count(8)?;
        let mut keys = Self::default();
        for _ in 0..count {
            let key = reader.bytes()?;
            if keys.arena.len() + key.len() > u32::MAX as usize {
                return Err(reader.error("the keys are longer than 4 GiB"));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

/// Rows of one epoch as they were served, in the epoch's order.
#[derive(Debug, Clone)]
pub struct Examples {
    /// What labels name the rows by; empty where the pipeline has none.
    pub keys: Keys,
    /// Prediction time of each row in milliseconds: its event time.
    pub time_ms: Vec<i64>,
    /// Features, category codes of the pipeline's dictionaries.
    pub frame: Frame,
    /// The score that was written for each row; NaN where none was.
    pub scores: Vec<f64>,
    /// The version that made the scores.
    pub version: VersionId,
    /// Weight of each row, above 0.
    pub weights: Vec<f64>,
    /// What an online learner in shadow would have answered for each row; empty where there is none.
    pub shadow: Vec<f64>,
}

/// A label as it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// 0 or 1, a class index, or a value, by task.
    pub value: f64,
    /// When it became known, in milliseconds. It is invisible to learners before.
    pub available_ms: i64,
}

/// Rows whose label is known, in the order in which the labels became available.
#[derive(Debug, Clone, Default)]
pub struct Matured {
    /// Features as served.
    pub frame: Frame,
    /// One label a row.
    pub labels: Vec<f64>,
    /// One weight a row.
    pub weights: Vec<f64>,
    /// The score that was written; NaN where none was.
    pub scores: Vec<f64>,
    /// Who made the score.
    pub versions: Vec<VersionId>,
    /// Prediction time in milliseconds.
    pub time_ms: Vec<i64>,
    /// When the label became known, in milliseconds.
    pub available_ms: Vec<i64>,
    /// What an online learner in shadow would have answered when the row was served; NaN where there was none. It
    /// belongs to the evidence on that learner alone: rows that were kept and read again do not have it.
    pub shadow: Vec<f64>,
}

impl Matured {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Appends `rows` of others with the same columns.
    ///
    /// # Panics
    /// When the columns differ or there are no such rows: the caller's bug.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) {
        self.frame.append(&other.frame, rows.clone());
        self.labels.extend_from_slice(&other.labels[rows.clone()]);
        self.weights.extend_from_slice(&other.weights[rows.clone()]);
        self.scores.extend_from_slice(&other.scores[rows.clone()]);
        self.versions.extend_from_slice(&other.versions[rows.clone()]);
        self.time_ms.extend_from_slice(&other.time_ms[rows.clone()]);
        self.available_ms.extend_from_slice(&other.available_ms[rows.clone()]);
        self.shadow.extend_from_slice(&other.shadow[rows]);
    }

    /// A copy of `rows`.
    ///
    /// # Panics
    /// When there are no such rows: the caller's bug.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let mut slice = Self {
            frame: self.frame.empty_like(),
            ..Self::default()
        };
        slice.append(self, rows);
        slice
    }

    /// The rows picked, in this order.
    ///
    /// # Panics
    /// When there is no such row: the caller's bug.
    #[must_use]
    pub fn gather(&self, rows: &[usize]) -> Self {
        let picks: Vec<_> = rows.iter().map(|&row| (&self.frame, row)).collect();
        Self {
            frame: if rows.is_empty() {
                self.frame.empty_like()
            } else {
                Frame::gather(&picks)
            },
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            weights: rows.iter().map(|&row| self.weights[row]).collect(),
            scores: rows.iter().map(|&row| self.scores[row]).collect(),
            versions: rows.iter().map(|&row| self.versions[row]).collect(),
            time_ms: rows.iter().map(|&row| self.time_ms[row]).collect(),
            available_ms: rows.iter().map(|&row| self.available_ms[row]).collect(),
            shadow: rows.iter().map(|&row| self.shadow[row]).collect(),
        }
    }

    /// Bytes that the rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frame.bytes() + self.len() * ROW_BYTES
    }

    /// Appends `rows` in a checked binary form.
    pub(crate) fn write(&self, rows: Range<usize>, out: &mut Vec<u8>) {
        self.write_with(&self.frame, rows, out);
    }

    /// The same with other features for the same rows.
    pub(crate) fn write_with(&self, frame: &Frame, rows: Range<usize>, out: &mut Vec<u8>) {
        frame.write(rows.clone(), out);
        self.labels[rows.clone()].iter().for_each(|&value| out.put_f64(value));
        self.weights[rows.clone()].iter().for_each(|&value| out.put_f64(value));
        self.scores[rows.clone()].iter().for_each(|&value| out.put_f64(value));
        self.versions[rows.clone()]
            .iter()
            .for_each(|version| out.put_u32(version.0));
        let mut times = |values: &[i64]| values.iter().for_each(|time| out.put_u64(time.cast_unsigned()));
        times(&self.time_ms[rows.clone()]);
        times(&self.available_ms[rows]);
    }

    /// Reads what [`Matured::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let frame = Frame::read(reader)?;
        let rows = frame.rows();
        Ok(Self {
            labels: read_f64s(reader, rows)?,
            weights: read_f64s(reader, rows)?,
            scores: read_f64s(reader, rows)?,
            versions: read_versions(reader, rows)?,
            time_ms: read_i64s(reader, rows)?,
            available_ms: read_i64s(reader, rows)?,
            shadow: vec![f64::NAN; rows],
            frame,
        })
    }
}

/// Bytes of a matured row beside its features: label, weight, score, the shadow's score, version, two times.
const ROW_BYTES: usize = 6 * 8 + 4;

/// Reads `rows` numbers of any kind.
pub(crate) fn read_f64s(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<f64>, CodecError> {
    let bytes = reader.take(rows.saturating_mul(8))?;
    Ok(bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| f64::from_le_bytes(*bytes))
        .collect())
}

/// Reads `rows` times.
pub(crate) fn read_i64s(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<i64>, CodecError> {
    let bytes = reader.take(rows.saturating_mul(8))?;
    Ok(bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| i64::from_le_bytes(*bytes))
        .collect())
}

/// Reads `rows` versions.
pub(crate) fn read_versions(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<VersionId>, CodecError> {
    let bytes = reader.take(rows.saturating_mul(4))?;
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| VersionId(u32::from_le_bytes(*bytes)))
        .collect())
}
