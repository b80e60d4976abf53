//! Why a request or an output does not fit a model.

/// An input or output that does not fit the model. All but [`Manifest`](Self::Manifest) and [`Tokenizer`](Self::Tokenizer) are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No token or more tokens than the model has positions.
    #[error("the text has {tokens} tokens, the model takes 1 to {limit}")]
    TooLong {
        /// Tokens of the text, special tokens included.
        tokens: usize,
        /// The model's limit.
        limit: usize,
    },
    /// More bytes than any text or image that could fit.
    #[error("the {what} has {bytes} bytes, at most {limit} are accepted")]
    TooManyBytes {
        /// Text or image.
        what: &'static str,
        /// Bytes.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    Id {
        /// The id.
        id: u32,
        /// Ids are below this.
        vocabulary: u32,
    },
    /// The tokenizer file or the tokenizer itself failed.
    #[error("tokenizer: {why}")]
    Tokenizer {
        /// Why.
        why: String,
    },
    /// The model takes another kind of input.
    #[error("the request holds {have}, the model takes {want}")]
    Kind {
        /// Sent.
        have: &'static str,
        /// Wanted.
        want: &'static str,
    },
    /// A wrong number of elements.
    #[error("{what}: {have} elements, {want} wanted")]
    Size {
        /// What.
        what: &'static str,
        /// Sent.
        have: usize,
        /// Wanted.
        want: usize,
    },
    /// NaN, infinity, or a fraction where ids are wanted.
    #[error("element {index} is not a number the model takes")]
    NotANumber {
        /// Row-major index.
        index: usize,
    },
    /// Not a readable PNG.
    #[error("PNG: {why}")]
    Png {
        /// Why.
        why: String,
    },
    /// An image of another size, not a whole multiple or part.
    #[error(
        "the image is {have_width} x {have_height}, the model takes {want_width} x {want_height} or a whole multiple"
    )]
    ImageSize {
        /// Columns sent.
        have_width: u32,
        /// Rows sent.
        have_height: u32,
        /// Columns wanted.
        want_width: u32,
        /// Rows wanted.
        want_height: u32,
    },
    /// Manifest and graph disagree.
    #[error("manifest: {why}")]
    Manifest {
        /// Why.
        why: String,
    },
}
