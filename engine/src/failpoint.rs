//! Failpoints: named places at which a test ends this process, or holds it, exactly there.
//!
//! `DRIFTMILL_FAILPOINT`, read once by `driftmill run`, holds words with commas between:
//!
//! - `trace` writes a line to standard error at every pass of every point;
//! - `NAME:COUNT` ends the process with SIGKILL at the COUNT-th pass of the point NAME;
//! - `NAME:COUNT:stall=MS` holds the passing thread there, so that a signal from outside hits that place;
//! - `NAME:COUNT:later=MS` goes on, and ends the process MS milliseconds later, in whatever follows.
//!
//! Nothing else can arm a point: no key of a configuration, no record, no request. Unarmed, a pass is one relaxed load.
//!
//! The crate `fail` does not serve here: its points are compiled in by a feature, so that the binary under test is not
//! the one that is shipped, and none of its actions ends a process without unwinding, which is all that is needed.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The variable that arms a point.
pub const VARIABLE: &str = "DRIFTMILL_FAILPOINT";

/// A place that can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented by its entry in POINTS")]
pub enum Point {
    EpochReplayed,
    EpochComputed,
    CommitBegins,
    OutputsWritten,
    CommitDone,
    SnapshotBegins,
    SnapshotPackWritten,
    SnapshotManifestWritten,
    SnapshotPublished,
    SnapshotDone,
    JobStarted,
    JobTrained,
    ArtifactPut,
    JobFailed,
    VerdictDecided,
    SwapApplied,
    SwapCommitted,
    SwapNoted,
    PublicationDecided,
    PublicationPut,
    PublicationApplied,
    PublicationCommitted,
}

/// The part of the loop that a kill at a point hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The start of a pipeline.
    Recovery,
    /// An epoch becomes durable.
    Commit,
    /// A snapshot is kept.
    Snapshot,
    /// A model is trained.
    Job,
    /// The gate decides.
    Verdict,
    /// Another version goes live.
    Swap,
    /// A newer snapshot of the live online learner goes live.
    Publication,
}

/// An entry of the list of failpoints.
#[derive(Debug)]
pub struct Failpoint {
    /// The place.
    pub point: Point,
    /// Its name in [`VARIABLE`] and in traces.
    pub name: &'static str,
    /// The part that it belongs to.
    pub part: Part,
    /// What has happened there, and what has not.
    pub doc: &'static str,
}

const fn entry(point: Point, name: &'static str, part: Part, doc: &'static str) -> Failpoint {
    Failpoint { point, name, part, doc }
}

