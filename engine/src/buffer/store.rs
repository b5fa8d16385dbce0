//! The sliding window of segments and the tail that the next segment is made of.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::ColumnSpec;
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, open};

use super::segment::{read_segment, write_segment};
use crate::example::Matured;

/// Rows of one chunk of the tail: a snapshot writes again only the last.
const CHUNK_ROWS: u64 = 256;

/// The name of a segment: the BLAKE3 hash of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentHash(pub [u8; 32]);

impl SegmentHash {
    /// The name of a segment's bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for SegmentHash {
    /// 64 hexadecimal digits, as `b3sum` prints them.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&blake3::Hash::from_bytes(self.0).to_hex(), out)
    }
}

impl fmt::Debug for SegmentHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferConfig {
    /// The feature columns.
    pub columns: Vec<ColumnSpec>,
    /// Rows kept; beyond it the oldest segments leave. The tail always stays.
    pub rows_max: usize,
    /// Bytes kept, of segments and tail.
    pub bytes_max: usize,
    /// Rows after which the tail becomes a segment.
    pub segment_rows: usize,
}

/// Which rows to train on. The tail belongs to none: [`FeatureBuffer::seal_tail`] comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All that is kept.
    All,
    /// The last rows in order of arrival.
    Last(usize),
    /// All rows from the first whose label became available at this time, ms, or later.
    Since(i64),
}

/// Rows of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSlice {
    /// The segment.
    pub hash: SegmentHash,
    /// Its rows.
    pub rows: Range<usize>,
}

/// Rows that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// Their columns are not those of the buffer.
    #[error("rows have other columns than the feature buffer: a buffer belongs to one plan")]
    OtherColumns,
}

/// What the buffer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferCounts {
    /// Rows that came since the pipeline began.
    pub appended: u64,
    /// Rows that left.
    pub evicted: u64,
    /// Rows held.
    pub rows: u64,
    /// Rows of these in the tail.
    pub tail_rows: u64,
    /// Segments held.
    pub segments: u64,
    /// Bytes held.
    pub bytes: u64,
}

/// A segment in memory, as its bytes.
struct Sealed {
    number: u64,
    hash: SegmentHash,
    bytes: Arc<[u8]>,
    /// When each row's label became available, ms.
    available_ms: Vec<i64>,
}

/// The buffer.
pub struct FeatureBuffer {
    config: BufferConfig,
    segments: VecDeque<Sealed>,
    /// Number of the next segment.
    next: u64,
    tail: Matured,
    epochs: (u64, u64),
    appended: u64,
    evicted: u64,
    changes: u64,
}

impl FeatureBuffer {
    /// No rows.
    #[must_use]
    pub fn new(config: BufferConfig) -> Self {
        Self {
            config,
            segments: VecDeque::new(),
            next: 0,
            tail: Matured::default(),
            epochs: (u64::MAX, 0),
            appended: 0,
            evicted: 0,
            changes: 0,
        }
    }

    /// What it holds.
    #[must_use]
    pub fn counts(&self) -> BufferCounts {
        BufferCounts {
            appended: self.appended,
            evicted: self.evicted,
            rows: self.rows() as u64,
            tail_rows: self.tail.len() as u64,
            segments: self.segments.len() as u64,
            bytes: self.bytes() as u64,
        }
    }

