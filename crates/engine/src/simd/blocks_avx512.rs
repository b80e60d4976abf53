//! AVX-512 VNNI kernels of [`super::blocks`]: codes are unpacked in registers, once for up to four rows of activations.

use std::arch::{asm, x86_64::*};

use super::{
    blocks::{Coding, Line, QUADS, Steps, Sums, Totals},
    pack::{Line16, PANEL},
};

/// Some panels of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) coding: Coding,
    pub(super) panels: usize,
    pub(super) lines: &'a [Line],
    pub(super) steps: &'a [Steps],
}

/// Limbs of the activations, `rows` rows of `coding.cols`, and two sums for each group.
#[derive(Clone, Copy)]
pub(super) struct Activations<'a> {
    pub(super) rows: usize,
    pub(super) high: &'a [i8],
    pub(super) low: &'a [i8],
    pub(super) sums: &'a [[i32; 2]],
}

/// Rows of a tile: 8 accumulators, 8 registers of codes, 4 sums under way. Eight rows at once leave no registers and are slower.
const ROWS: usize = 4;
/// Lines that are fetched ahead of their use: 5 KiB. Measured: 1.5 KiB costs a third of the speed of one row.
const AHEAD: usize = 80;

// Register arrays stay in registers only when every index is a constant, so loops over them are written out.
macro_rules! each {
    ($n:expr, $i:ident, [$($c:literal)*], $b:block) => { $( { const $i: usize = $c; if $c < $n $b } )* };
}
macro_rules! each_row {
    ($n:expr, $i:ident, $b:block) => { each!($n, $i, [0 1 2 3], $b) };
}

/// `acc + Σ code·x` of quad `Q`: four activations at `x + 4·Q` for all 16 rows. One instruction with its operand in memory.
///
/// # Safety
/// The CPU has the features; `4·Q + 4` bytes are readable at `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot<const Q: usize>(mut acc: __m512i, codes: __m512i, x: *const i8) -> __m512i {
    // SAFETY: the caller's promise; the instruction reads four bytes and writes a register.
    unsafe {
        asm!("vpdpbusd {0}, {1}, dword ptr [{2} + 4*{3}]{{1to16}}", inout(zmm_reg) acc, in(zmm_reg) codes, in(reg) x, const Q,
            options(pure, readonly, nostack, preserves_flags));
    }
    acc
}

/// The eight quads of a block as bytes.
///
/// # Safety
/// The CPU has the features; `BITS` lines are readable at `lines`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn unpack<const BITS: usize>(lines: *const Line) -> [__m512i; QUADS] {
    let mut q = [_mm512_setzero_si512(); QUADS];
    // SAFETY: the caller promises `BITS` lines.
    let line = |i: usize| unsafe { _mm512_load_si512(lines.wrapping_add(i).cast()) };
    if BITS == 8 {
        each!(8, I, [0 1 2 3 4 5 6 7], {
            q[I] = line(I);
        });
        return q;
    }
    let nibble = _mm512_set1_epi8(15);
    each!(4, I, [0 1 2 3], {
        let both = line(I);
        q[2 * I] = _mm512_and_si512(both, nibble);
        q[2 * I + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
    });
    // `q | (moved & mask)` in one instruction: 0xf8 is a | (b & c)
    if BITS == 5 {
        let plane = line(4);
        let bit = _mm512_set1_epi8(16);
        let moved = [
            _mm512_slli_epi16::<4>(plane),
            _mm512_slli_epi16::<3>(plane),
            _mm512_slli_epi16::<2>(plane),
            _mm512_slli_epi16::<1>(plane),
            plane,
            _mm512_srli_epi16::<1>(plane),
            _mm512_srli_epi16::<2>(plane),
            _mm512_srli_epi16::<3>(plane),
        ];
        each!(8, I, [0 1 2 3 4 5 6 7], {
            q[I] = _mm512_ternarylogic_epi32::<0xf8>(q[I], moved[I], bit);
        });
    }
    if BITS == 6 {
        let bits = _mm512_set1_epi8(48);
        each!(2, H, [0 1], {
            let plane = line(4 + H);
            let moved = [
                _mm512_slli_epi16::<4>(plane),
                _mm512_slli_epi16::<2>(plane),
                plane,
                _mm512_srli_epi16::<2>(plane),
            ];
            each!(4, I, [0 1 2 3], {
                q[4 * H + I] = _mm512_ternarylogic_epi32::<0xf8>(q[4 * H + I], moved[I], bits);
            });
        });
    }
    q
}

/// One panel and up to four rows of activations.
struct Tile {
    lines: *const Line,
    steps: *const Steps,
    blocks: usize,
    group: usize,
    offsets: bool,
    cols: usize,
    high: *const i8,
    low: *const i8,
    sums: *const [i32; 2],
    out_high: *mut i32,
    out_low: *mut i32,
    stride: usize,
}

