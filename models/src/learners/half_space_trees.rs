//! `half-space-trees`: anomalies as rows that lie where few others lay lately (Tan, Ting and Liu, "Fast anomaly detection
//! for streaming data", IJCAI 2011).
//!
//! Trees are complete, made before the first row: each halves a random range of a random input again and again. They
//! count the rows of a window while those of the window before say what is usual; after so many rows the two change
//! places. What differs from the paper: inputs are standardised as they come, as no stream announces its ranges, and the
//! paper's range from 0 to 1 is that of ±[`DEVIATIONS`] standard deviations; scores are turned around and brought between
//! 0 and 1, in the same order. The paper's depth is 15: with 12, an eighth of it has to be kept and saved.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::blocks::Blocks;
use super::settings::{MEMORY_MAX, check_memory, named, refuse_task, whole};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Form, Labelled, Learner, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::model::Model;
use crate::random::{derived, of_row, uniform};
use crate::scorers::half_space::{DEPTH_MAX, HalfSpace, Shape, Split, TREES_MAX, read_masses};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

/// Prefix of the encoder's chunks.
const ENCODER: &str = "encoder/";
/// Where the paper's range of an input ends, on either side of its mean: hardly anything usual lies farther away.
const DEVIATIONS: f64 = 3.0;
/// A node of at most this share of a window's rows is not looked into (the paper's sizeLimit).
const SIZE_LIMIT_SHARE: f64 = 0.1;

/// The entry of the list.
pub(crate) struct HalfSpaceTreesKind;

impl Component for HalfSpaceTreesKind {
    fn name(&self) -> &'static str {
        "half-space-trees"
    }

    fn summary(&self) -> &'static str {
        "Anomalies: a row scores the higher, the fewer rows of the last complete window lie where it lies, as random \
         trees divide the space. Learns without labels; every row counts once, whatever its weight. Before the first \
         window is complete every score is 0.5. For tasks of anomalies."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["half-space-trees"]),
            Field {
                name: "trees",
                kind: Kind::Integer,
                need: Need::Optional("25"),
                doc: "Trees, from 1 to 1000.",
            },
            Field {
                name: "depth",
                kind: Kind::Integer,
                need: Need::Optional("12"),
                doc: "How often each tree halves the space, from 1 to 16. Memory doubles with each.",
            },
            Field {
                name: "window_rows",
                kind: Kind::Integer,
                need: Need::Optional("250"),
                doc: "Rows of a window, from 10 to 1000000. A smaller one forgets faster and is coarser.",
            },
            MEMORY_MAX,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"half-space-trees\"\ntrees = 10\ndepth = 8\nwindow_rows = 250\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for HalfSpaceTreesKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        let before = problems.len();
        let trees = whole(section, "trees", 25, 1..=TREES_MAX as u64, problems) as usize;
        let depth = whole(section, "depth", 12, 1..=DEPTH_MAX as u64, problems) as usize;
        let window = whole(section, "window_rows", 250, 10..=1_000_000, problems);
        if context.task != Task::Anomaly {
            refuse_task(section, "`half-space-trees` finds anomalies", problems);
        }
        let encoder = context.encoder(Form::Scaled, section, problems)?;
        // Before anything of that size is allocated.
        let bytes = bytes_of(trees, depth, &encoder);
        check_memory(self.name(), bytes, section, context, problems);
        (problems.len() == before).then(|| {
            let shape = grown(encoder.width(), depth, trees, context.seed);
            Box::new(HalfSpaceTrees::new(shape, window as u32, encoder)) as Box<dyn Learner>
        })
    }
}

/// Bytes of memory, at most.
fn bytes_of(trees: usize, depth: usize, encoder: &ColumnsEncoder) -> usize {
    // Both windows, and that which a published model still holds.
    let masses = 3 * size_of::<u32>() * (2 << depth);
    let splits = size_of::<Split>() << depth;
    size_of::<HalfSpaceTrees>() + trees * (masses + splits) + Blocks::bytes_max(encoder.width()) + encoder.bytes_max()
}

