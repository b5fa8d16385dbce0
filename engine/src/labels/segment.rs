//! Rows that wait, in segments of a fixed number of arrivals: written once when full, and again, smaller, when most
//! of their rows have left.

use std::mem::size_of;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::frame::Frame;
use driftmill_models::state::{ChunkSource, ChunkVisitor, StateError, open};

use super::index::ENTRY_BYTES;
use crate::example::{Examples, Keys, VersionId, read_f64s, read_i64s, read_versions};

/// Rows that a segment takes.
pub(super) const SEGMENT_ROWS: u64 = 1024;
/// Bytes of a row beside key and features: time, two scores, weight, version, place, and its entry of the index.
const ROW_BYTES: usize = 4 * 8 + 4 + 2 + size_of::<u32>() + ENTRY_BYTES;
/// Segments with fewer stored rows are not worth rewriting.
const COMPACT_ROWS_MIN: usize = 64;

/// The arrivals `id * SEGMENT_ROWS ..`.
#[derive(Default)]
pub(super) struct Segment {
    /// Number of its arrivals so far.
    filled: u64,
    /// Which of its arrivals are stored, ascending.
    places: Vec<u16>,
    keys: Keys,
    time_ms: Vec<i64>,
    frame: Frame,
    scores: Vec<f64>,
    shadow: Vec<f64>,
    weights: Vec<f64>,
    versions: Vec<VersionId>,
    /// A bit for each arrival: still here.
    live: Vec<u64>,
    live_rows: usize,
    cleared: u64,
    compactions: u64,
    /// No live row is older.
    oldest_ms: i64,
    bytes: usize,
}

impl Segment {
    /// A segment without rows.
    pub(super) fn empty() -> Self {
        Self {
            live: vec![0; SEGMENT_ROWS as usize / 64],
            oldest_ms: i64::MAX,
            ..Self::default()
        }
    }

    /// Whether it takes no more rows.
    pub(super) fn is_full(&self) -> bool {
        self.filled >= SEGMENT_ROWS
    }

    /// Rows that are still here.
    pub(super) fn live_rows(&self) -> usize {
        self.live_rows
    }

