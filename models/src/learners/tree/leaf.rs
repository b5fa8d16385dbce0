//! A leaf: what it has counted, and how it predicts.

use std::sync::Arc;

use super::categories::{Categories, weight};
use super::numbers::{self, ROWS, ROWS_PUBLISHED};
use super::view::Scratch;
use super::{LeafRule, TreeSettings, WEIGHT_MAX, WEIGHT_MIN, largest};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Input;

/// Leaves in a block.
pub(crate) const BLOCK: usize = 8;

/// A few leaves, shared between a tree and what it has published.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeafBlock {
    /// At most [`BLOCK`].
    pub(crate) leaves: Vec<Option<Leaf>>,
    /// When it was changed last: its stamp.
    pub(crate) changed: u64,
}

/// The inputs that a leaf looks at.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Places {
    pub(crate) numbers: Box<[u32]>,
    pub(crate) categories: Box<[u32]>,
    /// Whether these are all inputs, in their order, and all of them numbers: a row need not be gathered.
    whole: bool,
}

impl Places {
    pub(crate) fn new(numbers: Box<[u32]>, categories: Box<[u32]>) -> Self {
        let in_order = numbers
            .iter()
            .enumerate()
            .all(|(index, place)| index == *place as usize);
        Self {
            whole: in_order && categories.is_empty(),
            numbers,
            categories,
        }
    }

    /// Those of `places` that there are, sorted by what they are.
    pub(crate) fn of(inputs: &[Input], places: impl Iterator<Item = u32>) -> Self {
        let (mut numbers, mut categories) = (Vec::new(), Vec::new());
        for place in places {
            match inputs.get(place as usize) {
                Some(Input::Number) => numbers.push(place),
                Some(Input::Category { .. }) => categories.push(place),
                None => {}
            }
        }
        Self::new(numbers.into(), categories.into())
    }

    fn write(&self, out: &mut Vec<u8>) {
        for places in [&self.numbers, &self.categories] {
            out.put_u64(places.len() as u64);
            places.iter().for_each(|place| out.put_u32(*place));
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>, width: usize) -> Result<Self, CodecError> {
        let mut list = || {
            let count = reader.count(4)?;
            let places: Vec<u32> = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            match places.iter().all(|place| (*place as usize) < width) {
                true => Ok(places.into_boxed_slice()),
                false => Err(reader.error("a leaf looks at an input that is not there")),
            }
        };
        Ok(Self::new(list()?, list()?))
    }
}

/// What a leaf has counted.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    rule: LeafRule,
    classes: usize,
    places: Arc<Places>,
    /// Rows in the record of a class: [`ROWS`]; [`ROWS_PUBLISHED`] when read from an artifact; 0 when it only counts
    /// classes.
    rows: usize,
    /// The weight of each class, the constant of each class's densities, the record of each class (see `numbers`).
    values: Box<[f64]>,
    /// One for each column of categories.
    categories: Box<[Categories]>,
    /// Weight of all classes.
    total: f64,
    /// Weight of the rows that it saw itself: without what it was born with.
    observed: f64,
    /// Weight of the rows on which majority and naive Bayes were right.
    majority_right: f64,
    bayes_right: f64,
    /// `observed` when it last tried to split.
    pub(crate) attempted: f64,
}

impl Leaf {
    /// A leaf that is born with class weights and has seen nothing.
    pub(crate) fn new(settings: &TreeSettings, places: Arc<Places>, weights: &[f64]) -> Self {
        let classes = settings.classes;
        let width = places.numbers.len();
        let mut values = vec![0.0; classes * (2 + ROWS * width)].into_boxed_slice();
        values[..classes].copy_from_slice(weights);
        let mut leaf = Self {
            rule: settings.leaf,
            classes,
            rows: ROWS,
            values,
            categories: places.categories.iter().map(|_| Categories::new(classes)).collect(),
            places,
            total: weights.iter().sum(),
            observed: 0.0,
            majority_right: 0.0,
            bayes_right: 0.0,
            attempted: 0.0,
        };
        for class in 0..classes {
            numbers::clear(leaf.record_mut(class));
            leaf.renew(class);
        }
        leaf
    }

