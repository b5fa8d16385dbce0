//! What every batch learner of classes can be given: class weights, and a calibration on later rows.
//!
//! Both stand around the learner, which knows nothing of them. A learner takes them in two places: the keys
//! [`CLASS_WEIGHT`], [`CALIBRATION`] and [`CALIBRATION_SHARE`] among its fields, and [`around`] at the end of its
//! `build`.
//!
//! A calibrated model is a team of one: the learner's model, and a [`Calibration`] that makes probabilities of its
//! probabilities. The model is fitted on the earlier rows alone; the calibration on the later ones, which the model has
//! not seen. The threshold of the whole is one of calibrated probabilities.

use std::sync::Arc;

use driftmill_config::{Field, Kind, Need, Problems, Section};

use super::usable;
use crate::contracts::{BatchLearner, FitError, FitStart, Labelled, LearnerContext, Task};
use crate::frame::Frame;
use crate::model::{Body, Model, Scratch};
use crate::scorers::calibration::{self, Calibration, Curve, log_odds};
use crate::scorers::linear::logistic;

/// The key of class weights.
pub(super) const CLASS_WEIGHT: Field = Field {
    name: "class_weight",
    kind: Kind::OneOf(&["none", "balanced"]),
    need: Need::Optional("`\"none\"`"),
    doc: "`balanced` multiplies the weights of rows so that every class weighs the same in the fit. Probabilities are \
          then those of such a world, unless they are calibrated, for which rows count by their own weights.",
};

/// The key of the kind of calibration.
pub(super) const CALIBRATION: Field = Field {
    name: "calibration",
    kind: Kind::OneOf(&["none", "platt", "isotonic"]),
    need: Need::Optional("`\"none\"`"),
    doc: "How probabilities are corrected on later rows that the model has not seen: `platt` fits a slope and an offset \
          of the log-odds (Platt 1999), `isotonic` a curve of any shape that never falls, which wants some thousand \
          rows. Of several classes each has its own, and their results are divided by their sum.",
};

/// The key of the share of rows that is kept for the calibration.
pub(super) const CALIBRATION_SHARE: Field = Field {
    name: "calibration_share",
    kind: Kind::Float,
    need: Need::Optional("0.2"),
    doc: "Share of the rows, the latest, that the model is not fitted on and the calibration is; from 0.01 to 0.5.",
};

/// How a calibration is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Platt,
    Isotonic,
}

/// Gives `learner` what its section says of class weights and calibration. Tasks without classes have neither.
pub(super) fn around(
    learner: Box<dyn BatchLearner>,
    section: &Section<'_>,
    context: &LearnerContext<'_>,
    problems: &mut Problems,
) -> Box<dyn BatchLearner> {
    let task = context.task;
    let mut choice = |key: &str, names: &[&str]| {
        let name = section.get_or(key, "none".to_owned(), problems);
        let place = names.iter().position(|known| *known == name);
        if place.is_none() {
            let message = format!("`{key}` must be one of {}", names.join(", "));
            problems.push(section.key_span(key), message, None);
        } else if name != "none" && !matches!(task, Task::Binary | Task::Multiclass { .. }) {
            let message = format!("`{key}` is for tasks of classes");
            problems.push(section.key_span(key), message, Some("leave it out".to_owned()));
        }
        place
    };
    let balanced = choice("class_weight", &["none", "balanced"]) == Some(1);
    let method = match choice("calibration", &["none", "platt", "isotonic"]) {
        Some(1) => Some(Method::Platt),
        Some(2) => Some(Method::Isotonic),
        _ => None,
    };
    let share = section.get_or("calibration_share", 0.2, problems);
    if !(0.01..=0.5).contains(&share) {
        let message = "`calibration_share` must be from 0.01 to 0.5".to_owned();
        problems.push(section.key_span("calibration_share"), message, None);
    }
    let learner = if balanced {
        Box::new(Balanced { learner, task })
    } else {
        learner
    };
    match method {
        Some(method) => Box::new(Calibrated {
            learner,
            task,
            method,
            share,
        }),
        None => learner,
    }
}

