//! Which bytes of a run are which leaf of which tree (docs/graph.md, "Trace"), and the caps of evidence.

use crate::{
    encode::Structure,
    error::GraphError,
    node::{NodeId, Op},
    shape::Cost,
    trace::CHUNK,
    types::Extent,
    wire::op_name,
};

/// Most bytes of evidence for one element, paths included.
pub const MAX_EVIDENCE: u64 = 64 << 10;
/// Most slices of producers for one element.
pub const MAX_SLICES: u64 = 64;
/// Most multiply-adds for one element.
pub const MAX_STEPS: u64 = 1_000_000;
/// Most bytes of producers and constants for one whole block.
pub const MAX_BLOCK_EVIDENCE: u64 = 256 << 10;
/// Most multiply-adds for one whole block.
pub const MAX_BLOCK_STEPS: u64 = 4_000_000;
/// Longest canonical input and output together, in bytes: both are opened whole when a commitment is disputed.
pub const MAX_ENDS: u64 = 60 << 10;
/// Paths and chaining values that come with one opened slice, at most.
const SLICE_OVERHEAD: u64 = 15 * 32 + 24 * 32;

/// What a leaf of the committed tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// `inputCommit`, leaf 0.
    InputCommit,
    /// A block of a node's output.
    Block {
        /// Node.
        node: NodeId,
        /// Block of its output.
        block: u64,
    },
    /// `outputCommit`, the last leaf.
    OutputCommit,
}

/// Where the leaves of one run lie.
#[derive(Clone, Debug)]
pub struct Layout {
    block_bytes: usize,
    /// Bytes of each node's output in the trace; 0 for views.
    bytes: Vec<u64>,
    /// Element size of each node.
    sizes: Vec<usize>,
    /// Producer behind a view, else the node itself.
    resolved: Vec<NodeId>,
    checkpoint: Vec<bool>,
    /// Segment of each node.
    segment: Vec<u32>,
    /// First node of each segment; ends with the number of nodes.
    starts: Vec<NodeId>,
}

impl Layout {
    /// Layout of a run.
    pub fn new(structure: &Structure, extent: impl Into<Extent>) -> Self {
        let extent = extent.into();
        let mut layout = Self {
            block_bytes: 1 << structure.header.block_bits.clamp(10, 14),
            bytes: Vec::new(),
            sizes: Vec::new(),
            resolved: Vec::new(),
            checkpoint: Vec::new(),
            segment: Vec::new(),
            starts: vec![0],
        };
        for (i, (node, ty)) in structure.nodes.iter().zip(&structure.types).enumerate() {
            let view = matches!(node.op, Op::Reshape { .. }) && !node.checkpoint;
            let producer = node
                .inputs
                .first()
                .and_then(|p| layout.resolved.get(*p as usize))
                .copied();
            layout.resolved.push(if view {
                producer.unwrap_or(0)
            } else {
                i as NodeId
            });
            layout.bytes.push(if view {
                0
            } else {
                ty.len(extent) as u64 * ty.dtype.size() as u64
            });
            layout.sizes.push(ty.dtype.size());
            layout.checkpoint.push(node.checkpoint);
            layout.segment.push(layout.starts.len() as u32 - 1);
            if node.checkpoint {
                layout.starts.push(i as NodeId + 1);
            }
        }
        layout
    }

    fn size_of(&self, node: NodeId) -> u64 {
        self.bytes.get(node as usize).copied().unwrap_or(0)
    }

    /// Bytes of a node's output; 0 for views.
    pub fn output_bytes(&self, node: NodeId) -> usize {
        self.size_of(node) as usize
    }

    /// Blocks of a node's output; 0 for views.
    pub fn blocks(&self, node: NodeId) -> u64 {
        self.size_of(node).div_ceil(self.block_bytes as u64)
    }

    /// Bytes of one block.
    pub fn block_len(&self, node: NodeId, block: u64) -> usize {
        let at = block.saturating_mul(self.block_bytes as u64);
        self.size_of(node)
            .saturating_sub(at)
            .min(self.block_bytes as u64) as usize
    }

    /// Bytes of a full block.
    pub const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Bytes of one element of a node.
    pub fn element_size(&self, node: NodeId) -> usize {
        self.sizes.get(node as usize).copied().unwrap_or(1)
    }

    /// The node whose bytes a node's output are: itself, or the producer behind views.
    pub fn resolve(&self, node: NodeId) -> NodeId {
        self.resolved.get(node as usize).copied().unwrap_or(0)
    }

    /// Whether a node is committed in every receipt.
    pub fn is_checkpoint(&self, node: NodeId) -> bool {
        self.checkpoint.get(node as usize).copied().unwrap_or(false)
    }

    /// Checkpoint nodes, in order.
    pub fn checkpoints(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.checkpoint
            .iter()
            .enumerate()
            .filter(|(_, c)| **c)
            .map(|(i, _)| i as NodeId)
    }

    /// Leaves of the committed tree.
    pub fn committed_leaves(&self) -> u64 {
        2 + self.checkpoints().map(|n| self.blocks(n)).sum::<u64>()
    }

    /// What leaf `index` of the committed tree is.
    pub fn committed_leaf(&self, index: u64) -> Option<Leaf> {
        let mut left = match index.checked_sub(1) {
            None => return Some(Leaf::InputCommit),
            Some(left) => left,
        };
        for node in self.checkpoints() {
            let n = self.blocks(node);
            if left < n {
                return Some(Leaf::Block { node, block: left });
            }
            left -= n;
        }
        (left == 0).then_some(Leaf::OutputCommit)
    }

