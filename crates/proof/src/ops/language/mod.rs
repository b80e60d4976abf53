//! Operators of decoder-only language models (docs/graph.md, "Language models") and of sampling.

mod attention;
mod exponents;
mod greedy;
mod linear;
mod low;
mod mix;
mod moves;
mod sampler;
mod wide;

use assay_graph::{DType, Node, Op, Requant};

use self::wide::clamped;
use super::{Context, elementwise};
use crate::{
    error::PlanError,
    plan::{builder::Builder, expr::Term, gadgets::Ranged, value::Value},
};

/// Whether a linear layer's accumulators are those of 16-bit integers.
pub(crate) fn is_wide(ctx: &Context<'_>, node: &Node) -> bool {
    let ty = node.inputs.first().and_then(|i| ctx.types.get(*i as usize));
    ty.is_some_and(|t| t.dtype != DType::I8)
}

/// Whether a node is no tensor of the witness: scores, and what lies between logits and token.
fn is_hidden(ctx: &Context<'_>, id: u32) -> bool {
    let node = ctx.nodes.get(id as usize);
    node.is_some_and(|n| match &n.op {
        Op::Scores { .. }
        | Op::Adjust { .. }
        | Op::BlockMax { .. }
        | Op::Gap { .. }
        | Op::Census { .. }
        | Op::Cut { .. }
        | Op::Mass { .. } => true,
        Op::ReduceSum => n.inputs.iter().any(|i| is_hidden(ctx, *i)),
        _ => false,
    })
}

/// Whether a hidden node may be read by such a node, which knows how.
fn may_read(op: &Op, reader: &Op) -> bool {
    match op {
        Op::Scores { .. } => matches!(reader, Op::CausalExp { .. }),
        Op::Adjust { .. } | Op::BlockMax { .. } => {
            matches!(reader, Op::BlockMax { .. } | Op::Gap { .. })
        }
        Op::Gap { .. } => matches!(
            reader,
            Op::Census { .. } | Op::Mass { .. } | Op::Pick { .. }
        ),
        Op::Census { .. } => matches!(reader, Op::ReduceSum),
        Op::ReduceSum => matches!(reader, Op::Cut { .. }),
        Op::Cut { .. } => matches!(reader, Op::Mass { .. } | Op::Pick { .. }),
        Op::Mass { .. } => matches!(reader, Op::Pick { .. }),
        _ => false,
    }
}

/// Plans a node of a language model; none for others.
pub(crate) fn plan(
    b: &mut Builder,
    ctx: &Context<'_>,
    index: u32,
) -> Result<Option<Value>, PlanError> {
    let node = &ctx.nodes[index as usize];
    for i in &node.inputs {
        let from = ctx.nodes.get(*i as usize);
        if is_hidden(ctx, *i) && from.is_some_and(|n| !may_read(&n.op, &node.op)) {
            return Err(b.unsupported("an operand that is no tensor of the witness"));
        }
    }
    if is_hidden(ctx, index) {
        if index as usize + 1 == ctx.nodes.len() {
            return Err(b.unsupported("an output that is no tensor of the witness"));
        }
        return Ok(Some(sampler::nothing(ctx, index)));
    }
    let generative = matches!(ctx.nodes.last().map(|n| &n.op), Some(Op::Pick { .. }));
    let value = match &node.op {
        Op::Linear { weights, out } if node.inputs.len() == 2 => {
            exponents::linear(b, ctx, node, *weights, out)?
        }
        Op::Linear { weights, out } if generative && is_wide(ctx, node) => {
            linear::linear(b, ctx, node, *weights, out)?
        }
        Op::Add { left, out } if generative && out.dtype == DType::I32 && out.shift == 0 => {
            return add(b, ctx, node, *left, out);
        }
        Op::Lookup { table } if generative => return moves::lookup(b, ctx, node, *table),
        Op::Lift { weights, out } => moves::lift(b, ctx, node, *weights, out)?,
        Op::Rope { rows, out } => moves::rope(b, ctx, node, *rows, out)?,
        Op::Mul { out } => moves::mul(b, ctx, node, out)?,
        Op::Tail => moves::tail(b, ctx, node)?,
        Op::Exponent { bits } => exponents::exponent(b, ctx, node, *bits)?,
        Op::Normalise { out } => exponents::normalise(b, ctx, node, out)?,
        Op::CausalExp { table, shifts } => attention::causal_exp(b, ctx, node, *table, shifts)?,
        Op::Mix { bits, out, .. } => mix::mix(b, ctx, node, *bits, out)?,
        Op::Pick { .. } => sampler::pick(b, ctx, node)?,
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// A sum of 32-bit integers that can saturate; none where it can't.
fn add(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    left: [u8; 2],
    out: &Requant,
) -> Result<Option<Value>, PlanError> {
    let (x, y) = elementwise::aligned(b, ctx.operand(b, node, 0)?, ctx.operand(b, node, 1)?)?;
    let ends = (i64::from(out.lo), i64::from(out.hi));
    let (lo, hi) = (
        (x.lo << left[0]) + (y.lo << left[1]),
        (x.hi << left[0]) + (y.hi << left[1]),
    );
    if lo >= ends.0 && hi <= ends.1 {
        return Ok(None);
    }
    let view = x
        .view
        .scaled(1 << left[0])
        .plus(&y.view.scaled(1 << left[1]));
    let ints = x.ints.as_ref().zip(y.ints.as_ref()).map(|(x, y)| {
        let pairs = x.iter().zip(y.iter());
        pairs
            .map(|(x, y)| (i64::from(*x) << left[0]) + (i64::from(*y) << left[1]))
            .collect::<Vec<i64>>()
    });
    let axes = x.factors();
    let (h, z) = clamped(b, &axes, (lo, hi), ends, ints.as_deref())?;
    b.fits((hi - h.h.lo).max(h.h.hi - lo))?;
    let terms = vec![Term::linear(view.minus(&h.h.view))];
    b.relation("clamp of a sum", &axes, terms);
    let Ranged {
        view, ints, lo, hi, ..
    } = z;
    Ok(Some(Value {
        dims: x.dims.clone(),
        view,
        ints: ints.map(std::sync::Arc::new),
        lo,
        hi,
    }))
}
