//! Proofs that a run of an integer graph gives exactly these outputs (docs/proof.md).
//!
//! Transparent (hashes only), sound to at least 100 bits, not hiding. Start reading at `plan` (how a graph becomes columns and relations), then `verifier`.

mod error;
mod field;
mod lookup;
mod mle;
mod pcs;
mod transcript;

pub use error::{PlanError, VerifyError};
