//! The feature SQL: projections and a filter over the table `source`, planned once and run on each batch.
//!
//! `text` reads the SQL and bounds its size before a parser sees it, `classify` refuses by name what cannot be
//! answered right on an endless stream, `plan` turns the rest into DataFusion `PhysicalExpr`s, and `evaluate` runs
//! these on a batch. A row's outcome is what the SQL says about that row alone: it never depends on how the input was
//! cut into batches, and a row that fails never takes another one with it.

mod classify;
mod evaluate;
mod plan;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

/// A planned `SELECT ... FROM source [WHERE ...]`. Immutable; one value serves any number of threads.
#[derive(Debug)]
pub struct Transform {
    read: SchemaRef,
    canonical: String,
    program: evaluate::Program,
}

impl Transform {
    /// Plans `sql` over the declared schema of the source. Happens once, on a thread of its own, and may be called
    /// from inside or outside of a tokio runtime.
    ///
    /// # Errors
    /// When the SQL is too large, does not parse, names what is not there, or asks for what a stream cannot answer.
    pub fn plan(sql: &str, source: SchemaRef) -> Result<Self, SqlError> {
        plan::plan(sql, &source)
    }

    /// The columns that the SQL needs, in the order of the source's schema: what a batch for [`Self::apply`] holds.
    #[must_use]
    pub fn read_schema(&self) -> &SchemaRef {
        &self.read
    }

    /// The columns that come out. All are nullable.
    #[must_use]
    pub fn output_schema(&self) -> &SchemaRef {
        self.program.output_schema()
    }

    /// What is executed, as text: columns read with their types, the filter, the projections, all simplified. Equal
    /// between runs of one binary, and part of the plan hash.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Filters, then projects a batch of [`Self::read_schema`]. A row whose evaluation fails (a division by zero, a
    /// cast, an overflow) is listed in [`Transformed::failed`]; the others are as if it had not been there. A batch of
    /// another schema fails in every row.
    #[must_use]
    pub fn apply(&self, batch: &RecordBatch) -> Transformed {
        self.program.apply(batch)
    }
}

/// What became of one batch: each input row is in `batch`, counted in `filtered`, or named in `failed`.
#[derive(Debug, Clone)]
pub struct Transformed {
    /// The projected rows, in the order of the input.
    pub batch: RecordBatch,
    /// Input row of each output row, strictly increasing; `None` when every input row came out.
    pub rows: Option<Vec<u32>>,
    /// Rows for which the `WHERE` was false or null.
    pub filtered: usize,
    /// Input row and reason (at most [`REASON_BYTES_MAX`] bytes) of each row that failed, in order of the row.
    pub failed: Vec<(usize, String)>,
}

/// Longest reason in [`Transformed::failed`].
pub const REASON_BYTES_MAX: usize = 200;

/// Why a SQL text was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// What is wrong, one line.
    pub message: String,
    /// Byte offset in the SQL, where it is known. Always on a character boundary.
    pub at: Option<usize>,
    /// What to do about it.
    pub help: Option<String>,
}

impl SqlError {
    fn new(at: Option<usize>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            at,
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}

/// The longest prefix of `text` of at most `bytes_max` bytes that ends on a character boundary.
fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
