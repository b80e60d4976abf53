//! `assay model`: import, list, show, fetch, register.

mod show;

use std::{path::Path, sync::Arc};

use alloy_primitives::B256;
use assay_abi::{IModels, MODELS};
use assay_import::{
    Model,
    catalogue::{self, CATALOGUE},
    language::{Checkpoint, Folder, Shared, import_language},
    recipes::{About, BertFiles, OnnxUse, import_bert, import_onnx},
};
use assay_wallet::{ChainClient, Key};
use serde_json::{Value, json};

pub(crate) use self::show::{LANGUAGE, is_language, language_lines, price_words, size_words};
use self::show::{list, show};
use crate::{
    account,
    args::ModelCommand,
    exit::{Exit, Stop, stop},
    keys::{self, KeySet},
    network, proofs,
    shell::Shell,
    store::{BUNDLED, Bar, Store},
    units::{self, USD, usd},
    usage,
};

pub(crate) fn run(command: ModelCommand, shell: &Shell) -> anyhow::Result<()> {
    let store = Store::open_default()?;
    match command {
        ModelCommand::Import {
            file,
            name,
            calibrate,
        } => {
            check_name(&name)?;
            let model = import(&file, &name, calibrate.as_deref(), shell)?;
            let folder = store.imported_folder(&name);
            if let Some(parent) = folder.parent() {
                std::fs::create_dir_all(parent)?;
            }
            model.save(&folder)?;
            show(&model.manifest, shell)?;
            shell.note(format!(
                "stored in {}\nhint: assay model register {name}",
                folder.display()
            ));
        }
        ModelCommand::Ls => list(&store, shell)?,
        ModelCommand::Show { model } => show(&store.manifest(&model)?, shell)?,
        ModelCommand::Pull { name } => return pull(&name, shell),
        ModelCommand::Rm { model } => remove(&store, &model, shell)?,
        ModelCommand::Register {
            model,
            price,
            no_proof_key,
            chain,
            key,
        } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let model = store.load(&model)?;
            let price = units::parse(&price, USD)?;
            let amount =
                u128::try_from(price).map_err(|_| Stop::new(Exit::Failed, "price too large"))?;
            let name = &model.manifest.name;
            let new = network::register_model(&chain, &key, &model.graph, name, amount, "")?;
            let proofs = if no_proof_key {
                let hint = format!("no proof key set; `assay model key {name}` does");
                (hint, None)
            } else {
                proof_key(&store, &chain, &key, &model, shell)?
            };
            let words = if new {
                format!("registered at {} a call", usd(price))
            } else {
                "was registered before".into()
            };
            shell.result(
                format!("`{name}` 0x{}\n  {words}\n  {}", model.manifest.model_id, proofs.0),
                &json!({ "name": name, "model_id": format!("0x{}", model.manifest.model_id), "registered": new, "price": price.to_string(), "proof_key": proofs.1 }),
            );
        }
        ModelCommand::Key { model, chain, key } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let model = store.load(&model)?;
            let name = &model.manifest.name;
            let (words, id) = proof_key(&store, &chain, &key, &model, shell)?;
            if id.is_none() {
                return stop(Exit::Failed, format!("`{name}`: {words}"));
            }
            let call = IModels::proofKeyCall {
                modelId: model.id().into(),
            };
            let there = chain.call(MODELS, &call)?;
            shell.result(
                format!(
                    "`{name}`: {words}\n  {}, attested by {} of {} operators, {}",
                    usage::size(there.length.into()),
                    there.attesters,
                    there.needed,
                    if there.usable { "usable" } else { "not usable yet" }
                ),
                &json!({ "name": name, "proof_key": id, "bytes": there.length, "attesters": there.attesters, "needed": there.needed, "usable": there.usable }),
            );
        }
    }
    Ok(())
}

