//! `assay up`: a whole network in this process that goes on where it was.

use std::{path::Path, sync::Arc};

use alloy_primitives::U256;
use assay_engine::EngineOptions;
use assay_gateway::{ImportedModel, ModelCodec};
use assay_import::{
    Model,
    catalogue::{CATALOGUE, Recipe},
};
use assay_node::Node;
use assay_operator::{HonestModel, ModelRunner};
use serde_json::json;

use crate::{
    args::UpArgs,
    commands::wallet,
    network::{self, API_KEY, ChainOptions, Services},
    paths,
    shell::Shell,
    store::{BUNDLED, Store},
    units::{self, COIN, USD, usd},
};

/// Price of a call of the local network's models, usd base units.
pub(crate) const PRICE: u128 = 10_000;
/// Bond of the local operator.
pub(crate) const BOND: &str = "100000";
/// What the buyer has in escrow at the first start.
const ESCROW: &str = "1000";

/// The models that a local network serves: the bundled one, and the embedder where it can be had.
///
/// # Errors
/// When the bundled model can't be imported.
pub(crate) fn models(offline: bool, shell: &Shell) -> anyhow::Result<Vec<Model>> {
    let store = Store::open_default()?;
    let mut models = vec![store.load(BUNDLED)?];
    for entry in CATALOGUE.iter().filter(|e| e.recipe != Recipe::Bundled) {
        if offline && store.load(entry.id).is_err() {
            shell.note(format!(
                "`{}` is not on this machine and --offline was given: going on without it",
                entry.id
            ));
            continue;
        }
        match store.pull(entry, shell) {
            Ok(model) => models.push(model),
            Err(e) => shell.note(format!(
                "`{}` can't be fetched, going on without it: {e:#}",
                entry.id
            )),
        }
    }
    Ok(models)
}

/// Honest runners of models.
///
/// # Errors
/// Those of the engine.
pub(crate) fn runners(models: &[Model]) -> anyhow::Result<Vec<Box<dyn ModelRunner>>> {
    let runner = |m: &Model| -> anyhow::Result<Box<dyn ModelRunner>> {
        Ok(Box::new(HonestModel::new(
            Arc::clone(&m.graph),
            EngineOptions::default(),
        )?))
    };
    models.iter().map(runner).collect()
}

/// Models as the gateway offers them.
pub(crate) fn offers(models: &[Model]) -> Vec<Arc<dyn ModelCodec>> {
    models
        .iter()
        .map(|m| Arc::new(ImportedModel::new(m.clone())) as Arc<dyn ModelCodec>)
        .collect()
}

pub(crate) fn run(args: &UpArgs, shell: &Shell) -> anyhow::Result<()> {
    let data = args
        .data
        .clone()
        .map_or_else(|| paths::data().map(|d| d.join("network")), Ok)?;
    let models = models(args.offline, shell)?;
    let runtime = network::runtime()?;
    runtime.block_on(serve(args, &data, &models, shell))
}

async fn serve(args: &UpArgs, data: &Path, models: &[Model], shell: &Shell) -> anyhow::Result<()> {
    let options = ChainOptions {
        data: Some(data.join("chain")),
        rpc: args.rpc,
        check_invariants: args.check_invariants,
    };
    let node = Node::open(network::chain_config(options)?).await?;
    let mut services = Services::new(&node.rpc_url(), data.to_owned())?;
    let cast = services.cast.clone();
    for model in models {
        let name = &model.manifest.name;
        tokio::task::block_in_place(|| {
            network::register_model(&services.chain, &cast.maker, &model.graph, name, PRICE, "")
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
        if wallet::holdings(&services.chain, cast.buyer.address())?.escrow == U256::ZERO {
            wallet::deposit(&services.chain, &cast.buyer, units::parse(ESCROW, USD)?)?;
        }
        Ok(())
    })?;
    services.start_watcher(models.iter().map(|m| Arc::clone(&m.graph)).collect(), None)?;
    let gateway = services.start_gateway(args.gateway, offers(models)).await?;
    announce(shell, &node.rpc_url(), &gateway, data, models, &services)?;
    network::until_interrupted().await;
    shell.note("\nstopping …");
    services.stop().await;
    node.shutdown().await?;
    shell.note(format!(
        "stopped; `assay up --data {}` goes on from here",
        data.display()
    ));
    Ok(())
}

fn announce(
    shell: &Shell,
    rpc: &str,
    gateway: &str,
    data: &Path,
    models: &[Model],
    services: &Services,
) -> anyhow::Result<()> {
    let chain_id = tokio::task::block_in_place(|| services.chain.chain_id())?;
    let mut text = format!(
        "Assay is up.\n\n  gateway   {gateway}\n  chain     {rpc}  (id {chain_id})\n  data      {}\n\nmodels\n",
        data.display()
    );
    for m in models {
        text.push_str(&format!(
            "  {:<12} 0x{}  {} a call\n",
            m.manifest.name,
            m.manifest.model_id,
            usd(U256::from(PRICE))
        ));
    }
    text.push_str("\ndevelopment accounts (UNSAFE: everybody has these keys; mnemonic `test test test test test test test test test test test junk`)\n");
    for (i, (role, address)) in services.cast.roles().iter().enumerate() {
        text.push_str(&format!("  --dev {i}   {address}  {role}\n"));
    }
    let example = if models.len() > 1 {
        format!(
            "curl -s {gateway}/embeddings -H 'authorization: Bearer {API_KEY}' -H 'content-type: application/json' -d '{{\"model\": \"minilm-l6\", \"input\": \"integers all the way down\"}}' -i"
        )
    } else {
        format!(
            "curl -s '{gateway}/infer?model=digits' -H 'authorization: Bearer {API_KEY}' -H 'content-type: image/png' --data-binary @models/digits/samples/7.png -i"
        )
    };
    text.push_str(&format!(
        "\ntry\n  {example}\n\nCtrl-C stops it; started again, it goes on where it was."
    ));
    let names: Vec<_> = models.iter().map(|m| json!({ "name": m.manifest.name, "model_id": format!("0x{}", m.manifest.model_id) })).collect();
    let accounts: Vec<_> = services
        .cast
        .roles()
        .iter()
        .map(|(role, address)| json!({ "role": role, "address": address }))
        .collect();
    shell.result(
        text,
        &json!({ "ready": true, "gateway": gateway, "rpc": rpc, "chain_id": chain_id, "data": data, "api_key": API_KEY, "models": names, "accounts": accounts }),
    );
    Ok(())
}
