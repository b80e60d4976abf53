//! Hashing: children first, only what changed.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{BufMut, EMPTY_STRING_CODE, Encodable, Header};
use alloy_trie::Nibbles;
use alloy_trie::nodes::{ExtensionNodeRef, LeafNodeRef, RlpNode};
use rayon::prelude::*;

use super::NodeChanges;
use super::node::Node;

/// Seals the whole trie; the root is stored even when its RLP is shorter than a hash.
pub(super) fn seal_root(root: &mut Node, changes: &mut NodeChanges, parallel: bool) -> B256 {
    if let Node::Stub(hash) = root {
        return *hash;
    }
    let changed = is_open(root);
    if parallel && let Node::Branch { children, .. } = root {
        let parts: Vec<NodeChanges> = children
            .par_iter_mut()
            .enumerate()
            .map(|(nibble, child)| {
                let mut part = NodeChanges::default();
                if let Some(child) = child {
                    let path = Nibbles::from_nibbles([nibble as u8]);
                    seal(child, path, &mut part, &mut Vec::with_capacity(600));
                }
                part
            })
            .collect();
        for part in parts {
            changes.written.extend(part.written);
            changes.removed.extend(part.removed);
        }
    }
    let reference = seal(root, Nibbles::new(), changes, &mut Vec::with_capacity(600));
    if let Some(hash) = reference.as_hash() {
        return hash;
    }
    // A short root: stored under the empty path all the same.
    let rlp = reference.as_slice().to_vec();
    let hash = keccak256(&rlp);
    if changed {
        changes.removed.retain(|path| !path.is_empty());
        changes.written.push((Nibbles::new(), rlp));
    }
    hash
}

/// Reference to `node` for its parent; hashes and records the node if it changed.
pub(super) fn seal(
    node: &mut Node,
    path: Nibbles,
    changes: &mut NodeChanges,
    buffer: &mut Vec<u8>,
) -> RlpNode {
    match node {
        Node::Stub(hash) => return RlpNode::word_rlp(hash),
        Node::Leaf {
            seal: Some(own), ..
        }
        | Node::Extension {
            seal: Some(own), ..
        }
        | Node::Branch {
            seal: Some(own), ..
        } => return own.clone(),
        Node::Leaf { .. } => {}
        Node::Extension { key, child, .. } => {
            seal(child, path.join(key), changes, buffer);
        }
        Node::Branch { children, .. } => {
            for (nibble, child) in (0u8..).zip(children.iter_mut()) {
                if let Some(child) = child {
                    let mut below = path;
                    below.push(nibble);
                    seal(child, below, changes, buffer);
                }
            }
        }
    }
    buffer.clear();
    encode(node, buffer);
    let reference = RlpNode::from_rlp(buffer);
    if reference.is_hash() {
        changes.written.push((path, buffer.clone()));
    } else {
        changes.removed.push(path);
    }
    match node {
        Node::Stub(_) => {}
        Node::Leaf { seal, .. } | Node::Extension { seal, .. } | Node::Branch { seal, .. } => {
            *seal = Some(reference.clone());
        }
    }
    reference
}

/// RLP of a node whose children are sealed.
pub(super) fn encode(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::Stub(hash) => RlpNode::word_rlp(hash).as_slice().encode(out),
        Node::Leaf { key, value, .. } => LeafNodeRef::new(key, value).encode(out),
        Node::Extension { key, child, .. } => {
            ExtensionNodeRef::new(key, reference(child).as_slice()).encode(out);
        }
        Node::Branch { children, .. } => {
            let references: [Option<RlpNode>; 16] =
                std::array::from_fn(|at| children.get(at)?.as_deref().map(reference));
            let payload = references
                .iter()
                .map(|child| child.as_ref().map_or(1, |child| child.as_slice().len()))
                .sum::<usize>();
            Header {
                list: true,
                payload_length: payload.saturating_add(1),
            }
            .encode(out);
            for child in &references {
                match child {
                    Some(child) => out.put_slice(child.as_slice()),
                    None => out.put_u8(EMPTY_STRING_CODE),
                }
            }
            out.put_u8(EMPTY_STRING_CODE);
        }
    }
}

fn reference(node: &Node) -> RlpNode {
    match node {
        Node::Stub(hash) => RlpNode::word_rlp(hash),
        Node::Leaf { seal, .. } | Node::Extension { seal, .. } | Node::Branch { seal, .. } => {
            seal.clone().unwrap_or_default()
        }
    }
}

fn is_open(node: &Node) -> bool {
    match node {
        Node::Stub(_) => false,
        Node::Leaf { seal, .. } | Node::Extension { seal, .. } | Node::Branch { seal, .. } => {
            seal.is_none()
        }
    }
}
