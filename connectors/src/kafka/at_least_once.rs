//! Delivery at least once: an idempotent producer, everything acknowledged before a commit returns. After trouble the
//! same epochs are sent again as a whole, so that the order within a partition stays that of the epochs.

use std::thread;
use std::time::Duration;

use rdkafka::producer::Producer as _;

use super::context::{Failure, close};
use super::explain;
use super::group::GroupOffsets;
use super::native::Outlet;
use super::producer::{describe, enqueue, is_hopeless, take_failure};
use super::sink::Plan;
use crate::error::ConnectError;
use crate::sink::{Sink, SinkError, Unit};

/// Between two attempts.
const BACKOFF: Duration = Duration::from_millis(100);

pub(super) struct AtLeastOnce {
    plan: Plan,
    outlet: Option<Outlet>,
    group: GroupOffsets,
}

impl AtLeastOnce {
    pub(super) fn connect(plan: Plan) -> Result<Self, ConnectError> {
        let outlet = Some(plan.outlet()?);
        let group = GroupOffsets::start(&plan.connection, &plan.name());
        let group = group.map_err(|error| explain(&plan.place(), &error, None))?;
        Ok(Self { plan, outlet, group })
    }

    /// The producer; a new one when the last was given up.
    fn outlet(&mut self) -> Result<&Outlet, ConnectError> {
        let outlet = match self.outlet.take() {
            Some(outlet) => outlet,
            None => self.plan.outlet()?,
        };
        Ok(self.outlet.insert(outlet))
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
        self.group.publish(units);
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
        // Both end at the same time; the group is waited for when it is dropped itself.
        self.group.end();
        close(self.outlet.take());
    }
}
