//! Packing with 16 × 16 transpositions of 32-bit pairs.

use std::arch::x86_64::*;

use super::{
    elementwise::Element,
    pack::{Line16, PANEL},
};

/// `count` elements (at most 32) at `from` as `i16`, zeros after them.
///
/// # Safety
/// The CPU has the features; `count` elements are readable. `E` is `i8` or `i16`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load<E: Element>(from: *const E, count: usize) -> __m512i {
    let mask = if count == 0 {
        0
    } else {
        u32::MAX >> (32 - count.min(32))
    };
    // SAFETY: the mask leaves only readable elements.
    unsafe {
        if size_of::<E>() == 1 {
            _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, from.cast()))
        } else {
            _mm512_maskz_loadu_epi16(mask, from.cast())
        }
    }
}

/// Line `i` of the result is 32-bit element `i` of each of 16 rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut u = [_mm512_setzero_si512(); 16];
    for g in 0..4 {
        let (a, b, c, d) = (r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]);
        let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        u[4 * g] = _mm512_unpacklo_epi64(ab0, cd0);
        u[4 * g + 1] = _mm512_unpackhi_epi64(ab0, cd0);
        u[4 * g + 2] = _mm512_unpacklo_epi64(ab1, cd1);
        u[4 * g + 3] = _mm512_unpackhi_epi64(ab1, cd1);
    }
    // 128-bit lane L of u[4g + j] is now element 4L + j of rows 4g … 4g + 3
    let mut out = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let even = [
            _mm512_shuffle_i32x4::<0x88>(u[j], u[4 + j]),
            _mm512_shuffle_i32x4::<0x88>(u[8 + j], u[12 + j]),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(u[j], u[4 + j]),
            _mm512_shuffle_i32x4::<0xdd>(u[8 + j], u[12 + j]),
        ];
        out[j] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        out[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        out[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    out
}

/// Vector twin of `fill_rows`: one panel from up to 16 rows of `k` elements, `stride` apart.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL; `n <= 16` rows of `k` elements are readable; `E` is `i8` or `i16`; `panel` has `ceil(k / 2)` lines or more.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn rows<E: Element>(
    from: *const E,
    stride: usize,
    n: usize,
    k: usize,
    panel: &mut [Line16],
) {
    for (b, lines) in panel.chunks_mut(PANEL).enumerate() {
        let mut r = [_mm512_setzero_si512(); 16];
        for (i, r) in r.iter_mut().enumerate().take(n) {
            let at = from
                .wrapping_add(i.wrapping_mul(stride))
                .wrapping_add(b.wrapping_mul(32));
            // SAFETY: row `i < n` has `k` elements, `k − 32b` of them from `at`.
            *r = unsafe { load(at, k.saturating_sub(b * 32)) };
        }
        for (line, v) in lines.iter_mut().zip(transposed(r)) {
            // SAFETY: a line is 64 aligned bytes.
            unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), v) };
        }
    }
}

/// Vector twin of `fill_columns`: one panel from `k` rows of up to 16 elements, `stride` apart.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL; `k` rows of `n <= 16` elements are readable; `E` is `i8` or `i16`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn columns<E: Element>(
    from: *const E,
    stride: usize,
    n: usize,
    k: usize,
    panel: &mut [Line16],
) {
    let row = |i: usize| {
        let count = if i < k { n } else { 0 };
        // SAFETY: row `i` has `n` elements, or none is read.
        _mm512_castsi512_si256(unsafe { load(from.wrapping_add(i.wrapping_mul(stride)), count) })
    };
    for (s, line) in panel.iter_mut().enumerate() {
        let (even, odd) = (
            _mm512_cvtepu16_epi32(row(2 * s)),
            _mm512_cvtepu16_epi32(row(2 * s + 1)),
        );
        let v = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
        // SAFETY: a line is 64 aligned bytes.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), v) };
    }
}
