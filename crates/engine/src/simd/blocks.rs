//! Matrices of codes with a step and an offset for each group of columns (`blocks` constants), and their products with 16-bit activations.
//!
//! `Σ w·x` with `w = D·c + M` is `Σ_groups D·Σ c·x + M·Σ x`: the codes meet the activations in byte dot products, the steps come once for each group.
//! Activations are two signed bytes, `x = 256·h + l`, so that two dot products share one load of weights. The two sums `Σ w·h` and `Σ w·l` are kept apart
//! ([`Sums::Two`]) where the total may pass 32 bits, and are one sum modulo 2^32 elsewhere ([`Sums::One`]); both are exact.
//!
//! **Layout.** 16 rows are a panel, 32 columns a block. Of 4-, 5- and 6-bit codes, line i of a block holds columns 8i … 8i + 3 of the 16 rows in the low halves
//! of its bytes and 8i + 4 … 8i + 7 in the high halves; then come lines of the fifth bit (bit q of a byte: quad q) or of the fifth and sixth (two bits at 2·(q mod 4), quads 0 … 3 and 4 … 7).
//! 8-bit codes take a line for each quad. Steps lie beside in their own array.

use super::{
    coding::{HEADER, apart, every_fourth, paired},
    isa::{Isa, Tier},
    pack::{Line16, PANEL},
};

pub use super::coding::Coding;

/// Columns of a block.
pub const BLOCK: usize = 32;
/// Quads of columns of a block.
pub const QUADS: usize = BLOCK / 4;

/// 64 bytes: 16 rows × 4 columns of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// A step or an offset of each row of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Steps(pub [i16; PANEL]);

/// A packed matrix.
#[derive(Clone, Debug)]
pub struct Blocks {
    coding: Coding,
    /// Panel-major, then blocks, `bits` lines each.
    lines: Vec<Line>,
    /// Panel-major, then groups: steps, then offsets if there are any.
    steps: Vec<Steps>,
}

/// How sums are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// `Σ w·x` modulo 2^32.
    One,
    /// `Σ w·h` and `Σ w·l`, each modulo 2^32.
    Two,
}

/// Rows of activations as limbs, with sums over the groups of a matrix.
#[derive(Clone, Debug, Default)]
pub struct Limbs {
    rows: usize,
    cols: usize,
    group: usize,
    high: Vec<i8>,
    low: Vec<i8>,
    /// For each row and group: `Σ h` and `Σ l`.
    sums: Vec<[i32; 2]>,
}

impl Limbs {
    /// Splits `rows` rows of `cols` values, reusing the allocations of `self`.
    ///
    /// # Panics
    /// When `x` is too short or `cols` no multiple of `group`: a caller's bug.
    pub fn fill(&mut self, isa: Isa, x: &[i16], rows: usize, cols: usize, group: usize) {
        assert!(
            x.len() >= rows * cols && cols.is_multiple_of(group),
            "ragged activations"
        );
        (self.rows, self.cols, self.group) = (rows, cols, group);
        self.high.resize(rows * cols, 0);
        self.low.resize(rows * cols, 0);
        self.sums.resize(rows * cols / group, [0; 2]);
        let x = &x[..rows * cols];
        if group == 32 {
            split::<32>(isa, x, &mut self.high, &mut self.low, &mut self.sums);
        } else {
            split::<16>(isa, x, &mut self.high, &mut self.low, &mut self.sums);
        }
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }
}

fn split<const G: usize>(
    isa: Isa,
    x: &[i16],
    high: &mut [i8],
    low: &mut [i8],
    sums: &mut [[i32; 2]],
) {
    match G {
        16 => split16(isa, x, high, low, sums),
        _ => split32(isa, x, high, low, sums),
    }
}

#[inline(always)]
fn split_groups<const G: usize>(x: &[i16], high: &mut [i8], low: &mut [i8], sums: &mut [[i32; 2]]) {
    let parts = x
        .as_chunks::<G>()
        .0
        .iter()
        .zip(high.as_chunks_mut::<G>().0)
        .zip(low.as_chunks_mut::<G>().0)
        .zip(sums);
    for (((x, high), low), sum) in parts {
        let (mut sh, mut sl) = (0i32, 0i32);
        for i in 0..G {
            // −32,768 … 32,639 by the declared range; h is −128 … 127, l −128 … 127
            let h = x[i].wrapping_add(128) >> 8;
            let l = x[i].wrapping_sub(h << 8);
            high[i] = h as i8;
            low[i] = l as i8;
            sh = sh.wrapping_add(i32::from(h));
            sl = sl.wrapping_add(i32::from(l));
        }
        *sum = [sh, sl];
    }
}

