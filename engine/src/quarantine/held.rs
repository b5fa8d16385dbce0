//! Rows that are held back, in blocks of one reason, in bounded memory.

use std::collections::BTreeMap;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::state::{ChunkSource, ChunkVisitor, StateError, open};

use crate::example::Matured;

/// Rows of a block; a full one is not written again until rows of it are released.
const BLOCK_ROWS: usize = 1024;
/// Bytes of a block beside its rows and texts.
const BLOCK_BYTES: usize = 256;

/// Which rows to release: those that match all that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Name of the rule that held them back; any when none.
    pub reason: Option<String>,
    /// First prediction time, ms.
    pub from_ms: i64,
    /// Last prediction time, ms.
    pub to_ms: i64,
    /// Whether these rows show how things are from now on: the rules that held them back forget what they compared
    /// with, and compare with these rows.
    pub rebase: bool,
}

/// Counts of one reason since the pipeline began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReasonCounts {
    /// Rows held back.
    pub quarantined: u64,
    /// Rows of these that were released.
    pub released: u64,
    /// Rows of these that were forgotten because memory ended.
    pub dropped: u64,
}

/// A block.
struct Block {
    reason: String,
    /// What was said of the first of the rows.
    detail: String,
    rows: Matured,
    /// Grows with every change.
    changes: u64,
}

impl Block {
    fn bytes(&self) -> usize {
        self.rows.bytes() + self.reason.len() + self.detail.len() + BLOCK_BYTES
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.changes);
        out.put_str(&self.reason);
        out.put_str(&self.detail);
        self.rows.write(0..self.rows.len(), out);
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, CodecError> {
        let block = Self {
            changes: reader.u64()?,
            reason: reader.str()?.to_owned(),
            detail: reader.str()?.to_owned(),
            rows: Matured::read(&mut reader)?,
        };
        reader.finish()?;
        Ok(block)
    }
}

/// All that is held back.
#[derive(Default)]
pub(super) struct Held {
    blocks: BTreeMap<u64, Block>,
    /// The block of each reason that still takes rows.
    open: BTreeMap<String, u64>,
    next: u64,
    changes: u64,
    counts: BTreeMap<String, ReasonCounts>,
}

impl Held {
    /// Counts by reason.
    pub(super) fn counts(&self) -> &BTreeMap<String, ReasonCounts> {
        &self.counts
    }

    /// Rows held now.
    pub(super) fn rows(&self) -> usize {
        self.blocks.values().map(|block| block.rows.len()).sum()
    }

