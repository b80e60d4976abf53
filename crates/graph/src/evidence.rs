//! Evidence of one element or one block: the slices and rows that its definition reads, with their paths.
//!
//! [`Prover`] makes it by running the definition with a recorder as its source; [`crate::arbiter`] runs the same definition with the evidence as its source.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    consts::{Const, ConstKind},
    encode::Structure,
    error::GraphError,
    eval::place,
    identity::ConstTrees,
    layout::{Layout, Leaf},
    node::{ConstId, Graph, NodeId},
    ops::{Source, element},
    sampling::{Sampling, Statement, mask_tree},
    trace::{CHUNK, Chunk, Hash, Opening, TreeView},
    types::{Extent, Tensor},
};

/// Version of the canonical bytes.
const VERSION: u8 = 2;

/// Which tree an opened block is a leaf of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The tree of the receipt's trace root.
    Committed,
    /// The tree of the disputed segment.
    Segment,
}

/// An opened block of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEvidence {
    /// Its tree.
    pub tree: Which,
    /// Its leaf there.
    pub leaf: u64,
    /// Bytes and chaining values.
    pub opening: Opening,
    /// Siblings to the top.
    pub path: Vec<Hash>,
}

/// An opened row of a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowEvidence {
    /// Constant.
    pub constant: ConstId,
    /// Row.
    pub row: u32,
    /// Canonical bytes.
    pub bytes: Vec<u8>,
    /// Siblings to the constant's top.
    pub path: Vec<Hash>,
    /// Siblings from the constant to the top of all weights or tables.
    pub outer: Vec<Hash>,
}

/// An opened token mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskEvidence {
    /// Answered position.
    pub row: u32,
    /// The bitmap.
    pub bytes: Vec<u8>,
    /// Siblings to the top of the masks' tree.
    pub path: Vec<Hash>,
}

/// Everything that is needed to judge one element or one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Row-major index of the element in its node's output; 0 when a whole block or a commitment is judged.
    pub element: u64,
    /// Whether it recomputes a whole block.
    pub whole: bool,
    /// Salt and canonical input, when the input or a commitment is disputed.
    pub input: Option<(Hash, Vec<u8>)>,
    /// Canonical output, when the tokens of a generative graph are disputed: they are prompt and answer.
    pub output: Option<Vec<u8>>,
    /// Canonical sampling statement, when the definition reads it.
    pub sampling: Option<Vec<u8>>,
    /// The mask of a position, when the definition reads one.
    pub mask: Option<MaskEvidence>,
    /// Opened blocks, ascending by (tree, leaf).
    pub blocks: Vec<BlockEvidence>,
    /// Opened rows, ascending by (constant, row).
    pub rows: Vec<RowEvidence>,
}

/// Makes evidence from a challenger's own run.
#[derive(Debug)]
pub struct Prover<'a> {
    /// The registered model.
    pub graph: &'a Graph,
    /// Trees of its constants.
    pub trees: &'a ConstTrees,
    /// Layout of the run.
    pub layout: &'a Layout,
    /// Outputs of all nodes of the own run; equal to the asserter's up to the disputed leaf.
    pub values: &'a [Tensor],
    /// The asserter's committed tree, as far as known.
    pub committed: &'a TreeView<'a>,
    /// The asserter's tree of the disputed segment, as far as known.
    pub segment: Option<(u32, &'a TreeView<'a>)>,
    /// Salt and canonical input of the request.
    pub input: (&'a Hash, &'a [u8]),
    /// Canonical output of the receipt; read of generative graphs only.
    pub output: &'a [u8],
    /// The public statement of the run; generative graphs have one.
    pub statement: Option<&'a Statement>,
}

struct Recorder<'a> {
    prover: &'a Prover<'a>,
    node: NodeId,
    wide: RefCell<BTreeMap<NodeId, std::rc::Rc<Vec<i32>>>>,
    /// Chunks wanted of each block.
    chunks: RefCell<BTreeMap<(NodeId, u64), BTreeSet<usize>>>,
    rows: RefCell<BTreeSet<(ConstId, u32)>>,
    sampled: Cell<bool>,
    mask: Cell<Option<u32>>,
}

