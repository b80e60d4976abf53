//! Linear layers: packed weights and the choice of kernel.

use std::cell::RefCell;

use assay_graph::{Const, ConstKind, DType, Data, Requant, TensorType};

use crate::{
    simd::{
        blocks::Limbs,
        columns::Columns,
        elementwise::{Element, offset8, widen16},
        gemm::{Dest, Form, Left8, Left16, Right, gemm8, gemm16},
        isa::{Isa, Tier},
        pack::{Order, PANEL, Packed8, Packed16, padded},
    },
    threads,
};

/// Buffers of a thread, reused from operator to operator.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) wide: Vec<i16>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) packed: Packed16,
    pub(crate) left: Vec<i16>,
    pub(crate) limbs: Limbs,
    pub(crate) high: Vec<i32>,
    pub(crate) low: Vec<i32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs `f` with this thread's buffers. `f` must not start parallel work.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with(|s| match s.try_borrow_mut() {
        Ok(mut s) => f(&mut s),
        Err(_) => f(&mut Scratch::default()),
    })
}

enum Panels {
    Wide(Packed16, Form),
    Narrow(Packed8),
}

/// A weight matrix ready for the kernels.
pub(crate) struct Product {
    panels: Panels,
    columns: Columns,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// Left operands of a product, before they are brought into the kernel's form.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
}

impl<'a> Rows<'a> {
    pub(crate) fn of(data: &'a Data) -> Option<Self> {
        match data {
            Data::I8(v) => Some(Self::I8(v)),
            Data::I16(v) => Some(Self::I16(v)),
            Data::I32(_) => None,
        }
    }

    pub(crate) fn part(self, from: usize, to: usize) -> Self {
        match self {
            Self::I8(v) => Self::I8(&v[from..to]),
            Self::I16(v) => Self::I16(&v[from..to]),
        }
    }
}

impl Product {
    /// Packs rows `first … first + n` of a `weights` constant for inputs of type `x` (zero included when the operator pads).
    pub(crate) fn new(
        isa: Isa,
        weights: &Const,
        first: usize,
        n: usize,
        x: &TensorType,
        out: &Requant,
    ) -> Option<Self> {
        let ConstKind::Weights { cols, dtype, .. } = weights.kind() else {
            return None;
        };
        let k = cols as usize;
        let rows: Vec<_> = (first..first + n)
            .map(|r| weights.weight_row(r as u32))
            .collect::<Option<_>>()?;
        let columns = Columns::new(
            rows.iter().map(|r| (r.bias, r.shift)),
            out.dtype,
            out.lo,
            out.hi,
        );
        let values: Vec<i16> = rows
            .iter()
            .flat_map(|r| r.iter().map(|w| w as i16))
            .collect();
        if isa.tier() == Tier::Avx512Vnni && x.dtype == DType::I8 && dtype == DType::I8 {
            let packed = Packed8::new(&values.iter().map(|w| *w as i8).collect::<Vec<_>>(), n, k);
            let columns = columns.corrected(&packed.offset_sums());
            return Some(Self {
                panels: Panels::Narrow(packed),
                columns,
                n,
                k,
            });
        }
        let mut packed = Packed16::default();
        packed.fill(isa, &values, Order::Rows, k, n, k);
        let peak = values
            .iter()
            .map(|w| i32::from(*w).abs())
            .max()
            .unwrap_or(0);
        let fits =
            x.lo.min(0) - peak >= i32::from(i16::MIN) && x.hi.max(0) + peak <= i32::from(i16::MAX);
        if isa.prefers_paired() && fits {
            let columns = columns.corrected(&packed.pair_sums());
            return Some(Self {
                panels: Panels::Wide(packed, Form::Paired),
                columns,
                n,
                k,
            });
        }
        Some(Self {
            panels: Panels::Wide(packed, Form::Plain),
            columns,
            n,
            k,
        })
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.panels {
            Panels::Wide(p, _) => p.lines.len() * 64,
            Panels::Narrow(p) => p.lines.len() * 64,
        }
    }

