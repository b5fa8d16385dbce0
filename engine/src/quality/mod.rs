//! Progressive evaluation: what the predictions of each version were worth, once their labels are known.
//!
//! Rows count by the version that scored them and by the cohort of their prediction time; a cohort is judged when its
//! labels have matured, as the labels that come first are a biased sample.

use std::collections::BTreeMap;

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::metrics::{BinaryMetrics, BinaryReport, BinaryTally, CohortParams, Tally};
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

use crate::example::{Matured, VersionId};

/// Checked settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityConfig {
    /// A score of at least this is an answer of 1.
    pub threshold: f64,
    /// Length of a cohort of prediction time, ms.
    pub cohort_ms: i64,
    /// Cohorts kept of each version; older ones count in its total only.
    pub cohorts_max: usize,
    /// Versions kept; beyond it the one for which no label came for longest is forgotten.
    pub versions_max: usize,
}

/// The quality of one version.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct VersionQuality {
    /// The version.
    pub version: VersionId,
    /// All its labelled rows.
    pub total: BinaryReport,
    /// Every metric of the list over all its labelled rows; NaN where they do not determine it.
    pub values: Vec<(&'static str, f64)>,
    /// The rows of the kept cohorts whose labels have matured.
    pub matured: BinaryReport,
    /// The kept cohorts, oldest first: prediction time in ms at which each begins, and its metrics.
    pub cohorts: Vec<(i64, BinaryReport)>,
}

/// Rows that the windows `recent` and `baseline` hold at least, where the cohorts that they may have hold as many.
pub const WINDOW_ROWS: u64 = 1_000;
/// Most cohorts of these windows.
pub const WINDOW_COHORTS: usize = 16;

/// Which labelled rows of a version are judged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QualityWindow {
    /// All of them.
    Lifetime,
    /// Those of the kept cohorts whose labels have matured.
    Matured,
    /// Those of the newest matured cohorts: as many as hold [`WINDOW_ROWS`] rows, at most [`WINDOW_COHORTS`].
    Recent,
    /// Those of the version's first matured cohorts, as many: what it was worth when it was new.
    Baseline,
}

impl QualityWindow {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Matured => "matured",
            Self::Recent => "recent",
            Self::Baseline => "baseline",
        }
    }
}

/// The quality of a version over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowQuality {
    /// The metrics.
    pub report: BinaryReport,
    /// Prediction time in ms at which the window's last cohort ends, where it is made of cohorts and has any.
    pub end_ms: Option<i64>,
    /// Every metric by its name.
    pub values: Vec<(&'static str, f64)>,
}

/// A version's first matured cohorts; they never change again.
#[derive(Debug, Clone, PartialEq)]
struct Baseline {
    tally: BinaryTally,
    end_ms: i64,
}

/// The metrics of one version.
struct Entry {
    /// Names its chunks; never given twice.
    serial: u64,
    metrics: BinaryMetrics,
    /// The update of [`Quality`] that changed it last.
    changed: u64,
    /// What it was worth when it was new, once that is known.
    baseline: Option<Baseline>,
}

/// The metrics of all versions.
pub struct Quality {
    config: QualityConfig,
    versions: BTreeMap<VersionId, Entry>,
    next: u64,
    updates: u64,
    unscored: u64,
    forgotten: u64,
}

impl Quality {
    /// No rows.
    #[must_use]
    pub fn new(config: QualityConfig) -> Self {
        Self {
            config,
            versions: BTreeMap::new(),
            next: 0,
            updates: 0,
            unscored: 0,
            forgotten: 0,
        }
    }

