//! Runs the planned expressions on a batch, and finds the rows that fail by halving.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{FilterBuilder, concat_batches};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::{REASON_BYTES_MAX, Transformed, shortened};

/// The executable form of a plan.
#[derive(Debug)]
pub(super) struct Program {
    /// Over the read schema.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// Columns of the read schema that the projections use, ascending: only these are copied by the filter.
    pub(super) inputs: Vec<usize>,
    /// The schema of `inputs`.
    pub(super) input_schema: SchemaRef,
    /// Over `input_schema`, one for each output column.
    pub(super) projections: Vec<Arc<dyn PhysicalExpr>>,
    /// Names and types of the projections.
    pub(super) output: SchemaRef,
}

/// What failed while evaluating, and in which output column; `None` for the filter.
struct Failure {
    column: Option<usize>,
    error: DataFusionError,
}

/// Rows in ascending order with the reason of each.
type Failed = Vec<(usize, String)>;

impl Program {
    pub(super) fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Transformed {
        let rows = batch.num_rows();
        let (mask, mut failed) = self.select(batch);
        let (kept, rows_kept) = match self.keep(batch, mask.as_ref()) {
            Ok(kept) => kept,
            Err(error) => {
                let failure = Failure { column: None, error };
                return self.all_failed(rows, &self.reason(&failure));
            }
        };
        let filtered = rows - failed.len() - kept.num_rows();
        let (output, failed_after) = self.project(&kept);
        let rows_out = merge(rows_kept, kept.num_rows(), &failed_after, &mut failed);
        failed.sort_unstable_by_key(|(row, _)| *row);
        Transformed {
            batch: output,
            rows: rows_out,
            filtered,
            failed,
        }
    }

    fn all_failed(&self, rows: usize, reason: &str) -> Transformed {
        let failed = (0..rows).map(|row| (row, reason.to_owned())).collect();
        let batch = RecordBatch::new_empty(Arc::clone(&self.output));
        Transformed {
            batch,
            rows: (rows > 0).then(Vec::new),
            filtered: 0,
            failed,
        }
    }

    /// The rows that pass the filter, as a mask, `None` when all do; and those in which it fails.
    fn select(&self, batch: &RecordBatch) -> (Option<BooleanBuffer>, Failed) {
        let Some(filter) = &self.filter else {
            return (None, Vec::new());
        };
        let rows = batch.num_rows();
        let evaluate = |range: &Range<usize>| {
            let part = part(batch, range);
            guarded(|| mask(filter.as_ref(), &part)).map_err(|error| Failure { column: None, error })
        };
        let (mut pieces, failed) = isolate(rows, evaluate, |failure| self.reason(failure));
        let mask = match pieces.pop() {
            Some((_, whole)) if failed.is_empty() && pieces.is_empty() => whole,
            last => gather(rows, pieces.into_iter().chain(last)),
        };
        ((mask.count_set_bits() < rows).then_some(mask), failed)
    }

    /// The columns that the projections read, of the rows in `mask`; and the numbers of these rows.
    fn keep(
        &self,
        batch: &RecordBatch,
        mask: Option<&BooleanBuffer>,
    ) -> Result<(RecordBatch, Option<Vec<u32>>), DataFusionError> {
        let mut columns = Vec::with_capacity(self.inputs.len());
        for &input in &self.inputs {
            let column = batch.columns().get(input).ok_or_else(|| wrong_batch(input))?;
            columns.push(Arc::clone(column));
        }
        let Some(mask) = mask else {
            return Ok((record_batch(&self.input_schema, columns, batch.num_rows())?, None));
        };
        let builder = FilterBuilder::new(&BooleanArray::new(mask.clone(), None));
        let filter = if columns.len() > 1 { builder.optimize() } else { builder }.build();
        for column in &mut columns {
            *column = filter.filter(column)?;
        }
        let kept = record_batch(&self.input_schema, columns, filter.count())?;
        Ok((kept, Some(mask.set_indices_u32().collect())))
    }

