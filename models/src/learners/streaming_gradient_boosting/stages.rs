//! The trees, one behind the other.

use std::sync::Arc;

use super::loss::{BASE_ROWS, Base, Loss, MAGNITUDE_MAX};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{DriftStatus, Fact, Scorer, StreamDetector};
use crate::detectors::adwin::{Adwin, AdwinParams, Direction};
use crate::learners::tree::{Grow, WEIGHT_MAX, WEIGHT_MIN};
use crate::learners::value_tree::{Inputs, Moves, Pull, ValueSettings, ValueTree};
use crate::random::derived;
use crate::scorers::value_trees::{ValueTrees, add, finish};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// A tree and what it adds.
struct Stage {
    serial: u64,
    tree: ValueTree,
    /// How much more right predictions are with the tree than without.
    worth: Adwin,
}

impl Stage {
    /// Takes what the tree added to a row; whether that has fallen, and to less than `rest` of what it was.
    fn is_worn_out(&mut self, share: f64, rest: f64) -> bool {
        let verdict = self.worth.update(share);
        let now = self.worth.mean();
        let before = now - verdict.effect;
        verdict.status == DriftStatus::Drift && now < rest * before
    }
}

/// Bytes of a stage besides its tree.
const STAGE_BYTES: usize = size_of::<Stage>() + Adwin::BYTES_MAX;
/// Bound on the probability that ADWIN finds that a tree adds less where it does not, at a test.
const WORTH_DELTA: f64 = 0.001;

fn detector() -> Adwin {
    Adwin::new(AdwinParams {
        delta: WORTH_DELTA,
        direction: Direction::Down,
        ..AdwinParams::default()
    })
}

/// The trees.
pub(super) struct Boosting {
    loss: Loss,
    rate: f64,
    settings: ValueSettings,
    inputs: Inputs,
    base: Base,
    stages: Vec<Stage>,
    rows: u64,
    /// The mean size of errors of values: the unit of what a tree adds.
    error: f64,
    /// Trees that were ever planted: the serial of the next one.
    planted: u64,
    /// What is used again from row to row.
    sums: Vec<f64>,
    said: Vec<f64>,
    scratch: Vec<f64>,
    pulls: Vec<(f64, f64)>,
}

const HEAD: &str = "head";
const INPUTS: &str = "inputs/";

impl Boosting {
    pub(super) fn new(loss: Loss, settings: ValueSettings, trees: usize, rate: f64) -> Self {
        let memory_max = settings.memory_max;
        let mut settings = settings.with_bins_for(memory_max / trees);
        let inputs = Inputs::new(&settings, memory_max);
        let besides = size_of::<Self>() + Self::row_bytes(loss) + inputs.bytes();
        settings.memory_max = (memory_max.saturating_sub(besides) / trees).saturating_sub(STAGE_BYTES);
        let mut boosting = Self {
            loss,
            rate,
            inputs,
            settings,
            base: Base::new(loss),
            stages: Vec::with_capacity(trees),
            rows: 0,
            error: 0.0,
            planted: 0,
            sums: vec![],
            said: vec![0.0; loss.outputs()],
            scratch: vec![],
            pulls: vec![],
        };
        for _ in 0..trees {
            let stage = boosting.plant();
            boosting.stages.push(stage);
        }
        boosting
    }

    /// Bytes of the base and of what is used again from row to row; vectors may hold twice what they need.
    fn row_bytes(loss: Loss) -> usize {
        2 * 8 * 6 * loss.outputs()
    }

    fn tree(&self, serial: u64) -> ValueTree {
        let mut settings = self.settings.clone();
        settings.seed = derived(settings.seed, serial);
        ValueTree::new(Arc::new(settings), &self.inputs, self.rows)
    }

    /// A tree that has seen nothing, with a serial that is never given twice.
    fn plant(&mut self) -> Stage {
        let serial = self.planted;
        self.planted += 1;
        Stage {
            serial,
            tree: self.tree(serial),
            worth: detector(),
        }
    }

    /// What a tree added, from about -1 to 1.
    fn share(&self, gained: f64) -> f64 {
        match self.loss {
            Loss::Squared if self.error > 0.0 => (gained / (ERROR_REACH * self.error)).clamp(-1.0, 1.0),
            Loss::Squared => 0.0,
            Loss::Logistic | Loss::Softmax(_) => gained,
        }
    }

    /// Lets every tree learn; the sums over all, as they were before.
    fn boost(&mut self, row: &[f64], label: f64, weight: f64) {
        self.base.sums(self.loss, &mut self.sums);
        let now = self.rows + 1;
        let loss = self.loss;
        let mut right = loss.pull(&self.sums, label, weight, &mut self.scratch, &mut self.pulls);
        for index in 0..self.stages.len() {
            let seen = self.inputs.seen(row);
            let stage = &mut self.stages[index];
            stage.tree.predict_into(seen, &mut self.said);
            let pull = Pull {
                weight,
                pulls: &self.pulls,
            };
            stage.tree.learn(seen, pull, &self.inputs, now);
            add(self.rate, &self.said, &mut self.sums);
            let before = right;
            right = loss.pull(&self.sums, label, weight, &mut self.scratch, &mut self.pulls);
            let share = self.share(right - before);
            let stage = &mut self.stages[index];
            if stage.is_worn_out(share, loss.rest()) {
                self.stages[index] = self.plant();
            }
        }
        if loss == Loss::Squared {
            let rows = (self.rows as f64 + 1.0).min(BASE_ROWS);
            self.error += (-right - self.error) / rows;
        }
    }

