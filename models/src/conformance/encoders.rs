//! What an encoder must keep.

use driftmill_config::Document;

use super::world::{SCALED, VECTORS, World, columns, same, vectors, with_section, world};
use super::{Property, all_hold, are_documented};
use crate::codec::Reader;
use crate::contracts::{Encoder, EncoderKind, Input};
use crate::dictionary::{Dictionaries, Dictionary};
use crate::encoders::{ColumnsEncoder, ENCODERS, find};
use crate::frame::{Column, ColumnKind, ColumnSpec, ColumnView};

/// Settings of an encoder that do other things than its example.
const VARIANTS: &[(&str, &str)] = &[
    ("none", "missing = 'mean'\nmissing_indicator = true"),
    ("none", "missing = 'median'"),
    ("none", "missing = 'constant'\nconstant = -1.0"),
    ("frequency", "categories_max = 5\nmissing = 'zero'"),
    ("target", "categories_max = 5\nclasses = 2\nsmoothing_rows = 0.0"),
    ("vector", ""),
    ("vector", "scale = 'none'\nmissing = 'keep'"),
    ("time-parts", "form = 'number'\nunit = 'seconds'\nmissing = 'keep'"),
];

/// An encoder of the list and the rows to try it on.
struct Case {
    kind: &'static dyn EncoderKind,
    settings: &'static str,
    world: World,
    /// Its column in the world.
    column: usize,
}

impl Case {
    fn new(kind: &'static dyn EncoderKind, settings: &'static str) -> Self {
        // Numbers with extremes, 40 categories, vectors with extremes.
        let (world, column) = match kind.column_kind() {
            ColumnKind::Number => (world(700, 1), 0),
            ColumnKind::Category => (world(700, 1), 4),
            ColumnKind::Vector { .. } => (vectors(&world(700, 1)), 6),
        };
        Self {
            kind,
            settings,
            world,
            column,
        }
    }

    fn build(&self) -> Box<dyn Encoder> {
        let spec = ColumnSpec {
            name: "c".to_owned(),
            kind: match self.kind.column_kind() {
                ColumnKind::Vector { .. } => VECTORS,
                kind => kind,
            },
        };
        with_section(self.settings, |section, problems| {
            self.kind.build(&spec, section, 5, problems)
        })
    }

    fn view(&self) -> ColumnView<'_> {
        ColumnView {
            values: &self.world.frame.columns()[self.column],
            dictionary: self.world.dictionaries.get(self.column),
        }
    }

    fn fitted(&self, rows: usize) -> Box<dyn Encoder> {
        let mut encoder = self.build();
        (0..rows).for_each(|row| encoder.observe(self.view(), row, self.world.labels[row]));
        encoder
    }
}

fn encoded(encoder: &dyn Encoder, view: ColumnView<'_>, rows: std::ops::Range<usize>) -> Vec<f64> {
    let mut out = vec![0.0; rows.len() * encoder.width()];
    encoder.encode(view, rows, &mut out, encoder.width());
    out
}

fn bytes(encoder: &dyn Encoder) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.write(&mut out);
    out
}

