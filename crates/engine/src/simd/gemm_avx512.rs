//! AVX-512 VNNI micro-kernels: accumulators of a tile stay in registers over the whole reduction.

use std::arch::{asm, x86_64::*};

use assay_graph::DType;

use super::{
    columns::{Columns, OutMut},
    gemm::{Dest, Form, Left8, Left16, Right},
    pack::{Line8, Line16, PANEL},
};

/// Rows of a plain tile: 8 × 3 accumulators, 3 weight registers, 1 broadcast.
const PLAIN_ROWS: usize = 8;
/// Rows of a paired tile: 7 × 3 accumulators, 6 weight registers, 2 broadcasts, 2 sums. Measured on Zen 5 the fastest of the shapes 3…12 × 1…4.
const PAIRED_ROWS: usize = 7;

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
// Calls `$f::<rows, panels>` for run-time numbers.
macro_rules! pick {
    ($rows:expr, $panels:expr, $f:ident, [$($r:literal)*], $t:expr) => {
        match ($rows, $panels) {
            $( ($r, 1) => $f::<$r, 1>($t), ($r, 2) => $f::<$r, 2>($t), ($r, 3) => $f::<$r, 3>($t), )*
            _ => {}
        }
    };
}

/// One tile: pointers into the operands, the epilogue and the destination.
struct Tile<'a, A, L> {
    a: *const A,
    stride: usize,
    w: *const L,
    steps: usize,
    starts: *const i32,
    prefetch: *const L,
    cols: &'a Columns,
    j: usize,
    tail: usize,
    out: *mut u8,
    out_stride: usize,
}

/// Epilogue and stores of a whole tile; written into each kernel so that accumulators need not leave their registers.
///
/// Needs of the caller, whose `unsafe` block it stands in: the CPU has the features; `t.j + 16·NV` columns exist in the epilogue; each row of the
/// destination has `16·(NV − 1) + tail` elements.
macro_rules! finish {
    ($mr:expr, $nv:expr, $t:expr, $acc:expr) => {{
        let c = $t.cols;
        let (lo, hi) = (_mm512_set1_epi32(c.lo), _mm512_set1_epi32(c.hi));
        each_col!($nv, J, {
            let at = |of: &[i32]| {
                _mm512_loadu_si512(
                    of.as_ptr()
                        .wrapping_add($t.j)
                        .wrapping_add(J * PANEL)
                        .cast(),
                )
            };
            let (add, right) = (at(&c.add), at(&c.right));
            each_row!($mr, I, {
                $acc[I][J] = _mm512_srav_epi32(_mm512_add_epi32($acc[I][J], add), right);
            });
            if c.any_left {
                let (left, top, bottom) = (at(&c.left), at(&c.top), at(&c.bottom));
                each_row!($mr, I, {
                    let v = $acc[I][J];
                    let (above, below) = (
                        _mm512_cmpgt_epi32_mask(v, top),
                        _mm512_cmplt_epi32_mask(v, bottom),
                    );
                    $acc[I][J] = _mm512_mask_mov_epi32(
                        _mm512_mask_mov_epi32(_mm512_sllv_epi32(v, left), above, hi),
                        below,
                        lo,
                    );
                });
            } else {
                each_row!($mr, I, {
                    $acc[I][J] = _mm512_min_epi32(_mm512_max_epi32($acc[I][J], lo), hi);
                });
            }
        });
        let whole = $t.tail == PANEL;
        let mask = ((1u32 << $t.tail) - 1) as u16;
        match c.dtype {
            DType::I8 => {
                each_col!($nv, J, {
                    each_row!($mr, I, {
                        let at = $t
                            .out
                            .cast::<i8>()
                            .wrapping_add(I.wrapping_mul($t.out_stride))
                            .wrapping_add(J * PANEL);
                        let v = _mm512_cvtepi32_epi8($acc[I][J]);
                        if whole || J + 1 < $nv {
                            _mm_storeu_si128(at.cast(), v)
                        } else {
                            _mm_mask_storeu_epi8(at, mask, v)
                        }
                    });
                });
            }
            DType::I16 => {
                each_col!($nv, J, {
                    each_row!($mr, I, {
                        let at = $t
                            .out
                            .cast::<i16>()
                            .wrapping_add(I.wrapping_mul($t.out_stride))
                            .wrapping_add(J * PANEL);
                        let v = _mm512_cvtepi32_epi16($acc[I][J]);
                        if whole || J + 1 < $nv {
                            _mm256_storeu_si256(at.cast(), v)
                        } else {
                            _mm256_mask_storeu_epi16(at, mask, v)
                        }
                    });
                });
            }
            DType::I32 => {
                each_col!($nv, J, {
                    each_row!($mr, I, {
                        let at = $t
                            .out
                            .cast::<i32>()
                            .wrapping_add(I.wrapping_mul($t.out_stride))
                            .wrapping_add(J * PANEL);
                        let v = $acc[I][J];
                        if whole || J + 1 < $nv {
                            _mm512_storeu_si512(at.cast(), v)
                        } else {
                            _mm512_mask_storeu_epi32(at, mask, v)
                        }
                    });
                });
            }
        }
    }};
}

