//! Tests that cross the files of the codec: outcomes of bad input, the two paths against each other and against
//! arrow-json, the writer against the decoder.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Date64Array, DictionaryArray, FixedSizeListArray,
    Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch,
    RecordBatchOptions, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Int8Type, Schema, SchemaRef, TimeUnit};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::encoded::Encoded;
use crate::schema::{TYPES, vector_type};

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields
            .iter()
            .map(|(name, kind)| Field::new(*name, kind.clone(), true))
            .collect::<Vec<_>>(),
    ))
}

/// Every type that can be declared, vectors of three numbers among them, by its name.
fn types() -> Vec<(&'static str, DataType)> {
    let vectors = ("float32[3]", vector_type(3).unwrap());
    TYPES.into_iter().chain([vectors]).collect()
}

/// A column of each type, named like it.
fn all_types() -> SchemaRef {
    schema(&types())
}

fn decode(schema: &SchemaRef, payloads: &[&[u8]]) -> Decoded {
    let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(*payload)).collect();
    JSON.decoder(schema.clone()).unwrap().decode(&payloads).unwrap()
}

/// Decodes one record with a single column `a`.
fn one(kind: &DataType, payload: &[u8]) -> Result<ArrayRef, BadRecord> {
    let mut decoded = decode(&schema(&[("a", kind.clone())]), &[payload]);
    match decoded.bad.pop() {
        Some((0, reason)) if decoded.batch.num_rows() == 0 => Err(reason),
        None if decoded.batch.num_rows() == 1 => Ok(decoded.batch.column(0).clone()),
        other => panic!("{other:?} and {} rows", decoded.batch.num_rows()),
    }
}

fn kind_of(kind: &DataType, payload: &[u8]) -> &'static str {
    one(kind, payload).map_or_else(
        |reason| reason.kind,
        |array| if array.is_null(0) { "null" } else { "value" },
    )
}

const MS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

#[test]
fn every_kind_of_bad_value_has_its_outcome() {
    use DataType::{Boolean, Date32, Float32, Float64, Int32, Int64, Utf8};
    let vectors = &vector_type(2).unwrap();
    let cases: &[(&DataType, &str, &str)] = &[
        (vectors, "[1,-2.5e3]", "value"),
        (vectors, " [ 1 ,\t0.1 ] ", "value"),
        (vectors, "null", "null"),
        (vectors, "[1]", "type"),
        (vectors, "[]", "type"),
        (vectors, "[1,2,3]", "type"),
        (vectors, "[1,null]", "type"),
        (vectors, "[1,\"2\"]", "type"),
        (vectors, "[1,true]", "type"),
        (vectors, "[1,[2]]", "type"),
        (vectors, "[[1,2]]", "type"),
        (vectors, "1", "type"),
        (vectors, "\"[1,2]\"", "type"),
        (vectors, "{\"0\":1,\"1\":2}", "type"),
        (vectors, "[1,4e38]", "range"),
        (vectors, "[1,1e999]", "range"),
        (vectors, "[1,NaN]", "syntax"),
        (vectors, "[1,2,]", "syntax"),
        (vectors, "[1 2]", "syntax"),
        (vectors, "[1,2", "syntax"),
        (vectors, "[,1]", "syntax"),
        (&Int64, "7", "value"),
        (&Int64, "-0", "value"),
        (&Int64, "null", "null"),
        (&Int64, "9223372036854775807", "value"),
        (&Int64, "-9223372036854775808", "value"),
        (&Int64, "9223372036854775808", "range"),
        (&Int64, "-99999999999999999999999999", "range"),
        (&Int64, "1.9", "type"),
        (&Int64, "1.0", "type"),
        (&Int64, "1e3", "type"),
        (&Int64, "\"7\"", "type"),
        (&Int64, "true", "type"),
        (&Int64, "[7]", "type"),
        (&Int64, "{}", "type"),
        (&Int64, "01", "syntax"),
        (&Int64, "+1", "syntax"),
        (&Int64, "-", "syntax"),
        (&Int64, "NaN", "syntax"),
        (&Int64, "", "syntax"),
        (&Int64, "nul", "syntax"),
        (&Int32, "2147483647", "value"),
        (&Int32, "-2147483648", "value"),
        (&Int32, "2147483648", "range"),
        (&Float64, "1", "value"),
        (&Float64, "9007199254740993", "value"),
        (&Float64, "1e308", "value"),
        (&Float64, "1e-999", "value"),
        (&Float64, "1e999", "range"),
        (&Float64, "-1e999", "range"),
        (&Float64, "NaN", "syntax"),
        (&Float64, "Infinity", "syntax"),
        (&Float64, "-Infinity", "syntax"),
        (&Float64, "inf", "syntax"),
        (&Float64, "\"NaN\"", "type"),
        (&Float64, "\"inf\"", "type"),
        (&Float64, "\"1.5\"", "type"),
        (&Float64, "false", "type"),
        (&Float64, ".5", "syntax"),
        (&Float64, "5.", "syntax"),
        (&Float32, "3e38", "value"),
        (&Float32, "4e38", "range"),
        (&Boolean, "true", "value"),
        (&Boolean, "false", "value"),
        (&Boolean, "1", "type"),
        (&Boolean, "\"true\"", "type"),
        (&Boolean, "TRUE", "syntax"),
        (&Utf8, "\"\"", "value"),
        (&Utf8, "\"a\\u00e9\\ud83d\\ude00\\n\"", "value"),
        (&Utf8, "7", "type"),
        (&Utf8, "\"a", "syntax"),
        (&Utf8, "\"a\\x\"", "syntax"),
        (&Utf8, "\"a\nb\"", "syntax"),
        (&Utf8, "\"\\ud83d\"", "syntax"),
        (&Utf8, "\"\\ude00\"", "syntax"),
        (&Utf8, "\"\\ud83d\\u0041\"", "syntax"),
        (&MS, "1357017300000", "value"),
        (&MS, "\"2013-01-01T05:15:00.000Z\"", "value"),
        (&MS, "\"2013-01-01T06:15:00+01:00\"", "value"),
        (&MS, "\"2013-01-01T05:15:00\"", "value"),
        (&MS, "\"2013-01-01T05\\u003a15:00\"", "value"),
        (&MS, "1357017300000.5", "type"),
        (&MS, "\"1357017300000\"", "type"),
        (&MS, "\"yesterday\"", "type"),
        (&MS, "\"2013-01-01T05:15:00.0001Z\"", "type"),
        (&MS, "\"2013-02-30T05:15:00Z\"", "range"),
        (&MS, "9223372036854775808", "range"),
        (&Date32, "\"2013-01-01\"", "value"),
        (&Date32, "15706", "value"),
        (&Date32, "\"2013-02-29\"", "range"),
        (&Date32, "\"2013-01-01T00:00:00Z\"", "type"),
        (&Date32, "2147483648", "range"),
    ];
    for (kind, value, expected) in cases {
        for payload in [
            format!("{{\"a\":{value}}}"),
            format!(" {{ \"z\" : [1] , \"a\" : {value} }} \n"),
        ] {
            assert_eq!(kind_of(kind, payload.as_bytes()), *expected, "{payload} as {kind}");
        }
    }
}

