//! What every entry of [`SOURCES`], [`SINKS`] and [`CODECS`] must keep, tested over the lists: whoever adds one gets
//! these tests. What needs a server stands in `connectors/tests/`, which knows which server each speaks to.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, TimeUnit};
use driftmill_config::{Component, Document, Problems, Section, check_example};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::codec::{Codec, CodecKind};
use crate::codecs::{CODECS, open_codec};
use crate::encoded::Encoded;
use crate::schema::{TYPES, vector_type};
use crate::sink::{Delivery, Destination, SinkContext};
use crate::sinks::SINKS;
use crate::source::Start;
use crate::sources::SOURCES;

const SEED: u64 = 41;

fn with_section<T>(text: &str, read: impl FnOnce(&Section<'_>, &mut Problems) -> Option<T>) -> Result<T, String> {
    let document = Document::parse("test.toml", text, &|name| Some(name.to_lowercase())).unwrap();
    let mut problems = document.problems();
    match read(&document.root(), &mut problems) {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(problems.render()),
    }
}

fn open(kind: &dyn CodecKind) -> Arc<dyn Codec> {
    with_section(kind.example(), |section, problems| kind.open(section, problems)).unwrap()
}

fn schema() -> SchemaRef {
    let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
    let vectors = ("float32[3]", vector_type(3).unwrap());
    Arc::new(Schema::new(
        TYPES.iter().chain([&vectors]).map(field).collect::<Vec<_>>(),
    ))
}

/// Random values of a type, a third of them null, extremes among them.
fn column(kind: &DataType, rows: usize, random: &mut Pcg64) -> ArrayRef {
    let mut draw = |extremes: &[i64], bits: u32| -> Vec<Option<i64>> {
        let value = |row: usize| match random.random_range(0..6) {
            0 | 1 => None,
            2 => Some(extremes[row % extremes.len()]),
            _ => Some(random.next_u64().cast_signed() >> (64 - bits)),
        };
        (0..rows).map(value).collect()
    };
    match kind {
        DataType::Utf8 => {
            let texts = [
                "",
                "a",
                "ü€😀",
                "\"\\/\u{8}\n\r\t\u{0}\u{7f}",
                "null",
                "{\"a\":1}",
                "  ",
                "1e999",
            ];
            let value = |value: Option<i64>| value.map(|value| texts[value.rem_euclid(8) as usize]);
            Arc::new(draw(&[0, 3], 62).into_iter().map(value).collect::<StringArray>())
        }
        DataType::Boolean => Arc::new(
            draw(&[0, 1], 62)
                .into_iter()
                .map(|value| value.map(|value| value % 2 == 0))
                .collect::<BooleanArray>(),
        ),
        DataType::Int64 => Arc::new(Int64Array::from(draw(&[i64::MIN, i64::MAX, 0, -1], 64))),
        DataType::Int32 => Arc::new(
            draw(&[i32::MIN.into(), i32::MAX.into(), 0], 32)
                .into_iter()
                .map(|value| value.map(|value| value as i32))
                .collect::<Int32Array>(),
        ),
        DataType::Float64 => {
            let extremes = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 0.1, -0.0, 1e21, 1e-7];
            let value = |value: i64| match value.rem_euclid(11) {
                place @ 0..8 => extremes[place as usize],
                _ => Some(f64::from_bits(value.cast_unsigned()))
                    .filter(|x| x.is_finite())
                    .unwrap_or(0.5),
            };
            Arc::new(
                draw(&[0, 1, 2], 64)
                    .into_iter()
                    .map(|v| v.map(value))
                    .collect::<Float64Array>(),
            )
        }
        DataType::Float32 => {
            let value = |value: i64| {
                Some(f32::from_bits(value as u32))
                    .filter(|x| x.is_finite())
                    .unwrap_or(0.1)
            };
            Arc::new(
                draw(&[1], 64)
                    .into_iter()
                    .map(|v| v.map(value))
                    .collect::<Float32Array>(),
            )
        }
        DataType::FixedSizeList(..) => {
            let extremes = [f32::MAX, f32::MIN_POSITIVE, -0.0, 0.1];
            let value = |value: i64| {
                Some(vec![
                    Some(value as f32),
                    Some(extremes[value.rem_euclid(4) as usize]),
                    Some(1.5),
                ])
            };
            let vectors = draw(&[0, -1, 2], 64).into_iter().map(|v| v.and_then(value));
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 3))
        }
        DataType::Date32 => Arc::new(
            draw(&[0, -719_162, 2_932_896], 15)
                .into_iter()
                .map(|value| value.map(|value| value as i32))
                .collect::<Date32Array>(),
        ),
        // Seconds of the years 0001 to 9999, in the unit of the column; what nanoseconds can hold is less.
        DataType::Timestamp(TimeUnit::Second, _) => Arc::new(TimestampSecondArray::from(draw(
            &[0, -62_135_596_800, 253_402_300_799],
            33,
        ))),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Arc::new(TimestampMillisecondArray::from(draw(&[0, -1, 253_402_300_799_999], 43)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Arc::new(TimestampMicrosecondArray::from(draw(
            &[0, -1, 1_357_017_300_000_001],
            53,
        ))),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Arc::new(TimestampNanosecondArray::from(draw(&[0, -1, i64::MAX], 63)))
        }
        other => panic!("a type that can be declared and is not tried: {other}"),
    }
}

