//! Kills the daemon with SIGKILL at random moments, again and again, while its input grows.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::daemon::Daemon;

/// How often and when.
#[derive(Debug, Clone)]
pub struct Kills {
    /// Decides the moments. What they hit depends on the machine too; the seed repeats the kind of run, not the run.
    pub seed: u64,
    /// How often.
    pub times: u32,
    /// How long after the start of the process, from here to there.
    pub after: Range<Duration>,
}

/// What one kill hit.
#[derive(Debug, Clone)]
pub struct Struck {
    /// How long the process had run.
    pub after: Duration,
    /// How long it took to be ready; `None` when the kill came first.
    pub ready: Option<Duration>,
    /// The last epoch it had committed by its own account; `None` when it did not answer.
    pub epoch: Option<u64>,
    /// The last line of its log: what it was at.
    pub was_at: String,
}

impl std::fmt::Display for Struck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "killed after {:?}", self.after)?;
        match (self.ready, self.epoch) {
            (Some(ready), Some(epoch)) => write!(f, ", ready after {ready:?}, epoch {epoch} committed")?,
            (Some(ready), None) => write!(f, ", ready after {ready:?}")?,
            (None, _) => write!(f, ", not ready yet")?,
        }
        write!(f, "; {}", self.was_at)
    }
}

impl Kills {
    /// Runs the daemon `times` times: `start` starts it, `feed` (given the round) adds input while it works, and at a
    /// random moment it is killed. Each kill is printed. The daemon must be started once more to work off the rest.
    ///
    /// # Panics
    /// When the daemon ends by itself before its kill.
    pub fn run(&self, mut start: impl FnMut() -> Daemon, mut feed: impl FnMut(u32)) -> Vec<Struck> {
        eprintln!("{} kills, seed {}", self.times, self.seed);
        let mut random = Pcg64Mcg::seed_from_u64(self.seed);
        let mut struck = Vec::new();
        for round in 0..self.times {
            let after = random.random_range(self.after.clone());
            let mut daemon = start();
            let started = Instant::now();
            feed(round);
            let hit = strike(&mut daemon, started, after);
            eprintln!("  {round}: {hit}");
            struck.push(hit);
        }
        struck
    }
}

/// Watches the daemon until its moment has come, then kills it.
fn strike(daemon: &mut Daemon, started: Instant, after: Duration) -> Struck {
    let (mut ready, mut epoch) = (None, None);
    while started.elapsed() < after {
        if let Some(status) = daemon.exited() {
            panic!("the daemon ended by itself ({status}):\n{}", daemon.log());
        }
        if ready.is_none() && daemon.is_ready() {
            ready = Some(started.elapsed());
        }
        let left = after.saturating_sub(started.elapsed());
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
    if ready.is_some() {
        let committed = daemon
            .metrics()
            .and_then(|metrics| metrics.get("driftmill_epoch_committed", &[]));
        epoch = committed.map(|epoch| epoch as u64);
    }
    daemon.kill();
    Struck {
        after: started.elapsed(),
        ready,
        epoch,
        was_at: daemon.last_line(),
    }
}
