//! A segment of the feature buffer as bytes: Driftmill's own format, which holds numbers and text and can carry no
//! code. It stands on its own: another process needs nothing else to train on it.
//!
//! ```text
//! "DMS1"  version u32
//! first epoch u64, last epoch u64
//! columns u64, for each: name (u64 length, UTF-8), kind u8 (0 number, 1 category, 2 vector: then its width u32)
//! for each category column: strings u64, each u64 length and UTF-8, in order of first use in these rows
//! frame   rows u64, columns u64, for each: type u8 (0 f64, 1 f32, 2 codes u32, 3 vectors: then their width u32, and
//!         the f32 of each row) and the values;
//!         codes count the strings above, 0xffffffff is missing, 0xfffffffe did not fit into the dictionary
//! labels f64…  weights f64…  scores f64…  versions u32…  prediction times i64 ms…  available at i64 ms…
//! blake3 of all that stands before (32 bytes)
//! ```
//! All numbers are little endian. The hash is verified before anything else is looked at; the name of a segment is
//! the BLAKE3 hash of all its bytes (what `b3sum` prints).

use std::collections::HashMap;
use std::ops::Range;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::contracts::Labelled;
use driftmill_models::dictionary::{Dictionaries, Dictionary};
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING, OVERFLOW};

use crate::example::Matured;

/// What every segment begins with.
const MAGIC: &[u8; 4] = b"DMS1";
/// The version that this binary writes, and the only one that it reads.
const VERSION: u32 = 1;
/// Budget of a dictionary that is read back: what it holds was bounded when it was written.
const DICTIONARY_BYTES_MAX: usize = u32::MAX as usize;

/// Why bytes are not taken for a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// It does not begin as segments do.
    #[error("this is not a segment of training rows: it does not begin with `DMS1`")]
    NotASegment,
    /// It ends too early, or bytes were changed.
    #[error("the segment of training rows is damaged: its hash does not match its content; restore it from a copy")]
    Damaged,
    /// A format that this binary does not read.
    #[error("the segment has format version {0}, this binary reads version 1; use the binary that wrote it")]
    Version(u32),
    /// Content that no writer of this version makes.
    #[error("the segment cannot be read: {0}")]
    Content(#[from] CodecError),
    /// Segments that do not belong into one training set.
    #[error("a segment has other columns than the rows before it: train on segments of one plan")]
    OtherColumns,
}

/// Labelled rows with all that a learner needs.
#[derive(Debug, Clone)]
pub struct TrainingRows {
    /// The feature columns.
    pub columns: Vec<ColumnSpec>,
    /// What the category codes of the rows stand for: these rows' own, not the pipeline's.
    pub dictionaries: Dictionaries,
    /// Features, labels, weights, scores, versions and times.
    pub rows: Matured,
    /// Epochs in which the first and the last of the rows matured.
    pub epochs: (u64, u64),
}

impl TrainingRows {
    /// No rows.
    #[must_use]
    pub fn new(columns: &[ColumnSpec]) -> Self {
        Self {
            columns: columns.to_vec(),
            dictionaries: Dictionaries::new(columns, DICTIONARY_BYTES_MAX),
            rows: Matured::default(),
            epochs: (u64::MAX, 0),
        }
    }

    /// The rows as learners take them.
    #[must_use]
    pub fn labelled(&self) -> Labelled<'_> {
        Labelled {
            frame: &self.rows.frame,
            dictionaries: &self.dictionaries,
            labels: &self.rows.labels,
            weights: &self.rows.weights,
        }
    }

    /// Appends rows of another segment; a range that is too long ends where the rows end.
    ///
    /// # Errors
    /// It has other columns.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) -> Result<(), SegmentError> {
        let like = self.rows.is_empty() || self.rows.frame.is_like(&other.rows.frame);
        if self.columns != other.columns || !like {
            return Err(SegmentError::OtherColumns);
        }
        let end = rows.end.min(other.rows.len());
        let picked = other.rows.slice(rows.start.min(end)..end);
        let frame = translate(&picked.frame, &other.dictionaries, &mut self.dictionaries);
        self.rows
            .append(&Matured { frame, ..picked }, 0..end - rows.start.min(end));
        self.epochs = (self.epochs.0.min(other.epochs.0), self.epochs.1.max(other.epochs.1));
        Ok(())
    }
}

