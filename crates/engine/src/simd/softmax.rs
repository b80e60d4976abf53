//! Softmax of rows with an exponential table and exact division.

use super::{
    elementwise::Element,
    isa::{Isa, Tier},
};

/// Table and parameters.
#[derive(Clone, Debug)]
pub struct SoftmaxParams {
    /// Exponentials: non-negative, non-increasing, the first above 0, the last 0.
    pub table: Vec<i32>,
    /// Right shift from differences to table steps, 0 … 31.
    pub shift: u32,
    /// Fractional bits of the result, 1 … 14.
    pub bits: u32,
}

/// Rows of `n` values each; `e` is scratch of `n` values.
///
/// # Panics
/// When slices are not whole rows or the table is empty: a caller's bug.
pub fn softmax(isa: Isa, x: &[i16], n: usize, p: &SoftmaxParams, e: &mut [i32], out: &mut [i16]) {
    assert!(
        n > 0
            && x.len() == out.len()
            && x.len().is_multiple_of(n)
            && e.len() >= n
            && !p.table.is_empty(),
        "softmax of ragged rows"
    );
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        match isa.tier() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `isa` shows the CPU has the features; lengths are checked above.
            Tier::Avx512Vnni => unsafe { avx512::row(x, p, &mut e[..n], out) },
            _ => row(x, p, &mut e[..n], out),
        }
    }
}

/// The same for element types other than `i16`, which no encoder uses: the scalar body only.
///
/// # Panics
/// When the table is empty: a caller's bug.
pub fn softmax_any<A: Element>(
    x: &[A],
    n: usize,
    p: &SoftmaxParams,
    e: &mut [i32],
    out: &mut [i16],
) {
    for (x, out) in x.chunks_exact(n.max(1)).zip(out.chunks_exact_mut(n.max(1))) {
        row(x, p, e, out);
    }
}

/// Scalar twin of the vector kernel.
fn row<A: Element>(x: &[A], p: &SoftmaxParams, e: &mut [i32], out: &mut [i16]) {
    let max = x.iter().map(|v| v.wide()).max().map_or(0, i64::from);
    let half = if p.shift > 0 {
        1i64 << (p.shift - 1)
    } else {
        0
    };
    let mut sum = 0i64;
    for (e, x) in e.iter_mut().zip(x) {
        let step = (max - i64::from(x.wide()) + half) >> p.shift;
        *e = p.table[(step as usize).min(p.table.len() - 1)];
        sum += i64::from(*e);
    }
    for (o, e) in out.iter_mut().zip(e.iter()) {
        *o = divide(*e, sum, p.bits);
    }
}

