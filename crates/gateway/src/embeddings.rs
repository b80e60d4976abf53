//! `POST /v1/embeddings`, as OpenAI's clients call it.

use std::sync::Arc;

use assay_receipt::Tier;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::http::{Posted, assay_of, blocking, json_of, with_receipts};
use crate::proofs::tier_of;
use crate::server::Shared;
use crate::{Account, Decoded, Encoded, HttpError, ModelCodec, ModelKind};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Float,
    Base64,
}

struct Question {
    model: Arc<dyn ModelCodec>,
    inputs: Vec<Encoded>,
    format: Format,
}

pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Posted(body): Posted,
) -> Result<Response, HttpError> {
    let account = shared.account(&headers)?;
    let body = body?;
    let place = shared.enter()?;
    blocking(move || {
        let _place = place;
        let object = json_of(&body)?;
        let question = parse(&shared, &object)?;
        let tier = tier_of(&headers, Some(&object))?;
        answer(&shared, &account, &question, tier)
    })
    .await
}

fn parse(shared: &Shared, body: &Map<String, Value>) -> Result<Question, HttpError> {
    let name = match body.get("model") {
        Some(Value::String(name)) => name,
        _ => return Err(HttpError::invalid("model", "`model` must be a string")),
    };
    let model = shared.model(name)?;
    if model.kind() != ModelKind::Embedding {
        return Err(HttpError::invalid(
            "model",
            format!("`{}` gives no embeddings; use /v1/infer", model.name()),
        ));
    }
    let format = match body.get("encoding_format") {
        None | Some(Value::Null) => Format::Float,
        Some(Value::String(text)) if text == "float" => Format::Float,
        Some(Value::String(text)) if text == "base64" => Format::Base64,
        Some(_) => {
            return Err(HttpError::invalid(
                "encoding_format",
                "`encoding_format` must be `float` or `base64`",
            ));
        }
    };
    check_dimensions(model.as_ref(), body.get("dimensions"))?;
    let input = body
        .get("input")
        .ok_or_else(|| HttpError::invalid("input", "`input` is missing"))?;
    let inputs = encode_all(shared, model.as_ref(), input)?;
    Ok(Question {
        model,
        inputs,
        format,
    })
}

fn check_dimensions(model: &dyn ModelCodec, asked: Option<&Value>) -> Result<(), HttpError> {
    let asked = match asked {
        None | Some(Value::Null) => return Ok(()),
        Some(asked) => asked.as_u64(),
    };
    let have = model.dimensions().map(|dimensions| dimensions as u64);
    if asked.is_some() && asked == have {
        return Ok(());
    }
    let have = have.map_or_else(|| "none to choose".to_owned(), |have| have.to_string());
    Err(HttpError::invalid(
        "dimensions",
        format!(
            "`{}` has {have} dimensions and no shorter form",
            model.name()
        ),
    ))
}

/// A string, a list of strings, a list of token ids, or a list of such lists.
fn encode_all(
    shared: &Shared,
    model: &dyn ModelCodec,
    input: &Value,
) -> Result<Vec<Encoded>, HttpError> {
    let items = match input {
        Value::String(text) => return Ok(vec![encode_text(model, text)?]),
        Value::Array(items) => items,
        _ => return Err(wrong_input()),
    };
    if items.is_empty() {
        return Err(HttpError::invalid("input", "`input` is an empty list"));
    }
    if items.iter().all(Value::is_number) {
        return Ok(vec![encode_tokens(model, items)?]);
    }
    let limit = shared.config.max_inputs;
    if items.len() > limit {
        return Err(HttpError::invalid(
            "input",
            format!("{} inputs, at most {limit} in one call", items.len()),
        ));
    }
    let encode = |item: &Value| match item {
        Value::String(text) => encode_text(model, text),
        Value::Array(ids) => encode_tokens(model, ids),
        _ => Err(wrong_input()),
    };
    items.iter().map(encode).collect()
}

fn wrong_input() -> HttpError {
    HttpError::invalid(
        "input",
        "`input` must be a string, a list of strings, a list of token ids, or a list of such lists",
    )
}

fn encode_text(model: &dyn ModelCodec, text: &str) -> Result<Encoded, HttpError> {
    if text.is_empty() {
        return Err(HttpError::invalid("input", "`input` is an empty string"));
    }
    model
        .encode_text(text)
        .map_err(|error| HttpError::codec("input", &error))
}

fn encode_tokens(model: &dyn ModelCodec, ids: &[Value]) -> Result<Encoded, HttpError> {
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(wrong_input)
    };
    let ids = ids.iter().map(id).collect::<Result<Vec<u32>, _>>()?;
    if ids.is_empty() {
        return Err(HttpError::invalid(
            "input",
            "`input` has an empty list of token ids",
        ));
    }
    model
        .encode_tokens(&ids)
        .map_err(|error| HttpError::codec("input", &error))
}

fn answer(
    shared: &Shared,
    account: &Account,
    question: &Question,
    tier: Tier,
) -> Result<Response, HttpError> {
    let model = question.model.as_ref();
    let mut data = Vec::new();
    let mut bought = Vec::new();
    for (index, input) in question.inputs.iter().enumerate() {
        let one = shared.buy(account, model, input, tier)?;
        let vector = vector_of(model, &one.output)?;
        let embedding = match question.format {
            Format::Float => json!(vector),
            Format::Base64 => {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                json!(STANDARD.encode(bytes))
            }
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
        bought.push(one);
    }
    let tokens: u64 = question
        .inputs
        .iter()
        .map(|input| u64::from(input.tokens))
        .sum();
    let body = json!({
        "object": "list",
        "data": data,
        "model": model.name(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "assay": assay_of(model, &bought),
    });
    Ok(with_receipts(body, model, &bought))
}

fn vector_of(model: &dyn ModelCodec, output: &[u8]) -> Result<Vec<f32>, HttpError> {
    match model.decode(output) {
        Ok(Decoded::Embedding(vector)) => Ok(vector),
        Ok(_) => Err(HttpError::Internal(format!(
            "`{}` decodes to no vector",
            model.name()
        ))),
        Err(error) => Err(HttpError::BadReceipt(error.to_string())),
    }
}
