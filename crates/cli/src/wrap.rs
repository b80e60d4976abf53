//! Text on its way to a terminal, broken between words.

use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthChar as _;

/// Breaks a stream of text between words.
#[derive(Debug)]
pub(crate) struct Wrap {
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
    /// Lines of `width` columns; `None`, or too few columns, leaves the text as it is.
    pub(crate) fn new(width: Option<usize>) -> Self {
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
    pub(crate) fn push(&mut self, text: &str) -> String {
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
        // a word longer than a line is broken by the terminal
        self.column += self.word_width;
        if self.word_width > width {
            self.column %= width;
        }
        self.space.clear();
        self.word.clear();
        self.word_width = 0;
    }

    /// The rest.
    pub(crate) fn finish(&mut self) -> String {
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
    fn a_line_may_be_full_to_the_last_column() {
        let text = "12345678 12345678 12 12345678 12345678 12 next";
        assert_eq!(
            wrapped(20, &[text]),
            "12345678 12345678 12\n12345678 12345678 12\nnext"
        );
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
