//! The document as a tree of its own: values with spans, keys in file order, variables substituted.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::env::{self, Edit};
use crate::problems::Problems;
use crate::quoted;
use crate::span::{Source, Span};

/// Tables and arrays inside each other. The deepest document of Driftmill has five.
const DEPTH_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: NodeKind,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Text(Text),
    Integer(i128),
    Float(f64),
    Bool(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

/// A string and where it differs from what the document has.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) value: String,
    edits: Vec<Edit>,
    /// Bytes before substitution.
    written: usize,
}

#[derive(Debug)]
pub(crate) struct Table {
    /// Dotted path; empty for the root.
    pub(crate) path: String,
    /// Whether it is an element of an array of tables.
    pub(crate) in_array: bool,
    /// In file order.
    pub(crate) entries: Vec<Entry>,
    /// Indices of `entries` by key.
    by_key: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Table {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        let entry_at = |index: &usize| self.entries.get(*index);
        let found = self
            .by_key
            .binary_search_by(|index| entry_at(index).map_or("", |entry| entry.key.as_str()).cmp(key))
            .ok()?;
        self.by_key.get(found).and_then(entry_at)
    }
}

impl Node {
    /// What it is, with its article, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Text(_) => "string",
            NodeKind::Integer(_) => "integer",
            NodeKind::Float(_) => "float",
            NodeKind::Bool(_) => "boolean",
            NodeKind::Datetime => "date or time",
            NodeKind::Array(_) => "array",
            NodeKind::Table(_) => "table",
        }
    }
}

impl Text {
    /// Whether any of it came from the environment, so that it must not be shown.
    pub(crate) fn is_foreign(&self) -> bool {
        self.edits.iter().any(|edit| edit.foreign)
    }

    /// Where the bytes `start..end` of the value stand in the document; `span` is that of the whole string, and the
    /// answer when its parts cannot be told apart.
    pub(crate) fn place(&self, source: &Source, span: Span, start: usize, end: usize) -> Span {
        let raw = source.slice(span);
        let start = self.written_offset(start, false);
        let end = self.written_offset(end, true);
        let find = |offset| quoted::offset_in_raw(raw, self.written, offset).map(|at| span.start + at);
        match (find(start), find(end)) {
            (Some(start), Some(end)) => Span::new(start, end),
            _ => span,
        }
    }

    /// The offset before substitution; a substituted part counts as one.
    fn written_offset(&self, used: usize, is_end: bool) -> usize {
        let mut base = (0, 0);
        for edit in &self.edits {
            if used < edit.used.start || (is_end && used == edit.used.start) {
                break;
            }
            if used < edit.used.end {
                return if is_end { edit.written.end } else { edit.written.start };
            }
            base = (edit.written.end, edit.used.end);
        }
        (base.0 + used.saturating_sub(base.1)).min(self.written)
    }
}

/// Builds the tree; what is wrong with single values goes into `problems`.
pub(crate) struct Builder<'a> {
    pub(crate) source: &'a Source,
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) problems: &'a mut Problems,
}

impl Builder<'_> {
    pub(crate) fn table(&mut self, table: &DeTable<'_>, path: String, in_array: bool, depth: usize) -> Table {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| self.entry(key, value, &path, depth))
            .collect();
        entries.sort_by_key(|entry| entry.key_span);
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        by_key.sort_by_key(|index| entries.get(*index).map_or("", |entry| entry.key.as_str()));
        Table {
            path,
            in_array,
            entries,
            by_key,
        }
    }

    fn entry(&mut self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>, path: &str, depth: usize) -> Entry {
        let name = key.get_ref().to_string();
        let node = self.node(value, &join(path, &name), false, depth + 1);
        Entry {
            key: name,
            key_span: key.span().into(),
            node,
        }
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, path: &str, in_array: bool, depth: usize) -> Node {
        let span = Span::from(value.span());
        let kind = match value.get_ref() {
            DeValue::String(text) => NodeKind::Text(self.text(text, span)),
            DeValue::Integer(integer) => NodeKind::Integer(self.integer(integer, span)),
            DeValue::Float(float) => NodeKind::Float(self.float(float.as_str(), span)),
            DeValue::Boolean(value) => NodeKind::Bool(*value),
            DeValue::Datetime(_) => NodeKind::Datetime,
            DeValue::Array(_) | DeValue::Table(_) if depth > DEPTH_MAX => {
                self.problems
                    .push(span, format!("nested too deeply: at most {DEPTH_MAX} levels"), None);
                NodeKind::Array(Vec::new())
            }
            DeValue::Array(array) => NodeKind::Array(
                array
                    .iter()
                    .map(|item| self.node(item, path, true, depth + 1))
                    .collect(),
            ),
            DeValue::Table(table) => NodeKind::Table(self.table(table, path.to_string(), in_array, depth)),
        };
        Node { span, kind }
    }

    fn text(&mut self, written: &str, span: Span) -> Text {
        let out = env::substitute(written, self.env);
        // The faults' places are those before substitution.
        let plain = Text {
            value: String::new(),
            edits: Vec::new(),
            written: written.len(),
        };
        for (range, message) in out.faults {
            self.problems
                .push(plain.place(self.source, span, range.start, range.end), message, None);
        }
        Text {
            value: out.value,
            edits: out.edits,
            written: written.len(),
        }
    }

    fn integer(&mut self, integer: &DeInteger<'_>, span: Span) -> i128 {
        i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or_else(|_| {
            self.problems.push(span, "the number is too large", None);
            0
        })
    }

    fn float(&mut self, text: &str, span: Span) -> f64 {
        let value = text.parse().unwrap_or(f64::NAN);
        if f64::is_infinite(value) && !text.contains("inf") {
            self.problems.push(span, "the number is too large", None);
        }
        value
    }
}

/// `path.key`, with the key in quotes where TOML wants them.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if bare {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(format!("{key:?}"))
    };
    if path.is_empty() {
        key.into_owned()
    } else {
        format!("{path}.{key}")
    }
}
