//! Rounding shifts of sums that may pass the field: the relation holds in the field and, with low limbs, modulo 2^8; together it holds as integers.

use super::low::{BITS, Low, centered};
use crate::{
    error::PlanError,
    field::MODULUS,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Label, Operand, Read, Term, View},
        gadgets::Ranged,
    },
};

use std::sync::Arc;

/// Longest table of a clamp.
const MAX_CLAMP: i64 = 1 << 18;

/// A sum over labels that is no column.
pub(crate) struct Wide {
    pub(crate) axes: Vec<usize>,
    /// Terms of the sum.
    pub(crate) terms: Vec<Term>,
    pub(crate) ints: Option<Vec<i64>>,
    /// Largest magnitude.
    pub(crate) most: i64,
}

/// Terms congruent to a sum's modulo `2^BITS`.
pub(crate) struct LowSum {
    pub(crate) terms: Vec<Term>,
    pub(crate) ints: Option<Vec<i64>>,
    pub(crate) most: i64,
}

/// Right shifts of at least 0 by the index of a label.
pub(crate) struct By {
    pub(crate) label: Label,
    pub(crate) shifts: Arc<Vec<i32>>,
    /// Whether to round to the nearest, else down.
    pub(crate) round: bool,
}

/// A quotient: committed cells, and what they are congruent to.
pub(crate) struct Quotient {
    pub(crate) h: Ranged,
    pub(crate) low: Low,
}

impl By {
    fn half(&self, k: i64) -> i64 {
        if self.round && k > 0 { 1 << (k - 1) } else { 0 }
    }

    fn of<'a>(&'a self, axes: &[usize]) -> impl Fn(usize) -> i64 + 'a {
        let inner: usize = axes[self.label + 1..].iter().product();
        let n = axes[self.label];
        move |i| i64::from(self.shifts[i / inner % n])
    }

    pub(crate) fn quotients(&self, axes: &[usize], ints: &[i64]) -> Vec<i64> {
        let of = self.of(axes);
        let each = ints.iter().enumerate();
        each.map(|(i, v)| (v + self.half(of(i))) >> of(i)).collect()
    }

    fn range(&self) -> (i64, i64) {
        let each = || self.shifts.iter().map(|k| i64::from(*k));
        (each().min().unwrap_or(0), each().max().unwrap_or(0))
    }

    /// A public factor of the label.
    fn scale(&self, b: &mut Builder, f: impl Fn(i64) -> i64) -> Option<(Label, usize)> {
        let factors = self.shifts.iter().map(|k| f(i64::from(*k))).collect();
        Some((self.label, b.scale(factors)))
    }
}

/// Smallest j with `most < 2^j`.
pub(crate) fn bits(most: i64) -> i64 {
    i64::from(u64::BITS - most.unsigned_abs().leading_zeros())
}

/// Cells for integers of magnitude up to `most`: `−2^j … 2^j − 1` in limbs, lowest first.
pub(crate) fn symmetric(
    b: &mut Builder,
    axes: &[usize],
    most: i64,
    ints: Option<&[i64]>,
) -> Ranged {
    let half = 1i64 << bits(most);
    b.around(axes, -half, half - 1, ints)
}

