//! Extension arithmetic on `W` elements at once: one packed base field vector per coefficient.
//!
//! The extension is `F[X] / (X^5 + X^2 − 1)`. A product is a matrix of one factor times the vector of the other, so that each coefficient is one dot product with one reduction.

use p3_field::{Algebra, Field, PackedValue, PrimeCharacteristicRing};

use crate::{
    field::{DEGREE, EF, F},
    mle::eq_table,
};

/// `W` base field elements.
pub(crate) type Lane = <F as Field>::Packing;
/// `W` extension elements, by coefficient.
pub(crate) type Pack = [Lane; DEGREE];

/// `W`.
pub(crate) const WIDTH: usize = <Lane as PackedValue>::WIDTH;
/// Base field elements in a [`Pack`].
pub(crate) const PACK: usize = WIDTH * DEGREE;

/// The nine different entries of the matrix of `x ↦ b x`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<T>([T; 9]);

impl<T: PrimeCharacteristicRing + Copy> Matrix<T> {
    #[inline(always)]
    pub(crate) fn new(b: &[T; DEGREE]) -> Self {
        let [b0, b1, b2, b3, b4] = *b;
        let b14 = b1 - b4;
        Self([b0, b1, b2, b3, b4, b0 - b3, b14, b4 - b2, b3 - b14])
    }

    /// Row `c`: what the coefficients of the other factor contribute to coefficient `c`. From `X^5 = 1 − X^2`, `X^6 = X − X^3`, `X^7 = X^2 − X^4`, `X^8 = X^3 + X^2 − 1`.
    #[inline(always)]
    fn row(&self, c: usize) -> [T; DEGREE] {
        let [b0, b1, b2, b3, b4, b03, b14, b42, b341] = self.0;
        match c {
            0 => [b0, b4, b3, b2, b14],
            1 => [b1, b0, b4, b3, b2],
            2 => [b2, b14, b03, b42, b341],
            3 => [b3, b2, b14, b03, b42],
            _ => [b4, b3, b2, b14, b03],
        }
    }
}

#[inline(always)]
fn each(f: impl Fn(usize) -> Lane) -> Pack {
    [f(0), f(1), f(2), f(3), f(4)]
}

#[inline(always)]
pub(crate) fn add(a: &Pack, b: &Pack) -> Pack {
    each(|c| a[c] + b[c])
}

#[inline(always)]
pub(crate) fn sub(a: &Pack, b: &Pack) -> Pack {
    each(|c| a[c] - b[c])
}

/// `a b`.
#[inline(always)]
pub(crate) fn mul(a: &Pack, b: &Matrix<Lane>) -> Pack {
    each(|c| Lane::dot_product(a, &b.row(c)))
}

/// `a b` for one scalar `b`.
#[inline(always)]
pub(crate) fn scale(a: &Pack, b: &Matrix<F>) -> Pack {
    each(|c| <Lane as Algebra<F>>::mixed_dot_product(a, &b.row(c)))
}

/// `a b + c d`.
#[inline(always)]
pub(crate) fn mul2(a: &Pack, b: &Matrix<Lane>, c: &Pack, d: &Matrix<Lane>) -> Pack {
    add(&mul(a, b), &mul(c, d))
}

/// The matrix of a challenge.
pub(crate) fn matrix(v: &EF) -> Matrix<F> {
    Matrix::new(&coefficients(v))
}

/// The coefficients of an element.
pub(crate) fn coefficients(v: &EF) -> [F; DEGREE] {
    let c = p3_field::BasedVectorSpace::<F>::as_basis_coefficients_slice(v);
    std::array::from_fn(|i| c[i])
}

/// The element with these coefficients.
pub(crate) fn element(c: impl Fn(usize) -> F) -> EF {
    <EF as p3_field::BasedVectorSpace<F>>::from_basis_coefficients_fn(c)
}

/// The sum of all lanes.
pub(crate) fn sum_lanes(a: &Pack) -> EF {
    element(|c| a[c].as_slice().iter().copied().sum())
}

/// Splits a buffer into packs.
pub(crate) fn packs(flat: &[F]) -> &[Pack] {
    Lane::pack_slice(flat).as_chunks().0
}

/// Splits a buffer into packs.
pub(crate) fn packs_mut(flat: &mut [F]) -> &mut [Pack] {
    Lane::pack_slice_mut(flat).as_chunks_mut().0
}

/// The elements of a pack, in order.
pub(crate) fn unpack(a: &[Pack]) -> Vec<EF> {
    a.iter()
        .flat_map(|p| (0..WIDTH).map(|lane| element(|c| p[c].as_slice()[lane])))
        .collect()
}

/// Elements in packs.
pub(crate) fn pack(values: &[EF]) -> Vec<Pack> {
    values
        .chunks_exact(WIDTH)
        .map(|v| each(|c| Lane::from_fn(|lane| coefficients(&v[lane])[c])))
        .collect()
}

