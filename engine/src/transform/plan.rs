//! From SQL to a [`Program`]: parsed, classified, analysed and simplified by DataFusion, then made physical over the
//! columns that are read.
//!
//! The logical optimizer is not run: the shape is already projection over filter over table, its expression rewrites
//! are applied here one expression at a time, and its common-subexpression rule would nest a second projection.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Select, SelectItem, SetExpr, Statement};
use driftmill_connectors::schema::vector_width;
use tokio::runtime::Runtime;

use super::classify::{TABLE, classify};
use super::evaluate::{Program, message, root_text};
use super::text::{DEPTH_MAX, Text};
use super::{SqlError, Transform};

/// Parser and planner recurse; within the limits of [`Text`] they stay far below this, in debug builds too.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Plans on a thread of its own, for its stack, and because a caller inside a tokio runtime may not block on another.
pub(super) fn plan(sql: &str, source: &SchemaRef) -> Result<Transform, SqlError> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("sql-plan".to_owned())
            .stack_size(STACK_BYTES);
        let planner = builder
            .spawn_scoped(scope, || build(sql, source))
            .map_err(|error| SqlError::new(None, format!("no thread to plan the SQL on: {error}")))?;
        planner.join().unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
    })
}

fn panicked(panic: &(dyn Any + Send)) -> SqlError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    SqlError::new(
        None,
        format!("the SQL planner panicked: {}", text.unwrap_or("no message")),
    )
    .help("this is a bug in DataFusion or Driftmill; write the expression in another way")
}

fn build(sql: &str, source: &SchemaRef) -> Result<Transform, SqlError> {
    let text = Text::new(sql)?;
    let statement = text.parse()?;
    let planner = Planner::new(source)?;
    let select = classify(&text, &statement, &planner.state, source)?;
    let places = Places::new(&text, select);
    let logical = planner
        .logical(&statement)
        .map_err(|error| planner.locate(&statement, &places, &error))?;
    let parts = planner.parts(&logical, &places)?;
    check_names(&parts, &places)?;
    let needed = Needed::new(source, &parts)?;
    let program = planner.program(&parts, &needed, &places)?;
    let canonical = canonical(&needed.read, &parts, &program.output);
    Ok(Transform {
        read: needed.read,
        canonical,
        program,
    })
}

/// Configuration shared by planning and by the tests that compare with plain DataFusion.
pub(super) fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(1);
    // Text stays in the layout that decoders write and encoders read, instead of being copied to views by each cast.
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config
}

/// Where the parts of the statement stand.
struct Places {
    items: Vec<Option<usize>>,
    predicate: Option<usize>,
    /// Whether output column `i` is item `i`.
    one_to_one: bool,
}

impl Places {
    fn new(text: &Text<'_>, select: &Select) -> Self {
        let is_wildcard =
            |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        let one_to_one = !select.projection.iter().any(is_wildcard);
        Self {
            items: text.items(),
            predicate: text.predicate(),
            one_to_one,
        }
    }

    fn item(&self, index: usize) -> Option<usize> {
        self.items.get(index).copied().flatten()
    }

    fn output(&self, column: usize) -> Option<usize> {
        if self.one_to_one { self.item(column) } else { None }
    }
}

/// The simplified expressions, columns unqualified.
struct Parts {
    /// With metadata as the plan declares it; the type is that of the expression before simplification.
    outputs: Vec<(Field, Expr)>,
    filter: Option<Expr>,
}

/// Which columns are read, and which of them the projections use.
struct Needed {
    read: SchemaRef,
    inputs: Vec<usize>,
    input_schema: SchemaRef,
}

impl Needed {
    fn new(source: &Schema, parts: &Parts) -> Result<Self, SqlError> {
        let mut by_projections = BTreeSet::new();
        for (_, expr) in &parts.outputs {
            columns(source, expr, &mut by_projections)?;
        }
        let mut all = by_projections.clone();
        if let Some(filter) = &parts.filter {
            columns(source, filter, &mut all)?;
        }
        let all: Vec<usize> = all.into_iter().collect();
        let read = source.project(&all).map_err(|error| internal(&error.into()))?;
        let inputs: Vec<usize> = (0..all.len())
            .filter(|&read| by_projections.contains(&all[read]))
            .collect();
        let input_schema = read.project(&inputs).map_err(|error| internal(&error.into()))?;
        Ok(Self {
            read: Arc::new(read),
            inputs,
            input_schema: Arc::new(input_schema),
        })
    }
}

fn columns(source: &Schema, expr: &Expr, into: &mut BTreeSet<usize>) -> Result<(), SqlError> {
    for column in expr.column_refs() {
        into.insert(
            source
                .index_of(column.name())
                .map_err(|error| internal(&error.into()))?,
        );
    }
    Ok(())
}

