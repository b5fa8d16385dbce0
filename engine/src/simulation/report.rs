//! What a seed came to, and all of them.

use std::io::Write as _;

use super::judge::Judge;
use crate::daemon::Happening;
use crate::generator::PaymentsConfig;

/// Share of the seeds that must be promoted.
const PROMOTED_MIN: f64 = 0.9;

/// A verdict of the gate that let nobody live.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Rejection {
    /// When, in seconds of event time since the start.
    pub at_s: f64,
    /// Why, in words.
    pub reason: String,
}

/// A version that took the place of another.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Promotion {
    /// When, in seconds of event time since the start.
    pub at_s: f64,
    /// The version.
    pub version: String,
    /// Why its model was trained.
    pub cause: String,
    /// Average precision of its predictions: of payments after the change where its job began after it, else before.
    pub pr_auc: Option<f64>,
}

/// What came of one seed. Times are seconds of event time since the start of the world.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// When the world changed.
    pub changed_s: Option<f64>,
    /// When the first version went live.
    pub live_s: Option<f64>,
    /// Alarms on the loss while the world was as it had been.
    pub false_alarms: u64,
    /// The first alarm on the loss after the change.
    pub alarm_s: Option<f64>,
    /// Candidates that were rejected.
    pub rejected: Vec<Rejection>,
    /// Versions whose models were trained while the world was as it had been, promoted then or later.
    pub early: Vec<Promotion>,
    /// Versions whose training began after the change, in order.
    pub promoted: Vec<Promotion>,
    /// When the first version that is better than the version before the change went live.
    pub swap_s: Option<f64>,
    /// Average precision of the version that was live when the world changed, before and after.
    pub pr_auc_before: Option<f64>,
    /// After the change.
    pub pr_auc_after: Option<f64>,
    /// Records without an outcome.
    pub lost: i64,
    /// Hash of the engine's last state: the same for the same seed.
    pub state: String,
    /// Seconds that it took.
    pub took_s: f64,
}

impl SeedReport {
    /// Reads the story.
    pub(super) fn of(seed: u64, world: &PaymentsConfig, told: &[(i64, Happening)], judge: &Judge) -> Self {
        let changed_s = world.drift_at.map(|after| after.as_secs_f64());
        let mut report = Self {
            seed,
            changed_s,
            ..Self::default()
        };
        let mut jobs: Vec<Job<'_>> = Vec::new();
        let mut next = Job::default();
        let mut incumbent = String::new();
        for (at_ms, happening) in told {
            let at_s = (at_ms - world.start_ms).max(0) as f64 / 1e3;
            let is_after = changed_s.is_some_and(|changed| at_s >= changed);
            match happening {
                Happening::Drift(alarm) if alarm.starts_with("concept") => {
                    if is_after {
                        report.alarm_s.get_or_insert(at_s);
                    } else {
                        report.false_alarms += 1;
                    }
                }
                Happening::Training { job, cause } => jobs.push(Job {
                    id: job,
                    cause,
                    is_after,
                }),
                Happening::Verdict { job, verdict, reason } if verdict == "reject" => {
                    let reason = format!("{}: {reason}", find(&jobs, job).cause);
                    report.rejected.push(Rejection { at_s, reason });
                }
                Happening::Verdict { job, .. } => next = find(&jobs, job),
                Happening::Live { version, .. } => {
                    let promotion = || Promotion {
                        at_s,
                        version: version.clone(),
                        cause: next.cause.to_owned(),
                        pr_auc: known(judge.pr_auc(version, next.is_after)),
                    };
                    if report.live_s.is_none() {
                        report.live_s = Some(at_s);
                    } else if next.is_after {
                        report.promoted.push(promotion());
                    } else {
                        report.early.push(promotion());
                    }
                    if !is_after {
                        incumbent.clone_from(version);
                    }
                }
                _ => {}
            }
        }
        report.pr_auc_before = known(judge.pr_auc(&incumbent, false));
        report.pr_auc_after = known(judge.pr_auc(&incumbent, true));
        let is_better = |it: &&Promotion| it.pr_auc > report.pr_auc_after;
        report.swap_s = report.promoted.iter().find(is_better).map(|it| it.at_s);
        report
    }

    fn since_change(&self, at_s: Option<f64>) -> Option<f64> {
        Some(at_s? - self.changed_s?)
    }
}

/// A training job.
#[derive(Clone, Copy, Default)]
struct Job<'a> {
    id: &'a str,
    cause: &'a str,
    /// Whether it began after the change.
    is_after: bool,
}

