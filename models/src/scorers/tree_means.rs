//! `tree-means`: trees whose leaves hold what the rows in them were, a mean value or the shares of classes, and the mean
//! over the trees.
//!
//! Shares are as if one tree more, which asks nothing, answered with those of all rows: no class is ever impossible.
//! Those of several classes are raised to a power and divided by their sum: by one above 1 they become surer.

use std::sync::Arc;

use super::linear::softmax;
use super::walk::{Kind, Packed, Plain, PlainTree};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "tree-means";
/// Classes at most.
const CLASSES_MAX: u64 = 65_536;
/// Marks a leaf, in place of the input that a node looks at.
const LEAF: u32 = u32::MAX;
/// Bytes of a node in an artifact.
const NODE_BYTES: usize = 16;

/// A node of a tree. Children of a node stand side by side, behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    threshold: f64,
    /// The input, or [`LEAF`].
    input: u32,
    /// The child for inputs up to the threshold, counted from the tree's root; the other one follows it.
    left: u32,
}

impl Node {
    /// A node that sends inputs of at most `threshold` to `left`, and others to `left + 1`.
    pub(crate) fn split(input: u32, threshold: f64, left: u32) -> Self {
        Self { threshold, input, left }
    }

    /// The end of a path.
    pub(crate) fn leaf() -> Self {
        Self {
            threshold: 0.0,
            input: LEAF,
            left: 0,
        }
    }

    /// The place of its left child, which the right one follows; none of a leaf.
    pub(crate) fn children(&self) -> Option<usize> {
        (self.input != LEAF).then_some(self.left as usize)
    }
}

/// Whether every path ends in a leaf: children stand behind their parent and within the tree.
fn leads_to_leaves(tree: &[Node], width: usize) -> bool {
    let leads = |(index, node): (usize, &Node)| match node.children() {
        None => true,
        Some(left) => {
            (node.input as usize) < width && left > index && left + 1 < tree.len() && node.threshold.is_finite()
        }
    };
    !tree.is_empty() && tree.iter().enumerate().all(leads)
}

/// The place of the node to which a node sends a row, and the input that it asked; none from a leaf.
#[inline]
fn step(node: &Node, row: &[f64]) -> Option<(usize, usize)> {
    let input = node.input as usize;
    let x = row.get(input)?;
    let is_left = matches!(x.partial_cmp(&node.threshold), Some(order) if order.is_le());
    Some((node.left as usize + usize::from(!is_left), input))
}

/// The place of the leaf in which a row ends.
#[inline]
pub(crate) fn leaf_of(tree: &[Node], row: &[f64]) -> usize {
    let mut at = 0;
    // Checked when the trees were made: `get` always finds something, and the loop ends.
    while let Some((next, _)) = tree.get(at).and_then(|node| step(node, row)) {
        at = next;
    }
    at
}

fn write_tree(tree: &[Node], out: &mut Vec<u8>) {
    out.put_u64(tree.len() as u64);
    for node in tree {
        out.put_f64(node.threshold);
        out.put_u32(node.input);
        out.put_u32(node.left);
    }
}

fn read_tree(reader: &mut Reader<'_>) -> Result<Box<[Node]>, CodecError> {
    let nodes = reader.count(NODE_BYTES)?;
    let node = |_| {
        Ok(Node {
            threshold: reader.finite()?,
            input: reader.u32()?,
            left: reader.u32()?,
        })
    };
    (0..nodes).map(node).collect()
}

/// What the nodes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A value.
    Value,
    /// The share of class 1.
    Binary,
    /// The share of each of so many classes.
    Classes(usize),
}

impl Answer {
    /// Numbers of a node.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::Value | Self::Binary => 1,
            Self::Classes(classes) => classes,
        }
    }
}

/// Questions, and what the rows were that came to each of its nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    pub(crate) nodes: Box<[Node]>,
    /// [`Answer::outputs`] numbers for each node.
    pub(crate) values: Vec<f64>,
}

impl Tree {
    /// In the form in which it is walked: a leaf's value is what it says, or where it says the shares of several classes
    /// its place in the tree.
    fn plain(&self, answer: Answer, index: usize) -> PlainTree {
        let node = |(place, node): (usize, &Node)| {
            let kind = match (node.children(), answer) {
                (Some(left), _) => Kind::Split {
                    input: node.input,
                    threshold: node.threshold,
                    missing_left: false,
                    left: left as u32,
                },
                (None, Answer::Classes(_)) => Kind::Leaf(place as f64),
                (None, Answer::Value | Answer::Binary) => {
                    Kind::Leaf(self.values.get(place).copied().unwrap_or_default())
                }
            };
            Plain { kind, cover: 0.0 }
        };
        PlainTree {
            output: if matches!(answer, Answer::Classes(_)) { index } else { 0 },
            nodes: self.nodes.iter().enumerate().map(node).collect(),
        }
    }
}

