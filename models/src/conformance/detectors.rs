//! What a detector must keep: on a stream of values, and on features.

use super::world::try_section;
use super::{Property, all_hold, are_documented};
use crate::contracts::{
    BuildContext, DriftStatus, FeatureDetector, FeatureVerdict, Kind, StreamDetector, Task, Verdict,
};
use crate::detectors::memory::{Memory, snapshot, survives_damage};
use crate::detectors::{DETECTORS, Detector};
use crate::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};
use crate::random::{of_row, uniform};

/// Bytes that a detector of single values may save.
const STREAM_BYTES_MAX: usize = 64 << 10;
const SEED: u64 = 17;

fn columns() -> Vec<ColumnSpec> {
    let spec = |name: &str, kind| ColumnSpec {
        name: name.to_owned(),
        kind,
    };
    let vectors = ColumnKind::Vector { width: 2 };
    vec![
        spec("x", ColumnKind::Number),
        spec("c", ColumnKind::Category),
        spec("v", vectors),
    ]
}

/// A detector as its example configures it, or as nothing does.
pub(super) struct Case {
    kind: &'static dyn Kind<Detector>,
    config: &'static str,
}

impl Case {
    pub(super) fn of(kind: &'static dyn Kind<Detector>) -> [Self; 2] {
        [kind.example(), ""].map(|config| Self { kind, config })
    }

    pub(super) fn name(&self) -> String {
        let config = if self.config.is_empty() {
            "no keys"
        } else {
            "its example"
        };
        format!("{} ({config})", self.kind.name())
    }

