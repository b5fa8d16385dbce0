//! `extremely-fast-tree`: a tree that splits as soon as a question is surely better than none, and takes a split back
//! when another question turns out to be better.
//!
//! Manapragada, Webb and Salehi, "Extremely Fast Decision Tree", KDD 2018 (EFDT, also known as HATT), with the defaults
//! of MOA. What differs from MOA: a node is looked at again after every `review` rows of its own (there, whenever the
//! number of all rows is a multiple of it, if the row passes that node), and a split is never taken back for none, since
//! a gain is never below 0.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::hoeffding_tree::{DELTA, GRACE, LEAF, TIE, read_settings};
use super::settings::{named, whole};
use super::tree::{
    Candidate, Grow, MEMORY_MAX, Step, Tree, TreeLearner, TreeSettings, candidates, entropy_max, hoeffding_bound,
};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Learner, LearnerContext, LearnerKind, Scorer};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Nodes whose gains share a chunk.
const GROUP: usize = 32;
const HEAD: &str = "head";
const TREE: &str = "tree/";
/// Gains below are taken for none.
const MERIT_MIN: f64 = 1e-10;

/// The entry of the list.
pub(crate) struct ExtremelyFastTreeKind;

impl Component for ExtremelyFastTreeKind {
    fn name(&self) -> &'static str {
        "extremely-fast-tree"
    }

    fn summary(&self) -> &'static str {
        "A decision tree that splits earlier than a Hoeffding tree, and splits again by another question where that turns \
         out to be better. Binary and multiclass tasks; takes missing values and categories."
    }

    fn fields(&self) -> &'static [Field] {
        const {
            &[
                named(&["extremely-fast-tree"]),
                GRACE,
                Field {
                    name: "review",
                    kind: Kind::Integer,
                    need: Need::Optional("2000"),
                    doc: "Rows that a split sees before its question is compared with the others again; from 1 to 1000000.",
                },
                DELTA,
                TIE,
                LEAF,
                MEMORY_MAX,
            ]
        }
    }

    fn example(&self) -> &'static str {
        "learner = \"extremely-fast-tree\"\ngrace = 200\nreview = 2000\ndelta = 1e-7\ntie = 0.05\nleaf = \"adaptive\"\n\
         memory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for ExtremelyFastTreeKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        TreeLearner::build(section, context, problems, |mut settings, problems| {
            read_settings(section, &mut settings, problems);
            let review = whole(section, "review", 2_000, 1..=1_000_000, problems);
            ExtremelyFastTree::new(settings, review as f64)
        })
    }
}

/// What a node has found at all its attempts.
#[derive(Debug, Clone, Default, PartialEq)]
struct Gains {
    attempts: f64,
    /// Weight of the rows that the node had seen at the last attempt since it was split.
    reviewed: f64,
    /// For each input the sum of the merits of its best questions; empty before the first attempt.
    sums: Vec<f64>,
}

impl Gains {
    /// The mean merit of an input's questions.
    fn mean(&self, place: u32) -> f64 {
        self.sums.get(place as usize).copied().unwrap_or(0.0) / self.attempts.max(1.0)
    }
}

/// A tree whose splits go on counting, and the gains of its nodes.
pub(crate) struct ExtremelyFastTree {
    tree: Tree,
    review: f64,
    gains: Vec<Gains>,
    /// When the gains of a group were changed last.
    stamps: Vec<u64>,
    /// Splits that were taken back.
    replaced: u64,
}

impl ExtremelyFastTree {
    fn new(mut settings: TreeSettings, review: f64) -> Self {
        // The list of gains may hold twice what it needs.
        settings.node_bytes = 2 * size_of::<Gains>() + 8 * settings.inputs.len() + 1;
        let mut tree = Self {
            tree: Tree::new(Arc::new(settings)),
            review,
            gains: vec![],
            stamps: vec![],
            replaced: 0,
        };
        tree.fit_gains();
        tree
    }

    fn fit_gains(&mut self) {
        let nodes = self.tree.nodes();
        self.gains.resize(nodes, Gains::default());
        self.stamps.resize(nodes.div_ceil(GROUP), self.tree.seen());
    }

    fn gains_mut(&mut self, at: usize) -> &mut Gains {
        self.stamps[at / GROUP] = self.tree.seen();
        &mut self.gains[at]
    }

