//! Messages of a conversation, from OpenAI's form to the model's prompt.

use assay_text::{Message, RenderOptions, Role, TextError, ToolCall};
use serde_json::{Map, Value};

use super::Language;
use super::output;
use super::tools::Tools;
use crate::HttpError;

/// Most messages of one call.
const MAX_MESSAGES: usize = 4_096;

fn wrong(index: usize, reason: &str) -> HttpError {
    HttpError::invalid("messages", format!("message {index}: {reason}"))
}

/// `messages` of a chat completion.
pub(crate) fn read(body: &Map<String, Value>) -> Result<Vec<Message>, HttpError> {
    let items = match body.get("messages") {
        Some(Value::Array(items)) if !items.is_empty() => items,
        _ => {
            return Err(HttpError::invalid(
                "messages",
                "`messages` must be a list with at least one message",
            ));
        }
    };
    if items.len() > MAX_MESSAGES {
        return Err(HttpError::invalid(
            "messages",
            format!("{} messages, at most {MAX_MESSAGES}", items.len()),
        ));
    }
    let one = |(index, item): (usize, &Value)| {
        let item = item
            .as_object()
            .ok_or_else(|| wrong(index, "it is no object"))?;
        message(index, item)
    };
    items.iter().enumerate().map(one).collect()
}

fn message(index: usize, item: &Map<String, Value>) -> Result<Message, HttpError> {
    let text = |field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
    let role = text("role").ok_or_else(|| wrong(index, "`role` must be a string"))?;
    let role: Role = role
        .parse()
        .map_err(|reason: String| wrong(index, &reason))?;
    let mut message = Message::new(role, content(index, item.get("content"))?);
    message.name = text("name");
    message.tool_call_id = text("tool_call_id");
    message.reasoning = text("reasoning_content");
    if let Some(Value::String(refusal)) = item.get("refusal")
        && message.content.is_empty()
    {
        message.content.clone_from(refusal);
    }
    match item.get("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(calls)) if role == Role::Assistant => {
            for call in calls {
                let call = tool_call(call)
                    .ok_or_else(|| wrong(index, "a tool call needs `function.name`"))?;
                message.tool_calls.push(call);
            }
        }
        Some(_) => {
            return Err(wrong(
                index,
                "`tool_calls` must be a list, in a message of the assistant",
            ));
        }
    }
    if role == Role::Assistant && message.tool_calls.is_empty() && is_absent(item.get("content")) {
        return Err(wrong(index, "it has neither `content` nor `tool_calls`"));
    }
    Ok(message)
}

fn is_absent(content: Option<&Value>) -> bool {
    content.is_none_or(Value::is_null)
}

fn tool_call(call: &Value) -> Option<ToolCall> {
    let function = call.get("function")?;
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    Some(ToolCall {
        id: call.get("id").and_then(Value::as_str).unwrap_or("").into(),
        name: function.get("name")?.as_str()?.to_owned(),
        arguments,
    })
}

/// A string, or a list of parts of text.
pub(crate) fn content(index: usize, content: Option<&Value>) -> Result<String, HttpError> {
    let parts = match content {
        None | Some(Value::Null) => return Ok(String::new()),
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        Some(_) => {
            return Err(wrong(
                index,
                "`content` must be a string or a list of parts of text",
            ));
        }
    };
    let mut whole = String::new();
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("");
        let field = match kind {
            "text" | "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(wrong(
                    index,
                    &format!("parts of type `{shown}` are not supported, only text is"),
                ));
            }
        };
        let text = part.get(field).and_then(Value::as_str);
        whole.push_str(text.ok_or_else(|| wrong(index, "a part has no text"))?);
    }
    Ok(whole)
}

/// `chat_template_kwargs`: variables of the template, as other servers have them.
pub(crate) fn variables(body: &Map<String, Value>) -> Result<Map<String, Value>, HttpError> {
    const NAME: &str = "chat_template_kwargs";
    match body.get(NAME) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(variables)) => Ok(variables.clone()),
        Some(_) => Err(HttpError::invalid(
            NAME,
            "`chat_template_kwargs` must be an object",
        )),
    }
}

/// Token ids of a conversation in the model's own template.
pub(crate) fn prompt(
    language: &Language,
    messages: &[Message],
    tools: &Tools,
    variables: Map<String, Value>,
) -> Result<Vec<u32>, HttpError> {
    let template = language.template.as_ref().ok_or_else(|| {
        HttpError::invalid(
            "model",
            "this model has no chat template; use /v1/completions",
        )
    })?;
    let failed = |error: TextError| HttpError::invalid("messages", error.to_string());
    let options = RenderOptions {
        now: Some(output::now()),
        variables,
        ..RenderOptions::default()
    };
    let segments = template
        .render(messages, tools.offered(), &options)
        .map_err(failed)?;
    let ids = language
        .tokenizer
        .encode_prompt(&segments)
        .map_err(failed)?;
    if ids.is_empty() {
        return Err(HttpError::invalid(
            "messages",
            "the conversation has no token",
        ));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_all(messages: Value) -> Result<Vec<Message>, HttpError> {
        read(json!({ "messages": messages }).as_object().unwrap())
    }

    #[test]
    fn messages_are_read_in_all_their_forms() {
        let messages = read_all(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        ]))
        .unwrap();
        assert_eq!(messages[0].role, Role::System);
        assert_eq!(messages[1].content, "ab");
        assert_eq!(messages[2].tool_calls[0].name, "f");
        assert_eq!(messages[3].tool_call_id.as_deref(), Some("call_1"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            json!([]),
            json!("hello"),
            json!([1]),
            json!([{"content": "x"}]),
            json!([{"role": "nobody", "content": "x"}]),
            json!([{"role": "user", "content": 5}]),
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
            json!([{"role": "assistant"}]),
            json!([{"role": "assistant", "tool_calls": [{}]}]),
        ] {
            match read_all(bad.clone()) {
                Err(HttpError::Invalid { param, .. }) => assert_eq!(param, "messages"),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }
}
