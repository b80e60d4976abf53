//! The streaming side of an operator's API: one connection for each answer; dropping it cancels the answer.

use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use assay_operator::ApiError;
use assay_receipt::{Receipt, ReceiptSignature, Request, Salt};
use axum::http::{self, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use crate::error::OperatorFault;

/// Largest event of an operator, bytes.
const MAX_EVENT: usize = 8 << 20;
/// Largest refusal, bytes.
const MAX_REFUSAL: usize = 64 << 10;
/// An operator that says nothing for so long, not even a comment, is gone.
const SILENCE: Duration = Duration::from_secs(35);
/// Time to reach an operator.
const CONNECT: Duration = Duration::from_secs(5);

type Body = Full<hyper::body::Bytes>;

/// Body of a streaming `POST /v1/run`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ask<'a> {
    pub(crate) model_id: B256,
    /// Prompt, token ids as `i32` little endian.
    pub(crate) input: Bytes,
    pub(crate) salt: Salt,
    pub(crate) request: &'a Request,
    pub(crate) request_signature: ReceiptSignature,
    /// Canonical sampling statement.
    pub(crate) sampling: Bytes,
    /// Canonical grammar, for constrained answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grammar: Option<Bytes>,
    /// Alternatives wanted with each token; `None` for no probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logprobs: Option<u8>,
    pub(crate) stream: bool,
}

/// An answered token. Probabilities as natural logarithms.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Token {
    pub(crate) id: u32,
    #[serde(default)]
    pub(crate) logprob: Option<f32>,
    #[serde(default)]
    pub(crate) top: Vec<(u32, f32)>,
}

/// The end of an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Done {
    pub(crate) receipt: Receipt,
    pub(crate) signature: ReceiptSignature,
    pub(crate) output: Bytes,
}

#[derive(Deserialize)]
struct Start {
    job: String,
}

/// What an operator says.
#[derive(Debug)]
pub(crate) enum Message {
    /// The job was admitted under this name.
    Start(String),
    Token(Token),
    Done(Box<Done>),
    Failed(ApiError),
}

/// Connections to operators.
#[derive(Clone)]
pub(crate) struct Upstream(Client<HttpsConnector<HttpConnector>, Body>);

fn unreachable(error: impl std::fmt::Display) -> OperatorFault {
    OperatorFault::Unreachable(error.to_string())
}

/// The innermost cause is the one that tells.
fn cause(error: &(dyn std::error::Error + 'static)) -> OperatorFault {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    unreachable(innermost)
}

fn silent() -> OperatorFault {
    OperatorFault::Unreachable(format!("silent for {} s", SILENCE.as_secs()))
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    async fn post(
        &self,
        url: &str,
        body: Vec<u8>,
    ) -> Result<http::Response<Incoming>, OperatorFault> {
        let request = http::Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream, application/json")
            .body(Full::from(body))
            .map_err(unreachable)?;
        match tokio::time::timeout(SILENCE, self.0.request(request)).await {
            Ok(outcome) => outcome.map_err(|error| cause(&error)),
            Err(_) => Err(silent()),
        }
    }

    /// Starts an answer. A refusal is [`OperatorFault::Refused`].
    pub(crate) async fn run(
        &self,
        endpoint: &str,
        ask: &Ask<'_>,
    ) -> Result<Messages, OperatorFault> {
        let body = serde_json::to_vec(ask).map_err(unreachable)?;
        let response = self.post(&format!("{endpoint}/v1/run"), body).await?;
        if response.status().is_success() {
            return Ok(Messages::new(response.into_body()));
        }
        let body = Limited::new(response.into_body(), MAX_REFUSAL).collect();
        let body = match tokio::time::timeout(SILENCE, body).await {
            Ok(body) => body.map_err(|error| unreachable(error.as_ref()))?,
            Err(_) => return Err(silent()),
        };
        let refusal: ApiError = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| OperatorFault::Unreadable(error.to_string()))?;
        Err(OperatorFault::Refused {
            code: refusal.code,
            message: refusal.message,
        })
    }

    /// Asks an operator to end an answer after its current token, without waiting. Fails silently: the answer ends by
    /// itself.
    pub(crate) fn stop(&self, endpoint: &str, job: &str) {
        // The name goes into a path: nothing but hex.
        let hex = job.strip_prefix("0x").unwrap_or(job);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return;
        }
        let (upstream, url) = (self.clone(), format!("{endpoint}/v1/run/{job}/stop"));
        tokio::spawn(async move {
            if let Err(fault) = upstream.post(&url, Vec::new()).await {
                tracing::debug!(target: "assay::gateway", %fault, "stop not delivered");
            }
        });
    }
}

