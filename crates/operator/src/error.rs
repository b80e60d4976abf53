//! Two kinds of errors: refusals that a requester caused, and failures of the operator itself.

use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use assay_receipt::ReceiptError;
use assay_wallet::ClientError;
use thiserror::Error;

/// Failures of the operator: disk, chain, own model. They stop the job, some stop the operator.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// Disk.
    #[error("{path}: {source}")]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The log holds a record that does not check, with good records after it. Signing on could equivocate.
    #[error("log {path}: record {record} is damaged; restore the file from a backup")]
    DamagedLog {
        /// The log.
        path: PathBuf,
        /// Index of the record.
        record: u64,
    },
    /// A write to the log failed earlier, so what it holds is unknown until the next start.
    #[error("log {0} failed to write earlier; restart the operator")]
    LogBroken(PathBuf),
    /// Another receipt was logged for this place in the line. Signing would be equivocation.
    #[error("line {line_id} seq {seq} is taken by receipt {logged}, refusing to sign {other}")]
    Equivocation {
        /// Exposure line.
        line_id: B256,
        /// Place in the line.
        seq: u64,
        /// Receipt in the log.
        logged: B256,
        /// Receipt that should be signed.
        other: B256,
    },
    /// A job file that is not what this program writes.
    #[error("job file {path}: {reason}")]
    JobFile {
        /// The file.
        path: PathBuf,
        /// First violation.
        reason: String,
    },
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// A receipt that this operator built itself does not check.
    #[error("own receipt: {0}")]
    Receipt(#[from] ReceiptError),
    /// The model did not run.
    #[error("model {model_id}: {reason}")]
    Model {
        /// The model.
        model_id: B256,
        /// Cause.
        reason: String,
    },
    /// The socket.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Address.
        address: String,
        /// Cause.
        source: std::io::Error,
    },
}

/// Why a request is not served. Each maps to one HTTP status in `api`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A field breaks a rule.
    #[error("{0}")]
    Malformed(#[from] ReceiptError),
    /// Not served here.
    #[error("model {0} is not served here")]
    UnknownModel(B256),
    /// The request names another model than the call.
    #[error("the request binds model {request}, the call names {call}")]
    OtherModel {
        /// Model in the signed request.
        request: B256,
        /// Model of the call.
        call: B256,
    },
    /// Other operator semantics.
    #[error("semantics is {have}, this model has {want}")]
    Semantics {
        /// In the request.
        have: u32,
        /// Of the model.
        want: u32,
    },
    /// Input and salt do not open the commitment.
    #[error("input and salt do not open the request's input commitment")]
    InputCommitment,
    /// The input is not a tensor this model takes.
    #[error("input: {0}")]
    Input(String),
    /// The sampling statement is missing, of no meaning, or another than the request's.
    #[error("sampling statement: {0}")]
    Statement(String),
    /// The grammar is missing, no grammar, or another than the statement's.
    #[error("grammar: {0}")]
    Grammar(String),
    /// Prompt and answer have more tokens than the model takes.
    #[error("{prompt} tokens of prompt and {max_out} of answer, the model takes {limit} together")]
    Context {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most tokens of the answer.
        max_out: u32,
        /// Positions of the model.
        limit: u32,
    },
    /// The same request is being answered.
    #[error("request {0} is being answered")]
    Running(B256),
    /// The line belongs to another pair of operator and requester, or another key signed.
    #[error("line {have} is not the line of operator {operator} and requester {requester}")]
    Line {
        /// Line of the request.
        have: B256,
        /// This operator.
        operator: Address,
        /// Who signed the request.
        requester: Address,
    },
    /// A gap in the line.
    #[error("seq is {have}, line expects {want}")]
    Sequence {
        /// Of the request.
        have: u64,
        /// Next in the line.
        want: u64,
    },
    /// The place in the line is taken by a receipt for another request.
    #[error("seq {seq} is taken by receipt {claim_id} for another request")]
    Taken {
        /// Place in the line.
        seq: u64,
        /// Receipt that holds it.
        claim_id: B256,
        /// Next free place in the line.
        next: u64,
    },
    /// Too late.
    #[error("request expired at {expiry}, chain time is {now}")]
    Expired {
        /// Of the request, chain seconds.
        expiry: u64,
        /// Chain seconds.
        now: u64,
    },
    /// The price is higher.
    #[error("price is {price} usd units, the request authorises {max_fee}")]
    Price {
        /// Fee of one call.
        price: u128,
        /// Highest fee of the request.
        max_fee: u128,
    },
    /// The buyer's balance in the claims module does not cover this and earlier unsettled jobs.
    #[error(
        "balance of {requester} is {have} usd units, {need} needed; deposit more with `claims.deposit`"
    )]
    Balance {
        /// Who pays.
        requester: Address,
        /// Balance in the claims module.
        have: u128,
        /// Fees of this and of earlier jobs that are not asserted yet.
        need: u128,
    },
    /// The operator's stake is in use.
    #[error(
        "free stake is {free} wei, this job needs {need}; ask again when earlier jobs are final"
    )]
    Stake {
        /// Free stake less what unasserted jobs will lock.
        free: u128,
        /// Exposure of this job.
        need: u128,
    },
    /// No tier in common.
    #[error("tiers {mask:#09b} asked, this operator offers optimistic and, of provable models, zk")]
    Tier {
        /// Of the request.
        mask: u8,
    },
    /// A proof is asked for, and there will be none.
    #[error("model {model_id} is not provable here: {reason}")]
    NotProvable {
        /// The model.
        model_id: B256,
        /// Why.
        reason: String,
    },
    /// Window or audit probability the operator does not offer.
    #[error("`{field}` of {have} asked, this operator offers {low} to {high}")]
    Terms {
        /// Field of the request.
        field: &'static str,
        /// Asked.
        have: u64,
        /// Least.
        low: u64,
        /// Most.
        high: u64,
    },
    /// No stake covers these terms.
    #[error("no exposure covers these terms: {0}")]
    Unpriced(String),
    /// The queue is full.
    #[error("{waiting} jobs wait, the queue holds {limit}")]
    Busy {
        /// Jobs waiting or running.
        waiting: usize,
        /// Most.
        limit: usize,
    },
    /// The line has receipts on the chain that this operator's log does not know.
    #[error(
        "line {line_id} stands at {chain} on the chain and at {log} in this operator's log; start it with its old data folder"
    )]
    ForeignLine {
        /// Exposure line.
        line_id: B256,
        /// Last asserted place.
        chain: u64,
        /// Last logged place.
        log: u64,
    },
}

/// A refusal or a failure.
#[derive(Debug, Error)]
pub enum RunError {
    /// The requester's fault, or no room.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The operator's fault.
    #[error(transparent)]
    Failed(#[from] OperatorError),
}

impl From<ClientError> for RunError {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.into())
    }
}
