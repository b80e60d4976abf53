//! The client against a node that answers what the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use assay_abi::{IUsd, USD};
use assay_wallet::{ChainClient, ClientError, ClientOptions, dev_key};
use serde_json::{Value, json};

type Script = dyn Fn(&str, &Value, usize) -> Option<Value> + Send + Sync;

/// A node whose answers are `script(method, params, how often this method was asked before)`; `None` hangs up.
struct FakeNode {
    url: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl FakeNode {
    fn start(script: Box<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut length = 0usize;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() || length == 0 {
                    continue;
                }
                let request: Value = serde_json::from_slice(&body).unwrap();
                let method = request["method"].as_str().unwrap().to_owned();
                let mut log = log.lock().unwrap();
                let before = log.iter().filter(|(seen, _)| *seen == method).count();
                log.push((method.clone(), request["params"].clone()));
                let Some(mut answer) = script(&method, &request["params"], before) else {
                    continue;
                };
                answer["jsonrpc"] = json!("2.0");
                answer["id"] = request["id"].clone();
                let text = answer.to_string();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                );
            }
        });
        Self { url, seen }
    }

    fn client(&self) -> ChainClient {
        let options = ClientOptions {
            poll_interval: Duration::from_millis(1),
            inclusion_timeout: Duration::from_millis(200),
            request_timeout: Duration::from_secs(5),
            ..ClientOptions::default()
        };
        ChainClient::with_options(&self.url, options)
    }

    fn count(&self, method: &str) -> usize {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|(seen, _)| seen == method)
            .count()
    }
}

fn ordinary(method: &str) -> Value {
    match method {
        "eth_chainId" => json!({"result": "0x7a69"}),
        "eth_estimateGas" => json!({"result": "0x5208"}),
        "eth_getBlockByNumber" => json!({"result": {"baseFeePerGas": "0x64"}}),
        "eth_maxPriorityFeePerGas" => json!({"result": "0x1"}),
        "eth_getTransactionCount" => json!({"result": "0x5"}),
        "eth_sendRawTransaction" => json!({"result": format!("0x{}", "11".repeat(32))}),
        "eth_getTransactionReceipt" => {
            json!({"result": {"status": "0x1", "blockNumber": "0x2", "gasUsed": "0x5208", "logs": []}})
        }
        _ => json!({"error": {"code": -32601, "message": "no such method"}}),
    }
}

fn to() -> Address {
    Address::repeat_byte(7)
}

#[test]
fn reads_are_repeated_when_the_node_hangs_up() {
    let node = FakeNode::start(Box::new(|method, _, before| {
        (before >= 2).then(|| ordinary(method))
    }));
    assert_eq!(node.client().chain_id().unwrap(), 31_337);
    assert_eq!(node.count("eth_chainId"), 3);
}

#[test]
fn a_transaction_is_repeated_byte_for_byte_only() {
    let node = FakeNode::start(Box::new(|method, _, before| {
        if method == "eth_sendRawTransaction" {
            return match before {
                0 => None,
                _ => Some(json!({"error": {"code": -32000, "message": "already known"}})),
            };
        }
        Some(ordinary(method))
    }));
    node.client()
        .transfer(&dev_key(0).unwrap(), to(), U256::from(1))
        .unwrap();
    let seen = node.seen.lock().unwrap();
    let raw: Vec<_> = seen
        .iter()
        .filter(|(method, _)| method == "eth_sendRawTransaction")
        .collect();
    assert_eq!(raw.len(), 2);
    assert_eq!(raw[0], raw[1]);
}

#[test]
fn nonces_are_counted_here_and_asked_again_after_a_clash() {
    let node = FakeNode::start(Box::new(|method, _, before| {
        if method == "eth_sendRawTransaction" && before == 1 {
            return Some(
                json!({"error": {"code": -32000, "message": "nonce too low: address 0x, tx: 6 state: 9"}}),
            );
        }
        Some(ordinary(method))
    }));
    let client = node.client();
    let key = dev_key(0).unwrap();
    client.transfer(&key, to(), U256::from(1)).unwrap();
    client.transfer(&key, to(), U256::from(1)).unwrap();
    assert_eq!(node.count("eth_getTransactionCount"), 2);
    assert_eq!(node.count("eth_sendRawTransaction"), 3);
}

#[test]
fn a_refusal_costs_nothing_and_is_a_sentence() {
    use alloy_sol_types::SolError;
    let data = IUsd::ERC20InsufficientBalance {
        sender: Address::ZERO,
        balance: U256::from(1),
        needed: U256::from(2),
    };
    let data = alloy_primitives::hex::encode_prefixed(data.abi_encode());
    let node = FakeNode::start(Box::new(move |method, _, _| {
        Some(match method {
            "eth_estimateGas" => {
                json!({"error": {"code": 3, "message": "execution reverted", "data": data}})
            }
            _ => ordinary(method),
        })
    }));
    let call = IUsd::transferCall {
        to: to(),
        amount: U256::from(2),
    };
    let error = node
        .client()
        .send(&dev_key(0).unwrap(), USD, &call)
        .unwrap_err();
    assert_eq!(error.module_error(), Some("ERC20InsufficientBalance"));
    assert!(
        error.to_string().ends_with("has 1 usd units, 2 needed"),
        "{error}"
    );
    assert_eq!(node.count("eth_sendRawTransaction"), 0);
}

#[test]
fn missing_inclusion_and_junk_are_typed() {
    let node = FakeNode::start(Box::new(|method, _, _| {
        Some(match method {
            "eth_getTransactionReceipt" => json!({"result": null}),
            "eth_getBalance" => json!({"result": "0xzz"}),
            "eth_blockNumber" => json!({"error": {"code": -1, "message": "a\nb"}}),
            _ => ordinary(method),
        })
    }));
    let client = node.client();
    let key = dev_key(0).unwrap();
    assert!(matches!(
        client.transfer(&key, to(), U256::from(1)),
        Err(ClientError::NotIncluded { .. })
    ));
    assert!(matches!(
        client.balance(to()),
        Err(ClientError::Answer { .. })
    ));
    let error = client.block_number().unwrap_err();
    assert_eq!(error.to_string(), "eth_blockNumber: node says -1: ab");
    let nobody = ChainClient::new("http://127.0.0.1:1");
    assert!(nobody.chain_id().unwrap_err().is_temporary());
}
