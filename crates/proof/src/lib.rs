//! Proofs that runs of an integer graph give exactly these outputs (docs/proof.md).
//!
//! Transparent (hashes only), sound to at least 100 bits; in hiding mode a proof tells nothing about a run but its outputs. Start reading at `plan` (how a graph becomes columns and relations), then `verifier`.

mod budget;
mod compile;
mod cost;
mod einsum;
mod error;
mod field;
mod functional;
mod hiding;
mod key;
mod links;
mod listener;
mod lookup;
mod mle;
mod ops;
#[cfg(test)]
mod oracle;
mod packed;
mod params;
mod pcs;
mod plan;
mod proof;
mod prover;
mod reduce;
mod relations;
mod sampling;
mod session;
mod shards;
mod statement;
#[cfg(test)]
mod tests;
mod transcript;
mod verifier;

pub use budget::Budget;
pub use cost::Cost;
pub use error::{PlanError, ProveError, VerifyError};
pub use key::{Key, MEMORY, ProvingKey};
pub use params::{PARAM_SET, PARAM_SET_NAME};
pub use plan::builder::WORK;
pub use proof::Proof;
pub use prover::{Input, Step, prove, prove_hiding};
pub use statement::{Mode, Run, Statement};
pub use verifier::{Verified, verify, verify_direct, verify_within};
