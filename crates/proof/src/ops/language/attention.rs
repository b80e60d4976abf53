//! Causal attention: scores that are never committed, exponentials of pairs `j ≤ t` only, and weighted means with one division.

use std::sync::Arc;

use assay_graph::{ConstId, Node, Op};
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
    b.spend(4 * seq * seq)?;
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
        most: most + m.hi + 1,
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
        let calm = std::mem::take(&mut b.limits.calm);
        let (h, w) = clamped(b, axes, (0, most), (0, top), ints)?;
        b.limits.calm = calm;
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
