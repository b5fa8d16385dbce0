//! Decides whether a statement can be answered row by row on an endless stream, and refuses by name what cannot.
//!
//! The syntax tree is taken apart field by field, without `..`: a clause that a later parser learns does not compile
//! here until somebody has decided about it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Query,
    Select, SelectFlavor, SelectItem, SetExpr, Spanned, Statement, TableAlias, TableFactor, TableWithJoins,
    UnaryOperator, Value, ValueWithSpan, Visit, Visitor, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::keywords::Keyword as K;

use driftmill_config::nearest;

use super::SqlError;
use super::text::Text;

/// The only table.
pub(super) const TABLE: &str = "source";

/// Longest text that `repeat`, `lpad` and `rpad` may make of one value: their argument could come from a record.
const GROWTH_MAX: u64 = 1024;

/// Checks `statement`, the parse of `text`, against the functions of `session` and the columns of `source`.
pub(super) fn classify<'t>(
    text: &Text<'_>,
    statement: &'t Statement,
    session: &SessionState,
    source: &Schema,
) -> Result<&'t Select, SqlError> {
    let Statement::Query(query) = statement else {
        let first = text
            .first()
            .map(|token| token.token.to_string().to_uppercase())
            .unwrap_or_default();
        return Err(only_select(text, &first));
    };
    let select = select_of(text, query)?;
    let alias = table_of(text, &select.from)?;
    let mut names = Names {
        text,
        session,
        source,
        alias,
        queries: 0,
    };
    if let ControlFlow::Break(error) = query.visit(&mut names) {
        return Err(*error);
    }
    items(text, select, source)?;
    Ok(select)
}

fn only_select(text: &Text<'_>, found: &str) -> SqlError {
    let at = text.first().and_then(|token| text.offset(token.span.start));
    SqlError::new(
        at,
        format!("[features] sql must be one SELECT from `{TABLE}`; found {found}"),
    )
}

/// For what needs state, and will come.
fn stateful(at: Option<usize>, what: impl std::fmt::Display) -> SqlError {
    SqlError::new(at, format!("not yet: stateful SQL ({what})")).help(format!(
        "only projections and WHERE over the rows of `{TABLE}`, one by one"
    ))
}

/// For what has no meaning here.
fn refused(at: Option<usize>, what: impl std::fmt::Display) -> SqlError {
    SqlError::new(at, format!("{what} is not supported in [features] sql")).help(format!(
        "only projections and WHERE over the rows of `{TABLE}`, one by one"
    ))
}

fn select_of<'t>(text: &Text<'_>, query: &'t Query) -> Result<&'t Select, SqlError> {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    let at = |keywords: &[K]| text.keyword(keywords);
    if with.is_some() {
        return Err(refused(at(&[K::WITH]), "WITH (a common table expression)"));
    }
    if order_by.is_some() {
        return Err(refused(at(&[K::ORDER]), "ORDER BY (a stream has no end to sort to)"));
    }
    if limit_clause.is_some() {
        return Err(refused(
            at(&[K::LIMIT, K::OFFSET]),
            "LIMIT or OFFSET (a stream has no end)",
        ));
    }
    let clauses = [
        (fetch.is_some(), K::FETCH, "FETCH (a stream has no end)"),
        (!locks.is_empty(), K::FOR, "FOR UPDATE or SHARE"),
        (for_clause.is_some(), K::FOR, "FOR"),
        (settings.is_some(), K::SETTINGS, "SETTINGS"),
        (format_clause.is_some(), K::FORMAT, "FORMAT"),
        (!pipe_operators.is_empty(), K::SELECT, "the pipe operator |>"),
    ];
    refuse_first(text, &clauses)?;
    match body.as_ref() {
        SetExpr::Select(select) => check_clauses(text, select).map(|()| select.as_ref()),
        SetExpr::Query(_) => Err(refused(text.start_of(query), "a SELECT in parentheses")),
        SetExpr::SetOperation { op, .. } => Err(refused(
            at(&[K::UNION, K::EXCEPT, K::INTERSECT, K::MINUS]),
            format!("{op}"),
        )),
        SetExpr::Values(_) => Err(only_select(text, "VALUES")),
        SetExpr::Table(_) => Err(only_select(text, "TABLE")),
        SetExpr::Insert(_) => Err(only_select(text, "INSERT")),
        SetExpr::Update(_) => Err(only_select(text, "UPDATE")),
        SetExpr::Delete(_) => Err(only_select(text, "DELETE")),
        SetExpr::Merge(_) => Err(only_select(text, "MERGE")),
    }
}

fn refuse_first(text: &Text<'_>, clauses: &[(bool, K, &str)]) -> Result<(), SqlError> {
    let Some((_, keyword, what)) = clauses.iter().find(|(present, ..)| *present) else {
        return Ok(());
    };
    Err(refused(text.keyword(&[*keyword]), what))
}

