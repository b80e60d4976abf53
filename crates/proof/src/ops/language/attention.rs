//! Causal attention: scores that are never committed, exponentials of pairs `j ≤ t` only, and weighted means with one division.

use std::sync::Arc;

use assay_graph::{ConstId, Node, Op, Requant};
use rayon::prelude::*;

use super::{
    low::low,
    moves::gathered,
    wide::{By, LowSum, Quotient, Wide, bits, clamped, low_of, shifted, symmetric},
};
use crate::{
    error::PlanError,
    ops::{Context, elementwise::table},
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Affine, Index, Label, Term, View},
        gadgets::Ranged,
        value::Value,
    },
};

/// Longest table of exponentials.
const MAX_TABLE: i64 = 1 << 18;
/// Stands for "no index".
const NOWHERE: u32 = u32::MAX;

/// Pairs `(t, j)` with `j ≤ t`, row after row.
fn pairs(seq: usize) -> Vec<(usize, usize)> {
    (0..seq)
        .flat_map(|t| (0..=t).map(move |j| (t, j)))
        .collect()
}

/// A column `[runs, heads, pairs]` over labels of run, head, t and j; 0 where `j > t`.
fn square(view: &View, seq: usize, labels: [Label; 4]) -> View {
    let list = (0..seq * seq).map(|i| {
        let (t, j) = (i / seq, i % seq);
        if j <= t {
            (t * (t + 1) / 2 + j) as u32
        } else {
            NOWHERE
        }
    });
    let list: Arc<Vec<u32>> = Arc::new(list.collect());
    let [run, head, t, j] = labels;
    let mut view = view.clone();
    for (_, read) in &mut view.terms {
        read.indices = vec![
            Index::label(run),
            Index::label(head),
            Index {
                affine: Affine {
                    offset: 0,
                    terms: vec![(t, seq as i64), (j, 1)],
                },
                gather: Some(Arc::clone(&list)),
            },
        ];
    }
    view
}

