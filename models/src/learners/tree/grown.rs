//! A tree that grows: rows in, questions and leaves out.

use std::sync::Arc;

use super::TreeSettings;
use super::leaf::{BLOCK, Leaf, LeafBlock, Places};
use super::node::{Node, Shape, Step};
use super::split::{Candidate, Ranking, entropy_max, hoeffding_bound, sides};
use super::view::{Scratch, View};
use crate::contracts::Input;
use crate::random::{of_row, sample};

/// No leaf.
pub(super) const NONE: u32 = u32::MAX;
/// Nodes that share a chunk of the state.
pub(super) const GROUP: usize = 128;
/// Bytes of a block behind its `Arc`, without what its leaves hold, and of the two places that the list of blocks may have
/// for it.
const BLOCK_BYTES: usize = 4 * size_of::<usize>() + size_of::<LeafBlock>() + BLOCK * size_of::<Option<Leaf>>();

/// A tree over encoded rows, each as wide as its inputs.
///
/// It uses [`TreeSettings::memory_max`] bytes at most: where a split would need more, the leaves that promise least go
/// on counting classes only. Where none promises less than the one that would split, or half of the leaves only count,
/// the tree stays as it is, and leaves that only count and by now promise more observe in place of others.
pub(crate) struct Tree {
    pub(super) settings: Arc<TreeSettings>,
    pub(super) shape: Arc<Shape>,
    /// For each node the place of what it goes on counting after it was split, or [`NONE`].
    pub(super) kept: Vec<u32>,
    /// When a group of nodes was changed last.
    pub(super) groups: Vec<u64>,
    pub(super) leaves: Vec<Arc<LeafBlock>>,
    /// Places of leaves and pairs of nodes that may be used again, the first ones last.
    pub(super) free_slots: Vec<u32>,
    pub(super) free_pairs: Vec<u32>,
    /// Rows that were learned: the stamp of what changes.
    pub(super) clock: u64,
    /// Leaves that were ever made.
    pub(super) born: u64,
    /// What a leaf looks at that looks at everything.
    pub(super) shared: Arc<Places>,
    /// Bytes of a leaf besides itself: one that observes, and one that counts classes.
    pub(super) leaf_bytes: (usize, usize),
    /// Bytes of all leaves besides themselves.
    pub(super) heap: usize,
    scratch: Scratch,
}

impl Tree {
    /// A tree of one leaf that has seen nothing.
    pub(crate) fn new(settings: Arc<TreeSettings>) -> Self {
        let pool = match &settings.places {
            Some(places) => Places::of(&settings.inputs, places.iter().copied()),
            None => Places::of(&settings.inputs, 0..settings.inputs.len() as u32),
        };
        let mut tree = Self {
            leaf_bytes: leaf_bytes(&settings, &pool),
            settings,
            shape: Arc::default(),
            kept: vec![],
            groups: vec![],
            leaves: vec![],
            free_slots: vec![],
            free_pairs: vec![],
            clock: 0,
            born: 0,
            shared: Arc::new(pool),
            heap: 0,
            scratch: Scratch::default(),
        };
        let root = tree.new_leaf(&vec![0.0; tree.settings.classes]);
        tree.push_node(Node::leaf(root));
        tree
    }

    pub(crate) fn settings(&self) -> &TreeSettings {
        &self.settings
    }

    /// Rows learned.
    pub(crate) fn seen(&self) -> u64 {
        self.clock
    }

    /// Counts a row that is learned by parts ([`Tree::learn_at`], [`Tree::attempt`]).
    pub(crate) fn tick(&mut self) {
        self.clock += 1;
    }

    pub(crate) fn node(&self, at: usize) -> Node {
        self.shape.nodes[at]
    }

    /// Nodes, those that cannot be reached too.
    pub(crate) fn nodes(&self) -> usize {
        self.shape.nodes.len()
    }

    /// Bytes of memory; what was published is not among them.
    pub(crate) fn bytes(&self) -> usize {
        // Vectors may hold twice what they need.
        let node = 2 * (size_of::<Node>() + size_of::<u32>()) + self.settings.node_bytes;
        size_of::<Self>()
            + self.shape.nodes.len() * node
            + self.groups.len() * 16
            + self.leaves.len() * BLOCK_BYTES
            + self.heap
    }