impl Source for Recorder<'_> {
    fn slice(
        &self,
        operand: usize,
        start: usize,
        len: usize,
    ) -> Result<Cow<'_, [i32]>, GraphError> {
        let producer = self
            .prover
            .graph
            .nodes()
            .get(self.node as usize)
            .and_then(|n| n.inputs.get(operand))
            .copied();
        let missing = || GraphError::evidence("own run lacks a value");
        let node = self.prover.layout.resolve(producer.ok_or_else(missing)?);
        let size = self.prover.layout.element_size(node);
        let block = self.prover.layout.block_bytes();
        for byte in (start * size..(start + len) * size).step_by(size) {
            let mut chunks = self.chunks.borrow_mut();
            chunks
                .entry((node, (byte / block) as u64))
                .or_default()
                .insert(byte % block / CHUNK);
        }
        let values = match self.wide.borrow_mut().entry(node) {
            std::collections::btree_map::Entry::Occupied(e) => e.get().clone(),
            std::collections::btree_map::Entry::Vacant(e) => {
                let t = self.prover.values.get(node as usize).ok_or_else(missing)?;
                e.insert(std::rc::Rc::new(t.data.to_i32())).clone()
            }
        };
        Ok(Cow::Owned(
            values.get(start..start + len).ok_or_else(missing)?.to_vec(),
        ))
    }

    fn row(&self, constant: ConstId, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        self.rows.borrow_mut().insert((constant, row));
        let bytes = self
            .prover
            .graph
            .consts()
            .get(constant as usize)
            .and_then(|c| c.row(row));
        bytes
            .map(Cow::Borrowed)
            .ok_or_else(|| GraphError::evidence("own model lacks a row"))
    }

    fn sampling(&self) -> Result<&Sampling, GraphError> {
        self.sampled.set(true);
        self.prover
            .statement
            .map(|s| &s.sampling)
            .ok_or_else(|| GraphError::evidence("own run has no sampling statement"))
    }

    fn mask(&self, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        self.mask.set(Some(row));
        self.prover
            .statement
            .and_then(|s| s.masks.get(row as usize))
            .map(|m| Cow::Borrowed(m.as_slice()))
            .ok_or_else(|| GraphError::evidence("own run has no mask for a position"))
    }
}

impl Prover<'_> {
    /// Evidence that recomputes element `index` of `node`.
    ///
    /// # Errors
    /// [`GraphError::Evidence`] when the own run or the known part of the asserter's tree does not suffice.
    pub fn element(
        &self,
        node: NodeId,
        index: u64,
        extent: impl Into<Extent>,
    ) -> Result<Evidence, GraphError> {
        if node == 0 {
            return Ok(Evidence {
                element: index,
                ..self.of_input()
            });
        }
        let mut evidence = self.record(node, index..index + 1, extent.into())?;
        evidence.element = index;
        Ok(evidence)
    }

    /// Evidence that recomputes a whole block of `node`.
    ///
    /// # Errors
    /// As [`element`](Self::element).
    pub fn block(
        &self,
        node: NodeId,
        block: u64,
        extent: impl Into<Extent>,
    ) -> Result<Evidence, GraphError> {
        if node == 0 {
            return Ok(self.of_input());
        }
        let size = self.layout.element_size(node) as u64;
        let first = block * self.layout.block_bytes() as u64 / size;
        let count = self.layout.block_len(node, block) as u64 / size;
        let mut evidence = self.record(node, first..first + count, extent.into())?;
        evidence.whole = true;
        Ok(evidence)
    }

    /// Evidence for a committed leaf that is no block of a computed node: the commitments.
    ///
    /// # Errors
    /// As [`element`](Self::element).
    pub fn commitment(&self, leaf: Leaf) -> Result<Evidence, GraphError> {
        let mut evidence = Evidence {
            output: None,
            ..self.of_input()
        };
        if leaf == Leaf::OutputCommit {
            let node = self.graph.nodes().len().saturating_sub(1) as NodeId;
            for block in 0..self.layout.blocks(node) {
                evidence.blocks.push(self.open(node, block, |_| true)?);
            }
        }
        Ok(evidence)
    }

    fn of_input(&self) -> Evidence {
        Evidence {
            input: Some((*self.input.0, self.input.1.to_vec())),
            output: self.graph.is_generative().then(|| self.output.to_vec()),
            ..Evidence::default()
        }
    }

    fn record(
        &self,
        node: NodeId,
        elements: std::ops::Range<u64>,
        extent: Extent,
    ) -> Result<Evidence, GraphError> {
        let kinds: Vec<ConstKind> = self.graph.consts().iter().map(Const::kind).collect();
        let place = place(self.graph.nodes(), self.graph.types(), &kinds, node, extent)
            .ok_or_else(|| GraphError::evidence("no such node"))?;
        let recorder = Recorder {
            prover: self,
            node,
            wide: RefCell::default(),
            chunks: RefCell::default(),
            rows: RefCell::default(),
            sampled: Cell::default(),
            mask: Cell::default(),
        };
        for e in elements {
            element(&place, e as usize, &recorder)?;
        }
        let mut out = Evidence::default();
        if let Some(statement) = self.statement {
            let sampled = recorder.sampled.get();
            out.sampling = sampled.then(|| statement.sampling.encode());
            if let Some(row) = recorder.mask.get() {
                let tree = mask_tree(statement.masks.iter().map(Vec::as_slice));
                let missing = || GraphError::evidence("own run has no mask for a position");
                out.mask = Some(MaskEvidence {
                    row,
                    bytes: statement
                        .masks
                        .get(row as usize)
                        .ok_or_else(missing)?
                        .clone(),
                    path: tree.path(u64::from(row)).ok_or_else(missing)?,
                });
            }
        }
        for ((node, block), wanted) in recorder.chunks.into_inner() {
            out.blocks
                .push(self.open(node, block, |i| wanted.contains(&i))?);
        }
        out.blocks.sort_by_key(|b| (b.tree, b.leaf));
        for (constant, row) in recorder.rows.into_inner() {
            let missing = || GraphError::evidence("own model lacks a row");
            let c = self
                .graph
                .consts()
                .get(constant as usize)
                .ok_or_else(missing)?;
            let (path, outer) = self
                .trees
                .paths(constant, row, c.kind().is_table())
                .ok_or_else(missing)?;
            out.rows.push(RowEvidence {
                constant,
                row,
                bytes: c.row(row).ok_or_else(missing)?.to_vec(),
                path,
                outer,
            });
        }
        Ok(out)
    }

    fn open(
        &self,
        node: NodeId,
        block: u64,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<BlockEvidence, GraphError> {
        let missing = || GraphError::evidence("own run lacks a block");
        let in_segment = self
            .segment
            .filter(|(s, _)| self.layout.segment_of(node) == Some(*s));
        let (tree, leaf, view) = match in_segment {
            Some((_, view)) => (Which::Segment, self.layout.segment_index(node, block), view),
            None => (
                Which::Committed,
                self.layout.committed_index(node, block),
                self.committed,
            ),
        };
        let leaf = leaf.ok_or_else(missing)?;
        let bytes = self
            .values
            .get(node as usize)
            .ok_or_else(missing)?
            .data
            .to_bytes();
        let at = block as usize * self.layout.block_bytes();
        let bytes = bytes
            .get(at..at + self.layout.block_len(node, block))
            .ok_or_else(missing)?;
        Ok(BlockEvidence {
            tree,
            leaf,
            opening: Opening::of(bytes, wanted),
            path: view.path(leaf).ok_or_else(missing)?,
        })
    }
}

