//! A model as bytes: Driftmill's own format, which holds numbers and text and can carry no code.
//!
//! ```text
//! "DMA1"  version u32  sections  blake3 of all that stands before (32 bytes)
//! section: name (4 bytes)  length u64  bytes
//! LINE    lineage, a JSON object
//! TASK    0 binary, 1 multiclass, 2 regression, 3 anomaly; classes u32; has a threshold u8; threshold f64
//! ENCO    columns and their encoders      (encoders/columns.rs)
//! SCOR    name and parameters of the scorer      (scorers/)
//! ```
//! A model that combines members has, in place of `ENCO`,
//! ```text
//! TEAM    number of members u64; for each its task as in TASK, then
//!         0 u8, columns and encoders, scorer
//!         1 u8, scorer: the encoder is that of the member before
//!         2 u8, members as in TEAM, combiner
//! ```
//! All numbers are little endian. Sections stand in this order. The hash is verified before anything else is looked
//! at; the id of an artifact is the BLAKE3 hash of the whole file (what `b3sum` prints).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Task;
use crate::encoders::ColumnsEncoder;
use crate::model::{Body, DEPTH_MAX, MEMBERS_MAX, Model};
use crate::scorers::{read_scorer, write_scorer};

/// What every artifact begins with.
const MAGIC: &[u8; 4] = b"DMA1";
/// The version that this binary writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// Bytes of the hash at the end.
const HASH_BYTES: usize = 32;
/// Classes that a task may have.
const CLASSES_MAX: u32 = 65_536;

/// A model and where it comes from.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The model.
    pub model: Arc<Model>,
    /// Job, segments, plan, code, parent: what the registry keeps and `reproduce` needs.
    pub lineage: Map<String, Value>,
}

/// Why bytes are not taken for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// It does not begin as artifacts do.
    #[error("this is not a Driftmill artifact: it does not begin with `DMA1`; check that the file is the right one")]
    NotAnArtifact,
    /// It ends too early, or bytes were changed.
    #[error("the artifact is damaged: its hash does not match its content; fetch or train it again")]
    Damaged,
    /// A format that this binary does not read.
    #[error(
        "the artifact has format version {0}, this binary reads version 1; use the binary that wrote it or a newer one"
    )]
    Version(u32),
    /// Content that no writer of this version makes, or a part that this binary does not know.
    #[error("the artifact's section `{section}` cannot be read: {source}")]
    Section {
        /// The section.
        section: &'static str,
        /// What is wrong, and where.
        source: CodecError,
    },
}