/// Cells for integers of `[lo, hi]` in limbs, of which only the lowest can leave the range.
pub(crate) fn tight(
    b: &mut Builder,
    axes: &[usize],
    (lo, hi): (i64, i64),
    ints: Option<&[i64]>,
) -> Ranged {
    let limb = i64::from(b.limits.limb);
    let (mut view, mut done) = (View::default(), 0);
    let narrow = |f: &dyn Fn(i64) -> i64| ints.map(|v| v.iter().map(|v| f(*v) as i32).collect());
    let column = |b: &mut Builder, first: i64, len: i64, cells| {
        let table = b.table(Table::Range { len: len as usize });
        let offset = -first;
        let id = b.column(axes, Tables::One(Choice { table, offset }), cells);
        View::column(id, axes.len())
    };
    // the highest limb is as large as can be, so that its unit is small
    let mut below = (bits(hi - lo) - limb).max(0);
    while (hi >> below) - (lo >> below) >= 1 << limb {
        below += 1;
    }
    while done < below {
        let width = limb.min(below - done);
        let cells = narrow(&|v| v >> done & ((1 << width) - 1));
        view = view.plus(&column(b, 0, 1 << width, cells).scaled(1 << done));
        done += width;
    }
    let (first, last) = (lo >> done, hi >> done);
    let top = column(b, first, last - first + 1, narrow(&|v| v >> done));
    Ranged {
        view: view.plus(&top.scaled(1 << done)),
        ints: narrow(&|v| v),
        lo: first << done,
        hi: ((last + 1) << done) - 1,
    }
}

/// The low limb of cells in limbs.
pub(crate) fn low_of(b: &Builder, h: &View, most: i64) -> Low {
    let terms = h.terms.iter().filter(|t| centered(t.0) != 0);
    let view = View {
        terms: terms.map(|(c, r)| (centered(*c), r.clone())).collect(),
    };
    let limb = 1i64 << b.limits.limb;
    let most = if h.terms.len() == 1 {
        most
    } else {
        let of = |read: &Read| match read.operand {
            Operand::Column(id) => b.bounds_of(id),
            _ => None,
        };
        let peak = |read| of(read).map_or(limb, |(lo, hi)| lo.abs().max(hi.abs()));
        view.terms.iter().map(|(c, r)| c.abs() * peak(r)).sum()
    };
    Low { view, most }
}

/// Commits to quotients of magnitude up to `most`.
pub(crate) fn quotients(
    b: &mut Builder,
    axes: &[usize],
    most: i64,
    ints: Option<&[i64]>,
) -> Quotient {
    let h = symmetric(b, axes, most, ints);
    let low = low_of(b, &h.view, h.hi + 1);
    Quotient { h, low }
}

