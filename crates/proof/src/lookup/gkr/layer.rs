//! Layers in packs: adding the fractions, and the rounds of the sumcheck.

use p3_field::{PackedValue, PrimeCharacteristicRing};

use rayon::prelude::*;

use super::{
    Leaves,
    scalar::{Fractions, Tables},
};
use crate::{
    field::{EF, F},
    mle::eq_table,
    packed::{
        self, Base, Extension, Lane, Matrix, Numerators, PACK, Pack, WIDTH, add, matrix, mul, mul2,
        packs, packs_mut, scale, sub, sum_lanes, unpack,
    },
};

/// `log2` of the packs that share a factor of the high part of `eq`.
const BLOCK_LOG: usize = 5;
/// Packs below which work is not shared among threads.
const GRAIN: usize = 128;

/// Numerators of a layer.
enum Store<'a> {
    /// Of the leaves.
    Base(&'a [F]),
    /// Packs.
    Extension(&'a mut [F]),
}

/// A layer of at least `4 W` fractions, in buffers of the caller's.
pub(super) struct Layer<'a> {
    p: Store<'a>,
    /// Packs.
    q: &'a mut [F],
}

/// Packs whose denominators are made at once where they are not kept.
const BLOCK: usize = 1 << 5;

impl<'a> Layer<'a> {
    /// Fractions of the smallest layer that is kept in packs: its sumcheck has at least one round on whole packs.
    pub(super) const MIN: usize = 4 * WIDTH;

    /// The leaves.
    pub(super) fn leaves(leaves: &'a impl Leaves, q: &'a mut [F]) -> Self {
        let blocks = packs_mut(q).par_chunks_mut(BLOCK).enumerate();
        blocks.for_each(|(i, q)| leaves.denominators(i * BLOCK, q));
        Self {
            p: Store::Base(leaves.numerators()),
            q,
        }
    }

    /// The layer above the leaves, without keeping these.
    pub(super) fn above(leaves: &impl Leaves, p: &'a mut [F], q: &'a mut [F]) -> Self {
        let numerators = Lane::pack_slice(leaves.numerators());
        let half = numerators.len() / 2;
        let out = packs_mut(p)
            .par_chunks_mut(BLOCK)
            .zip(packs_mut(q).par_chunks_mut(BLOCK));
        out.enumerate()
            .for_each(|(i, out)| pairs(leaves, numerators, [i * BLOCK, half + i * BLOCK], out));
        Self {
            p: Store::Extension(p),
            q,
        }
    }

    /// The layer above that one, without keeping either.
    pub(super) fn second(leaves: &impl Leaves, p: &'a mut [F], q: &'a mut [F]) -> Self {
        let numerators = Lane::pack_slice(leaves.numerators());
        let quarter = numerators.len() / 4;
        let out = packs_mut(p)
            .par_chunks_mut(BLOCK)
            .zip(packs_mut(q).par_chunks_mut(BLOCK));
        out.enumerate().for_each(|(i, (p, q))| {
            let len = q.len();
            let zero = [Lane::ZERO; 5];
            let [mut p0, mut p1, mut q0, mut q1] = [[zero; BLOCK]; 4];
            let at = |k: usize| k * quarter + i * BLOCK;
            pairs(
                leaves,
                numerators,
                [at(0), at(2)],
                (&mut p0[..len], &mut q0[..len]),
            );
            pairs(
                leaves,
                numerators,
                [at(1), at(3)],
                (&mut p1[..len], &mut q1[..len]),
            );
            add_fractions::<Extension>(&p0[..len], &p1[..len], &q0[..len], &q1[..len], (p, q));
        });
        Self {
            p: Store::Extension(p),
            q,
        }
    }

    /// Packs.
    fn len(&self) -> usize {
        self.q.len() / PACK
    }

    /// Fractions.
    pub(super) fn size(&self) -> usize {
        self.len() * WIDTH
    }

