//! The count that a delivery claim stands on: which outcome every input record had, by (topic, partition, offset), read
//! from the output topics alone.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::kafka::Message;

/// Where a record lies in Kafka; nothing else names it for certain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset there.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl Place {
    /// Where a message was read.
    pub fn of(message: &Message) -> Self {
        Self {
            topic: message.topic.clone(),
            partition: message.partition,
            offset: message.offset,
        }
    }

    /// `topic/partition/offset`, as a prediction's `driftmill_at` says it. No topic's name holds a slash.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let place = Self {
            topic: parts.next()?.to_owned(),
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(place)
    }
}

/// What the test knows that must become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// One prediction.
    Predicted,
    /// Nothing: the SQL's WHERE leaves it out.
    Filtered,
    /// One dead letter.
    Dead,
}

/// What the output topics say of each input record: how many predictions, how many dead letters.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    counts: BTreeMap<Place, (u32, u32)>,
}

impl Outcomes {
    /// Counts predictions by their `driftmill_at`, and dead letters by their headers.
    ///
    /// # Panics
    /// When an output does not say where it came from: then nothing can be counted.
    pub fn count(predictions: &[Message], dead_letters: &[Message]) -> Self {
        let mut outcomes = Self::default();
        for message in predictions {
            outcomes.counts.entry(predicted_of(message)).or_default().0 += 1;
        }
        for message in dead_letters {
            outcomes.counts.entry(dead_letter_of(message)).or_default().1 += 1;
        }
        outcomes
    }

    /// Compares with what is due to each input record.
    pub fn balance(mut self, inputs: &[Message], due: impl Fn(&Message) -> Due) -> Balance {
        let mut balance = Balance {
            inputs: inputs.len(),
            ..Balance::default()
        };
        for input in inputs {
            let place = Place::of(input);
            let (predicted, dead) = self.counts.remove(&place).unwrap_or_default();
            balance.add(place, predicted, dead, due(input));
        }
        balance.unknown = self.counts.into_keys().collect();
        balance
    }
}

fn predicted_of(message: &Message) -> Place {
    let value: Value = serde_json::from_slice(message.payload.as_deref().unwrap_or_default())
        .unwrap_or_else(|error| panic!("the prediction at {} is not JSON: {error}", Place::of(message)));
    let at = value["driftmill_at"].as_str().and_then(Place::parse);
    at.unwrap_or_else(|| {
        panic!(
            "the prediction at {} does not say its input: {value}",
            Place::of(message)
        )
    })
}

fn dead_letter_of(message: &Message) -> Place {
    let header = |name: &str| message.header(name).unwrap_or_default();
    let text = ["topic", "partition", "offset"]
        .map(|part| header(&format!("driftmill.{part}")))
        .join("/");
    Place::parse(&text).unwrap_or_else(|| {
        panic!(
            "the dead letter at {} does not say its input: {text}",
            Place::of(message)
        )
    })
}

/// How the outcomes compare with what was due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Records that were read.
    pub inputs: usize,
    /// Records with a prediction that was due.
    pub predicted: usize,
    /// Records that were rightly left out.
    pub filtered: usize,
    /// Records with a dead letter that was due.
    pub dead: usize,
    /// Records with no outcome though one was due.
    pub missing: Vec<Place>,
    /// Records with the right outcome more than once.
    pub repeated: Vec<Place>,
    /// Records with an outcome that was not due.
    pub wrong: Vec<Place>,
    /// Outcomes of records that do not exist.
    pub unknown: Vec<Place>,
}

impl Balance {
    fn add(&mut self, place: Place, predicted: u32, dead: u32, due: Due) {
        let (right, wrong) = match due {
            Due::Predicted => (predicted, dead),
            Due::Dead => (dead, predicted),
            Due::Filtered => (0, predicted + dead),
        };
        if wrong > 0 {
            self.wrong.push(place.clone());
        }
        match (due, right) {
            (Due::Filtered, _) => self.filtered += 1,
            (_, 0) => return self.missing.push(place),
            (Due::Predicted, _) => self.predicted += 1,
            (Due::Dead, _) => self.dead += 1,
        }
        if right > 1 {
            self.repeated.push(place);
        }
    }

