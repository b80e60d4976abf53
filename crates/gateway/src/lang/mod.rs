//! Language models: OpenAI's chat completions, completions and responses over streaming answers of operators.
//!
//! A call becomes choices (`params`), each choice an order for one answer (`answer`) whose tokens come from an operator
//! (`upstream`) and are shaped into text, tool calls and probabilities (`shape`). Choices run side by side (`run`) and
//! are collected or streamed (`sse`) by the endpoint: `chat`, `completions`, `responses`.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod completions;
mod constraint;
mod items;
mod messages;
mod numbers;
mod output;
mod params;
pub(crate) mod responses;
mod run;
mod shape;
mod sse;
mod tools;
pub(crate) mod upstream;

pub use params::sampling_of;

use std::sync::{Arc, OnceLock};

use assay_graph::sampling::MAX_STOPS;
use assay_text::{
    ChatTemplate, Constrainer, Constraint, Grammar, TextError, Tokenizer, ToolFormat,
};

use crate::{CodecError, HttpError};

/// Everything around the graph of a language model that the gateway needs.
#[derive(Clone, Debug)]
pub struct Language {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    stop: Vec<u32>,
    context: u32,
    vocabulary: u32,
    tools: ToolFormat,
    constrainer: Arc<OnceLock<Result<Constrainer, TextError>>>,
}

impl Language {
    /// `template` is how conversations are written (models without one answer completions only), `stop` the tokens that
    /// end an answer, `context` the most positions (tokens of prompt and answer, less one), `vocabulary` the tokens that
    /// the graph tells apart (at least the tokenizer's).
    ///
    /// # Errors
    /// [`CodecError::Bad`] for more than 64 stop tokens or one outside the vocabulary.
    pub fn new(
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        mut stop: Vec<u32>,
        context: u32,
        vocabulary: u32,
    ) -> Result<Self, CodecError> {
        stop.sort_unstable();
        stop.dedup();
        if stop.len() > MAX_STOPS {
            return Err(CodecError::Bad(format!(
                "{} stop tokens, at most {MAX_STOPS}",
                stop.len()
            )));
        }
        let vocabulary = vocabulary.max(tokenizer.vocabulary());
        if let Some(id) = stop.last().filter(|id| **id >= vocabulary) {
            return Err(CodecError::Bad(format!(
                "stop token {id} is outside the vocabulary of {vocabulary}"
            )));
        }
        let tools = template
            .as_ref()
            .map_or_else(ToolFormat::default, |template| {
                ToolFormat::of_template(template.source())
            });
        Ok(Self {
            tokenizer,
            template,
            stop,
            context,
            vocabulary,
            tools,
            constrainer: Arc::new(OnceLock::new()),
        })
    }

    /// Text to token ids and back.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens that end an answer, ascending.
    pub fn stop(&self) -> &[u32] {
        &self.stop
    }

    /// Most positions: tokens of prompt and answer, less one.
    pub const fn context(&self) -> u32 {
        self.context
    }

    /// Ids of a raw prompt, with the ids that start a document.
    pub(crate) fn encode_text(&self, text: &str) -> Result<Vec<u32>, HttpError> {
        let failed = |error: TextError| HttpError::invalid("prompt", error.to_string());
        let ids = self.tokenizer.encode(text).map_err(failed)?;
        Ok(self.tokenizer.prefix().iter().copied().chain(ids).collect())
    }

    /// A constraint at the start of an answer. Takes about a second the first time.
    pub(crate) fn constrain(&self, grammar: &Grammar) -> Result<Constraint, HttpError> {
        let make = || Constrainer::new(&self.tokenizer, self.vocabulary, &self.stop);
        let failed = |error: &TextError| HttpError::invalid("response_format", error.to_string());
        let constrainer = self.constrainer.get_or_init(make);
        let constrainer = constrainer.as_ref().map_err(failed)?;
        constrainer
            .constrain(grammar)
            .map_err(|error| failed(&error))
    }
}
