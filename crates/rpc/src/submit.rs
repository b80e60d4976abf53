//! Transactions coming in.

use alloy_primitives::Bytes;
use serde_json::{Value, json};

use crate::format::quantity;
use crate::params::Params;
use crate::{Api, RpcError};

impl Api {
    pub(crate) fn send_raw_transaction(&self, mut params: Params) -> Result<Value, RpcError> {
        let raw: Bytes = params.required(0)?;
        Ok(json!(self.chain.submit(raw)?))
    }

    pub(crate) fn pool_status(&self) -> Value {
        let status = self.chain.pool_status();
        json!({
            "pending": quantity(status.pending as u64),
            "queued": quantity(status.queued as u64),
        })
    }
}
