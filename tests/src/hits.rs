//! What a kill hit, read from the trace of failpoints that the killed process had written.

use std::fmt;

use driftmill::failpoint::{POINTS, Part, Point};

/// Something that was under way when the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The part of the loop.
    pub part: Part,
    /// The epoch that it was about; for jobs and verdicts the last epoch computed, for a publication that too until it is
    /// applied.
    pub epoch: u64,
    /// The last point that it had passed.
    pub after: &'static str,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after `{}`, epoch {}", name(self.part), self.after, self.epoch)
    }
}

/// A part in one word.
pub fn name(part: Part) -> &'static str {
    match part {
        Part::Recovery => "recovery",
        Part::Commit => "commit",
        Part::Snapshot => "snapshot",
        Part::Job => "job",
        Part::Verdict => "verdict",
        Part::Swap => "swap",
        Part::Publication => "publication",
    }
}

/// What a run had under way when its trace ended, and the last epoch that it knew to be durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hits {
    recovery: Option<Hit>,
    commit: Option<Hit>,
    snapshot: Option<Hit>,
    job: Option<Hit>,
    verdict: Option<Hit>,
    swap: Option<Hit>,
    publication: Option<Hit>,
    /// The last epoch that was committed in this run; 0 when there was none.
    pub committed: u64,
    /// Whether live records were processed.
    pub was_live: bool,
}

impl Hits {
    /// Reads the log of one run.
    pub fn of(log: &str) -> Self {
        let mut hits = Self::default();
        for line in log.lines() {
            if let Some((point, epoch, struck)) = parse(line) {
                hits.pass(point, epoch, struck);
            }
        }
        hits
    }

    /// What was under way; empty between two epochs.
    pub fn all(&self) -> Vec<Hit> {
        let slots = [
            self.publication,
            self.swap,
            self.verdict,
            self.job,
            self.snapshot,
            self.commit,
            self.recovery,
        ];
        slots.into_iter().flatten().collect()
    }

    /// Takes a pass; one that was `struck` is what the process died of, whatever else it would mean.
    fn pass(&mut self, point: Point, epoch: u64, struck: bool) {
        let known = &POINTS[point as usize];
        let hit = Some(Hit {
            part: known.part,
            epoch,
            after: known.name,
        });
        match point {
            Point::EpochReplayed => self.recovery = hit,
            // Live: the start is over.
            Point::EpochComputed => {
                self.recovery = None;
                self.was_live = true;
            }
            Point::CommitBegins | Point::OutputsWritten => self.commit = hit,
            Point::CommitDone => self.committed(epoch),
            Point::SnapshotBegins
            | Point::SnapshotPackWritten
            | Point::SnapshotManifestWritten
            | Point::SnapshotPublished => self.snapshot = hit,
            Point::SnapshotDone => self.snapshot = None,
            Point::JobStarted | Point::JobTrained | Point::ArtifactPut | Point::JobFailed => self.job = hit,
            Point::VerdictDecided => self.verdict = hit,
            Point::SwapApplied | Point::SwapCommitted => self.swap = hit,
            Point::SwapNoted => self.swap = None,
            Point::PublicationDecided | Point::PublicationPut | Point::PublicationApplied => self.publication = hit,
            Point::PublicationCommitted => self.publication = None,
        }
        if struck {
            let slot = match known.part {
                Part::Recovery => &mut self.recovery,
                Part::Commit => &mut self.commit,
                Part::Snapshot => &mut self.snapshot,
                Part::Job => &mut self.job,
                Part::Verdict => &mut self.verdict,
                Part::Swap => &mut self.swap,
                Part::Publication => &mut self.publication,
            };
            *slot = hit;
        }
    }

    /// An epoch is durable, and with it the end of a job, a verdict or a publication that it records.
    fn committed(&mut self, epoch: u64) {
        self.committed = epoch;
        self.commit = None;
        let recorded = |hit: &Hit| epoch > hit.epoch;
        if self.verdict.as_ref().is_some_and(recorded) {
            self.verdict = None;
        }
        let names = |hit: &Hit| recorded(hit) || (hit.after == "publication-applied" && epoch == hit.epoch);
        if self.publication.as_ref().is_some_and(names) {
            self.publication = None;
        }
        let has_ended = |hit: &Hit| hit.after == "artifact-put" || hit.after == "job-failed";
        if self.job.as_ref().is_some_and(|hit| has_ended(hit) && recorded(hit)) {
            self.job = None;
        }
    }
}

