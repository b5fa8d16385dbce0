//! Whether a table has the keys that its fields allow, and all that they demand.

use crate::component::{Field, Kind, Need, listed, unknown_name};
use crate::nearest::nearest;
use crate::node;
use crate::problems::Problems;
use crate::secret::{Secret, file_key};
use crate::section::{Section, missing_table};
use crate::units::ByteSize;
use crate::value::{FromValue, Value};
use std::time::Duration;

impl<'d> Section<'d> {
    /// Compares the table with its fields: unknown keys (with the nearest valid name), keys that are not yet
    /// supported, missing ones, values of a wrong type; the tables inside likewise. An absent table is not checked.
    pub fn check(&self, fields: &[Field], problems: &mut Problems) {
        for (key, _) in self.entries() {
            match fields.iter().find(|field| field.name == key) {
                Some(Field { need: Need::NotYet, .. }) => self.not_yet(key, problems),
                Some(field) => self.check_value(field, problems),
                None => self.check_other(key, fields, problems),
            }
        }
        if self.is_present() {
            fields
                .iter()
                .filter(|field| matches!(field.need, Need::Required))
                .for_each(|field| {
                    self.check_required(field, problems);
                });
        }
    }

    fn not_yet(&self, key: &str, problems: &mut Problems) {
        let message = format!("`{key}` {} is not yet supported by this version", self.place_name());
        problems.push(self.name_span(key), message, None);
    }

    fn check_required(&self, field: &Field, problems: &mut Problems) {
        let key = field.name;
        let given = match field.kind {
            Kind::Secret => Secret::is_given(*self, key),
            _ => self.has(key),
        };
        match field.kind {
            _ if given => {}
            Kind::Table(_) | Kind::Map => {
                problems.push(self.span(), missing_table(&node::join(self.path(), key)), None);
            }
            Kind::Tables(_) => {
                problems.push(
                    self.span(),
                    format!("missing section [[{}]]", node::join(self.path(), key)),
                    None,
                );
            }
            _ => self.missing(key, problems),
        }
    }

    fn check_value(&self, field: &Field, problems: &mut Problems) {
        let key = field.name;
        match field.kind {
            Kind::String => self.try_as::<String>(key, problems),
            Kind::Bool => self.try_as::<bool>(key, problems),
            Kind::Integer => self.try_as::<IntegerOfAnySize>(key, problems),
            Kind::Float => self.try_as::<f64>(key, problems),
            Kind::Duration => self.try_as::<Duration>(key, problems),
            Kind::Bytes => self.try_as::<ByteSize>(key, problems),
            Kind::Secret => self.try_as::<Secret>(key, problems),
            Kind::Strings => self.try_as::<Vec<String>>(key, problems),
            Kind::Floats => self.try_as::<Vec<f64>>(key, problems),
            Kind::OneOf(words) => self.check_word(key, words, problems),
            Kind::Table(fields) => self.table(key, problems).check(fields, problems),
            Kind::Tables(fields) => {
                self.tables(key, problems)
                    .iter()
                    .for_each(|section| section.check(fields, problems));
            }
            Kind::Map => {
                self.table(key, problems);
            }
            Kind::Any => {}
        }
    }

    fn try_as<T: FromValue>(&self, key: &str, problems: &mut Problems) {
        let _: Option<T> = self.get(key, problems);
    }

    fn check_word(&self, key: &str, words: &[&str], problems: &mut Problems) {
        let Some(value) = self.value(key) else { return };
        let Some(word) = value.as_str() else {
            let fault = value.wrong_type(&format!("one of {}", listed(words)));
            return problems.push(fault.span, fault.message, fault.help);
        };
        if words.contains(&word) {
            return;
        }
        let message = match value.is_substituted() {
            true => format!("expected one of {}; what the environment says is none", listed(words)),
            false => unknown_name("value", &shortened(word), words),
        };
        problems.push(value.span(), message, None);
    }

