//! concat: a sum of shifted views, each of which is 0 outside its own axis.

use std::sync::Arc;

use assay_graph::Node;

use super::{
    Context, conv,
    elementwise::{common, cut},
    linear::joined,
};
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Affine, Term, View},
        gadgets::Ranged,
        row::wide,
        value::Value,
    },
};

/// The same elements in cells of their own, with these dimensions: each cut as the value's is, or one axis.
pub(crate) fn committed(
    b: &mut Builder,
    x: &Value,
    dims: Vec<Vec<usize>>,
) -> Result<Value, PlanError> {
    let axes = dims.concat();
    let ints = b.claimed("element", wide(x.ints.as_ref().map(|v| &v[..])));
    let cells: Ranged = b.around(&axes, x.lo, x.hi, ints.as_deref());
    b.fits(cells.hi.max(x.hi) - cells.lo.min(x.lo))?;
    let mut subs: Vec<Affine> = Vec::with_capacity(axes.len());
    for (d, cut) in dims.iter().enumerate() {
        if *cut == x.dims[d] {
            subs.extend(x.labels(d).map(Affine::label));
        } else {
            subs.push(joined(x.labels(d).start, &x.dims[d]));
        }
    }
    let same = cells.view.substitute(&subs);
    let terms = vec![Term::linear(x.view.minus(&same))];
    b.relation("the same elements", &x.factors(), terms);
    Ok(Value {
        dims,
        view: cells.view,
        ints: cells.ints.map(Arc::new),
        ..x.clone()
    })
}

/// A value whose dimension `axis` is one label, and reads 0 outside it.
pub(crate) fn plain(b: &mut Builder, x: &Value, axis: usize) -> Result<Value, PlanError> {
    let label = (x.labels(axis).start, x.dim(axis));
    if x.dims[axis].len() == 1 && conv::plain(b, &x.view, &[label]).is_ok() {
        return Ok(x.clone());
    }
    let mut dims = x.dims.clone();
    dims[axis] = vec![x.dim(axis)];
    committed(b, x, dims)
}

/// Operands after one another along an axis.
pub(crate) fn concat(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    axis: usize,
) -> Result<Value, PlanError> {
    let axis = axis + 1;
    let mut parts = Vec::new();
    for i in 0..node.inputs.len() {
        let x = ctx.operand(b, node, i)?.clone();
        parts.push(plain(b, &x, axis)?);
    }
    let Some(first) = parts.first() else {
        return Err(b.unsupported("nothing to join"));
    };
    // other dimensions are cut alike
    let mut dims = first.dims.clone();
    for x in &parts[1..] {
        for d in (0..dims.len()).filter(|d| *d != axis) {
            dims[d] = common(&dims[d], &x.dims[d])
                .ok_or_else(|| b.unsupported("the operands' dimensions are cut differently"))?;
        }
    }
    let label: usize = dims[..axis].iter().map(Vec::len).sum();
    let mut view = View::default();
    let mut start = 0;
    for x in &parts {
        dims[axis].clone_from(&x.dims[axis]);
        let x = cut(x, &dims).map_err(|why| b.unsupported(why))?;
        let x = plain(b, &x, axis)?;
        let mut subs: Vec<Affine> = (0..x.factors().len()).map(Affine::label).collect();
        subs[label].offset = -(start as i64);
        view = view.plus(&x.view.substitute(&subs));
        start += x.dim(axis);
    }
    dims[axis] = vec![start];
    Ok(Value {
        ints: interleaved(&parts, axis),
        dims,
        view,
        lo: parts.iter().map(|x| x.lo).min().unwrap_or(0),
        hi: parts.iter().map(|x| x.hi).max().unwrap_or(0),
    })
}

/// Elements of values after one another along an axis.
fn interleaved(parts: &[Value], axis: usize) -> Option<Arc<Vec<i32>>> {
    let block = |x: &Value| -> usize { (axis..x.dims.len()).map(|d| x.dim(d)).product() };
    let all: Option<Vec<_>> = parts
        .iter()
        .map(|x| Some((x.ints.as_ref()?, block(x))))
        .collect();
    let all = all?;
    let (ints, n) = all.first()?;
    let mut out = Vec::new();
    for i in 0..ints.len() / n {
        for (v, n) in &all {
            out.extend_from_slice(&v[i * n..(i + 1) * n]);
        }
    }
    Some(Arc::new(out))
}
