//! How a pipeline starts: take ownership, read what is there, decide, replay.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Instant;

use driftmill_connectors::{Delivery, Sink, Start};
use driftmill_models::state::State as _;

use crate::committer::{Committer, CommitterOptions};
use crate::daemon::bootstrap;
use crate::daemon::engine::{Engine, check_model, gap};
use crate::daemon::history::{self, History};
use crate::daemon::plans::PlanBook;
use crate::daemon::recovery::{Found, Recovery, decide};
use crate::daemon::training::Trainers;
use crate::daemon::{RunError, Surroundings};
use crate::disk::{Disk, LockFile};
use crate::epoch_log::{EpochRecord, Event};
use crate::intake::{Intake, IntakeBounds, LaneId, Reader, Stream};
use crate::registry::Registry;
use crate::score::{Deployment, ScoreHalf, Topics};
use crate::settings::{Plan, Settings};
use crate::snapshot::{SnapshotStore, state_hash};
use crate::state::{LaneName, PipelineState};

/// Starts the pipeline; it has replayed the log when this returns.
pub(super) fn start(settings: Settings, config: &Path, around: &Surroundings) -> Result<Engine, RunError> {
    let disk = &around.disk;
    let dir = settings.pipeline.state_dir.clone();
    disk.create_dir(&dir)?;
    let lock = LockFile::acquire(&dir.join("lock"))?;
    let registry = Registry::open(Arc::clone(disk), settings.registry.clone())?;
    let mut plans = PlanBook::open(Arc::clone(disk), dir.join("plans"), config.to_owned())?;
    let plan = Arc::clone(&settings.plan);
    plans.keep(Arc::clone(&plan), &settings.text)?;
    let snapshots = Arc::new(SnapshotStore::open(
        Arc::clone(disk),
        dir.join("snapshots"),
        settings.pipeline.name.clone(),
    )?);
    let loaded = snapshots.load_newest()?;
    if let Some(loaded) = &loaded {
        for rejected in &loaded.rejected {
            tracing::warn!(%rejected, "a damaged snapshot is passed over");
        }
    }
    around.status.set(false, "taking ownership of the sink");
    let mut sink = settings.sink.connect()?;
    around.status.set(false, "reading the epoch log");
    let after = loaded.as_ref().map_or(0, |loaded| loaded.manifest.epoch);
    let history = history::own(&settings, &mut *sink, after, around)?;
    let recovery = decide(&Found {
        snapshot: loaded
            .as_ref()
            .map(|loaded| (loaded.manifest.epoch, loaded.manifest.chain.clone())),
        log: history.span,
        chain_at_snapshot: history.chain_at_snapshot.clone(),
        chain_before_replay: history.records.first().map(|record| record.previous.clone()),
    });
    if let Recovery::Refuse(why) = recovery {
        return Err(RunError::Recovery(why));
    }
    let first_plan = match (&loaded, history.records.first()) {
        (Some(loaded), _) => plans.get(&loaded.manifest.plan)?,
        // The first record may itself switch the plan; before it, its plan holds as well as any.
        (None, Some(record)) => plans.get(&record.plan)?,
        (None, None) => Arc::clone(&plan),
    };
    let mut state = PipelineState::new(&first_plan);
    if let Some(loaded) = &loaded {
        let epoch = loaded.manifest.epoch;
        state
            .restore(&loaded.source)
            .map_err(|error| RunError::State { epoch, error })?;
    } else {
        snapshots.start_anew();
    }
    let emit = settings.pipeline.delivery == Delivery::AtLeastOnce;
    let (mut engine, records, joined) = assemble(
        Parts {
            settings,
            first_plan,
            plans,
            state,
            sink,
            history,
            snapshots,
            registry,
            lock,
        },
        around,
    )?;
    replay(&mut engine, &records, emit, around)?;
    engine.note_replayed()?;
    engine.pending.extend(joined);
    begin_plan(&mut engine, &plan);
    begin_model(&mut engine, &plan, &*around.disk)?;
    bootstrap::begin(&mut engine, &plan, around)?;
    engine.start_trainer();
    Ok(engine)
}

/// What [`assemble`] makes an engine of.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) first_plan: Arc<Plan>,
    pub(super) plans: PlanBook,
    pub(super) state: PipelineState,
    pub(super) sink: Box<dyn Sink>,
    pub(super) history: History,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) registry: Registry,
    pub(super) lock: LockFile,
}

