//! `POST /v1/completions`: text that goes on from a prompt, without a chat template.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::output::{self, Bill};
use super::params::{self, Call, Common};
use super::run::{ChoiceEvent, Run, Whole, collect};
use super::shape::{Delta, Finish, Shape};
use super::sse::{Frames, Render, respond};
use super::tools::Tools;
use super::{Language, constraint, numbers};
use crate::http::{Posted, add_headers, blocking, json_of};
use crate::server::Shared;
use crate::{Account, HttpError};

/// Tokens when a call does not say (OpenAI's default).
const DEFAULT_TOKENS: u32 = 16;

struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    /// With `echo`: the prompts as text, one for each.
    echo: Option<Vec<String>>,
}

impl Head {
    /// The text that stands before the answer of a choice.
    fn before(&self, call: &Call, index: u32) -> &str {
        let prompt = (index / call.common.n.max(1)) as usize;
        let echo = self.echo.as_ref().and_then(|texts| texts.get(prompt));
        echo.map_or("", String::as_str)
    }

    fn body(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Posted(body): Posted,
) -> Result<Response, HttpError> {
    let account = shared.account(&headers)?;
    let body = body?;
    let place = shared.enter()?;
    let reader = Arc::clone(&shared);
    let (call, echo) = blocking(move || read(&reader, account, &headers, &json_of(&body)?)).await?;
    let head = Head {
        id: output::name("cmpl-")?,
        created: output::now(),
        model: call.model.name().to_owned(),
        fingerprint: output::fingerprint(call.model.as_ref()),
        echo,
    };
    let choices = call.choices(&shared).await?;
    let count = choices.len();
    let run = Run::start(&shared, choices);
    if call.common.stream {
        let headers = vec![("assay-model", call.model.model_id().to_string())];
        let render = Chunks {
            bill: Bill::new(call.prompt_tokens(), call.common.tier),
            begun: vec![false; count],
            offsets: vec![0; count],
            last: None,
            head,
            call,
        };
        return respond(shared, place, run, render, headers).await;
    }
    let wholes = collect(run, count).await?;
    drop(place);
    Ok(whole(&head, &call, &wholes))
}

fn read(
    shared: &Shared,
    account: Account,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<(Call, Option<Vec<String>>), HttpError> {
    let model = params::model(shared, body)?;
    let language = params::language(model.as_ref())?;
    let common = Common::read(shared, language, headers, body)?;
    if params::is_set(body, "suffix") {
        return Err(HttpError::invalid(
            "suffix",
            "this gateway fills no middle: `suffix` is not supported",
        ));
    }
    let most = i64::from(shared.config.max_choices);
    if let Some(best) = numbers::whole(body, "best_of", (1, most))?
        && best != i64::from(common.n)
    {
        return Err(HttpError::invalid(
            "best_of",
            "`best_of` other than `n` is not supported: every answer is returned",
        ));
    }
    let prompts = prompts(shared, language, body.get("prompt"))?;
    let logprobs = numbers::whole(body, "logprobs", (0, params::MAX_LOGPROBS))?;
    let logprobs = logprobs.and_then(|count| u8::try_from(count).ok());
    let echo = if params::flag(body, "echo")? {
        if logprobs.is_some() {
            return Err(HttpError::invalid(
                "echo",
                "`echo` with `logprobs` is not supported: the prompt's tokens have no probabilities here",
            ));
        }
        let text = |ids: &Vec<u32>| language.tokenizer.decode(ids);
        Some(prompts.iter().map(text).collect())
    } else {
        None
    };
    let max_tokens = params::max_tokens(body, language, &["max_tokens"])?;
    let grammar = constraint::read(language, body.get("response_format"), &Tools::default())?;
    let call = Call {
        account,
        common,
        prompts,
        prompt_param: "prompt",
        max_tokens,
        default_max_tokens: DEFAULT_TOKENS,
        logprobs,
        grammar,
        shape: Shape::default(),
        model,
    };
    Ok((call, echo))
}

/// A string, a list of strings, a list of token ids, or a list of such lists.
fn prompts(
    shared: &Shared,
    language: &Language,
    prompt: Option<&Value>,
) -> Result<Vec<Vec<u32>>, HttpError> {
    let wrong = || {
        HttpError::invalid(
            "prompt",
            "`prompt` must be a string, a list of strings, a list of token ids, or a list of such lists",
        )
    };
    let text = |text: &str| {
        let ids = language.encode_text(text)?;
        if ids.is_empty() {
            return Err(HttpError::invalid("prompt", "`prompt` has no token"));
        }
        Ok(ids)
    };
    let vocabulary = language.vocabulary;
    let tokens = |items: &[Value]| {
        let id = |item: &Value| {
            let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id < vocabulary).ok_or_else(|| {
                HttpError::invalid(
                    "prompt",
                    format!("`prompt` holds what is no token id below {vocabulary}"),
                )
            })
        };
        if items.is_empty() {
            return Err(HttpError::invalid("prompt", "`prompt` has no token"));
        }
        items.iter().map(id).collect::<Result<Vec<u32>, _>>()
    };
    match prompt {
        Some(Value::String(one)) => Ok(vec![text(one)?]),
        Some(Value::Array(items)) if items.iter().all(Value::is_number) => Ok(vec![tokens(items)?]),
        Some(Value::Array(items)) => {
            let limit = shared.config.max_choices as usize;
            if items.len() > limit {
                return Err(HttpError::invalid(
                    "prompt",
                    format!("{} prompts, at most {limit} in one call", items.len()),
                ));
            }
            let one = |item: &Value| match item {
                Value::String(item) => text(item),
                Value::Array(items) => tokens(items),
                _ => Err(wrong()),
            };
            items.iter().map(one).collect()
        }
        _ => Err(wrong()),
    }
}

/// The completions' form of probabilities; `offset` is where the first token begins in the text.
fn logprobs_of(call: &Call, delta: &Delta, mut offset: usize) -> Value {
    if call.logprobs.is_none() {
        return Value::Null;
    }
    let mut tokens = Vec::new();
    let mut logprobs = Vec::new();
    let mut tops = Vec::new();
    let mut offsets = Vec::new();
    for one in &delta.probabilities {
        let text = String::from_utf8_lossy(&one.bytes).into_owned();
        let top: Map<String, Value> = one
            .top
            .iter()
            .map(|(bytes, logprob)| (String::from_utf8_lossy(bytes).into_owned(), json!(logprob)))
            .collect();
        offsets.push(offset);
        offset += text.chars().count();
        tokens.push(text);
        logprobs.push(one.logprob);
        tops.push(top);
    }
    json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets})
}