/// `failpoint NAME epoch EPOCH pass PASS [kill|stall|later]`; whether the process died there.
fn parse(line: &str) -> Option<(Point, u64, bool)> {
    let mut words = line.strip_prefix("failpoint ")?.split(' ');
    let name = words.next()?;
    let point = POINTS.iter().find(|known| known.name == name)?.point;
    let epoch = words.nth(1)?.parse().ok()?;
    let struck = matches!(words.nth(2), Some("kill" | "stall"));
    Some((point, epoch, struck))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(trace: &str) -> Vec<String> {
        Hits::of(trace).all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_done_was_not_hit() {
        let done = "failpoint commit-begins epoch 3 pass 1\nfailpoint outputs-written epoch 3 pass 1\n\
            failpoint commit-done epoch 3 pass 1\nINFO something else\nfailpoint epoch-computed epoch 4 pass 2\n";
        assert_eq!(shown(done), [""; 0]);
        assert_eq!(Hits::of(done).committed, 3);
        assert_eq!(
            shown(&format!("{done}failpoint commit-begins epoch 4 pass 2\n")),
            ["commit after `commit-begins`, epoch 4"]
        );
    }

    #[test]
    fn the_point_that_kills_is_hit_even_where_it_is_an_end() {
        assert_eq!(
            shown("failpoint commit-done epoch 3 pass 2 kill\n"),
            ["commit after `commit-done`, epoch 3"]
        );
    }

    #[test]
    fn several_things_are_hit_at_once() {
        let trace = "failpoint job-started epoch 7 pass 1\nfailpoint swap-applied epoch 8 pass 1\n\
            failpoint commit-begins epoch 8 pass 8\nfailpoint swap-applied";
        assert_eq!(
            shown(trace),
            [
                "swap after `swap-applied`, epoch 8",
                "job after `job-started`, epoch 7",
                "commit after `commit-begins`, epoch 8"
            ]
        );
    }

    #[test]
    fn a_publication_ends_with_the_epoch_that_names_it() {
        let trace = "failpoint publication-decided epoch 7 pass 1\nfailpoint commit-done epoch 7 pass 7\n";
        assert_eq!(shown(trace), ["publication after `publication-decided`, epoch 7"]);
        let trace =
            format!("{trace}failpoint publication-put epoch 7 pass 1\nfailpoint publication-applied epoch 8 pass 1\n");
        assert_eq!(shown(&trace), ["publication after `publication-applied`, epoch 8"]);
        let trace = format!("{trace}failpoint commit-done epoch 8 pass 8\n");
        assert_eq!(shown(&trace), [""; 0]);
        // The engine's thread may be ahead of the committer's.
        let trace =
            format!("{trace}failpoint publication-applied epoch 10 pass 2\nfailpoint publication-put epoch 9 pass 2\n");
        assert_eq!(shown(&trace), ["publication after `publication-put`, epoch 9"]);
        assert_eq!(
            shown(&format!("{trace}failpoint commit-done epoch 10 pass 10\n")),
            [""; 0]
        );
        let held = "failpoint commit-done epoch 8 pass 8\nfailpoint publication-committed epoch 8 pass 1 stall\n";
        assert_eq!(shown(held), ["publication after `publication-committed`, epoch 8"]);
    }

    #[test]
    fn a_job_ends_with_the_epoch_that_records_its_end() {
        let trace = "failpoint job-started epoch 7 pass 1\nfailpoint commit-done epoch 8 pass 8\n\
            failpoint artifact-put epoch 9 pass 1\nfailpoint commit-done epoch 9 pass 9\n";
        assert_eq!(shown(trace), ["job after `artifact-put`, epoch 9"]);
        assert_eq!(
            shown(&format!("{trace}failpoint commit-done epoch 10 pass 10\n")),
            [""; 0]
        );
    }
}
