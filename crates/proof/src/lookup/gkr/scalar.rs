//! Layers too small to be packed, and the last rounds of the others.

use p3_field::PrimeCharacteristicRing;

use super::Children;
use crate::field::EF;

/// The fractions of a small layer.
pub(super) struct Fractions {
    pub(super) p: Vec<EF>,
    pub(super) q: Vec<EF>,
}

impl Fractions {
    /// The layer above.
    pub(super) fn add_pairs(&self) -> Self {
        let half = self.p.len() / 2;
        let at = |i| self.children(i, half);
        Self {
            p: (0..half).map(|i| at(i).numerator()).collect(),
            q: (0..half).map(|i| at(i).denominator()).collect(),
        }
    }

    /// Fractions `i` and `i + stride`.
    pub(super) fn children(&self, i: usize, stride: usize) -> Children {
        Children {
            p0: self.p[i],
            p1: self.p[i + stride],
            q0: self.q[i],
            q1: self.q[i + stride],
        }
    }

    /// The four functions that the layer's sumcheck is about.
    pub(super) fn into_tables(self) -> Tables {
        let half = self.p.len() / 2;
        Tables([
            self.p[..half].to_vec(),
            self.p[half..].to_vec(),
            self.q[..half].to_vec(),
            self.q[half..].to_vec(),
        ])
    }
}

/// `p0`, `p1`, `q0`, `q1`.
pub(super) struct Tables(pub(super) [Vec<EF>; 4]);

impl Tables {
    /// Elements per table.
    pub(super) fn len(&self) -> usize {
        self.0[0].len()
    }

    /// `t(0)` and the quadratic coefficient of `t(X) = Σ_y eq(y) (p0 q1 + p1 q0)(y, X)`.
    pub(super) fn evaluate(&self, eq: &[EF]) -> [EF; 2] {
        let [p0, p1, q0, q1] = &self.0;
        let half = eq.len();
        let mut t = [EF::ZERO; 2];
        for (i, e) in eq.iter().enumerate() {
            let low = |v: &[EF]| v[i];
            let step = |v: &[EF]| v[i + half] - v[i];
            t[0] += *e * (low(p0) * low(q1) + low(p1) * low(q0));
            t[1] += *e * (step(p0) * step(q1) + step(p1) * step(q0));
        }
        t
    }

    /// Sets the highest variable.
    pub(super) fn fold(&mut self, r: EF) {
        for v in &mut self.0 {
            let half = v.len() / 2;
            let (low, high) = v.split_at_mut(half);
            for (l, h) in low.iter_mut().zip(high) {
                *l += r * (*h - *l);
            }
            v.truncate(half);
        }
    }

    /// `p1 += λ q1`, once.
    pub(super) fn mix(&mut self, lambda: EF) {
        let [_, p1, _, q1] = &mut self.0;
        for (p, q) in p1.iter_mut().zip(q1) {
            *p += lambda * *q;
        }
    }
}
