//! The online learner in shadow: it learns from every row that passed the rules of quality, produces no output, and
//! gives snapshots when its line is live.
//!
//! What it is worth is judged by what it would have served: as long as another version is live, a snapshot of it is
//! taken as often as one would be published, and scores the rows when they are served, before their labels are known.

use std::sync::Arc;

use driftmill_models::artifact::Artifact;
use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::contracts::{Labelled, Learner};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::evidence::Faded;
use driftmill_models::evidence::gate::prior_loss;
use driftmill_models::frame::Frame;
use driftmill_models::model::{Model, Scratch};
use driftmill_models::state::{ChunkSource, ChunkVisitor, State as _, StateError, Within, WithinSource};
use serde_json::Map;

use super::contest::{Begin, Rival, Standing};
use crate::example::Matured;
use crate::settings::{GateSettings, OnlineSettings};

const LEARNER: &str = "online/learner/";
const SHADOW: &str = "online/shadow";
/// Its name in reasons.
const NAME: &str = "the online learner";

/// The learner, and where its line stands.
pub struct Online {
    settings: OnlineSettings,
    learner: Box<dyn Learner>,
    /// Whether the live version is of its line.
    is_live: bool,
    /// An operator has gone back from it: it neither competes nor publishes.
    is_barred: bool,
    /// Against the live version, while that is of another line.
    standing: Standing,
    /// Event time of the last snapshot, in shadow or published, ms.
    snapshot_ms: i64,
    /// Rows that this snapshot had learned from.
    snapshot_seen: u64,
    /// Snapshots taken in shadow.
    shadows: u64,
    /// The last of them, while another version is live.
    shadow: Option<Arc<Model>>,
    /// The learner against its own published snapshot.
    faded: Faded,
    predictions: Vec<f64>,
}

impl Online {
    pub(super) fn new(settings: &OnlineSettings, learner: Box<dyn Learner>) -> Self {
        Self {
            settings: settings.clone(),
            learner,
            is_live: false,
            is_barred: false,
            standing: Standing::default(),
            snapshot_ms: i64::MIN,
            snapshot_seen: 0,
            shadows: 0,
            shadow: None,
            faded: Faded::new(),
            predictions: Vec::new(),
        }
    }

    /// What it would serve for these rows; nothing while its line is live, or nothing can be said.
    pub(super) fn serve(&self, frame: &Frame, dictionaries: &Dictionaries, scratch: &mut Scratch) -> Vec<f64> {
        let mut scores = Vec::new();
        if let Some(shadow) = &self.shadow {
            shadow.score(frame, dictionaries, scratch, &mut scores);
        }
        scores
    }

    /// Learns from the rows, in order. What its snapshots served for them is compared with `rival`.
    pub(super) fn learn(&mut self, rows: &Matured, dictionaries: &Dictionaries, rival: &Rival<'_>) {
        let labelled = Labelled {
            frame: &rows.frame,
            dictionaries,
            labels: &rows.labels,
            weights: &rows.weights,
        };
        self.learner.learn(labelled, Some(&mut self.predictions));
        // Rows that were served before there was a snapshot have no score of it.
        let served = |row: usize| Some(rows.shadow[row]).filter(|score| !score.is_nan());
        self.standing.observe(rows, rival, served);
        if let (true, Rival::Live(scores)) = (self.is_live, rival) {
            for ((&serving, &own), &label) in scores.iter().zip(&self.predictions).zip(&rows.labels) {
                self.faded.push(prior_loss(serving, label), prior_loss(own, label));
            }
        }
    }

    /// Closes blocks, takes a snapshot in shadow when it is time, and begins a contest where none is under way. Whether
    /// one began.
    pub(super) fn advance(&mut self, matured_until_ms: i64, begin: Begin, competes: bool, gate: &GateSettings) -> bool {
        self.standing.advance(matured_until_ms);
        if self.is_live || self.is_barred || !self.is_warm() {
            return false;
        }
        if self.is_due(begin.now_ms) {
            self.shadow = self.learner.publish();
            self.shadows += 1;
            self.snapshot_taken(begin.now_ms);
        }
        competes && self.shadow.is_some() && self.standing.begin(NAME, begin, gate)
    }

    fn is_warm(&self) -> bool {
        self.learner.seen() >= self.settings.rows_min.max(1)
    }

    fn is_due(&self, watermark_ms: i64) -> bool {
        watermark_ms.saturating_sub(self.snapshot_ms) >= self.settings.publish_every_ms
            && self.learner.seen() > self.snapshot_seen
    }

