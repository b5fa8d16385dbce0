//! Where something stands in a document, and the text it stands in.

/// A range of bytes in the text of a document. The empty span at 0 (the default) means the document as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span {
            start,
            end: end.max(start),
        }
    }

    pub(crate) fn is_whole(self) -> bool {
        self == Span::default()
    }
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Span {
        Span::new(range.start, range.end)
    }
}

/// The text of a file and where its lines begin.
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Source {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Source {
            file: file.to_string(),
            text: text.to_string(),
            line_starts,
        }
    }

    /// The text of a span, cut to what exists.
    pub(crate) fn slice(&self, span: Span) -> &str {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end);
        self.text.get(start..end).unwrap_or("")
    }

    /// Index of the line (from 0) that holds this byte.
    pub(crate) fn line_index(&self, offset: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// The bytes of a line, without its line break.
    pub(crate) fn line_span(&self, index: usize) -> Span {
        let start = self.line_starts.get(index).copied().unwrap_or(self.text.len());
        let next = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..next).unwrap_or("");
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        Span::new(start, start + line.len())
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let index = self.line_index(offset);
        let start = self.line_span(index).start;
        let column = self.slice(Span::new(start, offset)).chars().count();
        (index + 1, column + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "é\tb\r\ncd\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(1), (1, 1)); // inside é
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(6), (2, 1));
        assert_eq!(source.position(9), (3, 1));
        assert_eq!(source.position(999), (3, 1));
        assert_eq!(source.slice(source.line_span(0)), "é\tb");
        assert_eq!(source.slice(source.line_span(7)), "");
    }
}
