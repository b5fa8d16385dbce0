//! Saving and restoring in memory, for the tests of states: writes a chunk only when its stamp moved, as a snapshot
//! does.

use std::collections::BTreeMap;

use driftmill_models::state::{ChunkSource, ChunkVisitor, State};

/// Chunks in memory.
#[derive(Default)]
pub(crate) struct Memory {
    chunks: BTreeMap<String, (u64, Vec<u8>)>,
    offered: Vec<String>,
    /// Bytes written by the last save.
    pub(crate) bytes: usize,
    /// Chunks written by the last save.
    pub(crate) written: Vec<String>,
}

impl Memory {
    /// Brings the chunks up to date with `state`.
    pub(crate) fn save(&mut self, state: &dyn State) {
        self.offered.clear();
        self.written.clear();
        self.bytes = 0;
        state.save(self);
        let offered: std::collections::BTreeSet<String> = std::mem::take(&mut self.offered).into_iter().collect();
        self.chunks.retain(|name, _| offered.contains(name));
    }

    /// All chunks as one value that can be compared.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.chunks
            .iter()
            .map(|(name, (_, bytes))| (name.clone(), bytes.clone()))
            .collect()
    }
}

impl ChunkVisitor for Memory {
    fn chunk(&mut self, name: &str, stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.offered.push(name.to_owned());
        if let Some((old, _)) = self.chunks.get(name) {
            assert!(*old <= stamp, "the stamp of {name} went back from {old} to {stamp}");
            if *old == stamp {
                return;
            }
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.bytes += bytes.len();
        self.written.push(name.to_owned());
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

/// The state as bytes, written anew.
pub(crate) fn snapshot(state: &dyn State) -> BTreeMap<String, Vec<u8>> {
    let mut memory = Memory::default();
    memory.save(state);
    memory.contents()
}

/// Restores what `memory` holds by increments and compares it with the state, written anew.
pub(crate) fn restored<S: State>(memory: &Memory, state: &S, mut fresh: S) -> S {
    assert!(
        memory.contents() == snapshot(state),
        "what was written by increments is not the state"
    );
    fresh.restore(memory).unwrap();
    assert!(
        snapshot(&fresh) == snapshot(state),
        "what was restored is not what was saved"
    );
    fresh
}

/// Damages the chunks at many places: restoring may fail and must not panic; what is cut off must be noticed.
pub(crate) fn survives_damage<S: State>(state: &S, fresh: impl Fn() -> S) {
    let whole = snapshot(state);
    for (name, bytes) in &whole {
        for cut in (0..bytes.len()).step_by((bytes.len() / 60).max(1)) {
            let mut damaged = Memory::default();
            for (other, content) in &whole {
                let mut content = content.clone();
                if other == name {
                    content.truncate(cut);
                }
                damaged.chunks.insert(other.clone(), (0, content));
            }
            assert!(
                fresh().restore(&damaged).is_err(),
                "chunk {name} cut to {cut} bytes was taken"
            );
            if let Some(target) = damaged.chunks.get_mut(name) {
                target.1.clone_from(bytes);
                target.1[cut] ^= 0xff;
            }
            let _may_fail = fresh().restore(&damaged);
        }
    }
}

/// A small seeded generator (SplitMix64), so that tests of this crate share one stream of numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
