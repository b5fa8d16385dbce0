//! Delivery at least once: an idempotent producer, everything acknowledged before a commit returns. After trouble the
//! same epochs are sent again as a whole, so that the order within a partition stays that of the epochs.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{Consumer, Failure, close};
use super::explain;
use super::native::Outlet;
use super::producer::{describe, enqueue, is_hopeless, take_failure};
use super::sink::Plan;
use super::source::consumer;
use crate::error::ConnectError;
use crate::sink::{Sink, SinkError, Unit};

/// Group offsets are published at most so often; they are for lag tools only.
const PUBLISH: Duration = Duration::from_secs(1);
/// Between two attempts.
const BACKOFF: Duration = Duration::from_millis(100);

pub(super) struct AtLeastOnce {
    plan: Plan,
    outlet: Option<Outlet>,
    group: Option<Consumer>,
    published: Option<Instant>,
    pending: TopicPartitionList,
}

impl AtLeastOnce {
    pub(super) fn connect(plan: Plan) -> Result<Self, ConnectError> {
        let outlet = Some(plan.outlet()?);
        let group = consumer(&plan.connection, &plan.name());
        let group = Some(group.map_err(|error| explain(&plan.place(), &error, None))?);
        Ok(Self {
            plan,
            outlet,
            group,
            published: None,
            pending: TopicPartitionList::new(),
        })
    }

    /// The producer; a new one when the last was given up.
    fn outlet(&mut self) -> Result<&Outlet, ConnectError> {
        let outlet = match self.outlet.take() {
            Some(outlet) => outlet,
            None => self.plan.outlet()?,
        };
        Ok(self.outlet.insert(outlet))
    }

    fn publish(&mut self, units: &[Unit]) {
        for (topic, partition, next) in units.iter().flat_map(|unit| &unit.offsets) {
            set_offset(&mut self.pending, topic, *partition, *next);
        }
        let Some(group) = &self.group else { return };
        // Serves the answer to the last commit.
        let _ = group.poll(Duration::ZERO);
        if self.pending.count() == 0 || self.published.is_some_and(|at| at.elapsed() < PUBLISH) {
            return;
        }
        self.published = Some(Instant::now());
        if let Err(error) = group.commit(&self.pending, CommitMode::Async) {
            tracing::debug!(%error, "group offsets were not published");
        }
        self.pending = TopicPartitionList::new();
    }
}

/// Sets the offset of a partition in a list, adding the partition when it is not there.
pub(super) fn set_offset(list: &mut TopicPartitionList, topic: &str, partition: i32, next: i64) {
    let offset = Offset::Offset(next);
    let set = match list.find_partition(topic, partition) {
        Some(mut element) => element.set_offset(offset),
        None => list.add_partition_offset(topic, partition, offset),
    };
    if let Err(error) = set {
        tracing::debug!(%error, topic, partition, next, "this offset cannot be published");
    }
}

/// Puts the outputs of all units into the queue.
pub(super) fn enqueue_outputs(plan: &Plan, outlet: &Outlet, unit: &Unit) -> Result<(), Failure> {
    for (destination, records) in &unit.outputs {
        let Some(topic) = plan.index(*destination) else {
            continue;
        };
        for record in records.iter() {
            enqueue(outlet, topic, None, &record)?;
        }
    }
    Ok(())
}

fn send(plan: &Plan, outlet: &Outlet, units: &[Unit]) -> Result<(), Failure> {
    // What failed before belongs to an attempt that was given up.
    take_failure(outlet);
    units.iter().try_for_each(|unit| enqueue_outputs(plan, outlet, unit))?;
    while !outlet.flush(Duration::from_millis(20)) {
        take_failure(outlet).map_or(Ok(()), Err)?;
    }
    outlet.context().take_failure().map_or(Ok(()), Err)
}

impl Sink for AtLeastOnce {
    fn commit(&mut self, units: &[Unit]) -> Result<(), SinkError> {
        let plan = self.plan.clone();
        loop {
            let outlet = self.outlet()?;
            let Err(failure) = send(&plan, outlet, units) else {
                break;
            };
            let fatal = outlet.producer().client().fatal_error();
            close(self.outlet.take());
            let error = describe(&plan.place(), &failure);
            if is_hopeless(&failure) {
                return Err(SinkError::Fatal(error));
            }
            tracing::warn!(%error, ?fatal, "sending these epochs again");
            thread::sleep(BACKOFF);
        }
        self.publish(units);
        Ok(())
    }

    fn recover(&mut self, _each: &mut dyn FnMut(&[u8]) -> Result<u64, ConnectError>) -> Result<(), SinkError> {
        Ok(())
    }

    fn trim(&mut self, _below_epoch: u64) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Drop for AtLeastOnce {
    fn drop(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let (outlet, group) = (self.outlet.take(), self.group.take());
        close(Closing { outlet, group, pending });
    }
}

/// Publishes the last offsets on its way out.
struct Closing {
    outlet: Option<Outlet>,
    group: Option<Consumer>,
    pending: TopicPartitionList,
}

impl Drop for Closing {
    fn drop(&mut self) {
        drop(self.outlet.take());
        if let Some(group) = self.group.take()
            && self.pending.count() > 0
            && let Err(error) = group.commit(&self.pending, CommitMode::Sync)
        {
            tracing::debug!(%error, "the last group offsets were not published");
        }
    }
}
