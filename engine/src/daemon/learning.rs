//! What the engine does for the learn half: it feeds it, turns its intents into events, and carries events out.

use std::sync::atomic::Ordering;

use driftmill_models::artifact::Artifact;
use driftmill_models::evidence::gate::{GateAnswer, GateVerdict};
use serde_json::{Map, Value};

use crate::admin::Command;
use crate::committer::Work;
use crate::daemon::engine::{CODE, Engine};
use crate::daemon::swap::Step;
use crate::daemon::{Happening, RunError};
use crate::epoch_log::{By, Event};
use crate::example::VersionId;
use crate::failpoint::{Point, pass};
use crate::learn::{Ascent, Contestant, Intent, Live, Noted, Prize, Replaced};
use crate::registry::Deployment as Deployed;
use crate::score::Scored;
use crate::trainer::collect_segments;

impl Engine {
    /// Gives an epoch to the learn half.
    pub(super) fn learn(&mut self, scored: &mut Scored, epoch: u64) -> Result<(), RunError> {
        let (Some(learn), Some(examples)) = (&mut self.state.learn, &mut scored.examples) else {
            return Ok(());
        };
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        let live = Live {
            id: self.deployment.id,
            model: self.deployment.model.as_deref(),
        };
        let noted = learn
            .observe(
                examples,
                &scored.labels,
                watermark_ms,
                epoch,
                &self.state.dictionaries,
                live,
            )
            .map_err(|what| RunError::Recovery(format!("internal error while learning: {what}; please report it")))?;
        self.metrics
            .learned(epoch, self.last_time_ms, learn, &noted.quarantined);
        self.tell(&noted);
        Ok(())
    }

    fn tell(&self, noted: &Noted) {
        for alarm in &noted.alarms {
            self.notice(Happening::Drift(alarm.clone()));
        }
        for (rule, detail, rows) in &noted.quarantined {
            self.notice(Happening::Quarantined {
                rule: rule.clone(),
                rows: *rows,
                why: detail.clone(),
            });
        }
    }

    /// Asks the learn half what should happen next, and the trainer whether it is done. Live only.
    pub(super) fn decide(&mut self) -> Result<(), RunError> {
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        if let Some(result) = self.trainers.poll(watermark_ms) {
            self.trained(result)?;
        }
        let is_live = self.state.live.0 != 0;
        if !self.pending.is_empty() || self.wish.is_some() {
            return Ok(());
        }
        let Some(learn) = &self.state.learn else { return Ok(()) };
        let step = Step::begin();
        match learn.intent(watermark_ms, is_live) {
            None => {}
            Some(Intent::Train { cause }) => self.wish = Some(cause),
            Some(Intent::Publish) => self.publish()?,
            Some(Intent::Abandon { job, reason }) => {
                self.trainers.abandon();
                tracing::info!(job, reason, "training is abandoned");
                self.pending.push(Event::JobFailed { job, reason });
            }
            Some(Intent::Decided {
                contestant,
                name,
                verdict,
                prize,
            }) => self.decided(contestant, name, &verdict, prize)?,
        }
        if self.pending.iter().any(Event::changes_model) {
            step.over("prepare", self.state.epoch + 1);
        }
        Ok(())
    }

    /// The gate has decided: the verdict is an event, and so is what it makes live.
    fn decided(
        &mut self,
        contestant: Contestant,
        candidate: String,
        verdict: &GateVerdict,
        prize: Prize,
    ) -> Result<(), RunError> {
        let promoted = match verdict.answer {
            GateAnswer::Promote => match self.crowned(prize, &verdict.reason)? {
                Some(event) => Some(event),
                // What is to go live is not on its way to the registry: asked again at the next epoch.
                None => return Ok(()),
            },
            _ => None,
        };
        let answer = if promoted.is_some() { "promote" } else { "reject" };
        self.notice(Happening::Verdict {
            job: candidate.clone(),
            verdict: answer.to_owned(),
            reason: verdict.reason.clone(),
        });
        self.pending.push(Event::Verdict {
            candidate,
            contestant,
            verdict: answer.to_owned(),
            reason: verdict.reason.clone(),
        });
        self.pending.extend(promoted);
        pass(Point::VerdictDecided, self.state.epoch);
        Ok(())
    }

