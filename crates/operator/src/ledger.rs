//! Jobs on disk and the lines they belong to.
//!
//! Order of one job: job file (receipt without signature, input, output) synced, then the log record synced, then
//! the signature. A job file without a log record was never signed and is removed at the next start; a log record
//! without a job file belongs to a job that was removed long after it was final.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes};
use assay_graph::{Sampling, Statement};
use assay_receipt::{Receipt, ReceiptSignature, Request, Salt};
use serde::{Deserialize, Serialize};

use crate::OperatorError;
use crate::language::Masks;
use crate::wal::{WriteAheadLog, sync_parent};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum JobState {
    /// Signed, not on the chain yet.
    Signed,
    /// On the chain, open to challenge.
    Asserted {
        /// Block of the assertion.
        block: u64,
        /// End of the window, chain milliseconds.
        deadline: u64,
    },
    /// The fee is paid out.
    Final {
        /// Chain second at which this was seen.
        at: u64,
    },
    /// A dispute was lost, or the operator was found equivocating.
    Rejected {
        /// Chain second at which this was seen.
        at: u64,
    },
    /// Not asserted in time; nothing is paid, nothing locked.
    Skipped {
        /// Chain second at which this was seen.
        at: u64,
    },
}

impl JobState {
    /// Chain second at which the job was settled, if it is.
    pub const fn settled_at(&self) -> Option<u64> {
        match self {
            Self::Signed | Self::Asserted { .. } => None,
            Self::Final { at } | Self::Rejected { at } | Self::Skipped { at } => Some(*at),
        }
    }
}

/// Where the proof of an answer stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum ProofState {
    /// Asked for, not made yet.
    Queued {
        /// Place in the order in which proofs were asked for.
        ticket: u64,
    },
    /// Made; the file is kept beside the job.
    Done {
        /// Bytes of the proof.
        bytes: u64,
        /// Bits of soundness, in tenths.
        tenths: u32,
        /// Milliseconds that it took.
        millis: u64,
    },
    /// Not made.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// Everything about one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The receipt.
    pub receipt: Receipt,
    /// What was asked.
    pub request: Request,
    /// The requester's signature over it.
    pub request_signature: ReceiptSignature,
    /// Salt of the commitments.
    pub salt: Salt,
    /// Canonical input bytes.
    pub input: Bytes,
    /// Canonical output bytes.
    pub output: Bytes,
    /// Canonical sampling statement, of language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Bytes>,
    /// Canonical grammar that the answer was constrained to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Bytes>,
    /// Token masks of a constrained answer.
    #[serde(default, skip_serializing_if = "Masks::is_empty")]
    pub masks: Masks,
    /// Where it stands.
    pub state: JobState,
    /// Where its proof stands, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofState>,
}

/// Most bytes of token masks that are unpacked for one job.
const MAX_MASKS: usize = 1 << 30;

impl Job {
    /// The public statement of a language model's run: parameters and masks.
    ///
    /// # Errors
    /// A sentence, when the job has none or its form is broken.
    pub fn statement(&self) -> Result<Statement, String> {
        let bytes = self.sampling.as_ref().ok_or("the job has no statement")?;
        Ok(Statement {
            sampling: Sampling::decode(bytes).map_err(|error| error.to_string())?,
            masks: self.masks.unpack(MAX_MASKS).ok_or("the job lacks a mask")?,
        })
    }
}

/// A line as this operator knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LineTip {
    /// Last place that was logged.
    pub(crate) seq: u64,
    /// Exposure sum up to it.
    pub(crate) cum_exposure: u128,
}

/// Jobs, lines and the log.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    proofs: PathBuf,
    log: WriteAheadLog,
    jobs: BTreeMap<B256, Job>,
    tips: HashMap<B256, LineTip>,
    /// Claims of open requests, by request.
    answered: HashMap<B256, B256>,
}

impl Ledger {
    /// Opens the folder, reads the log and all jobs, removes jobs that were never logged.
    ///
    /// # Errors
    /// [`OperatorError::Disk`], [`OperatorError::DamagedLog`], [`OperatorError::JobFile`].
    pub fn open(data_dir: impl Into<PathBuf>) -> Result<Self, OperatorError> {
        let data_dir = data_dir.into();
        let (folder, proofs) = (data_dir.join("jobs"), data_dir.join("proofs"));
        for folder in [&folder, &proofs] {
            fs::create_dir_all(folder).map_err(|source| OperatorError::Disk {
                path: folder.clone(),
                source,
            })?;
        }
        let log = WriteAheadLog::open(data_dir.join("receipts.log"))?;
        let mut ledger = Self {
            folder,
            proofs,
            log,
            jobs: BTreeMap::new(),
            tips: HashMap::new(),
            answered: HashMap::new(),
        };
        ledger.load()?;
        Ok(ledger)
    }

