//! The join's state: a head, the queues of labels, the keys that left, and two chunks for each segment of rows.

use std::collections::BTreeSet;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, open};

use super::{LabelJoin, SEGMENT_ROWS, Segment, is_key};

const HEAD: &str = "head";
const PENDING: &str = "pending/";
const EARLY: &str = "early/";
const RECENT: &str = "recent/";
const ROWS: &str = "rows/";

impl LabelJoin {
    fn write_head(&self, out: &mut Vec<u8>) {
        out.put_u64(self.changes);
        out.put_u64(self.next);
        out.put_u64(self.segments.len() as u64);
        let c = &self.counts;
        for count in [
            c.inserted,
            c.matched,
            c.revised,
            c.duplicate,
            c.late,
            c.orphan,
            c.early,
            c.expired,
            c.negative,
            c.evicted,
            c.replaced,
            c.matured,
        ] {
            out.put_u64(count);
        }
    }

    /// Reads the head; returns the number of segments.
    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<u64, CodecError> {
        (self.changes, self.next) = (reader.u64()?, reader.u64()?);
        let segments = reader.u64()?;
        let c = &mut self.counts;
        for count in [
            &mut c.inserted,
            &mut c.matched,
            &mut c.revised,
            &mut c.duplicate,
            &mut c.late,
            &mut c.orphan,
            &mut c.early,
            &mut c.expired,
            &mut c.negative,
            &mut c.evicted,
            &mut c.replaced,
            &mut c.matured,
        ] {
            *count = reader.u64()?;
        }
        reader.finish()?;
        Ok(segments)
    }

    fn restore_segments(&mut self, count: u64, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let names = chunks.names(ROWS);
        if names.len() as u64 != count {
            return Err(StateError::of(
                ROWS,
                format!("{} segments, {count} were announced", names.len()),
            ));
        }
        for name in names {
            let id = name.strip_prefix(ROWS).and_then(|id| id.parse::<u64>().ok());
            let id = id.filter(|id| *id <= self.next / SEGMENT_ROWS);
            let id = id.ok_or_else(|| StateError::of(&name, "is no name of a segment"))?;
            let segment = Segment::restore(id, chunks)?;
            let frame = segment.frame();
            let others = self
                .segments
                .values()
                .map(Segment::frame)
                .find(|other| other.rows() > 0);
            if frame.rows() > 0 && others.is_some_and(|other| !other.is_like(frame)) {
                return Err(StateError::of(&name, "has other columns than the segments before"));
            }
            if segment.is_full() != (id < self.next / SEGMENT_ROWS) {
                return Err(StateError::of(&name, "has another number of rows than the head says"));
            }
            self.segments.insert(id, segment);
        }
        Ok(())
    }

    /// Enters labels and keys again.
    fn rebuild(&mut self) -> Result<(), StateError> {
        let mut superseded = BTreeSet::new();
        for (arrival, pending) in self.pending.iter() {
            if self.row(pending.sequence).is_none() || self.labelled.insert(pending.sequence, arrival).is_some() {
                return Err(StateError::of(PENDING, "a label has no row, or its row has two"));
            }
            if pending.superseded {
                superseded.insert(pending.sequence);
            }
        }
        for (id, segment) in &self.segments {
            for place in segment.live_places() {
                let sequence = id * SEGMENT_ROWS + place;
                let key = segment.row(place).map(|row| segment.key(row)).unwrap_or_default();
                if !key.is_empty() && !superseded.contains(&sequence) {
                    self.index.set(key, sequence, is_key(&self.segments, key));
                }
            }
        }
        for (arrival, early) in self.early.iter() {
            self.counts.early_bytes += early.bytes() as u64;
            if self.early_index.insert(early.key.clone(), arrival).is_some() {
                return Err(StateError::of(EARLY, "two labels wait under one key"));
            }
        }
        let labelled = &self.labelled;
        for (id, segment) in &mut self.segments {
            segment.find_oldest(|place| !labelled.contains_key(&(id * SEGMENT_ROWS + place)));
        }
        Ok(())
    }
}

impl State for LabelJoin {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.changes, &mut |out| self.write_head(out));
        self.pending.save(PENDING, chunks);
        self.early.save(EARLY, chunks);
        self.recent.save(RECENT, chunks);
        for (id, segment) in &self.segments {
            segment.save(*id, chunks);
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::new(self.config);
        let head = open(chunks, HEAD)?;
        let segments = self.read_head(head).map_err(|error| StateError::of(HEAD, error))?;
        self.pending.restore(PENDING, chunks)?;
        self.early.restore(EARLY, chunks)?;
        self.recent.restore(RECENT, chunks)?;
        self.restore_segments(segments, chunks)?;
        self.rebuild()
    }
}
