//! `k-nearest-neighbours`: the rows of a training set that are most like a row (Fix and Hodges 1951; Cover and Hart,
//! "Nearest neighbor pattern classification", IEEE Transactions on Information Theory 1967), scored by the
//! [`Neighbours`] scorer.
//!
//! smartcore's fitted neighbours are a cover tree around a copy of the rows, which can be taken apart, but answers with
//! votes that know no weights and refuses fewer rows than neighbours; the scorer compares all rows, many at a time. The
//! tests compare their answers.

use std::collections::VecDeque;
use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::rows::TrainingSet;
use super::settings::{named, refuse_task, rows_max, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::scorers::neighbours::{
    Answer, Axis, FAR_MAX, K_MAX, Neighbours, SEGMENT_ROWS, Segment, WEIGHT_MAX, WEIGHT_MIN,
};

/// The entry of the list.
pub(crate) struct KNearestNeighboursKind;

impl Component for KNearestNeighboursKind {
    fn name(&self) -> &'static str {
        "k-nearest-neighbours"
    }

    fn summary(&self) -> &'static str {
        "Nearest neighbours in a training set: the classes, or the mean value, of the rows whose inputs are nearest, each \
         with the row's weight. Inputs are compared as they are encoded. For binary, multiclass and regression tasks. A \
         fit only stores the rows: the time of an answer, and the size of the model, grow with them."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["k-nearest-neighbours"]),
            Field {
                name: "k",
                kind: Kind::Integer,
                need: Need::Optional("5"),
                doc: "Neighbours that are asked, from 1 to 1000.",
            },
            Field {
                name: "say",
                kind: Kind::OneOf(&["distance", "equal"]),
                need: Need::Optional("`\"distance\"`"),
                doc: "Whose say is how large: that of nearer neighbours larger, in proportion to one over the distance, or \
                      all the same.",
            },
            rows_max("10000"),
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"k-nearest-neighbours\"\nk = 15\nsay = \"equal\"\nrows_max = 5_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for KNearestNeighboursKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        let k = whole(section, "k", 5, 1..=K_MAX as u64, problems) as usize;
        let rows_max = whole(section, "rows_max", 10_000, 2..=1_000_000, problems) as usize;
        let by_distance = section.get_or("say", "distance".to_owned(), problems) != "equal";
        let answer = match context.task {
            Task::Binary => Answer::Binary,
            Task::Multiclass { classes } => Answer::Classes((classes as usize).max(2)),
            Task::Regression => Answer::Value,
            Task::Anomaly => {
                let help = "`k-nearest-neighbours` learns binary, multiclass and regression tasks";
                refuse_task(section, help, problems);
                return None;
            }
        };
        let encoder = context.encoder(Form::Scaled, section, problems)?;
        let fit = Fit {
            task: context.task,
            encoder,
            rows_max,
            answer,
            k,
            by_distance,
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
    answer: Answer,
    k: usize,
    by_distance: bool,
}

impl Fit {
    /// The rows as a scorer.
    fn neighbours(&self, set: &TrainingSet) -> Neighbours {
        let axis = Axis {
            is_category: false,
            center: 0.0,
            scale: 1.0,
            far: FAR_MAX,
        };
        let mut segments = VecDeque::with_capacity(set.x.rows().div_ceil(SEGMENT_ROWS));
        let labels = set.values.iter().zip(&set.weights);
        for (row, (x, (label, weight))) in set.x.iter().zip(labels).enumerate() {
            if row % SEGMENT_ROWS == 0 {
                segments.push_back(Segment::new(set.x.width()));
            }
            if let Some(segment) = segments.back_mut() {
                let places = x.iter().map(|x| axis.place(*x));
                segment.push(places, *label, weight.clamp(WEIGHT_MIN, WEIGHT_MAX));
            }
        }
        Neighbours {
            answer: self.answer,
            k: self.k,
            by_distance: self.by_distance,
            axes: vec![axis; set.x.width()],
            segments: segments.into_iter().map(Arc::new).collect(),
            skipped: 0,
        }
    }
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let set = TrainingSet::weighted(rows, &self.encoder, self.task, self.rows_max, start.seed)?;
        let scorer = self.neighbours(&set);
        Model::new(self.task, Arc::new(set.encoder), Arc::new(scorer)).map_err(FitError)
    }
}

#[cfg(test)]
mod tests {
    use smartcore::neighbors::knn_classifier::{KNNClassifier, KNNClassifierParameters};
    use smartcore::neighbors::knn_regressor::{KNNRegressor, KNNRegressorParameters};

    use super::*;
    use crate::contracts::Scorer;
    use crate::learners::least_squares::tests::random;
    use crate::learners::rows::dense;
    use crate::learners::tree::largest;

    fn scores(task: Task, answer: Answer, train: &TrainingSet, test: &TrainingSet) -> Vec<f64> {
        let encoder = ColumnsEncoder::new(Arc::new([]), vec![]);
        let fit = Fit {
            task,
            encoder,
            rows_max: 1_000,
            answer,
            k: 7,
            by_distance: false,
        };
        let mut out = Vec::new();
        fit.neighbours(train).score(&test.x, &mut out);
        out
    }

    #[test]
    fn answers_are_smartcores() {
        for seed in 0..3 {
            let (mut train, test) = (random(600, seed), random(200, seed + 100));
            let (x, asked) = (dense(&train.x).unwrap(), dense(&test.x).unwrap());
            let parameters = KNNRegressorParameters::default().with_k(7);
            let theirs = KNNRegressor::fit(&x, &train.values, parameters).unwrap();
            let ours = scores(Task::Regression, Answer::Value, &train, &test);
            let theirs = theirs.predict(&asked).unwrap();
            let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-9, "seed {seed}: {apart}");
            let classes: Vec<u32> = train.values.iter().map(|y| ((y / 2.0) as u32).min(4)).collect();
            train.values = classes.iter().map(|class| f64::from(*class)).collect();
            let parameters = KNNClassifierParameters::default().with_k(7);
            let theirs = KNNClassifier::fit(&x, &classes, parameters).unwrap();
            let task = Task::Multiclass { classes: 5 };
            let ours = scores(task, Answer::Classes(5), &train, &test);
            let ours: Vec<u32> = ours.chunks(5).map(|shares| largest(shares) as u32).collect();
            assert_eq!(ours, theirs.predict(&asked).unwrap(), "seed {seed}");
        }
    }
}
