//! Watches features: compares the last rows with a reference, feature by feature.
//!
//! Numbers are compared by the Kolmogorov–Smirnov distance ([`super::ks`]), categories by their shares, and for
//! each feature the share of missing values on its own ([`super::shares`]). A vector is watched as several series of
//! numbers, whose values are tested one by one (`series.rs`). The p-values account for rows that
//! are correlated in time ([`super::calibrate`]); over all of them the false discovery rate is held
//! ([`super::fdr`]), so that without a change a whole test raises a false alarm at the rate that was asked for.
//! Drift needs an effect besides.

use std::collections::BTreeMap;

use driftmill_config::{Component, Field, Kind as Holds, Need, Problems, Section};

use super::Detector;
use super::calibrate::{Calibration, Resampling, calibrate};
use super::rows::Rows;
use super::series::{Series, series};
use super::shares::{self, ShareTest};
use super::{fdr, ks};
use crate::codec::{CodecError, Put, Reader};
pub use crate::contracts::{Aspect, FeatureVerdict};
use crate::contracts::{BuildContext, DriftStatus, FeatureDetector, Kind, Verdict};
use crate::frame::{ColumnSpec, Frame};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Rows with a value below which a feature is not tested.
const ROWS_MIN: usize = 30;
/// Blocks that a reference must hold for their correlation to be estimated.
const BLOCKS_MIN: usize = 10;

/// Checked parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MonitorParams {
    /// Rows of the reference: the first ones, in time order.
    pub reference_rows: usize,
    /// Rows of the current window: the last ones.
    pub window_rows: usize,
    /// New rows between tests.
    pub step_rows: usize,
    /// Rows over which features are correlated in time; 1 when they are not.
    pub block_rows: usize,
    /// Share of tests, each over all features, that may raise an alarm without a change.
    pub false_alarm_rate: f64,
    /// Smallest effect that is drift: a distance of distributions or a difference of shares, from 0 to 1.
    pub effect_min: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for MonitorParams {
    fn default() -> Self {
        Self {
            reference_rows: 10_000,
            window_rows: 2_000,
            step_rows: 1_000,
            block_rows: 100,
            false_alarm_rate: 0.01,
            effect_min: 0.1,
            seed: 0,
        }
    }
}

/// What is computed once for a reference.
#[derive(Debug, Clone)]
struct Prepared {
    missing: u64,
    missing_inflation: f64,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Numbers { sorted: Vec<f64>, calibration: Calibration },
    Categories { counts: BTreeMap<u64, u64>, inflation: f64 },
}

/// The monitor. Its memory is bounded by the rows of reference and window.
#[derive(Debug, Clone)]
pub struct Monitor {
    series: Vec<Series>,
    params: MonitorParams,
    reference: Rows,
    window: Rows,
    /// Derived from a full reference, hence no part of the state.
    prepared: Vec<Prepared>,
    since_test: u64,
    stamp: u64,
}

impl Monitor {
    /// Watches `columns`, the columns of every frame that will come.
    #[must_use]
    pub fn new(columns: &[ColumnSpec], params: MonitorParams) -> Self {
        let series = series(columns);
        Self {
            reference: Rows::new(series.len(), params.reference_rows.max(1)),
            window: Rows::new(series.len(), params.window_rows.max(1)),
            series,
            params,
            prepared: Vec::new(),
            since_test: 0,
            stamp: 0,
        }
    }
}

impl FeatureDetector for Monitor {
    /// Takes the rows of a frame: first into the reference until it is full, then into the window.
    fn observe(&mut self, frame: &Frame) {
        if self.series.is_empty() {
            return;
        }
        self.stamp += 1;
        let series = &self.series;
        let first = self.reference.room().min(frame.rows());
        if first > 0 {
            self.reference
                .extend(first, self.stamp, |place, row| series[place].value(frame, row));
            self.prepare();
        }
        // Of more rows than the window holds only the last would stay.
        let skip = first.max(frame.rows().saturating_sub(self.params.window_rows.max(1)));
        let count = frame.rows() - skip;
        let series = &self.series;
        self.window
            .extend(count, self.stamp, |place, row| series[place].value(frame, skip + row));
        self.since_test += (frame.rows() - first) as u64;
    }

