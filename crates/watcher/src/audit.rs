//! One audit: fetch, check the commitments, run, compare.

use std::time::Duration;

use alloy_primitives::B256;
use assay_abi::{IStaking, STAKING};
use assay_graph::Extent;
use assay_operator::{JobResponse, Masks, input_tensor};
use assay_receipt::{Receipt, opens_input, opens_output};
use assay_wallet::ChainClient;

use crate::models::Loaded;
use crate::{WatcherError, language};

/// Largest answer of an operator: hex of input and output, bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Longest time for a connection to an operator.
const LONGEST_CONNECT: Duration = Duration::from_secs(2);

/// What an operator serves about a job, after it was checked against the commitments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobData {
    /// Canonical input bytes.
    pub input: Vec<u8>,
    /// Salt of the commitments.
    pub salt: B256,
    /// Canonical output bytes.
    pub output: Vec<u8>,
    /// Canonical sampling statement, of language models; checked when the model is at hand.
    pub sampling: Option<Vec<u8>>,
    /// Canonical grammar, of constrained answers.
    pub grammar: Option<Vec<u8>>,
    /// Token masks, of constrained answers.
    pub masks: Masks,
}

/// Outcome of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Output and trace agree, bit for bit.
    Agrees,
    /// Output and trace agree, but the token masks are not those of the grammar: nothing that the chain judges.
    OtherMasks {
        /// First answered position whose mask is another.
        position: u32,
    },
    /// They do not.
    Differs {
        /// Trace root of the own run; zero when the committed input can't be run.
        own: B256,
        /// Whether the output is the own one nevertheless. Of language models not told apart.
        same_output: bool,
    },
}

/// Fetches what the operator serves and checks that it opens the receipt's commitments.
pub(crate) fn fetch(
    client: &ChainClient,
    agent: &ureq::Agent,
    receipt: &Receipt,
) -> Result<JobData, WatcherError> {
    let claim_id = receipt.claim_id();
    let account = receipt.operator;
    let operator = client.call(STAKING, &IStaking::operatorCall { account })?;
    let endpoint = operator.endpoint;
    let unavailable = |reason: String| WatcherError::Unavailable {
        endpoint: endpoint.clone(),
        claim_id,
        reason,
    };
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Err(unavailable("the endpoint is no http address".into()));
    }
    let url = format!("{}/v1/jobs/{claim_id}", endpoint.trim_end_matches('/'));
    let mut response = agent
        .get(&url)
        .call()
        .map_err(|error| unavailable(error.to_string()))?;
    let bytes = response
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_vec()
        .map_err(|error| unavailable(error.to_string()))?;
    let job: JobResponse =
        serde_json::from_slice(&bytes).map_err(|error| unavailable(error.to_string()))?;
    let junk = |what| WatcherError::Junk {
        endpoint: endpoint.clone(),
        what,
        claim_id,
    };
    if !opens_input(receipt.input_commit, job.salt.0, &job.input) {
        return Err(junk("input"));
    }
    if !opens_output(receipt.output_commit, job.salt.0, &job.output) {
        return Err(junk("output"));
    }
    Ok(JobData {
        input: job.input.to_vec(),
        salt: job.salt.0,
        output: job.output.to_vec(),
        sampling: job.sampling.map(|bytes| bytes.to_vec()),
        grammar: job.grammar.map(|bytes| bytes.to_vec()),
        masks: job.masks,
    })
}

/// The agent that fetches from operators: no redirects, bounded time.
pub(crate) fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .timeout_connect(Some(timeout.min(LONGEST_CONNECT)))
        .max_redirects(0)
        .build()
        .new_agent()
}

/// Runs the model on the input and compares with the receipt.
pub(crate) fn replay(
    model: &Loaded,
    receipt: &Receipt,
    job: &JobData,
) -> Result<Audit, WatcherError> {
    let failed = |reason: String| WatcherError::Replay {
        model_id: receipt.model_id,
        reason,
    };
    if let Some(decoder) = model.decoder() {
        return language::replay(model, decoder, receipt, job);
    }
    if !is_legal(model, receipt, job) {
        let own = tensor(model, &job.input)
            .ok()
            .and_then(|input| model.engine().run_traced(&input, &job.salt.0).ok())
            .map_or(B256::ZERO, |run| B256::from(run.root()));
        return Ok(Audit::Differs {
            own,
            same_output: false,
        });
    }
    let input = tensor(model, &job.input).map_err(failed)?;
    let run = model
        .engine()
        .run_traced(&input, &job.salt.0)
        .map_err(|error| failed(error.to_string()))?;
    let own = B256::from(run.root());
    let traced = receipt.trace_root == B256::ZERO || receipt.trace_root == own;
    let same_output = run.output_commit == receipt.output_commit.0;
    Ok(if traced && same_output {
        Audit::Agrees
    } else {
        Audit::Differs { own, same_output }
    })
}

/// Whether the committed ends are those of a run of the signed size: lengths, and each value in the declared range.
/// The arbiter judges the first block of the input by the same rule.
pub(crate) fn is_legal(model: &Loaded, receipt: &Receipt, job: &JobData) -> bool {
    let structure = &model.structure;
    let Some(ty) = structure.types.first() else {
        return false;
    };
    let in_range = |bytes: &[u8]| {
        assay_graph::Data::from_bytes(ty.dtype, bytes)
            .is_ok_and(|data| data.to_i32().iter().all(|v| (ty.lo..=ty.hi).contains(v)))
    };
    let is_long = |bytes: &[u8], positions: u32| {
        bytes.len() == ty.len(positions).saturating_mul(ty.dtype.size())
    };
    let ends = is_long(&job.input, receipt.n_in) && in_range(&job.input);
    if !structure.is_generative() {
        return ends && (1..=structure.header.max_seq).contains(&receipt.n_in);
    }
    let size = Extent::answering(receipt.n_in, receipt.n_out);
    ends && size.is_some_and(|size| size.seq <= structure.header.max_seq)
        && is_long(&job.output, receipt.n_out)
        && in_range(&job.output)
}

/// The input tensor of a run.
pub(crate) fn tensor(model: &Loaded, bytes: &[u8]) -> Result<assay_graph::Tensor, String> {
    let ty = model
        .structure
        .types
        .first()
        .ok_or("the model takes no input")?;
    input_tensor(ty, model.structure.header.max_seq, bytes)
}
