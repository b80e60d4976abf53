//! One answer of a language model: a signed request, an operator's tokens as they come, a receipt that checks.
//!
//! The place in the line is left to the operator (`seq` 0), so that many answers of one account run side by side.
//! When an operator fails in the middle, the next one is asked the same question: the bits are the same, so the tokens
//! that were passed on already are skipped, and compared.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use assay_graph::Sampling;
use assay_receipt::{Bundle, ReceiptSignature, Request, Salt, input_commit, line_id};

use super::upstream::{Ask, Done, Message, Token};
use crate::buy::{Failure, Wanted, none_left, random_salt};
use crate::error::OperatorFault;
use crate::http::blocking;
use crate::operators::OperatorEntry;
use crate::server::Shared;
use crate::{Account, HttpError, ModelCodec};

/// Chain seconds that a request outlives the longest answer by.
const EXPIRY_MARGIN: u64 = 60;

/// What is bought.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) account: Account,
    pub(crate) model: Arc<dyn ModelCodec>,
    /// Prompt.
    pub(crate) tokens: Arc<[u32]>,
    /// Statement; `mask_root` is the grammar's hash where there is one.
    pub(crate) sampling: Sampling,
    /// Canonical bytes of the grammar.
    pub(crate) grammar: Option<Arc<[u8]>>,
    /// Alternatives wanted with each token.
    pub(crate) logprobs: Option<u8>,
    /// Evidence.
    pub(crate) want: Wanted,
    /// Highest fee.
    pub(crate) fee: u128,
    /// Whom to ask, in order.
    pub(crate) operators: Vec<OperatorEntry>,
    /// When the client is told that it took too long.
    pub(crate) deadline: tokio::time::Instant,
}

/// What to do after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    /// The answer is complete: the operator may stop.
    Stop,
}

/// Who takes the tokens of an answer.
pub(crate) trait Taker: Send {
    /// An operator has admitted the answer.
    fn admitted(&mut self);

    /// The next token. Called for every token of the answer, also for those that come after [`Flow::Stop`].
    ///
    /// # Errors
    /// Why this token can't be in the answer; the operator is at fault, and the taker is as it was before.
    fn token(&mut self, token: &Token) -> Result<Flow, String>;

    /// Root of the masks that the first `tokens` tokens must have been sampled under, for constrained answers.
    fn mask_root(&self, tokens: usize) -> Option<[u8; 32]>;
}

/// An answer that checked.
#[derive(Clone, Debug)]
pub(crate) struct Sold {
    pub(crate) claim_id: B256,
    pub(crate) fee: u128,
    /// All tokens, with the one that ended it.
    pub(crate) tokens: Vec<u32>,
}

/// What the taker has, whoever gave it.
#[derive(Default)]
struct Passed {
    tokens: Vec<u32>,
    /// Tokens after which the answer was complete.
    stop: Option<usize>,
}

impl Passed {
    fn is_complete_after(&self, tokens: usize) -> bool {
        self.stop.is_some_and(|stop| tokens >= stop)
    }

    /// Why an answer of these tokens can't be all of it.
    fn cut(&self, order: &Order, tokens: &[u32]) -> Option<&'static str> {
        let stop = &order.sampling.stop;
        let Some((last, before)) = tokens.split_last() else {
            return Some("it has no token");
        };
        if before.iter().any(|id| stop.contains(id)) {
            return Some("it goes on behind a token that ends it");
        }
        let full = tokens.len() >= order.sampling.max_out as usize;
        let ended = full || stop.contains(last) || self.is_complete_after(tokens.len());
        (!ended).then_some("it ends without a reason")
    }
}

struct Signed {
    request: Request,
    signature: ReceiptSignature,
    salt: B256,
}

/// Token ids as a model takes and gives them: `i32` little endian.
fn to_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|id| id.to_le_bytes()).collect()
}

impl Shared {
    /// Buys one answer; tokens go to `taker` as they come. Dropping the future cancels the answer.
    pub(crate) async fn sell(
        self: &Arc<Self>,
        order: &Order,
        taker: &mut dyn Taker,
    ) -> Result<Sold, HttpError> {
        let mut stopping = self.stopping.subscribe();
        let work = self.sell_by_any(order, taker);
        tokio::select! {
            outcome = tokio::time::timeout_at(order.deadline, work) => match outcome {
                Ok(outcome) => outcome,
                Err(_) => Err(HttpError::Timeout(self.config.answer_timeout.as_secs())),
            },
            _ = stopping.wait_for(|stopping| *stopping) => Err(HttpError::Stopping),
        }
    }

