//! `majority`: how often each class came so far, whatever the features say; of values their mean.
//!
//! The shares are those of the rule of succession: one row of each class is counted beforehand, so that no probability
//! is ever 0.

use driftmill_config::{Component, Field, Problems, Section};

use super::baseline::{Baseline, Memory};
use super::settings::named;
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};

/// The entry of the list.
pub(crate) struct MajorityKind;

impl Component for MajorityKind {
    fn name(&self) -> &'static str {
        "majority"
    }

    fn summary(&self) -> &'static str {
        "Baseline that looks at no feature: the share of each class among all rows so far, so that the most frequent one \
         is answered; the mean of values. What a model is worth is what it does better. Every task with labels."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[named(&["majority"])];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"majority\"\n"
    }
}

impl LearnerKind<dyn Learner> for MajorityKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        Baseline::<Shares>::build(section, context, problems)
    }
}

/// The weight of each class; of values their weight and their mean.
struct Shares {
    task: Task,
    numbers: Vec<f64>,
}

impl Memory for Shares {
    fn new(task: Task) -> Self {
        Self {
            task,
            numbers: vec![0.0; task.outputs().max(2)],
        }
    }

    fn update(&mut self, label: f64, weight: f64) {
        if self.task != Task::Regression {
            self.numbers[label as usize] += weight;
            return;
        }
        self.numbers[0] += weight;
        self.numbers[1] += (label - self.numbers[1]) * (weight / self.numbers[0]);
    }

    fn scores(&self, out: &mut Vec<f64>) {
        if self.task == Task::Regression {
            out.push(self.numbers[1]);
            return;
        }
        let total = self.numbers.iter().sum::<f64>() + self.numbers.len() as f64;
        let shares = self.numbers.iter().map(|weight| (weight + 1.0) / total);
        // A binary task has one score, that of class 1.
        out.extend(shares.skip(usize::from(self.task == Task::Binary)));
    }

    fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    fn restore(&mut self, numbers: Vec<f64>) -> Result<(), &'static str> {
        let weights = if self.task == Task::Regression {
            1
        } else {
            numbers.len()
        };
        if numbers.iter().take(weights).any(|weight| *weight < 0.0) {
            return Err("a weight is negative");
        }
        self.numbers = numbers;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::baseline::tests::walk;
    use super::*;

    #[test]
    fn shares_of_classes_and_mean_of_values() {
        assert_eq!(walk::<Shares>(Task::Binary, &[1.0, 1.0])[2], [0.75]);
        let three = Task::Multiclass { classes: 3 };
        assert_eq!(
            walk::<Shares>(three, &[2.0, 2.0, 0.0]).pop().unwrap(),
            [2.0 / 6.0, 1.0 / 6.0, 3.0 / 6.0]
        );
        assert_eq!(walk::<Shares>(Task::Regression, &[4.0, -1.0]), [[0.0], [4.0], [1.5]]);
    }
}
