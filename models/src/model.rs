//! A model: immutable, from rows of features to scores. Either encoder and scorer together, or members, each a model,
//! whose scores a further scorer combines: a team with its weights, a model with its calibration.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::contracts::{Scorer, Task};
use crate::dictionary::Dictionaries;
use crate::encoders::ColumnsEncoder;
use crate::frame::{ColumnSpec, Frame};
use crate::matrix::Matrix;
use crate::scorers::linear::logistic;

/// Numbers that are encoded at a time: 32 KiB, so that they are still in the cache when they are scored.
const BLOCK_NUMBERS: usize = 4096;
/// Rows that are encoded at a time, at most.
const BLOCK_ROWS: usize = 128;

/// Members of a team at most, and how deep teams may stand in teams.
pub(crate) const MEMBERS_MAX: usize = 1024;
pub(crate) const DEPTH_MAX: usize = 4;

/// What scores, and what it answers for.
#[derive(Clone)]
pub struct Model {
    task: Task,
    body: Body,
    threshold: Option<f64>,
}

/// How a model scores.
#[derive(Clone)]
pub enum Body {
    /// Rows are encoded, then scored.
    Scored {
        /// The encoder.
        encoder: Arc<ColumnsEncoder>,
        /// The scorer.
        scorer: Arc<dyn Scorer>,
    },
    /// Every member scores; the combiner's inputs are their scores, the first member's first.
    Combined {
        /// At least one, all over the same columns. One that did not change is shared with the model published before.
        members: Arc<[Arc<Model>]>,
        /// From the members' scores to the model's.
        combiner: Arc<dyn Scorer>,
    },
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scored { encoder, scorer } => write!(f, "{encoder:?} to {}", scorer.format()),
            Self::Combined { members, combiner } => write!(f, "{members:?} to {}", combiner.format()),
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("task", &self.task)
            .field("body", &self.body)
            .field("threshold", &self.threshold)
            .finish()
    }
}

/// Memory that scoring uses again from batch to batch; one for each thread, good for every model.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    matrix: Matrix,
    /// For the members of a combined model.
    members: Option<Box<Scratch>>,
    scores: Vec<f64>,
}

impl Model {
    /// Puts the parts together.
    ///
    /// # Errors
    /// Parts that do not fit: the scorer expects another width or answers another task.
    pub fn new(task: Task, encoder: Arc<ColumnsEncoder>, scorer: Arc<dyn Scorer>) -> Result<Self, String> {
        fits(task, encoder.width(), scorer.as_ref())?;
        let body = Body::Scored { encoder, scorer };
        Ok(Self {
            task,
            body,
            threshold: None,
        })
    }

    /// Puts members together whose scores `combiner` combines.
    ///
    /// # Errors
    /// Parts that do not fit: no member or too many, members over other columns, teams too deep in teams, a combiner of
    /// another width or for another task.
    pub fn combined(task: Task, members: Vec<Arc<Self>>, combiner: Arc<dyn Scorer>) -> Result<Self, String> {
        let Some(first) = members.first() else {
            return Err("a team without a member".to_owned());
        };
        if members.len() > MEMBERS_MAX {
            return Err(format!("{} members, at most {MEMBERS_MAX} are possible", members.len()));
        }
        for member in &members {
            member.accepts(first.columns())?;
        }
        let width = members.iter().map(|member| member.task.outputs()).sum();
        fits(task, width, combiner.as_ref())?;
        let members: Arc<[Arc<Self>]> = members.into();
        let model = Self {
            task,
            body: Body::Combined { members, combiner },
            threshold: None,
        };
        if model.depth() > DEPTH_MAX {
            return Err(format!("teams stand in teams more than {DEPTH_MAX} deep"));
        }
        Ok(model)
    }

    fn depth(&self) -> usize {
        match &self.body {
            Body::Scored { .. } => 0,
            Body::Combined { members, .. } => 1 + members.iter().map(|member| member.depth()).max().unwrap_or(0),
        }
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
        match &self.body {
            Body::Scored { encoder, .. } => encoder.columns(),
            Body::Combined { members, .. } => members.first().map_or(&[], |member| member.columns()),
        }
    }

