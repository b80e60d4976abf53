//! Logits of tokens that are penalised or biased: a list of (position, token) that follows from the statement, some forty cells each.

use std::{collections::BTreeMap, sync::Arc};

use assay_graph::{
    Sampling,
    ops::sample::{EXTRA_BITS, MAX_LOGIT, Occurrences, adjusted, natural},
    sampling::ONE,
};

use super::Rule;
use crate::{
    error::PlanError,
    ops::language::moves::gathered,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Affine, Index, Read, Term, View},
        gadgets::{Ranged, map, narrow},
        value::Value,
        wide::Part,
    },
};

/// What a statement changes.
#[derive(Default)]
pub(super) struct Changes {
    /// What is added to the logits without penalties and bias, over one, positions and tokens.
    pub(super) view: View,
    /// The changed logits by position and token, on the prover's side.
    pub(super) logits: Vec<(usize, i32)>,
    /// Smallest and largest of them.
    pub(super) lo: i64,
    pub(super) hi: i64,
}

/// A token whose logit is changed at a position.
struct Special {
    token: usize,
    seen: Occurrences,
    bias: i32,
}

/// Tokens whose logits change, for each position.
fn specials(rule: &Rule<'_>, out: usize, n: usize) -> Vec<Vec<Special>> {
    let s = rule.s;
    let asked = (rule.input.len() + 1).saturating_sub(out);
    let mut seen: BTreeMap<usize, Occurrences> = BTreeMap::new();
    let mut next = rule.input.iter().enumerate().peekable();
    let biases: BTreeMap<usize, i32> = s.bias.iter().map(|(t, b)| (*t as usize, *b)).collect();
    (0..out)
        .map(|j| {
            while let Some((i, t)) = next.next_if(|(i, _)| *i < asked + j) {
                let token = seen.entry(usize::try_from(*t).unwrap_or(n)).or_default();
                // what has no effect is left out
                token.any |= s.repetition != ONE;
                token.answered += u32::from(i >= asked && (s.frequency != 0 || s.presence != 0));
            }
            let mut all: BTreeMap<usize, (Occurrences, i32)> = BTreeMap::new();
            for (token, seen) in &seen {
                if seen.any || seen.answered > 0 {
                    all.entry(*token).or_default().0 = *seen;
                }
            }
            for (token, bias) in &biases {
                if *bias != 0 {
                    all.entry(*token).or_default().1 = *bias;
                }
            }
            let inside = all.into_iter().filter(|(token, _)| *token < n);
            inside
                .map(|(token, (seen, bias))| Special { token, seen, bias })
                .collect()
        })
        .collect()
}

/// `y` after the repetition penalty (docs/graph.md, `adjust`), of a token that occurred or did not.
fn repeated(logit: i64, seen: bool, s: &Sampling) -> i32 {
    let (y, one, r) = (logit << EXTRA_BITS, i64::from(ONE), i64::from(s.repetition));
    let y = match seen && s.repetition != ONE {
        true if y > 0 => y * one / r,
        true => -(-y * r / one),
        false => y,
    };
    y as i32
}

/// Largest magnitude of these for all logits.
fn peak(x: &Value, s: &Sampling) -> i64 {
    let each = [x.lo, x.hi]
        .into_iter()
        .flat_map(|l| [true, false].map(|seen| repeated(l, seen, s)));
    each.map(|y| i64::from(y).abs()).max().unwrap_or(0)
}

