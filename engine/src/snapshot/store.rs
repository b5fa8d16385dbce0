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
mod tests {
    use driftmill_models::state::{ChunkSource, StateError};
    use rand::RngExt;
    use rand_pcg::Pcg64Mcg;

    use super::super::state_hash;
    use super::*;
    use crate::disk::LocalDisk;
    use crate::disk::faulty::FaultyDisk;

    /// Chunks with `(stamp, content)`, and the stamps of those that were dropped, which may come back.
    #[derive(Debug, Clone, Default)]
    struct Toy(BTreeMap<String, (u64, Vec<u8>)>, BTreeMap<String, u64>);

    impl PartialEq for Toy {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl Toy {
        fn new(chunks: usize, bytes: usize) -> Self {
            let chunk = |at| (format!("part/{at:03}"), (1, vec![at as u8; bytes]));
            Self((0..chunks).map(chunk).collect(), BTreeMap::new())
        }

        fn set(&mut self, at: usize, content: Vec<u8>) {
            let name = format!("part/{at:03}");
            let stamp = self.0.get(&name).map(|chunk| chunk.0).or(self.1.remove(&name));
            self.0.insert(name, (stamp.unwrap_or(0) + 1, content));
        }

        /// Changes, adds and drops some chunks.
        fn step(&mut self, random: &mut Pcg64Mcg) {
            for _ in 0..random.random_range(0..4) {
                let content = (0..random.random_range(0..300)).map(|_| random.random()).collect();
                self.set(random.random_range(0..12), content);
            }
            if random.random_range(0..5) == 0 {
                self.1
                    .extend(self.0.pop_first().map(|(name, (stamp, _))| (name, stamp)));
            }
        }
    }

    impl State for Toy {
        fn save(&self, chunks: &mut dyn ChunkVisitor) {
            for (name, (stamp, content)) in &self.0 {
                let mut write = |out: &mut Vec<u8>| {
                    out.extend(stamp.to_le_bytes());
                    out.extend(content);
                };
                chunks.chunk(name, *stamp, &mut write);
            }
        }

        fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
            self.0.clear();
            for name in chunks.names("part/") {
                let bytes = chunks.chunk(&name).ok_or_else(|| StateError::of(&name, "is missing"))?;
                let (stamp, content) = bytes
                    .split_first_chunk()
                    .ok_or_else(|| StateError::of(&name, "is short"))?;
                self.0.insert(name, (u64::from_le_bytes(*stamp), content.to_vec()));
            }
            Ok(())
        }
    }

    fn meta(epoch: u64) -> Meta {
        Meta {
            epoch,
            chain: format!("chain {epoch}"),
            plan: "plan".to_owned(),
            code: "0.1.0".to_owned(),
            time_ms: epoch as i64,
        }
    }

    fn open(dir: &Path) -> SnapshotStore {
        SnapshotStore::open(Arc::new(LocalDisk), dir, "p").unwrap()
    }

    fn take(store: &SnapshotStore, state: &Toy, epoch: u64) -> Result<SnapshotCost, SnapshotError> {
        let prepared = store.prepare(state, meta(epoch)).unwrap();
        store.publish(prepared)
    }

    /// The newest snapshot of a freshly opened folder.
    fn newest(dir: &Path) -> Option<(u64, Toy, usize)> {
        let loaded = open(dir).load_newest().unwrap()?;
        Some((loaded.manifest.epoch, restored(&loaded), loaded.rejected.len()))
    }

    fn restored(loaded: &Loaded) -> Toy {
        let mut state = Toy::default();
        state.restore(&loaded.source).unwrap();
        state
    }