    fn snapshot_taken(&mut self, watermark_ms: i64) {
        self.snapshot_ms = watermark_ms;
        self.snapshot_seen = self.learner.seen();
    }

    /// The loss of the live version has changed.
    pub(super) fn alarm(&mut self) {
        self.standing.alarm();
    }

    /// Whether a new snapshot should go live: it is time, there is something new, and the fast gate lets it go.
    pub(super) fn publishes(&self, watermark_ms: i64) -> bool {
        self.is_live && self.is_due(watermark_ms) && self.held_back().is_none()
    }

    /// Why no snapshot goes out, when the fast gate holds them back.
    #[must_use]
    pub fn held_back(&self) -> Option<String> {
        self.faded.held_back().filter(|_| self.is_live)
    }

    /// A snapshot of the learner as it is.
    pub fn publish(&mut self) -> Option<Arc<Model>> {
        self.learner.publish()
    }

    /// A snapshot has gone live.
    pub(super) fn published(&mut self, watermark_ms: i64) {
        self.snapshot_taken(watermark_ms);
        self.faded.begin_anew();
    }

    /// Another version is live, of this line or of another. `anew` when it is a model that never was live: the error
    /// that the gate may make is divided anew.
    pub(super) fn new_champion(&mut self, is_live: bool, anew: bool, watermark_ms: i64) {
        self.is_live = is_live;
        self.is_barred &= !is_live;
        self.standing.leave();
        if anew {
            self.standing = Standing::default();
        }
        self.shadow = None;
        self.published(watermark_ms);
    }

    /// Bars it, or lets it compete again.
    pub(super) fn bar(&mut self, barred: bool) {
        self.is_barred = barred;
        self.standing.leave();
    }

    pub(super) fn reject(&mut self, now_ms: i64, gate: &GateSettings) {
        self.standing.reject(now_ms, gate);
    }

    /// Whether the live version is of its line.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Whether an operator has gone back from it.
    #[must_use]
    pub fn is_barred(&self) -> bool {
        self.is_barred
    }

    /// Its contests with the live version.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What it is made from.
    #[must_use]
    pub fn settings(&self) -> &OnlineSettings {
        &self.settings
    }

    /// Rows that it has learned from.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.learner.seen()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.learner.bytes()
    }

    /// Event time of the last snapshot, ms; `i64::MIN` before.
    #[must_use]
    pub fn snapshot_ms(&self) -> i64 {
        self.snapshot_ms
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.is_live));
        out.put_u8(u8::from(self.is_barred));
        out.put_u64(self.snapshot_ms.cast_unsigned());
        out.put_u64(self.snapshot_seen);
        out.put_u64(self.shadows);
        out.put_u8(u8::from(self.shadow.is_some()));
        self.faded.write(out);
        self.standing.write(out);
    }

    /// Reads what [`Online::write`] wrote; learner, snapshot and evidence come by [`Online::restore_chunks`].
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, gate: &GateSettings) -> Result<bool, CodecError> {
        self.is_live = reader.u8()? == 1;
        self.is_barred = reader.u8()? == 1;
        self.snapshot_ms = reader.u64()?.cast_signed();
        self.snapshot_seen = reader.u64()?;
        self.shadows = reader.u64()?;
        let has_shadow = reader.u8()? == 1;
        self.faded = Faded::read(reader)?;
        self.standing = Standing::read(reader, gate)?;
        Ok(has_shadow)
    }

    pub(super) fn save_chunks(&self, chunks: &mut dyn ChunkVisitor) {
        self.learner.save(&mut Within::new(LEARNER, chunks));
        if let Some(shadow) = &self.shadow {
            chunks.chunk(SHADOW, self.shadows, &mut |out| {
                out.extend_from_slice(&Artifact::write(shadow, &Map::new()));
            });
        }
        self.standing.save_pairs(chunks);
    }

    pub(super) fn restore_chunks(&mut self, chunks: &dyn ChunkSource, has_shadow: bool) -> Result<(), StateError> {
        self.learner
            .restore(&WithinSource::new(LEARNER, chunks))
            .map_err(|error| error.within(LEARNER))?;
        self.shadow = None;
        if has_shadow {
            let bytes = chunks
                .chunk(SHADOW)
                .ok_or_else(|| StateError::of(SHADOW, "is missing"))?;
            let read = Artifact::read(bytes).map_err(|error| StateError::of(SHADOW, error))?;
            self.shadow = Some(read.model);
        }
        self.standing.restore_pairs(chunks)
    }
}
