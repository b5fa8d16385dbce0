//! The learn half: labels are joined to the rows they belong to, judged, kept, and watched for drift; candidates are
//! compared with the champion. It produces no output and decides nothing by itself: what it would do is an
//! [`Intent`], which becomes an event of the next epoch, so that a replay does what was done.

mod candidate;
mod incoming;
mod state;
mod watch;

use std::sync::Arc;

use driftmill_models::contracts::Task;
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::evidence::gate::{GateAnswer, GateVerdict};
use driftmill_models::frame::ColumnSpec;
use driftmill_models::model::{Model, Scratch};

use crate::buffer::{BufferConfig, FeatureBuffer, Window};
use crate::example::{Examples, Label, Matured, VersionId};
use crate::labels::{JoinConfig, LabelJoin};
use crate::quality::{Quality, QualityConfig};
use crate::quarantine::{Quarantine, QuarantineConfig};
use crate::settings::{Action, LearnSettings};
use crate::trainer::{Job, TrainError, Weighting};

pub use candidate::Candidate;
pub use incoming::{LabelReader, labels_in_record};
pub use watch::{Watch, WatchKind};

/// Rows of a segment of the buffer.
const SEGMENT_ROWS: usize = 4096;
/// Bytes for labels that came before their rows, and for the keys of rows that have left.
const SIDE_BYTES_MAX: usize = 32 << 20;
/// Bytes of rows that are held back.
const QUARANTINE_BYTES_MAX: usize = 64 << 20;
/// Groups that a rule of quality tells apart.
const GROUPS_MAX: usize = 1024;
/// Cohorts of quality that are kept for each version, and versions.
const COHORTS_MAX: usize = 64;
const VERSIONS_MAX: usize = 16;
/// How many times more rows each further candidate after an alarm needs.
const MORE_ROWS: u64 = 4;

/// Labels of an epoch.
#[derive(Debug, Default)]
pub struct EpochLabels {
    /// For each example its label, where labels are in the record.
    pub in_record: Option<Vec<Option<Label>>>,
    /// Labels from their own topic, in order.
    pub by_key: Vec<(Vec<u8>, Label)>,
}

/// What should happen next.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// A model should be trained.
    Train {
        /// Why: `bootstrap`, `schedule`, or `drift NAME`.
        cause: String,
    },
    /// The gate has decided on the candidate.
    Decided {
        /// The job that made the candidate.
        job: String,
        /// Its artifact.
        artifact: String,
        /// The verdict.
        verdict: GateVerdict,
    },
}

/// A change that asks for a new model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trigger {
    /// The detector that raised it.
    name: String,
    /// Labelled rows since the change.
    rows: u64,
    /// Rows that the next candidate needs.
    needed: u64,
}

/// A job that was started and has not ended.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its id.
    pub id: String,
    /// Why.
    pub cause: String,
    /// The job.
    pub job: Job,
}

/// What an epoch brought, for people: nothing depends on it.
#[derive(Debug, Default)]
pub struct Noted {
    /// Alarms, in words.
    pub alarms: Vec<String>,
    /// Quarantined rows by rule, with the reason in words.
    pub quarantined: Vec<(String, String, u64)>,
}

/// The learn half of one pipeline under one plan.
pub struct LearnHalf {
    settings: LearnSettings,
    columns: Vec<ColumnSpec>,
    task: Task,
    seed: u64,
    /// Labels and rows that wait for each other.
    pub join: LabelJoin,
    /// Rows held back.
    pub quarantine: Quarantine,
    /// Rows for training.
    pub buffer: FeatureBuffer,
    /// Quality of each version.
    pub quality: Quality,
    /// Detectors.
    pub watches: Vec<Watch>,
    trigger: Option<Trigger>,
    /// The job under way.
    pub job: Option<Started>,
    /// The candidate under evidence.
    pub candidate: Option<Candidate>,
    /// Candidates since the champion went live.
    attempts: u32,
    last_job_ms: Option<i64>,
    /// Labelled rows that passed the quarantine.
    passed: u64,
    /// Counts resets of the detectors.
    generation: u64,
    stamp: u64,
    scratch: Scratch,
}

