use std::fmt::Write as _;

use driftmill_models::artifact::Artifact;
use driftmill_models::evidence::gate::{GateAnswer, GateVerdict};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::disk::LocalDisk;
use crate::learn::LearnHalf;
use crate::trainer::fit::fit;

/// A pipeline whose labels come on another topic; in history they are in the record.
const TOPIC: &str = r#"[labels]
connector = "kafka"
brokers   = "localhost:1"
topics    = ["labels"]
schema    = { id = "string", late = "bool" }
key       = "id"
label     = "late"
horizon   = "1 s"
"#;
const RECORD: &str = "[labels]\ncolumn = \"y\"\nhorizon = \"1 s\"\n";
const TIME: &str = "[source.time]\ncolumn = \"at\"\n";

struct History {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl History {
    /// Files and their content; `rest` are further sections.
    fn new(files: &[(&str, &str)], labels: &str, rest: &str) -> Self {
        Self::of(files, &Self::text(labels, rest))
    }

    fn text(labels: &str, rest: &str) -> String {
        format!(
            r#"
[pipeline]
name      = "test"
state_dir = "state"
[source]
connector    = "kafka"
brokers      = "localhost:1"
topics       = ["in"]
dead_letters = "dead"
[source.schema]
id = "string"
at = "timestamp[ms]"
x  = "float64"
k  = "string"
y  = "bool"
[features]
sql = "SELECT id, at, x, k, y FROM source WHERE x > -100"
[features.columns]
id = {{ role = "id" }}
k  = {{ encode = "one-hot", categories_max = 4 }}
y  = {{ role = "passthrough" }}
[sink]
connector = "kafka"
topic     = "out"
[model]
learner = "logistic-regression"
bootstrap = "h-*.jsonl"
[gate]
block = "2 s"
{labels}
{rest}
"#
        )
    }

    /// Files and their content, and the whole configuration.
    fn of(files: &[(&str, &str)], text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let file = folder.path().join("pipeline.toml");
        let settings =
            Settings::parse(file.to_str().unwrap(), text).unwrap_or_else(|problems| panic!("{}", problems.render()));
        Self { folder, settings }
    }

    fn files(&self) -> &BootstrapFiles {
        self.settings.plan.model.as_ref().unwrap().bootstrap.as_ref().unwrap()
    }

    fn half(&self) -> LearnHalf {
        let plan = &self.settings.plan;
        let (columns, model) = (&plan.columns, plan.model.as_ref().unwrap());
        let encoder = columns.encoder.as_ref().unwrap();
        LearnHalf::new(
            plan.learn.as_ref().unwrap(),
            &columns.specs,
            encoder,
            model.task,
            plan.seed,
        )
    }

    fn read(&self) -> Result<Read, BootstrapError> {
        let read = read(
            &LocalDisk,
            self.files(),
            &self.settings.plan,
            self.half().gather(),
            &|| true,
        )?;
        Ok(read.unwrap())
    }

