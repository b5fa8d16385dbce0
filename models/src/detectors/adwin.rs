//! ADWIN: a window over a stream of values that grows while nothing changes and drops its old part when two
//! of its parts have different means.
//!
//! Bifet and Gavaldà, *Learning from Time-Changing Data with Adaptive Windowing*, SDM 2007: an exponential
//! histogram of at most [`BUCKETS_MAX`] buckets a row holds the window in memory that grows with the logarithm
//! of its width, and every `clock` values each boundary between buckets is tested with the variance-based
//! bound of the paper. Two things differ. A cut drops all that lies before the most significant boundary: the
//! paper drops single buckets, only as far as they differ significantly, so that most of a long window
//! outlives the alarm and is purged by many more alarms about the same change (River empties the window
//! instead, MOA repeats itself). And an alarm needs an effect: a significant difference below `effect_min` is
//! a warning, and the window keeps its old part, so that a slow drift of many small steps is still seen as the
//! large one it becomes.

use std::collections::VecDeque;

use driftmill_config::{Component, Field, Kind as Holds, Need, Problems, Section};

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{BuildContext, DriftStatus, Kind, StreamDetector, Verdict};
use crate::detectors::Detector;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Buckets of one size; one more merges the two oldest into one of double size.
pub const BUCKETS_MAX: usize = 5;
/// Values that each side of a cut needs.
const SIDE_MIN: u64 = 5;
/// Values before the first test.
const GRACE: u64 = 10;
/// Values beyond are taken for it, so that no sum of squares overflows.
const MAGNITUDE_MAX: f64 = 1e100;
/// Sizes of buckets: up to 2^59 values in one.
const ROWS_MAX: usize = 60;

/// Which changes of the mean may raise an alarm. The window adapts to a change in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Only a rise, as of a loss.
    Up,
    /// Only a fall, as of an accuracy.
    Down,
    /// Both.
    Both,
}

/// Checked parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdwinParams {
    /// Bound on the probability of a false cut at a test, between 0 and 1.
    pub delta: f64,
    /// Values between tests, at least 1.
    pub clock: u64,
    /// Values below which nothing is said.
    pub rows_min: u64,
    /// Smallest absolute difference of means that is an alarm, in the unit of the values.
    pub effect_min: f64,
    /// Which changes are an alarm.
    pub direction: Direction,
}

impl Default for AdwinParams {
    fn default() -> Self {
        Self {
            delta: 0.002,
            clock: 32,
            rows_min: 30,
            effect_min: 0.0,
            direction: Direction::Both,
        }
    }
}

/// Sum of values and sum of squared deviations from their mean.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    total: f64,
    variance: f64,
}

/// A place at which the window could be cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Values before and after it.
    old: u64,
    recent: u64,
    /// Mean after it less mean before it, and what its absolute value must exceed.
    difference: f64,
    threshold: f64,
}

impl Cut {
    fn ratio(&self) -> f64 {
        self.difference.abs() / self.threshold
    }
}

/// The detector. Its memory is a few kilobytes at any width.
#[derive(Debug, Clone, PartialEq)]
pub struct Adwin {
    params: AdwinParams,
    /// Row `r` holds buckets of 2^r values, the oldest in front.
    rows: Vec<VecDeque<Bucket>>,
    width: u64,
    total: f64,
    variance: f64,
    /// Values ever taken: the clock, and the stamp of the state.
    taken: u64,
    last: Verdict,
}

impl Adwin {
    /// An empty window.
    #[must_use]
    pub fn new(params: AdwinParams) -> Self {
        let last = Verdict {
            status: DriftStatus::InsufficientData,
            score: 0.0,
            effect: 0.0,
            threshold: 0.0,
            rows: 0,
        };
        Self {
            params,
            rows: vec![VecDeque::new()],
            width: 0,
            total: 0.0,
            variance: 0.0,
            taken: 0,
            last,
        }
    }