/// Fits with every class weighing the same.
struct Balanced {
    learner: Box<dyn BatchLearner>,
    task: Task,
}

impl BatchLearner for Balanced {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let weights = balanced(rows, self.task);
        let weights = &weights;
        self.learner.fit(Labelled { weights, ..rows }, start)
    }
}

/// The weights of rows, multiplied so that those of every class add up to the same. Rows that cannot be used keep theirs.
fn balanced(rows: Labelled<'_>, task: Task) -> Vec<f64> {
    let pairs = || rows.labels.iter().zip(rows.weights);
    let able = |(label, weight): (&f64, &f64)| usable(task, *label, *weight);
    // Divided by the largest, weights add up to something finite.
    let largest = pairs().filter(|pair| able(*pair)).map(|(_, weight)| *weight);
    let largest = largest.fold(f64::MIN_POSITIVE, f64::max);
    let mut sums = vec![0.0; task.outputs().max(2)];
    for (label, weight) in pairs().filter(|pair| able(*pair)) {
        sums[*label as usize] += weight / largest;
    }
    let (total, classes) = (sums.iter().sum::<f64>(), sums.len() as f64);
    let balance = |(label, weight): (&f64, &f64)| {
        if !able((label, weight)) {
            return *weight;
        }
        let factor = total / (classes * sums[*label as usize].max(f64::MIN_POSITIVE));
        (weight / largest * factor).clamp(f64::MIN_POSITIVE, f64::MAX)
    };
    pairs().map(balance).collect()
}

/// Fits on the earlier rows, and calibrates on the later ones.
struct Calibrated {
    learner: Box<dyn BatchLearner>,
    task: Task,
    method: Method,
    share: f64,
}

impl BatchLearner for Calibrated {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let given = rows.frame.rows().min(rows.labels.len()).min(rows.weights.len());
        let pairs = rows.labels.iter().zip(rows.weights).take(given).enumerate();
        let able: Vec<usize> = pairs
            .filter(|(_, (label, weight))| usable(self.task, **label, **weight))
            .map(|(row, _)| row)
            .collect();
        let later = (able.len() as f64 * self.share).round().max(1.0) as usize;
        let earlier = able.len().saturating_sub(later);
        let Some(&cut) = able.get(earlier).filter(|_| earlier > 0) else {
            let what = format!("none of {given} rows is left to fit on beside those for the calibration");
            return Err(FitError(format!(
                "{what} ({} have a usable label and weight); wait for labelled rows",
                able.len()
            )));
        };
        let (head, tail) = (part(rows.frame, 0, cut), part(rows.frame, cut, given));
        let fitted = self.learner.fit(
            Labelled {
                frame: &head,
                labels: &rows.labels[..cut],
                weights: &rows.weights[..cut],
                ..rows
            },
            uncalibrated(start),
        )?;
        let mut scores = Vec::new();
        fitted.score(&tail, rows.dictionaries, &mut Scratch::default(), &mut scores);
        let (labels, weights) = (&rows.labels[cut..given], &rows.weights[cut..given]);
        let calibration = self.calibrate(&scores, labels, weights)?;
        Model::combined(self.task, vec![Arc::new(fitted)], Arc::new(calibration)).map_err(FitError)
    }
}

