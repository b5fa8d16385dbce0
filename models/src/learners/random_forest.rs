//! `random-forest`: fitted by smartcore (Breiman, "Random Forests", Machine Learning 2001), scored by the
//! [`Forest`] scorer.
//!
//! smartcore's forest answers with the majority of its trees, each of which has one vote. The scorer counts the same
//! votes; the number of votes becomes a probability by a table that is fitted on the votes of the trees that did not
//! see a row (Platt scaling on the out-of-bag votes). The table increases strictly, so smartcore's answer is
//! `score > Forest::majority`, exactly; the model itself decides at a probability of 0.5, which is right more often
//! where one class is rare and hardly a tree ever votes for it.
//!
//! For several classes and for values the scorer is [`TreeMeans`]. Its values are the means that smartcore's trees have
//! in their leaves, and its answers are smartcore's to the bit. Several classes are learned by such trees too, in whose
//! leaves the shares of all classes are counted over the rows that a tree was grown on (each once, however often it was
//! drawn; `fitted_trees.rs`). How sure their means are is then set by one power of them all (Guo et al., "On calibration of modern neural networks", ICML
//! 2017), fitted on what the trees say that did not see a row.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};
use serde::Deserialize;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::fitted_trees::{Grown, Questions, of_classes, shares};
use super::rows::{TrainingSet, dense, guarded};
use super::settings::{named, refuse_task, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Scorer, Task};
use crate::encoders::ColumnsEncoder;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::scorers::forest::{Forest, Node, vote};
use crate::scorers::linear::{logistic, softmax};
use crate::scorers::tree_means::{Answer, TreeMeans};

/// Keys of all forests.
pub(super) const TREES: Field = Field {
    name: "trees",
    kind: Kind::Integer,
    need: Need::Optional("100"),
    doc: "Number of trees, from 1 to 1000.",
};
/// As [`TREES`].
pub(super) const DEPTH_MAX: Field = Field {
    name: "depth_max",
    kind: Kind::Integer,
    need: Need::Optional("12"),
    doc: "Questions from the root to a leaf at most, from 1 to 64.",
};
/// As [`TREES`].
pub(super) const LEAF_ROWS_MIN: Field = Field {
    name: "leaf_rows_min",
    kind: Kind::Integer,
    need: Need::Optional("5"),
    doc: "Training rows in a leaf at least.",
};

/// How large a forest becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) trees: u16,
    /// Levels of a tree as smartcore counts them, the root among them; we count questions.
    pub(super) levels: u16,
    pub(super) leaf_rows_min: usize,
}

impl Shape {
    /// Reads the keys above.
    pub(super) fn from_config(section: &Section<'_>, problems: &mut Problems) -> Self {
        Self {
            trees: whole(section, "trees", 100, 1..=1_000, problems) as u16,
            levels: whole(section, "depth_max", 12, 1..=64, problems) as u16 + 1,
            leaf_rows_min: whole(section, "leaf_rows_min", 5, 1..=1_000_000, problems) as usize,
        }
    }
}

/// Of how many inputs a question about classes is the best: of as many columns as their square root, each with all of
/// its inputs. smartcore counts those that are constant in a node, as most of a one-hot column are.
pub(super) fn inputs_asked(encoder: &ColumnsEncoder) -> usize {
    let columns = encoder.columns().len().max(1) as f64;
    (encoder.width() as f64 / columns.sqrt()).ceil() as usize
}

/// The entry of the list.
pub(crate) struct RandomForestKind;

