//! Gadgets: ranges, remainders and requantisation, of which operators are made. Each returns a view without constants; cells hold the signed integers themselves.

use std::{cmp::Ordering, sync::Arc};

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{Label, Term, View},
};
use crate::error::PlanError;

/// Right shifts of an accumulator: one, or one for each index of a label.
#[derive(Clone, Debug)]
pub(crate) enum Shifts {
    All(i64),
    Rows { label: Label, shifts: Arc<Vec<i32>> },
}

/// A sum that is no column: what it is made of, its integers, and bounds that hold for every legal run.
pub(crate) struct Sum {
    /// Lengths of the labels.
    pub(crate) axes: Vec<usize>,
    pub(crate) terms: Vec<Term>,
    pub(crate) ints: Option<Vec<i64>>,
    pub(crate) lo: i64,
    pub(crate) hi: i64,
}

/// A view over the labels of a sum, with its integers and bounds.
#[derive(Clone, Debug)]
pub(crate) struct Ranged {
    pub(crate) view: View,
    pub(crate) ints: Option<Vec<i32>>,
    pub(crate) lo: i64,
    pub(crate) hi: i64,
}

/// `⌊(v + half) / 2^k⌋`, `v` for `k = 0`.
fn rounded(v: i64, k: i64) -> i64 {
    if k == 0 { v } else { (v + (1 << (k - 1))) >> k }
}

const fn half(k: i64) -> i64 {
    if k == 0 { 0 } else { 1 << (k - 1) }
}

/// How far `v + half` and `2^k·h + r` can be apart for v in `[least, most]`, h in `[lo, hi]` and a rest r.
fn reach((least, most): (i64, i64), k: i64, lo: i64, hi: i64) -> i64 {
    let above = (hi << k) + (1 << k) - 1 - half(k) - least;
    above.max(most + half(k) - (lo << k))
}

impl Shifts {
    fn distinct(&self) -> Vec<i64> {
        match self {
            Self::All(k) => vec![*k],
            Self::Rows { shifts, .. } => {
                let mut all: Vec<i64> = shifts.iter().map(|k| i64::from(*k)).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        }
    }

    /// A choice of tables that depends on the shift.
    fn tables(&self, mut of: impl FnMut(i64) -> Choice) -> Tables {
        match self {
            Self::All(k) => Tables::One(of(*k)),
            Self::Rows { label, shifts } => {
                let choices: Vec<Choice> = shifts.iter().map(|k| of(i64::from(*k))).collect();
                match choices.first() {
                    Some(first) if choices.iter().all(|t| t == first) => Tables::One(*first),
                    _ => Tables::Axis {
                        axis: *label,
                        choices: Arc::new(choices),
                    },
                }
            }
        }
    }

    /// The shift of each element of a row-major tensor.
    fn each<'a>(&'a self, axes: &[usize]) -> impl Fn(usize) -> i64 + 'a {
        let (inner, n) = match self {
            Self::All(_) => (1, 1),
            Self::Rows { label, .. } => (axes[label + 1..].iter().product::<usize>(), axes[*label]),
        };
        move |i| match self {
            Self::All(k) => *k,
            Self::Rows { shifts, .. } => i64::from(shifts[i / inner % n]),
        }
    }

    /// `f(shift)` as a public factor of the label, times a term without one.
    fn scale(&self, b: &mut Builder, f: impl Fn(i64) -> i64) -> (i64, Option<(Label, usize)>) {
        match self {
            Self::All(k) => (f(*k), None),
            Self::Rows { label, shifts } => {
                let factors: Vec<i64> = shifts.iter().map(|k| f(i64::from(*k))).collect();
                (1, Some((*label, b.scale(factors))))
            }
        }
    }
}

pub(crate) fn map(ints: Option<&[i64]>, f: impl Fn(usize, i64) -> i64) -> Option<Vec<i64>> {
    ints.map(|v| v.iter().enumerate().map(|(i, x)| f(i, *x)).collect())
}

fn narrow(ints: Option<Vec<i64>>) -> Option<Vec<i32>> {
    ints.map(|v| v.into_iter().map(|x| x as i32).collect())
}

