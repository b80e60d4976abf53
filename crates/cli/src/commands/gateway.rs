//! `assay gateway`: the HTTP API for buyers.

use std::sync::Arc;

use assay_abi::{IModels, MODELS};
use assay_gateway::{Account, Gateway, GatewayConfig, ImportedModel, ModelCodec};
use assay_wallet::ChainClient;
use serde_json::json;

use crate::{
    account,
    args::GatewayArgs,
    exit::{Exit, Stop},
    network, paths,
    shell::Shell,
    store::Store,
};

pub(crate) fn run(args: &GatewayArgs, shell: &Shell) -> anyhow::Result<()> {
    let key = account::key(&args.key, shell)?;
    let chain = ChainClient::new(&args.chain.rpc);
    let store = Store::open_default()?;
    let mut models: Vec<Arc<dyn ModelCodec>> = Vec::new();
    for (_, manifest) in store.list()? {
        let model = store.load(&manifest.name)?;
        if chain.call(
            MODELS,
            &IModels::existsCall {
                modelId: model.id().into(),
            },
        )? {
            models.push(Arc::new(ImportedModel::new(model)));
        }
    }
    if models.is_empty() {
        let error = Stop::new(
            Exit::NotFound,
            "none of the models on this machine is registered on this chain",
        );
        return Err(error.hint("`assay model register NAME` first").into());
    }
    let names: Vec<String> = models.iter().map(|m| m.name().to_owned()).collect();
    let data = args
        .data
        .clone()
        .map_or_else(|| paths::data().map(|d| d.join("gateway")), Ok)?;
    let mut config = GatewayConfig::new(&data, &args.chain.rpc);
    config.listen = args.listen;
    config.models = models;
    config.anonymous = Some(Account {
        name: "house".into(),
        api_key: String::new(),
        key: key.clone(),
    });
    let runtime = network::runtime()?;
    runtime.block_on(async {
        let running = tokio::task::block_in_place(|| Gateway::open(config))?.start().await?;
        shell.result(
            format!("gateway {} offers {}\n  calls are paid by {}\n  data in {}", running.base_url(), names.join(", "), key.address(), data.display()),
            &json!({ "ready": true, "gateway": running.base_url(), "models": names, "account": key.address(), "data": data }),
        );
        shell.note("Ctrl-C stops it");
        network::until_interrupted().await;
        running.stop().await;
        Ok(())
    })
}
