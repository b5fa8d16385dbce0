//! All encoders of a model together: the feature columns and the encoder of each.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use driftmill_config::{Problems, Section, find as find_component};

use super::none::AsIs;
use super::one_hot::OneHot;
use super::standardise::Running;
use super::vector::Vectors;
use super::{ENCODERS, find};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, Form, Input, Labels, Task};
use crate::dictionary::Dictionaries;
use crate::frame::{ColumnKind, ColumnSpec, ColumnView, Frame};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Inputs that a model may have.
pub const WIDTH_MAX: usize = 262_144;

/// Turns rows of a frame into rows of a matrix. Its width is fixed from the start.
pub struct ColumnsEncoder {
    columns: Arc<[ColumnSpec]>,
    encoders: Vec<Box<dyn Encoder>>,
    width: usize,
    /// Whether the file says how a column is encoded; a learner chooses for the others. Only while nothing was learned.
    stated: Arc<[bool]>,
}

impl fmt::Debug for ColumnsEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.columns.iter().map(|column| &column.name);
        f.debug_map()
            .entries(names.zip(self.encoders.iter().map(|encoder| encoder.format())))
            .finish()
    }
}

impl Clone for ColumnsEncoder {
    fn clone(&self) -> Self {
        Self {
            columns: Arc::clone(&self.columns),
            encoders: self.encoders.iter().map(|encoder| encoder.copy()).collect(),
            width: self.width,
            stated: Arc::clone(&self.stated),
        }
    }
}

impl ColumnsEncoder {
    /// Builds the encoders of `columns` (the features only) from `[features.columns]`, in which each has a table or
    /// none. A column of numbers or vectors without `encode` is standardised; one of categories must say how.
    pub fn from_config(
        section: &Section<'_>,
        columns: &[ColumnSpec],
        seed: u64,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.len();
        let encoders: Vec<_> = columns
            .iter()
            .filter_map(|column| build(column, &section.table(&column.name, problems), seed, problems))
            .collect();
        if encoders.len() < columns.len() || problems.len() > before {
            return None;
        }
        let mut encoder = Self::new(columns.into(), encoders);
        encoder.stated = columns
            .iter()
            .map(|column| section.table(&column.name, problems).has("encode"))
            .collect();
        if encoder.width > WIDTH_MAX {
            let message = format!(
                "the features make {} inputs, at most {WIDTH_MAX} are possible",
                encoder.width
            );
            problems.push(
                section.span(),
                message,
                Some("lower `categories_max` or `buckets`".to_owned()),
            );
            return None;
        }
        Some(encoder)
    }

    /// One encoder for each column, chosen by a learner: no file said otherwise.
    #[must_use]
    pub fn new(columns: Arc<[ColumnSpec]>, encoders: Vec<Box<dyn Encoder>>) -> Self {
        let width = encoders.iter().map(|encoder| encoder.width()).sum();
        Self {
            stated: columns.iter().map(|_| true).collect(),
            columns,
            encoders,
            width,
        }
    }

    /// The same columns in the form that a learner takes; what the file states stays. It has learned nothing.
    #[must_use]
    pub fn in_form(&self, form: Form) -> Self {
        let mut encoder = self.clone();
        if form == Form::Native {
            let open = encoder.encoders.iter_mut().zip(&*self.columns).zip(&*self.stated);
            for ((encoder, column), _) in open.filter(|(_, stated)| !**stated) {
                match column.kind {
                    ColumnKind::Number => *encoder = Box::new(AsIs::keeping()),
                    ColumnKind::Vector { width } => *encoder = Box::new(Vectors::keeping(width)),
                    // A column of text always says how it is encoded.
                    ColumnKind::Category => {}
                }
            }
            encoder.width = encoder.encoders.iter().map(|encoder| encoder.width()).sum();
        }
        encoder
    }

    /// The same columns for a learner that adds inputs up, whatever the file states: a code becomes an input for each of
    /// as many categories, and what would stay missing is filled in. It has learned nothing.
    ///
    /// # Errors
    /// More inputs than [`WIDTH_MAX`].
    pub(crate) fn spread(&self) -> Result<Self, String> {
        let mut encoder = self.clone();
        for (encoder, column) in encoder.encoders.iter_mut().zip(&*self.columns) {
            let code = (0..encoder.width()).find_map(|place| match encoder.input(place) {
                Input::Category { codes } => Some(codes),
                Input::Number => None,
            });
            *encoder = match (code, column.kind) {
                (Some(codes), ColumnKind::Category) => Box::new(OneHot::new(codes as usize - 1, true, true)),
                (None, ColumnKind::Number) if encoder.keeps_missing() => Box::new(Running::new(false)),
                (None, ColumnKind::Vector { width }) if encoder.keeps_missing() => {
                    Box::new(Vectors::standardised(width))
                }
                _ => continue,
            };
        }
        encoder.width = encoder.encoders.iter().map(|encoder| encoder.width()).sum();
        match encoder.width > WIDTH_MAX {
            true => Err(format!("{} inputs, at most {WIDTH_MAX} are possible", encoder.width)),
            false => Ok(encoder),
        }
    }

