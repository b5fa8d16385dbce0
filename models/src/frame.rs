//! Features as models see them: a few typed columns, missing values marked, categories as codes.

use std::ops::Range;

use crate::codec::{CodecError, Put, Reader};
use crate::dictionary::Dictionary;

/// How a column is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Numbers.
    Number,
    /// Categories, codes of a [`crate::dictionary::Dictionary`].
    Category,
    /// Vectors, each of `width` numbers: an embedding, a position.
    Vector {
        /// Numbers of a vector, at least 1.
        width: u32,
    },
}

impl ColumnKind {
    /// Whether both hold the same, vectors of whatever width.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// Appends a tag, for vectors their width too.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Number => out.put_u8(0),
            Self::Category => out.put_u8(1),
            Self::Vector { width } => {
                out.put_u8(2);
                out.put_u32(width);
            }
        }
    }

    /// Reads what [`ColumnKind::write`] wrote.
    ///
    /// # Errors
    /// Bytes that it did not write. Never panics.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match reader.u8()? {
            0 => Ok(Self::Number),
            1 => Ok(Self::Category),
            2 => match reader.u32()? {
                0 => Err(reader.error("vectors of no numbers")),
                width => Ok(Self::Vector { width }),
            },
            other => Err(reader.error(format!("{other} is not a kind of columns"))),
        }
    }
}

/// Name and kind of a column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ColumnSpec {
    /// The column's name in the features SQL.
    pub name: String,
    /// Its kind.
    pub kind: ColumnKind,
}

/// The code of a missing category.
pub const MISSING: u32 = u32::MAX;
/// The code of a category that did not fit into the dictionary's byte budget.
pub const OVERFLOW: u32 = u32::MAX - 1;

/// A column. All variants have as many values as the frame has rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Double precision. A missing value is NaN here: SQL NULL and NaN are one for every learner.
    F64(Vec<f64>),
    /// Single precision, missing as for `F64`.
    F32(Vec<f32>),
    /// Category codes; [`MISSING`] and [`OVERFLOW`] are reserved.
    Code(Vec<u32>),
    /// Vectors of `width` numbers, those of a row side by side. One with a number that is missing (NaN) or infinite is
    /// missing as a whole: see [`Column::vector`].
    Vector {
        /// Numbers of a row, at least 1.
        width: usize,
        /// `width` for each row, row by row.
        values: Vec<f32>,
    },
}

impl Column {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Code(v) => v.len(),
            Self::Vector { width, values } => values.len() / (*width).max(1),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector of one row; none where it is missing or one of its numbers is missing or infinite, and in a column of
    /// another type.
    #[must_use]
    #[inline]
    pub fn vector(&self, row: usize) -> Option<&[f32]> {
        let Self::Vector { width, values } = self else {
            return None;
        };
        let start = row.checked_mul(*width)?;
        let vector = values.get(start..start.checked_add(*width)?)?;
        vector.iter().all(|value| value.is_finite()).then_some(vector)
    }

    /// A column of the same type without values.
    fn empty(&self) -> Self {
        match self {
            Self::F64(_) => Self::F64(Vec::new()),
            Self::F32(_) => Self::F32(Vec::new()),
            Self::Code(_) => Self::Code(Vec::new()),
            Self::Vector { width, .. } => Self::Vector {
                width: *width,
                values: Vec::new(),
            },
        }
    }

    /// Whether the other column has the same type.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vector { width, .. }, Self::Vector { width: others, .. }) => width == others,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Appends values `rows` of a column of the same type.
    fn append(&mut self, other: &Self, rows: Range<usize>) {
        match (self, other) {
            (Self::F64(to), Self::F64(from)) => to.extend_from_slice(&from[rows]),
            (Self::F32(to), Self::F32(from)) => to.extend_from_slice(&from[rows]),
            (Self::Code(to), Self::Code(from)) => to.extend_from_slice(&from[rows]),
            (Self::Vector { width, values: to }, Self::Vector { values: from, .. }) => {
                to.extend_from_slice(&from[rows.start * *width..rows.end * *width]);
            }
            _ => unreachable!("columns of one place have one type: the layout was compared"),
        }
    }

    /// Bytes of one value.
    fn value_bytes(&self) -> usize {
        match self {
            Self::F64(_) => 8,
            Self::F32(_) | Self::Code(_) => 4,
            Self::Vector { width, .. } => 4 * width,
        }
    }

