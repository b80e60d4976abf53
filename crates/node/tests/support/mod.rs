//! Signing, a minimal HTTP client, and an arbiter for tests, examples and benches of the node.
#![allow(dead_code, missing_docs, reason = "each user takes the part it needs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use assay_chain::{Arbiter, GenesisParams, Modules};
use assay_node::NodeConfig;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::{Value, json};

pub const CHAIN_ID: u64 = assay_chain::Genesis::LOCAL_CHAIN_ID;

/// Refuses every model: these tests are about the chain.
pub struct NoModels;

impl Arbiter for NoModels {
    fn inspect(&self, _: &[u8], _: B256, _: B256) -> Result<assay_modules::ModelInfo, String> {
        Err("no models here".into())
    }
    fn committed_leaves(&self, _: &[u8], _: assay_modules::RunSize) -> Result<u64, String> {
        Err("no models here".into())
    }
    fn segment_of(
        &self,
        _: &[u8],
        _: assay_modules::RunSize,
        _: u64,
    ) -> Result<assay_modules::SegmentInfo, String> {
        Err("no models here".into())
    }
    fn judge(&self, _: &assay_modules::Case<'_>) -> Result<assay_modules::Verdict, String> {
        Err("no models here".into())
    }
    fn gas(&self, _: &[u8], _: &[u8]) -> u64 {
        0
    }
}

pub fn modules() -> Arc<Modules> {
    Arc::new(Modules::new(Arc::new(NoModels)))
}

/// A key with an address; `seed` counts from 1.
#[derive(Clone)]
pub struct Account {
    key: SecretKey,
    pub address: Address,
}

impl Account {
    pub fn new(seed: u64) -> Self {
        let bytes = keccak256(format!("assay test account {seed}"));
        Self::from_key(bytes)
    }

    pub fn from_key(bytes: B256) -> Self {
        let key = SecretKey::from_byte_array(bytes.0).expect("a hash is a valid key");
        let point = PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed();
        Self {
            key,
            address: Address::from_word(keccak256(&point[1..])),
        }
    }

    pub fn key_hex(&self) -> String {
        format!(
            "0x{}",
            alloy_primitives::hex::encode(self.key.secret_bytes())
        )
    }

    pub fn sign_hash(&self, hash: B256) -> Signature {
        let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.key);
        let (parity, bytes) = signed.serialize_compact();
        Signature::new(
            U256::from_be_slice(&bytes[..32]),
            U256::from_be_slice(&bytes[32..]),
            i32::from(parity) == 1,
        )
    }

    pub fn sign(&self, tx: TxEip1559) -> Bytes {
        let signature = self.sign_hash(tx.signature_hash());
        TxEnvelope::Eip1559(tx.into_signed(signature))
            .encoded_2718()
            .into()
    }

    pub fn sign_legacy(&self, tx: TxLegacy) -> Bytes {
        let signature = self.sign_hash(tx.signature_hash());
        TxEnvelope::Legacy(tx.into_signed(signature))
            .encoded_2718()
            .into()
    }

    pub fn transfer(&self, nonce: u64, to: Address, value: u64) -> Bytes {
        self.sign(transfer(nonce, to, value))
    }

    pub fn invoke(&self, nonce: u64, to: Address, data: impl Into<Bytes>) -> Bytes {
        self.sign(TxEip1559 {
            input: data.into(),
            gas_limit: 1_000_000,
            ..transfer(nonce, to, 0)
        })
    }

    pub fn deploy(&self, nonce: u64, code: impl Into<Bytes>) -> Bytes {
        self.sign(TxEip1559 {
            input: code.into(),
            gas_limit: 3_000_000,
            to: TxKind::Create,
            ..transfer(nonce, Address::ZERO, 0)
        })
    }
}

pub fn transfer(nonce: u64, to: Address, value: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        value: U256::from(value),
        ..TxEip1559::default()
    }
}

pub fn params() -> GenesisParams {
    GenesisParams::dev()
}

pub fn config(funded: &[Address]) -> NodeConfig {
    NodeConfig {
        check_invariants: true,
        ..NodeConfig::in_memory(funded, params(), Arc::new(NoModels))
    }
}

/// One keep-alive HTTP connection to a JSON-RPC server.
pub struct Client {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
    next: u64,
}

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
            address,
            next: 0,
        })
    }

    /// Sends a body, returns status and body.
    pub fn post(&mut self, body: &str) -> std::io::Result<(u16, String)> {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        self.response()
    }

    fn response(&mut self) -> std::io::Result<(u16, String)> {
        let closed = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed");
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(closed());
        }
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        let mut length = 0;
        let mut chunked = false;
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(closed());
            }
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(text) = header.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
            chunked |= header.starts_with("transfer-encoding: chunked");
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                line.clear();
                self.reader.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
                let start = body.len();
                body.resize(start + size, 0);
                self.reader.read_exact(&mut body[start..])?;
                line.clear();
                self.reader.read_line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            self.reader.read_exact(&mut body)?;
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The whole response of one call.
    pub fn raw(&mut self, method: &str, params: Value) -> std::io::Result<Value> {
        self.next += 1;
        let body = json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params});
        let (_, text) = self.post(&body.to_string())?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The result of one call; panics on an error, which tests want to see.
    pub fn ok(&mut self, method: &str, params: Value) -> Value {
        let answer = self.raw(method, params).expect("connection");
        match answer.get("result") {
            Some(result) => result.clone(),
            None => panic!("{method}: {answer}"),
        }
    }

    /// Code and message of the error of one call.
    pub fn error(&mut self, method: &str, params: Value) -> (i64, String) {
        let answer = self.raw(method, params).expect("connection");
        let error = answer
            .get("error")
            .unwrap_or_else(|| panic!("{method}: {answer}"));
        (
            error["code"].as_i64().expect("code"),
            error["message"].as_str().expect("message").to_owned(),
        )
    }
}
