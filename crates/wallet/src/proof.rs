//! The state of a claim by storage proof: what the node says is checked against the state root of a block.

use alloy_primitives::{B256, Bytes, U64, U256, keccak256};
use assay_abi::CLAIMS;
use assay_receipt::{StorageProof, StorageProofError, verify_storage_proof};
use serde::Deserialize;
use serde_json::json;

use crate::{ChainClient, ClientError};

/// Slot of `claims.claims`, a mapping from claim id to record (the layout is pinned by a test of the module).
const CLAIMS_SLOT: u64 = 2;
/// Word of a record whose lowest byte is the state.
const STATE_WORD: u64 = 0;
/// Word of a record that holds the requester (20 bytes) and above it the deadline (8 bytes).
const DEADLINE_WORD: u64 = 2;

/// State of a claim as proven against a block's state root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenClaim {
    /// Number of the state (abi, `IClaims.Claim.state`); 0 proves that there is no such claim.
    pub state: u8,
    /// End of the window, chain milliseconds.
    pub deadline: u64,
    /// Height of the block.
    pub block: u64,
    /// Its state root, as the node gave it.
    pub state_root: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockAnswer {
    number: U64,
    state_root: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofAnswer {
    nonce: U64,
    balance: U256,
    storage_hash: B256,
    code_hash: B256,
    account_proof: Vec<Bytes>,
    storage_proof: Vec<SlotAnswer>,
}

#[derive(Deserialize)]
struct SlotAnswer {
    value: U256,
    proof: Vec<Bytes>,
}

/// First slot of a claim's record: `keccak256(claimId || slot)`, as Solidity places mapping values.
fn record_of(claim_id: B256) -> U256 {
    let mut bytes = [0u8; 64];
    let (key, slot) = bytes.split_at_mut(32);
    key.copy_from_slice(claim_id.as_slice());
    slot.copy_from_slice(&U256::from(CLAIMS_SLOT).to_be_bytes::<32>());
    U256::from_be_bytes(keccak256(bytes).0)
}

impl ChainClient {
    /// State of a claim with a storage proof, verified against the state root of the newest block.
    ///
    /// The block itself is taken from the node: whoever does not trust the node compares `state_root` with another's.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] where the node has no `eth_getProof`, [`ClientError::Answer`] when a proof does not hold.
    pub fn proven_claim(&self, claim_id: B256) -> Result<ProvenClaim, ClientError> {
        const METHOD: &str = "eth_getProof";
        let wrong = |reason: String| ClientError::Answer {
            method: METHOD.to_owned(),
            reason,
        };
        let block: BlockAnswer = self.read("eth_getBlockByNumber", json!(["latest", false]))?;
        let record = record_of(claim_id);
        let slots = [STATE_WORD, DEADLINE_WORD]
            .map(|word| B256::from(record.wrapping_add(U256::from(word))));
        let proof: ProofAnswer = self.read(METHOD, json!([CLAIMS, slots, block.number]))?;
        if proof.storage_proof.len() != slots.len() {
            return Err(wrong(format!("{} slots", proof.storage_proof.len())));
        }
        let mut values = Vec::new();
        for (slot, answer) in slots.into_iter().zip(proof.storage_proof) {
            let one = StorageProof {
                address: CLAIMS,
                nonce: proof.nonce.to(),
                balance: proof.balance,
                storage_hash: proof.storage_hash,
                code_hash: proof.code_hash,
                account_proof: proof.account_proof.clone(),
                slot,
                value: answer.value,
                storage_proof: answer.proof,
            };
            verify_storage_proof(block.state_root, &one)
                .map_err(|error: StorageProofError| wrong(error.to_string()))?;
            values.push(answer.value);
        }
        let word = |index: usize| values.get(index).copied().unwrap_or_default();
        Ok(ProvenClaim {
            state: word(0).to_le_bytes::<32>().first().copied().unwrap_or(0),
            deadline: (word(1) >> 160usize)
                .as_limbs()
                .first()
                .copied()
                .unwrap_or(0),
            block: block.number.to(),
            state_root: block.state_root,
        })
    }
}
