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
use crate::daemon::swap::Step;
use crate::daemon::training::Trainers;
use crate::daemon::{DRAIN_MAX, Happening, Observer, RunError, Status, Summary, VersionSummary};
use crate::epoch_log::{Counts, EpochRecord, Event, Range};
use crate::example::VersionId;
use crate::failpoint::{Point, pass};
use crate::intake::{Cut, EpochInput, Intake, LaneId, LaneRange, ReaderEvent, ReaderHandle, Stream};
use crate::metrics::Metrics;
use crate::registry::{Deployment as Deployed, Registry};
use crate::score::{Deployment, ScoreHalf, Scored, Stamp, Topics};
use crate::settings::{Plan, Settings};
use crate::snapshot::{Meta, SnapshotStore, state_hash};
use crate::state::{LaneName, PipelineState};

/// Longest wait for records before the engine looks after other things.
const TICK: Duration = Duration::from_millis(50);

/// Models kept in memory.
const LOADED_MAX: usize = 4;

/// Version of the code, part of every epoch record.
pub(super) const CODE: &str = env!("CARGO_PKG_VERSION");

/// A pipeline at work.
pub(super) struct Engine {
    pub(super) settings: Settings,
    pub(super) plan: Arc<Plan>,
    pub(super) plans: PlanBook,
    pub(super) topics: Topics,
    pub(super) state: PipelineState,
    pub(super) deployment: Deployment,
    pub(super) score: ScoreHalf,
    pub(super) intake: Intake,
    pub(super) readers: Vec<(Stream, ReaderHandle)>,
    pub(super) events: Receiver<ReaderEvent>,
    pub(super) committer: Committer,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Status>,
    pub(super) stop: Arc<std::sync::atomic::AtomicBool>,
    /// Models in memory by artifact, latest last.
    pub(super) loaded: Vec<(String, Arc<Model>)>,
    pub(super) trainers: Trainers,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) desk: Arc<crate::admin::Desk>,
    /// Whether live records are processed: in a replay nothing new happens.
    pub(super) is_live: bool,
    /// Why the next live epoch should begin a training job.
    pub(super) wish: Option<String>,
    /// What went live and is not in the registry's history yet.
    pub(super) unprojected: Vec<Deployed>,
    /// The oldest epoch with a publication that is not known to be durable; nothing but its failpoint asks.
    pub(super) publication: Option<u64>,
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
        LaneName {
            stream: id.stream,
            topic: self.topics.name(id).to_owned(),
            partition: id.partition.partition,
        }
    }

    /// Tells what happens, unless it is only replayed.
    pub(super) fn notice(&self, happening: Happening) {
        if self.is_live {
            self.observer.notice(&happening);
        }
    }

    fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// Processes live records until the end is asked for.
    pub(super) fn live(&mut self) -> Result<(), RunError> {
        self.pending.insert(0, Event::Start { code: CODE.to_owned() });
        self.is_live = true;
        self.notice(Happening::Ready);
        self.metrics.begin(&self.state);
        self.status.set(true, "live");
        let mut wait = Duration::ZERO;
        while self.go_on() {
            self.committer.check()?;
            self.receive(wait)?;
            self.report();
            self.decide()?;
            self.obey();
            self.trace_publication();
            let now = Instant::now();
            wait = match self.intake.due(now) {
                Cut::Now => {
                    let input = self.intake.cut(now);
                    self.live_epoch(input, now)?;
                    Duration::ZERO
                }
                Cut::Wait(_) if self.has_work_of_its_own() => {
                    self.live_epoch(EpochInput::default(), now)?;
                    Duration::ZERO
                }
                Cut::Wait(wait) => wait.min(TICK),
            };
            self.hand_over_deployments(&|| false)?;
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
                return Err(RunError::Recovery(
                    "a reading thread ended unexpectedly; please report it".to_owned(),
                ));
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
            SourceEvent::Gap {
                partition,
                expected,
                oldest,
                newest,
            } => {
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
        self.pending.push(Event::PartitionAdded {
            topic: name.topic,
            partition: name.partition,
        });
        let lanes = self.intake.lanes().filter(|(known, _)| known.stream == id.stream);
        let mut positions: Vec<(Partition, Start)> = lanes
            .map(|(id, lane)| (id.partition, Start::Offset(lane.received())))
            .collect();
        if let Some(added) = positions.iter_mut().find(|(partition, _)| *partition == id.partition) {
            added.1 = Start::Oldest;
        }
        if let Some((_, reader)) = self.readers.iter_mut().find(|(stream, _)| *stream == id.stream) {
            reader.assign(positions);
        }
    }

    fn report(&self) {
        let bytes = self.intake.bytes();
        let starving = self.intake.is_starving();
        self.metrics
            .buffered_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        for (stream, reader) in &self.readers {
            reader.report(bytes, starving);
            let name = match stream {
                Stream::Source => "source",
                Stream::Labels => "labels",
            };
            self.metrics.lag.with_label_values(&[name]).set(reader.lag());
            self.metrics.troubles(name, reader.troubles());
        }
        self.metrics.show(&self.state, self.clock.now_ms());
    }

    /// Tells the readers what an epoch has taken.
    fn taken(&self, input: &EpochInput) {
        for (stream, reader) in &self.readers {
            reader.taken(match stream {
                Stream::Source => input.source.len(),
                Stream::Labels => input.labels.len(),
            });
        }
    }

    fn live_epoch(&mut self, input: EpochInput, arrived: Instant) -> Result<(), RunError> {
        let arrived = input.arrived.unwrap_or(arrived);
        self.taken(&input);
        let mut events = std::mem::take(&mut self.pending);
        // A stamp never runs backwards, whatever the machine's clock does.
        let time_ms = self.clock.now_ms().max(self.last_time_ms);
        self.last_time_ms = time_ms;
        let epoch = self.state.epoch + 1;
        let (step, served) = (Step::begin(), self.deployment.clone());
        self.apply_events(&events, epoch, time_ms)?;
        if !self.deployment.is(&served) {
            step.over("apply", epoch);
        }
        self.begin_wished_job(&mut events)?;
        let scored = self.score_epoch(&input, epoch)?;
        let record = self.record(&input, epoch, time_ms, events, &scored);
        self.advance(&input, &record);
        self.metrics.computed(&record, &scored.dead_kinds);
        pass(Point::EpochComputed, epoch);
        let mut scored = scored;
        let unit = Unit {
            epoch,
            outputs: outputs_of(&mut scored),
            record: record.to_bytes(),
            offsets: self.offsets(&input),
        };
        let local = self.settings.pipeline.delivery == Delivery::AtLeastOnce;
        let work = Work::Epoch {
            unit,
            record: local.then(|| Box::new(record)),
            arrived,
        };
        let go_on = || !self.stop.load(Ordering::Acquire);
        // An epoch that could not be handed over before the end is computed again at the next start.
        self.handed_over &= self.committer.send(work, &go_on)?;
        // Outputs are on their way: nothing waits for what is learned.
        self.learn(&mut scored, epoch)
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
        self.taken(&input);
        self.apply_events(&record.events, record.epoch, record.time_ms)?;
        let mut scored = self.score_epoch(&input, record.epoch)?;
        let found = hash_outputs(&scored);
        if found != record.outputs || counts(&input, &scored) != record.counts {
            let (expected, code) = (record.outputs.clone(), record.code.clone());
            return Err(RunError::Diverged {
                epoch: record.epoch,
                expected,
                found,
                code,
            });
        }
        self.last_time_ms = record.time_ms;
        self.advance(&input, record);
        if emit {
            let offsets = self.offsets(&input);
            let unit = Unit {
                epoch: record.epoch,
                outputs: outputs_of(&mut scored),
                record: Vec::new(),
                offsets,
            };
            let go_on = || !self.stop.load(Ordering::Acquire);
            self.handed_over &= self.committer.send(
                Work::Epoch {
                    unit,
                    record: None,
                    arrived,
                },
                &go_on,
            )?;
        }
        self.learn(&mut scored, record.epoch)?;
        pass(Point::EpochReplayed, record.epoch);
        Ok(())
    }

    fn apply_events(&mut self, events: &[Event], epoch: u64, time_ms: i64) -> Result<(), RunError> {
        for event in events {
            let live_before = self.serving();
            let replaced = self.replaced();
            self.state.apply(event, epoch).map_err(RunError::Recovery)?;
            if let Event::PlanSwitched { plan } = event {
                self.switch_plan(plan, epoch)?;
            }
            if let Event::PartitionAdded { topic, partition } = event {
                let stream = if self.topics.source.contains(topic) {
                    Stream::Source
                } else {
                    Stream::Labels
                };
                let name = LaneName {
                    stream,
                    topic: topic.clone(),
                    partition: *partition,
                };
                self.state.positions.entry(name).or_insert(0);
            }
            self.apply_to_learning(event, replaced, epoch, time_ms)?;
            if self.serving() != live_before {
                let swapped = Instant::now();
                self.deploy()?;
                let took = swapped.elapsed();
                // Snapshots of an online learner follow each other all day long: only lines are news.
                let is_news = !matches!(event, Event::Published { .. });
                if is_news {
                    self.notice(Happening::Live {
                        version: self.deployment.version.clone(),
                        took,
                    });
                }
                match (self.is_live, is_news) {
                    (false, _) => {}
                    (true, true) => pass(Point::SwapApplied, epoch),
                    (true, false) => {
                        self.publication.get_or_insert(epoch);
                        pass(Point::PublicationApplied, epoch);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether an epoch should follow without any record.
    fn has_work_of_its_own(&self) -> bool {
        let catches_up = self.state.learn.as_ref().is_some_and(|learn| learn.catches_up());
        !self.pending.is_empty() || self.wish.is_some() || catches_up
    }

    /// What exactly serves by the state: a version, and its artifact.
    fn serving(&self) -> Option<(VersionId, String)> {
        let version = self.state.version(self.state.live)?;
        Some((self.state.live, version.artifact.clone()))
    }

    fn switch_plan(&mut self, hash: &str, epoch: u64) -> Result<(), RunError> {
        let plan = self.plans.get(hash)?;
        self.state.switch(&self.plan, &plan, epoch);
        self.score = ScoreHalf::new(Arc::clone(&plan), &self.topics)?;
        self.plan = plan;
        self.deploy()
    }

    /// A model of the registry that fits the plan; from memory where it was used lately.
    pub(super) fn model(&mut self, version: &str, artifact: &str) -> Result<Arc<Model>, RunError> {
        if let Some((_, model)) = self.loaded.iter().find(|(known, _)| known == artifact) {
            fits(version, model, &self.plan)?;
            return Ok(Arc::clone(model));
        }
        let model = check_model(version, &self.registry.get(artifact)?, &self.plan)?;
        self.keep_loaded(artifact, Arc::clone(&model));
        Ok(model)
    }

    /// Keeps a model in memory: champion, the one before, and a candidate.
    pub(super) fn keep_loaded(&mut self, artifact: &str, model: Arc<Model>) {
        self.loaded.retain(|(known, _)| known != artifact);
        self.loaded.push((artifact.to_owned(), model));
        if self.loaded.len() > LOADED_MAX {
            self.loaded.remove(0);
        }
    }

    /// Loads the live version of the state.
    pub(super) fn deploy(&mut self) -> Result<(), RunError> {
        self.deployment = Deployment::none();
        if let (Some(version), Some(_)) = (self.state.version(self.state.live), &self.plan.model) {
            let (name, artifact) = (version.label(), version.artifact.clone());
            let model = self.model(&name, &artifact)?;
            self.deployment = Deployment {
                version: name,
                id: self.state.live,
                model: Some(model),
            };
        }
        let version = self.state.version(self.state.live);
        self.metrics.live(version.map_or("", |version| version.name.as_str()));
        Ok(())
    }

    fn score_epoch(&mut self, input: &EpochInput, epoch: u64) -> Result<Scored, RunError> {
        let timer = self.metrics.score_seconds.start_timer();
        let plan = Arc::clone(&self.plan);
        let stamp = Stamp {
            epoch,
            plan: &plan.hash,
        };
        let scored = self
            .score
            .score(input, &self.deployment, &mut self.state.dictionaries, stamp)?;
        if self.is_live {
            timer.observe_duration();
        } else {
            timer.stop_and_discard();
        }
        Ok(scored)
    }

    fn record(&self, input: &EpochInput, epoch: u64, time_ms: i64, events: Vec<Event>, scored: &Scored) -> EpochRecord {
        let ranges = input.ranges.iter().map(|range| {
            let name = self.lane_name(range.lane);
            Range {
                topic: name.topic,
                partition: name.partition,
                start: range.start,
                end: range.end,
            }
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
        if let Some(watermark) = record.watermark_ms {
            self.metrics.watermark_seconds.set(watermark as f64 / 1e3);
        }
        self.metrics
            .dictionary_bytes
            .set(i64::try_from(self.state.dictionaries.bytes()).unwrap_or(i64::MAX));
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
                let Some((stream, topic)) = self.topics.find(&range.topic) else {
                    return Err(RunError::Recovery(format!(
                        "epochs that are to be replayed read the topic {}, which is not in the configuration any \
                         more; add it again, start, stop, and remove it then",
                        range.topic
                    )));
                };
                let partition = Partition {
                    topic,
                    partition: range.partition,
                };
                let lane = LaneId { stream, partition };
                Ok(LaneRange {
                    lane,
                    start: range.start,
                    end: range.end,
                })
            })
            .collect()
    }

    fn snapshot_if_due(&mut self) -> Result<(), RunError> {
        let due = self.snapshot_at.elapsed() >= self.settings.snapshot_every;
        // A swap that the registry's history does not have yet is brought back by a replay, and would be passed over by a
        // start from a snapshot behind it. One that was handed over is noted before a snapshot that is handed over now.
        if due && self.state.epoch > self.snapshot_epoch && self.unprojected.is_empty() {
            let stop = Arc::clone(&self.stop);
            self.snapshot(&|| !stop.load(Ordering::Acquire))?;
        }
        Ok(())
    }

    /// Makes a snapshot and hands it over, as long as `go_on` says to wait for a place.
    fn snapshot(&mut self, go_on: &dyn Fn() -> bool) -> Result<(), RunError> {
        let meta = Meta {
            epoch: self.state.epoch,
            chain: self.state.chain.clone(),
            plan: self.state.plan.clone(),
            code: CODE.to_owned(),
            time_ms: self.last_time_ms,
        };
        let prepared = self.snapshots.prepare(&self.state, meta)?;
        // One that finds no place is dropped: the next holds what it held.
        if self.committer.send(Work::Snapshot(prepared), go_on)? {
            self.snapshot_epoch = self.state.epoch;
        }
        self.snapshot_at = Instant::now();
        Ok(())
    }

    fn qualities(&self) -> Vec<VersionSummary> {
        let Some(learn) = &self.state.learn else {
            return Vec::new();
        };
        let found = learn.quality.report(i64::MAX).into_iter().filter_map(|found| {
            let version = self.state.version(found.version)?.name.clone();
            Some(VersionSummary {
                version,
                total: found.total,
                cohorts: found.cohorts,
            })
        });
        found.collect()
    }

    /// Ends: what was computed is committed, the state is kept.
    pub(super) fn end(mut self, outcome: Result<(), RunError>) -> Result<Summary, RunError> {
        self.metrics.ready.set(0);
        let deadline = Instant::now() + DRAIN_MAX;
        if outcome.is_ok() && self.handed_over {
            self.hand_over_deployments(&|| Instant::now() < deadline)?;
        }
        let is_whole = self.handed_over && self.unprojected.is_empty();
        if outcome.is_ok() && self.state.epoch > self.snapshot_epoch && is_whole {
            // A commit that hangs must not keep the process: the deadline is for both.
            self.snapshot(&|| Instant::now() < deadline)?;
        }
        let state = state_hash(&self.state);
        let (epoch, totals) = (self.state.epoch, self.state.totals);
        let versions = self.qualities();
        let Engine {
            committer,
            readers,
            events,
            lock,
            trainers,
            ..
        } = self;
        drop(trainers);
        let committed = committer.finish(deadline.saturating_duration_since(Instant::now()));
        drop(events);
        drop(readers);
        drop(lock);
        outcome?;
        if !committed? {
            return Err(RunError::Drain(DRAIN_MAX));
        }
        Ok(Summary {
            epoch,
            totals,
            state,
            versions,
        })
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
    RunError::Gap {
        topic: name.topic.clone(),
        partition: name.partition,
        expected,
        oldest,
        newest,
        what,
    }
}

/// Reads an artifact and checks that it fits the plan.
pub(super) fn check_model(name: &str, bytes: &[u8], plan: &Plan) -> Result<Arc<Model>, RunError> {
    let wrong = |what: String| RunError::Model {
        name: name.to_owned(),
        what,
    };
    let artifact = Artifact::read(bytes).map_err(|error| wrong(error.to_string()))?;
    fits(name, &artifact.model, plan)?;
    Ok(artifact.model)
}

fn fits(name: &str, model: &Model, plan: &Plan) -> Result<(), RunError> {
    model.accepts(&plan.columns.specs).map_err(|what| RunError::Model {
        name: name.to_owned(),
        what: format!("{what}; name a model for these columns in `initial` of [model], or restore the old SQL"),
    })
}

fn counts(input: &EpochInput, scored: &Scored) -> Counts {
    Counts {
        input: input.len() as u64,
        scored: scored.predictions.len() as u64,
        filtered: scored.filtered,
        dead: scored.dead_letters.len() as u64,
        labels: scored.label_records,
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

/// Takes the outputs out of what was scored.
fn outputs_of(scored: &mut Scored) -> Vec<(Destination, Encoded)> {
    let predictions = std::mem::take(&mut scored.predictions);
    let dead_letters = std::mem::take(&mut scored.dead_letters);
    [
        (Destination::Predictions, predictions),
        (Destination::DeadLetters, dead_letters),
    ]
    .into_iter()
    .filter(|(_, outputs)| !outputs.is_empty())
    .collect()
}
