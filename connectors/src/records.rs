//! Raw records as a source hands them over: one contiguous allocation for many records of one partition.

use std::fmt;

/// A partition of a topic. `topic` indexes the source's list of topics, in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Index into the topics of the source.
    pub topic: u16,
    /// Partition number within the topic.
    pub partition: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic #{} partition {}", self.topic, self.partition)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    timestamp_ms: i64,
    /// Byte range of the key in the arena; `start == u32::MAX` for a record without a key.
    key: (u32, u32),
    /// Byte range of the payload in the arena; `start == u32::MAX` for a tombstone.
    payload: (u32, u32),
}

/// One record, borrowed from its [`Records`].
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Position in the partition.
    pub offset: i64,
    /// The record's timestamp in milliseconds since the epoch; -1 where the broker keeps none.
    pub timestamp_ms: i64,
    /// Key bytes, if the record has a key.
    pub key: Option<&'a [u8]>,
    /// Payload bytes; `None` for a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// Records of one partition in order of offset, offsets strictly increasing (with gaps where the log has
/// transaction markers or was compacted).
pub struct Records {
    partition: Partition,
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

const NONE: u32 = u32::MAX;

impl Records {
    /// An empty batch for `partition`.
    #[must_use]
    pub fn new(partition: Partition) -> Self {
        Self {
            partition,
            arena: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The partition that all records come from.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Appends a record. Returns `false`, and appends nothing, when the arena would pass 4 GiB.
    pub fn push(&mut self, record: Record<'_>) -> bool {
        let size = self.arena.len() + record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
        if size >= NONE as usize {
            return false;
        }
        let key = self.store(record.key);
        let payload = self.store(record.payload);
        self.entries.push(Entry {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key,
            payload,
        });
        true
    }

    fn store(&mut self, bytes: Option<&[u8]>) -> (u32, u32) {
        let Some(bytes) = bytes else { return (NONE, NONE) };
        // `push` has checked that every position fits.
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        (start, self.arena.len() as u32)
    }

    fn slice(&self, (start, end): (u32, u32)) -> Option<&[u8]> {
        (start != NONE).then(|| &self.arena[start as usize..end as usize])
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes held: keys, payloads and bookkeeping.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The record at `row`.
    ///
    /// # Panics
    /// When `row >= self.len()`.
    #[must_use]
    pub fn get(&self, row: usize) -> Record<'_> {
        let entry = &self.entries[row];
        Record {
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: self.slice(entry.key),
            payload: self.slice(entry.payload),
        }
    }

    /// Offset of the record at `row`, without touching its bytes.
    #[must_use]
    pub fn offset(&self, row: usize) -> i64 {
        self.entries[row].offset
    }

    /// Timestamp of the record at `row` in milliseconds, without touching its bytes.
    #[must_use]
    pub fn timestamp_ms(&self, row: usize) -> i64 {
        self.entries[row].timestamp_ms
    }

    /// Size of the key and payload of the record at `row`.
    #[must_use]
    pub fn size(&self, row: usize) -> usize {
        let Entry { key, payload, .. } = self.entries[row];
        (key.1 - key.0) as usize + (payload.1 - payload.0) as usize
    }

    /// All records in order of offset.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.len()).map(|row| self.get(row))
    }
}