    /// Bytes that a leaf with these places takes besides itself: one that learns, and one that only counts classes.
    pub(crate) fn bytes_of(settings: &TreeSettings, places: &Places, own_places: bool) -> (usize, usize) {
        let classes = settings.classes;
        let columns = places
            .categories
            .iter()
            .map(|place| match settings.inputs.get(*place as usize) {
                Some(Input::Category { codes }) => Categories::bytes_max(classes, *codes),
                _ => 0,
            });
        let places_bytes = match own_places {
            true => size_of::<Places>() + 4 * (places.numbers.len() + places.categories.len()),
            false => 0,
        };
        let counts = 16 * classes + places_bytes;
        let numbers = 8 * classes * ROWS * places.numbers.len();
        (counts + numbers + columns.sum::<usize>(), counts)
    }

    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// Whether it observes inputs.
    pub(crate) fn is_active(&self) -> bool {
        self.rows != 0
    }

    /// Weight of all rows, with what it was born with.
    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    /// Weight of the rows that it saw itself.
    pub(crate) fn observed(&self) -> f64 {
        self.observed
    }

    /// Weight of each class.
    pub(crate) fn weights(&self) -> &[f64] {
        &self.values[..self.classes]
    }

    /// Weight of the rows that its largest class does not explain: what a split may gain.
    pub(crate) fn promise(&self) -> f64 {
        self.total - self.weights()[largest(self.weights())]
    }

    fn width(&self) -> usize {
        self.places.numbers.len()
    }

    /// The record of a class.
    pub(crate) fn record(&self, class: usize) -> &[f64] {
        let length = self.rows * self.width();
        &self.values[2 * self.classes + class * length..][..length]
    }

    fn record_mut(&mut self, class: usize) -> &mut [f64] {
        let length = self.rows * self.width();
        &mut self.values[2 * self.classes + class * length..][..length]
    }

    pub(crate) fn categories(&self) -> &[Categories] {
        &self.categories
    }

    /// Brings the constant of a class's densities up to date.
    fn renew(&mut self, class: usize) {
        if self.rule == LeafRule::Majority {
            return;
        }
        numbers::rescale(self.record_mut(class));
        let (width, prior) = (self.width(), self.values[class]);
        self.values[self.classes + class] = numbers::constant(&self.record(class)[width..2 * width], prior);
    }

    /// Forgets what it knows of the inputs and goes on counting classes.
    pub(crate) fn deactivate(&mut self) {
        self.rows = 0;
        self.values = self.values[..2 * self.classes].into();
        self.categories = [].into();
    }

    /// Whether naive Bayes predicts now.
    fn is_bayes(&self) -> bool {
        self.is_active()
            && match self.rule {
                LeafRule::Majority => false,
                LeafRule::NaiveBayes => true,
                LeafRule::Adaptive => self.majority_right <= self.bayes_right,
            }
    }

    /// Writes the logarithm of each class's probability by naive Bayes, up to a constant, to `scratch`.
    fn bayes(&self, row: &[f64], scratch: &mut Scratch) {
        let Scratch {
            gathered,
            scores,
            products,
        } = scratch;
        let row_of_numbers = gather(&self.places, row, gathered);
        let width = row_of_numbers.len();
        let missing = numbers::is_missing_any(row_of_numbers);
        scores.clear();
        for class in 0..self.classes {
            let (mean, scale) = self.record(class)[..2 * width].split_at(width);
            scores.push(if missing {
                numbers::evidence_with_missing(mean, scale, row_of_numbers, self.values[class])
            } else {
                self.values[self.classes + class] - numbers::evidence(mean, scale, row_of_numbers)
            });
        }
        if !self.categories.is_empty() {
            products.clear();
            products.resize(self.classes, numbers::Product::ONE);
            for (column, place) in self.categories.iter().zip(&self.places.categories) {
                column.multiply(value_at(row, *place), products);
            }
            let pairs = scores.iter_mut().zip(products);
            pairs.for_each(|(score, product)| *score += product.ln());
        }
    }

    /// Writes the probability of each class to `out`: its share as if one row of each class had come before, or what naive
    /// Bayes says.
    pub(crate) fn predict_into(&self, row: &[f64], out: &mut [f64], scratch: &mut Scratch) {
        if self.is_bayes() {
            self.bayes(row, scratch);
            self.spread(&scratch.scores, out);
        } else {
            self.shares(out);
        }
    }

