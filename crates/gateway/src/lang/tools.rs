//! `tools`, `tool_choice`, `parallel_tool_calls`.

use assay_text::Tool;
use serde_json::{Map, Value};

use super::params;
use crate::HttpError;

/// Most tools of one call.
const MAX_TOOLS: usize = 128;

/// What the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// Its own decision.
    Auto,
    /// Nothing.
    None,
    /// At least one of the tools.
    Required,
}

/// Tools of a call.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// Those that may be called: all, or those that `tool_choice` names.
    tools: Vec<Tool>,
    pub(crate) choice: ToolChoice,
    /// Whether an answer may hold more than one call.
    pub(crate) parallel: bool,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            tools: Vec::new(),
            choice: ToolChoice::None,
            parallel: true,
        }
    }
}

impl Tools {
    /// Tools that the model is told about.
    pub(crate) fn offered(&self) -> &[Tool] {
        if self.choice == ToolChoice::None {
            &[]
        } else {
            &self.tools
        }
    }

    /// Whether an answer may hold calls.
    pub(crate) fn is_offered(&self) -> bool {
        !self.offered().is_empty()
    }

    /// Whether an answer must hold calls.
    pub(crate) fn is_required(&self) -> bool {
        self.choice == ToolChoice::Required
    }
}

fn wrong(reason: impl Into<String>) -> HttpError {
    HttpError::invalid("tools", reason)
}

/// A function: in `function` (chat completions) or beside `type` (responses).
fn tool(item: &Value) -> Result<Tool, HttpError> {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("");
    if kind != "function" {
        let shown: String = kind.chars().take(40).collect();
        return Err(wrong(format!(
            "tools of type `{shown}` are not supported, only functions are"
        )));
    }
    let function = item.get("function").unwrap_or(item);
    let name = function.get("name").and_then(Value::as_str).unwrap_or("");
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(wrong(
            "the name of a function must be 1 to 64 of a-z, A-Z, 0-9, _ and -",
        ));
    }
    let parameters = function.get("parameters").cloned().unwrap_or(Value::Null);
    if !parameters.is_null() && !parameters.is_object() {
        return Err(wrong(format!(
            "`parameters` of `{name}` must be a JSON schema"
        )));
    }
    Ok(Tool {
        name: name.to_owned(),
        description: function
            .get("description")
            .and_then(Value::as_str)
            .map(str::to_owned),
        parameters,
    })
}

fn wrong_choice(reason: String) -> HttpError {
    HttpError::invalid("tool_choice", reason)
}

/// Name of a function, in `function` (chat completions) or beside `type` (responses).
fn name_of(function: &Map<String, Value>) -> &str {
    let inner = function.get("function").and_then(Value::as_object);
    let name = inner.unwrap_or(function).get("name");
    name.and_then(Value::as_str).unwrap_or("")
}

/// A `tool_choice` that is an object: a function that must be called, or functions that may be.
fn named_choice(named: &Map<String, Value>) -> Result<(ToolChoice, Vec<&str>), HttpError> {
    match named.get("type").map(|kind| kind.as_str().unwrap_or("")) {
        None | Some("function") => Ok((ToolChoice::Required, vec![name_of(named)])),
        Some("allowed_tools") => {
            let inner = named.get("allowed_tools").and_then(Value::as_object);
            let allowed = inner.unwrap_or(named);
            let choice = match allowed.get("mode").and_then(Value::as_str) {
                Some("auto") => ToolChoice::Auto,
                Some("required") => ToolChoice::Required,
                _ => {
                    return Err(wrong_choice(
                        "`mode` of `allowed_tools` must be `auto` or `required`".into(),
                    ));
                }
            };
            match allowed.get("tools").and_then(Value::as_array) {
                Some(items) if (1..=MAX_TOOLS).contains(&items.len()) => {
                    let names = items
                        .iter()
                        .map(|item| item.as_object().map_or("", name_of));
                    Ok((choice, names.collect()))
                }
                _ => Err(wrong_choice(format!(
                    "`tools` of `allowed_tools` must be a list of 1 to {MAX_TOOLS}"
                ))),
            }
        }
        Some(kind) => {
            let shown: String = kind.chars().take(40).collect();
            Err(wrong_choice(format!(
                "`tool_choice` of type `{shown}` is not supported: `function` and `allowed_tools` are"
            )))
        }
    }
}

