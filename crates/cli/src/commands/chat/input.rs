//! What a person types: an editor on a terminal, plain lines elsewhere; text over several lines between `"""`.

use std::{
    borrow::Cow,
    io::{BufRead, IsTerminal},
    path::PathBuf,
};

use rustyline::{
    Context, Editor, Helper,
    completion::Completer,
    config::{Behavior, Config},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::slash;

/// Encloses a text of several lines.
const FENCE: &str = "\"\"\"";
/// Lines of earlier sessions that the arrow keys find.
const HISTORY: usize = 2_000;
/// Longest text that is read from a pipe, bytes.
const MAX_TEXT: usize = 4 << 20;

/// One turn of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// Where turns come from.
pub(super) enum Reader {
    Terminal {
        editor: Box<Editor<Hints, FileHistory>>,
        history: Option<PathBuf>,
    },
    Lines,
}

impl Reader {
    /// An editor where a person sits, lines where a program writes.
    ///
    /// # Errors
    /// When the terminal can't be set up.
    pub(super) fn open(history: Option<PathBuf>) -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Self::Lines);
        }
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .history_ignore_space(true)
            .auto_add_history(false)
            .behavior(Behavior::Stdio)
            .bracketed_paste(true)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Hints));
        if let Some(path) = &history {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // none yet, or one of another format: begin anew
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal {
            editor: Box::new(editor),
            history,
        })
    }

    pub(super) const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Columns of the terminal.
    pub(super) fn width(&mut self) -> Option<usize> {
        match self {
            Self::Terminal { editor, .. } => editor.dimensions().map(|(w, _)| usize::from(w)),
            Self::Lines => None,
        }
    }

    /// The next turn.
    ///
    /// # Errors
    /// When the terminal or the pipe fails.
    pub(super) fn next(&mut self) -> anyhow::Result<Typed> {
        match self {
            Self::Lines => Ok(lines(&mut std::io::stdin().lock())?),
            Self::Terminal { editor, history } => match editor.readline(">>> ") {
                Ok(text) => {
                    if !text.trim().is_empty() {
                        editor.add_history_entry(text.as_str())?;
                        if let Some(path) = history {
                            let _ = editor.append_history(path);
                        }
                    }
                    Ok(Typed::Text(unfenced(&text).to_owned()))
                }
                Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(e) => Err(e.into()),
            },
        }
    }
}

/// A line, or all lines between fences. The end of the pipe closes an open fence.
fn lines(from: &mut impl BufRead) -> std::io::Result<Typed> {
    let mut text = String::new();
    loop {
        let mut bytes = Vec::new();
        let end = from.read_until(b'\n', &mut bytes)? == 0;
        if end && text.is_empty() {
            return Ok(Typed::End);
        }
        text.push_str(&String::from_utf8_lossy(&bytes));
        if end || !is_open(&text) || text.len() > MAX_TEXT {
            return Ok(Typed::Text(
                unfenced(text.trim_end_matches(['\r', '\n'])).to_owned(),
            ));
        }
    }
}

/// Whether a fence was opened and not yet closed.
fn is_open(text: &str) -> bool {
    text.trim_start()
        .strip_prefix(FENCE)
        .is_some_and(|rest| !rest.contains(FENCE))
}

/// The text without its fences.
fn unfenced(text: &str) -> &str {
    match text.trim().strip_prefix(FENCE) {
        Some(rest) => rest
            .strip_suffix(FENCE)
            .unwrap_or(rest)
            .trim_matches(['\r', '\n']),
        None => text.trim(),
    }
}

/// Completion of commands, and Enter that waits for the closing fence.
pub(super) struct Hints;

impl Helper for Hints {}

impl Hinter for Hints {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        line.is_empty().then(|| "a message, or /help".to_owned())
    }
}

impl Highlighter for Hints {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Owned(format!("\x1b[36;1m{prompt}\x1b[0m"))
    }
}

impl Validator for Hints {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_open(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

impl Completer for Hints {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or_default();
        Ok((0, slash::completions(typed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(pipe: &str) -> Vec<String> {
        let mut from = pipe.as_bytes();
        let mut turns = Vec::new();
        while let Ok(Typed::Text(text)) = lines(&mut from) {
            turns.push(text);
        }
        turns
    }

    #[test]
    fn a_line_is_a_turn_and_fences_hold_many() {
        assert_eq!(turns("one\r\n two \nthree"), ["one", "two", "three"]);
        assert_eq!(turns("\"\"\"a\nb\"\"\"\nc\n"), ["a\nb", "c"]);
        assert_eq!(turns("\"\"\"\n  a\n\n  b\n\"\"\"\n"), ["  a\n\n  b"]);
        assert_eq!(turns("\"\"\"never\nclosed\n"), ["never\nclosed"]);
        assert_eq!(
            turns("\"\"\"one line\"\"\"\nsay \"\"\" here\n"),
            ["one line", "say \"\"\" here"]
        );
        assert_eq!(turns(""), Vec::<String>::new());
    }
}
