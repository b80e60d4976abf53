//! Output types, and what one element costs: everything that can be checked from the structure alone (the chain does, at registration).

use crate::{
    consts::ConstKind,
    error::GraphError,
    node::{ConstId, Header, Node, Op, Requant, Window},
    types::{DType, Dim, Extent, MAX_ELEMENTS, MAX_RANK, Shape, TensorType},
};

/// Most operands of a node.
pub const MAX_INPUTS: usize = 16;
/// Most nodes and most constants of a graph.
pub const MAX_NODES: usize = 1 << 16;
/// Longest reduction (keeps `Σ` of `i16` squares and of softmax terms within their widths).
pub(crate) const MAX_REDUCTION: u64 = 1 << 16;
/// Most entries of a softmax table.
pub(crate) const MAX_EXP: u32 = 4096;

/// What judging one element takes, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Slices of producers.
    pub slices: u64,
    /// Bytes of those slices.
    pub bytes: u64,
    /// Bytes of constant rows.
    pub constants: u64,
    /// Multiply-adds or comparable steps.
    pub steps: u64,
}

impl Cost {
    /// Work of one element in multiply-adds: what finding slices and decoding constants takes counts too (measured: docs/benchmarks.md, "arbitration").
    pub const fn work(&self) -> u64 {
        self.steps + 50 * self.slices + self.constants / 2
    }
}

/// A node's type checker: collects what is needed for errors.
pub(crate) struct Checker<'a> {
    pub(crate) header: Header,
    pub(crate) kinds: &'a [ConstKind],
    pub(crate) types: &'a [TensorType],
    pub(crate) index: u32,
    pub(crate) name: &'a str,
}