    /// The columns whose numbers a learner of this form cannot take.
    pub fn columns_unlike(&self, form: Form) -> impl Iterator<Item = &ColumnSpec> {
        let pairs = self.columns.iter().zip(&self.encoders);
        pairs
            .filter(move |(_, encoder)| {
                let is_code = (0..encoder.width()).any(|place| encoder.input(place) != Input::Number);
                form == Form::Scaled && (is_code || encoder.keeps_missing())
            })
            .map(|(column, _)| column)
    }

    /// A column that is encoded by other labels than a task has, and what to do about it.
    pub(crate) fn column_of_other_labels(&self, task: Task) -> Option<(&ColumnSpec, String)> {
        let pairs = self.columns.iter().zip(&self.encoders);
        let help = |labels: Option<Labels>| match (task, labels?) {
            (Task::Binary | Task::Regression, Labels::Value) | (Task::Binary, Labels::Classes(2)) => None,
            (Task::Multiclass { classes }, Labels::Classes(own)) if own == classes => None,
            (Task::Multiclass { classes }, _) => Some(format!("write `classes = {classes}` in its table")),
            (Task::Binary | Task::Regression, Labels::Classes(_)) => Some("leave `classes` out".to_owned()),
            (Task::Anomaly, _) => Some("use `frequency`, `hash` or `ordinal`".to_owned()),
        };
        pairs
            .filter_map(|(column, encoder)| Some((column, help(encoder.labels())?)))
            .next()
    }

    /// What each number of a row is.
    pub fn inputs(&self) -> impl Iterator<Item = Input> {
        let encoders = self.encoders.iter();
        encoders.flat_map(|encoder| (0..encoder.width()).map(|place| encoder.input(place)))
    }

    /// For each column the places of its numbers in a row.
    pub fn places(&self) -> impl Iterator<Item = Range<usize>> {
        self.encoders.iter().scan(0, |offset, encoder| {
            let start = *offset;
            *offset += encoder.width();
            Some(start..*offset)
        })
    }

    /// The feature columns, in the order in which frames hold them.
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// Numbers for each row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Learns from row `row`, whose label is `label`.
    pub fn observe(&mut self, frame: &Frame, row: usize, dictionaries: &Dictionaries, label: f64) {
        for (index, (encoder, values)) in self.encoders.iter_mut().zip(frame.columns()).enumerate() {
            encoder.observe(
                ColumnView {
                    values,
                    dictionary: dictionaries.get(index),
                },
                row,
                label,
            );
        }
    }

    /// Encodes each of `rows` by what was learned before it and then learns from it where `learn` (one for each of
    /// `rows`) says so, as [`ColumnsEncoder::encode`] and [`ColumnsEncoder::observe`] would row by row. `labels` are
    /// those of the whole frame.
    pub fn encode_then_observe(
        &mut self,
        frame: &Frame,
        rows: Range<usize>,
        dictionaries: &Dictionaries,
        labels: &[f64],
        learn: &[bool],
        out: &mut [f64],
    ) {
        let (mut offset, width) = (0, self.width);
        for (index, (encoder, values)) in self.encoders.iter_mut().zip(frame.columns()).enumerate() {
            if let Some(out) = out.get_mut(offset..) {
                let column = ColumnView {
                    values,
                    dictionary: dictionaries.get(index),
                };
                encoder.encode_then_observe(column, rows.clone(), labels, learn, out, width);
            }
            offset += encoder.width();
        }
    }

    /// Writes `width()` numbers for each of `rows`, row by row, as [`Encoder::encode`] does; `out` must hold as many
    /// zeros. A column that the frame lacks encodes to zeros.
    pub fn encode(&self, frame: &Frame, rows: Range<usize>, dictionaries: &Dictionaries, out: &mut [f64]) {
        let mut offset = 0;
        for (index, (encoder, values)) in self.encoders.iter().zip(frame.columns()).enumerate() {
            if let Some(out) = out.get_mut(offset..) {
                let column = ColumnView {
                    values,
                    dictionary: dictionaries.get(index),
                };
                encoder.encode(column, rows.clone(), out, self.width);
            }
            offset += encoder.width();
        }
    }

