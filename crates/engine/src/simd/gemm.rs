//! Integer matrix products with a per-column epilogue: `out[i][j] = sat(rnd(bias_j + Σ_k a[i][k]·w[j][k], shift_j))`.
//!
//! All kernels add modulo 2^32. The graph's bounds put the final accumulator within ±2^30, so the result is exact whatever
//! the order of the additions, and whatever intermediate sums (offsets of 128, pair products) do on the way.
//!
//! **Paired products.** With `k` in groups of four,
//! `Σ (x_0 + w_2)(x_2 + w_0) + (x_1 + w_3)(x_3 + w_1) = Σ x·w + Σ (x_0·x_2 + x_1·x_3) + Σ (w_0·w_2 + w_1·w_3)`
//! (S. Winograd, "A new algorithm for inner product", IEEE Trans. Comput. C-17, 1968): half the products, two additions for each.
//! The last sum is known when weights are packed, the middle one is computed once per row. On cores whose additions run beside the dot
//! products this is faster than the plain kernel could be at its limit. It needs `x + w` to fit 16 bits, which the declared ranges show.

use super::{
    columns::{Columns, OutMut},
    isa::{Isa, Tier},
    pack::{Line8, Line16, PANEL, STEP},
};

/// Left operand: `rows` rows of `i16`, row `i` at `i·stride`, each readable up to `steps·2` elements with zeros after `k`.
#[derive(Clone, Copy, Debug)]
pub struct Left16<'a> {
    /// Elements.
    pub data: &'a [i16],
    /// Distance of rows.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Left operand: `rows` rows of `i8` offset by 128 to `u8`, each readable up to `steps·4` elements.
#[derive(Clone, Copy, Debug)]
pub struct Left8<'a> {
    /// Elements.
    pub data: &'a [u8],
    /// Distance of rows.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Some panels of a packed matrix.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a, L> {
    /// Whole panels.
    pub lines: &'a [L],
    /// Lines of one panel.
    pub steps: usize,
    /// Columns; the last panel may be partial.
    pub n: usize,
    /// Index of the first column in the epilogue's arrays.
    pub j0: usize,
}

/// Destination: row `i` of the product starts at `at + i·stride`.
#[derive(Debug)]
pub struct Dest<'a> {
    /// Elements.
    pub out: OutMut<'a>,
    /// First element.
    pub at: usize,
    /// Distance of rows.
    pub stride: usize,
}

/// How the products are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One product per weight and activation.
    Plain,
    /// Half the products (module documentation); the epilogue's `add` must be corrected by `Packed16::pair_sums`.
    Paired,
}

/// Bytes of the left operand that stay in the second-level cache while all panels pass by.
const LEFT_BLOCK_BYTES: usize = 192 << 10;

/// `i16 × i16` product.
///
/// # Panics
/// When a slice is shorter than the shapes say: a caller's bug, checked because the kernels rely on it.
pub fn gemm16(
    isa: Isa,
    form: Form,
    a: Left16<'_>,
    w: Right<'_, Line16>,
    cols: &Columns,
    dest: &mut Dest<'_>,
) {
    if a.rows == 0 || w.n == 0 {
        return;
    }
    let panels = w.n.div_ceil(PANEL);
    assert!(
        w.steps.is_multiple_of(2) && w.lines.len() >= panels * w.steps,
        "packed panels too short"
    );
    assert!(
        a.data.len() >= (a.rows - 1) * a.stride + w.steps * 2,
        "left operand too short"
    );
    check_dest(w.n, w.j0, a.rows, cols, dest);
    let block = (LEFT_BLOCK_BYTES / (w.steps * 4).max(1))
        .max(40)
        .next_multiple_of(40);
    let mut from = 0;
    while from < a.rows {
        let rows = block.min(a.rows - from);
        let part = Left16 {
            data: &a.data[from * a.stride..],
            stride: a.stride,
            rows,
        };
        let at = dest.at + from * dest.stride;
        match isa.tier() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `isa` shows the CPU has the features; the assertions above and `check_dest` are the kernel's conditions.
            Tier::Avx512Vnni => unsafe {
                super::gemm_avx512::block16(form, part, w, cols, dest, at)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Tier::Avx2 if form == Form::Plain => unsafe {
                super::gemm_avx2::block16(part, w, cols, dest, at)
            },
            _ => scalar16(form, part, w, cols, dest, at),
        }
        from += rows;
    }
}

/// `u8 × i8` product; the epilogue's `add` must be corrected by `Packed8::offset_sums`.
///
/// # Panics
/// When a slice is shorter than the shapes say: a caller's bug, checked because the kernels rely on it.
pub fn gemm8(isa: Isa, a: Left8<'_>, w: Right<'_, Line8>, cols: &Columns, dest: &mut Dest<'_>) {
    if a.rows == 0 || w.n == 0 {
        return;
    }
    let panels = w.n.div_ceil(PANEL);
    assert!(w.lines.len() >= panels * w.steps, "packed panels too short");
    assert!(
        a.data.len() >= (a.rows - 1) * a.stride + w.steps * 4,
        "left operand too short"
    );
    check_dest(w.n, w.j0, a.rows, cols, dest);
    let block = (LEFT_BLOCK_BYTES / (w.steps * 4).max(1))
        .max(40)
        .next_multiple_of(40);
    let mut from = 0;
    while from < a.rows {
        let rows = block.min(a.rows - from);
        let part = Left8 {
            data: &a.data[from * a.stride..],
            stride: a.stride,
            rows,
        };
        let at = dest.at + from * dest.stride;
        match isa.tier() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `isa` shows the CPU has the features; the assertions above and `check_dest` are the kernel's conditions.
            Tier::Avx512Vnni => unsafe { super::gemm_avx512::block8(part, w, cols, dest, at) },
            _ => scalar8(part, w, cols, dest, at),
        }
        from += rows;
    }
}

