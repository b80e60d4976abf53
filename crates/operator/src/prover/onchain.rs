//! What the chain thread does about proofs: compares keys, attests them, and answers claims.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use assay_abi::{CLAIMS, IClaims, IDisputes, IModels, MODELS};
use assay_wallet::ClientError;

use crate::config::DefendBy;
use crate::ledger::{Job, JobState, ProofState};
use crate::operator::Shared;
use crate::prover::is_owed;
use crate::{OperatorError, Refusal};

/// Time between two looks at the registered keys.
const LOOK: Duration = Duration::from_secs(1);
/// A dispute is answered move by move once this is left of the clock, milliseconds; of short clocks half of what was left at first.
const RESERVE: u64 = 60_000;
/// A proof is worth waiting for if the clock has so many times as long as the last one took.
const MARGIN: u64 = 4;

/// What the chain says about a model's proof key, beside our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// None was set.
    Unset,
    /// It is the one made here; it is not all on the chain, or proofs are not accepted yet.
    Waiting,
    /// It is the one made here, and proofs are accepted.
    Usable,
    /// It is another one than the one made here from the weights.
    Differs(B256),
}

/// What the chain thread remembers about proofs; all of it can be found again.
#[derive(Default)]
pub(crate) struct ProofWork {
    looked: Option<Instant>,
    /// Disputes that wait for a proof: milliseconds of the clock at which they wait no longer.
    awaited: HashMap<U256, u64>,
}

