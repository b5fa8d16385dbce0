//! Snapshots: what a pipeline knew after an epoch, kept at a cost that grows with the change.
//!
//! A folder holds packs `NNNN.pack` of chunks, never changed once written, and manifests
//! `<epoch, 20 digits>.manifest` that name every chunk of one snapshot and the pack it lies in. The engine
//! *prepares* a snapshot (copies the chunks whose stamp moved, in memory) and, once that epoch has committed, a
//! background thread *publishes* it. Whenever the machine stops, the snapshots that were there still are.
//!
//! What must hold: a pack that a kept manifest names is never removed, a manifest is written only after all its
//! packs are durable, and no byte is handed out whose hash was not checked.

mod collect;
mod load;
mod manifest;
mod pack;
mod store;

pub use collect::{Meta, Prepared, state_hash};
pub use load::{Chunks, Loaded, Rejected};
pub use manifest::{ChunkEntry, Manifest};
pub use store::{SnapshotCost, SnapshotStore};

use std::path::PathBuf;

use crate::disk::DiskError;

/// A snapshot could not be written or found.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A state offers two chunks of one name.
    #[error("two parts of the state are called `{name}`; this is a fault of driftmill")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A prepared snapshot rests on one that was not published.
    #[error(
        "the snapshot of epoch {epoch} rests on an earlier one that was not written (its chunk `{chunk}` is \
         missing); it is left out, and the next one is written whole again"
    )]
    Broken {
        /// The epoch.
        epoch: u64,
        /// A chunk that is missing.
        chunk: String,
    },
    /// A prepared snapshot is of a state that was since loaded or made anew.
    #[error("the snapshot of epoch {epoch} is of a state that was given up; this is a fault of driftmill")]
    GivenUp {
        /// The epoch.
        epoch: u64,
    },
    /// A chunk that should be moved out of an old pack is damaged there.
    #[error(
        "`{}` is damaged: chunk `{chunk}`: {why}; the next snapshot writes that chunk again; check the disk",
        file.display()
    )]
    Damaged {
        /// The pack.
        file: PathBuf,
        /// The chunk.
        chunk: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder holds snapshots of a later time.
    #[error(
        "`{}` holds a snapshot of epoch {newest}, and epoch {epoch} is to be written: the folder belongs to another \
         epoch log; move it away",
        dir.display()
    )]
    Ahead {
        /// The folder.
        dir: PathBuf,
        /// The epoch that is to be written.
        epoch: u64,
        /// The newest epoch in the folder.
        newest: u64,
    },
    /// There are snapshots, and none can be used.
    #[error(
        "none of the snapshots in `{}` can be used: {}; restore the folder from a copy, or move it away to start \
         anew from the registry",
        dir.display(),
        rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    AllRejected {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with each, newest first.
        rejected: Vec<Rejected>,
    },
}
