//! A tally of any metrics: the sums that they are read from, each kept once.

use std::sync::Arc;

use super::cohorts::Tally;
use super::{METRICS, Metric, Row, Setting, Sums};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Task;
use crate::learners::usable;

/// The sums of some metrics over labelled, scored rows.
#[derive(Clone)]
pub struct Evaluation {
    setting: Setting,
    metrics: Arc<[&'static dyn Metric]>,
    /// Each once, in order of first use, and where its numbers begin.
    layout: Arc<[(&'static dyn Sums, usize)]>,
    sums: Vec<f64>,
    rows: u64,
    invalid: u64,
    changes: u64,
}

impl std::fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.values()).finish()
    }
}

impl PartialEq for Evaluation {
    fn eq(&self, other: &Self) -> bool {
        let bits = |evaluation: &Self| {
            let mut out = Vec::new();
            evaluation.write(&mut out);
            out
        };
        bits(self) == bits(other)
    }
}

impl Evaluation {
    /// No rows; all metrics of [`METRICS`] that answer the task.
    #[must_use]
    pub fn of_task(setting: Setting) -> Self {
        Self::new(setting, METRICS)
    }

    /// No rows; those of `metrics` that answer the task.
    #[must_use]
    pub fn new(setting: Setting, metrics: &[&'static dyn Metric]) -> Self {
        let metrics: Arc<[_]> = metrics
            .iter()
            .copied()
            .filter(|metric| metric.sums().width(setting.task) > 0)
            .collect();
        let mut layout: Vec<(&'static dyn Sums, usize)> = Vec::new();
        let mut width = 0;
        for metric in metrics.iter() {
            let sums = metric.sums();
            if layout.iter().all(|(known, _)| known.name() != sums.name()) {
                layout.push((sums, width));
                width += sums.width(setting.task);
            }
        }
        Self {
            setting,
            metrics,
            layout: layout.into(),
            sums: vec![0.0; width],
            rows: 0,
            invalid: 0,
            changes: 0,
        }
    }

    /// Rows that count.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows left out because scores, label or weight were not usable.
    #[must_use]
    pub fn invalid(&self) -> u64 {
        self.invalid
    }

    /// The numbers of some sums; none where no metric needs them.
    #[must_use]
    pub fn sums_of(&self, sums: &dyn Sums) -> &[f64] {
        let start = self.layout.iter().find(|(known, _)| known.name() == sums.name());
        start
            .and_then(|(_, start)| self.sums.get(*start..start + sums.width(self.setting.task)))
            .unwrap_or_default()
    }

    /// The metrics and their values, in the order of the list; NaN where the rows do not determine one.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.metrics
            .iter()
            .map(|metric| (metric.name(), metric.value(&self.setting, self.sums_of(metric.sums()))))
    }

    /// The value of the metric of this name; NaN where the rows do not determine it or there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.values()
            .find(|(known, _)| *known == name)
            .map_or(f64::NAN, |(_, value)| value)
    }

    /// Lets all rows so far count `factor` times as much (from 0 to 1), for metrics that fade. Counts of rows stay.
    pub fn fade(&mut self, factor: f64) {
        self.changes += 1;
        self.sums.iter_mut().for_each(|sum| *sum *= factor);
    }

    /// Whether a row can be judged.
    fn is_usable(&self, row: &Row<'_>) -> bool {
        let score = |score: &f64| match self.setting.task {
            Task::Regression => (score * score).is_finite(),
            Task::Binary | Task::Multiclass { .. } | Task::Anomaly => (0.0..=1.0).contains(score),
        };
        let label_fits = self.setting.task != Task::Regression || (row.label * row.label).is_finite();
        let task = match self.setting.task {
            // Judged by labels that say which rows were unlike the others.
            Task::Anomaly => Task::Binary,
            task => task,
        };
        row.scores.len() == task.outputs()
            && row.scores.iter().all(score)
            && label_fits
            && usable(task, row.label, row.weight)
    }
}

impl Tally for Evaluation {
    type Report = Vec<(&'static str, f64)>;

    fn empty(&self) -> Self {
        Self {
            sums: vec![0.0; self.sums.len()],
            rows: 0,
            invalid: 0,
            changes: 0,
            ..self.clone()
        }
    }

    fn update(&mut self, row: &Row<'_>) {
        self.changes += 1;
        if !self.is_usable(row) {
            self.invalid += 1;
            return;
        }
        self.rows += 1;
        for (sums, start) in self.layout.iter() {
            let width = sums.width(self.setting.task);
            if let Some(numbers) = self.sums.get_mut(*start..start + width) {
                sums.add(&self.setting, row, numbers);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.invalid += other.invalid;
        self.changes += other.changes;
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
    }

    fn stamp(&self) -> u64 {
        self.changes
    }

    fn report(&self) -> Self::Report {
        self.values().collect()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.rows);
        out.put_u64(self.invalid);
        out.put_u64(self.changes);
        for (sums, _) in self.layout.iter() {
            out.put_str(sums.name());
            out.put_f64s(self.sums_of(*sums));
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut tally = self.empty();
        tally.rows = reader.u64()?;
        tally.invalid = reader.u64()?;
        tally.changes = reader.u64()?;
        for (index, (sums, start)) in self.layout.iter().enumerate() {
            // What a version wrote that did not know these sums yet: they begin with what comes.
            let is_missing = reader.clone().str().map_or(true, |name| name != sums.name());
            if index > 0 && is_missing {
                continue;
            }
            let (name, numbers) = (reader.str()?, reader.f64s()?);
            let width = sums.width(self.setting.task);
            let place = tally.sums.get_mut(*start..start + width);
            match place {
                Some(place) if name == sums.name() && numbers.len() == width => place.copy_from_slice(&numbers),
                _ => return Err(reader.error(format!("the sums are not those of `{}`", sums.name()))),
            }
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::binary;

    #[test]
    fn state_from_before_a_metric_was_added_is_read() {
        let setting = Setting {
            task: Task::Binary,
            threshold: 0.5,
        };
        let known: Vec<&'static dyn Metric> = vec![&binary::LOG_LOSS, &binary::ROC_AUC];
        let mut old = Evaluation::new(setting, &known);
        for (score, label) in [(0.9, 1.0), (0.4, 0.0), (0.6, 0.0)] {
            let before = Some(1.0);
            old.update(&Row {
                scores: &[score],
                label,
                weight: 1.0,
                before,
            });
        }
        let mut bytes = Vec::new();
        old.write(&mut bytes);
        // Something else follows in the same chunk.
        bytes.put_u64(u64::MAX);
        let mut reader = Reader::new(&bytes);
        let read = Evaluation::of_task(setting).read(&mut reader).unwrap();
        assert_eq!(reader.u64(), Ok(u64::MAX));
        assert_eq!((read.rows(), read.value("log-loss")), (3, old.value("log-loss")));
        assert!(read.value("temporal-kappa").is_nan(), "nothing is known of it");
        assert_eq!(read.value("accuracy"), 2.0 / 3.0);
    }
}
