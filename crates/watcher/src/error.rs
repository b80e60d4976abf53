//! Why an audit or a move in a dispute was not made.

use std::path::PathBuf;

use alloy_primitives::{B256, U256};
use assay_graph::GraphError;
use assay_wallet::ClientError;
use thiserror::Error;

/// Errors of the watcher. All are tried again unless they say otherwise.
#[derive(Debug, Error)]
pub enum WatcherError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// The operator does not serve the data of a job.
    #[error("operator at `{endpoint}` does not serve job {claim_id}: {reason}")]
    Unavailable {
        /// Its registered endpoint.
        endpoint: String,
        /// The job.
        claim_id: B256,
        /// Cause.
        reason: String,
    },
    /// The operator serves data that does not open the receipt's commitments.
    #[error(
        "operator at `{endpoint}` serves {what} that does not open the commitment of {claim_id}"
    )]
    Junk {
        /// Its registered endpoint.
        endpoint: String,
        /// `input` or `output`.
        what: &'static str,
        /// The job.
        claim_id: B256,
    },
    /// The model is not at hand.
    #[error("model {model_id} is not at hand: {reason}")]
    NoModel {
        /// Its identity.
        model_id: B256,
        /// Cause.
        reason: String,
    },
    /// Without the sampling statement or the token masks nobody can replay.
    #[error("claim {claim_id}: {reason}")]
    Statement {
        /// The claim.
        claim_id: B256,
        /// What is missing.
        reason: String,
    },
    /// The own copy of the model did not run.
    #[error("model {model_id} did not run: {reason}")]
    Replay {
        /// Its identity.
        model_id: B256,
        /// Cause.
        reason: String,
    },
    /// Evidence could not be built.
    #[error("evidence for dispute {id}: {source}")]
    Evidence {
        /// The dispute.
        id: U256,
        /// Cause.
        source: GraphError,
    },
    /// The asserter's moves are not on the chain as the dispute's stage says.
    #[error("dispute {id}: {reason}")]
    Dispute {
        /// The dispute.
        id: U256,
        /// What is missing.
        reason: &'static str,
    },
    /// A fault of this program, or of a source of models that was handed in; other claims go on.
    #[error("the work ended unexpectedly: {0}")]
    Panicked(String),
    /// Disk.
    #[error("{path}: {source}")]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The state file is not what this program writes.
    #[error("state file {path}: {reason}; remove it to start from the first block")]
    State {
        /// The file.
        path: PathBuf,
        /// First violation.
        reason: String,
    },
}