    /// A key that no field has: the file of a secret, or a mistake.
    fn check_other(&self, key: &str, fields: &[Field], problems: &mut Problems) {
        let is_secret = |field: &&Field| matches!(field.kind, Kind::Secret) && !matches!(field.need, Need::NotYet);
        if let Some(field) = fields
            .iter()
            .filter(is_secret)
            .find(|field| file_key(field.name) == key)
        {
            return self.try_as::<Secret>(field.name, problems);
        }
        let file_keys: Vec<String> = fields
            .iter()
            .filter(is_secret)
            .map(|field| file_key(field.name))
            .collect();
        let known: Vec<&str> = fields
            .iter()
            .filter(|field| !matches!(field.need, Need::NotYet))
            .map(|field| field.name)
            .collect();
        let near = nearest(key, known.iter().copied().chain(file_keys.iter().map(String::as_str)));
        if let Some(near) = near
            && fields.iter().filter(is_secret).any(|field| field.name == near)
        {
            problems.hide(self.key_span(key));
        }
        let unknown = format!("unknown key `{}` {}", shortened(key), self.place_name());
        let message = match near {
            Some(near) => format!("{unknown}; did you mean `{near}`?"),
            None => format!("{unknown}; valid keys: {}", listed(&known)),
        };
        problems.push(self.name_span(key), message, None);
    }
}

/// An integer whose bounds are the business of the one who takes it out.
struct IntegerOfAnySize;

impl FromValue for IntegerOfAnySize {
    fn from_value(value: Value<'_>) -> Result<IntegerOfAnySize, crate::value::Fault> {
        match value.node.kind {
            node::NodeKind::Integer(_) => Ok(IntegerOfAnySize),
            _ => Err(value.wrong_type("an integer")),
        }
    }
}

