//! `gradient-boosting`: trees that each correct the sum of those before (Friedman, "Greedy function approximation: a
//! gradient boosting machine", Annals of Statistics 2001), grown on histograms by forust, scored by the [`Ensemble`]
//! scorer. Why forust: `docs/adr/0007-gradient-boosting.md`.
//!
//! forust grows one tree from gradients and second derivatives. The loop around it is ours, so that several classes are
//! boosted together under one softmax, every random draw comes from the start's seed, and nothing that forust cannot
//! take reaches it: numbers are bounded, weights are divided by their mean, values of a regression by a power of two near
//! their deviation. For two classes the scores are those of forust's own loop, to the bit.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};
use forust_ml::Matrix as Columns;
use forust_ml::binning::{BinnedData, bin_matrix};
use forust_ml::constraints::ConstraintMap;
use forust_ml::errors::ForustError;
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::sampler::SampleMethod;
use forust_ml::splitter::MissingImputerSplitter;
use forust_ml::tree::{Tree, TreeRows};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::rows::{TrainingSet, guarded};
use super::settings::{named, refuse_task, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::random::uniform;
use crate::scorers::ensemble::Ensemble;
use crate::scorers::linear::{Linear, logistic, softmax};
use crate::scorers::walk;

/// Inputs beyond are taken for it: forust's last bin ends at the largest number.
const INPUT_MAX: f64 = 1e300;
/// Log-odds that rows are given at the start lie within.
const BASE_MAX: f64 = 30.0;
/// Bytes that the histograms of a level may take.
const HISTOGRAMS_MAX: usize = 1 << 30;

/// The entry of the list.
pub(crate) struct GradientBoostingKind;

impl Component for GradientBoostingKind {
    fn name(&self) -> &'static str {
        "gradient-boosting"
    }

    fn summary(&self) -> &'static str {
        "Gradient-boosted trees on histograms (forust). Binary, multiclass and regression tasks. Missing numbers stay \
         missing: each question learns which way they go. A category is asked by its code as if it were a number; where \
         that does not serve, encode the column as `one-hot` or `hash`. Rows count by their weights."
    }

    fn fields(&self) -> &'static [Field] {
        const fn share(name: &'static str, doc: &'static str) -> Field {
            Field {
                name,
                kind: Kind::Float,
                need: Need::Optional("1.0"),
                doc,
            }
        }
        const FIELDS: &[Field] = &[
            named(&["gradient-boosting"]),
            Field {
                name: "trees",
                kind: Kind::Integer,
                need: Need::Optional("100"),
                doc: "Number of trees, from 1 to 5000; of several classes, for each.",
            },
            Field {
                name: "learning_rate",
                kind: Kind::Float,
                need: Need::Optional("0.1"),
                doc: "How much of a tree's correction is made, from 0.001 to 1.",
            },
            Field {
                name: "depth_max",
                kind: Kind::Integer,
                need: Need::Optional("6"),
                doc: "Questions from the root to a leaf at most, from 1 to 16.",
            },
            Field {
                name: "leaf_weight_min",
                kind: Kind::Float,
                need: Need::Optional("1.0"),
                doc: "Least sum of the rows' second derivatives in a leaf, from 0.001 to 1e6: in regression the rows, in \
                      classification those rows that are not yet certain, a fourth each at most; weights are divided by \
                      their mean.",
            },
            Field {
                name: "l2",
                kind: Kind::Float,
                need: Need::Optional("1.0"),
                doc: "Draws the values of leaves to 0: added to the sum of second derivatives that they are divided by; \
                      from 0 to 1e6.",
            },
            share(
                "rows_share",
                "Share of the rows, drawn anew, that each tree is grown on; from 0.05 to 1.",
            ),
            share(
                "inputs_share",
                "Share of the inputs, drawn anew, that each tree may ask; from 0.05 to 1.",
            ),
            Field {
                name: "bins",
                kind: Kind::Integer,
                need: Need::Optional("255"),
                doc: "Bins into which the values of an input are sorted, from 2 to 1000: where a question may be asked.",
            },
            Field {
                name: "rows_max",
                kind: Kind::Integer,
                need: Need::Optional("1000000"),
                doc: "Rows that are used at most, from 2 to 100,000,000; of more, a seeded sample.",
            },
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"gradient-boosting\"\ntrees = 100\nlearning_rate = 0.1\ndepth_max = 6\n"
    }
}