/// Sets the model's proof key, if it has one: words, and the key's id.
fn proof_key(
    store: &Store,
    chain: &ChainClient,
    maker: &Key,
    model: &Model,
    shell: &Shell,
) -> anyhow::Result<(String, Option<B256>)> {
    let spinner = shell.spinner("making the proof key: planning, committing to the weights");
    let key = proofs::key_of(store, model);
    spinner.finish_and_clear();
    let key = match key {
        Ok(key) => key,
        Err(error) => return Ok((format!("answers are not provable: {error}"), None)),
    };
    Ok(match keys::publish(chain, maker, &key, shell)? {
        KeySet::New(id) => (
            format!("proof key {id} set; operators attest it, then answers can be proven"),
            Some(id),
        ),
        KeySet::Known(id) => (format!("proof key {id} was set before"), Some(id)),
        KeySet::Other(id) => {
            return Err(Stop::new(Exit::False, format!("the registered proof key {id} is not the model's"))
                .hint("proofs of this model must not be relied on: tell its maker, register the model anew")
                .into());
        }
    })
}

/// Fetches a model of the catalogue.
///
/// # Errors
/// [`Exit::NotFound`] with near names; those of the download and of the import.
pub(crate) fn pull(name: &str, shell: &Shell) -> anyhow::Result<()> {
    let Some(entry) = catalogue::find(name) else {
        let near = catalogue::nearest(name);
        let known: Vec<&str> = CATALOGUE.iter().map(|e| e.id).collect();
        let error = Stop::new(
            Exit::NotFound,
            format!("no model `{name}` in the catalogue"),
        );
        let hint = match near.first() {
            Some(near) => format!(
                "did you mean `{near}`? The catalogue has {}",
                known.join(", ")
            ),
            None => format!("the catalogue has {}", known.join(", ")),
        };
        return Err(error.hint(hint).into());
    };
    let store = Store::open_default()?;
    let was_here = store.has(entry);
    let model = store.pull(entry, shell)?;
    show(&model.manifest, shell)?;
    if was_here {
        shell.note("it was here already");
    }
    if is_language(&model.manifest) {
        shell.note(format!("hint: assay chat {}", model.manifest.name));
    }
    Ok(())
}

fn remove(store: &Store, name: &str, shell: &Shell) -> anyhow::Result<()> {
    let folder = store.imported_folder(name);
    if is_name(name) && folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    } else {
        match catalogue::find(name) {
            Some(entry) if entry.id == BUNDLED => {
                return stop(Exit::Failed, format!("`{name}` is part of the binary"));
            }
            Some(entry) if store.cache().remove(entry)? => {}
            _ => {
                return Err(Stop::new(
                    Exit::NotFound,
                    format!("no model `{name}` on this machine"),
                )
                .hint("`assay model ls` lists them")
                .into());
            }
        }
    }
    shell.result(format!("removed `{name}`"), &json!({ "removed": name }));
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        && !name.starts_with('.')
}

fn check_name(name: &str) -> anyhow::Result<()> {
    if !is_name(name) || name == BUNDLED || catalogue::find(name).is_some() {
        return stop(
            Exit::Failed,
            format!(
                "`{name}` can't be used: 1 to 64 of a-z, 0-9, `-`, `_`, `.`, and not the name of a bundled or catalogue model"
            ),
        );
    }
    Ok(())
}

