//! The columns of a batch while it is being decoded. Unlike Arrow's builders they can be cut back, so that a
//! record that turns out bad halfway leaves no trace.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, FixedSizeListArray, NullBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

use crate::schema::vector_width;

/// Values of one column, one for each row; a null has a default in its place.
pub(super) enum Values {
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Float64(Vec<f64>),
    Float32(Vec<f32>),
    Bool(BooleanBufferBuilder),
    /// All strings after one another, and where each ends; `ends` begins with a zero.
    Utf8 {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
    Timestamp(TimeUnit, Vec<i64>),
    Date32(Vec<i32>),
    /// `width` numbers for each row.
    Vector {
        width: usize,
        numbers: Vec<f32>,
    },
}

impl Values {
    fn new(kind: &DataType) -> Option<Self> {
        if let Some(width) = vector_width(kind) {
            return Some(Self::Vector {
                width: width as usize,
                numbers: Vec::new(),
            });
        }
        Some(match kind {
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Boolean => Self::Bool(BooleanBufferBuilder::new(0)),
            DataType::Utf8 => Self::Utf8 {
                bytes: Vec::new(),
                ends: vec![0],
            },
            DataType::Timestamp(unit, None) => Self::Timestamp(*unit, Vec::new()),
            DataType::Date32 => Self::Date32(Vec::new()),
            _ => return None,
        })
    }

    fn push_default(&mut self) {
        match self {
            Self::Int64(values) | Self::Timestamp(_, values) => values.push(0),
            Self::Int32(values) | Self::Date32(values) => values.push(0),
            Self::Float64(values) => values.push(0.0),
            Self::Float32(values) => values.push(0.0),
            Self::Bool(values) => values.append(false),
            Self::Utf8 { bytes, ends } => ends.push(bytes.len() as i32),
            Self::Vector { width, numbers } => numbers.resize(numbers.len() + *width, 0.0),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Int64(values) | Self::Timestamp(_, values) => values.truncate(rows),
            Self::Int32(values) | Self::Date32(values) => values.truncate(rows),
            Self::Float64(values) => values.truncate(rows),
            Self::Float32(values) => values.truncate(rows),
            Self::Bool(values) => values.truncate(rows),
            Self::Utf8 { bytes, ends } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends.last().map_or(0, |&end| end as usize));
            }
            Self::Vector { width, numbers } => numbers.truncate(rows * *width),
        }
    }
}

/// A column of the batch that is being decoded.
pub(super) struct Column {
    /// The column's name, which is the key in the objects.
    pub(super) name: String,
    /// Its declared type.
    pub(super) kind: DataType,
    /// Its values; whoever appends one calls [`Column::set_valid`] after.
    pub(super) values: Values,
    valid: NullBufferBuilder,
}

impl Column {
    /// An empty column for `field`; `None` when JSON has no form for its type, or when it may not be null:
    /// a key that is missing is a null.
    pub(super) fn new(field: &Field) -> Option<Self> {
        let (name, kind) = (field.name().clone(), field.data_type().clone());
        let values = Values::new(&kind).filter(|_| field.is_nullable())?;
        Some(Self {
            name,
            kind,
            values,
            valid: NullBufferBuilder::new(0),
        })
    }

    /// Number of rows.
    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.valid.len()
    }

    /// Marks the value that was just appended as present.
    #[inline]
    pub(super) fn set_valid(&mut self) {
        self.valid.append_non_null();
    }

    /// Appends a null.
    #[inline]
    pub(super) fn push_null(&mut self) {
        self.values.push_default();
        self.valid.append_null();
    }

    /// Cuts back to the first `rows` rows, half-written values included.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.valid.truncate(rows);
    }

    /// Hands the rows out as an array and begins anew, with room for as many rows as there were.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.valid.finish().filter(|nulls| nulls.null_count() > 0);
        Ok(match &mut self.values {
            Values::Int64(values) => primitive::<Int64Type>(values, nulls)?,
            Values::Int32(values) => primitive::<Int32Type>(values, nulls)?,
            Values::Float64(values) => primitive::<Float64Type>(values, nulls)?,
            Values::Float32(values) => primitive::<Float32Type>(values, nulls)?,
            Values::Date32(values) => primitive::<Date32Type>(values, nulls)?,
            Values::Timestamp(TimeUnit::Second, values) => primitive::<TimestampSecondType>(values, nulls)?,
            Values::Timestamp(TimeUnit::Millisecond, values) => primitive::<TimestampMillisecondType>(values, nulls)?,
            Values::Timestamp(TimeUnit::Microsecond, values) => primitive::<TimestampMicrosecondType>(values, nulls)?,
            Values::Timestamp(TimeUnit::Nanosecond, values) => primitive::<TimestampNanosecondType>(values, nulls)?,
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Utf8 { bytes, ends } => strings(bytes, ends, nulls)?,
            Values::Vector { width, numbers } => vectors(&self.kind, *width, numbers, nulls)?,
        })
    }
}

/// Takes the values and leaves an empty vector of the same capacity.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(
        ScalarBuffer::from(take(values)),
        nulls,
    )?))
}

fn strings(bytes: &mut Vec<u8>, ends: &mut Vec<i32>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(take(ends)));
    ends.push(0);
    Ok(Arc::new(StringArray::try_new(
        offsets,
        Buffer::from_vec(take(bytes)),
        nulls,
    )?))
}

fn vectors(
    kind: &DataType,
    width: usize,
    numbers: &mut Vec<f32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let DataType::FixedSizeList(field, _) = kind else {
        return Err(ArrowError::SchemaError(format!("vectors in a column of type {kind}")));
    };
    let numbers = primitive::<Float32Type>(numbers, None)?;
    Ok(Arc::new(FixedSizeListArray::try_new(
        Arc::clone(field),
        width as i32,
        numbers,
        nulls,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn cutting_back_forgets_values_and_nulls() {
        let mut column = Column::new(&Field::new("a", DataType::Utf8, true)).unwrap();
        let push = |column: &mut Column, text: &str| {
            let Values::Utf8 { bytes, ends } = &mut column.values else {
                unreachable!()
            };
            bytes.extend_from_slice(text.as_bytes());
            ends.push(bytes.len() as i32);
            column.set_valid();
        };
        push(&mut column, "one");
        column.push_null();
        push(&mut column, "gone");
        column.truncate(1);
        push(&mut column, "two");
        assert_eq!(column.rows(), 2);
        let array = column.finish().unwrap();
        assert_eq!(
            array.as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("one"), Some("two")]
        );
        assert_eq!(column.rows(), 0);
        assert_eq!(column.finish().unwrap().len(), 0);
    }

    #[test]
    fn a_type_without_a_form_and_a_column_without_nulls_are_refused() {
        assert!(Column::new(&Field::new("a", DataType::Binary, true)).is_none());
        assert!(Column::new(&Field::new("a", DataType::Int64, false)).is_none());
    }
}
