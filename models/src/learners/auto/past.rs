//! What `auto` said of rows when they were to be predicted, where labels come late: snapshots of its members and of their
//! mixture, kept until the labels are there.
//!
//! A row is judged by a snapshot that is from two thirds to four thirds of the delay old, so about as old as the model
//! that predicted it. Two are kept, and a third is never needed. They share with the members what has not changed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::weights::{Judged, RATES, RECENT, Said, Weights};
use crate::artifact::{read_members, write_members};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Labelled, Scorer, Task};
use crate::frame::ColumnSpec;
use crate::model::{Model, Scratch};
use crate::scorers::mixture::{Mixture, Parts};
use crate::state::{ChunkSource, ChunkVisitor, StateError, open};

/// Snapshots that are kept at most.
pub(super) const KEPT_MAX: usize = 2;

/// A snapshot.
struct Kept {
    /// Rows that were learned before it.
    seen: u64,
    active: Vec<usize>,
    members: Vec<Arc<Model>>,
    mixture: Mixture,
    recent: [u64; RECENT],
    /// Its bytes of memory, as if it shared nothing.
    bytes: usize,
}

/// The snapshots, the oldest first.
pub(super) struct Past {
    task: Task,
    columns: Vec<ColumnSpec>,
    step: u64,
    kept: VecDeque<Kept>,
    /// Of the members of the oldest snapshot, who still has a say: by place in the snapshot, by place in the team, and
    /// what they come to with the weights of now.
    places: Vec<usize>,
    active: Vec<usize>,
    mixture: Mixture,
    /// Used again: member by member what it said of the rows at hand, and what that comes to then and now.
    said: Vec<Vec<f64>>,
    scratch: Scratch,
    row: Vec<f64>,
    then: Parts,
    now: Parts,
}

impl Past {
    pub(super) fn new(task: Task, columns: &[ColumnSpec], delay: u64) -> Self {
        Self {
            task,
            columns: columns.to_vec(),
            step: (2 * delay / 3).max(1),
            kept: VecDeque::new(),
            places: Vec::new(),
            active: Vec::new(),
            mixture: Weights::new(task, 1, delay).mixture(&[]),
            said: Vec::new(),
            scratch: Scratch::default(),
            row: Vec::new(),
            then: Parts::default(),
            now: Parts::default(),
        }
    }

