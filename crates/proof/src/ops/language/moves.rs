//! Operators that read by position or by public id: lift, rope, tail; and element-wise products.

use std::sync::Arc;

use assay_graph::{ConstId, ConstKind, DType, Node, Requant};

use super::wide::{clamped, tight};
use crate::{
    error::PlanError,
    ops::{
        Context,
        elementwise::{aligned, table},
        linear::{indexed, joined, shape},
    },
    plan::{
        Part,
        builder::Builder,
        expr::{Affine, Index, Label, Operand, Term, View},
        gadgets::{Shifts, Sum},
        value::Value,
    },
};

/// Stands for "no index": outside every axis.
const NOWHERE: u32 = u32::MAX;

/// The view with `map(index)` in place of label `label`, whose indices are `0 … len − 1` from now on; 0 where the map gives none. `lens` are the lengths of the other labels.
pub(crate) fn gathered(
    view: &View,
    label: Label,
    len: usize,
    lens: &[usize],
    map: impl Fn(usize) -> Option<usize>,
) -> View {
    let mut view = view.clone();
    for index in view.terms.iter_mut().flat_map(|(_, r)| &mut r.indices) {
        let stride_of = |l: Label| {
            index
                .affine
                .terms
                .iter()
                .find(|(m, _)| *m == l)
                .map(|t| t.1)
        };
        if stride_of(label).is_none() {
            continue;
        }
        let others: Vec<Label> = index
            .affine
            .terms
            .iter()
            .map(|(l, _)| *l)
            .filter(|l| *l != label)
            .collect();
        let mut labels = vec![0; lens.len().max(label + 1)];
        let count: usize = others.iter().map(|l| lens[*l]).product();
        let mut list = Vec::with_capacity(len * count);
        for i in 0..len {
            let at = map(i);
            for mut rest in 0..count {
                for l in others.iter().rev() {
                    labels[*l] = rest % lens[*l];
                    rest /= lens[*l];
                }
                let found = at.and_then(|at| {
                    labels[label] = at;
                    index.at(&labels)
                });
                list.push(found.and_then(|i| u32::try_from(i).ok()).unwrap_or(NOWHERE));
            }
        }
        let mut terms = vec![(label, count as i64)];
        let mut stride = count as i64;
        for l in &others {
            stride /= lens[*l] as i64;
            terms.push((*l, stride));
        }
        *index = Index {
            affine: Affine { offset: 0, terms },
            gather: Some(Arc::new(list)),
        };
    }
    view
}

/// Rows of the head's constant by public ids: `sat(rnd(w, shift_r + shift))`.
pub(crate) fn lift(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    out: &Requant,
) -> Result<Value, PlanError> {
    let tokens = ctx.operand(b, node, 0)?.clone();
    let (rows, cols) = shape(b, ctx.kind(b, id)?)?;
    let add = i32::from(out.shift);
    let most = b.facts.number(|| {
        let c = ctx.constant(id)?;
        let values = (0..rows as u32).filter_map(|r| c.row_values(r));
        let peaks = values.flat_map(|v| v.values.iter().map(|w| i64::from(*w).abs()).max());
        Ok(peaks.max().unwrap_or(0))
    })?;
    let shifts = b.facts.shifts(rows, || {
        let c = ctx.constant(id)?;
        let of = |r| {
            c.row_values(r)
                .map_or(0, |v| (i32::from(v.shift) + add).clamp(-15, 31))
        };
        Ok((0..rows as u32).map(of).collect())
    })?;
    let ids = public_ids(b, ctx, &tokens)?;
    if ids.iter().any(|i| *i as usize >= rows) {
        return Err(b.unsupported("an id outside the constant"));
    }
    let runs = tokens.dims[0].clone();
    let seq = ids.len() / runs.iter().product::<usize>();
    let ids = Arc::new(ids);
    let by_row: Vec<i32> = ids.iter().map(|i| shifts[*i as usize]).collect();
    let least = shifts.iter().copied().min().unwrap_or(0);
    if least < 0 {
        return Err(b.unsupported("rows are shifted left"));
    }
    let axes = vec![ids.len(), cols];
    let words = indexed(
        b.weight(id, Part::Values, &[rows, cols]),
        vec![
            Index {
                gather: Some(Arc::clone(&ids)),
                ..Index::label(0)
            },
            Index::label(1),
        ],
    );
    let ints = match (b.data.is_some(), ctx.consts) {
        (true, Some(_)) => {
            let c = ctx.constant(id)?;
            let rows = ids.iter().filter_map(|i| c.row_values(*i));
            Some(
                rows.flat_map(|r| r.values.into_iter().map(i64::from))
                    .collect(),
            )
        }
        _ => None,
    };
    let sum = Sum {
        axes,
        terms: vec![Term::linear(words)],
        ints,
        lo: -most,
        hi: most,
    };
    let by = Shifts::Rows {
        label: 0,
        shifts: Arc::new(by_row),
    };
    let ends = (i64::from(out.lo), i64::from(out.hi));
    let y = b.requant(sum, &by, ends, None)?;
    // labels: the runs' factors, the position
    let place = joined(0, &[&runs[..], &[seq]].concat());
    let view = y.view.substitute(&[place, Affine::label(runs.len() + 1)]);
    let half = if least > 0 { 1i64 << (least - 1) } else { 0 };
    let peak = (most + half) >> least;
    Ok(Value {
        dims: vec![runs, vec![seq], vec![cols]],
        view,
        ints: y.ints.map(Arc::new),
        lo: (-peak).max(out.lo.into()),
        hi: peak.min(out.hi.into()),
    })
}

