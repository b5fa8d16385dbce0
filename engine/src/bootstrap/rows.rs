//! From lines of history to labelled rows, as the stream would have made them: the source's codec and schema, the
//! pipeline's SQL, its columns and its labels.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, TimestampMillisecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Schema};
use driftmill_connectors::{BadRecord, Decoder};
use driftmill_models::dictionary::Dictionaries;

use super::BootstrapError;
use super::files::{LINE_BYTES_MAX, LineBatch};
use crate::example::{Label, Matured, VersionId};
use crate::learn::{binary, labels_in_record};
use crate::score::{event_times, features, good_rows, original, weights};
use crate::settings::{LabelsFrom, Plan};
use crate::state::DICTIONARY_BYTES_MAX;

/// Bad lines that are told one by one.
const TOLD_MAX: usize = 5;

/// What became of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that are not blank.
    pub lines: u64,
    /// Lines that are no record: each is told with its reason, as long as there are few.
    pub bad: u64,
    /// The first of them, `FILE:LINE  reason`.
    pub told: Vec<String>,
    /// Records that the SQL left out.
    pub filtered: u64,
    /// Rows without a label.
    pub unlabelled: u64,
    /// Rows with one.
    pub labelled: u64,
}

impl LineCounts {
    fn bad(&mut self, file: &str, line: u64, reason: &str) {
        self.bad += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{file}:{line}  {reason}"));
        }
    }
}

/// Where a row's label is looked for.
enum LabelAt {
    /// In columns of the SQL.
    Sql { label: usize, available_at: Option<usize> },
    /// In a column of the record, by its place among those that are decoded: in the stream it comes on another topic.
    Record { name: String, place: usize },
}

/// Makes rows of lines.
pub(super) struct RowReader<'a> {
    plan: &'a Plan,
    decoder: Box<dyn Decoder>,
    /// How many of the decoded columns the SQL reads.
    read: usize,
    label_at: LabelAt,
    /// The categories of the rows.
    pub(super) dictionaries: Dictionaries,
    pub(super) counts: LineCounts,
    /// Number of the next row: its time, where rows have none of their own.
    next: i64,
}

impl<'a> RowReader<'a> {
    /// A reader for the records of `plan`, whose labels come `from` there.
    ///
    /// # Errors
    /// A type that the codec does not carry.
    pub(super) fn new(plan: &'a Plan, from: &LabelsFrom) -> Result<Self, BootstrapError> {
        let read = plan.transform.read_schema();
        let mut fields: Vec<_> = read.fields().iter().cloned().collect();
        let label_at = match from {
            LabelsFrom::Columns { label, available_at } => LabelAt::Sql {
                label: *label,
                available_at: *available_at,
            },
            LabelsFrom::Topic { schema, label, .. } => {
                let place = read.index_of(label).ok().unwrap_or(fields.len());
                if place == fields.len() {
                    let field = schema.field_with_name(label);
                    fields.push(Arc::new(field.map_err(BootstrapError::bug)?.clone()));
                }
                LabelAt::Record {
                    name: label.clone(),
                    place,
                }
            }
        };
        let decoder = plan.source_codec.decoder(Arc::new(Schema::new(fields)))?;
        Ok(Self {
            plan,
            decoder,
            read: read.fields().len(),
            label_at,
            dictionaries: Dictionaries::new(&plan.columns.specs, DICTIONARY_BYTES_MAX),
            counts: LineCounts::default(),
            next: 0,
        })
    }

