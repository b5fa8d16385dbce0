//! Finding the newest snapshot that can be trusted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use driftmill_models::state::ChunkSource;

use super::collect::hash_parts;
use super::manifest::{ChunkEntry, Manifest};
use super::{SnapshotError, pack};
use crate::disk::{Disk, DiskError};

/// A snapshot that was read and found right, byte for byte.
#[derive(Debug)]
pub struct Loaded {
    /// What it says about itself.
    pub manifest: Manifest,
    /// Its chunks.
    pub source: Chunks,
    /// Newer snapshots that cannot be used, newest first; to be logged as warnings.
    pub rejected: Vec<Rejected>,
}

/// A snapshot that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Name of the manifest in the folder.
    pub file: String,
    /// What is wrong, with it or with the packs that it names.
    pub why: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.file, self.why)
    }
}

/// The chunks of a loaded snapshot.
#[derive(Debug, Default)]
pub struct Chunks(BTreeMap<String, Vec<u8>>);

impl Chunks {
    /// What [`state_hash`](super::state_hash) says of the state that these chunks were saved from.
    #[must_use]
    pub fn state_hash(&self) -> String {
        hash_parts(
            self.0
                .iter()
                .map(|(name, content)| (name.as_str(), blake3::hash(content))),
        )
    }
}

impl ChunkSource for Chunks {
    fn chunk(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.0
            .range(prefix.to_owned()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// Epochs of the manifests in the folder, oldest first.
pub(super) fn epochs(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, DiskError> {
    let names = disk.names(dir)?;
    Ok(names.iter().filter_map(|name| Manifest::parse_name(name)).collect())
}

/// Reads the manifest of `epoch`: the outer error is the system's, the inner one the file's.
pub(super) fn manifest(
    disk: &dyn Disk,
    dir: &Path,
    epoch: u64,
    pipeline: &str,
) -> Result<Result<Manifest, Rejected>, DiskError> {
    let file = Manifest::name(epoch);
    let bytes = disk.read(&dir.join(&file))?;
    Ok(Manifest::from_bytes(&bytes, epoch, pipeline).map_err(|why| Rejected { file, why }))
}

/// Reads the newest usable snapshot of an epoch below `below`.
pub(super) fn newest(
    disk: &dyn Disk,
    dir: &Path,
    pipeline: &str,
    below: Option<u64>,
) -> Result<Option<Loaded>, SnapshotError> {
    let mut rejected = Vec::new();
    let epochs = epochs(disk, dir)?;
    for epoch in epochs
        .into_iter()
        .rev()
        .filter(|epoch| below.is_none_or(|below| *epoch < below))
    {
        let manifest = match manifest(disk, dir, epoch, pipeline)? {
            Ok(manifest) => manifest,
            Err(why) => {
                rejected.push(why);
                continue;
            }
        };
        match whole(disk, dir, manifest)? {
            Ok(loaded) => return Ok(Some(Loaded { rejected, ..loaded })),
            Err(why) => rejected.push(why),
        }
    }
    if rejected.is_empty() {
        return Ok(None);
    }
    Err(SnapshotError::AllRejected {
        dir: dir.to_owned(),
        rejected,
    })
}

/// The snapshot of a manifest, with all its chunks.
pub(super) fn whole(disk: &dyn Disk, dir: &Path, manifest: Manifest) -> Result<Result<Loaded, Rejected>, DiskError> {
    Ok(match chunks(disk, dir, &manifest)? {
        Ok(source) => Ok(Loaded {
            manifest,
            source,
            rejected: Vec::new(),
        }),
        Err(why) => Err(Rejected {
            file: Manifest::name(manifest.epoch),
            why,
        }),
    })
}

/// All chunks that a manifest names.
fn chunks(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<Result<Chunks, String>, DiskError> {
    let mut chunks = BTreeMap::new();
    for (name, entry) in &manifest.chunks {
        match chunk(disk, dir, entry)? {
            Ok(content) => chunks.insert(name.clone(), content),
            Err(why) => return Ok(Err(format!("chunk `{name}` in {}: {why}", pack::name(entry.pack)))),
        };
    }
    Ok(Ok(Chunks(chunks)))
}

/// One chunk, checked. A pack that is not there is the snapshot's fault, any other refusal the system's.
pub(super) fn chunk(
    disk: &dyn Disk,
    dir: &Path,
    entry: &ChunkEntry,
) -> Result<Result<Vec<u8>, &'static str>, DiskError> {
    let path = dir.join(pack::name(entry.pack));
    match disk.read_range(&path, entry.offset, pack::framed(entry)) {
        Ok(frame) => Ok(pack::content(frame, entry)),
        Err(error) if error.is_missing() => Ok(Err("the pack is missing")),
        Err(error) => Err(error),
    }
}