impl Component for RandomForestKind {
    fn name(&self) -> &'static str {
        "random-forest"
    }

    fn summary(&self) -> &'static str {
        "A random forest (smartcore). Binary tasks: its probabilities are calibrated on the votes of the trees that did \
         not see a row. Multiclass and regression tasks: the mean over the trees of the shares of classes, or of the \
         values, in their leaves. Rows whose weights differ are drawn in proportion to them."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["random-forest"]),
            TREES,
            DEPTH_MAX,
            LEAF_ROWS_MIN,
            Field {
                name: "rows_max",
                kind: Kind::Integer,
                need: Need::Optional("20000"),
                doc: "Rows that are used at most; of more, a seeded sample. The time of a fit grows with their square.",
            },
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"random-forest\"\ntrees = 100\ndepth_max = 10\nleaf_rows_min = 5\nrows_max = 20_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for RandomForestKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        // smartcore's trees know neither missing values nor categories.
        let encoder = context.encoder(Form::Scaled, section, problems)?;
        if context.task == Task::Anomaly {
            let help = "`random-forest` learns binary, multiclass and regression tasks";
            refuse_task(section, help, problems);
        }
        let fit = Fit {
            task: context.task,
            shape: Shape::from_config(section, problems),
            rows_max: whole(section, "rows_max", 20_000, 2..=1_000_000, problems) as usize,
            encoder,
        };
        let fit = around(Box::new(fit), section, context, problems);
        (problems.len() == before).then_some(fit)
    }
}

/// What is to be fitted, and how.
struct Fit {
    task: Task,
    shape: Shape,
    rows_max: usize,
    encoder: ColumnsEncoder,
}

/// smartcore's model.
type Fitted = RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// smartcore's forest as it serialises itself: its fields are private. Names and order are smartcore's.
#[derive(Deserialize)]
struct PlainForest {
    trees: Option<Vec<PlainTree>>,
    classes: Option<Vec<u32>>,
    /// For each tree, the rows that it was grown on.
    samples: Option<Vec<Vec<bool>>>,
}

/// A tree of it. Markers of types, which take no bytes, follow.
#[derive(Deserialize)]
struct PlainTree {
    nodes: Vec<PlainNode>,
    _parameters: Option<PlainParameters>,
    _num_classes: usize,
    _classes: Vec<u32>,
    _depth: u16,
    _num_features: usize,
}

/// The parameters of a tree.
#[derive(Deserialize)]
struct PlainParameters {
    _criterion: PlainCriterion,
    _max_depth: Option<u16>,
    _min_samples_leaf: usize,
    _min_samples_split: usize,
    _seed: Option<u64>,
}

/// The criterion by which a tree was split.
#[derive(Deserialize)]
enum PlainCriterion {
    Gini,
    Entropy,
    ClassificationError,
}

/// A node of a tree.
#[derive(Deserialize)]
struct PlainNode {
    output: usize,
    samples: usize,
    split_feature: usize,
    split_value: Option<f64>,
    _split_score: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
    _impurity: Option<f64>,
}

/// Takes a fitted forest apart.
fn plain(fitted: &Fitted) -> Result<PlainForest, FitError> {
    let bytes = postcard::to_stdvec(fitted).map_err(|error| unexpected(&error.to_string()))?;
    match postcard::take_from_bytes(&bytes) {
        Ok((forest, [])) => Ok(forest),
        Ok((_, rest)) => Err(unexpected(&format!("{} bytes are left", rest.len()))),
        Err(error) => Err(unexpected(&error.to_string())),
    }
}

/// smartcore's types are not those that this file mirrors: a mistake of ours, found by the tests below.
fn unexpected(what: &str) -> FitError {
    FitError(format!(
        "smartcore's forest is not laid out as expected ({what}); this is a bug of Driftmill"
    ))
}

/// The nodes of a tree in our own layout: children side by side, which they are in smartcore's as well.
fn convert_tree(tree: &PlainTree, classes: &[u32]) -> Option<Box<[Node]>> {
    let convert = |node: &PlainNode| match (node.true_child, node.false_child, node.split_value) {
        (None, None, _) => Some(Node::leaf(*classes.get(node.output)? == 1)),
        (Some(left), Some(right), Some(threshold)) if right == left + 1 => Some(Node::split(
            u32::try_from(node.split_feature).ok()?,
            threshold,
            u32::try_from(left).ok()?,
        )),
        _ => None,
    };
    tree.nodes.iter().map(convert).collect()
}

/// Fits smartcore's forest.
fn fit(x: &Matrix, y: &Vec<u32>, parameters: RandomForestClassifierParameters) -> Result<Fitted, FitError> {
    guarded(|| RandomForestClassifier::fit(&dense(x)?, y, parameters))
}

