//! The engine's metrics. Every name begins with `driftmill_` and carries its unit.
//!
//! Counters count what this process has committed, once: what an epoch adds is held back until the epoch is durable, and
//! epochs that are replayed at a start add nothing. Gauges show the newest computed state, at most half a second old.

mod contests;
mod define;
mod drift;
mod model;
pub mod page;
mod tally;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

pub use define::{Definition, Kind, Label};

use crate::epoch_log::{EpochRecord, Event};
use crate::labels::JoinCounts;
use crate::learn::LearnHalf;
use crate::state::PipelineState;
use contests::Contests;
use define::{Definer, about};
use drift::{Drift, Seen};
use model::{Judged, Models};
use tally::{Tallies, Tally};

/// Time between two looks at the state: a scrape every second must see what is new.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

const OUTCOMES: [&str; 4] = ["scored", "filtered", "dead_letter", "label"];

/// All metrics of one pipeline.
pub struct Metrics {
    registry: Registry,
    definitions: Vec<Definition>,
    records: IntCounterVec,
    dead_letters: IntCounterVec,
    epochs: IntCounter,
    epoch_committed: IntGauge,
    epoch_rows: Histogram,
    /// Time to score an epoch.
    pub score_seconds: Histogram,
    commit_seconds: Histogram,
    commit_epochs: Histogram,
    latency: Histogram,
    /// Records between what was read and the end, by stream.
    pub lag: IntGaugeVec,
    troubles: IntCounterVec,
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
    swaps: IntCounter,
    verdicts: IntCounterVec,
    jobs: IntCounterVec,
    job_running: IntGauge,
    quarantined: IntCounterVec,
    labels: IntCounterVec,
    held_rows: IntGaugeVec,
    held_bytes: IntGaugeVec,
    models: Models,
    contests: Contests,
    published: IntCounter,
    drift: Drift,
    /// 1 while the pipeline runs, 0 while it starts.
    pub ready: IntGauge,
    tallies: Mutex<Tallies>,
    /// The last epoch that was replayed; before that is known none counts.
    replayed_until: AtomicU64,
    memory: Mutex<Memory>,
    /// When the state was looked at last. Held while gauges are written and while they are read: no scrape sees half.
    shown: Mutex<Option<Instant>>,
    live: Mutex<String>,
}