    fn shares(&self, out: &mut [f64]) {
        let all = self.total + self.classes as f64;
        for (out, weight) in out.iter_mut().zip(self.weights()) {
            *out = (weight + 1.0) / all;
        }
    }

    fn spread(&self, scores: &[f64], out: &mut [f64]) {
        let most = scores[largest(scores)];
        let mut sum = 0.0;
        for (out, score) in out.iter_mut().zip(scores) {
            *out = if *score == most { 1.0 } else { (score - most).exp() };
            sum += *out;
        }
        let chance = 1.0 / self.classes as f64;
        let sure = self.sureness();
        for out in out {
            *out = chance + (*out / sum - chance) * sure;
        }
    }

    /// How far naive Bayes is trusted, from 0 (all classes are equally likely) to 1: as far as it was right in this leaf,
    /// with one row on which it was as right as the majority is. It is far too sure of itself where inputs depend on each
    /// other; which class is the most probable stays as it is.
    fn sureness(&self) -> f64 {
        let classes = self.classes as f64;
        let all = self.total + classes;
        let majority = (self.weights()[largest(self.weights())] + 1.0) / all;
        let right = (self.bayes_right + majority) / (self.observed + 1.0);
        ((right * classes - 1.0) / (classes - 1.0)).clamp(1.0 / all, 1.0)
    }

    /// Predicts, if `out` is given, and learns.
    pub(crate) fn learn(
        &mut self,
        row: &[f64],
        class: usize,
        weight: f64,
        out: Option<&mut [f64]>,
        scratch: &mut Scratch,
    ) {
        let weight = weight.clamp(WEIGHT_MIN, WEIGHT_MAX);
        let judged = self.is_active() && self.rule != LeafRule::Majority;
        if judged {
            self.bayes(row, scratch);
        }
        match out {
            Some(out) if judged && self.is_bayes() => self.spread(&scratch.scores, out),
            Some(out) => self.predict_into(row, out, scratch),
            None => {}
        }
        if judged {
            let right = |guess: usize| if guess == class { weight } else { 0.0 };
            self.majority_right += right(largest(self.weights()));
            self.bayes_right += right(largest(&scratch.scores));
        }
        self.observe(row, class, weight, scratch);
        if self.is_active() {
            self.renew(class);
        }
    }

    /// Counts a row. Predicting needs [`Leaf::learn`].
    pub(crate) fn observe(&mut self, row: &[f64], class: usize, weight: f64, scratch: &mut Scratch) {
        let weight = weight.clamp(WEIGHT_MIN, WEIGHT_MAX);
        self.values[class] += weight;
        self.total += weight;
        if !self.is_active() {
            return;
        }
        self.observed += weight;
        let places = &*self.places;
        let length = ROWS * places.numbers.len();
        let record = &mut self.values[2 * self.classes + class * length..][..length];
        numbers::observe(record, gather(places, row, &mut scratch.gathered), weight);
        for (column, place) in self.categories.iter_mut().zip(&places.categories) {
            column.observe(value_at(row, *place), class, weight);
        }
    }