impl Artifact {
    /// The artifact as bytes. The same model and lineage make the same bytes.
    #[must_use]
    pub fn write(model: &Model, lineage: &Map<String, Value>) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u32(VERSION);
        section(&mut out, b"LINE", |out| {
            out.extend_from_slice(Value::Object(lineage.clone()).to_string().as_bytes())
        });
        section(&mut out, b"TASK", |out| write_task(model, out));
        match model.body() {
            Body::Scored { encoder, scorer } => {
                section(&mut out, b"ENCO", |out| encoder.write(out));
                section(&mut out, b"SCOR", |out| write_scorer(scorer.as_ref(), out));
            }
            Body::Combined { members, combiner } => {
                section(&mut out, b"TEAM", |out| write_members(members, out));
                section(&mut out, b"SCOR", |out| write_scorer(combiner.as_ref(), out));
            }
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// The id of an artifact's bytes: their BLAKE3 hash, 64 hexadecimal digits.
    #[must_use]
    pub fn id(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    /// Verifies the hash, then reads the artifact.
    ///
    /// # Errors
    /// Bytes that are damaged, of another format or version, or name a part that this binary does not have. Never
    /// panics.
    pub fn read(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if !bytes.starts_with(MAGIC) {
            return Err(ArtifactError::NotAnArtifact);
        }
        let (content, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(ArtifactError::Damaged)?;
        if blake3::hash(content) != blake3::Hash::from_bytes(*hash) {
            return Err(ArtifactError::Damaged);
        }
        let mut reader = Reader::new(content.get(MAGIC.len()..).unwrap_or_default());
        let version = reader.u32().map_err(|_| ArtifactError::Damaged)?;
        if version != VERSION {
            return Err(ArtifactError::Version(version));
        }
        let lineage = read_section(&mut reader, "LINE", read_lineage)?;
        let (task, threshold) = read_section(&mut reader, "TASK", read_task)?;
        let parts = if reader.clone().take(4).is_ok_and(|name| name == b"TEAM") {
            Parts::Members(read_section(&mut reader, "TEAM", |reader| read_members(reader, 1))?)
        } else {
            Parts::Encoder(Arc::new(read_section(&mut reader, "ENCO", ColumnsEncoder::read)?))
        };
        let model = read_section(&mut reader, "SCOR", |reader| {
            let scorer = read_scorer(reader)?;
            let model = match parts {
                Parts::Encoder(encoder) => Model::new(task, encoder, scorer),
                Parts::Members(members) => Model::combined(task, members, scorer),
            };
            Ok(model.map_err(|what| reader.error(what))?.with_threshold(threshold))
        })?;
        reader.finish().map_err(|source| ArtifactError::Section {
            section: "SCOR",
            source,
        })?;
        Ok(Self {
            model: Arc::new(model),
            lineage,
        })
    }
}

/// What stands before a scorer.
enum Parts {
    Encoder(Arc<ColumnsEncoder>),
    Members(Vec<Arc<Model>>),
}

/// How a member begins: with an encoder of its own, with that of the member before, or with members.
const OWN: u8 = 0;
const SHARED: u8 = 1;
const TEAM: u8 = 2;

/// Appends the members of a team.
pub(crate) fn write_members(members: &[Arc<Model>], out: &mut Vec<u8>) {
    out.put_u64(members.len() as u64);
    let mut last: Option<&Arc<ColumnsEncoder>> = None;
    for member in members {
        write_task(member, out);
        match member.body() {
            Body::Scored { encoder, scorer } => {
                if last.is_some_and(|last| Arc::ptr_eq(last, encoder)) {
                    out.put_u8(SHARED);
                } else {
                    out.put_u8(OWN);
                    out.put_block(|out| encoder.write(out));
                }
                last = Some(encoder);
                write_scorer(scorer.as_ref(), out);
            }
            Body::Combined { members, combiner } => {
                last = None;
                out.put_u8(TEAM);
                write_members(members, out);
                write_scorer(combiner.as_ref(), out);
            }
        }
    }
}

/// Reads what [`write_members`] wrote, teams in teams to [`DEPTH_MAX`].
pub(crate) fn read_members(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<Arc<Model>>, CodecError> {
    let count = reader.count(15)?;
    if count > MEMBERS_MAX || depth > DEPTH_MAX {
        return Err(reader.error(format!("{count} members, {depth} deep, are too many")));
    }
    let mut members = Vec::with_capacity(count);
    let mut last: Option<Arc<ColumnsEncoder>> = None;
    for _ in 0..count {
        let (task, threshold) = read_task(reader)?;
        let parts = match (reader.u8()?, last.take()) {
            (OWN, _) => {
                let mut block = reader.block()?;
                let encoder = ColumnsEncoder::read(&mut block)?;
                block.finish()?;
                Parts::Encoder(Arc::new(encoder))
            }
            (SHARED, Some(encoder)) => Parts::Encoder(encoder),
            (TEAM, _) => Parts::Members(read_members(reader, depth + 1)?),
            _ => return Err(reader.error("a member has neither an encoder nor members")),
        };
        let scorer = read_scorer(reader)?;
        let model = match parts {
            Parts::Encoder(encoder) => {
                last = Some(Arc::clone(&encoder));
                Model::new(task, encoder, scorer)
            }
            Parts::Members(inner) => Model::combined(task, inner, scorer),
        };
        let model = model.map_err(|what| reader.error(what))?.with_threshold(threshold);
        members.push(Arc::new(model));
    }
    Ok(members)
}

/// Appends a section.
fn section(out: &mut Vec<u8>, name: &[u8; 4], write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name);
    out.put_block(write);
}

/// Reads the next section, which must have this name, to its end.
fn read_section<'a, T>(
    reader: &mut Reader<'a>,
    name: &'static str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, CodecError>,
) -> Result<T, ArtifactError> {
    let result = (|| {
        let found = reader.take(4)?;
        if found != name.as_bytes() {
            return Err(reader.error(format!("section `{}` stands in its place", found.escape_ascii())));
        }
        let mut block = reader.block()?;
        let value = read(&mut block)?;
        block.finish()?;
        Ok(value)
    })();
    result.map_err(|source| ArtifactError::Section { section: name, source })
}

/// Reads the lineage.
fn read_lineage(reader: &mut Reader<'_>) -> Result<Map<String, Value>, CodecError> {
    let bytes = reader.take(reader.left())?;
    serde_json::from_slice(bytes).map_err(|error| reader.error(format!("the lineage is not a JSON object: {error}")))
}

/// Writes the task and the threshold.
fn write_task(model: &Model, out: &mut Vec<u8>) {
    let (tag, classes) = match model.task() {
        Task::Binary => (0, 0),
        Task::Multiclass { classes } => (1, classes),
        Task::Regression => (2, 0),
        Task::Anomaly => (3, 0),
    };
    out.put_u8(tag);
    out.put_u32(classes);
    out.put_u8(u8::from(model.threshold().is_some()));
    out.put_f64(model.threshold().unwrap_or_default());
}

/// Reads the task and the threshold.
fn read_task(reader: &mut Reader<'_>) -> Result<(Task, Option<f64>), CodecError> {
    let task = match (reader.u8()?, reader.u32()?) {
        (0, 0) => Task::Binary,
        (1, classes @ 2..=CLASSES_MAX) => Task::Multiclass { classes },
        (2, 0) => Task::Regression,
        (3, 0) => Task::Anomaly,
        (tag, classes) => return Err(reader.error(format!("{tag} with {classes} classes is not a task"))),
    };
    let threshold = match (reader.u8()?, reader.finite()?) {
        (0, _) => None,
        (1, threshold) => Some(threshold),
        _ => return Err(reader.error("there is neither a threshold nor none")),
    };
    Ok((task, threshold))
}
