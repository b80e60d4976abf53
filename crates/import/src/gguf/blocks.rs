//! Block formats of ggml: groups of small codes with a real step and a real offset, `w = step · code + offset`.
//!
//! All formats are read into the same view, so that dequantisation and the exact re-expression as integers share one reader.
//! Layouts follow `ggml/src/ggml-common.h` and `ggml-quants.c` of llama.cpp; the tests hold values computed by its Python reference.

use crate::{bert::weights::half, error::ImportError};

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are llama.cpp's")]
#[allow(non_camel_case_types, reason = "the names are llama.cpp's")]
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Width of codes and groups of a block format, as a `blocks` constant of the graph has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeLayout {
    /// Bits of a code: 4, 5, 6 or 8.
    pub bits: u8,
    /// Elements that share step and offset: 16 or 32.
    pub group: u8,
    /// Whether groups have offsets of their own; else the offset is `−step · 2^(bits − 1)`.
    pub offsets: bool,
}

/// Some rows of a quantised tensor: `w[i] = steps[g] · codes[i] + offsets[g]`, `g = i / group`. Products are exact in f64.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// Codes, 0 … 2^bits − 1.
    pub codes: Vec<u8>,
    /// Real step of each group; may be negative.
    pub steps: Vec<f64>,
    /// Real offset of each group.
    pub offsets: Vec<f64>,
}

impl TensorType {
    /// Every type that is read.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// From the number in the file.
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// The number in the file.
    pub const fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::BF16 => 30,
        }
    }

    /// Elements and bytes of a block.
    pub const fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }

    /// Widths of a block format; `None` for float types.
    pub const fn layout(self) -> Option<CodeLayout> {
        let (bits, group, offsets) = match self {
            Self::F32 | Self::F16 | Self::BF16 => return None,
            Self::Q4_0 => (4, 32, false),
            Self::Q4_1 | Self::Q4_K => (4, 32, true),
            Self::Q5_0 => (5, 32, false),
            Self::Q5_1 | Self::Q5_K => (5, 32, true),
            Self::Q8_0 => (8, 32, false),
            Self::Q6_K => (6, 16, false),
        };
        Some(CodeLayout {
            bits,
            group,
            offsets,
        })
    }

    /// Codes, steps and offsets of whole blocks, appended to `out`. Nothing is appended for float types; bytes beyond whole blocks are ignored.
    pub fn groups(self, bytes: &[u8], out: &mut Groups) {
        let symmetric = |out: &mut Groups, step: f64, half_range: f64| {
            out.steps.push(step);
            out.offsets.push(-step * half_range);
        };
        match self {
            Self::F32 | Self::F16 | Self::BF16 => {}
            Self::Q4_0 => {
                for [d0, d1, q @ ..] in bytes.as_chunks::<18>().0 {
                    symmetric(out, f16([*d0, *d1]), 8.0);
                    nibbles(q, 0, out);
                }
            }
            Self::Q4_1 => {
                for [d0, d1, m0, m1, q @ ..] in bytes.as_chunks::<20>().0 {
                    out.steps.push(f16([*d0, *d1]));
                    out.offsets.push(f16([*m0, *m1]));
                    nibbles(q, 0, out);
                }
            }
            Self::Q5_0 => {
                for [d0, d1, h0, h1, h2, h3, q @ ..] in bytes.as_chunks::<22>().0 {
                    symmetric(out, f16([*d0, *d1]), 16.0);
                    nibbles(q, u32::from_le_bytes([*h0, *h1, *h2, *h3]), out);
                }
            }
            Self::Q5_1 => {
                for [d0, d1, m0, m1, h0, h1, h2, h3, q @ ..] in bytes.as_chunks::<24>().0 {
                    out.steps.push(f16([*d0, *d1]));
                    out.offsets.push(f16([*m0, *m1]));
                    nibbles(q, u32::from_le_bytes([*h0, *h1, *h2, *h3]), out);
                }
            }
            Self::Q8_0 => {
                for [d0, d1, q @ ..] in bytes.as_chunks::<34>().0 {
                    symmetric(out, f16([*d0, *d1]), 128.0);
                    out.codes.extend(q.iter().map(|b| b.wrapping_add(128)));
                }
            }
            Self::Q4_K => {
                for block in bytes.as_chunks::<144>().0 {
                    let [d0, d1, m0, m1, rest @ ..] = block;
                    k_scales(rest, [*d0, *d1], [*m0, *m1], out);
                    let (_, q) = rest.split_at(12);
                    for pair in q.as_chunks::<32>().0 {
                        out.codes.extend(pair.iter().map(|b| b & 15));
                        out.codes.extend(pair.iter().map(|b| b >> 4));
                    }
                }
            }
            Self::Q5_K => {
                for block in bytes.as_chunks::<176>().0 {
                    let [d0, d1, m0, m1, rest @ ..] = block;
                    k_scales(rest, [*d0, *d1], [*m0, *m1], out);
                    let (_, rest) = rest.split_at(12);
                    let (high, q) = rest.split_at(32);
                    for (i, pair) in q.as_chunks::<32>().0.iter().enumerate() {
                        let bit = |h: &u8, k: usize| (h >> (2 * i + k) & 1) << 4;
                        let both = || pair.iter().zip(high);
                        out.codes.extend(both().map(|(b, h)| b & 15 | bit(h, 0)));
                        out.codes.extend(both().map(|(b, h)| b >> 4 | bit(h, 1)));
                    }
                }
            }
            Self::Q6_K => {
                for block in bytes.as_chunks::<210>().0 {
                    let (low, rest) = block.split_at(128);
                    let (high, rest) = rest.split_at(64);
                    let (scales, d) = rest.split_at(16);
                    let d = d.as_array::<2>().map_or(0.0, |d| f16(*d));
                    for s in scales {
                        symmetric(out, d * f64::from(i8::from_le_bytes([*s])), 32.0);
                    }
                    for (low, high) in low.as_chunks::<64>().0.iter().zip(high.as_chunks::<32>().0)
                    {
                        let (first, second) = low.split_at(32);
                        let two = |h: &u8, k: u32| (h >> k & 3) << 4;
                        let one = || first.iter().zip(high);
                        let other = || second.iter().zip(high);
                        out.codes.extend(one().map(|(b, h)| b & 15 | two(h, 0)));
                        out.codes.extend(other().map(|(b, h)| b & 15 | two(h, 2)));
                        out.codes.extend(one().map(|(b, h)| b >> 4 | two(h, 4)));
                        out.codes.extend(other().map(|(b, h)| b >> 4 | two(h, 6)));
                    }
                }
            }
        }
    }

    /// Values in f32, equal to llama.cpp's, appended to `out`. Bytes beyond whole blocks are ignored.
    ///
    /// # Errors
    /// [`ImportError::NotFinite`] naming `tensor` for NaN or infinity.
    pub fn dequantise(
        self,
        tensor: &str,
        bytes: &[u8],
        out: &mut Vec<f32>,
    ) -> Result<(), ImportError> {
        let begin = out.len();
        match self {
            Self::F32 => {
                out.extend(
                    bytes
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|b| f32::from_le_bytes(*b)),
                );
            }
            Self::F16 => {
                let values = bytes.as_chunks::<2>().0.iter();
                out.extend(values.map(|b| half(u16::from_le_bytes(*b))));
            }
            Self::BF16 => {
                let values = bytes.as_chunks::<2>().0.iter();
                out.extend(values.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)));
            }
            _ => {
                let Some(layout) = self.layout() else {
                    return Ok(());
                };
                let mut groups = Groups::default();
                self.groups(bytes, &mut groups);
                let middle = 1i32 << (layout.bits - 1);
                let parts = groups.codes.chunks_exact(usize::from(layout.group));
                for (codes, (d, m)) in parts.zip(groups.steps.iter().zip(&groups.offsets)) {
                    let (d, m) = (*d as f32, *m as f32);
                    if layout.offsets {
                        out.extend(codes.iter().map(|c| f32::from(*c) * d + m));
                    } else {
                        out.extend(codes.iter().map(|c| (i32::from(*c) - middle) as f32 * d));
                    }
                }
            }
        }
        let new = out.get(begin..).unwrap_or_default();
        match new.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ImportError::NotFinite {
                tensor: tensor.to_owned(),
                index,
            }),
            None => Ok(()),
        }
    }
}

