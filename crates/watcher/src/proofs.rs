//! Proofs as a watcher sees them: keys that are not their model's, and claims whose proof did not come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use assay_abi::{CLAIMS, IClaims, IModels, MODELS};
use assay_graph::Graph;
use assay_proof::ProvingKey;
use assay_receipt::{Receipt, Tier};
use assay_wallet::{ChainClient, ClientError};

use crate::WatcherEvent;

/// Time between two looks at a model's registered key.
const LOOK: Duration = Duration::from_secs(30);
/// Claim states (abi, `IClaims.Claim.state`).
const ASSERTED: u8 = 1;

/// Registered keys that were compared, by model.
#[derive(Debug, Default)]
pub(crate) struct KeyChecks(HashMap<B256, (Instant, B256)>);

impl KeyChecks {
    /// Compares a model's registered key with the one that its weights give, in a thread of its own, once for each key.
    ///
    /// # Errors
    /// Those of the chain's client.
    pub(crate) fn check(
        &mut self,
        client: &ChainClient,
        graph: &Arc<Graph>,
        events: Option<&Sender<WatcherEvent>>,
    ) -> Result<(), ClientError> {
        let model_id = B256::from(graph.model_id());
        let known = self.0.get(&model_id).copied();
        if known.is_some_and(|(at, _)| at.elapsed() < LOOK) {
            return Ok(());
        }
        let call = IModels::proofKeyCall { modelId: model_id };
        let registered = client.call(MODELS, &call)?.keyId;
        self.0.insert(model_id, (Instant::now(), registered));
        if registered == B256::ZERO || known.is_some_and(|(_, key)| key == registered) {
            return Ok(());
        }
        let (graph, events) = (Arc::clone(graph), events.cloned());
        let spawned = std::thread::Builder::new()
            .name("watcher-key".into())
            .spawn(move || compare(model_id, registered, graph, events.as_ref()));
        if let Err(error) = spawned {
            tracing::warn!(target: "assay::watcher", %model_id, %error, "the proof key is not compared");
            self.0.remove(&model_id);
        }
        Ok(())
    }
}

fn compare(
    model_id: B256,
    registered: B256,
    graph: Arc<Graph>,
    events: Option<&Sender<WatcherEvent>>,
) {
    let own = match ProvingKey::new(graph) {
        Ok(key) => B256::from(key.key().id()),
        Err(error) => {
            tracing::warn!(target: "assay::watcher", %model_id, %error, "a proof key is registered for a model without proofs");
            B256::ZERO
        }
    };
    if own == registered {
        tracing::info!(target: "assay::watcher", %model_id, %registered, "the registered proof key is the model's");
        return;
    }
    tracing::error!(target: "assay::watcher", %model_id, %registered, %own, "THE REGISTERED PROOF KEY IS NOT THE MODEL'S: proofs under it show nothing");
    let event = WatcherEvent::WrongProofKey {
        model_id,
        registered,
        own,
    };
    if let Some(events) = events {
        // Whoever listened may have left.
        let _ = events.send(event);
    }
}

/// Whether a claim ends by a proof, or by its absence: there is nothing to challenge in it.
pub(crate) fn is_owed(receipt: &Receipt) -> bool {
    receipt.tier == Tier::Zk as u8
}

/// What became of a claim of tier zk.
pub(crate) enum Owed {
    /// It may still be proven.
    Open,
    /// It was proven, rejected or refunded.
    Settled,
    /// Its time is over.
    Late,
}

/// Looks at a claim of tier zk.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn owed(client: &ChainClient, claim_id: B256) -> Result<Owed, ClientError> {
    let call = IClaims::claimCall { claimId: claim_id };
    let claim = client.call(CLAIMS, &call)?;
    if claim.state != ASSERTED {
        return Ok(Owed::Settled);
    }
    Ok(if client.chain_millis()? < claim.deadline {
        Owed::Open
    } else {
        Owed::Late
    })
}

/// Whether the chain accepts proofs about a model: then a right answer under a wrong trace would be defended by a proof, at the cost of the challenger.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn is_provable(client: &ChainClient, model_id: B256) -> Result<bool, ClientError> {
    let call = IModels::proofKeyCall { modelId: model_id };
    Ok(client.call(MODELS, &call)?.usable)
}