impl Builder {
    /// Keys `lo … lo + len − 1`.
    fn range(&mut self, lo: i64, len: i64) -> Choice {
        Choice {
            table: self.table(Table::Range { len: len as usize }),
            offset: -lo,
        }
    }

    /// Cells for integers of `[lo, hi]`: the returned bounds hold for whatever a prover commits to, and contain `[lo, hi]`. Ranges are powers of two, so that few tables serve many columns.
    pub(crate) fn around(
        &mut self,
        axes: &[usize],
        lo: i64,
        hi: i64,
        ints: Option<&[i64]>,
    ) -> Ranged {
        let one = 1i64 << self.limits.limb;
        let rank = axes.len();
        if hi - lo < one {
            let len = ((hi - lo + 1) as u64).next_power_of_two() as i64;
            let tables = Tables::One(self.range(lo, len));
            let ints = narrow(ints.map(<[i64]>::to_vec));
            let id = self.column(axes, tables, ints.clone());
            return Ranged {
                view: View::column(id, rank),
                ints,
                lo,
                hi: lo + len - 1,
            };
        }
        let limb = i64::from(self.limits.limb);
        let low = map(ints, |_, v| v & (one - 1));
        let tables = Tables::One(self.range(0, one));
        let id = self.column(axes, tables, narrow(low));
        let high = map(ints, |_, v| v >> limb);
        let high = self.around(axes, lo >> limb, hi >> limb, high.as_deref());
        Ranged {
            view: View::column(id, rank).plus(&high.view.scaled(one)),
            ints: narrow(ints.map(<[i64]>::to_vec)),
            lo: high.lo << limb,
            hi: ((high.hi + 1) << limb) - 1,
        }
    }

    /// Cells for integers that are proven to lie in `[lo, hi]`.
    pub(crate) fn exact(
        &mut self,
        axes: &[usize],
        lo: i64,
        hi: i64,
        ints: Option<&[i64]>,
    ) -> Ranged {
        if hi - lo < 1 << self.limits.limb {
            let tables = Tables::One(self.range(lo, hi - lo + 1));
            let ints = narrow(ints.map(<[i64]>::to_vec));
            let id = self.column(axes, tables, ints.clone());
            return Ranged {
                view: View::column(id, axes.len()),
                ints,
                lo,
                hi,
            };
        }
        // two digits, where the number of values is a product
        let (count, most) = (hi - lo + 1, (1 << self.limits.limb) + 1);
        let root = (count as u64).isqrt() as i64;
        if let Some(f) = (root..=most).find(|f| count % f == 0 && count / f <= most) {
            let (first, start) = (lo.div_euclid(f), lo.rem_euclid(f));
            let digits = |v: i64| {
                (
                    (v - lo).div_euclid(f) + first,
                    (v - lo).rem_euclid(f) + start,
                )
            };
            let high = map(ints, |_, v| digits(v).0);
            let low = map(ints, |_, v| digits(v).1);
            let tables = Tables::One(self.range(first, count / f));
            let high = self.column(axes, tables, narrow(high));
            let tables = Tables::One(self.range(start, f));
            let low = self.column(axes, tables, narrow(low));
            let rank = axes.len();
            return Ranged {
                view: View::column(high, rank)
                    .scaled(f)
                    .plus(&View::column(low, rank)),
                ints: narrow(ints.map(<[i64]>::to_vec)),
                lo,
                hi,
            };
        }
        let value = self.around(axes, lo, hi, ints);
        if value.lo < lo {
            let above = map(ints, |_, v| v - lo);
            let above = self.around(axes, 0, hi - lo, above.as_deref());
            let terms = vec![
                Term::linear(value.view.minus(&above.view)),
                Term::constant(-lo),
            ];
            self.relation("at least the lower bound", axes, terms);
        }
        if value.hi > hi {
            let below = map(ints, |_, v| hi - v);
            let below = self.around(axes, 0, hi - lo, below.as_deref());
            let terms = vec![
                Term::linear(value.view.plus(&below.view)),
                Term::constant(-hi),
            ];
            self.relation("at most the upper bound", axes, terms);
        }
        Ranged { lo, hi, ..value }
    }

