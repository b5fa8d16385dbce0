//! The learn half: labels are joined to the rows they belong to, judged, kept, and watched for drift; an online learner
//! learns from them; contestants are compared with the champion. It produces no output and decides nothing by itself:
//! what it would do is an [`Intent`], which becomes an event of the next epoch, so that a replay does what was done.

mod bootstrap;
mod contest;
mod decide;
mod incoming;
mod online;
mod rivals;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use driftmill_models::contracts::Task;
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::ColumnSpec;
use driftmill_models::model::{Model, Scratch};

use crate::buffer::{BufferConfig, FeatureBuffer, Window, read_segment};
use crate::example::{Examples, Label, Matured, VersionId};
use crate::labels::{JoinConfig, LabelJoin};
use crate::quality::{Quality, QualityConfig};
use crate::quarantine::{Quarantine, QuarantineConfig};
use crate::settings::{Action, LearnSettings, LearnerSpec};
use crate::trainer::{Job, SegmentRef, TrainError, Weighting};

pub use bootstrap::{Gathered, History};
pub use contest::{Contest, Contestant, Standing};
pub use decide::{Intent, Prize};
pub(crate) use incoming::binary;
pub use incoming::{LabelReader, labels_in_record};
pub use online::Online;
pub use rivals::{Candidate, Former, Shadow};
pub use watch::{Watch, WatchKind};

use contest::{Begin, Rival};

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

/// A change that asks for a new model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trigger {
    /// The detector that raised it.
    name: String,
    /// Labelled rows since the change.
    rows: u64,
    /// Rows that the next candidate needs.
    needed: u64,
    /// Rows that had come when the world changed.
    changed_at: u64,
    /// Whether no candidate was made of it yet.
    is_fresh: bool,
}

impl Trigger {
    /// Whether rows whose middle one has this number are mostly from before the change, and no job knows of it yet.
    fn outdates(&self, middle_row: u64) -> bool {
        self.is_fresh && middle_row <= self.changed_at
    }
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
    /// Rows that had come when its rows were fixed.
    cut_rows: u64,
    /// Number of the middle one of its rows: most of them are from before a change that came after it.
    middle_row: u64,
    /// Share of positives among all rows by then.
    prior: f64,
}

/// Labels seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Prior {
    weight: f64,
    positives: f64,
}

impl Prior {
    fn add(&mut self, rows: &Matured) {
        for (label, weight) in rows.labels.iter().zip(&rows.weights) {
            self.weight += weight;
            self.positives += weight * label;
        }
    }

    /// Share of positives; one half before the first label.
    fn share(self) -> f64 {
        let share = self.positives / self.weight;
        if share.is_finite() { share } else { 0.5 }
    }
}

/// The version that serves an epoch.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    /// The version.
    pub id: VersionId,
    /// Its model; none before the first version.
    pub model: Option<&'a Model>,
}

impl<'a> Live<'a> {
    /// What it said, or would have said, for labelled rows; nothing before the first version.
    ///
    /// A row that it served keeps the score of that time: an online line has learned from the row's neighbours since.
    fn scores(self, rows: &Matured, dictionaries: &Dictionaries, scratch: &mut Scratch) -> Vec<f64> {
        let Some(model) = self.model else { return Vec::new() };
        let is_served = |row: usize| rows.versions[row] == self.id && rows.scores[row].is_finite();
        if (0..rows.len()).all(is_served) {
            return rows.scores.clone();
        }
        let mut scores = Vec::with_capacity(rows.len());
        model.score(&rows.frame, dictionaries, scratch, &mut scores);
        for row in (0..rows.len()).filter(|&row| is_served(row)) {
            scores[row] = rows.scores[row];
        }
        scores
    }

    fn rival<'s>(self, scores: &'s [f64]) -> Rival<'s> {
        match self.model {
            Some(_) => Rival::Live(scores),
            None => Rival::ClassPrior,
        }
    }
}

/// A change of the loss of the live version.
struct Alarm {
    /// The detector.
    name: String,
    /// Rows that had come when the world changed.
    changed_at: u64,
}

/// How a version went live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ascent {
    /// It is a model that never was live: of a job, or brought along.
    New,
    /// The online learner was promoted.
    Online,
    /// The champion before came back, found better by the gate.
    Return,
    /// An operator went back to it.
    Operator,
}

