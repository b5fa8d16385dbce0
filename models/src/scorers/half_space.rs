//! `half-space-trees`: how few rows lie where a row lies. Each tree halves the space again and again, at a random input,
//! and knows how many rows of a window each half held.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Scorer;
use crate::encoders::WIDTH_MAX;
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "half-space-trees";
/// Trees at most, and halvings one below another at most.
pub(crate) const TREES_MAX: usize = 1_000;
pub(crate) const DEPTH_MAX: usize = 16;

/// A question: is this input at least that number?
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Split {
    pub(crate) place: u32,
    pub(crate) at: f32,
}

/// Where trees ask what: fixed from the start, shared by all that is published.
///
/// A tree is complete. Its nodes are numbered from 1, the children of `node` are `2 * node` and `2 * node + 1`; place 0
/// of its splits is not used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) depth: usize,
    pub(crate) trees: usize,
    /// `2^depth` for each tree.
    pub(crate) splits: Vec<Split>,
}

impl Shape {
    /// Nodes of a tree and one that is not used: as many masses are kept for it.
    pub(crate) fn nodes(&self) -> usize {
        2 << self.depth
    }

    /// The child of a node of a tree in which a row lies.
    #[inline]
    pub(crate) fn child(&self, tree: usize, node: usize, x: &[f64]) -> usize {
        let split = self.splits[(tree << self.depth) + node];
        let value = x.get(split.place as usize).copied().unwrap_or(0.0);
        2 * node + usize::from(value >= f64::from(split.at))
    }
}

/// Trees, and what each node of them held.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HalfSpace {
    pub(crate) shape: Arc<Shape>,
    /// Rows of the window that lay in each node, `shape.nodes()` for each tree; none before a window was complete.
    pub(crate) masses: Option<Arc<[u32]>>,
    /// Rows of a window.
    pub(crate) window: u32,
    /// A node of fewer rows is not looked into.
    pub(crate) size_limit: u32,
}

impl HalfSpace {
    /// How dense the place is where a row lies, relative to rows spread over all halves alike: below 1 is sparse.
    fn density(&self, masses: &[u32], x: &[f64]) -> f64 {
        let (shape, nodes) = (&*self.shape, self.shape.nodes());
        let mut sum = 0.0;
        for (tree, masses) in masses.chunks_exact(nodes).enumerate() {
            let (mut node, mut depth) = (1, 0);
            while depth < shape.depth && masses[node] > self.size_limit {
                node = shape.child(tree, node, x);
                depth += 1;
            }
            sum += f64::from(masses[node]) * (1_u32 << depth) as f64;
        }
        sum / (shape.trees as f64 * f64::from(self.window))
    }

    /// From 0 to 1; 0.5 where the row lies as densely as if rows were spread over all halves alike, and before anything
    /// is known.
    pub(crate) fn score_row(&self, x: &[f64]) -> f64 {
        match &self.masses {
            Some(masses) => 1.0 / (1.0 + self.density(masses, x)),
            None => 0.5,
        }
    }
}

impl Scorer for HalfSpace {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.shape.width
    }

    fn outputs(&self) -> usize {
        1
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        out.extend(x.iter().map(|row| self.score_row(row)));
    }

    fn write(&self, out: &mut Vec<u8>) {
        let shape = &self.shape;
        for number in [shape.width, shape.depth, shape.trees] {
            out.put_u64(number as u64);
        }
        out.put_u32(self.window);
        out.put_u32(self.size_limit);
        for split in &shape.splits {
            out.put_u32(split.place);
            out.put_u32(split.at.to_bits());
        }
        out.put_u8(u8::from(self.masses.is_some()));
        let masses = self.masses.as_deref().unwrap_or_default();
        masses.iter().for_each(|mass| out.put_u32(*mass));
    }

    fn bytes(&self) -> usize {
        let masses = self.masses.as_deref().unwrap_or_default();
        size_of::<Self>() + size_of::<Shape>() + size_of_val(&*self.shape.splits) + size_of_val(masses)
    }
}

/// As many masses as a shape has nodes.
pub(crate) fn read_masses(reader: &mut Reader<'_>, shape: &Shape) -> Result<Vec<u32>, CodecError> {
    let bytes = reader.take(shape.trees * shape.nodes() * 4)?;
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|mass| u32::from_le_bytes(*mass))
        .collect())
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let (width, depth, trees) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (window, size_limit) = (reader.u32()?, reader.u32()?);
    if width > WIDTH_MAX as u64 || depth > DEPTH_MAX as u64 || trees > TREES_MAX as u64 || trees == 0 || window == 0 {
        return Err(reader.error("these are no half-space trees"));
    }
    let (width, depth, trees) = (width as usize, depth as usize, trees as usize);
    let splits = reader
        .take((trees << depth) * 8)?
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| {
            let [a, b, c, d, e, f, g, h] = *bytes;
            Split {
                place: u32::from_le_bytes([a, b, c, d]),
                at: f32::from_le_bytes([e, f, g, h]),
            }
        });
    let shape = Shape {
        width,
        depth,
        trees,
        splits: splits.collect(),
    };
    let masses = match reader.u8()? {
        0 => None,
        1 => Some(read_masses(reader, &shape)?.into()),
        other => return Err(reader.error(format!("{other} does not say whether there are masses"))),
    };
    Ok(Arc::new(HalfSpace {
        shape: Arc::new(shape),
        masses,
        window,
        size_limit,
    }))
}

/// One tree of depth 2 over two inputs.
pub(super) fn example() -> Arc<dyn Scorer> {
    let split = |place, at| Split { place, at };
    let shape = Shape {
        width: 2,
        depth: 2,
        trees: 1,
        splits: vec![split(0, 0.0), split(0, 0.0), split(1, -0.5), split(1, 0.5)],
    };
    Arc::new(HalfSpace {
        shape: Arc::new(shape),
        masses: Some([0, 100, 10, 90, 2, 8, 60, 30].into()),
        window: 100,
        size_limit: 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_where_a_row_lies_are_a_high_score() {
        let mut x = Matrix::new();
        x.reset(3, 2);
        // Left: 10 rows at depth 1, not looked into. Right: 60 and 30 rows at depth 2.
        x.values_mut().copy_from_slice(&[-1.0, 9.0, 1.0, 0.0, 1.0, 1.0]);
        let mut out = Vec::new();
        example().score(&x, &mut out);
        assert_eq!(out, [1.0 / 1.2, 1.0 / (1.0 + 2.4), 1.0 / (1.0 + 1.2)]);
    }
}
