//! `extra-trees`: fitted by smartcore (Geurts, Ernst and Wehenkel, "Extremely randomized trees", Machine Learning 2006),
//! scored by the [`TreeMeans`] scorer.
//!
//! smartcore has such trees for values only. For two classes a mean of 0 and 1 is the share of class 1, and the best
//! split by squared errors is the best by Gini's index. For several classes each group of trees tells one half of them
//! from the other; then the shares of all classes are counted in the leaves (`fitted_trees.rs`), which is exact since
//! every tree is grown on all rows. Weights are smartcore's own.

use std::sync::Arc;

use driftmill_config::{Component, Field, Problems, Section};
use smartcore::ensemble::extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters};

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::fitted_trees::{Grown, of_classes, shares};
use super::random_forest::{DEPTH_MAX, LEAF_ROWS_MIN, Shape, TREES, inputs_asked};
use super::rows::{TrainingSet, dense, guarded};
use super::settings::{named, refuse_task, rows_max, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::scorers::tree_means::{Answer, TreeMeans};

/// The entry of the list.
pub(crate) struct ExtraTreesKind;

impl Component for ExtraTreesKind {
    fn name(&self) -> &'static str {
        "extra-trees"
    }

    fn summary(&self) -> &'static str {
        "Extremely randomised trees (smartcore): each looks at all rows and asks the best of questions whose thresholds \
         are drawn at random, which is faster than a random forest and smoother. Binary, multiclass and regression tasks: \
         the mean over the trees of the shares of classes, or of the values, in their leaves. Rows count by their weights."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["extra-trees"]),
            TREES,
            DEPTH_MAX,
            LEAF_ROWS_MIN,
            rows_max("50000"),
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"extra-trees\"\ntrees = 100\ndepth_max = 10\nleaf_rows_min = 3\nrows_max = 20_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for ExtraTreesKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        if context.task == Task::Anomaly {
            let help = "`extra-trees` learns binary, multiclass and regression tasks";
            refuse_task(section, help, problems);
            return None;
        }
        // smartcore's trees know neither missing values nor categories.
        let encoder = context.encoder(Form::Scaled, section, problems)?;
        let fit = Fit {
            task: context.task,
            inputs_asked: inputs_asked(&encoder),
            encoder,
            shape: Shape::from_config(section, problems),
            rows_max: whole(section, "rows_max", 50_000, 2..=1_000_000, problems) as usize,
        };
        let fit = around(Box::new(fit), section, context, problems);
        (problems.len() == before).then_some(fit)
    }
}

/// What is to be fitted, and how.
struct Fit {
    task: Task,
    encoder: ColumnsEncoder,
    shape: Shape,
    rows_max: usize,
    /// For classes.
    inputs_asked: usize,
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let set = TrainingSet::weighted(rows, &self.encoder, self.task, self.rows_max, start.seed)?;
        let scorer = self.trees(&set, start.seed)?;
        Model::new(self.task, Arc::new(set.encoder), Arc::new(scorer)).map_err(FitError)
    }
}

impl Fit {
    /// smartcore's parameters. Of how many inputs the best is asked: of all for values, as Geurts et al. have it, for
    /// classes of [`inputs_asked`].
    fn parameters(&self, trees: usize, width: usize, seed: u64) -> ExtraTreesRegressorParameters {
        let inputs = match self.task {
            Task::Regression => width,
            _ => self.inputs_asked,
        };
        ExtraTreesRegressorParameters::default()
            .with_n_trees(trees)
            .with_max_depth(self.shape.levels)
            .with_min_samples_leaf(self.shape.leaf_rows_min)
            .with_m(inputs)
            .with_seed(seed)
    }

