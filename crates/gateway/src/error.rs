//! Errors as OpenAI's clients read them: one table from what went wrong to status, type and code.

use std::path::PathBuf;

use alloy_primitives::B256;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use thiserror::Error;

use crate::CodecError;

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] assay_wallet::ClientError),
    /// Disk.
    #[error("{path}: {source}")]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A file that is not what this program writes.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// First violation.
        reason: String,
    },
    /// An account's name cannot name a folder.
    #[error("account name `{0}` must be 1 to 64 of a-z, 0-9, - and _")]
    AccountName(String),
    /// Two accounts or models share a name or key.
    #[error("{what} `{name}` is there twice")]
    Twice {
        /// `account`, `API key` or `model`.
        what: &'static str,
        /// Its name (for API keys: the account's).
        name: String,
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

/// Why there is no proof of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofRefusal {
    /// The operator makes none.
    Off,
    /// Nobody asked for it.
    NotAsked,
    /// The claim was rejected.
    Rejected,
    /// The model or the run has none.
    NotProvable,
    /// The operator's queue is full.
    Full,
}

impl ProofRefusal {
    const fn row(self) -> (StatusCode, &'static str) {
        match self {
            Self::Off => (StatusCode::FORBIDDEN, "proofs_off"),
            Self::NotAsked => (StatusCode::NOT_FOUND, "no_proof"),
            Self::Rejected => (StatusCode::CONFLICT, "rejected"),
            Self::NotProvable => (StatusCode::UNPROCESSABLE_ENTITY, "not_provable"),
            Self::Full => (StatusCode::TOO_MANY_REQUESTS, "proofs_full"),
        }
    }
}

/// What a client is told. `message` never contains a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// A parameter is wrong or not supported.
    #[error("{message}")]
    Invalid {
        /// In words.
        message: String,
        /// Name of the parameter.
        param: &'static str,
    },
    /// More tokens than the model takes.
    #[error("{message}")]
    ContextLength {
        /// Both numbers, in words.
        message: String,
        /// Name of the parameter.
        param: &'static str,
    },
    /// No or an unknown API key.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The account cannot pay.
    #[error("{0}")]
    PaymentRequired(String),
    /// The request names a host this gateway does not serve.
    #[error("host `{0}` is not served here")]
    Host(String),
    /// A web page of another origin called.
    #[error("pages of origin `{0}` may not call this gateway")]
    Origin(String),
    /// No such model.
    #[error("{0}")]
    ModelNotFound(String),
    /// No such receipt or path.
    #[error("{0}")]
    NotFound(String),
    /// The path exists, the method does not.
    #[error("{0}")]
    Method(&'static str),
    /// The body is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body did not come in time, seconds.
    #[error("the body did not come within {0} seconds")]
    SlowBody(u64),
    /// Too many calls.
    #[error("{waiting} calls wait, the queue holds {limit}; try again in a second")]
    Busy {
        /// Calls waiting or running.
        waiting: usize,
        /// Most.
        limit: usize,
    },
    /// Every operator of the model has a full queue.
    #[error("every operator of this model is busy; try again in a second")]
    OperatorsBusy,
    /// The answer took too long, seconds.
    #[error("no complete answer within {0} seconds")]
    Timeout(u64),
    /// The gateway stops.
    #[error("this gateway stops; try again in a second")]
    Stopping,
    /// No operator answers for this model.
    #[error("{0}")]
    NoOperator(String),
    /// No proof, or not yet.
    #[error("{message}")]
    Proof {
        /// Which of the reasons.
        why: ProofRefusal,
        /// In words.
        message: String,
    },
    /// Every operator that answered gave a receipt that does not check. Not to be tried again at once.
    #[error("{0}")]
    BadReceipt(String),
    /// The chain is not reached.
    #[error("the chain is not reached: {0}")]
    Chain(String),
    /// A failure of the gateway itself.
    #[error("{0}")]
    Internal(String),
}

impl HttpError {
    /// Answers that have no proof.
    pub(crate) fn not_provable(reason: impl std::fmt::Display) -> Self {
        Self::Proof {
            why: ProofRefusal::NotProvable,
            message: format!("this answer can't be proven: {reason}"),
        }
    }

