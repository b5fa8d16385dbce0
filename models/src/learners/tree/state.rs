//! The state of a tree: a head, a chunk for each group of nodes, a chunk for each block of leaves.

use std::sync::Arc;

use super::grown::{GROUP, NONE, Tree};
use super::leaf::{BLOCK, Leaf, LeafBlock};
use super::node::{Node, Shape, Step};
use crate::codec::{CodecError, Put, Reader};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

const HEAD: &str = "tree";

fn nodes_name(group: usize) -> String {
    format!("nodes/{group:06}")
}

fn leaves_name(block: usize) -> String {
    format!("leaves/{block:06}")
}

impl State for Tree {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.clock, &mut |out| {
            out.put_u64(self.clock);
            out.put_u64(self.born);
            out.put_u64(self.shape.nodes.len() as u64);
            out.put_u64(self.leaves.len() as u64);
        });
        for (group, stamp) in self.groups.iter().enumerate() {
            let from = group * GROUP;
            let to = self.shape.nodes.len().min(from + GROUP);
            chunks.chunk(&nodes_name(group), *stamp, &mut |out| {
                out.put_u64(*stamp);
                for (node, kept) in self.shape.nodes[from..to].iter().zip(&self.kept[from..to]) {
                    let (value, head, next) = node.parts();
                    out.put_f64(value);
                    out.put_u32(head);
                    out.put_u32(next);
                    out.put_u32(*kept);
                }
            });
        }
        for (index, block) in self.leaves.iter().enumerate() {
            chunks.chunk(&leaves_name(index), block.changed, &mut |out| {
                out.put_u64(block.changed);
                for leaf in &block.leaves {
                    out.put_u8(u8::from(leaf.is_some()));
                    if let Some(leaf) = leaf {
                        leaf.write(&self.shared, out);
                    }
                }
            });
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let (nodes, blocks) = self
            .read_head(open(chunks, HEAD)?)
            .map_err(|error| StateError::of(HEAD, error))?;
        let mut shape = Shape::default();
        (self.kept, self.groups, self.leaves) = (vec![], vec![], vec![]);
        while (shape.nodes.len() as u64) < nodes {
            let name = nodes_name(self.groups.len());
            let count = (nodes - shape.nodes.len() as u64).min(GROUP as u64);
            self.read_nodes(open(chunks, &name)?, count as usize, &mut shape)
                .map_err(|error| StateError::of(&name, error))?;
        }
        for index in 0..blocks as usize {
            let name = leaves_name(index);
            let block = self
                .read_block(open(chunks, &name)?)
                .map_err(|error| StateError::of(&name, error))?;
            self.leaves.push(Arc::new(block));
        }
        self.shape = Arc::new(shape);
        self.settle().map_err(|what| StateError::of(HEAD, what))
    }
}

impl Tree {
    /// Numbers of nodes and of blocks.
    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(u64, u64), CodecError> {
        (self.clock, self.born) = (reader.u64()?, reader.u64()?);
        let (nodes, blocks) = (reader.u64()?, reader.u64()?);
        let impossible = nodes == 0 || nodes >= u64::from(NONE) || blocks >= u64::from(NONE) / BLOCK as u64;
        if impossible || self.born == 0 {
            return Err(reader.error("no tree is so"));
        }
        reader.finish()?;
        Ok((nodes, blocks))
    }

    fn read_nodes(&mut self, mut reader: Reader<'_>, count: usize, shape: &mut Shape) -> Result<(), CodecError> {
        self.groups.push(reader.u64()?);
        for _ in 0..count {
            let (value, head, next) = (reader.finite()?, reader.u32()?, reader.u32()?);
            let Some(node) = Node::of_parts(value, head, next, self.settings.inputs.len()) else {
                return Err(reader.error("a node asks about an input that is not there"));
            };
            shape.nodes.push(node);
            self.kept.push(reader.u32()?);
        }
        reader.finish()
    }

    fn read_block(&self, mut reader: Reader<'_>) -> Result<LeafBlock, CodecError> {
        let changed = reader.u64()?;
        let mut leaves = Vec::with_capacity(BLOCK);
        for _ in 0..BLOCK {
            leaves.push(match reader.u8()? {
                0 => None,
                1 => Some(Leaf::read(&mut reader, &self.settings, &self.shared)?),
                other => return Err(reader.error(format!("{other} is no leaf"))),
            });
        }
        reader.finish()?;
        Ok(LeafBlock { leaves, changed })
    }

    /// Checks that every way ends in a leaf of its own, and finds what is free and how much memory is used.
    fn settle(&mut self) -> Result<(), &'static str> {
        let mut used = vec![false; self.leaves.len() * BLOCK];
        let mut own = true;
        let mut take = |slot: u32| match used.get_mut(slot as usize) {
            Some(used) => !std::mem::replace(used, true),
            None => false,
        };
        let ends = self.shape.visit(&mut |at, node, _| {
            if let Step::Leaf(slot) = node.step() {
                own &= take(slot);
            }
            own &= self.kept[at] == NONE || take(self.kept[at]);
        });
        if !ends || !own {
            return Err("its nodes do not lead to leaves");
        }
        (self.heap, self.free_slots) = (0, vec![]);
        for (slot, used) in used.iter().enumerate().rev() {
            match (self.leaf(slot as u32), used) {
                (Some(leaf), true) if leaf.is_active() => self.heap += self.leaf_bytes.0,
                (Some(_), true) => self.heap += self.leaf_bytes.1,
                (None, false) => self.free_slots.push(slot as u32),
                _ => return Err("its leaves are not those of its nodes"),
            }
        }
        self.free_pairs = self.shape.free_pairs();
        Ok(())
    }
}
