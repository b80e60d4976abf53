//! What binds a proof to a claim, and a claim to a proof key.

use alloy_primitives::{B256, keccak256};

/// First bytes of the context of a proof that answers a claim.
pub const CLAIM_CONTEXT: &[u8; 14] = b"assay claim v1";
/// Length of that context.
pub const CLAIM_CONTEXT_BYTES: usize = CLAIM_CONTEXT.len() + 8 + 32;
/// Longest proof that the chain reads: with its call it fits a transaction of 1 MiB.
pub const MAX_PROOF_BYTES: usize = 1024 * 1024 - 4096;

/// Longest part of a proof key, bytes; every part but the last is so long.
pub const PROOF_KEY_PART: usize = 65_536;
/// Longest proof key that is set in one call, bytes.
pub const MAX_PROOF_KEY_AT_ONCE: usize = 2 * PROOF_KEY_PART;
/// Longest proof key, bytes: a proof of [`MAX_PROOF_BYTES`] under it is checked within the gas of one block.
pub const MAX_PROOF_KEY: usize = 96 * PROOF_KEY_PART;

/// Parts of a proof key in their order, as they are uploaded.
pub fn proof_key_parts(key: &[u8]) -> impl ExactSizeIterator<Item = &[u8]> {
    key.chunks(PROOF_KEY_PART)
}

/// Context of a proof that answers a claim: [`CLAIM_CONTEXT`], chain id (big endian), body id of the receipt.
///
/// The body id binds every field of the receipt but its evidence hash; see [`crate::Receipt::body_id`].
pub fn claim_context(chain_id: u64, body_id: B256) -> [u8; CLAIM_CONTEXT_BYTES] {
    let mut context = [0u8; CLAIM_CONTEXT_BYTES];
    let parts = CLAIM_CONTEXT
        .iter()
        .copied()
        .chain(chain_id.to_be_bytes())
        .chain(body_id.0);
    for (slot, byte) in context.iter_mut().zip(parts) {
        *slot = byte;
    }
    context
}

/// `evidenceHash` of a receipt of tier zk: keccak256 of its evidence, which is the id of the proof key under which it will be proven.
pub fn zk_evidence(key_id: B256) -> B256 {
    keccak256(key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_tag_chain_and_body() {
        let context = claim_context(0x0102, B256::repeat_byte(9));
        assert_eq!(&context[..14], b"assay claim v1");
        assert_eq!(context[14..22], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(context[22..], [9; 32]);
    }
}
