//! Routes, and what surrounds every call: hosts, size, accounts, queue, counters.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use alloy_primitives::B256;
use assay_receipt::{ChainView, Tier, verify_bundle};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::buy::{Bought, usd};
use crate::lang::{Language, chat, completions, responses};
use crate::metrics::CallLabels;
use crate::server::Shared;
use crate::{Account, GatewayConfig, HttpError, ModelCodec, embeddings, infer, proofs};

type App = State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let cors = cors(&shared.config.cors);
    let limit = shared.config.max_body;
    let wrong_method = || async { HttpError::Method("this path takes another method") };
    Router::new()
        .route("/health", get(health).fallback(wrong_method))
        .route("/metrics", get(metrics).fallback(wrong_method))
        .route("/v1/models", get(models).fallback(wrong_method))
        .route("/v1/models/{*name}", get(model).fallback(wrong_method))
        .route(
            "/v1/embeddings",
            post(embeddings::handle).fallback(wrong_method),
        )
        .route(
            "/v1/chat/completions",
            post(chat::handle).fallback(wrong_method),
        )
        .route(
            "/v1/completions",
            post(completions::handle).fallback(wrong_method),
        )
        .route(
            "/v1/responses",
            post(responses::handle).fallback(wrong_method),
        )
        .route("/v1/infer", post(infer::handle).fallback(wrong_method))
        .route("/v1/receipts/{id}", get(receipt).fallback(wrong_method))
        .route(
            "/v1/receipts/{id}/prove",
            post(proofs::prove).fallback(wrong_method),
        )
        .route(
            "/v1/receipts/{id}/proof",
            get(proofs::proof).fallback(wrong_method),
        )
        .fallback(|request: Request| async move {
            let path: String = request.uri().path().chars().take(80).collect();
            HttpError::NotFound(format!("no path `{path}` here"))
        })
        .layer(DefaultBodyLimit::max(limit))
        .layer(from_fn_with_state(Arc::clone(&shared), around))
        .layer(cors)
        .with_state(shared)
}

fn cors(origins: &[String]) -> CorsLayer {
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(Any)
        .allow_headers(Any)
}

/// Checks host and origin and counts the call.
async fn around(State(shared): App, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let path = match request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str)
    {
        Some("/v1/embeddings") => "embeddings",
        Some("/v1/infer") => "infer",
        Some("/v1/chat/completions") => "chat",
        Some("/v1/completions") => "completions",
        Some("/v1/responses") => "responses",
        Some("/v1/models" | "/v1/models/{*name}") => "models",
        Some("/v1/receipts/{id}/prove" | "/v1/receipts/{id}/proof") => "proofs",
        Some("/v1/receipts/{id}") => "receipts",
        Some(_) => "status",
        None => "other",
    };
    let headers = request.headers();
    let checked = check_host(&shared, headers).and_then(|()| check_origin(&shared, headers));
    let response = match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    shared
        .metrics
        .seconds
        .observe(start.elapsed().as_secs_f64());
    let status = response.status().as_u16();
    shared
        .metrics
        .calls
        .get_or_create(&CallLabels { path, status })
        .inc();
    response
}

/// While it listens on loopback only loopback names are served, so that a web page cannot reach it by another name.
fn check_host(shared: &Shared, headers: &HeaderMap) -> Result<(), HttpError> {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return Ok(());
    };
    let name = name_of(host);
    if is_served(&shared.config, name) || !shared.config.listen.ip().is_loopback() {
        return Ok(());
    }
    Err(HttpError::Host(name.chars().take(80).collect()))
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a host name is a loopback one or was given.
fn is_served(config: &GatewayConfig, name: &str) -> bool {
    let loopback = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    let given = |allowed: &String| allowed == "*" || allowed == name;
    loopback || config.hosts.iter().any(given)
}

