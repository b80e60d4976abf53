//! Products of two tensors, as in attention: the right operand is packed on the way, heads may be read and written in place.

use assay_graph::{Data, Requant};

use crate::{
    product::{Rows, with_scratch},
    simd::{
        columns::Columns,
        elementwise::{Element, widen16},
        gemm::{Dest, Form, Left16, Right, gemm16},
        isa::Isa,
        pack::{Order, padded},
    },
    threads,
};

/// How the batches and rows of an operand lie in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// `[…, rows, cols]` as it is.
    Plain,
    /// Stored `[rows, batches, cols]`: the transposition `[1, 0, 2]` is read in passing.
    Heads,
    /// Stored `[cols, batches, rows]`: the transposition `[1, 2, 0]` is read in passing.
    HeadsTransposed,
}

/// A view with the numbers of one run.
#[derive(Clone, Copy, Debug)]
struct Walk {
    batches: usize,
    rows: usize,
    cols: usize,
    /// Distance of batches.
    batch: usize,
    /// Distance of rows, or of columns where these are the outer ones.
    stride: usize,
    order: Order,
}

impl View {
    /// `dims` are those of the buffer.
    fn walk(self, dims: &[usize]) -> Option<Walk> {
        Some(match (self, dims) {
            (Self::Plain, [batches @ .., rows, cols]) => Walk {
                batches: batches.iter().product(),
                rows: *rows,
                cols: *cols,
                batch: rows * cols,
                stride: *cols,
                order: Order::Rows,
            },
            (Self::Heads, [rows, batches, cols]) => Walk {
                batches: *batches,
                rows: *rows,
                cols: *cols,
                batch: *cols,
                stride: batches * cols,
                order: Order::Rows,
            },
            (Self::HeadsTransposed, [cols, batches, rows]) => Walk {
                batches: *batches,
                rows: *rows,
                cols: *cols,
                batch: *rows,
                stride: batches * rows,
                order: Order::Columns,
            },
            _ => return None,
        })
    }
}

/// An operand of a batched product.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) dims: &'a [usize],
    pub(crate) view: View,
}

/// A batched product of two tensors: epilogue for up to the largest number of columns.
pub(crate) struct Batched {
    columns: Columns,
}

impl Batched {
    pub(crate) fn new(largest: usize, out: &Requant) -> Self {
        Self {
            columns: Columns::new(
                vec![(0, out.shift); largest].into_iter(),
                out.dtype,
                out.lo,
                out.hi,
            ),
        }
    }

    /// `heads`: write `[rows, batches, cols]` instead of `[batches, rows, cols]`. `None`: shapes that don't fit.
    pub(crate) fn run(
        &self,
        isa: Isa,
        threads: usize,
        a: Factor<'_>,
        b: Factor<'_>,
        heads: bool,
        out: &mut Data,
    ) -> Option<()> {
        let (wa, wb) = (a.view.walk(a.dims)?, b.view.walk(b.dims)?);
        if wa.cols != wb.cols || wa.batches != wb.batches || wa.order != Order::Rows {
            return None;
        }
        // the left operand is widened once for all batches
        let mut wide = with_scratch(|s| std::mem::take(&mut s.left));
        let left = match a.rows {
            Rows::I16(v) => v,
            Rows::I8(v) => {
                wide.resize(v.len(), 0);
                widen16(isa, v, &mut wide);
                &wide
            }
        };
        match out {
            Data::I8(v) => self.split(isa, threads, (left, wa), (b.rows, wb), heads, v),
            Data::I16(v) => self.split(isa, threads, (left, wa), (b.rows, wb), heads, v),
            Data::I32(v) => self.split(isa, threads, (left, wa), (b.rows, wb), heads, v),
        }
        with_scratch(|s| s.left = wide);
        Some(())
    }

    fn split<T: Element>(
        &self,
        isa: Isa,
        threads: usize,
        (a, wa): (&[i16], Walk),
        (b, wb): (Rows<'_>, Walk),
        heads: bool,
        out: &mut [T],
    ) {
        let (m, n) = (wa.rows, wb.rows);
        if heads {
            // threads share rows; each packs all heads
            let row = wa.batches * n;
            return threads::rows(threads, 8, out, row, |first, part| {
                for batch in 0..wa.batches {
                    let a = &a[batch * wa.batch + first * wa.stride..];
                    let rows = part.len() / row.max(1);
                    self.one(
                        isa,
                        (a, Walk { rows, ..wa }),
                        (b, wb),
                        batch,
                        &mut Dest {
                            out: T::out(part),
                            at: batch * n,
                            stride: row,
                        },
                    );
                }
            });
        }
        threads::rows(threads, 1, out, m * n, |first, part| {
            for (i, out) in part.chunks_exact_mut((m * n).max(1)).enumerate() {
                let batch = first + i;
                self.one(
                    isa,
                    (&a[batch * wa.batch..], wa),
                    (b, wb),
                    batch,
                    &mut Dest {
                        out: T::out(out),
                        at: 0,
                        stride: n,
                    },
                );
            }
        });
    }

    fn one(
        &self,
        isa: Isa,
        (a, wa): (&[i16], Walk),
        (b, wb): (Rows<'_>, Walk),
        batch: usize,
        dest: &mut Dest<'_>,
    ) {
        let (k, n) = (wb.cols, wb.rows);
        let padded = padded(k);
        with_scratch(|scratch| {
            let from = batch * wb.batch;
            match b {
                Rows::I16(v) => scratch
                    .packed
                    .fill(isa, &v[from..], wb.order, wb.stride, n, k),
                Rows::I8(v) => scratch
                    .packed
                    .fill(isa, &v[from..], wb.order, wb.stride, n, k),
            }
            let left = if padded == k {
                Left16 {
                    data: a,
                    stride: wa.stride,
                    rows: wa.rows,
                }
            } else {
                scratch.wide.clear();
                scratch.wide.resize(wa.rows * padded, 0);
                for (o, x) in scratch
                    .wide
                    .chunks_exact_mut(padded)
                    .zip(a.chunks(wa.stride))
                {
                    o[..k].copy_from_slice(&x[..k]);
                }
                Left16 {
                    data: &scratch.wide,
                    stride: padded,
                    rows: wa.rows,
                }
            };
            let right = Right {
                lines: &scratch.packed.lines[..],
                steps: scratch.packed.steps,
                n,
                j0: 0,
            };
            gemm16(isa, Form::Plain, left, right, &self.columns, dest);
        });
    }
}
