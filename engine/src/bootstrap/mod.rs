//! Files of history for the first model, `bootstrap` of `[model]`: which files they are, their lines as rows of the
//! pipeline, and what `driftmill check` says about them. What becomes of the rows is decided in
//! [`daemon`](crate::daemon); nothing is read but before the first epoch of a pipeline.

mod files;
mod rows;
#[cfg(test)]
mod tests;

use std::path::Path;

use driftmill_connectors::ConnectError;

use crate::disk::{Disk, DiskError};
use crate::learn::{Gathered, History};
use crate::score::ScoreError;
use crate::settings::{BootstrapFiles, LabelsFrom, Plan, Settings};

use files::{HistoryFile, LineBatch, Lines, find};
use rows::RowReader;

pub use rows::LineCounts;

/// More bad lines than this share of all are an error: the files are of another kind.
pub const BAD_SHARE_MAX: f64 = 0.05;
/// Lines that `driftmill check` looks at.
const SAMPLE_LINES: usize = 1_000;

/// The history cannot be used. Each says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// No such files.
    #[error("{0}")]
    Files(String),
    /// A file that cannot be read.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// The codec.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The SQL, or a bug.
    #[error("{0}")]
    Score(#[from] ScoreError),
    /// Too many lines are no records.
    #[error(
        "{} of {} lines cannot be read, at most {} % may be bad; mend the files, or the schema of [source]: {}",
        .0.bad,
        .0.lines,
        BAD_SHARE_MAX * 100.0,
        .0.told.join("; ")
    )]
    Bad(LineCounts),
    /// No row has a label.
    #[error("none of {lines} lines is a row with a label: {label}")]
    NoLabels {
        /// Lines read.
        lines: u64,
        /// Where the label is looked for.
        label: String,
    },
    /// A bug.
    #[error("internal error while reading history: {0}; please report it")]
    Internal(String),
}

