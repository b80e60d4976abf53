//! Blocks, transactions, accounts and fees.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_rlp::Encodable as _;
use assay_chain::{BlockRef, ChainError, ExecutionError, next_base_fee};
use assay_types::StateView;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::format::{self, data, nodes, quantity, wide};
use crate::params::{Params, slot};
use crate::{Api, RpcError};

/// Blocks that one fee history may cover.
const FEE_HISTORY_BLOCKS: u64 = 1_024;
/// Percentiles that one fee history may ask for.
const FEE_PERCENTILES: usize = 100;
/// Slots that one proof may cover.
const PROOF_SLOTS: usize = 1_024;

/// Numbers come as quantities, decimal numbers or strings.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Count {
    Number(u64),
    Text(String),
}

impl Count {
    pub(crate) fn get(&self) -> Result<u64, RpcError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.parse(),
            }
            .map_err(|error| RpcError::params(format!("number `{text}`: {error}"))),
        }
    }
}

fn missing(block: BlockRef) -> RpcError {
    RpcError::new(crate::code::SERVER, format!("header not found: {block:?}"))
}

fn view_error(error: assay_types::ViewError) -> ChainError {
    ChainError::Execution(ExecutionError::from(error))
}

impl Api {
    pub(crate) fn chain_id(&self) -> Value {
        quantity(self.chain.chain_id())
    }

    pub(crate) fn block_number(&self) -> Value {
        quantity(self.chain.number())
    }

    pub(crate) fn get_balance(&self, mut params: Params) -> Result<Value, RpcError> {
        let address: Address = params.required(0)?;
        let block = params.block(1)?;
        let account = self
            .chain
            .with_state(block, |view| view.account(&address).map_err(view_error))?
            .ok_or_else(|| missing(block))?;
        Ok(wide(account.unwrap_or_default().balance))
    }

    pub(crate) fn get_transaction_count(&self, mut params: Params) -> Result<Value, RpcError> {
        let address: Address = params.required(0)?;
        let block = params.block(1)?;
        if block == BlockRef::Pending {
            return Ok(quantity(self.chain.pending_nonce(&address)?));
        }
        let account = self
            .chain
            .with_state(block, |view| view.account(&address).map_err(view_error))?
            .ok_or_else(|| missing(block))?;
        Ok(quantity(account.unwrap_or_default().nonce))
    }

    pub(crate) fn get_code(&self, mut params: Params) -> Result<Value, RpcError> {
        let address: Address = params.required(0)?;
        let block = params.block(1)?;
        let code = self
            .chain
            .with_state(block, |view| {
                let account = view.account(&address).map_err(view_error)?;
                match account {
                    Some(account) => view.code(&account.code_hash).map_err(view_error),
                    None => Ok(Bytes::new()),
                }
            })?
            .ok_or_else(|| missing(block))?;
        Ok(data(code))
    }

    pub(crate) fn get_storage_at(&self, mut params: Params) -> Result<Value, RpcError> {
        let address: Address = params.required(0)?;
        let slot = params.slot(1)?;
        let block = params.block(2)?;
        let word = self
            .chain
            .with_state(block, |view| view.slot(&address, &slot).map_err(view_error))?
            .ok_or_else(|| missing(block))?;
        Ok(data(word.to_be_bytes::<32>()))
    }

    pub(crate) fn get_proof(&self, mut params: Params) -> Result<Value, RpcError> {
        let address: Address = params.required(0)?;
        let keys: Vec<String> = params.optional(1)?.unwrap_or_default();
        let block = params.block(2)?;
        if keys.len() > PROOF_SLOTS {
            return Err(RpcError::limit(format!(
                "proof of {} slots, limit {PROOF_SLOTS}",
                keys.len()
            )));
        }
        let slots = keys
            .iter()
            .map(|key| slot(key))
            .collect::<Result<Vec<_>, _>>()?;
        let number = self.chain.resolve(block)?.ok_or_else(|| missing(block))?;
        let proof = self.chain.prove(number, address, &slots)?;
        let storage: Vec<Value> = keys
            .iter()
            .zip(&proof.storage)
            .map(
                |(key, it)| json!({"key": key, "value": wide(it.value), "proof": nodes(&it.nodes)}),
            )
            .collect();
        Ok(json!({
            "address": address,
            "accountProof": nodes(&proof.nodes),
            "balance": wide(proof.account.balance),
            "codeHash": proof.account.code_hash,
            "nonce": quantity(proof.account.nonce),
            "storageHash": proof.storage_root,
            "storageProof": storage,
        }))
    }