    /// Values in the window.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Mean of the window; 0 when it is empty.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.width == 0 {
            0.0
        } else {
            self.total / self.width as f64
        }
    }

    fn insert(&mut self, value: f64) {
        if self.width > 0 {
            let width = self.width as f64;
            let distance = value - self.total / width;
            self.variance += width * distance * distance / (width + 1.0);
        }
        self.width += 1;
        self.total += value;
        self.rows[0].push_back(Bucket {
            total: value,
            variance: 0.0,
        });
        self.compress();
    }

    /// Merges the two oldest of each row that has one bucket too many.
    fn compress(&mut self) {
        let mut row = 0;
        while self.rows[row].len() > BUCKETS_MAX {
            let size = (1_u64 << row) as f64;
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else {
                return;
            };
            let distance = (a.total - b.total) / size;
            let merged = Bucket {
                total: a.total + b.total,
                variance: a.variance + b.variance + size / 2.0 * distance * distance,
            };
            row += 1;
            if row == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[row].push_back(merged);
        }
    }

    /// Drops the oldest bucket.
    fn drop_oldest(&mut self) {
        let row = self.rows.len() - 1;
        let size = 1_u64 << row;
        let Some(bucket) = self.rows[row].pop_front() else {
            return;
        };
        self.width -= size;
        self.total -= bucket.total;
        if self.width > 0 {
            let (size, width) = (size as f64, self.width as f64);
            let distance = bucket.total / size - self.total / width;
            self.variance -= bucket.variance + size * width / (size + width) * distance * distance;
            // Cancellation may leave a tiny negative rest.
            self.variance = self.variance.max(0.0);
        } else {
            self.variance = 0.0;
        }
        while self.rows.len() > 1 && self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
    }

    /// The bound of the paper (theorem 3.2) for the two sides of a cut.
    fn threshold(&self, old: u64, recent: u64) -> f64 {
        let width = self.width as f64;
        let log = (2.0 * width.ln() / self.params.delta).ln();
        let inverse = 1.0 / (old - SIDE_MIN + 1) as f64 + 1.0 / (recent - SIDE_MIN + 1) as f64;
        (2.0 * inverse * self.variance / width * log).sqrt() + 2.0 / 3.0 * log * inverse
    }

    /// The cut whose difference exceeds its threshold most, or comes nearest to it: first among those of
    /// sufficient effect, then among all.
    fn best_cut(&self) -> Option<Cut> {
        let mut best: Option<Cut> = None;
        let (mut old, mut sum) = (0_u64, 0.0);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            for bucket in buckets {
                old += 1 << row;
                sum += bucket.total;
                let recent = self.width - old;
                if old < SIDE_MIN || recent < SIDE_MIN {
                    continue;
                }
                let difference = (self.total - sum) / recent as f64 - sum / old as f64;
                let cut = Cut {
                    old,
                    recent,
                    difference,
                    threshold: self.threshold(old, recent),
                };
                if best.is_none_or(|b| self.rank(&cut) > self.rank(&b)) {
                    best = Some(cut);
                }
            }
        }
        best
    }

    fn rank(&self, cut: &Cut) -> (bool, f64) {
        (self.cuts(cut), cut.ratio())
    }

    /// Whether the window is cut there.
    fn cuts(&self, cut: &Cut) -> bool {
        cut.difference.abs() > cut.threshold && cut.difference.abs() >= self.params.effect_min
    }

    fn alarms(&self, cut: &Cut) -> bool {
        match self.params.direction {
            Direction::Up => cut.difference > 0.0,
            Direction::Down => cut.difference < 0.0,
            Direction::Both => true,
        }
    }

    /// Tests every boundary; keeps what lies after the most significant one that cuts.
    fn check(&mut self) -> Verdict {
        let Some(first) = self.best_cut() else {
            return self.verdict(DriftStatus::InsufficientData, None);
        };
        if !self.cuts(&first) {
            let significant = first.difference.abs() > first.threshold && self.alarms(&first);
            let status = if significant {
                DriftStatus::Warning
            } else {
                DriftStatus::Stable
            };
            return self.verdict(status, Some(first));
        }
        let mut next = Some(first);
        while let Some(cut) = next.filter(|cut| self.cuts(cut)) {
            while self.width > cut.recent {
                self.drop_oldest();
            }
            next = self.best_cut();
        }
        let status = if self.alarms(&first) {
            DriftStatus::Drift
        } else {
            DriftStatus::Stable
        };
        self.verdict(status, Some(first))
    }

    fn verdict(&self, status: DriftStatus, cut: Option<Cut>) -> Verdict {
        let (score, effect, threshold, rows) = cut.map_or((0.0, 0.0, 0.0, self.width), |cut| {
            (
                cut.difference.abs(),
                cut.difference,
                cut.threshold,
                cut.old + cut.recent,
            )
        });
        Verdict {
            status,
            score,
            effect,
            threshold,
            rows,
        }
    }
}

