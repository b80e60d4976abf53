//! From a signed request to a signed receipt: all checks first, then the run, then the log, then the signature.

use alloy_primitives::{Address, B256, U256};
use assay_abi::{CLAIMS, IClaims, IModels, IStaking, MODELS, STAKING};
use assay_graph::SEMANTICS;
use assay_receipt::{
    Flags, Receipt, ReceiptSignature, Request, Salt, Tier, line_id, opens_input, output_commit,
};
use assay_wallet::ClientError;

use crate::error::RunError;
use crate::ledger::{Job, JobState};
use crate::model::{Execution, ModelRunner, input_tensor};
use crate::operator::Shared;
use crate::{OperatorError, Refusal};

/// A question as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) model_id: B256,
    pub(crate) input: Vec<u8>,
    pub(crate) salt: B256,
    pub(crate) request: Request,
    pub(crate) signature: ReceiptSignature,
}

/// An answer with its receipt.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) receipt: Receipt,
    pub(crate) signature: ReceiptSignature,
    pub(crate) output: Vec<u8>,
}

impl Shared {
    /// Answers a question. Blocks for the run of the model and a few calls of the chain.
    pub(crate) fn answer(&self, question: &Question) -> Result<Answer, RunError> {
        let model = self.check_question(question)?;
        let requester = self.check_signer(question)?;
        if let Some(answer) = self.repeated(question)? {
            return Ok(answer);
        }
        let terms = self.check_terms(question, requester)?;
        let ty = model.structure().types.first();
        let max_seq = model.structure().header.max_seq;
        let input = ty
            .ok_or_else(|| "the model takes none".to_owned())
            .and_then(|ty| input_tensor(ty, max_seq, &question.input))
            .map_err(Refusal::Input)?;
        let execution = model.execute(&input, question.salt)?;
        self.issue(question, requester, terms, execution)
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
        if request.tier_mask & Tier::Optimistic.mask() == 0 {
            return Err(Refusal::Tier {
                mask: request.tier_mask,
            });
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

    fn sign(&self, job: &Job) -> Answer {
        let signature = job
            .receipt
            .sign(&self.domain, self.config.receipt_key.receipt_key());
        Answer {
            receipt: job.receipt.clone(),
            signature,
            output: job.output.to_vec(),
        }
    }

    /// Everything that depends on the chain: time, price, balance, stake, the line.
    fn check_terms(&self, question: &Question, requester: Address) -> Result<Terms, RunError> {
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
        let fee = self.price(question.model_id)?;
        if fee > request.max_fee {
            return Err(Refusal::Price {
                price: fee,
                max_fee: request.max_fee,
            }
            .into());
        }
        let audit_ppm = request.audit_ppm.max(self.config.audit_ppm);
        let call = IClaims::requiredExposureCall {
            fee,
            valueAtRisk: request.value_at_risk,
            auditPpm: audit_ppm,
        };
        let exposure = match self.client.call(CLAIMS, &call) {
            Err(ClientError::Reverted(error)) => {
                return Err(Refusal::Unpriced(error.to_string()).into());
            }
            outcome => outcome?,
        };
        let (waiting_exposure, waiting_fees) = self.ledger.lock().unasserted(requester);
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
        Ok(Terms {
            now,
            fee,
            audit_ppm,
            exposure,
            cum_exposure: cum_exposure.saturating_add(exposure),
        })
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

    /// Exposure sum of the line before this request, after checking that the request is next.
    fn line_exposure(&self, request: &Request) -> Result<u128, RunError> {
        let tip = self.ledger.lock().tip(request.line_id);
        let want = tip.seq.saturating_add(1);
        if request.seq != want {
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
        Ok(line.cumExposure)
    }

    /// The listed price of a model, `usd` base units.
    pub(crate) fn price(&self, model_id: B256) -> Result<u128, OperatorError> {
        let call = IModels::modelCall { modelId: model_id };
        Ok(self.client.call(MODELS, &call)?.price)
    }

    fn issue(
        &self,
        question: &Question,
        requester: Address,
        terms: Terms,
        execution: Execution,
    ) -> Result<Answer, RunError> {
        let request = &question.request;
        let receipt = Receipt {
            version: 1,
            tier: Tier::Optimistic as u8,
            flags: Flags::AUDITORS_SEE_INPUT,
            line_id: request.line_id,
            seq: request.seq,
            cum_exposure: terms.cum_exposure,
            requester,
            operator: self.config.operator.address(),
            request_hash: request.struct_hash(),
            model_id: request.model_id,
            semantics: request.semantics,
            input_commit: request.input_commit,
            output_commit: output_commit(question.salt, &execution.output),
            sampling_hash: request.sampling_hash,
            n_in: execution.positions,
            n_out: 1,
            trace_root: execution.trace_root,
            n_leaves: execution.n_leaves,
            evidence_hash: B256::ZERO,
            fee: terms.fee,
            value_at_risk: request.value_at_risk,
            exposure: terms.exposure,
            audit_ppm: terms.audit_ppm,
            window: request.window.max(self.config.window),
            issued_at: terms.now,
            include_by: terms.now.saturating_add(self.config.include_within),
            ext_hash: B256::ZERO,
        };
        receipt.check().map_err(OperatorError::from)?;
        receipt
            .check_answers(request)
            .map_err(OperatorError::from)?;
        let job = Job {
            receipt,
            request: request.clone(),
            request_signature: question.signature,
            salt: Salt(question.salt),
            input: question.input.clone().into(),
            output: execution.output.into(),
            state: JobState::Signed,
        };
        let mut ledger = self.ledger.lock();
        // Another thread may have answered this place while the model ran.
        if let Some(claim_id) = ledger.holder(request.line_id, request.seq) {
            return match ledger.job(claim_id) {
                Some(held) if held.request == *request => Ok(self.sign(held)),
                _ => Err(Refusal::Taken {
                    seq: request.seq,
                    claim_id,
                    next: ledger.tip(request.line_id).seq.saturating_add(1),
                }
                .into()),
            };
        }
        ledger.commit(job.clone())?;
        drop(ledger);
        Ok(self.sign(&job))
    }
}

/// What the chain and the configuration fix for one job.
#[derive(Clone, Copy, Debug)]
struct Terms {
    now: u64,
    fee: u128,
    audit_ppm: u32,
    exposure: u128,
    cum_exposure: u128,
}