multiversion! {
    /// Limbs and their sums over groups of 16.
    pub fn split16(x: &[i16], high: &mut [i8], low: &mut [i8], sums: &mut [[i32; 2]]) {
        split_groups::<16>(x, high, low, sums);
    }
}

multiversion! {
    /// Limbs and their sums over groups of 32.
    pub fn split32(x: &[i16], high: &mut [i8], low: &mut [i8], sums: &mut [[i32; 2]]) {
        split_groups::<32>(x, high, low, sums);
    }
}

/// Where sums go: row i of the product starts at `i·stride`, one value for each row of weights from the first panel on.
pub struct Totals<'a> {
    /// [`Sums::One`]: the sums. [`Sums::Two`]: `Σ w·h`.
    pub high: &'a mut [i32],
    /// [`Sums::Two`]: `Σ w·l`; else empty.
    pub low: &'a mut [i32],
    /// Distance of rows.
    pub stride: usize,
}

impl Blocks {
    /// Packs the canonical rows of a `blocks` constant; `None` when coding or length don't fit.
    pub fn new(coding: Coding, bytes: &[u8]) -> Option<Self> {
        if !coding.is_valid() || bytes.len() != coding.rows * coding.row_bytes() {
            return None;
        }
        let panels = coding.rows.div_ceil(PANEL);
        let per_group = if coding.offsets { 2 } else { 1 };
        let mut out = Self {
            coding,
            lines: vec![Line([0; 64]); panels * coding.blocks() * coding.bits],
            steps: vec![Steps([0; PANEL]); panels * coding.groups() * per_group],
        };
        for (r, row) in bytes.chunks_exact(coding.row_bytes()).enumerate() {
            out.put(r, row);
        }
        Some(out)
    }

