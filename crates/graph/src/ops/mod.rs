//! The definition of every operator: the value of one output element.
//!
//! [`element`] pulls what it needs through a [`Source`]: slices of the producers' outputs and rows of constants. On a full run the source is the run itself;
//! in a dispute it is the opened evidence; when evidence is built it is a recorder. So there is nothing that could drift apart.

mod elementwise;
mod language;
mod linear;
mod moves;
mod norm;
mod pool;
mod reduce;
pub mod sample;

use std::borrow::Cow;

use crate::{
    consts::ConstKind,
    error::GraphError,
    node::{ConstId, Op, Requant},
    sampling::Sampling,
    types::DType,
};

pub use language::{exponent_of, rms_norm_unit};
pub use norm::{inverse_sqrt, layer_norm_unit, softmax_exp};

/// Where an element takes its inputs from. Indices are checked by the source.
pub trait Source {
    /// `len` elements from `start` of operand `operand` (position in the node's inputs), widened.
    ///
    /// # Errors
    /// When the source does not have them.
    fn slice(&self, operand: usize, start: usize, len: usize)
    -> Result<Cow<'_, [i32]>, GraphError>;
    /// Canonical bytes of one row of a constant.
    ///
    /// # Errors
    /// When the source does not have it.
    fn row(&self, constant: ConstId, row: u32) -> Result<Cow<'_, [u8]>, GraphError>;

    /// The run's sampling statement.
    ///
    /// # Errors
    /// When the source has none.
    fn sampling(&self) -> Result<&Sampling, GraphError> {
        Err(GraphError::evidence("there is no sampling statement"))
    }

    /// Bitmap of the tokens allowed at answered position `row`.
    ///
    /// # Errors
    /// When the source does not have it.
    fn mask(&self, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        Err(GraphError::evidence(format!("there is no mask {row}")))
    }
}

/// A node in a run: operator and the dimensions of its operands and output.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Operator.
    pub op: &'a Op,
    /// Kinds of all constants of the graph.
    pub kinds: &'a [ConstKind],
    /// Dimensions of each operand.
    pub operands: Vec<Vec<usize>>,
    /// Element type of each operand.
    pub dtypes: Vec<DType>,
    /// Dimensions of the output.
    pub dims: Vec<usize>,
}

impl Place<'_> {
    pub(crate) fn operand(&self, i: usize) -> &[usize] {
        self.operands.get(i).map_or(&[], Vec::as_slice)
    }

    /// Kind of a constant; the graph is validated, so a missing one is an internal error of the caller.
    pub(crate) fn kind(&self, id: ConstId) -> Result<ConstKind, GraphError> {
        self.kinds
            .get(id as usize)
            .copied()
            .ok_or_else(|| GraphError::evidence("constant does not exist"))
    }
}

/// `rnd(v, k)`: rounding right shift (half up), or exact left shift for negative `k`; `k` at most 63, `|v|` below 2^62.
pub const fn rnd(v: i64, k: i8) -> i64 {
    if k > 0 {
        (v + (1 << (k - 1))) >> k
    } else {
        v << -k
    }
}

/// `sat(rnd(v, shift))`.
pub fn requant(v: i64, shift: i8, out: &Requant) -> i32 {
    rnd(v, shift).clamp(i64::from(out.lo), i64::from(out.hi)) as i32
}

/// The value of element `index` (row-major) of a node's output.
///
/// # Errors
/// Those of the source, and [`GraphError::Evidence`] when values from outside can't be what an honest run produces.
pub fn element<S: Source>(place: &Place<'_>, index: usize, src: &S) -> Result<i32, GraphError> {
    match place.op {
        Op::Input { .. } => Err(GraphError::evidence("the input node computes nothing")),
        Op::Linear { weights, out } => linear::linear(place, index, src, *weights, out),
        Op::Conv2d {
            weights,
            window,
            groups,
            out,
        } => linear::conv2d(place, index, src, *weights, window, *groups, out),
        Op::MatMul { out } => linear::matmul(place, index, src, out),
        Op::Add { left, out } => elementwise::add(index, src, *left, out),
        Op::AddRows { rows, left, out } => {
            elementwise::add_rows(place, index, src, *rows, *left, out)
        }
        Op::Requant { out } => elementwise::requantise(index, src, out),
        Op::Lookup { table } => elementwise::lookup(place, index, src, *table),
        Op::MaxPool { window } => pool::max_pool(place, index, src, window),
        Op::AvgPool { window } => pool::avg_pool(place, index, src, window),
        Op::LayerNorm { params, eps, out } => {
            norm::layer_norm(place, index, src, *params, *eps, out)
        }
        Op::Softmax { table, shift, bits } => {
            norm::softmax(place, index, src, *table, *shift, *bits)
        }
        Op::ReduceSum => reduce::reduce_sum(place, index, src),
        Op::ArgMax => reduce::arg_max(place, index, src),
        Op::Embedding { rows } => moves::embedding(place, index, src, *rows),
        Op::Transpose { perm } => moves::transpose(place, index, src, perm),
        Op::Reshape { .. } => one(src, 0, index),
        Op::Slice { axis, start, .. } => moves::slice(place, index, src, *axis, *start),
        Op::Concat { axis } => moves::concat(place, index, src, *axis),
        Op::Lift { weights, out } => language::lift(place, index, src, *weights, out),
        Op::RmsNorm { params, eps, out } => {
            language::rms_norm(place, index, src, *params, *eps, out)
        }
        Op::Rope { rows, out } => language::rope(place, index, src, *rows, out),
        Op::Mul { out } => language::mul(index, src, out),
        Op::Exponent { bits } => language::exponent(place, index, src, *bits),
        Op::Normalise { out } => language::normalise(place, index, src, out),
        Op::Scores { heads, kv_heads } => language::scores(place, index, src, *heads, *kv_heads),
        Op::CausalExp { table, shifts } => language::causal_exp(place, index, src, *table, shifts),
        Op::Mix { bits, out, .. } => language::mix(place, index, src, *bits, out),
        Op::Tail => language::tail(place, index, src),
        Op::Adjust { scale } => sample::adjust(place, index, src, *scale),
        Op::BlockMax { block } => sample::block_max(place, index, src, *block),
        Op::Gap { limit } => sample::gap(place, index, src, *limit),
        Op::Census { block, .. } => sample::census(place, index, src, *block),
        Op::Cut { table } => sample::cut(place, index, src, *table),
        Op::Mass { table, block } => sample::mass(place, index, src, *table, *block),
        Op::Pick { table, block } => sample::pick(place, index, src, *table, *block),
    }
}

/// One element of an operand.
pub(crate) fn one<S: Source>(src: &S, operand: usize, index: usize) -> Result<i32, GraphError> {
    src.slice(operand, index, 1)?
        .first()
        .copied()
        .ok_or_else(|| GraphError::evidence("empty slice"))
}

/// Splits a row-major index into coordinates. `dims` has no zero.
pub(crate) fn coordinates(dims: &[usize], mut index: usize) -> Vec<usize> {
    let mut out = vec![0; dims.len()];
    for (slot, d) in out.iter_mut().zip(dims).rev() {
        *slot = index % d.max(&1);
        index /= d.max(&1);
    }
    out
}

/// Row-major index of coordinates.
pub(crate) fn flatten(dims: &[usize], at: &[usize]) -> usize {
    dims.iter().zip(at).fold(0, |acc, (d, c)| acc * d + c)
}

/// Last dimension, 1 for a scalar.
pub(crate) fn last(dims: &[usize]) -> usize {
    dims.last().copied().unwrap_or(1).max(1)
}
