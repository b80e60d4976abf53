//! Matrices in the order in which the micro-kernels read them.
//!
//! Columns of the product (rows of the weights) are grouped in panels of [`PANEL`]. Inside a panel, step `s` of the reduction is one
//! 64-byte line: 16 columns × 2 values (`i16`) or 16 columns × 4 values (`i8`), so that one line is one operand of a dot instruction.
//! Reductions are padded with zeros to a multiple of 4, columns to a multiple of 16.

use super::{
    elementwise::Element,
    isa::{Isa, Tier},
};

/// Columns of a panel.
pub const PANEL: usize = 16;
/// Reductions are padded to a multiple of this.
pub const STEP: usize = 4;

/// 16 columns × 2 consecutive values of the reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line16(pub [i16; 32]);

/// 16 columns × 4 consecutive values of the reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line8(pub [i8; 64]);

/// `k` rounded up to whole steps.
pub const fn padded(k: usize) -> usize {
    k.next_multiple_of(STEP)
}

/// Panels of a column count.
pub const fn panels(n: usize) -> usize {
    n.div_ceil(PANEL)
}

/// An `n × k` matrix of `i16`, transposed for the kernels: panel `p` is lines `p·steps … (p+1)·steps`.
#[derive(Clone, Debug, Default)]
pub struct Packed16 {
    /// Columns of the product.
    pub n: usize,
    /// Reduction length, unpadded.
    pub k: usize,
    /// Lines of one panel: `padded(k) / 2`.
    pub steps: usize,
    /// `panels(n) · steps` lines.
    pub lines: Vec<Line16>,
}

/// Where the rows of a matrix lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Row `j` is `k` contiguous elements at `j·stride`.
    Rows,
    /// Element `i` of row `j` is at `i·stride + j`: the matrix is stored transposed.
    Columns,
}

impl Packed16 {
    /// Packs an `n × k` matrix of `i8` or `i16`, reusing the allocation of `self`.
    ///
    /// # Panics
    /// When `x` is shorter than the matrix: a caller's bug, checked because the kernels rely on it.
    pub fn fill<E: Element>(
        &mut self,
        isa: Isa,
        x: &[E],
        order: Order,
        stride: usize,
        n: usize,
        k: usize,
    ) {
        assert!(size_of::<E>() <= 2, "weights have at most 16 bits");
        let (major, minor) = if order == Order::Rows { (n, k) } else { (k, n) };
        assert!(
            n == 0 || k == 0 || x.len() >= (major - 1) * stride + minor,
            "matrix too short"
        );
        (self.n, self.k, self.steps) = (n, k, padded(k) / 2);
        self.lines.resize(panels(n) * self.steps, Line16([0; 32]));
        for (p, panel) in self.lines.chunks_exact_mut(self.steps.max(1)).enumerate() {
            let columns = PANEL.min(n - p * PANEL);
            let from = &x[p * PANEL * if order == Order::Rows { stride } else { 1 }..];
            match (isa.tier(), order) {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `isa` shows the CPU has the features; the assertions above cover `columns` rows of `k` elements; a panel has `padded(k) / 2` lines.
                (Tier::Avx512Vnni, Order::Rows) => unsafe {
                    super::pack_avx512::rows(from.as_ptr(), stride, columns, k, panel)
                },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above, for `k` rows of `columns` elements.
                (Tier::Avx512Vnni, Order::Columns) => unsafe {
                    super::pack_avx512::columns(from.as_ptr(), stride, columns, k, panel)
                },
                (_, Order::Rows) => fill_rows(from, stride, columns, k, panel),
                (_, Order::Columns) => fill_columns(from, stride, columns, k, panel),
            }
        }
    }

    /// `Σ w_4i·w_4i+2 + w_4i+1·w_4i+3` of every column modulo 2^32: what the paired kernel adds too much. Padded columns give 0.
    pub fn pair_sums(&self) -> Vec<i32> {
        let mut sums = vec![0i32; panels(self.n) * PANEL];
        for (p, panel) in self.lines.chunks_exact(self.steps.max(1)).enumerate() {
            for two in panel.as_chunks::<2>().0 {
                for c in 0..PANEL {
                    let dot =
                        |i: usize| i32::from(two[0].0[i]).wrapping_mul(i32::from(two[1].0[i]));
                    let s = &mut sums[p * PANEL + c];
                    *s = s.wrapping_add(dot(2 * c)).wrapping_add(dot(2 * c + 1));
                }
            }
        }
        sums
    }
}

