//! The rules, as values.

use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::{Column, ColumnSpec, MISSING};

use crate::example::Matured;

/// A rule. Columns are places in the list of feature columns.
///
/// The rules on windows judge `rows` consecutive rows at once against what they learned from rows that they let
/// through; until they have seen enough (five windows for shares, one for medians) they let everything through. Rows
/// of an epoch that do not fill a window are judged together with those before them; the verdict falls on the rows of
/// the epoch alone, so that up to half a window of small epochs passes before a fault is seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// A number outside `min ..= max`; either may be infinite. Missing values pass, infinite ones do not.
    Range {
        /// The column, of numbers.
        column: usize,
        /// Least value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
    },
    /// The share of missing values is above both `floor` and `factor` times what it was: the rows without a value are
    /// held back.
    NullBurst {
        /// The column.
        column: usize,
        /// Rows of a window.
        rows: usize,
        /// How many times the share may grow.
        factor: f64,
        /// Shares up to this are always allowed.
        floor: f64,
    },
    /// The share of labels above 0.5 is more than `factor` times higher or lower than it was, and so far away that
    /// independent labels would do it with a chance of at most `chance` (Chernoff's bound, by the Kullback–Leibler
    /// divergence): the whole window is held back.
    LabelRate {
        /// Rows of a window.
        rows: usize,
        /// How many times the rate may change.
        factor: f64,
        /// Chance of a false alarm in a window, were labels independent.
        chance: f64,
    },
    /// The median of the positive values of a column is more than `factor` times higher or lower than it was (cents
    /// for euros): the whole window is held back.
    Spike {
        /// The column, of numbers.
        column: usize,
        /// A column of categories, each of which is judged on its own: one feed among many.
        by: Option<usize>,
        /// Rows of a window.
        rows: usize,
        /// How many times the median may change.
        factor: f64,
    },
}

impl Rule {
    /// Its name in reasons, metrics and commands; it holds the names of its columns.
    #[must_use]
    pub fn name(&self, columns: &[ColumnSpec]) -> String {
        let column = |index: &usize| columns.get(*index).map_or("?", |column| column.name.as_str());
        match self {
            Self::Range { column: index, .. } => format!("range of {}", column(index)),
            Self::NullBurst { column: index, .. } => format!("null burst of {}", column(index)),
            Self::LabelRate { .. } => "label rate".to_owned(),
            Self::Spike {
                column: index,
                by: None,
                ..
            } => format!("spike of {}", column(index)),
            Self::Spike {
                column: index,
                by: Some(by),
                ..
            } => format!("spike of {} by {}", column(index), column(by)),
        }
    }

    /// Rows of a window; 0 for a rule on single rows.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Range { .. } => 0,
            Self::NullBurst { rows, .. } | Self::LabelRate { rows, .. } | Self::Spike { rows, .. } => (*rows).max(1),
        }
    }

    /// What is wrong with a single row.
    pub(super) fn judge_row(&self, matured: &Matured, row: usize, columns: &[ColumnSpec]) -> Option<String> {
        let Self::Range { column, min, max } = self else {
            return None;
        };
        let value = number(matured.frame.columns().get(*column)?, row);
        let name = columns.get(*column).map_or("?", |column| column.name.as_str());
        if value < *min {
            Some(format!("{name} below {min}"))
        } else if value > *max {
            Some(format!("{name} above {max}"))
        } else if value.is_infinite() {
            Some(format!("{name} is infinite"))
        } else {
            None
        }
    }

    /// What a rule on windows sees of a row: a group and a value; none when the row tells it nothing.
    pub(super) fn observe(&self, matured: &Matured, row: usize) -> Option<(u32, f64)> {
        let column = |index: usize| matured.frame.columns().get(index);
        match self {
            Self::Range { .. } => None,
            Self::NullBurst { column: index, .. } => Some((0, f64::from(is_missing(column(*index)?, row)))),
            Self::LabelRate { .. } => Some((0, f64::from(*matured.labels.get(row)? > 0.5))),
            Self::Spike { column: index, by, .. } => {
                let value = number(column(*index)?, row);
                let group = by.map_or(Some(0), |by| Some(code(column(by)?, row)))?;
                (value > 0.0 && value.is_finite()).then_some((group, value))
            }
        }
    }

    /// What a group is called in a reason; empty where there is only one.
    pub(super) fn group(&self, code: u32, columns: &[ColumnSpec], dictionaries: &Dictionaries) -> String {
        let Self::Spike { by: Some(by), .. } = self else {
            return String::new();
        };
        let name = columns.get(*by).map_or("?", |column| column.name.as_str());
        match dictionaries.get(*by).and_then(|dictionary| dictionary.get(code)) {
            Some(string) => format!(
                " where {name} is `{}`",
                string.escape_debug().take(100).collect::<String>()
            ),
            None => format!(" where {name} is missing or unknown"),
        }
    }
}

/// The number of a row; NaN when it is missing.
fn number(column: &Column, row: usize) -> f64 {
    match column {
        Column::F64(values) => values.get(row).copied().unwrap_or(f64::NAN),
        Column::F32(values) => values.get(row).map_or(f64::NAN, |&value| f64::from(value)),
        Column::Code(_) | Column::Vector { .. } => f64::NAN,
    }
}

/// The category of a row.
fn code(column: &Column, row: usize) -> u32 {
    match column {
        Column::Code(codes) => codes.get(row).copied().unwrap_or(MISSING),
        Column::F64(_) | Column::F32(_) | Column::Vector { .. } => MISSING,
    }
}

fn is_missing(column: &Column, row: usize) -> bool {
    match column {
        Column::Code(_) => code(column, row) == MISSING,
        Column::F64(_) | Column::F32(_) => number(column, row).is_nan(),
        Column::Vector { .. } => column.vector(row).is_none(),
    }
}
