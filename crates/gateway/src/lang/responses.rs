//! `POST /v1/responses`, stateless: the whole conversation comes with each call, nothing is kept but receipts.

use std::sync::Arc;

use assay_text::{Message, Role, ToolCall};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::items::Items;
use super::output::{self, Bill};
use super::params::{self, Call, Common};
use super::run::{ChoiceEvent, Run};
use super::shape::Shape;
use super::sse::{Frames, Render, respond};
use super::{constraint, messages, numbers, tools};
use crate::http::{Posted, add_headers, blocking, json_of};
use crate::server::Shared;
use crate::{Account, HttpError};

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
    let mut events = Events {
        id: output::name("resp_")?,
        created: output::now(),
        bill: Bill::new(call.prompt_tokens(), call.common.tier),
        items: Items::new(call.logprobs.is_some()),
        status: "in_progress",
        number: 0,
        echo,
        call,
    };
    let choices = events.call.choices(&shared).await?;
    let mut run = Run::start(&shared, choices);
    if events.call.common.stream {
        let headers = vec![("assay-model", events.call.model.model_id().to_string())];
        return respond(shared, place, run, events, headers).await;
    }
    let mut unseen = Frames::default();
    while let Some((index, event)) = run.next().await {
        events.event(index, event?, &mut unseen);
        unseen.clear();
    }
    drop(place);
    let mut response = Json(events.response()).into_response();
    let headers = events
        .bill
        .headers(events.call.model.as_ref(), events.call.common.seed);
    add_headers(&mut response, headers);
    Ok(response)
}

/// Fields that the answer repeats.
struct Echo {
    instructions: Value,
    max_output_tokens: Value,
    temperature: Value,
    top_p: Value,
    tools: Value,
    tool_choice: Value,
    parallel: bool,
    format: Value,
    metadata: Value,
    user: Value,
}

fn read(
    shared: &Shared,
    account: Account,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<(Call, Echo), HttpError> {
    let model = params::model(shared, body)?;
    let language = params::language(model.as_ref())?;
    refuse_unsupported(body)?;
    let common = Common::read(shared, language, headers, body)?;
    let tools = tools::read(body)?;
    let mut conversation = Vec::new();
    match body.get("instructions") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => conversation.push(Message::new(Role::System, text)),
        Some(_) => {
            return Err(HttpError::invalid(
                "instructions",
                "`instructions` must be a string",
            ));
        }
    }
    input(body.get("input"), &mut conversation)?;
    let prompt = messages::prompt(language, &conversation, &tools, Map::new())
        .map_err(|error| error.with_param("messages", "input"))?;
    let max_tokens = params::max_tokens(body, language, &["max_output_tokens"])?;
    let format = format(body)?;
    let grammar = constraint::read(language, format.as_ref(), &tools)
        .map_err(|error| error.with_param("response_format", "text"))?;
    let echo = Echo {
        instructions: field(body, "instructions", Value::Null),
        max_output_tokens: field(body, "max_output_tokens", Value::Null),
        temperature: field(body, "temperature", json!(1.0)),
        top_p: field(body, "top_p", json!(1.0)),
        tools: field(body, "tools", json!([])),
        tool_choice: field(body, "tool_choice", json!("auto")),
        parallel: tools.parallel,
        format: body
            .get("text")
            .and_then(|text| text.get("format"))
            .cloned()
            .unwrap_or_else(|| json!({"type": "text"})),
        metadata: field(body, "metadata", json!({})),
        user: field(body, "user", Value::Null),
    };
    let call = Call {
        account,
        common,
        prompts: vec![prompt],
        prompt_param: "input",
        max_tokens,
        default_max_tokens: shared.config.default_max_tokens,
        logprobs: logprobs(body)?,
        grammar,
        shape: Shape {
            tools: tools.is_offered().then_some(language.tools),
            parallel_calls: tools.parallel,
        },
        model,
    };
    Ok((call, echo))
}

fn field(body: &Map<String, Value>, name: &str, absent: Value) -> Value {
    match body.get(name) {
        None | Some(Value::Null) => absent,
        Some(value) => value.clone(),
    }
}

/// What needs memory between calls, or more than a language model.
fn refuse_unsupported(body: &Map<String, Value>) -> Result<(), HttpError> {
    let stateless = "this gateway keeps no conversations: send them whole in `input`";
    for (param, reason) in [
        ("previous_response_id", stateless),
        ("conversation", stateless),
        ("prompt", "this gateway keeps no prompts"),
    ] {
        if params::is_set(body, param) {
            return Err(HttpError::invalid(param, reason));
        }
    }
    if params::flag(body, "background")? {
        return Err(HttpError::invalid(
            "background",
            "this gateway answers while you wait: `background` is not supported",
        ));
    }
    if numbers::whole(body, "n", (1, 1)).is_err() {
        return Err(HttpError::invalid("n", "a response is one answer"));
    }
    Ok(())
}

/// Probabilities are given when `include` names them or `top_logprobs` is set.
fn logprobs(body: &Map<String, Value>) -> Result<Option<u8>, HttpError> {
    let top = numbers::whole(body, "top_logprobs", (0, params::MAX_LOGPROBS))?;
    let included = match body.get("include") {
        Some(Value::Array(names)) => names
            .iter()
            .any(|name| name == "message.output_text.logprobs"),
        _ => false,
    };
    let wanted = included || top.is_some_and(|top| top > 0);
    Ok(wanted.then(|| u8::try_from(top.unwrap_or(0)).unwrap_or(0)))
}