/// Trees that halve a space of their own each: random ranges that contain that of the inputs.
fn grown(width: usize, depth: usize, trees: usize, seed: u64) -> Shape {
    let mut splits = vec![Split { place: 0, at: 0.0 }; trees << depth];
    for (tree, splits) in splits.chunks_mut(1 << depth).enumerate() {
        let seed = derived(seed, tree as u64);
        let range = |place: usize| {
            let center = uniform(&mut of_row(seed, place as u64));
            let half = 2.0 * center.max(1.0 - center);
            [center - half, center + half].map(|at| DEVIATIONS * (2.0 * at - 1.0))
        };
        let mut ranges: Vec<[f64; 2]> = (0..width).map(range).collect();
        halve(1, splits, &mut ranges, seed);
    }
    Shape {
        width,
        depth,
        trees,
        splits,
    }
}

/// Splits `node` at the middle of what is left of the range of a random input, then what lies below it. Without inputs
/// every split stays at 0.
fn halve(node: usize, splits: &mut [Split], ranges: &mut [[f64; 2]], seed: u64) {
    if node >= splits.len() || ranges.is_empty() {
        return;
    }
    // Rows below 2^32 are the ranges of the inputs.
    let draw = uniform(&mut of_row(seed, (1 << 32) + node as u64));
    let place = ((draw * ranges.len() as f64) as usize).min(ranges.len() - 1);
    let [low, high] = ranges[place];
    let middle = (low + high) / 2.0;
    splits[node] = Split {
        place: place as u32,
        at: middle as f32,
    };
    ranges[place] = [low, middle];
    halve(2 * node, splits, ranges, seed);
    ranges[place] = [middle, high];
    halve(2 * node + 1, splits, ranges, seed);
    ranges[place] = [low, high];
}

/// The learner.
pub(crate) struct HalfSpaceTrees {
    encoder: ColumnsEncoder,
    blocks: Blocks,
    known: HalfSpace,
    /// Rows of the present window in each node, as `known.masses`.
    latest: Vec<u32>,
    seen: u64,
}

impl HalfSpaceTrees {
    /// Has learned nothing.
    fn new(shape: Shape, window: u32, encoder: ColumnsEncoder) -> Self {
        Self {
            encoder,
            blocks: Blocks::default(),
            latest: vec![0; shape.trees * shape.nodes()],
            known: HalfSpace {
                shape: Arc::new(shape),
                masses: None,
                window,
                size_limit: (f64::from(window) * SIZE_LIMIT_SHARE) as u32,
            },
            seen: 0,
        }
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.seen = reader.u64()?;
        reader.finish()
    }

    fn read_window(&self, mut reader: Reader<'_>) -> Result<Vec<u32>, CodecError> {
        let masses = read_masses(&mut reader, &self.known.shape)?;
        reader.finish().map(|()| masses)
    }
}

/// Counts a row in the nodes in which it lies.
fn count(shape: &Shape, latest: &mut [u32], x: &[f64]) {
    for (tree, masses) in latest.chunks_exact_mut(shape.nodes()).enumerate() {
        let mut node = 1;
        masses[node] = masses[node].saturating_add(1);
        for _ in 0..shape.depth {
            node = shape.child(tree, node, x);
            masses[node] = masses[node].saturating_add(1);
        }
    }
}

