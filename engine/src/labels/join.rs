//! The label join: features as served wait for their label by key, and leave labelled, in event time.
//!
//! What becomes of a row: it **waits** from its epoch on; a label that became known at most `horizon_ms` after the
//! row's own time **matches** it; when the watermark reaches the label's `available_ms` the row **matures** and is
//! handed out, in order of (`available_ms`, arrival of the label). A row whose horizon ends without a label
//! **expires**: it is dropped, or matures as label 0 available at prediction time + horizon. When memory does, the
//! oldest segment of rows is **evicted**, its labelled but not yet mature rows too.
//!
//! Keys name one row. A second row of the same key takes over: the first, if it still waits for a label, is dropped
//! and counted as `replaced`.
//!
//! What becomes of a label, each in exactly one count (beside those that still wait for their row):
//! - `matched`: it found its row, at once or when the row came.
//! - `revised`: its row has another label that was not handed out yet, which it replaces (last wins).
//! - `duplicate`: the same label again, or one for a row that was handed out with its label.
//! - `late`: it became known after its row's horizon, or its row has expired or was evicted.
//! - `orphan`: no row came within the horizon after it became known, or the budget of early labels ran out.
//!
//! Rows that left are remembered by the 64-bit hash of their key, the last `late_bytes_max` of them; a label for a row
//! that left earlier than that waits as an early one and ends as an orphan. A label that comes before the row of a
//! key used again is judged by the row that left.
//!
//! Order of calls in an epoch: [`LabelJoin::insert`], [`LabelJoin::label`], [`LabelJoin::expire`],
//! [`LabelJoin::drain`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::frame::Frame;

use super::index::Index;
use super::recent::{Fate, Recent};
use super::segment::{SEGMENT_ROWS, Segment};
use super::terms::{Expired, JoinConfig, JoinCounts, LabelOutcome, Missing};
use super::timed::{Entry, Timed};
use crate::example::{Examples, Label, Matured};

/// A row's label that has not been handed out.
#[derive(Debug, Clone, Copy)]
struct Pending {
    sequence: u64,
    value: f64,
    /// Another row has taken over the key.
    superseded: bool,
    /// Label 0 because none came.
    timed_out: bool,
}

/// A label before its row.
#[derive(Debug)]
struct Early {
    key: Vec<u8>,
    value: f64,
}

/// Bytes of a pending label: the entry, its place in the order and in the table of rows.
const PENDING_BYTES: usize = 128;
/// Bytes of an early label beside two copies of its key.
const EARLY_BYTES: usize = 160;

impl Early {
    fn bytes(&self) -> usize {
        EARLY_BYTES + 2 * self.key.len()
    }
}

impl Entry for Pending {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.sequence);
        out.put_f64(self.value);
        out.put_u8(u8::from(self.superseded) | u8::from(self.timed_out) << 1);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (sequence, value, flags) = (reader.u64()?, reader.f64()?, reader.u8()?);
        if flags > 3 {
            return Err(reader.error(format!("{flags} are no flags of a label")));
        }
        Ok(Self {
            sequence,
            value,
            superseded: flags & 1 != 0,
            timed_out: flags & 2 != 0,
        })
    }
}

impl Entry for Early {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.key);
        out.put_f64(self.value);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            key: reader.bytes()?.to_vec(),
            value: reader.f64()?,
        })
    }
}

/// The join.
pub struct LabelJoin {
    config: JoinConfig,
    segments: BTreeMap<u64, Segment>,
    /// Segments from which rows left in this call.
    touched: BTreeSet<u64>,
    /// The place of the next row: segment × [`SEGMENT_ROWS`] + arrival in it.
    next: u64,
    index: Index,
    pending: Timed<Pending>,
    /// The arrival in `pending` of each labelled row.
    labelled: HashMap<u64, u64>,
    early: Timed<Early>,
    early_index: HashMap<Vec<u8>, u64>,
    recent: Recent,
    counts: JoinCounts,
    changes: u64,
}

impl LabelJoin {
    /// Nothing waits.
    #[must_use]
    pub fn new(config: JoinConfig) -> Self {
        Self {
            config,
            segments: BTreeMap::new(),
            touched: BTreeSet::new(),
            next: 0,
            index: Index::default(),
            pending: Timed::default(),
            labelled: HashMap::new(),
            early: Timed::default(),
            early_index: HashMap::new(),
            recent: Recent::new(config.late_bytes_max),
            counts: JoinCounts::default(),
            changes: 0,
        }
    }

    /// Counts, and what waits now.
    #[must_use]
    pub fn counts(&self) -> JoinCounts {
        JoinCounts {
            waiting_rows: self.segments.values().map(|segment| segment.live_rows() as u64).sum(),
            waiting_bytes: self.bytes() as u64,
            labelled_rows: self.pending.len() as u64,
            early_rows: self.early.len() as u64,
            ..self.counts
        }
    }