fn import(
    file: &Path,
    name: &str,
    calibrate: Option<&Path>,
    shell: &Shell,
) -> anyhow::Result<Model> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|e| Stop::new(Exit::NotFound, format!("`{}`: {e}", path.display())))
    };
    let about = About {
        name: name.to_owned(),
        description: format!("imported from {}", file.display()),
        licence: "as its source".into(),
    };
    if !file.exists() {
        return stop(
            Exit::NotFound,
            format!("`{}` does not exist", file.display()),
        );
    }
    if let Some(checkpoint) = checkpoint(file)? {
        if calibrate.is_some() {
            shell.note("--calibrate is for ONNX files: language models bring their own text");
        }
        return Ok(import_language(
            &checkpoint,
            &about,
            None,
            &mut Bar::new(shell),
        )?);
    }
    if file.is_dir() {
        let part = |name: &str| read(&file.join(name));
        let (config, weights, tokenizer) = (
            part("config.json")?,
            part("model.safetensors")?,
            part("tokenizer.json")?,
        );
        let files = BertFiles {
            config: &config,
            weights: &weights,
            tokenizer: &tokenizer,
        };
        return Ok(import_bert(&files, &about)?);
    }
    let bytes = read(file)?;
    let settings = match calibrate {
        None => {
            shell.note("no --calibrate: scales are chosen from random inputs in [0, 1]; a file of real samples gives better accuracy\nhint: `--calibrate FILE.json` with {\"input_data\": [[…], …]}, one flat row an input, optional \"range\": [low, high] and \"labels\": […]");
            OnnxUse::default()
        }
        Some(path) => {
            let document: Value = serde_json::from_slice(&read(path)?).map_err(|e| {
                Stop::new(
                    Exit::Failed,
                    format!("calibration `{}` is no JSON: {e}", path.display()),
                )
            })?;
            settings(&document, path)?
        }
    };
    let (low, high) = settings.range;
    if calibrate.is_some() && settings.calibration.len() < FEW_SAMPLES {
        shell.note(format!("only {} samples to calibrate on: expect saturation on other inputs; {FEW_SAMPLES} or more are better", settings.calibration.len()));
    }
    shell.note(format!(
        "declared input range {low} to {high}; values outside are clamped"
    ));
    Ok(import_onnx(&bytes, file.parent(), &settings, &about)?)
}

/// A language model: a GGUF file, or a folder whose configuration is that of a decoder.
fn checkpoint(file: &Path) -> anyhow::Result<Option<Checkpoint>> {
    if file.is_dir() {
        let config = std::fs::read(file.join("config.json")).unwrap_or_default();
        let config: Value = serde_json::from_slice(&config).unwrap_or_default();
        let is_encoder = config.get("model_type").is_none_or(|t| t == "bert");
        return match is_encoder {
            true => Ok(None),
            false => Ok(Some(Folder::read(file)?.into())),
        };
    }
    let mut magic = [0u8; 4];
    let mut open = std::fs::File::open(file)?;
    if std::io::Read::read_exact(&mut open, &mut magic).is_err() || &magic != b"GGUF" {
        return Ok(None);
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bytes: Shared = Arc::new(std::fs::read(file)?);
    Ok(Some(Checkpoint::from_gguf(&name, &bytes)?))
}

/// Below this many samples a calibration is pointed out as thin.
const FEW_SAMPLES: usize = 16;

/// Calibration file: rows of numbers, and the declared input range (default: that of the samples).
fn settings(document: &Value, path: &Path) -> anyhow::Result<OnnxUse> {
    let rows = document
        .get("input_data")
        .unwrap_or(document)
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut calibration = Vec::new();
    for row in rows {
        let mut flat = Vec::new();
        if !flatten(row, 0, &mut flat) {
            return stop(
                Exit::Failed,
                format!(
                    "calibration `{}` holds something else than numbers",
                    path.display()
                ),
            );
        }
        calibration.push(flat);
    }
    let all = || calibration.iter().flatten().map(|v| f64::from(*v));
    let (low, high) = (
        all().fold(f64::INFINITY, f64::min),
        all().fold(f64::NEG_INFINITY, f64::max),
    );
    if calibration.is_empty() || low >= high {
        return stop(
            Exit::Failed,
            format!("calibration `{}` holds no samples", path.display()),
        );
    }
    let declared = document.get("range").and_then(Value::as_array).map(|r| {
        (
            r.first().and_then(Value::as_f64),
            r.get(1).and_then(Value::as_f64),
        )
    });
    let range = match declared {
        Some((Some(a), Some(b))) if a < b => (a, b),
        Some(_) => return stop(Exit::Failed, "`range` must be two numbers, the lower first"),
        None => (low.min(0.0), high.max(0.0)),
    };
    let labels = document
        .get("labels")
        .and_then(Value::as_array)
        .map(|l| {
            l.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    Ok(OnnxUse {
        range,
        calibration,
        labels,
        ..OnnxUse::default()
    })
}

fn flatten(value: &Value, depth: usize, out: &mut Vec<f32>) -> bool {
    match value {
        Value::Number(n) => n.as_f64().map(|v| out.push(v as f32)).is_some(),
        Value::Array(items) => depth < 8 && items.iter().all(|v| flatten(v, depth + 1, out)),
        _ => false,
    }
}
