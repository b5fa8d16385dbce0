//! The first model from files of history, before the first epoch: read, fitted on the first rows, judged on the last,
//! fitted again on all, kept in the registry, and made live by an event of the first epoch.
//!
//! The artifact is durable before that epoch, whose record alone says that it is live and why: a replay needs no file. A
//! process that ends before the epoch is committed has recorded nothing, and the next start does all of it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driftmill_models::artifact::Artifact;
use driftmill_models::evidence::gate::{GateAnswer, GateVerdict};
use serde_json::json;

use crate::bootstrap::{self, FileRead, LineCounts, Read};
use crate::daemon::engine::Engine;
use crate::daemon::{Happening, RunError, Surroundings};
use crate::epoch_log::Event;
use crate::failpoint::{Point, pass};
use crate::learn::{Contestant, History, LearnHalf};
use crate::settings::{BootstrapFiles, Plan, Role};
use crate::trainer::{Fault, Job, TrainFailure, Trained};

/// What became of the history.
enum Outcome {
    /// A model was fitted and shown better than the class prior.
    Shown {
        job: String,
        verdict: GateVerdict,
        trained: Box<Trained>,
    },
    /// It was not, or nothing can be learned from the rows.
    NotShown { job: String, reason: String },
    /// The process is to end.
    Stopped,
}

/// Fits the first model on the files of `bootstrap`, in a pipeline that has no state.
pub(super) fn begin(engine: &mut Engine, plan: &Plan, around: &Surroundings) -> Result<(), RunError> {
    let Some(files) = plan.model.as_ref().and_then(|model| model.bootstrap.as_ref()) else {
        return Ok(());
    };
    if engine.state.epoch > 0 {
        let files = &files.shown;
        if engine.state.live.0 == 0 && !falls_back(engine) {
            tracing::warn!(
                files,
                "no model is live, and the files of `bootstrap` are for the first start only: they are not read; set \
                 `bootstrap_rows`, or begin with a new state folder"
            );
        } else {
            tracing::info!(
                files,
                "the files of `bootstrap` are for the first start only: they are not read"
            );
        }
        return Ok(());
    }
    // The state holds the half; the settings let no pipeline without one come here.
    let Some(learn) = engine.state.learn.take() else {
        return Ok(());
    };
    let found = fit(engine, &learn, files, plan, around);
    engine.state.learn = Some(learn);
    let Some((read, outcome)) = found? else { return Ok(()) };
    match outcome {
        Outcome::Stopped => {}
        Outcome::Shown { job, verdict, trained } => shown(engine, files, &read, (job, &verdict), *trained)?,
        Outcome::NotShown { job, reason } => not_shown(engine, files, &read, job, &reason),
    }
    Ok(())
}

/// Reads the files and fits; nothing when the process is to end meanwhile.
fn fit(
    engine: &mut Engine,
    learn: &LearnHalf,
    files: &BootstrapFiles,
    plan: &Plan,
    around: &Surroundings,
) -> Result<Option<(Read, Outcome)>, RunError> {
    around
        .status
        .set(false, format!("reading history for the first model: {}", files.shown));
    let go_on = || !around.stop.load(Ordering::Acquire);
    let wrong = |what: String| RunError::Bootstrap {
        files: files.shown.clone(),
        what,
    };
    let read = bootstrap::read(&*around.disk, files, plan, learn.gather(), &go_on);
    let Some(read) = read.map_err(|error| wrong(error.to_string()))? else {
        return Ok(None);
    };
    tell_read(files, &read);
    around
        .status
        .set(false, format!("fitting the first model on {}", files.shown));
    let mut fitting = Fitting {
        engine,
        history: &read.history,
        stop: &around.stop,
    };
    let by_time = plan.columns.position(Role::Time).is_some();
    let outcome = fitting.outcome(learn, by_time).map_err(wrong)?;
    Ok(Some((read, outcome)))
}

/// Two jobs, one after the other.
struct Fitting<'a> {
    engine: &'a mut Engine,
    history: &'a History,
    stop: &'a AtomicBool,
}