    /// Counts rows whose labels matured. A row without a score counts as such.
    pub fn update(&mut self, rows: &Matured) {
        if rows.is_empty() {
            return;
        }
        self.updates += 1;
        for (row, &label) in rows.labels.iter().enumerate() {
            let score = rows.scores.get(row).copied().unwrap_or(f64::NAN);
            if score.is_nan() {
                self.unscored += 1;
                continue;
            }
            let version = rows.versions.get(row).copied().unwrap_or_default();
            let weight = rows.weights.get(row).copied().unwrap_or(1.0);
            let time_ms = rows.time_ms.get(row).copied().unwrap_or_default();
            self.entry(version).metrics.update(time_ms, &[score], label, weight);
        }
    }

    /// The entry of a version, new if need be.
    fn entry(&mut self, version: VersionId) -> &mut Entry {
        if !self.versions.contains_key(&version) && self.versions.len() >= self.config.versions_max.max(1) {
            let longest = self
                .versions
                .iter()
                .min_by_key(|(version, entry)| (entry.changed, **version));
            if let Some(version) = longest.map(|(version, _)| *version) {
                self.versions.remove(&version);
                self.forgotten += 1;
            }
        }
        let (config, updates, next) = (&self.config, self.updates, &mut self.next);
        let entry = self.versions.entry(version).or_insert_with(|| {
            *next += 1;
            Entry {
                serial: *next - 1,
                metrics: metrics(config),
                changed: updates,
                baseline: None,
            }
        });
        entry.changed = updates;
        entry
    }

    /// Rows without a score.
    #[must_use]
    pub fn unscored(&self) -> u64 {
        self.unscored
    }

    /// Versions forgotten for new ones.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The quality of every version kept, ascending. Cohorts that end at or before `matured_until_ms` (the watermark
    /// less the horizon of labels) have matured.
    #[must_use]
    pub fn report(&self, matured_until_ms: i64) -> Vec<VersionQuality> {
        let report = |(version, entry): (&VersionId, &Entry)| {
            let (total, cohorts) = (entry.metrics.total(), entry.metrics.cohorts());
            VersionQuality {
                version: *version,
                total: total.report(),
                values: total.values().collect(),
                matured: entry.metrics.windowed(matured_until_ms).report(),
                cohorts: cohorts.map(|(at, tally)| (at, tally.report())).collect(),
            }
        };
        self.versions.iter().map(report).collect()
    }

    /// Cohorts that end at or before `matured_until_ms` have matured: fixes the baseline of versions that have enough of
    /// them, before their first cohorts are forgotten. Part of the state: call it with every epoch.
    pub fn mature(&mut self, matured_until_ms: i64) {
        let config = self.config;
        for entry in self.versions.values_mut().filter(|entry| entry.baseline.is_none()) {
            let (found, is_full) = window(&config, entry.matured(&config, matured_until_ms));
            entry.baseline = found.filter(|_| is_full);
        }
    }

    /// The versions kept, ascending, and for each the count of updates at its last one.
    pub fn changes(&self) -> impl Iterator<Item = (VersionId, u64)> {
        self.versions.iter().map(|(version, entry)| (*version, entry.changed))
    }