/// What is known of the last epoch, to tell what the next one adds.
#[derive(Default)]
struct Memory {
    labels: JoinCounts,
    detectors: Seen,
    judged: Judged,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic may have left here is only shown.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// A name that is there twice: a bug.
    pub fn new(pipeline: &str) -> prometheus::Result<Self> {
        let labels = std::collections::HashMap::from([("pipeline".to_owned(), pipeline.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels))?;
        let mut add = Definer::new(&registry);
        let info = add.floats(
            &about("driftmill_up_info", "1", "1, with the version of Driftmill that runs."),
            &[("version", "version of the binary")],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let metrics = Self {
            ready: add.gauge(&about(
                "driftmill_ready",
                "1",
                "1 while live records are processed; 0 while the pipeline starts, replays or drains.",
            ))?,
            records: add.counters(
                &about("driftmill_records_total", "records", "Committed records by outcome."),
                &[("outcome", "scored, filtered, dead_letter, label")],
            )?,
            dead_letters: add.counters(
                &about(
                    "driftmill_dead_letters_total",
                    "records",
                    "Committed dead letters by kind of fault.",
                ),
                &[("kind", "as in the header driftmill.kind, see bad-input.md")],
            )?,
            lag: add.gauges(
                &about("driftmill_source_lag_records", "records", "Records not read yet."),
                STREAMS,
            )?,
            troubles: add.counters(
                &about(
                    "driftmill_source_troubles_total",
                    "troubles",
                    "Temporary troubles with the brokers that were retried.",
                ),
                STREAMS,
            )?,
            buffered_bytes: add.gauge(&about(
                "driftmill_buffered_bytes",
                "bytes",
                "Input that waits for an epoch; bounded by buffered_max of [epoch].",
            ))?,
            watermark_seconds: add.float(&about(
                "driftmill_watermark_timestamp_seconds",
                "seconds since 1970",
                "Event time of the newest record.",
            ))?,
            epochs: add.counter(&about("driftmill_epochs_total", "epochs", "Committed epochs."))?,
            epoch_committed: add.gauge(&about(
                "driftmill_epoch_committed",
                "number",
                "Number of the last epoch that is durable.",
            ))?,
            epoch_rows: add.sizes(&about("driftmill_epoch_rows", "rows", "Records of a committed epoch."))?,
            score_seconds: add.seconds(&about(
                "driftmill_score_duration_seconds",
                "seconds",
                "Time to decode, transform, score and encode a live epoch, committed or not.",
            ))?,
            commit_seconds: add.seconds(&about(
                "driftmill_commit_duration_seconds",
                "seconds",
                "Time to make a group of epochs durable.",
            ))?,
            commit_epochs: add.sizes(&about(
                "driftmill_commit_epochs",
                "epochs",
                "Epochs that shared a commit.",
            ))?,
            latency: add.seconds(&about(
                "driftmill_end_to_end_latency_seconds",
                "seconds",
                "From the arrival of an epoch's oldest record to its durable outputs, once for each output.",
            ))?,
            snapshot_bytes: add.gauges(
                &about("driftmill_snapshot_bytes", "bytes", "Size of the newest snapshot."),
                &[("kind", "written: what had changed; total: all of it")],
            )?,
            snapshot_time: add.float(&about(
                "driftmill_snapshot_last_timestamp_seconds",
                "seconds since 1970",
                "When the newest snapshot of this process was made.",
            ))?,
            snapshot_failures: add.counter(&about(
                "driftmill_snapshot_failures_total",
                "snapshots",
                "Snapshots that could not be kept.",
            ))?,
            dictionary_bytes: add.gauge(&about(
                "driftmill_dictionary_bytes",
                "bytes",
                "The category dictionaries; at most 4 MiB a column.",
            ))?,
            labels: add.counters(
                &about(
                    "driftmill_labels_total",
                    "labels",
                    "Labels, and rows that got none, by what became of them in committed epochs.",
                ),
                &[(
                    "outcome",
                    "labels: matched, revised, duplicate, late, orphan; rows: expired, negative, evicted, replaced",
                )],
            )?,
            quarantined: add.counters(
                &about(
                    "driftmill_quarantined_rows_total",
                    "rows",
                    "Labelled rows of committed epochs that were held back: scored, counted in the quality, not learned \
                     from.",
                ),
                &[("reason", "name of the rule")],
            )?,
            held_rows: add.gauges(
                &about("driftmill_held_rows", "rows", "Rows kept in memory."),
                HELD,
            )?,
            held_bytes: add.gauges(
                &about(
                    "driftmill_held_bytes",
                    "bytes",
                    "Bytes of these rows. Each place has a bound, beyond which the oldest leave.",
                ),
                HELD,
            )?,
            drift: Drift::new(&mut add)?,
            models: Models::new(&mut add)?,
            contests: Contests::new(&mut add)?,
            published: add.counter(&about(
                "driftmill_online_published_total",
                "snapshots",
                "Snapshots of the online learner that went live after its line had.",
            ))?,
            version: add.floats(
                &about("driftmill_model_version_info", "1", "1, with the version that is live."),
                &[("version", "name of the version; `none` before the first")],
            )?,
            swaps: add.counter(&about(
                "driftmill_swaps_total",
                "swaps",
                "Committed changes of the live version: first ones, promotions, rollbacks.",
            ))?,
            jobs: add.counters(
                &about(
                    "driftmill_jobs_total",
                    "jobs",
                    "Training jobs that ended, in committed epochs.",
                ),
                &[("outcome", "trained, failed")],
            )?,
            job_running: add.gauge(&about(
                "driftmill_job_running",
                "1",
                "1 while a training job is under way.",
            ))?,
            verdicts: add.counters(
                &about(
                    "driftmill_gate_verdicts_total",
                    "verdicts",
                    "Committed answers of the gate.",
                ),
                &[("verdict", "promote, reject")],
            )?,
            definitions: std::mem::take(&mut add.definitions),
            registry: registry.clone(),
            tallies: Mutex::default(),
            replayed_until: AtomicU64::new(u64::MAX),
            memory: Mutex::default(),
            shown: Mutex::default(),
            live: Mutex::default(),
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// `increase()` does not see the step of a series that was not there before.
    fn begin_at_zero(&self) {
        for (counters, values) in [
            (&self.records, &OUTCOMES[..]),
            (&self.verdicts, &["promote", "reject"]),
            (&self.jobs, &["trained", "failed"]),
        ] {
            for value in values {
                counters.with_label_values(&[*value]);
            }
        }
    }

    /// Every metric, in the order of the page.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The replay is over; what comes from here on counts.
    pub(crate) fn begin(&self, state: &PipelineState) {
        {
            let mut memory = lock(&self.memory);
            if let Some(learn) = &state.learn {
                memory.labels = learn.join.counts();
                memory.judged = Judged::known(&learn.quality);
            }
        }
        self.replayed_until.store(state.epoch, Ordering::Release);
        // Whatever was replayed stands in the log.
        self.durable(state.epoch);
        self.ready.set(1);
    }

    fn durable(&self, epoch: u64) {
        let mut tallies = lock(&self.tallies);
        self.epoch_committed.set(whole(tallies.durable(epoch)));
    }

    fn is_live(&self, epoch: u64) -> bool {
        epoch > self.replayed_until.load(Ordering::Acquire)
    }

    /// The live version is another one now.
    pub fn live(&self, version: &str) {
        let shown = if version.is_empty() { "none" } else { version };
        let mut live = lock(&self.live);
        let before = std::mem::replace(&mut *live, shown.to_owned());
        // In this order a scrape may see both for a moment, and never none.
        self.version.with_label_values(&[shown]).set(1.0);
        if before != shown && !before.is_empty() {
            // It may be gone already; that is what is wanted.
            let _ = self.version.remove_label_values(&[&before]);
        }
    }

    /// Temporary troubles of a stream since the start of this process.
    pub(crate) fn troubles(&self, stream: &str, total: u64) {
        let counter = self.troubles.with_label_values(&[stream]);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// A live epoch was scored: what it adds counts when it is durable.
    pub(crate) fn computed(&self, record: &EpochRecord, dead_kinds: &[(&'static str, u64)]) {
        let mut tally = Tally::default();
        let counts = &record.counts;
        for (outcome, count) in OUTCOMES
            .into_iter()
            .zip([counts.scored, counts.filtered, counts.dead, counts.labels])
        {
            tally.add(self.records.with_label_values(&[outcome]), count);
        }
        for (kind, count) in dead_kinds {
            tally.add(self.dead_letters.with_label_values(&[*kind]), *count);
        }
        for event in &record.events {
            let counter = match event {
                Event::Bootstrapped { .. } | Event::Promoted { .. } | Event::RolledBack { .. } => self.swaps.clone(),
                Event::Verdict { verdict, .. } => self.verdicts.with_label_values(&[verdict]),
                Event::Published { .. } => self.published.clone(),
                Event::JobFinished { .. } => self.jobs.with_label_values(&["trained"]),
                Event::JobFailed { .. } => self.jobs.with_label_values(&["failed"]),
                _ => continue,
            };
            tally.add(counter, 1);
        }
        tally.add(self.epochs.clone(), 1);
        tally.observe(&self.epoch_rows, counts.input as f64);
        lock(&self.tallies).computed(record.epoch, tally);
    }

    /// The learn half has taken an epoch, live or in replay. `time_ms` is the time that the epoch was stamped with.
    pub(crate) fn learned(&self, epoch: u64, time_ms: i64, learn: &LearnHalf, quarantined: &[(String, String, u64)]) {
        let mut memory = lock(&self.memory);
        let mut tally = Tally::default();
        self.drift
            .note(&mut memory.detectors, &learn.watches, time_ms, &mut tally);
        if !self.is_live(epoch) {
            return;
        }
        memory.judged.note(&learn.quality, time_ms);
        let counts = learn.join.counts();
        let before = std::mem::replace(&mut memory.labels, counts);
        drop(memory);
        for ((outcome, now), (_, before)) in outcomes(&counts).into_iter().zip(outcomes(&before)) {
            // Fewer than before: another plan began with another join.
            tally.add(
                self.labels.with_label_values(&[outcome]),
                now.checked_sub(before).unwrap_or(now),
            );
        }
        for (rule, _, rows) in quarantined {
            tally.add(self.quarantined.with_label_values(&[rule]), *rows);
        }
        lock(&self.tallies).computed(epoch, tally);
    }

    /// A group of epochs has become durable.
    pub(crate) fn committed(&self, epoch: u64, epochs: usize, took: Duration) {
        self.durable(epoch);
        if self.is_live(epoch) {
            self.commit_seconds.observe(took.as_secs_f64());
            self.commit_epochs.observe(epochs as f64);
        }
    }

    /// Records that had their outcome.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        OUTCOMES
            .iter()
            .map(|outcome| self.records.with_label_values(&[*outcome]).get())
            .sum()
    }

    /// Outputs of an epoch have become durable.
    pub(crate) fn delivered(&self, epoch: u64, rows: usize, latency: Duration) {
        if !self.is_live(epoch) {
            return;
        }
        let seconds = latency.as_secs_f64();
        let local = self.latency.local();
        (0..rows).for_each(|_| local.observe(seconds));
    }

    /// A snapshot was published.
    pub(crate) fn snapshot(&self, written: u64, total: u64) {
        for (kind, bytes) in [("written", written), ("total", total)] {
            self.snapshot_bytes.with_label_values(&[kind]).set(whole(bytes));
        }
        self.snapshot_time.set(now_seconds());
    }

    /// Shows the state as it is now, if that was not done just before. `now_ms` is the time.
    pub(crate) fn show(&self, state: &PipelineState, now_ms: i64) {
        // While the page is read the next look will do.
        let Ok(mut shown) = self.shown.try_lock() else { return };
        if shown.is_some_and(|at| at.elapsed() < SHOWN_EVERY) {
            return;
        }
        if let Some(learn) = &state.learn {
            let memory = lock(&self.memory);
            self.held(learn);
            self.drift.show(&learn.watches, &memory.detectors, now_ms);
            self.models.show(state, learn, &memory.judged);
            self.contests.show(learn, state.live.0 != 0);
        }
        *shown = Some(Instant::now());
    }

    fn held(&self, learn: &LearnHalf) {
        let (join, buffer, quarantine) = (learn.join.counts(), learn.buffer.counts(), learn.quarantine.counts());
        for (place, rows, bytes) in [
            ("join", join.waiting_rows, join.waiting_bytes),
            ("early_labels", join.early_rows, join.early_bytes),
            ("buffer", buffer.rows, buffer.bytes),
            ("quarantine", quarantine.rows as u64, quarantine.bytes as u64),
        ] {
            self.held_rows.with_label_values(&[place]).set(whole(rows));
            self.held_bytes.with_label_values(&[place]).set(whole(bytes));
        }
        self.job_running.set(i64::from(learn.job.is_some()));
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// Metrics that contradict themselves: a bug.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        let families = {
            let _whole = lock(&self.shown);
            self.registry.gather()
        };
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

const STREAMS: &[Label] = &[("stream", "source, labels")];
const HELD: &[Label] = &[(
    "place",
    "join: rows that wait for their label; early_labels: labels that wait for their row; buffer: labelled rows for \
     training; quarantine: rows held back",
)];

fn outcomes(counts: &JoinCounts) -> [(&'static str, u64); 9] {
    [
        ("matched", counts.matched),
        ("revised", counts.revised),
        ("duplicate", counts.duplicate),
        ("late", counts.late),
        ("orphan", counts.orphan),
        ("expired", counts.expired),
        ("negative", counts.negative),
        ("evicted", counts.evicted),
        ("replaced", counts.replaced),
    ]
}

fn now_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch_log::Counts;
    use crate::settings::Settings;

    const CONFIG: &str = r#"
[pipeline]
name      = "p"
state_dir = "/nowhere"

[source]
connector    = "kafka"
brokers      = "127.0.0.1:1"
topics       = ["in"]
dead_letters = "dead"
schema       = { id = "string", at = "timestamp[ms]", x = "float64" }
time         = { column = "at" }

[features]
sql = "SELECT id, at, x FROM source"

[features.columns]
id = { role = "id" }

[labels]
connector = "kafka"
brokers   = "127.0.0.1:1"
topics    = ["labels"]
schema    = { id = "string", late = "bool" }
key       = "id"
label     = "late"
horizon   = "5 s"

[model]
bootstrap_rows = 2_000

[[drift]]
name = "inputs"
on   = "features"

[[drift]]
name = "concept"
on   = "log-loss"

[gate]
block = "10 s"

[sink]
connector = "kafka"
topic     = "out"
"#;

    fn state() -> PipelineState {
        let settings = Settings::parse("test.toml", CONFIG).unwrap_or_else(|problems| panic!("{}", problems.render()));
        PipelineState::new(&settings.plan)
    }

    fn page(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    /// The value of the one series that begins with this name and has these labels.
    fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let page = page(metrics);
        let has = |line: &str| {
            labels
                .iter()
                .all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
        };
        let mut found = page
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && has(line));
        let first = found.next()?;
        assert_eq!(found.next(), None, "one series only");
        first.split_whitespace().last()?.parse().ok()
    }

    #[test]
    fn a_detector_without_data_is_in_the_state_that_says_so_and_has_no_score() {
        let (metrics, state) = (Metrics::new("p").unwrap(), state());
        metrics.begin(&state);
        metrics.show(&state, 0);
        for (detector, feature, aspect) in [
            ("concept", "loss", "loss"),
            ("inputs", "x", "values"),
            ("inputs", "x", "missing"),
        ] {
            for (name, expected) in [
                ("insufficient-data", 1.0),
                ("stable", 0.0),
                ("warning", 0.0),
                ("drift", 0.0),
            ] {
                let labels = [
                    ("detector", detector),
                    ("feature", feature),
                    ("aspect", aspect),
                    ("state", name),
                ];
                let found = value(&metrics, "driftmill_drift_state", &labels);
                assert_eq!(found, Some(expected), "{labels:?}\n{}", page(&metrics));
            }
        }
        for absent in [
            "driftmill_drift_score{",
            "driftmill_drift_last_evaluation_timestamp_seconds{",
        ] {
            assert!(!page(&metrics).contains(absent), "{absent}");
        }
        let labels = [("detector", "inputs"), ("state", "insufficient-data")];
        assert_eq!(value(&metrics, "driftmill_drift_tests", &labels), Some(2.0));
    }

    fn record(epoch: u64, events: Vec<Event>) -> EpochRecord {
        let counts = Counts {
            input: 7,
            scored: 4,
            filtered: 1,
            dead: 2,
            labels: 0,
        };
        EpochRecord {
            epoch,
            events,
            counts,
            ..EpochRecord::default()
        }
    }

    #[test]
    fn counters_follow_commits_and_replays_add_nothing() {
        let (metrics, mut state) = (Metrics::new("p").unwrap(), state());
        // Replayed, and written again as in at-least-once mode.
        let learn = state.learn.as_ref().unwrap();
        metrics.learned(5, 1_000, learn, &[("range".to_owned(), String::new(), 3)]);
        metrics.committed(5, 1, Duration::from_millis(1));
        metrics.delivered(5, 4, Duration::from_millis(1));
        state.epoch = 5;
        metrics.begin(&state);
        metrics.committed(4, 1, Duration::from_millis(1));
        let scored = || value(&metrics, "driftmill_records_total", &[("outcome", "scored")]);
        let jobs = || value(&metrics, "driftmill_jobs_total", &[("outcome", "failed")]);
        let quarantined = || value(&metrics, "driftmill_quarantined_rows_total", &[("reason", "range")]);
        let delivered = || value(&metrics, "driftmill_end_to_end_latency_seconds_count", &[]);
        assert_eq!((scored(), quarantined(), delivered()), (Some(0.0), None, Some(0.0)));
        assert_eq!(value(&metrics, "driftmill_epoch_committed", &[]), Some(5.0));

        let failed = Event::JobFailed {
            job: "j".to_owned(),
            reason: "r".to_owned(),
        };
        metrics.computed(&record(6, vec![failed]), &[("json", 2)]);
        metrics.computed(&record(7, vec![]), &[]);
        assert_eq!((scored(), jobs()), (Some(0.0), Some(0.0)));
        metrics.committed(6, 1, Duration::from_millis(1));
        assert_eq!((scored(), jobs()), (Some(4.0), Some(1.0)));
        assert_eq!(
            value(&metrics, "driftmill_dead_letters_total", &[("kind", "json")]),
            Some(2.0)
        );
        let learn = state.learn.as_ref().unwrap();
        // What is learned from an epoch is known after it was handed over, and maybe committed.
        metrics.learned(6, 1_000, learn, &[("range".to_owned(), String::new(), 3)]);
        assert_eq!(quarantined(), Some(3.0));
        metrics.committed(7, 1, Duration::from_millis(1));
        assert_eq!((scored(), metrics.outcomes()), (Some(8.0), 14));
    }

    #[test]
    fn one_version_is_live() {
        let metrics = Metrics::new("p").unwrap();
        for version in ["", "v1", "v1", "v2"] {
            metrics.live(version);
        }
        assert_eq!(value(&metrics, "driftmill_model_version_info", &[]), Some(1.0));
        let labels = [("version", "v2")];
        assert_eq!(value(&metrics, "driftmill_model_version_info", &labels), Some(1.0));
    }
}