    fn put(&mut self, r: usize, row: &[u8]) {
        let c = self.coding;
        let (p, lane) = (r / PANEL, r % PANEL);
        let per_group = if c.offsets { 2 } else { 1 };
        let (steps, codes) = row[HEADER..].split_at(c.groups() * 2 * per_group);
        for (i, s) in steps.as_chunks::<2>().0.iter().enumerate() {
            // canonical: all steps, then all offsets
            let (group, which) = (i % c.groups(), i / c.groups());
            self.steps[(p * c.groups() + group) * per_group + which].0[lane] =
                i16::from_le_bytes(*s);
        }
        let lines = &mut self.lines[p * c.blocks() * c.bits..][..c.blocks() * c.bits];
        let four = 4 * lane..4 * lane + 4;
        if c.bits == 8 {
            for (line, four_codes) in lines.iter_mut().zip(codes.as_chunks::<4>().0) {
                line.0[four.clone()].copy_from_slice(four_codes);
            }
            return;
        }
        let (nibbles, planes) = codes.split_at(c.cols / 2);
        let word = |bytes: &[u8], i: usize| -> u32 {
            let four = bytes
                .get(4 * i..4 * i + 4)
                .and_then(|b| b.first_chunk::<4>());
            four.map_or(0, |b| u32::from_le_bytes(*b))
        };
        for (b, lines) in lines.chunks_exact_mut(c.bits).enumerate() {
            for (i, line) in lines.iter_mut().take(4).enumerate() {
                let eight = paired(word(nibbles, 4 * b + i));
                line.0[four.clone()].copy_from_slice(&eight.to_le_bytes());
            }
            // bit `plane` of column v is bit v of a word
            let plane = |n: usize| word(&planes[(n - 4) * (c.cols / 8)..], b);
            match c.bits {
                5 => {
                    let all = plane(4);
                    for e in 0..4 {
                        lines[4].0[4 * lane + e] = every_fourth(all >> e);
                    }
                }
                6 => {
                    let (low, high) = (plane(4), plane(5));
                    for e in 0..4 {
                        let (low, high) = (every_fourth(low >> e), every_fourth(high >> e));
                        for half in 0..2 {
                            let (low, high) = (low >> (4 * half) & 15, high >> (4 * half) & 15);
                            lines[4 + half].0[4 * lane + e] = apart(low) | apart(high) << 1;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Shape and coding.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.lines.len() * 64 + self.steps.len() * 32
    }

    /// The code of row `r`, column `col`.
    fn code(&self, r: usize, col: usize) -> i32 {
        let c = self.coding;
        let (p, lane) = (r / PANEL, r % PANEL);
        let (block, q, e) = (col / BLOCK, col % BLOCK / 4, col % 4);
        let lines = &self.lines[(p * c.blocks() + block) * c.bits..][..c.bits];
        let byte = 4 * lane + e;
        if c.bits == 8 {
            return i32::from(lines[q].0[byte]);
        }
        let low = lines[q / 2].0[byte] >> (4 * (q % 2)) & 15;
        let up = match c.bits {
            5 => (lines[4].0[byte] >> q & 1) << 4,
            6 => (lines[4 + q / 4].0[byte] >> (2 * (q % 4)) & 3) << 4,
            _ => 0,
        };
        i32::from(low | up)
    }

    /// Step and offset of row `r` in group `g`.
    fn step(&self, r: usize, g: usize) -> (i32, i32) {
        let c = self.coding;
        let (p, lane) = (r / PANEL, r % PANEL);
        if c.offsets {
            let at = 2 * (p * c.groups() + g);
            let [d, m] = [0, 1].map(|i| i32::from(self.steps[at + i].0[lane]));
            (d, m)
        } else {
            let d = i32::from(self.steps[p * c.groups() + g].0[lane]);
            (d, -(d << (c.bits - 1)))
        }
    }

    /// Weights of row `r`; nothing for a row that does not exist.
    pub fn row(&self, r: usize) -> impl Iterator<Item = i32> + '_ {
        let cols = if r < self.coding.rows {
            self.coding.cols
        } else {
            0
        };
        (0..cols).map(move |col| {
            let (d, m) = self.step(r, col / self.coding.group);
            d * self.code(r, col) + m
        })
    }

    /// Sums of all rows of `x` with the weights of `panels` panels from panel `first`.
    ///
    /// # Panics
    /// When the shapes don't fit: a caller's bug, checked because the kernels rely on it.
    pub fn product(
        &self,
        isa: Isa,
        sums: Sums,
        x: &Limbs,
        first: usize,
        panels: usize,
        out: &mut Totals<'_>,
    ) {
        let c = self.coding;
        assert!(
            x.cols == c.cols && x.group == c.group,
            "activations of another shape"
        );
        assert!(
            (first + panels) * c.blocks() * c.bits <= self.lines.len(),
            "panels out of range"
        );
        if x.rows == 0 || panels == 0 {
            return;
        }
        let need = (x.rows - 1) * out.stride + panels * PANEL;
        assert!(
            out.high.len() >= need && (sums == Sums::One || out.low.len() >= need),
            "sums too short"
        );
        match isa.tier() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `isa` shows the CPU has the features; the assertions above are the kernel's conditions.
            Tier::Avx512Vnni => unsafe {
                super::blocks_avx512::product(self.parts(first, panels), sums, x.parts(), out)
            },
            _ => self.scalar(sums, x, first, panels, out),
        }
    }

    /// Scalar twin of the vector kernel.
    fn scalar(&self, sums: Sums, x: &Limbs, first: usize, panels: usize, out: &mut Totals<'_>) {
        let c = self.coding;
        for i in 0..x.rows {
            for j in 0..panels * PANEL {
                let r = first * PANEL + j;
                let (mut high, mut low) = (0i32, 0i32);
                for g in 0..c.groups() {
                    let (d, m) = self.step(r, g);
                    let (mut h, mut l) = (0i32, 0i32);
                    for col in g * c.group..(g + 1) * c.group {
                        let code = self.code(r, col);
                        h = h.wrapping_add(code * i32::from(x.high[i * c.cols + col]));
                        l = l.wrapping_add(code * i32::from(x.low[i * c.cols + col]));
                    }
                    let [sh, sl] = x.sums[i * c.groups() + g];
                    high = high
                        .wrapping_add(d.wrapping_mul(h))
                        .wrapping_add(m.wrapping_mul(sh));
                    low = low
                        .wrapping_add(d.wrapping_mul(l))
                        .wrapping_add(m.wrapping_mul(sl));
                }
                match sums {
                    Sums::One => {
                        out.high[i * out.stride + j] = high.wrapping_shl(8).wrapping_add(low);
                    }
                    Sums::Two => {
                        out.high[i * out.stride + j] = high;
                        out.low[i * out.stride + j] = low;
                    }
                }
            }
        }
    }

    /// Expands `panels` panels from panel `first` to 16-bit weights: lines as in [`super::pack::Packed16`].
    ///
    /// # Panics
    /// When `out` is no panel of `cols / 2` lines each: a caller's bug.
    pub fn expand(&self, isa: Isa, first: usize, panels: usize, out: &mut [Line16]) {
        let c = self.coding;
        assert!(
            out.len() == panels * c.cols / 2
                && (first + panels) * c.blocks() * c.bits <= self.lines.len(),
            "panels out of range"
        );
        match isa.tier() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `isa` shows the CPU has the features; the assertion above is the kernel's condition.
            Tier::Avx512Vnni => unsafe {
                super::blocks_avx512::expand(self.parts(first, panels), out)
            },
            _ => self.expand_plain(isa, first, out),
        }
    }

    /// Twin of the vector expansion for the other tiers.
    fn expand_plain(&self, isa: Isa, first: usize, out: &mut [Line16]) {
        let c = self.coding;
        let per_group = if c.offsets { 2 } else { 1 };
        for (p, panel) in out.chunks_exact_mut(c.cols / 2).enumerate() {
            let p = first + p;
            let lines = &self.lines[p * c.blocks() * c.bits..][..c.blocks() * c.bits];
            let steps = &self.steps[p * c.groups() * per_group..][..c.groups() * per_group];
            expand_panel(isa, lines, steps, c, panel);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn parts(&self, first: usize, panels: usize) -> super::blocks_avx512::Weights<'_> {
        let c = self.coding;
        let per_group = if c.offsets { 2 } else { 1 };
        let (lines, steps) = (c.blocks() * c.bits, c.groups() * per_group);
        super::blocks_avx512::Weights {
            coding: c,
            panels,
            lines: &self.lines[first * lines..],
            steps: &self.steps[first * steps..],
        }
    }
}

multiversion! {
    /// One panel as 16-bit weights.
    pub fn expand_panel(lines: &[Line], steps: &[Steps], c: Coding, out: &mut [Line16]) {
        let per_group = if c.offsets { 2 } else { 1 };
        let blocks = lines.chunks_exact(c.bits).zip(out.as_chunks_mut::<16>().0);
        for (b, (lines, out)) in blocks.enumerate() {
            for (q, two) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let group = (b * BLOCK + 4 * q) / c.group;
                let d = steps[group * per_group].0;
                let mut m = [0i16; PANEL];
                for (lane, m) in m.iter_mut().enumerate() {
                    *m = if c.offsets {
                        steps[group * per_group + 1].0[lane]
                    } else {
                        0i16.wrapping_sub(d[lane].wrapping_shl(c.bits as u32 - 1))
                    };
                }
                let mut codes = lines[if c.bits == 8 { q } else { q / 2 }].0;
                if c.bits < 8 {
                    let shift = 4 * (q as u32 % 2);
                    for code in &mut codes {
                        *code = *code >> shift & 15;
                    }
                }
                if c.bits == 5 {
                    for (code, plane) in codes.iter_mut().zip(&lines[4].0) {
                        *code |= (plane >> q & 1) << 4;
                    }
                }
                if c.bits == 6 {
                    for (code, plane) in codes.iter_mut().zip(&lines[4 + q / 4].0) {
                        *code |= (plane >> (2 * (q % 4)) & 3) << 4;
                    }
                }
                let [low, high] = two;
                for (lane, four) in codes.as_chunks::<4>().0.iter().enumerate() {
                    let w = |e: usize| i16::from(four[e]).wrapping_mul(d[lane]).wrapping_add(m[lane]);
                    (low.0[2 * lane], low.0[2 * lane + 1]) = (w(0), w(1));
                    (high.0[2 * lane], high.0[2 * lane + 1]) = (w(2), w(3));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Limbs {
    fn parts(&self) -> super::blocks_avx512::Activations<'_> {
        super::blocks_avx512::Activations {
            rows: self.rows,
            high: &self.high,
            low: &self.low,
            sums: &self.sums,
        }
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
