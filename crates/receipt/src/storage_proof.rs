//! A storage slot against a state root, as `eth_getProof` returns it.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};
use alloy_trie::Nibbles;
use alloy_trie::proof::{ProofVerificationError, verify_proof};
use thiserror::Error;

/// Why a proof does not show what it should.
#[derive(Debug, Error)]
pub enum StorageProofError {
    /// The account is not in the state with these values.
    #[error("account {address}: {source}")]
    Account {
        /// The account.
        address: Address,
        /// First node that does not fit.
        source: Box<ProofVerificationError>,
    },
    /// The slot does not hold this value.
    #[error("slot {slot} of {address}: {source}")]
    Slot {
        /// The account.
        address: Address,
        /// The slot.
        slot: B256,
        /// First node that does not fit.
        source: Box<ProofVerificationError>,
    },
}

/// What `eth_getProof` returns about one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageProof {
    /// The account that owns the slot.
    pub address: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its balance, wei.
    pub balance: U256,
    /// Root of its storage.
    pub storage_hash: B256,
    /// Hash of its code.
    pub code_hash: B256,
    /// Trie nodes from the state root to the account.
    pub account_proof: Vec<Bytes>,
    /// The slot.
    pub slot: B256,
    /// Its value; zero proves that it is empty.
    pub value: U256,
    /// Trie nodes from the storage root to the slot.
    pub storage_proof: Vec<Bytes>,
}

#[derive(RlpEncodable)]
struct Account {
    nonce: u64,
    balance: U256,
    storage_hash: B256,
    code_hash: B256,
}

fn rlp(value: impl Encodable) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

/// Checks that the state with root `state_root` holds `proof.value` in `proof.slot` of `proof.address`.
///
/// The state root itself must come from a header that the caller trusts.
///
/// # Errors
/// [`StorageProofError`] with the first node that does not fit.
pub fn verify_storage_proof(
    state_root: B256,
    proof: &StorageProof,
) -> Result<(), StorageProofError> {
    let account = Account {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_hash: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let address = proof.address;
    verify_proof(
        state_root,
        Nibbles::unpack(keccak256(address)),
        Some(rlp(account)),
        &proof.account_proof,
    )
    .map_err(|source| StorageProofError::Account {
        address,
        source: Box::new(source),
    })?;
    let expected = (proof.value != U256::ZERO).then(|| rlp(proof.value));
    verify_proof(
        proof.storage_hash,
        Nibbles::unpack(keccak256(proof.slot)),
        expected,
        &proof.storage_proof,
    )
    .map_err(|source| StorageProofError::Slot {
        address,
        slot: proof.slot,
        source: Box::new(source),
    })
}