/// `acc + x·w` over pairs of 16-bit values, modulo 2^32. Written out because the compiler would split the intrinsic into a product and an
/// addition, which costs the limiting pipes another slot.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn dot16(mut acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
    // SAFETY: one register instruction of a feature this function is compiled for; no memory, no flags.
    unsafe {
        asm!("vpdpwssd {0}, {1}, {2}", inout(zmm_reg) acc, in(zmm_reg) x, in(zmm_reg) w, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `acc + x·w` over quadruples of unsigned and signed 8-bit values, modulo 2^32 (the form that does not saturate).
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot8(mut acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
    // SAFETY: as in `dot16`.
    unsafe {
        asm!("vpdpbusd {0}, {1}, {2}", inout(zmm_reg) acc, in(zmm_reg) x, in(zmm_reg) w, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// # Safety
/// The CPU has the features; `MR` rows of `2·steps` values are readable at `a`, `NV` panels at `w`; conditions of `finish`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn plain<const MR: usize, const NV: usize>(t: &Tile<'_, i16, Line16>) {
    let mut acc = [[_mm512_setzero_si512(); NV]; MR];
    let stride = t.stride;
    let panel = t.steps;
    for s in 0..t.steps {
        let mut w = [_mm512_setzero_si512(); NV];
        // SAFETY: `s < steps`, so the lines and the values of the rows exist. A prefetch reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(t.prefetch.wrapping_add(s).cast());
            let line = t.w.wrapping_add(s);
            each_col!(NV, J, {
                w[J] = _mm512_load_si512(line.wrapping_add(J.wrapping_mul(panel)).cast());
            });
            let at = t.a.wrapping_add(s.wrapping_mul(2));
            each_row!(MR, I, {
                let x = _mm512_set1_epi32(
                    at.wrapping_add(I.wrapping_mul(stride))
                        .cast::<i32>()
                        .read_unaligned(),
                );
                each_col!(NV, J, {
                    acc[I][J] = dot16(acc[I][J], x, w[J]);
                });
            });
        }
    }
    // SAFETY: the caller's promise.
    unsafe { finish!(MR, NV, t, acc) };
}

/// # Safety
/// As [`plain`]; `steps` is even and `MR` values are readable at `starts`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn paired<const MR: usize, const NV: usize>(t: &Tile<'_, i16, Line16>) {
    let mut acc = [[_mm512_setzero_si512(); NV]; MR];
    each_row!(MR, I, {
        // SAFETY: the caller promises `MR` starts.
        acc[I] = [_mm512_set1_epi32(unsafe { *t.starts.add(I) }); NV];
    });
    let stride = t.stride;
    let panel = t.steps;
    for s in 0..t.steps / 2 {
        let (mut w0, mut w1) = ([_mm512_setzero_si512(); NV], [_mm512_setzero_si512(); NV]);
        // SAFETY: `2s + 1 < steps`, so the lines and the quadruples of the rows exist. A prefetch reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(t.prefetch.wrapping_add(s).cast());
            let line = t.w.wrapping_add(s.wrapping_mul(2));
            each_col!(NV, J, {
                let two = line.wrapping_add(J.wrapping_mul(panel));
                w0[J] = _mm512_load_si512(two.cast());
                w1[J] = _mm512_load_si512(two.wrapping_add(1).cast());
            });
            let at = t.a.wrapping_add(s.wrapping_mul(4));
            each_row!(MR, I, {
                let x = at.wrapping_add(I.wrapping_mul(stride)).cast::<i32>();
                let (x0, x1) = (
                    _mm512_set1_epi32(x.read_unaligned()),
                    _mm512_set1_epi32(x.wrapping_add(1).read_unaligned()),
                );
                each_col!(NV, J, {
                    acc[I][J] = dot16(
                        acc[I][J],
                        _mm512_add_epi16(x0, w1[J]),
                        _mm512_add_epi16(x1, w0[J]),
                    );
                });
            });
        }
    }
    // SAFETY: the caller's promise.
    unsafe { finish!(MR, NV, t, acc) };
}

/// # Safety
/// As [`plain`] with rows of `4·steps` bytes.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn bytes<const MR: usize, const NV: usize>(t: &Tile<'_, u8, Line8>) {
    let mut acc = [[_mm512_setzero_si512(); NV]; MR];
    let stride = t.stride;
    let panel = t.steps;
    for s in 0..t.steps {
        let mut w = [_mm512_setzero_si512(); NV];
        // SAFETY: `s < steps`, so the lines and the values of the rows exist. A prefetch reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(t.prefetch.wrapping_add(s).cast());
            let line = t.w.wrapping_add(s);
            each_col!(NV, J, {
                w[J] = _mm512_load_si512(line.wrapping_add(J.wrapping_mul(panel)).cast());
            });
            let at = t.a.wrapping_add(s.wrapping_mul(4));
            each_row!(MR, I, {
                let x = _mm512_set1_epi32(
                    at.wrapping_add(I.wrapping_mul(stride))
                        .cast::<i32>()
                        .read_unaligned(),
                );
                each_col!(NV, J, {
                    acc[I][J] = dot8(acc[I][J], x, w[J]);
                });
            });
        }
    }
    // SAFETY: the caller's promise.
    unsafe { finish!(MR, NV, t, acc) };
}

