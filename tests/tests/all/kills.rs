//! The whole loop through kill -9 on a real Kafka. Some kills come at random moments, others at chosen places, so that a
//! commit, a snapshot, a training job, a verdict and a swap are each hit for certain. Afterwards every record has its
//! outcome, and the state that went through all of it is, by hash, the one that an uninterrupted replay of the epoch log
//! comes to. There are two pipelines: one whose models are made by jobs, and one where an online learner is live and
//! publishes, with jobs beside it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use driftmill::failpoint::Part;
use driftmill_tests::daemon::Daemon;
use driftmill_tests::hits::name;
use driftmill_tests::kafka::Broker;
use driftmill_tests::kill::{Aim, Struck, strike};
use driftmill_tests::outcomes::Balance;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::pipeline::LIMIT;
use crate::world::World;

/// Records that are fed at once, and the shortest time from one feed to the next.
const PIECE: u32 = 400;
const PACE: Duration = Duration::from_millis(100);
/// Records that wait for a daemon which is killed at a random moment.
const BACKLOG: u32 = 6_000;
/// More than are fed: no record may have a time that is long to come.
const RECORDS_MAX: u32 = 150_000;
/// What `/readyz` may need after a kill, by the median of all.
const READY_MAX: Duration = Duration::from_secs(10);
/// What kills must have hit, each.
const LOOP: &[Part] = &[Part::Commit, Part::Snapshot, Part::Job, Part::Verdict, Part::Swap];
const LOOP_ONLINE: &[Part] = &[
    Part::Commit,
    Part::Snapshot,
    Part::Job,
    Part::Verdict,
    Part::Swap,
    Part::Publication,
];
const LINE_ONLINE: &[Part] = &[Part::Swap, Part::Publication];

/// What a run kills, and when.
struct Plan {
    delivery: &'static str,
    /// Whether the pipeline has an online learner.
    is_online: bool,
    steps: fn(&mut Pcg64Mcg) -> Vec<Step>,
    /// What the kills must hit.
    parts: &'static [Part],
}

impl Plan {
    fn jobs(delivery: &'static str, steps: fn(&mut Pcg64Mcg) -> Vec<Step>) -> Self {
        Self {
            delivery,
            is_online: false,
            steps,
            parts: LOOP,
        }
    }

    fn online(delivery: &'static str, steps: fn(&mut Pcg64Mcg) -> Vec<Step>, parts: &'static [Part]) -> Self {
        Self {
            delivery,
            is_online: true,
            steps,
            parts,
        }
    }

    fn name(&self) -> String {
        let learner = if self.is_online { "online learner" } else { "jobs" };
        format!("{}, {learner}", self.delivery)
    }
}

/// A step of a run.
enum Step {
    Kill(Aim),
    /// The world changes, so that a candidate comes, a verdict and a swap.
    Change,
}

fn moment(random: &mut Pcg64Mcg) -> Step {
    Step::Kill(Aim::Moment(Duration::from_millis(random.random_range(200..2500))))
}

/// While the sink writes, most likely.
fn within_commit(random: &mut Pcg64Mcg) -> Step {
    let (pass, ms) = (random.random_range(2..8), random.random_range(0..6));
    Step::Kill(Aim::Later("commit-begins", pass, ms))
}

fn at(point: &'static str) -> Step {
    Step::Kill(Aim::At(point, 1))
}

fn held(point: &'static str) -> Step {
    Step::Kill(Aim::Held(point, 1))
}

fn later(point: &'static str, ms: u32) -> Step {
    Step::Kill(Aim::Later(point, 1, ms))
}

/// While the epoch of a publication is on its way to the sink, or just behind it.
fn within_publication(random: &mut Pcg64Mcg) -> Step {
    let (pass, ms) = (random.random_range(1..4), random.random_range(0..12));
    Step::Kill(Aim::Later("publication-applied", pass, ms))
}

/// For CI: every part of the loop once. What comes once in a world comes first, before a kill that leaves time for it to
/// happen unharmed.
fn short(random: &mut Pcg64Mcg) -> Vec<Step> {
    vec![
        held("job-started"),
        held("swap-committed"),
        within_commit(random),
        Step::Kill(Aim::At("outputs-written", 3)),
        at("snapshot-pack-written"),
        moment(random),
        Step::Change,
        held("verdict-decided"),
        at("swap-applied"),
    ]
}

