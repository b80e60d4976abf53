use std::cell::RefCell;
use std::collections::BTreeMap;

use alloy_primitives::{B256, U256, keccak256};
use alloy_trie::proof::verify_proof;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles};
use proptest::prelude::*;

use super::{NodeChanges, NodeSource, SparseTrie};
use crate::StateError;

/// Stored nodes, as the database would hold them.
#[derive(Default)]
struct Disk(RefCell<BTreeMap<Vec<u8>, Vec<u8>>>);

impl NodeSource for Disk {
    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.borrow().get(&path.to_vec()).cloned())
    }
}

impl Disk {
    fn apply(&self, changes: NodeChanges) {
        let mut disk = self.0.borrow_mut();
        for path in changes.removed {
            disk.remove(&path.to_vec());
        }
        for (path, rlp) in changes.written {
            disk.insert(path.to_vec(), rlp);
        }
    }

    /// Every stored node is reachable and hashes as its parent says: no garbage is left behind.
    fn assert_exact(&self, root: B256) {
        let mut trie = SparseTrie::with_root(root);
        let mut reached = 0;
        if let Some(node) = &mut trie.root {
            reached = walk(node, Nibbles::new(), self);
        }
        assert_eq!(
            reached,
            self.0.borrow().len(),
            "stored nodes are exactly the reachable ones"
        );
    }
}

fn walk(node: &mut super::node::Node, path: Nibbles, disk: &Disk) -> usize {
    use super::node::Node;
    let stored = matches!(node, Node::Stub(_));
    node.load(&path, disk).expect("a reachable node is stored");
    usize::from(stored)
        + match node {
            Node::Stub(_) | Node::Leaf { .. } => 0,
            Node::Extension { key, child, .. } => walk(child, path.join(key), disk),
            Node::Branch { children, .. } => (0u8..)
                .zip(children.iter_mut())
                .filter_map(|(nibble, child)| {
                    let mut below = path;
                    below.push(nibble);
                    Some(walk(child.as_deref_mut()?, below, disk))
                })
                .sum(),
        }
}

