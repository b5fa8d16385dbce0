//! `hoeffding-adaptive-tree`: a Hoeffding tree that watches the errors of each of its parts, grows another tree beside a
//! part that has become worse, and lets it take that place once it is better.
//!
//! Bifet and Gavaldà, "Adaptive Learning from Evolving Data Streams", IDA 2009 (HAT-ADWIN), with the defaults of MOA:
//! two windows of at least 300 rows decide at a significance of 0.05 which of two trees stays; a leaf counts a row
//! `max(1, Poisson(1))` times. What differs from MOA and River: a leaf whose errors rise begins anew (the paper lets its
//! windows bound what a leaf has counted; there a leaf never forgets); only the present tree predicts, as in the paper
//! (there leaves of trees that wait have a say); and a tree that turned out worse is forgotten (there it may live on).

use std::sync::Arc;

use driftmill_config::{Component, Field, Problems, Section};

use super::hoeffding_tree::{DELTA, GRACE, LEAF, TIE, read_settings};
use super::settings::named;
use super::tree::{ErrorWindow, Grow, MEMORY_MAX, Node, Step, Tree, TreeLearner, TreeSettings, largest};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Learner, LearnerContext, LearnerKind, Scorer};
use crate::random::{of_row, poisson};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Rows that each of two windows needs before trees are compared, and the significance of that.
const COMPARED_MIN: f64 = 300.0;
const SIGNIFICANCE: f64 = 0.05;
/// Nodes whose windows share a chunk.
const GROUP: usize = 32;
const HEAD: &str = "head";
const TREE: &str = "tree/";

/// The entry of the list.
pub(crate) struct HoeffdingAdaptiveTreeKind;

impl Component for HoeffdingAdaptiveTreeKind {
    fn name(&self) -> &'static str {
        "hoeffding-adaptive-tree"
    }

    fn summary(&self) -> &'static str {
        "A Hoeffding tree that follows a changing world: where a part of it makes more errors than before, another tree \
         grows beside it and takes its place once it is better. Binary and multiclass tasks; takes missing values and \
         categories."
    }

    fn fields(&self) -> &'static [Field] {
        const { &[named(&["hoeffding-adaptive-tree"]), GRACE, DELTA, TIE, LEAF, MEMORY_MAX] }
    }

    fn example(&self) -> &'static str {
        "learner = \"hoeffding-adaptive-tree\"\ngrace = 200\ndelta = 1e-7\ntie = 0.05\nleaf = \"adaptive\"\n\
         memory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for HoeffdingAdaptiveTreeKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        TreeLearner::build(section, context, problems, |mut settings, problems| {
            read_settings(section, &mut settings, problems);
            AdaptiveTree::new(settings)
        })
    }
}

/// A tree, and a window over the errors of each of its nodes. A node beside which another tree grows stands in a fork:
/// itself on the left, the other tree on the right.
pub(crate) struct AdaptiveTree {
    tree: Tree,
    windows: Vec<ErrorWindow>,
    /// When a window of a group was changed last.
    stamps: Vec<u64>,
    /// Trees that began beside others, that took their place, and that turned out worse.
    begun: u64,
    switched: u64,
    pruned: u64,
    /// The way of a row: nodes, each with the fork that it stands in.
    path: Vec<(usize, Option<usize>)>,
    /// Roots of trees that still have to learn the row.
    waiting: Vec<usize>,
    out: Vec<f64>,
}

impl AdaptiveTree {
    /// A tree of one leaf that has seen nothing.
    pub(crate) fn new(mut settings: TreeSettings) -> Self {
        // The list of windows may hold twice what it needs.
        settings.node_bytes = size_of::<ErrorWindow>() + ErrorWindow::BYTES_MAX + 1;
        let classes = settings.classes;
        let mut tree = Self {
            tree: Tree::new(Arc::new(settings)),
            windows: vec![],
            stamps: vec![],
            begun: 0,
            switched: 0,
            pruned: 0,
            path: vec![],
            waiting: vec![],
            out: vec![0.0; classes],
        };
        tree.fit_windows();
        tree
    }

    /// A window for each node.
    fn fit_windows(&mut self) {
        let nodes = self.tree.nodes();
        self.windows.resize(nodes, ErrorWindow::default());
        self.stamps.resize(nodes.div_ceil(GROUP), self.tree.seen());
    }