/// The mean over trees.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TreeMeans {
    answer: Answer,
    width: usize,
    trees: Vec<Tree>,
    /// The same, packed to be walked; not where they ask more inputs than can be packed.
    packed: Option<Packed>,
    /// The mean of what the roots hold.
    all: Vec<f64>,
    /// To which the shares of several classes are raised.
    power: f64,
}

impl TreeMeans {
    /// Trees over `width` inputs.
    ///
    /// # Errors
    /// No tree; trees that look at inputs that are not there or do not lead to a leaf; numbers that are no values or
    /// shares, or too many or few.
    pub(crate) fn new(answer: Answer, width: usize, trees: Vec<Tree>) -> Result<Self, String> {
        let outputs = answer.outputs();
        if trees.is_empty() || width > WIDTH_MAX {
            return Err(format!("{} trees over {width} inputs", trees.len()));
        }
        if let Some(tree) = trees.iter().position(|tree| !leads_to_leaves(&tree.nodes, width)) {
            return Err(format!("tree {tree} has a node that leads nowhere"));
        }
        let is_number = |x: &f64| match answer {
            Answer::Value => x.abs() <= 1e200,
            Answer::Binary | Answer::Classes(_) => (0.0..=1.0).contains(x),
        };
        let fits = |tree: &Tree| tree.values.len() == tree.nodes.len() * outputs && tree.values.iter().all(is_number);
        if let Some(tree) = trees.iter().position(|tree| !fits(tree)) {
            return Err(format!(
                "tree {tree} does not hold {outputs} numbers for each of its nodes"
            ));
        }
        let plain = trees.iter().enumerate().map(|(index, tree)| tree.plain(answer, index));
        let sums = if matches!(answer, Answer::Classes(_)) {
            trees.len()
        } else {
            1
        };
        let packed = Packed::new(width, sums, &plain.collect::<Vec<_>>()).ok();
        let mut all = vec![0.0; outputs];
        for tree in &trees {
            let root = tree.values.iter().take(outputs);
            all.iter_mut()
                .zip(root)
                .for_each(|(all, value)| *all += value / trees.len() as f64);
        }
        Ok(Self {
            answer,
            width,
            trees,
            packed,
            all,
            power: 1.0,
        })
    }

    /// The same trees, whose shares are raised to another power, from 0 to 100.
    pub(crate) fn with_power(self, power: f64) -> Self {
        Self {
            power: power.clamp(0.0, 100.0),
            ..self
        }
    }

    /// What the trees say of a row together, without those that are left out, as logarithms; none where all are.
    pub(crate) fn logs_without(&self, row: &[f64], left_out: impl Fn(usize) -> bool) -> Option<Vec<f64>> {
        let (outputs, count) = (self.answer.outputs(), self.trees.len() as f64);
        let mut sums = vec![0.0; outputs];
        let mut asked = 0.0;
        for (_, tree) in self.trees.iter().enumerate().filter(|(tree, _)| !left_out(*tree)) {
            let leaf = leaf_of(&tree.nodes, row) * outputs;
            let values = tree.values.get(leaf..leaf + outputs).unwrap_or_default();
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            asked += 1.0;
        }
        // The fewer that are asked speak for all.
        let of_all = |(sum, all): (&f64, &f64)| (sum / asked * count + all) / (count + 1.0);
        (asked > 0.0).then(|| sums.iter().zip(&self.all).map(of_all).map(f64::ln).collect())
    }

