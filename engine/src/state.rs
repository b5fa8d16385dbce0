//! The state of a pipeline: everything that the next epoch depends on besides its input. It changes only by whole
//! epochs, in [`PipelineState::apply`] (events) and by what the halves do, and never reads a clock.

use std::collections::BTreeMap;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

use crate::epoch_log::{Counts, Event};
use crate::example::VersionId;
use crate::intake::Stream;
use crate::learn::LearnHalf;
use crate::settings::Plan;

/// Most bytes of category strings of one column.
pub(crate) const DICTIONARY_BYTES_MAX: usize = 4 << 20;

/// A partition by names that outlive a change of the list of topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneName {
    /// The stream.
    pub stream: Stream,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// A model version that was live at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name, such as `v3`.
    pub name: String,
    /// Hash of its artifact in the registry; of the newest snapshot, where an online learner makes them.
    pub artifact: String,
    /// Epoch from which it was live first.
    pub since: u64,
    /// Where an online learner makes it.
    pub snapshot: Option<Snapshot>,
}

/// The newest snapshot of an online learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The last epoch that it had learned from.
    pub epoch: u64,
    /// Epoch from which the learner learns: another learner is another line.
    pub learner: u64,
}

impl Version {
    /// Name of what exactly serves: `v3`, or `v3@182204` where an online learner makes it.
    #[must_use]
    pub fn label(&self) -> String {
        match self.snapshot {
            Some(snapshot) => format!("{}@{}", self.name, snapshot.epoch),
            None => self.name.clone(),
        }
    }
}

/// The state after an epoch.
pub struct PipelineState {
    /// The last epoch applied; 0 before the first.
    pub epoch: u64,
    /// Chain hash of that epoch's record; empty before the first.
    pub chain: String,
    /// Hash of the plan in force.
    pub plan: String,
    /// Event time up to which records were seen, in milliseconds.
    pub watermark_ms: Option<i64>,
    /// Next offset of each partition.
    pub positions: BTreeMap<LaneName, i64>,
    /// Outcomes since the pipeline began.
    pub totals: Counts,
    /// Category codes of the features.
    pub dictionaries: Dictionaries,
    /// All versions; [`VersionId`] 1 is the first.
    pub versions: Vec<Version>,
    /// The live version.
    pub live: VersionId,
    /// The version that was live before it.
    pub previous: VersionId,
    /// The learn half, in a pipeline with labels.
    pub learn: Option<LearnHalf>,
    /// Epoch from which the dictionaries and the learn half are as they are: they begin anew where a plan changes
    /// them, and change stamps never go back under one name.
    since: u64,
}

const HEAD: &str = "pipeline";
const DICTIONARIES: &str = "dictionaries";
const LEARN: &str = "learn";

