//! Regression by trees: one, or several that differ by chance and each watch their own errors. What `hoeffding-tree` and
//! `adaptive-random-forest` are for values.
//!
//! Gomes et al., "Adaptive random forests for data stream regression", ESANN 2018: a row counts Poisson(6) times in each tree,
//! leaves look at random inputs, ADWIN on a tree's errors warns at 0.01 and finds drift at 0.001. An error is measured in
//! standard deviations of the recent labels, six of them and more as 1: ADWIN's bound is that of values from 0 to 1.

use std::sync::Arc;

use super::tree::{Grow, WEIGHT_MAX, WEIGHT_MIN};
use super::value_tree::{Inputs, Moves, Pull, ValueSettings, ValueTree};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Scorer};
use crate::detectors::adwin::{Adwin, AdwinParams, Direction};
use crate::random::{derived, of_row, poisson};
use crate::scorers::linear::Link;
use crate::scorers::value_trees::{ValueTrees, add, finish};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

const HEAD: &str = "head";
const INPUTS: &str = "inputs/";

/// How often a row counts in a tree of a forest, on average.
const COUNT_MEAN: f64 = 6.0;
/// The branch of seeds of the trees; those of the counts are their places.
const TREES_SEED: u64 = u64::MAX;
/// Bounds on the probability that ADWIN warns, or finds drift, where there is none, at a test.
const WARNING_DELTA: f64 = 0.01;
const DRIFT_DELTA: f64 = 0.001;
/// Rows that the spread of the labels remembers.
const LABELS_MEMORY: f64 = 1_000.0;
/// Standard deviations of the labels that are the largest error.
const ERROR_REACH: f64 = 6.0;
/// Labels beyond are taken for it, so that squares stay finite.
const MAGNITUDE_MAX: f64 = 1e100;

fn detector(delta: f64) -> Adwin {
    Adwin::new(AdwinParams {
        delta,
        direction: Direction::Up,
        ..AdwinParams::default()
    })
}

/// A tree, its errors, and the tree that may replace it.
struct Member {
    serial: u64,
    tree: ValueTree,
    warning: Adwin,
    drift: Adwin,
    background: Option<(u64, ValueTree)>,
}

/// Bytes of a member besides its trees.
const MEMBER_BYTES: usize = size_of::<Member>() + 2 * Adwin::BYTES_MAX;

impl Member {
    fn new((serial, tree): (u64, ValueTree)) -> Self {
        Self {
            serial,
            tree,
            warning: detector(WARNING_DELTA),
            drift: detector(DRIFT_DELTA),
            background: None,
        }
    }

    fn bytes(&self) -> usize {
        let background = self.background.as_ref().map_or(0, |(_, tree)| tree.bytes());
        MEMBER_BYTES + self.tree.bytes() + background
    }
}

/// Mean and spread of recent labels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Labels {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Labels {
    fn learn(&mut self, label: f64) {
        self.count = (self.count + 1.0).min(LABELS_MEMORY);
        let distance = label - self.mean;
        self.mean += distance / self.count;
        self.variance += (distance * (label - self.mean) - self.variance) / self.count;
    }

    /// An error from 0 to 1.
    fn share(self, error: f64) -> f64 {
        let most = ERROR_REACH * self.variance.sqrt();
        if most > 0.0 { (error.abs() / most).min(1.0) } else { 0.0 }
    }
}

/// The trees.
pub(super) struct ValueForest {
    settings: ValueSettings,
    inputs: Inputs,
    members: Vec<Member>,
    /// Whether rows count at random and trees are replaced.
    is_watched: bool,
    memory_max: usize,
    rows: u64,
    /// The first label: sums are those of distances from it, so that they are not much larger than these.
    origin: f64,
    labels: Labels,
    /// Trees that were ever planted: the serial of the next one.
    planted: u64,
    /// Trees that began to grow in the background, and trees that were replaced.
    warnings: u64,
    drifts: u64,
}

impl ValueForest {
    /// One tree.
    pub(super) fn single(settings: ValueSettings) -> Self {
        Self::new(settings, 1, false)
    }

    /// So many trees that are watched.
    pub(super) fn watched(settings: ValueSettings, trees: usize) -> Self {
        Self::new(settings, trees, true)
    }