fn oracle(entries: &BTreeMap<B256, Vec<u8>>) -> B256 {
    let mut builder: HashBuilder = HashBuilder::default();
    for (key, value) in entries {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// Keys that share long prefixes, so that extensions and collapses are common.
fn key() -> impl Strategy<Value = B256> {
    (0u8..4, 0u8..6, 0u8..3, 0u8..3).prop_map(|(a, b, c, d)| {
        let mut key = B256::repeat_byte(0x11);
        key.0[0] = a * 0x10;
        key.0[5] = b;
        key.0[20] = c * 0x40;
        key.0[31] = d;
        key
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    // Short values make inline nodes, long ones hashed nodes.
    prop_oneof![
        (1u8..=3).prop_map(|byte| vec![byte]),
        (any::<u8>(), 20usize..90).prop_map(|(byte, length)| vec![byte | 1; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn root_equals_full_scan_after_any_sequence(
        blocks in prop::collection::vec(
            prop::collection::vec((key(), prop::option::weighted(0.6, value())), 1..12),
            1..14,
        ),
        prune in 0usize..5,
        parallel in any::<bool>(),
    ) {
        let disk = Disk::default();
        let mut entries = BTreeMap::new();
        let mut trie = SparseTrie::with_root(EMPTY_ROOT_HASH);
        for block in blocks {
            for (key, value) in block {
                match value {
                    Some(value) => {
                        trie.insert(key, value.clone(), &disk).unwrap();
                        entries.insert(key, value);
                    }
                    None => {
                        trie.remove(key, &disk).unwrap();
                        entries.remove(&key);
                    }
                }
            }
            let (root, changes) = trie.commit(parallel);
            prop_assert_eq!(root, oracle(&entries));
            disk.apply(changes);
            disk.assert_exact(root);
            match prune {
                0 => {}
                1 => trie = SparseTrie::with_root(root),
                depth => trie.prune(depth - 2),
            }
            for probe in entries.keys().take(3).copied().chain([B256::repeat_byte(0x77)]) {
                let proof = SparseTrie::with_root(root).prove(probe, &disk).unwrap();
                let proof: Vec<_> = proof.into_iter().map(Into::into).collect();
                let value = entries.get(&probe).cloned();
                prop_assert!(verify_proof(root, Nibbles::unpack(probe), value, &proof).is_ok());
            }
        }
    }

    #[test]
    fn root_equals_full_scan_on_hashed_keys(
        seed in any::<u64>(),
        size in 1usize..400,
    ) {
        let disk = Disk::default();
        let mut entries = BTreeMap::new();
        let mut trie = SparseTrie::default();
        let mut root = EMPTY_ROOT_HASH;
        for round in 0..4u64 {
            for index in 0..size as u64 {
                let key = keccak256((seed ^ (index % 97) ^ (round / 2)).to_be_bytes());
                if (index ^ seed) % 3 == round % 3 {
                    trie.remove(key, &disk).unwrap();
                    entries.remove(&key);
                } else {
                    let value = alloy_rlp::encode(U256::from(index * (round + 1) + 1));
                    trie.insert(key, value.clone(), &disk).unwrap();
                    entries.insert(key, value);
                }
            }
            let (found, changes) = trie.commit(true);
            root = found;
            prop_assert_eq!(root, oracle(&entries));
            disk.apply(changes);
            disk.assert_exact(root);
            trie = SparseTrie::with_root(root);
        }
        for key in entries.keys().copied().collect::<Vec<_>>() {
            trie.remove(key, &disk).unwrap();
        }
        let (empty, changes) = trie.commit(false);
        prop_assert_eq!(empty, EMPTY_ROOT_HASH);
        disk.apply(changes);
        prop_assert!(disk.0.borrow().is_empty(), "nothing is stored for the empty trie");
        let _ = root;
    }
}

/// Each removal that turns a branch into something else, by name.
#[test]
fn removal_collapses_branches() {
    let key = |text: &str| {
        let mut bytes = [0u8; 32];
        for (at, nibble) in text.chars().enumerate() {
            let nibble = nibble.to_digit(16).unwrap_or(0) as u8;
            bytes[at / 2] |= nibble << (4 * (1 - at % 2));
        }
        B256::from(bytes)
    };
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("branch with two leaves to leaf", &["1", "2"], &["1"]),
        (
            "branch to extension over branch",
            &["11", "12", "2"],
            &["2"],
        ),
        ("branch to longer extension", &["1111", "1112", "2"], &["2"]),
        (
            "extension over branch to leaf",
            &["1111", "1112"],
            &["1111"],
        ),
        (
            "extension swallows extension",
            &["1122", "1123", "12"],
            &["12"],
        ),
        (
            "nested collapse in one block",
            &["111", "112", "12", "2"],
            &["12", "2"],
        ),
        ("all gone", &["1", "2", "33"], &["1", "2", "33"]),
    ];
    for (name, insert, remove) in cases {
        for reload in [false, true] {
            let disk = Disk::default();
            let mut trie = SparseTrie::default();
            let mut entries = BTreeMap::new();
            for text in *insert {
                let value = vec![7; 40];
                trie.insert(key(text), value.clone(), &disk).unwrap();
                entries.insert(key(text), value);
            }
            let (root, changes) = trie.commit(false);
            disk.apply(changes);
            assert_eq!(root, oracle(&entries), "{name}: before");
            if reload {
                trie = SparseTrie::with_root(root);
            }
            for text in *remove {
                trie.remove(key(text), &disk).unwrap();
                entries.remove(&key(text));
            }
            let (root, changes) = trie.commit(false);
            disk.apply(changes);
            assert_eq!(root, oracle(&entries), "{name}: after");
            disk.assert_exact(root);
        }
    }
}

#[test]
fn missing_node_is_an_error_not_a_panic() {
    let mut trie = SparseTrie::with_root(B256::repeat_byte(9));
    let result = trie.insert(B256::ZERO, vec![1], &super::NoNodes);
    assert!(matches!(result, Err(StateError::MissingNode { .. })));
}