/// Twenty kills.
fn full(random: &mut Pcg64Mcg) -> Vec<Step> {
    vec![
        at("job-started"),
        later("job-started", 60),
        at("job-trained"),
        at("artifact-put"),
        at("swap-applied"),
        held("swap-committed"),
        moment(random),
        within_commit(random),
        Step::Kill(Aim::At("outputs-written", 3)),
        at("snapshot-pack-written"),
        Step::Kill(Aim::At("snapshot-manifest-written", 2)),
        moment(random),
        Step::Change,
        later("job-started", 30),
        held("verdict-decided"),
        at("verdict-decided"),
        at("swap-applied"),
        held("swap-committed"),
        within_commit(random),
        at("epoch-computed"),
        moment(random),
    ]
}

/// For CI, an online learner: its promotion by the gate, and each moment of a publication once.
fn short_online(_: &mut Pcg64Mcg) -> Vec<Step> {
    vec![
        at("publication-put"),
        at("swap-applied"),
        held("publication-decided"),
        at("publication-put"),
        at("publication-applied"),
        held("publication-committed"),
    ]
}

/// Fifteen kills with an online learner. Its promotion comes first, since it comes once for certain; after the change it
/// may lose its place to a job's model and win it back, so nothing there is aimed at it alone.
fn full_online(random: &mut Pcg64Mcg) -> Vec<Step> {
    vec![
        at("verdict-decided"),
        at("publication-put"),
        at("swap-applied"),
        held("swap-committed"),
        held("publication-decided"),
        at("publication-put"),
        Step::Kill(Aim::At("publication-applied", 2)),
        within_publication(random),
        held("publication-committed"),
        moment(random),
        at("job-started"),
        at("snapshot-manifest-written"),
        Step::Change,
        within_commit(random),
        held("verdict-decided"),
        moment(random),
    ]
}

/// Ten of them.
fn some_online(random: &mut Pcg64Mcg) -> Vec<Step> {
    vec![
        held("verdict-decided"),
        at("publication-put"),
        at("swap-applied"),
        at("publication-decided"),
        at("publication-put"),
        within_publication(random),
        at("job-started"),
        Step::Change,
        at("snapshot-pack-written"),
        Step::Kill(Aim::At("outputs-written", 3)),
        moment(random),
    ]
}

/// A kill, and how long the daemon needed afterwards to be ready; `None` when it was killed again before.
struct Killed {
    struck: Struck,
    fed: u32,
    ready_again: Option<Duration>,
}

/// A run of one plan.
struct Run {
    plan: Plan,
    kills: Vec<Killed>,
    balance: Balance,
    /// Versions that predictions name, and versions that the registry's history names.
    served: BTreeSet<String>,
    listed: BTreeSet<String>,
    state: String,
    epochs: u64,
    verified: String,
    replay: Duration,
}

fn seed() -> u64 {
    let text = std::env::var("DRIFTMILL_SEED");
    text.map_or(4, |text| text.parse().unwrap())
}

/// Feeds the world while the daemon keeps up with it.
fn feeder(world: &World) -> impl FnMut(&Daemon) {
    let mut fed = Instant::now();
    move |daemon| {
        if fed.elapsed() < PACE {
            return;
        }
        let lag = || daemon.metrics()?.get("driftmill_source_lag_records", &[]);
        if daemon.is_ready() && lag().is_some_and(|lag| lag < f64::from(PIECE)) {
            world.feed(PIECE);
            fed = Instant::now();
        }
    }
}

fn torment(broker: &'static Broker, plan: Plan) -> Run {
    let mut random = Pcg64Mcg::seed_from_u64(seed());
    let mut world = World::new(broker, plan.delivery, RECORDS_MAX, u32::MAX).keeping_log();
    if plan.is_online {
        world = world.with_online_learner("sgd-logistic");
    }
    let name = plan.name();
    eprintln!("{name}, seed {}", seed());
    let mut kills: Vec<Killed> = Vec::new();
    for step in (plan.steps)(&mut random) {
        let aim = match step {
            Step::Kill(aim) => aim,
            Step::Change => {
                world.change_now();
                eprintln!("{name}: the world changes at record {}", world.fed());
                continue;
            }
        };
        // A moment is to find the daemon at work; a place is reached sooner without a backlog.
        let is_moment = matches!(aim, Aim::Moment(_));
        world.feed(if is_moment { BACKLOG } else { PIECE });
        let mut daemon = world.start_armed(&aim.variable());
        let struck = strike(&mut daemon, &aim, LIMIT, feeder(&world));
        eprintln!("{name} {}: {struck}", kills.len() + 1);
        if let Some(before) = kills.last_mut() {
            before.ready_again = struck.ready;
        }
        kills.push(Killed {
            struck,
            fed: world.fed(),
            ready_again: None,
        });
    }
    let mut daemon = world.start();
    let ready = daemon.wait_ready(LIMIT);
    if let Some(last) = kills.last_mut() {
        last.ready_again = Some(ready);
    }
    world.feed(PIECE);
    daemon.wait_settled(LIMIT, || world.balance());
    let status = daemon.terminate(LIMIT);
    assert!(status.success(), "{status}\n{}", daemon.log_of_run());
    let summary: serde_json::Value = serde_json::from_str(&daemon.last_line()).unwrap();
    let begun = Instant::now();
    let verified = world.verify();
    Run {
        plan,
        kills,
        balance: world.balance(),
        served: world.served(),
        listed: world.listed(),
        state: summary["state"].as_str().unwrap().to_owned(),
        epochs: summary["epoch"].as_u64().unwrap(),
        verified,
        replay: begun.elapsed(),
    }
}

