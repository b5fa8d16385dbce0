//! The one way of state: named chunks with change stamps, so that a snapshot costs what changed.

use crate::codec::Reader;

/// State could not be restored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("state chunk `{chunk}`: {what}")]
pub struct StateError {
    /// Name of the chunk.
    pub chunk: String,
    /// What is wrong with it.
    pub what: String,
}

impl StateError {
    /// Something is wrong with chunk `chunk`.
    #[must_use]
    pub fn of(chunk: &str, what: impl ToString) -> Self {
        Self {
            chunk: chunk.to_owned(),
            what: what.to_string(),
        }
    }

    /// The same, said from outside a part whose chunks begin with `prefix`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.chunk.insert_str(0, prefix);
        self
    }
}

/// Receives the chunks of a state, in a fixed order.
pub trait ChunkVisitor {
    /// Offers the chunk `name`. `stamp` grows whenever the content changes (a counter that is part of the
    /// state and never reset); `write` is called only when the stamp is not the one last written, and must
    /// append the same bytes for the same content on every machine (little endian).
    fn chunk(&mut self, name: &str, stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>));
}

/// Gives back chunks by name.
pub trait ChunkSource {
    /// The bytes of chunk `name`, if it was written.
    fn chunk(&self, name: &str) -> Option<&[u8]>;
    /// Names of all chunks that begin with `prefix`, sorted.
    fn names(&self, prefix: &str) -> Vec<String>;
}

/// Anything that survives a restart. `run(a + b)` equals `run(a)`, save, restore, `run(b)`, bit for bit.
///
/// Chunks are what makes large states cheap to keep: a forest offers a chunk for each tree, a window a
/// chunk for each sealed segment; only those whose stamp moved are written again.
pub trait State {
    /// Offers every chunk. The union of the offered names is the whole state: a chunk that was written
    /// before and is not offered any more is dropped.
    fn save(&self, chunks: &mut dyn ChunkVisitor);

    /// Replaces this state, made from the same configuration, by what was saved.
    ///
    /// # Errors
    /// A chunk that is missing, truncated or impossible. Never panics, whatever the bytes are; afterwards
    /// the state must not be used.
    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError>;
}

impl<T: State + ?Sized> State for Box<T> {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        (**self).save(chunks);
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        (**self).restore(chunks)
    }
}

/// A reader of chunk `name`.
///
/// # Errors
/// There is no such chunk.
pub fn open<'a>(chunks: &'a dyn ChunkSource, name: &str) -> Result<Reader<'a>, StateError> {
    chunks
        .chunk(name)
        .map(Reader::new)
        .ok_or_else(|| StateError::of(name, "is missing"))
}

/// Offers the chunks of a part under names that begin with a prefix, so that a state can hold other states.
pub struct Within<'a> {
    prefix: &'a str,
    inner: &'a mut dyn ChunkVisitor,
}

impl<'a> Within<'a> {
    /// Puts `prefix` before the name of every chunk.
    pub fn new(prefix: &'a str, inner: &'a mut dyn ChunkVisitor) -> Self {
        Self { prefix, inner }
    }
}

impl ChunkVisitor for Within<'_> {
    fn chunk(&mut self, name: &str, stamp: u64, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.inner.chunk(&format!("{}{name}", self.prefix), stamp, write);
    }
}

/// Gives the chunks of a part back under their own names: the other half of [`Within`].
pub struct WithinSource<'a> {
    prefix: &'a str,
    inner: &'a dyn ChunkSource,
}

impl<'a> WithinSource<'a> {
    /// Shows only the chunks whose names begin with `prefix`, without it.
    #[must_use]
    pub fn new(prefix: &'a str, inner: &'a dyn ChunkSource) -> Self {
        Self { prefix, inner }
    }
}

impl ChunkSource for WithinSource<'_> {
    fn chunk(&self, name: &str) -> Option<&[u8]> {
        self.inner.chunk(&format!("{}{name}", self.prefix))
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.inner.names(&format!("{}{prefix}", self.prefix));
        names
            .iter()
            .filter_map(|name| name.strip_prefix(self.prefix))
            .map(str::to_owned)
            .collect()
    }
}
