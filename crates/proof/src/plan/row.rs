//! Gadgets of rows: sums, maxima, exponents and blocks with a common exponent, over the last labels of a view. What they commit for each row is cheap, what they commit for each element is not.

use std::sync::Arc;

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{Affine, Label, Term, View},
    gadgets::{Ranged, map},
    rounding_value,
    value::Value,
};
use crate::error::PlanError;

/// A view over outer labels, one value of which is a row, then inner ones.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) outer: Vec<usize>,
    pub(crate) inner: Vec<usize>,
    pub(crate) x: Ranged,
}

/// How far rows must be shifted right to fit some bits and a sign: views over the outer labels.
#[derive(Clone, Debug)]
pub(crate) struct Exponent {
    pub(crate) e: Ranged,
    /// `2^e`.
    pub(crate) power: Ranged,
    /// The largest e possible.
    pub(crate) most: u8,
}

/// `d = 257·high + low` of magnitude up to 32,767, by which both parts are unique.
#[derive(Clone, Debug)]
pub(crate) struct Digits {
    pub(crate) d: Ranged,
    pub(crate) high: View,
    pub(crate) low: View,
}

/// Base of [`Digits`]: 2·32767 + 1 = 255·257, so that two ranges make exactly the range of d.
const BASE: i64 = 257;

const fn length(v: i64) -> u8 {
    (u64::BITS - v.unsigned_abs().leading_zeros()) as u8
}

/// Bits of the largest magnitude in `[lo, hi]`.
pub(crate) fn peak_bits(lo: i64, hi: i64) -> u8 {
    length(lo).max(length(hi))
}

impl Rows {
    /// The rows along the last dimension of a value.
    pub(crate) fn of(x: &Value) -> Self {
        let inner = x.dims.last().cloned().unwrap_or_default();
        let mut outer = x.factors();
        outer.truncate(outer.len() - inner.len());
        Self {
            outer,
            inner,
            x: x.into(),
        }
    }

    pub(crate) fn axes(&self) -> Vec<usize> {
        [&self.outer[..], &self.inner[..]].concat()
    }

    /// Elements of a row.
    pub(crate) fn len(&self) -> usize {
        self.inner.iter().product()
    }

    /// `f` of each row.
    pub(crate) fn each<T>(&self, f: impl Fn(&[i32]) -> T) -> Option<Vec<T>> {
        let x = self.x.ints.as_ref()?;
        Some(x.chunks_exact(self.len()).map(f).collect())
    }

    /// `coefficient · Σ` of a view over all labels, as a term over the outer ones.
    pub(crate) fn sum(&self, b: &mut Builder, coefficient: i64, view: &View) -> Term {
        Term::Product {
            coefficient,
            sums: self.inner.clone(),
            a: view.clone(),
            b: b.one(),
        }
    }

    /// How to cut the inner labels in two, so that an element can be picked by row and by column: lengths of both parts and the view over outer labels, first and second part.
    fn cut(&self, cells: usize) -> Option<(Vec<usize>, Vec<usize>, View)> {
        let cost = |a: usize, b: usize| a + b * (1 + cells);
        if let [n] = self.inner[..] {
            let a = (2..n)
                .filter(|a| n.is_multiple_of(*a))
                .min_by_key(|a| cost(*a, n / a))?;
            let l = self.outer.len();
            let mut subs: Vec<Affine> = (0..l).map(Affine::label).collect();
            subs.push(Affine {
                offset: 0,
                terms: vec![(l, (n / a) as i64), (l + 1, 1)],
            });
            let view = self.x.view.substitute(&subs);
            return (cost(a, n / a) < n).then(|| (vec![a], vec![n / a], view));
        }
        let (a, b) = self.inner.split_at(self.inner.len().min(1));
        let short = cost(a.iter().product(), b.iter().product()) < self.len();
        short.then(|| (a.to_vec(), b.to_vec(), self.x.view.clone()))
    }
}

impl From<&Value> for Ranged {
    fn from(x: &Value) -> Self {
        Self {
            view: x.view.clone(),
            ints: x.ints.as_ref().map(|v| v.to_vec()),
            lo: x.lo,
            hi: x.hi,
        }
    }
}

