//! Read-only snapshots of the state after one block.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use alloy_trie::Nibbles;
use assay_types::{AccountRecord, StateView, ViewError};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use crate::rows::{AccountRow, slot_key};
use crate::{NodeSource, StateError, tables};

/// Values that later blocks changed, as they were at the block of a view.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) accounts: HashMap<Address, Option<AccountRow>>,
    pub(crate) slots: HashMap<(Address, U256), U256>,
}

/// The state after one block. Does not block the writer; holds its pages until dropped.
pub struct View {
    pub(crate) accounts: ReadOnlyTable<[u8; 20], [u8; 104]>,
    pub(crate) slots: ReadOnlyTable<[u8; 52], [u8; 32]>,
    pub(crate) transaction: ReadTransaction,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) number: u64,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("number", &self.number)
            .field("historical", &self.overlay.is_some())
            .finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(transaction: ReadTransaction, number: u64) -> Result<Self, StateError> {
        Ok(Self {
            accounts: transaction.open_table(tables::ACCOUNT)?,
            slots: transaction.open_table(tables::SLOT)?,
            transaction,
            overlay: None,
            number,
        })
    }

    /// Height of the block whose state this is.
    pub const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn row(&self, address: &Address) -> Result<Option<AccountRow>, StateError> {
        if let Some(row) = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.accounts.get(address))
        {
            return Ok(*row);
        }
        Ok(self
            .accounts
            .get(address.0.0)?
            .map(|row| AccountRow::decode(&row.value())))
    }

    fn word(&self, address: &Address, slot: &U256) -> Result<U256, StateError> {
        if let Some(value) = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.slots.get(&(*address, *slot)))
        {
            return Ok(*value);
        }
        Ok(self
            .slots
            .get(slot_key(address, slot))?
            .map_or(U256::ZERO, |word| U256::from_be_bytes(word.value())))
    }

    fn bytecode(&self, hash: &B256) -> Result<Bytes, StateError> {
        if *hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytes::new());
        }
        let table = self.transaction.open_table(tables::CODE)?;
        let code = table.get(hash.0)?.ok_or_else(|| StateError::Corrupt {
            table: "code",
            detail: format!("no code with hash {hash}"),
        })?;
        Ok(Bytes::copy_from_slice(code.value()))
    }

    fn ancestor(&self, number: u64) -> Result<Option<B256>, StateError> {
        if number > self.number {
            return Ok(None);
        }
        let table = self.transaction.open_table(tables::HEADER)?;
        let row = table.get(number)?;
        Ok(row.and_then(|row| row.value().get(..32).map(B256::from_slice)))
    }
}

impl StateView for View {
    fn account(&self, address: &Address) -> Result<Option<AccountRecord>, ViewError> {
        Ok(self.row(address)?.map(|row| row.record))
    }

    fn slot(&self, address: &Address, slot: &U256) -> Result<U256, ViewError> {
        Ok(self.word(address, slot)?)
    }

    fn code(&self, hash: &B256) -> Result<Bytes, ViewError> {
        Ok(self.bytecode(hash)?)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ViewError> {
        Ok(self.ancestor(number)?)
    }
}

/// Stored nodes of one trie: the account trie, or the storage trie of one account.
pub(crate) struct StoredNodes<T> {
    table: T,
    prefix: Vec<u8>,
}

impl<T> StoredNodes<T> {
    pub(crate) fn accounts(table: T) -> Self {
        Self {
            table,
            prefix: vec![0],
        }
    }

    pub(crate) fn storage(table: T, hashed_address: &B256) -> Self {
        let mut prefix = vec![1];
        prefix.extend_from_slice(hashed_address.as_slice());
        Self { table, prefix }
    }
}

/// Key of a node in the node table.
pub(crate) fn node_key(prefix: &[u8], path: &Nibbles) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len().saturating_add(path.len()));
    key.extend_from_slice(prefix);
    key.extend(path.iter());
    key
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> NodeSource for StoredNodes<T> {
    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, StateError> {
        let row = self.table.get(node_key(&self.prefix, path).as_slice())?;
        Ok(row.map(|row| row.value().to_vec()))
    }
}