/// Reads the three fields.
pub(crate) fn read(body: &Map<String, Value>) -> Result<Tools, HttpError> {
    let mut tools = match body.get("tools") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) if items.len() <= MAX_TOOLS => {
            items.iter().map(tool).collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => {
            return Err(wrong(format!(
                "`tools` must be a list of up to {MAX_TOOLS}"
            )));
        }
    };
    let choice = match body.get("tool_choice") {
        None | Some(Value::Null) if tools.is_empty() => ToolChoice::None,
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => {
                return Err(wrong_choice(
                    "`tool_choice` must be `auto`, `none`, `required` or name a function".into(),
                ));
            }
        },
        Some(Value::Object(named)) => {
            let (choice, names) = named_choice(named)?;
            let unknown = |name: &&str| !tools.iter().any(|tool| tool.name == *name);
            if let Some(name) = names.iter().copied().find(|name| unknown(name)) {
                let shown: String = name.chars().take(80).collect();
                return Err(wrong_choice(format!(
                    "`tool_choice` names `{shown}`, which is none of `tools`"
                )));
            }
            tools.retain(|tool| names.contains(&tool.name.as_str()));
            choice
        }
        Some(_) => {
            return Err(wrong_choice(
                "`tool_choice` must be a string or object".into(),
            ));
        }
    };
    if choice == ToolChoice::Required && tools.is_empty() {
        return Err(wrong_choice("`tool_choice` needs `tools`".into()));
    }
    let parallel = match body.get("parallel_tool_calls") {
        None | Some(Value::Null) => true,
        Some(_) => params::flag(body, "parallel_tool_calls")?,
    };
    Ok(Tools {
        tools,
        choice,
        parallel,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_of(body: Value) -> Result<Tools, HttpError> {
        read(body.as_object().unwrap())
    }

    #[test]
    fn choices_decide_what_is_offered() {
        let two = json!([
            {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}},
            {"type": "function", "name": "b"},
        ]);
        let offered = |choice: Value| {
            let tools = read_of(json!({"tools": two, "tool_choice": choice})).unwrap();
            (tools.offered().len(), tools.is_required())
        };
        assert_eq!(offered(Value::Null), (2, false));
        assert_eq!(offered(json!("none")), (0, false));
        assert_eq!(offered(json!("required")), (2, true));
        let named = json!({"type": "function", "function": {"name": "b"}});
        assert_eq!(offered(named), (1, true));
        assert_eq!(offered(json!({"type": "function", "name": "a"})), (1, true));
        let listed = json!([{"type": "function", "function": {"name": "b"}}]);
        let chat = |mode: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": listed}});
        assert_eq!(offered(chat("auto")), (1, false));
        assert_eq!(offered(chat("required")), (1, true));
        let listed = json!([{"type": "function", "name": "a"}, {"type": "function", "name": "b"}]);
        let responses = json!({"type": "allowed_tools", "mode": "auto", "tools": listed});
        assert_eq!(offered(responses), (2, false));
        assert!(!read_of(json!({})).unwrap().is_offered());
    }

    #[test]
    fn what_is_no_tool_is_refused() {
        let chosen = |choice: Value| json!({"tools": [{"type": "function", "name": "a"}], "tool_choice": choice});
        for bad in [
            json!({"tools": 5}),
            json!({"tools": [{"type": "web_search"}]}),
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            json!({"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]}),
            json!({"tool_choice": "required"}),
            json!({"tool_choice": "always"}),
            json!({"tools": [], "tool_choice": {"function": {"name": "x"}}}),
            json!({"parallel_tool_calls": 3}),
            chosen(json!({"type": "custom", "custom": {"name": "a"}})),
            chosen(json!({"type": "function", "name": "b"})),
            chosen(json!({"type": "allowed_tools", "mode": "none", "tools": [{"name": "a"}]})),
            chosen(json!({"type": "allowed_tools", "mode": "auto", "tools": []})),
            chosen(
                json!({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "a"}, {"name": "b"}]}),
            ),
        ] {
            assert!(read_of(bad.clone()).is_err(), "{bad}");
        }
    }
}
