//! Ground floor: the values that every room of the chain passes around.
//!
//! Transactions, headers, blocks, receipts, seals, identifiers, units, and the two small contracts between the
//! state database and the executor ([`StateView`], [`StateDiff`]). No input/output, no async, no rules.
//!
//! Threat model: transaction bytes, block bytes and certificates come from strangers. Every decoder here checks
//! lengths before it allocates, refuses trailing bytes and non-canonical encodings, and returns a typed error.
//!
//! Depends on nothing of ours. Start reading at [`Recovered`] (what a transaction is once it is inside) and
//! [`Block`].
//!
//! ```
//! use assay_types::{ExtraData, Millis};
//! let extra = ExtraData::solo(7, 250);
//! assert_eq!(ExtraData::decode(&extra.encode()).unwrap(), extra);
//! assert_eq!(Millis::new(1_250).seconds(), 1);
//! ```

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

mod block;
mod diff;
mod ids;
mod receipt;
mod seal;
mod transaction;
mod units;

pub use alloy_consensus::Header;
pub use block::{Block, BlockError, ExtraData, MAX_BLOCK_BYTES};
pub use diff::{AccountChange, AccountRecord, StateDiff, StateView, ViewError};
pub use ids::{ClaimId, DisputeId, ModelId, ReceiptId};
pub use receipt::{StoredReceipt, logs_bloom};
pub use seal::{Certificate, SealError, SealingKey, randao_mix};
pub use transaction::{
    Decoded, MAX_PROOF_TRANSACTION_BYTES, MAX_TRANSACTION_BYTES, Recovered, Transaction,
    TransactionError, recover_address,
};
pub use units::{BlockNumber, Millis, Ppm, TokenCount, UsdMicros, Wei};