/// Steps and offsets of the group at `steps`, widened.
///
/// # Safety
/// The CPU has the features; one step, or a step and an offset, are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn step<const BITS: u32>(steps: *const Steps, offsets: bool) -> (__m512i, __m512i) {
    // SAFETY: the caller's promise.
    unsafe {
        let d = _mm512_cvtepi16_epi32(_mm256_load_si256(steps.cast()));
        let m = if offsets {
            _mm512_cvtepi16_epi32(_mm256_load_si256(steps.wrapping_add(1).cast()))
        } else {
            let half = _mm_cvtsi32_si128(BITS as i32 - 1);
            _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_sll_epi32(d, half))
        };
        (d, m)
    }
}

/// # Safety
/// The CPU has the features; the panel's lines and steps, `MR` rows of limbs and sums, and 16 sums of `MR` rows of the destination are within their slices.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<const MR: usize, const BITS: usize, const B: u32, const TWO: bool>(t: &Tile) {
    let mut high = [_mm512_setzero_si512(); MR];
    let mut low = [_mm512_setzero_si512(); MR];
    let zero = _mm512_setzero_si512();
    let group = t.group;
    let per_block = if group == 16 { 2 } else { 1 };
    let per_group = if t.offsets { 2 } else { 1 };
    let groups = t.blocks * per_block;
    for b in 0..t.blocks {
        let lines = t.lines.wrapping_add(b * BITS);
        // SAFETY: `b < blocks`, so `BITS` lines, the steps, 32 columns of each row and their sums exist. A prefetch reads nothing.
        unsafe {
            each!(BITS, I, [0 1 2 3 4 5 6 7], {
                _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(AHEAD + I).cast());
            });
            let steps = t.steps.wrapping_add(b * per_block * per_group);
            _mm_prefetch::<_MM_HINT_T0>(steps.wrapping_add(AHEAD / 2).cast());
            let q = unpack::<BITS>(lines);
            let (xh, xl) = (t.high.wrapping_add(b * 32), t.low.wrapping_add(b * 32));
            let sums = t.sums.wrapping_add(b * per_block).cast::<i32>();
            // two rows at a time, so that four chains of dots are under way
            macro_rules! group {
                ($quads:tt, $at:expr, $steps:expr) => {
                    let (d, m) = step::<B>($steps, t.offsets);
                    each!(MR, I, [0 2], {
                        let at = |i: usize, x: *const i8| x.wrapping_add(i.wrapping_mul(t.cols));
                        let mut a = [zero; 4];
                        each!(8, Q, $quads, {
                            a[0] = dot::<Q>(a[0], q[Q], at(I, xh));
                            a[1] = dot::<Q>(a[1], q[Q], at(I, xl));
                            if I + 1 < MR {
                                a[2] = dot::<Q>(a[2], q[Q], at(I + 1, xh));
                                a[3] = dot::<Q>(a[3], q[Q], at(I + 1, xl));
                            }
                        });
                        each!(2, P, [0 1], {
                            if I + P < MR {
                                let s = sums.wrapping_add(2 * $at).wrapping_add((I + P).wrapping_mul(2 * groups));
                                let (sh, sl) = (*s, *s.wrapping_add(1));
                                if TWO {
                                    let (h, l) = (&mut high[(I + P) % MR], &mut low[(I + P) % MR]);
                                    *h = _mm512_add_epi32(*h, _mm512_mullo_epi32(a[2 * P], d));
                                    *l = _mm512_add_epi32(*l, _mm512_mullo_epi32(a[2 * P + 1], d));
                                    *h = _mm512_add_epi32(*h, _mm512_mullo_epi32(m, _mm512_set1_epi32(sh)));
                                    *l = _mm512_add_epi32(*l, _mm512_mullo_epi32(m, _mm512_set1_epi32(sl)));
                                } else {
                                    let sum = (sh << 8).wrapping_add(sl);
                                    let dots = _mm512_add_epi32(_mm512_slli_epi32::<8>(a[2 * P]), a[2 * P + 1]);
                                    let h = &mut high[(I + P) % MR];
                                    *h = _mm512_add_epi32(*h, _mm512_mullo_epi32(dots, d));
                                    *h = _mm512_add_epi32(*h, _mm512_mullo_epi32(m, _mm512_set1_epi32(sum)));
                                }
                            }
                        });
                    });
                };
            }
            if group == 32 {
                group!([0 1 2 3 4 5 6 7], 0, steps);
            } else {
                group!([0 1 2 3], 0, steps);
                group!([4 5 6 7], 1, steps.wrapping_add(per_group));
            }
        }
    }
    each_row!(MR, I, {
        let at = I.wrapping_mul(t.stride);
        // SAFETY: 16 sums of `MR` rows exist.
        unsafe {
            _mm512_storeu_si512(t.out_high.wrapping_add(at).cast(), high[I]);
            if TWO {
                _mm512_storeu_si512(t.out_low.wrapping_add(at).cast(), low[I]);
            }
        }
    });
}