impl Run {
    fn assert_sound(&self) {
        eprintln!("{}: {}", self.plan.name(), self.balance);
        eprint!("{}", self.verified);
        let hits: BTreeSet<Part> = self
            .kills
            .iter()
            .flat_map(|killed| killed.struck.hits.all())
            .map(|hit| hit.part)
            .collect();
        for part in self.plan.parts {
            assert!(hits.contains(part), "no kill hit a {}: {hits:?}", name(*part));
        }
        self.balance.assert_at_least_once();
        if self.plan.delivery == "exactly-once" {
            self.balance.assert_exactly_once();
        }
        assert!(
            self.served.len() > 1,
            "the second model never served: {:?}",
            self.served
        );
        assert_eq!(self.listed, self.lines(), "the registry's history lacks what was live");
        let has_published = self.served.len() > self.lines().len();
        assert_eq!(self.plan.is_online, has_published, "{:?}", self.served);
        let (first, last) = (self.verified.lines().next(), self.verified.lines().last());
        let expected = format!("epochs 1 to {} replayed", self.epochs);
        assert_eq!(first, Some(expected.as_str()));
        let expected = format!("epoch {}  state {}", self.epochs, self.state);
        assert_eq!(last, Some(expected.as_str()), "not the state that was killed so often");
        assert!(
            self.verified.contains("is what the log says"),
            "no snapshot was compared"
        );
    }

    /// Versions that served, each once however often it published.
    fn lines(&self) -> BTreeSet<String> {
        let line = |name: &String| name.split('@').next().unwrap_or(name).to_owned();
        self.served.iter().map(line).collect()
    }

    /// Times to be ready again, shortest first.
    fn ready(&self) -> Vec<Duration> {
        let mut ready: Vec<Duration> = self.kills.iter().filter_map(|killed| killed.ready_again).collect();
        ready.sort();
        ready
    }

    fn table(&self) -> String {
        let mut text = format!(
            "### {}\n\n| kill | aimed at | hit | records fed | ready again after s |\n|---|---|---|---|---|\n",
            self.plan.delivery
        );
        for (index, killed) in self.kills.iter().enumerate() {
            let ready = killed.ready_again.map_or_else(
                || "killed before".to_owned(),
                |ready| format!("{:.1}", ready.as_secs_f64()),
            );
            let (aim, told) = (&killed.struck.aim, killed.struck.told());
            writeln!(text, "| {} | {aim} | {told} | {} | {ready} |", index + 1, killed.fed).unwrap();
        }
        let ready = self.ready();
        let seconds = |at: usize| ready.get(at).map_or(0.0, Duration::as_secs_f64);
        let (median, longest) = (seconds(ready.len() / 2), seconds(ready.len().saturating_sub(1)));
        write!(
            text,
            "\nReady again: median {median:.1} s, longest {longest:.1} s, of {} starts.\n\nOutcomes: {}.\n\n\
             Served: {} models of {} versions, {}.\n\n\
             The state after {} epochs and {} kills has the hash `{}`; `driftmill verify` replayed all of them from the \
             first in {:.1} s and said:\n\n```\n{}```\n",
            ready.len(),
            self.balance,
            self.served.len(),
            self.lines().len(),
            Vec::from_iter(self.lines()).join(", "),
            self.epochs,
            self.kills.len(),
            self.state,
            self.replay.as_secs_f64(),
            self.verified
        )
        .unwrap();
        text
    }
}

