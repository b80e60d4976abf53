//! Sums, requantisation and tables, element by element. Sums that can't saturate are no columns at all.

use std::sync::Arc;

use assay_graph::{ConstId, ConstKind, Node, Requant};

use super::Context;
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::Term,
        gadgets::{Ranged, Shifts, Sum},
        value::Value,
    },
};

/// `sat(rnd(view, shift))` of a view over `axes`, and the function that follows the node.
pub(crate) fn requant_view(
    b: &mut Builder,
    ctx: &Context<'_>,
    axes: &[usize],
    x: Ranged,
    out: &Requant,
) -> Result<Ranged, PlanError> {
    let function = ctx.function(b, out)?;
    let left = i64::from(out.shift.min(0)).unsigned_abs();
    let x = Ranged {
        view: x.view.scaled(1 << left),
        ints: x
            .ints
            .map(|v| v.into_iter().map(|x| x.wrapping_shl(left as u32)).collect()),
        lo: x.lo << left,
        hi: x.hi << left,
    };
    let (lo, hi) = (i64::from(out.lo), i64::from(out.hi));
    if out.shift <= 0 && x.lo >= lo && x.hi <= hi {
        return match function {
            Some(f) => b.function(axes, &x, lo, &f),
            None => Ok(x),
        };
    }
    let sum = Sum {
        axes: axes.to_vec(),
        ints: x.ints.map(|v| v.into_iter().map(i64::from).collect()),
        terms: vec![Term::linear(x.view)],
        lo: x.lo,
        hi: x.hi,
    };
    let shifts = Shifts::All(out.shift.max(0).into());
    b.requant(sum, &shifts, (lo, hi), function.as_deref())
}

fn value(dims: Vec<Vec<usize>>, y: Ranged) -> Value {
    Value {
        dims,
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    }
}

/// The coarsest cut of a dimension that refines two.
pub(crate) fn common(x: &[usize], y: &[usize]) -> Option<Vec<usize>> {
    let (mut p, mut q) = (1, 1);
    let more = |f: &usize| *f != 1;
    let (mut xs, mut ys) = (
        x.iter().copied().filter(more),
        y.iter().copied().filter(more),
    );
    let mut out = Vec::new();
    loop {
        if p == 1 {
            p = xs.next().unwrap_or(1);
        }
        if q == 1 {
            q = ys.next().unwrap_or(1);
        }
        let part = p.min(q);
        if part == 1 || !p.is_multiple_of(part) || !q.is_multiple_of(part) {
            break;
        }
        out.push(part);
        (p, q) = (p / part, q / part);
    }
    if out.is_empty() {
        out.push(1);
    }
    (p == 1 && q == 1).then_some(out)
}

/// The value with its dimensions cut so, finer than they are.
pub(crate) fn cut(x: &Value, dims: &[Vec<usize>]) -> Result<Value, String> {
    if x.dims == dims {
        return Ok(x.clone());
    }
    let x = x.reshape(&dims[1..].concat())?;
    Ok(Value {
        dims: dims.to_vec(),
        ..x
    })
}

/// Both operands with some dimensions cut alike.
pub(crate) fn refined(
    b: &Builder,
    x: &Value,
    y: &Value,
    shared: &[usize],
) -> Result<(Value, Value), PlanError> {
    let (mut to_x, mut to_y) = (x.dims.clone(), y.dims.clone());
    for d in shared {
        let cut = common(&x.dims[*d], &y.dims[*d])
            .ok_or_else(|| b.unsupported("the operands' dimensions are cut differently"))?;
        to_x[*d].clone_from(&cut);
        to_y[*d] = cut;
    }
    let wrong = |why| b.unsupported(why);
    Ok((cut(x, &to_x).map_err(wrong)?, cut(y, &to_y).map_err(wrong)?))
}

/// Both operands over the same factors.
pub(crate) fn aligned(b: &Builder, x: &Value, y: &Value) -> Result<(Value, Value), PlanError> {
    refined(b, x, y, &(0..x.dims.len()).collect::<Vec<_>>())
}

/// Sum of two equal shapes.
pub(crate) fn add(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    left: [u8; 2],
    out: &Requant,
) -> Result<Value, PlanError> {
    let (x, y) = aligned(b, ctx.operand(b, node, 0)?, ctx.operand(b, node, 1)?)?;
    let sum = sum_of(&x, Ranged::from(&y), left);
    let axes = x.factors();
    let sum = requant_view(b, ctx, &axes, sum, out)?;
    Ok(value(x.dims, sum))
}

/// `(x << left_x) + (y << left_y)`.
pub(crate) fn sum_of(x: &Value, y: Ranged, left: [u8; 2]) -> Ranged {
    let [l, r] = left.map(u32::from);
    let ints = x.ints.as_ref().zip(y.ints.as_ref()).map(|(x, y)| {
        x.iter()
            .zip(y)
            .map(|(x, y)| (x << l).wrapping_add(y << r))
            .collect()
    });
    Ranged {
        view: x.view.scaled(1 << l).plus(&y.view.scaled(1 << r)),
        ints,
        lo: (x.lo << l) + (y.lo << r),
        hi: (x.hi << l) + (y.hi << r),
    }
}

/// Requantisation of a tensor.
pub(crate) fn requant(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    out: &Requant,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let y = requant_view(b, ctx, &x.factors(), Ranged::from(x), out)?;
    Ok(value(x.dims.clone(), y))
}

/// The entries of a table, which are facts.
pub(crate) fn table(
    b: &mut Builder,
    ctx: &Context<'_>,
    id: ConstId,
) -> Result<Arc<Vec<i32>>, PlanError> {
    let ConstKind::Table { entries, .. } = ctx.kind(b, id)? else {
        return Err(b.unsupported("the constant is no table"));
    };
    b.facts
        .list(entries as usize, || Ok(ctx.constant(id)?.values()))
}

/// A table of all values of a type.
pub(crate) fn lookup(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    if b.applied.contains(&node.inputs[0]) {
        return Ok(x.clone());
    }
    let values = table(b, ctx, id)?;
    let first = -(values.len() as i64) / 2;
    let y = b.function(&x.factors(), &Ranged::from(x), first, &values)?;
    Ok(value(x.dims.clone(), y))
}
