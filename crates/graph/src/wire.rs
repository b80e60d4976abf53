//! Canonical bytes of one node and of one constant's kind: a tag for each operator, parameters in a fixed order, little endian.

use crate::{
    consts::ConstKind,
    error::GraphError,
    node::{Node, Op, Requant, Window},
    shape::MAX_INPUTS,
    types::{DType, Dim, MAX_RANK, TensorType},
};

/// Short name of an operator, as in docs/graph.md.
pub const fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Input { .. } => "input",
        Op::Linear { .. } => "linear",
        Op::Conv2d { .. } => "conv2d",
        Op::MatMul { .. } => "matmul",
        Op::Add { .. } => "add",
        Op::AddRows { .. } => "add_rows",
        Op::Requant { .. } => "requant",
        Op::Lookup { .. } => "lookup",
        Op::MaxPool { .. } => "max_pool",
        Op::AvgPool { .. } => "avg_pool",
        Op::LayerNorm { .. } => "layer_norm",
        Op::Softmax { .. } => "softmax",
        Op::ReduceSum => "reduce_sum",
        Op::ArgMax => "arg_max",
        Op::Embedding { .. } => "embedding",
        Op::Transpose { .. } => "transpose",
        Op::Reshape { .. } => "reshape",
        Op::Slice { .. } => "slice",
        Op::Concat { .. } => "concat",
        Op::Lift { .. } => "lift",
        Op::RmsNorm { .. } => "rms_norm",
        Op::Rope { .. } => "rope",
        Op::Mul { .. } => "mul",
        Op::Exponent { .. } => "exponent",
        Op::Normalise { .. } => "normalise",
        Op::Scores { .. } => "scores",
        Op::CausalExp { .. } => "causal_exp",
        Op::Mix { .. } => "mix",
        Op::Tail => "tail",
        Op::Adjust { .. } => "adjust",
        Op::BlockMax { .. } => "block_max",
        Op::Gap { .. } => "gap",
        Op::Census { .. } => "census",
        Op::Cut { .. } => "cut",
        Op::Mass { .. } => "mass",
        Op::Pick { .. } => "pick",
    }
}