const PROPERTIES: &[Property<Case>] = &[
    ("it has the name of its entry and a fixed width", |case| {
        let (fresh, fitted) = (case.build(), case.fitted(700));
        assert_eq!(fitted.format(), case.kind.name());
        assert!(fresh.width() == fitted.width() && fresh.width() > 0);
    }),
    ("its numbers are what it says of them", |case| {
        let encoder = case.fitted(300);
        let numbers = Column::F64(vec![1.0; 700]);
        let wide = Column::Vector {
            width: 9,
            values: vec![1.0; 6_300],
        };
        let others = [&numbers, &wide, &case.world.frame.columns()[4]].map(|values| ColumnView {
            values,
            dictionary: None,
        });
        for view in others.into_iter().chain([case.view()]) {
            for row in encoded(encoder.as_ref(), view, 0..700).chunks(encoder.width()) {
                for (place, number) in row.iter().enumerate() {
                    if number.is_nan() && encoder.keeps_missing() {
                        continue;
                    }
                    assert!(number.is_finite(), "{number} at place {place}");
                    if let Input::Category { codes } = encoder.input(place) {
                        assert!(
                            number.fract() == 0.0 && (0.0..f64::from(codes)).contains(number),
                            "{number}"
                        );
                    }
                }
            }
        }
    }),
    ("a row is encoded alone as among others", |case| {
        let encoder = case.fitted(300);
        let (all, width) = (encoded(encoder.as_ref(), case.view(), 0..700), encoder.width());
        for row in [0, 45, 46, 47, 48, 301, 699] {
            let alone = encoded(encoder.as_ref(), case.view(), row..row + 1);
            assert!(same(&alone, &all[row * width..(row + 1) * width]), "row {row}");
        }
    }),
    ("encoding then observing is both, row by row", |case| {
        let learn: Vec<bool> = (0..700).map(|row| row % 5 != 2).collect();
        let (mut whole, mut single) = (case.fitted(40), case.fitted(40));
        let width = whole.width();
        let mut out = vec![0.0; 650 * width];
        whole.encode_then_observe(case.view(), 50..700, &case.world.labels, &learn[50..], &mut out, width);
        for row in 50..700 {
            let alone = encoded(single.as_ref(), case.view(), row..row + 1);
            assert!(same(&alone, &out[(row - 50) * width..(row - 49) * width]), "row {row}");
            if learn[row] {
                single.observe(case.view(), row, case.world.labels[row]);
            }
        }
        assert_eq!(bytes(whole.as_ref()), bytes(single.as_ref()));
        assert_eq!(whole.stamp(), single.stamp());
    }),
    ("its stamp grows whenever it changes", |case| {
        let mut encoder = case.build();
        for row in 0..700 {
            let (before, stamp) = (bytes(encoder.as_ref()), encoder.stamp());
            encoder.observe(case.view(), row, case.world.labels[row]);
            let changed = bytes(encoder.as_ref()) != before;
            assert!(
                encoder.stamp() > stamp || !changed && encoder.stamp() == stamp,
                "row {row}"
            );
        }
    }),
    ("a copy is independent", |case| {
        let mut encoder = case.fitted(200);
        let copy = encoder.copy();
        let before = encoded(copy.as_ref(), case.view(), 0..700);
        (200..700).for_each(|row| encoder.observe(case.view(), row, 1.0));
        assert!(same(&before, &encoded(copy.as_ref(), case.view(), 0..700)));
    }),
    ("what it writes is read back", |case| {
        let encoder = case.fitted(400);
        let written = bytes(encoder.as_ref());
        let mut reader = Reader::new(&written);
        let read = case.kind.read(&mut reader).unwrap();
        reader.finish().unwrap();
        assert_eq!(bytes(read.as_ref()), written);
        assert_eq!(
            (read.width(), read.stamp(), read.keeps_missing()),
            (encoder.width(), encoder.stamp(), encoder.keeps_missing())
        );
        let (a, b) = (
            encoded(encoder.as_ref(), case.view(), 0..700),
            encoded(read.as_ref(), case.view(), 0..700),
        );
        assert!(same(&a, &b));
    }),
    ("damaged bytes are refused or harmless", |case| {
        let written = bytes(case.fitted(60).as_ref());
        for at in 0..written.len() {
            assert!(case.kind.read(&mut Reader::new(&written[..at])).is_err(), "cut at {at}");
            for change in [1, 0x80, 0xff] {
                let mut damaged = written.clone();
                damaged[at] ^= change;
                let read = case.kind.read(&mut Reader::new(&damaged));
                if let Ok(read) = read.map(|read| read.width()) {
                    assert!(read > 0);
                }
            }
        }
    }),
    ("it knows categories by their strings, in any dictionary", |case| {
        let Some(here) = case.view().dictionary else { return };
        let mut there = Dictionary::new(1 << 20);
        there.intern("in the way");
        let strings = |row| case.view().text(row);
        let codes = (0..700).map(|row| strings(row).map_or(crate::frame::MISSING, |text| there.intern(text)));
        let moved = Column::Code(codes.collect());
        let view = ColumnView {
            values: &moved,
            dictionary: Some(&there),
        };
        assert!(here.len() > 10);
        let encoder = case.fitted(700);
        let (a, b) = (
            encoded(encoder.as_ref(), case.view(), 0..700),
            encoded(encoder.as_ref(), view, 0..700),
        );
        assert!(same(&a, &b));
    }),
    ("who looks at labels says so, and encodes no row by its own", |case| {
        let (mut plain, mut turned) = (case.fitted(300), case.fitted(300));
        let (view, width) = (case.view(), plain.width());
        let others: Vec<f64> = case.world.labels.iter().map(|label| 1.0 - label).collect();
        let labels = plain.labels();
        for (encoder, own) in [(&mut plain, &case.world.labels), (&mut turned, &others)] {
            let mut out = vec![0.0; width];
            encoder.encode_then_observe(view, 300..301, own, &[true], &mut out, width);
            assert!(same(&out, &encoded(case.fitted(300).as_ref(), view, 300..301)));
        }
        let differ = bytes(plain.as_ref()) != bytes(turned.as_ref());
        assert_eq!(differ, labels.is_some());
    }),
    ("memory stays within what it says", |case| {
        let encoder = case.fitted(700);
        assert!(bytes(encoder.as_ref()).len() <= encoder.bytes_max());
    }),
];

