//! `auto`: the learner of a user who names none. Several families learn side by side; what they say is combined by how
//! well each has predicted lately (`weights.rs` says how), so that it is at least about as good as the best of them,
//! whatever the stream and however it changes, and mostly better.
//!
//! A member that the others can do without is sent to rest, the one of least worth first: it neither learns nor scores.
//! It comes back after a while, learns for a round, and has a round or more to show its worth; each time in vain its
//! rest gets longer. Rounds end after numbers of rows, so that what is learned does not depend on batches; but one whose
//! rows told too little goes on.
//!
//! Where labels come late, members are judged by what they said when a row was to be predicted (`past.rs`), not by what
//! they would say now that its label is here: who follows fast knows then what is stale by the time that it is said.

mod past;
mod roster;
#[cfg(test)]
mod tests;
mod truth;
mod weights;
mod worth;

use std::sync::Arc;

use driftmill_config::{ByteSize, Component, Field, Kind, Need, Problems, Section, unknown_name};

use super::settings::{named, refuse_task, whole};
use super::usable;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::frame::Frame;
use crate::model::Model;
use crate::scorers::mixture::{Mixture, Parts};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};
use past::{KEPT_MAX, Past};
use roster::{Duty, Member, NAMES, gather};
use weights::{Judged, Said, Weights};

/// The chunk of all that is not a member's.
const WEIGHTS: &str = "weights";
/// Rows between two looks at whether enough is known to decide who rests.
const ROUND: u64 = 1_024;
/// Rounds that a member is active before it may be sent to rest.
const ROUNDS_MIN: u64 = 2;
/// A member without which the loss would be larger by less than this share of it may rest.
const WORTH_MIN: f64 = 0.001;
/// Rounds that a member rests at most.
const NAP_MAX: u64 = 16;
/// A round whose loss is by this much above what is usual wakes all who rest: the world may have changed, and who knew
/// nothing of use before may know something now.
const ALARM: f64 = 1.2;
/// Rounds over which the usual loss is remembered.
const USUAL_ROUNDS: f64 = 8.0;
/// Rows between a row and its label, at most.
const DELAY_MAX: u64 = 100_000_000;
/// Labels beyond are taken for it.
const MAGNITUDE_MAX: f64 = 1e100;

/// The entry of the list.
pub(crate) struct AutoKind;

impl Component for AutoKind {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn summary(&self) -> &'static str {
        "Several learners side by side (linear, Bayes, trees, forests, boosted trees, neighbours, the last label), combined by how well \
         each has predicted lately: at least about as good as the best of them on every stream, without tuning. Those \
         that the others can do without rest, and are tried again. Binary, multiclass and regression tasks; a member that \
         cannot learn the task or take the columns is left out."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["auto"]),
            Field {
                name: "members",
                kind: Kind::Strings,
                need: Need::Optional("all"),
                doc: "Which may be members: `sgd`, `naive-bayes`, `hoeffding-adaptive-tree`, `leveraging-bagging`, \
                      `adaptive-random-forest`, `streaming-gradient-boosting`, `knn-250`, `knn-500`, `knn-1000`, `knn-2000` (each with so many rows in \
                      its window), `no-change`.",
            },
            Field {
                name: "rest",
                kind: Kind::Bool,
                need: Need::Optional("`true`"),
                doc: "Whether members that the others can do without rest. With `false` all of them learn from every row.",
            },
            Field {
                name: "memory_max",
                kind: Kind::Bytes,
                need: Need::Optional("`\"64 MiB\"`"),
                doc: "Memory that all members together may use, with the snapshots of them that `delay_rows` needs: each of \
                      two may come to be as large as the members.",
            },
            Field {
                name: "delay_rows",
                kind: Kind::Integer,
                need: Need::Optional("0"),
                doc: "About how many other labels become known between the prediction of a row and its own label, at most \
                      100000000: the rate at which labels come in times their usual delay. 0 where labels come at once. \
                      With it members are judged by what they said when a row was predicted, from snapshots, and not by \
                      what they say when its label is here. It is not found out: a pipeline whose labels come late sets \
                      it here. Worth it where what is learned gets stale within the delay; where it does not, 0 learns \
                      sooner whom to believe. A snapshot is taken every two thirds of so many labels and costs as \
                      much as a publication: below some hundred, learning becomes slower.",
            },
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"auto\"\nmembers = [\"sgd\", \"hoeffding-adaptive-tree\", \"knn-250\", \"no-change\"]\nrest = true\n\
         memory_max = \"16 MiB\"\ndelay_rows = 30\n"
    }
}