    /// The event that makes a promoted contestant live.
    fn crowned(&mut self, prize: Prize, reason: &str) -> Result<Option<Event>, RunError> {
        let (version, reason) = (self.state.next_version(), reason.to_owned());
        Ok(match prize {
            Prize::Artifact(artifact) => Some(Event::Promoted {
                version,
                artifact,
                reason,
                snapshot: None,
            }),
            Prize::Snapshot => self.hand_over_snapshot()?.map(|artifact| Event::Promoted {
                version,
                artifact,
                reason,
                snapshot: Some(self.state.epoch),
            }),
            Prize::Version(id) => self.state.version(id).map(|version| Event::RolledBack {
                to: version.name.clone(),
                by: By::Gate,
                reason,
            }),
        })
    }

    /// The next snapshot of the online learner, whose line is live.
    fn publish(&mut self) -> Result<(), RunError> {
        let Some(version) = self.state.version(self.state.live).map(|live| live.name.clone()) else {
            return Ok(());
        };
        if let Some(artifact) = self.hand_over_snapshot()? {
            self.pending.push(Event::Published {
                version,
                artifact,
                snapshot: self.state.epoch,
            });
            pass(Point::PublicationDecided, self.state.epoch);
        }
        Ok(())
    }

    /// Takes a snapshot of the online learner and sends its artifact ahead of the epoch that will name it. Its hash;
    /// none when it was not handed over.
    fn hand_over_snapshot(&mut self) -> Result<Option<String>, RunError> {
        let parent = self.state.version(self.state.live).map(|live| live.artifact.clone());
        let Some(online) = self.state.learn.as_mut().and_then(|learn| learn.online.as_mut()) else {
            return Ok(None);
        };
        let Some(model) = online.publish() else { return Ok(None) };
        let spec = &online.settings().spec;
        let lineage: Map<String, Value> = [
            ("learner", Value::from(spec.learner.clone())),
            ("learner_config", Value::from(spec.config.clone())),
            ("rows", Value::from(online.seen())),
            ("epoch", Value::from(self.state.epoch)),
            ("chain", Value::from(self.state.chain.clone())),
            ("plan", Value::from(self.plan.hash.clone())),
            ("pipeline", Value::from(self.settings.pipeline.name.clone())),
            ("parent", Value::from(parent)),
            ("code", Value::from(CODE)),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        let bytes = Artifact::write(&model, &lineage);
        let (artifact, epoch) = (Artifact::id(&bytes), self.state.epoch);
        let go_on = || !self.stop.load(Ordering::Acquire);
        let work = Work::Artifact {
            bytes,
            epoch,
            is_of_job: false,
        };
        if !self.committer.send(work, &go_on)? {
            return Ok(None);
        }
        self.keep_loaded(&artifact, model);
        Ok(Some(artifact))
    }

    /// Takes an operator's command.
    pub(super) fn obey(&mut self) {
        let Some(request) = self.desk.take() else { return };
        let answer = match request.command {
            Command::RollBack => self.roll_back(),
            Command::Readmit => self.readmit(),
        };
        // Whoever asked may have given up; what was decided holds.
        drop(request.answer.send(answer));
    }

    fn roll_back(&mut self) -> Result<String, String> {
        let (live, previous) = (
            self.state.version(self.state.live),
            self.state.version(self.state.previous),
        );
        let Some(to) = previous.map(|version| version.name.clone()) else {
            return Err("no version was live before this one: there is nothing to go back to".to_owned());
        };
        let from = live.map_or("none", |version| version.name.as_str()).to_owned();
        if self.pending.iter().any(Event::changes_model) {
            return Err("another change of the live version is under way; ask again".to_owned());
        }
        self.pending.push(Event::RolledBack {
            to: to.clone(),
            by: By::Operator,
            reason: format!("an operator went back from {from}"),
        });
        Ok(format!("{from} → {to}"))
    }

    fn readmit(&mut self) -> Result<String, String> {
        let online = self.state.learn.as_ref().and_then(|learn| learn.online.as_ref());
        match online {
            None => Err("the pipeline has no online learner".to_owned()),
            Some(online) if !online.is_barred() => Err("the online learner competes already".to_owned()),
            Some(_) => {
                self.pending.push(Event::Readmitted);
                Ok("the online learner competes again".to_owned())
            }
        }
    }

    fn trained(&mut self, result: crate::trainer::TrainResult) -> Result<(), RunError> {
        let job = result.job_id;
        match result.outcome {
            Ok(trained) => {
                pass(Point::JobTrained, self.state.epoch);
                let artifact = Artifact::id(&trained.bytes);
                let work = Work::Artifact {
                    bytes: trained.bytes,
                    epoch: self.state.epoch,
                    is_of_job: true,
                };
                let go_on = || !self.stop.load(Ordering::Acquire);
                // Durable before the epoch that names it; this thread waits for no disk. At the end the job is lost.
                if !self.committer.send(work, &go_on)? {
                    return Ok(());
                }
                tracing::info!(job, artifact, "trained");
                // Loaded already, by the thread that took it from the trainer: a swap waits for no disk.
                self.keep_loaded(&artifact, trained.artifact.model);
                self.pending.push(Event::JobFinished { job, artifact });
            }
            Err(failure) => {
                pass(Point::JobFailed, self.state.epoch);
                tracing::warn!(job, reason = failure.reason, "training failed");
                self.pending.push(Event::JobFailed {
                    job,
                    reason: failure.reason,
                });
            }
        }
        Ok(())
    }

    /// Begins the job that was wished for, live: its event becomes part of the epoch.
    pub(super) fn begin_wished_job(&mut self, events: &mut Vec<Event>) -> Result<(), RunError> {
        let Some(cause) = self.wish.take() else { return Ok(()) };
        let job = self.begin_job(&cause)?;
        self.notice(Happening::Training {
            job: job.clone(),
            cause: cause.clone(),
        });
        events.push(Event::JobStarted { job, cause });
        self.start_trainer();
        Ok(())
    }

    fn begin_job(&mut self, cause: &str) -> Result<String, RunError> {
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        let Some(learn) = &mut self.state.learn else {
            return Err(RunError::Recovery(
                "a job in a pipeline that learns nothing: the log is of another".to_owned(),
            ));
        };
        learn
            .begin_job(cause, watermark_ms, &self.state.dictionaries)
            .map_err(|error| RunError::Recovery(format!("a training job cannot be made: {error}")))
    }

    /// Starts the trainer for the job of the state; after a restart once more, a job is a pure value.
    pub(super) fn start_trainer(&mut self) {
        let Some(learn) = &self.state.learn else { return };
        let Some(started) = &learn.job else { return };
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        let failed = match collect_segments(&started.job, &learn.buffer) {
            Err(error) => Some(error.to_string()),
            Ok(segments) => self
                .trainers
                .start(started.job.clone(), segments, watermark_ms)
                .err()
                .map(|error| error.to_string()),
        };
        pass(Point::JobStarted, self.state.epoch);
        if let Some(reason) = failed {
            let job = started.id.clone();
            tracing::warn!(job, reason, "training failed");
            self.pending.push(Event::JobFailed { job, reason });
        }
    }

    /// Carries out what an event means for the learn half; the same live and in replay.
    pub(super) fn apply_to_learning(
        &mut self,
        event: &Event,
        replaced: Option<Replaced>,
        epoch: u64,
        time_ms: i64,
    ) -> Result<(), RunError> {
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        match event {
            Event::JobStarted { job, cause } => {
                let begun = self.begin_job(cause)?;
                if begun != *job {
                    return Err(RunError::Recovery(format!(
                        "epoch {epoch} began the training job {job}, its replay makes {begun}: this binary computes \
                         differently; start the version that wrote it"
                    )));
                }
            }
            Event::JobFinished { artifact, .. } => {
                let model = self.model("candidate", artifact)?;
                if let Some(learn) = &mut self.state.learn {
                    learn.finish_job(artifact, model, watermark_ms, &self.state.dictionaries);
                }
            }
            Event::JobFailed { .. } => {
                if let Some(learn) = &mut self.state.learn {
                    learn.fail_job();
                }
            }
            Event::Verdict {
                verdict, contestant, ..
            } if verdict == "reject" => {
                if let Some(learn) = &mut self.state.learn {
                    learn.reject(*contestant, watermark_ms);
                }
            }
            Event::Readmitted => {
                if let Some(learn) = &mut self.state.learn {
                    learn.readmit();
                }
            }
            Event::Published { .. } => {
                if let Some(learn) = &mut self.state.learn {
                    learn.published(watermark_ms);
                }
            }
            Event::Bootstrapped { .. } => {
                self.went_live(Ascent::New, replaced, "the model of `initial`", epoch, time_ms)
            }
            Event::Promoted { reason, snapshot, .. } => {
                let ascent = if snapshot.is_some() {
                    Ascent::Online
                } else {
                    Ascent::New
                };
                self.went_live(ascent, replaced, reason, epoch, time_ms);
            }
            Event::RolledBack { by, reason, .. } => {
                let ascent = match by {
                    By::Gate => Ascent::Return,
                    By::Operator => Ascent::Operator,
                };
                self.went_live(ascent, replaced, reason, epoch, time_ms);
            }
            _ => {}
        }
        Ok(())
    }

    /// The version that serves, as the one that a new champion would replace.
    pub(super) fn replaced(&self) -> Option<Replaced> {
        let version = self.state.version(self.deployment.id)?;
        Some(Replaced {
            version: self.deployment.id,
            name: version.name.clone(),
            artifact: version.artifact.clone(),
            model: self.deployment.model.clone()?,
        })
    }

    fn went_live(&mut self, ascent: Ascent, replaced: Option<Replaced>, reason: &str, epoch: u64, time_ms: i64) {
        let Some(live) = self.state.version(self.state.live).cloned() else {
            return;
        };
        let online = self.state.is_online(&live);
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        self.keep_former_loaded(self.state.live);
        if let Some(learn) = &mut self.state.learn {
            learn.new_champion(ascent, online, replaced, watermark_ms);
        }
        let verdict = match ascent {
            Ascent::New | Ascent::Online | Ascent::Return => "promote",
            Ascent::Operator => "",
        };
        self.unprojected.push(Deployed {
            version: live.label(),
            artifact: live.artifact,
            epoch,
            time_ms,
            reason: reason.to_owned(),
            verdict: verdict.to_owned(),
            lineage: std::collections::BTreeMap::from([("plan".to_owned(), self.plan.hash.clone())]),
        });
    }

    /// A champion that comes back is in memory: no record waits for the disk.
    fn keep_former_loaded(&mut self, version: VersionId) {
        let former = self.state.learn.as_ref().and_then(|learn| learn.former.as_ref());
        let warm = former
            .filter(|former| former.version == version)
            .and_then(|former| Some((former.shadow.artifact.clone(), former.shadow.model()?.clone())));
        if let Some((artifact, model)) = warm {
            self.keep_loaded(&artifact, model);
        }
    }

    /// Hands what went live over for the registry's history, which gets it when its epoch, sent before, is durable. What
    /// finds no place as long as `go_on` says to wait stays for another time: epochs do not wait for it.
    pub(super) fn hand_over_deployments(&mut self, go_on: &dyn Fn() -> bool) -> Result<(), RunError> {
        if !self.handed_over {
            return Ok(());
        }
        while let Some(first) = self.unprojected.first() {
            let step = Step::begin();
            if !self.committer.send(Work::Deployed(first.clone()), go_on)? {
                break;
            }
            step.over("note", first.epoch);
            self.unprojected.remove(0);
        }
        Ok(())
    }

    /// Traces that a publication has become durable.
    pub(super) fn trace_publication(&mut self) {
        let committed = self.committer.committed();
        if let Some(epoch) = self.publication.take_if(|epoch| *epoch <= committed) {
            pass(Point::PublicationCommitted, epoch);
        }
    }

    /// Writes what went live in epochs that a start has replayed into the registry's history: what is in the log is
    /// durable.
    pub(super) fn note_replayed(&mut self) -> Result<(), RunError> {
        for deployment in std::mem::take(&mut self.unprojected) {
            pass(Point::SwapCommitted, deployment.epoch);
            self.registry.append(&deployment)?;
            pass(Point::SwapNoted, deployment.epoch);
        }
        Ok(())
    }

    /// Gives models in shadow that came out of a snapshot their scorers.
    pub(super) fn restore_shadows(&mut self) -> Result<(), RunError> {
        let Some(learn) = &self.state.learn else { return Ok(()) };
        let candidate = learn.candidate.as_ref().map(|it| it.shadow.artifact.clone());
        let former = learn
            .former
            .as_ref()
            .map(|it| (it.name.clone(), it.shadow.artifact.clone()));
        if let Some(artifact) = candidate {
            let model = self.model("candidate", &artifact)?;
            if let Some(it) = self.state.learn.as_mut().and_then(|learn| learn.candidate.as_mut()) {
                it.shadow.set_model(model);
            }
        }
        if let Some((name, artifact)) = former {
            let model = self.model(&name, &artifact)?;
            if let Some(it) = self.state.learn.as_mut().and_then(|learn| learn.former.as_mut()) {
                it.shadow.set_model(model);
            }
        }
        Ok(())
    }
}