    /// Appends all of it.
    pub(crate) fn write(&self, shared: &Arc<Places>, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.is_active()) | if Arc::ptr_eq(shared, &self.places) { 0 } else { 2 });
        if !Arc::ptr_eq(shared, &self.places) {
            self.places.write(out);
        }
        for number in [
            self.total,
            self.observed,
            self.majority_right,
            self.bayes_right,
            self.attempted,
        ] {
            out.put_f64(number);
        }
        self.values.iter().for_each(|value| out.put_f64(*value));
        self.categories.iter().for_each(|column| column.write(out));
    }

    /// Reads what [`Leaf::write`] wrote.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        settings: &TreeSettings,
        shared: &Arc<Places>,
    ) -> Result<Self, CodecError> {
        let marks = reader.u8()?;
        let places = match marks & 2 {
            0 => Arc::clone(shared),
            _ => Arc::new(Places::read(reader, settings.inputs.len())?),
        };
        if marks > 3 || !places_fit(&places, &settings.inputs) {
            return Err(reader.error("this is no leaf of this tree"));
        }
        let mut numbers = [0.0; 5];
        for number in &mut numbers {
            *number = weight(reader)?;
        }
        let rows = if marks & 1 == 1 { ROWS } else { 0 };
        let mut leaf = Self::read_values(reader, settings.leaf, settings.classes, places, rows)?;
        [
            leaf.total,
            leaf.observed,
            leaf.majority_right,
            leaf.bayes_right,
            leaf.attempted,
        ] = numbers;
        Ok(leaf)
    }

    fn read_values(
        reader: &mut Reader<'_>,
        rule: LeafRule,
        classes: usize,
        places: Arc<Places>,
        rows: usize,
    ) -> Result<Self, CodecError> {
        let count = rows
            .saturating_mul(places.numbers.len())
            .saturating_add(2)
            .saturating_mul(classes);
        if count > reader.left() / 8 {
            return Err(reader.error("a leaf is cut off"));
        }
        let mut values = Vec::with_capacity(count);
        for place in 0..count {
            // Only what was smallest and largest may be infinite, where nothing came.
            let value = if place < classes {
                weight(reader)?
            } else {
                reader.f64()?
            };
            if value.is_nan() {
                return Err(reader.error("a number of a leaf is none"));
            }
            values.push(value);
        }
        let columns = places.categories.iter().take(if rows > 0 { usize::MAX } else { 0 });
        let categories: Result<_, _> = columns.map(|_| Categories::read(reader, classes)).collect();
        Ok(Self {
            rule,
            classes,
            rows,
            total: values[..classes].iter().sum(),
            values: values.into(),
            categories: categories?,
            places,
            observed: 0.0,
            majority_right: 0.0,
            bayes_right: 0.0,
            attempted: 0.0,
        })
    }

    /// Appends what predicting needs.
    pub(crate) fn write_published(&self, shared: &Arc<Places>, out: &mut Vec<u8>) {
        let own_places = self.is_bayes() && !Arc::ptr_eq(shared, &self.places);
        out.put_u8(u8::from(self.is_bayes()) | if own_places { 2 } else { 0 });
        if own_places {
            self.places.write(out);
        }
        for number in [self.total, self.observed, self.bayes_right] {
            out.put_f64(number);
        }
        self.values[..2 * self.classes]
            .iter()
            .for_each(|value| out.put_f64(*value));
        if self.is_bayes() {
            for class in 0..self.classes {
                let published = &self.record(class)[..ROWS_PUBLISHED * self.width()];
                published.iter().for_each(|value| out.put_f64(*value));
            }
            self.categories.iter().for_each(|column| column.write(out));
        }
    }

    /// Reads what [`Leaf::write_published`] wrote.
    pub(crate) fn read_published(
        reader: &mut Reader<'_>,
        classes: usize,
        width: usize,
        shared: &Arc<Places>,
    ) -> Result<Self, CodecError> {
        let marks = reader.u8()?;
        let (rule, rows) = match marks {
            0 => (LeafRule::Majority, 0),
            1 | 3 => (LeafRule::NaiveBayes, ROWS_PUBLISHED),
            other => return Err(reader.error(format!("{other} is no leaf"))),
        };
        let places = match marks {
            3 => Arc::new(Places::read(reader, width)?),
            _ => Arc::clone(shared),
        };
        let numbers = [weight(reader)?, weight(reader)?, weight(reader)?];
        let mut leaf = Self::read_values(reader, rule, classes, places, rows)?;
        [leaf.total, leaf.observed, leaf.bayes_right] = numbers;
        Ok(leaf)
    }

    /// Bytes of memory besides itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let columns = self.categories.iter().map(|column| {
            size_of::<Categories>() + self.classes * 8 + column.each().count() * 2 * (4 + self.classes * 8)
        });
        8 * self.values.len() + columns.sum::<usize>()
    }
}

/// Whether the places of a leaf are what the inputs are.
fn places_fit(places: &Places, inputs: &[Input]) -> bool {
    let is_number = |place: &u32| matches!(inputs.get(*place as usize), Some(Input::Number));
    let is_category = |place: &u32| matches!(inputs.get(*place as usize), Some(Input::Category { .. }));
    places.numbers.iter().all(is_number) && places.categories.iter().all(is_category)
}

#[inline]
fn value_at(row: &[f64], place: u32) -> f64 {
    row.get(place as usize).copied().unwrap_or(f64::NAN)
}

