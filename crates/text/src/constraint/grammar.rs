//! What an answer is constrained to, with bytes that can be hashed.

use serde_json::{Map, Value, json};

use crate::{TextError, Tool};

/// Largest grammar, bytes.
const MAX_GRAMMAR_BYTES: usize = 1 << 18;
/// Depth of a schema.
const MAX_DEPTH: usize = 64;
/// Regular expressions that a schema may have if it can intersect them: the cost of an intersection doubles with each
/// (10 take milliseconds, 20 did not end within minutes and 15 GB).
const MAX_INTERSECTED: usize = 10;
/// First byte of the encoding.
const VERSION: u8 = 1;
/// Spaces, tabs and newlines in a row inside JSON: small models would fill the whole context with them.
const MAX_WHITESPACE: &str = r"[ \n\r\t]{1,40}";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    JsonObject,
    JsonSchema,
    Lark,
}

/// A grammar. Its canonical bytes are `version 1 ∥ kind ∥ text`: kind 0 any JSON object (no text), kind 1 a JSON schema
/// (compact JSON, keys in the client's order, which is the order of the answer), kind 2 a grammar of `llguidance`
/// (Lark syntax).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    kind: Kind,
    text: String,
}

impl Grammar {
    /// Any JSON object (`response_format` `json_object`).
    #[must_use]
    pub const fn json_object() -> Self {
        Self {
            kind: Kind::JsonObject,
            text: String::new(),
        }
    }

    /// JSON that obeys a schema; `oneOf` is read as `anyOf`.
    ///
    /// # Errors
    /// [`TextError::Limit`] above 256 KiB, 64 levels, or 10 patterns that may be intersected; [`TextError::Grammar`] when it's neither an object nor a bool.
    /// Whether the schema can be satisfied shows in [`Constrainer::constrain`](crate::Constrainer::constrain).
    pub fn json_schema(schema: &Value) -> Result<Self, TextError> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err(TextError::grammar("a JSON schema is an object or a bool"));
        }
        check_depth(schema, 0)?;
        check_patterns(schema)?;
        let text = schema.to_string();
        TextError::limit(
            "size of the grammar in bytes",
            text.len(),
            MAX_GRAMMAR_BYTES,
        )?;
        Ok(Self {
            kind: Kind::JsonSchema,
            text,
        })
    }

    /// Calls of the given tools in the tagged form of [`ToolFormat::Tagged`](crate::ToolFormat::Tagged): exactly one, or
    /// one or more.
    ///
    /// # Errors
    /// As [`json_schema`](Self::json_schema); [`TextError::Grammar`] without tools.
    pub fn tool_calls(tools: &[Tool], several: bool) -> Result<Self, TextError> {
        if tools.is_empty() {
            return Err(TextError::grammar(
                "a tool call is demanded but no tool is offered",
            ));
        }
        let mut text = format!(
            "start: call{}\ncall: \"<tool_call>\\n\" body \"\\n</tool_call>\"\nbody: ",
            if several { " (\"\\n\" call)*" } else { "" }
        );
        for index in 0..tools.len() {
            text.push_str(&format!(
                "{}tool_{index}",
                if index > 0 { " | " } else { "" }
            ));
        }
        for (index, tool) in tools.iter().enumerate() {
            check_depth(&tool.parameters, 0)?;
            check_patterns(&tool.parameters)?;
            let arguments = match &tool.parameters {
                Value::Object(_) => move_references(&tool.parameters),
                _ => json!({"type": "object"}),
            };
            let schema = json!({
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": false,
            });
            text.push_str(&format!(
                "\ntool_{index}: %json {}",
                bounded_whitespace(schema)
            ));
        }
        text.push('\n');
        Self::lark(text)
    }

    /// A grammar in the Lark syntax of `llguidance`.
    ///
    /// # Errors
    /// [`TextError::Limit`] above 256 KiB; syntax shows in [`Constrainer::constrain`](crate::Constrainer::constrain).
    pub fn lark(text: String) -> Result<Self, TextError> {
        TextError::limit(
            "size of the grammar in bytes",
            text.len(),
            MAX_GRAMMAR_BYTES,
        )?;
        Ok(Self {
            kind: Kind::Lark,
            text,
        })
    }

    /// Canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::JsonObject => 0,
            Kind::JsonSchema => 1,
            Kind::Lark => 2,
        };
        let mut bytes = vec![VERSION, kind];
        bytes.extend_from_slice(self.text.as_bytes());
        bytes
    }

    /// Reads canonical bytes; every other encoding of the same grammar is refused.
    ///
    /// # Errors
    /// [`TextError::Grammar`], [`TextError::Limit`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        let [version, kind, text @ ..] = bytes else {
            return Err(TextError::grammar(format_args!(
                "{} bytes, at least 2 expected",
                bytes.len()
            )));
        };
        if *version != VERSION {
            return Err(TextError::grammar(format_args!(
                "version {version}, expected {VERSION}"
            )));
        }
        TextError::limit(
            "size of the grammar in bytes",
            text.len(),
            MAX_GRAMMAR_BYTES,
        )?;
        let text = std::str::from_utf8(text).map_err(TextError::grammar)?;
        let grammar = match kind {
            0 => Self::json_object(),
            1 => Self::json_schema(&serde_json::from_str(text).map_err(TextError::grammar)?)?,
            2 => Self::lark(text.to_owned())?,
            other => {
                return Err(TextError::grammar(format_args!(
                    "kind {other}, expected 0 to 2"
                )));
            }
        };
        if grammar.text != text {
            return Err(TextError::grammar(
                "the schema is not in compact form, or repeats a key",
            ));
        }
        Ok(grammar)
    }

    /// For the library.
    pub(super) fn compile(&self) -> Result<llguidance::api::TopLevelGrammar, TextError> {
        use llguidance::api::TopLevelGrammar;
        let schema = match self.kind {
            Kind::Lark => return Ok(TopLevelGrammar::from_lark(self.text.clone())),
            Kind::JsonObject => json!({"type": "object"}),
            Kind::JsonSchema => serde_json::from_str(&self.text).map_err(TextError::grammar)?,
        };
        Ok(TopLevelGrammar::from_json_schema(bounded_whitespace(
            schema,
        )))
    }
}

