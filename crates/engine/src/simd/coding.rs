//! Canonical rows of `blocks` constants (docs/graph.md, "Constants"): their shape, their weights, and the moves that packing is made of.

use super::{blocks::BLOCK, isa::Isa};

/// Bytes of a row before its steps: shift and bias.
pub(super) const HEADER: usize = 5;

/// Shape and coding of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Rows of weights: columns of the product.
    pub rows: usize,
    /// Reduction length, a multiple of 32.
    pub cols: usize,
    /// Bits of a code: 4, 5, 6 or 8.
    pub bits: usize,
    /// Columns that share a step: 16 or 32.
    pub group: usize,
    /// Whether offsets are stored; else they are `−D·2^(bits−1)`.
    pub offsets: bool,
}

impl Coding {
    /// Whether the kernels know it.
    pub const fn is_valid(&self) -> bool {
        self.cols.is_multiple_of(BLOCK)
            && matches!(self.bits, 4 | 5 | 6 | 8)
            && matches!(self.group, 16 | 32)
    }

    /// Canonical bytes of a row.
    pub const fn row_bytes(&self) -> usize {
        HEADER + self.groups() * if self.offsets { 4 } else { 2 } + self.cols * self.bits / 8
    }

    /// Groups of a row.
    pub const fn groups(&self) -> usize {
        self.cols / self.group
    }

    /// Blocks of a row.
    pub const fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Weights of a canonical row; nothing when its length is not the coding's. `codes` is scratch.
    pub fn weights(&self, isa: Isa, row: &[u8], codes: &mut Vec<u8>, out: &mut Vec<i32>) {
        out.clear();
        if row.len() != self.row_bytes() {
            return;
        }
        let (steps, packed) =
            row[HEADER..].split_at(self.groups() * if self.offsets { 4 } else { 2 });
        codes.resize(self.cols, 0);
        out.resize(self.cols, 0);
        let (low, planes) = if self.bits == 8 {
            (packed, &[][..])
        } else {
            packed.split_at(self.cols / 2)
        };
        if self.bits == 8 {
            codes.copy_from_slice(low);
        } else {
            unpack(isa, low, codes);
        }
        for (plane, bytes) in planes.chunks_exact((self.cols / 8).max(1)).enumerate() {
            for (codes, byte) in codes.as_chunks_mut::<8>().0.iter_mut().zip(bytes) {
                for (v, code) in codes.iter_mut().enumerate() {
                    *code |= (byte >> v & 1) << (4 + plane);
                }
            }
        }
        let steps = steps.as_chunks::<2>().0;
        let (d, m) = steps.split_at(self.groups());
        for (g, (codes, out)) in codes
            .chunks_exact(self.group)
            .zip(out.chunks_exact_mut(self.group))
            .enumerate()
        {
            let d = d.get(g).map_or(0, |d| i32::from(i16::from_le_bytes(*d)));
            let m = m.get(g).map_or(-(d << (self.bits - 1)), |m| {
                i32::from(i16::from_le_bytes(*m))
            });
            for (o, c) in out.iter_mut().zip(codes) {
                *o = i32::from(*c).wrapping_mul(d).wrapping_add(m);
            }
        }
    }
}

multiversion! {
    /// Half-bytes as bytes, the low half first.
    pub fn unpack(packed: &[u8], out: &mut [u8]) {
        for (o, b) in out.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
            *o = [b & 15, b >> 4];
        }
    }
}

/// Eight codes of columns 0 … 7, a half-byte each, as bytes of columns (0, 4), (1, 5), (2, 6), (3, 7).
pub(super) const fn paired(x: u32) -> u32 {
    let x = x & 0xff00_00ff | (x & 0x00ff_0000) >> 8 | (x & 0x0000_ff00) << 8;
    x & 0xf00f_f00f | (x & 0x0f00_0f00) >> 4 | (x & 0x00f0_00f0) << 4
}

/// Bits 0, 4, 8 … 28 as a byte.
pub(super) const fn every_fourth(x: u32) -> u8 {
    let x = x & 0x1111_1111;
    let x = (x | x >> 3) & 0x0303_0303;
    let x = (x | x >> 6) & 0x000f_000f;
    (x | x >> 12) as u8
}

/// Four bits with a zero above each.
pub(super) const fn apart(x: u8) -> u8 {
    let x = (x | x << 2) & 0x33;
    (x | x << 1) & 0x55
}
