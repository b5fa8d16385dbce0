//! Refusals with their places, outcomes of single rows, and the comparison with plain DataFusion.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMillisecondArray, UInt32Array,
};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use driftmill_connectors::schema::vector_type;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;

fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("carrier", DataType::Utf8),
        field("distance", DataType::Float64),
        field("delay", DataType::Int64),
        field("seats", DataType::Int32),
        field("late", DataType::Boolean),
        field("schedDep", DataType::Int64),
        field("place", vector_type(2).unwrap()),
    ]))
}

const CARRIERS: [&str; 7] = ["AA", "UA", "b6", "", "Ünïcode", "12", "%_"];

/// Small numbers: sums and products of a few stay within their types. One value in six is null.
fn random_batch(rng: &mut Pcg64, rows: usize) -> RecordBatch {
    fn column<T>(rng: &mut Pcg64, rows: usize, mut value: impl FnMut(&mut Pcg64) -> T) -> Vec<Option<T>> {
        (0..rows)
            .map(|_| (rng.random_range(0..6) > 0).then(|| value(rng)))
            .collect()
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows as i64)),
        Arc::new(TimestampMillisecondArray::from(column(rng, rows, |rng| {
            rng.random_range(0..2_000_000_000_000_i64)
        }))),
        Arc::new(StringArray::from(column(rng, rows, |rng| {
            *CARRIERS.choose(rng).unwrap()
        }))),
        Arc::new(Float64Array::from(column(rng, rows, |rng| {
            f64::from(rng.random_range(-40..400_i32)) / 4.0
        }))),
        Arc::new(Int64Array::from(column(rng, rows, |rng| rng.random_range(-9..10_i64)))),
        Arc::new(Int32Array::from(column(rng, rows, |rng| rng.random_range(0..5_i32)))),
        Arc::new(BooleanArray::from(column(rng, rows, |rng| rng.random::<bool>()))),
        Arc::new(Int64Array::from(column(rng, rows, |rng| rng.random_range(0..2400_i64)))),
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            column(rng, rows, |rng| vec![Some(rng.random::<f32>()), Some(0.5)]),
            2,
        )),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Transform>();
};

fn planned(sql: &str) -> Transform {
    Transform::plan(sql, schema()).unwrap_or_else(|error| panic!("{sql}\n{error:?}"))
}

fn refusal(sql: &str) -> SqlError {
    match Transform::plan(sql, schema()) {
        Err(error) => error,
        Ok(_) => panic!("accepted: {sql}"),
    }
}

/// The columns of `batch` that `transform` reads.
fn read(transform: &Transform, batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<usize> = transform
        .read_schema()
        .fields()
        .iter()
        .map(|field| batch.schema().index_of(field.name()).unwrap())
        .collect();
    batch.project(&columns).unwrap()
}

fn apply(transform: &Transform, batch: &RecordBatch) -> Transformed {
    let out = transform.apply(&read(transform, batch));
    check_balance(&out, batch.num_rows());
    out
}

/// Every row has one outcome.
fn check_balance(out: &Transformed, rows: usize) {
    assert_eq!(out.batch.num_rows() + out.filtered + out.failed.len(), rows, "{out:?}");
    match &out.rows {
        None => assert_eq!(out.batch.num_rows(), rows),
        Some(kept) => {
            assert_eq!(kept.len(), out.batch.num_rows());
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]) && kept.iter().all(|row| (*row as usize) < rows));
            assert!(out.failed.iter().all(|(row, _)| !kept.contains(&(*row as u32))));
        }
    }
    assert!(out.failed.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(
        out.failed
            .iter()
            .all(|(_, reason)| reason.len() <= REASON_BYTES_MAX && !reason.is_empty())
    );
}

/// What plain DataFusion answers for the whole input.
fn reference(sql: &str, batches: Vec<RecordBatch>, output: &SchemaRef) -> RecordBatch {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let session = SessionContext::new_with_config(plan::session_config());
    let table = MemTable::try_new(schema(), vec![batches]).unwrap();
    session.register_table("source", Arc::new(table)).unwrap();
    let collected = runtime.block_on(async { session.sql(sql).await?.collect().await });
    let collected = collected.unwrap_or_else(|error| panic!("plain DataFusion: {sql}\n{error}"));
    let same_type: Vec<RecordBatch> = collected.iter().map(|batch| with_schema(batch, output)).collect();
    concat_batches(output, &same_type).unwrap()
}

