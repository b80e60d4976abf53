//! WebSocket: the same methods, and `eth_subscribe`.

use std::collections::HashMap;

use alloy_rpc_types_eth::Filter;
use assay_chain::{ChainEvent, LogFilter};
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::api::{Request, failure, read_request};
use crate::format::{self, quantity};
use crate::server::{Shared, run};
use crate::{Peer, RpcError};

enum Subscription {
    Heads,
    Logs(LogFilter),
    Pending { full: bool },
}

/// Serves one connection until either side closes it.
pub(crate) async fn converse(shared: Shared, mut socket: WebSocket, peer: Peer) {
    let mut events = shared.api.chain.subscribe();
    let mut closing = shared.closing.clone();
    let mut subscriptions: HashMap<u64, Subscription> = HashMap::new();
    let mut last = 0u64;
    loop {
        tokio::select! {
            () = closed(&mut closing) => {
                let _ = socket.send(Message::Close(None)).await;
                return;
            }
            event = events.recv() => match event {
                Ok(event) => {
                    for text in notifications(&subscriptions, &event) {
                        if socket.send(Message::Text(text.into())).await.is_err() {
                            return;
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            message = socket.recv() => {
                let body = match message {
                    Some(Ok(Message::Text(text))) => Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                let answer = match subscription_request(&body) {
                    Some(request) => {
                        let answer = change(&shared, &mut subscriptions, &mut last, request);
                        Some(answer.to_string())
                    }
                    None => run(&shared, body, peer).await,
                };
                if let Some(text) = answer
                    && socket.send(Message::Text(text.into())).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

async fn closed(closing: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = closing.wait_for(|closed| *closed).await;
}

/// The request if it is about subscriptions; those belong to the connection, not to the table of methods.
fn subscription_request(body: &[u8]) -> Option<Request> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let method = value.get("method")?.as_str()?;
    if !matches!(method, "eth_subscribe" | "eth_unsubscribe") {
        return None;
    }
    read_request(value).ok()
}

fn change(
    shared: &Shared,
    subscriptions: &mut HashMap<u64, Subscription>,
    last: &mut u64,
    request: Request,
) -> Value {
    let id = request.id.unwrap_or(Value::Null);
    let arguments = match request.params {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    };
    let result = if request.method == "eth_unsubscribe" {
        let removed = arguments
            .first()
            .and_then(Value::as_str)
            .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok())
            .and_then(|id| subscriptions.remove(&id));
        Ok(json!(removed.is_some()))
    } else if subscriptions.len() >= shared.api.config.filters {
        Err(RpcError::limit(format!(
            "{} subscriptions on this connection",
            subscriptions.len()
        )))
    } else {
        subscribe(shared, arguments).map(|subscription| {
            *last = last.saturating_add(1);
            subscriptions.insert(*last, subscription);
            quantity(*last)
        })
    };
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => failure(id, &error),
    }
}

fn subscribe(shared: &Shared, mut arguments: Vec<Value>) -> Result<Subscription, RpcError> {
    let option = arguments.get_mut(1).map(Value::take);
    match arguments.first().and_then(Value::as_str) {
        Some("newHeads") => Ok(Subscription::Heads),
        Some("logs") => {
            let filter: Filter = match option {
                None | Some(Value::Null) => Filter::new(),
                Some(value) => serde_json::from_value(value).map_err(RpcError::params)?,
            };
            let mut filter = shared.api.log_filter(filter)?;
            (filter.from, filter.to) = (0, u64::MAX);
            Ok(Subscription::Logs(filter))
        }
        Some("newPendingTransactions") => Ok(Subscription::Pending {
            full: option.and_then(|it| it.as_bool()).unwrap_or(false),
        }),
        other => Err(RpcError::params(format!(
            "no \"{}\" subscription in eth namespace",
            other.unwrap_or_default()
        ))),
    }
}

fn notifications(subscriptions: &HashMap<u64, Subscription>, event: &ChainEvent) -> Vec<String> {
    let mut out = Vec::new();
    let mut ids: Vec<_> = subscriptions.iter().collect();
    ids.sort_unstable_by_key(|(id, _)| **id);
    for (id, subscription) in ids {
        let mut push = |result: Value| {
            let notification = json!({
                "jsonrpc": "2.0",
                "method": "eth_subscription",
                "params": {"subscription": quantity(*id), "result": result},
            });
            out.push(notification.to_string());
        };
        match (subscription, event) {
            (Subscription::Heads, ChainEvent::Block(mined)) => {
                let header = format::header(&mined.block.header, mined.block.hash);
                push(Value::Object(header));
            }
            (Subscription::Logs(filter), ChainEvent::Block(mined)) => {
                for log in mined.logs().filter(|log| filter.matches(&log.log)) {
                    push(format::log(&log));
                }
            }
            (Subscription::Pending { full }, ChainEvent::Pending(transaction)) => {
                push(if *full {
                    format::transaction(transaction, None)
                } else {
                    json!(transaction.hash())
                });
            }
            _ => {}
        }
    }
    out
}
