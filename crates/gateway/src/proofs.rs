//! Answers that are proven: the tier that a buyer asks for, and proofs of answers it has.

use std::sync::Arc;

use alloy_primitives::{B256, keccak256};
use assay_abi::{IModels, IStaking, MODELS, STAKING};
use assay_operator::ApiError;
use assay_receipt::Tier;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::error::ProofRefusal;
use crate::http::blocking;
use crate::server::Shared;
use crate::{HttpError, ModelCodec};

/// Header that names the tier of an answer.
pub(crate) const TIER_HEADER: &str = "assay-tier";
/// Largest proof file that is passed on, bytes.
const MAX_FILE: u64 = 64 << 20;

/// The tier that a call asks for: the field `tier` of its body, else the header; else optimistic.
pub(crate) fn tier_of(
    headers: &HeaderMap,
    body: Option<&Map<String, Value>>,
) -> Result<Tier, HttpError> {
    let wrong = |have: &str| {
        let have: String = have.chars().take(40).collect();
        HttpError::invalid(
            "tier",
            format!("`tier` must be `optimistic` or `zk`, not `{have}`"),
        )
    };
    let named = match body.and_then(|body| body.get("tier")) {
        None | Some(Value::Null) => headers.get(TIER_HEADER).map(|v| v.to_str().unwrap_or("?")),
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(wrong("another kind of value")),
    };
    match named {
        None => Ok(Tier::Optimistic),
        Some(name) => [Tier::Optimistic, Tier::Zk]
            .into_iter()
            .find(|tier| tier.name() == name)
            .ok_or_else(|| wrong(name)),
    }
}

impl Shared {
    /// Evidence that a receipt of tier zk must name: of the model's registered key, which has to be usable.
    pub(crate) fn evidence(&self, model: &dyn ModelCodec) -> Result<B256, HttpError> {
        let model_id = model.model_id();
        let key = self
            .client
            .call(MODELS, &IModels::proofKeyCall { modelId: model_id })?;
        if key.usable {
            return Ok(keccak256(key.keyId));
        }
        let why = if key.keyId == B256::ZERO {
            "no proof key of it is registered"
        } else {
            "its proof key is not usable yet"
        };
        Err(HttpError::Proof {
            why: ProofRefusal::NotProvable,
            message: format!("answers of `{}` can't be proven: {why}", model.name()),
        })
    }

    /// URL of a receipt at the operator that issued it.
    fn at_operator(&self, headers: &HeaderMap, id: &str, what: &str) -> Result<String, HttpError> {
        let account = self.account(headers)?;
        let shown: String = id.chars().take(80).collect();
        let claim_id: B256 = id
            .parse()
            .map_err(|_| HttpError::NotFound(format!("`{shown}` is no receipt id")))?;
        let bundle = self.receipts.load(&account, claim_id)?;
        let call = IStaking::operatorCall {
            account: bundle.receipt.operator,
        };
        let endpoint = self.client.call(STAKING, &call)?.endpoint;
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(HttpError::NoOperator(
                "the operator of this receipt has no http address".into(),
            ));
        }
        let endpoint = endpoint.trim_end_matches('/');
        Ok(format!("{endpoint}/v1/receipts/{claim_id}/{what}"))
    }

    fn passed_on(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Response, HttpError> {
        let unreachable = |error: ureq::Error| {
            HttpError::NoOperator(format!("the operator of this receipt: {error}"))
        };
        let mut answer = answer.map_err(unreachable)?;
        let status = answer.status();
        let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(MAX_FILE)
            .read_to_vec()
            .map_err(unreachable)?;
        if status.is_success() {
            let status = StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::OK);
            let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
            return Ok((status, [(header::CONTENT_TYPE, kind)], bytes).into_response());
        }
        let refusal: ApiError = serde_json::from_slice(&bytes).map_err(|_| {
            HttpError::NoOperator(format!("the operator of this receipt answers {status}"))
        })?;
        let why = match refusal.code.as_str() {
            "proofs_off" => ProofRefusal::Off,
            "no_proof" => ProofRefusal::NotAsked,
            "rejected" => ProofRefusal::Rejected,
            "not_provable" => ProofRefusal::NotProvable,
            "proofs_full" => ProofRefusal::Full,
            "unknown_job" => return Err(HttpError::NotFound(refusal.message)),
            _ => return Err(HttpError::NoOperator(refusal.message)),
        };
        Err(HttpError::Proof {
            why,
            message: refusal.message,
        })
    }
}

/// `POST /v1/receipts/{id}/prove`: passed on to the operator that issued the receipt.
pub(crate) async fn prove(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    blocking(move || {
        let url = shared.at_operator(&headers, &id, "prove")?;
        shared.passed_on(shared.agent.post(&url).send_empty())
    })
    .await
}

/// `GET /v1/receipts/{id}/proof`: the proof file, or where the proof stands.
pub(crate) async fn proof(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    blocking(move || {
        let url = shared.at_operator(&headers, &id, "proof")?;
        shared.passed_on(shared.agent.get(&url).call())
    })
    .await
}
