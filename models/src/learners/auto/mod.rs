//! `auto`: the learner of a user who names none. Several families learn side by side; what they say is combined by how
//! well each has predicted lately (`weights.rs` says how), so that it is at least about as good as the best of them,
//! whatever the stream and however it changes, and mostly better.
//!
//! A member that the others can do without is sent to rest, the one of least worth first: it neither learns nor scores.
//! It comes back after a while, learns for a round, and has a round or more to show its worth; each time in vain its
//! rest gets longer. Rounds are counted in rows, so that what is learned does not depend on batches.

mod roster;
mod weights;

use std::sync::Arc;

use driftmill_config::{ByteSize, Component, Field, Kind, Need, Problems, Section, unknown_name};

use super::settings::{named, refuse_task};
use super::usable;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::frame::Frame;
use crate::model::Model;
use crate::scorers::mixture::{Mixture, Parts};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};
use roster::{Duty, Member, NAMES, gather};
use weights::Weights;

/// The chunk of all that is not a member's.
const WEIGHTS: &str = "weights";
/// Rows between two decisions about who rests.
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
/// Labels beyond are taken for it.
const MAGNITUDE_MAX: f64 = 1e100;

/// The entry of the list.
pub(crate) struct AutoKind;

impl Component for AutoKind {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn summary(&self) -> &'static str {
        "Several learners side by side (linear, Bayes, trees, forests, neighbours, the last label), combined by how well \
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
                      `adaptive-random-forest`, `knn-250`, `knn-500`, `knn-1000`, `knn-2000` (each with so many rows in \
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
                doc: "Memory that all members together may use.",
            },
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"auto\"\nmembers = [\"sgd\", \"hoeffding-adaptive-tree\", \"knn-250\", \"no-change\"]\nrest = true\n\
         memory_max = \"16 MiB\"\n"
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
        let names: Option<Vec<String>> = section.get("members", problems);
        let names = names.unwrap_or_else(|| NAMES.iter().map(|name| (*name).to_owned()).collect());
        if let Some(other) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            problems.push(section.key_span("members"), unknown_name("member", other, NAMES), None);
            return None;
        }
        // What remains when weights and what publishing copies are set aside.
        let places = context.task.outputs().max(2);
        let own = size_of::<Auto>() + Weights::new(context.task, NAMES.len()).bytes() + 64 * places;
        let left = memory_max.as_usize().saturating_sub(own);
        match gather(&names, left, context) {
            Ok(members) => Some(Box::new(Auto::new(context.task, rests, members))),
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
    /// Places of the members that have a say, and what they are mixed to.
    active: Vec<usize>,
    mixture: Mixture,
    /// Used again from row to row.
    parts: Parts,
    row: Vec<f64>,
}

impl Auto {
    fn new(task: Task, rests: bool, members: Vec<Member>) -> Self {
        let weights = Weights::new(task, members.len());
        let active: Vec<usize> = (0..members.len()).collect();
        let mixture = weights.mixture(&active);
        Self {
            task,
            rests,
            members,
            weights,
            seen: 0,
            active,
            mixture,
            parts: Parts::default(),
            row: Vec::new(),
        }
    }

    fn round(&self) -> u64 {
        self.seen / ROUND
    }

    /// Learns from rows that are all of one round. The members do not depend on each other nor on weights: each learns
    /// from all rows, and says before each what it says.
    fn learn_part(&mut self, rows: Labelled<'_>, mut out: Option<&mut Vec<f64>>) {
        for member in &mut self.members {
            match member.duty {
                Duty::Active(_) => member.learner.learn(rows, Some(&mut member.said)),
                Duty::Training => member.learner.learn(rows, None),
                Duty::Resting(_) => {}
            }
        }
        let outputs = self.task.outputs();
        for (row, (&label, &weight)) in rows.labels.iter().zip(rows.weights).take(rows.frame.rows()).enumerate() {
            self.row.clear();
            for &member in &self.active {
                let said = self.members[member].said.get(row * outputs..(row + 1) * outputs);
                self.row.extend_from_slice(said.unwrap_or_default());
            }
            self.mixture.say(&self.row, &mut self.parts);
            if let Some(out) = out.as_deref_mut() {
                match self.seen {
                    0 => out.extend(std::iter::repeat_n(unknown(self.task), outputs)),
                    _ => self.mixture.scores(&self.parts, out),
                }
            }
            if usable(self.task, label, weight) {
                self.seen += 1;
                let label = label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
                let (active, mixture) = (&self.active, &mut self.mixture);
                self.weights
                    .learn(active, mixture, &self.parts, label, weight, self.seen);
            }
        }
    }

    /// Decides, at the end of a round, who rests in the next one.
    fn decide(&mut self) {
        let round = self.round();
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
            member.duty = Duty::Resting(round + member.nap);
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
        for &index in &self.active {
            let worth = self.weights.take_worth(index);
            let member = &mut self.members[index];
            able += usize::from(member.candidate.name != "no-change");
            let Duty::Active(since) = member.duty else { continue };
            if !self.rests || !member.candidate.may_rest || round < since + ROUNDS_MIN {
                continue;
            }
            if worth >= WORTH_MIN {
                member.nap = 1;
            } else if least.is_none_or(|(_, other)| worth < other) {
                least = Some((index, worth));
            }
        }
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
        self.seen = reader.u64()?;
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
            let (mut end, mut left) = (start, ROUND - self.seen % ROUND);
            while end < count && left > 0 {
                left -= u64::from(usable(self.task, rows.labels[end], rows.weights[end]));
                end += 1;
            }
            // Copied only where a round ends within the batch.
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
                self.decide();
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
        size_of::<Self>() + self.weights.bytes() + 64 * self.task.outputs().max(2) + members.sum::<usize>()
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner, try_learner};
    use crate::metrics::binary::log_loss;
    use crate::model::Body;

