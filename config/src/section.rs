//! A table of a document, and how its values are taken out.

use crate::document::Document;
use crate::node::{self, NodeKind, Table};
use crate::problems::Problems;
use crate::span::Span;
use crate::value::{FromValue, Value};

/// A table of a document. It may be absent; then it knows its path, its place is that of the table around it, and
/// every key in it is absent.
#[derive(Clone, Copy)]
pub struct Section<'d> {
    document: &'d Document,
    table: Option<&'d Table>,
    path: &'d str,
    span: Span,
}

impl<'d> Section<'d> {
    pub(crate) fn of(document: &'d Document, table: &'d Table, span: Span) -> Section<'d> {
        Section {
            document,
            table: Some(table),
            path: &table.path,
            span,
        }
    }

    /// Dotted path, empty for the root. Elements of an array of tables share their array's.
    pub fn path(&self) -> &'d str {
        self.path
    }

    /// Whether the document has this table.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The table's header, or all of an inline table. For the root the default span.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value of a key, or the table itself when the key is absent.
    pub fn key_span(&self, key: &str) -> Span {
        self.value(key).map_or(self.span, Value::span)
    }

    /// The name of a key, where it is written; the table itself when the key is absent.
    pub fn name_span(&self, key: &str) -> Span {
        self.table
            .and_then(|table| table.entry(key))
            .map_or(self.span, |entry| entry.key_span)
    }

    /// Whether the key is there, of whatever type.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The value of a key, of whatever type.
    pub fn value(&self, key: &str) -> Option<Value<'d>> {
        let entry = self.table?.entry(key)?;
        Some(Value {
            document: self.document,
            node: &entry.node,
        })
    }

    /// The value of a key. Absent: `None`; of a wrong type: `None` and a problem.
    pub fn get<T: FromValue>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        T::from_section(*self, key, problems)
    }

    /// The value of a key that must be there.
    pub fn require<T: FromValue>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        if !T::is_given(*self, key) {
            self.missing(key, problems);
        }
        self.get(key, problems)
    }

    /// The value of a key, or `default` when it is absent (or wrong, which is a problem as well).
    pub fn get_or<T: FromValue>(&self, key: &str, default: T, problems: &mut Problems) -> T {
        self.get(key, problems).unwrap_or(default)
    }

    /// A table inside this one; absent when it is not there, or is no table, which is a problem.
    pub fn table(&self, key: &str, problems: &mut Problems) -> Section<'d> {
        if let Some(value) = self.value(key) {
            match value.as_section() {
                Some(section) => return section,
                None => self.not_a_table(key, value, problems),
            }
        }
        let path = self.document.absent_path(node::join(self.path, key));
        Section {
            document: self.document,
            table: None,
            path,
            span: self.key_span(key),
        }
    }

    pub(crate) fn not_a_table(&self, key: &str, value: Value<'d>, problems: &mut Problems) {
        let path = node::join(self.path, key);
        let is_tables = value
            .as_array()
            .is_some_and(|mut items| items.any(|item| item.as_section().is_some()));
        let message = match is_tables {
            true => format!("there is one table `[{path}]`, found an array of them"),
            false => format!("expected a table `[{path}]`, found {}", value.node.type_name()),
        };
        problems.push(value.span(), message, None);
    }

    /// The tables of an array of tables, `[[key]]`; none when it is absent. What is no table is a problem.
    pub fn tables(&self, key: &str, problems: &mut Problems) -> Vec<Section<'d>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let path = node::join(self.path, key);
        let Some(items) = value.as_array() else {
            let found = value.node.type_name();
            problems.push(
                value.span(),
                format!("expected `[[{path}]]`, an array of tables, found {found}"),
                None,
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.as_section() {
                Some(section) => sections.push(section),
                None => {
                    let fault = item.wrong_type("a table");
                    problems.push(fault.span, fault.message, fault.help);
                }
            }
        }
        sections
    }

    /// The keys in file order, each with the span of its value.
    pub fn entries(&self) -> Vec<(&'d str, Span)> {
        let entries = self.table.map_or(&[][..], |table| &table.entries);
        entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.node.span))
            .collect()
    }

    /// Where the word stands that begins at this byte of a string's value; of a character that begins no word, the
    /// character. In a string of many lines it has its own line and column. The value's span when the key holds no
    /// string.
    pub fn offset_in_string(&self, key: &str, offset: usize) -> Span {
        let text = self.value(key).and_then(Value::as_str).unwrap_or("");
        let start = text.floor_char_boundary(offset);
        let rest = text.get(start..).unwrap_or("");
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let first = rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        self.range_in_string(key, start..start + word.max(first))
    }

    /// Where these bytes of a string's value stand in the document.
    pub fn range_in_string(&self, key: &str, range: std::ops::Range<usize>) -> Span {
        match self.value(key).map(|value| (&value.node.kind, value.span())) {
            Some((NodeKind::Text(text), span)) => text.place(self.document.source(), span, range.start, range.end),
            _ => self.key_span(key),
        }
    }

    /// "in [source]", "in [[drift]]", "at the top level".
    pub(crate) fn place_name(&self) -> String {
        match self.table {
            _ if self.path.is_empty() => "at the top level".to_string(),
            Some(table) if table.in_array => format!("in [[{}]]", self.path),
            _ => format!("in [{}]", self.path),
        }
    }

    /// Reports that a key is missing, or the table around it when that is.
    pub(crate) fn missing(&self, key: &str, problems: &mut Problems) {
        match self.is_present() {
            true => problems.push(self.span, format!("missing key `{key}` {}", self.place_name()), None),
            false => problems.push(self.span, missing_table(self.path), None),
        }
    }
}

