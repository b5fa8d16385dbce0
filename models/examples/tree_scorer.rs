//! Measures the batch learners of trees: how long a fit takes, how fast the trees score, what a calibration gains.
//!
//! ```text
//! cargo run --release -p driftmill-models --example tree_scorer -- \
//!     [--rows N] [--width N] [--csv FILE] [--train N] [--task regression] [--learner 'learner = "gradient-boosting"'] \
//!     [STREAM.csv...]
//! ```
//!
//! Without a stream it makes `--rows` rows of `--width` numbers of which two fifths say which class a row is of, and
//! writes them to `--csv`, so that another library can be measured on the same. A stream is a CSV file of numbers with a
//! header, its label last; its first `--train` rows are learned, by default half of them, the rest is scored. `--learner`
//! may stand several times. One thread. The time of a row is, for each thousand rows, the least of several rounds: on a
//! machine that does other things too, all else is the time of those.

#![expect(clippy::print_stdout, reason = "what it measured is printed")]

use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

use driftmill_config::{Document, find};
use driftmill_models::contracts::{FitStart, Labelled, LearnerContext, Task};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame};
use driftmill_models::learners::BATCH_LEARNERS;
use driftmill_models::matrix::Matrix;
use driftmill_models::metrics::binary::log_loss;
use driftmill_models::model::{Body, Model, Scratch};
use driftmill_models::random::{of_row, uniform};

type Failure = Box<dyn Error>;

/// Rows that are timed together.
const TIMED: usize = 1_000;
/// How often.
const ROUNDS: usize = 15;

/// Rows of numbers, the label last.
struct Table {
    name: String,
    columns: Vec<ColumnSpec>,
    rows: Vec<Vec<f64>>,
    task: Task,
}

impl Table {
    fn made(rows: usize, width: usize) -> Self {
        let row = |row: usize| {
            let mut random = of_row(1, row as u64);
            let mut cells: Vec<f64> = (0..width).map(|_| 2.0 * uniform(&mut random) - 1.0).collect();
            let informative = cells.iter().take(width * 2 / 5).enumerate();
            let sum: f64 = informative
                .map(|(place, x)| if place % 2 == 0 { *x } else { (3.0 * x).sin() * x })
                .sum();
            cells.push(f64::from(u8::from(sum + 0.6 * (uniform(&mut random) - 0.5) > 0.5)));
            cells
        };
        Self {
            name: format!("{rows} x {width}"),
            columns: specs((0..width).map(|place| format!("x{place}"))),
            rows: (0..rows).map(row).collect(),
            task: Task::Binary,
        }
    }

    fn read(path: &str, task: Option<Task>) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().ok_or("no header")?.split(',').collect();
        let cell = |cell: &str| match cell.trim() {
            "" => Ok(f64::NAN),
            cell => cell.parse::<f64>(),
        };
        let rows: Vec<Vec<f64>> = lines
            .map(|line| line.split(',').map(cell).collect::<Result<Vec<f64>, _>>())
            .collect::<Result<_, _>>()?;
        if rows
            .iter()
            .any(|row| row.len() != names.len() || row.last().is_none_or(|y| !y.is_finite()))
        {
            return Err(format!("{path}: a line has not {} cells, the last one a label", names.len()).into());
        }
        let labels = rows.iter().filter_map(|row| row.last());
        let classes = labels.copied().fold(1.0, f64::max) as u32 + 1;
        Ok(Self {
            name: path.to_owned(),
            columns: specs(names.iter().take(names.len() - 1).map(|name| (*name).to_owned())),
            task: match (task, classes) {
                (Some(task), _) => task,
                (None, 2) => Task::Binary,
                (None, classes) => Task::Multiclass { classes },
            },
            rows,
        })
    }

    /// Rows `from..to` as a frame, and their labels.
    fn part(&self, from: usize, to: usize) -> (Frame, Vec<f64>) {
        let rows = &self.rows[from..to];
        let width = self.columns.len();
        let column = |place: usize| Column::F64(rows.iter().map(|row| row[place]).collect());
        let frame = Frame::new(rows.len(), (0..width).map(column).collect());
        (frame, rows.iter().map(|row| row[width]).collect())
    }

    fn csv(&self) -> String {
        let mut text: String = self.columns.iter().map(|column| format!("{},", column.name)).collect();
        text.push_str("label\n");
        for row in &self.rows {
            let (label, cells) = row.split_last().unwrap_or((&0.0, &[]));
            cells
                .iter()
                .for_each(|cell| write!(text, "{cell},").unwrap_or_default());
            text.push_str(&format!("{label}\n"));
        }
        text
    }
}

