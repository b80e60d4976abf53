//! JSON-RPC over HTTP: one request, one typed answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U256, hex};
use alloy_sol_types::SolCall;
use assay_abi::IClock;
use assay_receipt::Domain;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{ClientError, describe_revert};

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// Longest time until a transaction is in a block.
    pub inclusion_timeout: Duration,
    /// Time between two looks for a transaction.
    pub poll_interval: Duration,
    /// How often a read is repeated after the node was not reached. Writes are repeated byte for byte only.
    pub read_retries: u32,
    /// Largest answer, bytes.
    pub max_answer: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            inclusion_timeout: Duration::from_secs(60),
            poll_interval: Duration::from_millis(50),
            read_retries: 2,
            max_answer: 64 << 20,
        }
    }
}

/// A blocking client of one node. Cheap to clone; clones share connections and nonces.
#[derive(Clone, Debug)]
pub struct ChainClient {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    url: String,
    agent: ureq::Agent,
    next_id: AtomicU64,
    chain_id: OnceLock<u64>,
    pub(crate) options: ClientOptions,
    /// Next nonce of each sender; held while a transaction is signed and handed over.
    pub(crate) nonces: Mutex<HashMap<Address, Arc<Mutex<Option<u64>>>>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: i64,
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

impl ChainClient {
    /// A client of the node at `url` (`http://host:port`). Nothing is sent yet.
    pub fn new(url: impl Into<String>) -> Self {
        Self::with_options(url, ClientOptions::default())
    }

    /// A client with other limits.
    pub fn with_options(url: impl Into<String>, options: ClientOptions) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(options.request_timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        Self {
            shared: Arc::new(Shared {
                url: url.into(),
                agent,
                next_id: AtomicU64::new(1),
                chain_id: OnceLock::new(),
                options,
                nonces: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// Address of the node.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Sends one request and reads the answer as `T`.
    ///
    /// # Errors
    /// [`ClientError::Transport`], [`ClientError::Rpc`], [`ClientError::Reverted`], [`ClientError::Answer`].
    pub fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, ClientError> {
        let value = self.request_value(method, &params)?;
        serde_json::from_value(value).map_err(|error| ClientError::Answer {
            method: method.to_owned(),
            reason: error.to_string(),
        })
    }

    /// As [`ChainClient::request`], repeated while the node is not reached. For reads, which change nothing.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, ClientError> {
        let mut left = self.shared.options.read_retries;
        loop {
            match self.request(method, params.clone()) {
                Err(ClientError::Transport { .. }) if left > 0 => {
                    left -= 1;
                    std::thread::sleep(self.shared.options.poll_interval);
                }
                outcome => return outcome,
            }
        }
    }

    fn request_value(&self, method: &str, params: &Value) -> Result<Value, ClientError> {
        let transport = |reason: String| ClientError::Transport {
            method: method.to_owned(),
            url: self.shared.url.clone(),
            reason,
        };
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut response = self
            .shared
            .agent
            .post(&self.shared.url)
            .send_json(&body)
            .map_err(|error| transport(error.to_string()))?;
        let status = response.status();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(self.shared.options.max_answer)
            .read_to_vec()
            .map_err(|error| transport(error.to_string()))?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            if status.is_success() {
                ClientError::Answer {
                    method: method.to_owned(),
                    reason: error.to_string(),
                }
            } else {
                transport(format!("HTTP status {status}"))
            }
        })?;
        match answer.error {
            Some(error) => Err(rpc_error(method, error)),
            None => Ok(answer.result.unwrap_or(Value::Null)),
        }
    }

    /// EIP-155 chain id; asked once.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn chain_id(&self) -> Result<u64, ClientError> {
        if let Some(id) = self.shared.chain_id.get() {
            return Ok(*id);
        }
        let id = self.read_u64("eth_chainId", json!([]))?;
        Ok(*self.shared.chain_id.get_or_init(|| id))
    }

