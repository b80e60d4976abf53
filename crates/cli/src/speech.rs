//! Answers of language models on this machine, as they are proven: prompt, statement, tokens.

use assay_engine::{Decoder, EngineOptions};
use assay_gateway::{Language, sampling_of};
use assay_graph::{Data, Sampling, Tensor};
use assay_import::Model;
use assay_operator::provable;
use assay_proof::Input as Run;
use assay_text::{Message, RenderOptions, Role};
use serde_json::{Map, Value};

use crate::{
    args::SpeechArgs,
    exit::{Exit, Stop},
};

/// Longest answer where none is asked for, tokens.
const MAX_TOKENS: u32 = 16;
/// Positions of a pass.
const CHUNK: usize = 256;

fn bad(what: impl std::fmt::Display) -> Stop {
    Stop::new(Exit::Failed, what)
}

/// A prompt as token ids: written into the model's chat template, or `raw`.
///
/// # Errors
/// When the text has no tokens.
pub(crate) fn prompt(model: &Model, text: &str, raw: bool) -> anyhow::Result<Vec<u32>> {
    let language = model
        .language()
        .ok_or_else(|| bad("the model has no tokenizer"))?;
    let ids = match (&language.template, raw) {
        (Some(template), false) => {
            let messages = [Message::new(Role::User, text)];
            let segments = template.render(&messages, &[], &RenderOptions::default());
            language
                .tokenizer
                .encode_prompt(&segments.map_err(bad)?)
                .map_err(bad)?
        }
        _ => language.tokenizer.encode(text).map_err(bad)?,
    };
    if ids.is_empty() {
        return Err(bad("the prompt has no token").into());
    }
    Ok(ids)
}

/// The sampling statement that was asked for, if answers under it have proofs.
///
/// # Errors
/// A number outside its range; sampling that can't be proven.
pub(crate) fn statement(
    name: &str,
    language: &Language,
    args: &SpeechArgs,
) -> anyhow::Result<Sampling> {
    let mut body = Map::new();
    let fields: [(&str, Option<Value>); 6] = [
        ("temperature", Some(args.temperature.unwrap_or(0.0).into())),
        ("top_p", args.top_p.map(Value::from)),
        ("top_k", args.top_k.map(Value::from)),
        ("min_p", args.min_p.map(Value::from)),
        ("repetition_penalty", args.repeat_penalty.map(Value::from)),
        ("seed", Some(args.seed.unwrap_or(0).into())),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            body.insert(field.into(), value);
        }
    }
    let sampling = Sampling {
        max_out: args.max_tokens.unwrap_or(MAX_TOKENS).max(1),
        ..sampling_of(language, &body).map_err(bad)?
    };
    provable(&sampling).map_err(|reason| {
        bad(format!("this answer of `{name}` is not provable: {reason}"))
            .hint("`assay run` gives sampled answers with receipts of the optimistic tier")
    })?;
    Ok(sampling)
}

/// Has the model answer prompts, and says what is to be proven of each.
///
/// # Errors
/// Those of the engine: a prompt that is too long, a token that the model does not have.
pub(crate) fn answers(
    model: &Model,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
) -> anyhow::Result<Vec<Run>> {
    let decoder = Decoder::new(model.graph.clone(), EngineOptions::default())?;
    let mut runs = Vec::new();
    for prompt in prompts {
        let mut sequence = decoder.start(prompt, sampling, &[0; 32]).map_err(bad)?;
        while !sequence.is_over() {
            decoder.step(&mut [&mut sequence], CHUNK).map_err(bad)?;
            if sequence.ready() {
                sequence.sample(None).map_err(bad)?;
            }
        }
        let answer = sequence.answer();
        let fed = answer.len().saturating_sub(1);
        let tokens = prompt.iter().chain(answer.iter().take(fed));
        let tokens: Vec<i32> = tokens.map(|t| t.cast_signed()).collect();
        runs.push(Run {
            out: answer.len() as u32,
            tensor: Tensor {
                dims: vec![tokens.len()],
                data: Data::I32(tokens),
            },
            sampling: Some(sampling.clone()),
        });
    }
    Ok(runs)
}

/// Prompt and answer of a proven run, as token ids; `None` for what is no such run.
pub(crate) fn tokens(run: &assay_proof::Run) -> Option<(Vec<u32>, Vec<u32>)> {
    let read = assay_operator::tokens_of(&run.input)?;
    let answer = assay_operator::tokens_of(&run.output)?;
    let asked = read.len().checked_sub(answer.len().checked_sub(1)?)?;
    Some((read.get(..asked)?.to_vec(), answer))
}
