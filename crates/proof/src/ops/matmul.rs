//! Products of two tensors of activations.

use std::sync::Arc;

use assay_graph::{Node, Op, Requant};
use rayon::prelude::*;

use super::{Context, elementwise::refined};
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Label, Term},
        gadgets::{Shifts, Sum},
        value::Value,
    },
};

/// Largest `Σ|x|` over the last axis of an operand, for every legal run of the model.
fn row_sum(ctx: &Context<'_>, node: &Node, i: usize, x: &Value) -> i64 {
    let id = node.inputs[i] as usize;
    let n = ctx.longest(node.inputs[i]);
    let most = n.saturating_mul(x.lo.abs().max(x.hi.abs()));
    match ctx.nodes[id].op {
        // each quotient is rounded up by at most one half
        Op::Softmax { bits, .. } => most.min((1 << bits) + n / 2),
        _ => most,
    }
}

/// `[…, m, k] × […, n, k] → […, m, n]`.
pub(crate) fn matmul(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    out: &Requant,
) -> Result<Value, PlanError> {
    let (x, y) = (ctx.operand(b, node, 0)?, ctx.operand(b, node, 1)?);
    let (sum_x, sum_y) = (row_sum(ctx, node, 0, x), row_sum(ctx, node, 1, y));
    let rank = x.dims.len();
    let shared: Vec<usize> = (0..rank - 2).chain([rank - 1]).collect();
    let (x, y) = refined(b, x, y, &shared)?;

    // output labels: batch, m, n; summed: k
    let lens = |v: &Value, d: usize| v.dims[d].clone();
    let batch: Vec<usize> = x.dims[..rank - 2].concat();
    let (m, n, sums) = (lens(&x, rank - 2), lens(&y, rank - 2), lens(&x, rank - 1));
    let (at_m, at_n, at_k) = (
        batch.len(),
        batch.len() + m.len(),
        batch.len() + m.len() + n.len(),
    );
    let names = |at: usize, len: usize| -> Vec<Label> {
        let own = at..at + len;
        (0..at_m)
            .chain(own)
            .chain(at_k..at_k + sums.len())
            .collect()
    };
    let left = u32::from(out.shift.min(0).unsigned_abs());
    let term = Term::Product {
        coefficient: 1 << left,
        a: x.view.rename(&names(at_m, m.len())),
        b: y.view.rename(&names(at_n, n.len())),
        sums: sums.clone(),
    };
    let peak = |v: &Value| v.lo.abs().max(v.hi.abs());
    let most = sum_x
        .saturating_mul(peak(&y))
        .min(sum_y.saturating_mul(peak(&x)));
    b.fits(most.saturating_mul(1 << left))?;
    let least = if (x.lo < 0 || y.lo < 0) && (x.hi > 0 || y.hi > 0) {
        -most
    } else {
        0
    };
    let sizes = [&m, &n, &sums].map(|d| d.iter().product::<usize>());
    let ints = x.ints.as_ref().zip(y.ints.as_ref());
    let ints = ints.map(|(x, y)| products(x, y, sizes, left));
    let axes = [&batch[..], &m, &n].concat();
    let sum = Sum {
        axes,
        terms: vec![term],
        ints,
        lo: least << left,
        hi: most << left,
    };
    let shifts = Shifts::All(out.shift.max(0).into());
    let function = ctx.function(b, out)?;
    b.alike = ctx.nodes.iter().filter(|n| n.op == node.op).count();
    let z = b.requant(
        sum,
        &shifts,
        (out.lo.into(), out.hi.into()),
        function.as_deref(),
    );
    b.alike = 1;
    let z = z?;
    let mut dims = x.dims[..rank - 2].to_vec();
    dims.extend([m, n]);
    Ok(Value {
        dims,
        view: z.view,
        ints: z.ints.map(Arc::new),
        lo: z.lo,
        hi: z.hi,
    })
}

/// All rows of x by all rows of y, for each batch.
fn products(x: &[i32], y: &[i32], [m, n, k]: [usize; 3], left: u32) -> Vec<i64> {
    let lines: Vec<(&[i32], &[i32])> = x
        .chunks_exact(m * k)
        .zip(y.chunks_exact(n * k))
        .flat_map(|(x, y)| x.chunks_exact(k).map(move |row| (row, y)))
        .collect();
    lines
        .into_par_iter()
        .flat_map_iter(|(row, y)| {
            y.chunks_exact(k).map(move |other| {
                let each = row.iter().zip(other);
                each.map(|(a, b)| i64::from(*a) * i64::from(*b))
                    .sum::<i64>()
                    << left
            })
        })
        .collect()
}