impl StreamDetector for Adwin {
    /// Takes the next value, which should lie between 0 and 1 (the bound of the paper assumes so; a loss above 1
    /// is fine as long as its variance is of that order). A value that is not finite is left out. `effect`
    /// is the mean after the cut less the mean before it, `score` its absolute value.
    fn update(&mut self, value: f64) -> Verdict {
        if !value.is_finite() {
            return self.last;
        }
        self.taken += 1;
        self.insert(value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX));
        if self.width < self.params.rows_min || self.width <= GRACE {
            self.last = self.verdict(DriftStatus::InsufficientData, None);
        } else if self.taken.is_multiple_of(self.params.clock) {
            self.last = self.check();
        } else if matches!(self.last.status, DriftStatus::Drift | DriftStatus::InsufficientData) {
            // An alarm is said once.
            self.last.status = DriftStatus::Stable;
        }
        self.last
    }

    /// The width of the window: all that was taken since the last cut.
    fn since_change(&self) -> u64 {
        self.width
    }
}

const STATUSES: [DriftStatus; 4] = [
    DriftStatus::InsufficientData,
    DriftStatus::Stable,
    DriftStatus::Warning,
    DriftStatus::Drift,
];

/// The one chunk.
const CHUNK: &str = "adwin";

impl Adwin {
    /// Bytes that a window may come to use; queues grow to powers of two.
    pub(crate) const BYTES_MAX: usize =
        size_of::<Self>() + ROWS_MAX * (size_of::<VecDeque<Bucket>>() + (BUCKETS_MAX + 1).next_power_of_two() * 16);

    /// Its parameters.
    pub(crate) fn params(&self) -> &AdwinParams {
        &self.params
    }

    /// Takes the next value; whether it says that there is a change now.
    pub(crate) fn alarms_at(&mut self, value: f64) -> bool {
        self.update(value).status == DriftStatus::Drift
    }

    /// Appends all of it but its parameters.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.taken);
        out.put_u64(self.width);
        out.put_f64(self.total);
        out.put_f64(self.variance);
        out.put_u64(STATUSES.iter().position(|s| *s == self.last.status).unwrap_or(0) as u64);
        out.put_f64(self.last.score);
        out.put_f64(self.last.effect);
        out.put_f64(self.last.threshold);
        out.put_u64(self.last.rows);
        out.put_u64(self.rows.len() as u64);
        for row in &self.rows {
            out.put_u64(row.len() as u64);
            for bucket in row {
                out.put_f64(bucket.total);
                out.put_f64(bucket.variance);
            }
        }
    }

    /// Reads what [`Adwin::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>, params: AdwinParams) -> Result<Self, CodecError> {
        let (taken, width) = (reader.u64()?, reader.u64()?);
        let (total, variance) = (reader.finite()?, reader.finite()?);
        let status = usize::try_from(reader.u64()?)
            .ok()
            .and_then(|i| STATUSES.get(i).copied());
        let status = status.ok_or_else(|| reader.error("an unknown status"))?;
        let (score, effect, threshold) = (reader.finite()?, reader.finite()?, reader.finite()?);
        let last = Verdict {
            status,
            score,
            effect,
            threshold,
            rows: reader.u64()?,
        };
        let rows = read_rows(reader)?;
        let counted: u64 = rows
            .iter()
            .enumerate()
            .map(|(row, buckets)| (buckets.len() as u64) << row)
            .sum();
        if counted != width || width > taken || variance < 0.0 {
            return Err(reader.error(format!("its buckets hold {counted} values, its header says {width}")));
        }
        Ok(Self {
            params,
            rows,
            width,
            total,
            variance,
            taken,
            last,
        })
    }
}