impl LearnerKind<dyn Learner> for AutoKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        if context.task == Task::Anomaly {
            refuse_task(section, "`auto` learns from labels", problems);
            return None;
        }
        let memory_max = section.get_or("memory_max", ByteSize(context.memory_max as u64), problems);
        let rests = section.get_or("rest", true, problems);
        let delay = whole(section, "delay_rows", 0, 0..=DELAY_MAX, problems);
        let names: Option<Vec<String>> = section.get("members", problems);
        let names = names.unwrap_or_else(|| NAMES.iter().map(|name| (*name).to_owned()).collect());
        if let Some(other) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            problems.push(section.key_span("members"), unknown_name("member", other, NAMES), None);
            return None;
        }
        // What remains when weights and what publishing copies are set aside.
        let places = context.task.outputs().max(2);
        let own = size_of::<Auto>() + Weights::new(context.task, NAMES.len(), delay).bytes() + 64 * places;
        let copies = if delay > 0 { 1 + KEPT_MAX } else { 1 };
        let left = (memory_max.as_usize() / copies).saturating_sub(own);
        match gather(&names, left, context) {
            Ok(members) => Some(Box::new(Auto::new(context, rests, delay, members))),
            Err(why) => {
                let message = format!("no member can learn this: {why}");
                problems.push(section.span(), message, None);
                None
            }
        }
    }
}

struct Auto {
    task: Task,
    rests: bool,
    members: Vec<Member>,
    weights: Weights,
    seen: u64,
    /// Rounds that have ended.
    rounds: u64,
    /// Where labels come late.
    past: Option<Past>,
    /// Places of the members that have a say, and what they are mixed to.
    active: Vec<usize>,
    mixture: Mixture,
    /// Used again from row to row.
    parts: Parts,
    row: Vec<f64>,
}

impl Auto {
    fn new(context: &LearnerContext<'_>, rests: bool, delay: u64, members: Vec<Member>) -> Self {
        let task = context.task;
        let weights = Weights::new(task, members.len(), delay);
        let active: Vec<usize> = (0..members.len()).collect();
        let mixture = weights.mixture(&active);
        Self {
            task,
            rests,
            members,
            weights,
            seen: 0,
            rounds: 0,
            past: (delay > 0).then(|| Past::new(task, context.columns.columns(), delay)),
            active,
            mixture,
            parts: Parts::default(),
            row: Vec::new(),
        }
    }

