//! Spans of time in which a pipeline trained, judged what was trained, or did neither; and the latencies in each.

use crate::pairs::{median, percentile};

/// What a pipeline does beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Neither of both.
    Quiet,
    /// A trainer runs.
    Training,
    /// Its model is compared with the live one.
    Judging,
}

impl Phase {
    /// The phase that a line of the daemon's log begins.
    #[must_use]
    pub fn begun_by(line: &str) -> Option<Self> {
        let is = |words: &str| line.contains(words);
        if is(": training begins") {
            Some(Self::Training)
        } else if is(": trained ") {
            Some(Self::Judging)
        } else if is(": gate ") || is(": training failed") {
            Some(Self::Quiet)
        } else {
            None
        }
    }
}

/// A record that was produced and seen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When it was produced, µs since the run began.
    pub sent_us: u64,
    /// Until its prediction was there, µs.
    pub latency_us: u32,
}

/// The latencies of a phase, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Spans of time that it is made of.
    pub spans: usize,
    /// How long they are together.
    pub seconds: f64,
    /// Records that were produced in them.
    pub records: usize,
    /// Half of these took as long at most.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The longest.
    pub most: f64,
    /// The median of the spans' own 99th percentiles.
    pub p99_of_spans: f64,
}

/// Spans of time, each as long as nothing else begins.
#[derive(Debug, Clone, Default)]
pub struct Phases(Vec<(u64, Phase)>);

impl Phases {
    /// A phase begins, µs since the run began. Going on with the same is none.
    pub fn begin(&mut self, at_us: u64, phase: Phase) {
        if self.0.last().is_none_or(|(_, last)| *last != phase) {
            self.0.push((at_us, phase));
        }
    }

    /// The latencies of the records that were produced in a phase, between `from_us` and `to_us`. `None` when there are
    /// none. `seen` is in order of time.
    #[must_use]
    pub fn latency(&self, phase: Phase, seen: &[Seen], from_us: u64, to_us: u64) -> Option<Latency> {
        let ends = self.0.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        let spans = self.0.iter().zip(ends).filter(|((_, other), _)| *other == phase);
        let (mut all, mut each, mut us) = (Vec::new(), Vec::new(), 0);
        for ((start, _), end) in spans {
            let (start, end) = ((*start).max(from_us), end.min(to_us));
            let place = |at: u64| seen.partition_point(|seen| seen.sent_us < at);
            let Some(within) = seen.get(place(start)..place(end)).filter(|within| !within.is_empty()) else {
                continue;
            };
            let ms = || within.iter().map(|seen| f64::from(seen.latency_us) / 1e3);
            us += end - start;
            each.push(percentile(99, ms()));
            all.extend(ms());
        }
        if all.is_empty() {
            return None;
        }
        all.sort_by(f64::total_cmp);
        Some(Latency {
            spans: each.len(),
            seconds: us as f64 / 1e6,
            records: all.len(),
            p50: percentile(50, all.iter().copied()),
            p99: percentile(99, all.iter().copied()),
            most: all.last().copied().unwrap_or(f64::NAN),
            p99_of_spans: median(each),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_the_phases() {
        let begun = [
            "2026 INFO driftmill::daemon: training begins job=\"a\" cause=\"schedule\"",
            "2026 INFO driftmill::daemon::learning: trained job=\"a\" artifact=\"b\"",
            "2026 INFO driftmill::daemon: gate job=\"a\" verdict=\"reject\"",
            "2026 WARN driftmill::daemon::learning: training failed job=\"a\"",
            "2026 INFO driftmill: ended epoch=7",
        ]
        .map(Phase::begun_by);
        let quiet = Some(Phase::Quiet);
        assert_eq!(begun, [Some(Phase::Training), Some(Phase::Judging), quiet, quiet, None]);
    }

    #[test]
    fn records_count_by_the_phase_in_which_they_were_produced() {
        let mut phases = Phases::default();
        for (at_us, phase) in [
            (0, Phase::Quiet),
            (1_000, Phase::Training),
            (2_000, Phase::Training),
            (3_000, Phase::Quiet),
            (4_000, Phase::Training),
        ] {
            phases.begin(at_us, phase);
        }
        // One record every 10 µs; 7 ms while training, 5 ms else, and one of 50 ms in the last span.
        let seen: Vec<Seen> = (0..500)
            .map(|record| {
                let sent_us = record * 10;
                let training = (1_000..3_000).contains(&sent_us) || sent_us >= 4_000;
                let latency_us = if sent_us == 4_500 {
                    50_000
                } else if training {
                    7_000
                } else {
                    5_000
                };
                Seen { sent_us, latency_us }
            })
            .collect();
        let found = phases.latency(Phase::Training, &seen, 500, 5_000).unwrap();
        let expected = Latency {
            spans: 2,
            seconds: 0.003,
            records: 300,
            p50: 7.0,
            p99: 7.0,
            most: 50.0,
            p99_of_spans: 7.0,
        };
        assert_eq!(found, expected);
        let quiet = phases.latency(Phase::Quiet, &seen, 500, 5_000).unwrap();
        assert_eq!((quiet.records, quiet.p99, quiet.spans), (150, 5.0, 2));
        assert_eq!(phases.latency(Phase::Judging, &seen, 0, 5_000), None);
    }
}
