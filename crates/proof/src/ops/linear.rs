//! Linear layers: a contraction of activations with committed weights, then requantisation.

use std::{cell::OnceCell, sync::Arc};

use assay_graph::{Const, ConstId, ConstKind, Node, Requant};
use rayon::prelude::*;

use super::Context;
use crate::{
    error::PlanError,
    plan::{
        Part,
        builder::Builder,
        expr::{Affine, Index, Label, Term, View},
        gadgets::{Shifts, Sum},
        value::Value,
    },
};

/// Rows and columns of a constant of weights.
pub(crate) fn shape(b: &Builder, kind: ConstKind) -> Result<(usize, usize), PlanError> {
    match kind {
        ConstKind::Weights { rows, cols, .. }
        | ConstKind::Blocks { rows, cols, .. }
        | ConstKind::Rows { rows, cols, .. } => Ok((rows as usize, cols as usize)),
        _ => Err(b.unsupported("the constant holds no rows")),
    }
}

/// What a plan must know of rows of weights.
pub(crate) struct RowFacts {
    /// Right shift of each row.
    pub(crate) shifts: Arc<Vec<i32>>,
    /// Smallest and largest accumulator of all rows.
    pub(crate) lo: i64,
    pub(crate) hi: i64,
    /// The same of the rows of each shift.
    ends: Vec<(i64, (i64, i64))>,
    /// Whether any bias differs from 0.
    pub(crate) biased: bool,
}

impl RowFacts {
    /// Smallest and largest accumulator of the rows of a shift.
    pub(crate) fn within(&self, k: i64) -> (i64, i64) {
        let found = self.ends.iter().find(|e| e.0 == k);
        found.map_or((self.lo, self.hi), |e| e.1)
    }
}

/// Facts of a constant whose rows meet inputs of `[lo, hi]` (0 included where the sum may leave terms out).
pub(crate) fn row_facts(
    b: &mut Builder,
    ctx: &Context<'_>,
    id: ConstId,
    (lo, hi): (i64, i64),
) -> Result<RowFacts, PlanError> {
    let (rows, _) = shape(b, ctx.kind(b, id)?)?;
    let shifts = b.facts.shifts(rows, || {
        let c = ctx.constant(id)?;
        Ok((0..rows as u32)
            .map(|r| c.row_values(r).map_or(0, |v| v.shift.into()))
            .collect())
    })?;
    let mut distinct = shifts.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let sums = |c: &Const| -> Vec<(i32, (i64, i64))> {
        (0..rows as u32)
            .filter_map(|r| c.row_values(r))
            .map(|row| {
                let (mut a, mut z) = (i64::from(row.bias), i64::from(row.bias));
                for w in row.values.iter().map(|w| i64::from(*w)) {
                    let (p, q) = (w * lo, w * hi);
                    a += p.min(q);
                    z += p.max(q);
                }
                (row.shift.into(), (a, z))
            })
            .collect()
    };
    let all = OnceCell::new();
    let of = |k: i32| {
        let c = ctx.constant(id)?;
        let rows = all.get_or_init(|| sums(c)).iter().filter(|r| r.0 == k);
        let ends = rows.fold((i64::MAX, i64::MIN), |x, (_, y)| {
            (x.0.min(y.0), x.1.max(y.1))
        });
        Ok::<_, PlanError>(ends)
    };
    let mut ends = Vec::with_capacity(distinct.len());
    for k in distinct {
        ends.push((i64::from(k), b.facts.range(|| of(k))?));
    }
    let biased = b.facts.number(|| {
        let c = ctx.constant(id)?;
        Ok((0..rows as u32)
            .filter_map(|r| c.row_values(r))
            .any(|r| r.bias != 0)
            .into())
    })?;
    Ok(RowFacts {
        shifts,
        lo: ends.iter().map(|e| e.1.0).min().unwrap_or(0),
        hi: ends.iter().map(|e| e.1.1).max().unwrap_or(0),
        ends,
        biased: biased != 0,
    })
}

/// `[…, k] → […, n]`.
pub(crate) fn linear(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    out: &Requant,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let (rows, cols) = shape(b, ctx.kind(b, id)?)?;
    let facts = row_facts(b, ctx, id, (x.lo, x.hi))?;
    let last = x.dims.len() - 1;
    let lead = x.labels(last).start;
    let mut axes = x.factors();
    let sums = axes.split_off(lead);
    axes.push(rows);

    let names: Vec<Label> = (0..lead).chain(lead + 1..=lead + sums.len()).collect();
    let a = x.view.rename(&names);
    let weights = b.weight(id, Part::Values, &[rows, cols]);
    let weights = indexed(
        weights,
        vec![Index::label(lead), joined(lead + 1, &sums).into()],
    );
    let mut terms = vec![Term::Product {
        coefficient: 1,
        sums: sums.clone(),
        a,
        b: weights,
    }];
    if facts.biased {
        terms.push(Term::linear(
            b.weight(id, Part::Bias, &[rows]).rename(&[lead]),
        ));
    }
    let ints = match (&x.ints, ctx.consts) {
        (Some(x), Some(_)) => Some(products(x, ctx.constant(id)?, rows, cols)),
        _ => None,
    };
    let sum = Sum {
        axes,
        terms,
        ints,
        lo: facts.lo,
        hi: facts.hi,
    };
    let shifts = Shifts::Rows {
        label: lead,
        shifts: Arc::clone(&facts.shifts),
    };
    let function = ctx.function(b, out)?;
    let y = b.requant_rows(
        sum,
        &shifts,
        &|k| facts.within(k),
        (out.lo.into(), out.hi.into()),
        function.as_deref(),
    )?;
    let mut dims = x.dims.clone();
    dims[last] = vec![rows];
    Ok(Value {
        dims,
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    })
}

/// Row-major index of several labels.
pub(crate) fn joined(first: Label, lens: &[usize]) -> Affine {
    let mut stride = 1;
    let mut terms: Vec<(Label, i64)> = Vec::new();
    for (i, n) in lens.iter().enumerate().rev() {
        terms.push((first + i, stride));
        stride *= *n as i64;
    }
    terms.reverse();
    Affine { offset: 0, terms }
}

/// `bias + W·x` for each row of x. Sums are exact modulo 2^32, and their bounds lie below 2^31.
fn products(x: &[i32], constant: &Const, rows: usize, cols: usize) -> Vec<i64> {
    let lines = x.len() / cols;
    let columns: Vec<Vec<i32>> = (0..rows as u32)
        .into_par_iter()
        .map(|r| {
            let Some(row) = constant.row_values(r) else {
                return vec![0; lines];
            };
            let dot = |x: &[i32]| {
                x.iter()
                    .zip(row.values.iter())
                    .fold(row.bias, |s, (a, w)| s.wrapping_add(a.wrapping_mul(*w)))
            };
            x.chunks_exact(cols).map(dot).collect()
        })
        .collect();
    let mut out = vec![0; lines * rows];
    for (r, column) in columns.iter().enumerate() {
        for (line, v) in column.iter().enumerate() {
            out[line * rows + r] = i64::from(*v);
        }
    }
    out
}

/// A view of the weights' rows `[n, cols]` with given indices.
pub(crate) fn indexed(mut view: View, indices: Vec<Index>) -> View {
    for (_, read) in &mut view.terms {
        read.indices.clone_from(&indices);
    }
    view
}