    /// Name of the kernel, for profiles.
    pub(crate) fn kernel(&self) -> &'static str {
        match &self.panels {
            Panels::Wide(_, Form::Paired) => "i16 paired",
            Panels::Wide(_, Form::Plain) => "i16",
            Panels::Narrow(_) => "i8",
        }
    }

    /// `rows` rows of `k` values, all columns, on several threads.
    pub(crate) fn run(&self, isa: Isa, threads: usize, x: Rows<'_>, out: &mut Data) {
        match out {
            Data::I8(v) => self.split(isa, threads, x, v),
            Data::I16(v) => self.split(isa, threads, x, v),
            Data::I32(v) => self.split(isa, threads, x, v),
        }
    }

    fn split<T: Element>(&self, isa: Isa, threads: usize, x: Rows<'_>, out: &mut [T]) {
        let rows = out.len() / self.n.max(1);
        if threads > 1 && rows < 4 * threads && self.n >= 4 * PANEL * threads {
            // few rows: each thread takes some columns of one row
            let width = self.n.div_ceil(threads).next_multiple_of(3 * PANEL);
            for (r, row) in out.chunks_exact_mut(self.n).enumerate() {
                let x = x.part(r * self.k, (r + 1) * self.k);
                rayon_columns(row, width, |j0, part| {
                    let n = part.len();
                    let mut dest = Dest {
                        out: T::out(part),
                        at: 0,
                        stride: n,
                    };
                    self.columns(isa, x, 1, j0, n, &mut dest);
                });
            }
            return;
        }
        threads::rows(threads, 4, out, self.n, |first, part| {
            let count = part.len() / self.n;
            let x = x.part(first * self.k, (first + count) * self.k);
            let mut dest = Dest {
                out: T::out(part),
                at: 0,
                stride: self.n,
            };
            self.columns(isa, x, count, 0, self.n, &mut dest);
        });
    }

    /// `count` rows, columns `j0 … j0 + n` (`j0` a multiple of a panel) on this thread.
    pub(crate) fn columns(
        &self,
        isa: Isa,
        x: Rows<'_>,
        count: usize,
        j0: usize,
        n: usize,
        dest: &mut Dest<'_>,
    ) {
        let stride = padded(self.k);
        with_scratch(|scratch| match (&self.panels, x) {
            (Panels::Wide(w, form), x) => {
                let right = Right {
                    lines: &w.lines[j0 / PANEL * w.steps..],
                    steps: w.steps,
                    n,
                    j0,
                };
                let data = match x {
                    Rows::I16(v) if stride == self.k => v,
                    x => widened(isa, x, count, self.k, &mut scratch.wide),
                };
                gemm16(
                    isa,
                    *form,
                    Left16 {
                        data,
                        stride,
                        rows: count,
                    },
                    right,
                    &self.columns,
                    dest,
                );
            }
            (Panels::Narrow(w), Rows::I8(v)) => {
                scratch.bytes.resize(count * stride, 128);
                for (o, x) in scratch
                    .bytes
                    .chunks_exact_mut(stride)
                    .zip(v.chunks_exact(self.k))
                {
                    offset8(isa, x, &mut o[..self.k]);
                }
                let right = Right {
                    lines: &w.lines[j0 / PANEL * w.steps..],
                    steps: w.steps,
                    n,
                    j0,
                };
                gemm8(
                    isa,
                    Left8 {
                        data: &scratch.bytes,
                        stride,
                        rows: count,
                    },
                    right,
                    &self.columns,
                    dest,
                );
            }
            // 8-bit panels are packed for 8-bit inputs only
            (Panels::Narrow(_), Rows::I16(_)) => {}
        });
    }
}

fn rayon_columns<T: Send>(row: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    use rayon::prelude::*;
    row.par_chunks_mut(width)
        .enumerate()
        .for_each(|(i, part)| f(i * width, part));
}

/// `count` rows of `k` values as `i16` with zeros up to `padded(k)`.
fn widened<'s>(
    isa: Isa,
    x: Rows<'_>,
    count: usize,
    k: usize,
    buffer: &'s mut Vec<i16>,
) -> &'s [i16] {
    let stride = padded(k);
    buffer.resize(count * stride, 0);
    for (r, o) in buffer.chunks_exact_mut(stride).enumerate() {
        let (row, rest) = o.split_at_mut(k);
        rest.fill(0);
        match x.part(r * k, (r + 1) * k) {
            Rows::I8(v) => widen16(isa, v, row),
            Rows::I16(v) => row.copy_from_slice(v),
        }
    }
    buffer
}
