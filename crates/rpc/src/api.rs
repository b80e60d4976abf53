//! The table of methods and the handling of requests and batches.

use std::sync::Arc;

use assay_chain::Chain;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::filters::Filters;
use crate::params::Params;
use crate::{RpcConfig, RpcError, code};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine.
    Local,
    /// Anyone else.
    Remote,
}

/// All JSON-RPC methods over one chain.
#[derive(Debug)]
pub struct Api {
    pub(crate) chain: Arc<Chain>,
    pub(crate) config: RpcConfig,
    pub(crate) filters: Mutex<Filters>,
}

#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    jsonrpc: Option<Value>,
    #[serde(default)]
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) params: Option<Value>,
}

impl Api {
    /// Methods over `chain`, within the limits of `config`.
    pub fn new(chain: Arc<Chain>, config: RpcConfig) -> Self {
        Self {
            filters: Mutex::new(Filters::new(config.filters)),
            chain,
            config,
        }
    }

    /// Answers one HTTP body or WebSocket message: a request or a batch. `None` when nothing is to be sent
    /// (notifications).
    pub fn handle(&self, body: &[u8], peer: Peer) -> Option<Value> {
        match parse(body) {
            Ok(message) => self.answer(message, peer),
            Err(answer) => Some(answer),
        }
    }

    /// As [`Api::handle`], for parsed JSON.
    pub(crate) fn answer(&self, message: Value, peer: Peer) -> Option<Value> {
        match message {
            Value::Array(requests) => self.batch(requests, peer),
            request => self.single(request, peer),
        }
    }

    fn batch(&self, requests: Vec<Value>, peer: Peer) -> Option<Value> {
        if requests.is_empty() {
            return Some(failure(
                Value::Null,
                &RpcError::new(code::INVALID_REQUEST, "empty batch"),
            ));
        }
        if requests.len() > self.config.batch {
            return Some(failure(
                Value::Null,
                &RpcError::limit(format!(
                    "batch of {} requests, limit {}",
                    requests.len(),
                    self.config.batch
                )),
            ));
        }
        let responses: Vec<Value> = requests
            .into_iter()
            .filter_map(|request| self.single(request, peer))
            .collect();
        (!responses.is_empty()).then_some(Value::Array(responses))
    }

    fn single(&self, request: Value, peer: Peer) -> Option<Value> {
        let request = match read_request(request) {
            Ok(request) => request,
            Err(refusal) => {
                let (id, error) = *refusal;
                return Some(failure(id, &error));
            }
        };
        let Request {
            id, method, params, ..
        } = request;
        let result = Params::new(params).and_then(|params| self.call(&method, params, peer));
        // A request without id is a notification.
        let id = id?;
        Some(match result {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => failure(id, &error),
        })
    }

