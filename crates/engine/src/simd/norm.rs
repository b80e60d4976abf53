//! Layer normalisation of one row: the square root is scalar, everything per element is one body compiled for every tier.

use assay_graph::ops::inverse_sqrt;

use super::elementwise::{Element, Rescale};

/// Longest row whose centred values fit 32 bits when its elements are 16-bit.
const SHORT: usize = 1 << 14;

/// Gains and biases of the channels.
#[derive(Clone, Debug)]
pub struct NormParams {
    /// Gains.
    pub gain: Vec<i32>,
    /// Biases.
    pub bias: Vec<i32>,
    /// Added to the sum of squares (see `Op::LayerNorm`).
    pub eps: u64,
    /// How `u·gain + bias` becomes an element.
    pub how: Rescale,
}

/// `v + 2^(e−1) >> e`, within ±32,767, for `|v| <= 2^30` and `e < 31`.
#[inline(always)]
fn shrink(v: i32, e: u32) -> i32 {
    let half = if e > 0 {
        1i32.wrapping_shl(e.wrapping_sub(1))
    } else {
        0
    };
    (v.wrapping_add(half) >> (e & 31)).clamp(-32767, 32767)
}

/// `e` of docs/graph.md.
#[inline(always)]
fn exponent(peak: u64) -> u32 {
    (64 - peak.leading_zeros()).saturating_sub(15)
}

#[inline(always)]
fn finish<O: Element>(d: &[i32], p: &NormParams, e: u32, squares: u64, out: &mut [O]) {
    let v = squares.saturating_add(p.eps.checked_shr(2 * e).unwrap_or(0).max(1));
    // |d·Y| <= 2^44: Y <= 2^29 and |d| < 2^15
    let y = i64::from(inverse_sqrt(v) as i32);
    for (((o, d), gain), bias) in out.iter_mut().zip(d).zip(&p.gain).zip(&p.bias) {
        let u = (i64::from(*d).wrapping_mul(y).wrapping_add(1 << 13) >> 14) as i32;
        *o = O::narrow(p.how.apply(u.wrapping_mul(*gain).wrapping_add(*bias)));
    }
}

#[inline(always)]
fn short_row<O: Element>(x: &[i16], p: &NormParams, d: &mut [i32], out: &mut [O]) {
    let n = x.len() as i32;
    let sum = x.iter().fold(0i32, |s, v| s.wrapping_add(i32::from(*v)));
    let mut peak = 0u32;
    for (d, x) in d.iter_mut().zip(x) {
        *d = i32::from(*x).wrapping_mul(n).wrapping_sub(sum);
        peak = peak.max(d.unsigned_abs());
    }
    let e = exponent(u64::from(peak));
    let mut squares = 0u64;
    for d in d.iter_mut() {
        *d = shrink(*d, e);
        squares = squares.wrapping_add(u64::from(d.wrapping_mul(*d) as u32));
    }
    finish(d, p, e, squares, out);
}

#[inline(always)]
fn long_row<A: Element, O: Element>(x: &[A], p: &NormParams, d: &mut [i32], out: &mut [O]) {
    let n = x.len() as i64;
    let sum: i64 = x
        .iter()
        .fold(0i64, |s, v| s.wrapping_add(i64::from(v.wide())));
    let centred = |v: &A| i64::from(v.wide()).wrapping_mul(n).wrapping_sub(sum);
    let peak = x.iter().fold(0u64, |p, v| p.max(centred(v).unsigned_abs()));
    let e = exponent(peak);
    let half = if e > 0 { 1i64 << (e - 1) } else { 0 };
    let mut squares = 0u64;
    for (d, x) in d.iter_mut().zip(x) {
        *d = (centred(x).wrapping_add(half) >> e).clamp(-32767, 32767) as i32;
        squares = squares.wrapping_add(u64::from(d.wrapping_mul(*d) as u32));
    }
    finish(d, p, e, squares, out);
}

multiversion! {
    /// Rows of `n` 16-bit values each; `d` is scratch of `n` values.
    pub fn layer_norm16<O: Element>(x: &[i16], n: usize, p: &NormParams, d: &mut [i32], out: &mut [O]) {
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            if n <= SHORT {
                short_row(x, p, d, out);
            } else {
                long_row(x, p, d, out);
            }
        }
    }
}

multiversion! {
    /// Rows of `n` values each; `d` is scratch of `n` values.
    pub fn layer_norm<A: Element, O: Element>(x: &[A], n: usize, p: &NormParams, d: &mut [i32], out: &mut [O]) {
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            long_row(x, p, d, out);
        }
    }
}