    /// Index of a checkpoint's block in the committed tree.
    pub fn committed_index(&self, node: NodeId, block: u64) -> Option<u64> {
        if !self.is_checkpoint(node) || block >= self.blocks(node) {
            return None;
        }
        Some(
            1 + self
                .checkpoints()
                .take_while(|n| *n < node)
                .map(|n| self.blocks(n))
                .sum::<u64>()
                + block,
        )
    }

    /// Segment of a node.
    pub fn segment_of(&self, node: NodeId) -> Option<u32> {
        self.segment.get(node as usize).copied()
    }

    /// Nodes of a segment that have bytes, in order; the last is its checkpoint.
    pub fn segment_nodes(&self, segment: u32) -> impl Iterator<Item = NodeId> + '_ {
        let at = |i: usize| self.starts.get(i).copied().unwrap_or(0);
        (at(segment as usize)..at(segment as usize + 1)).filter(|n| self.size_of(*n) > 0)
    }

    /// Leaves of a segment's tree.
    pub fn segment_leaves(&self, segment: u32) -> u64 {
        self.segment_nodes(segment).map(|n| self.blocks(n)).sum()
    }

    /// Node and block of leaf `index` of a segment's tree.
    pub fn segment_leaf(&self, segment: u32, index: u64) -> Option<(NodeId, u64)> {
        let mut left = index;
        for node in self.segment_nodes(segment) {
            let n = self.blocks(node);
            if left < n {
                return Some((node, left));
            }
            left -= n;
        }
        None
    }

    /// Index of a block in its segment's tree.
    pub fn segment_index(&self, node: NodeId, block: u64) -> Option<u64> {
        if block >= self.blocks(node) {
            return None;
        }
        let segment = self.segment_of(node)?;
        Some(
            self.segment_nodes(segment)
                .take_while(|n| *n < node)
                .map(|n| self.blocks(n))
                .sum::<u64>()
                + block,
        )
    }
}

/// Refuses a node one element of which can't be judged within the caps.
pub(crate) fn check_caps(node: u32, name: &str, cost: &Cost) -> Result<(), GraphError> {
    let chunks = cost.slices * 2 + cost.bytes / CHUNK as u64;
    let single = cost.bytes <= cost.slices * 8; // slices of one element never straddle chunks
    let opened = if single { cost.slices } else { chunks } * CHUNK as u64;
    let evidence = cost.constants + opened + cost.slices * SLICE_OVERHEAD;
    for (what, need, cap) in [
        ("bytes of evidence", evidence, MAX_EVIDENCE),
        ("slices", cost.slices, MAX_SLICES),
        ("multiply-adds", cost.steps, MAX_STEPS),
    ] {
        if need > cap {
            return Err(GraphError::Cap {
                node,
                name: name.to_owned(),
                what,
                need,
                cap,
            });
        }
    }
    Ok(())
}

/// Checks that a graph has nodes, a bounded input, and that non-checkpoints are read only inside their segment.
pub(crate) fn check_segments(structure: &Structure, names: &[String]) -> Result<(), GraphError> {
    let fail = |node: usize, why: String| {
        let op = structure
            .nodes
            .get(node)
            .map_or("graph", |n| op_name(&n.op));
        Err(GraphError::Node {
            node: node as u32,
            name: names.get(node).map_or_else(|| op.to_owned(), Clone::clone),
            why,
        })
    };
    let layout = Layout::new(structure, structure.header.max_seq);
    for end in [structure.nodes.first(), structure.nodes.last()] {
        if end.is_none_or(|n| !n.checkpoint) {
            return fail(
                0,
                "the first and the last node must exist and be checkpoints".into(),
            );
        }
    }
    let last = structure.nodes.len().saturating_sub(1);
    let ends = layout
        .size_of(0)
        .saturating_add(layout.size_of(last as NodeId));
    let ends = if structure.is_generative() {
        layout.size_of(0) // prompt and answer are the input node, but for one token
    } else {
        ends
    };
    if ends > MAX_ENDS {
        return fail(
            last,
            format!(
                "input and output of {ends} bytes together, at most {MAX_ENDS} can be disputed"
            ),
        );
    }
    for (i, node) in structure.nodes.iter().enumerate() {
        for p in &node.inputs {
            for producer in [*p, layout.resolve(*p)] {
                if !layout.is_checkpoint(producer)
                    && layout.segment_of(producer) != layout.segment_of(i as NodeId)
                {
                    return fail(
                        i,
                        format!(
                            "reads node {producer}, which is no checkpoint and lies in another segment"
                        ),
                    );
                }
            }
        }
    }
    Ok(())
}

/// Whether every block can be recomputed in one transaction (trust specification, "flat form").
pub fn single_shot(structure: &Structure) -> bool {
    let layout = Layout::new(structure, structure.header.max_seq);
    let kind_bytes = |op: &Op| {
        op.constant()
            .and_then(|c| structure.kinds.get(c as usize))
            .map_or(0, |k| k.total_bytes() as u64)
    };
    layout.committed_leaves() <= 1024
        && structure
            .nodes
            .iter()
            .zip(&structure.costs)
            .enumerate()
            .skip(1)
            .all(|(i, (node, cost))| {
                let id = i as NodeId;
                let elements = layout.block_len(id, 0) as u64 / layout.element_size(id) as u64;
                let operands: u64 = node
                    .inputs
                    .iter()
                    .map(|p| layout.size_of(layout.resolve(*p)))
                    .sum();
                let constants = kind_bytes(&node.op).min(elements.saturating_mul(cost.constants));
                let inputs = operands.min(elements.saturating_mul(cost.bytes + 2 * CHUNK as u64));
                node.checkpoint
                    && constants + inputs <= MAX_BLOCK_EVIDENCE
                    && elements.saturating_mul(cost.work()) <= MAX_BLOCK_STEPS
            })
}