    /// Appends the shares of the classes, given the place of the leaf of each tree.
    fn shares(&self, classes: usize, places: &[f64], out: &mut Vec<f64>) {
        let start = out.len();
        out.resize(start + classes, 0.0);
        let sums = &mut out[start..];
        for (tree, place) in self.trees.iter().zip(places) {
            let leaf = *place as usize * classes;
            let values = tree.values.get(leaf..leaf + classes).unwrap_or_default();
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        for (sum, all) in sums.iter_mut().zip(&self.all) {
            *sum = self.with_all(*sum, *all);
        }
        if self.power != 1.0 {
            sums.iter_mut().for_each(|share| *share = self.power * share.ln());
            softmax(sums);
        }
    }

    /// Appends what is said of one row, tree by tree.
    fn score_row(&self, row: &[f64], out: &mut Vec<f64>) {
        let places = self.trees.iter().map(|tree| leaf_of(&tree.nodes, row));
        match self.answer {
            Answer::Value | Answer::Binary => {
                let values = self
                    .trees
                    .iter()
                    .zip(places)
                    .map(|(tree, place)| tree.values.get(place));
                out.push(self.mean(values.flatten().fold(0.0, |sum, value| sum + value)));
            }
            Answer::Classes(classes) => {
                let places: Vec<f64> = places.map(|place| place as f64).collect();
                self.shares(classes, &places, out);
            }
        }
    }

    /// The mean of one number of all trees.
    fn mean(&self, sum: f64) -> f64 {
        match self.answer {
            Answer::Value => sum / self.trees.len() as f64,
            Answer::Binary | Answer::Classes(_) => self.with_all(sum, self.all.first().copied().unwrap_or_default()),
        }
    }

    /// The mean share of all trees, and of the one that asks nothing.
    fn with_all(&self, sum: f64, all: f64) -> f64 {
        ((sum + all) / (self.trees.len() as f64 + 1.0)).min(1.0)
    }
}

impl Scorer for TreeMeans {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        self.answer.outputs()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        let Some(packed) = &self.packed else {
            return x.iter().for_each(|row| self.score_row(row, out));
        };
        match self.answer {
            Answer::Value | Answer::Binary => packed.sums(x, &[0.0], |sums| {
                out.extend(sums.iter().map(|sum| self.mean(*sum)));
            }),
            Answer::Classes(classes) => {
                let base = vec![0.0; self.trees.len()];
                packed.sums(x, &base, |places| self.shares(classes, places, out));
            }
        }
    }

    /// A question adds what the mean of the rows changes by it (Saabas 2014). Shares have no log-odds to add up to.
    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        if self.answer != Answer::Value {
            return false;
        }
        let count = self.trees.len() as f64;
        for row in x.iter() {
            let start = out.len();
            out.resize(start + self.width, 0.0);
            for tree in &self.trees {
                let mut at = 0;
                while let Some((next, input)) = tree.nodes.get(at).and_then(|node| step(node, row)) {
                    let value = |at: usize| tree.values.get(at).copied().unwrap_or_default();
                    out[start + input] += (value(next) - value(at)) / count;
                    at = next;
                }
            }
            out.extend(&self.all);
        }
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (kind, classes) = match self.answer {
            Answer::Value => (0, 0),
            Answer::Binary => (1, 2),
            Answer::Classes(classes) => (2, classes),
        };
        out.put_u8(kind);
        out.put_u64(classes as u64);
        out.put_u64(self.width as u64);
        out.put_f64(self.power);
        out.put_u64(self.trees.len() as u64);
        for tree in &self.trees {
            write_tree(&tree.nodes, out);
            out.put_f64s(&tree.values);
        }
    }

    fn bytes(&self) -> usize {
        let of_tree = |tree: &Tree| size_of::<Tree>() + size_of_val(&*tree.nodes) + size_of_val(&*tree.values);
        size_of::<Self>()
            + self.packed.as_ref().map_or(0, Packed::bytes)
            + self.trees.iter().map(of_tree).sum::<usize>()
    }
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let (kind, classes) = (reader.u8()?, reader.u64()?);
    let answer = match (kind, classes) {
        (0, 0) => Answer::Value,
        (1, 2) => Answer::Binary,
        (2, 2..=CLASSES_MAX) => Answer::Classes(classes as usize),
        _ => return Err(reader.error(format!("{kind} with {classes} classes is no answer"))),
    };
    let width = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
    let power = reader.finite()?;
    let count = reader.count(16)?;
    let mut trees = Vec::with_capacity(count);
    for _ in 0..count {
        let (nodes, values) = (read_tree(reader)?, reader.f64s()?);
        trees.push(Tree { nodes, values });
    }
    match TreeMeans::new(answer, width, trees) {
        Ok(trees) if (0.0..=100.0).contains(&power) => Ok(Arc::new(trees.with_power(power))),
        Ok(_) => Err(reader.error(format!("{power} is no power of shares"))),
        Err(what) => Err(reader.error(what)),
    }
}

