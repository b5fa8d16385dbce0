//! A seeded world of card payments in simulated time: payments, and later, for some of them, whether they were
//! fraud. It serves the demonstration, tests and `driftmill generate`.
//!
//! The story: about one payment in ninety is fraud of a known kind. At a moment of choice a new kind takes over most
//! of it, in payments that used to be harmless. Before that, one merchant's feed may send cents for euros for a while:
//! bad data, not a new world. A few records are malformed, a few are tests.
//!
//! Pure: the same settings give the same bytes in the same order. Nothing here reads a clock but [`feed`].

pub mod feed;
mod json;
#[cfg(test)]
mod learnability;
mod world;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

pub use world::{Fault, Form, Pattern};
use world::{Payment, World};

/// Settings of a world. Durations are simulated time since its start.
#[derive(Debug, Clone)]
pub struct PaymentsConfig {
    /// Another seed, other payments.
    pub seed: u64,
    /// When the first payment is made, in milliseconds since 1970. Ids are unique among worlds of different starts.
    pub start_ms: i64,
    /// Payments in a simulated second; 0 counts as 1.
    pub rate_per_s: u32,
    /// When the new fraud comes, if ever.
    pub drift_at: Option<Duration>,
    /// From when to when one merchant in a hundred payments sends cents for euros.
    pub bad_feed: Option<(Duration, Duration)>,
    /// Share of fraud, before and after the change.
    pub fraud_rate: f64,
    /// Share of payments whose outcome becomes known, whatever it is.
    pub label_share: f64,
    /// How long that takes.
    pub label_delay: LabelDelay,
    /// Share of records that cannot be decoded.
    pub malformed_share: f64,
    /// Share of test payments, which the SQL of the demonstration filters.
    pub test_share: f64,
}

/// Time from a payment to its outcome: log-normal, cut off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelDelay {
    /// Median in simulated seconds.
    pub median_s: f64,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Longest delay in simulated seconds: bounds what the generator remembers.
    pub max_s: f64,
}

impl Default for PaymentsConfig {
    /// The demonstration's minute.
    fn default() -> Self {
        Self {
            seed: 0,
            start_ms: 1_767_225_600_000,
            rate_per_s: 20_000,
            drift_at: Some(Duration::from_secs(31)),
            bad_feed: Some((Duration::from_secs(17), Duration::from_secs(23))),
            fraud_rate: 0.011,
            label_share: 0.5,
            label_delay: LabelDelay {
                median_s: 0.6,
                sigma: 0.5,
                max_s: 5.0,
            },
            malformed_share: 0.000_25,
            test_share: 0.000_5,
        }
    }
}

impl PaymentsConfig {
    /// A moment of simulated time in milliseconds since 1970.
    #[must_use]
    pub fn moment_ms(&self, after: Duration) -> i64 {
        self.start_ms
            .saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Where a record belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topic {
    /// Payments as they are made.
    #[default]
    Payments,
    /// What became of them.
    Outcomes,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Produced {
    /// Where it belongs.
    pub topic: Topic,
    /// When it is written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The payment's id.
    pub key: Vec<u8>,
    /// JSON.
    pub payload: Vec<u8>,
}

/// What really happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    /// When the payment was made, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who paid.
    pub pattern: Pattern,
    /// The amount in cents of a euro, whatever the feed said.
    pub amount_cents: u64,
    /// How its record is fit to be processed.
    pub form: Form,
    /// Whether its record has cents for euros.
    pub in_cents: bool,
    /// When its outcome becomes known, in milliseconds since 1970.
    pub outcome_ms: Option<i64>,
}

impl Truth {
    /// Whether the payment was fraud.
    #[must_use]
    pub fn fraud(&self) -> bool {
        self.pattern != Pattern::Honest
    }
}

/// What has been produced so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records of payments, all of them.
    pub payments: u64,
    /// Of these, fraud.
    pub frauds: u64,
    /// Of these, tests.
    pub tests: u64,
    /// Of these, malformed.
    pub malformed: u64,
    /// Of these, well formed, no tests, and in cents for euros.
    pub in_cents: u64,
    /// Records of outcomes.
    pub outcomes: u64,
}

/// An outcome that is not known yet; ordered by when it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    at_ms: i64,
    number: u64,
    fraud: bool,
}

/// Answers what really happened; cheap to clone into another thread.
#[derive(Clone)]
pub struct Oracle(std::sync::Arc<World>);

