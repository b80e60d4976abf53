//! EIP-1186 account and storage proofs, at the head or at one of the last 256 blocks.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use assay_types::AccountRecord;

use crate::trie::SparseTrie;
use crate::view::StoredNodes;
use crate::{StateError, StateView, View, tables};

/// Proof of one storage word, of its absence when the value is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageProof {
    /// Slot.
    pub slot: U256,
    /// Word; zero when absent.
    pub value: U256,
    /// RLP nodes from the storage root on.
    pub nodes: Vec<Bytes>,
}

/// Proof of one account (or its absence) and of some of its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// Address.
    pub address: Address,
    /// The account, default when absent.
    pub account: AccountRecord,
    /// Root of its storage trie.
    pub storage_root: B256,
    /// RLP nodes from the state root on.
    pub nodes: Vec<Bytes>,
    /// One per slot asked for, in that order.
    pub storage: Vec<StorageProof>,
}

impl View {
    /// Proves `address` and `slots` against `state_root`, the root in the header of this view's block.
    ///
    /// Cost: a few node loads per key at the head; at an earlier block also the re-hashing of what changed since.
    ///
    /// # Errors
    /// [`StateError::RootMismatch`] when the rebuilt trie has another root; database errors.
    pub fn prove(
        &self,
        address: Address,
        slots: &[U256],
        head_root: B256,
        state_root: B256,
    ) -> Result<AccountProof, StateError> {
        let nodes = self.transaction.open_table(tables::NODE)?;
        let source = StoredNodes::accounts(nodes);
        let mut trie = SparseTrie::with_root(head_root);
        if let Some(overlay) = &self.overlay {
            let mut accounts: Vec<_> = overlay.accounts.iter().collect();
            accounts.sort_unstable_by_key(|(address, _)| **address);
            for (address, row) in accounts {
                let key = keccak256(address);
                match row {
                    Some(row) => trie.insert(key, row.leaf(), &source)?,
                    None => trie.remove(key, &source)?,
                }
            }
        }
        let (found, _) = trie.commit(false);
        if found != state_root {
            return Err(StateError::RootMismatch {
                number: self.number,
                found,
                expected: state_root,
            });
        }
        let path = trie.prove(keccak256(address), &source)?;
        let row = self.row(&address)?;
        let storage_root = row.map_or(EMPTY_ROOT_HASH, |row| row.storage_root);
        Ok(AccountProof {
            address,
            account: row.map(|row| row.record).unwrap_or_default(),
            storage_root,
            nodes: path.into_iter().map(Bytes::from).collect(),
            storage: self.prove_slots(address, slots, storage_root)?,
        })
    }

    fn prove_slots(
        &self,
        address: Address,
        slots: &[U256],
        storage_root: B256,
    ) -> Result<Vec<StorageProof>, StateError> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let nodes = self.transaction.open_table(tables::NODE)?;
        let source = StoredNodes::storage(nodes, &keccak256(address));
        // The stored storage trie is the head's; step back to this block where they differ.
        let head_row = self
            .accounts
            .get(address.0.0)?
            .map(|row| crate::rows::AccountRow::decode(&row.value()));
        let head_root = head_row.map_or(EMPTY_ROOT_HASH, |row| row.storage_root);
        let mut trie = SparseTrie::with_root(head_root);
        if let Some(overlay) = &self.overlay {
            let mut changed: Vec<_> = overlay
                .slots
                .iter()
                .filter(|((owner, _), _)| *owner == address)
                .map(|((_, slot), value)| (*slot, *value))
                .collect();
            changed.sort_unstable();
            for (slot, value) in changed {
                let key = keccak256(slot.to_be_bytes::<32>());
                if value.is_zero() {
                    trie.remove(key, &source)?;
                } else {
                    trie.insert(key, alloy_rlp::encode(value), &source)?;
                }
            }
        }
        let (found, _) = trie.commit(false);
        if found != storage_root {
            return Err(StateError::RootMismatch {
                number: self.number,
                found,
                expected: storage_root,
            });
        }
        slots
            .iter()
            .map(|slot| {
                let nodes = trie.prove(keccak256(slot.to_be_bytes::<32>()), &source)?;
                let value = self
                    .slot(&address, slot)
                    .map_err(|error| StateError::Database(error.to_string()))?;
                Ok(StorageProof {
                    slot: *slot,
                    value,
                    nodes: nodes.into_iter().map(Bytes::from).collect(),
                })
            })
            .collect()
    }
}
