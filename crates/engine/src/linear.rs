//! Linear layers of language models: block-coded or 16-bit weights, rows of one or two limbs, a shared exponent for each input row.

use assay_graph::{A_MAX, Const, ConstKind, DType, Data, Requant};
use rayon::prelude::*;

use crate::{
    facts::{Inputs, Reader},
    product::{Rows, with_scratch},
    simd::{
        blocks::{Blocks, Coding, Sums, Totals},
        bounds::{Magnitudes, fetch, magnitudes},
        columns::Columns,
        elementwise::{Element, extent, widen16},
        gemm::{Dest, Form, Left16, Right, gemm16},
        gemm_parts::{Parts, gemm_parts},
        isa::{Isa, Tier},
        language::{Pair, Wide, finish_narrow, finish_wide},
        pack::{Line16, Order, PANEL, Packed16, padded, panels},
    },
};

/// Rows of activations from which expanding the weights to 16 bits pays.
const EXPAND_FROM: usize = 16;
/// Panels expanded at a time.
const EXPANDED: usize = 3;
/// Weight rows that are worth a thread.
const LEAST: usize = if cfg!(test) { 16 } else { 256 };

enum Source {
    Codes(Blocks),
    Values(Packed16),
}

/// A weight matrix with its epilogue.
pub(crate) struct Linear {
    source: Source,
    /// How many sums a row needs.
    sums: Sums,
    /// Columns of which any sum fits 32 bits; `k` for [`Sums::One`].
    part: usize,
    /// Whether activations are two signed bytes and all weights 16 bits, so that the byte kernels may run.
    bytes: bool,
    /// Rows whose two sums may pass 32 bits: computed in 64 bits.
    deep: bool,
    /// Epilogue of one sum without exponents and left shifts, else `None`.
    columns: Option<Columns>,
    /// Epilogue of raw sums.
    raw: Columns,
    bias: Vec<i32>,
    shift: Vec<i32>,
    how: Wide,
    out: Requant,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

impl Linear {
    /// Packs a `blocks` or `weights` constant. `exponents`: whether the operator has a second operand.
    pub(crate) fn new(
        isa: Isa,
        weights: &Const,
        x: &Inputs<'_>,
        exponents: bool,
        out: &Requant,
    ) -> Option<Self> {
        let kind = weights.kind();
        let n = kind.rows() as usize;
        let (k, coding) = match kind {
            ConstKind::Blocks {
                rows,
                cols,
                bits,
                group,
                offsets,
            } => (
                cols as usize,
                Some(Coding {
                    rows: rows as usize,
                    cols: cols as usize,
                    bits: usize::from(bits),
                    group: usize::from(group),
                    offsets,
                }),
            ),
            ConstKind::Weights { cols, .. } => (cols as usize, None),
            _ => return None,
        };
        let (mut bias, mut shift) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut reader = Reader {
            isa,
            constant: weights,
            coding,
            codes: Vec::new(),
            weights: Vec::new(),
        };
        let (mut narrow, mut deep, mut fits, mut values) = (true, false, true, Vec::new());
        for r in 0..n {
            let (row_shift, row_bias) = reader.row(r)?;
            let w = &reader.weights;
            let half = if row_shift > 0 {
                1i64 << (row_shift - 1)
            } else {
                0
            };
            narrow &= x
                .bound(0, w)
                .saturating_add(i64::from(row_bias).abs() + half)
                <= A_MAX;
            let (mut ones, mut ends) = (Magnitudes::default(), (0, 0));
            magnitudes(isa, w, &[], &[], &mut ones);
            extent(isa, w, &mut ends);
            deep |= ones.ones >= 1 << 24;
            fits &= ends.0 >= i32::from(i16::MIN) && ends.1 <= i32::from(i16::MAX);
            if coding.is_none() {
                values.extend(w.iter().map(|w| *w as i16));
            }
            bias.push(row_bias);
            shift.push(i32::from(row_shift));
        }
        let mut part = k.next_multiple_of(16);
        if !narrow {
            for r in 0..n {
                reader.row(r)?;
                part = x.part(&reader.weights, part);
            }
        }
        let plain = narrow && !exponents && shift.iter().all(|s| *s >= 0);
        let each = || bias.iter().zip(&shift).map(|(b, s)| (*b, *s as i8));
        let columns = plain.then(|| Columns::new(each(), out.dtype, out.lo, out.hi));
        let raw = vec![(0, 0); panels(n) * PANEL];
        let source = match coding {
            Some(coding) => Source::Codes(Blocks::new(coding, weights.bytes())?),
            None => {
                let mut packed = Packed16::default();
                packed.fill(isa, &values, Order::Rows, k, n, k);
                Source::Values(packed)
            }
        };
        let bytes = x.ty.lo >= -32_640 && x.ty.hi <= 32_639 && matches!(source, Source::Codes(_));
        Some(Self {
            source,
            sums: if narrow { Sums::One } else { Sums::Two },
            part,
            bytes,
            // codes that reach 2^15 don't expand to 16 bits; two sums of long rows may pass 32
            deep: (!narrow && deep) || !fits,
            columns,
            raw: Columns::new(raw.into_iter(), DType::I32, i32::MIN, i32::MAX),
            bias,
            shift,
            how: Wide::new(out),
            out: *out,
            n,
            k,
        })
    }