/// One at `index`, else 0, of each row of n.
fn hot(n: usize, rows: impl Iterator<Item = (usize, i64)>) -> Vec<i64> {
    rows.flat_map(|(index, v)| (0..n).map(move |i| if i == index { v } else { 0 }))
        .collect()
}

impl Builder {
    /// The sum of each row.
    ///
    /// # Errors
    /// [`PlanError::Range`] for rows too long.
    pub(crate) fn row_sums(&mut self, rows: &Rows) -> Result<Ranged, PlanError> {
        let n = rows.len() as i64;
        let (lo, hi) = (n.saturating_mul(rows.x.lo), n.saturating_mul(rows.x.hi));
        self.fits(hi.saturating_sub(lo))?;
        let sums = rows.each(|x| x.iter().map(|v| i64::from(*v)).sum());
        let y = self.around(&rows.outer, lo, hi, sums.as_deref());
        self.fits(y.hi.max(hi) - y.lo.min(lo))?;
        let terms = vec![
            rows.sum(self, 1, &rows.x.view),
            Term::linear(y.view.scaled(-1)),
        ];
        self.relation("sum of a row", &rows.outer, terms);
        Ok(Ranged { lo, hi, ..y })
    }

    /// A term over the outer labels: an element of each row that the prover picks (`chosen`: its index and, if `signed`, its sign), or, if `signed`, minus one.
    ///
    /// A row of n = a·b elements `x_ij` is picked from by one-hot vectors u and v: `Σ_j v_j·t_j` with `t_j = Σ_i u_i·x_ij` committed. Cells of u are 0 or 1 and add up to 1, so exactly one is 1;
    /// those of v are −1, 0 or 1 with squares that add up to 1.
    pub(crate) fn pick(
        &mut self,
        rows: &Rows,
        signed: bool,
        chosen: Option<&[(usize, i64)]>,
    ) -> Result<Term, PlanError> {
        let cells = usize::from(length(rows.x.hi - rows.x.lo) > self.limits.limb) + 1;
        let Some((first, second, view)) = rows.cut(cells) else {
            let v = chosen.map(|c| hot(rows.len(), c.iter().copied()));
            let v = self.one_hot(&rows.outer, &rows.inner, signed, v);
            return Ok(Term::Product {
                coefficient: 1,
                sums: rows.inner.clone(),
                a: v,
                b: rows.x.view.clone(),
            });
        };
        let outer = rows.outer.len();
        let (p, q) = (first.len(), second.len());
        let (m, n) = (
            first.iter().product::<usize>(),
            second.iter().product::<usize>(),
        );
        let u = chosen.map(|c| hot(m, c.iter().map(|(i, _)| (i / n, 1))));
        let u = self.one_hot(&rows.outer, &first, false, u);
        let axes = [&rows.outer[..], &second[..]].concat();
        let picked = rows.x.ints.as_ref().zip(chosen).map(|(x, c)| {
            let lines = x.chunks_exact(m * n).zip(c);
            lines
                .flat_map(|(x, (i, _))| &x[i / n * n..][..n])
                .map(|v| i64::from(*v))
                .collect::<Vec<i64>>()
        });
        let t = self.around(&axes, rows.x.lo, rows.x.hi, picked.as_deref());
        self.fits(t.hi.max(rows.x.hi) - t.lo.min(rows.x.lo))?;
        // labels of u: outer, first; of the relation: outer, second, first
        let to_first: Vec<Label> = (0..outer).chain(outer + q..outer + q + p).collect();
        let to_both: Vec<Label> = (0..outer)
            .chain(outer + q..outer + q + p)
            .chain(outer..outer + q)
            .collect();
        let terms = vec![
            Term::Product {
                coefficient: 1,
                sums: first,
                a: u.rename(&to_first),
                b: view.rename(&to_both),
            },
            Term::linear(t.view.scaled(-1)),
        ];
        self.relation("elements picked by row", &axes, terms);
        let v = chosen.map(|c| hot(n, c.iter().map(|(i, s)| (i % n, *s))));
        let v = self.one_hot(&rows.outer, &second, signed, v);
        Ok(Term::Product {
            coefficient: 1,
            sums: second,
            a: v,
            b: t.view,
        })
    }

