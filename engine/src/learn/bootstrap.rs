//! The first model from files of history, as far as the learn half knows about it: rows go through the same rules and
//! into the same kind of buffer as rows of the stream, the job is one of the same learner, and the gate is the same.
//!
//! Nothing here is part of the state. Whether the model is shown is decided once, before the first epoch; what comes of
//! it enters as events.

use driftmill_models::dictionary::Dictionaries;
use driftmill_models::evidence::gate::GateVerdict;
use driftmill_models::model::{Model, Scratch};

use super::contest::{Begin, Contest, Rival};
use super::{LearnHalf, Prior};
use crate::buffer::{FeatureBuffer, SegmentSlice, TrainingRows, Window, read_segment};
use crate::example::Matured;
use crate::quarantine::{Quarantine, QuarantineCounts};
use crate::settings::GateSettings;
use crate::trainer::{Job, Segments, TrainError};

/// Of these many parts of the rows, in order, the last is kept for the judgement.
const PARTS: usize = 5;
/// Rows of a block of evidence, where rows have no time of their own. Nothing is known about their order then: blocks
/// are as small as the sequence of their means bears, so that little history suffices for the blocks that it needs.
const BLOCK_ROWS: i64 = 50;

/// Labelled rows of history on their way to the first model.
pub struct Gathered {
    quarantine: Quarantine,
    buffer: FeatureBuffer,
}

/// Labelled rows of history that passed the rules, in order; the last of them, as many as the buffer holds.
pub struct History {
    slices: Vec<SegmentSlice>,
    segments: Segments,
    /// Rows kept.
    rows: usize,
    /// Rows that passed the rules.
    passed: u64,
    /// What did not.
    quarantined: QuarantineCounts,
}

impl Gathered {
    /// Takes labelled rows, in order.
    ///
    /// # Errors
    /// Rows that do not fit the columns: a bug.
    pub fn push(&mut self, rows: &Matured, dictionaries: &Dictionaries) -> Result<(), String> {
        let verdicts = self.quarantine.check(rows, dictionaries);
        let passed = self.quarantine.split(rows, &verdicts);
        self.buffer
            .append(&passed, dictionaries, 0)
            .map_err(|error| error.to_string())
    }

    /// The rows that are kept.
    #[must_use]
    pub fn finish(mut self, dictionaries: &Dictionaries) -> History {
        self.buffer.seal_tail(dictionaries);
        let slices = self.buffer.select(Window::All);
        let bytes = |slice: &SegmentSlice| Some((slice.hash.to_string(), self.buffer.segment_bytes(&slice.hash)?));
        History {
            segments: slices.iter().filter_map(bytes).collect(),
            slices,
            rows: self.buffer.rows(),
            passed: self.buffer.counts().appended,
            quarantined: self.quarantine.counts(),
        }
    }
}

impl History {
    /// Rows kept.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that passed the rules of quality, kept or not.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// What the rules of quality held back.
    #[must_use]
    pub fn quarantined(&self) -> &QuarantineCounts {
        &self.quarantined
    }

    /// The rows' bytes, for jobs.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// How many rows come before those that are kept for the judgement.
    #[must_use]
    pub fn split(&self) -> usize {
        self.rows - self.rows / PARTS
    }

    /// The first rows as a job names them.
    fn first(&self, mut rows: usize) -> Vec<SegmentSlice> {
        let mut first = Vec::new();
        for slice in &self.slices {
            let taken = slice.rows.len().min(rows);
            if taken == 0 {
                break;
            }
            rows -= taken;
            first.push(SegmentSlice {
                hash: slice.hash,
                rows: slice.rows.start..slice.rows.start + taken,
            });
        }
        first
    }

    /// Gives each segment in order: the number of its first row, and its rows.
    fn each(&self, mut take: impl FnMut(usize, &TrainingRows)) -> Result<(), String> {
        let mut first = 0;
        for slice in &self.slices {
            let bytes = self.segments.get(&slice.hash.to_string());
            let bytes = bytes.ok_or_else(|| format!("segment {} of the history is gone", slice.hash))?;
            let read = read_segment(bytes).map_err(|error| format!("a segment of the history: {error}"))?;
            take(first, &read);
            first += slice.rows.len();
        }
        Ok(())
    }
}

impl LearnHalf {
    /// Takes rows of history by the rules and the budgets of this half, whose state they are no part of.
    #[must_use]
    pub fn gather(&self) -> Gathered {
        Gathered {
            quarantine: super::quarantine(&self.settings, &self.columns),
            buffer: super::buffer(&self.settings, &self.columns),
        }
    }