/// Calls that a web page makes are served for the page's own origin and for configured ones: a plain form or a text
/// body needs no consent of the server, and would spend the account's money. Clients that are no browsers send neither
/// header.
fn check_origin(shared: &Shared, headers: &HeaderMap) -> Result<(), HttpError> {
    let config = &shared.config;
    let refused = |what: &str| Err(HttpError::Origin(what.chars().take(80).collect()));
    if config.cors.iter().any(|allowed| allowed == "*") {
        return Ok(());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let Ok(origin) = origin.to_str() else {
            return refused("?");
        };
        let known = config.cors.iter().any(|allowed| allowed == origin);
        if known || is_own(config, headers, origin) {
            return Ok(());
        }
        return refused(origin);
    }
    match headers.get("sec-fetch-site") {
        Some(site) if site == "cross-site" => refused("another site"),
        _ => Ok(()),
    }
}

/// Whether an origin is the host that was called, under a name that nobody else can point here: loopback, given, or
/// an address.
fn is_own(config: &GatewayConfig, headers: &HeaderMap, origin: &str) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let called = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    let (Some(host), Some(called)) = (host, called) else {
        return false;
    };
    let name = name_of(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    host == called && (is_served(config, name) || bare.parse::<IpAddr>().is_ok())
}

impl Shared {
    /// The account of a request.
    pub(crate) fn account(&self, headers: &HeaderMap) -> Result<Account, HttpError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return self.anonymous().ok_or(HttpError::Unauthorized(
                "no API key: send `Authorization: Bearer KEY`",
            ));
        };
        let key = value.to_str().ok().and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let known = key.and_then(|key| self.accounts.get(key).cloned());
        // Official clients always send some key; without accounts of its own a gateway is open, as on a dev network.
        let open = || self.accounts.is_empty().then(|| self.anonymous()).flatten();
        known
            .or_else(open)
            .ok_or(HttpError::Unauthorized("this API key is not known here"))
    }

    fn anonymous(&self) -> Option<Account> {
        self.config.anonymous.clone()
    }

    /// A place in the queue, or 429.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, HttpError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if waiting >= self.config.queue {
            return Err(HttpError::Busy {
                waiting,
                limit: self.config.queue,
            });
        }
        Ok(place)
    }
}

/// Counts a call while it waits or runs.
pub(crate) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        let counter: &AtomicUsize = &self.0.waiting;
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a call: all of it, or 413 or 408.
pub(crate) struct Posted(pub(crate) Result<Bytes, HttpError>);

impl FromRequest<Arc<Shared>> for Posted {
    type Rejection = Infallible;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Infallible> {
        let limit = shared.config.body_timeout;
        let read = tokio::time::timeout(limit, Bytes::from_request(request, shared));
        Ok(Self(match read.await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(HttpError::TooLarge(shared.config.max_body))
            }
            Ok(Err(error)) => Err(HttpError::invalid("body", error.body_text())),
            Err(_) => Err(HttpError::SlowBody(limit.as_secs())),
        }))
    }
}

/// A JSON object, or 400 with the place of the first error.
pub(crate) fn json_of(bytes: &[u8]) -> Result<serde_json::Map<String, Value>, HttpError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(HttpError::invalid("body", "the body is JSON but no object")),
        Err(error) => Err(HttpError::invalid(
            "body",
            format!("the body is no JSON: {error}"),
        )),
    }
}

/// Runs blocking work on its own thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HttpError> + Send + 'static,
) -> Result<T, HttpError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(HttpError::Internal(format!(
            "the call ended unexpectedly: {error}"
        ))),
    }
}

/// Adds `assay-receipt`, `assay-model`, `assay-fee` to an answer.
pub(crate) fn with_receipts(answer: Value, model: &dyn ModelCodec, bought: &[Bought]) -> Response {
    let ids: Vec<String> = bought.iter().map(|one| one.claim_id.to_string()).collect();
    let fee: u128 = bought.iter().map(|one| one.fee).sum();
    let mut response = Json(answer).into_response();
    let headers = [
        ("assay-receipt", ids.join(",")),
        ("assay-model", model.model_id().to_string()),
        ("assay-fee", usd(fee)),
    ];
    add_headers(&mut response, headers);
    response
}