    /// The quality of a version over each window; nothing for a version that is not kept. A baseline that is not known
    /// yet is left out.
    #[must_use]
    pub fn windows(&self, version: VersionId, matured_until_ms: i64) -> Vec<(QualityWindow, WindowQuality)> {
        let Some(entry) = self.versions.get(&version) else {
            return Vec::new();
        };
        let matured = entry.matured(&self.config, matured_until_ms);
        let end_ms = matured.clone().next_back().map(|(end_ms, _)| end_ms);
        let (recent, _) = window(&self.config, matured.rev());
        let empty = || BinaryTally::new(self.config.threshold);
        let of = |tally: &BinaryTally, end_ms| WindowQuality {
            report: tally.report(),
            values: tally.values().collect(),
            end_ms,
        };
        let mut found = vec![
            (QualityWindow::Lifetime, of(&entry.metrics.total(), None)),
            (
                QualityWindow::Matured,
                of(&entry.metrics.windowed(matured_until_ms), end_ms),
            ),
            (
                QualityWindow::Recent,
                of(&recent.map_or_else(empty, |recent| recent.tally), end_ms),
            ),
        ];
        let baseline = entry.baseline.as_ref();
        found.extend(baseline.map(|known| (QualityWindow::Baseline, of(&known.tally, Some(known.end_ms)))));
        found
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        for number in [self.next, self.updates, self.unscored, self.forgotten] {
            out.put_u64(number);
        }
        out.put_u64(self.versions.len() as u64);
        for (version, entry) in &self.versions {
            out.put_u32(version.0);
            out.put_u64(entry.serial);
            out.put_u64(entry.changed);
        }
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        (self.next, self.updates) = (reader.u64()?, reader.u64()?);
        (self.unscored, self.forgotten) = (reader.u64()?, reader.u64()?);
        let count = reader.count(20)?;
        if count > self.config.versions_max.max(1) {
            return Err(reader.error(format!("{count} versions, at most {}", self.config.versions_max)));
        }
        for _ in 0..count {
            let version = VersionId(reader.u32()?);
            let (serial, changed) = (reader.u64()?, reader.u64()?);
            let metrics = metrics(&self.config);
            let twice = self
                .versions
                .insert(
                    version,
                    Entry {
                        serial,
                        metrics,
                        changed,
                        baseline: None,
                    },
                )
                .is_some();
            if twice || serial >= self.next || changed > self.updates {
                return Err(reader.error("a version stands there twice or is younger than the state"));
            }
        }
        reader.finish()
    }
}

impl Entry {
    /// Its cohorts that end at or before `until_ms`, oldest first: when each ends, and its rows.
    fn matured(
        &self,
        config: &QualityConfig,
        until_ms: i64,
    ) -> impl DoubleEndedIterator<Item = (i64, &BinaryTally)> + Clone {
        let cohort_ms = config.cohort_ms.max(1);
        let cohorts: Vec<_> = self
            .metrics
            .cohorts()
            .map(|(at, tally)| (at.saturating_add(cohort_ms), tally))
            .filter(|(end_ms, _)| *end_ms <= until_ms)
            .collect();
        cohorts.into_iter()
    }
}

/// The first of these cohorts, merged, and whether the window is full: it has rows enough, or as many cohorts as it may.
/// Never so many that the oldest of them could have been forgotten.
fn window<'a>(
    config: &QualityConfig,
    cohorts: impl Iterator<Item = (i64, &'a BinaryTally)>,
) -> (Option<Baseline>, bool) {
    let cohorts_max = WINDOW_COHORTS.min(config.cohorts_max.div_ceil(2));
    let mut found: Option<Baseline> = None;
    let mut count = 0;
    for (end_ms, tally) in cohorts {
        match &mut found {
            Some(found) => {
                found.tally.merge(tally);
                found.end_ms = found.end_ms.max(end_ms);
            }
            None => {
                found = Some(Baseline {
                    tally: tally.clone(),
                    end_ms,
                });
            }
        }
        count += 1;
        let rows = found.as_ref().map_or(0, |found| found.tally.rows());
        if rows >= WINDOW_ROWS || count >= cohorts_max {
            return (found, true);
        }
    }
    (found, false)
}

/// Metrics without rows.
fn metrics(config: &QualityConfig) -> BinaryMetrics {
    let params = CohortParams {
        cohort_ms: config.cohort_ms,
        cohorts_max: config.cohorts_max,
    };
    BinaryMetrics::new(params, &BinaryTally::new(config.threshold))
}

const HEAD: &str = "head";
/// After an entry's prefix; no name of a chunk of its metrics begins so.
const BASELINE: &str = "baseline";

/// What the names of an entry's chunks begin with.
fn prefix(serial: u64) -> String {
    format!("version/{serial:08}/")
}

