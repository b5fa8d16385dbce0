//! `forest`: trees of one vote each, in flat arrays; the share of votes is mapped to a probability by a table.
//!
//! The table holds a probability for every possible number of votes, strictly increasing. So the majority's answer
//! (that of smartcore's forest, ties going to class 0) is `score > Forest::majority`, exactly, whatever the
//! calibration; and a forest whose every tree says 'no' to a payment that is fraud one time in five can say so.

use std::sync::Arc;

use super::ensemble::explained;
use super::walk::{Kind, Packed, Plain, PlainTree};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "forest";
/// Marks a leaf, in place of the input that a node looks at.
const LEAF: u32 = u32::MAX;
/// Bytes of a node in an artifact, without its cover.
const NODE_BYTES: usize = 16;
/// What a forest whose nodes have covers begins with, in place of its width.
const WITH_COVERS: u64 = u64::MAX;

/// A node of a tree. Children of a node stand side by side, behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    threshold: f64,
    /// The input, or [`LEAF`].
    input: u32,
    /// The child for inputs up to the threshold, counted from the tree's root; the other one follows it. In a leaf,
    /// the class.
    left: u32,
}

impl Node {
    /// A node that sends inputs of at most `threshold` to `left`, and others to `left + 1`.
    #[must_use]
    pub fn split(input: u32, threshold: f64, left: u32) -> Self {
        Self { threshold, input, left }
    }

    /// A leaf that votes for class 1 or for class 0.
    #[must_use]
    pub fn leaf(class_1: bool) -> Self {
        Self {
            threshold: 0.0,
            input: LEAF,
            left: u32::from(class_1),
        }
    }

    /// In the form of every tree. A leaf of another class than 0 and 1 has no value.
    fn plain(&self, cover: f32) -> Plain {
        let kind = match (self.input, self.left) {
            (LEAF, class @ (0 | 1)) => Kind::Leaf(f64::from(class)),
            (LEAF, _) => Kind::Leaf(f64::NAN),
            (input, left) => Kind::Split {
                input,
                threshold: self.threshold,
                missing_left: false,
                left,
            },
        };
        Plain { kind, cover }
    }

    /// What [`Node::plain`] was made of.
    fn from_plain(plain: &Plain) -> Self {
        match plain.kind {
            Kind::Leaf(class) => Self::leaf(class > 0.5),
            Kind::Split {
                input, threshold, left, ..
            } => Self::split(input, threshold, left),
        }
    }
}

/// Votes of many trees on two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Their values are their votes.
    trees: Packed,
    /// Probability of class 1 for 0, 1, …, all votes.
    calibration: Vec<f64>,
}

impl Forest {
    /// A forest over `width` inputs. `covers`, if there are some, tell for each node of each tree how many training rows
    /// came to it.
    ///
    /// # Errors
    /// Trees that look at inputs that are not there or do not lead to a leaf; covers of other trees; a calibration that
    /// has not one probability for each number of votes, or does not increase.
    pub fn new(
        width: usize,
        trees: &[Box<[Node]>],
        covers: Option<&[Vec<f32>]>,
        calibration: Vec<f64>,
    ) -> Result<Self, String> {
        let grows = calibration.windows(2).all(|pair| pair[0] < pair[1]);
        let probabilities = calibration.iter().all(|p| (0.0..=1.0).contains(p));
        if calibration.len() != trees.len() + 1 || !grows || !probabilities {
            return Err("the calibration is not one increasing probability for each number of votes".to_owned());
        }
        let plain = trees.iter().enumerate().map(|(index, tree)| {
            let covers = covers.map(|covers| covers.get(index).map_or(&[][..], Vec::as_slice));
            if covers.is_some_and(|covers| covers.len() != tree.len()) {
                return Err(format!("tree {index} has not one cover for each node"));
            }
            let cover = |place: usize| covers.and_then(|covers| covers.get(place)).copied().unwrap_or(0.0);
            let nodes = tree.iter().enumerate().map(|(place, node)| node.plain(cover(place)));
            Ok(PlainTree {
                output: 0,
                nodes: nodes.collect(),
            })
        });
        let trees = Packed::new(width, 1, &plain.collect::<Result<Vec<_>, String>>()?)?;
        Ok(Self { trees, calibration })
    }

