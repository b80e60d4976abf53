//! Proofs of answers, made in the background: one at a time, at the lowest priority, resumed after a restart.
//!
//! What is to be proven is written into the job before anyone is told so ([`ProofState::Queued`]); the order survives as tickets. Disputes and answers of
//! tier zk, which have a deadline on the chain, go first and are not bounded by the queue: the exposure that they lock bounds them.

mod keys;
pub(crate) mod onchain;
mod pool;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use assay_abi::claim_context;
use assay_graph::{Graph, Sampling, Structure};
use assay_proof::{Input, ProvingKey, Step, prove, verify};
use assay_receipt::{ProofFile, Tier};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::ledger::{Job, JobState, ProofState};
use crate::model::{ModelRunner, input_tensor};
use crate::operator::Shared;
use crate::prover::keys::Keys;
use crate::prover::onchain::Registered;
use crate::{OperatorError, ProofConfig};

/// How long the thread sleeps at most before it looks at the stop flag.
const LOOK: Duration = Duration::from_millis(200);
/// Steps between two looks at whether answers are waiting.
const NAP: Duration = Duration::from_millis(20);

/// Why no proof will be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoProof {
    /// The operator makes none.
    #[error("this operator offers no proofs")]
    Off,
    /// No such answer.
    #[error("no such receipt is kept here")]
    Unknown,
    /// Nobody asked for one.
    #[error("no proof of this receipt was asked for; POST …/prove does")]
    NotAsked,
    /// The claim was lost.
    #[error("the claim of this receipt was rejected")]
    Rejected,
    /// The model, or the run, has no proofs.
    #[error("not provable: {0}")]
    NotProvable(String),
    /// No room.
    #[error("{waiting} proofs wait, the queue holds {limit}")]
    Full {
        /// Proofs that wait.
        waiting: usize,
        /// Most.
        limit: usize,
    },
    /// Disk.
    #[error("{0}")]
    Failed(String),
}

/// Where a proof stands, for those who ask.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProofStatus {
    pub(crate) claim_id: B256,
    /// `queued`, `proving`, `done`, `failed`.
    pub(crate) state: &'static str,
    /// Proofs that are made before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ahead: Option<usize>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Bytes of the proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Bits of soundness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bits: Option<f64>,
    /// What it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) milliseconds: Option<u64>,
}

/// What is to be proven, by deadline and by turn.
#[derive(Default)]
struct Line {
    urgent: VecDeque<B256>,
    waiting: VecDeque<B256>,
    /// Models whose key is wanted.
    keys: VecDeque<B256>,
    /// The one that is being made, and its step.
    now: Option<(B256, Option<Step>)>,
}

impl Line {
    fn place(&self, claim_id: B256) -> Option<usize> {
        let all = self.urgent.iter().chain(&self.waiting);
        let before = usize::from(self.now.is_some());
        all.enumerate()
            .find(|(_, id)| **id == claim_id)
            .map(|(i, _)| i + before)
    }
}

/// What the HTTP threads, the chain thread and the prover's thread share.
pub(crate) struct Prover {
    pub(crate) keys: Keys,
    line: Mutex<Line>,
    wake: Condvar,
    /// Milliseconds of the last proof of a model.
    took: Mutex<HashMap<B256, u64>>,
    /// What the chain says about the keys of models.
    registered: Mutex<HashMap<B256, Registered>>,
}

impl Prover {
    /// With what was asked for before the last stop.
    pub(crate) fn new(config: &ProofConfig, queued: Vec<B256>) -> Self {
        Self {
            keys: Keys::new(config.key_memory),
            line: Mutex::new(Line {
                waiting: queued.into(),
                ..Line::default()
            }),
            wake: Condvar::new(),
            took: Mutex::default(),
            registered: Mutex::default(),
        }
    }

    /// Whether one more may be asked for.
    pub(crate) fn room(&self, limit: usize) -> Result<(), NoProof> {
        let waiting = self.line.lock().waiting.len();
        if waiting < limit {
            Ok(())
        } else {
            Err(NoProof::Full { waiting, limit })
        }
    }