/// States the logits of penalised and biased tokens.
///
/// With y behind the repetition penalty (a table), `2^16·(y + c) = T·(t + over − under) + rest`, `0 ≤ rest < T`: t is `⌊2^16·(y + c) / T⌋` within its ends, where over and under are 0 unless t is at
/// that end. What is added to a logit without penalties is in no other relation, so any cells that are congruent to it will do.
pub(super) fn changes(
    b: &mut Builder,
    rule: &Rule<'_>,
    x: &Value,
    plain: &Ranged,
) -> Result<Changes, PlanError> {
    let (out, n) = (x.dim(1), x.dim(2));
    let rows = specials(rule, out, n);
    let k: usize = rows.iter().map(Vec::len).sum();
    let s = rule.s;
    if k == 0 {
        return Ok(Changes {
            lo: plain.lo,
            hi: plain.hi,
            ..Changes::default()
        });
    }
    let all = || {
        rows.iter()
            .enumerate()
            .flat_map(|(row, r)| r.iter().map(move |s| (row, s)))
    };
    let starts: Vec<usize> = rows
        .iter()
        .scan(0, |next, r| {
            *next += r.len();
            Some(*next - r.len())
        })
        .collect();
    let axes = [k];
    let after = |logit: i64, at: &Special| adjusted(logit as i32, rule.scale, at.seen, at.bias, s);
    let lo = all()
        .map(|(_, at)| i64::from(after(x.lo, at)))
        .min()
        .unwrap_or(0);
    let hi = all()
        .map(|(_, at)| i64::from(after(x.hi, at)))
        .max()
        .unwrap_or(0);

    // the logits
    let logits: Option<Vec<i64>> = x.ints.as_ref().map(|x| {
        all()
            .map(|(row, at)| i64::from(x[row * n + at.token]))
            .collect()
    });
    let logits = b.claimed("logit of a changed token", logits);
    let seen: Vec<bool> = all().map(|(_, at)| at.seen.any).collect();
    let Penalised {
        logit,
        parts: y,
        ints: ys,
    } = penalised(b, x, s, &seen, logits.as_deref())?;
    let most = i128::from(peak(x, s));

    // the rest of the way
    let one = i128::from(ONE);
    let temperature = i128::from(rule.temperature());
    let end = i128::from(MAX_LOGIT);
    // further away a logit is at its end whatever it was
    let bound = end * temperature / one + most + 2;
    let shifts: Vec<i128> = all()
        .map(|(_, at)| {
            let penalty = i64::from(at.seen.answered) * natural(s.frequency, rule.scale);
            let presence = natural(s.presence, rule.scale) * i64::from(at.seen.answered > 0);
            let c = natural(at.bias, rule.scale) - penalty - presence;
            i128::from(c).clamp(-bound, bound)
        })
        .collect();
    let sums: Option<Vec<i128>> = ys.map(|v| {
        v.iter()
            .zip(&shifts)
            .map(|(y, c)| one * (i128::from(*y) + c))
            .collect()
    });
    let quotients: Option<Vec<i64>> = sums
        .as_ref()
        .map(|v| v.iter().map(|v| v.div_euclid(temperature) as i64).collect());
    let quotients = b.claimed("adjusted logit", quotients);
    let quotients = quotients.map(|v| v.into_iter().map(i128::from).collect::<Vec<_>>());
    let of = |f: &dyn Fn(i128) -> i128| {
        quotients
            .as_ref()
            .map(|v| v.iter().map(|q| f(*q)).collect::<Vec<_>>())
    };
    let clamped = of(&|q| q.clamp(-end, end));
    let clamped = clamped.map(|v| v.into_iter().map(|t| t as i64).collect());
    let clamped = b.claimed("end of an adjusted logit", clamped);
    let of = |f: &dyn Fn(i128, i128) -> i128| {
        let both = quotients.iter().flatten().zip(clamped.iter().flatten());
        let all = both.map(|(q, t)| f(*q, i128::from(*t))).collect();
        clamped.is_some().then_some::<Vec<i128>>(all)
    };
    let t = b.wide(&axes, 2 * end, of(&|_, t| t + end));
    let below = b.wide(&axes, 2 * end, of(&|_, t| end - t));
    b.wide_zero(
        "adjusted logits have ends",
        &axes,
        &[
            Part::Times(1, &t),
            Part::Times(1, &below),
            Part::Constant(-2 * end),
        ],
    )?;
    let furthest = one * (bound + most) / temperature + 1;
    let over = b.wide(&axes, furthest, of(&|q, t| (q - t).max(0)));
    let under = b.wide(&axes, furthest, of(&|q, t| (t - q).max(0)));
    for (slack, other) in [(&over, &below), (&under, &t)] {
        let term = Term::Product {
            coefficient: 1,
            sums: Vec::new(),
            a: slack.digits(),
            b: other.digits(),
        };
        b.relation("no slack inside the ends", &axes, vec![term]);
    }
    let rests = sums.as_ref().zip(quotients.as_ref()).map(|(v, q)| {
        let each = v.iter().zip(q);
        each.map(|(v, q)| v - q * temperature).collect::<Vec<_>>()
    });
    let less = rests
        .as_ref()
        .map(|v| v.iter().map(|v| temperature - 1 - v).collect());
    let rest = b.wide(&axes, temperature - 1, rests);
    let less = b.wide(&axes, temperature - 1, less);
    b.wide_zero(
        "rest of a division by the temperature",
        &axes,
        &[
            Part::Times(1, &rest),
            Part::Times(1, &less),
            Part::Constant(1 - temperature),
        ],
    )?;
    // 2^16·c + T·end, made positive
    let away = one * bound;
    let known: Vec<i128> = shifts
        .iter()
        .map(|c| one * c + temperature * end + away)
        .collect();
    let known = b.wide_known(&axes, 2 * away + temperature * end, &known);
    let divisor = b.wide_known(&axes, temperature, &vec![temperature; k]);
    let mut parts = vec![
        Part::Times(1, &known),
        Part::Constant(-away),
        Part::Product(-1, &divisor, &t),
        Part::Product(-1, &divisor, &over),
        Part::Product(1, &divisor, &under),
        Part::Times(-1, &rest),
    ];
    parts.extend(y.iter().map(|(shift, y)| Part::Shifted(*shift, y)));
    b.wide_zero("adjusted logit", &axes, &parts)?;

    // back among the others
    let changes: Option<Vec<i64>> = plain.ints.as_ref().zip(clamped.as_ref()).map(|(plain, t)| {
        let each = all().zip(t);
        each.map(|((row, at), t)| t - i64::from(plain[row * n + at.token]))
            .collect()
    });
    let changes = b.claimed("change of a logit", changes);
    let change = b.around(&axes, lo - plain.hi, hi - plain.lo, changes.as_deref());
    for (row, here) in rows.iter().enumerate().filter(|(_, r)| !r.is_empty()) {
        let fixed = [
            Affine::fixed(0),
            Affine::fixed(row as i64),
            Affine::label(0),
        ];
        let of = |view: &View| {
            let view = view.substitute(&fixed);
            gathered(&view, 0, here.len(), &[n], |i| Some(here[i].token))
        };
        let own = |view: &View| {
            view.substitute(&[Affine {
                offset: starts[row] as i64,
                terms: vec![(0, 1)],
            }])
        };
        let terms = vec![Term::linear(own(&logit).minus(&of(&x.view)))];
        b.relation("logit of a changed token", &[here.len()], terms);
        let sum = own(&t.residue()).minus(&own(&change.view));
        let terms = vec![
            Term::linear(sum.minus(&of(&plain.view))),
            Term::constant(-MAX_LOGIT),
        ];
        b.relation("what is changed of a logit", &[here.len()], terms);
    }
    let mut list = vec![u32::MAX; out * n];
    for (i, (row, at)) in all().enumerate() {
        list[row * n + at.token] = i as u32;
    }
    let index = Index {
        affine: Affine {
            offset: 0,
            terms: vec![(1, n as i64), (2, 1)],
        },
        gather: Some(Arc::new(list)),
    };
    let spread = change.view.terms.iter().map(|(c, read)| {
        let read = Read {
            operand: read.operand,
            indices: vec![index.clone()],
        };
        (*c, read)
    });
    let logits = plain.ints.as_ref().zip(changes).map(|(plain, changes)| {
        let each = all().zip(changes).map(|((row, at), change)| {
            let at = row * n + at.token;
            (at, plain[at] + change as i32)
        });
        each.collect()
    });
    Ok(Changes {
        view: View {
            terms: spread.collect(),
        },
        logits: logits.unwrap_or_default(),
        lo,
        hi,
    })
}