/// "missing section [source]".
pub(crate) fn missing_table(path: &str) -> String {
    format!("missing section [{path}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::units::ByteSize;
    use expect_test::{Expect, expect};
    use std::time::Duration;

    fn parse(text: &str) -> Document {
        Document::parse("flights.toml", text, &|name| {
            (name == "LONG").then(|| "substituted".to_string())
        })
        .unwrap()
    }

    #[test]
    fn values_come_out_with_their_types() {
        let document = parse(
            "s = 'x'\nb = true\ni = -3\nu = 18446744073709551615\nf = 1\nd = '1.5 s'\nz = '2 KiB'\np = '${LONG}'\nl = ['a']\nn = [1, 0.5]",
        );
        let (root, problems) = (document.root(), &mut document.problems());
        assert_eq!(root.get::<String>("s", problems).as_deref(), Some("x"));
        assert_eq!(root.get::<bool>("b", problems), Some(true));
        assert_eq!(root.get::<i64>("i", problems), Some(-3));
        assert_eq!(root.get::<u64>("u", problems), Some(u64::MAX));
        assert_eq!(root.get_or("absent", 7_usize, problems), 7);
        assert_eq!(root.require::<f64>("f", problems), Some(1.0));
        assert_eq!(root.get::<Duration>("d", problems), Some(Duration::from_millis(1_500)));
        assert_eq!(root.get::<ByteSize>("z", problems), Some(ByteSize(2_048)));
        let secret = root.get::<Secret>("p", problems).unwrap();
        assert_eq!(
            (secret.expose(), format!("{secret} {secret:?}").as_str()),
            ("substituted", "*** ***")
        );
        assert_eq!(root.get::<Vec<String>>("l", problems), Some(vec!["a".to_string()]));
        assert_eq!(root.get::<Vec<f64>>("n", problems), Some(vec![1.0, 0.5]));
        assert!(problems.is_empty(), "{problems}");
    }

    #[test]
    fn numbers_out_of_range_are_problems() {
        let document = parse("a = -1\nb = 9223372036854775808\nc = nan\nd = 4294967296");
        let (root, mut problems) = (document.root(), document.problems());
        assert_eq!(root.get::<u64>("a", &mut problems), None);
        assert_eq!(root.get::<i64>("b", &mut problems), None);
        assert_eq!(root.get::<f64>("c", &mut problems), None);
        assert_eq!(root.get::<u32>("d", &mut problems), None);
        expect![[r#"
            flights.toml:1:5  the number must not be negative
                1 | a = -1
                  |     ^^
            flights.toml:2:5  the number must be from -9223372036854775808 to 9223372036854775807
                2 | b = 9223372036854775808
                  |     ^^^^^^^^^^^^^^^^^^^
            flights.toml:3:5  the number must be finite
                3 | c = nan
                  |     ^^^
            flights.toml:4:5  the number must be from 0 to 4294967295
                4 | d = 4294967296
                  |     ^^^^^^^^^^
        "#]]
        .assert_eq(&problems.render());
    }

    #[test]
    fn entries_stand_in_file_order_whatever_the_headers() {
        let document = parse("z = 1\nb.y = 2\n[m.x]\n[a]\nk = 1\n[m]\nc = 3");
        let names = |section: Section<'_>| {
            section
                .entries()
                .iter()
                .map(|(key, _)| key.to_string())
                .collect::<Vec<_>>()
        };
        let mut problems = document.problems();
        assert_eq!(names(document.root()), ["z", "b", "a", "m"]);
        assert_eq!(names(document.root().table("m", &mut problems)), ["x", "c"]);
        assert!(problems.is_empty());
    }

    #[test]
    fn an_absent_table_knows_its_path_and_the_place_around_it() {
        let document = parse("[source]\nx = 1\n[source.table]\n");
        let mut problems = document.problems();
        let source = document.root().table("source", &mut problems);
        let absent = source.table("time", &mut problems).table("in ner", &mut problems);
        assert_eq!((absent.path(), absent.is_present()), ("source.time.\"in ner\"", false));
        assert_eq!(absent.span(), source.span());
        assert_eq!(absent.get::<i64>("x", &mut problems), None);
        assert!(absent.entries().is_empty() && absent.tables("y", &mut problems).is_empty());
        absent.check(&[], &mut problems);
        assert!(problems.is_empty());
        assert_eq!(absent.require::<i64>("x", &mut problems), None);
        assert_eq!(absent.require::<i64>("y", &mut problems), None);
        assert_eq!(source.require::<Secret>("z", &mut problems), None);
        expect![[r#"
            flights.toml:1:1  missing section [source.time."in ner"]
                1 | [source]
                  | ^^^^^^^^
            flights.toml:1:1  missing key `z` in [source]
                1 | [source]
                  | ^^^^^^^^
        "#]]
        .assert_eq(&problems.render());
    }

    fn check_place(text: &str, word: &str, expected: Expect) {
        let document = parse(text);
        let (root, mut problems) = (document.root(), document.problems());
        let value: String = root.get("sql", &mut problems).unwrap();
        problems.push(root.offset_in_string("sql", value.find(word).unwrap()), "here", None);
        expected.assert_eq(&problems.render());
    }

    #[test]
    fn a_place_in_a_string_has_its_own_line() {
        check_place(
            "sql = \"\"\"\nSELECT a,\n\tdistnace, é\nFROM x\"\"\"",
            "distnace",
            expect![[r#"
                flights.toml:3:2  here
                    3 |     distnace, é
                      |     ^^^^^^^^
            "#]],
        );
        check_place(
            "sql = '''SELECT a,\r\n  distnace\r\n'''",
            "distnace",
            expect![[r#"
            flights.toml:2:3  here
                2 |   distnace
                  |   ^^^^^^^^
        "#]],
        );
        check_place(
            "sql = \"\\u0053ELECT \\\"distnace\\\"\"",
            "distnace",
            expect![[r#"
            flights.toml:1:22  here
                1 | sql = "\u0053ELECT \"distnace\""
                  |                      ^^^^^^^^
        "#]],
        );
        check_place(
            "sql = \"\"\"\na ${LONG}\n$${x} (distnace)\"\"\"",
            "(dist",
            expect![[r#"
                flights.toml:3:7  here
                    3 | $${x} (distnace)"""
                      |       ^
            "#]],
        );
        check_place(
            "sql = 'a ${LONG} b'",
            "stituted",
            expect![[r#"
            flights.toml:1:10  here
                1 | sql = 'a ${LONG} b'
                  |          ^^^^^^^
        "#]],
        );
    }

    #[test]
    fn places_out_of_the_string_are_harmless() {
        let document = parse("sql = 'é'\nn = 1");
        let root = document.root();
        for offset in [0, 1, 2, 3, usize::MAX] {
            let span = root.offset_in_string("sql", offset);
            assert!(span.start >= 7 && span.end <= 9, "{offset}: {span:?}");
        }
        let backwards = std::ops::Range { start: 5, end: 2 };
        assert!(root.range_in_string("sql", backwards).start <= 10);
        assert_eq!(root.offset_in_string("n", 0), root.key_span("n"));
        assert_eq!(root.offset_in_string("absent", 0), Span::default());
    }
}