fn shortened(word: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match word.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", word.get(..end).unwrap_or("")),
        None => word.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use expect_test::{Expect, expect};

    const SCHEMA: &[Field] = &[
        Field {
            name: "source",
            kind: Kind::Table(&[
                Field {
                    name: "brokers",
                    kind: Kind::String,
                    need: Need::Required,
                    doc: "",
                },
                Field {
                    name: "topics",
                    kind: Kind::Strings,
                    need: Need::Required,
                    doc: "",
                },
                Field {
                    name: "format",
                    kind: Kind::OneOf(&["json", "avro"]),
                    need: Need::Optional(""),
                    doc: "",
                },
                Field {
                    name: "login",
                    kind: Kind::Secret,
                    need: Need::Optional(""),
                    doc: "",
                },
                Field {
                    name: "wait",
                    kind: Kind::Duration,
                    need: Need::Optional(""),
                    doc: "",
                },
                Field {
                    name: "schema",
                    kind: Kind::Map,
                    need: Need::Optional(""),
                    doc: "",
                },
            ]),
            need: Need::Required,
            doc: "",
        },
        Field {
            name: "drift",
            kind: Kind::Tables(&[
                Field {
                    name: "rows",
                    kind: Kind::Integer,
                    need: Need::Required,
                    doc: "",
                },
                Field {
                    name: "size",
                    kind: Kind::Bytes,
                    need: Need::Optional(""),
                    doc: "",
                },
                Field {
                    name: "bounds",
                    kind: Kind::Floats,
                    need: Need::Optional(""),
                    doc: "",
                },
                Field {
                    name: "warn",
                    kind: Kind::Bool,
                    need: Need::Optional(""),
                    doc: "",
                },
                Field {
                    name: "extra",
                    kind: Kind::Any,
                    need: Need::Optional(""),
                    doc: "",
                },
            ]),
            need: Need::Optional(""),
            doc: "",
        },
        Field {
            name: "slice",
            kind: Kind::Tables(&[]),
            need: Need::NotYet,
            doc: "",
        },
    ];

    fn check(text: &str, expected: Expect) {
        let env = |name: &str| (name == "SET").then(|| "s3cret".to_string());
        let document = Document::parse("flights.toml", text, &env).unwrap();
        let mut problems = document.problems();
        document.root().check(SCHEMA, &mut problems);
        let rendered = problems.render();
        assert!(!rendered.contains("s3cret"), "{rendered}");
        expected.assert_eq(&rendered);
        // A second look adds nothing.
        document.root().check(SCHEMA, &mut problems);
        assert_eq!(problems.render(), rendered);
    }

    #[test]
    fn what_is_right_is_silent() {
        check(
            r#"
            [source]
            brokers = "${SET}"
            topics = ["a"]
            format = "json"
            login = "x"
            schema = { any = "thing" }
            [[drift]]
            rows = 1_000
            size = "1 GiB"
            bounds = [1, 2.5]
            warn = true
            extra = 1979-05-27
            "#,
            expect![""],
        );
    }

    #[test]
    fn unknown_keys_have_the_nearest_name_or_all() {
        check(
            "sorce = 1\n[source]\nbrokrs = \"x\"\ntopics = []\n'f o' = 1\n\"weather report\" = 2\n",
            expect![[r#"
                flights.toml:1:1  unknown key `sorce` at the top level; did you mean `source`?
                    1 | sorce = 1
                      | ^^^^^
                flights.toml:2:1  missing key `brokers` in [source]
                    2 | [source]
                      | ^^^^^^^^
                flights.toml:3:1  unknown key `brokrs` in [source]; did you mean `brokers`?
                    3 | brokrs = "x"
                      | ^^^^^^
                flights.toml:5:1  unknown key `f o` in [source]; valid keys: `brokers`, `topics`, `format`, `login`, `wait`, `schema`
                    5 | 'f o' = 1
                      | ^^^^^
                flights.toml:6:1  unknown key `weather report` in [source]; valid keys: `brokers`, `topics`, `format`, `login`, `wait`, `schema`
                    6 | "weather report" = 2
                      | ^^^^^^^^^^^^^^^^
            "#]],
        );
    }

    #[test]
    fn missing_keys_stand_at_their_section() {
        check(
            "[source]\ntopics = 'a'\n[[drift]]\n[[drift]]\nrows = '1'\n",
            expect![[r#"
                flights.toml:1:1  missing key `brokers` in [source]
                    1 | [source]
                      | ^^^^^^^^
                flights.toml:2:10  expected a list of strings such as ["a", "b"], found string
                    2 | topics = 'a'
                      |          ^^^
                flights.toml:3:1  missing key `rows` in [[drift]]
                    3 | [[drift]]
                      | ^^^^^^^^^
                flights.toml:5:8  expected an integer, found string
                    5 | rows = '1'
                      |        ^^^
            "#]],
        );
    }

    #[test]
    fn keys_of_later_versions_are_refused() {
        check(
            "[source]\nbrokers = ''\ntopics = []\n[[slice]]\nby = 1\n",
            expect![[r#"
                flights.toml:4:3  `slice` at the top level is not yet supported by this version
                    4 | [[slice]]
                      |   ^^^^^
            "#]],
        );
    }

    #[test]
    fn wrong_types_say_what_is_expected() {
        check(
            r#"drift = [{ rows = 1.5, size = "64", bounds = [1, "2"], warn = "yes" }, 3]
            [source]
            brokers = 1
            topics = ["a", 2]
            format = "jsn"
            wait = 30
            login = 5
            schema = "x"
            "#,
            expect![[r#"
                flights.toml:1:19  expected an integer, found float
                    1 | drift = [{ rows = 1.5, size = "64", bounds = [1, "2"], warn = "yes" }, 3]
                      |                   ^^^
                flights.toml:1:31  missing unit: write "64 MiB"
                    1 | drift = [{ rows = 1.5, size = "64", bounds = [1, "2"], warn = "yes" }, 3]
                      |                               ^^^^
                flights.toml:1:50  expected a number, found string
                    1 | drift = [{ rows = 1.5, size = "64", bounds = [1, "2"], warn = "yes" }, 3]
                      |                                                  ^^^
                flights.toml:1:63  expected true or false, found string
                    1 | drift = [{ rows = 1.5, size = "64", bounds = [1, "2"], warn = "yes" }, 3]
                      |                                                               ^^^^^
                flights.toml:1:72  expected a table, found integer
                    1 | drift = [{ rows = 1.5, size = "64", bounds = [1, "2"], warn = "yes" }, 3]
                      |                                                                        ^
                flights.toml:3:23  expected a string, found integer
                    3 |             brokers = 1
                      |                       ^
                flights.toml:4:28  expected a string, found integer
                    4 |             topics = ["a", 2]
                      |                            ^
                flights.toml:5:22  unknown value `jsn`; did you mean `json`?
                    5 |             format = "jsn"
                      |                      ^^^^^
                flights.toml:6:20  expected a duration such as "30 s", found integer
                    6 |             wait = 30
                      |                    ^^
                      = missing unit: write "30 s"
                flights.toml:7:21  expected a string, found integer
                    7 |             login = ***
                      |                     ^^^
                flights.toml:8:22  expected a table `[source.schema]`, found string
                    8 |             schema = "x"
                      |                      ^^^
            "#]],
        );
    }

    #[test]
    fn tables_and_arrays_of_them_are_told_apart() {
        check(
            "[drift]\nrows = 1\n[[source]]\nbrokers = ''",
            expect![[r#"
            flights.toml:1:1  expected `[[drift]]`, an array of tables, found table
                1 | [drift]
                  | ^^^^^^^
            flights.toml:3:1  there is one table `[source]`, found an array of them
                3 | [[source]]
                  | ^^^^^^^^^^
        "#]],
        );
    }

    #[test]
    fn what_the_environment_says_is_not_shown() {
        check(
            "[source]\nbrokers = ''\ntopics = []\nformat = '${SET}'\nwait = '${SET}'\nlogin_file = '${SET}'",
            expect![[r#"
                flights.toml:4:10  expected one of `json`, `avro`; what the environment says is none
                    4 | format = '${SET}'
                      |          ^^^^^^^^
                flights.toml:5:8  expected a duration such as "30 s"; what the environment says is none
                    5 | wait = '${SET}'
                      |        ^^^^^^^^
                flights.toml:6:14  the file of the secret cannot be read: No such file or directory (os error 2)
                    6 | login_file = '${SET}'
                      |              ^^^^^^^^
            "#]],
        );
    }

    #[test]
    fn secrets_on_the_line_are_masked() {
        check(
            "[source]\nbrokers = ''\ntopics = []\nlogn = 'hunter2'\nlogin = 'hunter3'\nlogin_file = 'x'\nschema = { password = 'hunter4' }\n\
             [[drift]]\nrows = 1\nextra = { password = 'hunter5' }\nx = { password = 'hunter6' }",
            expect![[r#"
                flights.toml:4:1  unknown key `logn` in [source]; did you mean `login`?
                    4 | logn = ***
                      | ^^^^
                flights.toml:6:1  `login` and `login_file` contradict each other; give one
                    6 | login_file = 'x'
                      | ^^^^^^^^^^
                flights.toml:11:1  unknown key `x` in [[drift]]; valid keys: `rows`, `size`, `bounds`, `warn`, `extra`
                   11 | x = { password = *** }
                      | ^
            "#]],
        );
    }

    #[test]
    fn a_hundred_problems_are_enough() {
        let text = (0..1_000).map(|index| format!("k{index} = 1\n")).collect::<String>();
        let document = Document::parse("f", &text, &|_| None).unwrap();
        let mut problems = document.problems();
        document.root().check(SCHEMA, &mut problems);
        assert_eq!(problems.len(), 100);
        assert!(problems.render().ends_with("f  there are more problems\n"));
    }
}