/// States that `h = rnd(sum, shift)` (or rounded down) by row; `low` is asked for where the sum may pass the field. `reach` bounds `2^shift·h` where cells' ranges depend on the row. Returns the view of what is left over, `0 … 2^shift − 1`.
pub(crate) fn shifted(
    b: &mut Builder,
    sum: Wide,
    by: &By,
    h: &Quotient,
    reach: Option<i64>,
    low: impl FnOnce(&mut Builder) -> Result<LowSum, PlanError>,
) -> Result<View, PlanError> {
    let Wide {
        axes,
        mut terms,
        ints,
        most,
    } = sum;
    let (least_k, most_k) = by.range();
    if least_k < 0 || most_k > 40 {
        return Err(b.unsupported("a row's shift lies outside 0 … 40"));
    }
    let peak = h.h.lo.abs().max(h.h.hi.abs()) + 1;
    let span = reach
        .or_else(|| peak.checked_mul(1 << most_k))
        .and_then(|v| v.checked_add(most + (1 << most_k)))
        .unwrap_or(i64::MAX);
    let of = by.of(&axes);
    let rest: Option<Vec<i64>> = ints.as_ref().map(|v| {
        let each = v.iter().enumerate();
        each.map(|(i, v)| (v + by.half(of(i))) & ((1 << of(i)) - 1))
            .collect()
    });
    let limb = i64::from(b.limits.limb);
    let mut rests = View::default();
    let mut first = None;
    let mut done = 0;
    while done < most_k {
        let width = |k: &i32| 1i64 << (i64::from(*k) - done).clamp(0, limb);
        let choices: Vec<Choice> = by
            .shifts
            .iter()
            .map(|k| Choice {
                table: b.table(Table::Range {
                    len: width(k) as usize,
                }),
                offset: 0,
            })
            .collect();
        let tables = match choices.first() {
            Some(one) if choices.iter().all(|c| c == one) => Tables::One(*one),
            _ => Tables::Axis {
                axis: by.label,
                choices: Arc::new(choices),
            },
        };
        let part = rest.as_ref().map(|v| {
            v.iter()
                .map(|v| (v >> done & ((1 << limb) - 1)) as i32)
                .collect()
        });
        let view = View::column(b.column(&axes, tables, part), axes.len());
        first.get_or_insert_with(|| view.clone());
        rests = rests.plus(&view.scaled(1 << done));
        done += limb;
    }
    let scale = by.scale(b, |k| -(1i64 << k));
    terms.push(Term::Linear {
        view: h.h.view.clone(),
        scale,
    });
    terms.push(Term::linear(rests.scaled(-1)));
    if by.round {
        let scale = by.scale(b, |k| by.half(k));
        terms.push(Term::Constant { value: 1, scale });
    }
    b.relation("rounding shift", &axes, terms);
    if b.fits(span).is_ok() {
        return Ok(rests);
    }
    if span >= MODULUS << BITS {
        return Err(PlanError::Range {
            node: b.node,
            op: b.op,
            bound: span,
            limit: (MODULUS << BITS) - 1,
        });
    }

    // modulo 2^BITS: what is a multiple of it is left out
    let LowSum {
        mut terms,
        ints,
        most,
    } = low(b)?;
    let first = first.unwrap_or_default();
    let factor = |k: i64| if k < BITS { 1i64 << k } else { 0 };
    let half = |k: i64| by.half(k) & ((1 << BITS) - 1);
    let keeps = least_k < BITS;
    let bound = most
        + (1 << most_k.min(limb))
        + (1 << BITS)
        + if keeps { h.low.most << (BITS - 1) } else { 0 };
    let carry = ints.map(|v| {
        let q = keeps.then(|| b.evaluate(&h.low.view, &axes)).flatten();
        let r = b.evaluate(&first, &axes).unwrap_or_default();
        let each = v.iter().enumerate();
        each.map(|(i, v)| {
            let k = of(i);
            let q = q.as_ref().map_or(0, |q| q[i] * factor(k));
            (v + half(k) - r.get(i).copied().unwrap_or(0) - q) >> BITS
        })
        .collect::<Vec<i64>>()
    });
    let carry = carries(b, &axes, (bound >> BITS) + 1, carry);
    b.fits(bound + ((carry.hi + 1) << BITS))?;
    if keeps {
        let scale = by.scale(b, |k| -factor(k));
        terms.push(Term::Linear {
            view: h.low.view.clone(),
            scale,
        });
    }
    if by.round && by.shifts.iter().any(|k| half((*k).into()) != 0) {
        let scale = by.scale(b, half);
        terms.push(Term::Constant { value: 1, scale });
    }
    terms.push(Term::linear(first.scaled(-1)));
    terms.push(Term::linear(carry.view.scaled(-(1 << BITS))));
    b.relation("rounding shift, low limbs", &axes, terms);
    Ok(rests)
}

/// Cells for carries of magnitude up to `most`; of calm nodes one cell, for all but those that are far larger than a random row's.
fn carries(b: &mut Builder, axes: &[usize], most: i64, ints: Option<Vec<i64>>) -> Ranged {
    let short = 1i64 << (b.limits.limb + 2);
    if !b.limits.calm || 1i64 << bits(most) <= 1i64 << (b.limits.limb - 1) {
        return symmetric(b, axes, most, ints.as_deref());
    }
    let half = short.min(1 << bits(most));
    let inside = |c: &i64| (-half..half).contains(c);
    b.stays_calm(ints.as_ref().is_none_or(|v| v.iter().all(inside)));
    let cells = ints.map(|v| v.into_iter().map(|c| c.clamp(-half, half - 1) as i32));
    let cells: Option<Vec<i32>> = cells.map(Iterator::collect);
    let table = b.table(Table::Range {
        len: 2 * half as usize,
    });
    let tables = Tables::One(Choice {
        table,
        offset: half,
    });
    let id = b.column(axes, tables, cells.clone());
    Ranged {
        view: View::column(id, axes.len()),
        ints: cells,
        lo: -half,
        hi: half - 1,
    }
}

