//! A toy team: members of the list and the toy tree, each with the encoding it wants, weighted by how well each has
//! predicted lately; a member without weight is paused. Its model is made of the members' models, and one of a paused
//! member is the one published before.

use std::sync::Arc;

use driftmill_config::{Component, Field, Problems, Section};

use super::tree::ToyTreeKind;
use super::{finished, within};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Fact, Labelled, Learner, LearnerContext, LearnerKind, Scorer, Task};
use crate::frame::Frame;
use crate::learners::{LEARNERS, usable};
use crate::matrix::Matrix;
use crate::metrics::binary::log_loss;
use crate::model::{Model, Scratch};
use crate::scorers::pool::Pool;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Rows between two decisions about who is paused: at the same rows however they come in batches.
const ROUND: u64 = 256;
/// A member below this weight rests for a round.
const WEIGHT_MIN: f64 = 0.2;
/// What remains of the losses after each row.
const MEMORY: f64 = 0.995;

pub(super) struct ToyTeamKind;

impl Component for ToyTeamKind {
    fn name(&self) -> &'static str {
        "toy-team"
    }
    fn summary(&self) -> &'static str {
        "A team."
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn example(&self) -> &'static str {
        ""
    }
}

impl LearnerKind<dyn Learner> for ToyTeamKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        if context.task != Task::Binary {
            return None;
        }
        let kinds: [&dyn LearnerKind<dyn Learner>; 2] = [LEARNERS[0], &ToyTreeKind];
        let mut members = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            members.push(Member {
                name: kind.name(),
                learner: kind.build(section, &context.member(index, kinds.len()), problems)?,
                loss: 0.0,
                paused: false,
                rested: None,
            });
        }
        let team = ToyTeam {
            members,
            seen: 0,
            paused: 0,
        };
        within(team, context)
    }
}

struct Member {
    name: &'static str,
    learner: Box<dyn Learner>,
    /// Faded sum of log losses.
    loss: f64,
    paused: bool,
    /// What it published last, while it is paused; made again from its state after a restart.
    rested: Option<Arc<Model>>,
}

pub(super) struct ToyTeam {
    members: Vec<Member>,
    seen: u64,
    /// Rounds that members rested.
    paused: u64,
}

impl ToyTeam {
    fn pool(&self) -> Pool {
        let best = self
            .members
            .iter()
            .map(|member| member.loss)
            .fold(f64::INFINITY, f64::min);
        let weights = self.members.iter().map(|member| (0.3 * (best - member.loss)).exp());
        Pool::new(weights.collect(), 1).unwrap()
    }

    fn weight(&self, member: &Member) -> f64 {
        let best = self
            .members
            .iter()
            .map(|member| member.loss)
            .fold(f64::INFINITY, f64::min);
        (0.3 * (best - member.loss)).exp()
    }

    /// Rows that are all of one round.
    fn learn_part(&mut self, rows: Labelled<'_>, out: &mut Vec<f64>) {
        let mut scores = Vec::new();
        for member in &mut self.members {
            let mut own = Vec::new();
            if member.paused {
                let model = member.rested.get_or_insert_with(|| member.learner.publish().unwrap());
                model.score(rows.frame, rows.dictionaries, &mut Scratch::default(), &mut own);
            } else {
                member.learner.learn(rows, Some(&mut own));
            }
            scores.push(own);
        }
        let mut x = Matrix::new();
        for row in 0..rows.frame.rows() {
            x.reset(1, self.members.len());
            let inputs = x.values_mut().iter_mut().zip(&scores);
            inputs.for_each(|(input, own)| *input = own[row]);
            self.pool().score(&x, out);
            if usable(Task::Binary, rows.labels[row], rows.weights[row]) {
                self.seen += 1;
                for (member, own) in self.members.iter_mut().zip(&scores) {
                    member.loss = MEMORY * member.loss + log_loss(own[row], rows.labels[row]);
                }
                if self.seen.is_multiple_of(ROUND) {
                    self.decide();
                }
            }
        }
    }

    fn decide(&mut self) {
        let weights: Vec<f64> = self.members.iter().map(|member| self.weight(member)).collect();
        for (member, weight) in self.members.iter_mut().zip(weights) {
            // Everybody works in every fourth round.
            member.paused = weight < WEIGHT_MIN && !(self.seen / ROUND).is_multiple_of(4);
            member.rested = None;
            self.paused += u64::from(member.paused);
        }
    }
}