impl LearnerKind<dyn BatchLearner> for GradientBoostingKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        let encoder = context.encoder(Form::Native, section, problems)?;
        if context.task == Task::Anomaly {
            let help = "`gradient-boosting` learns binary, multiclass and regression tasks";
            refuse_task(section, help, problems);
        }
        let settings = Settings::read(section, problems);
        let level = (encoder.width() * (settings.bins as usize + 2) * 8) << (settings.depth_max - 1);
        if level > HISTOGRAMS_MAX {
            let message = format!("the histograms of {} inputs need {level} bytes", encoder.width());
            let help = format!("lower `depth_max` or `bins`; {HISTOGRAMS_MAX} bytes are possible");
            problems.push(section.span(), message, Some(help));
        }
        let fit = Fit {
            task: context.task,
            encoder,
            settings,
        };
        let fit = around(Box::new(fit), section, context, problems);
        (problems.len() == before).then_some(fit)
    }
}

/// How trees are grown, and how many.
#[derive(Debug, Clone)]
struct Settings {
    trees: usize,
    learning_rate: f32,
    depth_max: usize,
    leaf_weight_min: f32,
    l2: f32,
    rows_share: f64,
    inputs_share: f64,
    bins: u16,
    rows_max: usize,
}

impl Settings {
    fn read(section: &Section<'_>, problems: &mut Problems) -> Self {
        let mut number = |key: &str, usual: f64, least: f64, most: f64| {
            let number = section.get_or(key, usual, problems);
            if !(least..=most).contains(&number) {
                let message = format!("`{key}` must be from {least} to {most}");
                problems.push(section.key_span(key), message, None);
            }
            number
        };
        let learning_rate = number("learning_rate", 0.1, 0.001, 1.0) as f32;
        let leaf_weight_min = number("leaf_weight_min", 1.0, 0.001, 1e6) as f32;
        let l2 = number("l2", 1.0, 0.0, 1e6) as f32;
        let rows_share = number("rows_share", 1.0, 0.05, 1.0);
        let inputs_share = number("inputs_share", 1.0, 0.05, 1.0);
        Self {
            trees: whole(section, "trees", 100, 1..=5_000, problems) as usize,
            learning_rate,
            depth_max: whole(section, "depth_max", 6, 1..=16, problems) as usize,
            leaf_weight_min,
            l2,
            rows_share,
            inputs_share,
            bins: whole(section, "bins", 255, 2..=1_000, problems) as u16,
            rows_max: whole(section, "rows_max", 1_000_000, 2..=100_000_000, problems) as usize,
        }
    }

    fn splitter(&self) -> MissingImputerSplitter {
        MissingImputerSplitter {
            l1: 0.0,
            l2: self.l2,
            max_delta_step: 0.0,
            gamma: 0.0,
            min_leaf_weight: self.leaf_weight_min,
            learning_rate: self.learning_rate,
            allow_missing_splits: true,
            constraints_map: ConstraintMap::new(),
        }
    }
}

/// What is to be fitted, and how.
struct Fit {
    task: Task,
    encoder: ColumnsEncoder,
    settings: Settings,
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let mut set = TrainingSet::weighted(rows, &self.encoder, self.task, self.settings.rows_max, start.seed)?;
        for x in set.x.values_mut() {
            *x = x.clamp(-INPUT_MAX, INPUT_MAX);
        }
        let (base, trees) = boost(&self.settings, self.task, &set.x, &set.values, &set.weights, start.seed)?;
        let ensemble = Ensemble::new(Linear::link(self.task), set.x.width(), base, &trees).map_err(FitError)?;
        Model::new(self.task, Arc::new(set.encoder), Arc::new(ensemble)).map_err(FitError)
    }
}