/// The quotients that a calm node can have: inside its clamp, perhaps not all of it; none where nothing simple lies inside.
fn calm_range(limb: u8, (least, most): (i64, i64), (lo, hi): (i64, i64)) -> Option<(i64, i64)> {
    let (first, last) = (least.max(lo), most.min(hi));
    if first > last {
        return None;
    }
    if last - first < 1 << limb {
        return Some((first, last));
    }
    // the largest power of two on both sides of 0
    let most = (last + 1).min(-first);
    (most > 0).then(|| {
        let half = 1i64 << (bits(most) - 1);
        (-half, half - 1)
    })
}

/// A quotient in the calm range of a node, which does not clamp it.
fn unclamped(
    b: &mut Builder,
    axes: &[usize],
    (least, most): (i64, i64),
    (lo, hi): (i64, i64),
    (first, last): (i64, i64),
    ints: Option<&[i64]>,
) -> (Quotient, Ranged) {
    let inside = |v: &i64| (first..=last).contains(v);
    b.stays_calm(ints.is_none_or(|v| v.iter().all(inside)));
    let cells: Option<Vec<i64>> =
        ints.map(|v| v.iter().map(|v| *v.min(&last).max(&first)).collect());
    let h = b.exact(axes, first, last, cells.as_deref());
    let low = low_of(b, &h.view, first.abs().max(last.abs()));
    let y = Ranged {
        view: h.view.clone(),
        ints: ints.map(|v| v.iter().map(|v| *v.min(&hi).max(&lo) as i32).collect()),
        lo: least.clamp(lo, hi),
        hi: most.clamp(lo, hi),
    };
    (Quotient { h, low }, y)
}