    /// Writes the probability of each class to `out`, which holds as many numbers as there are classes.
    pub(crate) fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        let slot = self.shape.slot(row) as usize;
        if let Some(Some(leaf)) = self.leaves[slot / BLOCK].leaves.get(slot % BLOCK) {
            leaf.predict_into(row, out, &mut self.scratch);
        }
    }

    /// Learns a row of a class. The weight, above 0, is how often the row counts.
    pub(crate) fn learn(&mut self, row: &[f64], class: usize, weight: f64) {
        self.step(row, class, weight, None);
    }

    /// Does what [`Tree::predict_into`] and then [`Tree::learn`] do, in one walk.
    pub(crate) fn predict_then_learn(&mut self, row: &[f64], class: usize, weight: f64, out: &mut [f64]) {
        self.step(row, class, weight, Some(out));
    }

    fn step(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        self.clock += 1;
        let slot = self.shape.slot(row);
        if self.learn_at(slot, row, class, weight, out) {
            self.attempt(self.shape.leaf_node(row));
        }
    }

    /// Predicts and learns in one leaf; whether it may try to split now.
    pub(crate) fn learn_at(
        &mut self,
        slot: u32,
        row: &[f64],
        class: usize,
        weight: f64,
        out: Option<&mut [f64]>,
    ) -> bool {
        let block = Arc::make_mut(&mut self.leaves[slot as usize / BLOCK]);
        block.changed = self.clock;
        let Some(Some(leaf)) = block.leaves.get_mut(slot as usize % BLOCK) else {
            return false;
        };
        leaf.learn(row, class, weight, out, &mut self.scratch);
        let due = leaf.observed() - leaf.attempted >= self.settings.grace && leaf.is_active();
        if due {
            leaf.attempted = leaf.observed();
        }
        due
    }

    /// Splits the leaf at node `at` if Hoeffding's bound says that its best question is the best one.
    pub(crate) fn attempt(&mut self, at: usize) -> bool {
        let Some(leaf) = self.leaf_of(at).filter(|leaf| leaf.promise() > 0.0) else {
            return false;
        };
        let settings = &self.settings;
        let bound = hoeffding_bound(entropy_max(settings.classes), settings.delta, leaf.total());
        match Ranking::of(leaf).decide(bound, settings.tie) {
            Some(candidate) => self.split(at, candidate, false),
            None => false,
        }
    }

    /// What the node has counted: a leaf, or a split that goes on counting.
    pub(crate) fn leaf_of(&self, at: usize) -> Option<&Leaf> {
        let slot = match self.shape.nodes.get(at)?.step() {
            Step::Leaf(slot) => slot,
            Step::Split(_) | Step::Fork(_) => self.kept[at],
        };
        self.leaf(slot)
    }

    pub(crate) fn leaf(&self, slot: u32) -> Option<&Leaf> {
        let block = self.leaves.get(slot as usize / BLOCK)?;
        block.leaves.get(slot as usize % BLOCK)?.as_ref()
    }

    /// Makes a split of the leaf at node `at`. With `keep` the node goes on counting. `false` where memory does not
    /// allow it.
    pub(crate) fn split(&mut self, at: usize, candidate: Candidate, keep: bool) -> bool {
        let Some(Step::Leaf(slot)) = self.shape.nodes.get(at).map(|node| node.step()) else {
            return false;
        };
        let Some(leaf) = self.leaf(slot) else { return false };
        let (left, right) = sides(leaf, candidate.question);
        let promise = leaf.promise();
        if !self.make_room(slot, promise) {
            return false;
        }
        if keep {
            self.kept[at] = slot;
        } else {
            self.free_leaf(slot);
        }
        let missing_left = left.iter().sum::<f64>() >= right.iter().sum();
        let children = [self.new_leaf(&left), self.new_leaf(&right)].map(Node::leaf);
        let next = self.new_pair(children);
        self.set_node(at, Node::split(candidate.question, missing_left, next));
        true
    }

    /// Makes another split of a node that was split before and went on counting, with two new leaves below it; what hung
    /// there is forgotten. Calls `each` with every node that goes.
    pub(crate) fn split_again(&mut self, at: usize, candidate: Candidate, each: &mut dyn FnMut(usize)) {
        let Step::Split(next) = self.shape.nodes[at].step() else {
            return;
        };
        let Some(leaf) = self.leaf_of(at) else { return };
        let (left, right) = sides(leaf, candidate.question);
        let missing_left = left.iter().sum::<f64>() >= right.iter().sum();
        for (child, weights) in (next as usize..).zip([left, right]) {
            self.free_below(child, each);
            let slot = self.new_leaf(&weights);
            self.set_node(child, Node::leaf(slot));
        }
        self.set_node(at, Node::split(candidate.question, missing_left, next));
        self.collect();
    }

    /// Counts a row in a node that was split and goes on counting.
    pub(crate) fn count_at(&mut self, at: usize, row: &[f64], class: usize, weight: f64) {
        let slot = self.kept[at] as usize;
        let Some(block) = self.leaves.get_mut(slot / BLOCK) else {
            return;
        };
        let block = Arc::make_mut(block);
        block.changed = self.clock;
        if let Some(Some(leaf)) = block.leaves.get_mut(slot % BLOCK) {
            leaf.observe(row, class, weight, &mut self.scratch);
        }
    }

    /// Makes room for two leaves, on the cost of leaves that promise less than `promise`.
    pub(crate) fn make_room(&mut self, slot: u32, promise: f64) -> bool {
        let node = 4 * (size_of::<Node>() + size_of::<u32>()) + 16 + 2 * self.settings.node_bytes;
        let extra = 2 * self.leaf_bytes.0 + BLOCK_BYTES + node;
        while self.bytes() + extra > self.settings.memory_max {
            let (leaves, inactive, _) = self.census();
            let least = self.least_promising(slot, promise);
            let Some(least) = least.filter(|_| 2 * inactive < leaves) else {
                self.rebalance();
                return false;
            };
            let block = Arc::make_mut(&mut self.leaves[least as usize / BLOCK]);
            block.changed = self.clock;
            if let Some(Some(leaf)) = block.leaves.get_mut(least as usize % BLOCK) {
                leaf.deactivate();
            }
            self.heap -= self.leaf_bytes.0 - self.leaf_bytes.1;
        }
        true
    }

    /// Where memory is full: a leaf that only counts observes again in place of one that promises less than half as much.
    fn rebalance(&mut self) {
        let mut most: Option<(u32, f64)> = None;
        for node in &self.shape.nodes {
            let Step::Leaf(slot) = node.step() else { continue };
            let Some(leaf) = self.leaf(slot).filter(|leaf| !leaf.is_active()) else {
                continue;
            };
            if most.is_none_or(|(_, other)| leaf.promise() > other) {
                most = Some((slot, leaf.promise()));
            }
        }
        let Some((most, promise)) = most else { return };
        let Some(least) = self.least_promising(NONE, promise / 2.0) else {
            return;
        };
        let (settings, clock) = (Arc::clone(&self.settings), self.clock);
        for slot in [least, most] {
            let block = Arc::make_mut(&mut self.leaves[slot as usize / BLOCK]);
            block.changed = clock;
            if let Some(Some(leaf)) = block.leaves.get_mut(slot as usize % BLOCK) {
                if slot == least {
                    leaf.deactivate();
                } else {
                    *leaf = Leaf::new(&settings, Arc::clone(leaf.places()), leaf.weights());
                }
            }
        }
    }

    /// The leaf that observes and promises least, less than `promise`.
    fn least_promising(&self, except: u32, promise: f64) -> Option<u32> {
        let mut least: Option<(u32, f64)> = None;
        for node in &self.shape.nodes {
            let Step::Leaf(slot) = node.step() else { continue };
            let Some(leaf) = self.leaf(slot).filter(|leaf| slot != except && leaf.is_active()) else {
                continue;
            };
            let own = leaf.promise();
            if own < promise && least.is_none_or(|(_, other)| own < other) {
                least = Some((slot, own));
            }
        }
        least.map(|(slot, _)| slot)
    }

    /// What a new leaf looks at.
    fn draw_places(&mut self) -> Arc<Places> {
        let all: Vec<u32> = [&self.shared.numbers, &self.shared.categories]
            .into_iter()
            .flat_map(|places| places.iter().copied())
            .collect();
        let Some(count) = self.settings.subspace.filter(|count| *count < all.len()) else {
            return Arc::clone(&self.shared);
        };
        let drawn = sample(all, count, &mut of_row(self.settings.seed, self.born));
        Arc::new(Places::of(&self.settings.inputs, drawn.into_iter()))
    }

    /// Makes a leaf that is born with class weights.
    pub(crate) fn new_leaf(&mut self, weights: &[f64]) -> u32 {
        let places = self.draw_places();
        self.born += 1;
        let leaf = Leaf::new(&self.settings, places, weights);
        self.heap += self.leaf_bytes.0;
        if self.free_slots.is_empty() {
            let first = self.leaves.len() * BLOCK;
            self.leaves.push(Arc::new(LeafBlock {
                leaves: (0..BLOCK).map(|_| None).collect(),
                changed: self.clock,
            }));
            self.free_slots
                .extend((first..first + BLOCK).rev().map(|slot| slot as u32));
        }
        let slot = self.free_slots.pop().unwrap_or_default();
        let block = Arc::make_mut(&mut self.leaves[slot as usize / BLOCK]);
        block.changed = self.clock;
        block.leaves[slot as usize % BLOCK] = Some(leaf);
        slot
    }

    /// Makes a leaf begin anew: it forgets all that it has counted and looks at the same inputs as before.
    pub(crate) fn renew_leaf(&mut self, slot: u32) {
        let Some(leaf) = self.leaf(slot).filter(|leaf| leaf.is_active()) else {
            return;
        };
        let (places, classes) = (Arc::clone(leaf.places()), self.settings.classes);
        let block = Arc::make_mut(&mut self.leaves[slot as usize / BLOCK]);
        block.changed = self.clock;
        block.leaves[slot as usize % BLOCK] = Some(Leaf::new(&self.settings, places, &vec![0.0; classes]));
    }

    /// Forgets a leaf.
    pub(crate) fn free_leaf(&mut self, slot: u32) {
        let Some(block) = self.leaves.get_mut(slot as usize / BLOCK) else {
            return;
        };
        let block = Arc::make_mut(block);
        block.changed = self.clock;
        if let Some(leaf) = block.leaves[slot as usize % BLOCK].take() {
            self.heap -= if leaf.is_active() {
                self.leaf_bytes.0
            } else {
                self.leaf_bytes.1
            };
            let place = self.free_slots.partition_point(|other| *other > slot);
            self.free_slots.insert(place, slot);
        }
    }

    fn push_node(&mut self, node: Node) {
        Arc::make_mut(&mut self.shape).nodes.push(node);
        self.kept.push(NONE);
        let at = self.kept.len() - 1;
        self.groups.resize(at / GROUP + 1, self.clock);
        self.groups[at / GROUP] = self.clock;
    }

    pub(crate) fn set_node(&mut self, at: usize, node: Node) {
        Arc::make_mut(&mut self.shape).nodes[at] = node;
        self.groups[at / GROUP] = self.clock;
    }

    /// Makes a pair of nodes; the place of the left one.
    pub(crate) fn new_pair(&mut self, pair: [Node; 2]) -> u32 {
        let Some(next) = self.free_pairs.pop() else {
            let next = self.shape.nodes.len();
            pair.into_iter().for_each(|node| self.push_node(node));
            return next as u32;
        };
        for (at, node) in (next as usize..).zip(pair) {
            self.set_node(at, node);
        }
        next
    }

    /// Forgets node `at` with all that hangs below it; another node must be put there afterwards, and
    /// [`Tree::collect`] be called. Calls `each` with every node that goes.
    pub(crate) fn free_below(&mut self, at: usize, each: &mut dyn FnMut(usize)) {
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            each(at);
            let kept = std::mem::replace(&mut self.kept[at], NONE);
            self.free_leaf(kept);
            match self.shape.nodes[at].step() {
                Step::Leaf(slot) => self.free_leaf(slot),
                Step::Split(next) | Step::Fork(next) => open.extend([next as usize + 1, next as usize]),
            }
            self.set_node(at, Node::leaf(NONE));
        }
    }

    /// Finds the nodes that cannot be reached any more, to be used again.
    pub(crate) fn collect(&mut self) {
        let free = self.shape.free_pairs();
        for next in free.iter().map(|next| *next as usize) {
            for at in [next, next + 1] {
                self.set_node(at, Node::leaf(NONE));
                self.kept[at] = NONE;
            }
        }
        self.free_pairs = free;
    }

    /// What the tree is now: it shares everything with it.
    pub(crate) fn publish(&self) -> Arc<View> {
        let (shape, shared) = (Arc::clone(&self.shape), Arc::clone(&self.shared));
        Arc::new(View::new(self.settings.classes, shape, self.leaves.clone(), shared))
    }

    /// Leaves, those that only count classes, and how deep the deepest stands.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let (mut leaves, mut inactive, mut depth) = (0, 0, 0);
        self.shape.visit(&mut |_, node, at| {
            if let Step::Leaf(slot) = node.step() {
                leaves += 1;
                inactive += usize::from(self.leaf(slot).is_none_or(|leaf| !leaf.is_active()));
                depth = depth.max(at);
            }
        });
        (leaves, inactive, depth)
    }
}

