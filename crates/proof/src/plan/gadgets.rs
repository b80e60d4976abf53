//! Gadgets: ranges, remainders and tables, of which operators are made. Each returns a view without constants; cells hold the signed integers themselves.

use std::sync::Arc;

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{ColumnId, Label, Operand, Read, Term, View},
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

impl Shifts {
    pub(crate) fn distinct(&self) -> Vec<i64> {
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
    pub(crate) fn tables(&self, mut of: impl FnMut(i64) -> Choice) -> Tables {
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
    pub(crate) fn each<'a>(&'a self, axes: &[usize]) -> impl Fn(usize) -> i64 + 'a {
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
    pub(crate) fn scale(
        &self,
        b: &mut Builder,
        f: impl Fn(i64) -> i64,
    ) -> (i64, Option<(Label, usize)>) {
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

pub(crate) fn narrow(ints: Option<Vec<i64>>) -> Option<Vec<i32>> {
    ints.map(|v| v.into_iter().map(|x| x as i32).collect())
}

impl Builder {
    /// Keys `lo … lo + len − 1`.
    pub(crate) fn range(&mut self, lo: i64, len: i64) -> Choice {
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
            self.must_fit((value.hi - lo).max(above.hi + lo - value.lo));
            let terms = vec![
                Term::linear(value.view.minus(&above.view)),
                Term::constant(-lo),
            ];
            self.relation("at least the lower bound", axes, terms);
        }
        if value.hi > hi {
            let below = map(ints, |_, v| hi - v);
            let below = self.around(axes, 0, hi - lo, below.as_deref());
            self.must_fit((value.hi + below.hi - hi).max(hi - value.lo));
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
        let each = shifts.each(axes);
        let mut view = View::default();
        let mut done = 0;
        while done < most {
            let tables = shifts.tables(|k| self.range(0, 1 << (k - done).clamp(0, limb)));
            // the highest part of a row keeps whatever is too much, so that only its range refuses it
            let part = map(ints, |i, v| match each(i) {
                k if k <= done => 0,
                k if k <= done + limb => v >> done,
                _ => v >> done & ((1 << limb) - 1),
            });
            let id = self.column(axes, tables, narrow(part));
            view = view.plus(&View::column(id, axes.len()).scaled(1 << done));
            done += limb;
        }
        view
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
        let (lo, hi) = (part.iter().min(), part.iter().max());
        let (lo, hi) = (
            lo.map_or(0, |v| i64::from(*v)),
            hi.map_or(0, |v| i64::from(*v)),
        );
        let images = x.ints.as_ref().map(|v| {
            v.iter()
                .map(|x| values[(i64::from(*x) - first) as usize])
                .collect::<Vec<i32>>()
        });
        if let Some(value) = self.own_value(axes, x, part) {
            return Ok(Ranged {
                view: View::column(value, axes.len()),
                ints: images,
                lo,
                hi,
            });
        }
        let table = self.table(Table::Function {
            values: Arc::new(part.to_vec()),
        });
        let tables = Tables::One(Choice {
            table,
            offset: -x.lo,
        });
        let (key, value) = self.pair(axes, tables, x.ints.clone(), images.clone());
        let terms = vec![Term::linear(View::column(key, axes.len()).minus(&x.view))];
        self.relation("argument of a table", axes, terms);
        Ok(Ranged {
            view: View::column(value, axes.len()),
            ints: images,
            lo,
            hi,
        })
    }

    /// The function of a column that has no other value yet and exactly the range of x, as a value of its own keys.
    fn own_value(&mut self, axes: &[usize], x: &Ranged, part: &[i32]) -> Option<ColumnId> {
        let [(1, read)] = &x.view.terms[..] else {
            return None;
        };
        let Operand::Column(id) = read.operand else {
            return None;
        };
        let same = *read == Read::plain(read.operand, axes.len())
            && self.shape(read.operand) == axes
            && self.bounds_of(id) == Some((x.lo, x.hi));
        if same {
            self.attach(id, part.to_vec())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{builder::Limits, facts::Facts};

    /// Two sides of a range wider than half the field could wrap around: no plan.
    #[test]
    fn ranges_that_could_wrap_are_refused() {
        for (lo, hi, fits) in [
            // a prime number of values: no two digits
            (-(1 << 24), (1 << 31) - 2 - (1 << 24), false),
            (-(1 << 29) + 1, (1 << 29) - 1, true),
            (-70_000, 70_001, true),
        ] {
            let limits = Limits::for_values(1 << 20);
            let mut b = Builder::new(Facts::Record(Vec::new()), limits, false);
            b.exact(&[3], lo, hi, None);
            assert_eq!(b.failed.is_none(), fits, "{lo} to {hi}: {:?}", b.failed);
        }
    }
}
