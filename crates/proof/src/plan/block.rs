//! Gadgets of rows with a common exponent: how far a row must be shifted right, and its rounded elements.

use std::sync::Arc;

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{Term, View},
    gadgets::{Ranged, map},
    rounding_value,
    row::{Rows, length, wide},
};
use crate::error::PlanError;

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

/// Bits of the largest magnitude in `[lo, hi]`.
pub(crate) fn peak_bits(lo: i64, hi: i64) -> u8 {
    length(lo).max(length(hi))
}

impl Builder {
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
        let exponents = self.claimed("exponent", rows.each(|x| i64::from(of(x))));
        let exponents = map(exponents.as_deref(), |_, e| e.clamp(0, most.into()));
        let powers = exponents
            .as_ref()
            .map(|v| v.iter().map(|e| 1 << e).collect::<Vec<i32>>());
        let e = exponents.map(|v| v.into_iter().map(|e| e as i32).collect::<Vec<i32>>());
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
        let best = rows.each(|x| x.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0));
        let above = best.zip(floor.ints.as_ref()).map(|(best, floor)| {
            let each = best.iter().zip(floor);
            each.map(|(x, floor)| i64::from(*x) - i64::from(*floor))
                .collect::<Vec<i64>>()
        });
        let reach = peak.min((1 << bits).max(1i64 << (bits - 1 + most)) - 1);
        // a power of two, which other columns share, where it can't wrap
        let shared = (reach as u64 + 1).next_power_of_two() as i64 - 1;
        let above = if self.fits(peak + floor.hi + shared).is_ok() {
            self.around(&rows.outer, 0, reach, above.as_deref())
        } else {
            // |x| < 2^(bits + e) leaves less than 2^(bits − 1 + e) above the floor
            let reach = (peak - floor.hi).max(floor.hi / 2).max((1 << bits) - 1);
            let last = reach | ((1 << self.limits.limb) - 1);
            self.exact(&rows.outer, 0, last, above.as_deref())
        };
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

    /// Rests `|r| < 2^e`: their view, and the view of `4e + o`, whose e the caller must show to be the row's.
    fn rests(&mut self, axes: &[usize], exponent: &Exponent, r: Option<Vec<i64>>) -> (View, View) {
        let table = self.table(Table::Rounding {
            bits: exponent.most,
        });
        let values = r.as_ref().zip(exponent.e.ints.as_ref()).map(|(r, e)| {
            let n = r.len() / e.len();
            let each = r.iter().enumerate();
            each.map(|(i, r)| rounding_value(*r, e[i / n] as u8))
                .collect::<Vec<i64>>()
        });
        let narrow = |v: Option<Vec<i64>>| v.map(|v| v.into_iter().map(|x| x as i32).collect());
        let tables = Tables::One(Choice { table, offset: 0 });
        let (key, value) = self.pair(axes, tables, narrow(r), narrow(values));
        (
            View::column(key, axes.len()),
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
            let d = self.claimed("block", wide(rows.x.ints.as_deref()));
            let d = d.map(|v| v.into_iter().map(|d| d as i32).collect());
            let digits = self.digits(&axes, d);
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
        let x = rows.x.ints.as_ref().zip(exponent.e.ints.as_ref());
        let d: Option<Vec<i64>> = x.map(|(x, e)| {
            let each = x.iter().enumerate();
            each.map(|(i, x)| {
                let half = (1i64 << e[i / n]) >> 1;
                ((i64::from(*x) + half) >> e[i / n]).clamp(-end, end)
            })
            .collect()
        });
        let d = self.claimed("block", d);
        let d: Option<Vec<i32>> = d.map(|v| v.into_iter().map(|d| d as i32).collect());
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
        let (rest, value) = self.rests(&axes, exponent, r);
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
