//! Requantisation: `sat(rnd(v, k))` of sums that are no columns, in the way that takes the fewest cells.

use std::{cmp::Ordering, sync::Arc};

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{Term, View},
    gadgets::{Ranged, Shifts, Sum, map, narrow},
};
use crate::error::PlanError;

/// `⌊(v + half) / 2^k⌋`, `v` for `k = 0`.
fn rounded(v: i64, k: i64) -> i64 {
    if k == 0 { v } else { (v + (1 << (k - 1))) >> k }
}

const fn half(k: i64) -> i64 {
    if k == 0 { 0 } else { 1 << (k - 1) }
}

/// How far `v + half` and `2^k·h + r` can be apart for v in `[least, most]`, h in `[lo, hi]` and a rest r.
fn reach((least, most): (i64, i64), k: i64, lo: i64, hi: i64) -> i64 {
    let [least, most, lo, hi, half] = [least, most, lo, hi, half(k)].map(i128::from);
    let above = (hi << k) + (1 << k) - 1 - half - least;
    let below = most + half - (lo << k);
    i64::try_from(above.max(below)).unwrap_or(i64::MAX)
}

impl Builder {
    /// `sat(rnd(sum, shift))`, shifts of at least 0, then perhaps a function, given by its values from `lo` on (docs/proof.md, "Requantisation").
    pub(crate) fn requant(
        &mut self,
        sum: Sum,
        shifts: &Shifts,
        ends: (i64, i64),
        function: Option<&[i32]>,
    ) -> Result<Ranged, PlanError> {
        let within = (sum.lo, sum.hi);
        self.requant_rows(sum, shifts, &|_| within, ends, function)
    }