fn batch(rows: usize, random: &mut Pcg64) -> RecordBatch {
    let schema = schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| column(field.data_type(), rows, random));
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

/// One payload for each row.
fn payloads(codec: &dyn Codec, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let mut out = Encoded::default();
    let suffix = codec.encoder(batch.schema()).unwrap().fragment(&[]).unwrap();
    codec
        .encoder(batch.schema())
        .unwrap()
        .encode(batch, &suffix, &mut out)
        .unwrap();
    out.iter().map(|record| record.payload.to_vec()).collect()
}

fn decode(codec: &dyn Codec, payloads: &[Option<&[u8]>]) -> (RecordBatch, Vec<usize>) {
    let decoded = codec.decoder(schema()).unwrap().decode(payloads).unwrap();
    for (_, bad) in &decoded.bad {
        assert!(!bad.kind.is_empty() && bad.detail.len() <= 200, "{bad:?}");
    }
    let bad: Vec<usize> = decoded.bad.iter().map(|(index, _)| *index).collect();
    assert!(bad.is_sorted_by(|a, b| a < b) && bad.iter().all(|index| *index < payloads.len()));
    assert_eq!(
        decoded.batch.num_rows() + bad.len(),
        payloads.len(),
        "every payload has one outcome"
    );
    (decoded.batch, bad)
}

#[test]
fn every_list_is_documented_and_its_examples_pass() {
    let lists: [Vec<&dyn Component>; 3] = [
        SOURCES.iter().map(|kind| *kind as &dyn Component).collect(),
        SINKS.iter().map(|kind| *kind as &dyn Component).collect(),
        CODECS.iter().map(|kind| *kind as &dyn Component).collect(),
    ];
    for list in lists {
        let mut names = BTreeSet::new();
        for component in list {
            let name = component.name();
            assert!(
                check_example(component).is_ok(),
                "{name}: {:?}",
                check_example(component).err()
            );
            assert!(component.summary().ends_with('.'), "{name}: its summary is no sentence");
            assert!(
                component.fields().iter().all(|field| field.doc.ends_with('.')),
                "{name}"
            );
            assert!(names.insert(name), "{name} is there twice");
        }
    }
}

#[test]
fn every_source_opens_as_its_example_says_without_a_server() {
    for kind in SOURCES {
        let opened = with_section(kind.example(), |section, problems| {
            kind.open(section, &section.table("absent", problems), "test-source", problems)
        });
        let opened = opened.unwrap_or_else(|problems| panic!("{}: {problems}", kind.name()));
        assert!(!opened.topics().is_empty(), "{}: it reads nothing", kind.name());
        assert!(
            matches!(opened.start(), Start::Oldest | Start::Newest),
            "{}",
            kind.name()
        );
        let empty = with_section("", |section, problems| {
            kind.open(section, &section.table("absent", problems), "test-source", problems)
        });
        assert!(
            empty.is_err(),
            "{}: a section that says nothing is refused",
            kind.name()
        );
    }
}

