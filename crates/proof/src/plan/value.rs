//! Values of nodes while a plan is built: how a tensor of the graph follows from columns, and, on the prover's side, its integers.

use std::sync::Arc;

use super::expr::{Affine, View};
use crate::error::PlanError;

/// Output of a node for all runs of a proof. Its view has one label for each factor of its dimensions.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Dimensions as products of factors; the first dimension is the run.
    pub(crate) dims: Vec<Vec<usize>>,
    pub(crate) view: View,
    /// Elements, row-major, on the prover's side.
    pub(crate) ints: Option<Arc<Vec<i32>>>,
    /// Smallest and largest element possible.
    pub(crate) lo: i64,
    pub(crate) hi: i64,
}

impl Value {
    /// Lengths of the labels.
    pub(crate) fn factors(&self) -> Vec<usize> {
        self.dims.iter().flatten().copied().collect()
    }

    /// Length of dimension `i`.
    pub(crate) fn dim(&self, i: usize) -> usize {
        self.dims[i].iter().product()
    }

    /// Labels of dimension `i`.
    pub(crate) fn labels(&self, i: usize) -> std::ops::Range<usize> {
        let start: usize = self.dims[..i].iter().map(Vec::len).sum();
        start..start + self.dims[i].len()
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.dims.iter().flatten().product()
    }

    /// The same elements under other dimensions (without the run's). A boundary inside a factor splits it, if it divides.
    pub(crate) fn reshape(&self, dims: &[usize]) -> Result<Self, String> {
        let factors = self.factors();
        let mut label = self.dims[0].len();
        let mut out = vec![self.dims[0].clone()];
        for d in dims {
            let mut parts = Vec::new();
            let mut missing = *d;
            while missing > 1 {
                let Some(f) = factors.get(label).copied() else {
                    return Err("elements are missing".into());
                };
                if f == 1 {
                    label += 1;
                } else if missing.is_multiple_of(f) {
                    parts.push(f);
                    missing /= f;
                    label += 1;
                } else if f.is_multiple_of(missing) {
                    return self.split(label, missing).reshape(dims);
                } else {
                    return Err(format!("dimension {d} cuts through a factor {f}"));
                }
            }
            if parts.is_empty() {
                parts.push(1);
            }
            out.push(parts);
        }
        if factors[label..].iter().any(|f| *f != 1) {
            return Err("elements are left over".into());
        }
        Ok(self.regroup(out))
    }

    /// Splits factor `at` (a label) into `high` times the rest.
    fn split(&self, at: usize, high: usize) -> Self {
        let factors = self.factors();
        let low = factors[at] / high;
        let subs: Vec<Affine> = (0..factors.len())
            .map(|l| match l.cmp(&at) {
                std::cmp::Ordering::Less => Affine::label(l),
                std::cmp::Ordering::Equal => Affine {
                    offset: 0,
                    terms: vec![(l, low as i64), (l + 1, 1)],
                },
                std::cmp::Ordering::Greater => Affine::label(l + 1),
            })
            .collect();
        let mut dims = self.dims.clone();
        let mut label = 0;
        for d in &mut dims {
            if at < label + d.len() {
                d[at - label] = high;
                d.insert(at - label + 1, low);
                break;
            }
            label += d.len();
        }
        Self {
            dims,
            view: self.view.substitute(&subs),
            ..self.clone()
        }
    }

    /// The same factors of more than one under other dimensions; factors of one may come and go.
    fn regroup(&self, dims: Vec<Vec<usize>>) -> Self {
        let old = self.factors();
        let new: Vec<usize> = dims.iter().flatten().copied().collect();
        let mut free = (0..new.len()).filter(|i| new[*i] != 1);
        let subs: Vec<Affine> = old
            .iter()
            .map(|f| {
                if *f == 1 {
                    Affine::fixed(0)
                } else {
                    free.next().map_or_else(|| Affine::fixed(0), Affine::label)
                }
            })
            .collect();
        Self {
            dims,
            view: self.view.substitute(&subs),
            ..self.clone()
        }
    }

    /// Output dimension `i` is dimension `perm[i]`; the run's stays first (`perm` counts without it).
    pub(crate) fn transpose(&self, perm: &[usize]) -> Self {
        let order: Vec<usize> = std::iter::once(0)
            .chain(perm.iter().map(|p| p + 1))
            .collect();
        let mut to = vec![0; self.factors().len()];
        let mut next = 0;
        for d in &order {
            for l in self.labels(*d) {
                to[l] = next;
                next += 1;
            }
        }
        let sizes: Vec<usize> = (0..self.dims.len()).map(|d| self.dim(d)).collect();
        let ints = self
            .ints
            .as_ref()
            .map(|v| Arc::new(permute(v, &sizes, &order)));
        Self {
            dims: order.iter().map(|d| self.dims[*d].clone()).collect(),
            view: self.view.rename(&to),
            ints,
            ..self.clone()
        }
    }

    /// `len` indices from `start` along dimension `axis` (counted with the run's), which must be one factor.
    pub(crate) fn slice(&self, axis: usize, start: usize, len: usize) -> Result<Self, String> {
        if self.dims[axis].len() != 1 {
            return Err("a slice through joined dimensions".into());
        }
        let l = self.labels(axis).start;
        let subs: Vec<Affine> = (0..self.factors().len())
            .map(|i| Affine {
                offset: if i == l { start as i64 } else { 0 },
                terms: vec![(i, 1)],
            })
            .collect();
        let inner: usize = (axis + 1..self.dims.len()).map(|d| self.dim(d)).product();
        let whole = self.dim(axis) * inner;
        let ints = self.ints.as_ref().map(|v| {
            let parts = v
                .chunks_exact(whole)
                .flat_map(|c| &c[start * inner..(start + len) * inner]);
            Arc::new(parts.copied().collect())
        });
        let mut dims = self.dims.clone();
        dims[axis] = vec![len];
        Ok(Self {
            dims,
            view: self.view.substitute(&subs),
            ints,
            ..self.clone()
        })
    }
}

/// Row-major elements with the axes in another order.
fn permute(data: &[i32], dims: &[usize], order: &[usize]) -> Vec<i32> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let sizes: Vec<usize> = order.iter().map(|d| dims[*d]).collect();
    let steps: Vec<usize> = order.iter().map(|d| strides[*d]).collect();
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; sizes.len()];
    let mut at = 0;
    for _ in 0..data.len() {
        out.push(data[at]);
        for axis in (0..sizes.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < sizes[axis] {
                break;
            }
            at -= steps[axis] * sizes[axis];
            index[axis] = 0;
        }
    }
    out
}

/// A value's error as that of a node.
pub(crate) fn unsupported(node: u32, op: &'static str, why: impl Into<String>) -> PlanError {
    PlanError::Unsupported {
        node,
        op,
        why: why.into(),
    }
}
