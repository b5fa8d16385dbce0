//! How decision trees are walked: what every scorer made of finished trees shares.
//!
//! A question is `x <= threshold`. All thresholds that are asked of one input are sorted, and a row's number is replaced,
//! once for all trees, by its *key*: how many of them lie below it. `x <= threshold` is then `key <= rank`, exactly, in
//! 16 bits (after "predication" of Asadi, Lin and de Vries, TKDE 2014, and the quantised thresholds of RapidScorer, Ye
//! et al., KDD 2018). A missing number has a key below or above all ranks, by where it is to go.
//!
//! A node is one `u64`: `65535 - rank` in the low 16 bits, above it the left child (the right one follows it), and on top
//! the place of the key. Adding the key to the node carries into the child exactly when the row goes right, so a step is
//! two loads, an addition and shifts, without a branch. A leaf is its own child. Sixteen rows walk a tree side by side
//! (or sixteen trees one row, where there are fewer rows), so that their loads overlap. Trees are added up in their
//! order for each row, so a score does not depend on the rows beside it.

use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// Rows that walk side by side.
const SIDE: usize = 16;
/// Thresholds of a lane at most: one key is left above them all.
const RANKS_MAX: usize = 65_534;
/// Lanes at most, so that the place of a key fits in 16 bits.
const LANES_MAX: usize = 4_095;
/// Nodes of a tree at most.
const NODES_MAX: usize = 1 << 22;
/// Bytes of keys that are made at a time.
const KEYS_BYTES: usize = 64 << 10;
/// Sums that are made at a time.
const SUMS_MAX: usize = 1 << 16;
/// The key of a missing number that goes right.
const MISSING_RIGHT: u16 = u16::MAX;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Rows whose `input` is at most `threshold` go to node `left` of the tree, others to `left + 1`.
    Split {
        /// Below the width.
        input: u32,
        /// Finite.
        threshold: f64,
        /// Whether a missing number goes left.
        missing_left: bool,
        /// Behind the node itself.
        left: u32,
    },
    /// The walk ends with this value.
    Leaf(f64),
}

/// A node of a tree, in the form in which trees are made, written and explained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plain {
    /// What it is.
    pub(crate) kind: Kind,
    /// How much of the training rows came to it; 0 where nobody knows.
    pub(crate) cover: f32,
}

/// A tree whose values are added to one of the outputs. The root comes first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainTree {
    /// To which output.
    pub(crate) output: usize,
    /// Every node but the root is the child of one before it.
    pub(crate) nodes: Vec<Plain>,
}

/// The thresholds that are asked of one input by nodes that send missing numbers one way.
#[derive(Debug, Clone, PartialEq)]
struct Lane {
    input: u32,
    missing_left: bool,
    /// Strictly increasing.
    thresholds: Vec<f64>,
    /// The same, filled up with the largest number to one less than a power of two.
    padded: Vec<f64>,
}

/// Where a tree lies among the nodes of all.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    output: usize,
    start: usize,
    nodes: usize,
    /// Steps from the root to its deepest leaf.
    depth: usize,
}

/// Trees, packed to be walked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packed {
    width: usize,
    outputs: usize,
    lanes: Vec<Lane>,
    trees: Vec<Place>,
    /// Those of all trees; then nodes that are never reached, so that a window of a power of two begins at every tree.
    nodes: Vec<u64>,
    /// For each node the value of the leaf, or 0.
    values: Vec<f64>,
    /// For each node how much came to it; empty where it is not known of all.
    covers: Vec<f32>,
}

