//! Token ids to text, piece by piece.

use crate::Tokenizer;

/// Turns a stream of token ids into text without ever giving out half a character.
///
/// The pieces of [`push`](Self::push) and the rest from [`finish`](Self::finish), joined, are `String::from_utf8_lossy` of all bytes:
/// each maximal invalid part reads U+FFFD. Control tokens read as nothing; ids without a text too.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// Start of a character, at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// An empty stream.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            pending: Vec::new(),
        }
    }

    /// Text that this token completes; empty while a character is open.
    pub fn push(&mut self, id: u32) -> String {
        if !self.tokenizer.is_control(id) {
            self.pending
                .extend_from_slice(self.tokenizer.token_bytes(id));
        }
        let mut text = String::new();
        let mut rest: &[u8] = &self.pending;
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(bad..).unwrap_or_default();
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// Bytes held back because they start a character that is not complete, 0..=3.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The rest: U+FFFD if the stream ended inside a character, else nothing.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