/// Fits smartcore's forest of values; the scorer of our own.
fn values(set: &TrainingSet, parameters: RandomForestRegressorParameters) -> Result<TreeMeans, FitError> {
    let grown = grown(set, &set.values, parameters)?;
    TreeMeans::new(Answer::Value, set.x.width(), grown.trees).map_err(FitError)
}

/// smartcore's trees for these labels.
fn grown(set: &TrainingSet, labels: &Vec<f64>, parameters: RandomForestRegressorParameters) -> Result<Grown, FitError> {
    Grown::of(&guarded(|| {
        RandomForestRegressor::fit(&dense(&set.x)?, labels, parameters)
    })?)
}

/// A forest of several classes from its trees.
fn with_shares(trees: Vec<Questions>, classes: usize, set: &TrainingSet) -> Result<TreeMeans, FitError> {
    let (nodes, samples): (Vec<_>, Vec<_>) = trees.into_iter().unzip();
    let pairs = nodes.into_iter().zip(&samples);
    let trees = pairs.map(|(nodes, samples)| shares(nodes, classes, set, |row| samples.get(row) == Some(&true)));
    let means = TreeMeans::new(Answer::Classes(classes), set.x.width(), trees.collect()).map_err(FitError)?;
    let rows = set.x.iter().zip(&set.y).enumerate();
    let logs = rows.filter_map(|(row, (x, class))| {
        let saw = |tree: usize| {
            samples
                .get(tree)
                .is_some_and(|samples| samples.get(row) != Some(&false))
        };
        Some((means.logs_without(x, saw)?, *class as usize))
    });
    let power = best_power(&logs.collect::<Vec<_>>());
    Ok(means.with_power(power))
}

/// The power of shares of least log loss, given their logarithms and each row's class, by Newton's method, drawn a
/// little towards 1.
fn best_power(rows: &[(Vec<f64>, usize)]) -> f64 {
    let mut power = 1.0_f64;
    for _ in 0..30 {
        let (mut slope, mut bend) = (power - 1.0, 1.0);
        for (logs, class) in rows {
            let mut shares: Vec<f64> = logs.iter().map(|log| power * log).collect();
            softmax(&mut shares);
            let mean: f64 = shares.iter().zip(logs).map(|(share, log)| share * log).sum();
            let spread = |(share, log): (&f64, &f64)| share * (log - mean) * (log - mean);
            slope += mean - logs.get(*class).copied().unwrap_or(mean);
            bend += shares.iter().zip(logs).map(spread).sum::<f64>();
        }
        let step = (slope / bend).clamp(-0.5, 0.5);
        power = (power - step).clamp(0.05, 10.0);
        if step.abs() < 1e-9 {
            break;
        }
    }
    power
}

/// The same forest as a scorer of our own, calibrated on its own training rows.
fn convert(fitted: &Fitted, x: &Matrix, y: &[u32]) -> Result<Forest, FitError> {
    let plain = plain(fitted)?;
    let (Some(trees), Some(classes), Some(samples)) = (plain.trees, plain.classes, plain.samples) else {
        return Err(unexpected("it has no trees, classes or samples"));
    };
    let covers: Vec<Vec<f32>> = trees
        .iter()
        .map(|tree| tree.nodes.iter().map(|node| node.samples as f32).collect())
        .collect();
    let trees: Option<Vec<Box<[Node]>>> = trees.iter().map(|tree| convert_tree(tree, &classes)).collect();
    let trees = trees.ok_or_else(|| unexpected("a node has one child"))?;
    let calibration = calibrate(&trees, &samples, x, y);
    Forest::new(x.width(), &trees, Some(&covers), calibration).map_err(FitError)
}

/// The log-odds of the share `votes / voters`, finite by half a vote of a forest of `trees` on both sides. It depends
/// on the share alone: the fewer trees that did not see a row speak for all.
fn log_odds(votes: usize, voters: usize, trees: usize) -> f64 {
    let (share, half) = (votes as f64 / voters as f64, 0.5 / trees as f64);
    ((share + half) / (1.0 - share + half)).ln()
}

