//! `gaussian-naive-bayes`: Bayes' rule over inputs taken for independent (John and Langley, "Estimating continuous
//! distributions in Bayesian classifiers", UAI 1995), fitted on a whole training set, scored by the
//! [`NaiveBayes`](crate::scorers::naive_bayes::NaiveBayes) scorer.
//!
//! smartcore's `GaussianNB` knows no weights, no categories and no missing values, and an input that is constant within
//! a class makes its densities infinite. So this is what the online learner `naive-bayes` comes to, with encoders that
//! have seen all rows beforehand, and inputs that are 0 or 1 throughout (one-hot) counted like categories: a class is
//! judged as if it had one more row, drawn from the rows of all. Up to that row, means and variances are smartcore's,
//! which the test compares.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::naive_bayes::fitted;
use super::rows::TrainingSet;
use super::settings::{named, refuse_task, rows_max, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;

/// The entry of the list.
pub(crate) struct GaussianNaiveBayesKind;

impl Component for GaussianNaiveBayesKind {
    fn name(&self) -> &'static str {
        "gaussian-naive-bayes"
    }

    fn summary(&self) -> &'static str {
        "Naive Bayes on a whole training set: numbers are taken for normally distributed within a class, categories and \
         inputs that are 0 or 1 are counted, missing values left out, each row by its weight. Binary and multiclass tasks. Fast and in need of few \
         rows; its probabilities are too sure where inputs go together."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["gaussian-naive-bayes"]),
            Field {
                name: "smoothing",
                kind: Kind::Float,
                need: Need::Optional("1"),
                doc: "Rows that every category counts in every class beforehand (Laplace smoothing), above 0 and at most \
                      1000.",
            },
            rows_max("200000"),
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"gaussian-naive-bayes\"\nsmoothing = 0.5\nrows_max = 100_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for GaussianNaiveBayesKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        let smoothing = section.get_or("smoothing", 1.0, problems);
        if !(smoothing > 0.0 && smoothing <= 1000.0) {
            let message = "`smoothing` must be above 0 and at most 1000".to_owned();
            problems.push(section.key_span("smoothing"), message, None);
        }
        let rows_max = whole(section, "rows_max", 200_000, 2..=10_000_000, problems) as usize;
        let (Task::Binary | Task::Multiclass { .. }) = context.task else {
            let help = "`gaussian-naive-bayes` learns binary and multiclass tasks";
            refuse_task(section, help, problems);
            return None;
        };
        let fit = Fit {
            task: context.task,
            encoder: context.encoder(Form::Native, section, problems)?,
            rows_max,
            smoothing,
        };
        let fit = around(Box::new(fit), section, context, problems);
        (problems.len() == before).then_some(fit)
    }
}

/// What is to be fitted, and how.
struct Fit {
    task: Task,
    encoder: ColumnsEncoder,
    rows_max: usize,
    smoothing: f64,
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let set = TrainingSet::weighted(rows, &self.encoder, self.task, self.rows_max, start.seed)?;
        let scorer = fitted(self.task, &set, self.smoothing);
        Model::new(self.task, Arc::new(set.encoder), Arc::new(scorer)).map_err(FitError)
    }
}

#[cfg(test)]
mod tests {
    use smartcore::naive_bayes::gaussian::GaussianNB;

    use super::*;
    use crate::conformance::plain::{Plain, encoder};
    use crate::learners::rows::dense;

    #[test]
    fn moments_are_smartcores_and_one_row_more() {
        let rows = Plain::random(300, 2, 5, |x, noise| f64::from(u8::from(x[0] + 0.5 * noise > 0.0)));
        let encoder = encoder(2, "keep");
        let set = TrainingSet::weighted(rows.labelled(), &encoder, Task::Binary, 300, 1).unwrap();
        let ours = fitted(Task::Binary, &set, 1.0);
        let theirs = GaussianNB::fit(&dense(&set.x).unwrap(), &set.y, Default::default()).unwrap();
        let all = GaussianNB::fit(&dense(&set.x).unwrap(), &vec![0_u32; 300], Default::default()).unwrap();
        for class in 0..2 {
            let count = theirs.class_count()[class] as f64;
            assert_eq!(ours.class_weights[class], count);
            for input in 0..2 {
                let (mean, variance) = (theirs.theta()[class][input], theirs.var()[class][input]);
                let (center, spread) = (all.theta()[0][input], all.var()[0][input]);
                let expected = (count * mean + center) / (count + 1.0);
                let squares = count * variance + spread + count * (mean - center).powi(2) / (count + 1.0);
                let place = 2 * class + input;
                assert!((ours.means[place] - expected).abs() < 1e-12);
                let variance = 0.5 / ours.precisions[place];
                assert!((variance - squares / (count + 1.0)).abs() < 1e-12);
            }
        }
    }
}
