//! Pools. A maximum of two is one lookup: `max(a, b) = b + relu(a − b)`.

use std::sync::Arc;

use assay_graph::{Node, Window};

use super::{Context, moves::plain};
use crate::{
    error::PlanError,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Affine, Operand, Term, View},
        gadgets::{Ranged, Shifts, Sum, map},
        value::Value,
    },
};

/// The cells of each window as shifted views of the image, with the output's axes; cells outside the image are `outside`.
struct Cells {
    axes: Vec<usize>,
    all: Vec<Ranged>,
    /// How many cells of each window lie inside, `[oh, ow]`.
    inside: Vec<i32>,
    image: Value,
}

fn cells(b: &mut Builder, x: &Value, window: &Window, outside: i64) -> Result<Cells, PlanError> {
    if x.dims.len() != 4 {
        return Err(b.unsupported("the input is no image"));
    }
    let x = plain(b, x, 1)?;
    let x = plain(b, &x, 2)?;
    let (height, width, depth) = (x.dim(1), x.dim(2), x.dim(3));
    let [kh, kw] = window.kernel.map(usize::from);
    let [down, across] = window.stride.map(usize::from);
    let [top, left, bottom, right] = window.pad.map(usize::from);
    let oh = (height + top + bottom - kh) / down + 1;
    let ow = (width + left + right - kw) / across + 1;
    let (h, w) = (x.labels(1).start, x.labels(2).start);
    let mut axes = x.factors();
    (axes[h], axes[w]) = (oh, ow);
    let mut inside = vec![0; oh * ow];
    let mut all = Vec::new();
    for (dy, dx) in (0..kh).flat_map(|dy| (0..kw).map(move |dx| (dy, dx))) {
        let at = |y: usize, i: usize| {
            let row = (y * down + dy).checked_sub(top).filter(|r| *r < height)?;
            let col = (i * across + dx).checked_sub(left).filter(|c| *c < width)?;
            Some((row * width + col) * depth)
        };
        let places: Vec<Option<usize>> = (0..oh)
            .flat_map(|y| (0..ow).map(move |i| (y, i)))
            .map(|(y, i)| at(y, i))
            .collect();
        for (n, place) in inside.iter_mut().zip(&places) {
            *n += i32::from(place.is_some());
        }
        let mut subs: Vec<Affine> = (0..axes.len()).map(Affine::label).collect();
        subs[h] = Affine {
            offset: dy as i64 - top as i64,
            terms: vec![(h, down as i64)],
        };
        subs[w] = Affine {
            offset: dx as i64 - left as i64,
            terms: vec![(w, across as i64)],
        };
        let mut view = x.view.substitute(&subs);
        if outside != 0 && places.contains(&None) {
            let out: Vec<i32> = places.iter().map(|p| i32::from(p.is_none())).collect();
            let id = b.public(&[oh, ow], Arc::new(out));
            let out = View::of(Operand::Public(id), 2).rename(&[h, w]);
            view = view.plus(&out.scaled(outside));
        }
        let ints = x.ints.as_ref().map(|v| {
            let mut out = Vec::with_capacity(axes.iter().product());
            for image in v.chunks_exact(height * width * depth) {
                for place in &places {
                    match place {
                        Some(at) => out.extend_from_slice(&image[*at..at + depth]),
                        None => out.extend(std::iter::repeat_n(outside as i32, depth)),
                    }
                }
            }
            out
        });
        all.push(Ranged {
            view,
            ints,
            lo: x.lo,
            hi: x.hi,
        });
    }
    Ok(Cells {
        axes,
        all,
        inside,
        image: x,
    })
}

fn pooled(x: &Value, axes: &[usize], y: Ranged) -> Value {
    let mut dims = x.dims.clone();
    (dims[1], dims[2]) = (vec![axes[x.labels(1).start]], vec![axes[x.labels(2).start]]);
    Value {
        dims,
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    }
}

/// Maximum over a window.
pub(crate) fn max(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    window: &Window,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let Cells {
        axes,
        all: mut cells,
        image,
        ..
    } = cells(b, x, window, x.lo)?;
    // pairs of pairs, so that views stay short
    while cells.len() > 1 {
        let mut next = Vec::new();
        let mut rest = cells.into_iter();
        while let Some(first) = rest.next() {
            next.push(match rest.next() {
                Some(second) => larger(b, &axes, &first, &second)?,
                None => first,
            });
        }
        cells = next;
    }
    let y = cells
        .pop()
        .ok_or_else(|| b.unsupported("an empty window"))?;
    Ok(pooled(&image, &axes, y))
}

/// Rows of the largest table of differences.
const MOST_DIFFERENCES: i64 = 1 << 17;

/// `max(p, q)`.
fn larger(b: &mut Builder, axes: &[usize], p: &Ranged, q: &Ranged) -> Result<Ranged, PlanError> {
    let (lo, hi) = (p.lo - q.hi, p.hi - q.lo);
    if hi - lo >= MOST_DIFFERENCES {
        return Err(b.unsupported("a maximum of numbers of more than 16 bits"));
    }
    let table = b.table(Table::Function {
        values: Arc::new((lo..=hi).map(|d| d.max(0) as i32).collect()),
    });
    let difference = p
        .ints
        .as_ref()
        .zip(q.ints.as_ref())
        .map(|(p, q)| p.iter().zip(q).map(|(p, q)| p - q).collect::<Vec<i32>>());
    let rectified = difference
        .as_ref()
        .map(|d| d.iter().map(|d| (*d).max(0)).collect::<Vec<i32>>());
    let ints = rectified
        .as_ref()
        .zip(q.ints.as_ref())
        .map(|(r, q)| r.iter().zip(q).map(|(r, q)| r + q).collect());
    let (key, value) = b.pair(
        axes,
        Tables::One(Choice { table, offset: -lo }),
        difference,
        rectified,
    );
    let terms = vec![Term::linear(
        View::column(key, axes.len()).minus(&p.view).plus(&q.view),
    )];
    b.relation("difference of two candidates", axes, terms);
    Ok(Ranged {
        view: q.view.plus(&View::column(value, axes.len())),
        ints,
        lo: p.lo.max(q.lo),
        hi: p.hi.max(q.hi),
    })
}