impl Oracle {
    /// The truth about a payment; `None` for an id that is none of this world's. As it is computed anew and not
    /// kept, it can be asked at any time, also about payments not made yet.
    #[must_use]
    pub fn truth(&self, payment_id: &str) -> Option<Truth> {
        let number = json::number(self.0.config().start_ms, payment_id)?;
        Some(truth(&self.0.payment(number)))
    }

    /// The truth about the payments made in `[from_ms, to_ms)`, in order.
    pub fn between(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = Truth> {
        let first = self.first_at(from_ms);
        (first..self.first_at(to_ms).max(first)).map(|number| truth(&self.0.payment(number)))
    }

    /// The number of the first payment made at `moment_ms` or later.
    fn first_at(&self, moment_ms: i64) -> u64 {
        let config = self.0.config();
        let after = u64::try_from(moment_ms.saturating_sub(config.start_ms)).unwrap_or(0);
        let number = (u128::from(after) * u128::from(config.rate_per_s.max(1))).div_ceil(1_000);
        u64::try_from(number).unwrap_or(u64::MAX)
    }
}

fn truth(payment: &Payment) -> Truth {
    Truth {
        at_ms: payment.at_ms,
        pattern: payment.pattern,
        amount_cents: payment.amount_cents,
        form: payment.form,
        in_cents: payment.in_cents,
        outcome_ms: payment.outcome_ms,
    }
}

/// All records of a world in order of time, an outcome before a payment of the same millisecond. Endless. Remembers
/// the outcomes that are not known yet, at most `rate_per_s * label_share * max_s` of them.
pub struct Payments {
    world: std::sync::Arc<World>,
    next: u64,
    pending: BinaryHeap<Reverse<Pending>>,
    counts: Counts,
}

impl Payments {
    /// Starts a world.
    #[must_use]
    pub fn new(config: PaymentsConfig) -> Self {
        Self {
            world: std::sync::Arc::new(World::new(config)),
            next: 0,
            pending: BinaryHeap::new(),
            counts: Counts::default(),
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &PaymentsConfig {
        self.world.config()
    }

    /// Who knows the truth about this world.
    #[must_use]
    pub fn oracle(&self) -> Oracle {
        Oracle(std::sync::Arc::clone(&self.world))
    }

    /// What has been produced so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The timestamp of the next record, in milliseconds since 1970.
    #[must_use]
    pub fn next_at_ms(&self) -> i64 {
        let payment = self.world.at_ms(self.next);
        self.pending
            .peek()
            .map_or(payment, |Reverse(pending)| pending.at_ms.min(payment))
    }

    /// Writes the next record over `out`, whose memory is used again.
    pub fn advance(&mut self, out: &mut Produced) {
        out.key.clear();
        out.payload.clear();
        let payment_at_ms = self.world.at_ms(self.next);
        match self.pending.peek() {
            Some(Reverse(pending)) if pending.at_ms <= payment_at_ms => self.outcome(out),
            _ => self.payment(out),
        }
    }

    fn outcome(&mut self, out: &mut Produced) {
        let Some(Reverse(pending)) = self.pending.pop() else {
            return;
        };
        json::id(self.config().start_ms, pending.number, &mut out.key);
        json::outcome(&out.key, pending.at_ms, pending.fraud, &mut out.payload);
        out.topic = Topic::Outcomes;
        out.timestamp_ms = pending.at_ms;
        self.counts.outcomes += 1;
    }

    fn payment(&mut self, out: &mut Produced) {
        let number = self.next;
        let payment = self.world.payment(number);
        json::id(self.config().start_ms, number, &mut out.key);
        json::payment(&out.key, &payment, &mut out.payload);
        out.topic = Topic::Payments;
        out.timestamp_ms = payment.at_ms;
        self.next += 1;
        let fraud = payment.pattern != Pattern::Honest;
        if let Some(at_ms) = payment.outcome_ms {
            self.pending.push(Reverse(Pending { at_ms, number, fraud }));
        }
        self.counts.payments += 1;
        self.counts.frauds += u64::from(fraud);
        self.counts.tests += u64::from(payment.form == Form::Test);
        self.counts.malformed += u64::from(matches!(payment.form, Form::Malformed(_)));
        self.counts.in_cents += u64::from(payment.in_cents && payment.form == Form::Ordinary);
    }
}

impl Iterator for Payments {
    type Item = Produced;

    /// Never `None`.
    fn next(&mut self) -> Option<Produced> {
        let mut record = Produced::default();
        self.advance(&mut record);
        Some(record)
    }
}

#[cfg(test)]
mod tests;
