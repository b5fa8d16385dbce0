//! The configurations that are measured: W1, the whole loop and its parts, and loops that change models while they run.

use std::path::Path;

/// Where a pipeline reads, writes, keeps its state and listens.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Brokers.
    pub brokers: &'a str,
    /// Topic of the records.
    pub input: &'a str,
    /// Topic of the predictions; the pipeline has its name.
    pub output: &'a str,
    /// Folder of the state.
    pub state: &'a Path,
    /// Address of metrics and commands.
    pub listen: &'a str,
}

/// How much of the loop a pipeline does: each does what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Eight SQL expressions and a filter.
    Sql,
    /// Encodes and scores, with a linear model that an earlier run made.
    Scored(&'a Path),
    /// Joins labels, evaluates every version, fills the buffer of training rows.
    Labelled(&'a Path),
    /// Compares the distributions of eight features.
    Watched(&'a Path),
    /// Learns: the whole loop. The model is the learner's own, published once in a second of event time.
    Learned,
}

impl Stage<'_> {
    /// What it adds, in words.
    #[must_use]
    pub fn adds(&self) -> &'static str {
        match self {
            Self::Sql => "SQL (W1 on these records)",
            Self::Scored(_) => "+ encoders and linear model",
            Self::Labelled(_) => "+ labels, progressive evaluation, buffer",
            Self::Watched(_) => "+ drift on 8 features",
            Self::Learned => "+ learning online, publishing: the whole loop",
        }
    }
}

/// Feature columns of the pipelines with a model.
pub const FEATURES: usize = 8;

const COLUMNS: &str = r#"
[features.columns]
id     = { role = "passthrough" }
ts     = { role = "time" }
temp_f = { role = "passthrough" }
carrier      = { encode = "one-hot", categories_max = 16 }
dest         = { encode = "one-hot", categories_max = 16 }
hour         = { encode = "standardise" }
km           = { encode = "standardise" }
log_distance = { encode = "standardise" }
temp_c       = { encode = "standardise" }
wind2        = { encode = "standardise" }
is_jfk       = { encode = "standardise" }
"#;

const LABELS: &str = r#"
[labels]
column       = "late"
available_at = "late_at"
horizon      = "1 s"

[gate]
block = "20 ms"
"#;

const DRIFT: &str = r#"
[[drift]]
name     = "inputs"
on       = "features"
detector = "ks"
"#;

const ONLINE: &str = r#"
[model]
learner        = "sgd-logistic"
bootstrap_rows = 20_000
publish_every  = "1 s"
"#;

/// W1: eight expressions and a filter, no model, at least once; on the records of [`crate::flights::Flights::new`].
#[must_use]
pub fn w1(place: &Place<'_>) -> String {
    pipeline(place, ("int64", "", ""), "")
}

/// The loop up to a stage, on the records of [`crate::flights::Flights::labelled`].
#[must_use]
pub fn staged(place: &Place<'_>, stage: Stage<'_>) -> String {
    let frozen = |artifact: &Path, labels: &str| {
        let artifact = artifact.display();
        // A learner of jobs that nothing asks for: where none is named, `auto` would learn.
        let model = "[model]\nlearner = \"logistic-regression\"";
        format!("{COLUMNS}{labels}\n{model}\ninitial = \"{artifact}\"\n")
    };
    // Where nobody says that it is the label, it would be a feature.
    let no_label = "late = { role = \"passthrough\" }\n";
    let rest = match stage {
        Stage::Sql => String::new(),
        Stage::Scored(artifact) => frozen(artifact, no_label),
        Stage::Labelled(artifact) => frozen(artifact, "") + LABELS,
        Stage::Watched(artifact) => frozen(artifact, "") + LABELS + DRIFT,
        Stage::Learned => [COLUMNS, ONLINE, LABELS, DRIFT].concat(),
    };
    labelled(place, &rest)
}

/// A loop whose live model changes often: first a model of 500 rows, then the online learner, that beats it and publishes
/// ten times in a second of event time. An operator can go back from the one to the other.
#[must_use]
pub fn swapping(place: &Place<'_>) -> String {
    let rest = r#"
[model]
learner        = "logistic-regression"
bootstrap_rows = 500

[[challenger]]
learner       = "sgd-logistic"
publish_every = "100 ms"

[epoch]
in_flight_max = 64
"#;
    labelled(place, &[COLUMNS, rest, LABELS, DRIFT].concat())
}

/// A loop whose model is fitted by jobs, on 40,000 rows of a buffer of 200,000: `every_s` after the beginning of the job
/// before, but not before that one's model was judged, which takes at most 2 seconds; without `every_s` once.
#[must_use]
pub fn retraining(place: &Place<'_>, every_s: Option<u64>) -> String {
    let model =
        "\n[model]\nlearner        = \"logistic-regression\"\nbootstrap_rows = 20_000\nrows_max       = 40_000\n";
    let retrain = every_s.map_or(String::new(), |every| format!("\n[retrain]\nevery = \"{every} s\"\n"));
    let age = "age_max = \"2 s\"\n";
    labelled(place, &[COLUMNS, model, &retrain, LABELS, age, DRIFT].concat())
}

