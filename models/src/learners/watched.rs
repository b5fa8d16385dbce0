//! Trees that each watch their own errors: one whose errors may be rising gets another one that grows in the background,
//! and is replaced by it when they are. What `adaptive-random-forest` and `streaming-random-patches` share.
//!
//! Gomes et al., "Adaptive random forests for evolving data stream classification", Machine Learning 2017: ADWIN warns at 0.01
//! and finds drift at 0.001, the faster of the article's two settings. What differs from MOA: the accuracy of a tree is that
//! since the last change of its errors, and detectors see every row.

use std::sync::Arc;

use driftmill_config::{Field, Kind, Need, Problems, Section};

use super::bag::{self, Bag};
use super::hoeffding_tree::{self, TIE};
use super::settings::named;
use super::tree::{ErrorWindow, Grow, MEMORY_MAX, Tree, TreeSettings, largest};
use super::value_tree::ValueSettings;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Scorer};
use crate::scorers::trees::{Combination, Trees};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// The keys of a learner of such trees, which is called `names` and whose leaves predict as `leaf` says.
pub(super) const fn fields(names: &'static [&'static str], leaf: Field) -> [Field; 8] {
    let inputs_share = Field {
        name: "inputs_share",
        kind: Kind::Float,
        need: Need::Optional("0.6"),
        doc: "Share of the inputs, drawn at random, that each leaf, or each tree, looks at, above 0 and at most 1. A smaller \
              one makes trees more different and faster, and needs more trees where few inputs say something.",
    };
    let grace = Field {
        name: "grace",
        kind: Kind::Integer,
        need: Need::Optional("50"),
        doc: "Rows, each as often as it counts, that a leaf sees between two attempts to split; from 1 to 1000000.",
    };
    let delta = Field {
        name: "delta",
        kind: Kind::Float,
        need: Need::Optional("0.01"),
        doc: "Probability, at a split, that another question would be better; between 0 and 1.",
    };
    [
        named(names),
        bag::TREES,
        inputs_share,
        grace,
        delta,
        TIE,
        leaf,
        MEMORY_MAX,
    ]
}

/// Reads what the trees are: the keys above, those of every Hoeffding tree, and how many they are. Gives their number and
/// that of the inputs that each leaf or tree looks at.
pub(super) fn read_settings(
    section: &Section<'_>,
    settings: &mut TreeSettings,
    problems: &mut Problems,
) -> (usize, usize) {
    (settings.grace, settings.delta) = (50.0, 0.01);
    hoeffding_tree::read_settings(section, settings, problems);
    read_trees(section, settings.inputs.len(), problems)
}

/// The same for trees of values.
pub(super) fn read_value_settings(
    section: &Section<'_>,
    settings: &mut ValueSettings,
    problems: &mut Problems,
) -> (usize, usize) {
    (settings.grace, settings.delta) = (50.0, 0.01);
    hoeffding_tree::read_value_settings(section, settings, problems);
    read_trees(section, settings.inputs.len(), problems)
}

/// The number of trees, and of the inputs, of all that there are, that each leaf or tree looks at.
fn read_trees(section: &Section<'_>, all: usize, problems: &mut Problems) -> (usize, usize) {
    let trees = bag::read_trees(section, problems);
    let share = section.get_or("inputs_share", 0.6, problems);
    if !(share > 0.0 && share <= 1.0) {
        let message = "`inputs_share` must be above 0 and at most 1".to_owned();
        problems.push(section.key_span("inputs_share"), message, None);
    }
    let inputs = (share * all as f64).round() as usize;
    (trees, inputs.clamp(1, all.max(1)))
}

const HEAD: &str = "head";

/// Bounds on the probability that ADWIN warns, or finds drift, where there is none, at a test.
const WARNING_DELTA: f64 = 0.01;
const DRIFT_DELTA: f64 = 0.001;

/// In what such ensembles differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Inputs that each tree looks at, drawn at random; all if `None`.
    pub(super) patch: Option<usize>,
    /// Whether a tree is judged by what it says of a row once it has learned it, or by what it said before.
    pub(super) judged_after: bool,
    /// How much a tree of an accuracy (between 0 and 1) has to say where there are so many classes.
    pub(super) say: fn(f64, f64) -> f64,
}

/// A tree, its errors, and the tree that may replace it.
struct Member {
    serial: u64,
    tree: Tree,
    warning: ErrorWindow,
    drift: ErrorWindow,
    background: Option<(u64, Tree)>,
}

/// Bytes of a member besides its trees.
const MEMBER_BYTES: usize = size_of::<Member>() + 2 * ErrorWindow::BYTES_MAX;

impl Member {
    fn new((serial, tree): (u64, Tree)) -> Self {
        Self {
            serial,
            tree,
            warning: ErrorWindow::default(),
            drift: ErrorWindow::default(),
            background: None,
        }
    }

    /// Its accuracy since the errors last changed, as if one row more had been right and one wrong.
    fn accuracy(&self) -> f64 {
        let rows = self.drift.rows();
        (rows * (1.0 - self.drift.rate()) + 1.0) / (rows + 2.0)
    }

