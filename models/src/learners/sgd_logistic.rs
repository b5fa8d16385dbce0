//! `sgd-logistic`: logistic regression by stochastic gradient descent, row by row. See [`sgd`](super::sgd) for the steps.

use driftmill_config::{Component, Field, Problems, Section};

use super::settings::{MEMORY_MAX, named, refuse_task};
use super::sgd::{L2, Objective, RATE, RATE_SCHEDULE, Settings, build};
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};
use crate::scorers::linear::{Linear, Link, logistic};

/// The entry of the list.
pub(crate) struct SgdLogisticKind;

impl Component for SgdLogisticKind {
    fn name(&self) -> &'static str {
        "sgd-logistic"
    }

    fn summary(&self) -> &'static str {
        "Logistic regression that learns from each row once, by stochastic gradient descent with a constant rate, so \
         that it follows a changing world, or with one that adapts. Binary tasks."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[named(&["sgd-logistic"]), RATE, RATE_SCHEDULE, L2, MEMORY_MAX];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"sgd-logistic\"\nrate = 0.01\nl2 = 0.0\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for SgdLogisticKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let settings = Settings::read(section, problems);
        if context.task != Task::Binary {
            refuse_task(section, "`sgd-logistic` learns binary tasks", problems);
        }
        let learner = build(self.name(), LogLoss, settings, section, context, problems);
        learner.filter(|_| problems.len() == before)
    }
}

/// The log loss of the probability of class 1.
struct LogLoss;

impl Objective for LogLoss {
    const CURVATURE_MAX: f64 = 0.25;

    fn task(&self) -> Task {
        Task::Binary
    }

    #[inline]
    fn scores(&self, sums: &mut [f64]) {
        sums.iter_mut().for_each(|sum| *sum = logistic(*sum));
    }

    #[inline]
    fn gradients(&self, scores: &mut [f64], label: f64) {
        scores.iter_mut().for_each(|score| *score -= label);
    }

    fn scorer(&self, weights: Vec<f64>, intercepts: Vec<f64>) -> Linear {
        let intercept = intercepts.first().copied().unwrap_or_default();
        Linear::single(Link::Logistic, weights, intercept)
    }
}