#[test]
fn every_kind_of_bad_payload_has_its_outcome() {
    let deep = |levels: usize| format!("{{\"z\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    let cases: &[(&str, &str)] = &[
        ("{}", "null"),
        (" { } ", "null"),
        ("{\"b\":1}", "null"),
        ("{\"a\":1}", "value"),
        ("{\"a\":1}\r\n\t ", "value"),
        ("{\"\\u0061\":1}", "value"),
        ("{\"a\":1,\"b\":1e999}", "value"),
        ("{\"a\":1,\"b\":1,\"b\":2}", "value"),
        ("{\"a\":1,\"b\":\"\\ud83d\"}", "value"),
        ("{\"a\":1,\"b\":{\"a\":[2,{\"a\":3}]}}", "value"),
        ("{\"a\":1,\"a\":1}", "duplicate-key"),
        ("{\"a\":null,\"a\":1}", "duplicate-key"),
        ("{\"a\":1,\"\\u0061\":\"x\"}", "duplicate-key"),
        ("{\"a\":1,\"a\":1", "syntax"),
        ("{\"a\":1,\"b\":01}", "syntax"),
        ("{\"a\":1,\"b\":nope}", "syntax"),
        ("{\"a\":1,\"b\":[1,]}", "syntax"),
        ("{\"a\":1,\"b\":\"\\u00g0\"}", "syntax"),
        ("{\"a\":1,\"b\":\"\u{1}\"}", "syntax"),
        ("{\"a\":1,}", "syntax"),
        ("{,\"a\":1}", "syntax"),
        ("{\"a\" 1}", "syntax"),
        ("{a:1}", "syntax"),
        ("{\"a\":1", "syntax"),
        ("{\"a\":", "syntax"),
        ("{", "syntax"),
        ("{\"a\":1}{\"a\":2}", "syntax"),
        ("{\"a\":1}x", "syntax"),
        ("{\"a\":1}\u{0}", "syntax"),
        ("\u{feff}{\"a\":1}", "syntax"),
        ("garbage", "syntax"),
        (" ", "syntax"),
        ("[1", "syntax"),
        ("[{\"a\":1}]", "type"),
        ("3", "type"),
        ("\"a\"", "type"),
        ("null", "type"),
        (&deep(64), "null"),
        (&deep(65), "depth"),
        (&"[".repeat(1_000_000), "depth"),
        ("", "empty"),
    ];
    for (payload, expected) in cases {
        assert_eq!(
            kind_of(&DataType::Int64, payload.as_bytes()),
            *expected,
            "{}",
            text::cut(payload, 100)
        );
    }
    for payload in [&b"{\"a\":1,\"b\":\"\xff\"}"[..], b"{\"a\":1}\xc3", b"\xff"] {
        assert_eq!(kind_of(&DataType::Int64, payload), "utf8");
    }
    let decoded = JSON.decoder(all_types()).unwrap().decode(&[None]).unwrap();
    assert_eq!(decoded.bad[0].1.kind, "tombstone");
}

