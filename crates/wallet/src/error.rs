//! Errors of keys and of the chain client. No variant carries a secret.

use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use thiserror::Error;

use crate::ModuleError;

/// Why a key or a key file could not be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A name that is not 1 to 64 of `a-z`, `0-9`, `-`, `_`.
    #[error("key name `{0}` must be 1 to 64 of a-z, 0-9, - and _")]
    Name(String),
    /// Nothing is overwritten.
    #[error("key file {0} exists already")]
    Exists(PathBuf),
    /// No such key.
    #[error("no key `{name}` in {folder}")]
    NotFound {
        /// Name that was asked for.
        name: String,
        /// Folder of the key files.
        folder: PathBuf,
    },
    /// Shorter than the limit.
    #[error("passphrase has {have} characters, at least {want} needed")]
    ShortPassphrase {
        /// Characters given.
        have: usize,
        /// Least number.
        want: usize,
    },
    /// Wrong passphrase, or a changed file.
    #[error("key file {0} does not open with this passphrase")]
    Passphrase(PathBuf),
    /// Not a keystore file of version 3 with parameters this program accepts.
    #[error("key file {path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// First violation.
        reason: String,
    },
    /// The file opens to another address than it names.
    #[error("key file {path} opens to {have}, names {want}")]
    Address {
        /// The file.
        path: PathBuf,
        /// Address of the secret inside.
        have: Address,
        /// Address in the file.
        want: Address,
    },
    /// 32 bytes that are no secp256k1 key; they are not shown.
    #[error("not a secp256k1 secret key")]
    Secret,
    /// A phrase that is no BIP-39 mnemonic; it is not shown.
    #[error("not a BIP-39 mnemonic, or index {0} is out of range")]
    Mnemonic(u32),
    /// Disk.
    #[error("{path}: {source}")]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

/// Why the chain was not reached, or refused.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The node was not reached or broke off.
    #[error("{method} at {url}: {reason}")]
    Transport {
        /// RPC method.
        method: String,
        /// Address of the node.
        url: String,
        /// Cause.
        reason: String,
    },
    /// The node answered with an error that is no revert.
    #[error("{method}: node says {code}: {message}")]
    Rpc {
        /// RPC method.
        method: String,
        /// JSON-RPC error code.
        code: i64,
        /// The node's message.
        message: String,
    },
    /// The node's answer is not what the method returns.
    #[error("{method}: unexpected answer: {reason}")]
    Answer {
        /// RPC method.
        method: String,
        /// First violation.
        reason: String,
    },
    /// A contract refused the call.
    #[error("{0}")]
    Reverted(ModuleError),
    /// The transaction is in a block and failed.
    #[error("transaction {hash} failed: {reason}")]
    Failed {
        /// Transaction hash.
        hash: B256,
        /// Sentence of the revert, found by calling again.
        reason: String,
    },
    /// The transaction did not get into a block in time. It may still.
    #[error("transaction {hash} is in no block after {waited_ms} ms")]
    NotIncluded {
        /// Transaction hash.
        hash: B256,
        /// Milliseconds waited.
        waited_ms: u64,
    },
    /// The node serves another chain.
    #[error("node serves chain {have}, want {want}")]
    WrongChain {
        /// Chain id of the node.
        have: u64,
        /// Chain id expected.
        want: u64,
    },
    /// A number of the chain does not fit its type here.
    #[error("{what} of {method} does not fit")]
    Overflow {
        /// RPC method.
        method: String,
        /// Which number.
        what: &'static str,
    },
}

impl ClientError {
    /// Name of the module error, if a module refused the call: for example `WrongStage`.
    pub fn module_error(&self) -> Option<&str> {
        match self {
            Self::Reverted(error) => Some(&error.name),
            _ => None,
        }
    }

    /// Whether trying again later may help without any change.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::NotIncluded { .. })
    }
}
