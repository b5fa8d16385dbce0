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