    fn window_mut(&mut self, at: usize) -> &mut ErrorWindow {
        self.stamps[at / GROUP] = self.tree.seen();
        &mut self.windows[at]
    }

    /// Finds the way of a row from a node to a leaf of the present tree, and gives the place of that.
    fn find_path(&mut self, from: usize, row: &[f64]) -> u32 {
        self.path.clear();
        let (mut at, mut fork) = (from, None);
        loop {
            let node = self.tree.node(at);
            let next = match node.step() {
                Step::Fork(next) => {
                    fork = Some(at);
                    next
                }
                Step::Split(_) => {
                    self.path.push((at, fork.take()));
                    node.child(row)
                }
                Step::Leaf(slot) => {
                    self.path.push((at, fork.take()));
                    return slot;
                }
            };
            at = next as usize;
        }
    }

    fn learn_row(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        self.tree.tick();
        let drawn = poisson(1.0, &mut of_row(self.tree.settings().seed, self.tree.seen()));
        let weight = weight * f64::from(drawn.max(1));
        self.learn_from(0, row, class, weight);
        if let Some(out) = out {
            out.copy_from_slice(&self.out);
        }
        while let Some(root) = self.waiting.pop() {
            self.learn_from(root, row, class, weight);
        }
    }

    /// Learns a row in the tree below a node; `self.out` holds what that tree said before.
    fn learn_from(&mut self, from: usize, row: &[f64], class: usize, weight: f64) {
        let slot = self.find_path(from, row);
        let mut out = std::mem::take(&mut self.out);
        out.resize(self.tree.settings().classes, 0.0);
        let due = self.tree.learn_at(slot, row, class, weight, Some(&mut out));
        let error = largest(&out) != class;
        self.out = out;
        for step in 0..self.path.len() {
            let (at, fork) = self.path[step];
            let worse = self.window_mut(at).update(error);
            if step + 1 == self.path.len() {
                if worse {
                    self.tree.renew_leaf(slot);
                } else if due {
                    self.split(at);
                }
            } else if worse {
                if !self.begin(at, fork) {
                    return;
                }
            } else if let Some(fork) = fork
                && self.compare(fork)
            {
                // The other tree stands here now; the way that the row took is gone.
                return;
            }
        }
    }

    fn split(&mut self, at: usize) {
        if self.tree.attempt(at) {
            self.fit_windows();
            if let Step::Split(next) = self.tree.node(at).step() {
                for node in [at, next as usize, next as usize + 1] {
                    *self.window_mut(node) = ErrorWindow::default();
                }
            }
        }
    }

    /// Begins another tree beside a split; where memory does not allow two, in its place. Whether the split is still
    /// there.
    fn begin(&mut self, at: usize, fork: Option<usize>) -> bool {
        self.begun += 1;
        if let Some(fork) = fork {
            // The one that was there has not become better in time.
            let alternate = self.alternate(fork);
            self.begin_at(alternate);
        } else if self
            .tree
            .make_room(u32::MAX, self.windows[at].rows() * self.windows[at].rate())
        {
            let leaf = Node::leaf(self.tree.new_leaf(&vec![0.0; self.tree.settings().classes]));
            let present = self.tree.node(at);
            let next = self.tree.new_pair([present, leaf]);
            self.tree.set_node(at, Node::fork(next));
            self.fit_windows();
            let window = std::mem::take(self.window_mut(at));
            *self.window_mut(next as usize) = window;
            *self.window_mut(next as usize + 1) = ErrorWindow::default();
            self.waiting.push(next as usize + 1);
        } else {
            self.switched += 1;
            self.begin_at(at);
            return false;
        }
        true
    }

    /// Puts a new leaf where a tree was.
    fn begin_at(&mut self, at: usize) {
        self.free(at);
        let leaf = Node::leaf(self.tree.new_leaf(&vec![0.0; self.tree.settings().classes]));
        self.tree.set_node(at, leaf);
        self.tree.collect();
        self.waiting.push(at);
    }

    /// The root of the tree that waits in a fork.
    fn alternate(&self, fork: usize) -> usize {
        match self.tree.node(fork).step() {
            Step::Fork(next) => next as usize + 1,
            Step::Leaf(_) | Step::Split(_) => fork,
        }
    }

    /// The errors of the present tree at a node, which may itself be a fork.
    fn window_of(&self, at: usize) -> &ErrorWindow {
        let mut at = at;
        while let Step::Fork(next) = self.tree.node(at).step() {
            at = next as usize;
        }
        &self.windows[at]
    }