    /// The layer above, in buffers of half the length.
    pub(super) fn add_pairs<'b>(&self, p: &'b mut [F], q: &'b mut [F]) -> Layer<'b> {
        let half = self.len() / 2;
        let (q0, q1) = packs(self.q).split_at(half);
        let out = (packs_mut(p), packs_mut(q));
        match &self.p {
            Store::Base(p) => {
                let (p0, p1) = Lane::pack_slice(p).split_at(half);
                add_fractions::<Base>(p0, p1, q0, q1, out);
            }
            Store::Extension(p) => {
                let (p0, p1) = packs(p).split_at(half);
                add_fractions::<Extension>(p0, p1, q0, q1, out);
            }
        }
        Layer {
            p: Store::Extension(p),
            q,
        }
    }

    /// The same fractions without packs.
    pub(super) fn unpack(&self) -> Fractions {
        Fractions {
            p: match &self.p {
                Store::Base(p) => p.iter().map(|v| EF::from(*v)).collect(),
                Store::Extension(p) => unpack(packs(p)),
            },
            q: unpack(packs(self.q)),
        }
    }

    /// The four functions that the layer's sumcheck is about.
    pub(super) fn into_tables(self) -> PackedTables<'a> {
        let len = self.len() / 2;
        PackedTables {
            p: self.p,
            q: self.q,
            p_stride: len,
            q_stride: len,
            len,
        }
    }
}

/// The sums of leaves from two packs on.
fn pairs(
    leaves: &impl Leaves,
    numerators: &[Lane],
    at: [usize; 2],
    (p, q): (&mut [Pack], &mut [Pack]),
) {
    let len = q.len();
    let [mut q0, mut q1] = [[[Lane::ZERO; 5]; BLOCK]; 2];
    leaves.denominators(at[0], &mut q0[..len]);
    leaves.denominators(at[1], &mut q1[..len]);
    let [p0, p1] = at.map(|at| &numerators[at..at + len]);
    add_fractions::<Base>(p0, p1, &q0[..len], &q1[..len], (p, q));
}

fn add_fractions<K: Numerators>(
    p0: &[K::N],
    p1: &[K::N],
    q0: &[Pack],
    q1: &[Pack],
    (p, q): (&mut [Pack], &mut [Pack]),
) {
    if p.len() > GRAIN {
        let mid = p.len() / 2;
        let (p0a, p0b) = p0.split_at(mid);
        let (p1a, p1b) = p1.split_at(mid);
        let (q0a, q0b) = q0.split_at(mid);
        let (q1a, q1b) = q1.split_at(mid);
        let (pa, pb) = p.split_at_mut(mid);
        let (qa, qb) = q.split_at_mut(mid);
        rayon::join(
            || add_fractions::<K>(p0a, p1a, q0a, q1a, (pa, qa)),
            || add_fractions::<K>(p0b, p1b, q0b, q1b, (pb, qb)),
        );
        return;
    }
    let children = p0.iter().zip(p1).zip(q0.iter().zip(q1));
    for ((p, q), ((p0, p1), (q0, q1))) in p.iter_mut().zip(q).zip(children) {
        let m1 = Matrix::new(q1);
        *p = K::cross(p0, &m1, p1, &Matrix::new(q0));
        *q = mul(q0, &m1);
    }
}

/// `eq` of the variables that are not bound, apart from the highest: `low` of the lowest ones times `high`.
pub(super) struct Eq {
    low: Vec<Pack>,
    high: Vec<EF>,
}

impl Eq {
    /// At least one pack: `2^point.len() ≥ W`.
    pub(super) fn new(point: &[EF]) -> Self {
        let cut = point.len().min(WIDTH.trailing_zeros() as usize + BLOCK_LOG);
        Self {
            low: packed::pack(&eq_table(&point[..cut], EF::ONE)),
            high: eq_table(&point[cut..], EF::ONE),
        }
    }

    /// Drops the highest variable.
    pub(super) fn shrink(&mut self) {
        if self.high.len() > 1 {
            let half = self.high.len() / 2;
            let (a, b) = self.high.split_at_mut(half);
            a.iter_mut().zip(b).for_each(|(a, b)| *a += *b);
            self.high.truncate(half);
        } else {
            let half = self.low.len() / 2;
            let (a, b) = self.low.split_at_mut(half);
            a.iter_mut().zip(b).for_each(|(a, b)| *a = add(a, b));
            self.low.truncate(half);
        }
    }
}

