//! Files of history: which they are, and their lines, a chunk at a time.

use std::ops::Range;
use std::path::PathBuf;

use crate::disk::{Disk, DiskError};
use crate::settings::BootstrapFiles;

/// Bytes read at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// A longer line is no record.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// A file that holds history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryFile {
    /// As people who wrote the configuration know it.
    pub(super) shown: String,
    pub(super) path: PathBuf,
    /// Length in bytes when it was found.
    pub(super) bytes: u64,
}

/// The files that are meant, in the order of their names. There is one at least, and the system lets them be read.
///
/// # Errors
/// In a sentence.
pub(super) fn find(disk: &dyn Disk, files: &BootstrapFiles) -> Result<Vec<HistoryFile>, String> {
    let names = if files.is_pattern() {
        let mut names = disk.names(&files.folder).map_err(|error| error.to_string())?;
        names.retain(|name| files.matches(name));
        names
    } else {
        vec![files.name.clone()]
    };
    if names.is_empty() {
        return Err(format!("no file matches `{}`", files.shown));
    }
    let open = |name: &String| {
        let path = files.folder.join(name);
        // Whoever may know its length need not have the right to read it.
        disk.read_range(&path, 0, 1)?;
        let bytes = disk.len(&path)?;
        Ok(HistoryFile {
            shown: files.show(name),
            path,
            bytes,
        })
    };
    let found: Result<_, DiskError> = names.iter().map(open).collect();
    found.map_err(|error| error.to_string())
}

/// Some lines of a file, without their ends; those of blanks alone are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LineBatch {
    bytes: Vec<u8>,
    /// The number of each line, from 1, and where it stands.
    lines: Vec<(u64, Range<usize>)>,
    /// Numbers of lines that are longer than [`LINE_BYTES_MAX`]: they are passed over.
    pub(super) too_long: Vec<u64>,
}

impl LineBatch {
    /// Number of lines.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The number of a line, from 1.
    pub(super) fn number(&self, index: usize) -> u64 {
        self.lines.get(index).map_or(0, |(number, _)| *number)
    }

    /// The lines as a codec takes them.
    pub(super) fn payloads(&self) -> Vec<Option<&[u8]>> {
        self.lines.iter().map(|(_, at)| self.bytes.get(at.clone())).collect()
    }

    /// Keeps the first lines only.
    pub(super) fn truncate(&mut self, lines: usize) {
        self.lines.truncate(lines);
    }
}

/// Reads a file from its beginning to its end.
pub(super) struct Lines<'a> {
    disk: &'a dyn Disk,
    file: &'a HistoryFile,
    offset: u64,
    /// What was read and is not a whole line yet.
    rest: Vec<u8>,
    /// Lines so far.
    lines: u64,
    /// Whether the line under way is passed over.
    is_skipping: bool,
    is_read: bool,
    hash: blake3::Hasher,
}

impl<'a> Lines<'a> {
    pub(super) fn new(disk: &'a dyn Disk, file: &'a HistoryFile) -> Self {
        Self {
            disk,
            file,
            offset: 0,
            rest: Vec::new(),
            lines: 0,
            is_skipping: false,
            is_read: false,
            hash: blake3::Hasher::new(),
        }
    }

    /// BLAKE3, in hex, of what was read so far.
    pub(super) fn hash(&self) -> String {
        self.hash.finalize().to_hex().to_string()
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.offset
    }

    /// The next lines; `None` after the last.
    ///
    /// # Errors
    /// The system.
    pub(super) fn next(&mut self) -> Result<Option<LineBatch>, DiskError> {
        let mut batch = LineBatch::default();
        while !self.is_read {
            self.fill()?;
            if self.is_skipping {
                self.skip();
                continue;
            }
            let end = match self.rest.iter().rposition(|byte| *byte == b'\n') {
                _ if self.is_read => self.rest.len(),
                Some(at) => at + 1,
                None if self.rest.len() > LINE_BYTES_MAX => {
                    self.lines += 1;
                    batch.too_long.push(self.lines);
                    self.is_skipping = true;
                    self.rest.clear();
                    continue;
                }
                None => continue,
            };
            let rest = self.rest.split_off(end);
            batch.bytes = std::mem::replace(&mut self.rest, rest);
            self.split(&mut batch);
            return Ok(Some(batch));
        }
        Ok((!batch.too_long.is_empty()).then_some(batch))
    }

