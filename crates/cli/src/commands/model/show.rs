//! Models in words.

use alloy_primitives::U256;
use assay_import::{
    Manifest,
    catalogue::CATALOGUE,
    manifest::{InputSpec, OutputSpec},
};
use serde_json::json;

use crate::{
    shell::Shell,
    store::Store,
    units::{group, usd},
};

/// Kind of a language model, as gateways name it.
pub(crate) const LANGUAGE: &str = "language";

/// Whether a model goes on with text.
pub(crate) const fn is_language(m: &Manifest) -> bool {
    m.language.is_some()
}

/// What is particular to a language model, line by line.
pub(crate) fn language_lines(m: &Manifest) -> Vec<String> {
    let Some(language) = &m.language else {
        return Vec::new();
    };
    vec![
        format!(
            "  model      {}, {} parameters, {} layers",
            language.architecture,
            group(language.parameters),
            language.layers
        ),
        format!("  weights    {}", language.quantisation),
        format!(
            "  context    {} tokens, {} a token of keys and values",
            group(language.context.into()),
            bytes(language.kv_bytes)
        ),
        format!("  licence    {}", m.licence),
    ]
}

/// `5.4 KB` of a number of bytes.
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{:.1} KB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// Models of this machine and of the catalogue.
///
/// # Errors
/// When a manifest can't be read.
pub(super) fn list(store: &Store, shell: &Shell) -> anyhow::Result<()> {
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

/// Everything that is known about a model.
///
/// # Errors
/// Never in practice: a manifest is JSON.
pub(super) fn show(m: &Manifest, shell: &Shell) -> anyhow::Result<()> {
    let input = match &m.input {
        InputSpec::Text { max_tokens, .. } => {
            format!("text, at most {} tokens", group((*max_tokens).into()))
        }
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
        OutputSpec::Tokens { vocabulary } => {
            format!("tokens, {} of them", group((*vocabulary).into()))
        }
    };
    let mut text = format!(
        "{}: {}\n  model id   0x{}\n  licence    {}\n  input      {input}\n  output     {output}\n  size       {}",
        m.name,
        m.description,
        m.model_id,
        m.licence,
        size_words(m)
    );
    if m.bounds.largest > 0 {
        text.push_str(&format!(
            "\n  bounds     largest accumulator {} of {} allowed (at `{}`)",
            m.bounds.largest, m.bounds.limit, m.bounds.node
        ));
    }
    let language: Vec<String> = language_lines(m)
        .into_iter()
        .filter(|line| !line.starts_with("  licence"))
        .collect();
    if !language.is_empty() {
        text.push('\n');
        text.push_str(&language.join("\n"));
    }
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

/// Size of a model for people.
pub(crate) fn size_words(m: &Manifest) -> String {
    let work = match &m.language {
        Some(language) => format!("{} parameters", group(language.parameters)),
        None => format!("{:.1} M multiply-adds", m.macs as f64 / 1e6),
    };
    format!(
        "{} nodes, {:.2} MB, {work}",
        m.nodes.len(),
        m.constant_bytes as f64 / 1e6
    )
}

/// usd of a price in base units.
pub(crate) fn price_words(price: u128) -> String {
    usd(U256::from(price))
}
