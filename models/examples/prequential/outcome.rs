//! What the runs of a learner came to.

use driftmill_models::contracts::{Learner, Task};
use driftmill_models::metrics::{CohortParams, Cohorts, Evaluation, Setting};
use serde_json::{Map, Value, json};

use super::setup::{Setup, TaskName};
use super::stream::Stream;
use super::{Failure, Options};

/// One run.
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// Rows predicted and learned from in a second of one thread, already parsed.
    pub(crate) rows_per_second: f64,
    /// Most bytes that the learner told after a batch.
    pub(crate) bytes_max: usize,
    /// Bytes that it may use.
    pub(crate) budget: u64,
    /// What it told about itself at the end: what, of which part, how much.
    pub(crate) facts: Vec<(&'static str, String, f64)>,
}

/// What a learner tells about itself.
pub(crate) fn facts(learner: &dyn Learner) -> Vec<(&'static str, String, f64)> {
    let mut facts = Vec::new();
    learner.report(&mut |fact| facts.push((fact.name, fact.of.to_owned(), fact.value)));
    facts
}

/// Of the rows with the highest scores of each part of a stream: how many of the positives are among them.
pub(crate) struct Alerts {
    recall: f64,
    precision: f64,
}

impl Alerts {
    /// Takes the share of each part of the stream that `options` says; of equal scores the earlier ones.
    pub(crate) fn of(scores: &[f64], labels: &[f64], options: &Options) -> Self {
        let block = block_rows(labels.len(), options);
        let (mut found, mut alerts) = (0.0, 0.0);
        for (scores, labels) in scores.chunks(block).zip(labels.chunks(block)) {
            let mut rows: Vec<usize> = (0..scores.len()).collect();
            rows.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            rows.truncate((scores.len() as f64 * options.alerts).ceil() as usize);
            alerts += rows.len() as f64;
            found += rows.iter().map(|row| labels[*row]).sum::<f64>();
        }
        Self {
            recall: found / labels.iter().sum::<f64>(),
            precision: found / alerts,
        }
    }
}

/// Rows of each part of a stream.
fn block_rows(rows: usize, options: &Options) -> usize {
    rows.div_ceil(options.blocks).max(1)
}

/// Metrics by part of the stream: a row's time is its number.
pub(crate) fn blocks(task: Task, rows: usize, options: &Options) -> Cohorts<Evaluation> {
    let params = CohortParams {
        cohort_ms: i64::try_from(block_rows(rows, options)).unwrap_or(i64::MAX),
        cohorts_max: options.blocks,
    };
    let setting = Setting {
        task,
        threshold: options.threshold,
    };
    Cohorts::new(params, &Evaluation::of_task(setting))
}

/// All runs of a learner over a stream.
pub(crate) struct Outcome {
    learner: String,
    section: String,
    stream: String,
    task: Task,
    rows: usize,
    block_rows: usize,
    left_out: Option<&'static str>,
    /// The metric that is followed over time.
    curve: &'static str,
    pub(crate) alerts: Vec<Alerts>,
    runs: Vec<(Run, Cohorts<Evaluation>)>,
}

