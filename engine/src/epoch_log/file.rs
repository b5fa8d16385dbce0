//! The epoch log in local files, for at-least-once delivery.
//!
//! Segments `epochs-<first epoch, 20 digits>.log` hold frames `[length u32][crc32 u32][payload]`, little endian;
//! the checksum is over length and payload. A frame is one appended group: its records, one line of JSON each,
//! joined by line feeds. So a group is there as a whole or not at all, and since each frame is synced before the
//! next is written, only the very last one can be torn.

use std::fmt;
use std::ops;
use std::path::PathBuf;
use std::sync::Arc;

use super::record::{EpochRecord, RecordError};
use crate::disk::{Disk, DiskError};

/// A segment that is at least this long gets no more frames.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes before the payload of a frame.
const HEADER: usize = 8;

/// The log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that were safely written have changed.
    #[error(
        "the epoch log is damaged: `{}` at byte {offset}: {why}; restore this file from a copy; without one, move \
         the state folder away and start anew from the registry",
        file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A whole segment is not there.
    #[error(
        "the epoch log goes on at `{}`, but the segment before it ends with epoch {last}: restore the files between \
         from a copy",
        file.display()
    )]
    MissingSegment {
        /// The segment after the hole.
        file: PathBuf,
        /// The last epoch before the hole.
        last: u64,
    },
    /// The engine offered records that do not go on where the log ends.
    #[error(
        "epoch {found} cannot be appended to the epoch log, which goes on with {expected}; this is a fault of driftmill"
    )]
    OutOfOrder {
        /// The epoch that should come.
        expected: u64,
        /// The epoch that was offered.
        found: u64,
    },
    /// A group does not fit in a frame.
    #[error("a group of {bytes} bytes is too long for the epoch log (4 GiB); lower the number of epochs in a commit")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The unfinished end of the log that was cut off at start: a process died while it wrote. Nothing that was
/// acknowledged is lost by it; to be logged as a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where it now ends; 0 when it was removed.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

impl fmt::Display for TornTail {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} bytes of `{}` from byte {} on",
            self.bytes,
            self.file.display(),
            self.offset
        )
    }
}

/// The log of one pipeline, in a folder of its own. One process writes it: see
/// [`LockFile`](crate::disk::LockFile).
#[derive(Debug)]
pub struct EpochLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: Vec<Segment>,
    last: Option<u64>,
    segment_bytes: u64,
    /// An append failed: what stands behind the known length must be cut off first.
    unclean: bool,
}

#[derive(Debug, Clone)]
struct Segment {
    first: u64,
    bytes: u64,
}

impl Segment {
    fn name(&self) -> String {
        format!("epochs-{:020}.log", self.first)
    }

    /// The segment with this file name, if it is one.
    fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("epochs-")?.strip_suffix(".log")?;
        let first = digits.parse().ok()?;
        let segment = Self { first, bytes: 0 };
        (segment.name() == name).then_some(segment)
    }
}

impl EpochLog {
    /// Opens the log in `dir`, which is made when it is missing; checks every frame, and cuts off a torn tail.
    ///
    /// # Errors
    /// Damage anywhere but in the last frame, a missing segment, or the system.
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<(Self, Option<TornTail>), LogError> {
        let dir = dir.into();
        disk.create_dir(&dir)?;
        let (mut log, torn) = Self::look(disk, dir)?;
        log.cut(torn.as_ref())?;
        Ok((log, torn))
    }

