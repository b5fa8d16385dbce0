//! How a problem is shown: its place, its line, and carets under the spot.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

use crate::problems::Problem;
use crate::span::{Source, Span};

/// Columns of a line that are shown; of a longer one a part around the spot.
const WIDTH_MAX: usize = 160;
/// Columns shown before the spot in a line that is too long.
const BEFORE: usize = 40;
const TAB: &str = "    ";

/// A piece of a shown line: which bytes of the document it stands for, and how it looks.
struct Cell {
    bytes: Span,
    shown: String,
    width: usize,
}

/// Appends a problem to `out`. `hidden` are the parts of the document that must not be shown, sorted.
pub(crate) fn problem(source: &Source, hidden: &[Span], problem: &Problem, out: &mut String) {
    let (line, column) = source.position(problem.span.start);
    let _ = writeln!(
        out,
        "{}:{line}:{column}  {}",
        printable(&source.file),
        printable(&problem.message)
    );
    if !problem.span.is_whole() {
        excerpt(source, hidden, problem.span, out);
    }
    if let Some(help) = &problem.help {
        let _ = writeln!(out, "      = {}", printable(help));
    }
}

fn excerpt(source: &Source, hidden: &[Span], span: Span, out: &mut String) {
    let index = source.line_index(source.text.floor_char_boundary(span.start));
    let line = source.line_span(index);
    let all = cells(source, line, hidden);
    let (before, marked) = marks(&all, line, span);
    let (skip, shown) = window(&all, before);
    let ellipsis = if skip > 0 { "… " } else { "" };
    let text: String = shown.iter().map(|cell| cell.shown.as_str()).collect();
    let width: usize = shown.iter().map(|cell| cell.width).sum();
    let indent = before - skip + ellipsis.chars().count();
    let carets = marked.min((width + skip).saturating_sub(before)).max(1);
    let _ = writeln!(out, "{:>5} | {ellipsis}{}", index + 1, text.trim_end());
    let _ = writeln!(out, "      | {}{}", " ".repeat(indent), "^".repeat(carets));
}

/// The line piece by piece: a tab as spaces, a control character as a replacement, a secret as `***`.
fn cells(source: &Source, line: Span, hidden: &[Span]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut at = line.start;
    while at < line.end {
        if let Some(secret) = hidden.iter().find(|secret| secret.start <= at && at < secret.end) {
            let end = source.text.floor_char_boundary(secret.end.min(line.end)).max(at + 1);
            cells.push(Cell {
                bytes: Span::new(at, end),
                shown: "***".to_string(),
                width: 3,
            });
            at = end;
            continue;
        }
        let Some(char) = source.text.get(at..).and_then(|rest| rest.chars().next()) else {
            break;
        };
        let end = at + char.len_utf8();
        let (shown, width) = look(char);
        cells.push(Cell {
            bytes: Span::new(at, end),
            shown,
            width,
        });
        at = end;
    }
    cells
}

fn look(char: char) -> (String, usize) {
    match char {
        '\t' => (TAB.to_string(), TAB.len()),
        char if unsafe_to_print(char) => ('\u{fffd}'.to_string(), 1),
        char => (char.to_string(), char.width().unwrap_or(1)),
    }
}

/// Columns before the spot, and columns that it covers in this line.
fn marks(cells: &[Cell], line: Span, span: Span) -> (usize, usize) {
    let width = |wanted: &dyn Fn(&Cell) -> bool| cells.iter().filter(|c| wanted(c)).map(|c| c.width).sum::<usize>();
    let end = span.end.max(span.start + 1).min(line.end.max(span.start + 1));
    let before = width(&|cell| cell.bytes.end <= span.start);
    let marked = width(&|cell| cell.bytes.end > span.start && cell.bytes.start < end);
    (before, marked)
}

