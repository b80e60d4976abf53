//! Pools. A maximum of two is one lookup: `max(a, b) = b + relu(a − b)`.

use std::sync::Arc;

use assay_graph::{Node, Window};

use super::{Context, conv::plain};
use crate::{
    error::PlanError,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Affine, Term, View},
        gadgets::{Ranged, Shifts, Sum},
        value::Value,
    },
};

/// The cells of each window as shifted views of the image, with the output's axes.
fn cells(b: &Builder, x: &Value, window: &Window) -> Result<(Vec<usize>, Vec<Ranged>), PlanError> {
    if window.pad != [0; 4] {
        return Err(b.unsupported("padding"));
    }
    let [_, height, width, _] = &x.dims[..] else {
        return Err(b.unsupported("the input is no image"));
    };
    let ([height], [width]) = (&height[..], &width[..]) else {
        return Err(b.unsupported("the image's axes are joined with others"));
    };
    let [kh, kw] = window.kernel.map(usize::from);
    let [down, across] = window.stride.map(usize::from);
    let (oh, ow) = ((height - kh) / down + 1, (width - kw) / across + 1);
    let (h, w) = (x.labels(1).start, x.labels(2).start);
    plain(b, &x.view, &[(h, *height), (w, *width)])?;
    let mut axes = x.factors();
    (axes[h], axes[w]) = (oh, ow);
    let depth = x.dim(3);
    let cell = |dy: usize, dx: usize| {
        let subs: Vec<Affine> = (0..axes.len())
            .map(|l| match l {
                _ if l == h => Affine {
                    offset: dy as i64,
                    terms: vec![(l, down as i64)],
                },
                _ if l == w => Affine {
                    offset: dx as i64,
                    terms: vec![(l, across as i64)],
                },
                _ => Affine::label(l),
            })
            .collect();
        let ints = x.ints.as_ref().map(|v| {
            let mut out = Vec::with_capacity(axes.iter().product());
            for image in v.chunks_exact(height * width * depth) {
                for y in 0..oh {
                    for i in 0..ow {
                        let at = ((y * down + dy) * width + i * across + dx) * depth;
                        out.extend_from_slice(&image[at..at + depth]);
                    }
                }
            }
            out
        });
        Ranged {
            view: x.view.substitute(&subs),
            ints,
            lo: x.lo,
            hi: x.hi,
        }
    };
    let all = (0..kh)
        .flat_map(|dy| (0..kw).map(move |dx| (dy, dx)))
        .map(|(dy, dx)| cell(dy, dx))
        .collect();
    Ok((axes, all))
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
    let (axes, mut cells) = cells(b, x, window)?;
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
    Ok(pooled(x, &axes, y))
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
    let (axes, cells) = cells(b, x, window)?;
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
    let y = divided(b, &axes, (total, sums), n, (x.lo, x.hi))?;
    Ok(pooled(x, &axes, y))
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