impl State for Quality {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.updates, &mut |out| self.write_head(out));
        for entry in self.versions.values() {
            let prefix = prefix(entry.serial);
            entry.metrics.save(&mut Within::new(&prefix, chunks));
            if let Some(baseline) = &entry.baseline {
                // It never changes.
                chunks.chunk(&format!("{prefix}{BASELINE}"), 1, &mut |out| {
                    out.put_u64(baseline.end_ms.cast_unsigned());
                    baseline.tally.write(out);
                });
            }
        }
    }

    /// With another number of versions or cohorts in the settings than when it was saved, no more than now allowed.
    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::new(self.config);
        let head = open(chunks, HEAD)?;
        self.read_head(head).map_err(|error| StateError::of(HEAD, error))?;
        for entry in self.versions.values_mut() {
            let prefix = prefix(entry.serial);
            let source = WithinSource::new(&prefix, chunks);
            entry.metrics.restore(&source).map_err(|error| error.within(&prefix))?;
            if !source.names(BASELINE).is_empty() {
                let baseline = read_baseline(&self.config, &source).map_err(|error| error.within(&prefix))?;
                entry.baseline = Some(baseline);
            }
        }
        Ok(())
    }
}

fn read_baseline(config: &QualityConfig, chunks: &dyn ChunkSource) -> Result<Baseline, StateError> {
    let mut reader = open(chunks, BASELINE)?;
    let mut parse = || -> Result<Baseline, CodecError> {
        let end_ms = reader.u64()?.cast_signed();
        let tally = BinaryTally::new(config.threshold).read(&mut reader)?;
        Ok(Baseline { tally, end_ms })
    };
    let baseline = parse().map_err(|error| StateError::of(BASELINE, error))?;
    reader.finish().map_err(|error| StateError::of(BASELINE, error))?;
    Ok(baseline)
}

#[cfg(test)]
mod tests {
    use driftmill_models::frame::Frame;

    use super::*;
    use crate::labels::memory::{Dice, Memory, restored, survives_damage};

    const CONFIG: QualityConfig = QualityConfig {
        threshold: 0.5,
        cohort_ms: 100,
        cohorts_max: 3,
        versions_max: 2,
    };

    /// Rows of (version, time, score, label).
    fn rows(rows: &[(u32, i64, f64, f64)]) -> Matured {
        Matured {
            frame: Frame::new(rows.len(), vec![]),
            labels: rows.iter().map(|r| r.3).collect(),
            weights: vec![1.0; rows.len()],
            scores: rows.iter().map(|r| r.2).collect(),
            versions: rows.iter().map(|r| VersionId(r.0)).collect(),
            time_ms: rows.iter().map(|r| r.1).collect(),
            available_ms: rows.iter().map(|r| r.1 + 9).collect(),
            shadow: vec![f64::NAN; rows.len()],
        }
    }

    #[test]
    fn versions_and_cohorts_are_judged_by_themselves() {
        let mut quality = Quality::new(CONFIG);
        quality.update(&rows(&[
            (1, 10, 0.9, 1.0),
            (2, 20, 0.9, 0.0),
            (1, 120, 0.2, 1.0),
            (1, 30, f64::NAN, 1.0),
        ]));
        let report = quality.report(100);
        assert_eq!((report.len(), quality.unscored()), (2, 1));
        assert_eq!(
            (report[0].total.rows, report[0].matured.rows, report[0].matured.accuracy),
            (2, 1, 1.0)
        );
        assert_eq!(
            report[0]
                .cohorts
                .iter()
                .map(|c| (c.0, c.1.accuracy))
                .collect::<Vec<_>>(),
            [(0, 1.0), (100, 0.0)]
        );
        assert_eq!((report[1].version, report[1].total.accuracy), (VersionId(2), 0.0));
    }

