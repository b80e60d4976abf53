//! Hash trees: of traces, constants and graphs; and openings of slices of a block.
//!
//! BLAKE3 in derive-key mode, a context for each use. Trees are binary, padded with a fixed leaf to a power of two; the root binds the number of leaves.

use std::sync::LazyLock;

use blake3::hazmat::{
    ContextKey, HasherExt, Mode, hash_derive_key_context, left_subtree_len,
    merge_subtrees_non_root, merge_subtrees_root,
};

use crate::error::GraphError;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];
/// Bytes of a BLAKE3 chunk: the granularity at which a block is opened.
pub const CHUNK: usize = 1024;

/// One use of hashing; each has its own contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Blocks of a run.
    Trace,
    /// Rows of constants.
    Constant,
    /// Encodings of nodes.
    Graph,
    /// Token masks of a run.
    Mask,
}

struct Keys {
    leaf: ContextKey,
    node: ContextKey,
    root: ContextKey,
    pad: Hash,
}

fn keys(family: Family) -> &'static Keys {
    static TRACE: LazyLock<Keys> = LazyLock::new(|| {
        Keys::new([
            "assay trace leaf v1",
            "assay trace node v1",
            "assay trace root v1",
            "assay trace pad v1",
        ])
    });
    static CONSTANT: LazyLock<Keys> = LazyLock::new(|| {
        Keys::new([
            "assay weight row v1",
            "assay weight node v1",
            "assay weight root v1",
            "assay weight pad v1",
        ])
    });
    static GRAPH: LazyLock<Keys> = LazyLock::new(|| {
        Keys::new([
            "assay graph leaf v1",
            "assay graph node v1",
            "assay graph root v1",
            "assay graph pad v1",
        ])
    });
    static MASK: LazyLock<Keys> = LazyLock::new(|| {
        Keys::new([
            "assay mask leaf v1",
            "assay mask node v1",
            "assay mask root v1",
            "assay mask pad v1",
        ])
    });
    match family {
        Family::Trace => &TRACE,
        Family::Constant => &CONSTANT,
        Family::Graph => &GRAPH,
        Family::Mask => &MASK,
    }
}

impl Keys {
    fn new([leaf, node, root, pad]: [&str; 4]) -> Self {
        let key = hash_derive_key_context;
        Self {
            leaf: key(leaf),
            node: key(node),
            root: key(root),
            pad: blake3::derive_key(pad, &[]),
        }
    }
}

fn digest(key: &ContextKey, parts: &[&[u8]]) -> Hash {
    let mut h = blake3::Hasher::new_from_context_key(key);
    for p in parts {
        h.update(p);
    }
    *h.finalize().as_bytes()
}

/// Hash under a one-off context, for example `"assay input v1"`.
pub fn derive(context: &str, parts: &[&[u8]]) -> Hash {
    digest(&hash_derive_key_context(context), parts)
}

/// `BLAKE3("assay input v1", salt ∥ bytes)`.
pub fn input_commit(salt: &Hash, bytes: &[u8]) -> Hash {
    derive("assay input v1", &[salt, bytes])
}

/// `BLAKE3("assay output v1", salt ∥ bytes)`.
pub fn output_commit(salt: &Hash, bytes: &[u8]) -> Hash {
    derive("assay output v1", &[salt, bytes])
}

/// Hash of a leaf's bytes (a block, a row, an encoding).
pub fn leaf_hash(family: Family, bytes: &[u8]) -> Hash {
    digest(&keys(family).leaf, &[bytes])
}

/// Hash of an inner node.
pub fn node_hash(family: Family, left: &Hash, right: &Hash) -> Hash {
    digest(&keys(family).node, &[left, right])
}

/// Root: binds the number of leaves to the top of the tree.
pub fn root_hash(family: Family, leaves: u64, top: &Hash) -> Hash {
    digest(&keys(family).root, &[&leaves.to_le_bytes(), top])
}

/// The leaf that pads a tree to a power of two.
pub fn pad(family: Family) -> Hash {
    keys(family).pad
}

/// Levels above the leaves of a tree of `leaves` leaves: `ceil(log2)`, 0 for one leaf.
pub const fn depth(leaves: u64) -> u32 {
    if leaves <= 1 {
        0
    } else {
        (leaves - 1).ilog2() + 1
    }
}