/// Connects everything and stands where the state of `parts` stands. Returns the records that are to be replayed, and
/// the events of partitions that are new.
pub(super) fn assemble(
    parts: Parts,
    around: &Surroundings,
) -> Result<(Engine, Vec<EpochRecord>, Vec<Event>), RunError> {
    let Parts {
        settings,
        first_plan,
        plans,
        state,
        sink,
        history,
        snapshots,
        registry,
        lock,
    } = parts;
    let label_topics = settings
        .labels
        .as_ref()
        .map_or_else(Vec::new, |labels| labels.topics().to_vec());
    let topics = Topics {
        source: settings.source.topics().into(),
        labels: label_topics.into(),
    };
    let (sender, events) = channel();
    around.status.set(false, "connecting the sources");
    let mut readers = Vec::new();
    let mut lanes = Vec::new();
    let sources = [
        (Stream::Source, Some(&settings.source)),
        (Stream::Labels, settings.labels.as_ref()),
    ];
    for (stream, source) in sources {
        let Some(source) = source else { continue };
        let (reader, held) = Reader::spawn(stream, &**source, sender.clone(), settings.epoch.buffered_max)?;
        readers.push((stream, reader));
        lanes.extend(held.into_iter().map(|(partition, oldest, newest)| Held {
            id: LaneId { stream, partition },
            start: source.start(),
            oldest,
            newest,
        }));
    }
    drop(sender);
    let bounds = IntakeBounds {
        rows_max: settings.epoch.rows_max,
        bytes_max: settings.epoch.bytes_max,
        linger: settings.epoch.linger,
        event_span_max_ms: settings.epoch.event_span_max_ms,
        skew: settings.epoch.skew,
    };
    let mut intake = Intake::new(bounds);
    let joined = place(&topics, &state, &history.records, &lanes, &mut intake)?;
    let committer = Committer::spawn(
        sink,
        history.log,
        Arc::clone(&snapshots),
        registry.clone(),
        CommitterOptions {
            depth: settings.epoch.in_flight_max,
            trims: settings.log_trims,
        },
        Arc::clone(&around.metrics),
    )
    .map_err(RunError::Thread)?;
    let mut engine = Engine {
        score: ScoreHalf::new(Arc::clone(&first_plan), &topics)?,
        plan: first_plan,
        plans,
        topics,
        snapshot_epoch: state.epoch,
        state,
        deployment: Deployment::none(),
        intake,
        readers,
        events,
        trainers: Trainers::new(&settings.pipeline.state_dir.join("training"), &around.jobs)?,
        loaded: Vec::new(),
        observer: Arc::clone(&around.observer),
        desk: Arc::clone(&around.desk),
        is_live: false,
        wish: None,
        unprojected: Vec::new(),
        publication: None,
        committer,
        snapshots,
        registry,
        metrics: Arc::clone(&around.metrics),
        clock: Arc::clone(&around.clock),
        status: Arc::clone(&around.status),
        stop: Arc::clone(&around.stop),
        pending: Vec::new(),
        lock,
        snapshot_at: Instant::now(),
        last_time_ms: i64::MIN,
        handed_over: true,
        settings,
    };
    for (stream, reader) in &mut engine.readers {
        let lanes = engine.intake.lanes().filter(|(id, _)| id.stream == *stream);
        reader.assign(
            lanes
                .map(|(id, lane)| (id.partition, Start::Offset(lane.next())))
                .collect(),
        );
    }
    engine.deploy()?;
    engine.restore_shadows()?;
    Ok((engine, history.records, joined))
}

fn replay(engine: &mut Engine, records: &[EpochRecord], emit: bool, around: &Surroundings) -> Result<(), RunError> {
    let begun = Instant::now();
    for (done, record) in records.iter().enumerate() {
        if around.stop.load(Ordering::Acquire) {
            break;
        }
        if done % 256 == 0 {
            around
                .status
                .set(false, format!("replaying epoch {} of {}", done + 1, records.len()));
        }
        engine.replay_epoch(record, emit)?;
    }
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let state = state_hash(&engine.state);
    tracing::info!(
        epoch = engine.state.epoch,
        replayed = records.len(),
        took_ms,
        state,
        "recovered"
    );
    Ok(())
}