fn check_dest(n: usize, j0: usize, rows: usize, cols: &Columns, dest: &Dest<'_>) {
    let padded = j0 + n.div_ceil(PANEL) * PANEL;
    for part in [&cols.add, &cols.right, &cols.left, &cols.top, &cols.bottom] {
        assert!(
            part.len() >= padded,
            "epilogue has {} columns, the product ends at {padded}",
            part.len()
        );
    }
    assert!(
        dest.stride >= n && dest.out.len() >= dest.at + (rows - 1) * dest.stride + n,
        "destination too short"
    );
    assert!(
        dest.out.dtype() == cols.dtype,
        "destination has another type than the epilogue"
    );
}

/// `−Σ (x_0·x_2 + x_1·x_3)` of each row modulo 2^32: the start of the paired kernel's accumulators.
fn row_starts(a: Left16<'_>, steps: usize, out: &mut [i32]) {
    for (i, s) in out.iter_mut().enumerate() {
        let row = &a.data[i * a.stride..i * a.stride + steps * 2];
        let mut sum = 0i32;
        for x in row.as_chunks::<STEP>().0 {
            let dot = i32::from(x[0])
                .wrapping_mul(i32::from(x[2]))
                .wrapping_add(i32::from(x[1]).wrapping_mul(i32::from(x[3])));
            sum = sum.wrapping_sub(dot);
        }
        *s = sum;
    }
}

/// Scalar twin of the 16-bit kernels.
fn scalar16(
    form: Form,
    a: Left16<'_>,
    w: Right<'_, Line16>,
    cols: &Columns,
    dest: &mut Dest<'_>,
    at: usize,
) {
    let mut start = [0i32];
    for i in 0..a.rows {
        let row = &a.data[i * a.stride..i * a.stride + w.steps * 2];
        if form == Form::Paired {
            row_starts(
                Left16 {
                    data: row,
                    stride: 0,
                    rows: 1,
                },
                w.steps,
                &mut start,
            );
        }
        for (p, panel) in w
            .lines
            .chunks_exact(w.steps)
            .take(w.n.div_ceil(PANEL))
            .enumerate()
        {
            let mut acc = [start[0]; PANEL];
            match form {
                Form::Plain => {
                    for (x, line) in row.as_chunks::<2>().0.iter().zip(panel) {
                        dot_line(&mut acc, *x, &line.0);
                    }
                }
                Form::Paired => {
                    for (x, two) in row.as_chunks::<4>().0.iter().zip(panel.as_chunks::<2>().0) {
                        for (c, s) in acc.iter_mut().enumerate() {
                            let (u, v) = (&two[0].0[2 * c..2 * c + 2], &two[1].0[2 * c..2 * c + 2]);
                            for e in 0..2 {
                                let product = i32::from(x[e].wrapping_add(v[e]))
                                    .wrapping_mul(i32::from(x[e + 2].wrapping_add(u[e])));
                                *s = s.wrapping_add(product);
                            }
                        }
                    }
                }
            }
            let n = PANEL.min(w.n - p * PANEL);
            cols.finish_block(
                &acc,
                PANEL,
                w.j0 + p * PANEL,
                n,
                &mut dest.out,
                at + i * dest.stride + p * PANEL,
                dest.stride,
            );
        }
    }
}

#[inline]
fn dot_line(acc: &mut [i32; PANEL], x: [i16; 2], line: &[i16; 32]) {
    for (s, w) in acc.iter_mut().zip(line.as_chunks::<2>().0) {
        let dot = (i32::from(x[0]).wrapping_mul(i32::from(w[0])))
            .wrapping_add(i32::from(x[1]).wrapping_mul(i32::from(w[1])));
        *s = s.wrapping_add(dot);
    }
}

/// Scalar twin of the 8-bit kernel.
fn scalar8(a: Left8<'_>, w: Right<'_, Line8>, cols: &Columns, dest: &mut Dest<'_>, at: usize) {
    for i in 0..a.rows {
        let row = &a.data[i * a.stride..i * a.stride + w.steps * 4];
        for (p, panel) in w
            .lines
            .chunks_exact(w.steps)
            .take(w.n.div_ceil(PANEL))
            .enumerate()
        {
            let mut acc = [0i32; PANEL];
            for (x, line) in row.as_chunks::<4>().0.iter().zip(panel) {
                for (s, w) in acc.iter_mut().zip(line.0.as_chunks::<4>().0) {
                    for e in 0..4 {
                        *s = s.wrapping_add(i32::from(x[e]) * i32::from(w[e]));
                    }
                }
            }
            let n = PANEL.min(w.n - p * PANEL);
            cols.finish_block(
                &acc,
                PANEL,
                w.j0 + p * PANEL,
                n,
                &mut dest.out,
                at + i * dest.stride + p * PANEL,
                dest.stride,
            );
        }
    }
}

#[cfg(test)]
#[path = "gemm_tests.rs"]
mod tests;
