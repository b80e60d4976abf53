//! Rows with a common exponent: exponent, normalise, and linear layers that give the exponent back.

use std::sync::Arc;

use assay_graph::{ConstId, Node, Requant};

use super::{
    linear::{self, Layer},
    wide::{By, Quotient, bits, clamped, low_of, shifted},
};
use crate::{
    error::PlanError,
    ops::Context,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Term, View},
        gadgets::Ranged,
        rounding_value,
        row::Rows,
        value::Value,
    },
};

/// `max(0, bitlen(max|x|) − bits)` of each row, with the row's quotients.
///
/// `x = 2^e·q + r` with `|q| < 2^bits` and `|r| < 2^e`: the integers of this form are those below `2^(bits + e)`, so e is not too small; an element that the prover picks shows that it is not too
/// large. `o = ⌊(r + 2^(e−1)) / 2^e⌋` is what rounding adds to q. The table of rests says `4e' + o'`, and `o·(end·o − q) = 0` for `o = 4(e' − e) + o'` and `end = 2^bits − 1` lets o differ from 0 at
/// q's ends only; where `e' ≠ e` it is at least 3 and `end·o` passes q. So `q + o` is the rounded quotient.
pub(crate) fn exponent(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    bits: u8,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let rows = Rows::of(x);
    let dims = x.dims[..x.dims.len() - 1].to_vec();
    let id = node.inputs[0];
    let Some(e) = b.exponent(&rows, bits)? else {
        b.blocks.insert((id, bits), x.into());
        let zeros: usize = dims.iter().flatten().product();
        return Ok(Value {
            dims,
            view: View::default(),
            ints: b.data.is_some().then(|| Arc::new(vec![0; zeros])),
            lo: 0,
            hi: 0,
        });
    };
    let axes = rows.axes();
    let len = rows.len();
    let end = (1i64 << bits) - 1;
    let exponents = e.e.ints.as_ref();
    let each = |f: &dyn Fn(i64, u8) -> i64| -> Option<Vec<i64>> {
        let x = rows.x.ints.as_ref()?.iter().zip(0..);
        Some(
            x.zip(std::iter::repeat(exponents?))
                .map(|((x, i), e)| f((*x).into(), e[i / len] as u8))
                .collect(),
        )
    };
    let rounded = |x: i64, e: u8| (x + ((1i64 << e) >> 1)) >> e;
    let q_of = move |x: i64, e: u8| rounded(x, e).clamp(-end, end);
    let q = b.exact(&axes, -end, end, each(&q_of).as_deref());
    let table = b.table(Table::Rounding { bits: e.most });
    let narrow =
        |v: Option<Vec<i64>>| v.map(|v| v.into_iter().map(|v| v as i32).collect::<Vec<i32>>());
    let rest = narrow(each(&|x, e| x - (q_of(x, e) << e)));
    let values = narrow(each(&|x, e| rounding_value(x - (q_of(x, e) << e), e)));
    let (r, value) = b.pair(
        &axes,
        Tables::One(Choice { table, offset: 0 }),
        rest,
        values,
    );
    let rank = axes.len();
    let peak = rows.x.lo.abs().max(rows.x.hi.abs());
    let reach = |quotient: i64, e: u8| b.fits(peak.saturating_add((quotient + 1) << e));
    if reach(end + 1, e.most).is_err() {
        // with the largest exponent quotients are no larger than those of the ends of x
        let far = rounded(peak, e.most);
        reach(far + 1, e.most)?;
        reach(end + 1, e.most - 1)?;
        let classes: Vec<i32> = (-end..=end).map(|q| i32::from(q.abs() > far)).collect();
        let beyond = b.function(&axes, &q, -end, &classes)?;
        let largest: Vec<i32> = (0..=e.most).map(|v| i32::from(v == e.most)).collect();
        let largest = b.function(&rows.outer, &e.e, 0, &largest)?;
        let terms = vec![Term::Product {
            coefficient: 1,
            sums: vec![],
            a: largest.view,
            b: beyond.view,
        }];
        b.relation("no quotient beyond the ends", &axes, terms);
    }
    let terms = vec![
        Term::linear(rows.x.view.minus(&View::column(r, rank))),
        Term::Product {
            coefficient: -1,
            sums: vec![],
            a: e.power.view.clone(),
            b: q.view.clone(),
        },
    ];
    b.relation("quotient by a power of two", &axes, terms);
    let o = View::column(value, rank).minus(&e.e.view.scaled(4));
    let terms = vec![Term::Product {
        coefficient: 1,
        sums: vec![],
        a: o.clone(),
        b: o.scaled(end).minus(&q.view),
    }];
    b.relation("rounding adds at the ends only", &axes, terms);
    let n = Ranged {
        view: q.view.plus(&o),
        ints: narrow(each(&rounded)),
        lo: -end - 1,
        hi: end + 1,
    };
    b.blocks.insert((id, bits), n);
    Ok(Value {
        dims,
        view: e.e.view,
        ints: e.e.ints.map(Arc::new),
        lo: e.e.lo,
        hi: e.e.hi,
    })
}