/// First element of `node`'s block at which the opened bytes differ from the own ones, as an index into the node's output.
pub fn first_difference(
    layout: &Layout,
    node: NodeId,
    block: u64,
    opened: &[u8],
    own: &Tensor,
) -> Option<u64> {
    let size = layout.element_size(node);
    let at = block as usize * layout.block_bytes();
    let bytes = own.data.to_bytes();
    let own = bytes.get(at..at + layout.block_len(node, block))?;
    if opened.len() != own.len() {
        return Some((at / size) as u64);
    }
    let first = opened.iter().zip(own).position(|(a, b)| a != b)?;
    Some(((at + first) / size) as u64)
}

/// Layout and structure of a graph for a run.
pub fn layout_of(graph: &Graph, extent: impl Into<Extent>) -> (Structure, Layout) {
    let structure = graph.structure();
    let layout = Layout::new(&structure, extent);
    (structure, layout)
}

impl Evidence {
    /// Whether canonical bytes are those of evidence for a whole block; what judging costs depends on it.
    pub fn is_whole(bytes: &[u8]) -> bool {
        bytes.get(1) == Some(&1)
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.push(u8::from(self.whole));
        out.extend(self.element.to_le_bytes());
        match &self.input {
            None => out.push(0),
            Some((salt, bytes)) => {
                out.push(1);
                out.extend(salt);
                put_bytes(&mut out, bytes);
            }
        }
        for bytes in [&self.output, &self.sampling] {
            out.push(u8::from(bytes.is_some()));
            if let Some(bytes) = bytes {
                put_bytes(&mut out, bytes);
            }
        }
        out.push(u8::from(self.mask.is_some()));
        if let Some(mask) = &self.mask {
            out.extend(mask.row.to_le_bytes());
            put_bytes(&mut out, &mask.bytes);
            put_hashes(&mut out, &mask.path);
        }
        out.extend((self.blocks.len() as u32).to_le_bytes());
        for b in &self.blocks {
            out.push(b.tree as u8);
            out.extend(b.leaf.to_le_bytes());
            out.extend(b.opening.len.to_le_bytes());
            for c in &b.opening.chunks {
                match c {
                    Chunk::Bytes(bytes) => {
                        out.push(1);
                        out.extend(bytes);
                    }
                    Chunk::Hidden(cv) => {
                        out.push(0);
                        out.extend(cv);
                    }
                }
            }
            put_hashes(&mut out, &b.path);
        }
        out.extend((self.rows.len() as u32).to_le_bytes());
        for r in &self.rows {
            out.extend(r.constant.to_le_bytes());
            out.extend(r.row.to_le_bytes());
            put_bytes(&mut out, &r.bytes);
            put_hashes(&mut out, &r.path);
            put_hashes(&mut out, &r.outer);
        }
        out
    }

