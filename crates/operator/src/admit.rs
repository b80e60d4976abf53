//! Whether a question is answered: every check before any work is done.

use alloy_primitives::{Address, B256, U256};
use assay_abi::{CLAIMS, IClaims, IModels, IStaking, MODELS, STAKING};
use assay_graph::{SEMANTICS, Sampling};
use assay_receipt::{ReceiptSignature, Request, Tier, grammar_hash, line_id, opens_input};
use assay_wallet::ClientError;

use crate::error::RunError;
use crate::in_flight::Reservation;
use crate::issue::Answer;
use crate::language::{LanguageModel, MAX_ALTERNATIVES, MaskSource, Prompt, tokens_of};
use crate::ledger::LineTip;
use crate::model::ModelRunner;
use crate::operator::Shared;
use crate::prover::{NoProof, provable};
use crate::{OperatorError, Refusal};

/// A question as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) model_id: B256,
    pub(crate) input: Vec<u8>,
    pub(crate) salt: B256,
    pub(crate) request: Request,
    pub(crate) signature: ReceiptSignature,
    /// Canonical sampling statement, of language models.
    pub(crate) sampling: Option<Vec<u8>>,
    /// Canonical grammar, of constrained answers.
    pub(crate) grammar: Option<Vec<u8>>,
    /// Alternatives wanted with each token.
    pub(crate) logprobs: Option<u8>,
}

/// A question that will be answered.
pub(crate) struct Admitted {
    pub(crate) question: Question,
    pub(crate) requester: Address,
    pub(crate) terms: Terms,
    pub(crate) reservation: Reservation,
    /// The receipt is dated at the end, because the run may be long.
    pub(crate) long: bool,
}

/// The part of a question that is for a language model.
pub(crate) struct Spoken {
    pub(crate) prompt: Prompt,
    pub(crate) masks: Option<Box<dyn MaskSource>>,
}

/// What comes of a question.
pub(crate) enum Admission {
    /// It was answered before.
    Known(Box<Answer>),
    /// It is to be answered.
    New(Box<Admitted>, Option<Box<Spoken>>),
}

/// What the chain and the configuration fix for one job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) tier: Tier,
    pub(crate) now: u64,
    pub(crate) fee: u128,
    pub(crate) audit_ppm: u32,
    pub(crate) exposure: u128,
    /// Exposure sum of the line with this job; of open requests that is known at the end only.
    pub(crate) cum_exposure: u128,
}

/// An audit that is certain, parts per million.
const WHOLE: u32 = 1_000_000;
/// Least and most seconds from now at which an open request may expire.
const OPEN_AT_LEAST: u64 = 30;
const OPEN_AT_MOST: u64 = 86_400;

impl Shared {
    /// Checks a question. Blocks for a few calls of the chain.
    pub(crate) fn admit(&self, question: Question) -> Result<Admission, RunError> {
        let model = self.check_question(&question)?;
        let requester = self.check_signer(&question)?;
        if let Some(answer) = self.repeated(&question)? {
            return Ok(Admission::Known(Box::new(answer)));
        }
        let language = model.language();
        let spoken = language.map(|language| check_spoken(language, &question));
        let mut spoken = spoken.transpose()?.map(Box::new);
        let (terms, reservation) = self.check_terms(&question, requester)?;
        // Some work already, so it comes last.
        if let (Some(language), Some(spoken), Some(grammar)) =
            (language, &mut spoken, &question.grammar)
        {
            let masks = language.constraint(grammar).map_err(Refusal::Grammar)?;
            spoken.masks = Some(masks);
        }
        let admitted = Admitted {
            long: spoken.is_some() || question.request.is_open(),
            question,
            requester,
            terms,
            reservation,
        };
        Ok(Admission::New(Box::new(admitted), spoken))
    }

    fn check_question(&self, question: &Question) -> Result<&dyn ModelRunner, Refusal> {
        let request = &question.request;
        request.check()?;
        let model = self
            .models
            .get(&question.model_id)
            .ok_or(Refusal::UnknownModel(question.model_id))?;
        if request.model_id != question.model_id {
            return Err(Refusal::OtherModel {
                request: request.model_id,
                call: question.model_id,
            });
        }
        if request.semantics != SEMANTICS {
            return Err(Refusal::Semantics {
                have: request.semantics,
                want: SEMANTICS,
            });
        }
        if !opens_input(request.input_commit, question.salt, &question.input) {
            return Err(Refusal::InputCommitment);
        }
        match tier_of(request) {
            Some(Tier::Zk) => {
                self.zk_key(question.model_id)?;
                let sampling = question.sampling.as_ref().map(|s| Sampling::decode(s));
                let refuse = |reason: String| Refusal::NotProvable {
                    model_id: question.model_id,
                    reason,
                };
                // bytes that are no statement are refused below, in its own words
                let sampling = match sampling {
                    Some(Ok(sampling)) => {
                        provable(&sampling).map_err(|reason| refuse(reason.into()))?;
                        Some(sampling)
                    }
                    _ => None,
                };
                // what is sold must be proven in time, or the stake is lost
                let keys = &self.prover.keys;
                keys.admits(question.model_id, &question.input, sampling.as_ref())
                    .map_err(refuse)?;
                let limit = self.config.proofs.queue;
                if let Err(NoProof::Full { waiting, limit }) = self.prover.room(limit) {
                    return Err(Refusal::Busy { waiting, limit });
                }
            }
            Some(_) => {}
            None => {
                return Err(Refusal::Tier {
                    mask: request.tier_mask,
                });
            }
        }
        if request.window > self.config.max_window {
            return Err(Refusal::Terms {
                field: "window",
                have: request.window.into(),
                low: 0,
                high: self.config.max_window.into(),
            });
        }
        Ok(model.as_ref())
    }

