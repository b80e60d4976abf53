//! `response_format` and `tool_choice` as grammars that an answer is held to.

use assay_text::{Grammar, TextError, ToolFormat};
use serde_json::Value;

use super::Language;
use super::tools::Tools;
use crate::HttpError;

const NAME: &str = "response_format";

fn refused(error: TextError) -> HttpError {
    HttpError::invalid(NAME, error.to_string())
}

/// The grammar of an answer, if it is constrained.
pub(crate) fn read(
    language: &Language,
    format: Option<&Value>,
    tools: &Tools,
) -> Result<Option<Grammar>, HttpError> {
    let format = match format {
        None | Some(Value::Null) => None,
        Some(format) => grammar(format)?,
    };
    if tools.is_required() {
        if format.is_some() {
            return Err(HttpError::invalid(
                "tool_choice",
                "an answer can't be both a tool call and in `response_format`",
            ));
        }
        if language.tools != ToolFormat::Tagged {
            return Err(HttpError::invalid(
                "tool_choice",
                "this model's form of tool calls can't be demanded; `auto` works",
            ));
        }
        return Grammar::tool_calls(tools.offered(), tools.parallel)
            .map(Some)
            .map_err(|error| HttpError::invalid("tools", error.to_string()));
    }
    Ok(format)
}

fn grammar(format: &Value) -> Result<Option<Grammar>, HttpError> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Grammar::json_object())),
        Some("json_schema") => {
            let schema = format
                .get("json_schema")
                .and_then(|named| named.get("schema"));
            let schema = schema.filter(|schema| schema.is_object()).ok_or_else(|| {
                HttpError::invalid(NAME, "`json_schema.schema` must be a JSON schema")
            })?;
            Grammar::json_schema(schema).map(Some).map_err(refused)
        }
        _ => Err(HttpError::invalid(
            NAME,
            "`type` must be `text`, `json_object` or `json_schema`",
        )),
    }
}