    /// Puts a noted proof into the line, the urgent ones ahead of all others.
    pub(crate) fn push(&self, claim_id: B256, urgent: bool) {
        let mut line = self.line.lock();
        if line.now.is_some_and(|(id, _)| id == claim_id) || line.urgent.contains(&claim_id) {
            return;
        }
        if urgent {
            line.waiting.retain(|id| *id != claim_id);
            line.urgent.push_back(claim_id);
        } else if !line.waiting.contains(&claim_id) {
            line.waiting.push_back(claim_id);
        }
        drop(line);
        self.wake.notify_one();
    }

    /// How long the last proof of a model took.
    pub(crate) fn took(&self, model_id: B256) -> Option<Duration> {
        let millis = self.took.lock().get(&model_id).copied();
        millis.map(Duration::from_millis)
    }

    /// What the chain says about a model's key; `None` before it was asked.
    pub(crate) fn registered(&self, model_id: B256) -> Option<Registered> {
        self.registered.lock().get(&model_id).cloned()
    }

    fn note_registered(&self, model_id: B256, found: Registered) {
        self.registered.lock().insert(model_id, found);
    }

    fn next(&self) -> Option<Work> {
        let mut line = self.line.lock();
        if line.urgent.is_empty() && line.waiting.is_empty() && line.keys.is_empty() {
            self.wake.wait_for(&mut line, LOOK);
        }
        let next = line.urgent.pop_front();
        if next.is_none()
            && let Some(model_id) = line.keys.pop_front()
        {
            return Some(Work::Key(model_id));
        }
        let next = next.or_else(|| line.waiting.pop_front())?;
        line.now = Some((next, None));
        Some(Work::Proof(next))
    }

    /// Has the key of a model made: the chain has one, to be compared.
    fn want_key(&self, model_id: B256) {
        let mut line = self.line.lock();
        if !line.keys.contains(&model_id) {
            line.keys.push_back(model_id);
        }
        drop(line);
        self.wake.notify_one();
    }

    fn step(&self, step: Step) {
        if let Some((_, at)) = &mut self.line.lock().now {
            *at = Some(step);
        }
    }
}

/// What the prover's thread does next.
enum Work {
    /// The key of a model.
    Key(B256),
    /// The proof of an answer.
    Proof(B256),
}

/// A proof with what it cost.
struct Made {
    file: Vec<u8>,
    state: ProofState,
}

impl Shared {
    /// Notes that a proof is wanted. The same receipt again gets the same proof.
    ///
    /// # Errors
    /// [`NoProof`]. Takes as long as planning the model, the first time.
    pub(crate) fn ask_proof(&self, claim_id: B256) -> Result<ProofStatus, NoProof> {
        if !self.config.proofs.offered {
            return Err(NoProof::Off);
        }
        let job = self.ledger.lock().job(claim_id).cloned();
        let job = job.ok_or(NoProof::Unknown)?;
        if matches!(job.state, JobState::Rejected { .. }) {
            return Err(NoProof::Rejected);
        }
        if let Some(sampling) = sampling_of(&job).map_err(NoProof::NotProvable)? {
            provable(&sampling).map_err(|reason| NoProof::NotProvable(reason.into()))?;
        }
        let model = self.models.get(&job.receipt.model_id);
        model
            .ok_or_else(|| "the model is not served here any more".to_owned())
            .and_then(|model| {
                self.prover
                    .keys
                    .plan(model.model_id(), graph_of(model.as_ref())?)
            })
            .map_err(NoProof::NotProvable)?;
        self.queue_proof(claim_id, false)?;
        self.proof_status(claim_id)
    }

    /// Notes that a proof is wanted and puts it into the line; one that was made, or is waiting, stays as it is.
    pub(crate) fn queue_proof(&self, claim_id: B256, urgent: bool) -> Result<(), NoProof> {
        let mut ledger = self.ledger.lock();
        let job = ledger.job(claim_id).ok_or(NoProof::Unknown)?;
        match job.proof {
            Some(ProofState::Done { .. }) => return Ok(()),
            Some(ProofState::Queued { .. }) => {}
            Some(ProofState::Failed { .. }) | None => {
                if !urgent {
                    self.prover.room(self.config.proofs.queue)?;
                }
                let ticket = ledger.next_ticket();
                let noted = ledger.set_proof(claim_id, ProofState::Queued { ticket });
                noted.map_err(|error| NoProof::Failed(error.to_string()))?;
            }
        }
        self.prover.push(claim_id, urgent);
        Ok(())
    }