/// Output columns are declared nullable whatever DataFusion infers; names and types must agree.
fn with_schema(batch: &RecordBatch, output: &SchemaRef) -> RecordBatch {
    for (ours, theirs) in output.fields().iter().zip(batch.schema().fields()) {
        assert_eq!((ours.name(), ours.data_type()), (theirs.name(), theirs.data_type()));
    }
    RecordBatch::try_new(Arc::clone(output), batch.columns().to_vec()).unwrap()
}

#[test]
fn what_a_stream_cannot_answer_is_refused_by_name_and_place() {
    // The place is where `@` stands.
    let cases = [
        (
            "SELECT @count(*) AS n FROM source",
            "not yet: stateful SQL (the aggregate `count`)",
        ),
        ("SELECT id FROM source @GROUP BY id", "not yet: stateful SQL (GROUP BY)"),
        (
            "SELECT id FROM source @GROUP BY ALL",
            "not yet: stateful SQL (GROUP BY)",
        ),
        ("SELECT id FROM source @HAVING id > 1", "not yet: stateful SQL (HAVING)"),
        ("SELECT @DISTINCT id FROM source", "not yet: stateful SQL (DISTINCT)"),
        (
            "SELECT @sum(delay) OVER (PARTITION BY carrier) AS s FROM source",
            "the window function `sum` with OVER",
        ),
        (
            "SELECT @row_number() AS s FROM source",
            "not yet: stateful SQL (the window function `row_number`)",
        ),
        (
            "SELECT id FROM source @QUALIFY id = 1",
            "not yet: stateful SQL (QUALIFY)",
        ),
        (
            "SELECT a.id FROM source a @JOIN source b ON a.id = b.id",
            "not yet: stateful SQL (a join)",
        ),
        ("SELECT id FROM source, @other", "not yet: stateful SQL (a join)"),
        ("SELECT id FROM source @ORDER BY id", "ORDER BY"),
        ("SELECT id FROM source @LIMIT 1", "LIMIT or OFFSET"),
        ("SELECT id FROM source @OFFSET 1", "LIMIT or OFFSET"),
        ("SELECT id FROM source @FETCH FIRST 1 ROWS ONLY", "FETCH"),
        ("SELECT id FROM source @UNION ALL SELECT id FROM source", "UNION"),
        ("SELECT id FROM source @EXCEPT SELECT id FROM source", "EXCEPT"),
        ("@WITH t AS (SELECT id FROM source) SELECT id FROM t", "WITH"),
        ("SELECT id FROM (@SELECT id FROM source)", "a subquery"),
        (
            "SELECT id FROM source WHERE id IN (@SELECT id FROM source)",
            "a subquery",
        ),
        ("SELECT (@SELECT 1) AS x FROM source", "a subquery"),
        (
            "SELECT id FROM source WHERE EXISTS (@SELECT 1 FROM source)",
            "a subquery",
        ),
        ("SELECT @unnest(id) AS x FROM source", "`unnest`"),
        (
            "SELECT value FROM @generate_series(1, 3)",
            "the table function `generate_series`",
        ),
        ("SELECT id FROM @flights", "unknown table `flights`"),
        ("SELECT id FROM @public.source", "unknown table `public.source`"),
        ("@SELECT 1 AS x", "SELECT without `FROM source`"),
        ("@DROP TABLE source", "must be one SELECT from `source`; found DROP"),
        ("@INSERT INTO source VALUES (1)", "found INSERT"),
        ("@CREATE TABLE t AS SELECT id FROM source", "found CREATE"),
        ("@EXPLAIN SELECT id FROM source", "found EXPLAIN"),
        ("@SET a = 1", "found SET"),
        ("@VALUES (1)", "found VALUES"),
        ("SELECT id FROM source; @SELECT id FROM source", "must be one statement"),
        (
            "SELECT @random() AS r FROM source",
            "`random` (a replay must give the same answer)",
        ),
        ("SELECT @uuid() AS r FROM source", "`uuid`"),
        (
            "SELECT @now() AS r FROM source",
            "`now` (a plan is made once and would freeze it)",
        ),
        (
            "SELECT id FROM source WHERE ts < @CURRENT_TIMESTAMP",
            "`current_timestamp`",
        ),
        ("SELECT @current_date AS d FROM source", "`current_date`"),
        ("SELECT @today() AS d FROM source", "`today`"),
        (
            "SELECT id, @distnace FROM source",
            "unknown column `distnace` in [features] sql; did you mean `distance`?",
        ),
        (
            "SELECT id\nFROM source\nWHERE 'ö' = carrier AND source.@delya > 0",
            "did you mean `delay`?",
        ),
        ("SELECT @schedDep FROM source", "did you mean `\"schedDep\"`?"),
        ("SELECT id FROM source WHERE carrier = @\"AA\"", "unknown column `AA`"),
        ("SELECT @other.id FROM source", "unknown table `other`"),
        (
            "SELECT @uper(carrier) AS x FROM source",
            "unknown function `uper` in [features] sql; did you mean `upper`?",
        ),
        ("SELECT id, @delay + 1 FROM source", "this expression has no name"),
        ("SELECT id, @delay AS id FROM source", "two columns named `id`"),
        ("SELECT *, @delay * 2 AS delay FROM source", "two columns named `delay`"),
        ("SELECT id, @upper(carrier, 1) AS x FROM source", "upper"),
        ("SELECT id, @ts - ts AS x FROM source", "Duration"),
        (
            "SELECT id, @CAST(delay AS DECIMAL(10, 2)) AS x FROM source",
            "Decimal128(10, 2)",
        ),
        ("SELECT id, @NULL AS x FROM source", "Null"),
        ("SELECT id, @$1 AS x FROM source", "the placeholder $1"),
        ("SELECT id FROM source WHERE @delay", "boolean"),
        ("SELECT id, @1 / 0 AS x FROM source", "fails for every record"),
        (
            "SELECT id, @CAST('abc' AS INT) AS x FROM source",
            "Cannot cast string 'abc'",
        ),
        (
            "SELECT id, @repeat(carrier, delay) AS x FROM source",
            "argument 2 of `repeat` must be a number, at most 1024",
        ),
        (
            "SELECT id, @lpad(carrier, 1000000) AS x FROM source",
            "argument 2 of `lpad`",
        ),
        (
            "SELECT id, @replace(carrier, 'a', carrier) AS x FROM source",
            "argument 3 of `replace`",
        ),
        ("SELECT id FRM @source", "syntax error"),
        ("SELECT id AS FROM @source", "syntax error"),
        ("SELECT * @REPLACE (delay + 1 AS delay) FROM source", "* REPLACE"),
    ];
    let mut wrong = Vec::new();
    for (case, message) in cases {
        let (sql, at) = (case.replacen('@', "", 1), case.find('@'));
        let Err(error) = Transform::plan(&sql, schema()) else {
            wrong.push(format!("accepted: {sql}"));
            continue;
        };
        let is_one_line = !error.message.contains('\n') && error.message.len() < 500;
        if !(error.message.contains(message) && error.at == at && is_one_line) {
            wrong.push(format!("{sql}\nwanted: {message} at {at:?}\n{error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn odd_texts_are_errors_and_nothing_panics() {
    for sql in [
        "",
        ";",
        "   ",
        "-- only a comment",
        "(SELECT id FROM source)",
        "SELECT",
        "SELECT FROM source",
        "\0",
        "'",
    ] {
        refusal(sql);
    }
    // Every prefix of a valid text, cut at every character, is planned or refused.
    let sql = "SELECT CASE WHEN late THEN 'ä' ELSE carrier END AS x FROM source WHERE delay BETWEEN 1 AND 3 OR late";
    for (end, _) in sql.char_indices() {
        let _ = Transform::plan(&sql[..end], schema());
    }
}

#[test]
fn depth_at_its_limit_plans_and_runs_on_a_small_stack() {
    let batch = random_batch(&mut Pcg64::seed_from_u64(1), 32);
    let deep = [
        format!("SELECT delay{} AS x FROM source", " + 1".repeat(190)),
        format!("SELECT {}delay{} AS x FROM source", "abs(".repeat(40), ")".repeat(40)),
        format!(
            "SELECT id FROM source WHERE delay = 0{}",
            " OR seats = 3 AND delay > 1".repeat(90)
        ),
        format!(
            "SELECT {}delay{} AS x FROM source",
            "coalesce(".repeat(12),
            ", 1)".repeat(12)
        ),
    ];
    for sql in deep {
        let transform = planned(&sql);
        let out = apply(&transform, &batch);
        assert_eq!(
            out.batch,
            reference(&sql, vec![batch.clone()], transform.output_schema()),
            "{sql}"
        );
    }
}

#[test]
fn only_the_needed_columns_are_read_in_source_order() {
    let transform = planned("SELECT Delay + SEATS AS Sum, carrier FROM SOURCE s WHERE s.late");
    let names: Vec<&str> = transform
        .read_schema()
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["carrier", "delay", "seats", "late"]);
    let names: Vec<&str> = transform
        .output_schema()
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["sum", "carrier"]);

    let all = planned("SELECT * FROM source");
    assert_eq!(all.read_schema().fields(), schema().fields());
    let some = planned("SELECT * EXCEPT (ts, late) FROM source");
    assert_eq!(some.output_schema().fields().len(), 7);
    let none = planned("SELECT 1 AS one FROM source");
    assert_eq!(none.read_schema().fields().len(), 0);
    let out = apply(&none, &random_batch(&mut Pcg64::seed_from_u64(1), 5));
    assert_eq!((out.batch.num_rows(), out.rows), (5, None));
    let none = planned("SELECT id FROM source WHERE 1 = 2");
    let out = apply(&none, &random_batch(&mut Pcg64::seed_from_u64(1), 5));
    assert_eq!((out.batch.num_rows(), out.filtered), (0, 5));
}

#[test]
fn the_canonical_text_is_stable_and_tells_plans_apart() {
    let sql = "SELECT id, coalesce(distance, 1.5) * 2 AS d FROM source WHERE carrier IN ('AA', 'UA', 'b6', 'x')";
    let first = planned(sql);
    let same = planned(
        &sql.to_lowercase()
            .replace("'aa', 'ua'", "'AA', 'UA'")
            .replace(", coalesce", ",\n coalesce"),
    );
    assert_eq!(first.canonical(), same.canonical());
    assert!(
        first.canonical().starts_with("read \"id\": Int64\n"),
        "{}",
        first.canonical()
    );
    let others = [
        sql.replace("1.5", "1.25"),
        sql.replace("'x'", "'y'"),
        sql.replace("AS d", "AS e"),
    ];
    for other in others {
        assert_ne!(first.canonical(), planned(&other).canonical());
    }
}

#[test]
fn planning_works_inside_a_runtime() {
    for builder in [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ] {
        let mut builder = builder;
        let runtime = builder.build().unwrap();
        runtime.block_on(async { planned("SELECT id FROM source") });
    }
}

fn texts(values: &[Option<&str>]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("carrier", DataType::Utf8, true)]));
    RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(values.to_vec()))]).unwrap()
}