    /// The score above which the majority of the trees votes for class 1.
    #[must_use]
    pub fn majority(&self) -> f64 {
        self.calibration.get(self.trees.len() / 2).copied().unwrap_or(0.5)
    }

    /// Nodes of all trees.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.trees.node_count()
    }

    /// The log-odds after `votes`, on a straight line between whole numbers of them, and the line's slope.
    fn line(&self, log_odds: &[f64], votes: f64) -> (f64, f64) {
        let place = (votes.max(0.0) as usize).min(log_odds.len().saturating_sub(2));
        match log_odds.get(place..) {
            Some([low, high, ..]) => (low + (high - low) * (votes - place as f64), high - low),
            _ => (0.0, 0.0),
        }
    }
}

/// The vote of one tree, 0 or 1.
#[inline]
#[must_use]
pub fn vote(tree: &[Node], row: &[f64]) -> usize {
    let mut at = 0;
    // Checked when the forest was made: `get` always finds something, and the loop ends.
    while let Some(node) = tree.get(at) {
        let Some(&x) = row.get(node.input as usize) else {
            return node.left as usize & 1;
        };
        at = node.left as usize + usize::from(!matches!(x.partial_cmp(&node.threshold), Some(o) if o.is_le()));
    }
    0
}

impl Scorer for Forest {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.trees.width()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        self.trees.sums(x, &[0.0], |votes| {
            let votes = votes.first().map_or(0, |votes| *votes as usize);
            out.push(self.calibration.get(votes).copied().unwrap_or(0.5));
        });
    }

    /// Votes are shared out over the inputs; what the table makes of all of them together is shared out in the same
    /// proportion, since its log-odds are no straight line of the votes.
    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        let log_odds: Vec<f64> = self.calibration.iter().map(|p| (p / (1.0 - p)).ln()).collect();
        let finite = log_odds.iter().all(|log_odds| log_odds.is_finite());
        let Some(parts) = explained(&self.trees, 1).filter(|_| finite) else {
            return false;
        };
        for row in x.iter() {
            let votes = parts(row);
            let (mean, own) = (
                votes.last().copied().unwrap_or_default(),
                votes.iter().sum::<f64>().round(),
            );
            let ((base, slope), (score, _)) = (self.line(&log_odds, mean), self.line(&log_odds, own));
            let inputs = votes.get(..self.width()).unwrap_or_default();
            let moved: f64 = inputs.iter().sum();
            let scale = if moved.abs() > 1e-9 {
                (score - base) / moved
            } else {
                slope
            };
            let shares = inputs.iter().map(|votes| scale * votes);
            out.extend(shares);
            out.push(if moved.abs() > 1e-9 {
                base
            } else {
                score - scale * moved
            });
        }
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        // Forests of before, whose nodes had no covers, are written as they were.
        let covers = self.trees.has_covers();
        if covers {
            out.put_u64(WITH_COVERS);
        }
        out.put_u64(self.trees.width() as u64);
        out.put_u64(self.trees.len() as u64);
        for tree in self.trees.trees() {
            out.put_u64(tree.nodes.len() as u64);
            for plain in &tree.nodes {
                let node = Node::from_plain(plain);
                out.put_f64(node.threshold);
                out.put_u32(node.input);
                out.put_u32(node.left);
                if covers {
                    out.put_u32(plain.cover.to_bits());
                }
            }
        }
        out.put_f64s(&self.calibration);
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.trees.bytes() + self.calibration.len() * size_of::<f64>()
    }
}

/// Two trees over two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    let tree = |input, threshold| -> Box<[Node]> {
        Box::new([Node::split(input, threshold, 1), Node::leaf(false), Node::leaf(true)])
    };
    let trees = [tree(0, 0.5), tree(1, -1.0)];
    let covers = [vec![8.0, 5.0, 3.0], vec![9.0, 2.0, 7.0]];
    let forest = Forest::new(2, &trees, Some(&covers), vec![0.1, 0.4, 0.9]);
    Arc::new(forest.unwrap_or_else(|what| unreachable!("{what}")))
}

