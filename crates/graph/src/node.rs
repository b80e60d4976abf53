//! Nodes, operators and the graph that holds them.

use crate::{
    consts::Const,
    types::{DType, Shape, TensorType},
};

/// Version of the operator semantics below; part of the model id.
pub const SEMANTICS: u32 = 1;

/// Index of a node in [`Graph::nodes`].
pub type NodeId = u32;
/// Index of a constant in [`Graph::consts`].
pub type ConstId = u32;

/// How an accumulator becomes an element: `sat(rnd(v, shift))` into `dtype`, clamped to `[lo, hi]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requant {
    /// Right shift with rounding half up, 0 … 31; negative is an exact left shift, −15 … −1. Ignored where rows bring their own.
    pub shift: i8,
    /// Element type of the result.
    pub dtype: DType,
    /// Lower clamp, within `dtype`.
    pub lo: i32,
    /// Upper clamp, within `dtype`.
    pub hi: i32,
}

/// A 2-D window over `[h, w, c]` images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel height and width, 1 … 255.
    pub kernel: [u8; 2],
    /// Steps down and right, 1 … 255.
    pub stride: [u8; 2],
    /// Padding: top, left, bottom, right. Cells outside the image are 0 (conv) or absent (pools).
    pub pad: [u8; 4],
}

/// An operator and its parameters. Definitions: docs/graph.md and the modules of [`crate::ops`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The run's input; node 0 and only node 0.
    Input {
        /// Declared type and range.
        ty: TensorType,
    },
    /// `[…, k] → […, n]` by a `weights` constant of n rows and k columns.
    Linear {
        /// Constant of kind `weights`; each row brings its own shift.
        weights: ConstId,
        /// Type and clamp of the result (`shift` is 0).
        out: Requant,
    },
    /// `[h, w, c] → [oh, ow, n]` by a `weights` constant of n rows and `kh·kw·c/groups` columns, patch order `[kh][kw][c/groups]`.
    Conv2d {
        /// Constant of kind `weights`.
        weights: ConstId,
        /// Kernel, stride, padding.
        window: Window,
        /// Divides both channel counts.
        groups: u32,
        /// Type and clamp of the result (`shift` is 0).
        out: Requant,
    },
    /// `[…, m, k] × […, n, k] → […, m, n]`.
    MatMul {
        /// How sums become elements.
        out: Requant,
    },
    /// Element-wise sum of two equal shapes, operands shifted left first.
    Add {
        /// Left shifts of the operands, 0 … 15.
        left: [u8; 2],
        /// How sums become elements.
        out: Requant,
    },
    /// `[…, r, c]` plus the first r rows of a `rows` constant with c columns.
    AddRows {
        /// Constant of kind `rows`.
        rows: ConstId,
        /// Left shifts of the tensor and of the rows, 0 … 15.
        left: [u8; 2],
        /// How sums become elements.
        out: Requant,
    },
    /// `sat(rnd(x, shift))`.
    Requant {
        /// How.
        out: Requant,
    },
    /// `table[x − min]`; the output type is the table's.
    Lookup {
        /// Constant of kind `table`: 256 entries for `i8`, 65,536 for `i16`.
        table: ConstId,
    },
    /// Maximum over a window of each channel.
    MaxPool {
        /// Kernel, stride, padding.
        window: Window,
    },
    /// Rounded mean over the cells of a window that lie inside the image, of each channel.
    AvgPool {
        /// Kernel, stride, padding.
        window: Window,
    },
    /// Layer normalisation over the last axis.
    LayerNorm {
        /// Constant of kind `norm`.
        params: ConstId,
        /// `ε·n³` at the square of the input's scale, so that it adds to `Σ(n·x − Σx)²`; at least 0.
        eps: u64,
        /// How `u·gain + bias` becomes elements.
        out: Requant,
    },
    /// Softmax over the last axis; output `i16` in `[0, 2^bits]`.
    Softmax {
        /// Constant of kind `table`, `i16`, 2 … 4,096 entries, non-negative, non-increasing, last 0.
        table: ConstId,
        /// Right shift from score differences to table steps, 0 … 31.
        shift: u8,
        /// Fractional bits of the probabilities, 1 … 14.
        bits: u8,
    },
    /// Sum over the last axis into `i32`.
    ReduceSum,
    /// Lowest index of the maximum over the last axis, `i32`.
    ArgMax,
    /// Rows of a `rows` constant by id: `[…] → […, cols]`.
    Embedding {
        /// Constant of kind `rows`.
        rows: ConstId,
    },
    /// Output axis `i` is input axis `perm[i]`.
    Transpose {
        /// A permutation of the axes.
        perm: Vec<u8>,
    },
    /// The same elements under another shape; a view.
    Reshape {
        /// New shape: same number of elements for every `Seq`.
        shape: Shape,
    },
    /// `len` indices from `start` along `axis` (a fixed dimension).
    Slice {
        /// Axis.
        axis: u8,
        /// First index.
        start: u32,
        /// Number of indices, at least 1.
        len: u32,
    },
    /// Inputs after one another along `axis` (a fixed dimension in all of them).
    Concat {
        /// Axis.
        axis: u8,
    },
}

/// One operator in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Producers, all of smaller index; at most [`MAX_INPUTS`](crate::MAX_INPUTS).
    pub inputs: Vec<NodeId>,
    /// Whether its output is committed in every receipt (docs/graph.md, "Trace").
    pub checkpoint: bool,
}

/// A model: nodes in topological order and their constants. The last node is the output.
///
/// Built by [`GraphBuilder`](crate::GraphBuilder) or decoded; both validate, so a `Graph` that exists is well-formed: shapes fit, bounds hold, caps hold.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) header: Header,
    pub(crate) nodes: Vec<Node>,
    pub(crate) types: Vec<TensorType>,
    pub(crate) consts: Vec<Const>,
}

/// What is true of the whole graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Largest number of positions; 1 for graphs without `Seq`.
    pub max_seq: u32,
    /// A trace block has `2^block_bits` bytes, 10 … 14.
    pub block_bits: u8,
}