#[test]
fn the_loop_survives_kill_9_exactly_once() {
    let Some(broker) = Broker::shared() else { return };
    let run = torment(broker, Plan::jobs("exactly-once", short));
    run.assert_sound();
    eprintln!("{}", run.table());
}

#[test]
fn the_loop_survives_kill_9_at_least_once() {
    let Some(broker) = Broker::shared() else { return };
    let run = torment(broker, Plan::jobs("at-least-once", short));
    run.assert_sound();
    eprintln!("{}", run.table());
}

#[test]
fn an_online_learner_survives_kill_9_exactly_once() {
    let Some(broker) = Broker::shared() else { return };
    let run = torment(broker, Plan::online("exactly-once", short_online, LINE_ONLINE));
    run.assert_sound();
    eprintln!("{}", run.table());
}

#[test]
fn an_online_learner_survives_kill_9_at_least_once() {
    let Some(broker) = Broker::shared() else { return };
    let run = torment(broker, Plan::online("at-least-once", short_online, LINE_ONLINE));
    run.assert_sound();
    eprintln!("{}", run.table());
}

/// A start from a snapshot behind a swap replays no swap: so there must be none before the registry's history has it.
#[test]
fn no_snapshot_hides_a_swap_from_the_history() {
    let Some(broker) = Broker::shared() else { return };
    let world = World::new(broker, "at-least-once", RECORDS_MAX, u32::MAX).keeping_every_epoch();
    let aim = Aim::Held("swap-committed", 1);
    world.feed(BACKLOG);
    let mut daemon = world.start_armed(&aim.variable());
    eprintln!("{}", strike(&mut daemon, &aim, LIMIT, feeder(&world)));
    let mut daemon = world.start();
    world.feed(PIECE);
    daemon.wait_settled(LIMIT, || world.balance());
    assert!(daemon.terminate(LIMIT).success(), "{}", daemon.log_of_run());
    assert!(!world.served().is_empty(), "no model served");
    assert_eq!(
        world.listed(),
        world.served(),
        "the registry's history lacks what was live"
    );
}

/// The command that runs it, and what its numbers need to be read.
const HEAD: &str = "# kill -9 over the whole loop\n\nWritten by the command below. Kafka 4.1 of `scripts/kafka`, one \
    node; the pipelines of `tests/tests/all/world.rs` (SQL, one-hot encoder, labels on a topic of their own, two \
    detectors, gate), a snapshot every 500 ms, built without optimisation of the release profile. \
    A kill is SIGKILL; an aim at a failpoint (`engine/src/failpoint.rs`) means a kill exactly there. What was hit is \
    read from the trace that the process had written. The time to be ready again runs from the start of the process to \
    `/readyz` saying 200, replay included.\n\n```\nscripts/test --test all -- --ignored --nocapture kills::full\n```\n\n";
const JOBS: &str = "## Models of jobs\n\nLogistic regression, fitted by jobs.\n\n";
const ONLINE: &str = "## An online learner live\n\n`[model] learner = \"sgd-logistic\"`, which publishes a snapshot every \
    10 s of event time, 100 records; beside it logistic regression, fitted by jobs, as the challenger. \
    `publication-put` with no publication before it is the snapshot that the gate promoted.\n\n";

#[test]
#[ignore = "the full form: 65 kills; writes docs/results/kills.md"]
fn full_form_of_the_kills() {
    let Some(broker) = Broker::shared() else { return };
    let jobs = ["exactly-once", "at-least-once"].map(|delivery| torment(broker, Plan::jobs(delivery, full)));
    let online = [
        ("exactly-once", full_online as fn(&mut _) -> _),
        ("at-least-once", some_online),
    ]
    .map(|(delivery, steps)| torment(broker, Plan::online(delivery, steps, LOOP_ONLINE)));
    let tables = |runs: &[Run; 2]| runs.each_ref().map(Run::table).join("\n");
    let text = format!(
        "{HEAD}Seed {}.\n\n{JOBS}{}\n{ONLINE}{}",
        seed(),
        tables(&jobs),
        tables(&online)
    );
    std::fs::write(driftmill_tests::root().join("docs/results/kills.md"), text).unwrap();
    for run in jobs.iter().chain(&online) {
        run.assert_sound();
        let ready = run.ready();
        let median = ready[ready.len() / 2];
        assert!(
            median <= READY_MAX,
            "{}: ready after {median:?} by the median",
            run.plan.name()
        );
    }
}