/// Two trees of values over two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    let one = Tree {
        nodes: Box::new([Node::split(0, 0.5, 1), Node::leaf(), Node::leaf()]),
        values: vec![1.0, 0.5, 2.0],
    };
    let two = Tree {
        nodes: Box::new([
            Node::split(1, -1.0, 1),
            Node::leaf(),
            Node::split(0, 0.0, 3),
            Node::leaf(),
            Node::leaf(),
        ]),
        values: vec![1.5, -1.0, 2.0, 1.0, 4.0],
    };
    let trees = TreeMeans::new(Answer::Value, 2, vec![one, two]);
    Arc::new(trees.unwrap_or_else(|what| unreachable!("{what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(threshold: f64, values: &[f64]) -> Tree {
        Tree {
            nodes: Box::new([Node::split(0, threshold, 1), Node::leaf(), Node::leaf()]),
            values: values.to_vec(),
        }
    }

    fn scores(answer: Answer, trees: Vec<Tree>) -> Vec<f64> {
        let mut x = Matrix::new();
        x.reset(3, 1);
        x.values_mut().copy_from_slice(&[0.0, 1.5, f64::NAN]);
        let mut out = Vec::new();
        TreeMeans::new(answer, 1, trees).unwrap().score(&x, &mut out);
        out
    }

    #[test]
    fn the_mean_of_values_and_of_shares() {
        let trees = vec![stump(1.0, &[0.0, 3.0, 8.0]), stump(2.0, &[0.0, 5.0, 6.0])];
        assert_eq!(scores(Answer::Value, trees), [4.0, 6.5, 7.0]);
        let trees = vec![stump(1.0, &[0.25, 0.0, 1.0]), stump(2.0, &[0.25, 0.5, 1.0])];
        assert_eq!(scores(Answer::Binary, trees), [0.25, 1.75 / 3.0, 0.75]);
        let trees = vec![stump(1.0, &[0.5, 0.5, 1.0, 0.0, 0.0, 1.0])];
        assert_eq!(
            scores(Answer::Classes(2), trees.clone()),
            [0.75, 0.25, 0.25, 0.75, 0.25, 0.75]
        );
        let squared = TreeMeans::new(Answer::Classes(2), 1, trees).unwrap().with_power(2.0);
        let mut x = Matrix::new();
        x.reset(1, 1);
        let mut out = Vec::new();
        squared.score(&x, &mut out);
        assert!((out[0] - 0.9).abs() < 1e-15 && (out[1] - 0.1).abs() < 1e-15, "{out:?}");
        let mut written = Vec::new();
        squared.write(&mut written);
        let (read, mut again) = (super::read(&mut Reader::new(&written)).unwrap(), Vec::new());
        read.score(&x, &mut again);
        assert_eq!(again, out);
        assert_eq!(squared.logs_without(&[0.0], |_| true), None);
        assert_eq!(
            squared.logs_without(&[0.0], |_| false),
            Some(vec![0.75_f64.ln(), 0.25_f64.ln()])
        );
    }

    #[test]
    fn trees_say_the_same_where_they_ask_more_inputs_than_can_be_packed() {
        for (width, is_packed) in [(4_000, true), (5_000, false)] {
            for (answer, values) in [
                (Answer::Value, &[0.0, 3.0, 8.0][..]),
                (Answer::Binary, &[0.25, 0.0, 1.0]),
                (Answer::Classes(2), &[0.5, 0.5, 1.0, 0.0, 0.0, 1.0]),
            ] {
                let stump = |input: usize| Tree {
                    nodes: Box::new([Node::split(input as u32, 0.5, 1), Node::leaf(), Node::leaf()]),
                    values: values.to_vec(),
                };
                let trees = TreeMeans::new(answer, width, (0..width).map(stump).collect()).unwrap();
                assert_eq!(trees.packed.is_some(), is_packed);
                // In row `r` the first `100 * r` inputs send their trees right.
                let mut x = Matrix::new();
                x.reset(40, width);
                for (row, x) in x.values_mut().chunks_mut(width).enumerate() {
                    x[..100 * row].fill(1.0);
                }
                let mut scores = Vec::new();
                trees.score(&x, &mut scores);
                let all = width as f64;
                for (row, scores) in scores.chunks(answer.outputs()).enumerate() {
                    let right = 100.0 * row as f64;
                    let expected = match answer {
                        Answer::Value => vec![3.0 + 5.0 * right / all],
                        Answer::Binary => vec![(right + 0.25) / (all + 1.0)],
                        Answer::Classes(_) => vec![(all - right + 0.5) / (all + 1.0), (right + 0.5) / (all + 1.0)],
                    };
                    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
                    assert!(
                        scores.len() == expected.len() && scores.iter().zip(&expected).all(near),
                        "{width} inputs, {answer:?}, row {row}: {scores:?}, {expected:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_tree_of_values_or_shares_is_refused() {
        for (answer, values) in [
            (Answer::Value, &[0.0, 1.0][..]),
            (Answer::Value, &[0.0, f64::NAN, 1.0]),
            (Answer::Binary, &[0.0, 1.0, 1.1]),
            (Answer::Classes(2), &[0.0, 1.0, 1.0]),
        ] {
            assert!(TreeMeans::new(answer, 1, vec![stump(0.0, values)]).is_err());
        }
        assert!(TreeMeans::new(Answer::Value, 0, vec![stump(0.0, &[0.0; 3])]).is_err());
        assert!(TreeMeans::new(Answer::Value, 1, vec![]).is_err());
    }
}