impl LearnHalf {
    /// The half before the first epoch.
    #[must_use]
    pub fn new(settings: &LearnSettings, columns: &[ColumnSpec], task: Task, seed: u64) -> Self {
        let join = JoinConfig {
            horizon_ms: settings.labels.horizon_ms,
            bytes_max: settings.labels.bytes_max,
            early_bytes_max: SIDE_BYTES_MAX,
            late_bytes_max: SIDE_BYTES_MAX,
            missing: settings.labels.missing,
        };
        let quarantine = QuarantineConfig {
            columns: columns.to_vec(),
            rules: settings.rules.clone(),
            bytes_max: QUARANTINE_BYTES_MAX,
            groups_max: GROUPS_MAX,
        };
        let buffer = BufferConfig {
            columns: columns.to_vec(),
            rows_max: settings.buffer_rows_max,
            bytes_max: settings.buffer_bytes_max,
            segment_rows: SEGMENT_ROWS,
        };
        let quality = QualityConfig {
            threshold: 0.5,
            cohort_ms: settings.gate.block_ms,
            cohorts_max: COHORTS_MAX,
            versions_max: VERSIONS_MAX,
        };
        Self {
            join: LabelJoin::new(join),
            quarantine: Quarantine::new(quarantine),
            buffer: FeatureBuffer::new(buffer),
            quality: Quality::new(quality),
            watches: watch::all(settings, columns, task, seed),
            settings: settings.clone(),
            columns: columns.to_vec(),
            task,
            seed,
            trigger: None,
            job: None,
            candidate: None,
            attempts: 0,
            last_job_ms: None,
            passed: 0,
            generation: 0,
            stamp: 0,
            scratch: Scratch::default(),
        }
    }

    /// Takes an epoch: its rows as served and the labels that arrived in it. `live` is the version that serves.
    ///
    /// # Errors
    /// Rows that do not fit the columns: a bug.
    pub fn observe(
        &mut self,
        examples: &Examples,
        labels: &EpochLabels,
        watermark_ms: i64,
        epoch: u64,
        dictionaries: &Dictionaries,
        live: (VersionId, Option<&Model>),
    ) -> Result<Noted, String> {
        self.stamp += 1;
        let mut noted = Noted::default();
        for watch in &mut self.watches {
            noted.alarms.extend(watch.observe_features(&examples.frame));
        }
        match &labels.in_record {
            Some(labels) => self.join.insert_labelled(examples, labels),
            None => self.join.insert(examples),
        }
        for (key, label) in &labels.by_key {
            self.join.label(key, *label);
        }
        self.join.expire(watermark_ms);
        let matured = self.join.drain(watermark_ms);
        self.quality.update(&matured);
        let verdicts = self.quarantine.check(&matured, dictionaries);
        let counts = verdicts.counts();
        noted.quarantined.extend(
            verdicts
                .reasons
                .iter()
                .zip(counts)
                .map(|(why, rows)| (why.rule.clone(), why.detail.clone(), rows as u64)),
        );
        let passed = self.quarantine.split(&matured, &verdicts);
        self.passed += passed.len() as u64;
        self.watch_losses(&passed, live.0, &mut noted);
        self.buffer
            .append(&passed, dictionaries, epoch)
            .map_err(|error| error.to_string())?;
        let matured_until_ms = watermark_ms.saturating_sub(self.settings.labels.horizon_ms);
        if let (Some(candidate), Some(champion)) = (&mut self.candidate, live.1) {
            candidate.compare(champion, &passed, dictionaries, &mut self.scratch);
            candidate.advance(matured_until_ms);
        }
        Ok(noted)
    }

    /// Feeds the losses of the live version to the detectors that watch them.
    fn watch_losses(&mut self, rows: &Matured, live: VersionId, noted: &mut Noted) {
        let retrains: Vec<bool> = self
            .settings
            .drifts
            .iter()
            .map(|drift| drift.action == Action::Retrain)
            .collect();
        for row in 0..rows.len() {
            if let Some(trigger) = &mut self.trigger {
                trigger.rows += 1;
            }
            let score = rows.scores[row];
            if rows.versions[row] != live || !score.is_finite() {
                continue;
            }
            let loss = driftmill_models::metrics::binary::log_loss(score, rows.labels[row]);
            for (watch, retrain) in self.watches.iter_mut().zip(&retrains) {
                let Some((alarm, since)) = watch.observe_loss(loss) else {
                    continue;
                };
                noted.alarms.push(alarm);
                // The newest change counts: rows from before it are of another world.
                if *retrain {
                    let needed = self
                        .settings
                        .retrain
                        .map_or(u64::MAX, |retrain| retrain.rows_min as u64);
                    self.trigger = Some(Trigger {
                        name: watch.name().to_owned(),
                        rows: since,
                        needed,
                    });
                }
            }
        }
    }