    /// # Panics
    /// Unless every record has its outcome and no other, once or more often.
    pub fn assert_at_least_once(&self) {
        let sound = self.missing.is_empty() && self.wrong.is_empty() && self.unknown.is_empty();
        assert!(sound, "not at least once: {self}");
    }

    /// # Panics
    /// Unless every record has exactly the outcome that is due.
    pub fn assert_exactly_once(&self) {
        self.assert_at_least_once();
        assert!(self.repeated.is_empty(), "not exactly once: {self}");
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in {} = predicted {} + filtered {}",
            self.inputs, self.predicted, self.filtered
        )?;
        write!(f, " + dead letters {} + missing {}", self.dead, self.missing.len())?;
        let lists = [
            ("missing", &self.missing),
            ("repeated", &self.repeated),
            ("wrong", &self.wrong),
        ];
        for (name, places) in lists.into_iter().chain([("unknown", &self.unknown)]) {
            if let Some(first) = places.first() {
                write!(f, "; {name} {}, the first {first}", places.len())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, offset: i64, payload: &str, headers: &[(&str, &str)]) -> Message {
        Message {
            topic: topic.to_owned(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(payload.as_bytes().to_vec()),
            headers: headers
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
                .collect(),
        }
    }

    fn predicted(offset: i64) -> Message {
        message(
            "out",
            0,
            &format!(r#"{{"prediction":0.5,"driftmill_at":"in/0/{offset}"}}"#),
            &[],
        )
    }

    fn dead(offset: &str) -> Message {
        let headers = [
            ("driftmill.topic", "in"),
            ("driftmill.partition", "0"),
            ("driftmill.offset", offset),
        ];
        message("dead", 0, "{", &headers)
    }

    /// Offsets 0, 1 are to be predicted, 2 filtered, 3 dead.
    fn balance(predictions: &[Message], dead_letters: &[Message]) -> Balance {
        let inputs: Vec<_> = (0..4).map(|offset| message("in", offset, "", &[])).collect();
        let due = |input: &Message| match input.offset {
            2 => Due::Filtered,
            3 => Due::Dead,
            _ => Due::Predicted,
        };
        Outcomes::count(predictions, dead_letters).balance(&inputs, due)
    }

    #[test]
    fn one_outcome_each_is_exactly_once() {
        let balance = balance(&[predicted(0), predicted(1)], &[dead("3")]);
        balance.assert_exactly_once();
        assert_eq!(
            balance.to_string(),
            "in 4 = predicted 2 + filtered 1 + dead letters 1 + missing 0"
        );
    }

    #[test]
    fn each_fault_is_named() {
        let place = |offset| Place {
            topic: "in".to_owned(),
            partition: 0,
            offset,
        };
        assert_eq!(balance(&[predicted(0)], &[dead("3")]).missing, [place(1)]);
        assert_eq!(
            balance(&[predicted(0), predicted(1), predicted(1)], &[dead("3")]).repeated,
            [place(1)]
        );
        assert_eq!(
            balance(&[predicted(0), predicted(1), predicted(2)], &[dead("3")]).wrong,
            [place(2)]
        );
        assert_eq!(
            balance(&[predicted(0), predicted(1)], &[dead("3"), dead("1")]).wrong,
            [place(1)]
        );
        assert_eq!(
            balance(&[predicted(0), predicted(1), predicted(9)], &[dead("3")]).unknown,
            [place(9)]
        );
    }

    #[test]
    #[should_panic(
        expected = "not exactly once: in 4 = predicted 2 + filtered 1 + dead letters 1 + missing 0; repeated 1, the first in/0/0"
    )]
    fn a_repetition_is_not_exactly_once() {
        let balance = balance(&[predicted(0), predicted(0), predicted(1)], &[dead("3")]);
        balance.assert_at_least_once();
        balance.assert_exactly_once();
    }

    #[test]
    #[should_panic(expected = "does not say its input")]
    fn an_output_without_its_origin_stops_the_count() {
        Outcomes::count(&[message("out", 0, "{}", &[])], &[]);
    }
}
