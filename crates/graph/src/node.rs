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
    /// `[…, k] → […, n]` by a `weights` or `blocks` constant of n rows and k columns.
    ///
    /// A second operand `[…]`, if there is one, holds the exponent of each input row (see [`Op::Exponent`]): the shift of row r becomes `shift_r − e`.
    Linear {
        /// Constant of kind `weights` or `blocks`; each row brings its own shift.
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
    /// Rows of a constant by id: `[…] → […, cols]`. A `rows` constant is moved as it is.
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
    /// Rows of a `weights` or `blocks` constant by id: `sat(rnd(w, shift_r + shift))`, so that a tied embedding is stored once.
    Lift {
        /// Constant of kind `weights` or `blocks`, the one that the head multiplies by.
        weights: ConstId,
        /// `shift` is added to the row's own.
        out: Requant,
    },
    /// Root-mean-square normalisation over the last axis.
    RmsNorm {
        /// Constant of kind `norm`.
        params: ConstId,
        /// `ε·n` at the square of the input's scale, so that it adds to `Σx²`.
        eps: u64,
        /// How `u·gain + bias` becomes elements.
        out: Requant,
    },
    /// Rotary position embedding of `[seq, heads·d]`: pairs `(i, i + d/2)` of each head turned by the angle of the position.
    Rope {
        /// Constant of kind `rows`, `i16`, one row a position: d/2 cosines, then d/2 sines, times 2^14.
        rows: ConstId,
        /// How sums become elements.
        out: Requant,
    },
    /// Element-wise product of two equal shapes.
    Mul {
        /// How products become elements.
        out: Requant,
    },
    /// `[…, n] → […]`, `i8`: how far a row must be shifted right to fit `bits` bits and a sign: `max(0, bitlen(max|x|) − bits)`.
    Exponent {
        /// 7 … 15.
        bits: u8,
    },
    /// `[…, n]` by the exponents `[…]`: `sat(rnd(x, shift + e))`.
    Normalise {
        /// `shift` is added to the exponent.
        out: Requant,
    },
    /// Causal attention scores `[seq, heads·d] × [seq, kv_heads·d] → [heads, seq, seq]`, `i32`: `Σ q·k` for `j ≤ t`, else 0.
    Scores {
        /// Query heads; a multiple of `kv_heads`.
        heads: u16,
        /// Key heads.
        kv_heads: u16,
    },
    /// Causal exponentials of `[heads, seq, seq]`: `table[min(T − 1, rnd(max_{i ≤ t} s_i − s_j, shift_h))]` for `j ≤ t`, else 0.
    CausalExp {
        /// Constant of kind `table`, `i16`, 2 … 4,096 entries, non-negative, non-increasing, last 0.
        table: ConstId,
        /// Shift of each head, 0 … 31.
        shifts: Vec<u8>,
    },
    /// Weighted mean of values with one division: `[heads, seq, seq] × [kv_heads·d, seq] → [seq, heads·d]`.
    Mix {
        /// Value heads; divides the heads of the weights.
        kv_heads: u16,
        /// `c0`: `floor((2^(c0+1)·Σ e·v + S) / 2S)`, 0 … 8.
        bits: u8,
        /// Type and clamp of the result (`shift` is 0).
        out: Requant,
    },
    /// `[seq, …] → [out, …]`: the rows from which the answer is made, `seq − out …`.
    Tail,
    /// Logits `[out, n]` and the tokens `[seq]` → logits after penalties, bias, temperature and mask, `i32` with 8 more fractional bits.
    Adjust {
        /// Fractional bits of the logits, in units of log2; 4 … 10.
        scale: u8,
    },
    /// `[…, n] → […, ⌈n/block⌉]`: maximum of each block of the last axis.
    BlockMax {
        /// Elements of a block.
        block: u32,
    },
    /// Distance to the maximum: `[out, n]`, `[out, 1]` → `i16`, `min(limit, rnd(max − y, 8))`.
    Gap {
        /// Distance from which a token is out of reach.
        limit: u16,
    },
    /// How often each distance occurs: `[out, n] → [out, limit + 1, ⌈n/block⌉]`, `i32`.
    Census {
        /// Elements of a block.
        block: u32,
        /// The limit of the distances.
        limit: u16,
    },
    /// Largest distance that top-k, top-p and min-p keep: `[out, limit + 1] → [out]`, `i32`.
    Cut {
        /// Constant of kind `table`, `i16`: `2^14·2^(−i/N)` for i in 0 … N − 1, N the steps of an octave.
        table: ConstId,
    },
    /// Probability mass of each block of kept tokens: `[out, n]`, `[out]` → `[out, ⌈n/block⌉]`, `i32`.
    Mass {
        /// As in [`Op::Cut`].
        table: ConstId,
        /// Tokens of a block, at most 1,024.
        block: u32,
    },
    /// The sampled token: distances `[out, n]`, cut `[out]`, masses `[out, ⌈n/block⌉]` → `[out]`, `i32`.
    Pick {
        /// As in [`Op::Cut`].
        table: ConstId,
        /// Tokens of a block.
        block: u32,
    },
}

impl Op {
    /// The constant that the operator reads, if any.
    pub const fn constant(&self) -> Option<ConstId> {
        match self {
            Self::Linear { weights: c, .. }
            | Self::Conv2d { weights: c, .. }
            | Self::AddRows { rows: c, .. }
            | Self::Lookup { table: c }
            | Self::LayerNorm { params: c, .. }
            | Self::Softmax { table: c, .. }
            | Self::Embedding { rows: c }
            | Self::Lift { weights: c, .. }
            | Self::RmsNorm { params: c, .. }
            | Self::Rope { rows: c, .. }
            | Self::CausalExp { table: c, .. }
            | Self::Cut { table: c }
            | Self::Mass { table: c, .. }
            | Self::Pick { table: c, .. } => Some(*c),
            _ => None,
        }
    }
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
