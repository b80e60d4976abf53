//! The gateway as a client sees it.

use std::time::Duration;

use assay_receipt::Bundle;
use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Stop};

/// Largest answer that is read, bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// A gateway by URL.
#[derive(Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    api_key: String,
}

/// What a person sends.
#[derive(Debug)]
pub(crate) enum Input {
    Text(String),
    /// A message to a language model.
    Message(String),
    Tensor(Value),
    Png(Vec<u8>),
}

/// An answer with the name of its receipt.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) body: Value,
    pub(crate) receipt: String,
}

impl Client {
    /// `url` with or without `/v1`.
    pub(crate) fn new(url: &str, api_key: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(300)))
            .build();
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Self {
            agent: ureq::Agent::new_with_config(config),
            url,
            api_key: api_key.to_owned(),
        }
    }

    fn finish(
        &self,
        result: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Reply> {
        let unreachable = |e: &dyn std::fmt::Display| {
            Stop::new(Exit::Unavailable, format!("gateway {}: {e}", self.url))
                .hint("`assay up` starts one; `--gateway URL` names another")
        };
        let mut response = result.map_err(|e| unreachable(&e))?;
        let status = response.status().as_u16();
        let receipt = response
            .headers()
            .get("assay-receipt")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(|e| unreachable(&e))?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status < 400 {
            return Ok(Reply { body, receipt });
        }
        Err(refusal(status, &body).into())
    }

    fn key(&self) -> Option<String> {
        (!self.api_key.is_empty()).then(|| format!("Bearer {}", self.api_key))
    }

    fn get(&self, path: &str) -> anyhow::Result<Reply> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(key) = self.key() {
            request = request.header("authorization", key);
        }
        self.finish(request.call())
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(key) = self.key() {
            request = request.header("authorization", key);
        }
        self.finish(request.send_json(body))
    }

    /// What the gateway says about a model.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with near names, [`Exit::Unavailable`].
    pub(crate) fn model(&self, name: &str) -> anyhow::Result<Value> {
        Ok(self.get(&format!("/v1/models/{name}"))?.body)
    }

    /// What the gateway says about itself.
    ///
    /// # Errors
    /// [`Exit::Unavailable`].
    pub(crate) fn health(&self) -> anyhow::Result<Value> {
        Ok(self.get("/health")?.body)
    }

    /// All models that the gateway offers.
    ///
    /// # Errors
    /// [`Exit::Unavailable`].
    pub(crate) fn models(&self) -> anyhow::Result<Vec<Value>> {
        let mut body = self.get("/v1/models")?.body;
        Ok(match body.get_mut("data").map(Value::take) {
            Some(Value::Array(models)) => models,
            _ => Vec::new(),
        })
    }

    /// Asks for the proof of a receipt; where it stands.
    ///
    /// # Errors
    /// The operator's words: what can't be proven, or is not kept there.
    pub(crate) fn ask_proof(&self, receipt: &str) -> anyhow::Result<Value> {
        let path = format!("/v1/receipts/{receipt}/prove");
        Ok(self.post(&path, &json!({}))?.body)
    }

    /// The proof file of a receipt, or where it stands.
    ///
    /// # Errors
    /// As [`Client::ask_proof`].
    pub(crate) fn proof(&self, receipt: &str) -> anyhow::Result<Result<Vec<u8>, Value>> {
        let url = format!("{}/v1/receipts/{receipt}/proof", self.url);
        let mut request = self.agent.get(url);
        if let Some(key) = self.key() {
            request = request.header("authorization", key);
        }
        let mut response = request
            .call()
            .map_err(|e| Stop::new(Exit::Unavailable, format!("gateway {}: {e}", self.url)))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let bytes = body
            .read_to_vec()
            .map_err(|e| Stop::new(Exit::Unavailable, format!("gateway {}: {e}", self.url)))?;
        match status {
            200 => Ok(Ok(bytes)),
            202 => Ok(Err(serde_json::from_slice(&bytes).unwrap_or_default())),
            _ => {
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                Err(refusal(status, &body).into())
            }
        }
    }

    /// Asks a model; which endpoint depends on what the input is. `settings` are further fields of the request.
    ///
    /// # Errors
    /// The gateway's words, with the exit code that fits.
    pub(crate) fn ask(
        &self,
        model: &str,
        input: &Input,
        settings: &Map<String, Value>,
    ) -> anyhow::Result<Reply> {
        let (path, body) = match input {
            Input::Text(text) => (
                "/v1/embeddings",
                json!({ "model": model, "input": text, "encoding_format": "float" }),
            ),
            Input::Message(text) => (
                "/v1/chat/completions",
                json!({ "model": model, "messages": [{ "role": "user", "content": text }] }),
            ),
            Input::Tensor(tensor) => ("/v1/infer", json!({ "model": model, "input": tensor })),
            Input::Png(png) => {
                let image = base64::engine::general_purpose::STANDARD.encode(png);
                ("/v1/infer", json!({ "model": model, "image": image }))
            }
        };
        let mut body = body;
        for (name, value) in settings {
            body[name] = value.clone();
        }
        self.post(path, &body)
    }

    /// The bundle of a receipt.
    ///
    /// # Errors
    /// As [`Client::ask`]; [`Exit::Failed`] when it is no bundle.
    pub(crate) fn bundle(&self, receipt: &str) -> anyhow::Result<Bundle> {
        let reply = self.get(&format!("/v1/receipts/{receipt}"))?;
        let bundle = reply.body.get("bundle").cloned().unwrap_or(reply.body);
        Ok(Bundle::from_json(&bundle.to_string())?)
    }
}

/// What a gateway refused with, in its own words, and the exit code that fits.
pub(crate) fn refusal(status: u16, body: &Value) -> Stop {
    let message = body
        .pointer("/error/message")
        .and_then(Value::as_str)
        .map_or_else(|| format!("status {status}"), str::to_owned);
    let exit = match status {
        402 => Exit::Payment,
        404 => Exit::NotFound,
        408 | 429 | 502..=504 => Exit::Unavailable,
        _ => Exit::Failed,
    };
    let stop = Stop::new(exit, message);
    if exit == Exit::Payment {
        stop.hint("`assay wallet deposit AMOUNT` moves usd into escrow")
    } else {
        stop
    }
}

/// Short words for an answer: label and score, or the first numbers.
pub(crate) fn words(body: &Value) -> String {
    let first = |v: &Value| {
        v.as_array().map(|a| {
            a.iter()
                .take(4)
                .filter_map(Value::as_f64)
                .map(|x| format!("{x:.4}"))
                .collect::<Vec<_>>()
                .join(", ")
        })
    };
    if let Some(classes) = body.get("classes").and_then(Value::as_array) {
        let word = |c: &Value| {
            Some(format!(
                "{} ({:.1} %)",
                c.get("label")?.as_str()?,
                c.get("score")?.as_f64()? * 100.0
            ))
        };
        return classes
            .iter()
            .take(3)
            .filter_map(word)
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(text) = body.pointer("/choices/0/message/content") {
        return text.as_str().unwrap_or_default().to_owned();
    }
    if let Some(vector) = body.pointer("/data/0/embedding") {
        let n = vector.as_array().map_or(0, Vec::len);
        return format!("[{}, …] {n} dimensions", first(vector).unwrap_or_default());
    }
    match body.get("output") {
        Some(output) => format!("[{}, …]", first(output).unwrap_or_default()),
        None => body.to_string(),
    }
}