    /// Name of the kernel, for profiles.
    pub(crate) fn kernel(&self) -> &'static str {
        let codes = matches!(self.source, Source::Codes(_));
        match self.sums {
            _ if self.deep => "64 bits",
            Sums::One => ["i16", "codes"][usize::from(codes)],
            Sums::Two if self.part > 0 => ["i16 in parts", "codes in parts"][usize::from(codes)],
            Sums::Two => ["i16 in limbs", "codes in limbs"][usize::from(codes)],
        }
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        let source = match &self.source {
            Source::Codes(b) => b.bytes(),
            Source::Values(p) => p.lines.len() * 64,
        };
        source + 8 * self.n
    }

    /// Weights of row `r`.
    pub(crate) fn row(&self, r: usize) -> Vec<i32> {
        match &self.source {
            Source::Codes(b) => b.row(r).collect(),
            Source::Values(p) if r < self.n => (0..self.k)
                .map(|c| i32::from(p.lines[r / PANEL * p.steps + c / 2].0[r % PANEL * 2 + c % 2]))
                .collect(),
            Source::Values(_) => Vec::new(),
        }
    }

    /// `rows` rows of `k` values, all columns, on several threads. `exponents`: one for each row, or none.
    pub(crate) fn run(
        &self,
        isa: Isa,
        threads: usize,
        x: Rows<'_>,
        exponents: &[i8],
        out: &mut Data,
    ) {
        match out {
            Data::I8(v) => self.typed(isa, threads, x, exponents, v),
            Data::I16(v) => self.typed(isa, threads, x, exponents, v),
            Data::I32(v) => self.typed(isa, threads, x, exponents, v),
        }
    }

    fn typed<T: Element>(
        &self,
        isa: Isa,
        threads: usize,
        x: Rows<'_>,
        exponents: &[i8],
        out: &mut [T],
    ) {
        let rows = out.len() / self.n.max(1);
        let mut wide = with_scratch(|s| std::mem::take(&mut s.left));
        let x = match x {
            Rows::I16(v) => v,
            Rows::I8(v) => {
                wide.resize(v.len(), 0);
                widen16(isa, v, &mut wide);
                &wide
            }
        };
        if self.deep {
            self.deep(x, exponents, out);
        } else if self.by_codes(isa, rows) {
            self.codes(isa, threads, x, exponents, out);
        } else {
            let each = rows.div_ceil(threads.max(1)).max(4);
            if threads > 1 && rows > each {
                out.par_chunks_mut(each * self.n)
                    .enumerate()
                    .for_each(|(i, part)| {
                        let first = i * each;
                        self.expanded(
                            isa,
                            &x[first * self.k..],
                            exponents.get(first..).unwrap_or(&[]),
                            part,
                        );
                    });
            } else {
                self.expanded(isa, x, exponents, out);
            }
        }
        with_scratch(|s| s.left = wide);
    }

