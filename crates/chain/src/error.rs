//! Errors of the chain: why a transaction was not pooled, why a block was not accepted, what broke the node.

use alloy_primitives::{Address, B256, U256};
use assay_evm::{ExecutionError, InvalidReason};
use assay_state::StateError;
use assay_types::{BlockError, SealError, TransactionError, ViewError};
use thiserror::Error;

/// Why a transaction was not admitted. The texts begin as geth's do, because SDKs match on them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PoolError {
    /// Not a transaction of this chain.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// It could not be in any block.
    #[error(transparent)]
    Invalid(#[from] InvalidReason),
    /// In the pool already.
    #[error("already known")]
    AlreadyKnown(B256),
    /// The nonce was used before.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// Next nonce of the account.
        next: u64,
        /// Nonce of the transaction.
        nonce: u64,
    },
    /// Too many earlier nonces are missing.
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}, at most {limit} queued")]
    NonceGap {
        /// Next nonce of the account.
        next: u64,
        /// Nonce of the transaction.
        nonce: u64,
        /// Transactions an account may have behind a gap.
        limit: usize,
    },
    /// The same nonce is pooled with fees that are not at least 10 % lower.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The fee cap is below the floor, or the pool is full of better ones.
    #[error("transaction underpriced: fee cap {cap}, minimum {minimum}")]
    Underpriced {
        /// Wei per gas.
        cap: u128,
        /// Wei per gas.
        minimum: u128,
    },
    /// The balance does not cover value and maximal fee.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    InsufficientFunds {
        /// Wei.
        balance: U256,
        /// Wei.
        cost: U256,
    },
    /// The gas limit is above the block's.
    #[error("exceeds block gas limit: gas {gas}, limit {limit}")]
    BlockGas {
        /// Gas limit of the transaction.
        gas: u64,
        /// Gas limit of a block.
        limit: u64,
    },
    /// The account has too many pooled transactions.
    #[error("account limit exceeded: address {sender} has {count} pooled transactions")]
    AccountLimit {
        /// Sender.
        sender: Address,
        /// Its transactions in the pool.
        count: usize,
    },
    /// One pending transaction at a time for accounts with an EIP-7702 delegation.
    #[error("in-flight transaction limit reached for delegated accounts")]
    Delegated,
    /// The pool is full of better paying transactions.
    #[error("txpool is full: {count} transactions, {bytes} bytes")]
    Full {
        /// Transactions in the pool.
        count: usize,
        /// Bytes in the pool.
        bytes: usize,
    },
    /// A failure has stopped block production; reads still work.
    #[error("the node has stopped making blocks")]
    Stopped,
    /// The state could not be read.
    #[error("state unavailable: {0}")]
    View(#[from] ViewError),
}

/// Why a block was not accepted. Protocol errors, except [`VerifyError::Fatal`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// A header field is not what execution gives.
    #[error("block {number}: {field} is {found}, want {want}")]
    Field {
        /// Height.
        number: u64,
        /// Name of the header field.
        field: &'static str,
        /// What the header says.
        found: String,
        /// What it must be.
        want: String,
    },
    /// Extra data, body or a transaction does not decode.
    #[error("block {number}: {source}")]
    Block {
        /// Height.
        number: u64,
        /// What is wrong.
        source: BlockError,
    },
    /// Reveal or certificate is not the sequencer's.
    #[error("block {number}: {source}")]
    Seal {
        /// Height.
        number: u64,
        /// What is wrong.
        source: SealError,
    },
    /// A transaction may not be in this block.
    #[error("block {number}: transaction {index}: {reason}")]
    Transaction {
        /// Height.
        number: u64,
        /// Position.
        index: usize,
        /// Why.
        reason: InvalidReason,
    },
    /// The database or a module failed.
    #[error("block {number}: {detail}")]
    Fatal {
        /// Height.
        number: u64,
        /// What failed.
        detail: String,
    },
}

/// What stops a chain, or keeps it from opening.
#[derive(Debug, Error)]
pub enum ChainError {
    /// The database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Execution failed in a way that no transaction can cause.
    #[error("execution: {0}")]
    Execution(#[from] ExecutionError),
    /// A block does not verify.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The directory holds another chain.
    #[error("the database holds genesis {stored}, the configuration gives {configured}")]
    GenesisMismatch {
        /// Hash on disk.
        stored: B256,
        /// Hash of the configured genesis.
        configured: B256,
    },
    /// The sealing key is not the one that genesis names.
    #[error("sealing key {key} is not the sequencer {sequencer} of this chain")]
    WrongKey {
        /// Address of the key.
        key: Address,
        /// Address in genesis.
        sequencer: Address,
    },
    /// A stored block does not decode.
    #[error("stored block {number}: {source}")]
    Block {
        /// Height.
        number: u64,
        /// What is wrong.
        source: BlockError,
    },
    /// A module invariant does not hold after a block.
    #[error("invariant violated after block {number}: {detail}")]
    Invariant {
        /// Height.
        number: u64,
        /// The module's description.
        detail: String,
    },
    /// A previous failure has stopped block production.
    #[error("the chain has stopped: {0}")]
    Stopped(String),
}
