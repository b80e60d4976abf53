//! The judge of a dispute: recomputes one element (or one small block) from opened evidence, by the same definition that a full run uses.
//!
//! Pure, bounded by the evidence's length, free of panics. An error means that the *evidence* is unusable: the caller reverts and the clock runs on.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    consts::ConstKind,
    encode::Structure,
    error::GraphError,
    eval::place,
    evidence::{Evidence, Which},
    layout::{Layout, Leaf, MAX_BLOCK_EVIDENCE, MAX_BLOCK_STEPS},
    node::{ConstId, NodeId},
    ops::{Place, Source, element},
    sampling::Sampling,
    shape::Cost,
    trace::{Family, Hash, Opening, input_commit, leaf_hash, output_commit, root_from_path},
    types::{DType, Data, Extent},
};

/// A disputed leaf and what the chain knows around it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Structure of the registered model.
    pub structure: &'a Structure,
    /// Registered root over tables.
    pub tables_root: &'a Hash,
    /// Registered root over the other constants.
    pub weights_root: &'a Hash,
    /// Positions of the run.
    pub extent: Extent,
    /// The receipt's hash of the sampling statement; read of generative graphs only.
    pub sampling_hash: &'a Hash,
    /// The receipt's root over the token masks of the answered positions; read where a mask is opened.
    pub mask_root: &'a Hash,
    /// The receipt's commitments and trace root.
    pub input_commit: &'a Hash,
    /// See `input_commit`.
    pub output_commit: &'a Hash,
    /// See `input_commit`.
    pub trace_root: &'a Hash,
    /// Number and posted root of the disputed segment, when its tree was opened.
    pub segment: Option<(u32, &'a Hash)>,
    /// Disputed leaf: in the segment's tree if there is one, else in the committed tree.
    pub leaf: u64,
    /// Its hash.
    pub leaf_hash: &'a Hash,
    /// The leaf's bytes as opened by the asserter; `None` to judge the whole block by its hash.
    pub block: Option<&'a [u8]>,
}

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was asserted is what the definition gives.
    AsserterRight,
    /// It is not.
    AsserterWrong,
}

const fn verdict(equal: bool) -> Verdict {
    if equal {
        Verdict::AsserterRight
    } else {
        Verdict::AsserterWrong
    }
}

/// Judges a disputed leaf.
///
/// # Errors
/// [`GraphError::Evidence`] when evidence is missing, superfluous, malformed or does not hash to the roots.
pub fn judge(case: &Case<'_>, evidence: &Evidence) -> Result<Verdict, GraphError> {
    let layout = Layout::new(case.structure, case.extent);
    let (node, block) = match case.segment {
        Some((segment, _)) => layout.segment_leaf(segment, case.leaf),
        None => match layout.committed_leaf(case.leaf) {
            Some(Leaf::Block { node, block }) => Some((node, block)),
            Some(Leaf::InputCommit) => return Ok(verdict(case.leaf_hash == case.input_commit)),
            Some(Leaf::OutputCommit) => return judge_output(case, &layout, evidence),
            None => None,
        },
    }
    .ok_or_else(|| GraphError::evidence(format!("leaf {} does not exist", case.leaf)))?;
    if node == 0 {
        let (salt, bytes) = checked_input(case, evidence)?;
        if !is_legal_input(case, &layout, bytes) {
            return Ok(Verdict::AsserterWrong);
        }
        let bytes = if case.structure.is_generative() {
            let output = evidence
                .output
                .as_ref()
                .filter(|o| output_commit(salt, o) == *case.output_commit)
                .ok_or_else(|| GraphError::evidence("the output that was committed is missing"))?;
            if output.len() != 4 * case.extent.out as usize || !in_range(case, output) {
                return Ok(Verdict::AsserterWrong);
            }
            &[bytes.as_slice(), output].concat()
        } else {
            bytes
        };
        let at = block as usize * layout.block_bytes();
        let own = bytes.get(at..at + layout.block_len(0, block));
        let own = own.ok_or_else(|| GraphError::evidence("input too short"))?;
        return Ok(verdict(leaf_hash(Family::Trace, own) == *case.leaf_hash));
    }
    let place = place(
        &case.structure.nodes,
        &case.structure.types,
        &case.structure.kinds,
        node,
        case.extent,
    )
    .ok_or_else(|| GraphError::evidence("no such node"))?;
    if evidence.whole != case.block.is_none() {
        return Err(GraphError::evidence(
            "evidence is for an element where a block is judged, or the other way round",
        ));
    }
    let source = Opened::new(case, &layout, node, evidence)?;
    let answer = match case.block {
        Some(bytes) => judge_element(
            case,
            &layout,
            (node, block),
            bytes,
            evidence.element,
            &place,
            &source,
        ),
        None => judge_block(case, &layout, (node, block), &place, &source),
    }?;
    source.all_used()?;
    Ok(answer)
}

