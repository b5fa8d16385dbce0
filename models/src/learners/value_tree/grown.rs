//! A tree that grows: rows and pulls in, questions and leaves out.

use std::sync::Arc;

use super::edges::{Edges, bins_at_most};
use super::inputs::{Inputs, Moves, Seen};
use super::leaf::{BLOCK, Leaf, LeafBlock, bytes_of};
use super::split::{Candidate, Ranking};
use super::view::View;
use super::{Pull, ValueSettings};
use crate::learners::tree::{Node, Shape, Step};
use crate::random::{derived, of_row, sample};

/// Bytes of a block behind its `Arc`, without what its leaves hold, and of the two places that the list of blocks may have
/// for it.
const BLOCK_BYTES: usize = 4 * size_of::<usize>() + size_of::<LeafBlock>() + BLOCK * size_of::<Leaf>();
/// The branch of seeds of the inputs of leaves.
const LEAVES_SEED: u64 = 1;

/// A tree over encoded rows.
///
/// It uses [`ValueSettings::memory_max`] bytes at most: where a split would need more, leaves that promise less than the one
/// that would split observe no inputs any more. Where there are none, or half of the leaves observe nothing, the tree stays
/// as it is, and leaves that observe nothing and by now promise more observe in place of others.
pub(crate) struct ValueTree {
    pub(super) settings: Arc<ValueSettings>,
    pub(super) shape: Arc<Shape>,
    /// When the nodes were changed last.
    pub(super) shaped: u64,
    pub(super) leaves: Vec<Arc<LeafBlock>>,
    pub(super) leaf_count: usize,
    /// Leaves that were ever made.
    pub(super) born: u64,
    /// Bytes of a leaf besides itself: one that observes, and one that does not; how many leaves observe.
    pub(super) leaf_bytes: (usize, usize),
    pub(super) active: usize,
    /// The inputs that each leaf looks at; those of the tree where all look at the same.
    pub(super) places: Vec<Arc<[u32]>>,
    tree_places: Arc<[u32]>,
}

impl ValueTree {
    /// A tree of one leaf that has seen nothing; `now` is the number of rows of the ensemble, the stamp of what changes.
    pub(crate) fn new(settings: Arc<ValueSettings>, inputs: &Inputs, now: u64) -> Self {
        let all: Vec<u32> = (0..settings.inputs.len() as u32).collect();
        let tree_places = match settings.tree_inputs {
            Some(count) => sample(all, count, &mut of_row(settings.seed, 0)),
            None => all,
        };
        let bins = inputs.bins();
        let mut tree = Self {
            leaf_bytes: (bytes_of(&settings, bins), bytes_of(&settings, 0)),
            settings,
            shape: Arc::new(Shape {
                nodes: vec![Node::leaf(0)],
            }),
            shaped: now,
            leaves: vec![],
            leaf_count: 0,
            born: 0,
            active: 0,
            places: vec![],
            tree_places: tree_places.into(),
        };
        tree.push_leaf(&[], None, bins, now);
        tree
    }

    /// Bytes that every tree of such settings must have.
    fn bytes_least(&self) -> usize {
        let bins = bins_at_most(&self.settings.inputs, self.settings.bins_max);
        self.bytes_of(1, bytes_of(&self.settings, bins))
    }

    /// Bytes of so many leaves that have `heap` bytes together besides themselves.
    fn bytes_of(&self, leaves: usize, heap: usize) -> usize {
        // Vectors may hold twice what they need.
        let nodes = 2 * leaves * 2 * size_of::<Node>();
        let own = if self.settings.leaf_inputs.is_some() {
            16 + 4 * self.tree_places.len()
        } else {
            0
        };
        let places = leaves * (2 * size_of::<Arc<[u32]>>() + own) + 4 * self.tree_places.len();
        size_of::<Self>() + size_of::<ValueSettings>() + nodes + places + leaves.div_ceil(BLOCK) * BLOCK_BYTES + heap
    }

    fn heap(&self) -> usize {
        self.active * self.leaf_bytes.0 + (self.leaf_count - self.active) * self.leaf_bytes.1
    }

