//! HTTP: POST / for requests and batches, GET / for WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::api::{failure, parse};
use crate::{Api, Peer, RpcError, code, socket};

/// Shared by all connections.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) api: Arc<Api>,
    pub(crate) heavy: Arc<Semaphore>,
    pub(crate) closing: watch::Receiver<bool>,
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    close: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers in progress finish, and closes WebSockets.
    ///
    /// # Errors
    /// What made the server stop earlier, if anything.
    pub async fn close(self) -> std::io::Result<()> {
        let _ = self.close.send(true);
        match tokio::time::timeout(std::time::Duration::from_secs(5), self.task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(std::io::Error::other(error)),
            // A client that never finishes its request does not keep the node alive.
            Err(_) => Ok(()),
        }
    }
}

/// Binds the address of the API's configuration and serves in the background.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(api: Arc<Api>) -> std::io::Result<Server> {
    let listener = TcpListener::bind(api.config.address).await?;
    let address = listener.local_addr()?;
    let (close, closing) = watch::channel(false);
    let shared = Shared {
        heavy: Arc::new(Semaphore::new(api.config.parallel_calls)),
        api,
        closing: closing.clone(),
    };
    let app = router(shared).into_make_service_with_connect_info::<SocketAddr>();
    let mut closed = closing;
    let task = tokio::spawn(async move {
        let listener = listener.tap_io(without_delay as fn(&mut tokio::net::TcpStream));
        axum::serve(listener, app)
            .with_graceful_shutdown(async move {
                let _ = closed.wait_for(|closed| *closed).await;
            })
            .await
    });
    tracing::info!(target: "assay::rpc", %address, "listening");
    Ok(Server {
        address,
        close,
        task,
    })
}

/// Answers are small and whole; waiting to fill a segment would only delay them.
fn without_delay(stream: &mut tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
}

fn router(shared: Shared) -> Router {
    let config = &shared.api.config;
    let origins = config.origins.clone();
    let cors = CorsLayer::new()
        .allow_methods([Method::POST])
        .allow_headers([CONTENT_TYPE])
        .allow_origin(AllowOrigin::predicate(move |origin, _| {
            is_allowed_origin(origin, &origins)
        }));
    Router::new()
        .route("/", post(answer))
        .route("/", get(upgrade))
        .layer(DefaultBodyLimit::max(config.request_bytes))
        .layer(cors)
        .with_state(shared)
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_known_host(&shared, &headers) {
        return unknown_host();
    }
    let peer = peer_of(&from);
    let response = run(&shared, body, peer).await;
    match response {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
    }
}

/// Answers one message, heavy ones on the blocking pool; returns JSON text.
pub(crate) async fn run(shared: &Shared, body: Bytes, peer: Peer) -> Option<String> {
    let limit = shared.api.config.response_bytes;
    let message = match parse(&body) {
        Ok(message) => message,
        Err(answer) => return render(Some(answer), limit),
    };
    if !shared.api.is_heavy(&message) {
        return render(shared.api.answer(message, peer), limit);
    }
    let Ok(permit) = Arc::clone(&shared.heavy).acquire_owned().await else {
        return render(Some(internal("the server is closing")), limit);
    };
    let api = Arc::clone(&shared.api);
    let work = tokio::task::spawn_blocking(move || {
        let answer = render(api.answer(message, peer), limit);
        drop(permit);
        answer
    });
    match work.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(target: "assay::rpc", %error, "request failed");
            render(Some(internal("the request failed")), limit)
        }
    }
}

fn internal(text: &str) -> Value {
    failure(Value::Null, &RpcError::new(code::INTERNAL, text))
}

fn render(answer: Option<Value>, limit: usize) -> Option<String> {
    let answer = answer?;
    let text = answer.to_string();
    if text.len() <= limit {
        return Some(text);
    }
    let id = answer.get("id").cloned().unwrap_or(Value::Null);
    let error = RpcError::limit(format!("response of {} bytes, limit {limit}", text.len()));
    Some(failure(id, &error).to_string())
}

async fn upgrade(
    State(shared): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    socket: WebSocketUpgrade,
) -> Response {
    if !is_known_host(&shared, &headers) {
        return unknown_host();
    }
    let config = &shared.api.config;
    // Browsers do not apply CORS to WebSockets, so the origin is checked here.
    if let Some(origin) = headers.get(ORIGIN)
        && !is_allowed_origin(origin, &config.origins)
    {
        return (StatusCode::FORBIDDEN, "origin not allowed").into_response();
    }
    let peer = peer_of(&from);
    socket
        .max_message_size(config.request_bytes)
        .max_frame_size(config.request_bytes)
        .on_upgrade(move |socket| socket::converse(shared, socket, peer))
}

fn peer_of(address: &SocketAddr) -> Peer {
    if address.ip().to_canonical().is_loopback() {
        Peer::Local
    } else {
        Peer::Remote
    }
}

/// Against DNS rebinding: a page of another site may reach this port, but not with a name of ours.
fn is_known_host(shared: &Shared, headers: &HeaderMap) -> bool {
    match headers.get(HOST).map(HeaderValue::to_str) {
        None => true,
        Some(Ok(host)) => is_allowed_host(host, &shared.api.config.hosts),
        Some(Err(_)) => false,
    }
}

fn unknown_host() -> Response {
    (StatusCode::FORBIDDEN, "invalid host specified").into_response()
}

fn is_allowed_host(host: &str, names: &[String]) -> bool {
    let name = strip_port(host);
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok()
        || names
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(name))
}

fn is_allowed_origin(origin: &HeaderValue, allowed: &[String]) -> bool {
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if allowed.iter().any(|it| it == "*" || it == origin) {
        return true;
    }
    let host = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .map(strip_port);
    matches!(host, Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_refused() {
        for host in [
            "localhost",
            "localhost:8545",
            "127.0.0.1:8545",
            "[::1]:8545",
            "10.0.0.7",
        ] {
            assert!(is_allowed_host(host, &[]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8545",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_allowed_host(host, &[]), "{host}");
        }
        assert!(is_allowed_host("node.example:1", &["node.example".into()]));
    }

    #[test]
    fn only_pages_of_this_machine_may_call_from_a_browser() {
        let origin = |text: &'static str| HeaderValue::from_static(text);
        assert!(is_allowed_origin(&origin("http://localhost:3000"), &[]));
        assert!(!is_allowed_origin(&origin("https://evil.example"), &[]));
        assert!(!is_allowed_origin(
            &origin("http://localhost.evil.example"),
            &[]
        ));
        assert!(is_allowed_origin(
            &origin("https://evil.example"),
            &["*".into()]
        ));
    }
}