    /// Vectors of which one element is 1 (or, if `signed`, −1), the others 0.
    fn one_hot(
        &mut self,
        outer: &[usize],
        inner: &[usize],
        signed: bool,
        ints: Option<Vec<i64>>,
    ) -> View {
        let axes = [outer, inner].concat();
        let v = self
            .exact(&axes, -i64::from(signed), 1, ints.as_deref())
            .view;
        let sum = Term::Product {
            coefficient: 1,
            sums: inner.to_vec(),
            a: v.clone(),
            b: if signed { v.clone() } else { self.one() },
        };
        self.relation("one of a row", outer, vec![sum, Term::constant(-1)]);
        v
    }

    /// A value of each row that one of its elements has; and its differences to the row's elements, of which the caller must show that they are not negative: then it is the maximum.
    ///
    /// # Errors
    /// [`PlanError::Range`] for elements too far apart.
    pub(crate) fn row_peak(&mut self, rows: &Rows) -> Result<(Ranged, Ranged), PlanError> {
        let (lo, hi) = (rows.x.lo, rows.x.hi);
        let chosen = rows.each(|x| {
            let best = x
                .iter()
                .enumerate()
                .max_by_key(|(i, v)| (**v, usize::MAX - i));
            (best.map_or(0, |(i, _)| i), 1)
        });
        let peaks = rows.each(|x| x.iter().copied().max().map_or(0, i64::from));
        let max = self.around(&rows.outer, lo, hi, peaks.as_deref());
        self.fits(max.hi.max(hi) - max.lo.min(lo))?;
        let picked = self.pick(rows, false, chosen.as_deref())?;
        let terms = vec![picked, Term::linear(max.view.scaled(-1))];
        self.relation("the maximum is attained", &rows.outer, terms);
        let gaps = rows.x.ints.as_ref().zip(peaks).map(|(x, peaks)| {
            let lines = x.chunks_exact(rows.len()).zip(peaks);
            lines
                .flat_map(|(x, m)| x.iter().map(move |v| (m - i64::from(*v)) as i32))
                .collect()
        });
        let gap = Ranged {
            view: max.view.minus(&rows.x.view),
            ints: gaps,
            lo: 0,
            hi: hi - lo,
        };
        Ok((Ranged { lo, hi, ..max }, gap))
    }

    /// States that what lies in `[0, hi]` for honest runs is at least 0.
    pub(crate) fn not_negative(&mut self, axes: &[usize], x: &Ranged) -> Result<(), PlanError> {
        let ints = wide(x.ints.as_deref());
        let cells = self.around(axes, 0, x.hi, ints.as_deref());
        self.fits(cells.hi.saturating_add(x.hi))?;
        let terms = vec![Term::linear(x.view.minus(&cells.view))];
        self.relation("not negative", axes, terms);
        Ok(())
    }

    /// The maximum of each row.
    ///
    /// # Errors
    /// As [`Self::row_peak`].
    pub(crate) fn row_max(&mut self, rows: &Rows) -> Result<Ranged, PlanError> {
        let (max, gap) = self.row_peak(rows)?;
        self.not_negative(&rows.axes(), &gap)?;
        Ok(max)
    }

