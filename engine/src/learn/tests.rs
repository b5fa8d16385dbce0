//! The learn half by itself: a driver does what the engine does with its intents, with jobs that take no time.

use driftmill_models::artifact::Artifact;
use driftmill_models::frame::Column;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::example::Keys;
use crate::labels::memory::Memory;
use crate::settings::Settings;
use crate::trainer::collect_segments;
use crate::trainer::fit::fit;

/// Event time of an epoch, and its rows.
const EPOCH_MS: i64 = 1_000;
const ROWS: i64 = 100;

/// A pipeline whose labels come half a second after their rows.
fn config(model: &str, rest: &str) -> String {
    format!(
        r#"
[pipeline]
name      = "test"
state_dir = "/nowhere"
[source]
connector    = "kafka"
brokers      = "localhost:1"
topics       = ["in"]
dead_letters = "dead"
[source.schema]
at = "timestamp[ms]"
x  = "float64"
y  = "float64"
[source.time]
column = "at"
[features]
sql = "SELECT at, x, y FROM source"
[features.columns]
at = {{ role = "time" }}
[labels]
column  = "y"
horizon = "1 s"
[gate]
block = "2 s"
[sink]
connector = "kafka"
topic     = "out"
[model]
{model}
{rest}
"#
    )
}

const BATCH: &str = "learner = \"logistic-regression\"\nbootstrap_rows = 2_000";
const ONLINE: &str = "learner = \"sgd-logistic\"\nrate = 0.05\npublish_every = \"5 s\"\nbootstrap_rows = 1_000";
const ADWIN: &str = "[[drift]]\nname = \"concept\"\non = \"log-loss\"\n";

/// What the engine keeps of a version.
struct Served {
    name: String,
    artifact: String,
    model: Arc<Model>,
    online: bool,
}

struct Driver {
    half: LearnHalf,
    settings: Settings,
    dictionaries: Dictionaries,
    versions: Vec<Served>,
    live: usize,
    now_ms: i64,
    random: Pcg64,
    /// The label's dependence on the feature.
    slope: f64,
    /// What happened, in words.
    log: Vec<String>,
}

impl Driver {
    fn new(model: &str, rest: &str, seed: u64) -> Self {
        let settings = Settings::parse("test.toml", &config(model, rest)).unwrap_or_else(|p| panic!("{}", p.render()));
        let plan = &settings.plan;
        let half = half(&settings);
        Self {
            half,
            dictionaries: Dictionaries::new(&plan.columns.specs, 1 << 20),
            settings,
            versions: Vec::new(),
            live: 0,
            now_ms: 0,
            random: Pcg64::seed_from_u64(seed),
            slope: 2.0,
            log: Vec::new(),
        }
    }

    fn served(&self) -> Option<&Served> {
        self.versions.get(self.live.checked_sub(1)?)
    }

    /// Rows of the next epoch, scored by the live version, with labels.
    fn rows(&mut self) -> (Examples, EpochLabels) {
        let (mut x, mut labels, mut time_ms) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..ROWS {
            let at = self.now_ms + row * EPOCH_MS / ROWS;
            let value = self.random.random::<f64>() * 4.0 - 2.0;
            let likely = 1.0 / (1.0 + (-self.slope * value).exp());
            labels.push(Some(Label {
                value: f64::from(u8::from(self.random.random::<f64>() < likely)),
                available_ms: at + 500,
            }));
            x.push(value);
            time_ms.push(at);
        }
        let frame = driftmill_models::frame::Frame::new(ROWS as usize, vec![Column::F64(x)]);
        let mut scores = Vec::new();
        match self.served() {
            Some(served) => served
                .model
                .score(&frame, &self.dictionaries, &mut Scratch::default(), &mut scores),
            None => scores.resize(ROWS as usize, f64::NAN),
        }
        let examples = Examples {
            keys: Keys::default(),
            time_ms,
            frame,
            scores,
            version: VersionId(self.live as u32),
            weights: vec![1.0; ROWS as usize],
            shadow: Vec::new(),
        };
        let labels = EpochLabels {
            in_record: Some(labels),
            ..EpochLabels::default()
        };
        (examples, labels)
    }

    fn epoch(&mut self) {
        let (mut examples, labels) = self.rows();
        self.now_ms += EPOCH_MS;
        let live = Live {
            id: VersionId(self.live as u32),
            model: self.live.checked_sub(1).map(|index| &*self.versions[index].model),
        };
        let noted = self
            .half
            .observe(&mut examples, &labels, self.now_ms, 1, &self.dictionaries, live)
            .unwrap();
        self.log.extend(noted.alarms.iter().map(|_| "alarm".to_owned()));
        while let Some(intent) = self.half.intent(self.now_ms, self.live != 0) {
            self.carry_out(intent);
        }
    }

