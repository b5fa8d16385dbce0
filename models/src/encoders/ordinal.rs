//! `ordinal`: a category as its code, for learners that ask whether two are equal.

use std::ops::Range;
use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::seen::{CATEGORIES_MAX, Seen, read_max};
use super::{ENCODE, ROLE, each_category};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind, Input};
use crate::frame::{Category, ColumnKind, ColumnSpec, ColumnView};

/// The entry of the list.
pub(crate) struct OrdinalKind;

impl Component for OrdinalKind {
    fn name(&self) -> &'static str {
        "ordinal"
    }

    fn summary(&self) -> &'static str {
        "One input that holds the category's code, for trees and naive Bayes, which only ask whether two are equal. \
         Codes are given in order of arrival, while learning, up to `categories_max`; all others share one more. A \
         missing value stays missing. Learners that add inputs up refuse it."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "categories_max",
                kind: Kind::Integer,
                need: Need::Optional("64"),
                doc: "Categories that get a code of their own, from 1 to 65536.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"ordinal\"\ncategories_max = 200\n"
    }
}

impl EncoderKind for OrdinalKind {
    fn column_kind(&self) -> ColumnKind {
        ColumnKind::Category
    }

    fn build(
        &self,
        _column: &ColumnSpec,
        section: &Section<'_>,
        _seed: u64,
        problems: &mut Problems,
    ) -> Option<Box<dyn Encoder>> {
        let max = read_max(section, 64, problems)?;
        Some(Box::new(Ordinal::new(max)))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let max = reader.u64()?;
        if !(1..=CATEGORIES_MAX).contains(&max) {
            return Err(reader.error("these are no settings of `ordinal`"));
        }
        let max = max as usize;
        let seen = Arc::new(Seen::read(reader, max)?);
        Ok(Box::new(Ordinal { max, seen }))
    }
}

/// Categories and their codes.
#[derive(Clone)]
pub(super) struct Ordinal {
    max: usize,
    /// Shared with the published copies until it grows.
    seen: Arc<Seen>,
}

impl Ordinal {
    /// Has seen nothing.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            seen: Arc::default(),
        }
    }
}

impl Encoder for Ordinal {
    fn format(&self) -> &'static str {
        OrdinalKind.name()
    }

    fn width(&self) -> usize {
        1
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, _label: f64) {
        Seen::observe(&mut self.seen, self.max, column, row);
    }

    fn input(&self, _place: usize) -> Input {
        Input::Category {
            codes: self.max as u32 + 1,
        }
    }

    fn keeps_missing(&self) -> bool {
        true
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_category(column, rows, out, stride, |category, place| {
            place[0] = match category {
                Category::Missing => f64::NAN,
                Category::Unknown => self.max as f64,
                Category::Known(fingerprint) => self.seen.position(fingerprint).unwrap_or(self.max) as f64,
            };
        });
    }

    fn stamp(&self) -> u64 {
        self.seen.len() as u64
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.max as u64);
        self.seen.write(out);
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        size_of::<Self>() + Seen::bytes_max(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::Dictionary;
    use crate::frame::{Column, MISSING, OVERFLOW};

    #[test]
    fn codes_in_order_of_arrival_others_share_one_and_missing_stays_missing() {
        let mut dictionary = Dictionary::new(1 << 20);
        let codes: Vec<u32> = ["x", "y", "z"].iter().map(|s| dictionary.intern(s)).collect();
        let column = Column::Code(vec![codes[2], MISSING, codes[0], codes[1], OVERFLOW]);
        let view = ColumnView {
            values: &column,
            dictionary: Some(&dictionary),
        };
        let mut encoder = Ordinal::new(2);
        (0..4).for_each(|row| encoder.observe(view, row, 0.0));
        let mut out = vec![0.0; 5];
        encoder.encode(view, 0..5, &mut out, 1);
        assert!(out[1].is_nan());
        assert_eq!([out[0], out[2], out[3], out[4]], [0.0, 1.0, 2.0, 2.0]);
        assert_eq!(encoder.input(0), Input::Category { codes: 3 });
    }
}
