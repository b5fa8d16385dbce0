//! The slow path: decides about every record that the fast path gave up on, and says what is wrong with a bad one.
//!
//! `serde_json` walks the whole payload once, without a tree: values that are read are kept as slices of the
//! payload, the others only checked against the grammar. Then each slice is converted by its column's type.
//! Faults are looked for in this order: nesting, syntax, top level, duplicate keys, then the columns as declared.

use std::borrow::Cow;
use std::fmt;

use arrow::datatypes::DataType;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{Column, Values};
use super::fast::Names;
use super::text::{cut, skip_space};
use super::time::{self, TimeFault};
use crate::codec::BadRecord;
use crate::schema::type_name;

/// Objects and arrays inside one another, the outermost included.
pub(super) const DEPTH_MAX: usize = 64;

const DETAIL_BYTES_MAX: usize = 200;
const SNIPPET_BYTES_MAX: usize = 60;

/// A reason with its detail cut to what a header and a log line may carry.
pub(super) fn bad(kind: &'static str, column: Option<&str>, detail: impl Into<String>) -> BadRecord {
    let mut detail = detail.into();
    detail.truncate(cut(&detail, DETAIL_BYTES_MAX).len());
    BadRecord {
        kind,
        column: column.map(str::to_owned),
        detail,
    }
}

/// Appends the record to all columns, or says what is wrong with it: then columns may hold part of the record
/// and must be cut back.
pub(super) fn row(text: &str, names: &Names, columns: &mut [Column]) -> Result<(), BadRecord> {
    check_depth(text)?;
    let tokens = gather(text, names, columns)?;
    for (column, token) in columns.iter_mut().zip(tokens) {
        match token {
            None | Some("null") => column.push_null(),
            Some(token) => convert(token, column).map_err(|(kind, detail)| bad(kind, Some(&column.name), detail))?,
        }
    }
    Ok(())
}

/// Counts brackets outside of strings; what is between them is left to the parser.
fn check_depth(text: &str) -> Result<(), BadRecord> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' if depth == DEPTH_MAX => {
                return Err(bad(
                    "depth",
                    None,
                    format!("objects and arrays are nested deeper than {DEPTH_MAX}"),
                ));
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn syntax(error: &serde_json::Error) -> BadRecord {
    bad("syntax", None, error.to_string())
}

/// The text of each column's value, in the order of the columns.
fn gather<'de>(text: &'de str, names: &Names, columns: &[Column]) -> Result<Vec<Option<&'de str>>, BadRecord> {
    let start = text.get(skip_space(text.as_bytes(), 0)..).unwrap_or_default();
    if !start.starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| syntax(&error))?;
        return Err(bad(
            "type",
            None,
            format!("found {}, expected an object", describe(start.trim_end())),
        ));
    }
    let mut found = Found {
        tokens: vec![None; columns.len()],
        duplicate: None,
    };
    let mut parser = serde_json::Deserializer::from_str(text);
    parser
        .deserialize_map(Gather {
            names,
            found: &mut found,
        })
        .map_err(|error| syntax(&error))?;
    parser.end().map_err(|error| syntax(&error))?;
    match found.duplicate.and_then(|index| columns.get(index)) {
        Some(column) => Err(bad(
            "duplicate-key",
            Some(&column.name),
            "the key occurs more than once",
        )),
        None => Ok(found.tokens),
    }
}

struct Found<'de> {
    tokens: Vec<Option<&'de str>>,
    duplicate: Option<usize>,
}

struct Gather<'a, 'de> {
    names: &'a Names,
    found: &'a mut Found<'de>,
}

impl<'de> Visitor<'de> for Gather<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(column) = map.next_key_seed(Key(self.names))? {
            let Some(slot) = column.and_then(|index| self.found.tokens.get_mut(index)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let token = map.next_value::<&'de RawValue>()?.get();
            if slot.replace(token).is_some() && self.found.duplicate.is_none() {
                self.found.duplicate = column;
            }
        }
        Ok(())
    }
}

/// Turns a key into the index of its column.
struct Key<'a>(&'a Names);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(key.as_bytes()).copied())
    }
}

