//! Writes a batch as one JSON object for each row, straight into the output's buffer.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};

use super::{text, time};
use crate::codec::Encoder;
use crate::encoded::Encoded;
use crate::error::{ConnectError, Fault};
use crate::schema::{type_name, vector_width};

/// An encoder for batches of one schema.
///
/// Floats are written as the shortest text that reads back as the same value; one that is not finite has no form
/// in JSON and becomes null. Timestamps are RFC 3339 in UTC with the digits of their unit; dates `YYYY-MM-DD`.
pub(super) struct JsonEncoder {
    /// What stands before the value of each column: brace or comma, key, colon.
    prefixes: Vec<Vec<u8>>,
    /// Bytes that a row took in the last batch.
    row_bytes: usize,
}

impl JsonEncoder {
    /// An encoder for batches of `schema`.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, ConnectError> {
        for field in schema.fields() {
            written_as(field.data_type()).ok_or_else(|| unsupported(field.name(), field.data_type()))?;
        }
        let prefix = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| {
            let mut prefix = vec![if index == 0 { b'{' } else { b',' }];
            text::write(field.name(), &mut prefix);
            prefix.push(b':');
            prefix
        };
        Ok(Self {
            prefixes: schema.fields().iter().enumerate().map(prefix).collect(),
            row_bytes: 0,
        })
    }
}

fn unsupported(column: &str, kind: &DataType) -> ConnectError {
    ConnectError::new(
        Fault::Operator,
        format!("format json, column `{column}`"),
        format!("JSON output has no form for the type {}", type_name(kind)),
        "cast the column in the SQL, or leave it out",
    )
}

/// The type among those of [`Typed`] that a column is cast to before it is written.
fn written_as(kind: &DataType) -> Option<DataType> {
    Some(match kind {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::UInt64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, values) => written_as(values)?,
        DataType::Null
        | DataType::Boolean
        | DataType::Int64
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Timestamp(..)
        | DataType::Date32 => kind.clone(),
        vectors if vector_width(vectors).is_some() => vectors.clone(),
        _ => return None,
    })
}

/// The column as one of the types of [`Typed`].
fn plain(name: &str, array: &ArrayRef) -> Result<ArrayRef, ConnectError> {
    let kind = array.data_type();
    let target = written_as(kind).ok_or_else(|| unsupported(name, kind))?;
    if *kind == target {
        return Ok(Arc::clone(array));
    }
    // A dictionary is unpacked first: not every cast looks through it.
    let array = match kind {
        DataType::Dictionary(_, values) => cast(array, values),
        _ => Ok(Arc::clone(array)),
    };
    array.and_then(|array| cast(&array, &target)).map_err(|error| {
        ConnectError::new(
            Fault::Internal,
            format!("format json, column `{name}`"),
            error.to_string(),
            "report this with the SQL of the pipeline",
        )
    })
}

