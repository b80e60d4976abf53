//! One audit: fetch, check the commitments, run, compare.

use std::time::Duration;

use alloy_primitives::B256;
use assay_abi::{IStaking, STAKING};
use assay_operator::{JobResponse, input_tensor};
use assay_receipt::{Receipt, opens_input, opens_output};
use assay_wallet::ChainClient;

use crate::WatcherError;
use crate::models::Loaded;

/// Largest answer of an operator: hex of input and output, bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// What an operator serves about a job, after it was checked against the commitments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobData {
    /// Canonical input bytes.
    pub input: Vec<u8>,
    /// Salt of the commitments.
    pub salt: B256,
    /// Canonical output bytes.
    pub output: Vec<u8>,
}

/// Outcome of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Output and trace agree, bit for bit.
    Agrees,
    /// They do not.
    Differs {
        /// Trace root of the own run.
        own: B256,
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
    })
}

/// The agent that fetches from operators: no redirects, bounded time.
pub(crate) fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
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
    let input = tensor(model, &job.input).map_err(failed)?;
    let run = model
        .engine
        .run_traced(&input, &job.salt.0)
        .map_err(|error| failed(error.to_string()))?;
    let own = B256::from(run.root());
    let traced = receipt.trace_root == B256::ZERO || receipt.trace_root == own;
    let same_output = run.output_commit == receipt.output_commit.0;
    Ok(if traced && same_output {
        Audit::Agrees
    } else {
        Audit::Differs { own }
    })
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
