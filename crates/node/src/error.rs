//! Why a node does not start or stops.

use std::path::PathBuf;

use assay_chain::{ChainError, StateError};
use assay_types::SealError;
use thiserror::Error;

/// Errors of a node. All of them end it.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Another process works in the directory.
    #[error("directory `{path}` is in use by process {holder}")]
    InUse {
        /// Data directory.
        path: PathBuf,
        /// Process id of the holder, or `unknown`.
        holder: String,
    },
    /// A file of the directory cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The sequencer key file is damaged.
    #[error("`{path}` does not hold a key: {detail}")]
    Key {
        /// File.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The key is not a secp256k1 secret.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The chain did not open, or stopped.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The RPC address cannot be bound.
    #[error("RPC on {address}: {source}")]
    Rpc {
        /// Address.
        address: std::net::SocketAddr,
        /// Cause.
        source: std::io::Error,
    },
    /// No thread for the sequencer.
    #[error("sequencer thread: {0}")]
    Thread(std::io::Error),
}

impl From<StateError> for NodeError {
    fn from(error: StateError) -> Self {
        Self::Chain(ChainError::State(error))
    }
}
