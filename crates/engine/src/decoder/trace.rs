//! Leaves of a sequence's checkpoints, collected row by row.

use assay_graph::{
    Extent,
    trace::{Family, Hash, Tree, input_commit, leaf_hash, output_commit},
};

/// Bytes of one checkpoint that don't fill a block yet, and the leaves of the blocks before them.
#[derive(Clone, Default)]
struct Rows {
    rest: Vec<u8>,
    leaves: Vec<Hash>,
}

/// The checkpoints of one sequence, in node order.
#[derive(Clone)]
pub(crate) struct Trace {
    block: usize,
    checkpoints: Vec<Rows>,
}

impl Trace {
    pub(crate) fn new(block: usize, checkpoints: usize) -> Self {
        Self {
            block,
            checkpoints: vec![Rows::default(); checkpoints],
        }
    }

    /// Appends rows of checkpoint `i`; whole blocks are hashed at once.
    pub(crate) fn add(&mut self, i: usize, mut bytes: &[u8]) {
        let Some(c) = self.checkpoints.get_mut(i) else {
            return;
        };
        if !c.rest.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.block - c.rest.len()));
            c.rest.extend_from_slice(now);
            bytes = later;
            if c.rest.len() < self.block {
                return;
            }
            c.leaves.push(leaf_hash(Family::Trace, &c.rest));
            c.rest.clear();
        }
        let mut blocks = bytes.chunks_exact(self.block);
        c.leaves
            .extend(blocks.by_ref().map(|b| leaf_hash(Family::Trace, b)));
        c.rest.extend_from_slice(blocks.remainder());
    }

    /// The committed tree of a run: `inputCommit`, blocks of the checkpoints in node order, `outputCommit`.
    pub(crate) fn finish(self, salt: &Hash, prompt: &[u32], answer: &[u32]) -> Committed {
        let bytes = |tokens: &[u32]| {
            tokens
                .iter()
                .flat_map(|t| t.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let (input, output) = (
            input_commit(salt, &bytes(prompt)),
            output_commit(salt, &bytes(answer)),
        );
        let mut leaves = vec![input];
        for c in self.checkpoints {
            leaves.extend(c.leaves);
            if !c.rest.is_empty() {
                leaves.push(leaf_hash(Family::Trace, &c.rest));
            }
        }
        leaves.push(output);
        Committed {
            input,
            output,
            tree: Tree::new(Family::Trace, leaves),
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.checkpoints
            .iter()
            .map(|c| c.rest.capacity() + 32 * c.leaves.capacity())
            .sum()
    }
}

/// What a sequence commits to.
pub(crate) struct Committed {
    pub(crate) input: Hash,
    pub(crate) output: Hash,
    pub(crate) tree: Tree,
}

/// The extent of a run over `n_in` tokens that answered `n_out`, or nothing for one that can't be.
pub(crate) fn extent(n_in: usize, n_out: usize) -> Option<Extent> {
    Extent::answering(u32::try_from(n_in).ok()?, u32::try_from(n_out).ok()?)
}