/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VNNI. The checks of [`super::blocks::Blocks::product`] hold.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn product(w: Weights<'_>, sums: Sums, x: Activations<'_>, out: &mut Totals<'_>) {
    let c = w.coding;
    let per_group = if c.offsets { 2 } else { 1 };
    for p in 0..w.panels {
        let mut at = 0;
        while at < x.rows {
            let mr = (x.rows - at).min(ROWS);
            let t = Tile {
                lines: w.lines.as_ptr().wrapping_add(p * c.blocks() * c.bits),
                steps: w.steps.as_ptr().wrapping_add(p * c.groups() * per_group),
                blocks: c.blocks(),
                group: c.group,
                offsets: c.offsets,
                cols: c.cols,
                high: x.high.as_ptr().wrapping_add(at * c.cols),
                low: x.low.as_ptr().wrapping_add(at * c.cols),
                sums: x.sums.as_ptr().wrapping_add(at * c.groups()),
                out_high: out
                    .high
                    .as_mut_ptr()
                    .wrapping_add(at * out.stride + p * PANEL),
                out_low: out
                    .low
                    .as_mut_ptr()
                    .wrapping_add(at * out.stride + p * PANEL),
                stride: out.stride,
            };
            macro_rules! pick {
                ($($mr:literal)*) => {
                    match (mr, c.bits, sums) {
                        $(
                            ($mr, 4, Sums::One) => tile::<$mr, 4, 4, false>(&t),
                            ($mr, 5, Sums::One) => tile::<$mr, 5, 5, false>(&t),
                            ($mr, 6, Sums::One) => tile::<$mr, 6, 6, false>(&t),
                            ($mr, 8, Sums::One) => tile::<$mr, 8, 8, false>(&t),
                            ($mr, 4, Sums::Two) => tile::<$mr, 4, 4, true>(&t),
                            ($mr, 5, Sums::Two) => tile::<$mr, 5, 5, true>(&t),
                            ($mr, 6, Sums::Two) => tile::<$mr, 6, 6, true>(&t),
                            ($mr, 8, Sums::Two) => tile::<$mr, 8, 8, true>(&t),
                        )*
                        _ => {}
                    }
                };
            }
            // SAFETY: panel `p` and rows `at … at + mr` are within the checked slices.
            unsafe { pick!(1 2 3 4) };
            at += mr;
        }
    }
}

/// Vector twin of the scalar expansion.
///
/// # Safety
/// The CPU has the features; `out` has `cols / 2` lines for each panel.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn expand(w: Weights<'_>, out: &mut [Line16]) {
    // SAFETY: the caller's promise.
    unsafe {
        match w.coding.bits {
            4 => expand_bits::<4, 4>(w, out),
            5 => expand_bits::<5, 5>(w, out),
            6 => expand_bits::<6, 6>(w, out),
            _ => expand_bits::<8, 8>(w, out),
        }
    }
}

/// # Safety
/// As [`expand`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn expand_bits<const BITS: usize, const B: u32>(w: Weights<'_>, out: &mut [Line16]) {
    let c = w.coding;
    let per_group = if c.offsets { 2 } else { 1 };
    // bytes 0 and 1, and bytes 2 and 3, of each row as pairs of 16 bits
    let first = _mm512_set4_epi32(
        0x800d_800c_u32.cast_signed(),
        0x8009_8008_u32.cast_signed(),
        0x8005_8004_u32.cast_signed(),
        0x8001_8000_u32.cast_signed(),
    );
    let second = _mm512_add_epi8(first, _mm512_set1_epi32(0x0002_0002));
    for b in 0..w.panels * c.blocks() {
        // SAFETY: `b` counts the blocks of all panels; each has `BITS` lines, its steps and 16 lines of the destination.
        unsafe {
            let q = unpack::<BITS>(w.lines.as_ptr().wrapping_add(b * BITS));
            let to = out.as_mut_ptr().wrapping_add(b * 16);
            let steps = w.steps.as_ptr();
            let mut pair = [(_mm512_setzero_si512(), _mm512_setzero_si512()); 2];
            for (i, pair) in pair.iter_mut().enumerate() {
                let g = b * (32 / c.group) + i * (32 / c.group - 1);
                let (d, m) = step::<B>(steps.wrapping_add(g * per_group), c.offsets);
                let twice = |v: __m512i| {
                    _mm512_mask_blend_epi16(0xaaaa_aaaa, v, _mm512_slli_epi32::<16>(v))
                };
                *pair = (twice(d), twice(m));
            }
            each!(8, Q, [0 1 2 3 4 5 6 7], {
                let (d, m) = pair[Q / 4];
                let of = |order: __m512i| {
                    _mm512_add_epi16(_mm512_mullo_epi16(_mm512_shuffle_epi8(q[Q], order), d), m)
                };
                _mm512_store_si512(to.wrapping_add(2 * Q).cast(), of(first));
                _mm512_store_si512(to.wrapping_add(2 * Q + 1).cast(), of(second));
            });
        }
    }
}