impl Packed {
    /// Packs trees over `width` inputs, whose values are added to `outputs` sums.
    ///
    /// # Errors
    /// No tree; nodes that do not make a tree or look at inputs that are not there; numbers that are not finite; more
    /// nodes or questions than can be packed.
    pub(crate) fn new(width: usize, outputs: usize, trees: &[PlainTree]) -> Result<Self, String> {
        if width > WIDTH_MAX {
            return Err(format!("trees over {width} inputs, at most {WIDTH_MAX} are possible"));
        }
        if trees.is_empty() {
            return Err("there is no tree".to_owned());
        }
        let mut places = Vec::with_capacity(trees.len());
        let mut start = 0;
        for (index, tree) in trees.iter().enumerate() {
            let depth = depth(tree, width, outputs).map_err(|what| format!("tree {index} {what}"))?;
            places.push(Place {
                output: tree.output,
                start,
                nodes: tree.nodes.len(),
                depth,
            });
            start += tree.nodes.len();
        }
        let lanes = lanes(trees);
        if lanes.len() > LANES_MAX {
            return Err(format!(
                "the trees ask {} inputs, at most {LANES_MAX} are possible",
                lanes.len()
            ));
        }
        let all = || trees.iter().flat_map(|tree| tree.nodes.iter().zip(0..));
        let mut nodes: Vec<u64> = all().map(|(node, own)| pack(node, own, &lanes)).collect();
        let value = |node: &Plain| match node.kind {
            Kind::Leaf(value) => value,
            Kind::Split { .. } => 0.0,
        };
        let mut values: Vec<f64> = all().map(|(node, _)| value(node)).collect();
        let windows = places.iter().map(|place| place.start + window(place.nodes));
        let end = windows.max().unwrap_or_default();
        nodes.resize(end, 0);
        values.resize(end, 0.0);
        let known = all().all(|(node, _)| node.cover > 0.0 && node.cover.is_finite());
        Ok(Self {
            width,
            outputs,
            lanes,
            trees: places,
            nodes,
            values,
            covers: all().map(|(node, _)| node.cover).filter(|_| known).collect(),
        })
    }

    /// Inputs.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Number of trees.
    pub(crate) fn len(&self) -> usize {
        self.trees.len()
    }

    /// Steps to the deepest leaf.
    pub(crate) fn depth(&self) -> usize {
        self.trees.iter().map(|tree| tree.depth).max().unwrap_or_default()
    }

