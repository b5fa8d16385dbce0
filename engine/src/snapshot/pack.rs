//! Packs: files of chunks, each framed `[length u64][BLAKE3, 32 bytes][content]`, little endian.

use super::manifest::ChunkEntry;

/// Bytes of a frame before its content.
pub(super) const HEADER: u64 = 8 + 32;

/// File name of pack `number`.
pub(super) fn name(number: u64) -> String {
    format!("{number:04}.pack")
}

/// The number of the pack with this file name.
pub(super) fn parse_name(file: &str) -> Option<u64> {
    let number = file.strip_suffix(".pack")?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// The next pack, in memory.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

impl Builder {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            bytes: Vec::new(),
        }
    }

    /// Adds a chunk; returns where it lies.
    pub(super) fn add(&mut self, stamp: u64, content: &[u8]) -> ChunkEntry {
        let hash = blake3::hash(content);
        let entry = ChunkEntry {
            stamp,
            pack: self.number,
            offset: self.bytes.len() as u64,
            len: content.len() as u64,
            hash: hash.to_hex().to_string(),
        };
        self.bytes.extend_from_slice(&entry.len.to_le_bytes());
        self.bytes.extend_from_slice(hash.as_bytes());
        self.bytes.extend_from_slice(content);
        entry
    }
}

/// Bytes that a chunk takes in its pack.
pub(super) fn framed(entry: &ChunkEntry) -> u64 {
    entry.len.saturating_add(HEADER)
}

/// The content of a chunk out of the bytes of its frame, once length and hash are found right.
pub(super) fn content(mut frame: Vec<u8>, entry: &ChunkEntry) -> Result<Vec<u8>, &'static str> {
    if frame.len() as u64 != framed(entry) {
        return Err("the pack ends before it");
    }
    let content = frame.split_off(HEADER as usize);
    let (len, hash) = frame.split_at(8);
    let found = blake3::hash(&content);
    if len != entry.len.to_le_bytes() || hash != found.as_bytes() || found.to_hex().as_str() != entry.hash {
        return Err("its content does not have its hash");
    }
    Ok(content)
}
