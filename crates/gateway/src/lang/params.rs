//! What the three language endpoints have in common: parameters, the prompt's fit into the context, orders.

use std::sync::Arc;

use assay_graph::Sampling;
use assay_operator::provable;
use assay_receipt::Tier;
use assay_text::Grammar;
use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::Language;
use super::answer::Order;
use super::numbers;
use super::run::Choice;
use super::shape::{Shape, Shaper};
use crate::http::blocking;
use crate::proofs::tier_of;
use crate::server::Shared;
use crate::{Account, HttpError, ModelCodec, ModelKind};

/// Most stop strings (as OpenAI's) and bytes of one.
const MAX_STOPS: usize = 4;
const MAX_STOP: usize = 256;
/// BLAKE3 key-derivation context of grammars.
const GRAMMAR_CONTEXT: &str = "assay grammar v1";
/// Most alternatives of a token.
pub(crate) const MAX_LOGPROBS: i64 = 20;

/// Parameters that mean the same at every endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Statement of the first choice, without its seed, its length and the root of masks.
    pub(crate) sampling: Sampling,
    pub(crate) seed: i128,
    /// Evidence that is wanted.
    pub(crate) tier: Tier,
    /// Choices for each prompt.
    pub(crate) n: u32,
    pub(crate) stops: Vec<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// The language model that a call names.
pub(crate) fn model(
    shared: &Shared,
    body: &Map<String, Value>,
) -> Result<Arc<dyn ModelCodec>, HttpError> {
    let name = match body.get("model") {
        Some(Value::String(name)) => name,
        _ => return Err(HttpError::invalid("model", "`model` must be a string")),
    };
    let model = shared.model(name)?;
    if model.kind() == ModelKind::Language && model.language().is_some() {
        return Ok(model);
    }
    let other = match model.kind() {
        ModelKind::Embedding => "/v1/embeddings",
        _ => "/v1/infer",
    };
    Err(HttpError::invalid(
        "model",
        format!("`{}` is no language model; use {other}", model.name()),
    ))
}

/// The language of a model that [`model`] returned.
pub(crate) fn language(model: &dyn ModelCodec) -> Result<&Language, HttpError> {
    let missing = || HttpError::Internal(format!("`{}` has no language", model.name()));
    model.language().ok_or_else(missing)
}

/// A field that must be true or false; absent is false.
pub(crate) fn flag(body: &Map<String, Value>, param: &'static str) -> Result<bool, HttpError> {
    match body.get(param) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(HttpError::invalid(
            param,
            format!("`{param}` must be true or false"),
        )),
    }
}

/// Whether a field says something.
pub(crate) fn is_set(body: &Map<String, Value>, param: &str) -> bool {
    body.get(param).is_some_and(|value| !value.is_null())
}

fn stops(body: &Map<String, Value>) -> Result<Vec<String>, HttpError> {
    let wrong = || {
        HttpError::invalid(
            "stop",
            format!(
                "`stop` must be a string or up to {MAX_STOPS} strings of 1 to {MAX_STOP} bytes"
            ),
        )
    };
    let items = match body.get("stop") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items.as_slice(),
        Some(item) => std::slice::from_ref(item),
    };
    if items.len() > MAX_STOPS {
        return Err(wrong());
    }
    let one = |item: &Value| match item {
        Value::String(text) if (1..=MAX_STOP).contains(&text.len()) => Ok(text.clone()),
        _ => Err(wrong()),
    };
    items.iter().map(one).collect()
}

impl Common {
    /// Reads them.
    pub(crate) fn read(
        shared: &Shared,
        language: &Language,
        headers: &HeaderMap,
        body: &Map<String, Value>,
    ) -> Result<Self, HttpError> {
        let most = i64::from(shared.config.max_choices);
        let n = numbers::whole(body, "n", (1, most))?.unwrap_or(1);
        let include_usage = match body.get("stream_options") {
            None | Some(Value::Null) => false,
            Some(Value::Object(options)) => flag(options, "include_usage")?,
            Some(_) => {
                return Err(HttpError::invalid(
                    "stream_options",
                    "`stream_options` must be an object",
                ));
            }
        };
        Ok(Self {
            sampling: unseeded(language, body)?,
            seed: numbers::seed(body)?,
            tier: tier_of(headers, Some(body))?,
            n: u32::try_from(n).unwrap_or(1),
            stops: stops(body)?,
            stream: flag(body, "stream")?,
            include_usage,
        })
    }
}

fn unseeded(language: &Language, body: &Map<String, Value>) -> Result<Sampling, HttpError> {
    Ok(Sampling {
        temperature: numbers::temperature(body)?,
        top_k: numbers::top_k(body)?,
        top_p: numbers::top_p(body)?,
        min_p: numbers::min_p(body)?,
        repetition: numbers::repetition(body)?,
        frequency: numbers::penalty(body, "frequency_penalty")?,
        presence: numbers::penalty(body, "presence_penalty")?,
        bias: numbers::biases(body, language.vocabulary)?,
        stop: language.stop.clone(),
        ..Sampling::default()
    })
}

/// The statement that a call with these parameters gets, without its length.
///
/// # Errors
/// [`HttpError::Invalid`] naming the parameter.
pub fn sampling_of(language: &Language, body: &Map<String, Value>) -> Result<Sampling, HttpError> {
    Ok(Sampling {
        seed: numbers::seed_key(numbers::seed(body)?, 0),
        ..unseeded(language, body)?
    })
}