/// `table[min(T − 1, rnd(max − s, shift_h))]` for the scores of query and key rows.
///
/// With `d = m − s = 2^(shift − 1)·w + r`, `w ≥ 0` and `0 ≤ r < 2^(shift − 1)`, the table's step is `(w + 1) >> 1`, and d is not negative; m is the maximum because a pair that the prover picks in
/// each row has `w + r = 0`.
pub(crate) fn causal_exp(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    shifts: &[u8],
) -> Result<Value, PlanError> {
    let scores = node.inputs.first().and_then(|n| ctx.nodes.get(*n as usize));
    let Some((scores, Op::Scores { heads, kv_heads })) = scores.map(|n| (n, &n.op)) else {
        return Err(b.unsupported("the operand is no node of scores"));
    };
    let (heads, kv) = (usize::from(*heads), usize::from(*kv_heads));
    let exp = table(b, ctx, id)?;
    let (q, k) = (ctx.operand(b, scores, 0)?, ctx.operand(b, scores, 1)?);
    let (seq, d) = (q.dim(1), q.dim(2) / heads);
    let q = q.reshape(&[seq, heads, d]).map_err(|w| b.unsupported(w))?;
    let k = k.reshape(&[seq, kv, d]).map_err(|w| b.unsupported(w))?;
    let plain = |v: &Value| v.dims[..3].iter().all(|f| f.len() == 1);
    if !plain(&q) || !plain(&k) || q.dims[3] != k.dims[3] {
        return Err(b.unsupported("the operands' dimensions are joined"));
    }
    let runs = q.dim(0);
    let places = pairs(seq);
    let axes = vec![runs, heads, places.len()];
    let sums = q.dims[3].clone();
    let peak = |v: &Value| v.lo.abs().max(v.hi.abs());
    let most = (d as i64) * peak(&q) * peak(&k);

    // labels: run, head, pair, then those of a head's elements
    let names: Vec<Label> = [0, 2, 1].into_iter().chain(3..3 + sums.len()).collect();
    let spread = |v: &View, kv: usize, row: fn(&(usize, usize)) -> usize| {
        let lens = [&[runs, kv, seq], &sums[..]].concat();
        let view = gathered(&v.rename(&names), 2, places.len(), &lens, |i| {
            places.get(i).map(row)
        });
        if kv == heads {
            return view;
        }
        let lens = [&[runs, kv, places.len()], &sums[..]].concat();
        gathered(&view, 1, heads, &lens, |h| Some(h * kv / heads))
    };
    let queries = spread(&q.view, heads, |p| p.0);
    let score = |k: &View, coefficient: i64| Term::Product {
        coefficient,
        sums: sums.clone(),
        a: queries.clone(),
        b: spread(k, kv, |p| p.1),
    };

    let dot = q.ints.as_ref().zip(k.ints.as_ref()).map(|(q, k)| {
        let line = |i: usize| {
            let (run, h, (t, j)) = (
                i / places.len() / heads,
                i / places.len() % heads,
                places[i % places.len()],
            );
            let q = &q[((run * seq + t) * heads + h) * d..][..d];
            let k = &k[((run * seq + j) * kv + h * kv / heads) * d..][..d];
            q.iter()
                .zip(k)
                .map(|(q, k)| i64::from(*q) * i64::from(*k))
                .sum()
        };
        let n = axes.iter().product::<usize>();
        (0..n).into_par_iter().map(line).collect::<Vec<i64>>()
    });
    // the maximum of each row, over run, head, t
    let rows = runs * heads * seq;
    let row_of = |i: usize| i / places.len() * seq + places[i % places.len()].0;
    let maxima = dot.as_ref().map(|s| {
        let mut m = vec![i64::MIN; rows];
        for (i, s) in s.iter().enumerate() {
            let r = row_of(i);
            m[r] = m[r].max(*s);
        }
        m
    });
    let m = symmetric(b, &[runs, heads, seq], most, maxima.as_deref());
    let m_low = low_of(b, &m.view, m.hi + 1);
    let by_pair = |v: &View| {
        gathered(v, 2, places.len(), &[runs, heads, seq], |i| {
            places.get(i).map(|p| p.0)
        })
    };
    let gaps = dot.as_ref().zip(maxima.as_ref()).map(|(s, m)| {
        let each = s.iter().enumerate();
        each.map(|(i, s)| m[row_of(i)] - s).collect::<Vec<i64>>()
    });

    // half steps of the table
    let half_shifts: Vec<i32> = shifts
        .iter()
        .map(|s| i32::from(s.saturating_sub(1)))
        .collect();
    let by = By {
        label: 1,
        shifts: Arc::new(half_shifts),
        round: false,
    };
    let least = by.shifts.iter().copied().min().unwrap_or(0);
    let steps = gaps.as_ref().map(|g| by.quotients(&axes, g));
    let (w, e) = steps_of(
        b,
        &axes,
        (&exp, shifts),
        (2 * most) >> least,
        steps.as_deref(),
    )?;
    let terms = vec![Term::linear(by_pair(&m.view)), score(&k.view, -1)];
    let sum = Wide {
        axes: axes.clone(),
        terms,
        ints: gaps.clone(),
        most: 2 * most,
    };
    let rest = shifted(b, sum, &by, &w, None, |b| {
        let k_low = low(b, &k)?;
        let most = (d as i64) * peak(&q) * k_low.most + m_low.most;
        let terms = vec![Term::linear(by_pair(&m_low.view)), score(&k_low.view, -1)];
        let ints = b
            .data
            .is_some()
            .then(|| low_sums(b, &q, &k_low.view, &m_low.view, (heads, kv), &places));
        Ok(LowSum {
            terms,
            ints: ints.flatten(),
            most,
        })
    })?;

    // one pair of each row is the maximum
    let mut taken = vec![false; rows];
    let picks = gaps.as_ref().map(|g| {
        let each = g.iter().enumerate();
        each.map(|(i, g)| i32::from(*g == 0 && !std::mem::replace(&mut taken[row_of(i)], true)))
            .collect()
    });
    let bit = Tables::One(Choice {
        table: b.table(Table::Range { len: 2 }),
        offset: 0,
    });
    let pick = View::column(b.column(&axes, bit, picks), 3);
    let terms = vec![Term::Product {
        coefficient: 1,
        sums: vec![],
        a: pick.clone(),
        b: w.h.view.plus(&rest),
    }];
    b.relation("a pair that is picked has the maximum", &axes, terms);
    let one = b.one();
    let terms = vec![
        Term::Product {
            coefficient: 1,
            sums: vec![seq],
            a: square(&pick, seq, [0, 1, 2, 3]),
            b: one,
        },
        Term::constant(-1),
    ];
    b.relation("one pair of a row is picked", &[runs, heads, seq], terms);

    let ints = e.ints.as_ref().map(|e| {
        let mut out = vec![0; runs * heads * seq * seq];
        for (i, e) in e.iter().enumerate() {
            out[row_of(i) * seq + places[i % places.len()].1] = *e;
        }
        Arc::new(out)
    });
    Ok(Value {
        dims: vec![vec![runs], vec![heads], vec![seq], vec![seq]],
        view: square(&e.view, seq, [0, 1, 2, 3]),
        ints,
        lo: e.lo.min(0),
        hi: e.hi,
    })
}

