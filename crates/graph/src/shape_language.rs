//! Typing rules and costs of the operators of language models.

use crate::{
    consts::ConstKind,
    error::GraphError,
    node::{ConstId, Node, Op},
    ops::sample::{FORBIDDEN, MAX_LOGIT},
    sampling::MAX_STATEMENT,
    shape::{Checker, Cost, MAX_EXP, MAX_REDUCTION, MOVE, bytes, moved},
    types::{DType, Dim, TensorType},
};

impl Checker<'_> {
    fn ty(&self, dtype: DType, shape: Vec<Dim>, lo: i32, hi: i32) -> TensorType {
        TensorType {
            dtype,
            shape,
            lo,
            hi,
        }
    }

    /// A table of falling `i16` values.
    fn table(&self, id: ConstId, most: u32) -> Result<u64, GraphError> {
        match self.kind(id)? {
            ConstKind::Table {
                entries,
                dtype: DType::I16,
            } if (2..=most).contains(&entries) => Ok(bytes(entries, DType::I16)),
            _ => self.fail(format!(
                "constant is not a table of i16 with 2 … {most} entries"
            )),
        }
    }

    /// The shape with its last axis replaced by the number of its blocks.
    fn blocks(&self, x: &TensorType, block: u32) -> Result<Vec<Dim>, GraphError> {
        let n = self.fixed(x.shape.last(), "the reduced axis")?;
        self.ensure(
            (1..=MAX_REDUCTION).contains(&u64::from(block)),
            "block outside 1 … 65,536",
        )?;
        let mut shape = x.shape.clone();
        shape.pop();
        shape.push(Dim::Fixed(n.div_ceil(block)));
        Ok(shape)
    }

    /// Vocabulary of a `[out, n]` operand.
    fn vocabulary(&self, x: &TensorType) -> Result<u32, GraphError> {
        match x.shape[..] {
            [Dim::Out, Dim::Fixed(n)] => Ok(n),
            _ => self.fail("operand must be [out, n]"),
        }
    }

    /// Distances `[out, n]`: vocabulary and limit.
    fn distances(&self, node: &Node) -> Result<(u32, i32), GraphError> {
        let d = self.operand(node, 0)?;
        self.ensure(
            d.dtype == DType::I16 && d.lo >= 0,
            "distances must be i16 and not negative",
        )?;
        Ok((self.vocabulary(d)?, d.hi))
    }

    #[allow(
        clippy::too_many_lines,
        reason = "one arm per operator; each is the operator's whole typing rule"
    )]
    pub(crate) fn infer_language(&self, node: &Node) -> Result<(TensorType, Cost), GraphError> {
        let seq = self.header.max_seq;
        let x = self.operand(node, 0)?;
        Ok(match &node.op {
            Op::Lift { weights, out } => {
                self.requant(out, true)?;
                let (rows, cols, row_bytes) = self.weight_rows(*weights)?;
                self.ensure(
                    x.lo >= 0 && i64::from(x.hi) < i64::from(rows),
                    "ids can leave the rows",
                )?;
                let mut shape = x.shape.clone();
                shape.push(Dim::Fixed(cols));
                (
                    self.out(shape, out),
                    Cost {
                        slices: 1,
                        bytes: 4,
                        constants: row_bytes,
                        steps: u64::from(cols),
                    },
                )
            }
            Op::RmsNorm { params, eps, out } => {
                self.requant(out, true)?;
                let n = self.fixed(x.shape.last(), "the normalised axis")?;
                self.ensure(
                    u64::from(n) <= MAX_REDUCTION && *eps <= 1 << 62,
                    "normalised axis longer than 65,536 or epsilon above 2^62",
                )?;
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
            Op::Rope { rows, out } => {
                self.requant(out, true)?;
                self.narrow(x)?;
                let (
                    [Dim::Seq, Dim::Fixed(width)],
                    ConstKind::Rows {
                        rows,
                        cols,
                        dtype: DType::I16,
                    },
                ) = (&x.shape[..], self.kind(*rows)?)
                else {
                    return self.fail("needs [seq, heads·d] and rows of i16");
                };
                self.ensure(
                    rows >= seq && cols % 2 == 0 && width % cols == 0,
                    "needs a row of d/2 cosines and d/2 sines for each position",
                )?;
                (
                    self.out(x.shape.clone(), out),
                    Cost {
                        slices: 2,
                        bytes: 4,
                        constants: bytes(cols, DType::I16),
                        steps: 2,
                    },
                )
            }
            Op::Mul { out } => {
                self.requant(out, true)?;
                let b = self.operand(node, 1)?;
                self.narrow(x)?;
                self.narrow(b)?;
                self.ensure(x.shape == b.shape, "operands have different shapes")?;
                let cost = Cost {
                    slices: 2,
                    bytes: 4,
                    constants: 0,
                    steps: 1,
                };
                (self.out(x.shape.clone(), out), cost)
            }
            Op::Exponent { bits } => {
                let n = self.fixed(x.shape.last(), "the reduced axis")?;
                self.ensure((7..=15).contains(bits), "bits outside 7 … 15")?;
                self.ensure(u64::from(n) <= MAX_REDUCTION, "axis longer than 65,536")?;
                let mut shape = x.shape.clone();
                shape.pop();
                let ty = self.ty(DType::I8, shape, 0, 32 - i32::from(*bits));
                (
                    ty,
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: 0,
                        steps: u64::from(n),
                    },
                )
            }
            Op::Normalise { out } => {
                self.requant(out, true)?;
                let Some((_, rows)) = x.shape.split_last() else {
                    return self.fail("operand needs at least 1 dimension");
                };
                self.exponents(node, 1, rows)?;
                let cost = Cost {
                    slices: 2,
                    bytes: 5,
                    constants: 0,
                    steps: 1,
                };
                (self.out(x.shape.clone(), out), cost)
            }
            Op::Scores { heads, kv_heads } => {
                let k = self.operand(node, 1)?;
                self.narrow(x)?;
                self.narrow(k)?;
                let ([Dim::Seq, Dim::Fixed(a)], [Dim::Seq, Dim::Fixed(b)]) =
                    (&x.shape[..], &k.shape[..])
                else {
                    return self.fail("operands must be [seq, heads·d]");
                };
                let (h, g) = (u32::from(*heads), u32::from(*kv_heads));
                self.ensure(
                    g > 0 && h > 0 && h % g == 0 && a % h == 0 && b % g == 0 && a / h == b / g,
                    "heads do not divide the operands evenly",
                )?;
                let d = a / h;
                let (lo, hi) = DType::I32.range();
                (
                    self.ty(DType::I32, vec![Dim::Fixed(h), Dim::Seq, Dim::Seq], lo, hi),
                    Cost {
                        slices: 2,
                        bytes: bytes(d, x.dtype) + bytes(d, k.dtype),
                        constants: 0,
                        steps: u64::from(d),
                    },
                )
            }
            Op::CausalExp { table, shifts } => {
                let [Dim::Fixed(h), Dim::Seq, Dim::Seq] = x.shape[..] else {
                    return self.fail("operand must be [heads, seq, seq]");
                };
                self.ensure(
                    shifts.len() == h as usize && shifts.iter().all(|s| *s <= 31),
                    "needs a shift of at most 31 for each head",
                )?;
                let table = self.table(*table, MAX_EXP)?;
                (
                    self.ty(DType::I16, x.shape.clone(), 0, i32::from(i16::MAX)),
                    Cost {
                        slices: 1,
                        bytes: bytes(seq, x.dtype),
                        constants: table,
                        steps: u64::from(seq),
                    },
                )
            }
            Op::Mix {
                kv_heads,
                bits,
                out,
            } => {
                self.requant(out, false)?;
                let v = self.operand(node, 1)?;
                self.narrow(x)?;
                self.narrow(v)?;
                let ([Dim::Fixed(h), Dim::Seq, Dim::Seq], [Dim::Fixed(width), Dim::Seq]) =
                    (&x.shape[..], &v.shape[..])
                else {
                    return self.fail("operands must be [heads, seq, seq] and [kv_heads·d, seq]");
                };
                let kv = u32::from(*kv_heads);
                self.ensure(
                    *bits <= 8 && kv > 0 && width % kv == 0 && h % kv == 0,
                    "more than 8 bits, or the values do not divide into heads",
                )?;
                let d = width / kv;
                let cost = Cost {
                    slices: 2,
                    bytes: bytes(seq, x.dtype) + bytes(seq, v.dtype),
                    constants: 0,
                    steps: 2 * u64::from(seq),
                };
                (self.out(vec![Dim::Seq, Dim::Fixed(h * d)], out), cost)
            }
            Op::Tail => {
                let [Dim::Seq, rest @ ..] = &x.shape[..] else {
                    return self.fail("operand must be [seq, …]");
                };
                let mut shape = vec![Dim::Out];
                shape.extend(rest);
                (moved(x, shape), MOVE)
            }
            Op::Adjust { scale } => {
                let tokens = self.operand(node, 1)?;
                let n = self.vocabulary(x)?;
                self.narrow(x)?;
                self.ensure((4..=10).contains(scale), "scale outside 4 … 10")?;
                self.ensure(
                    tokens.shape == [Dim::Seq] && tokens.dtype == DType::I32,
                    "the second operand must be the tokens",
                )?;
                let history = bytes(seq, DType::I32);
                (
                    self.ty(DType::I32, x.shape.clone(), FORBIDDEN, MAX_LOGIT as i32),
                    Cost {
                        slices: 2,
                        bytes: 2 + history,
                        constants: u64::from(n.div_ceil(8)) + MAX_STATEMENT as u64,
                        steps: u64::from(seq) + 1,
                    },
                )
            }
            Op::BlockMax { block } => {
                let shape = self.blocks(x, *block)?;
                let n = self.fixed(x.shape.last(), "the reduced axis")?.min(*block);
                (
                    moved(x, shape),
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: 0,
                        steps: u64::from(n),
                    },
                )
            }
            Op::Gap { limit } => {
                self.vocabulary(x)?;
                let max = self.operand(node, 1)?;
                self.ensure(
                    max.shape == [Dim::Out, Dim::Fixed(1)],
                    "the second operand must be [out, 1]",
                )?;
                self.ensure(
                    (1..=i16::MAX as u16).contains(limit),
                    "limit outside 1 … 32,767",
                )?;
                let cost = Cost {
                    slices: 2,
                    bytes: 8,
                    constants: 0,
                    steps: 1,
                };
                let ty = self.ty(DType::I16, x.shape.clone(), 0, i32::from(*limit));
                (ty, cost)
            }
            Op::Census { block, limit } => {
                let (n, most) = self.distances(node)?;
                self.ensure(
                    most == i32::from(*limit),
                    "limit is not that of the distances",
                )?;
                let mut shape = self.blocks(x, *block)?;
                shape.insert(1, Dim::Fixed(u32::from(*limit) + 1));
                let n = n.min(*block);
                (
                    self.ty(DType::I32, shape, 0, n as i32),
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: 0,
                        steps: u64::from(n),
                    },
                )
            }
            Op::Cut { table } => {
                let [Dim::Out, Dim::Fixed(n)] = x.shape[..] else {
                    return self.fail("operand must be [out, levels]");
                };
                self.ensure(n > 1 && n <= 1 << 15, "levels outside 2 … 32,768")?;
                let table = self.table(*table, MAX_EXP)?;
                (
                    self.ty(DType::I32, vec![Dim::Out], 0, n as i32 - 2),
                    Cost {
                        slices: 1,
                        bytes: bytes(n, x.dtype),
                        constants: table + MAX_STATEMENT as u64,
                        steps: 4 * u64::from(n),
                    },
                )
            }
            Op::Mass { table, block } => {
                let (n, _) = self.distances(node)?;
                let cut = self.operand(node, 1)?;
                self.ensure(
                    cut.shape == [Dim::Out],
                    "the second operand must be the cut",
                )?;
                self.ensure(*block <= 1024, "block longer than 1,024")?;
                let table = self.table(*table, MAX_EXP)?;
                let n = n.min(*block);
                (
                    self.ty(
                        DType::I32,
                        self.blocks(x, *block)?,
                        0,
                        (n << (14 + 5)) as i32,
                    ),
                    Cost {
                        slices: 2,
                        bytes: bytes(n, x.dtype) + 4,
                        constants: table,
                        steps: u64::from(n),
                    },
                )
            }
            Op::Pick { table, block } => {
                let (n, _) = self.distances(node)?;
                let (cut, masses) = (self.operand(node, 1)?, self.operand(node, 2)?);
                self.ensure(
                    cut.shape == [Dim::Out] && masses.shape == self.blocks(x, *block)?,
                    "operands must be distances, cut and the masses of their blocks",
                )?;
                let table = self.table(*table, MAX_EXP)?;
                let blocks = n.div_ceil(*block);
                (
                    self.ty(DType::I32, vec![Dim::Out], 0, n as i32 - 1),
                    Cost {
                        slices: 3,
                        bytes: bytes(n.min(*block), x.dtype) + bytes(blocks, DType::I32) + 4,
                        constants: table + MAX_STATEMENT as u64,
                        steps: u64::from(n.min(*block)) + u64::from(blocks),
                    },
                )
            }
            _ => return self.fail("no typing rule for this operator"),
        })
    }
}
