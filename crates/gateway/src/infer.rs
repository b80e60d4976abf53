//! `POST /v1/infer`: tensors and images.
//!
//! Three bodies: JSON `{"model", "input": nested numbers}` or `{"model", "image": base64 of a PNG}`; a PNG as it is
//! with `?model=NAME`; `multipart/form-data` with fields `model` and `image`.

use std::sync::Arc;

use assay_receipt::Tier;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Posted, assay_of, blocking, json_of, with_receipts};
use crate::proofs::tier_of;
use crate::server::Shared;
use crate::{Account, Decoded, Encoded, HttpError, ModelCodec, multipart};

/// Deepest nesting of a tensor.
const MAX_DEPTH: usize = 8;
/// Most classes in an answer.
const MAX_CLASSES: usize = 5;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    model: Option<String>,
}

pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    Posted(body): Posted,
) -> Result<Response, HttpError> {
    let account = shared.account(&headers)?;
    let body = body?;
    let place = shared.enter()?;
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("")
        .to_owned();
    blocking(move || {
        let _place = place;
        let (model, input) = parse(&shared, parameters.model.as_deref(), &kind, &body)?;
        let object = json_of(&body).ok();
        let tier = tier_of(&headers, object.as_ref())?;
        answer(&shared, &account, model.as_ref(), &input, tier)
    })
    .await
}

type Parsed = (Arc<dyn ModelCodec>, Encoded);

fn parse(
    shared: &Shared,
    named: Option<&str>,
    kind: &str,
    body: &[u8],
) -> Result<Parsed, HttpError> {
    let missing = || HttpError::invalid("model", "`model` is missing");
    if kind.starts_with("image/png") {
        let model = shared.model(named.ok_or_else(missing)?)?;
        let input = encode_image(model.as_ref(), body)?;
        return Ok((model, input));
    }
    if kind.starts_with("multipart/form-data") {
        let fields =
            multipart::parse(kind, body).map_err(|reason| HttpError::invalid("body", reason))?;
        let field = |name: &str| {
            fields
                .iter()
                .find(|field| field.name == name)
                .map(|field| field.bytes)
        };
        let name = field("model")
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .or(named);
        let model = shared.model(name.ok_or_else(missing)?.trim())?;
        let image = field("image")
            .ok_or_else(|| HttpError::invalid("image", "field `image` is missing"))?;
        let input = encode_image(model.as_ref(), image)?;
        return Ok((model, input));
    }
    let object = json_of(body)?;
    let name = object.get("model").and_then(Value::as_str).or(named);
    let model = shared.model(name.ok_or_else(missing)?)?;
    let input = match (object.get("image"), object.get("input")) {
        (Some(Value::String(text)), None) => {
            // Data URLs are what browsers and OpenAI's image inputs use.
            let text = text
                .split_once("base64,")
                .map_or(text.as_str(), |(_, data)| data);
            let png = STANDARD.decode(text).map_err(|error| {
                HttpError::invalid("image", format!("`image` is no base64: {error}"))
            })?;
            encode_image(model.as_ref(), &png)?
        }
        (None, Some(Value::String(text))) => model
            .encode_text(text)
            .map_err(|error| HttpError::codec("input", &error))?,
        (None, Some(tensor)) => {
            let mut values = Vec::new();
            flatten(tensor, 0, &mut values)?;
            model
                .encode_values(&values)
                .map_err(|error| HttpError::codec("input", &error))?
        }
        _ => {
            return Err(HttpError::invalid(
                "input",
                "exactly one of `input` and `image` is needed",
            ));
        }
    };
    Ok((model, input))
}

fn encode_image(model: &dyn ModelCodec, png: &[u8]) -> Result<Encoded, HttpError> {
    model
        .encode_image(png)
        .map_err(|error| HttpError::codec("image", &error))
}

fn flatten(tensor: &Value, depth: usize, values: &mut Vec<f64>) -> Result<(), HttpError> {
    match tensor {
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.is_finite());
            values.push(number.ok_or_else(|| {
                HttpError::invalid("input", "`input` holds a number that is not finite")
            })?);
            Ok(())
        }
        Value::Array(items) if depth < MAX_DEPTH => items
            .iter()
            .try_for_each(|item| flatten(item, depth + 1, values)),
        Value::Array(_) => Err(HttpError::invalid(
            "input",
            format!("`input` is nested deeper than {MAX_DEPTH}"),
        )),
        _ => Err(HttpError::invalid(
            "input",
            "`input` must hold numbers only",
        )),
    }
}

fn answer(
    shared: &Shared,
    account: &Account,
    model: &dyn ModelCodec,
    input: &Encoded,
    tier: Tier,
) -> Result<Response, HttpError> {
    let bought = shared.buy(account, model, input, tier)?;
    let decoded = model.decode(&bought.output);
    let decoded = decoded.map_err(|error| HttpError::BadReceipt(error.to_string()))?;
    let mut body = json!({"object": "inference", "model": model.name()});
    match decoded {
        Decoded::Embedding(vector) => body["output"] = json!(vector),
        Decoded::Tensor { dims, values } => {
            body["shape"] = json!(dims);
            body["output"] = json!(values);
        }
        Decoded::Classes(classes) => {
            let shown = classes.iter().take(MAX_CLASSES);
            let shown: Vec<Value> = shown
                .map(|class| json!({"label": class.label, "score": class.score}))
                .collect();
            body["classes"] = json!(shown);
        }
    }
    let bought = [bought];
    body["assay"] = assay_of(model, &bought);
    Ok(with_receipts(body, model, &bought))
}