    async fn sell_by_any(
        self: &Arc<Self>,
        order: &Order,
        taker: &mut dyn Taker,
    ) -> Result<Sold, HttpError> {
        let mut faults = Vec::new();
        let mut passed = Passed::default();
        let mut operators = order.operators.clone();
        while !operators.is_empty() {
            for operator in &operators {
                match self.attempt(order, operator, taker, &mut passed).await {
                    Ok(sold) => return Ok(sold),
                    Err(Failure::Ours(error)) => return Err(error),
                    Err(Failure::Theirs(fault)) => {
                        tracing::warn!(target: "assay::gateway", operator = %operator.address, %fault, "operator failed");
                        self.metrics.operator_failures.inc();
                        if !fault.is_busy() {
                            self.operators.note_fault(operator.address);
                        }
                        faults.push((operator.address, fault));
                    }
                }
            }
            if faults.iter().all(|(_, fault)| fault.is_busy()) {
                break;
            }
            let (shared, model_id) = (Arc::clone(self), order.model.model_id());
            let asked: Vec<Address> = faults.iter().map(|(address, _)| *address).collect();
            let newcomers = move || {
                shared
                    .operators
                    .newcomers(&shared.client, &shared.agent, model_id, &asked)
            };
            operators = match tokio::task::spawn_blocking(newcomers).await {
                Ok(found) => found?,
                Err(_) => break,
            };
        }
        Err(none_left_of(&faults))
    }

    /// Asks one operator. `passed` are the tokens that the taker has.
    async fn attempt(
        self: &Arc<Self>,
        order: &Order,
        operator: &OperatorEntry,
        taker: &mut dyn Taker,
        passed: &mut Passed,
    ) -> Result<Sold, Failure> {
        let signed = self.sign_open(order, operator.address).await?;
        let ask = Ask {
            model_id: order.model.model_id(),
            input: to_bytes(&order.tokens).into(),
            salt: Salt(signed.salt),
            request: &signed.request,
            request_signature: signed.signature,
            sampling: order.sampling.encode().into(),
            grammar: order.grammar.as_ref().map(|bytes| bytes.to_vec().into()),
            logprobs: order.logprobs,
            stream: true,
        };
        let mut messages = match self.upstream.run(&operator.endpoint, &ask).await {
            Ok(messages) => messages,
            Err(fault) => return Err(of_refusal(order, fault)),
        };
        let mut job: Option<String> = None;
        let mut tokens = Vec::new();
        let mut stopped = false;
        loop {
            if !stopped
                && passed.is_complete_after(tokens.len())
                && let Some(job) = &job
            {
                stopped = true;
                self.upstream.stop(&operator.endpoint, job);
            }
            match messages.next().await.map_err(Failure::Theirs)? {
                Message::Start(name) => {
                    job = Some(name);
                    taker.admitted();
                }
                Message::Token(token) => {
                    tokens.push(token.id);
                    if tokens.len() > order.sampling.max_out as usize {
                        return Err(fault("more tokens than were asked for"));
                    }
                    if let Some(before) = passed.tokens.get(tokens.len() - 1) {
                        if *before != token.id {
                            return Err(Failure::Ours(HttpError::BadReceipt(
                                "two operators gave different tokens for one request; at least one of them is wrong".into(),
                            )));
                        }
                        continue;
                    }
                    // A token that is refused was not passed on: the next operator may give another.
                    let flow = taker.token(&token).map_err(|reason| fault(&reason))?;
                    passed.tokens.push(token.id);
                    if flow == Flow::Stop {
                        passed.stop.get_or_insert(tokens.len());
                    }
                }
                Message::Done(done) => {
                    let claim_id = done.receipt.claim_id();
                    if let Some(reason) = passed.cut(order, &tokens) {
                        return Err(Failure::Theirs(OperatorFault::Receipt {
                            claim_id,
                            reason: reason.into(),
                        }));
                    }
                    let mask_root = taker.mask_root(tokens.len());
                    return self
                        .receive(order, operator, signed, *done, tokens, mask_root)
                        .await;
                }
                Message::Failed(error) => {
                    let refusal = OperatorFault::Refused {
                        code: error.code,
                        message: error.message,
                    };
                    return Err(of_refusal(order, refusal));
                }
            }
        }
    }