/// Events of one answer, in their order.
pub(crate) struct Messages {
    body: Incoming,
    parser: Parser,
}

impl Messages {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            parser: Parser::default(),
        }
    }

    /// The next event; waits through comments.
    pub(crate) async fn next(&mut self) -> Result<Message, OperatorFault> {
        loop {
            if let Some((event, data)) = self.parser.next() {
                if let Some(message) = read(&event, &data)? {
                    return Ok(message);
                }
                continue;
            }
            let frame = match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Ok(Some(frame)) => frame.map_err(|error| cause(&error))?,
                Ok(None) => {
                    return Err(OperatorFault::Unreachable(
                        "the connection ended before the answer".into(),
                    ));
                }
                Err(_) => return Err(silent()),
            };
            if let Ok(bytes) = frame.into_data() {
                self.parser.feed(&bytes)?;
            }
        }
    }
}

fn read(event: &str, data: &str) -> Result<Option<Message>, OperatorFault> {
    let bad = |error: serde_json::Error| OperatorFault::Unreadable(format!("{event}: {error}"));
    Ok(Some(match event {
        "start" => Message::Start(serde_json::from_str::<Start>(data).map_err(bad)?.job),
        "token" => Message::Token(serde_json::from_str(data).map_err(bad)?),
        "done" => Message::Done(Box::new(serde_json::from_str(data).map_err(bad)?)),
        "error" => Message::Failed(serde_json::from_str(data).map_err(bad)?),
        // Operators may say more than this gateway understands.
        _ => return Ok(None),
    }))
}

/// Bytes to events (WHATWG, "server-sent events"), as far as operators use them.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    read: usize,
    event: String,
    data: String,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), OperatorFault> {
        self.bytes.drain(..self.read);
        self.read = 0;
        if self.bytes.len() + bytes.len() + self.data.len() > MAX_EVENT {
            return Err(OperatorFault::Unreadable(format!(
                "an event is larger than {MAX_EVENT} bytes"
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn next(&mut self) -> Option<(String, String)> {
        loop {
            let rest = self.bytes.get(self.read..)?;
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = String::from_utf8_lossy(rest.get(..end)?).into_owned();
            self.read += end + 1;
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    return Some((event, data));
                }
            } else if let Some(event) = line.strip_prefix("event:") {
                event.trim().clone_into(&mut self.event);
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        let text = b": ping\n\nevent: start\ndata: {\"job\":\"0xab\"}\n\nevent: token\r\ndata: {\"id\":5,\"logprob\":-0.5,\"top\":[[5,-0.5],[6,-1.25]]}\r\n\r\nevent: later\ndata: {}\n\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut seen = Vec::new();
            for part in text.chunks(size) {
                parser.feed(part).unwrap();
                while let Some((event, data)) = parser.next() {
                    seen.push(read(&event, &data).unwrap());
                }
            }
            assert_eq!(seen.len(), 3);
            assert!(matches!(&seen[0], Some(Message::Start(job)) if job == "0xab"));
            let Some(Message::Token(token)) = &seen[1] else {
                panic!()
            };
            assert_eq!((token.id, token.top.len()), (5, 2));
            assert!(seen[2].is_none());
        }
    }

    #[test]
    fn endless_and_broken_events_are_refused() {
        let mut parser = Parser::default();
        let block = vec![b'x'; 1 << 20];
        assert!((0..9).any(|_| parser.feed(&block).is_err()));
        assert!(read("token", "{").is_err());
        assert!(read("done", "{}").is_err());
    }
}