    /// Compares the two trees of a fork: whether the one that waits has taken the place.
    fn compare(&mut self, fork: usize) -> bool {
        let alternate = self.alternate(fork);
        let (own, other) = (self.window_of(alternate - 1), self.window_of(alternate));
        if own.rows() > COMPARED_MIN && other.rows() > COMPARED_MIN {
            let (rate, difference) = (own.rate(), own.rate() - other.rate());
            let rows = 1.0 / own.rows() + 1.0 / other.rows();
            let bound = (2.0 * rate * (1.0 - rate) * (2.0 / SIGNIFICANCE).ln() * rows).sqrt();
            if bound < difference {
                self.switched += 1;
                self.keep(fork, alternate);
                self.waiting.push(fork);
                return true;
            }
            if bound < -difference {
                self.pruned += 1;
                self.keep(fork, alternate - 1);
                return false;
            }
        }
        self.waiting.push(alternate);
        false
    }

    /// Puts one of the two trees of a fork in its place, and forgets the other.
    fn keep(&mut self, fork: usize, kept: usize) {
        let alternate = self.alternate(fork);
        let gone = if kept == alternate { alternate - 1 } else { alternate };
        self.free(gone);
        let window = std::mem::take(self.window_mut(kept));
        *self.window_mut(fork) = window;
        let node = self.tree.node(kept);
        self.tree.set_node(fork, node);
        self.tree.collect();
    }

    fn free(&mut self, at: usize) {
        let mut gone = vec![];
        self.tree.free_below(at, &mut |node| gone.push(node));
        for node in gone {
            *self.window_mut(node) = ErrorWindow::default();
        }
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        (self.begun, self.switched, self.pruned) = (reader.u64()?, reader.u64()?, reader.u64()?);
        reader.finish()
    }

    fn read_windows(&mut self, group: usize, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.stamps[group] = reader.u64()?;
        for window in self.windows.iter_mut().skip(group * GROUP).take(GROUP) {
            *window = ErrorWindow::read(&mut reader)?;
        }
        reader.finish()
    }
}

fn windows_name(group: usize) -> String {
    format!("windows/{group:06}")
}

impl State for AdaptiveTree {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.tree.seen(), &mut |out| {
            [self.begun, self.switched, self.pruned]
                .iter()
                .for_each(|count| out.put_u64(*count));
        });
        for (group, stamp) in self.stamps.iter().enumerate() {
            chunks.chunk(&windows_name(group), *stamp, &mut |out| {
                out.put_u64(*stamp);
                let windows = self.windows.iter().skip(group * GROUP).take(GROUP);
                windows.for_each(|window| window.write(out));
            });
        }
        self.tree.save(&mut Within::new(TREE, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.tree
            .restore(&WithinSource::new(TREE, chunks))
            .map_err(|error| error.within(TREE))?;
        self.read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        self.fit_windows();
        for group in 0..self.stamps.len() {
            let name = windows_name(group);
            self.read_windows(group, open(chunks, &name)?)
                .map_err(|error| StateError::of(&name, error))?;
        }
        Ok(())
    }
}

impl Grow for AdaptiveTree {
    type Label = usize;

    fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        self.tree.predict_into(row, out);
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        self.learn_row(row, class, weight, out);
    }

    fn publish(&self, width: usize, binary: bool) -> Result<Arc<dyn Scorer>, String> {
        Grow::publish(&self.tree, width, binary)
    }

    fn bytes(&self) -> usize {
        self.tree.bytes() + size_of::<Self>()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        self.tree.report(each);
        let counts = [
            ("alternate_trees_begun", self.begun),
            ("alternate_trees_switched", self.switched),
            ("alternate_trees_pruned", self.pruned),
        ];
        for (name, count) in counts {
            each(Fact {
                name,
                of: "",
                value: count as f64,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::Input;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::learners::tree::Scratch;
    use crate::random::uniform;

    fn settings() -> TreeSettings {
        TreeSettings::new(2, [Input::Number, Input::Number, Input::Number].into(), 7, 4 << 20)
    }

    /// Two questions of two numbers, others every 12,000 rows, and some labels that are chance.
    fn row(number: u64) -> ([f64; 3], usize) {
        let random = &mut of_row(3, number);
        let row = [uniform(random), uniform(random), uniform(random)];
        let (first, second) = if (number / 12_000).is_multiple_of(2) {
            (0, 1)
        } else {
            (1, 2)
        };
        let class = (row[first] > 0.5) ^ (row[second] > 0.7);
        (row, usize::from(class ^ (uniform(random) < 0.05)))
    }

    fn learn(tree: &mut AdaptiveTree, rows: std::ops::Range<u64>) -> f64 {
        let (mut right, mut out) = (0_u32, [0.0; 2]);
        let count = rows.end - rows.start;
        for number in rows {
            let (row, class) = row(number);
            Grow::learn(tree, &row, class, 1.0, Some(&mut out));
            right += u32::from(largest(&out) == class);
        }
        f64::from(right) / count as f64
    }

    #[test]
    fn it_follows_a_change_that_a_hoeffding_tree_does_not_follow() {
        let mut adaptive = AdaptiveTree::new(settings());
        let mut fixed = Tree::new(Arc::new(settings()));
        learn(&mut adaptive, 0..20_000);
        let (mut right, mut out) = (0_u32, [0.0; 2]);
        for number in 0..24_000 {
            let (row, class) = row(number);
            fixed.predict_then_learn(&row, class, 1.0, &mut out);
            right += u32::from(number >= 20_000 && largest(&out) == class);
        }
        let (found, fixed) = (learn(&mut adaptive, 20_000..24_000), f64::from(right) / 4_000.0);
        assert!(
            found > fixed + 0.03 && found > 0.9,
            "{found} right, the fixed tree {fixed}"
        );
        assert!(adaptive.begun > 0 && adaptive.switched > 0, "{} begun", adaptive.begun);
    }

    #[test]
    fn with_trees_that_wait_it_goes_on_as_if_nothing_had_happened() {
        let mut whole = AdaptiveTree::new(settings());
        let waits =
            |tree: &AdaptiveTree| (0..tree.tree.nodes()).any(|at| matches!(tree.tree.node(at).step(), Step::Fork(_)));
        let mut number = 0;
        while !waits(&whole) {
            assert!(number < 60_000, "no other tree has begun");
            learn(&mut whole, number..number + 100);
            number += 100;
        }
        let mut memory = Memory::default();
        memory.save(&whole);
        let mut restored = AdaptiveTree::new(settings());
        restored.restore(&memory).unwrap();
        let rows = number..number + 30_000;
        assert_eq!(
            learn(&mut whole, rows.clone()).to_bits(),
            learn(&mut restored, rows).to_bits()
        );
        assert_eq!(snapshot(&whole), snapshot(&restored));
        assert_eq!(Grow::bytes(&whole), Grow::bytes(&restored));
        memory.save(&restored);
        assert_eq!(memory.contents(), snapshot(&whole), "stamps");
        survives_damage(&whole, || AdaptiveTree::new(settings()));
    }

    #[test]
    fn it_says_what_the_tree_published_before_the_row_says() {
        let mut tree = AdaptiveTree::new(settings());
        let (mut own, mut published) = ([0.0; 2], [0.0; 2]);
        for number in 0..40_000 {
            let (row, class) = row(number);
            let view = number.is_multiple_of(211).then(|| tree.tree.publish());
            Grow::learn(&mut tree, &row, class, 1.0, Some(&mut own));
            if let Some(view) = view {
                view.predict_into(&row, &mut published, &mut Scratch::default());
                assert_eq!(own.map(f64::to_bits), published.map(f64::to_bits), "row {number}");
            }
        }
        assert!(tree.switched > 0);
    }

    #[test]
    fn a_budget_bounds_it() {
        let mut settings = settings();
        settings.memory_max = Grow::bytes(&AdaptiveTree::new(settings.clone())) + 60_000;
        let max = settings.memory_max + size_of::<AdaptiveTree>();
        settings.grace = 50.0;
        settings.tie = 0.5;
        let mut tree = AdaptiveTree::new(settings);
        let mut out = [0.0; 2];
        for number in 0..60_000 {
            let (row, class) = row(number);
            Grow::learn(&mut tree, &row, class, 1.0, Some(&mut out));
            assert!(
                Grow::bytes(&tree) <= max,
                "{} bytes after {number} rows",
                Grow::bytes(&tree)
            );
        }
        let census = tree.tree.census();
        assert!(tree.begun > 0 && census.0 > 3, "{} begun, {census:?}", tree.begun);
    }
}