struct Planner {
    state: SessionState,
    runtime: Runtime,
    /// Unqualified.
    schema: Arc<DFSchema>,
}

impl Planner {
    fn new(source: &SchemaRef) -> Result<Self, SqlError> {
        let state = SessionStateBuilder::new()
            .with_config(session_config())
            .with_default_features()
            .build();
        let session = SessionContext::new_with_state(state);
        let schema = DFSchema::try_from(Arc::clone(source)).map_err(|error| internal(&error))?;
        let table = Arc::new(EmptyTable::new(Arc::clone(source)));
        session.register_table(TABLE, table).map_err(|error| internal(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| SqlError::new(None, format!("no runtime to plan the SQL on: {error}")))?;
        Ok(Self {
            state: session.state(),
            runtime,
            schema: Arc::new(schema),
        })
    }

    /// The plan with its types coerced.
    fn logical(&self, statement: &Statement) -> Result<LogicalPlan, DataFusionError> {
        let statement = DfStatement::Statement(Box::new(statement.clone()));
        let plan = self.runtime.block_on(self.state.statement_to_plan(statement))?;
        let options = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        options.verify_plan(&plan)?;
        self.state
            .analyzer()
            .execute_and_check(plan, self.state.config_options(), |_, _| {})
    }

    /// Finds the part of `statement` that `error` is about, by planning its parts one by one.
    fn locate(&self, statement: &Statement, places: &Places, error: &DataFusionError) -> SqlError {
        for (index, part) in parts_of(statement).iter().enumerate() {
            if let Err(error) = self.logical(part) {
                return refused(&error, places.item(index));
            }
        }
        refused(error, places.predicate.or(places.item(0)))
    }

    fn parts(&self, plan: &LogicalPlan, places: &Places) -> Result<Parts, SqlError> {
        let LogicalPlan::Projection(projection) = plan else {
            return Err(unexpected(plan));
        };
        let (mut filter, mut input) = (None, projection.input.as_ref());
        loop {
            input = match input {
                LogicalPlan::Filter(it) if filter.is_none() => {
                    filter = Some(self.simplify(&it.predicate, places.predicate)?);
                    it.input.as_ref()
                }
                LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
                LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => break,
                other => return Err(unexpected(other)),
            };
        }
        let fields = projection.schema.fields().iter();
        let outputs = fields
            .zip(&projection.expr)
            .enumerate()
            .map(|(index, (field, expr))| Ok((field.as_ref().clone(), self.simplify(expr, places.output(index))?)));
        Ok(Parts {
            outputs: outputs.collect::<Result<_, _>>()?,
            filter,
        })
    }

    fn simplify(&self, expr: &Expr, at: Option<usize>) -> Result<Expr, SqlError> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&self.schema))
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        let simplified = unqualified(expr.clone().unalias()).and_then(|it| ExprSimplifier::new(context).simplify(it));
        simplified.map_err(|error| refused(&error, at))
    }

    fn program(&self, parts: &Parts, needed: &Needed, places: &Places) -> Result<Program, SqlError> {
        let filter = parts
            .filter
            .as_ref()
            .map(|filter| self.physical(filter, &needed.read, places.predicate));
        let mut projections = Vec::with_capacity(parts.outputs.len());
        let mut fields = Vec::with_capacity(parts.outputs.len());
        for (index, (field, expr)) in parts.outputs.iter().enumerate() {
            let at = places.output(index);
            let projection = self.physical(expr, &needed.input_schema, at)?;
            let data_type = projection
                .data_type(&needed.input_schema)
                .map_err(|error| refused(&error, at))?;
            check_type(field.name(), &data_type, at)?;
            // What DataFusion infers about nulls is not relied upon: a wrong inference would cost rows.
            let output = Field::new(field.name(), data_type, true).with_metadata(field.metadata().clone());
            fields.push(output);
            projections.push(projection);
        }
        Ok(Program {
            filter: filter.transpose()?,
            inputs: needed.inputs.clone(),
            input_schema: Arc::clone(&needed.input_schema),
            projections,
            output: Arc::new(Schema::new(fields)),
        })
    }

    fn physical(&self, expr: &Expr, schema: &SchemaRef, at: Option<usize>) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
        let input = DFSchema::try_from(Arc::clone(schema)).map_err(|error| internal(&error))?;
        let physical = self
            .state
            .create_physical_expr(expr.clone(), &input)
            .and_then(|physical| checked_arithmetic(physical, schema));
        let physical = physical.map_err(|error| refused(&error, at))?;
        if height(&physical) > 2 * DEPTH_MAX {
            return Err(SqlError::new(at, "this expression is too deep once it is expanded")
                .help("split the expression into several columns"));
        }
        check_constant(expr, &physical, at)?;
        Ok(physical)
    }
}

