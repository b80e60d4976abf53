//! Canonical bytes of the structure (everything but the constants' contents), and of whole graphs.
//!
//! Little endian, fixed order, one encoding per value; the decoder rejects anything else, and trailing bytes.

use std::sync::Arc;

use crate::{
    bounds,
    consts::{Const, ConstKind},
    error::GraphError,
    layout,
    node::{Graph, Header, Node, Op, Requant, SEMANTICS, Window},
    shape::{Checker, Cost, MAX_INPUTS, MAX_NODES},
    types::{DType, Dim, MAX_RANK, TensorType},
};

/// Longest canonical structure in bytes.
pub const MAX_STRUCTURE: usize = 1 << 20;
/// First bytes of a graph file.
const MAGIC: &[u8; 8] = b"ASSAYGR1";

/// A graph without the contents of its constants: what the chain stores and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// What is true of the whole graph.
    pub header: Header,
    /// Kinds of the constants.
    pub kinds: Vec<ConstKind>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// Output type of each node, as far as the structure tells (table and embedding values: their type's range).
    pub types: Vec<TensorType>,
    /// Cost of one element of each node.
    pub costs: Vec<Cost>,
}

impl Structure {
    /// Checks nodes against each other, the caps of one element and the rules of segments.
    ///
    /// # Errors
    /// [`GraphError::Node`], [`GraphError::Cap`], [`GraphError::Limit`].
    pub fn new(
        header: Header,
        kinds: Vec<ConstKind>,
        nodes: Vec<Node>,
        names: &[String],
    ) -> Result<Self, GraphError> {
        check_header(&header)?;
        for (what, have) in [("nodes", nodes.len()), ("constants", kinds.len())] {
            if have > MAX_NODES {
                return Err(GraphError::Limit {
                    what,
                    have: have as u64,
                    limit: MAX_NODES as u64,
                });
            }
        }
        let mut types = Vec::with_capacity(nodes.len());
        let mut costs = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            let name = names
                .get(i)
                .map_or_else(|| op_name(&node.op).to_owned(), Clone::clone);
            let checker = Checker {
                header,
                kinds: &kinds,
                types: &types,
                index: i as u32,
                name: &name,
            };
            let (ty, cost) = checker.infer(node)?;
            layout::check_caps(i as u32, &name, &cost)?;
            types.push(ty);
            costs.push(cost);
        }
        let structure = Self {
            header,
            kinds,
            nodes,
            types,
            costs,
        };
        layout::check_segments(&structure, names)?;
        Ok(structure)
    }

    /// Canonical bytes of the header and the constants' kinds: leaf 0 of the graph's tree.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u32(SEMANTICS);
        w.u32(self.header.max_seq);
        w.u8(self.header.block_bits);
        w.u32(self.kinds.len() as u32);
        for kind in &self.kinds {
            w.kind(kind);
        }
        w.u32(self.nodes.len() as u32);
        w.0
    }

    /// Canonical bytes of one node: leaf `i + 1` of the graph's tree.
    pub fn node_bytes(node: &Node) -> Vec<u8> {
        let mut w = Writer::default();
        w.node(node);
        w.0
    }

    /// Canonical bytes of the whole structure.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.head_bytes();
        for node in &self.nodes {
            out.extend(Self::node_bytes(node));
        }
        out
    }

    /// Reads canonical bytes and checks everything that [`Structure::new`] does.
    ///
    /// # Errors
    /// [`GraphError::Decode`], and those of [`Structure::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GraphError> {
        if bytes.len() > MAX_STRUCTURE {
            return Err(GraphError::Limit {
                what: "structure bytes",
                have: bytes.len() as u64,
                limit: MAX_STRUCTURE as u64,
            });
        }
        let mut r = Reader { bytes, at: 0 };
        if r.u32()? != SEMANTICS {
            return r.fail("unknown version of the operator semantics");
        }
        let header = Header {
            max_seq: r.u32()?,
            block_bits: r.u8()?,
        };
        let count = r.count(MAX_NODES, 9)?;
        let kinds = (0..count)
            .map(|_| r.kind())
            .collect::<Result<Vec<_>, _>>()?;
        let count = r.count(MAX_NODES, 3)?;
        let nodes = (0..count)
            .map(|_| r.node())
            .collect::<Result<Vec<_>, _>>()?;
        if r.at != bytes.len() {
            return r.fail("trailing bytes");
        }
        Self::new(header, kinds, nodes, &[])
    }
}