/// Bytes of a leaf besides itself, at most.
pub(super) fn leaf_bytes(settings: &TreeSettings, pool: &Places) -> (usize, usize) {
    let all = pool.numbers.len() + pool.categories.len();
    let Some(count) = settings.subspace.filter(|count| *count < all) else {
        return Leaf::bytes_of(settings, pool, false);
    };
    // A subset may hold the widest columns.
    let mut places: Vec<u32> = pool.numbers.iter().chain(&pool.categories).copied().collect();
    let width = |place: &u32| match settings.inputs.get(*place as usize) {
        Some(Input::Category { codes }) => 1 + *codes,
        _ => 0,
    };
    places.sort_by_key(|place| std::cmp::Reverse(width(place)));
    let widest = Places::of(&settings.inputs, places.into_iter().take(count));
    let (mut active, counts) = Leaf::bytes_of(settings, &widest, true);
    // Or numbers only, where the columns of categories are narrow.
    active = active.max(counts + 8 * settings.classes * super::numbers::ROWS * count.min(pool.numbers.len()));
    (active, counts)
}

#[cfg(test)]
mod tests {
    use super::super::largest;
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::random::{derived, uniform};
    use crate::state::State;

    fn settings() -> TreeSettings {
        let inputs = [Input::Number, Input::Number, Input::Category { codes: 4 }];
        TreeSettings::new(2, inputs.into(), 7, 1 << 20)
    }