    /// Nodes of all trees.
    pub(crate) fn node_count(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes).sum()
    }

    /// Whether it is known how much of the training rows came to every node.
    pub(crate) fn has_covers(&self) -> bool {
        !self.covers.is_empty()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let lanes = self
            .lanes
            .iter()
            .map(|lane| 8 * (lane.thresholds.len() + lane.padded.len()));
        size_of::<Self>()
            + lanes.map(|bytes| bytes + size_of::<Lane>()).sum::<usize>()
            + self.trees.len() * size_of::<Place>()
            + self.nodes.len() * 16
            + self.covers.len() * 4
    }

    /// The trees as they were packed (a threshold of -0 is one of 0).
    pub(crate) fn trees(&self) -> impl Iterator<Item = PlainTree> + '_ {
        self.trees.iter().map(|tree| PlainTree {
            output: tree.output,
            nodes: (0..tree.nodes).map(|own| self.unpack(tree.start + own, own)).collect(),
        })
    }

    /// Node `own` of its tree, which stands at `at` among all.
    fn unpack(&self, at: usize, own: usize) -> Plain {
        let node = self.nodes.get(at).copied().unwrap_or_default();
        let left = (node >> 16) as u32;
        let lane = self.lanes.get((node >> 48) as usize / SIDE);
        let split = lane.filter(|_| left as usize != own).and_then(|lane| {
            Some(Kind::Split {
                input: lane.input,
                threshold: *lane.thresholds.get(usize::from(u16::MAX - node as u16))?,
                missing_left: lane.missing_left,
                left,
            })
        });
        Plain {
            kind: split.unwrap_or(Kind::Leaf(self.values.get(at).copied().unwrap_or_default())),
            cover: self.covers.get(at).copied().unwrap_or_default(),
        }
    }

    /// Gives `each` the sums of every row, one for each output, in the order of the rows: `base` and the values of the
    /// leaves in which the row ends, added in the order of the trees.
    pub(crate) fn sums(&self, x: &Matrix, base: &[f64], mut each: impl FnMut(&mut [f64])) {
        let group = self.lanes.len() * SIDE;
        let block = (KEYS_BYTES / 2 / group.max(1)).clamp(4, 64);
        let block = block.min(SUMS_MAX / SIDE / self.outputs.max(1)).max(1) * SIDE;
        let (mut keys, mut sums, mut row) = (Vec::new(), Vec::new(), vec![0.0; self.outputs]);
        for start in (0..x.rows()).step_by(block) {
            let rows = block.min(x.rows() - start);
            let values = x.values().get(start * self.width..).unwrap_or_default();
            let groups = rows / SIDE;
            self.side_by_side(values, groups, base, &mut keys, &mut sums);
            for sums in sums.chunks_exact(self.outputs * SIDE) {
                for place in 0..SIDE {
                    let sums = sums.chunks_exact(SIDE).filter_map(|sums| sums.get(place));
                    row.iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum);
                    each(&mut row);
                }
            }
            for left in groups * SIDE..rows {
                let values = values.get(left * self.width..).unwrap_or_default();
                row.copy_from_slice(base);
                self.alone(values.get(..self.width).unwrap_or_default(), &mut keys, &mut row);
                each(&mut row);
            }
        }
    }

    /// The sums of `groups` times [`SIDE`] rows: for each group, for each output, those of its rows.
    fn side_by_side(&self, x: &[f64], groups: usize, base: &[f64], keys: &mut Vec<u16>, sums: &mut Vec<f64>) {
        sums.clear();
        for _ in 0..groups {
            sums.extend(base.iter().flat_map(|base| [*base; SIDE]));
        }
        if groups == 0 {
            return;
        }
        let group = self.lanes.len() * SIDE;
        let few = group <= 1024;
        keys.clear();
        keys.resize(groups * group + if few { 1024 } else { 65_536 } + SIDE, 0);
        for (place, lane) in self.lanes.iter().enumerate() {
            for (index, rows) in x.chunks_exact(SIDE * self.width).take(groups).enumerate() {
                let at = index * group + place * SIDE;
                if let Some(keys) = keys.get_mut(at..).and_then(|keys| keys.first_chunk_mut()) {
                    lane.keys(rows, self.width, keys);
                }
            }
        }
        for tree in &self.trees {
            let walk = Walk {
                tree,
                nodes: self.nodes.get(tree.start..).unwrap_or_default(),
                values: self.values.get(tree.start..).unwrap_or_default(),
                group,
                outputs: self.outputs,
            };
            if few {
                walk.any::<1040>(1023, keys, sums);
            } else {
                walk.any::<65_552>(65_535, keys, sums);
            }
        }
    }

    /// Adds to `sums` what the trees say of one row, sixteen trees at a time.
    fn alone(&self, row: &[f64], keys: &mut Vec<u16>, sums: &mut [f64]) {
        keys.clear();
        keys.extend(self.lanes.iter().map(|lane| lane.key(row)));
        for trees in self.trees.chunks(SIDE) {
            let mut at = [0_usize; SIDE];
            at.iter_mut().zip(trees).for_each(|(at, tree)| *at = tree.start);
            let steps = trees.iter().map(|tree| tree.depth).max().unwrap_or_default();
            for _ in 0..steps {
                for (at, tree) in at.iter_mut().zip(trees) {
                    let node = self.nodes.get(*at).copied().unwrap_or_default();
                    let key = keys.get((node >> 48) as usize / SIDE).copied().unwrap_or_default();
                    *at = tree.start + ((node + u64::from(key)) >> 16) as u32 as usize;
                }
            }
            for (at, tree) in at.iter().zip(trees) {
                if let (Some(sum), Some(value)) = (sums.get_mut(tree.output), self.values.get(*at)) {
                    *sum += value;
                }
            }
        }
    }
}

