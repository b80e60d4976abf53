//! `assay ps`: what runs.

use std::{collections::HashMap, time::Duration};

use assay_wallet::ChainClient;
use serde_json::{Value, json};

use crate::{args::PsArgs, client::Client, discover, registry, shell::Shell, units::group};

pub(crate) fn run(args: &PsArgs, shell: &Shell) -> anyhow::Result<()> {
    let place = discover::gateway(args.gateway.as_deref());
    let client = Client::new(&place.gateway, &args.api_key);
    let health = client.health()?;
    let models = client.models()?;
    let served = place.rpc.as_deref().map(served).unwrap_or_default();
    let rows: Vec<Value> = models.iter().map(|m| row(m, &served)).collect();
    let number = |name: &str| health.get(name).and_then(Value::as_u64);
    let mut text = vec![format!(
        "gateway {}   block {}, {} operators, {} requests in work",
        place.gateway,
        number("block").map_or("?".into(), group),
        number("operators").map_or("?".into(), group),
        number("waiting").map_or("?".into(), group)
    )];
    text.push(table(&rows));
    shell.result(
        text.join("\n"),
        &json!({ "gateway": place.gateway, "rpc": place.rpc, "health": health, "models": rows }),
    );
    Ok(())
}

/// What the operators of a chain say about the models that they serve, by model id. Those that do not answer are left out.
fn served(rpc: &str) -> HashMap<String, Vec<Value>> {
    let mut all: HashMap<String, Vec<Value>> = HashMap::new();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    let endpoints = registry::endpoints(&ChainClient::new(rpc)).unwrap_or_default();
    for endpoint in endpoints {
        let rows = agent
            .get(format!("{}/v1/models", endpoint.trim_end_matches('/')))
            .call()
            .ok()
            .and_then(|mut r| r.body_mut().read_json::<Vec<Value>>().ok());
        for mut row in rows.unwrap_or_default() {
            row["operator"] = json!(endpoint);
            if let Some(id) = row.get("modelId").and_then(Value::as_str) {
                all.entry(id.to_owned()).or_default().push(row);
            }
        }
    }
    all
}

/// A model of the gateway with what its operators say, added up.
fn row(model: &Value, served: &HashMap<String, Vec<Value>>) -> Value {
    let at = |path: &str| model.pointer(path).cloned().unwrap_or(Value::Null);
    let id = at("/assay/model_id");
    let rows = id.as_str().and_then(|id| served.get(id));
    let rows = rows.map(Vec::as_slice).unwrap_or_default();
    let sum = |name: &str| {
        let numbers: Vec<f64> = rows.iter().filter_map(|r| r.get(name)?.as_f64()).collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>())
    };
    let whole = |name: &str| sum(name).map(|v| v as u64);
    json!({
        "name": at("/id"),
        "model_id": id,
        "kind": at("/assay/kind"),
        "context": at("/assay/max_tokens"),
        "price": at("/assay/price"),
        "operators": rows.len(),
        "memory": whole("memory"),
        "active": whole("active"),
        "queued": whole("queued"),
        "tokens_per_second": sum("tokensPerSecond"),
    })
}

/// Columns for people; `–` for what nobody said.
fn table(rows: &[Value]) -> String {
    let mut lines = vec![
        [
            "NAME",
            "KIND",
            "CONTEXT",
            "PRICE",
            "OPERATORS",
            "MEMORY",
            "IN WORK",
            "IN LINE",
            "TOKENS/S",
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        let text = |name: &str| match row.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => {
                number.as_u64().map_or_else(|| number.to_string(), group)
            }
            _ => "–".into(),
        };
        let scaled = |name: &str, words: &dyn Fn(f64) -> String| {
            row.get(name)
                .and_then(Value::as_f64)
                .map_or_else(|| "–".into(), words)
        };
        lines.push([
            text("name"),
            text("kind"),
            text("context"),
            text("price"),
            text("operators"),
            scaled("memory", &|bytes| format!("{:.0} MB", bytes / 1e6)),
            text("active"),
            text("queued"),
            scaled("tokens_per_second", &|rate| format!("{rate:.1}")),
        ]);
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|l| l.get(column));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines.first().map_or(0, |l| l.len()))
        .map(width)
        .collect();
    let line = |cells: &[String; 9]| {
        let cells = cells.iter().zip(&widths).enumerate();
        let padded: Vec<String> = cells
            .map(|(i, (cell, width))| {
                if i < 2 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_added_up() {
        let model = json!({ "id": "m", "assay": { "model_id": "0x1", "kind": "language", "price": "0.01", "max_tokens": 2048 } });
        let served = [(
            "0x1".to_owned(),
            vec![
                json!({ "memory": 1_000_000, "active": 2, "queued": 0, "tokensPerSecond": 10.5 }),
                json!({ "memory": 2_000_000, "active": 1, "queued": 3, "tokensPerSecond": 1.0 }),
            ],
        )];
        let served = served.into_iter().collect();
        let row = row(&model, &served);
        assert_eq!((&row["active"], &row["queued"]), (&json!(3), &json!(3)));
        assert_eq!(row["tokens_per_second"], json!(11.5));
        let table = table(&[row]);
        assert!(
            table.contains("3 MB") && table.contains("2,048") && table.contains("11.5"),
            "{table}"
        );
        let silent = self::row(&model, &HashMap::new());
        assert!(silent["memory"].is_null());
    }
}