    /// Bytes of memory; what was published is not among them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes_of(self.leaf_count, self.heap()).max(self.bytes_least())
    }

    pub(super) fn leaf(&self, slot: u32) -> Option<&Leaf> {
        let slot = slot as usize;
        self.leaves.get(slot / BLOCK)?.leaves.get(slot % BLOCK)
    }

    fn leaf_mut(&mut self, slot: u32, now: u64) -> Option<&mut Leaf> {
        let slot = slot as usize;
        let block = Arc::make_mut(self.leaves.get_mut(slot / BLOCK)?);
        block.changed = now;
        block.leaves.get_mut(slot % BLOCK)
    }

    /// Writes the values of the leaf of a row.
    #[inline]
    pub(crate) fn predict_into(&self, seen: Seen<'_>, out: &mut [f64]) {
        if let Some(leaf) = self.leaf(self.shape.slot(seen.row)) {
            leaf.predict_into(&self.settings, seen.scaled, out);
        }
    }

    /// Learns a row: the one at which `inputs` looked last.
    #[inline]
    pub(crate) fn learn(&mut self, seen: Seen<'_>, pull: Pull<'_>, inputs: &Inputs, now: u64) {
        let slot = self.shape.slot(seen.row) as usize;
        let Some(block) = self.leaves.get_mut(slot / BLOCK) else {
            return;
        };
        let block = Arc::make_mut(block);
        block.changed = now;
        let (Some(leaf), Some(places)) = (block.leaves.get_mut(slot % BLOCK), self.places.get(slot)) else {
            return;
        };
        if leaf.learn(&self.settings, seen, pull, places) {
            self.attempt(seen.row, inputs.edges(), now);
        }
    }

    /// Splits the leaf of a row if Hoeffding's bound says that its best question is the best one.
    fn attempt(&mut self, row: &[f64], edges: &Edges, now: u64) {
        let at = self.shape.leaf_node(row);
        let Step::Leaf(slot) = self.shape.nodes[at].step() else {
            return;
        };
        let Some(leaf) = self.leaf(slot) else { return };
        let ranking = Ranking::of(leaf, &self.places[slot as usize], edges, &self.settings);
        let Some(candidate) = ranking.decide(leaf, &self.settings) else {
            return;
        };
        let promise = leaf.promise();
        if self.make_room(slot, promise, edges.bins(), now) {
            self.split(at, slot, &candidate, edges.bins(), now);
        }
    }

    /// The left child takes the place of the leaf that is split.
    fn split(&mut self, at: usize, slot: u32, candidate: &Candidate, bins: usize, now: u64) {
        let Some(parent) = self.leaf(slot).cloned() else { return };
        let right = self.push_leaf(&candidate.right, Some(&parent), bins, now);
        let left = Leaf::new(&self.settings, self.born, &candidate.left, Some(&parent), bins);
        self.places[slot as usize] = self.places_of(self.born);
        self.born += 1;
        if let Some(leaf) = self.leaf_mut(slot, now) {
            *leaf = left;
        }
        let shape = Arc::make_mut(&mut self.shape);
        let next = shape.nodes.len() as u32;
        shape.nodes.extend([Node::leaf(slot), Node::leaf(right)]);
        shape.nodes[at] = Node::split(candidate.question, candidate.missing_left, next);
        self.shaped = now;
    }

    /// Makes a leaf behind the others.
    fn push_leaf(&mut self, sums: &[f64], parent: Option<&Leaf>, bins: usize, now: u64) -> u32 {
        let leaf = Leaf::new(&self.settings, self.born, sums, parent, bins);
        if self.leaf_count.is_multiple_of(BLOCK) {
            self.leaves.push(Arc::default());
        }
        if let Some(block) = self.leaves.last_mut() {
            let block = Arc::make_mut(block);
            block.changed = now;
            block.leaves.reserve_exact(BLOCK - block.leaves.len());
            block.leaves.push(leaf);
        }
        self.places.push(self.places_of(self.born));
        self.born += 1;
        self.active += 1;
        self.leaf_count += 1;
        self.leaf_count as u32 - 1
    }

    /// The inputs that a leaf looks at: a function of when it was born, so that they need not be saved.
    pub(super) fn places_of(&self, born: u64) -> Arc<[u32]> {
        match self
            .settings
            .leaf_inputs
            .filter(|count| *count < self.tree_places.len())
        {
            Some(count) => {
                let seed = derived(self.settings.seed, LEAVES_SEED);
                sample(self.tree_places.to_vec(), count, &mut of_row(seed, born)).into()
            }
            None => Arc::clone(&self.tree_places),
        }
    }

    /// Makes room for one leaf more, on the cost of leaves that promise less than `promise`.
    fn make_room(&mut self, slot: u32, promise: f64, bins: usize, now: u64) -> bool {
        while self.bytes_of(self.leaf_count + 1, self.heap() + self.leaf_bytes.0) > self.settings.memory_max {
            let least = self.least_promising(Some(slot), promise);
            let Some(least) = least.filter(|_| 2 * self.active > self.leaf_count) else {
                self.rebalance(bins, now);
                return false;
            };
            self.deactivate(least, now);
        }
        true
    }

    fn deactivate(&mut self, slot: u32, now: u64) {
        if let Some(leaf) = self.leaf_mut(slot, now) {
            leaf.deactivate();
            self.active -= 1;
        }
    }

    /// Where memory is full: a leaf that observes nothing observes again in place of one that promises less than half as
    /// much.
    fn rebalance(&mut self, bins: usize, now: u64) {
        let mut most: Option<(u32, f64)> = None;
        for (slot, leaf) in self.each_leaf().filter(|(_, leaf)| !leaf.is_active()) {
            if most.is_none_or(|(_, other)| leaf.promise() > other) {
                most = Some((slot, leaf.promise()));
            }
        }
        let Some((most, promise)) = most else { return };
        let Some(least) = self.least_promising(None, promise / 2.0) else {
            return;
        };
        self.deactivate(least, now);
        if let Some(leaf) = self.leaf_mut(most, now) {
            leaf.activate(bins);
            self.active += 1;
        }
    }

    fn each_leaf(&self) -> impl Iterator<Item = (u32, &Leaf)> {
        (0..).zip(self.leaves.iter().flat_map(|block| block.leaves.iter()))
    }

    /// The leaf that observes and promises least, less than `promise`.
    fn least_promising(&self, except: Option<u32>, promise: f64) -> Option<u32> {
        let mut least: Option<(u32, f64)> = None;
        for (slot, leaf) in self
            .each_leaf()
            .filter(|(slot, leaf)| leaf.is_active() && Some(*slot) != except)
        {
            let own = leaf.promise();
            if own < promise && least.is_none_or(|(_, other)| own < other) {
                least = Some((slot, own));
            }
        }
        least.map(|(slot, _)| slot)
    }

    /// Moves what the leaves have counted to other bins, of which there may be more.
    pub(crate) fn move_bins(&mut self, moves: &Moves, now: u64) {
        self.leaf_bytes.0 = bytes_of(&self.settings, moves.bins);
        while self.active > 0 && self.bytes_of(self.leaf_count, self.heap()) > self.settings.memory_max {
            let Some(least) = self.least_promising(None, f64::INFINITY) else {
                break;
            };
            self.deactivate(least, now);
        }
        for block in &mut self.leaves {
            if block.leaves.iter().any(Leaf::is_active) {
                let block = Arc::make_mut(block);
                block.changed = now;
                block.leaves.iter_mut().for_each(|leaf| leaf.move_bins(moves));
            }
        }
    }

    /// What the tree is now: it shares everything with it.
    pub(crate) fn publish(&self) -> Arc<View> {
        let (settings, shape) = (Arc::clone(&self.settings), Arc::clone(&self.shape));
        Arc::new(View::new(settings, shape, self.leaves.clone()))
    }

    /// Leaves, those that observe no inputs, and how deep the deepest stands.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let mut deepest = 0;
        self.shape.visit(&mut |_, _, depth| deepest = deepest.max(depth));
        (self.leaf_count, self.leaf_count - self.active, deepest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LeafRule;
    use super::*;
    use crate::contracts::Input;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::random::uniform;
    use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource};

    /// A tree and what is known of its inputs, as an ensemble has them.
    struct Bed {
        inputs: Inputs,
        tree: ValueTree,
        rows: u64,
    }

    impl Bed {
        fn new(settings: &ValueSettings) -> Self {
            let inputs = Inputs::new(settings, 1 << 20);
            let tree = ValueTree::new(Arc::new(settings.clone()), &inputs, 0);
            Self { inputs, tree, rows: 0 }
        }

        fn learn(&mut self, row: &[f64], pulls: &[(f64, f64)]) {
            self.rows += 1;
            self.inputs.look_to_learn(row);
            let pull = Pull { weight: 1.0, pulls };
            self.tree.learn(self.inputs.seen(row), pull, &self.inputs, self.rows);
            if let Some(moves) = self.inputs.learn(row) {
                self.tree.move_bins(&moves, self.rows);
            }
        }

        fn said(&mut self, row: &[f64]) -> f64 {
            let mut out = [f64::NAN];
            self.inputs.look(row);
            self.tree.predict_into(self.inputs.seen(row), &mut out);
            out[0]
        }
    }

    impl State for Bed {
        fn save(&self, chunks: &mut dyn ChunkVisitor) {
            self.inputs.save(&mut Within::new("inputs/", chunks));
            self.tree.save(chunks);
        }

        fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
            self.inputs.restore(&WithinSource::new("inputs/", chunks))?;
            self.tree.restore(&self.inputs, chunks)
        }
    }

    fn settings(leaf: LeafRule) -> ValueSettings {
        let kinds = [Input::Number, Input::Number, Input::Category { codes: 4 }];
        let mut settings = ValueSettings::new(1, kinds.into(), 7, 1 << 20);
        (settings.leaf, settings.grace, settings.delta) = (leaf, 50.0, 0.01);
        settings
    }

    /// 5 where the first number is above 0.5, except in category 3, where it is 10 if the second one is missing.
    fn row(number: u64) -> ([f64; 3], f64) {
        let random = &mut of_row(3, number);
        let mut row = [uniform(random), uniform(random), (uniform(random) * 4.0).floor()];
        if number.is_multiple_of(3) {
            row[1] = f64::NAN;
        }
        let value = match (row[2] == 3.0, row[1].is_nan(), row[0] > 0.5) {
            (true, true, _) => 10.0,
            (true, false, _) | (false, _, false) => 0.0,
            (false, _, true) => 5.0,
        };
        (row, value + uniform(random) - 0.5)
    }

    fn grown(settings: &ValueSettings, rows: u64) -> Bed {
        let mut bed = Bed::new(settings);
        for number in 0..rows {
            let (row, value) = row(number);
            bed.learn(&row, &[(1.0, value)]);
        }
        bed
    }

    #[test]
    fn it_finds_the_questions_of_a_known_stream() {
        let mut bed = grown(&settings(LeafRule::Mean), 6_000);
        let asked = |place| {
            let nodes = bed.tree.shape.nodes.iter();
            nodes
                .filter_map(|node| node.question())
                .any(|question| question.place() == place)
        };
        assert!((0..3).all(asked), "{:?}", bed.tree.shape);
        let errors = (100_000..101_000).map(|number| {
            let (row, value) = row(number);
            (bed.said(&row) - value).powi(2)
        });
        let error = errors.sum::<f64>() / 1_000.0;
        // The noise has a variance of 1/12; a threshold is right to a bin.
        assert!(error < 0.5, "{error}, seed 3");
    }

    #[test]
    fn chance_splits_nothing() {
        let mut bed = Bed::new(&settings(LeafRule::Mean));
        for number in 0..20_000 {
            let random = &mut of_row(4, number);
            bed.learn(&[uniform(random), uniform(random), 1.0], &[(1.0, uniform(random))]);
        }
        assert!(bed.tree.leaf_count < 5, "{} leaves, seed 4", bed.tree.leaf_count);
    }

    #[test]
    fn a_leaf_answers_by_its_linear_model_where_that_is_better() {
        let mut rules = [LeafRule::Mean, LeafRule::Linear, LeafRule::Adaptive].map(|leaf| {
            let mut settings = settings(leaf);
            settings.grace = 1e9;
            Bed::new(&settings)
        });
        let mut errors = [0.0; 3];
        for number in 0..4_000 {
            let random = &mut of_row(5, number);
            let row = [1e6 * uniform(random), 1e-3 * uniform(random), 0.0];
            let value = 3e-6 * row[0] - 2e3 * row[1] + 100.0;
            for (bed, error) in rules.iter_mut().zip(&mut errors) {
                if number >= 3_000 {
                    *error += (bed.said(&row) - value).powi(2) / 1_000.0;
                }
                bed.learn(&row, &[(1.0, value)]);
            }
        }
        let [mean, linear, adaptive] = errors;
        assert!(mean > 0.5 && linear < 0.01 && adaptive == linear, "{errors:?}, seed 5");
    }

    #[test]
    fn several_outputs_share_their_questions() {
        let mut settings = settings(LeafRule::Mean);
        settings.outputs = 2;
        let mut bed = Bed::new(&settings);
        for number in 0..3_000 {
            let (row, value) = row(number);
            bed.learn(&row, &[(1.0, value), (2.0, -2.0 * value)]);
        }
        let mut out = [0.0; 2];
        let row = [0.9, 0.3, 0.0];
        bed.inputs.look(&row);
        bed.tree.predict_into(bed.inputs.seen(&row), &mut out);
        assert!(
            (out[0] - 5.0).abs() < 0.5 && (out[0] + out[1]).abs() < 1e-9,
            "{out:?}, seed 3"
        );
    }

    #[test]
    fn what_is_published_says_the_same_and_does_not_change() {
        let mut bed = grown(&settings(LeafRule::Adaptive), 3_000);
        let view = bed.tree.publish();
        let mut memory = Memory::default();
        memory.save(&bed);
        let (row, value) = row(3_001);
        let before = bed.said(&row);
        let scaled = bed.inputs.seen(&row).scaled.to_vec();
        bed.learn(&row, &[(1.0, value + 100.0)]);
        memory.save(&bed);
        assert!(memory.written <= 3, "head, what is kept, and a block");
        let mut out = [0.0];
        view.predict_into(&row, &scaled, &mut out);
        assert_eq!(out[0], before);
        assert_ne!(bed.said(&row), before);
    }

    #[test]
    fn restored_it_goes_on_alike_and_damage_is_refused() {
        for leaf in [LeafRule::Adaptive, LeafRule::Recent] {
            let mut settings = settings(leaf);
            settings.leaf_inputs = Some(2);
            let mut bed = grown(&settings, 1_500);
            assert!(bed.tree.leaf_count > 2, "{} leaves, seed 3", bed.tree.leaf_count);
            let mut memory = Memory::default();
            memory.save(&bed);
            let mut restored = Bed::new(&settings);
            restored.restore(&memory).unwrap();
            restored.rows = bed.rows;
            for number in 1_500..4_000 {
                let (row, value) = row(number);
                bed.learn(&row, &[(1.0, value)]);
                restored.learn(&row, &[(1.0, value)]);
            }
            assert_eq!(snapshot(&bed), snapshot(&restored));
            assert_eq!(bed.tree.bytes(), restored.tree.bytes());
            survives_damage(&bed, || Bed::new(&settings));
        }
    }

    #[test]
    fn a_budget_bounds_the_tree_and_the_most_promising_leaves_go_on() {
        let mut settings = settings(LeafRule::Mean);
        settings.tie = 1.0;
        settings.delta = 0.999;
        settings.memory_max = Bed::new(&settings).tree.bytes() + 30_000;
        let mut bed = Bed::new(&settings);
        let (mut before, mut again) = (Vec::new(), 0);
        for number in 0..40_000 {
            let (row, value) = row(number);
            bed.learn(&row, &[(1.0, value + 3.0 * row[0])]);
            assert!(bed.tree.bytes() <= settings.memory_max, "after {number} rows");
            let active = |slot: &u32| bed.tree.leaf(*slot).is_some_and(Leaf::is_active);
            again += before.iter().filter(|slot| active(slot)).count();
            before = (0..bed.tree.leaf_count as u32).filter(|slot| !active(slot)).collect();
        }
        let (leaves, inactive, _) = bed.tree.census();
        assert!(
            inactive > 0 && leaves > inactive,
            "{leaves} leaves, {inactive} observe nothing"
        );
        assert!(again > 0, "no leaf observes again that observed nothing");
        let actual = bed.tree.each_leaf().map(|(_, leaf)| leaf.heap_bytes());
        assert_eq!(actual.sum::<usize>(), bed.tree.heap());
    }
}