fn base(out: &mut OutMut<'_>, at: usize) -> *mut u8 {
    match out {
        OutMut::I8(v) => v.as_mut_ptr().wrapping_add(at).cast(),
        OutMut::I16(v) => v.as_mut_ptr().wrapping_add(at).cast(),
        OutMut::I32(v) => v.as_mut_ptr().wrapping_add(at).cast(),
    }
}

/// Vector twin of [`super::gemm::row_starts`].
///
/// # Safety
/// The CPU has the features; rows of `2·steps` values are within `a`, one for each element of `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn row_starts(a: Left16<'_>, steps: usize, out: &mut [i32]) {
    for (i, start) in out.iter_mut().enumerate() {
        let row = a.data[i * a.stride..i * a.stride + steps * 2]
            .as_ptr()
            .cast::<i32>();
        let mut sum = _mm512_setzero_si512();
        for s in (0..steps).step_by(16) {
            let mask = 0xffffu16 >> (16 - (steps - s).min(16));
            // SAFETY: the mask leaves only pairs of this row.
            let x = unsafe { _mm512_maskz_loadu_epi32(mask, row.wrapping_add(s)) };
            // pair 2i times pair 2i + 1, in the even lanes only
            sum = dot16(
                sum,
                x,
                _mm512_maskz_shuffle_epi32::<0b10_11_00_01>(0x5555, x),
            );
        }
        *start = 0i32.wrapping_sub(_mm512_reduce_add_epi32(sum));
    }
}

/// Starts and heights of tiles that share `rows` evenly, none higher than `high`.
pub(super) fn tiles(rows: usize, high: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(high);
    (0..count).map(move |i| (i * rows / count, (i + 1) * rows / count - i * rows / count))
}

/// Panels of the next group: three, but four remaining ones go two and two.
pub(super) fn group(remaining: usize) -> usize {
    if remaining == 4 { 2 } else { remaining.min(3) }
}