/// `m − Σ q·k` with low limbs of m and k.
fn low_sums(
    b: &Builder,
    q: &Value,
    k: &View,
    m: &View,
    (heads, kv): (usize, usize),
    places: &[(usize, usize)],
) -> Option<Vec<i64>> {
    let (runs, seq, d) = (q.dim(0), q.dim(1), q.dim(3));
    let k = b.evaluate(k, &[&[runs, seq, kv], &q.dims[3][..]].concat())?;
    let m = b.evaluate(m, &[runs, heads, seq])?;
    let q = q.ints.as_ref()?;
    let n = runs * heads * places.len();
    let line = |i: usize| {
        let (row, (t, j)) = (i / places.len(), places[i % places.len()]);
        let (run, h) = (row / heads, row % heads);
        let q = &q[((run * seq + t) * heads + h) * d..][..d];
        let k = &k[((run * seq + j) * kv + h * kv / heads) * d..][..d];
        let dot: i64 = q.iter().zip(k).map(|(q, k)| i64::from(*q) * k).sum();
        m[row * seq + t] - dot
    };
    Some((0..n).into_par_iter().map(line).collect())
}

/// Half steps `w ≥ 0` up to `most` and the exponentials they stand for.
fn steps_of(
    b: &mut Builder,
    axes: &[usize],
    (exp, shifts): (&[i32], &[u8]),
    most: i64,
    ints: Option<&[i64]>,
) -> Result<(Quotient, Ranged), PlanError> {
    let last = exp.len() as i64 - 1;
    let value_of = |w: i64, half: bool| {
        let step = if half { (w + 1) >> 1 } else { w };
        exp[step.min(last) as usize]
    };
    let halves: Vec<bool> = shifts.iter().map(|s| *s > 0).collect();
    let mixed = halves.iter().any(|h| *h != halves[0]);
    let per = axes[2];
    let of = |i: usize| halves[i / per % axes[1]];
    let images = ints.map(|v| {
        let each = v.iter().enumerate();
        each.map(|(i, w)| value_of(*w, of(i))).collect::<Vec<i32>>()
    });
    let lo = exp.iter().copied().min().unwrap_or(0).into();
    let hi = exp.iter().copied().max().unwrap_or(0).into();
    let len = 1i64 << bits(most);
    if len > MAX_TABLE {
        if mixed {
            return Err(b.unsupported("shifts of 0 among others"));
        }
        // steps behind the table's end are all the same
        let top = 2 * last;
        let (h, w) = clamped(b, axes, (0, most), (0, top), ints)?;
        let values = (0..=top)
            .map(|w| value_of(w, halves[0]))
            .collect::<Vec<i32>>();
        let e = b.function(axes, &w, 0, &values)?;
        return Ok((h, e));
    }
    let choices: Vec<Choice> = halves
        .iter()
        .map(|half| Choice {
            table: b.table(Table::Function {
                values: Arc::new((0..len).map(|w| value_of(w, *half)).collect()),
            }),
            offset: 0,
        })
        .collect();
    let tables = if mixed {
        Tables::Axis {
            axis: 1,
            choices: Arc::new(choices),
        }
    } else {
        Tables::One(choices[0])
    };
    let keys = ints.map(|v| v.iter().map(|w| *w as i32).collect::<Vec<i32>>());
    let (key, value) = b.pair(axes, tables, keys.clone(), images.clone());
    let h = Ranged {
        view: View::column(key, 3),
        ints: keys,
        lo: 0,
        hi: len - 1,
    };
    let low = low_of(b, &h.view, len);
    let e = Ranged {
        view: View::column(value, 3),
        ints: images,
        lo,
        hi,
    };
    Ok((Quotient { h, low }, e))
}

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