impl Graph {
    /// Whole graph as one file: magic ∥ structure length u64 ∥ structure ∥ constants.
    pub fn to_bytes(&self) -> Vec<u8> {
        let structure = self.structure().to_bytes();
        let mut out = MAGIC.to_vec();
        out.extend((structure.len() as u64).to_le_bytes());
        out.extend(structure);
        for c in &self.consts {
            out.extend(c.bytes());
        }
        out
    }

    /// Reads a graph file and validates it completely, bounds included.
    ///
    /// # Errors
    /// [`GraphError::Decode`] for other bytes, else those of [`Graph::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GraphError> {
        let mut r = Reader { bytes, at: 0 };
        if r.take(8)? != MAGIC {
            return Err(GraphError::Decode {
                at: 0,
                why: "not a graph file",
            });
        }
        let len = usize::try_from(r.u64()?).unwrap_or(usize::MAX);
        let structure = Structure::from_bytes(r.take(len)?)?;
        let mut consts = Vec::with_capacity(structure.kinds.len());
        for kind in &structure.kinds {
            let data: Arc<[u8]> = r.take(kind.total_bytes())?.into();
            consts.push(Const::new(*kind, data).ok_or(GraphError::Decode {
                at: r.at,
                why: "constant of another length",
            })?);
        }
        if r.at != bytes.len() {
            return r.fail("trailing bytes");
        }
        Self::assemble(structure, consts, &[])
    }

    /// A validated graph from its parts; `names` (one per node, or none) are for error messages only.
    ///
    /// # Errors
    /// Those of [`Structure::new`] and of [`bounds::check`].
    pub fn new(
        header: Header,
        nodes: Vec<Node>,
        consts: Vec<Const>,
        names: &[String],
    ) -> Result<Self, GraphError> {
        let kinds = consts.iter().map(Const::kind).collect();
        Self::assemble(Structure::new(header, kinds, nodes, names)?, consts, names)
    }

    fn assemble(
        structure: Structure,
        consts: Vec<Const>,
        names: &[String],
    ) -> Result<Self, GraphError> {
        let types = bounds::check(&structure, &consts, names)?;
        let Structure { header, nodes, .. } = structure;
        Ok(Self {
            header,
            nodes,
            types,
            consts,
        })
    }

    /// The structure of this graph.
    pub fn structure(&self) -> Structure {
        let kinds = self.consts.iter().map(Const::kind).collect();
        // a Graph has been checked when it was made, so this can only succeed; the fallback keeps the function total
        Structure::new(self.header, kinds, self.nodes.clone(), &[]).unwrap_or_else(|_| Structure {
            header: self.header,
            kinds: Vec::new(),
            nodes: Vec::new(),
            types: Vec::new(),
            costs: Vec::new(),
        })
    }

    /// What is true of the whole graph.
    pub const fn header(&self) -> Header {
        self.header
    }

    /// Nodes in topological order; the last is the output.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Output type of each node, with the range that any legal run stays in.
    pub fn types(&self) -> &[TensorType] {
        &self.types
    }

    /// Constants.
    pub fn consts(&self) -> &[Const] {
        &self.consts
    }

    /// Type of the input node.
    pub fn input_type(&self) -> Option<&TensorType> {
        self.types.first()
    }

    /// Type of the output node.
    pub fn output_type(&self) -> Option<&TensorType> {
        self.types.last()
    }
}