    /// Learns from `rows`, which are in order and may stand there several times, and writes `width()` numbers for each as
    /// [`ColumnsEncoder::encode`] does: by what all of them taught, but where labels are looked at by what those before it
    /// taught, so that none is encoded by its own label.
    pub(crate) fn fit(
        &mut self,
        frame: &Frame,
        rows: &[usize],
        dictionaries: &Dictionaries,
        labels: &[f64],
        out: &mut [f64],
    ) {
        let (mut offset, stride) = (0, self.width.max(1));
        for (index, (encoder, values)) in self.encoders.iter_mut().zip(frame.columns()).enumerate() {
            let column = ColumnView {
                values,
                dictionary: dictionaries.get(index),
            };
            let observe = |encoder: &mut dyn Encoder, row: usize| {
                encoder.observe(column, row, labels.get(row).copied().unwrap_or(f64::NAN));
            };
            let mut places = out.chunks_mut(stride);
            let mut encode = |encoder: &dyn Encoder, row: usize| {
                if let Some(place) = places.next().and_then(|place| place.get_mut(offset..)) {
                    encoder.encode(column, row..row + 1, place, stride);
                }
            };
            if encoder.labels().is_some() {
                for same in rows.chunk_by(|a, b| a == b) {
                    same.iter().for_each(|&row| encode(encoder.as_ref(), row));
                    same.iter().for_each(|&row| observe(encoder.as_mut(), row));
                }
            } else {
                rows.iter().for_each(|&row| observe(encoder.as_mut(), row));
                rows.iter().for_each(|&row| encode(encoder.as_ref(), row));
            }
            offset += encoder.width();
        }
    }

    /// An immutable copy that shares what is large.
    #[must_use]
    pub fn publish(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }

    /// Bytes of memory that it may come to use.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.encoders.iter().map(|encoder| encoder.bytes_max()).sum()
    }

    /// Appends columns, settings and what was learned.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.columns.len() as u64);
        for (column, encoder) in self.columns.iter().zip(&self.encoders) {
            out.put_str(&column.name);
            column.kind.write(out);
            write_encoder(encoder.as_ref(), out);
        }
    }

    /// Reads what [`ColumnsEncoder::write`] wrote.
    ///
    /// # Errors
    /// Bytes that it did not write; an encoder that this binary does not know, by name. Never panics.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count(17)?;
        let mut columns = Vec::with_capacity(count);
        let mut encoders = Vec::with_capacity(count);
        let mut width = 0;
        for _ in 0..count {
            let name = reader.str()?.to_owned();
            let kind = ColumnKind::read(reader)?;
            columns.push(ColumnSpec { name, kind });
            let encoder = read_encoder(reader)?;
            width += encoder.width();
            if width > WIDTH_MAX {
                return Err(reader.error(format!("more than {WIDTH_MAX} inputs")));
            }
            encoders.push(encoder);
        }
        Ok(Self::new(columns.into(), encoders))
    }
}

/// Builds the encoder of one column from its table.
fn build(column: &ColumnSpec, section: &Section<'_>, seed: u64, problems: &mut Problems) -> Option<Box<dyn Encoder>> {
    let name = match (section.get::<String>("encode", problems), column.kind) {
        (Some(name), _) => name,
        (None, ColumnKind::Number) => "standardise".to_owned(),
        (None, ColumnKind::Vector { .. }) => "vector".to_owned(),
        (None, ColumnKind::Category) => {
            let message = format!("column `{}` is text and has no encoder", column.name);
            let help = format!(
                "say how: {} = {{ encode = \"one-hot\" }}, or give it another role",
                column.name
            );
            problems.push(section.span(), message, Some(help));
            return None;
        }
    };
    let kind = match find_component(ENCODERS, &name) {
        Ok(kind) => kind,
        Err(message) => {
            problems.push(section.key_span("encode"), message, None);
            return None;
        }
    };
    section.check(kind.fields(), problems);
    if !kind.column_kind().is_like(column.kind) {
        let noun = |kind| match kind {
            ColumnKind::Number => "numbers",
            ColumnKind::Category => "text",
            ColumnKind::Vector { .. } => "vectors",
        };
        let (is, wants) = (noun(column.kind), noun(kind.column_kind()));
        let message = format!("column `{}` holds {is}, and `{name}` encodes {wants}", column.name);
        problems.push(section.key_span("encode"), message, None);
        return None;
    }
    kind.build(column, section, seed, problems)
}

