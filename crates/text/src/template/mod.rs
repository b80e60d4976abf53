//! Chat templates.

mod functions;
mod guard;
mod json;
mod time;

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::ErrorKind;
use serde_json::{Map, Value, json};

use crate::error::shorten;
use crate::{Message, Role, Segment, TextError, Tokenizer, plain_text};
use guard::Guard;

/// Longest template, bytes; the longest in use have about 20,000.
const MAX_TEMPLATE_BYTES: usize = 1 << 18;
/// Most messages of a conversation.
const MAX_MESSAGES: usize = 4096;
/// Most tools.
const MAX_TOOLS: usize = 256;
/// Longest conversation with its tools, bytes of text.
const MAX_CONVERSATION_BYTES: usize = 1 << 20;
/// Longest prompt, bytes.
const MAX_OUTPUT_BYTES: usize = 2 << 20;
/// Depth of tools and arguments.
const MAX_DEPTH: usize = 64;

/// Texts of the tokens that templates name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// `bos_token`.
    pub bos: String,
    /// `eos_token`.
    pub eos: String,
    /// `pad_token`.
    pub pad: String,
    /// `unk_token`.
    pub unknown: String,
}

/// How to render.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// End with the start of the assistant's turn (`add_generation_prompt`); default true.
    pub generation_prompt: bool,
    /// Seconds since 1970 (UTC) for templates with `strftime_now`; without it those fail.
    pub now: Option<u64>,
    /// More variables, e.g. `enable_thinking`; untrusted texts. They can't replace `messages`, `tools` and the tokens.
    pub variables: Map<String, Value>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            generation_prompt: true,
            now: None,
            variables: Map::new(),
        }
    }
}

/// A model's chat template; cheap to clone.
///
/// Rendering has a budget of steps, and its output a limit. Templates come with the model (their hash is in its manifest), so
/// they are trusted to mark turns, but not to end.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: String,
    tokens: TemplateTokens,
    tokenizer: Tokenizer,
    knows_tools: bool,
    private_use: BTreeSet<char>,
}

impl ChatTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    /// [`TextError::Template`] when it isn't Jinja that is known here, [`TextError::Limit`].
    pub fn new(
        source: &str,
        tokenizer: &Tokenizer,
        tokens: TemplateTokens,
    ) -> Result<Self, TextError> {
        TextError::limit(
            "length of the chat template in bytes",
            source.len(),
            MAX_TEMPLATE_BYTES,
        )?;
        functions::environment(None)
            .template_from_str(source)
            .map_err(|error| template_error(&error))?;
        let mut private_use = BTreeSet::new();
        guard::private_use(source, &mut private_use);
        for text in [&tokens.bos, &tokens.eos, &tokens.pad, &tokens.unknown] {
            guard::private_use(text, &mut private_use);
        }
        for (token, _) in tokenizer.added() {
            guard::private_use(token, &mut private_use);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                source: source.to_owned(),
                tokens,
                tokenizer: tokenizer.clone(),
                knows_tools: source.contains("tools"),
                private_use,
            }),
        })
    }

    /// The text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Whether the template writes tools itself. If not, [`render`](Self::render) explains them in the system message.
    #[must_use]
    pub fn knows_tools(&self) -> bool {
        self.inner.knows_tools
    }

    /// The prompt of a conversation, cut by origin; give it to [`Tokenizer::encode_prompt`].
    ///
    /// # Errors
    /// [`TextError::Conversation`] when the template refuses (`raise_exception`), [`TextError::Template`] when it fails,
    /// [`TextError::Message`] and [`TextError::Limit`] for what no template can take.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[crate::Tool],
        options: &RenderOptions,
    ) -> Result<Vec<Segment>, TextError> {
        TextError::limit("number of messages", messages.len(), MAX_MESSAGES)?;
        TextError::limit("number of tools", tools.len(), MAX_TOOLS)?;
        let inner = &*self.inner;
        let adapted;
        let (messages, shown_tools) = if inner.knows_tools {
            (messages, tools)
        } else {
            adapted = crate::tools::explain(messages, tools);
            (adapted.as_slice(), &[][..])
        };
        let list = messages.iter().map(message_value).collect::<Vec<_>>();
        let tools = shown_tools.iter().map(tool_value).collect::<Vec<_>>();

        let mut taken = inner.private_use.clone();
        let mut bytes = 0;
        for value in list.iter().chain(&tools).chain(options.variables.values()) {
            survey(value, 0, &mut bytes, &mut taken)?;
        }
        TextError::limit(
            "length of the conversation in bytes",
            bytes,
            MAX_CONVERSATION_BYTES,
        )?;
        let guard = Guard::new(inner.tokenizer.added(), &taken)?;

        let strict = |text: &str| guard.strict(text);
        let tools = Value::Array(tools.iter().map(|tool| replace(tool, &strict)).collect());
        let variables: Map<String, Value> = options
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), replace(value, &strict)))
            .collect();
        let all_strict: Vec<Value> = list
            .iter()
            .map(|message| replace(message, &strict))
            .collect();
        let prompt = guard.split(&self.run(all_strict.clone(), &tools, &variables, options)?);

        if !messages
            .iter()
            .any(|message| message.role == Role::Assistant)
        {
            return Ok(prompt);
        }
        // the model's own words keep their marks, unless that changes which control tokens there are
        let own_words = list
            .iter()
            .zip(messages)
            .zip(all_strict)
            .map(|((value, message), strict)| match message.role {
                Role::Assistant => replace(value, &|text: &str| guard.lenient(text)),
                _ => strict,
            })
            .collect();
        match self.run(own_words, &tools, &variables, options) {
            Ok(text) => {
                let own = guard.split(&text);
                let same = self.control_tokens(&own) == self.control_tokens(&prompt);
                Ok(if same { own } else { prompt })
            }
            Err(_) => Ok(prompt),
        }
    }

    fn run(
        &self,
        messages: Vec<Value>,
        tools: &Value,
        variables: &Map<String, Value>,
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let inner = &*self.inner;
        let mut environment = functions::environment(options.now);
        let parts = 1 + messages.len() + tools.as_array().map_or(0, Vec::len);
        environment.set_fuel(Some(functions::FUEL.saturating_mul(parts as u64)));
        let mut context = variables.clone();
        let tools = match tools.as_array() {
            Some(list) if !list.is_empty() => tools.clone(),
            _ => Value::Null,
        };
        context.insert("messages".to_owned(), Value::Array(messages));
        context.insert("tools".to_owned(), tools);
        context.insert(
            "add_generation_prompt".to_owned(),
            Value::Bool(options.generation_prompt),
        );
        for (name, text) in [
            ("bos_token", &inner.tokens.bos),
            ("eos_token", &inner.tokens.eos),
            ("pad_token", &inner.tokens.pad),
            ("unk_token", &inner.tokens.unknown),
        ] {
            context.insert(name.to_owned(), Value::from(text.as_str()));
        }
        let template = environment
            .template_from_str(&inner.source)
            .map_err(|error| template_error(&error))?;
        let mut out = Bounded::default();
        let context = minijinja::Value::from(minijinja::value::Serde(context));
        let result = template.render_captured_to(context, &mut out).map(|_| ());
        TextError::limit(
            "length of the prompt in bytes",
            out.wanted,
            MAX_OUTPUT_BYTES,
        )?;
        result.map_err(|error| template_error(&error))?;
        String::from_utf8(out.bytes).map_err(|error| TextError::Template {
            line: 0,
            why: error.to_string(),
        })
    }

    /// Which control tokens a prompt has.
    fn control_tokens(&self, segments: &[Segment]) -> Vec<u32> {
        self.inner.tokenizer.control_tokens(segments)
    }

    /// The prompt as one text, for people.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_text(
        &self,
        messages: &[Message],
        tools: &[crate::Tool],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        Ok(plain_text(&self.render(messages, tools, options)?))
    }
}

