//! Routes, and what surrounds every call: hosts, size, accounts, queue, counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use alloy_primitives::B256;
use assay_receipt::{ChainView, verify_bundle};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
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
use crate::{Account, HttpError, ModelCodec, embeddings, infer};

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

/// Checks the host and counts the call.
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
        Some("/v1/receipts/{id}") => "receipts",
        Some(_) => "status",
        None => "other",
    };
    let response = match check_host(&shared, request.headers()) {
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
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let loopback = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    let allowed = shared
        .config
        .hosts
        .iter()
        .any(|allowed| allowed == "*" || allowed == name);
    if loopback || allowed || !shared.config.listen.ip().is_loopback() {
        return Ok(());
    }
    Err(HttpError::Host(name.chars().take(80).collect()))
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

/// The body, or 413.
pub(crate) fn body_of(
    shared: &Shared,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Bytes, HttpError> {
    body.map_err(|rejection| {
        if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            HttpError::TooLarge(shared.config.max_body)
        } else {
            HttpError::invalid("body", rejection.body_text())
        }
    })
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
    json!({"receipts": ids, "model_id": model.model_id(), "fee": usd(fee), "tier": "optimistic"})
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
    json!({
        "id": model.name(),
        "object": "model",
        "created": 0,
        "owned_by": "assay",
        "assay": {
            "model_id": model.model_id(),
            "kind": model.kind().name(),
            "price": price.map(usd),
            "tiers": ["optimistic"],
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