fn f16(bytes: [u8; 2]) -> f64 {
    f64::from(half(u16::from_le_bytes(bytes)))
}

/// 16 bytes of nibbles: elements 0 … 15 in the low halves, 16 … 31 in the high ones; `high` holds the fifth bits.
fn nibbles(q: &[u8], high: u32, out: &mut Groups) {
    let fifth = |i: usize| ((high >> (i & 31) & 1) << 4) as u8;
    let codes = q.iter().enumerate();
    out.codes
        .extend(codes.clone().map(|(i, b)| b & 15 | fifth(i)));
    out.codes.extend(codes.map(|(i, b)| b >> 4 | fifth(i + 16)));
}

/// Eight steps and offsets from six-bit factors packed into the first 12 bytes.
fn k_scales(packed: &[u8], d: [u8; 2], least: [u8; 2], out: &mut Groups) {
    let (d, least) = (f16(d), f16(least));
    let Some([a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3]) = packed.first_chunk::<12>() else {
        return;
    };
    let low = [(a0, b0), (a1, b1), (a2, b2), (a3, b3)];
    for (a, b) in low {
        out.steps.push(d * f64::from(a & 63));
        out.offsets.push(-least * f64::from(b & 63));
    }
    for ((a, b), c) in low.into_iter().zip([c0, c1, c2, c3]) {
        out.steps.push(d * f64::from(c & 15 | a >> 6 << 4));
        out.offsets.push(-least * f64::from(c >> 4 | b >> 6 << 4));
    }
}
