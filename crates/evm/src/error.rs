//! Errors of execution: what the sender did wrong, and what broke the node.

use alloy_primitives::{Address, U256};
use assay_types::ViewError;
use revm::context_interface::result::{EVMError, InvalidTransaction};
use thiserror::Error;

use crate::overlay::OverlayError;

/// Why a transaction cannot be part of a block. The texts are those that SDKs match on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidReason {
    /// The nonce was used before.
    #[error("nonce too low: address {sender}, tx: {transaction} state: {state}")]
    NonceTooLow {
        /// Sender.
        sender: Address,
        /// Nonce of the transaction.
        transaction: u64,
        /// Next nonce of the account.
        state: u64,
    },
    /// An earlier nonce is missing.
    #[error("nonce too high: address {sender}, tx: {transaction} state: {state}")]
    NonceTooHigh {
        /// Sender.
        sender: Address,
        /// Nonce of the transaction.
        transaction: u64,
        /// Next nonce of the account.
        state: u64,
    },
    /// The balance does not cover value and maximal fee.
    #[error(
        "insufficient funds for gas * price + value: address {sender} have {balance} want {cost}"
    )]
    InsufficientFunds {
        /// Sender.
        sender: Address,
        /// Balance in wei.
        balance: U256,
        /// Wei needed.
        cost: U256,
    },
    /// The gas limit does not cover the transaction itself.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {minimum}")]
    IntrinsicGas {
        /// Gas limit.
        gas: u64,
        /// Gas before the first opcode.
        minimum: u64,
    },
    /// The gas limit does not cover the EIP-7623 floor.
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {minimum}")]
    FloorGas {
        /// Gas limit.
        gas: u64,
        /// Floor.
        minimum: u64,
    },
    /// The gas limit is above what the block has left.
    #[error("exceeds block gas limit: gas {gas}, limit {limit}")]
    BlockGas {
        /// Gas limit of the transaction.
        gas: u64,
        /// Gas left in the block.
        limit: u64,
    },
    /// The fee cap is below the base fee.
    #[error(
        "max fee per gas less than block base fee: address {sender}, maxFeePerGas: {cap}, baseFee: {base_fee}"
    )]
    FeeCapTooLow {
        /// Sender.
        sender: Address,
        /// Wei per gas.
        cap: u128,
        /// Wei per gas.
        base_fee: u64,
    },
    /// The tip is above the fee cap.
    #[error(
        "max priority fee per gas higher than max fee per gas: address {sender}, maxFeePerGas: {cap}"
    )]
    TipAboveFeeCap {
        /// Sender.
        sender: Address,
        /// Wei per gas.
        cap: u128,
    },
    /// The sender is a contract (EIP-3607).
    #[error("sender not an eoa: address {sender}")]
    SenderHasCode {
        /// Sender.
        sender: Address,
    },
    /// Creation code above the EIP-3860 limit.
    #[error("max initcode size exceeded: code size {size} limit 49152")]
    InitCode {
        /// Bytes.
        size: usize,
    },
    /// Any other violation, in the words of the EVM.
    #[error("invalid transaction: {0}")]
    Other(String),
}

/// Outcome of an execution that produced no receipt.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExecutionError {
    /// The transaction may not be in the block.
    #[error("{0}")]
    Invalid(InvalidReason),
    /// The database failed or a module broke an invariant.
    #[error("fatal: {0}")]
    Fatal(String),
}

impl From<ViewError> for ExecutionError {
    fn from(error: ViewError) -> Self {
        Self::Fatal(error.to_string())
    }
}

/// What the reason's values are taken from.
pub(crate) struct Subject {
    pub(crate) sender: Address,
    pub(crate) gas: u64,
    pub(crate) cap: u128,
    pub(crate) base_fee: u64,
    pub(crate) block_gas: u64,
    pub(crate) size: usize,
}

pub(crate) fn translate(
    error: EVMError<OverlayError, InvalidTransaction>,
    subject: &Subject,
) -> ExecutionError {
    let &Subject {
        sender,
        gas,
        cap,
        base_fee,
        block_gas,
        size,
    } = subject;
    let reason = match error {
        EVMError::Transaction(invalid) => match invalid {
            InvalidTransaction::NonceTooLow { tx, state } => InvalidReason::NonceTooLow {
                sender,
                transaction: tx,
                state,
            },
            InvalidTransaction::NonceTooHigh { tx, state } => InvalidReason::NonceTooHigh {
                sender,
                transaction: tx,
                state,
            },
            InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
                InvalidReason::InsufficientFunds {
                    sender,
                    balance: *balance,
                    cost: *fee,
                }
            }
            InvalidTransaction::CallGasCostMoreThanGasLimit {
                initial_gas,
                gas_limit,
            } => InvalidReason::IntrinsicGas {
                gas: gas_limit,
                minimum: initial_gas,
            },
            InvalidTransaction::GasFloorMoreThanGasLimit {
                gas_floor,
                gas_limit,
            } => InvalidReason::FloorGas {
                gas: gas_limit,
                minimum: gas_floor,
            },
            InvalidTransaction::CallerGasLimitMoreThanBlock => InvalidReason::BlockGas {
                gas,
                limit: block_gas,
            },
            InvalidTransaction::GasPriceLessThanBasefee => InvalidReason::FeeCapTooLow {
                sender,
                cap,
                base_fee,
            },
            InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
                InvalidReason::TipAboveFeeCap { sender, cap }
            }
            InvalidTransaction::RejectCallerWithCode => InvalidReason::SenderHasCode { sender },
            InvalidTransaction::CreateInitCodeSizeLimit => InvalidReason::InitCode { size },
            other => InvalidReason::Other(other.to_string()),
        },
        EVMError::Database(error) => return ExecutionError::Fatal(error.to_string()),
        other => return ExecutionError::Fatal(other.to_string()),
    };
    ExecutionError::Invalid(reason)
}
