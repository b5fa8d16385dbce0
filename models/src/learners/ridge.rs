//! `ridge`: least squares with a penalty on squared weights (Hoerl and Kennard, "Ridge regression", Technometrics
//! 1970), scored by the [`Linear`](crate::scorers::linear::Linear) scorer. `least_squares.rs` says why it is not
//! smartcore's.

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::least_squares::{LeastSquares, Penalty};
use super::settings::{named, number, rows_max};
use crate::contracts::{BatchLearner, LearnerContext, LearnerKind};

/// The entry of the list.
pub(crate) struct RidgeKind;

impl Component for RidgeKind {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn summary(&self) -> &'static str {
        "Ridge regression: linear regression with a penalty on the squares of the weights, for inputs that go together or \
         are many. Weighted by the rows' weights, whose mean counts as 1. Regression tasks, at most 2048 inputs."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["ridge"]),
            Field {
                name: "l2",
                kind: Kind::Float,
                need: Need::Optional("1"),
                doc: "Adds this times the sum of the squared weights to the sum of the rows' squared errors; from 0 to \
                      1e12.",
            },
            rows_max("200000"),
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"ridge\"\nl2 = 10.0\nrows_max = 100_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for RidgeKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let l2 = number(section, "l2", 1.0, 0.0..=1e12, problems);
        LeastSquares::build(self.name(), section, context, Penalty::Squares(l2), problems)
    }
}

#[cfg(test)]
mod tests {
    use smartcore::linear::ridge_regression::{RidgeRegression, RidgeRegressionParameters};

    use super::super::least_squares::tests::{answers, are_close, random};
    use super::*;
    use crate::learners::rows::dense;

    #[test]
    fn answers_are_smartcores() {
        for seed in 0..5 {
            // smartcore's penalty is on the weights of inputs of deviation 1.
            let mut set = random(80, seed);
            for place in 0..4 {
                let column = || set.x.values().iter().skip(place).step_by(4);
                let mean = column().sum::<f64>() / 80.0;
                let deviation = (column().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 80.0).sqrt();
                let values = set.x.values_mut().iter_mut().skip(place).step_by(4);
                values.for_each(|x| *x /= deviation);
            }
            let x = dense(&set.x).unwrap();
            let parameters = RidgeRegressionParameters::default().with_alpha(3.0);
            let theirs = RidgeRegression::fit(&x, &set.values, parameters).unwrap();
            are_close(
                &answers(&set, Penalty::Squares(3.0)),
                &theirs.predict(&x).unwrap(),
                1e-11,
            );
        }
    }
}
