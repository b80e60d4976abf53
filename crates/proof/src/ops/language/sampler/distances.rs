//! Distances of all tokens to the likeliest one, and their masses: three to five cells a token.

use std::sync::Arc;

use assay_graph::ops::sample::{EXTRA_BITS, MAX_LOGIT, Occurrences, adjusted};

use super::{Rule, special};
use crate::{
    error::PlanError,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Term, View},
        gadgets::{Ranged, map, narrow},
        row::Rows,
        value::Value,
    },
};

/// Bits below half a step of the distances.
const HALF: u8 = EXTRA_BITS - 1;

/// Tokens' distances and masses.
pub(super) struct Distances {
    /// One, positions and tokens.
    pub(super) axes: [usize; 3],
    /// `h = ⌊(max − y) / 2^7⌋` or the largest possible if it is larger: the distance is `⌊(h + 1) / 2⌋`.
    pub(super) half: Ranged,
    /// Masses of the tokens up to the cut, 0 behind it.
    pub(super) mass: Ranged,
}

/// Logits without penalties and bias divided by the temperature: a table, or a multiple.
fn tempered(b: &mut Builder, rule: &Rule<'_>, x: &Value) -> Result<Ranged, PlanError> {
    let (shape, x) = (x.factors(), Ranged::from(x));
    let one = 1i64 << (16 + EXTRA_BITS);
    let temperature = i64::from(rule.temperature());
    let factor = one / temperature;
    if one % temperature == 0 && factor * x.hi.max(-x.lo) <= MAX_LOGIT {
        return Ok(Ranged {
            view: x.view.scaled(factor),
            ints: x
                .ints
                .map(|v| v.into_iter().map(|v| v * factor as i32).collect()),
            lo: factor * x.lo,
            hi: factor * x.hi,
        });
    }
    let of = |l| adjusted(l as i32, rule.scale, Occurrences::default(), 0, rule.s);
    let values: Vec<i32> = (x.lo..=x.hi).map(of).collect();
    b.function(&shape, &x, x.lo, &values)
}

/// The likeliest logit of each row, and what tokens are beyond the distances of the table.
struct Top {
    view: View,
    /// Added to the view.
    offset: i64,
    /// In adjusted logits.
    beyond: View,
}

/// `max − y − 2^7·h − rest` of a claimed maximum, which is some y of `[lo, hi]`, is an integer below p: its cells reach no further than what it can be. Where logits are about 2^30 apart that takes a bit more:
/// a token in the lower half of the distances needs a maximum in the upper half of the logits, so that y can't be larger by so much.
fn top(
    b: &mut Builder,
    axes: &[usize; 3],
    (lo, hi): (i64, i64),
    half: &Ranged,
    tops: Option<&[i64]>,
    beyond: Option<&[i64]>,
) -> Result<Top, PlanError> {
    let (outer, span) = (&axes[..2], hi - lo);
    let (furthest, most) = (span >> HALF, half.hi);
    let mut top = Top {
        view: View::default(),
        offset: 0,
        beyond: View::default(),
    };
    if furthest <= most {
        b.fits(span + ((most + 1) << HALF))?;
        top.view = b.around(outer, lo, hi, tops).view;
        return Ok(top);
    }
    // whole cells of the highest limb, so that no bound is needed
    let one = 1i64 << b.limits.limb;
    let whole = |v: i64| v.div_euclid(one) * one + one - 1;
    let reach = |slack: i64| (most + 1 + slack) << HALF;
    let slack = whole(furthest - most);
    let steps = if b.fits(span + reach(slack)).is_ok() {
        top.view = b.around(outer, lo, hi, tops).view;
        b.exact(axes, 0, slack, beyond).view
    } else {
        let middle = furthest / 2 + 1;
        let slack = whole(middle);
        b.fits(span + reach(slack))?;
        let low = map(beyond, |_, v| if v < middle { v } else { v - middle });
        let high = map(beyond, |_, v| i64::from(v >= middle));
        let low = b.exact(axes, 0, slack, low.as_deref());
        let high = b.exact(axes, 0, 1, high.as_deref());
        let far = middle << HALF;
        let upper = map(tops, |_, t| i64::from(t - lo >= far));
        let upper = b.claimed("upper half", upper);
        let rest = tops.zip(upper.as_ref()).map(|(tops, upper)| {
            let each = tops.iter().zip(upper);
            each.map(|(t, upper)| t - lo - upper * far)
                .collect::<Vec<_>>()
        });
        let upper = b.exact(outer, 0, 1, upper.as_deref());
        let rest = b.around(outer, 0, far, rest.as_deref());
        b.fits(span.max(far + rest.hi))?;
        top.view = upper.view.scaled(far).plus(&rest.view);
        top.offset = lo;
        let terms = vec![
            Term::linear(high.view.clone()),
            times(-1, high.view.clone(), upper.view),
        ];
        b.relation("a far token needs a high maximum", axes, terms);
        low.view.plus(&high.view.scaled(middle))
    };
    let terms = vec![
        Term::linear(steps.scaled(most)),
        times(-1, steps.clone(), half.view.clone()),
    ];
    b.relation("no slack of a near token", axes, terms);
    top.beyond = steps.scaled(1 << HALF);
    Ok(top)
}