    fn epochs(&mut self, count: usize) {
        (0..count).for_each(|_| self.epoch());
    }

    fn carry_out(&mut self, intent: Intent) {
        match intent {
            Intent::Train { cause } => {
                self.log.push(format!("train {cause}"));
                self.half.begin_job(&cause, self.now_ms, &self.dictionaries).unwrap();
                let job = self.half.job.as_ref().unwrap().job.clone();
                let segments = collect_segments(&job, &self.half.buffer).unwrap();
                let bytes = fit(&job, &|hash| Ok(segments[hash].to_vec())).unwrap();
                let model = Artifact::read(&bytes).unwrap().model;
                self.half
                    .finish_job(&Artifact::id(&bytes), model, self.now_ms, &self.dictionaries);
            }
            Intent::Abandon { .. } => {
                self.log.push("abandon".to_owned());
                self.half.fail_job();
            }
            Intent::Publish => {
                let model = self.half.online.as_mut().unwrap().publish().unwrap();
                self.versions[self.live - 1].model = model;
                self.half.published(self.now_ms);
                self.log.push("publish".to_owned());
            }
            Intent::Decided {
                contestant,
                verdict,
                prize,
                ..
            } => {
                let what = format!("{contestant:?}");
                if verdict.answer == driftmill_models::evidence::gate::GateAnswer::Reject {
                    self.log.push(format!("reject {what}"));
                    self.half.reject(contestant, self.now_ms);
                } else {
                    self.log.push(format!("promote {what}: {}", verdict.reason));
                    self.promote(prize);
                }
            }
        }
    }

    fn promote(&mut self, prize: Prize) {
        let replaced = self.replaced();
        let ascent = match prize {
            Prize::Artifact(artifact) => {
                let model = self.half.candidate.as_ref().unwrap().shadow.model().unwrap().clone();
                self.add(artifact, model, false);
                Ascent::New
            }
            Prize::Snapshot => {
                let model = self.half.online.as_mut().unwrap().publish().unwrap();
                self.add(String::new(), model, true);
                Ascent::Online
            }
            Prize::Version(id) => {
                self.live = id.0 as usize;
                Ascent::Return
            }
        };
        let online = self.served().unwrap().online;
        self.half.new_champion(ascent, online, replaced, self.now_ms);
    }

    fn replaced(&self) -> Option<Replaced> {
        self.served().map(|served| Replaced {
            version: VersionId(self.live as u32),
            name: served.name.clone(),
            artifact: served.artifact.clone(),
            model: Arc::clone(&served.model),
        })
    }

    fn add(&mut self, artifact: String, model: Arc<Model>, online: bool) {
        let name = format!("v{}", self.versions.len() + 1);
        self.versions.push(Served {
            name,
            artifact,
            model,
            online,
        });
        self.live = self.versions.len();
    }

    /// An operator goes back to `version`.
    fn go_back(&mut self, version: usize) {
        let replaced = self.replaced();
        self.live = version;
        let online = self.served().unwrap().online;
        self.half.new_champion(Ascent::Operator, online, replaced, self.now_ms);
    }

    fn times(&self, what: &str) -> usize {
        self.log.iter().filter(|line| line.starts_with(what)).count()
    }
}

fn half(settings: &Settings) -> LearnHalf {
    let plan = &settings.plan;
    let learn = plan.learn.as_ref().unwrap();
    let encoder = plan.columns.encoder.as_ref().unwrap();
    LearnHalf::new(learn, &plan.columns.specs, encoder, Task::Binary, plan.seed)
}

#[test]
fn the_first_model_goes_live_only_when_it_beats_the_class_prior() {
    let mut driver = Driver::new(BATCH, "", 1);
    driver.epochs(22);
    assert_eq!(
        driver.log,
        ["train bootstrap"],
        "there is a candidate, and nothing is shown yet"
    );
    driver.epochs(60);
    let first = driver.log.get(1).map(String::as_str).unwrap_or_default();
    assert!(
        first.contains("promote Candidate") && first.contains("against the class prior"),
        "{:?}",
        driver.log
    );
    assert_eq!((driver.live, driver.log.len()), (1, 2), "{:?}", driver.log);
}

#[test]
fn a_first_model_that_knows_nothing_is_never_live() {
    let mut driver = Driver::new(BATCH, "[retrain]\nrows_min = 500\n", 2);
    driver.slope = 0.0;
    driver.epochs(900);
    assert_eq!((driver.live, driver.times("promote")), (0, 0), "{:?}", driver.log);
    assert!(driver.times("reject Candidate") > 0, "{:?}", driver.log);
    // It tries again with as many rows again, not with the same ones for ever.
    assert!((2..=45).contains(&driver.times("train bootstrap")), "{:?}", driver.log);
}

