//! A model: encoder and scorer together, immutable, from rows of features to scores.

use std::fmt;
use std::sync::Arc;

use crate::contracts::{Scorer, Task};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{ColumnSpec, Frame};
use crate::matrix::Matrix;

/// Numbers that are encoded at a time: 32 KiB, so that they are still in the cache when they are scored.
const BLOCK_NUMBERS: usize = 4096;
/// Rows that are encoded at a time, at most.
const BLOCK_ROWS: usize = 128;

/// Encoder, scorer and what they answer for.
#[derive(Clone)]
pub struct Model {
    task: Task,
    encoder: Arc<ColumnsEncoder>,
    scorer: Arc<dyn Scorer>,
    threshold: Option<f64>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("task", &self.task)
            .field("encoder", &self.encoder)
            .field("scorer", &self.scorer.format())
            .field("threshold", &self.threshold)
            .finish()
    }
}

/// Memory that scoring uses again from batch to batch; one for each thread, good for every model.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    matrix: Matrix,
}

impl Model {
    /// Puts the parts together.
    ///
    /// # Errors
    /// Parts that do not fit: the scorer expects another width or answers another task.
    pub fn new(task: Task, encoder: Arc<ColumnsEncoder>, scorer: Arc<dyn Scorer>) -> Result<Self, String> {
        if encoder.width() != scorer.width() {
            let (made, expected) = (encoder.width(), scorer.width());
            return Err(format!(
                "the encoder makes {made} inputs and the scorer expects {expected}"
            ));
        }
        if task.outputs() != scorer.outputs() {
            let (wanted, given) = (task.outputs(), scorer.outputs());
            return Err(format!(
                "the task wants {wanted} scores a row and the scorer gives {given}"
            ));
        }
        Ok(Self {
            task,
            encoder,
            scorer,
            threshold: None,
        })
    }

    /// The same model, which answers class 1 above another score than 0.5 (costs of mistakes that travel with it).
    #[must_use]
    pub fn with_threshold(self, threshold: Option<f64>) -> Self {
        Self { threshold, ..self }
    }

    /// What the model answers for.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// The feature columns that frames must hold, in this order.
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        self.encoder.columns()
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &ColumnsEncoder {
        &self.encoder
    }

    /// The scorer.
    #[must_use]
    pub fn scorer(&self) -> &dyn Scorer {
        self.scorer.as_ref()
    }

    /// The score above which the model itself answers class 1, where it is not 0.5.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// Whether a score of a binary task means class 1, by the model's own threshold.
    #[must_use]
    pub fn decide(&self, score: f64) -> bool {
        score > self.threshold.unwrap_or(0.5)
    }

    /// Bytes of memory, at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.scorer.bytes() + self.encoder.bytes_max()
    }

    /// Whether frames of `columns` can be scored.
    ///
    /// # Errors
    /// The first difference, in one sentence.
    pub fn accepts(&self, columns: &[ColumnSpec]) -> Result<(), String> {
        let own = self.columns();
        if let Some((wanted, given)) = own.iter().zip(columns).find(|(wanted, given)| wanted != given) {
            return Err(format!(
                "the model wants column `{}` ({:?}) where the features have `{}` ({:?})",
                wanted.name, wanted.kind, given.name, given.kind
            ));
        }
        if own.len() != columns.len() {
            return Err(format!(
                "the model wants {} columns and the features have {}",
                own.len(),
                columns.len()
            ));
        }
        Ok(())
    }

    /// Empties `out` and fills it with the scores of all rows of `frame`, [`Task::outputs`] for each. The frame must
    /// be of the model's columns; one that is missing or of the other kind counts as missing throughout.
    pub fn score(&self, frame: &Frame, dictionaries: &Dictionaries, scratch: &mut Scratch, out: &mut Vec<f64>) {
        out.clear();
        out.reserve(frame.rows() * self.task.outputs());
        let width = self.encoder.width();
        let block = (BLOCK_NUMBERS / width.max(1)).clamp(4, BLOCK_ROWS);
        for start in (0..frame.rows()).step_by(block) {
            let rows = start..frame.rows().min(start + block);
            scratch.matrix.reset(rows.len(), width);
            self.encoder
                .encode(frame, rows, dictionaries, scratch.matrix.values_mut());
            self.scorer.score(&scratch.matrix, out);
        }
    }
}
