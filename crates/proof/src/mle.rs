//! Multilinear extensions. A point lists its coordinates from the **lowest** bit of the index up: `eq(point, i) = Π_b (bit b of i ? point[b] : 1 − point[b])`.

use p3_field::PrimeCharacteristicRing;

use crate::field::EF;

/// `eq(point, i)` for all `i` below `2^point.len()`, times `scale`.
pub(crate) fn eq_table(point: &[EF], scale: EF) -> Vec<EF> {
    let mut out = Vec::with_capacity(1 << point.len());
    out.push(scale);
    for r in point {
        let half = out.len();
        for i in 0..half {
            let high = out[i] * *r;
            out[i] -= high;
            out.push(high);
        }
    }
    out
}

/// `eq(a, b)` of two points of equal length.
pub(crate) fn eq_points(a: &[EF], b: &[EF]) -> EF {
    a.iter()
        .zip(b)
        .map(|(a, b)| (*a * *b).double() + EF::ONE - *a - *b)
        .product()
}

/// `eq(point, i)` of one index.
pub(crate) fn eq_index(point: &[EF], index: usize) -> EF {
    point
        .iter()
        .enumerate()
        .map(|(b, r)| {
            if index >> b & 1 == 1 {
                *r
            } else {
                EF::ONE - *r
            }
        })
        .product()
}

/// `Σ_{i < n} eq(point, i)`, `n ≤ 2^point.len()`.
pub(crate) fn prefix(point: &[EF], n: usize) -> EF {
    if n >> point.len() > 0 {
        return EF::ONE;
    }
    // from the highest bit down: equal so far, or already below
    let mut equal = EF::ONE;
    let mut below = EF::ZERO;
    for (b, r) in point.iter().enumerate().rev() {
        if n >> b & 1 == 1 {
            below += equal * (EF::ONE - *r);
            equal *= *r;
        } else {
            equal *= EF::ONE - *r;
        }
    }
    below
}

/// `⌈log2 n⌉`, 0 for 0 and 1.
pub(crate) const fn log2_ceil(n: usize) -> usize {
    n.next_power_of_two().trailing_zeros() as usize
}
