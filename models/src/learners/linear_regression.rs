//! `linear-regression`: ordinary least squares (Legendre 1805), weighted, scored by the
//! [`Linear`](crate::scorers::linear::Linear) scorer. `least_squares.rs` says why it is not smartcore's.

use driftmill_config::{Component, Field, Problems, Section};

use super::least_squares::{LeastSquares, Penalty};
use super::settings::{named, rows_max};
use crate::contracts::{BatchLearner, LearnerContext, LearnerKind};

/// The entry of the list.
pub(crate) struct LinearRegressionKind;

impl Component for LinearRegressionKind {
    fn name(&self) -> &'static str {
        "linear-regression"
    }

    fn summary(&self) -> &'static str {
        "Linear regression: the weighted sum of the inputs whose squared errors are least (ordinary least squares), \
         weighted by the rows' weights. An input that others before it make up has no weight. Regression tasks. Its time \
         grows with the rows and with the square of the inputs, of which there may be 2048."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[named(&["linear-regression"]), rows_max("200000")];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"linear-regression\"\nrows_max = 100_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for LinearRegressionKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        LeastSquares::build(self.name(), section, context, Penalty::None, problems)
    }
}

#[cfg(test)]
mod tests {
    use smartcore::linear::linear_regression::LinearRegression;

    use super::super::least_squares::tests::{answers, are_close, random};
    use super::*;
    use crate::learners::rows::dense;

    #[test]
    fn answers_are_smartcores() {
        for seed in 0..5 {
            let set = random(80, seed);
            let x = dense(&set.x).unwrap();
            let theirs = LinearRegression::fit(&x, &set.values, Default::default()).unwrap();
            are_close(&answers(&set, Penalty::None), &theirs.predict(&x).unwrap(), 1e-11);
        }
    }
}