fn checked_input<'e>(
    case: &Case<'_>,
    evidence: &'e Evidence,
) -> Result<&'e (Hash, Vec<u8>), GraphError> {
    let input = evidence
        .input
        .as_ref()
        .ok_or_else(|| GraphError::evidence("salt and input are missing"))?;
    if input_commit(&input.0, &input.1) != *case.input_commit {
        return Err(GraphError::evidence(
            "salt and input do not open the input commitment",
        ));
    }
    Ok(input)
}

/// Whether the bytes behind the input commitment are an input of as many positions as the receipt says, all values in the declared range.
///
/// The number of positions is the asserter's word: a run over a part of the input, or over more than the input, is consistent in itself and false all the same.
fn is_legal_input(case: &Case<'_>, layout: &Layout, bytes: &[u8]) -> bool {
    let want = if case.structure.is_generative() {
        4 * case.extent.n_in() as usize
    } else {
        layout.output_bytes(0)
    };
    bytes.len() == want && in_range(case, bytes)
}

/// Whether all values lie in the declared range of the input.
fn in_range(case: &Case<'_>, bytes: &[u8]) -> bool {
    case.structure.types.first().is_some_and(|ty| {
        let legal = |d: Data| d.to_i32().iter().all(|v| (ty.lo..=ty.hi).contains(v));
        Data::from_bytes(ty.dtype, bytes).is_ok_and(legal)
    })
}

/// The last leaf must be the commitment of the receipt, and that must open to the committed blocks of the output node. With the sampling statement in the evidence, an answer must also end where the statement ends it.
fn judge_output(
    case: &Case<'_>,
    layout: &Layout,
    evidence: &Evidence,
) -> Result<Verdict, GraphError> {
    if case.leaf_hash != case.output_commit {
        return Ok(Verdict::AsserterWrong);
    }
    let (salt, input) = checked_input(case, evidence)?;
    if !is_legal_input(case, layout, input) {
        return Ok(Verdict::AsserterWrong);
    }
    let node = case.structure.nodes.len().saturating_sub(1) as NodeId;
    let mut bytes = Vec::new();
    for block in 0..layout.blocks(node) {
        let leaf = layout.committed_index(node, block);
        let opened = evidence
            .blocks
            .get(block as usize)
            .filter(|b| b.tree == Which::Committed && Some(b.leaf) == leaf);
        let opened =
            opened.ok_or_else(|| GraphError::evidence("a block of the output is missing"))?;
        check_block(case, layout, opened)?;
        bytes.extend(
            opened
                .opening
                .bytes(0, layout.block_len(node, block))
                .ok_or_else(|| GraphError::evidence("a chunk of the output is missing"))?,
        );
    }
    if evidence.blocks.len() as u64 != layout.blocks(node) || !evidence.rows.is_empty() {
        return Err(GraphError::evidence("superfluous evidence"));
    }
    if output_commit(salt, &bytes) != *case.output_commit {
        return Ok(Verdict::AsserterWrong);
    }
    match &evidence.sampling {
        Some(statement) => Ok(verdict(!goes_on(&statement_of(case, statement)?, &bytes))),
        None => Ok(Verdict::AsserterRight),
    }
}

