//! One sumcheck for all products of a plan. An instance with fewer variables than others counts as placed at index 0 of the larger cube: once its variables are bound, what remains is a constant times `1 − X`.

use p3_field::{Field, PrimeCharacteristicRing};
use rayon::prelude::*;

use crate::{
    error::VerifyError,
    field::EF,
    listener::{Listener, Value},
    transcript::{Channel, Sender},
};

/// Label of the relations' sumcheck in errors and messages.
pub(crate) const LABEL: &str = "products";

/// A product on the prover's side, where there are few (see `prover/products.rs` for those of a plan): `Σ_x E(x)·A(x)·B(x)`, E over the highest variables only and with the instance's weight in it.
pub(crate) struct Tables {
    pub(crate) e: Vec<EF>,
    pub(crate) a: Vec<EF>,
    pub(crate) b: Vec<EF>,
}

impl Tables {
    /// Evaluations at 0, 2 and 3 of the round's polynomial.
    fn round(&self) -> [EF; 3] {
        let n = self.a.len();
        let pairs = n / 2;
        let add = |x: [EF; 3], y: [EF; 3]| [x[0] + y[0], x[1] + y[1], x[2] + y[2]];
        let lines = |e0: EF, e1: EF, i: usize| {
            let (a0, a1, b0, b1) = (
                self.a[2 * i],
                self.a[2 * i + 1],
                self.b[2 * i],
                self.b[2 * i + 1],
            );
            let (da, db, de) = (a1 - a0, b1 - b0, e1 - e0);
            let (a2, b2, e2) = (a1 + da, b1 + db, e1 + de);
            [
                e0 * a0 * b0,
                e2 * a2 * b2,
                (e2 + de) * (a2 + da) * (b2 + db),
            ]
        };
        let flat = |e: EF, range: std::ops::Range<usize>| {
            let mut sum = [EF::ZERO; 3];
            for i in range {
                let (a0, a1, b0, b1) = (
                    self.a[2 * i],
                    self.a[2 * i + 1],
                    self.b[2 * i],
                    self.b[2 * i + 1],
                );
                let (da, db) = (a1 - a0, b1 - b0);
                let (a2, b2) = (a1 + da, b1 + db);
                sum = add(sum, [a0 * b0, a2 * b2, (a2 + da) * (b2 + db)]);
            }
            sum.map(|v| v * e)
        };
        if self.e.len() < n {
            let per = pairs / self.e.len();
            let one = |i: usize| flat(self.e[i], i * per..(i + 1) * per);
            if pairs < 1 << 12 {
                return (0..self.e.len()).map(one).fold([EF::ZERO; 3], add);
            }
            return (0..self.e.len())
                .into_par_iter()
                .map(one)
                .reduce(|| [EF::ZERO; 3], add);
        }
        let one = |i: usize| lines(self.e[2 * i], self.e[2 * i + 1], i);
        if pairs < 1 << 12 {
            return (0..pairs).map(one).fold([EF::ZERO; 3], add);
        }
        (0..pairs)
            .into_par_iter()
            .with_min_len(1 << 10)
            .map(one)
            .reduce(|| [EF::ZERO; 3], add)
    }

    fn bind(&mut self, r: EF) {
        let fold = |v: &mut Vec<EF>| {
            let next = |p: &[EF]| p[0] + (p[1] - p[0]) * r;
            *v = if v.len() < 1 << 13 {
                v.chunks_exact(2).map(next).collect()
            } else {
                v.par_chunks_exact(2).map(next).collect()
            };
        };
        if self.e.len() == self.a.len() {
            fold(&mut self.e);
        }
        fold(&mut self.a);
        fold(&mut self.b);
    }
}

/// Factors by which the values at 0, 1, 2, 3 of a cubic add up to that at `r`.
fn cubic(r: EF) -> [EF; 4] {
    let two = EF::TWO;
    let three = two + EF::ONE;
    let half = two.inverse();
    let sixth = (two * three).inverse();
    let (r1, r2, r3) = (r - EF::ONE, r - two, r - three);
    [
        -(r1 * r2 * r3 * sixth),
        r * r2 * r3 * half,
        -(r * r1 * r3 * half),
        r * r1 * r2 * sixth,
    ]
}

/// The next claim: the value at `r` of the cubic whose values at 0, 2 and 3 are `g` and whose values at 0 and 1 add up to `claim`.
fn next<V: Value>(claim: &V, g: [&V; 3], r: EF) -> V {
    let [c0, c1, c2, c3] = cubic(r);
    let parts = [(c1, claim), (c0 - c1, g[0]), (c2, g[1]), (c3, g[2])];
    V::sum(EF::ZERO, parts)
}

/// Proves `Σ instances = claim`; the tables are left with one value each. Returns the point, lowest variable first.
pub(crate) fn prove(
    label: &'static str,
    mut claim: EF,
    tables: &mut [Tables],
    sender: &mut Sender<'_>,
) -> Vec<EF> {
    let bits: Vec<usize> = tables
        .iter()
        .map(|t| t.a.len().trailing_zeros() as usize)
        .collect();
    let rounds = bits.iter().copied().max().unwrap_or(0);
    let mut point = Vec::with_capacity(rounds);
    // of instances without variables: what is left of their products
    let mut rest = EF::ZERO;
    for round in 0..rounds {
        for (t, _) in tables.iter().zip(&bits).filter(|(_, b)| **b == round) {
            rest += t.e[0] * t.a[0] * t.b[0];
        }
        let live = tables.par_iter().zip(&bits).filter(|(_, b)| **b > round);
        let sum = live.map(|(t, _)| t.round()).reduce(
            || [EF::ZERO; 3],
            |x, y| [x[0] + y[0], x[1] + y[1], x[2] + y[2]],
        );
        let g = [sum[0] + rest, sum[1] - rest, sum[2] - rest.double()];
        sender.send(label, &g);
        let r = sender.transcript().challenge();
        claim = next(&claim, g.each_ref(), r);
        rest *= EF::ONE - r;
        tables
            .par_iter_mut()
            .zip(&bits)
            .filter(|(_, b)| **b > round)
            .for_each(|(t, _)| t.bind(r));
        point.push(r);
    }
    point
}

/// Checks the rounds. Returns the point and what the products must add up to there.
pub(crate) fn verify<L: Listener>(
    label: &'static str,
    mut claim: L::V,
    rounds: usize,
    listener: &mut L,
) -> Result<(Vec<EF>, L::V), VerifyError> {
    let mut point = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let g = listener.hear(label, 3)?;
        let [g0, g2, g3] = &g[..] else {
            return Err(VerifyError::Sumcheck { label });
        };
        let r = listener.transcript().challenge();
        claim = next(&claim, [g0, g2, g3], r);
        point.push(r);
    }
    Ok((point, claim))
}

/// `Π (1 − r)` over the variables that an instance of `bits` variables lacks.
pub(crate) fn beyond(point: &[EF], bits: usize) -> EF {
    point[bits..].iter().map(|r| EF::ONE - *r).product()
}
