//! `no-change`: the label that came last, whatever the features say (persistence).
//!
//! Where labels come in runs it is hard to beat: a model that does not is of no use, however accurate it looks (Bifet,
//! Read, Žliobaitė, Pfahringer and Holmes, "Pitfalls in benchmarking data stream classification and how to avoid them",
//! ECML PKDD 2013).

use driftmill_config::{Component, Field, Problems, Section};

use super::baseline::{Baseline, Memory};
use super::settings::named;
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};

/// How much more likely the last label is than another at least: it is always the answer.
const LEAD: f64 = 1e-6;

/// The entry of the list.
pub(crate) struct NoChangeKind;

impl Component for NoChangeKind {
    fn name(&self) -> &'static str {
        "no-change"
    }

    fn summary(&self) -> &'static str {
        "Baseline that looks at no feature: the last label is the answer, as probable as such a label was followed by \
         itself so far, and always more probable than any other; of values the last one. Only worth something where \
         labels arrive soon. Every task with labels."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[named(&["no-change"])];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"no-change\"\n"
    }
}

impl LearnerKind<dyn Learner> for NoChangeKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        Baseline::<Last>::build(section, context, problems)
    }
}

/// The last label (-1 before the first), then for each class the weight of the labels that followed it and of those
/// among them that were the same. Of values only the last.
struct Last {
    task: Task,
    classes: usize,
    numbers: Vec<f64>,
}

impl Memory for Last {
    fn new(task: Task) -> Self {
        let classes = task.outputs().max(2);
        let numbers = match task {
            Task::Regression => vec![0.0],
            _ => std::iter::once(-1.0).chain(vec![0.0; 2 * classes]).collect(),
        };
        Self { task, classes, numbers }
    }

    fn update(&mut self, label: f64, weight: f64) {
        let last = std::mem::replace(&mut self.numbers[0], label);
        if self.task != Task::Regression && last >= 0.0 {
            let place = 1 + 2 * last as usize;
            self.numbers[place] += weight;
            self.numbers[place + 1] += if last == label { weight } else { 0.0 };
        }
    }

    fn scores(&self, out: &mut Vec<f64>) {
        let (last, classes) = (self.numbers[0], self.classes as f64);
        if self.task == Task::Regression {
            out.push(last);
            return;
        }
        if last < 0.0 {
            out.resize(out.len() + self.task.outputs(), 1.0 / classes);
            return;
        }
        let last = last as usize;
        let (followed, repeated) = (self.numbers[1 + 2 * last], self.numbers[2 + 2 * last]);
        let share = (repeated + 1.0) / (followed + classes);
        let share = share.max((1.0 + LEAD) / classes);
        let other = (1.0 - share) / (classes - 1.0);
        let shares = (0..self.classes).map(|class| if class == last { share } else { other });
        out.extend(shares.skip(usize::from(self.task == Task::Binary)));
    }

    fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    fn restore(&mut self, numbers: Vec<f64>) -> Result<(), &'static str> {
        if self.task != Task::Regression {
            let last = numbers[0];
            if last != -1.0 && !(last.fract() == 0.0 && (0.0..self.classes as f64).contains(&last)) {
                return Err("the last label is no class");
            }
            let counts = numbers[1..].as_chunks::<2>().0;
            if counts
                .iter()
                .any(|[followed, repeated]| *repeated < 0.0 || repeated > followed)
            {
                return Err("more labels were repeated than followed");
            }
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
    fn the_last_label_is_the_answer_as_probable_as_it_was_repeated() {
        let scores = walk::<Last>(Task::Binary, &[1.0, 1.0, 1.0, 0.0]);
        let lead = (1.0 + LEAD) / 2.0;
        assert_eq!(scores, [[0.5], [lead], [2.0 / 3.0], [0.75], [1.0 - lead]]);
        let three = walk::<Last>(Task::Multiclass { classes: 3 }, &[2.0, 2.0]);
        assert_eq!(three[2], [0.25, 0.25, 0.5]);
        assert_eq!(walk::<Last>(Task::Regression, &[4.0, -1.0]), [[0.0], [4.0], [-1.0]]);
    }

    #[test]
    fn labels_that_never_repeat_are_no_reason_to_answer_another() {
        let labels: Vec<f64> = (0..100).map(|row| f64::from(row % 2)).collect();
        for (row, scores) in walk::<Last>(Task::Binary, &labels).iter().enumerate().skip(1) {
            assert_eq!(f64::from(u8::from(scores[0] > 0.5)), labels[row - 1], "row {row}");
            assert!((scores[0] - 0.5).abs() < 1e-3);
        }
    }
}