fn check_clauses(text: &Text<'_>, select: &Select) -> Result<(), SqlError> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let groups = match group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, modifiers) => !(keys.is_empty() && modifiers.is_empty()),
    };
    let state = [
        (groups, K::GROUP, "GROUP BY"),
        (having.is_some(), K::HAVING, "HAVING"),
        (
            matches!(distinct, Some(Distinct::Distinct | Distinct::On(_))),
            K::DISTINCT,
            "DISTINCT",
        ),
        (!named_window.is_empty(), K::WINDOW, "WINDOW"),
        (qualify.is_some(), K::QUALIFY, "QUALIFY"),
    ];
    if let Some((_, keyword, what)) = state.iter().find(|(present, ..)| *present) {
        return Err(stateful(text.keyword(&[*keyword]), what));
    }
    let clauses = [
        (*flavor != SelectFlavor::Standard, K::FROM, "FROM before SELECT"),
        (!optimizer_hints.is_empty(), K::SELECT, "an optimizer hint"),
        (select_modifiers.is_some(), K::SELECT, "a SELECT modifier"),
        (top.is_some(), K::TOP, "TOP (a stream has no end)"),
        (exclude.is_some(), K::EXCLUDE, "EXCLUDE after the list"),
        (into.is_some(), K::INTO, "INTO"),
        (!lateral_views.is_empty(), K::LATERAL, "LATERAL VIEW"),
        (prewhere.is_some(), K::PREWHERE, "PREWHERE"),
        (!connect_by.is_empty(), K::CONNECT, "CONNECT BY"),
        (!cluster_by.is_empty(), K::CLUSTER, "CLUSTER BY"),
        (!distribute_by.is_empty(), K::DISTRIBUTE, "DISTRIBUTE BY"),
        (!sort_by.is_empty(), K::SORT, "SORT BY"),
        (value_table_mode.is_some(), K::AS, "SELECT AS STRUCT or VALUE"),
        (projection.is_empty(), K::SELECT, "SELECT without columns"),
    ];
    refuse_first(text, &clauses)
}

/// Checks that `from` is the one table; returns its alias.
fn table_of<'t>(text: &Text<'_>, from: &'t [TableWithJoins]) -> Result<Option<&'t Ident>, SqlError> {
    let Some(TableWithJoins { relation, joins }) = from.first() else {
        return Err(refused(
            text.keyword(&[K::SELECT]),
            format!("SELECT without `FROM {TABLE}`"),
        ));
    };
    if let Some(second) = from.get(1) {
        return Err(stateful(text.start_of(&second.relation), "a join"));
    }
    if let Some(join) = joins.first() {
        let at = text.keyword(&[K::JOIN]).or_else(|| text.start_of(&join.relation));
        return Err(stateful(at, "a join"));
    }
    let at = text.start_of(relation);
    match relation {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            if args.is_some() {
                return Err(refused(at, format!("the table function `{name}`")));
            }
            if !is_source(name) {
                return Err(SqlError::new(at, format!("unknown table `{name}` in [features] sql"))
                    .help(format!("the records are the table `{TABLE}`")));
            }
            let extras = version.is_some() || *with_ordinality || json_path.is_some() || sample.is_some();
            if extras || !(with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty()) {
                return Err(refused(at, format!("what follows `{TABLE}`")));
            }
            alias_of(text, alias.as_ref())
        }
        TableFactor::Derived { .. } => Err(refused(at.or(text.keyword(&[K::FROM])), "a subquery")),
        TableFactor::UNNEST { .. } => Err(refused(at.or(text.keyword(&[K::UNNEST])), "UNNEST")),
        TableFactor::NestedJoin { .. } => Err(stateful(at.or(text.keyword(&[K::FROM])), "a join")),
        _ => Err(refused(at.or(text.keyword(&[K::FROM])), "this table expression")),
    }
}

fn is_source(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| normal(ident) == TABLE))
}

fn alias_of<'t>(text: &Text<'_>, alias: Option<&'t TableAlias>) -> Result<Option<&'t Ident>, SqlError> {
    let Some(TableAlias {
        explicit: _,
        name,
        columns,
        at,
    }) = alias
    else {
        return Ok(None);
    };
    if !columns.is_empty() || at.is_some() {
        return Err(refused(text.offset(name.span.start), "a table alias with columns"));
    }
    Ok(Some(name))
}

/// An identifier as the planner sees it: lower case unless quoted.
fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_ascii_lowercase()
    }
}

