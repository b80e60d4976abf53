//! Between what people send and what graphs take: text, images and JSON on one side, integer tensors on the other.

mod image;
mod model;
mod text;

pub use image::samples;
pub use model::{Answer, Ask, Codec};
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
    /// Not an image that the model takes.
    #[error("image: {why}")]
    Image {
        /// Why.
        why: String,
    },
    /// Another number of values than the model's input or output has.
    #[error("{have} values, the model's {end} has {want}")]
    Count {
        /// `input` or `output`.
        end: &'static str,
        /// Expected, or a multiple of it where positions vary.
        want: usize,
        /// Found.
        have: usize,
    },
    /// A value that is not a finite number, or a token id outside the vocabulary.
    #[error("value {index} is {value}, outside {lo} to {hi}")]
    Value {
        /// Index.
        index: usize,
        /// The value.
        value: f64,
        /// Smallest accepted.
        lo: f64,
        /// Largest accepted.
        hi: f64,
    },
    /// The model takes something else.
    #[error("the model takes {want}, not {have}")]
    Kind {
        /// What it takes.
        want: &'static str,
        /// What was sent.
        have: &'static str,
    },
}