/// Whether an answer has more tokens than its statement allows, or goes on after a token that ends it.
fn goes_on(sampling: &Sampling, answer: &[u8]) -> bool {
    let (tokens, _) = answer.as_chunks::<4>();
    let ended = tokens
        .iter()
        .position(|t| sampling.stop.binary_search(&u32::from_le_bytes(*t)).is_ok());
    tokens.len() as u64 > u64::from(sampling.max_out) || ended.is_some_and(|t| t + 1 < tokens.len())
}

/// The opened statement, if it is the receipt's.
fn statement_of(case: &Case<'_>, bytes: &[u8]) -> Result<Sampling, GraphError> {
    let sampling = Sampling::decode(bytes)?;
    if sampling.hash() != *case.sampling_hash {
        return Err(GraphError::evidence(
            "the sampling statement is not the receipt's",
        ));
    }
    Ok(sampling)
}

fn judge_element(
    case: &Case<'_>,
    layout: &Layout,
    (node, block): (NodeId, u64),
    bytes: &[u8],
    index: u64,
    place: &Place<'_>,
    source: &Opened<'_>,
) -> Result<Verdict, GraphError> {
    if leaf_hash(Family::Trace, bytes) != *case.leaf_hash {
        return Err(GraphError::evidence(
            "opened block is not the disputed leaf",
        ));
    }
    if bytes.len() != layout.block_len(node, block) {
        return Ok(Verdict::AsserterWrong);
    }
    let size = layout.element_size(node);
    let at = index
        .checked_mul(size as u64)
        .and_then(|b| b.checked_sub(block * layout.block_bytes() as u64));
    let claimed = at
        .and_then(|at| bytes.get(at as usize..at as usize + size))
        .ok_or_else(|| GraphError::evidence("element lies outside the block"))?;
    let dtype = output_dtype(case, node)?;
    let value = element(place, index as usize, source)?;
    let own = Data::from_i32(dtype, &[value])
        .ok_or_else(|| GraphError::evidence("value outside its type"))?;
    Ok(verdict(own.to_bytes() == claimed))
}

fn judge_block(
    case: &Case<'_>,
    layout: &Layout,
    (node, block): (NodeId, u64),
    place: &Place<'_>,
    source: &Opened<'_>,
) -> Result<Verdict, GraphError> {
    let size = layout.element_size(node);
    let first = block as usize * layout.block_bytes() / size;
    let count = layout.block_len(node, block) / size;
    let cost = case.structure.costs.get(node as usize);
    let steps = cost.map_or(0, Cost::work).saturating_mul(count as u64);
    if steps > MAX_BLOCK_STEPS || source.bytes > MAX_BLOCK_EVIDENCE {
        return Err(GraphError::evidence(format!(
            "block needs {steps} steps and {} bytes, at most {MAX_BLOCK_STEPS} and {MAX_BLOCK_EVIDENCE}",
            source.bytes
        )));
    }
    let values = (first..first + count)
        .map(|e| element(place, e, source))
        .collect::<Result<Vec<i32>, _>>()?;
    let own = Data::from_i32(output_dtype(case, node)?, &values)
        .ok_or_else(|| GraphError::evidence("value outside its type"))?;
    Ok(verdict(
        leaf_hash(Family::Trace, &own.to_bytes()) == *case.leaf_hash,
    ))
}

fn output_dtype(case: &Case<'_>, node: NodeId) -> Result<DType, GraphError> {
    case.structure
        .types
        .get(node as usize)
        .map(|t| t.dtype)
        .ok_or_else(|| GraphError::evidence("no such node"))
}

