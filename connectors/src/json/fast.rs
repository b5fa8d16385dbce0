//! The fast path: one pass over a record, straight into the columns.
//!
//! Producers write their keys in the same order with the same white space again and again. The scanner therefore
//! keeps the bytes that stood between two values of the last record (comma, key, colon, spaces) and compares them
//! with one `memcmp`; only where they differ does it look at the key. On anything that needs thought (an escape in
//! a key or a timestamp, a number out of the ordinary, a key twice, any error) it gives up: the slow path decides.
//! It must never accept what the slow path refuses, nor see another value in it.

use std::collections::HashMap;

use super::columns::{Column, Values};
use super::slow::DEPTH_MAX;
use super::{number, text, time};

/// Columns by their key.
pub(super) type Names = HashMap<Box<[u8]>, usize>;

/// What may be remembered of one record's shape; longer ones are left to the slow path.
const KEYS_MAX: usize = 1_024;
const PREFIX_BYTES_MAX: usize = 256;

/// What stood before a value of the last record, and the column that the value went to, if one reads it.
struct Expected {
    prefix: Vec<u8>,
    column: Option<usize>,
}

/// Scans records, remembering the shape of the last one.
#[derive(Default)]
pub(super) struct Scanner {
    expected: Vec<Expected>,
}

impl Scanner {
    /// Appends the record in `bytes`, which must be valid UTF-8, as row number `row` to all columns. `None`
    /// when it gives up: then columns may hold part of the record and must be cut back to `row` rows.
    pub(super) fn row(&mut self, bytes: &[u8], row: usize, names: &Names, columns: &mut [Column]) -> Option<()> {
        let (mut at, mut position) = (0, 0);
        loop {
            let column = self.key(bytes, &mut at, &mut position, names)?;
            at = match column.and_then(|index| columns.get_mut(index)) {
                Some(column) if column.rows() == row => value(column, bytes, at)?,
                Some(_) => return None,
                None => skip(bytes, at)?,
            };
            if ends(bytes, at) {
                break;
            }
        }
        for column in columns.iter_mut().filter(|column| column.rows() == row) {
            column.push_null();
        }
        Some(())
    }

    /// Reads what stands before a value; moves `at` to the value and `position` to the next key.
    #[inline]
    fn key(&mut self, bytes: &[u8], at: &mut usize, position: &mut usize, names: &Names) -> Option<Option<usize>> {
        let rest = bytes.get(*at..)?;
        // The second guess is for a producer that leaves a key out now and then; only the first has the brace.
        for guess in *position..=*position + usize::from(*position > 0) {
            if let Some(expected) = self.expected.get(guess)
                && rest.starts_with(&expected.prefix)
            {
                *at += expected.prefix.len();
                *position = guess + 1;
                return Some(expected.column);
            }
        }
        let (end, key) = read_key(bytes, *at, *position == 0)?;
        let prefix = bytes.get(*at..end).filter(|prefix| prefix.len() <= PREFIX_BYTES_MAX)?;
        let column = names.get(key).copied();
        self.learn(*position, prefix, column)?;
        *at = end;
        *position += 1;
        Some(column)
    }

    #[cold]
    fn learn(&mut self, position: usize, prefix: &[u8], column: Option<usize>) -> Option<()> {
        if position >= KEYS_MAX {
            return None;
        }
        if position >= self.expected.len() {
            self.expected.push(Expected {
                prefix: prefix.to_vec(),
                column,
            });
        } else if let Some(slot) = self.expected.get_mut(position) {
            slot.prefix.clear();
            slot.prefix.extend_from_slice(prefix);
            slot.column = column;
        }
        Some(())
    }
}

/// Reads brace or comma, key and colon. Gives the position of the value and the key.
fn read_key(bytes: &[u8], at: usize, first: bool) -> Option<(usize, &[u8])> {
    let at = after(bytes, at, if first { b'{' } else { b',' })?;
    let start = after(bytes, at, b'"')?;
    let end = text::special(bytes, start);
    (bytes.get(end) == Some(&b'"')).then_some(())?;
    let value = after(bytes, end + 1, b':')?;
    Some((text::skip_space(bytes, value), bytes.get(start..end)?))
}

/// Position after `byte`, with white space allowed before it.
fn after(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = text::skip_space(bytes, at);
    (bytes.get(at) == Some(&byte)).then_some(at + 1)
}

/// Whether only the closing brace and white space follow.
#[inline]
fn ends(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at..) {
        Some([b',', ..]) => false,
        Some([b'}']) => true,
        _ => after(bytes, at, b'}').is_some_and(|end| text::skip_space(bytes, end) == bytes.len()),
    }
}

/// Position after `word` at `at`.
#[inline]
fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// The bytes of the string without escapes at `at`, and the position after it.
#[inline]
fn string(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let end = text::special(bytes, at + 1);
    (bytes.get(end) == Some(&b'"')).then_some(())?;
    Some((bytes.get(at + 1..end)?, end + 1))
}

