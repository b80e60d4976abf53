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
    // |d·Y| <= 2^44 in two 32-bit products: with Y = 2^15·h + l, (d·Y + 2^13) >> 14 = 2·d·h + ((d·l + 2^13) >> 14)
    let y = inverse_sqrt(v) as i32;
    let (high, low) = (y >> 15, y & 0x7fff);
    for (((o, d), gain), bias) in out.iter_mut().zip(d).zip(&p.gain).zip(&p.bias) {
        let rest = d.wrapping_mul(low).wrapping_add(1 << 13) >> 14;
        let u = d.wrapping_mul(high).wrapping_mul(2).wrapping_add(rest);
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
    // squares are below 2^30; their halves are added apart so that 2^14 of them fit 32 bits
    let (mut high, mut low) = (0u32, 0u32);
    for d in d.iter_mut() {
        *d = shrink(*d, e);
        let square = d.wrapping_mul(*d).cast_unsigned();
        high = high.wrapping_add(square >> 16);
        low = low.wrapping_add(square & 0xffff);
    }
    let squares = (u64::from(high) << 16) + u64::from(low);
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

#[inline(always)]
fn rms_row<A: Element, O: Element>(x: &[A], p: &NormParams, d: &mut [i32], out: &mut [O]) {
    let mut peak = 0u32;
    for v in x {
        peak = peak.max(v.wide().unsigned_abs());
    }
    let e = exponent(u64::from(peak));
    let half = if e > 0 {
        1i32.wrapping_shl(e.wrapping_sub(1))
    } else {
        0
    };
    let mask = half.wrapping_add(half).wrapping_sub(1).max(0);
    let (mut high, mut low) = (0u64, 0u64);
    for (d, x) in d.chunks_mut(SHORT).zip(x.chunks(SHORT)) {
        // squares are below 2^30; their halves are added apart so that 2^14 of them fit 32 bits
        let (mut up, mut down) = (0u32, 0u32);
        for (d, x) in d.iter_mut().zip(x) {
            // (v + half) >> e without passing 32 bits: v >> e, and the carry of what is shifted out
            let v = x.wide();
            let rest = (v & mask).wrapping_add(half);
            let carry = if e > 0 {
                rest.cast_unsigned() >> (e & 31)
            } else {
                0
            };
            *d = (v >> (e & 31))
                .wrapping_add(carry.cast_signed())
                .clamp(-32767, 32767);
            let square = d.wrapping_mul(*d).cast_unsigned();
            up = up.wrapping_add(square >> 16);
            down = down.wrapping_add(square & 0xffff);
        }
        high = high.wrapping_add(u64::from(up));
        low = low.wrapping_add(u64::from(down));
    }
    finish(d, p, e, (high << 16).wrapping_add(low), out);
}

multiversion! {
    /// Rows of `n` values each, normalised by their root mean square; `d` is scratch of `n` values.
    pub fn rms_norm<A: Element, O: Element>(x: &[A], n: usize, p: &NormParams, d: &mut [i32], out: &mut [O]) {
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            rms_row(x, p, d, out);
        }
    }
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

#[cfg(test)]
mod tests {
    use assay_graph::{DType, Requant, ops};
    use proptest::prelude::*;

    use super::*;
    use crate::{Tier, simd::isa::Isa};

    fn check<A: Element>(x: &[A], p: &NormParams, out: &Requant) -> Result<(), TestCaseError> {
        let unit = ops::layer_norm_unit(&x.iter().map(|v| v.wide()).collect::<Vec<_>>(), p.eps);
        let of = |(j, u): (usize, &i32)| {
            ops::requant(
                i64::from(*u) * i64::from(p.gain[j]) + i64::from(p.bias[j]),
                out.shift,
                out,
            ) as i16
        };
        let want: Vec<i16> = unit.iter().enumerate().map(of).collect();
        for isa in Tier::available().into_iter().filter_map(Isa::new) {
            let (mut have, mut d) = (vec![0i16; x.len()], vec![0i32; x.len()]);
            layer_norm(isa, x, x.len(), p, &mut d, &mut have);
            prop_assert_eq!(&have, &want, "{}", isa.tier());
            let narrow: Vec<i16> = x.iter().map(|v| v.wide() as i16).collect();
            if narrow.iter().zip(x).all(|(a, b)| i32::from(*a) == b.wide()) {
                have.fill(0);
                layer_norm16(isa, &narrow, x.len(), p, &mut d, &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn rms_rows_equal_the_definition(
            x in prop::collection::vec(prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX), -40_000i32..40_000, -3i32..3], 1..400),
            bits in 0u32..31,
            params in prop::collection::vec((any::<i16>(), -(1i32 << 20)..1 << 20), 400),
            eps in prop_oneof![Just(0u64), Just(1), any::<u64>().prop_map(|e| e >> 2), Just(1 << 62)],
            shift in 0i8..20,
        ) {
            let x: Vec<i32> = x.iter().map(|v| v >> bits).collect();
            let out = Requant { shift, dtype: DType::I16, lo: -32_768, hi: 32_767 };
            let unit = ops::rms_norm_unit(&x, eps);
            let want: Vec<i16> = unit.iter().zip(&params).map(|(u, (g, b))| ops::requant(i64::from(*u) * i64::from(g / 2) + i64::from(*b), shift, &out) as i16).collect();
            let (gain, bias) = params.iter().map(|(g, b)| (i32::from(*g) / 2, *b)).unzip();
            let p = NormParams { gain, bias, eps, how: Rescale::new(&out) };
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let (mut have, mut d) = (vec![0i16; x.len()], vec![0i32; x.len()]);
                rms_norm(isa, &x, x.len(), &p, &mut d, &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }

        #[test]
        fn rows_equal_the_definition(
            wide in prop::collection::vec(prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX)], 1..400),
            narrow in prop::collection::vec(prop_oneof![any::<i16>(), Just(i16::MIN), Just(i16::MAX), -3i16..3], 1..700),
            params in prop::collection::vec((any::<i16>(), -(1i32 << 20)..1 << 20), 700),
            eps in prop_oneof![Just(0u64), Just(1), any::<u64>().prop_map(|e| e >> 2), Just(1 << 62)],
            shift in 0i8..20,
        ) {
            let out = Requant { shift, dtype: DType::I16, lo: -32_768, hi: 32_767 };
            let (gain, bias) = params.iter().map(|(g, b)| (i32::from(*g) / 2, *b)).unzip();
            let p = NormParams { gain, bias, eps, how: Rescale::new(&out) };
            check(&wide, &p, &out)?;
            check(&narrow, &p, &out)?;
        }
    }
}
