//! arg_max and reduce_sum over the last axis.

use std::sync::Arc;

use assay_graph::Node;

use super::Context;
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Operand, Term, View},
        gadgets::{Ranged, map},
        row::{Rows, wide},
        value::Value,
    },
};

/// A value without the last dimension.
fn reduced(x: &Value, y: Ranged) -> Value {
    Value {
        dims: x.dims[..x.dims.len() - 1].to_vec(),
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    }
}

/// `Σ x`. The range is that of the longest run.
pub(crate) fn reduce_sum(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let y = b.row_sums(&Rows::of(x))?;
    let n = ctx.longest(node.inputs[0]);
    let (lo, hi) = (n.saturating_mul(x.lo), n.saturating_mul(x.hi));
    Ok(reduced(
        x,
        Ranged {
            lo: lo.min(y.lo),
            hi: hi.max(y.hi),
            ..y
        },
    ))
}

/// Lowest index of the maximum.
///
/// Keys `k_j = n·x_j + (n − 1 − j)` are distinct, and the largest is that of the lowest index among the largest elements
/// of the row. `K − k_j ≥ 0` for all j and `K = k_j` for one j make K the maximum; `K = n·M + n − 1 − a` with `0 ≤ a < n` makes a unique.
pub(crate) fn arg_max(b: &mut Builder, ctx: &Context<'_>, node: &Node) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let rows = Rows::of(x);
    let n = rows.len();
    let size = n as i64;
    let (lo, hi) = (
        x.lo.saturating_mul(size),
        x.hi.saturating_mul(size) + size - 1,
    );
    b.fits(hi.saturating_sub(lo).saturating_mul(4))?;
    // n − 1 − j, over the inner labels
    let inner = rows.outer.len();
    let falling = b.public(&rows.inner, Arc::new((0..n as i32).rev().collect()));
    let labels: Vec<usize> = (inner..inner + rows.inner.len()).collect();
    let falling = View::of(Operand::Public(falling), rows.inner.len()).rename(&labels);
    let ints = rows.x.ints.as_ref().map(|v| {
        let each = v.iter().enumerate();
        each.map(|(i, x)| x * n as i32 + (n - 1 - i % n) as i32)
            .collect()
    });
    let keys = Rows {
        x: Ranged {
            view: rows.x.view.scaled(size).plus(&falling),
            ints,
            lo,
            hi,
        },
        ..rows.clone()
    };
    let best = b.row_max(&keys)?;
    let best_ints = wide(best.ints.as_deref());
    let index = map(best_ints.as_deref(), |_, k| size - 1 - k.rem_euclid(size));
    let index = b.claimed("index", index);
    let max = map(best_ints.as_deref(), |_, k| k.div_euclid(size));
    let index = b.exact(&rows.outer, 0, size - 1, index.as_deref());
    let max = b.around(&rows.outer, x.lo, x.hi, max.as_deref());
    b.fits(
        max.hi
            .abs()
            .max(max.lo.abs())
            .saturating_add(1)
            .saturating_mul(size)
            + hi.abs().max(lo.abs()),
    )?;
    let terms = vec![
        Term::linear(max.view.scaled(size).minus(&index.view).minus(&best.view)),
        Term::constant(size - 1),
    ];
    b.relation("index of the maximum", &rows.outer, terms);
    // facts must not depend on the length of this run
    let hi = ctx.longest(node.inputs[0]) - 1;
    Ok(reduced(x, Ranged { hi, ..index }))
}