    /// How much it has to say.
    #[inline]
    fn weight(&self, manner: Manner) -> f64 {
        (manner.say)(self.accuracy(), self.tree.settings().classes as f64)
    }

    /// A tree counts `least` bytes at least: as many as any that may take its place without having grown.
    fn bytes(&self, least: usize) -> usize {
        let background = self.background.as_ref().map_or(0, |(_, tree)| tree.bytes());
        MEMBER_BYTES + self.tree.bytes().max(least) + background
    }
}

/// The trees.
pub(super) struct WatchedTrees {
    bag: Bag,
    members: Vec<Member>,
    manner: Manner,
    memory_max: usize,
    /// Trees that began to grow in the background, and trees that were replaced.
    warnings: u64,
    drifts: u64,
}

impl WatchedTrees {
    /// So many trees of these settings.
    pub(super) fn new(mut settings: TreeSettings, trees: usize, manner: Manner) -> Self {
        let memory_max = settings.memory_max;
        // Each may have another one in the background.
        settings.memory_max = (memory_max / trees).saturating_sub(MEMBER_BYTES) / 2;
        let all = settings.inputs.len();
        let mut bag = match manner.patch.filter(|inputs| *inputs < all) {
            Some(inputs) => Bag::of_patches(settings, inputs, trees),
            None => Bag::new(settings),
        };
        let members = (0..trees).map(|_| Member::new(bag.plant())).collect();
        Self {
            bag,
            members,
            manner,
            memory_max,
            warnings: 0,
            drifts: 0,
        }
    }

    /// A tree begins to grow in the background of a member, instead of one that is there, if there is room.
    fn warn(&mut self, index: usize) {
        self.warnings += 1;
        self.members[index].warning = ErrorWindow::default();
        self.members[index].background = None;
        let background = self.bag.plant();
        if self.bytes() + background.1.bytes() <= self.memory_max {
            self.members[index].background = Some(background);
        }
    }

    /// A tree is replaced by the one in the background, or begins anew.
    fn replace(&mut self, index: usize) {
        self.drifts += 1;
        let next = match self.members[index].background.take() {
            Some(background) => background,
            None => self.bag.plant(),
        };
        self.members[index] = Member::new(next);
    }

    /// Numbers of trees in the background.
    fn backgrounds(&self) -> usize {
        self.members.iter().filter(|member| member.background.is_some()).count()
    }

    /// Gives for each member the serials of its trees.
    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<Vec<(u64, Option<u64>)>, CodecError> {
        self.bag.read(&mut reader)?;
        (self.warnings, self.drifts) = (reader.u64()?, reader.u64()?);
        let mut serials = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            let serial = reader.u64()?;
            let background = match reader.u8()? {
                0 => None,
                1 => Some(reader.u64()?),
                other => return Err(reader.error(format!("{other} does not say whether a tree waits"))),
            };
            serials.push((serial, background));
            member.warning = ErrorWindow::read(&mut reader)?;
            member.drift = ErrorWindow::read(&mut reader)?;
        }
        reader.finish()?;
        Ok(serials)
    }
}

impl Grow for WatchedTrees {
    type Label = usize;

    fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        self.bag.begin();
        for member in &mut self.members {
            member.tree.predict_into(row, &mut self.bag.said);
            self.bag.add(member.weight(self.manner));
        }
        self.bag.finish(out);
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64, out: Option<&mut [f64]>) {
        self.bag.begin();
        for index in 0..self.members.len() {
            let count = self.bag.count(index);
            let member = &mut self.members[index];
            self.bag.learn(&mut member.tree, row, class, weight, count);
            self.bag.add(member.weight(self.manner));
            if let Some((_, tree)) = member.background.as_mut().filter(|_| count > 0) {
                tree.learn(row, class, weight * f64::from(count));
            }
            if self.manner.judged_after && count > 0 {
                member.tree.predict_into(row, &mut self.bag.said);
            }
            let error = largest(&self.bag.said) != class;
            let is_warned = member.warning.update_at(error, WARNING_DELTA);
            let is_drift = member.drift.update_at(error, DRIFT_DELTA);
            // A tree that would begin now could replace nothing: it knows no row.
            if is_drift {
                self.replace(index);
            } else if is_warned {
                self.warn(index);
            }
        }
        if let Some(out) = out {
            self.bag.finish(out);
        }
        self.bag.rows += 1;
    }

    fn publish(&self, width: usize, binary: bool) -> Result<Arc<dyn Scorer>, String> {
        let members = self.members.iter();
        let members = members.map(|member| (member.weight(self.manner), member.tree.publish()));
        let trees = Trees::new(width, self.bag.classes(), binary, Combination::Mean, members.collect())?;
        Ok(Arc::new(trees))
    }

    fn bytes(&self) -> usize {
        let least = self.bag.tree_bytes_least();
        let members = self.members.iter().map(|member| member.bytes(least));
        size_of::<Self>() + self.bag.bytes() + members.sum::<usize>()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        bag::report_leaves(self.members.iter().map(|member| &member.tree), each);
        for (name, value) in [
            ("trees_background", self.backgrounds() as f64),
            ("warnings", self.warnings as f64),
            ("drifts", self.drifts as f64),
        ] {
            each(Fact { name, of: "", value });
        }
    }
}