    /// Whether the byte kernels run for so many rows.
    fn by_codes(&self, isa: Isa, rows: usize) -> bool {
        let vector = isa.tier() == Tier::Avx512Vnni;
        let many = rows >= EXPAND_FROM && self.part > 0;
        matches!(self.source, Source::Codes(_)) && self.bytes && vector && !many
    }

    /// The byte kernels; threads share the columns.
    fn codes<T: Element>(
        &self,
        isa: Isa,
        threads: usize,
        x: &[i16],
        exponents: &[i8],
        out: &mut [T],
    ) {
        let Source::Codes(blocks) = &self.source else {
            return;
        };
        let rows = out.len() / self.n.max(1);
        let mut limbs = with_scratch(|s| std::mem::take(&mut s.limbs));
        limbs.fill(isa, x, rows, self.k, blocks.coding().group);
        let parts = threads.min(self.n / LEAST).max(1);
        let width = self.n.div_ceil(parts).next_multiple_of(PANEL);
        let mut slices: Vec<Vec<&mut [T]>> = (0..parts).map(|_| Vec::with_capacity(rows)).collect();
        for row in out.chunks_exact_mut(self.n) {
            for (part, slice) in slices.iter_mut().zip(row.chunks_mut(width)) {
                part.push(slice);
            }
        }
        let one = |(i, part): (usize, &mut Vec<&mut [T]>)| {
            let Some(n) = part.first().map(|s| s.len()) else {
                return;
            };
            let (first, count) = (i * width / PANEL, panels(n));
            let stride = count * PANEL;
            with_scratch(|s| {
                s.high.resize(rows * stride, 0);
                s.low.resize(
                    if self.sums == Sums::Two {
                        rows * stride
                    } else {
                        0
                    },
                    0,
                );
                let mut totals = Totals {
                    high: &mut s.high,
                    low: &mut s.low,
                    stride,
                };
                // the epilogue's constants come from memory once a token
                fetch(&self.bias[i * width..i * width + n]);
                fetch(&self.shift[i * width..i * width + n]);
                blocks.product(isa, self.sums, &limbs, first, count, &mut totals);
                for (r, out) in part.iter_mut().enumerate() {
                    let at = r * stride..r * stride + n;
                    let e = exponents.get(r).copied().unwrap_or(0);
                    let (pair, low) = match self.sums {
                        Sums::One => (Pair::Alone, &s.high[at.clone()]),
                        Sums::Two => (Pair::Limbs, &s.low[at.clone()]),
                    };
                    self.finish(isa, pair, &s.high[at], low, i * width, e, out);
                }
            });
        };
        if parts > 1 {
            slices.par_iter_mut().enumerate().for_each(one);
        } else {
            slices.iter_mut().enumerate().for_each(one);
        }
        with_scratch(|s| s.limbs = limbs);
    }

    /// Epilogue of columns `j0 …` of one row.
    #[expect(clippy::too_many_arguments, reason = "sums, where they lie, result")]
    fn finish<T: Element>(
        &self,
        isa: Isa,
        pair: Pair,
        high: &[i32],
        low: &[i32],
        j0: usize,
        e: i8,
        out: &mut [T],
    ) {
        let end = j0 + out.len();
        match &self.columns {
            Some(c) => finish_narrow(
                isa,
                high,
                &c.add[j0..end],
                &c.right[j0..end],
                self.out.lo,
                self.out.hi,
                out,
            ),
            None => finish_wide(
                isa,
                pair,
                high,
                low,
                &self.bias[j0..end],
                &self.shift[j0..end],
                i32::from(e),
                self.how,
                out,
            ),
        }
    }

