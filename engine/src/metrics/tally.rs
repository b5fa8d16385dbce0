//! Counters count committed work: what an epoch adds waits here until the epoch is durable, so that no counter ever
//! runs ahead of what a crash would leave.

use std::collections::VecDeque;

use prometheus::{Histogram, IntCounter};

/// What an epoch adds.
#[derive(Default)]
pub(super) struct Tally {
    additions: Vec<(IntCounter, u64)>,
    observations: Vec<(Histogram, f64)>,
}

impl Tally {
    /// Adds to a counter.
    pub(super) fn add(&mut self, counter: IntCounter, by: u64) {
        if by > 0 {
            self.additions.push((counter, by));
        }
    }

    /// Adds an observation.
    pub(super) fn observe(&mut self, histogram: &Histogram, value: f64) {
        self.observations.push((histogram.clone(), value));
    }

    fn count(self) {
        for (counter, by) in self.additions {
            counter.inc_by(by);
        }
        for (histogram, value) in self.observations {
            histogram.observe(value);
        }
    }
}

/// Tallies of epochs that are not durable yet: as many as the committer lets the engine run ahead.
#[derive(Default)]
pub(super) struct Tallies {
    durable: u64,
    waiting: VecDeque<(u64, Tally)>,
}

impl Tallies {
    /// An epoch was computed; epochs come in ascending order, one may come several times. What is learned from an
    /// epoch may be known only after the epoch was committed.
    pub(super) fn computed(&mut self, epoch: u64, tally: Tally) {
        if epoch <= self.durable {
            tally.count();
        } else {
            self.waiting.push_back((epoch, tally));
        }
    }

    /// All epochs up to this one are durable. The last one that is: an epoch that is written again after a replay may be
    /// older.
    pub(super) fn durable(&mut self, epoch: u64) -> u64 {
        self.durable = self.durable.max(epoch);
        while let Some((_, tally)) = self.waiting.pop_front_if(|(epoch, _)| *epoch <= self.durable) {
            tally.count();
        }
        self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_once_and_only_when_its_epoch_is_durable() {
        let counter = IntCounter::new("c", "h").unwrap();
        let tally = |by| {
            let mut tally = Tally::default();
            tally.add(counter.clone(), by);
            tally
        };
        let mut tallies = Tallies::default();
        tallies.computed(1, tally(1));
        tallies.computed(2, tally(10));
        tallies.computed(2, tally(100));
        tallies.computed(3, tally(1_000));
        assert_eq!(counter.get(), 0);
        tallies.durable(2);
        assert_eq!(counter.get(), 111);
        tallies.durable(2);
        assert_eq!(counter.get(), 111);
        tallies.durable(3);
        assert_eq!(counter.get(), 1_111);
        tallies.computed(3, tally(10_000));
        assert_eq!(counter.get(), 11_111, "learned after the commit");
    }
}
