//! A whole network in this process around given models: what `up` keeps running, and what `chat` and `run` bring up for their own time.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{B256, U256};
use assay_abi::{CLAIMS, IClaims};
use assay_engine::EngineOptions;
use assay_gateway::{ImportedModel, ModelCodec};
use assay_graph::Graph;
use assay_import::Model;
use assay_node::{Node, NodeHandle};
use assay_operator::{Grammars, HonestModel, LanguageModel, ModelRunner};
use assay_watcher::ModelSource;

use crate::{
    commands::wallet,
    discover::{self, Announced},
    exit::{Exit, Stop},
    grammars::TextGrammars,
    keys,
    network::{self, ChainOptions, Services},
    proofs,
    shell::Shell,
    store::Store,
    units::{self, COIN, USD},
};

/// Price of a call of the local network's models, usd base units.
pub(crate) const PRICE: u128 = 10_000;
/// Bond of the local operator.
pub(crate) const BOND: &str = "100000";
/// What the buyer has in escrow when it had little.
const ESCROW: &str = "1000";
/// Below this it is filled up.
const LITTLE: &str = "10";

/// Honest runners of models.
///
/// # Errors
/// Those of the engine.
pub(crate) fn runners(models: &[Model]) -> anyhow::Result<Vec<Box<dyn ModelRunner>>> {
    models
        .iter()
        .map(|m| runner(m, EngineOptions::default()))
        .collect()
}

/// An honest runner of one model.
///
/// # Errors
/// Those of the engine.
pub(crate) fn runner(
    model: &Model,
    options: EngineOptions,
) -> anyhow::Result<Box<dyn ModelRunner>> {
    let graph = Arc::clone(&model.graph);
    if model.language().is_none() {
        return Ok(Box::new(HonestModel::new(graph, options)?));
    }
    let speaker = LanguageModel::new(graph, options)?;
    Ok(Box::new(match grammars(model) {
        Some(grammars) => speaker.with_grammars(grammars),
        None => speaker,
    }))
}

/// Masks of constrained answers of a language model.
pub(crate) fn grammars(model: &Model) -> Option<Arc<dyn Grammars>> {
    let language = model.language()?;
    match TextGrammars::new(language) {
        Ok(grammars) => Some(Arc::new(grammars)),
        Err(e) => {
            tracing::warn!(target: "assay::cli", model = %model.manifest.name, error = %e, "answers can't be constrained");
            None
        }
    }
}

/// Models handed to a watcher.
#[derive(Debug)]
pub(crate) struct Loaded(pub(crate) Vec<Model>);

impl Loaded {
    fn find(&self, model_id: B256) -> Option<&Model> {
        self.0.iter().find(|m| m.id() == model_id.0)
    }
}

impl ModelSource for Loaded {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        self.find(model_id)
            .map(|m| m.graph.as_ref().clone())
            .ok_or_else(|| "it was not handed in".into())
    }

    fn grammars(&self, model_id: B256) -> Option<Arc<dyn Grammars>> {
        grammars(self.find(model_id)?)
    }
}

/// Models as the gateway offers them.
pub(crate) fn offers(models: &[Model]) -> Vec<Arc<dyn ModelCodec>> {
    models
        .iter()
        .map(|m| Arc::new(ImportedModel::new(m.clone())) as Arc<dyn ModelCodec>)
        .collect()
}

/// Sets the proof key of a model that has proofs. Keys of language models take minutes and gigabytes: `assay model key` makes them when they are wanted.
fn offer_proofs(services: &Services, model: &Model, shell: &Shell) -> anyhow::Result<()> {
    if model.language().is_some() {
        return Ok(());
    }
    let name = &model.manifest.name;
    match proofs::key_of(&Store::open_default()?, model) {
        Ok(key) => {
            keys::publish(&services.chain, &services.cast.maker, &key, shell)?;
        }
        Err(error) => tracing::debug!(target: "assay::cli", %name, %error, "no proofs"),
    }
    Ok(())
}