    /// Appends a tag, for vectors their width, and values `rows`.
    fn write(&self, rows: Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::F64(values) => {
                out.put_u8(0);
                values[rows].iter().for_each(|&value| out.put_f64(value));
            }
            Self::F32(values) => {
                out.put_u8(1);
                values[rows].iter().for_each(|value| out.put_u32(value.to_bits()));
            }
            Self::Code(values) => {
                out.put_u8(2);
                values[rows].iter().for_each(|&value| out.put_u32(value));
            }
            Self::Vector { width, values } => {
                out.put_u8(3);
                out.put_u32(*width as u32);
                let values = &values[rows.start * width..rows.end * width];
                values.iter().for_each(|value| out.put_u32(value.to_bits()));
            }
        }
    }

    /// Reads a tag and `rows` values.
    fn read(reader: &mut Reader<'_>, rows: usize) -> Result<Self, CodecError> {
        let tag = reader.u8()?;
        let width = if tag == 3 { reader.u32()? as usize } else { 1 };
        if width == 0 {
            return Err(reader.error("vectors of no numbers"));
        }
        let values = rows.saturating_mul(width);
        let bytes = reader.take(values.saturating_mul(if tag == 0 { 8 } else { 4 }))?;
        let (eights, fours) = (bytes.as_chunks::<8>().0, bytes.as_chunks::<4>().0);
        match tag {
            0 => Ok(Self::F64(eights.iter().map(|b| f64::from_le_bytes(*b)).collect())),
            1 => Ok(Self::F32(floats(fours))),
            2 => Ok(Self::Code(fours.iter().map(|b| u32::from_le_bytes(*b)).collect())),
            3 => Ok(Self::Vector {
                width,
                values: floats(fours),
            }),
            tag => Err(reader.error(format!("{tag} is no type of a column"))),
        }
    }
}

fn floats(bytes: &[[u8; 4]]) -> Vec<f32> {
    bytes.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Rows of features, column by column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    rows: usize,
    columns: Vec<Column>,
}

impl Frame {
    /// A frame of `rows` rows.
    ///
    /// # Panics
    /// When a column has another number of values: the caller's bug.
    #[must_use]
    pub fn new(rows: usize, columns: Vec<Column>) -> Self {
        let fits = |column: &Column| match column {
            Column::Vector { width, values } => *width > 0 && values.len() == rows * width,
            column => column.len() == rows,
        };
        assert!(columns.iter().all(fits), "columns of one frame have one length");
        Self { rows, columns }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in the order of the specification.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Whether the other frame has columns of the same types in the same order.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let (mine, others) = (&self.columns, &other.columns);
        mine.len() == others.len() && mine.iter().zip(others).all(|(a, b)| a.is_like(b))
    }

    /// A frame with the same columns and no rows.
    #[must_use]
    pub fn empty_like(&self) -> Self {
        Self {
            rows: 0,
            columns: self.columns.iter().map(Column::empty).collect(),
        }
    }

