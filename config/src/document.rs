//! A parsed file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use toml::de::DeTable;
use toml_parser::lexer::TokenKind;

use crate::node::{Builder, Table};
use crate::problems::Problems;
use crate::section::Section;
use crate::span::{Source, Span};

/// Bytes of a document; a pipeline's file has a few thousand.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Parts of one dotted key. The TOML parser bounds the depth of brackets, but not of these.
const KEY_PARTS_MAX: usize = 16;

/// A TOML document whose syntax is right and whose environment variables are substituted.
pub struct Document {
    source: Arc<Source>,
    root: Table,
    absent: AbsentPaths,
}

impl Document {
    /// Parses `text`. `file_name` stands in every message, and the paths in the document are relative to its folder.
    /// `env` answers what a `${NAME}` in a string stands for.
    ///
    /// # Errors
    /// The first syntax error, or all unset variables and numbers that are too large.
    pub fn parse(file_name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Document, Problems> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > TEXT_BYTES_MAX {
            let mut problems = Problems::new(file_name);
            problems.push(
                Span::default(),
                format!("the file is larger than {} MiB", TEXT_BYTES_MAX >> 20),
                None,
            );
            return Err(problems);
        }
        let source = Arc::new(Source::new(file_name, text));
        let mut problems = Problems::of(Arc::clone(&source));
        let Some(table) = syntax(&source, &mut problems) else {
            return Err(problems);
        };
        let mut builder = Builder {
            source: &source,
            env,
            problems: &mut problems,
        };
        let root = builder.table(&table, String::new(), false, 0);
        problems.into_result(Document {
            source,
            root,
            absent: AbsentPaths::default(),
        })
    }

    /// The top level of the document.
    pub fn root(&self) -> Section<'_> {
        Section::of(self, &self.root, Span::default())
    }

    /// No problems yet, ready to take those of this document.
    pub fn problems(&self) -> Problems {
        Problems::of(Arc::clone(&self.source))
    }

    /// A path of the document, relative to the folder of its file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        match Path::new(&self.source.file).parent() {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Keeps the path of a table that is not there, so that its [`Section`] can be a copy.
    pub(crate) fn absent_path(&self, path: String) -> &str {
        self.absent.keep(path)
    }
}

impl fmt::Debug for Document {
    /// Only the name: the values may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.source.file).finish()
    }
}

fn syntax<'s>(source: &'s Source, problems: &mut Problems) -> Option<DeTable<'s>> {
    if let Some(span) = too_deep(&source.text) {
        problems.push(span, format!("a key has at most {KEY_PARTS_MAX} parts"), None);
        return None;
    }
    match DeTable::parse(&source.text) {
        Ok(table) => Some(table.into_inner()),
        Err(error) => {
            let span = error.span().map(Span::from).unwrap_or_default();
            // An empty span at 0 would mean the whole file.
            let span = if span.is_whole() && !source.text.is_empty() {
                Span::new(0, 1)
            } else {
                span
            };
            problems.push(span, syntax_message(source, error.message(), span), None);
            None
        }
    }
}

fn syntax_message(source: &Source, message: &str, span: Span) -> String {
    match message {
        "duplicate key" => format!("the key `{}` stands here twice", source.slice(span)),
        _ => message.to_string(),
    }
}

/// The first dotted key with so many parts that working on its tables would need too much stack.
fn too_deep(text: &str) -> Option<Span> {
    let mut dots = 0;
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString | TokenKind::Whitespace => {}
            _ => dots = 0,
        }
        if dots >= KEY_PARTS_MAX {
            return Some(Span::new(token.span().start(), token.span().end()));
        }
    }
    None
}

/// A list that only grows, so that what it holds can be borrowed as long as itself.
#[derive(Default)]
struct AbsentPaths {
    first: OnceLock<Box<AbsentPath>>,
}

struct AbsentPath {
    path: String,
    next: OnceLock<Box<AbsentPath>>,
}

impl AbsentPaths {
    fn keep(&self, path: String) -> &str {
        let mut slot = &self.first;
        loop {
            let kept = slot.get_or_init(|| {
                Box::new(AbsentPath {
                    path: path.clone(),
                    next: OnceLock::new(),
                })
            });
            if kept.path == path {
                return &kept.path;
            }
            slot = &kept.next;
        }
    }
}

