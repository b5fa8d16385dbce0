//! A candidate under evidence: scored on the same labelled rows as the champion, all predicted after its training cut.

use std::sync::Arc;

use driftmill_models::dictionary::Dictionaries;
use driftmill_models::evidence::gate::{
    Baseline, Evidence, GateInput, GateParams, GateVerdict, Mechanics, alpha_share, decide,
};
use driftmill_models::evidence::pairs::Pair;
use driftmill_models::evidence::{BLOCKS_MIN, PairParams, Pairs};
use driftmill_models::model::{Model, Scratch};

use crate::example::Matured;
use crate::settings::GateSettings;

/// Blocks that may be open at once; rows of older ones are left out and counted.
const OPEN_MAX: usize = 4096;
/// Rows that a block needs to count.
const BLOCK_ROWS_MIN: u64 = 1;

/// A candidate.
pub struct Candidate {
    /// The job that made it.
    pub job: String,
    /// Its artifact.
    pub artifact: String,
    /// Its training cut, in milliseconds.
    pub cut_ms: i64,
    /// Which candidate after this champion it is, from 1.
    pub attempt: u32,
    pub(super) model: Option<Arc<Model>>,
    pub(super) pairs: Pairs,
    /// Closed blocks, empty ones too.
    pub(super) age_blocks: u64,
    pub(super) not_finite: u64,
    /// The last block end up to which age was counted.
    pub(super) counted_ms: i64,
    block_ms: i64,
}

impl Candidate {
    pub(super) fn new(
        job: &str,
        artifact: &str,
        cut_ms: i64,
        attempt: u32,
        model: Arc<Model>,
        gate: &GateSettings,
    ) -> Self {
        Self {
            model: Some(model),
            ..Self::without_model(job, artifact, cut_ms, attempt, gate)
        }
    }

    /// A candidate whose model is loaded later, after a restart.
    pub(super) fn without_model(job: &str, artifact: &str, cut_ms: i64, attempt: u32, gate: &GateSettings) -> Self {
        let params = PairParams {
            block_ms: gate.block_ms,
            block_rows_min: BLOCK_ROWS_MIN,
            train_cut_ms: cut_ms,
            open_max: OPEN_MAX,
        };
        Self {
            job: job.to_owned(),
            artifact: artifact.to_owned(),
            cut_ms,
            attempt,
            model: None,
            pairs: Pairs::new(params),
            age_blocks: 0,
            not_finite: 0,
            counted_ms: cut_ms,
            block_ms: gate.block_ms,
        }
    }

    /// Gives a restored candidate its model.
    pub fn set_model(&mut self, model: Arc<Model>) {
        self.model = Some(model);
    }

    /// Scores both models on labelled rows.
    pub(super) fn compare(
        &mut self,
        champion: &Model,
        rows: &Matured,
        dictionaries: &Dictionaries,
        scratch: &mut Scratch,
    ) {
        let Some(model) = &self.model else { return };
        if rows.is_empty() {
            return;
        }
        let (mut old, mut new) = (Vec::new(), Vec::new());
        champion.score(&rows.frame, dictionaries, scratch, &mut old);
        model.score(&rows.frame, dictionaries, scratch, &mut new);
        for row in 0..rows.len() {
            let label = rows.labels[row];
            if !new[row].is_finite() {
                self.not_finite += 1;
            }
            let pair = Pair {
                at_ms: rows.time_ms[row],
                champion: (old[row] - label).powi(2),
                candidate: (new[row] - label).powi(2),
                positive: label > 0.5,
                weight: rows.weights[row],
            };
            // What is refused (before the cut, too late) is counted there.
            self.pairs.push(&pair);
        }
    }

    /// Closes the blocks whose labels have matured.
    pub(super) fn advance(&mut self, matured_until_ms: i64) {
        self.pairs.advance(matured_until_ms);
        let blocks = matured_until_ms.saturating_sub(self.counted_ms) / self.block_ms;
        if blocks > 0 {
            self.age_blocks += blocks.unsigned_abs();
            self.counted_ms += blocks * self.block_ms;
        }
    }

    /// What the gate says now.
    #[must_use]
    pub fn decide(&self, gate: &GateSettings) -> GateVerdict {
        let alpha = alpha_share(gate.alpha, 1, self.attempt);
        decide(&GateInput {
            candidate: self.job[..self.job.len().min(6)].to_owned(),
            loss: "Brier".to_owned(),
            baseline: Baseline::Champion("the live version".to_owned()),
            mechanics: Mechanics {
                outputs_not_finite: self.not_finite,
                ..Mechanics::default()
            },
            evidence: Evidence {
                bounds: self.pairs.sequence().bounds(alpha),
                losses: self.pairs.losses().unwrap_or_default(),
                rows: self.pairs.rows(),
                positives: self.pairs.positives(),
                age_blocks: self.age_blocks,
            },
            alpha,
            limits: Vec::new(),
            slices: Vec::new(),
            params: GateParams {
                gain_min: gate.gain_min,
                blocks_min: BLOCKS_MIN,
                positives_min: gate.positives_min,
                slice_rows_min: 0,
                age_blocks_max: gate.age_blocks_max,
            },
        })
    }
}