    fn build(&self) -> Detector {
        let columns = columns();
        let context = BuildContext {
            task: Task::Binary,
            columns: &columns,
            seed: SEED,
        };
        let built = try_section(self.config, |section, problems| {
            section.check(self.kind.fields(), problems);
            self.kind.build(section, &context, problems)
        });
        *built.unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn stream(&self) -> Box<dyn StreamDetector> {
        match self.build() {
            Detector::Stream(detector) => detector,
            Detector::Features(_) => panic!("it watches features"),
        }
    }

    fn features(&self) -> Box<dyn FeatureDetector> {
        match self.build() {
            Detector::Features(detector) => detector,
            Detector::Stream(_) => panic!("it watches single values"),
        }
    }
}

fn is_a_number(verdict: &Verdict) -> bool {
    [verdict.score, verdict.effect, verdict.threshold]
        .iter()
        .all(|number| number.is_finite())
}

/// 0 or 1, 1 with chance `p`.
fn coin(row: u64, p: f64) -> f64 {
    f64::from(u8::from(uniform(&mut of_row(SEED, row)) < p))
}

const EXTREMES: [f64; 9] = [
    f64::NAN,
    1e300,
    0.0,
    f64::INFINITY,
    -1e300,
    f64::MIN_POSITIVE,
    f64::NEG_INFINITY,
    f64::MAX,
    0.5,
];

/// What a detector of single values keeps.
pub(super) const STREAM: &[Property<Case>] = &[
    ("it has no opinion before there are enough values", |case| {
        let mut detector = case.stream();
        assert_eq!(detector.since_change(), 0);
        for value in [0.0, 1.0, 0.3, 0.9, 0.1] {
            let verdict = detector.update(value);
            assert_eq!(verdict.status, DriftStatus::InsufficientData, "{verdict:?}");
        }
    }),
    (
        "no alarm on constants, and in the end it says that all is well",
        |case| {
            for constant in [0.0, 0.3, 1.0] {
                let mut detector = case.stream();
                let statuses: Vec<DriftStatus> = (0..5_000).map(|_| detector.update(constant).status).collect();
                assert!(
                    !statuses.contains(&DriftStatus::Drift),
                    "an alarm on nothing but {constant}"
                );
                assert_eq!(
                    statuses.last(),
                    Some(&DriftStatus::Stable),
                    "after 5000 times {constant}"
                );
            }
        },
    ),
    ("few alarms on a coin that does not change", |case| {
        let mut detector = case.stream();
        let drifts = (0..20_000).filter(|&row| detector.update(coin(row, 0.2)).status == DriftStatus::Drift);
        let drifts = drifts.count();
        assert!(drifts <= 20, "{drifts} alarms in 20000 values, seed {SEED}");
    }),
    ("it finds a large change, once, and forgets what came before", |case| {
        let mut detector = case.stream();
        let mut found = Vec::new();
        for row in 0..4_000 {
            let verdict = detector.update(coin(row, if row < 2_000 { 0.1 } else { 0.9 }));
            if verdict.status == DriftStatus::Drift {
                found.push((row, detector.since_change()));
            }
        }
        let before = found.iter().filter(|(row, _)| *row < 2_000).count();
        let after: Vec<_> = found.iter().filter(|(row, _)| *row >= 2_000).collect();
        // Published detectors raise some: how many are too many is another property.
        assert!(before <= 5, "{found:?}, seed {SEED}");
        assert!(
            (1..=5).contains(&after.len()),
            "alarms after the change: {found:?}, seed {SEED}"
        );
        assert!(after[0].0 < 2_500, "found late: {found:?}");
        assert!(
            detector.since_change() <= 2_100,
            "{} values are kept",
            detector.since_change()
        );
    }),
    ("no verdict is ever NaN", |case| {
        for cut in [0, 200] {
            let mut detector = case.stream();
            for row in 0..2_000 {
                let wild = EXTREMES[row % EXTREMES.len()];
                let value = if row < cut { coin(row as u64, 0.3) } else { wild };
                let verdict = detector.update(value);
                assert!(is_a_number(&verdict), "value {row}, {value}: {verdict:?}");
            }
        }
    }),
    ("a value that is not finite is left out", |case| {
        let (mut with, mut without) = (case.stream(), case.stream());
        for row in 0..700 {
            with.update([f64::NAN, f64::INFINITY, f64::NEG_INFINITY][row % 3]);
            let value = coin(row as u64, 0.3);
            assert_eq!(with.update(value), without.update(value), "value {row}");
        }
        assert_eq!(with.since_change(), without.since_change());
    }),
    ("the present regime is never longer than what was seen", |case| {
        let mut detector = case.stream();
        for row in 0..3_000 {
            let before = detector.since_change();
            let status = detector.update(coin(row, if row < 1_500 { 0.2 } else { 0.8 })).status;
            let since = detector.since_change();
            assert!(since <= row + 1 && since <= before + 1, "{since} of {} values", row + 1);
            assert!(
                status != DriftStatus::Drift || since <= before,
                "{since} after a change, {before} before"
            );
        }
    }),
    ("saved and restored it goes on as if nothing had happened", |case| {
        let value = |row: u64| coin(row, if row < 400 { 0.1 } else { 0.7 });
        for cut in [0, 1, 100, 433, 699] {
            let mut whole = case.stream();
            for row in 0..cut {
                whole.update(value(row));
            }
            let mut memory = Memory::default();
            memory.save(whole.as_ref());
            let mut restored = case.stream();
            restored.restore(&memory).unwrap();
            for row in cut..700 {
                assert_eq!(
                    whole.update(value(row)),
                    restored.update(value(row)),
                    "cut {cut}, value {row}"
                );
                assert_eq!(whole.since_change(), restored.since_change());
            }
            memory.save(restored.as_ref());
            assert_eq!(memory.contents(), snapshot(whole.as_ref()), "stamps after {cut} values");
        }
    }),
    ("damaged state is refused", |case| {
        let mut detector = case.stream();
        for row in 0..200 {
            detector.update(coin(row, 0.3));
        }
        survives_damage(&detector, || case.stream());
    }),
    ("memory is bounded", |case| {
        let mut detector = case.stream();
        for row in 0..100_000 {
            detector.update(coin(row, 0.3));
        }
        let bytes: usize = snapshot(detector.as_ref()).values().map(Vec::len).sum();
        assert!(bytes <= STREAM_BYTES_MAX, "{bytes} bytes after 100000 values");
    }),
];

/// What happens to the features.
#[derive(Clone, Copy, PartialEq)]
enum Shift {
    None,
    Numbers,
    Categories,
    Vectors,
    Missing,
    Constant,
    Wild,
}

/// Rows `from..from + count`.
fn frame(from: u64, count: usize, shift: Shift) -> Frame {
    let draw = |row: usize, salt: u64| uniform(&mut of_row(SEED + salt, from + row as u64));
    let numbers = (0..count).map(|row| match shift {
        Shift::Numbers => draw(row, 1) + 2.0,
        Shift::Missing if draw(row, 3) < 0.8 => f64::NAN,
        Shift::Constant => 0.7,
        Shift::Wild => EXTREMES[row % EXTREMES.len()],
        _ => draw(row, 1),
    });
    let codes = (0..count).map(|row| match shift {
        Shift::Categories => 10 + (4.0 * draw(row, 2)) as u32,
        Shift::Missing if draw(row, 4) < 0.8 => MISSING,
        Shift::Constant => 3,
        Shift::Wild => u32::MAX - (row % 5) as u32,
        _ => (4.0 * draw(row, 2)) as u32,
    });
    let vector = |row: usize| match shift {
        Shift::Vectors => [draw(row, 5), draw(row, 6) + 2.0],
        Shift::Missing if draw(row, 7) < 0.8 => [0.5, f64::NAN],
        Shift::Constant => [0.7, -0.7],
        Shift::Wild => [EXTREMES[row % EXTREMES.len()], 0.0],
        _ => [draw(row, 5), draw(row, 6)],
    };
    let vectors = Column::Vector {
        width: 2,
        values: (0..count).flat_map(vector).map(|value| value as f32).collect(),
    };
    Frame::new(
        count,
        vec![Column::F64(numbers.collect()), Column::Code(codes.collect()), vectors],
    )
}

/// Feeds rows until a test is due; the number of the next row.
fn feed(detector: &mut dyn FeatureDetector, from: u64, shift: Shift) -> u64 {
    let mut row = from;
    while !detector.is_due() {
        detector.observe(&frame(row, 500, shift));
        row += 500;
        assert!(row - from < 500_000, "no test is due after 500000 rows");
    }
    row
}

/// Whether any verdict on a feature, or on anything of it, is drift.
fn drifts(verdicts: &[FeatureVerdict], feature: &str) -> bool {
    let is_of = |found: &&FeatureVerdict| found.feature.split('[').next() == Some(feature);
    let mut of_feature = verdicts.iter().filter(is_of);
    of_feature.any(|found| found.verdict.status == DriftStatus::Drift)
}

/// What a detector on features keeps.
const FEATURES: &[Property<Case>] = &[
    ("it has no opinion before there are enough rows", |case| {
        let mut detector = case.features();
        for rows in [0, 10] {
            detector.observe(&frame(0, rows, Shift::None));
            assert!(!detector.is_due());
            let verdicts = detector.test();
            assert!(!verdicts.is_empty());
            let opinion = |status| status != DriftStatus::InsufficientData;
            assert!(
                !verdicts.iter().any(|found| opinion(found.verdict.status)),
                "{verdicts:?}"
            );
        }
    }),
    ("no alarm where nothing changes", |case| {
        for shift in [Shift::None, Shift::Constant] {
            let mut detector = case.features();
            let mut row = 0;
            for test in 0..5 {
                row = feed(detector.as_mut(), row, shift);
                let verdicts = detector.test();
                let bad = verdicts
                    .iter()
                    .find(|found| found.verdict.status != DriftStatus::Stable);
                let warned = bad.is_none_or(|found| found.verdict.status == DriftStatus::Warning);
                assert!(warned, "test {test}: {bad:?}, seed {SEED}");
                assert!(!detector.is_due(), "a test is due right after one");
            }
        }
    }),
    ("it finds a large change in the feature that changed", |case| {
        for (shift, changed) in [
            (Shift::Numbers, &["x"][..]),
            (Shift::Categories, &["c"]),
            (Shift::Vectors, &["v"]),
            (Shift::Missing, &["x", "c", "v"]),
        ] {
            let mut detector = case.features();
            let mut row = feed(detector.as_mut(), 0, Shift::None);
            assert!(!drifts(&detector.test(), "x"));
            for _ in 0..8 {
                row = feed(detector.as_mut(), row, shift);
                detector.test();
            }
            row = feed(detector.as_mut(), row, shift);
            let verdicts = detector.test();
            for feature in ["x", "c", "v"] {
                assert_eq!(
                    drifts(&verdicts, feature),
                    changed.contains(&feature),
                    "{feature}: {verdicts:?}, seed {SEED}"
                );
            }
            // What is recent becomes the reference: the changed world is the ordinary one.
            detector.rebase();
            feed(detector.as_mut(), row, shift);
            let verdicts = detector.test();
            assert!(
                !["x", "c", "v"].iter().any(|feature| drifts(&verdicts, feature)),
                "{verdicts:?}"
            );
        }
    }),
    ("no verdict is ever NaN", |case| {
        for first in [Shift::None, Shift::Wild, Shift::Missing] {
            let mut detector = case.features();
            let row = feed(detector.as_mut(), 0, first);
            detector.test();
            feed(detector.as_mut(), row, Shift::Wild);
            for found in detector.test() {
                assert!(is_a_number(&found.verdict), "{found:?}");
                assert!((0.0..=1.0).contains(&found.p_value) && (0.0..=1.0).contains(&found.p_adjusted));
            }
        }
    }),
    ("saved and restored it goes on as if nothing had happened", |case| {
        let parts: Vec<Frame> = (0..60)
            .map(|part| frame(part * 700, 700, if part < 50 { Shift::None } else { Shift::Numbers }))
            .collect();
        let step = |detector: &mut dyn FeatureDetector, part: &Frame| {
            detector.observe(part);
            detector.is_due().then(|| detector.test())
        };
        let mut whole = case.features();
        let mut memory = Memory::default();
        for (index, part) in parts.iter().enumerate() {
            if index % 13 == 4 {
                memory.save(whole.as_ref());
                let mut restored = case.features();
                restored.restore(&memory).unwrap();
                let mut ahead = case.features();
                ahead.restore(&memory).unwrap();
                assert_eq!(restored.rows(), whole.rows());
                for next in &parts[index..] {
                    assert_eq!(step(restored.as_mut(), next), step(ahead.as_mut(), next));
                }
                // On top of the older snapshot every change must be found.
                let mut later = Memory::default();
                later.save(ahead.as_ref());
                memory.save(restored.as_ref());
                assert_eq!(memory.contents(), later.contents());
            }
            step(whole.as_mut(), part);
        }
        memory.save(whole.as_ref());
        let mut restored = case.features();
        restored.restore(&memory).unwrap();
        assert_eq!(whole.test(), restored.test());
        assert_eq!(snapshot(whole.as_ref()), snapshot(restored.as_ref()));
    }),
    ("damaged state is refused", |case| {
        let mut detector = case.features();
        detector.observe(&frame(0, 90, Shift::None));
        survives_damage(&detector, || case.features());
    }),
    ("memory is bounded", |case| {
        let mut detector = case.features();
        feed(detector.as_mut(), 0, Shift::None);
        let saved = |detector: &dyn FeatureDetector| snapshot(detector).values().map(Vec::len).sum::<usize>();
        let full = saved(detector.as_ref());
        for row in 0..20 {
            detector.observe(&frame(100_000 + row * 2_000, 2_000, Shift::None));
        }
        assert!(
            saved(detector.as_ref()) <= full + full / 4,
            "it grows beyond {full} bytes"
        );
    }),
];

#[test]
fn detectors_are_documented() {
    are_documented(DETECTORS.iter().map(|kind| *kind as _));
}

#[test]
fn every_detector_keeps_its_contract() {
    let (mut streams, mut features) = (Vec::new(), Vec::new());
    for case in DETECTORS.iter().flat_map(|&kind| Case::of(kind)) {
        match case.build() {
            Detector::Stream(_) => streams.push((case.name(), case)),
            Detector::Features(_) => features.push((case.name(), case)),
        }
    }
    println!(
        "conformance of detectors: {}",
        streams
            .iter()
            .chain(&features)
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
    all_hold(STREAM, streams);
    all_hold(FEATURES, features);
}