    /// Rows held.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.available_ms.len())
            .sum::<usize>()
            + self.tail.len()
    }

    fn bytes(&self) -> usize {
        let segment = |segment: &Sealed| segment.bytes.len() + segment.available_ms.len() * 8;
        self.segments.iter().map(segment).sum::<usize>() + self.tail.bytes()
    }

    /// Appends the rows that matured in an epoch. Seals full segments and forgets the oldest as needed.
    ///
    /// # Errors
    /// The rows have other columns; nothing was appended.
    pub fn append(&mut self, rows: &Matured, dictionaries: &Dictionaries, epoch: u64) -> Result<(), BufferError> {
        if rows.is_empty() {
            return Ok(());
        }
        let like = self.tail.is_empty() || self.tail.frame.is_like(&rows.frame);
        if !like || rows.frame.columns().len() != self.config.columns.len() {
            return Err(BufferError::OtherColumns);
        }
        self.changes += 1;
        let mut from = 0;
        while from < rows.len() {
            let room = self.config.segment_rows.max(1) - self.tail.len();
            let to = rows.len().min(from + room);
            self.tail.append(rows, from..to);
            self.appended += (to - from) as u64;
            self.epochs = (self.epochs.0.min(epoch), epoch);
            if self.tail.len() >= self.config.segment_rows {
                self.seal_tail(dictionaries);
            }
            from = to;
        }
        self.evict();
        Ok(())
    }

    /// Makes a segment of the tail, so that [`FeatureBuffer::select`] gives its rows too. None when it is empty.
    pub fn seal_tail(&mut self, dictionaries: &Dictionaries) -> Option<SegmentHash> {
        if self.tail.is_empty() {
            return None;
        }
        let tail = std::mem::take(&mut self.tail);
        let bytes = write_segment(&self.config.columns, dictionaries, &tail, self.epochs);
        let hash = SegmentHash::of(&bytes);
        self.segments.push_back(Sealed {
            number: self.next,
            hash,
            bytes: bytes.into(),
            available_ms: tail.available_ms,
        });
        self.next += 1;
        self.epochs = (u64::MAX, 0);
        self.changes += 1;
        self.evict();
        Some(hash)
    }

    /// Forgets the oldest segments until rows and bytes fit. The tail, smaller than a segment, always stays.
    fn evict(&mut self) {
        while self.rows() > self.config.rows_max || self.bytes() > self.config.bytes_max {
            let Some(oldest) = self.segments.pop_front() else { break };
            self.evicted += oldest.available_ms.len() as u64;
        }
    }

    /// The rows of sealed segments that a window names, oldest first: a version of the data.
    #[must_use]
    pub fn select(&self, window: Window) -> Vec<SegmentSlice> {
        let mut before = self.skipped(window);
        let mut slices = Vec::new();
        for segment in &self.segments {
            let rows = segment.available_ms.len();
            let start = before.min(rows);
            before -= start;
            if start < rows {
                slices.push(SegmentSlice {
                    hash: segment.hash,
                    rows: start..rows,
                });
            }
        }
        slices
    }

    /// Sealed rows that come before a window.
    fn skipped(&self, window: Window) -> usize {
        let mut times = self.segments.iter().flat_map(|segment| &segment.available_ms);
        let rows = self.rows() - self.tail.len();
        match window {
            Window::All => 0,
            Window::Last(last) => rows.saturating_sub(last),
            Window::Since(since_ms) => times.position(|&time| time >= since_ms).unwrap_or(rows),
        }
    }

    /// The sealed segment that holds the row of this number (rows are numbered since the pipeline began), or the next
    /// one where that row has left already: the number of its first row, and its bytes. `None` when there is none.
    #[must_use]
    pub fn segment_at(&self, number: u64) -> Option<(u64, Arc<[u8]>)> {
        let mut first = self.evicted;
        for segment in &self.segments {
            let end = first + segment.available_ms.len() as u64;
            if number < end {
                return Some((first, Arc::clone(&segment.bytes)));
            }
            first = end;
        }
        None
    }

    /// The bytes of a segment, shared: they outlive its place in the window.
    #[must_use]
    pub fn segment_bytes(&self, hash: &SegmentHash) -> Option<Arc<[u8]>> {
        self.segments
            .iter()
            .find(|segment| segment.hash == *hash)
            .map(|segment| Arc::clone(&segment.bytes))
    }
}

const HEAD: &str = "head";
const SEGMENT: &str = "segment/";
const TAIL: &str = "tail/";

/// What the head says beside the buffer's own numbers.
struct Head {
    segments: u64,
    tail_rows: u64,
}

