//! layer_norm and rms_norm: a block exponent, an inverse square root, and gain and bias of each channel.

use std::sync::Arc;

use assay_graph::{ConstId, Node, NodeId, Requant};

use super::{
    Context,
    linear::{indexed, joined},
};
use crate::{
    error::PlanError,
    plan::{
        Choice, Part, Table, Tables,
        block::{Digits, Exponent},
        builder::Builder,
        expr::{Term, View},
        gadgets::{Ranged, Shifts, Sum, map},
        row::{Rows, wide},
        value::Value,
        wide::{Part as Summand, Wide},
    },
};

/// Bits of d and their sign: rows are shifted right until they fit.
const BITS: u8 = 15;
/// `Y²·v ≤ 2^ROOT`.
const ROOT: u32 = 58;
/// Bits of `1/ε` that one entry of a table of ε holds: a multiple of the bits of any limb.
const PIECE: u32 = 24;

/// Layer normalisation.
pub(crate) fn layer_norm(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    params: ConstId,
    eps: u64,
    out: &Requant,
) -> Result<Value, PlanError> {
    norm(b, ctx, node, (true, eps), params, out)
}

/// Root-mean-square normalisation.
pub(crate) fn rms_norm(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    params: ConstId,
    eps: u64,
    out: &Requant,
) -> Result<Value, PlanError> {
    norm(b, ctx, node, (false, eps), params, out)
}

fn norm(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    (centred, eps): (bool, u64),
    params: ConstId,
    out: &Requant,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let rows = Rows::of(x);
    let key: (NodeId, bool, u64) = (node.inputs[0], centred, eps);
    let u = match b.units.get(&key) {
        Some(u) => u.clone(),
        None => {
            let rows = if centred {
                centre(b, &rows)?
            } else {
                rows.clone()
            };
            let u = unit(b, &rows, eps)?;
            b.units.insert(key, u.clone());
            u
        }
    };
    let y = affine(b, ctx, &rows, &u, params, out)?;
    Ok(Value {
        dims: x.dims.clone(),
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    })
}

/// `n·x_j − Σx`.
fn centre(b: &mut Builder, rows: &Rows) -> Result<Rows, PlanError> {
    let sum = b.row_sums(rows)?;
    let n = rows.len() as i64;
    let most = (n - 1).saturating_mul(rows.x.hi - rows.x.lo);
    b.fits(most.saturating_mul(2))?;
    let ints = rows
        .x
        .ints
        .as_ref()
        .zip(sum.ints.as_ref())
        .map(|(x, sums)| {
            let lines = x.chunks_exact(rows.len()).zip(sums);
            lines
                .flat_map(|(x, s)| {
                    x.iter()
                        .map(move |x| (n * i64::from(*x) - i64::from(*s)) as i32)
                })
                .collect()
        });
    Ok(Rows {
        x: Ranged {
            view: rows.x.view.scaled(n).minus(&sum.view),
            ints,
            lo: -most,
            hi: most,
        },
        ..rows.clone()
    })
}

/// `max(1, eps >> 2e)`.
fn epsilon(eps: u64, e: u8) -> u64 {
    eps.checked_shr(2 * u32::from(e)).unwrap_or(0).max(1)
}

/// The row as a unit vector times 2^15: `rnd(d_j·Y, 14)`.
fn unit(b: &mut Builder, rows: &Rows, eps: u64) -> Result<Ranged, PlanError> {
    let exponent = b.exponent(rows, BITS)?;
    let digits = b.block(rows, exponent.as_ref())?;
    let y = inverse_root(b, rows, &digits, exponent.as_ref(), eps)?;
    let axes = rows.axes();
    // d² ≤ v, so |d·Y| ≤ 2^29
    let peak = 1i64 << (ROOT / 2);
    let products: Option<Vec<i64>> = digits.d.ints.as_ref().zip(y.ints.as_ref()).map(|(d, y)| {
        let lines = d.chunks_exact(rows.len()).zip(y);
        lines
            .flat_map(|(d, y)| d.iter().map(move |d| i64::from(*d) * i64::from(*y)))
            .collect()
    });
    let u: Option<Vec<i64>> = products
        .as_ref()
        .map(|v| v.iter().map(|p| (p + (1 << 13)) >> 14).collect());
    let u = b.claimed("unit vector", u);
    let rest: Option<Vec<i64>> = products.as_ref().zip(u.as_ref()).map(|(p, u)| {
        let each = p.iter().zip(u);
        each.map(|(p, u)| p + (1 << 13) - (u << 14)).collect()
    });
    let u = units(b, &axes, u);
    let rest = b.remainders(&axes, &Shifts::All(14), rest.as_deref());
    b.fits(peak + (1 << 13) + ((u.hi.max(-u.lo) + 1) << 14))?;
    let terms = vec![
        Term::Product {
            coefficient: 1,
            sums: vec![],
            a: digits.d.view,
            b: y.view,
        },
        Term::linear(u.view.scaled(-1 << 14).minus(&rest)),
        Term::constant(1 << 13),
    ];
    b.relation("unit vector", &axes, terms);
    Ok(Ranged {
        lo: -32768,
        hi: 32768,
        ..u
    })
}

