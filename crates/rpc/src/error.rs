//! JSON-RPC errors: each of our errors has one code (specification chain.md section 14).

use assay_chain::{ChainError, ExecutionError, PoolError, StateError};
use assay_types::TransactionError;
use serde_json::{Value, json};
use thiserror::Error;

/// Codes in use.
pub mod code {
    /// Body is not JSON.
    pub const PARSE: i64 = -32_700;
    /// JSON, but not a request.
    pub const INVALID_REQUEST: i64 = -32_600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32_601;
    /// Parameters do not decode.
    pub const INVALID_PARAMS: i64 = -32_602;
    /// The node failed.
    pub const INTERNAL: i64 = -32_603;
    /// Refused by pool or execution; the text says why.
    pub const SERVER: i64 = -32_000;
    /// The state of that block is pruned.
    pub const STATE_NOT_AVAILABLE: i64 = -32_001;
    /// A limit of this server.
    pub const LIMIT: i64 = -32_005;
    /// Execution reverted.
    pub const REVERT: i64 = 3;
}

/// An error as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// One of [`code`].
    pub code: i64,
    /// Text for people and for SDKs that match on it.
    pub message: String,
    /// Revert data as a 0x string, or nothing.
    pub data: Option<Value>,
}

impl RpcError {
    /// Any code with a text.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// Parameters that do not decode.
    pub fn params(message: impl std::fmt::Display) -> Self {
        Self::new(code::INVALID_PARAMS, message.to_string())
    }

    /// A limit of this server was reached.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(code::LIMIT, message)
    }

    /// No such method. The text is geth's.
    pub fn method(name: &str) -> Self {
        Self::new(
            code::METHOD_NOT_FOUND,
            format!("the method {name} does not exist/is not available"),
        )
    }

    /// The `error` member of a response.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Some(data) => json!({"code": self.code, "message": self.message, "data": data}),
            None => json!({"code": self.code, "message": self.message}),
        }
    }
}

impl From<PoolError> for RpcError {
    fn from(error: PoolError) -> Self {
        let code = match &error {
            PoolError::Transaction(
                TransactionError::UnsupportedType(_)
                | TransactionError::Malformed(_)
                | TransactionError::NotCanonical { .. },
            ) => code::INVALID_PARAMS,
            PoolError::View(_) | PoolError::Stopped => code::INTERNAL,
            PoolError::Transaction(_)
            | PoolError::Invalid(_)
            | PoolError::AlreadyKnown(_)
            | PoolError::NonceTooLow { .. }
            | PoolError::NonceGap { .. }
            | PoolError::ReplacementUnderpriced
            | PoolError::Underpriced { .. }
            | PoolError::InsufficientFunds { .. }
            | PoolError::BlockGas { .. }
            | PoolError::AccountLimit { .. }
            | PoolError::Delegated
            | PoolError::Full { .. } => code::SERVER,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ExecutionError> for RpcError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::Invalid(reason) => Self::new(code::SERVER, reason.to_string()),
            ExecutionError::Fatal(detail) => Self::new(code::INTERNAL, detail),
        }
    }
}

impl From<ChainError> for RpcError {
    fn from(error: ChainError) -> Self {
        let code = match &error {
            ChainError::State(StateError::NotAvailable { .. }) => code::STATE_NOT_AVAILABLE,
            _ => code::INTERNAL,
        };
        Self::new(code, error.to_string())
    }
}