/// The start of the model inside of a calibrated one.
fn uncalibrated(start: FitStart<'_>) -> FitStart<'_> {
    match start.from.map(Model::body) {
        Some(Body::Combined { members, combiner }) if combiner.format() == calibration::FORMAT => match &members[..] {
            [inner] => FitStart::warm(start.seed, inner),
            _ => start,
        },
        _ => start,
    }
}

/// Rows `from..to` of a frame.
fn part(frame: &Frame, from: usize, to: usize) -> Frame {
    let mut part = frame.empty_like();
    part.append(frame, from..to);
    part
}

impl Calibrated {
    /// A curve for each output from scores of rows that the model has not seen.
    fn calibrate(&self, scores: &[f64], labels: &[f64], weights: &[f64]) -> Result<Calibration, FitError> {
        let outputs = self.task.outputs();
        let mean = mean_weight(self.task, labels, weights);
        let mut curves = Vec::with_capacity(outputs);
        for output in 0..outputs {
            let class = if outputs == 1 { 1.0 } else { output as f64 };
            let rows = scores.chunks(outputs).zip(labels).zip(weights);
            let points: Vec<Point> = rows
                .filter(|((_, label), weight)| usable(self.task, **label, **weight))
                .map(|((scores, label), weight)| Point {
                    score: scores[output],
                    is: *label == class,
                    weight: (weight / mean).clamp(1e-6, 1e6),
                })
                .collect();
            for (is, class) in [(true, class), (false, 1.0 - class)] {
                if points.iter().all(|point| point.is != is) {
                    let which = if is || outputs == 1 {
                        format!("class {class}")
                    } else {
                        format!("another class than {output}")
                    };
                    return Err(FitError(format!(
                        "none of the {} latest rows, which are kept for the calibration, has {which}; raise \
                         `calibration_share` or train on more rows",
                        points.len()
                    )));
                }
            }
            curves.push(match self.method {
                Method::Platt => platt(&points),
                Method::Isotonic => isotonic(points),
            });
        }
        Calibration::new(curves).map_err(FitError)
    }
}

/// The mean weight of the usable rows.
fn mean_weight(task: Task, labels: &[f64], weights: &[f64]) -> f64 {
    let pairs = labels.iter().zip(weights);
    let able = || pairs.clone().filter(|(label, weight)| usable(task, **label, **weight));
    let count = able().count() as f64;
    let mean = able().fold(0.0, |sum, (_, weight)| sum + weight / count);
    mean.clamp(f64::MIN_POSITIVE, f64::MAX)
}

/// A row's score, whether the row is of the class, and how much it counts.
#[derive(Debug, Clone, Copy)]
struct Point {
    score: f64,
    is: bool,
    weight: f64,
}

impl Point {
    fn hits(&self) -> f64 {
        if self.is { self.weight } else { 0.0 }
    }
}

/// Slopes outside would turn scores round, or leave nothing between 0 and 1.
const SLOPES: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// Slope and offset of the log-odds with the least log loss against targets that are drawn a little from 0 and 1
/// (Platt, "Probabilistic outputs for support vector machines", 1999), by Newton's method with a line search (Lin, Lin
/// and Weng, "A note on Platt's probabilistic outputs", Machine Learning 2007).
fn platt(points: &[Point]) -> Curve {
    let sum = |is: bool| {
        points
            .iter()
            .filter(|point| point.is == is)
            .fold(0.0, |sum, point| sum + point.weight)
    };
    let (positives, negatives) = (sum(true), sum(false));
    let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    let rows: Vec<(f64, f64, f64)> = points
        .iter()
        .map(|point| (log_odds(point.score), if point.is { high } else { low }, point.weight))
        .collect();
    let prior = ((positives + 1.0) / (negatives + 1.0)).ln();
    let (mut slope, mut offset) = newton(&rows, (1.0, 0.0), true);
    if !SLOPES.contains(&slope) {
        slope = slope.clamp(*SLOPES.start(), *SLOPES.end());
        offset = newton(&rows, (slope, prior), false).1;
    }
    Curve::Logistic {
        slope,
        offset: offset.clamp(-1e4, 1e4),
    }
}

/// The log loss of slope and offset over rows of input, target and weight.
fn loss(rows: &[(f64, f64, f64)], slope: f64, offset: f64) -> f64 {
    let one = |&(x, target, weight): &(f64, f64, f64)| {
        let z = slope * x + offset;
        // ln(1 + e^z) - target * z, without overflow.
        weight * (z.max(0.0) + (-z.abs()).exp().ln_1p() - target * z)
    };
    rows.iter().map(one).sum()
}

/// Minimises [`loss`] from a start; the slope stays where `free` is not set.
fn newton(rows: &[(f64, f64, f64)], start: (f64, f64), free: bool) -> (f64, f64) {
    // Keeps the second derivative above 0 where all inputs are alike.
    const RIDGE: f64 = 1e-9;
    let (mut slope, mut offset) = start;
    let mut best = loss(rows, slope, offset);
    for _ in 0..100 {
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, RIDGE, 0.0, RIDGE);
        for &(x, target, weight) in rows {
            let p = logistic(slope * x + offset);
            let (error, curvature) = (weight * (p - target), weight * p * (1.0 - p));
            g1 += error;
            h11 += curvature;
            if free {
                g0 += error * x;
                h00 += curvature * x * x;
                h01 += curvature * x;
            }
        }
        let determinant = h00 * h11 - h01 * h01;
        let d0 = (h11 * g0 - h01 * g1) / determinant;
        let d1 = (h00 * g1 - h01 * g0) / determinant;
        if !(g0.abs().max(g1.abs()) > 1e-7 && d0.is_finite() && d1.is_finite()) {
            break;
        }
        let mut step = 1.0;
        let downhill = loop {
            let next = loss(rows, slope - step * d0, offset - step * d1);
            if next < best - 1e-4 * step * (g0 * d0 + g1 * d1) {
                best = next;
                break true;
            }
            step /= 2.0;
            if step < 1e-10 {
                break false;
            }
        };
        if !downhill {
            break;
        }
        slope -= step * d0;
        offset -= step * d1;
    }
    (slope, offset)
}