/// All failpoints, in the order of [`Point`].
#[rustfmt::skip]
pub static POINTS: [Failpoint; 22] = [
    entry(Point::EpochReplayed, "epoch-replayed", Part::Recovery,
        "A start has replayed this epoch of the log; others follow."),
    entry(Point::EpochComputed, "epoch-computed", Part::Commit,
        "The epoch is part of the state in memory; the committer has not got it."),
    entry(Point::CommitBegins, "commit-begins", Part::Commit,
        "Nothing of the epoch was given to the sink. With `later` the kill comes while the sink writes."),
    entry(Point::OutputsWritten, "outputs-written", Part::Commit,
        "The sink has committed. At least once: the local log does not have the epoch's record yet."),
    entry(Point::CommitDone, "commit-done", Part::Commit,
        "The epoch is durable; nobody was told."),
    entry(Point::SnapshotBegins, "snapshot-begins", Part::Snapshot,
        "A snapshot of this committed epoch is in memory; nothing of it is on disk."),
    entry(Point::SnapshotPackWritten, "snapshot-pack-written", Part::Snapshot,
        "The snapshot's chunks are on disk; no manifest names them."),
    entry(Point::SnapshotManifestWritten, "snapshot-manifest-written", Part::Snapshot,
        "The snapshot stands; those that it replaces, and their packs, are still there."),
    entry(Point::SnapshotPublished, "snapshot-published", Part::Snapshot,
        "Old snapshots are removed; the epoch log is not trimmed."),
    entry(Point::SnapshotDone, "snapshot-done", Part::Snapshot,
        "The epoch log is trimmed as well."),
    entry(Point::JobStarted, "job-started", Part::Job,
        "A trainer was started: for a new job, whose event no epoch has recorded, or once more after a restart."),
    entry(Point::JobTrained, "job-trained", Part::Job,
        "The trainer has delivered an artifact; it is not in the registry."),
    entry(Point::ArtifactPut, "artifact-put", Part::Job,
        "The artifact is in the registry; no epoch names it."),
    entry(Point::JobFailed, "job-failed", Part::Job,
        "The trainer has failed; no epoch has recorded it."),
    entry(Point::VerdictDecided, "verdict-decided", Part::Verdict,
        "The gate has decided; no epoch has recorded it."),
    entry(Point::SwapApplied, "swap-applied", Part::Swap,
        "Another version is live in memory; the epoch that says so is not computed."),
    entry(Point::SwapCommitted, "swap-committed", Part::Swap,
        "The epoch of the swap is durable; the registry's history does not have it."),
    entry(Point::SwapNoted, "swap-noted", Part::Swap,
        "The registry's history has the swap."),
    entry(Point::PublicationDecided, "publication-decided", Part::Publication,
        "A snapshot of the live online learner is on its way to the registry; no epoch names it."),
    entry(Point::PublicationPut, "publication-put", Part::Publication,
        "A snapshot of the online learner, newly promoted or not, is in the registry; no durable epoch names it."),
    entry(Point::PublicationApplied, "publication-applied", Part::Publication,
        "A newer snapshot of the live line serves in memory; the epoch that says so is not computed."),
    entry(Point::PublicationCommitted, "publication-committed", Part::Publication,
        "The epoch that names the newer snapshot is durable; a snapshot of the state may not hold it yet."),
];

static IS_ARMED: AtomicBool = AtomicBool::new(false);
static PLAN: OnceLock<Plan> = OnceLock::new();
static PASSES: [AtomicU64; POINTS.len()] = [const { AtomicU64::new(0) }; POINTS.len()];

/// What [`VARIABLE`] asks for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    trace: bool,
    armed: Option<Armed>,
}

#[derive(Debug, PartialEq, Eq)]
struct Armed {
    point: Point,
    count: u64,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Stall(Duration),
    Later(Duration),
}

/// Passes a point in `epoch`, the epoch that is being worked on.
#[inline]
pub fn pass(point: Point, epoch: u64) {
    if IS_ARMED.load(Ordering::Relaxed) {
        passed(point, epoch);
    }
}

/// Arms what the environment asks for; an unset variable arms nothing. To be called once, before the pipeline starts.
///
/// # Errors
/// A text that asks for nothing known: a test that hits nothing must not look like one that passes.
pub fn arm_from_env() -> Result<(), String> {
    let Some(text) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let plan = parse(&text.to_string_lossy())?;
    tracing::warn!(?plan, "failpoints are armed by {VARIABLE}: for tests only");
    if PLAN.set(plan).is_ok() {
        IS_ARMED.store(true, Ordering::Release);
    }
    Ok(())
}

fn parse(text: &str) -> Result<Plan, String> {
    let mut plan = Plan {
        trace: false,
        armed: None,
    };
    for word in text.split(',') {
        match word {
            "trace" => plan.trace = true,
            _ if plan.armed.is_some() => return Err(format!("{VARIABLE}={text}: one point at a time")),
            _ => plan.armed = Some(parse_armed(word).ok_or_else(|| refusal(text))?),
        }
    }
    Ok(plan)
}

fn refusal(text: &str) -> String {
    let names: Vec<&str> = POINTS.iter().map(|known| known.name).collect();
    format!(
        "{VARIABLE}={text}: write `trace`, NAME:COUNT, NAME:COUNT:stall=MS or NAME:COUNT:later=MS; the names are {}",
        names.join(", ")
    )
}

