//! EIP-1186 proofs: the nodes on the way to a key.

use alloy_trie::Nibbles;

use super::NodeSource;
use super::node::Node;
use super::seal::encode;
use crate::StateError;

/// Collects the RLP of each node with a hash of its own, from `root` towards `key`. The trie must be sealed.
pub(super) fn collect(
    root: &mut Node,
    key: Nibbles,
    source: &dyn NodeSource,
    out: &mut Vec<Vec<u8>>,
) -> Result<(), StateError> {
    let mut node = root;
    let mut path = Nibbles::new();
    let mut rest = key;
    loop {
        node.load(&path, source)?;
        let mut rlp = Vec::new();
        encode(node, &mut rlp);
        // Short nodes are inside their parent already; only a root stands for itself.
        if rlp.len() >= 32 || path.is_empty() {
            out.push(rlp);
        }
        match node {
            Node::Stub(_) | Node::Leaf { .. } => return Ok(()),
            Node::Extension { key, child, .. } => {
                if !rest.starts_with(key) {
                    return Ok(());
                }
                path = path.join(key);
                rest = rest.slice(key.len()..);
                node = child;
            }
            Node::Branch { children, .. } => {
                let Some(nibble) = rest.first() else {
                    return Ok(());
                };
                let Some(Some(child)) = children.get_mut(usize::from(nibble)) else {
                    return Ok(());
                };
                path.push(nibble);
                rest = rest.slice(1..);
                node = child;
            }
        }
    }
}
