//! What the engine does for the learn half: it feeds it, turns its intents into events, and carries events out.

use driftmill_models::evidence::gate::GateAnswer;

use crate::admin::Command;
use crate::daemon::engine::Engine;
use crate::daemon::{Happening, RunError};
use crate::epoch_log::Event;
use crate::learn::{Intent, Noted};
use crate::registry::Deployment as Deployed;
use crate::score::Scored;
use crate::trainer::collect_segments;

impl Engine {
    /// Gives an epoch to the learn half.
    pub(super) fn learn(&mut self, scored: &Scored, epoch: u64) -> Result<(), RunError> {
        let (Some(learn), Some(examples)) = (&mut self.state.learn, &scored.examples) else {
            return Ok(());
        };
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        let live = (self.deployment.id, self.deployment.model.as_deref());
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
        self.metrics.learning(learn, &self.state.versions, watermark_ms);
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
            self.metrics.quarantined.with_label_values(&[rule]).inc_by(*rows);
        }
    }

    /// Asks the learn half what should happen next, and the trainer whether it is done. Live only.
    pub(super) fn decide(&mut self) -> Result<(), RunError> {
        if let Some(result) = self.trainers.poll() {
            self.trained(result)?;
        }
        let is_live = self.state.live.0 != 0;
        let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
        if !self.pending.is_empty() || self.wish.is_some() {
            return Ok(());
        }
        let Some(learn) = &self.state.learn else { return Ok(()) };
        match learn.intent(watermark_ms, is_live) {
            None => {}
            Some(Intent::Train { cause }) => self.wish = Some(cause),
            Some(Intent::Decided { job, artifact, verdict }) => {
                let answer = match verdict.answer {
                    GateAnswer::Promote => "promote",
                    GateAnswer::Reject => "reject",
                    GateAnswer::Hold => "hold",
                };
                self.metrics.verdicts.with_label_values(&[answer]).inc();
                let reason = verdict.reason.clone();
                let (told, verdict_told) = (job.clone(), answer.to_owned());
                self.notice(Happening::Verdict {
                    job: told,
                    verdict: verdict_told,
                    reason: reason.clone(),
                });
                self.pending.push(Event::Verdict {
                    candidate: job,
                    verdict: answer.to_owned(),
                    reason: reason.clone(),
                });
                if verdict.answer == GateAnswer::Promote {
                    self.pending.push(Event::Promoted {
                        version: self.state.next_version(),
                        artifact,
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    /// Takes an operator's command.
    pub(super) fn obey(&mut self) {
        let Some(request) = self.desk.take() else { return };
        let answer = match request.command {
            Command::RollBack => self.roll_back(),
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
        let changes = |event: &Event| matches!(event, Event::Promoted { .. } | Event::RolledBack { .. });
        if self.pending.iter().any(changes) {
            return Err("another change of the live version is under way; ask again".to_owned());
        }
        self.pending.push(Event::RolledBack {
            to: to.clone(),
            reason: format!("an operator went back from {from}"),
        });
        Ok(format!("{from} → {to}"))
    }

    fn trained(&mut self, result: crate::trainer::TrainResult) -> Result<(), RunError> {
        let job = result.job_id;
        match result.outcome {
            Ok(trained) => {
                // Durable before the epoch that names it.
                let artifact = self.registry.put(&trained.bytes)?;
                tracing::info!(job, artifact, "trained");
                // Loaded already, by the thread that took it from the trainer: a swap waits for no disk.
                self.keep_loaded(&artifact, trained.artifact.model);
                self.metrics.jobs.with_label_values(&["trained"]).inc();
                self.pending.push(Event::JobFinished {
                    job,
                    artifact: artifact.clone(),
                });
                if self.state.live.0 == 0 {
                    self.pending.push(Event::Bootstrapped {
                        version: self.state.next_version(),
                        artifact,
                    });
                }
            }
            Err(failure) => {
                tracing::warn!(job, reason = failure.reason, "training failed");
                self.metrics.jobs.with_label_values(&["failed"]).inc();
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
        let failed = match collect_segments(&started.job, &learn.buffer) {
            Err(error) => Some(error.to_string()),
            Ok(segments) => self
                .trainers
                .start(started.job.clone(), segments)
                .err()
                .map(|error| error.to_string()),
        };
        if let Some(reason) = failed {
            let job = started.id.clone();
            tracing::warn!(job, reason, "training failed");
            self.pending.push(Event::JobFailed { job, reason });
        }
    }

    /// Carries out what an event means for the learn half; the same live and in replay.
    pub(super) fn apply_to_learning(&mut self, event: &Event, epoch: u64, time_ms: i64) -> Result<(), RunError> {
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
                let is_live = self.state.live.0 != 0;
                let model = self.model("candidate", artifact)?;
                let watermark_ms = self.state.watermark_ms.unwrap_or(i64::MIN);
                if let Some(learn) = &mut self.state.learn {
                    learn.finish_job(artifact, model, watermark_ms, is_live);
                }
            }
            Event::JobFailed { .. } => {
                if let Some(learn) = &mut self.state.learn {
                    learn.fail_job();
                }
            }
            Event::Verdict { verdict, .. } if verdict == "reject" => {
                if let Some(learn) = &mut self.state.learn {
                    learn.reject();
                }
            }
            Event::Bootstrapped { version, artifact } => {
                self.went_live(version, artifact, "first model", epoch, time_ms)
            }
            Event::Promoted {
                version,
                artifact,
                reason,
            } => self.went_live(version, artifact, reason, epoch, time_ms),
            Event::RolledBack { to, reason } => {
                let artifact = self
                    .state
                    .version(self.state.live)
                    .map(|version| version.artifact.clone());
                self.went_live(to, &artifact.unwrap_or_default(), reason, epoch, time_ms);
            }
            _ => {}
        }
        Ok(())
    }

    fn went_live(&mut self, version: &str, artifact: &str, reason: &str, epoch: u64, time_ms: i64) {
        if let Some(learn) = &mut self.state.learn {
            learn.new_champion();
        }
        self.unprojected.push(Deployed {
            version: version.to_owned(),
            artifact: artifact.to_owned(),
            epoch,
            time_ms,
            reason: reason.to_owned(),
            verdict: "promote".to_owned(),
            lineage: std::collections::BTreeMap::from([("plan".to_owned(), self.plan.hash.clone())]),
        });
    }

    /// Writes what went live into the registry's history, once the epoch that says so is durable.
    pub(super) fn project(&mut self) -> Result<(), RunError> {
        let committed = self.committer.committed();
        while let Some(first) = self.unprojected.first().filter(|first| first.epoch <= committed) {
            self.registry.append(first)?;
            self.unprojected.remove(0);
        }
        Ok(())
    }

    /// Gives a candidate that came out of a snapshot its model.
    pub(super) fn restore_candidate(&mut self) -> Result<(), RunError> {
        let candidate = self.state.learn.as_ref().and_then(|learn| learn.candidate.as_ref());
        let Some(artifact) = candidate.map(|candidate| candidate.artifact.clone()) else {
            return Ok(());
        };
        let model = self.model("candidate", &artifact)?;
        if let Some(candidate) = self.state.learn.as_mut().and_then(|learn| learn.candidate.as_mut()) {
            candidate.set_model(model);
        }
        Ok(())
    }
}