fn fill_rows<E: Element>(x: &[E], stride: usize, n: usize, k: usize, panel: &mut [Line16]) {
    panel.fill(Line16([0; 32]));
    for c in 0..n {
        for (i, v) in x[c * stride..c * stride + k].iter().enumerate() {
            panel[i / 2].0[2 * c + i % 2] = v.wide() as i16;
        }
    }
}

fn fill_columns<E: Element>(x: &[E], stride: usize, n: usize, k: usize, panel: &mut [Line16]) {
    panel.fill(Line16([0; 32]));
    for i in 0..k {
        for (c, v) in x[i * stride..i * stride + n].iter().enumerate() {
            panel[i / 2].0[2 * c + i % 2] = v.wide() as i16;
        }
    }
}

/// An `n × k` matrix of `i8`, transposed for the kernels: panel `p` is lines `p·steps … (p+1)·steps`.
#[derive(Clone, Debug, Default)]
pub struct Packed8 {
    /// Columns of the product.
    pub n: usize,
    /// Reduction length, unpadded.
    pub k: usize,
    /// Lines of one panel: `padded(k) / 4`.
    pub steps: usize,
    /// `panels(n) · steps` lines.
    pub lines: Vec<Line8>,
}

impl Packed8 {
    /// Packs `n` contiguous rows of `k` values.
    ///
    /// # Panics
    /// When `rows` is shorter than `n·k`: a caller's bug.
    pub fn new(rows: &[i8], n: usize, k: usize) -> Self {
        let steps = padded(k) / 4;
        let mut lines = vec![Line8([0; 64]); panels(n) * steps];
        for (r, row) in rows.chunks_exact(k.max(1)).take(n).enumerate() {
            let (p, c) = (r / PANEL, r % PANEL);
            for (s, four) in row.chunks(4).enumerate() {
                lines[p * steps + s].0[4 * c..4 * c + four.len()].copy_from_slice(four);
            }
        }
        Self { n, k, steps, lines }
    }

    /// `128·Σ w` of every column: what activations offset by 128 add too much. Padded columns give 0.
    pub fn offset_sums(&self) -> Vec<i32> {
        let mut sums = vec![0i32; panels(self.n) * PANEL];
        for (p, panel) in self.lines.chunks_exact(self.steps.max(1)).enumerate() {
            for line in panel {
                for (c, four) in line.0.as_chunks::<4>().0.iter().enumerate() {
                    let s = &mut sums[p * PANEL + c];
                    *s = s.wrapping_add(four.iter().map(|w| i32::from(*w) * 128).sum());
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<E: Element>(x: &[E], n: usize, k: usize, extra: usize) -> Result<(), TestCaseError> {
        for isa in Tier::available().into_iter().filter_map(Isa::new) {
            for (order, stride) in [(Order::Rows, k + extra), (Order::Columns, n + extra)] {
                let mut p = Packed16 {
                    lines: vec![Line16([99; 32]); 1],
                    ..Packed16::default()
                };
                p.fill(isa, x, order, stride, n, k);
                for j in 0..panels(n) * PANEL {
                    for i in 0..padded(k) {
                        let at = if order == Order::Rows {
                            j * stride + i
                        } else {
                            i * stride + j
                        };
                        let want = if j < n && i < k { x[at].wide() } else { 0 };
                        let have = p.lines[j / PANEL * p.steps + i / 2].0[j % PANEL * 2 + i % 2];
                        prop_assert_eq!(
                            i32::from(have),
                            want,
                            "{} {:?} {} {}",
                            isa.tier(),
                            order,
                            j,
                            i
                        );
                    }
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn lines_hold_every_element(n in 1usize..50, k in 1usize..80, extra in 0usize..5, seed: u16) {
            let len = (n + extra) * (k + extra);
            let x: Vec<i16> = (0..len).map(|i| (i as u16).wrapping_mul(40_503).wrapping_add(seed).cast_signed()).collect();
            check(&x, n, k, extra)?;
            check(&x.iter().map(|v| (*v >> 8) as i8).collect::<Vec<_>>(), n, k, extra)?;
        }
    }
}