/// `sat(rnd(x, e))`, e the exponent of the same rows.
pub(crate) fn normalise(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    out: &Requant,
) -> Result<Value, PlanError> {
    let x = ctx.operand(b, node, 0)?;
    let source = node.inputs.get(1).and_then(|e| ctx.nodes.get(*e as usize));
    let bits = match source.map(|e| (&e.op, &e.inputs[..])) {
        Some((assay_graph::Op::Exponent { bits }, [of])) if node.inputs[0] == *of => *bits,
        _ => return Err(b.unsupported("an exponent of other rows")),
    };
    if out.shift != 0 {
        return Err(b.unsupported("a shift beside the exponent"));
    }
    let Some(n) = b.blocks.get(&(node.inputs[0], bits)).cloned() else {
        return Err(b.unsupported("an exponent of other rows"));
    };
    let value = |y: Ranged| Value {
        dims: x.dims.clone(),
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    };
    let (lo, hi) = (i64::from(out.lo), i64::from(out.hi));
    if n.lo >= lo && n.hi <= hi {
        return Ok(value(n));
    }
    let axes = x.factors();
    let ints = n
        .ints
        .as_ref()
        .map(|v| v.iter().map(|v| i64::from(*v)).collect::<Vec<i64>>());
    let (h, y) = clamped(b, &axes, (n.lo, n.hi), (lo, hi), ints.as_deref())?;
    let terms = vec![Term::linear(n.view.minus(&h.h.view))];
    b.relation("clamp of a quotient", &axes, terms);
    Ok(value(y))
}

/// Quotients of accumulators of magnitude up to `most` by row: a low limb of `base` bits, then others of which the highest depends on the shift. Returns limbs, the largest magnitude of the highest, and the largest of a cell's quotient times `2^shift`.
fn quotients_by(
    b: &mut Builder,
    axes: &[usize],
    by: &By,
    (most, base): (i64, i64),
    ints: Option<&[i64]>,
) -> (Vec<View>, i64, i64) {
    let half = |k: i32| 1i64 << bits(most >> k);
    let largest = by.shifts.iter().map(|k| half(*k)).max().unwrap_or(1);
    let mut limbs = Vec::new();
    let mut done = 0;
    let narrow = |f: &dyn Fn(i64) -> i64| ints.map(|v| v.iter().map(|v| f(*v) as i32).collect());
    while largest >> done > 1 << (base - 1) {
        let table = b.table(Table::Range { len: 1 << base });
        let cells = narrow(&|v| v >> done & ((1 << base) - 1));
        let id = b.column(axes, Tables::One(Choice { table, offset: 0 }), cells);
        limbs.push(View::column(id, axes.len()));
        done += base;
    }
    let choices: Vec<Choice> = by
        .shifts
        .iter()
        .map(|k| {
            let half = (half(*k) >> done).max(1);
            Choice {
                table: b.table(Table::Range {
                    len: 2 * half as usize,
                }),
                offset: half,
            }
        })
        .collect();
    let tables = match choices.first() {
        Some(one) if choices.iter().all(|c| c == one) => Tables::One(*one),
        _ => Tables::Axis {
            axis: by.label,
            choices: Arc::new(choices),
        },
    };
    let id = b.column(axes, tables, narrow(&|v| v >> done));
    limbs.push(View::column(id, axes.len()));
    let top = |k: i32| (half(k) >> done).max(1);
    let reach = by.shifts.iter().map(|k| top(*k) << (done + i64::from(*k)));
    let reach = reach.max().unwrap_or(1);
    (limbs, (largest >> done).max(1), reach)
}

