//! `POST /v1/chat/completions`, as OpenAI's clients call it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::output::{self, Bill};
use super::params::{self, Call, Common};
use super::run::{ChoiceEvent, Run, Whole, collect};
use super::shape::{CallPart, Delta, Finish, Shape};
use super::sse::{Frames, Render, respond};
use super::{constraint, messages, numbers, tools};
use crate::http::{Posted, add_headers, blocking, json_of};
use crate::server::Shared;
use crate::{Account, HttpError};

/// What identifies the answer in each of its parts.
struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
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
    // Templates and tokenizers take their time for long conversations.
    let call = blocking(move || read(&reader, account, &headers, &json_of(&body)?)).await?;
    let head = Head {
        id: output::name("chatcmpl-")?,
        created: output::now(),
        model: call.model.name().to_owned(),
        fingerprint: output::fingerprint(call.model.as_ref()),
    };
    let choices = call.choices(&shared).await?;
    let count = choices.len();
    let run = Run::start(&shared, choices);
    if call.common.stream {
        let headers = vec![("assay-model", call.model.model_id().to_string())];
        let render = Chunks {
            bill: Bill::new(call.prompt_tokens(), call.common.tier),
            begun: vec![false; count],
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
) -> Result<Call, HttpError> {
    let model = params::model(shared, body)?;
    let language = params::language(model.as_ref())?;
    let common = Common::read(shared, language, headers, body)?;
    refuse_unsupported(body)?;
    let tools = tools::read(body)?;
    let messages = messages::read(body)?;
    let prompt = messages::prompt(language, &messages, &tools, messages::variables(body)?)?;
    let max_tokens = params::max_tokens(body, language, &["max_completion_tokens", "max_tokens"])?;
    let grammar = constraint::read(language, body.get("response_format"), &tools)?;
    Ok(Call {
        account,
        common,
        prompts: vec![prompt],
        prompt_param: "messages",
        max_tokens,
        default_max_tokens: shared.config.default_max_tokens,
        logprobs: logprobs(body)?,
        grammar,
        shape: Shape {
            tools: tools.is_offered().then_some(language.tools),
            parallel_calls: tools.parallel,
        },
        model,
    })
}

/// `logprobs` and `top_logprobs`.
fn logprobs(body: &Map<String, Value>) -> Result<Option<u8>, HttpError> {
    const TOP: &str = "top_logprobs";
    let top = numbers::whole(body, TOP, (0, params::MAX_LOGPROBS))?;
    match (params::flag(body, "logprobs")?, top) {
        (true, top) => Ok(u8::try_from(top.unwrap_or(0)).ok()),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(HttpError::invalid(
            TOP,
            "`top_logprobs` needs `logprobs`: true",
        )),
    }
}

/// Fields that mean something that is not there.
fn refuse_unsupported(body: &Map<String, Value>) -> Result<(), HttpError> {
    if params::is_set(body, "audio") {
        return Err(HttpError::invalid("audio", "this gateway gives no audio"));
    }
    if let Some(Value::Array(modalities)) = body.get("modalities")
        && modalities.iter().any(|modality| modality != "text")
    {
        return Err(HttpError::invalid(
            "modalities",
            "this gateway answers with text only",
        ));
    }
    for param in ["functions", "function_call"] {
        if params::is_set(body, param) {
            return Err(HttpError::invalid(
                param,
                format!("`{param}` was replaced by `tools` and `tool_choice`"),
            ));
        }
    }
    for (param, what) in [
        ("web_search_options", "web search"),
        ("prediction", "predicted outputs"),
    ] {
        if params::is_set(body, param) {
            return Err(HttpError::invalid(
                param,
                format!("this gateway has no {what}"),
            ));
        }
    }
    Ok(())
}

/// `logprobs` of a choice.
fn logprobs_of(call: &Call, delta: &Delta) -> Value {
    if call.logprobs.is_none() {
        return Value::Null;
    }
    let content: Vec<Value> = delta
        .probabilities
        .iter()
        .map(output::probability)
        .collect();
    json!({"content": content, "refusal": null})
}

fn whole(head: &Head, call: &Call, wholes: &[Whole]) -> Response {
    let mut bill = Bill::new(call.prompt_tokens(), call.common.tier);
    let mut choices = Vec::new();
    for (index, one) in (0u32..).zip(wholes) {
        let Some((finish, sold)) = &one.end else {
            continue;
        };
        bill.add(index, sold);
        let calls = output::whole_calls(&one.delta);
        let content = if one.delta.text.is_empty() && !calls.is_empty() {
            Value::Null
        } else {
            Value::from(one.delta.text.as_str())
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !calls.is_empty() {
            message["tool_calls"] = Value::from(calls);
        }
        choices.push(json!({
            "index": index,
            "message": message,
            "logprobs": logprobs_of(call, &one.delta),
            "finish_reason": finish.name(),
        }));
    }
    let body = json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
        "choices": choices,
        "usage": bill.usage(),
        "assay": bill.assay(call.model.as_ref(), call.common.seed),
    });
    let mut response = Json(body).into_response();
    let headers = bill.headers(call.model.as_ref(), call.common.seed);
    add_headers(&mut response, headers);
    response
}

/// Chunks of a stream.
struct Chunks {
    head: Head,
    call: Call,
    bill: Bill,
    begun: Vec<bool>,
    /// The last choice's end is kept back: what comes last carries the receipts.
    last: Option<Value>,
}

impl Chunks {
    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model,
            "system_fingerprint": self.head.fingerprint,
            "choices": choices,
        });
        if self.call.common.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn choice(&self, index: u32, delta: Value, logprobs: Value, finish: Option<Finish>) -> Value {
        self.chunk(json!([{
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish.map(Finish::name),
        }]))
    }

    fn begin_choice(&mut self, index: u32, out: &mut Frames) {
        if let Some(begun) = self.begun.get_mut(index as usize)
            && !*begun
        {
            *begun = true;
            let delta = json!({"role": "assistant", "content": "", "refusal": null});
            out.data(&self.choice(index, delta, Value::Null, None));
        }
    }

    fn delta(&self, index: u32, delta: &Delta, out: &mut Frames) {
        if !delta.text.is_empty() || !delta.probabilities.is_empty() {
            let logprobs = logprobs_of(&self.call, delta);
            out.data(&self.choice(index, json!({"content": delta.text}), logprobs, None));
        }
        for part in &delta.calls {
            let delta = json!({"tool_calls": [call_part(part)]});
            out.data(&self.choice(index, delta, Value::Null, None));
        }
    }
}

fn call_part(part: &CallPart) -> Value {
    match &part.head {
        Some((id, name)) => json!({
            "index": part.index,
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": part.arguments},
        }),
        None => json!({"index": part.index, "function": {"arguments": part.arguments}}),
    }
}

impl Render for Chunks {
    fn begin(&mut self, _out: &mut Frames) {}

    fn event(&mut self, index: u32, event: ChoiceEvent, out: &mut Frames) {
        self.begin_choice(index, out);
        match event {
            ChoiceEvent::Admitted => {}
            ChoiceEvent::Delta(delta) => self.delta(index, &delta, out),
            ChoiceEvent::End(end) => {
                self.delta(index, &end.rest, out);
                self.bill.add(index, &end.sold);
                let chunk = self.choice(index, json!({}), Value::Null, Some(end.finish));
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
            last = self.chunk(json!([]));
            last["usage"] = self.bill.usage();
        }
        last["assay"] = assay;
        out.data(&last);
        out.done();
    }
}
