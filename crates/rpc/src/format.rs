//! The JSON shapes of blocks, transactions, receipts and logs.

use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::{B256, Bytes, U256, hex};
use alloy_rlp::Encodable as _;
use assay_chain::{FoundLog, MinedBlock};
use assay_types::{Recovered, logs_bloom};
use serde_json::{Map, Value, json};

/// A quantity: 0x, no leading zeros.
pub(crate) fn quantity(number: impl Into<u128>) -> Value {
    Value::String(format!("{:#x}", number.into()))
}

/// A 256-bit quantity.
pub(crate) fn wide(number: U256) -> Value {
    Value::String(format!("{number:#x}"))
}

/// Bytes: 0x and two digits per byte.
pub(crate) fn data(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(hex::encode_prefixed(bytes))
}

/// Header members, in the order that geth uses.
pub(crate) fn header(header: &Header, hash: B256) -> Map<String, Value> {
    let value = json!({
        "number": quantity(header.number),
        "hash": hash,
        "parentHash": header.parent_hash,
        "nonce": header.nonce,
        "mixHash": header.mix_hash,
        "sha3Uncles": header.ommers_hash,
        "logsBloom": header.logs_bloom,
        "transactionsRoot": header.transactions_root,
        "stateRoot": header.state_root,
        "receiptsRoot": header.receipts_root,
        "miner": header.beneficiary,
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": header.extra_data,
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": header.base_fee_per_gas.map(quantity),
        "withdrawalsRoot": header.withdrawals_root,
        "blobGasUsed": header.blob_gas_used.map(quantity),
        "excessBlobGas": header.excess_blob_gas.map(quantity),
        "parentBeaconBlockRoot": header.parent_beacon_block_root,
        "requestsHash": header.requests_hash,
    });
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A block; `full` puts whole transactions instead of hashes.
pub(crate) fn block(mined: &MinedBlock, full: bool) -> Value {
    let block = &mined.block;
    let mut members = header(&block.header, block.hash);
    let bytes: usize = block.transactions.iter().map(|it| it.raw().len()).sum();
    let size = block.header.length().saturating_add(bytes);
    members.insert("size".into(), quantity(size as u64));
    let transactions = (0u64..)
        .zip(&block.transactions)
        .map(|(index, it)| {
            if full {
                transaction(it, Some((&block.header, block.hash, index)))
            } else {
                json!(it.hash())
            }
        })
        .collect();
    members.insert("transactions".into(), Value::Array(transactions));
    members.insert("uncles".into(), json!([]));
    members.insert("withdrawals".into(), json!([]));
    Value::Object(members)
}

/// A transaction, pooled or mined.
pub(crate) fn transaction(transaction: &Recovered, place: Option<(&Header, B256, u64)>) -> Value {
    let envelope = serde_json::to_value(transaction.transaction()).unwrap_or_default();
    let mut members = match envelope {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.insert("hash".into(), json!(transaction.hash()));
    members.insert("from".into(), json!(transaction.sender()));
    let base_fee = place.and_then(|(header, ..)| header.base_fee_per_gas);
    let price = match base_fee {
        Some(base_fee) => transaction.gas_price(base_fee),
        None => transaction.max_fee_per_gas(),
    };
    members.insert("gasPrice".into(), quantity(price));
    let (hash, number, index) = match place {
        Some((header, hash, index)) => (json!(hash), quantity(header.number), quantity(index)),
        None => (Value::Null, Value::Null, Value::Null),
    };
    members.insert("blockHash".into(), hash);
    members.insert("blockNumber".into(), number);
    members.insert("transactionIndex".into(), index);
    Value::Object(members)
}

/// The receipt of the transaction at `index`; `None` when there is no such index.
pub(crate) fn receipt(mined: &MinedBlock, index: usize) -> Option<Value> {
    let receipt = mined.receipts.get(index)?;
    let transaction = mined.block.transactions.get(index)?;
    let first_log: usize = mined
        .receipts
        .iter()
        .take(index)
        .map(|it| it.logs.len())
        .sum();
    let header = &mined.block.header;
    let logs: Vec<Value> = (first_log as u64..)
        .zip(&receipt.logs)
        .map(|(log_index, it)| {
            log(&FoundLog {
                log: it.clone(),
                number: header.number,
                block_hash: mined.block.hash,
                timestamp: header.timestamp,
                transaction_hash: transaction.hash(),
                transaction_index: index as u64,
                log_index,
            })
        })
        .collect();
    Some(json!({
        "transactionHash": transaction.hash(),
        "transactionIndex": quantity(index as u64),
        "blockHash": mined.block.hash,
        "blockNumber": quantity(header.number),
        "from": transaction.sender(),
        "to": transaction.to(),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
        "gasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(receipt.effective_gas_price),
        "contractAddress": receipt.contract_address(),
        "logs": logs,
        "logsBloom": logs_bloom(&receipt.logs),
        "status": quantity(u8::from(receipt.success)),
        "type": quantity(receipt.kind),
    }))
}

/// A log with its place.
pub(crate) fn log(found: &FoundLog) -> Value {
    json!({
        "address": found.log.address,
        "topics": found.log.topics(),
        "data": found.log.data.data,
        "blockHash": found.block_hash,
        "blockNumber": quantity(found.number),
        "blockTimestamp": quantity(found.timestamp),
        "transactionHash": found.transaction_hash,
        "transactionIndex": quantity(found.transaction_index),
        "logIndex": quantity(found.log_index),
        "removed": false,
    })
}

/// Proof nodes as a list of byte strings.
pub(crate) fn nodes(nodes: &[Bytes]) -> Value {
    Value::Array(nodes.iter().map(data).collect())
}