#[test]
fn rows_that_fail_are_alone() {
    let transform = planned("SELECT CAST(carrier AS BIGINT) AS n FROM source WHERE carrier <> 'no'");
    let batch = texts(&[Some("1"), Some("x"), Some("no"), None, Some("4"), Some("5é"), Some("6")]);
    let out = transform.apply(&batch);
    check_balance(&out, 7);
    assert_eq!(out.rows, Some(vec![0, 4, 6]));
    assert_eq!(out.batch.column(0).as_primitive::<Int64Type>().values(), &[1, 4, 6]);
    assert_eq!(out.filtered, 2);
    assert_eq!(out.failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 5]);
    assert!(
        out.failed[0].1.starts_with("SQL column `n`: ") && out.failed[0].1.contains("'x'"),
        "{:?}",
        out.failed
    );

    let transform = planned("SELECT 10 / CAST(carrier AS BIGINT) AS n FROM source WHERE CAST(carrier AS BIGINT) < 5");
    let long = "é".repeat(1000);
    let batch = texts(&[Some("1"), Some("0"), Some("7"), Some(&long), None, Some("2")]);
    let out = transform.apply(&batch);
    check_balance(&out, 6);
    assert_eq!(out.rows, Some(vec![0, 5]));
    assert_eq!(out.filtered, 2);
    assert!(
        out.failed[0].0 == 1 && out.failed[0].1.contains("ivide by zero"),
        "{:?}",
        out.failed
    );
    assert!(
        out.failed[1].0 == 3 && out.failed[1].1.starts_with("SQL WHERE: "),
        "{:?}",
        out.failed
    );
}

