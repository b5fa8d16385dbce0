//! Durations and sizes, which are written with their unit: `"30 s"`, `"64 MiB"`. The number may have a fraction.

use std::fmt;
use std::time::Duration;

use crate::component::listed;
use crate::nearest::nearest;

/// Nanoseconds in each unit.
const DURATION_UNITS: &[(&str, u128)] = &[
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Bytes in each unit.
const SIZE_UNITS: &[(&str, u128)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Digits after the point; more would be lost anyway.
const FRACTION_DIGITS_MAX: usize = 9;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number of bytes as an in-memory size.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that needs no fraction, as the file would say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units
            .iter()
            .find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift)
        {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// Reads `"500 us"`, `"5 ms"`, `"30 s"`, `"1.5 min"`, `"36 h"`, `"7 d"`, with or without the space. At most 292
/// years, so that its nanoseconds fit an `i64`.
///
/// # Errors
/// A message that says what to write instead; it quotes the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = parse(text, DURATION_UNITS, "s", "a duration such as \"30 s\"")?;
    match u64::try_from(nanos) {
        Ok(nanos) if i64::try_from(nanos).is_ok() => Ok(Duration::from_nanos(nanos)),
        _ => Err("the duration is too long: at most 106751 d".to_string()),
    }
}

/// Reads `"10 B"`, `"512 KiB"`, `"64 MiB"`, `"1 GiB"`, `"1.5 TiB"` and the decimal `kB`, `MB`, `GB`, `TB`, with or
/// without the space.
///
/// # Errors
/// A message that says what to write instead; it quotes the text.
pub fn parse_bytes(text: &str) -> Result<ByteSize, String> {
    let bytes = parse(text, SIZE_UNITS, "MiB", "a size such as \"64 MiB\"")?;
    u64::try_from(bytes)
        .map(ByteSize)
        .map_err(|_| "the size is too large: at most 16777215 TiB".to_string())
}

fn parse(text: &str, units: &[(&str, u128)], usual: &str, expected: &str) -> Result<u128, String> {
    let text = text.trim();
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    if text
        .strip_prefix('-')
        .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err(format!("expected {expected}, which cannot be negative"));
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(format!("expected {expected}, found `{}`", short(text)));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!("missing unit: write \"{} {usual}\"", short(number)));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(unknown_unit(unit, units));
    };
    scale(whole, fraction, *factor)
}

/// `whole.fraction * factor`, exactly.
fn scale(whole: &str, fraction: &str, factor: u128) -> Result<u128, String> {
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(format!("at most {FRACTION_DIGITS_MAX} digits after the point"));
    }
    let too_large = || "the number is too large".to_string();
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| too_large())?;
    let scaled = digits.checked_mul(factor).ok_or_else(too_large)?;
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    match scaled / divisor {
        0 if digits > 0 => Err("the number is too small: less than one of the smallest unit".to_string()),
        value => Ok(value),
    }
}

fn unknown_unit(unit: &str, units: &[(&str, u128)]) -> String {
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let meant = match unit.to_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "mins" | "minute" | "minutes" => Some("min"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        "µs" | "μs" => Some("us"),
        "msec" | "millis" | "milliseconds" => Some("ms"),
        "byte" | "bytes" => Some("B"),
        _ => nearest(unit, &names),
    };
    match meant.filter(|meant| names.contains(meant)) {
        Some(meant) => format!("unknown unit `{}`; did you mean `{meant}`?", short(unit)),
        None => format!("unknown unit `{}`; there are {}", short(unit), listed(&names)),
    }
}

fn short(text: &str) -> String {
    const SHOWN_MAX: usize = 40;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("500 us", 500_000),
            ("5ms", 5_000_000),
            (" 30 s ", 30_000_000_000),
            ("1.5 min", 90_000_000_000),
            ("0.25 us", 250),
            ("0 s", 0),
            ("36 h", 129_600_000_000_000),
            ("7 d", 604_800_000_000_000),
            ("106751 d", 9_223_286_400_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10 B", 10),
            ("512 KiB", 512 << 10),
            ("64MiB", 64 << 20),
            ("1 GiB", 1 << 30),
            ("1.5 kB", 1500),
            ("2 MB", 2_000_000),
            ("3 GB", 3_000_000_000),
            ("0.5 TiB", 1 << 39),
            ("18446744073709551615 B", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["10 B", "3 KiB", "64 MiB", "1 GiB", "0 B", "1025 B"] {
            assert_eq!(parse_bytes(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        for (text, message) in [
            ("30", "missing unit: write \"30 s\""),
            ("", "expected a duration such as \"30 s\", found ``"),
            ("s", "expected a duration such as \"30 s\", found `s`"),
            (".5 s", "expected a duration such as \"30 s\", found `.5 s`"),
            ("1. s", "expected a duration such as \"30 s\", found `1. s`"),
            ("1.2.3 s", "expected a duration such as \"30 s\", found `1.2.3 s`"),
            ("-3 s", "expected a duration such as \"30 s\", which cannot be negative"),
            ("3 sec", "unknown unit `sec`; did you mean `s`?"),
            ("3 m", "unknown unit `m`; did you mean `min`?"),
            ("3 MS", "unknown unit `MS`; did you mean `ms`?"),
            (
                "3 s 4",
                "unknown unit `s 4`; there are `us`, `ms`, `s`, `min`, `h`, `d`",
            ),
            (
                "1e3 s",
                "unknown unit `e3 s`; there are `us`, `ms`, `s`, `min`, `h`, `d`",
            ),
            ("106752 d", "the duration is too long: at most 106751 d"),
            (
                "0.0001 us",
                "the number is too small: less than one of the smallest unit",
            ),
            ("1.0000000001 s", "at most 9 digits after the point"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err(), message, "{text}");
        }
        let cut = format!("missing unit: write \"{}… s\"", "9".repeat(40));
        assert_eq!(parse_duration(&"9".repeat(60)).unwrap_err(), cut);
        assert_eq!(
            parse_duration(&format!("{} d", "9".repeat(60))).unwrap_err(),
            "the number is too large"
        );
        assert_eq!(parse_bytes("64").unwrap_err(), "missing unit: write \"64 MiB\"");
        assert_eq!(
            parse_bytes("64 mib").unwrap_err(),
            "unknown unit `mib`; did you mean `MiB`?"
        );
        assert_eq!(
            parse_bytes("18446744073709551616 B").unwrap_err(),
            "the size is too large: at most 16777215 TiB"
        );
    }
}