/// What is learned from: for each row and output, how wrong the sums of trees are.
struct Loss<'a> {
    task: Task,
    /// Classes, or values less the base and divided by `scale`.
    y: Vec<f64>,
    weights: &'a [f64],
    /// What outputs are without a tree, in the units of the labels.
    base: Vec<f64>,
    /// A power of two; values of leaves are multiplied by it, exactly.
    scale: f64,
}

impl<'a> Loss<'a> {
    fn new(task: Task, labels: &[f64], weights: &'a [f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let share = |class: f64| {
            let pairs = labels.iter().zip(weights).filter(|(label, _)| **label == class);
            pairs.fold(0.0, |sum, (_, weight)| sum + weight)
        };
        let (mut y, mut scale) = (labels.to_vec(), 1.0);
        let base = match task {
            Task::Multiclass { classes } => (0..classes)
                .map(|class| (share(f64::from(class)) / total).ln().max(-BASE_MAX))
                .collect(),
            Task::Binary | Task::Anomaly => {
                let ones = share(1.0);
                vec![(ones / (total - ones).max(0.0)).ln().clamp(-BASE_MAX, BASE_MAX)]
            }
            Task::Regression => {
                let pairs = || labels.iter().zip(weights);
                let mean = pairs().fold(0.0, |sum, (y, weight)| sum + weight / total * y);
                let square = pairs().fold(0.0, |sum, (y, weight)| sum + weight / total * (y - mean).powi(2));
                if square > 0.0 {
                    scale = square.sqrt().log2().round().clamp(-1_000.0, 1_000.0).exp2();
                }
                y.iter_mut().for_each(|y| *y = (*y - mean) / scale);
                vec![mean]
            }
        };
        Self {
            task,
            y,
            weights,
            base,
            scale,
        }
    }

    /// The sums before the first tree, output by output.
    fn start(&self) -> Vec<Vec<f64>> {
        let rows = self.y.len();
        match self.task {
            Task::Regression => vec![vec![0.0; rows]],
            _ => self.base.iter().map(|base| vec![*base; rows]).collect(),
        }
    }

    /// Gradients and second derivatives of all outputs, from the sums.
    fn slopes(&self, sums: &[Vec<f64>], slopes: &mut [Slopes]) {
        let classes = sums.len();
        let mut p = vec![0.0; classes];
        for (row, (y, weight)) in self.y.iter().zip(self.weights).enumerate() {
            p.iter_mut().zip(sums).for_each(|(p, sums)| *p = sums[row]);
            match self.task {
                Task::Multiclass { .. } => softmax(&mut p),
                Task::Binary | Task::Anomaly => p[0] = logistic(p[0]),
                Task::Regression => {}
            }
            for (class, (p, slopes)) in p.iter().zip(slopes.iter_mut()).enumerate() {
                let (gradient, curvature) = match self.task {
                    // With two classes this is what the logistic function makes of the difference of their sums.
                    Task::Multiclass { .. } => (
                        p - if *y == class as f64 { 1.0 } else { 0.0 },
                        p * (1.0 - p) * classes as f64 / (classes as f64 - 1.0),
                    ),
                    Task::Binary | Task::Anomaly => (p - y, p * (1.0 - p)),
                    Task::Regression => (p - y, 1.0),
                };
                slopes.gradients[row] = (gradient * weight) as f32;
                slopes.curvatures[row] = (curvature * weight) as f32;
            }
        }
    }
}

/// First and second derivatives of the loss by an output, row by row.
#[derive(Debug, Clone)]
struct Slopes {
    gradients: Vec<f32>,
    curvatures: Vec<f32>,
}

/// What all trees are grown from.
struct Ground<'a> {
    settings: &'a Settings,
    splitter: MissingImputerSplitter,
    x: &'a Matrix,
    binned: BinnedData<f64>,
}