/// The values of a column, typed once for the whole batch.
enum Typed<'a> {
    Null,
    Bool(&'a BooleanBuffer),
    Int(&'a [i64]),
    UInt(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    String(&'a StringArray),
    LargeString(&'a LargeStringArray),
    StringView(&'a StringViewArray),
    Timestamp(&'a [i64], TimeUnit),
    Date(&'a [i32]),
    Vector(&'a FixedSizeListArray),
}

impl<'a> Typed<'a> {
    fn new(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().values()),
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>().values()),
            DataType::UInt64 => Self::UInt(array.as_primitive::<UInt64Type>().values()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => Self::String(array.as_string()),
            DataType::LargeUtf8 => Self::LargeString(array.as_string()),
            DataType::Utf8View => Self::StringView(array.as_string_view()),
            DataType::Timestamp(unit, _) => Self::Timestamp(ticks(array, *unit), *unit),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().values()),
            DataType::FixedSizeList(..) => Self::Vector(array.as_fixed_size_list()),
            // `plain` lets nothing else through.
            _ => Self::Null,
        }
    }

    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Self::Int(values) => out.extend_from_slice(itoa::Buffer::new().format(values[row]).as_bytes()),
            Self::UInt(values) => out.extend_from_slice(itoa::Buffer::new().format(values[row]).as_bytes()),
            Self::Float32(values) => float(values[row], values[row].is_finite(), out),
            Self::Float64(values) => float(values[row], values[row].is_finite(), out),
            Self::String(values) => text::write(values.value(row), out),
            Self::LargeString(values) => text::write(values.value(row), out),
            Self::StringView(values) => text::write(values.value(row), out),
            Self::Timestamp(values, unit) => time::write_timestamp(values[row], *unit, out),
            Self::Date(values) => time::write_date(values[row], out),
            Self::Vector(vectors) => vector(vectors.value(row).as_primitive(), out),
        }
    }
}

fn vector(numbers: &Float32Array, out: &mut Vec<u8>) {
    for (place, number) in numbers.iter().enumerate() {
        out.push(if place == 0 { b'[' } else { b',' });
        let number = number.unwrap_or(f32::NAN);
        float(number, number.is_finite(), out);
    }
    out.push(b']');
}

fn ticks(array: &ArrayRef, unit: TimeUnit) -> &[i64] {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
}

#[inline]
fn float<F: zmij::Float>(value: F, finite: bool, out: &mut Vec<u8>) {
    if finite {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// A column ready to be written: its prefix, its nulls, its values.
struct Cells<'a> {
    prefix: &'a [u8],
    nulls: Option<&'a NullBuffer>,
    view: Typed<'a>,
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, suffix: &[u8], out: &mut Encoded) -> Result<(), ConnectError> {
        if batch.num_columns() != self.prefixes.len() {
            return Err(ConnectError::new(
                Fault::Internal,
                "format json",
                format!(
                    "a batch of {} columns for a schema of {}",
                    batch.num_columns(),
                    self.prefixes.len()
                ),
                "report this with the configuration of the pipeline",
            ));
        }
        let schema = batch.schema_ref();
        let arrays = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(array, field)| plain(field.name(), array));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<Cells<'_>> = arrays
            .iter()
            .zip(&self.prefixes)
            .map(|(array, prefix)| Cells {
                prefix,
                nulls: array.nulls(),
                view: Typed::new(array),
            })
            .collect();
        let end = closing(columns.is_empty(), suffix);
        let start = out.position();
        out.buffer().reserve(self.row_bytes * batch.num_rows());
        for row in 0..batch.num_rows() {
            write_row(&columns, row, &end, out);
        }
        self.row_bytes = (out.position() - start)
            .checked_div(batch.num_rows())
            .unwrap_or(self.row_bytes);
        Ok(())
    }

    fn fragment(&self, fields: &[(&str, serde_json::Value)]) -> Result<Vec<u8>, ConnectError> {
        let mut out = Vec::new();
        for (name, value) in fields {
            if !out.is_empty() {
                out.push(b',');
            }
            text::write(name, &mut out);
            out.push(b':');
            out.extend_from_slice(value.to_string().as_bytes());
        }
        Ok(out)
    }
}

fn write_row(columns: &[Cells<'_>], row: usize, end: &[u8], out: &mut Encoded) {
    let start = out.position();
    let buffer = out.buffer();
    for column in columns {
        buffer.extend_from_slice(column.prefix);
        if column.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            buffer.extend_from_slice(b"null");
        } else {
            column.view.write(row, buffer);
        }
    }
    buffer.extend_from_slice(end);
    out.finish(start);
}

/// What stands after the last column: the suffix with the comma or brace that it needs, and the closing brace.
fn closing(no_columns: bool, suffix: &[u8]) -> Vec<u8> {
    let joint: &[u8] = match (no_columns, suffix.is_empty()) {
        (true, _) => b"{",
        (false, false) => b",",
        (false, true) => b"",
    };
    [joint, suffix, b"}"].concat()
}