#[test]
fn values_are_right() {
    let text = |payload: &str| {
        one(&DataType::Utf8, payload.as_bytes())
            .unwrap()
            .as_string::<i32>()
            .value(0)
            .to_owned()
    };
    assert_eq!(text("{\"a\":\"a\\u00e9\\ud83d\\ude00\\n\\\"\"}"), "aé😀\n\"");
    assert_eq!(text("{\"a\":\"é😀\"}"), "é😀");
    let long = "x".repeat(1_000_000);
    assert_eq!(text(&format!("{{\"a\":\"{long}\"}}")), long);
    assert_eq!(text(&format!("{{\"a\":\"\\n{long}\"}}")), format!("\n{long}"));
    let half = one(&MS, b"{\"a\":\"2013-01-01T06:15:00+01:00\"}").unwrap();
    assert_eq!(
        half.as_ref(),
        &TimestampMillisecondArray::from(vec![1_357_017_300_000]) as &dyn Array
    );
    let rounded = one(&DataType::Float64, b"{\"a\":9007199254740993}").unwrap();
    assert_eq!(
        rounded.as_ref(),
        &Float64Array::from(vec![9_007_199_254_740_992.0]) as &dyn Array
    );
}

#[test]
fn reasons_name_the_column_and_stay_short() {
    let reason = one(&DataType::Int64, b"{\"a\":\"12\"}").unwrap_err();
    assert_eq!(
        reason.to_string(),
        "type in column `a`: found the string \"12\", expected int64 (digits without fraction and exponent)"
    );
    let long = format!("{{\"a\":\"{}\"}}", "é".repeat(10_000));
    let reason = one(&MS, long.as_bytes()).unwrap_err();
    assert!(reason.detail.len() <= 200, "{}", reason.detail);
    assert_eq!(bad("type", None, "é".repeat(300)).detail, "é".repeat(100));
    let top = one(&DataType::Int64, b"[1,2]").unwrap_err();
    assert_eq!(
        (top.column, top.detail.as_str()),
        (None, "found an array, expected an object")
    );
    for (value, expected) in [
        ("[1,2]", "found an array of 2 values, expected float32[3]"),
        ("[1,2,null]", "at place 2 of the array: found null, expected float32"),
        (
            "[\"1\",2,3]",
            "at place 0 of the array: found the string \"1\", expected float32",
        ),
        (
            "[1,1e39,3]",
            "at place 1 of the array: found the number 1e39, outside of what float32 holds",
        ),
        (
            "0.5",
            "found the number 0.5, expected float32[3] (an array of so many numbers)",
        ),
    ] {
        let payload = format!("{{\"a\":{value}}}");
        let reason = one(&vector_type(3).unwrap(), payload.as_bytes()).unwrap_err();
        assert_eq!(
            (reason.column.as_deref(), reason.detail.as_str()),
            (Some("a"), expected)
        );
    }
}

#[test]
fn bad_records_leave_no_trace() {
    let good: Vec<String> = (0..40)
        .map(|i| format!("{{\"string\":\"s{i}\",\"int64\":{i},\"bool\":true}}"))
        .collect();
    let bad: [&[u8]; 6] = [
        b"{\"string\":\"partly\",\"int64\":1,\"bool\":3}",
        b"{\"string\":\"partly\",\"int64\":null,\"bool\":",
        b"{\"bool\":false,\"string\":\"a\\nb\",\"int64\":1.5}",
        b"{\"bool\":false,\"int64\":1,\"string\":\"x\",\"int64\":1}",
        b"",
        b"\xff",
    ];
    let clean: Vec<&[u8]> = good.iter().map(String::as_bytes).collect();
    let mut mixed: Vec<&[u8]> = Vec::new();
    let mut places = Vec::new();
    for (i, payload) in clean.iter().enumerate() {
        places.push(mixed.len());
        mixed.extend([bad[i % bad.len()], payload]);
    }
    let decoded = decode(&all_types(), &mixed);
    assert_eq!(decoded.batch, decode(&all_types(), &clean).batch);
    assert_eq!(decoded.bad.iter().map(|(index, _)| *index).collect::<Vec<_>>(), places);
}