/// Rounded mean over a window: `2Σ + n = 2n·y + rest`.
pub(crate) fn avg(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    window: &Window,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let Cells {
        axes,
        all: cells,
        inside,
        image,
    } = cells(b, x, window, 0)?;
    let n = cells.len() as i64;
    let total = cells.iter().fold(View::default(), |v, c| v.plus(&c.view));
    let sums: Option<Vec<i64>> = b.data.is_some().then(|| {
        let mut sums = vec![0i64; axes.iter().product()];
        for cell in cells.iter().filter_map(|c| c.ints.as_ref()) {
            for (s, v) in sums.iter_mut().zip(cell) {
                *s += i64::from(*v);
            }
        }
        sums
    });
    let range = (x.lo, x.hi);
    let y = if inside.iter().all(|m| i64::from(*m) == n) {
        divided(b, &axes, (total, sums), n, range)?
    } else {
        divided_by(b, &image, &axes, (total, sums), (inside, n), range)?
    };
    Ok(pooled(&image, &axes, y))
}

/// `⌊(2Σ + n) / 2n⌋` of a sum whose quotient lies in `[lo, hi]`.
fn divided(
    b: &mut Builder,
    axes: &[usize],
    (total, sums): (View, Option<Vec<i64>>),
    n: i64,
    (lo, hi): (i64, i64),
) -> Result<Ranged, PlanError> {
    if (2 * n as u64).is_power_of_two() {
        // a division by a power of two is a shift
        let k = i64::from((n as u64).trailing_zeros());
        let sum = Sum {
            axes: axes.to_vec(),
            terms: vec![Term::linear(total)],
            ints: sums,
            lo: n * lo,
            hi: n * hi,
        };
        return b.requant(sum, &Shifts::All(k), (lo, hi), None);
    }
    let quotient: Option<Vec<i64>> = sums
        .as_ref()
        .map(|v| v.iter().map(|s| (2 * s + n).div_euclid(2 * n)).collect());
    let rest: Option<Vec<i64>> = sums
        .as_ref()
        .map(|v| v.iter().map(|s| (2 * s + n).rem_euclid(2 * n)).collect());
    let y = b.around(axes, lo, hi, quotient.as_deref());
    let rest = b.exact(axes, 0, 2 * n - 1, rest.as_deref());
    b.fits(4 * n * (hi.abs().max(lo.abs()) + 1).max(y.hi.abs()).max(y.lo.abs()) + 4 * n)?;
    let terms = vec![
        Term::linear(
            total
                .scaled(2)
                .minus(&y.view.scaled(2 * n))
                .minus(&rest.view),
        ),
        Term::constant(n),
    ];
    b.relation("rounded mean", axes, terms);
    Ok(Ranged { lo, hi, ..y })
}

/// `⌊(2Σ + n) / 2n⌋` with n by place, at most `most`: `2Σ + n = 2n·y + rest` with `0 ≤ rest` and `2n − 1 − rest ≥ 0`.
fn divided_by(
    b: &mut Builder,
    image: &Value,
    axes: &[usize],
    (total, sums): (View, Option<Vec<i64>>),
    (counts, most): (Vec<i32>, i64),
    (lo, hi): (i64, i64),
) -> Result<Ranged, PlanError> {
    let depth = image.dim(3);
    let count = |i: usize| i64::from(counts[i / depth % counts.len()]);
    let quotient = map(sums.as_deref(), |i, s| {
        (2 * s + count(i)).div_euclid(2 * count(i))
    });
    let rest = map(sums.as_deref(), |i, s| {
        (2 * s + count(i)).rem_euclid(2 * count(i))
    });
    let slack = map(rest.as_deref(), |i, r| 2 * count(i) - 1 - r);
    let y = b.around(axes, lo, hi, quotient.as_deref());
    let rest = b.around(axes, 0, 2 * most - 1, rest.as_deref());
    let slack = b.around(axes, 0, 2 * most - 1, slack.as_deref());
    let peak = y.hi.abs().max(y.lo.abs()).max(hi.abs()).max(lo.abs());
    b.fits(4 * most * (peak + 2))?;
    let (h, w) = (image.labels(1).start, image.labels(2).start);
    let id = b.public(&[axes[h], axes[w]], Arc::new(counts));
    let n = View::of(Operand::Public(id), 2).rename(&[h, w]);
    let terms = vec![
        Term::linear(total.scaled(2).plus(&n).minus(&rest.view)),
        Term::Product {
            coefficient: -2,
            sums: vec![],
            a: y.view.clone(),
            b: n.clone(),
        },
    ];
    b.relation("rounded mean of the cells inside", axes, terms);
    let terms = vec![
        Term::linear(n.scaled(2).minus(&rest.view).minus(&slack.view)),
        Term::constant(-1),
    ];
    b.relation("rest of a mean", axes, terms);
    Ok(Ranged { lo, hi, ..y })
}