    #[test]
    fn the_recent_window_follows_and_the_baseline_stays() {
        let config = QualityConfig {
            cohorts_max: 64,
            ..CONFIG
        };
        let mut quality = Quality::new(config);
        let loss = |quality: &Quality, until_ms: i64, window: QualityWindow| {
            let found = quality.windows(VersionId(1), until_ms);
            let found = found.into_iter().find(|(known, _)| *known == window);
            found.map(|(_, found)| (found.report.rows, found.report.accuracy, found.end_ms))
        };
        // 300 rows a cohort of 100 ms: right for 10 cohorts, wrong from then on.
        let mut memory = Memory::default();
        for cohort in 0..70 {
            let score = if cohort < 10 { 0.9 } else { 0.1 };
            let new: Vec<_> = (0..300).map(|row| (1, cohort * 100 + row / 3, score, 1.0)).collect();
            quality.update(&rows(&new));
            quality.mature(cohort * 100);
            assert_eq!(
                loss(&quality, cohort * 100, QualityWindow::Baseline),
                (cohort >= 4).then_some((1_200, 1.0, Some(400))),
                "known once its four cohorts have matured, and fixed"
            );
            if cohort % 7 == 0 {
                memory.save(&quality);
                quality = restored(&memory, &quality, Quality::new(config));
            }
        }
        assert_eq!(
            loss(&quality, 1_200, QualityWindow::Recent),
            Some((1_200, 0.5, Some(1_200))),
            "two good cohorts and two bad ones; later ones have not matured"
        );
        assert_eq!(
            loss(&quality, 7_000, QualityWindow::Recent),
            Some((1_200, 0.0, Some(7_000)))
        );
        assert_eq!(
            loss(&quality, 7_000, QualityWindow::Lifetime),
            Some((21_000, 1.0 / 7.0, None))
        );
        let nothing = quality.windows(VersionId(1), 0);
        assert_eq!((nothing[2].1.report.rows, nothing[2].1.end_ms), (0, None));
        assert!(quality.windows(VersionId(2), 0).is_empty());
    }

    #[test]
    fn versions_are_bounded_and_the_one_without_labels_for_longest_goes() {
        let mut quality = Quality::new(CONFIG);
        for version in [1, 2, 1, 3] {
            quality.update(&rows(&[(version, 10, 0.9, 1.0)]));
        }
        let kept: Vec<_> = quality.report(0).iter().map(|r| (r.version.0, r.total.rows)).collect();
        assert_eq!((kept, quality.forgotten()), (vec![(1, 2), (3, 1)], 1));
    }

    #[test]
    fn state_comes_back_bit_for_bit_and_costs_what_changed() {
        for seed in 0..5 {
            let mut dice = Dice(seed);
            let mut quality = Quality::new(QualityConfig {
                versions_max: 3,
                ..CONFIG
            });
            let mut memory = Memory::default();
            for epoch in 0..80 {
                let row = |dice: &mut Dice| {
                    (
                        dice.below(5) as u32,
                        epoch * 17 - dice.below(90) as i64,
                        dice.unit(),
                        dice.below(2) as f64,
                    )
                };
                let new: Vec<_> = (0..dice.below(9)).map(|_| row(&mut dice)).collect();
                quality.update(&rows(&new));
                quality.mature(epoch * 17 - 100);
                if dice.below(3) == 0 {
                    memory.save(&quality);
                    quality = restored(
                        &memory,
                        &quality,
                        Quality::new(QualityConfig {
                            versions_max: 3,
                            ..CONFIG
                        }),
                    );
                }
            }
            memory.save(&quality);
            let version = quality.report(0)[0].version.0;
            quality.update(&rows(&[(version, 1_350, 0.5, 1.0)]));
            memory.save(&quality);
            assert!(
                memory.written.len() <= 3,
                "head, a cohort, and the past when one ends: {:?}",
                memory.written
            );
        }
        let mut quality = Quality::new(CONFIG);
        quality.update(&rows(&[(1, 10, 0.9, 1.0), (2, 20, 0.9, 0.0)]));
        survives_damage(&quality, || Quality::new(CONFIG));
    }
}