/// `floor((2^(bits+1)·e + S) / 2S)`; 0 when nothing is left to divide by.
fn divide(e: i32, sum: i64, bits: u32) -> i16 {
    ((i64::from(e) << (bits + 1)) + sum)
        .checked_div(2 * sum)
        .unwrap_or(0) as i16
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{SoftmaxParams, divide};

    /// Lanes `at … at + 16` that exist in a row of `n`.
    fn lanes(n: usize, at: usize) -> u16 {
        0xffffu16 >> (16 - (n - at).min(16))
    }

    /// Quotients of the 8 low halves of 64-bit lanes: `floor(num / div)` with `m = floor(2^40 / div)`.
    ///
    /// `num·m / 2^40` is at most `num / 2^40 < 2^-8` below `num / div`, so its floor is the quotient or one less.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn quotient(num: __m512i, m: __m512i, div: __m512i) -> __m512i {
        let q = _mm512_srli_epi64::<40>(_mm512_mul_epu32(num, m));
        let rest = _mm512_sub_epi64(num, _mm512_mul_epu32(q, div));
        _mm512_mask_add_epi64(
            q,
            _mm512_cmpge_epu64_mask(rest, div),
            q,
            _mm512_set1_epi64(1),
        )
    }

    /// # Safety
    /// The CPU has AVX-512 F, BW, DQ, VL; `e` and `out` are as long as `x`; the table is not empty.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn row(x: &[i16], p: &SoftmaxParams, e: &mut [i32], out: &mut [i16]) {
        let n = x.len();
        let widen = |at: usize, mask: u16| {
            // SAFETY: the mask leaves only elements of the row.
            _mm512_cvtepi16_epi32(unsafe {
                _mm256_maskz_loadu_epi16(mask, x.as_ptr().wrapping_add(at))
            })
        };
        let mut peak = _mm512_set1_epi32(i32::MIN);
        for at in (0..n).step_by(16) {
            let mask = lanes(n, at);
            peak = _mm512_mask_max_epi32(peak, mask, peak, widen(at, mask));
        }
        let max = _mm512_set1_epi32(_mm512_reduce_max_epi32(peak));
        // differences are below 2^16: a shift of 17 or more leaves 0 except for rounding, which the 32-bit sum below still holds
        let half = _mm512_set1_epi32(if p.shift > 0 {
            1i32 << (p.shift - 1)
        } else {
            0
        });
        let shift = _mm512_set1_epi32(p.shift as i32);
        let last = _mm512_set1_epi32(p.table.len() as i32 - 1);
        let mut sums = _mm512_setzero_si512();
        for at in (0..n).step_by(16) {
            let mask = lanes(n, at);
            let d = _mm512_sub_epi32(max, widen(at, mask));
            let step = _mm512_min_epu32(_mm512_srlv_epi32(_mm512_add_epi32(d, half), shift), last);
            // SAFETY: indices are at most the table's last one; masked lanes are not read. Stores stay within the row.
            unsafe {
                let v = _mm512_mask_i32gather_epi32::<4>(
                    _mm512_setzero_si512(),
                    mask,
                    step,
                    p.table.as_ptr().cast(),
                );
                _mm512_mask_storeu_epi32(e.as_mut_ptr().wrapping_add(at), mask, v);
                sums = _mm512_add_epi32(sums, v);
            }
        }
        // at most 65,536 terms of at most 32,767
        let sum = i64::from(_mm512_reduce_add_epi32(sums).cast_unsigned());
        // the reciprocal must fit 32 bits, and the numerator 2^(bits+1)·e + S too
        if sum <= 128 || sum >= 1 << 31 {
            for (o, e) in out.iter_mut().zip(e.iter()) {
                *o = divide(*e, sum, p.bits);
            }
            return;
        }
        let div = _mm512_set1_epi64(2 * sum);
        let m = _mm512_set1_epi64((1i64 << 40) / (2 * sum));
        let (bits, add) = (
            _mm512_set1_epi32(p.bits as i32 + 1),
            _mm512_set1_epi32(sum as i32),
        );
        for at in (0..n).step_by(16) {
            let mask = lanes(n, at);
            // SAFETY: the masks leave only elements of the rows.
            unsafe {
                let v = _mm512_maskz_loadu_epi32(mask, e.as_ptr().wrapping_add(at));
                let num = _mm512_add_epi32(_mm512_sllv_epi32(v, bits), add);
                let low = _mm512_and_si512(num, _mm512_set1_epi64(0xffff_ffff));
                let even = quotient(low, m, div);
                let odd = quotient(_mm512_srli_epi64::<32>(num), m, div);
                let q = _mm512_or_si512(even, _mm512_slli_epi64::<32>(odd));
                _mm256_mask_storeu_epi16(
                    out.as_mut_ptr().wrapping_add(at),
                    mask,
                    _mm512_cvtepi32_epi16(q),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_graph::ops::softmax_exp;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_equal_the_definition(
            x in prop::collection::vec(prop_oneof![any::<i16>(), -40i16..40, Just(i16::MIN), Just(i16::MAX)], 1..80),
            mut table in prop::collection::vec(prop_oneof![0i32..=32767, 0i32..20, Just(32767)], 1..300),
            shift in 0u32..=31,
            bits in 1u32..=14,
        ) {
            table.sort_unstable_by(|a, b| b.cmp(a));
            table[0] = table[0].max(1);
            table.push(0);
            let exps = softmax_exp(&x.iter().map(|v| i32::from(*v)).collect::<Vec<_>>(), &table, shift as u8);
            let sum: i64 = exps.iter().sum();
            let want: Vec<i16> = exps.iter().map(|e| (((e << (bits + 1)) + sum) / (2 * sum)) as i16).collect();
            let p = SoftmaxParams { table, shift, bits };
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let (mut have, mut e) = (vec![0i16; x.len()], vec![0i32; x.len()]);
                softmax(isa, &x, x.len(), &p, &mut e, &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }
    }
}