/// Reads what the scorer wrote.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let mut first = reader.u64()?;
    let has_covers = first == WITH_COVERS;
    if has_covers {
        first = reader.u64()?;
    }
    let width = usize::try_from(first).unwrap_or(usize::MAX);
    let count = reader.count(8 + NODE_BYTES)?;
    let (mut trees, mut covers) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let nodes = reader.count(NODE_BYTES)?;
        let (mut tree, mut of_tree) = (Vec::with_capacity(nodes), Vec::new());
        for _ in 0..nodes {
            tree.push(Node {
                threshold: reader.finite()?,
                input: reader.u32()?,
                left: reader.u32()?,
            });
            if has_covers {
                of_tree.push(f32::from_bits(reader.u32()?));
            }
        }
        trees.push(tree.into_boxed_slice());
        covers.push(of_tree);
    }
    let calibration = reader.f64s()?;
    match Forest::new(width, &trees, has_covers.then_some(&covers), calibration) {
        Ok(forest) => Ok(Arc::new(forest)),
        Err(what) => Err(reader.error(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Votes for class 1 above `threshold` of input 0.
    fn stump(threshold: f64) -> Box<[Node]> {
        Box::new([Node::split(0, threshold, 1), Node::leaf(false), Node::leaf(true)])
    }

    #[test]
    fn votes_are_counted_and_the_majority_decides() {
        let forest = Forest::new(1, &[stump(1.0), stump(2.0)], None, vec![0.1, 0.2, 0.9]).unwrap();
        let mut x = Matrix::new();
        x.reset(200, 1);
        x.values_mut()
            .iter_mut()
            .enumerate()
            .for_each(|(row, x)| *x = row as f64 / 10.0);
        let mut scores = Vec::new();
        forest.score(&x, &mut scores);
        assert_eq!(scores.len(), 200);
        assert_eq!((scores[10], scores[11], scores[20], scores[21]), (0.1, 0.2, 0.2, 0.9));
        assert_eq!(forest.majority(), 0.2, "a tie goes to class 0");
        let odd = Forest::new(1, &[stump(1.0), stump(2.0), stump(3.0)], None, vec![0.1, 0.2, 0.3, 0.4]).unwrap();
        assert_eq!(odd.majority(), 0.2);
    }

    #[test]
    fn trees_that_lead_nowhere_are_refused() {
        let cal = || vec![0.0, 1.0];
        let bad: [Box<[Node]>; 5] = [
            Box::new([]),
            Box::new([Node::split(0, 0.0, 0), Node::leaf(true)]),
            Box::new([Node::split(1, 0.0, 1), Node::leaf(true), Node::leaf(true)]),
            Box::new([Node::split(0, 0.0, 1), Node::leaf(true)]),
            Box::new([Node::split(0, f64::NAN, 1), Node::leaf(true), Node::leaf(true)]),
        ];
        for tree in bad {
            assert!(
                Forest::new(1, std::slice::from_ref(&tree), None, cal()).is_err(),
                "{tree:?}"
            );
        }
        assert!(Forest::new(1, &[], None, vec![0.5]).is_err());
        assert!(Forest::new(1, &[stump(0.0)], None, vec![0.5, 0.5]).is_err());
        assert!(Forest::new(1, &[stump(0.0)], None, vec![0.5]).is_err());
    }

    #[test]
    fn forests_of_before_are_read_and_written_as_they_were() {
        let mut bytes = Vec::new();
        bytes.put_u64(1);
        bytes.put_u64(1);
        bytes.put_u64(3);
        for (threshold, input, left) in [(0.5, 0, 1), (0.0, LEAF, 0), (0.0, LEAF, 1)] {
            bytes.put_f64(threshold);
            bytes.put_u32(input);
            bytes.put_u32(left);
        }
        bytes.put_f64s(&[0.25, 0.75]);
        let mut reader = Reader::new(&bytes);
        let forest = read(&mut reader).unwrap();
        reader.finish().unwrap();
        let mut x = Matrix::new();
        x.reset(4, 1);
        x.values_mut().copy_from_slice(&[0.0, 0.5, 0.6, f64::NAN]);
        let (mut scores, mut written) = (Vec::new(), Vec::new());
        forest.score(&x, &mut scores);
        assert_eq!(scores, [0.25, 0.25, 0.75, 0.75]);
        forest.write(&mut written);
        assert_eq!(written, bytes);
        assert!(
            !forest.contributions(&x, &mut Vec::new()),
            "without covers nothing is known of a missing input"
        );
    }
}