    fn fill(&mut self) -> Result<(), DiskError> {
        let read = self.disk.read_range(&self.file.path, self.offset, CHUNK_BYTES)?;
        self.is_read = read.is_empty();
        self.offset += read.len() as u64;
        self.hash.update(&read);
        self.rest.extend_from_slice(&read);
        Ok(())
    }

    /// Passes over what belongs to a line that is too long.
    fn skip(&mut self) {
        match self.rest.iter().position(|byte| *byte == b'\n') {
            None => self.rest.clear(),
            Some(at) => {
                self.rest.drain(..=at);
                self.is_skipping = false;
            }
        }
    }

    fn split(&mut self, batch: &mut LineBatch) {
        let mut start = 0;
        for line in batch.bytes.split_inclusive(|byte| *byte == b'\n') {
            self.lines += 1;
            let end = start + line.len();
            let content = line.trim_ascii_end();
            if content.len() > LINE_BYTES_MAX {
                batch.too_long.push(self.lines);
            } else if !content.is_empty() {
                batch.lines.push((self.lines, start..start + content.len()));
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;

    fn file(content: &[u8]) -> (tempfile::TempDir, HistoryFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let bytes = content.len() as u64;
        let shown = "a.jsonl".to_owned();
        (folder, HistoryFile { shown, path, bytes })
    }

    /// All lines with their numbers, and the numbers of those that are too long.
    fn all(content: &[u8]) -> (Vec<(u64, Vec<u8>)>, Vec<u64>) {
        let (_folder, file) = file(content);
        let mut lines = Lines::new(&LocalDisk, &file);
        let (mut found, mut too_long) = (Vec::new(), Vec::new());
        while let Some(batch) = lines.next().unwrap() {
            for (index, payload) in batch.payloads().into_iter().enumerate() {
                found.push((batch.number(index), payload.unwrap().to_vec()));
            }
            too_long.extend(batch.too_long);
        }
        assert_eq!(lines.bytes(), content.len() as u64);
        assert_eq!(lines.hash(), blake3::hash(content).to_hex().as_str());
        (found, too_long)
    }

    #[test]
    fn lines_have_their_numbers_whatever_ends_them() {
        let (lines, too_long) = all(b"a\r\n\n  \nb \nc");
        let expected: Vec<(u64, Vec<u8>)> = vec![(1, b"a".to_vec()), (4, b"b".to_vec()), (5, b"c".to_vec())];
        assert_eq!((lines, too_long), (expected, Vec::new()));
        assert_eq!(all(b""), (Vec::new(), Vec::new()));
    }

    #[test]
    fn lines_go_over_the_ends_of_chunks() {
        let expected: Vec<(u64, Vec<u8>)> = (1..=9)
            .map(|number| (number, vec![b'0' + number as u8; 400_000]))
            .collect();
        let content: Vec<u8> = expected
            .iter()
            .flat_map(|(_, line)| [line, &b"\n"[..]].concat())
            .collect();
        assert_eq!(all(&content).0, expected);
    }

    #[test]
    fn a_line_that_is_too_long_touches_no_other() {
        let long = vec![b'x'; LINE_BYTES_MAX + (3 << 20)];
        let content = [b"a\n", &long[..], b"\nb\n"].concat();
        assert_eq!(all(&content), (vec![(1, b"a".to_vec()), (3, b"b".to_vec())], vec![2]));
        let at_the_end = [b"a\n", &long[..]].concat();
        assert_eq!(all(&at_the_end), (vec![(1, b"a".to_vec())], vec![2]));
    }

    #[test]
    fn files_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["2012-02.jsonl", "2012-01.jsonl", "2013-01.jsonl", "2012-01.jsonl.tmp"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = |name: &str| BootstrapFiles {
            shown: format!("history/{name}"),
            folder: folder.path().to_owned(),
            name: name.to_owned(),
        };
        let names = |name: &str| -> Result<Vec<String>, String> {
            Ok(find(&LocalDisk, &files(name))?
                .into_iter()
                .map(|file| file.shown)
                .collect())
        };
        assert_eq!(
            names("2012-*.jsonl").unwrap(),
            ["history/2012-01.jsonl", "history/2012-02.jsonl"]
        );
        assert_eq!(names("2013-01.jsonl").unwrap(), ["history/2013-01.jsonl"]);
        assert_eq!(
            names("2014-*.jsonl").unwrap_err(),
            "no file matches `history/2014-*.jsonl`"
        );
        assert!(names("2014.jsonl").unwrap_err().contains("2014.jsonl"));
    }
}
