//! How each operator is proven: `plan` functions that state columns and relations, and compute the columns' integers when there are inputs. They follow the definitions of `assay_graph::ops` and define nothing.

mod argmax;
mod conv;
mod elementwise;
mod language;
mod linear;
mod matmul;
mod moves;
mod norm;
mod pool;
mod rows;
mod softmax;

use std::sync::Arc;

use assay_graph::{
    Const, ConstId, ConstKind, Extent, Node, Op, Requant, Sampling, TensorType, op_name,
};

use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Operand, View},
        value::{Value, unsupported},
    },
};

/// What operators are planned with.
pub(crate) struct Context<'a> {
    pub(crate) nodes: &'a [Node],
    /// Types by structure: their ranges are not used.
    pub(crate) types: &'a [TensorType],
    pub(crate) kinds: &'a [ConstKind],
    /// The constants, for whoever holds them.
    pub(crate) consts: Option<&'a [Const]>,
    /// Runs in the proof.
    pub(crate) runs: usize,
    pub(crate) extent: Extent,
    /// Most positions of a run: bounds of values must not depend on this run's.
    pub(crate) max_seq: u32,
    /// The statement's outputs of all runs, where they are known.
    pub(crate) outputs: Option<Arc<Vec<i32>>>,
    /// How the runs of a language model are sampled; none: the likeliest tokens.
    pub(crate) samplings: &'a [Sampling],
    /// Values of the nodes so far.
    pub(crate) values: Vec<Value>,
}

impl Context<'_> {
    /// Operand `i` of a node.
    pub(crate) fn operand(&self, b: &Builder, node: &Node, i: usize) -> Result<&Value, PlanError> {
        let value = node
            .inputs
            .get(i)
            .and_then(|n| self.values.get(*n as usize));
        value.ok_or_else(|| b.unsupported("an operand is missing"))
    }

    /// The constant's kind.
    pub(crate) fn kind(&self, b: &Builder, id: ConstId) -> Result<ConstKind, PlanError> {
        self.kinds
            .get(id as usize)
            .copied()
            .ok_or_else(|| b.unsupported("a constant is missing"))
    }

    /// The constant itself; an error for whoever has only a key (facts are asked for instead).
    pub(crate) fn constant(&self, id: ConstId) -> Result<&Const, PlanError> {
        let found = self.consts.and_then(|c| c.get(id as usize));
        found.ok_or_else(|| PlanError::Key("the model's constants are needed here".into()))
    }

    /// The function that follows the node which is being planned and nothing else does, by its values over the node's range: it is applied at once.
    pub(crate) fn function(
        &self,
        b: &mut Builder,
        out: &Requant,
    ) -> Result<Option<Vec<i32>>, PlanError> {
        let readers = |n: &&Node| n.inputs.contains(&b.node);
        let mut readers = self.nodes.iter().filter(readers);
        let (
            Some(Node {
                op: Op::Lookup { table },
                ..
            }),
            None,
        ) = (readers.next(), readers.next())
        else {
            return Ok(None);
        };
        let values = elementwise::table(b, self, *table)?;
        let first = -(values.len() as i64) / 2;
        let inside = usize::try_from(i64::from(out.lo) - first)
            .ok()
            .zip(usize::try_from(i64::from(out.hi) - first).ok());
        let Some(part) = inside.and_then(|(a, z)| values.get(a..=z)) else {
            return Err(b.unsupported("a value leaves its table"));
        };
        b.applied.insert(b.node);
        Ok(Some(part.to_vec()))
    }

    /// Length of a node's last axis in the longest run.
    pub(crate) fn longest(&self, node: u32) -> i64 {
        let extent = Extent {
            seq: self.max_seq,
            out: self.max_seq,
        };
        let last = self.types[node as usize].shape.last();
        last.map_or(1, |d| d.at(extent).into())
    }

    /// Dimensions of a node without the run's.
    pub(crate) fn dims(&self, node: u32) -> Vec<usize> {
        self.types[node as usize].dims(self.extent)
    }
}

/// The input of all runs: a tensor that the verifier knows.
pub(crate) fn input(
    b: &mut Builder,
    ctx: &Context<'_>,
    ty: &TensorType,
    data: Arc<Vec<i32>>,
) -> Value {
    let mut shape = vec![ctx.runs];
    shape.extend(ty.dims(ctx.extent));
    let ints = b.data.is_some().then(|| Arc::clone(&data));
    let id = b.public(&shape, data);
    Value {
        view: View::of(Operand::Public(id), shape.len()),
        dims: shape.iter().map(|d| vec![*d]).collect(),
        ints,
        lo: ty.lo.into(),
        hi: ty.hi.into(),
    }
}