fn check_header(header: &Header) -> Result<(), GraphError> {
    if !(1..=1 << 20).contains(&header.max_seq) {
        return Err(GraphError::Limit {
            what: "positions",
            have: u64::from(header.max_seq),
            limit: 1 << 20,
        });
    }
    if !(10..=14).contains(&header.block_bits) {
        return Err(GraphError::Limit {
            what: "block bits (at least 10)",
            have: u64::from(header.block_bits),
            limit: 14,
        });
    }
    Ok(())
}

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
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn u32(&mut self, v: u32) {
        self.0.extend(v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.0.extend(v.to_le_bytes());
    }
    fn i32(&mut self, v: i32) {
        self.0.extend(v.to_le_bytes());
    }
    fn bytes(&mut self, v: &[u8]) {
        self.0.extend(v);
    }

    fn kind(&mut self, kind: &ConstKind) {
        let (tag, a, b, dtype) = match *kind {
            ConstKind::Weights { rows, cols, dtype } => (0, rows, cols, dtype),
            ConstKind::Rows { rows, cols, dtype } => (1, rows, cols, dtype),
            ConstKind::Norm { n } => (2, n, 0, DType::I16),
            ConstKind::Table { entries, dtype } => (3, entries, 0, dtype),
        };
        self.u8(tag | (dtype as u8) << 4);
        self.u32(a);
        self.u32(b);
    }

    fn shape(&mut self, shape: &[Dim]) {
        self.u8(shape.len() as u8);
        for d in shape {
            self.u32(match d {
                Dim::Fixed(n) => *n,
                Dim::Seq => 0,
            });
        }
    }

    fn requant(&mut self, q: &Requant) {
        self.u8(q.shift as u8);
        self.u8(q.dtype as u8);
        self.i32(q.lo);
        self.i32(q.hi);
    }

    fn window(&mut self, w: &Window) {
        self.bytes(&w.kernel);
        self.bytes(&w.stride);
        self.bytes(&w.pad);
    }

    fn node(&mut self, node: &Node) {
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
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, why: &'static str) -> Result<T, GraphError> {
        Err(GraphError::Decode { at: self.at, why })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], GraphError> {
        let end = self.at.checked_add(n).filter(|e| *e <= self.bytes.len());
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(s) => {
                self.at += n;
                Ok(s)
            }
            None => self.fail("bytes end early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GraphError> {
        let at = self.at;
        self.take(N)?
            .first_chunk::<N>()
            .copied()
            .ok_or(GraphError::Decode {
                at,
                why: "bytes end early",
            })
    }
    fn u8(&mut self) -> Result<u8, GraphError> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Result<u32, GraphError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, GraphError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn i32(&mut self) -> Result<i32, GraphError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A count of items of at least `size` bytes each: never more than the bytes that are left could hold.
    fn count(&mut self, limit: usize, size: usize) -> Result<usize, GraphError> {
        let n = self.u32()? as usize;
        if n > limit || n > (self.bytes.len() - self.at) / size.max(1) {
            return self.fail("count larger than the bytes that follow");
        }
        Ok(n)
    }

    fn dtype(&mut self, v: u8) -> Result<DType, GraphError> {
        match v {
            0 => Ok(DType::I8),
            1 => Ok(DType::I16),
            2 => Ok(DType::I32),
            _ => self.fail("unknown element type"),
        }
    }

    fn kind(&mut self) -> Result<ConstKind, GraphError> {
        let head = self.u8()?;
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

    fn shape(&mut self) -> Result<Vec<Dim>, GraphError> {
        let rank = usize::from(self.u8()?);
        if rank > MAX_RANK {
            return self.fail("more than 6 dimensions");
        }
        (0..rank)
            .map(|_| {
                self.u32()
                    .map(|n| if n == 0 { Dim::Seq } else { Dim::Fixed(n) })
            })
            .collect()
    }

    fn requant(&mut self) -> Result<Requant, GraphError> {
        let shift = i8::from_le_bytes([self.u8()?]);
        let dtype = self.u8()?;
        Ok(Requant {
            shift,
            dtype: self.dtype(dtype)?,
            lo: self.i32()?,
            hi: self.i32()?,
        })
    }

    fn window(&mut self) -> Result<Window, GraphError> {
        Ok(Window {
            kernel: self.array()?,
            stride: self.array()?,
            pad: self.array()?,
        })
    }

    fn node(&mut self) -> Result<Node, GraphError> {
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