    /// Bytes held now.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.values().map(Block::bytes).sum()
    }

    /// The blocks: reason, what was said of the first row, and rows.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.blocks
            .values()
            .map(|block| (block.reason.as_str(), block.detail.as_str(), block.rows.len()))
    }

    /// Holds rows back; forgets the oldest blocks beyond the budget.
    pub(super) fn add(&mut self, reason: &str, detail: &str, rows: &Matured, bytes_max: usize) {
        self.changes += 1;
        self.counts.entry(reason.to_owned()).or_default().quarantined += rows.len() as u64;
        let mut from = 0;
        while from < rows.len() {
            let id = self.open_block(reason, detail, rows);
            let Some(block) = self.blocks.get_mut(&id) else { return };
            let to = rows.len().min(from + BLOCK_ROWS - block.rows.len());
            block.rows.append(rows, from..to);
            block.changes += 1;
            if block.rows.len() >= BLOCK_ROWS {
                self.open.remove(reason);
            }
            from = to;
        }
        while self.bytes() > bytes_max
            && let Some((id, block)) = self.blocks.pop_first()
        {
            self.counts.entry(block.reason.clone()).or_default().dropped += block.rows.len() as u64;
            self.close(&block.reason, id);
        }
    }

    /// The block that takes rows of a reason with these columns.
    fn open_block(&mut self, reason: &str, detail: &str, rows: &Matured) -> u64 {
        let open = self.open.get(reason).copied();
        let fits = |id: &u64| {
            self.blocks
                .get(id)
                .is_some_and(|block| block.rows.frame.is_like(&rows.frame))
        };
        if let Some(id) = open.filter(fits) {
            return id;
        }
        let id = self.next;
        self.next += 1;
        let block = Block {
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            rows: rows.slice(0..0),
            changes: 0,
        };
        self.blocks.insert(id, block);
        self.open.insert(reason.to_owned(), id);
        id
    }

    fn close(&mut self, reason: &str, id: u64) {
        if self.open.get(reason) == Some(&id) {
            self.open.remove(reason);
        }
    }

    /// Takes rows out, block by block in the order in which they were held back. Rows of other columns than the first
    /// stay: they belong to another plan.
    pub(super) fn release(&mut self, release: &Release) -> Vec<(String, Matured)> {
        let mut released: Vec<(String, Matured)> = Vec::new();
        for id in self.blocks.keys().copied().collect::<Vec<_>>() {
            let Some(block) = self.blocks.get_mut(&id) else {
                continue;
            };
            if release.reason.as_ref().is_some_and(|reason| *reason != block.reason)
                || released
                    .first()
                    .is_some_and(|(_, first)| !first.frame.is_like(&block.rows.frame))
            {
                continue;
            }
            let range = release.from_ms..=release.to_ms;
            let rows = 0..block.rows.len();
            let (out, stay): (Vec<_>, Vec<_>) = rows.partition(|&row| range.contains(&block.rows.time_ms[row]));
            if out.is_empty() {
                continue;
            }
            released.push((block.reason.clone(), block.rows.gather(&out)));
            block.rows = block.rows.gather(&stay);
            block.changes += 1;
            self.changes += 1;
            self.counts.entry(block.reason.clone()).or_default().released += out.len() as u64;
            if stay.is_empty() {
                let reason = block.reason.clone();
                self.blocks.remove(&id);
                self.close(&reason, id);
            }
        }
        released
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.put_u64(self.changes);
        out.put_u64(self.next);
        out.put_u64(self.blocks.len() as u64);
        out.put_u64(self.open.len() as u64);
        for (reason, id) in &self.open {
            out.put_str(reason);
            out.put_u64(*id);
        }
        out.put_u64(self.counts.len() as u64);
        for (reason, counts) in &self.counts {
            out.put_str(reason);
            for count in [counts.quarantined, counts.released, counts.dropped] {
                out.put_u64(count);
            }
        }
    }

    /// Reads the head; returns the number of blocks.
    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<u64, CodecError> {
        (self.changes, self.next) = (reader.u64()?, reader.u64()?);
        let blocks = reader.u64()?;
        for _ in 0..reader.count(16)? {
            let (reason, id) = (reader.str()?.to_owned(), reader.u64()?);
            self.open.insert(reason, id);
        }
        for _ in 0..reader.count(32)? {
            let reason = reader.str()?.to_owned();
            let counts = ReasonCounts {
                quarantined: reader.u64()?,
                released: reader.u64()?,
                dropped: reader.u64()?,
            };
            self.counts.insert(reason, counts);
        }
        reader.finish()?;
        Ok(blocks)
    }

    /// Offers the chunks.
    pub(super) fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("head", self.changes, &mut |out| self.write_head(out));
        for (id, block) in &self.blocks {
            chunks.chunk(&format!("block/{id:012}"), block.changes, &mut |out| block.write(out));
        }
    }

    /// Reads what [`Held::save`] offered.
    pub(super) fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::default();
        let head = open(chunks, "head")?;
        let count = self.read_head(head).map_err(|error| StateError::of("head", error))?;
        for name in chunks.names("block/") {
            let id = name.strip_prefix("block/").and_then(|id| id.parse::<u64>().ok());
            let id = id
                .filter(|id| *id < self.next)
                .ok_or_else(|| StateError::of(&name, "is no name of a block"))?;
            let block = Block::read(open(chunks, &name)?).map_err(|error| StateError::of(&name, error))?;
            self.blocks.insert(id, block);
        }
        let full = |id: &u64| self.blocks.get(id).is_none_or(|block| block.rows.len() >= BLOCK_ROWS);
        if self.blocks.len() as u64 != count || self.open.values().any(full) {
            return Err(StateError::of("head", "names other blocks than there are"));
        }
        Ok(())
    }
}