/// `p0`, `p1`, `q0`, `q1` of a layer while its variables are bound, highest first.
pub(super) struct PackedTables<'a> {
    p: Store<'a>,
    q: &'a mut [F],
    /// Packs from `p0` to `p1`.
    p_stride: usize,
    /// Packs from `q0` to `q1`.
    q_stride: usize,
    /// Packs of each table.
    len: usize,
}

impl<'a> PackedTables<'a> {
    /// Packs of each table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first round: `t(0)` and the quadratic coefficient of `t(X) = Σ_y eq(y) (p0 q1 + (p1 + λ q1) q0)(y, X)`.
    pub(super) fn evaluate(&self, eq: &Eq, lambda: EF) -> [EF; 2] {
        let q = packs(self.q);
        let lambda = matrix(&lambda);
        let blocks = (0, eq.high.len());
        let sums = match &self.p {
            Store::Base(p) => evaluate::<Base>(Lane::pack_slice(p), q, &lambda, eq, blocks),
            Store::Extension(p) => evaluate::<Extension>(packs(p), q, &lambda, eq, blocks),
        };
        sums.map(|s| sum_lanes(&s))
    }

    /// Binds a variable to `rho`, adds `λ q1` to `p1` where `mix` tells `λ`, and evaluates the next round as [`Self::evaluate`] does, now without a `λ`. Numerators of leaves go to `spare`.
    pub(super) fn fold_and_evaluate(
        &mut self,
        eq: &Eq,
        rho: EF,
        mix: Option<EF>,
        spare: &mut &'a mut [F],
    ) -> [EF; 2] {
        let rho = matrix(&rho);
        let mix = mix.map(|v| matrix(&v));
        let quarter = self.len / 4;
        let (q0, q1) = packs_mut(self.q).split_at_mut(self.q_stride);
        let q0 = InPlace::new(q0, quarter);
        let q1 = InPlace::new(q1, quarter);
        let sums = match &mut self.p {
            Store::Base(p) => {
                let (p0, p1) = Lane::pack_slice(p).split_at(self.p_stride);
                let out = &mut std::mem::take(spare)[..4 * quarter * PACK];
                let (out0, out1) = packs_mut(out).split_at_mut(2 * quarter);
                let p0 = Promote::new(p0, out0, quarter);
                let p1 = Promote::new(p1, out1, quarter);
                let sums = fold((p0, p1, q0, q1), eq, &eq.high, &rho, mix.as_ref());
                self.p = Store::Extension(out);
                self.p_stride = 2 * quarter;
                sums
            }
            Store::Extension(p) => {
                let (p0, p1) = packs_mut(p).split_at_mut(self.p_stride);
                let p0 = InPlace::new(p0, quarter);
                let p1 = InPlace::new(p1, quarter);
                fold((p0, p1, q0, q1), eq, &eq.high, &rho, mix.as_ref())
            }
        };
        self.len /= 2;
        sums.map(|s| sum_lanes(&s))
    }

    /// The tables without packs.
    pub(super) fn unpack(self) -> Tables {
        let q = packs(self.q);
        let [p0, p1] = [0, self.p_stride].map(|at| match &self.p {
            Store::Base(p) => p[at * WIDTH..][..self.len * WIDTH]
                .iter()
                .map(|v| EF::from(*v))
                .collect(),
            Store::Extension(p) => unpack(&packs(p)[at..][..self.len]),
        });
        let [q0, q1] = [0, self.q_stride].map(|at| unpack(&q[at..][..self.len]));
        Tables([p0, p1, q0, q1])
    }
}

