//! The operator's HTTP API, for gateways and watchers (docs/api.md, "Operator").

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy_primitives::{Address, B256, Bytes};
use assay_receipt::{Receipt, ReceiptSignature, Request, Salt, Tier};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::admit::Question;
use crate::error::RunError;
use crate::issue::Answer;
use crate::language::Masks;
use crate::operator::Shared;
use crate::prover::NoProof;
use crate::{JobState, Refusal, api_language};

/// Largest request body, bytes: hex of the longest input (60 KiB), statement and grammar.
const MAX_BODY: usize = 256 * 1024;

/// Body of `POST /v1/run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// Model that must answer.
    pub model_id: B256,
    /// Canonical input bytes, hex.
    pub input: Bytes,
    /// Salt of the commitments.
    pub salt: Salt,
    /// The request.
    pub request: Request,
    /// The requester's signature over it.
    pub request_signature: ReceiptSignature,
}

/// Body of `POST /v1/run` to a language model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// What every model is asked with.
    #[serde(flatten)]
    pub run: RunRequest,
    /// Canonical sampling statement, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Bytes>,
    /// Canonical grammar that the answer is constrained to, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Bytes>,
    /// Probabilities with so many alternatives, at most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Whether tokens are sent as they come.
    #[serde(default)]
    pub stream: bool,
}

/// Answer of `POST /v1/run` and, with input and salt, of `GET /v1/jobs/{claimId}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResponse {
    /// Name of the receipt.
    pub claim_id: B256,
    /// The receipt.
    pub receipt: Receipt,
    /// Signature of the operator's receipt key.
    pub signature: ReceiptSignature,
    /// Canonical output bytes, hex.
    pub output: Bytes,
    /// Canonical sampling statement, hex; of language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Bytes>,
}

impl From<Answer> for RunResponse {
    fn from(answer: Answer) -> Self {
        Self {
            claim_id: answer.receipt.claim_id(),
            receipt: answer.receipt,
            signature: answer.signature,
            output: answer.output.into(),
            sampling: answer.sampling.map(Bytes::from),
        }
    }
}

/// Answer of `GET /v1/jobs/{claimId}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResponse {
    /// Name of the receipt.
    pub claim_id: B256,
    /// Canonical input bytes, hex.
    pub input: Bytes,
    /// Salt of the commitments.
    pub salt: Salt,
    /// Canonical output bytes, hex.
    pub output: Bytes,
    /// Positions or tokens of the input.
    pub n: u32,
    /// Canonical sampling statement, hex; of language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Bytes>,
    /// Canonical grammar, hex; of constrained answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Bytes>,
    /// Token masks; of constrained answers.
    #[serde(default, skip_serializing_if = "Masks::is_empty")]
    pub masks: Masks,
    /// Where the job stands.
    pub state: JobState,
}

/// One model in `GET /v1/models`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// Identity.
    pub model_id: B256,
    /// Largest number of positions.
    pub max_seq: u32,
    /// Tiers offered.
    pub tiers: Vec<String>,
}

/// Body of every refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiError {
    /// What is wrong, in words.
    pub message: String,
    /// Stable name of the refusal, for example `sequence`.
    pub code: String,
    /// For `sequence` and `taken`: the place the line expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    operator: Address,
    receipt_key: Address,
    chain_id: String,
    jobs_waiting: usize,
}

/// Routes of the API.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models))
        .route("/v1/models/{model_id}/graph", get(graph))
        .route("/v1/run", post(run))
        .route("/v1/run/{job}/stop", post(api_language::stop))
        .route("/v1/jobs/{claim_id}", get(job))
        .route("/v1/receipts/{claim_id}/prove", post(prove))
        .route("/v1/receipts/{claim_id}/proof", get(proof))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    Json(Health {
        status: "ok",
        operator: shared.config.operator.address(),
        receipt_key: shared.config.receipt_key.address(),
        chain_id: shared.domain.chain_id.to_string(),
        jobs_waiting: shared.waiting.load(Ordering::Relaxed),
    })
    .into_response()
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let models: Vec<ServedModel> = shared
        .models
        .values()
        .map(|model| ServedModel {
            model_id: model.model_id(),
            max_seq: model.structure().header.max_seq,
            tiers: tiers(&shared, model.model_id()),
        })
        .collect();
    Json(models).into_response()
}

/// Names of the tiers in which answers of a model are sold now.
fn tiers(shared: &Shared, model_id: B256) -> Vec<String> {
    let known = shared.prover.keys.verdict(model_id).is_some();
    let zk = (known && shared.zk_key(model_id).is_ok()).then_some(Tier::Zk);
    let tiers = [Some(Tier::Optimistic), zk];
    tiers
        .into_iter()
        .flatten()
        .map(|t| t.name().to_owned())
        .collect()
}

