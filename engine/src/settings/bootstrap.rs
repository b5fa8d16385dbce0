//! `bootstrap` of `[model]`: which files hold the history that the first model is fitted on. Only the text is looked at
//! here: a pipeline that has a state starts without the files.

use std::path::{Path, PathBuf};

use driftmill_config::{Document, Problems, Section};

/// What the files are called last.
const EXTENSION: &str = "jsonl";

/// Files of history by a path or a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapFiles {
    /// As it was written.
    pub shown: String,
    /// Their folder.
    pub folder: PathBuf,
    /// The name of the file; one `*` in it stands for any characters.
    pub name: String,
}

impl BootstrapFiles {
    /// Reads the key, relative to the folder of the document.
    pub(super) fn read(model: &Section<'_>, document: &Document, problems: &mut Problems) -> Option<Self> {
        let shown: String = model.get("bootstrap", problems)?;
        match Self::parse(&shown) {
            Ok((folder, name)) => Some(Self {
                folder: document.resolve(folder),
                name: name.to_owned(),
                shown,
            }),
            Err((message, help)) => {
                problems.push(model.key_span("bootstrap"), message, Some(help));
                None
            }
        }
    }

    /// Folder and name; or what is wrong, and what to do.
    fn parse(shown: &str) -> Result<(&str, &str), (String, String)> {
        let (folder, name) = shown.rsplit_once('/').map_or(("", shown), |(folder, name)| {
            // The root is a folder, and the only one whose name ends so.
            (if folder.is_empty() { "/" } else { folder }, name)
        });
        let help =
            "write a path such as \"history/2012.jsonl\", or a pattern such as \"history/2012-*.jsonl\"".to_owned();
        if name.is_empty() {
            return Err(("`bootstrap` names no file".to_owned(), help));
        }
        if folder.contains('*') {
            return Err((
                "`*` may stand in the name of the file only, not in its folder".to_owned(),
                help,
            ));
        }
        if name.matches('*').count() > 1 {
            return Err(("the name of the file may hold one `*`".to_owned(), help));
        }
        let help = "write the records as JSON, one a line, into files that end in `.jsonl`".to_owned();
        match Path::new(name).extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) => Ok((folder, name)),
            Some("parquet") => Err(("Parquet files are not yet supported".to_owned(), help)),
            Some(other) => Err((format!("`.{other}` files are not supported"), help)),
            None => Err(("the name of the file has no extension".to_owned(), help)),
        }
    }

    /// Whether a file of the folder is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((before, after)) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
        }
    }

    /// Whether the name is a pattern.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// A file of the folder as people who wrote the pattern know it.
    #[must_use]
    pub fn show(&self, name: &str) -> String {
        match self.shown.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// A pipeline whose labels are in the record; `model` are lines of its `[model]`.
    fn config(model: &str, labels: &str) -> String {
        format!(
            r#"[model]
{model}
[pipeline]
name      = "test"
state_dir = "/nowhere"
[source]
connector    = "kafka"
brokers      = "localhost:1"
topics       = ["in"]
dead_letters = "dead"
schema       = {{ x = "float64", y = "float64" }}
[features]
sql = "SELECT x, y FROM source"
[sink]
connector = "kafka"
topic     = "out"
{labels}
"#
        )
    }

    const LABELS: &str = "[labels]\ncolumn = \"y\"\nhorizon = \"1 s\"\n[gate]\nblock = \"2 s\"\n[retrain]";

    /// What the key reads as, or all that is wrong.
    fn check(model: &str, labels: &str) -> String {
        match Settings::parse("conf/test.toml", &config(model, labels)) {
            Ok(settings) => match &settings.plan.model.as_ref().unwrap().bootstrap {
                None => "none".to_owned(),
                Some(files) => format!("{} of {}: {}", files.name, files.folder.display(), files.shown),
            },
            Err(problems) => problems.render(),
        }
    }

    #[test]
    fn a_path_is_relative_to_the_file_and_a_pattern_stands_in_its_name() {
        let read = check("bootstrap = \"history/2012-*.jsonl\"", LABELS);
        assert_eq!(read, "2012-*.jsonl of conf/history: history/2012-*.jsonl");
        assert_eq!(check("bootstrap = \"/a.jsonl\"", LABELS), "a.jsonl of /: /a.jsonl");
        assert_eq!(check("bootstrap = \"a.jsonl\"", LABELS), "a.jsonl of conf/: a.jsonl");
        assert_eq!(check("bootstrap_rows = 9", LABELS), "none");
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name_at_its_place() {
        for (value, message) in [
            ("\"history/2012-*.parquet\"", "Parquet files are not yet supported"),
            ("\"history/2012.csv\"", "`.csv` files are not supported"),
            ("\"history/2012.jsonl.gz\"", "`.gz` files are not supported"),
            ("\"history/2012\"", "the name of the file has no extension"),
            ("\"history/\"", "`bootstrap` names no file"),
            (
                "\"*/2012.jsonl\"",
                "`*` may stand in the name of the file only, not in its folder",
            ),
            ("\"*-*.jsonl\"", "the name of the file may hold one `*`"),
            ("3", "expected a string"),
        ] {
            let read = check(&format!("bootstrap = {value}"), LABELS);
            assert!(
                read.starts_with("conf/test.toml:2:13  ") && read.contains(message),
                "{value}: {read}"
            );
        }
    }

    #[test]
    fn what_contradicts_it_is_refused() {
        let check_both = |more: &str| check(&format!("bootstrap = \"a.jsonl\"\n{more}"), LABELS);
        let read = check_both("initial = \"v7.dma\"");
        assert!(
            read.contains("test.toml:2:1  `bootstrap` and `initial` contradict each other"),
            "{read}"
        );
        let read = check_both("learner = \"sgd-logistic\"");
        assert!(
            read.contains("test.toml:2:13  an online learner learns from the stream alone"),
            "{read}"
        );
        let read = check_both("before_model = \"hold\"");
        assert!(
            read.contains("test.toml:3:16  nothing would ever end the wait"),
            "{read}"
        );
        let read = check("bootstrap = \"a.jsonl\"", "");
        assert!(
            read.contains("test.toml:2:1  no labels to fit a first model on"),
            "{read}"
        );
        let read = check("bootstrap = \"a.jsonl\"", "[labels]\ncolumn = \"y\"\nhorizon = \"1 s\"");
        assert!(read.contains("missing section [gate]"), "{read}");
        let read = check("task = \"binary\"", LABELS);
        assert!(read.contains("name files of history in `bootstrap`"), "{read}");
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        let files = |name: &str| BootstrapFiles {
            shown: format!("h/{name}"),
            folder: PathBuf::from("h"),
            name: name.to_owned(),
        };
        let pattern = files("ab*ba.jsonl");
        for (name, expected) in [
            ("abba.jsonl", true),
            ("ab-ba.jsonl", true),
            ("aba.jsonl", false),
            ("xab-ba.jsonl", false),
            ("ab-ba.jsonl.tmp", false),
        ] {
            assert_eq!(pattern.matches(name), expected, "{name}");
        }
        assert!(files("a.jsonl").matches("a.jsonl") && !files("a.jsonl").matches("aa.jsonl"));
        assert_eq!(pattern.show("abba.jsonl"), "h/abba.jsonl");
    }

    #[test]
    fn the_files_are_no_part_of_the_plan() {
        let hash = |model: &str| {
            Settings::parse("t.toml", &config(model, LABELS))
                .unwrap()
                .plan
                .hash
                .clone()
        };
        let rows = "\nbootstrap_rows = 100";
        assert_eq!(
            hash(&format!("bootstrap = \"a.jsonl\"{rows}")),
            hash(&format!("bootstrap = \"b.jsonl\"{rows}"))
        );
        assert_eq!(hash(&format!("bootstrap = \"a.jsonl\"{rows}")), hash(&rows[1..]));
    }
}