    /// No live row is older than this.
    pub(super) fn oldest_ms(&self) -> i64 {
        self.oldest_ms
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its features.
    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Appends one row. The features of all rows appended so are added by [`Segment::append_features`].
    pub(super) fn push(&mut self, examples: &Examples, row: usize) {
        let place = self.filled;
        self.filled += 1;
        self.places.push(place as u16);
        self.keys.push(examples.keys.get(row));
        let time_ms = examples.time_ms.get(row).copied().unwrap_or_default();
        self.time_ms.push(time_ms);
        self.scores.push(examples.scores.get(row).copied().unwrap_or(f64::NAN));
        self.shadow.push(examples.shadow.get(row).copied().unwrap_or(f64::NAN));
        self.weights.push(examples.weights.get(row).copied().unwrap_or(1.0));
        self.versions.push(examples.version);
        self.oldest_ms = self.oldest_ms.min(time_ms);
        self.live[place as usize / 64] |= 1 << (place % 64);
        self.live_rows += 1;
    }

    /// Appends the features of rows `rows` and counts the bytes anew.
    pub(super) fn append_features(&mut self, frame: &Frame, rows: std::ops::Range<usize>) {
        self.frame.append(frame, rows);
        self.count_bytes();
    }

    fn count_bytes(&mut self) {
        self.bytes = self.keys.bytes() + self.frame.bytes() + self.places.len() * ROW_BYTES + self.live.len() * 8;
    }

    /// Whether the row of an arrival is still here.
    pub(super) fn is_live(&self, place: u64) -> bool {
        self.live
            .get(place as usize / 64)
            .is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    /// Where the row of an arrival is stored; only for live ones.
    pub(super) fn row(&self, place: u64) -> Option<usize> {
        if !self.is_live(place) {
            return None;
        }
        self.places.binary_search(&(place as u16)).ok()
    }

    /// Arrivals that are still here, ascending.
    pub(super) fn live_places(&self) -> impl Iterator<Item = u64> + '_ {
        self.places
            .iter()
            .map(|place| u64::from(*place))
            .filter(|place| self.is_live(*place))
    }

    /// Key of a stored row.
    pub(super) fn key(&self, row: usize) -> &[u8] {
        self.keys.get(row)
    }

    /// Prediction time of a stored row in ms.
    pub(super) fn time_ms(&self, row: usize) -> i64 {
        self.time_ms[row]
    }

    /// Score, weight and version of a stored row.
    pub(super) fn served(&self, row: usize) -> (f64, f64, VersionId) {
        (self.scores[row], self.weights[row], self.versions[row])
    }

    /// What the shadow would have answered for a stored row.
    pub(super) fn shadow(&self, row: usize) -> f64 {
        self.shadow[row]
    }

    /// Takes a row out.
    pub(super) fn clear(&mut self, place: u64) {
        if self.is_live(place) {
            self.live[place as usize / 64] &= !(1 << (place % 64));
            self.live_rows -= 1;
            self.cleared += 1;
        }
    }

    /// Finds the oldest of the rows for which `waits` holds.
    pub(super) fn find_oldest(&mut self, waits: impl Fn(u64) -> bool) {
        let times = self
            .live_places()
            .filter(|place| waits(*place))
            .filter_map(|place| self.row(place));
        self.oldest_ms = times.map(|row| self.time_ms[row]).min().unwrap_or(i64::MAX);
    }

    /// Drops the rows that have left when they are at least three of four: a row is rewritten at most once for
    /// three that left.
    pub(super) fn compact(&mut self) {
        if !self.is_full() || self.places.len() < COMPACT_ROWS_MIN || self.live_rows * 4 > self.places.len() {
            return;
        }
        let rows: Vec<usize> = self.live_places().filter_map(|place| self.row(place)).collect();
        let picks: Vec<_> = rows.iter().map(|&row| (&self.frame, row)).collect();
        let frame = if rows.is_empty() {
            self.frame.empty_like()
        } else {
            Frame::gather(&picks)
        };
        let mut keys = Keys::default();
        rows.iter().for_each(|&row| keys.push(self.keys.get(row)));
        self.places = rows.iter().map(|&row| self.places[row]).collect();
        self.time_ms = rows.iter().map(|&row| self.time_ms[row]).collect();
        self.scores = rows.iter().map(|&row| self.scores[row]).collect();
        self.shadow = rows.iter().map(|&row| self.shadow[row]).collect();
        self.weights = rows.iter().map(|&row| self.weights[row]).collect();
        self.versions = rows.iter().map(|&row| self.versions[row]).collect();
        (self.frame, self.keys) = (frame, keys);
        self.compactions += 1;
        self.count_bytes();
    }

    /// Offers its two chunks: the rows, and which of them are still here.
    pub(super) fn save(&self, id: u64, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(&format!("rows/{id:012}"), self.filled + self.compactions, &mut |out| {
            self.write_rows(out)
        });
        chunks.chunk(&format!("live/{id:012}"), self.filled + self.cleared, &mut |out| {
            out.put_u64(self.cleared);
            self.live.iter().for_each(|&word| out.put_u64(word));
        });
    }

    fn write_rows(&self, out: &mut Vec<u8>) {
        out.put_u64(self.filled);
        out.put_u64(self.compactions);
        self.frame.write(0..self.frame.rows(), out);
        self.places.iter().for_each(|&place| out.put_u32(u32::from(place)));
        self.keys.write(out);
        self.time_ms.iter().for_each(|time| out.put_u64(time.cast_unsigned()));
        self.scores.iter().for_each(|&score| out.put_f64(score));
        self.shadow.iter().for_each(|&score| out.put_f64(score));
        self.weights.iter().for_each(|&weight| out.put_f64(weight));
        self.versions.iter().for_each(|version| out.put_u32(version.0));
    }

    /// Reads what [`Segment::save`] offered.
    pub(super) fn restore(id: u64, chunks: &dyn ChunkSource) -> Result<Self, StateError> {
        let name = format!("rows/{id:012}");
        let mut segment = Self::read_rows(open(chunks, &name)?).map_err(|error| StateError::of(&name, error))?;
        let name = format!("live/{id:012}");
        segment
            .read_live(open(chunks, &name)?)
            .map_err(|error| StateError::of(&name, error))?;
        segment.count_bytes();
        Ok(segment)
    }

    fn read_rows(mut reader: Reader<'_>) -> Result<Self, CodecError> {
        let (filled, compactions) = (reader.u64()?, reader.u64()?);
        let frame = Frame::read(&mut reader)?;
        let rows = frame.rows();
        if filled > SEGMENT_ROWS || rows as u64 > filled || compactions > SEGMENT_ROWS {
            return Err(reader.error(format!("{rows} of {filled} rows in a segment")));
        }
        let places: Result<Vec<u32>, _> = (0..rows).map(|_| reader.u32()).collect();
        let places = places?;
        let ascending = places.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || places.last().is_some_and(|&place| u64::from(place) >= filled) {
            return Err(reader.error("the places of the rows are not ascending"));
        }
        let keys = Keys::read(&mut reader)?;
        if keys.len() != rows {
            return Err(reader.error(format!("{} keys for {rows} rows", keys.len())));
        }
        let segment = Self {
            filled,
            compactions,
            places: places.into_iter().map(|place| place as u16).collect(),
            keys,
            time_ms: read_i64s(&mut reader, rows)?,
            scores: read_f64s(&mut reader, rows)?,
            shadow: read_f64s(&mut reader, rows)?,
            weights: read_f64s(&mut reader, rows)?,
            versions: read_versions(&mut reader, rows)?,
            frame,
            ..Self::empty()
        };
        reader.finish()?;
        Ok(segment)
    }

    fn read_live(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.cleared = reader.u64()?;
        for word in &mut self.live {
            *word = reader.u64()?;
        }
        self.live_rows = self.live.iter().map(|word| word.count_ones() as usize).sum();
        // Every live arrival must be stored, or a row without features would be handed out.
        if self.live_places().count() != self.live_rows || self.cleared + self.live_rows as u64 != self.filled {
            return Err(reader.error("rows are said to be here that are not"));
        }
        reader.finish()
    }
}
