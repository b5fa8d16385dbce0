//! A tree as it was published: it shares nodes and leaves with the tree, until that changes them.

use std::sync::Arc;

use super::leaf::{BLOCK, Leaf, LeafBlock};
use super::{LeafRule, ValueSettings};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Input;
use crate::learners::tree::{Node, Shape, Step};

/// An immutable tree.
#[derive(Debug, Clone)]
pub(crate) struct View {
    settings: Arc<ValueSettings>,
    shape: Arc<Shape>,
    leaves: Vec<Arc<LeafBlock>>,
}

/// What of the settings of trees predicting needs, for those that are read.
pub(crate) fn published_settings(
    outputs: usize,
    width: usize,
    leaf: LeafRule,
    (ridge, reach): (f64, f64),
) -> Arc<ValueSettings> {
    let mut settings = ValueSettings::new(outputs, vec![Input::Number; width].into(), 0, 0);
    (settings.leaf, settings.ridge, settings.reach) = (leaf, ridge, reach);
    Arc::new(settings)
}

impl View {
    pub(super) fn new(settings: Arc<ValueSettings>, shape: Arc<Shape>, leaves: Vec<Arc<LeafBlock>>) -> Self {
        Self {
            settings,
            shape,
            leaves,
        }
    }

    /// How the tree grew.
    pub(crate) fn settings(&self) -> &ValueSettings {
        &self.settings
    }

    fn leaf(&self, slot: u32) -> Option<&Leaf> {
        let slot = slot as usize;
        self.leaves.get(slot / BLOCK)?.leaves.get(slot % BLOCK)
    }

    /// Writes the values of the leaf of a row: to the bit what the tree would have said when it was published. `scaled`
    /// is the row in standard deviations, where leaves have linear models.
    #[inline]
    pub(crate) fn predict_into(&self, row: &[f64], scaled: &[f64], out: &mut [f64]) {
        if let Some(leaf) = self.leaf(self.shape.slot(row)) {
            leaf.predict_into(&self.settings, scaled, out);
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let leaves = self.leaves.iter().flat_map(|block| block.leaves.iter());
        size_of::<Self>()
            + self.shape.nodes.capacity() * size_of::<Node>()
            + self.leaves.len() * (size_of::<LeafBlock>() + BLOCK * size_of::<Leaf>())
            + leaves.map(Leaf::heap_bytes).sum::<usize>()
    }

    /// Appends what predicting needs: the nodes, each before its left and that before its right child, the leaves among
    /// them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
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
                        leaf.write_published(out);
                    }
                }
            }
        }
    }

    /// Reads what [`View::write`] wrote.
    ///
    /// # Errors
    /// Bytes that no tree of these settings wrote. Never panics.
    pub(crate) fn read(reader: &mut Reader<'_>, settings: &Arc<ValueSettings>) -> Result<Self, CodecError> {
        let mut shape = Shape {
            nodes: vec![Node::leaf(0)],
        };
        let (mut leaves, mut open) = (Vec::new(), vec![0_usize]);
        while let Some(at) = open.pop() {
            shape.nodes[at] = match reader.u8()? {
                0 => {
                    let next = shape.nodes.len();
                    let (value, head) = (reader.finite()?, reader.u32()?);
                    let node = Node::of_parts(value, head, next as u32, settings.inputs.len());
                    let Some(node) = node.filter(|node| node.question().is_some()) else {
                        return Err(reader.error("a split asks about an input that is not there"));
                    };
                    shape.nodes.extend([Node::leaf(0); 2]);
                    open.extend([next + 1, next]);
                    node
                }
                1 => {
                    leaves.push(Leaf::read_published(reader, settings)?);
                    Node::leaf(leaves.len() as u32 - 1)
                }
                other => return Err(reader.error(format!("{other} is no node"))),
            };
        }
        let blocks = leaves.chunks(BLOCK).map(|leaves| {
            Arc::new(LeafBlock {
                leaves: leaves.to_vec(),
                changed: 0,
            })
        });
        let blocks = blocks.collect();
        Ok(Self::new(Arc::clone(settings), Arc::new(shape), blocks))
    }
}
