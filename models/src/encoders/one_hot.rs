//! `one-hot`: an input for each category, learned in order of arrival up to a maximum.

use std::ops::Range;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::seen::{Places, read_max};
use super::{ENCODE, ROLE, each_category};
use crate::codec::{CodecError, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{ColumnKind, ColumnSpec, ColumnView};

/// The entry of the list.
pub(crate) struct OneHotKind;

impl Component for OneHotKind {
    fn name(&self) -> &'static str {
        "one-hot"
    }

    fn summary(&self) -> &'static str {
        "An input for each category, 1 for the row's own and 0 for the others. Categories get their inputs in order \
         of arrival, while learning, up to `categories_max`."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "categories_max",
                kind: Kind::Integer,
                need: Need::Optional("64"),
                doc: "Categories that get an input of their own, from 1 to 65536.",
            },
            Field {
                name: "unseen",
                kind: Kind::OneOf(&["other", "zero"]),
                need: Need::Optional("`\"other\"`"),
                doc: "A category without an input of its own sets one that all of them share, or none.",
            },
            Field {
                name: "missing",
                kind: Kind::OneOf(&["own", "zero"]),
                need: Need::Optional("`\"own\"`"),
                doc: "A missing value sets an input of its own, or none.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"one-hot\"\ncategories_max = 64\nunseen = \"other\"\nmissing = \"zero\"\n"
    }
}

impl EncoderKind for OneHotKind {
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
        let unseen = section.get_or("unseen", "other".to_owned(), problems);
        let missing = section.get_or("missing", "own".to_owned(), problems);
        Some(Box::new(OneHot::new(max, unseen == "other", missing == "own")))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let places = Places::read(reader)?;
        Ok(Box::new(OneHot { places }))
    }
}

/// Categories and their inputs.
#[derive(Clone)]
pub(super) struct OneHot {
    places: Places,
}

impl OneHot {
    /// Has seen nothing.
    pub(super) fn new(max: usize, other: bool, missing: bool) -> Self {
        Self {
            places: Places::new(max, other, missing),
        }
    }
}

impl Encoder for OneHot {
    fn format(&self) -> &'static str {
        OneHotKind.name()
    }

    fn width(&self) -> usize {
        self.places.len()
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, _label: f64) {
        self.places.observe(column, row);
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_category(column, rows, out, stride, |category, place| {
            if let Some(input) = self.places.of(category).and_then(|input| place.get_mut(input)) {
                *input = 1.0;
            }
        });
    }

    fn stamp(&self) -> u64 {
        self.places.seen.len() as u64
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.places.write(out);
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        size_of::<Self>() + self.places.bytes_max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::{Dictionary, fingerprint};
    use crate::frame::{Column, MISSING, OVERFLOW};

    /// What the encoder makes of rows, as the positions of the ones.
    fn ones(encoder: &OneHot, dictionary: &Dictionary, codes: Vec<u32>) -> Vec<Option<usize>> {
        let (rows, width) = (codes.len(), encoder.width());
        let column = Column::Code(codes);
        let mut out = vec![0.0; rows * width];
        encoder.encode(
            ColumnView {
                values: &column,
                dictionary: Some(dictionary),
            },
            0..rows,
            &mut out,
            width,
        );
        out.chunks(width)
            .map(|row| row.iter().position(|&x| x == 1.0))
            .collect()
    }

    fn observe(encoder: &mut OneHot, dictionary: &Dictionary, codes: Vec<u32>) {
        let column = Column::Code(codes);
        for row in 0..column.len() {
            encoder.observe(
                ColumnView {
                    values: &column,
                    dictionary: Some(dictionary),
                },
                row,
                0.0,
            );
        }
    }

    #[test]
    fn categories_in_order_of_arrival_up_to_the_maximum() {
        let mut dictionary = Dictionary::new(1 << 20);
        let codes: Vec<u32> = ["x", "y", "z", "w"].iter().map(|s| dictionary.intern(s)).collect();
        let (x, y, z, w) = (codes[0], codes[1], codes[2], codes[3]);
        let mut encoder = OneHot::new(2, true, true);
        observe(&mut encoder, &dictionary, vec![z, MISSING, OVERFLOW, x, z, y]);
        assert_eq!(
            ones(&encoder, &dictionary, vec![x, y, z, w, MISSING, OVERFLOW]),
            [Some(1), Some(2), Some(0), Some(2), Some(3), Some(2)]
        );
        let mut zeros = OneHot::new(2, false, false);
        observe(&mut zeros, &dictionary, vec![x]);
        assert_eq!(
            ones(&zeros, &dictionary, vec![x, y, MISSING, OVERFLOW]),
            [Some(0), None, None, None]
        );
    }

    #[test]
    fn another_dictionary_gives_the_same_inputs_and_published_copies_do_not_change() {
        let mut here = Dictionary::new(1 << 20);
        let mut there = Dictionary::new(1 << 20);
        let a: Vec<u32> = (0..300).map(|i| here.intern(&format!("c{i}"))).collect();
        let b: Vec<u32> = (0..300).rev().map(|i| there.intern(&format!("c{i}"))).collect();
        let mut encoder = OneHot::new(250, true, true);
        observe(&mut encoder, &here, a[..200].to_vec());
        let published = encoder.clone();
        observe(&mut encoder, &here, a.clone());
        let expected = ones(&encoder, &here, a.clone());
        assert_eq!(expected, ones(&encoder, &there, b.into_iter().rev().collect()));
        assert_eq!(expected[249..251], [Some(249), Some(250)]);
        assert_eq!(ones(&published, &here, a)[199..201], [Some(199), Some(250)]);
    }

    #[test]
    fn long_names_are_cut_and_still_told_apart() {
        let mut dictionary = Dictionary::new(1 << 20);
        let long = "ü".repeat(100);
        let codes = vec![dictionary.intern(&long), dictionary.intern(&format!("{long}!"))];
        let mut encoder = OneHot::new(4, true, true);
        observe(&mut encoder, &dictionary, codes.clone());
        assert_eq!(ones(&encoder, &dictionary, codes), [Some(0), Some(1)]);
        assert_eq!(encoder.places.seen.name(1).map(str::len), Some(128));
        let mut bytes = Vec::new();
        encoder.write(&mut bytes);
        let read = OneHotKind.read(&mut Reader::new(&bytes)).unwrap();
        let mut again = Vec::new();
        read.write(&mut again);
        assert_eq!(bytes, again);
        assert_eq!(encoder.places.seen.position(fingerprint(&long)), Some(0));
    }
}
