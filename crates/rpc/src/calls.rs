//! `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, TxKind, U256};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_eth::state::StateOverride;
use assay_chain::{
    AccountOverride, BlockRef, CallRequest, ExecutionError, InvalidReason, TransactionOutcome,
};
use serde_json::{Value, json};

use crate::format::{data, quantity};
use crate::params::Params;
use crate::revert::reverted;
use crate::{Api, RpcError, code};

/// After this long an estimate stops searching (specification chain.md section 14).
const CALL_TIME: Duration = Duration::from_secs(5);

impl Api {
    pub(crate) fn eth_call(&self, mut params: Params) -> Result<Value, RpcError> {
        let request = self.request(params.required(0)?)?;
        let block = params.block(1)?;
        let overrides = overrides(params.optional(2)?);
        let outcome = self
            .chain
            .with_caller(block, |caller| {
                for (address, change) in overrides {
                    caller.apply(address, change)?;
                }
                caller.call(&request)
            })?
            .ok_or_else(|| no_block(block))??;
        if outcome.result.success {
            Ok(data(outcome.result.output))
        } else {
            Err(failed(&outcome.result, request.gas))
        }
    }

    pub(crate) fn create_access_list(&self, mut params: Params) -> Result<Value, RpcError> {
        let request = self.request(params.required(0)?)?;
        let block = params.block(1)?;
        let outcome = self
            .chain
            .with_caller(block, |caller| caller.call(&request))?
            .ok_or_else(|| no_block(block))??;
        let mut answer = json!({
            "accessList": outcome.access_list,
            "gasUsed": quantity(outcome.result.gas_used),
        });
        if !outcome.result.success
            && let Some(members) = answer.as_object_mut()
        {
            let error = failed(&outcome.result, request.gas);
            members.insert("error".into(), Value::String(error.message));
        }
        Ok(answer)
    }

    pub(crate) fn estimate_gas(&self, mut params: Params) -> Result<Value, RpcError> {
        let mut request = self.request(params.required(0)?)?;
        let block = match params.block(1)? {
            BlockRef::Latest => BlockRef::Pending,
            other => other,
        };
        let overrides = overrides(params.optional(2)?);
        let deadline = Instant::now() + CALL_TIME;
        let estimate = self
            .chain
            .with_caller(block, |caller| -> Result<_, ExecutionError> {
                for (address, change) in overrides {
                    caller.apply(address, change)?;
                }
                if request.gas_price > 0 {
                    let balance = caller.balance(request.from)?;
                    let spendable = balance.checked_sub(request.value).ok_or({
                        ExecutionError::Invalid(InvalidReason::InsufficientFunds {
                            sender: request.from,
                            balance,
                            cost: request.value,
                        })
                    })?;
                    let affordable = spendable / U256::from(request.gas_price);
                    request.gas = request.gas.min(affordable.saturating_to());
                }
                caller.estimate(&request, &|| Instant::now() < deadline)
            })?
            .ok_or_else(|| no_block(block))?;
        match estimate {
            Ok(Ok(gas)) => Ok(quantity(gas)),
            Ok(Err(outcome)) => Err(failed(&outcome, request.gas)),
            Err(ExecutionError::Invalid(
                InvalidReason::IntrinsicGas { .. } | InvalidReason::FloorGas { .. },
            )) => Err(allowance(request.gas)),
            Err(error) => Err(error.into()),
        }
    }

    fn request(&self, request: TransactionRequest) -> Result<CallRequest, RpcError> {
        let to = match request.to {
            Some(TxKind::Call(to)) => Some(to),
            Some(TxKind::Create) | None => None,
        };
        if request
            .blob_versioned_hashes
            .as_ref()
            .is_some_and(|blobs| !blobs.is_empty())
        {
            return Err(RpcError::params("blob transactions are not supported"));
        }
        let price = request.gas_price.or(request.max_fee_per_gas);
        let data = request
            .input
            .try_into_unique_input()
            .map_err(RpcError::params)?
            .unwrap_or_default();
        Ok(CallRequest {
            from: request.from.unwrap_or_default(),
            to,
            gas: request
                .gas
                .unwrap_or(self.config.call_gas)
                .min(self.config.call_gas),
            gas_price: price.unwrap_or(0),
            value: request.value.unwrap_or_default(),
            data,
            access_list: request.access_list.unwrap_or_default(),
            authorization_list: request.authorization_list.unwrap_or_default(),
        })
    }
}

fn no_block(block: BlockRef) -> RpcError {
    RpcError::new(code::SERVER, format!("header not found: {block:?}"))
}

fn allowance(gas: u64) -> RpcError {
    RpcError::new(
        code::SERVER,
        format!("gas required exceeds allowance ({gas})"),
    )
}

fn failed(outcome: &TransactionOutcome, gas: u64) -> RpcError {
    match &outcome.halt {
        None => reverted(&outcome.output),
        Some(halt) if halt.to_lowercase().contains("out of gas") => allowance(gas),
        Some(halt) => RpcError::new(code::SERVER, halt.clone()),
    }
}

fn overrides(changes: Option<StateOverride>) -> Vec<(Address, AccountOverride)> {
    let words = |map: alloy_primitives::map::B256HashMap<alloy_primitives::B256>| {
        map.into_iter()
            .map(|(slot, word)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(word.0)))
            .collect::<Vec<_>>()
    };
    changes
        .unwrap_or_default()
        .into_iter()
        .map(|(address, change)| {
            let change = AccountOverride {
                balance: change.balance,
                nonce: change.nonce,
                code: change.code,
                state: change.state.map(words),
                state_diff: change.state_diff.map(words).unwrap_or_default(),
            };
            (address, change)
        })
        .collect()
}