    /// Cells for `0 … 2^k − 1`, k by row.
    pub(crate) fn remainders(
        &mut self,
        axes: &[usize],
        shifts: &Shifts,
        ints: Option<&[i64]>,
    ) -> View {
        let limb = i64::from(self.limits.limb);
        let most = shifts.distinct().last().copied().unwrap_or(0);
        let mut view = View::default();
        let mut done = 0;
        while done < most {
            let tables = shifts.tables(|k| self.range(0, 1 << (k - done).clamp(0, limb)));
            let part = map(ints, |_, v| v >> done & ((1 << limb) - 1));
            let id = self.column(axes, tables, narrow(part));
            view = view.plus(&View::column(id, axes.len()).scaled(1 << done));
            done += limb;
        }
        view
    }

    /// `sat(rnd(sum, shift))`, shifts of at least 0, then perhaps a function, given by its values from `lo` on (docs/proof.md, "Requantisation").
    pub(crate) fn requant(
        &mut self,
        sum: Sum,
        shifts: &Shifts,
        (lo, hi): (i64, i64),
        function: Option<&[i32]>,
    ) -> Result<Ranged, PlanError> {
        let Sum {
            axes,
            mut terms,
            ints,
            lo: least,
            hi: most,
        } = sum;
        let ks = shifts.distinct();
        if ks.first().is_some_and(|k| *k < 0) {
            return Err(self.unsupported("left shifts by row"));
        }
        let each = shifts.each(&axes);
        let quotient = map(ints.as_deref(), |i, x| rounded(x, each(i)));
        let rest = map(ints.as_deref(), |i, x| {
            x + half(each(i)) - (rounded(x, each(i)) << each(i))
        });
        let bounds = |k: i64| (rounded(least, k), rounded(most, k));
        let saturates = ks.iter().any(|k| bounds(*k).0 < lo || bounds(*k).1 > hi);
        // the result is unique, so what follows from the sum's bounds holds for it; it does not depend on how the cells are cut, which facts must not see
        let ends = ks.iter().map(|k| bounds(*k));
        let (a, z) = ends.fold((i64::MAX, i64::MIN), |x, y| (x.0.min(y.0), x.1.max(y.1)));
        let (a, z) = (a.clamp(lo, hi), z.clamp(lo, hi));
        let value_of = |h: i64| {
            let y = h.clamp(lo, hi);
            function.map_or(y as i32, |f| f[(y - lo) as usize])
        };
        let domain: i64 = ks.iter().map(|k| bounds(*k).1 - bounds(*k).0 + 1).sum();
        let slack = ks.iter().all(|k| {
            let (a, z) = bounds(*k);
            let wide = |v: i64| 2 * v.max(0);
            let ends = (lo - wide(lo - a), hi + wide(z - hi));
            self.fits(reach((least, most), *k, ends.0, ends.1)).is_ok()
        });

        // a calm node stays inside the range; ranges that cut values off on purpose are not meant
        let calm = self.limits.calm
            && saturates
            && function.is_none()
            && lo.max(-hi) <= -1024
            && ks
                .iter()
                .all(|k| self.fits(reach((least, most), *k, lo, hi)).is_ok());
        let (quotient_view, result) = if calm {
            let inside = |h: &i64| (lo..=hi).contains(h);
            let stays = quotient.as_ref().is_none_or(|v| v.iter().all(inside));
            self.stays_calm(stays);
            let cells = map(quotient.as_deref(), |_, h| h.clamp(lo, hi));
            let y = self.exact(&axes, lo, hi, cells.as_deref());
            (y.view.clone(), y)
        } else if (saturates || function.is_some()) && self.worth_a_table(domain, &axes, slack) {
            // one table for each shift: its domain is what that shift can leave, so that 2^k·h can't wrap
            for k in &ks {
                let (a, z) = bounds(*k);
                self.fits(reach((least, most), *k, a, z))?;
            }
            let tables = shifts.tables(|k| {
                let (a, z) = bounds(k);
                let values = (a..=z).map(value_of).collect();
                Choice {
                    table: self.table(Table::Function {
                        values: Arc::new(values),
                    }),
                    offset: -a,
                }
            });
            let values = quotient
                .as_ref()
                .map(|v| v.iter().map(|h| value_of(*h)).collect::<Vec<i32>>());
            let (key, value) = self.pair(&axes, tables, narrow(quotient), values.clone());
            (
                View::column(key, axes.len()),
                Ranged {
                    view: View::column(value, axes.len()),
                    ints: values,
                    lo,
                    hi,
                },
            )
        } else {
            let (view, clamped) = if saturates {
                self.clamped(&axes, shifts, (least, most), (lo, hi), quotient.as_deref())?
            } else {
                let span = |k: i64, a: i64, z: i64| reach((least, most), k, a, z);
                let view = self.by_shift(&axes, shifts, bounds, span, quotient.as_deref())?;
                let y = Ranged {
                    view,
                    ints: narrow(quotient),
                    lo: a,
                    hi: z,
                };
                (y.view.clone(), y)
            };
            match function {
                None => (view, clamped),
                Some(f) => {
                    let clamped = Ranged {
                        lo: a,
                        hi: z,
                        ..clamped
                    };
                    (view, self.function(&axes, &clamped, lo, f)?)
                }
            }
        };
        let rest = self.remainders(&axes, shifts, rest.as_deref());
        let (factor, scale) = shifts.scale(self, |k| -(1i64 << k));
        terms.push(Term::Linear {
            view: quotient_view.scaled(factor),
            scale,
        });
        terms.push(Term::linear(rest.scaled(-1)));
        let (factor, scale) = shifts.scale(self, half);
        terms.push(Term::Constant {
            value: factor,
            scale,
        });
        self.relation("requantisation", &axes, terms);
        let (a, z) = match function {
            None => (a, z),
            Some(f) => {
                let part = f[(a - lo) as usize..=(z - lo) as usize].iter();
                let least = part.clone().min().copied().unwrap_or(0);
                (least.into(), part.max().copied().unwrap_or(0).into())
            }
        };
        Ok(Ranged {
            lo: a,
            hi: z,
            ..result
        })
    }

