//! `assay up`: a whole network in this process that goes on where it was.

use std::path::Path;

use assay_import::Model;
use serde_json::json;

use crate::{
    args::UpArgs,
    commands::model,
    local::{self, Local, LocalOptions},
    network::{self, API_KEY},
    paths,
    shell::Shell,
    store::{BUNDLED, Store},
};

/// What a local network serves unless models are named.
const USUAL: [&str; 3] = [BUNDLED, "minilm-l6", "smollm2"];

/// The models that a local network serves: the named ones, else the usual ones as far as they can be had.
///
/// # Errors
/// When a named model, or the bundled one, can't be had.
pub(crate) fn models(named: &[String], offline: bool, shell: &Shell) -> anyhow::Result<Vec<Model>> {
    let store = Store::open_default()?;
    if !named.is_empty() {
        let mut models: Vec<Model> = Vec::new();
        for name in named {
            let model = store.obtain(name, offline, shell)?;
            if !models.iter().any(|m| m.id() == model.id()) {
                models.push(model);
            }
        }
        return Ok(models);
    }
    let mut models = vec![store.load(BUNDLED)?];
    for name in USUAL.iter().filter(|name| **name != BUNDLED) {
        match store.obtain(name, offline, shell) {
            Ok(model) => models.push(model),
            Err(e) => shell.note(format!("going on without `{name}`: {e:#}")),
        }
    }
    Ok(models)
}

pub(crate) fn run(args: &UpArgs, shell: &Shell) -> anyhow::Result<()> {
    let data = args
        .data
        .clone()
        .map_or_else(|| paths::data().map(|d| d.join("network")), Ok)?;
    let models = models(&args.models, args.offline, shell)?;
    let runtime = network::runtime()?;
    runtime.block_on(serve(args, &data, &models, shell))
}

async fn serve(args: &UpArgs, data: &Path, models: &[Model], shell: &Shell) -> anyhow::Result<()> {
    let options = LocalOptions {
        data: data.to_owned(),
        gateway: args.gateway,
        rpc: args.rpc,
        check_invariants: args.check_invariants,
    };
    let local = Local::start(&options, models, shell).await?;
    announce(shell, &local, data, models)?;
    network::until_interrupted().await;
    shell.note("\nstopping …");
    local.stop().await?;
    shell.note(format!(
        "stopped; `assay up --data {}` goes on from here",
        data.display()
    ));
    Ok(())
}

fn announce(shell: &Shell, local: &Local, data: &Path, models: &[Model]) -> anyhow::Result<()> {
    let Local {
        services,
        gateway,
        rpc,
        ..
    } = local;
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
            local::price()
        ));
    }
    text.push_str("\ndevelopment accounts (UNSAFE: everybody has these keys; mnemonic `test test test test test test test test test test test junk`)\n");
    for (i, (role, address)) in services.cast.roles().iter().enumerate() {
        text.push_str(&format!("  --dev {i}   {address}  {role}\n"));
    }
    let example = match models.iter().find(|m| model::is_language(&m.manifest)) {
        Some(m) => format!(
            "assay chat {name}\n  curl -s {gateway}/chat/completions -H 'authorization: Bearer {API_KEY}' -H 'content-type: application/json' -d '{{\"model\": \"{name}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'",
            name = m.manifest.name
        ),
        None if models.iter().any(|m| m.manifest.name == BUNDLED) => format!(
            "curl -s '{gateway}/infer?model={BUNDLED}' -H 'authorization: Bearer {API_KEY}' -H 'content-type: image/png' --data-binary @models/digits/samples/7.png -i"
        ),
        None => format!("curl -s {gateway}/models"),
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
