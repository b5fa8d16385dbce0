//! A stream in memory.

use std::path::Path;

use driftmill_models::contracts::Task;
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};

use super::Failure;
use super::setup::TaskName;

/// Bytes of a dictionary: more than any of these streams needs.
const DICTIONARY_BYTES: usize = 1 << 20;

/// Rows, features and labels, already parsed.
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) task: Task,
    pub(crate) columns: Vec<ColumnSpec>,
    pub(crate) dictionaries: Dictionaries,
    pub(crate) labels: Vec<f64>,
    /// Where labels come late.
    pub(crate) times: Option<Times>,
    features: Vec<Column>,
}

/// When each row is to be predicted, and when its label becomes known (infinity: never), in ms.
pub(crate) struct Times {
    pub(crate) at: Vec<f64>,
    pub(crate) known: Vec<f64>,
}

/// What a column of the file is.
enum Place {
    At,
    Known,
    Feature(usize),
    Label,
}

impl Stream {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is no such stream, with the line at fault.
    pub(crate) fn read(path: &Path, task: Option<TaskName>, rows_max: Option<usize>) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let mut lines = text.lines();
        let header = lines.next().ok_or_else(|| format!("{shown}: is empty"))?;
        let mut reading = Reading::new(header);
        for (row, line) in lines.take(rows_max.unwrap_or(usize::MAX)).enumerate() {
            let fault = |what| format!("{shown}:{}: {what}", row + 2);
            reading.line(line).map_err(fault)?;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        reading
            .finish(name.into_owned(), task)
            .map_err(|what| format!("{shown}: {what}").into())
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The rows of these numbers, in their order.
    pub(crate) fn frame(&self, rows: impl ExactSizeIterator<Item = usize> + Clone) -> Frame {
        let pick = |column: &Column| match column {
            Column::F64(values) => Column::F64(rows.clone().map(|row| values[row]).collect()),
            Column::F32(values) => Column::F32(rows.clone().map(|row| values[row]).collect()),
            Column::Code(codes) => Column::Code(rows.clone().map(|row| codes[row]).collect()),
            Column::Vector { width, values } => Column::Vector {
                width: *width,
                values: rows
                    .clone()
                    .flat_map(|row| values[row * width..(row + 1) * width].iter().copied())
                    .collect(),
            },
        };
        Frame::new(rows.len(), self.features.iter().map(pick).collect())
    }
}

/// A stream of which some lines have been read.
struct Reading {
    places: Vec<Place>,
    label_name: String,
    columns: Vec<ColumnSpec>,
    dictionaries: Dictionaries,
    features: Vec<Column>,
    labels: Vec<f64>,
    at: Vec<f64>,
    known: Vec<f64>,
}

impl Reading {
    fn new(header: &str) -> Self {
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let (mut places, mut columns) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            places.push(match *name {
                _ if index + 1 == names.len() => Place::Label,
                "@at" => Place::At,
                "@known" => Place::Known,
                name => {
                    let (name, kind) = match name.strip_prefix("category:") {
                        Some(name) => (name, ColumnKind::Category),
                        None => (name, ColumnKind::Number),
                    };
                    let name = name.to_owned();
                    columns.push(ColumnSpec { name, kind });
                    Place::Feature(columns.len() - 1)
                }
            });
        }
        let empty = |column: &ColumnSpec| match column.kind {
            ColumnKind::Category => Column::Code(Vec::new()),
            // The streams have no vectors.
            ColumnKind::Number | ColumnKind::Vector { .. } => Column::F64(Vec::new()),
        };
        Self {
            places,
            label_name: names.last().copied().unwrap_or_default().to_owned(),
            dictionaries: Dictionaries::new(&columns, DICTIONARY_BYTES),
            features: columns.iter().map(empty).collect(),
            columns,
            labels: Vec::new(),
            at: Vec::new(),
            known: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut cells = line.split(',').map(str::trim);
        for place in &self.places {
            let cell = cells
                .next()
                .ok_or_else(|| format!("needs {} cells", self.places.len()))?;
            match place {
                Place::At => self.at.push(finite(cell)?),
                Place::Known if cell.is_empty() => self.known.push(f64::INFINITY),
                Place::Known => self.known.push(finite(cell)?),
                Place::Label => self.labels.push(finite(cell)?),
                Place::Feature(index) => match &mut self.features[*index] {
                    Column::Code(codes) if cell.is_empty() => codes.push(MISSING),
                    Column::Code(codes) => {
                        let dictionary = self.dictionaries.get_mut(*index);
                        codes.push(dictionary.map_or(MISSING, |dictionary| dictionary.intern(cell)));
                    }
                    Column::F64(values) => values.push(if cell.is_empty() { f64::NAN } else { number(cell)? }),
                    Column::F32(_) | Column::Vector { .. } => {
                        return Err("columns are of double precision".to_owned());
                    }
                },
            }
        }
        match cells.next() {
            Some(_) => Err(format!("has more than {} cells", self.places.len())),
            None => Ok(()),
        }
    }

    fn finish(self, name: String, task: Option<TaskName>) -> Result<Stream, String> {
        let task = task.or(match self.label_name.as_str() {
            "value" => Some(TaskName::Regression),
            "anomaly" => Some(TaskName::Anomaly),
            _ => None,
        });
        let is_class = |label: &f64| label.fract() == 0.0 && (0.0..1024.0).contains(label);
        if task != Some(TaskName::Regression) && !self.labels.iter().all(is_class) {
            return Err("a label is no class; perhaps --task regression".to_owned());
        }
        // Whole numbers below 1024, as was just seen.
        let classes = self.labels.iter().copied().fold(0.0, f64::max) as u32 + 1;
        let task = match task {
            Some(TaskName::Regression) => Task::Regression,
            Some(TaskName::Anomaly) => Task::Anomaly,
            Some(TaskName::Multiclass) => Task::Multiclass { classes },
            None if classes > 2 => Task::Multiclass { classes },
            Some(TaskName::Binary) | None => Task::Binary,
        };
        let times = match (self.at.is_empty(), self.known.is_empty()) {
            (true, true) => None,
            (false, false) if self.at.is_sorted() => Some(Times {
                at: self.at,
                known: self.known,
            }),
            (false, false) => return Err("rows are not in the order of `@at`".to_owned()),
            _ => return Err("`@at` and `@known` stand together".to_owned()),
        };
        Ok(Stream {
            name,
            task,
            columns: self.columns,
            dictionaries: self.dictionaries,
            labels: self.labels,
            times,
            features: self.features,
        })
    }
}

fn number(cell: &str) -> Result<f64, String> {
    cell.parse().map_err(|_| format!("`{cell}` is no number"))
}

fn finite(cell: &str) -> Result<f64, String> {
    number(cell).and_then(|number| match number.is_finite() {
        true => Ok(number),
        false => Err(format!("`{cell}` is not finite")),
    })
}
