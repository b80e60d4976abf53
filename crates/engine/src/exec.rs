//! One step: operands in, output buffer filled.

use assay_graph::{Data, Extent, Statement};

use crate::{
    batched::{Batched, Factor, View},
    conv::Shape,
    exec_language, moves,
    plan::{Fused, Kernel, Step, Table},
    pool,
    product::Rows,
    simd::{elementwise, isa::Isa, language, lookup, norm, softmax},
    threads,
};

/// Elements that are worth a thread.
const LEAST: usize = if cfg!(test) { 32 } else { 4096 };

/// Binds `$v` to the slice of a tensor, whatever its type.
macro_rules! typed {
    ($data:expr, $v:ident => $e:expr) => {
        match $data {
            Data::I8($v) => $e,
            Data::I16($v) => $e,
            Data::I32($v) => $e,
        }
    };
}

/// As `typed` for operators that take 8 or 16 bits only.
macro_rules! narrow {
    ($data:expr, $v:ident => $e:expr) => {
        match $data {
            Data::I8($v) => $e,
            Data::I16($v) => $e,
            Data::I32(_) => return None,
        }
    };
}

/// Binds two tensors that have the same type; `false` when they don't.
macro_rules! same {
    ($x:expr, $out:expr, |$a:ident, $b:ident| $e:expr) => {
        match ($x, $out) {
            (Data::I8($a), Data::I8($b)) => $e,
            (Data::I16($a), Data::I16($b)) => $e,
            (Data::I32($a), Data::I32($b)) => $e,
            _ => return None,
        }
    };
}

/// An operand: dimensions of this run and elements.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) dims: &'a [usize],
    pub(crate) data: &'a Data,
}

/// Where and how a step runs.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) isa: Isa,
    pub(crate) threads: usize,
    pub(crate) extent: Extent,
    /// Of a generative graph.
    pub(crate) statement: Option<&'a Statement>,
}