/// Every item needs a name, and no name comes twice.
fn items(text: &Text<'_>, select: &Select, source: &Schema) -> Result<(), SqlError> {
    let starts = text.items();
    let mut seen = BTreeSet::new();
    for (position, item) in select.projection.iter().enumerate() {
        let at = starts.get(position).copied().flatten();
        for name in names_of(text, item, source, at)? {
            if !seen.insert(name.clone()) {
                return Err(
                    SqlError::new(at, format!("[features] sql has two columns named `{name}`"))
                        .help("rename one of them with AS"),
                );
            }
        }
    }
    Ok(())
}

fn names_of(text: &Text<'_>, item: &SelectItem, source: &Schema, at: Option<usize>) -> Result<Vec<String>, SqlError> {
    match item {
        SelectItem::ExprWithAlias { expr: _, alias } => Ok(vec![normal(alias)]),
        SelectItem::ExprWithAliases { .. } => Err(refused(at, "a list of aliases")),
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
            let left_out = left_out(text, options, at)?;
            let names = source.fields().iter().map(|field| field.name().clone());
            Ok(names.filter(|name| !left_out.contains(name)).collect())
        }
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Ok(vec![normal(ident)]),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if parts.len() == 2 => {
            Ok(parts.last().map(normal).into_iter().collect())
        }
        SelectItem::UnnamedExpr(_) => {
            Err(SqlError::new(at, "this expression has no name").help("write `expression AS name`"))
        }
    }
}

/// The columns that `* EXCEPT (...)` leaves out.
fn left_out(text: &Text<'_>, options: &WildcardAdditionalOptions, at: Option<usize>) -> Result<Vec<String>, SqlError> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let clauses = [
        (opt_ilike.is_some(), K::ILIKE, "* ILIKE"),
        (opt_exclude.is_some(), K::EXCLUDE, "* EXCLUDE (write EXCEPT)"),
        (opt_replace.is_some(), K::REPLACE, "* REPLACE"),
        (opt_rename.is_some(), K::RENAME, "* RENAME"),
        (opt_alias.is_some(), K::AS, "* AS"),
    ];
    refuse_first(text, &clauses).map_err(|error| SqlError {
        at: error.at.or(at),
        ..error
    })?;
    let except = opt_except.iter();
    Ok(except
        .flat_map(|it| std::iter::once(&it.first_element).chain(&it.additional_elements))
        .map(normal)
        .collect())
}

/// Looks up every column and function, and refuses nested queries.
struct Names<'a> {
    text: &'a Text<'a>,
    session: &'a SessionState,
    source: &'a Schema,
    alias: Option<&'a Ident>,
    queries: usize,
}