    pub(crate) fn get_block(&self, mut params: Params) -> Result<Value, RpcError> {
        let block = params.block(0)?;
        let full = params.optional(1)?.unwrap_or(false);
        self.block_json(block, full)
    }

    pub(crate) fn get_block_by_hash(&self, mut params: Params) -> Result<Value, RpcError> {
        let hash: B256 = params.required(0)?;
        let full = params.optional(1)?.unwrap_or(false);
        self.block_json(BlockRef::Hash(hash), full)
    }

    fn block_json(&self, block: BlockRef, full: bool) -> Result<Value, RpcError> {
        let Some(number) = self.chain.resolve(block)? else {
            return Ok(Value::Null);
        };
        let mined = self.chain.block(number)?;
        Ok(mined.map_or(Value::Null, |mined| format::block(&mined, full)))
    }

    pub(crate) fn get_header(&self, mut params: Params) -> Result<Value, RpcError> {
        let block = params.block(0)?;
        self.header_json(block)
    }

    pub(crate) fn get_header_by_hash(&self, mut params: Params) -> Result<Value, RpcError> {
        let hash: B256 = params.required(0)?;
        self.header_json(BlockRef::Hash(hash))
    }

    fn header_json(&self, block: BlockRef) -> Result<Value, RpcError> {
        let Some(number) = self.chain.resolve(block)? else {
            return Ok(Value::Null);
        };
        Ok(self.chain.header(number)?.map_or(Value::Null, |head| {
            let mut members = format::header(&head.header, head.hash);
            members.insert("size".into(), quantity(head.header.length() as u64));
            Value::Object(members)
        }))
    }

    pub(crate) fn get_block_receipts(&self, mut params: Params) -> Result<Value, RpcError> {
        let block = params.block(0)?;
        let Some(number) = self.chain.resolve(block)? else {
            return Ok(Value::Null);
        };
        let Some(mined) = self.chain.block(number)? else {
            return Ok(Value::Null);
        };
        let receipts = (0..mined.receipts.len())
            .filter_map(|index| format::receipt(&mined, index))
            .collect();
        Ok(Value::Array(receipts))
    }

    pub(crate) fn get_block_transaction_count(
        &self,
        mut params: Params,
    ) -> Result<Value, RpcError> {
        let block = params.block(0)?;
        let Some(number) = self.chain.resolve(block)? else {
            return Ok(Value::Null);
        };
        let mined = self.chain.block(number)?;
        Ok(mined.map_or(Value::Null, |it| quantity(it.receipts.len() as u64)))
    }

    pub(crate) fn get_transaction(&self, mut params: Params) -> Result<Value, RpcError> {
        let hash: B256 = params.required(0)?;
        if let Some(pooled) = self.chain.pooled(&hash) {
            return Ok(format::transaction(&pooled, None));
        }
        let Some((mined, index)) = self.chain.mined(&hash)? else {
            return Ok(Value::Null);
        };
        Ok(place(&mined, index))
    }

    pub(crate) fn get_transaction_by_place(&self, mut params: Params) -> Result<Value, RpcError> {
        let block = params.block(0)?;
        let index = params.required::<Count>(1)?.get()?;
        let Some(number) = self.chain.resolve(block)? else {
            return Ok(Value::Null);
        };
        let Some(mined) = self.chain.block(number)? else {
            return Ok(Value::Null);
        };
        Ok(place(&mined, usize::try_from(index).unwrap_or(usize::MAX)))
    }

    pub(crate) fn get_raw_transaction(&self, mut params: Params) -> Result<Value, RpcError> {
        let hash: B256 = params.required(0)?;
        if let Some(pooled) = self.chain.pooled(&hash) {
            return Ok(data(pooled.raw()));
        }
        let found = self.chain.mined(&hash)?.and_then(|(mined, index)| {
            mined.block.transactions.get(index).map(|it| data(it.raw()))
        });
        Ok(found.unwrap_or(Value::Null))
    }

    pub(crate) fn get_transaction_receipt(&self, mut params: Params) -> Result<Value, RpcError> {
        let hash: B256 = params.required(0)?;
        let found = self.chain.mined(&hash)?;
        Ok(found
            .and_then(|(mined, index)| format::receipt(&mined, index))
            .unwrap_or(Value::Null))
    }