#[test]
fn overflow_fails_its_row_instead_of_wrapping() {
    let schema = Arc::new(Schema::new(vec![Field::new("delay", DataType::Int64, true)]));
    let delays = Int64Array::from(vec![Some(1), Some(i64::MAX), None, Some(i64::MIN)]);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(delays)]).unwrap();
    for (sql, bad) in [
        ("delay + 1", vec![1]),
        ("delay - 1", vec![3]),
        ("(delay * 2) + 0", vec![1, 3]),
        ("-delay", vec![3]),
    ] {
        let out = planned(&format!("SELECT {sql} AS x FROM source")).apply(&batch);
        check_balance(&out, 4);
        assert_eq!(
            out.failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
            bad,
            "{sql} {:?}",
            out.failed
        );
    }
}

#[test]
fn every_row_failing_and_a_wrong_batch_are_no_panic() {
    let transform = planned("SELECT CAST(carrier AS BIGINT) AS n FROM source");
    let out = transform.apply(&texts(&vec![Some("x"); 3000]));
    check_balance(&out, 3000);
    assert_eq!(out.failed.len(), 3000);
    let empty = transform.apply(&texts(&[]));
    check_balance(&empty, 0);
    let schema = Arc::new(Schema::new(vec![Field::new("delay", DataType::Boolean, true)]));
    let wrong = RecordBatch::try_new(schema, vec![Arc::new(BooleanArray::from(vec![true; 3]))]).unwrap();
    let out = transform.apply(&wrong);
    check_balance(&out, 3);
    assert_eq!(out.failed.len(), 3);
    let out = transform.apply(&RecordBatch::new_empty(Arc::new(Schema::empty())));
    check_balance(&out, 0);
}

