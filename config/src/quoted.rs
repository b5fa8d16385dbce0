//! Where a byte of a string's value stands in the document, for all four ways in which TOML writes strings.

/// The offset in `raw` (the string with its quotes) of the byte `target` of its value, which is `length` bytes long.
/// The end of the value (`target == length`) is the place of the closing quotes. `None` when `raw` does not decode
/// to a value of that length.
pub(crate) fn offset_in_raw(raw: &str, length: usize, target: usize) -> Option<usize> {
    let (open, close, basic) = delimiters(raw)?;
    let end = raw.len().checked_sub(close).filter(|end| *end >= open)?;
    let mut at = open;
    let mut decoded = 0;
    let mut found = None;
    while at < end {
        let rest = raw.get(at..end)?;
        let (written, value) = unit(rest, basic)?;
        if found.is_none() && target < decoded + value {
            found = Some(at);
        }
        at += written;
        decoded += value;
    }
    let found = found.or((target == decoded).then_some(end));
    found.filter(|_| decoded == length)
}

/// Length of the opening (with the line break that TOML drops) and closing quotes, and whether there are escapes.
fn delimiters(raw: &str) -> Option<(usize, usize, bool)> {
    for (quotes, basic) in [("\"\"\"", true), ("'''", false)] {
        if let Some(rest) = raw.strip_prefix(quotes).filter(|_| raw.len() >= 6) {
            let dropped = if rest.starts_with("\r\n") {
                2
            } else {
                usize::from(rest.starts_with('\n'))
            };
            return Some((3 + dropped, 3, basic));
        }
    }
    match raw.chars().next()? {
        '"' => Some((1, 1, true)),
        '\'' => Some((1, 1, false)),
        _ => None,
    }
}

/// The bytes that the first character or escape of `rest` takes in the document, and those that it yields.
fn unit(rest: &str, basic: bool) -> Option<(usize, usize)> {
    let first = rest.chars().next()?;
    if first != '\\' || !basic {
        return Some((first.len_utf8(), first.len_utf8()));
    }
    match rest.chars().nth(1)? {
        'x' => hex(rest, 2),
        'u' => hex(rest, 4),
        'U' => hex(rest, 8),
        ' ' | '\t' | '\r' | '\n' => {
            let after = rest.get(1..)?.trim_start_matches([' ', '\t', '\r', '\n']);
            Some((rest.len() - after.len(), 0))
        }
        _ => Some((2, 1)),
    }
}

fn hex(rest: &str, digits: usize) -> Option<(usize, usize)> {
    let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
    Some((2 + digits, char::from_u32(code)?.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at which a character of the value begins must be found where that character stands.
    fn check(raw: &str, needle: &str) {
        let text = format!("a = {raw}");
        let table = toml::de::DeTable::parse(&text).unwrap();
        let value = table.get_ref().get("a").unwrap().get_ref().as_str().unwrap();
        let at = value.find(needle).unwrap();
        assert_eq!(offset_in_raw(raw, value.len(), at), raw.find(needle), "{raw}");
        assert_eq!(
            offset_in_raw(raw, value.len(), value.len()),
            Some(raw.trim_end_matches(['"', '\'']).len()),
            "{raw}"
        );
        assert_eq!(offset_in_raw(raw, value.len(), value.len() + 1), None);
        assert_eq!(offset_in_raw(raw, value.len() + 1, 0), None);
    }

    #[test]
    fn all_ways_to_write_a_string() {
        check("\"plain X.\"", "X");
        check("'lit\\eral X.'", "X");
        check("\"\"\"\nfirst\n  X.\"\"\"", "X");
        check("\"\"\"\r\nfirst\r\n  X.\"\"\"", "X");
        check("'''\nit''s\n  X.'''", "X");
        check("\"\"\"no break X.\"\"\"", "X");
        check("\"tab\\t \\\" \\\\ \\u00e9 \\U0001F600 \\x41 \\e é X.\"", "X");
        check("\"\"\"a \\\n    b \\  \r\n  \n X.\"\"\"", "X");
    }

    #[test]
    fn what_is_no_string_has_no_place() {
        for raw in ["", "1", "\"", "\"\"\"", "\"\\u12\"", "\"\\", "\"\\ud800\""] {
            let _ = offset_in_raw(raw, 3, 1);
            assert_eq!(offset_in_raw(raw, 3, 1), None, "{raw}");
        }
    }
}