#[test]
fn encoders_are_documented() {
    are_documented(ENCODERS.iter().map(|kind| *kind as _));
}

#[test]
fn every_encoder_keeps_its_contract() {
    let examples = ENCODERS.iter().map(|&kind| (kind, kind.example()));
    let variants = (VARIANTS.iter()).map(|(name, settings)| (find(name).unwrap(), *settings));
    let cases = examples.chain(variants);
    all_hold(
        PROPERTIES,
        cases.map(|(kind, settings)| (format!("{}, {settings:?}", kind.name()), Case::new(kind, settings))),
    );
}

#[test]
fn encoders_fit_their_columns_or_are_refused_at_their_place() {
    let refusals = [
        (
            "country = { encode = 'one-hot' }\nmerchant = { encode = 'hash' }",
            "column `card` is text and has no encoder",
        ),
        (&SCALED.replace("'hash'", "'hsah'"), "did you mean `hash`?"),
        (&SCALED.replace("buckets", "bukcets"), "did you mean `buckets`?"),
        (&SCALED.replace("buckets = 16", "buckets = 1"), "from 2 to 65536"),
        (
            &SCALED.replace("'hash', buckets = 16, signed = true", "'frequency', categories_max = 0"),
            "from 1 to 65536",
        ),
        (
            &SCALED.replace("'hash', buckets = 16, signed = true", "'target', classes = 1"),
            "from 2 to 64",
        ),
        (
            &SCALED.replace("'hash', buckets = 16, signed = true", "'target', smoothing_rows = -1"),
            "from 0 to 1000000",
        ),
        (
            &SCALED.replace("'none'", "'one-hot'"),
            "column `hour` holds numbers, and `one-hot` encodes text",
        ),
        (
            &SCALED.replace("'none'", "'vector'"),
            "column `hour` holds numbers, and `vector` encodes vectors",
        ),
    ];
    for (text, expected) in refusals {
        let document = Document::parse("test.toml", text, &|_| None).unwrap();
        let mut problems = document.problems();
        assert!(ColumnsEncoder::from_config(&document.root(), &columns(), 1, &mut problems).is_none());
        assert!(problems.render().contains(expected), "{problems}");
    }
}

#[test]
fn numbers_that_the_file_leaves_open_come_as_the_learner_wants_them() {
    use crate::contracts::Form;
    let encoder = super::world::encoder_of(super::world::NATIVE);
    let native = encoder.in_form(Form::Native);
    let world = world(46, 1);
    let mut out = vec![0.0; native.width()];
    native.encode(&world.frame, 45..46, &Dictionaries::default(), &mut out);
    assert!(out[0].is_nan(), "a missing amount stays missing: {out:?}");
    let inputs: Vec<Input> = native.inputs().collect();
    assert_eq!(
        inputs[..4],
        [
            Input::Number,
            Input::Number,
            Input::Number,
            Input::Category { codes: 4 }
        ]
    );
    assert_eq!(native.places().collect::<Vec<_>>()[3..], [3..4, 4..5, 5..9]);
    let unlike = |form| encoder.in_form(form).columns_unlike(form).count();
    assert_eq!((unlike(Form::Native), unlike(Form::Scaled)), (0, 2));
}

#[test]
fn a_column_encoded_by_labels_needs_those_of_the_task() {
    use super::world::{encoder_of, try_section};
    use crate::contracts::{Form, LearnerContext, Task};
    let several = Task::Multiclass { classes: 3 };
    for (classes, task, expected) in [
        ("", Task::Binary, None),
        ("", Task::Regression, None),
        (", classes = 2", Task::Binary, None),
        (", classes = 3", several, None),
        ("", several, Some("write `classes = 3`")),
        (", classes = 4", several, Some("write `classes = 3`")),
        (", classes = 3", Task::Regression, Some("leave `classes` out")),
        ("", Task::Anomaly, Some("use `frequency`")),
    ] {
        let table = format!("country = {{ encode = 'target'{classes} }}");
        let columns = encoder_of(&SCALED.replace("country = { encode = 'one-hot', categories_max = 3 }", &table));
        let found = try_section("", |section, problems| {
            LearnerContext::new(task, &columns, 1).encoder(Form::Scaled, section, problems)
        });
        match (found.err(), expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{task:?}: {found}"),
            (found, expected) => panic!("{task:?}{classes}: {found:?} instead of {expected:?}"),
        }
    }
}
