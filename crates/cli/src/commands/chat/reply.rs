//! One answer on its way to the reader: words as they come, Ctrl-C, the line of figures below.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::runtime::Runtime;
use unicode_width::UnicodeWidthChar as _;

use crate::{
    receipts,
    shell::Shell,
    talk::{Talk, Told},
    units::group,
};

/// How an answer ended.
pub(crate) enum Reply {
    Whole(Box<Told>),
    /// The reader stopped it; this much had come.
    Stopped(String),
}

/// How words are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Not at all: the caller prints the whole.
    Nothing,
    /// As they come.
    Plain,
    /// As they come, broken between words to fit so many columns.
    Wrapped(usize),
}

/// Asks and shows the answer while it comes. Ctrl-C closes the connection, which cancels the answer.
///
/// # Errors
/// As [`Talk::ask`]; that of stdout when nobody reads it any more.
pub(crate) fn listen(
    runtime: &Runtime,
    talk: &Talk,
    body: &Value,
    show: Show,
    shell: &Shell,
) -> anyhow::Result<Reply> {
    let mut wrap = Wrap::new(match show {
        Show::Wrapped(width) => Some(width),
        _ => None,
    });
    let mut heard = String::new();
    let mut broken = None;
    let spinner = (show != Show::Nothing).then(|| shell.spinner("reading …"));
    let (closed, mut closing) = tokio::sync::mpsc::channel(1);
    let outcome = runtime.block_on(async {
        let hear = |text: &str| {
            if let Some(spinner) = &spinner {
                spinner.finish_and_clear();
            }
            heard.push_str(text);
            if show == Show::Nothing {
                return;
            }
            if let Err(e) = print(&wrap.push(text)) {
                broken = Some(e);
                let _ = closed.try_send(());
            }
        };
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            Some(()) = closing.recv() => None,
            told = talk.ask(body, hear) => Some(told),
        }
    });
    if let Some(spinner) = &spinner {
        spinner.finish_and_clear();
    }
    if let Some(e) = broken {
        return Err(e.into());
    }
    if show != Show::Nothing {
        print(&wrap.finish())?;
    }
    match outcome {
        Some(told) => Ok(Reply::Whole(Box::new(told?))),
        None => Ok(Reply::Stopped(heard)),
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The line below an answer.
pub(crate) fn figures(told: &Told) -> String {
    let mut parts = vec![format!(
        "{} {}",
        group(told.tokens),
        if told.tokens == 1 { "token" } else { "tokens" }
    )];
    if let Some(rate) = told.rate() {
        parts.push(format!("{rate:.1} tokens/s"));
    }
    if told.wait >= Duration::from_millis(100) {
        parts.push(format!("first after {:.1} s", told.wait.as_secs_f64()));
    }
    if !told.receipt.is_empty() {
        parts.push(format!("receipt {}", receipts::short(&told.receipt)));
    }
    if !told.fee.is_empty() {
        parts.push(format!("{} usd", told.fee));
    }
    if told.finish == "length" {
        parts.push("cut at the token limit".into());
    }
    parts.join(" · ")
}

/// Breaks a stream of text between words.
#[derive(Debug)]
struct Wrap {
    width: Option<usize>,
    column: usize,
    space: String,
    word: String,
    word_width: usize,
    since: Instant,
}

/// A word is held back no longer than this.
const HOLD: Duration = Duration::from_millis(300);

impl Wrap {
    fn new(width: Option<usize>) -> Self {
        Self {
            width: width.filter(|w| *w >= 20),
            column: 0,
            space: String::new(),
            word: String::new(),
            word_width: 0,
            since: Instant::now(),
        }
    }

    /// What can be printed now.
    fn push(&mut self, text: &str) -> String {
        let Some(width) = self.width else {
            return text.to_owned();
        };
        let mut out = String::new();
        for c in text.chars() {
            match c {
                '\n' => {
                    self.flush(width, &mut out);
                    self.space.clear();
                    self.column = 0;
                    out.push('\n');
                }
                ' ' | '\t' => {
                    self.flush(width, &mut out);
                    self.space.push(c);
                }
                c => {
                    let columns = c.width().unwrap_or(0);
                    if self.word.is_empty() {
                        self.since = Instant::now();
                    }
                    self.word.push(c);
                    self.word_width += columns;
                    // scripts that are written without spaces break anywhere
                    if columns > 1 || self.word_width >= width {
                        self.flush(width, &mut out);
                    }
                }
            }
        }
        if !self.word.is_empty() && self.since.elapsed() > HOLD {
            self.flush(width, &mut out);
        }
        out
    }

    fn flush(&mut self, width: usize, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let gap: usize = self
            .space
            .chars()
            .map(|c| if c == '\t' { 8 } else { 1 })
            .sum();
        if self.column > 0 && self.column + gap + self.word_width > width {
            out.push('\n');
            self.column = 0;
        } else {
            out.push_str(&self.space);
            self.column += gap;
        }
        out.push_str(&self.word);
        self.column = (self.column + self.word_width) % width.max(1);
        self.space.clear();
        self.word.clear();
        self.word_width = 0;
    }

    /// The rest.
    fn finish(&mut self) -> String {
        let mut out = String::new();
        if let Some(width) = self.width {
            self.flush(width, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(width: usize, parts: &[&str]) -> String {
        let mut wrap = Wrap::new(Some(width));
        let mut out: String = parts.iter().map(|p| wrap.push(p)).collect();
        out.push_str(&wrap.finish());
        out
    }

    #[test]
    fn lines_break_between_words() {
        let text = "The quick brown fox jumps over the lazy dog.";
        let want = "The quick brown fox\njumps over the lazy\ndog.";
        assert_eq!(wrapped(20, &[text]), want);
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(wrapped(20, &letters), want);
    }

    #[test]
    fn nothing_is_lost_but_spaces_at_breaks() {
        for text in [
            "fn main() {\n    println!(\"x\");\n}\n",
            "https://example.org/a/very/long/address/without/any/space/in/it and more",
            "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{4f60}\u{597d}",
            "trailing   ",
        ] {
            let bare = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(bare(&wrapped(20, &[text])), bare(text));
        }
        assert_eq!(wrapped(40, &["a\n    b\n"]), "a\n    b\n");
        let mut plain = Wrap::new(None);
        assert_eq!(plain.push("  as it  is\n"), "  as it  is\n");
    }
}