/// Neighbouring scores that have one value.
#[derive(Debug, Clone, Copy)]
struct Pool {
    weight: f64,
    scores: f64,
    hits: f64,
}

impl Pool {
    fn value(&self) -> f64 {
        self.hits / self.weight
    }

    fn merged(self, other: Self) -> Self {
        Self {
            weight: self.weight + other.weight,
            scores: self.scores + other.scores,
            hits: self.hits + other.hits,
        }
    }
}

/// Pools neighbours until values grow (Ayer et al., Annals of Mathematical Statistics 1955).
fn pooled(ordered: impl Iterator<Item = Pool>) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    for mut pool in ordered {
        while let Some(last) = pools.pop_if(|last| last.value() >= pool.value()) {
            pool = last.merged(pool);
        }
        pools.push(pool);
    }
    pools
}

/// The curve that never falls with the least squared error, by pooling adjacent violators. Equal scores are one from the
/// start. A pool's value stands at its mean score, and between pools lie straight lines (Oron and Flournoy, "Centered
/// isotonic regression", 2017): scores that differ stay apart, where steps would tie them. A pool counts one row more, of
/// the share of all rows, so that a handful of rows at an end is never certain; then pools are pooled again.
fn isotonic(mut points: Vec<Point>) -> Curve {
    for point in &mut points {
        let score = if point.score.is_nan() { 0.0 } else { point.score };
        point.score = score.clamp(0.0, 1.0);
    }
    points.sort_by(|a, b| a.score.total_cmp(&b.score));
    let all = points.iter().fold((0.0, 0.0), |(weight, hits), point| {
        (weight + point.weight, hits + point.hits())
    });
    let same = points.chunk_by(|a, b| a.score == b.score).map(|same| {
        let none = Pool {
            weight: 0.0,
            scores: 0.0,
            hits: 0.0,
        };
        same.iter().fold(none, |pool, point| {
            pool.merged(Pool {
                weight: point.weight,
                scores: point.weight * point.score,
                hits: point.hits(),
            })
        })
    });
    let drawn = pooled(same).into_iter().map(|pool| Pool {
        weight: pool.weight + 1.0,
        scores: pool.scores + pool.scores / pool.weight,
        hits: pool.hits + all.1 / all.0,
    });
    let (mut from, mut to): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for pool in pooled(drawn) {
        let score = (pool.scores / pool.weight).clamp(0.0, 1.0);
        // Rounding may bring the means of two narrow pools together.
        if from.last().is_none_or(|last| *last < score) {
            from.push(score);
            to.push(pool.value());
        }
    }
    Curve::Points { from, to }
}

