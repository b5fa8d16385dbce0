//! JSON: one object for each record, its keys the columns of the declared schema.
//!
//! # What is accepted
//! Only the columns that are read are checked; the payload as a whole must be one valid JSON object (RFC 8259).
//!
//! | input | outcome |
//! |---|---|
//! | key missing, or its value `null` | null |
//! | key that no column reads, whatever its value, once or more | ignored |
//! | no payload / payload of no bytes | `tombstone` / `empty` |
//! | bytes that are not UTF-8, anywhere | `utf8` |
//! | objects and arrays deeper than 64 | `depth` |
//! | truncated, garbage, `NaN`, `Infinity`, bytes after the object, half of a surrogate pair | `syntax` |
//! | anything but an object at the top | `type` |
//! | key of a column that is read, twice | `duplicate-key` |
//! | a value of another JSON type; a number in a string; `"NaN"`, `"inf"` | `type` |
//! | integer with a fraction or an exponent (`1.9`, but `1.0` and `1e3` too) | `type` |
//! | integer or float (`1e999`) that the column cannot hold | `range` |
//! | integer for a float column | accepted, rounded to the nearest float; so are all decimal fractions |
//! | vector: array of as many numbers as declared, each by the rules of a float | accepted |
//! | array of another length, `null` or anything but a number in it | `type` |
//! | timestamp: integer in the declared unit, or RFC 3339 text; a text without zone is UTC | accepted |
//! | timestamp text with digits finer than the unit; text of another form | `type` |
//! | timestamp text with month 13, 30 February, second 60, or beyond what the unit holds | `range` |
//! | date: text `YYYY-MM-DD`, or integer days since 1970-01-01 | accepted |
//!
//! Where a record has several faults, the first of this order is named: `tombstone`, `empty`, `utf8`, `depth`,
//! `syntax`, the top-level `type`, `duplicate-key`, then the columns in the order of the schema.

mod columns;
mod fast;
mod number;
mod slow;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod writer;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use driftmill_config::{Component, Field, Problems, Section};

use crate::codec::{BadRecord, Codec, CodecKind, Decoded, Decoder, Encoder};
use crate::error::{ConnectError, Fault};
use crate::schema::type_name;
use columns::Column;
use fast::{Names, Scanner};
use slow::bad;

/// The entry of the list of codecs, and the codec itself: it has no options.
#[derive(Debug, Clone, Copy)]
pub struct JsonCodec;

/// The codec for `format = "json"`.
pub static JSON: JsonCodec = JsonCodec;

impl Component for JsonCodec {
    fn name(&self) -> &'static str {
        "json"
    }

    fn summary(&self) -> &'static str {
        "One JSON object (RFC 8259) for each record, its keys the columns of the declared schema. Strict: a value \
         that would lose something on its way into its column makes the record a dead letter."
    }

    fn fields(&self) -> &'static [Field] {
        &[]
    }

    fn example(&self) -> &'static str {
        "# JSON has no options: the declared schema says it all.\n"
    }
}

impl CodecKind for JsonCodec {
    fn open(&self, _section: &Section<'_>, _problems: &mut Problems) -> Option<Arc<dyn Codec>> {
        Some(Arc::new(*self))
    }
}

impl Codec for JsonCodec {
    fn decoder(&self, read: SchemaRef) -> Result<Box<dyn Decoder>, ConnectError> {
        Ok(Box::new(JsonDecoder::new(read)?))
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>, ConnectError> {
        Ok(Box::new(writer::JsonEncoder::new(&schema)?))
    }
}

/// Which way a record went; tests look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Fast,
    Slow,
}

struct JsonDecoder {
    schema: SchemaRef,
    names: Names,
    columns: Vec<Column>,
    scanner: Scanner,
}

impl JsonDecoder {
    fn new(schema: SchemaRef) -> Result<Self, ConnectError> {
        let columns = schema.fields().iter().map(|field| {
            Column::new(field).ok_or_else(|| {
                ConnectError::new(
                    Fault::Operator,
                    format!("format json, column `{}`", field.name()),
                    format!(
                        "JSON cannot be read as {} that is never null",
                        type_name(field.data_type())
                    ),
                    "declare one of the types of the schema reference",
                )
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let name = |(index, column): (usize, &Column)| (column.name.as_bytes().into(), index);
        let names = columns.iter().enumerate().map(name).collect();
        Ok(Self {
            schema,
            names,
            columns,
            scanner: Scanner::default(),
        })
    }

    /// Appends one payload as row number `row`.
    fn append(&mut self, payload: Option<&[u8]>, row: usize) -> Result<Path, BadRecord> {
        let bytes = payload.ok_or_else(|| bad("tombstone", None, "the record has no payload"))?;
        if bytes.is_empty() {
            return Err(bad("empty", None, "the payload has no bytes, expected a JSON object"));
        }
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| not_utf8(bytes))?;
        if self.scanner.row(bytes, row, &self.names, &mut self.columns).is_some() {
            return Ok(Path::Fast);
        }
        self.cut_back(row);
        let outcome = slow::row(text, &self.names, &mut self.columns);
        if outcome.is_err() {
            self.cut_back(row);
        }
        outcome.map(|()| Path::Slow)
    }

    fn cut_back(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    fn finish(&mut self, rows: usize) -> Result<RecordBatch, ConnectError> {
        let arrays = self
            .columns
            .iter_mut()
            .map(Column::finish)
            .collect::<Result<Vec<_>, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options))
            .map_err(|error| {
                ConnectError::new(
                    Fault::Internal,
                    "format json",
                    error.to_string(),
                    "report this with the schema",
                )
            })
    }
}

#[cold]
fn not_utf8(bytes: &[u8]) -> BadRecord {
    let at = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
    bad("utf8", None, format!("byte {at} of {} is not UTF-8", bytes.len()))
}

/// A column's strings are counted in 32 bits.
fn check_size(payloads: &[Option<&[u8]>]) -> Result<(), ConnectError> {
    let bytes: usize = payloads.iter().flatten().map(|payload| payload.len()).sum();
    if i32::try_from(bytes).is_ok() {
        return Ok(());
    }
    Err(ConnectError::new(
        Fault::Internal,
        "format json",
        format!("{bytes} bytes to decode at once"),
        "bound the bytes of an epoch below 2 GiB",
    ))
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, ConnectError> {
        check_size(payloads)?;
        let (mut rows, mut bad) = (0, Vec::new());
        for (index, payload) in payloads.iter().enumerate() {
            match self.append(*payload, rows) {
                Ok(_) => rows += 1,
                Err(reason) => bad.push((index, reason)),
            }
        }
        Ok(Decoded {
            batch: self.finish(rows)?,
            bad,
        })
    }
}