/// The sums of blocks `from .. to` of the first round.
fn evaluate<K: Numerators>(
    p: &[K::N],
    q: &[Pack],
    lambda: &Matrix<F>,
    eq: &Eq,
    (from, to): (usize, usize),
) -> [Pack; 2] {
    let block = eq.low.len();
    if to - from > 1 && (to - from) * block > GRAIN {
        let mid = from.midpoint(to);
        let (a, b) = rayon::join(
            || evaluate::<K>(p, q, lambda, eq, (from, mid)),
            || evaluate::<K>(p, q, lambda, eq, (mid, to)),
        );
        return [add(&a[0], &b[0]), add(&a[1], &b[1])];
    }
    let step = q.len() / 4;
    let mut total = [[Lane::ZERO; 5]; 2];
    for (i, high) in eq.high[from..to].iter().enumerate() {
        let quarters = |k: usize| (from + i) * block + k * step;
        let [p0, p0h, p1, p1h] = [0, 1, 2, 3].map(|k| &p[quarters(k)..][..block]);
        let [q0, q0h, q1, q1h] = [0, 1, 2, 3].map(|k| &q[quarters(k)..][..block]);
        let mut sums = [[Lane::ZERO; 5]; 2];
        for y in 0..block {
            let e = Matrix::new(&eq.low[y]);
            let m = scale(&q1[y], lambda);
            let g = K::mul2(
                &p0[y],
                &Matrix::new(&q1[y]),
                &K::plus(&p1[y], &m),
                &Matrix::new(&q0[y]),
            );
            sums[0] = add(&sums[0], &mul(&g, &e));
            let dq0 = sub(&q0h[y], &q0[y]);
            let dq1 = sub(&q1h[y], &q1[y]);
            let m = scale(&dq1, lambda);
            let dp0 = K::sub(&p0h[y], &p0[y]);
            let dp1 = K::sub(&p1h[y], &p1[y]);
            let g = K::mul2(
                &dp0,
                &Matrix::new(&dq1),
                &K::plus(&dp1, &m),
                &Matrix::new(&dq0),
            );
            sums[1] = add(&sums[1], &mul(&g, &e));
        }
        let high = matrix(high);
        for (total, sum) in total.iter_mut().zip(&sums) {
            *total = add(total, &scale(sum, &high));
        }
    }
    total
}

/// A table in four quarters. The two highest variables tell the quarter; binding the highest leaves two.
trait Quarters: Send + Sized {
    type K: Numerators;
    fn len(&self) -> usize;
    fn split(self, mid: usize) -> (Self, Self);
    fn get(&self, i: usize) -> [<Self::K as Numerators>::N; 4];
    fn put(&mut self, i: usize, v: [Pack; 2]);
}

/// A table that is folded where it is.
struct InPlace<'a>([&'a mut [Pack]; 2], [&'a [Pack]; 2]);

impl<'a> InPlace<'a> {
    fn new(table: &'a mut [Pack], quarter: usize) -> Self {
        let (a, rest) = table.split_at_mut(quarter);
        let (b, rest) = rest.split_at_mut(quarter);
        let (c, d) = rest[..2 * quarter].split_at(quarter);
        Self([a, b], [c, d])
    }
}

impl Quarters for InPlace<'_> {
    type K = Extension;

    fn len(&self) -> usize {
        self.0[0].len()
    }

    fn split(self, mid: usize) -> (Self, Self) {
        let [(a0, a1), (b0, b1)] = self.0.map(|s| s.split_at_mut(mid));
        let [(c0, c1), (d0, d1)] = self.1.map(|s| s.split_at(mid));
        (Self([a0, b0], [c0, d0]), Self([a1, b1], [c1, d1]))
    }

    #[inline(always)]
    fn get(&self, i: usize) -> [Pack; 4] {
        [self.0[0][i], self.0[1][i], self.1[0][i], self.1[1][i]]
    }

    #[inline(always)]
    fn put(&mut self, i: usize, v: [Pack; 2]) {
        [self.0[0][i], self.0[1][i]] = v;
    }
}

