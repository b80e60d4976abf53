//! Weighted means with one division.

use std::sync::Arc;

use assay_graph::{Node, Op, Requant};
use rayon::prelude::*;

use super::{
    low::low,
    moves::gathered,
    wide::{clamped, low_of, symmetric},
};
use crate::{
    error::PlanError,
    ops::Context,
    plan::{
        builder::Builder,
        expr::{Term, View},
        gadgets::Ranged,
        value::Value,
    },
};

/// `⌊(2^(c0+1)·Σ e·v + S) / 2S⌋`: `2^(c0+1)·N + S = 2S·y + ρ` with `0 ≤ ρ < 2S`.
pub(crate) fn mix(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    c0: u8,
    out: &Requant,
) -> Result<Value, PlanError> {
    let (e, v) = (ctx.operand(b, node, 0)?.clone(), ctx.operand(b, node, 1)?);
    let (runs, heads, seq) = (e.dim(0), e.dim(1), e.dim(2));
    let Op::Mix { kv_heads, .. } = &node.op else {
        return Err(b.unsupported("no mix"));
    };
    let kv = usize::from(*kv_heads);
    let d = v.dim(1) / kv;
    let v = v.reshape(&[kv, d, seq]).map_err(|w| b.unsupported(w))?;
    if [&e, &v].iter().any(|x| x.dims.iter().any(|f| f.len() != 1)) || e.lo < 0 {
        return Err(b.unsupported("the operands' dimensions are joined"));
    }
    // labels: run, t, head, element, then j
    let weights = e.view.rename(&[0, 2, 1, 4]);
    let by_head = |v: &View| {
        let view = v.rename(&[0, 2, 3, 4]);
        let lens = [runs, seq, kv, d, seq];
        gathered(&view, 2, heads, &lens, |h| Some(h * kv / heads))
    };
    let axes = vec![runs, seq, heads, d];
    let rows = vec![runs, seq, heads];

    // S, of at least the table's first entry; in two limbs, the lower of as many bits as 2^(c0+1) has zeros
    let low_bits = i64::from(c0) + 1;
    let most_s = seq as i64 * e.hi;
    let sums = e.ints.as_ref().map(|e| {
        let line = |i: usize| {
            let (run, t, h) = (i / heads / seq, i / heads % seq, i % heads);
            let row = &e[((run * heads + h) * seq + t) * seq..][..seq];
            row.iter().map(|e| i64::from(*e)).sum()
        };
        (0..runs * seq * heads).map(line).collect::<Vec<i64>>()
    });
    let part = |f: &dyn Fn(i64) -> i64| {
        sums.as_ref()
            .map(|s| s.iter().map(|s| f(*s)).collect::<Vec<i64>>())
    };
    let s_low = b.around(
        &rows,
        0,
        (1 << low_bits) - 1,
        part(&|s| s & ((1 << low_bits) - 1)).as_deref(),
    );
    let s_high = b.around(
        &rows,
        0,
        most_s >> low_bits,
        part(&|s| s >> low_bits).as_deref(),
    );
    let s = s_low.view.plus(&s_high.view.scaled(1 << low_bits));
    let s_range = (s_high.hi + 1) << low_bits;
    b.fits(most_s + s_range)?;
    let one = b.one();
    let terms = vec![
        Term::Product {
            coefficient: 1,
            sums: vec![seq],
            a: e.view.rename(&[0, 2, 1, 3]),
            b: one,
        },
        Term::linear(s.scaled(-1)),
    ];
    b.relation("sum of the weights", &rows, terms);

    let peak_v = v.lo.abs().max(v.hi.abs());
    let dots = e.ints.as_ref().zip(v.ints.as_ref()).map(|(e, v)| {
        let line = |i: usize| {
            let (run, t, h, c) = (
                i / d / heads / seq,
                i / d / heads % seq,
                i / d % heads,
                i % d,
            );
            let e = &e[((run * heads + h) * seq + t) * seq..][..seq];
            let v = &v[((run * kv + h * kv / heads) * d + c) * seq..][..seq];
            e.iter()
                .zip(v)
                .map(|(e, v)| i64::from(*e) * i64::from(*v))
                .sum()
        };
        let n = axes.iter().product::<usize>();
        (0..n).into_par_iter().map(line).collect::<Vec<i64>>()
    });
    let whole = dots.as_ref().zip(sums.as_ref()).map(|(n, s)| {
        let each = n.iter().enumerate();
        each.map(|(i, n)| ((n << low_bits) + s[i / d], 2 * s[i / d]))
            .collect::<Vec<(i64, i64)>>()
    });
    let map = |f: &dyn Fn((i64, i64)) -> i64| {
        whole
            .as_ref()
            .map(|w| w.iter().map(|p| f(*p)).collect::<Vec<i64>>())
    };
    let means = map(&|(a, s)| a.div_euclid(s));
    let most = peak_v << c0;
    let ends = (i64::from(out.lo), i64::from(out.hi));
    let (h, y) = clamped(b, &axes, (-most, most), ends, means.as_deref())?;
    let rest = b.around(
        &axes,
        0,
        2 * most_s - 1,
        map(&|(a, s)| a.rem_euclid(s)).as_deref(),
    );
    let above = b.around(
        &axes,
        0,
        2 * most_s - 1,
        map(&|(a, s)| s - 1 - a.rem_euclid(s)).as_deref(),
    );
    b.fits(2 * s_range + rest.hi + above.hi + 2)?;
    let terms = vec![
        Term::linear(s.scaled(2).minus(&rest.view).minus(&above.view)),
        Term::constant(-1),
    ];
    b.relation("what a mean leaves over lies below 2S", &axes, terms);

    let h_most = h.h.lo.abs().max(h.h.hi.abs());
    let span = ((most_s * peak_v) << low_bits) + s_range + 2 * s_range * h_most + rest.hi;
    let division = |s: &View, h: &View, rest: &View| {
        vec![
            Term::linear(s.minus(rest)),
            Term::Product {
                coefficient: -2,
                sums: vec![],
                a: s.clone(),
                b: h.clone(),
            },
        ]
    };
    let mut terms = division(&s, &h.h.view, &rest.view);
    terms.push(Term::Product {
        coefficient: 1 << low_bits,
        sums: vec![seq],
        a: weights,
        b: by_head(&v.view),
    });
    b.relation("weighted mean", &axes, terms);
    let dims = vec![vec![runs], vec![seq], vec![heads, d]];
    let value = |y: Ranged| Value {
        dims,
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    };
    if b.fits(span).is_ok() {
        return Ok(value(y));
    }
    let modulus = low_bits.min(super::low::BITS);
    if span >= crate::field::MODULUS << modulus {
        return Err(PlanError::Range {
            node: b.node,
            op: b.op,
            bound: span,
            limit: (crate::field::MODULUS << modulus) - 1,
        });
    }
    // modulo 2^(c0 + 1), of which the weighted sum is a multiple
    let h_low = low(
        b,
        &Value {
            dims: axes.iter().map(|n| vec![*n]).collect(),
            view: h.h.view.clone(),
            ints: None,
            lo: h.h.lo,
            hi: h.h.hi,
        },
    )?;
    let rest_low = low_of(b, &rest.view, rest.hi + 1);
    let bound = s_low.hi + 2 * s_low.hi * h_low.most + rest_low.most;
    let carry = b
        .evaluate(&h_low.view, &axes)
        .zip(b.evaluate(&rest_low.view, &axes))
        .zip(sums);
    let carry = carry.map(|((h, r), s)| {
        let each = h.iter().zip(&r).enumerate();
        each.map(|(i, (h, r))| {
            let s = s[i / d] & ((1 << low_bits) - 1);
            (s - r - 2 * s * h) >> modulus
        })
        .collect::<Vec<i64>>()
    });
    let carry = symmetric(b, &axes, (bound >> modulus) + 1, carry.as_deref());
    b.fits(bound + ((carry.hi + 1) << modulus))?;
    let mut terms = division(&s_low.view, &h_low.view, &rest_low.view);
    terms.push(Term::linear(carry.view.scaled(-(1 << modulus))));
    b.relation("weighted mean, low limbs", &axes, terms);
    Ok(value(y))
}
