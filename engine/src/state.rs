//! The state of a pipeline: everything that the next epoch depends on besides its input. It changes only by whole
//! epochs, in [`PipelineState::begin`] (events) and by what the halves do, and never reads a clock.

use std::collections::BTreeMap;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::ColumnSpec;
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

use crate::epoch_log::{Counts, Event};
use crate::example::VersionId;
use crate::intake::Stream;

/// Most bytes of category strings of one column.
const DICTIONARY_BYTES_MAX: usize = 4 << 20;

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
    /// Hash of its artifact in the registry.
    pub artifact: String,
    /// Epoch from which it was live first.
    pub since: u64,
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
}

const HEAD: &str = "pipeline";
const DICTIONARIES: &str = "dictionaries/";

impl PipelineState {
    /// The state before the first epoch, under the plan `plan` with these feature columns.
    #[must_use]
    pub fn new(plan: &str, features: &[ColumnSpec]) -> Self {
        Self {
            epoch: 0,
            chain: String::new(),
            plan: plan.to_owned(),
            watermark_ms: None,
            positions: BTreeMap::new(),
            totals: Counts::default(),
            dictionaries: Dictionaries::new(features, DICTIONARY_BYTES_MAX),
            versions: Vec::new(),
            live: VersionId::default(),
            previous: VersionId::default(),
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
            Event::Bootstrapped { version, artifact } | Event::Promoted { version, artifact, .. } => {
                self.make_live(version, artifact, epoch);
                Ok(())
            }
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

    fn make_live(&mut self, version: &str, artifact: &str, epoch: u64) {
        self.previous = self.live;
        self.versions.push(Version { name: version.to_owned(), artifact: artifact.to_owned(), since: epoch });
        self.live = VersionId(self.versions.len() as u32);
    }

    /// Begins the dictionaries anew: the feature columns are others.
    pub fn replace_features(&mut self, features: &[ColumnSpec]) {
        self.dictionaries = Dictionaries::new(features, DICTIONARY_BYTES_MAX);
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
        }
        out.put_u32(self.live.0);
        out.put_u32(self.previous.0);
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
            let stream = if reader.u8()? == 1 { Stream::Labels } else { Stream::Source };
            let lane = LaneName { stream, topic: reader.str()?.to_owned(), partition: reader.u32()? as i32 };
            self.positions.insert(lane, reader.u64()? as i64);
        }
        let totals = &mut self.totals;
        for count in
            [&mut totals.input, &mut totals.scored, &mut totals.filtered, &mut totals.dead, &mut totals.labels]
        {
            *count = reader.u64()?;
        }
        self.versions.clear();
        for _ in 0..reader.count(16)? {
            let name = reader.str()?.to_owned();
            let artifact = reader.str()?.to_owned();
            self.versions.push(Version { name, artifact, since: reader.u64()? });
        }
        self.live = VersionId(reader.u32()?);
        self.previous = VersionId(reader.u32()?);
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
        self.dictionaries.save(&mut Within::new(DICTIONARIES, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let reader = open(chunks, HEAD)?;
        self.read_head(reader).map_err(|error| StateError::of(HEAD, error))?;
        self.dictionaries
            .restore(&WithinSource::new(DICTIONARIES, chunks))
            .map_err(|error| error.within(DICTIONARIES))
    }
}
