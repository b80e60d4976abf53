//! Commands inside a chat, all of which begin with a slash.

use crate::talk::Settings;

/// What can be set, with what it takes and does.
const SETTINGS: [(&str, &str); 9] = [
    (
        "system",
        "TEXT        what the model is told to be; `/set system` alone removes it",
    ),
    (
        "temperature",
        "0 to 2      0 always takes the likeliest token",
    ),
    (
        "top_p",
        "0 to 1      keep the likeliest tokens that together reach it",
    ),
    (
        "top_k",
        "N           keep the N likeliest tokens, 0 keeps all",
    ),
    (
        "min_p",
        "0 to 1      keep tokens at least so likely as this part of the likeliest",
    ),
    ("repeat_penalty", "above 0     1 does not punish repetition"),
    (
        "seed",
        "N           the same seed and messages give the same answer",
    ),
    ("max_tokens", "N           longest answer"),
    ("stop", "TEXT        end the answer before this text"),
];

/// All commands with what they do.
const COMMANDS: [(&str, &str); 9] = [
    ("/help", "this list"),
    (
        "/set",
        "NAME VALUE   change a setting; `/set` alone lists them",
    ),
    ("/show", "the model, the settings, what was spent"),
    ("/clear", "forget the conversation so far"),
    ("/retry", "throw the last answer away and ask again"),
    ("/receipt", "where the last receipt is kept"),
    (
        "/verify",
        "check the last receipt: signature, commitments, replay",
    ),
    ("/history", "print the conversation"),
    ("/bye", "leave (also Ctrl-D)"),
];

/// A command as typed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slash {
    Help,
    Set(String, String),
    Settings,
    Show,
    Clear,
    Retry,
    Receipt,
    Verify,
    History,
    Bye,
    Unknown(String),
}

impl Slash {
    /// `None` for what is no command.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.starts_with('/') || text.contains('\n') {
            return None;
        }
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (setting, value) = rest
            .trim()
            .split_once(char::is_whitespace)
            .unwrap_or((rest.trim(), ""));
        // `/set parameter NAME VALUE` is what users of ollama type
        let (setting, value) = match setting {
            "parameter" => value
                .trim()
                .split_once(char::is_whitespace)
                .unwrap_or((value.trim(), "")),
            _ => (setting, value),
        };
        Some(match name {
            "/help" | "/?" => Self::Help,
            "/set" if setting.is_empty() => Self::Settings,
            "/set" => Self::Set(setting.to_owned(), value.trim().to_owned()),
            "/show" | "/info" => Self::Show,
            "/clear" => Self::Clear,
            "/retry" => Self::Retry,
            "/receipt" => Self::Receipt,
            "/verify" => Self::Verify,
            "/history" => Self::History,
            "/bye" | "/exit" | "/quit" => Self::Bye,
            // a path or a sentence that begins with a slash is a message
            _ if name
                .get(1..)
                .is_some_and(|n| n.is_empty() || n.contains('/')) =>
            {
                return None;
            }
            _ => Self::Unknown(name.to_owned()),
        })
    }
}

/// Text of `/help`.
pub(super) fn help() -> String {
    let mut lines: Vec<String> = COMMANDS
        .iter()
        .map(|(name, about)| format!("  {name:<10} {about}"))
        .collect();
    lines.push(String::new());
    lines.push(
        "  \"\"\" begins and ends a text of several lines; pasted text may have them too".into(),
    );
    lines.push("  Ctrl-C stops an answer (nothing is charged), Ctrl-D leaves".into());
    lines.join("\n")
}

/// Commands and settings that begin with what was typed.
pub(super) fn completions(typed: &str) -> Vec<String> {
    let commands = COMMANDS.iter().map(|(name, _)| (*name).to_owned());
    let settings = SETTINGS.iter().map(|(name, _)| format!("/set {name} "));
    commands
        .chain(settings)
        .filter(|c| typed.starts_with('/') && c.starts_with(typed))
        .filter(|c| typed.starts_with("/set ") || !c.starts_with("/set "))
        .collect()
}

fn number<T: std::str::FromStr>(
    name: &str,
    text: &str,
    allowed: impl Fn(&T) -> bool,
) -> Result<Option<T>, String> {
    if text.is_empty() || text == "default" {
        return Ok(None);
    }
    match text.parse::<T>() {
        Ok(value) if allowed(&value) => Ok(Some(value)),
        _ => Err(format!("`{text}` can't be `{name}`: {}", about(name))),
    }
}