/// Sets the library's options; a client's own are dropped.
fn bounded_whitespace(mut schema: Value) -> Value {
    if let Value::Object(map) = &mut schema {
        map.insert(
            "x-guidance".to_owned(),
            json!({"whitespace_pattern": MAX_WHITESPACE, "coerce_one_of": true}),
        );
    }
    schema
}

fn check_depth(value: &Value, depth: usize) -> Result<(), TextError> {
    TextError::limit("depth of the schema", depth, MAX_DEPTH)?;
    match value {
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_depth(item, depth + 1)),
        Value::Object(map) => map
            .values()
            .try_for_each(|item| check_depth(item, depth + 1)),
        _ => Ok(()),
    }
}

/// Bounds the regular expressions that the library may intersect.
fn check_patterns(schema: &Value) -> Result<(), TextError> {
    let (mut patterns, mut intersects) = (0, false);
    count_patterns(schema, &mut patterns, &mut intersects);
    if intersects {
        TextError::limit(
            "number of patterns in a schema that combines schemas",
            patterns,
            MAX_INTERSECTED,
        )?;
    }
    Ok(())
}

/// Counts expressions, and finds whether two may apply to one text: `allOf`, several patterns for properties, or a
/// reference or choice beside other keywords.
fn count_patterns(value: &Value, patterns: &mut usize, intersects: &mut bool) {
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| count_patterns(item, patterns, intersects)),
        Value::Object(map) => {
            for (key, item) in map {
                match key.as_str() {
                    "pattern" | "format" | "not" | "propertyNames" => *patterns += 1,
                    "patternProperties" => {
                        *patterns += item.as_object().map_or(1, Map::len);
                        *intersects = true;
                    }
                    "allOf" => *intersects = true,
                    "$ref" | "anyOf" | "oneOf" if map.len() > 1 => *intersects = true,
                    _ => {}
                }
                count_patterns(item, patterns, intersects);
            }
        }
        _ => {}
    }
}

/// The parameters become a part of a larger schema, so references from their root get its path.
fn move_references(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(move_references).collect()),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| {
                    let item = match item {
                        Value::String(path) if key == "$ref" && path.starts_with('#') => {
                            Value::String(format!(
                                "#/properties/arguments{}",
                                path.trim_start_matches('#')
                            ))
                        }
                        other => move_references(other),
                    };
                    (key.clone(), item)
                })
                .collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}