/// A hash tree with all its levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    family: Family,
    leaves: u64,
    /// Level 0 is the leaves, padded; the last level has one node.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Builds the tree over `leaves`.
    pub fn new(family: Family, leaves: Vec<Hash>) -> Self {
        let count = leaves.len() as u64;
        let mut level = leaves;
        let mut levels = Vec::new();
        level.resize(1usize << depth(count), pad(family));
        while level.len() > 1 {
            let next = level
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[l, r]| node_hash(family, l, r))
                .collect();
            levels.push(std::mem::replace(&mut level, next));
        }
        levels.push(level);
        Self {
            family,
            leaves: count,
            levels,
        }
    }

    /// Number of leaves, padding not counted.
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Levels above the leaves.
    pub fn depth(&self) -> u32 {
        self.levels.len() as u32 - 1
    }

    /// Hash at `level` (0: leaves), `index`; the pad's subtree is part of the tree.
    pub fn node(&self, level: u32, index: u64) -> Option<Hash> {
        self.levels
            .get(level as usize)?
            .get(usize::try_from(index).ok()?)
            .copied()
    }

    /// Leaves, padding not included.
    pub fn leaf_hashes(&self) -> &[Hash] {
        self.levels
            .first()
            .and_then(|l| l.get(..self.leaves as usize))
            .unwrap_or(&[])
    }

    /// Root that binds the number of leaves.
    pub fn root(&self) -> Hash {
        let top = self
            .levels
            .last()
            .and_then(|l| l.first())
            .copied()
            .unwrap_or_else(|| pad(self.family));
        root_hash(self.family, self.leaves, &top)
    }

    /// Siblings from leaf `index` to the top.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        (index < self.leaves).then_some(())?;
        (0..self.depth())
            .map(|l| self.node(l, (index >> l) ^ 1))
            .collect()
    }

    /// The `2^k` descendants, `k` levels below node (`level`, `index`): what a reveal shows.
    pub fn descendants(&self, level: u32, index: u64, k: u32) -> Option<Vec<Hash>> {
        let below = level.checked_sub(k)?;
        (0..1u64 << k)
            .map(|i| self.node(below, (index << k) + i))
            .collect()
    }
}

/// Root that a leaf and its path lead to.
pub fn root_from_path(
    family: Family,
    leaves: u64,
    index: u64,
    leaf: &Hash,
    path: &[Hash],
) -> Option<Hash> {
    if index >= leaves || path.len() != depth(leaves) as usize {
        return None;
    }
    let top = path
        .iter()
        .enumerate()
        .fold(*leaf, |node, (level, sibling)| {
            if (index >> level) & 1 == 0 {
                node_hash(family, &node, sibling)
            } else {
                node_hash(family, sibling, &node)
            }
        });
    Some(root_hash(family, leaves, &top))
}

/// Another's tree as far as it is known: our own, overlaid with what was revealed.
///
/// Up to the first leaf that differs all leaves are equal, so our own nodes serve left of it; on and right of the way down to it the revealed ones do.
#[derive(Clone, Debug)]
pub struct TreeView<'a> {
    own: &'a Tree,
    revealed: std::collections::BTreeMap<(u32, u64), Hash>,
}

impl<'a> TreeView<'a> {
    /// A view in which nothing was revealed yet.
    pub const fn new(own: &'a Tree) -> Self {
        Self {
            own,
            revealed: std::collections::BTreeMap::new(),
        }
    }

    /// Adds `2^k` revealed descendants `k` levels below (`level`, `index`), and the nodes in between.
    pub fn reveal(&mut self, level: u32, index: u64, descendants: &[Hash]) {
        let k = descendants.len().ilog2().min(level);
        let mut row = descendants.to_vec();
        for up in 0..=k {
            for (i, h) in row.iter().enumerate() {
                self.revealed
                    .insert((level - k + up, (index << (k - up)) + i as u64), *h);
            }
            row = row
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[l, r]| node_hash(self.own.family, l, r))
                .collect();
        }
    }

    /// All leaves of the other's tree, when they were posted.
    pub fn reveal_leaves(&mut self, leaves: &[Hash]) {
        let theirs = Tree::new(self.own.family, leaves.to_vec());
        for (level, row) in theirs.levels.iter().enumerate() {
            for (i, h) in row.iter().enumerate() {
                self.revealed.insert((level as u32, i as u64), *h);
            }
        }
    }

    /// Node of the other's tree.
    pub fn node(&self, level: u32, index: u64) -> Option<Hash> {
        self.revealed
            .get(&(level, index))
            .copied()
            .or_else(|| self.own.node(level, index))
    }

    /// Path of a leaf in the other's tree.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        (0..self.own.depth())
            .map(|l| self.node(l, (index >> l) ^ 1))
            .collect()
    }
}

