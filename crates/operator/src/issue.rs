//! From an admitted question to a signed receipt: the run, then the log, then the signature.

use alloy_primitives::B256;
use assay_abi::zk_evidence;
use assay_receipt::{Flags, Receipt, ReceiptSignature, Request, Salt, Tier, output_commit};

use crate::admit::{Admission, Admitted, Question};
use crate::error::RunError;
use crate::language::Masks;
use crate::ledger::{Job, JobState, LineTip, ProofState};
use crate::model::{Execution, input_tensor};
use crate::operator::Shared;
use crate::{OperatorError, Refusal};

/// An answer with its receipt.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) receipt: Receipt,
    pub(crate) signature: ReceiptSignature,
    pub(crate) output: Vec<u8>,
    pub(crate) sampling: Option<Vec<u8>>,
}

impl Shared {
    /// Answers a question to a model that generates nothing. Blocks for the run and a few calls of the chain.
    pub(crate) fn answer(&self, question: Question) -> Result<Answer, RunError> {
        let admitted = match self.admit(question)? {
            Admission::Known(answer) => return Ok(*answer),
            Admission::New(admitted, _) => admitted,
        };
        let question = &admitted.question;
        let model = self
            .models
            .get(&question.model_id)
            .ok_or(Refusal::UnknownModel(question.model_id))?;
        let ty = model.structure().types.first();
        let max_seq = model.structure().header.max_seq;
        let input = ty
            .ok_or_else(|| "the model takes none".to_owned())
            .and_then(|ty| input_tensor(ty, max_seq, &question.input))
            .map_err(Refusal::Input)?;
        let execution = model.execute(&input, question.salt)?;
        self.issue(&admitted, execution, &[])
    }

    pub(crate) fn sign(&self, job: &Job) -> Answer {
        let signature = job
            .receipt
            .sign(&self.domain, self.config.receipt_key.receipt_key());
        Answer {
            receipt: job.receipt.clone(),
            signature,
            output: job.output.to_vec(),
            sampling: job.sampling.as_ref().map(|bytes| bytes.to_vec()),
        }
    }

    /// Gives the answer its place in the line, makes it durable, and signs it.
    pub(crate) fn issue(
        &self,
        admitted: &Admitted,
        execution: Execution,
        masks: &[Vec<u8>],
    ) -> Result<Answer, RunError> {
        let request = &admitted.question.request;
        // Of a long answer the end counts: its inclusion is promised within a minute.
        let issued_at = if admitted.long {
            let now = self.client.chain_seconds()?;
            // A receipt that could not reach the chain in time would only take a place in the line.
            if now
                > request
                    .expiry
                    .saturating_add(self.config.include_within / 2)
            {
                return Err(Refusal::Expired {
                    expiry: request.expiry,
                    now,
                }
                .into());
            }
            now.min(request.expiry)
        } else {
            admitted.terms.now
        };
        let mut ledger = self.ledger.lock();
        // Another thread may have answered this place or this request while the model ran.
        let held = if request.is_open() {
            ledger.answer_to(request.struct_hash())
        } else {
            ledger.holder(request.line_id, request.seq)
        };
        let tip = ledger.tip(request.line_id);
        if let Some(claim_id) = held {
            return match ledger.job(claim_id) {
                Some(held) if held.request == *request => Ok(self.sign(held)),
                _ => Err(Refusal::Taken {
                    seq: request.seq,
                    claim_id,
                    next: tip.seq.saturating_add(1),
                }
                .into()),
            };
        }
        let place = if request.is_open() {
            LineTip {
                seq: tip.seq.saturating_add(1),
                cum_exposure: tip.cum_exposure.saturating_add(admitted.terms.exposure),
            }
        } else {
            LineTip {
                seq: request.seq,
                cum_exposure: admitted.terms.cum_exposure,
            }
        };
        let receipt = self.receipt(admitted, &execution, place, issued_at)?;
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map(|bytes| bytes.clone().into());
        // Of tier zk the proof is owed with the signature.
        let proof = (admitted.terms.tier == Tier::Zk).then(|| ProofState::Queued {
            ticket: ledger.next_ticket(),
        });
        let job = Job {
            receipt,
            request: request.clone(),
            request_signature: admitted.question.signature,
            salt: Salt(admitted.question.salt),
            input: admitted.question.input.clone().into(),
            output: execution.output.into(),
            sampling: bytes(&admitted.question.sampling),
            grammar: bytes(&admitted.question.grammar),
            masks: Masks::new(masks),
            state: JobState::Signed,
            proof,
        };
        let claim_id = ledger.commit(job.clone())?;
        drop(ledger);
        if job.proof.is_some() {
            self.prover.push(claim_id, true);
        }
        Ok(self.sign(&job))
    }

    fn receipt(
        &self,
        admitted: &Admitted,
        execution: &Execution,
        place: LineTip,
        issued_at: u64,
    ) -> Result<Receipt, OperatorError> {
        let Admitted {
            question, terms, ..
        } = admitted;
        let request: &Request = &question.request;
        let evidence_hash = match terms.tier {
            Tier::Zk => zk_evidence(self.zk_key(request.model_id).map_err(unprovable)?),
            _ => B256::ZERO,
        };
        let mut flags = Flags::AUDITORS_SEE_INPUT;
        if self.config.proofs.offered
            && let Some(Ok(_)) = self.prover.keys.verdict(request.model_id)
        {
            flags |= Flags::PROVE_ON_DEMAND;
        }
        let receipt = Receipt {
            version: 1,
            tier: terms.tier as u8,
            flags,
            line_id: request.line_id,
            seq: place.seq,
            cum_exposure: place.cum_exposure,
            requester: admitted.requester,
            operator: self.config.operator.address(),
            request_hash: request.struct_hash(),
            model_id: request.model_id,
            semantics: request.semantics,
            input_commit: request.input_commit,
            output_commit: output_commit(question.salt, &execution.output),
            sampling_hash: request.sampling_hash,
            n_in: execution.n_in,
            n_out: execution.n_out,
            trace_root: execution.trace_root,
            n_leaves: execution.n_leaves,
            evidence_hash,
            fee: terms.fee,
            value_at_risk: request.value_at_risk,
            exposure: terms.exposure,
            audit_ppm: terms.audit_ppm,
            window: request.window.max(self.config.window),
            issued_at,
            include_by: issued_at.saturating_add(self.config.include_within),
            ext_hash: execution.mask_root,
        };
        receipt.check()?;
        receipt.check_answers(request)?;
        Ok(receipt)
    }
}

/// A model whose key was usable when the question was admitted, and is no more.
fn unprovable(refusal: Refusal) -> OperatorError {
    OperatorError::Model {
        model_id: match &refusal {
            Refusal::NotProvable { model_id, .. } => *model_id,
            _ => B256::ZERO,
        },
        reason: refusal.to_string(),
    }
}