    /// Rows of an epoch begin to wait. A row without a key can get a label only by [`LabelJoin::insert_labelled`].
    pub fn insert(&mut self, examples: &Examples) {
        self.insert_labelled(examples, &[]);
    }

    /// Rows of an epoch begin to wait, with the labels that stand in the same record; where `labels` is shorter or
    /// `None` the row waits for one. Says what became of each label in the count only.
    pub fn insert_labelled(&mut self, examples: &Examples, labels: &[Option<Label>]) {
        self.changes += 1;
        let rows = examples.frame.rows();
        self.keep_layout(&examples.frame);
        let mut row = 0;
        while row < rows {
            let end = rows.min(row + (SEGMENT_ROWS - self.next % SEGMENT_ROWS) as usize);
            for row in row..end {
                let sequence = self.push(examples, row);
                self.name(sequence, examples.keys.get(row));
                if let Some(label) = labels.get(row).copied().flatten() {
                    let outcome = self.attach(sequence, label);
                    self.count(outcome);
                }
            }
            let segment = (self.next - 1) / SEGMENT_ROWS;
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.append_features(&examples.frame, row..end);
            }
            self.settle();
            self.evict();
            row = end;
        }
        self.counts.inserted += rows as u64;
    }

    /// Rows of other columns can train no model of these: they leave, counted as evicted.
    fn keep_layout(&mut self, frame: &Frame) {
        let held = self.segments.values().map(Segment::frame).find(|held| held.rows() > 0);
        if frame.rows() > 0 && held.is_some_and(|held| !held.is_like(frame)) {
            while let Some((&id, _)) = self.segments.first_key_value() {
                self.evict_segment(id);
            }
        }
    }

    /// Stores a row; returns its place.
    fn push(&mut self, examples: &Examples, row: usize) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let segment = self
            .segments
            .entry(sequence / SEGMENT_ROWS)
            .or_insert_with(Segment::empty);
        segment.push(examples, row);
        sequence
    }

    /// Enters a new row under its key; an early label finds it.
    fn name(&mut self, sequence: u64, key: &[u8]) {
        if key.is_empty() {
            return;
        }
        if let Some(before) = self.find(key) {
            self.supersede(before);
        }
        self.index.set(key, sequence, is_key(&self.segments, key));
        if let Some(arrival) = self.early_index.get(key).copied()
            && let Some((available_ms, early)) = self.remove_early(arrival)
        {
            let label = Label {
                value: early.value,
                available_ms,
            };
            let outcome = self.attach(sequence, label);
            self.count(outcome);
        }
    }

    /// Another row takes over the key of the row at `sequence`.
    fn supersede(&mut self, sequence: u64) {
        match self.labelled.get(&sequence) {
            Some(&arrival) => self.pending.change(arrival, |pending| pending.superseded = true),
            None => {
                self.counts.replaced += 1;
                self.clear(sequence);
            }
        }
    }

    /// The place of the row of a key.
    fn find(&self, key: &[u8]) -> Option<u64> {
        self.index.get(key, is_key(&self.segments, key))
    }

    /// Takes a label in. Says what became of it at once; see the module's documentation for what each means.
    pub fn label(&mut self, key: &[u8], label: Label) -> LabelOutcome {
        self.changes += 1;
        let outcome = match self.find(key) {
            Some(sequence) => self.attach(sequence, label),
            None => match self.recent.fate(key) {
                Some(Fate::Matured) => LabelOutcome::Duplicate,
                Some(Fate::Gone) => LabelOutcome::Late,
                None => self.keep_early(key, label),
            },
        };
        self.count(outcome);
        outcome
    }

    fn count(&mut self, outcome: LabelOutcome) {
        let counts = &mut self.counts;
        *match outcome {
            LabelOutcome::Matched => &mut counts.matched,
            LabelOutcome::Revised => &mut counts.revised,
            LabelOutcome::Duplicate => &mut counts.duplicate,
            LabelOutcome::Late => &mut counts.late,
            LabelOutcome::Early => &mut counts.early,
            LabelOutcome::Orphan => &mut counts.orphan,
        } += 1;
    }

    /// Gives a row its label, or another one.
    fn attach(&mut self, sequence: u64, label: Label) -> LabelOutcome {
        let Some(time_ms) = self.time_ms(sequence) else {
            return LabelOutcome::Orphan;
        };
        let held = self
            .labelled
            .get(&sequence)
            .and_then(|&arrival| Some((arrival, *self.pending.get(arrival)?)));
        let late = label.available_ms > time_ms.saturating_add(self.config.horizon_ms);
        let superseded = match held {
            Some((_, pending)) if late || pending.timed_out => return LabelOutcome::Late,
            None if late => return LabelOutcome::Late,
            Some((_, pending)) if pending.value == label.value => return LabelOutcome::Duplicate,
            Some((arrival, pending)) => {
                self.pending.remove(arrival);
                pending.superseded
            }
            None => false,
        };
        let pending = Pending {
            sequence,
            value: label.value,
            superseded,
            timed_out: false,
        };
        self.labelled
            .insert(sequence, self.pending.push(label.available_ms, pending));
        if held.is_some() {
            LabelOutcome::Revised
        } else {
            LabelOutcome::Matched
        }
    }

    /// Keeps a label for a row that may still come.
    fn keep_early(&mut self, key: &[u8], label: Label) -> LabelOutcome {
        if key.is_empty() {
            return LabelOutcome::Orphan;
        }
        let before = self.early_index.get(key).copied();
        if before
            .and_then(|arrival| self.early.get(arrival))
            .is_some_and(|held| held.value == label.value)
        {
            return LabelOutcome::Duplicate;
        }
        let revised = before.and_then(|arrival| self.remove_early(arrival)).is_some();
        let early = Early {
            key: key.to_vec(),
            value: label.value,
        };
        self.counts.early_bytes += early.bytes() as u64;
        let arrival = self.early.push(label.available_ms, early);
        self.early_index.insert(key.to_vec(), arrival);
        self.shrink_early(arrival, revised)
    }

    /// Brings early labels back into their budget, those known for longest first; says what became of the newest,
    /// which is counted by the caller.
    fn shrink_early(&mut self, newest: u64, revised: bool) -> LabelOutcome {
        let mut outcome = if revised {
            LabelOutcome::Revised
        } else {
            LabelOutcome::Early
        };
        while self.counts.early_bytes > self.config.early_bytes_max as u64 {
            let Some((_, arrival)) = self.early.first() else { break };
            self.remove_early(arrival);
            match arrival == newest {
                // The label that it replaced was counted when it came: both end here.
                true if revised => self.counts.orphan += 1,
                true => outcome = LabelOutcome::Orphan,
                false => self.counts.orphan += 1,
            }
        }
        outcome
    }

    fn remove_early(&mut self, arrival: u64) -> Option<(i64, Early)> {
        let (available_ms, early) = self.early.remove(arrival)?;
        self.counts.early_bytes -= early.bytes() as u64;
        self.early_index.remove(&early.key);
        Some((available_ms, early))
    }

    /// Ends the waiting of rows whose horizon ended before the watermark, and of labels that waited as long. Rows
    /// that get label 0 are handed out by the next [`LabelJoin::drain`].
    pub fn expire(&mut self, watermark_ms: i64) -> Expired {
        let mut expired = Expired::default();
        let before = watermark_ms.saturating_sub(self.config.horizon_ms);
        let due = self.segments.iter().filter(|(_, segment)| segment.oldest_ms() < before);
        for id in due.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.expire_segment(id, before, &mut expired);
        }
        while let Some((available_ms, arrival)) = self.early.first()
            && available_ms < before
        {
            self.remove_early(arrival);
            expired.orphans += 1;
        }
        self.counts.expired += expired.dropped;
        self.counts.negative += expired.negatives;
        self.counts.orphan += expired.orphans;
        self.changes += u64::from(expired != Expired::default());
        self.settle();
        expired
    }

    /// Ends the waiting of rows of one segment that are older than `before`.
    fn expire_segment(&mut self, id: u64, before: i64, expired: &mut Expired) {
        let Some(segment) = self.segments.get(&id) else { return };
        let due = |&place: &u64| {
            let old = segment.row(place).is_some_and(|row| segment.time_ms(row) < before);
            old && !self.labelled.contains_key(&(id * SEGMENT_ROWS + place))
        };
        for place in segment.live_places().filter(due).collect::<Vec<_>>() {
            let sequence = id * SEGMENT_ROWS + place;
            match self.config.missing {
                Missing::Drop => {
                    expired.dropped += 1;
                    self.forget(sequence, Fate::Gone);
                }
                Missing::Negative => {
                    expired.negatives += 1;
                    self.time_out(sequence);
                }
            }
        }
        let labelled = &self.labelled;
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.find_oldest(|place| !labelled.contains_key(&(id * SEGMENT_ROWS + place)));
        }
    }

    /// Gives a row label 0, available at the end of its horizon.
    fn time_out(&mut self, sequence: u64) {
        let Some(time_ms) = self.time_ms(sequence) else { return };
        let pending = Pending {
            sequence,
            value: 0.0,
            superseded: false,
            timed_out: true,
        };
        let available_ms = time_ms.saturating_add(self.config.horizon_ms);
        self.labelled.insert(sequence, self.pending.push(available_ms, pending));
    }

    /// Hands out the rows whose labels are available at the watermark, in order of (`available_ms`, arrival).
    pub fn drain(&mut self, watermark_ms: i64) -> Matured {
        let mut due = Vec::new();
        while let Some((available_ms, arrival)) = self.pending.first()
            && available_ms <= watermark_ms
        {
            due.extend(self.pending.remove(arrival));
        }
        let matured = self.gather(&due);
        for (_, pending) in &due {
            self.labelled.remove(&pending.sequence);
            match (pending.superseded, pending.timed_out) {
                (true, _) => self.clear(pending.sequence),
                (false, true) => self.forget(pending.sequence, Fate::Gone),
                (false, false) => self.forget(pending.sequence, Fate::Matured),
            }
        }
        self.counts.matured += matured.len() as u64;
        self.changes += u64::from(!due.is_empty());
        self.settle();
        matured
    }

    /// The rows of labels.
    fn gather(&self, due: &[(i64, Pending)]) -> Matured {
        let mut matured = Matured::default();
        let mut picks = Vec::with_capacity(due.len());
        for (available_ms, pending) in due {
            let Some((segment, row)) = self.row(pending.sequence) else {
                continue;
            };
            let (score, weight, version) = segment.served(row);
            picks.push((segment.frame(), row));
            matured.labels.push(pending.value);
            matured.weights.push(weight);
            matured.scores.push(score);
            matured.versions.push(version);
            matured.time_ms.push(segment.time_ms(row));
            matured.available_ms.push(*available_ms);
            matured.shadow.push(segment.shadow(row));
        }
        matured.frame = Frame::gather(&picks);
        matured
    }

    /// The segment of a row that is still here, and its place in it.
    fn row(&self, sequence: u64) -> Option<(&Segment, usize)> {
        let segment = self.segments.get(&(sequence / SEGMENT_ROWS))?;
        Some((segment, segment.row(sequence % SEGMENT_ROWS)?))
    }

    fn time_ms(&self, sequence: u64) -> Option<i64> {
        self.row(sequence).map(|(segment, row)| segment.time_ms(row))
    }

    /// Takes a row out and remembers its key.
    fn forget(&mut self, sequence: u64, fate: Fate) {
        if let Some(segment) = self.segments.get(&(sequence / SEGMENT_ROWS))
            && let Some(row) = segment.row(sequence % SEGMENT_ROWS)
        {
            let key = segment.key(row);
            self.index.remove(key, sequence);
            self.recent.add(key, fate);
        }
        self.clear(sequence);
    }

    /// Takes a row out.
    fn clear(&mut self, sequence: u64) {
        let id = sequence / SEGMENT_ROWS;
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.clear(sequence % SEGMENT_ROWS);
            self.touched.insert(id);
        }
    }

    /// Frees what the rows that left in this call took.
    fn settle(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let Some(segment) = self.segments.get_mut(&id) else {
                continue;
            };
            if segment.is_full() && segment.live_rows() == 0 {
                self.segments.remove(&id);
            } else {
                segment.compact();
            }
        }
    }

    /// Bytes of the rows that wait and of their labels.
    fn bytes(&self) -> usize {
        self.segments.values().map(Segment::bytes).sum::<usize>() + self.pending.len() * PENDING_BYTES
    }

    /// Brings the rows back into their budget.
    fn evict(&mut self) {
        while self.bytes() > self.config.bytes_max
            && let Some((&id, _)) = self.segments.first_key_value()
        {
            self.evict_segment(id);
        }
    }

    /// The rows of a segment leave, labelled or not.
    fn evict_segment(&mut self, id: u64) {
        let Some(segment) = self.segments.get(&id) else { return };
        for place in segment.live_places().collect::<Vec<_>>() {
            let sequence = id * SEGMENT_ROWS + place;
            let arrival = self.labelled.remove(&sequence);
            let superseded = arrival
                .and_then(|arrival| self.pending.remove(arrival))
                .is_some_and(|(_, p)| p.superseded);
            if superseded {
                self.clear(sequence)
            } else {
                self.forget(sequence, Fate::Gone)
            }
            self.counts.evicted += 1;
        }
        self.segments.remove(&id);
        self.touched.remove(&id);
        // Places are never given twice, and a segment that left takes no more rows.
        self.next = self.next.max((id + 1) * SEGMENT_ROWS);
    }
}

/// Whether the row at a place has this key.
fn is_key<'a>(segments: &'a BTreeMap<u64, Segment>, key: &'a [u8]) -> impl Fn(u64) -> bool + 'a {
    move |sequence| {
        let segment = segments.get(&(sequence / SEGMENT_ROWS));
        segment.is_some_and(|segment| {
            segment
                .row(sequence % SEGMENT_ROWS)
                .is_some_and(|row| segment.key(row) == key)
        })
    }
}

mod state;
#[cfg(test)]
mod tests;
