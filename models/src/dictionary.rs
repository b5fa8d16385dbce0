//! Categories as codes: an append-only dictionary for each text column, bounded in bytes, part of the state.

use std::hash::{BuildHasher, RandomState};

use crate::codec::{CodecError, Put, Reader};
use crate::frame::{ColumnKind, ColumnSpec, OVERFLOW};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource};

/// Strings in a chunk of the state: a snapshot writes again only the chunks that grew.
const CHUNK: usize = 1024;
/// A longer string is not kept: one absurd record must not eat the budget of all.
pub const STRING_BYTES_MAX: usize = 4096;
/// An empty place of the hash table.
const EMPTY: u32 = u32::MAX;
/// Bytes for each string beside its own: offset, fingerprint and two places of the hash table.
const ENTRY_BYTES: usize = 4 + 8 + 2 * 8;

/// Strings and their codes, `0, 1, 2, …` in order of arrival. A code never changes its meaning.
#[derive(Debug, Clone)]
pub struct Dictionary {
    bytes_max: usize,
    /// All strings, one behind the other; string `i` ends at `ends[i]`.
    text: String,
    ends: Vec<u32>,
    fingerprints: Vec<u64>,
    /// Open addressing with linear probing: upper half of the hash, and the code. A power of two, at most half full.
    table: Vec<(u32, u32)>,
    /// Keyed by the process, so that nobody can choose strings that collide. Neither codes nor bytes depend on it.
    hasher: RandomState,
    overflows: u64,
}

/// A stable 64-bit name of a string, the same in every process: what encoders know a category by. The first bytes
/// of its BLAKE3 hash; two of a billion strings share one with a chance of 3 %.
#[must_use]
pub fn fingerprint(string: &str) -> u64 {
    let hash = blake3::hash(string.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Dictionary {
    /// An empty dictionary that takes strings as long as they fit into `bytes_max` bytes with all that goes with
    /// them (at most 4 GiB).
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: bytes_max.min(u32::MAX as usize),
            text: String::new(),
            ends: Vec::new(),
            fingerprints: Vec::new(),
            table: vec![(0, EMPTY); 16],
            hasher: RandomState::new(),
            overflows: 0,
        }
    }

    /// The code of `string`, new if need be; [`OVERFLOW`], counted, when it does not fit any more.
    pub fn intern(&mut self, string: &str) -> u32 {
        let (tag, mut place) = self.place(string);
        loop {
            let (found, code) = self.table[place];
            if code == EMPTY {
                break;
            }
            if found == tag && self.get(code) == Some(string) {
                return code;
            }
            place = (place + 1) & (self.table.len() - 1);
        }
        if !self.fits(string) {
            self.overflows += 1;
            return OVERFLOW;
        }
        self.append(string)
    }

    /// The code of `string`, if it has one.
    #[must_use]
    pub fn code(&self, string: &str) -> Option<u32> {
        let (tag, mut place) = self.place(string);
        loop {
            let (found, code) = self.table[place];
            if code == EMPTY {
                return None;
            }
            if found == tag && self.get(code) == Some(string) {
                return Some(code);
            }
            place = (place + 1) & (self.table.len() - 1);
        }
    }

    /// The string of a code; none for reserved and unknown codes.
    #[must_use]
    pub fn get(&self, code: u32) -> Option<&str> {
        let index = code as usize;
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }

    /// The [`fingerprint`] of the string of a code; none for reserved and unknown codes.
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, code: u32) -> Option<u64> {
        self.fingerprints.get(code as usize).copied()
    }

    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How often a string did not fit.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Bytes in use, as the budget counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len() + self.len() * ENTRY_BYTES
    }

    /// The upper half of the string's hash and the first place of the table to look at.
    fn place(&self, string: &str) -> (u32, usize) {
        let hash = self.hasher.hash_one(string);
        ((hash >> 32) as u32, hash as usize & (self.table.len() - 1))
    }

    /// Whether the budget allows another string, this one.
    fn fits(&self, string: &str) -> bool {
        string.len() <= STRING_BYTES_MAX && self.bytes() + string.len() + ENTRY_BYTES <= self.bytes_max
    }

    /// Adds a string that is not there yet.
    fn append(&mut self, string: &str) -> u32 {
        let code = self.ends.len() as u32;
        self.text.push_str(string);
        self.ends.push(self.text.len() as u32);
        self.fingerprints.push(fingerprint(string));
        if self.ends.len() * 2 > self.table.len() {
            self.rebuild_table();
        } else {
            self.insert(string.len(), code);
        }
        code
    }

    /// Makes the table twice as large as there are strings, rounded up.
    fn rebuild_table(&mut self) {
        let size = (self.ends.len() * 4).next_power_of_two().max(16);
        self.table = vec![(0, EMPTY); size];
        let mut start = 0;
        for code in 0..self.ends.len() {
            let end = self.ends[code] as usize;
            self.insert(end - start, code as u32);
            start = end;
        }
    }

    /// Enters string `code`, `length` bytes long, into the table.
    fn insert(&mut self, length: usize, code: u32) {
        let end = self.ends[code as usize] as usize;
        let (tag, mut place) = self.place(&self.text[end - length..end]);
        while self.table[place].1 != EMPTY {
            place = (place + 1) & (self.table.len() - 1);
        }
        self.table[place] = (tag, code);
    }

    /// Writes the strings of chunk `chunk`.
    fn write_chunk(&self, chunk: usize, out: &mut Vec<u8>) {
        let codes = chunk * CHUNK..self.len().min((chunk + 1) * CHUNK);
        out.put_u64(codes.len() as u64);
        for code in codes {
            out.put_str(self.get(code as u32).unwrap_or_default());
        }
    }

    /// Adds the strings of a chunk.
    fn read_chunk(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count(8)?;
        for _ in 0..count {
            let string = reader.str()?;
            if string.len() > STRING_BYTES_MAX || self.text.len() + string.len() > u32::MAX as usize {
                return Err(reader.error("a string is too long"));
            }
            if self.code(string).is_some() {
                return Err(reader.error("a string stands there twice"));
            }
            self.append(string);
        }
        reader.finish()
    }
}

