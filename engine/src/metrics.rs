//! The engine's metrics. Every name begins with `driftmill_` and carries its unit.

use std::time::Duration;

use driftmill_models::contracts::{DriftStatus, Verdict};
use driftmill_models::detectors::monitor::Aspect;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::learn::{LearnHalf, Watch, WatchKind};
use crate::state::Version;

/// Labels of the metrics of drift.
const DRIFT_LABELS: &[&str] = &["detector", "feature"];
/// Most features that one detector shows: series cost memory on both sides.
const DRIFT_SERIES_MAX: usize = 200;
/// Epochs between two reports of quality.
const QUALITY_EVERY: u64 = 32;

/// All metrics of one pipeline.
pub struct Metrics {
    registry: Registry,
    /// Outcomes of records.
    pub records: IntCounterVec,
    /// Dead letters by kind.
    pub dead_letters: IntCounterVec,
    /// Epochs computed.
    pub epochs: IntCounter,
    /// The last epoch that is durable.
    pub epoch_committed: IntGauge,
    /// Rows of the epochs.
    pub epoch_rows: Histogram,
    /// Time to score an epoch.
    pub score_seconds: Histogram,
    commit_seconds: Histogram,
    commit_epochs: Histogram,
    latency: Histogram,
    /// Records between what was read and the end, by stream.
    pub lag: IntGaugeVec,
    /// Temporary troubles of the sources.
    pub troubles: IntGaugeVec,
    /// Bytes of input that wait for an epoch.
    pub buffered_bytes: IntGauge,
    snapshot_bytes: IntGaugeVec,
    snapshot_time: Gauge,
    /// Snapshots that could not be kept.
    pub snapshot_failures: IntCounter,
    /// Time of the newest record seen.
    pub watermark_seconds: Gauge,
    /// Bytes of the feature dictionaries.
    pub dictionary_bytes: IntGauge,
    version: GaugeVec,
    /// Swaps of the live model.
    pub swaps: IntCounter,
    /// Answers of the gate.
    pub verdicts: IntCounterVec,
    /// Training jobs by how they ended.
    pub jobs: IntCounterVec,
    /// Rows held back by rule.
    pub quarantined: IntCounterVec,
    labels: IntCounterVec,
    waiting_rows: IntGauge,
    buffer_rows: IntGauge,
    quality: GaugeVec,
    drift_state: GaugeVec,
    drift_score: GaugeVec,
    drift_threshold: GaugeVec,
    drift_effect: GaugeVec,
    drift_time: GaugeVec,
    /// 1 while the pipeline runs, 0 while it starts.
    pub ready: IntGauge,
}

/// From 100 µs to about 100 s.
fn seconds(name: &str, help: &str) -> HistogramOpts {
    let buckets = (0..21).map(|step| 1e-4 * 2f64.powi(step)).collect();
    HistogramOpts::new(name, help).buckets(buckets)
}

