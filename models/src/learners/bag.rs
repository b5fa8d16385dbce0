//! What ensembles of trees share that see each row a random number of times: who counts a row how often, new trees and
//! their place in the state, and what the trees say together.

use std::sync::Arc;

use driftmill_config::{Field, Kind, Need, Problems, Section};

use super::settings::whole;
use super::tree::{Tree, TreeSettings};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Fact;
use crate::random::{derived, of_row, poisson, sample};
use crate::scorers::trees::Combination;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource};

/// How often a row counts in a tree, on average (Bifet, Holmes and Pfahringer 2010; Gomes et al. 2017).
const COUNT_MEAN: f64 = 6.0;
/// Branches of seeds of the trees and of their inputs; those of the counts are the places of the trees.
const TREES_SEED: u64 = u64::MAX;
const PATCHES: u64 = u64::MAX - 1;
/// Trees in an ensemble, at most.
const TREES_MAX: u64 = 1_000;

/// The key of their number.
pub(super) const TREES: Field = Field {
    name: "trees",
    kind: Kind::Integer,
    need: Need::Optional("10"),
    doc: "Trees, from 1 to 1000. Time grows with them, and each has an equal share of the memory.",
};

/// Reads the field above.
pub(super) fn read_trees(section: &Section<'_>, problems: &mut Problems) -> usize {
    whole(section, "trees", 10, 1..=TREES_MAX, problems) as usize
}

/// Draws in vain after which a patch may be one that there already is.
const DRAWS_MAX: usize = 100;

/// Random inputs for each tree.
struct Patches {
    /// Inputs of a tree.
    inputs: usize,
    /// Those of the trees that were planted first, sorted, all different if there are as many ways to draw them.
    first: Vec<Arc<[u32]>>,
    /// Bytes of a tree that has seen nothing, at most, whatever its inputs are.
    tree_bytes: usize,
}

impl Patches {
    fn new(settings: &TreeSettings, inputs: usize, trees: usize) -> Self {
        let mut widest = settings.clone();
        widest.subspace = Some(inputs);
        let mut patches = Self {
            inputs,
            first: Vec::with_capacity(trees),
            tree_bytes: Tree::new(Arc::new(widest)).bytes(),
        };
        let (mut draw, mut fruitless) = (0, 0);
        while patches.first.len() < trees {
            let drawn = patches.draw(settings, u64::MAX - draw);
            draw += 1;
            // Once there seems to be no other one, there is no more looking for it.
            if fruitless > DRAWS_MAX {
                patches.first.push(drawn);
            } else if patches.first.contains(&drawn) {
                fruitless += 1;
            } else {
                patches.first.push(drawn);
                fruitless = 0;
            }
        }
        patches
    }

    /// The inputs of draw `number`.
    fn draw(&self, settings: &TreeSettings, number: u64) -> Arc<[u32]> {
        let all = (0..settings.inputs.len() as u32).collect();
        sample(all, self.inputs, &mut of_row(derived(settings.seed, PATCHES), number)).into()
    }

    /// The inputs of the tree of a serial.
    fn of(&self, settings: &TreeSettings, serial: u64) -> Arc<[u32]> {
        match self.first.get(serial as usize) {
            Some(first) => Arc::clone(first),
            None => self.draw(settings, serial),
        }
    }
}

/// What is common to all trees.
pub(super) struct Bag {
    settings: TreeSettings,
    /// What each tree looks at; all inputs if `None`.
    patches: Option<Patches>,
    /// Rows that were learned.
    pub(super) rows: u64,
    /// Trees that were ever planted: the serial of the next one.
    planted: u64,
    /// What the last tree said, and the sums over all trees with the sum of their weights.
    pub(super) said: Vec<f64>,
    sums: Vec<f64>,
    weight: f64,
}

impl Bag {
    /// Trees of these settings.
    pub(super) fn new(settings: TreeSettings) -> Self {
        let classes = settings.classes;
        Self {
            settings,
            patches: None,
            rows: 0,
            planted: 0,
            said: vec![0.0; classes],
            sums: vec![0.0; classes],
            weight: 0.0,
        }
    }

    /// The same, `trees` at a time, each of which looks at so many inputs, drawn at random.
    pub(super) fn of_patches(settings: TreeSettings, inputs: usize, trees: usize) -> Self {
        let patches = Patches::new(&settings, inputs, trees);
        Self {
            patches: Some(patches),
            ..Self::new(settings)
        }
    }

