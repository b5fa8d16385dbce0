//! `sgd-softmax`: multinomial logistic regression by stochastic gradient descent, row by row. See [`sgd`](super::sgd) for
//! the steps.

use driftmill_config::{Component, Field, Problems, Section};

use super::settings::{MEMORY_MAX, named, refuse_task};
use super::sgd::{L2, Objective, RATE, RATE_SCHEDULE, Settings, build};
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};
use crate::scorers::linear::{Linear, softmax};

/// The entry of the list.
pub(crate) struct SgdSoftmaxKind;

impl Component for SgdSoftmaxKind {
    fn name(&self) -> &'static str {
        "sgd-softmax"
    }

    fn summary(&self) -> &'static str {
        "Logistic regression over several classes (softmax) that learns from each row once, by stochastic gradient \
         descent with a constant rate, so that it follows a changing world, or with one that adapts. Multiclass tasks."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[named(&["sgd-softmax"]), RATE, RATE_SCHEDULE, L2, MEMORY_MAX];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"sgd-softmax\"\nrate_schedule = \"adagrad\"\nrate = 0.1\nl2 = 0.0001\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for SgdSoftmaxKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let settings = Settings::read(section, problems);
        let Task::Multiclass { .. } = context.task else {
            refuse_task(
                section,
                "`sgd-softmax` learns multiclass tasks, `sgd-logistic` binary ones",
                problems,
            );
            return None;
        };
        let learner = build(
            self.name(),
            CrossEntropy(context.task),
            settings,
            section,
            context,
            problems,
        );
        learner.filter(|_| problems.len() == before)
    }
}

/// The log loss of the probabilities of the classes of a task.
struct CrossEntropy(Task);

impl Objective for CrossEntropy {
    // Of the matrix diag(p) − p pᵀ.
    const CURVATURE_MAX: f64 = 0.5;

    fn task(&self) -> Task {
        self.0
    }

    fn scores(&self, sums: &mut [f64]) {
        softmax(sums);
    }

    fn gradients(&self, scores: &mut [f64], label: f64) {
        if let Some(score) = scores.get_mut(label as usize) {
            *score -= 1.0;
        }
    }

    fn scorer(&self, weights: Vec<f64>, intercepts: Vec<f64>) -> Linear {
        Linear::softmax(weights, intercepts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};

    #[test]
    fn the_first_step_is_that_of_the_formula() {
        let rows = Plain::new(&[&[2.0, 2.0]], &[2.0, 0.0]);
        let mut scores = Vec::new();
        let task = Task::Multiclass { classes: 3 };
        learner("sgd-softmax", "rate = 0.1", task, &rows).learn(rows.labelled(), Some(&mut scores));
        let step = 0.1 / (1.0 + 0.1 * (1.0 + 4.0) * 0.5);
        // Weight times 2, and intercept, along 1/3 for the other classes and -2/3 for the true one.
        let sums = [-1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0].map(|slope| step * slope * (2.0 * 2.0 + 1.0));
        let total: f64 = sums.iter().map(|sum: &f64| sum.exp()).sum();
        for (found, sum) in scores[3..].iter().zip(sums) {
            assert!((found - sum.exp() / total).abs() < 1e-15, "{scores:?}");
        }
    }
}
