//! Insertion and removal, with the collapses that removal causes.

use alloy_trie::Nibbles;

use super::NodeSource;
use super::node::{Children, Node};
use crate::StateError;

/// Inserts below `node`, which lies at `path`; returns whether anything changed.
pub(super) fn insert(
    node: &mut Node,
    path: Nibbles,
    key: Nibbles,
    value: Vec<u8>,
    source: &dyn NodeSource,
) -> Result<bool, StateError> {
    node.load(&path, source)?;
    match node {
        Node::Stub(_) => Ok(false),
        Node::Leaf {
            key: own,
            value: old,
            seal,
        } => {
            let common = own.common_prefix_length(&key);
            if common == own.len() {
                if *old == value {
                    return Ok(false);
                }
                *old = value;
                *seal = None;
                return Ok(true);
            }
            let mut children: Children = Box::default();
            place(
                &mut children,
                own,
                common,
                Node::leaf(after(own, common), std::mem::take(old)),
            );
            place(
                &mut children,
                &key,
                common,
                Node::leaf(after(&key, common), value),
            );
            *node = fork(key.slice(..common), children);
            Ok(true)
        }
        Node::Extension {
            key: own,
            child,
            seal,
        } => {
            let common = own.common_prefix_length(&key);
            if common == own.len() {
                let below = path.join(own);
                let changed = insert(child, below, key.slice(common..), value, source)?;
                if changed {
                    *seal = None;
                }
                return Ok(changed);
            }
            let child = std::mem::replace(child, Box::new(Node::Stub(Default::default())));
            let mut children: Children = Box::default();
            let old = Node::extension(after(own, common), child);
            place(&mut children, own, common, old);
            place(
                &mut children,
                &key,
                common,
                Node::leaf(after(&key, common), value),
            );
            *node = fork(key.slice(..common), children);
            Ok(true)
        }
        Node::Branch { children, seal } => {
            let Some((nibble, rest)) = split_first(&key) else {
                return Ok(false);
            };
            let Some(slot) = children.get_mut(usize::from(nibble)) else {
                return Ok(false);
            };
            let changed = match slot {
                Some(child) => insert(child, step(path, nibble), rest, value, source)?,
                None => {
                    *slot = Some(Box::new(Node::leaf(rest, value)));
                    true
                }
            };
            if changed {
                *seal = None;
            }
            Ok(changed)
        }
    }
}

/// What a removal did to the node it was asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// The key was not there.
    Absent,
    /// The node changed and must be hashed again; it may have become another kind.
    Changed,
    /// Nothing is left of the node.
    Gone,
}

/// Removes below `node`, which lies at `path`; paths whose stored node is obsolete go to `removed`.
pub(super) fn remove(
    node: &mut Node,
    path: Nibbles,
    key: Nibbles,
    source: &dyn NodeSource,
    removed: &mut Vec<Nibbles>,
) -> Result<Removal, StateError> {
    node.load(&path, source)?;
    match node {
        Node::Stub(_) => Ok(Removal::Absent),
        Node::Leaf { key: own, .. } => {
            if *own != key {
                return Ok(Removal::Absent);
            }
            removed.push(path);
            Ok(Removal::Gone)
        }
        Node::Extension {
            key: own,
            child,
            seal,
        } => {
            if !key.starts_with(own) {
                return Ok(Removal::Absent);
            }
            let below = path.join(own);
            match remove(child, below, key.slice(own.len()..), source, removed)? {
                Removal::Absent => return Ok(Removal::Absent),
                Removal::Gone => {
                    removed.push(path);
                    return Ok(Removal::Gone);
                }
                Removal::Changed => {}
            }
            *seal = None;
            if !matches!(**child, Node::Branch { .. }) {
                let prefix = *own;
                let child = std::mem::replace(&mut **child, Node::Stub(Default::default()));
                removed.push(below);
                *node = prefixed(prefix, child);
            }
            Ok(Removal::Changed)
        }
        Node::Branch { children, seal } => {
            let Some((nibble, rest)) = split_first(&key) else {
                return Ok(Removal::Absent);
            };
            let Some(slot) = children.get_mut(usize::from(nibble)) else {
                return Ok(Removal::Absent);
            };
            let Some(child) = slot else {
                return Ok(Removal::Absent);
            };
            match remove(child, step(path, nibble), rest, source, removed)? {
                Removal::Absent => return Ok(Removal::Absent),
                Removal::Changed => {
                    *seal = None;
                    return Ok(Removal::Changed);
                }
                Removal::Gone => *slot = None,
            }
            *seal = None;
            let mut left = (0u8..)
                .zip(children.iter_mut())
                .filter(|(_, c)| c.is_some());
            let (only, more) = (left.next(), left.next().is_some());
            let Some((nibble, slot)) = only else {
                removed.push(path);
                return Ok(Removal::Gone);
            };
            if more {
                return Ok(Removal::Changed);
            }
            if let Some(mut child) = slot.take() {
                let below = step(path, nibble);
                child.load(&below, source)?;
                if !matches!(*child, Node::Branch { .. }) {
                    removed.push(below);
                }
                *node = prefixed(Nibbles::from_nibbles([nibble]), *child);
            }
            Ok(Removal::Changed)
        }
    }
}

/// A branch behind the shared prefix of its children.
fn fork(prefix: Nibbles, children: Children) -> Node {
    Node::extension(
        prefix,
        Box::new(Node::Branch {
            children,
            seal: None,
        }),
    )
}

/// Puts `node` where nibble `at` of `key` says.
fn place(children: &mut Children, key: &Nibbles, at: usize, node: Node) {
    if let Some(slot) = key
        .get(at)
        .and_then(|nibble| children.get_mut(usize::from(nibble)))
    {
        *slot = Some(Box::new(node));
    }
}

/// `child` pulled up behind `prefix`: leaves and extensions merge their keys, a branch gets an extension.
fn prefixed(prefix: Nibbles, child: Node) -> Node {
    match child {
        Node::Leaf { key, value, .. } => Node::leaf(prefix.join(&key), value),
        Node::Extension { key, child, .. } => Node::extension(prefix.join(&key), child),
        other => Node::extension(prefix, Box::new(other)),
    }
}

/// What follows nibble `at` of `key`.
fn after(key: &Nibbles, at: usize) -> Nibbles {
    key.slice(at.saturating_add(1).min(key.len())..)
}

fn split_first(key: &Nibbles) -> Option<(u8, Nibbles)> {
    Some((key.first()?, key.slice(1..)))
}

fn step(mut path: Nibbles, nibble: u8) -> Nibbles {
    path.push(nibble);
    path
}