    /// Opens the log in the existing folder `dir` to be read: checks every frame and changes nothing; a torn tail is
    /// passed over.
    ///
    /// # Errors
    /// As [`EpochLog::open`].
    pub fn look(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<(Self, Option<TornTail>), LogError> {
        let dir = dir.into();
        let segments = disk
            .names(&dir)?
            .iter()
            .filter_map(|name| Segment::parse(name))
            .collect();
        let mut log = Self {
            disk,
            dir,
            segments,
            last: None,
            segment_bytes: SEGMENT_BYTES,
            unclean: false,
        };
        let torn = log.scan_all()?;
        Ok((log, torn))
    }

    /// Reads every segment; afterwards each is known up to its last sound frame.
    fn scan_all(&mut self) -> Result<Option<TornTail>, LogError> {
        let mut torn = None;
        for index in 0..self.segments.len() {
            let segment = self.segments[index].clone();
            let bytes = self.disk.read(&self.path(&segment))?;
            let (frames, bad) = scan(&bytes);
            let end = frames.last().map_or(0, |frame| frame.end);
            if let Some(why) = bad {
                let is_last = index + 1 == self.segments.len();
                self.must_be_torn(&segment, &bytes, end, why, is_last)?;
                torn = Some(TornTail {
                    file: self.path(&segment),
                    offset: end as u64,
                    bytes: (bytes.len() - end) as u64,
                });
            }
            self.segments[index].bytes = end as u64;
            self.check_epochs(&segment, &bytes, &frames)?;
        }
        Ok(torn)
    }

    /// Errors unless what is wrong at `end` is the unfinished last frame of the log.
    fn must_be_torn(
        &self,
        segment: &Segment,
        bytes: &[u8],
        end: usize,
        why: &str,
        is_last: bool,
    ) -> Result<(), LogError> {
        let next = next_frame(bytes, end + 1);
        let why = match next {
            Some(next) => format!("{why}, while a sound frame follows at byte {next}"),
            None if !is_last => format!("{why}, while another segment follows"),
            None => return Ok(()),
        };
        Err(self.damaged(segment, end, why))
    }

    /// The first and last epoch of a segment are those that its name and the segment before it promise.
    fn check_epochs(&mut self, segment: &Segment, bytes: &[u8], frames: &[ops::Range<usize>]) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Ok(());
        };
        let first_records = self.records_of(segment, bytes, first)?;
        if first_records.first().is_none_or(|record| record.epoch != segment.first) {
            return Err(self.damaged(segment, 0, "it does not begin with the epoch in its name".to_owned()));
        }
        if let Some(last) = self.last.filter(|last| last.checked_add(1) != Some(segment.first)) {
            return Err(LogError::MissingSegment {
                file: self.path(segment),
                last,
            });
        }
        self.last = self.records_of(segment, bytes, last)?.last().map(|record| record.epoch);
        Ok(())
    }

    /// Cuts the torn tail off; a segment of which nothing is left is removed, and so is an empty one.
    fn cut(&mut self, torn: Option<&TornTail>) -> Result<(), LogError> {
        let Some(segment) = self.segments.last().cloned() else {
            return Ok(());
        };
        if segment.bytes == 0 {
            self.disk.remove(&self.path(&segment))?;
            self.disk.sync_dir(&self.dir)?;
            self.segments.pop();
        } else if torn.is_some() {
            self.disk.truncate(&self.path(&segment), segment.bytes)?;
        }
        Ok(())
    }

    /// Appends a group of sealed records and syncs once; when it returns, all of them are durable.
    ///
    /// # Errors
    /// None of the records is in the log then, as long as this process lives (after a restart all may be, or none).
    /// The log can be used again: the next call first removes what the failed one left, and fails loudly when it
    /// cannot.
    pub fn append(&mut self, records: &[EpochRecord]) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(());
        };
        self.check_order(records)?;
        let frame = frame(records)?;
        self.clean()?;
        if self
            .segments
            .last()
            .is_none_or(|segment| segment.bytes >= self.segment_bytes)
        {
            self.segments.push(Segment {
                first: first.epoch,
                bytes: 0,
            });
        }
        let segment = self.segments.last().cloned().unwrap_or(Segment {
            first: first.epoch,
            bytes: 0,
        });
        self.unclean = true;
        self.disk.append(&self.path(&segment), &frame)?;
        if segment.bytes == 0 {
            self.disk.sync_dir(&self.dir)?;
        }
        self.unclean = false;
        if let Some(segment) = self.segments.last_mut() {
            segment.bytes += frame.len() as u64;
        }
        self.last = Some(last.epoch);
        Ok(())
    }

    fn check_order(&self, records: &[EpochRecord]) -> Result<(), LogError> {
        let mut last = self.last;
        for record in records {
            match last.map(|last| last.saturating_add(1)) {
                Some(expected) if expected != record.epoch => {
                    return Err(LogError::OutOfOrder {
                        expected,
                        found: record.epoch,
                    });
                }
                _ => last = Some(record.epoch),
            }
        }
        Ok(())
    }

    /// Removes what a failed append left behind the last sound frame.
    fn clean(&mut self) -> Result<(), LogError> {
        if !self.unclean {
            return Ok(());
        }
        if let Some(segment) = self.segments.last().cloned() {
            let path = self.path(&segment);
            match self.disk.truncate(&path, segment.bytes) {
                Err(error) if error.is_missing() && segment.bytes == 0 => {}
                other => other?,
            }
            if segment.bytes == 0 {
                // The name of the file stands for its first epoch, and the next group may have another.
                match self.disk.remove(&path) {
                    Err(error) if error.is_missing() => {}
                    other => other?,
                }
                self.segments.pop();
            }
        }
        self.unclean = false;
        Ok(())
    }

    /// All records from `epoch` on, in order, read segment by segment. Continuity is the
    /// [`Ledger`](super::Ledger)'s to check.
    pub fn records(&self, epoch: u64) -> impl Iterator<Item = Result<EpochRecord, LogError>> {
        let from = self
            .segments
            .partition_point(|segment| segment.first <= epoch)
            .saturating_sub(1);
        self.segments[from..]
            .iter()
            .filter(|segment| segment.bytes > 0)
            .flat_map(|segment| match self.segment_records(segment) {
                Ok(records) => records.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
            .skip_while(move |record| record.as_ref().is_ok_and(|record| record.epoch < epoch))
    }

    fn segment_records(&self, segment: &Segment) -> Result<Vec<EpochRecord>, LogError> {
        let bytes = self.disk.read_range(&self.path(segment), 0, segment.bytes)?;
        let (frames, bad) = scan(&bytes);
        let end = frames.last().map_or(0, |frame| frame.end);
        if let Some(why) = bad {
            return Err(self.damaged(segment, end, why.to_owned()));
        }
        if (end as u64) < segment.bytes {
            return Err(self.damaged(segment, end, "the file has become shorter".to_owned()));
        }
        let mut records = Vec::new();
        for frame in &frames {
            records.extend(self.records_of(segment, &bytes, frame)?);
        }
        Ok(records)
    }

    /// The records of one sound frame.
    fn records_of(
        &self,
        segment: &Segment,
        bytes: &[u8],
        frame: &ops::Range<usize>,
    ) -> Result<Vec<EpochRecord>, LogError> {
        let payload = bytes.get(frame.start + HEADER..frame.end).unwrap_or_default();
        payload
            .split(|byte| *byte == b'\n')
            .map(EpochRecord::from_bytes)
            .collect::<Result<_, RecordError>>()
            .map_err(|error| self.damaged(segment, frame.start, error.to_string()))
    }

    /// Deletes the segments that hold only epochs below `below`; returns how many. The last one always stays, so
    /// that the log knows where it ends.
    ///
    /// # Errors
    /// The system; segments that were deleted before are gone, and the log goes on.
    pub fn trim(&mut self, below: u64) -> Result<usize, LogError> {
        let mut deleted = 0;
        while self
            .segments
            .get(1)
            .is_some_and(|next| next.first <= below && next.bytes > 0)
        {
            self.disk.remove(&self.path(&self.segments[0]))?;
            // In order and synced one by one: a crash leaves no hole between segments.
            self.disk.sync_dir(&self.dir)?;
            self.segments.remove(0);
            deleted += 1;
        }
        Ok(deleted)
    }

    /// The first epoch that is still in the log.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.last.and(self.segments.first()).map(|segment| segment.first)
    }

    /// The last epoch in the log.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn path(&self, segment: &Segment) -> PathBuf {
        self.dir.join(segment.name())
    }

    fn damaged(&self, segment: &Segment, offset: usize, why: String) -> LogError {
        LogError::Damaged {
            file: self.path(segment),
            offset: offset as u64,
            why,
        }
    }
}

