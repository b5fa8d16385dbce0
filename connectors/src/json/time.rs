//! Dates and timestamps in the text form of RFC 3339, read and written without allocation.

use arrow::datatypes::TimeUnit;

/// Why a text is not a timestamp of the declared unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeFault {
    /// Not the form of RFC 3339.
    Form,
    /// A field out of its range (month 13, 30 February, a leap second), or an instant that the unit cannot hold.
    Range,
    /// Digits finer than the declared unit, which would be lost.
    Finer,
}

const DAY_S: i64 = 86_400;
const GIGA: u32 = 1_000_000_000;

/// Ticks in a second, and how many digits of a second they print.
fn scale(unit: TimeUnit) -> (u32, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (GIGA, 9),
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible
/// low-level date algorithms": years begin in March, so that the leap day is the last).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (
        year + era * 400 + i64::from(month <= 2),
        month,
        of_year - (153 * shifted + 2) / 5 + 1,
    )
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The `count` digits at `at` as a number.
fn field(text: &[u8], at: usize, count: usize) -> Result<i64, TimeFault> {
    let digits = text.get(at..at + count).ok_or(TimeFault::Form)?;
    digits.iter().try_fold(0, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + i64::from(byte - b'0')),
        _ => Err(TimeFault::Form),
    })
}

fn expect(text: &[u8], at: usize, allowed: &[u8]) -> Result<(), TimeFault> {
    text.get(at)
        .filter(|byte| allowed.contains(byte))
        .map(|_| ())
        .ok_or(TimeFault::Form)
}