    /// Rows between two snapshots.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Keeps a snapshot, and drops the one that is too old by now.
    pub(super) fn keep(
        &mut self,
        seen: u64,
        active: &[usize],
        members: Vec<Arc<Model>>,
        mixture: &Mixture,
        recent: [u64; RECENT],
    ) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept
            .push_back(Kept::new(seen, active.to_vec(), members, mixture.clone(), recent));
    }

    /// Who of the oldest snapshot has a say still: after it, or who is active, changed.
    pub(super) fn turn(&mut self, active: &[usize], weights: &Weights) {
        let Some(oldest) = self.kept.front() else { return };
        let of_then = oldest.active.iter().enumerate();
        let (places, active) = of_then.filter(|(_, member)| active.contains(member)).unzip();
        (self.places, self.active) = (places, active);
        self.mixture = weights.mixture(&self.active);
        weights.show(&self.active, oldest.recent, &mut self.mixture);
    }

    /// Asks the oldest snapshot about some rows, if there is one.
    pub(super) fn say(&mut self, rows: Labelled<'_>) -> bool {
        let Some(oldest) = self.kept.front() else { return false };
        self.said.resize(oldest.members.len(), Vec::new());
        for (member, said) in oldest.members.iter().zip(&mut self.said) {
            member.score(rows.frame, rows.dictionaries, &mut self.scratch, said);
        }
        true
    }

    /// Has the weights learn from a row of those that were asked about, which is the `seen`th.
    pub(super) fn judge(&mut self, row: usize, label: f64, weight: f64, weights: &mut Weights, seen: u64) {
        let Some(oldest) = self.kept.front() else { return };
        let outputs = self.task.outputs();
        let of = |said: &Vec<f64>, row_out: &mut Vec<f64>| {
            let said = said.get(row * outputs..(row + 1) * outputs);
            row_out.extend_from_slice(said.unwrap_or_default());
        };
        self.row.clear();
        self.said.iter().for_each(|said| of(said, &mut self.row));
        oldest.mixture.say(&self.row, &mut self.then);
        self.row.clear();
        self.places
            .iter()
            .for_each(|&place| of(&self.said[place], &mut self.row));
        self.mixture.say(&self.row, &mut self.now);
        let judged = Judged {
            active: &self.active,
            now: Said {
                mixture: &self.mixture,
                parts: &self.now,
            },
            then: Said {
                mixture: &oldest.mixture,
                parts: &self.then,
            },
            recent: oldest.recent,
            label,
            weight,
        };
        weights.learn(judged, seen);
        weights.show(&self.active, oldest.recent, &mut self.mixture);
    }

    /// Bytes of memory of the snapshots.
    pub(super) fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }

    /// Offers a chunk for each snapshot: it never changes.
    pub(super) fn save(&self, chunks: &mut dyn ChunkVisitor) {
        for kept in &self.kept {
            chunks.chunk(&name_of(kept.seen), kept.seen, &mut |out| kept.write(out));
        }
    }

    /// Reads the snapshots that are there after `seen` rows.
    pub(super) fn restore(&mut self, seen: u64, members: usize, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.kept.clear();
        let last = seen / self.step;
        for number in last.saturating_sub(KEPT_MAX as u64 - 1).max(1)..=last {
            let name = name_of(number * self.step);
            let kept = self.read(number * self.step, members, open(chunks, &name)?);
            self.kept.push_back(kept.map_err(|error| StateError::of(&name, error))?);
        }
        Ok(())
    }

    fn read(&self, seen: u64, members_max: usize, mut reader: Reader<'_>) -> Result<Kept, CodecError> {
        let mut active = Vec::new();
        for _ in 0..reader.count(8)? {
            let member = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
            if member >= members_max || active.last().is_some_and(|last| *last >= member) {
                return Err(reader.error("a snapshot's members are not members in their order"));
            }
            active.push(member);
        }
        let mut recent = [0; RECENT];
        for class in &mut recent {
            *class = reader.u64()?;
        }
        let mixture = Mixture::read(&mut reader)?;
        let members = read_members(&mut reader, 1)?;
        let fits = |member: &Arc<Model>| member.task() == self.task && member.accepts(&self.columns).is_ok();
        let alike = std::mem::discriminant(&mixture.kind) == std::mem::discriminant(&self.mixture.kind);
        if !members.iter().all(fits) || members.len() != active.len() || mixture.shares.len() != active.len() {
            return Err(reader.error("a snapshot's members are other ones than configured"));
        }
        if !alike || mixture.kind.places() != self.mixture.kind.places() || mixture.pools.len() != RATES.len() {
            return Err(reader.error("a snapshot mixes in another way than configured"));
        }
        reader.finish()?;
        Ok(Kept::new(seen, active, members, mixture, recent))
    }
}

fn name_of(seen: u64) -> String {
    format!("past/{seen}")
}

impl Kept {
    fn new(seen: u64, active: Vec<usize>, members: Vec<Arc<Model>>, mixture: Mixture, recent: [u64; RECENT]) -> Self {
        let models: usize = members.iter().map(|member| member.bytes()).sum();
        let bytes = size_of::<Self>() + 8 * active.len() + mixture.bytes() + models;
        Self {
            seen,
            active,
            members,
            mixture,
            recent,
            bytes,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.active.len() as u64);
        self.active.iter().for_each(|member| out.put_u64(*member as u64));
        self.recent.iter().for_each(|class| out.put_u64(*class));
        self.mixture.write(out);
        write_members(&self.members, out);
    }
}