#[test]
fn no_columns_still_count_rows() {
    let decoded = decode(&schema(&[]), &[b"{\"a\":1}", b"{}", b"{"]);
    assert_eq!((decoded.batch.num_rows(), decoded.bad.len()), (2, 1));
}

/// A literal for a column of type `kind`, mostly a good one.
fn literal(kind: &DataType, random: &mut impl Rng) -> String {
    let any: i64 = random.random::<i64>() >> random.random_range(0..64);
    match random.random_range(0..40) {
        0 => return "null".to_owned(),
        1 => return literal(&types()[random.random_range(0..types().len())].1, random),
        2 => {
            return ["[1,{\"int64\":2}]", "{}", "1e999", "01", "-", "1.", "\"\\u12\"", "tru"]
                [random.random_range(0..8)]
            .to_owned();
        }
        _ => {}
    }
    match kind {
        DataType::Int32 => (any as i32).to_string(),
        DataType::Float64 if any % 3 == 0 => any.to_string(),
        DataType::Float64 if any % 3 == 1 => format!("{}", any as f64 / 1000.0),
        DataType::Float64 | DataType::Float32 => format!("{:e}", f32::from_bits(any as u32 & 0x7eff_ffff)),
        DataType::Boolean => (any % 2 == 0).to_string(),
        DataType::FixedSizeList(..) => {
            let width = if random.random_range(0..20) == 0 { 2 } else { 3 };
            let items: Vec<String> = (0..width).map(|_| literal(&DataType::Float32, random)).collect();
            let space = ["", "", " ", "\n"][random.random_range(0..4)];
            format!("[{space}{}{space}]", items.join(&format!("{space},{space}")))
        }
        DataType::Utf8 => {
            let text: String = (0..random.random_range(0..20))
                .map(|_| {
                    ['a', 'b', '7', 'é', '😀', ' ', ',', '{', '/', '\\', '"', '\n', '\u{1}']
                        [random.random_range(0..13) * random.random_range(0..8) / 7]
                })
                .collect();
            serde_json::to_string(&text).unwrap()
        }
        DataType::Timestamp(unit, _) if any % 2 == 0 => {
            let mut out = Vec::new();
            time::write_timestamp(any, *unit, &mut out);
            String::from_utf8(out).unwrap()
        }
        DataType::Date32 if any % 2 == 0 => {
            let mut out = Vec::new();
            time::write_date((any % 3_000_000) as i32, &mut out);
            String::from_utf8(out).unwrap()
        }
        DataType::Date32 => (any as i32).to_string(),
        _ => any.to_string(),
    }
}

/// Any JSON value, nested up to `depth` levels.
fn nested(depth: usize, random: &mut impl Rng) -> String {
    let count = random.random_range(0..3);
    let space = [" ", "", "", "\n"][random.random_range(0..4)];
    match random.random_range(0..4) {
        _ if depth == 0 => literal(&DataType::Utf8, random),
        0 => literal(&DataType::Float64, random),
        1 => {
            let items: Vec<String> = (0..count).map(|_| nested(depth - 1, random)).collect();
            format!("[{space}{}{space}]", items.join(&format!("{space},")))
        }
        _ => {
            let key = |random: &mut _| literal(&DataType::Utf8, random).replace("null", "\"int64\"");
            let items: Vec<String> = (0..count)
                .map(|_| format!("{}{space}:{}", key(random), nested(depth - 1, random)))
                .collect();
            format!("{{{space}{}{space}}}", items.join(&format!("{space},")))
        }
    }
}

/// A record with most columns of [`all_types`] and some others, keys sometimes in another order.
fn record(random: &mut impl Rng) -> Vec<u8> {
    let comma = [",", ", ", " , ", ",\n\t"][random.random_range(0..16_usize).saturating_sub(12)];
    let colon = [":", ": ", " : ", "\n:\r"][random.random_range(0..16_usize).saturating_sub(12)];
    let mut members = Vec::new();
    for (name, kind) in &types() {
        if random.random_range(0..30) > 0 {
            members.push(format!("\"{name}\"{colon}{}", literal(kind, random)));
        }
        if random.random_range(0..6) == 0 {
            let value = if random.random() {
                literal(kind, random)
            } else {
                nested(5, random)
            };
            members.push(format!("\"unread\"{colon}{value}"));
        }
    }
    if random.random_range(0..4) == 0 {
        let (a, b) = (
            random.random_range(0..members.len()),
            random.random_range(0..members.len()),
        );
        members.swap(a, b);
        if random.random_range(0..4) == 0 {
            members.push(members[a].clone());
        }
    }
    format!("{{{}}}", members.join(comma)).into_bytes()
}