/// Days since 1970-01-01 of the `YYYY-MM-DD` that `text` begins with.
fn leading_date(text: &[u8]) -> Result<i64, TimeFault> {
    let (year, month, day) = (field(text, 0, 4)?, field(text, 5, 2)?, field(text, 8, 2)?);
    expect(text, 4, b"-")?;
    expect(text, 7, b"-")?;
    if !(1..=12).contains(&month) || !(1..=days_of_month(year, month)).contains(&day) {
        return Err(TimeFault::Range);
    }
    Ok(days_from_civil(year, month, day))
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(super) fn date(text: &[u8]) -> Result<i32, TimeFault> {
    let days = leading_date(text)?;
    if text.len() != 10 {
        return Err(TimeFault::Form);
    }
    i32::try_from(days).map_err(|_| TimeFault::Range)
}

/// Nanoseconds of the fraction at `at`, if there is one, and the position after it.
fn fraction(text: &[u8], at: usize) -> Result<(u32, usize), TimeFault> {
    if text.get(at) != Some(&b'.') {
        return Ok((0, at));
    }
    let digits = text
        .get(at + 1..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let (mut nanos, mut count) = (0, 0);
    for byte in digits {
        let digit = u32::from(byte - b'0');
        match count {
            0..9 => nanos = nanos * 10 + digit,
            _ if digit != 0 => return Err(TimeFault::Finer),
            _ => {}
        }
        count += 1;
    }
    if count == 0 {
        return Err(TimeFault::Form);
    }
    Ok((nanos * 10_u32.pow(9 - count.min(9)), at + 1 + count as usize))
}

/// Seconds east of UTC of the zone that `text` ends with from `at` on; none is UTC.
fn zone(text: &[u8], at: usize) -> Result<i64, TimeFault> {
    let rest = text.get(at..).ok_or(TimeFault::Form)?;
    let sign = match rest {
        [] | [b'Z' | b'z'] => return Ok(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return Err(TimeFault::Form),
    };
    let (hours, minutes) = (field(rest, 1, 2)?, field(rest, 4, 2)?);
    expect(rest, 3, b":")?;
    if rest.len() != 6 {
        return Err(TimeFault::Form);
    }
    if hours > 23 || minutes > 59 {
        return Err(TimeFault::Range);
    }
    Ok(sign * (hours * 3_600 + minutes * 60))
}

/// The instant of an RFC 3339 text in ticks of `unit` since 1970-01-01 UTC. A text without a zone is UTC.
pub(super) fn timestamp(text: &[u8], unit: TimeUnit) -> Result<i64, TimeFault> {
    let days = leading_date(text)?;
    let (hour, minute, second) = (field(text, 11, 2)?, field(text, 14, 2)?, field(text, 17, 2)?);
    expect(text, 10, b"Tt ")?;
    expect(text, 13, b":")?;
    expect(text, 16, b":")?;
    let (nanos, end) = fraction(text, 19)?;
    let east_s = zone(text, end)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(TimeFault::Range);
    }
    let (ticks, _) = scale(unit);
    let nanos_each = GIGA / ticks;
    if nanos % nanos_each != 0 {
        return Err(TimeFault::Finer);
    }
    let seconds = days * DAY_S + hour * 3_600 + minute * 60 + second - east_s;
    let value = i128::from(seconds) * i128::from(ticks) + i128::from(nanos / nanos_each);
    i64::try_from(value).map_err(|_| TimeFault::Range)
}

/// Writes `value`, which is not negative, in decimal over the bytes of `out`, zeros before it.
fn fill(out: &mut [u8], mut value: i64) {
    for slot in out.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Writes the date; `false`, and nothing written, for a year of more than four digits.
fn put_date(out: &mut [u8; 10], days: i64) -> bool {
    let (year, month, day) = civil_from_days(days);
    if !(0..=9_999).contains(&year) {
        return false;
    }
    *out = *b"0000-00-00";
    fill(&mut out[0..4], year);
    fill(&mut out[5..7], month);
    fill(&mut out[8..10], day);
    true
}

/// Appends `"YYYY-MM-DD"` with its quotes. RFC 3339 has no form for years before 0 and after 9999: those are
/// written as the number of days, which the decoder reads too.
pub(super) fn write_date(days: i32, out: &mut Vec<u8>) {
    let mut text = [0; 10];
    if !put_date(&mut text, i64::from(days)) {
        return out.extend_from_slice(itoa::Buffer::new().format(days).as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
}

/// Appends the instant as a quoted RFC 3339 text in UTC with the digits of `unit`; outside the years 0 to 9999 as
/// the number of ticks, which the decoder reads too.
pub(super) fn write_timestamp(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let (ticks, digits) = scale(unit);
    let (seconds, sub) = (value.div_euclid(i64::from(ticks)), value.rem_euclid(i64::from(ticks)));
    let (days, of_day) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let mut text = *b"\"0000-00-00T00:00:00.000000000";
    let mut date = [0; 10];
    if !put_date(&mut date, days) {
        return out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
    text[1..11].copy_from_slice(&date);
    fill(&mut text[12..14], of_day / 3_600);
    fill(&mut text[15..17], of_day / 60 % 60);
    fill(&mut text[18..20], of_day % 60);
    fill(&mut text[21..21 + digits], sub);
    let end = if digits == 0 { 20 } else { 21 + digits };
    out.extend_from_slice(&text[..end]);
    out.extend_from_slice(b"Z\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDate};
    use rand::{RngExt, SeedableRng};

    const UNITS: [TimeUnit; 4] = [
        TimeUnit::Second,
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ];

    #[test]
    fn dates_agree_with_chrono() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in -719_528..=2_932_896 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            if days % 7 == 0 {
                let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32).unwrap();
                assert_eq!((date - epoch).num_days(), days);
            }
        }
    }

    #[test]
    fn timestamps_agree_with_chrono() {
        let mut random = rand_pcg::Pcg64::seed_from_u64(3);
        for _ in 0..20_000 {
            let instant = random.random_range(-9_000_000_000_000_000_000..9_000_000_000_000_000_000_i64);
            let expected = DateTime::from_timestamp_nanos(instant);
            let text = expected.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
            assert_eq!(
                timestamp(text.as_bytes(), TimeUnit::Nanosecond),
                Ok(instant),
                "{text}, seed 3"
            );
            let mut out = Vec::new();
            write_timestamp(instant, TimeUnit::Nanosecond, &mut out);
            assert_eq!(out, format!("\"{text}\"").into_bytes());
            let east = chrono::FixedOffset::east_opt(random.random_range(-1_439..1_439) * 60).unwrap();
            let zoned = expected.with_timezone(&east).to_rfc3339();
            assert_eq!(
                timestamp(zoned.as_bytes(), TimeUnit::Nanosecond),
                Ok(instant),
                "{zoned}, seed 3"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_back_in_every_unit() {
        let mut random = rand_pcg::Pcg64::seed_from_u64(4);
        for round in 0..40_000 {
            let unit = UNITS[round % 4];
            let value: i64 = random.random::<i64>() >> random.random_range(0..60);
            let mut out = Vec::new();
            write_timestamp(value, unit, &mut out);
            let text = String::from_utf8(out).unwrap();
            let read = match text.strip_prefix('"') {
                Some(quoted) => timestamp(quoted.trim_end_matches('"').as_bytes(), unit).unwrap(),
                None => text.parse().unwrap(),
            };
            assert_eq!(read, value, "{text} in {unit:?}, seed 4");
        }
    }

    #[test]
    fn forms_and_faults() {
        let ms = |text: &str| timestamp(text.as_bytes(), TimeUnit::Millisecond);
        assert_eq!(ms("2013-01-01T05:15:00.000Z"), Ok(1_357_017_300_000));
        assert_eq!(ms("2013-01-01T05:15:00"), Ok(1_357_017_300_000));
        assert_eq!(ms("2013-01-01 06:15:00+01:00"), Ok(1_357_017_300_000));
        assert_eq!(ms("2013-01-01t05:15:00.1z"), Ok(1_357_017_300_100));
        assert_eq!(ms("2013-01-01T05:15:00.1230000000000000Z"), Ok(1_357_017_300_123));
        assert_eq!(ms("2013-01-01T05:15:00.1234Z"), Err(TimeFault::Finer));
        assert_eq!(ms("2013-01-01T05:15:00.0000000000001Z"), Err(TimeFault::Finer));
        for text in [
            "2013-02-29T00:00:00Z",
            "2013-13-01T00:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T00:00:60Z",
        ] {
            assert_eq!(ms(text), Err(TimeFault::Range), "{text}");
        }
        for text in [
            "",
            "2013-01-01",
            "2013-01-01T00:00",
            "2013-01-01T00:00:00.Z",
            "2013-01-01T00:00:00+1:00",
            "2013-01-01T00:00:00Zx",
            "2013-01-01T00:00:00+01:00x",
            "13-01-01T00:00:00Z",
            "+013-01-01T00:00:00Z",
        ] {
            assert_eq!(ms(text), Err(TimeFault::Form), "{text}");
        }
        let ns = |text: &str| timestamp(text.as_bytes(), TimeUnit::Nanosecond);
        assert_eq!(ns("1677-09-21T00:12:43.145224192Z"), Ok(i64::MIN));
        assert_eq!(ns("2262-04-11T23:47:16.854775807Z"), Ok(i64::MAX));
        assert_eq!(ns("2262-04-11T23:47:16.854775808Z"), Err(TimeFault::Range));
        assert_eq!(date(b"2012-02-29"), Ok(15_399));
        assert_eq!(date(b"2012-02-29T"), Err(TimeFault::Form));
    }
}