    /// The requester is whoever signed; the line says which operator it meant.
    fn check_signer(&self, question: &Question) -> Result<Address, Refusal> {
        let requester = question.request.signer(&self.domain, &question.signature)?;
        let operator = self.config.operator.address();
        if question.request.line_id != line_id(operator, requester) {
            return Err(Refusal::Line {
                have: question.request.line_id,
                operator,
                requester,
            });
        }
        Ok(requester)
    }

    /// The same request again gets the same receipt; another request for the same place gets none.
    fn repeated(&self, question: &Question) -> Result<Option<Answer>, Refusal> {
        let (line, seq) = (question.request.line_id, question.request.seq);
        let ledger = self.ledger.lock();
        if question.request.is_open() {
            let claim_id = ledger.answer_to(question.request.struct_hash());
            let job = claim_id.and_then(|claim_id| ledger.job(claim_id));
            return Ok(job.map(|job| self.sign(job)));
        }
        let Some(claim_id) = ledger.holder(line, seq) else {
            return Ok(None);
        };
        match ledger.job(claim_id) {
            Some(job) if job.request == question.request => Ok(Some(self.sign(job))),
            _ => Err(Refusal::Taken {
                seq,
                claim_id,
                next: ledger.tip(line).seq.saturating_add(1),
            }),
        }
    }

    /// Everything that depends on the chain: time, price, balance, stake, the line.
    fn check_terms(
        &self,
        question: &Question,
        requester: Address,
    ) -> Result<(Terms, Reservation), RunError> {
        let request = &question.request;
        let operator = self.config.operator.address();
        let now = self.client.chain_seconds()?;
        if now > request.expiry {
            return Err(Refusal::Expired {
                expiry: request.expiry,
                now,
            }
            .into());
        }
        check_expiry(request, now)?;
        let fee = self.price(question.model_id)?;
        if fee > request.max_fee {
            return Err(Refusal::Price {
                price: fee,
                max_fee: request.max_fee,
            }
            .into());
        }
        let audit_ppm = request.audit_ppm.max(self.config.audit_ppm);
        let tier = tier_of(request).unwrap_or(Tier::Optimistic);
        // What is proven before it is paid needs no stake beyond its fee.
        let call = match tier {
            Tier::Zk => IClaims::requiredExposureCall {
                fee,
                valueAtRisk: 0,
                auditPpm: WHOLE,
            },
            _ => IClaims::requiredExposureCall {
                fee,
                valueAtRisk: request.value_at_risk,
                auditPpm: audit_ppm,
            },
        };
        let exposure = match self.client.call(CLAIMS, &call) {
            Err(ClientError::Reverted(error)) => {
                return Err(Refusal::Unpriced(error.to_string()).into());
            }
            outcome => outcome?,
        };
        // Reserved before it is checked: of two at the same time at least one sees the other.
        let request_hash = request.struct_hash();
        let reservation = self
            .in_flight
            .reserve(request_hash, requester, (fee, exposure))
            .ok_or(Refusal::Running(request_hash))?;
        // Running answers first: one that completes in between is counted twice, never not at all.
        let (running_exposure, running_fees) = self.in_flight.sums(requester, request_hash);
        let (signed_exposure, signed_fees) = self.ledger.lock().unasserted(requester);
        let waiting_exposure = signed_exposure.saturating_add(running_exposure);
        let waiting_fees = signed_fees.saturating_add(running_fees);
        self.check_stake(operator, exposure, waiting_exposure)?;
        let balance = self
            .client
            .call(CLAIMS, &IClaims::balanceOfCall { buyer: requester })?;
        let balance = u128::try_from(balance).unwrap_or(u128::MAX);
        let need = waiting_fees.saturating_add(fee);
        if balance < need {
            return Err(Refusal::Balance {
                requester,
                have: balance,
                need,
            }
            .into());
        }
        let cum_exposure = self.line_exposure(request)?;
        let terms = Terms {
            tier,
            now,
            fee,
            audit_ppm,
            exposure,
            cum_exposure: cum_exposure.saturating_add(exposure),
        };
        Ok((terms, reservation))
    }

    fn check_stake(&self, operator: Address, need: u128, waiting: u128) -> Result<(), RunError> {
        let free = self
            .client
            .call(STAKING, &IStaking::freeStakeCall { account: operator })?;
        let free = free.saturating_sub(U256::from(waiting));
        let free = u128::try_from(free).unwrap_or(u128::MAX);
        if free < need {
            return Err(Refusal::Stake { free, need }.into());
        }
        Ok(())
    }