    /// An e for each row with `e = 0` or an element of magnitude at least `2^(bits − 1 + e)`. Where the caller shows that all magnitudes lie below `2^(bits + e)`, e is
    /// `max(0, bitlen(max|x|) − bits)`. None where that is always 0.
    ///
    /// # Errors
    /// [`PlanError::Range`] for elements too large.
    pub(crate) fn exponent(
        &mut self,
        rows: &Rows,
        bits: u8,
    ) -> Result<Option<Exponent>, PlanError> {
        let most = peak_bits(rows.x.lo, rows.x.hi).saturating_sub(bits);
        if most == 0 {
            return Ok(None);
        }
        let peak = rows.x.lo.abs().max(rows.x.hi.abs());
        self.fits(peak.saturating_mul(2))?;
        let of = |x: &[i32]| {
            let best = x.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
            length(best.into()).saturating_sub(bits)
        };
        let exponents = rows.each(of);
        let e = exponents
            .as_ref()
            .map(|v| v.iter().map(|e| i32::from(*e)).collect());
        let powers = exponents
            .as_ref()
            .map(|v| v.iter().map(|e| 1 << e).collect::<Vec<i32>>());
        let table = self.table(Table::Function {
            values: Arc::new((0..=most).map(|e| 1 << e).collect()),
        });
        let tables = Tables::One(Choice { table, offset: 0 });
        let (key, value) = self.pair(&rows.outer, tables, e.clone(), powers.clone());
        let rank = rows.outer.len();
        let e = Ranged {
            view: View::column(key, rank),
            ints: e,
            lo: 0,
            hi: most.into(),
        };
        let floors: Vec<i32> = (0..=most)
            .map(|e| if e == 0 { 0 } else { 1 << (bits - 1 + e) })
            .collect();
        let floor = self.function(&rows.outer, &e, 0, &floors)?;
        let chosen = rows.each(|x| {
            let best = x.iter().enumerate().max_by_key(|(_, v)| v.unsigned_abs());
            best.map_or((0, 1), |(i, v)| (i, if *v < 0 { -1 } else { 1 }))
        });
        let above = rows.each(|x| {
            let best = x
                .iter()
                .map(|v| i64::from(v.unsigned_abs()))
                .max()
                .unwrap_or(0);
            best - i64::from(floors[usize::from(of(x))])
        });
        let reach = peak.min((1 << bits).max(1i64 << (bits - 1 + most)) - 1);
        let above = self.around(&rows.outer, 0, reach, above.as_deref());
        self.fits(peak + floor.hi + above.hi)?;
        let picked = self.pick(rows, true, chosen.as_deref())?;
        let terms = vec![
            picked,
            Term::linear(floor.view.scaled(-1).minus(&above.view)),
        ];
        self.relation("an element needs the exponent", &rows.outer, terms);
        Ok(Some(Exponent {
            e,
            power: Ranged {
                view: View::column(value, rank),
                ints: powers,
                lo: 1,
                hi: 1 << most,
            },
            most,
        }))
    }

    /// Rests `|r| < 2^e`: their view, what each adds to a rounded quotient, and the view of `4e + o`, whose e the caller must show to be the row's.
    fn rests(
        &mut self,
        axes: &[usize],
        exponent: &Exponent,
        r: Option<Vec<i64>>,
    ) -> (View, Option<Vec<i64>>, View) {
        let table = self.table(Table::Rounding {
            bits: exponent.most,
        });
        let values = r.as_ref().zip(exponent.e.ints.as_ref()).map(|(r, e)| {
            let n = r.len() / e.len();
            let each = r.iter().enumerate();
            each.map(|(i, r)| rounding_value(*r, e[i / n] as u8))
                .collect::<Vec<i64>>()
        });
        let adds = map(values.as_deref(), |_, v| ((v + 1) & 3) - 1);
        let narrow = |v: Option<Vec<i64>>| v.map(|v| v.into_iter().map(|x| x as i32).collect());
        let tables = Tables::One(Choice { table, offset: 0 });
        let (key, value) = self.pair(axes, tables, narrow(r), narrow(values));
        (
            View::column(key, axes.len()),
            adds,
            View::column(value, axes.len()),
        )
    }

    /// `x = 2^e·q + r`, `|q| ≤ most`.
    fn scaled_relation(
        &mut self,
        rows: &Rows,
        exponent: &Exponent,
        q: &View,
        r: &View,
        most: i64,
    ) -> Result<(), PlanError> {
        let peak = rows.x.lo.abs().max(rows.x.hi.abs());
        self.fits(peak + (most << exponent.most) + (1 << exponent.most))?;
        let terms = vec![
            Term::linear(rows.x.view.minus(r)),
            Term::Product {
                coefficient: -1,
                sums: vec![],
                a: exponent.power.view.clone(),
                b: q.clone(),
            },
        ];
        self.relation("quotient by a power of two", &rows.axes(), terms);
        Ok(())
    }