/// The base of each output, and the trees in the order in which they were grown.
fn boost(
    settings: &Settings,
    task: Task,
    x: &Matrix,
    labels: &[f64],
    weights: &[f64],
    seed: u64,
) -> Result<(Vec<f64>, Vec<walk::PlainTree>), FitError> {
    let (rows, width) = (x.rows(), x.width());
    let loss = Loss::new(task, labels, weights);
    if width == 0 {
        return Err(FitError("there is no input to ask; add a feature".to_owned()));
    }
    let trees = guarded(|| {
        let values: Vec<f64> = (0..width)
            .flat_map(|column| x.values().iter().skip(column).step_by(width).copied())
            .collect();
        let ground = Ground {
            settings,
            splitter: settings.splitter(),
            x,
            binned: bin_matrix(
                &Columns::new(&values, rows, width),
                weights,
                settings.bins,
                f64::NAN,
                false,
            )?,
        };
        let mut random = Pcg64::seed_from_u64(seed);
        let mut sums = loss.start();
        let mut slopes = vec![
            Slopes {
                gradients: vec![0.0; rows],
                curvatures: vec![0.0; rows],
            };
            sums.len()
        ];
        let mut trees = Vec::new();
        for _ in 0..settings.trees {
            loss.slopes(&sums, &mut slopes);
            for (output, (sums, slopes)) in sums.iter_mut().zip(&slopes).enumerate() {
                let grown = ground.grow(slopes, &mut random, sums);
                trees.push((output, grown));
            }
        }
        Ok::<_, ForustError>(trees)
    })?;
    let plain = trees.iter().map(|(output, tree)| plain(tree, *output, loss.scale));
    Ok((loss.base, plain.collect::<Option<_>>().ok_or_else(unexpected)?))
}

impl Ground<'_> {
    /// Grows the next tree and adds to `sums` what it says of each row.
    fn grow(&self, slopes: &Slopes, random: &mut Pcg64, sums: &mut [f64]) -> Tree {
        let (rows, width) = (self.x.rows(), self.x.width());
        let share = self.settings.rows_share;
        let (chosen, left_out): (Vec<usize>, Vec<usize>) = if share < 1.0 {
            (0..rows).partition(|_| uniform(random) < share)
        } else {
            ((0..rows).collect(), Vec::new())
        };
        let inputs = draw(width, self.settings.inputs_share, random);
        let mut tree = Tree::new();
        let bins = Columns::new(&self.binned.binned_data, rows, width);
        let method = if share < 1.0 {
            SampleMethod::Random
        } else {
            SampleMethod::None
        };
        let grown = tree.fit(
            &bins,
            chosen,
            &inputs,
            &self.binned.cuts,
            &slopes.gradients,
            &slopes.curvatures,
            &self.splitter,
            usize::MAX,
            self.settings.depth_max,
            false,
            &method,
            &GrowPolicy::DepthWise,
        );
        self.add(&tree, grown, &left_out, sums);
        tree
    }

    /// Rows that the tree was grown on are in its leaves already; others walk it.
    fn add(&self, tree: &Tree, grown: Option<TreeRows>, left_out: &[usize], sums: &mut [f64]) {
        let mut walk = |row: usize| {
            let inputs = self.x.values().get(row * self.x.width()..).unwrap_or_default();
            sums[row] += tree.predict_row_from_row_slice(inputs, &f64::NAN);
        };
        match &grown {
            Some(_) => left_out.iter().for_each(|row| walk(*row)),
            None => (0..self.x.rows()).for_each(walk),
        }
        for (rows, value) in grown.iter().flat_map(|grown| grown.leaves(tree)) {
            rows.iter().for_each(|row| sums[*row] += value);
        }
    }
}

/// So large a share of the inputs, at least one, in their order.
fn draw(width: usize, share: f64, random: &mut Pcg64) -> Vec<usize> {
    let mut wanted = ((width as f64 * share).round() as usize).clamp(1, width);
    if wanted == width {
        return (0..width).collect();
    }
    let mut drawn = Vec::with_capacity(wanted);
    for input in 0..width {
        if uniform(random) * ((width - input) as f64) < wanted as f64 {
            drawn.push(input);
            wanted -= 1;
        }
    }
    drawn
}