/// The probability of class 1 for every number of votes, strictly increasing.
fn calibrate(trees: &[Box<[Node]>], samples: &[Vec<bool>], x: &Matrix, y: &[u32]) -> Vec<f64> {
    let mut points = Vec::with_capacity(y.len());
    for (row, (inputs, &class)) in x.iter().zip(y).enumerate() {
        let (mut votes, mut voters) = (0, 0);
        for (tree, samples) in trees.iter().zip(samples) {
            if samples.get(row) == Some(&false) {
                votes += vote(tree, inputs);
                voters += 1;
            }
        }
        if voters > 0 {
            points.push((log_odds(votes, voters, trees.len()), f64::from(class), 1.0));
        }
    }
    let (slope, offset) = platt(&points);
    (0..=trees.len())
        .map(|votes| logistic(slope * log_odds(votes, trees.len(), trees.len()) + offset))
        .collect()
}

/// Slope and offset of a logistic regression of classes on one input, weighted (each point an input, a class and a
/// weight), by Newton's method, drawn a little towards the identity
/// (Platt, "Probabilistic outputs for support vector machines", 1999). Bounded, so that the table that is made with
/// them increases strictly in double precision.
pub(super) fn platt(points: &[(f64, f64, f64)]) -> (f64, f64) {
    const PRIOR: f64 = 1.0;
    let (mut slope, mut offset) = (1.0_f64, 0.0_f64);
    for _ in 0..50 {
        let (mut g0, mut g1) = (PRIOR * (slope - 1.0), PRIOR * offset);
        let (mut h00, mut h01, mut h11) = (PRIOR, 0.0, PRIOR);
        for &(t, y, weight) in points {
            let p = logistic(slope * t + offset);
            let (error, curvature) = (weight * (p - y), weight * p * (1.0 - p));
            g0 += error * t;
            g1 += error;
            h00 += curvature * t * t;
            h01 += curvature * t;
            h11 += curvature;
        }
        // The prior keeps the determinant above 0. A bounded step keeps Newton's method from leaping away.
        let determinant = h00 * h11 - h01 * h01;
        let step = ((h11 * g0 - h01 * g1) / determinant).clamp(-0.5, 0.5);
        let shift = ((h00 * g1 - h01 * g0) / determinant).clamp(-0.5, 0.5);
        slope = (slope - step).clamp(0.05, 3.0);
        offset = (offset - shift).clamp(-5.0, 5.0);
    }
    (slope, offset)
}

impl Fit {
    /// smartcore's parameters for two classes.
    fn parameters(&self, width: usize, seed: u64) -> RandomForestClassifierParameters {
        RandomForestClassifierParameters::default()
            .with_n_trees(self.shape.trees)
            .with_max_depth(self.shape.levels)
            .with_min_samples_leaf(self.shape.leaf_rows_min)
            .with_m((width as f64).sqrt().ceil() as usize)
            .with_keep_samples(true)
            .with_seed(seed)
    }

    /// Its parameters for values; each question is the best of so many inputs.
    fn value_parameters(&self, trees: usize, inputs: usize, seed: u64) -> RandomForestRegressorParameters {
        RandomForestRegressorParameters::default()
            .with_n_trees(trees)
            .with_max_depth(self.shape.levels)
            .with_min_samples_leaf(self.shape.leaf_rows_min)
            .with_m(inputs)
            .with_keep_samples(true)
            .with_seed(seed)
    }
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let seed = start.seed;
        let set = TrainingSet::new(rows, &self.encoder, self.task, self.rows_max, seed)?;
        let (width, trees) = (set.x.width(), usize::from(self.shape.trees));
        let scorer: Arc<dyn Scorer> = match self.task {
            // A third of the inputs (Breiman 2001).
            Task::Regression => Arc::new(values(&set, self.value_parameters(trees, width.div_ceil(3), seed))?),
            Task::Multiclass { classes } => {
                let (classes, inputs) = ((classes as usize).max(2), inputs_asked(&set.encoder));
                let grow =
                    |labels: &Vec<f64>, trees, seed| grown(&set, labels, self.value_parameters(trees, inputs, seed));
                let trees = of_classes(&set, classes, trees, seed, grow)?;
                Arc::new(with_shares(trees, classes, &set)?)
            }
            Task::Binary | Task::Anomaly => {
                let fitted = fit(&set.x, &set.y, self.parameters(width, seed))?;
                Arc::new(convert(&fitted, &set.x, &set.y)?)
            }
        };
        Model::new(self.task, Arc::new(set.encoder), scorer).map_err(FitError)
    }
}