    /// Reads canonical bytes; refuses trailing bytes, disorder and duplicates.
    ///
    /// # Errors
    /// [`GraphError::Evidence`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GraphError> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return Err(GraphError::evidence("unknown version"));
        }
        let whole = r.flag()?;
        let element = r.u64()?;
        let input = match r.flag()? {
            true => Some((r.array()?, r.bytes()?)),
            false => None,
        };
        let mut optional = || r.flag()?.then(|| r.bytes()).transpose();
        let (output, sampling) = (optional()?, optional()?);
        let mask = match r.flag()? {
            true => Some(MaskEvidence {
                row: r.u32()?,
                bytes: r.bytes()?,
                path: r.hashes()?,
            }),
            false => None,
        };
        let mut blocks: Vec<BlockEvidence> = Vec::new();
        for _ in 0..r.count(14)? {
            let block = r.block()?;
            if blocks
                .last()
                .is_some_and(|p| (p.tree, p.leaf) >= (block.tree, block.leaf))
            {
                return Err(GraphError::evidence("blocks are not in ascending order"));
            }
            blocks.push(block);
        }
        let mut rows: Vec<RowEvidence> = Vec::new();
        for _ in 0..r.count(14)? {
            let row = RowEvidence {
                constant: r.u32()?,
                row: r.u32()?,
                bytes: r.bytes()?,
                path: r.hashes()?,
                outer: r.hashes()?,
            };
            if rows
                .last()
                .is_some_and(|p| (p.constant, p.row) >= (row.constant, row.row))
            {
                return Err(GraphError::evidence("rows are not in ascending order"));
            }
            rows.push(row);
        }
        if !r.0.is_empty() {
            return Err(GraphError::evidence("trailing bytes"));
        }
        Ok(Self {
            element,
            whole,
            input,
            output,
            sampling,
            mask,
            blocks,
            rows,
        })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[Hash]) {
    out.push(hashes.len() as u8);
    hashes.iter().for_each(|h| out.extend(h));
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], GraphError> {
        let (head, tail) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| GraphError::evidence("bytes end early"))?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], GraphError> {
        self.take(N)?
            .first_chunk::<N>()
            .copied()
            .ok_or_else(|| GraphError::evidence("bytes end early"))
    }
    fn u8(&mut self) -> Result<u8, GraphError> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    fn flag(&mut self) -> Result<bool, GraphError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(GraphError::evidence("a flag is neither 0 nor 1")),
        }
    }
    fn u32(&mut self) -> Result<u32, GraphError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, GraphError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn bytes(&mut self) -> Result<Vec<u8>, GraphError> {
        let n = self.u32()? as usize;
        Ok(self.take(n)?.to_vec())
    }
    fn hashes(&mut self) -> Result<Vec<Hash>, GraphError> {
        let n = usize::from(self.u8()?);
        Ok(self.take(n * 32)?.as_chunks::<32>().0.to_vec())
    }
    /// A count of items of at least `size` bytes each.
    fn count(&mut self, size: usize) -> Result<usize, GraphError> {
        let n = self.u32()? as usize;
        if n > self.0.len() / size {
            Err(GraphError::evidence(
                "count larger than the bytes that follow",
            ))
        } else {
            Ok(n)
        }
    }
    fn block(&mut self) -> Result<BlockEvidence, GraphError> {
        let tree = match self.u8()? {
            0 => Which::Committed,
            1 => Which::Segment,
            _ => return Err(GraphError::evidence("unknown tree")),
        };
        let leaf = self.u64()?;
        let len = self.u32()?;
        if len == 0 || len > 1 << 14 {
            return Err(GraphError::evidence("block of impossible length"));
        }
        let mut chunks = Vec::new();
        for at in (0..len as usize).step_by(CHUNK) {
            chunks.push(match self.flag()? {
                true => Chunk::Bytes(self.take(CHUNK.min(len as usize - at))?.to_vec()),
                false => Chunk::Hidden(self.array()?),
            });
        }
        Ok(BlockEvidence {
            tree,
            leaf,
            opening: Opening { len, chunks },
            path: self.hashes()?,
        })
    }
}
