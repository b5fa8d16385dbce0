//! A contest: one model, or an online learner, against the live version on the same labelled rows, until the gate can
//! say which is better.

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::evidence::gate::{
    Baseline, Evidence, GateInput, GateParams, GateVerdict, Mechanics, decide, prior_loss,
};
use driftmill_models::evidence::pairs::Pair;
use driftmill_models::evidence::{BLOCKS_MIN, Bounds, PairParams, Pairs};
use driftmill_models::state::{ChunkSource, ChunkVisitor, State as _, StateError, Within, WithinSource};

use crate::example::Matured;
use crate::settings::GateSettings;

/// Blocks that may be open at once; rows of older ones are left out and counted.
const OPEN_MAX: usize = 4096;
/// Rows that a block needs to count.
const BLOCK_ROWS_MIN: u64 = 1;

/// Who competes with the live version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// The model of a job.
    Candidate,
    /// The online learner.
    Challenger,
    /// The champion before.
    Former,
}

/// Whom a contestant has to beat.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rival<'a> {
    /// The live version: its scores for the rows.
    Live(&'a [f64]),
    /// Nobody is live: always predicting the share of positives that was known when the contest began.
    ClassPrior,
}

/// The evidence of one contestant, and when it began.
pub struct Contest {
    /// Its name in reasons: a job's first digits, a version, or what it is.
    pub(super) name: String,
    /// Which try after this champion it is, from 1: the error that the gate may make is divided over them.
    pub(super) attempt: u32,
    /// The share of positives when it began.
    pub(super) prior: f64,
    /// Names its chunks; never given twice.
    serial: u64,
    /// Predictions up to this time, ms, say nothing: the contestant may have seen their labels.
    cut_ms: i64,
    pairs: Pairs,
    /// Closed blocks, empty ones too.
    age_blocks: u64,
    /// The last block end up to which age was counted.
    counted_ms: i64,
    not_finite: u64,
    block_ms: i64,
}

/// When a contest begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    /// As [`Contest::attempt`].
    pub(super) attempt: u32,
    /// As [`Contest::prior`].
    pub(super) prior: f64,
    /// As `Contest::serial`.
    pub(super) serial: u64,
    /// Predictions up to this time are refused, ms.
    pub(super) cut_ms: i64,
    /// Its age counts from this time, ms.
    pub(super) now_ms: i64,
}

impl Begin {
    /// A first contest that begins now.
    pub(super) fn new(serial: u64, prior: super::Prior, now_ms: i64) -> Self {
        Self {
            attempt: 1,
            prior: prior.share(),
            serial,
            cut_ms: now_ms,
            now_ms,
        }
    }
}

impl Contest {
    pub(super) fn new(name: &str, begin: Begin, gate: &GateSettings) -> Self {
        Self {
            name: name.to_owned(),
            attempt: begin.attempt,
            prior: begin.prior,
            serial: begin.serial,
            cut_ms: begin.cut_ms,
            pairs: Pairs::new(PairParams {
                block_ms: gate.block_ms,
                block_rows_min: BLOCK_ROWS_MIN,
                train_cut_ms: begin.cut_ms,
                open_max: OPEN_MAX,
            }),
            age_blocks: 0,
            counted_ms: begin.now_ms,
            not_finite: 0,
            block_ms: gate.block_ms,
        }
    }