fn check_block(
    case: &Case<'_>,
    layout: &Layout,
    b: &crate::evidence::BlockEvidence,
) -> Result<(), GraphError> {
    let (leaves, root) = match (b.tree, case.segment) {
        (Which::Committed, _) => (layout.committed_leaves(), case.trace_root),
        (Which::Segment, Some((segment, root))) => (layout.segment_leaves(segment), root),
        (Which::Segment, None) => return Err(GraphError::evidence("no segment tree was opened")),
    };
    let leaf = b.opening.leaf_hash()?;
    if root_from_path(Family::Trace, leaves, b.leaf, &leaf, &b.path).as_ref() != Some(root) {
        return Err(GraphError::evidence(format!(
            "block {} does not hash to the root of its tree",
            b.leaf
        )));
    }
    Ok(())
}

/// Evidence as the source of a definition: checked against the roots, and every piece must be read.
struct Opened<'a> {
    layout: &'a Layout,
    structure: &'a Structure,
    node: NodeId,
    segment: Option<u32>,
    blocks: BTreeMap<(Which, u64), &'a Opening>,
    rows: BTreeMap<(ConstId, u32), &'a [u8]>,
    sampling: Option<Sampling>,
    mask: Option<(u32, &'a [u8])>,
    used_sampling: Cell<bool>,
    used_mask: Cell<bool>,
    used_blocks: RefCell<BTreeSet<(Which, u64)>>,
    used_rows: RefCell<BTreeSet<(ConstId, u32)>>,
    bytes: u64,
}

impl<'a> Opened<'a> {
    fn new(
        case: &Case<'a>,
        layout: &'a Layout,
        node: NodeId,
        evidence: &'a Evidence,
    ) -> Result<Self, GraphError> {
        if evidence.input.is_some() || evidence.output.is_some() {
            return Err(GraphError::evidence("superfluous input or output"));
        }
        let sampling = match &evidence.sampling {
            None => None,
            Some(bytes) => Some(statement_of(case, bytes)?),
        };
        let mask = match (&evidence.mask, &sampling) {
            (None, _) => None,
            (Some(mask), Some(sampling)) => {
                let root = root_from_path(
                    Family::Mask,
                    u64::from(case.extent.out),
                    u64::from(mask.row),
                    &leaf_hash(Family::Mask, &mask.bytes),
                    &mask.path,
                );
                if root.as_ref() != Some(case.mask_root) || !sampling.is_masked() {
                    return Err(GraphError::evidence(
                        "the mask does not hash to the receipt's root",
                    ));
                }
                Some((mask.row, mask.bytes.as_slice()))
            }
            (Some(_), None) => {
                return Err(GraphError::evidence("a mask without its statement"));
            }
        };
        let (mut blocks, mut rows, mut bytes) = (BTreeMap::new(), BTreeMap::new(), 0u64);
        for b in &evidence.blocks {
            check_block(case, layout, b)?;
            bytes += u64::from(b.opening.len);
            blocks.insert((b.tree, b.leaf), &b.opening);
        }
        for r in &evidence.rows {
            let kind = case
                .structure
                .kinds
                .get(r.constant as usize)
                .ok_or_else(|| GraphError::evidence("no such constant"))?;
            let inner = root_from_path(
                Family::Constant,
                u64::from(kind.rows()),
                u64::from(r.row),
                &leaf_hash(Family::Constant, &r.bytes),
                &r.path,
            );
            let (count, index, root) = outer_place(case, r.constant, kind);
            let outer = inner
                .and_then(|inner| root_from_path(Family::Constant, count, index, &inner, &r.outer));
            if outer.as_ref() != Some(root) || r.bytes.len() != kind.row_bytes(r.row) {
                return Err(GraphError::evidence(format!(
                    "row {} of constant {} does not hash to the registered root",
                    r.row, r.constant
                )));
            }
            bytes += r.bytes.len() as u64;
            rows.insert((r.constant, r.row), r.bytes.as_slice());
        }
        let segment = case.segment.map(|(s, _)| s);
        Ok(Self {
            layout,
            structure: case.structure,
            node,
            segment,
            blocks,
            rows,
            sampling,
            mask,
            used_sampling: Cell::default(),
            used_mask: Cell::default(),
            used_blocks: RefCell::default(),
            used_rows: RefCell::default(),
            bytes,
        })
    }