#[test]
fn nothing_is_copied_when_everything_passes() {
    let batch = random_batch(&mut Pcg64::seed_from_u64(3), 100);
    let transform = planned("SELECT id, carrier FROM source WHERE id >= 0");
    let out = apply(&transform, &batch);
    assert_eq!(out.rows, None);
    let pointer = |array: &ArrayRef| array.as_primitive::<Int64Type>().values().as_ptr();
    assert_eq!(pointer(out.batch.column(0)), pointer(batch.column(0)));
}

#[test]
fn nulls_follow_sql() {
    let batch = random_batch(&mut Pcg64::seed_from_u64(4), 200);
    let transform = planned("SELECT distance FROM source WHERE NOT (delay > 0)");
    let out = apply(&transform, &batch);
    let delays = batch.column(4).as_primitive::<Int64Type>();
    let expected: Vec<u32> = (0..200)
        .filter(|row| delays.is_valid(*row) && delays.value(*row) <= 0)
        .map(|row| row as u32)
        .collect();
    assert_eq!(out.rows, Some(expected));
    let some_null = out.batch.column(0).as_primitive::<Float64Type>().null_count();
    assert!(some_null > 0);
}

/// Writes random expressions of a wanted type; none of them can fail on the values of [`random_batch`].
struct Writer<'r> {
    rng: &'r mut Pcg64,
}