    fn new(settings: ValueSettings, trees: usize, is_watched: bool) -> Self {
        let memory_max = settings.memory_max;
        // A watched tree may have another one in the background.
        let each = if is_watched { 2 } else { 1 };
        let mut settings = settings.with_bins_for(memory_max / trees / each);
        let inputs = Inputs::new(&settings, memory_max);
        let share = memory_max.saturating_sub(size_of::<Self>() + inputs.bytes()) / trees;
        settings.memory_max = share.saturating_sub(MEMBER_BYTES) / each;
        let mut forest = Self {
            inputs,
            settings,
            members: Vec::with_capacity(trees),
            is_watched,
            memory_max,
            rows: 0,
            origin: 0.0,
            labels: Labels::default(),
            planted: 0,
            warnings: 0,
            drifts: 0,
        };
        for _ in 0..trees {
            let member = Member::new(forest.plant());
            forest.members.push(member);
        }
        forest
    }

    fn tree(&self, serial: u64) -> ValueTree {
        let mut settings = self.settings.clone();
        settings.seed = derived(derived(settings.seed, TREES_SEED), serial);
        ValueTree::new(Arc::new(settings), &self.inputs, self.rows)
    }

    /// A tree that has seen nothing, and its serial, which is never given twice.
    fn plant(&mut self) -> (u64, ValueTree) {
        let serial = self.planted;
        self.planted += 1;
        (serial, self.tree(serial))
    }

    /// How often the present row counts in the tree at place `member`.
    fn count(&self, member: usize) -> u32 {
        match self.is_watched {
            true => poisson(
                COUNT_MEAN,
                &mut of_row(derived(self.settings.seed, member as u64), self.rows),
            ),
            false => 1,
        }
    }

    /// A tree begins to grow in the background of a member, if there is room.
    fn warn(&mut self, index: usize) {
        self.warnings += 1;
        self.members[index].warning = detector(WARNING_DELTA);
        self.members[index].background = None;
        let background = self.plant();
        if self.bytes() + background.1.bytes() <= self.memory_max {
            self.members[index].background = Some(background);
        }
    }

    /// A tree is replaced by the one in the background, or begins anew.
    fn replace(&mut self, index: usize) {
        self.drifts += 1;
        let next = match self.members[index].background.take() {
            Some(background) => background,
            None => self.plant(),
        };
        self.members[index] = Member::new(next);
    }

    /// Watches what a tree said; whether its errors rise is looked at row by row.
    fn watch(&mut self, index: usize, error: f64) {
        let error = self.labels.share(error);
        let member = &mut self.members[index];
        let is_warned = member.warning.alarms_at(error);
        if member.drift.alarms_at(error) {
            self.replace(index);
        } else if is_warned {
            self.warn(index);
        }
    }

    fn move_bins(&mut self, moves: &Moves) {
        for member in &mut self.members {
            let trees = std::iter::once(&mut member.tree).chain(member.background.iter_mut().map(|(_, tree)| tree));
            trees.for_each(|tree| tree.move_bins(moves, self.rows));
        }
    }

    /// The weight of each tree.
    fn say(&self) -> f64 {
        1.0 / self.members.len() as f64
    }

    /// Gives for each member the serials of its trees.
    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<Vec<(u64, Option<u64>)>, CodecError> {
        (self.rows, self.planted) = (reader.u64()?, reader.u64()?);
        (self.warnings, self.drifts) = (reader.u64()?, reader.u64()?);
        self.origin = reader.finite()?;
        self.labels = Labels {
            count: reader.finite()?,
            mean: reader.finite()?,
            variance: reader.finite()?,
        };
        let mut serials = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            let serial = reader.u64()?;
            serials.push((serial, if reader.flag()? { Some(reader.u64()?) } else { None }));
            if self.is_watched {
                member.warning = Adwin::read(&mut reader, *member.warning.params())?;
                member.drift = Adwin::read(&mut reader, *member.drift.params())?;
            }
        }
        reader.finish()?;
        Ok(serials)
    }

    fn restore_tree(&self, serial: u64, chunks: &dyn ChunkSource) -> Result<ValueTree, StateError> {
        let prefix = tree_prefix(serial);
        let mut tree = self.tree(serial);
        tree.restore(&self.inputs, &WithinSource::new(&prefix, chunks))
            .map_err(|error| error.within(&prefix))?;
        Ok(tree)
    }
}