    pub(crate) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            param,
        }
    }

    pub(crate) fn codec(param: &'static str, error: &CodecError) -> Self {
        match error {
            CodecError::TooLong { .. } => Self::ContextLength {
                message: error.to_string(),
                param,
            },
            other => Self::invalid(param, other.to_string()),
        }
    }

    /// The same about a parameter that has another name at another endpoint.
    pub(crate) fn with_param(self, from: &str, to: &'static str) -> Self {
        match self {
            Self::Invalid { message, param } if param == from => {
                Self::Invalid { message, param: to }
            }
            other => other,
        }
    }

    /// Status, `error.type`, `error.code`, and whether official clients should try again (`None`: their default).
    pub const fn row(&self) -> (StatusCode, &'static str, &'static str, Option<bool>) {
        const REQUEST: &str = "invalid_request_error";
        match self {
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, REQUEST, "invalid_value", None),
            Self::ContextLength { .. } => (
                StatusCode::BAD_REQUEST,
                REQUEST,
                "context_length_exceeded",
                None,
            ),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, REQUEST, "invalid_api_key", None),
            Self::PaymentRequired(_) => (
                StatusCode::PAYMENT_REQUIRED,
                "payment_required",
                "insufficient_balance",
                Some(false),
            ),
            Self::Host(_) => (StatusCode::FORBIDDEN, REQUEST, "host_not_served", None),
            Self::Origin(_) => (StatusCode::FORBIDDEN, REQUEST, "origin_not_allowed", None),
            Self::ModelNotFound(_) => (StatusCode::NOT_FOUND, REQUEST, "model_not_found", None),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, REQUEST, "not_found", None),
            Self::Method(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                REQUEST,
                "method_not_allowed",
                None,
            ),
            Self::TooLarge(_) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                REQUEST,
                "body_too_large",
                None,
            ),
            Self::SlowBody(_) => (StatusCode::REQUEST_TIMEOUT, REQUEST, "body_timeout", None),
            Self::Timeout(_) => (
                StatusCode::GATEWAY_TIMEOUT,
                "server_error",
                "timeout",
                Some(false),
            ),
            Self::Busy { .. } | Self::OperatorsBusy => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "queue_full",
                Some(true),
            ),
            Self::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "stopping",
                Some(true),
            ),
            Self::NoOperator(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "no_operator",
                Some(true),
            ),
            Self::Proof { why, .. } => {
                let (status, code) = why.row();
                (status, REQUEST, code, None)
            }
            Self::BadReceipt(_) => (
                StatusCode::BAD_GATEWAY,
                "server_error",
                "bad_receipt",
                Some(false),
            ),
            Self::Chain(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "chain_unreachable",
                Some(true),
            ),
            Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "internal",
                Some(false),
            ),
        }
    }

    /// The body: `{"error": {message, type, param, code}}`.
    pub fn body(&self) -> serde_json::Value {
        let (_, kind, code, _) = self.row();
        let param = match self {
            Self::Invalid { param, .. } | Self::ContextLength { param, .. } => Some(*param),
            Self::ModelNotFound(_) => Some("model"),
            _ => None,
        };
        json!({"error": {"message": self.to_string(), "type": kind, "param": param, "code": code}})
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, _, _, retry) = self.row();
        let mut response = (status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(retry) = retry {
            let value = HeaderValue::from_static(if retry { "true" } else { "false" });
            headers.insert("x-should-retry", value);
        }
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<assay_wallet::ClientError> for HttpError {
    fn from(error: assay_wallet::ClientError) -> Self {
        Self::Chain(error.to_string())
    }
}

/// Why one operator's answer is not used; the next operator is tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum OperatorFault {
    /// Not reached, or no answer in time.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("refused ({code}): {message}")]
    Refused { code: String, message: String },
    /// The answer is not what its API returns.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
    /// The receipt does not check.
    #[error("bad receipt {claim_id}: {reason}")]
    Receipt { claim_id: B256, reason: String },
}

impl OperatorFault {
    /// A full queue is no reason to pass an operator over.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "busy")
    }
}