    /// Class 1 where the first number is above 0.5, except in category 3, where the second one decides.
    fn row(number: u64) -> ([f64; 3], usize) {
        let random = &mut of_row(3, number);
        let mut row = [uniform(random), uniform(random), (uniform(random) * 4.0).floor()];
        let class = usize::from(if row[2] == 3.0 { row[1] > 0.5 } else { row[0] > 0.5 });
        if number.is_multiple_of(17) {
            row[derived(5, number) as usize % 3] = f64::NAN;
        }
        (row, class)
    }

    fn grown(settings: TreeSettings, rows: u64) -> Tree {
        let mut tree = Tree::new(Arc::new(settings));
        for number in 0..rows {
            let (row, class) = row(number);
            tree.learn(&row, class, 1.0);
        }
        tree
    }

    fn right(tree: &mut Tree) -> f64 {
        let (mut right, mut out) = (0, [0.0; 2]);
        for number in 1_000_000..1_002_000 {
            let (row, class) = row(number);
            tree.predict_into(&row, &mut out);
            right += usize::from(largest(&out) == class);
        }
        f64::from(right as u32) / 2_000.0
    }

    #[test]
    fn it_finds_the_questions_of_a_known_stream() {
        let mut tree = grown(settings(), 20_000);
        let root = tree.shape.nodes[0].question().unwrap();
        assert_eq!(root.place(), 0, "{root:?}");
        assert!(right(&mut tree) > 0.93, "{} right", right(&mut tree));
        let asks = |place| {
            tree.shape
                .nodes
                .iter()
                .any(|node| node.question().is_some_and(|q| q.place() == place))
        };
        assert!(asks(2), "no split asks for the category");
    }

