//! `elastic-net`: least squares with a penalty on absolute and on squared weights (Zou and Hastie, "Regularization and
//! variable selection via the elastic net", Journal of the Royal Statistical Society B 2005), scored by the
//! [`Linear`](crate::scorers::linear::Linear) scorer. `least_squares.rs` says why it is not smartcore's.

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::least_squares::{LeastSquares, Penalty};
use super::settings::{named, number, rows_max};
use crate::contracts::{BatchLearner, LearnerContext, LearnerKind};

/// The entry of the list.
pub(crate) struct ElasticNetKind;

impl Component for ElasticNetKind {
    fn name(&self) -> &'static str {
        "elastic-net"
    }

    fn summary(&self) -> &'static str {
        "Elastic net: linear regression with the penalties of both lasso and ridge: inputs of little use have no weight, \
         those that go together share theirs. Weighted by the rows' weights. Regression tasks, at most 2048 inputs."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["elastic-net"]),
            Field {
                name: "l1",
                kind: Kind::Float,
                need: Need::Optional("0.01"),
                doc: "Adds this, times the label's standard deviation, times the sum of the weights' absolute values to \
                      half of the mean squared error; from 0 to 1e6. With standardised inputs 1 leaves no weight.",
            },
            Field {
                name: "l2",
                kind: Kind::Float,
                need: Need::Optional("0.01"),
                doc: "Adds half of this times the sum of the squared weights to half of the mean squared error; from 0 to \
                      1e12.",
            },
            rows_max("200000"),
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"elastic-net\"\nl1 = 0.02\nl2 = 0.05\nrows_max = 100_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for ElasticNetKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let l1 = number(section, "l1", 0.01, 0.0..=1e6, problems);
        let l2 = number(section, "l2", 0.01, 0.0..=1e12, problems);
        LeastSquares::build(self.name(), section, context, Penalty::Mixed { l1, l2 }, problems)
    }
}

#[cfg(test)]
mod tests {
    use smartcore::linear::elastic_net::{ElasticNet, ElasticNetParameters};

    use super::super::least_squares::tests::{answers, are_close, centred, deviation, random};
    use super::*;
    use crate::learners::rows::dense;

    #[test]
    fn answers_are_smartcores() {
        for seed in 0..5 {
            // smartcore takes the label's mean off the rows that stand for the penalty too: right for a mean of 0.
            let mut set = centred(random(80, seed));
            let mean = set.values.iter().sum::<f64>() / 80.0;
            set.values.iter_mut().for_each(|y| *y -= mean);
            let x = dense(&set.x).unwrap();
            // Its loss is twice ours, its penalty on the squares not halved.
            let (l1, l2) = (2.0 * 0.03 * deviation(&set.values), 0.2);
            let parameters = ElasticNetParameters {
                tol: 1e-10,
                normalize: false,
                ..ElasticNetParameters::default()
                    .with_alpha(l1 + l2)
                    .with_l1_ratio(l1 / (l1 + l2))
            };
            let theirs = ElasticNet::fit(&x, &set.values, parameters).unwrap();
            let ours = answers(&set, Penalty::Mixed { l1: 0.03, l2: 0.2 });
            are_close(&ours, &theirs.predict(&x).unwrap(), 1e-4);
        }
    }
}
