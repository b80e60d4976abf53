//! The chain: one pure function from (state, block) to state, and around it genesis, mempool, clock and the solo
//! sequencer.
//!
//! [`execute`] and [`verify`] are synchronous and know no clock, disk or network. [`Chain`] owns the database and
//! the mempool, seals blocks with one key and tells subscribers. Services in the same process hold an
//! `Arc<Chain>`; everything they need (submit, call, receipts, subscribe) is a method of it.
//!
//! Trust: with solo sequencing, ordering and censorship resistance rest on one key. Correctness of inference does
//! not: evidence and state proofs verify without trusting the sequencer.
//!
//! Threat model: transactions and calls come from strangers (typed errors, bounded pool, bounded gas); blocks that
//! [`verify`] is given may be forged; the database may have been killed at any instruction.
//!
//! Depends on `types`, `state`, `evm`, `modules`. Start reading at [`Chain`].

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

mod chain;
mod clock;
mod error;
mod execute;
mod fees;
mod genesis;
mod pool;
mod query;
mod replay;
mod sequencer;

pub use assay_evm::{
    AccountOverride, BlockContext, CallOutcome, CallRequest, ExecutionError, InvalidReason,
    TransactionOutcome,
};
pub use assay_modules::{Arbiter, GenesisParams, Modules, ProofVerifier};
pub use assay_state::{AccountProof, Head, StateError, StorageProof, Store, StoredBlock, View};
pub use chain::{Chain, ChainConfig, ChainEvent, MinedBlock};
pub use clock::ChainClock;
pub use error::{ChainError, PoolError, VerifyError};
pub use execute::{Executed, Inspect, execute, verify};
pub use fees::{FEE_FLOOR, FeeHistory, next_base_fee};
pub use genesis::{Genesis, GenesisAccount, predeploys};
pub use pool::{Pool, PoolLimits, PoolStatus};
pub use query::{BlockRef, FoundLog, LogFilter, LogLimits};
pub use replay::replay;
pub use sequencer::{BlockMode, Sequencer};

/// Whether a module takes up to 1 MiB of calldata: those that accept structures, openings and proofs.
pub fn accepts_large_calldata(address: &alloy_primitives::Address) -> bool {
    [assay_abi::MODELS, assay_abi::CLAIMS, assay_abi::DISPUTES].contains(address)
}