    /// The output of every row that does not fail; failed rows are numbered within `kept`.
    fn project(&self, kept: &RecordBatch) -> (RecordBatch, Failed) {
        let evaluate = |range: &Range<usize>| self.project_part(&part(kept, range));
        let (mut pieces, mut failed) = isolate(kept.num_rows(), evaluate, |failure| self.reason(failure));
        if pieces.len() == 1
            && let Some((_, whole)) = pieces.pop()
        {
            return (whole, failed);
        }
        match concat_batches(&self.output, pieces.iter().map(|(_, piece)| piece)) {
            Ok(whole) => (whole, failed),
            Err(error) => {
                // Pieces that fit alone but not together: more than 2 GiB of text in one column.
                let reason = self.reason(&Failure {
                    column: None,
                    error: error.into(),
                });
                failed.extend(
                    pieces
                        .iter()
                        .flat_map(|(range, _)| range.clone())
                        .map(|row| (row, reason.clone())),
                );
                failed.sort_unstable_by_key(|(row, _)| *row);
                (RecordBatch::new_empty(Arc::clone(&self.output)), failed)
            }
        }
    }

    fn project_part(&self, part: &RecordBatch) -> Result<RecordBatch, Failure> {
        let rows = part.num_rows();
        let mut columns = Vec::with_capacity(self.projections.len());
        for (index, projection) in self.projections.iter().enumerate() {
            let column = guarded(|| projection.evaluate(part)?.into_array(rows));
            columns.push(column.map_err(|error| Failure {
                column: Some(index),
                error,
            })?);
        }
        record_batch(&self.output, columns, rows).map_err(|error| Failure { column: None, error })
    }

    fn reason(&self, failure: &Failure) -> String {
        let place = match failure.column {
            Some(column) => format!("column `{}`", shortened(self.output.field(column).name(), 64)),
            None => "WHERE".to_owned(),
        };
        let text = format!("SQL {place}: {}", message(&failure.error));
        shortened(&text, REASON_BYTES_MAX).to_owned()
    }
}

/// The first line of [`root_text`].
pub(super) fn message(error: &DataFusionError) -> String {
    root_text(error).lines().next().unwrap_or_default().trim().to_owned()
}

/// The text of an error without the names of the layers that it went through.
pub(super) fn root_text(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Execution(text) | DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => {
            text.clone()
        }
        other => other.strip_backtrace(),
    }
}

fn wrong_batch(column: usize) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the batch has no column {column}: it is not of the plan's read schema"
    ))
}

fn record_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, DataFusionError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// Rows of `batch`; without a copy, and for the whole batch without any work per column.
fn part(batch: &RecordBatch, range: &Range<usize>) -> RecordBatch {
    if range.len() == batch.num_rows() {
        batch.clone()
    } else {
        batch.slice(range.start, range.len())
    }
}

/// A bug in a kernel must cost a row, not the process.
fn guarded<T>(run: impl FnOnce() -> Result<T, DataFusionError>) -> Result<T, DataFusionError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(DataFusionError::Execution(format!(
            "the evaluation panicked: {}",
            text.unwrap_or("no message")
        )))
    })
}