fn tree_prefix(serial: u64) -> String {
    format!("tree/{serial:09}/")
}

impl Grow for ValueForest {
    type Label = f64;

    fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        self.inputs.look(row);
        let (seen, say, mut said) = (self.inputs.seen(row), self.say(), [0.0]);
        let mut sum = [self.origin];
        for member in &self.members {
            member.tree.predict_into(seen, &mut said);
            add(say, &said, &mut sum);
        }
        finish(Link::Identity, &mut sum);
        out.copy_from_slice(&sum);
    }

    fn learn(&mut self, row: &[f64], label: f64, weight: f64, out: Option<&mut [f64]>) {
        let label = label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        let mut sum = [self.origin];
        if self.rows == 0 {
            self.origin = label;
        }
        let (value, say, mut said) = (label - self.origin, self.say(), [0.0]);
        let now = self.rows + 1;
        self.inputs.look_to_learn(row);
        for index in 0..self.members.len() {
            let count = f64::from(self.count(index));
            let h = (weight * count).clamp(WEIGHT_MIN, WEIGHT_MAX);
            let pull = Pull {
                weight: h,
                pulls: &[(h, h * value)],
            };
            let seen = self.inputs.seen(row);
            let member = &mut self.members[index];
            member.tree.predict_into(seen, &mut said);
            add(say, &said, &mut sum);
            if count > 0.0 {
                member.tree.learn(seen, pull, &self.inputs, now);
                if let Some((_, tree)) = &mut member.background {
                    tree.learn(seen, pull, &self.inputs, now);
                }
            }
            if self.is_watched {
                self.watch(index, value - said[0]);
            }
        }
        if let Some(out) = out {
            finish(Link::Identity, &mut sum);
            out.copy_from_slice(&sum);
        }
        self.labels.learn(value);
        self.rows += 1;
        if let Some(moves) = self.inputs.learn(row) {
            self.move_bins(&moves);
        }
    }

    fn publish(&self, _width: usize, _binary: bool) -> Result<Arc<dyn Scorer>, String> {
        let say = self.say();
        let members = self.members.iter().map(|member| (say, member.tree.publish()));
        let trees = ValueTrees::new(
            Link::Identity,
            vec![self.origin],
            self.inputs.scales(),
            members.collect(),
        )?;
        Ok(Arc::new(trees))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.inputs.bytes() + self.members.iter().map(Member::bytes).sum::<usize>()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        let (mut leaves, mut inactive, mut depth) = (0, 0, 0);
        for member in &self.members {
            let own = member.tree.census();
            leaves += own.0;
            inactive += own.1;
            depth = depth.max(own.2);
        }
        let waiting = self.members.iter().filter(|member| member.background.is_some()).count();
        let facts = [
            ("leaves", leaves as f64),
            ("leaves_inactive", inactive as f64),
            ("depth", depth as f64),
            ("trees_background", waiting as f64),
            ("warnings", self.warnings as f64),
            ("drifts", self.drifts as f64),
        ];
        let told = if self.is_watched { &facts[..] } else { &facts[..3] };
        for (name, value) in told.iter().copied() {
            each(Fact { name, of: "", value });
        }
    }
}

