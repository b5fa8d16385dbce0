//! The engine's thread: epochs, one after the other, live and in replay.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use driftmill_connectors::{Delivery, Destination, Encoded, Partition, SourceEvent, Start, Unit};
use driftmill_models::artifact::Artifact;
use driftmill_models::model::Model;

use crate::clock::Clock;
use crate::committer::{Committer, Work};
use crate::daemon::plans::PlanBook;
use crate::daemon::{DRAIN_MAX, RunError, Status, Summary};
use crate::epoch_log::{Counts, EpochRecord, Event, Range};
use crate::intake::{Cut, EpochInput, Intake, LaneId, LaneRange, ReaderEvent, ReaderHandle, Stream};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::score::{Deployment, ScoreHalf, Scored, Stamp};
use crate::settings::{Plan, Settings};
use crate::snapshot::{Meta, SnapshotStore, state_hash};
use crate::state::{LaneName, PipelineState};

/// Longest wait for records before the engine looks after other things.
const TICK: Duration = Duration::from_millis(50);

/// Version of the code, part of every epoch record.
pub(super) const CODE: &str = env!("CARGO_PKG_VERSION");

/// A pipeline at work.
pub(super) struct Engine {
    pub(super) settings: Settings,
    pub(super) plan: Arc<Plan>,
    pub(super) plans: PlanBook,
    pub(super) topics: Vec<String>,
    pub(super) state: PipelineState,
    pub(super) deployment: Deployment,
    pub(super) score: ScoreHalf,
    pub(super) intake: Intake,
    pub(super) reader: ReaderHandle,
    pub(super) events: Receiver<ReaderEvent>,
    pub(super) committer: Committer,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Status>,
    pub(super) stop: Arc<std::sync::atomic::AtomicBool>,
    /// Events that the next live epoch records and applies.
    pub(super) pending: Vec<Event>,
    /// Whether every epoch of the state went to the committer.
    pub(super) handed_over: bool,
    pub(super) lock: crate::disk::LockFile,
    pub(super) snapshot_epoch: u64,
    pub(super) snapshot_at: Instant,
    pub(super) last_time_ms: i64,
}

impl Engine {
    fn lane_name(&self, id: LaneId) -> LaneName {
        let topic = self.topics.get(id.partition.topic as usize).cloned().unwrap_or_default();
        LaneName { stream: id.stream, topic, partition: id.partition.partition }
    }

    fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// Processes live records until the end is asked for.
    pub(super) fn live(&mut self) -> Result<(), RunError> {
        self.pending.insert(0, Event::Start { code: CODE.to_owned() });
        self.status.set(true, "live");
        self.metrics.ready.set(1);
        let mut wait = Duration::ZERO;
        while self.go_on() {
            self.committer.check()?;
            self.receive(wait)?;
            self.report();
            let now = Instant::now();
            wait = match self.intake.due(now) {
                Cut::Now => {
                    let input = self.intake.cut(now);
                    self.live_epoch(input, now)?;
                    Duration::ZERO
                }
                Cut::Wait(_) if !self.pending.is_empty() => {
                    self.live_epoch(EpochInput::default(), now)?;
                    Duration::ZERO
                }
                Cut::Wait(wait) => wait.min(TICK),
            };
            self.snapshot_if_due()?;
        }
        Ok(())
    }