    /// Appends `rows` of another frame. A frame without rows takes on the columns of the other.
    ///
    /// # Panics
    /// When the columns differ (see [`Frame::is_like`]) or there are no such rows: the caller's bug.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) {
        if self.rows == 0 && !self.is_like(other) {
            *self = other.empty_like();
        }
        assert!(self.is_like(other), "rows of one frame have the same columns");
        assert!(rows.start <= rows.end && rows.end <= other.rows, "the rows are there");
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            to.append(from, rows.clone());
        }
        self.rows += rows.len();
    }

    /// A frame of the rows picked, in this order, column by column. Nothing picked: a frame without columns.
    ///
    /// # Panics
    /// When the frames have different columns or there is no such row: the caller's bug.
    #[must_use]
    pub fn gather(picks: &[(&Self, usize)]) -> Self {
        let Some((first, _)) = picks.first() else {
            return Self::default();
        };
        let gather = |(index, column): (usize, &Column)| match column {
            Column::F64(_) => Column::F64(pick(picks, |frame| match &frame.columns[index] {
                Column::F64(values) => Some(values),
                _ => None,
            })),
            Column::F32(_) => Column::F32(pick(picks, |frame| match &frame.columns[index] {
                Column::F32(values) => Some(values),
                _ => None,
            })),
            Column::Code(_) => Column::Code(pick(picks, |frame| match &frame.columns[index] {
                Column::Code(values) => Some(values),
                _ => None,
            })),
            Column::Vector { width, .. } => Column::Vector {
                width: *width,
                values: pick_vectors(picks, index, *width),
            },
        };
        Self {
            rows: picks.len(),
            columns: first.columns.iter().enumerate().map(gather).collect(),
        }
    }

    /// Bytes that the values take, without what is allocated ahead.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.value_bytes()).sum::<usize>() * self.rows
    }

    /// Appends `rows` in a checked binary form that [`Frame::read`] reads.
    ///
    /// # Panics
    /// When there are no such rows: the caller's bug.
    pub fn write(&self, rows: Range<usize>, out: &mut Vec<u8>) {
        out.put_u64(rows.len() as u64);
        out.put_u64(self.columns.len() as u64);
        for column in &self.columns {
            column.write(rows.clone(), out);
        }
    }

    /// Reads what [`Frame::write`] wrote.
    ///
    /// # Errors
    /// Bytes that no frame wrote. Never panics.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let rows = usize::try_from(reader.u64()?).map_err(|_| reader.error("too many rows"))?;
        let columns = reader.count(1)?;
        let columns: Result<Vec<Column>, _> = (0..columns).map(|_| Column::read(reader, rows)).collect();
        Ok(Self {
            rows,
            columns: columns?,
        })
    }
}

/// The values of one column of the rows picked.
fn pick<'a, T: Copy + 'a>(picks: &[(&'a Frame, usize)], values: impl Fn(&'a Frame) -> Option<&'a Vec<T>>) -> Vec<T> {
    let value = |&(frame, row): &(&'a Frame, usize)| values(frame).map(|values| values[row]);
    let picked: Vec<T> = picks.iter().filter_map(value).collect();
    assert_eq!(picked.len(), picks.len(), "rows of one frame have the same columns");
    picked
}

/// The vectors of one column of the rows picked.
fn pick_vectors(picks: &[(&Frame, usize)], index: usize, width: usize) -> Vec<f32> {
    let mut picked = Vec::with_capacity(picks.len() * width);
    for (frame, row) in picks {
        if let Column::Vector { width: own, values } = &frame.columns[index]
            && *own == width
        {
            picked.extend_from_slice(&values[row * width..(row + 1) * width]);
        }
    }
    assert_eq!(
        picked.len(),
        picks.len() * width,
        "rows of one frame have the same columns"
    );
    picked
}

/// A column as an encoder sees it: its values and what its codes stand for.
#[derive(Debug, Clone, Copy)]
pub struct ColumnView<'a> {
    /// The values.
    pub values: &'a Column,
    /// The dictionary of a category column.
    pub dictionary: Option<&'a Dictionary>,
}

/// A value of a category column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Missing.
    Missing,
    /// There is one, but it did not fit into the dictionary: nobody knows which.
    Unknown,
    /// A category, known by the [`fingerprint`](crate::dictionary::fingerprint) of its string.
    Known(u64),
}

