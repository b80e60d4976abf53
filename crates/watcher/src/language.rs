//! Audits of language models: a reply of any length is one pass over prompt and answer.

use alloy_primitives::B256;
use assay_engine::{Decoder, FullRun, Generated};
use assay_graph::{Sampling, Statement};
use assay_operator::{Answered, segment_run, tokens_of};
use assay_receipt::{Receipt, grammar_hash, sampling_hash};

use crate::WatcherError;
use crate::audit::{Audit, JobData, is_legal};
use crate::models::Loaded;

/// Most bytes of token masks that are unpacked for one job.
const MAX_MASKS: usize = 1 << 30;

/// The public statement of a job, checked against the receipt.
///
/// # Errors
/// [`WatcherError::Statement`]: the operator serves none or another, or the requester signed one of no meaning. Without
/// it the run can't be made.
pub(crate) fn statement(receipt: &Receipt, job: &JobData) -> Result<Statement, WatcherError> {
    let missing = |reason: &str| WatcherError::Statement {
        claim_id: receipt.claim_id(),
        reason: reason.to_owned(),
    };
    let bytes = job
        .sampling
        .as_ref()
        .filter(|bytes| sampling_hash(bytes) == receipt.sampling_hash)
        .ok_or_else(|| missing("the operator serves no statement that the receipt names"))?;
    let sampling = Sampling::decode(bytes).map_err(|error| missing(&error.to_string()))?;
    if !sampling.is_masked() {
        return Ok(Statement {
            sampling,
            masks: Vec::new(),
        });
    }
    let masks = job
        .masks
        .unpack(MAX_MASKS)
        .filter(|masks| masks.len() == receipt.n_out as usize)
        .ok_or_else(|| missing("the operator does not serve a mask for each token"))?;
    let tree = assay_graph::sampling::mask_tree(masks.iter().map(Vec::as_slice));
    if receipt.ext_hash != B256::from(tree.root()) {
        return Err(missing("the masks served are not those of the receipt"));
    }
    Ok(Statement { sampling, masks })
}

/// The statement with masks of the vocabulary's length, as the engine wants them. By definition tokens beyond a mask are
/// forbidden, and bits beyond the vocabulary mean nothing.
fn fitted(decoder: &Decoder, statement: &Statement) -> Statement {
    let bytes = (decoder.vocabulary() as usize).div_ceil(8);
    let mut fitted = statement.clone();
    for mask in &mut fitted.masks {
        mask.resize(bytes, 0);
    }
    fitted
}

/// Prompt and answer as token ids.
fn tokens(receipt: &Receipt, job: &JobData) -> Result<(Vec<u32>, Vec<u32>), WatcherError> {
    let ids = |bytes: &[u8]| {
        tokens_of(bytes).ok_or_else(|| WatcherError::Replay {
            model_id: receipt.model_id,
            reason: "its ends are no token ids".into(),
        })
    };
    Ok((ids(&job.input)?, ids(&job.output)?))
}

/// Replays an answer in one pass over prompt and answer.
pub(crate) fn generated(
    decoder: &Decoder,
    receipt: &Receipt,
    job: &JobData,
    statement: &Statement,
) -> Result<Generated, WatcherError> {
    let (prompt, answer) = tokens(receipt, job)?;
    let Statement { sampling, masks } = fitted(decoder, statement);
    decoder
        .replay(&prompt, &answer, &sampling, &masks, &job.salt.0)
        .map_err(|error| WatcherError::Replay {
            model_id: receipt.model_id,
            reason: error.to_string(),
        })
}

/// Replays an answer and compares it with the receipt.
pub(crate) fn replay(
    model: &Loaded,
    decoder: &Decoder,
    receipt: &Receipt,
    job: &JobData,
) -> Result<Audit, WatcherError> {
    if !is_legal(model, receipt, job) {
        return Ok(Audit::Differs {
            own: B256::ZERO,
            same_output: false,
        });
    }
    let statement = statement(receipt, job)?;
    let (_, answer) = tokens(receipt, job)?;
    let run = generated(decoder, receipt, job, &statement)?;
    let own = B256::from(run.trace_root);
    let traced = receipt.trace_root == B256::ZERO || receipt.trace_root == own;
    if !traced || run.tokens != answer || goes_on(&statement.sampling, &answer) {
        return Ok(Audit::Differs {
            own,
            same_output: false,
        });
    }
    let other = other_mask(model, job, &statement, &answer);
    Ok(other.map_or(Audit::Agrees, |position| Audit::OtherMasks { position }))
}

/// Whether an answer has more tokens than its statement allows, or goes on after a token that ends it. The arbiter
/// judges the last leaf by the same rule.
pub(crate) fn goes_on(sampling: &Sampling, answer: &[u32]) -> bool {
    let ends = |token: &u32| sampling.stop.binary_search(token).is_ok();
    answer.len() > sampling.max_out as usize
        || answer
            .split_last()
            .is_some_and(|(_, before)| before.iter().any(ends))
}

/// First answered position whose mask is not the one of the grammar, as far as grammar and vocabulary are at hand.
fn other_mask(model: &Loaded, job: &JobData, statement: &Statement, answer: &[u32]) -> Option<u32> {
    let (grammars, grammar) = (model.grammars.as_ref()?, job.grammar.as_ref()?);
    if grammar_hash(grammar).0 != statement.sampling.mask_root {
        return None;
    }
    let Ok(mut source) = grammars.source(grammar) else {
        return Some(0);
    };
    (0u32..)
        .zip(statement.masks.iter().zip(answer))
        .find(|(_, (mask, token))| {
            let same = source.mask().is_ok_and(|own| own == **mask);
            !same || source.accept(**token).is_err()
        })
        .map(|(position, _)| position)
}

/// Outputs of the nodes of one segment of the answered run, by the own model.
pub(crate) fn segment(
    decoder: &Decoder,
    receipt: &Receipt,
    job: &JobData,
    (statement, segment): (&Statement, u32),
) -> Result<FullRun, WatcherError> {
    let (prompt, answer) = tokens(receipt, job)?;
    let run = Answered {
        prompt: &prompt,
        answer: &answer,
        statement: &fitted(decoder, statement),
        salt: &job.salt.0,
    };
    segment_run(decoder.engine(), &run, segment).map_err(|reason| WatcherError::Replay {
        model_id: receipt.model_id,
        reason,
    })
}