    /// Exposure sum of the line before this request, after checking that the request is next or open.
    fn line_exposure(&self, request: &Request) -> Result<u128, RunError> {
        let tip = self.ledger.lock().tip(request.line_id);
        let want = tip.seq.saturating_add(1);
        if !request.is_open() && request.seq != want {
            return Err(Refusal::Sequence {
                have: request.seq,
                want,
            }
            .into());
        }
        if tip.seq > 0 && tip.cum_exposure > 0 {
            return Ok(tip.cum_exposure);
        }
        let line = self.client.call(
            CLAIMS,
            &IClaims::lineCall {
                lineId: request.line_id,
            },
        )?;
        if line.assertedSeq != tip.seq {
            return Err(Refusal::ForeignLine {
                line_id: request.line_id,
                chain: line.assertedSeq,
                log: tip.seq,
            }
            .into());
        }
        let cum_exposure = line.cumExposure;
        self.ledger.lock().set_tip(
            request.line_id,
            LineTip {
                seq: tip.seq,
                cum_exposure,
            },
        );
        Ok(cum_exposure)
    }

    /// The listed price of a model, `usd` base units.
    pub(crate) fn price(&self, model_id: B256) -> Result<u128, OperatorError> {
        let call = IModels::modelCall { modelId: model_id };
        Ok(self.client.call(MODELS, &call)?.price)
    }
}

/// The tier of the answer: the cheaper one where the request leaves a choice.
fn tier_of(request: &Request) -> Option<Tier> {
    [Tier::Optimistic, Tier::Zk]
        .into_iter()
        .find(|tier| request.tier_mask & tier.mask() != 0)
}

/// Everything that depends on the language model alone: statement, grammar, prompt.
fn check_spoken(model: &LanguageModel, question: &Question) -> Result<Spoken, Refusal> {
    let statement = |reason: &str| Refusal::Statement(reason.to_owned());
    let bytes = question
        .sampling
        .as_ref()
        .ok_or_else(|| statement("a language model needs one, and there is none in the call"))?;
    let sampling =
        Sampling::decode(bytes).map_err(|error| Refusal::Statement(error.to_string()))?;
    if question.request.sampling_hash.0 != sampling.hash() {
        return Err(statement("it is not the one that the request names"));
    }
    if question.request.max_out != sampling.max_out {
        return Err(Refusal::Statement(format!(
            "it allows {} tokens, the request {}",
            sampling.max_out, question.request.max_out
        )));
    }
    let vocabulary = model.vocabulary();
    let named = sampling
        .stop
        .iter()
        .chain(sampling.bias.iter().map(|b| &b.0));
    if let Some(token) = named.max().filter(|token| **token >= vocabulary) {
        return Err(Refusal::Statement(format!(
            "it names token {token}, the model has {vocabulary}"
        )));
    }
    if question.logprobs.is_some_and(|top| top > MAX_ALTERNATIVES) {
        return Err(Refusal::Statement(format!(
            "more than {MAX_ALTERNATIVES} alternatives are wanted"
        )));
    }
    let tokens = tokens_of(&question.input)
        .filter(|tokens| !tokens.is_empty())
        .ok_or_else(|| Refusal::Input("a prompt is one or more token ids of 4 bytes".into()))?;
    if let Some((at, token)) = tokens.iter().enumerate().find(|(_, t)| **t >= vocabulary) {
        return Err(Refusal::Input(format!(
            "token {token} at {at}, the model has {vocabulary}"
        )));
    }
    let limit = model.structure().header.max_seq;
    let positions = tokens.len() as u64 + u64::from(sampling.max_out) - 1;
    if positions > u64::from(limit) {
        return Err(Refusal::Context {
            prompt: tokens.len(),
            max_out: sampling.max_out,
            limit,
        });
    }
    match &question.grammar {
        None if sampling.is_masked() => {
            return Err(Refusal::Grammar(
                "the statement names one, and there is none in the call".into(),
            ));
        }
        Some(grammar) if grammar_hash(grammar).0 != sampling.mask_root => {
            return Err(Refusal::Grammar(
                "it is not the one that the statement names".into(),
            ));
        }
        _ => {}
    }
    Ok(Spoken {
        prompt: Prompt {
            tokens,
            sampling,
            salt: question.salt.0,
        },
        masks: None,
    })
}

/// An open request must leave time for the answer, because its receipt is dated at the end, and must not outlive the memory of what was answered.
fn check_expiry(request: &Request, now: u64) -> Result<(), Refusal> {
    let (low, high) = (
        now.saturating_add(OPEN_AT_LEAST),
        now.saturating_add(OPEN_AT_MOST),
    );
    if request.is_open() && !(low..=high).contains(&request.expiry) {
        return Err(Refusal::Terms {
            field: "expiry",
            have: request.expiry,
            low,
            high,
        });
    }
    Ok(())
}
