//! The table of contents of one snapshot: a line of JSON and a line with its BLAKE3 hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The format of manifests that this version writes, and the only one it reads.
const VERSION: u32 = 2;
/// Letters of a BLAKE3 hash in hex.
const HASH: usize = 64;

/// Where a chunk lies, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkEntry {
    /// Its change stamp when it was written.
    pub stamp: u64,
    /// Number of the pack.
    pub pack: u64,
    /// Where its frame begins in the pack, in bytes.
    pub offset: u64,
    /// Length of the content in bytes, without the frame.
    pub len: u64,
    /// BLAKE3 of the content, in hex.
    pub hash: String,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the manifest.
    pub v: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The last epoch that is part of the state.
    pub epoch: u64,
    /// `chain` of that epoch's record.
    pub chain: String,
    /// Hash of the plan in force.
    pub plan: String,
    /// Version of the crate that wrote it.
    pub code: String,
    /// The time that the epoch was given, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// Every chunk of the state by name.
    pub chunks: BTreeMap<String, ChunkEntry>,
}

impl Manifest {
    /// File name of the manifest of `epoch`.
    pub(super) fn name(epoch: u64) -> String {
        format!("{epoch:020}.manifest")
    }

    /// The epoch whose manifest has this file name.
    pub(super) fn parse_name(name: &str) -> Option<u64> {
        let epoch = name.strip_suffix(".manifest")?.parse().ok()?;
        (Self::name(epoch) == name).then_some(epoch)
    }

    pub(super) fn version() -> u32 {
        VERSION
    }

    #[expect(
        clippy::expect_used,
        reason = "a struct of strings, numbers and maps by name always has a JSON form"
    )]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("plain data");
        let hash = blake3::hash(&bytes).to_hex();
        bytes.push(b'\n');
        bytes.extend_from_slice(hash.as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// Reads the manifest that a file named for `epoch` holds, for `pipeline`; the hash is checked before
    /// anything is parsed.
    pub(super) fn from_bytes(bytes: &[u8], epoch: u64, pipeline: &str) -> Result<Self, String> {
        let body = checked_body(bytes)?;
        let unreadable = |error: serde_json::Error| format!("not a manifest: {error}");
        let version = serde_json::from_slice::<Probe>(body).map_err(unreadable)?.v;
        if version != u64::from(VERSION) {
            return Err(format!(
                "format {version}, this version of driftmill reads {VERSION}: start the version that wrote it"
            ));
        }
        let manifest: Self = serde_json::from_slice(body).map_err(unreadable)?;
        if manifest.epoch != epoch {
            return Err(format!("it is of epoch {}: the file was renamed", manifest.epoch));
        }
        if manifest.pipeline != pipeline {
            return Err(format!(
                "it belongs to pipeline `{}`, not to `{pipeline}`",
                manifest.pipeline
            ));
        }
        Ok(manifest)
    }

    /// Bytes of content of the whole state.
    pub(super) fn total(&self) -> u64 {
        self.chunks.values().map(|chunk| chunk.len).sum()
    }
}

/// As much of a manifest as every format has.
#[derive(Deserialize)]
struct Probe {
    v: u64,
}

/// The JSON before the hash, when that is right.
fn checked_body(bytes: &[u8]) -> Result<&[u8], String> {
    let incomplete = || "incomplete, or not a manifest".to_owned();
    let text = bytes.strip_suffix(b"\n").ok_or_else(incomplete)?;
    let split = text.len().checked_sub(HASH + 1).ok_or_else(incomplete)?;
    let (body, hash) = text.split_at(split);
    let Some((b'\n', hash)) = hash.split_first() else {
        return Err(incomplete());
    };
    if blake3::hash(body).to_hex().as_bytes() != hash {
        return Err("damaged: its content does not have the hash at its end".to_owned());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = ChunkEntry {
            stamp: 3,
            pack: 1,
            offset: 40,
            len: 9,
            hash: "ab".to_owned(),
        };
        Manifest {
            v: VERSION,
            pipeline: "p".to_owned(),
            epoch: 7,
            chain: "c".to_owned(),
            plan: "q".to_owned(),
            code: "0.1.0".to_owned(),
            time_ms: 5,
            chunks: [("a/b".to_owned(), entry)].into(),
        }
    }

    #[test]
    fn a_manifest_comes_back_and_any_other_bytes_are_refused() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes, 7, "p").unwrap(), manifest());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            Manifest::from_bytes(&changed, 7, "p").unwrap_err();
            Manifest::from_bytes(&bytes[..at], 7, "p").unwrap_err();
        }
    }

    #[test]
    fn what_belongs_elsewhere_is_refused_by_name() {
        let refused = |manifest: &Manifest, epoch, pipeline| {
            Manifest::from_bytes(&manifest.to_bytes(), epoch, pipeline).unwrap_err()
        };
        assert!(refused(&manifest(), 8, "p").contains("epoch 7"));
        assert!(refused(&manifest(), 7, "q").contains("pipeline `p`"));
        assert!(refused(&Manifest { v: 9, ..manifest() }, 7, "p").contains("format 9"));
    }

    #[test]
    fn only_own_names_are_names() {
        assert_eq!(Manifest::parse_name(&Manifest::name(12)), Some(12));
        assert_eq!(Manifest::parse_name("12.manifest"), None);
        assert_eq!(Manifest::parse_name("00000000000000000012.manifest.tmp"), None);
    }
}