/// Tokens of all runs, which both sides know.
pub(crate) fn public_ids(
    b: &Builder,
    ctx: &Context<'_>,
    tokens: &Value,
) -> Result<Vec<u32>, PlanError> {
    let first = ctx.values.first();
    let is_input =
        first.is_some_and(|v| v.view.terms == tokens.view.terms && v.dims == tokens.dims);
    let tensor = match &tokens.view.terms[..] {
        [(1, read)] if is_input => match read.operand {
            Operand::Public(id) => Some(b.public_of(id)),
            _ => None,
        },
        _ => None,
    };
    let tensor = tensor.ok_or_else(|| b.unsupported("ids that are not the input"))?;
    let ids = tensor.data.iter().map(|v| u32::try_from(*v));
    ids.collect::<Result<_, _>>()
        .map_err(|_| b.unsupported("a negative id"))
}

/// Pairs of each head turned by the angle of the position.
pub(crate) fn rope(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    out: &Requant,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?.clone();
    let ConstKind::Rows { rows, cols, .. } = ctx.kind(b, id)? else {
        return Err(b.unsupported("the constant holds no rows"));
    };
    let (d, half) = (cols as usize, cols as usize / 2);
    let longest = b.facts.number(|| {
        let angles = ctx.constant(id)?.values();
        let squares = angles.chunks_exact(d.max(2)).flat_map(|row| {
            let (c, s) = row.split_at(half);
            c.iter()
                .zip(s)
                .map(|(c, s)| i64::from(*c).pow(2) + i64::from(*s).pow(2))
        });
        Ok(squares.max().unwrap_or(0))
    })?;
    let axes = x.factors();
    let [runs, seq, width] = x
        .dims
        .clone()
        .try_into()
        .map_err(|_| b.unsupported("the input is no matrix"))?;
    let ([_], [seq], [width]) = (&runs[..], &seq[..], &width[..]) else {
        return Err(b.unsupported("the input's dimensions are joined"));
    };
    let (seq, width) = (*seq, *width);
    let peak = x.lo.abs().max(x.hi.abs());
    // a turn keeps the length of a pair
    let most = ((2 * peak * peak).isqrt() + 1) * (longest.isqrt() + 1);
    let angles = b.weight(id, Part::Values, &[rows as usize, d]);
    let angle = |add: usize| {
        let list = (0..width).map(|c| (c % half + add) as u32).collect();
        indexed(
            angles.clone(),
            vec![
                Index::label(1),
                Index {
                    gather: Some(Arc::new(list)),
                    ..Index::label(2)
                },
            ],
        )
    };
    let product = |a: View, v: View| Term::Product {
        coefficient: 1,
        sums: vec![],
        a,
        b: v,
    };
    let first = |c: usize| c % d < half;
    let other = gathered(&x.view, 2, width, &axes, |c| (!first(c)).then(|| c - half));
    let other = other.minus(&gathered(&x.view, 2, width, &axes, |c| {
        first(c).then(|| c + half)
    }));
    let terms = vec![
        product(x.view.clone(), angle(0)),
        product(other, angle(half)),
    ];
    let ints = match (&x.ints, ctx.consts) {
        (Some(x), Some(_)) => {
            let angles = ctx.constant(id)?.values();
            let each = x.iter().enumerate().map(|(i, v)| {
                let (t, c) = (i / width % seq, i % width);
                let at = |add: usize| i64::from(angles[t * d + c % half + add]);
                let turned = if first(c) {
                    -i64::from(x[i + half])
                } else {
                    i64::from(x[i - half])
                };
                i64::from(*v) * at(0) + turned * at(half)
            });
            Some(each.collect())
        }
        _ => None,
    };
    let sum = Sum {
        axes,
        terms,
        ints,
        lo: -most,
        hi: most,
    };
    let ends = (i64::from(out.lo), i64::from(out.hi));
    if out.shift < 0 {
        return Err(b.unsupported("a shift to the left"));
    }
    let y = b.requant(sum, &Shifts::All(out.shift.into()), ends, None)?;
    Ok(Value {
        dims: x.dims.clone(),
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    })
}

