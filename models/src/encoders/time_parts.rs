//! `time-parts`: a point in time as where it lies in the day, the week, the month and the year.
//!
//! The date is computed from the days since 1970-01-01 in eras of 400 years (Hinnant, "chrono-compatible low-level date
//! algorithms", 2013): the proleptic Gregorian calendar, without leap seconds.

use std::f64::consts::TAU;
use std::ops::Range;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::{ENCODE, ROLE, each_number};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

const DAY_SECONDS: f64 = 86_400.0;
/// Times farther from 1970, by some 30,000 years, are none.
const SECONDS_MAX: f64 = 1e12;
/// Offsets from UTC, at most: 18 hours.
const OFFSET_MINUTES_MAX: i64 = 1_080;

/// The entry of the list.
pub(crate) struct TimePartsKind;

impl Component for TimePartsKind {
    fn name(&self) -> &'static str {
        "time-parts"
    }

    fn summary(&self) -> &'static str {
        "Takes a point in time, a number of milliseconds or seconds since 1970 (UTC), apart into the hour of the day, the day \
         of the week, the day of the month and the month. Each is a point on a circle (two inputs, so that 23:59 is near 0:00 \
         and December near January) or a number. Knows no time zones, only a fixed offset, and learns nothing. Missing and \
         infinite values, and times more than 30,000 years away, become 0 (the middle of the circle), or stay missing."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "parts",
                kind: Kind::Strings,
                need: Need::Optional("`[\"hour\", \"weekday\"]`"),
                doc: "Which parts, in their order: `hour`, `weekday`, `day` (of the month), `month`.",
            },
            Field {
                name: "form",
                kind: Kind::OneOf(&["cyclic", "number"]),
                need: Need::Optional("`\"cyclic\"`"),
                doc: "`cyclic`: sine and cosine of how much of the day, week, month or year has passed, without steps. \
                      `number`, for trees: hour 0 to 23, weekday 0 (Monday) to 6, day 1 to 31, month 1 to 12.",
            },
            Field {
                name: "unit",
                kind: Kind::OneOf(&["milliseconds", "seconds"]),
                need: Need::Optional("`\"milliseconds\"`"),
                doc: "What the number counts.",
            },
            Field {
                name: "offset_minutes",
                kind: Kind::Integer,
                need: Need::Optional("0"),
                doc: "How far clocks are ahead of UTC, from -1080 to 1080; 120 for UTC+2.",
            },
            Field {
                name: "missing",
                kind: Kind::OneOf(&["zero", "keep"]),
                need: Need::Optional("`\"zero\"`"),
                doc: "A missing value makes every input 0, or stays missing: learners that add inputs up refuse that.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"time-parts\"\nparts = [\"hour\", \"weekday\", \"day\", \"month\"]\nform = \"cyclic\"\n\
         unit = \"milliseconds\"\noffset_minutes = 60\n"
    }
}

impl EncoderKind for TimePartsKind {
    fn column_kind(&self) -> ColumnKind {
        ColumnKind::Number
    }

    fn build(
        &self,
        _column: &ColumnSpec,
        section: &Section<'_>,
        _seed: u64,
        problems: &mut Problems,
    ) -> Option<Box<dyn Encoder>> {
        let named = |parts: &[Part]| parts.iter().map(|part| part.name().to_owned()).collect();
        let names: Vec<String> = section.get_or("parts", named(&[Part::Hour, Part::Weekday]), problems);
        let parts: Option<Vec<Part>> = names.iter().map(|name| Part::find(name)).collect();
        let parts = parts.filter(|parts| are_distinct(parts));
        if parts.is_none() {
            let all: Vec<String> = named(&Part::ALL);
            let message = format!("`parts` must be some of {}, each once", all.join(", "));
            problems.push(section.key_span("parts"), message, None);
        }
        let offset = section.get_or("offset_minutes", 0_i64, problems);
        if !(-OFFSET_MINUTES_MAX..=OFFSET_MINUTES_MAX).contains(&offset) {
            let message = format!("`offset_minutes` must be from -{OFFSET_MINUTES_MAX} to {OFFSET_MINUTES_MAX}");
            problems.push(section.key_span("offset_minutes"), message, None);
            return None;
        }
        Some(Box::new(TimeParts {
            parts: parts?,
            cyclic: section.get_or("form", "cyclic".to_owned(), problems) == "cyclic",
            seconds: section.get_or("unit", "milliseconds".to_owned(), problems) == "seconds",
            keep: section.get_or("missing", "zero".to_owned(), problems) == "keep",
            offset_minutes: offset as i32,
        }))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let (cyclic, seconds, keep) = (reader.flag()?, reader.flag()?, reader.flag()?);
        let offset_minutes = reader.u32()?.cast_signed();
        let count = reader.count(1)?;
        let parts = (0..count)
            .map(|_| Ok(Part::ALL.get(usize::from(reader.u8()?)).copied()))
            .collect::<Result<Option<Vec<Part>>, CodecError>>()?;
        let offset_fits = i64::from(offset_minutes).abs() <= OFFSET_MINUTES_MAX;
        match parts.filter(|parts| are_distinct(parts) && offset_fits) {
            Some(parts) => Ok(Box::new(TimeParts {
                parts,
                cyclic,
                seconds,
                keep,
                offset_minutes,
            })),
            None => Err(reader.error("these are no settings of `time-parts`")),
        }
    }
}