    fn move_bins(&mut self, moves: &Moves) {
        let trees = self.stages.iter_mut().map(|stage| &mut stage.tree);
        trees.for_each(|tree| tree.move_bins(moves, self.rows));
    }

    /// Writes scores as the task has them; of two classes there is room for both.
    fn say(loss: Loss, sums: &mut [f64], out: &mut [f64]) {
        finish(loss.link(), sums);
        match (loss, out) {
            (Loss::Logistic, [zero, one]) => (*zero, *one) = (1.0 - sums[0], sums[0]),
            (_, out) => out.copy_from_slice(sums),
        }
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        (self.rows, self.planted) = (reader.u64()?, reader.u64()?);
        (self.error, self.base.rows) = (reader.finite()?, reader.finite()?);
        for mean in &mut self.base.means {
            *mean = reader.finite()?;
        }
        for stage in &mut self.stages {
            stage.serial = reader.u64()?;
            stage.worth = Adwin::read(&mut reader, *stage.worth.params())?;
        }
        reader.finish()
    }
}

/// Mean errors that are the most that a tree can add to a value.
const ERROR_REACH: f64 = 6.0;

fn tree_prefix(serial: u64) -> String {
    format!("tree/{serial:09}/")
}

impl Grow for Boosting {
    type Label = f64;

    fn predict_into(&mut self, row: &[f64], out: &mut [f64]) {
        self.inputs.look(row);
        self.base.sums(self.loss, &mut self.sums);
        let seen = self.inputs.seen(row);
        for stage in &self.stages {
            stage.tree.predict_into(seen, &mut self.said);
            add(self.rate, &self.said, &mut self.sums);
        }
        Self::say(self.loss, &mut self.sums, out);
    }

    fn learn(&mut self, row: &[f64], label: f64, weight: f64, out: Option<&mut [f64]>) {
        let label = label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        self.inputs.look_to_learn(row);
        self.boost(row, label, weight.clamp(WEIGHT_MIN, WEIGHT_MAX));
        if let Some(out) = out {
            Self::say(self.loss, &mut self.sums, out);
        }
        self.base.learn(self.loss, label);
        self.rows += 1;
        if let Some(moves) = self.inputs.learn(row) {
            self.move_bins(&moves);
        }
    }

    fn publish(&self, _width: usize, _binary: bool) -> Result<Arc<dyn Scorer>, String> {
        let mut base = Vec::new();
        self.base.sums(self.loss, &mut base);
        let members = self.stages.iter().map(|stage| (self.rate, stage.tree.publish()));
        let trees = ValueTrees::new(self.loss.link(), base, self.inputs.scales(), members.collect())?;
        Ok(Arc::new(trees))
    }

    fn bytes(&self) -> usize {
        let stages = self.stages.iter().map(|stage| STAGE_BYTES + stage.tree.bytes());
        size_of::<Self>() + Self::row_bytes(self.loss) + self.inputs.bytes() + stages.sum::<usize>()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        let (mut leaves, mut inactive, mut depth) = (0, 0, 0);
        for stage in &self.stages {
            let own = stage.tree.census();
            leaves += own.0;
            inactive += own.1;
            depth = depth.max(own.2);
        }
        let replaced = self.planted.saturating_sub(self.stages.len() as u64);
        for (name, value) in [
            ("leaves", leaves as f64),
            ("leaves_inactive", inactive as f64),
            ("depth", depth as f64),
            ("trees_replaced", replaced as f64),
        ] {
            each(Fact { name, of: "", value });
        }
    }
}

impl State for Boosting {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.rows, &mut |out| {
            out.put_u64(self.rows);
            out.put_u64(self.planted);
            out.put_f64(self.error);
            out.put_f64(self.base.rows);
            self.base.means.iter().for_each(|mean| out.put_f64(*mean));
            for stage in &self.stages {
                out.put_u64(stage.serial);
                stage.worth.write(out);
            }
        });
        self.inputs.save(&mut Within::new(INPUTS, chunks));
        for stage in &self.stages {
            stage.tree.save(&mut Within::new(&tree_prefix(stage.serial), chunks));
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        self.inputs
            .restore(&WithinSource::new(INPUTS, chunks))
            .map_err(|error| error.within(INPUTS))?;
        for index in 0..self.stages.len() {
            let prefix = tree_prefix(self.stages[index].serial);
            let mut tree = self.tree(self.stages[index].serial);
            tree.restore(&self.inputs, &WithinSource::new(&prefix, chunks))
                .map_err(|error| error.within(&prefix))?;
            self.stages[index].tree = tree;
        }
        Ok(())
    }
}