#[cfg(test)]
mod tests {
    use rand_pcg::Pcg64;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::learners::least_squares::tests::random as random_values;
    use crate::learners::tree::largest;
    use crate::scorers::tree_means::leaf_of;

    /// Random rows, some of them with equal values; class 1 more likely where inputs 0 and 1 differ.
    fn random(rows: usize, width: usize, seed: u64) -> (Matrix, Vec<u32>) {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut uniform = move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut x = Matrix::new();
        x.reset(rows, width);
        for (place, x) in x.values_mut().iter_mut().enumerate() {
            *x = if place % 2 == 0 {
                (uniform() * 7.0).floor()
            } else {
                7.0 * uniform()
            };
        }
        let y = x
            .iter()
            .map(|row| u32::from(uniform() < if (row[0] - row[1]).abs() > 2.0 { 0.7 } else { 0.1 }))
            .collect();
        (x, y)
    }

    fn parameters(trees: u16, depth: u16, seed: u64) -> RandomForestClassifierParameters {
        RandomForestClassifierParameters::default()
            .with_n_trees(trees)
            .with_max_depth(depth)
            .with_keep_samples(true)
            .with_seed(seed)
    }

    #[test]
    fn answers_are_smartcores_on_random_rows() {
        for seed in 0..12 {
            let trees = 1 + seed as u16 * 3;
            let (x, y) = random(300, 5, seed);
            let fitted = fit(&x, &y, parameters(trees, 2 + seed as u16 % 9, seed)).unwrap();
            let forest = convert(&fitted, &x, &y).unwrap();
            let (mut test, _) = random(2_000, 5, seed + 1_000);
            // Values that stand exactly on thresholds, and far outside.
            test.values_mut()[..1_500].copy_from_slice(x.values());
            test.values_mut()[1_500..1_503].copy_from_slice(&[1e300, -1e300, 0.0]);
            let dense = DenseMatrix::new(2_000, 5, test.values().to_vec(), false).unwrap();
            let expected = fitted.predict(&dense).unwrap();
            let mut scores = Vec::new();
            forest.score(&test, &mut scores);
            let answers: Vec<u32> = scores.iter().map(|&p| u32::from(p > forest.majority())).collect();
            assert_eq!(answers, expected, "seed {seed}, {trees} trees");
        }
    }

    #[test]
    fn values_are_smartcores_to_the_bit() {
        for seed in 0..4 {
            let (train, test) = (random_values(300, seed), random_values(200, seed + 50));
            let parameters = || {
                RandomForestRegressorParameters::default()
                    .with_n_trees(9)
                    .with_max_depth(3 + seed as u16)
                    .with_seed(seed)
            };
            let theirs = RandomForestRegressor::fit(&dense(&train.x).unwrap(), &train.values, parameters()).unwrap();
            let mut ours = Vec::new();
            values(&train, parameters()).unwrap().score(&test.x, &mut ours);
            assert_eq!(ours, theirs.predict(&dense(&test.x).unwrap()).unwrap(), "seed {seed}");
        }
    }