fn parse_armed(word: &str) -> Option<Armed> {
    let mut parts = word.split(':');
    let name = parts.next()?;
    let point = POINTS.iter().find(|known| known.name == name)?.point;
    let count = parts.next()?.parse().ok().filter(|count| *count > 0)?;
    let action = match parts.next() {
        None => Action::Kill,
        Some(verb) => {
            let (verb, ms) = verb.split_once('=')?;
            let wait = Duration::from_millis(ms.parse().ok()?);
            match verb {
                "stall" => Action::Stall(wait),
                "later" => Action::Later(wait),
                _ => return None,
            }
        }
    };
    parts.next().is_none().then_some(Armed { point, count, action })
}

#[cold]
fn passed(point: Point, epoch: u64) {
    let Some(plan) = PLAN.get() else { return };
    let pass = PASSES[point as usize].fetch_add(1, Ordering::Relaxed) + 1;
    let armed = plan.armed.as_ref();
    let action = armed
        .filter(|armed| armed.point == point && armed.count == pass)
        .map(|armed| &armed.action);
    if plan.trace || action.is_some() {
        let verb = match action {
            None => "",
            Some(Action::Kill) => " kill",
            Some(Action::Stall(_)) => " stall",
            Some(Action::Later(_)) => " later",
        };
        announce(&format!(
            "failpoint {} epoch {epoch} pass {pass}{verb}\n",
            POINTS[point as usize].name
        ));
    }
    match action {
        None => {}
        Some(Action::Kill) => kill(),
        Some(Action::Stall(wait)) => std::thread::sleep(*wait),
        Some(Action::Later(wait)) => {
            let wait = *wait;
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                announce("failpoint: killed later\n");
                kill();
            });
        }
    }
}

/// One write, so that lines of several threads do not mix.
fn announce(line: &str) {
    // Where nobody reads standard error the point strikes all the same.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Ends this process as a kill from outside does: nothing is flushed, dropped or unwound.
fn kill() {
    #[expect(unsafe_code, reason = "the standard library has no call that sends a signal")]
    // SAFETY: both calls take numbers and touch no memory of ours.
    let _never = unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    // The signal may take a moment to arrive; nothing more may happen in this thread.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_list_is_in_order_and_each_entry_says_what_it_is() {
        for (index, known) in POINTS.iter().enumerate() {
            assert_eq!(known.point as usize, index, "{}", known.name);
            assert!(
                known.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{}",
                known.name
            );
            assert!(known.doc.ends_with('.') && known.doc.len() > 20, "{}", known.name);
            let same = POINTS.iter().filter(|other| other.name == known.name).count();
            assert_eq!(same, 1, "{} stands twice", known.name);
        }
    }

    /// The text of all source files below a folder.
    fn sources(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.file_name().is_some_and(|name| name != "failpoint.rs") {
                into.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_point_is_passed_somewhere() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        for known in &POINTS {
            let call = format!("Point::{:?},", known.point);
            assert!(text.contains(&call), "nothing passes {}", known.name);
        }
    }

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        let armed = |count, action| {
            Some(Armed {
                point: Point::CommitBegins,
                count,
                action,
            })
        };
        let understood = |text, trace, armed| assert_eq!(parse(text), Ok(Plan { trace, armed }), "{text}");
        understood("trace", true, None);
        understood("commit-begins:3", false, armed(3, Action::Kill));
        let wait = Duration::from_millis(20);
        understood("trace,commit-begins:1:stall=20", true, armed(1, Action::Stall(wait)));
        understood("commit-begins:1:later=20", false, armed(1, Action::Later(wait)));
        for text in [
            "",
            "commit",
            "commit-begins",
            "commit-begins:0",
            "commit-begins:1:later",
            "commit-begins:1:wait=3",
            "commit-begins:1:later=3:4",
            "commit-begins:1,commit-done:1",
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with("DRIFTMILL_FAILPOINT="), "{text}: {refused}");
        }
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        pass(Point::CommitBegins, 1);
        assert_eq!(PASSES[Point::CommitBegins as usize].load(Ordering::Relaxed), 0);
    }
}
