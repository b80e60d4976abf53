//! Transactions: nonce, fees, signature, inclusion.

use std::sync::Arc;
use std::time::Instant;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind, U64, U128, U256, hex};
use alloy_sol_types::SolCall;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::logs::{ChainLog, RawLog};
use crate::{ChainClient, ClientError, Key};

/// What a transaction may use. The default asks the node.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxOptions {
    /// Native coin to send, wei.
    pub value: U256,
    /// Gas limit; estimated plus a quarter if absent.
    pub gas: Option<u64>,
    /// Tip, wei per gas; asked of the node if absent.
    pub tip: Option<u128>,
}

/// A transaction that is in a block and succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Transaction hash.
    pub hash: B256,
    /// Height of its block.
    pub block: u64,
    /// Gas it used.
    pub gas_used: u64,
    /// Contract it created, if any.
    pub contract: Option<Address>,
    /// Its events.
    pub logs: Vec<ChainLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptAnswer {
    status: U64,
    block_number: U64,
    gas_used: U64,
    #[serde(default)]
    contract_address: Option<Address>,
    logs: Vec<RawLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockAnswer {
    #[serde(default)]
    base_fee_per_gas: Option<U128>,
}

impl ChainClient {
    /// Sends a call as a transaction and waits until it is in a block.
    ///
    /// The gas estimate runs first, so that a refusal costs nothing and comes back as [`ClientError::Reverted`].
    ///
    /// # Errors
    /// [`ClientError::Reverted`] before anything is sent, [`ClientError::Failed`] when it failed in its block,
    /// [`ClientError::NotIncluded`], or see [`ChainClient::request`].
    pub fn send<C: SolCall>(&self, key: &Key, to: Address, call: &C) -> Result<Sent, ClientError> {
        self.transact(
            key,
            TxKind::Call(to),
            call.abi_encode(),
            TxOptions::default(),
        )
    }

    /// As [`ChainClient::send`] with `value` wei.
    ///
    /// # Errors
    /// As [`ChainClient::send`].
    pub fn send_value<C: SolCall>(
        &self,
        key: &Key,
        to: Address,
        call: &C,
        value: U256,
    ) -> Result<Sent, ClientError> {
        let options = TxOptions {
            value,
            ..TxOptions::default()
        };
        self.transact(key, TxKind::Call(to), call.abi_encode(), options)
    }

    /// Sends native coin.
    ///
    /// # Errors
    /// As [`ChainClient::send`].
    pub fn transfer(&self, key: &Key, to: Address, wei: U256) -> Result<Sent, ClientError> {
        let options = TxOptions {
            value: wei,
            ..TxOptions::default()
        };
        self.transact(key, TxKind::Call(to), Vec::new(), options)
    }

    /// Sends any transaction and waits until it is in a block.
    ///
    /// # Errors
    /// As [`ChainClient::send`].
    pub fn transact(
        &self,
        key: &Key,
        to: TxKind,
        input: Vec<u8>,
        options: TxOptions,
    ) -> Result<Sent, ClientError> {
        let hash = self.submit(key, to, &input, options)?;
        match self.confirm(hash) {
            Err(ClientError::Failed { hash, .. }) => Err(ClientError::Failed {
                hash,
                reason: self.why_failed(key.address(), to, &input, options.value),
            }),
            outcome => outcome,
        }
    }

    /// Waits until a transaction handed over with [`ChainClient::submit`] is in a block.
    ///
    /// # Errors
    /// [`ClientError::Failed`] without a reason, [`ClientError::NotIncluded`], or see [`ChainClient::request`].
    pub fn confirm(&self, hash: B256) -> Result<Sent, ClientError> {
        let receipt = self.wait(hash)?;
        if receipt.status == U64::ZERO {
            return Err(ClientError::Failed {
                hash,
                reason: "reverted".into(),
            });
        }
        Ok(Sent {
            hash,
            block: receipt.block_number.to(),
            gas_used: receipt.gas_used.to(),
            contract: receipt.contract_address,
            logs: receipt
                .logs
                .into_iter()
                .filter_map(RawLog::into_log)
                .collect(),
        })
    }

    /// Signs and hands over, without waiting. One transaction of a sender at a time gets its nonce.
    ///
    /// # Errors
    /// [`ClientError::Reverted`] when the gas estimate (made unless `options.gas` is set) meets a refusal; see
    /// [`ChainClient::request`] for the rest.
    pub fn submit(
        &self,
        key: &Key,
        to: TxKind,
        input: &[u8],
        options: TxOptions,
    ) -> Result<B256, ClientError> {
        let chain_id = self.chain_id()?;
        let from = key.address();
        let gas_limit = match options.gas {
            Some(gas) => gas,
            None => self.estimate_gas(from, to, input, options.value)?,
        };
        let (max_fee_per_gas, max_priority_fee_per_gas) = self.fees(options.tip)?;
        let slot = self.nonce_slot(from);
        let mut next = slot.lock();
        for attempt in 0.. {
            let nonce = match *next {
                Some(nonce) => nonce,
                None => self.nonce(from)?,
            };
            let transaction = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value: options.value,
                access_list: Default::default(),
                input: input.to_vec().into(),
            };
            let signature = key.sign_transaction(transaction.signature_hash());
            let envelope = TxEnvelope::from(transaction.into_signed(signature));
            match self.hand_over(&envelope) {
                Ok(()) => {
                    *next = nonce.checked_add(1);
                    return Ok(*envelope.tx_hash());
                }
                // Another process used the nonce; this transaction can never be included, so a new one is safe.
                Err(error) if attempt == 0 && is_nonce_error(&error) => *next = None,
                Err(error) => {
                    *next = None;
                    return Err(error);
                }
            }
        }
        Err(ClientError::Overflow {
            method: "eth_sendRawTransaction".into(),
            what: "attempt",
        })
    }

    /// Hands over signed bytes; repeats them unchanged when the node is not reached, which cannot send twice.
    fn hand_over(&self, envelope: &TxEnvelope) -> Result<(), ClientError> {
        let raw = hex::encode_prefixed(envelope.encoded_2718());
        let outcome: Result<B256, _> = self.read("eth_sendRawTransaction", json!([raw]));
        match outcome {
            Ok(_) => Ok(()),
            Err(ClientError::Rpc { message, .. })
                if message.to_lowercase().contains("already known") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn nonce_slot(&self, account: Address) -> Arc<Mutex<Option<u64>>> {
        Arc::clone(self.shared.nonces.lock().entry(account).or_default())
    }

    /// Gas a transaction needs, plus a quarter for state that changes until it runs.
    fn estimate_gas(
        &self,
        from: Address,
        to: TxKind,
        input: &[u8],
        value: U256,
    ) -> Result<u64, ClientError> {
        let gas = self.read_u64(
            "eth_estimateGas",
            json!([transaction_object(from, to, input, value)]),
        )?;
        Ok(gas.saturating_add(gas / 4))
    }

    /// Highest fee and tip, wei per gas: twice the base fee, so that six full blocks may pass.
    fn fees(&self, tip: Option<u128>) -> Result<(u128, u128), ClientError> {
        let block: BlockAnswer = self.read("eth_getBlockByNumber", json!(["latest", false]))?;
        let base: u128 = block.base_fee_per_gas.unwrap_or_default().to();
        let tip = match tip {
            Some(tip) => tip,
            None => self
                .read::<U128>("eth_maxPriorityFeePerGas", json!([]))
                .map(|tip| tip.to())
                .unwrap_or_default(),
        };
        Ok((base.saturating_mul(2).saturating_add(tip), tip))
    }

    fn wait(&self, hash: B256) -> Result<ReceiptAnswer, ClientError> {
        let start = Instant::now();
        loop {
            let receipt: Option<ReceiptAnswer> =
                self.read("eth_getTransactionReceipt", json!([hash]))?;
            if let Some(receipt) = receipt {
                return Ok(receipt);
            }
            if start.elapsed() > self.shared.options.inclusion_timeout {
                return Err(ClientError::NotIncluded {
                    hash,
                    waited_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
                });
            }
            std::thread::sleep(self.shared.options.poll_interval);
        }
    }

    fn why_failed(&self, from: Address, to: TxKind, input: &[u8], value: U256) -> String {
        let object = transaction_object(from, to, input, value);
        match self.read::<Value>("eth_call", json!([object, "latest"])) {
            Err(error) => error.to_string(),
            Ok(_) => "the state it met has changed since, or it ran out of gas".into(),
        }
    }
}

fn transaction_object(from: Address, to: TxKind, input: &[u8], value: U256) -> Value {
    let mut object = json!({"from": from, "value": value, "data": hex::encode_prefixed(input)});
    if let (TxKind::Call(to), Some(fields)) = (to, object.as_object_mut()) {
        fields.insert("to".into(), json!(to));
    }
    object
}

fn is_nonce_error(error: &ClientError) -> bool {
    matches!(error, ClientError::Rpc { message, .. } if message.to_lowercase().contains("nonce"))
}