/// A quotient in `[least, most]` and its clamp to `[lo, hi]`, both committed here. The caller states what the quotient is.
///
/// Where one table holds all quotients it maps them. Else `h = y + e` with `e·(y − t) = 0`, t the end of the range on e's side: e's highest limb has it as its value.
pub(crate) fn clamped(
    b: &mut Builder,
    axes: &[usize],
    (least, most): (i64, i64),
    (lo, hi): (i64, i64),
    ints: Option<&[i64]>,
) -> Result<(Quotient, Ranged), PlanError> {
    let rank = axes.len();
    let narrow =
        |v: &[i64], f: &dyn Fn(i64) -> i64| v.iter().map(|v| f(*v) as i32).collect::<Vec<i32>>();
    if least >= lo && most <= hi {
        let peak = least.abs().max(most.abs());
        let q = quotients(b, axes, peak, ints);
        let y = Ranged {
            lo: least,
            hi: most,
            ..q.h.clone()
        };
        return Ok((q, y));
    }
    if b.limits.calm
        && let Some(range) = calm_range(b.limits.limb, (least, most), (lo, hi))
    {
        return Ok(unclamped(b, axes, (least, most), (lo, hi), range, ints));
    }
    let half = 1i64 << bits(least.abs().max(most.abs()));
    if 2 * half <= MAX_CLAMP.min(b.limits.function.max(1 << 13) as i64) {
        let values = (-half..half).map(|v| v.clamp(lo, hi) as i32).collect();
        let table = b.table(Table::Function {
            values: Arc::new(values),
        });
        let keys = ints.map(|v| narrow(v, &|v| v));
        let images = ints.map(|v| narrow(v, &|v| v.clamp(lo, hi)));
        let tables = Tables::One(Choice {
            table,
            offset: half,
        });
        let (key, value) = b.pair(axes, tables, keys.clone(), images.clone());
        let h = Ranged {
            view: View::column(key, rank),
            ints: keys,
            lo: -half,
            hi: half - 1,
        };
        let low = low_of(b, &h.view, half);
        let y = Ranged {
            view: View::column(value, rank),
            ints: images,
            lo: least.clamp(lo, hi),
            hi: most.clamp(lo, hi),
        };
        return Ok((Quotient { h, low }, y));
    }
    let clamped = ints.map(|v| v.iter().map(|v| *v.min(&hi).max(&lo)).collect::<Vec<i64>>());
    let y = b.exact(axes, lo, hi, clamped.as_deref());
    let excess: Option<Vec<i64>> = ints.map(|v| v.iter().map(|v| v - v.clamp(&lo, &hi)).collect());
    let half = 1i64 << bits((most - hi).max(lo - least).max(1));
    // powers of two share tables; where they would pass the field the range is that of honest runs
    let most_of = MODULUS - 1;
    let whole = hi + half - least <= most_of && most - (lo - half) <= most_of;
    let half_of = |excess: i64| if whole { half } else { excess };
    let (mut least_e, mut most_e) = (
        if least < lo { -half_of(lo - least) } else { 0 },
        if most > hi { half_of(most - hi + 1) } else { 1 },
    );
    let limb = i64::from(b.limits.limb);
    let (mut e, mut done) = (View::default(), 0);
    while most_e - least_e > 1 << limb {
        let part = excess
            .as_ref()
            .map(|v| narrow(v, &|v| v >> done & ((1 << limb) - 1)));
        let table = b.table(Table::Range { len: 1 << limb });
        let tables = Tables::One(Choice { table, offset: 0 });
        e = e.plus(&View::column(b.column(axes, tables, part), rank).scaled(1 << done));
        done += limb;
        least_e >>= limb;
        most_e = ((most_e - 1) >> limb) + 1;
    }
    let ends = (least_e..most_e).map(|v| if v < 0 { lo } else { hi } as i32);
    let table = b.table(Table::Function {
        values: Arc::new(ends.collect()),
    });
    let tables = Tables::One(Choice {
        table,
        offset: -least_e,
    });
    let keys = excess.as_ref().map(|v| narrow(v, &|v| v >> done));
    let images = excess
        .as_ref()
        .map(|v| narrow(v, &|v| if v < 0 { lo } else { hi }));
    let far = (lo + (least_e << done), hi + (most_e << done) - 1);
    let (key, end) = b.pair(axes, tables, keys, images);
    e = e.plus(&View::column(key, rank).scaled(1 << done));
    let terms = vec![Term::Product {
        coefficient: 1,
        sums: vec![],
        a: e.clone(),
        b: y.view.minus(&View::column(end, rank)),
    }];
    b.relation("outside the range only at its end", axes, terms);
    let view = y.view.plus(&e);
    let low = low_of(b, &view, 0);
    let h = Ranged {
        view,
        ints: ints.map(|v| narrow(v, &|v| v)),
        lo: far.0,
        hi: far.1,
    };
    Ok((Quotient { h, low }, y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_quotients_lie_inside_the_clamp() {
        let ends = [
            -(1 << 30),
            -70_000,
            -4096,
            -257,
            -256,
            -1,
            0,
            1,
            255,
            256,
            4097,
            70_000,
            1 << 30,
        ];
        let mut found = 0;
        for limb in [8, 12, 16] {
            for (least, most) in ends.iter().flat_map(|a| ends.map(|z| (*a, z))) {
                for (lo, hi) in ends.iter().flat_map(|a| ends.map(|z| (*a, z))) {
                    if least > most || lo > hi {
                        continue;
                    }
                    if let Some((first, last)) = calm_range(limb, (least, most), (lo, hi)) {
                        assert!(first <= last && first >= lo.max(least) && last <= hi.min(most));
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 1000);
        assert_eq!(calm_range(8, (-70_000, 70_000), (0, 1 << 20)), None);
    }
}
