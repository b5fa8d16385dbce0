//! A seeded walk through damaged documents: whatever the text, nothing panics, and what is shown hides its secrets.

use std::time::Duration;

use crate::component::{Field, Kind, Need};
use crate::document::Document;
use crate::problems::Problems;
use crate::secret::Secret;
use crate::section::Section;
use crate::units::{ByteSize, parse_bytes, parse_duration};

const ROUNDS: u64 = 20_000;

const EXAMPLE: &str = r#"# A pipeline
[pipeline]
name      = "flights"
wait      = "1.5 min"
size      = '512 MiB'
ratio     = 0.25
rows      = 5_000
on        = true
login     = "${LOGIN}"
modes     = ["a", 'b', """c"""]
bounds    = [1, 2.5, -3e2]
mode      = "exactly-once"
[pipeline.sql]
text = """
SELECT é, "tab\t${LOGIN}" \
   FROM source $${x}
"""
raw = '''
it''s
'''
[pipeline.columns]
flight_id = { role = "id", "quoted.key" = 0x1F, when = 1979-05-27T07:32:00Z }
[[drift]]
rows = 1
[[drift]]
rows = 2
"#;

const INNER: &[Field] = &[Field {
    name: "rows",
    kind: Kind::Integer,
    need: Need::Required,
    doc: "",
}];

const PIPELINE: &[Field] = &[
    Field {
        name: "name",
        kind: Kind::String,
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "wait",
        kind: Kind::Duration,
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "size",
        kind: Kind::Bytes,
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "ratio",
        kind: Kind::Float,
        need: Need::Optional("1"),
        doc: "",
    },
    Field {
        name: "rows",
        kind: Kind::Integer,
        need: Need::Optional("1"),
        doc: "",
    },
    Field {
        name: "on",
        kind: Kind::Bool,
        need: Need::Optional("1"),
        doc: "",
    },
    Field {
        name: "login",
        kind: Kind::Secret,
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "modes",
        kind: Kind::Strings,
        need: Need::Optional("1"),
        doc: "",
    },
    Field {
        name: "bounds",
        kind: Kind::Floats,
        need: Need::Optional("1"),
        doc: "",
    },
    Field {
        name: "mode",
        kind: Kind::OneOf(&["exactly-once", "at-least-once"]),
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "sql",
        kind: Kind::Map,
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "columns",
        kind: Kind::Map,
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "later",
        kind: Kind::Any,
        need: Need::NotYet,
        doc: "",
    },
];

const ROOT: &[Field] = &[
    Field {
        name: "pipeline",
        kind: Kind::Table(PIPELINE),
        need: Need::Required,
        doc: "",
    },
    Field {
        name: "drift",
        kind: Kind::Tables(INNER),
        need: Need::Optional("none"),
        doc: "",
    },
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

const PIECES: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "#",
    "\\",
    "\\u12",
    "${",
    "${LOGIN}",
    "$${",
    "${GONE}",
    "é",
    "漢",
    "\u{301}",
    "\u{0}",
    "\u{1b}",
    "\u{feff}",
    "\u{202e}",
    "-",
    "1e999",
    "nan",
    "99999999999999999999",
    "later = 1",
    "[pipeline]",
    "[drift]",
    "rows",
    "login_file = '/'",
    " ",
    "true",
    "a.b.c.d",
];

fn mutate(random: &mut Random) -> String {
    let mut chars: Vec<char> = EXAMPLE.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(chars.len());
        let end = (at + random.below(12)).min(chars.len());
        match random.below(4) {
            0 => drop(chars.drain(at..end)),
            1 => chars.truncate(at),
            2 => {
                let copy: Vec<char> = chars[at..end].to_vec();
                let to = random.below(chars.len());
                chars.splice(to..to, copy);
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                chars.splice(at..at, piece.chars());
            }
        }
    }
    chars.into_iter().collect()
}

/// Every key in every type, and a problem at every kind of place.
fn read_all(section: Section<'_>, random: &mut Random, problems: &mut Problems) {
    for (key, span) in section.entries() {
        let _ = section.get::<String>(key, problems);
        let _ = section.get::<bool>(key, problems);
        let _ = section.get::<i64>(key, problems);
        let _ = section.get::<usize>(key, problems);
        let _ = section.get::<f64>(key, problems);
        let _ = section.get::<Duration>(key, problems);
        let _ = section.get::<ByteSize>(key, problems);
        let _ = section.get::<Secret>(key, problems);
        let _ = section.get::<Vec<String>>(key, problems);
        let _ = section.get::<Vec<f64>>(key, problems);
        let _ = section.tables(key, problems);
        let place = section.offset_in_string(key, random.below(40));
        let value = section.key_span(key);
        assert!(
            place.start >= value.start && place.end <= value.end && value == span,
            "{place:?} {value:?}"
        );
        problems.push(place, "here", Some("help".to_string()));
        read_all(section.table(key, problems), random, problems);
    }
}

/// All that is done with a document; answers whether it could be parsed.
fn survive(text: &str, random: &mut Random) -> (bool, String) {
    let env = |name: &str| (name == "LOGIN").then(|| "hunter2\"\n".to_string());
    match Document::parse("flights.toml", text, &env) {
        Err(problems) => (false, problems.render()),
        Ok(document) => {
            let mut problems = document.problems();
            document.root().check(ROOT, &mut problems);
            let checked = problems.render();
            read_all(document.root(), random, &mut problems);
            (true, checked + &problems.render())
        }
    }
}

#[test]
fn damaged_documents_are_answered_with_problems() {
    let (mut parsed, mut clean) = (0, 0);
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let text = mutate(&mut random);
        let outcome = std::panic::catch_unwind(move || survive(&text, &mut random));
        let Ok((is_parsed, rendered)) = outcome else {
            panic!("seed {seed}")
        };
        assert!(!rendered.contains("hunter2"), "seed {seed}: {rendered}");
        assert!(
            !rendered.contains('\u{1b}') && !rendered.contains('\u{202e}'),
            "seed {seed}"
        );
        assert!(is_parsed || !rendered.is_empty(), "seed {seed}");
        parsed += u64::from(is_parsed);
        clean += u64::from(rendered.is_empty());
    }
    // The damage is neither so small that nothing breaks nor so large that nothing gets past the parser.
    assert!(
        parsed > ROUNDS / 10 && parsed < ROUNDS * 9 / 10,
        "{parsed} of {ROUNDS} parsed"
    );
    assert_eq!(clean, 0, "every value is read in every type");
}

#[test]
fn the_example_itself_is_right() {
    let document = Document::parse("flights.toml", EXAMPLE, &|_| Some("x".to_string())).unwrap();
    let mut problems = document.problems();
    document.root().check(ROOT, &mut problems);
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn random_quantities_do_not_panic() {
    let alphabet: Vec<char> = "0123456789.- sminhdukMGTiBé".chars().collect();
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let text: String = (0..random.below(50))
            .map(|_| alphabet[random.below(alphabet.len())])
            .collect();
        let _ = (parse_duration(&text), parse_bytes(&text));
    }
}
