//! Tool calls in the model's own words.

use serde_json::Value;

use crate::stop::partial_suffix;
use crate::template::{json_text, tool_value};
use crate::{Message, Role, Tool, ToolCall};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Longest call, bytes; what is longer reads as text.
const MAX_CALL_BYTES: usize = 1 << 20;
/// Closing marks tried for one call (a JSON string may contain the mark).
const MAX_CLOSES: usize = 16;

/// How a model writes tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolFormat {
    /// `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>` (Qwen2.5, Hermes), also with a list of calls (SmolLM2).
    #[default]
    Tagged,
    /// The whole answer is `{"name": …, "parameters": {…}}`, maybe after `<|python_tag|>` (Llama 3).
    Bare,
}

impl ToolFormat {
    /// The format that a chat template teaches.
    #[must_use]
    pub fn of_template(source: &str) -> Self {
        if !source.contains(OPEN) && source.contains("\"parameters\"") {
            Self::Bare
        } else {
            Self::Tagged
        }
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolEvent {
    /// Text for the reader; never empty.
    Text(String),
    /// A whole call. `arguments` is JSON text of an object.
    Call {
        /// Name of the function, as the model wrote it; may be one that was not offered.
        name: String,
        /// JSON object as text.
        arguments: String,
    },
}

/// Splits a stream of text into text and tool calls. Text is given out at once, save what may be the start of a call
/// and the space before it; a call when it is whole. What isn't a well-formed call stays text.
#[derive(Debug, Clone)]
pub struct ToolParser {
    format: ToolFormat,
    buffer: String,
    inside: bool,
    /// Whether anything but space was seen.
    begun: bool,
    called: bool,
}

impl ToolParser {
    /// At the start of an answer.
    #[must_use]
    pub const fn new(format: ToolFormat) -> Self {
        Self {
            format,
            buffer: String::new(),
            inside: false,
            begun: false,
            called: false,
        }
    }

    /// Whether the stream is inside a call.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.inside
    }

    /// More of the answer.
    pub fn push(&mut self, text: &str) -> Vec<ToolEvent> {
        self.buffer.push_str(text);
        let mut events = Vec::new();
        match self.format {
            ToolFormat::Tagged => while self.step(&mut events) {},
            ToolFormat::Bare => self.bare(&mut events),
        }
        events
    }

    /// The end of the answer: a call without its closing mark counts if it is whole otherwise.
    #[must_use]
    pub fn finish(mut self) -> Vec<ToolEvent> {
        let mut events = Vec::new();
        let rest = std::mem::take(&mut self.buffer);
        if !self.inside {
            let spaces_between_calls = self.called && rest.trim().is_empty();
            if !rest.is_empty() && !spaces_between_calls {
                events.push(ToolEvent::Text(rest));
            }
            return events;
        }
        let body = rest.trim().trim_start_matches("<|python_tag|>");
        match parse_calls(body) {
            Some(calls) => events.extend(calls),
            None if self.format == ToolFormat::Tagged => {
                events.push(ToolEvent::Text(format!("{OPEN}{rest}")));
            }
            None => events.push(ToolEvent::Text(rest)),
        }
        events
    }

    fn bare(&mut self, events: &mut Vec<ToolEvent>) {
        let start = self.buffer.trim_start();
        if !self.begun && !start.is_empty() {
            self.begun = true;
            self.inside = start.starts_with(['{', '[', '<']);
        }
        if self.begun && (!self.inside || self.buffer.len() > MAX_CALL_BYTES) {
            self.inside = false;
            events.push(ToolEvent::Text(std::mem::take(&mut self.buffer)));
        }
        events.retain(|event| !matches!(event, ToolEvent::Text(text) if text.is_empty()));
    }

    /// One transition; false when more text is needed.
    fn step(&mut self, events: &mut Vec<ToolEvent>) -> bool {
        if self.inside {
            return self.step_inside(events);
        }
        if let Some(at) = self.buffer.find(OPEN) {
            let before = self.buffer.get(..at).unwrap_or_default().trim_end();
            if !before.is_empty() {
                events.push(ToolEvent::Text(before.to_owned()));
            }
            self.buffer.drain(..at + OPEN.len());
            self.inside = true;
            return true;
        }
        let held = partial_suffix(&self.buffer, OPEN);
        let certain = self
            .buffer
            .get(..self.buffer.len() - held)
            .unwrap_or_default()
            .trim_end()
            .len();
        if certain > 0 {
            events.push(ToolEvent::Text(self.buffer.drain(..certain).collect()));
        }
        false
    }

    fn step_inside(&mut self, events: &mut Vec<ToolEvent>) -> bool {
        for (at, _) in self.buffer.match_indices(CLOSE).take(MAX_CLOSES) {
            if let Some(calls) = parse_calls(self.buffer.get(..at).unwrap_or_default()) {
                events.extend(calls);
                self.buffer.drain(..at + CLOSE.len());
                self.inside = false;
                self.called = true;
                return true;
            }
        }
        // a mark outside of any string ends a malformed call
        let malformed = self
            .buffer
            .match_indices(CLOSE)
            .map(|(at, _)| at)
            .find(|&at| !ends_inside_string(self.buffer.get(..at).unwrap_or_default()));
        let end = malformed
            .map(|at| at + CLOSE.len())
            .or_else(|| (self.buffer.len() > MAX_CALL_BYTES).then_some(self.buffer.len()));
        let Some(end) = end else { return false };
        let body: String = self.buffer.drain(..end).collect();
        events.push(ToolEvent::Text(format!("{OPEN}{body}")));
        self.inside = false;
        true
    }
}

/// Whether an odd number of unescaped quotes stands in the text.
fn ends_inside_string(text: &str) -> bool {
    let (mut inside, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    inside
}

/// One call, or a list of at least one.
fn parse_calls(body: &str) -> Option<Vec<ToolEvent>> {
    let value: Value = serde_json::from_str(body.trim()).ok()?;
    match value {
        Value::Array(items) if !items.is_empty() => items.into_iter().map(parse_call).collect(),
        other => Some(vec![parse_call(other)?]),
    }
}

fn parse_call(mut value: Value) -> Option<ToolEvent> {
    if let Some(function) = value.get_mut("function")
        && function.is_object()
    {
        value = function.take();
    }
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = value
        .get("arguments")
        .or_else(|| value.get("parameters"))
        .cloned()
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let arguments = match arguments {
        Value::Null => "{}".to_owned(),
        Value::Object(_) => arguments.to_string(),
        Value::String(text) => serde_json::from_str::<Value>(&text)
            .ok()
            .filter(Value::is_object)?
            .to_string(),
        _ => return None,
    };
    (!name.is_empty()).then_some(ToolEvent::Call { name, arguments })
}

/// For templates that know no tools: tools are explained in the system message, calls and results written into the
/// content, in the words of Qwen2.5's template (Hermes format).
pub(crate) fn explain(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let mut list: Vec<Message> = messages.iter().map(explain_message).collect();
    if tools.is_empty() {
        return list;
    }
    let mut text = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>".to_owned();
    for tool in tools {
        text.push('\n');
        text.push_str(&json_text(&tool_value(tool)));
    }
    text.push_str("\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
    match list.first_mut() {
        Some(first) if first.role == Role::System => {
            first.content = format!("{}\n\n{text}", first.content);
        }
        _ => list.insert(0, Message::new(Role::System, text)),
    }
    list
}

fn explain_message(message: &Message) -> Message {
    let mut changed = message.clone();
    if message.role == Role::Tool {
        changed.role = Role::User;
        changed.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
    }
    for call in std::mem::take(&mut changed.tool_calls) {
        if !changed.content.is_empty() {
            changed.content.push('\n');
        }
        changed.content.push_str(&write_call(&call));
    }
    changed
}

fn write_call(call: &ToolCall) -> String {
    let arguments = serde_json::from_str(&call.arguments)
        .unwrap_or_else(|_| Value::from(call.arguments.as_str()));
    let call = serde_json::json!({"name": call.name, "arguments": arguments});
    format!("{OPEN}\n{}\n{CLOSE}", json_text(&call))
}
