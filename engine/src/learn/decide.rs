//! What should happen next: the gate's verdicts, snapshots of the online learner, training jobs. Pure; asked only live,
//! and what comes of it is an event.

use driftmill_models::evidence::gate::{GateAnswer, GateVerdict, alpha_share};

use super::{Contestant, LearnHalf, Online};
use crate::example::VersionId;
use crate::learn::Contest;
use crate::settings::Line;

/// What should happen next.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// A model should be trained.
    Train {
        /// Why: `bootstrap`, `schedule`, or `drift NAME`.
        cause: String,
    },
    /// A job trains on rows that are mostly from before a change: it should end.
    Abandon {
        /// The job.
        job: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// The gate has promoted or rejected.
    Decided {
        /// Who competed.
        contestant: Contestant,
        /// Its name: a job, a version, or what it is.
        name: String,
        /// The verdict.
        verdict: GateVerdict,
        /// What goes live when it is promoted.
        prize: Prize,
    },
    /// A new snapshot of the online learner, whose line is live, should go live.
    Publish,
}

/// What a promoted contestant makes live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prize {
    /// The artifact of a job.
    Artifact(String),
    /// A snapshot of the online learner.
    Snapshot,
    /// A version that was live before.
    Version(VersionId),
}

impl LearnHalf {
    /// What should happen next, if anything.
    #[must_use]
    pub fn intent(&self, watermark_ms: i64, is_live: bool) -> Option<Intent> {
        self.decided(is_live)
            .or_else(|| self.abandon())
            .or_else(|| self.train(watermark_ms, is_live))
            .or_else(|| {
                let publishes = self
                    .online
                    .as_ref()
                    .is_some_and(|online| online.publishes(watermark_ms));
                publishes.then_some(Intent::Publish)
            })
    }

    /// The error that the gate may make in a contest of a champion's life is divided over all kinds of contestants that
    /// the pipeline may have, whether or not they are there now, and over the tries of each.
    pub(super) fn alpha(&self, attempt: u32) -> f64 {
        let lines = &self.settings.lines;
        let kinds = 1 + u32::from(lines.batch.is_some()) + u32::from(lines.online.is_some());
        alpha_share(self.settings.gate.alpha, kinds, attempt)
    }

    /// What the gate says of a contest.
    #[must_use]
    pub fn verdict(&self, contest: &Contest, is_live: bool) -> GateVerdict {
        contest.decide(&self.settings.gate, is_live, self.alpha(contest.attempt))
    }

    /// The first contest that is decided, in a fixed order.
    fn decided(&self, is_live: bool) -> Option<Intent> {
        self.contests().find_map(|(contestant, contest)| {
            let verdict = self
                .superseded(contestant)
                .unwrap_or_else(|| self.verdict(contest, is_live));
            (verdict.answer != GateAnswer::Hold).then(|| Intent::Decided {
                contestant,
                name: self.name(contestant, contest),
                verdict,
                prize: self.prize(contestant),
            })
        })
    }

    /// The contests under way.
    pub fn contests(&self) -> impl Iterator<Item = (Contestant, &Contest)> {
        let candidate = self.candidate.as_ref().map(|it| &it.contest);
        let challenger = self.online.as_ref().and_then(|it| it.standing().contest());
        let former = self.former.as_ref().and_then(|it| it.standing.contest());
        let all = [
            (Contestant::Candidate, candidate),
            (Contestant::Challenger, challenger),
            (Contestant::Former, former),
        ];
        all.into_iter()
            .filter_map(|(contestant, contest)| Some((contestant, contest?)))
    }

    fn name(&self, contestant: Contestant, contest: &Contest) -> String {
        match (&self.candidate, contestant) {
            (Some(candidate), Contestant::Candidate) => candidate.job.clone(),
            _ => contest.name.clone(),
        }
    }

    fn prize(&self, contestant: Contestant) -> Prize {
        match contestant {
            Contestant::Candidate => {
                let artifact = self.candidate.as_ref().map(|it| it.shadow.artifact.clone());
                Prize::Artifact(artifact.unwrap_or_default())
            }
            Contestant::Challenger => Prize::Snapshot,
            Contestant::Former => Prize::Version(self.former.as_ref().map_or(VersionId(0), |it| it.version)),
        }
    }

    /// The verdict on a candidate whose rows are mostly from before a change.
    fn superseded(&self, contestant: Contestant) -> Option<GateVerdict> {
        let candidate = self
            .candidate
            .as_ref()
            .filter(|_| contestant == Contestant::Candidate)?;
        let alarm = candidate.superseded.as_ref()?;
        let bounds = candidate.contest.bounds(self.alpha(candidate.contest.attempt));
        Some(GateVerdict {
            answer: GateAnswer::Reject,
            reason: format!(
                "{}: `{alarm}` found a change after most of its rows; a model of the world before is not worth \
                 proving.",
                candidate.contest.name
            ),
            gain_low: bounds.low,
            gain: bounds.mean,
            gain_high: bounds.high,
            blocks: bounds.blocks,
        })
    }

    fn abandon(&self) -> Option<Intent> {
        let started = self.job.as_ref()?;
        let trigger = self
            .trigger
            .as_ref()
            .filter(|trigger| trigger.outdates(started.middle_row))?;
        Some(Intent::Abandon {
            job: started.id.clone(),
            reason: format!(
                "`{}` found a change after most of its rows: a model of the world before is not worth training",
                trigger.name
            ),
        })
    }

    /// A job that should begin: one at a time, and none while a candidate is undecided.
    fn train(&self, watermark_ms: i64, is_live: bool) -> Option<Intent> {
        if self.job.is_some() || self.candidate.is_some() || self.settings.lines.batch.is_none() {
            return None;
        }
        let cause = if is_live {
            self.retrains(watermark_ms)
        } else {
            self.bootstraps().then(|| "bootstrap".to_owned())
        };
        cause.map(|cause| Intent::Train { cause })
    }

    fn bootstraps(&self) -> bool {
        let is_first = self.settings.lines.first == Line::Batch && self.settings.bootstrap_rows.is_some();
        is_first && self.passed >= self.bootstrap_at
    }

    fn retrains(&self, watermark_ms: i64) -> Option<String> {
        let retrain = self.settings.retrain?;
        let waited = self
            .last_job_ms
            .map_or(i64::MAX, |last| watermark_ms.saturating_sub(last));
        if let Some(trigger) = self.trigger.as_ref().filter(|trigger| trigger.rows >= trigger.needed) {
            // The first candidate after an alarm does not wait.
            if waited >= retrain.cooldown_ms || self.attempts == 0 || trigger.is_fresh {
                return Some(format!("drift {}", trigger.name));
            }
        }
        if self.trigger.as_ref().is_some_and(|trigger| trigger.is_fresh) {
            // A model of all rows would be one of the world before, and the change has its own as soon as it has rows.
            return None;
        }
        let since_ms = self.last_job_ms.max(self.champion_ms)?;
        let due = retrain
            .every_ms
            .is_some_and(|every| watermark_ms.saturating_sub(since_ms) >= every);
        due.then(|| "schedule".to_owned())
    }

    /// Whether an online learner makes the first model.
    pub(super) fn first_is_online(&self) -> bool {
        self.settings.lines.first == Line::Online && self.settings.bootstrap_rows.is_some()
    }

    /// Whether the online learner may compete: there is a champion, or it is to be the first.
    pub(super) fn challenger_competes(&self, is_live: bool) -> bool {
        let is_shadow = self.online.as_ref().is_some_and(|online| !Online::is_live(online));
        is_shadow && (is_live || self.first_is_online())
    }
}