    /// Where a proof stands.
    ///
    /// # Errors
    /// [`NoProof::Unknown`], [`NoProof::NotAsked`].
    pub(crate) fn proof_status(&self, claim_id: B256) -> Result<ProofStatus, NoProof> {
        let proof = self
            .ledger
            .lock()
            .job(claim_id)
            .map(|job| job.proof.clone());
        let proof = proof.ok_or(NoProof::Unknown)?.ok_or(NoProof::NotAsked)?;
        let mut status = ProofStatus {
            claim_id,
            state: "queued",
            ahead: None,
            step: None,
            reason: None,
            bytes: None,
            bits: None,
            milliseconds: None,
        };
        match proof {
            ProofState::Queued { .. } => {
                let line = self.prover.line.lock();
                match line.now {
                    Some((id, step)) if id == claim_id => {
                        status.state = "proving";
                        status.step = step.map(|step| format!("{step:?}").to_lowercase());
                    }
                    _ => status.ahead = line.place(claim_id),
                }
            }
            ProofState::Done {
                bytes,
                tenths,
                millis,
            } => {
                status.state = "done";
                status.bytes = Some(bytes);
                status.bits = Some(f64::from(tenths) / 10.0);
                status.milliseconds = Some(millis);
            }
            ProofState::Failed { reason } => {
                status.state = "failed";
                status.reason = Some(reason);
            }
        }
        Ok(status)
    }

    fn proving_key(&self, model: &dyn ModelRunner) -> Result<ProvingKey, String> {
        let key = self.prover.keys.get(model.model_id(), graph_of(model)?);
        key.inspect_err(|reason| {
            let model_id = model.model_id();
            tracing::info!(target: "assay::operator", %model_id, %reason, "model is not provable");
        })
    }

