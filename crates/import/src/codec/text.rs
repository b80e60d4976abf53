//! Text to token ids.

use tokenizers::Tokenizer;

use super::CodecError;

/// Largest tokenizer.json accepted, bytes.
pub const MAX_TOKENIZER_BYTES: usize = 32 << 20;
/// Longest text tokenised, bytes; longer ones can't fit any context here and only cost time.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// A tokenizer with its limit.
#[derive(Clone, Debug)]
pub struct TextCodec {
    tokenizer: Tokenizer,
    max_tokens: u32,
}

impl TextCodec {
    /// Reads tokenizer.json; its own truncation and padding are switched off.
    ///
    /// # Errors
    /// [`CodecError::Tokenizer`] when it can't be read.
    pub fn new(tokenizer_json: &[u8], max_tokens: u32) -> Result<Self, CodecError> {
        if tokenizer_json.len() > MAX_TOKENIZER_BYTES {
            return Err(CodecError::Tokenizer {
                why: format!(
                    "{} bytes, at most {MAX_TOKENIZER_BYTES} accepted",
                    tokenizer_json.len()
                ),
            });
        }
        let bad = |e: tokenizers::Error| CodecError::Tokenizer { why: e.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(bad)?;
        tokenizer.with_truncation(None).map_err(bad)?;
        tokenizer.with_padding(None);
        Ok(Self {
            tokenizer,
            max_tokens,
        })
    }

    /// Token ids with the model's special tokens ([CLS] … [SEP]).
    ///
    /// # Errors
    /// [`CodecError::TooLong`] with both numbers; never truncates.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, CodecError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(CodecError::TooManyBytes {
                what: "text",
                bytes: text.len(),
                limit: MAX_TEXT_BYTES,
            });
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|e| CodecError::Tokenizer { why: e.to_string() })?;
        let ids = encoding.get_ids().to_vec();
        if ids.len() > self.max_tokens as usize {
            return Err(CodecError::TooLong {
                tokens: ids.len(),
                limit: self.max_tokens as usize,
            });
        }
        Ok(ids)
    }

    /// Largest number of tokens of one text, special tokens included.
    pub const fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// Number of ids, special and added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}
