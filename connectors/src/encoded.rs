//! Encoded output records, many in one allocation.

/// A header of an output record.
pub type Header = (&'static str, Vec<u8>);

/// Output records for one destination, in order. Kept until acknowledged, so that an aborted epoch is sent
/// again and not computed again.
#[derive(Default, Clone)]
pub struct Encoded {
    arena: Vec<u8>,
    /// End of each record's payload in the arena; it starts where the one before ends (after its key).
    entries: Vec<Slot>,
    headers: Vec<Vec<Header>>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Key bytes, `start == end` and `has_key == false` for none.
    key: (u32, u32),
    has_key: bool,
    payload: (u32, u32),
    timestamp_ms: i64,
    /// Index into `headers` plus one; 0 for none.
    headers: u32,
}

/// One record, borrowed.
pub struct OutRecord<'a> {
    /// Key bytes.
    pub key: Option<&'a [u8]>,
    /// Payload bytes.
    pub payload: &'a [u8],
    /// Timestamp in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Headers, usually none.
    pub headers: &'a [Header],
}

impl Encoded {
    /// Bytes that a caller appends as the payload of the next record; close it with [`Encoded::finish`].
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    /// Position in the buffer.
    #[must_use]
    pub fn position(&self) -> usize {
        self.arena.len()
    }

    /// All payloads and keys, one after the other: what a hash of the outputs covers.
    #[must_use]
    pub fn contents(&self) -> &[u8] {
        &self.arena
    }

    /// Closes a record whose payload is everything appended since position `start`. Key and
    /// timestamp are set later by [`Encoded::set`]; such a record has no headers.
    ///
    /// # Panics
    /// When the buffer has passed 4 GiB: epochs are bounded far below.
    pub fn finish(&mut self, start: usize) {
        assert!(self.arena.len() < u32::MAX as usize, "an epoch's output passed 4 GiB");
        let payload = (start as u32, self.arena.len() as u32);
        self.entries.push(Slot {
            key: (0, 0),
            has_key: false,
            payload,
            timestamp_ms: 0,
            headers: 0,
        });
    }

    /// Appends a whole record.
    pub fn push(&mut self, key: Option<&[u8]>, payload: &[u8], timestamp_ms: i64, headers: Vec<Header>) {
        let start = self.arena.len();
        self.arena.extend_from_slice(payload);
        self.finish(start);
        let row = self.entries.len() - 1;
        self.set(row, key, timestamp_ms);
        if !headers.is_empty() {
            self.headers.push(headers);
            self.entries[row].headers = self.headers.len() as u32;
        }
    }

    /// Sets key and timestamp of record `row`.
    pub fn set(&mut self, row: usize, key: Option<&[u8]>, timestamp_ms: i64) {
        let slot = &mut self.entries[row];
        slot.timestamp_ms = timestamp_ms;
        slot.has_key = key.is_some();
        if let Some(key) = key {
            let start = self.arena.len() as u32;
            self.arena.extend_from_slice(key);
            slot.key = (start, self.arena.len() as u32);
        }
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

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Slot>()
    }

    /// The record at `row`.
    #[must_use]
    pub fn get(&self, row: usize) -> OutRecord<'_> {
        let slot = &self.entries[row];
        let slice = |(start, end): (u32, u32)| &self.arena[start as usize..end as usize];
        OutRecord {
            key: slot.has_key.then(|| slice(slot.key)),
            payload: slice(slot.payload),
            timestamp_ms: slot.timestamp_ms,
            headers: slot
                .headers
                .checked_sub(1)
                .map_or(&[], |i| self.headers[i as usize].as_slice()),
        }
    }

    /// All records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = OutRecord<'_>> {
        (0..self.len()).map(|row| self.get(row))
    }
}
