//! `assay ask`: an answer on stdout, a receipt kept.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{
    args::{AskArgs, TierArg},
    client::{Client, Input, words},
    commands::model::LANGUAGE,
    discover,
    exit::{Exit, Stop, stop},
    receipts,
    shell::Shell,
};

pub(crate) fn run(args: &AskArgs, shell: &Shell) -> anyhow::Result<()> {
    let client = Client::new(
        &discover::gateway(args.gateway.as_deref()).gateway,
        &args.api_key,
    );
    let kind = client.model(&args.model)?;
    let kind = kind.pointer("/assay/kind").and_then(Value::as_str);
    let input = match (
        input(&args.input, matches!(kind, Some("embedding" | LANGUAGE)))?,
        kind,
    ) {
        (Input::Text(text), Some(LANGUAGE)) => Input::Message(text),
        (input, _) => input,
    };
    let settings = settings(args, matches!(input, Input::Message(_)))?;
    let reply = client.ask(&args.model, &input, &settings)?;
    let bundle = client.bundle(&reply.receipt)?;
    let path = receipts::keep(&bundle, args.receipt.as_deref())?;
    shell.result(
        words(&reply.body),
        &json!({ "answer": reply.body, "receipt": reply.receipt, "receipt_file": path }),
    );
    shell.note(format!(
        "receipt {} in {}\nhint: assay verify {}",
        reply.receipt,
        path.display(),
        path.display()
    ));
    Ok(())
}

/// Further fields of the request.
fn settings(args: &AskArgs, speaks: bool) -> anyhow::Result<Map<String, Value>> {
    let mut settings = Map::new();
    if args.tier != TierArg::Optimistic {
        settings.insert("tier".into(), args.tier.name().into());
    }
    let sampled = args.max_tokens.is_some() || args.temperature.is_some();
    if !speaks && sampled {
        return Err(Stop::new(
            Exit::Failed,
            format!(
                "`{}` is no language model: --max-tokens and --temperature are for those",
                args.model
            ),
        )
        .into());
    }
    if speaks {
        if let Some(temperature) = args.temperature {
            settings.insert("temperature".into(), temperature.into());
        }
        if let Some(tokens) = args.max_tokens {
            settings.insert("max_tokens".into(), tokens.into());
        }
    }
    Ok(settings)
}

/// Reads what was typed: a file by its name, `-`, JSON numbers, or text.
pub(crate) fn input(typed: &str, takes_text: bool) -> anyhow::Result<Input> {
    let bytes = if typed == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
        Some(bytes)
    } else if !takes_text
        && Path::new(typed)
            .extension()
            .is_some_and(|e| ["png", "json", "PNG"].iter().any(|k| e == *k))
    {
        Some(
            std::fs::read(typed)
                .map_err(|e| Stop::new(Exit::NotFound, format!("input `{typed}`: {e}")))?,
        )
    } else {
        None
    };
    if bytes.as_ref().is_some_and(|b| b.starts_with(b"\x89PNG")) {
        return Ok(Input::Png(bytes.unwrap_or_default()));
    }
    let text = match bytes {
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return stop(Exit::Failed, "input is neither a PNG nor UTF-8 text"),
        },
        None => typed.to_owned(),
    };
    if takes_text {
        return Ok(Input::Text(text));
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(mut map)) if map.contains_key("input_data") => {
            Ok(Input::Tensor(map.remove("input_data").unwrap_or_default()))
        }
        Ok(tensor @ Value::Array(_)) => Ok(Input::Tensor(tensor)),
        _ => Err(Stop::new(
            Exit::Failed,
            format!("`{typed}` is no JSON array of numbers and no picture"),
        )
        .hint("this model takes a PNG file or a JSON tensor, for example `[[0.1, 0.2]]`")
        .into()),
    }
}