    /// [`Self::requant`], where rows of shift k have sums in `within(k)`.
    pub(crate) fn requant_rows(
        &mut self,
        sum: Sum,
        shifts: &Shifts,
        within: &dyn Fn(i64) -> (i64, i64),
        (lo, hi): (i64, i64),
        function: Option<&[i32]>,
    ) -> Result<Ranged, PlanError> {
        let Sum {
            axes,
            mut terms,
            ints,
            ..
        } = sum;
        let ks = shifts.distinct();
        if ks.first().is_some_and(|k| *k < 0) {
            return Err(self.unsupported("left shifts by row"));
        }
        // far more than fits the field with any shift; a key may claim it
        for (least, most) in ks.iter().map(|k| within(*k)) {
            if least > most {
                return Err(PlanError::Key(format!("a sum from {least} to {most}")));
            }
            let reach = most.max(least.saturating_neg());
            if reach > 1 << 46 {
                self.fits(reach)?;
            }
        }
        let each = shifts.each(&axes);
        let quotient = map(ints.as_deref(), |i, x| rounded(x, each(i)));
        let quotient = self.claimed("quotient", quotient);
        let both = ints.as_ref().zip(quotient.as_ref());
        let rest: Option<Vec<i64>> = both.map(|(x, h)| {
            let rests = x.iter().zip(h).enumerate();
            rests
                .map(|(i, (x, h))| x + half(each(i)) - (h << each(i)))
                .collect()
        });
        let bounds = |k: i64| (rounded(within(k).0, k), rounded(within(k).1, k));
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
            self.fits(reach(within(*k), *k, a.min(lo), z.max(hi)))
                .is_ok()
        });
        // a calm node stays inside the range; ranges that cut values off on purpose are not meant
        let calm = self.limits.calm
            && saturates
            && function.is_none()
            && lo.max(-hi) <= -1024
            && ks
                .iter()
                .all(|k| self.fits(reach(within(*k), *k, lo, hi)).is_ok());
        let as_table =
            (saturates || function.is_some()) && self.worth_a_table(domain, &axes, slack);
        let excess = match (shifts, saturates && !calm && !as_table) {
            (Shifts::All(k), true) => {
                self.excess(&axes, within(*k), *k, (lo, hi), ints.as_deref())?
            }
            _ => None,
        };

        let exceeds = excess.is_some();
        let (quotient_view, result) = if calm {
            let inside = |h: &i64| (lo..=hi).contains(h);
            let stays = quotient.as_ref().is_none_or(|v| v.iter().all(inside));
            self.stays_calm(stays);
            let cells = map(quotient.as_deref(), |_, h| h.clamp(lo, hi));
            let y = self.exact(&axes, lo, hi, cells.as_deref());
            (y.view.clone(), y)
        } else if let Some((y, excess)) = excess {
            terms.push(Term::linear(excess.scaled(-1)));
            (
                y.view.clone(),
                self.applied(&axes, y, (lo, (a, z)), function)?,
            )
        } else if as_table {
            // one table for each shift: its domain is what that shift can leave, so that 2^k·h can't wrap
            let mut domains = Vec::with_capacity(ks.len());
            for k in &ks {
                domains.push((*k, self.domain(within(*k), *k, function.is_none())?));
            }
            let tables = shifts.tables(|k| {
                let found = domains.iter().find(|d| d.0 == k);
                let (a, z) = found.map_or((0, 0), |d| d.1);
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
                self.clamped(&axes, shifts, within, (lo, hi), quotient.as_deref())?
            } else {
                let span = |k: i64, a: i64, z: i64| reach(within(k), k, a, z);
                let view = self.by_shift(&axes, shifts, bounds, span, quotient.as_deref())?;
                let y = Ranged {
                    view,
                    ints: narrow(quotient),
                    lo: a,
                    hi: z,
                };
                (y.view.clone(), y)
            };
            (view, self.applied(&axes, clamped, (lo, (a, z)), function)?)
        };
        let (factor, scale) = shifts.scale(self, |k| -(1i64 << k));
        terms.push(Term::Linear {
            view: quotient_view.scaled(factor),
            scale,
        });
        if !exceeds {
            let rest = self.remainders(&axes, shifts, rest.as_deref());
            terms.push(Term::linear(rest.scaled(-1)));
        }
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

    /// Quotients by 2^k that a table of a function of them holds; of a `shared` function up to powers of two, so that few tables serve many columns.
    ///
    /// # Errors
    /// [`PlanError::Range`] where such a quotient can wrap.
    fn domain(&self, within: (i64, i64), k: i64, shared: bool) -> Result<(i64, i64), PlanError> {
        let (a, z) = (rounded(within.0, k), rounded(within.1, k));
        let len = ((z + 1).max(-a).max(1) as u64).next_power_of_two() as i64;
        let wide = (if a < 0 { -len } else { 0 }, len - 1);
        if shared && len <= 1 << 13 && self.fits(reach(within, k, wide.0, wide.1)).is_ok() {
            return Ok(wide);
        }
        self.fits(reach(within, k, a, z))?;
        Ok((a, z))
    }

    /// A function, given by its values from `first` on, of a value in `[a, z]`; the value itself without one.
    fn applied(
        &mut self,
        axes: &[usize],
        y: Ranged,
        (first, (lo, hi)): (i64, (i64, i64)),
        function: Option<&[i32]>,
    ) -> Result<Ranged, PlanError> {
        let y = Ranged { lo, hi, ..y };
        match function {
            None => Ok(y),
            Some(f) => self.function(axes, &y, first, f),
        }
    }

    /// `y = clamp(h)` and `o = v + half − 2^k·y` of the quotient h of v, without a cell for h: where o is in `[0, 2^k)`, y is h; above, y is the upper end; below, the lower.
    ///
    /// `o = 2^j·A + B` with `j ≤ k`, and the table of A says `s`: 0, 1 or −1. `s·(2y − (hi − lo)·s) − (hi + lo)·s = 0` is nothing for 0 and makes `2y = (hi + lo) ± (hi − lo)` else. None where a table
    /// would be too large, or the numbers.
    #[allow(clippy::type_complexity, reason = "a value and a view")]
    fn excess(
        &mut self,
        axes: &[usize],
        (least, most): (i64, i64),
        k: i64,
        (lo, hi): (i64, i64),
        ints: Option<&[i64]>,
    ) -> Result<Option<(Ranged, View)>, PlanError> {
        if self.fits(hi.abs().max(lo.abs()) << k >> 2).is_err() {
            return Ok(None);
        }
        let bottom = (least + half(k) - (lo << k)).min(0);
        let top = (most + half(k) - (hi << k)).max((1 << k) - 1);
        let elements = axes.iter().product::<usize>() as i64;
        let table_of = |j: i64| {
            let len = ((top >> j) + 1).max(-(bottom >> j)) as u64;
            let len = len.next_power_of_two() as i64;
            if bottom < 0 {
                (-len, 2 * len)
            } else {
                (0, len)
            }
        };
        let limb = i64::from(self.limits.limb);
        let fits = |j: i64| {
            let (first, len) = table_of(j);
            let above = (hi << k) + ((first + len) << j) - 1 - least - half(k);
            let below = most + half(k) - (lo << k) - (first << j);
            let rows = len <= (2 * elements).max(256) && len <= self.limits.function as i64;
            rows && self.fits(above.max(below)).is_ok()
        };
        let fit = (0..=k.min(limb)).find(|j| fits(*j));
        let Some(j) = fit.filter(|_| self.fits(4 * (hi - lo)).is_ok()) else {
            return Ok(None);
        };
        let y = self.claimed("clamped", map(ints, |_, v| rounded(v, k).clamp(lo, hi)));
        let over = map(ints, |i, v| {
            let y = y.as_ref().map_or(0, |y| y[i]);
            v + half(k) - (y << k)
        });
        let y = self.exact(axes, lo, hi, y.as_deref());
        let (first, len) = table_of(j);
        let side = |a: i64| match a {
            a if a < 0 => -1,
            a if a >> (k - j) > 0 => 1,
            _ => 0,
        };
        let table = self.table(Table::Function {
            values: Arc::new((first..first + len).map(side).collect()),
        });
        let tables = Tables::One(Choice {
            table,
            offset: -first,
        });
        let high = map(over.as_deref(), |_, o| o >> j);
        let sides = high
            .as_ref()
            .map(|v| v.iter().map(|a| side(*a)).collect::<Vec<i32>>());
        let (high, side) = self.pair(axes, tables, narrow(high), sides);
        let rank = axes.len();
        let low = map(over.as_deref(), |_, o| o & ((1 << j) - 1));
        let low = self.remainders(axes, &Shifts::All(j), low.as_deref());
        let side = View::column(side, rank);
        let terms = vec![
            Term::Product {
                coefficient: 1,
                sums: vec![],
                a: side.clone(),
                b: y.view.scaled(2).minus(&side.scaled(hi - lo)),
            },
            Term::linear(side.scaled(-(hi + lo))),
        ];
        self.relation("outside the range only at its ends", axes, terms);
        Ok(Some((
            y,
            View::column(high, rank).scaled(1 << j).plus(&low),
        )))
    }

    /// Whether a function of quotients should be a table: it costs its rows once, and a cell or two less for each element. `other` says whether the other way is open.
    fn worth_a_table(&self, domain: i64, axes: &[usize], other: bool) -> bool {
        let elements: usize = axes.iter().product();
        let cheap = domain <= 2 * (elements * self.alike) as i64 + 256;
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
            let fits = |first: i64, len: i64| {
                self.fits(span(k, first << done, ((first + len) << done) - 1))
            };
            // what a power of two adds lies on both sides, unless a side ends at 0
            let wide = (len as u64).next_power_of_two() as i64;
            let lower = if first < 0 {
                first - (wide - len) / 2
            } else {
                first
            };
            let (first, len) = if fits(lower, wide).is_ok() {
                (lower, wide)
            } else {
                (first, len)
            };
            if let Err(e) = fits(first, len) {
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

    /// Quotient h and its clamp y to `[lo, hi]`: `h = y + o`, and where o is not 0, y is the end on its side.
    ///
    /// `o = 2^s·A + B`, and the table of A says which end: the upper for A of at least 0, else the lower. `o·(end − y) = 0`.
    fn clamped(
        &mut self,
        axes: &[usize],
        shifts: &Shifts,
        within: &dyn Fn(i64) -> (i64, i64),
        (lo, hi): (i64, i64),
        quotient: Option<&[i64]>,
    ) -> Result<(View, Ranged), PlanError> {
        let elements = axes.iter().product::<usize>() as i64;
        // first key and number of keys of a row's table: a power of two, so that few tables serve many columns, or as few as can be
        let keys = |k: i64, s: i64, snug: bool| {
            let (least, most) = within(k);
            let a = (rounded(least, k) - lo).min(0) >> s;
            let z = (rounded(most, k) - hi).max(0) >> s;
            let len = ((z + 1).max(-a) as u64).next_power_of_two() as i64;
            match (snug, a < 0) {
                (true, _) => (a, z - a + 1),
                (false, true) => (-len, 2 * len),
                (false, false) => (0, len),
            }
        };
        let fits = |s: i64, snug: bool| {
            shifts.distinct().into_iter().try_for_each(|k| {
                let (first, len) = keys(k, s, snug);
                let ends = (lo + (first << s), hi + ((first + len) << s) - 1);
                self.fits(reach(within(k), k, ends.0, ends.1))
            })
        };
        let small = |s: i64| {
            let longest = shifts
                .distinct()
                .into_iter()
                .map(|k| keys(k, s, false).1)
                .max();
            longest.unwrap_or(0) <= (2 * elements).max(256)
        };
        let s = (0..=i64::from(self.limits.limb)).find(|s| small(*s));
        let s = s.unwrap_or(i64::from(self.limits.limb));
        // the larger table where numbers get too large otherwise
        let ways = [(s, false), (s, true), (0, true)];
        let (s, snug) = ways
            .into_iter()
            .find(|(s, snug)| fits(*s, *snug).is_ok())
            .unwrap_or((0, true));
        fits(s, snug)?;
        let y = self.claimed("clamped", map(quotient, |_, h| h.clamp(lo, hi)));
        let over = quotient.zip(y.as_ref());
        let over: Option<Vec<i64>> =
            over.map(|(h, y)| h.iter().zip(y).map(|(h, y)| h - y).collect());
        let y = self.exact(axes, lo, hi, y.as_deref());
        let high = map(over.as_deref(), |_, o| o >> s);
        let low = map(over.as_deref(), |_, o| o & ((1 << s) - 1));
        let end = |a: i64| if a < 0 { lo as i32 } else { hi as i32 };
        let tables = shifts.tables(|k| {
            let (first, len) = keys(k, s, snug);
            Choice {
                table: self.table(Table::Function {
                    values: Arc::new((first..first + len).map(end).collect()),
                }),
                offset: -first,
            }
        });
        let ends = high.as_ref().map(|v| v.iter().map(|a| end(*a)).collect());
        let (high, end) = self.pair(axes, tables, narrow(high), ends);
        let low = self.remainders(axes, &Shifts::All(s), low.as_deref());
        let rank = axes.len();
        let over = View::column(high, rank).scaled(1 << s).plus(&low);
        let terms = vec![Term::Product {
            coefficient: 1,
            sums: vec![],
            a: over.clone(),
            b: View::column(end, rank).minus(&y.view),
        }];
        self.relation("beyond the range only at its ends", axes, terms);
        Ok((y.view.plus(&over), y))
    }
}