/// A chunk of a block in an opening: its bytes, or only its chaining value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Up to 1,024 bytes.
    Bytes(Vec<u8>),
    /// Chaining value.
    Hidden(Hash),
}

/// Some of a block's bytes, with what is needed to recompute its leaf hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Bytes of the whole block.
    pub len: u32,
    /// One entry for each chunk of the block, in order.
    pub chunks: Vec<Chunk>,
}

impl Opening {
    /// Opens the chunks of `block` for which `wanted` holds. A block of one chunk is always opened.
    pub fn of(block: &[u8], wanted: impl Fn(usize) -> bool) -> Self {
        let single = block.len() <= CHUNK;
        let chunks = block.chunks(CHUNK).enumerate().map(|(i, c)| {
            if single || wanted(i) {
                Chunk::Bytes(c.to_vec())
            } else {
                Chunk::Hidden(chunk_cv(i, c))
            }
        });
        Self {
            len: block.len() as u32,
            chunks: chunks.collect(),
        }
    }

    /// Leaf hash (family [`Family::Trace`]) that this opening leads to.
    ///
    /// # Errors
    /// [`GraphError::Evidence`] when chunks have impossible lengths.
    pub fn leaf_hash(&self) -> Result<Hash, GraphError> {
        let len = self.len as usize;
        if len == 0 || len > 1 << 14 || self.chunks.len() != len.div_ceil(CHUNK) {
            return Err(GraphError::evidence(
                "opening has an impossible number of chunks",
            ));
        }
        for (i, c) in self.chunks.iter().enumerate() {
            if let Chunk::Bytes(b) = c
                && b.len() != CHUNK.min(len - i * CHUNK)
            {
                return Err(GraphError::evidence("opened chunk has another length"));
            }
        }
        if let [single] = &self.chunks[..] {
            return match single {
                Chunk::Bytes(b) => Ok(leaf_hash(Family::Trace, b)),
                Chunk::Hidden(_) => {
                    Err(GraphError::evidence("a block of one chunk must be opened"))
                }
            };
        }
        let cvs: Vec<Hash> = self
            .chunks
            .iter()
            .enumerate()
            .map(|(i, c)| match c {
                Chunk::Bytes(b) => chunk_cv(i, b),
                Chunk::Hidden(cv) => *cv,
            })
            .collect();
        let mode = Mode::DeriveKeyMaterial(&keys(Family::Trace).leaf);
        let (left, right) = split(&cvs, len)?;
        Ok(*merge_subtrees_root(
            &subtree(left.0, left.1, mode)?,
            &subtree(right.0, right.1, mode)?,
            mode,
        )
        .as_bytes())
    }

    /// Bytes `at .. at + n` of the block, if their chunks are opened.
    pub fn bytes(&self, at: usize, n: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(n.min(1 << 14));
        let mut i = at;
        while i < at.checked_add(n)? {
            let Chunk::Bytes(b) = self.chunks.get(i / CHUNK)? else {
                return None;
            };
            let end = (at + n).min((i / CHUNK + 1) * CHUNK);
            out.extend(b.get(i % CHUNK..i % CHUNK + (end - i))?);
            i = end;
        }
        Some(out)
    }
}

fn chunk_cv(index: usize, bytes: &[u8]) -> Hash {
    blake3::Hasher::new_from_context_key(&keys(Family::Trace).leaf)
        .set_input_offset((index * CHUNK) as u64)
        .update(bytes)
        .finalize_non_root()
}

type Part<'a> = (&'a [Hash], usize);

fn split(cvs: &[Hash], len: usize) -> Result<(Part<'_>, Part<'_>), GraphError> {
    let left = left_subtree_len(len as u64) as usize;
    let (a, b) = cvs
        .split_at_checked(left / CHUNK)
        .ok_or_else(|| GraphError::evidence("opening has too few chunks"))?;
    Ok(((a, left), (b, len - left)))
}

fn subtree(cvs: &[Hash], len: usize, mode: Mode<'_>) -> Result<Hash, GraphError> {
    match cvs {
        [] => Err(GraphError::evidence("opening has too few chunks")),
        [cv] => Ok(*cv),
        _ => {
            let (left, right) = split(cvs, len)?;
            Ok(merge_subtrees_non_root(
                &subtree(left.0, left.1, mode)?,
                &subtree(right.0, right.1, mode)?,
                mode,
            ))
        }
    }
}