    /// `sat(rnd(x, e))` to ±32,767 by the row's exponent for 15 bits, and that all magnitudes lie below `2^(15 + e)`.
    ///
    /// `x = 2^e·d + r` with `|d| ≤ 32767`, `|r| < 2^e`: the integers of this form are those below `2^(15 + e)`. `o = ⌊(r + 2^(e−1)) / 2^e⌋` is what rounding adds to d; where it is not 0,
    /// `o·(32767·o − d) = 0` makes d the end of the range, so that d is the clamped quotient. The same product ties the rest to the row's exponent: its table says `4e' + o'`, so
    /// `o = 4(e' − e) + o'`, and with `e' ≠ e` `|o| ≥ 3` and `|32767·o| > |d|`.
    ///
    /// # Errors
    /// [`PlanError::Range`] for elements too large.
    pub(crate) fn block(
        &mut self,
        rows: &Rows,
        exponent: Option<&Exponent>,
    ) -> Result<Digits, PlanError> {
        let axes = rows.axes();
        let end = 32767;
        let Some(exponent) = exponent else {
            let digits = self.digits(&axes, rows.x.ints.clone());
            self.fits(rows.x.lo.abs().max(rows.x.hi.abs()) + end)?;
            let terms = vec![Term::linear(rows.x.view.minus(&digits.d.view))];
            self.relation("digits", &axes, terms);
            let (lo, hi) = (rows.x.lo, rows.x.hi);
            return Ok(Digits {
                d: Ranged { lo, hi, ..digits.d },
                ..digits
            });
        };
        let n = rows.len();
        let d: Option<Vec<i32>> =
            rows.x
                .ints
                .as_ref()
                .zip(exponent.e.ints.as_ref())
                .map(|(x, e)| {
                    let each = x.iter().enumerate();
                    each.map(|(i, x)| {
                        let half = (1i64 << e[i / n]) >> 1;
                        ((i64::from(*x) + half) >> e[i / n]).clamp(-end, end) as i32
                    })
                    .collect()
                });
        let r: Option<Vec<i64>> = d
            .as_ref()
            .zip(rows.x.ints.as_ref())
            .zip(exponent.e.ints.as_ref())
            .map(|((d, x), e)| {
                let each = x.iter().zip(d).enumerate();
                each.map(|(i, (x, d))| i64::from(*x) - (i64::from(*d) << e[i / n]))
                    .collect()
            });
        let digits = self.digits(&axes, d);
        let (rest, _, value) = self.rests(&axes, exponent, r);
        self.scaled_relation(rows, exponent, &digits.d.view, &rest, end)?;
        let o = value.minus(&exponent.e.view.scaled(4));
        let terms = vec![Term::Product {
            coefficient: 1,
            sums: vec![],
            a: o.clone(),
            b: o.scaled(end).minus(&digits.d.view),
        }];
        self.relation("rounding and the ends of the range", &axes, terms);
        Ok(digits)
    }

    /// Cells for magnitudes up to 32,767.
    fn digits(&mut self, axes: &[usize], ints: Option<Vec<i32>>) -> Digits {
        let d = wide(ints.as_deref());
        let low = map(d.as_deref(), |_, d| (d + 128).rem_euclid(BASE) - 128);
        let high = map(d.as_deref(), |_, d| (d + 128).div_euclid(BASE));
        let high = self.exact(axes, -127, 127, high.as_deref()).view;
        let low = self.digit(axes, low.as_deref());
        Digits {
            d: Ranged {
                view: high.scaled(BASE).plus(&low),
                ints,
                lo: -32767,
                hi: 32767,
            },
            high,
            low,
        }
    }

    /// Cells for −128 … 128.
    pub(crate) fn digit(&mut self, axes: &[usize], ints: Option<&[i64]>) -> View {
        let table = self.table(Table::Range { len: BASE as usize });
        let tables = Tables::One(Choice { table, offset: 128 });
        let ints = ints.map(|v| v.iter().map(|x| *x as i32).collect());
        View::column(self.column(axes, tables, ints), axes.len())
    }
}

pub(crate) fn wide(ints: Option<&[i32]>) -> Option<Vec<i64>> {
    ints.map(|v| v.iter().map(|x| i64::from(*x)).collect())
}
