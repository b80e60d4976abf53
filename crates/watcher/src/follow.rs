//! The loop: new receipts, audits, disputes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolEvent;
use assay_abi::{CLAIMS, DISPUTES, IClaims, IDisputes};
use assay_receipt::{Receipt, Salt};
use assay_wallet::{ChainClient, ClientError, LogFilter};

use crate::audit::{Audit, JobData, agent, fetch, replay};
use crate::backoff::Backoff;
use crate::challenge::{Case, Move, stage};
use crate::models::{Loaded, Models};
use crate::proofs::{self, KeyChecks, Owed};
use crate::state::{OpenDispute, State};
use crate::{WatcherConfig, WatcherError, WatcherEvent};

/// Failed fetches in one look at the chain.
const FAILURES: usize = 4;
/// Longest time for the fetches of one look.
const FETCHING: Duration = Duration::from_secs(5);
/// A failed fetch that took longer is held against the operator, a shorter one only against the claim.
const SLOW: Duration = Duration::from_millis(500);
/// Time between two looks at claims that are to be proven.
const OWED: Duration = Duration::from_secs(1);
/// Ids that one call of `disputesOf` returns at most.
const PAGE: u64 = 256;

/// Runs `work`; a panic becomes an error, so that one claim can't end the watcher.
fn guarded<T>(work: impl FnOnce() -> Result<T, WatcherError>) -> Result<T, WatcherError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned().or_else(|| {
            panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
        });
        let words = words.unwrap_or_else(|| "without words".to_owned());
        tracing::error!(target: "assay::watcher", %words, "panic");
        Err(WatcherError::Panicked(words))
    })
}

/// A watcher that is ready to run.
pub struct Watcher {
    config: WatcherConfig,
    client: ChainClient,
    agent: ureq::Agent,
    models: Models,
    state: State,
    events: Option<Sender<WatcherEvent>>,
    /// Last reason why a claim was not audited, so that each is told once.
    told: HashMap<B256, String>,
    /// Operators whose endpoints hang.
    slow: Backoff<Address>,
    /// Claims whose audit failed.
    failed: Backoff<B256>,
    keys: KeyChecks,
    /// When owed proofs were looked for last.
    owed_at: Option<Instant>,
}