/// The frame of a group.
fn frame(records: &[EpochRecord]) -> Result<Vec<u8>, LogError> {
    let mut frame = vec![0; HEADER];
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            frame.push(b'\n');
        }
        frame.extend(record.to_bytes());
    }
    let bytes = frame.len() - HEADER;
    let length = u32::try_from(bytes)
        .map_err(|_| LogError::TooLong { bytes })?
        .to_le_bytes();
    let sum = checksum(length, &frame[HEADER..]).to_le_bytes();
    frame[..4].copy_from_slice(&length);
    frame[4..HEADER].copy_from_slice(&sum);
    Ok(frame)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

/// The sound frames from the beginning on, header included, and what is wrong behind them.
fn scan(bytes: &[u8]) -> (Vec<ops::Range<usize>>, Option<&'static str>) {
    let mut frames: Vec<ops::Range<usize>> = Vec::new();
    loop {
        let at = frames.last().map_or(0, |frame| frame.end);
        if at == bytes.len() {
            return (frames, None);
        }
        match frame_at(bytes, at) {
            Ok(end) => frames.push(at..end),
            Err(why) => return (frames, Some(why)),
        }
    }
}

/// The end of the frame that begins at `at`.
fn frame_at(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return Err("an incomplete frame");
    };
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else {
        return Err("an incomplete frame");
    };
    let bytes = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| "an incomplete frame")?;
    let payload = rest.get(..bytes).ok_or("an incomplete frame")?;
    if payload.is_empty() {
        return Err("an empty frame");
    }
    if checksum(*length, payload) != u32::from_le_bytes(*sum) {
        return Err("a frame without the right checksum");
    }
    Ok(at + HEADER + bytes)
}