    /// Whether a test is due: both samples are full, and `step_rows` rows are new. The first one is due when the
    /// window is full.
    fn is_due(&self) -> bool {
        self.reference.is_full() && self.window.is_full() && self.since_test >= self.params.step_rows as u64
    }

    /// Tests every feature now. Before both samples are full every verdict is 'insufficient data'.
    fn test(&mut self) -> Vec<FeatureVerdict> {
        self.stamp += 1;
        self.since_test = 0;
        let ready = self.reference.is_full() && self.window.is_full();
        let tests = self.series.iter().flat_map(Series::tests).count();
        let rate = self.params.false_alarm_rate / tests.max(1) as f64;
        let mut verdicts = Vec::with_capacity(tests);
        for (place, series) in self.series.iter().enumerate() {
            let [values, missing] = match self.prepared.get(place).filter(|_| ready) {
                Some(prepared) => self.compare(prepared, &self.window.ordered(place), rate),
                None => [None, None],
            };
            let found = |aspect| if aspect == Aspect::Values { values } else { missing };
            let tests = series.tests();
            verdicts.extend(tests.map(|(aspect, name)| self.verdict(name, aspect, found(aspect))));
        }
        self.adjust(&mut verdicts);
        verdicts
    }

    fn untested(&self) -> Vec<FeatureVerdict> {
        let tests = self.series.iter().flat_map(Series::tests);
        tests.map(|(aspect, name)| self.verdict(name, aspect, None)).collect()
    }

    /// The window becomes the reference; it goes on filling until it is full, then the window fills anew.
    fn rebase(&mut self) {
        self.stamp += 1;
        self.reference.take(&self.window, self.stamp);
        self.window.clear(self.stamp);
        self.since_test = 0;
        self.prepare();
    }

    /// Rows in the reference and in the window.
    fn rows(&self) -> (usize, usize) {
        (self.reference.len(), self.window.len())
    }
}

impl Monitor {
    fn prepare(&mut self) {
        self.prepared.clear();
        if self.reference.is_full() {
            let series = self.series.iter().enumerate();
            self.prepared = series
                .map(|(place, series)| self.prepare_series(place, series.is_numeric()))
                .collect();
        }
    }

    fn prepare_series(&self, place: usize, is_numeric: bool) -> Prepared {
        let rows = self.reference.ordered(place);
        let block = self.params.block_rows;
        let absent: Vec<usize> = rows.iter().map(|value| usize::from(value.is_nan())).collect();
        let mut present: Vec<f64> = rows.into_iter().filter(|value| !value.is_nan()).collect();
        let values = match is_numeric {
            true => {
                let resampling = Resampling {
                    window: self.params.window_rows,
                    block,
                    seed: self.params.seed ^ place as u64,
                };
                let calibration = if block > 1 {
                    calibrate(&present, &resampling)
                } else {
                    None
                };
                present.sort_unstable_by(f64::total_cmp);
                Values::Numbers {
                    sorted: present,
                    calibration: calibration.unwrap_or(Calibration::INDEPENDENT),
                }
            }
            false => {
                let counts = count(&present);
                let codes: Vec<u64> = counts.keys().copied().collect();
                let places: Vec<usize> = present
                    .iter()
                    .map(|value| codes.binary_search(&value.to_bits()).unwrap_or(0))
                    .collect();
                Values::Categories {
                    inflation: shares::inflation(&places, codes.len(), block),
                    counts,
                }
            }
        };
        Prepared {
            missing: absent.iter().sum::<usize>() as u64,
            missing_inflation: shares::inflation(&absent, 2, block),
            values,
        }
    }

    /// Tests values and missing values of one feature.
    fn compare(&self, prepared: &Prepared, rows: &[f64], rate: f64) -> [Option<ShareTest>; 2] {
        let present: Vec<f64> = rows.iter().copied().filter(|value| !value.is_nan()).collect();
        let absent = (rows.len() - present.len()) as u64;
        let values = match &prepared.values {
            _ if present.len() < ROWS_MIN => None,
            Values::Numbers { sorted, .. } if sorted.len() < ROWS_MIN => None,
            Values::Numbers { sorted, calibration } => Some(numbers(sorted, &present, calibration, rate)),
            Values::Categories { counts, inflation } => Some(categories(counts, &present, *inflation, rate)),
        };
        let before = (prepared.missing, self.reference.len());
        [
            values,
            Some(shares::difference(
                before,
                (absent, rows.len()),
                prepared.missing_inflation,
                rate,
            )),
        ]
    }