impl Checker<'_> {
    pub(crate) fn fail<T>(&self, why: impl Into<String>) -> Result<T, GraphError> {
        Err(GraphError::Node {
            node: self.index,
            name: self.name.to_owned(),
            why: why.into(),
        })
    }

    pub(crate) fn ensure(&self, ok: bool, why: &str) -> Result<(), GraphError> {
        if ok { Ok(()) } else { self.fail(why) }
    }

    pub(crate) fn kind(&self, id: ConstId) -> Result<ConstKind, GraphError> {
        match self.kinds.get(id as usize) {
            Some(k) => Ok(*k),
            None => self.fail(format!("constant {id} does not exist")),
        }
    }

    pub(crate) fn operand(&self, node: &Node, i: usize) -> Result<&TensorType, GraphError> {
        match node
            .inputs
            .get(i)
            .and_then(|id| self.types.get(*id as usize))
        {
            Some(t) => Ok(t),
            None => self.fail(format!("operand {i} is missing or not an earlier node")),
        }
    }

    /// Type of the node's output and the cost of one of its elements.
    pub(crate) fn infer(&self, node: &Node) -> Result<(TensorType, Cost), GraphError> {
        let arity = match node.op {
            Op::Input { .. } => 0..=0,
            Op::MatMul { .. }
            | Op::Add { .. }
            | Op::Mul { .. }
            | Op::Normalise { .. }
            | Op::Scores { .. }
            | Op::Mix { .. }
            | Op::Adjust { .. }
            | Op::Gap { .. }
            | Op::Mass { .. } => 2..=2,
            Op::Pick { .. } => 3..=3,
            Op::Linear { .. } => 1..=2,
            Op::Concat { .. } => 2..=MAX_INPUTS,
            _ => 1..=1,
        };
        self.ensure(
            arity.contains(&node.inputs.len()),
            "wrong number of operands",
        )?;
        self.ensure(
            (self.index == 0) == matches!(node.op, Op::Input { .. }),
            "the input node must be the first and only the first",
        )?;
        let (ty, cost) = self.infer_op(node)?;
        self.check_type(&ty)?;
        Ok((ty, cost))
    }

    /// The largest run: an answer may be as long as all positions.
    pub(crate) const fn largest(&self) -> Extent {
        Extent {
            seq: self.header.max_seq,
            out: self.header.max_seq,
        }
    }

    pub(crate) fn check_type(&self, ty: &TensorType) -> Result<(), GraphError> {
        self.ensure(ty.shape.len() <= MAX_RANK, "more than 6 dimensions")?;
        let mut elements = 1u64;
        for dim in &ty.shape {
            let d = u64::from(dim.at(self.largest()));
            self.ensure(d > 0, "a dimension is 0")?;
            elements = elements.saturating_mul(d);
        }
        self.ensure(elements <= MAX_ELEMENTS, "more than 2^28 elements")?;
        let (lo, hi) = ty.dtype.range();
        self.ensure(
            ty.lo <= ty.hi && ty.lo >= lo && ty.hi <= hi,
            "declared range is empty or outside the element type",
        )
    }

    pub(crate) fn requant(&self, out: &Requant, own_shift: bool) -> Result<(), GraphError> {
        let (lo, hi) = out.dtype.range();
        self.ensure(
            out.lo <= out.hi && out.lo >= lo && out.hi <= hi,
            "clamp is empty or outside the element type",
        )?;
        self.ensure((-15..=31).contains(&out.shift), "shift outside -15 … 31")?;
        self.ensure(
            own_shift || out.shift == 0,
            "shift must be 0 where rows bring their own",
        )
    }

    pub(crate) fn out(&self, shape: Shape, out: &Requant) -> TensorType {
        TensorType {
            dtype: out.dtype,
            shape,
            lo: out.lo,
            hi: out.hi,
        }
    }

    pub(crate) fn fixed(&self, dim: Option<&Dim>, what: &str) -> Result<u32, GraphError> {
        match dim {
            Some(Dim::Fixed(n)) => Ok(*n),
            _ => self.fail(format!("{what} must be a fixed dimension")),
        }
    }

    pub(crate) fn narrow(&self, ty: &TensorType) -> Result<(), GraphError> {
        self.ensure(ty.dtype != DType::I32, "operand must be i8 or i16")
    }

    fn image(&self, ty: &TensorType) -> Result<[u32; 3], GraphError> {
        match ty.shape[..] {
            [Dim::Fixed(h), Dim::Fixed(w), Dim::Fixed(c)] => Ok([h, w, c]),
            _ => self.fail("operand must be [h, w, c] of fixed dimensions"),
        }
    }

    fn window(&self, window: &Window, h: u32, w: u32) -> Result<(Dim, Dim), GraphError> {
        let [kh, kw] = window.kernel.map(u32::from);
        let [sh, sw] = window.stride.map(u32::from);
        let [top, left, bottom, right] = window.pad.map(u32::from);
        self.ensure(
            kh > 0 && kw > 0 && sh > 0 && sw > 0,
            "kernel and stride must be at least 1",
        )?;
        self.ensure(
            top < kh && bottom < kh && left < kw && right < kw,
            "padding must be smaller than the kernel",
        )?;
        let (Some(th), Some(tw)) = (h.checked_add(top + bottom), w.checked_add(left + right))
        else {
            return self.fail("image too large");
        };
        self.ensure(
            th >= kh && tw >= kw,
            "kernel is larger than the padded image",
        )?;
        let (oh, ow) = ((th - kh) / sh + 1, (tw - kw) / sw + 1);
        // every window has a cell inside: the last one may not start beyond the image
        self.ensure(
            (oh - 1) * sh < h + top && (ow - 1) * sw < w + left,
            "a window lies in the padding",
        )?;
        Ok((Dim::Fixed(oh), Dim::Fixed(ow)))
    }

    /// Rows, columns and bytes of a row of a `weights` or `blocks` constant.
    pub(crate) fn weight_rows(&self, id: ConstId) -> Result<(u32, u32, u64), GraphError> {
        let kind = self.kind(id)?;
        match kind {
            ConstKind::Weights { rows, cols, .. } | ConstKind::Blocks { rows, cols, .. } => {
                Ok((rows, cols, kind.row_bytes(0) as u64))
            }
            _ => self.fail("constant is not of kind weights or blocks"),
        }
    }

    /// Checks that operand `i` holds one exponent for each row.
    pub(crate) fn exponents(&self, node: &Node, i: usize, rows: &[Dim]) -> Result<(), GraphError> {
        let e = self.operand(node, i)?;
        self.ensure(
            e.shape == rows && e.dtype == DType::I8 && e.lo >= 0,
            "the second operand must hold one exponent, i8 and not negative, for each row",
        )
    }

    #[allow(
        clippy::too_many_lines,
        reason = "one arm per operator; each is the operator's whole typing rule"
    )]
    fn infer_op(&self, node: &Node) -> Result<(TensorType, Cost), GraphError> {
        let seq = self.largest();
        Ok(match &node.op {
            Op::Input { ty } => {
                self.check_type(ty)?;
                (ty.clone(), Cost::default())
            }
            Op::Linear { weights, out } => {
                self.requant(out, false)?;
                let x = self.operand(node, 0)?;
                self.narrow(x)?;
                let (rows, cols, row_bytes) = self.weight_rows(*weights)?;
                let k = self.fixed(x.shape.last(), "the reduced axis")?;
                self.ensure(
                    k == cols,
                    "weights have another number of columns than the input",
                )?;
                let mut shape = x.shape.clone();
                shape.pop();
                let exponents = node.inputs.len() as u64 - 1;
                if exponents > 0 {
                    self.exponents(node, 1, &shape)?;
                }
                shape.push(Dim::Fixed(rows));
                (
                    self.out(shape, out),
                    Cost {
                        slices: 1 + exponents,
                        bytes: bytes(k, x.dtype) + exponents,
                        constants: row_bytes,
                        steps: u64::from(k),
                    },
                )
            }
            Op::Conv2d {
                weights,
                window,
                groups,
                out,
            } => {
                self.requant(out, false)?;
                let x = self.operand(node, 0)?;
                self.narrow(x)?;
                let [h, w, c] = self.image(x)?;
                let ConstKind::Weights { rows, cols, dtype } = self.kind(*weights)? else {
                    return self.fail("constant is not of kind weights");
                };
                self.ensure(
                    *groups > 0 && c % groups == 0 && rows % groups == 0,
                    "groups must divide both channel counts",
                )?;
                let (oh, ow) = self.window(window, h, w)?;
                let [kh, kw] = window.kernel.map(u32::from);
                self.ensure(
                    u64::from(cols) == u64::from(kh) * u64::from(kw) * u64::from(c / groups),
                    "weights have another number of columns than the patch",
                )?;
                let slices = if *groups == 1 {
                    u64::from(kh)
                } else {
                    u64::from(kh * kw)
                };
                (
                    self.out(vec![oh, ow, Dim::Fixed(rows)], out),
                    Cost {
                        slices,
                        bytes: bytes(cols, x.dtype),
                        constants: 5 + bytes(cols, dtype),
                        steps: u64::from(cols),
                    },
                )
            }
            Op::MatMul { out } => {
                self.requant(out, true)?;
                let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
                self.narrow(a)?;
                self.narrow(b)?;
                let ([batch_a @ .., m, ka], [batch_b @ .., n, kb]) = (&a.shape[..], &b.shape[..])
                else {
                    return self.fail("operands need at least 2 dimensions");
                };
                self.ensure(
                    batch_a == batch_b && ka == kb,
                    "operands do not fit: […, m, k] × […, n, k]",
                )?;
                let k = ka.at(seq);
                let mut shape = batch_a.to_vec();
                shape.extend([*m, *n]);
                (
                    self.out(shape, out),
                    Cost {
                        slices: 2,
                        bytes: bytes(k, a.dtype) + bytes(k, b.dtype),
                        constants: 0,
                        steps: u64::from(k),
                    },
                )
            }
            Op::Add { left, out } => {
                self.requant(out, true)?;
                let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
                self.ensure(a.shape == b.shape, "operands have different shapes")?;
                self.ensure(left.iter().all(|l| *l <= 15), "left shift above 15")?;
                (
                    self.out(a.shape.clone(), out),
                    Cost {
                        slices: 2,
                        bytes: 8,
                        constants: 0,
                        steps: 1,
                    },
                )
            }
            Op::AddRows { rows, left, out } => {
                self.requant(out, true)?;
                let x = self.operand(node, 0)?;
                let ConstKind::Rows { rows, cols, dtype } = self.kind(*rows)? else {
                    return self.fail("constant is not of kind rows");
                };
                let [.., r, c] = x.shape[..] else {
                    return self.fail("operand needs at least 2 dimensions");
                };
                self.ensure(
                    r.at(seq) <= rows && c.at(seq) <= cols,
                    "constant is smaller than the last two dimensions",
                )?;
                self.ensure(left.iter().all(|l| *l <= 15), "left shift above 15")?;
                (
                    self.out(x.shape.clone(), out),
                    Cost {
                        slices: 1,
                        bytes: 4,
                        constants: bytes(cols, dtype),
                        steps: 1,
                    },
                )
            }
            Op::Requant { out } => {
                self.requant(out, true)?;
                (
                    self.out(self.operand(node, 0)?.shape.clone(), out),
                    Cost {
                        slices: 1,
                        bytes: 4,
                        constants: 0,
                        steps: 1,
                    },
                )
            }
            Op::Lookup { table } => {
                let x = self.operand(node, 0)?;
                self.narrow(x)?;
                let ConstKind::Table { entries, dtype } = self.kind(*table)? else {
                    return self.fail("constant is not of kind table");
                };
                self.ensure(
                    u64::from(entries) == 1 << (8 * x.dtype.size()),
                    "table has another number of entries than the input type has values",
                )?;
                let (lo, hi) = dtype.range();
                (
                    TensorType {
                        dtype,
                        shape: x.shape.clone(),
                        lo,
                        hi,
                    },
                    Cost {
                        slices: 1,
                        bytes: 2,
                        constants: 1024,
                        steps: 1,
                    },
                )
            }
            Op::MaxPool { window } | Op::AvgPool { window } => {
                let x = self.operand(node, 0)?;
                let [h, w, c] = self.image(x)?;
                let (oh, ow) = self.window(window, h, w)?;
                let cells = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                let mut ty = x.clone();
                ty.shape = vec![oh, ow, Dim::Fixed(c)];
                (
                    ty,
                    Cost {
                        slices: cells,
                        bytes: cells * x.dtype.size() as u64,
                        constants: 0,
                        steps: cells,
                    },
                )
            }
            Op::LayerNorm { params, eps, out } => {
                self.requant(out, true)?;
                let x = self.operand(node, 0)?;
                let n = self.fixed(x.shape.last(), "the normalised axis")?;
                self.ensure(
                    u64::from(n) <= MAX_REDUCTION,
                    "normalised axis longer than 65,536",
                )?;
                self.ensure(*eps <= 1 << 62, "epsilon above 2^62")?;
                self.ensure(
                    self.kind(*params)? == ConstKind::Norm { n },
                    "constant is not a norm of this length",
                )?;
                let n64 = u64::from(n);
                (
                    self.out(x.shape.clone(), out),
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: 6 * n64,
                        steps: 4 * n64,
                    },
                )
            }
            Op::Softmax { table, shift, bits } => {
                let x = self.operand(node, 0)?;
                let n = x.shape.last().map_or(0, |d| d.at(seq));
                self.ensure(
                    n > 0 && u64::from(n) <= MAX_REDUCTION,
                    "softmax over nothing or over more than 65,536 values",
                )?;
                self.ensure(
                    *shift <= 31 && (1..=14).contains(bits),
                    "shift above 31 or bits outside 1 … 14",
                )?;
                let ConstKind::Table { entries, dtype } = self.kind(*table)? else {
                    return self.fail("constant is not of kind table");
                };
                self.ensure(
                    (2..=MAX_EXP).contains(&entries) && dtype == DType::I16,
                    "softmax table must be i16 with 2 … 4,096 entries",
                )?;
                let ty = TensorType {
                    dtype: DType::I16,
                    shape: x.shape.clone(),
                    lo: 0,
                    hi: 1 << bits,
                };
                (
                    ty,
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: bytes(entries, dtype),
                        steps: 3 * u64::from(n),
                    },
                )
            }
            Op::ReduceSum | Op::ArgMax => {
                let x = self.operand(node, 0)?;
                let mut shape = x.shape.clone();
                let Some(n) = shape.pop().map(|d| d.at(seq)) else {
                    return self.fail("nothing to reduce");
                };
                self.ensure(
                    u64::from(n) <= MAX_REDUCTION,
                    "reduced axis longer than 65,536",
                )?;
                let (lo, hi) = if matches!(node.op, Op::ArgMax) {
                    (0, n as i32 - 1)
                } else {
                    DType::I32.range()
                };
                (
                    TensorType {
                        dtype: DType::I32,
                        shape,
                        lo,
                        hi,
                    },
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: 0,
                        steps: u64::from(n),
                    },
                )
            }
            Op::Embedding { rows } => {
                let x = self.operand(node, 0)?;
                let ConstKind::Rows { rows, cols, dtype } = self.kind(*rows)? else {
                    return self.fail("constant is not of kind rows");
                };
                self.ensure(
                    x.lo >= 0 && i64::from(x.hi) < i64::from(rows),
                    "ids can leave the rows",
                )?;
                let mut shape = x.shape.clone();
                shape.push(Dim::Fixed(cols));
                let (lo, hi) = dtype.range();
                (
                    TensorType {
                        dtype,
                        shape,
                        lo,
                        hi,
                    },
                    Cost {
                        slices: 1,
                        bytes: 4,
                        constants: bytes(cols, dtype),
                        steps: 1,
                    },
                )
            }
            Op::Transpose { perm } => {
                let x = self.operand(node, 0)?;
                let mut seen = vec![false; x.shape.len()];
                let mut shape = Vec::with_capacity(perm.len());
                for axis in perm {
                    match (
                        seen.get_mut(usize::from(*axis)),
                        x.shape.get(usize::from(*axis)),
                    ) {
                        (Some(s), Some(d)) if !*s => {
                            *s = true;
                            shape.push(*d);
                        }
                        _ => return self.fail("not a permutation of the axes"),
                    }
                }
                self.ensure(perm.len() == x.shape.len(), "not a permutation of the axes")?;
                (moved(x, shape), MOVE)
            }
            Op::Reshape { shape } => {
                let x = self.operand(node, 0)?;
                self.ensure(
                    seq_power(&x.shape) == seq_power(shape),
                    "the number of elements depends on the positions in another way",
                )?;
                self.ensure(
                    fixed_product(&x.shape) == fixed_product(shape),
                    "another number of elements",
                )?;
                (moved(x, shape.clone()), MOVE)
            }
            Op::Slice { axis, start, len } => {
                let x = self.operand(node, 0)?;
                let n = self.fixed(x.shape.get(usize::from(*axis)), "the sliced axis")?;
                self.ensure(
                    *len > 0 && start.checked_add(*len).is_some_and(|e| e <= n),
                    "slice leaves the axis",
                )?;
                let mut shape = x.shape.clone();
                if let Some(d) = shape.get_mut(usize::from(*axis)) {
                    *d = Dim::Fixed(*len);
                }
                (moved(x, shape), MOVE)
            }
            Op::Concat { axis } => {
                let first = self.operand(node, 0)?;
                let (mut ty, mut total) = (first.clone(), 0u32);
                for i in 0..node.inputs.len() {
                    let x = self.operand(node, i)?;
                    let n = self.fixed(x.shape.get(usize::from(*axis)), "the joined axis")?;
                    total = total.saturating_add(n);
                    let mut aligned = x.shape.clone();
                    if let (Some(d), Some(f)) = (
                        aligned.get_mut(usize::from(*axis)),
                        first.shape.get(usize::from(*axis)),
                    ) {
                        *d = *f;
                    }
                    self.ensure(
                        aligned == first.shape && x.dtype == first.dtype,
                        "operands differ beyond the joined axis",
                    )?;
                    (ty.lo, ty.hi) = (ty.lo.min(x.lo), ty.hi.max(x.hi));
                }
                if let Some(d) = ty.shape.get_mut(usize::from(*axis)) {
                    *d = Dim::Fixed(total);
                }
                (ty, MOVE)
            }
            _ => self.infer_language(node)?,
        })
    }
}

pub(crate) const MOVE: Cost = Cost {
    slices: 1,
    bytes: 4,
    constants: 0,
    steps: 1,
};

pub(crate) fn moved(x: &TensorType, shape: Shape) -> TensorType {
    TensorType { shape, ..x.clone() }
}

pub(crate) fn bytes(n: u32, dtype: DType) -> u64 {
    u64::from(n) * dtype.size() as u64
}

/// How often each of the named dimensions occurs.
fn seq_power(shape: &[Dim]) -> [usize; 2] {
    [Dim::Seq, Dim::Out].map(|name| shape.iter().filter(|d| **d == name).count())
}

fn fixed_product(shape: &[Dim]) -> u64 {
    shape.iter().fold(1u64, |acc, d| match d {
        Dim::Fixed(n) => acc.saturating_mul(u64::from(*n)),
        Dim::Seq | Dim::Out => acc,
    })
}
