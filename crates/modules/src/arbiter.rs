//! What modules ask of whoever knows integer graphs.

use alloy_primitives::B256;

/// Facts about a model, computed from its structure at registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Identity: hash over graph, tables and weights roots.
    pub model_id: B256,
    /// Root over the canonical header and node encodings.
    pub graph_root: B256,
    /// Number of nodes.
    pub node_count: u32,
    /// Largest number of positions of a run.
    pub max_seq: u32,
    /// Version of the operators' semantics.
    pub semantics: u32,
    /// Every block can be recomputed whole in one transaction.
    pub single_shot: bool,
}

/// The segment that a committed leaf closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Number of the segment.
    pub segment: u32,
    /// Nodes in it; 1 means that its trace is committed already.
    pub nodes: u32,
    /// Leaves of the segment's own tree.
    pub leaves: u64,
    /// Index of the committed leaf in that tree.
    pub index: u64,
}

/// How large a run is, as its receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSize {
    /// Positions or tokens of the input.
    pub n_in: u32,
    /// Tokens of the answer; 1 for models that generate nothing.
    pub n_out: u32,
}

/// One disputed leaf, ready to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Canonical graph bytes without constants.
    pub structure: &'a [u8],
    /// Root over the tables.
    pub tables_root: B256,
    /// Root over the weights.
    pub weights_root: B256,
    /// Size of this run.
    pub size: RunSize,
    /// The receipt's hash of the sampling statement.
    pub sampling_hash: B256,
    /// The receipt's root over token masks (`extHash`).
    pub mask_root: B256,
    /// Commitment to the input.
    pub input_commit: B256,
    /// Commitment to the output.
    pub output_commit: B256,
    /// Root of the committed tree.
    pub trace_root: B256,
    /// Number and posted root of the segment, if the leaf is one of a segment's tree.
    pub segment: Option<(u32, B256)>,
    /// Index of the leaf: in the segment's tree if there is one, else in the committed tree.
    pub leaf: u64,
    /// Hash of the leaf.
    pub leaf_hash: B256,
    /// Bytes of the leaf as opened by the operator; `None` for a one-shot proof of the whole block.
    ///
    /// They hash to `leaf_hash`: under the trace-leaf context, or, for the last committed leaf, under the output
    /// context (salt followed by the output bytes).
    pub block: Option<&'a [u8]>,
    /// What the challenger supplies.
    pub evidence: &'a [u8],
}

/// Outcome of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The recomputation agrees with the leaf.
    AsserterRight,
    /// It does not.
    AsserterWrong,
}

/// Decoding and judging of integer graphs, handed in by the node.
///
/// Called inside block execution, at most a few times per transaction, with bytes from strangers. Must be pure (same
/// arguments, same result on every machine), must not panic, and must bound time and memory by the caps of
/// `docs/graph.md`. Structures passed to anything but [`inspect`](Self::inspect) have been accepted by it.
pub trait Arbiter: Send + Sync {
    /// Decodes and validates a structure and checks the caps of its elements.
    ///
    /// # Errors
    /// The reason of the refusal, with values; it becomes `ModelRefused(reason)`.
    fn inspect(
        &self,
        structure: &[u8],
        tables_root: B256,
        weights_root: B256,
    ) -> Result<ModelInfo, String>;

    /// Leaves of the committed tree of a run.
    ///
    /// # Errors
    /// The size is none that the model can run: no positions, too many, or several answers of a model that generates
    /// nothing.
    fn committed_leaves(&self, structure: &[u8], size: RunSize) -> Result<u64, String>;

    /// The segment that committed leaf `leaf` closes.
    ///
    /// # Errors
    /// `leaf` is no leaf of that run.
    fn segment_of(&self, structure: &[u8], size: RunSize, leaf: u64)
    -> Result<SegmentInfo, String>;

    /// Judges a case.
    ///
    /// # Errors
    /// Bad evidence: the call reverts with the reason and the clock runs on.
    fn judge(&self, case: &Case<'_>) -> Result<Verdict, String>;

    /// Gas of [`judge`](Self::judge) for this structure and evidence, charged before it runs.
    fn gas(&self, structure: &[u8], evidence: &[u8]) -> u64;
}
