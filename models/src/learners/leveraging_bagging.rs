//! `leveraging-bagging`: Hoeffding trees, each of which sees every row a random number of times; when the errors of one
//! rise, the worst one begins anew.
//!
//! Bifet, Holmes and Pfahringer, "Leveraging bagging for evolving data streams", ECML PKDD 2010: 10 trees, a row counts
//! Poisson(6) times in each, an ADWIN on the errors of each; without the paper's random output codes, which MOA leaves
//! out too unless asked. What differs from MOA: an ADWIN says a change once (there it repeats itself while old rows leave
//! its window bucket by bucket), so that as many trees begin anew as say one; a tree is judged by what it said before it
//! learned the row (there after).

use std::sync::Arc;

use driftmill_config::{Component, Field, Problems, Section};

use super::bag::{self, Bag};
use super::hoeffding_tree::{DELTA, GRACE, LEAF, TIE, read_settings};
use super::settings::named;
use super::tree::{ErrorWindow, Grow, MEMORY_MAX, Tree, TreeLearner, TreeSettings, largest};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Learner, LearnerContext, LearnerKind, Scorer};
use crate::scorers::trees::{Combination, Trees};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

const HEAD: &str = "head";

/// The entry of the list.
pub(crate) struct LeveragingBaggingKind;

impl Component for LeveragingBaggingKind {
    fn name(&self) -> &'static str {
        "leveraging-bagging"
    }

    fn summary(&self) -> &'static str {
        "Several Hoeffding trees, each of which sees every row a random number of times, 6 on average. When the errors of \
         one of them rise, the worst one begins anew. Their probabilities are averaged. Binary and multiclass tasks; takes \
         missing values and categories."
    }

    fn fields(&self) -> &'static [Field] {
        const {
            &[
                named(&["leveraging-bagging"]),
                bag::TREES,
                GRACE,
                DELTA,
                TIE,
                LEAF,
                MEMORY_MAX,
            ]
        }
    }

    fn example(&self) -> &'static str {
        "learner = \"leveraging-bagging\"\ntrees = 5\ngrace = 200\ndelta = 1e-7\ntie = 0.05\nleaf = \"adaptive\"\n\
         memory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for LeveragingBaggingKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        TreeLearner::build(section, context, problems, |mut settings, problems| {
            read_settings(section, &mut settings, problems);
            let trees = bag::read_trees(section, problems);
            LeveragingBagging::new(settings, trees)
        })
    }
}

/// A tree and its errors.
struct Member {
    serial: u64,
    tree: Tree,
    errors: ErrorWindow,
}

/// Bytes of a member besides its tree.
const MEMBER_BYTES: usize = size_of::<Member>() + ErrorWindow::BYTES_MAX;

/// The trees.
pub(crate) struct LeveragingBagging {
    bag: Bag,
    members: Vec<Member>,
    /// Trees that began anew.
    replaced: u64,
}

impl LeveragingBagging {
    pub(crate) fn new(mut settings: TreeSettings, trees: usize) -> Self {
        settings.memory_max = (settings.memory_max / trees).saturating_sub(MEMBER_BYTES);
        let mut bag = Bag::new(settings);
        let members = (0..trees).map(|_| fresh(&mut bag)).collect();
        Self {
            bag,
            members,
            replaced: 0,
        }
    }

    /// The member that errs most begins anew.
    fn replace_worst(&mut self) {
        let mut worst = 0;
        for (index, member) in self.members.iter().enumerate() {
            if member.errors.rate() > self.members[worst].errors.rate() {
                worst = index;
            }
        }
        self.members[worst] = fresh(&mut self.bag);
        self.replaced += 1;
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.bag.read(&mut reader)?;
        self.replaced = reader.u64()?;
        for member in &mut self.members {
            member.serial = reader.u64()?;
            member.errors = ErrorWindow::read(&mut reader)?;
        }
        reader.finish()
    }
}

/// A member that has seen nothing.
fn fresh(bag: &mut Bag) -> Member {
    let (serial, tree) = bag.plant();
    Member {
        serial,
        tree,
        errors: ErrorWindow::default(),
    }
}

impl Grow for LeveragingBagging {
    type Label = usize;

    fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        self.bag.begin();
        for member in &mut self.members {
            member.tree.predict_into(row, &mut self.bag.said);
            self.bag.add(1.0);
        }
        self.bag.finish(out);
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        self.bag.begin();
        let mut alarms = 0;
        for (index, member) in self.members.iter_mut().enumerate() {
            let count = self.bag.count(index);
            self.bag.learn(&mut member.tree, row, class, weight, count);
            self.bag.add(1.0);
            alarms += usize::from(member.errors.update(largest(&self.bag.said) != class));
        }
        if let Some(out) = out {
            self.bag.finish(out);
        }
        self.bag.rows += 1;
        (0..alarms).for_each(|_| self.replace_worst());
    }

    fn publish(&self, width: usize, binary: bool) -> Result<Arc<dyn Scorer>, String> {
        let members = self.members.iter().map(|member| (1.0, member.tree.publish()));
        let trees = Trees::new(width, self.bag.classes(), binary, Combination::Mean, members.collect())?;
        Ok(Arc::new(trees))
    }

    fn bytes(&self) -> usize {
        let members = self.members.iter();
        size_of::<Self>() + members.map(|member| MEMBER_BYTES + member.tree.bytes()).sum::<usize>()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        bag::report_leaves(self.members.iter().map(|member| &member.tree), each);
        each(Fact {
            name: "trees_replaced",
            of: "",
            value: self.replaced as f64,
        });
    }
}

impl State for LeveragingBagging {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.bag.rows, &mut |out| {
            self.bag.write(out);
            out.put_u64(self.replaced);
            for member in &self.members {
                out.put_u64(member.serial);
                member.errors.write(out);
            }
        });
        let trees = self.members.iter().map(|member| (member.serial, &member.tree));
        trees.for_each(|(serial, tree)| bag::save_tree(serial, tree, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        for member in &mut self.members {
            member.tree = self.bag.restore_tree(member.serial, chunks)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};
    use crate::contracts::Task;

    /// Errors of the rows that pass `chosen`.
    fn errors(name: &str, rows: &Plain, chosen: std::ops::Range<usize>) -> f64 {
        let mut scores = Vec::new();
        learner(name, "", Task::Binary, rows).learn(rows.labelled(), Some(&mut scores));
        let pairs = scores[chosen.clone()].iter().zip(&rows.labels()[chosen.clone()]);
        let wrong = pairs
            .filter(|(score, label)| (**score > 0.5) != (**label > 0.5))
            .count();
        wrong as f64 / chosen.len() as f64
    }

    #[test]
    fn it_is_better_than_one_tree_and_recovers_from_a_change() {
        // Class by the sign of a sum of two inputs of five; after 6,000 rows it is the other way round.
        let sign = |x: &[f64], _: f64| f64::from(u8::from(x[0] + x[1] > 0.0));
        let steady = Plain::random(6_000, 5, 43, sign);
        let mut labels = steady.labels().to_vec();
        labels[3_000..].iter_mut().for_each(|label| *label = 1.0 - *label);
        let turned = steady.relabelled(&labels);
        let (one, bag) = (
            errors("hoeffding-tree", &steady, 1_000..6_000),
            errors("leveraging-bagging", &steady, 1_000..6_000),
        );
        assert!(bag < one, "{bag} and {one} of a single tree, seed 43");
        let after = errors("leveraging-bagging", &turned, 4_500..6_000);
        assert!(after < 0.15, "{after} after the change, seed 43");
    }

    #[test]
    fn the_worst_tree_begins_anew() {
        let settings = TreeSettings::new(2, [crate::contracts::Input::Number].into(), 1, 1 << 20);
        let mut trees = LeveragingBagging::new(settings, 3);
        for row in 0..64 {
            for (index, member) in trees.members.iter_mut().enumerate() {
                member.errors.update(index == 1 && row % 2 == 0);
            }
        }
        trees.replace_worst();
        let serials: Vec<u64> = trees.members.iter().map(|member| member.serial).collect();
        assert_eq!((serials, trees.replaced), (vec![0, 3, 2], 1));
        assert_eq!(trees.members[1].errors.rows(), 0.0);
    }
}