#[test]
fn every_sink_opens_as_its_example_says_without_a_server() {
    for kind in SINKS {
        for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
            let context = SinkContext {
                pipeline: "test".to_owned(),
                delivery,
                dead_letters: Some("test.dead".to_owned()),
            };
            let opened = with_section(kind.example(), |section, problems| {
                kind.open(section, &section.table("absent", problems), &context, problems)
            });
            // A sink may know one way of delivery only, and must then refuse the other in words.
            match opened {
                Ok(sink) => {
                    for destination in [Destination::Predictions, Destination::DeadLetters] {
                        assert!(sink.payload_bytes_max(destination) >= 1024, "{}", kind.name());
                    }
                }
                Err(problems) => assert!(
                    delivery == Delivery::ExactlyOnce && problems.contains("delivery"),
                    "{}: {problems}",
                    kind.name()
                ),
            }
        }
    }
}

#[test]
fn what_a_codec_writes_it_reads_every_type_and_null() {
    let mut random = Pcg64::seed_from_u64(SEED);
    for kind in CODECS {
        let codec = open(*kind);
        let batch = batch(600, &mut random);
        assert!(batch.columns().iter().all(|column| column.null_count() > 100));
        let written = payloads(codec.as_ref(), &batch);
        let given: Vec<Option<&[u8]>> = written.iter().map(|payload| Some(payload.as_slice())).collect();
        let (read, bad) = decode(codec.as_ref(), &given);
        assert_eq!(bad, [] as [usize; 0], "{}, seed {SEED}", kind.name());
        for (field, (wrote, read)) in schema().fields().iter().zip(batch.columns().iter().zip(read.columns())) {
            assert_eq!(wrote, read, "{}, column {}, seed {SEED}", kind.name(), field.name());
        }
        // A decoder is used again and again, and for some of the columns.
        let some = Arc::new(schema().project(&[4, 0]).unwrap());
        let mut decoder = codec.decoder(Arc::clone(&some)).unwrap();
        assert_eq!(decoder.schema(), &some);
        for part in given.chunks(97) {
            let decoded = decoder.decode(part).unwrap();
            assert_eq!((decoded.batch.num_rows(), decoded.batch.num_columns()), (part.len(), 2));
        }
    }
}

#[test]
fn bad_payloads_are_named_one_by_one_and_their_neighbours_are_unchanged() {
    let mut random = Pcg64::seed_from_u64(SEED + 1);
    for kind in CODECS {
        let codec = open(*kind);
        let batch = batch(200, &mut random);
        let good = payloads(codec.as_ref(), &batch);
        let alone: Vec<Option<&[u8]>> = good.iter().map(|payload| Some(payload.as_slice())).collect();
        let (expected, _) = decode(codec.as_ref(), &alone);
        let tombstone: Option<&[u8]> = None;
        let empty: Option<&[u8]> = Some(b"");
        let garbage: Option<&[u8]> = Some(b"\xff\xfe\x00garbage");
        let mut mixed = Vec::new();
        let mut at = Vec::new();
        for (row, payload) in alone.iter().enumerate() {
            if row % 3 == 0 {
                at.push(mixed.len());
                mixed.push([tombstone, empty, garbage][row % 9 / 3]);
            }
            mixed.push(*payload);
        }
        let (read, bad) = decode(codec.as_ref(), &mixed);
        assert_eq!(bad, at, "{}", kind.name());
        assert_eq!(read, expected, "{}: neighbours of bad records changed", kind.name());
        let kinds = codec.decoder(schema()).unwrap().decode(&[tombstone, empty]).unwrap();
        let kinds: Vec<&str> = kinds.bad.iter().map(|(_, bad)| bad.kind).collect();
        assert_eq!(kinds, ["tombstone", "empty"], "{}", kind.name());
    }
}