    fn verdict(&self, feature: &str, aspect: Aspect, test: Option<ShareTest>) -> FeatureVerdict {
        let rows = self.window.len() as u64;
        let (status, test) = match test {
            Some(test) => (DriftStatus::Stable, test),
            None => {
                let none = ShareTest {
                    statistic: 0.0,
                    p_value: 1.0,
                    effect: 0.0,
                    threshold: 0.0,
                };
                (DriftStatus::InsufficientData, none)
            }
        };
        FeatureVerdict {
            feature: feature.to_owned(),
            aspect,
            verdict: Verdict {
                status,
                score: test.statistic,
                effect: test.effect,
                threshold: test.threshold,
                rows,
            },
            p_value: test.p_value,
            p_adjusted: test.p_value,
        }
    }

    /// Adjusts the p-values of all tests that were made, and decides.
    fn adjust(&self, verdicts: &mut [FeatureVerdict]) {
        let mut made: Vec<&mut FeatureVerdict> = verdicts
            .iter_mut()
            .filter(|v| v.verdict.status != DriftStatus::InsufficientData)
            .collect();
        let p_values: Vec<f64> = made.iter().map(|v| v.p_value).collect();
        for (found, adjusted) in made.iter_mut().zip(fdr::adjusted(&p_values)) {
            let significant = adjusted <= self.params.false_alarm_rate;
            let large = found.verdict.effect.abs() >= self.params.effect_min;
            found.p_adjusted = adjusted;
            found.verdict.status = match (significant, large) {
                (true, true) => DriftStatus::Drift,
                (false, false) => DriftStatus::Stable,
                _ => DriftStatus::Warning,
            };
        }
    }

    fn read_head(mut reader: Reader<'_>) -> Result<[u64; 4], CodecError> {
        let head = [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
        reader.finish()?;
        Ok(head)
    }
}

fn numbers(sorted: &[f64], present: &[f64], calibration: &Calibration, rate: f64) -> ShareTest {
    let test = ks::Ks.test(sorted, present);
    ShareTest {
        statistic: test.statistic,
        p_value: calibration.p_value(test.statistic, sorted.len(), present.len()),
        effect: test.effect,
        threshold: calibration.threshold(rate, sorted.len(), present.len()),
    }
}

fn count(values: &[f64]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value.to_bits()).or_insert(0) += 1;
    }
    counts
}

fn categories(before: &BTreeMap<u64, u64>, present: &[f64], inflation: f64, rate: f64) -> ShareTest {
    let now = count(present);
    let codes: std::collections::BTreeSet<u64> = before.keys().chain(now.keys()).copied().collect();
    let column = |counts: &BTreeMap<u64, u64>| -> Vec<u64> {
        codes
            .iter()
            .map(|code| counts.get(code).copied().unwrap_or(0))
            .collect()
    };
    shares::categories(&column(before), &column(&now), inflation, rate)
}

const HEAD: &str = "head";
const REFERENCE: &str = "reference/";
const WINDOW: &str = "window/";

impl State for Monitor {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.stamp, &mut |out| {
            for number in [
                self.stamp,
                self.since_test,
                self.reference.written(),
                self.window.written(),
            ] {
                out.put_u64(number);
            }
        });
        self.reference.save(REFERENCE, chunks);
        self.window.save(WINDOW, chunks);
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let [stamp, since_test, reference, window] =
            Self::read_head(open(chunks, HEAD)?).map_err(|error| StateError::of(HEAD, error))?;
        self.reference.restore(REFERENCE, reference, chunks)?;
        self.window.restore(WINDOW, window, chunks)?;
        (self.stamp, self.since_test) = (stamp, since_test);
        self.prepare();
        Ok(())
    }
}

/// The entry of [`DETECTORS`](crate::detectors::DETECTORS).
#[derive(Debug)]
pub struct KsKind;

