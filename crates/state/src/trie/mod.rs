//! Sparse Merkle-Patricia trie: only touched paths are in memory, hashing happens once per block.
//!
//! Nodes are stored by their **path**, not by their hash, so there are no reference counts: a node that moves is
//! written at its new path and deleted at its old one. An unloaded subtree is a [`Node::Stub`] that holds the hash
//! its parent knows; it is read from a [`NodeSource`] when an update needs to go below it.

mod change;
mod node;
mod prove;
mod seal;

use alloy_primitives::B256;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use node::Node;

use crate::StateError;

/// Where stored nodes come from.
pub trait NodeSource {
    /// RLP of the node at `path` from the root of this trie, `None` when nothing is stored there.
    ///
    /// # Errors
    /// [`StateError`] when the database fails.
    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, StateError>;
}

/// A source with nothing in it, for tries that are built in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodes;

impl NodeSource for NoNodes {
    fn node(&self, _path: &Nibbles) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }
}

/// Node writes that bring the stored trie in line with the one in memory.
#[derive(Clone, Debug, Default)]
pub struct NodeChanges {
    /// Path and RLP of new or changed nodes.
    pub written: Vec<(Nibbles, Vec<u8>)>,
    /// Paths where no node is stored any more.
    pub removed: Vec<Nibbles>,
}

/// A Merkle-Patricia trie over 32-byte (64-nibble) keys.
///
/// After an error the trie is in an unspecified state and must be dropped.
#[derive(Debug, Default)]
pub struct SparseTrie {
    root: Option<Box<Node>>,
    removed: Vec<Nibbles>,
}

impl SparseTrie {
    /// A trie with this root, nothing loaded. [`EMPTY_ROOT_HASH`] gives the empty trie.
    pub fn with_root(root: B256) -> Self {
        let root = (root != EMPTY_ROOT_HASH).then(|| Box::new(Node::Stub(root)));
        Self {
            root,
            removed: Vec::new(),
        }
    }

    /// Whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Sets `key` to `value` (non-empty; RLP of the account or of the word).
    ///
    /// # Errors
    /// [`StateError`] when a node on the path cannot be loaded.
    pub fn insert(
        &mut self,
        key: B256,
        value: Vec<u8>,
        source: &dyn NodeSource,
    ) -> Result<(), StateError> {
        let key = Nibbles::unpack(key);
        match &mut self.root {
            Some(root) => {
                change::insert(root, Nibbles::new(), key, value, source)?;
            }
            None => self.root = Some(Box::new(Node::leaf(key, value))),
        }
        Ok(())
    }

    /// Removes `key`; nothing happens when it is absent.
    ///
    /// # Errors
    /// [`StateError`] when a node on the path cannot be loaded.
    pub fn remove(&mut self, key: B256, source: &dyn NodeSource) -> Result<(), StateError> {
        let Some(root) = &mut self.root else {
            return Ok(());
        };
        let key = Nibbles::unpack(key);
        let gone = change::remove(root, Nibbles::new(), key, source, &mut self.removed)?;
        if gone == change::Removal::Gone {
            self.root = None;
        }
        Ok(())
    }

    /// Hashes what changed and returns the root and the node writes since the last call.
    ///
    /// Cost: one keccak per changed node. With `parallel` the children of a root branch are hashed on rayon's pool.
    pub fn commit(&mut self, parallel: bool) -> (B256, NodeChanges) {
        let mut changes = NodeChanges {
            written: Vec::new(),
            removed: std::mem::take(&mut self.removed),
        };
        let root = match &mut self.root {
            None => {
                changes.removed.push(Nibbles::new());
                EMPTY_ROOT_HASH
            }
            Some(root) => seal::seal_root(root, &mut changes, parallel),
        };
        (root, changes)
    }

    /// RLP of the nodes from the root towards `key`, as in EIP-1186; proves presence or absence.
    ///
    /// # Errors
    /// [`StateError`] when a node on the path cannot be loaded.
    pub fn prove(
        &mut self,
        key: B256,
        source: &dyn NodeSource,
    ) -> Result<Vec<Vec<u8>>, StateError> {
        self.commit(false);
        let mut nodes = Vec::new();
        if let Some(root) = &mut self.root {
            prove::collect(root, Nibbles::unpack(key), source, &mut nodes)?;
        }
        Ok(nodes)
    }

    /// Number of nodes in memory, stubs included.
    pub fn loaded(&self) -> usize {
        self.root.as_deref().map_or(0, Node::loaded)
    }

    /// Forgets sealed nodes below `depth` nibbles; they are loaded again when needed. Unsealed nodes stay.
    pub fn prune(&mut self, depth: usize) {
        if let Some(root) = &mut self.root {
            root.prune(depth);
        }
    }
}

#[cfg(test)]
mod tests;
