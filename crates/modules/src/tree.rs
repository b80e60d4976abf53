//! Hash trees of traces, as far as disputes need them: levels, roots, paths.
//!
//! The hashes are those of `assay_graph::trace` (docs/graph.md): one context per use, padding to a power of two, a root
//! that binds the number of leaves.

use alloy_primitives::B256;
use assay_graph::trace::{self, Family};

/// Gas of hashing `bytes` with BLAKE3: the price of keccak, which is slower.
pub const fn hash_gas(bytes: usize) -> u64 {
    (bytes as u64)
        .div_ceil(32)
        .saturating_mul(6)
        .saturating_add(30)
}

/// Hash of a leaf's bytes.
pub fn leaf_hash(bytes: &[u8]) -> B256 {
    trace::leaf_hash(Family::Trace, bytes).into()
}

/// Hash of an inner node.
pub fn node_hash(left: &B256, right: &B256) -> B256 {
    trace::node_hash(Family::Trace, &left.0, &right.0).into()
}

/// Root of a tree of `leaves` leaves with this top node.
pub fn root_hash(leaves: u64, top: &B256) -> B256 {
    trace::root_hash(Family::Trace, leaves, &top.0).into()
}

/// The leaf that pads a tree to a power of two.
pub fn padding() -> B256 {
    trace::pad(Family::Trace).into()
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

    /// The definitions of docs/graph.md, by hand.
    #[test]
    fn hashes_are_those_of_the_contract() {
        let [a, b] = [B256::repeat_byte(1), B256::repeat_byte(2)];
        let node = blake3::derive_key("assay trace node v1", &[a.0, b.0].concat());
        assert_eq!(node_hash(&a, &b).0, node);
        let root = blake3::derive_key(
            "assay trace root v1",
            &[&3u64.to_le_bytes()[..], &a.0].concat(),
        );
        assert_eq!(root_hash(3, &a).0, root);
        assert_eq!(padding().0, blake3::derive_key("assay trace pad v1", &[]));
        assert_eq!(
            leaf_hash(b"block").0,
            blake3::derive_key("assay trace leaf v1", b"block")
        );
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
