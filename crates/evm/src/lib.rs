//! Execution: ordinary Ethereum transactions, and the network's native modules as stateful precompiles.
//!
//! The only room that names revm. A module is called like a contract at its fixed address; its reads and writes go
//! through the EVM journal, so a revert of the calling frame undoes them, and its storage is ordinary account
//! storage that `eth_getProof` can prove.
//!
//! Duties of the module call (specification chain.md section 7.2), all in `precompile`: no `DELEGATECALL` or
//! `CALLCODE` into a module, no writes below a static call, gas for every read, write and event with the refund
//! counter, and never an `Err` for a mistake of the caller.
//!
//! Threat model: transactions and calldata are hostile; the state view is trusted. A [`ExecutionError::Fatal`] means
//! that the database failed or that a module broke an invariant, never that a user erred.
//!
//! Depends on `types`, `storage`, `modules`. Start reading at [`BlockExecutor`], then [`Caller`].

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

mod adapter;
mod block;
mod call;
mod environment;
mod error;
mod overlay;
mod precompile;

pub use block::{BlockExecutor, GenesisBuilder, TransactionOutcome};
pub use call::{AccountOverride, CallOutcome, CallRequest, Caller};
pub use environment::{BlockContext, intrinsic_gas};
pub use error::{ExecutionError, InvalidReason};
pub use precompile::DIRECT_CALL_ONLY;

/// Account that system calls (`begin_block`, `end_block`, `genesis`) come from.
pub const SYSTEM_ADDRESS: alloy_primitives::Address =
    alloy_primitives::address!("fffffffffffffffffffffffffffffffffffffffe");

/// Gas of one system call (specification chain.md section 6.3).
pub const SYSTEM_GAS: u64 = 30_000_000;

/// Code of a module account: the one byte 0xFE (INVALID), so that `extcodesize` is positive and an accidental
/// execution reverts (section 7.3).
pub const MODULE_CODE: [u8; 1] = [0xfe];