/// What numerators are: of the base field in the leaves, of the extension elsewhere.
pub(crate) trait Numerators {
    /// `W` numerators.
    type N: Copy + Send + Sync;
    /// `a − b`.
    fn sub(a: &Self::N, b: &Self::N) -> Self::N;
    /// `a + r (b − a)`.
    fn fold(a: &Self::N, b: &Self::N, r: &Matrix<F>) -> Pack;
    /// `n + a`.
    fn plus(n: &Self::N, a: &Pack) -> Pack;
    /// `n a + c d`.
    fn mul2(n: &Self::N, a: &Matrix<Lane>, c: &Pack, d: &Matrix<Lane>) -> Pack;
    /// `m a + n b`.
    fn cross(m: &Self::N, a: &Matrix<Lane>, n: &Self::N, b: &Matrix<Lane>) -> Pack;
}

/// Base field.
pub(crate) struct Base;
/// Extension field.
pub(crate) struct Extension;

impl Numerators for Extension {
    type N = Pack;

    #[inline(always)]
    fn sub(a: &Pack, b: &Pack) -> Pack {
        sub(a, b)
    }

    #[inline(always)]
    fn fold(a: &Pack, b: &Pack, r: &Matrix<F>) -> Pack {
        add(a, &scale(&sub(b, a), r))
    }

    #[inline(always)]
    fn plus(n: &Pack, a: &Pack) -> Pack {
        add(n, a)
    }

    #[inline(always)]
    fn mul2(n: &Pack, a: &Matrix<Lane>, c: &Pack, d: &Matrix<Lane>) -> Pack {
        mul2(n, a, c, d)
    }

    #[inline(always)]
    fn cross(m: &Pack, a: &Matrix<Lane>, n: &Pack, b: &Matrix<Lane>) -> Pack {
        mul2(m, a, n, b)
    }
}

impl Numerators for Base {
    type N = Lane;

    #[inline(always)]
    fn sub(a: &Lane, b: &Lane) -> Lane {
        *a - *b
    }

    #[inline(always)]
    fn fold(a: &Lane, b: &Lane, r: &Matrix<F>) -> Pack {
        let d = *b - *a;
        let mut out = each(|c| d * r.0[c]);
        out[0] += *a;
        out
    }

    #[inline(always)]
    fn plus(n: &Lane, a: &Pack) -> Pack {
        [*n + a[0], a[1], a[2], a[3], a[4]]
    }

    #[inline(always)]
    fn mul2(n: &Lane, a: &Matrix<Lane>, c: &Pack, d: &Matrix<Lane>) -> Pack {
        each(|i| {
            let [d0, d1, d2, d3, d4] = d.row(i);
            Lane::dot_product(
                &[c[0], c[1], c[2], c[3], c[4], *n],
                &[d0, d1, d2, d3, d4, a.0[i]],
            )
        })
    }

    #[inline(always)]
    fn cross(m: &Lane, a: &Matrix<Lane>, n: &Lane, b: &Matrix<Lane>) -> Pack {
        each(|c| Lane::dot_product(&[*m, *n], &[a.0[c], b.0[c]]))
    }
}

/// `eq(point, i)·scale` for all i, in packs; the point has at least `log2 W` coordinates.
pub(crate) fn eq_packs(point: &[EF], scale_by: EF) -> Vec<Pack> {
    let low = WIDTH.trailing_zeros() as usize;
    let mut out = crate::lookup::gkr::with_capacity(1 << (point.len() - low));
    out.extend(pack(&eq_table(&point[..low], scale_by)));
    for r in &point[low..] {
        let r = matrix(r);
        for i in 0..out.len() {
            let high = scale(&out[i], &r);
            out[i] = sub(&out[i], &high);
            out.push(high);
        }
    }
    out
}

/// `out += u·h`.
#[inline]
pub(crate) fn add_scaled(out: &mut [Pack], u: &[Pack], h: &Matrix<F>) {
    for (o, u) in out.iter_mut().zip(u) {
        *o = add(o, &scale(u, h));
    }
}

/// Element `i` of packs.
pub(crate) fn at(packs: &[Pack], i: usize) -> EF {
    element(|c| packs[i / WIDTH][c].as_slice()[i % WIDTH])
}

/// Adds to element `i` of packs.
pub(crate) fn add_at(packs: &mut [Pack], i: usize, v: EF) {
    let v = coefficients(&v);
    for (lane, v) in packs[i / WIDTH].iter_mut().zip(v) {
        lane.as_slice_mut()[i % WIDTH] += v;
    }
}

/// `Σ u_i·x_i` of extension elements in packs and base field elements, lane by lane.
#[inline]
pub(crate) fn inner(u: &[Pack], x: &[Lane]) -> Pack {
    let zero = [Lane::ZERO; DEGREE];
    let pairs = u.iter().zip(x);
    pairs.fold(zero, |s, (u, x)| each(|c| s[c] + u[c] * *x))
}

/// `Σ u·x` for x in the extension field.
pub(crate) fn dot(u: &[Pack], x: &[EF]) -> EF {
    use rayon::prelude::*;
    let zero = [Lane::ZERO; DEGREE];
    let chunks = u.par_chunks(1 << 10).zip(x.par_chunks(WIDTH << 10));
    let sum = chunks
        .map(|(u, x)| {
            let terms = u.iter().zip(pack(x));
            terms.fold(zero, |s, (u, x)| add(&s, &mul(u, &Matrix::new(&x))))
        })
        .reduce(|| zero, |a, b| add(&a, &b));
    sum_lanes(&sum)
}