/// Kind of fault and detail.
type Fault = (&'static str, String);

/// Appends the value of `token`, a valid JSON value other than null.
fn convert(token: &str, column: &mut Column) -> Result<(), Fault> {
    let kind = &column.kind;
    match &mut column.values {
        Values::Int64(values) => values.push(integer(token, kind)?),
        Values::Int32(values) => values.push(integer(token, kind)?),
        Values::Float64(values) => values.push(float(token, kind, |value: &f64| value.is_finite())?),
        Values::Float32(values) => values.push(float(token, kind, |value: &f32| value.is_finite())?),
        Values::Bool(values) => match token {
            "true" => values.append(true),
            "false" => values.append(false),
            _ => return Err(mismatch(token, kind)),
        },
        Values::Utf8 { bytes, ends } => {
            bytes.extend_from_slice(string(token, kind)?.as_bytes());
            ends.push(bytes.len() as i32);
        }
        Values::Timestamp(unit, values) => values.push(match token.as_bytes() {
            [b'"', ..] => time::timestamp(string(token, kind)?.as_bytes(), *unit).map_err(timing(token, kind))?,
            _ => integer(token, kind)?,
        }),
        Values::Date32(values) => values.push(match token.as_bytes() {
            [b'"', ..] => time::date(string(token, kind)?.as_bytes()).map_err(timing(token, kind))?,
            _ => integer(token, kind)?,
        }),
        Values::Vector { width, numbers } => vector(token, kind, *width, numbers)?,
    }
    column.set_valid();
    Ok(())
}

/// Only a plain integer literal is an integer: with a fraction or an exponent (`1.0`, `1e3`) it is a float.
fn integer<T: std::str::FromStr>(token: &str, kind: &DataType) -> Result<T, Fault> {
    let digits = token.strip_prefix('-').unwrap_or(token);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(mismatch(token, kind));
    }
    token.parse().map_err(|_| outside(token, kind))
}

fn float<T: std::str::FromStr>(token: &str, kind: &DataType, finite: impl Fn(&T) -> bool) -> Result<T, Fault> {
    if !matches!(token.as_bytes(), [b'-' | b'0'..=b'9', ..]) {
        return Err(mismatch(token, kind));
    }
    token.parse().ok().filter(finite).ok_or_else(|| outside(token, kind))
}

/// Appends the numbers of an array of `width` numbers.
fn vector(token: &str, kind: &DataType, width: usize, numbers: &mut Vec<f32>) -> Result<(), Fault> {
    if !token.starts_with('[') {
        return Err(mismatch(token, kind));
    }
    // The grammar has been checked: nothing can fail here.
    let items: Vec<&RawValue> = serde_json::from_str(token).map_err(|error| ("syntax", error.to_string()))?;
    if items.len() != width {
        let found = format!("found an array of {} values, expected {}", items.len(), type_name(kind));
        return Err(("type", found));
    }
    for (place, item) in items.into_iter().enumerate() {
        let number = float(item.get(), &DataType::Float32, |value: &f32| value.is_finite());
        numbers.push(number.map_err(|(fault, detail)| (fault, format!("at place {place} of the array: {detail}")))?);
    }
    Ok(())
}

fn string<'t>(token: &'t str, kind: &DataType) -> Result<Cow<'t, str>, Fault> {
    let Some(inner) = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(mismatch(token, kind));
    };
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // The grammar has been checked: what can fail here is half of a surrogate pair.
    serde_json::from_str(token)
        .map(Cow::Owned)
        .map_err(|error| ("syntax", error.to_string()))
}

fn timing(token: &str, kind: &DataType) -> impl Fn(TimeFault) -> Fault {
    move |fault| match fault {
        TimeFault::Form => mismatch(token, kind),
        TimeFault::Range => outside(token, kind),
        TimeFault::Finer => (
            "type",
            format!("found {}, finer than {}", describe(token), type_name(kind)),
        ),
    }
}

fn mismatch(token: &str, kind: &DataType) -> Fault {
    let form = match kind {
        DataType::Timestamp(..) => " (an integer or an RFC 3339 text)",
        DataType::Date32 => " (a text YYYY-MM-DD or an integer number of days)",
        DataType::Int32 | DataType::Int64 => " (digits without fraction and exponent)",
        DataType::FixedSizeList(..) => " (an array of so many numbers)",
        _ => "",
    };
    (
        "type",
        format!("found {}, expected {}{form}", describe(token), type_name(kind)),
    )
}

fn outside(token: &str, kind: &DataType) -> Fault {
    (
        "range",
        format!("found {}, outside of what {} holds", describe(token), type_name(kind)),
    )
}

/// Names a JSON value for a person, with its beginning.
fn describe(token: &str) -> String {
    let snippet = cut(token, SNIPPET_BYTES_MAX);
    let more = if snippet.len() < token.len() { "…" } else { "" };
    match token.as_bytes().first() {
        Some(b'"') => format!("the string {snippet}{more}"),
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(b't' | b'f' | b'n') => snippet.to_owned(),
        _ => format!("the number {snippet}{more}"),
    }
}
