//! Features as models see them: a few typed columns, missing values marked, categories as codes.

use std::ops::Range;

use crate::dictionary::Dictionary;

/// How a column is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Numbers.
    Number,
    /// Categories, codes of a [`crate::dictionary::Dictionary`].
    Category,
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
}

impl Column {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Code(v) => v.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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
        assert!(
            columns.iter().all(|c| c.len() == rows),
            "columns of one frame have one length"
        );
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
            Column::F64(_) | Column::F32(_) => None,
        }
    }

    /// Calls `each` with the place in `rows` and the number for every row; NaN for a missing value, and for every
    /// value of a column of categories.
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
            Column::Code(_) => (0..rows.len()).for_each(|place| each(place, f64::NAN)),
        }
    }

    /// Calls `each` with the place in `rows` and the category for every row; missing for a column of numbers.
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
            Column::Code(_) => f64::NAN,
        }
    }

    /// The category of one row, as [`ColumnView::categories`] gives it.
    #[must_use]
    pub fn category_at(self, row: usize) -> Category {
        match self.values {
            Column::Code(codes) => codes.get(row).map_or(Category::Missing, |&code| self.category(code)),
            Column::F64(_) | Column::F32(_) => Category::Missing,
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
