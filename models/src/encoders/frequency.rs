//! `frequency`: a category as the share of the rows so far that have it.

use std::ops::Range;
use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::seen::{MISSING_CATEGORY, Places, read_max};
use super::{ENCODE, ROLE, each_category};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::frame::{Category, ColumnKind, ColumnSpec, ColumnView};

/// The entry of the list.
pub(crate) struct FrequencyKind;

impl Component for FrequencyKind {
    fn name(&self) -> &'static str {
        "frequency"
    }

    fn summary(&self) -> &'static str {
        "One input that holds how often the category came: its share of the rows so far, from 0 to 1, or the logarithm of \
         it. Says whether a category is usual, for columns of more categories than can have inputs of their own. The first \
         `categories_max` are counted one by one, all others together; one that never came has a share of 0."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "categories_max",
                kind: Kind::Integer,
                need: Need::Optional("1024"),
                doc: "Categories that are counted one by one, from 1 to 65536; each may take 250 bytes.",
            },
            Field {
                name: "logarithm",
                kind: Kind::Bool,
                need: Need::Optional("`false`"),
                doc: "Gives the natural logarithm of the share, as if there had been one row more with the category: tells \
                      rare ones apart.",
            },
            MISSING_CATEGORY,
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"frequency\"\ncategories_max = 20\nlogarithm = true\nmissing = \"own\"\n"
    }
}

impl EncoderKind for FrequencyKind {
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
        let logarithm = section.get_or("logarithm", false, problems);
        let missing = section.get_or(MISSING_CATEGORY.name, "own".to_owned(), problems);
        let places = Places::new(read_max(section, 1024, problems)?, true, missing == "own");
        Some(Box::new(Frequency::new(places, logarithm)))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let (logarithm, rows, places) = (reader.flag()?, reader.u64()?, Places::read(reader)?);
        let mut encoder = Frequency::new(places, logarithm);
        encoder.rows = rows;
        let mut left = rows;
        let counts = encoder.places.counted();
        for _ in 0..counts {
            let count = reader.u64()?;
            let Some(rest) = left.checked_sub(count) else {
                return Err(reader.error("categories came in more rows than there were"));
            };
            left = rest;
            Arc::make_mut(&mut encoder.counts).push(count);
        }
        Ok(Box::new(encoder))
    }
}

/// How often each category came.
#[derive(Clone)]
struct Frequency {
    logarithm: bool,
    places: Places,
    /// Rows seen.
    rows: u64,
    /// By [`Places::tally`]; shared with the published copies until the next row.
    counts: Arc<Vec<u64>>,
}

impl Frequency {
    /// Has seen nothing.
    fn new(places: Places, logarithm: bool) -> Self {
        Self {
            logarithm,
            places,
            rows: 0,
            counts: Arc::default(),
        }
    }

    /// What a category becomes.
    fn share(&self, category: Category) -> f64 {
        let tally = self.places.tally(category);
        if tally.is_none() && category == Category::Missing {
            return 0.0;
        }
        let count = tally.and_then(|tally| self.counts.get(tally)).copied().unwrap_or(0);
        match self.logarithm {
            true => ((count as f64 + 1.0) / (self.rows as f64 + 1.0)).ln(),
            false => count as f64 / self.rows.max(1) as f64,
        }
    }
}

impl Encoder for Frequency {
    fn format(&self) -> &'static str {
        FrequencyKind.name()
    }

    fn width(&self) -> usize {
        1
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, _label: f64) {
        self.places.observe(column, row);
        self.rows += 1;
        if let Some(tally) = self.places.tally(column.category_at(row)) {
            let counts = Arc::make_mut(&mut self.counts);
            counts.resize(self.places.counted().max(counts.len()), 0);
            counts[tally] += 1;
        }
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_category(column, rows, out, stride, |category, place| {
            place[0] = self.share(category)
        });
    }

    fn stamp(&self) -> u64 {
        self.rows
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.logarithm));
        out.put_u64(self.rows);
        self.places.write(out);
        for tally in 0..self.places.counted() {
            out.put_u64(self.counts.get(tally).copied().unwrap_or(0));
        }
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        // A vector may hold twice what it needs.
        size_of::<Self>() + self.places.bytes_max() + 2 * 8 * self.places.counted_max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::Dictionary;
    use crate::frame::{Column, MISSING, OVERFLOW};

    /// Shares of the categories a, b, c, d, missing and one that no dictionary holds, after 8 rows: four a, b, two missing,
    /// c, with places for two.
    fn shares(missing: bool, logarithm: bool) -> Vec<f64> {
        let mut dictionary = Dictionary::new(1 << 20);
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| dictionary.intern(name));
        let mut encoder = Frequency::new(Places::new(2, true, missing), logarithm);
        let seen = Column::Code(vec![a, a, b, MISSING, c, a, a, MISSING]);
        let view = |values| ColumnView {
            values,
            dictionary: Some(&dictionary),
        };
        (0..8).for_each(|row| encoder.observe(view(&seen), row, 0.0));
        let asked = Column::Code(vec![a, b, c, d, MISSING, OVERFLOW]);
        let mut out = vec![0.0; 6];
        encoder.encode(view(&asked), 0..6, &mut out, 1);
        out
    }

    #[test]
    fn a_category_is_its_share_and_those_without_a_place_are_counted_together() {
        assert_eq!(shares(true, false), [0.5, 0.125, 0.125, 0.125, 0.25, 0.125]);
        assert_eq!(shares(false, false), [0.5, 0.125, 0.125, 0.125, 0.0, 0.125]);
        let logarithms = shares(true, true);
        assert!((logarithms[0] - (5.0_f64 / 9.0).ln()).abs() < 1e-15, "{logarithms:?}");
    }

    #[test]
    fn before_the_first_row_every_share_is_0() {
        for logarithm in [false, true] {
            let fresh = Frequency::new(Places::new(2, true, true), logarithm);
            for category in [Category::Missing, Category::Unknown, Category::Known(7)] {
                assert_eq!(fresh.share(category), 0.0);
            }
        }
    }
}
