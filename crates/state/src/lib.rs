//! The state database: redb tables, a Merkle-Patricia trie over them, proofs, and history for the last 256 blocks.
//!
//! A block is committed in **one durable write transaction** (state, trie nodes, header, body, receipts, indices,
//! head pointer), so that a crash leaves block n or block n - 1 and nothing between. [`Store::stage`] computes the
//! root a diff leads to, [`Store::commit`] writes it together with the block.
//!
//! Reads are snapshots ([`View`]): they never wait for the writer and never see half a block.
//!
//! Threat model: the file may be torn or damaged by the machine (rows are decoded defensively, trie nodes are
//! checked against their hash when loaded); callers are trusted to pass diffs that the executor produced.
//!
//! Depends on `types`. Start reading at [`Store`].

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic
    )
)]

mod commit;
mod error;
mod history;
mod proof;
mod rows;
mod store;
mod tables;
mod trie;
mod view;

pub use alloy_trie::EMPTY_ROOT_HASH;
pub use assay_types::{AccountChange, AccountRecord, StateDiff, StateView, ViewError};
pub use commit::{BlockRecord, Staged};
pub use error::StateError;
pub use history::HISTORY_BLOCKS;
pub use proof::{AccountProof, StorageProof};
pub use store::{Head, Store, StoredBlock};
pub use trie::{NoNodes, NodeChanges, NodeSource, SparseTrie};
pub use view::View;