/// `text.format` as chat completions write it.
fn format(body: &Map<String, Value>) -> Result<Option<Value>, HttpError> {
    let format = match body.get("text") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(text)) => text.get("format"),
        Some(_) => return Err(HttpError::invalid("text", "`text` must be an object")),
    };
    let Some(format) = format else {
        return Ok(None);
    };
    if format.get("type").and_then(Value::as_str) == Some("json_schema") {
        return Ok(Some(json!({"type": "json_schema", "json_schema": format})));
    }
    Ok(Some(format.clone()))
}

/// `input`: a string, or messages, calls and results of calls.
fn input(input: Option<&Value>, conversation: &mut Vec<Message>) -> Result<(), HttpError> {
    let wrong = |reason: String| HttpError::invalid("input", reason);
    let items = match input {
        Some(Value::String(text)) => {
            conversation.push(Message::new(Role::User, text));
            return Ok(());
        }
        Some(Value::Array(items)) if !items.is_empty() => items,
        _ => {
            return Err(wrong(
                "`input` must be a string or a list with at least one item".into(),
            ));
        }
    };
    for (index, item) in items.iter().enumerate() {
        let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = text("type").unwrap_or_else(|| "message".into());
        match kind.as_str() {
            "message" => {
                let role = text("role").unwrap_or_default();
                let role: Role = role
                    .parse()
                    .map_err(|reason| wrong(format!("item {index}: {reason}")))?;
                let content = messages::content(index, item.get("content"))
                    .map_err(|error| error.with_param("messages", "input"))?;
                conversation.push(Message::new(role, content));
            }
            "function_call" => {
                let name = text("name")
                    .ok_or_else(|| wrong(format!("item {index}: `name` is missing")))?;
                let call = ToolCall {
                    id: text("call_id").unwrap_or_default(),
                    name,
                    arguments: text("arguments").unwrap_or_default(),
                };
                match conversation.last_mut() {
                    Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                    _ => {
                        let mut message = Message::new(Role::Assistant, "");
                        message.tool_calls.push(call);
                        conversation.push(message);
                    }
                }
            }
            "function_call_output" => {
                let output = messages::content(index, item.get("output"))
                    .map_err(|error| error.with_param("messages", "input"))?;
                let mut message = Message::new(Role::Tool, output);
                message.tool_call_id = text("call_id");
                conversation.push(message);
            }
            // Thoughts of other models are not part of the conversation.
            "reasoning" => {}
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(wrong(format!(
                    "item {index}: items of type `{shown}` are not supported"
                )));
            }
        }
    }
    Ok(())
}

/// A response as it grows.
struct Events {
    id: String,
    created: u64,
    call: Call,
    echo: Echo,
    bill: Bill,
    items: Items,
    status: &'static str,
    number: u64,
}

impl Events {
    fn response(&self) -> Value {
        let is_open = self.status == "in_progress";
        let usage = json!({
            "input_tokens": self.bill.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.bill.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.bill.prompt_tokens + self.bill.completion_tokens,
            "cost": self.bill.cost(),
        });
        let incomplete = match self.status {
            "incomplete" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status,
            "background": false,
            "error": null,
            "incomplete_details": incomplete,
            "instructions": self.echo.instructions,
            "max_output_tokens": self.echo.max_output_tokens,
            "model": self.call.model.name(),
            "output": self.items.done(),
            "parallel_tool_calls": self.echo.parallel,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": self.echo.temperature,
            "text": {"format": self.echo.format},
            "tool_choice": self.echo.tool_choice,
            "tools": self.echo.tools,
            "top_p": self.echo.top_p,
            "truncation": "disabled",
            "usage": if is_open { Value::Null } else { usage },
            "user": self.echo.user,
            "metadata": self.echo.metadata,
        });
        if !is_open {
            let seed = self.call.common.seed;
            response["assay"] = self.bill.assay(self.call.model.as_ref(), seed);
        }
        response
    }

    fn send(&mut self, name: &str, mut event: Value, out: &mut Frames) {
        event["type"] = name.into();
        event["sequence_number"] = self.number.into();
        self.number += 1;
        out.event(name, &event);
    }

    fn send_all(&mut self, events: Vec<(&'static str, Value)>, out: &mut Frames) {
        for (name, event) in events {
            self.send(name, event, out);
        }
    }
}

impl Render for Events {
    fn begin(&mut self, out: &mut Frames) {
        for name in ["response.created", "response.in_progress"] {
            let event = json!({"response": self.response()});
            self.send(name, event, out);
        }
    }

    fn event(&mut self, index: u32, event: ChoiceEvent, out: &mut Frames) {
        match event {
            ChoiceEvent::Admitted => {}
            ChoiceEvent::Delta(delta) => {
                let events = self.items.push(&delta);
                self.send_all(events, out);
            }
            ChoiceEvent::End(end) => {
                let mut events = self.items.push(&end.rest);
                self.status = end.finish.status();
                events.extend(self.items.finish(self.status));
                self.bill.add(index, &end.sold);
                self.send_all(events, out);
            }
        }
    }

    fn end(&mut self, out: &mut Frames) {
        let name = if self.status == "incomplete" {
            "response.incomplete"
        } else {
            "response.completed"
        };
        let event = json!({"response": self.response()});
        self.send(name, event, out);
    }

    /// One event in the form of the responses' stream, with `error` beside it, which official clients raise.
    fn error(&mut self, error: &HttpError, out: &mut Frames) {
        let mut event = error.body();
        for field in ["code", "message", "param"] {
            event[field] = event["error"][field].clone();
        }
        self.send("error", event, out);
    }
}