    fn all_used(&self) -> Result<(), GraphError> {
        if self.used_blocks.borrow().len() != self.blocks.len()
            || self.used_rows.borrow().len() != self.rows.len()
            || self.used_sampling.get() != self.sampling.is_some()
            || self.used_mask.get() != self.mask.is_some()
        {
            return Err(GraphError::evidence("superfluous evidence"));
        }
        Ok(())
    }
}

/// Number of constants of the same family, index among them, registered root.
fn outer_place<'a>(case: &Case<'a>, constant: ConstId, kind: &ConstKind) -> (u64, u64, &'a Hash) {
    let same = |k: &&ConstKind| k.is_table() == kind.is_table();
    let count = case.structure.kinds.iter().filter(same).count() as u64;
    let index = case
        .structure
        .kinds
        .iter()
        .take(constant as usize)
        .filter(same)
        .count() as u64;
    (
        count,
        index,
        if kind.is_table() {
            case.tables_root
        } else {
            case.weights_root
        },
    )
}

impl Source for Opened<'_> {
    fn slice(
        &self,
        operand: usize,
        start: usize,
        len: usize,
    ) -> Result<Cow<'_, [i32]>, GraphError> {
        let missing = || GraphError::evidence("a slice of a producer is missing");
        let producer = self
            .structure
            .nodes
            .get(self.node as usize)
            .and_then(|n| n.inputs.get(operand))
            .ok_or_else(missing)?;
        let node = self.layout.resolve(*producer);
        let dtype = self
            .structure
            .types
            .get(node as usize)
            .ok_or_else(missing)?
            .dtype;
        let size = dtype.size();
        let block_bytes = self.layout.block_bytes();
        let in_segment = self.segment.is_some() && self.layout.segment_of(node) == self.segment;
        let (mut at, end) = (start * size, (start + len) * size);
        let mut bytes = Vec::with_capacity(len.min(1 << 16) * size);
        while at < end {
            let block = (at / block_bytes) as u64;
            let stop = end.min((block as usize + 1) * block_bytes);
            let key = if in_segment {
                (
                    Which::Segment,
                    self.layout.segment_index(node, block).ok_or_else(missing)?,
                )
            } else {
                (
                    Which::Committed,
                    self.layout
                        .committed_index(node, block)
                        .ok_or_else(missing)?,
                )
            };
            let opening = self.blocks.get(&key).ok_or_else(missing)?;
            if opening.len as usize != self.layout.block_len(node, block) {
                return Err(GraphError::evidence("opened block has another length"));
            }
            self.used_blocks.borrow_mut().insert(key);
            bytes.extend(
                opening
                    .bytes(at % block_bytes, stop - at)
                    .ok_or_else(missing)?,
            );
            at = stop;
        }
        Ok(Cow::Owned(Data::from_bytes(dtype, &bytes)?.to_i32()))
    }

    fn row(&self, constant: ConstId, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        let bytes = self
            .rows
            .get(&(constant, row))
            .ok_or_else(|| GraphError::evidence("a row of a constant is missing"))?;
        self.used_rows.borrow_mut().insert((constant, row));
        Ok(Cow::Borrowed(*bytes))
    }

    fn sampling(&self) -> Result<&Sampling, GraphError> {
        self.used_sampling.set(true);
        self.sampling
            .as_ref()
            .ok_or_else(|| GraphError::evidence("the sampling statement is missing"))
    }

    fn mask(&self, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        self.used_mask.set(true);
        self.mask
            .filter(|(have, _)| *have == row)
            .map(|(_, bytes)| Cow::Borrowed(bytes))
            .ok_or_else(|| GraphError::evidence("the mask of a position is missing"))
    }
}
