//! Conversations, as templates see them.

use serde_json::Value;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Rules of the conversation (`developer` of newer clients too).
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Result of a tool.
    Tool,
}

impl Role {
    /// Name in templates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    /// `system`, `developer`, `user`, `assistant`, `tool`, `function`.
    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "system" | "developer" => Self::System,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" | "function" => Self::Tool,
            other => {
                let shown = crate::error::shorten(other);
                return Err(format!(
                    "role `{shown}` is none of system, developer, user, assistant, tool"
                ));
            }
        })
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who.
    pub role: Role,
    /// Text; empty if there are only tool calls.
    pub content: String,
    /// Name of the speaker or of the tool.
    pub name: Option<String>,
    /// Calls that the assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's result answers.
    pub tool_call_id: Option<String>,
    /// Thoughts of the assistant, for templates that know `reasoning_content`.
    pub reasoning: Option<String>,
}

impl Message {
    /// A message of text alone.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning: None,
        }
    }
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Id given by the server; may be empty.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Arguments as JSON text; text that is not JSON is given to the template as a string.
    pub arguments: String,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Name of the function.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments; null for none.
    pub parameters: Value,
}