    /// Whether a function of quotients should be a table: it costs its rows once, and a cell or two less for each element. `other` says whether the other way is open.
    fn worth_a_table(&self, domain: i64, axes: &[usize], other: bool) -> bool {
        let elements: usize = axes.iter().product();
        let cheap = domain <= 2 * elements as i64 + 256;
        domain <= self.limits.function as i64 && (cheap || !other)
    }

    /// Cells for integers of `of(k)`, k by row; ranges are wider than that only where `span(k, lo, hi)` allows it. A row has as many digits as its k needs, the rest of its cells are 0.
    ///
    /// # Errors
    /// [`PlanError::Range`] where no range fits.
    fn by_shift(
        &mut self,
        axes: &[usize],
        shifts: &Shifts,
        of: impl Fn(i64) -> (i64, i64),
        span: impl Fn(i64, i64, i64) -> i64,
        ints: Option<&[i64]>,
    ) -> Result<View, PlanError> {
        let limb = i64::from(self.limits.limb);
        // shift of the highest digit, its least value and the number of its values
        let mut ends: Vec<(i64, [i64; 3])> = Vec::new();
        for k in shifts.distinct() {
            let (a, z) = of(k);
            let mut done = 0;
            while (z >> done) - (a >> done) >= 1 << limb {
                done += limb;
            }
            let (first, len) = (a >> done, (z >> done) - (a >> done) + 1);
            let fits = |len: i64| self.fits(span(k, first << done, ((first + len) << done) - 1));
            let wide = (len as u64).next_power_of_two() as i64;
            let len = if fits(wide).is_ok() { wide } else { len };
            if let Err(e) = fits(len) {
                let one = matches!(shifts, Shifts::All(_)) && self.fits(span(k, a, z)).is_ok();
                return if one {
                    Ok(self.exact(axes, a, z, ints).view)
                } else {
                    Err(e)
                };
            }
            ends.push((k, [done, first, len]));
        }
        let end = |k: i64| {
            let found = ends.iter().find(|e| e.0 == k);
            found.map_or([0, 0, 1], |e| e.1)
        };
        let last = ends.iter().map(|e| e.1[0]).max().unwrap_or(0);
        let each = shifts.each(axes);
        let mut view = View::default();
        for at in (0..=last).step_by(limb as usize) {
            let tables = shifts.tables(|k| {
                let [done, first, len] = end(k);
                match at.cmp(&done) {
                    Ordering::Less => self.range(0, 1 << limb),
                    Ordering::Equal => self.range(first, len),
                    Ordering::Greater => self.range(0, 1),
                }
            });
            let part = map(ints, |i, v| match at.cmp(&end(each(i))[0]) {
                Ordering::Less => v >> at & ((1 << limb) - 1),
                Ordering::Equal => v >> at,
                Ordering::Greater => 0,
            });
            let id = self.column(axes, tables, narrow(part));
            view = view.plus(&View::column(id, axes.len()).scaled(1 << at));
        }
        Ok(view)
    }

