//! Operators of language models on rows: one body each, compiled for every tier.

use assay_graph::Requant;

use super::elementwise::{Element, Rescale};

/// `sat(rnd(v, shift))` in 64 bits with a shift known at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    shift: i32,
    lo: i64,
    hi: i64,
}

impl Wide {
    /// From a graph's parameters.
    pub fn new(out: &Requant) -> Self {
        Self {
            shift: i32::from(out.shift),
            lo: i64::from(out.lo),
            hi: i64::from(out.hi),
        }
    }
}

/// `sat(rnd(v, k))` for `|v| < 2^61` and k in −15 … 61.
#[inline(always)]
fn close(v: i64, k: i32, lo: i64, hi: i64) -> i64 {
    let (right, left) = (k.max(0) as u32, k.wrapping_neg().max(0) as u32);
    let half = 1i64.wrapping_shl(right) >> 1;
    let v = v.wrapping_add(half).wrapping_shr(right);
    // what a left shift would push out of 64 bits is beyond the clamp anyway
    v.clamp(-(1 << 33), 1 << 33)
        .wrapping_shl(left)
        .max(lo)
        .min(hi)
}

/// How two sums of 32 bits make one of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// There is one sum only.
    Alone,
    /// `256·high + low`.
    Limbs,
    /// `high` is `Σ floor(part / 2^16)` over parts of the sum, `low` the sum modulo 2^32.
    Parts,
}

multiversion! {
    /// Epilogue of a linear: `out = sat(rnd(sum + bias, shift − e))`; the sum is made of `high` and `low` as `pair` says (`low` is as long as `high`; not read when alone).
    #[allow(clippy::too_many_arguments, reason = "two sums, three columns of the epilogue, result")]
    pub fn finish_wide<O: Element>(pair: Pair, high: &[i32], low: &[i32], bias: &[i32], shift: &[i32], e: i32, how: Wide, out: &mut [O]) {
        let n = out.len();
        let (high, low, bias, shift) = (&high[..n], &low[..n], &bias[..n], &shift[..n]);
        macro_rules! each {
            ($sum:expr) => {
                for i in 0..n {
                    let sum: i64 = $sum(high[i], low[i]);
                    let k = shift[i].wrapping_sub(e).clamp(-15, 31);
                    out[i] = O::narrow(close(sum.wrapping_add(i64::from(bias[i])), k, how.lo, how.hi) as i32);
                }
            };
        }
        match pair {
            Pair::Alone => each!(|h: i32, _| i64::from(h)),
            Pair::Limbs => each!(|h: i32, l: i32| i64::from(h).wrapping_shl(8).wrapping_add(i64::from(l))),
            Pair::Parts => each!(|h: i32, l: i32| {
                let near = i64::from(h).wrapping_shl(16);
                near.wrapping_add(i64::from(l.wrapping_sub(near as i32)))
            }),
        }
    }
}

multiversion! {
    /// Epilogue of a linear whose sums stay within 2^30 and whose shifts are not negative: `add` is the bias and half of the shift's step.
    pub fn finish_narrow<O: Element>(sums: &[i32], add: &[i32], right: &[i32], lo: i32, hi: i32, out: &mut [O]) {
        for (((o, s), a), r) in out.iter_mut().zip(sums).zip(add).zip(right) {
            *o = O::narrow((s.wrapping_add(*a) >> (r & 31)).max(lo).min(hi));
        }
    }
}

multiversion! {
    /// Half-split rotation of the heads of one row by `angles`: d/2 cosines, then d/2 sines.
    pub fn rope<A: Element, O: Element>(x: &[A], angles: &[i16], how: Rescale, out: &mut [O]) {
        let d = angles.len();
        let half = d / 2;
        let (cos, sin) = angles.split_at(half);
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let (x0, x1) = x.split_at(half);
            let (o0, o1) = out.split_at_mut(half);
            for (((((o0, o1), a), b), c), s) in o0.iter_mut().zip(o1).zip(x0).zip(x1).zip(cos).zip(sin) {
                let (a, b, c, s) = (a.wide(), b.wide(), i32::from(*c), i32::from(*s));
                *o0 = O::narrow(how.apply(a.wrapping_mul(c).wrapping_sub(b.wrapping_mul(s))));
                *o1 = O::narrow(how.apply(b.wrapping_mul(c).wrapping_add(a.wrapping_mul(s))));
            }
        }
    }
}

