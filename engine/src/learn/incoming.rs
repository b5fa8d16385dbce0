//! Labels as they come: from the records of their own topic, or from columns of the features SQL.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMillisecondType};
use driftmill_connectors::{BadRecord, ConnectError, Decoder};

use crate::example::Label;
use crate::intake::{EpochInput, RowRef};
use crate::score::ScoreError;
use crate::settings::LabelsFrom;

/// Decodes a labels' topic.
pub struct LabelReader {
    decoder: Box<dyn Decoder>,
    key: String,
    label: String,
    time: Option<String>,
}

/// A label with the key of its row; or the row of the input that is bad, and why.
type Outcome = Result<(Vec<u8>, Label), (RowRef, BadRecord)>;

impl LabelReader {
    /// A reader, where labels have a topic.
    ///
    /// # Errors
    /// A type that the codec does not carry.
    pub fn new(from: &LabelsFrom) -> Result<Option<Self>, ConnectError> {
        let LabelsFrom::Topic {
            schema,
            codec,
            key,
            label,
            time,
        } = from
        else {
            return Ok(None);
        };
        let decoder = codec.decoder(std::sync::Arc::clone(schema))?;
        Ok(Some(Self {
            decoder,
            key: key.clone(),
            label: label.clone(),
            time: time.clone(),
        }))
    }

    /// The labels of an epoch in order, and the records that are none.
    ///
    /// # Errors
    /// The codec cannot go on.
    pub fn read(&mut self, input: &EpochInput) -> Result<Vec<Outcome>, ScoreError> {
        let record = |row: &RowRef| input.chunks[row.chunk as usize].1.get(row.row as usize);
        let payloads: Vec<Option<&[u8]>> = input.labels.iter().map(|row| record(row).payload).collect();
        let decoded = self.decoder.decode(&payloads)?;
        let keys = cast(column(&decoded.batch, &self.key)?, &DataType::Utf8)?;
        let keys = keys.as_string::<i32>();
        let values = cast(column(&decoded.batch, &self.label)?, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let times = match &self.time {
            Some(name) => Some(milliseconds(column(&decoded.batch, name)?)?),
            None => None,
        };
        let mut bad = decoded.bad.into_iter().peekable();
        let mut row = 0;
        let mut outcomes = Vec::with_capacity(input.labels.len());
        for (index, source) in input.labels.iter().enumerate() {
            if let Some((_, reason)) = bad.next_if(|(at, _)| *at == index) {
                outcomes.push(Err((*source, reason)));
                continue;
            }
            let wrong = |column: &str, detail: &str| {
                let column = Some(column.to_owned());
                Err((
                    *source,
                    BadRecord {
                        kind: "label",
                        column,
                        detail: detail.to_owned(),
                    },
                ))
            };
            let time = times
                .as_ref()
                .map(|times| times.as_primitive::<TimestampMillisecondType>());
            let available_ms = match time {
                Some(times) if times.is_valid(row) => times.value(row),
                _ => record(source).timestamp_ms,
            };
            outcomes.push(if keys.is_null(row) {
                wrong(&self.key, "a label without a key belongs to no row")
            } else {
                match binary(values.is_valid(row).then(|| values.value(row))) {
                    Some(value) => Ok((keys.value(row).as_bytes().to_vec(), Label { value, available_ms })),
                    None => wrong(&self.label, "a label is 0 or 1, true or false"),
                }
            });
            row += 1;
        }
        Ok(outcomes)
    }
}

/// A label of a binary task.
pub(crate) fn binary(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value == 0.0 || *value == 1.0)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ScoreError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| ScoreError::Internal(format!("labels without a column {name}")))
}

fn milliseconds(column: &ArrayRef) -> Result<ArrayRef, ScoreError> {
    Ok(cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?)
}

/// The labels in a batch of the features SQL: null, and whatever is not 0 or 1, is no label. `times` are the rows'
/// own times.
///
/// # Errors
/// Columns that are not there: a bug.
pub fn labels_in_record(
    batch: &RecordBatch,
    label: usize,
    available_at: Option<usize>,
    times: &[i64],
) -> Result<Vec<Option<Label>>, ScoreError> {
    let values = cast(batch.column(label), &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let known = available_at
        .map(|column| milliseconds(batch.column(column)))
        .transpose()?;
    let known = known
        .as_ref()
        .map(|known| known.as_primitive::<TimestampMillisecondType>());
    Ok((0..batch.num_rows())
        .map(|row| {
            let value = binary(values.is_valid(row).then(|| values.value(row)))?;
            let available_ms = match known {
                // A label whose time is not known is not known.
                Some(known) => known.is_valid(row).then(|| known.value(row))?,
                None => times[row],
            };
            Some(Label { value, available_ms })
        })
        .collect())
}