/// The statement with one item of its list each.
fn parts_of(statement: &Statement) -> Vec<Statement> {
    let Statement::Query(query) = statement else {
        return Vec::new();
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Vec::new();
    };
    let items = select.projection.iter().map(|item| {
        let select = Select {
            projection: vec![item.clone()],
            selection: None,
            ..select.as_ref().clone()
        };
        let mut query = query.clone();
        *query.body = SetExpr::Select(Box::new(select));
        Statement::Query(query)
    });
    items.collect()
}

fn unqualified(expr: Expr) -> Result<Expr, DataFusionError> {
    let stripped = expr.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    stripped.map(|stripped| stripped.data)
}

/// An integer overflow is an error of its row, where DataFusion would wrap around without a word.
fn checked_arithmetic(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let checked = expr.transform_up(|expr| {
        let checked = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let wraps = matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply);
            wraps.then(|| binary.clone())
        } else if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            negation(negative.arg(), schema)?
        } else {
            None
        };
        Ok(match checked {
            Some(binary) => Transformed::yes(Arc::new(binary.with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    });
    checked.map(|checked| checked.data)
}

/// `-x` as `0 - x`, for integers: for floats, zero has a sign.
fn negation(arg: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Option<BinaryExpr>, DataFusionError> {
    let data_type = arg.data_type(schema)?;
    if !data_type.is_signed_integer() {
        return Ok(None);
    }
    let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
    Ok(Some(BinaryExpr::new(zero, Operator::Minus, Arc::clone(arg))))
}

fn height(expr: &Arc<dyn PhysicalExpr>) -> usize {
    1 + expr.children().into_iter().map(height).max().unwrap_or(0)
}

/// A constant that cannot be computed would fail every record: better to fail the start.
fn check_constant(expr: &Expr, physical: &Arc<dyn PhysicalExpr>, at: Option<usize>) -> Result<(), SqlError> {
    if !expr.column_refs().is_empty() {
        return Ok(());
    }
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one_row)
        .map_err(|error| internal(&error.into()))?;
    match physical.evaluate(&row) {
        Ok(_) => Ok(()),
        Err(error) => Err(SqlError::new(
            at,
            format!("this fails for every record: {}", message(&error)),
        )),
    }
}

fn check_names(parts: &Parts, places: &Places) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    for (index, (field, _)) in parts.outputs.iter().enumerate() {
        if !seen.insert(field.name()) {
            let message = format!("[features] sql has two columns named `{}`", field.name());
            return Err(SqlError::new(places.output(index), message).help("rename one of them with AS"));
        }
    }
    Ok(())
}

fn check_type(name: &str, data_type: &DataType, at: Option<usize>) -> Result<(), SqlError> {
    use DataType as D;
    let help = match data_type {
        D::Boolean | D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => {
            return Ok(());
        }
        D::Float32 | D::Float64 | D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Timestamp(..) | D::Date32 => return Ok(()),
        vectors if vector_width(vectors).is_some() => return Ok(()),
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) | D::Float16 => {
            "write CAST(... AS DOUBLE)"
        }
        D::Interval(_) | D::Duration(_) => "take the difference of `date_part('epoch', ...)` of the two times",
        D::Date64 => "write CAST(... AS TIMESTAMP)",
        D::Time32(_) | D::Time64(_) => "take the parts that you need with `date_part`",
        D::Null => "give the NULL a type: CAST(NULL AS DOUBLE)",
        _ => "CAST it to a number, a text, a boolean or a timestamp, or leave it out",
    };
    Err(SqlError::new(
        at,
        format!("column `{name}` would be of type {data_type}, which cannot be a feature"),
    )
    .help(help))
}

fn canonical(read: &Schema, parts: &Parts, output: &Schema) -> String {
    let mut text = String::new();
    for field in read.fields() {
        let _ = writeln!(text, "read {:?}: {}", field.name(), field.data_type());
    }
    if let Some(filter) = &parts.filter {
        let _ = writeln!(text, "where {filter}");
    }
    for (field, (_, expr)) in output.fields().iter().zip(&parts.outputs) {
        let _ = writeln!(text, "select {:?}: {} = {expr}", field.name(), field.data_type());
    }
    text
}

/// An error of DataFusion's about the SQL: its first line, and what follows as help.
fn refused(error: &DataFusionError, at: Option<usize>) -> SqlError {
    let text = root_text(error);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let refusal = SqlError::new(at, format!("[features] sql: {}", first.trim()));
    if rest.trim().is_empty() {
        refusal
    } else {
        refusal.help(rest.trim())
    }
}

fn unexpected(plan: &LogicalPlan) -> SqlError {
    let text = plan.display().to_string();
    SqlError::new(
        None,
        format!(
            "[features] sql needs a step that is not supported: {}",
            super::shortened(&text, 120)
        ),
    )
}

fn internal(error: &DataFusionError) -> SqlError {
    SqlError::new(None, format!("the SQL could not be planned: {}", message(error)))
}