impl ProofWork {
    /// Compares the registered keys of all models with the ones made here, and attests those that are equal.
    ///
    /// # Errors
    /// Those of the chain's client.
    pub(crate) fn compare_keys(&mut self, shared: &Shared) -> Result<(), OperatorError> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        for model_id in shared.models.keys() {
            let own = match shared.prover.keys.verdict(*model_id) {
                Some(Ok(own)) => own,
                Some(Err(_)) => continue,
                None => {
                    let call = IModels::proofKeyCall { modelId: *model_id };
                    if shared.client.call(MODELS, &call)?.keyId != B256::ZERO {
                        shared.prover.want_key(*model_id);
                    }
                    continue;
                }
            };
            if shared.prover.registered(*model_id) != Some(Registered::Usable) {
                let found = compare(shared, *model_id, own)?;
                shared.prover.note_registered(*model_id, found);
            }
        }
        Ok(())
    }

    /// Whether a dispute is left alone because a proof answers it, or soon will.
    ///
    /// # Errors
    /// Those of the chain's client.
    pub(crate) fn answers(
        &mut self,
        shared: &Shared,
        id: U256,
        job: &Job,
        dispute: &IDisputes::Dispute,
    ) -> Result<bool, OperatorError> {
        let (claim_id, model_id) = (job.receipt.claim_id(), job.receipt.model_id);
        let by = shared.config.proofs.defend_by;
        if by == DefendBy::Descent || shared.prover.registered(model_id) != Some(Registered::Usable)
        {
            return Ok(false);
        }
        match &job.proof {
            Some(ProofState::Done { .. }) => match answer(shared, claim_id, job) {
                Ok(()) => {
                    self.awaited.remove(&id);
                    return Ok(true);
                }
                Err(OperatorError::Chain(ClientError::Reverted(error))) => {
                    tracing::warn!(target: "assay::operator", %claim_id, %error, "the proof is not accepted; the dispute is answered move by move");
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
            Some(ProofState::Failed { .. }) => return Ok(false),
            Some(ProofState::Queued { .. }) | None => {}
        }
        let now = shared.client.chain_millis()?;
        let left = dispute.deadline.saturating_sub(now);
        let reserve = self
            .awaited
            .get(&id)
            .copied()
            .unwrap_or_else(|| RESERVE.min(left / 2));
        let took = shared.prover.took(model_id);
        let took = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let in_time = match by {
            DefendBy::Proof => true,
            _ => took.is_some_and(|took| took.saturating_mul(MARGIN) < left),
        };
        if !in_time || left <= reserve {
            return Ok(false);
        }
        if self.awaited.insert(id, reserve).is_none() {
            tracing::info!(target: "assay::operator", %id, %claim_id, "the dispute will be answered by a proof");
        }
        if let Err(error) = shared.queue_proof(claim_id, true) {
            tracing::warn!(target: "assay::operator", %claim_id, %error, "no proof for a dispute");
            return Ok(false);
        }
        Ok(true)
    }

    /// Forgets a dispute that is closed.
    pub(crate) fn closed(&mut self, id: U256) {
        self.awaited.remove(&id);
    }
}

fn compare(shared: &Shared, model_id: B256, own: B256) -> Result<Registered, OperatorError> {
    let call = IModels::proofKeyCall { modelId: model_id };
    let key = shared.client.call(MODELS, &call)?;
    if key.keyId == B256::ZERO {
        return Ok(Registered::Unset);
    }
    if key.keyId != own {
        if shared.prover.registered(model_id) != Some(Registered::Differs(key.keyId)) {
            tracing::error!(
                target: "assay::operator", %model_id, registered = %key.keyId, %own,
                "THE REGISTERED PROOF KEY IS NOT THE MODEL'S: it is not attested, and no answers of tier zk are sold"
            );
        }
        return Ok(Registered::Differs(key.keyId));
    }
    if key.usable {
        return Ok(Registered::Usable);
    }
    if key.missing == 0 {
        attest(shared, model_id, own);
    }
    Ok(Registered::Waiting)
}

/// Says on the chain that the key is the model's. Fails quietly where this operator is not bonded yet.
fn attest(shared: &Shared, model_id: B256, own: B256) {
    let operator = &shared.config.operator;
    let asked = IModels::hasAttestedCall {
        modelId: model_id,
        keyId: own,
        operator: operator.address(),
    };
    if !matches!(shared.client.call(MODELS, &asked), Ok(false)) {
        return;
    }
    let call = IModels::attestProofKeyCall {
        modelId: model_id,
        keyId: own,
    };
    match shared.client.send(operator, MODELS, &call) {
        Ok(_) => {
            tracing::info!(target: "assay::operator", %model_id, key_id = %own, "proof key attested");
        }
        Err(error) => {
            tracing::debug!(target: "assay::operator", %model_id, %error, "proof key is not attested");
        }
    }
}

/// Sends a job's proof to its claim.
///
/// # Errors
/// [`OperatorError::Chain`] with the module's reason, [`OperatorError::Disk`].
pub(crate) fn answer(shared: &Shared, claim_id: B256, job: &Job) -> Result<(), OperatorError> {
    let call = IClaims::answerWithProofCall {
        claimId: claim_id,
        salt: job.salt.0,
        proof: shared.proof_of(claim_id)?.into(),
    };
    let sent = shared.client.send(&shared.config.operator, CLAIMS, &call)?;
    tracing::info!(target: "assay::operator", %claim_id, gas = sent.gas_used, "claim is final by proof");
    let at = shared.client.chain_seconds()?;
    let mut ledger = shared.ledger.lock();
    ledger.set_state(claim_id, JobState::Final { at })
}

impl Shared {
    /// Proves to the chain what was sold as tier zk: every asserted claim whose proof is made.
    pub(crate) fn owed_proofs(&self) -> Vec<(B256, Job)> {
        let ledger = self.ledger.lock();
        let owed = ledger
            .jobs()
            .filter(|(_, job)| is_owed(job) && matches!(job.state, JobState::Asserted { .. }));
        owed.map(|(claim_id, job)| (*claim_id, job.clone()))
            .collect()
    }

    /// Id of the key under which answers of tier zk are sold.
    ///
    /// # Errors
    /// [`Refusal::NotProvable`] with the reason.
    pub(crate) fn zk_key(&self, model_id: B256) -> Result<B256, Refusal> {
        let refuse = |reason: String| Refusal::NotProvable { model_id, reason };
        if !self.config.proofs.offered {
            return Err(refuse("this operator offers no proofs".into()));
        }
        let own = match self.prover.keys.verdict(model_id) {
            Some(own) => own.map_err(refuse)?,
            None => return Err(refuse("no proof key of it was made here yet".into())),
        };
        match self.prover.registered(model_id) {
            Some(Registered::Usable) => Ok(own),
            Some(Registered::Waiting) => Err(refuse(
                "its proof key is registered, and not usable yet".into(),
            )),
            Some(Registered::Differs(other)) => Err(refuse(format!(
                "the registered proof key {other} is not the model's"
            ))),
            Some(Registered::Unset) | None => Err(refuse("no proof key is registered".into())),
        }
    }
}