/// Longest wait for a receipt to be on the chain before a network stops.
const SETTLING: Duration = Duration::from_secs(3);

/// Where a local network lives and listens.
#[derive(Clone, Debug)]
pub(crate) struct LocalOptions {
    /// Folder of the network, made if it is not there.
    pub(crate) data: PathBuf,
    pub(crate) gateway: SocketAddr,
    pub(crate) rpc: SocketAddr,
    pub(crate) check_invariants: bool,
}

/// A local network that runs.
pub(crate) struct Local {
    node: NodeHandle,
    pub(crate) services: Services,
    /// With `/v1`.
    pub(crate) gateway: String,
    pub(crate) rpc: String,
    _announced: Announced,
}

impl Local {
    /// Opens the chain (going on where it was), registers `models`, and starts operator, watcher and gateway.
    ///
    /// # Errors
    /// [`Exit::Failed`] when another process has the folder; those of the parts.
    pub(crate) async fn start(
        options: &LocalOptions,
        models: &[Model],
        shell: &Shell,
    ) -> anyhow::Result<Self> {
        let chain = ChainOptions {
            data: Some(options.data.join("chain")),
            rpc: options.rpc,
            check_invariants: options.check_invariants,
        };
        let node = Node::open(network::chain_config(chain)?)
            .await
            .map_err(|e| opening(options, e))?;
        let mut services = Services::new(&node.rpc_url(), options.data.clone())?;
        let cast = services.cast.clone();
        for model in models {
            let name = &model.manifest.name;
            tokio::task::block_in_place(|| {
                network::register_model(
                    &services.chain,
                    &cast.maker,
                    &model.graph,
                    name,
                    PRICE,
                    "",
                )?;
                offer_proofs(&services, model, shell)
            })?;
        }
        let bond = units::parse(BOND, COIN)?;
        services
            .add_operator(
                "operator",
                &cast.operator,
                &cast.operator_receipts,
                runners(models)?,
                bond,
            )
            .await?;
        tokio::task::block_in_place(|| -> anyhow::Result<()> {
            let held = wallet::holdings(&services.chain, cast.buyer.address())?.escrow;
            if held < units::parse(LITTLE, USD)? {
                wallet::deposit(&services.chain, &cast.buyer, units::parse(ESCROW, USD)?)?;
            }
            Ok(())
        })?;
        services.start_watcher(models.to_vec(), None)?;
        let gateway = services
            .start_gateway(options.gateway, offers(models))
            .await?;
        let rpc = node.rpc_url();
        let announced = discover::announce(&gateway, &rpc)?;
        Ok(Self {
            node,
            services,
            gateway,
            rpc,
            _announced: announced,
        })
    }

    /// Waits a little until the operator has brought a receipt to the chain: in a network that is brought up again days later it would come too late.
    pub(crate) fn settle(&self, claim_id: B256) {
        let begin = Instant::now();
        let there = || {
            let call = IClaims::claimCall { claimId: claim_id };
            let claim = self.services.chain.call(CLAIMS, &call);
            claim.is_ok_and(|c| c.state != 0)
        };
        while begin.elapsed() < SETTLING && !there() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops gateway, operator, watcher and chain, in this order.
    ///
    /// # Errors
    /// Those of the chain's last commit.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.services.stop().await;
        self.node.shutdown().await?;
        Ok(())
    }
}

/// Why a chain's folder could not be opened, and what to do if somebody else has it.
fn opening(options: &LocalOptions, error: assay_node::NodeError) -> anyhow::Error {
    let words = error.to_string();
    let taken = ["lock", "already open", "in use"]
        .iter()
        .any(|w| words.contains(w));
    let stop = Stop::new(Exit::Failed, words);
    if taken {
        stop.hint(format!("another process runs the network in `{}`: stop it, name it with `--gateway URL`, or take another folder", options.data.display())).into()
    } else {
        stop.into()
    }
}

/// usd of one call, for people.
pub(crate) fn price() -> String {
    units::usd(U256::from(PRICE))
}
