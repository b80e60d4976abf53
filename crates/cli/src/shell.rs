//! What goes where: the result to stdout, the talk to stderr.

use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::exit::Stop;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();
const HEAD: Style = AnsiColor::Cyan.on_default().bold();

/// One per process: knows whether people or machines read.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) json: bool,
    quiet: bool,
    start: Instant,
}

impl Shell {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self {
            json,
            quiet,
            start: Instant::now(),
        }
    }

    /// The result as text, or as one JSON document with `--json`.
    pub(crate) fn result(&self, text: impl AsRef<str>, json: &Value) {
        let mut out = anstream::stdout().lock();
        // a closed pipe is the reader's choice, not an error of ours
        let _ = if self.json {
            writeln!(out, "{json}")
        } else {
            writeln!(out, "{}", text.as_ref())
        };
        let _ = out.flush();
    }

    /// Something a person may want to know meanwhile.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// As [`Shell::note`], in the background of attention.
    pub(crate) fn dim(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let bare = text.trim_end_matches('\n');
        let rest = text.get(bare.len()..).unwrap_or_default();
        self.note(format!("{DIM}{bare}{DIM:#}{rest}"));
    }

    /// A numbered step of a longer story, with the seconds since the process began.
    pub(crate) fn step(&self, number: usize, title: &str) {
        self.talk(&format!(
            "\n{HEAD}{number:>2}  {title}{HEAD:#}  {DIM}{:.1} s{DIM:#}",
            self.seconds()
        ));
    }

    /// A line of the story.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        self.talk(&format!("    {}", text.as_ref()));
    }

    /// Words of the story as they come, without an end of line.
    pub(crate) fn words(&self, text: &str) {
        if !self.json {
            let mut out = anstream::stdout().lock();
            let _ = write!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// A quieter line: the why of what was just shown.
    pub(crate) fn why(&self, text: impl AsRef<str>) {
        self.talk(&format!("    {DIM}{}{DIM:#}", text.as_ref()));
    }

    /// A statement that holds or does not.
    pub(crate) fn check(&self, holds: bool, text: impl AsRef<str>) {
        let (style, mark) = if holds { (GOOD, "ok") } else { (BAD, "NO") };
        self.talk(&format!("    {style}{mark:>2}{style:#}  {}", text.as_ref()));
    }

    /// Talk of `demo`, which is its result: stdout for people, stderr when stdout carries JSON.
    fn talk(&self, text: &str) {
        if self.json {
            if !self.quiet {
                let _ = writeln!(anstream::stderr().lock(), "{text}");
            }
        } else {
            let _ = writeln!(anstream::stdout().lock(), "{text}");
        }
    }

    /// A sign of life while nothing can be shown yet, on stderr when that is a terminal.
    pub(crate) fn spinner(&self, words: &str) -> ProgressBar {
        if self.json || !self.shows_progress() {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner().with_message(words.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.dim} {msg:.dim}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(std::time::Duration::from_millis(100));
        spinner
    }

    fn shows_progress(&self) -> bool {
        !self.quiet
            && std::io::stderr().is_terminal()
            && std::env::var_os("ASSAY_NO_PROGRESS").is_none()
    }

    /// A bar for `bytes`, drawn on stderr when that is a terminal; otherwise hidden.
    pub(crate) fn bytes_bar(&self, name: &str, bytes: u64) -> ProgressBar {
        if !self.shows_progress() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(bytes).with_message(name.to_owned());
        let template = "{msg:24!} [{bar:30}] {percent:>3} %  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }

    /// A bar of `steps` with a word for the one under way, drawn on stderr when that is a terminal.
    pub(crate) fn steps_bar(&self, steps: u64) -> ProgressBar {
        if self.json || !self.shows_progress() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(steps);
        if let Ok(style) =
            ProgressStyle::with_template("{msg:24!} [{bar:30}] {pos}/{len}  {elapsed}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        bar
    }

    /// An error, in up to three parts.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let stop = error.downcast_ref::<Stop>();
        let hint = stop.and_then(|s| s.hint.clone());
        let mut err = anstream::stderr().lock();
        let _ = if self.json {
            let document =
                serde_json::json!({ "error": { "message": format!("{error:#}"), "hint": hint } });
            writeln!(err, "{document}")
        } else {
            let hint = hint.map(|h| format!("\n{HEAD}hint{HEAD:#}: {h}"));
            writeln!(
                err,
                "{BAD}error{BAD:#}: {error:#}{}",
                hint.unwrap_or_default()
            )
        };
    }

    /// Seconds since the process began.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
