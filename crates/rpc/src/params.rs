//! Decoding of positional parameters.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::U256;
use assay_chain::BlockRef;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::RpcError;

/// Positional parameters of one request.
#[derive(Debug)]
pub(crate) struct Params(Vec<Value>);

impl Params {
    /// An array, or nothing.
    pub(crate) fn new(value: Option<Value>) -> Result<Self, RpcError> {
        match value {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(values)) => Ok(Self(values)),
            Some(Value::Object(_)) => Err(RpcError::params("non-array args")),
            Some(_) => Err(RpcError::params("params must be an array")),
        }
    }

    /// Parameter `at`, which must be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, at: usize) -> Result<T, RpcError> {
        match self.take(at) {
            None => Err(RpcError::params(format!(
                "missing value for required argument {at}"
            ))),
            Some(value) => decode(at, value),
        }
    }

    /// Parameter `at`, or `None` when it is missing or null.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        at: usize,
    ) -> Result<Option<T>, RpcError> {
        self.take(at).map(|value| decode(at, value)).transpose()
    }

    /// Block parameter `at`: tag, number, hash, or an EIP-1898 object; the newest when missing.
    pub(crate) fn block(&mut self, at: usize) -> Result<BlockRef, RpcError> {
        Ok(match self.optional::<BlockId>(at)? {
            None => BlockRef::Latest,
            Some(BlockId::Hash(hash)) => BlockRef::Hash(hash.block_hash),
            Some(BlockId::Number(tag)) => tag_ref(tag),
        })
    }

    /// Storage slot `at`: a 32-byte word or a shorter quantity.
    pub(crate) fn slot(&mut self, at: usize) -> Result<U256, RpcError> {
        slot(&self.required::<String>(at)?)
    }

    fn take(&mut self, at: usize) -> Option<Value> {
        self.0
            .get_mut(at)
            .map(Value::take)
            .filter(|value| !value.is_null())
    }
}

/// A slot in hex, at most 32 bytes, leading zeros allowed.
pub(crate) fn slot(text: &str) -> Result<U256, RpcError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || digits.len() > 64 {
        return Err(RpcError::params(format!(
            "storage slot of {} hex digits, want 1 to 64",
            digits.len()
        )));
    }
    U256::from_str_radix(digits, 16)
        .map_err(|error| RpcError::params(format!("storage slot: {error}")))
}

pub(crate) fn tag_ref(tag: BlockNumberOrTag) -> BlockRef {
    match tag {
        BlockNumberOrTag::Latest | BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized => {
            BlockRef::Latest
        }
        BlockNumberOrTag::Pending => BlockRef::Pending,
        BlockNumberOrTag::Earliest => BlockRef::Number(0),
        BlockNumberOrTag::Number(number) => BlockRef::Number(number),
    }
}

fn decode<T: DeserializeOwned>(at: usize, value: Value) -> Result<T, RpcError> {
    serde_json::from_value(value)
        .map_err(|error| RpcError::params(format!("invalid argument {at}: {error}")))
}