fn specs(names: impl Iterator<Item = String>) -> Vec<ColumnSpec> {
    let kind = ColumnKind::Number;
    names.map(|name| ColumnSpec { name, kind }).collect()
}

/// Fits a learner on the first rows, and measures it on the others; on the same where there are no others.
fn measure(table: &Table, train: usize, learner: &str) -> Result<(), Failure> {
    let document = Document::parse("learner", learner, &|_| None).map_err(|problems| problems.render())?;
    let mut problems = document.problems();
    let root = document.root();
    let name: String = root.get("learner", &mut problems).ok_or("a learner has a name")?;
    let kind = find(BATCH_LEARNERS, &name)?;
    root.check(kind.fields(), &mut problems);
    let none = Document::parse("features", "", &|_| None).map_err(|problems| problems.render())?;
    let encoder = ColumnsEncoder::from_config(&none.root(), &table.columns, 1, &mut problems).ok_or("no encoder")?;
    let built = kind.build(&root, &LearnerContext::new(table.task, &encoder, 1), &mut problems);
    let Some(built) = built.filter(|_| problems.is_empty()) else {
        return Err(problems.render().into());
    };
    let (frame, labels) = table.part(0, train);
    let dictionaries = Dictionaries::new(&table.columns, 1 << 20);
    let weights = vec![1.0; labels.len()];
    let rows = Labelled {
        frame: &frame,
        dictionaries: &dictionaries,
        labels: &labels,
        weights: &weights,
    };
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let model = built.fit(rows, FitStart::anew(1))?;
    let fit = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let from = if train < table.rows.len() { train } else { 0 };
    let (frame, labels) = table.part(from, table.rows.len());
    let mut scores = Vec::new();
    model.score(&frame, &dictionaries, &mut Scratch::default(), &mut scores);
    println!("{} | {}", table.name, learner.replace('\n', ", "));
    println!(
        "  fit {:.3} s of a core ({:.3} s by the clock) on {train} rows, {} bytes",
        fit.1,
        fit.0,
        model.bytes()
    );
    let outputs = table.task.outputs();
    let loss = |(scores, y): (&[f64], &f64)| match table.task {
        Task::Multiclass { .. } => -scores[*y as usize].max(1e-15).ln(),
        Task::Regression | Task::Anomaly => (scores[0] - y).powi(2),
        Task::Binary => log_loss(scores[0], *y),
    };
    let is_right = |(scores, y): &(&[f64], &f64)| match table.task {
        Task::Binary => (scores[0] > 0.5) == (**y == 1.0),
        _ => scores
            .iter()
            .all(|p| *p <= scores.get(**y as usize).copied().unwrap_or(f64::NAN)),
    };
    let pairs = || scores.chunks(outputs).zip(&labels);
    let count = labels.len() as f64;
    println!(
        "  mean loss {:.4}, accuracy {:.4} on {} rows",
        pairs().map(loss).sum::<f64>() / count,
        pairs().filter(is_right).count() as f64 / count,
        labels.len()
    );
    time_rows(&model, &frame, &dictionaries);
    Ok(())
}

/// Seconds that this thread has had of a core; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e9
}