/// `sat(rnd(a·b, shift))`.
pub(crate) fn mul(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    out: &Requant,
) -> Result<Value, PlanError> {
    let (x, y) = aligned(b, ctx.operand(b, node, 0)?, ctx.operand(b, node, 1)?)?;
    let ints = x.ints.as_ref().zip(y.ints.as_ref()).map(|(x, y)| {
        let pairs = x.iter().zip(y.iter());
        pairs
            .map(|(x, y)| i64::from(*x) * i64::from(*y))
            .collect::<Vec<i64>>()
    });
    let corners = [x.lo * y.lo, x.lo * y.hi, x.hi * y.lo, x.hi * y.hi];
    let lo = corners.into_iter().min().unwrap_or(0);
    let hi = corners.into_iter().max().unwrap_or(0);
    let axes = x.factors();
    let product = Term::Product {
        coefficient: 1,
        sums: vec![],
        a: x.view.clone(),
        b: y.view.clone(),
    };
    let ends = (i64::from(out.lo), i64::from(out.hi));
    let (dims, view, ints, lo, hi) = if out.shift == 0 && lo >= ends.0 && hi <= ends.1 {
        let z = tight(b, &axes, (lo, hi), ints.as_deref());
        b.fits((hi - z.lo).max(z.hi - lo))?;
        let terms = vec![product, Term::linear(z.view.scaled(-1))];
        b.relation("product", &axes, terms);
        (x.dims.clone(), z.view, z.ints, lo, hi)
    } else if out.shift == 0 && out.dtype == DType::I32 {
        let (h, z) = clamped(b, &axes, (lo, hi), ends, ints.as_deref())?;
        b.fits((hi - h.h.lo).max(h.h.hi - lo))?;
        let terms = vec![product, Term::linear(h.h.view.scaled(-1))];
        b.relation("product", &axes, terms);
        (x.dims.clone(), z.view, z.ints, z.lo, z.hi)
    } else if out.shift < 0 {
        return Err(b.unsupported("a shift to the left"));
    } else {
        let sum = Sum {
            axes,
            terms: vec![product],
            ints,
            lo,
            hi,
        };
        let z = b.requant(sum, &Shifts::All(out.shift.into()), ends, None)?;
        (x.dims.clone(), z.view, z.ints, z.lo, z.hi)
    };
    Ok(Value {
        dims,
        view,
        ints: ints.map(Arc::new),
        lo,
        hi,
    })
}

/// The last rows.
pub(crate) fn tail(b: &mut Builder, ctx: &Context<'_>, node: &Node) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let out = ctx.extent.out as usize;
    x.slice(1, x.dim(1) - out, out)
        .map_err(|why| b.unsupported(why))
}

/// A table whose argument is a column of keys: its values become their partners. None for other arguments.
pub(crate) fn lookup(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
) -> Result<Option<Value>, PlanError> {
    let x = ctx.operand(b, node, 0)?.clone();
    let [(1, read)] = &x.view.terms[..] else {
        return Ok(None);
    };
    let Operand::Column(key) = read.operand else {
        return Ok(None);
    };
    let (Some((lo, hi)), true) = (b.bounds_of(key), b.column_of(key).partner.is_none()) else {
        return Ok(None);
    };
    if !b.is_range(key) {
        return Ok(None);
    }
    let values = table(b, ctx, id)?;
    let first = -(values.len() as i64) / 2;
    let inside = |v: i64| {
        usize::try_from(v - first)
            .ok()
            .and_then(|i| values.get(i))
            .copied()
    };
    // cells that no honest run has may lie outside the table
    let images: Vec<i32> = (lo..=hi).map(|v| inside(v).unwrap_or(0)).collect();
    let part = |v: i64| inside(v).ok_or_else(|| b.unsupported("a value leaves its table"));
    let bounds = (x.lo..=x.hi).map(part).collect::<Result<Vec<i32>, _>>()?;
    let (least, most) = (bounds.iter().min(), bounds.iter().max());
    let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
    let Some(value) = b.attach(key, images) else {
        return Err(b.unsupported("an argument without a range"));
    };
    let mut read = read.clone();
    read.operand = Operand::Column(value);
    let view = View {
        terms: vec![(1, read)],
    };
    let ints = x.ints.as_ref().map(|x| {
        let each = x.iter().map(|v| inside((*v).into()).unwrap_or(0));
        Arc::new(each.collect())
    });
    Ok(Some(Value {
        dims: x.dims.clone(),
        view,
        ints,
        lo: least.into(),
        hi: most.into(),
    }))
}