multiversion! {
    /// `out = sat(rnd(a·b, shift))`.
    pub fn mul<A: Element, B: Element, O: Element>(a: &[A], b: &[B], how: Rescale, out: &mut [O]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            *o = O::narrow(how.apply(a.wide().wrapping_mul(b.wide())));
        }
    }
}

multiversion! {
    /// `max(0, bitlen(max|x|) − bits)` of each row of `n`.
    pub fn exponents<A: Element>(x: &[A], n: usize, bits: u32, out: &mut [i8]) {
        for (o, x) in out.iter_mut().zip(x.chunks_exact(n)) {
            let mut peak = 0u32;
            for v in x {
                peak = peak.max(v.wide().unsigned_abs());
            }
            *o = (32 - peak.leading_zeros()).saturating_sub(bits) as i8;
        }
    }
}

multiversion! {
    /// `sat(rnd(x, shift + e))` of each row of `n` by its exponent.
    pub fn normalise<A: Element, O: Element>(x: &[A], n: usize, e: &[i8], how: Wide, out: &mut [O]) {
        for ((x, out), e) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).zip(e) {
            let k = how.shift.wrapping_add(i32::from(*e)).clamp(-15, 61);
            if (1..=30).contains(&k) {
                // v >> k, and the carry of what is shifted out: no sum passes 32 bits
                let (k, half) = (k as u32, 1i32.wrapping_shl(k.wrapping_sub(1) as u32));
                let (mask, lo, hi) = (1i32.wrapping_shl(k).wrapping_sub(1), how.lo as i32, how.hi as i32);
                for (o, x) in out.iter_mut().zip(x) {
                    let v = x.wide();
                    let carry = (v & mask).wrapping_add(half).cast_unsigned().wrapping_shr(k);
                    *o = O::narrow(v.wrapping_shr(k).wrapping_add(carry.cast_signed()).max(lo).min(hi));
                }
            } else {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = O::narrow(close(i64::from(x.wide()), k, how.lo, how.hi) as i32);
                }
            }
        }
    }
}

multiversion! {
    /// `table[min(T − 1, rnd(max − s, shift))]` of one row of scores; `table` has at least one entry, the sum of the row goes to `sum`.
    pub fn causal_exp(s: &[i32], table: &[i16], shift: u32, out: &mut [i16], sum: &mut i64) {
        let mut max = i32::MIN;
        for v in s {
            max = max.max(*v);
        }
        let last = table.len() as u32 - 1;
        // differences are below 2^31 (bounds of the scores), so half of the largest shift still fits
        let half = if shift > 0 { 1u32 << (shift - 1) } else { 0 };
        let mut total = 0i64;
        for (o, v) in out.iter_mut().zip(s) {
            let step = max.wrapping_sub(*v).cast_unsigned().saturating_add(half) >> (shift & 31);
            let e = table[step.min(last) as usize];
            *o = e;
            total = total.wrapping_add(i64::from(e));
        }
        *sum = total;
    }
}

multiversion! {
    /// `sat(floor((2^(bits+1)·dot + S) / 2S))`, 0 where S is 0. `|2^(bits+1)·dot + S| < 2^52`: the quotient of the nearest doubles is then on the same side of every integer.
    pub fn divide<O: Element>(dots: &[i64], sum: i64, bits: u32, lo: i32, hi: i32, out: &mut [O]) {
        if sum <= 0 {
            for o in out.iter_mut() {
                *o = O::narrow(0.max(lo).min(hi));
            }
            return;
        }
        if sum >= 1 << 26 {
            for (o, d) in out.iter_mut().zip(dots) {
                *o = O::narrow(((d << (bits + 1)) + sum).div_euclid(2 * sum).clamp(i64::from(lo), i64::from(hi)) as i32);
            }
            return;
        }
        let divisor = (2 * sum) as f64;
        for (o, d) in out.iter_mut().zip(dots) {
            let q = (d.wrapping_shl(bits.wrapping_add(1)).wrapping_add(sum) as f64 / divisor).floor();
            // the mean of values below 2^15, times at most 2^8
            *o = O::narrow(integral(q).max(lo).min(hi));
        }
    }
}

/// An integral double within ±2^31 as an integer: its low mantissa bits after 1.5·2^52 is added.
#[inline(always)]
fn integral(q: f64) -> i32 {
    (q + 6_755_399_441_055_744.0).to_bits() as i32
}

#[cfg(test)]
mod tests {
    use assay_graph::{DType, ops};
    use proptest::prelude::*;