/// A watcher that runs in its own thread. Dropping it stops it.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Stops the loop and waits for its end.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Watcher {
    /// Opens the data folder. Nothing is asked of the chain yet.
    ///
    /// # Errors
    /// [`WatcherError::Disk`], [`WatcherError::State`].
    pub fn open(
        config: WatcherConfig,
        events: Option<Sender<WatcherEvent>>,
    ) -> Result<Self, WatcherError> {
        let state = State::load(&config.data_dir)?;
        Ok(Self {
            client: ChainClient::new(&config.chain_url),
            agent: agent(config.fetch_timeout),
            models: Models::new(Arc::clone(&config.models), config.engine),
            state,
            events,
            told: HashMap::new(),
            slow: Backoff::new(),
            failed: Backoff::new(),
            keys: KeyChecks::default(),
            owed_at: None,
            config,
        })
    }

    /// Starts the loop in its own thread.
    ///
    /// # Errors
    /// [`WatcherError::Disk`] when no thread can be had.
    pub fn start(mut self) -> Result<Running, WatcherError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let path = self.config.data_dir.clone();
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || {
                let mut said = String::new();
                while !stopped.load(Ordering::Relaxed) {
                    match guarded(|| self.tick()) {
                        Ok(()) => said.clear(),
                        Err(error) => {
                            let words = error.to_string();
                            if words != said {
                                tracing::error!(target: "assay::watcher", error = %words, "watcher failed, trying again");
                                said = words;
                            }
                        }
                    }
                    std::thread::sleep(self.config.poll);
                }
            })
            .map_err(|source| WatcherError::Disk { path, source })?;
        Ok(Running {
            stop,
            thread: Some(thread),
        })
    }

    /// One look at the chain: moves in disputes, reads new receipts, audits. Disputes come first, and again after
    /// every audit: their clocks run while an operator's endpoint hangs.
    ///
    /// # Errors
    /// The first error that concerns more than one claim; the others are told as events.
    pub fn tick(&mut self) -> Result<(), WatcherError> {
        let moved = self.move_disputes();
        self.read_receipts()?;
        self.audit_pending()?;
        self.end_owed()?;
        moved
    }

    fn tell(&self, event: WatcherEvent) {
        tracing::info!(target: "assay::watcher", ?event, "watcher");
        if let Some(events) = &self.events {
            // Whoever listened may have left; the watcher goes on.
            let _ = events.send(event);
        }
    }

    fn read_receipts(&mut self) -> Result<(), WatcherError> {
        let filter = LogFilter::new(CLAIMS, [IClaims::ReceiptPosted::SIGNATURE_HASH]);
        let (logs, next) = self.client.poll_logs(&filter, self.state.cursor)?;
        for log in &logs {
            let Some(event) = log.decode::<IClaims::ReceiptPosted>() else {
                continue;
            };
            if let Some(receipt) = Receipt::from_words(&event.receipt)
                && receipt.claim_id() == event.claimId
                && self.is_drawn(event.claimId)
            {
                if proofs::is_owed(&receipt) {
                    self.state.owed.insert(event.claimId);
                    continue;
                }
                self.state.pending.insert(event.claimId, receipt);
                self.state.posted.insert(event.claimId, log.block);
            }
        }
        if next != self.state.cursor {
            self.state.cursor = next;
            self.state.store(&self.config.data_dir)?;
        }
        Ok(())
    }

    /// Ends claims of tier zk whose proof did not come in time: the fee goes back to the buyer.
    fn end_owed(&mut self) -> Result<(), WatcherError> {
        if self.state.owed.is_empty() || self.owed_at.is_some_and(|at| at.elapsed() < OWED) {
            return Ok(());
        }
        self.owed_at = Some(Instant::now());
        for claim_id in self.state.owed.clone() {
            match proofs::owed(&self.client, claim_id)? {
                Owed::Open => continue,
                Owed::Settled => {}
                Owed::Late => {
                    let call = IClaims::expireCall { claimId: claim_id };
                    match self.client.send(&self.config.key, CLAIMS, &call) {
                        Ok(_) => self.tell(WatcherEvent::Expired { claim_id }),
                        // Somebody else was first; the next look tells.
                        Err(ClientError::Reverted(_)) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            self.state.owed.remove(&claim_id);
            self.state.store(&self.config.data_dir)?;
        }
        Ok(())
    }

    /// Nobody else can tell which claims this watcher audits: the draw is keyed by a signature of its key.
    fn is_drawn(&self, claim_id: B256) -> bool {
        let signature = self.config.key.sign(keccak256(claim_id));
        let draw = U256::from_be_bytes(keccak256(signature.0).0) % U256::from(1_000_000u32);
        draw < U256::from(self.config.audit_ppm)
    }

    /// Claims to audit now: those of operators that answer first, then by the end of the operator's pause.
    fn due(&self) -> Vec<(B256, Receipt)> {
        let now = Instant::now();
        let mut due: Vec<_> = self
            .state
            .pending
            .iter()
            .filter(|(id, _)| !self.failed.waits(id, now))
            .map(|(id, receipt)| (*id, receipt.clone()))
            .collect();
        due.sort_by_key(|(id, receipt)| {
            (self.slow.until(&receipt.operator), self.failed.until(id))
        });
        due
    }

    fn audit_pending(&mut self) -> Result<(), WatcherError> {
        let start = Instant::now();
        let mut failures = 0;
        for (claim_id, receipt) in self.due() {
            let begun = Instant::now();
            if failures >= FAILURES || begun - start >= FETCHING {
                break;
            }
            if self.slow.waits(&receipt.operator, begun) {
                continue;
            }
            match guarded(|| self.audit_one(claim_id, &receipt)) {
                Ok(()) => {
                    self.told.remove(&claim_id);
                    self.failed.clear(&claim_id);
                    self.slow.clear(&receipt.operator);
                    self.state.done(claim_id);
                    self.state.store(&self.config.data_dir)?;
                }
                Err(WatcherError::Chain(error)) if error.is_temporary() => return Err(error.into()),
                Err(error) => {
                    failures += 1;
                    let now = Instant::now();
                    self.failed.failed(claim_id, now);
                    if matches!(error, WatcherError::Unavailable { .. }) && now - begun >= SLOW {
                        self.slow.failed(receipt.operator, now);
                    }
                    self.not_audited(claim_id, &error)?;
                }
            }
            if let Err(error) = self.move_disputes() {
                tracing::debug!(target: "assay::watcher", %error, "a dispute was not moved");
            }
        }
        Ok(())
    }

    /// Tells the reason once, and gives up when the window is over.
    fn not_audited(&mut self, claim_id: B256, error: &WatcherError) -> Result<(), WatcherError> {
        let reason = error.to_string();
        if self.told.get(&claim_id) != Some(&reason) {
            self.tell(WatcherEvent::Unaudited {
                claim_id,
                reason: reason.clone(),
            });
            self.told.insert(claim_id, reason);
        }
        if !self.is_open(claim_id)? {
            self.told.remove(&claim_id);
            self.failed.clear(&claim_id);
            self.state.done(claim_id);
            self.state.store(&self.config.data_dir)?;
        }
        Ok(())
    }

    /// Whether the claim can still be challenged.
    fn is_open(&self, claim_id: B256) -> Result<bool, WatcherError> {
        let call = IClaims::claimCall { claimId: claim_id };
        let claim = self.client.call(CLAIMS, &call)?;
        Ok(matches!(claim.state, 1 | 2) && self.client.chain_millis()? < claim.deadline)
    }

    fn audit_one(&mut self, claim_id: B256, receipt: &Receipt) -> Result<(), WatcherError> {
        if self
            .state
            .disputes
            .values()
            .any(|dispute| dispute.claim_id == claim_id)
        {
            return Ok(());
        }
        let job = fetch(&self.client, &self.agent, receipt)?;
        let model = self.models.get(receipt.model_id)?;
        if model.decoder().is_none() {
            self.keys
                .check(&self.client, &model.graph, self.events.as_ref())?;
        }
        match replay(&model, receipt, &job)? {
            Audit::Agrees => self.tell(WatcherEvent::Agreed { claim_id }),
            Audit::OtherMasks { position } => self.tell(WatcherEvent::OtherMasks {
                claim_id,
                operator: receipt.operator,
                position,
            }),
            Audit::Differs {
                own,
                same_output: true,
            } if proofs::is_provable(&self.client, receipt.model_id)? => {
                self.tell(WatcherEvent::OtherTrace {
                    claim_id,
                    operator: receipt.operator,
                    own,
                });
            }
            Audit::Differs { own, .. } => {
                self.tell(WatcherEvent::Differs {
                    claim_id,
                    operator: receipt.operator,
                    asserted: receipt.trace_root,
                    own,
                });
                if self.config.challenge && self.is_open(claim_id)? {
                    self.challenge(claim_id, receipt, &job)?;
                }
            }
        }
        Ok(())
    }

    fn challenge(
        &mut self,
        claim_id: B256,
        receipt: &Receipt,
        job: &JobData,
    ) -> Result<(), WatcherError> {
        if self.adopt(claim_id, receipt, job)? {
            return Ok(());
        }
        let bond = self
            .client
            .call(DISPUTES, &IDisputes::bondOfCall { claimId: claim_id })?;
        let call = IDisputes::challengeCall { claimId: claim_id };
        let sent = self
            .client
            .send_value(&self.config.key, DISPUTES, &call, bond)?;
        let opened = sent
            .logs
            .iter()
            .find_map(|log| log.decode::<IDisputes::Opened>());
        let Some(opened) = opened else {
            return Err(WatcherError::Dispute {
                id: U256::ZERO,
                reason: "the challenge emitted no event",
            });
        };
        self.keep(opened.id, sent.block, receipt, job)?;
        self.tell(WatcherEvent::Challenged {
            claim_id,
            dispute: opened.id,
            bond,
        });
        Ok(())
    }

    fn keep(
        &mut self,
        id: U256,
        opened_at: u64,
        receipt: &Receipt,
        job: &JobData,
    ) -> Result<(), WatcherError> {
        let dispute = OpenDispute {
            claim_id: receipt.claim_id(),
            opened_at,
            receipt: receipt.clone(),
            input: job.input.clone().into(),
            salt: Salt(job.salt),
            output: job.output.clone().into(),
            sampling: job.sampling.clone().map(Into::into),
            grammar: job.grammar.clone().map(Into::into),
            masks: job.masks.clone(),
        };
        self.state.disputes.insert(id, dispute);
        self.state.store(&self.config.data_dir)
    }

    /// Takes up an own dispute over the claim that the state file does not know: a crash may have come between the
    /// challenge and its storing. Whether there is one, open or closed; a second bond would be wasted.
    fn adopt(
        &mut self,
        claim_id: B256,
        receipt: &Receipt,
        job: &JobData,
    ) -> Result<bool, WatcherError> {
        let own = self.config.key.address();
        let mut offset = 0u64;
        loop {
            let call = IDisputes::disputesOfCall {
                claimId: claim_id,
                offset: U256::from(offset),
                limit: U256::from(PAGE),
            };
            let page = self.client.call(DISPUTES, &call)?;
            for id in &page.ids {
                let call = IDisputes::disputeCall { id: *id };
                let dispute = self.client.call(DISPUTES, &call)?;
                if dispute.challenger != own {
                    continue;
                }
                tracing::warn!(target: "assay::watcher", %id, %claim_id, stage = dispute.stage, "found an own dispute");
                if dispute.stage < stage::CLOSED {
                    let since = self.state.posted.get(&claim_id).copied().unwrap_or(0);
                    self.keep(*id, since, receipt, job)?;
                }
                return Ok(true);
            }
            offset = offset.saturating_add(page.ids.len() as u64);
            if page.ids.is_empty() || U256::from(offset) >= page.total {
                return Ok(false);
            }
        }
    }

    /// Looks at every own dispute; an error in one does not keep the others from being moved.
    fn move_disputes(&mut self) -> Result<(), WatcherError> {
        let open: Vec<(U256, OpenDispute)> = self
            .state
            .disputes
            .iter()
            .map(|(id, dispute)| (*id, dispute.clone()))
            .collect();
        let mut first = Ok(());
        for (id, ours) in open {
            let moved = guarded(|| self.move_dispute(id, &ours));
            if first.is_ok() {
                first = moved;
            }
        }
        first
    }

    fn move_dispute(&mut self, id: U256, ours: &OpenDispute) -> Result<(), WatcherError> {
        let dispute = self.client.call(DISPUTES, &IDisputes::disputeCall { id })?;
        if dispute.stage >= stage::CLOSED {
            self.closed(id, ours, dispute.stage)?;
        } else if dispute.turn == 2 {
            let model = self.models.get(ours.receipt.model_id)?;
            self.move_in(id, ours, &dispute, &model)?;
        } else if self.client.chain_millis()? > dispute.deadline {
            self.timeout(id)?;
        }
        Ok(())
    }

    fn closed(&mut self, id: U256, ours: &OpenDispute, at: u8) -> Result<(), WatcherError> {
        self.state.disputes.remove(&id);
        self.state.store(&self.config.data_dir)?;
        self.tell(WatcherEvent::Closed {
            claim_id: ours.claim_id,
            dispute: id,
            rejected: matches!(at, stage::CHALLENGER_WON | stage::CANCELLED),
        });
        Ok(())
    }

    fn move_in(
        &mut self,
        id: U256,
        ours: &OpenDispute,
        dispute: &IDisputes::Dispute,
        model: &Arc<Loaded>,
    ) -> Result<(), WatcherError> {
        let case = Case::new(model, ours.receipt.clone(), ours.job())?;
        let Some(next) = case.next(&self.client, id, dispute, ours.opened_at)? else {
            return Ok(());
        };
        match next {
            Move::Pick(call) => {
                let words = format!(
                    "child {} of {} is the first that differs",
                    call.j,
                    call.children.len()
                );
                let sent = self.client.send(&self.config.key, DISPUTES, &call);
                self.moved(id, "pick", words, sent)
            }
            Move::Name(call) => {
                if self.config.one_shot
                    && !dispute.inSegment
                    && self.try_one_shot(id, &case, &call.leaves)?
                {
                    return Ok(());
                }
                let words = format!(
                    "leaf {} of {} is the first that differs",
                    call.leaf,
                    call.leaves.len()
                );
                let sent = self.client.send(&self.config.key, DISPUTES, &call);
                self.moved(id, "name", words, sent)
            }
            Move::ProveElement(call) => {
                let words = format!("{} bytes of evidence for one element", call.evidence.len());
                let sent = self.client.send(&self.config.key, DISPUTES, &call);
                self.moved(id, "proveElement", words, sent)
            }
        }
    }

    /// Whether the claim fell in one transaction.
    fn try_one_shot(
        &self,
        id: U256,
        case: &Case<'_>,
        leaves: &[B256],
    ) -> Result<bool, WatcherError> {
        let Some(call) = case.one_shot(leaves) else {
            return Ok(false);
        };
        let words = format!(
            "leaf {} recomputed whole from {} bytes of evidence",
            call.leaf,
            call.evidence.len()
        );
        match self.client.send(&self.config.key, DISPUTES, &call) {
            Ok(_) => {
                self.moved(id, "proveBlock", words, Ok(()))?;
                Ok(true)
            }
            // Too large, too dear, or not single-shot: the longer way remains.
            Err(error) if !error.is_temporary() => {
                tracing::debug!(target: "assay::watcher", %error, "no one-shot proof");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn timeout(&self, id: U256) -> Result<(), WatcherError> {
        let sent = self
            .client
            .send(&self.config.key, DISPUTES, &IDisputes::timeoutCall { id });
        self.moved(
            id,
            "timeout",
            "the asserter's clock has run out".into(),
            sent,
        )
    }

    /// A refused move is told and tried again at the next look: the dispute may have moved in the meantime.
    fn moved<T>(
        &self,
        id: U256,
        call: &'static str,
        words: String,
        sent: Result<T, ClientError>,
    ) -> Result<(), WatcherError> {
        match sent {
            Ok(_) => {
                self.tell(WatcherEvent::Moved {
                    dispute: id,
                    call,
                    words,
                });
                Ok(())
            }
            Err(error) => {
                tracing::warn!(target: "assay::watcher", %id, call, %error, "move refused");
                if error.is_temporary() {
                    Err(error.into())
                } else {
                    Ok(())
                }
            }
        }
    }
}
