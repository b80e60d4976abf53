//! A gateway in front of the network of the watcher's tests.
#![allow(dead_code, reason = "each test binary uses a part")]

#[path = "../../../watcher/tests/support/mod.rs"]
pub mod network;

use std::sync::Arc;

use alloy_primitives::{B256, keccak256};
use assay_gateway::{
    Account, CodecError, Decoded, Encoded, Gateway, GatewayConfig, ModelCodec, ModelKind, Running,
};
use assay_graph::Graph;
use assay_wallet::{Key, dev_key};
#[allow(unused_imports, reason = "each test binary uses a part")]
pub use network::{Network, block, perceptron};

pub const RICH: &str = "sk-rich";
pub const POOR: &str = "sk-poor";
pub const MODEL: &str = "test-embedder";

/// Words to rows of 64 bytes, outputs to a unit vector of 16.
pub struct Embedder(pub Arc<Graph>);

fn row(seed: B256) -> Vec<u8> {
    let second = keccak256(seed);
    seed.iter().chain(second.iter()).copied().collect()
}

impl ModelCodec for Embedder {
    fn model_id(&self) -> B256 {
        self.0.model_id().into()
    }

    fn name(&self) -> &str {
        MODEL
    }

    fn kind(&self) -> ModelKind {
        ModelKind::Embedding
    }

    fn max_tokens(&self) -> u32 {
        64
    }

    fn dimensions(&self) -> Option<usize> {
        Some(16)
    }

    fn encode_text(&self, text: &str) -> Result<Encoded, CodecError> {
        let words: Vec<B256> = text.split_whitespace().map(keccak256).collect();
        self.rows(&words)
    }

    fn encode_tokens(&self, ids: &[u32]) -> Result<Encoded, CodecError> {
        let ids: Vec<B256> = ids.iter().map(|id| keccak256(id.to_le_bytes())).collect();
        self.rows(&ids)
    }

    fn decode(&self, output: &[u8]) -> Result<Decoded, CodecError> {
        if output.is_empty() || !output.len().is_multiple_of(16) {
            return Err(CodecError::Bad(format!("output of {} bytes", output.len())));
        }
        let sum = |column: usize| -> f32 {
            let values = output.iter().skip(column).step_by(16);
            values.map(|byte| f32::from(byte.cast_signed())).sum()
        };
        let vector: Vec<f32> = (0..16).map(sum).collect();
        let norm = vector
            .iter()
            .map(|value| value * value)
            .sum::<f32>()
            .sqrt()
            .max(1.0);
        Ok(Decoded::Embedding(
            vector.into_iter().map(|value| value / norm).collect(),
        ))
    }
}

impl Embedder {
    fn rows(&self, seeds: &[B256]) -> Result<Encoded, CodecError> {
        let (have, limit) = (seeds.len(), 64);
        if have > limit {
            return Err(CodecError::TooLong { have, limit });
        }
        Ok(Encoded {
            bytes: seeds.iter().flat_map(|seed| row(*seed)).collect(),
            tokens: have as u32,
        })
    }
}

pub fn account(name: &str, api_key: &str, key: Key) -> Account {
    Account {
        name: name.into(),
        api_key: api_key.into(),
        key,
    }
}

pub fn config(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::new(
        network.folder.path().join("gateway"),
        network.node.rpc_url(),
    );
    std::fs::create_dir_all(&config.data_dir).unwrap();
    config.models = vec![Arc::new(Embedder(Arc::clone(&network.graph)))];
    config.accounts = vec![
        account("rich", RICH, network.buyer.clone()),
        account("poor", POOR, dev_key(11).unwrap()),
    ];
    config
}

pub async fn start(config: GatewayConfig) -> Running {
    block(|| Gateway::open(config).unwrap())
        .start()
        .await
        .unwrap()
}

/// One call: status, headers, body.
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: serde_json::Value,
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent()
}

fn reply(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let text = response.body_mut().read_to_string().unwrap();
    Reply {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)),
    }
}

pub fn get(gateway: &Running, path: &str) -> Reply {
    let url = format!("http://{}{path}", gateway.address());
    reply(
        agent()
            .get(&url)
            .header("authorization", format!("Bearer {RICH}"))
            .call()
            .unwrap(),
    )
}

pub fn post_as(gateway: &Running, key: &str, kind: &str, path: &str, body: &[u8]) -> Reply {
    let url = format!("http://{}{path}", gateway.address());
    let request = agent()
        .post(&url)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", kind)
        .send(body);
    reply(request.unwrap())
}

pub fn embed(gateway: &Running, body: serde_json::Value) -> Reply {
    post_as(
        gateway,
        RICH,
        "application/json",
        "/v1/embeddings",
        body.to_string().as_bytes(),
    )
}