/// A tree in our own form. forust asks `x < value`, which is `x <=` the number just below.
fn plain(tree: &Tree, output: usize, scale: f64) -> Option<walk::PlainTree> {
    let nodes = tree.nodes.iter().map(|node| {
        let kind = if node.is_leaf {
            walk::Kind::Leaf(f64::from(node.weight_value) * scale)
        } else {
            let missing_left = node.missing_node == node.left_child;
            if node.right_child != node.left_child + 1 || !(missing_left || node.missing_node == node.right_child) {
                return None;
            }
            walk::Kind::Split {
                input: u32::try_from(node.split_feature).ok()?,
                threshold: node.split_value.next_down(),
                missing_left,
                left: u32::try_from(node.left_child).ok()?,
            }
        };
        Some(walk::Plain {
            kind,
            cover: node.hessian_sum,
        })
    });
    Some(walk::PlainTree {
        output,
        nodes: nodes.collect::<Option<_>>()?,
    })
}

/// forust's trees are not what this file takes them for: a mistake of ours, found by the tests below.
fn unexpected() -> FitError {
    FitError("forust's trees are not laid out as expected; this is a bug of Driftmill".to_owned())
}

#[cfg(test)]
mod tests {
    use forust_ml::GradientBooster;
    use forust_ml::objective::ObjectiveType;

    use super::*;
    use crate::contracts::Scorer;

    /// Random rows, some numbers missing, some equal; and values that depend on them.
    fn random(rows: usize, width: usize, seed: u64) -> (Matrix, Vec<f64>, Vec<f64>) {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut x = Matrix::new();
        x.reset(rows, width);
        for (place, x) in x.values_mut().iter_mut().enumerate() {
            let draw = 7.0 * uniform(&mut random);
            *x = match place % 7 {
                0 if draw < 1.0 => f64::NAN,
                0..4 => draw.floor(),
                _ => draw,
            };
        }
        let y = x
            .iter()
            .map(|row| (row[0] - row[1]).abs().max(1.0) + row[2].max(0.0) + uniform(&mut random))
            .collect();
        let weights = (0..rows).map(|_| 0.5 + uniform(&mut random)).collect();
        (x, y, weights)
    }

    fn settings(trees: usize, depth_max: usize) -> Settings {
        Settings {
            trees,
            learning_rate: 0.3,
            depth_max,
            leaf_weight_min: 1.0,
            l2: 1.0,
            rows_share: 1.0,
            inputs_share: 1.0,
            bins: 64,
            rows_max: 1_000_000,
        }
    }

    /// What forust's own loop makes of the rows.
    fn forusts(settings: &Settings, objective: ObjectiveType, x: &Matrix, y: &[f64], weights: &[f64]) -> Vec<f64> {
        let columns = columns(x);
        let matrix = Columns::new(&columns, x.rows(), x.width());
        let mut booster = GradientBooster::default()
            .set_objective_type(objective)
            .set_iterations(settings.trees)
            .set_learning_rate(settings.learning_rate)
            .set_max_depth(settings.depth_max)
            .set_nbins(settings.bins)
            .set_parallel(false);
        booster.fit(&matrix, y, weights, None).unwrap();
        booster.predict(&matrix, false)
    }

    fn columns(x: &Matrix) -> Vec<f64> {
        let column = |column| x.values().iter().skip(column).step_by(x.width()).copied();
        (0..x.width()).flat_map(column).collect()
    }

    fn scores(task: Task, x: &Matrix, base: Vec<f64>, trees: &[walk::PlainTree]) -> Vec<f64> {
        let ensemble = Ensemble::new(Linear::link(task), x.width(), base, trees).unwrap();
        let mut out = Vec::new();
        ensemble.score(x, &mut out);
        out
    }

