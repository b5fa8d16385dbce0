//! Keys that have left not long ago, so that a label for one of them is called by its name: bounded, and remembered
//! by 64-bit hashes.

use std::collections::{HashMap, VecDeque};

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::state::{ChunkSource, ChunkVisitor, StateError, open};

/// Keys of one chunk.
const BLOCK: usize = 1024;
/// Bytes for each key: hash and fate, and the place in the table.
const KEY_BYTES: usize = 9 + 32;

/// Why a row left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It got its label and was handed out.
    Matured,
    /// Its horizon ended, or memory did.
    Gone,
}

/// Keys in order of leaving, in blocks; the oldest block is forgotten as a whole.
pub(super) struct Recent {
    blocks_max: usize,
    /// Number of the first block kept.
    first: u64,
    blocks: VecDeque<Vec<(u64, Fate)>>,
    /// The last fate of each hash, and the block that says so.
    fates: HashMap<u64, (Fate, u64)>,
}

/// What a key is remembered by: the first bytes of its BLAKE3 hash, equal on every machine.
fn hash(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(key).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Recent {
    /// Remembers as many keys as fit into `bytes_max`, at least one block of 1,024 unless it is 0.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            blocks_max: (bytes_max / (BLOCK * KEY_BYTES)).max(usize::from(bytes_max > 0)),
            first: 0,
            blocks: VecDeque::new(),
            fates: HashMap::new(),
        }
    }

    /// What became of a key, as far as that is remembered.
    pub(super) fn fate(&self, key: &[u8]) -> Option<Fate> {
        self.fates.get(&hash(key)).map(|(fate, _)| *fate)
    }

    /// Remembers a key.
    pub(super) fn add(&mut self, key: &[u8], fate: Fate) {
        if self.blocks_max == 0 || key.is_empty() {
            return;
        }
        self.push(hash(key), fate);
    }

    fn push(&mut self, hash: u64, fate: Fate) {
        if self.blocks.back().is_none_or(|block| block.len() >= BLOCK) {
            self.blocks.push_back(Vec::new());
        }
        while self.blocks.len() > self.blocks_max {
            self.forget();
        }
        let block = self.first + self.blocks.len() as u64 - 1;
        if let Some(last) = self.blocks.back_mut() {
            last.push((hash, fate));
            self.fates.insert(hash, (fate, block));
        }
    }

    /// Forgets the oldest block.
    fn forget(&mut self) {
        for (hash, _) in self.blocks.pop_front().unwrap_or_default() {
            if self.fates.get(&hash).is_some_and(|(_, block)| *block == self.first) {
                self.fates.remove(&hash);
            }
        }
        self.first += 1;
    }

    /// Offers a chunk for each block.
    pub(super) fn save(&self, prefix: &str, chunks: &mut dyn ChunkVisitor) {
        let (first, blocks) = (self.first, self.blocks.len() as u64);
        chunks.chunk(&format!("{prefix}head"), first + blocks, &mut |out| {
            out.put_u64(first);
            out.put_u64(blocks);
        });
        for (number, block) in (self.first..).zip(&self.blocks) {
            chunks.chunk(&format!("{prefix}block/{number:012}"), block.len() as u64, &mut |out| {
                out.put_u64(block.len() as u64);
                for (hash, fate) in block {
                    out.put_u64(*hash);
                    out.put_u8(u8::from(*fate == Fate::Gone));
                }
            });
        }
    }

    /// Reads what [`Recent::save`] offered.
    pub(super) fn restore(&mut self, prefix: &str, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        (self.blocks, self.fates) = (VecDeque::new(), HashMap::new());
        let head = format!("{prefix}head");
        let mut reader = open(chunks, &head)?;
        let parse = || {
            let numbers = (reader.u64()?, reader.u64()?);
            reader.finish().map(|()| numbers)
        };
        let (first, blocks) = parse().map_err(|error| StateError::of(&head, error))?;
        if blocks > self.blocks_max as u64 || first.checked_add(blocks).is_none() {
            return Err(StateError::of(
                &head,
                format!("{blocks} blocks, at most {}", self.blocks_max),
            ));
        }
        self.first = first;
        for number in first..first + blocks {
            let name = format!("{prefix}block/{number:012}");
            let mut reader = open(chunks, &name)?;
            let full = number + 1 < first + blocks;
            self.read_block(&mut reader, full)
                .and_then(|()| reader.finish())
                .map_err(|error| StateError::of(&name, error))?;
        }
        Ok(())
    }

    /// Reads a block, which must be full unless it is the last.
    fn read_block(&mut self, reader: &mut Reader<'_>, full: bool) -> Result<(), CodecError> {
        let count = reader.count(9)?;
        if count == 0 || count > BLOCK || (full && count < BLOCK) {
            return Err(reader.error(format!("{count} keys in a block")));
        }
        for _ in 0..count {
            let hash = reader.u64()?;
            let fate = match reader.u8()? {
                0 => Fate::Matured,
                1 => Fate::Gone,
                fate => return Err(reader.error(format!("{fate} is no fate of a key"))),
            };
            self.push(hash, fate);
        }
        Ok(())
    }
}