impl Component for KsKind {
    fn name(&self) -> &'static str {
        "ks"
    }

    fn summary(&self) -> &'static str {
        "Compares the last rows of every feature with a reference: Kolmogorov–Smirnov on numbers, chi-squared on \
         categories, and the share of missing values, with the false discovery rate held over all of them. A vector is \
         watched by its numbers, `name[0]` and so on; one of more than 8 by its projections onto 8 fixed directions, \
         `name[direction 0]` and so on, in which a change of few of its numbers is diluted."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "reference_rows",
                kind: Holds::Integer,
                need: Need::Optional("10000"),
                doc: "Rows of the reference: the first ones, and after a promotion the last ones before it.",
            },
            Field {
                name: "window_rows",
                kind: Holds::Integer,
                need: Need::Optional("2000"),
                doc: "Rows of the current window: the last ones.",
            },
            Field {
                name: "step_rows",
                kind: Holds::Integer,
                need: Need::Optional("1000"),
                doc: "New rows between two tests.",
            },
            Field {
                name: "block_rows",
                kind: Holds::Integer,
                need: Need::Optional("100"),
                doc: "Rows over which features are correlated in time; thresholds are calibrated by resampling \
                      blocks of so many. 1 takes rows as independent.",
            },
            Field {
                name: "false_alarm_rate",
                kind: Holds::Float,
                need: Need::Optional("0.01"),
                doc: "Share of tests, each over all features, that may find drift without a change.",
            },
            Field {
                name: "effect_min",
                kind: Holds::Float,
                need: Need::Optional("0.1"),
                doc: "Smallest distance of distributions, or difference of shares, that is drift, from 0 to 1.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "reference_rows = 20_000\nwindow_rows = 5_000\nstep_rows = 1_000\neffect_min = 0.15\n"
    }
}