/// Logits and what the repetition penalty leaves of them.
struct Penalised {
    logit: View,
    /// `2^16` times what is left, in parts times powers of two that are far below p when they are multiplied.
    parts: Vec<(u32, Ranged)>,
    ints: Option<Vec<i64>>,
}

/// States what the repetition penalty leaves of logits, of which some are of tokens that were seen.
fn penalised(
    b: &mut Builder,
    x: &Value,
    s: &Sampling,
    seen: &[bool],
    logits: Option<&[i64]>,
) -> Result<Penalised, PlanError> {
    let axes = [seen.len()];
    let ints: Option<Vec<i64>> = logits.map(|v| {
        let each = v.iter().zip(seen);
        each.map(|(l, any)| repeated(*l, *any, s).into()).collect()
    });
    if s.repetition == ONE {
        let logit = b.exact(&axes, x.lo, x.hi, logits);
        return Ok(Penalised {
            logit: logit.view.clone(),
            parts: vec![(16 + u32::from(EXTRA_BITS), logit)],
            ints,
        });
    }
    let choices = [false, true].map(|any| {
        let needed = seen.contains(&any);
        let values = needed.then(|| (x.lo..=x.hi).map(|l| repeated(l, any, s)).collect());
        values.map(|values| Choice {
            table: b.table(Table::Function {
                values: Arc::new(values),
            }),
            offset: -x.lo,
        })
    });
    let each = seen.iter().filter_map(|any| choices[usize::from(*any)]);
    let tables = Tables::Axis {
        axis: 0,
        choices: Arc::new(each.collect()),
    };
    let keys = narrow(logits.map(<[i64]>::to_vec));
    let (key, value) = b.pair(&axes, tables, keys, narrow(ints.clone()));
    let ints = b.claimed("penalised logit", ints);
    let one = 1i64 << b.limits.limb;
    let most = match (peak(x, s) >> 12) + 1 {
        most if most <= one / 2 => one / 2,
        most => (most + one - 1) / one * one,
    };
    b.fits(peak(x, s) + (most << 12))?;
    let low = map(ints.as_deref(), |_, v| v & 0xFFF);
    let high = map(ints.as_deref(), |_, v| v >> 12);
    let low = b.exact(&axes, 0, 0xFFF, low.as_deref());
    let high = b.exact(&axes, -most, most - 1, high.as_deref());
    let sum = high.view.scaled(1 << 12).plus(&low.view);
    let terms = vec![Term::linear(View::column(value, 1).minus(&sum))];
    b.relation("parts of a penalised logit", &axes, terms);
    Ok(Penalised {
        logit: View::column(key, 1),
        parts: vec![(16, low), (28, high)],
        ints,
    })
}