/// Appends the name of an encoder and what it writes.
fn write_encoder(encoder: &dyn Encoder, out: &mut Vec<u8>) {
    out.put_str(encoder.format());
    out.put_block(|block| encoder.write(block));
}

/// Reads what [`write_encoder`] wrote.
fn read_encoder(reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
    let format = reader.str()?;
    let mut block = reader.block()?;
    let Some(kind) = find(format) else {
        return Err(reader.error(format!("this binary has no encoder `{}`", format.escape_debug())));
    };
    let encoder = kind.read(&mut block)?;
    block.finish()?;
    Ok(encoder)
}

impl State for ColumnsEncoder {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        for (index, encoder) in self.encoders.iter().enumerate() {
            chunks.chunk(&format!("column-{index:04}"), encoder.stamp(), &mut |out| {
                write_encoder(encoder.as_ref(), out)
            });
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        for (index, (encoder, column)) in self.encoders.iter_mut().zip(self.columns.iter()).enumerate() {
            let name = format!("column-{index:04}");
            let mut reader = open(chunks, &name)?;
            let read = read_encoder(&mut reader).and_then(|read| reader.finish().map(|()| read));
            let read = read.map_err(|error| StateError::of(&name, error))?;
            if read.format() != encoder.format() || read.width() != encoder.width() {
                let what = format!("column `{}` is encoded in another way than configured", column.name);
                return Err(StateError::of(&name, what));
            }
            *encoder = read;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::world::with_section;
    use crate::frame::Column;

    #[test]
    fn a_fit_encodes_by_all_rows_and_no_row_by_its_own_label() {
        let spec = |name: &str, kind| ColumnSpec {
            name: name.to_owned(),
            kind,
        };
        let columns = [spec("x", ColumnKind::Number), spec("c", ColumnKind::Category)];
        let text = "x = { encode = 'none', missing = 'mean' }\nc = { encode = 'target', smoothing_rows = 0.0 }";
        let mut encoder = with_section(text, |section, problems| {
            ColumnsEncoder::from_config(section, &columns, 1, problems)
        });
        let mut dictionaries = Dictionaries::new(&columns, 1 << 10);
        let code = dictionaries.get_mut(1).unwrap().intern("a");
        let values = Column::F64(vec![f64::NAN, 2.0, 4.0, f64::NAN]);
        let frame = Frame::new(4, vec![values, Column::Code(vec![code; 4])]);
        let mut out = vec![0.0; 10];
        // Row 2 was drawn twice.
        let drawn = [0, 1, 2, 2, 3];
        encoder.fit(&frame, &drawn, &dictionaries, &[1.0, 0.0, 1.0, 0.0], &mut out);
        let mean: f64 = 10.0 / 3.0;
        assert!((out[0] - mean).abs() < 1e-12 && out[8] == out[0], "{out:?}");
        let by_labels: Vec<f64> = out.iter().skip(1).step_by(2).copied().collect();
        assert_eq!(by_labels, [0.0, 1.0, 0.5, 0.5, 0.75]);
    }

    #[test]
    fn whatever_the_file_states_can_be_spread_for_who_adds_inputs_up() {
        let spec = |name: &str, kind| ColumnSpec {
            name: name.to_owned(),
            kind,
        };
        let columns = [
            spec("x", ColumnKind::Number),
            spec("y", ColumnKind::Number),
            spec("c", ColumnKind::Category),
            spec("d", ColumnKind::Category),
            spec("v", ColumnKind::Vector { width: 3 }),
        ];
        let text = "v = { encode = 'vector', missing = 'keep' }\nx = { encode = 'none', missing = 'keep' }\nc = { encode = 'ordinal', categories_max = 3 }\n\
                    d = { encode = 'hash', buckets = 8 }";
        let encoder = with_section(text, |section, problems| {
            ColumnsEncoder::from_config(section, &columns, 1, problems)
        });
        assert_eq!(encoder.columns_unlike(Form::Scaled).count(), 3);
        let spread = encoder.spread().unwrap();
        assert_eq!(spread.columns_unlike(Form::Scaled).count(), 0);
        // Three categories, all others, a missing one.
        assert_eq!(spread.width(), 1 + 1 + 5 + 8 + 3);
    }
}