/// Contestants that are of no job, such as a version that was live, have an empty cause.
fn find<'a>(jobs: &[Job<'a>], id: &str) -> Job<'a> {
    jobs.iter().find(|job| job.id == id).copied().unwrap_or_default()
}

fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// All seeds.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Totals {
    /// Seeds that ran.
    pub seeds: usize,
    /// Whether the world changed.
    pub drift: bool,
    /// Seeds in which a better version was live after the change.
    pub promoted: usize,
    /// Promotions of models that were trained while the world was as it had been.
    pub false_promotions: usize,
    /// Alarms on the loss while the world was as it had been.
    pub false_alarms: u64,
    /// Candidates that were rejected.
    pub rejected: usize,
    /// Records without an outcome.
    pub lost: i64,
    /// Median seconds of event time from the change to the alarm.
    pub alarm_median_s: Option<f64>,
    /// Longest.
    pub alarm_max_s: Option<f64>,
    /// Median seconds of event time from the change to the swap.
    pub swap_median_s: Option<f64>,
    /// Longest.
    pub swap_max_s: Option<f64>,
}

impl Totals {
    pub(super) fn of(reports: &[SeedReport], drift: bool) -> Self {
        let sorted = |at: fn(&SeedReport) -> Option<f64>| {
            let mut found: Vec<f64> = reports.iter().filter_map(|it| it.since_change(at(it))).collect();
            found.sort_by(f64::total_cmp);
            found
        };
        let (alarms, swaps) = (sorted(|it| it.alarm_s), sorted(|it| it.swap_s));
        let median = |sorted: &[f64]| sorted.get(sorted.len() / 2).copied();
        Self {
            seeds: reports.len(),
            drift,
            promoted: swaps.len(),
            false_promotions: reports.iter().map(|it| it.early.len()).sum(),
            false_alarms: reports.iter().map(|it| it.false_alarms).sum(),
            rejected: reports.iter().map(|it| it.rejected.len()).sum(),
            lost: reports.iter().map(|it| it.lost).sum(),
            alarm_median_s: median(&alarms),
            alarm_max_s: alarms.last().copied(),
            swap_median_s: median(&swaps),
            swap_max_s: swaps.last().copied(),
        }
    }

    /// Whether the loop did what it is for: nothing lost; with a change at least nine seeds of ten promoted; without
    /// one no promotion.
    #[must_use]
    pub fn holds(&self) -> bool {
        let enough = self.promoted as f64 >= PROMOTED_MIN * self.seeds as f64;
        self.lost == 0 && if self.drift { enough } else { self.false_promotions == 0 }
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn print(json: bool, value: &impl serde::Serialize, text: &str) {
    let line = if json {
        serde_json::json!(value).to_string()
    } else {
        text.to_owned()
    };
    // Nobody reads standard output any more when this fails.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints the line of a seed.
pub fn tell_seed(report: &SeedReport, json: bool) {
    let best = report.promoted.iter().find(|it| Some(it.at_s) == report.swap_s);
    let text = format!(
        "seed {:>3}  first {:>5}  alarm {:>5} (+{})  rejected {}  swap {:>5} (+{})  PR-AUC {} → {} → {}  early {}  false \
         alarms {}  lost {}  in {:.1} s",
        report.seed,
        seconds(report.live_s),
        seconds(report.alarm_s),
        seconds(report.since_change(report.alarm_s)),
        report.rejected.len(),
        seconds(report.swap_s),
        seconds(report.since_change(report.swap_s)),
        seconds(report.pr_auc_before),
        seconds(report.pr_auc_after),
        seconds(best.and_then(|it| it.pr_auc)),
        report.early.len(),
        report.false_alarms,
        report.lost,
        report.took_s,
    );
    print(json, report, &text);
}

/// Prints the closing table.
pub fn tell(totals: &Totals, json: bool) {
    let text = format!(
        "promoted after the change   {} of {}{}\n\
         promoted without a change   {}\n\
         rejected                    {}\n\
         false alarms on the loss    {}\n\
         change to alarm             median {} s, longest {} s\n\
         change to swap              median {} s, longest {} s\n\
         lost                        {}",
        totals.promoted,
        totals.seeds,
        if totals.drift { "" } else { " (nothing changed)" },
        totals.false_promotions,
        totals.rejected,
        totals.false_alarms,
        seconds(totals.alarm_median_s),
        seconds(totals.alarm_max_s),
        seconds(totals.swap_median_s),
        seconds(totals.swap_max_s),
        totals.lost,
    );
    print(json, totals, &text);
}
