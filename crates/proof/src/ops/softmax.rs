//! softmax: distances to the row's maximum, a table of exponentials, one division for each element.

use std::sync::Arc;

use assay_graph::{ConstId, Node};

use super::{Context, elementwise::table};
use crate::{
    error::PlanError,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Term, View},
        gadgets::{Ranged, Shifts, map},
        row::{Rows, wide},
        value::Value,
    },
};

/// Softmax over the last axis.
pub(crate) fn softmax(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    shift: u8,
    bits: u8,
) -> Result<Value, PlanError> {
    let values = table(b, ctx, id)?;
    let falls = values.windows(2).all(|w| matches!(w, [a, b] if a >= b));
    if !falls || values.last() != Some(&0) || values.first().is_none_or(|v| *v <= 0) {
        return Err(PlanError::Key("exponentials that do not fall to 0".into()));
    }
    let x = ctx.operand(b, node, 0)?;
    let rows = Rows::of(x);
    let (_, gap) = b.row_peak(&rows)?;
    let e = exponentials(b, &rows.axes(), &gap, &values, shift)?;
    let p = shares(b, &rows, e, bits)?;
    Ok(Value {
        dims: x.dims.clone(),
        view: p.view,
        ints: p.ints.map(Arc::new),
        lo: p.lo,
        hi: p.hi,
    })
}

/// `table[min(T − 1, rnd(gap, shift))]`, and that gaps are not negative.
///
/// With `h = 2^(shift−1)`: `gap = h·q + r`, `q ≥ 0`, `0 ≤ r < h` and `rnd(gap, shift) = ⌊(q + 1) / 2⌋`, so a table by q serves. Where such a table would be longer than what is looked up in
/// it, `q = i + s` with i in the table and `s·e = 0`: if s is not 0, e is, and so is every later entry of a table that doesn't rise and ends with 0; if s is 0, i is q.
pub(crate) fn exponentials(
    b: &mut Builder,
    axes: &[usize],
    gap: &Ranged,
    values: &[i32],
    shift: u8,
) -> Result<Ranged, PlanError> {
    let k = shift.saturating_sub(1);
    let top = values.len() as i64 - 1;
    let value = |q: i64| {
        let i = if shift == 0 { q } else { (q + 1) >> 1 };
        values[i.clamp(0, top) as usize]
    };
    let gaps = wide(gap.ints.as_deref());
    let q = b.claimed("step", map(gaps.as_deref(), |_, d| d >> k));
    let rest = map(gaps.as_deref(), |_, d| d & ((1 << k) - 1));
    let last = gap.hi >> k;
    // from this key on all entries are 0
    let end = if shift == 0 { top } else { 2 * top - 1 };
    let elements: usize = axes.iter().product();
    let whole = last <= end || (last - end <= elements as i64 && last < b.limits.function as i64);
    let end = if whole { last } else { end };
    let table = b.table(Table::Function {
        values: Arc::new((0..=end).map(value).collect()),
    });
    let tables = Tables::One(Choice { table, offset: 0 });
    let narrow =
        |v: Option<Vec<i64>>| v.map(|v| v.into_iter().map(|x| x as i32).collect::<Vec<i32>>());
    let keys = b.claimed("key", map(q.as_deref(), |_, q| q.min(end)));
    let images = map(keys.as_deref(), |_, i| value(i).into());
    let images = narrow(images);
    let (key, e) = b.pair(axes, tables, narrow(keys.clone()), images.clone());
    let rank = axes.len();
    let (mut view, mut most) = (View::column(key, rank), end);
    if !whole {
        let over = q.as_ref().zip(keys.as_ref());
        let over: Option<Vec<i64>> =
            over.map(|(q, i)| q.iter().zip(i).map(|(q, i)| q - i).collect());
        let over = b.around(axes, 0, last - end, over.as_deref());
        let terms = vec![Term::Product {
            coefficient: 1,
            sums: vec![],
            a: over.view.clone(),
            b: View::column(e, rank),
        }];
        b.relation("beyond the table nothing is left", axes, terms);
        (view, most) = (view.plus(&over.view), end + over.hi);
    }
    let mut sum = gap.view.minus(&view.scaled(1 << k));
    if k > 0 {
        sum = sum.minus(&b.remainders(axes, &Shifts::All(k.into()), rest.as_deref()));
    }
    // the gap of a claimed maximum may be negative
    b.fits(((most + 1) << k).saturating_add(gap.hi))?;
    b.relation("distance to the maximum", axes, vec![Term::linear(sum)]);
    Ok(Ranged {
        view: View::column(e, rank),
        ints: images,
        lo: 0,
        hi: values[0].into(),
    })
}

