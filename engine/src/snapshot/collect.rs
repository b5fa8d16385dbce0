//! What the engine's thread does for a snapshot: copy the chunks that changed, and nothing else.

use std::collections::{BTreeMap, HashMap};

use driftmill_models::state::{ChunkVisitor, State};

/// What a snapshot says about itself beside its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The last epoch that is part of the state.
    pub epoch: u64,
    /// `chain` of that epoch's record.
    pub chain: String,
    /// Hash of the plan in force.
    pub plan: String,
    /// Version of the crate.
    pub code: String,
    /// The time that the epoch was given, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
}

/// A snapshot in memory, to be published once its epoch has committed.
#[derive(Debug)]
#[must_use = "a prepared snapshot that is not published makes the next one whole again"]
pub struct Prepared {
    pub(super) meta: Meta,
    pub(super) chunks: BTreeMap<String, PreparedChunk>,
    /// Stamps of another life of the state mean nothing: see `SnapshotStore::start_anew`.
    pub(super) life: u64,
}

/// A chunk of a prepared snapshot.
#[derive(Debug)]
pub(super) struct PreparedChunk {
    pub(super) stamp: u64,
    /// Its content, unless it was in the snapshot before with the same stamp.
    pub(super) content: Option<Vec<u8>>,
}

impl Prepared {
    /// The epoch that must have committed before this is published.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.meta.epoch
    }

    /// Bytes of content held in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks
            .values()
            .filter_map(|chunk| chunk.content.as_ref())
            .map(|content| content.len() as u64)
            .sum()
    }
}

/// Copies the chunks whose stamp is not the known one.
pub(super) struct Collector<'a> {
    known: &'a HashMap<String, u64>,
    pub(super) chunks: BTreeMap<String, PreparedChunk>,
    pub(super) duplicate: Option<String>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(known: &'a HashMap<String, u64>) -> Self {
        Self {
            known,
            chunks: BTreeMap::new(),
            duplicate: None,
        }
    }
}

impl ChunkVisitor for Collector<'_> {
    fn chunk(&mut self, name: &str, stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let content = (self.known.get(name) != Some(&stamp)).then(|| {
            let mut content = Vec::new();
            write(&mut content);
            content
        });
        if self
            .chunks
            .insert(name.to_owned(), PreparedChunk { stamp, content })
            .is_some()
        {
            self.duplicate = Some(name.to_owned());
        }
    }
}

/// BLAKE3, in hex, of the names and contents of a state's chunks in the order of their names. Stamps are left
/// out: two states with the same hash hold the same knowledge, however they came to it.
#[must_use]
pub fn state_hash(state: &dyn State) -> String {
    let mut parts = Hashes(Vec::new());
    state.save(&mut parts);
    parts.0.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    hash_parts(parts.0.iter().map(|(name, hash)| (name.as_str(), *hash)))
}

/// The hash of a state out of the names of its chunks, in their order, and the hashes of their contents.
pub(super) fn hash_parts<'a>(parts: impl Iterator<Item = (&'a str, blake3::Hash)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in parts {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(content.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Name and content hash of each chunk.
struct Hashes(Vec<(String, blake3::Hash)>);

impl ChunkVisitor for Hashes {
    fn chunk(&mut self, name: &str, _stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut content = Vec::new();
        write(&mut content);
        self.0.push((name.to_owned(), blake3::hash(&content)));
    }
}
