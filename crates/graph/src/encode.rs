//! Canonical bytes of the structure (everything but the constants' contents), and of whole graphs.
//!
//! Little endian, fixed order, one encoding per value; the decoder rejects anything else, and trailing bytes.

use crate::{
    bounds,
    consts::{Bytes, Const, ConstKind},
    error::GraphError,
    layout,
    node::{Graph, Header, Node, Op, SEMANTICS},
    shape::{Checker, Cost, MAX_NODES},
    types::TensorType,
    wire::{Reader, Writer, op_name},
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

    /// Whether the graph makes tokens one after another: its output is sampled and fed back.
    pub fn is_generative(&self) -> bool {
        generative(&self.nodes)
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
        Self::from_shared(&Bytes::from(bytes.to_vec()))
    }

    /// As [`from_bytes`](Self::from_bytes); the constants stay where they are (a memory map, for instance) and are not copied.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes).
    pub fn from_shared(file: &Bytes) -> Result<Self, GraphError> {
        let bytes: &[u8] = file;
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
            let at = r.at;
            r.take(kind.total_bytes())?;
            let data = file.slice(at..r.at);
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

    /// Whether the graph makes tokens one after another: its output is sampled and fed back.
    pub fn is_generative(&self) -> bool {
        generative(&self.nodes)
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

fn generative(nodes: &[Node]) -> bool {
    matches!(nodes.last().map(|n| &n.op), Some(Op::Pick { .. }))
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