    /// 16-bit kernels over panels that are expanded a few at a time. Where a sum may pass 32 bits it is formed in parts, or of the limbs of the activations.
    fn expanded<T: Element>(&self, isa: Isa, x: &[i16], exponents: &[i8], out: &mut [T]) {
        let rows = out.len() / self.n.max(1);
        let stride = padded(self.k);
        let two = self.sums == Sums::Two;
        let limbs = two && self.part == 0;
        with_scratch(|s| {
            let data: &[i16] = if !limbs && stride == self.k {
                &x[..rows * self.k]
            } else {
                spread(x, rows, self.k, limbs, &mut s.wide);
                &s.wide
            };
            let left = Left16 {
                data,
                stride,
                rows: if limbs { 2 * rows } else { rows },
            };
            let mut p = 0;
            while p < panels(self.n) {
                let count = match &self.source {
                    Source::Codes(_) => EXPANDED.min(panels(self.n) - p),
                    Source::Values(_) => panels(self.n) - p,
                };
                let (j0, steps) = (p * PANEL, stride / 2);
                let n = (count * PANEL).min(self.n - j0);
                let lines: &[Line16] = match &self.source {
                    Source::Codes(b) => {
                        s.packed.lines.resize(count * steps, Line16([0; 32]));
                        b.expand(isa, p, count, &mut s.packed.lines);
                        &s.packed.lines
                    }
                    Source::Values(w) => &w.lines[p * steps..],
                };
                let right = Right {
                    lines,
                    steps,
                    n,
                    j0,
                };
                p += count;
                if let Some(columns) = &self.columns {
                    let mut dest = Dest {
                        out: T::out(out),
                        at: j0,
                        stride: self.n,
                    };
                    gemm16(isa, Form::Plain, left, right, columns, &mut dest);
                    continue;
                }
                let width = count * PANEL;
                s.high.resize(left.rows * width, 0);
                let pair = if two && !limbs {
                    s.low.resize(rows * width, 0);
                    let mut parts = Parts {
                        high: &mut s.high,
                        low: &mut s.low,
                        stride: width,
                    };
                    gemm_parts(isa, left, right, self.part / 2, &self.raw, &mut parts);
                    Pair::Parts
                } else {
                    let mut dest = Dest {
                        out: i32::out(&mut s.high),
                        at: 0,
                        stride: width,
                    };
                    gemm16(isa, Form::Plain, left, right, &self.raw, &mut dest);
                    if limbs { Pair::Limbs } else { Pair::Alone }
                };
                let (high, second) = s.high.split_at(rows * width);
                let low = match pair {
                    Pair::Alone => high,
                    Pair::Limbs => second,
                    Pair::Parts => &s.low,
                };
                for (r, out) in out.chunks_exact_mut(self.n).enumerate() {
                    let e = exponents.get(r).copied().unwrap_or(0);
                    let at = r * width..r * width + n;
                    self.finish(
                        isa,
                        pair,
                        &high[at.clone()],
                        &low[at],
                        j0,
                        e,
                        &mut out[j0..j0 + n],
                    );
                }
            }
        });
    }

    /// Sums in 64 bits, for matrices that no vector kernel may take.
    fn deep<T: Element>(&self, x: &[i16], exponents: &[i8], out: &mut [T]) {
        for j in 0..self.n {
            let w = self.row(j);
            for (r, out) in out.chunks_exact_mut(self.n).enumerate() {
                let dot: i64 = w
                    .iter()
                    .zip(&x[r * self.k..])
                    .map(|(w, x)| i64::from(*w) * i64::from(*x))
                    .sum();
                let shift = (self.shift[j] - i32::from(exponents.get(r).copied().unwrap_or(0)))
                    .clamp(-15, 31);
                out[j] = T::narrow(assay_graph::ops::requant(
                    dot + i64::from(self.bias[j]),
                    shift as i8,
                    &self.out,
                ));
            }
        }
    }
}

/// Rows with zeros up to whole steps; `limbs`: all upper limbs, then all lower ones.
fn spread(x: &[i16], rows: usize, k: usize, limbs: bool, out: &mut Vec<i16>) {
    let stride = padded(k);
    out.clear();
    out.resize(rows * stride * if limbs { 2 } else { 1 }, 0);
    let (first, second) = out.split_at_mut(rows * stride);
    for r in 0..rows {
        for c in 0..k {
            let (v, at) = (i32::from(x[r * k + c]), r * stride + c);
            if limbs {
                let h = (v + 128) >> 8;
                first[at] = h as i16;
                second[at] = (v - (h << 8)) as i16;
            } else {
                first[at] = v as i16;
            }
        }
    }
}