/// The same rows with codes of other dictionaries, which learn the strings they lack in order of first use.
fn translate(frame: &Frame, from: &Dictionaries, to: &mut Dictionaries) -> Frame {
    let column = |(index, column): (usize, &Column)| match (column, from.get(index), to.get_mut(index)) {
        (Column::Code(codes), Some(from), Some(to)) => Column::Code(translate_codes(codes, from, to)),
        (column, _, _) => column.clone(),
    };
    let columns = frame.columns().iter().enumerate().map(column).collect();
    Frame::new(frame.rows(), columns)
}

fn translate_codes(codes: &[u32], from: &Dictionary, to: &mut Dictionary) -> Vec<u32> {
    let mut known: HashMap<u32, u32> = HashMap::new();
    let mut translate = |code: u32| match code {
        MISSING => MISSING,
        code => *known
            .entry(code)
            .or_insert_with(|| from.get(code).map_or(OVERFLOW, |string| to.intern(string))),
    };
    codes.iter().map(|&code| translate(code)).collect()
}

/// Writes rows as a segment. The same rows, columns, strings and epochs make the same bytes.
pub(super) fn write_segment(
    columns: &[ColumnSpec],
    dictionaries: &Dictionaries,
    rows: &Matured,
    epochs: (u64, u64),
) -> Vec<u8> {
    let mut own = Dictionaries::new(columns, DICTIONARY_BYTES_MAX);
    let frame = translate(&rows.frame, dictionaries, &mut own);
    let mut out = MAGIC.to_vec();
    out.put_u32(VERSION);
    out.put_u64(epochs.0);
    out.put_u64(epochs.1);
    out.put_u64(columns.len() as u64);
    for column in columns {
        out.put_str(&column.name);
        column.kind.write(&mut out);
    }
    for dictionary in (0..columns.len()).filter_map(|index| own.get(index)) {
        out.put_u64(dictionary.len() as u64);
        (0..dictionary.len()).for_each(|code| out.put_str(dictionary.get(code as u32).unwrap_or_default()));
    }
    rows.write_with(&frame, 0..rows.len(), &mut out);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

/// Verifies the hash, then reads a segment.
///
/// # Errors
/// Bytes that are damaged, of another format or version, or that no writer makes. Never panics.
pub fn read_segment(bytes: &[u8]) -> Result<TrainingRows, SegmentError> {
    if !bytes.starts_with(MAGIC) {
        return Err(SegmentError::NotASegment);
    }
    let (content, hash) = bytes.split_last_chunk::<32>().ok_or(SegmentError::Damaged)?;
    if blake3::hash(content) != blake3::Hash::from_bytes(*hash) {
        return Err(SegmentError::Damaged);
    }
    let mut reader = Reader::new(content.get(MAGIC.len()..).unwrap_or_default());
    let version = reader.u32()?;
    if version != VERSION {
        return Err(SegmentError::Version(version));
    }
    Ok(read_content(reader)?)
}

fn read_content(mut reader: Reader<'_>) -> Result<TrainingRows, CodecError> {
    let epochs = (reader.u64()?, reader.u64()?);
    let columns = reader.count(9)?;
    let columns: Result<Vec<_>, _> = (0..columns).map(|_| read_column(&mut reader)).collect();
    let columns = columns?;
    let mut dictionaries = Dictionaries::new(&columns, DICTIONARY_BYTES_MAX);
    for index in 0..columns.len() {
        if let Some(dictionary) = dictionaries.get_mut(index) {
            read_dictionary(&mut reader, dictionary)?;
        }
    }
    let rows = Matured::read(&mut reader)?;
    check_frame(&rows.frame, &columns, &dictionaries).map_err(|what| reader.error(what))?;
    reader.finish()?;
    Ok(TrainingRows {
        columns,
        dictionaries,
        rows,
        epochs,
    })
}

fn read_column(reader: &mut Reader<'_>) -> Result<ColumnSpec, CodecError> {
    let name = reader.str()?.to_owned();
    let kind = ColumnKind::read(reader)?;
    Ok(ColumnSpec { name, kind })
}

fn read_dictionary(reader: &mut Reader<'_>, dictionary: &mut Dictionary) -> Result<(), CodecError> {
    let count = reader.count(8)?;
    for code in 0..count {
        if dictionary.intern(reader.str()?) as usize != code {
            return Err(reader.error("a category stands there twice or is too long"));
        }
    }
    Ok(())
}

/// Whether the columns are of their kinds and every code has its string.
fn check_frame(frame: &Frame, columns: &[ColumnSpec], dictionaries: &Dictionaries) -> Result<(), String> {
    if frame.columns().len() != columns.len() {
        return Err(format!("{} columns of {}", frame.columns().len(), columns.len()));
    }
    for (index, (values, column)) in frame.columns().iter().zip(columns).enumerate() {
        let strings = dictionaries.get(index).map_or(0, Dictionary::len);
        let right = match (values, column.kind) {
            (Column::Code(codes), ColumnKind::Category) => {
                codes.iter().all(|&code| code >= OVERFLOW || (code as usize) < strings)
            }
            (Column::F64(_) | Column::F32(_), ColumnKind::Number) => true,
            (Column::Vector { width, .. }, ColumnKind::Vector { width: declared }) => *width == declared as usize,
            _ => false,
        };
        if !right {
            return Err(format!("column `{}` does not hold what its kind says", column.name));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::example::VersionId;
    use crate::labels::memory::Dice;

    pub(in crate::buffer) fn columns() -> Vec<ColumnSpec> {
        let spec = |name: &str, kind| ColumnSpec {
            name: name.to_owned(),
            kind,
        };
        vec![
            spec("amount", ColumnKind::Number),
            spec("hour", ColumnKind::Number),
            spec("shop", ColumnKind::Category),
            spec("embedding", ColumnKind::Vector { width: 3 }),
        ]
    }

    /// Rows `from..to` of an endless stream of rows; categories come again and get new ones.
    pub(in crate::buffer) fn rows(from: u64, to: u64, dictionaries: &mut Dictionaries) -> Matured {
        let numbers: Vec<u64> = (from..to).collect();
        let code = |&n: &u64| match Dice(n).below(10) {
            0 => MISSING,
            1 => OVERFLOW,
            _ => dictionaries
                .get_mut(2)
                .unwrap()
                .intern(&format!("shop {}", Dice(n + 1).below(n / 10 + 1))),
        };
        let vector = |&n: &u64| match n % 13 {
            0 => [f32::NAN; 3],
            _ => [n as f32, 0.5, Dice(n + 2).unit() as f32],
        };
        let columns = vec![
            Column::F64(
                numbers
                    .iter()
                    .map(|&n| if n % 11 == 0 { f64::NAN } else { Dice(n).unit() })
                    .collect(),
            ),
            Column::F32(numbers.iter().map(|&n| n as f32).collect()),
            Column::Code(numbers.iter().map(code).collect()),
            Column::Vector {
                width: 3,
                values: numbers.iter().flat_map(vector).collect(),
            },
        ];
        Matured {
            frame: Frame::new(numbers.len(), columns),
            labels: numbers.iter().map(|n| (n % 2) as f64).collect(),
            weights: vec![1.5; numbers.len()],
            scores: numbers
                .iter()
                .map(|n| if n % 5 == 0 { f64::NAN } else { 0.25 })
                .collect(),
            versions: numbers.iter().map(|n| VersionId(*n as u32 / 100)).collect(),
            time_ms: numbers.iter().map(|n| *n as i64 * 10).collect(),
            available_ms: numbers.iter().map(|n| *n as i64 * 10 + 500).collect(),
            shadow: vec![f64::NAN; numbers.len()],
        }
    }

    /// Bytes and strings of rows: equal when the rows are, NaN and codes included.
    pub(in crate::buffer) fn plain(rows: &Matured, dictionaries: &Dictionaries) -> (Vec<u8>, Vec<Option<String>>) {
        let Column::Code(codes) = &rows.frame.columns()[2] else {
            panic!("codes")
        };
        let texts = codes.iter().map(|&c| match c {
            MISSING => None,
            c => Some(dictionaries.get(2).unwrap().get(c).unwrap_or("?").to_owned()),
        });
        let columns = rows.frame.columns();
        let numbers = Frame::new(rows.len(), [0, 1, 3].map(|at: usize| columns[at].clone()).to_vec());
        let mut out = Vec::new();
        rows.write_with(&numbers, 0..rows.len(), &mut out);
        (out, texts.collect())
    }

    #[test]
    fn a_segment_stands_on_its_own() {
        let mut dictionaries = Dictionaries::new(&columns(), 1 << 20);
        rows(0, 500, &mut dictionaries);
        let rows = rows(500, 700, &mut dictionaries);
        let bytes = write_segment(&columns(), &dictionaries, &rows, (7, 9));
        let read = read_segment(&bytes).unwrap();
        assert_eq!((read.columns.clone(), read.epochs), (columns(), (7, 9)));
        assert_eq!(plain(&read.rows, &read.dictionaries), plain(&rows, &dictionaries));
        // Written again from its own dictionaries it is the same bytes: they depend on strings, not on codes.
        assert_eq!(write_segment(&columns(), &read.dictionaries, &read.rows, (7, 9)), bytes);
        assert_eq!(read.labelled().labels.len(), 200);
    }

    #[test]
    fn segments_with_dictionaries_of_their_own_are_joined() {
        let mut dictionaries = Dictionaries::new(&columns(), 1 << 20);
        let mut joined = TrainingRows::new(&columns());
        let all = rows(0, 300, &mut dictionaries);
        for (from, to) in [(0, 100), (100, 150), (150, 300)] {
            let part = all.slice(from..to);
            let read = read_segment(&write_segment(
                &columns(),
                &dictionaries,
                &part,
                (from as u64, to as u64),
            ))
            .unwrap();
            joined.append(&read, 0..usize::MAX).unwrap();
        }
        assert_eq!(plain(&joined.rows, &joined.dictionaries), plain(&all, &dictionaries));
        assert_eq!(joined.epochs, (0, 300));
        let other = TrainingRows::new(&columns()[..2]);
        assert_eq!(joined.append(&other, 0..1), Err(SegmentError::OtherColumns));
    }

    #[test]
    fn damage_is_found_before_parsing_and_nonsense_with_a_right_hash_is_refused() {
        let mut dictionaries = Dictionaries::new(&columns(), 1 << 20);
        let bytes = write_segment(
            &columns(),
            &dictionaries.clone(),
            &rows(0, 20, &mut dictionaries),
            (0, 0),
        );
        assert!(matches!(read_segment(b"PAR1"), Err(SegmentError::NotASegment)));
        for place in 4..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(
                matches!(read_segment(&damaged), Err(SegmentError::Damaged)),
                "byte {place}"
            );
            assert!(read_segment(&bytes[..place]).is_err(), "cut at {place}");
        }
        // Bytes that somebody made up, with their right hash: refused or read, never a panic.
        for seed in 0..3_000 {
            let mut dice = Dice(seed);
            let mut content = bytes[..bytes.len() - 32].to_vec();
            for _ in 0..1 + dice.below(4) {
                let place = 4 + dice.below(content.len() as u64 - 4) as usize;
                content[place] = if dice.below(2) == 0 {
                    0xff
                } else {
                    dice.below(256) as u8
                };
            }
            if dice.below(3) == 0 {
                content.truncate(4 + dice.below(content.len() as u64 - 4) as usize);
            }
            let hash = blake3::hash(&content);
            content.extend_from_slice(hash.as_bytes());
            if let Ok(read) = read_segment(&content) {
                let whole = read.rows.len();
                TrainingRows::new(&read.columns.clone())
                    .append(&read, 0..whole)
                    .unwrap();
            }
        }
    }
}
