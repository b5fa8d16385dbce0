//! Who competes with the live version, and how the evidence stands; and the online learner.

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Result};

use super::define::{Definer, Label, about};
use crate::learn::{Contestant, LearnHalf, Online};

const CONTESTANT: Label = (
    "contestant",
    "candidate: the model of a job; challenger: the online learner; former: the champion before",
);
const OF_GAIN: &[Label] = &[
    CONTESTANT,
    (
        "bound",
        "low and high: bounds that hold at any time at the error that is left; mean: the gain so far",
    ),
];

/// The metrics.
pub(super) struct Contests {
    gain: GaugeVec,
    blocks: IntGaugeVec,
    online_rows: IntGauge,
    online_bytes: IntGauge,
    held_back: IntGauge,
    snapshot_time: Gauge,
}

impl Contests {
    pub(super) fn new(add: &mut Definer<'_>) -> Result<Self> {
        Ok(Self {
            gain: add.floats(
                &about(
                    "driftmill_gate_gain_brier",
                    "brier loss",
                    "Loss of the live version (of the class prior before the first) less that of a contestant, on the \
                     same rows. Promoted when the lower bound is above `gain_min`.",
                ),
                OF_GAIN,
            )?,
            blocks: add.gauges(
                &about(
                    "driftmill_gate_blocks",
                    "blocks",
                    "Closed blocks of prediction time in a contestant's evidence; nothing is decided below 20.",
                ),
                &[CONTESTANT],
            )?,
            online_rows: add.gauge(&about(
                "driftmill_online_learned_rows",
                "rows",
                "Rows that the online learner has learned from since it began.",
            ))?,
            online_bytes: add.gauge(&about(
                "driftmill_online_bytes",
                "bytes",
                "Memory of the online learner.",
            ))?,
            held_back: add.gauge(&about(
                "driftmill_online_held_back",
                "1 or 0",
                "1 while no snapshot of the online learner goes live because it does worse than the one that serves, or \
                 because an operator went back from it.",
            ))?,
            snapshot_time: add.float(&about(
                "driftmill_online_last_snapshot_timestamp_seconds",
                "seconds since 1970, event time",
                "Event time of the last snapshot of the online learner, in shadow or live; 0 before the first.",
            ))?,
        })
    }

    /// Writes all series anew.
    pub(super) fn show(&self, learn: &LearnHalf, has_champion: bool) {
        self.gain.reset();
        self.blocks.reset();
        for (contestant, contest) in learn.contests() {
            let name = match contestant {
                Contestant::Candidate => "candidate",
                Contestant::Challenger => "challenger",
                Contestant::Former => "former",
            };
            let verdict = learn.verdict(contest, has_champion);
            self.blocks
                .with_label_values(&[name])
                .set(i64::try_from(verdict.blocks).unwrap_or(i64::MAX));
            // Before the first block there is nothing to show.
            if verdict.blocks > 0 {
                for (bound, value) in [
                    ("low", verdict.gain_low),
                    ("mean", verdict.gain),
                    ("high", verdict.gain_high),
                ] {
                    self.gain.with_label_values(&[name, bound]).set(value);
                }
            }
        }
        if let Some(online) = &learn.online {
            self.show_online(online);
        }
    }

    fn show_online(&self, online: &Online) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.online_rows.set(whole(online.seen()));
        self.online_bytes.set(whole(online.bytes() as u64));
        let held_back = online.is_barred() || online.held_back().is_some();
        self.held_back.set(i64::from(held_back));
        let at_ms = online.snapshot_ms().max(0);
        self.snapshot_time.set(at_ms as f64 / 1e3);
    }
}
