//! How a learner walks over a batch: a few rows are encoded at a time, then each is looked at in turn.

use crate::contracts::{Labelled, Task};
use crate::encoders::ColumnsEncoder;
use crate::learners::usable;
use crate::matrix::Matrix;

/// Numbers that are encoded at a time: 32 KiB, so that they are still in the cache when they are learned from.
const BLOCK_NUMBERS: usize = 4096;
/// Rows that are encoded at a time, at most.
const BLOCK_ROWS: usize = 128;

/// Memory that is used again from batch to batch.
#[derive(Debug, Default)]
pub(in crate::learners) struct Blocks {
    matrix: Matrix,
    learn: Vec<bool>,
}

/// A row of a batch.
pub(super) struct Encoded<'a> {
    /// As it was encoded before it was learned from.
    pub(super) x: &'a [f64],
    /// Its label.
    pub(super) label: f64,
    /// Its weight.
    pub(super) weight: f64,
    /// Whether it can be learned from.
    pub(super) usable: bool,
}

/// Rows of `width` numbers that are encoded at a time.
fn rows_at_a_time(width: usize) -> usize {
    (BLOCK_NUMBERS / width.max(1)).clamp(1, BLOCK_ROWS)
}

impl Blocks {
    /// Calls `each` for every row in order. The encoder learns from each usable row after it was encoded, as it would
    /// row by row: encoders know nothing of what the learner learns.
    pub(super) fn walk(
        &mut self,
        task: Task,
        encoder: &mut ColumnsEncoder,
        rows: Labelled<'_>,
        mut each: impl FnMut(Encoded<'_>),
    ) {
        let width = encoder.width();
        let count = rows.frame.rows().min(rows.labels.len()).min(rows.weights.len());
        for start in (0..count).step_by(rows_at_a_time(width)) {
            let places = start..count.min(start + rows_at_a_time(width));
            let (labels, weights) = (&rows.labels[places.clone()], &rows.weights[places.clone()]);
            self.learn.clear();
            self.learn
                .extend(labels.iter().zip(weights).map(|(y, w)| usable(task, *y, *w)));
            self.matrix.reset(places.len(), width);
            encoder.encode_then_observe(
                rows.frame,
                places,
                rows.dictionaries,
                rows.labels,
                &self.learn,
                self.matrix.values_mut(),
            );
            let given = labels.iter().zip(weights).zip(&self.learn);
            for (x, ((label, weight), usable)) in self.matrix.iter().zip(given) {
                each(Encoded {
                    x,
                    label: *label,
                    weight: *weight,
                    usable: *usable,
                });
            }
        }
    }

    /// Bytes that it may come to use for rows of `width` numbers.
    pub(super) fn bytes_max(width: usize) -> usize {
        rows_at_a_time(width) * (width * size_of::<f64>() + 1)
    }
}