impl FeatureBuffer {
    fn write_head(&self, out: &mut Vec<u8>) {
        let numbers = [
            self.changes,
            self.next,
            self.segments.len() as u64,
            self.tail.len() as u64,
            self.epochs.0,
            self.epochs.1,
            self.appended,
            self.evicted,
        ];
        numbers.iter().for_each(|&number| out.put_u64(number));
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<Head, CodecError> {
        (self.changes, self.next) = (reader.u64()?, reader.u64()?);
        let (segments, tail_rows) = (reader.u64()?, reader.u64()?);
        self.epochs = (reader.u64()?, reader.u64()?);
        (self.appended, self.evicted) = (reader.u64()?, reader.u64()?);
        if segments > self.next || tail_rows > self.appended {
            return Err(reader.error("the numbers of rows and segments contradict each other"));
        }
        reader.finish()?;
        Ok(Head { segments, tail_rows })
    }

    /// The chunks of the tail: the number of each, and its rows. Rows are numbered since the beginning, so that the
    /// last row's number is a stamp which never goes back.
    fn tail_chunks(first: u64, rows: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
        let end = first + rows;
        let last = if rows == 0 {
            first / CHUNK_ROWS
        } else {
            end.div_ceil(CHUNK_ROWS)
        };
        (first / CHUNK_ROWS..last).map(move |chunk| {
            (
                chunk,
                first.max(chunk * CHUNK_ROWS)..end.min(chunk.saturating_add(1).saturating_mul(CHUNK_ROWS)),
            )
        })
    }

    fn restore_segments(&mut self, head: &Head, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        for number in self.next - head.segments..self.next {
            let name = format!("{SEGMENT}{number:012}");
            let bytes = chunks.chunk(&name).ok_or_else(|| StateError::of(&name, "is missing"))?;
            let rows = read_segment(bytes).map_err(|error| StateError::of(&name, error))?;
            self.segments.push_back(Sealed {
                number,
                hash: SegmentHash::of(bytes),
                bytes: bytes.into(),
                available_ms: rows.rows.available_ms,
            });
        }
        Ok(())
    }

    fn restore_tail(&mut self, head: &Head, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut tail = Matured::default();
        for (chunk, rows) in Self::tail_chunks(self.appended - head.tail_rows, head.tail_rows) {
            let name = format!("{TAIL}{chunk:012}");
            let mut reader = open(chunks, &name)?;
            let read = Matured::read(&mut reader).and_then(|read| reader.finish().map(|()| read));
            let read = read.map_err(|error| StateError::of(&name, error))?;
            let like = read
                .frame
                .is_like(if tail.is_empty() { &read.frame } else { &tail.frame });
            let right = read.frame.columns().len() == self.config.columns.len();
            if !like || !right || read.len() as u64 != rows.end - rows.start {
                return Err(StateError::of(&name, "holds other rows than the head says"));
            }
            tail.append(&read, 0..read.len());
        }
        self.tail = tail;
        Ok(())
    }
}

impl State for FeatureBuffer {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.changes, &mut |out| self.write_head(out));
        for segment in &self.segments {
            let name = format!("{SEGMENT}{:012}", segment.number);
            chunks.chunk(&name, 1, &mut |out| out.extend_from_slice(&segment.bytes));
        }
        let first = self.appended - self.tail.len() as u64;
        for (chunk, rows) in Self::tail_chunks(first, self.tail.len() as u64) {
            let local = (rows.start - first) as usize..(rows.end - first) as usize;
            chunks.chunk(&format!("{TAIL}{chunk:012}"), rows.end, &mut |out| {
                self.tail.write(local.clone(), out)
            });
        }
    }

    /// Verifies the hash of every segment.
    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::new(self.config.clone());
        let head = open(chunks, HEAD)?;
        let head = self.read_head(head).map_err(|error| StateError::of(HEAD, error))?;
        self.restore_segments(&head, chunks)?;
        self.restore_tail(&head, chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::TrainingRows;
    use super::super::segment::tests::{columns, plain, rows};
    use super::*;
    use crate::labels::memory::{Dice, Memory, restored, snapshot, survives_damage};

    fn config() -> BufferConfig {
        BufferConfig {
            columns: columns(),
            rows_max: 5_000,
            bytes_max: 1 << 30,
            segment_rows: 400,
        }
    }

    fn dictionaries() -> Dictionaries {
        Dictionaries::new(&columns(), 1 << 20)
    }

    /// The rows of a selection as a trainer gets them.
    fn train(buffer: &FeatureBuffer, window: Window) -> TrainingRows {
        let mut training = TrainingRows::new(&columns());
        for slice in buffer.select(window) {
            let bytes = buffer.segment_bytes(&slice.hash).unwrap();
            assert_eq!(SegmentHash::of(&bytes), slice.hash);
            training.append(&read_segment(&bytes).unwrap(), slice.rows).unwrap();
        }
        training
    }

    #[test]
    fn a_selection_gives_the_rows_that_came() {
        let mut dictionaries = dictionaries();
        let all = rows(0, 1_000, &mut dictionaries);
        let mut buffer = FeatureBuffer::new(config());
        for epoch in 0..10 {
            let from = epoch as usize * 100;
            buffer
                .append(&all.slice(from..from + 100), &dictionaries, epoch)
                .unwrap();
        }
        assert_eq!(train(&buffer, Window::All).rows.len(), 800, "the tail is not sealed");
        assert!(buffer.seal_tail(&dictionaries).is_some() && buffer.seal_tail(&dictionaries).is_none());
        for (window, from) in [
            (Window::All, 0),
            (Window::Last(130), 870),
            (Window::Last(5_000), 0),
            (Window::Since(500 + 3_995), 400),
            (Window::Since(i64::MIN), 0),
        ] {
            let training = train(&buffer, window);
            let expected = all.slice(from..1_000);
            assert_eq!(
                plain(&training.rows, &training.dictionaries),
                plain(&expected, &dictionaries),
                "{window:?}"
            );
        }
        assert!(buffer.select(Window::Since(i64::MAX)).is_empty() && buffer.select(Window::Last(0)).is_empty());
        assert_eq!(train(&buffer, Window::All).epochs, (0, 9));
    }

    #[test]
    fn the_same_rows_make_the_same_segments_however_they_come_and_whenever_it_restarts() {
        let hashes = |seed: u64| {
            let mut dice = Dice(seed);
            let (mut dictionaries, mut buffer) = (dictionaries(), FeatureBuffer::new(config()));
            let mut memory = Memory::default();
            let mut row = 0;
            while row < 12_000 {
                let end = 12_000.min(row + 1 + dice.below(150 * (seed + 1)));
                let new = rows(row, end, &mut dictionaries);
                buffer.append(&new, &dictionaries, 5).unwrap();
                row = end;
                if dice.below(5) == 0 {
                    memory.save(&buffer);
                    buffer = restored(&memory, &buffer, FeatureBuffer::new(config()));
                }
                assert!(buffer.rows() <= 5_000 && buffer.counts().bytes <= 1 << 30);
            }
            let counts = buffer.counts();
            assert_eq!(
                (counts.appended, counts.evicted + counts.rows),
                (12_000, 12_000),
                "seed {seed}"
            );
            (snapshot(&buffer), buffer.select(Window::All))
        };
        let (_, first) = hashes(0);
        assert!(first.len() > 10);
        for seed in 1..5 {
            assert_eq!(hashes(seed).1, first, "seed {seed}");
        }
    }

    #[test]
    fn bytes_are_bounded() {
        let bytes_max = 60_000;
        let mut buffer = FeatureBuffer::new(BufferConfig { bytes_max, ..config() });
        let mut dictionaries = dictionaries();
        for epoch in 0..50 {
            buffer
                .append(
                    &rows(epoch * 90, epoch * 90 + 90, &mut dictionaries),
                    &dictionaries,
                    epoch,
                )
                .unwrap();
            assert!(buffer.counts().bytes <= bytes_max as u64, "{:?}", buffer.counts());
        }
        assert!(buffer.counts().segments >= 1 && buffer.counts().evicted > 0);
        let other = Matured {
            frame: driftmill_models::frame::Frame::new(1, vec![]),
            ..rows(0, 1, &mut dictionaries)
        };
        assert_eq!(buffer.append(&other, &dictionaries, 50), Err(BufferError::OtherColumns));
    }

    #[test]
    fn a_snapshot_costs_what_changed() {
        let mut dictionaries = dictionaries();
        let mut buffer = FeatureBuffer::new(BufferConfig {
            rows_max: 100_000,
            segment_rows: 4_096,
            ..config()
        });
        buffer
            .append(&rows(0, 50_000, &mut dictionaries), &dictionaries, 0)
            .unwrap();
        let mut memory = Memory::default();
        memory.save(&buffer);
        let whole = memory.bytes;
        buffer
            .append(&rows(50_000, 50_100, &mut dictionaries), &dictionaries, 1)
            .unwrap();
        memory.save(&buffer);
        assert!(
            memory.bytes < whole / 50,
            "{} of {whole} bytes for 100 rows",
            memory.bytes
        );
        // Sealing early and going on: the chunk that both share is written again.
        buffer.seal_tail(&dictionaries);
        memory.save(&buffer);
        buffer
            .append(&rows(50_100, 50_110, &mut dictionaries), &dictionaries, 2)
            .unwrap();
        memory.save(&buffer);
        restored(
            &memory,
            &buffer,
            FeatureBuffer::new(BufferConfig {
                rows_max: 100_000,
                segment_rows: 4_096,
                ..config()
            }),
        );
    }

    #[test]
    fn damaged_state_is_refused() {
        let mut dictionaries = dictionaries();
        let mut buffer = FeatureBuffer::new(config());
        buffer
            .append(&rows(0, 1_130, &mut dictionaries), &dictionaries, 0)
            .unwrap();
        survives_damage(&buffer, || FeatureBuffer::new(config()));
    }
}