impl Context<'_> {
    /// Computes `step` into `out`, which has the output's type and length. `None`: operands of another type than the operator takes.
    pub(crate) fn run(
        self,
        step: &Step,
        operands: &[Operand<'_>],
        dims: &[usize],
        out: &mut Data,
    ) -> Option<()> {
        let x = *operands.first()?;
        let (isa, threads) = (self.isa, self.threads);
        let last = x.dims.last().copied().unwrap_or(1).max(1);
        match &step.kernel {
            Kernel::Input | Kernel::View => return None,
            Kernel::Linear(product) => product.run(isa, threads, Rows::of(x.data)?, out),
            Kernel::Limbs(linear) => {
                let e: &[i8] = match operands.get(1).map(|o| o.data) {
                    Some(Data::I8(e)) => e,
                    Some(_) => return None,
                    None => &[],
                };
                linear.run(isa, threads, Rows::of(x.data)?, e, out);
            }
            Kernel::Conv(conv) => conv.run(isa, threads, Rows::of(x.data)?, out),
            Kernel::MatMul(batched) => {
                self.product(batched, operands, [View::Plain; 2], false, out)?
            }
            Kernel::Add { left, how } => {
                let b = operands.get(1)?.data;
                typed!(x.data, a => typed!(b, b => typed!(out, out => threads::rows(threads, LEAST, out, 1, |at, part| {
                    elementwise::add(isa, &a[at..], &b[at..], *left, *how, part);
                }))));
            }
            Kernel::AddRows {
                rows,
                cols,
                left,
                how,
            } => {
                let [.., r, c] = *x.dims else { return None };
                typed!(x.data, a => typed!(rows, b => typed!(out, out => threads::rows(threads, 8, out, c, |first, part| {
                    for (i, part) in part.chunks_exact_mut(c).enumerate() {
                        let row = first + i;
                        elementwise::add(isa, &a[row * c..], &b[row % r * cols..], *left, *how, part);
                    }
                }))));
            }
            Kernel::Rescale(how) => {
                typed!(x.data, a => typed!(out, out => threads::rows(threads, LEAST, out, 1, |at, part| {
                    elementwise::rescale(isa, &a[at..], *how, part);
                })))
            }
            Kernel::Lookup(table) => self.lookup(table, x.data, out)?,
            Kernel::Pool { kind, window } => {
                let shape = Shape {
                    image: x.dims.try_into().ok()?,
                    out: dims.try_into().ok()?,
                };
                same!(x.data, out, |a, b| pool::pool(
                    isa, threads, *kind, a, shape, window, b
                ));
            }
            Kernel::LayerNorm(p) => {
                typed!(out, out => threads::rows(threads, 4, out, last, |first, part| {
                    let mut d = vec![0i32; last];
                    match x.data {
                        Data::I16(a) => norm::layer_norm16(isa, &a[first * last..], last, p, &mut d, part),
                        Data::I8(a) => norm::layer_norm(isa, &a[first * last..], last, p, &mut d, part),
                        Data::I32(a) => norm::layer_norm(isa, &a[first * last..], last, p, &mut d, part),
                    }
                }))
            }
            Kernel::RmsNorm(p) => {
                typed!(x.data, a => typed!(out, out => threads::rows(threads, 4, out, last, |first, part| {
                    let mut d = vec![0i32; last];
                    norm::rms_norm(isa, &a[first * last..], last, p, &mut d, part);
                })))
            }
            Kernel::Lift { weights, how } => {
                let (Data::I32(ids), cols) = (x.data, dims.last().copied()?) else {
                    return None;
                };
                typed!(out, out => exec_language::lift(weights, ids, how, cols, out));
            }
            Kernel::Rope { angles, d, how } => {
                narrow!(x.data, a => typed!(out, out => threads::rows(threads, 4, out, last, |first, part| {
                    for (i, part) in part.chunks_exact_mut(last).enumerate() {
                        let t = first + i;
                        language::rope(isa, &a[t * last..(t + 1) * last], &angles[t * d..(t + 1) * d], *how, part);
                    }
                })))
            }
            Kernel::Mul(how) => {
                let b = operands.get(1)?.data;
                narrow!(x.data, a => narrow!(b, b => typed!(out, out => threads::rows(threads, LEAST, out, 1, |at, part| {
                    language::mul(isa, &a[at..], &b[at..], *how, part);
                }))));
            }
            Kernel::Exponent { bits } => {
                let Data::I8(out) = out else { return None };
                typed!(x.data, a => threads::rows(threads, 4, out, 1, |at, part| {
                    language::exponents(isa, &a[at * last..], last, *bits, part);
                }));
            }
            Kernel::Normalise(how) => {
                let Data::I8(e) = operands.get(1)?.data else {
                    return None;
                };
                typed!(x.data, a => typed!(out, out => threads::rows(threads, 4, out, last, |first, part| {
                    language::normalise(isa, &a[first * last..], last, &e[first..], *how, part);
                })));
            }
            Kernel::Scores { heads, kv_heads } => {
                let (k, Data::I32(out)) = (operands.get(1)?.data, out) else {
                    return None;
                };
                let shape = [*heads, *kv_heads, last / heads];
                let seq = x.dims.first().copied()?;
                narrow!(x.data, q => narrow!(k, k => exec_language::scores(self, (q, k), shape, seq, out)));
            }
            Kernel::CausalExp { table, shifts } => {
                let (Data::I32(s), Data::I16(out)) = (x.data, out) else {
                    return None;
                };
                exec_language::causal_exp(self, s, table, shifts, last, out);
            }
            Kernel::Mix {
                kv_heads,
                bits,
                how,
            } => {
                let (v, heads) = (operands.get(1)?, x.dims.first().copied()?);
                let shape = [heads, *kv_heads, v.dims.first().copied()? / kv_heads];
                narrow!(x.data, e => narrow!(v.data, v => typed!(out, out => {
                    exec_language::mix(self, e, v, shape, last, *bits, how, out);
                })));
            }
            Kernel::Tail => same!(x.data, out, |a, out| exec_language::tail(a, out)?),
            Kernel::Sampler(step) => exec_language::sampler(self, step, operands, out)?,
            Kernel::Softmax(p) => {
                let Data::I16(out) = out else { return None };
                threads::rows(threads, 8, out, last, |first, part| {
                    let mut e = vec![0i16; last];
                    let range = first * last..first * last + part.len();
                    match x.data {
                        Data::I16(a) => softmax::softmax(isa, &a[range], last, p, &mut e, part),
                        Data::I8(a) => softmax::softmax_any(&a[range], last, p, &mut e, part),
                        Data::I32(a) => softmax::softmax_any(&a[range], last, p, &mut e, part),
                    }
                });
            }
            Kernel::ReduceSum => {
                let Data::I32(out) = out else { return None };
                typed!(x.data, a => pool::reduce_sum(a, last, out));
            }
            Kernel::ArgMax => {
                let Data::I32(out) = out else { return None };
                typed!(x.data, a => pool::arg_max(a, last, out));
            }
            Kernel::Embedding { rows, cols } => {
                let ids = x.data.to_i32();
                same!(rows, out, |table, out| moves::embedding(
                    &ids, table, *cols, out
                ));
            }
            Kernel::Transpose { perm } => same!(x.data, out, |a, out| moves::transpose(
                threads, a, x.dims, perm, out
            )),
            Kernel::Slice { axis, start, len } => {
                let inner: usize = x.dims.iter().skip(axis + 1).product();
                let n = *x.dims.get(*axis)?;
                same!(x.data, out, |a, out| moves::slice(
                    a, n, inner, *start, *len, out
                ));
            }
            Kernel::Concat { axis } => {
                let all: usize = dims.iter().skip(*axis).product();
                let mut at = 0;
                for o in operands {
                    let own: usize = o.dims.iter().skip(*axis).product();
                    same!(o.data, &mut *out, |a, out| moves::join(
                        a, own, at, all, out
                    ));
                    at += own;
                }
            }
        }
        Some(())
    }

    /// A product of attention with the transpositions around it, when only outputs of the lean plan are kept.
    pub(crate) fn run_fused(
        self,
        fused: &Fused,
        matmul: &Step,
        operands: &[Operand<'_>],
        out: &mut Data,
    ) -> Option<()> {
        let Kernel::MatMul(batched) = &matmul.kernel else {
            return None;
        };
        self.product(batched, operands, fused.views, fused.heads, out)
    }

    fn product(
        self,
        batched: &Batched,
        operands: &[Operand<'_>],
        views: [View; 2],
        heads: bool,
        out: &mut Data,
    ) -> Option<()> {
        let [a, b] = *operands else { return None };

        batched.run(
            self.isa,
            self.threads,
            factor(a, views[0])?,
            factor(b, views[1])?,
            heads,
            out,
        )
    }

    fn lookup(self, table: &Table, x: &Data, out: &mut Data) -> Option<()> {
        match (table, x, out) {
            (Table::From8To8(t), Data::I8(x), Data::I8(out)) => {
                threads::rows(self.threads, LEAST, out, 1, |at, part| {
                    lookup::lookup_bytes(self.isa, &x[at..], t, part)
                })
            }
            (Table::From8To16(t), Data::I8(x), Data::I16(out)) => {
                threads::rows(self.threads, LEAST, out, 1, |at, part| {
                    lookup::lookup8(&x[at..], t, part)
                })
            }
            (Table::From16To8(t), Data::I16(x), Data::I8(out)) => {
                threads::rows(self.threads, LEAST, out, 1, |at, part| {
                    lookup::lookup16(&x[at..], t, part)
                })
            }
            (Table::From16To16(t), Data::I16(x), Data::I16(out)) => {
                threads::rows(self.threads, LEAST, out, 1, |at, part| {
                    lookup::lookup16(&x[at..], t, part)
                });
            }
            _ => return None,
        }
        Some(())
    }
}

fn factor(o: Operand<'_>, view: View) -> Option<Factor<'_>> {
    Rows::of(o.data).map(|rows| Factor {
        rows,
        dims: o.dims,
        view,
    })
}