impl State for Dictionary {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("head", self.len() as u64 + self.overflows, &mut |out| {
            out.put_u64(self.len() as u64);
            out.put_u64(self.overflows);
        });
        for chunk in 0..self.len().div_ceil(CHUNK) {
            let held = (self.len() - chunk * CHUNK).min(CHUNK);
            chunks.chunk(&format!("{chunk:06}"), held as u64, &mut |out| {
                self.write_chunk(chunk, out)
            });
        }
    }

    /// Strings beyond a budget that was made smaller stay: their codes are in use.
    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::new(self.bytes_max);
        let mut head = crate::state::open(chunks, "head")?;
        let read = (|| {
            let numbers = (head.u64()?, head.u64()?);
            head.finish().map(|()| numbers)
        })();
        let (len, overflows) = read.map_err(|error| StateError::of("head", error))?;
        for chunk in 0..len.div_ceil(CHUNK as u64) {
            let name = format!("{chunk:06}");
            let Some(bytes) = chunks.chunk(&name) else {
                return Err(StateError::of(&name, "is missing"));
            };
            self.read_chunk(bytes).map_err(|error| StateError::of(&name, error))?;
            if self.len() as u64 != len.min((chunk + 1) * CHUNK as u64) {
                return Err(StateError::of(
                    &name,
                    "holds another number of strings than the head says",
                ));
            }
        }
        self.overflows = overflows;
        Ok(())
    }
}

/// A dictionary for each category column, none for numbers and vectors.
#[derive(Debug, Clone, Default)]
pub struct Dictionaries {
    columns: Vec<Option<Dictionary>>,
}

impl Dictionaries {
    /// Empty dictionaries of at most `column_bytes_max` bytes each.
    #[must_use]
    pub fn new(columns: &[ColumnSpec], column_bytes_max: usize) -> Self {
        let dictionary = |column: &ColumnSpec| match column.kind {
            ColumnKind::Category => Some(Dictionary::new(column_bytes_max)),
            ColumnKind::Number | ColumnKind::Vector { .. } => None,
        };
        Self {
            columns: columns.iter().map(dictionary).collect(),
        }
    }

