//! An operator whose model is a script: it checks requests as a real one does, says what it is told to, and signs.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use assay_graph::sampling::mask_tree;
use assay_graph::{SEMANTICS, Sampling};
use assay_receipt::{
    Domain, Flags, Receipt, ReceiptSignature, Request, Salt, Tier, line_id, opens_input,
    output_commit,
};
use assay_wallet::Key;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::chain::{CHAIN_ID, EXPOSURE, NOW, PRICE};

/// What an operator does with one answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Tokens, one event each.
    Say(Vec<u32>),
    /// Tokens for ever, with a pause between them.
    Babble(u32, Duration),
    Wait(Duration),
    Ping,
    /// An error event.
    Fail(&'static str),
    /// The connection breaks.
    Break,
}

/// How it deals with one request.
#[derive(Clone, Default)]
pub struct Behaviour {
    pub steps: Vec<Step>,
    /// Refuse with this status and code instead.
    pub refuse: Option<(u16, &'static str)>,
    /// Change the receipt before it is signed.
    pub forge: Option<fn(&mut Receipt)>,
    /// Tokens come without their probabilities.
    pub bare: bool,
    /// Masks of a constrained answer.
    pub masks: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub model_id: B256,
    pub input: Bytes,
    pub salt: Salt,
    pub request: Request,
    pub request_signature: ReceiptSignature,
    pub sampling: Bytes,
    #[serde(default)]
    pub grammar: Option<Bytes>,
    #[serde(default)]
    pub logprobs: Option<u8>,
    pub stream: bool,
}

impl Asked {
    pub fn prompt(&self) -> Vec<u32> {
        let words = self.input.as_chunks::<4>().0;
        words.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    pub fn statement(&self) -> Sampling {
        Sampling::decode(&self.sampling).unwrap()
    }
}

pub type Script = dyn Fn(&Asked) -> Behaviour + Send + Sync;

pub struct FakeOperator {
    pub key: Key,
    pub receipt_key: Key,
    pub model_id: B256,
    pub script: Mutex<Arc<Script>>,
    pub asked: Mutex<Vec<Asked>>,
    pub stopped: AtomicUsize,
    pub cancelled: AtomicUsize,
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    pub finished: AtomicUsize,
    stops: Mutex<HashMap<String, Arc<AtomicBool>>>,
    seq: Mutex<u64>,
}

impl FakeOperator {
    pub fn new(key: Key, receipt_key: Key, model_id: B256) -> Arc<Self> {
        Arc::new(Self {
            key,
            receipt_key,
            model_id,
            script: Mutex::new(Arc::new(|_: &Asked| Behaviour::default())),
            asked: Mutex::default(),
            stopped: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            stops: Mutex::default(),
            seq: Mutex::new(0),
        })
    }

    pub fn play(&self, script: impl Fn(&Asked) -> Behaviour + Send + Sync + 'static) {
        *self.script.lock() = Arc::new(script);
    }

    pub async fn serve(self: &Arc<Self>) -> String {
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/run", post(run))
            .route("/v1/run/{job}/stop", post(stop))
            .with_state(Arc::clone(self));
        super::listen(router).await
    }

    fn check(&self, asked: &Asked) {
        let domain = Domain::new(CHAIN_ID, assay_abi::CLAIMS);
        let signer = asked.request.signer(&domain, &asked.request_signature);
        let line = line_id(self.key.address(), signer.unwrap());
        assert_eq!(asked.request.line_id, line);
        assert!(asked.request.is_open());
        asked.request.check().unwrap();
        assert!(opens_input(
            asked.request.input_commit,
            asked.salt.0,
            &asked.input
        ));
        let statement = asked.statement();
        assert_eq!(asked.request.sampling_hash, B256::from(statement.hash()));
        assert_eq!(asked.request.max_out, statement.max_out);
        let grammar = asked.grammar.as_ref();
        let root = grammar.map(|bytes| blake3::derive_key("assay grammar v1", bytes));
        assert_eq!(statement.mask_root, root.unwrap_or_default());
        assert!(asked.stream);
    }