/// A tree that is about to be walked.
struct Walk<'a> {
    tree: &'a Place,
    /// From the tree's root on, its window and more.
    nodes: &'a [u64],
    values: &'a [f64],
    /// Keys of a group of rows.
    group: usize,
    outputs: usize,
}

impl Walk<'_> {
    /// Walks the tree with a window that holds it: so the compiler knows that no step leaves it.
    #[inline]
    fn any<const K: usize>(&self, mask: usize, keys: &[u16], sums: &mut [f64]) {
        match window(self.tree.nodes) {
            256 => self.window::<256, K>(mask, keys, sums),
            1_024 => self.window::<1_024, K>(mask, keys, sums),
            4_096 => self.window::<4_096, K>(mask, keys, sums),
            16_384 => self.window::<16_384, K>(mask, keys, sums),
            65_536 => self.window::<65_536, K>(mask, keys, sums),
            262_144 => self.window::<262_144, K>(mask, keys, sums),
            _ => self.window::<NODES_MAX, K>(mask, keys, sums),
        }
    }

    /// `K` keys begin with every group; `mask` keeps the place of a key within them.
    fn window<const N: usize, const K: usize>(&self, mask: usize, keys: &[u16], sums: &mut [f64]) {
        let (Some(nodes), Some(values)) = (self.nodes.first_chunk::<N>(), self.values.first_chunk::<N>()) else {
            return;
        };
        let mask = mask & (K - SIDE - 1);
        for (group, sums) in sums.chunks_exact_mut(SIDE * self.outputs).enumerate() {
            let sums = sums.get_mut(self.tree.output * SIDE..);
            let (Some(keys), Some(sums)) = (
                keys.get(group * self.group..).and_then(|keys| keys.first_chunk::<K>()),
                sums.and_then(|sums| sums.first_chunk_mut::<SIDE>()),
            ) else {
                return;
            };
            let mut at = [0_usize; SIDE];
            for _ in 0..self.tree.depth {
                for (side, at) in at.iter_mut().enumerate() {
                    let node = nodes[*at & (N - 1)];
                    let key = keys[((node >> 48) as usize & mask) + side];
                    *at = ((node + u64::from(key)) >> 16) as usize & (N - 1);
                }
            }
            for (sum, at) in sums.iter_mut().zip(at) {
                *sum += values[at & (N - 1)];
            }
        }
    }
}

impl Lane {
    fn new(input: u32, missing_left: bool, thresholds: Vec<f64>) -> Self {
        let mut padded = thresholds.clone();
        padded.resize((thresholds.len() + 1).next_power_of_two() - 1, f64::MAX);
        Self {
            input,
            missing_left,
            thresholds,
            padded,
        }
    }

    /// The key of a number of which `below` thresholds, or among the padding, lie below.
    #[inline]
    fn finish(&self, x: f64, below: usize) -> u16 {
        if x.is_nan() {
            return if self.missing_left { 0 } else { MISSING_RIGHT };
        }
        below.min(self.thresholds.len()) as u16
    }

    /// The key of a row.
    fn key(&self, row: &[f64]) -> u16 {
        let x = row.get(self.input as usize).copied().unwrap_or(f64::NAN);
        self.finish(x, self.thresholds.partition_point(|threshold| *threshold < x))
    }

    /// The keys of [`SIDE`] rows, by binary searches side by side. A comparison is the sign of a difference: as a branch
    /// it would be guessed wrong every other time.
    #[inline]
    fn keys(&self, rows: &[f64], width: usize, keys: &mut [u16; SIDE]) {
        for (keys, rows) in keys.chunks_exact_mut(SIDE / 2).zip(rows.chunks_exact(SIDE / 2 * width)) {
            let mut x = [0.0_f64; SIDE / 2];
            for (x, row) in x.iter_mut().zip(rows.chunks_exact(width)) {
                *x = row.get(self.input as usize).copied().unwrap_or(f64::NAN);
            }
            let mut below = [0_usize; SIDE / 2];
            for bit in (0..self.padded.len().count_ones()).rev() {
                for (below, x) in below.iter_mut().zip(x) {
                    let threshold = self.padded.get(*below + (1 << bit) - 1).copied().unwrap_or(f64::MAX);
                    *below += (((threshold - x).to_bits() >> 63) as usize) << bit;
                }
            }
            for ((key, x), below) in keys.iter_mut().zip(x).zip(below) {
                *key = self.finish(x, below);
            }
        }
    }
}