#[cfg(test)]
mod tests {
    use driftmill_config::Document;
    use rand_pcg::Pcg64;
    use rand_pcg::rand_core::SeedableRng;

    use super::*;
    use crate::dictionary::Dictionaries;
    use crate::encoders::ColumnsEncoder;
    use crate::frame::{Column, ColumnKind, ColumnSpec};
    use crate::random::uniform;
    use crate::scorers::constant::Constant;
    use crate::scorers::linear::{Linear, Link};

    /// Scores that are too sure of themselves: the true log-odds are half as large, and 0.5 lower.
    fn overconfident(rows: usize, seed: u64) -> Vec<Point> {
        let mut random = Pcg64::seed_from_u64(seed);
        (0..rows)
            .map(|_| {
                let z = 8.0 * uniform(&mut random) - 4.0;
                Point {
                    score: logistic(z),
                    is: uniform(&mut random) < logistic(0.5 * z - 0.5),
                    weight: 1.0,
                }
            })
            .collect()
    }

    fn log_loss(points: &[Point], p: impl Fn(f64) -> f64) -> f64 {
        let one = |point: &Point| crate::metrics::binary::log_loss(p(point.score), f64::from(u8::from(point.is)));
        points.iter().map(one).sum::<f64>() / points.len() as f64
    }

    #[test]
    fn both_methods_find_what_the_scores_are_worth() {
        let (train, test) = (overconfident(20_000, 1), overconfident(20_000, 2));
        let (before, best) = (
            log_loss(&test, |p| p),
            log_loss(&test, |p| logistic(0.5 * log_odds(p) - 0.5)),
        );
        let curve = platt(&train);
        let Curve::Logistic { slope, offset } = curve else {
            panic!("{curve:?}")
        };
        assert!((slope - 0.5).abs() < 0.03 && (offset + 0.5).abs() < 0.05, "{curve:?}");
        for (name, curve, more) in [("platt", curve, 0.001), ("isotonic", isotonic(train), 0.003)] {
            let after = log_loss(&test, |p| curve.at(p));
            assert!(
                after < best + more && best + more < before,
                "{name}: {before}, {after}, {best}"
            );
        }
    }

    #[test]
    fn a_row_of_weight_three_is_three_rows() {
        let mut points = overconfident(500, 3);
        let thrice: Vec<Point> = points.iter().flat_map(|point| [*point; 3]).collect();
        points.iter_mut().for_each(|point| point.weight = 3.0);
        let (one, other) = (platt(&points), platt(&thrice));
        let apart = |p: f64| (one.at(p) - other.at(p)).abs();
        assert!(
            [0.0, 0.1, 0.5, 0.99].into_iter().all(|p| apart(p) < 1e-6),
            "{one:?} {other:?}"
        );
        let (Curve::Points { from, .. }, Curve::Points { from: other, .. }) = (isotonic(points), isotonic(thrice))
        else {
            panic!("no points")
        };
        assert_eq!(from.len(), other.len());
    }

    #[test]
    fn curves_are_usable_whatever_the_rows_say() {
        let point = |score, is| Point { score, is, weight: 1.0 };
        for (name, points) in [
            ("separated", vec![point(0.1, false), point(0.9, true)]),
            ("the wrong way round", vec![point(0.1, true), point(0.9, false)]),
            (
                "one score",
                vec![point(0.3, true), point(0.3, false), point(0.3, false)],
            ),
            ("certain", vec![point(0.0, false), point(1.0, true), point(1.0, false)]),
            ("no number", vec![point(f64::NAN, false), point(1.0, true)]),
        ] {
            for curve in [platt(&points), isotonic(points.clone())] {
                let sound = Calibration::new(vec![curve.clone()]);
                assert!(sound.is_ok(), "{name}: {curve:?}");
                let values: Vec<f64> = (0..=20).map(|step| curve.at(f64::from(step) / 20.0)).collect();
                assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{name}: {values:?}");
                assert!(values.iter().all(|p| *p > 0.0 && *p < 1.0), "{name}: {values:?}");
            }
        }
    }