    /// Signs a request that any place of the line fits.
    async fn sign_open(
        self: &Arc<Self>,
        order: &Order,
        operator: Address,
    ) -> Result<Signed, Failure> {
        let shared = Arc::clone(self);
        let order = order.clone();
        let work = move || {
            let salt = match random_salt() {
                Ok(salt) => salt,
                Err(Failure::Ours(error)) => return Err(error),
                Err(Failure::Theirs(fault)) => return Err(HttpError::Internal(fault.to_string())),
            };
            let lifetime = shared.config.answer_timeout.as_secs() + EXPIRY_MARGIN;
            let request = Request {
                version: 1,
                line_id: line_id(operator, order.account.key.address()),
                seq: 0,
                model_id: order.model.model_id(),
                semantics: order.model.semantics(),
                input_commit: input_commit(salt, &to_bytes(&order.tokens)),
                sampling_hash: order.sampling.hash().into(),
                max_out: order.sampling.max_out,
                max_fee: order.fee,
                value_at_risk: shared.config.value_at_risk,
                tier_mask: order.want.tier().mask(),
                audit_ppm: shared.config.audit_ppm,
                window: shared.config.window,
                expiry: shared.client.chain_seconds()?.saturating_add(lifetime),
            };
            let signature = request.sign(&shared.domain, order.account.key.receipt_key());
            Ok(Signed {
                request,
                signature,
                salt,
            })
        };
        blocking(work).await.map_err(Failure::Ours)
    }

    /// Checks the end of an answer and keeps its bundle.
    async fn receive(
        self: &Arc<Self>,
        order: &Order,
        operator: &OperatorEntry,
        signed: Signed,
        done: Done,
        tokens: Vec<u32>,
        mask_root: Option<[u8; 32]>,
    ) -> Result<Sold, Failure> {
        let claim_id = done.receipt.claim_id();
        let wrong = |reason: &str| {
            Failure::Theirs(OperatorFault::Receipt {
                claim_id,
                reason: reason.into(),
            })
        };
        if done.receipt.sampling_hash != signed.request.sampling_hash {
            return Err(wrong("it names another sampling statement"));
        }
        if done.receipt.ext_hash != B256::from(mask_root.unwrap_or_default()) {
            return Err(wrong("its token masks are not those of the grammar"));
        }
        if *done.output != *to_bytes(&tokens) {
            return Err(wrong("its output is not the tokens that were sent"));
        }
        let positions = (order.tokens.len() as u64, tokens.len() as u64);
        if (done.receipt.n_in.into(), done.receipt.n_out.into()) != positions {
            return Err(wrong("it counts other tokens than were asked and sent"));
        }
        let shared = Arc::clone(self);
        let (order, operator) = (order.clone(), operator.clone());
        let work = move || {
            let checked = shared.check(
                &operator,
                &signed.request,
                signed.salt,
                (&done.receipt, &done.signature),
                &done.output,
                order.want,
            );
            if let Err(failure) = checked {
                return Ok(Err(failure.of_receipt(claim_id)));
            }
            let fee = done.receipt.fee;
            let mut bundle = Bundle::new(shared.domain, done.receipt, done.signature)
                .with_opening(signed.salt, to_bytes(&order.tokens), done.output.to_vec())
                .with_request(signed.request, signed.signature);
            bundle.model = Some(order.model.name().to_owned());
            bundle.sampling = Some(order.sampling.encode());
            bundle.grammar = order.grammar.as_deref().map(<[u8]>::to_vec);
            shared.receipts.store(&order.account, claim_id, &bundle)?;
            shared.metrics.receipts.inc();
            let counted = u64::try_from(fee).unwrap_or(u64::MAX);
            shared.metrics.fees.inc_by(counted);
            Ok(Ok(Sold {
                claim_id,
                fee,
                tokens,
            }))
        };
        match blocking(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::Ours(error)),
        }
    }

    /// When an answer that is asked for now must be there.
    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        let longest = Duration::from_secs(7 * 86_400);
        tokio::time::Instant::now() + self.config.answer_timeout.min(longest)
    }
}

fn fault(reason: &str) -> Failure {
    Failure::Theirs(OperatorFault::Unreadable(reason.to_owned()))
}

/// What an operator refuses, before an answer or in the middle of one: some of it is the caller's to mend, and no other
/// operator would do better.
fn of_refusal(order: &Order, fault: OperatorFault) -> Failure {
    match fault {
        OperatorFault::Refused { code, message } if code == "balance" => {
            Failure::Ours(HttpError::PaymentRequired(message))
        }
        OperatorFault::Refused { code, message }
            if code == "grammar" && order.grammar.is_some() =>
        {
            Failure::Ours(HttpError::invalid("response_format", message))
        }
        other => Failure::Theirs(other),
    }
}

/// All operators failed: 429 if each of them is merely busy.
fn none_left_of(faults: &[(Address, OperatorFault)]) -> HttpError {
    if !faults.is_empty() && faults.iter().all(|(_, fault)| fault.is_busy()) {
        return HttpError::OperatorsBusy;
    }
    none_left(faults)
}