    /// The labelled rows of some lines of `file`, in order.
    ///
    /// # Errors
    /// The codec cannot go on, or a bug; never because of a line.
    pub(super) fn take(&mut self, file: &str, lines: &LineBatch) -> Result<Matured, BootstrapError> {
        self.counts.lines += (lines.len() + lines.too_long.len()) as u64;
        for &line in &lines.too_long {
            self.counts.bad(
                file,
                line,
                &format!("the line is longer than {} MiB", LINE_BYTES_MAX >> 20),
            );
        }
        let decoded = self.decoder.decode(&lines.payloads())?;
        for (line, bad) in &decoded.bad {
            self.counts.bad(file, lines.number(*line), &bad.to_string());
        }
        let good = good_rows(lines.len(), &decoded.bad);
        let line_of = |row: usize| lines.number(original(good.as_deref(), row));
        let read: Vec<usize> = (0..self.read).collect();
        let read = decoded.batch.project(&read).map_err(BootstrapError::bug)?;
        let transformed = self.plan.transform.apply(&read);
        for (row, reason) in &transformed.failed {
            self.counts.bad(file, line_of(*row), &format!("sql: {reason}"));
        }
        self.counts.filtered += transformed.filtered as u64;
        let batch = transformed.batch;
        // The decoded row of each row of the SQL.
        let decoded_row = |row: usize| transformed.rows.as_ref().map_or(row, |rows| rows[row] as usize);
        let times = event_times(&self.plan.columns, &batch)?;
        let mut labels = Labels::new(&self.label_at, &decoded.batch, &batch, times.as_ref())?;
        let mut rows = self.unlabelled(&batch)?;
        let mut picked = Vec::new();
        for row in 0..batch.num_rows() {
            let taken = match &times {
                Some(times) if times.is_null(row) => Err(bad("time", "the row has no event time")),
                _ => labels.of(row, decoded_row(row)),
            };
            match taken {
                Ok(None) => self.counts.unlabelled += 1,
                Ok(Some(label)) => {
                    // Without a time of its own the number of a row stands for it, and for the time of its label.
                    let time_ms = times.as_ref().map_or(self.next, |times| times.value(row));
                    rows.labels[row] = label.value;
                    rows.time_ms[row] = time_ms;
                    rows.available_ms[row] = times.as_ref().map_or(self.next, |_| label.available_ms);
                    self.next += 1;
                    picked.push(row);
                }
                Err(reason) => self.counts.bad(file, line_of(decoded_row(row)), &reason.to_string()),
            }
        }
        self.counts.labelled += picked.len() as u64;
        Ok(rows.gather(&picked))
    }

    /// The rows of a batch with their features; labels and times are still to come.
    fn unlabelled(&mut self, batch: &RecordBatch) -> Result<Matured, BootstrapError> {
        let rows = batch.num_rows();
        Ok(Matured {
            frame: features(&self.plan.columns, batch, &mut self.dictionaries)?,
            labels: vec![f64::NAN; rows],
            weights: weights(&self.plan.columns, batch)?,
            scores: vec![f64::NAN; rows],
            versions: vec![VersionId::default(); rows],
            time_ms: vec![0; rows],
            available_ms: vec![0; rows],
            shadow: vec![f64::NAN; rows],
        })
    }
}

/// The labels of a batch.
enum Labels {
    Sql(Vec<Option<Label>>),
    Record {
        name: String,
        values: datafusion::arrow::array::Float64Array,
        times: Option<TimestampMillisecondArray>,
    },
}

impl Labels {
    fn new(
        at: &LabelAt,
        decoded: &RecordBatch,
        batch: &RecordBatch,
        times: Option<&TimestampMillisecondArray>,
    ) -> Result<Self, BootstrapError> {
        Ok(match at {
            LabelAt::Sql { label, available_at } => {
                let times: Vec<i64> = match times {
                    Some(times) => times.values().to_vec(),
                    None => vec![0; batch.num_rows()],
                };
                Self::Sql(labels_in_record(batch, *label, *available_at, &times)?)
            }
            LabelAt::Record { name, place } => {
                let values = cast(decoded.column(*place), &DataType::Float64).map_err(BootstrapError::bug)?;
                Self::Record {
                    name: name.clone(),
                    values: values.as_primitive::<Float64Type>().clone(),
                    times: times.cloned(),
                }
            }
        })
    }

    /// The label of a row of the SQL, which was made of the decoded row `decoded`.
    fn of(&mut self, row: usize, decoded: usize) -> Result<Option<Label>, BadRecord> {
        match self {
            Self::Sql(labels) => Ok(labels.get_mut(row).and_then(Option::take)),
            Self::Record { values, .. } if values.is_null(decoded) => Ok(None),
            Self::Record { name, values, times } => match binary(Some(values.value(decoded))) {
                Some(value) => Ok(Some(Label {
                    value,
                    available_ms: times.as_ref().map_or(0, |times| times.value(row)),
                })),
                None => Err(BadRecord {
                    column: Some(name.clone()),
                    ..bad("label", "a label is 0 or 1, true or false")
                }),
            },
        }
    }
}

fn bad(kind: &'static str, detail: &str) -> BadRecord {
    BadRecord {
        kind,
        column: None,
        detail: detail.to_owned(),
    }
}
