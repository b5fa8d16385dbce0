//! A tree as it was published: it shares nodes and leaves with the tree, until that changes them.

use std::sync::Arc;

use super::leaf::{BLOCK, Leaf, LeafBlock, Places};
use super::node::{Node, Shape, Step};
use super::numbers::Product;
use crate::codec::{CodecError, Put, Reader};

/// Memory that predicting uses again from row to row; good for every tree.
#[derive(Clone, Default)]
pub(crate) struct Scratch {
    pub(super) gathered: Vec<f64>,
    pub(super) scores: Vec<f64>,
    pub(super) products: Vec<Product>,
}

/// An immutable tree.
#[derive(Debug, Clone)]
pub(crate) struct View {
    classes: usize,
    shape: Arc<Shape>,
    leaves: Vec<Arc<LeafBlock>>,
    shared: Arc<Places>,
}

impl View {
    pub(super) fn new(classes: usize, shape: Arc<Shape>, leaves: Vec<Arc<LeafBlock>>, shared: Arc<Places>) -> Self {
        Self {
            classes,
            shape,
            leaves,
            shared,
        }
    }

    /// Numbers that [`View::predict_into`] writes.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    fn leaf(&self, slot: u32) -> Option<&Leaf> {
        let slot = slot as usize;
        self.leaves.get(slot / BLOCK)?.leaves.get(slot % BLOCK)?.as_ref()
    }

    /// Writes the probability of each class: to the bit what the tree would have said when it was published.
    #[inline]
    pub(crate) fn predict_into(&self, row: &[f64], out: &mut [f64], scratch: &mut Scratch) {
        if let Some(leaf) = self.leaf(self.shape.slot(row)) {
            leaf.predict_into(row, out, scratch);
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let leaves = self.leaves.iter().flat_map(|block| block.leaves.iter().flatten());
        size_of::<Self>()
            + self.shape.nodes.capacity() * size_of::<Node>()
            + self.leaves.len() * (size_of::<LeafBlock>() + BLOCK * size_of::<Option<Leaf>>())
            + leaves.map(Leaf::heap_bytes).sum::<usize>()
    }

    /// Appends what predicting needs: the nodes of the present tree, each before its left and that before its right
    /// child, the leaves among them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for places in [&self.shared.numbers, &self.shared.categories] {
            out.put_u64(places.len() as u64);
            places.iter().for_each(|place| out.put_u32(*place));
        }
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            let node = self.shape.nodes[at as usize];
            match node.step() {
                Step::Fork(next) => open.push(next),
                Step::Split(next) => {
                    let (value, head, _) = node.parts();
                    out.put_u8(0);
                    out.put_f64(value);
                    out.put_u32(head);
                    open.extend([next + 1, next]);
                }
                Step::Leaf(slot) => {
                    out.put_u8(1);
                    if let Some(leaf) = self.leaf(slot) {
                        leaf.write_published(&self.shared, out);
                    }
                }
            }
        }
    }

    /// Reads what [`View::write`] wrote.
    ///
    /// # Errors
    /// Bytes that no tree over `width` inputs and `classes` wrote. Never panics.
    pub(crate) fn read(reader: &mut Reader<'_>, classes: usize, width: usize) -> Result<Self, CodecError> {
        let shared = Arc::new(Places::read(reader, width)?);
        let mut shape = Shape {
            nodes: vec![Node::leaf(0)],
        };
        let (mut leaves, mut open) = (Vec::<Option<Leaf>>::new(), vec![0_usize]);
        while let Some(at) = open.pop() {
            shape.nodes[at] = match reader.u8()? {
                0 => {
                    let next = shape.nodes.len();
                    let (value, head) = (reader.finite()?, reader.u32()?);
                    let node = Node::of_parts(value, head, next as u32, width);
                    let Some(node) = node.filter(|node| node.question().is_some()) else {
                        return Err(reader.error("a split asks about an input that is not there"));
                    };
                    shape.nodes.extend([Node::leaf(0); 2]);
                    open.extend([next + 1, next]);
                    node
                }
                1 => {
                    leaves.push(Some(Leaf::read_published(reader, classes, width, &shared)?));
                    Node::leaf(leaves.len() as u32 - 1)
                }
                other => return Err(reader.error(format!("{other} is no node"))),
            };
        }
        let mut blocks = Vec::with_capacity(leaves.len().div_ceil(BLOCK));
        while !leaves.is_empty() {
            let rest = leaves.split_off(leaves.len().min(BLOCK));
            blocks.push(Arc::new(LeafBlock { leaves, changed: 0 }));
            leaves = rest;
        }
        Ok(Self::new(classes, Arc::new(shape), blocks, shared))
    }
}
