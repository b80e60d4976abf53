//! The rules of the network: one folder per module, pure logic over typed storage.
//!
//! No virtual machine, disk, clock, float or randomness. The executor calls [`Modules::call`] for every call frame
//! that enters a module's address, [`Modules::begin_block`] and [`Modules::end_block`] around a block's transactions,
//! and [`Modules::genesis`] once. Whatever needs to understand integer graphs is an [`Arbiter`], whatever checks proofs a [`ProofVerifier`]; both are handed in.
//!
//! May depend on `abi`, `storage`, and on `graph` for the hashes of a trace (nothing else of it). In each folder `mod.rs` has state and rules, `dispatch.rs` only maps the ABI to
//! them.
//!
//! Threat model: every byte of calldata, every caller and every order of calls is hostile. A call ends in an
//! [`Outcome`]; nothing panics; state of a call that does not return is undone.
//!
//! Start reading at [`Modules`], then `claims` and `disputes`.
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

pub mod amount;
mod arbiter;
pub mod burn;
pub mod claims;
pub mod clock;
mod dispatch;
pub mod disputes;
mod error;
mod genesis;
mod invariants;
pub mod models;
pub mod parameters;
pub mod pools;
pub mod signature;
pub mod staking;
pub mod tree;
pub mod usd;
mod verifier;

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use assay_storage::{Storage, StorageError};

pub use arbiter::{Arbiter, Case, ModelInfo, RunSize, SegmentInfo, Verdict};
pub use error::{Fault, Ruling};
pub use genesis::GenesisParams;
pub use parameters::Params;
pub use verifier::{
    AnswerCase, KeyInfo, NoProofs, ProofFault, ProofStatement, ProofVerifier, StoredKey,
};

/// One call frame into a module.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The module.
    pub target: Address,
    /// Immediate caller (account or contract).
    pub caller: Address,
    /// Native coin already moved to the module by the frame, in wei.
    pub value: U256,
    /// Calldata.
    pub input: &'a [u8],
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// ABI-encoded return values; writes stand.
    Return(Bytes),
    /// ABI-encoded custom error (empty for an unknown selector); writes are undone.
    Revert(Bytes),
    /// Gas ran out; the frame fails.
    OutOfGas,
    /// A mutating function in a static call.
    StaticViolation,
    /// Database or invariant failure: the node must stop.
    Fatal(String),
}

/// All modules.
#[derive(Clone)]
pub struct Modules {
    /// Judge of disputes and reader of model structures.
    pub arbiter: Arc<dyn Arbiter>,
    /// Checker of proofs.
    pub proofs: Arc<dyn ProofVerifier>,
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modules").finish_non_exhaustive()
    }
}

const ADDRESSES: [Address; 9] = [
    assay_abi::USD,
    assay_abi::STAKING,
    assay_abi::MODELS,
    assay_abi::CLAIMS,
    assay_abi::DISPUTES,
    assay_abi::CLOCK,
    assay_abi::BURN,
    assay_abi::POOLS,
    assay_abi::PARAMETERS,
];

impl Modules {
    /// With an arbiter, and no proofs.
    pub fn new(arbiter: Arc<dyn Arbiter>) -> Self {
        Self::with_proofs(arbiter, Arc::new(NoProofs))
    }

    /// With an arbiter and a checker of proofs.
    pub fn with_proofs(arbiter: Arc<dyn Arbiter>, proofs: Arc<dyn ProofVerifier>) -> Self {
        Self { arbiter, proofs }
    }

    /// Whether `address` is a module.
    pub fn is_module(address: &Address) -> bool {
        ADDRESSES.contains(address)
    }

    /// Addresses of all modules.
    pub fn addresses() -> &'static [Address] {
        &ADDRESSES
    }

    /// Runs one call. The executor has refused DELEGATECALL and CALLCODE and moved `value` to the module.
    ///
    /// Undoes its own writes unless it returns [`Outcome::Return`]; the value moved by the frame is the executor's to undo.
    pub fn call(&self, storage: &mut dyn Storage, call: Call<'_>) -> Outcome {
        let checkpoint = storage.checkpoint();
        match dispatch::dispatch(self, storage, &call) {
            Ok(output) => {
                storage.commit_to(checkpoint);
                Outcome::Return(output)
            }
            Err(fault) => {
                storage.revert_to(checkpoint);
                match fault {
                    Fault::Revert(data) => Outcome::Revert(data),
                    Fault::Storage(StorageError::OutOfGas) => Outcome::OutOfGas,
                    Fault::Storage(StorageError::Static) => Outcome::StaticViolation,
                    Fault::Storage(StorageError::Fatal(reason)) => Outcome::Fatal(reason),
                }
            }
        }
    }

    /// Before the first transaction of a block: advances chain time.
    ///
    /// # Errors
    /// Only fatal ones; the block is then invalid or the database broken.
    pub fn begin_block(&self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        clock::Clock::new().begin_block(storage)
    }

    /// After the last transaction of a block: drains queues, 64 items each.
    ///
    /// # Errors
    /// Only fatal ones.
    pub fn end_block(&self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        error::system(disputes::Disputes::new().end_block(storage))
    }

    /// Writes the modules' state of block 0. Module accounts themselves (nonce 1, code `0xFE`) are the executor's.
    ///
    /// # Errors
    /// `Fatal` if a parameter is outside its bounds or amounts overflow.
    pub fn genesis(
        &self,
        storage: &mut dyn Storage,
        params: &GenesisParams,
    ) -> Result<(), StorageError> {
        genesis::write(storage, params)
    }

    /// Checks escrow identities and module invariants; walks all operators and lineages, so it is for tests and
    /// `--check-invariants`, not for block execution.
    ///
    /// # Errors
    /// The first violated invariant, with values.
    pub fn check_invariants(&self, storage: &mut dyn Storage) -> Result<(), String> {
        invariants::check(storage)
    }
}
