//! JSON as Python writes it.

use serde_json::Value;

/// As `json.dumps(value, ensure_ascii=False, indent=indent)`. Depth is bounded by that of the parsed value.
pub(super) fn write(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) {
    match value {
        Value::Array(items) => {
            let parts = items.iter().map(|item| (None, item));
            list(parts, items.is_empty(), ('[', ']'), indent, depth, out);
        }
        Value::Object(map) => {
            let parts = map.iter().map(|(key, item)| (Some(key), item));
            list(parts, map.is_empty(), ('{', '}'), indent, depth, out);
        }
        Value::String(text) => string(text, out),
        other => out.push_str(&other.to_string()),
    }
}

fn list<'v>(
    parts: impl Iterator<Item = (Option<&'v String>, &'v Value)>,
    empty: bool,
    (open, close): (char, char),
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) {
    out.push(open);
    for (index, (key, item)) in parts.enumerate() {
        if index > 0 {
            out.push(',');
            if indent.is_none() {
                out.push(' ');
            }
        }
        line(indent, depth + 1, out);
        if let Some(key) = key {
            string(key, out);
            out.push_str(": ");
        }
        write(item, indent, depth + 1, out);
    }
    if !empty {
        line(indent, depth, out);
    }
    out.push(close);
}

fn line(indent: Option<usize>, depth: usize, out: &mut String) {
    if let Some(indent) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn string(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_python() {
        let value = serde_json::json!({"a": [1, 2.5, "é<\n\""], "b": {}, "c": null, "d": [], "e": {"f": true}});
        let text = |indent| {
            let mut out = String::new();
            write(&value, indent, 0, &mut out);
            out
        };
        assert_eq!(
            text(None),
            r#"{"a": [1, 2.5, "é<\n\""], "b": {}, "c": null, "d": [], "e": {"f": true}}"#
        );
        assert_eq!(
            text(Some(2)),
            "{\n  \"a\": [\n    1,\n    2.5,\n    \"é<\\n\\\"\"\n  ],\n  \"b\": {},\n  \"c\": null,\n  \"d\": [],\n  \"e\": {\n    \"f\": true\n  }\n}"
        );
    }
}