/// The version that a new champion replaces.
pub struct Replaced {
    /// The version.
    pub version: VersionId,
    /// Its name.
    pub name: String,
    /// Hash of its artifact.
    pub artifact: String,
    /// The model.
    pub model: Arc<Model>,
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
    /// The model of a job, under evidence.
    pub candidate: Option<Candidate>,
    /// The online learner.
    pub online: Option<Online>,
    /// The champion before, in shadow.
    pub former: Option<Former>,
    /// Candidates of jobs since the champion went live.
    attempts: u32,
    last_job_ms: Option<i64>,
    /// Labelled rows that passed the quarantine.
    passed: u64,
    /// As many must have passed before the first model is fitted.
    bootstrap_at: u64,
    /// Their labels.
    prior: Prior,
    /// Rows that had come when the champion went live, and event time then, ms.
    champion_rows: u64,
    champion_ms: Option<i64>,
    /// How often champions came back by the gate since a new model was promoted.
    returns: u32,
    /// Contests begun so far.
    contests: u64,
    /// Counts resets of the detectors.
    generation: u64,
    stamp: u64,
    scratch: Scratch,
}

impl LearnHalf {
    /// The half before the first epoch.
    #[must_use]
    pub fn new(
        settings: &LearnSettings,
        columns: &[ColumnSpec],
        encoder: &ColumnsEncoder,
        task: Task,
        seed: u64,
    ) -> Self {
        let join = JoinConfig {
            horizon_ms: settings.labels.horizon_ms,
            bytes_max: settings.labels.bytes_max,
            early_bytes_max: SIDE_BYTES_MAX,
            late_bytes_max: SIDE_BYTES_MAX,
            missing: settings.labels.missing,
        };
        let quality = QualityConfig {
            threshold: 0.5,
            cohort_ms: settings.gate.block_ms,
            cohorts_max: COHORTS_MAX,
            versions_max: VERSIONS_MAX,
        };
        let online = settings.lines.online.as_ref().and_then(|online| {
            let learner = online.build(encoder, task, seed)?;
            Some(Online::new(online, learner))
        });
        Self {
            join: LabelJoin::new(join),
            quarantine: quarantine(settings, columns),
            buffer: buffer(settings, columns),
            quality: Quality::new(quality),
            watches: watch::all(settings, columns, task, seed),
            bootstrap_at: settings.bootstrap_rows.unwrap_or_default() as u64,
            settings: settings.clone(),
            columns: columns.to_vec(),
            task,
            seed,
            trigger: None,
            job: None,
            candidate: None,
            online,
            former: None,
            attempts: 0,
            last_job_ms: None,
            passed: 0,
            prior: Prior::default(),
            champion_rows: 0,
            champion_ms: None,
            returns: 0,
            contests: 0,
            generation: 0,
            stamp: 0,
            scratch: Scratch::default(),
        }
    }

    /// Takes an epoch: its rows as served and the labels that arrived in it. `live` is the version that serves.
    ///
    /// # Errors
    /// Rows that do not fit the columns, or a segment of the buffer that does not read: a bug.
    pub fn observe(
        &mut self,
        examples: &mut Examples,
        labels: &EpochLabels,
        watermark_ms: i64,
        epoch: u64,
        dictionaries: &Dictionaries,
        live: Live<'_>,
    ) -> Result<Noted, String> {
        self.stamp += 1;
        let mut noted = Noted::default();
        for watch in &mut self.watches {
            noted.alarms.extend(watch.observe_features(&examples.frame));
        }
        if let Some(online) = &self.online {
            examples.shadow = online.serve(&examples.frame, dictionaries, &mut self.scratch);
        }
        let examples = &*examples;
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
        self.prior.add(&passed);
        let before = self.buffer.counts().appended;
        let alarm = self.watch_losses(&passed, live.id, before, &mut noted);
        self.buffer
            .append(&passed, dictionaries, epoch)
            .map_err(|error| error.to_string())?;
        let matured_until_ms = watermark_ms.saturating_sub(self.settings.labels.horizon_ms);
        self.quality.mature(matured_until_ms);
        self.compare(&passed, dictionaries, live)?;
        if let Some(alarm) = alarm {
            self.alarmed(&alarm);
        }
        self.advance(watermark_ms, live.model.is_some());
        Ok(noted)
    }