/// The rows for which `filter` is true; null is not.
fn mask(filter: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<BooleanBuffer, DataFusionError> {
    let rows = batch.num_rows();
    match filter.evaluate(batch)? {
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => Ok(BooleanBuffer::new_set(rows)),
        ColumnarValue::Scalar(_) => Ok(BooleanBuffer::new_unset(rows)),
        ColumnarValue::Array(array) => {
            let Some(array) = array.as_any().downcast_ref::<BooleanArray>() else {
                return Err(DataFusionError::Execution(format!(
                    "the filter gave {}",
                    array.data_type()
                )));
            };
            Ok(match array.nulls() {
                Some(nulls) => array.values() & nulls.inner(),
                None => array.values().clone(),
            })
        }
    }
}

/// One mask for all rows; those of no piece are left out.
fn gather(rows: usize, pieces: impl Iterator<Item = (Range<usize>, BooleanBuffer)>) -> BooleanBuffer {
    let mut keep = vec![false; rows];
    for (range, piece) in pieces {
        for row in piece.set_indices() {
            if let Some(slot) = keep.get_mut(range.start + row) {
                *slot = true;
            }
        }
    }
    keep.into_iter().collect()
}

/// Evaluates all rows at once and, where that fails, in halves, down to the single rows that fail. With `b` of `n` rows
/// failing this takes at most about `2 b log2(n)` evaluations over `n log2(n)` rows. Pieces and failures come in order
/// of their rows.
fn isolate<T, E>(
    rows: usize,
    mut evaluate: impl FnMut(&Range<usize>) -> Result<T, E>,
    reason: impl Fn(&E) -> String,
) -> (Vec<(Range<usize>, T)>, Failed) {
    let (mut pieces, mut failed) = (Vec::new(), Vec::new());
    let mut pending: Vec<Range<usize>> = std::iter::once(0..rows).collect();
    while let Some(range) = pending.pop() {
        match evaluate(&range) {
            Ok(piece) => pieces.push((range, piece)),
            Err(error) if range.len() <= 1 => failed.extend(range.map(|row| (row, reason(&error)))),
            Err(_) => {
                let middle = range.start + range.len() / 2;
                pending.push(middle..range.end);
                pending.push(range.start..middle);
            }
        }
    }
    (pieces, failed)
}

/// Moves `failed_after`, numbered within the kept rows, to `failed`, numbered within the input; returns the input rows
/// of the output.
fn merge(
    rows_kept: Option<Vec<u32>>,
    kept: usize,
    failed_after: &[(usize, String)],
    failed: &mut Failed,
) -> Option<Vec<u32>> {
    if failed_after.is_empty() {
        return rows_kept;
    }
    // Batches hold far fewer than 2^32 rows.
    let rows_kept = rows_kept.unwrap_or_else(|| (0..kept as u32).collect());
    let mut bad = failed_after.iter().peekable();
    let mut rows = Vec::with_capacity(kept.saturating_sub(failed_after.len()));
    for (position, row) in rows_kept.into_iter().enumerate() {
        match bad.next_if(|(failed, _)| *failed == position) {
            Some((_, reason)) => failed.push((row as usize, reason.clone())),
            None => rows.push(row),
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rows: usize, bad: &[usize]) -> (usize, usize) {
        let (mut calls, mut visited) = (0, 0);
        let (pieces, failed) = isolate(
            rows,
            |range| {
                calls += 1;
                visited += range.len();
                if bad.iter().any(|row| range.contains(row)) {
                    Err(())
                } else {
                    Ok(range.len())
                }
            },
            |()| "bad".to_owned(),
        );
        let passed: usize = pieces.iter().map(|(_, piece)| piece).sum();
        assert_eq!(passed + failed.len(), rows);
        assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), bad);
        assert!(pieces.is_sorted_by_key(|(range, _)| range.start));
        (calls, visited)
    }

    #[test]
    fn halving_is_not_quadratic() {
        assert_eq!(count(8192, &[]), (1, 8192));
        assert_eq!(count(0, &[]), (1, 0));
        let (calls, visited) = count(8192, &[4711]);
        assert!(calls <= 27 && visited <= 2 * 8192 + 8192, "{calls} {visited}");
        let (calls, _) = count(8192, &[0, 1000, 4711, 8191]);
        assert!(calls <= 4 * 27, "{calls}");
        let (calls, visited) = count(8192, &(0..8192).collect::<Vec<_>>());
        assert!(calls == 2 * 8192 - 1 && visited == 14 * 8192, "{calls} {visited}");
    }
}