/// Damages a record a little.
fn mutate(payload: &mut Vec<u8>, random: &mut impl Rng) {
    let alphabet = b"{}[]:,\"\\ \n0123456789.eE+-ntfu\x00\x7f\xff\xc3\xa9";
    for _ in 0..random.random_range(1..4) {
        // The ends of a record have rules of their own: every fourth change goes there.
        let at = match random.random_range(0..8) {
            0 => 0,
            1 => payload.len().saturating_sub(random.random_range(0..2)),
            _ => random.random_range(0..=payload.len()),
        };
        let byte = alphabet[random.random_range(0..alphabet.len())];
        match random.random_range(0..4) {
            0 => payload.insert(at, byte),
            1 if at < payload.len() => payload[at] = byte,
            2 if at < payload.len() => drop(payload.remove(at)),
            3 if random.random_range(0..4) == 0 => payload.truncate(at),
            _ => {}
        }
    }
}

/// What the fast path says alone.
fn fast(decoder: &mut JsonDecoder, payload: &[u8]) -> Option<RecordBatch> {
    decoder.cut_back(0);
    decoder.scanner.row(payload, 0, &decoder.names, &mut decoder.columns)?;
    Some(decoder.finish(1).unwrap())
}

/// What the slow path says alone.
fn slow(decoder: &mut JsonDecoder, payload: &str) -> Result<RecordBatch, BadRecord> {
    decoder.cut_back(0);
    slow::row(payload, &decoder.names, &mut decoder.columns)?;
    Ok(decoder.finish(1).unwrap())
}

