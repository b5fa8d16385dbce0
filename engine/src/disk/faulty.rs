//! A disk that stops, tears or fills up at a chosen step, for tests.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::{Disk, DiskError, LocalDisk};

/// The real disk until change number `at` (counted from 0), which fails after a random part of it was done.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    at: usize,
    for_good: bool,
    seed: u64,
    changes: AtomicUsize,
}

impl FaultyDisk {
    /// Stops at change `at`: that one and every later one fails, as after `kill -9`.
    pub(crate) fn stopping_at(at: usize, seed: u64) -> Self {
        Self {
            at,
            for_good: true,
            seed,
            changes: AtomicUsize::new(0),
        }
    }

    /// Fails at change `at` only, as when the disk was full for a moment.
    pub(crate) fn failing_once_at(at: usize, seed: u64) -> Self {
        Self {
            for_good: false,
            ..Self::stopping_at(at, seed)
        }
    }

    /// How many changes were asked for.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::Relaxed)
    }

    /// `None`: go on. `Some(share)`: fail, having done this share of the work (0 to 1).
    fn fault(&self) -> Option<f64> {
        let change = self.changes.fetch_add(1, Ordering::Relaxed);
        if change < self.at || (change > self.at && !self.for_good) {
            return None;
        }
        let mut random = Pcg64Mcg::new(u128::from(self.seed) << 64 | change as u128 | 1);
        let done = [0.0, 1.0, random.random::<f64>()];
        Some(if change > self.at {
            0.0
        } else {
            done[random.random_range(0..3)]
        })
    }

    /// Does a change that writes bytes, or a first part of it.
    fn bytes(
        &self,
        path: &Path,
        bytes: &[u8],
        write: impl Fn(&[u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let Some(share) = self.fault() else { return write(bytes) };
        if self.changes() == self.at + 1 {
            write(&bytes[..(bytes.len() as f64 * share) as usize])?;
        }
        full(path)
    }

    /// Does a change that cannot be half done.
    fn whole(&self, path: &Path, change: impl Fn() -> Result<(), DiskError>) -> Result<(), DiskError> {
        match self.fault() {
            None => change(),
            Some(share) if share >= 0.5 => change().and_then(|()| full(path)),
            Some(_) => full(path),
        }
    }
}

fn full(path: &Path) -> Result<(), DiskError> {
    Err(DiskError::io("change", path)(std::io::ErrorKind::StorageFull.into()))
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        LocalDisk.create_dir(dir)
    }
    fn names(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        LocalDisk.names(dir)
    }
    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        LocalDisk.read(path)
    }
    fn read_range(&self, path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, DiskError> {
        LocalDisk.read_range(path, offset, len)
    }
    fn len(&self, path: &Path) -> Result<u64, DiskError> {
        LocalDisk.len(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.bytes(path, bytes, |part| LocalDisk.write(path, part))
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.bytes(path, bytes, |part| LocalDisk.append(path, part))
    }
    fn truncate(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        self.whole(path, || LocalDisk.truncate(path, len))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.whole(to, || LocalDisk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.whole(path, || LocalDisk.remove(path))
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.whole(dir, || LocalDisk.sync_dir(dir))
    }
}
