//! The thread that talks to the chain: asserts, finalises, defends.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, TxKind, U256};
use alloy_sol_types::{SolCall, SolEvent};
use assay_abi::{CLAIMS, DISPUTES, IClaims, IDisputes};
use assay_wallet::{ClientError, LogCursor, LogFilter, TxOptions};

use crate::OperatorError;
use crate::defence::Defence;
use crate::ledger::{Job, JobState, ProofState};
use crate::operator::Shared;
use crate::prover::is_owed;
use crate::prover::onchain::{self, ProofWork};

/// Assertions handed over before the first is waited for.
const BATCH: usize = 16;
/// Ids that one call of `disputesOf` returns at most.
const PAGE: u64 = 256;
/// A failure that stays the same is told again after this time.
const REPEAT: Duration = Duration::from_secs(60);

/// Failures told lately, by what failed, so that none fills the log.
#[derive(Debug, Default)]
struct Complaints(HashMap<String, (String, Instant)>);

impl Complaints {
    /// Whether to tell it now: it is new, another one, or was told long ago.
    fn is_news(&mut self, what: &str, words: &str, now: Instant) -> bool {
        if let Some((said, at)) = self.0.get(what)
            && said == words
            && now.saturating_duration_since(*at) < REPEAT
        {
            return false;
        }
        self.0
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < REPEAT);
        self.0.insert(what.to_owned(), (words.to_owned(), now));
        true
    }

    fn tell(&mut self, what: &str, error: &dyn std::fmt::Display) {
        let words = error.to_string();
        if self.is_news(what, &words, Instant::now()) {
            tracing::warn!(target: "assay::operator", what, error = %words, "chain work failed, trying again");
        }
    }

    fn over(&mut self, what: &str) {
        self.0.remove(what);
    }

    fn note<E: std::fmt::Display>(&mut self, what: &str, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => self.over(what),
            Err(error) => self.tell(what, &error),
        }
    }
}

/// Numbers of claim states (abi, `IClaims.Claim.state`).
mod claim_state {
    pub(super) const NONE: u8 = 0;
    pub(super) const FINAL: u8 = 3;
    pub(super) const REJECTED: u8 = 4;
    pub(super) const SKIPPED: u8 = 5;
    pub(super) const REFUNDED: u8 = 6;
}

/// Repeats [`Follower::tick`] until the operator stops. Errors are logged and tried again.
pub(crate) fn follow(shared: &Shared) {
    let mut follower = Follower::new(shared);
    while !shared.stop.load(Ordering::Relaxed) {
        follower.tick();
        std::thread::sleep(shared.config.poll);
    }
}

/// What the thread remembers between two looks; all of it can be found again on the chain.
struct Follower<'a> {
    shared: &'a Shared,
    cursor: Option<LogCursor>,
    /// Disputes over our claims that are not closed as far as known.
    disputes: HashMap<U256, B256>,
    defence: Defence,
    proofs: ProofWork,
    /// Gas that the last assertion used.
    assertion_gas: Option<u64>,
    complaints: Complaints,
}

