//! `assay watcher`: replays what operators assert, challenges what is false.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use alloy_primitives::B256;
use assay_graph::Graph;
use assay_operator::Grammars;
use assay_wallet::ChainClient;
use assay_watcher::{HttpModels, ModelSource, Watcher, WatcherConfig, WatcherEvent};
use serde_json::json;

use crate::{
    account, args::WatcherArgs, local, network, paths, receipts, registry, shell::Shell,
    store::Store,
};

/// Longest graph that is downloaded, bytes.
const MAX_GRAPH: u64 = 1 << 30;
/// Graphs of registered models: the local store first, then the operators on the chain. The watcher checks what it gets against the registered identity.
#[derive(Debug)]
struct Sources {
    store: Store,
    rpc: String,
}

impl ModelSource for Sources {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        if let Ok(model) = self.store.load(&model_id.to_string()) {
            return Ok(Arc::unwrap_or_clone(model.graph));
        }
        let urls = registry::endpoints(&ChainClient::new(&self.rpc)).map_err(|e| e.to_string())?;
        HttpModels {
            urls,
            limit: MAX_GRAPH,
            timeout: Duration::from_secs(300),
        }
        .graph(model_id)
    }

    fn grammars(&self, model_id: B256) -> Option<Arc<dyn Grammars>> {
        local::grammars(&self.store.load(&model_id.to_string()).ok()?)
    }
}

pub(crate) fn run(args: &WatcherArgs, shell: &Shell) -> anyhow::Result<()> {
    let key = account::key(&args.key, shell)?;
    let data = args
        .data
        .clone()
        .map_or_else(|| paths::data().map(|d| d.join("watcher")), Ok)?;
    let mut config = WatcherConfig::new(
        &data,
        &args.chain.rpc,
        key.clone(),
        Arc::new(Sources {
            store: Store::open_default()?,
            rpc: args.chain.rpc.clone(),
        }),
    );
    config.audit_ppm = args.audit_ppm;
    let (sender, events) = mpsc::channel();
    let running = Watcher::open(config, Some(sender))?.start()?;
    shell.result(
        format!(
            "watcher {} follows {}\n  data in {}",
            key.address(),
            args.chain.rpc,
            data.display()
        ),
        &json!({ "ready": true, "watcher": key.address(), "rpc": args.chain.rpc, "data": data }),
    );
    shell.note("Ctrl-C stops it");
    let runtime = network::runtime()?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for event in events {
                shell.note(words(&event));
            }
        });
        runtime.block_on(network::until_interrupted());
        running.stop();
    });
    Ok(())
}

/// An event as a sentence.
pub(crate) fn words(event: &WatcherEvent) -> String {
    match event {
        WatcherEvent::Agreed { claim_id } => {
            format!("claim {claim_id}: replayed, equal bit for bit")
        }
        WatcherEvent::OtherMasks {
            claim_id, position, ..
        } => format!(
            "claim {claim_id}: token {position} was chosen under a mask that the grammar does not give"
        ),
        WatcherEvent::Differs {
            claim_id,
            asserted,
            own,
            ..
        } => format!(
            "claim {claim_id}: trace root is {}, the replay gives {}",
            receipts::short(&asserted.to_string()),
            receipts::short(&own.to_string())
        ),
        WatcherEvent::OtherTrace { claim_id, own, .. } => format!(
            "claim {claim_id}: the answer is right, the trace root is not ({} here): not challenged, a proof would defend it",
            receipts::short(&own.to_string())
        ),
        WatcherEvent::Expired { claim_id } => {
            format!("claim {claim_id}: the proof that was owed did not come, the claim is rejected")
        }
        WatcherEvent::WrongProofKey {
            model_id,
            registered,
            own,
        } => format!(
            "WARNING: model {model_id} is registered with proof key {registered}, its weights give {own}: proofs under the registered key show nothing"
        ),
        WatcherEvent::Unaudited { claim_id, reason } => {
            format!("claim {claim_id}: not audited: {reason}")
        }
        WatcherEvent::Challenged { dispute, bond, .. } => format!(
            "dispute {dispute} opened with a bond of {}",
            crate::units::coin(*bond)
        ),
        WatcherEvent::Moved {
            dispute,
            call,
            words,
        } => format!("dispute {dispute}: {call}: {words}"),
        WatcherEvent::Closed {
            dispute,
            rejected: true,
            ..
        } => format!("dispute {dispute} won: the claim is rejected"),
        WatcherEvent::Closed {
            dispute,
            rejected: false,
            ..
        } => format!("dispute {dispute} closed, the claim stands"),
    }
}