#[test]
fn what_the_fast_path_accepts_the_slow_path_accepts_with_equal_values() {
    for seed in 0..8 {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut decoder = JsonDecoder::new(all_types()).unwrap();
        let (mut quick, mut careful, mut refused) = (0, 0, 0);
        for round in 0..15_000 {
            let mut payload = record(&mut random);
            if round % 3 == 0 {
                mutate(&mut payload, &mut random);
            }
            let Ok(text) = std::str::from_utf8(&payload) else {
                continue;
            };
            let slow = slow(&mut decoder, text);
            match fast(&mut decoder, &payload) {
                Some(fast) => {
                    assert_eq!(Ok(&fast), slow.as_ref(), "{text}, seed {seed}");
                    quick += 1;
                }
                None if slow.is_ok() => careful += 1,
                None => refused += 1,
            }
            let valid = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            let syntax = matches!(&slow, Err(reason) if reason.kind == "syntax" && reason.column.is_none());
            assert_eq!(valid, !syntax, "{text}, seed {seed}: {slow:?}");
            assert!(
                slow.is_ok() || slow.is_err_and(|reason| reason.detail.len() <= 200),
                "{text}, seed {seed}"
            );
        }
        assert!(
            quick > 3_000 && careful > 500 && refused > 1_000,
            "{quick} {careful} {refused}, seed {seed}"
        );
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Pcg64::seed_from_u64(9);
    let mut decoder = JsonDecoder::new(all_types()).unwrap();
    for _ in 0..20_000 {
        let alphabet = b"{}[]:,\"\\ 0123456789.eE+-nulltruefalse\xf0\x9f\x98\x80";
        let length = random.random_range(0..60);
        let payload: Vec<u8> = (0..length)
            .map(|_| alphabet[random.random_range(0..alphabet.len())])
            .collect();
        let decoded = decoder.decode(&[Some(&payload), Some(b"{\"int64\":1}")]).unwrap();
        assert_eq!(decoded.batch.num_rows() + decoded.bad.len(), 2);
    }
}

/// Columns of the flights of the benchmark, and records of their shape with clean values.
fn flights(rows: usize, seed: u64) -> (SchemaRef, Vec<String>) {
    let mut random = Pcg64::seed_from_u64(seed);
    let record = |i: usize| {
        let (ts, wind) = (
            1_357_017_300_000_i64 + i as i64 * 60_000,
            random.random_range(0..400) as f64 * 1.15078,
        );
        let temp = if random.random_range(0..20) == 0 {
            "null".to_owned()
        } else {
            format!("{:.2}", wind / 3.0 - 20.0)
        };
        format!(
            "{{\"id\":{i},\"ts\":{ts},\"carrier\":\"UA\",\"flight\":{},\"tailnum\":\"N{i}\",\"origin\":\"ÉWR\",\
             \"sched\":\"2013-01-01T05:15:{:02}.250Z\",\"temp\":{temp},\"wind_speed\":{wind},\"late\":{},\"day\":\"2013-02-{:02}\"}}",
            i % 7_000,
            i % 60,
            i.is_multiple_of(3),
            1 + i % 28,
        )
    };
    let schema = schema(&[
        ("ts", MS),
        ("carrier", DataType::Utf8),
        ("flight", DataType::Int32),
        ("origin", DataType::Utf8),
        ("sched", MS),
        ("temp", DataType::Float64),
        ("wind_speed", DataType::Float64),
        ("late", DataType::Boolean),
        ("absent", DataType::Float32),
        ("day", DataType::Date32),
        ("id", DataType::Int64),
    ]);
    (schema, (0..rows).map(record).collect())
}

#[test]
fn clean_records_give_the_arrays_of_arrow_json_by_the_fast_path() {
    let (schema, lines) = flights(3_000, 11);
    let mut decoder = JsonDecoder::new(schema.clone()).unwrap();
    for (row, line) in lines.iter().enumerate() {
        assert_eq!(decoder.append(Some(line.as_bytes()), row), Ok(Path::Fast), "{line}");
    }
    let ours = decoder.finish(lines.len()).unwrap();
    let mut theirs = arrow::json::ReaderBuilder::new(schema)
        .with_batch_size(lines.len())
        .build_decoder()
        .unwrap();
    let text = lines.join("\n");
    assert_eq!(theirs.decode(text.as_bytes()).unwrap(), text.len());
    assert_eq!(ours, theirs.flush().unwrap().unwrap());
}

#[test]
fn vectors_take_the_fast_path_and_a_slice_of_them_is_written() {
    let mut decoder = JsonDecoder::new(schema(&[("v", vector_type(2).unwrap())])).unwrap();
    for (row, payload) in [
        &b"{\"v\":[1,2]}"[..],
        b"{\"w\":[1]}",
        b"{ \"v\" : [ 3e0 , -0.5 ] }",
        b"{\"v\":null}",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(decoder.append(Some(payload), row), Ok(Path::Fast), "{row}");
    }
    assert_eq!(decoder.append(Some(b"{\"v\":[7,\"8\"]}"), 4).unwrap_err().kind, "type");
    assert_eq!(decoder.append(Some(b"{\"v\":[5,6]}"), 4), Ok(Path::Fast));
    let batch = decoder.finish(5).unwrap();
    let expected = [
        "{\"v\":null}",
        "{\"v\":[3.0,-0.5]}",
        "{\"v\":null}",
        "{\"v\":[5.0,6.0]}",
    ];
    assert_eq!(encode(&batch.slice(1, 4), b""), expected);
}

#[test]
fn a_change_of_shape_stays_on_the_fast_path() {
    let mut decoder = JsonDecoder::new(schema(&[("a", DataType::Int64), ("b", DataType::Utf8)])).unwrap();
    let shapes: [&[u8]; 8] = [
        b"{\"a\":1,\"x\":{\"a\":[{},[],[1,{\"b\":null}]],\"b\":\"]\"},\"b\":\"c\"}",
        b"{\"a\":1,\"x\":2,\"b\":\"c\"}",
        b"{\"a\":1,\"b\":\"c\"}",
        b"{\"b\":\"c\",\"a\":1}",
        b"{\"a\": 1, \"b\": \"c\"}",
        b" {\n  \"a\" : 1,\n  \"b\" : \"c\"\n}\n",
        b"{\"x\":\"\\u00e9\\n\",\"a\":1,\"b\":\"c\"}",
        b"{\"b\":\"c\",\"a\":1,\"y\":true}",
    ];
    for (row, payload) in shapes.iter().cycle().take(80).enumerate() {
        assert_eq!(decoder.append(Some(payload), row), Ok(Path::Fast), "{row}");
    }
    let batch = decoder.finish(80).unwrap();
    assert_eq!(batch.column(0).as_ref(), &Int64Array::from(vec![1; 80]) as &dyn Array);
    assert_eq!(
        batch.column(1).as_ref(),
        &StringArray::from(vec!["c"; 80]) as &dyn Array
    );
}

#[test]
fn a_guess_never_stands_in_for_the_brace() {
    let mut decoder = JsonDecoder::new(schema(&[("a", DataType::Int64), ("b", DataType::Int64)])).unwrap();
    assert_eq!(decoder.append(Some(b"{\"a\":1,\"b\":2}"), 0), Ok(Path::Fast));
    for payload in [
        &b",\"b\":2}"[..],
        b"{,\"b\":2}",
        b"{\"a\":1{\"b\":2}",
        b"{\"a\":1,{\"b\":2}",
    ] {
        assert_eq!(decoder.append(Some(payload), 1).unwrap_err().kind, "syntax");
    }
    assert_eq!(decoder.append(Some(b"{\"b\":2}"), 1), Ok(Path::Fast));
}

#[test]
fn what_the_scanner_remembers_is_bounded() {
    let mut decoder = JsonDecoder::new(schema(&[("a", DataType::Int64)])).unwrap();
    let members: Vec<String> = (0..5_000).map(|i| format!("\"k{i}\":1")).collect();
    let many = format!("{{{},\"a\":1}}", members.join(","));
    let long = format!("{{\"{}\":1,\"a\":1}}", "k".repeat(10_000));
    assert_eq!(decoder.append(Some(many.as_bytes()), 0), Ok(Path::Slow));
    assert_eq!(decoder.append(Some(long.as_bytes()), 1), Ok(Path::Slow));
    assert_eq!(
        decoder.finish(2).unwrap().column(0).as_ref(),
        &Int64Array::from(vec![1, 1]) as &dyn Array
    );
}

fn encode(batch: &RecordBatch, suffix: &[u8]) -> Vec<String> {
    let mut out = Encoded::default();
    JSON.encoder(batch.schema())
        .unwrap()
        .encode(batch, suffix, &mut out)
        .unwrap();
    out.iter()
        .map(|record| String::from_utf8(record.payload.to_vec()).unwrap())
        .collect()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// A batch with every type that can be declared; one value in eight is null.
fn random_batch(rows: usize, random: &mut impl Rng) -> RecordBatch {
    let mut some = |shift: u32| -> Vec<Option<i64>> {
        (0..rows)
            .map(|_| (random.random_range(0..8) > 0).then(|| random.random::<i64>() >> random.random_range(0..=shift)))
            .collect()
    };
    let text = |value: i64| -> String {
        value
            .to_le_bytes()
            .iter()
            .filter_map(|byte| char::from_u32(u32::from(*byte) * if value % 2 == 0 { 1 } else { 97 }))
            .collect()
    };
    let float = |value: i64| Some(f64::from_bits(value as u64)).filter(|value| value.is_finite());
    let vector = |value: i64| {
        let numbers = [value as f32, f32::from_bits(value as u32 & 0x7eff_ffff), 0.1];
        Some(numbers.map(Some).to_vec())
    };
    let single = |value: i64| Some(f32::from_bits(value as u32)).filter(|value| value.is_finite());
    batch(vec![
        (
            "string",
            Arc::new(some(60).into_iter().map(|v| v.map(text)).collect::<StringArray>()),
        ),
        (
            "bool",
            Arc::new(
                some(60)
                    .into_iter()
                    .map(|v| v.map(|v| v % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
        ("int64", Arc::new(some(60).into_iter().collect::<Int64Array>())),
        (
            "int32",
            Arc::new(
                some(60)
                    .into_iter()
                    .map(|v| v.map(|v| v as i32))
                    .collect::<Int32Array>(),
            ),
        ),
        (
            "float64",
            Arc::new(
                some(60)
                    .into_iter()
                    .map(|v| v.and_then(float))
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "float32",
            Arc::new(
                some(60)
                    .into_iter()
                    .map(|v| v.and_then(single))
                    .collect::<Float32Array>(),
            ),
        ),
        (
            "timestamp[s]",
            Arc::new(some(60).into_iter().collect::<TimestampSecondArray>()),
        ),
        (
            "timestamp[ms]",
            Arc::new(some(60).into_iter().collect::<TimestampMillisecondArray>()),
        ),
        (
            "timestamp[us]",
            Arc::new(some(60).into_iter().collect::<TimestampMicrosecondArray>()),
        ),
        (
            "timestamp[ns]",
            Arc::new(some(60).into_iter().collect::<TimestampNanosecondArray>()),
        ),
        (
            "date32",
            Arc::new(
                some(60)
                    .into_iter()
                    .map(|v| v.map(|v| v as i32))
                    .collect::<Date32Array>(),
            ),
        ),
        (
            "float32[3]",
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
                some(60).into_iter().map(|v| v.and_then(vector)),
                3,
            )),
        ),
    ])
}

#[test]
fn what_is_written_is_valid_and_reads_back_as_it_was() {
    for seed in 20..28 {
        let batch = random_batch(500, &mut Pcg64::seed_from_u64(seed));
        let lines = encode(&batch, b"\"model\":\"v3\"");
        for line in &lines {
            let value: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}, seed {seed}"));
            assert_eq!(value["model"], "v3");
            assert_eq!(value.as_object().unwrap().len(), batch.num_columns() + 1);
        }
        let payloads: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        let decoded = decode(&all_types(), &payloads);
        assert!(decoded.bad.is_empty(), "{:?}, seed {seed}", decoded.bad.first());
        assert_eq!(decoded.batch, batch, "seed {seed}");
    }
}

#[test]
fn every_type_is_written_in_its_form() {
    let dictionary: DictionaryArray<Int8Type> = [Some("x"), None].into_iter().collect();
    let numbers = DictionaryArray::new(Int8Array::from(vec![0, 0]), Arc::new(Int32Array::from(vec![5])));
    let zoned = TimestampMillisecondArray::from(vec![1_357_017_300_000, -1]).with_timezone("Europe/Berlin");
    let batch = batch(vec![
        ("null", Arc::new(NullArray::new(2))),
        ("i8", Arc::new(Int8Array::from(vec![Some(-8), None]))),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("f64", Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY]))),
        ("f32", Arc::new(Float32Array::from(vec![0.1, -0.0]))),
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                "a string longer than twelve",
                "q\"\\\n\u{1}é",
            ])),
        ),
        ("large", Arc::new(LargeStringArray::from(vec![Some("l"), None]))),
        ("dict", Arc::new(dictionary)),
        ("nums", Arc::new(numbers)),
        ("at", Arc::new(zoned)),
        ("day", Arc::new(Date64Array::from(vec![86_400_000, 0]))),
        ("s", Arc::new(TimestampSecondArray::from(vec![0, i64::MAX]))),
        ("k\"", Arc::new(BooleanArray::from(vec![true, false]))),
    ]);
    let lines = encode(&batch, b"");
    assert_eq!(
        lines[0],
        "{\"null\":null,\"i8\":-8,\"u64\":18446744073709551615,\"f64\":null,\"f32\":0.1,\
         \"view\":\"a string longer than twelve\",\"large\":\"l\",\"dict\":\"x\",\"nums\":5,\
         \"at\":\"2013-01-01T05:15:00.000Z\",\"day\":\"1970-01-02\",\"s\":\"1970-01-01T00:00:00Z\",\"k\\\"\":true}"
    );
    assert_eq!(
        lines[1],
        "{\"null\":null,\"i8\":null,\"u64\":0,\"f64\":null,\"f32\":-0.0,\
         \"view\":\"q\\\"\\\\\\n\\u0001é\",\"large\":null,\"dict\":null,\"nums\":5,\
         \"at\":\"1969-12-31T23:59:59.999Z\",\"day\":\"1970-01-01\",\"s\":9223372036854775807,\"k\\\"\":false}"
    );
}