    /// Feeds the losses of the live version to the detectors that watch them; the newest alarm. `before` rows had come
    /// before these.
    fn watch_losses(&mut self, rows: &Matured, live: VersionId, before: u64, noted: &mut Noted) -> Option<Alarm> {
        let retrains: Vec<bool> = self
            .settings
            .drifts
            .iter()
            .map(|drift| drift.action == Action::Retrain)
            .collect();
        let needed = self
            .settings
            .retrain
            .map_or(u64::MAX, |retrain| retrain.rows_min as u64);
        let mut newest = None;
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
                let changed_at = (before + row as u64 + 1).saturating_sub(since);
                let name = watch.name().to_owned();
                // The newest change counts: rows from before it are of another world.
                if *retrain {
                    self.trigger = Some(Trigger {
                        name: name.clone(),
                        rows: since,
                        needed,
                        changed_at,
                        is_fresh: true,
                    });
                }
                newest = Some(Alarm { name, changed_at });
            }
        }
        newest
    }

    /// The loss of the live version has changed: what was found out before says little about the world as it is now.
    fn alarmed(&mut self, alarm: &Alarm) {
        if let Some(candidate) = &mut self.candidate
            && candidate.middle_row <= alarm.changed_at
        {
            candidate.superseded = Some(alarm.name.clone());
        }
        if let Some(online) = &mut self.online {
            online.alarm();
        }
        if let Some(former) = &mut self.former {
            former.standing.alarm();
        }
    }

    /// Whether anyone is compared with the live version.
    fn is_contested(&self) -> bool {
        self.contests().next().is_some() || self.online.as_ref().is_some_and(Online::is_live)
    }

    /// Lets the online learner learn, and compares every contestant with the live version.
    fn compare(&mut self, rows: &Matured, dictionaries: &Dictionaries, live: Live<'_>) -> Result<(), String> {
        let scores = match self.is_contested() {
            true => live.scores(rows, dictionaries, &mut self.scratch),
            // Nobody asks for them; an online learner learns all the same.
            false => vec![f64::NAN; rows.len()],
        };
        let rival = live.rival(&scores);
        if let Some(online) = &mut self.online {
            online.learn(rows, dictionaries, &rival);
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.compare(rows, dictionaries, &rival, &mut self.scratch);
        }
        if let Some(former) = &mut self.former {
            former.compare(rows, dictionaries, &rival, &mut self.scratch);
        }
        self.catch_up(live)
    }

    /// Whether a candidate is still compared on rows that came while it was trained: each epoch takes a part of them,
    /// also where no record comes.
    #[must_use]
    pub fn catches_up(&self) -> bool {
        self.candidate
            .as_ref()
            .is_some_and(|candidate| !candidate.backlog.is_empty())
    }

    /// Compares the candidate on one segment of the rows that came while it was trained.
    fn catch_up(&mut self, live: Live<'_>) -> Result<(), String> {
        let Some(candidate) = self.candidate.as_mut().filter(|it| !it.backlog.is_empty()) else {
            return Ok(());
        };
        let Some((first, bytes)) = self.buffer.segment_at(candidate.backlog.start) else {
            candidate.backlog.start = candidate.backlog.end;
            return Ok(());
        };
        let read = read_segment(&bytes).map_err(|error| format!("a segment of the buffer: {error}"))?;
        let end = first + read.rows.len() as u64;
        let place = |number: u64| (number.clamp(first, end) - first) as usize;
        let (from, to) = (place(candidate.backlog.start), place(candidate.backlog.end));
        if from < to {
            let rows = read.rows.slice(from..to);
            let scores = live.scores(&rows, &read.dictionaries, &mut self.scratch);
            candidate.compare(&rows, &read.dictionaries, &live.rival(&scores), &mut self.scratch);
        }
        candidate.backlog.start = end.min(candidate.backlog.end);
        Ok(())
    }

    /// Closes blocks and begins contests.
    fn advance(&mut self, watermark_ms: i64, is_live: bool) {
        // A model that is live from the first epoch on was there before any event time was known: its time begins now.
        if self.champion_ms == Some(i64::MIN) {
            self.champion_ms = Some(watermark_ms);
        }
        let matured_until_ms = watermark_ms.saturating_sub(self.settings.labels.horizon_ms);
        let competes = self.challenger_competes(is_live);
        let gate = self.settings.gate;
        if let Some(candidate) = self.candidate.as_mut().filter(|it| it.backlog.is_empty()) {
            candidate.contest.advance(matured_until_ms);
        }
        if let Some(former) = &mut self.former {
            former.standing.advance(matured_until_ms);
            let begin = Begin::new(self.contests, self.prior, watermark_ms);
            self.contests += u64::from(former.standing.begin(&former.name, begin, &gate));
        }
        if let Some(online) = &mut self.online {
            let begin = Begin::new(self.contests, self.prior, watermark_ms);
            self.contests += u64::from(online.advance(matured_until_ms, begin, competes, &gate));
        }
    }

    /// Begins a job: fixes its rows and returns its id. Part of an event, so that a replay fixes the same rows.
    ///
    /// # Errors
    /// No learner that jobs could fit, or the serialiser fails.
    pub fn begin_job(
        &mut self,
        cause: &str,
        watermark_ms: i64,
        dictionaries: &Dictionaries,
    ) -> Result<String, TrainError> {
        self.stamp += 1;
        let Some(batch) = &self.settings.lines.batch else {
            return Err(TrainError::Job("no batch learner is configured".to_owned()));
        };
        self.buffer.seal_tail(dictionaries);
        let window = match &self.trigger {
            Some(trigger) if cause.starts_with("drift ") => {
                Window::Last(usize::try_from(trigger.rows).unwrap_or(usize::MAX))
            }
            _ => Window::All,
        };
        let segments = self.buffer.select(window).into_iter().map(Into::into).collect();
        let job = self.job_on(batch, segments, watermark_ms);
        if let Some(trigger) = self.trigger.as_mut().filter(|_| cause.starts_with("drift ")) {
            trigger.is_fresh = false;
        }
        let id = job.id()?;
        let cut_rows = self.buffer.counts().appended;
        let rows: u64 = job.segments.iter().map(|it| it.to_row - it.from_row).sum();
        self.last_job_ms = Some(watermark_ms);
        self.job = Some(Started {
            id: id.clone(),
            cause: cause.to_owned(),
            job,
            cut_rows,
            middle_row: cut_rows.saturating_sub(rows / 2),
            prior: self.prior.share(),
        });
        Ok(id)
    }

    /// The job of the batch learner on these rows.
    fn job_on(&self, batch: &LearnerSpec, segments: Vec<SegmentRef>, cut_ms: i64) -> Job {
        Job {
            v: crate::trainer::job::JOB_VERSION,
            learner: batch.learner.clone(),
            learner_config: batch.config.clone(),
            columns: self.columns.clone(),
            encoders: self.settings.encoders.clone(),
            task: self.task,
            seed: self.seed,
            segments,
            since_ms: None,
            weighting: Weighting::Uniform,
            cut_ms,
            code: crate::trainer::job::CODE.to_owned(),
        }
    }

    /// A job has ended with an artifact: its model is the candidate now, and rows that came since its own were fixed
    /// are evidence already.
    pub fn finish_job(&mut self, artifact: &str, model: Arc<Model>, watermark_ms: i64, dictionaries: &Dictionaries) {
        self.stamp += 1;
        let Some(started) = self.job.take() else { return };
        self.attempts += 1;
        self.buffer.seal_tail(dictionaries);
        let end = self.buffer.counts().appended;
        // The snapshots of a live online learner have learned from rows that came since: no fair comparison on them.
        let is_online = self.online.as_ref().is_some_and(Online::is_live);
        let start = if is_online {
            end
        } else {
            started.cut_rows.max(self.champion_rows)
        };
        let begin = Begin {
            attempt: self.attempts,
            prior: started.prior,
            cut_ms: started.job.cut_ms,
            // Its age begins now: while it was trained it could not be decided.
            ..Begin::new(self.contests, self.prior, watermark_ms)
        };
        self.contests += 1;
        let changed = self
            .trigger
            .as_ref()
            .filter(|trigger| trigger.outdates(started.middle_row));
        let name = started.id.get(..6).unwrap_or(&started.id).to_owned();
        let contest = Contest::new(&name, begin, &self.settings.gate);
        self.candidate = Some(Candidate {
            job: started.id,
            shadow: Shadow::new(artifact, Some(model)),
            contest,
            backlog: start..end,
            middle_row: started.middle_row,
            superseded: changed.map(|trigger| trigger.name.clone()),
        });
    }

    /// A job has failed, or was abandoned. A failure asks for more rows.
    pub fn fail_job(&mut self) {
        self.stamp += 1;
        let started = self.job.take();
        let outdated = started
            .zip(self.trigger.as_ref())
            .is_some_and(|(started, trigger)| trigger.outdates(started.middle_row));
        if !outdated {
            self.ask_for_more();
        }
    }

    /// The gate has rejected a contestant.
    pub fn reject(&mut self, contestant: Contestant, watermark_ms: i64) {
        self.stamp += 1;
        let gate = self.settings.gate;
        match contestant {
            Contestant::Candidate => {
                // The change that came after its rows asks for no more of them than any other.
                if self.candidate.take().is_none_or(|it| it.superseded.is_none()) {
                    self.ask_for_more();
                }
            }
            Contestant::Challenger => {
                if let Some(online) = &mut self.online {
                    online.reject(watermark_ms, &gate);
                }
            }
            Contestant::Former => {
                if let Some(former) = &mut self.former {
                    former.standing.reject(watermark_ms, &gate);
                }
            }
        }
    }

    fn ask_for_more(&mut self) {
        if let Some(trigger) = &mut self.trigger {
            trigger.needed = trigger.needed.saturating_mul(MORE_ROWS);
        }
        // Before the first version: as many rows again.
        let again = self.settings.bootstrap_rows.unwrap_or_default().max(1) as u64;
        self.bootstrap_at = self.passed.saturating_add(again);
    }

    /// Another version is live: what was found out about the one before says nothing about it. The version that it
    /// replaces goes on in shadow, unless an operator went back from it, or it is the online learner's, which is in
    /// shadow anyway. `online` when the new champion is of the present online learner's line.
    pub fn new_champion(&mut self, ascent: Ascent, online: bool, replaced: Option<Replaced>, watermark_ms: i64) {
        self.stamp += 1;
        self.candidate = None;
        self.trigger = None;
        self.attempts = 0;
        self.generation += 1;
        self.champion_rows = self.buffer.counts().appended;
        self.champion_ms = Some(watermark_ms);
        for (watch, settings) in self.watches.iter_mut().zip(&self.settings.drifts) {
            watch.begin_anew(settings, &self.columns, self.task, self.seed);
        }
        let was_online = self.online.as_ref().is_some_and(Online::is_live);
        // Champions that take turns are doubted more each time, and share one error of the gate.
        self.returns = match ascent {
            Ascent::New => 0,
            Ascent::Online | Ascent::Operator => self.returns,
            Ascent::Return => self.returns + 1,
        };
        if let Some(learner) = &mut self.online {
            learner.new_champion(online, ascent == Ascent::New, watermark_ms);
            if ascent == Ascent::Operator && was_online && !online {
                learner.bar(true);
            }
        }
        let frozen = replaced.filter(|_| ascent != Ascent::Operator && !was_online);
        self.former = frozen.map(|replaced| Former {
            version: replaced.version,
            name: replaced.name,
            shadow: Shadow::new(&replaced.artifact, Some(replaced.model)),
            standing: Standing::after(self.returns),
        });
    }

    /// An operator lets the online learner compete again.
    pub fn readmit(&mut self) {
        self.stamp += 1;
        if let Some(online) = &mut self.online {
            online.bar(false);
        }
    }

    /// A snapshot of the online learner is live.
    pub fn published(&mut self, watermark_ms: i64) {
        self.stamp += 1;
        if let Some(online) = &mut self.online {
            online.published(watermark_ms);
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &LearnSettings {
        &self.settings
    }
}

/// Rules that have seen no row yet.
fn quarantine(settings: &LearnSettings, columns: &[ColumnSpec]) -> Quarantine {
    Quarantine::new(QuarantineConfig {
        columns: columns.to_vec(),
        rules: settings.rules.clone(),
        bytes_max: QUARANTINE_BYTES_MAX,
        groups_max: GROUPS_MAX,
    })
}

/// A buffer without rows.
fn buffer(settings: &LearnSettings, columns: &[ColumnSpec]) -> FeatureBuffer {
    FeatureBuffer::new(BufferConfig {
        columns: columns.to_vec(),
        rows_max: settings.buffer_rows_max,
        bytes_max: settings.buffer_bytes_max,
        segment_rows: SEGMENT_ROWS,
    })
}