/// `Σ 2^(base·i)·limb_i`.
fn joined(limbs: &[View], base: i64) -> View {
    let each = limbs.iter().zip(0i64..);
    each.fold(View::default(), |v, (l, i)| {
        v.plus(&l.scaled(1 << (base * i)))
    })
}

/// `[…, k], […] → […, n]`: `sat(rnd(bias + W·x, shift_r − e))`.
///
/// With E the largest exponent, `g = ⌊acc / 2^(shift_r − E − 1)⌋` and `Q = 2^(E − e)` the result is `⌊(g + Q) / 2Q⌋`: `g + Q = 2Q·y + ρ`, limb by limb with carries, and `0 ≤ ρ < 2Q` by a table of
/// ranges whose width is tied to e.
pub(crate) fn linear(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    out: &Requant,
) -> Result<Value, PlanError> {
    let e = ctx.operand(b, node, 1)?.clone();
    if (e.lo, e.hi) == (0, 0) {
        return linear::linear(b, ctx, node, id, out);
    }
    if e.lo < 0 || e.hi > 20 {
        return Err(b.unsupported("an exponent outside 0 … 20"));
    }
    let less = e.hi + 1;
    let facts = linear::facts(b, ctx, id, node.inputs[0], less)?;
    let (acc_most, most) = (facts.most, facts.quotient);
    let shifts = facts.shifts.iter().map(|k| k - less as i32).collect();
    let by_row = Arc::clone(&facts.shifts);
    let mut layer = Layer::new(b, ctx, node, id, facts)?;
    let by = By {
        label: layer.rows,
        shifts: Arc::new(shifts),
        round: false,
    };
    if by.shifts.iter().any(|k| *k < 0) {
        return Err(b.unsupported("an exponent takes more than a row's shift has"));
    }
    let axes = layer.sum.axes.clone();
    if e.factors() != axes[..layer.rows] {
        return Err(b.unsupported("the exponents' dimensions are cut differently"));
    }
    let n = by_row.len();
    let g = layer.sum.ints.as_ref().map(|v| by.quotients(&axes, v));
    let base = (28 - e.hi).min(b.limits.limb.into());
    let (limbs, top, scaled) = quotients_by(b, &axes, &by, (acc_most, base), g.as_deref());
    let reach = top << (base * (limbs.len() as i64 - 1));
    let view = joined(&limbs, base);
    let h = Quotient {
        low: low_of(b, &view, reach),
        h: Ranged {
            view,
            ints: None,
            lo: -reach,
            hi: reach - 1,
        },
    };
    let sum = layer.take();
    shifted(b, sum, &by, &h, Some(scaled), |b| layer.low(b, ctx))?;

    // Q by the exponent, and the width of the rests
    let powers: Vec<i32> = (0..=e.hi).map(|v| 1 << (e.hi - v)).collect();
    let q = b.function(&axes[..layer.rows], &Ranged::from(&e), 0, &powers)?;
    let e_of = |i: usize| e.ints.as_ref().map_or(0, |e| i64::from(e[i / n]));
    let y = g.as_ref().map(|g| {
        let each = g.iter().enumerate();
        each.map(|(i, g)| {
            let q = 1i64 << (e.hi - e_of(i));
            (g + q) >> (e.hi - e_of(i) + 1)
        })
        .collect::<Vec<i64>>()
    });
    let rest = g.as_ref().map(|g| {
        let each = g.iter().enumerate();
        each.map(|(i, g)| {
            let q = 1i64 << (e.hi - e_of(i));
            ((g + q) & (2 * q - 1)) as i32
        })
        .collect::<Vec<i32>>()
    });
    let widths = rest
        .as_ref()
        .map(|r| (0..r.len()).map(|i| (less - e_of(i)) as i32).collect());
    let table = b.table(Table::Widths { bits: less as u8 });
    let (rest, width) = b.pair(
        &axes,
        Tables::One(Choice { table, offset: 0 }),
        rest,
        widths,
    );
    let rank = axes.len();
    let terms = vec![
        Term::linear(View::column(width, rank).plus(&e.view)),
        Term::constant(-less),
    ];
    b.relation("width of a rest", &axes, terms);

    // y in limbs of the same base, as many as g has
    let peak = (most + 1) >> 1;
    let count = limbs.len();
    let digit = |i: usize, v: i64| {
        let v = v >> (base * i as i64);
        if i + 1 < count {
            v & ((1 << base) - 1)
        } else {
            v
        }
    };
    let (lo, hi) = (i64::from(out.lo), i64::from(out.hi));
    let saturates = -peak < lo || peak > hi;
    let mut ys = Vec::new();
    let mut carry: Option<Ranged> = None;
    for (i, g_limb) in limbs.iter().enumerate() {
        let cells = y
            .as_ref()
            .map(|y| y.iter().map(|y| digit(i, *y)).collect::<Vec<i64>>());
        let last = i + 1 == count;
        let at = base * i as i64;
        let limb = if last && saturates {
            b.exact(&axes, (-peak) >> at, peak >> at, cells.as_deref())
        } else if last {
            let half = 1i64 << bits(peak >> at);
            b.around(&axes, -half, half - 1, cells.as_deref())
        } else {
            b.around(&axes, 0, (1 << base) - 1, cells.as_deref())
        };
        let reach = limb.hi.max(-limb.lo) + 1;
        let mut terms = vec![
            Term::linear(g_limb.clone()),
            Term::Product {
                coefficient: -2,
                sums: vec![],
                a: q.view.clone(),
                b: limb.view.clone(),
            },
        ];
        if i == 0 {
            terms.push(Term::linear(q.view.minus(&View::column(rest, rank))));
        }
        if let Some(c) = &carry {
            terms.push(Term::linear(c.view.clone()));
        }
        let mut span = (reach << less) + (1 << base.max(bits(top))) + (4 << less);
        carry = if last {
            None
        } else {
            let (lo, hi) = (-(1i64 << less) - 1, 2);
            let ints = g
                .as_ref()
                .zip(y.as_ref())
                .zip(e.ints.as_ref())
                .map(|((g, y), e)| {
                    let mask = (1i64 << (base * (i as i64 + 1))) - 1;
                    let each = g.iter().zip(y).enumerate();
                    each.map(|(at, (g, y))| {
                        let q = 1i64 << (less - 1 - i64::from(e[at / n]));
                        let r = (g + q) & (2 * q - 1);
                        ((g & mask) + q - r - 2 * q * (y & mask)) >> (base * (i as i64 + 1))
                    })
                    .collect::<Vec<i64>>()
                });
            let c = b.around(&axes, lo, hi, ints.as_deref());
            span += (c.hi.max(-c.lo) + 1) << base;
            terms.push(Term::linear(c.view.scaled(-(1 << base))));
            Some(c)
        };
        b.fits(span)?;
        b.relation("quotient by the exponent's power", &axes, terms);
        ys.push(limb.view);
    }
    let view = joined(&ys, base);
    let result = if saturates {
        let (h, clamped) = clamped(b, &axes, (-peak, peak), (lo, hi), y.as_deref())?;
        let reach = peak + (1 << (base * (count as i64 - 1)));
        b.fits(reach + h.h.hi.max(-h.h.lo))?;
        let terms = vec![Term::linear(view.minus(&h.h.view))];
        b.relation("clamp of a quotient", &axes, terms);
        clamped
    } else {
        Ranged {
            view,
            ints: y.map(|v| v.into_iter().map(|v| v as i32).collect()),
            lo: -peak,
            hi: peak,
        }
    };
    Ok(Value {
        dims: layer.dims,
        view: result.view,
        ints: result.ints.map(Arc::new),
        lo: result.lo,
        hi: result.hi,
    })
}