    /// Takes labelled rows with the contestant's own score for each; those for which it has none are left out.
    pub(super) fn observe(&mut self, rows: &Matured, rival: &Rival<'_>, own: impl Fn(usize) -> Option<f64>) {
        for row in 0..rows.len() {
            if rows.time_ms[row] <= self.cut_ms {
                continue;
            }
            let Some(score) = own(row) else { continue };
            let label = rows.labels[row];
            if !score.is_finite() {
                self.not_finite += 1;
            }
            let champion = match rival {
                Rival::Live(scores) => prior_loss(scores[row], label),
                Rival::ClassPrior => prior_loss(self.prior, label),
            };
            let pair = Pair {
                at_ms: rows.time_ms[row],
                champion,
                candidate: prior_loss(score, label),
                positive: label > 0.5,
                weight: rows.weights[row],
            };
            // What is refused (too late) is counted there.
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

    /// What the gate says now, spending at most `alpha`.
    pub(super) fn decide(&self, gate: &GateSettings, has_champion: bool, alpha: f64) -> GateVerdict {
        decide(&GateInput {
            candidate: self.name.clone(),
            loss: "Brier".to_owned(),
            baseline: match has_champion {
                true => Baseline::Champion("the live version".to_owned()),
                false => Baseline::ClassPrior,
            },
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

    /// Bounds of the gain so far at error `alpha` each, blocks, and rows.
    #[must_use]
    pub fn bounds(&self, alpha: f64) -> Bounds {
        self.pairs.sequence().bounds(alpha)
    }

    /// Blocks in the evidence.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.pairs.sequence().blocks()
    }

    fn prefix(&self) -> String {
        format!("pairs/{}/", self.serial)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_str(&self.name);
        out.put_u32(self.attempt);
        out.put_f64(self.prior);
        out.put_u64(self.serial);
        out.put_u64(self.cut_ms as u64);
        out.put_u64(self.age_blocks);
        out.put_u64(self.counted_ms as u64);
        out.put_u64(self.not_finite);
    }

    /// Reads what [`Contest::write`] wrote; its pairs come by [`Contest::restore_pairs`].
    pub(super) fn read(reader: &mut Reader<'_>, gate: &GateSettings) -> Result<Self, CodecError> {
        let name = reader.str()?.to_owned();
        let (attempt, prior, serial) = (reader.u32()?, reader.finite()?, reader.u64()?);
        let (cut_ms, age_blocks) = (reader.u64()? as i64, reader.u64()?);
        let (counted_ms, not_finite) = (reader.u64()? as i64, reader.u64()?);
        let begin = Begin {
            attempt,
            prior,
            serial,
            cut_ms,
            now_ms: counted_ms,
        };
        Ok(Self {
            age_blocks,
            not_finite,
            ..Self::new(&name, begin, gate)
        })
    }

    pub(super) fn save_pairs(&self, chunks: &mut dyn ChunkVisitor) {
        self.pairs.save(&mut Within::new(&self.prefix(), chunks));
    }

    pub(super) fn restore_pairs(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let prefix = self.prefix();
        self.pairs
            .restore(&WithinSource::new(&prefix, chunks))
            .map_err(|error| error.within(&prefix))
    }
}

/// A contestant that never leaves: its contests follow each other. After a rejection it sleeps, until the world changes
/// or the age of a contest has passed, so that there are few tries in any time.
#[derive(Default)]
pub struct Standing {
    contest: Option<Contest>,
    /// Contests begun against this champion.
    attempts: u32,
    asleep_until_ms: Option<i64>,
}

impl Standing {
    /// One that has competed `attempts` times already.
    pub(super) fn after(attempts: u32) -> Self {
        Self {
            attempts,
            ..Self::default()
        }
    }

    /// The contest under way.
    #[must_use]
    pub fn contest(&self) -> Option<&Contest> {
        self.contest.as_ref()
    }

    pub(super) fn observe(&mut self, rows: &Matured, rival: &Rival<'_>, own: impl Fn(usize) -> Option<f64>) {
        if let Some(contest) = &mut self.contest {
            contest.observe(rows, rival, own);
        }
    }

    pub(super) fn advance(&mut self, matured_until_ms: i64) {
        if let Some(contest) = &mut self.contest {
            contest.advance(matured_until_ms);
        }
    }

    /// The loss of the live version has changed: evidence from before is of another world. A contest that has only
    /// just begun goes on, since one change raises several alarms.
    pub(super) fn alarm(&mut self) {
        self.asleep_until_ms = None;
        if self
            .contest
            .as_ref()
            .is_some_and(|contest| contest.blocks() >= BLOCKS_MIN)
        {
            self.contest = None;
        }
    }

    /// Begins a contest where there is none; whether it did. `begin.attempt` is filled in.
    pub(super) fn begin(&mut self, name: &str, begin: Begin, gate: &GateSettings) -> bool {
        let sleeps = self.asleep_until_ms.is_some_and(|until| begin.now_ms < until);
        if self.contest.is_some() || sleeps {
            return false;
        }
        self.attempts += 1;
        self.asleep_until_ms = None;
        let attempt = self.attempts;
        self.contest = Some(Contest::new(name, Begin { attempt, ..begin }, gate));
        true
    }

    /// It was rejected.
    pub(super) fn reject(&mut self, now_ms: i64, gate: &GateSettings) {
        self.contest = None;
        let pause = gate.block_ms.saturating_mul(gate.age_blocks_max.cast_signed());
        self.asleep_until_ms = Some(now_ms.saturating_add(pause));
    }

    /// Ends the contest without a verdict.
    pub(super) fn leave(&mut self) {
        self.contest = None;
        self.asleep_until_ms = None;
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.attempts);
        out.put_u8(u8::from(self.asleep_until_ms.is_some()));
        out.put_u64(self.asleep_until_ms.unwrap_or_default().cast_unsigned());
        out.put_u8(u8::from(self.contest.is_some()));
        if let Some(contest) = &self.contest {
            contest.write(out);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, gate: &GateSettings) -> Result<Self, CodecError> {
        let attempts = reader.u32()?;
        let sleeps = reader.u8()? == 1;
        let until = reader.u64()?.cast_signed();
        let contest = match reader.u8()? {
            1 => Some(Contest::read(reader, gate)?),
            _ => None,
        };
        Ok(Self {
            contest,
            attempts,
            asleep_until_ms: sleeps.then_some(until),
        })
    }

    pub(super) fn save_pairs(&self, chunks: &mut dyn ChunkVisitor) {
        if let Some(contest) = &self.contest {
            contest.save_pairs(chunks);
        }
    }

    pub(super) fn restore_pairs(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        match &mut self.contest {
            Some(contest) => contest.restore_pairs(chunks),
            None => Ok(()),
        }
    }
}