    /// Takes what the readers have brought; waits up to `wait` for the first of it.
    fn receive(&mut self, wait: Duration) -> Result<(), RunError> {
        let mut event = match self.events.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            // The reader's thread has panicked; its handle will be dropped with the engine.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(RunError::Recovery("a reading thread ended unexpectedly; please report it".to_owned()));
            }
        };
        let now = Instant::now();
        while let Some(taken) = event {
            match taken {
                ReaderEvent::Failed(_, error) => return Err(error.into()),
                ReaderEvent::Source(stream, event) => self.take(stream, event, now)?,
            }
            event = self.events.try_recv().ok();
        }
        Ok(())
    }

    fn take(&mut self, stream: Stream, event: SourceEvent, now: Instant) -> Result<(), RunError> {
        let lane = |partition| LaneId { stream, partition };
        match event {
            SourceEvent::Records(records) => self.intake.push(lane(records.partition()), records, now),
            SourceEvent::End { partition, next } => self.intake.reached_end(lane(partition), next),
            SourceEvent::Added(partition) => self.add_partition(lane(partition), now),
            SourceEvent::Gap { partition, expected, oldest, newest } => {
                let name = self.lane_name(lane(partition));
                return Err(gap(&name, expected, oldest, newest));
            }
        }
        Ok(())
    }

    /// A partition that has come to be joins at the next epoch, from its beginning.
    fn add_partition(&mut self, id: LaneId, now: Instant) {
        let name = self.lane_name(id);
        tracing::info!(topic = name.topic, partition = name.partition, "a new partition joins");
        self.intake.add(id, 0, now);
        self.pending.push(Event::PartitionAdded { topic: name.topic, partition: name.partition });
        let mut positions: Vec<(Partition, Start)> =
            self.intake.lanes().map(|(id, lane)| (id.partition, Start::Offset(lane.received()))).collect();
        if let Some(added) = positions.iter_mut().find(|(partition, _)| *partition == id.partition) {
            added.1 = Start::Oldest;
        }
        self.reader.assign(positions);
    }

    fn report(&self) {
        let bytes = self.intake.bytes();
        self.reader.report(bytes, self.intake.is_starving());
        self.metrics.buffered_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.lag.with_label_values(&["source"]).set(self.reader.lag());
        let troubles = i64::try_from(self.reader.troubles()).unwrap_or(i64::MAX);
        self.metrics.troubles.with_label_values(&["source"]).set(troubles);
    }

    fn live_epoch(&mut self, input: EpochInput, arrived: Instant) -> Result<(), RunError> {
        let arrived = input.arrived.unwrap_or(arrived);
        self.reader.taken(input.source.len());
        let events = std::mem::take(&mut self.pending);
        // A stamp never runs backwards, whatever the machine's clock does.
        let time_ms = self.clock.now_ms().max(self.last_time_ms);
        self.last_time_ms = time_ms;
        let epoch = self.state.epoch + 1;
        self.apply_events(&events, epoch)?;
        let scored = self.score_epoch(&input, epoch)?;
        let record = self.record(&input, epoch, time_ms, events, &scored);
        self.advance(&input, &record);
        let (outputs, bytes) = (outputs_of(scored), record.to_bytes());
        let unit = Unit { epoch, outputs, record: bytes, offsets: self.offsets(&input) };
        let local = self.settings.pipeline.delivery == Delivery::AtLeastOnce;
        let work = Work::Epoch { unit, record: local.then_some(record), arrived };
        let go_on = || !self.stop.load(Ordering::Acquire);
        // An epoch that could not be handed over before the end is computed again at the next start.
        self.handed_over &= self.committer.send(work, &go_on)?;
        Ok(())
    }

    /// Replays one epoch from its record. In at-least-once mode its outputs are written again: the crash may have
    /// come before they were.
    pub(super) fn replay_epoch(&mut self, record: &EpochRecord, emit: bool) -> Result<(), RunError> {
        let ranges = self.lane_ranges(&record.ranges)?;
        while !self.intake.holds(&ranges) {
            if !self.go_on() {
                return Ok(());
            }
            self.committer.check()?;
            self.receive(TICK)?;
            self.report();
        }
        let arrived = Instant::now();
        let input = self.intake.take(&ranges, arrived);
        self.reader.taken(input.source.len());
        self.apply_events(&record.events, record.epoch)?;
        let scored = self.score_epoch(&input, record.epoch)?;
        let found = hash_outputs(&scored);
        if found != record.outputs || counts(&input, &scored) != record.counts {
            let (expected, code) = (record.outputs.clone(), record.code.clone());
            return Err(RunError::Diverged { epoch: record.epoch, expected, found, code });
        }
        self.last_time_ms = record.time_ms;
        self.advance(&input, record);
        if emit {
            let offsets = self.offsets(&input);
            let unit = Unit { epoch: record.epoch, outputs: outputs_of(scored), record: Vec::new(), offsets };
            let go_on = || !self.stop.load(Ordering::Acquire);
            self.handed_over &= self.committer.send(Work::Epoch { unit, record: None, arrived }, &go_on)?;
        }
        Ok(())
    }

    fn apply_events(&mut self, events: &[Event], epoch: u64) -> Result<(), RunError> {
        let live_before = self.state.live;
        for event in events {
            self.state.apply(event, epoch).map_err(RunError::Recovery)?;
            if let Event::PlanSwitched { plan } = event {
                self.switch_plan(plan)?;
            }
            if let Event::PartitionAdded { topic, partition } = event {
                let name = LaneName { stream: Stream::Source, topic: topic.clone(), partition: *partition };
                self.state.positions.entry(name).or_insert(0);
            }
        }
        if self.state.live != live_before {
            let swapped = Instant::now();
            self.deploy()?;
            self.metrics.swaps.inc();
            let took_us = u64::try_from(swapped.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::info!(version = self.deployment.version, epoch, took_us, "live");
        }
        Ok(())
    }

    pub(super) fn switch_plan(&mut self, hash: &str) -> Result<(), RunError> {
        let plan = self.plans.get(hash)?;
        if plan.columns.specs != self.plan.columns.specs {
            self.state.replace_features(&plan.columns.specs);
        }
        self.score = ScoreHalf::new(Arc::clone(&plan), &self.topics)?;
        self.plan = plan;
        self.deploy()
    }

    /// Loads the live version of the state.
    pub(super) fn deploy(&mut self) -> Result<(), RunError> {
        self.deployment = Deployment::none();
        if let (Some(version), Some(_)) = (self.state.version(self.state.live), &self.plan.model) {
            let model = load_model(&self.registry, &version.name, &version.artifact, &self.plan)?;
            self.deployment =
                Deployment { version: version.name.clone(), id: self.state.live, model: Some(model) };
        }
        self.metrics.live(&self.deployment.version);
        Ok(())
    }

    fn score_epoch(&mut self, input: &EpochInput, epoch: u64) -> Result<Scored, RunError> {
        let timer = self.metrics.score_seconds.start_timer();
        let plan = Arc::clone(&self.plan);
        let stamp = Stamp { epoch, plan: &plan.hash };
        let scored = self.score.score(input, &self.deployment, &mut self.state.dictionaries, stamp)?;
        timer.observe_duration();
        Ok(scored)
    }

    fn record(
        &self,
        input: &EpochInput,
        epoch: u64,
        time_ms: i64,
        events: Vec<Event>,
        scored: &Scored,
    ) -> EpochRecord {
        let ranges = input.ranges.iter().map(|range| {
            let name = self.lane_name(range.lane);
            Range { topic: name.topic, partition: name.partition, start: range.start, end: range.end }
        });
        EpochRecord {
            pipeline: self.settings.pipeline.name.clone(),
            epoch,
            ranges: ranges.collect(),
            time_ms,
            watermark_ms: self.state.watermark_ms.max(input.time_max_ms()),
            deployment: self.deployment.version.clone(),
            plan: self.plan.hash.clone(),
            code: CODE.to_owned(),
            events,
            counts: counts(input, scored),
            outputs: hash_outputs(scored),
            ..EpochRecord::default()
        }
        .seal(&self.state.chain)
    }

    /// The state after the epoch's score half.
    fn advance(&mut self, input: &EpochInput, record: &EpochRecord) {
        self.state.epoch = record.epoch;
        self.state.chain.clone_from(&record.chain);
        self.state.watermark_ms = record.watermark_ms;
        for range in &input.ranges {
            let name = self.lane_name(range.lane);
            self.state.positions.insert(name, range.end);
        }
        let (totals, counts) = (&mut self.state.totals, &record.counts);
        totals.input += counts.input;
        totals.scored += counts.scored;
        totals.filtered += counts.filtered;
        totals.dead += counts.dead;
        totals.labels += counts.labels;
        self.count(counts);
        self.metrics.epochs.inc();
        self.metrics.epoch_rows.observe(input.len() as f64);
        if let Some(watermark) = record.watermark_ms {
            self.metrics.watermark_seconds.set(watermark as f64 / 1e3);
        }
        self.metrics.dictionary_bytes.set(i64::try_from(self.state.dictionaries.bytes()).unwrap_or(i64::MAX));
    }

    fn count(&self, counts: &Counts) {
        for (outcome, count) in
            [("scored", counts.scored), ("filtered", counts.filtered), ("dead_letter", counts.dead)]
        {
            self.metrics.records.with_label_values(&[outcome]).inc_by(count);
        }
    }

    fn offsets(&self, input: &EpochInput) -> Vec<(String, i32, i64)> {
        input
            .ranges
            .iter()
            .map(|range| {
                let name = self.lane_name(range.lane);
                (name.topic, name.partition, range.end)
            })
            .collect()
    }

    fn lane_ranges(&self, ranges: &[Range]) -> Result<Vec<LaneRange>, RunError> {
        ranges
            .iter()
            .map(|range| {
                let index = self.topics.iter().position(|topic| *topic == range.topic);
                let Some(topic) = index.and_then(|index| u16::try_from(index).ok()) else {
                    return Err(RunError::Recovery(format!(
                        "epochs that are to be replayed read the topic {}, which is not in the configuration any \
                         more; add it again, start, stop, and remove it then",
                        range.topic
                    )));
                };
                let partition = Partition { topic, partition: range.partition };
                let lane = LaneId { stream: Stream::Source, partition };
                Ok(LaneRange { lane, start: range.start, end: range.end })
            })
            .collect()
    }

    fn snapshot_if_due(&mut self) -> Result<(), RunError> {
        let due = self.snapshot_at.elapsed() >= self.settings.snapshot_every;
        if due && self.state.epoch > self.snapshot_epoch {
            self.snapshot()?;
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), RunError> {
        let meta = Meta {
            epoch: self.state.epoch,
            chain: self.state.chain.clone(),
            plan: self.state.plan.clone(),
            code: CODE.to_owned(),
            time_ms: self.last_time_ms,
        };
        let prepared = self.snapshots.prepare(&self.state, meta)?;
        self.committer.send(Work::Snapshot(prepared), &|| true)?;
        self.snapshot_epoch = self.state.epoch;
        self.snapshot_at = Instant::now();
        Ok(())
    }

    /// Ends: what was computed is committed, the state is kept.
    pub(super) fn end(mut self, outcome: Result<(), RunError>) -> Result<Summary, RunError> {
        self.metrics.ready.set(0);
        if outcome.is_ok() && self.state.epoch > self.snapshot_epoch && self.handed_over {
            self.snapshot()?;
        }
        let state = state_hash(&self.state);
        let (epoch, totals) = (self.state.epoch, self.state.totals);
        let Engine { committer, reader, events, lock, .. } = self;
        let committed = committer.finish(DRAIN_MAX);
        drop(events);
        drop(reader);
        drop(lock);
        outcome?;
        if !committed? {
            return Err(RunError::Drain(DRAIN_MAX));
        }
        Ok(Summary { epoch, totals, state })
    }
}

/// Records that were due are gone.
pub(super) fn gap(name: &LaneName, expected: i64, oldest: i64, newest: i64) -> RunError {
    let what = if expected < oldest {
        "retention removed records before they were read; raise the topic's retention.ms, and decide with a new state \
         folder where to begin anew"
    } else {
        "the topic was deleted and made again, or cut; restore it, or begin anew with a new state folder"
    };
    RunError::Gap { topic: name.topic.clone(), partition: name.partition, expected, oldest, newest, what }
}

/// Loads a model from the registry and checks that it fits the plan.
pub(super) fn load_model(
    registry: &Registry,
    version: &str,
    artifact: &str,
    plan: &Plan,
) -> Result<Arc<Model>, RunError> {
    let bytes = registry.get(artifact)?;
    check_model(version, &bytes, plan)
}

/// Reads an artifact and checks that it fits the plan.
pub(super) fn check_model(
    name: &str,
    bytes: &[u8],
    plan: &Plan,
) -> Result<Arc<Model>, RunError> {
    let wrong = |what: String| RunError::Model { name: name.to_owned(), what };
    let artifact = Artifact::read(bytes).map_err(|error| wrong(error.to_string()))?;
    let model = artifact.model;
    model.accepts(&plan.columns.specs).map_err(|what| {
        wrong(format!("{what}; name a model for these columns in `initial` of [model], or restore the old SQL"))
    })?;
    Ok(model)
}

fn counts(input: &EpochInput, scored: &Scored) -> Counts {
    Counts {
        input: input.len() as u64,
        scored: scored.predictions.len() as u64,
        filtered: scored.filtered,
        dead: scored.dead_letters.len() as u64,
        labels: input.labels.len() as u64,
    }
}

fn hash_outputs(scored: &Scored) -> String {
    let mut hash = blake3::Hasher::new();
    for outputs in [&scored.predictions, &scored.dead_letters] {
        hash.update(&(outputs.len() as u64).to_le_bytes());
        hash.update(outputs.contents());
    }
    hash.finalize().to_hex().to_string()
}

fn outputs_of(scored: Scored) -> Vec<(Destination, Encoded)> {
    [(Destination::Predictions, scored.predictions), (Destination::DeadLetters, scored.dead_letters)]
        .into_iter()
        .filter(|(_, outputs)| !outputs.is_empty())
        .collect()
}