    fn learn_row(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        self.tree.tick();
        let (mut at, mut out) = (0, out);
        loop {
            match self.tree.node(at).step() {
                Step::Leaf(slot) => {
                    if self.tree.learn_at(slot, row, class, weight, out) {
                        self.attempt(at);
                    }
                    return;
                }
                Step::Split(_) | Step::Fork(_) => {
                    self.tree.count_at(at, row, class, weight);
                    let observed = self.tree.leaf_of(at).map_or(0.0, |leaf| leaf.observed());
                    if observed - self.gains[at].reviewed >= self.review {
                        // This may change the way of the row; what is said of it is what was said before.
                        if let Some(out) = out.take() {
                            self.tree.predict_into(row, out);
                        }
                        self.gains_mut(at).reviewed = observed;
                        self.look_again(at);
                    }
                    at = self.tree.node(at).child(row) as usize;
                }
            }
        }
    }

    /// Adds the present merits of a node's questions to its gains; the best of them, and Hoeffding's bound.
    fn measure(&mut self, at: usize) -> Option<(Candidate, f64)> {
        let leaf = self.tree.leaf_of(at).filter(|leaf| leaf.promise() > 0.0)?;
        let mut found = vec![];
        candidates(leaf, &mut |candidate| found.push(candidate));
        let settings = self.tree.settings();
        let bound = hoeffding_bound(entropy_max(settings.classes), settings.delta, leaf.total());
        let inputs = settings.inputs.len();
        let gains = self.gains_mut(at);
        gains.attempts += 1.0;
        gains.sums.resize(inputs, 0.0);
        for candidate in &found {
            gains.sums[candidate.question.place() as usize] += candidate.merit;
        }
        let best = found.into_iter().reduce(|a, b| if b.merit > a.merit { b } else { a })?;
        Some((best, bound))
    }

    /// Splits a leaf if its best question is better than none.
    fn attempt(&mut self, at: usize) {
        let Some((best, bound)) = self.measure(at) else { return };
        let mean = self.gains[at].mean(best.question.place());
        let is_better = mean > bound || bound < self.tree.settings().tie;
        if best.merit < MERIT_MIN || !is_better || !self.tree.split(at, best, true) {
            return;
        }
        self.fit_gains();
        let observed = self.tree.leaf_of(at).map_or(0.0, |leaf| leaf.observed());
        self.gains_mut(at).reviewed = observed;
        self.clear_below(at);
    }

    /// Splits a split again if another question is better than its own.
    fn look_again(&mut self, at: usize) {
        let (Some(own), Some((best, bound))) = (self.tree.node(at).question(), self.measure(at)) else {
            return;
        };
        let tie = self.tree.settings().tie;
        let ahead = self.gains[at].mean(best.question.place()) - self.gains[at].mean(own.place());
        if ahead > bound || (bound < tie && ahead > tie / 2.0) {
            let mut gone = vec![];
            self.tree.split_again(at, best, &mut |node| gone.push(node));
            for node in gone {
                *self.gains_mut(node) = Gains::default();
            }
            self.replaced += 1;
        }
    }

    /// Children begin without gains.
    fn clear_below(&mut self, at: usize) {
        if let Step::Split(next) = self.tree.node(at).step() {
            for child in [next as usize, next as usize + 1] {
                *self.gains_mut(child) = Gains::default();
            }
        }
    }

    fn read_group(&mut self, group: usize, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.stamps[group] = reader.u64()?;
        let inputs = self.tree.settings().inputs.len();
        for gains in self.gains.iter_mut().skip(group * GROUP).take(GROUP) {
            (gains.attempts, gains.reviewed) = (reader.finite()?, reader.finite()?);
            gains.sums = reader.f64s()?;
            if !gains.sums.is_empty() && gains.sums.len() != inputs {
                return Err(reader.error(format!("{} gains of {inputs} inputs", gains.sums.len())));
            }
        }
        reader.finish()
    }
}

fn gains_name(group: usize) -> String {
    format!("gains/{group:06}")
}

impl State for ExtremelyFastTree {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.replaced, &mut |out| out.put_u64(self.replaced));
        for (group, stamp) in self.stamps.iter().enumerate() {
            chunks.chunk(&gains_name(group), *stamp, &mut |out| {
                out.put_u64(*stamp);
                for gains in self.gains.iter().skip(group * GROUP).take(GROUP) {
                    out.put_f64(gains.attempts);
                    out.put_f64(gains.reviewed);
                    out.put_f64s(&gains.sums);
                }
            });
        }
        self.tree.save(&mut Within::new(TREE, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.tree
            .restore(&WithinSource::new(TREE, chunks))
            .map_err(|error| error.within(TREE))?;
        let mut head = open(chunks, HEAD)?;
        let read = head.u64().and_then(|replaced| head.finish().map(|()| replaced));
        self.replaced = read.map_err(|error| StateError::of(HEAD, error))?;
        self.fit_gains();
        for group in 0..self.stamps.len() {
            let name = gains_name(group);
            self.read_group(group, open(chunks, &name)?)
                .map_err(|error| StateError::of(&name, error))?;
        }
        Ok(())
    }
}