    /// Learns from rows within which nobody comes or leaves, and which are judged by one snapshot. The members do not
    /// depend on each other nor on weights: each learns from all rows, and says before each what it says.
    fn learn_part(&mut self, rows: Labelled<'_>, mut out: Option<&mut Vec<f64>>) {
        let is_late = self.past.as_mut().is_some_and(|past| past.say(rows));
        for member in &mut self.members {
            match member.duty {
                // What members say now is asked for by who wants to hear it, or if nothing older is known.
                Duty::Active(_) if is_late && out.is_none() => member.learner.learn(rows, None),
                Duty::Active(_) => member.learner.learn(rows, Some(&mut member.said)),
                Duty::Training => member.learner.learn(rows, None),
                Duty::Resting(_) => {}
            }
        }
        for (row, (&label, &weight)) in rows.labels.iter().zip(rows.weights).take(rows.frame.rows()).enumerate() {
            if !is_late || out.is_some() {
                self.say(row);
            }
            if let Some(out) = out.as_deref_mut() {
                match self.seen {
                    0 => out.extend(std::iter::repeat_n(unknown(self.task), self.task.outputs())),
                    _ => self.mixture.scores(&self.parts, out),
                }
            }
            if usable(self.task, label, weight) {
                self.seen += 1;
                self.judge(row, is_late, label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX), weight);
                if !is_late || out.is_some() {
                    self.show();
                }
            }
        }
        self.show();
    }

    /// Makes of what the members said of a row all that it comes to.
    fn say(&mut self, row: usize) {
        let outputs = self.task.outputs();
        self.row.clear();
        for &member in &self.active {
            let said = self.members[member].said.get(row * outputs..(row + 1) * outputs);
            self.row.extend_from_slice(said.unwrap_or_default());
        }
        self.mixture.say(&self.row, &mut self.parts);
    }

    /// Learns from a row whom to believe.
    fn judge(&mut self, row: usize, is_late: bool, label: f64, weight: f64) {
        if let Some(past) = self.past.as_mut().filter(|_| is_late) {
            past.judge(row, label, weight, &mut self.weights, self.seen);
            return;
        }
        let said = Said {
            mixture: &self.mixture,
            parts: &self.parts,
        };
        let row = Judged {
            active: &self.active,
            now: said,
            then: said,
            recent: self.weights.recent(),
            label,
            weight,
        };
        self.weights.learn(row, self.seen);
    }

    /// Brings what is published up to date.
    fn show(&mut self) {
        let recent = self.weights.recent();
        self.weights.show(&self.active, recent, &mut self.mixture);
    }

    /// Rows until something else than learning is due.
    fn left(&self) -> u64 {
        let of = |step: u64| step - self.seen % step;
        self.past.as_ref().map_or(ROUND, |past| of(past.step())).min(of(ROUND))
    }

    /// Does what is due after the row that was just learned.
    fn attend(&mut self) {
        if self.seen.is_multiple_of(ROUND) && self.weights.is_round_told(ROUND) {
            self.decide();
        }
        let Some(past) = &mut self.past else { return };
        if self.seen.is_multiple_of(past.step()) {
            let members = self.active.iter().map(|&member| self.members[member].publish());
            if let Some(members) = members.collect() {
                past.keep(self.seen, &self.active, members, &self.mixture, self.weights.recent());
            }
        }
        past.turn(&self.active, &self.weights);
    }

    /// Decides, at the end of a round, who rests in the next one.
    fn decide(&mut self) {
        self.rounds += 1;
        let round = self.rounds;
        let is_alarmed = self.weights.end_round(ALARM, USUAL_ROUNDS);
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            match member.duty {
                Duty::Resting(until) if until <= round || is_alarmed => member.duty = Duty::Training,
                Duty::Training => {
                    member.duty = Duty::Active(round);
                    self.weights.enter(index);
                }
                Duty::Resting(_) | Duty::Active(_) => {}
            }
        }
        if let Some(least) = self.least_worth(round) {
            let member = &mut self.members[least];
            member.duty = Duty::Resting(round.saturating_add(member.nap));
            member.nap = (2 * member.nap).min(NAP_MAX);
            self.weights.leave(least, &self.active);
        }
        self.gather_active();
    }

    /// The member of least worth, if the others can do without it. Only one at a time: of two members that know the
    /// same, the others can do without each, and not without both.
    fn least_worth(&mut self, round: u64) -> Option<usize> {
        let mut least: Option<(usize, f64)> = None;
        let mut able = 0;
        // Nobody is judged before a snapshot is old enough in which it stands.
        let wait = self
            .past
            .as_ref()
            .map_or(0, |past| (KEPT_MAX as u64 * past.step()).div_ceil(ROUND));
        for &index in &self.active {
            let worth = self.weights.worth().of(index);
            let member = &mut self.members[index];
            able += usize::from(member.candidate.name != "no-change");
            let Duty::Active(since) = member.duty else { continue };
            if !self.rests || !member.candidate.may_rest || round < since.saturating_add(ROUNDS_MIN + wait) {
                continue;
            }
            if worth >= WORTH_MIN {
                member.nap = 1;
            } else if least.is_none_or(|(_, other)| worth < other) {
                least = Some((index, worth));
            }
        }
        self.weights.worth().fade();
        least.filter(|_| able > 1).map(|(index, _)| index)
    }

    fn gather_active(&mut self) {
        let members = self.members.iter().enumerate();
        self.active = members
            .filter(|(_, member)| member.is_active())
            .map(|(at, _)| at)
            .collect();
        self.mixture = self.weights.mixture(&self.active);
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.seen);
        out.put_u64(self.rounds);
        for member in &self.members {
            let (kind, round) = match member.duty {
                Duty::Active(since) => (0, since),
                Duty::Training => (1, 0),
                Duty::Resting(until) => (2, until),
            };
            out.put_u8(kind);
            out.put_u64(round);
            out.put_u64(member.nap);
        }
        self.weights.write(out);
    }

    fn read(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        (self.seen, self.rounds) = (reader.u64()?, reader.u64()?);
        for member in &mut self.members {
            let (kind, round) = (reader.u8()?, reader.u64()?);
            member.duty = match kind {
                0 => Duty::Active(round),
                1 => Duty::Training,
                2 => Duty::Resting(round),
                other => return Err(reader.error(format!("{other} is no duty of a member"))),
            };
            member.nap = reader.u64()?;
            if !(1..=NAP_MAX).contains(&member.nap) {
                return Err(reader.error("a member rests from 1 to 16 rounds"));
            }
        }
        if !self.members.iter().any(Member::is_active) {
            return Err(reader.error("no member has a say"));
        }
        self.weights.read(&mut reader)?;
        reader.finish()
    }
}

