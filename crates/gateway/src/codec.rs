//! Between what clients send and the canonical bytes that a model takes. Implemented by whoever loads models.

use alloy_primitives::B256;
use thiserror::Error;

use crate::Language;

/// What a model is good for; decides which endpoints take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Text to a vector: `/v1/embeddings`.
    Embedding,
    /// Image or tensor to scores of classes: `/v1/infer`.
    Classifier,
    /// Tensor to tensor: `/v1/infer`.
    Tensor,
    /// Text that goes on: `/v1/chat/completions`, `/v1/completions`, `/v1/responses`.
    Language,
}

impl ModelKind {
    /// Name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Classifier => "classifier",
            Self::Tensor => "tensor",
            Self::Language => "language",
        }
    }
}

/// An input in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Canonical input bytes.
    pub bytes: Vec<u8>,
    /// Tokens to be shown as usage; 1 for models without tokens.
    pub tokens: u32,
}

/// A class and its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Name of the class.
    pub label: String,
    /// Score as a real number, in the model's scale.
    pub score: f32,
}

/// An answer for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A vector of Euclidean length 1.
    Embedding(Vec<f32>),
    /// Classes, best first.
    Classes(Vec<Prediction>),
    /// Numbers, row-major.
    Tensor {
        /// Dimensions.
        dims: Vec<usize>,
        /// Values.
        values: Vec<f32>,
    },
}

/// Why an input is not one of the model's. Caused by the client.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Longer than the model's context; never truncated.
    #[error("this model's maximum context length is {limit} tokens, the input has {have}")]
    TooLong {
        /// Tokens of the input.
        have: usize,
        /// Most tokens.
        limit: usize,
    },
    /// The model takes no such input.
    #[error("this model takes no {0}")]
    Unsupported(&'static str),
    /// Anything else, in words.
    #[error("{0}")]
    Bad(String),
}

/// One model as the gateway offers it. Called from several threads; must not block for long.
pub trait ModelCodec: Send + Sync {
    /// Identity of the integer graph.
    fn model_id(&self) -> B256;

    /// Name that clients use.
    fn name(&self) -> &str;

    /// What the model is good for.
    fn kind(&self) -> ModelKind;

    /// Version of the operator semantics.
    fn semantics(&self) -> u32 {
        assay_graph::SEMANTICS
    }

    /// Most tokens of one input; 1 for models without tokens.
    fn max_tokens(&self) -> u32;

    /// Length of the vector, for embeddings.
    fn dimensions(&self) -> Option<usize> {
        None
    }

    /// Tokenizer, template and limits, for language models.
    fn language(&self) -> Option<&Language> {
        None
    }

    /// Text to canonical input.
    ///
    /// # Errors
    /// [`CodecError`].
    fn encode_text(&self, _text: &str) -> Result<Encoded, CodecError> {
        Err(CodecError::Unsupported("text"))
    }

    /// Token ids to canonical input.
    ///
    /// # Errors
    /// [`CodecError`].
    fn encode_tokens(&self, _ids: &[u32]) -> Result<Encoded, CodecError> {
        Err(CodecError::Unsupported("token ids"))
    }

    /// PNG to canonical input.
    ///
    /// # Errors
    /// [`CodecError`].
    fn encode_image(&self, _png: &[u8]) -> Result<Encoded, CodecError> {
        Err(CodecError::Unsupported("images"))
    }

    /// Numbers, row-major, to canonical input.
    ///
    /// # Errors
    /// [`CodecError`].
    fn encode_values(&self, _values: &[f64]) -> Result<Encoded, CodecError> {
        Err(CodecError::Unsupported("tensors"))
    }

    /// Canonical output as an answer.
    ///
    /// # Errors
    /// [`CodecError::Bad`] when the operator's output is not one of the model's.
    fn decode(&self, output: &[u8]) -> Result<Decoded, CodecError>;
}