/// The numbers of a row that a leaf looks at.
#[inline]
fn gather<'a>(places: &Places, row: &'a [f64], gathered: &'a mut Vec<f64>) -> &'a [f64] {
    if places.whole && row.len() == places.numbers.len() {
        return row;
    }
    gathered.clear();
    gathered.extend(places.numbers.iter().map(|place| value_at(row, *place)));
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(inputs: &[Input]) -> TreeSettings {
        TreeSettings::new(2, inputs.into(), 1, 1 << 20)
    }

    fn leaf(settings: &TreeSettings, weights: &[f64]) -> Leaf {
        let places = Places::of(&settings.inputs, 0..settings.inputs.len() as u32);
        Leaf::new(settings, Arc::new(places), weights)
    }

    fn predict(leaf: &Leaf, row: &[f64]) -> [f64; 2] {
        let mut out = [0.0; 2];
        leaf.predict_into(row, &mut out, &mut Scratch::default());
        out
    }

    #[test]
    fn a_leaf_that_knows_nothing_finds_all_classes_equally_likely() {
        let settings = settings(&[Input::Number, Input::Category { codes: 3 }]);
        assert_eq!(predict(&leaf(&settings, &[0.0, 0.0]), &[1.0, 2.0]), [0.5, 0.5]);
    }

    #[test]
    fn naive_bayes_multiplies_prior_density_and_share() {
        let mut settings = settings(&[Input::Category { codes: 3 }, Input::Number]);
        settings.leaf = LeafRule::NaiveBayes;
        let mut leaf = leaf(&settings, &[0.0, 0.0]);
        let rows = [
            (0.0, 1.0, 0),
            (0.0, 2.0, 0),
            (1.0, 3.0, 0),
            (1.0, 2.0, 1),
            (1.0, 6.0, 1),
        ];
        for (code, number, class) in rows {
            leaf.learn(&[code, number], class, 1.0, None, &mut Scratch::default());
        }
        // By hand: class 0 knows two codes and has 1 once in 3, class 1 twice in 2; densities at 3 of N(2, 1), N(4, 8).
        let density = |x: f64, mean: f64, variance: f64| {
            (-(x - mean).powi(2) / (2.0 * variance)).exp() / (2.0 * std::f64::consts::PI * variance).sqrt()
        };
        let zero = 3.0 * (2.0 / 6.0) * density(3.0, 2.0, 1.0);
        let one = 2.0 * (3.0 / 5.0) * density(3.0, 4.0, 8.0);
        let expected = 0.5 + (one / (zero + one) - 0.5) * leaf.sureness();
        let found = predict(&leaf, &[1.0, 3.0]);
        assert!((found[1] - expected).abs() < 1e-12, "{found:?}, expected {expected}");
        assert!((found[0] + found[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_adaptive_leaf_follows_whoever_is_right() {
        let settings = settings(&[Input::Number]);
        let mut good = leaf(&settings, &[0.0, 0.0]);
        let mut bad = leaf(&settings, &[0.0, 0.0]);
        for row in 0..400 {
            let class = usize::from(row % 4 == 0);
            let x = f64::from(row % 7) + 10.0 * class as f64;
            good.learn(&[x], class, 1.0, None, &mut Scratch::default());
            // The same values in both classes: only how often each comes tells.
            bad.learn(&[f64::from(row % 13)], class, 1.0, None, &mut Scratch::default());
        }
        assert!(good.is_bayes() && good.bayes_right > good.majority_right);
        assert!(predict(&good, &[13.0])[1] > 0.9 && predict(&good, &[3.0])[1] < 0.1);
        assert!(predict(&bad, &[3.0])[1] < 0.5, "{:?}", predict(&bad, &[3.0]));
    }

    #[test]
    fn a_leaf_that_only_counts_predicts_shares() {
        let settings = settings(&[Input::Number, Input::Category { codes: 3 }]);
        let mut leaf = leaf(&settings, &[0.0, 0.0]);
        for row in 0..10 {
            leaf.learn(&[1.0, 1.0], usize::from(row < 3), 1.0, None, &mut Scratch::default());
        }
        leaf.deactivate();
        leaf.learn(&[1.0, 1.0], 1, 1.0, None, &mut Scratch::default());
        assert_eq!(predict(&leaf, &[5.0, f64::NAN]), [8.0 / 13.0, 5.0 / 13.0]);
        assert_eq!((leaf.promise(), leaf.total()), (4.0, 11.0));
    }
}