impl Outcome {
    pub(crate) fn new(setup: &Setup<'_>, stream: &Stream, options: &Options) -> Result<Self, Failure> {
        Ok(Self {
            learner: setup.name()?,
            section: setup.section.to_owned(),
            stream: stream.name.clone(),
            task: stream.task,
            rows: stream.rows(),
            block_rows: block_rows(stream.rows(), options),
            left_out: None,
            curve: curve_of(stream),
            alerts: Vec::new(),
            runs: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, run: Run, metrics: Cohorts<Evaluation>) {
        self.runs.push((run, metrics));
    }

    /// Does not tell this metric.
    pub(crate) fn leave_out(&mut self, metric: &'static str) {
        self.left_out = Some(metric);
    }

    /// Prints it: a line of JSON, or lines for people.
    pub(crate) fn tell(&self, as_json: bool) -> Result<(), Failure> {
        let Some(pooled) = self.pooled() else {
            return Ok(());
        };
        match as_json {
            true => println!("{}", serde_json::to_string(&self.json(&pooled))?),
            false => self.print(),
        }
        Ok(())
    }

    /// The runs of all seeds as one: parts of the stream stay parts, so that its intervals tell how much the rows vary.
    fn pooled(&self) -> Option<Cohorts<Evaluation>> {
        let mut runs = self.runs.iter().map(|(_, metrics)| metrics);
        let first = runs.next()?.clone();
        Some(runs.fold(first, |mut all, more| {
            all.merge(more);
            all
        }))
    }

    /// The metrics of the task, in the order of their list.
    fn names(&self) -> Vec<&'static str> {
        let metrics = self.runs.iter().take(1).map(|(_, metrics)| metrics.total());
        let names = metrics.flat_map(|total| total.values().map(|(name, _)| name).collect::<Vec<_>>());
        names.filter(|name| Some(*name) != self.left_out).collect()
    }

    fn json(&self, pooled: &Cohorts<Evaluation>) -> Value {
        let totals: Vec<Evaluation> = self.runs.iter().map(|(_, metrics)| metrics.total()).collect();
        let metric = |name: &'static str| {
            let by_seed: Vec<f64> = totals.iter().map(|total| total.value(name)).collect();
            let interval = pooled.interval(|tally| tally.value(name));
            // The mean of the seeds stands in the middle; a pooled rank metric would not be their mean.
            let half = interval.map(|interval| (interval.high - interval.low) / 2.0);
            let value = json!({"value": mean(by_seed.iter().copied()), "half": half, "by_seed": by_seed});
            (name.to_owned(), value)
        };
        let values: Vec<f64> = pooled.cohorts().map(|(_, tally)| tally.value(self.curve)).collect();
        json!({
            "library": "driftmill",
            "learner": self.learner,
            "section": self.section,
            "stream": self.stream,
            "task": TaskName::of(self.task),
            "rows": self.rows,
            "rows_per_second": self.runs.iter().map(|(run, _)| run.rows_per_second).collect::<Vec<_>>(),
            "seeds": self.runs.iter().map(|(run, _)| run.seed).collect::<Vec<_>>(),
            "bytes_max": self.runs.iter().map(|(run, _)| run.bytes_max).max(),
            "budget_bytes": self.runs.iter().map(|(run, _)| run.budget).max(),
            "metrics": self.names().into_iter().map(metric).collect::<Map<_, _>>(),
            "alerts": (!self.alerts.is_empty()).then(|| json!({
                "recall": mean(self.alerts.iter().map(|alerts| alerts.recall)),
                "precision": mean(self.alerts.iter().map(|alerts| alerts.precision)),
            })),
            "facts": self.runs.first().map(|(run, _)| &run.facts),
            "curve": {"metric": self.curve, "block_rows": self.block_rows, "values": values},
        })
    }

    /// Means over the seeds, and the fastest of them.
    fn print(&self) {
        let fastest = self.runs.iter().map(|(run, _)| run.rows_per_second).fold(0.0, f64::max);
        let bytes = self.runs.iter().map(|(run, _)| run.bytes_max).max().unwrap_or_default();
        println!("  {}", self.section.replace('\n', "; "));
        println!("    {:.1} k rows/s  {} KiB", fastest / 1e3, bytes / 1024);
        let totals: Vec<Evaluation> = self.runs.iter().map(|(_, metrics)| metrics.total()).collect();
        let metric = |name| format!("{name} {:.4}", mean(totals.iter().map(|total| total.value(name))));
        println!(
            "    {}",
            self.names().into_iter().map(metric).collect::<Vec<_>>().join("  ")
        );
        for (name, of, value) in self.runs.iter().take(1).flat_map(|(run, _)| &run.facts) {
            println!("      {name} {of} {value:.4}");
        }
        if !self.alerts.is_empty() {
            let recall = mean(self.alerts.iter().map(|alerts| alerts.recall));
            let precision = mean(self.alerts.iter().map(|alerts| alerts.precision));
            println!("    among the alerts: recall {recall:.4}  precision {precision:.4}");
        }
    }
}

/// Share of positives below which accuracy says nothing.
const RARE: f64 = 0.05;

/// The metric that is followed over time.
fn curve_of(stream: &Stream) -> &'static str {
    let is_rare = stream.labels.iter().sum::<f64>() < RARE * stream.rows() as f64;
    match stream.task {
        Task::Binary if is_rare => "pr-auc",
        Task::Binary | Task::Multiclass { .. } => "accuracy",
        Task::Regression => "mae",
        Task::Anomaly => "roc-auc",
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}