    #[test]
    fn an_empty_folder_has_no_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).load_newest().unwrap().is_none());
    }

    #[test]
    fn a_snapshot_costs_what_changed_before_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(100, 1000));
        let first = take(&store, &state, 1).unwrap();
        assert_eq!(first.total, 100 * 1008);
        assert!(first.written > first.total);
        let none = take(&store, &state, 2).unwrap();
        assert!(none.written < 20_000 && none.total == first.total, "{none:?}");
        state.set(3, vec![9; 1000]);
        let prepared = store.prepare(&state, meta(3)).unwrap();
        assert_eq!((prepared.bytes(), prepared.epoch()), (1008, 3));
        let one = store.publish(prepared).unwrap();
        let beside_manifest = one.written - none.written;
        assert!(beside_manifest.abs_diff(1008 + pack::HEADER) < 20, "{beside_manifest}");
        let store = open(dir.path());
        let loaded = store.load_newest().unwrap().unwrap();
        assert_eq!(
            (loaded.manifest.chain.as_str(), restored(&loaded)),
            ("chain 3", state.clone())
        );
        state.set(4, vec![8; 1000]);
        assert_eq!(store.prepare(&state, meta(4)).unwrap().bytes(), 1008);
        assert_eq!(newest(dir.path()).unwrap(), (3, restored(&loaded), 0));
    }

    #[test]
    fn stamps_of_another_life_are_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let state = Toy::new(3, 10);
        take(&open(dir.path()), &state, 1).unwrap();
        let store = open(dir.path());
        assert_eq!(
            store.prepare(&state, meta(2)).unwrap().bytes(),
            54,
            "not loaded, so all is new"
        );
        store.load_newest().unwrap().unwrap();
        let unchanged = store.prepare(&state, meta(2)).unwrap();
        assert_eq!(unchanged.bytes(), 0);
        store.start_anew();
        assert!(matches!(
            store.publish(unchanged),
            Err(SnapshotError::GivenUp { epoch: 2 })
        ));
        let mut other = Toy::new(3, 10);
        other.0.values_mut().for_each(|(_, content)| content.fill(7));
        take(&store, &other, 2).unwrap();
        assert_eq!(newest(dir.path()).unwrap().1, other);
    }

    #[test]
    fn the_newest_three_are_kept_and_no_pack_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(2, 100));
        for epoch in 1..=9 {
            state.set(0, vec![epoch as u8; 100]);
            take(&store, &state, epoch).unwrap();
        }
        assert_eq!((store.oldest(), store.newest()), (Some(7), Some(9)));
        let names = LocalDisk.names(dir.path()).unwrap();
        let manifests = names.iter().filter(|name| name.ends_with(".manifest")).count();
        assert!(manifests == 3 && names.len() <= 8, "{names:?}");
    }

    #[test]
    fn dead_packs_are_compacted_within_the_budget_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(40, 100_000));
        take(&store, &state, 1).unwrap();
        let mut compacted = 0;
        let mut random = Pcg64Mcg::new(7);
        for epoch in 2..80 {
            for _ in 0..3 {
                state.set(random.random_range(0..39), vec![epoch as u8; 100_000]);
            }
            let cost = take(&store, &state, epoch).unwrap();
            assert!(cost.compacted <= COMPACTION_BYTES_MIN, "epoch {epoch}: {cost:?}");
            compacted += cost.compacted;
        }
        assert!(compacted > 0);
        let on_disk: u64 = LocalDisk
            .names(dir.path())
            .unwrap()
            .iter()
            .map(|name| LocalDisk.len(&dir.path().join(name)).unwrap())
            .sum();
        assert!(on_disk < 3 * 40 * 100_000, "{on_disk}");
        assert_eq!(newest(dir.path()).unwrap(), (79, state, 0));
    }

    #[test]
    fn two_chunks_of_one_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let twice = |chunks: &mut dyn ChunkVisitor| {
            chunks.chunk("a", 1, &mut |_| {});
            chunks.chunk("a", 1, &mut |_| {});
        };
        let refused = open(dir.path()).prepare_with(twice, meta(1)).unwrap_err();
        assert!(refused.to_string().contains("`a`"), "{refused}");
    }

    #[test]
    fn a_snapshot_that_was_dropped_makes_the_next_fail_and_the_one_after_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(5, 50));
        take(&store, &state, 1).unwrap();
        state.set(0, vec![1]);
        drop(store.prepare(&state, meta(2)).unwrap());
        let error = take(&store, &state, 3).unwrap_err();
        assert!(matches!(error, SnapshotError::Broken { epoch: 3, .. }), "{error}");
        take(&store, &state, 4).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), (4, state, 0));
    }

    #[test]
    fn a_folder_of_another_log_or_pipeline_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        take(&open(dir.path()), &Toy::new(1, 1), 10).unwrap();
        let store = open(dir.path());
        let error = take(&store, &Toy::new(1, 1), 5).unwrap_err();
        assert!(
            matches!(
                error,
                SnapshotError::Ahead {
                    epoch: 5,
                    newest: 10,
                    ..
                }
            ),
            "{error}"
        );
        let other = SnapshotStore::open(Arc::new(LocalDisk), dir.path(), "q").unwrap();
        let error = other.load_newest().unwrap_err().to_string();
        assert!(error.contains("belongs to pipeline `p`"), "{error}");
    }

    #[test]
    fn an_older_one_can_be_asked_for_and_the_newer_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(2, 10));
        let mut states = Vec::new();
        for epoch in 1..=3 {
            state.set(1, vec![epoch as u8]);
            take(&store, &state, epoch).unwrap();
            states.push(state.clone());
        }
        let store = open(dir.path());
        assert_eq!(restored(&store.load_older_than(3).unwrap().unwrap()), states[1]);
        states[1].set(0, vec![5]);
        take(&store, &states[1], 3).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), (3, states[1].clone(), 0));
        assert!(store.load_older_than(1).unwrap().is_none());
    }

    #[test]
    fn changed_files_lead_to_an_older_snapshot_or_an_error_never_to_another_state() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(4, 40));
        let mut states = BTreeMap::new();
        for epoch in 1..=3 {
            state.set(epoch as usize, vec![epoch as u8; 60]);
            take(&store, &state, epoch).unwrap();
            states.insert(epoch, state.clone());
        }
        let names = LocalDisk.names(dir.path()).unwrap();
        for seed in 0..1500 {
            let mut random = Pcg64Mcg::new(u128::from(seed as u64));
            let path = dir.path().join(&names[random.random_range(0..names.len())]);
            let whole = LocalDisk.read(&path).unwrap();
            let mut bytes = whole.clone();
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] ^= 1 << random.random_range(0..8),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, random.random()),
                _ => bytes.clear(),
            }
            LocalDisk.write(&path, &bytes).unwrap();
            match open(dir.path()).load_newest() {
                Ok(loaded) => {
                    let loaded = loaded.unwrap();
                    assert_eq!(restored(&loaded), states[&loaded.manifest.epoch], "seed {seed}");
                    assert_eq!(loaded.rejected.len() as u64, 3 - loaded.manifest.epoch, "seed {seed}");
                }
                Err(error) => assert!(
                    matches!(error, SnapshotError::AllRejected { .. }),
                    "seed {seed}: {error}"
                ),
            }
            LocalDisk.write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn a_damaged_chunk_that_should_move_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut state) = (open(dir.path()), Toy::new(10, 1000));
        take(&store, &state, 1).unwrap();
        let path = dir.path().join(pack::name(1));
        let mut bytes = LocalDisk.read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        LocalDisk.write(&path, &bytes).unwrap();
        (0..9).for_each(|at| state.set(at, vec![1; 10]));
        let error = take(&store, &state, 2).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::Damaged { chunk, .. } if chunk == "part/009"),
            "{error}"
        );
        take(&store, &state, 3).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), (3, state, 0));
    }

    /// Ten snapshots, two prepared ahead of their publishing, on a disk that fails; returns all states and the
    /// last epoch that was published.
    fn many(disk: Arc<dyn Disk>, dir: &Path, seed: u64) -> (BTreeMap<u64, Toy>, u64, usize) {
        let mut random = Pcg64Mcg::new(u128::from(seed));
        let store = SnapshotStore::open(disk, dir, "p").unwrap();
        let (mut state, mut states) = (Toy::new(6, 200), BTreeMap::new());
        let (mut published, mut failed, mut waiting) = (0, 0, Vec::new());
        for epoch in 1..=10 {
            state.step(&mut random);
            states.insert(epoch, state.clone());
            waiting.push(store.prepare(&state, meta(epoch)).unwrap());
            if waiting.len() < 2 && epoch < 10 {
                continue;
            }
            for prepared in waiting.drain(..) {
                let epoch = prepared.epoch();
                match store.publish(prepared) {
                    Ok(_) => published = epoch,
                    Err(_) => failed += 1,
                }
            }
        }
        (states, published, failed)
    }

    #[test]
    fn a_process_that_dies_anywhere_leaves_the_old_or_the_new_snapshot() {
        for at in 0..70 {
            for round in 0..4 {
                let (dir, seed) = (tempfile::tempdir().unwrap(), at as u64 * 10 + round);
                let disk = Arc::new(FaultyDisk::stopping_at(at, seed));
                let (states, published, _) = many(disk, dir.path(), seed);
                match newest(dir.path()) {
                    Some((epoch, state, rejected)) => {
                        assert!(epoch >= published && rejected == 0, "seed {seed}");
                        assert_eq!(state, states[&epoch], "seed {seed}");
                    }
                    None => assert_eq!(published, 0, "seed {seed}"),
                }
                let (store, mut state) = (open(dir.path()), Toy::default());
                let from = store.load_newest().unwrap().map_or(0, |loaded| {
                    state = restored(&loaded);
                    loaded.manifest.epoch
                });
                state.step(&mut Pcg64Mcg::new(u128::from(seed)));
                take(&store, &state, from + 1).unwrap();
                assert_eq!(newest(dir.path()).unwrap(), (from + 1, state, 0), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_disk_that_fails_once_costs_at_most_the_snapshots_in_flight() {
        for at in 0..40 {
            let (dir, seed) = (tempfile::tempdir().unwrap(), at as u64);
            let disk = Arc::new(FaultyDisk::failing_once_at(at, seed));
            let (states, published, failed) = many(disk, dir.path(), seed);
            assert!(failed <= 2, "seed {seed}: {failed}");
            let (epoch, state, rejected) = newest(dir.path()).unwrap();
            assert!(epoch >= published && rejected == 0, "seed {seed}");
            assert_eq!(state, states[&epoch], "seed {seed}");
        }
    }

    #[test]
    fn a_state_hash_is_of_names_and_contents_only() {
        let mut state = Toy::new(3, 10);
        struct Order(bool, u64);
        impl State for Order {
            fn save(&self, chunks: &mut dyn ChunkVisitor) {
                let names = if self.0 { ["a", "b"] } else { ["b", "a"] };
                for name in names {
                    chunks.chunk(name, self.1, &mut |out: &mut Vec<u8>| out.extend(name.as_bytes()));
                }
            }
            fn restore(&mut self, _: &dyn ChunkSource) -> Result<(), StateError> {
                Ok(())
            }
        }
        assert_eq!(state_hash(&Order(true, 1)), state_hash(&Order(false, 9)));
        let before = state_hash(&state);
        assert_eq!(before, state_hash(&state.clone()));
        state.set(1, vec![3; 10]);
        assert_ne!(before, state_hash(&state));
    }
}
