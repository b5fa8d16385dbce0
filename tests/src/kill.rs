//! Kills the daemon with SIGKILL, again and again, while its input grows: at random moments, or at chosen places.

use std::fmt;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::daemon::Daemon;
use crate::hits::Hits;

/// How often the harness looks at a daemon that is to be killed.
const LOOK: Duration = Duration::from_millis(20);

/// How long a held thread would wait for its kill: longer than any test.
const HELD_MS: u32 = 3_600_000;

/// When or where a daemon is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// So long after its start, from outside.
    Moment(Duration),
    /// At the count-th pass of a failpoint, by itself.
    At(&'static str, u32),
    /// There from outside, while the passing thread is held.
    Held(&'static str, u32),
    /// So many milliseconds after that pass, by itself.
    Later(&'static str, u32, u32),
}

impl Aim {
    /// The value of [`driftmill::failpoint::VARIABLE`] for it. Passes are traced in any case: the trace tells what was hit.
    pub fn variable(&self) -> String {
        match self {
            Self::Moment(_) => "trace".to_owned(),
            Self::At(point, count) => format!("trace,{point}:{count}"),
            Self::Held(point, count) => format!("trace,{point}:{count}:stall={HELD_MS}"),
            Self::Later(point, count, ms) => format!("trace,{point}:{count}:later={ms}"),
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moment(after) => write!(f, "random, {:.1} s after the start", after.as_secs_f64()),
            Self::At(point, count) => write!(f, "`{point}`, pass {count}"),
            Self::Held(point, count) => write!(f, "`{point}`, pass {count}, held"),
            Self::Later(point, count, ms) => write!(f, "{ms} ms after `{point}`, pass {count}"),
        }
    }
}

/// What one kill hit.
#[derive(Debug, Clone)]
pub struct Struck {
    /// Where it was aimed.
    pub aim: Aim,
    /// How long the process had run.
    pub after: Duration,
    /// How long it took to be ready; `None` when the kill came first. Where nobody had looked in time, how long it took at
    /// most: until its death.
    pub ready: Option<Duration>,
    /// What was under way.
    pub hits: Hits,
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aimed at {}; killed after {:?}", self.aim, self.after)?;
        match self.ready {
            Some(ready) => write!(f, ", ready after {ready:?}")?,
            None => write!(f, ", not ready yet")?,
        }
        write!(f, "; hit {}", self.told())
    }
}

impl Struck {
    /// What was hit, in words.
    pub fn told(&self) -> String {
        let hits: Vec<String> = self.hits.all().iter().map(ToString::to_string).collect();
        match (hits.is_empty(), self.hits.committed) {
            (false, _) => hits.join("; "),
            (true, 0) => "the start, before any epoch".to_owned(),
            (true, committed) => format!("nothing under way, epoch {committed} committed"),
        }
    }
}

/// Watches a daemon that was started with [`Aim::variable`] until it is killed. `feed` is called at every look.
///
/// # Panics
/// When the daemon ends in another way, or its place is not reached within `limit`.
pub fn strike(daemon: &mut Daemon, aim: &Aim, limit: Duration, mut feed: impl FnMut(&Daemon)) -> Struck {
    let mut ready = None;
    loop {
        if let Some(status) = daemon.exited() {
            let by_itself = matches!(aim, Aim::At(..) | Aim::Later(..)) && status.signal() == Some(9);
            assert!(
                by_itself,
                "the daemon ended by itself ({status}):\n{}",
                daemon.log_of_run()
            );
            break;
        }
        if ready.is_none() && daemon.is_ready() {
            ready = Some(daemon.age());
        }
        let is_due = match aim {
            Aim::Moment(after) => daemon.age() >= *after,
            Aim::Held(..) => daemon.log_of_run().contains(" stall\n"),
            Aim::At(..) | Aim::Later(..) => false,
        };
        if is_due {
            daemon.kill();
            break;
        }
        assert!(
            daemon.age() < limit,
            "not within {limit:?}: {aim}\n{}",
            daemon.log_of_run()
        );
        feed(daemon);
        let left = match aim {
            Aim::Moment(after) => after.saturating_sub(daemon.age()),
            _ => LOOK,
        };
        std::thread::sleep(left.min(LOOK));
    }
    let (after, hits) = (daemon.age(), Hits::of(&daemon.log_of_run()));
    Struck {
        aim: aim.clone(),
        after,
        ready: ready.or(hits.was_live.then_some(after)),
        hits,
    }
}

/// Kills at random moments: how often and when.
#[derive(Debug, Clone)]
pub struct Kills {
    /// Decides the moments. What they hit depends on the machine too; the seed repeats the kind of run, not the run.
    pub seed: u64,
    /// How often.
    pub times: u32,
    /// How long after the start of the process, from here to there.
    pub after: Range<Duration>,
}

impl Kills {
    /// Runs the daemon `times` times: `start` starts it with a failpoint variable, `feed` (given the round) adds input, and
    /// at a random moment it is killed. Each kill is printed. The daemon must be started once more to work off the rest.
    ///
    /// # Panics
    /// When the daemon ends by itself before its kill.
    pub fn run(&self, mut start: impl FnMut(&str) -> Daemon, mut feed: impl FnMut(u32)) -> Vec<Struck> {
        eprintln!("{} kills, seed {}", self.times, self.seed);
        let mut random = Pcg64Mcg::seed_from_u64(self.seed);
        let mut struck = Vec::new();
        for round in 0..self.times {
            let aim = Aim::Moment(random.random_range(self.after.clone()));
            let mut daemon = start(&aim.variable());
            feed(round);
            let hit = strike(&mut daemon, &aim, Duration::MAX, |_| {});
            eprintln!("  {round}: {hit}");
            struck.push(hit);
        }
        struck
    }
}