#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    pub(crate) fn u16(&mut self, v: u16) {
        self.0.extend(v.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, v: u32) {
        self.0.extend(v.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, v: u64) {
        self.0.extend(v.to_le_bytes());
    }
    pub(crate) fn i32(&mut self, v: i32) {
        self.0.extend(v.to_le_bytes());
    }
    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.0.extend(v);
    }

    pub(crate) fn kind(&mut self, kind: &ConstKind) {
        let (tag, a, b, detail) = match *kind {
            ConstKind::Weights { rows, cols, dtype } => (0, rows, cols, dtype as u8),
            ConstKind::Rows { rows, cols, dtype } => (1, rows, cols, dtype as u8),
            ConstKind::Norm { n } => (2, n, 0, DType::I16 as u8),
            ConstKind::Table { entries, dtype } => (3, entries, 0, dtype as u8),
            ConstKind::Blocks {
                rows,
                cols,
                bits,
                group,
                offsets,
            } => (4, rows, cols, block_detail(bits, group, offsets)),
        };
        self.u8(tag | detail << 4);
        self.u32(a);
        self.u32(b);
    }

    pub(crate) fn shape(&mut self, shape: &[Dim]) {
        self.u8(shape.len() as u8);
        for d in shape {
            self.u32(match d {
                Dim::Fixed(n) => *n,
                Dim::Seq => 0,
                Dim::Out => u32::MAX,
            });
        }
    }

    pub(crate) fn requant(&mut self, q: &Requant) {
        self.u8(q.shift as u8);
        self.u8(q.dtype as u8);
        self.i32(q.lo);
        self.i32(q.hi);
    }

    pub(crate) fn window(&mut self, w: &Window) {
        self.bytes(&w.kernel);
        self.bytes(&w.stride);
        self.bytes(&w.pad);
    }

    pub(crate) fn node(&mut self, node: &Node) {
        self.u8(tag(&node.op));
        match &node.op {
            Op::Input { ty } => {
                self.u8(ty.dtype as u8);
                self.shape(&ty.shape);
                self.i32(ty.lo);
                self.i32(ty.hi);
            }
            Op::Linear { weights, out } => {
                self.u32(*weights);
                self.requant(out);
            }
            Op::Conv2d {
                weights,
                window,
                groups,
                out,
            } => {
                self.u32(*weights);
                self.window(window);
                self.u32(*groups);
                self.requant(out);
            }
            Op::MatMul { out } | Op::Requant { out } => self.requant(out),
            Op::Add { left, out } => {
                self.bytes(left);
                self.requant(out);
            }
            Op::AddRows { rows, left, out } => {
                self.u32(*rows);
                self.bytes(left);
                self.requant(out);
            }
            Op::Lookup { table } => self.u32(*table),
            Op::MaxPool { window } | Op::AvgPool { window } => self.window(window),
            Op::LayerNorm { params, eps, out } => {
                self.u32(*params);
                self.u64(*eps);
                self.requant(out);
            }
            Op::Softmax { table, shift, bits } => {
                self.u32(*table);
                self.u8(*shift);
                self.u8(*bits);
            }
            Op::ReduceSum | Op::ArgMax => {}
            Op::Embedding { rows } => self.u32(*rows),
            Op::Transpose { perm } => {
                self.u8(perm.len() as u8);
                self.bytes(perm);
            }
            Op::Reshape { shape } => self.shape(shape),
            Op::Slice { axis, start, len } => {
                self.u8(*axis);
                self.u32(*start);
                self.u32(*len);
            }
            Op::Concat { axis } => self.u8(*axis),
            Op::Lift { weights: id, out } | Op::Rope { rows: id, out } => {
                self.u32(*id);
                self.requant(out);
            }
            Op::RmsNorm { params, eps, out } => {
                self.u32(*params);
                self.u64(*eps);
                self.requant(out);
            }
            Op::Mul { out } | Op::Normalise { out } => self.requant(out),
            Op::Exponent { bits: v } | Op::Adjust { scale: v } => self.u8(*v),
            Op::Scores { heads, kv_heads } => {
                self.u16(*heads);
                self.u16(*kv_heads);
            }
            Op::CausalExp { table, shifts } => {
                self.u32(*table);
                self.u16(shifts.len() as u16);
                self.bytes(shifts);
            }
            Op::Mix {
                kv_heads,
                bits,
                out,
            } => {
                self.u16(*kv_heads);
                self.u8(*bits);
                self.requant(out);
            }
            Op::Tail => {}
            Op::BlockMax { block } => self.u32(*block),
            Op::Gap { limit } => self.u16(*limit),
            Op::Census { block, limit } => {
                self.u32(*block);
                self.u16(*limit);
            }
            Op::Cut { table } => self.u32(*table),
            Op::Mass { table, block } | Op::Pick { table, block } => {
                self.u32(*table);
                self.u32(*block);
            }
        }
        self.u8(node.inputs.len() as u8);
        for i in &node.inputs {
            self.u32(*i);
        }
        self.u8(u8::from(node.checkpoint));
    }
}

const fn tag(op: &Op) -> u8 {
    match op {
        Op::Input { .. } => 0,
        Op::Linear { .. } => 1,
        Op::Conv2d { .. } => 2,
        Op::MatMul { .. } => 3,
        Op::Add { .. } => 4,
        Op::AddRows { .. } => 5,
        Op::Requant { .. } => 6,
        Op::Lookup { .. } => 7,
        Op::MaxPool { .. } => 8,
        Op::AvgPool { .. } => 9,
        Op::LayerNorm { .. } => 10,
        Op::Softmax { .. } => 11,
        Op::ReduceSum => 12,
        Op::ArgMax => 13,
        Op::Embedding { .. } => 14,
        Op::Transpose { .. } => 15,
        Op::Reshape { .. } => 16,
        Op::Slice { .. } => 17,
        Op::Concat { .. } => 18,
        Op::Lift { .. } => 19,
        Op::RmsNorm { .. } => 20,
        Op::Rope { .. } => 21,
        Op::Mul { .. } => 22,
        Op::Exponent { .. } => 23,
        Op::Normalise { .. } => 24,
        Op::Scores { .. } => 25,
        Op::CausalExp { .. } => 26,
        Op::Mix { .. } => 27,
        Op::Tail => 28,
        Op::Adjust { .. } => 29,
        Op::BlockMax { .. } => 30,
        Op::Gap { .. } => 31,
        Op::Census { .. } => 32,
        Op::Cut { .. } => 33,
        Op::Mass { .. } => 34,
        Op::Pick { .. } => 35,
    }
}

