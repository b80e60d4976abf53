//! Small language models, their requests and their streams.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use assay_graph::{Graph, Sampling};
use assay_operator::{Ask, RunRequest, RunResponse, token_bytes, tokens_of};
use assay_receipt::{Request, Salt, grammar_hash, input_commit, line_id, sampling_hash};
use serde_json::Value;

use super::{Network, PRICE};

#[path = "../../../graph/tests/common/mod.rs"]
mod graphs;

#[path = "decoder.rs"]
mod decoder;

#[allow(unused_imports, reason = "each test binary uses a part")]
pub use decoder::{MAX_SEQ, provable_speaker};
pub use graphs::VOCABULARY;

pub fn speaker(seed: u64, layers: usize) -> Arc<Graph> {
    Arc::new(graphs::language_graph(seed, layers, 160))
}

/// One layer, more positions.
pub fn long_speaker(seed: u64, max_seq: u32) -> Arc<Graph> {
    Arc::new(graphs::language_graph(seed, 1, max_seq))
}

/// Sampled with a temperature, so that the seed matters.
pub fn sampling(max_out: u32) -> Sampling {
    Sampling {
        max_out,
        temperature: 3 << 16,
        top_k: 40,
        repetition: 70_000,
        seed: [7; 32],
        bias: vec![(11, -20_000)],
        ..Sampling::default()
    }
}

pub fn prompt(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 29 + 3) % VOCABULARY).collect()
}

/// What a call asks; `change` may break it before it is signed.
pub struct Call {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    pub grammar: Option<Vec<u8>>,
    pub logprobs: Option<u8>,
    pub stream: bool,
    pub salt: B256,
    pub seq: u64,
}

impl Call {
    pub fn new(prompt: Vec<u32>, sampling: Sampling) -> Self {
        Self {
            prompt,
            sampling,
            grammar: None,
            logprobs: None,
            stream: false,
            salt: B256::repeat_byte(0x44),
            seq: 0,
        }
    }

    pub fn constrained(mut self, grammar: &[u8]) -> Self {
        self.sampling.mask_root = grammar_hash(grammar).0;
        self.grammar = Some(grammar.to_vec());
        self
    }

    pub fn salted(mut self, byte: u8) -> Self {
        self.salt = B256::repeat_byte(byte);
        self
    }

    pub fn streamed(mut self) -> Self {
        self.stream = true;
        self
    }

    pub fn ask(&self, network: &Network) -> Ask {
        let input = token_bytes(&self.prompt);
        let statement = self.sampling.encode();
        let request = Request {
            version: 1,
            line_id: line_id(network.operator_key.address(), network.buyer.address()),
            seq: self.seq,
            model_id: network.graph.model_id().into(),
            semantics: 1,
            input_commit: input_commit(self.salt, &input),
            sampling_hash: sampling_hash(&statement),
            max_out: self.sampling.max_out,
            max_fee: PRICE,
            value_at_risk: 1_000,
            tier_mask: 2,
            audit_ppm: 80_000,
            window: 600,
            expiry: network.client.chain_seconds().unwrap() + 600,
        };
        Ask {
            run: RunRequest {
                model_id: request.model_id,
                input: input.into(),
                salt: Salt(self.salt),
                request_signature: request.sign(&network.domain, network.buyer.receipt_key()),
                request,
            },
            sampling: Some(Bytes::from(statement)),
            grammar: self.grammar.clone().map(Bytes::from),
            logprobs: self.logprobs,
            stream: self.stream,
        }
    }

    /// Asks, and checks the answer as a buyer would.
    pub fn answer(&self, network: &Network) -> RunResponse {
        let ask = self.ask(network);
        let (status, answer) = network.post(&serde_json::to_value(&ask).unwrap());
        assert_eq!(status, 200, "{answer}");
        let answer: RunResponse = serde_json::from_value(answer).unwrap();
        answer.receipt.check_answers(&ask.run.request).unwrap();
        answer
    }
}

pub fn ids(answer: &RunResponse) -> Vec<u32> {
    tokens_of(&answer.output).unwrap()
}

/// A stream of server-sent events.
pub struct Events(BufReader<ureq::BodyReader<'static>>);

impl Events {
    /// Opens a stream, or returns status, `Retry-After` and body of the refusal.
    pub fn open(network: &Network, ask: &Ask) -> Result<Self, (u16, Option<String>, Value)> {
        let url = format!("{}/v1/run", network.operator.as_ref().unwrap().url());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut response = agent.post(&url).send_json(ask).unwrap();
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(Self(BufReader::new(response.into_body().into_reader())));
        }
        let retry = response.headers().get("retry-after");
        let retry = retry.map(|value| value.to_str().unwrap().to_owned());
        let text = response.body_mut().read_to_string().unwrap();
        Err((status, retry, serde_json::from_str(&text).unwrap()))
    }

    /// The next event: name and data.
    pub fn next(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(rest) = line.strip_prefix("event: ") {
                name = rest.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// All events to the end: job, tokens, the last event.
    pub fn all(mut self) -> (String, Vec<Value>, (String, Value)) {
        let (name, start) = self.next().unwrap();
        assert_eq!(name, "start");
        let mut tokens = Vec::new();
        loop {
            match self.next().unwrap() {
                (name, data) if name == "token" => tokens.push(data),
                last => {
                    assert!(self.next().is_none(), "events after the end");
                    let job = start["job"].as_str().unwrap().to_owned();
                    return (job, tokens, last);
                }
            }
        }
    }
}
