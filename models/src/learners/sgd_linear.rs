//! `sgd-linear`: linear regression by stochastic gradient descent, row by row. See [`sgd`](super::sgd) for the steps.
//!
//! The intercept begins as the mean of the labels, so that it need not walk there at the rate of the weights. Steps of
//! AdaGrad, whose length does not depend on that of the gradients, are taken in standard deviations of the labels: in
//! whatever unit they come, the model is the same.

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::settings::{MEMORY_MAX, named, refuse_task};
use super::sgd::{L2, Objective, RATE, RATE_SCHEDULE, Settings, build};
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};
use crate::scorers::linear::{Linear, Link};

/// Labels beyond are taken for it, so that errors and their squares stay finite.
const MAGNITUDE_MAX: f64 = 1e100;

/// The entry of the list.
pub(crate) struct SgdLinearKind;

impl Component for SgdLinearKind {
    fn name(&self) -> &'static str {
        "sgd-linear"
    }

    fn summary(&self) -> &'static str {
        "Linear regression that learns from each row once, by stochastic gradient descent with a constant rate, so that \
         it follows a changing world, or with one that adapts. Regression."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["sgd-linear"]),
            RATE,
            RATE_SCHEDULE,
            L2,
            Field {
                name: "loss",
                kind: Kind::OneOf(&["squared", "huber"]),
                need: Need::Optional("`\"squared\"`"),
                doc: "`squared` aims at the mean. `huber` counts errors beyond `huber_delta` only in proportion to their \
                      size: single absurd labels then matter little.",
            },
            Field {
                name: "huber_delta",
                kind: Kind::Float,
                need: Need::Optional("1"),
                doc: "Error, in the unit of the label, up to which the Huber loss is squared; above 0.",
            },
            MEMORY_MAX,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"sgd-linear\"\nrate = 0.01\nloss = \"huber\"\nhuber_delta = 2.0\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for SgdLinearKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let settings = Settings::read(section, problems);
        let loss: String = section.get_or("loss", "squared".to_owned(), problems);
        let delta = section.get_or("huber_delta", 1.0, problems);
        if !["squared", "huber"].contains(&loss.as_str()) {
            let message = "`loss` must be `squared` or `huber`".to_owned();
            problems.push(section.key_span("loss"), message, None);
        }
        if !(delta > 0.0 && delta.is_finite()) {
            let message = "`huber_delta` must be above 0".to_owned();
            problems.push(section.key_span("huber_delta"), message, None);
        }
        if context.task != Task::Regression {
            refuse_task(section, "`sgd-linear` learns regression", problems);
        }
        let error_max = if loss == "huber" { delta } else { f64::INFINITY };
        let learner = build(
            self.name(),
            Errors::new(error_max),
            settings,
            section,
            context,
            problems,
        );
        learner.filter(|_| problems.len() == before)
    }
}

/// Half the squared error; of what is beyond a bound only the slope at the bound.
struct Errors {
    error_max: f64,
    /// Weight of the labels so far, their mean, and their summed squared deviations from it.
    labels: [f64; 3],
}

impl Errors {
    fn new(error_max: f64) -> Self {
        Self {
            error_max,
            labels: [0.0; 3],
        }
    }
}

impl Objective for Errors {
    const CURVATURE_MAX: f64 = 1.0;

    fn task(&self) -> Task {
        Task::Regression
    }

    fn scores(&self, _sums: &mut [f64]) {}

    fn gradients(&self, scores: &mut [f64], label: f64) {
        let label = label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        let error_max = self.error_max;
        scores
            .iter_mut()
            .for_each(|score| *score = (*score - label).clamp(-error_max, error_max));
    }

    fn scorer(&self, weights: Vec<f64>, intercepts: Vec<f64>) -> Linear {
        let intercept = intercepts.first().copied().unwrap_or_default();
        Linear::single(Link::Identity, weights, intercept)
    }

    fn intercept_ratio(&self, rate: f64, seen: u64) -> f64 {
        (1.0 / (rate * (seen as f64 + 1.0))).max(1.0)
    }

    fn unit(&self) -> f64 {
        let [weight, _, squares] = self.labels;
        let deviation = (squares / weight).sqrt();
        // The first label is all that is known of the unit.
        if deviation > 0.0 {
            deviation
        } else {
            self.labels[1].abs().max(1.0)
        }
    }

    fn note(&mut self, label: f64, weight: f64) {
        let label = label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        let [total, mean, squares] = &mut self.labels;
        *total += weight;
        let before = label - *mean;
        *mean += before * (weight / *total);
        *squares += weight * before * (label - *mean);
    }

    fn numbers(&self) -> &[f64] {
        &self.labels
    }

    fn restore(&mut self, numbers: &[f64]) {
        if let Ok(labels) = numbers.try_into() {
            self.labels = labels;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};

    fn error(text: &str, rows: &Plain) -> f64 {
        let mut scores = Vec::new();
        learner("sgd-linear", text, Task::Regression, rows).learn(rows.labelled(), Some(&mut scores));
        let late = scores.iter().zip(rows.labels()).skip(1_000);
        late.map(|(score, label)| (score - label).abs()).sum::<f64>() / (scores.len() - 1_000) as f64
    }

    #[test]
    fn the_unit_of_the_label_does_not_matter() {
        let rows = |unit: f64| {
            Plain::random(3_000, 2, 33, move |x, noise| {
                unit * (5.0 + 2.0 * x[0] - x[1] + 0.1 * noise)
            })
        };
        for text in ["", "rate_schedule = 'adagrad'", "rate_schedule = 'inverse-scaling'"] {
            let (small, large) = (error(text, &rows(1.0)), error(text, &rows(1e6)));
            assert!(small < 0.3, "{text}: {small}");
            assert!(
                (large / 1e6 - small).abs() < 0.05 * small,
                "{text}: {small} and {large}"
            );
        }
    }

    #[test]
    fn absurd_labels_matter_little_to_the_huber_loss() {
        let wild = Plain::random(
            3_000,
            2,
            34,
            |x, noise| {
                if noise > 0.98 { 1e4 } else { 5.0 + 2.0 * x[0] - x[1] }
            },
        );
        let sane = |text: &str| {
            let mut sgd = learner("sgd-linear", text, Task::Regression, &wild);
            let mut scores = Vec::new();
            sgd.learn(wild.labelled(), Some(&mut scores));
            let late = scores
                .iter()
                .zip(wild.labels())
                .skip(1_000)
                .filter(|(_, label)| **label < 1e3);
            late.map(|(score, label)| (score - label).abs()).sum::<f64>() / 2_000.0
        };
        let (squared, huber) = (sane(""), sane("loss = 'huber'"));
        assert!(
            huber < 0.5 && huber < squared / 10.0,
            "huber {huber}, squared {squared}"
        );
    }
}
