//! Softmax of rows with an exponential table and exact division.

use super::{
    elementwise::Element,
    isa::{Isa, Tier},
};

/// Table and parameters.
#[derive(Clone, Debug)]
pub struct SoftmaxParams {
    /// Exponentials: non-negative, non-increasing, the first above 0, the last 0.
    table: Vec<i32>,
    /// The table in 16 bits, padded with zeros to whole pairs of registers.
    padded: Vec<i16>,
    /// Right shift from differences to table steps, 0 … 31.
    shift: u32,
    /// Fractional bits of the result, 1 … 14.
    bits: u32,
}

impl SoftmaxParams {
    /// From a graph's table (`i16` values) and parameters.
    pub fn new(table: Vec<i32>, shift: u32, bits: u32) -> Self {
        let mut padded: Vec<i16> = table.iter().map(|e| *e as i16).collect();
        padded.resize(table.len().next_multiple_of(64), 0);
        Self {
            table,
            padded,
            shift: shift.min(31),
            bits: bits.clamp(1, 14),
        }
    }
}

/// Rows of `n` values each; `e` is scratch of `n` values.
///
/// # Panics
/// When slices are not whole rows or the table is empty: a caller's bug.
pub fn softmax(isa: Isa, x: &[i16], n: usize, p: &SoftmaxParams, e: &mut [i16], out: &mut [i16]) {
    assert!(
        n <= 1 << 16
            && n > 0
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
    e: &mut [i16],
    out: &mut [i16],
) {
    for (x, out) in x.chunks_exact(n.max(1)).zip(out.chunks_exact_mut(n.max(1))) {
        row(x, p, e, out);
    }
}

/// Scalar twin of the vector kernel.
fn row<A: Element>(x: &[A], p: &SoftmaxParams, e: &mut [i16], out: &mut [i16]) {
    let max = x.iter().map(|v| v.wide()).max().map_or(0, i64::from);
    let half = if p.shift > 0 {
        1i64 << (p.shift - 1)
    } else {
        0
    };
    let mut sum = 0i64;
    for (e, x) in e.iter_mut().zip(x) {
        let step = (max - i64::from(x.wide()) + half) >> p.shift;
        *e = p.padded[(step as usize).min(p.table.len() - 1)];
        sum += i64::from(*e);
    }
    for (o, e) in out.iter_mut().zip(e.iter()) {
        *o = divide(i32::from(*e), sum, p.bits);
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

    use super::SoftmaxParams;

    /// Elements of a vector.
    const LANES: usize = 32;
    /// Entries that two registers hold.
    const CHUNK: usize = 64;
    /// Tables of at most this many chunks are looked up in registers, longer ones with gathers.
    const CHUNKS: usize = 20;

    /// Lanes `at … at + 32` that exist in a row of `n`.
    fn lanes(n: usize, at: usize) -> u32 {
        u32::MAX >> (LANES - (n - at).min(LANES))
    }

    /// `table[step]` of 32 lanes.
    ///
    /// # Safety
    /// The CPU has the features; every step is below the table's length; `p.padded` holds the table.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn exponentials(p: &SoftmaxParams, step: __m512i) -> __m512i {
        let chunks = p.padded.as_chunks::<CHUNK>().0;
        if chunks.len() <= CHUNKS {
            let (high, mut e) = (_mm512_srli_epi16::<6>(step), _mm512_setzero_si512());
            for (c, chunk) in chunks.iter().enumerate() {
                // SAFETY: a chunk is two registers.
                let (low, up) = unsafe {
                    (
                        _mm512_loadu_si512(chunk.as_ptr().cast()),
                        _mm512_loadu_si512(chunk.as_ptr().wrapping_add(LANES).cast()),
                    )
                };
                let here = _mm512_cmpeq_epi16_mask(high, _mm512_set1_epi16(c as i16));
                e = _mm512_or_si512(e, _mm512_maskz_permutex2var_epi16(here, low, step, up));
            }
            return e;
        }
        let half = |step: __m256i| {
            // SAFETY: the caller promises that every step is an index of the table.
            let e = unsafe {
                _mm512_i32gather_epi32::<4>(_mm512_cvtepu16_epi32(step), p.table.as_ptr().cast())
            };
            _mm512_cvtepi32_epi16(e)
        };
        let (low, high) = (
            half(_mm512_castsi512_si256(step)),
            half(_mm512_extracti64x4_epi64::<1>(step)),
        );
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    }

    /// `floor((2^(bits+1)·e + S) / 2S)` of 16 lanes, with `m = floor(2^31 / S)`.
    ///
    /// `e·m / 2^(31−bits)` is below `e·2^bits / S` by at most `e / 2^17 < 1/4`, so that the first quotient is right or one too small. Everything fits 32 bits
    /// unsigned because `e <= S < 2^31` and `e < 2^15`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn quotient(e: __m512i, m: __m512i, sum: __m512i, bits: u32) -> __m512i {
        let t = 31 - bits;
        let estimate = _mm512_add_epi32(_mm512_mullo_epi32(e, m), _mm512_set1_epi32(1 << (t - 1)));
        let q = _mm512_srl_epi32(estimate, _mm_cvtsi32_si128(t as i32));
        let divisor = _mm512_add_epi32(sum, sum);
        let numerator =
            _mm512_add_epi32(_mm512_sll_epi32(e, _mm_cvtsi32_si128(bits as i32 + 1)), sum);
        let rest = _mm512_sub_epi32(numerator, _mm512_mullo_epi32(q, divisor));
        _mm512_mask_add_epi32(
            q,
            _mm512_cmpge_epu32_mask(rest, divisor),
            q,
            _mm512_set1_epi32(1),
        )
    }

    /// # Safety
    /// The CPU has AVX-512 F, BW, DQ, VL; `e` and `out` are as long as `x`, at most 65,536; the table is not empty and ends in the padded one.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn row(x: &[i16], p: &SoftmaxParams, e: &mut [i16], out: &mut [i16]) {
        let n = x.len();
        let lowest = _mm512_set1_epi16(i16::MIN);
        let load = |from: &[i16], at: usize, otherwise: __m512i| {
            // SAFETY: the mask leaves only elements of the row.
            unsafe {
                _mm512_mask_loadu_epi16(otherwise, lanes(n, at), from.as_ptr().wrapping_add(at))
            }
        };
        let mut peak = lowest;
        for at in (0..n).step_by(LANES) {
            peak = _mm512_max_epi16(peak, load(x, at, lowest));
        }
        let halves = _mm256_max_epi16(
            _mm512_castsi512_si256(peak),
            _mm512_extracti64x4_epi64::<1>(peak),
        );
        let max = _mm512_set1_epi16(_mm512_reduce_max_epi32(_mm512_cvtepi16_epi32(halves)) as i16);
        let before = _mm_cvtsi32_si128(p.shift.saturating_sub(1) as i32);
        let last = _mm512_set1_epi16((p.table.len() - 1) as i16);
        let mut sums = _mm512_setzero_si512();
        for at in (0..n).step_by(LANES) {
            // differences are 16 bits unsigned
            let mut step = _mm512_sub_epi16(max, load(x, at, lowest));
            if p.shift > 0 {
                // (d + 2^(s−1)) >> s = ((d >> (s−1)) + 1) >> 1
                step = _mm512_avg_epu16(_mm512_srl_epi16(step, before), _mm512_setzero_si512());
            }
            let mask = lanes(n, at);
            // SAFETY: steps are at most the last index; the store stays within the row.
            unsafe {
                let v = _mm512_maskz_mov_epi16(mask, exponentials(p, _mm512_min_epu16(step, last)));
                _mm512_mask_storeu_epi16(e.as_mut_ptr().wrapping_add(at), mask, v);
                sums = _mm512_add_epi32(sums, _mm512_madd_epi16(v, _mm512_set1_epi16(1)));
            }
        }
        // at most 65,536 terms of at most 32,767; a table that starts with 0 gives zeros
        let sum = _mm512_reduce_add_epi32(sums).cast_unsigned().max(1);
        let (m, sum) = (
            _mm512_set1_epi32(((1u32 << 31) / sum).cast_signed()),
            _mm512_set1_epi32(sum.cast_signed()),
        );
        for at in (0..n).step_by(LANES) {
            let v = load(e, at, _mm512_setzero_si512());
            let low = quotient(
                _mm512_cvtepu16_epi32(_mm512_castsi512_si256(v)),
                m,
                sum,
                p.bits,
            );
            let high = quotient(
                _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(v)),
                m,
                sum,
                p.bits,
            );
            let q = _mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)),
                _mm512_cvtepi32_epi16(high),
            );
            // SAFETY: the mask leaves only elements of the row.
            unsafe { _mm512_mask_storeu_epi16(out.as_mut_ptr().wrapping_add(at), lanes(n, at), q) };
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
            mut table in prop::collection::vec(prop_oneof![0i32..=32767, 0i32..20, Just(32767)], 1usize..2200),
            shift in 0u32..=31,
            bits in 1u32..=14,
        ) {
            table.sort_unstable_by(|a, b| b.cmp(a));
            table[0] = table[0].max(1);
            table.push(0);
            let exps = softmax_exp(&x.iter().map(|v| i32::from(*v)).collect::<Vec<_>>(), &table, shift as u8);
            let sum: i64 = exps.iter().sum();
            let want: Vec<i16> = exps.iter().map(|e| (((e << (bits + 1)) + sum) / (2 * sum)) as i16).collect();
            let p = SoftmaxParams::new(table, shift, bits);
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let (mut have, mut e) = (vec![0i16; x.len()], vec![0i16; x.len()]);
                softmax(isa, &x, x.len(), &p, &mut e, &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }
    }
}
