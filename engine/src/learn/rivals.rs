//! Models that may take the place of the live version: the candidate of a job, and the champion before.

use std::ops::Range;
use std::sync::Arc;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::model::{Model, Scratch};

use super::contest::{Contest, Rival, Standing};
use crate::example::{Matured, VersionId};
use crate::settings::GateSettings;

/// A model that is scored in shadow. It is loaded anew after a restart.
pub struct Shadow {
    /// Hash of its artifact.
    pub artifact: String,
    model: Option<Arc<Model>>,
}

impl Shadow {
    pub(super) fn new(artifact: &str, model: Option<Arc<Model>>) -> Self {
        Self {
            artifact: artifact.to_owned(),
            model,
        }
    }

    /// Gives a restored one its model.
    pub fn set_model(&mut self, model: Arc<Model>) {
        self.model = Some(model);
    }

    /// The model, once it is loaded.
    #[must_use]
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.model.as_ref()
    }

    /// Its scores for labelled rows; none as long as it is not loaded.
    fn score(&self, rows: &Matured, dictionaries: &Dictionaries, scratch: &mut Scratch) -> Vec<f64> {
        let mut own = Vec::new();
        if let Some(model) = &self.model {
            model.score(&rows.frame, dictionaries, scratch, &mut own);
        }
        own
    }
}

/// The model of a job, under evidence.
pub struct Candidate {
    /// The job that made it.
    pub job: String,
    /// The model.
    pub shadow: Shadow,
    /// The evidence.
    pub contest: Contest,
    /// Rows of the buffer, by their number since the pipeline began, that came while it was trained and are still to be
    /// compared. Until then no block closes.
    pub(super) backlog: Range<u64>,
    /// Number of the middle one of the rows that it was trained on.
    pub(super) middle_row: u64,
    /// The alarm since which it is of a world that is gone.
    pub(super) superseded: Option<String>,
}

impl Candidate {
    pub(super) fn compare(
        &mut self,
        rows: &Matured,
        dictionaries: &Dictionaries,
        rival: &Rival<'_>,
        scratch: &mut Scratch,
    ) {
        let own = self.shadow.score(rows, dictionaries, scratch);
        self.contest.observe(rows, rival, |row| own.get(row).copied());
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_str(&self.job);
        out.put_str(&self.shadow.artifact);
        self.contest.write(out);
        out.put_u64(self.backlog.start);
        out.put_u64(self.backlog.end);
        out.put_u64(self.middle_row);
        out.put_u8(u8::from(self.superseded.is_some()));
        out.put_str(self.superseded.as_deref().unwrap_or_default());
    }

    pub(super) fn read(reader: &mut Reader<'_>, gate: &GateSettings) -> Result<Self, CodecError> {
        let (job, artifact) = (reader.str()?.to_owned(), reader.str()?.to_owned());
        let contest = Contest::read(reader, gate)?;
        let (start, end, middle_row) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let is_superseded = reader.u8()? == 1;
        let by = reader.str()?.to_owned();
        Ok(Self {
            job,
            shadow: Shadow::new(&artifact, None),
            contest,
            backlog: start..end,
            middle_row,
            superseded: is_superseded.then_some(by),
        })
    }
}

/// The champion before, frozen, that comes back by a pointer when the gate finds it better.
pub struct Former {
    /// The version.
    pub version: VersionId,
    /// Its name.
    pub name: String,
    /// The model.
    pub shadow: Shadow,
    /// Its contests with the live version.
    pub standing: Standing,
}

impl Former {
    pub(super) fn compare(
        &mut self,
        rows: &Matured,
        dictionaries: &Dictionaries,
        rival: &Rival<'_>,
        scratch: &mut Scratch,
    ) {
        if self.standing.contest().is_some() {
            let own = self.shadow.score(rows, dictionaries, scratch);
            self.standing.observe(rows, rival, |row| own.get(row).copied());
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.version.0);
        out.put_str(&self.name);
        out.put_str(&self.shadow.artifact);
        self.standing.write(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>, gate: &GateSettings) -> Result<Self, CodecError> {
        let version = VersionId(reader.u32()?);
        let (name, artifact) = (reader.str()?.to_owned(), reader.str()?.to_owned());
        Ok(Self {
            version,
            name,
            shadow: Shadow::new(&artifact, None),
            standing: Standing::read(reader, gate)?,
        })
    }
}