/// Cells for −2^15 … 2^15: one more value than a large range has.
fn units(b: &mut Builder, axes: &[usize], ints: Option<Vec<i64>>) -> Ranged {
    let small: Option<Vec<i32>> = ints.as_ref().map(|v| v.iter().map(|x| *x as i32).collect());
    let rank = axes.len();
    if b.limits.limb >= 16 {
        let table = b.table(Table::Range { len: 65537 });
        let tables = Tables::One(Choice {
            table,
            offset: 32768,
        });
        let id = b.column(axes, tables, small.clone());
        return Ranged {
            view: View::column(id, rank),
            ints: small,
            lo: -32768,
            hi: 32768,
        };
    }
    let part = |f: fn(i64) -> i64| {
        ints.as_ref()
            .map(|v| v.iter().map(|x| f(*x)).collect::<Vec<i64>>())
    };
    let low = b.exact(axes, 0, 255, part(|x| x & 255).as_deref());
    let high = b.digit(axes, part(|x| x >> 8).as_deref());
    Ranged {
        view: high.scaled(256).plus(&low.view),
        ints: small,
        lo: -32768,
        hi: 32768 + 255,
    }
}

/// Y with `Y²·v ≤ 2^58 < (Y + 1)²·v` for `v = Σd² + max(1, eps >> 2e)`.
///
/// With `W = Y·v`: `Y·W + r = 2^58` and `r + t + 1 = 2W + v` with r and t of at least 0, all as wide integers, so over the integers. Then `Y²·v ≤ 2^58` and `2^58 < Y·W + 2W + v = (Y + 1)²·v`,
/// which only one Y satisfies, because v is at least 1.
fn inverse_root(
    b: &mut Builder,
    rows: &Rows,
    digits: &Digits,
    exponent: Option<&Exponent>,
    eps: u64,
) -> Result<Ranged, PlanError> {
    let outer = &rows.outer;
    let (v, most) = squares(b, rows, digits, exponent, eps)?;
    let root = 1i128 << ROOT;
    let ys = v.ints.as_ref().map(|v| {
        let each = v
            .iter()
            .map(|v| ((1u64 << ROOT) / *v as u64).isqrt() as i64);
        each.collect()
    });
    let ys: Option<Vec<i128>> = b
        .claimed("inverse root", ys)
        .map(|v| v.into_iter().map(i128::from).collect());
    let ws: Option<Vec<i128>> = ys
        .as_ref()
        .zip(v.ints.as_ref())
        .map(|(y, v)| y.iter().zip(v).map(|(y, v)| y * v).collect());
    let narrow = |v: Vec<i128>| v.into_iter().map(|w| w as i64).collect();
    let ws = b.claimed("root times sum", ws.map(narrow));
    let ws: Option<Vec<i128>> = ws.map(|v| v.into_iter().map(i128::from).collect());
    let rs: Option<Vec<i128>> = ys
        .as_ref()
        .zip(ws.as_ref())
        .map(|(y, w)| y.iter().zip(w).map(|(y, w)| root - y * w).collect());
    let ts: Option<Vec<i128>> =
        rs.as_ref()
            .zip(ws.as_ref())
            .zip(v.ints.as_ref())
            .map(|((r, w), v)| {
                let each = r.iter().zip(w).zip(v);
                each.map(|((r, w), v)| 2 * w + v - r - 1).collect()
            });
    let small = ys.as_ref().map(|v| v.iter().map(|y| *y as i32).collect());
    let y = b.wide(outer, 1 << (ROOT / 2), ys);
    let w = b.wide(outer, root, ws);
    let r = b.wide(outer, root, rs);
    let t = b.wide(outer, 2 * root + most, ts);
    b.wide_zero(
        "root times sum",
        outer,
        &[Summand::Product(1, &y, &v), Summand::Times(-1, &w)],
    )?;
    b.wide_zero(
        "root from below",
        outer,
        &[
            Summand::Product(1, &y, &w),
            Summand::Times(1, &r),
            Summand::Constant(-root),
        ],
    )?;
    b.wide_zero(
        "root from above",
        outer,
        &[
            Summand::Times(2, &w),
            Summand::Times(1, &v),
            Summand::Times(-1, &r),
            Summand::Times(-1, &t),
            Summand::Constant(-1),
        ],
    )?;
    Ok(Ranged {
        view: y.view(b)?.0,
        ints: small,
        lo: 0,
        hi: 1 << (ROOT / 2),
    })
}