/// `p = ⌊(2^(bits+1)·e + S) / 2S⌋` with S the sum of the row.
///
/// `2^(bits+1)·e + S = 2S·p + r` with `0 ≤ r` and `2S − 1 − r ≥ 0` has one solution over the integers. Both sides differ by less than `p·2^m` (p the modulus) whatever is committed, so that it is enough
/// that they are equal in the field and modulo 2^m, where only the low m bits of S and r matter.
fn shares(b: &mut Builder, rows: &Rows, e: Ranged, bits: u8) -> Result<Ranged, PlanError> {
    let axes = rows.axes();
    let (n, unit) = (rows.len(), 1i64 << (bits + 1));
    let exps = Rows {
        x: e,
        ..rows.clone()
    };
    let most = (n as i64).saturating_mul(exps.x.hi);
    let sums = exps.each(|e| e.iter().map(|e| i64::from(*e)).sum());
    // a table's first entry is above 0, so only lies are clamped
    let sums: Option<Vec<i64>> = map(b.claimed("sum of exponentials", sums).as_deref(), |_, s| {
        s.max(1)
    });
    let e = wide(exps.x.ints.as_deref());
    let each = |f: &dyn Fn(i64, i64) -> i64| {
        let both = e.as_ref().zip(sums.as_ref());
        both.map(|(e, s)| {
            e.iter()
                .enumerate()
                .map(|(i, e)| f(*e, s[i / n]))
                .collect::<Vec<i64>>()
        })
    };
    let p = b.claimed("share", each(&|e, s| (unit * e + s) / (2 * s)));
    let rests = |kept: i64, mask: i64| {
        let both = e.as_ref().zip(sums.as_ref()).zip(p.as_ref());
        both.map(|((e, s), p)| {
            let each = e.iter().zip(p).enumerate();
            each.map(|(i, (e, p))| {
                let s = s[i / n] & mask;
                kept * e + s - 2 * s * p
            })
            .collect::<Vec<i64>>()
        })
    };
    let rest = rests(unit, -1);
    let slack = rest.as_ref().zip(sums.as_ref()).map(|(rest, s)| {
        let each = rest.iter().enumerate();
        each.map(|(i, rest)| 2 * s[i / n] - 1 - rest)
            .collect::<Vec<i64>>()
    });
    let share = b.around(&axes, 0, 1 << bits, p.as_deref());

    // how far the sides can be apart, and the bits that must be compared for it
    let reach = |s: i64| {
        (2 * s)
            .saturating_mul(share.hi)
            .saturating_add(unit * exps.x.hi)
            .saturating_add(8 * s)
    };
    let mut m = 0;
    while reach(most.saturating_mul(2)) >> m >= crate::field::MODULUS {
        m += 1;
    }
    let low = (1i64 << m) - 1;
    let sum = split(b, &rows.outer, most, m, sums.as_deref());
    let parts = split(b, &axes, 2 * most, m, rest.as_deref());
    let slack = b.around(&axes, 0, 2 * most, slack.as_deref());

    b.fits(most.max(sum.hi))?;
    let terms = vec![
        exps.sum(b, 1, &exps.x.view),
        Term::linear(sum.view.scaled(-1)),
    ];
    b.relation("sum of a row", &rows.outer, terms);
    b.fits((2 * most).max(slack.hi + parts.hi + 1))?;
    let terms = vec![
        Term::linear(sum.view.scaled(2).minus(&parts.view).minus(&slack.view)),
        Term::constant(-1),
    ];
    b.relation("rest of a division", &axes, terms);
    let sides = |sum: &View, rest: &View| {
        vec![
            Term::linear(sum.minus(rest)),
            Term::Product {
                coefficient: -2,
                sums: vec![],
                a: sum.clone(),
                b: share.view.clone(),
            },
        ]
    };
    let mut terms = sides(&sum.view, &parts.view);
    terms.push(Term::linear(exps.x.view.scaled(unit)));
    b.relation("division by the sum", &axes, terms);
    if m > 0 {
        // 2^(bits+1)·e is 0 modulo 2^m for m up to bits + 1
        let kept = if m > u32::from(bits) + 1 { unit } else { 0 };
        let totals = rests(kept, low).zip(rest).map(|(total, rest)| {
            let each = total.iter().zip(rest);
            each.map(|(t, rest)| (t - (rest & low)) >> m).collect()
        });
        let carry = b.claimed("carry", totals);
        let (least, top) = (-(2 * low * (1 << bits) + low), kept * exps.x.hi + low);
        let carry = b.around(&axes, least >> m, top >> m, carry.as_deref());
        let span = 2 * low * share.hi + low;
        b.fits((top - (carry.lo << m)).max((carry.hi << m) + span))?;
        let mut terms = sides(&sum.low, &parts.low);
        terms.push(Term::linear(
            exps.x.view.scaled(kept).minus(&carry.view.scaled(1 << m)),
        ));
        b.relation("division by the sum, low bits", &axes, terms);
    }
    Ok(Ranged {
        lo: 0,
        hi: 1 << bits,
        ..share
    })
}

/// An integer and its low bits.
struct Parts {
    view: View,
    low: View,
    hi: i64,
}

/// Cells for `[0, most]`, the low m bits apart.
fn split(b: &mut Builder, axes: &[usize], most: i64, m: u32, ints: Option<&[i64]>) -> Parts {
    if m == 0 {
        let all = b.around(axes, 0, most, ints);
        return Parts {
            low: View::default(),
            view: all.view,
            hi: all.hi,
        };
    }
    let low = map(ints, |_, v| v & ((1 << m) - 1));
    let low = b.around(axes, 0, (1 << m) - 1, low.as_deref());
    let high = map(ints, |_, v| v >> m);
    let high = b.around(axes, 0, most >> m, high.as_deref());
    Parts {
        view: high.view.scaled(1 << m).plus(&low.view),
        low: low.view,
        hi: (high.hi << m) + low.hi,
    }
}