fn labelled(place: &Place<'_>, rest: &str) -> String {
    let times = ("timestamp[ms]", "late_at    = \"timestamp[ms]\"\n", ", late, late_at");
    pipeline(place, times, rest)
}

/// `times`: the type of `ts`, the further column of the schema, and the further columns of the SQL.
fn pipeline(place: &Place<'_>, times: (&str, &str, &str), rest: &str) -> String {
    let Place {
        brokers,
        input,
        output,
        state,
        listen,
    } = place;
    let state = state.display();
    let (ts, further, selected) = times;
    format!(
        r#"[pipeline]
name      = "{output}"
state_dir = "{state}"
delivery  = "at-least-once"

[source]
connector = "kafka"
brokers   = "{brokers}"
topics    = ["{input}"]
format    = "json"

[source.schema]
id         = "int64"
ts         = "{ts}"
carrier    = "string"
flight     = "int64"
tailnum    = "string"
origin     = "string"
dest       = "string"
sched_dep  = "int64"
distance   = "int64"
temp       = "float64"
wind_speed = "float64"
late       = "int64"
{further}
[features]
sql = """
SELECT id, ts, carrier,
       CAST(FLOOR(sched_dep / 100) AS BIGINT)              AS hour,
       distance * 1.609344                                 AS km,
       LN(distance + 1)                                    AS log_distance,
       COALESCE(temp, 55.0)                                AS temp_f,
       (COALESCE(temp, 55.0) - 32) * 5.0 / 9.0             AS temp_c,
       COALESCE(wind_speed, 0) * COALESCE(wind_speed, 0)   AS wind2,
       CASE WHEN origin = 'JFK' THEN 1 ELSE 0 END          AS is_jfk,
       UPPER(dest)                                         AS dest{selected}
FROM source
WHERE distance > 200
"""
{rest}
[sink]
connector = "kafka"
topic     = "{output}"

[http]
listen = "{listen}"
"#
    )
}

#[cfg(test)]
mod tests {
    use driftmill::settings::Settings;

    use super::*;
    use crate::flights::{Flights, schema};

    fn place() -> Place<'static> {
        Place {
            brokers: "127.0.0.1:1",
            input: "in",
            output: "out",
            state: Path::new("/nowhere"),
            listen: "127.0.0.1:0",
        }
    }

    fn settings(text: &str) -> Settings {
        match Settings::parse("bench.toml", text) {
            Ok(settings) => settings,
            Err(problems) => panic!("{}", problems.render()),
        }
    }

    /// Records that the pipeline keeps of 500 that these flights make, and that they say it keeps.
    fn kept(settings: &Settings, mut flights: Flights) -> (usize, usize) {
        let (mut line, mut expected) = (String::new(), 0);
        let mut write = |_| {
            expected += usize::from(flights.write(&mut line).is_kept);
            line.clone()
        };
        let records: Vec<String> = (0..500).map(&mut write).collect();
        let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| Some(record.as_bytes())).collect();
        let read = settings.plan.transform.read_schema().clone();
        let decoded = settings
            .plan
            .source_codec
            .decoder(read)
            .unwrap()
            .decode(&payloads)
            .unwrap();
        assert!(decoded.bad.is_empty(), "{:?}", decoded.bad.first());
        let transformed = settings.plan.transform.apply(&decoded.batch);
        assert!(transformed.failed.is_empty());
        (transformed.batch.num_rows(), expected)
    }

    #[test]
    fn w1_passes_the_check_and_reads_nine_columns_of_twelve() {
        let settings = settings(&w1(&place()));
        assert_eq!(settings.plan.schema.fields().len(), schema(false).fields().len());
        assert_eq!(settings.plan.transform.read_schema().fields().len(), 9);
        let (kept, expected) = kept(&settings, Flights::new(2));
        assert_eq!(kept, expected);
    }

    #[test]
    fn each_stage_adds_its_part() {
        let artifact = Path::new("/nowhere/model");
        let stages = [
            Stage::Sql,
            Stage::Scored(artifact),
            Stage::Labelled(artifact),
            Stage::Watched(artifact),
            Stage::Learned,
        ];
        let mut found = Vec::new();
        for stage in stages {
            let settings = settings(&staged(&place(), stage));
            let plan = &settings.plan;
            let learn = plan.learn.as_ref();
            found.push((
                plan.columns.features.len(),
                learn.is_some(),
                learn.map_or(0, |learn| learn.drifts.len()),
                learn.is_some_and(|learn| learn.lines.online.is_some()),
            ));
            let (kept, expected) = kept(&settings, Flights::labelled(2, 1_000_000));
            assert_eq!(kept, expected, "{stage:?}");
        }
        assert_eq!(
            found,
            [
                (0, false, 0, false),
                (FEATURES, false, 0, false),
                (FEATURES, true, 0, false),
                (FEATURES, true, 1, false),
                (FEATURES, true, 1, true)
            ]
        );
    }

    #[test]
    fn loops_that_change_models_pass_the_check() {
        for text in [
            swapping(&place()),
            retraining(&place(), Some(5)),
            retraining(&place(), None),
        ] {
            assert_eq!(settings(&text).plan.columns.features.len(), FEATURES);
        }
    }
}