    fn receipt(&self, asked: &Asked, tokens: &[u32], behaviour: &Behaviour) -> Value {
        let mut seq = self.seq.lock();
        *seq += 1;
        let output: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        let domain = Domain::new(CHAIN_ID, assay_abi::CLAIMS);
        let requester = asked.request.signer(&domain, &asked.request_signature);
        let ext_hash = match asked.grammar {
            Some(_) => {
                let masks = behaviour.masks.iter().take(tokens.len());
                mask_tree(masks.map(Vec::as_slice)).root().into()
            }
            None => B256::ZERO,
        };
        let mut receipt = Receipt {
            version: 1,
            tier: Tier::Optimistic as u8,
            flags: Flags::AUDITORS_SEE_INPUT,
            line_id: asked.request.line_id,
            seq: *seq,
            cum_exposure: EXPOSURE * u128::from(*seq),
            requester: requester.unwrap(),
            operator: self.key.address(),
            request_hash: asked.request.struct_hash(),
            model_id: asked.model_id,
            semantics: SEMANTICS,
            input_commit: asked.request.input_commit,
            output_commit: output_commit(asked.salt.0, &output),
            sampling_hash: asked.request.sampling_hash,
            n_in: asked.prompt().len() as u32,
            n_out: tokens.len() as u32,
            trace_root: B256::repeat_byte(7),
            n_leaves: 9,
            evidence_hash: B256::ZERO,
            fee: PRICE,
            value_at_risk: asked.request.value_at_risk,
            exposure: EXPOSURE,
            audit_ppm: asked.request.audit_ppm,
            window: asked.request.window,
            issued_at: NOW,
            include_by: NOW + 60,
            ext_hash,
        };
        if let Some(forge) = behaviour.forge {
            forge(&mut receipt);
        }
        let signature = receipt.sign(&domain, self.receipt_key.receipt_key());
        json!({
            "claimId": receipt.claim_id(),
            "receipt": receipt,
            "signature": signature,
            "output": Bytes::from(output),
            "sampling": asked.sampling,
        })
    }
}

async fn models(State(operator): State<Arc<FakeOperator>>) -> Response {
    Json(json!([{"modelId": operator.model_id, "maxSeq": 64, "tiers": ["optimistic"]}]))
        .into_response()
}

async fn stop(State(operator): State<Arc<FakeOperator>>, Path(job): Path<String>) -> StatusCode {
    operator.stopped.fetch_add(1, Ordering::SeqCst);
    match operator.stops.lock().get(&job) {
        Some(stop) => {
            stop.store(true, Ordering::SeqCst);
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}

struct Channel(mpsc::Receiver<Result<String, std::io::Error>>);

impl hyper::body::Body for Channel {
    type Data = hyper::body::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|text| text.map(|text| text.map(|text| hyper::body::Frame::data(text.into()))))
    }
}

async fn run(State(operator): State<Arc<FakeOperator>>, Json(asked): Json<Asked>) -> Response {
    operator.check(&asked);
    let script = Arc::clone(&operator.script.lock());
    let behaviour = script(&asked);
    operator.asked.lock().push(asked.clone());
    if let Some((status, code)) = behaviour.refuse {
        let body = json!({"message": format!("told to refuse: {code}"), "code": code});
        return (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let now = operator.running.fetch_add(1, Ordering::SeqCst) + 1;
        operator.most_running.fetch_max(now, Ordering::SeqCst);
        let whole = say(&operator, &asked, &behaviour, sender).await;
        operator.running.fetch_sub(1, Ordering::SeqCst);
        let counter = if whole.is_some() {
            &operator.finished
        } else {
            &operator.cancelled
        };
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut response = Body::new(Channel(receiver)).into_response();
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    response
}

fn event(name: &str, data: &Value) -> Result<String, std::io::Error> {
    Ok(format!("event: {name}\ndata: {data}\n\n"))
}

/// `None` when the client went away.
async fn say(
    operator: &FakeOperator,
    asked: &Asked,
    behaviour: &Behaviour,
    sender: mpsc::Sender<Result<String, std::io::Error>>,
) -> Option<()> {
    let job = format!("{:x}", asked.request.struct_hash());
    let stop = Arc::new(AtomicBool::new(false));
    operator.stops.lock().insert(job.clone(), Arc::clone(&stop));
    sender
        .send(event("start", &json!({"job": job})))
        .await
        .ok()?;
    let statement = asked.statement();
    let mut tokens: Vec<u32> = Vec::new();
    let mut steps: std::collections::VecDeque<Step> = behaviour.steps.clone().into();
    while let Some(step) = steps.pop_front() {
        let next: Vec<u32> = match step {
            Step::Say(ids) => ids,
            Step::Babble(id, pause) => {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = sender.closed() => return None,
                }
                steps.push_front(Step::Babble(id, pause));
                vec![id]
            }
            Step::Wait(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => continue,
                    () = sender.closed() => return None,
                }
            }
            Step::Ping => {
                sender.send(Ok(": ping\n\n".into())).await.ok()?;
                continue;
            }
            Step::Fail(code) => {
                let error = json!({"message": "told to fail", "code": code});
                sender.send(event("error", &error)).await.ok()?;
                return Some(());
            }
            Step::Break => {
                sender
                    .send(Err(std::io::Error::other("broken")))
                    .await
                    .ok()?;
                return Some(());
            }
        };
        for id in next {
            tokens.push(id);
            let mut token = json!({"id": id, "logprob": null, "top": []});
            if let Some(count) = asked.logprobs.filter(|_| !behaviour.bare) {
                token["logprob"] = json!(-0.25);
                let top: Vec<Value> = (0..u32::from(count))
                    .map(|i| json!([id + i, -0.25 - i as f32]))
                    .collect();
                token["top"] = json!(top);
            }
            sender.send(event("token", &token)).await.ok()?;
            let full = tokens.len() >= statement.max_out as usize;
            if full || statement.stop.contains(&id) || stop.load(Ordering::SeqCst) {
                steps.clear();
                break;
            }
        }
    }
    let done = operator.receipt(asked, &tokens, behaviour);
    sender.send(event("done", &done)).await.ok()
}