    /// The job on all rows of history; on those before the judged ones, when `is_trial`. A trial knows no label that
    /// was not known when the first judged row was predicted.
    ///
    /// # Errors
    /// No learner that jobs could fit, or rows that cannot be read: a bug.
    pub fn bootstrap_job(&self, history: &History, is_trial: bool) -> Result<Job, TrainError> {
        let Some(batch) = &self.settings.lines.batch else {
            return Err(TrainError::Job("no batch learner is configured".to_owned()));
        };
        let rows = if is_trial { history.split() } else { history.rows };
        let mut cut_ms = i64::MAX;
        if is_trial {
            let find = |first: usize, read: &TrainingRows| {
                let place = rows.checked_sub(first).and_then(|row| read.rows.time_ms.get(row));
                cut_ms = place.copied().unwrap_or(cut_ms);
            };
            history.each(find).map_err(TrainError::Job)?;
        }
        let segments = history.first(rows).into_iter().map(Into::into).collect();
        Ok(self.job_on(batch, segments, cut_ms))
    }

    /// What the gate says of the model of a trial on the rows that it has not seen, against the class prior. Blocks are
    /// those of the rows' time where they have one (`by_time`), else of a fixed number of rows.
    ///
    /// The error spent is that of a first attempt. It comes out of the share of a former champion, which cannot compete
    /// before there is one: together with later candidates `alpha` is kept.
    ///
    /// # Errors
    /// Rows that cannot be read: a bug.
    pub fn judge(&self, model: &Model, history: &History, by_time: bool) -> Result<GateVerdict, String> {
        let mut gate = self.settings.gate;
        if !by_time {
            gate.block_ms = BLOCK_ROWS;
        }
        let split = history.split();
        let late_ms = if by_time { self.settings.labels.horizon_ms } else { 0 };
        let mut judge = Judge {
            model,
            gate,
            name: format!("a model of the first {split} rows"),
            prior: Prior::default(),
            cut_ms: i64::MIN,
            now_ms: i64::MIN,
            late_ms,
            contest: None,
            left_out: 0,
        };
        history.each(|first, read| {
            let rows = read.rows.len();
            let at = split.clamp(first, first + rows) - first;
            judge.learn(&read.rows.slice(0..at));
            judge.compare(&read.rows.slice(at..rows), &read.dictionaries);
        })?;
        Ok(judge.verdict(self.alpha(1), history.rows - split))
    }
}

/// A judgement under way.
struct Judge<'a> {
    model: &'a Model,
    gate: GateSettings,
    name: String,
    /// Labels of the rows of the trial.
    prior: Prior,
    /// Time of the newest of them.
    cut_ms: i64,
    /// Newest time so far.
    now_ms: i64,
    /// How much older than the newest a row may be.
    late_ms: i64,
    contest: Option<Contest>,
    /// Rows that are no newer than those of the trial.
    left_out: u64,
}

impl Judge<'_> {
    /// Rows that the model was fitted on.
    fn learn(&mut self, rows: &Matured) {
        self.prior.add(rows);
        self.cut_ms = rows.time_ms.iter().copied().fold(self.cut_ms, i64::max);
    }

    /// Rows that it has not seen.
    fn compare(&mut self, rows: &Matured, dictionaries: &Dictionaries) {
        let Some(&first_ms) = rows.time_ms.first() else { return };
        let begin = Begin {
            cut_ms: self.cut_ms,
            ..Begin::new(0, self.prior, first_ms)
        };
        let contest = self
            .contest
            .get_or_insert_with(|| Contest::new(&self.name, begin, &self.gate));
        let mut scores = Vec::with_capacity(rows.len());
        self.model
            .score(&rows.frame, dictionaries, &mut Scratch::default(), &mut scores);
        contest.observe(rows, &Rival::ClassPrior, |row| scores.get(row).copied());
        self.left_out += rows.time_ms.iter().filter(|time| **time <= self.cut_ms).count() as u64;
        self.now_ms = rows.time_ms.iter().copied().fold(self.now_ms, i64::max);
        // Blocks are closed on the way: only so many may be open.
        contest.advance(self.now_ms.saturating_sub(self.late_ms));
    }

    fn verdict(self, alpha: f64, judged: usize) -> GateVerdict {
        let begin = Begin::new(0, self.prior, self.now_ms);
        let mut contest = self
            .contest
            .unwrap_or_else(|| Contest::new(&self.name, begin, &self.gate));
        // The last block ends where no row follows.
        contest.advance(self.now_ms.saturating_add(self.gate.block_ms));
        let mut verdict = contest.decide(&self.gate, false, alpha);
        if self.left_out > 0 {
            let left_out = self.left_out;
            verdict.reason += &format!(
                " {left_out} of the {judged} rows kept for the judgement were left out, being no newer than those \
                 before: lines stand in the order of their time, oldest first."
            );
        }
        verdict
    }
}
