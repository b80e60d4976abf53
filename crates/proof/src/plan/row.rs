//! Gadgets of rows: sums, picked elements and maxima over the last labels of a view. What they commit for each row is cheap, what they commit for each element is not.

use super::{
    builder::Builder,
    expr::{Affine, Label, Term, View},
    gadgets::Ranged,
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

pub(crate) const fn length(v: i64) -> u8 {
    (u64::BITS - v.unsigned_abs().leading_zeros()) as u8
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
        let sums = self.claimed("row sum", sums);
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
        // where the elements take most of the field no cells for some of them can be as large
        let range = (rows.x.hi - rows.x.lo + 1) as u64;
        let narrow = self.fits(range.next_power_of_two() as i64).is_ok();
        let Some((first, second, view)) = rows.cut(cells).filter(|_| narrow) else {
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
        let u_ints = self.claimed("picked row", u);
        let u = u_ints.clone();
        let u = self.one_hot(&rows.outer, &first, false, u);
        let axes = [&rows.outer[..], &second[..]].concat();
        let picked = rows.x.ints.as_ref().zip(u_ints).map(|(x, u)| {
            let mut out = vec![0i64; x.len() / m];
            for (i, u) in u.iter().enumerate().filter(|(_, u)| **u != 0) {
                for (t, x) in out[i / m * n..][..n].iter_mut().zip(&x[i * n..][..n]) {
                    *t += u * i64::from(*x);
                }
            }
            out
        });
        let picked = self.claimed("picked", picked);
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
        let peaks = rows.each(|x| x.iter().copied().max().map_or(0, i64::from));
        let peaks = self.claimed("maximum", peaks);
        let chosen = rows.x.ints.as_ref().zip(peaks.as_ref()).map(|(x, peaks)| {
            let lines = x.chunks_exact(rows.len()).zip(peaks);
            lines
                .map(|(x, m)| {
                    let at = x.iter().position(|v| i64::from(*v) == *m);
                    (at.unwrap_or(0), 1)
                })
                .collect::<Vec<_>>()
        });
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
}

pub(crate) fn wide(ints: Option<&[i32]>) -> Option<Vec<i64>> {
    ints.map(|v| v.iter().map(|x| i64::from(*x)).collect())
}
