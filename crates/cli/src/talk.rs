//! Answers of language models as they come: one request to a gateway, its server-sent events, and the end of the work when the caller stops listening.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header,
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Map, Value, json};

use crate::{
    client::refusal,
    exit::{Exit, Stop, stop},
    units::{self, USD},
};

/// Largest event, bytes.
const MAX_EVENT: usize = 8 << 20;
/// Largest refusal, bytes.
const MAX_REFUSAL: usize = 1 << 20;
/// A gateway that says nothing for so long, not even a comment, is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Time to reach a gateway.
const CONNECT: Duration = Duration::from_secs(5);

/// How an answer is sampled; what is `None` is left to the gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repeat_penalty: Option<f64>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Vec<String>,
    /// `response_format` of the request.
    pub(crate) format: Option<Value>,
}

impl Settings {
    /// Body of a streaming chat request.
    pub(crate) fn body(&self, model: &str, messages: &[Value]) -> Value {
        let mut body = Map::new();
        body.insert("model".into(), model.into());
        body.insert("messages".into(), messages.into());
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        let optional = [
            ("temperature", self.temperature.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("top_k", self.top_k.map(Value::from)),
            ("min_p", self.min_p.map(Value::from)),
            ("repetition_penalty", self.repeat_penalty.map(Value::from)),
            ("max_tokens", self.max_tokens.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            (
                "stop",
                (!self.stop.is_empty()).then(|| self.stop.clone().into()),
            ),
            ("response_format", self.format.clone()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        Value::Object(body)
    }
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) text: String,
    /// `stop`, `length` or `tool_calls`.
    pub(crate) finish: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) tokens: u64,
    /// Claim id, `0x…`; empty if the gateway named none.
    pub(crate) receipt: String,
    pub(crate) model_id: String,
    /// usd as a decimal.
    pub(crate) fee: String,
    pub(crate) seed: Value,
    /// Until the first words.
    pub(crate) wait: Duration,
    /// From the first words to the last.
    pub(crate) flow: Duration,
}

impl Told {
    /// Tokens of the answer for each second of flow; `None` where there is nothing to divide.
    pub(crate) fn rate(&self) -> Option<f64> {
        let seconds = self.flow.as_secs_f64();
        (self.tokens > 1 && seconds > 0.0).then(|| (self.tokens - 1) as f64 / seconds)
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        json!({
            "answer": self.text,
            "finish_reason": self.finish,
            "usage": { "prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens, "total_tokens": self.prompt_tokens + self.tokens },
            "receipt": self.receipt,
            "model_id": self.model_id,
            "fee": self.fee,
            "seed": self.seed,
            "seconds_to_first_token": millis(self.wait),
            "seconds": millis(self.wait + self.flow),
            "tokens_per_second": self.rate().map(|r| (r * 10.0).round() / 10.0),
        })
    }

    /// Takes in one chunk; the words that it adds.
    fn chunk(&mut self, chunk: &Value) -> String {
        let text = |path: &str| chunk.pointer(path).and_then(Value::as_str);
        if let Some(finish) = text("/choices/0/finish_reason") {
            finish.clone_into(&mut self.finish);
        }
        let count = |path: &str| chunk.pointer(path).and_then(Value::as_u64);
        if let Some(n) = count("/usage/prompt_tokens") {
            self.prompt_tokens = n;
        }
        if let Some(n) = count("/usage/completion_tokens") {
            self.tokens = n;
        }
        for (path, field) in [
            ("/assay/receipts/0", &mut self.receipt),
            ("/assay/model_id", &mut self.model_id),
            ("/assay/fee", &mut self.fee),
        ] {
            if let Some(value) = text(path) {
                value.clone_into(field);
            }
        }
        if let Ok(fee) = units::parse(&self.fee, USD) {
            self.fee = units::amount(fee, USD);
        }
        if let Some(seed) = chunk.pointer("/assay/seed") {
            self.seed = seed.clone();
        }
        text("/choices/0/delta/content")
            .unwrap_or_default()
            .to_owned()
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The streaming side of a gateway; cheap to clone.
#[derive(Clone)]
pub(crate) struct Talk {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    api_key: String,
}

impl Talk {
    /// `url` with or without `/v1`.
    pub(crate) fn new(url: &str, api_key: &str) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            url: url.trim_end_matches('/').trim_end_matches("/v1").to_owned(),
            api_key: api_key.to_owned(),
        }
    }

    fn gone(&self, why: impl std::fmt::Display) -> anyhow::Error {
        Stop::new(Exit::Unavailable, format!("gateway {}: {why}", self.url))
            .hint("`assay up` starts one; `--gateway URL` names another")
            .into()
    }

    async fn post(&self, body: &Value) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::post(format!("{}/v1/chat/completions", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream, application/json");
        if !self.api_key.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.api_key));
        }
        let request = request.body(Full::from(body.to_string()))?;
        match tokio::time::timeout(SILENCE, self.http.request(request)).await {
            Err(_) => Err(self.gone(format!("silent for {} s", SILENCE.as_secs()))),
            Ok(Err(e)) => Err(self.gone(innermost(&e))),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Asks, and gives every piece of text to `hear` as it comes. Dropping the future closes the connection, which cancels the answer: no receipt, no fee.
    ///
    /// # Errors
    /// The gateway's words with the exit code that fits; [`Exit::Unavailable`] when it is not reached or breaks off.
    pub(crate) async fn ask(
        &self,
        body: &Value,
        mut hear: impl FnMut(&str),
    ) -> anyhow::Result<Told> {
        let asked = Instant::now();
        let response = self.post(body).await?;
        let status = response.status().as_u16();
        if status >= 400 {
            let text = Limited::new(response.into_body(), MAX_REFUSAL)
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            let document = serde_json::from_slice(&text).unwrap_or(Value::Null);
            return Err(refusal(status, &document).into());
        }
        let mut events = Events::default();
        let mut body = response.into_body();
        let mut told = Told::default();
        let mut first = None;
        loop {
            let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
                Err(_) => return Err(self.gone(format!("silent for {} s", SILENCE.as_secs()))),
                Ok(None) => return Err(self.gone("the answer broke off")),
                Ok(Some(frame)) => frame
                    .map_err(|e| self.gone(format!("the answer broke off: {}", innermost(&e))))?,
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            for event in events.push(data)? {
                if event == "[DONE]" {
                    let first = first.unwrap_or_else(Instant::now);
                    told.wait = first - asked;
                    told.flow = first.elapsed();
                    return Ok(told);
                }
                let Ok(chunk) = serde_json::from_str::<Value>(&event) else {
                    return stop(
                        Exit::Failed,
                        format!("gateway {}: an event is no JSON", self.url),
                    );
                };
                if chunk.get("error").is_some() {
                    return Err(refusal(status, &chunk).into());
                }
                let text = told.chunk(&chunk);
                if !text.is_empty() {
                    first.get_or_insert_with(Instant::now);
                    told.text.push_str(&text);
                    hear(&text);
                }
            }
        }
    }
}

/// The cause that tells most.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// Cuts a byte stream into the data of server-sent events; comments and other fields are skipped.
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    data: String,
}

impl Events {
    /// Data of the events that `bytes` complete.
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<String>> {
        let mut complete = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() + self.data.len() >= MAX_EVENT {
                    return stop(
                        Exit::Failed,
                        format!("an event of the gateway is longer than {MAX_EVENT} bytes"),
                    );
                }
                self.line.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                if !self.data.is_empty() {
                    complete.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_anywhere() {
        let stream = ": ping\n\ndata: {\"a\": 1}\r\n\r\nevent: x\ndata: b\ndata:c\n\ndata: gr\u{fc}\u{df}\n\n";
        let want = ["{\"a\": 1}", "b\nc", "gr\u{fc}\u{df}"];
        for step in 1..stream.len() {
            let mut events = Events::default();
            let mut got = Vec::new();
            for part in stream.as_bytes().chunks(step) {
                got.extend(events.push(part).unwrap_or_default());
            }
            assert_eq!(got, want, "{step}");
        }
    }

    #[test]
    fn only_what_was_set_is_sent() {
        let body = Settings::default().body("m", &[]);
        let names: Vec<&String> = body
            .as_object()
            .map(|o| o.keys().collect())
            .unwrap_or_default();
        assert_eq!(names, ["model", "messages", "stream", "stream_options"]);
        let settings = Settings {
            temperature: Some(0.5),
            seed: Some(7),
            ..Settings::default()
        };
        let body = settings.body("m", &[]);
        assert_eq!(body["temperature"], 0.5);
        assert_eq!(body["seed"], 7);
    }
}