fn powers(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets((0..8).map(|step| 4f64.powi(step)).collect())
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// A name that is there twice: a bug.
    pub fn new(pipeline: &str) -> prometheus::Result<Self> {
        let labels = std::collections::HashMap::from([("pipeline".to_owned(), pipeline.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels))?;
        let add = Adder { registry: &registry };
        let metrics = Self {
            records: add.counters("driftmill_records_total", "Records by outcome.", &["outcome"])?,
            dead_letters: add.counters(
                "driftmill_dead_letters_total",
                "Dead letters by kind of fault.",
                &["kind"],
            )?,
            epochs: add.counter("driftmill_epochs_total", "Epochs computed.")?,
            epoch_committed: add.gauge("driftmill_epoch_committed", "Number of the last epoch that is durable.")?,
            epoch_rows: add.histogram(powers("driftmill_epoch_rows", "Records of an epoch."))?,
            score_seconds: add.histogram(seconds(
                "driftmill_score_duration_seconds",
                "Time to decode, transform, score and encode an epoch.",
            ))?,
            commit_seconds: add.histogram(seconds(
                "driftmill_commit_duration_seconds",
                "Time to make a group of epochs durable.",
            ))?,
            commit_epochs: add.histogram(powers("driftmill_commit_epochs", "Epochs that shared a commit."))?,
            latency: add.histogram(seconds(
                "driftmill_end_to_end_latency_seconds",
                "From the arrival of an epoch's oldest record to its durable outputs, once for each output.",
            ))?,
            lag: add.gauges(
                "driftmill_source_lag_records",
                "Records not read yet, by stream.",
                &["stream"],
            )?,
            troubles: add.gauges(
                "driftmill_source_troubles",
                "Temporary troubles with the brokers that were retried since the start, by stream.",
                &["stream"],
            )?,
            buffered_bytes: add.gauge("driftmill_buffered_bytes", "Bytes of input that wait for an epoch.")?,
            snapshot_bytes: add.gauges("driftmill_snapshot_bytes", "Bytes of the newest snapshot.", &["kind"])?,
            snapshot_time: add.float(
                "driftmill_snapshot_last_timestamp_seconds",
                "When the newest snapshot was made.",
            )?,
            snapshot_failures: add.counter("driftmill_snapshot_failures_total", "Snapshots that could not be kept.")?,
            watermark_seconds: add.float(
                "driftmill_watermark_timestamp_seconds",
                "Event time of the newest record.",
            )?,
            dictionary_bytes: add.gauge("driftmill_dictionary_bytes", "Bytes of the category dictionaries.")?,
            version: add.floats("driftmill_model_version_info", "1 for the live version.", &["version"])?,
            swaps: add.counter("driftmill_swaps_total", "Changes of the live model.")?,
            verdicts: add.counters("driftmill_gate_verdicts_total", "Answers of the gate.", &["verdict"])?,
            jobs: add.counters("driftmill_jobs_total", "Training jobs by how they ended.", &["outcome"])?,
            quarantined: add.counters(
                "driftmill_quarantined_rows_total",
                "Labelled rows held back, by rule.",
                &["reason"],
            )?,
            labels: add.counters("driftmill_labels_total", "Labels by what became of them.", &["outcome"])?,
            waiting_rows: add.gauge("driftmill_waiting_rows", "Rows that wait for their label.")?,
            buffer_rows: add.gauge("driftmill_buffer_rows", "Labelled rows kept for training.")?,
            quality: add.floats(
                "driftmill_model_quality",
                "Quality of a version on its labelled rows, by metric.",
                &["version", "metric"],
            )?,
            drift_state: add.floats(
                "driftmill_drift_state",
                "0 insufficient data, 1 stable, 2 warning, 3 drift.",
                DRIFT_LABELS,
            )?,
            drift_score: add.floats("driftmill_drift_score", "The detector's statistic.", DRIFT_LABELS)?,
            drift_threshold: add.floats("driftmill_drift_threshold", "The statistic's threshold.", DRIFT_LABELS)?,
            drift_effect: add.floats("driftmill_drift_effect", "Size of the change.", DRIFT_LABELS)?,
            drift_time: add.floats(
                "driftmill_drift_last_evaluation_timestamp_seconds",
                "When a detector was asked last.",
                &["detector"],
            )?,
            ready: add.gauge("driftmill_ready", "1 while the pipeline processes live records.")?,
            registry: registry.clone(),
        };
        let info = add.floats("driftmill_up_info", "The running version of Driftmill.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        for outcome in ["scored", "filtered", "dead_letter", "label"] {
            metrics.records.with_label_values(&[outcome]);
        }
        for verdict in ["promote", "reject"] {
            metrics.verdicts.with_label_values(&[verdict]);
        }
        for outcome in ["trained", "failed"] {
            metrics.jobs.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// The live version is another one now.
    pub fn live(&self, version: &str) {
        self.version.reset();
        let shown = if version.is_empty() { "none" } else { version };
        self.version.with_label_values(&[shown]).set(1.0);
    }

    /// A group of epochs has become durable.
    pub(crate) fn committed(&self, epoch: u64, epochs: usize, took: Duration) {
        self.epoch_committed.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_epochs.observe(epochs as f64);
    }

    /// Records that had their outcome.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        ["scored", "filtered", "dead_letter", "label"]
            .iter()
            .map(|outcome| self.records.with_label_values(&[outcome]).get())
            .sum()
    }

    /// Outputs have become durable.
    pub(crate) fn delivered(&self, rows: usize, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let local = self.latency.local();
        (0..rows).for_each(|_| local.observe(seconds));
    }

    /// A snapshot was published.
    pub(crate) fn snapshot(&self, written: u64, total: u64) {
        self.snapshot_bytes
            .with_label_values(&["written"])
            .set(i64::try_from(written).unwrap_or(i64::MAX));
        self.snapshot_bytes
            .with_label_values(&["total"])
            .set(i64::try_from(total).unwrap_or(i64::MAX));
        self.snapshot_time.set(now_seconds());
    }

    /// What the learn half knows now.
    pub(crate) fn learning(&self, learn: &LearnHalf, versions: &[Version], watermark_ms: i64) {
        let counts = learn.join.counts();
        for (outcome, total) in [
            ("matched", counts.matched),
            ("revised", counts.revised),
            ("duplicate", counts.duplicate),
            ("late", counts.late),
            ("orphan", counts.orphan),
            ("expired", counts.expired),
            ("evicted", counts.evicted),
        ] {
            let counter = self.labels.with_label_values(&[outcome]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        self.waiting_rows
            .set(i64::try_from(counts.waiting_rows).unwrap_or(i64::MAX));
        self.buffer_rows
            .set(i64::try_from(learn.buffer.rows()).unwrap_or(i64::MAX));
        for watch in &learn.watches {
            self.drift(watch);
        }
        let matured_until_ms = watermark_ms.saturating_sub(learn.settings().labels.horizon_ms);
        // Reports walk histograms: not for every epoch.
        if self.epochs.get().is_multiple_of(QUALITY_EVERY) {
            self.quality(learn, versions, matured_until_ms);
        }
    }

    fn quality(&self, learn: &LearnHalf, versions: &[Version], matured_until_ms: i64) {
        self.quality.reset();
        for found in learn.quality.report(matured_until_ms) {
            let index = (found.version.0 as usize).checked_sub(1);
            let Some(version) = index.and_then(|index| versions.get(index)) else {
                continue;
            };
            for (metric, value) in [
                ("log_loss", found.total.log_loss),
                ("brier", found.total.brier),
                ("accuracy", found.total.accuracy),
                ("pr_auc", found.total.pr_auc),
                ("roc_auc", found.total.roc_auc),
                ("labels", found.total.rows as f64),
            ] {
                self.quality
                    .with_label_values(&[version.name.as_str(), metric])
                    .set(value);
            }
        }
    }

    fn drift(&self, watch: &Watch) {
        let show = |feature: &str, verdict: &Verdict| {
            let labels = [watch.name(), feature];
            let state = match verdict.status {
                DriftStatus::InsufficientData => 0.0,
                DriftStatus::Stable => 1.0,
                DriftStatus::Warning => 2.0,
                DriftStatus::Drift => 3.0,
            };
            self.drift_state.with_label_values(&labels).set(state);
            self.drift_score.with_label_values(&labels).set(verdict.score);
            self.drift_threshold.with_label_values(&labels).set(verdict.threshold);
            self.drift_effect.with_label_values(&labels).set(verdict.effect);
        };
        let asked = match watch.kind() {
            WatchKind::Loss { last, .. } => {
                last.iter().for_each(|verdict| show("loss", verdict));
                last.is_some()
            }
            WatchKind::Features { last, .. } => {
                for found in last.iter().take(DRIFT_SERIES_MAX) {
                    let feature = match found.aspect {
                        Aspect::Values => found.feature.clone(),
                        Aspect::Missing => format!("{} missing", found.feature),
                    };
                    show(&feature, &found.verdict);
                }
                !last.is_empty()
            }
        };
        if asked {
            self.drift_time.with_label_values(&[watch.name()]).set(now_seconds());
        }
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// Metrics that contradict themselves: a bug.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn now_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

struct Adder<'a> {
    registry: &'a Registry,
}

impl Adder<'_> {
    fn add<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn float(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::new(name, help)?)
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, opts: HistogramOpts) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(opts)?)
    }
}
