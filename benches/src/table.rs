//! Tables in Markdown, and the marked regions of a results file that they stand in.

use std::fmt::Write as _;

/// A table: the first column of words, the others of numbers.
#[derive(Debug, Clone, Default)]
pub struct Table(String);

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(columns);
        table.0.push_str("|---|");
        table.0.push_str(&"---:|".repeat(columns.len().saturating_sub(1)));
        table.0.push('\n');
        table
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        for cell in cells {
            // Writing into a string never fails.
            let _ = write!(self.0, "| {} ", cell.as_ref());
        }
        self.0.push_str("|\n");
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A number with two places, as tables show it.
#[must_use]
pub fn two(number: f64) -> String {
    format!("{number:.2}")
}

/// A whole number with commas between thousands.
#[must_use]
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let sign = if number < 0.0 { "-" } else { "" };
    let mut text = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Replaces what stands between the lines `<!-- NAME -->` and `<!-- /NAME -->` of `document` by `content`; `None` where
/// the document has no such lines.
#[must_use]
pub fn replace_region(document: &str, name: &str, content: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = document.find(&begin)? + begin.len();
    let to = from + document[from..].find(&end)?;
    Some(format!(
        "{}\n{}\n\n{}",
        &document[..from],
        content.trim(),
        &document[to..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_one_of_markdown() {
        let mut table = Table::new(&["part", "cost"]);
        table.row(&["all", "2.00"]);
        assert_eq!(table.text(), "| part | cost |\n|---|---:|\n| all | 2.00 |\n");
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0.0, 999.6, -1_234.0, 1_234_567.0].map(grouped);
        assert_eq!(shown, ["0", "1,000", "-1,234", "1,234,567"]);
    }

    #[test]
    fn a_region_is_replaced_and_nothing_else() {
        let document = "before\n<!-- a -->\nold\n<!-- /a -->\nbetween <!-- b -->\n<!-- /b -->\n";
        let once = replace_region(document, "a", "new\n").unwrap();
        assert_eq!(
            once,
            "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nbetween <!-- b -->\n<!-- /b -->\n"
        );
        assert_eq!(replace_region(&once, "a", "new").as_deref(), Some(once.as_str()));
        assert_eq!(replace_region(document, "c", ""), None);
    }
}
