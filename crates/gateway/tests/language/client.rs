//! A small client: one connection for each call, dropped with its reply.

use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    // Dropping the client closes the connection.
    _client: Client<HttpConnector, Full<Bytes>>,
}

pub struct Whole {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// The next bytes; `None` at the end, an error where the connection breaks.
    pub async fn part(&mut self) -> Option<Result<String, String>> {
        loop {
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error.to_string())),
            };
            if let Ok(data) = frame.into_data() {
                return Some(Ok(String::from_utf8_lossy(&data).into_owned()));
            }
        }
    }

    pub async fn text(mut self) -> String {
        let mut text = String::new();
        while let Some(part) = self.part().await {
            text.push_str(&part.unwrap());
        }
        text
    }

    pub async fn whole(self) -> Whole {
        let (status, headers) = (self.status, self.headers.clone());
        let text = self.text().await;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Whole {
            status,
            headers,
            body,
        }
    }

    /// Data of all events, and whether the stream ended with `[DONE]`.
    pub async fn events(self) -> (Vec<Value>, bool) {
        read_events(&self.text().await)
    }
}

pub fn read_events(text: &str) -> (Vec<Value>, bool) {
    let mut events = Vec::new();
    let mut done = false;
    for line in text.lines() {
        if let Some(data) = line.strip_prefix("data: ") {
            assert!(!done, "something follows [DONE]");
            if data == "[DONE]" {
                done = true;
            } else {
                events.push(serde_json::from_str(data).unwrap());
            }
        }
    }
    (events, done)
}

pub async fn call(base: &str, method: &str, path: &str, body: Option<&Value>, key: &str) -> Reply {
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let request = Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"));
    let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let response = client
        .request(request.body(Full::from(bytes)).unwrap())
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        _client: client,
    }
}
