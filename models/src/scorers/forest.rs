//! `forest`: trees of one vote each, in flat arrays; the share of votes is mapped to a probability by a table.
//!
//! The table holds a probability for every possible number of votes, strictly increasing. So the majority's answer
//! (that of smartcore's forest, ties going to class 0) is `score > Forest::majority`, exactly, whatever the
//! calibration; and a forest whose every tree says 'no' to a payment that is fraud one time in five can say so.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "forest";
/// Marks a leaf, in place of the input that a node looks at.
const LEAF: u32 = u32::MAX;
/// Bytes of a node in an artifact.
const NODE_BYTES: usize = 16;

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
}

/// Votes of many trees on two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    width: usize,
    /// For each tree its nodes, the root first.
    trees: Vec<Box<[Node]>>,
    /// Probability of class 1 for 0, 1, …, all votes.
    calibration: Vec<f64>,
}

impl Forest {
    /// A forest over `width` inputs.
    ///
    /// # Errors
    /// Trees that look at inputs that are not there or do not lead to a leaf; a calibration that has not one
    /// probability for each number of votes, or does not increase.
    pub fn new(width: usize, trees: Vec<Box<[Node]>>, calibration: Vec<f64>) -> Result<Self, String> {
        if width > WIDTH_MAX {
            return Err(format!(
                "a forest over {width} inputs, at most {WIDTH_MAX} are possible"
            ));
        }
        if trees.is_empty() {
            return Err("a forest without a tree".to_owned());
        }
        if let Some(tree) = trees.iter().position(|tree| !leads_to_leaves(tree, width)) {
            return Err(format!("tree {tree} has a node that leads nowhere"));
        }
        let grows = calibration.windows(2).all(|pair| pair[0] < pair[1]);
        let probabilities = calibration.iter().all(|p| (0.0..=1.0).contains(p));
        if calibration.len() != trees.len() + 1 || !grows || !probabilities {
            return Err("the calibration is not one increasing probability for each number of votes".to_owned());
        }
        Ok(Self {
            width,
            trees,
            calibration,
        })
    }

    /// The score above which the majority of the trees votes for class 1.
    #[must_use]
    pub fn majority(&self) -> f64 {
        self.calibration.get(self.trees.len() / 2).copied().unwrap_or(0.5)
    }

    /// Nodes of all trees.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.trees.iter().map(|tree| tree.len()).sum()
    }
}

/// Whether every path ends in a leaf: children stand behind their parent and within the tree.
fn leads_to_leaves(tree: &[Node], width: usize) -> bool {
    !tree.is_empty()
        && tree.iter().enumerate().all(|(index, node)| {
            if node.input == LEAF {
                node.left <= 1
            } else {
                let left = node.left as usize;
                (node.input as usize) < width && left > index && left + 1 < tree.len() && node.threshold.is_finite()
            }
        })
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
        self.width
    }

    fn outputs(&self) -> usize {
        1
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        // Tree by tree over a few rows: the tree stays in the cache, and the walks of the rows overlap.
        let mut votes = [0_usize; 64];
        let mut rows = x.iter();
        loop {
            let block: Vec<&[f64]> = rows.by_ref().take(votes.len()).collect();
            if block.is_empty() {
                return;
            }
            let votes = &mut votes[..block.len()];
            votes.fill(0);
            for tree in &self.trees {
                for (votes, row) in votes.iter_mut().zip(&block) {
                    *votes += vote(tree, row);
                }
            }
            out.extend(
                votes
                    .iter()
                    .map(|&votes| self.calibration.get(votes).copied().unwrap_or(0.5)),
            );
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.width as u64);
        out.put_u64(self.trees.len() as u64);
        for tree in &self.trees {
            out.put_u64(tree.len() as u64);
            for node in tree {
                out.put_f64(node.threshold);
                out.put_u32(node.input);
                out.put_u32(node.left);
            }
        }
        out.put_f64s(&self.calibration);
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.nodes() * size_of::<Node>()
            + self.trees.len() * size_of::<Box<[Node]>>()
            + self.calibration.len() * size_of::<f64>()
    }
}

/// Two trees over two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    let tree = |input, threshold| -> Box<[Node]> {
        Box::new([Node::split(input, threshold, 1), Node::leaf(false), Node::leaf(true)])
    };
    Arc::new(Forest {
        width: 2,
        trees: vec![tree(0, 0.5), tree(1, -1.0)],
        calibration: vec![0.1, 0.4, 0.9],
    })
}

/// Reads what the scorer wrote.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let width = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
    let count = reader.count(8 + NODE_BYTES)?;
    let mut trees = Vec::with_capacity(count);
    for _ in 0..count {
        let nodes = reader.count(NODE_BYTES)?;
        let node = |_| {
            Ok(Node {
                threshold: reader.finite()?,
                input: reader.u32()?,
                left: reader.u32()?,
            })
        };
        trees.push((0..nodes).map(node).collect::<Result<Box<[Node]>, CodecError>>()?);
    }
    let calibration = reader.f64s()?;
    match Forest::new(width, trees, calibration) {
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
        let forest = Forest::new(1, vec![stump(1.0), stump(2.0)], vec![0.1, 0.2, 0.9]).unwrap();
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
        let odd = Forest::new(1, vec![stump(1.0), stump(2.0), stump(3.0)], vec![0.1, 0.2, 0.3, 0.4]).unwrap();
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
            assert!(Forest::new(1, vec![tree.clone()], cal()).is_err(), "{tree:?}");
        }
        assert!(Forest::new(1, vec![], vec![0.5]).is_err());
        assert!(Forest::new(1, vec![stump(0.0)], vec![0.5, 0.5]).is_err());
        assert!(Forest::new(1, vec![stump(0.0)], vec![0.5]).is_err());
    }
}
