//! The folder of snapshots: preparing, publishing, forgetting old ones, compacting packs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftmill_models::state::{ChunkVisitor, State};

use super::collect::{Collector, Meta, Prepared};
use super::load::{self, Loaded, Rejected};
use super::manifest::{ChunkEntry, Manifest};
use super::{SnapshotError, pack};
use crate::disk::{Disk, DiskError, TEMPORARY, write_atomic};
use crate::failpoint::{Point, pass};

/// Snapshots that are kept.
const KEPT: usize = 3;
/// Compaction may always move this much in one snapshot, in bytes.
const COMPACTION_BYTES_MIN: u64 = 1 << 20;
/// With more packs than this the emptiest is compacted even when little of it is dead.
const PACKS_MAX: usize = 256;

/// What a snapshot cost, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotCost {
    /// Written in all: chunks that changed, chunks that were moved, and the manifest.
    pub written: u64,
    /// Part of `written` that only moved out of a pack that is mostly dead.
    pub compacted: u64,
    /// Content of the whole state: what a snapshot without memory would have written.
    pub total: u64,
}

/// The snapshots of one pipeline. The engine's thread prepares, a background thread publishes; neither waits for
/// the other's work.
#[derive(Debug)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pipeline: String,
    known: Mutex<Known>,
    files: Mutex<Files>,
}

/// What the last prepared snapshot held. Never locked while a file is touched.
#[derive(Debug, Default)]
struct Known {
    stamps: HashMap<String, u64>,
    life: u64,
}

/// What is on disk.
#[derive(Debug)]
struct Files {
    /// Chunks of the last published (or loaded) snapshot, whose stamps belong to the state as it lives now.
    stored: BTreeMap<String, ChunkEntry>,
    /// Packs that each usable manifest names.
    manifests: BTreeMap<u64, BTreeSet<u64>>,
    next_pack: u64,
    life: u64,
}

