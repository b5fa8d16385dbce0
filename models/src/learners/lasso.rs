//! `lasso`: least squares with a penalty on absolute weights (Tibshirani, "Regression shrinkage and selection via the
//! lasso", Journal of the Royal Statistical Society B 1996), scored by the [`Linear`](crate::scorers::linear::Linear)
//! scorer. `least_squares.rs` says why it is not smartcore's.

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::least_squares::{LeastSquares, Penalty};
use super::settings::{named, number, rows_max};
use crate::contracts::{BatchLearner, LearnerContext, LearnerKind};

/// The entry of the list.
pub(crate) struct LassoKind;

impl Component for LassoKind {
    fn name(&self) -> &'static str {
        "lasso"
    }

    fn summary(&self) -> &'static str {
        "Lasso: linear regression with a penalty on the weights' sizes, which leaves inputs of little use without any \
         weight. Weighted by the rows' weights. Regression tasks, at most 2048 inputs."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["lasso"]),
            Field {
                name: "l1",
                kind: Kind::Float,
                need: Need::Optional("0.01"),
                doc: "Adds this, times the label's standard deviation, times the sum of the weights' absolute values to \
                      half of the mean squared error; from 0 to 1e6. With standardised inputs 1 leaves no weight.",
            },
            rows_max("200000"),
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"lasso\"\nl1 = 0.02\nrows_max = 100_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for LassoKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let l1 = number(section, "l1", 0.01, 0.0..=1e6, problems);
        LeastSquares::build(self.name(), section, context, Penalty::Mixed { l1, l2: 0.0 }, problems)
    }
}

#[cfg(test)]
mod tests {
    use smartcore::linear::lasso::{Lasso, LassoParameters};

    use super::super::least_squares::tests::{answers, are_close, centred, deviation, random, weights};
    use super::*;
    use crate::learners::rows::dense;

    #[test]
    fn answers_are_smartcores() {
        for seed in 0..5 {
            // Without normalising, smartcore's intercept is right for inputs of mean 0.
            let set = centred(random(80, seed));
            let x = dense(&set.x).unwrap();
            // Its loss is twice ours.
            let alpha = 2.0 * 0.05 * deviation(&set.values);
            let parameters = LassoParameters {
                tol: 1e-10,
                normalize: false,
                ..LassoParameters::default().with_alpha(alpha)
            };
            let theirs = Lasso::fit(&x, &set.values, parameters).unwrap();
            let ours = answers(&set, Penalty::Mixed { l1: 0.05, l2: 0.0 });
            are_close(&ours, &theirs.predict(&x).unwrap(), 1e-4);
        }
    }

    #[test]
    fn an_input_of_no_use_has_no_weight() {
        let found = weights(&random(200, 1), Penalty::Mixed { l1: 0.05, l2: 0.0 });
        assert!(found[3] == 0.0 && found[0] > 0.3 && found[2] > 0.2, "{found:?}");
        assert_eq!(weights(&random(200, 1), Penalty::Mixed { l1: 5.0, l2: 0.0 }), [0.0; 4]);
    }
}