impl State for Adwin {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(CHUNK, self.taken, &mut |out| self.write(out));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let mut reader = open(chunks, CHUNK)?;
        let read = Self::read(&mut reader, self.params);
        *self = read
            .and_then(|read| reader.finish().map(|()| read))
            .map_err(|error| StateError::of(CHUNK, error))?;
        Ok(())
    }
}

fn read_rows(reader: &mut Reader<'_>) -> Result<Vec<VecDeque<Bucket>>, CodecError> {
    let count = reader.count(8)?;
    if count == 0 || count > ROWS_MAX {
        return Err(reader.error(format!("{count} sizes of buckets")));
    }
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let buckets = reader.count(16)?;
        if buckets > BUCKETS_MAX {
            return Err(reader.error(format!("{buckets} buckets of one size")));
        }
        let row: Result<VecDeque<_>, _> = (0..buckets)
            .map(|_| {
                Ok(Bucket {
                    total: reader.finite()?,
                    variance: reader.finite()?,
                })
            })
            .collect();
        rows.push(row?);
    }
    if rows.len() > 1 && rows.last().is_some_and(VecDeque::is_empty) {
        return Err(reader.error("no bucket of the largest size"));
    }
    Ok(rows)
}

/// The entry of [`DETECTORS`](crate::detectors::DETECTORS).
#[derive(Debug)]
pub struct AdwinKind;

impl Component for AdwinKind {
    fn name(&self) -> &'static str {
        "adwin"
    }

    fn summary(&self) -> &'static str {
        "A window over a stream of values (a loss, a score) that drops its old part when the mean has changed \
         (Bifet and Gavaldà 2007)."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "delta",
                kind: Holds::Float,
                need: Need::Optional("0.002"),
                doc: "Bound on the probability of a false cut, between 0 and 1.",
            },
            Field {
                name: "clock",
                kind: Holds::Integer,
                need: Need::Optional("32"),
                doc: "Values between tests.",
            },
            Field {
                name: "rows_min",
                kind: Holds::Integer,
                need: Need::Optional("30"),
                doc: "Values below which nothing is said.",
            },
            Field {
                name: "effect_min",
                kind: Holds::Float,
                need: Need::Optional("0: any significant difference"),
                doc: "Smallest difference of means that is an alarm, in the unit of the values; below it is a warning.",
            },
            Field {
                name: "direction",
                kind: Holds::OneOf(&["up", "down", "both"]),
                need: Need::Optional("both"),
                doc: "Which changes of the mean are an alarm; the window adapts to all.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "delta = 0.002\neffect_min = 0.01\ndirection = \"up\"\n"
    }
}