impl SnapshotStore {
    /// Opens the folder `dir`, which is made when it is missing. Nothing is loaded, and the next snapshot is
    /// whole unless [`SnapshotStore::load_newest`] comes before.
    ///
    /// # Errors
    /// The system.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        pipeline: impl Into<String>,
    ) -> Result<Self, SnapshotError> {
        let (dir, pipeline) = (dir.into(), pipeline.into());
        disk.create_dir(&dir)?;
        let mut manifests = BTreeMap::new();
        for epoch in load::epochs(&*disk, &dir)? {
            if let Ok(manifest) = load::manifest(&*disk, &dir, epoch, &pipeline)? {
                manifests.insert(epoch, packs_of(&manifest.chunks));
            }
        }
        let names = disk.names(&dir)?;
        let last_pack = names.iter().filter_map(|name| pack::parse_name(name)).max();
        let files = Files {
            stored: BTreeMap::new(),
            manifests,
            next_pack: last_pack.map_or(1, |last| last.saturating_add(1)),
            life: 0,
        };
        Ok(Self {
            disk,
            dir,
            pipeline,
            known: Mutex::default(),
            files: Mutex::new(files),
        })
    }

    /// Copies what changed in `state` since the last prepared snapshot (or the loaded one). Touches no file.
    ///
    /// # Errors
    /// Two chunks have the same name.
    pub fn prepare(&self, state: &dyn State, meta: Meta) -> Result<Prepared, SnapshotError> {
        self.prepare_with(|chunks| state.save(chunks), meta)
    }

    /// The same for a state that is not one value: `save` offers all chunks.
    ///
    /// # Errors
    /// Two chunks have the same name.
    pub fn prepare_with(
        &self,
        save: impl FnOnce(&mut dyn ChunkVisitor),
        meta: Meta,
    ) -> Result<Prepared, SnapshotError> {
        let mut known = lock(&self.known);
        let mut collector = Collector::new(&known.stamps);
        save(&mut collector);
        let Collector { chunks, duplicate, .. } = collector;
        if let Some(name) = duplicate {
            return Err(SnapshotError::Duplicate { name });
        }
        known.stamps = chunks.iter().map(|(name, chunk)| (name.clone(), chunk.stamp)).collect();
        let life = known.life;
        Ok(Prepared { meta, chunks, life })
    }

    /// Writes a prepared snapshot whose epoch has committed; when it returns, the snapshot is durable. Snapshots
    /// are published in the order in which they were prepared.
    ///
    /// # Errors
    /// The system, or a snapshot that rests on one that was not published. The snapshots before it still stand,
    /// and the next one that is prepared holds everything that is not on disk.
    pub fn publish(&self, prepared: Prepared) -> Result<SnapshotCost, SnapshotError> {
        let mut files = lock(&self.files);
        let published = self.write(&mut files, prepared);
        if let Err(error) = &published {
            if let SnapshotError::Damaged { chunk, .. } = error {
                files.stored.remove(chunk);
            }
            lock(&self.known).stamps = stamps_of(&files.stored);
        }
        published
    }

    fn write(&self, files: &mut Files, prepared: Prepared) -> Result<SnapshotCost, SnapshotError> {
        let epoch = prepared.meta.epoch;
        if prepared.life != files.life {
            return Err(SnapshotError::GivenUp { epoch });
        }
        if let Some((newest, _)) = files.manifests.last_key_value().filter(|(newest, _)| **newest > epoch) {
            let (dir, newest) = (self.dir.clone(), *newest);
            return Err(SnapshotError::Ahead { dir, epoch, newest });
        }
        let mut pack = pack::Builder::new(files.next_pack);
        let (meta, mut chunks) = settle(&files.stored, prepared, &mut pack)?;
        let changed = pack.bytes.len() as u64;
        self.compact(&mut chunks, &mut pack)?;
        let compacted = pack.bytes.len() as u64 - changed;
        self.write_pack(files, &pack)?;
        pass(Point::SnapshotPackWritten, epoch);
        let manifest = self.manifest(meta, chunks);
        let bytes = manifest.to_bytes();
        write_atomic(&*self.disk, &self.dir.join(Manifest::name(epoch)), &bytes)?;
        pass(Point::SnapshotManifestWritten, epoch);
        let cost = SnapshotCost {
            written: changed + compacted + bytes.len() as u64,
            compacted,
            total: manifest.total(),
        };
        files.manifests.insert(epoch, packs_of(&manifest.chunks));
        files.stored = manifest.chunks;
        if let Err(error) = self.collect_garbage(files) {
            // The snapshot stands; what could not be removed is tried again after the next one.
            tracing::warn!(%error, "old snapshots could not be removed");
        }
        Ok(cost)
    }

    fn manifest(&self, meta: Meta, chunks: BTreeMap<String, ChunkEntry>) -> Manifest {
        Manifest {
            v: Manifest::version(),
            pipeline: self.pipeline.clone(),
            epoch: meta.epoch,
            chain: meta.chain,
            plan: meta.plan,
            code: meta.code,
            time_ms: meta.time_ms,
            chunks,
        }
    }

    fn write_pack(&self, files: &mut Files, pack: &pack::Builder) -> Result<(), DiskError> {
        if pack.bytes.is_empty() {
            return Ok(());
        }
        // Whatever becomes of it, its number is used up.
        files.next_pack = files.next_pack.saturating_add(1);
        self.disk.write(&self.dir.join(pack::name(pack.number)), &pack.bytes)?;
        self.disk.sync_dir(&self.dir)
    }

    /// When more than half of the packs' bytes are dead, moves live chunks of the emptiest into `pack`: at most
    /// twice what changed (or [`COMPACTION_BYTES_MIN`]), so that the cost still follows the change.
    fn compact(
        &self,
        chunks: &mut BTreeMap<String, ChunkEntry>,
        pack: &mut pack::Builder,
    ) -> Result<(), SnapshotError> {
        let Some(emptiest) = self.emptiest_pack(chunks, pack.number)? else {
            return Ok(());
        };
        let budget = COMPACTION_BYTES_MIN.max(2 * pack.bytes.len() as u64);
        let mut moved = 0;
        for (name, entry) in chunks.iter_mut().filter(|(_, entry)| entry.pack == emptiest) {
            if moved > 0 && moved + pack::framed(entry) > budget {
                break;
            }
            match load::chunk(&*self.disk, &self.dir, entry)? {
                Ok(content) => *entry = pack.add(entry.stamp, &content),
                Err(why) => return Err(self.lost(name, entry.pack, why)),
            }
            moved += pack::framed(entry);
        }
        Ok(())
    }

    /// A chunk that is known to be on disk is damaged there. The next snapshot must not rest on it.
    fn lost(&self, name: &str, number: u64, why: &str) -> SnapshotError {
        SnapshotError::Damaged {
            file: self.dir.join(pack::name(number)),
            chunk: name.to_owned(),
            why: why.to_owned(),
        }
    }

    /// The pack that is to be compacted, if any: of mostly dead packs the one with the smallest live share, of too
    /// many packs the one with the least in it.
    fn emptiest_pack(
        &self,
        chunks: &BTreeMap<String, ChunkEntry>,
        building: u64,
    ) -> Result<Option<u64>, SnapshotError> {
        let mut live = BTreeMap::<u64, u64>::new();
        for entry in chunks.values().filter(|entry| entry.pack != building) {
            *live.entry(entry.pack).or_default() += pack::framed(entry);
        }
        let mut packs = Vec::new();
        for (number, live) in live {
            packs.push((number, live, self.pack_bytes(number)?));
        }
        let live_bytes: u64 = packs.iter().map(|(_, live, _)| live).sum();
        let all_bytes: u64 = packs.iter().map(|(.., all)| all).sum();
        let share = |pack: &(u64, u64, u64)| pack.1 as f64 / pack.2.max(1) as f64;
        let emptiest = if live_bytes * 2 < all_bytes {
            packs.iter().min_by(|a, b| share(a).total_cmp(&share(b)))
        } else {
            packs
                .iter()
                .filter(|_| packs.len() > PACKS_MAX)
                .min_by_key(|(_, live, _)| *live)
        };
        Ok(emptiest.map(|(number, ..)| *number))
    }

    /// Length of a pack; 0 when it is missing, which is found when its chunks are read.
    fn pack_bytes(&self, number: u64) -> Result<u64, DiskError> {
        match self.disk.len(&self.dir.join(pack::name(number))) {
            Err(error) if error.is_missing() => Ok(0),
            other => other,
        }
    }

    /// Removes all but the newest manifests, then the packs that none of the rest names, and unfinished files.
    fn collect_garbage(&self, files: &mut Files) -> Result<(), DiskError> {
        while files.manifests.len() > KEPT {
            files.manifests.pop_first();
        }
        let names = self.disk.names(&self.dir)?;
        let is_old = |name: &&String| {
            name.ends_with(TEMPORARY)
                || Manifest::parse_name(name).is_some_and(|epoch| !files.manifests.contains_key(&epoch))
        };
        // The manifests' removal is durable before their packs go: none ever names a pack that is gone.
        self.remove(names.iter().filter(is_old))?;
        let named: BTreeSet<u64> = files.manifests.values().flatten().copied().collect();
        let is_dead = |name: &&String| pack::parse_name(name).is_some_and(|number| !named.contains(&number));
        self.remove(names.iter().filter(is_dead))
    }

    fn remove<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), DiskError> {
        let mut removed = false;
        for name in names {
            self.disk.remove(&self.dir.join(name))?;
            removed = true;
        }
        if removed { self.disk.sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Reads and checks the newest usable snapshot; the next prepared one builds on it. `None` when there is
    /// no snapshot at all.
    ///
    /// # Errors
    /// There are snapshots and none can be used, or the system.
    pub fn load_newest(&self) -> Result<Option<Loaded>, SnapshotError> {
        self.load(None)
    }

    /// The newest usable snapshot of an epoch below `epoch`, when the state refused a newer one or the epoch log
    /// ends before it. Newer ones are given up: they are removed after the next is published.
    ///
    /// # Errors
    /// There are older snapshots and none can be used, or the system.
    pub fn load_older_than(&self, epoch: u64) -> Result<Option<Loaded>, SnapshotError> {
        self.load(Some(epoch))
    }

    fn load(&self, below: Option<u64>) -> Result<Option<Loaded>, SnapshotError> {
        let mut files = lock(&self.files);
        let loaded = load::newest(&*self.disk, &self.dir, &self.pipeline, below)?;
        let manifest = loaded.as_ref().map(|loaded| &loaded.manifest);
        let limit = manifest.map(|manifest| manifest.epoch.saturating_add(1)).or(below);
        files
            .manifests
            .retain(|epoch, _| limit.is_none_or(|limit| *epoch < limit));
        self.begin(
            &mut files,
            manifest.map(|manifest| manifest.chunks.clone()).unwrap_or_default(),
        );
        Ok(loaded)
    }

    /// Epochs of all snapshots in the folder, oldest first, usable or not.
    ///
    /// # Errors
    /// The system.
    pub fn kept(&self) -> Result<Vec<u64>, DiskError> {
        load::epochs(&*self.disk, &self.dir)
    }

    /// Reads and checks the snapshot of an epoch, to look at it: nothing builds on it. The inner error says what is wrong
    /// with it.
    ///
    /// # Errors
    /// The system.
    pub fn look(&self, epoch: u64) -> Result<Result<Loaded, Rejected>, DiskError> {
        match load::manifest(&*self.disk, &self.dir, epoch, &self.pipeline)? {
            Ok(manifest) => load::whole(&*self.disk, &self.dir, manifest),
            Err(why) => Ok(Err(why)),
        }
    }

    /// The state was made anew, not restored: its stamps have nothing to do with those on disk, and the next
    /// snapshot is whole.
    pub fn start_anew(&self) {
        let mut files = lock(&self.files);
        self.begin(&mut files, BTreeMap::new());
    }

    /// A new life of the state, which has the chunks `stored`.
    fn begin(&self, files: &mut Files, stored: BTreeMap<String, ChunkEntry>) {
        let mut known = lock(&self.known);
        known.stamps = stamps_of(&stored);
        known.life += 1;
        files.life = known.life;
        files.stored = stored;
    }

    /// The oldest epoch that is kept: the epoch log is needed from the next one on.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        lock(&self.files).manifests.keys().next().copied()
    }

    /// The newest epoch that is kept.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        lock(&self.files).manifests.keys().next_back().copied()
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Gives each chunk of a prepared snapshot its place: those that were copied go into `pack`, unless the same
/// content is there already.
fn settle(
    stored: &BTreeMap<String, ChunkEntry>,
    prepared: Prepared,
    pack: &mut pack::Builder,
) -> Result<(Meta, BTreeMap<String, ChunkEntry>), SnapshotError> {
    let epoch = prepared.meta.epoch;
    let mut chunks = BTreeMap::new();
    for (name, chunk) in prepared.chunks {
        let entry = match (chunk.content, stored.get(&name)) {
            (Some(content), before) => match before.filter(|before| is_same(before, &content)) {
                Some(before) => ChunkEntry {
                    stamp: chunk.stamp,
                    ..before.clone()
                },
                None => pack.add(chunk.stamp, &content),
            },
            (None, Some(before)) if before.stamp == chunk.stamp => before.clone(),
            (None, _) => return Err(SnapshotError::Broken { epoch, chunk: name }),
        };
        chunks.insert(name, entry);
    }
    Ok((prepared.meta, chunks))
}

fn is_same(entry: &ChunkEntry, content: &[u8]) -> bool {
    entry.len == content.len() as u64 && blake3::hash(content).to_hex().as_str() == entry.hash
}

fn packs_of(chunks: &BTreeMap<String, ChunkEntry>) -> BTreeSet<u64> {
    chunks.values().map(|entry| entry.pack).collect()
}

fn stamps_of(chunks: &BTreeMap<String, ChunkEntry>) -> HashMap<String, u64> {
    chunks.iter().map(|(name, entry)| (name.clone(), entry.stamp)).collect()
}

/// A thread that panicked while it held the lock left values that are sound: each is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