    /// Quotient and its clamp to `[lo, hi]`: `h = y + over − under`, and y is at a bound where one of them is not 0.
    fn clamped(
        &mut self,
        axes: &[usize],
        shifts: &Shifts,
        (least, most): (i64, i64),
        (lo, hi): (i64, i64),
        quotient: Option<&[i64]>,
    ) -> Result<(View, Ranged), PlanError> {
        let clamped = map(quotient, |_, h| h.clamp(lo, hi));
        let y = self.exact(axes, lo, hi, clamped.as_deref());
        let mut view = y.view.clone();
        let ks = shifts.distinct();
        if ks.iter().any(|k| rounded(most, *k) > hi) {
            let excess = map(quotient, |_, h| (h - hi).max(0));
            let of = |k: i64| (0, (rounded(most, k) - hi).max(0));
            let span = |k: i64, _: i64, z: i64| reach((least, most), k, lo, hi + z);
            let over = self.by_shift(axes, shifts, of, span, excess.as_deref())?;
            view = view.plus(&over);
            let terms = vec![
                Term::linear(over.scaled(hi)),
                Term::Product {
                    coefficient: -1,
                    sums: vec![],
                    a: over,
                    b: y.view.clone(),
                },
            ];
            self.relation("above the range only at its end", axes, terms);
        }
        if ks.iter().any(|k| rounded(least, *k) < lo) {
            let lack = map(quotient, |_, h| (lo - h).max(0));
            let of = |k: i64| (0, (lo - rounded(least, k)).max(0));
            let span = |k: i64, _: i64, z: i64| reach((least, most), k, lo - z, hi);
            let under = self.by_shift(axes, shifts, of, span, lack.as_deref())?;
            view = view.minus(&under);
            let terms = vec![
                Term::linear(under.scaled(-lo)),
                Term::Product {
                    coefficient: 1,
                    sums: vec![],
                    a: under,
                    b: y.view.clone(),
                },
            ];
            self.relation("below the range only at its end", axes, terms);
        }
        Ok((view, y))
    }

    /// A function of a value, given by its values from `first` on, as a table; the value's bounds must lie inside.
    pub(crate) fn function(
        &mut self,
        axes: &[usize],
        x: &Ranged,
        first: i64,
        values: &[i32],
    ) -> Result<Ranged, PlanError> {
        let inside = usize::try_from(x.lo - first)
            .ok()
            .zip(usize::try_from(x.hi - first).ok());
        let Some(part) = inside.and_then(|(a, z)| values.get(a..=z)) else {
            return Err(self.unsupported("a value leaves its table"));
        };
        let table = self.table(Table::Function {
            values: Arc::new(part.to_vec()),
        });
        let images = x.ints.as_ref().map(|v| {
            v.iter()
                .map(|x| values[(i64::from(*x) - first) as usize])
                .collect::<Vec<i32>>()
        });
        let tables = Tables::One(Choice {
            table,
            offset: -x.lo,
        });
        let (key, value) = self.pair(axes, tables, x.ints.clone(), images.clone());
        let terms = vec![Term::linear(View::column(key, axes.len()).minus(&x.view))];
        self.relation("argument of a table", axes, terms);
        let lo = part.iter().copied().min().unwrap_or(0).into();
        let hi = part.iter().copied().max().unwrap_or(0).into();
        Ok(Ranged {
            view: View::column(value, axes.len()),
            ints: images,
            lo,
            hi,
        })
    }
}
