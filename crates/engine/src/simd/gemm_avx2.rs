//! AVX2 micro-kernel: `vpmaddwd` and 32-bit additions, both modulo 2^32, hence exact.

use std::arch::x86_64::*;

use super::{
    columns::Columns,
    gemm::{Dest, Left16, Right},
    pack::{Line16, PANEL},
};

/// Rows of a tile: 6 × 2 accumulators, 2 weight registers, 1 broadcast, 1 product.
const ROWS: usize = 6;

macro_rules! each_row {
    ($n:expr, $i:ident, $b:block) => { each_row!(@ $n, $i, [0 1 2 3 4 5], $b) };
    (@ $n:expr, $i:ident, [$($c:literal)*], $b:block) => { $( { const $i: usize = $c; if $c < $n $b } )* };
}

/// Accumulators of `MR` rows and one panel.
///
/// # Safety
/// The CPU has AVX2; `MR` rows of `2·steps` values are readable at `a` and `steps` lines at `w`.
#[target_feature(enable = "avx2")]
unsafe fn tile<const MR: usize>(
    a: *const i16,
    stride: usize,
    w: *const Line16,
    steps: usize,
    acc: &mut [i32; ROWS * PANEL],
) {
    let mut sum = [[_mm256_setzero_si256(); 2]; MR];
    for s in 0..steps {
        // SAFETY: `s < steps`, so the line and the pairs of the rows exist.
        unsafe {
            let line = w.wrapping_add(s).cast::<__m256i>();
            let (w0, w1) = (
                _mm256_load_si256(line),
                _mm256_load_si256(line.wrapping_add(1)),
            );
            let at = a.wrapping_add(s.wrapping_mul(2));
            each_row!(MR, I, {
                let x = _mm256_set1_epi32(
                    at.wrapping_add(I.wrapping_mul(stride))
                        .cast::<i32>()
                        .read_unaligned(),
                );
                sum[I][0] = _mm256_add_epi32(sum[I][0], _mm256_madd_epi16(x, w0));
                sum[I][1] = _mm256_add_epi32(sum[I][1], _mm256_madd_epi16(x, w1));
            });
        }
    }
    each_row!(MR, I, {
        // SAFETY: `acc` has `ROWS ≥ MR` rows of 16.
        unsafe {
            let row = acc.as_mut_ptr().wrapping_add(I * PANEL).cast::<__m256i>();
            _mm256_storeu_si256(row, sum[I][0]);
            _mm256_storeu_si256(row.wrapping_add(1), sum[I][1]);
        }
    });
}

/// Rows × panels of one block of the left operand.
///
/// # Safety
/// The CPU has AVX2. The checks of [`super::gemm::gemm16`] hold for `a`, `w`, `cols` and rows of `dest` from `at`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn block16(
    a: Left16<'_>,
    w: Right<'_, Line16>,
    cols: &Columns,
    dest: &mut Dest<'_>,
    at: usize,
) {
    let mut acc = [0i32; ROWS * PANEL];
    for (p, panel) in w
        .lines
        .chunks_exact(w.steps)
        .take(w.n.div_ceil(PANEL))
        .enumerate()
    {
        let n = PANEL.min(w.n - p * PANEL);
        for i in (0..a.rows).step_by(ROWS) {
            let rows = ROWS.min(a.rows - i);
            let (x, stride, l, steps) = (
                a.data[i * a.stride..].as_ptr(),
                a.stride,
                panel.as_ptr(),
                w.steps,
            );
            // SAFETY: rows `i … i + rows` and the lines of the panel are within the checked slices.
            unsafe {
                match rows {
                    1 => tile::<1>(x, stride, l, steps, &mut acc),
                    2 => tile::<2>(x, stride, l, steps, &mut acc),
                    3 => tile::<3>(x, stride, l, steps, &mut acc),
                    4 => tile::<4>(x, stride, l, steps, &mut acc),
                    5 => tile::<5>(x, stride, l, steps, &mut acc),
                    _ => tile::<6>(x, stride, l, steps, &mut acc),
                }
            }
            let at = at + i * dest.stride + p * PANEL;
            cols.finish_block(
                &acc[..rows * PANEL],
                PANEL,
                w.j0 + p * PANEL,
                n,
                &mut dest.out,
                at,
                dest.stride,
            );
        }
    }
}