    /// What should happen next, if anything. Pure; asked only live.
    #[must_use]
    pub fn intent(&self, watermark_ms: i64, is_live: bool) -> Option<Intent> {
        if let Some(candidate) = &self.candidate {
            let verdict = candidate.decide(&self.settings.gate);
            let decided = verdict.answer != GateAnswer::Hold;
            let (job, artifact) = (candidate.job.clone(), candidate.artifact.clone());
            return decided.then_some(Intent::Decided { job, artifact, verdict });
        }
        if self.job.is_some() {
            return None;
        }
        if !is_live {
            let enough = self
                .settings
                .bootstrap_rows
                .is_some_and(|rows| self.buffer.rows() >= rows);
            return enough.then(|| Intent::Train {
                cause: "bootstrap".to_owned(),
            });
        }
        let retrain = self.settings.retrain?;
        let waited = self
            .last_job_ms
            .map_or(i64::MAX, |last| watermark_ms.saturating_sub(last));
        if let Some(trigger) = self.trigger.as_ref().filter(|trigger| trigger.rows >= trigger.needed) {
            // The first candidate after an alarm does not wait.
            if waited >= retrain.cooldown_ms || self.attempts == 0 {
                return Some(Intent::Train {
                    cause: format!("drift {}", trigger.name),
                });
            }
        }
        let due = retrain
            .every_ms
            .is_some_and(|every| self.last_job_ms.is_some() && waited >= every);
        due.then(|| Intent::Train {
            cause: "schedule".to_owned(),
        })
    }

    /// Begins a job: fixes its rows and returns its id. Part of an event, so that a replay fixes the same rows.
    ///
    /// # Errors
    /// The serialiser fails.
    pub fn begin_job(
        &mut self,
        cause: &str,
        watermark_ms: i64,
        dictionaries: &Dictionaries,
    ) -> Result<String, TrainError> {
        self.stamp += 1;
        self.buffer.seal_tail(dictionaries);
        let window = match &self.trigger {
            Some(trigger) if cause.starts_with("drift ") => {
                Window::Last(usize::try_from(trigger.rows).unwrap_or(usize::MAX))
            }
            _ => Window::All,
        };
        let job = Job {
            v: crate::trainer::job::JOB_VERSION,
            learner: self.settings.learner.clone(),
            learner_config: self.settings.learner_config.clone(),
            columns: self.columns.clone(),
            encoders: self.settings.encoders.clone(),
            task: self.task,
            seed: self.seed,
            segments: self.buffer.select(window).into_iter().map(Into::into).collect(),
            since_ms: None,
            weighting: Weighting::Uniform,
            cut_ms: watermark_ms,
            code: crate::trainer::job::CODE.to_owned(),
        };
        let id = job.id()?;
        self.last_job_ms = Some(watermark_ms);
        self.job = Some(Started {
            id: id.clone(),
            cause: cause.to_owned(),
            job,
        });
        Ok(id)
    }

    /// A job has ended with an artifact: it is the candidate now. Without a champion there is nothing to compare it
    /// with, and the caller makes it live.
    pub fn finish_job(&mut self, artifact: &str, model: Arc<Model>, watermark_ms: i64, is_live: bool) {
        self.stamp += 1;
        let Some(started) = self.job.take() else { return };
        if is_live {
            self.attempts += 1;
            let (gate, cut_ms) = (&self.settings.gate, started.job.cut_ms);
            let mut candidate = Candidate::new(&started.id, artifact, cut_ms, self.attempts, model, gate);
            // Its age begins now: while it was trained it could not be compared.
            candidate.counted_ms = watermark_ms;
            self.candidate = Some(candidate);
        }
    }

    /// A job has failed: the next needs more rows.
    pub fn fail_job(&mut self) {
        self.stamp += 1;
        self.job = None;
        self.ask_for_more();
    }

    /// The candidate was rejected: the next needs more rows.
    pub fn reject(&mut self) {
        self.stamp += 1;
        self.candidate = None;
        self.ask_for_more();
    }

    fn ask_for_more(&mut self) {
        if let Some(trigger) = &mut self.trigger {
            trigger.needed = trigger.needed.saturating_mul(MORE_ROWS);
        }
    }

    /// Another version is live: what was found out about the one before says nothing about it.
    pub fn new_champion(&mut self) {
        self.stamp += 1;
        self.candidate = None;
        self.trigger = None;
        self.attempts = 0;
        self.generation += 1;
        for (watch, settings) in self.watches.iter_mut().zip(&self.settings.drifts) {
            watch.begin_anew(settings, &self.columns, self.task, self.seed);
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &LearnSettings {
        &self.settings
    }
}
