//! What can go wrong with text.

/// Errors of tokenizers, templates, grammars and parsers; all are faults of the model's files or of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A count or size above what is accepted; checked before the work is done.
    #[error("{what} is {have}, at most {limit} accepted")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// Found.
        have: u64,
        /// Accepted.
        limit: u64,
    },
    /// tokenizer.json is not what it claims to be.
    #[error("tokenizer: {why}")]
    Tokenizer {
        /// What is wrong, with values.
        why: String,
    },
    /// A kind of tokenizer that is not byte-level BPE.
    #[error("tokenizer: {part} `{have}` is not supported, accepted: {accepted}")]
    Unsupported {
        /// Which part of it.
        part: &'static str,
        /// As in the file.
        have: String,
        /// What would be.
        accepted: &'static str,
    },
    /// Two ids have one text, or one id two.
    #[error("tokenizer: token `{token}` has ids {first} and {second}")]
    DuplicateToken {
        /// Text as in the file.
        token: String,
        /// Earlier id.
        first: u32,
        /// Later id.
        second: u32,
    },
    /// A merge names a token that the vocabulary lacks.
    #[error(
        "tokenizer: merge {index} needs token `{token}`, which the vocabulary of {tokens} tokens lacks"
    )]
    Merge {
        /// Rank of the merge.
        index: usize,
        /// Missing token.
        token: String,
        /// Tokens there are.
        tokens: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
    TokenId {
        /// The id.
        id: u32,
        /// Tokens there are.
        vocabulary: u32,
    },
    /// Plain text gave a control token: a tokenizer that can't keep messages from forging turns.
    #[error("plain text encodes to control token {id} `{token}`: this tokenizer is not safe")]
    ControlInText {
        /// The id.
        id: u32,
        /// Its text.
        token: String,
    },
    /// The chat template can't be compiled or failed while rendering.
    #[error("chat template, line {line}: {why}")]
    Template {
        /// 1-based; 0 when unknown.
        line: usize,
        /// What the engine said.
        why: String,
    },
    /// The template refused the conversation by `raise_exception`.
    #[error("the model's chat template refuses this conversation: {why}")]
    Conversation {
        /// The template's message.
        why: String,
    },
    /// A message that no template can take.
    #[error("message {index}: {why}")]
    Message {
        /// Position in the list.
        index: usize,
        /// What is wrong, with values.
        why: String,
    },
    /// A schema or grammar that is malformed, or uses what is not supported.
    #[error("grammar: {why}")]
    Grammar {
        /// What is wrong.
        why: String,
    },
    /// A schema or grammar that no token sequence satisfies.
    #[error("no answer can satisfy the grammar: {why}")]
    Unsatisfiable {
        /// Where it ends.
        why: String,
    },
    /// A token that the grammar forbids at this position.
    #[error("token {id} at position {position} is forbidden by the grammar: {why}")]
    Forbidden {
        /// The id.
        id: u32,
        /// Tokens accepted before it.
        position: usize,
        /// What the grammar said.
        why: String,
    },
}

impl TextError {
    /// `Ok` when `have <= limit`.
    pub(crate) fn limit(what: &'static str, have: usize, limit: usize) -> Result<(), Self> {
        if have <= limit {
            return Ok(());
        }
        Err(Self::Limit {
            what,
            have: have as u64,
            limit: limit as u64,
        })
    }

    pub(crate) fn tokenizer(why: impl std::fmt::Display) -> Self {
        Self::Tokenizer {
            why: shorten(&why.to_string()),
        }
    }

    pub(crate) fn grammar(why: impl std::fmt::Display) -> Self {
        Self::Grammar {
            why: shorten(&why.to_string()),
        }
    }
}

/// Error texts of libraries may quote the whole input; 400 characters of them are enough.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 400;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