    fn load(&mut self) -> Result<(), OperatorError> {
        let logged: HashSet<B256> = self.log.entries().map(|(_, _, claim)| claim).collect();
        for (line_id, seq, _) in self.log.entries() {
            let tip = self.tips.entry(line_id).or_default();
            tip.seq = tip.seq.max(seq);
        }
        let folder = self.folder.clone();
        let disk = |source| OperatorError::Disk {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(disk)? {
            let path = entry.map_err(disk)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let claim_id = stem.and_then(|stem| stem.parse::<B256>().ok());
            let known = claim_id.is_some_and(|claim_id| logged.contains(&claim_id));
            if !known || path.extension().is_none_or(|ext| ext != "json") {
                fs::remove_file(&path).map_err(disk)?;
                continue;
            }
            let job = read_job(&path)?;
            let claim_id = job.receipt.claim_id();
            let tip = self.tips.entry(job.receipt.line_id).or_default();
            if job.receipt.seq == tip.seq {
                tip.cum_exposure = job.receipt.cum_exposure;
            }
            self.note_answer(claim_id, &job);
            self.jobs.insert(claim_id, job);
        }
        Ok(())
    }

    fn note_answer(&mut self, claim_id: B256, job: &Job) {
        if job.request.is_open() {
            self.answered.insert(job.receipt.request_hash, claim_id);
        }
    }

    /// The claim that answers an open request, if there is one.
    pub(crate) fn answer_to(&self, request_hash: B256) -> Option<B256> {
        self.answered.get(&request_hash).copied()
    }

    /// Notes the exposure sum of a line's last place, as the chain has it.
    pub(crate) fn set_tip(&mut self, line_id: B256, tip: LineTip) {
        let known = self.tips.entry(line_id).or_default();
        if known.seq == tip.seq {
            known.cum_exposure = tip.cum_exposure;
        }
    }

    /// The job with this claim id.
    pub fn job(&self, claim_id: B256) -> Option<&Job> {
        self.jobs.get(&claim_id)
    }

    /// All jobs that are kept.
    pub fn jobs(&self) -> impl Iterator<Item = (&B256, &Job)> {
        self.jobs.iter()
    }

    /// The receipt that holds a place in a line, if any.
    pub fn holder(&self, line_id: B256, seq: u64) -> Option<B256> {
        self.log.get(line_id, seq)
    }

    /// Last logged place of a line and the exposure up to it. The sum is unknown (0) once the last job was removed.
    pub(crate) fn tip(&self, line_id: B256) -> LineTip {
        self.tips.get(&line_id).copied().unwrap_or_default()
    }

    /// Sums over jobs that are signed and not asserted: exposure of all, fees of `requester`.
    pub(crate) fn unasserted(&self, requester: Address) -> (u128, u128) {
        let waiting = self
            .jobs
            .values()
            .filter(|job| job.state == JobState::Signed);
        waiting.fold((0u128, 0u128), |(exposure, fees), job| {
            let fee = if job.receipt.requester == requester {
                job.receipt.fee
            } else {
                0
            };
            (
                exposure.saturating_add(job.receipt.exposure),
                fees.saturating_add(fee),
            )
        })
    }

    /// Makes a job durable and takes its place in the line. Afterwards, and only then, its receipt may be signed.
    ///
    /// # Errors
    /// [`OperatorError::Equivocation`] when the place is taken by another receipt, [`OperatorError::Disk`].
    pub fn commit(&mut self, job: Job) -> Result<B256, OperatorError> {
        let claim_id = job.receipt.claim_id();
        let (line_id, seq) = (job.receipt.line_id, job.receipt.seq);
        if let Some(logged) = self.log.get(line_id, seq)
            && logged != claim_id
        {
            return Err(OperatorError::Equivocation {
                line_id,
                seq,
                logged,
                other: claim_id,
            });
        }
        self.write(claim_id, &job)?;
        self.log.append(line_id, seq, claim_id)?;
        let tip = self.tips.entry(line_id).or_default();
        if seq >= tip.seq {
            *tip = LineTip {
                seq,
                cum_exposure: job.receipt.cum_exposure,
            };
        }
        self.note_answer(claim_id, &job);
        self.jobs.insert(claim_id, job);
        Ok(claim_id)
    }

    /// Notes where a job stands.
    ///
    /// # Errors
    /// [`OperatorError::Disk`].
    pub fn set_state(&mut self, claim_id: B256, state: JobState) -> Result<(), OperatorError> {
        let Some(job) = self.jobs.get(&claim_id) else {
            return Ok(());
        };
        let job = Job {
            state,
            ..job.clone()
        };
        self.write(claim_id, &job)?;
        self.jobs.insert(claim_id, job);
        Ok(())
    }

    /// Notes where a job's proof stands.
    ///
    /// # Errors
    /// [`OperatorError::Disk`].
    pub fn set_proof(&mut self, claim_id: B256, proof: ProofState) -> Result<(), OperatorError> {
        let Some(job) = self.jobs.get(&claim_id) else {
            return Ok(());
        };
        let job = Job {
            proof: Some(proof),
            ..job.clone()
        };
        self.write(claim_id, &job)?;
        self.jobs.insert(claim_id, job);
        Ok(())
    }

    /// Makes a proof durable, then notes it.
    ///
    /// # Errors
    /// [`OperatorError::Disk`].
    pub fn keep_proof(
        &mut self,
        claim_id: B256,
        file: &[u8],
        state: ProofState,
    ) -> Result<(), OperatorError> {
        if !self.jobs.contains_key(&claim_id) {
            return Ok(());
        }
        write_file(&self.proof_path(claim_id), file)?;
        self.set_proof(claim_id, state)
    }

    /// The proof file of a job.
    ///
    /// # Errors
    /// [`OperatorError::Disk`].
    pub fn proof_file(&self, claim_id: B256) -> Result<Vec<u8>, OperatorError> {
        let path = self.proof_path(claim_id);
        fs::read(&path).map_err(|source| OperatorError::Disk { path, source })
    }

    /// Proofs that were asked for and are not made, in the order in which they were asked for.
    pub fn queued_proofs(&self) -> Vec<B256> {
        let queued = self.jobs.iter().filter_map(|(claim_id, job)| {
            let Some(ProofState::Queued { ticket }) = job.proof else {
                return None;
            };
            Some((ticket, *claim_id))
        });
        let mut queued: Vec<(u64, B256)> = queued.collect();
        queued.sort_unstable();
        queued.into_iter().map(|(_, claim_id)| claim_id).collect()
    }

    /// A ticket behind all that were given.
    pub fn next_ticket(&self) -> u64 {
        let tickets = self.jobs.values().filter_map(|job| match job.proof {
            Some(ProofState::Queued { ticket }) => Some(ticket),
            _ => None,
        });
        tickets.max().map_or(1, |last| last.saturating_add(1))
    }

    fn proof_path(&self, claim_id: B256) -> PathBuf {
        self.proofs.join(format!("{claim_id}.proof"))
    }

    /// Removes jobs that were settled before chain second `before`.
    ///
    /// # Errors
    /// [`OperatorError::Disk`].
    pub fn prune(&mut self, before: u64) -> Result<usize, OperatorError> {
        let settled = |job: &Job| job.state.settled_at().is_some_and(|at| at < before);
        let old: Vec<B256> = self
            .jobs
            .iter()
            .filter(|(_, job)| settled(job) && job.receipt.seq < self.tip(job.receipt.line_id).seq)
            .map(|(claim_id, _)| *claim_id)
            .collect();
        for claim_id in &old {
            let path = self.path(*claim_id);
            fs::remove_file(&path).map_err(|source| OperatorError::Disk { path, source })?;
            let path = self.proof_path(*claim_id);
            if path.exists() {
                fs::remove_file(&path).map_err(|source| OperatorError::Disk { path, source })?;
            }
            if let Some(job) = self.jobs.remove(claim_id) {
                self.answered.remove(&job.receipt.request_hash);
            }
        }
        Ok(old.len())
    }

    fn path(&self, claim_id: B256) -> PathBuf {
        self.folder.join(format!("{claim_id}.json"))
    }

    fn write(&self, claim_id: B256, job: &Job) -> Result<(), OperatorError> {
        let path = self.path(claim_id);
        let text = serde_json::to_vec(job).map_err(|error| OperatorError::JobFile {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        write_file(&path, &text)
    }
}

/// Writes a file under another name, syncs it, and renames it.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), OperatorError> {
    let temporary = path.with_extension("new");
    let disk = |source| OperatorError::Disk {
        path: path.to_owned(),
        source,
    };
    let mut file = fs::File::create(&temporary).map_err(disk)?;
    file.write_all(bytes).map_err(disk)?;
    file.sync_data().map_err(disk)?;
    fs::rename(&temporary, path).map_err(disk)?;
    sync_parent(path)
}

fn read_job(path: &Path) -> Result<Job, OperatorError> {
    let text = fs::read(path).map_err(|source| OperatorError::Disk {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|error| OperatorError::JobFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
