//! `ensemble`: sums of trees, as they are or through the logistic or softmax function: what boosting makes.

use std::sync::Arc;

use super::linear::{Link, logistic, softmax};
use super::shap;
use super::walk::{Kind, Packed, Plain, PlainTree};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::matrix::Matrix;

/// The name in artifacts.
pub(crate) const FORMAT: &str = "ensemble";
/// Marks a leaf, in place of the input that a node looks at.
const LEAF: u32 = u32::MAX;
/// Bytes of a node in an artifact.
pub(super) const NODE_BYTES: usize = 21;
/// Bytes of a tree in an artifact, at least.
const TREE_BYTES: usize = 12 + NODE_BYTES;
/// Outputs at most.
const OUTPUTS_MAX: usize = 65_536;

/// Trees whose values are added up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ensemble {
    link: Link,
    /// What each output is without a tree.
    base: Vec<f64>,
    trees: Packed,
}

impl Ensemble {
    /// Trees over `width` inputs, added to `base`.
    ///
    /// # Errors
    /// Outputs that the link does not have, a base that is not finite, trees that are none.
    pub(crate) fn new(link: Link, width: usize, base: Vec<f64>, trees: &[PlainTree]) -> Result<Self, String> {
        let outputs = base.len();
        let fits = match link {
            Link::Softmax => (2..=OUTPUTS_MAX).contains(&outputs),
            Link::Identity | Link::Logistic => outputs == 1,
        };
        if !fits || base.iter().any(|base| !base.is_finite()) {
            return Err(format!("{outputs} sums of trees do not fit"));
        }
        let trees = Packed::new(width, outputs, trees)?;
        Ok(Self { link, base, trees })
    }
}

/// Sums beyond are taken for it: values of leaves are finite, and so are these.
const SUM_MAX: f64 = f64::MAX;

impl Scorer for Ensemble {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.trees.width()
    }

    fn outputs(&self) -> usize {
        self.base.len()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        self.trees.sums(x, &self.base, |sums| {
            sums.iter_mut().for_each(|sum| *sum = clamped(*sum));
            match self.link {
                Link::Identity => {}
                Link::Logistic => sums.iter_mut().for_each(|sum| *sum = logistic(*sum)),
                Link::Softmax => softmax(sums),
            }
            out.extend_from_slice(sums);
        });
    }

    fn contributions(&self, x: &Matrix, out: &mut Vec<f64>) -> bool {
        let Some(parts) = explained(&self.trees, self.base.len()) else {
            return false;
        };
        for row in x.iter() {
            let sums = parts(row);
            for (base, sums) in self.base.iter().zip(sums.chunks(self.width() + 1)) {
                out.extend_from_slice(sums);
                if let Some(last) = out.last_mut() {
                    *last += base;
                }
            }
        }
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.link {
            Link::Identity => 0,
            Link::Logistic => 1,
            Link::Softmax => 2,
        });
        out.put_u64(self.trees.width() as u64);
        out.put_f64s(&self.base);
        out.put_u64(self.trees.len() as u64);
        for tree in self.trees.trees() {
            write_tree(&tree, out);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.base.len() * size_of::<f64>() + self.trees.bytes()
    }
}

fn clamped(sum: f64) -> f64 {
    // Values of opposite signs that both overflow leave no number.
    if sum.is_nan() {
        0.0
    } else {
        sum.clamp(-SUM_MAX, SUM_MAX)
    }
}

/// For a row, what each input adds to each sum of trees and then the sum's mean, output by output; nothing where covers
/// are not known or a tree is too deep.
pub(super) fn explained(trees: &Packed, outputs: usize) -> Option<impl Fn(&[f64]) -> Vec<f64>> {
    if !trees.has_covers() || trees.depth() > shap::DEPTH_MAX {
        return None;
    }
    let (width, trees): (usize, Vec<PlainTree>) = (trees.width(), trees.trees().collect());
    Some(move |row: &[f64]| {
        let mut sums = vec![0.0; outputs * (width + 1)];
        for tree in &trees {
            let sums = sums.get_mut(tree.output * (width + 1)..).unwrap_or_default();
            if let Some((inputs, [mean, ..])) = sums.split_at_mut_checked(width) {
                *mean += shap::explain(tree, row, inputs);
            }
        }
        sums
    })
}

/// Appends a tree: its output and its nodes, of [`NODE_BYTES`] bytes each.
pub(super) fn write_tree(tree: &PlainTree, out: &mut Vec<u8>) {
    out.put_u32(tree.output as u32);
    out.put_u64(tree.nodes.len() as u64);
    for node in &tree.nodes {
        let (input, left, missing_left, number) = match node.kind {
            Kind::Leaf(value) => (LEAF, 0, false, value),
            Kind::Split {
                input,
                threshold,
                missing_left,
                left,
            } => (input, left, missing_left, threshold),
        };
        out.put_u32(input);
        out.put_u32(left);
        out.put_u8(u8::from(missing_left));
        out.put_f64(number);
        out.put_u32(node.cover.to_bits());
    }
}

/// Reads what [`write_tree`] wrote.
pub(super) fn read_tree(reader: &mut Reader<'_>) -> Result<PlainTree, CodecError> {
    let output = reader.u32()? as usize;
    let count = reader.count(NODE_BYTES)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        let (input, left) = (reader.u32()?, reader.u32()?);
        let missing_left = match reader.u8()? {
            way @ (0 | 1) => way == 1,
            other => return Err(reader.error(format!("{other} is no way of a missing number"))),
        };
        let number = reader.finite()?;
        let cover = f32::from_bits(reader.u32()?);
        let kind = match (input, left, missing_left) {
            (LEAF, 0, false) => Kind::Leaf(number),
            (LEAF, ..) => return Err(reader.error("a leaf has children")),
            _ => Kind::Split {
                input,
                threshold: number,
                missing_left,
                left,
            },
        };
        nodes.push(Plain { kind, cover });
    }
    Ok(PlainTree { output, nodes })
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let link = match reader.u8()? {
        0 => Link::Identity,
        1 => Link::Logistic,
        2 => Link::Softmax,
        other => return Err(reader.error(format!("{other} is not a link"))),
    };
    let width = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
    let base = reader.f64s()?;
    let count = reader.count(TREE_BYTES)?;
    let mut trees = Vec::with_capacity(count);
    for _ in 0..count {
        trees.push(read_tree(reader)?);
    }
    match Ensemble::new(link, width, base, &trees) {
        Ok(ensemble) => Ok(Arc::new(ensemble)),
        Err(what) => Err(reader.error(what)),
    }
}

/// Three classes over two inputs, four trees.
pub(super) fn example() -> Arc<dyn Scorer> {
    let node = |kind, cover| Plain { kind, cover };
    let split = |input, threshold, left| Kind::Split {
        input,
        threshold,
        missing_left: input == 1,
        left,
    };
    let tree = |output, input: u32, value: f64| PlainTree {
        output,
        nodes: vec![
            node(split(input, 0.5 * value, 1), 10.0),
            node(Kind::Leaf(value), 4.0),
            node(split(1 - input, -value, 3), 6.0),
            node(Kind::Leaf(-value), 1.5),
            node(Kind::Leaf(0.25), 4.5),
        ],
    };
    let trees = [tree(0, 0, 1.0), tree(1, 1, -0.5), tree(2, 0, 0.75), tree(0, 1, 0.3)];
    Arc::new(Ensemble {
        link: Link::Softmax,
        base: vec![0.1, 0.0, -0.1],
        trees: Packed::new(2, 3, &trees).unwrap_or_else(|what| unreachable!("{what}")),
    })
}