    #[test]
    fn adjacent_violators_are_pooled() {
        let labels = [false, true, false, true, true, false, true];
        let points = labels.iter().enumerate().map(|(place, is)| Point {
            score: place as f64 / 10.0,
            is: *is,
            weight: 1.0,
        });
        let Curve::Points { from, to } = isotonic(points.collect()) else {
            panic!("no points")
        };
        // {0}, {1, 2}, {3, 4, 5}, {6}, each with one row more of 4/7.
        let drawn = |hits: f64, rows: f64| (hits + 4.0 / 7.0) / (rows + 1.0);
        let expected = [
            (0.0, drawn(0.0, 1.0)),
            (0.15, drawn(1.0, 2.0)),
            (0.4, drawn(2.0, 3.0)),
            (0.6, drawn(1.0, 1.0)),
        ];
        let found: Vec<(f64, f64)> = from.into_iter().zip(to).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((x, y), (a, b)) in found.iter().zip(expected) {
            assert!((x - a).abs() < 1e-12 && (y - b).abs() < 1e-12, "{found:?}");
        }
    }

    /// Answers with the share of class 1 among its rows, by weight.
    struct Share;

    impl BatchLearner for Share {
        fn fit(&self, rows: Labelled<'_>, _: FitStart<'_>) -> Result<Model, FitError> {
            let pairs = rows.labels.iter().zip(rows.weights);
            let (hits, all) = pairs.fold((0.0, 0.0), |(hits, all), (label, weight)| {
                (hits + label * weight, all + weight)
            });
            let encoder = Arc::new(encoder());
            let scorer = Constant::new(encoder.width(), vec![hits / all]);
            Model::new(Task::Binary, encoder, Arc::new(scorer)).map_err(FitError)
        }
    }

    fn encoder() -> ColumnsEncoder {
        let columns = [ColumnSpec {
            name: "x".to_owned(),
            kind: ColumnKind::Number,
        }];
        let document = Document::parse("test.toml", "", &|_| None).unwrap();
        ColumnsEncoder::from_config(&document.root(), &columns, 1, &mut document.problems()).unwrap()
    }

    /// What a learner around [`Share`] makes of labels whose rows have these weights.
    fn fitted(text: &str, labels: &[f64], weights: &[f64]) -> Result<Model, FitError> {
        let document = Document::parse("test.toml", text, &|_| None).unwrap();
        let (encoder, mut problems) = (encoder(), document.problems());
        let context = LearnerContext::new(Task::Binary, &encoder, 1);
        let learner = around(Box::new(Share), &document.root(), &context, &mut problems);
        assert!(problems.is_empty(), "{}", problems.render());
        let frame = Frame::new(labels.len(), vec![Column::F64(vec![0.0; labels.len()])]);
        let dictionaries = Dictionaries::new(encoder.columns(), 100);
        let rows = Labelled {
            frame: &frame,
            dictionaries: &dictionaries,
            labels,
            weights,
        };
        learner.fit(rows, FitStart::anew(1))
    }

    fn constant_score(model: &Model) -> f64 {
        let frame = Frame::new(1, vec![Column::F64(vec![0.0])]);
        let (dictionaries, mut out) = (Dictionaries::new(model.columns(), 100), Vec::new());
        model.score(&frame, &dictionaries, &mut Scratch::default(), &mut out);
        out[0]
    }

