//! Commitment to a run: leaf hashes of checkpoint blocks, and the trees over them.

use assay_graph::{
    Data, Header, Tensor,
    layout::Layout,
    trace::{Family, Hash, Tree, input_commit, leaf_hash, output_commit},
};
use rayon::prelude::*;

use crate::{FullRun, simd::bytes::canonical};

/// A run with the tree that a receipt commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedRun {
    /// Output of the last node.
    pub output: Tensor,
    /// Positions of the run.
    pub seq: u32,
    /// Leaf 0 of the tree.
    pub input_commit: Hash,
    /// Last leaf of the tree.
    pub output_commit: Hash,
    /// `inputCommit`, blocks of checkpoint nodes, `outputCommit`.
    pub tree: Tree,
}

impl TracedRun {
    /// The trace root.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }
}

/// Collects leaves while a run goes on.
pub(crate) struct Blocks {
    block: usize,
    threads: usize,
    salt: Hash,
    leaves: Vec<Hash>,
}

impl Blocks {
    pub(crate) fn new(header: Header, threads: usize, salt: &Hash, input: &[u8]) -> Self {
        let block = 1usize << header.block_bits.clamp(10, 14);
        Self {
            block,
            threads,
            salt: *salt,
            leaves: vec![input_commit(salt, input)],
        }
    }

    /// Hashes the blocks of one node's output.
    pub(crate) fn add(&mut self, data: &Data) {
        let bytes = canonical(data);
        if self.threads > 1 && bytes.len() > self.block {
            self.leaves.par_extend(
                bytes
                    .par_chunks(self.block)
                    .map(|b| leaf_hash(Family::Trace, b)),
            );
        } else {
            self.leaves.extend(
                bytes
                    .chunks(self.block)
                    .map(|b| leaf_hash(Family::Trace, b)),
            );
        }
    }

    pub(crate) fn finish(mut self, output: Tensor, seq: u32) -> TracedRun {
        let own = output_commit(&self.salt, &canonical(&output.data));
        let input = self.leaves.first().copied().unwrap_or_default();
        self.leaves.push(own);
        TracedRun {
            output,
            seq,
            input_commit: input,
            output_commit: own,
            tree: Tree::new(Family::Trace, self.leaves),
        }
    }
}

impl FullRun {
    /// Leaf hashes of the blocks of one node's output; none for a node that does not exist.
    fn leaves(&self, layout: &Layout, node: u32) -> Vec<Hash> {
        let Some(tensor) = self.outputs.get(node as usize) else {
            return Vec::new();
        };
        canonical(&tensor.data)
            .chunks(layout.block_bytes())
            .map(|b| leaf_hash(Family::Trace, b))
            .collect()
    }

    /// The committed tree of this run, equal to that of [`Engine::run_traced`](crate::Engine::run_traced).
    pub fn committed_tree(&self, layout: &Layout, salt: &Hash) -> Tree {
        let bytes = |t: Option<&Tensor>| {
            t.map(|t| canonical(&t.data).into_owned())
                .unwrap_or_default()
        };
        let mut leaves = vec![input_commit(salt, &bytes(self.outputs.first()))];
        leaves.extend(layout.checkpoints().flat_map(|n| self.leaves(layout, n)));
        leaves.push(output_commit(salt, &bytes(self.outputs.last())));
        Tree::new(Family::Trace, leaves)
    }

    /// The tree of one segment: blocks of all its nodes, which a disputed operator posts the root of.
    pub fn segment_tree(&self, layout: &Layout, segment: u32) -> Tree {
        Tree::new(
            Family::Trace,
            layout
                .segment_nodes(segment)
                .flat_map(|n| self.leaves(layout, n))
                .collect(),
        )
    }
}
