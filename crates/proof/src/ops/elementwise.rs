//! Sums, requantisation and tables, element by element. Sums that can't saturate are no columns at all.

use std::sync::Arc;

use assay_graph::{ConstId, ConstKind, Node, Requant};

use super::Context;
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Term, View},
        gadgets::{Ranged, Shifts, Sum},
        value::Value,
    },
};

/// `sat(rnd(view, shift))` of a view over `axes`.
pub(crate) fn requant_view(
    b: &mut Builder,
    axes: &[usize],
    x: Ranged,
    out: &Requant,
) -> Result<Ranged, PlanError> {
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
        return Ok(x);
    }
    let sum = Sum {
        axes: axes.to_vec(),
        ints: x.ints.map(|v| v.into_iter().map(i64::from).collect()),
        terms: vec![Term::linear(x.view)],
        lo: x.lo,
        hi: x.hi,
    };
    b.requant(sum, &Shifts::All(out.shift.max(0).into()), (lo, hi), None)
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

fn ranged(x: &Value) -> Ranged {
    Ranged {
        view: x.view.clone(),
        ints: x.ints.as_ref().map(|v| v.to_vec()),
        lo: x.lo,
        hi: x.hi,
    }
}

/// Both operands over the same factors: those of the one whose dimensions are cut finer.
pub(crate) fn aligned(b: &Builder, x: &Value, y: &Value) -> Result<(Value, Value), PlanError> {
    let (x, y) = (x.clone(), y.clone());
    if x.factors() == y.factors() {
        return Ok((x, y));
    }
    let refine = |v: &Value, by: &Value| {
        let factors = by.factors();
        v.reshape(&factors[by.dims[0].len()..])
    };
    let pair = refine(&x, &y)
        .map(|v| (v, y.clone()))
        .or_else(|_| refine(&y, &x).map(|v| (x.clone(), v)));
    match pair {
        Ok((v, w)) if v.factors() == w.factors() => Ok((v, w)),
        _ => Err(b.unsupported("the operands' dimensions are cut differently")),
    }
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
    let sum = sum_of(&x, ranged(&y), left);
    let axes = x.factors();
    let sum = requant_view(b, &axes, sum, out)?;
    let out = value(axes.iter().map(|d| vec![*d]).collect(), sum);
    out.reshape(&(1..x.dims.len()).map(|d| x.dim(d)).collect::<Vec<_>>())
        .map_err(|why| b.unsupported(why))
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
    let y = requant_view(b, &x.factors(), ranged(x), out)?;
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
    let values = table(b, ctx, id)?;
    let x = ctx.operand(b, node, 0)?;
    let first = -(values.len() as i64) / 2;
    let y = b.function(&x.factors(), &ranged(x), first, &values)?;
    Ok(value(x.dims.clone(), y))
}

/// The view of a value under other labels.
pub(crate) fn view_of(x: &Value, labels: &[usize]) -> View {
    x.view.rename(labels)
}
