//! Errors of the state database.

use alloy_primitives::B256;
use assay_types::ViewError;
use thiserror::Error;

/// What can go wrong in the state database. All but [`StateError::NotAvailable`] are fatal for the node.
#[derive(Debug, Error)]
pub enum StateError {
    /// redb failed: disk full, file damaged, lock held.
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
    /// A trie node is absent though its parent names it.
    #[error("trie node {hash} at path {path} is missing")]
    MissingNode {
        /// Hash that the parent holds.
        hash: B256,
        /// Nibble path.
        path: String,
    },
    /// A historical state has been pruned, or its block does not exist yet.
    #[error("state not available for block {asked}, oldest available is {oldest}, newest {newest}")]
    NotAvailable {
        /// Block asked for.
        asked: u64,
        /// Oldest block whose state can be rebuilt.
        oldest: u64,
        /// Head.
        newest: u64,
    },
    /// A staged root was committed after another block had moved the head.
    #[error("staged on block {staged:?}, but the head is {head:?}")]
    Stale {
        /// Head when the root was computed.
        staged: Option<u64>,
        /// Head now.
        head: Option<u64>,
    },
    /// A trie rebuilt for a historical block does not hash to the header's root.
    #[error("state root of block {number} is {found}, header says {expected}")]
    RootMismatch {
        /// Block.
        number: u64,
        /// Root of the rebuilt trie.
        found: B256,
        /// Root in the header.
        expected: B256,
    },
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StateError {
            fn from(error: $error) -> Self {
                Self::Database(error.to_string())
            }
        }
    )*};
}

from_redb!(
    redb::Error,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

impl From<StateError> for ViewError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Corrupt { table, detail } => Self::Corrupt { table, detail },
            other => Self::Database(other.to_string()),
        }
    }
}