impl<'a> ColumnView<'a> {
    /// The string of one row of a category column, if it has one.
    #[must_use]
    pub fn text(self, row: usize) -> Option<&'a str> {
        match self.values {
            Column::Code(codes) => self.dictionary?.get(*codes.get(row)?),
            Column::F64(_) | Column::F32(_) | Column::Vector { .. } => None,
        }
    }

    /// The vector of one row, as [`Column::vector`] gives it.
    #[must_use]
    #[inline]
    pub fn vector(self, row: usize) -> Option<&'a [f32]> {
        self.values.vector(row)
    }

    /// Calls `each` with the place in `rows` and the number for every row; NaN for a missing value, and for every
    /// value of a column of another kind.
    #[inline]
    pub fn numbers(self, rows: Range<usize>, mut each: impl FnMut(usize, f64)) {
        match self.values {
            Column::F64(values) => {
                let values = values.get(rows).unwrap_or_default();
                values.iter().enumerate().for_each(|(place, &value)| each(place, value));
            }
            Column::F32(values) => {
                let values = values.get(rows).unwrap_or_default();
                values
                    .iter()
                    .enumerate()
                    .for_each(|(place, &value)| each(place, f64::from(value)));
            }
            Column::Code(_) | Column::Vector { .. } => (0..rows.len()).for_each(|place| each(place, f64::NAN)),
        }
    }

    /// Calls `each` with the place in `rows` and the category for every row; missing for a column of another kind.
    #[inline]
    pub fn categories(self, rows: Range<usize>, mut each: impl FnMut(usize, Category)) {
        let Column::Code(codes) = self.values else {
            return (0..rows.len()).for_each(|place| each(place, Category::Missing));
        };
        for (place, &code) in codes.get(rows).unwrap_or_default().iter().enumerate() {
            each(place, self.category(code));
        }
    }

    /// The number of one row, as [`ColumnView::numbers`] gives it.
    #[must_use]
    pub fn number(self, row: usize) -> f64 {
        match self.values {
            Column::F64(values) => values.get(row).copied().unwrap_or(f64::NAN),
            Column::F32(values) => values.get(row).map_or(f64::NAN, |&value| f64::from(value)),
            Column::Code(_) | Column::Vector { .. } => f64::NAN,
        }
    }

    /// The category of one row, as [`ColumnView::categories`] gives it.
    #[must_use]
    pub fn category_at(self, row: usize) -> Category {
        match self.values {
            Column::Code(codes) => codes.get(row).map_or(Category::Missing, |&code| self.category(code)),
            Column::F64(_) | Column::F32(_) | Column::Vector { .. } => Category::Missing,
        }
    }

    /// What a code stands for.
    #[inline]
    fn category(self, code: u32) -> Category {
        match self.dictionary.and_then(|dictionary| dictionary.fingerprint(code)) {
            Some(fingerprint) => Category::Known(fingerprint),
            None if code == MISSING => Category::Missing,
            None => Category::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let columns = vec![
            Column::F64(vec![1.0, f64::NAN, 3.0]),
            Column::F32(vec![0.5, 1.5, 2.5]),
            Column::Code(vec![7, MISSING, 9]),
            Column::Vector {
                width: 2,
                values: vec![1.0, 2.0, f32::NAN, f32::NAN, 5.0, 6.0],
            },
        ];
        Frame::new(3, columns)
    }

    fn bytes(frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.write(0..frame.rows(), &mut out);
        out
    }

    #[test]
    fn rows_are_appended_and_gathered() {
        let frame = frame();
        let mut other = Frame::default();
        other.append(&frame, 1..3);
        other.append(&frame, 0..1);
        let picked = Frame::gather(&[(&frame, 1), (&other, 1), (&frame, 0)]);
        assert_eq!(bytes(&picked), bytes(&other));
        assert_eq!(picked.bytes(), 3 * 24);
        assert!(picked.is_like(&frame) && !picked.is_like(&Frame::default()));
        assert_eq!(Frame::gather(&[]), Frame::default());
    }

    #[test]
    fn a_vector_is_whole_or_missing_and_of_one_width() {
        let values = vec![1.0, 2.0, 3.0, f32::NAN, f32::INFINITY, 6.0, 7.0, 8.0];
        let column = Column::Vector { width: 2, values };
        let view = ColumnView {
            values: &column,
            dictionary: None,
        };
        let vectors: Vec<_> = (0..5).map(|row| view.vector(row)).collect();
        assert_eq!(
            vectors,
            [Some(&[1.0_f32, 2.0][..]), None, None, Some(&[7.0, 8.0]), None]
        );
        assert!(view.number(0).is_nan() && view.category_at(0) == Category::Missing);
        let wide = |width| Frame::new(0, vec![Column::Vector { width, values: vec![] }]);
        assert!(wide(2).is_like(&wide(2)) && !wide(2).is_like(&wide(3)));
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_refused() {
        let whole = bytes(&frame());
        let mut reader = Reader::new(&whole);
        assert_eq!(bytes(&Frame::read(&mut reader).unwrap()), whole);
        reader.finish().unwrap();
        for cut in 0..whole.len() {
            assert!(Frame::read(&mut Reader::new(&whole[..cut])).is_err(), "cut at {cut}");
            let mut damaged = whole.clone();
            damaged[cut] ^= 0xff;
            let _may_fail = Frame::read(&mut Reader::new(&damaged));
        }
    }
}
