//! What a scorer must keep.

use std::collections::BTreeSet;

use super::world::same;
use super::{Property, all_hold};
use crate::codec::Reader;
use crate::contracts::Scorer;
use crate::matrix::Matrix;
use crate::random::{of_row, uniform};
use crate::scorers::{SCORERS, ScorerFormat, read_scorer, write_scorer};

/// Random inputs from -2 to 2, with zeros and large ones among them.
fn inputs(rows: usize, width: usize) -> Matrix {
    let mut x = Matrix::new();
    x.reset(rows, width);
    for (place, value) in x.values_mut().iter_mut().enumerate() {
        let draw = uniform(&mut of_row(5, place as u64));
        *value = match place % 11 {
            3 => 0.0,
            7 => 1e6 * (draw - 0.5),
            _ => 4.0 * draw - 2.0,
        };
    }
    x
}

fn scores(scorer: &dyn Scorer, x: &Matrix) -> Vec<f64> {
    let mut out = vec![7.0];
    scorer.score(x, &mut out);
    assert_eq!(out[0], 7.0, "it appends");
    out.split_off(1)
}

fn bytes(scorer: &dyn Scorer) -> Vec<u8> {
    let mut out = Vec::new();
    scorer.write(&mut out);
    out
}

const PROPERTIES: &[Property<&ScorerFormat>] = &[
    ("its example has its name", |format| {
        assert_eq!((format.example)().format(), format.name);
    }),
    ("so many finite scores as rows and outputs", |format| {
        let scorer = (format.example)();
        let found = scores(scorer.as_ref(), &inputs(300, scorer.width()));
        assert_eq!(found.len(), 300 * scorer.outputs());
        assert!(found.iter().all(|score| score.is_finite()));
        assert!(found.iter().any(|score| *score != found[0]), "it looks at its inputs");
        assert!(scores(scorer.as_ref(), &inputs(0, scorer.width())).is_empty());
    }),
    ("a row scores alone as among others", |format| {
        let scorer = (format.example)();
        let (x, outputs) = (inputs(131, scorer.width()), scorer.outputs());
        let all = scores(scorer.as_ref(), &x);
        for (row, values) in x.iter().enumerate() {
            let mut alone = Matrix::new();
            alone.reset(1, scorer.width());
            alone.values_mut().copy_from_slice(values);
            assert!(
                same(
                    &scores(scorer.as_ref(), &alone),
                    &all[row * outputs..(row + 1) * outputs]
                ),
                "row {row}"
            );
        }
    }),
    ("what it writes is read back, and scores alike", |format| {
        let scorer = (format.example)();
        let mut written = Vec::new();
        write_scorer(scorer.as_ref(), &mut written);
        let mut reader = Reader::new(&written);
        let read = read_scorer(&mut reader).unwrap();
        reader.finish().unwrap();
        assert_eq!(bytes(read.as_ref()), bytes(scorer.as_ref()));
        let x = inputs(300, scorer.width());
        assert!(same(&scores(scorer.as_ref(), &x), &scores(read.as_ref(), &x)));
    }),
    ("damaged bytes are refused or harmless", |format| {
        let written = bytes((format.example)().as_ref());
        for at in 0..written.len() {
            assert!((format.read)(&mut Reader::new(&written[..at])).is_err(), "cut at {at}");
            for change in [1, 0x10, 0x80, 0xff] {
                let mut damaged = written.clone();
                damaged[at] ^= change;
                if let Ok(read) = (format.read)(&mut Reader::new(&damaged)) {
                    let width = read.width();
                    assert!(width < 1_000_000, "{width} inputs out of {} bytes", written.len());
                    assert_eq!(scores(read.as_ref(), &inputs(3, width)).len(), 3 * read.outputs());
                }
            }
        }
    }),
    ("contributions add up to the output before its link", |format| {
        let scorer = (format.example)();
        let (width, outputs) = (scorer.width(), scorer.outputs());
        let x = inputs(50, width);
        let (found, mut parts) = (scores(scorer.as_ref(), &x), Vec::new());
        if !scorer.contributions(&x, &mut parts) {
            assert!(parts.is_empty());
            return;
        }
        assert_eq!(parts.len(), 50 * outputs * (width + 1));
        let sums: Vec<f64> = parts.chunks(width + 1).map(|parts| parts.iter().sum()).collect();
        for (row, (sums, scores)) in sums.chunks(outputs).zip(found.chunks(outputs)).enumerate() {
            let identity = sums.iter().zip(scores).all(|(sum, score)| (sum - score).abs() < 1e-9);
            let logistic = outputs == 1 && (crate::scorers::linear::logistic(sums[0]) - scores[0]).abs() < 1e-9;
            let total: f64 = sums.iter().map(|sum| (sum - sums[0]).exp()).sum();
            let softmax = sums
                .iter()
                .zip(scores)
                .all(|(sum, score)| ((sum - sums[0]).exp() / total - score).abs() < 1e-9 || !total.is_finite());
            assert!(identity || logistic || softmax, "row {row}: {sums:?} and {scores:?}");
        }
    }),
    ("it says how large it is", |format| {
        let scorer = (format.example)();
        assert!(scorer.bytes() >= bytes(scorer.as_ref()).len() / 2);
    }),
];

#[test]
fn scorers_are_documented_and_have_names_of_their_own() {
    let names: BTreeSet<&str> = SCORERS.iter().map(|format| format.name).collect();
    assert_eq!(names.len(), SCORERS.len());
    assert!(SCORERS.iter().all(|format| format.summary.ends_with('.')));
}

#[test]
fn every_scorer_keeps_its_contract() {
    all_hold(
        PROPERTIES,
        SCORERS.iter().map(|format| (format.name.to_owned(), format)),
    );
}