    /// The prover's thread: makes the keys of models, then what is in the line. Keys of language models are large, so they are made when they are needed.
    pub(crate) fn prove_all(&self) {
        let pool = match pool::quiet(self.config.proofs.threads) {
            Ok(pool) => pool,
            Err(error) => {
                tracing::error!(target: "assay::operator", %error, "no threads for proofs");
                return;
            }
        };
        for model in self.models.values().filter(|m| m.language().is_none()) {
            self.prover.want_key(model.model_id());
        }
        while !self.stopped() {
            match self.prover.next() {
                None => {}
                Some(Work::Key(model_id)) => {
                    if let Some(model) = self.models.get(&model_id) {
                        // Told there; whoever needs it asks again.
                        let made = || pool.install(|| self.proving_key(model.as_ref()).map(drop));
                        let _ = catch_unwind(AssertUnwindSafe(made));
                    }
                }
                Some(Work::Proof(claim_id)) => {
                    self.prove_next(claim_id, &pool);
                    self.prover.line.lock().now = None;
                }
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn prove_next(&self, claim_id: B256, pool: &rayon::ThreadPool) {
        let job = self.ledger.lock().job(claim_id).cloned();
        // Settled and dropped meanwhile, or made before: the same receipt may be in both lines.
        let Some(job) = job.filter(|job| matches!(job.proof, Some(ProofState::Queued { .. })))
        else {
            return;
        };
        let made = catch_unwind(AssertUnwindSafe(|| pool.install(|| self.make(&job))));
        let made = made.unwrap_or_else(|_| Err("the prover ended unexpectedly".into()));
        // Whoever opens the data folder next goes on from what is written there.
        if self.stopped() {
            return;
        }
        let mut ledger = self.ledger.lock();
        let noted = match made {
            Ok(Made { file, state }) => {
                tracing::info!(target: "assay::operator", %claim_id, ?state, "answer is proven");
                ledger.keep_proof(claim_id, &file, state)
            }
            Err(reason) => {
                tracing::warn!(target: "assay::operator", %claim_id, %reason, "answer is not proven");
                ledger.set_proof(claim_id, ProofState::Failed { reason })
            }
        };
        if let Err(error) = noted {
            tracing::error!(target: "assay::operator", %claim_id, %error, "proof is not noted");
        }
    }

    fn make(&self, job: &Job) -> Result<Made, String> {
        let model_id = job.receipt.model_id;
        let model = self.models.get(&model_id);
        let model = model.ok_or("the model is not served here any more")?;
        let key = self.proving_key(model.as_ref())?;
        let input = run_of(model.structure(), job)?;
        let context = claim_context(self.domain.chain_id, job.receipt.body_id());
        let begin = Instant::now();
        let proof = prove(&key, &[input], &context, &mut |step| {
            self.prover.step(step);
            self.give_way();
        })
        .map_err(|error| error.to_string())?;
        let said = proof.statement.runs.first();
        if said.is_none_or(|run| run.output != job.output) {
            return Err("the model gives another output than the receipt".into());
        }
        let verified = verify(key.key(), &proof).map_err(|error| error.to_string())?;
        let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.prover.took.lock().insert(model_id, millis);
        let file = ProofFile {
            key: key.key().encode(),
            proof: proof.encode(),
        };
        let state = ProofState::Done {
            bytes: file.proof.len() as u64,
            tenths: verified.budget.tenths(),
            millis,
        };
        let file = file.encode();
        Ok(Made { file, state })
    }

    /// Waits a little while answers are waiting or running: a proof has time, a buyer has not.
    fn give_way(&self) {
        let begin = Instant::now();
        while self.waiting.load(Ordering::Relaxed) > 0
            && begin.elapsed() < self.config.proofs.yield_for
            && !self.stopped()
        {
            std::thread::sleep(NAP);
        }
    }

    /// The proof of a job, without its key: what the chain takes.
    pub(crate) fn proof_of(&self, claim_id: B256) -> Result<Vec<u8>, OperatorError> {
        let bytes = self.ledger.lock().proof_file(claim_id)?;
        let file = ProofFile::decode(&bytes).map_err(|error| OperatorError::JobFile {
            path: format!("{claim_id}.proof").into(),
            reason: error.to_string(),
        })?;
        Ok(file.proof)
    }
}

/// The graph that is proven.
fn graph_of(model: &dyn ModelRunner) -> Result<&Arc<Graph>, String> {
    let graph = model.graph();
    graph.ok_or_else(|| "the model's graph is not at hand".to_owned())
}

/// How an answer was sampled, if it was.
fn sampling_of(job: &Job) -> Result<Option<Sampling>, String> {
    let sampling = job.sampling.as_ref().map(|bytes| Sampling::decode(bytes));
    sampling.transpose().map_err(|error| error.to_string())
}

/// Whether answers that are sampled so have proofs: all but those that are constrained to a grammar.
///
/// # Errors
/// Why not, in words.
pub fn provable(sampling: &Sampling) -> Result<(), &'static str> {
    if sampling.is_masked() {
        return Err("answers constrained to a grammar have no proofs");
    }
    Ok(())
}

/// The run of an answer: its input, or prompt and answer without its last token.
fn run_of(structure: &Structure, job: &Job) -> Result<Input, String> {
    let ty = structure.types.first().ok_or("the model takes no input")?;
    let mut input = job.input.to_vec();
    let sampling = sampling_of(job)?;
    if sampling.is_some() {
        let fed = job.output.len().saturating_sub(ty.dtype.size());
        input.extend_from_slice(job.output.get(..fed).unwrap_or_default());
    }
    Ok(Input {
        tensor: input_tensor(ty, structure.header.max_seq, &input)?,
        out: job.receipt.n_out,
        sampling,
    })
}

/// Whether an answer must be proven on the chain before its window ends.
pub(crate) fn is_owed(job: &Job) -> bool {
    job.receipt.tier == Tier::Zk as u8
}

/// Starts the prover's thread.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let worker = Arc::clone(shared);
    std::thread::Builder::new()
        .name("operator-prover".into())
        .spawn(move || worker.prove_all())
}