    /// Fits a trial and judges it.
    fn judge(&self) -> Result<GateVerdict, String> {
        let read = self.read().map_err(|error| error.to_string())?;
        let half = self.half();
        let job = half
            .bootstrap_job(&read.history, true)
            .map_err(|error| error.to_string())?;
        let segment = |hash: &str| Ok(read.history.segments()[hash].to_vec());
        let bytes = fit(&job, &segment).map_err(|error| error.to_string())?;
        let by_time = self
            .settings
            .plan
            .columns
            .position(crate::settings::Role::Time)
            .is_some();
        half.judge(&Artifact::read(&bytes).unwrap().model, &read.history, by_time)
    }
}

/// Lines whose label depends on `x` by `slope`; one each 100 ms.
fn lines(numbers: std::ops::Range<u32>, slope: f64) -> Vec<String> {
    let mut random = Pcg64::seed_from_u64(u64::from(numbers.start) + 7);
    let line = |number: u32| {
        let x = random.random::<f64>() * 4.0 - 2.0;
        let late = random.random::<f64>() < 1.0 / (1.0 + (-slope * x).exp());
        let (at, k) = (
            1_700_000_000_000 + i64::from(number) * 100,
            ["a", "b", "c"][number as usize % 3],
        );
        format!(r#"{{"id":"r{number}","at":{at},"x":{x},"k":"{k}","late":{late},"y":{late}}}"#)
    };
    numbers.map(line).collect()
}

fn told(error: &BootstrapError) -> String {
    error.to_string()
}

#[test]
fn each_line_is_a_row_or_counted_with_its_reason() {
    let content = r#"{"id":"a","at":1,"x":1.5,"k":"p","late":true}
{"id":"b","at":2,"x":2.5,"k":"q","late":null}
{"id":"c","at":3,"x":3.5,"k":"q"}
{"id":"d","at":4,"x":-200,"late":true}
{"id":"e","at":5,"x":"5","late":true}
{"id":"f","at":6,"x":1,"late":2}
{"id":"g","at":null,"x":1,"late":true}
{"id":"h","at"

{"id":"i","at":8,"x":null,"k":"p","late":false,"unknown":[1]}
{"id":"j","at":9,"x":1,"k":null,"late":false}
"#;
    let history = History::new(&[("h-1.jsonl", content)], TOPIC, TIME);
    let plan = &history.settings.plan;
    let mut reader = RowReader::new(plan, labels_from(plan).unwrap()).unwrap();
    let file = &find(&LocalDisk, history.files()).unwrap()[0];
    let batch = Lines::new(&LocalDisk, file).next().unwrap().unwrap();
    let rows = reader.take(&file.shown, &batch).unwrap();
    assert_eq!(rows.labels, [1.0, 0.0]);
    assert_eq!(rows.time_ms, [1, 9]);
    assert_eq!(rows.available_ms, rows.time_ms);
    let counts = &reader.counts;
    assert_eq!(
        (counts.lines, counts.labelled, counts.unlabelled, counts.filtered),
        (10, 2, 2, 2),
        "{counts:?}"
    );
    assert_eq!(counts.bad, 4);
    for (told, expected) in counts.told.iter().zip([
        "h-1.jsonl:5  type in column `x`",
        "h-1.jsonl:6  type in column `late`",
        "h-1.jsonl:8  syntax",
        "h-1.jsonl:7  time: the row has no event time",
    ]) {
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn labels_of_the_record_are_read_as_the_stream_reads_them() {
    let content = "{\"at\":1,\"x\":1,\"y\":true}\n{\"at\":2,\"x\":2}\n{\"at\":3,\"x\":3,\"y\":false}\n";
    let history = History::new(&[("h-1.jsonl", content)], RECORD, TIME);
    let counts = history.read().unwrap().counts;
    assert_eq!(
        (counts.lines, counts.labelled, counts.unlabelled, counts.bad),
        (3, 2, 1, 0)
    );
}

#[test]
fn files_of_another_kind_are_refused() {
    let mut content = lines(0..100, 1.0);
    content[3] = "[1]".to_owned();
    let share = |content: &[String]| {
        History::new(&[("h-1.jsonl", &content.join("\n"))], TOPIC, TIME)
            .read()
            .map(|it| it.counts.bad)
    };
    assert_eq!(share(&content).unwrap(), 1);
    for line in &mut content[50..56] {
        "nothing".clone_into(line);
    }
    let refused = share(&content).unwrap_err().to_string();
    assert!(
        refused.starts_with("7 of 100 lines cannot be read, at most 5 % may be bad"),
        "{refused}"
    );
    assert!(
        refused.contains("h-1.jsonl:4  ") && refused.contains("h-1.jsonl:51  "),
        "{refused}"
    );
}

#[test]
fn files_without_labels_are_refused() {
    let content = "{\"id\":\"a\",\"at\":1,\"x\":1}\n";
    for (labels, expected) in [(TOPIC, "hold `late`"), (RECORD, "column `y` of the features SQL")] {
        let history = History::new(&[("h-1.jsonl", content)], labels, TIME);
        let refused = told(&history.read().err().unwrap());
        assert!(
            refused.contains("none of 1 lines") && refused.contains(expected),
            "{refused}"
        );
        assert_eq!(
            told(&look(&LocalDisk, history.files(), &history.settings.plan).unwrap_err()),
            refused
        );
    }
}

#[test]
fn files_are_read_in_order_and_named_with_their_hashes() {
    let (first, second) = (lines(0..3_000, 2.0).join("\n"), lines(3_000..7_000, 2.0).join("\n"));
    let history = History::new(&[("h-2.jsonl", &second), ("h-1.jsonl", &first)], TOPIC, TIME);
    let read = history.read().unwrap();
    let named: Vec<(&str, String)> = read
        .files
        .iter()
        .map(|file| (file.file.as_str(), file.blake3.clone()))
        .collect();
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    assert_eq!(named, [("h-1.jsonl", hash(&first)), ("h-2.jsonl", hash(&second))]);
    assert_eq!((read.history.rows(), read.history.split()), (7_000, 5_600));
    let half = history.half();
    let (trial, whole) = (
        half.bootstrap_job(&read.history, true).unwrap(),
        half.bootstrap_job(&read.history, false).unwrap(),
    );
    let rows = |job: &crate::trainer::Job| job.segments.iter().map(|it| it.to_row - it.from_row).sum::<u64>();
    assert_eq!((rows(&trial), rows(&whole)), (5_600, 7_000));
    assert_eq!(
        trial.cut_ms, 1_700_000_560_000,
        "the time of the first row that is judged"
    );
    let again = half.bootstrap_job(&history.read().unwrap().history, false).unwrap();
    assert_eq!(whole.id().unwrap(), again.id().unwrap());
}

#[test]
fn reading_ends_when_the_process_is_to_end() {
    let history = History::new(&[("h-1.jsonl", &lines(0..9, 1.0).join("\n"))], TOPIC, TIME);
    let plan = &history.settings.plan;
    let read = read(&LocalDisk, history.files(), plan, history.half().gather(), &|| false).unwrap();
    assert!(read.is_none());
}

#[test]
fn rules_of_quality_and_the_budget_of_the_buffer_hold() {
    let content = lines(0..10_000, 2.0).join("\n");
    let rest = format!("{TIME}[buffer]\nrows_max = 5_000\n[[quality]]\nrule = \"range\"\ncolumn = \"x\"\nmax = 1.0\n");
    let read = History::new(&[("h-1.jsonl", &content)], TOPIC, &rest).read().unwrap();
    let (history, held) = (&read.history, read.history.quarantined());
    assert_eq!(read.counts.labelled, 10_000);
    assert!((2_000..3_000).contains(&held.rows), "{held:?}");
    assert_eq!(history.passed() + held.rows as u64, 10_000);
    assert!(
        history.rows() <= 5_000 && history.rows() > 4_096 / 2,
        "{}",
        history.rows()
    );
}

#[test]
fn a_model_that_finds_something_is_shown_and_one_of_noise_is_not() {
    let judge = |slope: f64, time: &str| {
        let content = lines(0..6_000, slope).join("\n");
        History::new(&[("h-1.jsonl", &content)], TOPIC, time).judge().unwrap()
    };
    let shown = judge(2.0, TIME);
    assert_eq!(shown.answer, GateAnswer::Promote, "{}", shown.reason);
    assert!(
        shown
            .reason
            .contains("a model of the first 4800 rows against the class prior"),
        "{}",
        shown.reason
    );
    // 1,200 rows in blocks of 20.
    assert_eq!(shown.blocks, 60, "{}", shown.reason);
    let noise = judge(0.0, TIME);
    assert_ne!(noise.answer, GateAnswer::Promote, "{}", noise.reason);
    // Without a time, in blocks of 50 rows.
    let by_count = judge(2.0, "");
    assert_eq!(
        (by_count.answer, by_count.blocks),
        (GateAnswer::Promote, 24),
        "{}",
        by_count.reason
    );
}

/// The same lines with a vector whose second number tells the label, and every 50th without one.
fn lines_with_vectors(count: u32) -> Vec<String> {
    let mut random = Pcg64::seed_from_u64(12);
    let mut with_vector = |(number, line): (usize, String)| {
        let mut noise = || random.random::<f64>();
        let signal = noise() - 0.5 + f64::from(u8::from(line.contains("\"late\":true")));
        let vector = match number % 50 {
            0 => "null".to_owned(),
            _ => format!("[{},{signal},{}]", noise(), noise()),
        };
        line.replacen('{', &format!("{{\"v\":{vector},"), 1)
    };
    let lines = lines(0..count, 0.0).into_iter().enumerate();
    lines.map(&mut with_vector).collect()
}

#[test]
fn a_model_learns_from_vectors_that_the_sql_passes_through() {
    let content = lines_with_vectors(6_000).join("\n");
    let text = |table: &str| {
        History::text(TOPIC, TIME)
            .replace("y  = \"bool\"", "y  = \"bool\"\nv  = \"float32[3]\"")
            .replace("x, k, y FROM", "x, k, y, v AS embedding FROM")
            .replace("y  = { role", &format!("{table}\ny  = {{ role"))
    };
    for (table, is_shown) in [
        ("", true),
        (
            "embedding = { encode = 'vector', scale = 'none', missing_indicator = true }",
            true,
        ),
        ("embedding = { role = 'passthrough' }", false),
    ] {
        let history = History::of(&[("h-1.jsonl", &content)], &text(table));
        let read = history.read().unwrap();
        assert_eq!((read.counts.labelled, read.counts.bad), (6_000, 0));
        let verdict = history.judge().unwrap();
        assert_eq!(
            verdict.answer == GateAnswer::Promote,
            is_shown,
            "{table}: {}",
            verdict.reason
        );
    }
    let document = text("embedding = { encode = 'one-hot' }");
    let refused = Settings::parse("pipeline.toml", &document).err().unwrap().render();
    assert!(
        refused.contains("column `embedding` holds vectors, and `one-hot` encodes text"),
        "{refused}"
    );
}

#[test]
fn a_line_whose_vector_is_none_is_bad_and_told_with_its_column() {
    let content = r#"{"id":"a","at":1,"x":1,"late":true,"v":[1,2,3]}
{"id":"b","at":2,"x":1,"late":false,"v":[1,2]}
{"id":"c","at":3,"x":1,"late":true,"v":[1,2,null]}
{"id":"d","at":4,"x":1,"late":true}
"#;
    let text = History::text(TOPIC, TIME)
        .replace("y  = \"bool\"", "y  = \"bool\"\nv  = \"float32[3]\"")
        .replace("x, k, y FROM", "x, k, y, v FROM");
    let history = History::of(&[("h-1.jsonl", content)], &text);
    let plan = &history.settings.plan;
    let mut reader = RowReader::new(plan, labels_from(plan).unwrap()).unwrap();
    let file = &find(&LocalDisk, history.files()).unwrap()[0];
    let batch = Lines::new(&LocalDisk, file).next().unwrap().unwrap();
    let rows = reader.take(&file.shown, &batch).unwrap();
    assert_eq!(rows.labels, [1.0, 1.0]);
    let vectors = rows.frame.columns().last().unwrap();
    assert_eq!(
        (vectors.vector(0), vectors.vector(1)),
        (Some(&[1.0, 2.0, 3.0][..]), None)
    );
    for (told, expected) in reader.counts.told.iter().zip([
        "h-1.jsonl:2  type in column `v`: found an array of 2 values",
        "h-1.jsonl:3  type in column `v`: at place 2 of the array: found null",
    ]) {
        assert!(told.starts_with(expected), "{told}");
    }
    assert_eq!(reader.counts.bad, 2);
}

#[test]
fn history_that_is_not_in_order_shows_nothing_and_says_why() {
    let mut content = lines(0..6_000, 2.0);
    // The newest rows first, so that the last are older than those that were learned from.
    content.rotate_right(2_000);
    let verdict = History::new(&[("h-1.jsonl", &content.join("\n"))], TOPIC, TIME).judge();
    let reason = verdict.map_or_else(
        |refused| refused,
        |verdict| {
            assert_ne!(verdict.answer, GateAnswer::Promote, "{}", verdict.reason);
            verdict.reason
        },
    );
    assert!(reason.contains("oldest first"), "{reason}");
}

#[test]
fn check_says_what_is_there_and_needs_nothing_where_there_is_a_state() {
    let mut content = lines(0..1_500, 2.0);
    content[1] = "nothing".to_owned();
    let history = History::new(&[("h-1.jsonl", &content.join("\n")), ("h-2.jsonl", "")], TOPIC, TIME);
    let Some(Examined::Fine(told)) = examine(&LocalDisk, &history.settings) else {
        panic!()
    };
    let mut expected = String::new();
    let bytes = content.join("\n").len();
    write!(
        expected,
        "bootstrap: 2 files, h-1.jsonl to h-2.jsonl, {bytes} bytes; of the first 1000 lines 999 are rows with a label, 0 \
         have none, 0 are left out by the SQL, 1 cannot be read\n  h-1.jsonl:2  "
    )
    .unwrap();
    assert!(told.starts_with(&expected), "{told}");
    for name in ["h-1.jsonl", "h-2.jsonl"] {
        std::fs::remove_file(history.folder.path().join(name)).unwrap();
    }
    let wrong = "no file matches `h-*.jsonl`";
    assert_eq!(
        examine(&LocalDisk, &history.settings),
        Some(Examined::Wrong(wrong.to_owned()))
    );
    let snapshots = history.folder.path().join("state/snapshots");
    std::fs::create_dir_all(&snapshots).unwrap();
    std::fs::write(snapshots.join("1"), "").unwrap();
    let Some(Examined::NotNeeded(told)) = examine(&LocalDisk, &history.settings) else {
        panic!()
    };
    assert!(told.starts_with(wrong), "{told}");
}