impl PipelineState {
    /// The state before the first epoch, under the plan `plan`.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            epoch: 0,
            chain: String::new(),
            plan: plan.hash.clone(),
            watermark_ms: None,
            positions: BTreeMap::new(),
            totals: Counts::default(),
            dictionaries: Dictionaries::new(&plan.columns.specs, DICTIONARY_BYTES_MAX),
            versions: Vec::new(),
            live: VersionId::default(),
            previous: VersionId::default(),
            learn: learn_half(plan),
            since: 0,
        }
    }

    /// The entry of a version.
    #[must_use]
    pub fn version(&self, id: VersionId) -> Option<&Version> {
        self.versions.get((id.0 as usize).checked_sub(1)?)
    }

    /// The name that the next version gets.
    #[must_use]
    pub fn next_version(&self) -> String {
        format!("v{}", self.versions.len() + 1)
    }

    /// Applies an event of epoch `epoch`, before its records are scored.
    ///
    /// # Errors
    /// An event that does not fit this state: the log is of another pipeline, or damaged.
    pub fn apply(&mut self, event: &Event, epoch: u64) -> Result<(), String> {
        match event {
            Event::Bootstrapped { version, artifact } => {
                self.make_live(version, artifact, epoch, None);
                Ok(())
            }
            Event::Promoted {
                version,
                artifact,
                snapshot,
                ..
            } => {
                let learner = self.since;
                let snapshot = snapshot.map(|epoch| Snapshot { epoch, learner });
                self.make_live(version, artifact, epoch, snapshot);
                Ok(())
            }
            Event::Published {
                version,
                artifact,
                snapshot,
            } => self.publish(version, artifact, *snapshot),
            Event::RolledBack { to, .. } => {
                let Some(index) = self.versions.iter().position(|known| known.name == *to) else {
                    return Err(format!("a rollback to the unknown version {to}"));
                };
                self.previous = self.live;
                self.live = VersionId(index as u32 + 1);
                Ok(())
            }
            Event::PlanSwitched { plan } => {
                plan.clone_into(&mut self.plan);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a version is made by the online learner of the present learn half.
    #[must_use]
    pub fn is_online(&self, version: &Version) -> bool {
        version.snapshot.is_some_and(|snapshot| snapshot.learner == self.since)
    }

    fn publish(&mut self, name: &str, artifact: &str, epoch: u64) -> Result<(), String> {
        let learner = self.since;
        let live = (self.live.0 as usize).checked_sub(1);
        match live.and_then(|index| self.versions.get_mut(index)) {
            Some(live) if live.name == name => {
                artifact.clone_into(&mut live.artifact);
                live.snapshot = Some(Snapshot { epoch, learner });
                Ok(())
            }
            _ => Err(format!("a snapshot of {name}, which is not live")),
        }
    }

    fn make_live(&mut self, version: &str, artifact: &str, epoch: u64, snapshot: Option<Snapshot>) {
        self.previous = self.live;
        self.versions.push(Version {
            name: version.to_owned(),
            artifact: artifact.to_owned(),
            since: epoch,
            snapshot,
        });
        self.live = VersionId(self.versions.len() as u32);
    }

    /// Another plan is in force from epoch `epoch` on. Dictionaries and learn half go on where their part of the plan
    /// is the same, and begin anew where it is not.
    pub fn switch(&mut self, old: &Plan, new: &Plan, epoch: u64) {
        let same_features = old.columns.specs == new.columns.specs;
        let same_learning = format!("{:?}", old.learn) == format!("{:?}", new.learn);
        if same_features && same_learning {
            return;
        }
        self.since = epoch;
        self.learn = learn_half(new);
        self.dictionaries = Dictionaries::new(&new.columns.specs, DICTIONARY_BYTES_MAX);
        if old.learn.is_some() {
            tracing::warn!(
                epoch,
                "features or learning changed: waiting rows, buffer and detectors begin anew"
            );
        }
    }

    fn prefix(&self, part: &str) -> String {
        format!("{part}/{}/", self.since)
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.put_u64(self.epoch);
        out.put_str(&self.chain);
        out.put_str(&self.plan);
        out.put_u8(u8::from(self.watermark_ms.is_some()));
        out.put_u64(self.watermark_ms.unwrap_or_default() as u64);
        out.put_u64(self.positions.len() as u64);
        for (lane, position) in &self.positions {
            out.put_u8(u8::from(lane.stream == Stream::Labels));
            out.put_str(&lane.topic);
            out.put_u32(lane.partition as u32);
            out.put_u64(*position as u64);
        }
        for count in [
            self.totals.input,
            self.totals.scored,
            self.totals.filtered,
            self.totals.dead,
            self.totals.labels,
        ] {
            out.put_u64(count);
        }
        out.put_u64(self.versions.len() as u64);
        for version in &self.versions {
            out.put_str(&version.name);
            out.put_str(&version.artifact);
            out.put_u64(version.since);
            out.put_u8(u8::from(version.snapshot.is_some()));
            let snapshot = version.snapshot.unwrap_or(Snapshot { epoch: 0, learner: 0 });
            out.put_u64(snapshot.epoch);
            out.put_u64(snapshot.learner);
        }
        out.put_u32(self.live.0);
        out.put_u32(self.previous.0);
        out.put_u64(self.since);
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.epoch = reader.u64()?;
        self.chain = reader.str()?.to_owned();
        self.plan = reader.str()?.to_owned();
        let known = reader.u8()? == 1;
        let watermark = reader.u64()? as i64;
        self.watermark_ms = known.then_some(watermark);
        self.positions.clear();
        for _ in 0..reader.count(17)? {
            let stream = if reader.u8()? == 1 {
                Stream::Labels
            } else {
                Stream::Source
            };
            let lane = LaneName {
                stream,
                topic: reader.str()?.to_owned(),
                partition: reader.u32()? as i32,
            };
            self.positions.insert(lane, reader.u64()? as i64);
        }
        let totals = &mut self.totals;
        for count in [
            &mut totals.input,
            &mut totals.scored,
            &mut totals.filtered,
            &mut totals.dead,
            &mut totals.labels,
        ] {
            *count = reader.u64()?;
        }
        self.versions.clear();
        for _ in 0..reader.count(16)? {
            let name = reader.str()?.to_owned();
            let artifact = reader.str()?.to_owned();
            let (since, is_online) = (reader.u64()?, reader.u8()? == 1);
            let (epoch, learner) = (reader.u64()?, reader.u64()?);
            self.versions.push(Version {
                name,
                artifact,
                since,
                snapshot: is_online.then_some(Snapshot { epoch, learner }),
            });
        }
        self.live = VersionId(reader.u32()?);
        self.previous = VersionId(reader.u32()?);
        self.since = reader.u64()?;
        if self.live.0 as usize > self.versions.len() || self.previous.0 as usize > self.versions.len() {
            return Err(reader.error("a version that is not in the table"));
        }
        reader.finish()
    }
}

impl State for PipelineState {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        // The head changes with every epoch, so the epoch is its stamp.
        chunks.chunk(HEAD, self.epoch, &mut |out| self.write_head(out));
        self.dictionaries
            .save(&mut Within::new(&self.prefix(DICTIONARIES), chunks));
        if let Some(learn) = &self.learn {
            learn.save(&mut Within::new(&self.prefix(LEARN), chunks));
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let reader = open(chunks, HEAD)?;
        self.read_head(reader).map_err(|error| StateError::of(HEAD, error))?;
        let prefix = self.prefix(DICTIONARIES);
        self.dictionaries
            .restore(&WithinSource::new(&prefix, chunks))
            .map_err(|error| error.within(&prefix))?;
        let prefix = self.prefix(LEARN);
        match &mut self.learn {
            Some(learn) => learn
                .restore(&WithinSource::new(&prefix, chunks))
                .map_err(|error| error.within(&prefix)),
            None => Ok(()),
        }
    }
}

fn learn_half(plan: &Plan) -> Option<LearnHalf> {
    let (learn, model) = (plan.learn.as_ref()?, plan.model.as_ref()?);
    let encoder = plan.columns.encoder.as_ref()?;
    Some(LearnHalf::new(
        learn,
        &plan.columns.specs,
        encoder,
        model.task,
        plan.seed,
    ))
}