#[test]
fn no_bytes_make_a_codec_panic_and_a_payload_alone_decides_what_becomes_of_it() {
    let mut random = Pcg64::seed_from_u64(SEED + 2);
    for kind in CODECS {
        let codec = open(*kind);
        let good = payloads(codec.as_ref(), &batch(50, &mut random));
        let mut all: Vec<Vec<u8>> = Vec::new();
        for _ in 0..1_500 {
            let mut payload = if random.random_range(0..4) == 0 {
                (0..random.random_range(0..60))
                    .map(|_| random.next_u64() as u8)
                    .collect()
            } else {
                good[random.random_range(0..good.len())].clone()
            };
            for _ in 0..random.random_range(0..3) {
                if payload.is_empty() {
                    break;
                }
                let at = random.random_range(0..payload.len());
                match random.random_range(0..3) {
                    0 => payload[at] = random.next_u64() as u8,
                    1 => payload.truncate(at),
                    _ => payload.insert(at, b"{}[]\",:0-e\\"[random.random_range(0..11)]),
                }
            }
            all.push(payload);
        }
        let given: Vec<Option<&[u8]>> = all.iter().map(|payload| Some(payload.as_slice())).collect();
        let (whole, bad) = decode(codec.as_ref(), &given);
        assert!(!bad.is_empty() && bad.len() < all.len(), "both kinds were tried");
        let mut rows = Vec::new();
        for (index, payload) in given.iter().enumerate() {
            let (one, own) = decode(codec.as_ref(), &[*payload]);
            assert_eq!(
                own.len() == 1,
                bad.binary_search(&index).is_ok(),
                "payload {index}, seed {}",
                SEED + 2
            );
            rows.push(one);
        }
        assert_eq!(concat_batches(&schema(), &rows).unwrap(), whole, "{}", kind.name());
    }
}

#[test]
fn rows_are_encoded_alone_as_among_others_and_the_suffix_is_in_each() {
    let mut random = Pcg64::seed_from_u64(SEED + 3);
    for kind in CODECS {
        let codec = open(*kind);
        let batch = batch(40, &mut random);
        let together = payloads(codec.as_ref(), &batch);
        for row in 0..40_u32 {
            let one = take_record_batch(&batch, &arrow::array::UInt32Array::from(vec![row])).unwrap();
            assert_eq!(
                payloads(codec.as_ref(), &one),
                [together[row as usize].clone()],
                "{}",
                kind.name()
            );
        }
        let mut encoder = codec.encoder(batch.schema()).unwrap();
        let suffix = encoder
            .fragment(&[("driftmill", serde_json::json!({ "version": "v3" }))])
            .unwrap();
        let mut out = Encoded::default();
        encoder.encode(&batch, &suffix, &mut out).unwrap();
        assert_eq!(out.len(), 40);
        for (record, plain) in out.iter().zip(&together) {
            assert!(
                record.payload.len() > plain.len(),
                "{}: the suffix is not there",
                kind.name()
            );
        }
        let given: Vec<Option<&[u8]>> = out.iter().map(|record| Some(record.payload)).collect();
        assert_eq!(
            decode(codec.as_ref(), &given).1,
            [] as [usize; 0],
            "a suffix disturbs no column"
        );
        let mut none = Encoded::default();
        encoder
            .encode(&RecordBatch::new_empty(schema()), b"", &mut none)
            .unwrap();
        assert!(none.is_empty());
    }
}

#[test]
fn a_codec_says_in_debug_what_it_is() {
    for kind in CODECS {
        let (one, other) = (open(*kind), open(*kind));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        assert!(!format!("{one:?}").is_empty());
    }
    let problems = with_section("format = \"jsn\"", open_codec).err().unwrap();
    assert!(problems.contains("did you mean `json`?"), "{problems}");
    assert!(with_section("", open_codec).is_ok());
}