/// What is said before anything was learned.
fn unknown(task: Task) -> f64 {
    match task {
        Task::Binary => 0.5,
        Task::Multiclass { classes } => 1.0 / f64::from(classes),
        Task::Regression | Task::Anomaly => 0.0,
    }
}

impl Learner for Auto {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let count = rows.frame.rows().min(rows.labels.len()).min(rows.weights.len());
        let mut start = 0;
        while start < count {
            let (mut end, mut left) = (start, self.left());
            while end < count && left > 0 {
                left -= u64::from(usable(self.task, rows.labels[end], rows.weights[end]));
                end += 1;
            }
            // Copied only where something is due within the batch.
            let mut frame = Frame::default();
            if end - start < count {
                frame.append(rows.frame, start..end);
            }
            let part = Labelled {
                frame: if end - start < count { &frame } else { rows.frame },
                dictionaries: rows.dictionaries,
                labels: &rows.labels[start..end],
                weights: &rows.weights[start..end],
            };
            self.learn_part(part, predictions.as_deref_mut());
            if left == 0 {
                self.attend();
            }
            start = end;
        }
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        let members = self.members.iter_mut().filter(|member| member.is_active());
        let members = members.map(Member::publish).collect::<Option<Vec<_>>>()?;
        let combiner = Arc::new(self.mixture.clone());
        Model::combined(self.task, members, combiner).ok().map(Arc::new)
    }

    fn bytes(&self) -> usize {
        let members = self.members.iter().map(|member| member.learner.bytes());
        let past = self.past.as_ref().map_or(0, Past::bytes);
        size_of::<Self>() + self.weights.bytes() + 64 * self.task.outputs().max(2) + members.sum::<usize>() + past
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        for (index, member) in self.members.iter().enumerate() {
            let part = if member.is_active() {
                self.weights.part(index, &self.active)
            } else {
                0.0
            };
            each(Fact {
                name: "member_weight_ratio",
                of: member.candidate.name,
                value: part,
            });
            each(Fact {
                name: "member_resting",
                of: member.candidate.name,
                value: f64::from(u8::from(matches!(member.duty, Duty::Resting(_)))),
            });
        }
    }
}

fn prefix(member: &Member) -> String {
    format!("member/{}/", member.candidate.name)
}

impl State for Auto {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(WEIGHTS, self.seen, &mut |out| self.write(out));
        if let Some(past) = &self.past {
            past.save(chunks);
        }
        for member in &self.members {
            member.learner.save(&mut Within::new(&prefix(member), chunks));
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.read(open(chunks, WEIGHTS)?)
            .map_err(|error| StateError::of(WEIGHTS, error))?;
        for member in &mut self.members {
            let prefix = prefix(member);
            member
                .learner
                .restore(&WithinSource::new(&prefix, chunks))
                .map_err(|error| error.within(&prefix))?;
        }
        self.gather_active();
        if let Some(past) = &mut self.past {
            past.restore(self.seen, self.members.len(), chunks)?;
            past.turn(&self.active, &self.weights);
        }
        Ok(())
    }
}
