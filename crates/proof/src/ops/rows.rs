//! Rows of constants: added to a tensor, or looked up by public ids.

use std::sync::Arc;

use assay_graph::{ConstId, Node, Requant};

use super::{
    Context,
    elementwise::requant_view,
    linear::{indexed, joined, shape},
};
use crate::{
    error::PlanError,
    plan::{
        Part,
        builder::Builder,
        expr::{Affine, Index, Operand},
        gadgets::Ranged,
        value::Value,
    },
};

/// Smallest and largest entry of a constant of rows.
fn ends(b: &mut Builder, ctx: &Context<'_>, id: ConstId) -> Result<(i64, i64), PlanError> {
    b.facts.range(|| {
        let values = ctx.constant(id)?.values();
        let ends = values.iter().fold((i64::MAX, i64::MIN), |(a, z), v| {
            (a.min(i64::from(*v)), z.max(i64::from(*v)))
        });
        Ok(if values.is_empty() { (0, 0) } else { ends })
    })
}

/// `sat(rnd((x << left_x) + (C[r][c] << left_c), shift))`.
pub(crate) fn add_rows(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    left: [u8; 2],
    out: &Requant,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let (rows, cols) = shape(b, ctx.kind(b, id)?)?;
    let (lo, hi) = ends(b, ctx, id)?;
    let rank = x.dims.len();
    let at = |d: usize| joined(x.labels(d).start, &x.dims[d]).into();
    let weights = b.weight(id, Part::Values, &[rows, cols]);
    let added = indexed(weights, vec![at(rank - 2), at(rank - 1)]);
    let [l, r] = left.map(u32::from);
    let ints = match (&x.ints, ctx.consts) {
        (Some(x_ints), Some(_)) => {
            let values = ctx.constant(id)?.values();
            let (m, n) = (x.dim(rank - 2), x.dim(rank - 1));
            let each = x_ints.iter().enumerate().map(|(i, x)| {
                let c = values[i / n % m * cols + i % n];
                (x << l).wrapping_add(c << r)
            });
            Some(each.collect())
        }
        _ => None,
    };
    let sum = Ranged {
        view: x.view.scaled(1 << l).plus(&added.scaled(1 << r)),
        ints,
        lo: (x.lo << l) + (lo << r),
        hi: (x.hi << l) + (hi << r),
    };
    let y = requant_view(b, ctx, &x.factors(), sum, out)?;
    Ok(Value {
        dims: x.dims.clone(),
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    })
}

/// The elements of a value that is a public tensor, perhaps moved.
pub(crate) fn public_ints(b: &Builder, x: &Value) -> Option<Vec<i32>> {
    let [(1, read)] = &x.view.terms[..] else {
        return None;
    };
    let Operand::Public(id) = read.operand else {
        return None;
    };
    let public = b.public_of(id);
    let factors = x.factors();
    let mut labels = vec![0; factors.len()];
    let mut out = Vec::with_capacity(x.len());
    for i in 0..x.len() {
        let mut rest = i;
        for (l, n) in labels.iter_mut().zip(&factors).rev() {
            *l = rest % n;
            rest /= n;
        }
        let mut at = 0;
        for (index, n) in read.indices.iter().zip(&public.shape) {
            let i = usize::try_from(index.affine.at(&labels)).ok()?;
            if index.gather.is_some() || i >= *n {
                return None;
            }
            at = at * n + i;
        }
        out.push(public.data[at]);
    }
    Some(out)
}

/// `rows[id]` for public ids.
pub(crate) fn embedding(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let (rows, cols) = shape(b, ctx.kind(b, id)?)?;
    let (lo, hi) = ends(b, ctx, id)?;
    let ids = public_ints(b, x).ok_or_else(|| b.unsupported("the ids are not public"))?;
    let list: Option<Vec<u32>> = ids
        .iter()
        .map(|i| u32::try_from(*i).ok().filter(|i| (*i as usize) < rows))
        .collect();
    let list = list.ok_or_else(|| b.unsupported("an id has no row"))?;
    let ints = match (&x.ints, ctx.consts) {
        (Some(_), Some(_)) => {
            let values = ctx.constant(id)?.values();
            let picked = list
                .iter()
                .flat_map(|i| &values[*i as usize * cols..][..cols]);
            Some(Arc::new(picked.copied().collect()))
        }
        _ => None,
    };
    let factors = x.factors();
    let row = Index {
        affine: joined(0, &factors),
        gather: Some(Arc::new(list)),
    };
    let col = Affine::label(factors.len()).into();
    let weights = b.weight(id, Part::Values, &[rows, cols]);
    let mut dims = x.dims.clone();
    dims.push(vec![cols]);
    Ok(Value {
        dims,
        view: indexed(weights, vec![row, col]),
        ints,
        lo,
        hi,
    })
}
