//! Saving and restoring in memory, for the tests of states.

use std::collections::BTreeMap;

use crate::state::{ChunkSource, ChunkVisitor, State};

/// Chunks in memory. Like a snapshot, it writes a chunk only when its stamp moved.
#[derive(Default)]
pub(crate) struct Memory {
    chunks: BTreeMap<String, (u64, Vec<u8>)>,
    offered: Vec<String>,
    /// Chunks written by the last save.
    pub(crate) written: usize,
}

impl Memory {
    /// Brings the chunks up to date with `state`.
    pub(crate) fn save(&mut self, state: &dyn State) {
        self.offered.clear();
        self.written = 0;
        state.save(self);
        let offered = std::mem::take(&mut self.offered);
        self.chunks.retain(|name, _| offered.contains(name));
    }

    /// All chunks as one value that can be compared.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.chunks
            .iter()
            .map(|(name, (_, bytes))| (name.clone(), bytes.clone()))
            .collect()
    }

    /// The chunks, to be damaged.
    pub(crate) fn bytes_mut(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        self.chunks.values_mut().map(|(_, bytes)| bytes)
    }
}

impl ChunkVisitor for Memory {
    fn chunk(&mut self, name: &str, stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.offered.push(name.to_owned());
        if self.chunks.get(name).is_some_and(|(old, _)| *old == stamp) {
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.written += 1;
        self.chunks.insert(name.to_owned(), (stamp, bytes));
    }
}

impl ChunkSource for Memory {
    fn chunk(&self, name: &str) -> Option<&[u8]> {
        self.chunks.get(name).map(|(_, bytes)| bytes.as_slice())
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.chunks
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// The state as bytes.
pub(crate) fn snapshot(state: &dyn State) -> BTreeMap<String, Vec<u8>> {
    let mut memory = Memory::default();
    memory.save(state);
    memory.contents()
}

/// Chunks of which one is another.
struct Damaged<'a> {
    whole: &'a Memory,
    name: &'a str,
    bytes: Vec<u8>,
}

impl ChunkSource for Damaged<'_> {
    fn chunk(&self, name: &str) -> Option<&[u8]> {
        match name == self.name {
            true => Some(&self.bytes),
            false => self.whole.chunk(name),
        }
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.whole.names(prefix)
    }
}

/// Damages the saved chunks at every length and some bytes: restoring may fail and must not panic.
pub(crate) fn survives_damage<S: State>(state: &S, fresh: impl Fn() -> S) {
    let mut whole = Memory::default();
    whole.save(state);
    for (name, bytes) in &whole.contents() {
        let step = (bytes.len() / 200).max(1);
        for cut in (0..bytes.len()).step_by(step) {
            let mut damaged = Damaged {
                whole: &whole,
                name,
                bytes: bytes[..cut].to_vec(),
            };
            assert!(
                fresh().restore(&damaged).is_err(),
                "chunk {name} cut to {cut} bytes was taken"
            );
            damaged.bytes.clone_from(bytes);
            damaged.bytes[cut] ^= 0xff;
            let _may_fail = fresh().restore(&damaged);
        }
    }
}
