//! conv2d: patches gathered into rows, then the product of a linear layer; one direct loop for depthwise layers.

use assay_graph::{Const, Data, Requant, TensorType, Window};

use crate::{
    product::{Product, Rows},
    simd::{
        columns::{Columns, OutMut},
        conv::depthwise_row,
        elementwise::Element,
        gemm::Dest,
        isa::Isa,
    },
    threads,
};

/// Bytes of gathered patches at a time.
const PATCH_BYTES: usize = 128 << 10;

/// Sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) image: [usize; 3],
    pub(crate) out: [usize; 3],
}

enum Kind {
    /// One product for each group.
    Grouped(Vec<Product>),
    /// One input channel for each output channel: weights `[kh·kw][c]`.
    Depthwise { weights: Vec<i32>, columns: Columns },
}

/// A convolution ready for the kernels.
pub(crate) struct Conv {
    kind: Kind,
    window: Window,
    shape: Shape,
}

impl Conv {
    pub(crate) fn new(
        isa: Isa,
        weights: &Const,
        window: Window,
        groups: usize,
        shape: Shape,
        x: &TensorType,
        out: &Requant,
    ) -> Option<Self> {
        let (c, n) = (shape.image[2], shape.out[2]);
        if groups == c && n == c && c > 1 {
            let cells = usize::from(window.kernel[0]) * usize::from(window.kernel[1]);
            let rows: Vec<_> = (0..n)
                .map(|r| weights.weight_row(r as u32))
                .collect::<Option<_>>()?;
            let columns = Columns::new(
                rows.iter().map(|r| (r.bias, r.shift)),
                out.dtype,
                out.lo,
                out.hi,
            );
            let mut values = vec![0; cells * c];
            for (channel, row) in rows.iter().enumerate() {
                for (cell, w) in row.iter().enumerate() {
                    values[cell * c + channel] = w;
                }
            }
            return Some(Self {
                kind: Kind::Depthwise {
                    weights: values,
                    columns,
                },
                window,
                shape,
            });
        }
        let each = n / groups.max(1);
        let products = (0..groups)
            .map(|g| Product::new(isa, weights, g * each, each, x, out))
            .collect::<Option<_>>()?;
        Some(Self {
            kind: Kind::Grouped(products),
            window,
            shape,
        })
    }

