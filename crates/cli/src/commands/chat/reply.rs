//! One answer on its way to the reader: words as they come, Ctrl-C, the line of figures below.

use std::{io::Write, time::Duration};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    receipts,
    shell::Shell,
    talk::{Talk, Told},
    units::group,
    wrap::Wrap,
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