    /// How it scores.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
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
        match &self.body {
            Body::Scored { encoder, scorer } => scorer.bytes() + encoder.bytes_max(),
            Body::Combined { members, combiner } => {
                combiner.bytes() + members.iter().map(|member| member.bytes()).sum::<usize>()
            }
        }
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
        let block = self.block();
        for start in (0..frame.rows()).step_by(block) {
            let rows = start..frame.rows().min(start + block);
            self.score_block(frame, rows, dictionaries, scratch, out, false);
        }
    }

    /// Rows that are scored at a time.
    fn block(&self) -> usize {
        match &self.body {
            Body::Scored { encoder, .. } => (BLOCK_NUMBERS / encoder.width().max(1)).clamp(4, BLOCK_ROWS),
            Body::Combined { members, .. } => members.iter().map(|member| member.block()).min().unwrap_or(BLOCK_ROWS),
        }
    }

    /// Appends the scores of a few rows. `encoded` says that `scratch` holds them as this model's encoder makes them.
    fn score_block(
        &self,
        frame: &Frame,
        rows: Range<usize>,
        dictionaries: &Dictionaries,
        scratch: &mut Scratch,
        out: &mut Vec<f64>,
        encoded: bool,
    ) {
        match &self.body {
            Body::Scored { encoder, scorer } => {
                if !encoded {
                    scratch.matrix.reset(rows.len(), encoder.width());
                    encoder.encode(frame, rows, dictionaries, scratch.matrix.values_mut());
                }
                scorer.score(&scratch.matrix, out);
            }
            Body::Combined { members, combiner } => {
                scratch.matrix.reset(rows.len(), combiner.width());
                let inner = scratch.members.get_or_insert_default();
                let mut offset = 0;
                let mut last: Option<&Arc<ColumnsEncoder>> = None;
                for member in members.iter() {
                    // Members that share an encoder share what it makes.
                    let own = match &member.body {
                        Body::Scored { encoder, .. } => Some(encoder),
                        Body::Combined { .. } => None,
                    };
                    let encoded = matches!((own, last), (Some(own), Some(last)) if Arc::ptr_eq(own, last));
                    last = own;
                    scratch.scores.clear();
                    member.score_block(frame, rows.clone(), dictionaries, inner, &mut scratch.scores, encoded);
                    let outputs = member.task.outputs();
                    let places = scratch.matrix.values_mut().chunks_mut(combiner.width().max(1));
                    for (row, scores) in places.zip(scratch.scores.chunks(outputs.max(1))) {
                        if let Some(row) = row.get_mut(offset..offset + outputs) {
                            row.copy_from_slice(scores);
                        }
                    }
                    offset += outputs;
                }
                combiner.score(&scratch.matrix, out);
            }
        }
    }

    /// Empties `out` and fills it, for every row and output, with what each feature column adds to the output and, last,
    /// with what the output would be without any (see [`Scorer::contributions`]). `false`, and nothing there, where the
    /// model cannot say so.
    pub fn contributions(&self, frame: &Frame, dictionaries: &Dictionaries, out: &mut Vec<f64>) -> bool {
        out.clear();
        let (encoder, scorer) = match &self.body {
            Body::Scored { encoder, scorer } => (encoder, scorer),
            Body::Combined { members, combiner } => {
                return match &members[..] {
                    [inner] if inner.task == Task::Binary && combiner.width() == 1 => {
                        inner.contributions(frame, dictionaries, out) && recalibrated(combiner.as_ref(), self, out)
                    }
                    _ => false,
                };
            }
        };
        let (mut matrix, mut inputs) = (Matrix::new(), Vec::new());
        matrix.reset(frame.rows(), encoder.width());
        encoder.encode(frame, 0..frame.rows(), dictionaries, matrix.values_mut());
        if !scorer.contributions(&matrix, &mut inputs) {
            return false;
        }
        for row in inputs.chunks(encoder.width() + 1) {
            out.extend(
                encoder
                    .places()
                    .map(|places| row.get(places).unwrap_or_default().iter().sum::<f64>()),
            );
            out.extend(row.last());
        }
        true
    }
}

/// Makes contributions to calibrated log-odds of those to log-odds, where one is a straight line of the other. `false`,
/// and nothing there, where it is not.
fn recalibrated(combiner: &dyn Scorer, model: &Model, out: &mut Vec<f64>) -> bool {
    // The log-odds of the one are 1: the slope and the offset are what it says of them.
    let mut one = Matrix::new();
    one.reset(1, 1);
    one.values_mut().fill(logistic(1.0));
    let mut line = Vec::new();
    let (true, [slope, offset]) = (combiner.contributions(&one, &mut line), line.as_slice()) else {
        out.clear();
        return false;
    };
    for row in out.chunks_mut(model.columns().len() + 1) {
        row.iter_mut().for_each(|part| *part *= slope);
        if let Some(last) = row.last_mut() {
            *last += offset;
        }
    }
    true
}

/// Whether a scorer takes so many inputs and answers the task.
fn fits(task: Task, width: usize, scorer: &dyn Scorer) -> Result<(), String> {
    if width != scorer.width() {
        let expected = scorer.width();
        return Err(format!("{width} inputs are made and the scorer expects {expected}"));
    }
    if task.outputs() != scorer.outputs() {
        let (wanted, given) = (task.outputs(), scorer.outputs());
        return Err(format!(
            "the task wants {wanted} scores a row and the scorer gives {given}"
        ));
    }
    Ok(())
}