impl<'a> Follower<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            cursor: None,
            disputes: HashMap::new(),
            defence: Defence::default(),
            proofs: ProofWork::default(),
            assertion_gas: None,
            complaints: Complaints::default(),
        }
    }

    /// Defence first, its clock runs. Each kind of work is done whether or not another fails.
    fn tick(&mut self) {
        let found = self.find_disputes();
        self.complaints.note("find disputes", found);
        self.answer_disputes();
        let asserted = self.assert_signed();
        self.complaints.note("assert", asserted);
        let compared = self.proofs.compare_keys(self.shared);
        self.complaints.note("compare proof keys", compared);
        self.prove_owed();
        let settled = self.settle();
        self.complaints.note("settle", settled);
        let pruned = self.prune();
        self.complaints.note("prune", pruned);
    }

    fn jobs(&self, wanted: impl Fn(&Job) -> bool) -> Vec<(B256, Job)> {
        let ledger = self.shared.ledger.lock();
        let jobs = ledger.jobs().filter(|(_, job)| wanted(job));
        jobs.map(|(claim_id, job)| (*claim_id, job.clone()))
            .collect()
    }

    /// Brings signed receipts onto the chain, in the order of their lines.
    fn assert_signed(&mut self) -> Result<(), OperatorError> {
        let mut jobs = self.jobs(|job| job.state == JobState::Signed);
        if jobs.is_empty() {
            return Ok(());
        }
        jobs.sort_by_key(|(_, job)| (job.receipt.line_id, job.receipt.seq));
        let now = self.shared.client.chain_seconds()?;
        let mut blocked: Option<B256> = None;
        let mut rest = jobs.as_slice();
        while let Some(((claim_id, job), after)) = rest.split_first() {
            rest = after;
            if blocked == Some(job.receipt.line_id) {
                continue;
            }
            let done = if job.receipt.include_by < now {
                self.skip(*claim_id, job, now)?
            } else {
                self.assert_one(*claim_id, job)?
            };
            if !done {
                blocked = Some(job.receipt.line_id);
                continue;
            }
            let same_line = rest
                .iter()
                .take_while(|(_, next)| {
                    next.receipt.line_id == job.receipt.line_id && next.receipt.include_by >= now
                })
                .count();
            let (batch, after) = rest.split_at(same_line.min(BATCH));
            if self.assert_batch(batch)? {
                rest = after;
            }
        }
        Ok(())
    }

    fn call_of(&self, job: &Job) -> IClaims::assertSingleCall {
        let key = self.shared.config.receipt_key.receipt_key();
        let signature = job.receipt.sign(&self.shared.domain, key);
        IClaims::assertSingleCall {
            receipt: job.receipt.words(),
            signature: signature.0.to_vec().into(),
            request: job.request.to_abi(),
            requestSignature: job.request_signature.0.to_vec().into(),
        }
    }

    /// Whether the claim is on the chain afterwards.
    fn assert_one(&mut self, claim_id: B256, job: &Job) -> Result<bool, OperatorError> {
        let key = &self.shared.config.operator;
        match self.shared.client.send(key, CLAIMS, &self.call_of(job)) {
            Ok(sent) => {
                self.assertion_gas = Some(sent.gas_used);
                self.note_assertion(claim_id)?;
                Ok(true)
            }
            Err(ClientError::Reverted(error)) if error.name == "ClaimExists" => {
                self.note_assertion(claim_id)?;
                Ok(true)
            }
            Err(ClientError::Reverted(error)) => {
                self.complaints.tell(&format!("assert {claim_id}"), &error);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hands over several assertions of one line before waiting; each builds on the one before it. Whether all are in.
    fn assert_batch(&mut self, batch: &[(B256, Job)]) -> Result<bool, OperatorError> {
        let Some(gas) = self.assertion_gas.filter(|_| batch.len() > 1) else {
            return Ok(false);
        };
        let options = TxOptions {
            gas: Some(gas.saturating_mul(2)),
            ..TxOptions::default()
        };
        let mut sent = Vec::new();
        for (claim_id, job) in batch {
            let input = self.call_of(job).abi_encode();
            let key = &self.shared.config.operator;
            let hash = self
                .shared
                .client
                .submit(key, TxKind::Call(CLAIMS), &input, options)?;
            sent.push((*claim_id, hash));
        }
        for (claim_id, hash) in sent {
            match self.shared.client.confirm(hash) {
                Ok(_) => self.note_assertion(claim_id)?,
                // The single way tries it again and tells why.
                Err(ClientError::Failed { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn note_assertion(&self, claim_id: B256) -> Result<(), OperatorError> {
        let Some(claim) = self.claim(claim_id)? else {
            return Ok(());
        };
        let block = self.shared.client.block_number()?;
        let state = JobState::Asserted {
            block,
            deadline: claim.deadline,
        };
        tracing::info!(target: "assay::operator", %claim_id, deadline = claim.deadline, "claim asserted");
        self.shared.ledger.lock().set_state(claim_id, state)
    }

    /// The receipt came too late: the line moves over it, nothing is paid.
    fn skip(&mut self, claim_id: B256, job: &Job, now: u64) -> Result<bool, OperatorError> {
        if self.claim(claim_id)?.is_some() {
            self.note_assertion(claim_id)?;
            return Ok(true);
        }
        let call = self.call_of(job);
        let call = IClaims::skipCall {
            receipt: call.receipt,
            signature: call.signature,
        };
        match self
            .shared
            .client
            .send(&self.shared.config.operator, CLAIMS, &call)
        {
            Ok(_) => {
                tracing::warn!(target: "assay::operator", %claim_id, "receipt was not asserted in time and is skipped");
                let state = JobState::Skipped { at: now };
                self.shared.ledger.lock().set_state(claim_id, state)?;
                Ok(true)
            }
            Err(ClientError::Reverted(error)) => {
                self.complaints.tell(&format!("skip {claim_id}"), &error);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends claims of tier zk by their proofs.
    fn prove_owed(&mut self) {
        for (claim_id, job) in self.shared.owed_proofs() {
            let what = format!("prove {claim_id}");
            match &job.proof {
                Some(ProofState::Done { .. }) => {
                    let answered = onchain::answer(self.shared, claim_id, &job);
                    self.complaints.note(&what, answered);
                }
                Some(ProofState::Failed { reason }) => self.complaints.tell(&what, reason),
                Some(ProofState::Queued { .. }) | None => {}
            }
        }
    }

    /// The claim on the chain, if it is there.
    fn claim(&self, claim_id: B256) -> Result<Option<IClaims::Claim>, OperatorError> {
        let call = IClaims::claimCall { claimId: claim_id };
        match self.shared.client.call(CLAIMS, &call) {
            Err(ClientError::Reverted(error)) if error.name == "UnknownClaim" => Ok(None),
            Ok(claim) if claim.state == claim_state::NONE => Ok(None),
            outcome => Ok(Some(outcome?)),
        }
    }

    /// Asks for the disputes of every open claim once, then reads `Opened` events.
    fn find_disputes(&mut self) -> Result<(), OperatorError> {
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => {
                // Taken before the questions: what is opened in between is found twice, not missed.
                let next_block = self.shared.client.block_number()?;
                // A signed job may be on the chain already: a crash may have come before that was noted.
                for (claim_id, _) in self.jobs(|job| job.state.settled_at().is_none()) {
                    self.find_disputes_of(claim_id)?;
                }
                LogCursor { next_block }
            }
        };
        let filter = LogFilter::new(DISPUTES, [IDisputes::Opened::SIGNATURE_HASH]);
        let (logs, next) = self.shared.client.poll_logs(&filter, cursor)?;
        for event in logs
            .iter()
            .filter_map(|log| log.decode::<IDisputes::Opened>())
        {
            if self.shared.ledger.lock().job(event.claimId).is_some() {
                tracing::warn!(target: "assay::operator", id = %event.id, claim_id = %event.claimId, challenger = %event.challenger, "claim is challenged");
                self.disputes.insert(event.id, event.claimId);
            }
        }
        self.cursor = Some(next);
        Ok(())
    }

    fn find_disputes_of(&mut self, claim_id: B256) -> Result<(), OperatorError> {
        let mut offset = 0u64;
        loop {
            let call = IDisputes::disputesOfCall {
                claimId: claim_id,
                offset: U256::from(offset),
                limit: U256::from(PAGE),
            };
            let page = self.shared.client.call(DISPUTES, &call)?;
            offset = offset.saturating_add(page.ids.len() as u64);
            let last = page.ids.is_empty() || U256::from(offset) >= page.total;
            for id in page.ids {
                tracing::warn!(target: "assay::operator", %id, %claim_id, "claim was challenged earlier");
                self.disputes.insert(id, claim_id);
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Looks at every dispute; an error in one does not keep the others from being answered.
    fn answer_disputes(&mut self) {
        let open: Vec<_> = self
            .disputes
            .iter()
            .map(|(id, claim)| (*id, *claim))
            .collect();
        for (id, claim_id) in open {
            let answered = self.answer(id, claim_id);
            self.complaints.note(&format!("dispute {id}"), answered);
        }
        if self.disputes.is_empty() {
            self.defence.forget();
        }
    }

    fn answer(&mut self, id: U256, claim_id: B256) -> Result<(), OperatorError> {
        let dispute = self
            .shared
            .client
            .call(DISPUTES, &IDisputes::disputeCall { id })?;
        if dispute.stage >= 9 {
            tracing::info!(target: "assay::operator", %id, %claim_id, stage = dispute.stage, "dispute closed");
            self.disputes.remove(&id);
            self.proofs.closed(id);
            return Ok(());
        }
        match dispute.turn {
            1 => self.move_in(id, claim_id, &dispute),
            2 => self.timeout_challenger(id, &dispute),
            _ => Ok(()),
        }
    }

    fn move_in(
        &mut self,
        id: U256,
        claim_id: B256,
        dispute: &IDisputes::Dispute,
    ) -> Result<(), OperatorError> {
        let job = self.shared.ledger.lock().job(claim_id).cloned();
        let Some(job) = job else {
            return Ok(());
        };
        let Some(model) = self.shared.models.get(&job.receipt.model_id) else {
            return Err(OperatorError::Model {
                model_id: job.receipt.model_id,
                reason: "a claim of it is challenged, and it is not loaded".into(),
            });
        };
        if self.proofs.answers(self.shared, id, &job, dispute)? {
            return Ok(());
        }
        let Some(input) = self.defence.answer(model.as_ref(), &job, id, dispute)? else {
            return Ok(());
        };
        let key = &self.shared.config.operator;
        let sent =
            self.shared
                .client
                .transact(key, TxKind::Call(DISPUTES), input, TxOptions::default());
        match sent {
            Ok(_) => {
                tracing::info!(target: "assay::operator", %id, stage = dispute.stage, "dispute answered");
                Ok(())
            }
            // Perhaps someone else's transaction closed or moved it first; the next look tells.
            Err(error) => Err(error.into()),
        }
    }

    /// A challenger that lets its clock run out has lost.
    fn timeout_challenger(
        &self,
        id: U256,
        dispute: &IDisputes::Dispute,
    ) -> Result<(), OperatorError> {
        if self.shared.client.chain_millis()? <= dispute.deadline {
            return Ok(());
        }
        let call = IDisputes::timeoutCall { id };
        match self
            .shared
            .client
            .send(&self.shared.config.operator, DISPUTES, &call)
        {
            Ok(_) | Err(ClientError::Reverted(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Finalises claims after their window and notes how claims ended.
    fn settle(&mut self) -> Result<(), OperatorError> {
        let asserted = self.jobs(|job| matches!(job.state, JobState::Asserted { .. }));
        if asserted.is_empty() {
            return Ok(());
        }
        let now = self.shared.client.chain_millis()?;
        let disputed: Vec<B256> = self.disputes.values().copied().collect();
        for (claim_id, job) in asserted {
            let JobState::Asserted { deadline, block } = job.state else {
                continue;
            };
            if deadline > now && !disputed.contains(&claim_id) {
                continue;
            }
            match self.settle_one(claim_id, &job, block, now) {
                // The chain is away: it is for all.
                Err(OperatorError::Chain(error)) if error.is_temporary() => {
                    return Err(error.into());
                }
                settled => self.complaints.note(&format!("settle {claim_id}"), settled),
            }
        }
        Ok(())
    }

    /// Drops jobs that were settled long ago.
    fn prune(&self) -> Result<(), OperatorError> {
        if self.jobs_settled() == 0 {
            return Ok(());
        }
        let now = self.shared.client.chain_seconds()?;
        let before = now.saturating_sub(self.shared.config.retain);
        self.shared.ledger.lock().prune(before)?;
        Ok(())
    }

    fn jobs_settled(&self) -> usize {
        let ledger = self.shared.ledger.lock();
        let settled = ledger
            .jobs()
            .filter(|(_, job)| job.state.settled_at().is_some());
        settled.count()
    }

    fn settle_one(
        &self,
        claim_id: B256,
        job: &Job,
        block: u64,
        now: u64,
    ) -> Result<(), OperatorError> {
        let Some(claim) = self.claim(claim_id)? else {
            return Ok(());
        };
        let at = now / 1_000;
        let ended = match claim.state {
            claim_state::FINAL => JobState::Final { at },
            claim_state::REJECTED | claim_state::REFUNDED => JobState::Rejected { at },
            claim_state::SKIPPED => JobState::Skipped { at },
            _ if claim.openDisputes > 0 => return Ok(()),
            // final by its proof alone
            _ if is_owed(job) && claim.deadline <= now => return Ok(()),
            _ if claim.deadline > now => JobState::Asserted {
                block,
                deadline: claim.deadline,
            },
            _ => {
                let call = IClaims::finalizeCall { claimId: claim_id };
                match self
                    .shared
                    .client
                    .send(&self.shared.config.operator, CLAIMS, &call)
                {
                    Ok(_) => JobState::Final { at },
                    // Finalised by someone else in the meantime, or not yet: the next look tells.
                    Err(ClientError::Reverted(_)) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let known = self.shared.ledger.lock().job(claim_id).map(|job| job.state);
        if known != Some(ended) {
            tracing::info!(target: "assay::operator", %claim_id, state = ?ended, "claim settled");
            self.shared.ledger.lock().set_state(claim_id, ended)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_when_it_changes_or_after_a_minute() {
        let mut complaints = Complaints::default();
        let now = Instant::now();
        assert!(complaints.is_news("a", "x", now));
        assert!(!complaints.is_news("a", "x", now + REPEAT / 2));
        assert!(complaints.is_news("b", "x", now));
        assert!(complaints.is_news("a", "y", now));
        assert!(!complaints.is_news("a", "y", now));
        assert!(complaints.is_news("a", "y", now + REPEAT));
        complaints.over("a");
        assert!(complaints.is_news("a", "y", now + REPEAT));
    }
}
