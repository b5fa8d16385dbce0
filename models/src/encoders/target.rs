//! `target`: a category as the mean label of its rows so far.
//!
//! Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in classification and prediction
//! problems", SIGKDD Explorations 2001: the mean of a category is drawn towards that of all rows, as if there had been some
//! rows more (the m-estimate of Cestnik, "Estimating probabilities: a crucial task in machine learning", ECAI 1990). A row is
//! encoded by the labels that were learned before it, never by its own: online by nature, and in a batch in the order of its
//! rows (the ordered target statistics of Prokhorenkova et al., "CatBoost: unbiased boosting with categorical features",
//! NeurIPS 2018).

use std::ops::Range;
use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::none::MAGNITUDE_MAX;
use super::seen::{Places, read_max};
use super::{ENCODE, ROLE, each_category};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind, Labels};
use crate::frame::{Category, ColumnKind, ColumnSpec, ColumnView};

/// Classes for each of which there may be an input.
const CLASSES_MAX: u64 = 64;
const SMOOTHING_MAX: f64 = 1e6;

/// The entry of the list.
pub(crate) struct TargetKind;

impl Component for TargetKind {
    fn name(&self) -> &'static str {
        "target"
    }

    fn summary(&self) -> &'static str {
        "The mean label of the category's rows so far, drawn towards that of all rows where there are few: for two classes \
         the share of class 1, for values their mean, and with `classes` the share of each class, an input for each. Only \
         labels that have come count, and never a row's own. The first `categories_max` are told apart, all others are one; \
         a missing value is a category. Refused for tasks without labels."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "categories_max",
                kind: Kind::Integer,
                need: Need::Optional("1024"),
                doc: "Categories that are told apart, from 1 to 65536; each may take 250 bytes, and 16 for each of \
                      `classes`.",
            },
            Field {
                name: "classes",
                kind: Kind::Integer,
                need: Need::Optional("the label is a value, or class 0 or 1"),
                doc: "Classes of the task, from 2 to 64: makes as many inputs, the share of each class. A task of several \
                      classes needs it.",
            },
            Field {
                name: "smoothing_rows",
                kind: Kind::Float,
                need: Need::Optional("10"),
                doc: "Rows that every category counts as having had besides its own, with the mean label of all; from 0 to \
                      1000000.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"target\"\ncategories_max = 30\nsmoothing_rows = 20.0\n"
    }
}

impl EncoderKind for TargetKind {
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
        let max = read_max(section, 1024, problems);
        let classes = section.get::<u64>("classes", problems);
        if classes.is_some_and(|classes| !(2..=CLASSES_MAX).contains(&classes)) {
            let message = format!("`classes` must be from 2 to {CLASSES_MAX}");
            problems.push(section.key_span("classes"), message, None);
            return None;
        }
        let smoothing = section.get_or("smoothing_rows", 10.0, problems);
        if !(0.0..=SMOOTHING_MAX).contains(&smoothing) {
            let message = "`smoothing_rows` must be from 0 to 1000000".to_owned();
            problems.push(section.key_span("smoothing_rows"), message, None);
            return None;
        }
        let labels = classes.map_or(Labels::Value, |classes| Labels::Classes(classes as u32));
        Some(Box::new(Target::new(Places::new(max?, true, true), labels, smoothing)))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let (classes, smoothing) = (reader.u32()?, reader.finite()?);
        let labels = match classes {
            0 => Labels::Value,
            classes if (2..=CLASSES_MAX).contains(&u64::from(classes)) => Labels::Classes(classes),
            other => return Err(reader.error(format!("there is no input for each of {other} classes"))),
        };
        if !(0.0..=SMOOTHING_MAX).contains(&smoothing) {
            return Err(reader.error("these are no settings of `target`"));
        }
        let (stamp, places) = (reader.u64()?, Places::read(reader)?);
        let mut encoder = Target::new(places, labels, smoothing);
        encoder.stamp = stamp;
        let sums = reader.f64s()?;
        // Each has at most as many rows as there are.
        let rows = sums.iter().step_by(encoder.stride());
        if sums.len() != encoder.length() || rows.into_iter().any(|rows| !(0.0..=sums[0]).contains(rows)) {
            return Err(reader.error("these are not the sums of these categories"));
        }
        encoder.sums = Arc::new(sums);
        Ok(Box::new(encoder))
    }
}