    /// EIP-712 domain of receipts on this chain.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn domain(&self) -> Result<Domain, ClientError> {
        Ok(Domain::new(self.chain_id()?, assay_abi::CLAIMS))
    }

    /// Height of the last block.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn block_number(&self) -> Result<u64, ClientError> {
        self.read_u64("eth_blockNumber", json!([]))
    }

    /// Native balance, wei.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn balance(&self, account: Address) -> Result<U256, ClientError> {
        self.read("eth_getBalance", json!([account, "latest"]))
    }

    /// Transactions sent by `account`, those waiting included.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn nonce(&self, account: Address) -> Result<u64, ClientError> {
        self.read_u64("eth_getTransactionCount", json!([account, "pending"]))
    }

    /// Value of a storage slot.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn storage(&self, account: Address, slot: B256) -> Result<B256, ClientError> {
        self.read("eth_getStorageAt", json!([account, slot, "latest"]))
    }

    /// Chain time in seconds (module `clock`); receipts are dated by it.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn chain_seconds(&self) -> Result<u64, ClientError> {
        self.call(assay_abi::CLOCK, &IClock::nowSecondsCall {})
    }

    /// Chain time in milliseconds (module `clock`); deadlines are in it.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn chain_millis(&self) -> Result<u64, ClientError> {
        self.call(assay_abi::CLOCK, &IClock::nowMsCall {})
    }

    /// Calls a function without a transaction.
    ///
    /// # Errors
    /// [`ClientError::Reverted`] when the contract refuses; see [`ChainClient::request`] for the rest.
    pub fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, ClientError> {
        let data: Bytes = self.read(
            "eth_call",
            json!([{"to": to, "data": hex::encode_prefixed(call.abi_encode())}, "latest"]),
        )?;
        C::abi_decode_returns(&data).map_err(|error| ClientError::Answer {
            method: C::SIGNATURE.to_owned(),
            reason: if data.is_empty() {
                format!("nothing at {to} answers")
            } else {
                error.to_string()
            },
        })
    }

    /// Calls a function as `from` with `value` wei; tells what a transaction would meet.
    ///
    /// # Errors
    /// As [`ChainClient::call`].
    pub fn simulate<C: SolCall>(
        &self,
        from: Address,
        to: Address,
        call: &C,
        value: U256,
    ) -> Result<(), ClientError> {
        let data = hex::encode_prefixed(call.abi_encode());
        let _: Bytes = self.read(
            "eth_call",
            json!([{"from": from, "to": to, "data": data, "value": value}, "latest"]),
        )?;
        Ok(())
    }

    /// Development networks only: moves the clock forward and makes a block.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] where the node does not offer it.
    pub fn increase_time(&self, seconds: u64) -> Result<(), ClientError> {
        let _: Value = self.request("evm_increaseTime", json!([seconds]))?;
        let _: Value = self.request("evm_mine", json!([]))?;
        Ok(())
    }

    pub(crate) fn read_u64(&self, method: &str, params: Value) -> Result<u64, ClientError> {
        let number: U64 = self.read(method, params)?;
        Ok(number.to())
    }
}

fn rpc_error(method: &str, error: AnswerError) -> ClientError {
    if let Some(data) = revert_data(error.data.as_ref()) {
        return ClientError::Reverted(describe_revert(&data));
    }
    if error.code == 3 || error.message.starts_with("execution reverted") {
        return ClientError::Reverted(describe_revert(&[]));
    }
    ClientError::Rpc {
        method: method.to_owned(),
        code: error.code,
        message: error
            .message
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect(),
    }
}

/// Revert data as `error.data`, or inside an object as some nodes send it.
fn revert_data(data: Option<&Value>) -> Option<Vec<u8>> {
    let text = match data? {
        Value::String(text) => text,
        Value::Object(object) => object.get("data")?.as_str()?,
        _ => return None,
    };
    let bytes = hex::decode(text).ok()?;
    (bytes.len() >= 4).then_some(bytes)
}