    /// Bytes of the patches; trees count for themselves.
    pub(super) fn bytes(&self) -> usize {
        // Of each tree: the list here, and what its leaves share.
        let bytes = |patches: &Patches| patches.first.len() * 2 * (size_of::<Arc<[u32]>>() + 16 + 4 * patches.inputs);
        self.patches.as_ref().map_or(0, bytes)
    }

    /// Bytes that every tree may need from the start.
    pub(super) fn tree_bytes_least(&self) -> usize {
        self.patches.as_ref().map_or(0, |patches| patches.tree_bytes)
    }

    pub(super) fn classes(&self) -> usize {
        self.settings.classes
    }

    /// How often the present row counts in the tree at place `member`: a function of the seed and the row's number, so
    /// that there is no generator to save.
    #[inline]
    pub(super) fn count(&self, member: usize) -> u32 {
        poisson(
            COUNT_MEAN,
            &mut of_row(derived(self.settings.seed, member as u64), self.rows),
        )
    }

    fn tree(&self, serial: u64) -> Tree {
        let mut settings = self.settings.clone();
        settings.places = self.patches.as_ref().map(|patches| patches.of(&self.settings, serial));
        // Another branch of seeds than that of the counts.
        settings.seed = derived(derived(settings.seed, TREES_SEED), serial);
        Tree::new(Arc::new(settings))
    }

    /// A tree that has seen nothing, and its serial, which is never given twice.
    pub(super) fn plant(&mut self) -> (u64, Tree) {
        let serial = self.planted;
        self.planted += 1;
        (serial, self.tree(serial))
    }

    /// Puts what a tree says to `said`; then the tree learns the row so many times.
    #[inline]
    pub(super) fn learn(&mut self, tree: &mut Tree, row: &[f64], class: usize, weight: f64, count: u32) {
        match count {
            0 => tree.predict_into(row, &mut self.said),
            count => tree.predict_then_learn(row, class, weight * f64::from(count), &mut self.said),
        }
    }

    /// Before the first tree speaks.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.sums.fill(0.0);
        self.weight = 0.0;
    }

    /// Adds what was `said`, to the bit as the scorer does.
    #[inline]
    pub(super) fn add(&mut self, weight: f64) {
        Combination::Mean.add(weight, &self.said, &mut self.sums);
        self.weight += weight;
    }

    /// Writes what the trees say together.
    #[inline]
    pub(super) fn finish(&mut self, out: &mut [f64]) {
        // Before the first row nothing was published that would have to be met to the bit: all are exactly equal.
        let weight = if self.rows == 0 { 0.0 } else { self.weight };
        Combination::finish(&mut self.sums, weight);
        out.copy_from_slice(&self.sums);
    }

    /// Appends what is state.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.rows);
        out.put_u64(self.planted);
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), CodecError> {
        (self.rows, self.planted) = (reader.u64()?, reader.u64()?);
        Ok(())
    }

    /// Gives the tree of a serial back.
    pub(super) fn restore_tree(&self, serial: u64, chunks: &dyn ChunkSource) -> Result<Tree, StateError> {
        let prefix = tree_prefix(serial);
        let mut tree = self.tree(serial);
        tree.restore(&WithinSource::new(&prefix, chunks))
            .map_err(|error| error.within(&prefix))?;
        Ok(tree)
    }
}

fn tree_prefix(serial: u64) -> String {
    format!("tree/{serial:09}/")
}

/// Offers the chunks of a tree.
pub(super) fn save_tree(serial: u64, tree: &Tree, chunks: &mut dyn ChunkVisitor) {
    tree.save(&mut Within::new(&tree_prefix(serial), chunks));
}

/// Tells how large the trees are together.
pub(super) fn report_leaves<'a>(trees: impl Iterator<Item = &'a Tree>, each: &mut dyn FnMut(Fact<'_>)) {
    let (mut leaves, mut inactive, mut depth) = (0, 0, 0);
    for tree in trees {
        let own = tree.census();
        leaves += own.0;
        inactive += own.1;
        depth = depth.max(own.2);
    }
    for (name, value) in [("leaves", leaves), ("leaves_inactive", inactive), ("depth", depth)] {
        each(Fact {
            name,
            of: "",
            value: value as f64,
        });
    }
}
