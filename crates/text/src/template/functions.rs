//! What chat templates expect of their environment beyond Jinja itself, as the `transformers` library sets it up.

use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

/// Steps of the engine for one rendering, per message and at the start.
pub(super) const FUEL: u64 = 100_000;
/// Bytes that one rendering may print, into the prompt or into variables.
const MAX_PRINTED_BYTES: usize = 8 << 20;
/// Depth of calls.
const DEPTH: usize = 64;
/// Marks the error of `raise_exception`.
pub(super) const REFUSED: &str = "refused by the template: ";

pub(super) fn environment(now: Option<u64>) -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false)
        .build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_recursion_limit(DEPTH);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    // blocks that are captured (`set`, macros) don't reach the output, so what is printed is bounded here too
    let printed = AtomicUsize::new(0);
    environment.set_formatter(
        move |out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value| {
            let length = format_like_python(out, value)?;
            if printed.fetch_add(length, Ordering::Relaxed) > MAX_PRINTED_BYTES {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("more than {MAX_PRINTED_BYTES} bytes printed"),
                ));
            }
            Ok(())
        },
    );
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{REFUSED}{message}"),
            ))
        },
    );
    environment.add_function(
        "strftime_now",
        move |format: String| -> Result<String, Error> {
            let now = now.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidOperation,
                    "the template asks for the date, and none was given",
                )
            })?;
            super::time::format_utc(now, &format)
                .map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
        },
    );
    environment.add_filter("tojson", to_json);
    environment
}

/// `none`, `true` and `false` print as Python prints them. Gives the number of bytes.
fn format_like_python(out: &mut Output<'_>, value: &Value) -> Result<usize, Error> {
    let text = match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        ValueKind::Undefined => return Ok(0),
        _ => value.to_string(),
    };
    out.write_str(&text).map_err(Error::from)?;
    Ok(text.len())
}

/// `json.dumps(x, ensure_ascii=False, indent=…)`: spaces after `:` and `,` without an indent, and nothing escaped for HTML.
fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<usize>>("indent")? {
        Some(indent) => Some(indent),
        None => indent,
    };
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    let _: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut text = String::new();
    super::json::write(&json, indent.map(|indent| indent.min(16)), 0, &mut text);
    Ok(text)
}