impl Writer<'_> {
    fn pick(&mut self, choices: usize, depth: usize) -> usize {
        // The first two choices of each type are leaves.
        if depth == 0 {
            self.rng.random_range(0..2)
        } else {
            self.rng.random_range(0..choices)
        }
    }

    fn integer(&mut self, depth: usize) -> String {
        let next = depth.saturating_sub(1);
        match self.pick(10, depth) {
            0 => (*["delay", "seats", "\"schedDep\"", "Source.Delay"]
                .choose(self.rng)
                .unwrap())
            .to_owned(),
            1 => self.rng.random_range(-5..20_i32).to_string(),
            2 => format!("({} + {})", self.integer(next), self.integer(next)),
            3 => format!("({} - {})", self.integer(next), self.integer(next)),
            4 => format!("coalesce({}, {})", self.integer(next), self.integer(next)),
            5 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.boolean(next),
                self.integer(next),
                self.integer(next)
            ),
            6 => format!("({} / {})", self.integer(next), self.rng.random_range(1..9_i32)),
            7 => format!("({} % nullif({}, 0))", self.integer(next), self.integer(next)),
            8 => format!("CAST(FLOOR({} / 100) AS BIGINT)", self.float(next)),
            _ => format!("character_length({})", self.text(next)),
        }
    }

    fn float(&mut self, depth: usize) -> String {
        let next = depth.saturating_sub(1);
        match self.pick(9, depth) {
            0 => "distance".to_owned(),
            1 => format!("{}.25", self.rng.random_range(0..50_i32)),
            2 => format!("({} * 1.609344)", self.float(next)),
            3 => format!("({} + {})", self.float(next), self.integer(next)),
            4 => format!("ln(abs({}) + 1)", self.float(next)),
            5 => format!("({} / {})", self.float(next), self.float(next)),
            6 => format!("nullif({}, {})", self.float(next), self.float(next)),
            7 => format!(
                "date_part('{}', ts)",
                ["hour", "dow", "month"].choose(self.rng).unwrap()
            ),
            _ => format!("sqrt(abs({}))", self.float(next)),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        let next = depth.saturating_sub(1);
        match self.pick(7, depth) {
            0 => "CARRIER".to_owned(),
            1 => format!("'{}'", CARRIERS.choose(self.rng).unwrap()),
            2 => format!("upper({})", self.text(next)),
            3 => format!("({} || {})", self.text(next), self.text(next)),
            4 => format!("CAST({} AS VARCHAR)", self.integer(next)),
            5 => format!("substr({}, 1, 2)", self.text(next)),
            _ => format!("CASE {} WHEN 'AA' THEN {} END", self.text(next), self.text(next)),
        }
    }

    fn boolean(&mut self, depth: usize) -> String {
        let next = depth.saturating_sub(1);
        match self.pick(10, depth) {
            0 => "late".to_owned(),
            1 => "delay > 0".to_owned(),
            2 => format!("({} < {})", self.integer(next), self.float(next)),
            3 => format!("({} AND {})", self.boolean(next), self.boolean(next)),
            4 => format!("({} OR {})", self.boolean(next), self.boolean(next)),
            5 => format!("(NOT {})", self.boolean(next)),
            6 => format!("({} IS NULL)", self.float(next)),
            7 => format!(
                "({} LIKE '%{}%')",
                self.text(next),
                ["A", "_", "ï"].choose(self.rng).unwrap()
            ),
            8 => format!("({} IN ('AA', {}, 'zz', 'UA', '12'))", self.text(next), self.text(next)),
            _ => format!(
                "({} BETWEEN {} AND {})",
                self.integer(next),
                self.integer(next),
                self.integer(next)
            ),
        }
    }

    fn statement(&mut self) -> String {
        let items = self.rng.random_range(1..6);
        let mut list: Vec<String> = vec!["id".to_owned()];
        for item in 0..items {
            let expr = match self.rng.random_range(0..4) {
                0 => self.integer(3),
                1 => self.float(3),
                2 => self.text(3),
                _ => self.boolean(3),
            };
            list.push(format!("{expr} AS x{item}"));
        }
        if items % 2 == 0 {
            list.push("place AS vector".to_owned());
        }
        let filter = if self.rng.random_range(0..4) > 0 {
            format!(" WHERE {}", self.boolean(3))
        } else {
            String::new()
        };
        format!("SELECT {} FROM source{filter}", list.join(", "))
    }
}

