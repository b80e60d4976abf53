//! Matrices in the order in which the micro-kernels read them.
//!
//! Columns of the product (rows of the weights) are grouped in panels of [`PANEL`]. Inside a panel, step `s` of the reduction is one
//! 64-byte line: 16 columns × 2 values (`i16`) or 16 columns × 4 values (`i8`), so that one line is one operand of a dot instruction.
//! Reductions are padded with zeros to a multiple of 4, columns to a multiple of 16.

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

impl Packed16 {
    /// Packs rows `rows[r·stride … r·stride + k]`, `r < n`, reusing the allocation of `self`.
    ///
    /// # Panics
    /// When `rows` is shorter than `(n − 1)·stride + k`: a caller's bug.
    pub fn fill(&mut self, rows: &[i16], stride: usize, n: usize, k: usize) {
        self.n = n;
        self.k = k;
        self.steps = padded(k) / 2;
        self.lines.resize(panels(n) * self.steps, Line16([0; 32]));
        let steps = self.steps;
        for (p, panel) in self.lines.chunks_exact_mut(steps.max(1)).enumerate() {
            if (p + 1) * PANEL > n || !k.is_multiple_of(STEP) {
                panel.fill(Line16([0; 32]));
            }
            for c in 0..PANEL.min(n - p * PANEL) {
                let start = (p * PANEL + c) * stride;
                let row = &rows[start..start + k];
                let (pairs, rest) = row.as_chunks::<2>();
                for (line, pair) in panel.iter_mut().zip(pairs) {
                    line.0[2 * c] = pair[0];
                    line.0[2 * c + 1] = pair[1];
                }
                if let (Some(x), Some(line)) = (rest.first(), panel.get_mut(pairs.len())) {
                    line.0[2 * c] = *x;
                }
            }
        }
    }

    /// `Σ w_4i·w_4i+2 + w_4i+1·w_4i+3` of every column modulo 2^32: what the paired kernel adds too much. Padded columns give 0.
    pub fn pair_sums(&self) -> Vec<i32> {
        let mut sums = vec![0i32; panels(self.n) * PANEL];
        for (p, panel) in self.lines.chunks_exact(self.steps.max(1)).enumerate() {
            for two in panel.as_chunks::<2>().0 {
                for c in 0..PANEL {
                    let dot = |i: usize| i32::from(two[0].0[i]).wrapping_mul(i32::from(two[1].0[i]));
                    let s = &mut sums[p * PANEL + c];
                    *s = s.wrapping_add(dot(2 * c)).wrapping_add(dot(2 * c + 1));
                }
            }
        }
        sums
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