/// Rows × panels of one block of the left operand.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VNNI. The checks of [`super::gemm::gemm16`] hold for `a`, `w`, `cols` and rows of `dest` from `at`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn block16(
    form: Form,
    a: Left16<'_>,
    w: Right<'_, Line16>,
    cols: &Columns,
    dest: &mut Dest<'_>,
    at: usize,
) {
    let mut starts = vec![0i32; if form == Form::Paired { a.rows } else { 0 }];
    // SAFETY: the caller checked `rows` rows of `2·steps` values.
    unsafe { row_starts(a, w.steps, &mut starts) };
    let high = if form == Form::Paired {
        PAIRED_ROWS
    } else {
        PLAIN_ROWS
    };
    let lines_per_tile = if form == Form::Paired {
        w.steps / 2
    } else {
        w.steps
    };
    let panels = w.n.div_ceil(PANEL);
    let mut p = 0;
    while p < panels {
        let wide = group(panels - p);
        let here = &w.lines[p * w.steps..];
        let next_lines = &here[(wide * w.steps).min(here.len())..];
        for (index, (i, rows)) in tiles(a.rows, high).enumerate() {
            let t = Tile {
                a: a.data[i * a.stride..].as_ptr(),
                stride: a.stride,
                w: here.as_ptr(),
                steps: w.steps,
                starts: starts.get(i..).unwrap_or_default().as_ptr(),
                prefetch: next_lines
                    .get(index * lines_per_tile..)
                    .filter(|l| !l.is_empty())
                    .unwrap_or(here)
                    .as_ptr(),
                cols,
                j: w.j0 + p * PANEL,
                tail: (w.n - (p + wide - 1) * PANEL).min(PANEL),
                out: base(&mut dest.out, at + i * dest.stride + p * PANEL),
                out_stride: dest.stride,
            };
            // SAFETY: rows `i … i + rows`, panels `p … p + wide` and their columns are within the checked slices.
            unsafe {
                match form {
                    Form::Plain => pick!(rows, wide, plain, [1 2 3 4 5 6 7 8], &t),
                    Form::Paired => pick!(rows, wide, paired, [1 2 3 4 5 6 7], &t),
                }
            }
        }
        p += wide;
    }
}

/// Rows × panels of one block of the left operand.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VNNI. The checks of [`super::gemm::gemm8`] hold for `a`, `w`, `cols` and rows of `dest` from `at`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn block8(
    a: Left8<'_>,
    w: Right<'_, Line8>,
    cols: &Columns,
    dest: &mut Dest<'_>,
    at: usize,
) {
    let panels = w.n.div_ceil(PANEL);
    let mut p = 0;
    while p < panels {
        let wide = group(panels - p);
        let here = &w.lines[p * w.steps..];
        let next_lines = &here[(wide * w.steps).min(here.len())..];
        for (index, (i, rows)) in tiles(a.rows, PLAIN_ROWS).enumerate() {
            let t = Tile {
                a: a.data[i * a.stride..].as_ptr(),
                stride: a.stride,
                w: here.as_ptr(),
                steps: w.steps,
                starts: std::ptr::null(),
                prefetch: next_lines
                    .get(index * w.steps..)
                    .filter(|l| !l.is_empty())
                    .unwrap_or(here)
                    .as_ptr(),
                cols,
                j: w.j0 + p * PANEL,
                tail: (w.n - (p + wide - 1) * PANEL).min(PANEL),
                out: base(&mut dest.out, at + i * dest.stride + p * PANEL),
                out_stride: dest.stride,
            };
            // SAFETY: rows `i … i + rows`, panels `p … p + wide` and their columns are within the checked slices.
            unsafe { pick!(rows, wide, bytes, [1 2 3 4 5 6 7 8], &t) };
        }
        p += wide;
    }
}

/// Independent dot products on registers, 24 in each step.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn spin(steps: u64) {
    let mut acc = [[_mm512_setzero_si512(); 3]; 8];
    let (x, w) = (_mm512_set1_epi8(3), _mm512_set1_epi8(5));
    for _ in 0..steps {
        each_row!(8, I, {
            each_col!(3, J, {
                acc[I][J] = dot8(acc[I][J], x, w);
            });
        });
    }
    std::hint::black_box(acc);
}
