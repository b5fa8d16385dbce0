//! `sgd-softmax`: multinomial logistic regression by stochastic gradient descent, row by row. See [`sgd`](super::sgd) for
//! the steps.

use driftmill_config::{Component, Field, Problems, Section};

use super::settings::{MEMORY_MAX, check_memory, named, refuse_task};
use super::sgd::{L2, Objective, RATE, RATE_SCHEDULE, Settings, Sgd};
use crate::contracts::{Form, Learner, LearnerContext, LearnerKind, Task};
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
        let encoder = context.encoder(Form::Scaled, section, problems)?;
        let learner = Sgd::new(CrossEntropy(context.task), settings, encoder);
        check_memory(self.name(), learner.bytes(), section, context, problems);
        (problems.len() == before).then(|| Box::new(learner) as Box<dyn Learner>)
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
