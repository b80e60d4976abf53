//! `assay model`: import, list, show, fetch, register.

use std::path::Path;

use alloy_primitives::U256;
use assay_import::{
    Manifest, Model,
    catalogue::{self, CATALOGUE},
    manifest::{InputSpec, OutputSpec},
    recipes::{About, BertFiles, OnnxUse, import_bert, import_onnx},
};
use assay_wallet::ChainClient;
use serde_json::{Value, json};

use crate::{
    account,
    args::ModelCommand,
    exit::{Exit, Stop, stop},
    network,
    shell::Shell,
    store::{BUNDLED, Store},
    units::{self, USD, usd},
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
        ModelCommand::Show { model } => show(&store.load(&model)?.manifest, shell)?,
        ModelCommand::Pull { name } => {
            let Some(entry) = catalogue::find(&name) else {
                let known: Vec<&str> = CATALOGUE.iter().map(|e| e.id).collect();
                let error = Stop::new(
                    Exit::NotFound,
                    format!("no model `{name}` in the catalogue"),
                );
                return Err(error
                    .hint(format!("the catalogue has {}", known.join(", ")))
                    .into());
            };
            show(&store.pull(entry, shell)?.manifest, shell)?;
        }
        ModelCommand::Rm { model } => {
            let folder = store.imported_folder(&model);
            check_name(&model)?;
            if !folder.exists() {
                let error = Stop::new(
                    Exit::NotFound,
                    format!("`{model}` is not an imported model"),
                );
                let hint = format!(
                    "only imported models are removed; downloads lie in {}",
                    store.cache().root().display()
                );
                return Err(error.hint(hint).into());
            }
            std::fs::remove_dir_all(&folder)?;
            shell.result(format!("removed `{model}`"), &json!({ "removed": model }));
        }
        ModelCommand::Register {
            model,
            price,
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
            let words = if new {
                format!("registered at {} a call", usd(price))
            } else {
                "was registered before".into()
            };
            shell.result(
                format!("`{name}` 0x{}\n  {words}", model.manifest.model_id),
                &json!({ "name": name, "model_id": format!("0x{}", model.manifest.model_id), "registered": new, "price": price.to_string() }),
            );
        }
    }
    Ok(())
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let valid = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        && !name.starts_with('.');
    if !valid || name == BUNDLED || catalogue::find(name).is_some() {
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

fn list(store: &Store, shell: &Shell) -> anyhow::Result<()> {
    let models = store.list()?;
    let mut text = vec![format!(
        "{:<16} {:<10} {:<14} {:>9}  {}",
        "NAME", "ORIGIN", "MODEL ID", "MB", "ABOUT"
    )];
    let mut rows = Vec::new();
    for (origin, m) in &models {
        let short: String = m.model_id.chars().take(12).collect();
        text.push(format!(
            "{:<16} {:<10} {short:<14} {:>9.2}  {}",
            m.name,
            origin.word(),
            m.constant_bytes as f64 / 1e6,
            m.description
        ));
        rows.push(json!({ "name": m.name, "origin": origin.word(), "model_id": format!("0x{}", m.model_id), "bytes": m.constant_bytes, "about": m.description }));
    }
    for entry in CATALOGUE
        .iter()
        .filter(|e| !models.iter().any(|(_, m)| m.name == e.id))
    {
        text.push(format!(
            "{:<16} {:<10} {:<14} {:>9.2}  {} (not fetched)",
            entry.id,
            "catalogue",
            "",
            entry.download_bytes() as f64 / 1e6,
            entry.description
        ));
        rows.push(json!({ "name": entry.id, "origin": "catalogue", "model_id": null, "bytes": entry.download_bytes(), "about": entry.description }));
    }
    shell.result(text.join("\n"), &json!({ "models": rows }));
    Ok(())
}

fn show(m: &Manifest, shell: &Shell) -> anyhow::Result<()> {
    let input = match &m.input {
        InputSpec::Text { max_tokens, .. } => format!("text, at most {max_tokens} tokens"),
        InputSpec::Image {
            height,
            width,
            channels,
            ..
        } => format!("image, {width} x {height}, {channels} channels"),
        InputSpec::Tensor { dims, .. } => format!("tensor {dims:?}"),
    };
    let output = match &m.output {
        OutputSpec::Embedding { width, .. } => format!("vector of {width} numbers"),
        OutputSpec::Scores { labels, .. } => format!("scores of {} classes", labels.len()),
        OutputSpec::Tensor { dims, .. } => format!("tensor {dims:?}"),
    };
    let mut text = format!(
        "{}: {}\n  model id   0x{}\n  licence    {}\n  input      {input}\n  output     {output}\n  size       {} nodes, {:.2} MB of constants, {} multiply-adds at most\n  bounds     largest accumulator {} of {} allowed (at `{}`)",
        m.name,
        m.description,
        m.model_id,
        m.licence,
        m.nodes.len(),
        m.constant_bytes as f64 / 1e6,
        m.macs,
        m.bounds.largest,
        m.bounds.limit,
        m.bounds.node
    );
    for report in &m.accuracy {
        text.push_str(&format!(
            "\n  accuracy   on {} samples of {}",
            report.samples, report.data
        ));
        for metric in &report.metrics {
            text.push_str(&format!(
                "\n             {} = {:.6}",
                metric.name, metric.value
            ));
        }
    }
    shell.result(text, &serde_json::to_value(m)?);
    Ok(())
}

/// Parameters of a model as a number for people: bytes of its constants.
pub(crate) fn size_words(m: &Manifest) -> String {
    format!(
        "{} nodes, {:.2} MB, {:.1} M multiply-adds",
        m.nodes.len(),
        m.constant_bytes as f64 / 1e6,
        m.macs as f64 / 1e6
    )
}

/// usd of a price in base units.
pub(crate) fn price_words(price: u128) -> String {
    usd(U256::from(price))
}