impl BootstrapError {
    fn bug(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

/// A file that was read, to its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileRead {
    /// Its name, as the configuration has it.
    pub file: String,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: String,
    /// Its length.
    pub bytes: u64,
}

/// All that the files hold.
pub struct Read {
    /// The files, in order.
    pub files: Vec<FileRead>,
    /// What became of their lines.
    pub counts: LineCounts,
    /// The rows to learn from.
    pub history: History,
}

/// Reads all files, for the plan's labels, into `gathered`. `None` when `go_on` said no.
///
/// # Errors
/// Files that are not there or cannot be read, too many bad lines, or no label.
pub fn read(
    disk: &dyn Disk,
    files: &BootstrapFiles,
    plan: &Plan,
    mut gathered: Gathered,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Read>, BootstrapError> {
    let from = labels_from(plan)?;
    let mut reader = RowReader::new(plan, from)?;
    let mut done = Vec::new();
    for file in find(disk, files).map_err(BootstrapError::Files)? {
        let mut lines = Lines::new(disk, &file);
        while let Some(batch) = lines.next()? {
            if !go_on() {
                return Ok(None);
            }
            let rows = reader.take(&file.shown, &batch)?;
            gathered
                .push(&rows, &reader.dictionaries)
                .map_err(BootstrapError::Internal)?;
        }
        done.push(FileRead {
            blake3: lines.hash(),
            bytes: lines.bytes(),
            file: file.shown,
        });
    }
    let RowReader {
        dictionaries, counts, ..
    } = reader;
    Ok(Some(Read {
        files: done,
        history: gathered.finish(&dictionaries),
        counts: checked(counts, from, plan)?,
    }))
}

/// What `driftmill check` has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Names of the files, in order.
    pub files: Vec<String>,
    /// Their length in bytes.
    pub bytes: u64,
    /// What became of the first lines.
    pub counts: LineCounts,
}

/// Looks at the files, and at their first lines.
///
/// # Errors
/// As [`read`].
pub fn look(disk: &dyn Disk, files: &BootstrapFiles, plan: &Plan) -> Result<Looked, BootstrapError> {
    let from = labels_from(plan)?;
    let mut reader = RowReader::new(plan, from)?;
    let found = find(disk, files).map_err(BootstrapError::Files)?;
    for file in &found {
        let read = reader.counts.lines as usize;
        if read >= SAMPLE_LINES {
            break;
        }
        sample(disk, file, SAMPLE_LINES - read, &mut |batch| {
            reader.take(&file.shown, batch).map(drop)
        })?;
    }
    Ok(Looked {
        bytes: found.iter().map(|file| file.bytes).sum(),
        files: found.into_iter().map(|file| file.shown).collect(),
        counts: checked(reader.counts, from, plan)?,
    })
}

/// Gives the first lines of a file.
fn sample(
    disk: &dyn Disk,
    file: &HistoryFile,
    lines_max: usize,
    take: &mut dyn FnMut(&LineBatch) -> Result<(), BootstrapError>,
) -> Result<(), BootstrapError> {
    let mut lines = Lines::new(disk, file);
    let mut left = lines_max;
    while left > 0 {
        let Some(mut batch) = lines.next()? else { break };
        batch.truncate(left);
        left = left.saturating_sub(batch.len().max(1));
        take(&batch)?;
    }
    Ok(())
}

fn labels_from(plan: &Plan) -> Result<&LabelsFrom, BootstrapError> {
    let learn = plan.learn.as_ref();
    learn
        .map(|learn| &learn.labels.from)
        .ok_or_else(|| BootstrapError::bug("a pipeline without labels"))
}

/// The counts, if the files can be used.
fn checked(counts: LineCounts, from: &LabelsFrom, plan: &Plan) -> Result<LineCounts, BootstrapError> {
    if counts.bad as f64 > counts.lines as f64 * BAD_SHARE_MAX {
        return Err(BootstrapError::Bad(counts));
    }
    if counts.labelled > 0 {
        return Ok(counts);
    }
    let label = match from {
        LabelsFrom::Columns { label, .. } => format!(
            "column `{}` of the features SQL is null or neither 0 nor 1",
            plan.transform.output_schema().field(*label).name()
        ),
        LabelsFrom::Topic { label, .. } => {
            format!("the records have to hold `{label}`, the column that [labels] reads on its topic")
        }
    };
    let lines = counts.lines;
    Err(BootstrapError::NoLabels { lines, label })
}

/// What is to be said of the files before a start: a line for people, or what is wrong. A pipeline that has a state needs
/// them no more: then what is wrong is only a warning.
#[must_use]
pub fn examine(disk: &dyn Disk, settings: &Settings) -> Option<Examined> {
    let files = settings.plan.model.as_ref()?.bootstrap.as_ref()?;
    Some(match look(disk, files, &settings.plan) {
        Ok(looked) => Examined::Fine(tell(&looked)),
        Err(error) if has_state(disk, &settings.pipeline.state_dir) => Examined::NotNeeded(format!(
            "{error} (the pipeline has a state, and does not read the files any more)"
        )),
        Err(error) => Examined::Wrong(error.to_string()),
    })
}

/// What `driftmill check` says of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// They can be used.
    Fine(String),
    /// They cannot, and nobody needs them.
    NotNeeded(String),
    /// They cannot, and a start needs them.
    Wrong(String),
}

fn has_state(disk: &dyn Disk, state_dir: &Path) -> bool {
    // A folder that is not there holds no snapshot.
    disk.names(&state_dir.join("snapshots"))
        .is_ok_and(|names| !names.is_empty())
}

fn tell(looked: &Looked) -> String {
    let LineCounts {
        lines,
        bad,
        told,
        filtered,
        unlabelled,
        labelled,
    } = &looked.counts;
    let files = match looked.files.as_slice() {
        [one] => one.clone(),
        [first, .., last] => format!("{} files, {first} to {last}", looked.files.len()),
        [] => "no file".to_owned(),
    };
    let mut text = format!(
        "bootstrap: {files}, {} bytes; of the first {lines} lines {labelled} are rows with a label, {unlabelled} have \
         none, {filtered} are left out by the SQL, {bad} cannot be read",
        looked.bytes
    );
    for line in told {
        text += "\n  ";
        text += line;
    }
    text
}