impl Kind<Detector> for KsKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &BuildContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<Detector>> {
        let default = MonitorParams::default();
        let params = MonitorParams {
            reference_rows: section.get_or("reference_rows", default.reference_rows, problems),
            window_rows: section.get_or("window_rows", default.window_rows, problems),
            step_rows: section.get_or("step_rows", default.step_rows, problems),
            block_rows: section.get_or("block_rows", default.block_rows, problems),
            false_alarm_rate: section.get_or("false_alarm_rate", default.false_alarm_rate, problems),
            effect_min: section.get_or("effect_min", default.effect_min, problems),
            seed: context.seed,
        };
        let rate = params.false_alarm_rate;
        let blocks = params.reference_rows / params.block_rows.max(1);
        let checks = [
            (
                "reference_rows",
                params.reference_rows >= ROWS_MIN,
                "`reference_rows` is at least 30",
            ),
            (
                "window_rows",
                params.window_rows >= ROWS_MIN,
                "`window_rows` is at least 30",
            ),
            ("step_rows", params.step_rows >= 1, "`step_rows` is at least 1"),
            ("block_rows", params.block_rows >= 1, "`block_rows` is at least 1"),
            (
                "block_rows",
                blocks >= BLOCKS_MIN,
                "`reference_rows` holds fewer than 10 blocks of `block_rows`",
            ),
            (
                "false_alarm_rate",
                rate > 0.0 && rate < 1.0,
                "`false_alarm_rate` is a share between 0 and 1",
            ),
            (
                "effect_min",
                (0.0..=1.0).contains(&params.effect_min),
                "`effect_min` is from 0 to 1",
            ),
        ];
        for (key, _, message) in checks.iter().filter(|(_, holds, _)| !holds) {
            problems.push(section.key_span(key), (*message).to_owned(), None);
        }
        checks
            .iter()
            .all(|(_, holds, _)| *holds)
            .then(|| Box::new(Detector::Features(Box::new(Monitor::new(context.columns, params)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};
    use crate::frame::{Column, ColumnKind};
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    const PARAMS: MonitorParams = MonitorParams {
        reference_rows: 3_000,
        window_rows: 1_000,
        step_rows: 500,
        block_rows: 50,
        false_alarm_rate: 0.01,
        effect_min: 0.1,
        seed: 5,
    };

    fn columns() -> Vec<ColumnSpec> {
        let column = |name: &str, kind| ColumnSpec {
            name: name.to_owned(),
            kind,
        };
        vec![
            column("amount", ColumnKind::Number),
            column("hour", ColumnKind::Number),
            column("carrier", ColumnKind::Category),
        ]
    }

    fn uniform(rng: &mut Pcg64Mcg) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Rows whose amount is shifted, of whose hours a share is missing, and of whose carriers a share is new.
    fn frame(rng: &mut Pcg64Mcg, rows: usize, shift: f64, missing: f64, new: f64) -> Frame {
        let amounts = (0..rows).map(|_| uniform(rng) + shift).collect();
        let hours = (0..rows)
            .map(|_| if uniform(rng) < missing { f64::NAN } else { uniform(rng) })
            .collect();
        let carriers = (0..rows)
            .map(|_| {
                if uniform(rng) < new {
                    9
                } else {
                    (uniform(rng) * 4.0) as u32
                }
            })
            .collect();
        Frame::new(
            rows,
            vec![Column::F64(amounts), Column::F64(hours), Column::Code(carriers)],
        )
    }

    fn statuses(verdicts: &[FeatureVerdict]) -> Vec<(&str, Aspect, DriftStatus)> {
        verdicts
            .iter()
            .map(|v| (v.feature.as_str(), v.aspect, v.verdict.status))
            .collect()
    }

    fn drifted(verdicts: &[FeatureVerdict]) -> Vec<(&str, Aspect)> {
        let found = statuses(verdicts).into_iter().filter(|v| v.2 == DriftStatus::Drift);
        found.map(|(feature, aspect, _)| (feature, aspect)).collect()
    }

    #[test]
    fn each_change_is_found_where_it_is() {
        for (shift, missing, new, expected) in [
            (0.0, 0.02, 0.0, None),
            (0.3, 0.02, 0.0, Some(("amount", Aspect::Values))),
            (0.0, 0.30, 0.0, Some(("hour", Aspect::Missing))),
            (0.0, 0.02, 0.3, Some(("carrier", Aspect::Values))),
        ] {
            let mut rng = Pcg64Mcg::seed_from_u64(21);
            let mut monitor = Monitor::new(&columns(), PARAMS);
            monitor.observe(&frame(&mut rng, 3_500, 0.0, 0.02, 0.0));
            assert!(!monitor.is_due());
            assert!(
                monitor
                    .test()
                    .iter()
                    .all(|v| v.verdict.status == DriftStatus::InsufficientData)
            );
            monitor.observe(&frame(&mut rng, 1_000, shift, missing, new));
            assert!(monitor.is_due());
            assert_eq!(monitor.rows(), (3_000, 1_000));
            let verdicts = monitor.test();
            assert_eq!(
                drifted(&verdicts),
                expected.into_iter().collect::<Vec<_>>(),
                "{verdicts:?}"
            );
            for v in verdicts.iter().filter(|v| v.verdict.status == DriftStatus::Drift) {
                assert!(v.verdict.score > v.verdict.threshold && v.p_adjusted <= 0.01, "{v:?}");
            }
            assert!(!monitor.is_due(), "a test uses its rows up");
        }
    }

    #[test]
    fn a_wide_vector_that_keeps_its_length_is_watched_in_several_directions() {
        /// Vectors of 384 numbers and length 1, moved all in one direction by `shift` of their spread.
        fn vectors(rng: &mut Pcg64Mcg, rows: usize, shift: f64) -> Frame {
            let mut values = Vec::new();
            for _ in 0..rows {
                let one =
                    |place: usize| uniform(rng) - 0.5 + shift * 0.29 * if place.is_multiple_of(3) { 1.0 } else { -1.0 };
                let vector: Vec<f64> = (0..384).map(one).collect();
                let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
                values.extend(vector.iter().map(|value| (value / length) as f32));
            }
            Frame::new(rows, vec![Column::Vector { width: 384, values }])
        }
        let column = ColumnSpec {
            name: "v".to_owned(),
            kind: ColumnKind::Vector { width: 384 },
        };
        for (shift, is_found) in [(0.0, false), (0.5, true)] {
            let mut rng = Pcg64Mcg::seed_from_u64(26);
            let mut monitor = Monitor::new(std::slice::from_ref(&column), PARAMS);
            monitor.observe(&vectors(&mut rng, 3_000, 0.0));
            monitor.observe(&vectors(&mut rng, 1_000, shift));
            let verdicts = monitor.test();
            assert_eq!(verdicts.len(), 9);
            let found = drifted(&verdicts);
            assert_eq!(!found.is_empty(), is_found, "shift {shift}, seed 26: {verdicts:?}");
            assert!(
                found
                    .iter()
                    .all(|(name, aspect)| name.starts_with("v[direction") && *aspect == Aspect::Values)
            );
        }
    }

    #[test]
    fn significance_without_effect_is_a_warning() {
        let mut rng = Pcg64Mcg::seed_from_u64(22);
        let mut monitor = Monitor::new(
            &columns(),
            MonitorParams {
                effect_min: 0.5,
                ..PARAMS
            },
        );
        monitor.observe(&frame(&mut rng, 3_000, 0.0, 0.02, 0.0));
        monitor.observe(&frame(&mut rng, 1_000, 0.3, 0.02, 0.0));
        let verdicts = monitor.test();
        assert_eq!(statuses(&verdicts)[0], ("amount", Aspect::Values, DriftStatus::Warning));
    }

    #[test]
    fn false_alarms_keep_their_budget() {
        let mut rng = Pcg64Mcg::seed_from_u64(23);
        let mut alarms = 0;
        for _ in 0..40 {
            let mut monitor = Monitor::new(
                &columns(),
                MonitorParams {
                    effect_min: 0.0,
                    ..PARAMS
                },
            );
            monitor.observe(&frame(&mut rng, 4_000, 0.0, 0.1, 0.1));
            alarms += u32::from(!drifted(&monitor.test()).is_empty());
        }
        assert!(alarms <= 3, "{alarms} of 40 at 1 %, seed 23");
    }

    #[test]
    fn rebasing_makes_the_changed_world_the_reference() {
        let mut rng = Pcg64Mcg::seed_from_u64(24);
        let mut monitor = Monitor::new(&columns(), PARAMS);
        monitor.observe(&frame(&mut rng, 3_000, 0.0, 0.02, 0.0));
        monitor.observe(&frame(&mut rng, 1_000, 0.3, 0.02, 0.0));
        assert!(!drifted(&monitor.test()).is_empty());
        monitor.rebase();
        assert_eq!(monitor.rows(), (1_000, 0));
        assert!(
            monitor
                .test()
                .iter()
                .all(|v| v.verdict.status == DriftStatus::InsufficientData)
        );
        monitor.observe(&frame(&mut rng, 3_000, 0.3, 0.02, 0.0));
        assert!(monitor.is_due() && drifted(&monitor.test()).is_empty());
    }

    #[test]
    fn state_comes_back_bit_for_bit_and_costs_what_changed() {
        let run = |monitor: &mut Monitor, rng: &mut Pcg64Mcg, steps: std::ops::Range<usize>| -> Vec<_> {
            let mut found = Vec::new();
            for step in steps {
                monitor.observe(&frame(rng, 137, step as f64 / 200.0, 0.1, 0.1));
                if monitor.is_due() {
                    found.push(monitor.test());
                }
                if step == 40 {
                    monitor.rebase();
                }
            }
            found
        };
        let mut whole = Monitor::new(&columns(), PARAMS);
        let expected = run(&mut whole, &mut Pcg64Mcg::seed_from_u64(25), 0..90);
        assert!(expected.len() > 4);
        for cut in [0, 10, 35, 41, 60] {
            let mut rng = Pcg64Mcg::seed_from_u64(25);
            let mut first = Monitor::new(&columns(), PARAMS);
            let mut found = run(&mut first, &mut rng, 0..cut);
            let mut memory = Memory::default();
            memory.save(&first);
            let mut second = Monitor::new(&columns(), PARAMS);
            second.restore(&memory).unwrap();
            found.extend(run(&mut second, &mut rng, cut..90));
            assert_eq!(found, expected, "cut {cut}");
            assert_eq!(snapshot(&second), snapshot(&whole));
            // The chunks of a snapshot that was kept up to date are those of a fresh one.
            memory.save(&whole);
            assert_eq!(memory.contents(), snapshot(&whole));
        }
        let mut memory = Memory::default();
        memory.save(&whole);
        whole.observe(&frame(&mut Pcg64Mcg::seed_from_u64(1), 10, 0.0, 0.0, 0.0));
        memory.save(&whole);
        assert!(memory.written <= 3, "{} chunks for ten rows", memory.written);
        survives_damage(&whole, || Monitor::new(&columns(), PARAMS));
    }
}