    const SEED: u64 = 61;

    /// First a line divides the classes, then the signs of two inputs do; one label in twenty is wrong.
    fn changing() -> Plain {
        let rows = Plain::random(8_000, 3, SEED, |_, noise| f64::from(u8::from(noise > 0.9)));
        let columns: Vec<Vec<f64>> = (0..3).map(|place| rows.column(place).to_vec()).collect();
        let label = |row: usize| {
            let (a, b, c) = (columns[0][row], columns[1][row], columns[2][row]);
            let class = if row < 4_000 { a + b + c > 0.0 } else { a * b > 0.0 };
            f64::from(u8::from(class != (rows.labels()[row] == 1.0)))
        };
        let labels: Vec<f64> = (0..8_000).map(label).collect();
        rows.relabelled(&labels)
    }

    fn mean_loss(name: &str, settings: &str, rows: &Plain) -> f64 {
        let mut said = Vec::new();
        learner(name, settings, Task::Binary, rows).learn(rows.labelled(), Some(&mut said));
        let losses = said.iter().zip(rows.labels()).map(|(p, y)| log_loss(*p, *y));
        losses.sum::<f64>() / said.len() as f64
    }

    #[test]
    fn it_is_better_than_each_of_its_members_where_the_best_one_changes() {
        let rows = changing();
        let members = ["sgd-logistic", "hoeffding-adaptive-tree", "knn"];
        let alone = members.map(|name| mean_loss(name, "", &rows));
        let names = "members = [\"sgd\", \"hoeffding-adaptive-tree\", \"knn-1000\"]";
        let together = mean_loss("auto", names, &rows);
        let best = alone.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(together < best, "seed {SEED}: {together}, alone {alone:?}");
    }

    #[test]
    fn a_member_that_cannot_be_told_from_chance_does_no_harm() {
        let rows = changing();
        let names = |more: &str| format!("members = [\"knn-1000\", \"knn-500\"{more}]");
        let without = mean_loss("auto", &names(""), &rows);
        let with = mean_loss("auto", &names(", \"no-change\""), &rows);
        assert!(with < without + 0.005, "seed {SEED}: {with} with it, {without} without");
    }

    fn resting(auto: &dyn Learner) -> usize {
        let mut resting = 0.0;
        auto.report(&mut |fact| resting += if fact.name == "member_resting" { fact.value } else { 0.0 });
        resting as usize
    }

    #[test]
    fn members_that_are_of_no_use_rest_and_all_wake_when_the_world_changes() {
        let line = |x: &[f64], noise: f64| f64::from(u8::from(x[0] + x[1] + 0.1 * noise > 0.0));
        let rows = Plain::random(20 * ROUND as usize, 2, SEED, line);
        let mut auto = learner("auto", "", Task::Binary, &rows);
        let (mut most, mut scored) = (0, NAMES.len());
        for (start, part) in rows.parts(ROUND as usize).enumerate() {
            auto.learn(part.labelled(), None);
            let asleep = resting(auto.as_ref());
            let model = auto.publish().unwrap();
            let Body::Combined { members, .. } = model.body() else {
                panic!("no team")
            };
            assert!(
                members.len() + asleep <= NAMES.len(),
                "round {start}: a member that rests scores"
            );
            (most, scored) = (most.max(asleep), scored.min(members.len()));
        }
        assert!(
            most >= 2 && scored < NAMES.len(),
            "seed {SEED}: {most} rested at once where a line is all"
        );
        let other = Plain::random(ROUND as usize, 2, SEED + 1, |x, noise| 1.0 - line(x, noise));
        auto.learn(other.labelled(), None);
        let asleep = resting(auto.as_ref());
        assert!(
            asleep <= 1,
            "seed {SEED}: {asleep} rest though everything is the other way round"
        );
    }

    #[test]
    fn who_may_rest_may_be_nobody() {
        let rows = changing();
        let mut auto = learner("auto", "rest = false", Task::Binary, &rows);
        auto.learn(rows.labelled(), None);
        assert_eq!(resting(auto.as_ref()), 0);
    }

    #[test]
    fn values_are_better_than_each_member_says() {
        let rows = Plain::random(6_000, 2, SEED, |x, noise| {
            1_000.0 + 50.0 * x[0] + 50.0 * (6.0 * x[1]).sin() + noise
        });
        let error = |name: &str, settings: &str| {
            let mut said = Vec::new();
            learner(name, settings, Task::Regression, &rows).learn(rows.labelled(), Some(&mut said));
            let squares = said.iter().zip(rows.labels()).skip(1_000).map(|(p, y)| (p - y).powi(2));
            (squares.sum::<f64>() / 5_000.0).sqrt()
        };
        let alone = [error("sgd-linear", ""), error("knn", "")];
        let together = error("auto", "members = [\"sgd\", \"knn-1000\"]");
        let best = alone.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(together < best, "seed {SEED}: {together}, alone {alone:?}");
    }

    #[test]
    fn impossible_teams_are_refused() {
        let rows = changing();
        for (settings, task, expected) in [
            ("members = [\"oracle\"]", Task::Binary, "unknown member `oracle`"),
            ("members = [\"no-change\"]", Task::Binary, "looks at features"),
            ("memory_max = \"1 KiB\"", Task::Binary, "no member can learn this: sgd"),
            ("", Task::Anomaly, "cannot learn this task"),
        ] {
            let problems = try_learner("auto", settings, task, &rows).err().unwrap();
            assert!(problems.contains(expected), "{settings}: {problems}");
        }
        // One that is too large is left out.
        assert!(try_learner("auto", "memory_max = \"1 MiB\"", Task::Binary, &rows).is_ok());
    }
}