impl Grow for ExtremelyFastTree {
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
        each(Fact {
            name: "splits_replaced",
            of: "",
            value: self.replaced as f64,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::Input;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::learners::tree::Scratch;
    use crate::random::{of_row, uniform};

    fn tree() -> ExtremelyFastTree {
        let settings = TreeSettings::new(2, [Input::Number, Input::Number].into(), 7, 4 << 20);
        ExtremelyFastTree::new(settings, 500.0)
    }

    /// At first the first number decides, then the second one.
    fn row(number: u64) -> ([f64; 2], usize) {
        let random = &mut of_row(3, number);
        let row = [uniform(random), uniform(random)];
        let decides = row[usize::from(number >= 3_000)];
        (row, usize::from((decides > 0.5) ^ (uniform(random) < 0.1)))
    }

    fn learn(tree: &mut ExtremelyFastTree, rows: std::ops::Range<u64>) {
        for number in rows {
            let (row, class) = row(number);
            Grow::learn(tree, &row, class, 1.0, None);
        }
    }

    fn root(tree: &ExtremelyFastTree) -> Option<u32> {
        tree.tree.node(0).question().map(|question| question.place())
    }

    #[test]
    fn a_split_is_taken_back_when_another_question_is_better() {
        let mut tree = tree();
        learn(&mut tree, 0..3_000);
        assert_eq!((root(&tree), tree.replaced), (Some(0), 0));
        learn(&mut tree, 3_000..30_000);
        assert_eq!(root(&tree), Some(1));
        assert!(tree.replaced > 0);
    }

    #[test]
    fn it_says_what_the_tree_published_before_the_row_says() {
        let mut tree = tree();
        let (mut own, mut published) = ([0.0; 2], [0.0; 2]);
        for number in 0..20_000 {
            let (row, class) = row(number);
            let replaced = tree.replaced;
            let view = tree.tree.publish();
            Grow::learn(&mut tree, &row, class, 1.0, Some(&mut own));
            if number.is_multiple_of(211) || tree.replaced > replaced {
                view.predict_into(&row, &mut published, &mut Scratch::default());
                assert_eq!(own.map(f64::to_bits), published.map(f64::to_bits), "row {number}");
            }
        }
        assert!(tree.replaced > 0);
    }

    #[test]
    fn it_splits_before_a_hoeffding_tree_does() {
        let settings = TreeSettings::new(2, [Input::Number; 3].into(), 7, 4 << 20);
        let mut slow = Tree::new(Arc::new(settings.clone()));
        let mut fast = ExtremelyFastTree::new(settings, 500.0);
        // Two numbers are as good as each other: which of them is the best takes long to say.
        let first_split = |split: &mut dyn FnMut(&[f64; 3], usize) -> bool| {
            (0..20_000).find(|&number| {
                let random = &mut of_row(5, number);
                let x = uniform(random);
                split(&[x, x + 0.2 * uniform(random), 0.0], usize::from(x > 0.5))
            })
        };
        let fast_row = first_split(&mut |row, class| {
            Grow::learn(&mut fast, row, class, 1.0, None);
            fast.tree.nodes() > 1
        });
        let slow_row = first_split(&mut |row, class| {
            slow.learn(row, class, 1.0);
            slow.nodes() > 1
        });
        assert!(
            fast_row.is_some() && fast_row < slow_row,
            "{fast_row:?} and {slow_row:?}"
        );
    }

    #[test]
    fn after_splits_that_were_taken_back_it_goes_on_as_if_nothing_had_happened() {
        for cut in [2_000, 8_000, 30_000] {
            let mut whole = tree();
            learn(&mut whole, 0..cut);
            let mut memory = Memory::default();
            memory.save(&whole);
            let mut restored = tree();
            restored.restore(&memory).unwrap();
            learn(&mut whole, cut..cut + 20_000);
            learn(&mut restored, cut..cut + 20_000);
            assert_eq!(snapshot(&whole), snapshot(&restored), "after {cut} rows");
            assert_eq!(Grow::bytes(&whole), Grow::bytes(&restored));
            memory.save(&restored);
            assert_eq!(memory.contents(), snapshot(&whole), "stamps after {cut} rows");
            assert!(cut < 30_000 || whole.replaced > 0);
        }
        let mut whole = tree();
        learn(&mut whole, 0..3_000);
        survives_damage(&whole, tree);
    }
}