fn whole(head: &Head, call: &Call, wholes: &[Whole]) -> Response {
    let mut bill = Bill::new(call.prompt_tokens(), call.common.tier);
    let mut choices = Vec::new();
    for (index, one) in (0u32..).zip(wholes) {
        let Some((finish, sold)) = &one.end else {
            continue;
        };
        bill.add(index, sold);
        choices.push(json!({
            "index": index,
            "text": format!("{}{}", head.before(call, index), one.delta.text),
            "logprobs": logprobs_of(call, &one.delta, 0),
            "finish_reason": finish.name(),
        }));
    }
    let mut body = head.body(Value::from(choices));
    body["usage"] = bill.usage();
    body["assay"] = bill.assay(call.model.as_ref(), call.common.seed);
    let mut response = Json(body).into_response();
    let headers = bill.headers(call.model.as_ref(), call.common.seed);
    add_headers(&mut response, headers);
    response
}

struct Chunks {
    head: Head,
    call: Call,
    bill: Bill,
    begun: Vec<bool>,
    offsets: Vec<usize>,
    last: Option<Value>,
}

impl Chunks {
    fn chunk(&self, index: u32, text: &str, logprobs: Value, finish: Option<Finish>) -> Value {
        let mut chunk = self.head.body(json!([{
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish.map(Finish::name),
        }]));
        if self.call.common.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut Frames) {
        if delta.text.is_empty() && delta.probabilities.is_empty() {
            return;
        }
        let offset = self.offsets.get(index as usize).copied().unwrap_or(0);
        let logprobs = logprobs_of(&self.call, delta, offset);
        out.data(&self.chunk(index, &delta.text, logprobs, None));
        if let Some(offset) = self.offsets.get_mut(index as usize) {
            *offset += delta.text.chars().count();
        }
    }
}

impl Render for Chunks {
    fn begin(&mut self, _out: &mut Frames) {}

    fn event(&mut self, index: u32, event: ChoiceEvent, out: &mut Frames) {
        if let Some(begun) = self.begun.get_mut(index as usize)
            && !*begun
        {
            *begun = true;
            let before = self.head.before(&self.call, index);
            if !before.is_empty() {
                out.data(&self.chunk(index, before, Value::Null, None));
            }
        }
        match event {
            ChoiceEvent::Admitted => {}
            ChoiceEvent::Delta(delta) => self.delta(index, &delta, out),
            ChoiceEvent::End(end) => {
                self.delta(index, &end.rest, out);
                self.bill.add(index, &end.sold);
                let chunk = self.chunk(index, "", Value::Null, Some(end.finish));
                if let Some(before) = self.last.replace(chunk) {
                    out.data(&before);
                }
            }
        }
    }

    fn end(&mut self, out: &mut Frames) {
        let assay = self
            .bill
            .assay(self.call.model.as_ref(), self.call.common.seed);
        let mut last = self.last.take().unwrap_or(Value::Null);
        if self.call.common.include_usage {
            out.data(&last);
            last = self.head.body(json!([]));
            last["usage"] = self.bill.usage();
        }
        last["assay"] = assay;
        out.data(&last);
        out.done();
    }
}