/// The configuration's plan takes over from the one of the last epoch.
fn begin_plan(engine: &mut Engine, plan: &Arc<Plan>) {
    if engine.plan.hash != plan.hash {
        tracing::info!(from = engine.plan.hash, to = plan.hash, "the plan changes");
        engine.pending.push(Event::PlanSwitched {
            plan: plan.hash.clone(),
        });
    }
}

/// The model named in the configuration goes live where none is, or where the live one does not fit the plan.
fn begin_model(engine: &mut Engine, plan: &Arc<Plan>, disk: &dyn Disk) -> Result<(), RunError> {
    let Some(model) = &plan.model else { return Ok(()) };
    let live = engine.state.version(engine.state.live).cloned();
    let misfit = match &live {
        None => None,
        Some(version) => {
            let bytes = engine.registry.get(&version.artifact)?;
            check_model(&version.name, &bytes, plan).err()
        }
    };
    let Some(path) = &model.initial else {
        return misfit.map_or(Ok(()), Err);
    };
    let bytes = disk.read(path)?;
    let shown = path.display().to_string();
    check_model(&shown, &bytes, plan)?;
    if live.is_some() && misfit.is_none() {
        let artifact = driftmill_models::artifact::Artifact::id(&bytes);
        if engine.state.versions.iter().all(|version| version.artifact != artifact) {
            tracing::warn!(
                initial = shown,
                "a model is live already: `initial` is for the first only"
            );
        }
        return Ok(());
    }
    // Durable before the epoch that names it.
    let artifact = engine.registry.put(&bytes)?;
    let version = engine.state.next_version();
    engine.pending.push(Event::Bootstrapped { version, artifact });
    Ok(())
}

/// A partition that exists.
struct Held {
    id: LaneId,
    /// Where its stream begins at the very first start.
    start: Start,
    oldest: i64,
    newest: i64,
}

/// Gives every partition its lane. The events say which partitions are new to a pipeline that runs already.
fn place(
    topics: &Topics,
    state: &PipelineState,
    records: &[EpochRecord],
    lanes: &[Held],
    intake: &mut Intake,
) -> Result<Vec<Event>, RunError> {
    let now = Instant::now();
    let first_run = state.epoch == 0 && records.is_empty();
    let mut known = positions(topics, state, records);
    let mut joined = Vec::new();
    for &Held {
        id,
        start,
        oldest,
        newest,
    } in lanes
    {
        let topic = topics.name(id).to_owned();
        let name = LaneName {
            stream: id.stream,
            topic,
            partition: id.partition.partition,
        };
        let next = match (known.remove(&name), first_run, start) {
            (Some(next), _, _) if next < oldest || next > newest => return Err(gap(&name, next, oldest, newest)),
            (Some(next), _, _) => next,
            (None, true, Start::Newest) => newest,
            (None, true, Start::Offset(offset)) => offset,
            (None, true, Start::Oldest) => oldest,
            (None, false, _) => {
                joined.push(Event::PartitionAdded {
                    topic: name.topic,
                    partition: name.partition,
                });
                oldest
            }
        };
        intake.add(id, next, now);
    }
    match known.into_keys().find(|lane| topics.find(&lane.topic).is_some()) {
        Some(lost) => Err(RunError::Recovery(format!(
            "topic {}, partition {}: it was read before and does not exist any more; restore the topic, or begin \
             anew with a new state folder",
            lost.topic, lost.partition
        ))),
        None => Ok(joined),
    }
}

/// Where every partition that was read goes on. Those that joined after the snapshot begin where their first record
/// says.
fn positions(topics: &Topics, state: &PipelineState, records: &[EpochRecord]) -> BTreeMap<LaneName, i64> {
    let mut known = state.positions.clone();
    let name = |topic: &String, partition: i32| {
        let stream = topics.find(topic).map_or(Stream::Source, |(stream, _)| stream);
        LaneName {
            stream,
            topic: topic.clone(),
            partition,
        }
    };
    for record in records {
        for event in &record.events {
            if let Event::PartitionAdded { topic, partition } = event {
                known.entry(name(topic, *partition)).or_insert(0);
            }
        }
        for range in &record.ranges {
            known.entry(name(&range.topic, range.partition)).or_insert(range.start);
        }
    }
    known
}