/// Sums of the labels of each category.
#[derive(Clone)]
struct Target {
    places: Places,
    labels: Labels,
    smoothing: f64,
    /// Rows learned from.
    stamp: u64,
    /// Of all rows, and then of each tally ([`Places::tally`]): how many rows there were, and the sum of what each input
    /// stands for. Shared with the published copies until the next row.
    sums: Arc<Vec<f64>>,
}

impl Target {
    /// Has seen nothing.
    fn new(places: Places, labels: Labels, smoothing: f64) -> Self {
        let mut encoder = Self {
            places,
            labels,
            smoothing,
            stamp: 0,
            sums: Arc::default(),
        };
        encoder.sums = Arc::new(vec![0.0; encoder.length()]);
        encoder
    }

    /// Numbers for each tally.
    fn stride(&self) -> usize {
        1 + self.width()
    }

    /// Length of `sums` with the categories that there are.
    fn length(&self) -> usize {
        (1 + self.places.counted()) * self.stride()
    }

    /// Counts a label for a tally, 0 being all rows: for one input the label itself, else 1 for that of its class.
    fn add(sums: &mut [f64], label: f64, labels: Labels) {
        sums[0] += 1.0;
        match labels {
            Labels::Value => sums[1] += label,
            Labels::Classes(_) => sums[1 + label as usize] += 1.0,
        }
    }

    /// Writes the mean of each input for a category. Before the first label a value is 0, classes are equally likely.
    fn write_means(&self, category: Category, out: &mut [f64]) {
        let (stride, width) = (self.stride(), self.width());
        let tally = self.places.tally(category).map_or(0, |tally| 1 + tally);
        let all = &self.sums[..stride];
        let own = self.sums.get(tally * stride..(tally + 1) * stride).unwrap_or(all);
        let start = match self.labels {
            Labels::Value => 0.0,
            Labels::Classes(classes) => 1.0 / f64::from(classes),
        };
        for (input, out) in out.iter_mut().take(width).enumerate() {
            let mean = if all[0] > 0.0 { all[1 + input] / all[0] } else { start };
            let rows = own[0] + self.smoothing;
            *out = if rows > 0.0 {
                (own[1 + input] + self.smoothing * mean) / rows
            } else {
                mean
            };
        }
    }
}