impl Learner for HalfSpaceTrees {
    fn learn(&mut self, rows: Labelled<'_>, mut predictions: Option<&mut Vec<f64>>) {
        if let Some(predictions) = predictions.as_deref_mut() {
            predictions.clear();
        }
        let Self {
            encoder,
            blocks,
            known,
            latest,
            seen,
        } = self;
        blocks.walk(Task::Anomaly, encoder, rows, |row| {
            if let Some(predictions) = predictions.as_deref_mut() {
                predictions.push(known.score_row(row.x));
            }
            if row.usable {
                count(&known.shape, latest, row.x);
                *seen += 1;
                if seen.is_multiple_of(u64::from(known.window)) {
                    known.masses = Some(latest[..].into());
                    latest.fill(0);
                }
            }
        });
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn publish(&mut self) -> Option<Arc<Model>> {
        if self.seen == 0 {
            return None;
        }
        let scorer = Arc::new(self.known.clone());
        Model::new(Task::Anomaly, self.encoder.publish(), scorer)
            .ok()
            .map(Arc::new)
    }

    fn bytes(&self) -> usize {
        bytes_of(self.known.shape.trees, self.known.shape.depth, &self.encoder)
    }
}

impl State for HalfSpaceTrees {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        // Trees follow from the seed.
        let put = |masses: &[u32], out: &mut Vec<u8>| masses.iter().for_each(|mass| out.put_u32(*mass));
        chunks.chunk("head", self.seen, &mut |out| out.put_u64(self.seen));
        chunks.chunk("latest", self.seen, &mut |out| put(&self.latest, out));
        if let Some(masses) = &self.known.masses {
            let windows = self.seen / u64::from(self.known.window);
            chunks.chunk("before", windows, &mut |out| put(masses, out));
        }
        self.encoder.save(&mut Within::new(ENCODER, chunks));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let head = self.read_head(open(chunks, "head")?);
        head.map_err(|error| StateError::of("head", error))?;
        let window = |name: &str| {
            self.read_window(open(chunks, name)?)
                .map_err(|error| StateError::of(name, error))
        };
        let latest = window("latest")?;
        let masses = match self.seen >= u64::from(self.known.window) {
            true => Some(window("before")?.into()),
            false => None,
        };
        (self.latest, self.known.masses) = (latest, masses);
        self.encoder
            .restore(&WithinSource::new(ENCODER, chunks))
            .map_err(|error| error.within(ENCODER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::plain::{Plain, learner};

    #[test]
    fn every_node_halves_what_the_nodes_above_left() {
        let shape = grown(3, 6, 4, 9);
        // A range of four times that of the inputs, whose middle is one of them.
        let most = 5.0 * DEVIATIONS as f32;
        for tree in shape.splits.chunks(64) {
            assert!(tree[1..].iter().all(|split| split.at.abs() <= most && split.place < 3));
            for node in 2..64 {
                let mut above = node;
                while above > 1 {
                    let is_right = above % 2 == 1;
                    above /= 2;
                    if tree[above].place == tree[node].place {
                        assert_eq!(tree[node].at > tree[above].at, is_right, "node {node} below {above}");
                    }
                }
            }
        }
        assert_eq!(shape, grown(3, 6, 4, 9));
        assert_ne!(shape, grown(3, 6, 4, 10));
    }

    #[test]
    fn rows_unlike_the_others_score_above_them() {
        // Two crowded corners; one row in fifty lies elsewhere: far out, or in a corner where nobody is.
        let side = |x: f64| 0.3 * x + if x > 0.0 { 0.7 } else { -0.7 };
        let mut columns = [Vec::new(), Vec::new()];
        let mut strange = Vec::new();
        for row in 0..5_000_u64 {
            let mut random = of_row(41, row);
            let [a, b] = [2.0 * uniform(&mut random) - 1.0, 2.0 * uniform(&mut random) - 1.0];
            let is_strange = row % 50 == 49;
            let (x, y) = match (is_strange, row % 100 == 99) {
                (false, _) => (side(a), side(b.abs() * a.signum())),
                (true, false) => (side(a), side(-b.abs() * a.signum())),
                (true, true) => (2.5 * a.signum() + a, b),
            };
            columns[0].push(x);
            columns[1].push(y);
            strange.push(f64::from(u8::from(is_strange)));
        }
        let rows = Plain::new(&[&columns[0], &columns[1]], &strange);
        let mut scores = Vec::new();
        learner("half-space-trees", "", Task::Anomaly, &rows).learn(rows.labelled(), Some(&mut scores));
        assert!(scores[..250].iter().all(|score| *score == 0.5));
        let of = |class: f64| {
            let pairs = scores.iter().zip(&strange).skip(250);
            pairs
                .filter(move |(_, label)| **label == class)
                .map(|(score, _)| *score)
        };
        let above = of(1.0).map(|a| of(0.0).filter(|b| a > *b).count()).sum::<usize>();
        let share = above as f64 / (of(1.0).count() * of(0.0).count()) as f64;
        assert!(share > 0.95, "{share} of the pairs are in order, seed 41");
    }
}