    #[test]
    fn probabilities_are_forusts_to_the_bit() {
        for seed in 0..6 {
            let (x, y, weights) = random(700, 5, seed);
            let y: Vec<f64> = y.iter().map(|y| f64::from(u8::from(*y > 6.0))).collect();
            let settings = settings(12, 1 + seed as usize);
            let (base, trees) = boost(&settings, Task::Binary, &x, &y, &weights, seed).unwrap();
            let expected = forusts(&settings, ObjectiveType::LogLoss, &x, &y, &weights);
            let found = scores(Task::Binary, &x, base, &trees);
            for (row, (found, sum)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found.to_bits(), logistic(sum).to_bits(), "seed {seed}, row {row}");
            }
            assert!(
                found.iter().any(|p| *p > 0.8) && found.iter().any(|p| *p < 0.2),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn values_are_forusts_on_the_scaled_labels() {
        for seed in 0..4 {
            let (x, y, weights) = random(500, 4, seed);
            let y: Vec<f64> = y.iter().map(|y| 1e7 * y - 3e8).collect();
            let settings = settings(10, 4);
            let (base, trees) = boost(&settings, Task::Regression, &x, &y, &weights, seed).unwrap();
            let loss = Loss::new(Task::Regression, &y, &weights);
            let found = scores(Task::Regression, &x, base, &trees);
            let expected = forusts(&settings, ObjectiveType::SquaredLoss, &x, &loss.y, &weights);
            for (found, expected) in found.iter().zip(expected) {
                let expected = loss.base[0] + loss.scale * expected;
                assert!(
                    (found - expected).abs() < 1e-5 * loss.scale,
                    "seed {seed}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn several_classes_are_boosted_together_from_seeded_draws() {
        let (x, y, weights) = random(600, 5, 3);
        let y: Vec<f64> = y.iter().map(|y| (y / 4.0).floor().min(2.0)).collect();
        let task = Task::Multiclass { classes: 3 };
        let settings = Settings {
            rows_share: 0.6,
            inputs_share: 0.5,
            ..settings(8, 5)
        };
        let (base, trees) = boost(&settings, task, &x, &y, &weights, 5).unwrap();
        assert_eq!(trees.len(), 24);
        let again = boost(&settings, task, &x, &y, &weights, 5).unwrap();
        assert!(again.1 == trees, "seed 5 makes other trees");
        assert!(boost(&settings, task, &x, &y, &weights, 6).unwrap().1 != trees);
        let found = scores(task, &x, base, &trees);
        let right = found
            .chunks(3)
            .zip(&y)
            .filter(|(p, y)| p.iter().all(|other| p[**y as usize] >= *other));
        assert!(right.count() > 500, "most rows that were learned are answered right");
    }

    #[test]
    fn hostile_rows_make_finite_trees() {
        let (mut x, y, _) = random(300, 4, 9);
        let extremes = [1e300, -1e300, 0.0, -0.0, f64::MIN_POSITIVE, f64::NAN, 5.0];
        for (place, x) in x.values_mut().iter_mut().enumerate() {
            *x = extremes[place * 13 % 7];
        }
        let class: Vec<f64> = y.iter().map(|y| f64::from(u8::from(*y > 6.0))).collect();
        let huge: Vec<f64> = y
            .iter()
            .enumerate()
            .map(|(row, y)| if row % 3 == 0 { 1e100 } else { *y })
            .collect();
        let uneven: Vec<f64> = (0..300).map(|row| [1e6, 1e-6, 1.0][row % 3]).collect();
        for (task, y) in [
            (Task::Binary, &class),
            (Task::Binary, &vec![1.0; 300]),
            (Task::Regression, &huge),
            (Task::Regression, &vec![3.0; 300]),
        ] {
            let (base, trees) = boost(&settings(5, 6), task, &x, y, &uneven, 1).unwrap();
            let found = scores(task, &x, base, &trees);
            assert!(found.iter().all(|score| score.is_finite()), "{task:?}");
        }
        x.values_mut().fill(f64::NAN);
        let (base, trees) = boost(&settings(5, 6), Task::Binary, &x, &class, &uneven, 1).unwrap();
        let found = scores(Task::Binary, &x, base, &trees);
        assert!(
            found.iter().all(|score| *score == found[0]),
            "nothing is known of any row"
        );
    }

    #[test]
    fn inputs_are_drawn_in_their_order_and_never_none() {
        let mut random = Pcg64::seed_from_u64(4);
        for (width, share, expected) in [(1, 0.05, 1), (10, 0.5, 5), (7, 1.0, 7), (20, 0.05, 1)] {
            let drawn = draw(width, share, &mut random);
            assert_eq!(drawn.len(), expected);
            assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn.iter().all(|input| *input < width));
        }
    }
}