/// Highest number of answered tokens for a prompt: what was asked, or the default, within what the context leaves.
pub(crate) fn room(
    language: &Language,
    prompt: usize,
    asked: Option<u32>,
    default: u32,
    param: &'static str,
) -> Result<u32, HttpError> {
    let limit = language.context as usize;
    if prompt > limit {
        return Err(HttpError::ContextLength {
            message: format!(
                "this model's maximum context length is {limit} tokens, the prompt has {prompt}"
            ),
            param,
        });
    }
    // The last answered token is never fed back: it needs no position.
    let left = u32::try_from(limit + 1 - prompt).unwrap_or(u32::MAX);
    Ok(asked.unwrap_or(default).min(left).max(1))
}

/// `max_tokens` under one of its names.
pub(crate) fn max_tokens(
    body: &Map<String, Value>,
    language: &Language,
    names: &[&'static str],
) -> Result<Option<u32>, HttpError> {
    let mut asked = None;
    for name in names {
        let value = numbers::whole(body, name, (1, i64::from(language.context)))?;
        asked = asked.or(value.and_then(|value| u32::try_from(value).ok()));
    }
    Ok(asked)
}

/// What every choice of a call shares.
pub(crate) struct Call {
    pub(crate) account: Account,
    pub(crate) model: Arc<dyn ModelCodec>,
    pub(crate) common: Common,
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The parameter that the prompts come from.
    pub(crate) prompt_param: &'static str,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) default_max_tokens: u32,
    pub(crate) logprobs: Option<u8>,
    pub(crate) grammar: Option<Grammar>,
    pub(crate) shape: Shape,
}

impl Call {
    /// Tokens of all prompts.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.prompts.iter().map(|prompt| prompt.len() as u64).sum()
    }

    /// Shapers of all choices, made where work may take its time: grammars do.
    async fn shapers(&self, total: u32) -> Result<Vec<Shaper>, HttpError> {
        let (model, shape) = (Arc::clone(&self.model), self.shape.clone());
        let (stops, logprobs) = (self.common.stops.clone(), self.logprobs);
        let grammar = self.grammar.clone();
        blocking(move || {
            let language = language(model.as_ref())?;
            let one = |_| Shaper::new(language, &shape, &stops, grammar.as_ref(), logprobs);
            (0..total).map(one).collect()
        })
        .await
    }

    /// Orders and shapers for `n` choices of each prompt; choice `i` of prompt `p` has number `p·n + i`.
    pub(crate) async fn choices(&self, shared: &Arc<Shared>) -> Result<Vec<Choice>, HttpError> {
        let language = language(self.model.as_ref())?;
        let total = self
            .common
            .n
            .saturating_mul(u32::try_from(self.prompts.len()).unwrap_or(u32::MAX));
        if total > shared.config.max_choices {
            return Err(HttpError::invalid(
                "n",
                format!(
                    "{total} answers in one call, at most {}",
                    shared.config.max_choices
                ),
            ));
        }
        let fit = |prompt: &Vec<u32>| {
            let (asked, default) = (self.max_tokens, self.default_max_tokens);
            room(language, prompt.len(), asked, default, self.prompt_param)
        };
        let rooms = self
            .prompts
            .iter()
            .map(fit)
            .collect::<Result<Vec<u32>, _>>()?;
        let deadline = shared.deadline();
        let grammar = self.grammar.as_ref().map(Grammar::to_bytes);
        let mask_root = grammar
            .as_ref()
            .map_or([0; 32], |bytes| blake3::derive_key(GRAMMAR_CONTEXT, bytes));
        let mut shapers = self.shapers(total).await?;
        let worker = Arc::clone(shared);
        let (account, model) = (self.account.clone(), Arc::clone(&self.model));
        let tier = self.common.tier;
        if tier == Tier::Zk {
            let sampling = Sampling {
                mask_root,
                ..self.common.sampling.clone()
            };
            provable(&sampling).map_err(HttpError::not_provable)?;
        }
        let (want, (fee, operators)) = blocking(move || {
            let want = worker.wanted(model.as_ref(), tier)?;
            Ok((want, worker.offers(&account, model.as_ref(), total)?))
        })
        .await?;
        let mut choices = Vec::new();
        let mut number = 0u32;
        for (prompt, max_out) in self.prompts.iter().zip(rooms) {
            let tokens: Arc<[u32]> = prompt.as_slice().into();
            for _ in 0..self.common.n {
                let sampling = Sampling {
                    max_out,
                    seed: numbers::seed_key(self.common.seed, number),
                    mask_root,
                    ..self.common.sampling.clone()
                };
                sampling
                    .check()
                    .map_err(|error| HttpError::Internal(error.to_string()))?;
                let mut operators = operators.clone();
                if !operators.is_empty() {
                    let turn = number as usize % operators.len();
                    operators.rotate_left(turn);
                }
                let Some(shaper) = shapers.pop() else {
                    return Err(HttpError::Internal("a choice without its shape".into()));
                };
                choices.push(Choice {
                    order: Order {
                        account: self.account.clone(),
                        model: Arc::clone(&self.model),
                        tokens: Arc::clone(&tokens),
                        sampling,
                        grammar: grammar.as_deref().map(Arc::from),
                        logprobs: self.logprobs,
                        want,
                        fee,
                        operators,
                        deadline,
                    },
                    shaper,
                });
                number += 1;
            }
        }
        Ok(choices)
    }
}
