//! The seam between the engine and its files: every durable write goes through [`Disk`], so that tests can
//! stop it, tear it or fill it at any step.
//!
//! What must hold: a method that returns `Ok` has reached the disk (fsync), and [`write_atomic`] leaves either
//! the old or the whole new file, whenever the machine stops.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) mod faulty;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process owns the folder.
    #[error("`{}` is held by {holder}: another driftmill runs on this folder; stop it, or give this one its own folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as it is known.
        holder: String,
    },
}

impl DiskError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// True when the file or folder does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True when the disk or the quota is full: it may work later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What to do about an error of the operating system.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space on this disk",
        io::ErrorKind::PermissionDenied => "; give the user that runs driftmill the right to it",
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is mounted read-only",
        io::ErrorKind::NotFound => "; check the configured folder",
        _ => "",
    }
}

/// Files, as the engine needs them. Each change is durable in itself when it returns, except names: those of
/// files that were made, renamed or removed are durable after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + Debug {
    /// Makes `dir` and its missing parents, and makes their names durable.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Names of the plain files in `dir`, sorted; those that are not UTF-8 are left out, since Driftmill makes
    /// none.
    ///
    /// # Errors
    /// As the system says.
    fn names(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// The whole of a file.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError>;

    /// At most `len` bytes from `offset` on; fewer when the file ends before. Never allocates more than the
    /// file holds.
    ///
    /// # Errors
    /// As the system says.
    fn read_range(&self, path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, DiskError>;

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self, path: &Path) -> Result<u64, DiskError>;

    /// Makes or replaces a file and syncs it. Not atomic: see [`write_atomic`].
    ///
    /// # Errors
    /// As the system says; the file may then hold any part of `bytes`.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError>;

    /// Appends to a file, made when it is missing, and syncs it.
    ///
    /// # Errors
    /// As the system says; any part of `bytes` may then stand at the end.
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError>;

    /// Cuts a file to `len` bytes and syncs it.
    ///
    /// # Errors
    /// As the system says.
    fn truncate(&self, path: &Path, len: u64) -> Result<(), DiskError>;

    /// Renames a file; an existing `to` is replaced at once.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;
}

/// Makes or replaces a file so that, whenever the machine stops, either the old or the whole new one is there:
/// a temporary file beside it, synced, renamed over it, and the folder synced.
///
/// # Errors
/// As the system says; the old file then still stands, or, when only the folder could not be synced, the new.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    disk.write(&temporary, bytes)?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// How the names of unfinished files end; one that is found at start can be removed.
pub const TEMPORARY: &str = ".tmp";

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other.map_err(DiskError::io("make folder", dir)),
        }?;
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.extend(entry.file_name().into_string());
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        list().map_err(DiskError::io("list", dir))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        fs::read(path).map_err(DiskError::io("read", path))
    }

    fn read_range(&self, path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, DiskError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            let there = file.metadata()?.len().saturating_sub(offset).min(len);
            if there == 0 {
                return Ok(Vec::new());
            }
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::with_capacity(usize::try_from(there).unwrap_or(0));
            file.take(there).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(DiskError::io("read", path))
    }

    fn len(&self, path: &Path) -> Result<u64, DiskError> {
        fs::metadata(path)
            .map(|metadata| metadata.len())
            .map_err(DiskError::io("read", path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let write = || -> io::Result<()> {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(DiskError::io("write", path))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        append().map_err(DiskError::io("append to", path))
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        let truncate = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(len)?;
            file.sync_all()
        };
        truncate().map_err(DiskError::io("cut", path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(DiskError::io("rename a new file to", to))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        fs::remove_file(path).map_err(DiskError::io("remove", path))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        File::open(dir)
            .and_then(|file| file.sync_all())
            .map_err(DiskError::io("sync folder", dir))
    }
}

/// The ownership of a folder by this process; given back when it is dropped or the process ends, however it
/// ends. The file itself stays, with the number of the last owner in it.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// [`DiskError::Locked`] when another process (or another part of this one) holds it.
    pub fn acquire(path: &Path) -> Result<Self, DiskError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(DiskError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DiskError::Locked {
                    path: path.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(DiskError::io("lock", path)(source)),
        }
        let mut note = || -> io::Result<()> {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        };
        note().map_err(DiskError::io("write", path))?;
        Ok(Self { _file: file })
    }
}

/// Who wrote its number into a lock file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) => format!("process {process}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomic(&LocalDisk, &path, b"old").unwrap();
        write_atomic(&LocalDisk, &path, b"new").unwrap();
        assert_eq!(LocalDisk.read(&path).unwrap(), b"new");
        assert_eq!(LocalDisk.names(dir.path()).unwrap(), ["a"]);
    }

    #[test]
    fn an_atomic_write_that_stops_anywhere_leaves_the_old_or_the_new() {
        for seed in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            write_atomic(&LocalDisk, &path, b"old").unwrap();
            let disk = faulty::FaultyDisk::stopping_at(seed as usize % 4, seed);
            let done = write_atomic(&disk, &path, b"the new one");
            let found = LocalDisk.read(&path).unwrap();
            assert!(found == b"old" || found == b"the new one", "seed {seed}: {found:?}");
            assert!(done.is_err() || found == b"the new one", "seed {seed}");
        }
    }

    #[test]
    fn deep_folders_are_made_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        LocalDisk.create_dir(&deep).unwrap();
        LocalDisk.create_dir(&deep).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn a_range_beyond_the_end_is_short_and_costs_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        LocalDisk.write(&path, b"0123456789").unwrap();
        assert_eq!(LocalDisk.read_range(&path, 8, u64::MAX).unwrap(), b"89");
        assert_eq!(LocalDisk.read_range(&path, u64::MAX >> 1, u64::MAX).unwrap(), b"");
        assert_eq!(LocalDisk.len(&path).unwrap(), 10);
        LocalDisk.truncate(&path, 3).unwrap();
        LocalDisk.append(&path, b"x").unwrap();
        assert_eq!(LocalDisk.read(&path).unwrap(), b"012x");
    }

    #[test]
    fn a_lock_has_one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = LockFile::acquire(&path).unwrap();
        let refused = LockFile::acquire(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        LockFile::acquire(&path).unwrap();
    }

    #[test]
    fn errors_name_the_file_and_what_to_do() {
        let error = LocalDisk.read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.is_missing());
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        let full = DiskError::io("append to", Path::new("x"))(io::ErrorKind::StorageFull.into());
        assert!(full.is_full() && full.to_string().contains("free some space"), "{full}");
    }
}