    pub(crate) fn kernel(&self) -> &'static str {
        match &self.kind {
            Kind::Grouped(p) => p.first().map_or("none", Product::kernel),
            Kind::Depthwise { .. } => "depthwise",
        }
    }

    pub(crate) fn run(&self, isa: Isa, threads: usize, x: Rows<'_>, out: &mut Data) {
        match out {
            Data::I8(v) => self.split(isa, threads, x, v),
            Data::I16(v) => self.split(isa, threads, x, v),
            Data::I32(v) => self.split(isa, threads, x, v),
        }
    }

    fn split<T: Element>(&self, isa: Isa, threads: usize, x: Rows<'_>, out: &mut [T]) {
        let n = self.shape.out[2];
        threads::rows(threads, 4, out, n, |first, part| {
            let mut out = T::out(part);
            match (&self.kind, x) {
                (Kind::Grouped(products), Rows::I8(v)) => {
                    self.grouped(isa, products, v, first, &mut out, |p| Rows::I8(p))
                }
                (Kind::Grouped(products), Rows::I16(v)) => {
                    self.grouped(isa, products, v, first, &mut out, |p| Rows::I16(p))
                }
                (Kind::Depthwise { weights, columns }, Rows::I8(v)) => {
                    self.depthwise(isa, v, weights, columns, first, &mut out)
                }
                (Kind::Depthwise { weights, columns }, Rows::I16(v)) => {
                    self.depthwise(isa, v, weights, columns, first, &mut out)
                }
            }
        });
    }

    /// Whether the image itself is the matrix of patches.
    fn is_pointwise(&self) -> bool {
        self.window.kernel == [1, 1] && self.window.stride == [1, 1] && self.window.pad == [0; 4]
    }

    fn grouped<'x, E: Element>(
        &self,
        isa: Isa,
        products: &[Product],
        x: &'x [E],
        first: usize,
        out: &mut OutMut<'_>,
        wrap: impl for<'a> Fn(&'a [E]) -> Rows<'a>,
    ) {
        let [_, _, n] = self.shape.out;
        let count = out.len() / n;
        let each = n / products.len().max(1);
        let k = products.first().map_or(0, |p| p.k);
        let direct = self.is_pointwise() && products.len() == 1;
        let step = (PATCH_BYTES / (k * size_of::<E>()).max(1))
            .max(8)
            .next_multiple_of(8);
        let mut patches: Vec<E> = Vec::new();
        for at in (0..count).step_by(step) {
            let rows = step.min(count - at);
            for (g, product) in products.iter().enumerate() {
                let part: &[E] = if direct {
                    &x[(first + at) * k..(first + at + rows) * k]
                } else {
                    self.gather(x, first + at, rows, g, products.len(), &mut patches);
                    &patches
                };
                let out = match out {
                    OutMut::I8(v) => OutMut::I8(v),
                    OutMut::I16(v) => OutMut::I16(v),
                    OutMut::I32(v) => OutMut::I32(v),
                };
                let mut dest = Dest {
                    out,
                    at: at * n + g * each,
                    stride: n,
                };
                product.columns(isa, wrap(part), rows, 0, each, &mut dest);
            }
        }
    }

    /// Patches of output cells `first … first + rows`, group `g`, in order `[kh][kw][c/groups]`.
    fn gather<E: Element>(
        &self,
        x: &[E],
        first: usize,
        rows: usize,
        g: usize,
        groups: usize,
        patches: &mut Vec<E>,
    ) {
        let ([h, w, c], [_, ow, _]) = (self.shape.image, self.shape.out);
        let [kh, kw] = self.window.kernel.map(usize::from);
        let per = c / groups.max(1);
        patches.clear();
        patches.resize(rows * kh * kw * per, E::default());
        for (i, patch) in patches.chunks_exact_mut((kh * kw * per).max(1)).enumerate() {
            let (oy, ox) = ((first + i) / ow, (first + i) % ow);
            for (ky, line) in patch.chunks_exact_mut(kw * per).enumerate() {
                let Some(y) = inside(oy, self.window.stride[0], ky, self.window.pad[0], h) else {
                    continue;
                };
                if groups == 1 {
                    // cells inside the image are contiguous
                    let start = (ox * usize::from(self.window.stride[1])) as isize
                        - isize::from(self.window.pad[1]);
                    let skip = usize::try_from(-start).unwrap_or(0).min(kw);
                    let x0 = start.max(0) as usize;
                    let cells = (kw - skip).min(w.saturating_sub(x0));
                    let from = (y * w + x0) * c;
                    line[skip * c..(skip + cells) * c].copy_from_slice(&x[from..from + cells * c]);
                    continue;
                }
                for (kx, cell) in line.chunks_exact_mut(per).enumerate() {
                    let Some(px) = inside(ox, self.window.stride[1], kx, self.window.pad[1], w)
                    else {
                        continue;
                    };
                    let from = (y * w + px) * c + g * per;
                    cell.copy_from_slice(&x[from..from + per]);
                }
            }
        }
    }

    fn depthwise<E: Element>(
        &self,
        isa: Isa,
        x: &[E],
        weights: &[i32],
        columns: &Columns,
        first: usize,
        out: &mut OutMut<'_>,
    ) {
        let ([h, w, c], [_, ow, _]) = (self.shape.image, self.shape.out);
        let [kh, kw] = self.window.kernel.map(usize::from);
        let count = out.len() / c;
        let mut acc = vec![0i32; c];
        for i in 0..count {
            let (oy, ox) = ((first + i) / ow, (first + i) % ow);
            acc.fill(0);
            for ky in 0..kh {
                let Some(y) = inside(oy, self.window.stride[0], ky, self.window.pad[0], h) else {
                    continue;
                };
                for kx in 0..kw {
                    let Some(px) = inside(ox, self.window.stride[1], kx, self.window.pad[1], w)
                    else {
                        continue;
                    };
                    let from = (y * w + px) * c;
                    depthwise_row(
                        isa,
                        &x[from..from + c],
                        &weights[(ky * kw + kx) * c..][..c],
                        &mut acc,
                    );
                }
            }
            columns.finish_block(&acc, c, 0, c, out, i * c, c);
        }
    }
}

/// Input coordinate of kernel cell `k` at output coordinate `o`, if inside `0..n`.
pub(crate) fn inside(o: usize, stride: u8, k: usize, pad: u8, n: usize) -> Option<usize> {
    (o * usize::from(stride) + k)
        .checked_sub(usize::from(pad))
        .filter(|i| *i < n)
}