impl State for ValueForest {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.rows, &mut |out| {
            let counts = [self.rows, self.planted, self.warnings, self.drifts];
            counts.iter().for_each(|count| out.put_u64(*count));
            for number in [self.origin, self.labels.count, self.labels.mean, self.labels.variance] {
                out.put_f64(number);
            }
            for member in &self.members {
                out.put_u64(member.serial);
                out.put_u8(u8::from(member.background.is_some()));
                if let Some((serial, _)) = &member.background {
                    out.put_u64(*serial);
                }
                if self.is_watched {
                    member.warning.write(out);
                    member.drift.write(out);
                }
            }
        });
        self.inputs.save(&mut Within::new(INPUTS, chunks));
        for member in &self.members {
            member.tree.save(&mut Within::new(&tree_prefix(member.serial), chunks));
            if let Some((serial, tree)) = &member.background {
                tree.save(&mut Within::new(&tree_prefix(*serial), chunks));
            }
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let serials = self
            .read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        self.inputs
            .restore(&WithinSource::new(INPUTS, chunks))
            .map_err(|error| error.within(INPUTS))?;
        for (index, (serial, background)) in serials.into_iter().enumerate() {
            let tree = self.restore_tree(serial, chunks)?;
            let waiting = match background {
                Some(serial) => Some((serial, self.restore_tree(serial, chunks)?)),
                None => None,
            };
            let member = &mut self.members[index];
            (member.serial, member.tree, member.background) = (serial, tree, waiting);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::Input;
    use crate::detectors::memory::{Memory, snapshot};
    use crate::random::uniform;

    /// After 4,000 rows the value falls where it rose.
    fn row(number: u64) -> ([f64; 4], f64) {
        let random = &mut of_row(57, number);
        let row = [uniform(random), uniform(random), uniform(random), uniform(random)];
        let sign = if number < 4_000 { 1.0 } else { -1.0 };
        (
            row,
            sign * (4.0 * row[0] + 2.0 * row[1] * row[2]) + 0.2 * uniform(random),
        )
    }

    fn forest() -> ValueForest {
        let mut settings = ValueSettings::new(1, [Input::Number; 4].into(), 5, 4 << 20);
        (settings.grace, settings.delta) = (50.0, 0.01);
        settings.leaf_inputs = Some(3);
        ValueForest::watched(settings, 4)
    }

    #[test]
    fn trees_are_replaced_after_a_change() {
        let mut forest = forest();
        let mut errors = [0.0; 2];
        for number in 0..8_000 {
            let (row, value) = row(number);
            let mut out = [0.0];
            forest.learn(&row, value, 1.0, Some(&mut out));
            if number % 4_000 >= 2_000 {
                errors[usize::from(number >= 4_000)] += (out[0] - value).abs() / 2_000.0;
            }
            if number == 3_999 {
                assert_eq!(forest.drifts, 0, "seeds 5 and 57");
            }
        }
        assert!(forest.drifts >= 4, "{} drifts, seeds 5 and 57", forest.drifts);
        assert!(errors.iter().all(|error| *error < 0.2), "{errors:?}, seeds 5 and 57");
    }

    #[test]
    fn it_is_the_same_in_whatever_unit_labels_come() {
        let (mut plain, mut far) = (forest(), forest());
        for number in 0..2_000 {
            let (row, value) = row(number);
            let (mut a, mut b) = ([0.0], [0.0]);
            plain.learn(&row, value, 1.0, Some(&mut a));
            far.learn(&row, 1_048_576.0 * value + 1e9, 1.0, Some(&mut b));
            let back = (b[0] - 1e9) / 1_048_576.0;
            assert!(
                number == 0 || (a[0] - back).abs() < 1e-5,
                "row {number}: {} and {back}",
                a[0]
            );
        }
    }

    #[test]
    fn a_forest_with_trees_in_the_background_is_restored() {
        let mut forest = forest();
        // What is learned first slowly becomes untrue: a warning comes before drift is found.
        let slow = |number: u64| {
            let (row, value) = row(number % 4_000);
            (row, value + (number as f64 / 4_000.0).powi(2) * row[3])
        };
        let mut number = 0;
        while forest.members.iter().all(|member| member.background.is_none()) {
            let (row, value) = slow(number);
            forest.learn(&row, value, 1.0, None);
            number += 1;
            assert!(number < 20_000, "no tree ever grew in the background, seeds 5 and 57");
        }
        let mut memory = Memory::default();
        memory.save(&forest);
        let mut restored = self::forest();
        restored.restore(&memory).unwrap();
        for number in number..number + 1_000 {
            let (row, value) = slow(number);
            forest.learn(&row, value, 1.0, None);
            restored.learn(&row, value, 1.0, None);
        }
        assert_eq!(snapshot(&forest), snapshot(&restored));
        assert_eq!(forest.bytes(), restored.bytes());
    }
}