/// Numerators of leaves, which become extension elements elsewhere.
struct Promote<'a>([&'a [Lane]; 4], [&'a mut [Pack]; 2]);

impl<'a> Promote<'a> {
    fn new(table: &'a [Lane], out: &'a mut [Pack], quarter: usize) -> Self {
        let from = [0, 1, 2, 3].map(|k| &table[k * quarter..][..quarter]);
        let (a, b) = out.split_at_mut(quarter);
        Self(from, [a, b])
    }
}

impl Quarters for Promote<'_> {
    type K = Base;

    fn len(&self) -> usize {
        self.0[0].len()
    }

    fn split(self, mid: usize) -> (Self, Self) {
        let [a, b, c, d] = self.0.map(|s| s.split_at(mid));
        let [(x0, x1), (y0, y1)] = self.1.map(|s| s.split_at_mut(mid));
        (
            Self([a.0, b.0, c.0, d.0], [x0, y0]),
            Self([a.1, b.1, c.1, d.1], [x1, y1]),
        )
    }

    #[inline(always)]
    fn get(&self, i: usize) -> [Lane; 4] {
        [self.0[0][i], self.0[1][i], self.0[2][i], self.0[3][i]]
    }

    #[inline(always)]
    fn put(&mut self, i: usize, v: [Pack; 2]) {
        [self.1[0][i], self.1[1][i]] = v;
    }
}

fn fold<P: Quarters>(
    (mut p0, mut p1, mut q0, mut q1): (P, P, InPlace<'_>, InPlace<'_>),
    eq: &Eq,
    high: &[EF],
    rho: &Matrix<F>,
    mix: Option<&Matrix<F>>,
) -> [Pack; 2] {
    let block = eq.low.len();
    if high.len() > 1 && q0.len() > GRAIN {
        let (high_a, high_b) = high.split_at(high.len() / 2);
        let mid = high_a.len() * block;
        let (p0a, p0b) = p0.split(mid);
        let (p1a, p1b) = p1.split(mid);
        let (q0a, q0b) = q0.split(mid);
        let (q1a, q1b) = q1.split(mid);
        let (a, b) = rayon::join(
            || fold((p0a, p1a, q0a, q1a), eq, high_a, rho, mix),
            || fold((p0b, p1b, q0b, q1b), eq, high_b, rho, mix),
        );
        return [add(&a[0], &b[0]), add(&a[1], &b[1])];
    }
    let mut total = [[Lane::ZERO; 5]; 2];
    for (i, high) in high.iter().enumerate() {
        let mut sums = [[Lane::ZERO; 5]; 2];
        for y in 0..block {
            let at = i * block + y;
            let f0 = fold_one(&mut p0, at, rho);
            let g0 = fold_one(&mut q0, at, rho);
            let g1 = fold_one(&mut q1, at, rho);
            let [a, b, c, d] = p1.get(at);
            let mut f1 = [P::K::fold(&a, &c, rho), P::K::fold(&b, &d, rho)];
            if let Some(lambda) = mix {
                f1 = [0, 1].map(|k| add(&f1[k], &scale(&g1[k], lambda)));
            }
            p1.put(at, f1);
            let e = Matrix::new(&eq.low[y]);
            let g = mul2(&f0[0], &Matrix::new(&g1[0]), &f1[0], &Matrix::new(&g0[0]));
            sums[0] = add(&sums[0], &mul(&g, &e));
            let [df0, df1, dg0, dg1] = [f0, f1, g0, g1].map(|[a, b]| sub(&b, &a));
            let g = mul2(&df0, &Matrix::new(&dg1), &df1, &Matrix::new(&dg0));
            sums[1] = add(&sums[1], &mul(&g, &e));
        }
        let high = matrix(high);
        for (total, sum) in total.iter_mut().zip(&sums) {
            *total = add(total, &scale(sum, &high));
        }
    }
    total
}

#[inline(always)]
fn fold_one<T: Quarters>(table: &mut T, i: usize, rho: &Matrix<F>) -> [Pack; 2] {
    let [a, b, c, d] = table.get(i);
    let out = [T::K::fold(&a, &c, rho), T::K::fold(&b, &d, rho)];
    table.put(i, out);
    out
}
