//! The categories of a column in order of arrival, up to a maximum; what encoders share that give each its place.

use std::sync::Arc;

use driftmill_config::{Field, Kind, Need, Problems, Section};

use crate::codec::{CodecError, Put, Reader};
use crate::frame::{Category, ColumnView};

/// Categories that one column may have places for.
pub(super) const CATEGORIES_MAX: u64 = 65_536;
/// Bytes of a category's name that are kept, for people to read; the fingerprint tells categories apart.
const NAME_BYTES_MAX: usize = 128;

/// The categories seen so far, in order.
#[derive(Clone, Default)]
pub(super) struct Seen {
    fingerprints: Vec<u64>,
    names: Vec<Box<str>>,
    /// Open addressing by the fingerprint's low bits: position + 1, or 0. A power of two, at most half full.
    table: Vec<u32>,
}

/// Reads `categories_max`, by default `usual`.
pub(super) fn read_max(section: &Section<'_>, usual: u64, problems: &mut Problems) -> Option<usize> {
    let max = section.get_or("categories_max", usual, problems);
    if (1..=CATEGORIES_MAX).contains(&max) {
        return Some(max as usize);
    }
    let message = format!("`categories_max` must be from 1 to {CATEGORIES_MAX}");
    problems.push(section.key_span("categories_max"), message, None);
    None
}

/// The key of what becomes of a missing category.
pub(super) const MISSING_CATEGORY: Field = Field {
    name: "missing",
    kind: Kind::OneOf(&["own", "zero"]),
    need: Need::Optional("`\"own\"`"),
    doc: "A missing value counts as a category of its own, or as nothing: all inputs are 0.",
};

/// Categories with a place for each: those seen first, up to a maximum, behind them one that all others share, and one for
/// a missing value, where these are wanted.
#[derive(Clone)]
pub(super) struct Places {
    max: usize,
    other: bool,
    missing: bool,
    /// Shared with the published copies until it grows.
    pub(super) seen: Arc<Seen>,
}

impl Places {
    /// Has seen nothing.
    pub(super) fn new(max: usize, other: bool, missing: bool) -> Self {
        Self {
            max,
            other,
            missing,
            seen: Arc::default(),
        }
    }

    /// Places that there are.
    pub(super) fn len(&self) -> usize {
        self.max + usize::from(self.other) + usize::from(self.missing)
    }

    /// The place of a category.
    #[inline]
    pub(super) fn of(&self, category: Category) -> Option<usize> {
        let position = match category {
            Category::Missing => return self.missing.then_some(self.max + usize::from(self.other)),
            Category::Unknown => None,
            Category::Known(fingerprint) => self.seen.position(fingerprint),
        };
        position.or_else(|| self.other.then_some(self.max))
    }

    /// Where encoders that count keep what they know of a category: what all others share first, then a missing value, then
    /// the categories, so that the list grows with them.
    #[inline]
    pub(super) fn tally(&self, category: Category) -> Option<usize> {
        match category {
            Category::Missing => self.missing.then_some(1),
            Category::Unknown => self.other.then_some(0),
            Category::Known(fingerprint) => match self.seen.position(fingerprint) {
                Some(position) => Some(2 + position),
                None => self.other.then_some(0),
            },
        }
    }

    /// Length of that list now.
    pub(super) fn counted(&self) -> usize {
        2 + self.seen.len()
    }

    /// The same, at most.
    pub(super) fn counted_max(&self) -> usize {
        2 + self.max
    }

    /// Gives the category of a row a place, if it has none and one is free.
    pub(super) fn observe(&mut self, column: ColumnView<'_>, row: usize) {
        Seen::observe(&mut self.seen, self.max, column, row);
    }

    /// Appends all of it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.max as u64);
        out.put_u8(u8::from(self.other));
        out.put_u8(u8::from(self.missing));
        self.seen.write(out);
    }

    /// Reads what [`Places::write`] wrote.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (max, other, missing) = (reader.u64()?, reader.flag()?, reader.flag()?);
        if !(1..=CATEGORIES_MAX).contains(&max) {
            return Err(reader.error(format!("no encoder has places for {max} categories")));
        }
        let mut places = Self::new(max as usize, other, missing);
        places.seen = Arc::new(Seen::read(reader, places.max)?);
        Ok(places)
    }

    /// Bytes of memory besides itself, at most.
    pub(super) fn bytes_max(&self) -> usize {
        Seen::bytes_max(self.max)
    }
}

/// The beginning of a name, cut where a character ends.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

impl Seen {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// The name of the category at a position.
    #[cfg(test)]
    pub(super) fn name(&self, position: usize) -> Option<&str> {
        self.names.get(position).map(|name| &**name)
    }

    /// The position of a category.
    #[inline]
    pub(super) fn position(&self, fingerprint: u64) -> Option<usize> {
        let mask = self.table.len().wrapping_sub(1);
        let mut place = fingerprint as usize & mask;
        loop {
            let position = (*self.table.get(place)? as usize).checked_sub(1)?;
            if self.fingerprints.get(position) == Some(&fingerprint) {
                return Some(position);
            }
            place = (place + 1) & mask;
        }
    }

    /// Gives the category of a row the next position, if it has none and there are fewer than `max`.
    pub(super) fn observe(seen: &mut Arc<Self>, max: usize, column: ColumnView<'_>, row: usize) {
        if seen.len() >= max {
            return;
        }
        if let Category::Known(fingerprint) = column.category_at(row)
            && seen.position(fingerprint).is_none()
        {
            Arc::make_mut(seen).push(fingerprint, short(column.text(row).unwrap_or_default()));
        }
    }

    /// Adds a category that is not there.
    fn push(&mut self, fingerprint: u64, name: &str) {
        self.fingerprints.push(fingerprint);
        self.names.push(name.into());
        if self.fingerprints.len() * 2 > self.table.len() {
            self.table = vec![0; (self.fingerprints.len() * 4).next_power_of_two()];
            (0..self.fingerprints.len()).for_each(|position| self.enter(position));
        } else {
            self.enter(self.fingerprints.len() - 1);
        }
    }

    /// Enters a position into the table.
    fn enter(&mut self, position: usize) {
        let mask = self.table.len() - 1;
        let mut place = self.fingerprints[position] as usize & mask;
        while self.table[place] != 0 {
            place = (place + 1) & mask;
        }
        self.table[place] = position as u32 + 1;
    }

    /// Appends all of it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.len() as u64);
        for (&fingerprint, name) in self.fingerprints.iter().zip(&self.names) {
            out.put_u64(fingerprint);
            out.put_str(name);
        }
    }

    /// Reads what [`Seen::write`] wrote, at most `max` categories.
    pub(super) fn read(reader: &mut Reader<'_>, max: usize) -> Result<Self, CodecError> {
        let count = reader.count(16)?;
        if count > max {
            return Err(reader.error(format!("{count} categories where at most {max} are possible")));
        }
        let mut seen = Self::default();
        for _ in 0..count {
            let (fingerprint, name) = (reader.u64()?, reader.str()?);
            if name.len() > NAME_BYTES_MAX || seen.position(fingerprint).is_some() {
                return Err(reader.error("a category's name is too long or stands there twice"));
            }
            seen.push(fingerprint, name);
        }
        Ok(seen)
    }

    /// Bytes of memory of `max` categories, at most.
    pub(super) fn bytes_max(max: usize) -> usize {
        // Fingerprint, name with its pointer, and at most eight places of the table; vectors may hold twice as much.
        max * (2 * (8 + 16) + NAME_BYTES_MAX + 8 * 4)
    }
}