/// The cells to show, and how many columns were left out before them.
fn window(cells: &[Cell], before: usize) -> (usize, &[Cell]) {
    let total: usize = cells.iter().map(|cell| cell.width).sum();
    let wanted = if total <= WIDTH_MAX {
        0
    } else {
        before.saturating_sub(BEFORE)
    };
    let mut skipped = 0;
    let mut first = 0;
    while let Some(cell) = cells.get(first)
        && skipped + cell.width <= wanted
    {
        skipped += cell.width;
        first += 1;
    }
    let mut last = first;
    let mut width = 0;
    while let Some(cell) = cells.get(last)
        && width + cell.width <= WIDTH_MAX
    {
        width += cell.width;
        last += 1;
    }
    (skipped, cells.get(first..last).unwrap_or(&[]))
}

/// Control characters could move the cursor of a terminal, and bidirectional ones could reorder what it shows.
fn unsafe_to_print(char: char) -> bool {
    char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if unsafe_to_print(char) { '\u{fffd}' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, marked: &str, expected: Expect) {
        let source = Source::new("flights.toml", text);
        let start = text.find(marked).unwrap();
        let span = Span::new(start, start + marked.len());
        let mut out = String::new();
        problem(
            &source,
            &[],
            &Problem {
                span,
                message: "message".into(),
                help: None,
            },
            &mut out,
        );
        expected.assert_eq(&out);
    }

    #[test]
    fn the_spot_is_underlined() {
        check(
            "sql = '''\n       distnace,\n'''",
            "distnace",
            expect![[r#"
                flights.toml:2:8  message
                    2 |        distnace,
                      |        ^^^^^^^^
            "#]],
        );
    }

    #[test]
    fn tabs_and_other_scripts_do_not_shift_the_carets() {
        check(
            "\tnäme = 'x' # 漢字e\u{301} bad",
            "bad",
            expect![[r#"
                flights.toml:1:20  message
                    1 |     näme = 'x' # 漢字é bad
                      |                        ^^^
            "#]],
        );
    }

    #[test]
    fn a_spot_of_many_lines_is_marked_in_its_first() {
        check(
            "a = [1,\r\n 2]",
            "[1,\r\n 2]",
            expect![[r#"
                flights.toml:1:5  message
                    1 | a = [1,
                      |     ^^^
            "#]],
        );
    }

    #[test]
    fn a_line_break_and_the_end_have_a_place() {
        check(
            "a = \nb",
            "\nb",
            expect![[r#"
                flights.toml:1:5  message
                    1 | a =
                      |     ^
            "#]],
        );
    }

    #[test]
    fn a_control_character_is_replaced() {
        check(
            "a = \u{1b}[2J x",
            "x",
            expect![[r#"
                flights.toml:1:10  message
                    1 | a = �[2J x
                      |          ^
            "#]],
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_spot() {
        let text = format!("a = '{}' bad {}", "x".repeat(500), "y".repeat(500));
        let source = Source::new("f", &text);
        let start = text.find("bad").unwrap();
        let mut out = String::new();
        let span = Span::new(start, start + 3);
        problem(
            &source,
            &[],
            &Problem {
                span,
                message: "m".into(),
                help: Some("h".into()),
            },
            &mut out,
        );
        let lines: Vec<Vec<char>> = out.lines().map(|line| line.chars().collect()).collect();
        assert!(lines[1].len() < 175);
        let caret = lines[2].iter().position(|c| *c == '^').unwrap();
        assert_eq!(lines[1][caret..caret + 3], ['b', 'a', 'd']);
        assert_eq!(out.lines().last(), Some("      = h"));
    }

    #[test]
    fn a_secret_is_masked() {
        let text = "p = 'hunter2', oops";
        let source = Source::new("f", text);
        let mut out = String::new();
        let span = Span::new(15, 19);
        problem(
            &source,
            &[Span::new(4, 13)],
            &Problem {
                span,
                message: "m".into(),
                help: None,
            },
            &mut out,
        );
        expect![[r#"
            f:1:16  m
                1 | p = ***, oops
                  |          ^^^^
        "#]]
        .assert_eq(&out);
    }
}