impl State for WatchedTrees {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.bag.rows, &mut |out| {
            self.bag.write(out);
            out.put_u64(self.warnings);
            out.put_u64(self.drifts);
            for member in &self.members {
                out.put_u64(member.serial);
                out.put_u8(u8::from(member.background.is_some()));
                if let Some((serial, _)) = &member.background {
                    out.put_u64(*serial);
                }
                member.warning.write(out);
                member.drift.write(out);
            }
        });
        for member in &self.members {
            bag::save_tree(member.serial, &member.tree, chunks);
            if let Some((serial, tree)) = &member.background {
                bag::save_tree(*serial, tree, chunks);
            }
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let serials = self
            .read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        for (member, (serial, background)) in self.members.iter_mut().zip(serials) {
            member.serial = serial;
            member.tree = self.bag.restore_tree(serial, chunks)?;
            member.background = match background {
                Some(serial) => Some((serial, self.bag.restore_tree(serial, chunks)?)),
                None => None,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::Input;
    use crate::detectors::memory::{Memory, snapshot};
    use crate::random::{of_row, uniform};

    fn row(number: u64) -> ([f64; 4], usize) {
        let random = &mut of_row(47, number);
        let row = [uniform(random), uniform(random), uniform(random), uniform(random)];
        let class = usize::from((row[0] > 0.5) != (number >= 3_000));
        (row, class)
    }

    /// With inputs for each leaf, judged before, or for each tree, judged after.
    fn forest(patches: bool) -> WatchedTrees {
        let mut settings = TreeSettings::new(2, [Input::Number; 4].into(), 5, 4 << 20);
        (settings.grace, settings.delta) = (50.0, 0.01);
        settings.subspace = Some(3).filter(|_| !patches);
        let manner = Manner {
            patch: Some(3).filter(|_| patches),
            judged_after: patches,
            say: |accuracy, _| accuracy,
        };
        WatchedTrees::new(settings, 4, manner)
    }

    #[test]
    fn trees_are_replaced_after_a_change_by_those_in_the_background() {
        let mut forest = forest(false);
        let mut wrong = [0, 0];
        for number in 0..6_000 {
            let (row, class) = row(number);
            let mut out = [0.0; 2];
            forest.learn(&row, class, 1.0, Some(&mut out));
            if number % 3_000 >= 1_500 {
                wrong[usize::from(number >= 3_000)] += usize::from(largest(&out) != class);
            }
            if number == 2_999 {
                assert_eq!(forest.drifts, 0, "seed 47");
            }
        }
        assert!(
            forest.drifts >= 4 && forest.warnings >= 4,
            "{} drifts, seed 47",
            forest.drifts
        );
        assert!(
            wrong.iter().all(|wrong| *wrong < 75),
            "{wrong:?} of 1,500 wrong, seed 47"
        );
    }

    #[test]
    fn a_forest_with_trees_in_the_background_is_restored() {
        for patches in [false, true] {
            let mut forest = forest(patches);
            let mut number = 2_900;
            while forest.backgrounds() == 0 {
                let (row, class) = row(number);
                forest.learn(&row, class, 1.0, None);
                number += 1;
                assert!(number < 6_000, "no tree ever grew in the background, seed 47");
            }
            let mut memory = Memory::default();
            memory.save(&forest);
            let mut restored = self::forest(patches);
            restored.restore(&memory).unwrap();
            assert_eq!(restored.backgrounds(), forest.backgrounds());
            for number in number..number + 500 {
                let (row, class) = row(number);
                forest.learn(&row, class, 1.0, None);
                restored.learn(&row, class, 1.0, None);
            }
            assert_eq!(snapshot(&forest), snapshot(&restored));
        }
    }

    #[test]
    fn trees_look_at_their_own_inputs_only_and_begin_over_different_ones() {
        let mut forest = forest(true);
        let patches: Vec<Vec<u32>> = (forest.members.iter())
            .map(|member| member.tree.settings().places.as_deref().unwrap_or_default().to_vec())
            .collect();
        let different: std::collections::BTreeSet<_> = patches.iter().collect();
        // There are four ways to choose three of four.
        assert!(
            different.len() == 4 && patches.iter().all(|patch| patch.len() == 3),
            "{patches:?}, seed 5"
        );
        for number in 0..3_000 {
            let (row, class) = row(number);
            forest.learn(&row, class, 1.0, None);
        }
        // The label is what input 0 says: a tree that does not see it knows as little as nothing.
        for (member, patch) in forest.members.iter_mut().zip(&patches) {
            let right = (10_000..10_500).filter(|number| {
                let (x, _) = row(*number);
                member.tree.predict_into(&x, &mut forest.bag.said);
                largest(&forest.bag.said) == usize::from(x[0] > 0.5)
            });
            let right = right.count();
            assert_eq!(
                right > 450,
                patch.contains(&0),
                "{patch:?}: {right} of 500, seeds 5 and 47"
            );
        }
    }
}