impl Visitor for Names<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.queries += 1;
        if self.queries == 1 {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(Box::new(refused(self.text.start_of(query), "a subquery")))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match self.check(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Names<'_> {
    fn check(&self, expr: &Expr) -> Result<(), SqlError> {
        match expr {
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => self.compound(parts),
            Expr::Function(function) => self.function(function),
            Expr::Value(ValueWithSpan {
                value: Value::Placeholder(name),
                ..
            }) => Err(refused(self.text.start_of(expr), format!("the placeholder {name}"))),
            _ => Ok(()),
        }
    }

    fn column(&self, ident: &Ident) -> Result<(), SqlError> {
        let name = normal(ident);
        if self.source.field_with_name(&name).is_ok() {
            return Ok(());
        }
        let names: Vec<&str> = self.source.fields().iter().map(|field| field.name().as_str()).collect();
        let hint = nearest(&name, names.iter().copied()).map(|near| format!("; did you mean `{}`?", quoted(near)));
        let message = format!(
            "unknown column `{}` in [features] sql{}",
            ident.value,
            hint.unwrap_or_default()
        );
        let shown = names.iter().take(20).copied().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 20 { ", ..." } else { "" };
        let text = if ident.quote_style.is_some() {
            " (a text is written in 'single quotes')"
        } else {
            ""
        };
        let help = format!("the columns of the source are {shown}{more}{text}");
        Err(SqlError::new(self.text.offset(ident.span.start), message).help(help))
    }

    /// `source.column`, or a field of a struct column.
    fn compound(&self, parts: &[Ident]) -> Result<(), SqlError> {
        let (Some(first), Some(second)) = (parts.first(), parts.get(1)) else {
            return Ok(());
        };
        let name = normal(first);
        if self
            .source
            .field_with_name(&name)
            .is_ok_and(|field| matches!(field.data_type(), DataType::Struct(_)))
        {
            return Ok(());
        }
        if name == self.alias.map_or(TABLE.to_owned(), normal) {
            return self.column(second);
        }
        let message = format!("unknown table `{}` in [features] sql", first.value);
        Err(SqlError::new(self.text.offset(first.span.start), message)
            .help(format!("the records are the table `{TABLE}`")))
    }

    fn function(&self, function: &Function) -> Result<(), SqlError> {
        let Function {
            name,
            uses_odbc_syntax: _,
            parameters,
            args,
            filter,
            null_treatment,
            over,
            within_group,
        } = function;
        let at = self.text.offset(name.span().start);
        let called = match name.0.as_slice() {
            [part] => part.as_ident().map(normal),
            _ => None,
        };
        let Some(called) = called else {
            return Err(SqlError::new(at, format!("unknown function `{name}`")));
        };
        if over.is_some() {
            return Err(stateful(at, format!("the window function `{called}` with OVER")));
        }
        if ["unnest", "generate_series", "range", "explode", "flatten"].contains(&called.as_str()) {
            return Err(refused(at, format!("`{called}` (it makes many rows of one)")));
        }
        let Some(scalar) = self.session.scalar_functions().get(&called) else {
            return Err(self.not_scalar(&called, at));
        };
        match scalar.signature().volatility {
            Volatility::Immutable => {}
            Volatility::Stable => {
                return Err(
                    refused(at, format!("`{called}` (a plan is made once and would freeze it)"))
                        .help("use the record's time column"),
                );
            }
            Volatility::Volatile => {
                return Err(refused(at, format!("`{called}` (a replay must give the same answer)"))
                    .help("use a column of the record"));
            }
        }
        let extras = filter.is_some() || null_treatment.is_some() || !within_group.is_empty();
        if extras || !matches!(parameters, FunctionArguments::None) {
            return Err(refused(at, format!("an aggregate's clause on `{called}`")));
        }
        check_growth(scalar.name(), args, at)
    }

    fn not_scalar(&self, called: &str, at: Option<usize>) -> SqlError {
        if self.session.aggregate_functions().contains_key(called) {
            return stateful(at, format!("the aggregate `{called}`"));
        }
        if self.session.window_functions().contains_key(called) {
            return stateful(at, format!("the window function `{called}`"));
        }
        if self.session.table_functions().contains_key(called) {
            return refused(at, format!("the table function `{called}`"));
        }
        let known: BTreeSet<&str> = self.session.scalar_functions().keys().map(String::as_str).collect();
        let hint = nearest(called, known).map(|near| format!("; did you mean `{near}`?"));
        SqlError::new(
            at,
            format!(
                "unknown function `{called}` in [features] sql{}",
                hint.unwrap_or_default()
            ),
        )
    }
}

/// A column name as it must be written.
fn quoted(name: &str) -> String {
    if name.chars().any(|character| character.is_ascii_uppercase()) {
        format!("\"{name}\"")
    } else {
        name.to_owned()
    }
}

/// What an argument must be so that a result cannot be far larger than its record.
enum Bound {
    /// A literal number of at most [`GROWTH_MAX`].
    Length,
    /// Any literal.
    Constant,
}

/// Functions whose result can be far larger than the record when the argument at a position comes from it.
const GROWING: [(&str, usize, Bound); 5] = [
    ("repeat", 1, Bound::Length),
    ("lpad", 1, Bound::Length),
    ("rpad", 1, Bound::Length),
    ("replace", 2, Bound::Constant),
    ("regexp_replace", 2, Bound::Constant),
];

fn check_growth(name: &str, args: &FunctionArguments, at: Option<usize>) -> Result<(), SqlError> {
    let Some((_, position, bound)) = GROWING.iter().find(|(growing, ..)| *growing == name) else {
        return Ok(());
    };
    let FunctionArguments::List(list) = args else {
        return Ok(());
    };
    if list
        .args
        .iter()
        .any(|argument| !matches!(argument, FunctionArg::Unnamed(_)))
    {
        return Err(refused(at, format!("`{name}` with named arguments")));
    }
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) = list.args.get(*position) else {
        return Ok(());
    };
    let bounded = match (literal(argument), bound) {
        (Some(Value::Number(digits, _)), Bound::Length) => digits.parse::<u64>().is_ok_and(|it| it <= GROWTH_MAX),
        (literal, Bound::Constant) => literal.is_some(),
        _ => false,
    };
    if bounded {
        return Ok(());
    }
    let what = match bound {
        Bound::Length => format!("a number, at most {GROWTH_MAX}"),
        Bound::Constant => "a constant".to_owned(),
    };
    let message = format!("argument {} of `{name}` must be {what}", position + 1);
    Err(SqlError::new(at, message).help("one record could otherwise take the memory of the process"))
}

/// The value of a literal.
fn literal(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::Value(value) if !matches!(value.value, Value::Placeholder(_)) => Some(&value.value),
        Expr::Nested(inner)
        | Expr::UnaryOp {
            op: UnaryOperator::Plus,
            expr: inner,
        } => literal(inner),
        _ => None,
    }
}