    #[test]
    fn leaves_of_several_classes_know_their_shares() {
        let mut set = random_values(300, 1);
        set.y = set.values.iter().map(|y| ((y / 3.0) as u32).min(3)).collect();
        let parameters = |trees, seed| {
            RandomForestRegressorParameters::default()
                .with_n_trees(trees)
                .with_max_depth(5)
                .with_keep_samples(true)
                .with_seed(seed)
        };
        let grow = |labels: &Vec<f64>, trees, seed| grown(&set, labels, parameters(trees, seed));
        let trees = of_classes(&set, 4, 23, 1, grow).unwrap();
        let mut scores = Vec::new();
        let forest = with_shares(trees.clone(), 4, &set).unwrap();
        forest.with_power(1.0).score(&set.x, &mut scores);
        let mut right = 0;
        for (row, x) in set.x.iter().enumerate() {
            let mut shares = vec![0.0; 4];
            for (nodes, samples) in &trees {
                // The rows of the leaf, and all rows that the tree was grown on: a forest of roots is one tree more.
                let leaf = leaf_of(nodes, x);
                let rows = (0..300).filter(|row| samples[*row]);
                let of_leaf = |row: &usize| leaf_of(nodes, &set.x.values()[4 * row..4 * row + 4]) == leaf;
                let (all, here) = (rows.clone().count() as f64, rows.clone().filter(of_leaf).count() as f64);
                for row in rows {
                    let class = set.y[row] as usize;
                    shares[class] += f64::from(u8::from(of_leaf(&row))) / here + 1.0 / (all * 23.0);
                }
            }
            let scores = &scores[4 * row..4 * row + 4];
            assert!(
                scores
                    .iter()
                    .zip(&shares)
                    .all(|(p, share)| (p - share / 24.0).abs() < 1e-12)
            );
            right += usize::from(largest(scores) as u32 == set.y[row]);
        }
        assert!(right > 240, "{right} of 300");
    }

    #[test]
    fn shares_are_made_surer_or_less_sure_by_what_came() {
        // Of shares of 3 to 1 the larger class came 9 times of 10: as often as their squares say.
        let logs = |class| (vec![0.75_f64.ln(), 0.25_f64.ln()], class);
        let rows: Vec<_> = (0..10_000).map(|row| logs(usize::from(row % 10 == 0))).collect();
        assert!((best_power(&rows) - 2.0).abs() < 0.01);
        let even: Vec<_> = (0..10_000).map(|row| logs(row % 2)).collect();
        assert_eq!(best_power(&even), 0.05);
        assert_eq!(best_power(&[]), 1.0);
    }

    #[test]
    fn probabilities_are_calibrated_out_of_bag() {
        let (x, y) = random(3_000, 4, 9);
        let fitted = fit(&x, &y, parameters(50, 4, 9)).unwrap();
        let forest = convert(&fitted, &x, &y).unwrap();
        let (test, labels) = random(20_000, 4, 10);
        let mut scores = Vec::new();
        forest.score(&test, &mut scores);
        let log_loss = |p: &dyn Fn(usize) -> f64| {
            let sum: f64 = labels
                .iter()
                .enumerate()
                .map(|(row, &y)| if y == 1 { p(row) } else { 1.0 - p(row) }.ln())
                .sum();
            -sum / labels.len() as f64
        };
        let prior = labels.iter().sum::<u32>() as f64 / labels.len() as f64;
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((mean - prior).abs() < 0.02, "mean {mean}, prior {prior}");
        let (ours, theirs) = (log_loss(&|row| scores[row]), log_loss(&|_| prior));
        assert!(ours < theirs - 0.05, "log loss {ours}, that of the prior {theirs}");
    }

    #[test]
    fn the_table_increases_whatever_the_votes_say() {
        for (name, points) in [
            ("no votes", vec![]),
            (
                "the wrong way round",
                (0..500)
                    .map(|i| (f64::from(i % 11) - 5.0, f64::from(u32::from(i % 11 < 5)), 1.0))
                    .collect(),
            ),
            (
                "separated",
                (0..500)
                    .map(|i| (f64::from(i % 2) * 10.0 - 5.0, f64::from(i % 2), 1.0))
                    .collect(),
            ),
            ("one class", vec![(-7.0, 1.0, 1.0); 10_000]),
        ] {
            let (slope, offset) = platt(&points);
            let table: Vec<f64> = (0..=1_000)
                .map(|v| logistic(slope * log_odds(v, 1_000, 1_000) + offset))
                .collect();
            assert!(
                table.windows(2).all(|pair| pair[0] < pair[1]),
                "{name}: {slope} {offset}"
            );
        }
    }
}
