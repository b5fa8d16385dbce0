//! The state of a tree: a chunk for its nodes, a chunk for each block of leaves.

use std::sync::Arc;

use super::grown::ValueTree;
use super::inputs::Inputs;
use super::leaf::{BLOCK, Leaf, LeafBlock, bytes_of};
use crate::codec::{CodecError, Put, Reader};
use crate::learners::tree::{Node, Shape, Step};
use crate::state::{ChunkSource, ChunkVisitor, StateError, open};

const NODES: &str = "nodes";
/// Bytes of a node.
const NODE_BYTES: usize = 16;

fn leaves_name(block: usize) -> String {
    format!("leaves/{block:06}")
}

impl ValueTree {
    /// Offers the chunks of the tree.
    pub(crate) fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(NODES, self.shaped, &mut |out| {
            out.put_u64(self.shaped);
            out.put_u64(self.born);
            out.put_u64(self.shape.nodes.len() as u64);
            for node in &self.shape.nodes {
                let (value, head, next) = node.parts();
                out.put_f64(value);
                out.put_u32(head);
                out.put_u32(next);
            }
        });
        for (index, block) in self.leaves.iter().enumerate() {
            chunks.chunk(&leaves_name(index), block.changed, &mut |out| {
                out.put_u64(block.changed);
                out.put_u64(block.leaves.len() as u64);
                block.leaves.iter().for_each(|leaf| leaf.write(out));
            });
        }
    }

    /// Replaces a tree that has seen nothing by what was saved; `inputs` were restored before.
    pub(crate) fn restore(&mut self, inputs: &Inputs, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        self.read_nodes(open(chunks, NODES)?)
            .map_err(|error| StateError::of(NODES, error))?;
        let leaves = self.shape.nodes.len().div_ceil(2);
        self.leaf_bytes.0 = bytes_of(&self.settings, inputs.bins());
        (self.leaf_count, self.active) = (leaves, 0);
        self.leaves.clear();
        self.places.clear();
        for block in 0..leaves.div_ceil(BLOCK) {
            let (name, count) = (leaves_name(block), BLOCK.min(leaves - block * BLOCK));
            let block = self
                .read_block(open(chunks, &name)?, count, inputs.bins())
                .map_err(|error| StateError::of(&name, error))?;
            self.leaves.push(Arc::new(block));
        }
        Ok(())
    }

    /// Nodes, of which every way ends in a leaf of its own.
    fn read_nodes(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        (self.shaped, self.born) = (reader.u64()?, reader.u64()?);
        let count = reader.count(NODE_BYTES)?;
        let mut shape = Shape {
            nodes: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let (value, head, next) = (reader.finite()?, reader.u32()?, reader.u32()?);
            let Some(node) = Node::of_parts(value, head, next, self.settings.inputs.len()) else {
                return Err(reader.error("a node asks about an input that is not there"));
            };
            shape.nodes.push(node);
        }
        let mut used = vec![false; count.div_ceil(2)];
        let (mut own, mut reached) = (true, 0);
        let ends = shape.visit(&mut |_, node, _| {
            reached += 1;
            own &= match node.step() {
                Step::Leaf(slot) => used
                    .get_mut(slot as usize)
                    .is_some_and(|used| !std::mem::replace(used, true)),
                Step::Split(_) => true,
                Step::Fork(_) => false,
            };
        });
        if !ends || !own || reached != count {
            return Err(reader.error("its nodes do not lead to leaves"));
        }
        self.shape = Arc::new(shape);
        reader.finish()
    }

    fn read_block(&mut self, mut reader: Reader<'_>, count: usize, bins: usize) -> Result<LeafBlock, CodecError> {
        let changed = reader.u64()?;
        if reader.u64()? != count as u64 {
            return Err(reader.error("a block holds another number of leaves"));
        }
        let mut leaves = Vec::with_capacity(BLOCK);
        for _ in 0..count {
            let leaf = Leaf::read(&mut reader, &self.settings, bins)?;
            self.active += usize::from(leaf.is_active());
            self.places.push(self.places_of(leaf.born));
            leaves.push(leaf);
        }
        reader.finish()?;
        Ok(LeafBlock { leaves, changed })
    }
}