fn about(name: &str) -> String {
    SETTINGS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, about)| about.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}

/// Changes a setting. An empty value, or `default`, leaves it to the gateway again. The system text is the caller's.
///
/// # Errors
/// Words for the person.
pub(super) fn set(settings: &mut Settings, name: &str, value: &str) -> Result<(), String> {
    let part = |v: &f64| (0.0..=1.0).contains(v);
    match name {
        "temperature" => {
            settings.temperature = number(name, value, |v: &f64| (0.0..=2.0).contains(v))?;
        }
        "top_p" => settings.top_p = number(name, value, part)?,
        "top_k" => settings.top_k = number(name, value, |_| true)?,
        "min_p" => settings.min_p = number(name, value, part)?,
        "repeat_penalty" => {
            settings.repeat_penalty = number(name, value, |v: &f64| *v > 0.0 && *v <= 100.0)?;
        }
        "seed" => settings.seed = number(name, value, |_| true)?,
        "max_tokens" => settings.max_tokens = number(name, value, |v: &u32| *v > 0)?,
        "stop" => {
            settings.stop = match value {
                "" | "default" => Vec::new(),
                text => vec![text.to_owned()],
            };
        }
        _ => {
            let names: Vec<&str> = SETTINGS.iter().map(|(n, _)| *n).collect();
            return Err(format!(
                "no setting `{name}`; there are {}",
                names.join(", ")
            ));
        }
    }
    Ok(())
}

/// All settings with their values and what they do.
pub(super) fn list(settings: &Settings, system: &str) -> String {
    let shown = |name: &str| {
        let float = |v: Option<f64>| v.map(|v| v.to_string());
        match name {
            "system" => (!system.is_empty()).then(|| format!("\"{system}\"")),
            "temperature" => float(settings.temperature),
            "top_p" => float(settings.top_p),
            "top_k" => settings.top_k.map(|v| v.to_string()),
            "min_p" => float(settings.min_p),
            "repeat_penalty" => float(settings.repeat_penalty),
            "seed" => settings.seed.map(|v| v.to_string()),
            "max_tokens" => settings.max_tokens.map(|v| v.to_string()),
            _ => settings.stop.first().map(|v| format!("\"{v}\"")),
        }
    };
    let line = |(name, about): &(&str, &str)| {
        let value = shown(name)
            .map(|v| format!("   now {v}"))
            .unwrap_or_default();
        format!("  /set {name:<15} {about}{value}")
    };
    SETTINGS.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        let set = |n: &str, v: &str| Some(Slash::Set(n.into(), v.into()));
        for (typed, want) in [
            ("hello", None),
            ("/etc/passwd is a file", None),
            ("/ is a root", None),
            ("/bye", Some(Slash::Bye)),
            (" /clear ", Some(Slash::Clear)),
            ("/set", Some(Slash::Settings)),
            ("/set seed 7", set("seed", "7")),
            ("/set parameter seed 7", set("seed", "7")),
            ("/set system Be  brief.", set("system", "Be  brief.")),
            ("/set system", set("system", "")),
            ("/nonsense x", Some(Slash::Unknown("/nonsense".into()))),
        ] {
            assert_eq!(Slash::parse(typed), want, "{typed}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let mut settings = Settings::default();
        for (name, value, fine) in [
            ("temperature", "0.7", true),
            ("temperature", "3", false),
            ("temperature", "NaN", false),
            ("top_p", "1.5", false),
            ("top_k", "-1", false),
            ("top_k", "40", true),
            ("seed", "-3", true),
            ("max_tokens", "0", false),
            ("stop", "END", true),
            ("colour", "red", false),
        ] {
            assert_eq!(
                set(&mut settings, name, value).is_ok(),
                fine,
                "{name} {value}"
            );
        }
        assert_eq!(settings.temperature, Some(0.7));
        assert_eq!(set(&mut settings, "temperature", ""), Ok(()));
        assert_eq!(settings.temperature, None);
        let listed = list(&settings, "Be brief");
        assert!(
            listed.contains("now -3") && listed.contains("now \"Be brief\""),
            "{listed}"
        );
    }

    #[test]
    fn tab_completes() {
        assert_eq!(completions("/re"), ["/retry", "/receipt"]);
        assert_eq!(completions("/set te"), ["/set temperature "]);
        assert_eq!(completions("hello"), Vec::<String>::new());
    }
}
