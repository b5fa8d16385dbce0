//! Entries that wait for a time: a queue in the order of (time, arrival) whose snapshot costs what changed.

use std::collections::{BTreeMap, BTreeSet};

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::state::{ChunkSource, ChunkVisitor, StateError, open};

/// Entries of one chunk: arrivals `block * BLOCK ..`.
const BLOCK: u64 = 256;

/// Something that waits.
pub(super) trait Entry: Sized {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what [`Entry::write`] wrote.
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError>;
}

/// The queue.
pub(super) struct Timed<T> {
    entries: BTreeMap<u64, (i64, T)>,
    order: BTreeSet<(i64, u64)>,
    /// When each block that holds something changed last.
    blocks: BTreeMap<u64, u64>,
    next: u64,
    changes: u64,
}

impl<T> Default for Timed<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            blocks: BTreeMap::new(),
            next: 0,
            changes: 0,
        }
    }
}

impl<T: Entry> Timed<T> {
    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry; returns its arrival.
    pub(super) fn push(&mut self, at_ms: i64, entry: T) -> u64 {
        let arrival = self.next;
        self.next += 1;
        self.entries.insert(arrival, (at_ms, entry));
        self.order.insert((at_ms, arrival));
        self.touch(arrival);
        arrival
    }

    /// The entry of an arrival.
    pub(super) fn get(&self, arrival: u64) -> Option<&T> {
        self.entries.get(&arrival).map(|(_, entry)| entry)
    }

    /// Changes the entry of an arrival.
    pub(super) fn change(&mut self, arrival: u64, change: impl FnOnce(&mut T)) {
        if let Some((_, entry)) = self.entries.get_mut(&arrival) {
            change(entry);
            self.touch(arrival);
        }
    }

    /// Takes the entry of an arrival out, with its time.
    pub(super) fn remove(&mut self, arrival: u64) -> Option<(i64, T)> {
        let (at_ms, entry) = self.entries.remove(&arrival)?;
        self.order.remove(&(at_ms, arrival));
        self.touch(arrival);
        Some((at_ms, entry))
    }

    /// The entry whose turn is next: its time and arrival.
    pub(super) fn first(&self) -> Option<(i64, u64)> {
        self.order.first().copied()
    }

    /// All entries with their arrivals.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().map(|(arrival, (_, entry))| (*arrival, entry))
    }

    /// Notes that the block of an arrival changed.
    fn touch(&mut self, arrival: u64) {
        self.changes += 1;
        let block = arrival / BLOCK;
        if self.entries.range(block * BLOCK..(block + 1) * BLOCK).next().is_some() {
            self.blocks.insert(block, self.changes);
        } else {
            self.blocks.remove(&block);
        }
    }

    /// Offers the chunks, their names beginning with `prefix`.
    pub(super) fn save(&self, prefix: &str, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(&format!("{prefix}head"), self.changes, &mut |out| {
            out.put_u64(self.next);
            out.put_u64(self.changes);
            out.put_u64(self.entries.len() as u64);
        });
        for (&block, &stamp) in &self.blocks {
            chunks.chunk(&format!("{prefix}block/{block:012}"), stamp, &mut |out| {
                out.put_u64(block);
                out.put_u64(stamp);
                let entries = self.entries.range(block * BLOCK..(block + 1) * BLOCK);
                out.put_u64(entries.clone().count() as u64);
                for (arrival, (at_ms, entry)) in entries {
                    out.put_u8((arrival % BLOCK) as u8);
                    out.put_u64(at_ms.cast_unsigned());
                    entry.write(out);
                }
            });
        }
    }

    /// Reads what [`Timed::save`] offered.
    pub(super) fn restore(&mut self, prefix: &str, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::default();
        let head = format!("{prefix}head");
        let mut reader = open(chunks, &head)?;
        let parse = || {
            let numbers = (reader.u64()?, reader.u64()?, reader.u64()?);
            reader.finish().map(|()| numbers)
        };
        let (next, changes, len) = parse().map_err(|error| StateError::of(&head, error))?;
        (self.next, self.changes) = (next, changes);
        for name in chunks.names(&format!("{prefix}block/")) {
            let reader = open(chunks, &name)?;
            self.read_block(reader).map_err(|error| StateError::of(&name, error))?;
        }
        if self.entries.len() as u64 != len {
            return Err(StateError::of(
                &head,
                "another number of entries was announced than found",
            ));
        }
        Ok(())
    }

    /// Reads the entries of one block.
    fn read_block(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        let (block, stamp) = (reader.u64()?, reader.u64()?);
        if block > self.next / BLOCK || stamp > self.changes {
            return Err(reader.error("a block is younger than the queue"));
        }
        let count = reader.count(9)?;
        for _ in 0..count {
            let arrival = block * BLOCK + u64::from(reader.u8()?);
            let at_ms = reader.u64()?.cast_signed();
            let entry = T::read(&mut reader)?;
            if arrival >= self.next || self.entries.insert(arrival, (at_ms, entry)).is_some() {
                return Err(reader.error("an entry stands there twice or has not arrived yet"));
            }
            self.order.insert((at_ms, arrival));
        }
        self.blocks.insert(block, stamp);
        reader.finish()
    }
}