    #[test]
    fn publishing_copies_nothing_and_a_snapshot_costs_what_changed() {
        let mut tree = grown(settings(), 20_000);
        assert!(tree.leaves.len() > 1, "{} blocks", tree.leaves.len());
        let view = tree.publish();
        let mut memory = Memory::default();
        memory.save(&tree);
        let (row, class) = row(20_001);
        let (mut before, mut after) = ([0.0; 2], [0.0; 2]);
        tree.predict_into(&row, &mut before);
        tree.learn(&row, 1 - class, 1.0);
        memory.save(&tree);
        assert_eq!(memory.written, 2, "head and a block");
        view.predict_into(&row, &mut after, &mut Scratch::default());
        assert_eq!(before, after, "what is published does not change");
        tree.predict_into(&row, &mut after);
        assert_ne!(before, after);
    }

    #[test]
    fn predicting_and_learning_at_once_is_the_same_as_one_after_the_other() {
        let (mut a, mut b) = (Tree::new(Arc::new(settings())), Tree::new(Arc::new(settings())));
        let (mut one, mut other) = ([0.0; 2], [0.0; 2]);
        for number in 0..3_000 {
            let (row, class) = row(number);
            let weight = 1.0 + (number % 3) as f64;
            a.predict_then_learn(&row, class, weight, &mut one);
            b.predict_into(&row, &mut other);
            b.learn(&row, class, weight);
            assert_eq!(one.map(f64::to_bits), other.map(f64::to_bits), "row {number}");
        }
        assert_eq!(snapshot(&a), snapshot(&b));
    }