/// Cuts `batch` at random places, empty pieces among them.
fn cut(rng: &mut Pcg64, batch: &RecordBatch) -> Vec<RecordBatch> {
    let (mut start, mut pieces) = (0, Vec::new());
    while start < batch.num_rows() {
        let rows = rng.random_range(0..40).min(batch.num_rows() - start);
        pieces.push(batch.slice(start, rows));
        start += rows;
    }
    pieces
}

#[test]
fn equals_plain_datafusion_however_the_input_is_cut() {
    for seed in 0..250_u64 {
        let rng = &mut Pcg64::seed_from_u64(seed);
        let sql = Writer { rng }.statement();
        let batch = random_batch(rng, 150);
        let transform = Transform::plan(&sql, schema()).unwrap_or_else(|error| panic!("seed {seed}: {sql}\n{error:?}"));
        let expected = reference(&sql, vec![batch.clone()], transform.output_schema());

        let whole = apply(&transform, &batch);
        assert_eq!(whole.failed, [], "seed {seed}: {sql}");
        assert_eq!(whole.batch, expected, "seed {seed}: {sql}");
        let ids = expected.column(0).as_primitive::<Int64Type>().values();
        let rows = whole.rows.unwrap_or_else(|| (0..150).collect());
        assert!(
            rows.iter().map(|row| i64::from(*row)).eq(ids.iter().copied()),
            "seed {seed}: {sql}"
        );

        let parts = cut(rng, &batch);
        let parts: Vec<RecordBatch> = parts.iter().map(|part| apply(&transform, part).batch).collect();
        assert_eq!(
            concat_batches(transform.output_schema(), &parts).unwrap(),
            expected,
            "seed {seed}: {sql}"
        );
    }
}

/// Expressions that fail on some rows: the outcome of a row is the one it has alone, and the rows that do not fail are
/// what plain DataFusion makes of them.
#[test]
fn a_failing_row_changes_no_other_however_the_input_is_cut() {
    let statements = [
        "SELECT id, 100 / delay AS x, \"schedDep\" % seats AS y FROM source WHERE CAST(carrier AS INT) > 5 OR late",
        "SELECT id, 100 / delay AS x FROM source WHERE delay <> 0 AND 10 / delay > 1",
        "SELECT id, CASE WHEN delay <> 0 THEN 10 / delay END AS x FROM source",
        "SELECT id, coalesce(seats, 7 / delay) AS x, CAST(distance * 1e18 AS INT) AS y FROM source",
        "SELECT id, CAST(carrier AS DOUBLE) AS x, late FROM source",
        "SELECT id, place, 100 / delay AS x FROM source WHERE place IS NOT NULL",
    ];
    for (seed, sql) in statements.iter().enumerate() {
        let rng = &mut Pcg64::seed_from_u64(seed as u64);
        let batch = random_batch(rng, 300);
        let transform = planned(sql);
        let whole = apply(&transform, &batch);
        let mut alone = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let out = apply(&transform, &batch.slice(row, 1));
            alone.0.push(out.batch);
            alone.1.extend(out.failed.into_iter().map(|(_, reason)| (row, reason)));
        }
        assert_eq!(whole.failed, alone.1, "{sql}");
        assert_eq!(
            whole.batch,
            concat_batches(transform.output_schema(), &alone.0).unwrap(),
            "{sql}"
        );
        if seed != 1 && seed != 2 {
            assert!(!whole.failed.is_empty() && whole.batch.num_rows() > 0, "{sql}");
        }

        let good = (0..300_u32).filter(|row| !whole.failed.iter().any(|(failed, _)| *failed == *row as usize));
        let good = take_record_batch(&batch, &UInt32Array::from_iter_values(good)).unwrap();
        // Row by row, because DataFusion evaluates the second half of an AND for rows that the first one excludes.
        let rows = (0..good.num_rows()).map(|row| reference(sql, vec![good.slice(row, 1)], transform.output_schema()));
        assert_eq!(
            whole.batch,
            concat_batches(transform.output_schema(), &rows.collect::<Vec<_>>()).unwrap(),
            "{sql}"
        );
    }
}
