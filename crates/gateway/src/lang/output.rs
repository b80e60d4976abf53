//! Parts of answers that several endpoints share: names, usage, probabilities, the `assay` object.

use alloy_primitives::B256;
use assay_receipt::Tier;
use serde_json::{Value, json};

use super::answer::Sold;
use super::shape::{Delta, Finish, Probability};
use crate::buy::usd;
use crate::{HttpError, ModelCodec};

/// A name like OpenAI's: prefix and 24 hex digits.
pub(crate) fn name(prefix: &str) -> Result<String, HttpError> {
    let mut bytes = [0u8; 12];
    getrandom::fill(&mut bytes).map_err(|error| HttpError::Internal(error.to_string()))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{prefix}{hex}"))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// What decides the bits of an answer besides the request: the model.
pub(crate) fn fingerprint(model: &dyn ModelCodec) -> String {
    let id = model.model_id().to_string();
    format!("fp_{}", id.get(2..18).unwrap_or_default())
}

/// What an answer cost, and where its evidence is.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    /// Evidence of all answers.
    pub(crate) tier: Tier,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    fee: u128,
    receipts: Vec<(u32, B256)>,
}

impl Bill {
    pub(crate) const fn new(prompt_tokens: u64, tier: Tier) -> Self {
        Self {
            prompt_tokens,
            tier,
            completion_tokens: 0,
            fee: 0,
            receipts: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, choice: u32, sold: &Sold) {
        self.completion_tokens += sold.tokens.len() as u64;
        self.fee = self.fee.saturating_add(sold.fee);
        self.receipts.push((choice, sold.claim_id));
        self.receipts.sort_unstable();
    }

    /// `usage`, with the cost in usd.
    pub(crate) fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cost": self.cost(),
        })
    }

    /// usd as a number; the exact one is in `assay.fee`.
    pub(crate) fn cost(&self) -> f64 {
        self.fee as f64 / 1e6
    }

    /// The `assay` object: receipts in the order of choices.
    pub(crate) fn assay(&self, model: &dyn ModelCodec, seed: i128) -> Value {
        json!({
            "receipts": self.ids(),
            "model_id": model.model_id(),
            "fee": usd(self.fee),
            "tier": self.tier.name(),
            "seed": seed_value(seed),
        })
    }

    fn ids(&self) -> Vec<String> {
        self.receipts.iter().map(|(_, id)| id.to_string()).collect()
    }

    /// Headers of an answer that is not a stream.
    pub(crate) fn headers(
        &self,
        model: &dyn ModelCodec,
        seed: i128,
    ) -> [(&'static str, String); 4] {
        [
            ("assay-receipt", self.ids().join(",")),
            ("assay-model", model.model_id().to_string()),
            ("assay-fee", usd(self.fee)),
            ("assay-seed", seed.to_string()),
        ]
    }
}

/// A seed as the number that the client sent.
fn seed_value(seed: i128) -> Value {
    i64::try_from(seed)
        .map(Value::from)
        .or_else(|_| u64::try_from(seed).map(Value::from))
        .unwrap_or(Value::Null)
}

impl Finish {
    /// `finish_reason`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Calls => "tool_calls",
        }
    }
}

/// A probability as chat completions and responses write it.
pub(crate) fn probability(one: &Probability) -> Value {
    let top: Vec<Value> = one
        .top
        .iter()
        .map(|(text, logprob)| {
            json!({"token": String::from_utf8_lossy(text), "logprob": logprob, "bytes": text})
        })
        .collect();
    json!({
        "token": String::from_utf8_lossy(&one.bytes),
        "logprob": one.logprob,
        "bytes": one.bytes,
        "top_logprobs": top,
    })
}

/// `tool_calls` of a complete message.
pub(crate) fn whole_calls(delta: &Delta) -> Vec<Value> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for part in &delta.calls {
        if let Some((id, name)) = &part.head {
            calls.push((id.clone(), name.clone(), String::new()));
        }
        if let Some((_, _, arguments)) = calls.last_mut() {
            arguments.push_str(&part.arguments);
        }
    }
    calls
        .into_iter()
        .map(|(id, name, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        })
        .collect()
}