    use super::*;
    use crate::{Tier, simd::isa::Isa};

    fn isas() -> Vec<Isa> {
        Tier::available().into_iter().filter_map(Isa::new).collect()
    }

    proptest! {
        #[test]
        fn epilogues_equal_the_definition(rows in prop::collection::vec((any::<i32>(), any::<i32>(), any::<i32>(), -15i32..=31), 1..70), e in 0i32..20, wide: bool, lo in -60_000i32..0, hi in 0i32..60_000) {
            let out = Requant { shift: 0, dtype: DType::I32, lo, hi };
            let column = |f: fn(&(i32, i32, i32, i32)) -> i32| rows.iter().map(f).collect::<Vec<i32>>();
            let (high, low, bias, shift) = (column(|r| r.0), column(|r| r.1), column(|r| r.2), column(|r| r.3));
            let want: Vec<i32> = rows.iter().map(|(h, l, b, s)| {
                let sum = if wide { 256 * i64::from(*h) + i64::from(*l) } else { i64::from(*h) };
                ops::requant(sum + i64::from(*b), (s - e).clamp(-15, 31) as i8, &out)
            }).collect();
            for isa in isas() {
                let mut have = vec![0i32; rows.len()];
                finish_wide(isa, if wide { Pair::Limbs } else { Pair::Alone }, &high, &low, &bias, &shift, e, Wide::new(&out), &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }

        #[test]
        fn parts_make_the_sum(rows in prop::collection::vec(prop::collection::vec(any::<i32>(), 1..40), 1..20)) {
            let out = Requant { shift: 0, dtype: DType::I32, lo: i32::MIN, hi: i32::MAX };
            let high: Vec<i32> = rows.iter().map(|r| r.iter().map(|v| v >> 16).sum()).collect();
            let low: Vec<i32> = rows.iter().map(|r| r.iter().fold(0i32, |s, v| s.wrapping_add(*v))).collect();
            let want: Vec<i32> = rows.iter().map(|r| ops::requant(r.iter().map(|v| i64::from(*v)).sum(), 9, &out)).collect();
            let (bias, shift) = (vec![0; rows.len()], vec![9; rows.len()]);
            for isa in isas() {
                let mut have = vec![0i32; rows.len()];
                finish_wide(isa, Pair::Parts, &high, &low, &bias, &shift, 0, Wide::new(&out), &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }

        #[test]
        fn shared_exponents_equal_the_definition(x in prop::collection::vec(prop_oneof![any::<i32>(), -70_000i32..70_000, Just(i32::MIN)], 1..90), shift in -10i8..20, bits in 7u8..=15, extra in 0i8..40) {
            let out = Requant { shift, dtype: DType::I16, lo: -32_767, hi: 32_000 };
            let e = ops::exponent_of(&x, bits);
            for isa in isas() {
                let mut have = [0i8];
                exponents(isa, &x, x.len(), u32::from(bits), &mut have);
                prop_assert_eq!(i32::from(have[0]), e as i32);
                for e in [have[0], extra] {
                    let want: Vec<i16> = x.iter().map(|v| ops::requant(i64::from(*v), (shift + e).clamp(-15, 61), &out) as i16).collect();
                    let mut have = vec![0i16; x.len()];
                    normalise(isa, &x, x.len(), &[e], Wide::new(&out), &mut have);
                    prop_assert_eq!(&have, &want, "{}", isa.tier());
                }
            }
        }

        #[test]
        fn means_equal_the_definition(dots in prop::collection::vec((-(1i64 << 39)..1 << 39, any::<bool>()), 1..70), sum in prop_oneof![Just(0i64), 1i64..9, 1i64..1 << 28], bits in 0u32..=8) {
            let out = Requant { shift: 0, dtype: DType::I16, lo: -32_768, hi: 32_767 };
            // a weighted mean of values of 15 bits, often exactly between two integers
            let dots: Vec<i64> = dots.iter().map(|(d, edge)| { let d = d % (sum.max(1) << (22 - bits).min(15)); if *edge { d / sum.max(1) * sum } else { d } }).collect();
            let want: Vec<i16> = dots.iter().map(|d| if sum > 0 { ops::requant(((d << (bits + 1)) + sum).div_euclid(2 * sum), 0, &out) as i16 } else { 0 }).collect();
            for isa in isas() {
                let mut have = vec![0i16; dots.len()];
                divide(isa, &dots, sum, bits, out.lo, out.hi, &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }
    }
}
