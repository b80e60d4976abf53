//! Products whose sums pass 32 bits: the reduction is cut into parts that don't, and two sums are kept of them.
//!
//! `high = Σ floor(part / 2^16)` and `low = Σ part` modulo 2^32 determine the sum: `2^16·high` is below it by less than 2^16 for each part
//! ([`super::language::Pair::Parts`]). Adding a part costs five instructions beside the dot products of its columns.

use super::{
    columns::Columns,
    elementwise::Element,
    gemm::{Dest, Form, Left16, Right, gemm16},
    isa::{Isa, Tier},
    pack::{Line16, PANEL},
};

/// Where the two sums go: row i starts at `i·stride`, whole panels.
pub struct Parts<'a> {
    /// `Σ floor(part / 2^16)`.
    pub high: &'a mut [i32],
    /// `Σ part` modulo 2^32.
    pub low: &'a mut [i32],
    /// Distance of rows.
    pub stride: usize,
}

/// `i16 × i16` product in parts of `2·steps` columns; `w.n` columns from the first panel on, `w.j0` is not read.
///
/// # Panics
/// When a slice is shorter than the shapes say: a caller's bug, checked because the kernels rely on it.
pub fn gemm_parts(
    isa: Isa,
    a: Left16<'_>,
    w: Right<'_, Line16>,
    steps: usize,
    raw: &Columns,
    out: &mut Parts<'_>,
) {
    if a.rows == 0 || w.n == 0 {
        return;
    }
    let panels = w.n.div_ceil(PANEL);
    assert!(
        steps > 0 && w.lines.len() >= panels * w.steps,
        "packed panels too short"
    );
    assert!(
        a.data.len() >= (a.rows - 1) * a.stride + w.steps * 2,
        "left operand too short"
    );
    let need = (a.rows - 1) * out.stride + panels * PANEL;
    assert!(
        out.stride >= panels * PANEL && out.high.len() >= need && out.low.len() >= need,
        "sums too short"
    );
    match isa.tier() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` shows the CPU has the features; the assertions above are the kernel's conditions.
        Tier::Avx512Vnni => unsafe { avx512::product(a, w, steps, out) },
        _ => by_parts(isa, a, w, steps, raw, out),
    }
}

/// The same by one product of [`gemm16`] for each part: the twin of the vector kernel.
fn by_parts(
    isa: Isa,
    a: Left16<'_>,
    w: Right<'_, Line16>,
    steps: usize,
    raw: &Columns,
    out: &mut Parts<'_>,
) {
    let panels = w.n.div_ceil(PANEL);
    let n = panels * PANEL;
    let mut sums = vec![0i32; a.rows * n];
    let mut lines = Vec::new();
    // parts of an even number of lines, as the kernels ask
    let steps = steps.next_multiple_of(2);
    for from in (0..w.steps).step_by(steps) {
        let count = steps.min(w.steps - from);
        lines.clear();
        for p in 0..panels {
            lines.extend_from_slice(&w.lines[p * w.steps + from..][..count]);
        }
        let part = Right {
            lines: &lines,
            steps: count,
            n,
            j0: 0,
        };
        let left = Left16 {
            data: &a.data[2 * from..],
            ..a
        };
        gemm16(
            isa,
            Form::Plain,
            left,
            part,
            raw,
            &mut Dest {
                out: i32::out(&mut sums),
                at: 0,
                stride: n,
            },
        );
        for (r, sums) in sums.chunks_exact(n).enumerate() {
            let at = r * out.stride;
            for ((h, l), s) in out.high[at..].iter_mut().zip(&mut out.low[at..]).zip(sums) {
                let start = from == 0;
                *h = (s >> 16).wrapping_add(if start { 0 } else { *h });
                *l = s.wrapping_add(if start { 0 } else { *l });
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::Parts;
    use crate::simd::{
        gemm::{Left16, Right},
        gemm_avx512::{dot16, group, tiles},
        pack::{Line16, PANEL},
    };

    /// Rows of a tile: 8 × 3 accumulators, 3 weight registers, 1 broadcast.
    const ROWS: usize = 8;

    // Register arrays stay in registers only when every index is a constant, so loops over them are written out.
    macro_rules! each {
        ($n:expr, $i:ident, [$($c:literal)*], $b:block) => { $( { const $i: usize = $c; if $c < $n $b } )* };
    }
    macro_rules! each_row {
        ($n:expr, $i:ident, $b:block) => { each!($n, $i, [0 1 2 3 4 5 6 7], $b) };
    }
    macro_rules! each_col {
        ($n:expr, $i:ident, $b:block) => { each!($n, $i, [0 1 2], $b) };
    }

    struct Tile {
        a: *const i16,
        stride: usize,
        w: *const Line16,
        steps: usize,
        part: usize,
        prefetch: *const Line16,
        high: *mut i32,
        low: *mut i32,
        out_stride: usize,
    }

    /// # Safety
    /// The CPU has the features; `MR` rows of `2·steps` values are readable at `a`, `NV` panels at `w`; `16·NV` sums of `MR` rows are writable.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn tile<const MR: usize, const NV: usize>(t: &Tile) {
        let mut from = 0;
        while from < t.steps {
            let end = from.wrapping_add(t.part).min(t.steps);
            let mut acc = [[_mm512_setzero_si512(); NV]; MR];
            for s in from..end {
                let mut w = [_mm512_setzero_si512(); NV];
                // SAFETY: `s < steps`, so the lines and the values of the rows exist. A prefetch reads nothing.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T1>(t.prefetch.wrapping_add(s).cast());
                    let line = t.w.wrapping_add(s);
                    each_col!(NV, J, {
                        w[J] = _mm512_load_si512(line.wrapping_add(J.wrapping_mul(t.steps)).cast());
                    });
                    let at = t.a.wrapping_add(s.wrapping_mul(2));
                    each_row!(MR, I, {
                        let x = at.wrapping_add(I.wrapping_mul(t.stride)).cast::<i32>();
                        let x = _mm512_set1_epi32(x.read_unaligned());
                        each_col!(NV, J, {
                            acc[I][J] = dot16(acc[I][J], x, w[J]);
                        });
                    });
                }
            }
            // SAFETY: the caller promises the sums.
            unsafe {
                each_row!(MR, I, {
                    each_col!(NV, J, {
                        let at = I.wrapping_mul(t.out_stride).wrapping_add(J * PANEL);
                        let (high, low) = (t.high.wrapping_add(at), t.low.wrapping_add(at));
                        let (mut h, mut l) = (_mm512_srai_epi32::<16>(acc[I][J]), acc[I][J]);
                        if from > 0 {
                            h = _mm512_add_epi32(h, _mm512_loadu_si512(high.cast()));
                            l = _mm512_add_epi32(l, _mm512_loadu_si512(low.cast()));
                        }
                        _mm512_storeu_si512(high.cast(), h);
                        _mm512_storeu_si512(low.cast(), l);
                    });
                });
            }
            from = end;
        }
    }

    /// # Safety
    /// The CPU has AVX-512 F, BW, DQ, VL and VNNI; the checks of [`super::gemm_parts`] hold.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn product(
        a: Left16<'_>,
        w: Right<'_, Line16>,
        part: usize,
        out: &mut Parts<'_>,
    ) {
        let panels = w.n.div_ceil(PANEL);
        let mut p = 0;
        while p < panels {
            let wide = group(panels - p);
            let here = &w.lines[p * w.steps..];
            let next = &here[(wide * w.steps).min(here.len())..];
            for (index, (i, rows)) in tiles(a.rows, ROWS).enumerate() {
                let t = Tile {
                    a: a.data[i * a.stride..].as_ptr(),
                    stride: a.stride,
                    w: here.as_ptr(),
                    steps: w.steps,
                    part,
                    prefetch: next
                        .get(index * w.steps..)
                        .filter(|l| !l.is_empty())
                        .unwrap_or(here)
                        .as_ptr(),
                    high: out.high[i * out.stride + p * PANEL..].as_mut_ptr(),
                    low: out.low[i * out.stride + p * PANEL..].as_mut_ptr(),
                    out_stride: out.stride,
                };
                macro_rules! pick {
                    ($($r:literal)*) => {
                        match (rows, wide) {
                            $( ($r, 1) => tile::<$r, 1>(&t), ($r, 2) => tile::<$r, 2>(&t), ($r, 3) => tile::<$r, 3>(&t), )*
                            _ => {}
                        }
                    };
                }
                // SAFETY: rows `i … i + rows`, panels `p … p + wide` and their sums are within the checked slices.
                unsafe { pick!(1 2 3 4 5 6 7 8) };
            }
            p += wide;
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_graph::DType;
    use proptest::prelude::*;

    use super::*;
    use crate::simd::pack::{Order, Packed16, padded};

    proptest! {
        #[test]
        fn sums_equal_the_definition(m in 1usize..20, n in 1usize..70, k in 1usize..140, part in 1usize..40, x in prop::collection::vec(any::<i16>(), 20 * 140), seed: u32) {
            let kp = padded(k);
            let w: Vec<i16> = (0..n * k).map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as i16 >> 3).collect();
            let mut left = vec![0i16; m * kp];
            for i in 0..m { for c in 0..k { left[i * kp + c] = x[i * 140 + c] >> (k % 3); } }
            let mut packed = Packed16::default();
            let isas: Vec<Isa> = Tier::available().into_iter().filter_map(Isa::new).collect();
            packed.fill(isas[0], &w, Order::Rows, k, n, k);
            let stride = n.next_multiple_of(PANEL) + 5;
            let raw = Columns::new(vec![(0, 0); stride.next_multiple_of(PANEL)].into_iter(), DType::I32, i32::MIN, i32::MAX);
            // parts that may pass 32 bits prove nothing
            let steps = part.next_multiple_of(2).min(14);
            for isa in isas {
                let (mut high, mut low) = (vec![9i32; m * stride], vec![9i32; m * stride]);
                let right = Right { lines: &packed.lines, steps: packed.steps, n, j0: 0 };
                gemm_parts(isa, Left16 { data: &left, stride: kp, rows: m }, right, steps, &raw, &mut Parts { high: &mut high, low: &mut low, stride });
                for i in 0..m {
                    for j in 0..n {
                        let want: i64 = (0..k).map(|c| i64::from(left[i * kp + c]) * i64::from(w[j * k + c])).sum();
                        let (h, l) = (i64::from(high[i * stride + j]) << 16, low[i * stride + j]);
                        prop_assert_eq!(h + i64::from(l.wrapping_sub(h as i32)), want, "{}", isa.tier());
                    }
                }
            }
        }
    }
}
