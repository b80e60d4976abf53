//! Between what people send and what graphs take: text, images and JSON on one side, integer tensors on the other.

mod text;

pub use text::TextCodec;

/// An input or output that does not fit the model. All are the sender's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// More tokens than the model has positions.
    #[error("the text has {tokens} tokens, the model takes at most {limit}")]
    TooLong {
        /// Tokens of the text, special tokens included.
        tokens: usize,
        /// The model's limit.
        limit: usize,
    },
    /// More bytes than any text that could fit.
    #[error("the text has {bytes} bytes, at most {limit} are accepted")]
    TooManyBytes {
        /// Bytes of the text.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// The tokenizer file or the tokenizer itself failed.
    #[error("tokenizer: {why}")]
    Tokenizer {
        /// Why.
        why: String,
    },
}