/// Adds headers to an answer.
pub(crate) fn add_headers(
    response: &mut Response,
    headers: impl IntoIterator<Item = (&'static str, String)>,
) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The `assay` object of an answer.
pub(crate) fn assay_of(model: &dyn ModelCodec, bought: &[Bought]) -> Value {
    let ids: Vec<String> = bought.iter().map(|one| one.claim_id.to_string()).collect();
    let fee: u128 = bought.iter().map(|one| one.fee).sum();
    let tier = bought.first().map_or(Tier::Optimistic, |one| one.tier);
    json!({"receipts": ids, "model_id": model.model_id(), "fee": usd(fee), "tier": tier.name()})
}

async fn health(State(shared): App) -> Response {
    let worker = Arc::clone(&shared);
    let block = blocking(move || Ok(worker.client.block_number()?)).await;
    let waiting = shared.waiting.load(Ordering::Relaxed);
    match block {
        Ok(block) => Json(json!({
            "status": "ok",
            "chain_id": shared.domain.chain_id.to_string(),
            "block": block,
            "operators": shared.operators.count(),
            "waiting": waiting,
        }))
        .into_response(),
        Err(error) => error.into_response(),
    }
}

async fn metrics(State(shared): App) -> Response {
    match shared.metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
        }
        Err(error) => HttpError::Internal(error.to_string()).into_response(),
    }
}

/// One model as OpenAI's clients read it, with ours beside it.
fn describe(shared: &Shared, model: &dyn ModelCodec) -> Value {
    let price = shared.price(model.model_id()).ok();
    let zk = shared.evidence(model).is_ok().then_some(Tier::Zk.name());
    let tiers: Vec<&str> = [Some(Tier::Optimistic.name()), zk]
        .into_iter()
        .flatten()
        .collect();
    json!({
        "id": model.name(),
        "object": "model",
        "created": 0,
        "owned_by": "assay",
        "assay": {
            "model_id": model.model_id(),
            "kind": model.kind().name(),
            "price": price.map(usd),
            "tiers": tiers,
            "max_tokens": model.max_tokens(),
            "dimensions": model.dimensions(),
            "context_length": model.language().map(Language::context),
        },
    })
}

async fn models(State(shared): App) -> Result<Response, HttpError> {
    blocking(move || {
        let data: Vec<Value> = shared
            .config
            .models
            .iter()
            .map(|model| describe(&shared, model.as_ref()))
            .collect();
        Ok(Json(json!({"object": "list", "data": data})).into_response())
    })
    .await
}

async fn model(State(shared): App, Path(name): Path<String>) -> Result<Response, HttpError> {
    blocking(move || {
        let model = shared.model(&name)?;
        Ok(Json(describe(&shared, model.as_ref())).into_response())
    })
    .await
}

/// The bundle of an answer, the state of its claim, and the report of its verification.
async fn receipt(
    State(shared): App,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    let account = shared.account(&headers)?;
    blocking(move || {
        let shown: String = id.chars().take(80).collect();
        let claim_id: B256 = id
            .parse()
            .map_err(|_| HttpError::NotFound(format!("`{shown}` is no receipt id")))?;
        let bundle = shared.receipts.load(&account, claim_id)?;
        let claim = shared.client.claim(claim_id);
        let report = verify_bundle(&bundle, Some(&shared.client), None);
        let report = report.map_err(|error| HttpError::Internal(error.to_string()))?;
        let claim = match claim {
            Ok(claim) => {
                json!({"state": claim.state, "deadline": claim.deadline, "source": claim.source})
            }
            Err(error) => json!({"state": "not shown", "reason": error.to_string()}),
        };
        Ok(Json(json!({"bundle": bundle, "claim": claim, "report": report})).into_response())
    })
    .await
}
