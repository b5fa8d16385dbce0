//! What a change of the live version costs the thread that processes epochs, told in trace events: for each step of
//! each change, how long no epoch went on. `DRIFTMILL_LOG=info,driftmill::swap=trace` shows them.

use std::time::Instant;

/// The target of the events.
const TARGET: &str = "driftmill::swap";

/// A step of a change, as long as this thread is at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step(Instant);

impl Step {
    /// It begins.
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    /// It was one of a change of the live version, and is over.
    pub(super) fn over(self, name: &'static str, epoch: u64) {
        let held_ns = u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        tracing::trace!(target: TARGET, epoch, step = name, held_ns, "held up");
    }
}
