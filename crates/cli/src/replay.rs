//! The model of a receipt, run again for a verification.

use std::{path::Path, sync::Arc};

use alloy_primitives::B256;
use assay_engine::{Decoder, EngineOptions};
use assay_graph::{Sampling, sampling::mask_tree};
use assay_import::Model;
use assay_operator::{Grammars as _, HonestModel, ModelRunner as _, input_tensor, tokens_of};
use assay_receipt::{Bundle, ReplayOutcome, ViewError};

use crate::{grammars::TextGrammars, store::Store};

/// Runs a model again: bundle, salt, input.
pub(crate) type Replay = Box<dyn Fn(&Bundle, B256, &[u8]) -> Result<ReplayOutcome, ViewError>>;

/// The model of a receipt, if it is on this machine (or in `folder`), ready to run again.
///
/// # Errors
/// When `folder` holds no model, or the model can't be prepared.
pub(crate) fn of(
    store: &Store,
    bundle: &Bundle,
    folder: Option<&Path>,
) -> anyhow::Result<Option<Replay>> {
    let model = match folder {
        Some(folder) => Model::load(folder)?,
        None => match store.load(&bundle.receipt.model_id.to_string()) {
            Ok(model) => model,
            Err(_) => return Ok(None),
        },
    };
    with(model).map(Some)
}

/// A model ready to run again.
///
/// # Errors
/// When it can't be prepared.
pub(crate) fn with(model: Model) -> anyhow::Result<Replay> {
    let (graph, options) = (Arc::clone(&model.graph), EngineOptions::default());
    if model.language().is_some() {
        let decoder = Decoder::new(graph, options)?;
        return Ok(Box::new(move |bundle, salt, input| {
            language(&model, &decoder, bundle, salt, input)
        }));
    }
    let runner = HonestModel::new(graph, options)?;
    Ok(Box::new(move |_, salt, input| {
        single(&model, &runner, salt, input)
    }))
}

/// A model that answers in one run.
fn single(
    model: &Model,
    runner: &HonestModel,
    salt: B256,
    input: &[u8],
) -> Result<ReplayOutcome, ViewError> {
    let ty = model.graph.input_type().ok_or("the graph is empty")?;
    let tensor = input_tensor(ty, model.graph.header().max_seq, input)?;
    let run = runner.execute(&tensor, salt)?;
    Ok(ReplayOutcome {
        model_id: runner.model_id(),
        output: run.output,
        trace_root: run.trace_root,
        n_leaves: run.n_leaves,
        mask_root: B256::ZERO,
    })
}

/// A language model: one pass over prompt and claimed answer, in which every token is sampled again.
fn language(
    model: &Model,
    decoder: &Decoder,
    bundle: &Bundle,
    salt: B256,
    input: &[u8],
) -> Result<ReplayOutcome, ViewError> {
    let statement = bundle
        .sampling
        .as_ref()
        .ok_or("the sampling statement is not in the bundle")?;
    let sampling = Sampling::decode(statement)?;
    let output = bundle
        .output
        .as_ref()
        .ok_or("the output is not in the bundle")?;
    let prompt = tokens_of(input).ok_or("the input is no list of tokens")?;
    let answer = tokens_of(output).ok_or("the output is no list of tokens")?;
    let masks = match sampling.is_masked() {
        true => masks(model, bundle, &answer)?,
        false => Vec::new(),
    };
    let run = decoder.replay(&prompt, &answer, &sampling, &masks, &salt.0)?;
    let output = run.tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    let mask_root = match masks.is_empty() {
        true => B256::ZERO,
        false => B256::from(mask_tree(masks.iter().map(Vec::as_slice)).root()),
    };
    Ok(ReplayOutcome {
        model_id: B256::from(model.id()),
        output,
        trace_root: B256::from(run.trace_root),
        n_leaves: run.leaves,
        mask_root,
    })
}

/// The masks that the bundle's grammar gives along the answer.
fn masks(model: &Model, bundle: &Bundle, answer: &[u32]) -> Result<Vec<Vec<u8>>, ViewError> {
    let grammar = bundle
        .grammar
        .as_ref()
        .ok_or("the grammar is not in the bundle")?;
    let language = model.language().ok_or("the model has no vocabulary")?;
    let mut source = TextGrammars::new(language)?.source(grammar)?;
    let mut masks = Vec::with_capacity(answer.len());
    for token in answer {
        masks.push(source.mask()?);
        source.accept(*token)?;
    }
    Ok(masks)
}