impl Fitting<'_> {
    fn outcome(&mut self, learn: &LearnHalf, by_time: bool) -> Result<Outcome, String> {
        let trial = learn
            .bootstrap_job(self.history, true)
            .map_err(|error| error.to_string())?;
        let job = trial.id().map_err(|error| error.to_string())?;
        let judged = match self.carry_out(trial)? {
            None => return Ok(Outcome::Stopped),
            Some(Err(reason)) => return Ok(Outcome::NotShown { job, reason }),
            Some(Ok(judged)) => judged,
        };
        let verdict = learn.judge(&judged.artifact.model, self.history, by_time)?;
        if verdict.answer != GateAnswer::Promote {
            let reason = verdict.reason;
            return Ok(Outcome::NotShown { job, reason });
        }
        // Fitted again on all rows: the judged ones are the nearest to the present, which a first model needs most. What
        // was shown is that this learner finds something in such rows; from the first record on the model is watched.
        let whole = learn
            .bootstrap_job(self.history, false)
            .map_err(|error| error.to_string())?;
        let job = whole.id().map_err(|error| error.to_string())?;
        Ok(match self.carry_out(whole)? {
            None => Outcome::Stopped,
            Some(Err(reason)) => Outcome::NotShown { job, reason },
            Some(Ok(trained)) => Outcome::Shown {
                job,
                verdict,
                trained: Box::new(trained),
            },
        })
    }

    /// The model of a job, or why nothing can be learned from its rows; `None` when the process is to end.
    ///
    /// # Errors
    /// The job cannot be carried out now, or by this binary.
    fn carry_out(&mut self, job: Job) -> Result<Option<Result<Trained, String>>, String> {
        let segments = self.history.segments().clone();
        let result = self
            .engine
            .trainers
            .carry_out(job, segments, self.stop)
            .map_err(|error| error.to_string())?;
        match result.map(|result| result.outcome) {
            None => Ok(None),
            Some(Ok(trained)) => Ok(Some(Ok(trained))),
            Some(Err(TrainFailure {
                fault: Fault::Data,
                reason,
            })) => Ok(Some(Err(reason))),
            Some(Err(failure)) => Err(failure.reason),
        }
    }
}

fn shown(
    engine: &mut Engine,
    files: &BootstrapFiles,
    read: &Read,
    (job, verdict): (String, &GateVerdict),
    trained: Trained,
) -> Result<(), RunError> {
    let rows = read.history.rows();
    let mut lineage = trained.artifact.lineage;
    lineage.insert("bootstrap".to_owned(), origin(files, &read.files, verdict));
    let bytes = Artifact::write(&trained.artifact.model, &lineage);
    // Durable before the epoch that names it.
    let artifact = engine.registry.put(&bytes)?;
    pass(Point::ArtifactPut, engine.state.epoch);
    engine.keep_loaded(&artifact, Arc::clone(&trained.artifact.model));
    let version = engine.state.next_version();
    let reason = format!("bootstrap from {}, {rows} rows: {}", files.shown, verdict.reason);
    tracing::info!(version, artifact, reason, "the first model is fitted on history");
    engine.observer.notice(&Happening::Verdict {
        job: job.clone(),
        verdict: "promote".to_owned(),
        reason: reason.clone(),
    });
    engine.pending.push(Event::Verdict {
        candidate: job,
        contestant: Contestant::Candidate,
        verdict: "promote".to_owned(),
        reason: reason.clone(),
    });
    engine.pending.push(Event::Promoted {
        version,
        artifact,
        reason,
        snapshot: None,
    });
    Ok(())
}

fn not_shown(engine: &mut Engine, files: &BootstrapFiles, read: &Read, job: String, reason: &str) {
    let rows = read.history.rows();
    let reason = format!("bootstrap from {}, {rows} rows: {reason}", files.shown);
    let next = match falls_back(engine) {
        true => "the first model is fitted on labelled rows of the stream instead (`bootstrap_rows`)",
        false => {
            "no model is live, and none will be: set `bootstrap_rows`, or begin with a new state folder and other files"
        }
    };
    tracing::warn!(reason, "the model of history is not put live; {next}");
    engine.observer.notice(&Happening::Verdict {
        job: job.clone(),
        verdict: "reject".to_owned(),
        reason: reason.clone(),
    });
    engine.pending.push(Event::Verdict {
        candidate: job,
        contestant: Contestant::Candidate,
        verdict: "reject".to_owned(),
        reason,
    });
}

/// Whether the stream makes the first model when history does not.
fn falls_back(engine: &Engine) -> bool {
    let learn = engine.state.learn.as_ref();
    learn.is_some_and(|learn| learn.settings().bootstrap_rows.is_some())
}

/// Where a model comes from, for its lineage.
fn origin(files: &BootstrapFiles, read: &[FileRead], verdict: &GateVerdict) -> serde_json::Value {
    json!({ "pattern": files.shown, "files": read, "judged": verdict.reason })
}

fn tell_read(files: &BootstrapFiles, read: &Read) {
    let LineCounts {
        lines,
        bad,
        told,
        filtered,
        unlabelled,
        labelled: _,
    } = &read.counts;
    for line in told {
        tracing::warn!("a line of history cannot be read: {line}");
    }
    for (rule, held) in &read.history.quarantined().reasons {
        tracing::warn!(
            rule,
            ?held,
            "rows of history are quarantined: nothing is fitted on them"
        );
    }
    tracing::info!(
        files = read.files.len(),
        pattern = files.shown,
        lines,
        bad,
        filtered,
        unlabelled,
        quarantined = read.history.quarantined().rows,
        passed = read.history.passed(),
        rows = read.history.rows(),
        "history is read"
    );
}
