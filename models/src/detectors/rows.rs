//! The last rows of several columns, in segments that are saved only when they changed.

use crate::codec::{CodecError, Put};
use crate::state::{ChunkSource, ChunkVisitor, StateError, open};

/// Rows of one chunk.
const SEGMENT: usize = 1_024;

/// A ring of rows, column by column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    capacity: usize,
    columns: Vec<Vec<f64>>,
    /// Rows ever written since it was emptied: the next place is this modulo the capacity.
    written: u64,
    /// For each segment the stamp of its last change.
    stamps: Vec<u64>,
}

impl Rows {
    pub(super) fn new(columns: usize, capacity: usize) -> Self {
        Self {
            capacity,
            columns: vec![Vec::new(); columns],
            written: 0,
            stamps: vec![0; capacity.div_ceil(SEGMENT)],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.written >= self.capacity as u64
    }

    /// Rows that can be added before the first is overwritten.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len())
    }

    /// Appends `count` rows; `value` gives that of a column and a row from 0 to `count`.
    pub(super) fn extend(&mut self, count: usize, stamp: u64, value: impl Fn(usize, usize) -> f64) {
        let place = (self.written % self.capacity as u64) as usize;
        for (c, column) in self.columns.iter_mut().enumerate() {
            for row in 0..count {
                let at = (place + row) % self.capacity;
                match column.get_mut(at) {
                    Some(slot) => *slot = value(c, row),
                    None => column.push(value(c, row)),
                }
            }
        }
        self.written += count as u64;
        for row in (0..count).step_by(SEGMENT).chain(count.checked_sub(1)) {
            if let Some(slot) = self.stamps.get_mut((place + row) % self.capacity / SEGMENT) {
                *slot = stamp;
            }
        }
    }

    /// The values of a column, oldest first.
    pub(super) fn ordered(&self, column: usize) -> Vec<f64> {
        let Some(values) = self.columns.get(column) else {
            return Vec::new();
        };
        let mut values = values.clone();
        if values.len() == self.capacity {
            values.rotate_left((self.written % self.capacity as u64) as usize);
        }
        values
    }

    /// Becomes the newest rows of `other`, as many as fit.
    pub(super) fn take(&mut self, other: &Self, stamp: u64) {
        let skip = other.len().saturating_sub(self.capacity);
        for (c, column) in self.columns.iter_mut().enumerate() {
            *column = other.ordered(c).split_off(skip);
        }
        self.written = self.len() as u64;
        self.stamps.fill(stamp);
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self, stamp: u64) {
        self.columns.iter_mut().for_each(Vec::clear);
        self.written = 0;
        self.stamps.fill(stamp);
    }

    /// Offers a chunk for each segment. The number of rows is not in them: the caller keeps [`Rows::written`].
    pub(super) fn save(&self, prefix: &str, chunks: &mut dyn ChunkVisitor) {
        for (segment, stamp) in self.stamps.iter().enumerate() {
            let range = segment * SEGMENT..((segment + 1) * SEGMENT).min(self.len());
            if range.is_empty() {
                continue;
            }
            chunks.chunk(&format!("{prefix}{segment}"), *stamp, &mut |out| {
                out.put_u64(*stamp);
                for column in &self.columns {
                    column
                        .get(range.clone())
                        .unwrap_or_default()
                        .iter()
                        .for_each(|&value| out.put_f64(value));
                }
            });
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Reads `written` rows' worth of segments back.
    pub(super) fn restore(&mut self, prefix: &str, written: u64, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut rows = Self::new(self.columns.len(), self.capacity);
        rows.written = written;
        let mut left = usize::try_from(written).unwrap_or(usize::MAX).min(self.capacity);
        for segment in 0..rows.stamps.len() {
            let count = left.min(SEGMENT);
            if count == 0 {
                break;
            }
            let name = format!("{prefix}{segment}");
            rows.read_segment(segment, count, &name, chunks)?;
            left -= count;
        }
        *self = rows;
        Ok(())
    }

    fn read_segment(
        &mut self,
        segment: usize,
        count: usize,
        name: &str,
        chunks: &dyn ChunkSource,
    ) -> Result<(), StateError> {
        let mut reader = open(chunks, name)?;
        let fault = |error: CodecError| StateError::of(name, error);
        if let Some(stamp) = self.stamps.get_mut(segment) {
            *stamp = reader.u64().map_err(fault)?;
        }
        for column in &mut self.columns {
            for _ in 0..count {
                column.push(reader.f64().map_err(fault)?);
            }
        }
        reader.finish().map_err(fault)
    }
}