impl Encoder for Target {
    fn format(&self) -> &'static str {
        TargetKind.name()
    }

    fn width(&self) -> usize {
        match self.labels {
            Labels::Value => 1,
            Labels::Classes(classes) => classes as usize,
        }
    }

    fn labels(&self) -> Option<Labels> {
        Some(self.labels)
    }

    fn observe(&mut self, column: ColumnView<'_>, row: usize, label: f64) {
        let label = match self.labels {
            Labels::Value if label.is_finite() => label.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX),
            Labels::Classes(classes) if label.fract() == 0.0 && (0.0..f64::from(classes)).contains(&label) => label,
            _ => return,
        };
        self.places.observe(column, row);
        self.stamp += 1;
        let (labels, stride, length) = (self.labels, self.stride(), self.length());
        let tally = self.places.tally(column.category_at(row));
        let sums = Arc::make_mut(&mut self.sums);
        sums.resize(length, 0.0);
        Self::add(&mut sums[..stride], label, labels);
        if let Some(tally) = tally {
            Self::add(&mut sums[(1 + tally) * stride..(2 + tally) * stride], label, labels);
        }
    }

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        each_category(column, rows, out, stride, |category, place| {
            self.write_means(category, place)
        });
    }

    fn stamp(&self) -> u64 {
        self.stamp
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(match self.labels {
            Labels::Value => 0,
            Labels::Classes(classes) => classes,
        });
        out.put_f64(self.smoothing);
        out.put_u64(self.stamp);
        self.places.write(out);
        out.put_f64s(&self.sums);
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        // A vector may hold twice what it needs.
        let sums = 2 * 8 * self.stride() * (1 + self.places.counted_max());
        size_of::<Self>() + self.places.bytes_max() + sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::Dictionary;
    use crate::frame::{Column, MISSING};

    struct Rows {
        dictionary: Dictionary,
        column: Column,
    }

    impl Rows {
        fn new(names: &[&str]) -> Self {
            let mut dictionary = Dictionary::new(1 << 20);
            let codes = names.iter().map(|name| match *name {
                "" => MISSING,
                name => dictionary.intern(name),
            });
            let column = Column::Code(codes.collect());
            Self { dictionary, column }
        }

        fn view(&self) -> ColumnView<'_> {
            ColumnView {
                values: &self.column,
                dictionary: Some(&self.dictionary),
            }
        }

        fn encoded(&self, encoder: &Target) -> Vec<f64> {
            let mut out = vec![0.0; self.column.len() * encoder.width()];
            encoder.encode(self.view(), 0..self.column.len(), &mut out, encoder.width());
            out
        }
    }

    fn target(max: usize, labels: Labels, smoothing: f64) -> Target {
        Target::new(Places::new(max, true, true), labels, smoothing)
    }

    #[test]
    fn a_category_is_its_mean_drawn_towards_that_of_all() {
        let rows = Rows::new(&["a", "a", "b", "", "c", "c"]);
        let mut encoder = target(2, Labels::Value, 2.0);
        let labels = [1.0, 3.0, 5.0, 7.0, 2.0, f64::NAN];
        (0..6).for_each(|row| encoder.observe(rows.view(), row, labels[row]));
        // The mean of all is 18 / 5; c found no place, and an unknown d shares what there is with it.
        let mean = 18.0 / 5.0;
        let smoothed = |sum: f64, rows: f64| (sum + 2.0 * mean) / (rows + 2.0);
        let found = Rows::new(&["a", "b", "", "c", "d"]).encoded(&encoder);
        let expected = [(4.0, 2.0), (5.0, 1.0), (7.0, 1.0), (2.0, 1.0), (2.0, 1.0)].map(|(sum, n)| smoothed(sum, n));
        assert_eq!(found, expected);
        encoder.smoothing = 0.0;
        assert_eq!(Rows::new(&["a", "d"]).encoded(&encoder), [2.0, 2.0]);
    }

    #[test]
    fn several_classes_have_a_share_each() {
        let rows = Rows::new(&["a", "a", "a", "b", "b", "b"]);
        let mut encoder = target(9, Labels::Classes(3), 0.0);
        assert_eq!(Rows::new(&["a"]).encoded(&encoder), [1.0 / 3.0; 3]);
        // Two labels that are no class.
        let labels = [0.0, 2.0, 2.0, 1.0, 3.0, 0.5];
        (0..6).for_each(|row| encoder.observe(rows.view(), row, labels[row]));
        let found = Rows::new(&["a", "b", "new"]).encoded(&encoder);
        assert_eq!(found[..6], [1.0 / 3.0, 0.0, 2.0 / 3.0, 0.0, 1.0, 0.0]);
        assert_eq!(found[6..], [0.25, 0.25, 0.5], "what is unknown is as all are");
        assert_eq!(encoder.stamp(), 4);
    }

    #[test]
    fn no_row_is_encoded_by_its_own_label() {
        // Labels by chance: who saw a row's own label would tell them.
        let names: Vec<String> = (0..200).map(|row| format!("n{}", row % 100)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows = Rows::new(&names);
        let labels: Vec<f64> = (0..200).map(|row| f64::from(row < 100)).collect();
        let mut encoder = target(500, Labels::Value, 0.0);
        let mut out = vec![0.0; 200];
        encoder.encode_then_observe(rows.view(), 0..200, &labels, &[true; 200], &mut out, 1);
        assert_eq!(out[0], 0.0, "nothing was learned");
        assert!(out[1..100].iter().all(|mean| *mean == 1.0), "the mean of all before");
        assert!(
            out[100..].iter().all(|mean| *mean == 1.0),
            "the label of the row with the same name before"
        );
        assert_eq!(rows.encoded(&encoder)[..100], [0.5; 100]);
    }
}