/// The input of all runs where it is hidden: columns in the range of its type.
///
/// # Errors
/// [`PlanError::Range`] for a range that does not fit the field.
pub(crate) fn hidden_input(
    b: &mut Builder,
    ctx: &Context<'_>,
    ty: &TensorType,
    data: &[i32],
) -> Result<Value, PlanError> {
    let mut shape = vec![ctx.runs];
    shape.extend(ty.dims(ctx.extent));
    let (lo, hi) = (i64::from(ty.lo), i64::from(ty.hi));
    // what is committed for the distances to both ends lies in a range of at most twice the length
    b.fits(4 * (hi - lo + 1))?;
    let ints: Option<Vec<i64>> =
        (b.data.is_some()).then(|| data.iter().map(|v| i64::from(*v)).collect());
    let cells = b.exact(&shape, lo, hi, ints.as_deref());
    Ok(Value {
        view: cells.view,
        dims: shape.iter().map(|d| vec![*d]).collect(),
        ints: cells.ints.map(Arc::new),
        lo,
        hi,
    })
}

/// Plans one node. What it can give lies in its element type: a key's facts that say otherwise are wrong.
pub(crate) fn plan(b: &mut Builder, ctx: &Context<'_>, index: u32) -> Result<Value, PlanError> {
    let value = rule(b, ctx, index)?;
    let (lo, hi) = ctx.types[index as usize].dtype.range();
    if value.lo < lo.into() || value.hi > hi.into() {
        let why = format!(
            "node {index} gives values from {} to {}",
            value.lo, value.hi
        );
        return Err(PlanError::Key(why));
    }
    Ok(value)
}

/// The rule of a node's operator.
fn rule(b: &mut Builder, ctx: &Context<'_>, index: u32) -> Result<Value, PlanError> {
    let node = &ctx.nodes[index as usize];
    let op = op_name(&node.op);
    (b.node, b.op) = (index, op);
    let wrong = |why: String| unsupported(index, op, why);
    if let Some(value) = language::plan(b, ctx, index)? {
        return Ok(value);
    }
    match &node.op {
        Op::Linear { weights, out } if node.inputs.len() == 1 => {
            linear::linear(b, ctx, node, *weights, out)
        }
        Op::Conv2d {
            weights,
            window,
            groups,
            out,
        } => conv::conv2d(b, ctx, node, *weights, window, *groups, out),
        Op::Add { left, out } => elementwise::add(b, ctx, node, *left, out),
        Op::MatMul { out } => matmul::matmul(b, ctx, node, out),
        Op::AddRows { rows, left, out } => rows::add_rows(b, ctx, node, *rows, *left, out),
        Op::Embedding { rows } => rows::embedding(b, ctx, node, *rows),
        Op::Softmax { table, shift, bits } => softmax::softmax(b, ctx, node, *table, *shift, *bits),
        Op::LayerNorm { params, eps, out } => norm::layer_norm(b, ctx, node, *params, *eps, out),
        Op::RmsNorm { params, eps, out } => norm::rms_norm(b, ctx, node, *params, *eps, out),
        Op::ReduceSum => argmax::reduce_sum(b, ctx, node),
        Op::ArgMax => argmax::arg_max(b, ctx, node),
        Op::Concat { axis } => moves::concat(b, ctx, node, usize::from(*axis)),
        Op::Requant { out } => elementwise::requant(b, ctx, node, out),
        Op::Lookup { table } => elementwise::lookup(b, ctx, node, *table),
        Op::MaxPool { window } => pool::max(b, ctx, node, window),
        Op::AvgPool { window } => pool::avg(b, ctx, node, window),
        Op::Reshape { .. } => ctx
            .operand(b, node, 0)?
            .reshape(&ctx.dims(index))
            .map_err(wrong),
        Op::Transpose { perm } => {
            let perm: Vec<usize> = perm.iter().map(|p| usize::from(*p)).collect();
            Ok(ctx.operand(b, node, 0)?.transpose(&perm))
        }
        Op::Slice { axis, start, len } => {
            let x = ctx.operand(b, node, 0)?;
            x.slice(usize::from(*axis) + 1, *start as usize, *len as usize)
                .map_err(wrong)
        }
        _ => Err(wrong("no proof rule yet".into())),
    }
}