    #[test]
    fn leaves_draw_their_inputs_and_restored_trees_go_on_alike() {
        let mut settings = settings();
        settings.subspace = Some(2);
        settings.grace = 50.0;
        settings.delta = 0.01;
        let mut tree = grown(settings.clone(), 4_000);
        let mut memory = Memory::default();
        memory.save(&tree);
        let mut restored = Tree::new(Arc::new(settings.clone()));
        restored.restore(&memory).unwrap();
        for number in 4_000..9_000 {
            let (row, class) = row(number);
            tree.learn(&row, class, 2.0);
            restored.learn(&row, class, 2.0);
        }
        assert_eq!(snapshot(&tree), snapshot(&restored));
        assert_eq!(tree.bytes(), restored.bytes());
        let drawn: std::collections::BTreeSet<Vec<u32>> = tree
            .leaves
            .iter()
            .flat_map(|block| block.leaves.iter().flatten())
            .map(|leaf| {
                leaf.places()
                    .numbers
                    .iter()
                    .chain(&leaf.places().categories)
                    .copied()
                    .collect()
            })
            .collect();
        assert!(
            drawn.iter().all(|places| places.len() == 2) && drawn.len() > 1,
            "{drawn:?}"
        );
        survives_damage(&tree, || Tree::new(Arc::new(settings.clone())));
    }

    #[test]
    fn a_budget_bounds_the_tree_and_the_most_promising_leaves_go_on() {
        let mut settings = settings();
        settings.grace = 50.0;
        settings.tie = 0.5;
        settings.memory_max = Tree::new(Arc::new(settings.clone())).bytes() + 40_000;
        let mut tree = Tree::new(Arc::new(settings.clone()));
        let (mut before, mut again) = (Vec::new(), 0);
        for number in 0..60_000 {
            // Labels that are partly chance: every leaf would split for ever.
            let (row, class) = row(number);
            let class = if derived(9, number).is_multiple_of(4) {
                1 - class
            } else {
                class
            };
            tree.learn(&row, class, 1.0);
            assert!(
                tree.bytes() <= settings.memory_max,
                "{} bytes after {number} rows",
                tree.bytes()
            );
            let counting = |tree: &Tree| -> Vec<u32> {
                let slots = 0..(tree.leaves.len() * BLOCK) as u32;
                slots
                    .filter(|slot| tree.leaf(*slot).is_some_and(|leaf| !leaf.is_active()))
                    .collect()
            };
            let now = counting(&tree);
            again += before
                .iter()
                .filter(|slot| tree.leaf(**slot).is_some_and(Leaf::is_active))
                .count();
            before = now;
        }
        assert!(again > 0, "no leaf observes again that only counted");
        let (leaves, inactive, _) = tree.census();
        assert!(
            inactive > 0 && leaves > inactive,
            "{leaves} leaves, {inactive} only count"
        );
        assert!(right(&mut tree) > 0.9);
        let actual = tree
            .leaves
            .iter()
            .flat_map(|block| block.leaves.iter().flatten())
            .map(Leaf::heap_bytes);
        assert!(actual.sum::<usize>() <= tree.heap);
    }

    #[test]
    fn what_is_freed_is_used_again() {
        let mut tree = grown(settings(), 20_000);
        let (nodes, heap) = (tree.nodes(), tree.heap);
        let mut gone = 0;
        tree.free_below(0, &mut |_| gone += 1);
        assert_eq!((gone, tree.heap), (nodes, 0));
        let root = tree.new_leaf(&[0.0, 0.0]);
        tree.set_node(0, Node::leaf(root));
        tree.collect();
        assert_eq!(root, 0);
        for number in 0..20_000 {
            let (row, class) = row(number);
            tree.learn(&row, class, 1.0);
        }
        assert_eq!((tree.nodes(), tree.heap), (nodes, heap));
        let mut restored = Tree::new(Arc::new(settings()));
        let mut memory = Memory::default();
        memory.save(&tree);
        restored.restore(&memory).unwrap();
        assert_eq!(tree.free_pairs, restored.free_pairs);
        assert_eq!(tree.free_slots, restored.free_slots);
    }
}