/// Nodes of the window that holds a tree.
fn window(nodes: usize) -> usize {
    const WINDOWS: [usize; 6] = [256, 1_024, 4_096, 16_384, 65_536, 262_144];
    WINDOWS.into_iter().find(|window| nodes <= *window).unwrap_or(NODES_MAX)
}

/// Steps to the deepest leaf of a tree.
///
/// # Errors
/// What makes it none.
fn depth(tree: &PlainTree, width: usize, outputs: usize) -> Result<usize, String> {
    let count = tree.nodes.len();
    if count == 0 || count > NODES_MAX || tree.output >= outputs {
        return Err(format!("has {count} nodes, for output {} of {outputs}", tree.output));
    }
    // The depth of a node once its parent was found.
    let mut depths = vec![None; count];
    if let Some(root) = depths.first_mut() {
        *root = Some(0);
    }
    for (index, node) in tree.nodes.iter().enumerate() {
        let own = depths.get(index).copied().flatten();
        let Some(own) = own else {
            return Err(format!("has node {index}, which is nobody's child"));
        };
        match node.kind {
            Kind::Leaf(value) if value.is_finite() => {}
            Kind::Leaf(_) => return Err(format!("has a value in node {index} that is not finite")),
            Kind::Split {
                input, threshold, left, ..
            } => {
                let left = left as usize;
                if left <= index || input as usize >= width || !threshold.is_finite() {
                    return Err(format!("has node {index}, which leads nowhere"));
                }
                for child in [left, left + 1] {
                    match depths.get_mut(child) {
                        Some(depth @ None) => *depth = Some(own + 1),
                        _ => return Err(format!("has node {index}, which leads nowhere")),
                    }
                }
            }
        }
    }
    Ok(depths.into_iter().flatten().max().unwrap_or_default())
}

/// The questions of a tree's nodes: input, where missing numbers go, threshold.
fn questions(trees: &[PlainTree]) -> impl Iterator<Item = (u32, bool, f64)> + '_ {
    let nodes = trees.iter().flat_map(|tree| &tree.nodes);
    nodes.filter_map(|node| match node.kind {
        // Differences tell 0 from -0, comparisons do not.
        Kind::Split {
            input,
            threshold,
            missing_left,
            ..
        } => Some((input, missing_left, threshold + 0.0)),
        Kind::Leaf(_) => None,
    })
}