/// `Σd² + max(1, eps >> 2e)` and the most it can be.
///
/// Where a sum of squares can reach p, digits are summed: `(257·a + b)² = 257·256·a² + 257·(a + b)² − 256·b²`.
fn squares(
    b: &mut Builder,
    rows: &Rows,
    digits: &Digits,
    exponent: Option<&Exponent>,
    eps: u64,
) -> Result<(Wide, i128), PlanError> {
    let n = rows.len() as i64;
    let d = wide(digits.d.ints.as_deref());
    let low: Option<Vec<i64>> = map(d.as_deref(), |_, d| (d + 128).rem_euclid(257) - 128);
    let high: Option<Vec<i64>> = map(d.as_deref(), |_, d| (d + 128).div_euclid(257));
    let both = low.as_ref().zip(high.as_ref());
    let both = both.map(|(l, h)| l.iter().zip(h).map(|(l, h)| l + h).collect());
    let high = square_sum(b, rows, ("high squares", &digits.high), 127, high)?;
    let sum = digits.high.plus(&digits.low);
    let both = square_sum(b, rows, ("squares of sums", &sum), 255, both)?;
    let low = square_sum(b, rows, ("low squares", &digits.low), 128, low)?;
    let peak = i128::from(digits.d.lo.abs().max(digits.d.hi.abs()));
    let most = i128::from(n) * peak * peak + i128::from(epsilon(eps, 0));
    let exponents = exponent.and_then(|e| e.e.ints.as_ref());
    let sums = high
        .ints
        .as_ref()
        .zip(both.ints.as_ref())
        .zip(low.ints.as_ref());
    let ints = sums.map(|((high, both), low)| {
        let each = high.iter().zip(both).zip(low).enumerate();
        each.map(|(i, ((high, both), low))| {
            let e = exponents.map_or(0, |e| e[i] as u8);
            let squares = 257 * 256 * high + 257 * both - 256 * low;
            (squares + i128::from(epsilon(eps, e))) as i64
        })
        .collect::<Vec<i64>>()
    });
    let ints = b.claimed("squares and epsilon", ints);
    let ints = ints.map(|v| v.into_iter().map(i128::from).collect());
    let v = b.wide(&rows.outer, most, ints);
    let mut parts = vec![
        Summand::Times(257 * 256, &high),
        Summand::Times(257, &both),
        Summand::Times(-256, &low),
        Summand::Times(-1, &v),
    ];
    let pieces = epsilons(b, rows, exponent, eps)?;
    match &pieces {
        None => parts.push(Summand::Constant(epsilon(eps, 0).into())),
        Some(pieces) => {
            for (i, piece) in pieces.iter().enumerate() {
                parts.push(Summand::Shifted(PIECE * i as u32, piece));
            }
        }
    }
    b.wide_zero("sum of squares and epsilon", &rows.outer, &parts)?;
    Ok((v, most))
}