/// A product of two views without sums.
fn times(coefficient: i64, a: View, b: View) -> Term {
    Term::Product {
        coefficient,
        sums: Vec::new(),
        a,
        b,
    }
}

/// States the distances and masses of logits `[1, out, n]`; masses behind distance `cut` are 0.
///
/// `max − y = 2^7·h + rest`, and some `2^7·h + rest` is 0: so max is the maximum of y. It is in no other relation, so any cells that are congruent to it will do. Where a table of all h would be too large,
/// what is beyond twice the limit goes into a slack that is 0 for smaller h.
pub(super) fn distances(
    b: &mut Builder,
    rule: &Rule<'_>,
    x: &Value,
    cut: usize,
) -> Result<Distances, PlanError> {
    let axes = [1, x.dim(1), x.dim(2)];
    let (outer, n) = ([axes[0], axes[1]], axes[2]);
    let plain = tempered(b, rule, x)?;
    let special = special::changes(b, rule, x, &plain)?;
    let (lo, hi) = (plain.lo.min(special.lo), plain.hi.max(special.hi));
    let ys = plain.ints.as_ref().map(|v| {
        let mut v = v.clone();
        for (at, y) in &special.logits {
            v[*at] = *y;
        }
        v
    });
    let tops = ys.as_ref().map(|v| {
        let top = |row: &[i32]| row.iter().copied().max().map_or(0, i64::from);
        v.chunks_exact(n).map(top).collect()
    });
    let tops = b.claimed("likeliest logit", tops);
    let gaps: Option<Vec<i64>> = ys.as_ref().zip(tops.as_ref()).map(|(y, tops)| {
        let rows = y.chunks_exact(n).zip(tops);
        rows.flat_map(|(y, top)| y.iter().map(move |y| top - i64::from(*y)))
            .collect()
    });
    let limit = 2 * rule.limit as i64;
    let furthest = (hi - lo) >> HALF;
    let most = if furthest < b.limits.function as i64 {
        furthest
    } else {
        limit
    };
    let halves = map(gaps.as_deref(), |_, g| (g >> HALF).min(most));
    let halves = b.claimed("distance", halves);
    let halves = map(halves.as_deref(), |_, h| h.clamp(0, most));
    let both = gaps.as_ref().zip(halves.as_ref());
    let beyond: Option<Vec<i64>> = both.map(|(g, h)| {
        let each = g.iter().zip(h);
        each.map(|(g, h)| (g >> HALF) - h).collect()
    });
    let rests = map(gaps.as_deref(), |_, g| g & ((1 << HALF) - 1));

    let masses: Arc<Vec<i32>> = Arc::new(
        (0..=most as usize)
            .map(|h| match h.div_ceil(2) {
                d if d <= cut => rule.mass(d),
                _ => 0,
            })
            .collect(),
    );
    let table = b.table(Table::Function {
        values: Arc::clone(&masses),
    });
    let keys = narrow(halves);
    let mass_of = |h: &i32| {
        let at = usize::try_from(*h).ok();
        at.and_then(|h| masses.get(h)).copied().unwrap_or(0)
    };
    let images = keys.as_ref().map(|v| v.iter().map(mass_of).collect());
    let choice = Choice { table, offset: 0 };
    let (half, mass) = b.pair(&axes, Tables::One(choice), keys.clone(), images);
    let mass = Ranged {
        view: View::column(mass, 3),
        ints: keys.as_ref().map(|v| v.iter().map(mass_of).collect()),
        lo: 0,
        hi: masses.iter().copied().max().unwrap_or(0).into(),
    };
    let half = Ranged {
        view: View::column(half, 3),
        ints: keys,
        lo: 0,
        hi: most,
    };
    let rest = b.exact(&axes, 0, (1 << HALF) - 1, rests.as_deref());
    let near = half.view.scaled(1 << HALF).plus(&rest.view);
    let top = top(
        b,
        &axes,
        (lo, hi),
        &half,
        tops.as_deref(),
        beyond.as_deref(),
    )?;
    let sum = top.view.minus(&plain.view).minus(&special.view);
    let terms = vec![
        Term::linear(sum.minus(&near).minus(&top.beyond)),
        Term::constant(top.offset),
    ];
    b.relation("distance to the likeliest token", &axes, terms);

    let nears = half.ints.as_ref().zip(rests).map(|(h, rest)| {
        let each = h.iter().zip(rest);
        each.map(|(h, r)| (h << HALF) + r as i32).collect()
    });
    let rows = Rows {
        outer: outer.to_vec(),
        inner: vec![n],
        x: Ranged {
            view: near,
            ints: nears,
            lo: 0,
            hi: ((most + 1) << HALF) - 1,
        },
    };
    let likeliest = rows.each(|row| {
        let near = row.iter().enumerate().min_by_key(|(_, v)| **v);
        (near.map_or(0, |(i, _)| i), 1)
    });
    let picked = b.pick(&rows, false, likeliest.as_deref())?;
    b.relation("some token is the likeliest", &outer, vec![picked]);
    Ok(Distances { axes, half, mass })
}
