//! Hash trees of traces, as far as disputes need them: levels, roots, paths.
//!
//! BLAKE3 in derive-key mode, one context per use; binary, padded with a fixed leaf to a power of two; the root binds
//! the number of leaves. The definitions are those of docs/graph.md.

use std::sync::LazyLock;

use alloy_primitives::B256;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

static LEAF: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("assay trace leaf v1"));
static NODE: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("assay trace node v1"));
static ROOT: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("assay trace root v1"));
static PADDING: LazyLock<B256> =
    LazyLock::new(|| blake3::derive_key("assay trace pad v1", &[]).into());

/// Gas of hashing `bytes` with BLAKE3: the price of keccak, which is slower.
pub const fn hash_gas(bytes: usize) -> u64 {
    (bytes as u64)
        .div_ceil(32)
        .saturating_mul(6)
        .saturating_add(30)
}

fn digest(key: &ContextKey, parts: [&[u8]; 2]) -> B256 {
    let mut hasher = blake3::Hasher::new_from_context_key(key);
    for part in parts {
        hasher.update(part);
    }
    (*hasher.finalize().as_bytes()).into()
}

/// Hash of a leaf's bytes.
pub fn leaf_hash(bytes: &[u8]) -> B256 {
    digest(&LEAF, [bytes, &[]])
}

/// Hash of an inner node.
pub fn node_hash(left: &B256, right: &B256) -> B256 {
    digest(&NODE, [left.as_slice(), right.as_slice()])
}

/// Root of a tree of `leaves` leaves with this top node.
pub fn root_hash(leaves: u64, top: &B256) -> B256 {
    digest(&ROOT, [&leaves.to_le_bytes(), top.as_slice()])
}

/// The leaf that pads a tree to a power of two.
pub fn padding() -> B256 {
    *PADDING
}

/// Levels above the leaves: `ceil(log2(leaves))`, 0 for none or one.
pub const fn depth(leaves: u64) -> u8 {
    match leaves.checked_sub(1) {
        None | Some(0) => 0,
        Some(last) => {
            let [levels, ..] = u64::BITS.saturating_sub(last.leading_zeros()).to_le_bytes();
            levels
        }
    }
}

/// Top node over a whole level of `2^k` nodes; shorter levels are padded. Linear time.
pub fn top_of(level: &[B256]) -> B256 {
    let mut level = level.to_vec();
    level.resize(level.len().max(1).next_power_of_two(), padding());
    while level.len() > 1 {
        level = level
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[left, right]| node_hash(left, right))
            .collect();
    }
    level.first().copied().unwrap_or_default()
}

/// Root over all leaves.
pub fn root_of(leaves: &[B256]) -> B256 {
    root_hash(leaves.len() as u64, &top_of(leaves))
}

/// Root that a leaf and its path (siblings, lowest first) lead to; `None` if the path's length is not the tree's depth
/// or the index is beyond the leaves.
pub fn root_from_path(leaves: u64, index: u64, leaf: B256, path: &[B256]) -> Option<B256> {
    if path.len() != usize::from(depth(leaves)) || index >= leaves {
        return None;
    }
    let (top, _) = path
        .iter()
        .fold((leaf, index), |(node, position), sibling| {
            let parent = if position & 1 == 0 {
                node_hash(&node, sibling)
            } else {
                node_hash(sibling, &node)
            };
            (parent, position >> 1)
        });
    Some(root_hash(leaves, &top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_the_number_of_levels() {
        let cases = [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (1024, 10),
            (1025, 11),
            (u64::MAX, 64),
        ];
        for (leaves, levels) in cases {
            assert_eq!(depth(leaves), levels, "{leaves}");
        }
    }

    #[test]
    fn every_path_leads_to_the_root_and_no_other_leaf_does() {
        for count in 1u64..=20 {
            let leaves: Vec<B256> = (0..count).map(|i| leaf_hash(&i.to_le_bytes())).collect();
            let root = root_of(&leaves);
            for index in 0..count {
                let path = path_of(&leaves, index);
                assert_eq!(
                    root_from_path(count, index, leaves[index as usize], &path),
                    Some(root)
                );
                assert_ne!(root_from_path(count, index, B256::ZERO, &path), Some(root));
                assert_eq!(
                    root_from_path(count, count, leaves[index as usize], &path),
                    None
                );
            }
        }
    }

    fn path_of(leaves: &[B256], mut index: u64) -> Vec<B256> {
        let mut level = leaves.to_vec();
        level.resize(level.len().next_power_of_two(), padding());
        let mut path = Vec::new();
        while level.len() > 1 {
            path.push(level[(index ^ 1) as usize]);
            level = level
                .chunks(2)
                .map(|pair| node_hash(&pair[0], &pair[1]))
                .collect();
            index >>= 1;
        }
        path
    }
}
