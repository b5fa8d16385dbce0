//! What is wrong with a document: all of it, sorted by position, each at its line and column.

use std::fmt;
use std::sync::Arc;

use crate::hide;
use crate::render;
use crate::span::{Source, Span};

/// More than these help nobody, and a hostile file could fill the memory with them.
const KEPT_MAX: usize = 100;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands; the default span means the whole file.
    pub span: Span,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, where the message does not say.
    pub help: Option<String>,
}

/// The mistakes found in a document. Printed ([`render`](Problems::render), `Display` or `Debug`) each is shown with
/// its line, in which secrets are masked.
pub struct Problems {
    source: Arc<Source>,
    list: Vec<Problem>,
    hidden: Vec<Span>,
    left_out: bool,
}

impl Problems {
    /// No problems, in a file that has no text (it cannot be read, say). For those of a document see
    /// [`Document::problems`](crate::Document::problems).
    pub fn new(file_name: &str) -> Problems {
        Problems::of(Arc::new(Source::new(file_name, "")))
    }

    pub(crate) fn of(source: Arc<Source>) -> Problems {
        Problems {
            source,
            list: Vec::new(),
            hidden: Vec::new(),
            left_out: false,
        }
    }

    /// Adds a problem, unless the same one is already there. A message that quotes the document must not quote a
    /// secret or text that came from the environment.
    pub fn push(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        if self.list.len() >= KEPT_MAX {
            self.left_out = true;
            return;
        }
        let problem = Problem {
            span,
            message: message.into(),
            help,
        };
        if !self
            .list
            .iter()
            .any(|known| known.span == span && known.message == problem.message)
        {
            self.list.push(problem);
        }
    }

    /// Masks this part of the document wherever a line is shown.
    pub(crate) fn hide(&mut self, span: Span) {
        if !self.hidden.contains(&span) && !hide::is_reference(self.source.slice(span)) {
            self.hidden.push(span);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many problems there are; at most 100 are kept.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems by position.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<&Problem> = self.list.iter().collect();
        sorted.sort_by_key(|problem| problem.span);
        sorted
    }

    /// Line and column of a span's start, both from 1, the column in characters.
    pub fn position(&self, span: Span) -> (usize, usize) {
        self.source.position(span.start)
    }

    /// `Ok(value)` when nothing is wrong, otherwise the problems.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Every problem as `file:line:col  message`, followed by its line and carets; sorted by position. It ends with
    /// a line break.
    pub fn render(&self) -> String {
        if self.list.is_empty() {
            return String::new();
        }
        let mut hidden = hide::secrets(&self.source.text);
        hidden.extend(&self.hidden);
        hidden.sort_unstable();
        let mut out = String::new();
        for problem in self.sorted() {
            render::problem(&self.source, &hidden, problem, &mut out);
        }
        if self.left_out {
            out.push_str(&format!("{}  there are more problems\n", self.source.file));
        }
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render().trim_end())
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Problems {}