/// The order of questions: that of lanes, and within a lane that of ranks.
fn order(a: &(u32, bool, f64), b: &(u32, bool, f64)) -> std::cmp::Ordering {
    (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
}

/// All thresholds, by input and by where missing numbers go; more than fit are in several lanes.
fn lanes(trees: &[PlainTree]) -> Vec<Lane> {
    let mut all: Vec<(u32, bool, f64)> = questions(trees).collect();
    all.sort_unstable_by(order);
    all.dedup();
    let alike = all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
    alike
        .flat_map(|alike| alike.chunks(RANKS_MAX))
        .map(|part| {
            let (input, missing_left) = part.first().map_or((0, false), |first| (first.0, first.1));
            Lane::new(input, missing_left, part.iter().map(|question| question.2).collect())
        })
        .collect()
}

/// Packs node `own` of its tree.
fn pack(node: &Plain, own: u64, lanes: &[Lane]) -> u64 {
    let Kind::Split {
        input,
        threshold,
        missing_left,
        left,
    } = node.kind
    else {
        // The rank above every key: a leaf leads to itself.
        return own << 16;
    };
    let question = (input, missing_left, threshold + 0.0);
    let last = |lane: &Lane| {
        (
            lane.input,
            lane.missing_left,
            lane.thresholds.last().copied().unwrap_or(f64::MAX),
        )
    };
    let place = lanes.partition_point(|lane| order(&last(lane), &question).is_lt());
    let rank = lanes.get(place).map_or(0, |lane| {
        lane.thresholds.partition_point(|threshold| *threshold < question.2)
    });
    (((place * SIDE) as u64) << 48) | (u64::from(left) << 16) | (u64::from(u16::MAX) - rank as u64)
}

#[cfg(test)]
pub(crate) mod tests {
    use rand_pcg::Pcg64;
    use rand_pcg::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::random::uniform;

    /// Random numbers with equal ones, extremes, both zeros and missing ones among them.
    fn number(random: &mut Pcg64) -> f64 {
        match random.next_u64() % 16 {
            0 => f64::NAN,
            1 => 0.0,
            2 => -0.0,
            3 => [f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY][random.next_u64() as usize % 4],
            4..8 => (8.0 * uniform(random)).floor() - 4.0,
            _ => 8.0 * uniform(random) - 4.0,
        }
    }

    /// A random tree; its thresholds are such numbers, without missing and infinite ones.
    fn tree(random: &mut Pcg64, width: u64, nodes_max: usize, output: usize) -> PlainTree {
        let leaf = |random: &mut Pcg64| Plain {
            kind: Kind::Leaf(uniform(random) - 0.5),
            cover: 1.0,
        };
        let mut nodes = vec![leaf(random)];
        let mut at = 0;
        while at < nodes.len() && nodes.len() + 2 <= nodes_max {
            if at < 3 || !random.next_u64().is_multiple_of(5) {
                let threshold = number(random);
                nodes[at].kind = Kind::Split {
                    input: (random.next_u64() % width) as u32,
                    threshold: if threshold.is_finite() { threshold } else { 1.5 },
                    missing_left: random.next_u64().is_multiple_of(2),
                    left: nodes.len() as u32,
                };
                nodes.extend([leaf(random), leaf(random)]);
            }
            at += 1;
        }
        PlainTree { output, nodes }
    }

    /// A walk as trees are defined.
    fn value(tree: &PlainTree, row: &[f64]) -> f64 {
        let mut at = 0;
        loop {
            match tree.nodes[at].kind {
                Kind::Leaf(value) => return value,
                Kind::Split {
                    input,
                    threshold,
                    missing_left,
                    left,
                } => {
                    let x = row[input as usize];
                    let goes_left = if x.is_nan() { missing_left } else { x <= threshold };
                    at = left as usize + usize::from(!goes_left);
                }
            }
        }
    }

    fn sums(packed: &Packed, x: &Matrix, base: &[f64]) -> Vec<f64> {
        let mut out = Vec::new();
        packed.sums(x, base, |sums| out.extend_from_slice(sums));
        out
    }

    #[test]
    fn packed_trees_say_what_trees_say_to_the_bit() {
        let seed = 23;
        let mut random = Pcg64::seed_from_u64(seed);
        // Few and many inputs, small and large trees: every window, and one that begins near the end of another.
        for (width, nodes_max, count, outputs) in [
            (3, 1, 2, 1),
            (2, 15, 40, 3),
            (5, 257, 7, 1),
            (20, 1_500, 3, 2),
            (4, 5_001, 2, 1),
            (90, 900, 30, 1),
            (6, 70_001, 2, 1),
        ] {
            let trees: Vec<PlainTree> = (0..count)
                .map(|index| tree(&mut random, width, nodes_max, index % outputs))
                .collect();
            let packed = Packed::new(width as usize, outputs, &trees).unwrap();
            let mut x = Matrix::new();
            x.reset(155, width as usize);
            x.values_mut().iter_mut().for_each(|x| *x = number(&mut random));
            let base: Vec<f64> = (0..outputs).map(|output| output as f64 / 3.0).collect();
            let mut expected = Vec::new();
            for row in x.iter() {
                let mut sums = base.clone();
                trees.iter().for_each(|tree| sums[tree.output] += value(tree, row));
                expected.extend(sums);
            }
            assert!(sums(&packed, &x, &base) == expected, "seed {seed}, width {width}");
            // Unpacked and packed again they are the same.
            let unpacked: Vec<PlainTree> = packed.trees().collect();
            assert!(unpacked == trees, "seed {seed}, width {width}");
            assert!(Packed::new(width as usize, outputs, &unpacked).unwrap() == packed);
        }
    }

    #[test]
    fn more_thresholds_than_ranks_are_asked_in_several_lanes() {
        // A chain: each node asks whether the number is at most its own.
        let count = 2 * RANKS_MAX + 10;
        let mut nodes = Vec::new();
        for place in 0..count {
            nodes.push(Kind::Split {
                input: 0,
                threshold: (count - place) as f64,
                missing_left: false,
                left: 2 * place as u32 + 1,
            });
            if place + 1 < count {
                // The left child goes on, the right one is a leaf: it must stand behind.
                nodes.push(Kind::Leaf(place as f64));
            }
        }
        // Left children are the next questions, so leaves stand at even places from 2 on.
        let mut ordered = vec![nodes[0]];
        for pair in nodes[1..].chunks(2) {
            ordered.extend([pair[1], pair[0]]);
        }
        ordered.extend([Kind::Leaf(-1.0), Kind::Leaf(-2.0)]);
        let nodes = ordered.into_iter().map(|kind| Plain { kind, cover: 0.0 }).collect();
        let tree = PlainTree { output: 0, nodes };
        assert_eq!(lanes(std::slice::from_ref(&tree)).len(), 3);
        // So deep a tree is walked by its definition only to compare a few questions.
        for x in [0.5, 1.0, 65_534.0, 65_534.5, 65_535.0, 131_070.5, count as f64, 1e9] {
            let packed = lanes(std::slice::from_ref(&tree));
            let keys: Vec<u16> = packed.iter().map(|lane| lane.key(&[x])).collect();
            for node in tree.nodes.iter().step_by(997) {
                if let Kind::Split { threshold, .. } = node.kind {
                    let word = pack(node, 0, &packed);
                    let right =
                        ((word + u64::from(keys[(word >> 48) as usize / SIDE])) >> 16) as u32 != (word >> 16) as u32;
                    assert_eq!(right, x > threshold, "{x} and {threshold}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let leaf = |value| Plain {
            kind: Kind::Leaf(value),
            cover: 1.0,
        };
        let split = |input, threshold, left| Plain {
            kind: Kind::Split {
                input,
                threshold,
                missing_left: false,
                left,
            },
            cover: 1.0,
        };
        for nodes in [
            vec![],
            vec![leaf(f64::NAN)],
            vec![leaf(1.0), leaf(2.0)],
            vec![split(0, 0.0, 1), leaf(1.0)],
            vec![split(1, 0.0, 1), leaf(1.0), leaf(2.0)],
            vec![split(0, f64::INFINITY, 1), leaf(1.0), leaf(2.0)],
            vec![split(0, 0.0, 0), leaf(1.0), leaf(2.0)],
            // A child of two.
            vec![
                split(0, 0.0, 1),
                split(0, 0.0, 3),
                split(0, 0.0, 3),
                leaf(1.0),
                leaf(2.0),
            ],
        ] {
            let tree = PlainTree { output: 0, nodes };
            assert!(Packed::new(1, 1, std::slice::from_ref(&tree)).is_err(), "{tree:?}");
        }
        let stump = PlainTree {
            output: 1,
            nodes: vec![leaf(1.0)],
        };
        assert!(Packed::new(1, 1, &[stump]).is_err() && Packed::new(1, 1, &[]).is_err());
    }
}
