//! The four kinds of node, and how they are read from RLP.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::Nibbles;
use alloy_trie::nodes::{RlpNode, TrieNode};

use super::NodeSource;
use crate::StateError;

/// Sixteen children of a branch.
pub(super) type Children = Box<[Option<Box<Node>>; 16]>;

/// A node in memory. `seal` is the reference that the parent holds (hash, or the RLP itself when shorter than 32
/// bytes); `None` marks a node that changed since it was last hashed.
#[derive(Debug)]
pub(super) enum Node {
    /// Not loaded; the parent's hash is all we know.
    Stub(B256),
    /// Rest of the key and the value.
    Leaf {
        key: Nibbles,
        value: Vec<u8>,
        seal: Option<RlpNode>,
    },
    /// Shared part of the keys below; the child is always a branch.
    Extension {
        key: Nibbles,
        child: Box<Node>,
        seal: Option<RlpNode>,
    },
    /// At least two children.
    Branch {
        children: Children,
        seal: Option<RlpNode>,
    },
}

impl Node {
    pub(super) const fn leaf(key: Nibbles, value: Vec<u8>) -> Self {
        Self::Leaf {
            key,
            value,
            seal: None,
        }
    }

    /// `child` behind `key`; just the child when `key` is empty.
    pub(super) fn extension(key: Nibbles, child: Box<Self>) -> Self {
        if key.is_empty() {
            return *child;
        }
        Self::Extension {
            key,
            child,
            seal: None,
        }
    }

    /// Replaces a stub by the stored node.
    pub(super) fn load(
        &mut self,
        path: &Nibbles,
        source: &dyn NodeSource,
    ) -> Result<(), StateError> {
        let Self::Stub(hash) = self else {
            return Ok(());
        };
        let hash = *hash;
        let rlp = source.node(path)?.ok_or_else(|| StateError::MissingNode {
            hash,
            path: format!("{path:?}"),
        })?;
        if keccak256(&rlp) != hash {
            return Err(corrupt(format!("node at {path:?} does not hash to {hash}")));
        }
        *self = Self::decode(&rlp, RlpNode::word_rlp(&hash))?;
        Ok(())
    }

    fn decode(rlp: &[u8], seal: RlpNode) -> Result<Self, StateError> {
        let mut rest = rlp;
        let node = TrieNode::decode(&mut rest).map_err(|error| corrupt(error.to_string()))?;
        let seal = Some(seal);
        match node {
            TrieNode::EmptyRoot => Err(corrupt("empty node".into())),
            TrieNode::Leaf(leaf) => Ok(Self::Leaf {
                key: leaf.key,
                value: leaf.value,
                seal,
            }),
            TrieNode::Extension(extension) => Ok(Self::Extension {
                key: extension.key,
                child: Self::reference(&extension.child)?,
                seal,
            }),
            TrieNode::Branch(branch) => {
                let mut children: Children = Box::default();
                let mut references = branch.stack.iter();
                for (nibble, child) in children.iter_mut().enumerate() {
                    // `nibble` is below 16.
                    if branch.state_mask.is_bit_set(nibble as u8) {
                        let reference = references
                            .next()
                            .ok_or_else(|| corrupt("branch has fewer children than bits".into()))?;
                        *child = Some(Self::reference(reference)?);
                    }
                }
                Ok(Self::Branch { children, seal })
            }
        }
    }

    fn reference(reference: &RlpNode) -> Result<Box<Self>, StateError> {
        Ok(Box::new(match reference.as_hash() {
            Some(hash) => Self::Stub(hash),
            None => Self::decode(reference.as_slice(), reference.clone())?,
        }))
    }

    pub(super) fn loaded(&self) -> usize {
        let below = match self {
            Self::Stub(_) | Self::Leaf { .. } => 0,
            Self::Extension { child, .. } => child.loaded(),
            Self::Branch { children, .. } => {
                children.iter().flatten().map(|child| child.loaded()).sum()
            }
        };
        below.saturating_add(1)
    }

    pub(super) fn prune(&mut self, depth: usize) {
        let sealed = match self {
            Self::Stub(_) => return,
            Self::Leaf { seal, .. } | Self::Extension { seal, .. } | Self::Branch { seal, .. } => {
                seal.as_ref().and_then(RlpNode::as_hash)
            }
        };
        match (depth, sealed) {
            (0, Some(hash)) => *self = Self::Stub(hash),
            _ => match self {
                Self::Stub(_) | Self::Leaf { .. } => {}
                Self::Extension { key, child, .. } => child.prune(depth.saturating_sub(key.len())),
                Self::Branch { children, .. } => {
                    for child in children.iter_mut().flatten() {
                        child.prune(depth.saturating_sub(1));
                    }
                }
            },
        }
    }
}

fn corrupt(detail: String) -> StateError {
    StateError::Corrupt {
        table: "node",
        detail,
    }
}