    /// The dictionary of column `index`; none for numbers.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Dictionary> {
        self.columns.get(index).and_then(Option::as_ref)
    }

    /// The dictionary of column `index`, to intern strings; none for numbers.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Dictionary> {
        self.columns.get_mut(index).and_then(Option::as_mut)
    }

    /// Bytes in use, as the budgets count them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.columns.iter().flatten().map(Dictionary::bytes).sum()
    }
}

impl State for Dictionaries {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        for (index, dictionary) in self.columns.iter().enumerate() {
            if let Some(dictionary) = dictionary {
                dictionary.save(&mut Within::new(&format!("{index:04}/"), chunks));
            }
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        for (index, dictionary) in self.columns.iter_mut().enumerate() {
            if let Some(dictionary) = dictionary {
                let prefix = format!("{index:04}/");
                dictionary
                    .restore(&WithinSource::new(&prefix, chunks))
                    .map_err(|error| error.within(&prefix))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};

    #[test]
    fn codes_are_given_in_order_of_arrival_and_stay() {
        let mut dictionary = Dictionary::new(1 << 20);
        let codes: Vec<u32> = ["a", "", "b", "a", ""].iter().map(|s| dictionary.intern(s)).collect();
        assert_eq!(codes, [0, 1, 2, 0, 1]);
        for i in 0..5_000 {
            assert_eq!(dictionary.intern(&format!("s{i}")), i + 3);
        }
        for i in 0..5_000 {
            assert_eq!(dictionary.code(&format!("s{i}")), Some(i + 3));
            assert_eq!(dictionary.get(i + 3), Some(format!("s{i}").as_str()));
        }
        assert_eq!(
            (dictionary.code("?"), dictionary.get(OVERFLOW), dictionary.get(1)),
            (None, None, Some(""))
        );
        assert_eq!(dictionary.fingerprint(2), Some(fingerprint("b")));
        assert_eq!(
            fingerprint(""),
            u64::from_le_bytes([0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6])
        );
    }

    #[test]
    fn beyond_the_budget_strings_overflow_and_are_counted() {
        let mut dictionary = Dictionary::new(10 * (ENTRY_BYTES + 4));
        let codes: Vec<u32> = (0..12).map(|i| dictionary.intern(&format!("{i:04}"))).collect();
        assert_eq!(codes[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(
            (codes[10], codes[11], dictionary.overflows(), dictionary.len()),
            (OVERFLOW, OVERFLOW, 2, 10)
        );
        assert_eq!(dictionary.intern("0003"), 3);
        assert_eq!(
            Dictionary::new(1 << 30).intern(&"x".repeat(STRING_BYTES_MAX + 1)),
            OVERFLOW
        );
    }

    #[test]
    fn a_snapshot_costs_what_changed_and_restores_all() {
        let mut dictionary = Dictionary::new(1 << 24);
        let mut memory = Memory::default();
        for i in 0..10_000 {
            dictionary.intern(&format!("s{i}"));
        }
        memory.save(&dictionary);
        assert_eq!(memory.written, 11);
        dictionary.intern("one more");
        memory.save(&dictionary);
        assert_eq!(memory.written, 2);
        let mut restored = Dictionary::new(1 << 24);
        restored.restore(&memory).unwrap();
        assert_eq!(snapshot(&restored), snapshot(&dictionary));
        assert_eq!(restored.intern("one more"), 10_000);
        assert_eq!(restored.intern("two more"), 10_001);
    }

    #[test]
    fn damaged_state_is_refused() {
        let mut dictionary = Dictionary::new(1 << 20);
        for i in 0..50 {
            dictionary.intern(&format!("s{i}"));
        }
        survives_damage(&dictionary, || Dictionary::new(1 << 20));
        let mut memory = Memory::default();
        memory.save(&dictionary);
        for bytes in memory.bytes_mut() {
            if bytes.len() > 16 {
                let second = bytes[8 + 10..8 + 20].to_vec();
                bytes[8..18].copy_from_slice(&second);
            }
        }
        let error = Dictionary::new(1 << 20).restore(&memory).unwrap_err();
        assert!(error.what.contains("twice"), "{error}");
    }
}