/// Canonical bytes of a served graph; whoever downloads them checks the hash.
async fn graph(State(shared): State<Arc<Shared>>, Path(model_id): Path<String>) -> Response {
    let missing = || {
        let message = "no such model is served here".to_owned();
        refuse(StatusCode::NOT_FOUND, "unknown_model", message, None)
    };
    let Ok(model_id) = model_id.parse::<B256>() else {
        return missing();
    };
    let bytes = tokio::task::spawn_blocking(move || {
        let model = shared.models.get(&model_id)?;
        model.graph().map(|graph| graph.to_bytes())
    })
    .await;
    match bytes {
        Ok(Some(bytes)) => {
            let kind = HeaderValue::from_static("application/octet-stream");
            ([(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        _ => missing(),
    }
}

async fn job(State(shared): State<Arc<Shared>>, Path(claim_id): Path<String>) -> Response {
    let ledger = shared.ledger.lock();
    let found = claim_id
        .parse::<B256>()
        .ok()
        .and_then(|id| Some((id, ledger.job(id)?)));
    let Some((claim_id, job)) = found else {
        let message = "no such job is kept here".to_owned();
        return refuse(StatusCode::NOT_FOUND, "unknown_job", message, None);
    };
    Json(JobResponse {
        claim_id,
        input: job.input.clone(),
        salt: job.salt,
        output: job.output.clone(),
        n: job.receipt.n_in,
        sampling: job.sampling.clone(),
        grammar: job.grammar.clone(),
        masks: job.masks.clone(),
        state: job.state,
    })
    .into_response()
}

/// Asks for the proof of an answer.
async fn prove(State(shared): State<Arc<Shared>>, Path(claim_id): Path<String>) -> Response {
    let asked = tokio::task::spawn_blocking(move || {
        let claim_id = claim_id.parse().map_err(|_| NoProof::Unknown)?;
        shared.ask_proof(claim_id)
    })
    .await;
    match asked {
        Ok(Ok(status)) if status.state == "done" => Json(status).into_response(),
        Ok(Ok(status)) => (StatusCode::ACCEPTED, Json(status)).into_response(),
        Ok(Err(none)) => no_proof(&none),
        Err(_) => failure(Failure::Panicked),
    }
}

/// The proof file of an answer, or where it stands.
async fn proof(State(shared): State<Arc<Shared>>, Path(claim_id): Path<String>) -> Response {
    let read = tokio::task::spawn_blocking(move || {
        let claim_id: B256 = claim_id.parse().map_err(|_| NoProof::Unknown)?;
        let status = shared.proof_status(claim_id)?;
        if status.state == "done" {
            let bytes = shared.ledger.lock().proof_file(claim_id);
            let bytes = bytes.map_err(|error| NoProof::Failed(error.to_string()))?;
            return Ok((status, Some(bytes)));
        }
        Ok((status, None))
    })
    .await;
    match read {
        Ok(Ok((_, Some(bytes)))) => {
            let kind = HeaderValue::from_static("application/octet-stream");
            ([(header::CONTENT_TYPE, kind)], bytes).into_response()
        }
        Ok(Ok((status, None))) if status.state == "failed" => {
            let reason = status.reason.unwrap_or_default();
            no_proof(&NoProof::NotProvable(reason))
        }
        Ok(Ok((status, None))) => (StatusCode::ACCEPTED, Json(status)).into_response(),
        Ok(Err(none)) => no_proof(&none),
        Err(_) => failure(Failure::Panicked),
    }
}

fn no_proof(none: &NoProof) -> Response {
    let (status, code) = match none {
        NoProof::Off => (StatusCode::FORBIDDEN, "proofs_off"),
        NoProof::Unknown => (StatusCode::NOT_FOUND, "unknown_job"),
        NoProof::NotAsked => (StatusCode::NOT_FOUND, "no_proof"),
        NoProof::Rejected => (StatusCode::CONFLICT, "rejected"),
        NoProof::NotProvable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not_provable"),
        NoProof::Full { .. } => (StatusCode::TOO_MANY_REQUESTS, "proofs_full"),
        NoProof::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    refuse(status, code, none.to_string(), None)
}

/// Counts a job while it waits or runs.
pub(crate) struct Waiting(Arc<Shared>);

impl Waiting {
    fn new(shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let waiting = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let counted = Self(Arc::clone(shared));
        let limit = shared.config.queue;
        if waiting >= limit {
            return Err(Refusal::Busy { waiting, limit });
        }
        Ok(counted)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(
    State(shared): State<Arc<Shared>>,
    body: Result<Json<Ask>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let ask = match body {
        Ok(Json(ask)) => ask,
        Err(rejection) => {
            return refuse(rejection.status(), "body", rejection.body_text(), None);
        }
    };
    let waiting = match Waiting::new(&shared) {
        Ok(waiting) => waiting,
        Err(busy) => return refusal(&busy),
    };
    let body = ask.run;
    let model = shared.models.get(&body.model_id);
    let speaks = model.is_some_and(|model| model.language().is_some());
    let question = Question {
        model_id: body.model_id,
        input: body.input.to_vec(),
        salt: body.salt.0,
        request: body.request,
        signature: body.request_signature,
        sampling: ask.sampling.map(|bytes| bytes.to_vec()),
        grammar: ask.grammar.map(|bytes| bytes.to_vec()),
        logprobs: ask.logprobs,
    };
    if speaks {
        return api_language::run(shared, question, ask.stream, waiting).await;
    }
    let Ok(_permit) = shared.running.acquire().await else {
        return failure(Failure::Stopping);
    };
    let worker = Arc::clone(&shared);
    match tokio::task::spawn_blocking(move || worker.answer(question)).await {
        Ok(Ok(answer)) => Json(RunResponse::from(answer)).into_response(),
        Ok(Err(error)) => run_error(error),
        Err(error) => {
            tracing::error!(target: "assay::operator", %error, "job panicked");
            failure(Failure::Panicked)
        }
    }
}

/// A failure of the operator, in one place for answers and streams.
pub(crate) enum Failure {
    /// It ends.
    Stopping,
    /// A fault of this program.
    Panicked,
    /// The requester's grammar can't go on in the middle of an answer.
    Grammar(String),
    /// The job did not run.
    Failed(String),
}

impl Failure {
    pub(crate) fn parts(self) -> (StatusCode, ApiError) {
        let (status, code, message) = match self {
            Self::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "the operator stops".to_owned(),
            ),
            Self::Panicked => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the job ended unexpectedly".to_owned(),
            ),
            Self::Grammar(reason) => (
                StatusCode::BAD_REQUEST,
                "grammar",
                Refusal::Grammar(reason).to_string(),
            ),
            Self::Failed(message) => (StatusCode::SERVICE_UNAVAILABLE, "failed", message),
        };
        let code = code.to_owned();
        let expected = None;
        (
            status,
            ApiError {
                message,
                code,
                expected,
            },
        )
    }
}

pub(crate) fn failure(failure: Failure) -> Response {
    let (status, error) = failure.parts();
    refuse(status, &error.code, error.message, None)
}

pub(crate) fn run_error(error: RunError) -> Response {
    match error {
        RunError::Refused(error) => refusal(&error),
        RunError::Failed(error) => {
            tracing::error!(target: "assay::operator", %error, "job failed");
            failure(Failure::Failed(error.to_string()))
        }
    }
}

/// The one table from refusals to HTTP: status, stable code.
const fn status_of(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
        Refusal::UnknownModel(_) => (StatusCode::NOT_FOUND, "unknown_model"),
        Refusal::OtherModel { .. } => (StatusCode::BAD_REQUEST, "other_model"),
        Refusal::Semantics { .. } => (StatusCode::BAD_REQUEST, "semantics"),
        Refusal::InputCommitment => (StatusCode::BAD_REQUEST, "input_commitment"),
        Refusal::Input(_) => (StatusCode::BAD_REQUEST, "input"),
        Refusal::Statement(_) => (StatusCode::BAD_REQUEST, "sampling"),
        Refusal::Grammar(_) => (StatusCode::BAD_REQUEST, "grammar"),
        Refusal::Context { .. } => (StatusCode::BAD_REQUEST, "context"),
        Refusal::Running(_) => (StatusCode::CONFLICT, "running"),
        Refusal::Line { .. } => (StatusCode::UNAUTHORIZED, "line"),
        Refusal::Sequence { .. } => (StatusCode::CONFLICT, "sequence"),
        Refusal::Taken { .. } => (StatusCode::CONFLICT, "taken"),
        Refusal::Expired { .. } => (StatusCode::BAD_REQUEST, "expired"),
        Refusal::Price { .. } => (StatusCode::PAYMENT_REQUIRED, "price"),
        Refusal::Balance { .. } => (StatusCode::PAYMENT_REQUIRED, "balance"),
        Refusal::Stake { .. } => (StatusCode::SERVICE_UNAVAILABLE, "stake"),
        Refusal::Tier { .. } => (StatusCode::BAD_REQUEST, "tier"),
        Refusal::NotProvable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "not_provable"),
        Refusal::Terms { .. } | Refusal::Unpriced(_) => (StatusCode::BAD_REQUEST, "terms"),
        Refusal::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        Refusal::ForeignLine { .. } => (StatusCode::CONFLICT, "foreign_line"),
    }
}

pub(crate) fn refusal(error: &Refusal) -> Response {
    let (status, code) = status_of(error);
    let expected = match error {
        Refusal::Sequence { want, .. } => Some(*want),
        Refusal::Taken { next, .. } => Some(*next),
        _ => None,
    };
    refuse(status, code, error.to_string(), expected)
}

fn refuse(status: StatusCode, code: &str, message: String, expected: Option<u64>) -> Response {
    let body = ApiError {
        message,
        code: code.to_owned(),
        expected,
    };
    let mut response = (status, Json(body)).into_response();
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{Failure, StatusCode};

    #[test]
    fn a_grammar_that_can_not_go_on_is_the_requesters() {
        let (status, error) = Failure::Grammar("too costly".into()).parts();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(error.code, "grammar");
        assert_eq!(error.message, "grammar: too costly");
    }
}
