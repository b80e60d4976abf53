//! `assay operator`: serves models for money.

use assay_abi::{IModels, IStaking, MODELS, STAKING};
use assay_engine::EngineOptions;
use assay_operator::{DefendBy, ModelRunner, Operator, OperatorConfig, ProofConfig};
use assay_wallet::{ChainClient, Key};
use serde_json::json;

use crate::{
    account,
    args::{DefendArg, OperatorArgs, ProofArgs},
    exit::{Exit, Stop, stop},
    local, network, paths,
    shell::Shell,
    store::Store,
    units::{self, COIN, coin},
};

pub(crate) fn run(args: &OperatorArgs, shell: &Shell) -> anyhow::Result<()> {
    let key = account::key(&args.key, shell)?;
    let chain = ChainClient::new(&args.chain.rpc);
    let data = args
        .data
        .clone()
        .map_or_else(|| paths::data().map(|d| d.join("operator")), Ok)?;
    let receipts = receipt_key(&data)?;
    let runners = runners(args, &chain, shell)?;
    if runners.is_empty() {
        let error = Stop::new(
            Exit::NotFound,
            "none of the models on this machine is registered on this chain",
        );
        return Err(error
            .hint("`assay model register NAME` first, or name one with --serve")
            .into());
    }
    let mut config = OperatorConfig::new(&data, &args.chain.rpc, key.clone(), receipts.clone());
    config.listen = args.listen;
    config.proofs = proofs(&args.proofs);
    let served = runners.len();
    let runtime = network::runtime()?;
    runtime.block_on(async {
        let running = Operator::open(config, runners)?.start().await?;
        let endpoint = args.endpoint.clone().unwrap_or_else(|| running.url());
        tokio::task::block_in_place(|| enrol(args, &chain, &key, &receipts, &endpoint, shell))?;
        shell.result(
            format!("operator {} serves {served} models at {endpoint}\n  data in {}", key.address(), data.display()),
            &json!({ "ready": true, "operator": key.address(), "endpoint": endpoint, "models": served, "data": data }),
        );
        shell.note("Ctrl-C stops it");
        network::until_interrupted().await;
        running.stop().await;
        Ok(())
    })
}

fn proofs(args: &ProofArgs) -> ProofConfig {
    ProofConfig {
        offered: !args.no_proofs,
        queue: args.proof_queue,
        threads: args.proof_threads,
        key_memory: args.proof_memory.saturating_mul(1 << 20),
        defend_by: match args.defend_by {
            DefendArg::Cheapest => DefendBy::Cheapest,
            DefendArg::Proof => DefendBy::Proof,
            DefendArg::Descent => DefendBy::Descent,
        },
        ..ProofConfig::default()
    }
}

/// The key that signs receipts: made at the first start, kept in the data folder, readable by its owner alone.
fn receipt_key(data: &std::path::Path) -> anyhow::Result<Key> {
    std::fs::create_dir_all(data)?;
    let path = data.join("receipt.key");
    if let Ok(text) = std::fs::read_to_string(&path) {
        let mut bytes = [0u8; 32];
        if hex::decode_to_slice(text.trim(), &mut bytes).is_err() {
            return stop(Exit::Failed, format!("`{}` holds no key", path.display()));
        }
        return Ok(Key::from_bytes(bytes)?);
    }
    let mut bytes = [0u8; 32];
    let key = loop {
        getrandom::fill(&mut bytes)
            .map_err(|e| Stop::new(Exit::Failed, format!("no randomness: {e}")))?;
        if let Ok(key) = Key::from_bytes(bytes) {
            break key;
        }
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(&path)?, hex::encode(bytes).as_bytes())?;
    Ok(key)
}

/// Runners of the models that are both on this machine and on the chain.
fn runners(
    args: &OperatorArgs,
    chain: &ChainClient,
    shell: &Shell,
) -> anyhow::Result<Vec<Box<dyn ModelRunner>>> {
    let store = Store::open_default()?;
    let names = if args.models.is_empty() {
        store.list()?.into_iter().map(|(_, m)| m.name).collect()
    } else {
        args.models.clone()
    };
    let mut runners: Vec<Box<dyn ModelRunner>> = Vec::new();
    for name in names {
        let model = store.load(&name)?;
        if !chain.call(
            MODELS,
            &IModels::existsCall {
                modelId: model.id().into(),
            },
        )? {
            shell.note(format!(
                "`{name}` is not registered on this chain: not served"
            ));
            continue;
        }
        let options = EngineOptions {
            threads: args.threads,
            ..EngineOptions::default()
        };
        runners.push(local::runner(&model, options)?);
    }
    Ok(runners)
}

fn enrol(
    args: &OperatorArgs,
    chain: &ChainClient,
    key: &Key,
    receipts: &Key,
    endpoint: &str,
    shell: &Shell,
) -> anyhow::Result<()> {
    let known = network::operator(chain, key.address())?;
    let bond = match (&args.bond, &known) {
        (Some(amount), _) => units::parse(amount, COIN)?,
        (None, Some(known)) => known.bonded,
        (None, None) => {
            let error = Stop::new(
                Exit::Failed,
                format!(
                    "{} is no operator yet and --bond was not given",
                    key.address()
                ),
            );
            return Err(error.hint("`--bond 1000` bonds 1,000 ASSAY, which is slashed when a receipt is shown false").into());
        }
    };
    if network::enrol(chain, key, receipts, endpoint, bond)? {
        shell.note(format!("bonded {}", coin(bond)));
    } else if known.is_some_and(|k| k.receiptKey != receipts.address()) {
        chain.send(
            key,
            STAKING,
            &IStaking::rotateKeyCall {
                receiptKey: receipts.address(),
            },
        )?;
        shell.note(
            "the receipt key of this folder replaces the registered one after the rotation delay",
        );
    }
    Ok(())
}