/// What of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Hour,
    Weekday,
    Day,
    Month,
}

impl Part {
    /// In the order of their codes.
    const ALL: [Self; 4] = [Self::Hour, Self::Weekday, Self::Day, Self::Month];

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Weekday => "weekday",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// The part as a number, and the share of its circle that has passed.
    fn of(self, time: &Time) -> (f64, f64) {
        let days_before = time.day - 1.0;
        match self {
            Self::Hour => ((time.of_day * 24.0).floor().min(23.0), time.of_day),
            Self::Weekday => (time.weekday, (time.weekday + time.of_day) / 7.0),
            Self::Day => (time.day, (days_before + time.of_day) / time.month_days),
            Self::Month => (
                time.month,
                (time.month - 1.0 + (days_before + time.of_day) / time.month_days) / 12.0,
            ),
        }
    }
}

/// Whether there is one, and none twice.
fn are_distinct(parts: &[Part]) -> bool {
    !parts.is_empty() && (1..parts.len()).all(|place| !parts[..place].contains(&parts[place]))
}

/// A point in time.
#[derive(Debug, PartialEq)]
struct Time {
    /// Share of the day that has passed, from 0 to below 1.
    of_day: f64,
    /// 0 is Monday.
    weekday: f64,
    /// From 1.
    day: f64,
    month: f64,
    /// Days of the month.
    month_days: f64,
}

impl Time {
    /// So many seconds after 1970-01-01 00:00, if that is near enough.
    fn at(seconds: f64) -> Option<Self> {
        if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
            return None;
        }
        let days = (seconds / DAY_SECONDS).floor();
        let of_day = (seconds - days * DAY_SECONDS) / DAY_SECONDS;
        // Days since 0000-03-01, in an era of 400 years; years begin in March, so that a leap day ends one.
        let shifted = days as i64 + 719_468;
        let (era_day, march_year) = {
            let era_day = shifted.rem_euclid(146_097);
            let year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
            (era_day, year)
        };
        let year_day = era_day - (365 * march_year + march_year / 4 - march_year / 100);
        // Months of 31, 30, 31, 30, 31 days repeat from March on.
        let month_index = (5 * year_day + 2) / 153;
        let month_start = |index: i64| (153 * index + 2) / 5;
        let month_days = match month_index {
            11 if is_leap(march_year + 1) => 29,
            11 => 28,
            index => month_start(index + 1) - month_start(index),
        };
        Some(Self {
            of_day,
            // 1970-01-01 was a Thursday.
            weekday: (days as i64 + 3).rem_euclid(7) as f64,
            day: (year_day - month_start(month_index) + 1) as f64,
            month: ((month_index + 2) % 12 + 1) as f64,
            month_days: month_days as f64,
        })
    }
}

/// Whether a year, counted in its era, has a leap day.
fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Learns nothing.
#[derive(Clone)]
struct TimeParts {
    parts: Vec<Part>,
    cyclic: bool,
    seconds: bool,
    keep: bool,
    offset_minutes: i32,
}

impl TimeParts {
    /// Writes the parts of a time.
    fn write_time(&self, value: f64, out: &mut [f64]) {
        let seconds = if self.seconds { value } else { value / 1_000.0 };
        let Some(time) = Time::at(seconds + 60.0 * f64::from(self.offset_minutes)) else {
            out[..self.width()].fill(if self.keep { f64::NAN } else { 0.0 });
            return;
        };
        let inputs = if self.cyclic { 2 } else { 1 };
        for (part, out) in self.parts.iter().zip(out.chunks_mut(inputs)) {
            let (number, passed) = part.of(&time);
            match out {
                [sine, cosine] => (*sine, *cosine) = (TAU * passed).sin_cos(),
                _ => out[0] = number,
            }
        }
    }
}

