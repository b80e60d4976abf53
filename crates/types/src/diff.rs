//! What the executor reads ([`StateView`]) and what it leaves behind ([`StateDiff`]).

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use thiserror::Error;

/// An account without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Number of transactions sent, or contracts created.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// keccak256 of the code; [`KECCAK256_EMPTY`] for none.
    pub code_hash: B256,
}

impl Default for AccountRecord {
    fn default() -> Self {
        Self {
            nonce: 0,
            balance: U256::ZERO,
            code_hash: KECCAK256_EMPTY,
        }
    }
}

impl AccountRecord {
    /// Empty in the sense of EIP-161: such an account is removed, with all its storage.
    pub fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK256_EMPTY
    }
}

/// The state could not be read. Fatal for a block, an internal error for a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// The database failed.
    #[error("state database: {0}")]
    Database(String),
    /// A stored row does not decode.
    #[error("state row {table} is corrupt: {detail}")]
    Corrupt {
        /// Table name.
        table: &'static str,
        /// What was found.
        detail: String,
    },
}

/// Read access to the state after one block.
///
/// The executor calls it on a miss of its own cache, from one thread, any number of times; implementations give
/// the same answer for as long as the view lives.
pub trait StateView {
    /// The account, or `None` when it does not exist.
    ///
    /// # Errors
    /// [`ViewError`] when the database fails.
    fn account(&self, address: &Address) -> Result<Option<AccountRecord>, ViewError>;

    /// The storage word, zero when it was never set.
    ///
    /// # Errors
    /// [`ViewError`] when the database fails.
    fn slot(&self, address: &Address, slot: &U256) -> Result<U256, ViewError>;

    /// Code by its hash; empty for [`KECCAK256_EMPTY`].
    ///
    /// # Errors
    /// [`ViewError`] when the database fails or no such code is stored.
    fn code(&self, hash: &B256) -> Result<Bytes, ViewError>;

    /// Hash of an ancestor block, `None` when unknown.
    ///
    /// # Errors
    /// [`ViewError`] when the database fails.
    fn block_hash(&self, number: u64) -> Result<Option<B256>, ViewError>;
}

impl<V: StateView + ?Sized> StateView for &V {
    fn account(&self, address: &Address) -> Result<Option<AccountRecord>, ViewError> {
        (**self).account(address)
    }

    fn slot(&self, address: &Address, slot: &U256) -> Result<U256, ViewError> {
        (**self).slot(address, slot)
    }

    fn code(&self, hash: &B256) -> Result<Bytes, ViewError> {
        (**self).code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ViewError> {
        (**self).block_hash(number)
    }
}

/// Change of one account over one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The account after the block; `None` when it no longer exists.
    pub account: Option<AccountRecord>,
    /// Whether all storage from before the block is gone; `slots` then holds all that is left.
    pub wiped: bool,
    /// Slots written, with their values after the block; zero clears.
    pub slots: BTreeMap<U256, U256>,
}

/// All that a block changed, ordered, so that it has one form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDiff {
    /// Accounts by address.
    pub accounts: BTreeMap<Address, AccountChange>,
    /// New code by its keccak256.
    pub code: BTreeMap<B256, Bytes>,
}