    /// Whether a message may take long and must not run on a thread that serves other connections.
    pub(crate) fn is_heavy(&self, message: &Value) -> bool {
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            return true;
        };
        match method {
            "eth_sendRawTransaction"
            | "eth_chainId"
            | "eth_blockNumber"
            | "eth_gasPrice"
            | "eth_syncing"
            | "net_version"
            | "web3_clientVersion"
            | "txpool_status" => false,
            // One read at the newest block, a reconstruction at an older one.
            "eth_getTransactionCount" | "eth_getBalance" => match message.pointer("/params/1") {
                None | Some(Value::Null) => false,
                Some(Value::String(tag)) => !matches!(tag.as_str(), "latest" | "pending"),
                Some(_) => true,
            },
            // An older receipt is decoded out of its whole block.
            "eth_getTransactionReceipt" => message
                .pointer("/params/0")
                .and_then(Value::as_str)
                .and_then(|hash| hash.parse().ok())
                .is_none_or(|hash| !self.chain.is_at_hand(&hash)),
            _ => true,
        }
    }

    fn call(&self, method: &str, params: Params, peer: Peer) -> Result<Value, RpcError> {
        match method {
            "eth_sendRawTransaction" => self.send_raw_transaction(params),
            "eth_chainId" => Ok(self.chain_id()),
            "eth_blockNumber" => Ok(self.block_number()),
            "eth_getTransactionCount" => self.get_transaction_count(params),
            "eth_getTransactionReceipt" => self.get_transaction_receipt(params),
            "eth_getBalance" => self.get_balance(params),
            "eth_getCode" => self.get_code(params),
            "eth_getStorageAt" => self.get_storage_at(params),
            "eth_getProof" => self.get_proof(params),
            "eth_syncing" | "eth_mining" => Ok(Value::Bool(false)),
            "eth_accounts" => Ok(json!([])),
            "eth_coinbase" => Ok(json!(self.chain.sequencer())),
            "eth_protocolVersion" => Ok(json!("0x44")),
            "eth_gasPrice" => self.gas_price(),
            "eth_maxPriorityFeePerGas" => self.max_priority_fee(),
            "eth_blobBaseFee" => Ok(json!("0x1")),
            "eth_feeHistory" => self.fee_history(params),
            "eth_call" => self.eth_call(params),
            "eth_estimateGas" => self.estimate_gas(params),
            "eth_createAccessList" => self.create_access_list(params),
            "eth_getBlockByNumber" => self.get_block(params),
            "eth_getBlockByHash" => self.get_block_by_hash(params),
            "eth_getHeaderByNumber" => self.get_header(params),
            "eth_getHeaderByHash" => self.get_header_by_hash(params),
            "eth_getBlockReceipts" => self.get_block_receipts(params),
            "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
                self.get_block_transaction_count(params)
            }
            "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => Ok(json!("0x0")),
            "eth_getTransactionByHash" => self.get_transaction(params),
            "eth_getTransactionByBlockNumberAndIndex" | "eth_getTransactionByBlockHashAndIndex" => {
                self.get_transaction_by_place(params)
            }
            "eth_getRawTransactionByHash" => self.get_raw_transaction(params),
            "eth_getLogs" => self.get_logs(params),
            "eth_newFilter" => self.new_filter(params),
            "eth_newBlockFilter" => self.new_block_filter(),
            "eth_newPendingTransactionFilter" => self.new_pending_filter(),
            "eth_getFilterChanges" => self.get_filter_changes(params),
            "eth_getFilterLogs" => self.get_filter_logs(params),
            "eth_uninstallFilter" => self.uninstall_filter(params),
            "net_version" => Ok(json!(self.chain.chain_id().to_string())),
            "net_listening" => Ok(Value::Bool(true)),
            "net_peerCount" => Ok(json!("0x0")),
            "web3_clientVersion" => Ok(json!(self.config.version)),
            "web3_sha3" => self.sha3(params),
            "txpool_status" => Ok(self.pool_status()),
            "rpc_modules" => Ok(json!({
                "eth": "1.0", "net": "1.0", "web3": "1.0", "txpool": "1.0", "assay": "1.0",
            })),
            "assay_nodeInfo" => Ok(self.node_info()),
            "assay_getCertificate" => self.get_certificate(params),
            "evm_mine" | "evm_increaseTime" | "evm_setNextBlockTimestamp"
                if self.config.development =>
            {
                if peer != Peer::Local {
                    return Err(RpcError::new(
                        code::SERVER,
                        format!("{method} is only available on this machine"),
                    ));
                }
                self.development(method, params)
            }
            _ => Err(RpcError::method(method)),
        }
    }
}

/// JSON, or the answer to something else.
pub(crate) fn parse(body: &[u8]) -> Result<Value, Value> {
    serde_json::from_slice(body).map_err(|error| {
        let error = RpcError::new(code::PARSE, format!("parse error: {error}"));
        failure(Value::Null, &error)
    })
}

/// The id to answer with, and the error.
type Refusal = (Value, RpcError);

/// A request, or what to answer instead.
pub(crate) fn read_request(value: Value) -> Result<Request, Box<Refusal>> {
    let id = value.get("id").cloned().unwrap_or(Value::Null);
    if matches!(id, Value::Array(_) | Value::Object(_)) {
        let error = RpcError::new(code::INVALID_REQUEST, "id must be a string or a number");
        return Err(Box::new((Value::Null, error)));
    }
    let request: Request = serde_json::from_value(value).map_err(|error| {
        let error = RpcError::new(code::INVALID_REQUEST, format!("invalid request: {error}"));
        Box::new((id.clone(), error))
    })?;
    if request.jsonrpc.as_ref().is_some_and(|it| it != "2.0") {
        let error = RpcError::new(code::INVALID_REQUEST, "jsonrpc must be \"2.0\"");
        return Err(Box::new((id, error)));
    }
    Ok(request)
}

/// A response with an error.
pub(crate) fn failure(id: Value, error: &RpcError) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": error.to_json()})
}