/// Prints nanoseconds a row: of the scorer alone, of the whole model, of the scorer one row at a time.
fn time_rows(model: &Model, frame: &Frame, dictionaries: &Dictionaries) {
    let mut blocks: Vec<(Frame, Matrix)> = Vec::new();
    for start in (0..frame.rows() / TIMED * TIMED).step_by(TIMED).take(10) {
        let mut block = frame.empty_like();
        block.append(frame, start..start + TIMED);
        let mut matrix = Matrix::new();
        if let Body::Scored { encoder, .. } = model.body() {
            matrix.reset(TIMED, encoder.width());
            encoder.encode(&block, 0..TIMED, dictionaries, matrix.values_mut());
        }
        blocks.push((block, matrix));
    }
    if blocks.is_empty() {
        return;
    }
    let (mut out, mut scratch) = (Vec::new(), Scratch::default());
    let mut whole = |block: &(Frame, Matrix)| model.score(&block.0, dictionaries, &mut scratch, &mut out);
    println!("  model {:.0} ns/row", least(&blocks, &mut whole));
    if let Body::Scored { scorer, .. } = model.body() {
        let (mut out, mut row) = (Vec::new(), Matrix::new());
        let mut batch = |block: &(Frame, Matrix)| {
            out.clear();
            scorer.score(&block.1, &mut out);
        };
        println!("  scorer in batches {:.0} ns/row", least(&blocks, &mut batch));
        let mut alone = |block: &(Frame, Matrix)| {
            for values in block.1.iter() {
                out.clear();
                row.reset(1, values.len());
                row.values_mut().copy_from_slice(values);
                scorer.score(&row, &mut out);
            }
        };
        println!("  scorer row by row {:.0} ns/row", least(&blocks, &mut alone));
    }
}

/// The least time of each block over the rounds, in nanoseconds a row.
fn least(blocks: &[(Frame, Matrix)], run: &mut dyn FnMut(&(Frame, Matrix))) -> f64 {
    let mut times = vec![f64::INFINITY; blocks.len()];
    for _ in 0..ROUNDS {
        for (block, time) in blocks.iter().zip(&mut times) {
            let start = Instant::now();
            run(block);
            *time = time.min(start.elapsed().as_secs_f64());
        }
    }
    times.iter().sum::<f64>() / (blocks.len() * TIMED) as f64 * 1e9
}

fn main() -> Result<(), Failure> {
    let (mut rows, mut width, mut train, mut csv, mut task) = (10_000, 20, None, None, None);
    let (mut learners, mut streams) = (Vec::new(), Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--rows" => rows = value()?.parse()?,
            "--width" => width = value()?.parse()?,
            "--train" => train = Some(value()?.parse()?),
            "--csv" => csv = Some(value()?),
            "--task" => match value()?.as_str() {
                "regression" => task = Some(Task::Regression),
                other => return Err(format!("`{other}` is no task that has to be named").into()),
            },
            "--learner" => learners.push(value()?),
            flag if flag.starts_with("--") => return Err(format!("unknown option {flag}").into()),
            _ => streams.push(arg),
        }
    }
    if learners.is_empty() {
        learners.push("learner = \"random-forest\"\ntrees = 100\ndepth_max = 12".to_owned());
        learners.push("learner = \"gradient-boosting\"".to_owned());
    }
    let mut tables = Vec::new();
    for stream in &streams {
        tables.push(Table::read(stream, task)?);
    }
    if tables.is_empty() {
        let table = Table::made(rows, width);
        if let Some(path) = csv {
            std::fs::write(path, table.csv())?;
        }
        tables.push(table);
    }
    for table in &tables {
        let usual = if streams.is_empty() {
            table.rows.len()
        } else {
            table.rows.len() / 2
        };
        for learner in &learners {
            measure(table, train.unwrap_or(usual).min(table.rows.len()), learner)?;
        }
    }
    Ok(())
}