impl Drop for AbsentPaths {
    /// One by one: dropping a long list by recursion could overflow the stack.
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(mut path) = next {
            next = path.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        let env = |name: &str| (name == "SET").then(|| "s3cret".to_string());
        let rendered = match Document::parse("flights.toml", text, &env) {
            Ok(_) => "fine".to_string(),
            Err(problems) => problems.render(),
        };
        assert!(!rendered.contains("s3cret"));
        expected.assert_eq(&rendered);
    }

    #[test]
    fn syntax_errors_stand_at_their_place() {
        check(
            "[source]\nbrokers = \"a\nx = 1",
            expect![[r#"
                flights.toml:2:13  invalid basic string, expected `"`
                    2 | brokers = "a
                      |             ^
            "#]],
        );
        check(
            "[a]\nx = 1\nx = 2\n",
            expect![[r#"
                flights.toml:3:1  the key `x` stands here twice
                    3 | x = 2
                      | ^
            "#]],
        );
        check(
            "]",
            expect![[r#"
                flights.toml:1:1  missing table open, expected `[`
                    1 | ]
                      | ^
            "#]],
        );
    }

    #[test]
    fn variables_that_are_not_set_stand_at_their_place() {
        check(
            "a = '${SET}'\nb = \"\"\"\n${SET}\n  é ${GONE} \"\"\"\nc = [{ d = \"${\" }]",
            expect![[r#"
                flights.toml:4:5  environment variable `GONE` is not set
                    4 |   é ${GONE} """
                      |     ^^^^^^^
                flights.toml:5:13  `${` begins the name of an environment variable, as in `${NAME}`; for the text itself write `$${`
                    5 | c = [{ d = "${" }]
                      |             ^^
            "#]],
        );
    }

    #[test]
    fn numbers_that_are_too_large_are_refused() {
        check(
            "a = 1e999\nb = 99999999999999999999999999999999999999999999",
            expect![[r#"
                flights.toml:1:5  the number is too large
                    1 | a = 1e999
                      |     ^^^^^
                flights.toml:2:5  the number is too large
                    2 | b = 99999999999999999999999999999999999999999999
                      |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            "#]],
        );
    }

    #[test]
    fn a_byte_order_mark_does_not_shift_the_column() {
        check(
            "\u{feff}a = ",
            expect![[r#"
                flights.toml:1:5  string values must be quoted, expected literal string
                    1 | a =
                      |     ^
            "#]],
        );
    }

    #[test]
    fn depth_does_not_overflow_the_stack() {
        let deep = 100_000;
        let inline = format!("{}1{}", "{a.b.c.d.e.f.g.h.i.j.k.l.m.n.o=".repeat(79), "}".repeat(79));
        for text in [
            format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
            format!("a = {}", "[".repeat(deep)),
            format!("a = {}1{}", "{a=".repeat(deep), "}".repeat(deep)),
            format!("a = {}1{}", "[".repeat(50), "]".repeat(50)),
            format!("{}a = 1", "a.".repeat(deep)),
            format!("[{}a]", "a . ".repeat(deep)),
            format!("[[{}a]]", "'a'.".repeat(deep)),
            format!("a = {{ {}a = 1 }}", "\"a\".".repeat(deep)),
            format!("[a.b.c.d.e.f.g.h.i.j.k.l.m.n.o]\na.b.c.d.e.f.g.h.i.j.k.l.m.n.o = {inline}"),
        ] {
            let problems = Document::parse("f", &text, &|_| None).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(problems.render().len() < 2_000);
        }
        assert!(Document::parse("f", "a = [[[[1.5, 2.5]]]]\nb.c.d.e = '1.2.3.4.5'", &|_| None).is_ok());
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        check(
            &"# x\n".repeat(TEXT_BYTES_MAX / 4 + 1),
            expect![[r#"
                flights.toml:1:1  the file is larger than 4 MiB
            "#]],
        );
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let document = |file| Document::parse(file, "", &|_| None).unwrap();
        assert_eq!(document("conf/f.toml").resolve("a/b"), Path::new("conf/a/b"));
        assert_eq!(document("f.toml").resolve("a"), Path::new("a"));
        assert_eq!(document("conf/f.toml").resolve("/a"), Path::new("/a"));
    }

    #[test]
    fn many_absent_paths_are_kept_and_dropped() {
        let document = Document::parse("f", "", &|_| None).unwrap();
        for index in 0..3_000 {
            assert_eq!(document.absent_path(format!("p{index}")), format!("p{index}"));
        }
    }
}
