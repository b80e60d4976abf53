//! Canonical bytes of the rows that are not plain numbers.

use alloy_primitives::{Address, B256, U256};
use alloy_rlp::{Encodable, RlpDecodable, RlpEncodable};
use assay_types::AccountRecord;

/// An account with the root of its storage trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountRow {
    pub(crate) record: AccountRecord,
    pub(crate) storage_root: B256,
}

impl AccountRow {
    /// nonce (8), balance (32), code hash (32), storage root (32).
    pub(crate) fn encode(&self) -> [u8; 104] {
        let mut out = [0u8; 104];
        out[..8].copy_from_slice(&self.record.nonce.to_be_bytes());
        out[8..40].copy_from_slice(&self.record.balance.to_be_bytes::<32>());
        out[40..72].copy_from_slice(self.record.code_hash.as_slice());
        out[72..].copy_from_slice(self.storage_root.as_slice());
        out
    }

    pub(crate) fn decode(bytes: &[u8; 104]) -> Self {
        let mut nonce = [0u8; 8];
        nonce.copy_from_slice(&bytes[..8]);
        Self {
            record: AccountRecord {
                nonce: u64::from_be_bytes(nonce),
                balance: U256::from_be_slice(&bytes[8..40]),
                code_hash: B256::from_slice(&bytes[40..72]),
            },
            storage_root: B256::from_slice(&bytes[72..]),
        }
    }

    /// RLP of the leaf in the account trie: nonce, balance, storage root, code hash.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        #[derive(RlpEncodable)]
        struct Leaf {
            nonce: u64,
            balance: U256,
            storage_root: B256,
            code_hash: B256,
        }
        let mut out = Vec::with_capacity(110);
        Leaf {
            nonce: self.record.nonce,
            balance: self.record.balance,
            storage_root: self.storage_root,
            code_hash: self.record.code_hash,
        }
        .encode(&mut out);
        out
    }
}

/// What one account was before a block.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct UndoAccount {
    pub(crate) address: Address,
    /// Row before the block (104 bytes), empty when the account did not exist.
    pub(crate) row: alloy_primitives::Bytes,
    pub(crate) slots: Vec<UndoSlot>,
}

/// What one word was before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct UndoSlot {
    pub(crate) slot: U256,
    pub(crate) value: U256,
}

/// Reverse diff of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Undo {
    pub(crate) accounts: Vec<UndoAccount>,
}

/// Key of a storage word.
pub(crate) fn slot_key(address: &Address, slot: &U256) -> [u8; 52] {
    let mut key = [0u8; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

/// Key of a log index row.
pub(crate) fn log_key(address: &Address, topic: &B256, number: u64) -> [u8; 60] {
    let mut key = [0u8; 60];
    key[..20].copy_from_slice(address.as_slice());
    key[20..52].copy_from_slice(topic.as_slice());
    key[52..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_row_round_trips() {
        let row = AccountRow {
            record: AccountRecord {
                nonce: 7,
                balance: U256::MAX,
                code_hash: B256::repeat_byte(3),
            },
            storage_root: B256::repeat_byte(4),
        };
        assert_eq!(AccountRow::decode(&row.encode()), row);
    }
}