#[test]
fn a_model_that_was_there_before_the_first_record_waits_for_its_schedule() {
    let mut other = Driver::new(BATCH, "", 1);
    other.epochs(82);
    let model = Arc::clone(&other.versions[0].model);
    let mut driver = Driver::new(BATCH, "[retrain]\nevery = \"20 s\"\n", 12);
    driver.add("first".to_owned(), model, false);
    // No record has come: there is no event time.
    driver.half.new_champion(Ascent::New, false, None, i64::MIN);
    driver.now_ms = 1_700_000_000_000;
    driver.epochs(15);
    assert_eq!(driver.times("train"), 0, "{:?}", driver.log);
    driver.epochs(10);
    assert_eq!(driver.times("train schedule"), 1, "{:?}", driver.log);
}

#[test]
fn an_online_learner_goes_live_through_the_gate_and_publishes_by_event_time() {
    let mut driver = Driver::new(ONLINE, "", 3);
    driver.epochs(60);
    assert_eq!(
        (driver.live, driver.times("promote Challenger")),
        (1, 1),
        "{:?}",
        driver.log
    );
    let before = driver.times("publish");
    driver.epochs(50);
    assert_eq!(driver.times("publish") - before, 10, "one each five seconds");
    assert_eq!(driver.times("train"), 0);
}

#[test]
fn an_online_learner_that_goes_astray_is_held_back() {
    // With such a rate and such shrinking its weights swing from row to row.
    let mut driver = Driver::new(&ONLINE.replace("0.05", "10.0\nl2 = 1.0"), "", 4);
    driver.epochs(80);
    // Forced live, whatever the gate thinks of it.
    if driver.live == 0 {
        driver.promote(Prize::Snapshot);
    }
    // The snapshot that serves is a good one.
    let mut good = Driver::new(ONLINE, "", 4);
    good.epochs(80);
    let live = driver.live - 1;
    driver.versions[live].model = Arc::clone(&good.versions[0].model);
    let before = driver.times("publish");
    driver.half.published(driver.now_ms);
    driver.epochs(60);
    assert_eq!(driver.times("publish"), before, "{:?}", driver.log);
    let why = driver.half.online.as_ref().unwrap().held_back().unwrap();
    assert!(why.contains("above that of the snapshot"), "{why}");
}

#[test]
fn a_challenger_in_shadow_takes_over_a_world_that_changed() {
    let challenger =
        "[[challenger]]\nlearner = \"sgd-logistic\"\nrate = 0.05\npublish_every = \"5 s\"\nrows_min = 500\n";
    let mut driver = Driver::new(BATCH, &format!("{challenger}{ADWIN}"), 5);
    driver.epochs(120);
    assert_eq!((driver.live, driver.times("promote")), (1, 1), "{:?}", driver.log);
    driver.slope = -2.0;
    driver.epochs(200);
    assert_eq!(driver.times("promote Challenger"), 1, "{:?}", driver.log);
    assert!(driver.served().unwrap().online);
    assert!(driver.times("publish") > 10);
}

#[test]
fn the_champion_before_comes_back_when_its_world_does() {
    let retrain = "[retrain]\nrows_min = 500\ncooldown = \"5 s\"\n";
    let drift = ADWIN.replace("\"log-loss\"", "\"log-loss\"\naction = \"retrain\"\ndirection = \"up\"");
    let mut driver = Driver::new(BATCH, &format!("{retrain}{drift}"), 6);
    driver.epochs(120);
    driver.slope = -2.0;
    driver.epochs(120);
    assert_eq!(driver.live, 2, "{:?}", driver.log);
    driver.slope = 2.0;
    // Both may be better than the second version: the first one, and a model of a job. The first needs no training.
    driver.epochs(120);
    assert_eq!(driver.times("promote Former"), 1, "{:?}", driver.log);
    assert_eq!(driver.served().unwrap().name, "v1");
}

#[test]
fn what_an_operator_went_back_from_does_not_come_back_by_itself() {
    let challenger =
        "[[challenger]]\nlearner = \"sgd-logistic\"\nrate = 0.05\npublish_every = \"5 s\"\nrows_min = 500\n";
    let mut driver = Driver::new(BATCH, &format!("{challenger}{ADWIN}"), 7);
    driver.epochs(120);
    driver.slope = -2.0;
    driver.epochs(200);
    assert_eq!(driver.live, 2, "{:?}", driver.log);
    driver.go_back(1);
    driver.epochs(200);
    assert_eq!(driver.live, 1, "{:?}", driver.log);
    driver.half.readmit();
    driver.epochs(200);
    assert_eq!(driver.live, 3, "{:?}", driver.log);
}