    fn trees(&self, set: &TrainingSet, seed: u64) -> Result<TreeMeans, FitError> {
        let (width, count) = (set.x.width(), usize::from(self.shape.trees));
        let (answer, trees) = match self.task {
            Task::Multiclass { classes } => {
                let classes = (classes as usize).max(2);
                let grow = |labels: &Vec<f64>, trees, seed| grown(set, labels, self.parameters(trees, width, seed));
                let grown = of_classes(set, classes, count, seed, grow)?.into_iter();
                let trees = grown.map(|(nodes, _)| shares(nodes, classes, set, |_| true));
                (Answer::Classes(classes), trees.collect())
            }
            Task::Regression => {
                let grown = grown(set, &set.values, self.parameters(count, width, seed))?;
                (Answer::Value, grown.trees)
            }
            Task::Binary | Task::Anomaly => {
                let mut trees = grown(set, &set.values, self.parameters(count, width, seed))?.trees;
                // A mean of 0 and 1 may be above 1 by what rounding makes.
                let values = trees.iter_mut().flat_map(|tree| &mut tree.values);
                values.for_each(|value| *value = value.clamp(0.0, 1.0));
                (Answer::Binary, trees)
            }
        };
        TreeMeans::new(answer, width, trees).map_err(FitError)
    }
}

/// smartcore's trees for these labels.
fn grown(set: &TrainingSet, labels: &Vec<f64>, parameters: ExtraTreesRegressorParameters) -> Result<Grown, FitError> {
    let fitted = guarded(|| ExtraTreesRegressor::fit_with_weights(&dense(&set.x)?, labels, &set.weights, parameters))?;
    Grown::of(&fitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::Scorer;
    use crate::learners::least_squares::tests::random;
    use crate::learners::tree::largest;

    fn fit(task: Task, trees: u16) -> Fit {
        Fit {
            task,
            encoder: ColumnsEncoder::new(Arc::new([]), vec![]),
            shape: Shape {
                trees,
                levels: 7,
                leaf_rows_min: 2,
            },
            rows_max: 1_000,
            inputs_asked: 2,
        }
    }

    #[test]
    fn values_are_smartcores_to_the_bit() {
        for seed in 0..4 {
            let (mut train, test) = (random(300, seed), random(200, seed + 50));
            train.weights = (0..300).map(|row| 0.5 + f64::from(row % 3) / 2.0).collect();
            let fit = fit(Task::Regression, 9);
            let (x, asked) = (dense(&train.x).unwrap(), dense(&test.x).unwrap());
            let parameters = fit.parameters(9, 4, seed);
            let theirs = ExtraTreesRegressor::fit_with_weights(&x, &train.values, &train.weights, parameters);
            let mut ours = Vec::new();
            fit.trees(&train, seed).unwrap().score(&test.x, &mut ours);
            assert_eq!(ours, theirs.unwrap().predict(&asked).unwrap(), "seed {seed}");
        }
    }

    #[test]
    fn shares_counted_anew_are_the_means_of_smartcores_leaves() {
        let mut set = random(300, 1);
        set.y = set.values.iter().map(|y| u32::from(*y > 8.0)).collect();
        set.values = set.y.iter().map(|class| f64::from(*class)).collect();
        set.weights = (0..300).map(|row| 0.5 + f64::from(row % 3) / 2.0).collect();
        let grown = grown(&set, &set.values, fit(Task::Binary, 9).parameters(9, 4, 1)).unwrap();
        for tree in grown.trees {
            let counted = shares(tree.nodes.clone(), 2, &set, |_| true);
            for (pair, mean) in counted.values.chunks(2).zip(&tree.values) {
                assert!((pair[1] - mean).abs() < 1e-12 && (pair[0] + pair[1] - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn several_classes_are_told_apart() {
        let labels = |set: &mut TrainingSet| set.y = set.values.iter().map(|y| ((y / 2.0) as u32).min(4)).collect();
        let (mut train, mut test) = (random(600, 1), random(300, 2));
        labels(&mut train);
        labels(&mut test);
        let mut scores = Vec::new();
        let task = Task::Multiclass { classes: 5 };
        fit(task, 40).trees(&train, 1).unwrap().score(&test.x, &mut scores);
        let pairs = scores.chunks(5).zip(&test.y);
        let right = pairs
            .filter(|(shares, class)| largest(shares) as u32 == **class)
            .count();
        assert!(right > 195, "{right} of 300");
    }
}