/// `Σ` of the squares of a view of magnitude up to `peak`.
fn square_sum(
    b: &mut Builder,
    rows: &Rows,
    (what, view): (&'static str, &View),
    peak: i64,
    ints: Option<Vec<i64>>,
) -> Result<Wide, PlanError> {
    let most = (rows.len() as i64).saturating_mul(peak * peak);
    let sums: Option<Vec<i64>> = ints.map(|d| {
        let lines = d.chunks_exact(rows.len());
        lines.map(|d| d.iter().map(|d| d * d).sum()).collect()
    });
    let sums = b.claimed(what, sums);
    let sums = sums.map(|v| v.into_iter().map(i128::from).collect());
    let sum = b.wide(&rows.outer, most.into(), sums);
    // what the cells can be, not only what a sum can be
    let (limbs, capacity) = sum.view(b)?;
    b.fits(most.max(capacity))?;
    let terms = vec![
        Term::Product {
            coefficient: 1,
            sums: rows.inner.clone(),
            a: view.clone(),
            b: view.clone(),
        },
        Term::linear(limbs.scaled(-1)),
    ];
    b.relation("sum of squares", &rows.outer, terms);
    Ok(sum)
}

/// `max(1, eps >> 2e)` in pieces of 24 bits; none where it is the same for all e.
fn epsilons(
    b: &mut Builder,
    rows: &Rows,
    exponent: Option<&Exponent>,
    eps: u64,
) -> Result<Option<Vec<Ranged>>, PlanError> {
    let Some(exponent) = exponent.filter(|e| epsilon(eps, 0) != epsilon(eps, e.most)) else {
        return Ok(None);
    };
    let mut pieces = Vec::new();
    for i in 0..(u64::BITS - eps.leading_zeros()).div_ceil(PIECE) {
        let values: Vec<i32> = (0..=exponent.most)
            .map(|e| (epsilon(eps, e) >> (PIECE * i) & ((1 << PIECE) - 1)) as i32)
            .collect();
        pieces.push(b.function(&rows.outer, &exponent.e, 0, &values)?);
    }
    Ok(Some(pieces))
}

/// `sat(rnd(u_j·gain_j + bias_j, shift))`.
fn affine(
    b: &mut Builder,
    ctx: &Context<'_>,
    rows: &Rows,
    u: &Ranged,
    params: ConstId,
    out: &Requant,
) -> Result<Ranged, PlanError> {
    let n = rows.len();
    let ends = |top: bool| -> Result<i64, PlanError> {
        let norm = ctx.constant(params)?.norm();
        let each = norm.iter().map(|(g, c)| {
            let reach = i64::from(*g).abs() << BITS;
            i64::from(*c) + if top { reach } else { -reach }
        });
        let end = if top { each.max() } else { each.min() };
        Ok(end.unwrap_or(0))
    };
    let (lo, hi) = b.facts.range(|| Ok((ends(false)?, ends(true)?)))?;
    let biased = b.facts.number(|| {
        let norm = ctx.constant(params)?.norm();
        Ok(norm.iter().any(|(_, c)| *c != 0).into())
    })?;
    let left = out.shift.min(0).unsigned_abs();
    let index = vec![joined(rows.outer.len(), &rows.inner).into()];
    let gain = indexed(b.weight(params, Part::Gain, &[n]), index.clone());
    let mut terms = vec![Term::Product {
        coefficient: 1 << left,
        sums: vec![],
        a: u.view.clone(),
        b: gain,
    }];
    if biased != 0 {
        let bias = indexed(b.weight(params, Part::Bias, &[n]), index);
        terms.push(Term::linear(bias.scaled(1 << left)));
    }
    let ints = match (&u.ints, ctx.consts) {
        (Some(u), Some(_)) => {
            let norm = ctx.constant(params)?.norm();
            let each = u.iter().enumerate().map(|(i, u)| {
                let (gain, bias) = norm[i % n];
                (i64::from(*u) * i64::from(gain) + i64::from(bias)) << left
            });
            Some(each.collect())
        }
        _ => None,
    };
    let sum = Sum {
        axes: rows.axes(),
        terms,
        ints,
        lo: lo.saturating_mul(1 << left),
        hi: hi.saturating_mul(1 << left),
    };
    let shifts = Shifts::All(out.shift.max(0).into());
    let function = ctx.function(b, out)?;
    b.requant(
        sum,
        &shifts,
        (out.lo.into(), out.hi.into()),
        function.as_deref(),
    )
}