    pub(crate) fn gas_price(&self) -> Result<Value, RpcError> {
        let base_fee = u128::from(next_base_fee(&self.chain.head().header));
        Ok(quantity(
            base_fee.saturating_add(self.chain.suggested_tip()?),
        ))
    }

    pub(crate) fn max_priority_fee(&self) -> Result<Value, RpcError> {
        Ok(quantity(self.chain.suggested_tip()?))
    }

    pub(crate) fn fee_history(&self, mut params: Params) -> Result<Value, RpcError> {
        let count = params.required::<Count>(0)?.get()?;
        let block = params.block(1)?;
        let percent: Vec<serde_json::Number> = params.optional(2)?.unwrap_or_default();
        if percent.len() > FEE_PERCENTILES {
            return Err(RpcError::limit(format!(
                "{} percentiles, limit {FEE_PERCENTILES}",
                percent.len()
            )));
        }
        let percent = percent
            .iter()
            .map(hundredths)
            .collect::<Result<Vec<_>, _>>()?;
        if percent.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(RpcError::params("invalid reward percentile: not ascending"));
        }
        let newest = self.chain.resolve(block)?.ok_or_else(|| missing(block))?;
        let history = self
            .chain
            .fee_history(count.min(FEE_HISTORY_BLOCKS), newest, &percent)?;
        let ratios: Vec<f64> = history
            .gas
            .iter()
            .map(|(used, limit)| *used as f64 / (*limit).max(1) as f64)
            .collect();
        let mut answer = json!({
            "oldestBlock": quantity(history.oldest),
            "baseFeePerGas": history.base_fees.iter().map(|fee| quantity(*fee)).collect::<Vec<_>>(),
            "gasUsedRatio": ratios,
            "baseFeePerBlobGas": vec!["0x1"; history.base_fees.len()],
            "blobGasUsedRatio": vec![0.0; history.gas.len()],
        });
        if !percent.is_empty()
            && let Some(members) = answer.as_object_mut()
        {
            let rewards: Vec<Vec<Value>> = history
                .rewards
                .iter()
                .map(|row| row.iter().map(|tip| quantity(*tip)).collect())
                .collect();
            members.insert("reward".into(), json!(rewards));
        }
        Ok(answer)
    }

    pub(crate) fn sha3(&self, mut params: Params) -> Result<Value, RpcError> {
        let bytes: Bytes = params.required(0)?;
        Ok(json!(keccak256(bytes)))
    }

    pub(crate) fn node_info(&self) -> Value {
        let head = self.chain.head();
        json!({
            "version": self.config.version,
            "chainId": quantity(self.chain.chain_id()),
            "sequencing": "solo",
            "sequencer": self.chain.sequencer(),
            "head": {"number": quantity(head.header.number), "hash": head.hash},
            "timestampMillis": quantity(self.chain.timestamp_ms()),
        })
    }

    pub(crate) fn get_certificate(&self, mut params: Params) -> Result<Value, RpcError> {
        let block = params.block(0)?;
        let Some(number) = self.chain.resolve(block)? else {
            return Ok(Value::Null);
        };
        let (Some(head), Some(bytes)) =
            (self.chain.header(number)?, self.chain.certificate(number)?)
        else {
            return Ok(Value::Null);
        };
        let mut rlp = Vec::with_capacity(head.header.length());
        head.header.encode(&mut rlp);
        Ok(json!({
            "type": "solo",
            "number": quantity(number),
            "hash": head.hash,
            "header": data(rlp),
            "sequencer": self.chain.sequencer(),
            "certificate": data(bytes),
        }))
    }
}

fn place(mined: &assay_chain::MinedBlock, index: usize) -> Value {
    let block = &mined.block;
    block.transactions.get(index).map_or(Value::Null, |it| {
        format::transaction(it, Some((&block.header, block.hash, index as u64)))
    })
}

/// A percentile between 0 and 100, in hundredths of a percent.
fn hundredths(number: &serde_json::Number) -> Result<u32, RpcError> {
    let refuse = || RpcError::params(format!("invalid reward percentile: {number}"));
    let percent = number.as_f64().ok_or_else(refuse)?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(refuse());
    }
    Ok((percent * 100.0) as u32)
}
