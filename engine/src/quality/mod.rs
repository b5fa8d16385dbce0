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
    /// The rows of the kept cohorts whose labels have matured.
    pub matured: BinaryReport,
    /// The kept cohorts, oldest first: prediction time in ms at which each begins, and its metrics.
    pub cohorts: Vec<(i64, BinaryReport)>,
}

/// The metrics of one version.
struct Entry {
    /// Names its chunks; never given twice.
    serial: u64,
    metrics: BinaryMetrics,
    /// The update of [`Quality`] that changed it last.
    changed: u64,
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
            self.entry(version).metrics.update(time_ms, score, label, weight);
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
        let report = |(version, entry): (&VersionId, &Entry)| VersionQuality {
            version: *version,
            total: entry.metrics.total().report(),
            matured: entry.metrics.windowed(matured_until_ms).report(),
            cohorts: entry
                .metrics
                .cohorts()
                .map(|(at, tally)| (at, tally.report()))
                .collect(),
        };
        self.versions.iter().map(report).collect()
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

/// Metrics without rows.
fn metrics(config: &QualityConfig) -> BinaryMetrics {
    let params = CohortParams {
        cohort_ms: config.cohort_ms,
        cohorts_max: config.cohorts_max,
    };
    BinaryMetrics::new(params, &BinaryTally::new(config.threshold))
}

const HEAD: &str = "head";

/// What the names of an entry's chunks begin with.
fn prefix(serial: u64) -> String {
    format!("version/{serial:08}/")
}

impl State for Quality {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.updates, &mut |out| self.write_head(out));
        for entry in self.versions.values() {
            entry.metrics.save(&mut Within::new(&prefix(entry.serial), chunks));
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
        }
        Ok(())
    }
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