/// The next place from `from` on where a sound frame begins.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    // A payload begins with a brace: nearly all other places need no checksum.
    (from..bytes.len().saturating_sub(HEADER))
        .find(|at| bytes.get(at + HEADER) == Some(&b'{') && frame_at(bytes, *at).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::RngExt;
    use rand_pcg::Pcg64Mcg;

    use super::super::record::tests::records;
    use super::*;
    use crate::disk::LocalDisk;
    use crate::disk::faulty::FaultyDisk;

    fn open(dir: &Path) -> Result<(EpochLog, Option<TornTail>), LogError> {
        EpochLog::open(Arc::new(LocalDisk), dir)
    }

    fn all(log: &EpochLog, from: u64) -> Result<Vec<EpochRecord>, LogError> {
        log.records(from).collect()
    }

    /// A log of `records` in groups of three, with segments of about `segment` bytes.
    fn written(dir: &Path, records: &[EpochRecord], segment: u64) -> EpochLog {
        let mut log = open(dir).unwrap().0;
        log.segment_bytes = segment;
        for group in records.chunks(3) {
            log.append(group).unwrap();
        }
        log
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(7, 20);
        let log = written(dir.path(), &records, 4000);
        assert!(log.segments.len() > 2);
        let (log, torn) = open(dir.path()).unwrap();
        assert_eq!((torn, log.first(), log.last()), (None, Some(7), Some(26)));
        assert_eq!(all(&log, 0).unwrap(), records);
        for from in [7, 8, 15, 26, 27] {
            assert_eq!(all(&log, from).unwrap(), records[from as usize - 7..], "from {from}");
        }
        let on_disk: u64 = LocalDisk
            .names(dir.path())
            .unwrap()
            .iter()
            .map(|name| LocalDisk.len(&dir.path().join(name)).unwrap())
            .sum();
        assert_eq!(log.bytes(), on_disk);
    }

    #[test]
    fn a_segment_is_named_by_its_first_epoch() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &records(7, 3), 4000);
        assert_eq!(
            LocalDisk.names(dir.path()).unwrap(),
            ["epochs-00000000000000000007.log"]
        );
    }

    #[test]
    fn trim_deletes_whole_segments_and_never_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(1, 30);
        let mut log = written(dir.path(), &records, 2000);
        let second = log.segments[1].first;
        assert_eq!(log.trim(second - 1).unwrap(), 0);
        assert_eq!(log.trim(second).unwrap(), 1);
        assert_eq!(log.first(), Some(second));
        log.trim(u64::MAX).unwrap();
        let (log, _) = open(dir.path()).unwrap();
        assert_eq!((log.segments.len(), log.last()), (1, Some(30)));
        assert_eq!(all(&log, 0).unwrap(), records[log.first().unwrap() as usize - 1..]);
    }

    #[test]
    fn records_that_do_not_go_on_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(1, 9);
        let mut log = written(dir.path(), &records[..3], 4000);
        assert!(matches!(
            log.append(&records[4..]),
            Err(LogError::OutOfOrder { expected: 4, found: 5 })
        ));
        assert!(matches!(
            log.append(&records[..1]),
            Err(LogError::OutOfOrder { expected: 4, found: 1 })
        ));
        log.append(&[]).unwrap();
        log.append(&records[3..]).unwrap();
        assert_eq!(all(&log, 0).unwrap(), records);
    }

    #[test]
    fn a_log_cut_anywhere_keeps_its_whole_groups_and_goes_on() {
        let records = records(1, 9);
        let dir = tempfile::tempdir().unwrap();
        let log = written(dir.path(), &records, u64::MAX);
        let path = log.path(&log.segments[0]);
        let whole = LocalDisk.read(&path).unwrap();
        let ends: Vec<usize> = scan(&whole).0.iter().map(|frame| frame.end).collect();
        assert_eq!(ends.len(), 3);
        for at in (0..whole.len())
            .step_by(7)
            .chain(ends.iter().flat_map(|end| [end - 1, *end]))
        {
            LocalDisk.write(&path, &whole[..at]).unwrap();
            let (mut log, torn) = open(dir.path()).unwrap();
            let kept = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(all(&log, 0).unwrap(), records[..kept * 3], "cut at {at}");
            assert_eq!(torn.is_some(), at != 0 && !ends.contains(&at), "cut at {at}");
            log.append(&records[kept * 3..]).unwrap();
            assert_eq!(all(&open(dir.path()).unwrap().0, 0).unwrap(), records, "cut at {at}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_that_names_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let log = written(dir.path(), &records(1, 9), u64::MAX);
        let path = log.path(&log.segments[0]);
        let mut bytes = LocalDisk.read(&path).unwrap();
        let second = scan(&bytes).0[1].start;
        bytes[second + 100] ^= 1;
        LocalDisk.write(&path, &bytes).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(
            matches!(&error, LogError::Damaged { offset, .. } if *offset == second as u64),
            "{error}"
        );
        assert!(error.to_string().contains("epochs-00000000000000000001.log"), "{error}");
        assert_eq!(LocalDisk.read(&path).unwrap(), bytes, "nothing was cut");
    }

    #[test]
    fn damage_at_the_end_of_an_older_segment_and_a_missing_one_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let log = written(dir.path(), &records(1, 30), 2000);
        let path = log.path(&log.segments[1]);
        let bytes = LocalDisk.read(&path).unwrap();
        LocalDisk.write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(open(dir.path()), Err(LogError::Damaged { .. })));
        LocalDisk.write(&path, b"").unwrap();
        assert!(matches!(open(dir.path()), Err(LogError::MissingSegment { .. })));
        LocalDisk.remove(&path).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, LogError::MissingSegment { .. }), "{error}");
    }

    #[test]
    fn changed_bytes_are_an_error_or_cut_never_other_records() {
        let records = records(1, 18);
        let dir = tempfile::tempdir().unwrap();
        let log = written(dir.path(), &records, 3000);
        let files: Vec<_> = log.segments.iter().map(|segment| log.path(segment)).collect();
        let whole: Vec<_> = files.iter().map(|file| LocalDisk.read(file).unwrap()).collect();
        for seed in 0..600 {
            let mut random = Pcg64Mcg::new(seed);
            let file = random.random_range(0..files.len());
            let mut bytes = whole[file].clone();
            for _ in 0..random.random_range(1..3) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes[at] ^= 1 << random.random_range(0..8),
                    1 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, random.random()),
                    _ => bytes[at..].fill(0),
                }
            }
            LocalDisk.write(&files[file], &bytes).unwrap();
            if let Ok((log, torn)) = open(dir.path()) {
                let read = all(&log, 0).unwrap();
                assert_eq!(read, records[..read.len()], "seed {seed}");
                assert!(
                    read.len() == records.len() || torn.is_some() || bytes.is_empty(),
                    "seed {seed}"
                );
            }
            for (file, bytes) in files.iter().zip(&whole) {
                LocalDisk.write(file, bytes).unwrap();
            }
        }
    }

    #[test]
    fn an_append_that_fails_once_leaves_the_log_usable() {
        let records = records(1, 24);
        for seed in 0..60 {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FaultyDisk::failing_once_at(seed as usize % 20, seed));
            let mut log = EpochLog::open(disk.clone(), dir.path()).unwrap().0;
            log.segment_bytes = 3000;
            let mut failed = 0;
            for group in records.chunks(3) {
                while let Err(error) = log.append(group) {
                    assert!(error.to_string().contains("free some space"), "{error}");
                    failed += 1;
                }
            }
            assert_eq!(failed, usize::from(disk.changes() > seed as usize % 20), "seed {seed}");
            assert_eq!(all(&log, 0).unwrap(), records, "seed {seed}");
            let (log, torn) = open(dir.path()).unwrap();
            assert_eq!((all(&log, 0).unwrap(), torn), (records.clone(), None), "seed {seed}");
        }
    }

    #[test]
    fn a_process_that_dies_anywhere_loses_nothing_acknowledged() {
        let records = records(1, 24);
        for seed in 0..80 {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FaultyDisk::stopping_at(seed as usize % 20, seed));
            let mut log = EpochLog::open(disk, dir.path()).unwrap().0;
            log.segment_bytes = 3000;
            let mut acknowledged = 0;
            for group in records.chunks(3) {
                if log.append(group).is_ok() {
                    acknowledged += group.len();
                }
                if acknowledged > 12 && log.trim(6).is_err() {
                    break;
                }
            }
            let (log, _) = open(dir.path()).unwrap();
            let read = all(&log, 0).unwrap();
            let first = read.first().map_or(1, |record| record.epoch) as usize;
            assert!(first <= 6, "seed {seed}");
            assert!(log.last().unwrap_or(0) as usize >= acknowledged, "seed {seed}");
            assert_eq!(read, records[first - 1..first - 1 + read.len()], "seed {seed}");
        }
    }
}
