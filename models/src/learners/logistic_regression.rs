//! `logistic-regression`: fitted by smartcore (L-BFGS; Liu and Nocedal, Mathematical Programming 1989), scored by
//! the [`Linear`] scorer, whose classes are smartcore's.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::rows::{TrainingSet, guarded};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::scorers::linear::Linear;

/// The entry of the list.
pub(crate) struct LogisticRegressionKind;

impl Component for LogisticRegressionKind {
    fn name(&self) -> &'static str {
        "logistic-regression"
    }

    fn summary(&self) -> &'static str {
        "Logistic regression, fitted on a whole training set by L-BFGS (smartcore). Binary and multiclass tasks. Rows \
         whose weights differ are drawn in proportion to them."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "learner",
                kind: Kind::OneOf(&["logistic-regression"]),
                need: Need::Optional("the learner is named elsewhere"),
                doc: "The learner's name.",
            },
            Field {
                name: "l2",
                kind: Kind::Float,
                need: Need::Optional("1"),
                doc: "Adds `l2 / 2` times the sum of the squared weights to the sum of the rows' losses; from 0 up.",
            },
            Field {
                name: "rows_max",
                kind: Kind::Integer,
                need: Need::Optional("200000"),
                doc: "Rows that are used at most; of more, a seeded sample.",
            },
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ]
    }

    fn example(&self) -> &'static str {
        "learner = \"logistic-regression\"\nl2 = 1.0\nrows_max = 100_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for LogisticRegressionKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        let l2 = section.get_or("l2", 1.0, problems);
        let rows_max = section.get_or("rows_max", 200_000_usize, problems);
        if !(0.0..=1e12).contains(&l2) {
            problems.push(section.key_span("l2"), "`l2` must be from 0 to 1e12".to_owned(), None);
        }
        if rows_max < 2 {
            problems.push(
                section.key_span("rows_max"),
                "`rows_max` must be at least 2".to_owned(),
                None,
            );
        }
        if matches!(context.task, Task::Regression | Task::Anomaly) {
            let help = "`logistic-regression` learns binary and multiclass tasks".to_owned();
            problems.push(
                section.span(),
                "this learner cannot learn this task".to_owned(),
                Some(help),
            );
        }
        let fit = Fit {
            task: context.task,
            encoder: context.encoder(Form::Scaled, section, problems)?,
            l2,
            rows_max,
        };
        let fit = around(Box::new(fit), section, context, problems);
        (problems.len() == before).then_some(fit)
    }
}

/// What is to be fitted, and how.
struct Fit {
    task: Task,
    encoder: ColumnsEncoder,
    l2: f64,
    rows_max: usize,
}

/// smartcore's model.
type Fitted = LogisticRegression<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// Fits smartcore's model.
fn fit(x: &Matrix, y: &Vec<u32>, l2: f64) -> Result<Fitted, FitError> {
    guarded(|| {
        let x = DenseMatrix::new(x.rows(), x.width(), x.values().to_vec(), false)?;
        LogisticRegression::fit(&x, y, LogisticRegressionParameters::default().with_alpha(l2))
    })
}

/// The same model as a scorer of our own.
fn convert(fitted: &Fitted, task: Task) -> Result<Linear, FitError> {
    let mut weights: Vec<f64> = fitted.coefficients().iterator(0).copied().collect();
    let mut intercepts: Vec<f64> = fitted.intercept().iterator(0).copied().collect();
    if weights.iter().chain(&intercepts).any(|number| !number.is_finite()) {
        return Err(FitError(
            "the fit did not converge to finite weights; raise `l2`".to_owned(),
        ));
    }
    if task == Task::Binary {
        return Ok(Linear::single(
            Linear::link(task),
            weights,
            intercepts.first().copied().unwrap_or_default(),
        ));
    }
    if intercepts.len() == 1 {
        // Two classes have one set of weights: those of class 1, less those of class 0.
        weights.splice(0..0, vec![0.0; weights.len()]);
        intercepts.insert(0, 0.0);
    }
    Ok(Linear::softmax(weights, intercepts))
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let set = TrainingSet::new(rows, &self.encoder, self.task, self.rows_max, start.seed)?;
        let scorer = convert(&fit(&set.x, &set.y, self.l2)?, self.task)?;
        Model::new(self.task, Arc::new(set.encoder), Arc::new(scorer)).map_err(FitError)
    }
}

#[cfg(test)]
mod tests {
    use rand_pcg::Pcg64;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::contracts::Scorer;

    /// Random rows of `classes` classes, not separable.
    fn random(rows: usize, width: usize, classes: u32, seed: u64) -> (Matrix, Vec<u32>) {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut uniform = move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
        let mut x = Matrix::new();
        x.reset(rows, width);
        x.values_mut().iter_mut().for_each(|x| *x = 4.0 * uniform());
        let y = x
            .iter()
            .map(|row| ((row[0] - row[1] + 2.0 * uniform() + 5.0) as u32) % classes)
            .collect();
        (x, y)
    }

    #[test]
    fn classes_are_smartcores_on_random_rows() {
        for seed in 0..20 {
            for classes in [2, 3] {
                let (x, y) = random(300, 5, classes, seed);
                let fitted = fit(&x, &y, 1.0).unwrap();
                let (test, _) = random(1_000, 5, classes, seed + 1_000);
                let dense = DenseMatrix::new(1_000, 5, test.values().to_vec(), false).unwrap();
                let expected = fitted.predict(&dense).unwrap();
                let task = if classes == 2 {
                    Task::Binary
                } else {
                    Task::Multiclass { classes }
                };
                let mut scores = Vec::new();
                convert(&fitted, task).unwrap().score(&test, &mut scores);
                let answer = |p: &[f64]| match p {
                    [p] => u32::from(*p > 0.5),
                    all => (0..all.len()).max_by(|&a, &b| all[a].total_cmp(&all[b])).unwrap() as u32,
                };
                let answers: Vec<u32> = scores.chunks(task.outputs()).map(answer).collect();
                assert_eq!(answers, expected, "seed {seed}, {classes} classes");
                assert!(answers.contains(&0) && answers.contains(&1));
            }
        }
    }

    #[test]
    fn two_classes_of_a_multiclass_task_answer_as_a_binary_one() {
        let (x, y) = random(300, 4, 2, 3);
        let fitted = fit(&x, &y, 1.0).unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        convert(&fitted, Task::Binary).unwrap().score(&x, &mut one);
        convert(&fitted, Task::Multiclass { classes: 2 })
            .unwrap()
            .score(&x, &mut two);
        for (p, pair) in one.iter().zip(two.chunks(2)) {
            assert!((p - pair[1]).abs() < 1e-12 && (pair[0] + pair[1] - 1.0).abs() < 1e-12);
        }
    }
}