    #[test]
    fn the_model_sees_the_earlier_rows_and_the_calibration_the_later_ones() {
        // Half of the first 80 rows are of class 1, a tenth of the last 20.
        let labels: Vec<f64> = (0..100)
            .map(|row| f64::from(u8::from(row % if row < 80 { 2 } else { 10 } == 0)))
            .collect();
        let model = fitted("calibration = 'platt'", &labels, &[1.0; 100]).unwrap();
        let Body::Combined { members, .. } = model.body() else {
            panic!("{model:?}")
        };
        assert_eq!(constant_score(&members[0]), 0.5);
        // The targets are drawn a little from 0 and 1.
        let expected = (2.0 * 3.0 / 4.0 + 18.0 / 20.0) / 20.0;
        assert!(
            (constant_score(&model) - expected).abs() < 1e-6,
            "{}",
            constant_score(&model)
        );
        let error = fitted("calibration = 'platt'\ncalibration_share = 0.05", &labels, &[1.0; 100]).unwrap_err();
        assert!(
            error.0.contains("none of the 5 latest rows") && error.0.contains("class 1"),
            "{error}"
        );
        assert!(fitted("calibration = 'isotonic'", &labels[..1], &[1.0]).is_err());
    }

    #[test]
    fn contributions_add_up_to_calibrated_log_odds() {
        let encoder = Arc::new(encoder());
        let linear = Linear::single(Link::Logistic, vec![0.7], 0.1);
        let inner = Arc::new(Model::new(Task::Binary, encoder, Arc::new(linear)).unwrap());
        let line = Curve::Logistic {
            slope: 0.5,
            offset: -0.25,
        };
        let points = Curve::Points {
            from: vec![0.1, 0.9],
            to: vec![0.2, 0.7],
        };
        let frame = Frame::new(3, vec![Column::F64(vec![-1.5, 0.0, 2.0])]);
        let dictionaries = Dictionaries::new(inner.columns(), 100);
        let calibrated = |curve| {
            let calibration = Calibration::new(vec![curve]).unwrap();
            Model::combined(Task::Binary, vec![Arc::clone(&inner)], Arc::new(calibration)).unwrap()
        };
        let (model, mut parts, mut scores) = (calibrated(line), Vec::new(), Vec::new());
        assert!(model.contributions(&frame, &dictionaries, &mut parts));
        model.score(&frame, &dictionaries, &mut Scratch::default(), &mut scores);
        for (parts, score) in parts.chunks(2).zip(&scores) {
            let sum: f64 = parts.iter().sum();
            assert!((logistic(sum) - score).abs() < 1e-12, "{parts:?}: {score}");
        }
        assert!(!calibrated(points).contributions(&frame, &dictionaries, &mut parts) && parts.is_empty());
    }

    #[test]
    fn impossible_settings_are_refused_at_their_place() {
        let several = Task::Multiclass { classes: 3 };
        for (task, text, expected) in [
            (Task::Binary, "calibration = 'beta'", "`calibration` must be one of"),
            (Task::Binary, "class_weight = 'even'", "`class_weight` must be one of"),
            (several, "calibration_share = 0.6", "`calibration_share` must be from"),
            (Task::Regression, "calibration = 'platt'", "is for tasks of classes"),
            (Task::Regression, "class_weight = 'balanced'", "is for tasks of classes"),
            (several, "calibration = 'isotonic'\nclass_weight = 'balanced'", ""),
            (Task::Regression, "calibration = 'none'", ""),
        ] {
            let document = Document::parse("test.toml", text, &|_| None).unwrap();
            let (encoder, mut problems) = (encoder(), document.problems());
            let context = LearnerContext::new(task, &encoder, 1);
            around(Box::new(Share), &document.root(), &context, &mut problems);
            assert_eq!(problems.is_empty(), expected.is_empty(), "{text}");
            assert!(problems.render().contains(expected), "{text}: {}", problems.render());
        }
    }

    #[test]
    fn balanced_classes_weigh_the_same_whatever_their_rows_weigh() {
        for weights in [[1.0; 4], [1e300, 1e-300, 1e300, 5.0]] {
            let model = fitted("class_weight = 'balanced'", &[1.0, 0.0, 0.0, 0.0], &weights).unwrap();
            assert!(
                (constant_score(&model) - 0.5).abs() < 1e-9,
                "{weights:?}: {}",
                constant_score(&model)
            );
        }
    }
}