/// Keeps up to the limit and counts the rest.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    wanted: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        self.wanted = self.wanted.saturating_add(part.len());
        if self.wanted > MAX_OUTPUT_BYTES {
            return Err(std::io::Error::other("the prompt is too long"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn message_value(message: &Message) -> Value {
    let mut map = Map::new();
    map.insert("role".to_owned(), Value::from(message.role.name()));
    map.insert("content".to_owned(), Value::from(message.content.as_str()));
    for (key, text) in [
        ("name", &message.name),
        ("tool_call_id", &message.tool_call_id),
        ("reasoning_content", &message.reasoning),
    ] {
        if let Some(text) = text {
            map.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    if !message.tool_calls.is_empty() {
        let calls = message
            .tool_calls
            .iter()
            .map(|call| {
                let arguments = serde_json::from_str::<Value>(&call.arguments)
                    .ok()
                    .filter(Value::is_object)
                    .unwrap_or_else(|| Value::from(call.arguments.as_str()));
                json!({
                    "id": call.id, "type": "function",
                    "function": {"name": call.name, "arguments": arguments},
                })
            })
            .collect();
        map.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Value::Object(map)
}

/// A tool in the form of the OpenAI interface, which templates print.
pub(crate) fn tool_value(tool: &crate::Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), Value::from(tool.name.as_str()));
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), Value::from(description.as_str()));
    }
    if !tool.parameters.is_null() {
        function.insert("parameters".to_owned(), tool.parameters.clone());
    }
    json!({"type": "function", "function": function})
}

/// JSON as templates print it.
pub(crate) fn json_text(value: &Value) -> String {
    let mut text = String::new();
    json::write(value, None, 0, &mut text);
    text
}

/// Counts text and finds private-use characters; refuses what is nested too deep.
fn survey(
    value: &Value,
    depth: usize,
    bytes: &mut usize,
    taken: &mut BTreeSet<char>,
) -> Result<(), TextError> {
    TextError::limit("depth of a tool or its arguments", depth, MAX_DEPTH)?;
    match value {
        Value::String(text) => {
            *bytes += text.len();
            guard::private_use(text, taken);
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| {
            *bytes += 2;
            survey(item, depth + 1, bytes, taken)
        }),
        Value::Object(map) => map.iter().try_for_each(|(key, item)| {
            *bytes += 4 + key.len();
            guard::private_use(key, taken);
            survey(item, depth + 1, bytes, taken)
        }),
        _ => {
            *bytes += 4;
            Ok(())
        }
    }
}

/// Words of the interface itself, which templates compare with.
const OUR_WORDS: [&str; 16] = [
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "reasoning_content",
    "id",
    "type",
    "function",
    "arguments",
    "parameters",
    "description",
    "system",
    "user",
    "assistant",
    "tool",
];

/// Changes every text and every key of a value, save the words of the interface.
fn replace(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    let word = |text: &str| match OUR_WORDS.contains(&text) {
        true => text.to_owned(),
        false => change(text),
    };
    match value {
        Value::String(text) => Value::String(word(text)),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| replace(item, change)).collect())
        }
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| (word(key), replace(item, change)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn template_error(error: &minijinja::Error) -> TextError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        source = inner.source();
    }
    if let Some(message) = error
        .detail()
        .filter(|_| error.kind() == ErrorKind::InvalidOperation)
        .and_then(|detail| detail.strip_prefix(functions::REFUSED))
    {
        return TextError::Conversation {
            why: shorten(message),
        };
    }
    TextError::Template {
        line: error.line().unwrap_or(0),
        why: shorten(&why),
    }
}