/// Appends the string with escapes at `at` to `out` and gives the position after it.
#[cold]
fn unescape(bytes: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = skip_string(bytes, after(bytes, at, b'"')?)?;
    let text: String = serde_json::from_slice(bytes.get(at..end)?).ok()?;
    out.extend_from_slice(text.as_bytes());
    Some(end)
}

/// Appends the value at `at` to its column and gives the position after it.
#[inline]
fn value(column: &mut Column, bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'n') {
        let end = literal(bytes, at, b"null")?;
        column.push_null();
        return Some(end);
    }
    let end = match &mut column.values {
        Values::Int64(values) => append(values, number::integer(bytes, at)?),
        Values::Float64(values) => append(values, number::float64(bytes, at)?),
        Values::Float32(values) => append(values, number::float32(bytes, at)?),
        Values::Utf8 { bytes: all, ends } => {
            let end = match string(bytes, at) {
                Some((text, end)) => {
                    all.extend_from_slice(text);
                    end
                }
                None => unescape(bytes, at, all)?,
            };
            append(ends, (all.len() as i32, end))
        }
        Values::Timestamp(unit, values) if bytes.get(at) == Some(&b'"') => {
            let (text, end) = string(bytes, at)?;
            append(values, (time::timestamp(text, *unit).ok()?, end))
        }
        Values::Timestamp(_, values) => append(values, number::integer(bytes, at)?),
        Values::Date32(values) if bytes.get(at) == Some(&b'"') => {
            let (text, end) = string(bytes, at)?;
            append(values, (time::date(text).ok()?, end))
        }
        Values::Int32(values) | Values::Date32(values) => {
            let (value, end) = number::integer(bytes, at)?;
            append(values, (i32::try_from(value).ok()?, end))
        }
        Values::Bool(values) => {
            let (value, word): (_, &[u8]) = if bytes.get(at) == Some(&b't') {
                (true, b"true")
            } else {
                (false, b"false")
            };
            values.append(value);
            literal(bytes, at, word)?
        }
        Values::Vector { width, numbers } => vector(bytes, at, *width, numbers)?,
    };
    column.set_valid();
    Some(end)
}

/// Appends the `width` numbers of the array at `at` and gives the position after it.
fn vector(bytes: &[u8], at: usize, width: usize, numbers: &mut Vec<f32>) -> Option<usize> {
    let mut at = after(bytes, at, b'[')?;
    for place in 0..width {
        if place > 0 {
            at = after(bytes, at, b',')?;
        }
        at = append(numbers, number::float32(bytes, text::skip_space(bytes, at))?);
    }
    after(bytes, at, b']')
}

#[inline]
fn append<T>(values: &mut Vec<T>, (value, end): (T, usize)) -> usize {
    values.push(value);
    end
}

/// Position after a value that nobody reads.
#[inline]
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'{' | b'[' => skip_nested(bytes, at),
        _ => skip_scalar(bytes, at),
    }
}

#[inline]
fn skip_scalar(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_string(bytes, at + 1),
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        _ => number::skip(bytes, at),
    }
}

/// The objects and arrays that are open around a position: a stack of bits, of which the record itself is none.
#[derive(Default)]
struct Open {
    /// The lowest bit tells whether the innermost is an object.
    objects: u64,
    depth: usize,
}

impl Open {
    fn push(&mut self, object: bool) -> Option<()> {
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        (self.depth < DEPTH_MAX).then_some(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// Position after the object or array at `at`, checked against the grammar without recursion.
#[inline(never)]
fn skip_nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut open = Open::default();
    loop {
        at = text::skip_space(bytes, at);
        if let Some(bracket @ (b'{' | b'[')) = bytes.get(at) {
            open.push(*bracket == b'{')?;
            at = text::skip_space(bytes, at + 1);
            // The closing bracket is its opening one plus two.
            if bytes.get(at) != Some(&(bracket + 2)) {
                at = member(bytes, at, &open)?;
                continue;
            }
        } else {
            at = skip_scalar(bytes, at)?;
        }
        at = close(bytes, at, &mut open)?;
        if open.depth == 0 {
            return Some(at);
        }
        at = member(bytes, at, &open)?;
    }
}

/// Position after all brackets that close at `at`, and after the comma if something is still open.
fn close(bytes: &[u8], mut at: usize, open: &mut Open) -> Option<usize> {
    while open.depth > 0 {
        at = text::skip_space(bytes, at);
        match (bytes.get(at)?, open.in_object()) {
            (b',', _) => return Some(at + 1),
            (b'}', true) | (b']', false) => open.pop(),
            _ => return None,
        }
        at += 1;
    }
    Some(at)
}

/// Position of the next value in the innermost object (after key and colon) or array.
fn member(bytes: &[u8], at: usize, open: &Open) -> Option<usize> {
    if !open.in_object() {
        return Some(at);
    }
    let key = skip_string(bytes, after(bytes, at, b'"')?)?;
    after(bytes, key, b':')
}

/// Position after the string whose first byte is at `at`, escapes allowed.
#[inline]
fn skip_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = text::special(bytes, at);
        match bytes.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => at += 2,
            [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => at += 6,
            _ => return None,
        }
    }
}