impl Kind<Detector> for AdwinKind {
    fn build(&self, section: &Section<'_>, _: &BuildContext<'_>, problems: &mut Problems) -> Option<Box<Detector>> {
        let default = AdwinParams::default();
        let params = AdwinParams {
            delta: section.get_or("delta", default.delta, problems),
            clock: section.get_or("clock", default.clock, problems),
            rows_min: section.get_or("rows_min", default.rows_min, problems),
            effect_min: section.get_or("effect_min", default.effect_min, problems),
            direction: match section.get::<String>("direction", problems).as_deref() {
                Some("up") => Direction::Up,
                Some("down") => Direction::Down,
                _ => Direction::Both,
            },
        };
        let checks = [
            (
                "delta",
                params.delta > 0.0 && params.delta < 1.0,
                "`delta` is a probability between 0 and 1",
            ),
            ("clock", params.clock >= 1, "`clock` is at least 1"),
            ("effect_min", params.effect_min >= 0.0, "`effect_min` is at least 0"),
        ];
        for (key, _, message) in checks.iter().filter(|(_, holds, _)| !holds) {
            problems.push(section.key_span(key), (*message).to_owned(), None);
        }
        checks
            .iter()
            .all(|(_, holds, _)| *holds)
            .then(|| Box::new(Detector::Stream(Box::new(Adwin::new(params)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};

    /// x ← (1103515245 x + 12345) mod 2^31, u = x / 2^31.
    struct Lcg(u64);

    impl Lcg {
        fn next(&mut self) -> f64 {
            self.0 = (self.0 * 1_103_515_245 + 12_345) % (1 << 31);
            self.0 as f64 / (1_u64 << 31) as f64
        }

        fn bernoulli(&mut self, p: f64) -> f64 {
            f64::from(self.next() < p)
        }
    }

    fn detections(adwin: &mut Adwin, values: impl Iterator<Item = f64>) -> Vec<(usize, u64)> {
        values
            .enumerate()
            .map(|(i, value)| (i, adwin.update(value).status, adwin.width()))
            .filter(|(_, status, _)| *status == DriftStatus::Drift)
            .map(|(i, _, width)| (i, width))
            .collect()
    }

    fn stream(seed: u64, parts: &'static [(usize, f64)]) -> impl Iterator<Item = f64> {
        let mut lcg = Lcg(seed);
        parts
            .iter()
            .flat_map(|&(n, p)| std::iter::repeat_n(p, n))
            .map(move |p| lcg.bernoulli(p))
    }

    /// Compares with the positions of river 0.26.1 `drift.ADWIN` on the same stream. The first is equal. Later ones
    /// may differ by some rows, because River empties its window after an alarm and here the rows since the
    /// change stay.
    fn check_positions(params: AdwinParams, values: impl Iterator<Item = f64>, river: &[usize]) {
        let mut adwin = Adwin::new(AdwinParams { rows_min: 0, ..params });
        let found: Vec<usize> = detections(&mut adwin, values).into_iter().map(|(at, _)| at).collect();
        assert_eq!(found.first(), river.first());
        assert!(
            found.len() == river.len() && found.iter().zip(river).all(|(a, b)| a.abs_diff(*b) <= 32),
            "{found:?}"
        );
    }

    #[test]
    fn positions_are_those_of_river() {
        let default = AdwinParams::default();
        let parts = &[(10_000, 0.2), (10_000, 0.4), (5_000, 0.1)];
        check_positions(default, stream(42, parts), &[10_143, 20_095]);

        let parts = &[(2_000, 0.05), (2_000, 0.1), (2_000, 0.5), (500, 0.0), (4_000, 0.5)];
        let every = AdwinParams {
            delta: 0.01,
            clock: 1,
            ..default
        };
        check_positions(every, stream(1, parts), &[3_774, 4_018, 6_036, 6_525]);

        let mut lcg = Lcg(7);
        let parts = [(3_000, 0.2), (3_000, 0.4), (3_000, 0.3), (3_000, 0.3), (2_000, 0.9)];
        let values = parts.iter().flat_map(|&(n, p)| std::iter::repeat_n(p, n));
        let values = values.map(|p| p + 0.2 * (lcg.next() - 0.5));
        check_positions(default, values, &[3_071, 6_111, 12_031]);
    }

    /// River with seeds 1 to 20 of the same generator: every delay, mean 167.0.
    #[test]
    fn delay_after_an_abrupt_change_is_that_of_river() {
        let delays: Vec<usize> = (1..=20)
            .map(|seed| {
                let mut adwin = Adwin::new(AdwinParams::default());
                let found = detections(&mut adwin, stream(seed, &[(10_000, 0.2), (10_000, 0.4)]));
                assert!(
                    found[0].0 >= 10_000,
                    "seed {seed}: alarm before the change at {}",
                    found[0].0
                );
                found[0].0 - 10_000
            })
            .collect();
        let expected = [
            143, 79, 143, 143, 175, 175, 207, 111, 239, 143, 239, 143, 111, 111, 143, 207, 79, 175, 335, 239,
        ];
        assert_eq!(delays, expected);
    }

    #[test]
    fn no_false_alarm_on_stationary_streams() {
        for seed in [11, 12, 13] {
            let mut adwin = Adwin::new(AdwinParams::default());
            let found = detections(&mut adwin, stream(seed, &[(300_000, 0.2)]));
            assert!(found.is_empty(), "seed {seed}: {found:?}");
            let buckets: usize = adwin.rows.iter().map(VecDeque::len).sum();
            assert!(
                buckets <= BUCKETS_MAX * 17,
                "{buckets} buckets for {} values",
                adwin.width()
            );
        }
    }

    #[test]
    fn since_change_is_near_the_change_and_the_effect_has_a_sign() {
        for (parts, sign) in [
            (&[(10_000, 0.2), (400, 0.5)], 1.0),
            (&[(10_000, 0.5), (400, 0.2)], -1.0),
        ] {
            let mut adwin = Adwin::new(AdwinParams::default());
            let mut alarm = None;
            for (i, value) in stream(3, parts).enumerate() {
                let verdict = adwin.update(value);
                if verdict.status == DriftStatus::Drift && alarm.is_none() {
                    alarm = Some((i + 1 - 10_000, adwin.since_change(), verdict));
                }
            }
            let (after, since, verdict) = alarm.unwrap();
            assert!(
                since.abs_diff(after as u64) <= 40,
                "{since} values since a change {after} values ago"
            );
            assert!(
                verdict.effect * sign > 0.1 && verdict.score > verdict.threshold,
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn a_small_effect_warns_and_many_small_steps_become_an_alarm() {
        let params = AdwinParams {
            effect_min: 0.1,
            ..AdwinParams::default()
        };
        let mut adwin = Adwin::new(params);
        let statuses: Vec<_> = stream(5, &[(20_000, 0.2), (30_000, 0.25)])
            .map(|v| adwin.update(v).status)
            .collect();
        assert!(statuses.contains(&DriftStatus::Warning) && !statuses.contains(&DriftStatus::Drift));
        let mut adwin = Adwin::new(params);
        let slow = &[
            (20_000, 0.20),
            (20_000, 0.25),
            (20_000, 0.30),
            (20_000, 0.35),
            (20_000, 0.40),
        ];
        let found = detections(&mut adwin, stream(5, slow)).len();
        assert!((1..=2).contains(&found), "{found} alarms");
    }

    #[test]
    fn a_change_in_the_other_direction_adapts_without_an_alarm() {
        let mut adwin = Adwin::new(AdwinParams {
            direction: Direction::Up,
            ..AdwinParams::default()
        });
        assert!(detections(&mut adwin, stream(9, &[(5_000, 0.5), (5_000, 0.2)])).is_empty());
        assert!(adwin.mean() < 0.25, "mean {}", adwin.mean());
        assert!(!detections(&mut adwin, stream(10, &[(5_000, 0.5)])).is_empty());
    }

    #[test]
    fn too_few_values_and_values_that_are_not_finite_say_nothing() {
        let mut adwin = Adwin::new(AdwinParams {
            rows_min: 100,
            ..AdwinParams::default()
        });
        for i in 0..99 {
            assert_eq!(adwin.update(f64::from(i % 2)).status, DriftStatus::InsufficientData);
            assert_eq!(adwin.update(f64::NAN).status, DriftStatus::InsufficientData);
        }
        assert_eq!(adwin.width(), 99);
        assert_eq!(adwin.update(0.0).status, DriftStatus::Stable);
    }

    #[test]
    fn state_comes_back_bit_for_bit() {
        let values: Vec<f64> = stream(8, &[(4_000, 0.2), (4_000, 0.5)]).collect();
        let mut whole = Adwin::new(AdwinParams::default());
        let expected: Vec<_> = values.iter().map(|&v| whole.update(v)).collect();
        for cut in [0, 1, 31, 4_000, 4_100, 7_999] {
            let mut first = Adwin::new(AdwinParams::default());
            let mut found: Vec<_> = values[..cut].iter().map(|&v| first.update(v)).collect();
            let mut memory = Memory::default();
            memory.save(&first);
            let mut second = Adwin::new(AdwinParams::default());
            second.restore(&memory).unwrap();
            found.extend(values[cut..].iter().map(|&v| second.update(v)));
            assert_eq!(found, expected);
            assert_eq!(snapshot(&second), snapshot(&whole));
        }
        survives_damage(&whole, || Adwin::new(AdwinParams::default()));
    }
}