impl Learner for ToyTeam {
    fn learn(&mut self, rows: Labelled<'_>, predictions: Option<&mut Vec<f64>>) {
        let mut out = Vec::new();
        let count = rows.frame.rows();
        let mut start = 0;
        while start < count {
            let (mut end, mut left) = (start, ROUND - self.seen % ROUND);
            while end < count && left > 0 {
                left -= u64::from(usable(Task::Binary, rows.labels[end], rows.weights[end]));
                end += 1;
            }
            let mut frame = Frame::default();
            frame.append(rows.frame, start..end);
            let part = Labelled {
                frame: &frame,
                dictionaries: rows.dictionaries,
                labels: &rows.labels[start..end],
                weights: &rows.weights[start..end],
            };
            self.learn_part(part, &mut out);
            start = end;
        }
        if let Some(predictions) = predictions {
            *predictions = out;
        }
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        let combiner = Arc::new(self.pool());
        let members = self.members.iter_mut().map(|member| match &member.rested {
            Some(model) => Some(Arc::clone(model)),
            None => member.learner.publish(),
        });
        let members = members.collect::<Option<Vec<_>>>()?;
        Model::combined(Task::Binary, members, combiner).ok().map(Arc::new)
    }

    fn bytes(&self) -> usize {
        // A rested model shares all that is large with its learner.
        self.members
            .iter()
            .map(|member| 2 * member.learner.bytes())
            .sum::<usize>()
            + size_of::<Self>()
    }

    fn report(&self, each: &mut dyn FnMut(Fact<'_>)) {
        for member in &self.members {
            each(Fact {
                name: "member_weight_ratio",
                of: member.name,
                value: self.weight(member),
            });
            member.learner.report(each);
        }
        each(Fact {
            name: "paused_rounds",
            of: "",
            value: self.paused as f64,
        });
    }
}

impl State for ToyTeam {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk("weights", self.seen, &mut |out| {
            out.put_u64(self.seen);
            out.put_u64(self.paused);
            for member in &self.members {
                out.put_f64(member.loss);
                out.put_u8(u8::from(member.paused));
            }
        });
        for (index, member) in self.members.iter().enumerate() {
            member
                .learner
                .save(&mut Within::new(&format!("member/{index}/"), chunks));
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut reader = open(chunks, "weights")?;
        let mut parse = |reader: &mut Reader<'_>| {
            (self.seen, self.paused) = (reader.u64()?, reader.u64()?);
            for member in &mut self.members {
                (member.loss, member.paused, member.rested) = (reader.finite()?, reader.u8()? == 1, None);
            }
            finished(reader.clone(), ())
        };
        parse(&mut reader).map_err(|error: CodecError| StateError::of("weights", error))?;
        for (index, member) in self.members.iter_mut().enumerate() {
            let prefix = format!("member/{index}/");
            member
                .learner
                .restore(&WithinSource::new(&prefix, chunks))
                .map_err(|error| error.within(&prefix))?;
            // What rested has learned nothing since: its state is that of its model.
            member.paused &= member.learner.seen() > 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::world::{NATIVE, encoder_of, try_section, with_section, world};
    use super::*;
    use crate::encoders::ColumnsEncoder;
    use crate::model::Body;

    const SPREAD: &str = "
country = { encode = 'one-hot', categories_max = 3 }
merchant = { encode = 'hash', buckets = 8 }
card = { encode = 'hash', buckets = 4 }
";

    fn team(encoder: &ColumnsEncoder) -> Result<Box<dyn Learner>, String> {
        let context = LearnerContext::new(Task::Binary, encoder, 3);
        try_section("", |section, problems| ToyTeamKind.build(section, &context, problems))
    }

    #[test]
    fn members_have_encodings_of_their_own_and_a_paused_one_is_not_copied() {
        let encoder = encoder_of(SPREAD);
        let mut team = team(&encoder).unwrap();
        let mut rested = false;
        let learned = world(12_000, 3);
        let mut before: Option<Arc<Model>> = None;
        for from in (0..12_000).step_by(100) {
            team.learn(learned.part(from, from + 100).rows(), None);
            let model = team.publish().unwrap();
            let members = |model: &Model| match model.body() {
                Body::Combined { members, .. } => members.to_vec(),
                Body::Scored { .. } => vec![],
            };
            let columns = members(&model);
            assert_eq!(columns.len(), 2);
            if let Some(before) = before {
                rested |= members(&before).iter().zip(&columns).any(|(a, b)| Arc::ptr_eq(a, b));
            }
            before = Some(model);
        }
        assert!(rested, "no member ever rested");
        let mut facts = Vec::new();
        team.report(&mut |fact| facts.push((fact.name, fact.of.to_owned())));
        assert!(facts.contains(&("member_weight_ratio", "toy-tree".to_owned())));
    }

    #[test]
    fn a_member_that_cannot_take_a_column_says_so() {
        let encoder = with_section(NATIVE, |section, problems| {
            let columns = super::super::super::world::columns();
            ColumnsEncoder::from_config(section, &columns, 11, problems)
        });
        assert!(team(&encoder).err().unwrap().contains("adds inputs up"));
    }
}
