//! Operators on the chain and what they serve.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256};
use assay_abi::{IStaking, STAKING};
use assay_operator::ServedModel;
use assay_wallet::{ChainClient, ClientError};
use parking_lot::Mutex;

/// Most operators that are looked at.
const MAX_OPERATORS: u64 = 1_000;
/// Operators read from the chain at once.
const PAGE: u64 = 50;
/// Largest list of models that is read, bytes.
const MAX_LIST: u64 = 1 << 20;
/// How long an operator is passed over after a fault.
const PASS_OVER: Duration = Duration::from_secs(10);

/// An operator that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorEntry {
    pub(crate) address: Address,
    pub(crate) endpoint: String,
    pub(crate) models: BTreeSet<B256>,
}

#[derive(Default)]
struct Known {
    entries: Vec<OperatorEntry>,
    read_at: Option<Instant>,
    faults: HashMap<Address, Instant>,
    turn: usize,
}

/// The list, read again when it is old.
pub(crate) struct Operators {
    known: Mutex<Known>,
    refresh: Duration,
}

impl Operators {
    pub(crate) fn new(refresh: Duration) -> Self {
        Self {
            known: Mutex::new(Known::default()),
            refresh,
        }
    }

    /// Operators that serve `model_id`: those without a recent fault first, in turns. Blocks when the list is old.
    pub(crate) fn serving(
        &self,
        client: &ChainClient,
        agent: &ureq::Agent,
        model_id: B256,
    ) -> Result<Vec<OperatorEntry>, ClientError> {
        let fresh = |known: &Known| known.read_at.is_some_and(|at| at.elapsed() < self.refresh);
        let usable = {
            let known = self.known.lock();
            fresh(&known)
                && known
                    .entries
                    .iter()
                    .any(|entry| entry.models.contains(&model_id))
        };
        if !usable {
            self.read(client, agent)?;
        }
        let mut known = self.known.lock();
        known.turn = known.turn.wrapping_add(1);
        known.faults.retain(|_, at| at.elapsed() < PASS_OVER);
        let mut serving: Vec<OperatorEntry> = known
            .entries
            .iter()
            .filter(|entry| entry.models.contains(&model_id))
            .cloned()
            .collect();
        if !serving.is_empty() {
            let turn = known.turn % serving.len();
            serving.rotate_left(turn);
        }
        serving.sort_by_key(|entry| known.faults.contains_key(&entry.address));
        Ok(serving)
    }

    /// Reads the list again and gives the operators that serve `model_id` and are not among `asked`: the list may be older than one that has just come. Blocks.
    pub(crate) fn newcomers(
        &self,
        client: &ChainClient,
        agent: &ureq::Agent,
        model_id: B256,
        asked: &[Address],
    ) -> Result<Vec<OperatorEntry>, ClientError> {
        self.read(client, agent)?;
        let mut serving = self.serving(client, agent, model_id)?;
        serving.retain(|entry| !asked.contains(&entry.address));
        Ok(serving)
    }

    fn read(&self, client: &ChainClient, agent: &ureq::Agent) -> Result<(), ClientError> {
        let entries = read(client, agent)?;
        let mut known = self.known.lock();
        known.entries = entries;
        known.read_at = Some(Instant::now());
        Ok(())
    }

    /// Passes an operator over for a while.
    pub(crate) fn note_fault(&self, operator: Address) {
        self.known.lock().faults.insert(operator, Instant::now());
    }

    /// Operators known now.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().entries.len()
    }
}

fn read(client: &ChainClient, agent: &ureq::Agent) -> Result<Vec<OperatorEntry>, ClientError> {
    let mut entries = Vec::new();
    let mut offset = 0;
    while offset < MAX_OPERATORS {
        let call = IStaking::operatorsCall {
            offset: U256::from(offset),
            limit: U256::from(PAGE),
        };
        let page = client.call(STAKING, &call)?.page;
        if page.is_empty() {
            break;
        }
        offset += page.len() as u64;
        for address in page {
            let operator = client.call(STAKING, &IStaking::operatorCall { account: address })?;
            if operator.jailed || operator.bonded == U256::ZERO {
                continue;
            }
            match served(agent, &operator.endpoint) {
                Ok(models) => entries.push(OperatorEntry {
                    address,
                    endpoint: operator.endpoint.trim_end_matches('/').to_owned(),
                    models,
                }),
                Err(reason) => {
                    tracing::debug!(target: "assay::gateway", %address, %reason, "operator passed over");
                }
            }
        }
    }
    Ok(entries)
}

fn served(agent: &ureq::Agent, endpoint: &str) -> Result<BTreeSet<B256>, String> {
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Err("the endpoint is no http address".into());
    }
    let url = format!("{}/v1/models", endpoint.trim_end_matches('/'));
    let request = agent
        .get(&url)
        .config()
        .timeout_global(Some(Duration::from_secs(3)))
        .build();
    let mut response = request.call().map_err(|error| error.to_string())?;
    let bytes = response
        .body_mut()
        .with_config()
        .limit(MAX_LIST)
        .read_to_vec();
    let bytes = bytes.map_err(|error| error.to_string())?;
    let models: Vec<ServedModel> =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(models.into_iter().map(|model| model.model_id).collect())
}