impl Encoder for TimeParts {
    fn format(&self) -> &'static str {
        TimePartsKind.name()
    }

    fn width(&self) -> usize {
        self.parts.len() * if self.cyclic { 2 } else { 1 }
    }

    fn observe(&mut self, _column: ColumnView<'_>, _row: usize, _label: f64) {}

    fn keeps_missing(&self) -> bool {
        self.keep
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_number(column, rows, out, stride, |value, place| self.write_time(value, place));
    }

    fn stamp(&self) -> u64 {
        0
    }

    fn write(&self, out: &mut Vec<u8>) {
        for flag in [self.cyclic, self.seconds, self.keep] {
            out.put_u8(u8::from(flag));
        }
        out.put_u32(self.offset_minutes.cast_unsigned());
        out.put_u64(self.parts.len() as u64);
        for part in &self.parts {
            out.put_u8(*part as u8);
        }
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        // As they are written, that is a little more.
        size_of::<Self>() + 8 + self.parts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::world::try_section;
    use crate::frame::Column;

    fn build(text: &str) -> Result<Box<dyn Encoder>, String> {
        let spec = ColumnSpec {
            name: "c".to_owned(),
            kind: ColumnKind::Number,
        };
        try_section(text, |section, problems| {
            TimePartsKind.build(&spec, section, 1, problems)
        })
    }

    fn encoded(text: &str, values: &[f64]) -> Vec<f64> {
        let (encoder, column) = (build(text).unwrap(), Column::F64(values.to_vec()));
        let view = ColumnView {
            values: &column,
            dictionary: None,
        };
        let mut out = vec![0.0; values.len() * encoder.width()];
        encoder.encode(view, 0..values.len(), &mut out, encoder.width());
        out
    }

    const NUMBERS: &str = "parts = ['hour', 'weekday', 'day', 'month']\nform = 'number'\nunit = 'seconds'";

    #[test]
    fn known_times_have_their_parts() {
        // By `date -u -d @N`.
        for (seconds, expected) in [
            (0.0, [0.0, 3.0, 1.0, 1.0]),
            (951_827_696.0, [12.0, 1.0, 29.0, 2.0]),
            (951_868_800.0, [0.0, 2.0, 1.0, 3.0]),
            (-1.0, [23.0, 2.0, 31.0, 12.0]),
            (1_795_535_999.5, [15.0, 1.0, 24.0, 11.0]),
            (4_107_542_400.0, [0.0, 0.0, 1.0, 3.0]),
        ] {
            assert_eq!(encoded(NUMBERS, &[seconds]), expected, "{seconds}");
        }
        let ahead = format!("{NUMBERS}\noffset_minutes = 90");
        assert_eq!(encoded(&ahead, &[951_868_799.0 - 3_600.0]), [0.0, 2.0, 1.0, 3.0]);
        let behind = format!(
            "{}\noffset_minutes = -60",
            NUMBERS.replace("'seconds'", "'milliseconds'")
        );
        assert_eq!(encoded(&behind, &[951_868_800_000.0]), [23.0, 1.0, 29.0, 2.0]);
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let mut before = Time::at(-DAY_SECONDS).unwrap();
        for day in 0..146_097 {
            let time = Time::at(f64::from(day) * DAY_SECONDS).unwrap();
            let is_first = before.day == before.month_days;
            let expected = match is_first {
                true => (1.0, before.month % 12.0 + 1.0),
                false => (before.day + 1.0, before.month),
            };
            assert_eq!((time.day, time.month), expected, "day {day}");
            assert_eq!(time.weekday, (before.weekday + 1.0) % 7.0);
            assert!((28.0..=31.0).contains(&time.month_days));
            before = time;
        }
    }

    #[test]
    fn a_circle_has_no_step_and_its_middle_is_a_missing_time() {
        let text = "unit = 'seconds'\nparts = ['month', 'day', 'weekday', 'hour']";
        // The last moment of 2026, a Thursday, and the next.
        let both = encoded(text, &[1_798_761_599.999, 1_798_761_600.0]);
        for (before, after) in both[..4].iter().zip(&both[8..12]) {
            assert!((before - after).abs() < 1e-6, "{both:?}");
        }
        assert_eq!(both[14..], [0.0, 1.0], "midnight");
        let noon = encoded("unit = 'seconds'\nparts = ['hour']", &[43_200.0]);
        assert!(noon[0].abs() < 1e-12 && (noon[1] + 1.0).abs() < 1e-12, "{noon:?}");
        let none = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e16];
        assert_eq!(encoded(text, &none), [0.0; 40]);
        let kept = encoded("missing = 'keep'\nform = 'number'", &none[..2]);
        assert!(kept.iter().all(|part| part.is_nan()), "{kept:?}");
    }

    #[test]
    fn impossible_settings_are_refused() {
        for (text, expected) in [
            ("parts = []", "`parts` must be some of hour, weekday, day, month"),
            ("parts = ['hour', 'hour']", "each once"),
            ("parts = ['year']", "`parts` must"),
            ("offset_minutes = 1081", "from -1080 to 1080"),
        ] {
            let problems = build(text).err().unwrap();
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