#[test]
fn suffix_and_columns_join_with_the_right_commas() {
    let encoder = JSON.encoder(schema(&[])).unwrap();
    let suffix = encoder
        .fragment(&[
            ("model", "v\"3".into()),
            ("n", 1.into()),
            ("x", serde_json::Value::Null),
        ])
        .unwrap();
    assert_eq!(suffix, b"\"model\":\"v\\\"3\",\"n\":1,\"x\":null");
    assert_eq!(encoder.fragment(&[]).unwrap(), b"");
    let one = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    assert_eq!(encode(&one, b""), ["{\"a\":1}"]);
    assert_eq!(encode(&one, b"\"b\":2"), ["{\"a\":1,\"b\":2}"]);
    let options = RecordBatchOptions::new().with_row_count(Some(2));
    let none = RecordBatch::try_new_with_options(schema(&[]), vec![], &options).unwrap();
    assert_eq!(encode(&none, b""), ["{}", "{}"]);
    assert_eq!(encode(&none, b"\"b\":2"), ["{\"b\":2}", "{\"b\":2}"]);
}

#[test]
fn types_without_a_form_are_refused_by_name() {
    let binary = schema(&[("raw", DataType::Binary)]);
    let error = JSON.encoder(binary.clone()).err().unwrap();
    assert_eq!(error.fault, Fault::Operator);
    assert!(error.to_string().contains("`raw`"), "{error}");
    assert!(JSON.decoder(binary).err().unwrap().to_string().contains("`raw`"));
    let mut out = Encoded::default();
    let one = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    assert!(JSON.encoder(schema(&[])).unwrap().encode(&one, b"", &mut out).is_err());
    assert!(out.is_empty());
}