/// Code widths in the order of their encoding.
const CODE_BITS: [u8; 4] = [4, 5, 6, 8];

/// Four bits: index of the code width, group of 16, offsets.
fn block_detail(bits: u8, group: u8, offsets: bool) -> u8 {
    let width = CODE_BITS.iter().position(|b| *b == bits).unwrap_or(0) as u8;
    width | u8::from(group == 16) << 2 | u8::from(offsets) << 3
}

fn block_kind(detail: u8, rows: u32, cols: u32) -> Option<ConstKind> {
    let bits = *CODE_BITS.get(usize::from(detail & 3))?;
    let kind = ConstKind::Blocks {
        rows,
        cols,
        bits,
        group: if detail & 4 == 0 { 32 } else { 16 },
        offsets: detail & 8 != 0,
    };
    kind.is_possible().then_some(kind)
}

pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn fail<T>(&self, why: &'static str) -> Result<T, GraphError> {
        Err(GraphError::Decode { at: self.at, why })
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], GraphError> {
        let end = self.at.checked_add(n).filter(|e| *e <= self.bytes.len());
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(s) => {
                self.at += n;
                Ok(s)
            }
            None => self.fail("bytes end early"),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], GraphError> {
        let at = self.at;
        self.take(N)?
            .first_chunk::<N>()
            .copied()
            .ok_or(GraphError::Decode {
                at,
                why: "bytes end early",
            })
    }
    pub(crate) fn u8(&mut self) -> Result<u8, GraphError> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    pub(crate) fn u16(&mut self) -> Result<u16, GraphError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32, GraphError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, GraphError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub(crate) fn i32(&mut self) -> Result<i32, GraphError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A count of items of at least `size` bytes each: never more than the bytes that are left could hold.
    pub(crate) fn count(&mut self, limit: usize, size: usize) -> Result<usize, GraphError> {
        let n = self.u32()? as usize;
        if n > limit || n > (self.bytes.len() - self.at) / size.max(1) {
            return self.fail("count larger than the bytes that follow");
        }
        Ok(n)
    }

    pub(crate) fn dtype(&mut self, v: u8) -> Result<DType, GraphError> {
        match v {
            0 => Ok(DType::I8),
            1 => Ok(DType::I16),
            2 => Ok(DType::I32),
            _ => self.fail("unknown element type"),
        }
    }

    pub(crate) fn kind(&mut self) -> Result<ConstKind, GraphError> {
        let head = self.u8()?;
        if head & 15 == 4 {
            let kind = block_kind(head >> 4, self.u32()?, self.u32()?);
            return match kind {
                Some(kind) => Ok(kind),
                None => self.fail("blocks of impossible size"),
            };
        }
        let dtype = self.dtype(head >> 4)?;
        let (a, b) = (self.u32()?, self.u32()?);
        if dtype == DType::I32
            || a == 0
            || a > 1 << 24
            || b > 1 << 24
            || u64::from(a) * u64::from(b.max(1)) > 1 << 32
        {
            return self.fail("constant of impossible size or type");
        }
        match (head & 15, b, dtype) {
            (0, 1.., _) => Ok(ConstKind::Weights {
                rows: a,
                cols: b,
                dtype,
            }),
            (1, 1.., _) => Ok(ConstKind::Rows {
                rows: a,
                cols: b,
                dtype,
            }),
            (2, 0, DType::I16) => Ok(ConstKind::Norm { n: a }),
            (3, 0, _) => Ok(ConstKind::Table { entries: a, dtype }),
            _ => self.fail("unknown kind of constant"),
        }
    }

    pub(crate) fn shape(&mut self) -> Result<Vec<Dim>, GraphError> {
        let rank = usize::from(self.u8()?);
        if rank > MAX_RANK {
            return self.fail("more than 6 dimensions");
        }
        (0..rank)
            .map(|_| {
                self.u32().map(|n| match n {
                    0 => Dim::Seq,
                    u32::MAX => Dim::Out,
                    n => Dim::Fixed(n),
                })
            })
            .collect()
    }

    pub(crate) fn requant(&mut self) -> Result<Requant, GraphError> {
        let shift = i8::from_le_bytes([self.u8()?]);
        let dtype = self.u8()?;
        Ok(Requant {
            shift,
            dtype: self.dtype(dtype)?,
            lo: self.i32()?,
            hi: self.i32()?,
        })
    }

    pub(crate) fn window(&mut self) -> Result<Window, GraphError> {
        Ok(Window {
            kernel: self.array()?,
            stride: self.array()?,
            pad: self.array()?,
        })
    }

    pub(crate) fn node(&mut self) -> Result<Node, GraphError> {
        let op = match self.u8()? {
            0 => {
                let dtype = self.u8()?;
                let dtype = self.dtype(dtype)?;
                Op::Input {
                    ty: TensorType {
                        dtype,
                        shape: self.shape()?,
                        lo: self.i32()?,
                        hi: self.i32()?,
                    },
                }
            }
            1 => Op::Linear {
                weights: self.u32()?,
                out: self.requant()?,
            },
            2 => Op::Conv2d {
                weights: self.u32()?,
                window: self.window()?,
                groups: self.u32()?,
                out: self.requant()?,
            },
            3 => Op::MatMul {
                out: self.requant()?,
            },
            4 => Op::Add {
                left: self.array()?,
                out: self.requant()?,
            },
            5 => Op::AddRows {
                rows: self.u32()?,
                left: self.array()?,
                out: self.requant()?,
            },
            6 => Op::Requant {
                out: self.requant()?,
            },
            7 => Op::Lookup { table: self.u32()? },
            8 => Op::MaxPool {
                window: self.window()?,
            },
            9 => Op::AvgPool {
                window: self.window()?,
            },
            10 => Op::LayerNorm {
                params: self.u32()?,
                eps: self.u64()?,
                out: self.requant()?,
            },
            11 => Op::Softmax {
                table: self.u32()?,
                shift: self.u8()?,
                bits: self.u8()?,
            },
            12 => Op::ReduceSum,
            13 => Op::ArgMax,
            14 => Op::Embedding { rows: self.u32()? },
            15 => {
                let n = usize::from(self.u8()?);
                Op::Transpose {
                    perm: self.take(n)?.to_vec(),
                }
            }
            16 => Op::Reshape {
                shape: self.shape()?,
            },
            17 => Op::Slice {
                axis: self.u8()?,
                start: self.u32()?,
                len: self.u32()?,
            },
            18 => Op::Concat { axis: self.u8()? },
            19 => Op::Lift {
                weights: self.u32()?,
                out: self.requant()?,
            },
            20 => Op::RmsNorm {
                params: self.u32()?,
                eps: self.u64()?,
                out: self.requant()?,
            },
            21 => Op::Rope {
                rows: self.u32()?,
                out: self.requant()?,
            },
            22 => Op::Mul {
                out: self.requant()?,
            },
            23 => Op::Exponent { bits: self.u8()? },
            24 => Op::Normalise {
                out: self.requant()?,
            },
            25 => Op::Scores {
                heads: self.u16()?,
                kv_heads: self.u16()?,
            },
            26 => {
                let table = self.u32()?;
                let n = usize::from(self.u16()?);
                Op::CausalExp {
                    table,
                    shifts: self.take(n)?.to_vec(),
                }
            }
            27 => Op::Mix {
                kv_heads: self.u16()?,
                bits: self.u8()?,
                out: self.requant()?,
            },
            28 => Op::Tail,
            29 => Op::Adjust { scale: self.u8()? },
            30 => Op::BlockMax { block: self.u32()? },
            31 => Op::Gap { limit: self.u16()? },
            32 => Op::Census {
                block: self.u32()?,
                limit: self.u16()?,
            },
            33 => Op::Cut { table: self.u32()? },
            34 => Op::Mass {
                table: self.u32()?,
                block: self.u32()?,
            },
            35 => Op::Pick {
                table: self.u32()?,
                block: self.u32()?,
            },
            _ => return self.fail("unknown operator"),
        };
        let n = usize::from(self.u8()?);
        if n > MAX_INPUTS {
            return self.fail("too many operands");
        }
        let inputs = (0..n).map(|_| self.u32()).collect::<Result<Vec<_>, _>>()?;
        let checkpoint = match self.u8()? {
            0 => false,
            1 => true,
            _ => return self.fail("a flag is neither 0 nor 1"),
        };
        Ok(Node {
            op,
            inputs,
            checkpoint,
        })
    }
}