#[test]
fn a_candidate_of_the_world_before_is_superseded() {
    let retrain = "[retrain]\nevery = \"100 s\"\nrows_min = 500\ncooldown = \"5 s\"\n";
    let drift = ADWIN.replace("\"log-loss\"", "\"log-loss\"\naction = \"retrain\"\ndirection = \"up\"");
    let mut driver = Driver::new(BATCH, &format!("{retrain}{drift}"), 8);
    while driver.times("train schedule") == 0 {
        driver.epoch();
    }
    driver.slope = -2.0;
    driver.epochs(150);
    let rejected = driver.log.iter().position(|line| line == "reject Candidate").unwrap();
    let drift = driver
        .log
        .iter()
        .position(|line| line == "train drift concept")
        .unwrap();
    assert!(rejected < drift, "{:?}", driver.log);
    assert_eq!(driver.live, 2, "{:?}", driver.log);
}

#[test]
fn a_job_of_the_world_before_is_abandoned() {
    let retrain = "[retrain]\nrows_min = 500\ncooldown = \"5 s\"\n";
    let drift = ADWIN.replace("\"log-loss\"", "\"log-loss\"\naction = \"retrain\"\ndirection = \"up\"");
    let mut driver = Driver::new(BATCH, &format!("{retrain}{drift}"), 10);
    driver.epochs(120);
    // A job that takes for ever.
    driver
        .half
        .begin_job("schedule", driver.now_ms, &driver.dictionaries)
        .unwrap();
    driver.slope = -2.0;
    driver.epochs(150);
    let abandoned = driver.log.iter().position(|line| line == "abandon").unwrap();
    assert_eq!(driver.log[abandoned + 1], "train drift concept", "{:?}", driver.log);
    assert_eq!(driver.live, 2, "{:?}", driver.log);
}

/// The whole state, as a snapshot would hold it.
fn contents(half: &LearnHalf) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut memory = Memory::default();
    memory.save(half);
    memory.contents()
}

#[test]
fn saved_and_restored_it_goes_on_bit_for_bit() {
    let challenger =
        "[[challenger]]\nlearner = \"sgd-logistic\"\nrate = 0.05\npublish_every = \"5 s\"\nrows_min = 500\n";
    let retrain = "[retrain]\nevery = \"100 s\"\nrows_min = 500\ncooldown = \"5 s\"\n";
    let drift = ADWIN.replace("\"log-loss\"", "\"log-loss\"\naction = \"retrain\"");
    for cut in [3, 25, 90, 131, 180, 260] {
        let mut driver = Driver::new(BATCH, &format!("{challenger}{retrain}{drift}"), 9);
        let mut memory = Memory::default();
        driver.epochs(cut / 2);
        memory.save(&driver.half);
        driver.epochs(cut - cut / 2);
        // On top of the older snapshot, as it is done: every change must have moved its stamp.
        memory.save(&driver.half);
        let mut restored = half(&driver.settings);
        driftmill_models::state::State::restore(&mut restored, &memory).unwrap();
        if let (Some(it), Some(known)) = (&mut restored.candidate, &driver.half.candidate) {
            it.shadow.set_model(known.shadow.model().unwrap().clone());
        }
        if let (Some(it), Some(known)) = (&mut restored.former, &driver.half.former) {
            it.shadow.set_model(known.shadow.model().unwrap().clone());
        }
        assert!(contents(&restored) == contents(&driver.half), "cut at {cut}");
        driver.slope = -2.0;
        for _ in 0..40 {
            let (mut examples, labels) = driver.rows();
            driver.now_ms += EPOCH_MS;
            let live =
                |versions: &[Served], live: usize| live.checked_sub(1).map(|index| Arc::clone(&versions[index].model));
            let model = live(&driver.versions, driver.live);
            for half in [&mut driver.half, &mut restored] {
                let live = Live {
                    id: VersionId(driver.live as u32),
                    model: model.as_deref(),
                };
                half.observe(&mut examples, &labels, driver.now_ms, 1, &driver.dictionaries, live)
                    .unwrap();
            }
            let intents = [&driver.half, &restored].map(|half| half.intent(driver.now_ms, driver.live != 0));
            assert_eq!(intents[0], intents[1], "cut at {cut}");
        }
        assert!(contents(&restored) == contents(&driver.half), "cut at {cut}");
    }
}
