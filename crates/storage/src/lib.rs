//! Typed storage slots in Solidity layout over a small trait.
//!
//! The rules of the network are written against [`Storage`]; the chain's executor implements it over its journal and
//! [`MemoryStorage`] implements it for tests, with equal results. A struct declared with [`layout!`] has its fields at
//! exactly the slots that `solc` would choose, so any state is readable by `eth_getStorageAt` and provable by
//! `eth_getProof`.
//!
//! Ground floor: knows nothing of ours. Threat model: keys and values come from transactions; no method panics, and
//! nothing here iterates more than its caller says.
//!
//! Start reading at [`Storage`], then [`Slot`] and [`Mapping`].
//!
//! ```
//! use assay_storage::{Cursor, Mapping, MemoryStorage, Place, Slot, layout};
//! use alloy_primitives::Address;
//! layout! {
//!     /// A token's books.
//!     pub struct Books { pub supply: Slot<u128>, pub balances: Mapping<Address, Slot<u128>> }
//! }
//! let books = Books::place(&mut Cursor::new(Address::ZERO));
//! let mut storage = MemoryStorage::default();
//! books.balances.at(&Address::ZERO).write(&mut storage, 5).unwrap();
//! assert_eq!(books.balances.at(&Address::ZERO).read(&mut storage).unwrap(), 5);
//! ```
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::iter_over_hash_type
    )
)]

mod bytes;
mod collections;
mod layout;
mod memory;
mod slot;
mod word;

use alloy_primitives::{Address, B256, Bytes, LogData, U256};

pub use bytes::BytesLike;
pub use collections::{List, Queue, Set};
pub use layout::{Cursor, Place, Row};
pub use memory::MemoryStorage;
pub use slot::{Mapping, Slot};
pub use word::{Key, Word};

/// What a block fixes for every call in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// Block number.
    pub number: u64,
    /// Block timestamp in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Randomness of the parent block.
    pub prevrandao: B256,
    /// Fee address of the proposing seat.
    pub proposer: Address,
}

/// Why storage refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The call's gas is spent; the frame ends.
    #[error("out of gas")]
    OutOfGas,
    /// A write inside a static call.
    #[error("state change in a static call")]
    Static,
    /// Database or invariant failure: the node stops.
    #[error("fatal: {0}")]
    Fatal(String),
}

/// Access to the state of the chain for the length of one call.
///
/// Implemented by the executor (over its journal, with gas) and by [`MemoryStorage`]. Modules call it many times per
/// transaction; an implementation charges gas for every access itself, modules [`charge`](Self::charge) only for
/// computation. Any error ends the call: after [`StorageError::OutOfGas`] or [`StorageError::Static`] the frame is
/// reverted, after [`StorageError::Fatal`] the block is abandoned.
pub trait Storage {
    /// Reads a slot; unset slots are zero.
    ///
    /// # Errors
    /// `OutOfGas`, `Fatal`.
    fn sload(&mut self, address: Address, slot: U256) -> Result<U256, StorageError>;
    /// Writes a slot; writing zero clears it.
    ///
    /// # Errors
    /// `OutOfGas`, `Static`, `Fatal`.
    fn sstore(&mut self, address: Address, slot: U256, value: U256) -> Result<(), StorageError>;
    /// Reads a transient slot (cleared at the end of the transaction, EIP-1153).
    ///
    /// # Errors
    /// `OutOfGas`, `Fatal`.
    fn tload(&mut self, address: Address, slot: U256) -> Result<U256, StorageError>;
    /// Writes a transient slot.
    ///
    /// # Errors
    /// `OutOfGas`, `Static`, `Fatal`.
    fn tstore(&mut self, address: Address, slot: U256, value: U256) -> Result<(), StorageError>;
    /// Reads what [`put_blob`](Self::put_blob) keeps at an address; empty if nothing.
    ///
    /// # Errors
    /// `OutOfGas`, `Fatal`.
    fn blob(&mut self, address: Address) -> Result<Bytes, StorageError>;
    /// Keeps bytes outside of slots, as the code of an account of their own that no call can run; empty bytes remove it. For what is
    /// long and written once: the state's root holds a hash of it. The address must be one that nobody has a key for.
    ///
    /// # Errors
    /// `OutOfGas`, `Static`, `Fatal`.
    fn put_blob(&mut self, address: Address, bytes: &[u8]) -> Result<(), StorageError>;
    /// Appends a log of `address`.
    ///
    /// # Errors
    /// `OutOfGas`, `Static`, `Fatal`.
    fn emit(&mut self, address: Address, log: LogData) -> Result<(), StorageError>;
    /// Native balance in wei.
    ///
    /// # Errors
    /// `OutOfGas`, `Fatal`.
    fn balance(&mut self, address: Address) -> Result<U256, StorageError>;
    /// Moves native coin without running code; false if `from` has too little (nothing moved).
    ///
    /// # Errors
    /// `OutOfGas`, `Static`, `Fatal`.
    fn transfer(&mut self, from: Address, to: Address, amount: U256) -> Result<bool, StorageError>;
    /// Takes gas for computation.
    ///
    /// # Errors
    /// `OutOfGas`.
    fn charge(&mut self, gas: u64) -> Result<(), StorageError>;
    /// The block.
    fn env(&self) -> &Env;
    /// Whether writes are refused.
    fn is_static(&self) -> bool;
    /// Opens a checkpoint; checkpoints nest.
    fn checkpoint(&mut self) -> usize;
    /// Undoes every write, log and transfer since the checkpoint and closes it and all inner ones.
    fn revert_to(&mut self, checkpoint: usize);
    /// Keeps everything since the checkpoint and closes it and all inner ones.
    fn commit_to(&mut self, checkpoint: usize);
}
